/* SPDX-License-Identifier: Apache-2.0 */
#include "model/arch.h"

static const ap_arch *const architectures[] = {&ap_arch_llama};

const ap_arch *ap_arch_find(ap_str name)
{
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++)
        if (ap_str_is(name, architectures[i]->name))
            return architectures[i];
    return NULL;
}

const ap_arch *ap_arch_find_class(ap_str name)
{
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++)
        for (const char *const *c = architectures[i]->hf.classes; *c; c++)
            if (ap_str_is(name, *c))
                return architectures[i];
    return NULL;
}

const char *ap_arch_class_names(void) { return "LlamaForCausalLM, MistralForCausalLM"; }

const char *ap_arch_names(void) { return "llama"; }

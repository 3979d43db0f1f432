/* SPDX-License-Identifier: Apache-2.0 */
#include "model/arch.h"

static const ap_arch *const architectures[] = {
    &ap_arch_bert,
    &ap_arch_roberta,
    &ap_arch_xlm_roberta,
    &ap_arch_modern_bert,
    &ap_arch_bloom,
    &ap_arch_falcon,
    &ap_arch_gemma,
    &ap_arch_gemma2,
    &ap_arch_gemma3,
    &ap_arch_gpt2,
    &ap_arch_gpt_oss,
    &ap_arch_gptneox,
    &ap_arch_llama,
    &ap_arch_olmo,
    &ap_arch_olmo2,
    &ap_arch_phi3,
    &ap_arch_qwen2,
    &ap_arch_qwen3,
    &ap_arch_qwen3moe,
    &ap_arch_smollm3,
};

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

const ap_arch *ap_arch_find_folder(const ap_arch *arch, ap_str vocab_model)
{
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++)
        if (architectures[i]->hf.vocab_model && strcmp(architectures[i]->name, arch->name) == 0 &&
            ap_str_is(vocab_model, architectures[i]->hf.vocab_model))
            return architectures[i];
    return arch;
}

const char *ap_arch_class_names(void)
{
    return "LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, SmolLM3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
           "Qwen3MoeForCausalLM, GemmaForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM, Phi3ForCausalLM, OlmoForCausalLM, "
           "Olmo2ForCausalLM, Olmo3ForCausalLM, GptOssForCausalLM, GPT2LMHeadModel, GPTNeoXForCausalLM, BloomForCausalLM, "
           "FalconForCausalLM, RWForCausalLM; and the encoders BERT, RoBERTa, XLMRoberta and ModernBert as Model, ForMaskedLM and "
           "ForSequenceClassification";
}

const char *ap_arch_names(void)
{
    return "bert, modern-bert, bloom, falcon, gemma, gemma2, gemma3, gpt2, gpt-oss, gptneox, llama, olmo, olmo2, phi3, qwen2, qwen3, qwen3moe, "
           "smollm3";
}

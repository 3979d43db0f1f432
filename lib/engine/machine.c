/* machine.c - which levels this machine has; what it can do at best.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "engine/engine.h"

void ap_release(void *pointer) { ap_free(pointer); }

const char *ap_isa_available(unsigned index)
{
    for (int isa = AP_ISA_COUNT - 1; isa >= 0; isa--) {
        ap_kernels kernels;
        if (ap_kernels_get((ap_isa)isa, &kernels, NULL) == AP_OK && index-- == 0)
            return ap_isa_name((ap_isa)isa);
    }
    return NULL;
}

/* machine.c - which levels this machine has; what it can do at best.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
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

const char *ap_kv_type_name(unsigned type)
{
    static const char *const names[AP_KV_TYPE_COUNT] = {[AP_KV_F16] = "f16", [AP_KV_F32] = "f32", [AP_KV_Q8] = "q8"};
    return type < AP_KV_TYPE_COUNT ? names[type] : NULL;
}

ap_status ap_isa_int8_ops(const char *isa, unsigned threads, double *ops_per_s, ap_error *err)
{
    ap_isa level = ap_isa_detect();
    ap_kernels kernels;
    ap_pool *pool;
    *ops_per_s = 0;
    if (isa)
        AP_TRY(ap_isa_parse(isa, &level, err));
    AP_TRY(ap_kernels_get(level, &kernels, err));
    AP_TRY(ap_pool_create(&pool, threads, err));
    *ops_per_s = ap_ceiling_measure(&kernels, pool);
    ap_pool_destroy(&pool);
    return AP_OK;
}

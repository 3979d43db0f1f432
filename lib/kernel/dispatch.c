/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/level.h"

/* A level stands on its parent and overwrites what it does better. */
typedef struct level {
    bool is_built;
    ap_isa parent; /* itself for plain */
    ap_kernels_install_fn *install[8];
} level;

static const level levels[AP_ISA_COUNT] = {
    [AP_ISA_PLAIN] = {true, AP_ISA_PLAIN,
                      {ap_matmul_install_plain, ap_vec_install_plain, ap_attention_install_f16_plain,
                       ap_attention_install_f32_plain, ap_attention_install_q8_plain, ap_ceiling_install_plain}},
#if AP_HAVE_X86
    [AP_ISA_AVX2] = {true, AP_ISA_PLAIN,
                     {ap_matmul_install_avx2, ap_quantize_install_avx2, ap_float_install_avx2, ap_vec_install_avx2,
                      ap_attention_install_f16_avx2, ap_attention_install_f32_avx2, ap_attention_install_q8_avx2, ap_ceiling_install_avx2}},
    [AP_ISA_AVXVNNI] = {true, AP_ISA_AVX2, {ap_matmul_install_avxvnni, ap_ceiling_install_avxvnni}},
    [AP_ISA_AVX512] = {true, AP_ISA_AVX2,
                       {ap_matmul_install_avx512, ap_float_install_avx512, ap_vec_install_avx512,
                        ap_attention_install_f16_avx512, ap_attention_install_f32_avx512, ap_attention_install_q8_avx512, ap_ceiling_install_avx512}},
    [AP_ISA_AVX512VNNI] = {true, AP_ISA_AVX512, {ap_matmul_install_avx512vnni, ap_ceiling_install_avx512vnni}},
#elif AP_HAVE_ARM
    [AP_ISA_NEON] = {true, AP_ISA_PLAIN,
                     {ap_matmul_install_neon, ap_quantize_install_neon, ap_float_install_neon, ap_vec_install_neon,
                      ap_attention_install_f16_neon, ap_attention_install_f32_neon, ap_attention_install_q8_neon, ap_ceiling_install_neon}},
    [AP_ISA_DOTPROD] = {true, AP_ISA_NEON, {ap_matmul_install_dotprod, ap_ceiling_install_dotprod}},
    [AP_ISA_I8MM] = {true, AP_ISA_DOTPROD, {ap_matmul_install_i8mm, ap_ceiling_install_i8mm}},
#endif
};

static bool cpu_has(ap_isa isa)
{
#if AP_HAVE_X86
    return isa == AP_ISA_PLAIN || ap_x86_has(isa);
#elif AP_HAVE_ARM
    return isa == AP_ISA_PLAIN || ap_arm_has(isa);
#else
    return isa == AP_ISA_PLAIN;
#endif
}

static const char *const names[AP_ISA_COUNT] = {
#define X(name, text) [AP_ISA_##name] = text,
    AP_ISA_LIST(X)
#undef X
};

const char *ap_isa_name(ap_isa isa) { return (unsigned)isa < AP_ISA_COUNT ? names[isa] : "unknown"; }

ap_status ap_isa_parse(const char *name, ap_isa *out, ap_error *err)
{
    for (unsigned i = 0; i < AP_ISA_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (ap_isa)i;
            return AP_OK;
        }
    *out = AP_ISA_PLAIN;
    return ap_fail(err, AP_E_ARG,
                   "'%.40s' is no CPU level (plain, avx2, avxvnni, avx512, avx512vnni, neon, dotprod, i8mm)", name);
}

ap_isa ap_isa_detect(void)
{
    ap_isa best = AP_ISA_PLAIN;
    for (unsigned i = 0; i < AP_ISA_COUNT; i++)
        if (levels[i].is_built && cpu_has((ap_isa)i))
            best = (ap_isa)i;
    return best;
}

static void fill(ap_isa isa, ap_kernels *out)
{
    const level *l = &levels[isa];
    if (l->parent != isa)
        fill(l->parent, out);
    for (size_t i = 0; i < sizeof l->install / sizeof *l->install && l->install[i]; i++)
        l->install[i](out);
}

ap_status ap_kernels_get(ap_isa isa, ap_kernels *out, ap_error *err)
{
    *out = (ap_kernels){0};
    if ((unsigned)isa >= AP_ISA_COUNT)
        return ap_fail(err, AP_E_ARG, "CPU level %d does not exist", (int)isa);
    if (!levels[isa].is_built)
        return ap_fail(err, AP_E_UNSUPPORTED, "CPU level %s is not built into this program", names[isa]);
    if (!cpu_has(isa))
        return ap_fail(err, AP_E_UNSUPPORTED, "this CPU does not have level %s", names[isa]);
    fill(isa, out);
    out->isa = isa;
    return AP_OK;
}

bool ap_float_mode_is_lawful(void)
{
    /* Measured rather than read from a control register, so that no CPU is named:
     * volatile keeps the compiler from knowing the answers. */
    volatile float smallest = 0x1p-149f, one = 1.0f, tiny = 0x1p-25f, minus = -1.0f;
    if (smallest * one == 0.0f || smallest + smallest != 0x1p-148f)
        return false;
    /* To nearest: 1 + 2^-25 gives 1 and 1 + 3 * 2^-25 gives 1 + 2^-23, in both signs. */
    return one + tiny == 1.0f && one + 3 * tiny == 1.0f + 0x1p-23f && minus - tiny == -1.0f &&
           minus - 3 * tiny == -1.0f - 0x1p-23f;
}

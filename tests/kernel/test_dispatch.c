/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fenv.h>
#include <string.h>

#include "kernel/kernel.h"

static void level_names_are_parsed_and_others_refused(void **state)
{
    ap_isa isa;
    ap_error e;
    for (unsigned i = 0; i < AP_ISA_COUNT; i++) {
        assert_ok(ap_isa_parse(ap_isa_name((ap_isa)i), &isa, err));
        assert_int_equal(isa, i);
    }
    static const char *const wrong[] = {"", "avx", "AVX2", "avx2 ", "sse", "avx512vnni2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ap_isa_parse(wrong[i], &isa, &e), AP_E_ARG);
        assert_non_null(strstr(e.message, "avx512vnni"));
    }
}

static void every_level_is_whole_or_refused_by_name(void **state)
{
    ap_kernels kernels;
    ap_error e;
    int whole = 0;
    for (unsigned i = 0; i < AP_ISA_COUNT; i++) {
        ap_status status = ap_kernels_get((ap_isa)i, &kernels, &e);
        if (status != AP_OK) {
            assert_int_equal(status, AP_E_UNSUPPORTED);
            assert_non_null(strstr(e.message, ap_isa_name((ap_isa)i)));
            assert_null(kernels.matmul.quantize);
            continue;
        }
        whole++;
        assert_int_equal(kernels.isa, i);
        assert_non_null(kernels.matmul.quantize);
        for (uint32_t type = 0; type < AP_MATMUL_TYPES; type++)
            assert_int_equal(kernels.matmul.product[type] != NULL, ap_quant_supports(type));
    }
    assert_true(whole >= 1);
    assert_int_equal(ap_kernels_get(AP_ISA_COUNT, &kernels, &e), AP_E_ARG);
    assert_ok(ap_kernels_get(ap_isa_detect(), &kernels, err));
}

static void an_unlawful_float_mode_is_seen(void **state)
{
    assert_true(ap_float_mode_is_lawful());
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int i = 0; i < 3; i++) {
        fesetround(modes[i]);
        bool is_lawful = ap_float_mode_is_lawful();
        fesetround(FE_TONEAREST);
        assert_false(is_lawful);
    }
#if defined(__x86_64__)
    static const unsigned flush[] = {0x8000, 0x0040}; /* results to zero; inputs as zero */
    for (int i = 0; i < 2; i++) {
        unsigned before = __builtin_ia32_stmxcsr();
        __builtin_ia32_ldmxcsr(before | flush[i]);
        bool is_lawful = ap_float_mode_is_lawful();
        __builtin_ia32_ldmxcsr(before);
        assert_false(is_lawful);
    }
#endif
    assert_true(ap_float_mode_is_lawful());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(level_names_are_parsed_and_others_refused),
        cmocka_unit_test(every_level_is_whole_or_refused_by_name),
        cmocka_unit_test(an_unlawful_float_mode_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

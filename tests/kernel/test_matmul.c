/* Products against float64, with bounds counted from the operations; and what does
 * not show in a result: neighbours, threads, levels.  (Levels against plain C, slot
 * by slot, are kcheck's.)
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "kernel/kernel.h"

static const ap_type types[] = {AP_TYPE_F32,  AP_TYPE_F16,  AP_TYPE_BF16, AP_TYPE_Q4_0, AP_TYPE_Q4_1, AP_TYPE_Q5_0,
                                AP_TYPE_Q5_1, AP_TYPE_Q8_0, AP_TYPE_Q4_K, AP_TYPE_Q5_K, AP_TYPE_Q6_K, AP_TYPE_Q2_K,
                                AP_TYPE_Q3_K, AP_TYPE_Q8_K, AP_TYPE_IQ4_NL, AP_TYPE_IQ4_XS, AP_TYPE_MXFP4};
enum { TYPES = sizeof types / sizeof *types };

/* A matrix of moderate numbers, and activations. */
typedef struct scene {
    ap_matrix matrix;
    unsigned char *source, *panels;
    float *x, *y;
    void *codes;
    ap_acts acts;
    uint32_t tokens;
} scene;

static void fill_weights(ap_type type, unsigned char *source, size_t rows, uint32_t cols, uint64_t *random)
{
    const ap_type_info *info = ap_type_info_of(type);
    size_t blocks = rows * cols / info->block_elems;
    for (size_t i = 0; i < blocks * info->block_bytes; i++)
        source[i] = (unsigned char)ap_test_random(random);
    for (size_t b = 0; b < blocks; b++) {
        unsigned char *block = source + b * info->block_bytes;
        float first = ap_test_uniform(random), second = ap_test_uniform(random);
        uint16_t halves[2] = {ap_f16_of_f32(first * 0.05f), ap_f16_of_f32(second * 0.3f)};
        switch (type) {
        case AP_TYPE_F32: memcpy(block, &first, 4); break;
        case AP_TYPE_F16: memcpy(block, &(uint16_t){ap_f16_of_f32(first)}, 2); break;
        case AP_TYPE_BF16: memcpy(block, &(uint16_t){ap_bf16_of_f32(first)}, 2); break;
        case AP_TYPE_Q6_K: memcpy(block + offsetof(ap_block_q6_k, d), &halves[0], 2); break;
        case AP_TYPE_Q3_K: memcpy(block + offsetof(ap_block_q3_k, d), &halves[0], 2); break;
        case AP_TYPE_Q2_K: memcpy(block + offsetof(ap_block_q2_k, d), halves, 4); break;
        case AP_TYPE_Q8_K: memcpy(block, &first, 4); break;
        case AP_TYPE_MXFP4: block[0] = (unsigned char)(120 + block[0] % 8); break;
        case AP_TYPE_Q4_1:
        case AP_TYPE_Q5_1:
        case AP_TYPE_Q4_K:
        case AP_TYPE_Q5_K: memcpy(block, halves, 4); break;
        default: memcpy(block, &halves[0], 2); break;
        }
    }
}

static scene scene_create(ap_type type, uint32_t rows, uint32_t cols, uint32_t tokens, uint32_t planes,
                          const ap_kernels *kernels, uint64_t seed)
{
    scene s = {.tokens = tokens};
    uint64_t bytes;
    assert_ok(ap_pack_bytes(type, rows, cols, &bytes, err));
    s.source = ap_alloc(ap_row_bytes(type, cols) * rows);
    s.panels = ap_alloc_aligned(bytes);
    s.x = ap_alloc_array((size_t)tokens * cols, sizeof *s.x);
    s.y = ap_alloc_array((size_t)tokens * rows, sizeof *s.y);
    s.codes = ap_alloc_aligned(ap_acts_bytes(tokens, cols, planes));
    fill_weights(type, s.source, rows, cols, &seed);
    ap_pack_rows(type, cols, rows, s.source, s.panels);
    for (size_t i = 0; i < (size_t)tokens * cols; i++)
        s.x[i] = ap_test_uniform(&seed) * (ap_test_random(&seed) % 50 == 0 ? 20.0f : 1.0f);
    s.matrix = (ap_matrix){type, rows, cols, s.panels};
    s.acts = (ap_acts){.tokens = tokens, .cols = cols, .planes = planes, .x = s.x, .x_stride = cols};
    ap_acts_set(&s.acts, kernels, NULL, s.codes);
    return s;
}

static void scene_destroy(scene *s)
{
    ap_free(s->source);
    ap_free(s->panels);
    ap_free(s->x);
    ap_free(s->y);
    ap_free(s->codes);
}

static ap_kernels kernels_of(ap_isa isa)
{
    ap_kernels kernels;
    assert_ok(ap_kernels_get(isa, &kernels, err));
    return kernels;
}

/* Float formats: cols fused steps, each rounding a sum no larger than the sum of magnitudes.
 * Block formats, against the exact product with the codes: per block at most three
 * roundings of what it adds and one of the sum. */
static void products_are_as_exact_as_their_operations_allow(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    for (int j = 0; j < 2 * TYPES; j++) {
        uint32_t rows = 40, cols = 1024, tokens = 5, planes = 1 + (uint32_t)j % 2;
        int i = j / 2;
        bool has_codes = ap_matmul_needs_codes(types[i]);
        scene s = scene_create(types[i], rows, cols, tokens, planes, &kernels, 21 + (uint64_t)i);
        ap_matmul(&kernels, NULL, &(ap_matmul_job){&s.matrix, &s.acts, s.y, rows}, 1);
        float *w = ap_alloc_array(cols, sizeof *w);
        for (uint32_t row = 0; row < rows; row++) {
            ap_matrix_row(&s.matrix, row, w);
            for (uint32_t t = 0; t < tokens; t++) {
                double exact = 0, magnitude = 0, difference = 0;
                for (uint32_t c = 0; c < cols; c++) {
                    double x = has_codes ? 0 : (double)s.x[t * cols + c];
                    for (uint32_t p = 0; has_codes && p < planes; p++) {
                        const ap_act_slab *slab = &s.acts.slabs[(c / 256 * tokens + t) * planes + p];
                        x += (double)slab->d[c % 256 / 32] * slab->code[c % 256];
                    }
                    exact += w[c] * x;
                    magnitude += fabs(w[c] * x);
                    /* decoding Q4_1 and the like rounds each weight by itself, the chain does not */
                    difference += has_codes ? fabs(x) * fabs((double)w[c]) * 0x1p-23 + fabs(x) * 0x1p-24 : 0;
                }
                /* A minimum makes the parts of a weight larger than their sum; 32 covers codes to 31. */
                double parts = has_codes ? 32 * magnitude + 1 : magnitude;
                double bound = (has_codes ? cols / 32 + 3.0 : cols) * 0x1p-24 * parts + difference;
                double error = fabs(exact - (double)s.y[t * rows + row]);
                if (!(error <= bound))
                    fail_msg("%s row %u token %u: error %g above %g", ap_type_info_of(types[i])->name, row, t, error, bound);
            }
        }
        ap_free(w);
        scene_destroy(&s);
    }
}

static void codes_are_within_half_a_step(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    uint64_t seed = 5;
    enum { COLS = 512 };
    float x[COLS];
    _Alignas(64) ap_act_slab slabs[2], planes[2][2];
    for (int i = 0; i < COLS; i++)
        x[i] = ap_test_uniform(&seed) * ldexpf(1, (int)(ap_test_random(&seed) % 20) - 10);
    kernels.matmul.quantize(x, COLS, 1, slabs, 1);
    kernels.matmul.quantize(x, COLS, 2, planes[0], 2);
    for (int i = 0; i < COLS; i++) {
        const ap_act_slab *s = &slabs[i / 256], *rest = &planes[i / 256][1];
        float d = s->d[i % 256 / 32], fine = rest->d[i % 256 / 32];
        float left = fmaf(-d, (float)s->code[i % 256], x[i]);
        assert_true(fabsf(left) <= d * 0.50001f);
        assert_memory_equal(s, &planes[i / 256][0], sizeof *s);
        assert_true(fine <= d / 253.9f && fabsf(left - fine * (float)rest->code[i % 256]) <= fine * 0.50001f);
    }
    for (int b = 0; b < COLS / 32; b++) {
        int sum[2] = {0, 0};
        for (int e = 0; e < 32; e++)
            sum[e / 16] += slabs[b / 8].code[32 * (b % 8) + e];
        assert_int_equal(slabs[b / 8].sum[b % 8], sum[0] + sum[1]);
        assert_int_equal(slabs[b / 8].half_sum[2 * (b % 8)], sum[0]);
        assert_int_equal(slabs[b / 8].half_sum[2 * (b % 8) + 1], sum[1]);
        assert_true(slabs[b / 8].sum_f[b % 8] == (float)(sum[0] + sum[1]));
    }
}

static void a_poisoned_block_poisons_its_token_alone(void **state)
{
    static const float poison[] = {INFINITY, -INFINITY, NAN};
    for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
        ap_kernels kernels;
        if (ap_kernels_get((ap_isa)isa, &kernels, NULL) != AP_OK)
            continue;
        for (int i = 0; i < TYPES; i++)
            for (int p = 0; p < 3; p++) {
                uint32_t planes = 1 + (uint32_t)(p % 2);
                scene s = scene_create(types[i], 20, 256, 3, planes, &kernels, 31);
                s.x[256 + 77] = poison[p];
                ap_acts_set(&s.acts, &kernels, NULL, s.codes);
                assert_true(isnan(s.acts.slabs[planes].d[2]));
                ap_matmul(&kernels, NULL, &(ap_matmul_job){&s.matrix, &s.acts, s.y, 20}, 1);
                for (int row = 0; row < 20; row++) {
                    assert_true(isfinite(s.y[row]));
                    assert_false(isfinite(s.y[20 + row]));
                    assert_true(isfinite(s.y[40 + row]));
                }
                scene_destroy(&s);
            }
    }
}

static void tiny_blocks_become_zero(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    _Alignas(64) ap_act_slab slab;
    float x[64] = {0};
    x[3] = nextafterf(0x1p-100f, 0);
    x[40] = -0x1p-100f;
    kernels.matmul.quantize(x, 64, 1, &slab, 1);
    assert_true(slab.d[0] == 0 && slab.code[3] == 0);
    assert_true(slab.d[1] > 0 && slab.code[40] == -127);
}

static void results_know_neither_neighbours_nor_threads_nor_levels(void **state)
{
    ap_kernels plain = kernels_of(AP_ISA_PLAIN);
    for (int i = 0; i < 2 * TYPES; i++) {
        uint32_t rows = 200, cols = 512, tokens = 37, planes = 1 + (uint32_t)i % 2;
        scene s = scene_create(types[i / 2], rows, cols, tokens, planes, &plain, 41);
        ap_matmul(&plain, NULL, &(ap_matmul_job){&s.matrix, &s.acts, s.y, rows}, 1);
        float *alone = ap_alloc_array(rows, sizeof *alone), *other = ap_alloc_array((size_t)rows * tokens, sizeof *other);
        void *codes = ap_alloc_aligned(ap_acts_bytes(tokens, cols, planes));
        for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
            ap_kernels kernels;
            if (ap_kernels_get((ap_isa)isa, &kernels, NULL) != AP_OK)
                continue;
            for (unsigned threads = 1; threads <= 3; threads++) {
                ap_pool *pool;
                ap_acts acts = {.tokens = tokens, .cols = cols, .planes = planes, .x = s.x, .x_stride = cols};
                assert_ok(ap_pool_create(&pool, threads, err));
                memset(other, 0, sizeof *other * rows * tokens);
                ap_acts_set(&acts, &kernels, pool, codes);
                ap_matmul(&kernels, pool, &(ap_matmul_job){&s.matrix, &acts, other, rows}, 1);
                assert_memory_equal(other, s.y, sizeof *other * rows * tokens);
                ap_pool_destroy(&pool);
            }
            for (uint32_t t = 0; t < tokens; t += 9) {
                ap_acts acts = {.tokens = 1, .cols = cols, .planes = planes, .x = s.x + t * cols, .x_stride = cols};
                ap_acts_set(&acts, &kernels, NULL, codes);
                ap_matmul(&kernels, NULL, &(ap_matmul_job){&s.matrix, &acts, alone, rows}, 1);
                assert_memory_equal(alone, s.y + t * rows, sizeof *alone * rows);
            }
        }
        ap_free(alone);
        ap_free(other);
        ap_free(codes);
        scene_destroy(&s);
    }
}

static void several_matrices_share_one_run(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    ap_pool *pool;
    assert_ok(ap_pool_create(&pool, 2, err));
    static const uint32_t rows[] = {192, 16, 70, 64, 1};
    enum { JOBS = sizeof rows / sizeof *rows };
    scene s[JOBS];
    ap_matmul_job jobs[JOBS];
    float *want[JOBS];
    for (int i = 0; i < JOBS; i++) {
        s[i] = scene_create(types[3 + i], rows[i], 256, 4, 1, &kernels, 50); /* one seed: nearly the same x */
        jobs[i] = (ap_matmul_job){&s[i].matrix, &s[0].acts, s[i].y, rows[i]};
        ap_matmul(&kernels, NULL, &jobs[i], 1);
        want[i] = ap_alloc_array(4 * rows[i], sizeof(float));
        memcpy(want[i], s[i].y, 4 * rows[i] * sizeof(float));
        memset(s[i].y, 0, 4 * rows[i] * sizeof(float));
    }
    ap_matmul(&kernels, pool, jobs, JOBS);
    for (int i = 0; i < JOBS; i++) {
        assert_memory_equal(s[i].y, want[i], 4 * rows[i] * sizeof(float));
        ap_free(want[i]);
    }
    for (int i = 0; i < JOBS; i++)
        scene_destroy(&s[i]);
    ap_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_as_exact_as_their_operations_allow),
        cmocka_unit_test(codes_are_within_half_a_step),
        cmocka_unit_test(a_poisoned_block_poisons_its_token_alone),
        cmocka_unit_test(tiny_blocks_become_zero),
        cmocka_unit_test(results_know_neither_neighbours_nor_threads_nor_levels),
        cmocka_unit_test(several_matrices_share_one_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

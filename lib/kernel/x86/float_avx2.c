/* float_avx2.c - products of F32, F16 and BF16 weights with AVX2, FMA and F16C.
 *
 * A tile is one panel (two registers of eight rows) times up to six tokens: 12 sums,
 * two weights, one activation.  Columns go in stretches of 256, so that the weights of
 * a stretch stay in the first cache while all tokens pass; between stretches the sums
 * wait in memory, which changes no bit of a chain.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { TILE_TOKENS = 6, TOKENS_AT_ONCE = 192, STRETCH = 256, PREFETCH_BYTES = 4096 };

INLINE uint32_t bytes_of(const ap_type type) { return type == AP_TYPE_F32 ? 4 : 2; }

/* Column k of one panel, eight rows. */
INLINE __m256 weights(const ap_type type, const unsigned char *panel, size_t k, int half)
{
    if (type == AP_TYPE_F32)
        return _mm256_loadu_ps((const float *)(panel + 64 * k) + 8 * half);
    __m128i h = _mm_loadu_si128((const __m128i *)(panel + 32 * k) + half);
    if (type == AP_TYPE_F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* `count` columns of n tokens, added to sums. */
INLINE void tile(const ap_type type, const unsigned char *columns, size_t count, size_t ahead, const float *x,
                 size_t x_stride, float (*sums)[16], const int n)
{
    __m256 acc[TILE_TOKENS][2];
    UNROLL for (int t = 0; t < n; t++) {
        acc[t][0] = _mm256_load_ps(sums[t]);
        acc[t][1] = _mm256_load_ps(sums[t] + 8);
    }
    for (size_t k = 0; k < count; k++) {
        if (ahead)
            _mm_prefetch((const char *)(columns + k * 16 * bytes_of(type) + ahead), _MM_HINT_T1);
        __m256 low = weights(type, columns, k, 0), high = weights(type, columns, k, 1);
        UNROLL for (int t = 0; t < n; t++) {
            __m256 xs = _mm256_set1_ps(x[(size_t)t * x_stride + k]);
            acc[t][0] = _mm256_fmadd_ps(low, xs, acc[t][0]);
            acc[t][1] = _mm256_fmadd_ps(high, xs, acc[t][1]);
        }
    }
    UNROLL for (int t = 0; t < n; t++) {
        _mm256_store_ps(sums[t], acc[t][0]);
        _mm256_store_ps(sums[t] + 8, acc[t][1]);
    }
}

INLINE void product(const ap_type type, const ap_matmul_job *job, ap_matmul_part part)
{
    const ap_acts *acts = job->acts;
    const ap_matrix *m = job->matrix;
    size_t panel_bytes = (size_t)m->cols * 16 * bytes_of(type);
    _Alignas(32) float sums[TOKENS_AT_ONCE][16];
    for (uint32_t panel = part.panel_begin; panel < part.panel_end; panel++) {
        uint32_t row = panel * AP_PANEL_ROWS, left = m->rows - row;
        for (uint32_t token = part.token_begin; token < part.token_end; token += TOKENS_AT_ONCE) {
            uint32_t tokens = part.token_end - token < TOKENS_AT_ONCE ? part.token_end - token : TOKENS_AT_ONCE;
            memset(sums, 0, tokens * sizeof *sums);
            for (uint32_t k = 0; k < m->cols; k += STRETCH) {
                uint32_t count = m->cols - k < STRETCH ? m->cols - k : STRETCH;
                const unsigned char *columns = m->panels + panel * panel_bytes + (size_t)k * 16 * bytes_of(type);
                for (uint32_t t = 0; t < tokens; t += TILE_TOKENS) {
                    const float *x = acts->x + (token + t) * acts->x_stride + k;
                    size_t ahead = t == 0 ? PREFETCH_BYTES : 0;
                    switch (tokens - t) {
                    case 1: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 1); break;
                    case 2: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 2); break;
                    case 3: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 3); break;
                    case 4: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 4); break;
                    case 5: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 5); break;
                    default: tile(type, columns, count, ahead, x, acts->x_stride, sums + t, 6); break;
                    }
                }
            }
            for (uint32_t t = 0; t < tokens; t++)
                memcpy(job->y + (token + t) * job->y_stride + row, sums[t],
                       (left < AP_PANEL_ROWS ? left : AP_PANEL_ROWS) * sizeof(float));
        }
    }
}

static void product_f32(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_F32, job, part); }

static void product_f16(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_F16, job, part); }

static void product_bf16(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_BF16, job, part); }

void ap_float_install_avx2(ap_kernels *kernels)
{
    kernels->matmul.product[AP_TYPE_F32] = product_f32;
    kernels->matmul.product[AP_TYPE_F16] = product_f16;
    kernels->matmul.product[AP_TYPE_BF16] = product_bf16;
}

/* float_avx512.c - products of F32, F16 and BF16 weights in 512-bit registers.
 *
 * A tile is four panels times up to six tokens: 24 sums, four weights, one
 * activation broadcast for four panels.  Columns go in stretches of 256, so that the
 * weights of a stretch stay in the first two caches while all tokens pass; between
 * stretches the sums wait in memory, which changes no bit of a chain.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { PANELS = 4, TILE_TOKENS = 6, TOKENS_AT_ONCE = 192, STRETCH = 256, PREFETCH_BYTES = 2048 };

INLINE uint32_t bytes_of(const ap_type type) { return type == AP_TYPE_F32 ? 4 : 2; }

/* Column k of one panel. */
INLINE __m512 weights(const ap_type type, const unsigned char *panel, size_t k)
{
    if (type == AP_TYPE_F32)
        return _mm512_loadu_ps(panel + 64 * k);
    __m256i h = _mm256_loadu_si256((const __m256i *)(panel + 32 * k));
    if (type == AP_TYPE_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* `count` columns of n tokens, added to sums; `from` counts columns within the panel. */
INLINE void tile(const ap_type type, const unsigned char *const panel[PANELS], size_t from, size_t count, size_t ahead,
                 const float *x, size_t x_stride, float (*sums)[PANELS][16], const int n)
{
    __m512 acc[TILE_TOKENS][PANELS];
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int p = 0; p < PANELS; p++)
            acc[t][p] = _mm512_load_ps(sums[t][p]);
    for (size_t k = 0; k < count; k++) {
        __m512 w[PANELS];
        UNROLL for (int p = 0; p < PANELS; p++) {
            if (ahead)
                _mm_prefetch((const char *)(panel[p] + (from + k) * 16 * bytes_of(type) + ahead), _MM_HINT_T1);
            w[p] = weights(type, panel[p], from + k);
        }
        UNROLL for (int t = 0; t < n; t++) {
            __m512 xs = _mm512_set1_ps(x[(size_t)t * x_stride + k]);
            UNROLL for (int p = 0; p < PANELS; p++)
                acc[t][p] = _mm512_fmadd_ps(w[p], xs, acc[t][p]);
        }
    }
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int p = 0; p < PANELS; p++)
            _mm512_store_ps(sums[t][p], acc[t][p]);
}

INLINE void product(const ap_type type, const ap_matmul_job *job, ap_matmul_part part)
{
    const ap_acts *acts = job->acts;
    const ap_matrix *m = job->matrix;
    size_t panel_bytes = (size_t)m->cols * 16 * bytes_of(type);
    _Alignas(64) float sums[TOKENS_AT_ONCE][PANELS][16];
    uint32_t end = part.panel_end;
    for (uint32_t first = part.panel_begin; first < end; first += PANELS) {
        /* Where fewer than four panels are left, the last stands in for the missing and is not stored. */
        const unsigned char *panel[PANELS];
        for (uint32_t i = 0; i < PANELS; i++)
            panel[i] = m->panels + (first + i < end ? first + i : end - 1) * panel_bytes;
        uint32_t row = first * AP_PANEL_ROWS, last = first + PANELS < end ? first + PANELS : end;
        uint32_t rows = (last > m->rows / AP_PANEL_ROWS ? m->rows : last * AP_PANEL_ROWS) - row;
        for (uint32_t token = part.token_begin; token < part.token_end; token += TOKENS_AT_ONCE) {
            uint32_t tokens = part.token_end - token < TOKENS_AT_ONCE ? part.token_end - token : TOKENS_AT_ONCE;
            memset(sums, 0, tokens * sizeof *sums);
            for (uint32_t k = 0; k < m->cols; k += STRETCH) {
                uint32_t count = m->cols - k < STRETCH ? m->cols - k : STRETCH;
                for (uint32_t t = 0; t < tokens; t += TILE_TOKENS) {
                    const float *x = acts->x + (token + t) * acts->x_stride + k;
                    size_t ahead = t == 0 ? PREFETCH_BYTES : 0;
                    switch (tokens - t) {
                    case 1: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 1); break;
                    case 2: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 2); break;
                    case 3: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 3); break;
                    case 4: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 4); break;
                    case 5: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 5); break;
                    default: tile(type, panel, k, count, ahead, x, acts->x_stride, sums + t, 6); break;
                    }
                }
            }
            for (uint32_t t = 0; t < tokens; t++)
                memcpy(job->y + (token + t) * job->y_stride + row, sums[t], rows * sizeof(float));
        }
    }
}

static void product_f32(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_F32, job, part); }

static void product_f16(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_F16, job, part); }

static void product_bf16(const ap_matmul_job *job, ap_matmul_part part) { product(AP_TYPE_BF16, job, part); }

void ap_float_install_avx512(ap_kernels *kernels)
{
    kernels->matmul.product[AP_TYPE_F32] = product_f32;
    kernels->matmul.product[AP_TYPE_F16] = product_f16;
    kernels->matmul.product[AP_TYPE_BF16] = product_bf16;
}

/* float_neon.c - products of F32, F16 and BF16 weights with NEON.
 *
 * A tile is one panel (four registers of four rows) times up to five tokens: 20 sums, four weights, five
 * activations.  Columns go in stretches of 256, so that the weights of a stretch stay in the first cache while all
 * tokens pass; between stretches the sums wait in memory, which changes no bit of a chain.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arm_neon.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { TILE_TOKENS = 5, TOKENS_AT_ONCE = 160, STRETCH = 256, PREFETCH_BYTES = 2048 };

INLINE uint32_t bytes_of(const ap_type type) { return type == AP_TYPE_F32 ? 4 : 2; }

/* Column k of one panel, four rows. */
INLINE float32x4_t weights(const ap_type type, const unsigned char *panel, size_t k, int quarter)
{
    if (type == AP_TYPE_F32)
        return vld1q_f32((const float *)(panel + 64 * k) + 4 * quarter);
    uint16x4_t h = vld1_u16((const uint16_t *)(panel + 32 * k) + 4 * quarter);
    if (type == AP_TYPE_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* `count` columns of n tokens, added to sums. */
INLINE void tile(const ap_type type, const unsigned char *columns, size_t count, const float *x, size_t x_stride,
                 float (*sums)[16], const int n)
{
    float32x4_t acc[TILE_TOKENS][4];
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int i = 0; i < 4; i++)
            acc[t][i] = vld1q_f32(sums[t] + 4 * i);
    for (size_t k = 0; k < count; k++) {
        float32x4_t w[4];
        __builtin_prefetch(columns + k * 16 * bytes_of(type) + PREFETCH_BYTES);
        UNROLL for (int i = 0; i < 4; i++)
            w[i] = weights(type, columns, k, i);
        UNROLL for (int t = 0; t < n; t++) {
            float32x4_t xs = vdupq_n_f32(x[(size_t)t * x_stride + k]);
            UNROLL for (int i = 0; i < 4; i++)
                acc[t][i] = vfmaq_f32(acc[t][i], w[i], xs);
        }
    }
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int i = 0; i < 4; i++)
            vst1q_f32(sums[t] + 4 * i, acc[t][i]);
}

INLINE void product(const ap_type type, const ap_matmul_job *job, ap_matmul_part part)
{
    const ap_acts *acts = job->acts;
    const ap_matrix *m = job->matrix;
    size_t panel_bytes = (size_t)m->cols * 16 * bytes_of(type);
    float sums[TOKENS_AT_ONCE][16];
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
                    switch (tokens - t) {
                    case 1: tile(type, columns, count, x, acts->x_stride, sums + t, 1); break;
                    case 2: tile(type, columns, count, x, acts->x_stride, sums + t, 2); break;
                    case 3: tile(type, columns, count, x, acts->x_stride, sums + t, 3); break;
                    case 4: tile(type, columns, count, x, acts->x_stride, sums + t, 4); break;
                    default: tile(type, columns, count, x, acts->x_stride, sums + t, 5); break;
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

void ap_float_install_neon(ap_kernels *kernels)
{
    kernels->matmul.product[AP_TYPE_F32] = product_f32;
    kernels->matmul.product[AP_TYPE_F16] = product_f16;
    kernels->matmul.product[AP_TYPE_BF16] = product_bf16;
}

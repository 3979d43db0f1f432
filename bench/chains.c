/* chains.c - which chain of float operations should join the exact block dots?
 *
 * The law fixes the order and the roundings of a product, so this was asked once,
 * before any file was packed: three forms each for blocks of 32, blocks of 32 with
 * a minimum, and blocks of 16 (Q6_K), as real register tiles over weights already
 * unpacked to bytes, in AVX-512 VNNI and in AVX2.  Forms take turns inside each
 * repetition, so that noise of a shared machine meets all of them; a form's figure
 * is the median and the best over the repetitions.
 *
 *     build/bench/chains [repetitions]
 *
 * "tile" is 4 panels x 504 tokens (AVX2: 1 panel), one K slab of 256 columns out of
 * L1, which is the state of the hot loop of a prompt.  "one" is a single token.
 * The last column is the worst error against float64, in units of 2^-24 of the sum
 * of magnitudes, over 2,048 columns.
 *
 * Legend: c dot, w = d * scale of the weights, a scale of the activations, m minimum
 * times -1, n code sum of the activations, x = a * n rounded, A accumulator.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCKS = 8, GROUPS = 8, PANELS = 4, TOKENS = 504 /* a multiple of 3 and 4 */, REPEATS_MAX = 101 };

typedef struct chunk {
    uint8_t code[BLOCKS][GROUPS][PANELS][64];
    float w[BLOCKS][2][PANELS][16]; /* d * scale; 16-wide forms use both */
    float d[PANELS][16];            /* form 3 of the 16-wide */
    float sc[BLOCKS][2][PANELS][16];
    float m[BLOCKS][PANELS][16];
} chunk;

typedef struct slab {
    int8_t code[256];
    float a[8], x[8];
    int32_t sum[8];
    int16_t half[16];
} slab;

enum form { W32_1, W32_2, W32_3, M32_1, M32_2, M32_3, H16_1, H16_2, H16_3, FORMS };
static const char *const form_text[FORMS] = {
    "32   1: s = w a; A = fma(c, s, A)",
    "32   2: u = c w; A = fma(u, a, A)",
    "32   3: u = c a; A = fma(u, w, A)",
    "min  1: s = w a; A = fma(c, s, A); A = fma(m, x, A)",
    "min  2: s = w a; A = fma(c, s, A); B = fma(m, x, B); A + B at the end",
    "min  3: u = m n; u = fma(c, w, u); A = fma(u, a, A)",
    "16   1: s = w a; A = fma(c0, s0, A); A = fma(c1, s1, A)",
    "16   2: u = c1 w1; u = fma(c0, w0, u); A = fma(u, a, A)",
    "16   3: u = c1 sc1 + c0 sc0 exact; s = d a; A = fma(u, s, A)",
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define ZMM __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define YMM __attribute__((target("avx2,fma")))

/* Not the intrinsic: gcc 12 moves every sum to another register and back around that. */
ZMM INLINE __m512i dot4(__m512i sum, __m512i q, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(q), "v"(x));
    return sum;
}

/* One block of 32 for n tokens and `panels` panels from `first` on; 16-wide forms keep two
 * dots a lane, so they take half the panels.  Offsets as Q4_0 and Q6_K need them. */
ZMM INLINE void block_512(const chunk *w, const slab *s, float (*acc)[PANELS][16], float (*acc2)[PANELS][16], int b,
                          const int n, const int first, const int panels, const enum form form)
{
    const int is_16 = form >= H16_1;
    __m512i dot[2][4][PANELS];
    UNROLL for (int t = 0; t < n; t++) {
        __m512i begin = _mm512_set1_epi32(form <= W32_3 ? -8 * s[t].sum[b] : is_16 ? -32 * s[t].half[2 * b] : 0);
        __m512i begin1 = _mm512_set1_epi32(-32 * s[t].half[2 * b + 1]);
        UNROLL for (int p = 0; p < panels; p++) {
            dot[0][t][p] = begin;
            dot[1][t][p] = begin1;
        }
    }
    UNROLL for (int g = 0; g < 8; g++) {
        __m512i q[PANELS];
        UNROLL for (int p = 0; p < panels; p++)
            q[p] = _mm512_loadu_si512(w->code[b][g][first + p]);
        UNROLL for (int t = 0; t < n; t++) {
            __m512i x = _mm512_set1_epi32(((const int32_t *)s[t].code)[8 * b + g]);
            UNROLL for (int p = 0; p < panels; p++)
                dot[is_16 ? g / 4 : 0][t][p] = dot4(dot[is_16 ? g / 4 : 0][t][p], q[p], x);
        }
    }
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int i = 0; i < panels; i++) {
            int p = first + i;
            __m512 c = _mm512_cvtepi32_ps(dot[0][t][i]), c1 = _mm512_cvtepi32_ps(dot[1][t][i]);
            __m512 A = _mm512_loadu_ps(acc[t][p]), a = _mm512_set1_ps(s[t].a[b]), u;
            __m512 w0 = _mm512_loadu_ps(w->w[b][0][p]), w1 = _mm512_loadu_ps(w->w[b][1][p]);
            __m512 m = _mm512_loadu_ps(w->m[b][p]), x = _mm512_set1_ps(s[t].x[b]);
            switch (form) {
            case W32_1: A = _mm512_fmadd_ps(c, _mm512_mul_ps(w0, a), A); break;
            case W32_2: A = _mm512_fmadd_ps(_mm512_mul_ps(c, w0), a, A); break;
            case W32_3: A = _mm512_fmadd_ps(_mm512_mul_ps(c, a), w0, A); break;
            case M32_1:
                A = _mm512_fmadd_ps(c, _mm512_mul_ps(w0, a), A);
                A = _mm512_fmadd_ps(m, x, A);
                break;
            case M32_2:
                A = _mm512_fmadd_ps(c, _mm512_mul_ps(w0, a), A);
                _mm512_storeu_ps(acc2[t][p], _mm512_fmadd_ps(m, x, _mm512_loadu_ps(acc2[t][p])));
                break;
            case M32_3: /* x stands in for (float)n: the cost is the same */
                A = _mm512_fmadd_ps(_mm512_fmadd_ps(c, w0, _mm512_mul_ps(m, x)), a, A);
                break;
            case H16_1:
                A = _mm512_fmadd_ps(c, _mm512_mul_ps(w0, a), A);
                A = _mm512_fmadd_ps(c1, _mm512_mul_ps(w1, a), A);
                break;
            case H16_2: A = _mm512_fmadd_ps(_mm512_fmadd_ps(c, w0, _mm512_mul_ps(c1, w1)), a, A); break;
            default:
                u = _mm512_mul_ps(c1, _mm512_loadu_ps(w->sc[b][1][p]));
                u = _mm512_fmadd_ps(c, _mm512_loadu_ps(w->sc[b][0][p]), u);
                A = _mm512_fmadd_ps(u, _mm512_mul_ps(_mm512_loadu_ps(w->d[p]), a), A);
                break;
            }
            _mm512_storeu_ps(acc[t][p], A);
        }
}

ZMM INLINE void run_512(const chunk *w, const slab *s, float (*acc)[PANELS][16], float (*acc2)[PANELS][16], int tokens,
                        const enum form form)
{
    const int n = form >= H16_1 ? 4 : 3, panels = form >= H16_1 ? 2 : PANELS;
    if (tokens < 4) {
        for (int b = 0; b < BLOCKS; b++)
            block_512(w, s, acc, acc2, b, 1, 0, PANELS, form);
        return;
    }
    for (int t = 0; t + n <= tokens; t += n)
        for (int p = 0; p < PANELS; p += panels)
            for (int b = 0; b < BLOCKS; b++)
                block_512(w, s + t, acc + t, acc2 + t, b, n, p, panels, form);
}

/* AVX2: one panel is two registers; codes are 4 bits, so eight groups add up in 16 bits;
 * for the 16-wide forms codes of 6 bits, two groups at a time. */
YMM INLINE void block_256(const chunk *w, const slab *s, float (*acc)[PANELS][16], float (*acc2)[PANELS][16], int b,
                          const int n, const enum form form)
{
    const int is_16 = form >= H16_1, pair = is_16 ? 2 : 8;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int h = 0; h < 2; h++) {
        __m256i dot[4], dot1[4];
        UNROLL for (int t = 0; t < n; t++) {
            dot[t] = _mm256_set1_epi32(form <= W32_3 ? -8 * s[t].sum[b] : is_16 ? -32 * s[t].half[2 * b] : 0);
            dot1[t] = _mm256_set1_epi32(-32 * s[t].half[2 * b + 1]);
        }
        UNROLL for (int g = 0; g < 8; g += pair) {
            __m256i sum[4];
            UNROLL for (int i = 0; i < pair; i++) {
                __m256i q = _mm256_loadu_si256((const __m256i *)(w->code[b][g + i][0] + 32 * h));
                UNROLL for (int t = 0; t < n; t++) {
                    __m256i x = _mm256_set1_epi32(((const int32_t *)s[t].code)[8 * b + g + i]);
                    __m256i product = _mm256_maddubs_epi16(q, x);
                    sum[t] = i ? _mm256_add_epi16(sum[t], product) : product;
                }
            }
            UNROLL for (int t = 0; t < n; t++) {
                __m256i wide = _mm256_madd_epi16(sum[t], ones);
                if (is_16 && g >= 4)
                    dot1[t] = _mm256_add_epi32(dot1[t], wide);
                else
                    dot[t] = _mm256_add_epi32(dot[t], wide);
            }
        }
        UNROLL for (int t = 0; t < n; t++) {
            __m256 c = _mm256_cvtepi32_ps(dot[t]), c1 = _mm256_cvtepi32_ps(dot1[t]);
            __m256 A = _mm256_loadu_ps(acc[t][0] + 8 * h), a = _mm256_set1_ps(s[t].a[b]), u;
            __m256 weight = _mm256_loadu_ps(w->w[b][0][0] + 8 * h), weight1 = _mm256_loadu_ps(w->w[b][1][0] + 8 * h);
            __m256 m = _mm256_loadu_ps(w->m[b][0] + 8 * h), x = _mm256_set1_ps(s[t].x[b]);
            switch (form) {
            case W32_1: A = _mm256_fmadd_ps(c, _mm256_mul_ps(weight, a), A); break;
            case W32_2: A = _mm256_fmadd_ps(_mm256_mul_ps(c, weight), a, A); break;
            case W32_3: A = _mm256_fmadd_ps(_mm256_mul_ps(c, a), weight, A); break;
            case M32_1:
                A = _mm256_fmadd_ps(c, _mm256_mul_ps(weight, a), A);
                A = _mm256_fmadd_ps(m, x, A);
                break;
            case M32_2:
                A = _mm256_fmadd_ps(c, _mm256_mul_ps(weight, a), A);
                _mm256_storeu_ps(acc2[t][0] + 8 * h, _mm256_fmadd_ps(m, x, _mm256_loadu_ps(acc2[t][0] + 8 * h)));
                break;
            case M32_3:
                u = _mm256_mul_ps(m, x);
                A = _mm256_fmadd_ps(_mm256_fmadd_ps(c, weight, u), a, A);
                break;
            case H16_1:
                A = _mm256_fmadd_ps(c, _mm256_mul_ps(weight, a), A);
                A = _mm256_fmadd_ps(c1, _mm256_mul_ps(weight1, a), A);
                break;
            case H16_2:
                u = _mm256_fmadd_ps(c, weight, _mm256_mul_ps(c1, weight1));
                A = _mm256_fmadd_ps(u, a, A);
                break;
            case H16_3:
                u = _mm256_mul_ps(c1, _mm256_loadu_ps(w->sc[b][1][0] + 8 * h));
                u = _mm256_fmadd_ps(c, _mm256_loadu_ps(w->sc[b][0][0] + 8 * h), u);
                A = _mm256_fmadd_ps(u, _mm256_mul_ps(_mm256_loadu_ps(w->d[0] + 8 * h), a), A);
                break;
            default: break;
            }
            _mm256_storeu_ps(acc[t][0] + 8 * h, A);
        }
    }
}

YMM INLINE void run_256(const chunk *w, const slab *s, float (*acc)[PANELS][16], float (*acc2)[PANELS][16], int tokens,
                        const enum form form)
{
    const int n = 4;
    if (tokens < n) {
        for (int b = 0; b < BLOCKS; b++)
            block_256(w, s, acc, acc2, b, 1, form);
        return;
    }
    for (int t = 0; t + n <= tokens; t += n)
        for (int b = 0; b < BLOCKS; b++)
            block_256(w, s + t, acc + t, acc2 + t, b, 4, form);
}

typedef void run_fn(const chunk *, const slab *, float (*)[PANELS][16], float (*)[PANELS][16], int);
#define FORM(form)                                                                                               \
    ZMM static __attribute__((noinline)) void z_##form(const chunk *w, const slab *s, float (*acc)[PANELS][16], \
                                                       float (*acc2)[PANELS][16], int tokens)                   \
    {                                                                                                            \
        run_512(w, s, acc, acc2, tokens, form);                                                                  \
    }                                                                                                            \
    YMM static __attribute__((noinline)) void y_##form(const chunk *w, const slab *s, float (*acc)[PANELS][16], \
                                                       float (*acc2)[PANELS][16], int tokens)                   \
    {                                                                                                            \
        run_256(w, s, acc, acc2, tokens, form);                                                                  \
    }
FORM(W32_1) FORM(W32_2) FORM(W32_3) FORM(M32_1) FORM(M32_2) FORM(M32_3) FORM(H16_1) FORM(H16_2) FORM(H16_3)
static run_fn *const run_z[FORMS] = {z_W32_1, z_W32_2, z_W32_3, z_M32_1, z_M32_2, z_M32_3, z_H16_1, z_H16_2, z_H16_3};
static run_fn *const run_y[FORMS] = {y_W32_1, y_W32_2, y_W32_3, y_M32_1, y_M32_2, y_M32_3, y_H16_1, y_H16_2, y_H16_3};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t state = 1;
static uint32_t random32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}
static float uniform(void) { return (float)((int32_t)(random32() & 0xffffff) - 0x800000) * 0x1p-23f; }

/* Scalar chain over `blocks` random blocks against float64; units of 2^-24 of the sum of magnitudes. */
static void errors(double worst[FORMS], double mean[FORMS])
{
    enum { TRIALS = 4000, COLUMN_BLOCKS = 64 };
    for (int trial = 0; trial < TRIALS; trial++) {
        float A[FORMS] = {0}, B = 0;
        double exact[3] = {0}, magnitude[3] = {0};
        float d = 0;
        for (int b = 0; b < COLUMN_BLOCKS; b++) {
            if (b % 8 == 0)
                d = (float)(1024 + random32() % 1024) * 0x1p-20f; /* an f16 */
            int32_t c0 = 0, c1 = 0, n = 0;
            for (int e = 0; e < 32; e++) {
                int q = (int)(random32() % 64) - 32, x = (int)(random32() % 255) - 127;
                *(e < 16 ? &c0 : &c1) += q * x;
                n += x;
            }
            float sc0 = (float)((int)(random32() % 256) - 128), sc1 = (float)((int)(random32() % 256) - 128);
            float w0 = d * sc0, w1 = d * sc1, a = 0.01f + 0.01f * fabsf(uniform()), m = -d * (float)(random32() % 64);
            float c = (float)(c0 + c1), w = w0, x = a * (float)n, u;
            exact[0] += (double)c * w * a;
            magnitude[0] += fabs((double)c * w * a);
            exact[1] += (double)c * w * a + (double)m * n * a;
            magnitude[1] += fabs((double)c * w * a) + fabs((double)m * n * a);
            exact[2] += ((double)c0 * w0 + (double)c1 * w1) * a;
            magnitude[2] += (fabs((double)c0 * w0) + fabs((double)c1 * w1)) * a;
            A[W32_1] = fmaf(c, w * a, A[W32_1]);
            A[W32_2] = fmaf(c * w, a, A[W32_2]);
            A[W32_3] = fmaf(c * a, w, A[W32_3]);
            A[M32_1] = fmaf(m, x, fmaf(c, w * a, A[M32_1]));
            A[M32_2] = fmaf(c, w * a, A[M32_2]);
            B = fmaf(m, x, B);
            u = m * (float)n;
            A[M32_3] = fmaf(fmaf(c, w, u), a, A[M32_3]);
            A[H16_1] = fmaf((float)c1, w1 * a, fmaf((float)c0, w0 * a, A[H16_1]));
            u = (float)c0 * w0;
            A[H16_2] = fmaf(fmaf((float)c1, w1, u), a, A[H16_2]);
            u = (float)c0 * sc0;
            A[H16_3] = fmaf(fmaf((float)c1, sc1, u), d * a, A[H16_3]);
        }
        A[M32_2] += B;
        for (int f = 0; f < FORMS; f++) {
            double e = fabs(A[f] - exact[f / 3]) / magnitude[f / 3] * 0x1p24;
            worst[f] = e > worst[f] ? e : worst[f];
            mean[f] += e / TRIALS;
        }
    }
}

static void measure(const char *level, run_fn *const run[FORMS], int panels, int tokens, int repetitions, const chunk *w,
                    const slab *s, float (*acc)[PANELS][16], float (*acc2)[PANELS][16], const double worst[FORMS],
                    const double mean[FORMS])
{
    static double rate[FORMS][REPEATS_MAX], ratio[FORMS][REPEATS_MAX];
    int inner = tokens >= 4 ? 40 : 8000;
    double ops = 2.0 * 16 * panels * 256 * (tokens >= 4 ? tokens : 1) * inner;
    for (int r = 0; r < repetitions; r++) {
        for (int f = 0; f < FORMS; f++) {
            memset(acc, 0, sizeof(float) * TOKENS * PANELS * 16);
            memset(acc2, 0, sizeof(float) * TOKENS * PANELS * 16);
            double start = now();
            for (int i = 0; i < inner; i++)
                run[f](w, s, acc, acc2, tokens);
            rate[f][r] = ops / (now() - start) * 1e-9;
        }
        for (int f = 0; f < FORMS; f++)
            ratio[f][r] = rate[f][r] / rate[f / 3 * 3][r];
    }
    for (int f = 0; f < FORMS; f++) {
        qsort(rate[f], (size_t)repetitions, sizeof(double), ascending);
        qsort(ratio[f], (size_t)repetitions, sizeof(double), ascending);
        printf("%-10s %-4s %-72s %7.1f %7.1f %6.3f %6.2f %6.3f\n", level, tokens >= 4 ? "tile" : "one", form_text[f],
               rate[f][repetitions / 2], rate[f][repetitions - 1], ratio[f][repetitions / 2], worst[f], mean[f]);
    }
}

int main(int count, char **arguments)
{
    int repetitions = count > 1 ? atoi(arguments[1]) : 9;
    if (repetitions < 1 || repetitions > REPEATS_MAX)
        repetitions = 9;
    chunk *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    slab *s = aligned_alloc(64, TOKENS * sizeof *s);
    float(*acc)[PANELS][16] = aligned_alloc(64, sizeof(float) * TOKENS * PANELS * 16);
    float(*acc2)[PANELS][16] = aligned_alloc(64, sizeof(float) * TOKENS * PANELS * 16);
    if (!w || !s || !acc || !acc2)
        return 1;
    for (size_t i = 0; i < sizeof w->code; i++)
        ((uint8_t *)w->code)[i] = (uint8_t)(random32() % 16);
    for (size_t i = 0; i < (sizeof *w - sizeof w->code) / sizeof(float); i++)
        ((float *)w->w)[i] = uniform() * 0.01f;
    for (int t = 0; t < TOKENS; t++)
        for (int b = 0; b < 8; b++) {
            int sum[2] = {0, 0};
            for (int e = 0; e < 32; e++) {
                s[t].code[32 * b + e] = (int8_t)((int)(random32() % 255) - 127);
                sum[e / 16] += s[t].code[32 * b + e];
            }
            s[t].a[b] = 0.01f;
            s[t].sum[b] = sum[0] + sum[1];
            s[t].x[b] = 0.01f * (float)s[t].sum[b];
            s[t].half[2 * b] = (int16_t)sum[0];
            s[t].half[2 * b + 1] = (int16_t)sum[1];
        }
    double worst[FORMS] = {0}, mean[FORMS] = {0};
    errors(worst, mean);
    printf("GOP/s of one thread over %d alternating repetitions\n%-10s %-4s %-72s %7s %7s %6s %6s %6s\n", repetitions,
           "level", "what", "form", "median", "best", "ratio", "worst", "mean");
    if (__builtin_cpu_supports("avx512vnni")) {
        measure("avx512vnni", run_z, PANELS, TOKENS, repetitions, w, s, acc, acc2, worst, mean);
        measure("avx512vnni", run_z, PANELS, 1, repetitions, w, s, acc, acc2, worst, mean);
    }
    if (__builtin_cpu_supports("avx2")) {
        measure("avx2", run_y, 1, TOKENS, repetitions, w, s, acc, acc2, worst, mean);
        measure("avx2", run_y, 1, 1, repetitions, w, s, acc, acc2, worst, mean);
    }
    free(w);
    free(s);
    free(acc);
    free(acc2);
    return 0;
}

/* matmul.c - speed of matrix products as a forward pass sees them: many matrices, a pool, any level.
 *
 *     build/bench/matmul TYPE TOKENS [THREADS [ISA [ROWS COLS [MIB]]]]
 *
 * Enough matrices of ROWS x COLS are laid out to fill MIB of source bytes (default
 * 512, far more than any cache) and multiplied one after the other.  Prints the
 * median and the best of nine passes: GOP/s, and GB/s of source bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "kernel/kernel.h"

enum { PASSES = 9, MATRICES_MAX = 4096 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int usage(const char *why)
{
    fprintf(stderr, "matmul: %s\nusage: matmul TYPE TOKENS [THREADS [ISA [ROWS COLS [MIB]]]]\n", why);
    return 2;
}

static uint64_t state = 1;
static uint32_t random32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

int main(int count, char **arguments)
{
    ap_error err = {0};
    if (count < 3)
        return usage("a type and a number of tokens are needed");
    const ap_type_info *info = NULL;
    for (uint32_t id = 0; id < 64 && !info; id++)
        if (ap_type_info_of(id) && strcmp(ap_type_info_of(id)->name, arguments[1]) == 0)
            info = ap_type_info_of(id);
    uint32_t tokens = (uint32_t)atoi(arguments[2]), threads = count > 3 ? (uint32_t)atoi(arguments[3]) : 2;
    uint32_t rows = count > 6 ? (uint32_t)atoi(arguments[5]) : 8192, cols = count > 6 ? (uint32_t)atoi(arguments[6]) : 2048;
    uint64_t mib = count > 7 ? (uint64_t)atoi(arguments[7]) : 512, bytes = 0;
    ap_isa isa = ap_isa_detect();
    ap_kernels kernels;
    if (!info || tokens == 0 || threads == 0)
        return usage("no such type, or a number is 0");
    if ((count > 4 && ap_isa_parse(arguments[4], &isa, &err) != AP_OK) || ap_kernels_get(isa, &kernels, &err) != AP_OK ||
        ap_pack_bytes(info->type, rows, cols, &bytes, &err) != AP_OK)
        return usage(err.message);
    uint64_t source_bytes = ap_row_bytes(info->type, cols) * rows;
    bytes = (bytes + 63) / 64 * 64;
    uint64_t matrices = (mib << 20) / source_bytes;
    matrices = matrices < 1 ? 1 : matrices > MATRICES_MAX ? MATRICES_MAX : matrices;
    unsigned char *panels = mmap(NULL, bytes * matrices, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *x = ap_alloc_aligned(sizeof *x * tokens * cols), *y = ap_alloc_aligned(sizeof *y * tokens * rows);
    void *codes = ap_alloc_aligned(ap_acts_bytes(tokens, cols, 1));
    ap_pool *pool = NULL;
    if (panels == MAP_FAILED || !x || !y || !codes || ap_pool_create(&pool, threads, &err) != AP_OK)
        return usage("out of memory");
    /* Small numbers in every scale: bytes of one repeated f16 read as one whatever the format. */
    for (uint64_t i = 0; i < bytes * matrices; i += 2)
        memcpy(panels + i, &(uint16_t){(uint16_t)(0x1000 | (random32() & 0x0fff))}, 2);
    for (size_t i = 0; i < (size_t)tokens * cols; i++)
        x[i] = (float)(random32() % 2001) * 1e-3f - 1.0f;
    double pass[PASSES];
    for (int p = 0; p < PASSES; p++) {
        uint64_t begin = ap_clock_ns();
        for (uint64_t i = 0; i < matrices; i++) {
            ap_acts acts = {.tokens = tokens, .cols = cols, .planes = 1, .x = x, .x_stride = cols};
            ap_matrix matrix = {info->type, rows, cols, panels + i * bytes};
            ap_acts_set(&acts, &kernels, pool, codes);
            ap_matmul_job job = {&matrix, &acts, y, rows};
            ap_matmul(&kernels, pool, &job, 1);
        }
        pass[p] = (double)(ap_clock_ns() - begin) * 1e-9 / (double)matrices;
    }
    qsort(pass, PASSES, sizeof *pass, ascending);
    double ops = 2.0 * rows * cols * tokens, median = pass[PASSES / 2];
    printf("%-5s %-10s %4u tokens %u threads %ux%u: %7.1f GOP/s (best %7.1f), %6.2f GB/s (best %6.2f)\n", info->name,
           ap_isa_name(isa), tokens, threads, rows, cols, ops / median * 1e-9, ops / pass[0] * 1e-9,
           (double)source_bytes / median * 1e-9, (double)source_bytes / pass[0] * 1e-9);
    ap_pool_destroy(&pool);
    munmap(panels, bytes * matrices);
    ap_free(x);
    ap_free(y);
    ap_free(codes);
    return 0;
}

/* kcheck.c - options, the walk over the levels, crash handler, clock (see kcheck.h).
 *
 *     kcheck [--isa NAME] [--only TEXT] [--seed N] [--bench] [--list]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kcheck.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

static void (*const families[])(kcheck *k) = {
    kcheck_matmul,
    kcheck_vec,
    kcheck_attention,
};

enum { BLOCKS_MAX = 4096, GUARD_FLOATS = 128, FAILURES_SHOWN = 3, TIMES = 9 };

/* What a slot has allocated. */
static struct {
    void *memory;
    float *floats; /* first usable float of a guarded block, else NULL */
    size_t count;
} blocks[BLOCKS_MAX];
static size_t block_count;

static sigjmp_buf recover;
static volatile sig_atomic_t is_protected;

static void on_crash(int number)
{
    if (is_protected)
        siglongjmp(recover, number);
    _exit(3);
}

static void watch_signals(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    static _Alignas(16) char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

static void release_all(void)
{
    for (size_t i = 0; i < block_count; i++)
        ap_free(blocks[i].memory);
    block_count = 0;
}

void kcheck_slot(kcheck *k, kcheck_case c)
{
    if (!c.is_changed || (k->filter && !strstr(c.name, k->filter)))
        return;
    if (k->is_list) {
        printf("%s %s\n", ap_isa_name(k->level.isa), c.name);
        return;
    }
    k->slot = c.name;
    k->failures = 0;
    is_protected = 1;
    int number = sigsetjmp(recover, 1);
    if (number == 0)
        c.check(k, c.variant);
    else
        kcheck_fail(k, "crashed: %s", strsignal(number));
    is_protected = 0;
    release_all();
    if (k->failures)
        k->failed++;
    else
        k->passed++;
    if (!k->is_bench)
        printf("%-4s %-10s %s\n", k->failures ? "FAIL" : "ok", ap_isa_name(k->level.isa), c.name);
    else if (c.bench && !k->failures)
        c.bench(k, c.variant);
    release_all();
    fflush(stdout);
}

static bool count_failure(kcheck *k)
{
    if (k->failures++ >= FAILURES_SHOWN)
        return false;
    printf("%s %s: ", ap_isa_name(k->level.isa), k->slot);
    return true;
}

void kcheck_fail(kcheck *k, const char *format, ...)
{
    if (!count_failure(k))
        return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void kcheck_same_floats(kcheck *k, const float *got, const float *want, size_t count, const char *format, ...)
{
    if (memcmp(got, want, count * sizeof *got) == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        uint32_t a, b;
        memcpy(&a, &got[i], 4);
        memcpy(&b, &want[i], 4);
        if (a == b || (got[i] != got[i] && want[i] != want[i]))
            continue;
        if (!count_failure(k))
            return;
        va_list arguments;
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        printf(": element %zu is %a, plain C has %a\n", i, (double)got[i], (double)want[i]);
        return;
    }
}

void kcheck_same_bytes(kcheck *k, const void *got, const void *want, size_t count, const char *format, ...)
{
    const unsigned char *a = got, *b = want;
    if (memcmp(a, b, count) == 0 || !count_failure(k))
        return;
    size_t i = 0;
    while (a[i] == b[i])
        i++;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(": byte %zu is %d, plain C has %d\n", i, a[i], b[i]);
}

uint32_t kcheck_random(kcheck *k)
{
    uint64_t z = k->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

float kcheck_uniform(kcheck *k) { return (float)((int32_t)(kcheck_random(k) >> 8) - 0x800000) * 0x1p-23f; }

const char *kcheck_kind_name(int kind)
{
    static const char *const names[KCHECK_KINDS] = {"ordinary", "tiny", "huge", "zeros", "one magnitude", "infinities",
                                                    "NaN"};
    return names[kind];
}

void kcheck_fill(kcheck *k, int kind, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float u = kcheck_uniform(k);
        uint32_t dice = kcheck_random(k) % 64;
        switch (kind) {
        case 1: out[i] = u * (dice < 32 ? 0x1p-126f : 0x1p-149f * (float)(1u << dice % 24)); break;
        case 2: out[i] = u * 0x1.fp127f; break;
        case 3: out[i] = dice < 24 ? 0.0f : dice < 48 ? -0.0f : u; break;
        case 4: out[i] = u < 0 ? -3.0f : 3.0f; break;
        case 5: out[i] = dice == 0 ? (u < 0 ? -1.0f : 1.0f) / 0.0f : u; break;
        case 6: out[i] = dice == 0 ? 0.0f / 0.0f : dice == 1 ? 1.0f / 0.0f : u; break;
        default: out[i] = u; break;
        }
    }
}

static void *remember(kcheck *k, size_t bytes, float *floats, size_t count)
{
    void *memory = ap_alloc_aligned(bytes ? bytes : 1);
    if (!memory || block_count == BLOCKS_MAX) {
        fprintf(stderr, "kcheck: out of memory in %s\n", k->slot);
        exit(2);
    }
    blocks[block_count].memory = memory;
    blocks[block_count].floats = floats;
    blocks[block_count++].count = count;
    return memory;
}

void *kcheck_alloc(kcheck *k, size_t bytes) { return remember(k, bytes, NULL, 0); }

static float guard_value(size_t i) { return -12345.0f - (float)i; }

float *kcheck_guarded(kcheck *k, size_t count, size_t shift)
{
    float *base = remember(k, (count + shift + 2 * GUARD_FLOATS) * sizeof(float), NULL, count);
    float *floats = base + GUARD_FLOATS + shift;
    for (size_t i = 0; i < GUARD_FLOATS; i++) {
        floats[-1 - (ptrdiff_t)i] = guard_value(i);
        floats[count + i] = guard_value(i);
    }
    for (size_t i = 0; i < count; i++)
        floats[i] = -777.0f;
    blocks[block_count - 1].floats = floats;
    return floats;
}

void kcheck_guarded_check(kcheck *k)
{
    for (size_t b = 0; b < block_count; b++) {
        const float *floats = blocks[b].floats;
        if (!floats)
            continue;
        for (size_t i = 0; i < GUARD_FLOATS; i++)
            if (floats[-1 - (ptrdiff_t)i] != guard_value(i) || floats[blocks[b].count + i] != guard_value(i)) {
                kcheck_fail(k, "wrote outside its output, about float %zu", i);
                return;
            }
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds per call, over at least three milliseconds. */
static double seconds(kcheck_call *call, const ap_kernels *kernels, void *context)
{
    for (uint64_t turns = 1;; turns *= 4) {
        uint64_t begin = ap_clock_ns();
        for (uint64_t i = 0; i < turns; i++)
            call(kernels, context);
        uint64_t elapsed = ap_clock_ns() - begin;
        if (elapsed > 3000000)
            return (double)elapsed * 1e-9 / (double)turns;
    }
}

void kcheck_time(kcheck *k, const char *what, kcheck_call *call, void *context, double ops, const char *unit)
{
    double level[TIMES], plain[TIMES];
    for (int i = 0; i < TIMES; i++) {
        level[i] = seconds(call, &k->level, context);
        plain[i] = i < 3 ? seconds(call, &k->plain, context) : plain[i - 3];
    }
    qsort(level, TIMES, sizeof *level, ascending);
    qsort(plain, TIMES, sizeof *plain, ascending);
    double median = level[TIMES / 2];
    printf("%-10s %-16s %-34s %9.2f G%s/s  spread %4.1f%%  %7.1f x plain\n", ap_isa_name(k->level.isa), k->slot, what,
           ops / median * 1e-9, unit, (level[TIMES - 1] - level[0]) / median * 100, plain[TIMES / 2] / median);
}

static int misuse(void)
{
    fprintf(stderr, "usage: kcheck [--isa NAME] [--only TEXT] [--seed N] [--bench] [--list]\n");
    return 2;
}

#if AP_KCHECK_EVEX
/* Level avxvnni where only AVX-512 has its instruction. */
static void check_avxvnni_evex(kcheck *k)
{
    kcheck evex = *k;
    if (ap_kernels_get(AP_ISA_AVX512VNNI, &evex.level, NULL) != AP_OK || ap_kernels_get(AP_ISA_AVXVNNI, &evex.level, NULL) == AP_OK ||
        ap_kernels_get(AP_ISA_AVX2, &evex.level, NULL) != AP_OK)
        return;
    evex.below = evex.level;
    evex.level.isa = AP_ISA_AVXVNNI;
    ap_matmul_install_evex(&evex.level);
    kcheck_matmul(&evex);
    k->passed = evex.passed;
    k->failed = evex.failed;
}
#else
static void check_avxvnni_evex(kcheck *k) { (void)k; }
#endif

static void check_level(kcheck *k)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        families[i](k);
}

int main(int count, char **arguments)
{
    kcheck k = {0};
    uint64_t seed = ap_clock_ns();
    const char *isa_name = NULL;
    ap_error err = {0};
    for (int i = 1; i < count; i++) {
        const char *option = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(option, "--bench") == 0)
            k.is_bench = true;
        else if (strcmp(option, "--list") == 0)
            k.is_list = true;
        else if (!value)
            return misuse();
        else if (strcmp(option, "--isa") == 0)
            isa_name = arguments[++i];
        else if (strcmp(option, "--only") == 0)
            k.filter = arguments[++i];
        else if (strcmp(option, "--seed") == 0)
            seed = strtoull(arguments[++i], NULL, 0);
        else
            return misuse();
    }
    k.random = seed;
    printf("seed %llu\n", (unsigned long long)seed);
    if (!ap_float_mode_is_lawful()) {
        printf("the float mode of this thread is not the law's\n");
        return 1;
    }
    watch_signals();
    ap_kernels_get(AP_ISA_PLAIN, &k.plain, NULL);
    k.below = k.plain;
    if (isa_name) {
        ap_isa isa;
        if (ap_isa_parse(isa_name, &isa, &err) != AP_OK || ap_kernels_get(isa, &k.level, &err) != AP_OK) {
            fprintf(stderr, "kcheck: %s\n", err.message);
            return 2;
        }
        check_level(&k);
    } else {
        for (unsigned isa = 1; isa < AP_ISA_COUNT; isa++) {
            if (ap_kernels_get((ap_isa)isa, &k.level, &err) != AP_OK) {
                printf("skip %-10s %s\n", ap_isa_name((ap_isa)isa), err.message);
                continue;
            }
            check_level(&k);
            k.below = k.level;
        }
        check_avxvnni_evex(&k);
    }
    printf("%d passed, %d failed\n", k.passed, k.failed);
    return k.failed != 0;
}

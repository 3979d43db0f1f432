/* kcheck.h - the checker of kernels: every level against plain C, bit for bit.
 *
 * For each level from low to high kcheck takes the real dispatch table.  Each
 * family (kcheck_matmul.c, …) walks its slots and hands over those whose function
 * differs from the level below; kcheck runs the check with a signal handler
 * around it, so a crash is charged to the slot and the rest goes on.  With
 * --bench the same slots are timed, so no kernel has a number without a test.
 *
 * A family adds itself with one line in the list of kcheck.c:
 *
 *     void kcheck_norms(kcheck *k)
 *     {
 *         kcheck_slot(k, (kcheck_case){.name = "rms_norm", .is_changed = k->level.vec.rms_norm != k->below.vec.rms_norm,
 *                                      .check = check_rms_norm, .bench = bench_rms_norm});
 *     }
 *     static void check_rms_norm(kcheck *k, int variant)
 *     {
 *         … k->plain.vec.rms_norm(want, …);  k->level.vec.rms_norm(got, …);
 *         kcheck_same_floats(k, got, want, count, "n %d, inputs %s", n, kind);
 *     }
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_KCHECK_H
#define AP_TESTS_KCHECK_H

#include "kernel/kernel.h"

typedef struct kcheck {
    ap_kernels plain, below, level; /* the meaning; the level under this one; the one being checked */
    uint64_t random;                /* state of kcheck_random; the seed is printed */
    bool is_bench, is_list;
    const char *filter;             /* only slots whose name contains this; NULL: all */
    const char *slot;               /* the one that runs now, for the signal handler */
    int failures;                   /* in this slot; only the first few are printed */
    int passed, failed;
} kcheck;

typedef struct kcheck_case {
    const char *name;
    int variant;     /* handed to the functions: a type, a size */
    bool is_changed; /* does this level have its own function here? */
    void (*check)(kcheck *k, int variant);
    void (*bench)(kcheck *k, int variant); /* NULL: not timed */
} kcheck_case;

void kcheck_slot(kcheck *k, kcheck_case c);

/* Compare bits; any NaN equals any NaN in the float form.  The rest describes the inputs. */
void kcheck_same_floats(kcheck *k, const float *got, const float *want, size_t count, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void kcheck_same_bytes(kcheck *k, const void *got, const void *want, size_t count, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void kcheck_fail(kcheck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint32_t kcheck_random(kcheck *k);
/* In [-1, 1). */
float kcheck_uniform(kcheck *k);
/* Floats of one of AP_KCHECK_KINDS: ordinary, tiny (subnormals among them), huge,
 * with zeros of both signs, all of one magnitude (worst case for codes), with
 * infinities, with NaN. */
enum { KCHECK_KINDS = 7, KCHECK_KINDS_FINITE = 5 };
const char *kcheck_kind_name(int kind);
void kcheck_fill(kcheck *k, int kind, float *out, size_t count);

/* Memory of `count` floats between guards, `shift` floats off a 64-byte boundary; kcheck_guarded_check
 * fails the slot if a guard was written.  kcheck_alloc: plain aligned memory.  All of it is
 * freed when the slot ends, also after a crash. */
float *kcheck_guarded(kcheck *k, size_t count, size_t shift);
void kcheck_guarded_check(kcheck *k);
void *kcheck_alloc(kcheck *k, size_t bytes);

/* Times call(kernels, context) with the plain table and with this level's, in turn; prints median, spread and
 * speed-up.  `ops` is the work of a call, in units of `unit` (giga is understood). */
typedef void kcheck_call(const ap_kernels *kernels, void *context);
void kcheck_time(kcheck *k, const char *what, kcheck_call *call, void *context, double ops, const char *unit);

/* The families. */
void kcheck_matmul(kcheck *k);
void kcheck_vec(kcheck *k);
void kcheck_attention(kcheck *k);

/* The products of avxvnni with the instruction as AVX-512 encodes it (x86-64 alone). */
void ap_matmul_install_evex(ap_kernels *kernels);

#endif

/* kernel.h - the arithmetic, as a table of functions for one level of CPU.
 *
 * A level is a named bundle of instructions.  Every level computes the same bits
 * (docs/law.md): plain C is the meaning, the others are how fast it runs.  The
 * table is filled with plain C first and then overwritten level by level, so a
 * level may lack an operation and still be whole.
 *
 *     ap_isa isa = ap_isa_detect();                 // or ap_isa_parse("avx2", &isa, err)
 *     AP_TRY(ap_kernels_get(isa, &kernels, err));   // refuses what this CPU lacks, by name
 *     kernels.matmul.quantize(...);
 *
 * The table is the caller's, filled once before threads start and const after
 * that.  Operations come in families, each with its own header (matmul.h, …) that
 * holds one function type per operation; nothing in them knows a CPU.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_KERNEL_H
#define AP_KERNEL_KERNEL_H

#include "base/error.h"
#include "kernel/attention.h"
#include "kernel/ceiling.h"
#include "kernel/elementary.h"
#include "kernel/matmul.h"
#include "kernel/vec.h"

/* X(NAME, text); --isa takes the text. */
#define AP_ISA_LIST(X)           \
    X(PLAIN, "plain")            \
    X(AVX2, "avx2")              \
    X(AVXVNNI, "avxvnni")        \
    X(AVX512, "avx512")          \
    X(AVX512VNNI, "avx512vnni")  \
    X(NEON, "neon")              \
    X(DOTPROD, "dotprod")        \
    X(I8MM, "i8mm")

typedef enum ap_isa {
#define X(name, text) AP_ISA_##name,
    AP_ISA_LIST(X)
#undef X
    AP_ISA_COUNT
} ap_isa;

typedef struct ap_kernels {
    ap_isa isa;
    ap_matmul_ops matmul;
    ap_vec_ops vec;
    ap_attention_ops attention;
    ap_ceiling_ops ceiling;
} ap_kernels;

const char *ap_isa_name(ap_isa isa);
/* AP_E_ARG for a name that is no level; does not ask whether this CPU has it. */
ap_status ap_isa_parse(const char *name, ap_isa *out, ap_error *err);
/* The best level that is built in and that this CPU has. */
ap_isa ap_isa_detect(void);
/* AP_E_UNSUPPORTED for a level not built in, or that this CPU lacks; says which. */
ap_status ap_kernels_get(ap_isa isa, ap_kernels *out, ap_error *err);
/* Rounds this thread to nearest, with subnormals kept, as the law demands?  Each thread asks once at start. */
bool ap_float_mode_is_lawful(void);

#endif

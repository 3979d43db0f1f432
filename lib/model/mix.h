/* mix.h - which tensor gets which type when a model is quantised.
 *
 * A mix has a type for most matrices and better ones where an error costs more: the output, and in some layers
 * the values and the matrix that ends the MLP.  The mixes and their names are those of the files
 * people exchange, so sizes compare.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_MIX_H
#define AP_MODEL_MIX_H

#include "base/str.h"
#include "format/gguf.h"
#include "format/type.h"

typedef struct ap_mix ap_mix;

/* NULL if there is none of that name; ap_mix_names has them all with a comma between. */
const ap_mix *ap_mix_find(const char *name);
const char *ap_mix_names(void);
/* The number that files carry as general.file_type. */
uint32_t ap_mix_file_type(const ap_mix *mix);

typedef struct ap_mix_model {
    uint32_t layer_count;
    uint32_t heads_per_kv;
    bool is_tied; /* the embedding is the output as well */
    bool has_importance;
} ap_mix_model;

/* The type for a tensor of `rows` times `columns` (rows 0 or 1: a vector) by its GGUF name; `given` is its type in the
 * source, and the answer where the mix leaves it alone (vectors, norms, routers, positions).  *asked is what the mix has for
 * it; the answer is another where such blocks do not divide its rows. */
ap_type ap_mix_choose(const ap_mix *mix, const ap_mix_model *model, ap_str name, uint64_t columns, uint64_t rows,
                      ap_type given, ap_type *asked);

enum { AP_TYPE_ROOM = 64 }; /* types have lower numbers */

/* What a model is called by the bytes that its matrices have in each type: as general.file_type says ("Q4_K_M") if it has matrices
 * of that kind, else the type of most bytes. */
const char *ap_quantization_name(const ap_gguf *keys, const uint64_t type_bytes[AP_TYPE_ROOM]);
/* Appends a sentence if such a name stands for another type than that of most bytes. */
void ap_quantization_note(char *to, size_t room, const char *name, const uint64_t type_bytes[AP_TYPE_ROOM]);
/* Appends "12 in Q4_0, 3 in Q6_K". */
void ap_type_counts_add(char *to, size_t room, const uint32_t counts[AP_TYPE_ROOM]);

#endif

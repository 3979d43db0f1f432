/* SPDX-License-Identifier: Apache-2.0 */
#include "model/mix.h"

#include <stddef.h>
#include <string.h>

struct ap_mix {
    uint32_t file_type; /* what files carry as general.file_type */
    const char *name;
    ap_type most, output;
    ap_type better; /* of values and of the MLP's last matrix, in the layers of `wins`; 0 (F32): as most */
    ap_type fused;  /* q, k and v in one; F32: as most */
    enum { NOT_WRITTEN, WINS_NONE, WINS_ENDS_AND_THIRDS, WINS_FIRST_EIGHTH } wins;
};

static const ap_mix mixes[] = {
    {0, "F32", AP_TYPE_F32, AP_TYPE_F32, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {1, "F16", AP_TYPE_F16, AP_TYPE_F16, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {32, "BF16", AP_TYPE_BF16, AP_TYPE_BF16, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {7, "Q8_0", AP_TYPE_Q8_0, AP_TYPE_Q8_0, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {18, "Q6_K", AP_TYPE_Q6_K, AP_TYPE_Q6_K, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {17, "Q5_K_M", AP_TYPE_Q5_K, AP_TYPE_Q6_K, AP_TYPE_Q6_K, AP_TYPE_Q6_K, WINS_ENDS_AND_THIRDS},
    {15, "Q4_K_M", AP_TYPE_Q4_K, AP_TYPE_Q6_K, AP_TYPE_Q6_K, AP_TYPE_Q5_K, WINS_ENDS_AND_THIRDS},
    {2, "Q4_0", AP_TYPE_Q4_0, AP_TYPE_Q6_K, AP_TYPE_F32, AP_TYPE_F32, WINS_NONE},
    {30, "IQ4_XS", AP_TYPE_IQ4_XS, AP_TYPE_Q6_K, AP_TYPE_Q5_K, AP_TYPE_F32, WINS_FIRST_EIGHTH},
    /* Only known by name: */
    {3, "Q4_1", AP_TYPE_Q4_1},
    {8, "Q5_0", AP_TYPE_Q5_0},
    {9, "Q5_1", AP_TYPE_Q5_1},
    {10, "Q2_K", AP_TYPE_Q2_K},
    {11, "Q3_K_S", AP_TYPE_Q3_K},
    {12, "Q3_K_M", AP_TYPE_Q3_K},
    {13, "Q3_K_L", AP_TYPE_Q3_K},
    {14, "Q4_K_S", AP_TYPE_Q4_K},
    {16, "Q5_K_S", AP_TYPE_Q5_K},
    {21, "Q2_K_S", AP_TYPE_Q2_K},
    {25, "IQ4_NL", AP_TYPE_IQ4_NL},
    {38, "MXFP4", AP_TYPE_MXFP4},
};
enum { MIXES = sizeof mixes / sizeof mixes[0] };

const ap_mix *ap_mix_find(const char *name)
{
    for (size_t i = 0; i < MIXES; i++)
        if (mixes[i].wins != NOT_WRITTEN && strcmp(mixes[i].name, name) == 0)
            return &mixes[i];
    return NULL;
}

const char *ap_mix_names(void) { return "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_XS"; }

uint32_t ap_mix_file_type(const ap_mix *mix) { return mix->file_type; }

/* "blk.12.attn_v.weight": *layer is 12 and the rest "attn_v.weight"; without "blk." the name itself. */
static const char *in_layer(const char *name, uint32_t *layer)
{
    *layer = 0;
    if (strncmp(name, "blk.", 4) != 0)
        return name;
    const char *p = name + 4;
    for (; *p >= '0' && *p <= '9'; p++)
        *layer = *layer * 10 + (uint32_t)(*p - '0');
    return *p == '.' ? p + 1 : name;
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), wanted = strlen(end);
    return length >= wanted && strcmp(name + length - wanted, end) == 0;
}

/* The first eighth, the last eighth, and every third layer between. */
static bool is_end_or_third(uint32_t layer, uint32_t count)
{
    return layer < count / 8 || layer >= 7 * count / 8 || (layer - count / 8) % 3 == 2;
}

static ap_type wanted(const ap_mix *mix, const ap_mix_model *m, const char *name)
{
    uint32_t layer;
    const char *kind = in_layer(name, &layer);
    ap_type better = mix->better == AP_TYPE_F32 ? mix->most : mix->better;
    if (strcmp(name, "output.weight") == 0 || (m->is_tied && strcmp(name, "token_embd.weight") == 0))
        return mix->output;
    bool is_value = strncmp(kind, "attn_v.", 7) == 0, is_down = strncmp(kind, "ffn_down", 8) == 0;
    if (strncmp(kind, "attn_qkv.", 9) == 0)
        return mix->fused == AP_TYPE_F32 ? mix->most : mix->fused;
    if (mix->wins == WINS_ENDS_AND_THIRDS && (is_value || is_down) && is_end_or_third(layer, m->layer_count))
        return better;
    if (mix->wins == WINS_FIRST_EIGHTH && is_value && m->heads_per_kv >= 4)
        return better;
    if (mix->wins == WINS_FIRST_EIGHTH && is_down && layer < m->layer_count / 8 && !m->has_importance)
        return better;
    return mix->most;
}

/* What comes nearest to a type of 256 columns in blocks of 32; any other type itself. */
static ap_type in_small_blocks(ap_type type)
{
    switch (type) {
    case AP_TYPE_Q4_K: return AP_TYPE_Q5_0;
    case AP_TYPE_Q5_K: return AP_TYPE_Q5_1;
    case AP_TYPE_Q6_K: return AP_TYPE_Q8_0;
    case AP_TYPE_IQ4_XS: return AP_TYPE_IQ4_NL;
    default: return type;
    }
}

/* The same for rows that are no whole blocks. */
static ap_type fitting(ap_type type, uint64_t columns)
{
    if (columns % 256 != 0)
        type = in_small_blocks(type);
    bool is_float = type == AP_TYPE_F32 || type == AP_TYPE_F16 || type == AP_TYPE_BF16;
    return columns % 32 != 0 && !is_float ? AP_TYPE_F16 : type;
}

ap_type ap_mix_choose(const ap_mix *mix, const ap_mix_model *model, ap_str name, uint64_t columns, uint64_t rows,
                      ap_type given, ap_type *asked)
{
    char text[64];
    size_t length = name.len < sizeof text - 1 ? name.len : sizeof text - 1;
    memcpy(text, name.ptr, length);
    text[length] = 0;
    uint32_t layer;
    const char *kind = in_layer(text, &layer);
    bool is_left = rows <= 1 || !ends_with(text, ".weight") || strstr(kind, "_norm") || strncmp(kind, "ffn_gate_inp", 12) == 0 ||
                   strncmp(kind, "position_embd", 13) == 0 || strncmp(kind, "token_types", 11) == 0;
    *asked = is_left ? given : wanted(mix, model, text);
    return is_left ? given : fitting(*asked, columns);
}

static ap_type most_of(const uint64_t type_bytes[AP_TYPE_ROOM])
{
    uint32_t most = 0;
    for (uint32_t i = 1; i < AP_TYPE_ROOM; i++)
        if (type_bytes[i] > type_bytes[most])
            most = i;
    return most;
}

const char *ap_quantization_name(const ap_gguf *keys, const uint64_t type_bytes[AP_TYPE_ROOM])
{
    uint32_t number;
    if (ap_gguf_find(keys, AP_STR("general.file_type")) && ap_gguf_get_u32(keys, "general.file_type", &number, NULL) == AP_OK)
        for (size_t i = 0; i < MIXES; i++)
            if (mixes[i].file_type == number && (type_bytes[mixes[i].most] || type_bytes[in_small_blocks(mixes[i].most)]))
                return mixes[i].name;
    return ap_type_info_of(most_of(type_bytes))->name;
}

void ap_quantization_note(char *to, size_t room, const char *name, const uint64_t type_bytes[AP_TYPE_ROOM])
{
    ap_type most = most_of(type_bytes);
    double total = 0;
    for (uint32_t i = 0; i < AP_TYPE_ROOM; i++)
        total += (double)type_bytes[i];
    for (size_t i = 0; i < MIXES; i++)
        if (strcmp(mixes[i].name, name) == 0 && mixes[i].most != most)
            ap_str_append(to, room, "It is called %s; of the types in it %s has the most bytes (%.0f%%). ", name,
                          ap_type_info_of(most)->name, 100 * (double)type_bytes[most] / total);
}

void ap_type_counts_add(char *to, size_t room, const uint32_t counts[AP_TYPE_ROOM])
{
    const char *before = "";
    for (uint32_t i = 0; i < AP_TYPE_ROOM; i++)
        if (counts[i]) {
            ap_str_append(to, room, "%s%u in %s", before, counts[i], ap_type_info_of(i)->name);
            before = ", ";
        }
}

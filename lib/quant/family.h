/* family.h - one entry per weight type; inside the room only.
 *
 * All work on one block and one lane (row of a panel), which keeps each format's
 * knowledge in three short functions.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_FAMILY_H
#define AP_QUANT_FAMILY_H

#include <stddef.h>

typedef struct ap_quant_family {
    size_t block_elems;
    size_t block_bytes;
    size_t panel_block_bytes; /* the same block of 16 rows; 0: the type is only decoded, pack and unpack are NULL */
    void (*decode)(const unsigned char *block, float *out);
    void (*pack)(const unsigned char *block, unsigned lane, unsigned char *panel);
    void (*unpack)(const unsigned char *panel, unsigned lane, unsigned char *block);
    /* w: the importance of each of the block's columns.  NULL: nothing is quantised to this type. */
    void (*encode)(const float *x, const float *w, unsigned char *block);
} ap_quant_family;

extern const ap_quant_family ap_family_f32, ap_family_f16, ap_family_bf16;
extern const ap_quant_family ap_family_q4_0, ap_family_q4_1, ap_family_q5_0, ap_family_q5_1, ap_family_q8_0;
extern const ap_quant_family ap_family_q4_k, ap_family_q5_k, ap_family_q6_k;
extern const ap_quant_family ap_family_q2_k, ap_family_q3_k, ap_family_q8_k;
extern const ap_quant_family ap_family_iq4_nl, ap_family_iq4_xs, ap_family_mxfp4;
extern const ap_quant_family ap_family_iq1_s, ap_family_iq1_m, ap_family_iq2_xxs, ap_family_iq2_xs, ap_family_iq2_s;
extern const ap_quant_family ap_family_iq3_xxs, ap_family_iq3_s, ap_family_tq1_0, ap_family_tq2_0;

#endif

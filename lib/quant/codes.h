/* codes.h - the codes of one row into and out of a panel; inside the room only.
 *
 * q holds the 32 codes of a block in column order.  What is read out of a panel is
 * joined to q, so that low and high bits of a code can come one after the other.
 * block.h draws where each bit lies.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_CODES_H
#define AP_QUANT_CODES_H

#include <stdint.h>
#include <string.h>

/* The low four bits. */
static inline void ap_nibbles_to_panel(const uint8_t q[32], unsigned lane, uint8_t code[4][64])
{
    for (int e = 0; e < 16; e++)
        code[e / 4][4 * lane + e % 4] = (uint8_t)((q[e] & 15) | (q[e + 16] & 15) << 4);
}

static inline void ap_nibbles_of_panel(const uint8_t code[4][64], unsigned lane, uint8_t q[32])
{
    for (int e = 0; e < 16; e++) {
        q[e] = (uint8_t)(q[e] | (code[e / 4][4 * lane + e % 4] & 15));
        q[e + 16] = (uint8_t)(q[e + 16] | code[e / 4][4 * lane + e % 4] >> 4);
    }
}

/* The same where a file has the nibbles in the panel's order already. */
static inline void ap_nibbles_pack(const uint8_t qs[16], unsigned lane, uint8_t code[4][64])
{
    for (int v = 0; v < 4; v++)
        memcpy(&code[v][4 * lane], &qs[4 * v], 4);
}

static inline void ap_nibbles_unpack(const uint8_t code[4][64], unsigned lane, uint8_t qs[16])
{
    for (int v = 0; v < 4; v++)
        memcpy(&qs[4 * v], &code[v][4 * lane], 4);
}

/* The bit at `shift`. */
static inline void ap_bit_to_panel(const uint8_t q[32], int shift, unsigned lane, uint8_t high[64])
{
    for (int c = 0; c < 4; c++) {
        int byte = 0;
        for (int g = 0; g < 8; g++)
            byte |= (q[4 * g + c] >> shift & 1) << g;
        high[4 * lane + c] = (uint8_t)byte;
    }
}

static inline void ap_bit_of_panel(const uint8_t high[64], int shift, unsigned lane, uint8_t q[32])
{
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)(q[e] | (high[4 * lane + e % 4] >> e / 4 & 1) << shift);
}

/* The two bits at `shift`. */
static inline void ap_pair_to_panel(const uint8_t q[32], int shift, unsigned lane, uint8_t pairs[2][64])
{
    for (int h = 0; h < 2; h++)
        for (int c = 0; c < 4; c++) {
            int byte = 0;
            for (int j = 0; j < 4; j++)
                byte |= (q[4 * (4 * h + j) + c] >> shift & 3) << 2 * j;
            pairs[h][4 * lane + c] = (uint8_t)byte;
        }
}

static inline void ap_pair_of_panel(const uint8_t pairs[2][64], int shift, unsigned lane, uint8_t q[32])
{
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)(q[e] | (pairs[e / 16][4 * lane + e % 4] >> 2 * (e / 4 % 4) & 3) << shift);
}

#endif

/* encode.h - fitting codes and scales to weights; inside the room only.
 *
 * All of it minimises sum of w (x - s q)^2, or of w (x - s q + m)^2, where w is the importance of a column: with
 * the mean square of the inputs as w that sum is the mean square error of the output.  Given codes, the
 * best scale is a quotient of sums; given a scale, the best code is the nearest; many starting scales are tried, and from
 * the best of them the two steps alternate.  Plain C and fixed order: the same bytes everywhere.
 *
 * The importances are taken as they are.  Giving large weights more (times the root of 1 + x^2 / mean square of the row, as
 * is often done) was tried and lost: 5% more divergence at 4 bits (tests/golden/quantise_results.md).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_ENCODE_H
#define AP_QUANT_ENCODE_H

#include <stdint.h>

/* The values a code can stand for, ascending. */
typedef struct ap_levels {
    const int8_t *table; /* NULL: all integers from low to high */
    int low, high;       /* with a table: indices 0 and count - 1 */
} ap_levels;

extern const ap_levels ap_levels_4, ap_levels_5, ap_levels_6, ap_levels_8, ap_levels_iq4;

/* The code (index into the table, or the integer) whose value is nearest to x; NaN gives low. */
int ap_level_nearest(const ap_levels *levels, float x);
float ap_level_value(const ap_levels *levels, int code);

/* The scale s, of either sign, that fits n values best; 0 when all are 0. */
float ap_fit_scale(const ap_levels *levels, const float *x, const float *w, int n);
/* Scale s >= 0 and minimum m >= 0 for codes 0 to top: x is near s q - m. */
void ap_fit_scale_min(int top, const float *x, const float *w, int n, float *scale, float *min);

/* A super block of 256 columns: groups of `size` columns, each with an integer scale from scale_low to scale_high under
 * one f16: x is near d scale q.  codes are ap_level_nearest's. */
void ap_fit_super(const ap_levels *levels, int size, int scale_low, int scale_high, const float *x, const float *w,
                  uint16_t *d, int *scale, int *code);
/* Eight groups of 32 columns with scales and minima of 6 bits under two f16: x is near d scale q - dmin min. */
void ap_fit_super_min(int top, const float *x, const float *w, uint16_t *d, uint16_t *dmin, uint8_t scale[8],
                      uint8_t min[8], uint8_t code[256]);
/* An f16 that is finite whatever the scale is. */
uint16_t ap_scale_f16(float scale);

#endif

/* half.h - the two 16-bit float formats as floats and back, and an 8-bit exponent, in plain C.
 *
 * Exact from 16 to 32 bits (subnormals included); to 16 bits round to nearest
 * even, as the hardware instructions do, so any level may use those instead.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_HALF_H
#define AP_QUANT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ap_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t ap_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float ap_f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t rest = (uint32_t)(half & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) /* infinity or NaN: the exponent field becomes all ones */
        return ap_float_of_bits(sign | (rest + 0x70000000u));
    if (rest >= 0x00800000u)
        return ap_float_of_bits(sign | (rest + 0x38000000u));
    /* Subnormal: an integer count of 2^-24, exact in f32. */
    return ap_float_of_bits(sign | ap_bits_of_float((float)(half & 0x7fffu) * 0x1p-24f));
}

static inline uint16_t ap_f16_of_f32(float value)
{
    uint32_t bits = ap_bits_of_float(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x47800000u) /* 65536 and above; 65520 to 65536 round up below */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) {
        /* Below 2^-14: adding 0.5 makes the unit in the last place 2^-24, so the
         * addition itself rounds to nearest even. */
        float shifted = ap_float_of_bits(rest) + 0.5f;
        return (uint16_t)(sign | (ap_bits_of_float(shifted) - 0x3f000000u));
    }
    rest += 0x0fffu + (rest >> 13 & 1u);
    return (uint16_t)(sign | (rest - 0x38000000u) >> 13);
}

static inline float ap_f32_of_bf16(uint16_t half) { return ap_float_of_bits((uint32_t)half << 16); }

/* 2^(e - 128): half of what the 8-bit exponent of the microscaling formats stands for; subnormal below e = 2. */
static inline float ap_f32_of_e8m0_half(uint8_t e)
{
    return ap_float_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static inline uint16_t ap_bf16_of_f32(float value)
{
    uint32_t bits = ap_bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif

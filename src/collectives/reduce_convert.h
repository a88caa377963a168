/* Conversions between f32 and the floats of 16 and 8 bits, without branches, so that loops over them
 * vectorise. Rounding is to nearest even; they use no denormal f32 operand, so that a thread's
 * flush-to-zero mode does not matter. */
#ifndef WEFT_REDUCE_CONVERT_H
#define WEFT_REDUCE_CONVERT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define WEFT_ALWAYS_INLINE static inline __attribute__((always_inline))

WEFT_ALWAYS_INLINE float weft_bits_to_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

WEFT_ALWAYS_INLINE uint32_t weft_float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* A float format with a sign bit, `exponent` and `mantissa` bits. `finite` (e4m3): no infinities, NaN is
 * only the code of all ones; else as IEEE 754 has it. */
typedef struct weft_small_float {
    unsigned exponent;
    unsigned mantissa;
    bool finite;
} weft_small_float;

#define WEFT_FORMAT_F16 ((weft_small_float){ 5, 10, false })
#define WEFT_FORMAT_F8E4M3 ((weft_small_float){ 4, 3, true })
#define WEFT_FORMAT_F8E5M2 ((weft_small_float){ 5, 2, false })

WEFT_ALWAYS_INLINE float weft_small_widen(uint32_t code, weft_small_float format)
{
    const unsigned bits = format.exponent + format.mantissa;
    const unsigned bias = (1u << (format.exponent - 1)) - 1;
    const unsigned shift = 23 - format.mantissa;
    const uint32_t sign = (code >> bits & 1) << 31;
    const uint32_t magnitude = code & ((1u << bits) - 1);
    const uint32_t first_normal = 1u << format.mantissa;
    const uint32_t first_special =
        format.finite ? (1u << bits) - 1 : ((1u << format.exponent) - 1) << format.mantissa;
    /* 2^(1 - bias - mantissa): the value of the smallest denormal. */
    const float quantum = weft_bits_to_float((127 + 1 - bias - format.mantissa) << 23);

    uint32_t normal = (magnitude << shift) + ((127 - bias) << 23);
    uint32_t denormal = weft_float_to_bits((float)(int32_t)magnitude * quantum);
    uint32_t special = magnitude << shift | 0x7f800000;
    uint32_t value = magnitude < first_normal ? denormal : normal;
    value = magnitude >= first_special ? special : value;
    return weft_bits_to_float(value | sign);
}

WEFT_ALWAYS_INLINE uint32_t weft_small_narrow(float value, weft_small_float format)
{
    const unsigned bits = format.exponent + format.mantissa;
    const unsigned bias = (1u << (format.exponent - 1)) - 1;
    const unsigned shift = 23 - format.mantissa;
    const uint32_t smallest_normal = (127 + 1 - bias) << 23;
    /* Where rounding ends: infinity, or e4m3's NaN. */
    const uint32_t overflow =
        format.finite ? (1u << bits) - 1 : ((1u << format.exponent) - 1) << format.mantissa;
    /* A float whose last place is the format's smallest denormal: adding it rounds there. */
    const uint32_t magic = (127 + 1 - bias - format.mantissa + 23) << 23;

    const uint32_t input = weft_float_to_bits(value);
    const uint32_t sign = (input >> 31) << bits;
    const uint32_t magnitude = input & 0x7fffffff;
    uint32_t half_below = (1u << (shift - 1)) - 1 + (magnitude >> shift & 1);
    uint32_t normal = ((magnitude + half_below) >> shift) - ((127 - bias) << format.mantissa);
    uint32_t denormal = weft_float_to_bits(weft_bits_to_float(magnitude) + weft_bits_to_float(magic)) - magic;
    uint32_t nan =
        overflow | 1u << (format.mantissa - 1) | (magnitude >> shift & ((1u << format.mantissa) - 1));
    uint32_t code = magnitude < smallest_normal ? denormal : normal;
    code = code < overflow ? code : overflow;
    code = magnitude > 0x7f800000 ? nan : code;
    return code | sign;
}

WEFT_ALWAYS_INLINE float weft_bf16_widen(uint32_t code)
{
    return weft_bits_to_float(code << 16);
}

/* By integers: the processors' own instruction flushes denormals. */
WEFT_ALWAYS_INLINE uint32_t weft_bf16_narrow(float value)
{
    const uint32_t bits = weft_float_to_bits(value);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t nan = bits >> 16 | 0x40;
    return (bits & 0x7fffffff) > 0x7f800000 ? nan : rounded;
}

#endif

/* Part of reduce_body.h: floats of 16 and 8 bits. Blocks are widened to f32, combined by the f32 kernels
 * and narrowed once; the block stays in L1, so that the detour costs less than the conversions. bf16 has
 * loops of its own, that use no detour. */
#ifndef WEFT_REDUCE_SMALL_H
#define WEFT_REDUCE_SMALL_H

#include "collectives/reduce_loops.h"

#if defined(REDUCE_HAS_F16C)
#include <immintrin.h>
#elif defined(REDUCE_HAS_NEON)
#include <arm_neon.h>
#endif
/* Conversions of f16 by one instruction. */
#if defined(REDUCE_HAS_F16C) || defined(REDUCE_HAS_NEON)
#define REDUCE_HAS_F16 1
#endif

static void widen_f16(float *wide, const void *source, size_t count)
{
    const any_u16 *s = source;
    size_t i = 0;
#if defined(REDUCE_HAS_AVX512)
    for (; i + 16 <= count; i += 16)
        _mm512_storeu_ps(wide + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(s + i))));
#endif
#if defined(REDUCE_HAS_F16C)
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(wide + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(s + i))));
#elif defined(REDUCE_HAS_NEON)
    for (; i + 4 <= count; i += 4)
        vst1q_f32(wide + i, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(s + i)))));
#endif
    for (; i < count; i++)
        wide[i] = weft_small_widen(s[i], WEFT_FORMAT_F16);
}

static void narrow_f16(void *dst, const float *wide, size_t count)
{
    any_u16 *d = dst;
    size_t i = 0;
#if defined(REDUCE_HAS_AVX512)
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i_u *)(d + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(wide + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(REDUCE_HAS_F16C)
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i_u *)(d + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(wide + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(REDUCE_HAS_NEON)
    for (; i + 4 <= count; i += 4)
        vst1_u8((uint8_t *)(d + i), vreinterpret_u8_f16(vcvt_f16_f32(vld1q_f32(wide + i))));
#endif
    for (; i < count; i++)
        d[i] = (uint16_t)weft_small_narrow(wide[i], WEFT_FORMAT_F16);
}

static void widen_bf16(float *wide, const void *source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        wide[i] = weft_bf16_widen(((const any_u16 *)source)[i]);
}

static void narrow_bf16(void *dst, const float *wide, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((any_u16 *)dst)[i] = (uint16_t)weft_bf16_narrow(wide[i]);
}

/* Where f16 is widened by one instruction, f8 goes that way: e5m2 is the upper half of f16, e4m3 is f16
 * with the exponent off by 8, both exactly. */
static void widen_f8e5m2(float *wide, const void *source, size_t count)
{
    const any_u8 *s = source;
#if defined(REDUCE_HAS_F16)
    uint16_t half[BLOCK_ELEMENTS] __attribute__((aligned(64)));
    half[0] = 0; /* count is never 0, which not every compiler sees */
    for (size_t i = 0; i < count; i++)
        half[i] = (uint16_t)(s[i] << 8);
    widen_f16(wide, half, count);
#else
    for (size_t i = 0; i < count; i++)
        wide[i] = weft_small_widen(s[i], WEFT_FORMAT_F8E5M2);
#endif
}

static void widen_f8e4m3(float *wide, const void *source, size_t count)
{
    const any_u8 *s = source;
#if defined(REDUCE_HAS_F16)
    enum { F16_NAN = 0x7e00 };
    uint16_t half[BLOCK_ELEMENTS] __attribute__((aligned(64)));
    half[0] = 0; /* as above */
    for (size_t i = 0; i < count; i++) {
        uint16_t magnitude = s[i] & 0x7f;
        uint16_t moved = magnitude == 0x7f ? F16_NAN : (uint16_t)(magnitude << 7);
        half[i] = (uint16_t)(moved | (s[i] & 0x80) << 8);
    }
    widen_f16(wide, half, count);
    for (size_t i = 0; i < count; i++)
        wide[i] *= 256.0f;
#else
    for (size_t i = 0; i < count; i++)
        wide[i] = weft_small_widen(s[i], WEFT_FORMAT_F8E4M3);
#endif
}

static void narrow_f8e4m3(void *dst, const float *wide, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((any_u8 *)dst)[i] = (uint8_t)weft_small_narrow(wide[i], WEFT_FORMAT_F8E4M3);
}

static void narrow_f8e5m2(void *dst, const float *wide, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((any_u8 *)dst)[i] = (uint8_t)weft_small_narrow(wide[i], WEFT_FORMAT_F8E5M2);
}

WEFT_ALWAYS_INLINE void widen(weft_type type, float *wide, const void *source, size_t count)
{
    switch (type) {
    case WEFT_F16: widen_f16(wide, source, count); break;
    case WEFT_BF16: widen_bf16(wide, source, count); break;
    case WEFT_F8E4M3: widen_f8e4m3(wide, source, count); break;
    default: widen_f8e5m2(wide, source, count);
    }
}

WEFT_ALWAYS_INLINE void narrow(weft_type type, void *dst, const float *wide, size_t count)
{
    switch (type) {
    case WEFT_F16: narrow_f16(dst, wide, count); break;
    case WEFT_BF16: narrow_bf16(dst, wide, count); break;
    case WEFT_F8E4M3: narrow_f8e4m3(dst, wide, count); break;
    default: narrow_f8e5m2(dst, wide, count);
    }
}

/* total = combination of one block of all sources, offset_bytes into them. */
WEFT_ALWAYS_INLINE void combine_wide(weft_type type, weft_reduce_kernel kernel, float *total,
                                     const void *const *sources, unsigned n, size_t offset_bytes,
                                     size_t block)
{
    float others[LOOP_SOURCES - 1][BLOCK_ELEMENTS] __attribute__((aligned(64)));
    const void *const wide[LOOP_SOURCES] = { total, others[0], others[1], others[2] };

    widen(type, total, (const char *)sources[0] + offset_bytes, block);
    for (unsigned k = 1; k < n;) {
        unsigned used = 1;
        for (; used < LOOP_SOURCES && k < n; used++, k++)
            widen(type, others[used - 1], (const char *)sources[k] + offset_bytes, block);
        kernel(total, wide, used, block);
    }
}

/* kernel: that of f32. divisor: of averages, else 1. */
WEFT_ALWAYS_INLINE void reduce_small(weft_type type, weft_reduce_kernel kernel, void *dst,
                                     const void *const *sources, unsigned n, size_t count, int divisor)
{
    const size_t bytes = element_bytes(type);
    float total[BLOCK_ELEMENTS] __attribute__((aligned(64)));

    if (n == 1 && divisor == 1) {
        weft_copy(dst, sources[0], count * bytes);
        return;
    }
    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        combine_wide(type, kernel, total, sources, n, done * bytes, block);
        if (divisor != 1)
            divide(WEFT_F32, total, block, divisor);
        narrow(type, (char *)dst + done * bytes, total, block);
    }
}

WEFT_ALWAYS_INLINE void premultiply_small(weft_type type, void *dst, const void *src, size_t count,
                                          const void *factor)
{
    const size_t bytes = element_bytes(type);
    float block_values[BLOCK_ELEMENTS] __attribute__((aligned(64)));
    float wide_factor;

    widen(type, &wide_factor, factor, 1);
    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        widen(type, block_values, (const char *)src + done * bytes, block);
        for (size_t i = 0; i < block; i++)
            block_values[i] *= wide_factor;
        narrow(type, (char *)dst + done * bytes, block_values, block);
    }
}

/* f32 bits whose upper half is the rounded bf16. */
WEFT_ALWAYS_INLINE uint32_t round_to_bf16(float value)
{
    const uint32_t bits = weft_float_to_bits(value);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : rounded;
}

/* Two elements lie in one 32-bit word and each is there with one shift or mask, so that vectors need no
 * shuffles. Which half comes first does not matter. The odd last element is the caller's. */
WEFT_ALWAYS_INLINE void combine_bf16_pairs(weft_builtin_op op, void *dst, const void *const *sources,
                                           unsigned n, size_t pairs)
{
    any_u32 *d = dst;
    const any_u32 *a = sources[0];
    const any_u32 *rest[3] = { sources[1], n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < pairs; i++) {
        float low = weft_bits_to_float(a[i] << 16);
        float high = weft_bits_to_float(a[i] & 0xffff0000);
        for (unsigned k = 1; k < n; k++) {
            low = combine_two_f32(op, low, weft_bits_to_float(rest[k - 1][i] << 16));
            high = combine_two_f32(op, high, weft_bits_to_float(rest[k - 1][i] & 0xffff0000));
        }
        d[i] = round_to_bf16(low) >> 16 | (round_to_bf16(high) & 0xffff0000);
    }
}

WEFT_ALWAYS_INLINE void reduce_bf16(weft_builtin_op op, weft_reduce_kernel kernel, void *dst,
                                    const void *const *sources, unsigned n, size_t count)
{
    switch (n) {
    case 2: combine_bf16_pairs(op, dst, sources, 2, count / 2); break;
    case 3: combine_bf16_pairs(op, dst, sources, 3, count / 2); break;
    case 4: combine_bf16_pairs(op, dst, sources, 4, count / 2); break;
    default: reduce_small(WEFT_BF16, kernel, dst, sources, n, count, 1); return;
    }
    if (count % 2 == 1) {
        const void *last[LOOP_SOURCES];
        for (unsigned k = 0; k < n; k++)
            last[k] = (const any_u16 *)sources[k] + (count - 1);
        reduce_small(WEFT_BF16, kernel, (any_u16 *)dst + (count - 1), last, n, 1, 1);
    }
}

#endif

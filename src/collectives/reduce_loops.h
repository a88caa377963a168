/* Part of reduce_body.h: loops over integers, bool, f32 and f64, and what combines more sources than fit
 * one loop. Types, operations and (up to LOOP_SOURCES) numbers of sources are constants wherever `reduce`
 * is inlined. */
#ifndef WEFT_REDUCE_LOOPS_H
#define WEFT_REDUCE_LOOPS_H

#include "collectives/reduce_convert.h"
#include "collectives/reduce_internal.h"

/* Iterations touch no common memory although dst may be a source: the distance is then zero. */
#if defined(__clang__)
#define INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#endif

/* Elements of callers may lie anywhere. */
typedef uint8_t any_u8 __attribute__((aligned(1), may_alias));
typedef int8_t any_i8 __attribute__((aligned(1), may_alias));
typedef uint16_t any_u16 __attribute__((aligned(1), may_alias));
typedef int16_t any_i16 __attribute__((aligned(1), may_alias));
typedef uint32_t any_u32 __attribute__((aligned(1), may_alias));
typedef int32_t any_i32 __attribute__((aligned(1), may_alias));
typedef uint64_t any_u64 __attribute__((aligned(1), may_alias));
typedef int64_t any_i64 __attribute__((aligned(1), may_alias));
typedef float any_f32 __attribute__((aligned(1), may_alias));
typedef double any_f64 __attribute__((aligned(1), may_alias));

/* Blocks keep partial results in L1 beside their sources. */
enum { BLOCK_ELEMENTS = 1024, BLOCK_BYTES = BLOCK_ELEMENTS * 8, LOOP_SOURCES = 4 };

#define ELEMENT int8_t
#define LOOP combine_i8
#include "collectives/reduce_integer.h"
#define ELEMENT uint8_t
#define LOOP combine_u8
#include "collectives/reduce_integer.h"
#define ELEMENT int16_t
#define LOOP combine_i16
#include "collectives/reduce_integer.h"
#define ELEMENT uint16_t
#define LOOP combine_u16
#include "collectives/reduce_integer.h"
#define ELEMENT int32_t
#define LOOP combine_i32
#include "collectives/reduce_integer.h"
#define ELEMENT uint32_t
#define LOOP combine_u32
#include "collectives/reduce_integer.h"
#define ELEMENT int64_t
#define LOOP combine_i64
#include "collectives/reduce_integer.h"
#define ELEMENT uint64_t
#define LOOP combine_u64
#include "collectives/reduce_integer.h"

/* Any byte but 0 is true. Operations are only `or`, `and`, `xor` (weft.h says which is which). */
WEFT_ALWAYS_INLINE void combine_bool(weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                                     size_t count)
{
    any_u8 *d = dst;
    const any_u8 *a = sources[0];
    const any_u8 *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        uint8_t value = a[i] != 0;
        for (unsigned k = 1; k < n; k++) {
            uint8_t other = rest[k - 1][i] != 0;
            switch (op) {
            case WEFT_BOR: value |= other; break;
            case WEFT_BAND: value &= other; break;
            default: value ^= other;
            }
        }
        d[i] = value;
    }
}

/* Of min and max: a NaN on either side wins. */
WEFT_ALWAYS_INLINE double combine_two_f64(weft_builtin_op op, double a, double b)
{
    switch (op) {
    case WEFT_SUM: return a + b;
    case WEFT_PROD: return a * b;
    case WEFT_MIN: return ((a < b) | (a != a)) ? a : b;
    default: return ((a > b) | (a != a)) ? a : b;
    }
}

WEFT_ALWAYS_INLINE void combine_f64(weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                                    size_t count)
{
    any_f64 *d = dst;
    const any_f64 *a = sources[0];
    const any_f64 *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        double value = a[i];
        for (unsigned k = 1; k < n; k++)
            value = combine_two_f64(op, value, rest[k - 1][i]);
        d[i] = value;
    }
}

WEFT_ALWAYS_INLINE float combine_two_f32(weft_builtin_op op, float a, float b)
{
    switch (op) {
    case WEFT_SUM: return a + b;
    case WEFT_PROD: return a * b;
    case WEFT_MIN: return ((a < b) | (a != a)) ? a : b;
    default: return ((a > b) | (a != a)) ? a : b;
    }
}

WEFT_ALWAYS_INLINE void combine_f32(weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                                    size_t count)
{
    any_f32 *d = dst;
    const any_f32 *a = sources[0];
    const any_f32 *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        float value = a[i];
        for (unsigned k = 1; k < n; k++)
            value = combine_two_f32(op, value, rest[k - 1][i]);
        d[i] = value;
    }
}

WEFT_ALWAYS_INLINE size_t element_bytes(weft_type type)
{
    switch (type) {
    case WEFT_I8: case WEFT_U8: case WEFT_F8E4M3: case WEFT_F8E5M2: case WEFT_BOOL: return 1;
    case WEFT_I16: case WEFT_U16: case WEFT_F16: case WEFT_BF16: return 2;
    case WEFT_I32: case WEFT_U32: case WEFT_F32: return 4;
    default: return 8;
    }
}

/* One loop over n <= LOOP_SOURCES sources. */
WEFT_ALWAYS_INLINE void combine(weft_type type, weft_builtin_op op, void *dst, const void *const *sources,
                                unsigned n, size_t count)
{
    switch (type) {
    case WEFT_I8: combine_i8(op, dst, sources, n, count); break;
    case WEFT_U8: combine_u8(op, dst, sources, n, count); break;
    case WEFT_I16: combine_i16(op, dst, sources, n, count); break;
    case WEFT_U16: combine_u16(op, dst, sources, n, count); break;
    case WEFT_I32: combine_i32(op, dst, sources, n, count); break;
    case WEFT_U32: combine_u32(op, dst, sources, n, count); break;
    case WEFT_I64: combine_i64(op, dst, sources, n, count); break;
    case WEFT_U64: combine_u64(op, dst, sources, n, count); break;
    case WEFT_F32: combine_f32(op, dst, sources, n, count); break;
    case WEFT_F64: combine_f64(op, dst, sources, n, count); break;
    default: combine_bool(op, dst, sources, n, count);
    }
}

/* n from 2 to LOOP_SOURCES, made a constant. */
WEFT_ALWAYS_INLINE void combine_few(weft_type type, weft_builtin_op op, void *dst, const void *const *sources,
                                    unsigned n, size_t count)
{
    switch (n) {
    case 2: combine(type, op, dst, sources, 2, count); break;
    case 3: combine(type, op, dst, sources, 3, count); break;
    default: combine(type, op, dst, sources, LOOP_SOURCES, count);
    }
}

/* Any n >= 2: more than LOOP_SOURCES go by blocks. Partial results lie aside because dst may be a later
 * source. */
WEFT_ALWAYS_INLINE void reduce_many(weft_type type, weft_builtin_op op, void *dst, const void *const *sources,
                                    unsigned n, size_t count)
{
    const size_t bytes = element_bytes(type);
    /* One block if one loop does it all. */
    const size_t largest = n <= LOOP_SOURCES ? count : BLOCK_ELEMENTS;
    unsigned char total[BLOCK_BYTES] __attribute__((aligned(64)));

    for (size_t done = 0; done < count; done += largest) {
        size_t block = count - done < largest ? count - done : largest;
        const void *s[LOOP_SOURCES] = { (const char *)sources[0] + done * bytes };
        for (unsigned k = 1; k < n;) {
            unsigned used = 1;
            for (; used < LOOP_SOURCES && k < n; used++, k++)
                s[used] = (const char *)sources[k] + done * bytes;
            combine_few(type, op, k < n ? (void *)total : (char *)dst + done * bytes, s, used, block);
            s[0] = total;
        }
    }
}

WEFT_ALWAYS_INLINE void reduce(weft_type type, weft_builtin_op op, void *dst, const void *const *sources,
                               unsigned n, size_t count)
{
    if (n > 1)
        reduce_many(type, op, dst, sources, n, count);
    else
        weft_copy(dst, sources[0], count * element_bytes(type));
}

WEFT_ALWAYS_INLINE double load_small_integer(weft_type type, const void *source, size_t i)
{
    switch (type) {
    case WEFT_I8: return ((const any_i8 *)source)[i];
    case WEFT_U8: return ((const any_u8 *)source)[i];
    case WEFT_I16: return ((const any_i16 *)source)[i];
    case WEFT_U16: return ((const any_u16 *)source)[i];
    case WEFT_I32: return ((const any_i32 *)source)[i];
    default: return ((const any_u32 *)source)[i];
    }
}

/* value has the type's range. */
WEFT_ALWAYS_INLINE void store_small_integer(weft_type type, void *dst, size_t i, double value)
{
    switch (type) {
    case WEFT_I8: ((any_i8 *)dst)[i] = (int8_t)(int32_t)value; break;
    case WEFT_U8: ((any_u8 *)dst)[i] = (uint8_t)(int32_t)value; break;
    case WEFT_I16: ((any_i16 *)dst)[i] = (int16_t)(int32_t)value; break;
    case WEFT_U16: ((any_u16 *)dst)[i] = (uint16_t)(int32_t)value; break;
    case WEFT_I32: ((any_i32 *)dst)[i] = (int32_t)value; break;
    default: ((any_u32 *)dst)[i] = (uint32_t)value;
    }
}

/* dst[i] = dst[i] / divisor. */
WEFT_ALWAYS_INLINE void divide(weft_type type, void *dst, size_t count, int divisor)
{
    switch (type) {
    case WEFT_I64:
        for (size_t i = 0; i < count; i++)
            ((any_i64 *)dst)[i] /= divisor;
        break;
    case WEFT_U64:
        for (size_t i = 0; i < count; i++)
            ((any_u64 *)dst)[i] /= (uint64_t)divisor;
        break;
    case WEFT_F64:
        for (size_t i = 0; i < count; i++)
            ((any_f64 *)dst)[i] /= divisor;
        break;
    case WEFT_F32:
        for (size_t i = 0; i < count; i++)
            ((any_f32 *)dst)[i] /= (float)divisor;
        break;
    default:
        /* Exact: a quotient of 32-bit integers is further from the next integer than a double's rounding. */
        for (size_t i = 0; i < count; i++)
            store_small_integer(type, dst, i, load_small_integer(type, dst, i) / divisor);
    }
}

/* Divides while the block is in cache. `sum` is the kernel that adds. */
WEFT_ALWAYS_INLINE void average(weft_type type, weft_reduce_kernel sum, void *dst, const void *const *sources,
                                unsigned n, size_t count, int divisor)
{
    const size_t bytes = element_bytes(type);
    unsigned char total[BLOCK_BYTES] __attribute__((aligned(64)));

    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        const void *s[LOOP_SOURCES] = { (const char *)sources[0] + done * bytes };
        if (n == 1)
            memcpy(total, s[0], block * bytes);
        for (unsigned k = 1; k < n;) {
            unsigned used = 1;
            for (; used < LOOP_SOURCES && k < n; used++, k++)
                s[used] = (const char *)sources[k] + done * bytes;
            sum(total, s, used, block);
            s[0] = total;
        }
        divide(type, total, block, divisor);
        memcpy((char *)dst + done * bytes, total, block * bytes);
    }
}

WEFT_ALWAYS_INLINE void premultiply(weft_type type, void *dst, const void *src, size_t count,
                                    const void *factor)
{
    const size_t bytes = element_bytes(type);
    unsigned char factors[BLOCK_BYTES] __attribute__((aligned(64)));

    for (size_t i = 0; i < BLOCK_ELEMENTS && i < count; i++)
        memcpy(factors + i * bytes, factor, bytes);
    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        const void *s[2] = { (const char *)src + done * bytes, factors };
        combine(type, type == WEFT_BOOL ? WEFT_BAND : WEFT_PROD, (char *)dst + done * bytes, s, 2, block);
    }
}

#endif

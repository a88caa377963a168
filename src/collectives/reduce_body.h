/* All kernels of one instruction set: included once by each of reduce_plain.c, reduce_avx2.c and reduce_avx512.c, which tell
 * the compiler what to vectorise for. Types, operations and numbers of sources are constants wherever `reduce` and
 * what it calls are inlined, so that each kernel is a plain loop. Choosing among the sets is reduce.c's. */
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

/* Elements that are combined before the next ones are read, when sources are too many for one loop: stays in L1. */
enum { BLOCK_ELEMENTS = 512, BLOCK_BYTES = BLOCK_ELEMENTS * 8, LOOP_SOURCES = 4 };

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

/* Any byte but 0 is true. The operations are only `or`, `and`, `xor` (weft.h says which is which). */
WEFT_ALWAYS_INLINE void combine_bool(weft_builtin_op op, void *dst, const void *const *sources, unsigned n, size_t count)
{
    any_u8 *d = dst;
    const any_u8 *a = sources[0];
    const any_u8 *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        uint8_t value = a[i] != 0;
        for (unsigned k = 1; k < n; k++) {
            uint8_t other = rest[k - 1][i] != 0;
            value = (uint8_t)(op == WEFT_BOR ? value | other : op == WEFT_BAND ? value & other : value ^ other);
        }
        d[i] = value;
    }
}

WEFT_ALWAYS_INLINE double combine_two_f64(weft_builtin_op op, double a, double b)
{
    switch (op) {
    case WEFT_SUM: return a + b;
    case WEFT_PROD: return a * b;
    case WEFT_MIN: return (a < b) | (a != a) ? a : b;
    default: return (a > b) | (a != a) ? a : b;
    }
}

WEFT_ALWAYS_INLINE void combine_f64(weft_builtin_op op, void *dst, const void *const *sources, unsigned n, size_t count)
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
    case WEFT_MIN: return (a < b) | (a != a) ? a : b;
    default: return (a > b) | (a != a) ? a : b;
    }
}

WEFT_ALWAYS_INLINE float load_f32(weft_type type, const void *source, size_t i)
{
    switch (type) {
    case WEFT_F16: return weft_small_widen(((const any_u16 *)source)[i], WEFT_FORMAT_F16);
    case WEFT_BF16: return weft_bf16_widen(((const any_u16 *)source)[i]);
    case WEFT_F8E4M3: return weft_small_widen(((const any_u8 *)source)[i], WEFT_FORMAT_F8E4M3);
    case WEFT_F8E5M2: return weft_small_widen(((const any_u8 *)source)[i], WEFT_FORMAT_F8E5M2);
    default: return ((const any_f32 *)source)[i];
    }
}

WEFT_ALWAYS_INLINE void store_f32(weft_type type, void *dst, size_t i, float value)
{
    switch (type) {
    case WEFT_F16: ((any_u16 *)dst)[i] = (uint16_t)weft_small_narrow(value, WEFT_FORMAT_F16); break;
    case WEFT_BF16: ((any_u16 *)dst)[i] = (uint16_t)weft_bf16_narrow(value); break;
    case WEFT_F8E4M3: ((any_u8 *)dst)[i] = (uint8_t)weft_small_narrow(value, WEFT_FORMAT_F8E4M3); break;
    case WEFT_F8E5M2: ((any_u8 *)dst)[i] = (uint8_t)weft_small_narrow(value, WEFT_FORMAT_F8E5M2); break;
    default: ((any_f32 *)dst)[i] = value;
    }
}

/* The first source and dst have types of their own: partial results are f32. */
WEFT_ALWAYS_INLINE void combine_f32(weft_builtin_op op, weft_type to, void *dst, weft_type first, weft_type type,
                                    const void *const *sources, unsigned n, size_t count)
{
    const void *a = sources[0];
    const void *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        float value = load_f32(first, a, i);
        for (unsigned k = 1; k < n; k++)
            value = combine_two_f32(op, value, load_f32(type, rest[k - 1], i));
        store_f32(to, dst, i, value);
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

/* The type of partial results. */
WEFT_ALWAYS_INLINE weft_type wide_type(weft_type type)
{
    switch (type) {
    case WEFT_F16: case WEFT_BF16: case WEFT_F8E4M3: case WEFT_F8E5M2: return WEFT_F32;
    default: return type;
    }
}

/* One loop over n <= LOOP_SOURCES sources. to and first are `type` or wide_type(type). */
WEFT_ALWAYS_INLINE void combine(weft_builtin_op op, weft_type to, void *dst, weft_type first, weft_type type,
                                const void *const *sources, unsigned n, size_t count)
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
    case WEFT_F64: combine_f64(op, dst, sources, n, count); break;
    case WEFT_BOOL: combine_bool(op, dst, sources, n, count); break;
    default: combine_f32(op, to, dst, first, type, sources, n, count);
    }
}

/* More than LOOP_SOURCES sources: by blocks, partial results in `total`. */
WEFT_ALWAYS_INLINE void reduce_many(weft_type type, weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                                    size_t count)
{
    const weft_type wide = wide_type(type);
    const size_t bytes = element_bytes(type);
    unsigned char total[BLOCK_BYTES] __attribute__((aligned(64)));

    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        size_t offset = done * bytes;
        const void *s[LOOP_SOURCES];
        for (unsigned k = 0; k < LOOP_SOURCES; k++)
            s[k] = (const char *)sources[k] + offset;
        combine(op, wide, total, type, type, s, LOOP_SOURCES, block);

        unsigned k = LOOP_SOURCES;
        s[0] = total;
        for (; n - k > 2; k += 2) {
            s[1] = (const char *)sources[k] + offset;
            s[2] = (const char *)sources[k + 1] + offset;
            combine(op, wide, total, wide, type, s, 3, block);
        }
        s[1] = (const char *)sources[k] + offset;
        if (n - k == 2) {
            s[2] = (const char *)sources[k + 1] + offset;
            combine(op, type, (char *)dst + offset, wide, type, s, 3, block);
        } else {
            combine(op, type, (char *)dst + offset, wide, type, s, 2, block);
        }
    }
}

WEFT_ALWAYS_INLINE void reduce(weft_type type, weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                               size_t count)
{
    switch (n) {
    case 1:
        if (dst != sources[0])
            weft_copy(dst, sources[0], count * element_bytes(type));
        break;
    case 2: combine(op, type, dst, type, type, sources, 2, count); break;
    case 3: combine(op, type, dst, type, type, sources, 3, count); break;
    case 4: combine(op, type, dst, type, type, sources, 4, count); break;
    default: reduce_many(type, op, dst, sources, n, count);
    }
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

/* dst[i] = total[i] / divisor; total has wide_type(type). */
WEFT_ALWAYS_INLINE void divide(weft_type type, void *dst, const void *total, size_t count, int divisor)
{
    switch (type) {
    case WEFT_I64:
        for (size_t i = 0; i < count; i++)
            ((any_i64 *)dst)[i] = ((const any_i64 *)total)[i] / divisor;
        break;
    case WEFT_U64:
        for (size_t i = 0; i < count; i++)
            ((any_u64 *)dst)[i] = ((const any_u64 *)total)[i] / (uint64_t)divisor;
        break;
    case WEFT_F64:
        for (size_t i = 0; i < count; i++)
            ((any_f64 *)dst)[i] = ((const any_f64 *)total)[i] / divisor;
        break;
    case WEFT_F16: case WEFT_BF16: case WEFT_F32: case WEFT_F8E4M3: case WEFT_F8E5M2:
        for (size_t i = 0; i < count; i++)
            store_f32(type, dst, i, ((const any_f32 *)total)[i] / (float)divisor);
        break;
    default:
        /* Exact: a quotient of 32-bit integers is further from the next integer than a double's rounding. */
        for (size_t i = 0; i < count; i++)
            store_small_integer(type, dst, i, load_small_integer(type, total, i) / divisor);
    }
}

WEFT_ALWAYS_INLINE void average(weft_type type, void *dst, const void *const *sources, unsigned n, size_t count, int divisor)
{
    const weft_type wide = wide_type(type);
    const size_t bytes = element_bytes(type);
    unsigned char total[BLOCK_BYTES] __attribute__((aligned(64)));

    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        const void *s[2] = { (const char *)sources[0] + done * bytes, NULL };
        combine(WEFT_SUM, wide, total, type, type, s, 1, block);
        s[0] = total;
        for (unsigned k = 1; k < n; k++) {
            s[1] = (const char *)sources[k] + done * bytes;
            combine(WEFT_SUM, wide, total, wide, type, s, 2, block);
        }
        divide(type, (char *)dst + done * bytes, total, block, divisor);
    }
}

WEFT_ALWAYS_INLINE void premultiply(weft_type type, void *dst, const void *src, size_t count, const void *factor)
{
    unsigned char factors[BLOCK_BYTES] __attribute__((aligned(64)));
    const weft_type wide = wide_type(type);
    const size_t bytes = element_bytes(type);
    const size_t wide_bytes = element_bytes(wide);

    combine(WEFT_SUM, wide, factors, type, type, &factor, 1, 1);
    for (size_t i = 1; i < BLOCK_ELEMENTS && i < count; i++)
        memcpy(factors + i * wide_bytes, factors, wide_bytes);
    for (size_t done = 0; done < count; done += BLOCK_ELEMENTS) {
        size_t block = count - done < BLOCK_ELEMENTS ? count - done : BLOCK_ELEMENTS;
        const void *s[2] = { factors, (const char *)src + done * bytes };
        combine(type == WEFT_BOOL ? WEFT_BAND : WEFT_PROD, type, (char *)dst + done * bytes, wide, type, s, 2, block);
    }
}

/* The kernels as functions of their own; names are given in full so that they can be found. */
#define KERNEL(name, type, op)                                                                     \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count)              \
    {                                                                                              \
        reduce(type, op, dst, sources, n, count);                                                  \
    }
#define AVERAGE(name, type)                                                                        \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count, int divisor) \
    {                                                                                              \
        average(type, dst, sources, n, count, divisor);                                            \
    }
#define PREMULTIPLY(name, type)                                                                    \
    static void name(void *dst, const void *src, size_t count, const void *factor)                 \
    {                                                                                              \
        premultiply(type, dst, src, count, factor);                                                \
    }

/* Integers that wrap: signed and unsigned are the same but for min, max and division. */
KERNEL(sum_8, WEFT_U8, WEFT_SUM) KERNEL(prod_8, WEFT_U8, WEFT_PROD)
KERNEL(band_8, WEFT_U8, WEFT_BAND) KERNEL(bor_8, WEFT_U8, WEFT_BOR) KERNEL(bxor_8, WEFT_U8, WEFT_BXOR)
KERNEL(sum_16, WEFT_U16, WEFT_SUM) KERNEL(prod_16, WEFT_U16, WEFT_PROD)
KERNEL(band_16, WEFT_U16, WEFT_BAND) KERNEL(bor_16, WEFT_U16, WEFT_BOR) KERNEL(bxor_16, WEFT_U16, WEFT_BXOR)
KERNEL(sum_32, WEFT_U32, WEFT_SUM) KERNEL(prod_32, WEFT_U32, WEFT_PROD)
KERNEL(band_32, WEFT_U32, WEFT_BAND) KERNEL(bor_32, WEFT_U32, WEFT_BOR) KERNEL(bxor_32, WEFT_U32, WEFT_BXOR)
KERNEL(sum_64, WEFT_U64, WEFT_SUM) KERNEL(prod_64, WEFT_U64, WEFT_PROD)
KERNEL(band_64, WEFT_U64, WEFT_BAND) KERNEL(bor_64, WEFT_U64, WEFT_BOR) KERNEL(bxor_64, WEFT_U64, WEFT_BXOR)
KERNEL(min_i8, WEFT_I8, WEFT_MIN) KERNEL(max_i8, WEFT_I8, WEFT_MAX)
KERNEL(min_u8, WEFT_U8, WEFT_MIN) KERNEL(max_u8, WEFT_U8, WEFT_MAX)
KERNEL(min_i16, WEFT_I16, WEFT_MIN) KERNEL(max_i16, WEFT_I16, WEFT_MAX)
KERNEL(min_u16, WEFT_U16, WEFT_MIN) KERNEL(max_u16, WEFT_U16, WEFT_MAX)
KERNEL(min_i32, WEFT_I32, WEFT_MIN) KERNEL(max_i32, WEFT_I32, WEFT_MAX)
KERNEL(min_u32, WEFT_U32, WEFT_MIN) KERNEL(max_u32, WEFT_U32, WEFT_MAX)
KERNEL(min_i64, WEFT_I64, WEFT_MIN) KERNEL(max_i64, WEFT_I64, WEFT_MAX)
KERNEL(min_u64, WEFT_U64, WEFT_MIN) KERNEL(max_u64, WEFT_U64, WEFT_MAX)
KERNEL(sum_f16, WEFT_F16, WEFT_SUM) KERNEL(prod_f16, WEFT_F16, WEFT_PROD)
KERNEL(min_f16, WEFT_F16, WEFT_MIN) KERNEL(max_f16, WEFT_F16, WEFT_MAX)
KERNEL(sum_bf16, WEFT_BF16, WEFT_SUM) KERNEL(prod_bf16, WEFT_BF16, WEFT_PROD)
KERNEL(min_bf16, WEFT_BF16, WEFT_MIN) KERNEL(max_bf16, WEFT_BF16, WEFT_MAX)
KERNEL(sum_f32, WEFT_F32, WEFT_SUM) KERNEL(prod_f32, WEFT_F32, WEFT_PROD)
KERNEL(min_f32, WEFT_F32, WEFT_MIN) KERNEL(max_f32, WEFT_F32, WEFT_MAX)
KERNEL(sum_f64, WEFT_F64, WEFT_SUM) KERNEL(prod_f64, WEFT_F64, WEFT_PROD)
KERNEL(min_f64, WEFT_F64, WEFT_MIN) KERNEL(max_f64, WEFT_F64, WEFT_MAX)
KERNEL(sum_f8e4m3, WEFT_F8E4M3, WEFT_SUM) KERNEL(prod_f8e4m3, WEFT_F8E4M3, WEFT_PROD)
KERNEL(min_f8e4m3, WEFT_F8E4M3, WEFT_MIN) KERNEL(max_f8e4m3, WEFT_F8E4M3, WEFT_MAX)
KERNEL(sum_f8e5m2, WEFT_F8E5M2, WEFT_SUM) KERNEL(prod_f8e5m2, WEFT_F8E5M2, WEFT_PROD)
KERNEL(min_f8e5m2, WEFT_F8E5M2, WEFT_MIN) KERNEL(max_f8e5m2, WEFT_F8E5M2, WEFT_MAX)
KERNEL(or_bool, WEFT_BOOL, WEFT_BOR) KERNEL(and_bool, WEFT_BOOL, WEFT_BAND) KERNEL(xor_bool, WEFT_BOOL, WEFT_BXOR)

AVERAGE(average_i8, WEFT_I8) AVERAGE(average_u8, WEFT_U8) AVERAGE(average_i16, WEFT_I16) AVERAGE(average_u16, WEFT_U16)
AVERAGE(average_i32, WEFT_I32) AVERAGE(average_u32, WEFT_U32)
AVERAGE(average_i64, WEFT_I64) AVERAGE(average_u64, WEFT_U64)
AVERAGE(average_f16, WEFT_F16) AVERAGE(average_bf16, WEFT_BF16) AVERAGE(average_f32, WEFT_F32)
AVERAGE(average_f64, WEFT_F64) AVERAGE(average_f8e4m3, WEFT_F8E4M3) AVERAGE(average_f8e5m2, WEFT_F8E5M2)

static void average_bool(void *dst, const void *const *sources, unsigned n, size_t count, int divisor)
{
    (void)divisor;
    or_bool(dst, sources, n, count);
}

PREMULTIPLY(premultiply_8, WEFT_U8) PREMULTIPLY(premultiply_16, WEFT_U16)
PREMULTIPLY(premultiply_32, WEFT_U32) PREMULTIPLY(premultiply_64, WEFT_U64)
PREMULTIPLY(premultiply_f16, WEFT_F16) PREMULTIPLY(premultiply_bf16, WEFT_BF16) PREMULTIPLY(premultiply_f32, WEFT_F32)
PREMULTIPLY(premultiply_f64, WEFT_F64) PREMULTIPLY(premultiply_f8e4m3, WEFT_F8E4M3)
PREMULTIPLY(premultiply_f8e5m2, WEFT_F8E5M2) PREMULTIPLY(premultiply_bool, WEFT_BOOL)

/* Columns: sum, prod, min, max, avg (adds), band, bor, bxor. */
#define REDUCE_KERNELS                                                                                    \
    {                                                                                                     \
        [WEFT_I8] = { sum_8, prod_8, min_i8, max_i8, sum_8, band_8, bor_8, bxor_8 },                      \
        [WEFT_U8] = { sum_8, prod_8, min_u8, max_u8, sum_8, band_8, bor_8, bxor_8 },                      \
        [WEFT_I16] = { sum_16, prod_16, min_i16, max_i16, sum_16, band_16, bor_16, bxor_16 },             \
        [WEFT_U16] = { sum_16, prod_16, min_u16, max_u16, sum_16, band_16, bor_16, bxor_16 },             \
        [WEFT_I32] = { sum_32, prod_32, min_i32, max_i32, sum_32, band_32, bor_32, bxor_32 },             \
        [WEFT_U32] = { sum_32, prod_32, min_u32, max_u32, sum_32, band_32, bor_32, bxor_32 },             \
        [WEFT_I64] = { sum_64, prod_64, min_i64, max_i64, sum_64, band_64, bor_64, bxor_64 },             \
        [WEFT_U64] = { sum_64, prod_64, min_u64, max_u64, sum_64, band_64, bor_64, bxor_64 },             \
        [WEFT_F16] = { sum_f16, prod_f16, min_f16, max_f16, sum_f16 },                                    \
        [WEFT_BF16] = { sum_bf16, prod_bf16, min_bf16, max_bf16, sum_bf16 },                              \
        [WEFT_F32] = { sum_f32, prod_f32, min_f32, max_f32, sum_f32 },                                    \
        [WEFT_F64] = { sum_f64, prod_f64, min_f64, max_f64, sum_f64 },                                    \
        [WEFT_F8E4M3] = { sum_f8e4m3, prod_f8e4m3, min_f8e4m3, max_f8e4m3, sum_f8e4m3 },                  \
        [WEFT_F8E5M2] = { sum_f8e5m2, prod_f8e5m2, min_f8e5m2, max_f8e5m2, sum_f8e5m2 },                  \
        [WEFT_BOOL] = { or_bool, and_bool, and_bool, or_bool, or_bool, and_bool, or_bool, xor_bool },     \
    }
#define REDUCE_AVERAGES                                                                                   \
    {                                                                                                     \
        [WEFT_I8] = average_i8, [WEFT_U8] = average_u8, [WEFT_I16] = average_i16,                         \
        [WEFT_U16] = average_u16, [WEFT_I32] = average_i32, [WEFT_U32] = average_u32,                     \
        [WEFT_I64] = average_i64, [WEFT_U64] = average_u64, [WEFT_F16] = average_f16,                     \
        [WEFT_BF16] = average_bf16, [WEFT_F32] = average_f32, [WEFT_F64] = average_f64,                   \
        [WEFT_F8E4M3] = average_f8e4m3, [WEFT_F8E5M2] = average_f8e5m2, [WEFT_BOOL] = average_bool,       \
    }
#define REDUCE_PREMULTIPLIES                                                                              \
    {                                                                                                     \
        [WEFT_I8] = premultiply_8, [WEFT_U8] = premultiply_8, [WEFT_I16] = premultiply_16,                \
        [WEFT_U16] = premultiply_16, [WEFT_I32] = premultiply_32, [WEFT_U32] = premultiply_32,            \
        [WEFT_I64] = premultiply_64, [WEFT_U64] = premultiply_64, [WEFT_F16] = premultiply_f16,           \
        [WEFT_BF16] = premultiply_bf16, [WEFT_F32] = premultiply_f32, [WEFT_F64] = premultiply_f64,       \
        [WEFT_F8E4M3] = premultiply_f8e4m3, [WEFT_F8E5M2] = premultiply_f8e5m2,                           \
        [WEFT_BOOL] = premultiply_bool,                                                                   \
    }

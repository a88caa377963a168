/* All kernels of one instruction set: included once by each of reduce_plain.c, reduce_avx2.c and
 * reduce_avx512.c, which tell the compiler what to vectorise for. Choosing a set is reduce_select.c's. */
#include "collectives/reduce_loops.h"
#include "collectives/reduce_small.h"

/* The kernels as functions of their own; names are given in full so that they can be found. */
#define KERNEL(name, type, op)                                                                     \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count)              \
    {                                                                                              \
        reduce(type, op, dst, sources, n, count);                                                  \
    }
#define SMALL_KERNEL(name, type, wide_kernel)                                                      \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count)              \
    {                                                                                              \
        reduce_small(type, wide_kernel, dst, sources, n, count, 1);                                \
    }
#define BF16_KERNEL(name, op, wide_kernel)                                                         \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count)              \
    {                                                                                              \
        reduce_bf16(op, wide_kernel, dst, sources, n, count);                                      \
    }
#define AVERAGE(name, type, sum)                                                                   \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count, int divisor) \
    {                                                                                              \
        average(type, sum, dst, sources, n, count, divisor);                                       \
    }
#define SMALL_AVERAGE(name, type)                                                                  \
    static void name(void *dst, const void *const *sources, unsigned n, size_t count, int divisor) \
    {                                                                                              \
        reduce_small(type, sum_f32, dst, sources, n, count, divisor);                              \
    }
#define PREMULTIPLY(name, type)                                                                    \
    static void name(void *dst, const void *src, size_t count, const void *factor)                 \
    {                                                                                              \
        premultiply(type, dst, src, count, factor);                                                \
    }
#define SMALL_PREMULTIPLY(name, type)                                                              \
    static void name(void *dst, const void *src, size_t count, const void *factor)                 \
    {                                                                                              \
        premultiply_small(type, dst, src, count, factor);                                          \
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
KERNEL(sum_f32, WEFT_F32, WEFT_SUM) KERNEL(prod_f32, WEFT_F32, WEFT_PROD)
KERNEL(min_f32, WEFT_F32, WEFT_MIN) KERNEL(max_f32, WEFT_F32, WEFT_MAX)
KERNEL(sum_f64, WEFT_F64, WEFT_SUM) KERNEL(prod_f64, WEFT_F64, WEFT_PROD)
KERNEL(min_f64, WEFT_F64, WEFT_MIN) KERNEL(max_f64, WEFT_F64, WEFT_MAX)
BF16_KERNEL(sum_bf16, WEFT_SUM, sum_f32) BF16_KERNEL(prod_bf16, WEFT_PROD, prod_f32)
BF16_KERNEL(min_bf16, WEFT_MIN, min_f32) BF16_KERNEL(max_bf16, WEFT_MAX, max_f32)
SMALL_KERNEL(sum_f16, WEFT_F16, sum_f32) SMALL_KERNEL(prod_f16, WEFT_F16, prod_f32)
SMALL_KERNEL(min_f16, WEFT_F16, min_f32) SMALL_KERNEL(max_f16, WEFT_F16, max_f32)
SMALL_KERNEL(sum_f8e4m3, WEFT_F8E4M3, sum_f32) SMALL_KERNEL(prod_f8e4m3, WEFT_F8E4M3, prod_f32)
SMALL_KERNEL(min_f8e4m3, WEFT_F8E4M3, min_f32) SMALL_KERNEL(max_f8e4m3, WEFT_F8E4M3, max_f32)
SMALL_KERNEL(sum_f8e5m2, WEFT_F8E5M2, sum_f32) SMALL_KERNEL(prod_f8e5m2, WEFT_F8E5M2, prod_f32)
SMALL_KERNEL(min_f8e5m2, WEFT_F8E5M2, min_f32) SMALL_KERNEL(max_f8e5m2, WEFT_F8E5M2, max_f32)
KERNEL(or_bool, WEFT_BOOL, WEFT_BOR) KERNEL(and_bool, WEFT_BOOL, WEFT_BAND)
KERNEL(xor_bool, WEFT_BOOL, WEFT_BXOR)

AVERAGE(average_i8, WEFT_I8, sum_8) AVERAGE(average_u8, WEFT_U8, sum_8)
AVERAGE(average_i16, WEFT_I16, sum_16) AVERAGE(average_u16, WEFT_U16, sum_16)
AVERAGE(average_i32, WEFT_I32, sum_32) AVERAGE(average_u32, WEFT_U32, sum_32)
AVERAGE(average_i64, WEFT_I64, sum_64) AVERAGE(average_u64, WEFT_U64, sum_64)
AVERAGE(average_f32, WEFT_F32, sum_f32) AVERAGE(average_f64, WEFT_F64, sum_f64)
SMALL_AVERAGE(average_f16, WEFT_F16) SMALL_AVERAGE(average_bf16, WEFT_BF16)
SMALL_AVERAGE(average_f8e4m3, WEFT_F8E4M3) SMALL_AVERAGE(average_f8e5m2, WEFT_F8E5M2)

static void average_bool(void *dst, const void *const *sources, unsigned n, size_t count, int divisor)
{
    (void)divisor;
    or_bool(dst, sources, n, count);
}

PREMULTIPLY(premultiply_8, WEFT_U8) PREMULTIPLY(premultiply_16, WEFT_U16)
PREMULTIPLY(premultiply_32, WEFT_U32) PREMULTIPLY(premultiply_64, WEFT_U64)
PREMULTIPLY(premultiply_f32, WEFT_F32) PREMULTIPLY(premultiply_f64, WEFT_F64)
PREMULTIPLY(premultiply_bool, WEFT_BOOL)
SMALL_PREMULTIPLY(premultiply_f16, WEFT_F16) SMALL_PREMULTIPLY(premultiply_bf16, WEFT_BF16)
SMALL_PREMULTIPLY(premultiply_f8e4m3, WEFT_F8E4M3) SMALL_PREMULTIPLY(premultiply_f8e5m2, WEFT_F8E5M2)

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
/* The set that the including file compiles. */
#define REDUCE_SET(name)                                                                                  \
    const weft_reduce_set weft_reduce_set_##name = {                                                      \
        .isa = #name,                                                                                     \
        .kernels = REDUCE_KERNELS,                                                                        \
        .averages = REDUCE_AVERAGES,                                                                      \
        .premultiplies = REDUCE_PREMULTIPLIES,                                                            \
    }

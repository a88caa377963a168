/* The kernels for x86-64 processors with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC optimize("O3,no-trapping-math")
#pragma GCC target("avx2,fma,f16c")
#endif
#define REDUCE_HAS_F16C 1
#include "collectives/reduce_body.h"

const weft_reduce_set weft_reduce_set_avx2 = {
    .isa = "avx2",
    .kernels = REDUCE_KERNELS,
    .averages = REDUCE_AVERAGES,
    .premultiplies = REDUCE_PREMULTIPLIES,
};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

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

REDUCE_SET(avx2);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

/* The kernels for x86-64 processors with AVX-512 F, BW, DQ and VL. Its bf16 instructions are not used:
 * they flush denormals. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"))), apply_to = function)
#else
#pragma GCC optimize("O3,no-trapping-math")
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")
#endif
#define REDUCE_HAS_F16C 1
#define REDUCE_HAS_AVX512 1
#include "collectives/reduce_body.h"

REDUCE_SET(avx512);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

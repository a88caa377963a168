/* The kernels for 64-bit Arm processors with SVE, vectors of whatever length; f16 is converted by NEON, which they have too. */
#if defined(__aarch64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sve"))), apply_to = function)
#else
#pragma GCC optimize("O3,no-trapping-math")
#pragma GCC target("+sve")
#endif
#define REDUCE_HAS_NEON 1
#include "collectives/reduce_body.h"

REDUCE_SET(sve);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

/* The kernels for 64-bit Arm processors: all have NEON, which converts f16. */
#if defined(__aarch64__)
#if !defined(__clang__)
#pragma GCC optimize("O3,no-trapping-math")
#endif
#define REDUCE_HAS_NEON 1
#include "collectives/reduce_body.h"

REDUCE_SET(neon);
#endif

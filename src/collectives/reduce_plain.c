/* The kernels in plain C for the processor the library is built for: the reference, and what every
 * processor without a set of its own runs (the compiler vectorises it, for SSE2 say). */
#if !defined(__clang__)
#pragma GCC optimize("O3,no-trapping-math")
#endif
#include "collectives/reduce_body.h"

REDUCE_SET(plain);

/* Reduction kernels: dst[i] = src[0][i] op src[1][i] op ... in that order, several sources in one pass. */
#ifndef WEFT_REDUCE_H
#define WEFT_REDUCE_H

#include "base/base.h"

/* count elements; n >= 1 sources; dst may be one of the sources (same address), must not otherwise
 * overlap. No pointer needs to be aligned. f16, bf16, f8: operands are widened to f32, combined in f32
 * over all sources and rounded once to nearest even (f8e4m3: saturates to NaN beyond range as OCP FP8
 * says; e5m2: to infinity). Integers wrap. */
typedef void (*weft_reduce_kernel)(void *dst, const void *const *sources, unsigned n, size_t count);

/* A bound operation. */
typedef struct weft_reduction {
    weft_type type;
    weft_op op;                 /* built-in, or user (function != NULL), premul_sum acts as sum */
    weft_reduce_kernel kernel;  /* NULL for a user function; of avg: adds (weft_reduction_run divides) */
    weft_op_function function;
    void *context;
    bool commutes;
    int divisor;
} weft_reduction;

/* Binds op to type for a group of `ranks`. WEFT_ERR_INVALID for band/bor/bxor of floats. */
weft_status weft_reduction_bind(weft_reduction *r, weft_type type, weft_op op, int ranks);
/* dst = combination of the sources. `final`: the result has every rank's contribution (avg divides now).
 * With n == 1 copies (and divides if final avg). */
void weft_reduction_run(const weft_reduction *r, void *dst, const void *const *sources, unsigned n,
                        size_t count, bool final);
/* dst[i] = src[i] * factor (premul_sum's input pass); may be in place. */
void weft_premultiply(void *dst, const void *src, size_t count, weft_type type, const void *factor);
/* Is it premul_sum? Fills factor (8 bytes). */
bool weft_op_premul_factor(weft_op op, void *factor);
bool weft_op_commutes(weft_op op);
/* Plain C kernel, the reference that tests compare the fast ones with. NULL if op does not apply to type. */
weft_reduce_kernel weft_reduce_kernel_plain(weft_type type, weft_builtin_op op);
/* The fastest kernel for this CPU (checked against plain C at first use). */
weft_reduce_kernel weft_reduce_kernel_best(weft_type type, weft_builtin_op op);
/* Name of the instruction set in use: "avx512", "avx2", "sve", "neon", "plain". */
const char *weft_reduce_isa(void);

/* memcpy that uses non-temporal stores above a size where nobody re-reads; plain memcpy below. */
void weft_copy(void *dst, const void *src, size_t bytes);
/* The same for a part, whose source may be in cache, of something of WEFT_STREAM_WHOLE_BYTES or more. */
void weft_copy_part(void *dst, const void *src, size_t bytes);
/* Measured: a collective's output, copied by tiles from other ranks' caches, is as fast with plain stores up to 8 MB, and with
 * non-temporal ones up to 1.2 times faster at 16 MB (by the share of the last-level cache that there is) and 1.3 times at 64. */
/* PUSHED: where a result goes to the others' outputs too, and they take more of the cache. */
enum { WEFT_STREAM_WHOLE_BYTES = 16 << 20, WEFT_STREAM_PUSHED_BYTES = 32 << 20 };

/* Scalar conversions, for tests and references. */
float weft_f16_to_f32(uint16_t h);    uint16_t weft_f32_to_f16(float f);
float weft_bf16_to_f32(uint16_t h);   uint16_t weft_f32_to_bf16(float f);
float weft_f8e4m3_to_f32(uint8_t h);  uint8_t weft_f32_to_f8e4m3(float f);
float weft_f8e5m2_to_f32(uint8_t h);  uint8_t weft_f32_to_f8e5m2(float f);
#endif

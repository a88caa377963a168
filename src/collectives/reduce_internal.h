/* What the files reduce*.c share: the set of kernels that one instruction set has. Everybody else uses
 * reduce.h. */
#ifndef WEFT_REDUCE_INTERNAL_H
#define WEFT_REDUCE_INTERNAL_H

#include "collectives/reduce.h"

/* dst = (sum of the sources) / divisor, rounded once. Aliasing as weft_reduce_kernel. */
typedef void (*weft_average_kernel)(void *dst, const void *const *sources, unsigned n, size_t count,
                                    int divisor);
/* dst[i] = src[i] * *factor; dst may be src. */
typedef void (*weft_premultiply_kernel)(void *dst, const void *src, size_t count, const void *factor);

/* NULL where an operation does not apply to a type. */
typedef struct weft_reduce_set {
    const char *isa;
    weft_reduce_kernel kernels[WEFT_TYPE_COUNT][WEFT_OP_COUNT];
    weft_average_kernel averages[WEFT_TYPE_COUNT];
    weft_premultiply_kernel premultiplies[WEFT_TYPE_COUNT];
} weft_reduce_set;

extern const weft_reduce_set weft_reduce_set_plain;
#if defined(__x86_64__)
extern const weft_reduce_set weft_reduce_set_avx2;   /* needs avx2, fma, f16c */
extern const weft_reduce_set weft_reduce_set_avx512; /* needs avx512 f, bw, dq, vl */
#elif defined(__aarch64__)
extern const weft_reduce_set weft_reduce_set_neon;
extern const weft_reduce_set weft_reduce_set_sve; /* needs sve */
#endif

/* The set that this processor can run and that agrees with plain C for `type`; checked at the first use of
 * the type. */
const weft_reduce_set *weft_reduce_set_best(weft_type type);
/* Do the kernels of two sets for `type` agree on vectors with NaN, infinities, denormals and ties? Any NaN
 * equals any other. On false *op names a kernel that differs. */
bool weft_reduce_sets_agree(const weft_reduce_set *a, const weft_reduce_set *b, weft_type type,
                            const char **op);
/* `set` if it agrees with plain C for the type, else plain C, and a warning. */
const weft_reduce_set *weft_reduce_set_trusted(const weft_reduce_set *set, weft_type type);

/* A created operation as it is looked up; valid until the operation is freed. */
typedef struct weft_user_op {
    weft_op_function function; /* NULL: premul_sum */
    void *context;
    bool commutes;
    weft_type type;            /* premul_sum: of the factor */
    unsigned char factor[8];
} weft_user_op;
/* NULL if there is no such operation (never created, freed, or built in). Lock-free. */
const weft_user_op *weft_op_find(weft_op op);

#endif

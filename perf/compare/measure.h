/* What the programs that `make compare` runs share: a measured case, and the table of functions by which measure.c
 * drives each library with one and the same loop. Each library fills in one table (peer_*.c, peer_gloo.cc). */
#ifndef COMPARE_MEASURE_H
#define COMPARE_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum compare_collective {
    COMPARE_ALL_REDUCE,
    COMPARE_ALL_GATHER,
    COMPARE_REDUCE_SCATTER,
    COMPARE_BROADCAST,
    COMPARE_ALL_TO_ALL,
    COMPARE_BARRIER,
    COMPARE_COLLECTIVES
} compare_collective;

typedef enum compare_type { COMPARE_F32, COMPARE_BF16, COMPARE_TYPES } compare_type;

/* `bytes` is the whole buffer: of all_gather the output, of reduce_scatter and all_to_all the input. `count` is the elements of
 * one block: bytes of an element x count x (ranks, where there is a block per rank) is `bytes`, but for rounding to
 * one element. */
typedef struct compare_cell {
    compare_collective collective;
    compare_type type;
    size_t bytes, count;
} compare_cell;

/* Functions return 0 for success, after saying on stderr what went wrong. */
typedef struct compare_library {
    const char *name;
    /* variant: the setting that the run asks for, NULL: as it comes. */
    int (*start)(const char *variant, int *rank, int *ranks);
    /* Memory of the library's own kind, NULL: private pages as everybody has. */
    void *(*allocate)(size_t bytes);
    /* Before the calls on a cell. False: the library does not offer it. */
    bool (*prepare)(const compare_cell *cell, void *send, void *recv);
    int (*run)(const compare_cell *cell, void *send, void *recv);
    /* After the last call on a cell. May be NULL. */
    void (*release)(void);
    /* A non-blocking all_reduce: begun, looked at, ended. NULL where the library has none. */
    int (*begin)(const compare_cell *cell, void *send, void *recv);
    int (*test)(bool *done);
    int (*wait)(void);
    void (*finish)(void);
} compare_library;

/* The library of this program. */
extern const compare_library compare_this;

/* The bf16 sum for libraries that know no bf16 but take a user's operation: in f32, rounded to nearest even. sum overlaps neither
 * of the others. */
void compare_add_bf16(uint16_t *sum, const uint16_t *left, const uint16_t *right, size_t count);

size_t compare_type_bytes(compare_type type);
/* How many blocks of `count` elements the input and the output hold. */
size_t compare_blocks_in(compare_collective collective, int ranks);
size_t compare_blocks_out(compare_collective collective, int ranks);

/* check.c: inputs whose sums are exact in both types, and how many elements of an output are wrong (stride: every how many). */
void compare_fill(const compare_cell *cell, void *send, void *recv, int rank, int ranks);
size_t compare_wrong(const compare_cell *cell, const void *recv, int rank, int ranks, size_t stride);

/* overlap.c: what is left of a computation and of an all_reduce when both run at once. */
int compare_overlap(const compare_cell *cell, void *send, void *recv, int rank, double seconds, void *stream);

double compare_now_ns(void);
/* Rank 0's value, told to all by the library's own broadcast, so that all make as many calls. */
int compare_agree(float *value);

#ifdef __cplusplus
}
#endif
#endif

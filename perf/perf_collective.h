/* What weft-perf knows of each collective: what `bytes` means for it, which buffers a rank passes, how it is
 * called, what each rank must get, and how much of the traffic counts for the bus bandwidth. */
#ifndef PERF_COLLECTIVE_H
#define PERF_COLLECTIVE_H

#include "perf_args.h"

/* One measurement: a collective at one size. */
typedef struct perf_case {
    int collective;
    weft_type type;
    weft_op op;
    int root;          /* -1: the collective has none */
    int rank, ranks;
    size_t count;      /* elements, as the collective's argument */
    size_t bytes;      /* of the whole array, as nccl-tests counts them */
    bool in_place;
    uint64_t seed;     /* of the data */
} perf_case;

bool perf_collective_reduces(int collective);
bool perf_collective_has_root(int collective);
bool perf_collective_has_data(int collective);
/* Out of place only: sendrecv and barrier. */
bool perf_collective_has_in_place(int collective);
/* Busbw is algbw times this. */
double perf_collective_bus_factor(int collective, int ranks);

/* Sets count and bytes from the wished size. */
void perf_case_set_size(perf_case *c, uint64_t bytes);
/* Elements that this rank's input and output have; 0 where the rank's buffer does not matter. */
size_t perf_case_input_count(const perf_case *c);
size_t perf_case_output_count(const perf_case *c);
/* In place, input and output lie in one buffer: the send buffer, for those that scatter, else the receive
 * buffer. */
bool perf_case_lives_in_send(const perf_case *c);
/* Elements of that buffer, and the part of it that is this rank's input and output. */
typedef struct perf_place { size_t container_count, input_offset, output_offset; } perf_place;
perf_place perf_case_place(const perf_case *c);

/* What this rank's output must hold: `blocks` blocks of c->count elements. */
size_t perf_case_output_blocks(const perf_case *c);
/* Block b is elements from *first of rank *source (PERF_REDUCED: of the reduction). */
void perf_case_expected(const perf_case *c, size_t block, int *source, uint64_t *first);

/* Calls it. With request NULL it blocks. */
weft_status perf_case_call(const perf_case *c, weft_comm *comm, const void *send, void *recv,
                           weft_request **request);
#endif

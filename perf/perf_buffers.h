/* The buffers that are measured: with guard zones around them, several sets for calls in flight together,
 * from malloc-like memory or from weft_mem_alloc. Fills them, and finds what a call did wrong. */
#ifndef PERF_BUFFERS_H
#define PERF_BUFFERS_H

#include "perf_collective.h"

typedef struct perf_region {
    unsigned char *memory; /* guard, `bytes` of data, guard */
    size_t bytes;
    bool registered;
} perf_region;

typedef struct perf_slot { perf_region send, recv; } perf_slot;

typedef struct perf_buffers {
    perf_slot *slots;
    int count;
    /* Where the last check found its first error, for people; "" if nowhere. */
    char finding[400];
} perf_buffers;

/* The bytes that `slots` sets for the largest case take. */
uint64_t perf_buffers_bytes(const perf_case *largest, int slots, bool in_place, bool out_of_place);
/* False after a message into text (memory). Free in both cases. */
bool perf_buffers_create(perf_buffers *b, const perf_case *largest, int slots, bool in_place,
                         bool out_of_place, bool registered, char *text, size_t text_bytes);
void perf_buffers_free(perf_buffers *b);

/* The pointers that this rank passes; NULL where the collective says that they do not matter. */
const void *perf_buffers_send(const perf_buffers *b, int slot, const perf_case *c);
void *perf_buffers_recv(const perf_buffers *b, int slot, const perf_case *c);

/* Inputs by the pattern, outputs poisoned, guards set: all slots. */
void perf_buffers_fill(perf_buffers *b, const perf_case *c);
/* Wrong elements of outputs, changed elements of inputs, and damaged bytes of guards: all slots. */
uint64_t perf_buffers_check(perf_buffers *b, const perf_case *c);
/* Zeroes what an in-place call works on, so that repeating it forever changes nothing. */
void perf_buffers_settle(perf_buffers *b, const perf_case *c);
/* Throws a slot's data out of the CPU's caches. */
void perf_buffers_flush(perf_buffers *b, int slot, const perf_case *c);
#endif

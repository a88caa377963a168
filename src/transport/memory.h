/* The process-wide table of memory that ranks on one host may read in place: what weft_mem_alloc made and
 * what weft_mem_register moved into shared memory. */
#ifndef WEFT_MEMORY_H
#define WEFT_MEMORY_H

#include "base/base.h"

/* Where a range lies for other processes: `offset` bytes into the memfd `fd`, which has `memory_bytes` in
 * all and is called `memory_id` on this host. fd belongs to the table and is open until the memory is
 * freed or deregistered. */
typedef struct weft_memory_place {
    uint64_t memory_id;
    uint64_t offset;
    size_t memory_bytes;
    int fd;
    uintptr_t start; /* all of it that is mapped here */
    size_t mapped;
} weft_memory_place;

/* Is all of [pointer, pointer + bytes) inside one memory? Then *place says where. A registered range
 * counts without its edges (its first and last page, if not whole). Any thread; one load if the process
 * has no such memory. */
bool weft_memory_find(const void *pointer, size_t bytes, weft_memory_place *place);
/* The same for a range that may reach into the edges of a registered one: its first *head and last *tail bytes are not
 * shared, and place->offset (modulo 2^64) is where its first byte would lie. False if nothing of it is shared. */
bool weft_memory_find_inner(const void *pointer, size_t bytes, weft_memory_place *place, size_t *head, size_t *tail);

/* Has this process any such memory? One load. */
bool weft_memory_any(void);

/* Memories that have ended, so that peers can be told: ids of the ended ones number *seen and later, at most `room`;
 * returns how many, moves *seen on. The oldest are forgotten after WEFT_MEMORY_ENDED further ones. One load if there are none. */
enum { WEFT_MEMORY_ENDED = 256 };
size_t weft_memory_ended(uint64_t *seen, uint64_t *ids, size_t room);

/* For ranks that are threads of one process: the address of offset 0 of a memory of this process (only
 * parts of it may be mapped there), NULL if it is not this process's. The range stays mapped until
 * released, also when it is freed. */
void *weft_memory_hold(uint64_t memory_id);
void weft_memory_release(uint64_t memory_id);
#endif

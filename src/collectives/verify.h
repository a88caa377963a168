/* The verifier's inner structures, shared by its parts: verify.c (entry, runs, results), verify_static.c
 * (form of each step, which send meets which receive), verify_memory.c (what lies in each chunk, who may
 * touch it), verify_run.c (the simulation of one lane of all ranks). */
#ifndef WEFT_VERIFY_H
#define WEFT_VERIFY_H

#include <stdarg.h>
#include <weft/schedule.h>

#include "base/base.h"

/* What a chunk holds: the sum of contributions, each of one rank's input chunk `chunk`. Sets of contributions
 * are told apart by the sum of fixed pseudo-random weights of 64 bits: a wrong set with the right sum and
 * count has a chance of 2^-64. With one contribution, `low` is its rank, so data that are only moved are
 * known exactly. */
typedef struct verify_value {
    uint64_t sum;
    uint32_t chunk;
    uint32_t count;  /* 0: undefined */
    uint32_t low;    /* operands are ranks low .. low + count - 1 in that order, else VERIFY_SCATTERED */
    uint32_t finals; /* FINAL steps it went through */
} verify_value;
enum { VERIFY_SCATTERED = 0xffffffffu, VERIFY_MANY = 0xffff, VERIFY_NONE = 0xffffffffu };

/* One chunk of memory. Lanes are numbered from 1 here, 0 is none. */
typedef struct verify_cell {
    verify_value value;
    uint32_t written;   /* epoch of the last write by its owner, 0: never */
    uint32_t last_send; /* 1 + number in its lane of the last send that reads it */
    uint32_t touched;   /* epoch of the last access by its owner, 0: never */
    uint32_t pushed;    /* epoch of the push of rank `pusher` that wrote it last, 0: its owner did */
    int32_t pusher;
    uint16_t write_lane;
    uint16_t read_lane; /* VERIFY_MANY: several */
} verify_cell;

/* What peers see of a chunk. `readers` of a chunk in staged memory and of one in place never mix. */
typedef struct verify_shared {
    verify_value snapshot;
    uint32_t published; /* epoch of the last publish, 0: never */
    uint32_t readers;   /* first verify_reader, VERIFY_NONE: no read since the last write */
    uint16_t lane;      /* of the publish */
} verify_shared;

/* A read by a peer. */
typedef struct verify_reader {
    size_t cell;
    uint32_t next, epoch, step;
    int32_t rank;  /* -1: a later write was ordered after it */
    int32_t owner;
    bool exit;     /* the owner must not return before it */
} verify_reader;

/* Where a rank's buffers lie among the cells. `at` is what is touched (in place, input and output share),
 * `raw` tells the two apart. */
typedef struct verify_rank {
    size_t at[WEFT_BUFFER_COUNT], raw[WEFT_BUFFER_COUNT];
    uint32_t chunks[WEFT_BUFFER_COUNT]; /* 0: this rank has no such buffer */
    bool in_place, mapped;
} verify_rank;

/* A lane of a rank: its sends and receives by number, for all lanes in one array each. */
typedef struct verify_lane {
    size_t first_send, first_recv;
    uint32_t sends, recvs, signals;
} verify_lane;

typedef struct verify {
    const weft_schedule *const *schedules;
    const weft_group *group;
    weft_collective collective;
    int ranks, root;
    uint32_t lanes, chunks_per_block;
    bool vector, reduces, keeps_order, publishes;
    char *text;
    size_t text_bytes;
    const char *mode; /* of the current run, for messages; NULL before */

    verify_rank *rank;
    verify_lane *lane;    /* [lane * ranks + rank] */
    uint32_t *send_step;  /* step of the k-th send */
    uint32_t *match;      /* number of the send that the k-th receive takes */
    uint64_t *weight;
    uint64_t total_weight;
    verify_cell *cells;
    verify_shared *shared; /* NULL when no rank looks into another's memory */
    size_t cell_count;
    verify_reader *readers;
    uint32_t reader_count, reader_room;
    uint32_t *stamp_cell; /* which chunk of the current step's destination a cell is */
    uint32_t *arrived;    /* barrier: [rank * ranks + other] entry known at the end of any lane */
    bool any_mapped;
} verify;

/* The simulation of one lane. Vector clocks only where ranks share memory (or for the barrier). */
typedef struct verify_run {
    verify *v;
    uint32_t lane;
    uint32_t *pc, *sends, *recvs, *signals; /* how far each rank is */
    uint32_t *fence;      /* so many sends are known to be done */
    uint32_t *done;       /* so many first sends are taken */
    unsigned char *taken; /* per send, by verify_lane.first_send of this lane */
    unsigned char *blocked;
    int *ready;
    int ready_count;
    int *waiters, *next_waiter; /* by signalling rank */
    uint32_t *clock;      /* [rank * ranks + other], NULL: not needed */
    uint32_t **send_clock, **signal_clock; /* by number */
    size_t *first_signal;
    void *free_clocks;
} verify_run;

static inline const weft_lane *verify_steps(const verify *v, int rank, uint32_t lane)
{
    return &v->schedules[rank]->lane[lane];
}
static inline verify_lane *verify_lane_of(const verify *v, int rank, uint32_t lane)
{
    return &v->lane[(size_t)lane * (size_t)v->ranks + (size_t)rank];
}
static inline int verify_host(const verify *v, int rank)
{
    return v->group && v->group->host ? v->group->host[rank] : 0;
}
static inline uint32_t verify_place_chunk(const weft_place *p, uint32_t i)
{
    return p->repeat <= 1 ? p->first + i : p->first + i / p->count * p->stride + i % p->count;
}
static inline uint32_t verify_place_chunks(const weft_place *p)
{
    return p->count * p->repeat;
}
static inline bool verify_sends(const weft_step *s)
{
    return s->kind == WEFT_STEP_SEND ||
           ((s->kind == WEFT_STEP_RECV || s->kind == WEFT_STEP_RECV_REDUCE) && s->to >= 0);
}
static inline bool verify_receives(const weft_step *s)
{
    return s->kind == WEFT_STEP_RECV || s->kind == WEFT_STEP_RECV_REDUCE;
}
static inline const weft_place *verify_sent_place(const weft_step *s)
{
    return s->kind == WEFT_STEP_SEND ? &s->src : &s->dst;
}

/* Fails with "rank R lane L step S (the step): ...". */
weft_status verify_fail(const verify *v, int rank, uint32_t lane, uint32_t step, const char *format, ...)
    WEFT_PRINTF(5, 6);
/* Fails with a text that is about no step. */
weft_status verify_fail_whole(const verify *v, const char *format, ...) WEFT_PRINTF(2, 3);

/* Form of everything, whatever the order of execution. Fills lane, send_step, match. */
weft_status verify_static(verify *v);

/* Memory as it is before the collective. */
void verify_memory_reset(verify *v);
/* Reads of the rank's own place: by a step, or by a send that lasts until it is done (`send` its number). */
weft_status verify_read_own(verify_run *r, int rank, uint32_t step, const weft_place *place, int64_t send);
/* One chunk of a place of this rank or of a local peer, for a copy or reduction. */
weft_status verify_read(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                        verify_value *value);
weft_status verify_write(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                         const verify_value *value);
/* a = a op b. */
weft_status verify_combine(verify_run *r, int rank, uint32_t step, verify_value *a, const verify_value *b);
/* What a FINAL step does to a value. */
weft_status verify_finalise(verify_run *r, int rank, uint32_t step, verify_value *value);
weft_status verify_publish(verify_run *r, int rank, uint32_t step, const weft_place *place);
/* What was published is also written to the same place of every mapped peer on the host. */
weft_status verify_push(verify_run *r, int rank, uint32_t step, const weft_place *place);
/* A mapped rank's copy of what rank src->rank pushes: has it come by now? */
weft_status verify_pushed(verify_run *r, int rank, uint32_t step, const weft_place *src, const weft_place *dst);
/* Reads by peers that the owner's return does not wait for. */
weft_status verify_exit(verify_run *r);
/* Every output as the collective says. */
weft_status verify_result(const verify *v);
/* "ranks 3..5", "rank 2 twice ..." - what a value holds instead of all ranks' contributions. */
void verify_value_text(const verify *v, const verify_value *value, char *text, size_t bytes);

weft_status verify_run_lane(verify *v, uint32_t lane);

#endif

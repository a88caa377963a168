/* The executor: runs schedules of one communicator on real buffers. One state machine for every algorithm.
 * All calls are made under the process group's lock. Knows nothing of requests, timeouts or users' threads: src/core. */
#ifndef WEFT_EXECUTE_H
#define WEFT_EXECUTE_H

#include "collectives/layout.h"
#include "collectives/reduce.h"
#include "collectives/wire.h"
#include "transport/host.h"
#include "transport/memory.h"
#include "transport/peer.h"

enum {
    WEFT_RUNNING_MAX = 64,      /* collectives of a communicator in flight; further ones queue */
    WEFT_DEPTH = 2,             /* tiles of a lane in flight */
    WEFT_LANES_MAX = 8,
    WEFT_LOCAL_SLOTS = 64,      /* local collectives in flight in shared memory: as far as a sender of small ones runs ahead */
    WEFT_STAGE_SLOTS = 8,       /* of these, large ones */
    WEFT_LONG_SLOTS = 2,        /* of these, ones of several tiles: they fill the stage, and nobody runs ahead of them */
    WEFT_SMALL_BYTES = 8 << 10, /* what one rank publishes of a small one, at most; small ones are never read in place */
    WEFT_EARLY_BUCKETS = 256,   /* a sender that runs ahead may be thousands of small collectives ahead */
    WEFT_HISTORY = 256,         /* fingerprints of past collectives that are remembered */
    WEFT_SCRATCH_BYTES = 4 << 20, /* private memory of one collective for one tile, at most */
    WEFT_WANT_BYTES = 128 << 10 /* a receive of more than that announces itself; any does while data for others lie here unread */
};

typedef struct weft_exec weft_exec;
typedef struct weft_execution weft_execution;

/* ---- a schedule made ready to run -------------------------------------------------------------- */

/* What the executor adds to a step. */
typedef struct weft_ready_step {
    uint32_t receive_ordinal;    /* k-th receive from `from` in this lane */
    uint32_t send_index;         /* k-th sending step of this lane */
    const weft_place *src_like, *dst_like; /* for scratch places: the place whose chunks have the same sizes; or NULL */
    bool published;              /* reduce and publish that follow each other: of the same chunk of the output */
} weft_ready_step;

typedef struct weft_ready_send {
    uint32_t step, ordinal;      /* the step, and k-th send to its peer in this lane */
} weft_ready_send;

/* A part of a place that no step names by itself. */
typedef struct weft_ready_like {
    struct weft_ready_like *next;
    weft_place place;
} weft_ready_like;

typedef struct weft_ready {
    weft_schedule *schedule;     /* owned */
    weft_ready_step *steps[WEFT_LANES_MAX];
    weft_ready_send *sends[WEFT_LANES_MAX];
    weft_ready_like *likes;      /* that src_like and dst_like point to, besides places of the schedule */
    bool no_memory;              /* while it is made */
    uint32_t most_sources, most_sends;
    bool local_only;             /* one lane, and nothing goes through a transport */
} weft_ready;

/* Takes the schedule over, also on failure. */
weft_status weft_ready_create(weft_schedule *schedule, weft_ready **out);
void weft_ready_destroy(weft_ready *ready);

/* ---- a communicator's side --------------------------------------------------------------------- */

/* One rank's region of the communicator's segment on a host. Every line has one writer, its rank. */
typedef struct weft_local_flag {
    _Alignas(64) _Atomic uint64_t value;
} weft_local_flag;
/* A signal, and in the same line all that a small collective needs of its sender. */
enum { WEFT_INLINE_BYTES = 88 };
typedef struct weft_local_signal {
    _Alignas(128) _Atomic uint64_t value;
    _Atomic uint64_t over;     /* local collectives of this rank up to that one are over */
    _Atomic uint64_t words[3]; /* the fingerprint of the call that raises it, hash of those before it */
    unsigned char data[WEFT_INLINE_BYTES]; /* published input that fits */
} weft_local_signal;
typedef struct weft_local_board {
    _Alignas(64) _Atomic uint64_t sequence; /* + 1; 0: none */
    _Atomic uint64_t words[2];              /* the fingerprint */
} weft_local_board;
/* Which buffers of a collective its peers read in place: memory id (0: staged) and where the buffer starts in it. Written
 * before the rank's first signal in the slot. The first `head` and last bytes, from `tail` on, of a buffer that was registered
 * and begins or ends amid a page are not shared: what is published of them is copied to edge[side][0 and 1]. */
enum { WEFT_EDGE_BYTES = 4096 + 64 }; /* a page and the rest of an element */
#define WEFT_MEMORY_PRIVATE UINT64_MAX /* memory id of what peers read by system call: offset is the address in its process */
typedef struct weft_local_mapping {
    _Alignas(64) uint64_t memory_id[2], offset[2]; /* [input, output] */
    uint64_t head[2], tail[2];                     /* in bytes from the buffer's beginning */
    uint64_t pushes;                               /* 1: writes to the others' outputs what it publishes so */
    unsigned char edge[2][2][WEFT_EDGE_BYTES];
} weft_local_mapping;
enum { WEFT_BOARDS = 2 * WEFT_LOCAL_SLOTS };
typedef struct weft_local_region {
    weft_local_signal signal[WEFT_LANES_MAX][WEFT_DEPTH][WEFT_LOCAL_SLOTS]; /* weft_mark of the signals raised */
    weft_local_flag done[WEFT_LANES_MAX][WEFT_DEPTH][WEFT_LOCAL_SLOTS];   /* weft_mark of the tiles left behind */
    weft_local_flag over;                   /* local collectives of this rank up to that one are over */
    weft_local_mapping mapping[WEFT_STAGE_SLOTS];
    weft_peer_identity identity;
    _Atomic uint32_t reach;                 /* weft_peer_verdict on the memory of the next rank of this host */
    weft_local_board board[WEFT_BOARDS];    /* what this rank has begun, to tell a mismatch from a delay */
    _Alignas(4096) unsigned char small[WEFT_LOCAL_SLOTS][WEFT_SMALL_BYTES];
    _Alignas(4096) unsigned char stage[WEFT_STAGE_SLOTS][WEFT_DEPTH][WEFT_STAGE_BYTES];
} weft_local_region;

/* A point in the life of a slot that only grows: local collective, round (tile / WEFT_DEPTH), signal. */
enum { WEFT_MARK_ROUND_BITS = 18, WEFT_MARK_SIGNAL_BITS = 10 };
static inline uint64_t weft_mark(uint64_t local_sequence, size_t round, uint32_t signal)
{
    return local_sequence << (WEFT_MARK_ROUND_BITS + WEFT_MARK_SIGNAL_BITS) | (uint64_t)round << WEFT_MARK_SIGNAL_BITS | signal;
}

/* The marks of a local collective that its tiles leave behind, when all are over; local_sequence 0: none. */
typedef struct weft_gate {
    uint64_t local_sequence, marks[WEFT_LANES_MAX][WEFT_DEPTH];
} weft_gate;

struct weft_exec {
    weft_wire *wire;
    uint32_t comm;
    int rank, ranks;
    const int *world;       /* rank in the process group of each rank */
    const int *from_world;  /* and back; -1: not in this communicator */
    size_t slice_bytes;     /* the longest, where the user said so; else 0 */
    uint32_t next_sequence;
    uint64_t next_local;
    weft_execution *running[WEFT_RUNNING_MAX];
    weft_execution *active, *queued, *idle;
    weft_incoming *early[WEFT_EARLY_BUCKETS]; /* slices and wants that came before their step, by sequence; in order of arrival */
    size_t early_count;
    weft_fingerprint history[WEFT_HISTORY];
    uint64_t before;        /* hash of all fingerprints so far */
    /* the ranks of this communicator on this host */
    weft_host *host;
    int local_count;
    const int *local_ranks;     /* communicator ranks, ascending */
    const int *local_host_index;/* their index in the host */
    const int *local_position;  /* [ranks]: place among them, -1: elsewhere */
    weft_local_region **regions; /* [local_count]; NULL: no local schedules */
    bool crowded;               /* more ranks on this host than cores for them */
    bool small_filled;          /* the own region's small slots have their memory */
    uint64_t *over;             /* [local_count]: collectives of each local rank known to be over */
    weft_peer_verdict reach;    /* do all local ranks reach each other's private memory? */
    unsigned char *bounce;      /* for a reduction's sources in private memory of others */
    size_t bounce_capacity;
    uint64_t memories_ended;    /* of this process, that local peers were told of */
    int spins, yields;          /* looks at a signal, without and with giving up the core in between, before a call on the inline
                                   path goes on in the executor */
    uint32_t inline_sends;      /* slices of the call on the inline path that the transport has */
    bool inline_lost;           /* one of them did not leave */
    struct weft_inline_run *inline_run; /* that waits for a message; or NULL */
    void (*trace)(void *context, uint32_t step); /* NULL, but in tests: a step of a lane is over */
    void *trace_context;
    weft_gate last_done[WEFT_LOCAL_SLOTS]; /* of the last local collective in each slot */
    uint64_t last_large[WEFT_STAGE_SLOTS]; /* number of the last large one in each; 0: none */
    unsigned longs;                        /* ones of several tiles so far */
    /* told once when the communicator goes into error; rank: culprit in the process group or -1 */
    void (*fail)(void *context, weft_status status, int rank, const char *text);
    void *context;
    weft_status error;
};

weft_status weft_exec_init(weft_exec *e);
/* No execution may be active any more. Takes a zeroed one. */
void weft_exec_clear(weft_exec *e);

/* Wire client's part for collectives. */
weft_take weft_exec_take(weft_exec *e, weft_incoming *in);
void weft_exec_landed(weft_exec *e, weft_incoming *in);
void weft_exec_lost(weft_exec *e, weft_incoming *in);
void weft_exec_kept(weft_exec *e, weft_incoming *in);
void weft_exec_completed(weft_exec *e, weft_incoming *in);

/* Advances everything that can advance; returns how many steps moved. */
int weft_exec_progress(weft_exec *e);
/* After a while without progress: asks those that are waited for, and compares what they do with what we do. */
void weft_exec_nudge(weft_exec *e);
/* All active executions end with that error, as soon as no transport holds their memory. */
void weft_exec_abort(weft_exec *e, weft_status status);
/* The communicator is in error: tells `fail`. */
void weft_exec_fail(weft_exec *e, weft_status status, int world_rank, const char *format, ...) WEFT_PRINTF(4, 5);

/* ---- one collective ---------------------------------------------------------------------------- */

typedef struct weft_cursor {
    const weft_place *place, *like;
    uint32_t run, chunk;
    size_t offset; /* bytes of the chunk that are behind */
} weft_cursor;

typedef struct weft_sending {
    weft_cursor cursor;
    size_t total, issued, allowed; /* bytes: of the step, given to the transport, that may be given */
    uint32_t outstanding;          /* slices that the transport has */
    bool begun, wanted, all_issued;
} weft_sending;

/* A lane at work on a tile. */
typedef struct weft_task {
    weft_execution *execution;
    uint32_t lane;
    uint32_t step;
    size_t tile;
    bool active, entered, running, again;
    bool gated;                    /* its place in shared memory is still in use by an earlier tile */
    bool asked;                    /* the sender of this step knows that it is waited for */
    weft_cursor into, with;        /* receive: destination, and the operand of a reducing one */
    size_t expected, announced, landed;
    uint32_t slices, early;        /* landed; kept ones whose payload is still coming */
    uint32_t signals;
    uint32_t closed, open, begun;  /* sends: done without gap, first not all issued, begun */
    weft_sending *sends;
} weft_task;

struct weft_execution {
    weft_exec *exec;
    weft_execution *next, **link;
    const weft_ready *ready;
    const weft_ready *bound;       /* what it is bound for, so that the same call again need not be bound again; NULL: nothing */
    size_t bound_count;
    weft_type bound_type;
    weft_fingerprint fingerprint;
    uint32_t sequence;
    uint64_t before;               /* hash of the fingerprints of the communicator's earlier calls */
    uint64_t local_sequence;
    size_t stage_slot;             /* of a large one */
    weft_layout layouts[WEFT_BUFFER_COUNT]; /* input, output; scratch: base and chunk stride only */
    weft_reduction reduction;
    size_t tile_elements, tiles, largest_chunk;
    size_t chunk_bytes;            /* stride of scratch and staged chunks */
    weft_gate gates[2];            /* what `done` must have reached before the first tiles: of whom was in the slots before */
    uint32_t tasks_left;
    uint32_t in_flight;            /* slices that point into this execution's memory */
    uint32_t lost_sends;           /* of these, those whose transport gave up */
    int moved;
    bool gated;                    /* its slot in shared memory is still in use by an earlier collective */
    bool small;                    /* staged in a small slot, or in line */
    bool in_line;                  /* published input lies in the signal's line */
    bool streams;                  /* the output does not stay in a core's cache */
    size_t larger_bytes;           /* of input and output */
    size_t host_bytes;             /* of both, of all ranks of this host */
    bool may_map;                  /* buffers of equal blocks that may be read in place */
    weft_memory_place mapped[2];   /* input and output as peers may read them; memory_id 0: staged */
    weft_status status;
    bool active, drained;
    bool unreached;                /* a step could not reach a peer's memory: it is not over */
    int64_t unreached_ns;          /* since when */
    void (*done)(void *context, weft_execution *x);
    void *context;
    weft_task tasks[WEFT_LANES_MAX][WEFT_DEPTH];
    weft_sending *sends;           /* storage of the tasks' sends */
    size_t sends_capacity;
    void *scratch;
    size_t scratch_capacity;
    const void **pointers;         /* of a reduction's sources */
    weft_cursor *cursors;
    size_t pointers_capacity;
};

/* What to run. Addresses may be NULL where the buffer is not used. */
typedef struct weft_execution_args {
    const weft_ready *ready;
    const void *input;
    void *output;
    size_t count;                  /* elements per block (all_reduce, broadcast, reduce: all) */
    const size_t *input_counts, *input_displs;   /* vector forms: per block; must live until the end */
    const size_t *output_counts, *output_displs;
    bool sizes_shared;             /* all ranks know all counts, so that tiles may be cut */
    bool staged;                   /* peers must not read the buffers in place */
    weft_reduction reduction;
    weft_fingerprint fingerprint;
} weft_execution_args;

/* An execution object, reused ones first. NULL: out of memory. */
weft_execution *weft_execution_get(weft_exec *e);
/* Binds it; allocates nothing if the same shape was bound before. */
weft_status weft_execution_bind(weft_execution *x, const weft_execution_args *args);
/* Takes the communicator's next number and begins; `done` is called from here or from progress. */
void weft_execution_start(weft_execution *x, void (*done)(void *context, weft_execution *x), void *context);
/* Where the inline path (inline.h) left a collective: of one lane and one tile; in shared memory, staged, or by messages. */
typedef struct weft_execution_point {
    uint32_t sequence;
    uint64_t before, local_sequence;
    uint32_t step;      /* the first that is not over */
    uint32_t sends;     /* sending steps before it, given to the transport whole */
    const void *scratch; /* what they left in scratch memory */
    size_t scratch_bytes;
} weft_execution_point;
/* Goes on from there: x is bound as ever. */
void weft_execution_resume(weft_execution *x, const weft_execution_point *point, void (*done)(void *context, weft_execution *x),
                           void *context);
/* Gives the object back; frees it. */
void weft_execution_put(weft_execution *x);
void weft_execution_destroy(weft_execution *x);
/* What it waits for, for people; *world_rank: the rank (in the process group) waited for or -1. */
void weft_execution_describe(const weft_execution *x, char *text, size_t bytes, int *world_rank);
/* "all_reduce f32 sum count 1024 root 0" */
void weft_fingerprint_text(const weft_fingerprint *f, char *text, size_t bytes);

/* ---- inside the executor ----------------------------------------------------------------------- */

void weft_cursor_start(weft_cursor *c, const weft_place *place, const weft_place *like);
/* The next contiguous piece, at most `most` bytes; 0 at the end. */
size_t weft_cursor_next(const weft_execution *x, const weft_task *t, weft_cursor *c, size_t most, char **address);
size_t weft_place_bytes(const weft_execution *x, const weft_task *t, const weft_place *place, const weft_place *like);
void weft_execute_copy(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready);
void weft_execute_reduce(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready);
void weft_execute_publish(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready);
/* Tells the local ranks which of this rank's buffers they may read in place. Before the first signal. */
void weft_execute_announce_mapping(weft_execution *x);
/* Is the input of that rank of this host read by system call? Valid after a wait for its signal. */
bool weft_execute_reads_private(const weft_execution *x, int rank);
/* Are the buffers that the step reads of other ranks there? Their descriptors may still be under way. */
bool weft_execute_peers_mapped(const weft_execution *x, const weft_step *step);
/* Are the outputs there that the step pushes to? */
bool weft_execute_can_push(const weft_execution *x, const weft_step *step);
/* Stores `bytes` that arrived at the task's receive cursors. */
void weft_execute_store(weft_execution *x, weft_task *t, const weft_step *step, const unsigned char *payload, size_t bytes);

/* Where chunk `chunk` of a published place lies in its rank's stage. */
size_t weft_stage_offset(const weft_execution *x, const weft_place *p, uint32_t chunk);

/* What the executor and the inline path do alike. */

typedef struct weft_signal {
    const weft_fingerprint *fingerprint;
    uint64_t before, over, mark;
} weft_signal;
/* Writes a signal; ringing is the caller's. */
void weft_signal_raise(weft_local_signal *flag, const weft_signal *signal);
void weft_exec_ring_all(const weft_exec *e);
/* A collective's number, kept in the history and told to the ranks of this host. */
void weft_exec_take_number(weft_exec *e, const weft_fingerprint *f, uint32_t *sequence, uint64_t *before);
/* May the next local collective, of one tile, begin in its slot? */
bool weft_exec_slot_free(const weft_exec *e, bool small);
/* The next local sequence number. stage_slot: the next one's if it is not small, by weft_exec_stage_slot. */
uint64_t weft_exec_take_slot(weft_exec *e, uint32_t lanes, size_t tiles, bool small, size_t stage_slot);
/* Where a large local collective stages and tells of its mappings: that of that number, or the next if it has several tiles.
 * Such a one gains by overlapping with the next only where it goes between hosts too. */
static inline size_t weft_exec_stage_slot(const weft_exec *e, uint64_t local_sequence, size_t tiles)
{
    bool one_host = e->local_count == e->ranks;
    return tiles == 1 ? local_sequence % WEFT_STAGE_SLOTS : one_host ? 0 : e->longs % WEFT_LONG_SLOTS;
}
/* No local collective is under way: tells so those who raise signals and wait for none, so that they may run ahead. */
void weft_exec_tell_over(const weft_exec *e);
/* This rank has read what it reads of a tile. */
void weft_exec_leave(const weft_exec *e, uint64_t local_sequence, uint32_t lane, size_t tile);

static inline weft_incoming **weft_exec_early(weft_exec *e, uint32_t sequence)
{
    return &e->early[sequence % WEFT_EARLY_BUCKETS];
}

/* The step a task is at, NULL behind the last. */
static inline const weft_step *weft_task_step(const weft_task *t)
{
    const weft_lane *l = &t->execution->ready->schedule->lane[t->lane];
    return t->step < l->count ? &l->steps[t->step] : NULL;
}
static inline const weft_ready_step *weft_task_ready(const weft_task *t)
{
    return &t->execution->ready->steps[t->lane][t->step];
}
static inline bool weft_step_receives(const weft_step *step)
{
    return step->kind == WEFT_STEP_RECV || step->kind == WEFT_STEP_RECV_REDUCE;
}
static inline bool weft_fingerprint_same(const weft_fingerprint *a, const weft_fingerprint *b)
{
    return __builtin_memcmp(a, b, sizeof *a) == 0;
}
/* execute.c: advances a task as far as it goes; from inside itself: notes that it must go on. */
void weft_task_run(weft_task *t);
/* An execution in error whose last slice came back ends soon. */
void weft_execution_drained(weft_execution *x);
/* execute_traffic.c */
void weft_task_begin_send(weft_task *t, const weft_step *step, const weft_ready_step *ready, bool forward);
void weft_task_pump(weft_task *t);
/* The task's first sending steps were begun on the inline path: what the transport still has of them is this task's. */
void weft_task_adopt_sends(weft_task *t, uint32_t sends);
void weft_task_enter_receive(weft_task *t, const weft_step *step, const weft_ready_step *ready);
/* Takes slices and wants that came before their step. */
void weft_task_take_early(weft_task *t);
void weft_execution_take_wants(weft_exec *e, weft_execution *x);
/* Tells the sender of the current step that it is waited for. */
void weft_task_ask(weft_task *t, const weft_step *step);
/* Compares what a slice's sender does in this collective with what this rank does or did. */
bool weft_exec_agrees(weft_exec *e, const weft_incoming *in, const weft_fingerprint *mine);
/* execute_watch.c */
void weft_exec_mismatch(weft_exec *e, uint32_t sequence, const weft_fingerprint *mine, int peer_world,
                        const weft_fingerprint *theirs);
/* Two ranks of a host agree in this collective, but not in all before it. */
void weft_exec_mismatch_before(weft_exec *e, uint32_t sequence, int rank);

#endif

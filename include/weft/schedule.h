/* weft/schedule.h - a collective as data: planning, printing, verifying and costing schedules.
 *
 * A planner is a pure function from (collective, group) to one rank's list of steps. It does no I/O and knows no byte counts: it
 * speaks of chunks. The verifier, the cost model, the printers and the executor all read the same list.
 */
#ifndef WEFT_SCHEDULE_H
#define WEFT_SCHEDULE_H

#include <weft/weft.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_COLLECTIVE_LIST(X)                                                                       \
    X(WEFT_ALL_REDUCE, "all_reduce") X(WEFT_ALL_GATHER, "all_gather")                                 \
    X(WEFT_REDUCE_SCATTER, "reduce_scatter") X(WEFT_BROADCAST, "broadcast") X(WEFT_REDUCE, "reduce")  \
    X(WEFT_GATHER, "gather") X(WEFT_SCATTER, "scatter") X(WEFT_ALL_TO_ALL, "all_to_all")              \
    X(WEFT_BARRIER, "barrier")
#define WEFT_COLLECTIVE_ENUM(name, text) name,
typedef enum weft_collective { WEFT_COLLECTIVE_LIST(WEFT_COLLECTIVE_ENUM) WEFT_COLLECTIVE_COUNT } weft_collective;
#undef WEFT_COLLECTIVE_ENUM

/* linear: root and everyone else directly (gather, scatter and their vector forms). */
#define WEFT_ALGORITHM_LIST(X)                                                                        \
    X(WEFT_AUTO, "auto") X(WEFT_RING, "ring") X(WEFT_TREE, "tree")                                    \
    X(WEFT_HALVING_DOUBLING, "halving_doubling") X(WEFT_RECURSIVE_DOUBLING, "recursive_doubling")     \
    X(WEFT_KNOMIAL, "knomial") X(WEFT_BRUCK, "bruck") X(WEFT_PAIRWISE, "pairwise")                    \
    X(WEFT_LINEAR, "linear") X(WEFT_FLAT, "flat") X(WEFT_DIRECT, "direct")                            \
    X(WEFT_HIERARCHICAL, "hierarchical")
#define WEFT_ALGORITHM_ENUM(name, text) name,
typedef enum weft_algorithm { WEFT_ALGORITHM_LIST(WEFT_ALGORITHM_ENUM) WEFT_ALGORITHM_COUNT } weft_algorithm;
#undef WEFT_ALGORITHM_ENUM

WEFT_API const char *weft_collective_name(weft_collective collective);
WEFT_API weft_status weft_collective_parse(const char *text, weft_collective *collective);
WEFT_API const char *weft_algorithm_name(weft_algorithm algorithm);
WEFT_API weft_status weft_algorithm_parse(const char *text, weft_algorithm *algorithm);

/* ---- places ------------------------------------------------------------------------------------ */

/* Each rank has an input, an output and a scratch buffer. Input and output consist of `blocks` blocks of
 * `chunks_per_block` chunks; chunk c is part c % chunks_per_block of block c / chunks_per_block:
 *
 *   collective       input blocks      output blocks
 *   all_reduce       1                 1
 *   all_gather       1 (own)           n (by source)
 *   reduce_scatter   n (by receiver)   1 (own)
 *   broadcast        1 (read at root)  1 (written everywhere, at root too)
 *   reduce           1                 1 (written at root)
 *   gather           1 (own)           n (at root)
 *   scatter          n (at root)       1
 *   all_to_all       n (by receiver)   n (by source)
 *   barrier          0                 0
 *
 * In place, equal data share memory: all_reduce, broadcast, reduce: chunk c of both; all_gather, gather: input
 * chunk i is output chunk rank * chunks_per_block + i; reduce_scatter, scatter: output chunk i is input chunk
 * rank * chunks_per_block + i; all_to_all: chunk c of both. Every planner must be right in place too, unless
 * the schedule says not_in_place (the executor then copies the input first).
 *
 * A scratch chunk has room for the largest chunk. Chunks may be empty and, in the vector collectives, of
 * different sizes per block; a copy or reduction joins only places of equal shape whose chunks have equal size.
 */
typedef enum weft_buffer { WEFT_INPUT, WEFT_OUTPUT, WEFT_SCRATCH, WEFT_BUFFER_COUNT } weft_buffer;

/* A set of chunks: `repeat` runs of `count` chunks, a run every `stride` chunks, from `first`. */
typedef struct weft_place {
    int32_t rank;    /* whose buffer; another rank's only where it is on the same host and after a wait */
    uint32_t buffer; /* weft_buffer */
    uint32_t first, count;
    uint32_t repeat, stride; /* 1, 0 for one run */
} weft_place;

/* ---- steps ------------------------------------------------------------------------------------- */

/* Steps of a lane run in order. A step is over when what it receives has arrived and been stored and its
 * local work is done; what it sends may still be on the way: a later step of the lane that overwrites it
 * waits, by `fence`. The k-th receive from p in lane l takes what p's k-th send to this rank in lane l
 * sent; both places have the same shape (count, repeat). A place of count 0 is a message all the same: a
 * barrier's have no more. */
typedef enum weft_step_kind {
    WEFT_STEP_SEND,             /* src -> rank `to` */
    WEFT_STEP_RECV,             /* from rank `from` -> dst; with `to` >= 0 also forwarded to `to`, slice by slice */
    WEFT_STEP_RECV_REDUCE,      /* dst = src op incoming (or incoming op src); with `to` >= 0 the result is forwarded */
    WEFT_STEP_COPY,             /* dst = src, both of this rank or src of a local peer */
    WEFT_STEP_REDUCE,           /* dst = source[0] op source[1] op ...; sources may be of local peers */
    WEFT_STEP_PUBLISH,          /* src (input or output of this rank) becomes readable by local peers as the same place:
                                   a copy into shared memory, or nothing where the buffer is mapped already */
    WEFT_STEP_SIGNAL,           /* raises this rank's signal of this lane by one */
    WEFT_STEP_WAIT,             /* until rank `from`, on this host, has raised its signal `value` times in this schedule */
    WEFT_STEP_KIND_COUNT
} weft_step_kind;

enum {
    WEFT_STEP_INCOMING_FIRST = 1, /* recv_reduce: incoming op src */
    WEFT_STEP_FINAL = 2,        /* (recv_)reduce or copy: its result has all ranks' contributions (for avg) */
    WEFT_STEP_IF_MAPPED = 4,    /* signal, wait: needed only where a rank's buffer may be read in place */
    WEFT_STEP_PUSH = 8,         /* publish of output: also written to the same place of the peers on this host whose output is
                                   mapped; every one of them must have begun, be done with what is there, and copy it `pushed`.
                                   The root of a broadcast that is not in place is busy with its own output: nothing is done */
    WEFT_STEP_PUSHED = 16       /* copy: of what the source's rank pushes; if it does and this rank's output is mapped, nothing */
};

typedef struct weft_step {
    uint8_t kind;    /* weft_step_kind */
    uint8_t flags;
    uint16_t sources; /* reduce: how many */
    int32_t from;    /* recv*, wait; else -1 */
    int32_t to;      /* send, forwarding; else -1 */
    uint32_t value;  /* wait: count; reduce: index of its first source in schedule->sources */
    uint32_t fence;  /* this step may start when the first `fence` sends of its lane are done (set by weft_schedule_finish) */
    weft_place src;  /* send, recv_reduce, copy, publish */
    weft_place dst;  /* recv, recv_reduce, copy, reduce */
} weft_step;

typedef struct weft_lane {
    weft_step *steps;
    uint32_t count;
    uint32_t sends;   /* steps that send or forward */
    uint32_t signals; /* signal steps */
} weft_lane;

/* One rank's schedule. Read-only once planned; freed by weft_schedule_free. */
typedef struct weft_schedule {
    weft_collective collective;
    weft_algorithm algorithm;
    int rank, ranks, root;
    uint32_t input_blocks, output_blocks, chunks_per_block; /* these, scratch_chunks and lanes: same on all ranks */
    uint32_t scratch_chunks;
    bool publishes_input, publishes_output; /* any publish step of any rank */
    bool keeps_order;   /* right for operations that do not commute */
    bool not_in_place;  /* the executor must give it an input that does not share memory with the output */
    bool local;         /* any rank's schedule has publish, signal or wait steps */
    uint32_t lanes;
    weft_lane *lane;
    weft_place *sources; /* of reduce steps */
    uint32_t source_count;
    void *owner;         /* storage of the builder */
} weft_schedule;

/* ---- planning ---------------------------------------------------------------------------------- */

/* What a planner sees of the group. numa and cache: neighbours in number are neighbours on the machine; 0 .. ranks - 1, -1: the
 * rank may run on several of them; NULL: nothing is known. */
typedef struct weft_group {
    int ranks;
    const int *host;   /* host of each rank, numbered 0.. in order of first appearance; NULL: all on one host */
    const int *numa;   /* NUMA node of each rank, a number within its host */
    const int *cache;  /* last-level cache of each rank, a number within its host */
} weft_group;

typedef struct weft_plan_request {
    weft_collective collective;
    weft_algorithm algorithm; /* not WEFT_AUTO */
    int root;                 /* rooted collectives; else 0 */
    weft_group group;
    int lanes;                /* wished number of lanes, 0: the planner's choice */
    int radix;                /* knomial; 0: the planner's choice */
    bool vector;              /* sizes differ per rank: only planners that say so */
} weft_plan_request;

/* May that algorithm serve the request? NULL: yes; else why not, for people ("needs all ranks on one host"). */
WEFT_API const char *weft_plan_obstacle(const weft_plan_request *request);
/* Plans for one rank; time and memory proportional to the result. *schedule is the caller's. */
WEFT_API weft_status weft_plan(const weft_plan_request *request, int rank, weft_schedule **schedule);
WEFT_API void weft_schedule_free(weft_schedule *schedule);
/* A 64-bit digest of what all ranks share of the plan (not of one rank's steps). */
WEFT_API uint64_t weft_plan_digest(const weft_plan_request *request);

/* ---- verifying --------------------------------------------------------------------------------- */

/* Runs all ranks' schedules symbolically: right result everywhere, every send matched with the same shape, no deadlock
 * with one slice of buffering per connection, no two unordered steps touch one place, in place and not,
 * mapped and staged, tile t+1 beside tile t. WEFT_ERR_MISMATCH and a text that names rank, lane and step. */
WEFT_API weft_status weft_verify(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                                 char *text, size_t text_bytes);
/* Plans all ranks and verifies them. */
WEFT_API weft_status weft_plan_verify(const weft_plan_request *request, char *text, size_t text_bytes);

/* ---- cost -------------------------------------------------------------------------------------- */

/* Of one kind of path. Time of a slice of b bytes: latency_ns + b / bandwidth_Bps; sending occupies the
 * sender's and the receiver's port for b / bandwidth_Bps. */
typedef struct weft_link { double latency_ns, bandwidth_Bps; } weft_link;
typedef struct weft_cost_model {
    weft_link local;        /* two ranks on one host, through the transport */
    weft_link remote;       /* two hosts; shared by all ranks of a host in each direction */
    double signal_ns;       /* a signal seen by a local peer */
    double copy_Bps;        /* memory copy of one rank */
    double reduce_Bps;      /* result bytes per second, two sources, one rank */
    double step_ns;         /* executor's cost of a step */
    int cores_per_host;     /* ranks beyond it share */
    double switch_ns;       /* a core's change to another rank: who waits for a rank that shares its core waits for that too */
} weft_cost_model;
/* Figures of an ordinary machine. */
WEFT_API void weft_cost_model_default(weft_cost_model *model);
/* Predicted time in ns of all ranks' schedules for `bytes` (as weft-perf counts them). */
WEFT_API weft_status weft_cost(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                               const weft_cost_model *model, size_t bytes, double *time_ns);
/* The same without schedules, by formula: cheap enough for the tuner; within a small factor of weft_cost. */
WEFT_API weft_status weft_cost_estimate(const weft_plan_request *request, const weft_cost_model *model,
                                        size_t bytes, double *time_ns);

/* ---- printing ---------------------------------------------------------------------------------- */

typedef enum weft_print_format { WEFT_PRINT_TEXT, WEFT_PRINT_JSON, WEFT_PRINT_SVG, WEFT_PRINT_DOT } weft_print_format;
/* Prints all ranks' schedules; svg (a timeline by the cost model for `bytes`) and dot too. */
WEFT_API weft_status weft_schedule_print(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                                         const weft_cost_model *model, size_t bytes, weft_print_format format,
                                         FILE *stream);
/* One step in one line, for messages: "lane 0 step 3: recv_reduce from 2: output[4] = output[4] op in". */
WEFT_API void weft_step_text(const weft_schedule *schedule, uint32_t lane, uint32_t step, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif

/* What the files of libweft-mpi.so share: MPI programs whose collectives run on Weft, unchanged, by LD_PRELOAD.
 *
 * The rule that holds it together: whether a call is served by Weft or passed on to the MPI depends only on what MPI makes
 * equal on all ranks of the communicator (the communicator, its earlier collectives, the operation and the type of a
 * reduction), never on a buffer, a layout or a count of one rank. Ranks that decide differently would wait for each other
 * for ever. So calls that only move bytes are served for every type: layouts that are not contiguous are packed here.
 */
#ifndef WEFT_MPI_H
#define WEFT_MPI_H

#include <mpi.h>
#include <weft/weft.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Open MPI progresses functions of others; MPICH does not, so there more of its calls are taken (see progress.c). */
#ifdef OPEN_MPI
#define WEFT_MPI_OPEN_MPI 1
#else
#define WEFT_MPI_OPEN_MPI 0
#endif

#define WEFT_MPI_EXPORT __attribute__((visibility("default")))
/* Without a call to find the variable. The few bytes are there also in a component that is loaded later. */
#define WEFT_MPI_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

/* The collectives that are served or counted. */
#define WEFT_MPI_KINDS(X)                                                                                            \
    X(WEFT_MPI_BARRIER, "Barrier") X(WEFT_MPI_BCAST, "Bcast") X(WEFT_MPI_REDUCE, "Reduce")                           \
    X(WEFT_MPI_ALLREDUCE, "Allreduce") X(WEFT_MPI_REDUCE_SCATTER_BLOCK, "Reduce_scatter_block")                      \
    X(WEFT_MPI_REDUCE_SCATTER, "Reduce_scatter") X(WEFT_MPI_GATHER, "Gather") X(WEFT_MPI_GATHERV, "Gatherv")         \
    X(WEFT_MPI_SCATTER, "Scatter") X(WEFT_MPI_SCATTERV, "Scatterv") X(WEFT_MPI_ALLGATHER, "Allgather")               \
    X(WEFT_MPI_ALLGATHERV, "Allgatherv") X(WEFT_MPI_ALLTOALL, "Alltoall") X(WEFT_MPI_ALLTOALLV, "Alltoallv")         \
    X(WEFT_MPI_ALLTOALLW, "Alltoallw") X(WEFT_MPI_SCAN, "Scan") X(WEFT_MPI_EXSCAN, "Exscan")                         \
    X(WEFT_MPI_NEIGHBOR_ALLGATHER, "Neighbor_allgather") X(WEFT_MPI_NEIGHBOR_ALLGATHERV, "Neighbor_allgatherv")      \
    X(WEFT_MPI_NEIGHBOR_ALLTOALL, "Neighbor_alltoall") X(WEFT_MPI_NEIGHBOR_ALLTOALLV, "Neighbor_alltoallv")          \
    X(WEFT_MPI_NEIGHBOR_ALLTOALLW, "Neighbor_alltoallw")
#define WEFT_MPI_KIND_ENUM(name, text) name,
typedef enum weft_mpi_kind { WEFT_MPI_KINDS(WEFT_MPI_KIND_ENUM) WEFT_MPI_KIND_COUNT } weft_mpi_kind;
#undef WEFT_MPI_KIND_ENUM

/* What became of a call. */
#define WEFT_MPI_FATES(X)                                                                                            \
    X(WEFT_MPI_SERVED, "served") X(WEFT_MPI_INTERCOMM, "intercommunicator") X(WEFT_MPI_ONE_RANK, "one rank")         \
    X(WEFT_MPI_OPERATION, "operation or its type") X(WEFT_MPI_NOT_YET, "not blocking, before the first blocking one") \
    X(WEFT_MPI_NO_COMM, "no communicator of Weft") X(WEFT_MPI_ARGUMENTS, "arguments for the MPI to refuse")          \
    X(WEFT_MPI_NOT_COVERED, "not covered")
#define WEFT_MPI_FATE_ENUM(name, text) name,
typedef enum weft_mpi_fate { WEFT_MPI_FATES(WEFT_MPI_FATE_ENUM) WEFT_MPI_FATE_COUNT } weft_mpi_fate;
#undef WEFT_MPI_FATE_ENUM

typedef enum weft_mpi_form { WEFT_MPI_BLOCKING, WEFT_MPI_REQUEST, WEFT_MPI_PERSISTENT } weft_mpi_form;

/* Counts or displacements of a call: of int, or of 64 bits in the large-count forms. */
typedef struct weft_mpi_numbers {
    const void *values;
    size_t width; /* bytes of one */
} weft_mpi_numbers;

static inline ptrdiff_t weft_mpi_number(weft_mpi_numbers numbers, int i)
{
    if (numbers.width == sizeof(int))
        return ((const int *)numbers.values)[i];
    int64_t value;
    memcpy(&value, (const char *)numbers.values + (size_t)i * sizeof value, sizeof value);
    return (ptrdiff_t)value;
}

void weft_mpi_count(weft_mpi_kind kind, weft_mpi_fate fate, size_t bytes); /* report.c */

/* ---- communicators (communicator.c) ------------------------------------------------------------ */

/* What Weft keeps for an MPI communicator, as its attribute. Lives until the MPI communicator is freed and the last
 * operation on it has ended. */
typedef struct weft_mpi_comm {
    weft_comm *weft; /* NULL: all calls on it are passed on, because of `fate` */
    weft_mpi_fate fate;
    MPI_Comm comm;
    int rank, size;
    bool bootstrapped; /* counts among the few that have connections of their own */
    _Atomic int references;
    _Atomic bool freed; /* by the user; still to be released here */
    struct weft_mpi_comm *next, **link;
} weft_mpi_comm;

/* The communicator's, made at the first call that may wait for all ranks; NULL and *fate if the call is to be passed on. */
weft_mpi_comm *weft_mpi_comm_of(MPI_Comm comm, weft_mpi_form form, weft_mpi_fate *fate);
void weft_mpi_comm_release(weft_mpi_comm *c);
/* Before a communicator is freed. */
void weft_mpi_comm_forget(MPI_Comm comm);
/* Releases what belongs to communicators that have been freed. Not where the MPI may hold locks. */
void weft_mpi_release_freed(void);
/* Between the first collective and MPI_Finalize. */
bool weft_mpi_ready(void);
/* In MPI_Finalize: waits for what is under way, reports, gives everything back. */
void weft_mpi_end(void);
/* Reports a failure of Weft; the MPI error code. */
int weft_mpi_fail(const weft_mpi_comm *c, weft_mpi_kind kind, weft_status status);
/* This thread is in a collective of the MPI that Weft itself needs. */
bool weft_mpi_own_call(void);

/* The communicator of one rank that a call was passed on for last: for such a call a comparison must do. */
extern _Atomic(MPI_Comm) weft_mpi_lone_comm;
static inline bool weft_mpi_is_lone(weft_mpi_kind kind, MPI_Comm comm)
{
    if (comm != atomic_load_explicit(&weft_mpi_lone_comm, memory_order_relaxed))
        return false;
    weft_mpi_count(kind, WEFT_MPI_ONE_RANK, 0);
    return true;
}

/* ---- progress (progress.c) --------------------------------------------------------------------- */

bool weft_mpi_progress_begin(void);
void weft_mpi_progress_end(void);
/* From now on the MPI calls weft_mpi_poll while it waits, if it is one that does. */
void weft_mpi_progress_join(void);
/* This thread is in the MPI because it waits in Weft, which must not be entered again. */
bool weft_mpi_inside(void);
/* Another thread progresses Weft while this one is in the MPI; the end may come without a beginning. */
void weft_mpi_help_begin(void);
void weft_mpi_help_end(void);
extern _Atomic int weft_mpi_helped_threads;

/* ---- types and operations (types.c) ------------------------------------------------------------ */

typedef struct weft_mpi_type {
    size_t size;      /* bytes of data of one element */
    ptrdiff_t extent; /* bytes from one to the next */
    bool contiguous;  /* in memory as when packed */
    int8_t weft;      /* weft_type for reductions, -1: none */
    uint8_t lanes;    /* Weft's elements in one: 2 for complex */
    uint8_t class;
} weft_mpi_type;

weft_status weft_mpi_types_create(void);
void weft_mpi_types_destroy(void);
/* False: not a type. */
bool weft_mpi_type_find(MPI_Datatype type, weft_mpi_type *found);
/* Whether Weft has the reduction; then *weft is its operation. Does not ask the MPI. */
bool weft_mpi_reduction_find(MPI_Op op, MPI_Datatype type, weft_op *weft, weft_mpi_type *layout);

/* ---- operations (operation.c, requests.c) ------------------------------------------------------ */

/* One side of a collective: the user's buffer as `blocks` blocks of elements of a type. */
typedef struct weft_mpi_side {
    char *user;
    char *data;      /* what Weft gets: user, or a packed copy, or WEFT_IN_PLACE */
    bool packed;     /* data is a packed copy, ours */
    bool in_place;
    MPI_Datatype type;
    bool own_type;   /* type is a duplicate: the user may free theirs */
    weft_mpi_type layout;
    int blocks;
    size_t block_count;      /* elements of each block where bytes is NULL */
    size_t *bytes, *offsets; /* of each block in data, for vector forms; one allocation at bytes */
    ptrdiff_t *places;       /* of each block in user, in bytes, for packed vector forms; of the same allocation */
    size_t total;            /* bytes of all blocks */
} weft_mpi_side;

typedef struct weft_mpi_operation {
    weft_mpi_kind kind;
    weft_mpi_form form;
    weft_mpi_comm *comm;
    weft_mpi_side send, recv;
    int root;
    size_t count; /* elements for Weft where it is one number */
    weft_type type;
    weft_op op;
    size_t *counts; /* reduce_scatter: elements of each rank */
    char *result;   /* where Weft puts what has to be copied to recv.user at the end; ours */
    size_t result_bytes;
    weft_status failed; /* preparing failed on this rank alone */
    /* with a request */
    weft_request *request;
    MPI_Request handle;
    weft_comm *own; /* persistent ones: they may be started in another order on each rank, which one of Weft's may not */
    int error, tag;
    bool active;
    struct weft_mpi_operation *next, **link;                       /* under way */
    struct weft_mpi_operation *next_persistent, **persistent_link; /* all persistent ones */
} weft_mpi_operation;

/* Start of every call: finds the communicator. NULL: the call is to be passed on. */
weft_mpi_comm *weft_mpi_call_comm(weft_mpi_kind kind, weft_mpi_form form, MPI_Comm comm);
void weft_mpi_operation_begin(weft_mpi_operation *o, weft_mpi_kind kind, weft_mpi_form form, weft_mpi_comm *c);
/* The call is to be passed on after all, for this reason; false. */
bool weft_mpi_pass(weft_mpi_operation *o, weft_mpi_fate fate);
void weft_mpi_side_set(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, size_t count, MPI_Datatype type, int blocks);
void weft_mpi_side_set_vector(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, weft_mpi_numbers counts,
                              weft_mpi_numbers displs, MPI_Datatype type, int blocks);
/* Memory that goes with the operation; on failure the operation is marked as failed. */
void *weft_mpi_memory(weft_mpi_operation *o, size_t bytes);
/* The prepared operation: blocking, or begun with *request, or persistent. An MPI error code. Owns *o's memory. */
int weft_mpi_run(weft_mpi_operation *o, MPI_Request *request);

void weft_mpi_pack_inputs(weft_mpi_operation *o);
weft_status weft_mpi_issue(weft_mpi_operation *o, weft_request **request);
weft_status weft_mpi_issue_init(weft_mpi_operation *o);
void weft_mpi_unpack_outputs(weft_mpi_operation *o);
void weft_mpi_operation_clear(weft_mpi_operation *o);

int weft_mpi_begin_request(weft_mpi_operation *o, MPI_Request *request);
int weft_mpi_make_persistent(weft_mpi_operation *o, MPI_Request *request);
/* A persistent operation whose request has been started. An MPI error code. */
int weft_mpi_start(weft_mpi_operation *o);
/* With its request, when the user is done with that. */
void weft_mpi_operation_destroy(weft_mpi_operation *o);
/* Operations of Weft under way that a request stands for. */
bool weft_mpi_any_active(void);
/* A call that blocks in the MPI while Weft must be progressed, which this MPI does not do. */
static inline bool weft_mpi_must_poll(void) { return !WEFT_MPI_OPEN_MPI && weft_mpi_any_active(); }
/* Around a blocking collective of the MPI: if need be, another thread progresses Weft meanwhile. It cannot be replaced by a
 * nonblocking one and polling, as the MPI does not match the two and other ranks need not have anything under way. */
static inline void weft_mpi_enter(void)
{
    if (weft_mpi_must_poll())
        weft_mpi_help_begin();
}
static inline int weft_mpi_leave(int code)
{
    if (!WEFT_MPI_OPEN_MPI && atomic_load_explicit(&weft_mpi_helped_threads, memory_order_relaxed) > 0)
        weft_mpi_help_end();
    return code;
}
/* Progresses them; completes the requests of those that are done. */
void weft_mpi_poll(void);
/* Waits for Weft's part of a request, if it has one. */
void weft_mpi_wait_in_weft(MPI_Request handle);
/* Waits for a request of the MPI while Weft progresses. */
int weft_mpi_wait_polling(MPI_Request *request, MPI_Status *status);
/* After a round of polling that found nothing. */
void weft_mpi_relax(int *rounds);

/* ---- what a way into the MPI does in its own way (handles.c, layout.c; ../ompi-coll/handles.c) -- */

/* Whether elements of a derived type lie in memory as they do when packed, from the first byte on. */
bool weft_mpi_packs_as_it_lies(MPI_Datatype type);

/* Sets o->handle; an MPI error code. */
int weft_mpi_handle_make(weft_mpi_operation *o);
/* Weft's part is over, with o->error. */
void weft_mpi_handle_complete(weft_mpi_operation *o);
/* Calls the communicator's error handler, if nobody else does. */
void weft_mpi_raise(MPI_Comm comm, int code);

/* ---- report (report.c) ------------------------------------------------------------------------- */

void weft_mpi_count_served(const weft_mpi_operation *o);
/* Collective over MPI_COMM_WORLD: rank 0 prints the sums of all. Alone: each rank prints its own. */
void weft_mpi_report(bool collective);

#endif

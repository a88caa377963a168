/* weft/weft.h - collective communication on host memory: the public API.
 *
 * Conventions that hold for every function:
 *  - Returns WEFT_OK (0) or an error; weft_last_error() then has the detail for this thread.
 *  - Counts are in elements, sizes in bytes. Pointers need no alignment. Count 0 is fine everywhere;
 *    buffers of count 0 may be NULL.
 *  - Collectives take `request`: NULL makes the call block until the buffers may be used again; otherwise
 *    the call returns at once, *request must be waited for (weft_wait, weft_test), and neither buffer may
 *    be touched until then (the send buffer may be read). weft_X_init makes a persistent request:
 *    weft_start begins it, weft_wait ends it, as often as wanted, weft_request_free frees it.
 *  - Collectives of one communicator are called in the same order on all its ranks. They may overlap.
 *  - Ranks that do not agree in collective, type, operation, root or (where all share it) count get
 *    WEFT_ERR_MISMATCH with both sides named, and the communicator is in error.
 *  - Threads: any thread may call any function; calls on one communicator must be ordered by the caller
 *    (as the order is what ranks agree on), but for weft_comm_abort, weft_comm_async_error,
 *    weft_comm_dump, and weft_wait/weft_test on different requests, which may run at any time.
 *  - A rank may be a process or a thread of a process; a rank has one communicator object.
 *  - fork: the child must not use weft objects of its parent, and does not disturb them.
 */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_API __attribute__((visibility("default")))
#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0

/* ---- status ------------------------------------------------------------------------------------ */

/* Every status with its number and what it means. */
#define WEFT_STATUS_LIST(X)                                                              \
    X(WEFT_OK, 0, "success")                                                             \
    X(WEFT_IN_PROGRESS, 1, "not finished yet")                                           \
    X(WEFT_ERR_INVALID, 2, "invalid argument")                                           \
    X(WEFT_ERR_MEMORY, 3, "out of memory")                                               \
    X(WEFT_ERR_SYSTEM, 4, "a system call failed")                                        \
    X(WEFT_ERR_TIMEOUT, 5, "timed out")                                                  \
    X(WEFT_ERR_PEER, 6, "a rank failed or left")                                         \
    X(WEFT_ERR_MISMATCH, 7, "ranks do not agree")                                        \
    X(WEFT_ERR_ABORTED, 8, "the communicator was aborted")                               \
    X(WEFT_ERR_UNSUPPORTED, 9, "not supported here")                                     \
    X(WEFT_ERR_TRUNCATED, 10, "message longer than the receive buffer")                  \
    X(WEFT_ERR_VERSION, 11, "incompatible versions")                                     \
    X(WEFT_ERR_PARSE, 12, "text that cannot be parsed")                                  \
    X(WEFT_ERR_USAGE, 13, "a call that is not allowed now")                              \
    X(WEFT_ERR_INTERNAL, 14, "an internal error of weft")

#define WEFT_STATUS_ENUM(name, number, text) name = number,
typedef enum weft_status { WEFT_STATUS_LIST(WEFT_STATUS_ENUM) WEFT_STATUS_COUNT } weft_status;
#undef WEFT_STATUS_ENUM

/* The fixed text of a status; never NULL. */
WEFT_API const char *weft_status_text(weft_status status);
/* Detail of the last error of the calling thread: value, place, remedy. "" when there was none. Valid
 * until the thread's next weft call. */
WEFT_API const char *weft_last_error(void);
/* "0.1.0" of the library that runs, and what it was built with ("shm tcp verbs plugin gcc-12.2.0"). */
WEFT_API const char *weft_version(void);
WEFT_API const char *weft_build_info(void);

/* ---- types and operations ---------------------------------------------------------------------- */

/* Element types: name, bytes, text. Floats of 16 and 8 bits are summed in f32 and rounded once to
 * nearest even in each reduction step. */
#define WEFT_TYPE_LIST(X)                                                                             \
    X(WEFT_I8, 1, "i8") X(WEFT_U8, 1, "u8") X(WEFT_I16, 2, "i16") X(WEFT_U16, 2, "u16")               \
    X(WEFT_I32, 4, "i32") X(WEFT_U32, 4, "u32") X(WEFT_I64, 8, "i64") X(WEFT_U64, 8, "u64")           \
    X(WEFT_F16, 2, "f16") X(WEFT_BF16, 2, "bf16") X(WEFT_F32, 4, "f32") X(WEFT_F64, 8, "f64")         \
    X(WEFT_F8E4M3, 1, "f8e4m3") X(WEFT_F8E5M2, 1, "f8e5m2") X(WEFT_BOOL, 1, "bool")
#define WEFT_TYPE_ENUM(name, bytes, text) name,
typedef enum weft_type { WEFT_TYPE_LIST(WEFT_TYPE_ENUM) WEFT_TYPE_COUNT } weft_type;
#undef WEFT_TYPE_ENUM

/* Bytes of one element, 0 for an invalid type. */
WEFT_API size_t weft_type_bytes(weft_type type);
/* "f32"; "?" for an invalid type. */
WEFT_API const char *weft_type_name(weft_type type);
/* The inverse; also accepts nccl-tests' names (float, double, half, bfloat16, int8, uint8, int32 ...). */
WEFT_API weft_status weft_type_parse(const char *text, weft_type *type);

/* Reduction operations. Band, bor, bxor: integers and bool. Sum, prod, avg of bool: or, and, or.
 * Avg divides the sum by the number of ranks (integers: towards zero). Min and max of floats return
 * NaN if an operand is NaN. */
#define WEFT_OP_LIST(X)                                                                               \
    X(WEFT_SUM, "sum") X(WEFT_PROD, "prod") X(WEFT_MIN, "min") X(WEFT_MAX, "max") X(WEFT_AVG, "avg")  \
    X(WEFT_BAND, "band") X(WEFT_BOR, "bor") X(WEFT_BXOR, "bxor")
#define WEFT_OP_ENUM(name, text) name,
typedef enum weft_builtin_op { WEFT_OP_LIST(WEFT_OP_ENUM) WEFT_OP_COUNT } weft_builtin_op;
#undef WEFT_OP_ENUM
/* A built-in operation or what weft_op_create returned. */
typedef int weft_op;

/* result[i] = left[i] op right[i] for i < count. `result` may be `left` or `right`. Must be associative.
 * Called from whichever thread progresses the communicator; must not call weft. */
typedef void (*weft_op_function)(void *result, const void *left, const void *right, size_t count,
                                 weft_type type, void *context);

/* A user's operation. If it does not commute, operands are combined in rank order. Handles are local to the process;
 * ranks are only checked to agree in "user operation" and in `commutes`. Free after the last use. */
WEFT_API weft_status weft_op_create(weft_op_function function, void *context, bool commutes, weft_op *op);
/* Sum of the inputs each multiplied by this rank's factor (one element of `type`, read now). */
WEFT_API weft_status weft_op_create_premul_sum(const void *factor, weft_type type, weft_op *op);
/* WEFT_ERR_INVALID for a built-in operation or one that was freed before. */
WEFT_API weft_status weft_op_free(weft_op op);
/* "sum"; "user" or "premul_sum" for what was created, "?" for what does not exist. Static text. */
WEFT_API const char *weft_op_name(weft_op op);
/* The inverse, of built-in operations only; WEFT_ERR_PARSE for anything else. */
WEFT_API weft_status weft_op_parse(const char *text, weft_op *op);

/* ---- communicators ----------------------------------------------------------------------------- */

typedef struct weft_comm weft_comm;
typedef struct weft_request weft_request;

/* Settings of one communicator. Start from WEFT_CONFIG_INIT; 0 or NULL means "as the WEFT_* environment
 * variable says, else the default". Strings are copied. What ranks must agree on (algorithm, lanes,
 * slice_bytes, tuning_file) is taken from rank 0. */
typedef struct weft_config {
    size_t size;             /* sizeof(weft_config) */
    int64_t timeout_ms;      /* of each collective and of creation; -1: none */
    const char *transports;  /* "auto", or a list: "shm,tcp". A forced one never falls back */
    const char *algorithm;   /* "auto", "ring", or per collective: "all_reduce:tree,broadcast:knomial" */
    const char *interfaces;  /* "eth0,ib": only these prefixes; "^docker,lo": all but these */
    const char *port_range;  /* "20000-20100" */
    const char *host_id;     /* splits or joins hosts by hand */
    const char *tuning_file; /* a table made by weft-perf --tune */
    int lanes;               /* parallel lanes of a schedule */
    int sockets;             /* tcp sockets per peer */
    size_t slice_bytes;      /* largest slice */
} weft_config;
#define WEFT_CONFIG_INIT { sizeof(weft_config), 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0 }

enum { WEFT_UNIQUE_ID_BYTES = 128 };
typedef struct weft_unique_id { char bytes[WEFT_UNIQUE_ID_BYTES]; } weft_unique_id;

/* Makes an id in one process, to be carried to all ranks by any means. Opens a listener in this process
 * that serves the creation of one communicator and ends with it or with the process. */
WEFT_API weft_status weft_get_unique_id(weft_unique_id *id);

/* Creation. Collective over `size` ranks, blocks until all have come or the timeout is over; then
 * *comm is the caller's, to be destroyed. On failure *comm is untouched. config may be NULL. */
WEFT_API weft_status weft_comm_create_id(const weft_unique_id *id, int rank, int size,
                                         const weft_config *config, weft_comm **comm);
/* url: "tcp://host:port" (rank 0 listens there), "file:///path" (a file all ranks can reach; rank 0
 * writes it and removes it at the end). */
WEFT_API weft_status weft_comm_create_url(const char *url, int rank, int size, const weft_config *config,
                                          weft_comm **comm);
/* Rank and size from torchrun, Open MPI, PMIx, MPICH (PMI) or Slurm variables; the meeting place is the
 * first there is of WEFT_RENDEZVOUS, MASTER_ADDR, PMIx, PMI-1/PMI-2. No launcher: one rank. */
WEFT_API weft_status weft_comm_create_env(const weft_config *config, weft_comm **comm);

/* The caller's own all-gather: every rank gives `bytes` at `send`, `recv` receives ranks x bytes in rank
 * order. Returns 0 for success. Called only during creation. */
typedef int (*weft_allgather_function)(void *context, const void *send, void *recv, size_t bytes);
WEFT_API weft_status weft_comm_create_allgather(weft_allgather_function allgather, void *context, int rank,
                                                int size, const weft_config *config, weft_comm **comm);
/* The caller's own key-value store. set and get return 0 for success; get waits for the key until the
 * timeout, fills at most *bytes and sets *bytes. Keys start with `prefix` (may be NULL). */
typedef struct weft_store {
    int (*set)(void *context, const char *key, const void *value, size_t bytes);
    int (*get)(void *context, const char *key, void *value, size_t *bytes, int64_t timeout_ms);
    void *context;
    const char *prefix;
} weft_store;
WEFT_API weft_status weft_comm_create_store(const weft_store *store, int rank, int size,
                                            const weft_config *config, weft_comm **comm);

enum { WEFT_UNDEFINED = -1 };
/* Collective over comm: one new communicator per colour (>= 0), ranks ordered by key, then by old rank.
 * Colour WEFT_UNDEFINED: takes part and gets *out = NULL. It shares connections with its parent, and may
 * outlive it. */
WEFT_API weft_status weft_comm_split(weft_comm *comm, int colour, int key, const weft_config *config,
                                     weft_comm **out);
/* After a failure: the survivors agree on who is left and get a new communicator, ranks in old order. All survivors must call
 * it; comm stays in error and is still to be destroyed. */
WEFT_API weft_status weft_comm_shrink(weft_comm *comm, const weft_config *config, weft_comm **out);

/* 0 .. size - 1, and how many ranks there are; -1 and 0 for NULL. */
WEFT_API int weft_comm_rank(const weft_comm *comm);
WEFT_API int weft_comm_size(const weft_comm *comm);
/* This rank's number among the ranks of comm on the same host, how many those are, and the number of hosts. */
WEFT_API int weft_comm_local_rank(const weft_comm *comm);
WEFT_API int weft_comm_local_size(const weft_comm *comm);
WEFT_API int weft_comm_hosts(const weft_comm *comm);
/* What a collective of that many bytes (as weft-perf counts them) would use: algorithm and transports,
 * for people. text[0] = 0 on invalid arguments. */
WEFT_API void weft_comm_describe(weft_comm *comm, const char *collective, size_t bytes, char *text,
                                 size_t text_bytes);
/* Default timeout of the communicator's calls in ms; -1: none. */
WEFT_API weft_status weft_comm_set_timeout(weft_comm *comm, int64_t timeout_ms);

/* Ends it: waits shortly for what this rank still has to send, tells the other ranks that it left in
 * order, frees everything. Takes NULL. Outstanding requests fail; their handles, and persistent ones, are still to
 * be waited for or freed. Not to be called while another thread uses comm. */
WEFT_API weft_status weft_comm_destroy(weft_comm *comm);
/* From any thread: every outstanding and later call on comm, on all ranks, returns WEFT_ERR_ABORTED.
 * comm is still to be destroyed. Never blocks. */
WEFT_API weft_status weft_comm_abort(weft_comm *comm);
/* From any thread, never blocks: WEFT_OK or the error that the communicator is in. */
WEFT_API weft_status weft_comm_async_error(weft_comm *comm, weft_status *error);
/* The flight recorder: the last collectives, their state, who is waited for. Any thread. */
WEFT_API void weft_comm_dump(weft_comm *comm, FILE *stream);

/* ---- requests ---------------------------------------------------------------------------------- */

/* Waiting progresses every outstanding request of the process and the progress hook. A wait ends the
 * request: the handle is freed and set to NULL (persistent ones stay, inactive). NULL requests are
 * complete. The status is the operation's. */
WEFT_API weft_status weft_wait(weft_request **request);
/* *done tells whether it is complete; if so as weft_wait. Progresses once, never blocks. */
WEFT_API weft_status weft_test(weft_request **request, bool *done);
/* Waits for one of them; *index is its place, -1 if all are NULL or inactive. */
WEFT_API weft_status weft_wait_any(weft_request **requests, int count, int *index);
/* As weft_wait_any, at most so long: then WEFT_IN_PROGRESS, *index is -1 and all stay under way. */
WEFT_API weft_status weft_wait_any_for(weft_request **requests, int count, int64_t timeout_ms, int *index);
/* Waits for all; the first error, after all have ended. */
WEFT_API weft_status weft_wait_all(weft_request **requests, int count);
/* Persistent requests only. */
WEFT_API weft_status weft_start(weft_request *request);
WEFT_API weft_status weft_start_all(weft_request **requests, int count);
/* Frees an inactive persistent request and sets it to NULL. Takes NULL. */
WEFT_API weft_status weft_request_free(weft_request **request);
/* This request's own timeout, counted from its start; -1: none. */
WEFT_API weft_status weft_request_set_timeout(weft_request *request, int64_t timeout_ms);

/* Progresses all outstanding requests of the process once, never blocks. */
WEFT_API weft_status weft_progress(void);
/* Called again and again, about every 50 us at the most often, while a call of weft waits; NULL: none. One per process. It may
 * not call weft. */
WEFT_API weft_status weft_set_progress_hook(void (*hook)(void *context), void *context);

/* ---- collectives ------------------------------------------------------------------------------- */

/* send or recv of a collective that takes it, for "in place": the data are already in the other buffer
 * at the place where the result (or this rank's part) belongs. Giving equal pointers says the same. */
#define WEFT_IN_PLACE ((void *)1)

/* recv[count] = op over all ranks' send[count]. Bitwise the same on all ranks. In place: send == recv. */
WEFT_API weft_status weft_all_reduce(weft_comm *comm, const void *send, void *recv, size_t count,
                                     weft_type type, weft_op op, weft_request **request);
/* recv[size * count]: rank r's send[count] at r * count. In place: send == recv + rank * count. */
WEFT_API weft_status weft_all_gather(weft_comm *comm, const void *send, void *recv, size_t count,
                                     weft_type type, weft_request **request);
/* Rank r's counts[r] elements at recv + displs[r]; counts the same on all ranks; displs NULL: packed. send_count must be
 * counts[rank]. In place: send == recv + displs[rank]. */
WEFT_API weft_status weft_all_gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                       const size_t *counts, const size_t *displs, weft_type type,
                                       weft_request **request);
/* recv[count] = this rank's part of op over all ranks' send[size * count]. In place: recv == send + rank * count. */
WEFT_API weft_status weft_reduce_scatter(weft_comm *comm, const void *send, void *recv, size_t count,
                                         weft_type type, weft_op op, weft_request **request);
/* Rank r gets counts[r] elements; send holds all of them packed in rank order. counts the same on all ranks. */
WEFT_API weft_status weft_reduce_scatter_v(weft_comm *comm, const void *send, void *recv,
                                           const size_t *counts, weft_type type, weft_op op,
                                           weft_request **request);
/* buffer[count] of root to all. send is read at root only; recv written elsewhere (and at root if not in place). */
WEFT_API weft_status weft_broadcast(weft_comm *comm, const void *send, void *recv, size_t count,
                                    weft_type type, int root, weft_request **request);
/* recv[count] at root = op over all; recv may be NULL elsewhere. In place at root: send == recv. */
WEFT_API weft_status weft_reduce(weft_comm *comm, const void *send, void *recv, size_t count,
                                 weft_type type, weft_op op, int root, weft_request **request);
/* recv[size * count] at root: rank r's send[count] at r * count; recv may be NULL elsewhere. In place at root:
 * send == recv + root * count. */
WEFT_API weft_status weft_gather(weft_comm *comm, const void *send, void *recv, size_t count,
                                 weft_type type, int root, weft_request **request);
/* Rank r's send_count elements at recv + displs[r]; recv, counts and displs are read at root only (displs NULL: packed), where
 * counts[r] is rank r's send_count. In place at root: send == recv + displs[root]. */
WEFT_API weft_status weft_gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                   const size_t *counts, const size_t *displs, weft_type type, int root,
                                   weft_request **request);
/* recv[count] = root's send + rank * count; send may be NULL elsewhere. In place at root: recv == send + root * count. */
WEFT_API weft_status weft_scatter(weft_comm *comm, const void *send, void *recv, size_t count,
                                  weft_type type, int root, weft_request **request);
/* recv[recv_count] = root's send + displs[rank]; send, counts and displs are read at root only (displs NULL: packed), where
 * counts[r] is rank r's recv_count. In place at root: recv == send + displs[root]. */
WEFT_API weft_status weft_scatter_v(weft_comm *comm, const void *send, const size_t *counts,
                                    const size_t *displs, void *recv, size_t recv_count, weft_type type,
                                    int root, weft_request **request);
/* recv + r * count = rank r's send + rank * count. In place: send == recv. */
WEFT_API weft_status weft_all_to_all(weft_comm *comm, const void *send, void *recv, size_t count,
                                     weft_type type, weft_request **request);
/* recv + recv_displs[r] gets what rank r has at send + send_displs[rank]: its send_counts[rank] elements, which must be this
 * rank's recv_counts[r]. displs NULL: packed. In place (send == recv) is refused. */
WEFT_API weft_status weft_all_to_all_v(weft_comm *comm, const void *send, const size_t *send_counts,
                                       const size_t *send_displs, void *recv, const size_t *recv_counts,
                                       const size_t *recv_displs, weft_type type, weft_request **request);
/* Returns (or completes) on no rank before all have called it. */
WEFT_API weft_status weft_barrier(weft_comm *comm, weft_request **request);

/* Persistent forms: *request is created inactive; same contract, agreement is checked at each start. The
 * arrays of the vector forms are copied. */
WEFT_API weft_status weft_all_reduce_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                          weft_type type, weft_op op, weft_request **request);
WEFT_API weft_status weft_all_gather_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                          weft_type type, weft_request **request);
WEFT_API weft_status weft_all_gather_v_init(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                            const size_t *counts, const size_t *displs, weft_type type,
                                            weft_request **request);
WEFT_API weft_status weft_reduce_scatter_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                              weft_type type, weft_op op, weft_request **request);
WEFT_API weft_status weft_reduce_scatter_v_init(weft_comm *comm, const void *send, void *recv,
                                                const size_t *counts, weft_type type, weft_op op,
                                                weft_request **request);
WEFT_API weft_status weft_broadcast_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                         weft_type type, int root, weft_request **request);
WEFT_API weft_status weft_reduce_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                      weft_type type, weft_op op, int root, weft_request **request);
WEFT_API weft_status weft_gather_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                      weft_type type, int root, weft_request **request);
WEFT_API weft_status weft_gather_v_init(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                        const size_t *counts, const size_t *displs, weft_type type, int root,
                                        weft_request **request);
WEFT_API weft_status weft_scatter_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                       weft_type type, int root, weft_request **request);
WEFT_API weft_status weft_scatter_v_init(weft_comm *comm, const void *send, const size_t *counts,
                                         const size_t *displs, void *recv, size_t recv_count, weft_type type,
                                         int root, weft_request **request);
WEFT_API weft_status weft_all_to_all_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                          weft_type type, weft_request **request);
WEFT_API weft_status weft_all_to_all_v_init(weft_comm *comm, const void *send, const size_t *send_counts,
                                            const size_t *send_displs, void *recv, const size_t *recv_counts,
                                            const size_t *recv_displs, weft_type type, weft_request **request);
WEFT_API weft_status weft_barrier_init(weft_comm *comm, weft_request **request);

/* ---- point to point ---------------------------------------------------------------------------- */

enum { WEFT_ANY_SOURCE = -1, WEFT_ANY_TAG = -1 };
/* What a receive got. */
typedef struct weft_recv_info { int source; int tag; size_t bytes; } weft_recv_info;

/* Messages between two ranks with the same tag arrive in the order of sending. tag: 0 .. 2^31-1. A small
 * message may complete before it is received; unexpected data is bounded per peer, beyond that a send
 * waits for its receive. */
WEFT_API weft_status weft_send(weft_comm *comm, const void *buffer, size_t count, weft_type type, int dest,
                               int tag, weft_request **request);
/* Up to count elements; a longer message is WEFT_ERR_TRUNCATED (the message is gone). info may be NULL;
 * it is filled at completion and must live until then. */
WEFT_API weft_status weft_recv(weft_comm *comm, void *buffer, size_t count, weft_type type, int source,
                               int tag, weft_recv_info *info, weft_request **request);
WEFT_API weft_status weft_send_init(weft_comm *comm, const void *buffer, size_t count, weft_type type,
                                    int dest, int tag, weft_request **request);
WEFT_API weft_status weft_recv_init(weft_comm *comm, void *buffer, size_t count, weft_type type, int source,
                                    int tag, weft_recv_info *info, weft_request **request);

/* ---- groups ------------------------------------------------------------------------------------ */

/* Calls of this thread between start and end are begun together at end: sends and receives cannot block
 * one another, and small all_reduces of one communicator, type and op become one. Groups nest. Inside a
 * group `request` must be NULL. */
WEFT_API weft_status weft_group_start(void);
/* request NULL: blocks until all are complete; else one request for all. */
WEFT_API weft_status weft_group_end(weft_request **request);

/* ---- memory ------------------------------------------------------------------------------------ */

/* Memory that ranks on the same host read in place: page aligned, zeroed, counted as shared memory, not
 * in /dev/shm. Free with weft_mem_free. WEFT_ERR_UNSUPPORTED where this process may not have shared memory: any other
 * memory works too. */
WEFT_API weft_status weft_mem_alloc(size_t bytes, void **memory);
WEFT_API weft_status weft_mem_free(void *memory);
/* Makes memory the caller has readable in place by ranks on the same host: the whole private anonymous
 * pages inside it are moved into shared memory at the same addresses (the edges are staged). No thread may
 * write to it during the call; deregister before free, realloc or munmap; not for memory that a device
 * has pinned; a forked child shares these pages with its parent. WEFT_ERR_UNSUPPORTED when nothing inside can be moved: the
 * memory still works, staged. */
WEFT_API weft_status weft_mem_register(void *memory, size_t bytes);
/* Same base as registered. The pages become private again, contents kept. */
WEFT_API weft_status weft_mem_deregister(void *memory);

/* ---- settings ---------------------------------------------------------------------------------- */

/* Prints every WEFT_* variable with type, default and help. */
WEFT_API void weft_settings_print(FILE *stream);

#ifdef __cplusplus
}
#endif
#endif

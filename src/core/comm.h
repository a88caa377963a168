/* Communicators and requests inside the library. */
#ifndef WEFT_COMM_H
#define WEFT_COMM_H

#include "collectives/inline.h"
#include "collectives/message.h"
#include "collectives/tune.h"
#include "core/engine.h"

enum { WEFT_RECORDS = 64, WEFT_ERROR_TEXT = 400, WEFT_SHORT_CALLS = 16 };

/* A past or present call, for the flight recorder. */
typedef struct weft_record {
    uint32_t sequence;
    bool used, over;
    weft_status status;
    int64_t began_ns, ended_ns; /* 0: not measured, it ended at once */
    weft_fingerprint fingerprint;
    size_t bytes;
} weft_record;

/* The shape of a blocking call that came before, for the inline path. */
typedef struct weft_short_call {
    weft_collective collective;
    weft_type type;
    weft_op op;
    int root;
    size_t count, bytes;
    weft_inline *call;          /* NULL: the inline path does not serve it */
} weft_short_call;

struct weft_comm {
    weft_wire_client client;    /* first: the wire knows the communicator by it */
    weft_engine *engine;
    weft_comm *next, **link;    /* of the engine */
    weft_exec exec;
    weft_messages messages;
    int rank, ranks;
    int *world, *from_world;
    int *host;                  /* of each rank, numbered in order of appearance */
    int hosts;
    int *numa, *cache;          /* of each rank, as planners want them (weft_group) */
    weft_nearness farthest;     /* how near ranks of one host are, at worst */
    int *local_ranks, *local_host_index, *local_position;
    int *index_of_world;        /* index in the host of ranks of the process group */
    int local_count;
    weft_local_region **regions;
    int *segment_indices;       /* of the local ranks in the host, ascending */
    weft_segment *segment;
    weft_tuner tuner;
    weft_short_call shorts[WEFT_SHORT_CALLS];
    unsigned shorts_run;
    int64_t timeout_ms;
    weft_agreed agreed;
    int lost_peer;              /* whose connection broke, -1: none */
    int64_t lost_ns;
    bool from_notice;           /* the error came from another rank, who has told everyone */
    weft_request *requests;     /* active */
    weft_request *taken;        /* all that are not idle: active, complete, persistent, in a group */
    weft_request *idle;         /* to be used again */
    int error_rank;             /* culprit in the process group, -1: unknown */
    bool error_spread;
    int64_t error_ns;
    _Atomic int error;          /* weft_status; read by weft_comm_async_error without the lock */
    char error_text[WEFT_ERROR_TEXT];
    _Atomic bool abort_wanted;
    int64_t nudged_ns;
    weft_record records[WEFT_RECORDS];
    /* timeout.c */
    unsigned char *suspicion;   /* of each rank */
    int64_t verdict_ns, verdict_latest_ns; /* 0: nothing timed out */
    char timeout_text[200];
};

typedef enum weft_request_kind {
    WEFT_REQUEST_COLLECTIVE, WEFT_REQUEST_SEND, WEFT_REQUEST_RECV, WEFT_REQUEST_GROUP
} weft_request_kind;

/* A call of the API as data: what a request, a persistent request and a group hold. */
typedef struct weft_call {
    weft_collective collective;
    bool vector;
    const void *send;
    void *recv;
    size_t count;               /* elements per block */
    const size_t *send_counts, *send_displs, *recv_counts, *recv_displs;
    int single_side;            /* vector forms: the side (0 send, 1 recv) that is one block, -1: none */
    bool sizes_shared;
    weft_type type;
    weft_op op;
    int root;
} weft_call;

struct weft_request {
    weft_comm *comm;            /* NULL: a group over several communicators, or it was destroyed */
    weft_request *next, **link;
    weft_request *next_taken, **taken_link;
    weft_request_kind kind;
    bool persistent, active, linked;
    bool started;               /* persistent: between start and wait; others always */
    _Atomic bool complete;
    bool blocks;                /* its caller waits for it at once */
    const weft_execution_point *point; /* goes on where the inline path left it; NULL: from the start */
    int tag;                    /* messages; call.root is the peer */
    weft_status status;
    int64_t timeout_ms, began_ns, deadline_ns;
    weft_call call;
    size_t *arrays;             /* owned copies of counts and displacements */
    size_t arrays_capacity;
    weft_execution *execution;
    weft_record *record;
    void *temporary;            /* input that must not share memory with the output, or is premultiplied */
    size_t temporary_capacity;
    weft_message message;
    weft_recv_info *info;
    /* groups: parts, and buffers of fused small calls */
    weft_request **parts;
    int part_count;
    struct weft_fused *fused;
    weft_request **calls;       /* the fused calls' array */
    char *detail;               /* of status, of a group that could not begin */
};

/* comm.c */
/* Two steps: all that a rank may fail in alone (mostly for lack of memory), and what its hosts' ranks do together. All ranks
 * must agree in between that everybody is there, and after it. On failure of the second the caller frees it. */
weft_status weft_comm_build(weft_engine *e, uint32_t id, int rank, int ranks, const int *world, const weft_agreed *agreed,
                            weft_comm **out);
weft_status weft_comm_connect(weft_comm *c, int64_t deadline_ns);
void weft_comm_free(weft_comm *c);
void weft_comm_set_error(weft_comm *c, weft_status status, int world_rank, const char *text);
/* One round for one communicator, with the lock held. */
int weft_comm_progress(weft_comm *c);
/* Called when nothing moves for a while. */
void weft_comm_idle(weft_comm *c, int64_t now_ns);
/* Its error as status with detail, or WEFT_OK. Lock held. */
weft_status weft_comm_check(weft_comm *c);
void weft_comm_notice(weft_comm *c, const weft_notice *notice);
/* A right call that this rank alone cannot begin, the thread's error says why: the others would wait for it, so the communicator
 * is in error. Returns status. */
weft_status weft_comm_cannot_begin(weft_comm *c, weft_status status);

/* timeout.c, with the lock held: a call is over its time; another rank says that of its own; the moment has come to say who is
 * absent. The communicator is in error soon after the first of them, on all ranks. */
void weft_comm_time_out(weft_comm *c, const weft_request *overdue);
void weft_comm_accused(weft_comm *c, const weft_notice *notice);
void weft_comm_judge(weft_comm *c, int64_t now_ns);

/* places.c: fills numa and cache. */
weft_status weft_comm_find_places(weft_comm *c);

/* create.c: the communicator of the whole group. Takes the engine over. */
weft_status weft_engine_first_comm(weft_engine *e, weft_comm **out);

/* request.c */
weft_request *weft_request_get(weft_comm *c, weft_request_kind kind);
void weft_request_put(weft_request *r);
void weft_request_destroy(weft_request *r);
/* As put, lock not held; also for those whose communicator is gone. */
void weft_request_give_back(weft_request *r);
/* The communicator is being destroyed: what users hold of it stays theirs, ended, until they wait for it or free it. */
void weft_request_orphan_all(weft_comm *c);
/* Begins a prepared request, with the lock held. */
weft_status weft_request_begin(weft_request *r);
/* Blocks until done if request is NULL, else hands it out. Takes r over; releases the lock. */
weft_status weft_request_finish_call(weft_comm *c, weft_request *r, weft_status begun, weft_request **request);
bool weft_request_done(void *request);
void weft_request_completed(weft_request *r, weft_status status);
/* Waits for a request without freeing it; lock not held. */
weft_status weft_request_wait_for(weft_request *r);

/* collective.c: binds and starts a collective request, with the lock held. */
weft_status weft_collective_begin(weft_request *r);
/* Replaces WEFT_IN_PLACE by addresses; *in_place tells whether input and output share memory. */
weft_status weft_call_resolve(const weft_comm *c, weft_call *call, bool *in_place);
/* Checks a call's arguments and the lengths of buffers that overlap. */
weft_status weft_call_check(const weft_comm *c, const weft_call *call);
/* Runs a collective to its end, for the library's own use. Lock not held. */
weft_status weft_call_run(weft_comm *c, const weft_call *call);

/* short.c: a blocking call on the inline path; false: it is for the long way, nothing has happened. Lock not held. */
bool weft_short_run(weft_comm *c, const weft_call *call, weft_status *status);
/* Remembers the shape of a blocking call, so that the next one like it may be short. Lock held. */
void weft_short_learn(weft_comm *c, const weft_call *call, const weft_execution_args *args, size_t bytes);
void weft_short_clear(weft_comm *c);

/* group.c */
bool weft_group_open(void);
/* Takes a prepared request into this thread's group; lock not held. */
weft_status weft_group_add(weft_request *r);
/* Ends a complete group request and frees it; the first error of its parts. */
weft_status weft_group_finish(weft_request *r);

/* recorder.c */
weft_record *weft_record_begin(weft_comm *c, const weft_fingerprint *f, uint32_t sequence, size_t bytes);
/* A call that is over already. */
void weft_record_short(weft_comm *c, const weft_fingerprint *f, uint32_t sequence, size_t bytes);
void weft_record_dump(weft_comm *c, FILE *stream);

#endif

/* The control plane: how ranks find each other, exchange small data at creation, and learn of failures. One object per
 * process-group member; a tree of TCP connections (O(log n) rounds, O(1) connections per rank) that stays open for
 * the life of the group, read by one sleeping thread, so that news travels also while the user computes. */
#ifndef WEFT_CONTROL_H
#define WEFT_CONTROL_H

#include "base/base.h"

typedef struct weft_control weft_control;

/* News about the group: a rank died, or a communicator went into error. */
enum { WEFT_NOTICE_TEXT_BYTES = 240 };
typedef struct weft_notice {
    uint32_t comm;        /* communicator id, 0: the whole group (a rank died) */
    int32_t status;       /* weft_status: WEFT_ERR_PEER, WEFT_ERR_MISMATCH, WEFT_ERR_ABORTED ... */
    int32_t rank;         /* the culprit (rank of the group), -1 unknown */
    int32_t reporter;     /* who found it */
    char text[WEFT_NOTICE_TEXT_BYTES]; /* "rank 3 died (connection closed)" */
} weft_notice;

/* Called by the control thread, once per different (comm, status, rank), and reporter where a call in a communicator timed
 * out, also for notices that this rank reported itself. Must not block; may call weft_control_report. */
typedef void (*weft_notice_function)(void *context, const weft_notice *notice);

typedef enum weft_rendezvous_kind {
    WEFT_RENDEZVOUS_ID, WEFT_RENDEZVOUS_URL, WEFT_RENDEZVOUS_ALLGATHER, WEFT_RENDEZVOUS_STORE
} weft_rendezvous_kind;

typedef struct weft_control_config {
    int rank, size;
    weft_rendezvous_kind kind;
    const weft_unique_id *id;
    const char *url;          /* tcp://host:port, tcp://host:port+N (N further ports may be tried), file:///path */
    weft_allgather_function allgather;
    void *allgather_context;
    const weft_store *store;
    const char *token;        /* groups with different texts do not mix at near ports; NULL: "" */
    const char *interfaces, *port_range;
    int64_t deadline_ns;      /* of creation */
    int64_t dead_peer_ms;
    weft_notice_function notice;
    void *notice_context;
} weft_control_config;

/* Collective. WEFT_ERR_TIMEOUT names who did not come; wrong size, duplicate rank, other version: on every rank
 * an error that names the culprit. Nothing is left on failure. */
weft_status weft_control_create(const weft_control_config *config, weft_control **out);
/* Random number of the group, equal on all ranks. */
uint64_t weft_control_job(const weft_control *c);
/* Collective, during creation and in shrink only: recv gets size x bytes in rank order. Blocks. */
weft_status weft_control_allgather(weft_control *c, const void *send, void *recv, size_t bytes, int64_t deadline_ns);
/* Tells every rank; any thread, never blocks. */
void weft_control_report(weft_control *c, const weft_notice *notice);
/* True and *notice = the first rank death this rank learned of; one relaxed load when there is none. Any thread. */
bool weft_control_failed(const weft_control *c, weft_notice *notice);
/* Bit r set for every rank known to be dead. words: (size + 63) / 64. */
void weft_control_dead(const weft_control *c, uint64_t *words);
/* Survivors agree who is left (all of them call it): fills alive[size] and *survivors, and makes a new
 * control plane among them, ranks in old order. */
weft_status weft_control_shrink(weft_control *c, int64_t deadline_ns, weft_notice_function notice, void *context,
                                bool *alive, weft_control **out);
/* While a group is made: this rank cannot go on, the thread's error says why. All others' all-gathers end with that. */
void weft_control_give_up(weft_control *c);
/* Before there is a control plane, the same: tells those who meet as config says, as far as that takes little time. */
void weft_control_refuse(const weft_control_config *config, weft_status status);
/* The control thread calls it, soon and once; what takes milliseconds and nobody waits for. Any thread, never blocks. */
void weft_control_run_errand(weft_control *c, void (*errand)(void));
int weft_control_rank(const weft_control *c);
int weft_control_size(const weft_control *c);
/* Leaves in order (peers are told, so that this is no death): waits at most linger_ms for the others to leave too. */
void weft_control_destroy(weft_control *c, int64_t linger_ms);

/* Rank, size and meeting place from the launcher's environment (weft_comm_create_env). */
typedef struct weft_launch {
    int rank, size;
    const char *launcher;            /* "torchrun", "Open MPI", "MPICH", "Slurm", "PMIx", "none" */
    weft_rendezvous_kind kind;       /* how to meet */
    char url[512];
    char token[128];                 /* of the job and its incarnation */
    weft_store store;                /* PMIx / PMI key-value store */
    void *owner;                     /* of the store */
} weft_launch;
weft_status weft_launch_detect(weft_launch *launch);
void weft_launch_release(weft_launch *launch);
#endif

/* A member of a process group: its control plane, host, transports and communicators, and how threads wait in it.
 * Communicators made by split share the engine of their parent. */
#ifndef WEFT_ENGINE_H
#define WEFT_ENGINE_H

#include <pthread.h>

#include "base/lock.h"
#include "base/settings.h"
#include "collectives/wire.h"
#include "core/control.h"
#include "topology/measured.h"
#include "topology/place.h"
#include "transport/host.h"

typedef struct weft_engine weft_engine;

/* WEFT_NOTICES: that wait to be read; in a timeout every rank says something, and each one lost makes what is said of who is
 * absent less exact. */
enum { WEFT_NOTICES = 1024, WEFT_AGREED_TEXT = 240 };
enum { WEFT_WITHIN_HOST, WEFT_BETWEEN_HOSTS };

/* What all ranks take from rank 0. Sent as bytes between equal builds. */
typedef struct weft_agreed {
    uint32_t version;
    int32_t lanes, cpus;        /* cpus: cores of rank 0's host that its ranks may use */
    int64_t slice_bytes;
    int32_t tuned;              /* lines of rank 0's measured table */
    weft_measured measured[2];  /* WEFT_WITHIN_HOST, WEFT_BETWEEN_HOSTS, by rank 0's machine file */
    weft_measured way[WEFT_NEARNESS_COUNT]; /* within a host, by the map of rank 0's */
    double latency_ns, bandwidth_Bps; /* of the worst way between ranks that share no memory; 0: there is none */
    char algorithm[WEFT_AGREED_TEXT];
} weft_agreed;

struct weft_engine {
    weft_lock lock;             /* of all that is below, but for the notices */
    pthread_cond_t woken;       /* waiters beside the one that sleeps in the host */
    bool has_sleeper;
    bool troubled;              /* a communicator was in error */
    int waiters;
    _Atomic int references;     /* communicators */
    int rank, ranks;
    weft_settings settings;
    weft_agreed agreed;
    struct weft_tuned *table;   /* agreed.tuned lines */
    weft_location *location;    /* of each rank on its host */
    weft_topology *machine;     /* what WEFT_TOPO_FILE names; while it is created */
    weft_control *control;
    weft_host *host;
    weft_host *_Atomic bell;    /* host, for threads that wake the waiters; NULL before and after there are any */
    weft_wire wire;
    int wait_fds[WEFT_WIRE_ROUTES];
    int wait_fd_count;
    int64_t create_deadline_ns; /* while it is created */
    bool failure_known;         /* all ranks have agreed that it fails */
    bool crowded;               /* more ranks on this host than CPUs for them */
    int64_t spin_ns;
    bool light_wanted;          /* the control thread was asked to make short stays and rings cheap */
    int yields;
    int active;                 /* requests under way */
    struct weft_comm *comms;
    weft_engine *next;          /* all engines of the process */
    uint32_t forks;             /* weft_fork_count of the process that made it; a forked child must not touch it */
    /* news from the control thread */
    pthread_mutex_t notice_lock;
    _Atomic int notice_count;
    weft_notice notices[WEFT_NOTICES];
};

/* Collective: meets the others and opens the transports. config says rank, size and how to meet; its notice fields
 * are filled here. user may be NULL. */
weft_status weft_engine_create(weft_control_config *config, const weft_config *user, weft_engine **out);
/* A new group of the survivors. Collective over them. */
weft_status weft_engine_shrink(weft_engine *e, const weft_config *user, weft_engine **out);
void weft_engine_retain(weft_engine *e);
/* The last one ends it. */
void weft_engine_release(weft_engine *e);
/* For the control plane's notices. context: the engine. */
void weft_engine_notice(void *context, const weft_notice *notice);

/* Does every rank agree that it went well? The first rank's error otherwise, on all. Collective, during creation. */
weft_status weft_engine_all_ok(weft_engine *e, weft_status mine, int64_t deadline_ns);

/* The list of the process's engines. */
void weft_engine_enlist(weft_engine *e);
void weft_engine_delist(weft_engine *e);

/* Tells the communicators what the control plane reported, with the lock held. */
void weft_engine_take_news(weft_engine *e);
/* Moves everything once, with the lock held; returns how much moved. */
int weft_engine_progress(weft_engine *e);
/* Waits, with the lock held, until done(context) or the deadline; true: done. Progresses the whole process. */
bool weft_engine_wait(weft_engine *e, bool (*done)(void *context), void *context, int64_t deadline_ns);
/* To be called now and then by who makes many short calls, with the lock held: has them made cheaper (base/membarrier.h). */
void weft_engine_lighten(weft_engine *e);
/* Looks for timeouts and lost peers, with the lock held; for those who test and never wait. */
void weft_engine_check(weft_engine *e);
/* Progresses all other engines of the process that nobody else is working on. */
int weft_engine_progress_others(const weft_engine *e);
/* Wakes the threads that wait in this engine, from any thread. */
void weft_engine_wake(weft_engine *e);
/* The user's hook. */
void weft_engine_set_hook(void (*hook)(void *context), void *context);
/* All engines once; for weft_progress. */
void weft_engine_progress_all(void);

#endif

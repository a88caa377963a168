/* The ranks of a group that share this host, proven: a file descriptor could be passed between them. Gives
 * them one shared memory segment, more segments on demand, and doorbells to wake each other. Used by the
 * shm transport and by local schedule steps. Nothing lies in /dev/shm; the kernel frees all of it when the
 * last process is gone. */
#ifndef WEFT_HOST_H
#define WEFT_HOST_H

#include "base/base.h"
#include "base/membarrier.h"

typedef struct weft_host weft_host;
typedef struct weft_segment weft_segment;

typedef struct weft_host_config {
    int rank, ranks;
    uint64_t job;
    const char *host_id;  /* WEFT_HOST_ID or NULL/"" */
    bool alone;           /* shm is not allowed: every rank a host of its own */
    size_t region_bytes;  /* each rank's region of the base segment (sparse: untouched pages cost nothing) */
    int64_t deadline_ns;
    weft_status (*allgather)(void *context, const void *send, void *recv, size_t bytes); /* over the group */
    void *context;
} weft_host_config;

/* Collective over the group: a failure that is one rank's (no memory, no descriptors) comes back on all
 * ranks and names it. Nothing waits but the allgather, whose end is the caller's. Ranks whose host_id
 * differs are never together; else ranks are together when a descriptor could be passed between them over
 * an abstract socket (of one network namespace). */
weft_status weft_host_create(const weft_host_config *config, weft_host **out);
void weft_host_destroy(weft_host *h);

/* Host number of every rank of the group, numbered in order of first appearance: [ranks]. */
const int *weft_host_of(const weft_host *h);
int weft_host_count(const weft_host *h);
/* Ranks (of the group) on this host in ascending order, how many, and this rank's index among them. */
const int *weft_host_ranks(const weft_host *h);
int weft_host_size(const weft_host *h);
int weft_host_index(const weft_host *h);
/* CPUs that the ranks of this host may run on together (union of affinities, cgroup limit considered). */
int weft_host_cpus(const weft_host *h);
/* Moves the calling thread to a CPU of those it may use, another one for each rank in turn, and binds it no more than it was.
 * For ranks that share cores: the kernel may leave threads that only yield to each other together on one core for seconds. */
void weft_host_spread_out(const weft_host *h);

/* Region of the base segment of local rank `index`: page aligned, zeroed at first. */
void *weft_host_region(const weft_host *h, int index);

/* A further segment for `count` local ranks (indices, ascending, this rank among them; all of them call it
 * with the same `key`, which is unique among segments being created). Regions are zeroed; each rank
 * touches its own first. */
weft_status weft_segment_create(weft_host *h, const int *indices, int count, uint64_t key, size_t region_bytes,
                                int64_t deadline_ns, weft_segment **out);
void *weft_segment_region(const weft_segment *s, int position);
void weft_segment_destroy(weft_segment *s);

/* Memory that one rank lets the others map (weft_mem_alloc, weft_mem_register): the owner offers the
 * descriptor once per peer (never blocks; does nothing the second time), the peer maps it when it first
 * needs it. */
weft_status weft_host_offer(weft_host *h, int index, uint64_t memory_id, int fd, size_t bytes);
/* Address here of offset 0 of memory `memory_id` of local rank `index` (weft_memory_place tells the owner the
 * offset of a buffer), NULL if its descriptor has not come (yet): the owner rings when it sends one. */
void *weft_host_map(weft_host *h, int index, uint64_t memory_id, size_t *bytes);
void weft_host_unmap(weft_host *h, int index, uint64_t memory_id);

/* The owner's side of the end of a memory: those it was offered to unmap it. */
void weft_host_withdraw(weft_host *h, uint64_t memory_id);

/* ---- doorbells ---- */

enum { WEFT_BELL_AWAKE, WEFT_BELL_FUTEX, WEFT_BELL_POLL };

/* One per local rank, in the base segment. Set to sleeping by its owner, back to awake by whoever wakes
 * it. */
typedef struct weft_doorbell {
    _Alignas(WEFT_CACHE_LINE) _Atomic uint32_t state;
    _Atomic uint32_t mail;        /* datagrams sent to the owner so far: it looks for them only when this moved */
    _Atomic uint32_t mail_wanted; /* someone could not send because the owner's queue was full */
    _Atomic uint32_t light;       /* before it sleeps the owner runs a fence on all that ring it */
} weft_doorbell;

/* What a weft_host starts with: all that ringing a peer that is awake needs. */
typedef struct weft_host_front {
    weft_doorbell *bells; /* by local index */
    bool light;           /* all of them are light, this rank's too: who rings needs no fence */
} weft_host_front;

/* Orders this thread's earlier stores before its later loads: what makes "I wrote, do you sleep?" against
 * "I sleep, did you write?" safe. TSan knows no fences; an exchange on one word of the process does as
 * well between its threads. */
static inline void weft_fence_store_load(void)
{
#ifdef WEFT_TSAN
    extern _Atomic uint32_t weft_tsan_fence_word;
    atomic_fetch_add_explicit(&weft_tsan_fence_word, 1, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* What comes before weft_host_ring_fenced. Partner: weft_host_prepare_sleep. */
static inline void weft_host_fence(const weft_host *h)
{
    if (((const weft_host_front *)(const void *)h)->light)
        atomic_signal_fence(memory_order_seq_cst);
    else
        weft_fence_store_load();
}

/* This rank's process is ready for weft_membarrier_processes: says so, and looks whether all of the host have. */
void weft_host_lighten(weft_host *h);

/* The rare half of weft_host_ring: the peer sleeps (or did just now). */
void weft_host_wake(weft_host *h, int index);

/* For callers that have had a weft_fence_store_load or weft_host_fence since their store. */
static inline void weft_host_ring_fenced(weft_host *h, int index)
{
    const weft_doorbell *bell = &((const weft_host_front *)(const void *)h)->bells[index];
    if (__builtin_expect(atomic_load_explicit(&bell->state, memory_order_relaxed) != WEFT_BELL_AWAKE, 0))
        weft_host_wake(h, index);
}

/* After a store to shared memory that local rank `index` may be waiting for. One fence and one load if it
 * is awake. */
static inline void weft_host_ring(weft_host *h, int index)
{
    weft_host_fence(h);
    weft_host_ring_fenced(h, index);
}

/* Sleep in three parts, so that no wake-up is lost: prepare; check once more that there is nothing to do;
 * sleep or cancel. Sleeps until rung, until a descriptor of fds (n of them, may be 0) is readable, a
 * signal, or the deadline; may return early without reason. With with_fds == false (then n must be 0) a
 * futex, else poll with the doorbell's descriptor. One thread at a time sleeps on one host. */
void weft_host_prepare_sleep(weft_host *h, bool with_fds);
void weft_host_cancel_sleep(weft_host *h);
void weft_host_sleep(weft_host *h, const int *fds, int n, int64_t deadline_ns);
/* The doorbell's descriptor, to sleep on several hosts at once: prepare all of them with_fds, sleep on one
 * with the descriptors of the others among fds, cancel the others. Valid until destroy. */
int weft_host_wait_fd(const weft_host *h);
/* Wakes this process's own sleeper, from another of its threads (control thread, abort), and also when a
 * peer died between marking it as awake and waking it. */
void weft_host_ring_self(weft_host *h);
/* Receives what came over the host's sockets (offered descriptors), sends what waited for room; one load
 * when there is nothing. Returns how many messages moved. */
int weft_host_progress(weft_host *h);
#endif

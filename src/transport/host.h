/* The ranks of a group that share this host, proven: a file descriptor could be passed between them. Gives them one shared
 * memory segment, more segments on demand, and doorbells to wake each other. Used by the shm transport and by local
 * schedule steps. Nothing lies in /dev/shm; the kernel frees all of it when the last process is gone. */
#ifndef WEFT_HOST_H
#define WEFT_HOST_H

#include "base/base.h"

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

/* Collective over the group. */
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

/* Region of the base segment of local rank `index`: page aligned, zeroed at first. */
void *weft_host_region(const weft_host *h, int index);

/* A further segment for `count` local ranks (indices, ascending, this rank among them; all of them call it with the
 * same `key`, which is unique among segments being created). Regions are zeroed; each rank touches its own first. */
weft_status weft_segment_create(weft_host *h, const int *indices, int count, uint64_t key, size_t region_bytes,
                                int64_t deadline_ns, weft_segment **out);
void *weft_segment_region(const weft_segment *s, int position);
void weft_segment_destroy(weft_segment *s);

/* Memory that one rank lets the others map (weft_mem_alloc, weft_mem_register): the owner offers the descriptor
 * once per peer (never blocks; does nothing the second time), the peer maps it when it first needs it. */
weft_status weft_host_offer(weft_host *h, int index, uint64_t memory_id, int fd, size_t bytes);
/* Address here of memory `memory_id` of local rank `index`, NULL if its descriptor has not come (yet). */
void *weft_host_map(weft_host *h, int index, uint64_t memory_id, size_t *bytes);
void weft_host_unmap(weft_host *h, int index, uint64_t memory_id);

/* Doorbells. After a store to shared memory that local rank `index` may be waiting for: */
void weft_host_ring(weft_host *h, int index);
/* Sleep in three parts, so that no wake-up is lost: prepare; check once more that there is nothing to do;
 * sleep or cancel. Sleeps until rung, until a descriptor of fds (n of them, may be 0) is readable, or the deadline. With n == 0
 * a futex, else poll with the doorbell's descriptor. */
void weft_host_prepare_sleep(weft_host *h, bool with_fds);
void weft_host_cancel_sleep(weft_host *h);
void weft_host_sleep(weft_host *h, const int *fds, int n, int64_t deadline_ns);
/* Wakes this process's own sleeper, from another of its threads (control thread, abort). */
void weft_host_ring_self(weft_host *h);
/* Receives what came over the host's sockets (offered descriptors); called by progress now and then. */
int weft_host_progress(weft_host *h);
#endif

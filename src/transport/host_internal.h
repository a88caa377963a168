/* What the files of the host share: the struct, the sockets' messages and the process-wide table of
 * mappings. */
#ifndef WEFT_HOST_INTERNAL_H
#define WEFT_HOST_INTERNAL_H

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "transport/host.h"

/* The address of a rank's socket: an abstract name, so that nothing lies in a file system. */
typedef struct weft_socket_name {
    struct sockaddr_un address;
    socklen_t bytes;
} weft_socket_name;

/* How to reach a local rank. Its secret came through the group's allgather and is in every message it
 * sends. */
typedef struct weft_host_peer {
    weft_socket_name bell; /* one byte wakes it from poll */
    weft_socket_name mail; /* weft_host_message with a descriptor */
    uint64_t secret;
} weft_host_peer;

typedef enum weft_message_kind {
    WEFT_MESSAGE_JOIN = 1,
    WEFT_MESSAGE_SEGMENT,
    WEFT_MESSAGE_OFFER,
    WEFT_MESSAGE_WITHDRAW /* of an offer; its descriptor means nothing */
} weft_message_kind;

typedef struct weft_host_message {
    uint32_t magic;
    uint32_t kind;
    uint64_t job;
    uint64_t secret; /* of the sender */
    int32_t rank;    /* the sender's, in the group */
    uint32_t unused;
    uint64_t key;   /* join: 0; segment: its key; offer: memory id */
    uint64_t id;    /* random number of the memory that comes along */
    uint64_t bytes; /* its size */
} weft_host_message;

/* A segment's descriptor that came before weft_segment_create was called. */
typedef struct weft_parcel {
    struct weft_parcel *next;
    weft_host_message message;
    int fd;
} weft_parcel;

/* An offer that found the peer's queue full. */
typedef struct weft_pending_offer {
    struct weft_pending_offer *next;
    int index, fd;
    uint64_t memory_id, bytes;
} weft_pending_offer;

/* One entry of the tables of offers: those made (fd unused) and those received. */
typedef struct weft_offer {
    uint64_t memory_id;
    int index; /* local index of the other side; -1: the entry is free */
    int fd;    /* received and not yet mapped; else -1 */
    size_t bytes;
    void *address; /* of its offset 0, once mapped */
    bool held; /* the address is this process's own (weft_memory_hold), not a mapping made for the offer */
} weft_offer;

typedef struct weft_offer_table {
    weft_offer *entries; /* open addressing; capacity is 0 or a power of two */
    size_t capacity, used;
} weft_offer_table;

/* What a rank says about its CPUs, in the base segment. */
enum { WEFT_CPU_WORDS = 32 };
typedef struct weft_cpu_info {
    uint64_t mask[WEFT_CPU_WORDS]; /* affinity */
    uint64_t quota_id;             /* whose limit it is: the cgroup's inode; 0: no limit */
    uint64_t quota_cpus;           /* rounded up */
} weft_cpu_info;

struct weft_host {
    weft_host_front front; /* first */
    int rank, ranks, size, index, hosts;
    uint64_t job, secret;
    int *host_of;          /* [ranks] */
    int *local_ranks;      /* [size] */
    weft_host_peer *peers; /* [size] */
    int cpus;
    int bell_socket, mail_socket;

    uint64_t base_id;
    unsigned char *base; /* the base segment */
    size_t base_bytes, regions_at, region_bytes;
    bool sleeps_in_poll;

    pthread_mutex_t lock; /* what follows: the mail */
    bool lock_made;
    _Atomic uint32_t mail_seen;
    weft_parcel *parcels;
    bool parcel_lost; /* one could not be kept for lack of memory */
    weft_pending_offer *pending;
    _Atomic uint32_t pending_count;
    weft_offer_table sent, received;
};

struct weft_segment {
    unsigned char *base;
    uint64_t id;
    size_t region_bytes;
    int count;
};

/* host_socket.c */
void weft_socket_name_make(weft_socket_name *name, uint64_t job, int rank, uint64_t random, char kind);
weft_status weft_socket_open(const weft_socket_name *name, int *out);
/* Sends without blocking; 0 or errno. ECONNREFUSED: nobody has that name (any more, or in this network
 * namespace). */
int weft_socket_send(int fd, const weft_socket_name *to, const weft_host_message *message, int descriptor);
/* 0 and a message with its descriptor, or errno: EAGAIN: none there, EBADMSG: not one of ours (dropped),
 * EMFILE: no room for the descriptor. */
int weft_socket_receive(int fd, weft_host_message *message, int *descriptor);

/* host_mapping.c: shared memory, mapped once per process however many of its threads are ranks. */
/* Maps the memory called `id`; the descriptor may be closed then. -1: memory that no other process maps. */
weft_status weft_shared_map(uint64_t id, int fd, size_t bytes, void **address);
void weft_shared_unmap(uint64_t id);

/* host_mail.c */
void weft_host_fill_message(const weft_host *h, weft_host_message *message, weft_message_kind kind,
                            uint64_t key, uint64_t id, uint64_t bytes);
/* Takes everything from the mail socket. With the lock held. Returns how many messages there were. */
int weft_host_read_mail(weft_host *h);
/* The descriptor of segment `key` from `rank`, if it has come: taken out. With the lock held. */
bool weft_host_take_parcel(weft_host *h, int rank, uint64_t key, weft_host_message *message, int *fd);
void weft_host_drop_mail(weft_host *h);

/* host_cpus.c */
void weft_cpu_info_read(weft_cpu_info *info);
int weft_cpu_info_count(const weft_cpu_info *infos, const int *which, int count);

/* The random number that tells this base segment from all others; peers on one host have the same. */
uint64_t weft_host_base_id(const weft_host *h);
#endif

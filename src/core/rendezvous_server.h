/* Inside of the meeting's server, shared by its files: rendezvous_server.c (the thread), rendezvous_join.c (who comes),
 * rendezvous_tell.c (what is said) and rendezvous_probe.c (who is dead). */
#ifndef WEFT_RENDEZVOUS_SERVER_H
#define WEFT_RENDEZVOUS_SERVER_H

#include "core/rendezvous.h"

typedef enum { GUEST_STRANGER, GUEST_JOINED, GUEST_CONNECTED } weft_meeting_guest_state;

typedef struct weft_meeting_guest {
    int fd;                              /* -1: dropped */
    weft_meeting_guest_state state;
    struct sockaddr_storage peer, local; /* as this process sees the connection */
    weft_join join;                      /* rank is valid from GUEST_JOINED on */
    int64_t drop_at_ns;                  /* of a stranger */
    size_t have;
    uint8_t in[1024];
    struct weft_meeting_guest *next;
} weft_meeting_guest;

/* Shrink: a connection to a rank's listener stands as long as its process lives, whether or not it ever answers. */
typedef struct weft_meeting_probe {
    int fd, rank, address;
    bool stands;
    int64_t deadline_ns;
} weft_meeting_probe;

typedef enum { MEETING_JOINING, MEETING_CONNECTING, MEETING_FAILED, MEETING_ENDED } weft_meeting_phase;

struct weft_meeting_server {
    int listener, epoll, wake;
    uint16_t port;
    pthread_t thread;
    /* The thread's own. */
    weft_meeting_phase phase;
    int size;                     /* 0: not known yet */
    int sized_by_rank;            /* who joined first with that size, -1: nobody */
    char sized_by[WEFT_ADDRESS_TEXT_BYTES];
    uint64_t token;
    int64_t deadline_ns, started_ns, first_join_ns;
    bool own_deadline, said_who_is_late;
    weft_meeting_guest *guests, *dropped, **by_rank;
    int strangers, joined, connected, told_count, absent_count;
    uint64_t *told, *absent;      /* bits per rank */
    weft_status status;           /* the verdict */
    char text[WEFT_MEETING_TEXT_BYTES];
    bool survivors, of_rank_0;
    const weft_endpoint *endpoints;
    int64_t dead_peer_ms;
    int self;
    weft_meeting_probe *probes;   /* [size] */
    /* Shared with the process. */
    atomic_bool stop, failed;
    weft_status posted;           /* under linger_lock: the creator's own failure */
    char posted_text[WEFT_MEETING_TEXT_BYTES];
    bool lingers, ended;          /* under linger_lock: the thread frees; the thread is done */
    weft_meeting_server *next;
};

/* rendezvous_server.c */
void weft_meeting_free(weft_meeting_server *s);

/* rendezvous_tell.c */
/* "rank 3 (10.0.0.1:40000, pid 77)" */
void weft_meeting_describe(const weft_meeting_guest *g, char *text, size_t bytes);
/* false: it cannot be told */
bool weft_meeting_tell(weft_meeting_guest *g, const void *frame, size_t bytes);
void weft_meeting_tell_retry(weft_meeting_guest *g);
void weft_meeting_tell_verdict(weft_meeting_server *s, weft_meeting_guest *g);
/* Closes the connection; the struct lives on in s->dropped until the events of this round are over. */
void weft_meeting_drop(weft_meeting_server *s, weft_meeting_guest *g);
void weft_meeting_drop_stranger(weft_meeting_server *s, weft_meeting_guest *g, const char *why);
/* A guest left: its going, for shrink another beginning, else the meeting's failure. */
void weft_meeting_guest_gone(weft_meeting_server *s, weft_meeting_guest *g, const char *why);
/* The first failure is the verdict: all who joined hear it and are dropped, who comes later hears it then. */
void weft_meeting_fail(weft_meeting_server *s, weft_status status, const char *text);
void weft_meeting_out_of_memory(weft_meeting_server *s);
void weft_meeting_begin_again(weft_meeting_server *s);

/* rendezvous_join.c */
/* Room for `size` ranks; false: no memory. */
bool weft_meeting_grow(weft_meeting_server *s, int size);
/* Takes all connections that wait, greets them. */
void weft_meeting_accept(weft_meeting_server *s);
void weft_meeting_read_guest(weft_meeting_server *s, weft_meeting_guest *g);
/* Deals out the tree if nobody is missing. */
void weft_meeting_check_complete(weft_meeting_server *s);

/* rendezvous_probe.c */
weft_status weft_meeting_start_probes(weft_meeting_server *s, const weft_meeting_config *config);
void weft_meeting_stop_probes(weft_meeting_server *s);
bool weft_meeting_is_probe(const weft_meeting_server *s, const void *what);
void weft_meeting_probe_event(weft_meeting_server *s, weft_meeting_probe *probe);
void weft_meeting_check_probes(weft_meeting_server *s, int64_t now_ns);
/* The rank is dead or left; it has joined: nothing to prove any more. */
void weft_meeting_absent(weft_meeting_server *s, int rank);
void weft_meeting_present(weft_meeting_server *s, int rank);
/* It will join once more: until then its life is watched again. */
void weft_meeting_probe_again(weft_meeting_server *s, int rank);
#endif

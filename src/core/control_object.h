/* Inside of a weft_control, shared by control.c (life), control_edge.c (bytes of one connection), control_thread.c (what
 * arrives) and control_shrink.c. */
#ifndef WEFT_CONTROL_OBJECT_H
#define WEFT_CONTROL_OBJECT_H

#include "core/rendezvous.h"

/* Bytes to be sent on several edges. */
typedef struct weft_control_buffer {
    int references; /* under the object's lock */
    size_t bytes;
    uint8_t data[];
} weft_control_buffer;

typedef struct weft_control_queued {
    weft_control_buffer *buffer;
    size_t sent;
    struct weft_control_queued *next;
} weft_control_queued;

/* A connection to a neighbour in the tree. */
typedef struct weft_control_edge {
    int fd;                     /* -1: gone */
    int rank;
    int low, high;              /* ranks on the other side, when it is a child */
    bool parent;
    bool said_bye;              /* a child: its subtree is ready; the parent: ALLBYE came */
    bool left;                  /* its end is no death */
    bool ended;                 /* end of file or error was read, not yet judged */
    int error;                  /* errno of that, 0: end of file */
    bool wants_write;           /* epoll is asked for EPOLLOUT */
    weft_control_queued *first, **last;
    /* The frame that is being read. */
    uint8_t head[WEFT_FRAME_HEADER_BYTES];
    size_t have;                /* of head and payload together */
    weft_frame_header header;
    uint8_t *payload;
    /* A child's part of an all-gather, until it is this rank's turn. */
    uint8_t *gathered;
    uint32_t gathered_sequence;
    size_t gathered_bytes;
} weft_control_edge;

struct weft_control {
    int rank, size;
    uint64_t job;
    uint32_t forks;             /* weft_fork_count at its creation: another one means that this is the child's copy */
    weft_tree_place place;
    weft_notice_function notice;
    void *notice_context;
    int64_t dead_peer_ms;
    char *interfaces, *port_range;
    weft_endpoint listen;
    weft_endpoint *endpoints;   /* [size], of all ranks' listeners: for shrink */
    int listener;               /* nobody accepts: a connection to it stands as long as this process lives */
    int epoll, wake;
    pthread_t thread;
    bool running;
    bool has_lock;
    void (*_Atomic errand)(void); /* for the thread; NULL: none */

    pthread_mutex_t lock;       /* all below but the atomics */
    pthread_cond_t changed;
    weft_control_edge edges[1 + WEFT_TREE_FANOUT];
    int edge_count;             /* the parent, if there is one, is the first */
    bool stop;
    bool leaving, bye_sent, all_bye;

    /* Every different notice so far; those from `delivered` on are still to be told to the owner. */
    weft_notice *notices;
    int notice_count, notice_room, delivered;
    atomic_bool failed;         /* released after `first` is written and after the news was sent on */
    weft_notice first;
    _Atomic uint64_t *dead;     /* bits per rank */

    /* The all-gather under way. */
    uint32_t gather_sequence;
    bool gathering, gather_sent, gather_done, gather_broken;
    bool gather_lost;           /* one has failed here: the others know, or are to blame */
    char gather_why[200];
    size_t gather_bytes;        /* per rank */
    weft_control_buffer *gather; /* frame head, gather head, the subtree's part */
    uint8_t *gather_result;     /* whole payload; the caller frees gather_payload */
    uint8_t *gather_payload;
};

enum { WEFT_GATHER_DATA = WEFT_FRAME_HEADER_BYTES + WEFT_GATHER_HEADER_BYTES };

/* ---- control_edge.c: all with the lock held -------------------------------------------------------- */
weft_control_buffer *weft_control_buffer_create(size_t bytes);
void weft_control_buffer_release(weft_control_buffer *buffer);
/* Sends now what the socket takes and queues the rest. */
void weft_edge_send(weft_control *c, weft_control_edge *e, weft_control_buffer *buffer);
/* The same for a few bytes of the caller's. */
void weft_edge_send_bytes(weft_control *c, weft_control_edge *e, const void *data, size_t bytes);
void weft_edge_flush(weft_control *c, weft_control_edge *e);
/* Reads all that is there; whole frames go to weft_control_handle. Sets `ended` at the end. */
void weft_edge_read(weft_control *c, weft_control_edge *e);
void weft_edge_close(weft_control *c, weft_control_edge *e);

/* ---- control_thread.c ------------------------------------------------------------------------------ */
void *weft_control_run(void *control);
/* A whole frame; takes over e->payload by setting it to NULL, or leaves it. */
void weft_control_handle(weft_control *c, weft_control_edge *e);
/* Enters the notice if it is new and sends it on to all neighbours but `from`. */
void weft_control_enter(weft_control *c, const weft_notice *notice, const weft_control_edge *from);
/* What a rank says that cannot go on for a reason of its own (to the others it is dead): as a frame (returns its bytes), and
 * to all neighbours. */
size_t weft_control_farewell(int rank, const char *why, uint8_t *frame);
void weft_control_tell_farewell(weft_control *c, const char *why);
/* After any change: sends BYE or ALLBYE when it is time. */
void weft_control_check_bye(weft_control *c);
/* After any change: sends the gathered part up or down when it is complete. */
void weft_control_check_gather(weft_control *c);

/* ---- control.c ------------------------------------------------------------------------------------- */
/* From the meeting's result to a running object; listener is taken over. On failure nothing is left. */
weft_status weft_control_start(const weft_control_config *config, weft_meeting_result *result, int listener,
                               const weft_endpoint *listen, weft_control **out);
#endif

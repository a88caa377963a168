/* The inside of the tcp transport: an instance has one link per peer that it talks with, a link has one or
 * more sockets, and sockets, listeners and strangers (accepted connections that have not said who they are)
 * are what its epoll set watches.
 *
 * tcp.c: instance, event loop, timers. listener.c: listening, strangers. dial.c: connecting.
 * link.c: send queue, failing. stripe.c: which socket sends next. stream.c: frames over one socket.
 */
#ifndef WEFT_TCP_H
#define WEFT_TCP_H

#include "transport/near.h"
#include "transport/tcp/address.h"
#include "transport/tcp/system.h"
#include "transport/tcp/wire.h"

enum {
    TCP_STAGE_BYTES = 16 * 1024,   /* what one read may bring beyond the payload that it is for */
    TCP_STAGE_FIRST_BYTES = 2048,  /* ... until one has brought that much: idle connections take little */
    TCP_STRANGERS_MIN = 64,        /* at once, or as many as there are ranks, who may all dial at once, up to ... */
    TCP_STRANGERS_MAX = 1024,      /* ... this; the oldest is dropped for a newer one; a rank of the job dials again */
    TCP_REASON_BYTES = 256
};

typedef struct tcp_transport tcp_transport;
typedef struct tcp_link tcp_link;
typedef struct tcp_socket tcp_socket;

/* What an epoll event points to: the first member of the structs below. */
typedef enum tcp_kind { TCP_LISTENER, TCP_TIMER, TCP_STRANGER, TCP_SOCKET } tcp_kind;
typedef struct tcp_source {
    tcp_kind kind;
    int fd;                        /* -1: closed; its events of the running round are void */
    uint32_t interest;             /* events asked for */
} tcp_source;

typedef struct tcp_listener {
    tcp_source source;
} tcp_listener;

typedef struct tcp_stranger {
    tcp_source source;
    int64_t deadline_ns;
    weft_tcp_sockaddr from;
    size_t got;
    unsigned char hello[WEFT_TCP_HELLO_BYTES];
} tcp_stranger;

typedef enum tcp_socket_state {
    TCP_CLOSED,                    /* not there (any more) */
    TCP_RETRYING,                  /* dialled in vain; again at retry_ns */
    TCP_CONNECTING,                /* connect() runs */
    TCP_GREETING,                  /* the hello is being sent */
    TCP_AWAITING,                  /* waits for the answer, as long as the other process takes to progress */
    TCP_UP,
    TCP_ENDED                      /* the peer closed it; the link waits for its other sockets to end too */
} tcp_socket_state;

struct tcp_socket {
    tcp_source source;
    tcp_link *link;
    tcp_socket_state state;
    int index;                     /* in its set */
    int rail;                      /* of the link; -1: accepted */
    int tries;
    int64_t retry_ns;
    weft_tcp_sockaddr remote;

    /* Out. The greeting goes before any frame. A socket owns a slice from its first byte to its last. */
    unsigned char greeting[WEFT_TCP_HELLO_BYTES];
    size_t greeting_bytes, greeting_sent;
    weft_slice *out;
    size_t out_sent;
    uint64_t given;                /* bytes to the kernel since it is up */
    uint32_t speed_Mbps;           /* of its rail, 0: unknown */
    bool blocked;                  /* the kernel's buffer is full: EPOLLOUT is asked for */
    int write_error;               /* writing failed; what came in before is still read */
    bool unproven;                 /* sent something since all was last seen to be acknowledged */
    int64_t suspect_ns;            /* since when the peer's machine does not answer; 0: it does */

    /* In. `stage` holds what was read and is not consumed: [stage_from, stage_to). */
    unsigned char *stage;
    size_t stage_bytes, stage_from, stage_to;
    bool have_header;              /* header, bytes and sequence of the current frame are known */
    bool announced;                /* ... and it was its turn: the payload is being read */
    uint32_t bytes, got;           /* of the payload */
    uint64_t sequence;
    unsigned char *place;          /* where the payload goes */
    unsigned char *own;            /* memory for payloads that the sink has no place for */
    size_t own_bytes;
    _Alignas(16) unsigned char header[WEFT_HEADER_BYTES];
};

typedef enum tcp_link_state {
    TCP_IDLE,                      /* nothing sent, nothing came */
    TCP_DIALLING,                  /* this side connects */
    TCP_AWAITED,                   /* the peer said that it connects */
    TCP_OPEN,                      /* at least one socket is up */
    TCP_FAILED
} tcp_link_state;

/* The way to one peer: what weft_endpoint points to. */
struct tcp_link {
    tcp_transport *transport;
    int peer;
    tcp_link_state state;
    bool connected;                /* connect() was called: rails are known */
    weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX];
    int rail_count;
    int wanted;                    /* sockets that this side would dial */

    uint64_t set;                  /* number of the set of sockets in use */
    bool own_set;                  /* this side dialled it */
    tcp_socket *sockets[WEFT_TCP_SOCKETS_MAX];
    int socket_count;              /* slots in use, whatever their state */
    int up_count;
    int expected;                  /* sockets of the set */
    int64_t deadline_ns;           /* dialling: give up; ending: do not wait for the other sockets */
    bool ending;

    weft_slice *queue, *queue_last; /* slices of which no byte is sent */
    uint64_t next_out, next_in;    /* sequence numbers */
    size_t burst_bytes;            /* written since something came from the peer */
    bool flushing;

    bool needs_attention;          /* is in the transport's list */
    tcp_link *next_attention;
    bool reported;
    weft_status status;            /* why it failed */
    char reason[TCP_REASON_BYTES];
};

struct tcp_transport {
    weft_transport_config config;
    weft_tcp_addresses addresses;  /* own */
    int epoll;
    tcp_listener listeners[WEFT_TCP_ADDRESSES_MAX];
    int listener_count;
    tcp_source timer;
    int64_t timer_ns;              /* when it is set for; WEFT_NEVER: not */
    int64_t liveness_ns;           /* next look at unacknowledged data; WEFT_NEVER: nothing to look at */
    int64_t accept_again_ns;       /* accepting pauses until then; 0: it does not */
    tcp_stranger *strangers;       /* [strangers_max], fd -1: free */
    int strangers_max;
    int stranger_count;
    unsigned strangers_refused;
    int complete_links;            /* all sockets of whose sets were up at once */
    bool may_rest;                 /* nobody is left who could connect */
    tcp_link **links;              /* [ranks] */
    tcp_link *attention;           /* links with something that only progress() may do */
    bool closed;

    /* With a single socket trying to read is cheaper than asking epoll first. */
    tcp_socket *only;              /* if up_total is 1 */
    int up_total;
    int unsettled;                 /* sockets dialling or blocked: epoll has to be asked */
    int rounds_without_epoll;
};

/* tcp.c */
weft_status weft_tcp_watch(tcp_transport *t, tcp_source *source, uint32_t interest);
void weft_tcp_interest(tcp_transport *t, tcp_source *source, uint32_t interest);
/* Stops watching and closes the descriptor, also where a forked child still holds a copy. */
void weft_tcp_unwatch(tcp_transport *t, tcp_source *source);
void weft_tcp_timer_want(tcp_transport *t, int64_t when_ns);
/* Something was sent: from now on it is looked at whether the peer's machine acknowledges it. */
void weft_tcp_liveness_start(tcp_transport *t);

/* listener.c */
weft_status weft_tcp_listen(tcp_transport *t, const weft_tcp_interface *interfaces, int count);
void weft_tcp_accept_all(tcp_transport *t, tcp_listener *listener);
void weft_tcp_stranger_event(tcp_transport *t, tcp_stranger *stranger);
void weft_tcp_strangers_expire(tcp_transport *t, int64_t now);
void weft_tcp_accept_resume(tcp_transport *t);
/* Everybody is connected: no more listening. */
void weft_tcp_listen_end(tcp_transport *t);

/* dial.c */
/* Options that every connection has. */
void weft_tcp_tune(tcp_transport *t, int fd);
/* ... and what depends on where the other end is. */
void weft_tcp_tune_connected(const tcp_socket *s);
/* Starts to connect the link; an error when not even one attempt could be started. */
weft_status weft_tcp_dial(tcp_link *link);
/* True while no byte of a hello of this link's dialling has been sent. */
bool weft_tcp_dial_unseen(const tcp_link *link);
bool weft_tcp_is_dialling(const tcp_socket *s);
/* Closes what is being dialled. */
void weft_tcp_dial_abandon(tcp_link *link);
void weft_tcp_dial_event(tcp_socket *s, uint32_t events);
/* Deadlines and repetitions of one link; returns when it wants to be called again. */
int64_t weft_tcp_dial_timer(tcp_link *link, int64_t now);

/* link.c */
weft_status weft_tcp_link_get(tcp_transport *t, int peer, tcp_link **out);
void weft_tcp_link_free(tcp_link *link);
/* The socket object of that index, closed if it is new. */
weft_status weft_tcp_link_socket(tcp_link *link, int index, tcp_socket **out);
/* A descriptor has become a connection of the link that slices can use. */
void weft_tcp_link_up(tcp_socket *s);
/* Closes the socket and forgets what was half done with it. */
void weft_tcp_socket_close(tcp_socket *s, tcp_socket_state state);
/* The peer closed the socket (error 0) or it broke: the link fails, at once or when its other sockets are
 * read to their ends. */
void weft_tcp_socket_end(tcp_socket *s, int error);
/* The link is broken: closes it; the sink and the queued slices hear of it at the end of progress(). */
void weft_tcp_link_fail(tcp_link *link, weft_status status, const char *format, ...) WEFT_PRINTF(3, 4);
void weft_tcp_link_attend(tcp_link *link);
/* The socket has read the header of a slice that another socket's slices have to come before. */
bool weft_tcp_waits_for_turn(const tcp_socket *s);
/* Fails the link if none of its sockets can bring the slice that is next. */
void weft_tcp_link_check_gap(tcp_link *link);
/* Runs what waits for progress(); returns the number of slices that moved. */
int weft_tcp_link_attention(tcp_transport *t);
/* Ends all slices that the link owns. */
void weft_tcp_link_drop_slices(tcp_link *link, weft_status status);
weft_status weft_tcp_link_send(tcp_link *link, weft_slice *slice);
/* Writes as much as the sockets take; returns the number of slices that are wholly sent. */
int weft_tcp_link_flush(tcp_link *link);
const char *weft_tcp_socket_text(const tcp_socket *s, char text[WEFT_TCP_ADDRESS_TEXT + 24]);

/* stripe.c */
void weft_tcp_stripe_begin(tcp_socket *s);
/* The socket that is best for what comes next in the queue, which is not empty; NULL: none has room. */
tcp_socket *weft_tcp_stripe_choose(tcp_link *link);

/* stream.c */
/* Reads what is there and hands it to the sink; returns the number of slices that arrived. */
int weft_tcp_stream_read(tcp_socket *s);
/* Writes the greeting, then as many queued frames as one call takes; there must be something. Slices that are
 * done are appended to *done. Sets s->blocked when nothing more can be written now, s->write_error on errors.
 */
void weft_tcp_stream_write(tcp_socket *s, weft_slice **done, size_t *written);

#endif

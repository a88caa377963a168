/* The messages between the members of a process group: multiplexes many communicators and operations over one
 * connection per pair, keeps what comes too early (bounded), and counts the credit for it. Knows headers and peers,
 * nothing of schedules. All calls are made under the group's lock. */
#ifndef WEFT_WIRE_H
#define WEFT_WIRE_H

#include <weft/transport.h>
#include "base/base.h"
#include "collectives/slice.h"

/* Payload bytes that may be under way to one peer without its asking for them, and the least a slice counts. */
enum { WEFT_EAGER_BYTES = 512 << 10, WEFT_EAGER_MIN_CHARGE = 64 };

typedef enum weft_wire_kind {
    WEFT_WIRE_DATA = 1, /* a slice of a collective */
    WEFT_WIRE_WANT,     /* "I wait for that receive step: send without regard to eager credit" */
    WEFT_WIRE_CREDIT,   /* only brings credit */
    WEFT_WIRE_MESSAGE,  /* a slice of a point-to-point message */
    WEFT_WIRE_MESSAGE_WANT
} weft_wire_kind;

enum { WEFT_WIRE_EAGER = 1 };

/* What ranks must agree on in a collective. */
typedef struct weft_fingerprint {
    uint8_t collective, type, op, algorithm;
    int32_t root;
    uint64_t count; /* 0 in vector collectives */
} weft_fingerprint;

/* Exactly WEFT_HEADER_BYTES; little endian hosts only (checked at creation). */
typedef struct weft_wire_header {
    uint8_t kind, flags;
    uint16_t unused;
    uint32_t comm;
    uint32_t sequence;  /* of the collective in its communicator, or of the message between the two ranks */
    uint32_t task;      /* collective: tile * lanes + lane; message: tag */
    uint32_t credit;    /* eager bytes that the sender of this header has taken from its receiver */
    uint32_t ordinal;   /* which transfer between the two ranks in that lane */
    uint64_t total;     /* bytes of the whole step or message */
    weft_fingerprint fingerprint;
} weft_wire_header;

typedef struct weft_wire weft_wire;
typedef struct weft_incoming weft_incoming;
typedef struct weft_wire_client weft_wire_client;

/* A slice that came in. */
struct weft_incoming {
    weft_incoming *next;     /* the holder's */
    weft_incoming *next_placed; /* the wire's */
    bool unwanted;           /* to be forgotten when it is complete */
    weft_wire_client *client;
    const unsigned char *payload; /* complete payload, or NULL while it is still coming */
    void *memory;            /* where it is placed, when the client chose that */
    size_t bytes;
    int peer;                /* rank in the process group */
    void *user[2];           /* the client's */
    uint64_t position;       /* the client's */
    void *buffer;            /* wire memory that is given back with the slice; a client may set it in `take` */
    weft_wire_header header;
};

typedef enum weft_take {
    WEFT_TAKE_DONE,  /* consumed (payload was there) or not wanted */
    WEFT_TAKE_PLACE, /* in->memory says where the payload shall go; `landed` follows */
    WEFT_TAKE_KEEP   /* too early: `kept` follows with an object that the client owns */
} weft_take;

/* A communicator, as the wire sees it. */
struct weft_wire_client {
    uint32_t comm;
    weft_wire_client *next;
    /* A slice was announced; payload is set if it is there already (then valid only during this call). */
    weft_take (*take)(weft_wire_client *client, weft_incoming *in);
    /* The slice that `take` placed is complete at in->memory; `in` ends with this call. */
    void (*landed)(weft_wire_client *client, weft_incoming *in);
    /* A placed slice will not come any more; its memory is free. `in` ends with this call. */
    void (*lost)(weft_wire_client *client, weft_incoming *in);
    /* The client owns `in` until weft_wire_release. Its payload may still be NULL; `completed` follows then. */
    void (*kept)(weft_wire_client *client, weft_incoming *in);
    void (*completed)(weft_wire_client *client, weft_incoming *in);
    /* The way to a peer is broken. */
    void (*broken)(weft_wire_client *client, int peer, weft_status status, const char *reason);
    /* Something failed inside (out of memory): the communicator cannot go on. */
    void (*fault)(weft_wire_client *client, weft_status status, const char *reason);
};

typedef void (*weft_wire_done)(void *owner, uint32_t index, size_t bytes, weft_status status);

typedef struct weft_wire_peer {
    weft_endpoint *endpoint;
    const struct weft_wire_route *route; /* how this peer is reached */
    uint32_t eager_used;  /* sent without being asked for, not yet taken */
    uint32_t credit_due;  /* taken here, not yet told */
    bool broken;
    weft_incoming *placed; /* announced, payload still coming */
    char *reason;
} weft_wire_peer;

/* An open transport. */
typedef struct weft_wire_route {
    const weft_transport_ops *ops;
    weft_transport *transport;
    unsigned char *addresses; /* address_stride bytes each */
    size_t address_stride;
    uint32_t *address_bytes;
    int peers;                /* that use it */
    size_t slice_bytes, least_slice_bytes; /* that suit it: the longest, the shortest worth cutting */
} weft_wire_route;

enum { WEFT_WIRE_ROUTES = 8, WEFT_WIRE_BUCKETS = 64, WEFT_WIRE_CLASSES = 24 };

struct weft_wire {
    int rank, ranks;
    weft_wire_peer *peers;
    weft_wire_route routes[WEFT_WIRE_ROUTES];
    int route_count;
    weft_wire_client *clients[WEFT_WIRE_BUCKETS];
    uint32_t next_comm;        /* ids below it that are not in the table are over */
    weft_incoming *orphans;    /* for communicators not created here yet, in order of arrival */
    void *free_sends, *owned_sends; /* slices that nobody, that transports hold */
    void *free_incoming;
    void *free_buffers[WEFT_WIRE_CLASSES];
    size_t buffer_bytes;       /* held for incoming slices, for the books */
    int sends;                 /* slices that transports own */
    bool closed;
};

/* Frees everything, closes the transports. Takes a zeroed wire. */
void weft_wire_destroy(weft_wire *w);
/* The sink to open transports with. */
weft_sink weft_wire_sink(weft_wire *w);
void weft_wire_add_client(weft_wire *w, weft_wire_client *client);
void weft_wire_remove_client(weft_wire *w, weft_wire_client *client);

/* May `bytes` be sent to peer unasked? Charges them if so. */
static inline bool weft_wire_charge(weft_wire *w, int peer, size_t bytes)
{
    uint32_t charge = (uint32_t)(bytes > WEFT_EAGER_MIN_CHARGE ? bytes : WEFT_EAGER_MIN_CHARGE);
    if (w->peers[peer].eager_used + charge > WEFT_EAGER_BYTES)
        return false;
    w->peers[peer].eager_used += charge;
    return true;
}
/* The longest slice of a message of `bytes` to that peer. */
static inline size_t weft_wire_slice(const weft_wire *w, int peer, size_t bytes)
{
    const weft_wire_route *r = w->peers[peer].route;
    return r ? weft_slice_of(bytes, r->least_slice_bytes, r->slice_bytes) : WEFT_SLICE_MOST_BYTES;
}
/* Sends one slice; `done` (may be NULL) is told when the payload may be reused, maybe at once. header->credit is filled here. */
weft_status weft_wire_post(weft_wire *w, int peer, weft_wire_header *header, const void *payload, size_t bytes,
                           weft_wire_done done, void *owner, uint32_t index);
/* The sends of `owner` that are not done get another owner and `done`; `each` is told the index of every one. */
void weft_wire_hand_over(weft_wire *w, const void *owner, void *to, weft_wire_done done, void (*each)(void *to, uint32_t index));
/* A taken slice is consumed: its eager charge goes back to the sender. */
void weft_wire_taken(weft_wire *w, int peer, const weft_wire_header *header, size_t bytes);
/* Ends a kept slice: gives its memory back and its charge to the sender. */
void weft_wire_release(weft_wire *w, weft_incoming *in);
/* The same for one whose payload may still be coming. */
void weft_wire_discard(weft_wire *w, weft_incoming *in);
/* Memory for staging, of at least bytes; NULL if there is none. */
void *weft_wire_buffer(weft_wire *w, size_t bytes);
void weft_wire_buffer_free(weft_wire *w, void *buffer);
/* The peer is known to be dead: nothing that is under way to or from it holds memory any more. */
void weft_wire_peer_dead(weft_wire *w, int peer, const char *reason);
int weft_wire_progress(weft_wire *w);
/* Transports stop; nothing of the user's memory is touched any more. */
void weft_wire_close(weft_wire *w);

#endif

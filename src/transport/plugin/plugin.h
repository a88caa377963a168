/* The parts of the transport "plugin", which sends slices through a NCCL network plugin.
 *
 * NCCL's connections go one way, carry messages in order into buffers that the receiver has posted, and need a handle that the
 * receiver made for that one connection. From a rank to another there are some of them, made when they are first needed:
 * SHORT carries every slice's header, and the payload with it when it is small; its receiver keeps buffers posted. BULK and those
 * after it, one for each device, carry larger payloads, which the receiver posts when it knows from the header how long they are
 * and which part of them comes where. Handles, and the word that a rank
 * leaves, travel over an inner instance of the tcp transport, which also notices when a peer dies.
 */
#ifndef WEFT_PLUGIN_H
#define WEFT_PLUGIN_H

#include <weft/transport.h>
#include "base/base.h"
#include "transport/plugin/net.h"

enum {
    WEFT_NET_SHORT_BYTES = 4096,       /* a message of SHORT: a header and what fits beside it */
    WEFT_NET_PIECE_BYTES = 128 << 10,  /* a message of BULK, at most */
    WEFT_NET_STAGES = 4,               /* of them, where payloads are copied */
    WEFT_NET_AHEAD_BYTES = 2 << 20     /* announced, not yet sent */
};

enum { PLUGIN_SHORT, PLUGIN_BULK, PLUGIN_KINDS = PLUGIN_BULK + WEFT_NET_RAILS_MAX };

typedef struct plugin_payload plugin_payload;

/* The part of a payload that goes over one rail. */
typedef struct plugin_part {
    struct plugin_part *next;   /* of the rail */
    plugin_payload *of;
    unsigned char *data;
    size_t bytes, posted, moved; /* posted: the plugin has them; moved: it has sent or filled them */
} plugin_part;

/* A payload that was announced and goes or comes on BULK. */
struct plugin_payload {
    plugin_payload *next;       /* in order of their announcements */
    size_t bytes, moved;
    weft_slice *slice;          /* out */
    unsigned char *memory;      /* in, .own: allocated for it */
    bool own;
    unsigned char header[WEFT_HEADER_BYTES];
    plugin_part part[WEFT_NET_RAILS_MAX];
};

typedef enum channel_state {
    CHANNEL_NONE,
    CHANNEL_WAITING,    /* sender: for a handle; receiver: for the sender to call connect, as accept may block before that */
    CHANNEL_MEETING,    /* connect or accept is called until there is a comm */
    CHANNEL_UP,
    CHANNEL_BROKEN
} channel_state;

/* A message that the plugin has, or a posted buffer. */
typedef struct plugin_message {
    void *request;
    void *memory;               /* registration made for this message alone */
    bool registered;
    weft_slice *slice;          /* SHORT, out: done with this message */
    plugin_part *part;          /* BULK */
    size_t bytes;
    unsigned char *stage;
} plugin_message;

/* One NCCL connection. Messages in flight are a ring; only the oldest is tested, as NCCL does. */
typedef struct plugin_channel {
    channel_state state;
    int kind;                   /* PLUGIN_SHORT, or PLUGIN_BULK + rail */
    int device;                 /* of those that the transport uses */
    bool sends;
    bool called, accepted;      /* connect or accept was called; the receiver has accepted, so that the sender may send */
    void *listen_comm, *comm;
    unsigned char handle[NCCL_NET_HANDLE_BYTES]; /* connect() may keep state in it from call to call */
    plugin_message ring[NCCL_NET_REQUESTS];
    uint32_t first, count, limit;
    unsigned char *buffers;     /* registered: SHORT's messages, BULK's stages where it copies */
    void *buffers_memory;
    size_t buffer_bytes;        /* of one */
    bool staged;                /* BULK out: the next buffer is filled already, but the plugin did not take it yet */
    bool copies;                /* BULK: the plugin pins memory, so payloads go through the buffers */
} plugin_channel;

/* How fast a rail brings what was announced for it, of the last parts. A plugin's word that a part is sent says little: over
 * sockets that is when the kernel has it. */
typedef struct plugin_pace {
    int64_t since_ns;           /* the oldest part was announced, or the one before it was complete */
    double bytes, ns;
} plugin_pace;

/* A way out to a peer: one of our devices with the one in the same place there. */
typedef struct plugin_rail {
    uint32_t weight;            /* what the devices say that they can; where l->paced what the receiver says, kB/s */
    uint64_t load;              /* bytes announced and not sent */
    int64_t due_ns;             /* when what was given to it will be there at that pace */
    plugin_part *parts, **parts_end; /* not wholly given to the plugin */
} plugin_rail;

/* All that is shared with one peer. */
typedef struct plugin_link {
    struct plugin_link *next;
    struct plugin_transport *transport;
    int peer;
    weft_endpoint *control;     /* of the inner tcp; NULL until it is needed */
    plugin_channel out[PLUGIN_KINDS], in[PLUGIN_KINDS];
    weft_slice *first, **end;   /* not announced yet */
    plugin_rail rail[WEFT_NET_RAILS_MAX]; /* known when there is an endpoint */
    int rails;
    uint32_t divided;           /* payloads */
    bool paced;                 /* the receiver has said what the rails do */
    plugin_pace pace[WEFT_NET_RAILS_MAX]; /* of what comes in */
    int64_t paced_ns;           /* when it was told last */
    plugin_payload *going, **going_end; /* announced, not completely sent */
    size_t ahead_bytes;         /* of these */
    plugin_payload *coming, **coming_end;
    plugin_part *parts[WEFT_NET_RAILS_MAX], **parts_end[WEFT_NET_RAILS_MAX]; /* of these, not complete */
    uint64_t sent, received;    /* messages of SHORT */
    bool working;               /* inside its progress: a send() only queues */
    bool failed, told;          /* over; and the sink knows, or must not hear of it */
    bool ending;                /* it leaves, or something broke: what was sent before is still read, until ending_ns */
    bool left;                  /* the peer said that it leaves, and sent left_count messages */
    uint64_t left_count;
    int64_t ending_ns;
    weft_status why;
    char reason[320];
} plugin_link;

typedef struct plugin_transport {
    weft_transport_config config;
    weft_net net;
    bool far[WEFT_NET_RAILS_MAX]; /* devices that other ranks of this host are nearer to */
    const weft_transport_ops *tcp;
    weft_transport *inner;
    plugin_link **links;        /* by rank, NULL: nothing to do with that one yet */
    plugin_link *active;        /* the same as a list */
    size_t short_bytes, piece_bytes; /* longest message of SHORT and of BULK: alike on all ranks */
    int epoll, timer;
    int64_t nap_ns;
    bool closed, timer_set;
} plugin_transport;

/* ---- channel.c: one connection ---- */

/* Receiver: makes a handle in channel->handle. */
weft_status weft_plugin_channel_listen(plugin_transport *t, plugin_channel *c, int device);
/* Calls connect or accept once more; WEFT_IN_PROGRESS: again later. Up when there is a comm, and a sender's when it
 * is accepted. */
weft_status weft_plugin_channel_meet(plugin_transport *t, plugin_channel *c);
/* Room for another message? The place where it is described; it counts from weft_plugin_channel_push on. */
plugin_message *weft_plugin_channel_next(plugin_channel *c);
/* Sends or posts that message; WEFT_IN_PROGRESS: the plugin does not take it now. data lies in the channel's buffers, or is
 * registered for this message alone. */
weft_status weft_plugin_channel_push(plugin_transport *t, plugin_channel *c, plugin_message *m, void *data);
/* The oldest message if it is complete, else NULL; to be taken out by weft_plugin_channel_pop. */
weft_status weft_plugin_channel_oldest(plugin_transport *t, plugin_channel *c, plugin_message **out, size_t *bytes);
void weft_plugin_channel_pop(plugin_transport *t, plugin_channel *c);
/* Whatever its state; what is being made is left alone. */
void weft_plugin_channel_close(plugin_transport *t, plugin_channel *c);

/* ---- link.c: slices over the connections of a peer ---- */

weft_status weft_plugin_link_get(plugin_transport *t, int peer, plugin_link **out);
/* Moves what can be moved; how much that was. */
int weft_plugin_link_progress(plugin_link *l);
/* Queues one slice. */
void weft_plugin_link_queue(plugin_link *l, weft_slice *slice);
/* Sends what is queued, as far as the plugin takes it; the sink is not called. */
int weft_plugin_link_send(plugin_link *l);
bool weft_plugin_link_quiet(const plugin_link *l); /* nothing is queued or under way out */
bool weft_plugin_link_idle(const plugin_link *l);  /* nothing to poll for */
/* The end of it: channels are closed, slices done with status; the next progress tells the sink. */
void weft_plugin_link_fail(plugin_link *l, weft_status status, const char *reason);
/* Something is over: what was sent before is read, then it fails. */
void weft_plugin_link_end(plugin_link *l, weft_status status, const char *reason);
/* Closes the channels and ends all slices. */
void weft_plugin_link_drop(plugin_link *l, weft_status status);
/* Reads what has come and forgets it: a socket that is closed with unread bytes takes with it what was sent the other way. */
void weft_plugin_link_discard(plugin_link *l);
void weft_plugin_link_free(plugin_link *l);

/* ---- control.c: what the inner tcp carries ---- */

weft_sink weft_plugin_control_sink(plugin_transport *t);
weft_status weft_plugin_control_ask(plugin_link *l, const plugin_channel *c);
/* Sender: connect was called; receiver: it is accepted. */
weft_status weft_plugin_control_met(plugin_link *l, const plugin_channel *c);
/* Tells the sender what its rails bring, kB/s; 0: not known. */
weft_status weft_plugin_control_pace(plugin_link *l, const uint32_t *pace);
/* Tells the peer that this rank leaves. */
void weft_plugin_control_leave(plugin_link *l);

#endif

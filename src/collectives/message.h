/* Point-to-point messages of one communicator: matching by source and tag, eager and asked-for data. All calls are
 * made under the process group's lock. */
#ifndef WEFT_MESSAGE_H
#define WEFT_MESSAGE_H

#include "collectives/wire.h"

enum { WEFT_MESSAGE_EAGER_BYTES = 32 << 10 }; /* sent before it is asked for, if there is credit */

typedef struct weft_message weft_message;
struct weft_message {
    weft_message *next;
    bool sending, linked, complete;
    int peer;               /* rank in the communicator; receive: WEFT_ANY_SOURCE until matched */
    int tag;
    uint32_t number;        /* of the message from sender to receiver */
    char *buffer;
    size_t bytes;           /* send: of the message; receive: room */
    size_t total;           /* receive: of the message matched */
    size_t moved;           /* given to the transport, or landed */
    uint32_t outstanding;   /* slices that the transport has, or that are placed */
    bool matched, wanted, began;
    int got_source, got_tag;
    weft_status status;
    void (*done)(void *context, weft_message *m);
    void *context;
};

typedef struct weft_messages {
    weft_wire *wire;
    uint32_t comm;
    int rank, ranks;
    const int *world, *from_world;
    size_t slice_bytes;     /* as weft_exec's */
    uint32_t *next_number;  /* [ranks]: of the next message to each */
    weft_message *sends;    /* not complete, in order */
    weft_message *receives; /* posted, not matched, in order */
    weft_message *matched;  /* receives under way */
    weft_incoming *early;   /* unmatched slices, in order */
    weft_status error;
} weft_messages;

weft_status weft_messages_init(weft_messages *m, weft_wire *wire, uint32_t comm, int rank, int ranks, const int *world,
                               const int *from_world, size_t slice_bytes);
void weft_messages_clear(weft_messages *m);
/* Begins; buffer, bytes, peer, tag, done, context are set. done may be called at once. */
void weft_message_send(weft_messages *ms, weft_message *m);
void weft_message_recv(weft_messages *ms, weft_message *m);
int weft_messages_progress(weft_messages *ms);
/* All end with that error as soon as no transport holds their memory. */
void weft_messages_abort(weft_messages *ms, weft_status status);

weft_take weft_messages_take(weft_messages *ms, weft_incoming *in);
void weft_messages_landed(weft_messages *ms, weft_incoming *in);
void weft_messages_lost(weft_messages *ms, weft_incoming *in);
void weft_messages_kept(weft_messages *ms, weft_incoming *in);
void weft_messages_completed(weft_messages *ms, weft_incoming *in);
#endif

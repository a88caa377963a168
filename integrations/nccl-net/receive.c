/* The receiving side of a connection: which message goes into which buffer, and what the sender may send before it is asked.
 * A message takes the oldest posted buffer of its tag; one that comes before its buffer is kept, within the window. */
#include "nccl_net.h"

#include <stdlib.h>
#include <string.h>

enum {
    MESSAGES_FIRST = 16,
    RECEIVES_MAX = 256          /* posted and not tested to their end; NCCL has at most NCCL_NET_REQUESTS */
};

/* ---- messages that have begun ---- */

static net_message *find(const net_comm *comm, uint64_t number)
{
    if (number < comm->oldest || number >= comm->next_message)
        return NULL;
    return comm->messages[number & (comm->capacity - 1)];
}

static bool make_room(net_comm *comm)
{
    if (comm->next_message - comm->oldest < comm->capacity)
        return true;
    uint64_t capacity = comm->capacity ? comm->capacity * 2 : MESSAGES_FIRST;
    net_message **messages = calloc(capacity, sizeof *messages);
    if (!messages)
        return false;
    for (uint64_t n = comm->oldest; n < comm->next_message; n++)
        messages[n & (capacity - 1)] = comm->messages[n & (comm->capacity - 1)];
    free(comm->messages);
    comm->messages = messages;
    comm->capacity = capacity;
    return true;
}

static void release(net_comm *comm, net_message *message)
{
    comm->messages[message->number & (comm->capacity - 1)] = NULL;
    while (comm->oldest < comm->next_message && !comm->messages[comm->oldest & (comm->capacity - 1)])
        comm->oldest++;
    free(message->own);
    message->own = NULL;
    message->next = comm->free_messages;
    comm->free_messages = message;
}

/* ---- what the sender may send ---- */

/* `early`: the receive was there before the message, so the sender may be let further ahead. */
static void return_window(net_comm *comm, const net_message *message, bool early)
{
    uint64_t charge = net_charge(message->total);
    if (!message->asked)
        comm->returned_bytes += charge;
    if (early && comm->granted_bytes < NET_WINDOW_MAX_BYTES) {
        uint64_t room = NET_WINDOW_MAX_BYTES - comm->granted_bytes;
        uint64_t more = charge < room ? charge : room;
        comm->granted_bytes += more;
        comm->returned_bytes += more;
    }
    if (comm->returned_bytes - comm->told_bytes >= comm->granted_bytes / 4) {
        net_frame frame = {.kind = NET_CREDIT, .total = comm->returned_bytes};
        comm->told_bytes = comm->returned_bytes;
        net_comm_put(comm, &frame, NULL, 0, NULL);
    }
}

/* ---- matching ---- */

static void finish(net_comm *comm, net_message *message)
{
    net_request *request = message->request;
    net_slot *slot = &request->slot[message->slot];
    if (message->own && message->total > 0)
        memcpy(slot->data, message->own, message->total);
    slot->got = message->total;
    request->incomplete--;
    release(comm, message);
}

static void claim(net_comm *comm, net_message *message, net_request *request, int slot, bool early)
{
    net_slot *to = &request->slot[slot];
    if (message->total > to->bytes) {
        net_comm_fail(comm, NCCL_INVALID_USAGE, "a message of %llu bytes came for a buffer of %zu (tag %d): the two sides "
                      "disagree on sizes", (unsigned long long)message->total, to->bytes, message->tag);
        return;
    }
    to->matched = true;
    request->unmatched--;
    message->request = request;
    message->slot = slot;
    return_window(comm, message, early);
    if (message->asked) {
        net_frame frame = {.kind = NET_GRANT, .message = message->number};
        net_comm_put(comm, &frame, NULL, 0, NULL);
    }
    if (message->whole)
        finish(comm, message);
}

static void unqueue_matched(net_comm *comm)
{
    for (net_request **at = &comm->queue; *at;) {
        if ((*at)->unmatched == 0)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

/* The oldest posted buffer of the message's tag; false if there is none. */
static bool claim_posted(net_comm *comm, net_message *message)
{
    for (net_request *request = comm->queue; request; request = request->next) {
        for (int i = 0; i < request->slots; i++) {
            if (!request->slot[i].matched && request->slot[i].tag == message->tag) {
                claim(comm, message, request, i, true);
                unqueue_matched(comm);
                return true;
            }
        }
    }
    return false;
}

/* Claims the oldest message that waits for a buffer of that tag. */
static void claim_unclaimed(net_comm *comm, net_request *request, int slot)
{
    for (net_message **at = &comm->unclaimed; *at; at = &(*at)->next) {
        net_message *message = *at;
        if (message->tag == request->slot[slot].tag) {
            *at = message->next;
            if (!*at)
                comm->unclaimed_end = at;
            claim(comm, message, request, slot, false);
            return;
        }
    }
}

nccl_result net_receive_post(net_comm *comm, int count, void **data, const size_t *bytes, const int *tags, net_request **out)
{
    *out = NULL;
    if (comm->failed)
        return net_comm_failure(comm);
    if (comm->requests >= RECEIVES_MAX)
        return NCCL_SUCCESS;
    net_request *request = net_request_take(comm);
    if (!request) {
        net_warn("no memory for a request from %s", comm->peer);
        return NCCL_SYSTEM_ERROR;
    }
    request->kind = NET_REQUEST_RECEIVE;
    request->slots = request->incomplete = request->unmatched = count;
    for (int i = 0; i < count; i++)
        request->slot[i] = (net_slot){.data = data[i], .bytes = bytes[i], .tag = tags[i]};
    for (int i = 0; i < count && !comm->failed; i++)
        claim_unclaimed(comm, request, i);
    if (request->unmatched > 0) {
        net_request **at = &comm->queue;
        while (*at)
            at = &(*at)->next;
        *at = request;
    }
    *out = request;
    return NCCL_SUCCESS;
}

/* ---- arrivals ---- */

static net_message *begin(net_comm *comm, const net_frame *frame)
{
    bool asked = frame->kind == NET_ANNOUNCE;
    net_message *message = comm->free_messages;
    if (message)
        comm->free_messages = message->next;
    else
        message = malloc(sizeof *message);
    if (!message || !make_room(comm)) {
        free(message);
        net_comm_fail(comm, NCCL_SYSTEM_ERROR, "no memory for a message");
        return NULL;
    }
    *message = (net_message){.number = frame->message, .total = frame->total, .tag = frame->tag, .asked = asked};
    comm->messages[frame->message & (comm->capacity - 1)] = message;
    comm->next_message++;
    if (claim_posted(comm, message))
        return message;
    if (!asked && message->total > NET_WINDOW_MAX_BYTES)
        net_comm_fail(comm, NCCL_INTERNAL_ERROR, "a message of %llu bytes came unasked", (unsigned long long)message->total);
    else if (!asked && message->total > 0 && !(message->own = malloc(message->total)))
        net_comm_fail(comm, NCCL_SYSTEM_ERROR, "no memory for a message of %llu bytes", (unsigned long long)message->total);
    *comm->unclaimed_end = message;
    comm->unclaimed_end = &message->next;
    return message;
}

/* The message of a frame, which begins with its first one. NULL: the connection has failed. */
static net_message *message_of(net_comm *comm, const net_frame *frame, size_t bytes)
{
    bool first = frame->kind == NET_FIRST || frame->kind == NET_ANNOUNCE;
    net_message *message = first && frame->message == comm->next_message ? begin(comm, frame) : find(comm, frame->message);
    if (!comm->failed && (!message || frame->kind < NET_FIRST || frame->kind > NET_DATA || frame->total != message->total ||
                          frame->offset > message->total || bytes > message->total - frame->offset ||
                          (bytes > 0 && !message->request && !message->own)))
        net_comm_fail(comm, NCCL_INTERNAL_ERROR, "a frame that makes no sense came in (kind %u, message %llu)", frame->kind,
                      (unsigned long long)frame->message);
    return comm->failed ? NULL : message;
}

static unsigned char *landing(const net_message *message, uint64_t offset)
{
    unsigned char *base = message->own ? message->own : message->request->slot[message->slot].data;
    return base + offset;
}

unsigned char *net_receive_place(net_comm *comm, const net_frame *frame, size_t bytes)
{
    net_message *message = message_of(comm, frame, bytes);
    return message && bytes > 0 ? landing(message, frame->offset) : NULL;
}

void net_receive_arrived(net_comm *comm, const net_frame *frame, const void *payload, size_t bytes)
{
    net_message *message = message_of(comm, frame, bytes);
    if (!message || frame->kind == NET_ANNOUNCE)
        return;
    if (bytes > 0) {
        unsigned char *to = landing(message, frame->offset);
        if (to != payload)
            memcpy(to, payload, bytes);
    }
    message->got += bytes;
    message->whole = message->got == message->total;
    if (message->whole && message->request)
        finish(comm, message);
}

void net_receive_drop(net_comm *comm)
{
    for (uint64_t n = comm->oldest; n < comm->next_message && comm->messages; n++) {
        net_message *message = comm->messages[n & (comm->capacity - 1)];
        if (message) {
            free(message->own);
            free(message);
        }
    }
    while (comm->free_messages) {
        net_message *message = comm->free_messages;
        comm->free_messages = message->next;
        free(message);
    }
    free(comm->messages);
}

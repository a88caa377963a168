/* The sending side of a connection: messages go unasked while the window has room, else they are announced and go when the
 * receiver has a place for them, so that a receiver that is late holds little, and no message waits for an unrelated one. */
#include "nccl_net.h"

enum {
    SLICES_OUT_MAX = 64,
    BYTES_OUT_MAX = 4 * 1024 * 1024, /* more would only lie in the transport's queue */
    BATCH = 16,                      /* small messages that are written at once */
    BATCH_BYTES = 2048,              /* largest of them */
    BATCH_NS = 6000                  /* who sends more rarely than that waits for nothing */
};

static void enqueue(net_comm *comm, net_request *request)
{
    request->next = NULL;
    if (comm->queue)
        comm->queue_last->next = request;
    else
        comm->queue = request;
    comm->queue_last = request;
}

static void dequeue(net_comm *comm)
{
    comm->queue = comm->queue->next;
}

static void wait_for_grant(net_comm *comm, net_request *request)
{
    net_request **at = &comm->waiting;
    while (*at)
        at = &(*at)->next;
    request->next = NULL;
    *at = request;
}

nccl_result net_send_post(net_comm *comm, const void *data, size_t bytes, int32_t tag, net_request **out)
{
    *out = NULL;
    if (comm->failed)
        return net_comm_failure(comm);
    if (comm->requests >= NET_SENDS_MAX)
        return NCCL_SUCCESS;
    net_request *request = net_request_take(comm);
    if (!request) {
        net_warn("no memory for a request to %s", comm->peer);
        return NCCL_SYSTEM_ERROR;
    }
    request->kind = NET_REQUEST_SEND;
    request->data = data;
    request->bytes = bytes;
    request->cut = 0;
    request->pending = 0;
    request->message = comm->next_message++;
    request->tag = tag;
    request->begun = request->finished = false;
    request->asked = comm->used_bytes + net_charge(bytes) > comm->window_bytes;
    if (!request->asked)
        comm->used_bytes += net_charge(bytes);
    enqueue(comm, request);
    *out = request;
    if (bytes > BATCH_BYTES || ++comm->batch >= BATCH || net_now_ns() - comm->written_ns > BATCH_NS)
        net_comm_progress(comm);
    else
        comm->posted = true;
    return NCCL_SUCCESS;
}

/* Messages that follow each other closely go together: up to BATCH of them, or until the caller tests and posts no more. */
bool net_send_waits(net_comm *comm)
{
    bool waits = comm->posted;
    comm->posted = false;
    return waits;
}

/* Hands over the next slice of the first request in the queue; false if the connection has failed. */
static bool put_next(net_comm *comm)
{
    net_request *request = comm->queue;
    net_frame frame = {.tag = request->tag, .message = request->message, .total = request->bytes, .offset = request->cut};
    if (request->asked) {
        request->asked = false;
        frame.kind = NET_ANNOUNCE;
        dequeue(comm);
        wait_for_grant(comm, request);
        request->begun = true;
        return net_comm_put(comm, &frame, NULL, 0, NULL);
    }
    size_t left = request->bytes - request->cut, part = left < comm->slice_bytes ? left : comm->slice_bytes;
    frame.kind = request->begun ? NET_DATA : NET_FIRST;
    request->begun = true;
    request->cut += part;
    if (request->cut == request->bytes)
        dequeue(comm);
    return net_comm_put(comm, &frame, request->data ? request->data + frame.offset : NULL, part, request);
}

bool net_send_pump(net_comm *comm)
{
    bool any = false;
    while (comm->queue && comm->slices_out < SLICES_OUT_MAX && comm->bytes_out < BYTES_OUT_MAX && put_next(comm))
        any = true;
    if (any)
        comm->written_ns = net_now_ns();
    comm->batch = 0;
    comm->posted = false;
    return any;
}

static void granted(net_comm *comm, uint64_t message)
{
    for (net_request **at = &comm->waiting; *at; at = &(*at)->next) {
        net_request *request = *at;
        if (request->message == message) {
            *at = request->next;
            enqueue(comm, request);
            return;
        }
    }
    net_comm_fail(comm, NCCL_INTERNAL_ERROR, "message %llu was granted and does not wait for it", (unsigned long long)message);
}

void net_send_control(net_comm *comm, const net_frame *frame)
{
    if (frame->kind == NET_GRANT)
        granted(comm, frame->message);
    else if (frame->kind == NET_CREDIT)
        comm->window_bytes = NET_WINDOW_FIRST_BYTES + frame->total;
    else
        net_comm_fail(comm, NCCL_INTERNAL_ERROR, "a frame of kind %u came from the receiving side", frame->kind);
}

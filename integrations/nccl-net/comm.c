/* One connection: an instance of a weft transport on each side, in a group of two. Requests, slices, progress and how it ends;
 * what messages are is send.c's and receive.c's. */
#include "nccl_net.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FUSED_SLICE_BYTES = 128 * 1024, /* over several interfaces: small enough to end on all of them at about the same time */
    CONTROL_EVERY_MS = 20,
    FLUSH_MS = 2000
};

struct net_slice {
    weft_slice slice;
    net_comm *comm;
    net_request *request;
    net_slice *next;
};

/* ---- failing ---- */

void net_comm_fail(net_comm *comm, nccl_result result, const char *format, ...)
{
    if (comm->failed)
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(comm->reason, sizeof comm->reason, format, list);
    va_end(list);
    comm->failed = result;
}

nccl_result net_comm_failure(net_comm *comm)
{
    if (!comm->failure_logged)
        net_warn("connection %s %s: %s", comm->sends ? "to" : "from", comm->peer, comm->reason);
    comm->failure_logged = true;
    return comm->failed;
}

/* ---- requests and slices ---- */

net_request *net_request_take(net_comm *comm)
{
    net_request *request = comm->free_requests;
    if (request) {
        comm->free_requests = request->next;
    } else {
        request = malloc(sizeof *request);
        if (!request)
            return NULL;
        request->comm = comm;
        request->next_made = comm->made;
        comm->made = request;
    }
    request->next = NULL;
    comm->requests++;
    return request;
}

void net_request_free(net_request *request)
{
    net_comm *comm = request->comm;
    request->next = comm->free_requests;
    comm->free_requests = request;
    comm->requests--;
}

static void slice_done(weft_slice *done, weft_status status)
{
    net_slice *slice = done->context;
    net_comm *comm = slice->comm;
    net_request *request = slice->request;
    comm->slices_out--;
    comm->bytes_out -= done->bytes;
    if (status != WEFT_OK && status != WEFT_ERR_ABORTED)
        net_comm_fail(comm, net_result(status), "%s", weft_status_text(status));
    if (request) {
        request->pending--;
        request->finished = status == WEFT_OK && request->begun && request->cut == request->bytes && request->pending == 0;
    }
    slice->next = comm->free_slices;
    comm->free_slices = slice;
}

bool net_comm_put(net_comm *comm, const net_frame *frame, const void *payload, size_t bytes, net_request *request)
{
    net_slice *slice = comm->free_slices;
    if (slice)
        comm->free_slices = slice->next;
    else if (!(slice = malloc(sizeof *slice)))
        net_comm_fail(comm, NCCL_SYSTEM_ERROR, "no memory for a slice");
    if (!slice || comm->failed) {
        if (slice) {
            slice->next = comm->free_slices;
            comm->free_slices = slice;
        }
        return false;
    }
    memset(&slice->slice, 0, sizeof slice->slice);
    memcpy(slice->slice.header, frame, sizeof *frame);
    slice->slice.payload = payload;
    slice->slice.bytes = bytes;
    slice->slice.done = slice_done;
    slice->slice.context = slice;
    slice->comm = comm;
    slice->request = request;
    comm->slices_out++;
    comm->bytes_out += bytes;
    if (request)
        request->pending++;
    weft_status status = comm->ops->send(comm->endpoint, &slice->slice);
    if (status == WEFT_OK)
        return true;
    net_comm_fail(comm, net_result(status), "%s", weft_last_error());
    slice_done(&slice->slice, WEFT_ERR_ABORTED);
    return false;
}

/* ---- what the transport tells ---- */

static void *on_place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    net_comm *comm = context;
    net_frame frame;
    (void)peer;
    memcpy(&frame, header, sizeof frame);
    return comm->sends || comm->failed ? NULL : net_receive_place(comm, &frame, bytes);
}

static void on_arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    net_comm *comm = context;
    net_frame frame;
    (void)peer;
    memcpy(&frame, header, sizeof frame);
    if (comm->failed)
        return;
    if (comm->sends)
        net_send_control(comm, &frame);
    else if (frame.kind == NET_START)
        comm->started = true;
    else
        net_receive_arrived(comm, &frame, payload, bytes);
}

/* The transport speaks of ranks, which here are only the two sides. */
static void on_failed(void *context, int peer, weft_status status, const char *reason)
{
    net_comm *comm = context;
    char rank[24];
    snprintf(rank, sizeof rank, "rank %d", peer);
    const char *at = strstr(reason, rank);
    if (at)
        net_comm_fail(comm, net_result(status), "%.*sthe other side%s", (int)(at - reason), reason, at + strlen(rank));
    else
        net_comm_fail(comm, net_result(status), "%s", reason);
}

/* Of transports in libraries; those in this one have the thread's error detail. */
static weft_status on_error(weft_status status, const char *detail)
{
    net_info("%s", detail);
    return status;
}

static void on_log(int level, const char *text)
{
    if (level <= 1)
        net_warn("%s", text);
    else
        net_info("%s", text);
}

/* ---- progress ---- */

static void look_at_control(net_comm *comm)
{
    int64_t now = net_now_ms();
    char byte;
    if (now < comm->control_ms)
        return;
    comm->control_ms = now + CONTROL_EVERY_MS;
    ssize_t n = recv(comm->control, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0)
        net_comm_fail(comm, NCCL_REMOTE_ERROR, "closed by the other side");
    else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        net_comm_fail(comm, NCCL_REMOTE_ERROR, "%s", strerror(errno));
}

void net_comm_progress(net_comm *comm)
{
    if (comm->failed)
        return;
    if (comm->sends && comm->queue)
        net_send_pump(comm);
    int moved = comm->ops->progress(comm->transport);
    if (comm->sends && comm->queue && net_send_pump(comm))
        moved += comm->ops->progress(comm->transport);
    if (comm->control >= 0 && moved == 0)
        look_at_control(comm);
}

/* ---- creation and end ---- */

static int64_t dead_peer_ms(void)
{
    const char *text = net_setting("WEFT_DEAD_PEER");
    char *unit;
    if (!text)
        return 0;
    long long value = strtoll(text, &unit, 10);
    int64_t factor = 0;
    if (*unit == '\0' || strcmp(unit, "ms") == 0)
        factor = 1;
    else if (strcmp(unit, "s") == 0)
        factor = 1000;
    else if (strcmp(unit, "min") == 0)
        factor = 60000;
    if (value <= 0 || value > 1000000000 || unit == text || factor == 0)
        net_warn("WEFT_DEAD_PEER '%s' is no time such as 10s or 500ms: the default is used", text);
    return value > 0 && value <= 1000000000 ? value * factor : 0;
}

static int sockets(void)
{
    const char *text = net_setting("WEFT_SOCKETS");
    char *end;
    if (!text)
        return 0;
    long value = strtol(text, &end, 10);
    if (*end || value < 0 || value > 16) {
        net_warn("WEFT_SOCKETS '%s' is not from 0 to 16: the default is used", text);
        value = 0;
    }
    return (int)value;
}

nccl_result net_comm_create(const weft_transport_ops *ops, const net_device *device, uint64_t job, bool sends, net_comm **out)
{
    net_comm *comm = calloc(1, sizeof *comm);
    if (!comm) {
        net_warn("no memory for a connection");
        return NCCL_SYSTEM_ERROR;
    }
    comm->ops = ops;
    comm->sends = sends;
    comm->control = -1;
    comm->unclaimed_end = &comm->unclaimed;
    comm->slice_bytes = device->count > 1 ? FUSED_SLICE_BYTES : WEFT_SLICE_MAX_BYTES;
    comm->window_bytes = comm->granted_bytes = NET_WINDOW_FIRST_BYTES;
    weft_transport_config config = {
        .size = sizeof config, .rank = sends ? NET_SEND_RANK : NET_RECEIVE_RANK, .ranks = 2, .job = job,
        .sink = {comm, on_place, on_arrived, on_failed},
        .interfaces = device->interfaces, .rdma_ports = device->rdma_ports, .port_range = net_setting("WEFT_PORT_RANGE"),
        .sockets = sockets(), .dead_peer_ms = dead_peer_ms(), .listen_briefly = true, .gather = true,
        .fail = on_error, .log = on_log,
    };
    weft_status status = ops->open(&config, &comm->transport);
    if (status != WEFT_OK) {
        net_info("%s on %s: %s", ops->name, device->name, weft_last_error());
        free(comm);
        return net_result(status);
    }
    *out = comm;
    return NCCL_SUCCESS;
}

void net_comm_destroy(net_comm *comm)
{
    if (!comm)
        return;
    if (!comm->failed && comm->sends)
        net_send_pump(comm);
    if (!comm->failed && comm->ops->flush(comm->transport, FLUSH_MS) != WEFT_OK)
        net_info("closing the connection %s %s: %s", comm->sends ? "to" : "from", comm->peer, weft_last_error());
    comm->failed = comm->failed ? comm->failed : NCCL_INTERNAL_ERROR; /* nothing is heard any more */
    comm->ops->destroy(comm->transport);
    if (comm->control >= 0)
        close(comm->control);
    net_receive_drop(comm);
    while (comm->made) {
        net_request *request = comm->made;
        comm->made = request->next_made;
        free(request);
    }
    while (comm->free_slices) {
        net_slice *slice = comm->free_slices;
        comm->free_slices = slice->next;
        free(slice);
    }
    free(comm);
}

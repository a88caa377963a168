/* One connection of the control tree: frames out (at once if the socket takes them, else queued) and frames in. What
 * they mean is control_thread.c's. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/control_object.h"

weft_control_buffer *weft_control_buffer_create(size_t bytes)
{
    weft_control_buffer *buffer = weft_alloc(sizeof *buffer + bytes);
    if (buffer != NULL) {
        buffer->references = 1;
        buffer->bytes = bytes;
    }
    return buffer;
}

void weft_control_buffer_release(weft_control_buffer *buffer)
{
    if (buffer != NULL && --buffer->references == 0)
        weft_free(buffer);
}

static void watch(weft_control *c, weft_control_edge *e, bool write)
{
    if (e->wants_write == write)
        return;
    e->wants_write = write;
    struct epoll_event event = { .events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = e };
    epoll_ctl(c->epoll, EPOLL_CTL_MOD, e->fd, &event);
}

static void clear_queue(weft_control_edge *e)
{
    while (e->first != NULL) {
        weft_control_queued *q = e->first;
        e->first = q->next;
        weft_control_buffer_release(q->buffer);
        weft_free(q);
    }
    e->last = &e->first;
}

void weft_edge_close(weft_control *c, weft_control_edge *e)
{
    (void)c;
    weft_control_close(e->fd); /* epoll forgets it */
    e->fd = -1;
    e->wants_write = false;
    clear_queue(e);
    weft_free(e->payload);
    weft_free(e->gathered);
    e->payload = e->gathered = NULL;
}

/* Bytes taken; SIZE_MAX: the connection is broken (reading will tell). */
static size_t send_some(weft_control_edge *e, const uint8_t *data, size_t bytes)
{
    size_t sent = 0;
    while (sent < bytes) {
        ssize_t n = send(e->fd, data + sent, bytes - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            break;
        else if (n < 0 && errno != EINTR)
            return SIZE_MAX;
    }
    return sent;
}

static void enqueue(weft_control *c, weft_control_edge *e, weft_control_buffer *buffer, size_t sent)
{
    weft_control_queued *q = weft_alloc(sizeof *q);
    if (q == NULL) {
        /* Half a message is out: the stream is lost, and with it the neighbour. It sees our end. */
        weft_log(WEFT_LOG_ERROR, "no memory for a message to rank %d: the connection is given up", e->rank);
        e->ended = true;
        e->error = ENOMEM;
        weft_control_wake(c->wake);
        return;
    }
    *q = (weft_control_queued){ .buffer = buffer, .sent = sent };
    buffer->references++;
    *e->last = q;
    e->last = &q->next;
    watch(c, e, true);
}

void weft_edge_send(weft_control *c, weft_control_edge *e, weft_control_buffer *buffer)
{
    if (e->fd < 0 || e->ended)
        return;
    size_t sent = e->first == NULL ? send_some(e, buffer->data, buffer->bytes) : 0;
    if (sent < buffer->bytes)
        enqueue(c, e, buffer, sent);
}

void weft_edge_send_bytes(weft_control *c, weft_control_edge *e, const void *data, size_t bytes)
{
    if (e->fd < 0 || e->ended)
        return;
    size_t sent = e->first == NULL ? send_some(e, data, bytes) : 0;
    if (sent >= bytes)
        return;
    weft_control_buffer *rest = weft_control_buffer_create(bytes - sent);
    if (rest == NULL) {
        e->ended = true;
        e->error = ENOMEM;
        weft_control_wake(c->wake);
        return;
    }
    memcpy(rest->data, (const uint8_t *)data + sent, bytes - sent);
    enqueue(c, e, rest, 0);
    weft_control_buffer_release(rest);
}

void weft_edge_flush(weft_control *c, weft_control_edge *e)
{
    while (e->fd >= 0 && e->first != NULL) {
        weft_control_queued *q = e->first;
        size_t sent = send_some(e, q->buffer->data + q->sent, q->buffer->bytes - q->sent);
        if (sent == SIZE_MAX) {
            clear_queue(e);
            break;
        }
        q->sent += sent;
        if (q->sent < q->buffer->bytes)
            return;
        e->first = q->next;
        if (e->first == NULL)
            e->last = &e->first;
        weft_control_buffer_release(q->buffer);
        weft_free(q);
    }
    if (e->fd >= 0)
        watch(c, e, false);
}

static void broken(weft_control_edge *e, int error)
{
    e->ended = true;
    e->error = error;
}

static void head_complete(weft_control_edge *e)
{
    if (!weft_frame_decode(&e->header, e->head)) {
        weft_log(WEFT_LOG_ERROR, "malformed message from rank %d", e->rank);
        broken(e, EPROTO);
        return;
    }
    e->payload = weft_alloc(e->header.bytes + 1);
    if (e->payload == NULL) {
        weft_log(WEFT_LOG_ERROR, "no memory for a message of %zu bytes from rank %d", e->header.bytes, e->rank);
        broken(e, ENOMEM);
    }
}

void weft_edge_read(weft_control *c, weft_control_edge *e)
{
    while (e->fd >= 0 && !e->ended) {
        bool head = e->have < WEFT_FRAME_HEADER_BYTES;
        uint8_t *to = head ? e->head + e->have : e->payload + (e->have - WEFT_FRAME_HEADER_BYTES);
        size_t whole = WEFT_FRAME_HEADER_BYTES + (head ? 0 : e->header.bytes);
        if (e->have < whole) {
            ssize_t n = recv(e->fd, to, whole - e->have, 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0 && errno == EAGAIN)
                return;
            if (n <= 0) {
                broken(e, n == 0 ? 0 : errno);
                return;
            }
            e->have += (size_t)n;
        }
        if (e->have < whole)
            continue;
        if (head)
            head_complete(e);
        if (e->ended || e->have < WEFT_FRAME_HEADER_BYTES + e->header.bytes)
            continue;
        e->have = 0;
        weft_control_handle(c, e);
        weft_free(e->payload);
        e->payload = NULL;
    }
}

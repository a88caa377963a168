/* Frames over one socket: gathering queued slices into one sendmsg, and reading payloads straight to where
 * they belong with the following headers in the same call. Which socket takes which slice is link.c's. */
#define _GNU_SOURCE
#include "transport/tcp/tcp.h"

#include <errno.h>
#include <string.h>

enum {
    PARTS_MAX = 60,           /* of one sendmsg: 20 frames */
    BATCH_BYTES = 16 * 1024, /* with several sockets: what one takes before the choice is made anew */
    CALL_BYTES = 256 * 1024, /* with one: a longer call fills the buffer before any acknowledgement is handled, then waits */
    ALONE_BYTES = 128 * 1024, /* of a slice with none before or behind it: while a call runs, no acknowledgement is handled, so
                                 that one call fills the buffer and stops; a stream of slices gains from long calls */
    READ_BUDGET_BYTES = 2 * 1024 * 1024, /* of one visit, so that other peers have their turn */
    LARGE_PAYLOAD_BYTES = 16 * 1024,
    SHORT_TAIL_BYTES = 1024 /* read after a large payload: another one likely follows, and what
                               lands in the stage has to be copied */
};

/* ---- out ---- */

static size_t frame_bytes(const weft_slice *slice)
{
    return WEFT_TCP_HEADERS_BYTES + slice->bytes;
}

/* Adds what is left of [memory, bytes) after skipping *skip bytes. */
static int add_part(struct iovec *parts, int count, const void *memory, size_t bytes, size_t *skip)
{
    if (*skip >= bytes) {
        *skip -= bytes;
        return count;
    }
    parts[count].iov_base = (char *)(uintptr_t)memory + *skip;
    parts[count].iov_len = bytes - *skip;
    *skip = 0;
    return count + 1;
}

static int add_frame(struct iovec *parts, int count, weft_slice *slice, size_t skip)
{
    count = add_part(parts, count, slice->transport_state, WEFT_TCP_FRAME_BYTES, &skip);
    count = add_part(parts, count, slice->header, WEFT_HEADER_BYTES, &skip);
    return add_part(parts, count, slice->payload, slice->bytes, &skip);
}

static int gather(tcp_socket *s, struct iovec *parts, size_t *total)
{
    tcp_link *link = s->link;
    int count = 0;
    size_t skip = s->greeting_sent, bytes = s->greeting_bytes - s->greeting_sent;
    count = add_part(parts, count, s->greeting, s->greeting_bytes, &skip);
    if (s->out) {
        count = add_frame(parts, count, s->out, s->out_sent);
        bytes += frame_bytes(s->out) - s->out_sent;
    }
    size_t limit = link->up_count > 1 ? BATCH_BYTES : CALL_BYTES;
    uint64_t sequence = link->next_out;
    bool alone = !(s->out && link->queue) && !(link->queue && link->queue->next) && link->burst_bytes < WEFT_SLICE_MAX_BYTES;
    for (weft_slice *slice = link->queue; slice && count + 3 <= PARTS_MAX && bytes < limit;
         slice = slice->next) {
        weft_tcp_frame_encode((uint32_t)slice->bytes, sequence++, link->set,
                              (unsigned char *)slice->transport_state);
        count = add_frame(parts, count, slice, 0);
        bytes += frame_bytes(slice);
    }
    if (alone && bytes >= 2 * ALONE_BYTES) { /* nothing small is left for a call of its own */
        parts[count - 1].iov_len -= bytes - ALONE_BYTES; /* of the payload: what comes before it is short */
        bytes = ALONE_BYTES;
    }
    *total = bytes;
    return count;
}

static weft_slice *take_from_queue(tcp_link *link)
{
    weft_slice *slice = link->queue;
    link->queue = slice->next;
    if (!link->queue)
        link->queue_last = NULL;
    link->next_out++;
    slice->next = NULL;
    return slice;
}

/* `sent` bytes of what gather() put together have gone. A slice leaves the queue with its first byte: so the
 * others are free to be sent by whichever socket has room. */
static void account(tcp_socket *s, size_t sent, weft_slice **done)
{
    size_t greeting = weft_min_size(sent, s->greeting_bytes - s->greeting_sent);
    s->greeting_sent += greeting;
    sent -= greeting;
    while (*done)
        done = &(*done)->next;
    while (sent > 0) {
        if (!s->out) {
            s->out = take_from_queue(s->link);
            s->out_sent = 0;
        }
        size_t part = weft_min_size(sent, frame_bytes(s->out) - s->out_sent);
        s->out_sent += part;
        sent -= part;
        if (s->out_sent == frame_bytes(s->out)) {
            *done = s->out;
            done = &s->out->next;
            s->out = NULL;
        }
    }
}

void weft_tcp_stream_write(tcp_socket *s, weft_slice **done, size_t *written)
{
    struct iovec parts[PARTS_MAX + 4];
    size_t total;
    int count = gather(s, parts, &total);
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = (size_t)count };
    ssize_t n;
    do {
        n = weft_tcp_sendmsg(s->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
            s->blocked = true;
        else
            s->write_error = errno;
        return;
    }
    s->given += (size_t)n;
    s->link->burst_bytes += (size_t)n;
    s->blocked = (size_t)n < total;
    s->unproven = true;
    account(s, (size_t)n, done);
    *written += (size_t)n;
}

/* ---- in ---- */

static void frame_complete(tcp_socket *s, const void *payload)
{
    const weft_sink *sink = &s->link->transport->config.sink;
    s->have_header = s->announced = false;
    if (s->sequence == s->link->next_in) /* not announced before: this is it */
        s->link->next_in++;
    sink->arrived(sink->context, s->link->peer, s->header, payload, s->bytes);
}

/* Takes the frame header out of the stage; false if it is not all there or the link has failed. */
static bool take_header(tcp_socket *s)
{
    if (s->stage_to - s->stage_from < WEFT_TCP_HEADERS_BYTES)
        return false;
    const unsigned char *at = s->stage + s->stage_from;
    if (weft_tcp_frame_decode(at, s->link->set, &s->bytes, &s->sequence) != WEFT_OK) {
        weft_tcp_link_fail(s->link, WEFT_ERR_INTERNAL, "%s", weft_last_error());
        return false;
    }
    if (s->sequence < s->link->next_in) {
        weft_tcp_link_fail(s->link, WEFT_ERR_INTERNAL, "slice %llu came in twice",
                           (unsigned long long)s->sequence);
        return false;
    }
    memcpy(s->header, at + WEFT_TCP_FRAME_BYTES, WEFT_HEADER_BYTES);
    s->stage_from += WEFT_TCP_HEADERS_BYTES;
    s->have_header = true;
    s->got = 0;
    return true;
}

/* Memory for a payload that is not yet wholly here. Asking for it announces the slice, so that it is the turn of
 * the next one; a sink that has no `place` hears of slices only when they are complete, and in order. */
static bool find_place(tcp_socket *s)
{
    const weft_sink *sink = &s->link->transport->config.sink;
    s->place = NULL;
    if (sink->place) {
        s->link->next_in++;
        s->place = sink->place(sink->context, s->link->peer, s->header, s->bytes);
    }
    if (s->place)
        return s->state == TCP_UP;
    if (s->own_bytes < s->bytes) {
        weft_free(s->own);
        s->own_bytes = weft_round_up(s->bytes, TCP_STAGE_BYTES);
        s->own = weft_alloc_aligned(WEFT_CACHE_LINE, s->own_bytes);
        if (!s->own) {
            s->own_bytes = 0;
            weft_tcp_link_fail(s->link, WEFT_ERR_MEMORY, "no memory for a payload of %u bytes", s->bytes);
            return false;
        }
    }
    s->place = s->own;
    return true;
}

/* Hands out all frames that are in the stage. Afterwards the stage holds less than a frame's headers, or the
 * socket waits for its turn, or is in the middle of a payload (the stage is empty then), or is not up. */
static int consume_stage(tcp_socket *s)
{
    int moved = 0;
    while (s->state == TCP_UP) {
        if (!s->have_header && !take_header(s))
            break;
        if (!s->announced) {
            if (s->sequence != s->link->next_in)
                break; /* another socket carries what was sent before it */
            s->announced = true;
            if (s->stage_to - s->stage_from >= s->bytes) { /* it is all here: no need to copy it */
                const unsigned char *payload = s->stage + s->stage_from;
                s->stage_from += s->bytes;
                frame_complete(s, payload);
                moved++;
                continue;
            }
            if (!find_place(s))
                break;
        }
        size_t part = weft_min_size(s->stage_to - s->stage_from, s->bytes - s->got);
        memcpy(s->place + s->got, s->stage + s->stage_from, part);
        s->got += (uint32_t)part;
        s->stage_from += part;
        if (s->got < s->bytes)
            break;
        frame_complete(s, s->place);
        moved++;
    }
    return moved;
}

/* One read: what is missing of the payload, and what follows it. */
static ssize_t read_once(tcp_socket *s, size_t *asked)
{
    struct iovec parts[2];
    int count = 0;
    /* Where slices are large, the next one's payload is not to come by way of the stage. */
    bool large = s->stage_to == s->stage_from && !s->have_header && s->bytes >= LARGE_PAYLOAD_BYTES;
    size_t room = large ? SHORT_TAIL_BYTES : s->stage_bytes;
    *asked = 0;
    if (s->announced) {
        size_t missing = s->bytes - s->got;
        parts[count++] = (struct iovec){ s->place + s->got, missing };
        *asked += missing;
        if (missing >= LARGE_PAYLOAD_BYTES)
            room = SHORT_TAIL_BYTES;
        s->stage_from = s->stage_to = 0;
    } else if (s->stage_from > 0) {
        memmove(s->stage, s->stage + s->stage_from, s->stage_to - s->stage_from);
        s->stage_to -= s->stage_from;
        s->stage_from = 0;
    }
    parts[count++] = (struct iovec){ s->stage + s->stage_to, room - s->stage_to };
    *asked += room - s->stage_to;
    ssize_t n;
    do {
        n = weft_tcp_readv(s->source.fd, parts, count);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* The stage, which is empty, was too small for what came. Without memory it stays as it is. */
static void enlarge_stage(tcp_socket *s)
{
    unsigned char *stage = weft_alloc_aligned(WEFT_CACHE_LINE, TCP_STAGE_BYTES);
    if (!stage)
        return;
    weft_free(s->stage);
    s->stage = stage;
    s->stage_bytes = TCP_STAGE_BYTES;
    s->stage_from = s->stage_to = 0;
}

static int read_socket(tcp_socket *s)
{
    int moved = consume_stage(s);
    size_t total = 0;
    bool drained = false;
    while (s->state == TCP_UP && !weft_tcp_waits_for_turn(s) && !drained && total < READ_BUDGET_BYTES) {
        size_t asked;
        ssize_t n = read_once(s, &asked);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
                weft_tcp_socket_end(s, n == 0 ? 0 : errno);
            break;
        }
        total += (size_t)n;
        s->link->burst_bytes = 0;
        drained = (size_t)n < asked; /* saves a read that says EAGAIN */
        size_t payload = s->announced ? weft_min_size((size_t)n, s->bytes - s->got) : 0;
        s->stage_to += (size_t)n - payload;
        s->got += (uint32_t)payload;
        if (s->announced && s->got == s->bytes) {
            frame_complete(s, s->place);
            moved++;
        }
        moved += consume_stage(s);
        if (!drained && s->state == TCP_UP && s->stage_bytes < TCP_STAGE_BYTES && s->stage_from == s->stage_to)
            enlarge_stage(s);
    }
    return moved;
}

static bool is_its_turn(const tcp_socket *s)
{
    return s && s->state == TCP_UP && s->have_header && !s->announced && s->sequence == s->link->next_in;
}

int weft_tcp_stream_read(tcp_socket *s)
{
    int moved = read_socket(s);
    tcp_link *link = s->link;
    /* What was announced may have made it another socket's turn. */
    for (int i = 0; link->up_count > 1 && i < link->socket_count; i++) {
        if (is_its_turn(link->sockets[i])) {
            moved += read_socket(link->sockets[i]);
            i = -1;
        }
    }
    if (s->state == TCP_UP && weft_tcp_waits_for_turn(s))
        weft_tcp_link_check_gap(link);
    return moved;
}

/* The way to one peer: its send queue and how that is spread over the sockets, and how it ends. Bytes are
 * stream.c's, connecting is dial.c's and listener.c's. */
#define _GNU_SOURCE
#include "transport/tcp/tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    FLUSH_BUDGET_BYTES = 4 * 1024 * 1024, /* of one visit, so that other peers and reading have their turn */
    ENDING_MS = 500,                      /* for the other sockets of a peer that has closed one */
    STRIPED_UNSENT_BYTES = 256 * 1024 /* with several sockets: what the kernel takes beyond what is under way,
                                         so that a slow one does not hoard slices */
};

weft_status weft_tcp_link_get(tcp_transport *t, int peer, tcp_link **out)
{
    tcp_link *link = t->links[peer];
    if (!link) {
        link = weft_alloc(sizeof *link);
        if (!link)
            return weft_fail(WEFT_ERR_MEMORY, "no memory for the connection to rank %d", peer);
        link->transport = t;
        link->peer = peer;
        link->deadline_ns = WEFT_NEVER;
        t->links[peer] = link;
    }
    *out = link;
    return WEFT_OK;
}

void weft_tcp_link_free(tcp_link *link)
{
    if (!link)
        return;
    for (int i = 0; i < link->socket_count; i++) {
        tcp_socket *s = link->sockets[i];
        if (s) {
            weft_tcp_socket_close(s, TCP_CLOSED);
            weft_free(s->stage);
            weft_free(s->own);
            weft_free(s);
        }
    }
    weft_free(link);
}

weft_status weft_tcp_link_socket(tcp_link *link, int index, tcp_socket **out)
{
    tcp_socket *s = link->sockets[index];
    if (!s) {
        s = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *s, WEFT_CACHE_LINE));
        unsigned char *stage = s ? weft_alloc_aligned(WEFT_CACHE_LINE, TCP_STAGE_FIRST_BYTES) : NULL;
        if (!stage) {
            weft_free(s);
            return weft_fail(WEFT_ERR_MEMORY, "no memory for a socket to rank %d", link->peer);
        }
        s->source.kind = TCP_SOCKET;
        s->source.fd = -1;
        s->link = link;
        s->index = index;
        s->stage = stage;
        s->stage_bytes = TCP_STAGE_FIRST_BYTES;
        link->sockets[index] = s;
    }
    if (index >= link->socket_count)
        link->socket_count = index + 1;
    *out = s;
    return WEFT_OK;
}

const char *weft_tcp_socket_text(const tcp_socket *s, char text[WEFT_TCP_ADDRESS_TEXT + 24])
{
    char address[WEFT_TCP_ADDRESS_TEXT];
    snprintf(text, WEFT_TCP_ADDRESS_TEXT + 24, "rank %d at %s", s->link->peer,
             weft_tcp_address_text(&s->remote, address));
    return text;
}

/* ---- sockets come and go ---- */

static tcp_socket *find_up(const tcp_transport *t)
{
    for (int peer = 0; peer < t->config.ranks; peer++) {
        tcp_link *link = t->links[peer];
        for (int i = 0; link && i < link->socket_count; i++) {
            if (link->sockets[i] && link->sockets[i]->state == TCP_UP)
                return link->sockets[i];
        }
    }
    return NULL;
}

void weft_tcp_link_up(tcp_socket *s)
{
    tcp_link *link = s->link;
    tcp_transport *t = link->transport;
    s->state = TCP_UP;
    s->stage_from = s->stage_to = 0;
    s->have_header = s->announced = false;
    s->blocked = false;
    s->write_error = 0;
    weft_tcp_stripe_begin(s);
    link->state = TCP_OPEN;
    link->up_count++;
    t->up_total++;
    t->only = s;
    if (link->up_count == link->expected && ++t->complete_links == t->config.ranks - 1)
        t->may_rest = t->config.listen_briefly;
    weft_tcp_tune_connected(s);
    if (link->up_count > 1) {
        int bytes = STRIPED_UNSENT_BYTES;
        for (int i = 0; i < link->socket_count; i++) {
            if (link->sockets[i] && link->sockets[i]->state == TCP_UP)
                setsockopt(link->sockets[i]->source.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
        }
    }
    weft_log(WEFT_LOG_DEBUG, "tcp: connected with rank %d, socket %d", link->peer, s->index);
}

void weft_tcp_socket_close(tcp_socket *s, tcp_socket_state state)
{
    tcp_transport *t = s->link->transport;
    bool was_up = s->state == TCP_UP;
    if (s->state == TCP_CONNECTING || s->state == TCP_GREETING || s->state == TCP_AWAITING ||
        (s->state == TCP_UP && (s->source.interest & EPOLLOUT)))
        t->unsettled--;
    s->blocked = false;
    s->state = state;
    s->suspect_ns = 0;
    weft_tcp_unwatch(t, &s->source);
    if (was_up) {
        s->link->up_count--;
        t->up_total--;
        t->only = t->up_total == 1 ? find_up(t) : NULL;
    }
}

bool weft_tcp_waits_for_turn(const tcp_socket *s)
{
    return s->have_header && !s->announced && s->sequence != s->link->next_in;
}

/* Whether a socket is up, or will be, that may bring the next slice. */
static bool may_go_on(const tcp_link *link)
{
    for (int i = 0; i < link->socket_count; i++) {
        const tcp_socket *s = link->sockets[i];
        if (s && (weft_tcp_is_dialling(s) || (s->state == TCP_UP && !weft_tcp_waits_for_turn(s))))
            return true;
    }
    return false;
}

/* A slice is lost when all sockets have gone past it: the one that carried it ended before it was read. */
void weft_tcp_link_check_gap(tcp_link *link)
{
    if (link->state == TCP_OPEN && !may_go_on(link))
        weft_tcp_link_fail(link, WEFT_ERR_PEER, "rank %d: one of its %d connections was lost, and slice %llu with it",
                           link->peer, link->socket_count, (unsigned long long)link->next_in);
}

void weft_tcp_socket_end(tcp_socket *s, int error)
{
    tcp_link *link = s->link;
    char text[WEFT_TCP_ADDRESS_TEXT + 24];
    weft_tcp_socket_text(s, text);
    bool halfway = s->have_header || s->stage_from != s->stage_to;
    bool lost = error != 0 && error != ECONNRESET && error != EPIPE;
    if (!lost && !halfway) {
        /* What the peer sent before on its other sockets is still to be delivered. */
        weft_tcp_socket_close(s, TCP_ENDED);
        if (may_go_on(link)) {
            if (!link->ending) {
                link->ending = true;
                link->deadline_ns = weft_now_ns() + (int64_t)ENDING_MS * WEFT_NS_PER_MS;
                weft_tcp_timer_want(link->transport, link->deadline_ns);
            }
            return;
        }
    }
    if (error)
        weft_tcp_link_fail(link, WEFT_ERR_PEER, "connection to %s lost: %s", text, strerror(error));
    else
        weft_tcp_link_fail(link, WEFT_ERR_PEER, "closed by %s%s", text,
                           halfway ? " in the middle of a slice" : "");
}

/* ---- failing ---- */

void weft_tcp_link_attend(tcp_link *link)
{
    if (link->needs_attention)
        return;
    link->needs_attention = true;
    link->next_attention = link->transport->attention;
    link->transport->attention = link;
}

void weft_tcp_link_fail(tcp_link *link, weft_status status, const char *format, ...)
{
    if (link->state == TCP_FAILED)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(link->reason, sizeof link->reason, format, args);
    va_end(args);
    link->state = TCP_FAILED;
    link->status = status;
    link->deadline_ns = WEFT_NEVER;
    for (int i = 0; i < link->socket_count; i++) {
        if (link->sockets[i])
            weft_tcp_socket_close(link->sockets[i], TCP_CLOSED);
    }
    weft_tcp_link_attend(link);
}

void weft_tcp_link_drop_slices(tcp_link *link, weft_status status)
{
    /* What is half sent comes first: it is the oldest. */
    for (int i = 0; i < link->socket_count; i++) {
        tcp_socket *s = link->sockets[i];
        weft_slice *slice = s ? s->out : NULL;
        if (slice) {
            s->out = NULL;
            slice->done(slice, status);
        }
    }
    while (link->queue) {
        weft_slice *slice = link->queue;
        link->queue = slice->next;
        if (!link->queue)
            link->queue_last = NULL;
        slice->done(slice, status);
    }
}

/* What the peer sent before it went, on all of its sockets: one may have to wait for what came by another, and a read may end
 * early though there is more. */
static int read_rest(tcp_link *link)
{
    enum { IN_VAIN_MAX = 100 };
    int moved = 0;
    for (int in_vain = 0, left = 1; left > 0 && in_vain < IN_VAIN_MAX && link->state == TCP_OPEN; in_vain++) {
        left = 0;
        for (int i = 0; i < link->socket_count && link->state == TCP_OPEN; i++) {
            tcp_socket *s = link->sockets[i];
            int bytes = 0, now = s && s->state == TCP_UP ? weft_tcp_stream_read(s) : 0;
            if (now > 0)
                in_vain = 0;
            moved += now;
            if (s && s->state == TCP_UP && ioctl(s->source.fd, FIONREAD, &bytes) == 0)
                left += bytes;
        }
    }
    return moved;
}

static bool has_failed_write(const tcp_link *link)
{
    for (int i = 0; i < link->socket_count; i++)
        if (link->sockets[i] && link->sockets[i]->state == TCP_UP && link->sockets[i]->write_error)
            return true;
    return false;
}

static int attend(tcp_link *link)
{
    tcp_transport *t = link->transport;
    int moved = has_failed_write(link) ? read_rest(link) : 0;
    for (int i = 0; i < link->socket_count && link->state == TCP_OPEN; i++) {
        tcp_socket *s = link->sockets[i];
        if (s && s->state == TCP_UP && s->write_error)
            weft_tcp_socket_end(s, s->write_error);
    }
    if (link->state == TCP_FAILED && !link->reported) {
        link->reported = true;
        moved++;
        t->config.sink.failed(t->config.sink.context, link->peer, link->status, link->reason);
        weft_tcp_link_drop_slices(link, link->status);
    }
    return moved;
}

int weft_tcp_link_attention(tcp_transport *t)
{
    int moved = 0;
    while (t->attention) {
        tcp_link *link = t->attention;
        t->attention = link->next_attention;
        link->needs_attention = false;
        moved += attend(link);
    }
    return moved;
}

/* ---- sending ---- */

static void end_slices(weft_slice *done)
{
    while (done) {
        weft_slice *slice = done;
        done = slice->next;
        slice->next = NULL;
        slice->done(slice, WEFT_OK);
    }
}

static int count_slices(const weft_slice *slice)
{
    int count = 0;
    for (; slice; slice = slice->next)
        count++;
    return count;
}

/* Whether epoll is to tell when there is room again. */
static void ask_for_room(tcp_socket *s, bool ask)
{
    tcp_transport *t = s->link->transport;
    s->blocked = ask;
    if (ask == !!(s->source.interest & EPOLLOUT))
        return;
    t->unsettled += ask ? 1 : -1;
    weft_tcp_interest(t, &s->source, s->source.interest ^ EPOLLOUT);
}

static bool has_begun(const tcp_socket *s)
{
    return s->out || s->greeting_sent < s->greeting_bytes;
}

static bool has_output(const tcp_socket *s)
{
    return s->link->queue || has_begun(s);
}

static bool can_write(const tcp_socket *s)
{
    return s && s->state == TCP_UP && !s->write_error;
}

/* One batch; true if it can take more. */
static bool flush_socket(tcp_socket *s, size_t *written, int *moved)
{
    weft_slice *done = NULL;
    weft_tcp_stream_write(s, &done, written);
    if (s->write_error)
        weft_tcp_link_attend(s->link);
    *moved += count_slices(done);
    end_slices(done);
    return !s->blocked;
}

/* One round over the sockets, each goes on with what it has begun, then the best one takes a batch; true if another round may
 * write more. */
static bool flush_round(tcp_link *link, size_t *written, int *moved)
{
    bool more = false, several = link->up_count > 1;
    for (int i = 0; i < link->socket_count; i++) {
        tcp_socket *s = link->sockets[i];
        if (can_write(s) && !s->blocked && (several ? has_begun(s) : has_output(s)))
            more |= flush_socket(s, written, moved);
    }
    tcp_socket *best = several && link->queue ? weft_tcp_stripe_choose(link) : NULL;
    return best ? flush_socket(best, written, moved) | more : more;
}

int weft_tcp_link_flush(tcp_link *link)
{
    if (link->flushing) /* called from a done() below: the loop there goes on with what was queued */
        return 0;
    int moved = 0;
    size_t written = 0;
    link->flushing = true;
    while (flush_round(link, &written, &moved) && written < FLUSH_BUDGET_BYTES) {
    }
    link->flushing = false;
    for (int i = 0; i < link->socket_count; i++) {
        /* When it is only the budget that ended the loop, epoll reports at once that there is room. */
        if (can_write(link->sockets[i]))
            ask_for_room(link->sockets[i], has_output(link->sockets[i]));
    }
    if (written > 0)
        weft_tcp_liveness_start(link->transport);
    return moved;
}

weft_status weft_tcp_link_send(tcp_link *link, weft_slice *slice)
{
    if (slice->bytes > WEFT_SLICE_MAX_BYTES)
        return weft_fail(WEFT_ERR_INVALID, "a slice of %zu bytes for rank %d, the most is %d", slice->bytes,
                         link->peer, WEFT_SLICE_MAX_BYTES);
    if (link->transport->closed)
        return weft_fail(WEFT_ERR_USAGE, "send to rank %d on a closed tcp transport", link->peer);
    if (link->state == TCP_FAILED)
        return weft_fail(link->status, "%s", link->reason);
    if (link->state == TCP_IDLE) {
        weft_status status = weft_tcp_dial(link);
        if (status != WEFT_OK)
            return status;
    }
    slice->next = NULL;
    if (link->queue_last)
        link->queue_last->next = slice;
    else
        link->queue = slice;
    link->queue_last = slice;
    if (link->state == TCP_OPEN && !link->transport->config.gather)
        weft_tcp_link_flush(link);
    return WEFT_OK;
}

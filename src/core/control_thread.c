/* The control plane's thread and what its messages mean: notices flood the tree, all-gathers go up and down, and
 * the end of a connection without goodbye is a death. The thread sleeps in epoll; it sends news on before anybody here can
 * learn of it, so that a neighbour hears the news before it sees this process quit because of it. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/control_object.h"

/* ---- notices --------------------------------------------------------------------------------------- */

static bool is_death(const weft_control *c, const weft_notice *n)
{
    return n->comm == 0 && n->status == WEFT_ERR_PEER && n->rank >= 0 && n->rank < c->size;
}

static bool is_known(const weft_control *c, const weft_notice *n)
{
    for (int i = 0; i < c->notice_count; i++) {
        const weft_notice *k = &c->notices[i];
        /* of timeouts every rank's word counts: who waits for whom */
        bool same_source = n->comm == 0 || n->status != WEFT_ERR_TIMEOUT || k->reporter == n->reporter;
        if (k->comm == n->comm && k->status == n->status && k->rank == n->rank && same_source)
            return true;
    }
    return false;
}

void weft_control_enter(weft_control *c, const weft_notice *notice, const weft_control_edge *from)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + WEFT_NOTICE_BYTES];
    if (is_known(c, notice) || (is_death(c, notice) && notice->rank == c->rank))
        return;
    if (c->notice_count == c->notice_room) {
        weft_notice *more = weft_realloc(c->notices, (size_t)c->notice_room * 2 * sizeof *more);
        if (more == NULL) {
            weft_log(WEFT_LOG_ERROR, "no memory for news: %s", notice->text);
            return;
        }
        c->notices = more;
        c->notice_room *= 2;
    }
    size_t bytes = weft_notice_encode(notice, frame);
    for (int i = 0; i < c->edge_count; i++) {
        if (&c->edges[i] != from)
            weft_edge_send_bytes(c, &c->edges[i], frame, bytes);
    }
    c->notices[c->notice_count++] = *notice;
    if (is_death(c, notice)) {
        atomic_fetch_or_explicit(&c->dead[notice->rank / 64], 1ull << (notice->rank % 64), memory_order_relaxed);
        if (!atomic_load_explicit(&c->failed, memory_order_relaxed)) {
            c->first = *notice;
            /* Partner: the acquire fence in weft_control_failed. */
            atomic_store_explicit(&c->failed, true, memory_order_release);
        }
    }
    weft_control_wake(c->wake); /* the thread tells the owner */
    pthread_cond_broadcast(&c->changed);
}

size_t weft_control_farewell(int rank, const char *why, uint8_t *frame)
{
    weft_notice notice = { .status = WEFT_ERR_PEER, .rank = rank, .reporter = rank };
    snprintf(notice.text, sizeof notice.text, "rank %d gives up: %.200s", rank, why);
    return weft_notice_encode(&notice, frame);
}

void weft_control_tell_farewell(weft_control *c, const char *why)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + WEFT_NOTICE_BYTES];
    size_t bytes = weft_control_farewell(c->rank, why, frame);
    for (int i = 0; i < c->edge_count; i++)
        weft_edge_send_bytes(c, &c->edges[i], frame, bytes);
}

/* ---- all-gather ------------------------------------------------------------------------------------ */

static void gather_fails(weft_control *c, const char *why)
{
    c->gather_broken = true;
    snprintf(c->gather_why, sizeof c->gather_why, "%s", why);
    pthread_cond_broadcast(&c->changed);
}

static void gather_head(weft_control *c, weft_frame_type type)
{
    weft_frame_encode(type, c->gather->bytes - WEFT_FRAME_HEADER_BYTES, c->gather->data);
    weft_gather_encode(c->gather_sequence, c->gather_bytes, c->gather->data + WEFT_FRAME_HEADER_BYTES);
}

/* Copies what the children have sent; true when all have. */
static bool take_parts(weft_control *c)
{
    bool all = true;
    for (int i = 0; i < c->edge_count; i++) {
        weft_control_edge *e = &c->edges[i];
        if (e->parent)
            continue;
        if (e->gathered == NULL) {
            all = false;
            continue;
        }
        uint32_t sequence;
        uint64_t bytes;
        weft_gather_decode(&sequence, &bytes, e->gathered);
        if (sequence != c->gather_sequence || bytes != c->gather_bytes ||
            e->gathered_bytes != WEFT_GATHER_HEADER_BYTES + (size_t)(e->high - e->low) * c->gather_bytes) {
            gather_fails(c, "ranks do not take part in the same all-gather");
            return false;
        }
    }
    for (int i = 0; all && i < c->edge_count; i++) {
        weft_control_edge *e = &c->edges[i];
        if (e->parent)
            continue;
        memcpy(c->gather->data + WEFT_GATHER_DATA + (size_t)(e->low - c->place.low) * c->gather_bytes,
               e->gathered + WEFT_GATHER_HEADER_BYTES, e->gathered_bytes - WEFT_GATHER_HEADER_BYTES);
        weft_free(e->gathered);
        e->gathered = NULL;
    }
    return all;
}

/* Somebody has left, perhaps before this rank began, whose part is missing or who would bring the whole. */
static bool is_cut_off(const weft_control *c)
{
    for (int i = 0; i < c->edge_count; i++) {
        const weft_control_edge *e = &c->edges[i];
        if (e->fd < 0 && (e->parent || e->gathered == NULL))
            return true;
    }
    return false;
}

void weft_control_check_gather(weft_control *c)
{
    if (!c->gathering || c->gather_sent || c->gather_broken)
        return;
    if (is_cut_off(c)) {
        gather_fails(c, "a rank has left the group");
        return;
    }
    if (!take_parts(c))
        return;
    c->gather_sent = true;
    if (c->place.parent >= 0) {
        gather_head(c, WEFT_FRAME_GATHER);
        weft_edge_send(c, &c->edges[0], c->gather);
        return;
    }
    gather_head(c, WEFT_FRAME_SPREAD);
    for (int i = 0; i < c->edge_count; i++)
        weft_edge_send(c, &c->edges[i], c->gather);
    c->gather_done = true;
    c->gather_result = c->gather->data + WEFT_GATHER_DATA;
    pthread_cond_broadcast(&c->changed);
}

static void handle_gather(weft_control *c, weft_control_edge *e)
{
    if (e->parent || e->gathered != NULL) {
        e->ended = true;
        e->error = EPROTO;
        return;
    }
    e->gathered = e->payload;
    e->gathered_bytes = e->header.bytes;
    e->payload = NULL;
    weft_control_check_gather(c);
}

static void handle_spread(weft_control *c, weft_control_edge *e)
{
    uint32_t sequence;
    uint64_t bytes;
    weft_gather_decode(&sequence, &bytes, e->payload);
    if (!e->parent || !c->gathering || !c->gather_sent || c->gather_done || sequence != c->gather_sequence ||
        bytes != c->gather_bytes || e->header.bytes != WEFT_GATHER_HEADER_BYTES + (size_t)c->size * c->gather_bytes) {
        gather_fails(c, "ranks do not take part in the same all-gather");
        return;
    }
    weft_control_buffer *whole = NULL;
    if (c->edge_count > 1) {
        whole = weft_control_buffer_create(WEFT_FRAME_HEADER_BYTES + e->header.bytes);
        if (whole == NULL) {
            gather_fails(c, "no memory to pass it on");
            weft_control_tell_farewell(c, c->gather_why);
            return;
        }
        memcpy(whole->data, e->head, WEFT_FRAME_HEADER_BYTES);
        memcpy(whole->data + WEFT_FRAME_HEADER_BYTES, e->payload, e->header.bytes);
    }
    for (int i = 1; i < c->edge_count; i++)
        weft_edge_send(c, &c->edges[i], whole);
    weft_control_buffer_release(whole);
    c->gather_payload = e->payload;
    c->gather_result = e->payload + WEFT_GATHER_HEADER_BYTES;
    e->payload = NULL;
    c->gather_done = true;
    pthread_cond_broadcast(&c->changed);
}

/* ---- leaving --------------------------------------------------------------------------------------- */

static void send_empty(weft_control *c, weft_control_edge *e, weft_frame_type type)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES];
    weft_frame_encode(type, 0, frame);
    weft_edge_send_bytes(c, e, frame, sizeof frame);
}

static void everybody_leaves(weft_control *c)
{
    c->all_bye = true;
    for (int i = 0; i < c->edge_count; i++) {
        if (!c->edges[i].parent)
            send_empty(c, &c->edges[i], WEFT_FRAME_ALLBYE);
    }
    pthread_cond_broadcast(&c->changed);
}

void weft_control_check_bye(weft_control *c)
{
    if (!c->leaving || c->all_bye || c->bye_sent)
        return;
    weft_control_edge *parent = NULL;
    for (int i = 0; i < c->edge_count; i++) {
        weft_control_edge *e = &c->edges[i];
        if (e->parent && e->fd >= 0 && !e->left)
            parent = e;
        else if (!e->parent && e->fd >= 0 && !e->said_bye && !e->left)
            return;
    }
    if (parent == NULL) { /* the root, or cut off from it */
        everybody_leaves(c);
        return;
    }
    c->bye_sent = true;
    send_empty(c, parent, WEFT_FRAME_BYE);
}

/* ---- what arrives ---------------------------------------------------------------------------------- */

void weft_control_handle(weft_control *c, weft_control_edge *e)
{
    weft_notice notice;
    switch (e->header.type) {
    case WEFT_FRAME_NOTICE:
        if (weft_notice_decode(&notice, e->payload, e->header.bytes) && notice.rank < c->size) {
            weft_control_enter(c, &notice, e);
            return;
        }
        break;
    case WEFT_FRAME_GATHER:
        handle_gather(c, e);
        return;
    case WEFT_FRAME_SPREAD:
        handle_spread(c, e);
        return;
    case WEFT_FRAME_BYE:
        e->said_bye = e->left = true;
        weft_control_check_bye(c);
        return;
    case WEFT_FRAME_ALLBYE:
        e->said_bye = e->left = true;
        if (e->parent && !c->all_bye)
            everybody_leaves(c);
        return;
    case WEFT_FRAME_LEAVE:
        e->left = true;
        weft_control_check_bye(c);
        return;
    default:
        break;
    }
    weft_log(WEFT_LOG_ERROR, "unexpected message from rank %d", e->rank);
    e->ended = true;
    e->error = EPROTO;
}

/* A connection that ended is judged only when all that had arrived on the others is read: if the news of an earlier
 * death is among it, that one is the first. */
static void judge_ends(weft_control *c)
{
    bool any = false;
    for (int i = 0; i < c->edge_count; i++)
        any |= c->edges[i].fd >= 0 && c->edges[i].ended;
    for (int i = 0; any && i < c->edge_count; i++)
        weft_edge_read(c, &c->edges[i]);
    for (int i = 0; any && i < c->edge_count; i++) {
        weft_control_edge *e = &c->edges[i];
        if (e->fd < 0 || !e->ended)
            continue;
        bool death = !e->left;
        int error = e->error;
        weft_edge_close(c, e);
        if (error == ENOMEM) { /* here, not there */
            char why[80];
            snprintf(why, sizeof why, "no memory for a message between rank %d and rank %d", c->rank, e->rank);
            weft_control_tell_farewell(c, why);
            if (c->gathering && !c->gather_done)
                gather_fails(c, why);
        } else if (!death) {
            if (c->gathering && !c->gather_done)
                gather_fails(c, "a rank has left the group");
        } else {
            weft_notice notice = { .status = WEFT_ERR_PEER, .rank = e->rank, .reporter = c->rank };
            snprintf(notice.text, sizeof notice.text, "rank %d died (%s)", e->rank,
                     error == 0 ? "connection closed" : strerror(error));
            weft_control_enter(c, &notice, e);
        }
        weft_control_check_bye(c);
        pthread_cond_broadcast(&c->changed);
    }
}

static void deliver(weft_control *c)
{
    while (c->delivered < c->notice_count) {
        weft_notice notice = c->notices[c->delivered++];
        if (c->notice == NULL)
            continue;
        pthread_mutex_unlock(&c->lock);
        c->notice(c->notice_context, &notice);
        pthread_mutex_lock(&c->lock);
    }
}

static void run_errand(weft_control *c)
{
    void (*errand)(void) = atomic_exchange_explicit(&c->errand, NULL, memory_order_acquire);
    if (!errand)
        return;
    pthread_mutex_unlock(&c->lock);
    errand();
    pthread_mutex_lock(&c->lock);
}

void *weft_control_run(void *control)
{
    weft_control *c = control;
    struct epoll_event events[2 + WEFT_TREE_FANOUT];
    weft_log_set_rank(c->rank);
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        pthread_mutex_unlock(&c->lock);
        int n = epoll_wait(c->epoll, events, ARRAY_LEN(events), -1);
        pthread_mutex_lock(&c->lock);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &c->wake) {
                uint64_t count;
                ssize_t got = read(c->wake, &count, sizeof count);
                (void)got;
                continue;
            }
            weft_control_edge *e = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                weft_edge_flush(c, e);
            weft_edge_read(c, e);
        }
        judge_ends(c);
        deliver(c);
        run_errand(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Life of a control plane: creation by a meeting, the calls that other threads make, and leaving in order. The
 * meeting is rendezvous.c's, what arrives on the tree is control_thread.c's. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "core/control_object.h"
#include "core/rendezvous_url.h"

enum { FIRST_NOTICES = 16, FLUSH_MS = 200, FAREWELL_MS = 100 };

static bool is_childs_copy(const weft_control *c)
{
    return c->forks != weft_fork_count();
}

/* Waits for a change; false: the deadline has passed. With the lock held. */
static bool wait_change(weft_control *c, int64_t deadline_ns)
{
    if (deadline_ns == WEFT_NEVER) {
        pthread_cond_wait(&c->changed, &c->lock);
        return true;
    }
    struct timespec at = { .tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000 };
    return pthread_cond_timedwait(&c->changed, &c->lock, &at) != ETIMEDOUT;
}

/* Frees everything but the thread, from any half-built state. In the child of a fork the descriptors are closed already,
 * and their numbers may be others' by now. */
static void discard(weft_control *c)
{
    bool ours = !is_childs_copy(c);
    for (int i = 0; i < c->edge_count; i++) {
        if (!ours)
            c->edges[i].fd = -1;
        weft_edge_close(c, &c->edges[i]);
    }
    if (ours) {
        weft_control_close(c->listener);
        weft_control_close(c->epoll);
        weft_control_close(c->wake);
    }
    if (c->has_lock && ours) {
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->lock);
    }
    weft_free(c->notices);
    weft_free((void *)c->dead);
    weft_free(c->endpoints);
    weft_free(c->interfaces);
    weft_free(c->port_range);
    weft_free(c);
}

static void init_edge(weft_control_edge *e, int fd, int rank, bool parent)
{
    e->fd = fd;
    e->rank = rank;
    e->parent = parent;
    e->last = &e->first;
}

/* The edges as the meeting connected them; from here on they are the object's. */
static void take_edges(weft_control *c, weft_meeting_result *result)
{
    weft_tree_find(c->rank, c->size, &c->place);
    if (c->place.parent >= 0)
        init_edge(&c->edges[c->edge_count++], result->parent, c->place.parent, true);
    for (int i = 0; i < c->place.children; i++) {
        weft_control_edge *e = &c->edges[c->edge_count++];
        init_edge(e, result->children[i], c->place.child[i], false);
        e->low = c->place.child[i];
        e->high = c->place.child_high[i];
    }
    result->parent = -1;
    for (int i = 0; i < WEFT_TREE_FANOUT; i++)
        result->children[i] = -1;
}

static weft_status watch_edges(weft_control *c)
{
    c->epoll = weft_control_epoll();
    c->wake = weft_control_eventfd();
    struct epoll_event wake = { .events = EPOLLIN, .data.ptr = &c->wake };
    if (c->epoll < 0 || c->wake < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->wake, &wake) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot watch the control connections");
    for (int i = 0; i < c->edge_count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &c->edges[i] };
        weft_control_no_delay(c->edges[i].fd);
        weft_control_keepalive(c->edges[i].fd, c->dead_peer_ms);
        if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->edges[i].fd, &event) != 0)
            return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot watch the control connections");
    }
    return WEFT_OK;
}

static weft_status allocate(weft_control *c, const weft_control_config *config)
{
    size_t words = ((size_t)c->size + 63) / 64;
    c->notices = weft_alloc_array(FIRST_NOTICES, sizeof *c->notices);
    c->notice_room = FIRST_NOTICES;
    c->dead = weft_alloc_array(words, sizeof *c->dead);
    c->endpoints = weft_alloc_array((size_t)c->size, sizeof *c->endpoints);
    c->interfaces = weft_strdup(config->interfaces != NULL ? config->interfaces : "");
    c->port_range = weft_strdup(config->port_range != NULL ? config->port_range : "");
    if (c->notices == NULL || c->dead == NULL || c->endpoints == NULL || c->interfaces == NULL || c->port_range == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the control plane of %d ranks", c->size);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    c->has_lock = true;
    return WEFT_OK;
}

/* Everybody's listener, for shrink. */
static weft_status exchange_endpoints(weft_control *c, int64_t deadline_ns)
{
    uint8_t own[WEFT_ENDPOINT_BYTES];
    uint8_t *all = weft_alloc_array((size_t)c->size, WEFT_ENDPOINT_BYTES);
    if (all == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the addresses of %d ranks", c->size);
    weft_endpoint_encode(&c->listen, WEFT_ENDPOINT_ADDRESSES, own);
    weft_status status = weft_control_allgather(c, own, all, sizeof own, deadline_ns);
    for (int r = 0; status == WEFT_OK && r < c->size; r++) {
        if (!weft_endpoint_decode(&c->endpoints[r], WEFT_ENDPOINT_ADDRESSES, all + (size_t)r * WEFT_ENDPOINT_BYTES))
            status = weft_fail(WEFT_ERR_PEER, "rank %d sent malformed addresses", r);
    }
    weft_free(all);
    return status;
}

/* Before there is a thread that would; short enough to fit into the empty buffers. */
static void write_farewell(int rank, const int *fds)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + WEFT_NOTICE_BYTES];
    size_t bytes = weft_control_farewell(rank, weft_last_error(), frame);
    for (int i = 0; i < 1 + WEFT_TREE_FANOUT; i++) {
        if (fds[i] >= 0)
            weft_control_write(fds[i], frame, bytes, weft_deadline_ns(FAREWELL_MS));
    }
}

weft_status weft_control_start(const weft_control_config *config, weft_meeting_result *result, int listener,
                               const weft_endpoint *listen, weft_control **out)
{
    int fds[1 + WEFT_TREE_FANOUT] = { result->parent };
    weft_control *c = weft_alloc(sizeof *c);
    memcpy(fds + 1, result->children, sizeof result->children);
    if (c == NULL) {
        weft_fail(WEFT_ERR_MEMORY, "no memory for a control plane");
        write_farewell(result->rank, fds);
        weft_meeting_release(result);
        weft_control_close(listener);
        return WEFT_ERR_MEMORY;
    }
    c->rank = result->rank;
    c->size = result->size;
    c->job = result->job;
    weft_fork_watch();
    c->forks = weft_fork_count();
    c->notice = config->notice;
    c->notice_context = config->notice_context;
    c->dead_peer_ms = config->dead_peer_ms;
    c->listener = listener;
    c->listen = *listen;
    c->epoll = c->wake = -1;
    take_edges(c, result);
    weft_status status = allocate(c, config);
    if (status == WEFT_OK)
        status = watch_edges(c);
    if (status == WEFT_OK)
        status = weft_control_thread_start(&c->thread, "the control thread", weft_control_run, c);
    if (status != WEFT_OK) {
        write_farewell(c->rank, fds);
        discard(c);
        return status;
    }
    c->running = true;
    status = exchange_endpoints(c, config->deadline_ns);
    if (status != WEFT_OK) {
        weft_control_give_up(c);
        weft_control_destroy(c, 0);
        return status;
    }
    *out = c;
    return WEFT_OK;
}

void weft_control_refuse(const weft_control_config *config, weft_status status)
{
    if (config->size != 1)
        weft_rendezvous_refuse(config, status);
}

weft_status weft_control_create(const weft_control_config *config, weft_control **out)
{
    weft_meeting_result result = { .size = 1, .parent = -1, .children = { -1, -1, -1, -1 } };
    weft_endpoint listen = { 0 };
    int listener = -1;
    weft_status status = WEFT_OK;
    if (config->size < 1)
        return weft_fail(WEFT_ERR_INVALID, "group size %d: must be at least 1", config->size);
    if (config->rank < 0 || config->rank >= config->size) {
        status = weft_fail(WEFT_ERR_INVALID, "rank %d: must be 0 to %d (group size %d)", config->rank, config->size - 1,
                           config->size);
        weft_control_refuse(config, status);
        return status;
    }
    if (config->size > 1 || config->kind == WEFT_RENDEZVOUS_ID) { /* an id has a server, which ends with the meeting */
        status = weft_rendezvous_meet(config, &listener, &listen, &result);
    } else {
        weft_url url;
        result.job = weft_random64();
        if (config->kind == WEFT_RENDEZVOUS_URL && *config->url != '\0') /* without a launcher there is none */
            status = weft_url_parse(config->url, &url);
    }
    return status == WEFT_OK ? weft_control_start(config, &result, listener, &listen, out) : status;
}

uint64_t weft_control_job(const weft_control *c) { return c->job; }
int weft_control_rank(const weft_control *c) { return c->rank; }
int weft_control_size(const weft_control *c) { return c->size; }

void weft_control_report(weft_control *c, const weft_notice *notice)
{
    weft_notice ours = *notice;
    if (is_childs_copy(c))
        return;
    ours.reporter = c->rank;
    ours.text[sizeof ours.text - 1] = 0;
    pthread_mutex_lock(&c->lock);
    weft_control_enter(c, &ours, NULL);
    pthread_mutex_unlock(&c->lock);
}

bool weft_control_failed(const weft_control *c, weft_notice *notice)
{
    /* Partner: the release store in weft_control_enter; `first` never changes after it. */
    if (!atomic_load_explicit(&c->failed, memory_order_acquire))
        return false;
    if (notice != NULL)
        *notice = c->first;
    return true;
}

void weft_control_dead(const weft_control *c, uint64_t *words)
{
    for (size_t i = 0; i < ((size_t)c->size + 63) / 64; i++)
        words[i] = atomic_load_explicit(&c->dead[i], memory_order_relaxed);
}

/* ---- all-gather ------------------------------------------------------------------------------------ */

static weft_status gather_timed_out(weft_control *c)
{
    char text[256];
    if (c->gather_sent)
        return weft_fail(WEFT_ERR_TIMEOUT, "rank %d waits in vain for its part of an all-gather from rank %d", c->rank,
                         c->place.parent);
    size_t used = 0;
    for (int i = 0; i < c->edge_count && used < sizeof text - 1; i++) {
        const weft_control_edge *e = &c->edges[i];
        if (e->parent || e->gathered != NULL)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, e->high - e->low == 1 ? "%s%d" : "%s%d-%d",
                                 used != 0 ? ", " : "", e->low, e->high - 1);
    }
    return weft_fail(WEFT_ERR_TIMEOUT, "an all-gather waits in vain for (some of) rank(s) %s", text);
}

static weft_status wait_gather(weft_control *c, int64_t deadline_ns)
{
    for (;;) {
        if (c->gather_done)
            return WEFT_OK;
        if (atomic_load_explicit(&c->failed, memory_order_relaxed))
            return weft_fail(WEFT_ERR_PEER, "%s", c->first.text);
        if (c->gather_broken)
            return weft_fail(WEFT_ERR_PEER, "all-gather of the control plane: %s", c->gather_why);
        if (!wait_change(c, deadline_ns) && !c->gather_done)
            return gather_timed_out(c);
    }
}

weft_status weft_control_allgather(weft_control *c, const void *send, void *recv, size_t bytes, int64_t deadline_ns)
{
    if (is_childs_copy(c))
        return weft_fail(WEFT_ERR_USAGE, "the process has forked: only the parent may use the communicator");
    if (bytes > WEFT_GATHER_LIMIT_BYTES / (size_t)c->size)
        return weft_fail(WEFT_ERR_INVALID, "all-gather of %zu bytes from each of %d ranks is more than %zu", bytes, c->size,
                         WEFT_GATHER_LIMIT_BYTES);
    weft_control_buffer *part = weft_control_buffer_create(WEFT_GATHER_DATA +
                                                           (size_t)(c->place.high - c->place.low) * bytes);
    if (part == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for an all-gather of %zu bytes per rank", bytes);
    if (bytes != 0)
        memcpy(part->data + WEFT_GATHER_DATA, send, bytes);
    pthread_mutex_lock(&c->lock);
    c->gather = part;
    c->gather_bytes = bytes;
    c->gather_sequence++;
    c->gathering = true;
    c->gather_sent = c->gather_done = false;
    c->gather_result = c->gather_payload = NULL;
    weft_control_check_gather(c);
    weft_status status = wait_gather(c, deadline_ns);
    c->gathering = false;
    if (status != WEFT_OK)
        c->gather_broken = c->gather_lost = true; /* the ranks are out of step from now on */
    const uint8_t *result = c->gather_result;
    uint8_t *payload = c->gather_payload;
    pthread_mutex_unlock(&c->lock);
    if (status == WEFT_OK && bytes != 0)
        memcpy(recv, result, bytes * (size_t)c->size);
    weft_free(payload);
    pthread_mutex_lock(&c->lock);
    weft_control_buffer_release(part);
    pthread_mutex_unlock(&c->lock);
    return status;
}

void weft_control_give_up(weft_control *c)
{
    if (is_childs_copy(c))
        return;
    pthread_mutex_lock(&c->lock);
    if (!atomic_load_explicit(&c->failed, memory_order_relaxed) && !c->gather_lost)
        weft_control_tell_farewell(c, weft_last_error());
    pthread_mutex_unlock(&c->lock);
}

/* ---- leaving --------------------------------------------------------------------------------------- */

static void say_leave(weft_control *c)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES];
    weft_frame_encode(WEFT_FRAME_LEAVE, 0, frame);
    for (int i = 0; i < c->edge_count; i++)
        weft_edge_send_bytes(c, &c->edges[i], frame, sizeof frame);
}

void weft_control_run_errand(weft_control *c, void (*errand)(void))
{
    atomic_store_explicit(&c->errand, errand, memory_order_release);
    weft_control_wake(c->wake);
}

static bool has_queued(const weft_control *c)
{
    for (int i = 0; i < c->edge_count; i++) {
        if (c->edges[i].fd >= 0 && c->edges[i].first != NULL)
            return true;
    }
    return false;
}

void weft_control_destroy(weft_control *c, int64_t linger_ms)
{
    if (c == NULL)
        return;
    if (is_childs_copy(c) || !c->running) {
        discard(c);
        return;
    }
    int64_t deadline_ns = weft_deadline_ns(linger_ms);
    pthread_mutex_lock(&c->lock);
    c->leaving = true;
    weft_control_check_bye(c);
    /* With a dead rank in the tree the goodbyes cannot meet: leave alone at once. */
    while (!c->all_bye && !atomic_load_explicit(&c->failed, memory_order_relaxed)) {
        if (!wait_change(c, deadline_ns))
            break;
    }
    if (!c->all_bye)
        say_leave(c);
    deadline_ns = weft_deadline_ns(FLUSH_MS);
    while (has_queued(c) && weft_now_ns() < deadline_ns) {
        for (int i = 0; i < c->edge_count; i++)
            weft_edge_flush(c, &c->edges[i]);
        if (has_queued(c)) {
            pthread_mutex_unlock(&c->lock);
            poll(NULL, 0, 1);
            pthread_mutex_lock(&c->lock);
        }
    }
    c->stop = true;
    weft_control_wake(c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    discard(c);
}

/* The meeting's server: one thread that watches guests, probes and the time, and its life beyond the creation it serves. Who
 * comes is rendezvous_join.c's, what is said rendezvous_tell.c's; how guests find it is rendezvous.c's; proving that ranks are
 * dead (shrink) rendezvous_probe.c's. */
#define _GNU_SOURCE 1
#include "core/rendezvous_server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { TELL_MS = 1000 };

/* ---- servers that linger: known to the process, so that the next one may have the port ------------ */

static pthread_mutex_t linger_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t linger_ended;
static pthread_once_t linger_once = PTHREAD_ONCE_INIT;
static weft_meeting_server *lingering;

static void before_fork(void) { pthread_mutex_lock(&linger_lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&linger_lock); }
static void after_fork_child(void)
{
    lingering = NULL; /* their threads are the parent's */
    pthread_mutex_unlock(&linger_lock);
}
static void prepare_lingering(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&linger_ended, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void weft_meeting_stop_lingering(uint16_t low, uint16_t high)
{
    pthread_once(&linger_once, prepare_lingering);
    pthread_mutex_lock(&linger_lock);
    for (bool there = true; there;) {
        there = false;
        for (weft_meeting_server *s = lingering; s != NULL; s = s->next) {
            if (s->port < low || s->port > high || !atomic_load_explicit(&s->failed, memory_order_relaxed))
                continue;
            there = true;
            atomic_store_explicit(&s->stop, true, memory_order_release);
            weft_control_wake(s->wake);
        }
        if (there)
            pthread_cond_wait(&linger_ended, &linger_lock);
    }
    pthread_mutex_unlock(&linger_lock);
}

/* ---- the thread ----------------------------------------------------------------------------------- */

/* Which ranks the meeting still waits for, as text. */
static void list_missing(const weft_meeting_server *s, char *list, size_t bytes)
{
    uint64_t *missing = weft_alloc_array(((size_t)s->size + 63) / 64, sizeof *missing);
    snprintf(list, bytes, "some ranks");
    for (int r = 0; r < s->size && missing != NULL; r++) {
        const weft_meeting_guest *g = s->by_rank[r];
        bool gone = (s->absent[r / 64] >> (r % 64) & 1) != 0;
        if (!gone && (g == NULL || (s->phase == MEETING_CONNECTING && g->state != GUEST_CONNECTED)))
            missing[r / 64] |= 1ull << (r % 64);
    }
    if (missing != NULL)
        weft_rank_list(missing, s->size, list, bytes);
    weft_free(missing);
}

/* Once, so that nobody looks at a silent job for minutes. */
static void say_who_is_late(weft_meeting_server *s, int64_t now)
{
    if (s->said_who_is_late || s->size == 0 || s->phase > MEETING_CONNECTING ||
        now < s->started_ns + (int64_t)WEFT_MEETING_SILENCE_MS * WEFT_NS_PER_MS)
        return;
    char list[256];
    list_missing(s, list, sizeof list);
    s->said_who_is_late = true;
    weft_log(WEFT_LOG_WARN, "%d ranks meet here, and %s did not %s yet: waiting (WEFT_CREATE_TIMEOUT says how long)", s->size,
             list, s->phase == MEETING_CONNECTING ? "finish connecting" : "join");
}

static void check_time(weft_meeting_server *s)
{
    int64_t now = weft_now_ns();
    for (weft_meeting_guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->state == GUEST_STRANGER && now >= g->drop_at_ns)
            weft_meeting_drop_stranger(s, g, "it did not join within 10 s");
    }
    weft_meeting_check_probes(s, now);
    if (s->phase == MEETING_FAILED && (now >= s->deadline_ns || s->told_count == s->size))
        s->phase = MEETING_ENDED;
    if (now < s->deadline_ns || s->phase == MEETING_ENDED) {
        say_who_is_late(s, now);
        return;
    }
    char list[256], text[WEFT_MEETING_TEXT_BYTES];
    list_missing(s, list, sizeof list);
    int64_t since = s->own_deadline ? s->started_ns : s->first_join_ns;
    snprintf(text, sizeof text, "%s did not %s within %.3g s", list,
             s->phase == MEETING_CONNECTING ? "finish connecting to their neighbours" : "join",
             (double)((now - since) / WEFT_NS_PER_MS) / 1000);
    weft_meeting_fail(s, WEFT_ERR_TIMEOUT, text);
}

static void free_dropped(weft_meeting_server *s)
{
    while (s->dropped != NULL) {
        weft_meeting_guest *g = s->dropped;
        s->dropped = g->next;
        weft_free(g);
    }
}

/* Strangers are guests of a later meeting, perhaps: they shall try again. What they have sent is read first, since closing
 * over unread bytes would be a reset, which can overtake the answer. */
static void send_away(weft_meeting_guest *g)
{
    char unread[WEFT_JOIN_BYTES];
    while (recv(g->fd, unread, sizeof unread, 0) > 0)
        ;
    weft_meeting_tell_retry(g);
}

static void end(weft_meeting_server *s)
{
    for (weft_meeting_guest *g = s->guests; g != NULL; g = g->next)
        send_away(g);
    while (s->guests != NULL)
        weft_meeting_drop(s, s->guests);
    free_dropped(s);
    weft_meeting_stop_probes(s);
    if (!s->survivors)
        weft_control_close(s->listener);
    pthread_mutex_lock(&linger_lock);
    for (weft_meeting_server **at = &lingering; *at != NULL; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    s->ended = true; /* nobody else needs to be told */
    bool last = s->lingers;
    pthread_cond_broadcast(&linger_ended);
    pthread_mutex_unlock(&linger_lock);
    if (last)
        weft_meeting_free(s);
}

static void *serve(void *argument)
{
    weft_meeting_server *s = argument;
    struct epoll_event events[64];
    weft_log_set_rank(-1);
    weft_meeting_check_complete(s);
    while (s->phase != MEETING_ENDED && !atomic_load_explicit(&s->stop, memory_order_acquire)) {
        int n = epoll_wait(s->epoll, events, ARRAY_LEN(events), weft_control_poll_ms(s->deadline_ns, 1000));
        for (int i = 0; i < n && s->phase != MEETING_ENDED; i++) {
            void *what = events[i].data.ptr;
            if (what == &s->listener) {
                weft_meeting_accept(s);
            } else if (what == &s->wake) {
                uint64_t count;
                ssize_t got = read(s->wake, &count, sizeof count);
                (void)got;
                pthread_mutex_lock(&linger_lock);
                if (s->posted != WEFT_OK)
                    weft_meeting_fail(s, s->posted, s->posted_text);
                pthread_mutex_unlock(&linger_lock);
            } else if (weft_meeting_is_probe(s, what)) {
                weft_meeting_probe_event(s, what);
            } else if (((weft_meeting_guest *)what)->fd >= 0) {
                weft_meeting_read_guest(s, what);
            }
        }
        check_time(s);
        free_dropped(s);
    }
    end(s);
    return NULL;
}

void weft_meeting_free(weft_meeting_server *s)
{
    weft_control_close(s->epoll);
    weft_control_close(s->wake);
    weft_free(s->by_rank);
    weft_free(s->told);
    weft_free(s->absent);
    weft_free(s);
}

static weft_status prepare(weft_meeting_server *s, const weft_meeting_config *config)
{
    s->epoll = weft_control_epoll();
    s->wake = weft_control_eventfd();
    struct epoll_event listener = { .events = EPOLLIN, .data.ptr = &s->listener };
    struct epoll_event wake = { .events = EPOLLIN, .data.ptr = &s->wake };
    if (s->epoll < 0 || s->wake < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &listener) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &wake) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot watch the meeting place");
    if (config->size != 0 && !weft_meeting_grow(s, config->size))
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a meeting of %d ranks", config->size);
    return config->survivors ? weft_meeting_start_probes(s, config) : WEFT_OK;
}

weft_status weft_meeting_serve(const weft_meeting_config *config, weft_meeting_server **out)
{
    weft_meeting_server *s = weft_alloc(sizeof *s);
    pthread_once(&linger_once, prepare_lingering);
    if (s == NULL) {
        if (!config->survivors)
            weft_control_close(config->listener);
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a meeting place");
    }
    struct sockaddr_storage local;
    socklen_t bytes = sizeof local;
    if (getsockname(config->listener, (struct sockaddr *)&local, &bytes) == 0)
        s->port = ntohs(((struct sockaddr_in *)&local)->sin_port); /* at the same place for IPv6 */
    s->epoll = s->wake = -1;
    s->listener = config->listener;
    s->token = config->token;
    s->deadline_ns = config->deadline_ns;
    s->own_deadline = config->deadline_ns != WEFT_NEVER;
    s->started_ns = weft_now_ns();
    s->sized_by_rank = -1;
    s->survivors = config->survivors;
    s->of_rank_0 = config->size != 0 && !config->survivors;
    weft_status status = prepare(s, config);
    if (status == WEFT_OK)
        status = weft_control_thread_start(&s->thread, "the meeting place's thread", serve, s);
    if (status != WEFT_OK) {
        weft_meeting_stop_probes(s);
        if (!s->survivors)
            weft_control_close(s->listener);
        weft_meeting_free(s);
        return status;
    }
    *out = s;
    return WEFT_OK;
}

void weft_meeting_leave(weft_meeting_server *s)
{
    pthread_detach(s->thread);
    pthread_mutex_lock(&linger_lock);
    bool ended = s->ended;
    s->lingers = true; /* from here on the thread frees it, unless it has ended */
    if (!ended) {
        s->next = lingering;
        lingering = s;
    }
    pthread_mutex_unlock(&linger_lock);
    if (ended)
        weft_meeting_free(s);
}

/* The caller may exit as soon as it hears of the failure, and the server with it: ranks that start at the same time shall
 * have heard it too. */
static void await_told(weft_meeting_server *s)
{
    int64_t deadline_ns = weft_deadline_ns(TELL_MS);
    struct timespec at = { .tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000 };
    pthread_mutex_lock(&linger_lock);
    while (!s->ended && pthread_cond_timedwait(&linger_ended, &linger_lock, &at) == 0)
        ;
    pthread_mutex_unlock(&linger_lock);
}

void weft_meeting_finish(weft_meeting_server *s, weft_status status)
{
    if (status != WEFT_OK) {
        pthread_mutex_lock(&linger_lock);
        s->posted = status;
        snprintf(s->posted_text, sizeof s->posted_text, "%s", weft_last_error());
        pthread_mutex_unlock(&linger_lock);
    }
    if (status != WEFT_OK && !s->survivors) {
        weft_control_wake(s->wake);
        if (status != WEFT_ERR_TIMEOUT)
            await_told(s);
        weft_meeting_leave(s);
        return;
    }
    if (status != WEFT_OK) {
        atomic_store_explicit(&s->stop, true, memory_order_release);
        weft_control_wake(s->wake);
    }
    pthread_join(s->thread, NULL);
    weft_meeting_free(s);
}

/* The meeting's server: one thread that greets whoever connects, checks the joins, deals out the tree and says "go" when
 * all edges stand, or tells everybody what went wrong and who is to blame. Strangers (port scans, HTTP, slow senders) are
 * dropped. How guests find it is rendezvous.c's; proving that ranks are dead (shrink) rendezvous_probe.c's. */
#define _GNU_SOURCE 1
#include "core/rendezvous_server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STRANGER_PATIENCE_MS = 10000, STRANGERS_AT_MOST = 512, LINGER_LEAST_MS = 5000, LINGER_MOST_MS = 60000, TELL_MS = 1000 };

/* ---- servers that linger: known to the process, so that the next one may have the port ------------ */

static pthread_mutex_t linger_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t linger_ended = PTHREAD_COND_INITIALIZER;
static pthread_once_t linger_once = PTHREAD_ONCE_INIT;
static weft_meeting_server *lingering;

static void before_fork(void) { pthread_mutex_lock(&linger_lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&linger_lock); }
static void after_fork_child(void)
{
    lingering = NULL; /* their threads are the parent's */
    pthread_mutex_unlock(&linger_lock);
}
static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void weft_meeting_stop_lingering(uint16_t low, uint16_t high)
{
    pthread_once(&linger_once, install_fork_handlers);
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

/* ---- guests --------------------------------------------------------------------------------------- */

static void describe(const weft_meeting_guest *g, char *text, size_t bytes)
{
    char address[WEFT_ADDRESS_TEXT_BYTES];
    weft_control_address_text(&g->peer, address);
    if (g->join.pid != 0)
        snprintf(text, bytes, "rank %d (%s, pid %u)", (int)g->join.rank, address, g->join.pid);
    else
        snprintf(text, bytes, "rank %d (%s)", (int)g->join.rank, address);
}

static void drop(weft_meeting_server *s, weft_meeting_guest *g)
{
    for (weft_meeting_guest **at = &s->guests; *at != NULL; at = &(*at)->next) {
        if (*at == g) {
            *at = g->next;
            break;
        }
    }
    if (g->state == GUEST_STRANGER)
        s->strangers--;
    else if (s->by_rank != NULL && s->by_rank[g->join.rank] == g) {
        s->by_rank[g->join.rank] = NULL;
        s->joined--;
    }
    weft_control_close(g->fd);
    /* Events of this round may still point to it. */
    g->fd = -1;
    g->next = s->dropped;
    s->dropped = g;
}

static void drop_stranger(weft_meeting_server *s, weft_meeting_guest *g, const char *why)
{
    char address[WEFT_ADDRESS_TEXT_BYTES];
    /* Who has said nothing may be a rank that reached this place by another of its addresses too. */
    weft_log(g->have ? WEFT_LOG_WARN : WEFT_LOG_INFO, "meeting place: dropped a connection from %s: %s",
             weft_control_address_text(&g->peer, address), why);
    drop(s, g);
}

/* A frame is short and the socket's buffer empty: it never has to wait for room, but for a hostile reader. */
static bool tell(weft_meeting_guest *g, const void *frame, size_t bytes)
{
    return weft_control_write(g->fd, frame, bytes, weft_deadline_ns(200));
}

static void tell_retry(weft_meeting_guest *g)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES];
    weft_frame_encode(WEFT_FRAME_RETRY, 0, frame);
    tell(g, frame, sizeof frame);
}

static void tell_verdict(weft_meeting_server *s, weft_meeting_guest *g)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + 4 + WEFT_MEETING_TEXT_BYTES];
    size_t bytes = weft_error_encode(s->status, s->text, frame, sizeof frame);
    tell(g, frame, bytes);
    uint32_t rank = g->join.rank;
    if (s->told != NULL && rank < (uint32_t)s->size && (s->told[rank / 64] >> (rank % 64) & 1) == 0) {
        s->told[rank / 64] |= 1ull << (rank % 64);
        s->told_count++;
    }
}

void weft_meeting_fail(weft_meeting_server *s, weft_status status, const char *text)
{
    if (s->phase == MEETING_FAILED || s->phase == MEETING_ENDED)
        return;
    s->phase = MEETING_FAILED;
    s->status = status;
    snprintf(s->text, sizeof s->text, "%s", text);
    weft_log(WEFT_LOG_DEBUG, "meeting place: failed: %s", text);
    int64_t now = weft_now_ns(), least = now + (int64_t)LINGER_LEAST_MS * WEFT_NS_PER_MS;
    int64_t most = now + (int64_t)LINGER_MOST_MS * WEFT_NS_PER_MS;
    s->deadline_ns = s->deadline_ns < least ? least : s->deadline_ns > most ? most : s->deadline_ns;
    for (weft_meeting_guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->state != GUEST_STRANGER) {
            tell_verdict(s, g);
            drop(s, g);
        }
    }
    atomic_store_explicit(&s->failed, true, memory_order_relaxed);
}

static void out_of_memory(weft_meeting_server *s)
{
    char text[80];
    snprintf(text, sizeof text, "the meeting place (%spid %d) ran out of memory", s->of_rank_0 ? "rank 0, " : "", (int)getpid());
    weft_meeting_fail(s, WEFT_ERR_MEMORY, text);
}

/* Shrink: somebody died meanwhile; everybody else begins again. */
static void begin_again(weft_meeting_server *s)
{
    s->phase = MEETING_JOINING;
    for (weft_meeting_guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->state != GUEST_STRANGER) {
            int rank = (int)g->join.rank;
            tell_retry(g);
            drop(s, g);
            weft_meeting_probe_again(s, rank);
        }
    }
}

static void guest_gone(weft_meeting_server *s, weft_meeting_guest *g, const char *why)
{
    char who[160], text[WEFT_MEETING_TEXT_BYTES];
    if (g->state == GUEST_STRANGER) {
        drop_stranger(s, g, why);
        return;
    }
    describe(g, who, sizeof who);
    int rank = (int)g->join.rank;
    drop(s, g);
    if (s->survivors) {
        weft_meeting_absent(s, rank);
        begin_again(s);
        return;
    }
    snprintf(text, sizeof text, "%s left before the group was complete: %s", who, why);
    weft_meeting_fail(s, WEFT_ERR_PEER, text);
}

/* ---- joins ---------------------------------------------------------------------------------------- */

static bool grow_to(weft_meeting_server *s, int size)
{
    size_t words = ((size_t)size + 63) / 64;
    s->by_rank = weft_alloc_array((size_t)size, sizeof(weft_meeting_guest *));
    s->told = weft_alloc_array(words, sizeof *s->told);
    s->absent = weft_alloc_array(words, sizeof *s->absent);
    if (s->by_rank == NULL || s->told == NULL || s->absent == NULL)
        return false;
    s->size = size;
    /* Every rank holds a connection to this process until the tree stands. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)size + 256 && limit.rlim_cur < limit.rlim_max) {
        weft_log(WEFT_LOG_INFO, "meeting place: raising the limit of open files from %llu to %llu",
                 (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return true;
}

static void assign_all(weft_meeting_server *s)
{
    uint32_t alive_bytes = s->survivors ? ((uint32_t)s->size + 7) / 8 : 0;
    int members = s->joined, *old_rank = weft_alloc_array((size_t)members, sizeof *old_rank);
    uint8_t *alive = weft_alloc((size_t)alive_bytes + 1), *frame = weft_alloc(weft_assign_bytes(alive_bytes));
    s->phase = MEETING_CONNECTING;
    s->connected = 0;
    if (old_rank == NULL || alive == NULL || frame == NULL) {
        out_of_memory(s);
    } else {
        weft_assign assign = { .job = weft_random64(), .size = (uint32_t)members, .alive = alive, .alive_bytes = alive_bytes };
        for (int r = 0, n = 0; r < s->size; r++) {
            if (s->by_rank[r] == NULL)
                continue;
            old_rank[n++] = r;
            if (s->survivors)
                alive[r / 8] = (uint8_t)(alive[r / 8] | 1u << (r % 8));
        }
        for (int n = 0; n < members && s->phase == MEETING_CONNECTING; n++) {
            weft_meeting_guest *g = s->by_rank[old_rank[n]];
            weft_tree_place place;
            weft_tree_find(n, members, &place);
            assign.rank = (uint32_t)n;
            assign.parent = place.parent < 0 ? WEFT_NO_RANK : (uint32_t)place.parent;
            if (place.parent >= 0) {
                const weft_meeting_guest *p = s->by_rank[old_rank[place.parent]];
                assign.parent_listen = p->join.listen;
                /* Best is where the server saw the parent; one that is local to the server is where the child saw the server. */
                bool parent_local = weft_control_is_loopback(&p->peer), local = weft_control_is_loopback(&g->peer);
                weft_control_prefer(&assign.parent_listen, parent_local && !local ? &g->local : &p->peer);
            }
            weft_assign_encode(&assign, frame);
            if (!tell(g, frame, weft_assign_bytes(alive_bytes)))
                guest_gone(s, g, strerror(errno));
        }
    }
    weft_free(old_rank);
    weft_free(alive);
    weft_free(frame);
}

/* Says GO, last of all to this process itself, which may exit thereafter. */
static void let_go(weft_meeting_server *s)
{
    uint8_t frame[WEFT_FRAME_HEADER_BYTES];
    weft_frame_encode(WEFT_FRAME_GO, 0, frame);
    for (int own = 0; own < 2; own++) {
        for (weft_meeting_guest *g = s->guests; g != NULL; g = g->next) {
            if (g->state == GUEST_CONNECTED && (g->join.pid == (uint32_t)getpid()) == (own != 0))
                tell(g, frame, sizeof frame);
        }
    }
    s->phase = MEETING_ENDED;
}

void weft_meeting_check_complete(weft_meeting_server *s)
{
    if (s->phase == MEETING_JOINING && s->size != 0 && s->joined != 0 && s->joined + s->absent_count >= s->size)
        assign_all(s);
}

/* Fails the meeting (or returns false) if this join does not fit to the others. */
static bool join_fits(weft_meeting_server *s, weft_meeting_guest *g)
{
    char who[160], other[160], text[WEFT_MEETING_TEXT_BYTES];
    describe(g, who, sizeof who);
    weft_status status = WEFT_ERR_MISMATCH;
    uint32_t rank = g->join.rank, size = g->join.size;
    if (g->join.version != WEFT_CONTROL_VERSION) {
        status = WEFT_ERR_VERSION;
        snprintf(text, sizeof text, "%s speaks version %u of weft's control protocol, the meeting place version %d: "
                 "all ranks need the same weft", who, g->join.version, WEFT_CONTROL_VERSION);
    } else if (size != (uint32_t)s->size) {
        if (s->sized_by_rank >= 0)
            snprintf(other, sizeof other, "rank %d (%s)", s->sized_by_rank, s->sized_by);
        else
            snprintf(other, sizeof other, "the meeting place");
        snprintf(text, sizeof text, "%s has group size %u, %s has %d: all ranks must give the same size", who, size,
                 other, s->size);
    } else if (rank >= size) {
        snprintf(text, sizeof text, "%s is not below the group size %u: ranks are 0 to %u", who, size, size - 1);
    } else if (s->by_rank[rank] != NULL) {
        const weft_meeting_guest *first = s->by_rank[rank];
        char address[2][WEFT_ADDRESS_TEXT_BYTES];
        snprintf(text, sizeof text, "rank %u joined twice: from %s (pid %u) and from %s (pid %u)", rank,
                 weft_control_address_text(&first->peer, address[0]), first->join.pid,
                 weft_control_address_text(&g->peer, address[1]), g->join.pid);
    } else {
        return true;
    }
    weft_meeting_fail(s, status, text);
    tell_verdict(s, g);
    drop(s, g);
    return false;
}

static void handle_join(weft_meeting_server *s, weft_meeting_guest *g, bool complete)
{
    if (complete && g->join.token != s->token) {
        drop_stranger(s, g, "it belongs to another group (other token)");
        return;
    }
    if (s->phase == MEETING_FAILED) {
        uint32_t rank = g->join.rank;
        if (rank < (uint32_t)s->size && (s->told[rank / 64] >> (rank % 64) & 1) != 0)
            tell_retry(g); /* a new attempt, too early: the next server is not there yet */
        else
            tell_verdict(s, g);
        drop(s, g);
        return;
    }
    if (s->size == 0 && complete && g->join.size >= 1 && g->join.size <= INT32_MAX) {
        if (!grow_to(s, (int)g->join.size)) {
            out_of_memory(s);
            return;
        }
    }
    if (complete && s->sized_by_rank < 0 && g->join.size == (uint32_t)s->size) {
        s->sized_by_rank = (int)g->join.rank;
        weft_control_address_text(&g->peer, s->sized_by);
    }
    if (!join_fits(s, g))
        return;
    if (s->phase != MEETING_JOINING) { /* shrink: an old rank that was taken for dead */
        drop_stranger(s, g, "it comes too late");
        return;
    }
    s->strangers--;
    s->joined++;
    g->state = GUEST_JOINED;
    g->have = 0;
    s->by_rank[g->join.rank] = g;
    weft_meeting_present(s, (int)g->join.rank);
    int64_t deadline = weft_deadline_ns(g->join.timeout_ms);
    if (s->first_join_ns == 0)
        s->first_join_ns = weft_now_ns();
    if (deadline < s->deadline_ns)
        s->deadline_ns = deadline;
    weft_meeting_check_complete(s);
}

/* What a stranger has sent so far; a join counts from its first 20 bytes if it is of another version. */
static void read_stranger(weft_meeting_server *s, weft_meeting_guest *g)
{
    if (g->have < WEFT_JOIN_PREFIX_BYTES)
        return;
    if (!weft_join_decode_prefix(&g->join, g->in))
        drop_stranger(s, g, "it does not speak weft's protocol");
    else if (g->join.version != WEFT_CONTROL_VERSION)
        handle_join(s, g, false);
    else if (g->have >= WEFT_JOIN_BYTES && !weft_join_decode(&g->join, g->in))
        drop_stranger(s, g, "malformed join");
    else if (g->have >= WEFT_JOIN_BYTES)
        handle_join(s, g, true);
}

static void read_member(weft_meeting_server *s, weft_meeting_guest *g)
{
    weft_frame_header header;
    char who[160], text[WEFT_MEETING_TEXT_BYTES], detail[WEFT_MEETING_TEXT_BYTES];
    if (g->have < WEFT_FRAME_HEADER_BYTES)
        return;
    if (!weft_frame_decode(&header, g->in) || header.bytes > sizeof g->in - WEFT_FRAME_HEADER_BYTES) {
        guest_gone(s, g, "it sent a malformed message");
        return;
    }
    if (g->have < WEFT_FRAME_HEADER_BYTES + header.bytes)
        return;
    if (header.type == WEFT_FRAME_CONNECTED && s->phase == MEETING_CONNECTING && g->state == GUEST_JOINED) {
        g->state = GUEST_CONNECTED;
        g->have = 0;
        if (++s->connected == s->joined)
            let_go(s);
        return;
    }
    weft_status status;
    if (header.type == WEFT_FRAME_ERROR &&
        weft_error_decode(&status, detail, sizeof detail, g->in + WEFT_FRAME_HEADER_BYTES, header.bytes)) {
        if (s->survivors) {
            begin_again(s);
            return;
        }
        describe(g, who, sizeof who);
        snprintf(text, sizeof text, "%s: %.300s", who, detail);
        weft_meeting_fail(s, status, text);
        return;
    }
    guest_gone(s, g, "it sent an unexpected message");
}

static void read_guest(weft_meeting_server *s, weft_meeting_guest *g)
{
    while (g->fd >= 0 && s->phase != MEETING_ENDED) {
        size_t limit = g->state == GUEST_STRANGER ? WEFT_JOIN_BYTES : sizeof g->in;
        ssize_t n = recv(g->fd, g->in + g->have, limit - g->have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            guest_gone(s, g, n == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        g->have += (size_t)n;
        if (g->state == GUEST_STRANGER)
            read_stranger(s, g);
        else
            read_member(s, g);
    }
}

static void accept_all(weft_meeting_server *s)
{
    for (;;) {
        struct sockaddr_storage peer;
        int fd = weft_control_accept(s->listener, &peer);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno != EAGAIN && s->phase == MEETING_FAILED)
            s->phase = MEETING_ENDED; /* out of descriptors by somebody else's doing: nobody can be told */
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            char text[WEFT_MEETING_TEXT_BYTES];
            struct rlimit limit = { 0 };
            getrlimit(RLIMIT_NOFILE, &limit);
            snprintf(text, sizeof text, "the meeting place (pid %d) cannot hold a connection of every rank: %s "
                     "(limit %llu; raise it with ulimit -n)", (int)getpid(), strerror(errno),
                     (unsigned long long)limit.rlim_cur);
            weft_meeting_fail(s, WEFT_ERR_SYSTEM, text);
        }
        if (fd < 0)
            return;
        weft_meeting_guest *g = weft_alloc(sizeof *g);
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = g };
        if (g == NULL || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
            weft_free(g);
            weft_control_close(fd);
            out_of_memory(s);
            return;
        }
        g->fd = fd;
        g->peer = peer;
        socklen_t bytes = sizeof g->local;
        getsockname(fd, (struct sockaddr *)&g->local, &bytes);
        weft_control_unmap(&g->local);
        weft_control_no_delay(fd);
        g->drop_at_ns = weft_deadline_ns(STRANGER_PATIENCE_MS);
        g->next = s->guests;
        s->guests = g;
        uint8_t greeting[WEFT_GREETING_BYTES];
        weft_greeting_encode(&(weft_greeting){ WEFT_CONTROL_VERSION, s->token, weft_random64() }, greeting);
        if (++s->strangers > STRANGERS_AT_MOST + s->size)
            drop_stranger(s, g, "too many connections that do not join");
        else if (!tell(g, greeting, sizeof greeting))
            drop_stranger(s, g, strerror(errno));
    }
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
            drop_stranger(s, g, "it did not join within 10 s");
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
    tell_retry(g);
}

static void end(weft_meeting_server *s)
{
    for (weft_meeting_guest *g = s->guests; g != NULL; g = g->next)
        send_away(g);
    while (s->guests != NULL)
        drop(s, s->guests);
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
                accept_all(s);
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
                read_guest(s, what);
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
    if (config->size != 0 && !grow_to(s, config->size))
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a meeting of %d ranks", config->size);
    return config->survivors ? weft_meeting_start_probes(s, config) : WEFT_OK;
}

weft_status weft_meeting_serve(const weft_meeting_config *config, weft_meeting_server **out)
{
    weft_meeting_server *s = weft_alloc(sizeof *s);
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
    if (status == WEFT_OK) {
        int error = weft_control_thread_start(&s->thread, serve, s);
        if (error != 0) {
            errno = error;
            status = weft_fail_errno(WEFT_ERR_SYSTEM, "cannot start the meeting place's thread");
        }
    }
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
    pthread_once(&linger_once, install_fork_handlers);
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
    while (!s->ended && pthread_cond_clockwait(&linger_ended, &linger_lock, CLOCK_MONOTONIC, &at) == 0)
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

/* Who comes to the meeting's server: greeted, read, checked against the others; when all are there the tree is dealt out, when
 * all its edges stand, "go". Strangers (port scans, HTTP, slow senders) are dropped. */
#include "core/rendezvous_server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STRANGER_PATIENCE_MS = 10000, STRANGERS_AT_MOST = 512 };

bool weft_meeting_grow(weft_meeting_server *s, int size)
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
        weft_meeting_out_of_memory(s);
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
            if (!weft_meeting_tell(g, frame, weft_assign_bytes(alive_bytes)))
                weft_meeting_guest_gone(s, g, strerror(errno));
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
                weft_meeting_tell(g, frame, sizeof frame);
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
    weft_meeting_describe(g, who, sizeof who);
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
    weft_meeting_tell_verdict(s, g);
    weft_meeting_drop(s, g);
    return false;
}

static void handle_join(weft_meeting_server *s, weft_meeting_guest *g, bool complete)
{
    if (complete && g->join.token != s->token) {
        weft_meeting_drop_stranger(s, g, "it belongs to another group (other token)");
        return;
    }
    if (s->phase == MEETING_FAILED) {
        uint32_t rank = g->join.rank;
        if (rank < (uint32_t)s->size && (s->told[rank / 64] >> (rank % 64) & 1) != 0)
            weft_meeting_tell_retry(g); /* a new attempt, too early: the next server is not there yet */
        else
            weft_meeting_tell_verdict(s, g);
        weft_meeting_drop(s, g);
        return;
    }
    if (s->size == 0 && complete && g->join.size >= 1 && g->join.size <= INT32_MAX) {
        if (!weft_meeting_grow(s, (int)g->join.size)) {
            weft_meeting_out_of_memory(s);
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
        weft_meeting_drop_stranger(s, g, "it comes too late");
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
        weft_meeting_drop_stranger(s, g, "it does not speak weft's protocol");
    else if (g->join.version != WEFT_CONTROL_VERSION)
        handle_join(s, g, false);
    else if (g->have >= WEFT_JOIN_BYTES && !weft_join_decode(&g->join, g->in))
        weft_meeting_drop_stranger(s, g, "malformed join");
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
        weft_meeting_guest_gone(s, g, "it sent a malformed message");
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
            weft_meeting_begin_again(s);
            return;
        }
        weft_meeting_describe(g, who, sizeof who);
        snprintf(text, sizeof text, "%s: %.300s", who, detail);
        weft_meeting_fail(s, status, text);
        return;
    }
    weft_meeting_guest_gone(s, g, "it sent an unexpected message");
}

void weft_meeting_read_guest(weft_meeting_server *s, weft_meeting_guest *g)
{
    while (g->fd >= 0 && s->phase != MEETING_ENDED) {
        size_t limit = g->state == GUEST_STRANGER ? WEFT_JOIN_BYTES : sizeof g->in;
        ssize_t n = recv(g->fd, g->in + g->have, limit - g->have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            weft_meeting_guest_gone(s, g, n == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        g->have += (size_t)n;
        if (g->state == GUEST_STRANGER)
            read_stranger(s, g);
        else
            read_member(s, g);
    }
}

void weft_meeting_accept(weft_meeting_server *s)
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
            weft_meeting_out_of_memory(s);
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
            weft_meeting_drop_stranger(s, g, "too many connections that do not join");
        else if (!weft_meeting_tell(g, greeting, sizeof greeting))
            weft_meeting_drop_stranger(s, g, strerror(errno));
    }
}

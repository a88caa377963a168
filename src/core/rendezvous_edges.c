/* Connects a rank's edges of the control tree: calls its parent, takes its children's calls, both with a hello that
 * carries job and rank, and listens to the meeting's server meanwhile, which may call it off. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/rendezvous.h"

enum { PARENT_ADDRESSES = 2 * WEFT_ENDPOINT_ADDRESSES, CALLERS = 32, CALLER_PATIENCE_MS = 10000, CALL_PATIENCE_MS = 2000 };

/* Somebody who connected to our listener and has not said a whole hello yet. */
typedef struct caller {
    int fd;
    size_t have;
    int64_t drop_at_ns;
    struct sockaddr_storage peer;
    uint8_t in[WEFT_HELLO_BYTES];
} caller;

typedef enum { CALL_IDLE, CALL_CONNECTING, CALL_WAITING, CALL_DONE } call_state;

typedef struct connecting {
    int listener;
    const weft_assign *assign;
    weft_tree_place place;
    weft_meeting_result *result;
    caller callers[CALLERS];
    call_state call;       /* to the parent */
    struct sockaddr_storage parent[PARENT_ADDRESSES];
    int parent_count, address; /* which of them */
    int64_t call_until_ns;
    size_t have;
    uint8_t in[WEFT_HELLO_BYTES];
    char reason[200];      /* why the last call failed */
} connecting;

static bool send_hello(const connecting *c, int fd)
{
    uint8_t out[WEFT_HELLO_BYTES];
    weft_hello_encode(&(weft_hello){ WEFT_CONTROL_VERSION, c->assign->rank, c->assign->job }, out);
    return weft_control_write(fd, out, sizeof out, weft_deadline_ns(200));
}

/* ---- the parent ------------------------------------------------------------------------------------ */

static void call_failed(connecting *c, const char *why)
{
    char text[WEFT_ADDRESS_TEXT_BYTES];
    snprintf(c->reason, sizeof c->reason, "%s: %s", weft_control_address_text(&c->parent[c->address], text), why);
    weft_control_close(c->result->parent);
    c->result->parent = -1;
    c->call = CALL_IDLE;
    c->address = (c->address + 1) % c->parent_count;
    c->call_until_ns = c->address == 0 ? weft_deadline_ns(50) : 0; /* all of them failed: no hurry */
}

static void start_call(connecting *c)
{
    const struct sockaddr_storage *address = &c->parent[c->address];
    if (c->parent_count == 0)
        return; /* it has none: ends by the deadline */
    int fd = weft_control_socket(address->ss_family);
    c->result->parent = fd;
    c->have = 0;
    c->call_until_ns = weft_deadline_ns(CALL_PATIENCE_MS);
    c->call = CALL_CONNECTING;
    if (fd < 0 ||
        (connect(fd, (const struct sockaddr *)address, weft_control_sockaddr_bytes(address)) != 0 && errno != EINPROGRESS))
        call_failed(c, strerror(errno));
}

static void advance_call(connecting *c)
{
    int fd = c->result->parent, error = 0;
    socklen_t bytes = sizeof error;
    if (c->call == CALL_CONNECTING) {
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
            call_failed(c, strerror(error != 0 ? error : errno));
            return;
        }
        weft_control_no_delay(fd);
        if (!send_hello(c, fd)) {
            call_failed(c, strerror(errno));
            return;
        }
        c->call = CALL_WAITING;
        c->call_until_ns = weft_deadline_ns(CALLER_PATIENCE_MS); /* its process may be slow */
        return;
    }
    ssize_t n = recv(fd, c->in + c->have, WEFT_HELLO_BYTES - c->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        call_failed(c, n == 0 ? "it closed the connection" : strerror(errno));
        return;
    }
    c->have += (size_t)n;
    if (c->have < WEFT_HELLO_BYTES)
        return;
    weft_hello hello;
    if (!weft_hello_decode(&hello, c->in) || hello.job != c->assign->job || hello.rank != c->assign->parent)
        call_failed(c, "somebody else answers there");
    else
        c->call = CALL_DONE;
}

/* ---- the children ---------------------------------------------------------------------------------- */

static void drop_caller(caller *a, const char *why)
{
    char text[WEFT_ADDRESS_TEXT_BYTES];
    weft_log(WEFT_LOG_WARN, "dropped a connection from %s: %s", weft_control_address_text(&a->peer, text), why);
    weft_control_close(a->fd);
    a->fd = -1;
}

static void take_call(connecting *c)
{
    struct sockaddr_storage peer;
    int fd = weft_control_accept(c->listener, &peer);
    if (fd < 0)
        return;
    caller *a = &c->callers[0];
    for (int i = 0; i < CALLERS; i++) {
        if (c->callers[i].fd < 0) {
            a = &c->callers[i];
            break;
        }
        if (c->callers[i].drop_at_ns < a->drop_at_ns)
            a = &c->callers[i];
    }
    if (a->fd >= 0)
        drop_caller(a, "too many connections without a hello");
    *a = (caller){ .fd = fd, .peer = peer, .drop_at_ns = weft_deadline_ns(CALLER_PATIENCE_MS) };
    weft_control_no_delay(fd);
}

static void advance_caller(connecting *c, caller *a)
{
    ssize_t n = recv(a->fd, a->in + a->have, WEFT_HELLO_BYTES - a->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_caller(a, n == 0 ? "it closed the connection" : strerror(errno));
        return;
    }
    a->have += (size_t)n;
    weft_hello hello;
    if (a->have < WEFT_HELLO_BYTES)
        return;
    if (!weft_hello_decode(&hello, a->in) || hello.job != c->assign->job) {
        drop_caller(a, "it does not belong to this group");
        return;
    }
    for (int i = 0; i < c->place.children; i++) {
        if (hello.rank != (uint32_t)c->place.child[i])
            continue;
        if (!send_hello(c, a->fd)) {
            drop_caller(a, strerror(errno));
            return;
        }
        weft_control_close(c->result->children[i]); /* a child that called again has given up the first call */
        c->result->children[i] = a->fd;
        a->fd = -1;
        return;
    }
    drop_caller(a, "it is no child of this rank");
}

/* ---- both ------------------------------------------------------------------------------------------ */

static bool complete(const connecting *c)
{
    for (int i = 0; i < c->place.children; i++) {
        if (c->result->children[i] < 0)
            return false;
    }
    return c->place.parent < 0 || c->call == CALL_DONE;
}

static weft_status timed_out(const connecting *c)
{
    if (c->place.parent >= 0 && c->call != CALL_DONE)
        return weft_fail(WEFT_ERR_TIMEOUT, "rank %u cannot connect to rank %u: %s", c->assign->rank, c->assign->parent,
                         c->reason[0] != 0 ? c->reason : "no answer");
    for (int i = 0; i < c->place.children; i++) {
        if (c->result->children[i] < 0)
            return weft_fail(WEFT_ERR_TIMEOUT, "rank %u was not called by rank %d", c->assign->rank, c->place.child[i]);
    }
    return weft_fail(WEFT_ERR_TIMEOUT, "connecting took too long");
}

/* The meeting's server speaks now only to call it off, or dies. */
static weft_status called_off(int meeting, int64_t deadline_ns)
{
    weft_frame_header header;
    uint8_t *payload;
    weft_status status = weft_meeting_receive(meeting, deadline_ns, &header, &payload);
    weft_free(payload);
    if (status == WEFT_OK)
        return header.type == WEFT_FRAME_RETRY ? WEFT_IN_PROGRESS :
               weft_fail(WEFT_ERR_PEER, "the meeting place sent an unexpected message");
    return status;
}

static void round_of_calls(connecting *c, struct pollfd *polled)
{
    int64_t now = weft_now_ns();
    if (polled[1].revents != 0)
        take_call(c);
    if (polled[2].fd >= 0 && polled[2].revents != 0)
        advance_call(c);
    else if ((c->call == CALL_CONNECTING || c->call == CALL_WAITING) && now >= c->call_until_ns)
        call_failed(c, strerror(ETIMEDOUT));
    for (int i = 0; i < CALLERS; i++) {
        caller *a = &c->callers[i];
        if (a->fd < 0 || a->fd != polled[3 + i].fd) /* new in this round */
            continue;
        if (polled[3 + i].revents != 0)
            advance_caller(c, a);
        else if (now >= a->drop_at_ns)
            drop_caller(a, "it did not say hello within 10 s");
    }
}

weft_status weft_meeting_connect_edges(int meeting, int listener, const weft_assign *assign, int64_t deadline_ns,
                                       weft_meeting_result *result)
{
    connecting tree = { .listener = listener, .assign = assign, .result = result }, *c = &tree;
    weft_tree_find((int)assign->rank, (int)assign->size, &c->place);
    c->parent_count = weft_control_sockaddrs(&assign->parent_listen, c->parent, PARENT_ADDRESSES);
    for (int i = 0; i < CALLERS; i++)
        c->callers[i].fd = -1;
    weft_status status = WEFT_OK;
    while (status == WEFT_OK && !complete(c)) {
        if (c->place.parent >= 0 && c->call == CALL_IDLE && weft_now_ns() >= c->call_until_ns)
            start_call(c);
        bool resting = c->place.parent >= 0 && c->call == CALL_IDLE;
        struct pollfd polled[3 + CALLERS] = { { .fd = meeting, .events = POLLIN }, { .fd = listener, .events = POLLIN } };
        polled[2].fd = c->call == CALL_CONNECTING || c->call == CALL_WAITING ? result->parent : -1;
        polled[2].events = c->call == CALL_CONNECTING ? POLLOUT : POLLIN;
        nfds_t used = 3; /* poll() takes no more entries than this process may have descriptors */
        for (int i = 0; i < CALLERS; i++) {
            polled[3 + i] = (struct pollfd){ .fd = c->callers[i].fd, .events = POLLIN };
            if (c->callers[i].fd >= 0)
                used = (nfds_t)(4 + i);
        }
        if (poll(polled, used, weft_control_poll_ms(deadline_ns, resting ? 20 : 500)) < 0 && errno != EINTR) {
            status = weft_fail_errno(WEFT_ERR_SYSTEM, "cannot wait for the neighbours in the tree");
            break;
        }
        round_of_calls(c, polled);
        if (polled[0].revents != 0)
            status = called_off(meeting, deadline_ns);
        else if (weft_now_ns() >= deadline_ns && !complete(c))
            status = timed_out(c);
    }
    for (int i = 0; i < CALLERS; i++)
        weft_control_close(c->callers[i].fd);
    return status;
}

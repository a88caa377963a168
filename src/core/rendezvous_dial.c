/* Finding the meeting place among several addresses and ports: one connection after the other is started without
 * waiting for the slow ones, and the first that gives our greeting wins. Nothing is sent to anybody before that. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/rendezvous.h"

enum { NEXT_AFTER_MS = 100 };

typedef enum { IDLE, CONNECTING, LISTENING, FAILED } attempt_state;
typedef struct attempt {
    attempt_state state;
    int fd;
    int64_t patience_end_ns;
    size_t have;
    uint8_t in[WEFT_GREETING_BYTES];
} attempt;

typedef struct dialing {
    const weft_meeting_places *places;
    int64_t patience_ms, greeting_patience_ms, deadline_ns;
    attempt attempts[WEFT_MEETING_PLACES];
    int started;
    int weight; /* of the reason: an alien answer says more than a refused connection */
    char *reason;
} dialing;

static void failed(dialing *d, int index, int weight, const char *why)
{
    char address[WEFT_ADDRESS_TEXT_BYTES];
    attempt *a = &d->attempts[index];
    weft_control_close(a->fd);
    a->fd = -1;
    a->state = FAILED;
    if (weight <= d->weight)
        return;
    d->weight = weight;
    snprintf(d->reason, WEFT_MEETING_TEXT_BYTES, "%s: %s",
             weft_control_address_text(&d->places->address[index], address), why);
}

static int64_t patience(const dialing *d, int64_t ms)
{
    int64_t end = weft_deadline_ns(ms);
    return end < d->deadline_ns ? end : d->deadline_ns;
}

static void start(dialing *d, int index)
{
    attempt *a = &d->attempts[index];
    const struct sockaddr_storage *address = &d->places->address[index];
    a->fd = weft_control_socket(address->ss_family);
    a->state = CONNECTING;
    a->patience_end_ns = patience(d, d->patience_ms);
    if (a->fd < 0 ||
        (connect(a->fd, (const struct sockaddr *)address, weft_control_sockaddr_bytes(address)) != 0 && errno != EINPROGRESS))
        failed(d, index, 1, strerror(errno));
}

/* A call to a port of this host that nobody listens on may get that very port as its own, and then meets itself. */
static bool is_own_end(int fd)
{
    struct sockaddr_storage own = { 0 }, other = { 0 };
    socklen_t own_bytes = sizeof own, other_bytes = sizeof other;
    return getsockname(fd, (struct sockaddr *)&own, &own_bytes) == 0 &&
           getpeername(fd, (struct sockaddr *)&other, &other_bytes) == 0 && own_bytes == other_bytes &&
           memcmp(&own, &other, own_bytes) == 0;
}

/* True when the greeting is there and ours. */
static bool advance(dialing *d, int index)
{
    attempt *a = &d->attempts[index];
    int error = 0;
    socklen_t bytes = sizeof error;
    if (a->state == CONNECTING) {
        if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
            failed(d, index, 1, strerror(error != 0 ? error : errno));
            return false;
        }
        if (is_own_end(a->fd)) {
            failed(d, index, 1, strerror(ECONNREFUSED));
            return false;
        }
        a->state = LISTENING;
        a->patience_end_ns = patience(d, d->greeting_patience_ms);
    }
    ssize_t n = recv(a->fd, a->in + a->have, WEFT_GREETING_BYTES - a->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        failed(d, index, 2, n < 0 ? strerror(errno) : "it closed the connection");
        return false;
    }
    a->have += (size_t)n;
    if (a->have < WEFT_GREETING_BYTES)
        return false;
    weft_greeting greeting;
    if (!weft_greeting_decode(&greeting, a->in))
        failed(d, index, 3, "another service than weft answers there");
    else if (greeting.token != d->places->token)
        failed(d, index, 4, "another group meets there (other token)");
    else
        return true;
    return false;
}

/* Starts what is due; returns how many are under way. */
static int start_due(dialing *d, int64_t *next_ns)
{
    int under_way = 0;
    for (int i = 0; i < d->started; i++)
        under_way += d->attempts[i].state != FAILED;
    while (d->started < d->places->count && (under_way == 0 || weft_now_ns() >= *next_ns)) {
        start(d, d->started);
        under_way += d->attempts[d->started++].state != FAILED;
        *next_ns = weft_deadline_ns(NEXT_AFTER_MS);
    }
    return under_way;
}

static void give_up_slow(dialing *d, int64_t now)
{
    for (int i = 0; i < d->started; i++) {
        attempt *a = &d->attempts[i];
        if (a->state == FAILED || a->patience_end_ns == WEFT_NEVER || now < a->patience_end_ns)
            continue;
        failed(d, i, a->state == CONNECTING ? 1 : 3, a->state == CONNECTING ? strerror(ETIMEDOUT) :
               "somebody listens there but does not greet as weft does");
    }
}

int weft_meeting_dial(const weft_meeting_places *places, int64_t deadline_ns, int64_t patience_ms,
                      int64_t greeting_patience_ms, char reason[WEFT_MEETING_TEXT_BYTES])
{
    int winner = -1;
    int64_t next_ns = 0;
    dialing dialed = { .places = places, .patience_ms = patience_ms, .greeting_patience_ms = greeting_patience_ms,
                       .deadline_ns = deadline_ns, .reason = reason }, *d = &dialed;
    snprintf(reason, WEFT_MEETING_TEXT_BYTES, "no address");
    while (winner < 0 && start_due(d, &next_ns) != 0) {
        struct pollfd polled[WEFT_MEETING_PLACES];
        int index[WEFT_MEETING_PLACES];
        nfds_t n = 0;
        int64_t wake_ns = d->started < places->count ? next_ns : WEFT_NEVER;
        for (int i = 0; i < d->started; i++) {
            const attempt *a = &d->attempts[i];
            if (a->state == FAILED)
                continue;
            index[n] = i;
            polled[n++] = (struct pollfd){ .fd = a->fd, .events = a->state == CONNECTING ? POLLOUT : POLLIN };
            if (a->patience_end_ns < wake_ns)
                wake_ns = a->patience_end_ns;
        }
        poll(polled, n, weft_control_poll_ms(wake_ns, 1000));
        for (nfds_t i = 0; i < n && winner < 0; i++) {
            if (polled[i].revents != 0 && advance(d, index[i]))
                winner = index[i];
        }
        give_up_slow(d, weft_now_ns());
    }
    int fd = -1;
    for (int i = 0; i < d->started; i++) {
        if (i == winner)
            fd = d->attempts[i].fd;
        else
            weft_control_close(d->attempts[i].fd);
    }
    return fd;
}

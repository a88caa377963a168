/* The connecting side: sockets over the rails, the hello, its answer, repetition and giving up.
 *
 * When both ranks dial each other at once the lower one decides: it answers BUSY to the other's hello if the
 * other can have seen its own, else it gives up its own dialling. The higher one always accepts (listener.c).
 */
#define _GNU_SOURCE
#include "transport/tcp/tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    RTO_MAX_MS_OPTION = 44, /* TCP_RTO_MAX_MS of Linux 6.15 */
    LOCAL_SEND_BYTES = 256 * 1024, /* the kernel doubles it */
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 2000,
    TRIES_MIN = 5,   /* however late it is: the time may have passed because nobody called progress() */
    REDIAL_MS = 2000 /* after BUSY, if the peer's connection does not come */
};

static void set_option(int fd, int level, int option, int value)
{
    /* An option that the kernel does not have costs speed or a later notice, not correctness. */
    if (setsockopt(fd, level, option, &value, sizeof value) != 0)
        weft_log(WEFT_LOG_DEBUG, "tcp: socket option %d/%d = %d: %s", level, option, value, strerror(errno));
}

/* Keepalive notices an idle peer's dead host. TCP_USER_TIMEOUT would be the way for one with data under way,
 * but the kernel also counts against it the time in which a living peer does not read: a rank that computes
 * for longer than that would be taken for dead. weft_tcp_liveness_start() has the acknowledgements looked at
 * instead. */
void weft_tcp_tune(tcp_transport *t, int fd)
{
    int64_t dead_s = (t->config.dead_peer_ms + 999) / 1000;
    int idle_s = dead_s / 2 > 0 ? (int)(dead_s / 2) : 1;
    int interval_s = dead_s / 6 > 0 ? (int)(dead_s / 6) : 1;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_option(fd, IPPROTO_TCP, RTO_MAX_MS_OPTION, idle_s * 1000); /* how rarely a closed window is probed */
}

/* Whether both ends are of this network stack: the kernel gives a connection to an own address that address. */
static bool is_within_host(const tcp_socket *s)
{
    weft_tcp_sockaddr local;
    socklen_t bytes = sizeof local;
    memset(&local, 0, sizeof local);
    if (getsockname(s->source.fd, &local.any, &bytes) != 0 || local.any.sa_family != s->remote.any.sa_family)
        return false;
    if (local.any.sa_family == AF_INET6)
        return memcmp(&local.v6.sin6_addr, &s->remote.v6.sin6_addr, sizeof local.v6.sin6_addr) == 0;
    return local.v4.sin_addr.s_addr == s->remote.v4.sin_addr.s_addr;
}

/* Between hosts the kernel's tuning of the buffers knows best. Within one it lets megabytes pile up, which leave
 * the cache before they are read: 1 MiB slices cost four times the CPU time that they cost like this. And what paces (bbr) takes
 * the turns of two processes for a wire's speed, so that connections stay at half of what they could. Reno does not, and every
 * process may choose it; where ranks share processors it is the slower one at 64 KB. */
void weft_tcp_tune_connected(const tcp_socket *s)
{
    static const char reno[] = "reno";
    if (!is_within_host(s))
        return;
    set_option(s->source.fd, SOL_SOCKET, SO_SNDBUF, LOCAL_SEND_BYTES);
    if (s->link->transport->config.host_ranks <= sysconf(_SC_NPROCESSORS_ONLN) &&
        setsockopt(s->source.fd, IPPROTO_TCP, TCP_CONGESTION, reno, sizeof reno - 1) != 0)
        weft_log(WEFT_LOG_DEBUG, "tcp: congestion control %s: %s", reno, strerror(errno));
}

bool weft_tcp_is_dialling(const tcp_socket *s)
{
    return s && s->rail >= 0 && (s->state == TCP_RETRYING || s->state == TCP_CONNECTING ||
                                 s->state == TCP_GREETING || s->state == TCP_AWAITING);
}

/* The socket is given up. The link fails if that was the last hope. */
static void give_up(tcp_socket *s, weft_status status, const char *why)
{
    tcp_link *link = s->link;
    char text[WEFT_TCP_ADDRESS_TEXT + 24];
    weft_tcp_socket_text(s, text);
    weft_tcp_socket_close(s, TCP_CLOSED);
    bool hope = link->up_count > 0;
    for (int i = 0; i < link->socket_count; i++)
        hope |= weft_tcp_is_dialling(link->sockets[i]);
    if (hope) {
        weft_log(WEFT_LOG_WARN, "tcp: %s: %s; going on without this connection", text, why);
        weft_tcp_link_check_gap(link);
    } else {
        weft_tcp_link_fail(link, status, "cannot connect to %s: %s", text, why);
    }
}

static void try_later(tcp_socket *s, int64_t now)
{
    int64_t wait_ms = RETRY_MIN_MS << (s->tries < 10 ? s->tries : 10);
    s->tries++;
    weft_tcp_socket_close(s, TCP_RETRYING);
    s->retry_ns = now + (wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS) * WEFT_NS_PER_MS;
    weft_tcp_timer_want(s->link->transport, s->retry_ns);
}

/* An attempt failed (error 0: the peer closed it before it answered, as it does with a connection that was
 * silent for too long, because this process did not progress). */
static void attempt_failed(tcp_socket *s, int error)
{
    int64_t now = weft_now_ns();
    bool final = error == ECONNREFUSED || error == ENETUNREACH || error == EACCES || error == EPERM ||
                 error == EINVAL || error == EAFNOSUPPORT;
    if (final || (now >= s->link->deadline_ns && s->tries >= TRIES_MIN))
        give_up(s, WEFT_ERR_PEER, error ? strerror(error) : "it closes the connection without an answer");
    else
        try_later(s, now);
}

/* Several rails: bound to the rail's interface, because routing looks at the destination only. */
static void bind_to_rail(const weft_tcp_rail *rail, int fd)
{
    if (!rail->bound)
        return;
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, rail->interface, (socklen_t)strlen(rail->interface)) !=
            0 ||
        bind(fd, &rail->local.any, weft_tcp_address_bytes(&rail->local)) != 0)
        weft_log(WEFT_LOG_DEBUG, "tcp: cannot bind to %s: %s", rail->interface, strerror(errno));
}

static void send_hello(tcp_socket *s)
{
    while (s->greeting_sent < s->greeting_bytes) {
        struct iovec part = { s->greeting + s->greeting_sent, s->greeting_bytes - s->greeting_sent };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
        ssize_t n = weft_tcp_sendmsg(s->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            attempt_failed(s, errno);
            return;
        }
        s->greeting_sent += (size_t)n;
    }
    s->state = TCP_AWAITING;
    s->unproven = true;
    weft_tcp_liveness_start(s->link->transport);
    weft_tcp_interest(s->link->transport, &s->source, EPOLLIN);
}

static void begin_hello(tcp_socket *s)
{
    tcp_link *link = s->link;
    const weft_transport_config *config = &link->transport->config;
    weft_tcp_hello hello = {
        .version = WEFT_TCP_VERSION, .job = config->job, .rank = (uint32_t)config->rank,
        .target = (uint32_t)link->peer, .set = link->set, .index = (uint16_t)s->index,
        .count = (uint16_t)link->wanted,
    };
    weft_tcp_hello_encode(&hello, s->greeting);
    s->greeting_bytes = WEFT_TCP_HELLO_BYTES;
    s->greeting_sent = 0;
    s->stage_from = s->stage_to = 0;
    s->state = TCP_GREETING;
    send_hello(s);
}

static weft_status open_socket(tcp_socket *s, const weft_tcp_rail *rail)
{
    tcp_transport *t = s->link->transport;
    int fd = weft_tcp_socket(rail->remote.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        return weft_fail_errno(WEFT_ERR_SYSTEM, "no descriptor left for a socket to rank %d; raise the limit "
                               "(ulimit -n)", s->link->peer);
    if (fd < 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot open a socket to rank %d", s->link->peer);
    weft_tcp_tune(t, fd);
    bind_to_rail(rail, fd);
    s->source.fd = fd;
    weft_status status = weft_tcp_watch(t, &s->source, EPOLLIN | EPOLLOUT);
    if (status != WEFT_OK) {
        close(fd);
        s->source.fd = -1;
    }
    return status;
}

static weft_status start_attempt(tcp_socket *s)
{
    const weft_tcp_rail *rail = &s->link->rails[s->rail];
    s->remote = rail->remote;
    weft_status status = open_socket(s, rail);
    if (status != WEFT_OK)
        return status;
    s->state = TCP_CONNECTING;
    s->link->transport->unsettled++;
    int result = weft_tcp_connect(s->source.fd, &s->remote.any, weft_tcp_address_bytes(&s->remote));
    if (result == 0)
        begin_hello(s);
    else if (errno != EINPROGRESS && errno != EINTR)
        attempt_failed(s, errno);
    return WEFT_OK;
}

weft_status weft_tcp_dial(tcp_link *link)
{
    tcp_transport *t = link->transport;
    weft_status status = WEFT_OK;
    link->set = weft_random64();
    link->own_set = true;
    link->expected = link->wanted;
    link->state = TCP_DIALLING;
    link->deadline_ns = weft_now_ns() + t->config.dead_peer_ms * WEFT_NS_PER_MS;
    weft_tcp_timer_want(t, link->deadline_ns);
    /* All are there before the first is tried: one that fails must not look like the last hope. */
    int count = 0;
    for (tcp_socket *s; count < link->wanted && status == WEFT_OK; count++) {
        status = weft_tcp_link_socket(link, count, &s);
        if (status != WEFT_OK)
            break;
        s->rail = count % link->rail_count;
        s->tries = 0;
        s->state = TCP_RETRYING;
        s->retry_ns = link->deadline_ns;
    }
    int started = 0;
    for (; started < count && link->state == TCP_DIALLING; started++) {
        status = start_attempt(link->sockets[started]);
        if (status != WEFT_OK)
            break;
    }
    for (int i = started; i < count; i++)
        link->sockets[i]->state = TCP_CLOSED;
    if (started == 0 && status != WEFT_OK) {
        link->state = TCP_IDLE;
        link->own_set = false;
        link->deadline_ns = WEFT_NEVER;
        return status;
    }
    return WEFT_OK;
}

bool weft_tcp_dial_unseen(const tcp_link *link)
{
    for (int i = 0; i < link->socket_count; i++) {
        const tcp_socket *s = link->sockets[i];
        if (s && (s->state == TCP_UP || s->state == TCP_AWAITING ||
                  (s->state == TCP_GREETING && s->greeting_sent > 0)))
            return false;
    }
    return true;
}

void weft_tcp_dial_abandon(tcp_link *link)
{
    for (int i = 0; i < link->socket_count; i++) {
        if (weft_tcp_is_dialling(link->sockets[i]))
            weft_tcp_socket_close(link->sockets[i], TCP_CLOSED);
    }
    link->own_set = false;
    link->deadline_ns = WEFT_NEVER;
}

static weft_status refusal_status(uint32_t answer)
{
    return answer == WEFT_TCP_WRONG_VERSION ? WEFT_ERR_VERSION : WEFT_ERR_PEER;
}

static void take_answer(tcp_socket *s)
{
    tcp_link *link = s->link;
    tcp_transport *t = link->transport;
    weft_tcp_welcome welcome;
    if (weft_tcp_welcome_decode(s->stage, &welcome) != WEFT_OK) {
        give_up(s, WEFT_ERR_PEER, "what listens there does not speak weft's protocol");
        return;
    }
    if (welcome.answer == WEFT_TCP_BUSY) {
        weft_tcp_dial_abandon(link);
        if (link->state == TCP_DIALLING) {
            link->state = TCP_AWAITED;
            link->deadline_ns = weft_now_ns() + (int64_t)REDIAL_MS * WEFT_NS_PER_MS;
            weft_tcp_timer_want(t, link->deadline_ns);
        }
        return;
    }
    if (welcome.answer != WEFT_TCP_ACCEPTED || welcome.rank != (uint32_t)link->peer) {
        give_up(s, refusal_status(welcome.answer),
                weft_tcp_answer_text(welcome.answer ? welcome.answer : WEFT_TCP_WRONG_RANK));
        return;
    }
    t->unsettled--;
    weft_tcp_link_up(s);
    weft_tcp_link_flush(link);
}

static void read_answer(tcp_socket *s)
{
    while (s->stage_to < WEFT_TCP_WELCOME_BYTES) {
        struct iovec part = { s->stage + s->stage_to, WEFT_TCP_WELCOME_BYTES - s->stage_to };
        ssize_t n = weft_tcp_readv(s->source.fd, &part, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            /* A reset here is how a peer looks that dropped the connection as silent: as good as closed. */
            attempt_failed(s, n == 0 || errno == ECONNRESET ? 0 : errno);
            return;
        }
        s->stage_to += (size_t)n;
    }
    take_answer(s);
}

void weft_tcp_dial_event(tcp_socket *s, uint32_t events)
{
    if (s->state == TCP_CONNECTING) {
        int error = 0;
        socklen_t bytes = sizeof error;
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        getsockopt(s->source.fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
        if (error)
            attempt_failed(s, error);
        else
            begin_hello(s);
    } else if (s->state == TCP_GREETING) {
        send_hello(s);
    } else if (s->state == TCP_AWAITING) {
        read_answer(s);
    }
}

static int64_t socket_timer(tcp_socket *s, int64_t now)
{
    if (s->state == TCP_CONNECTING && now >= s->link->deadline_ns) {
        /* It may be connected: the time may have passed because nobody called progress(). */
        struct pollfd ready = { s->source.fd, POLLOUT, 0 };
        if (poll(&ready, 1, 0) > 0)
            weft_tcp_dial_event(s, EPOLLOUT);
        else
            give_up(s, WEFT_ERR_PEER, "no answer from that address");
    } else if (s->state == TCP_RETRYING && now >= s->retry_ns) {
        if (start_attempt(s) != WEFT_OK)
            give_up(s, WEFT_ERR_SYSTEM, weft_last_error());
    }
    return s->state == TCP_RETRYING ? s->retry_ns : WEFT_NEVER;
}

int64_t weft_tcp_dial_timer(tcp_link *link, int64_t now)
{
    int64_t next = WEFT_NEVER;
    if (link->state == TCP_AWAITED && now >= link->deadline_ns) {
        weft_status status = weft_tcp_dial(link);
        if (status != WEFT_OK)
            weft_tcp_link_fail(link, status, "%s", weft_last_error());
    }
    for (int i = 0; i < link->socket_count && link->state != TCP_FAILED; i++) {
        tcp_socket *s = link->sockets[i];
        if (weft_tcp_is_dialling(s)) {
            int64_t when = socket_timer(s, now);
            next = when < next ? when : next;
        }
    }
    bool waiting = link->state == TCP_AWAITED;
    for (int i = 0; i < link->socket_count && !waiting; i++)
        waiting = link->sockets[i] && link->sockets[i]->state == TCP_CONNECTING;
    if (waiting && link->deadline_ns < next)
        next = link->deadline_ns;
    return next;
}

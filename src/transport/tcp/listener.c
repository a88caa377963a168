/* Listening sockets and strangers: connections that have not yet said who they are. Whoever says nothing,
 * says it too slowly, or says something else than a rank of this job would is dropped and logged. */
#define _GNU_SOURCE
#include "transport/tcp/tcp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,             /* the kernel takes what net.core.somaxconn allows */
    FREE_PORT_TRIES = 64,
    ACCEPTS_PER_ROUND = 64,
    ACCEPT_PAUSE_MS = 500,      /* without descriptors: epoll would report the waiting connection for ever */
    REFUSALS_LOGGED = 20        /* as warnings; then only for those who ask for it */
};

/* ---- listening ---- */

/* A listening socket on that address and port, -1 and errno. Each port needs a socket of its own: one that is
 * bound cannot be bound again, and with SO_REUSEADDR it may be listen() that says that a port is in use. */
static int listen_on(const weft_tcp_sockaddr *address, bool reuse)
{
    int on = 1;
    int fd = weft_tcp_socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (reuse) /* what a finished job has left in TIME_WAIT does not count */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, &address->any, weft_tcp_address_bytes(address)) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static weft_status listen_in_range(weft_tcp_sockaddr *address, uint16_t low, uint16_t high, int *fd)
{
    char text[WEFT_TCP_ADDRESS_TEXT];
    uint32_t ports = (uint32_t)high - low + 1;
    /* Ranks of one host would all try the same ports in the same order. */
    uint32_t start = low ? (uint32_t)(weft_random64() % ports) : 0;
    for (uint32_t i = 0; i < ports; i++) {
        weft_tcp_set_port(address, (uint16_t)(low + (start + i) % ports));
        *fd = listen_on(address, low != 0);
        /* Every free port may be in TIME_WAIT; those can be taken, though two sockets may be dealt the same one. */
        for (int tries = 0; *fd < 0 && errno == EADDRINUSE && low == 0 && tries < FREE_PORT_TRIES; tries++)
            *fd = listen_on(address, true);
        if (*fd >= 0)
            return WEFT_OK;
        if (errno != EADDRINUSE && errno != EACCES)
            break;
    }
    if (errno == EMFILE || errno == ENFILE)
        return weft_fail_errno(WEFT_ERR_SYSTEM,
                               "no descriptor left to listen with; raise the limit (ulimit -n)");
    if (low && errno == EADDRINUSE)
        return weft_fail(WEFT_ERR_SYSTEM,
                         "every port of WEFT_PORT_RANGE %u-%u is in use on this host; it has to "
                         "have at least one per rank and address",
                         low, high);
    return weft_fail_errno(errno == EADDRNOTAVAIL ? WEFT_ERR_UNSUPPORTED : WEFT_ERR_SYSTEM, "cannot listen on %s",
                           weft_tcp_address_text(address, text));
}

static weft_status open_listener(tcp_transport *t, const weft_tcp_interface *interface, uint16_t low,
                                 uint16_t high, weft_tcp_sockaddr *address)
{
    tcp_listener *listener = &t->listeners[t->listener_count];
    socklen_t bytes = sizeof *address;
    *address = interface->address;
    listener->source.kind = TCP_LISTENER;
    weft_status status = listen_in_range(address, low, high, &listener->source.fd);
    if (status != WEFT_OK)
        return status;
    if (getsockname(listener->source.fd, &address->any, &bytes) != 0)
        status = weft_fail_errno(WEFT_ERR_SYSTEM, "cannot learn the port that was bound");
    if (status == WEFT_OK)
        status = weft_tcp_watch(t, &listener->source, EPOLLIN);
    if (status != WEFT_OK)
        close(listener->source.fd);
    else
        t->listener_count++;
    return status;
}

static int interface_number(const weft_tcp_addresses *addresses, const char *name)
{
    int next = 0;
    for (int i = 0; i < addresses->count; i++) {
        if (strcmp(addresses->entries[i].name, name) == 0)
            return addresses->entries[i].interface;
        if (addresses->entries[i].interface >= next)
            next = addresses->entries[i].interface + 1;
    }
    return next;
}

weft_status weft_tcp_listen(tcp_transport *t, const weft_tcp_interface *interfaces, int count)
{
    uint16_t low, high;
    weft_status status = weft_tcp_port_range_parse(t->config.port_range, &low, &high);
    if (status != WEFT_OK)
        return status;
    for (int i = 0; i < count; i++) {
        weft_tcp_entry *entry = &t->addresses.entries[t->addresses.count];
        const weft_tcp_interface *from = &interfaces[i];
        int number = interface_number(&t->addresses, from->name);
        if (number >= WEFT_TCP_INTERFACES_MAX)
            continue;
        status = open_listener(t, from, low, high, &entry->address);
        if (status == WEFT_ERR_UNSUPPORTED) { /* an IPv6 address that is still tentative, say; others may do */
            weft_log(WEFT_LOG_INFO, "tcp: %s", weft_last_error());
            continue;
        }
        if (status != WEFT_OK)
            return status;
        memcpy(entry->name, from->name, sizeof entry->name);
        entry->interface = number;
        entry->prefix = from->prefix;
        entry->loopback = from->loopback;
        entry->link_local = from->address.any.sa_family == AF_INET6 &&
                            IN6_IS_ADDR_LINKLOCAL(&from->address.v6.sin6_addr);
        entry->speed_Mbps = from->speed_Mbps;
        entry->scope = from->index;
        t->addresses.count++;
    }
    return t->addresses.count > 0 ? WEFT_OK : status;
}

/* ---- strangers ---- */

static void drop(tcp_transport *t, tcp_stranger *stranger, weft_log_level level, const char *why)
{
    char text[WEFT_TCP_ADDRESS_TEXT];
    if (level == WEFT_LOG_WARN && ++t->strangers_refused > REFUSALS_LOGGED)
        level = WEFT_LOG_INFO;
    weft_log(level, "tcp: connection from %s dropped: %s", weft_tcp_address_text(&stranger->from, text), why);
    weft_tcp_unwatch(t, &stranger->source);
    t->stranger_count--;
}

/* Tells why, if the socket takes it, and drops. */
static void refuse(tcp_transport *t, tcp_stranger *stranger, weft_tcp_answer answer, const char *why)
{
    unsigned char bytes[WEFT_TCP_WELCOME_BYTES];
    weft_tcp_welcome welcome = { WEFT_TCP_VERSION, answer, (uint32_t)t->config.rank };
    weft_tcp_welcome_encode(&welcome, bytes);
    struct iovec part = { bytes, sizeof bytes };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    weft_tcp_sendmsg(stranger->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    drop(t, stranger, answer == WEFT_TCP_BUSY ? WEFT_LOG_DEBUG : WEFT_LOG_WARN, why);
}

/* Whether a hello of `link->peer` may open or join the link; else what to answer. */
static weft_tcp_answer judge(tcp_link *link, const weft_tcp_hello *hello)
{
    const tcp_socket *s = link->sockets[hello->index];
    if (link->state == TCP_OPEN && !link->own_set && link->set == hello->set) {
        if (!link->ending && (!s || s->state == TCP_CLOSED))
            return WEFT_TCP_ACCEPTED;
        /* It never heard the welcome, but slices may have followed that. */
        weft_tcp_link_fail(link, WEFT_ERR_PEER, "rank %d lost a connection before its first slice", link->peer);
    }
    if (link->state == TCP_FAILED)
        return WEFT_TCP_BROKEN;
    if (link->state == TCP_OPEN)
        return link->own_set && link->transport->config.rank < link->peer ? WEFT_TCP_BUSY : WEFT_TCP_DUPLICATE;
    if (link->state == TCP_DIALLING && link->transport->config.rank < link->peer &&
        !weft_tcp_dial_unseen(link))
        return WEFT_TCP_BUSY;
    return WEFT_TCP_ACCEPTED;
}

/* The stranger's descriptor becomes a socket of the link. */
static void adopt(tcp_transport *t, tcp_stranger *stranger, tcp_link *link, const weft_tcp_hello *hello)
{
    tcp_socket *s;
    if (link->state != TCP_OPEN) {
        weft_tcp_dial_abandon(link);
        link->set = hello->set;
        link->expected = hello->count;
    }
    if (weft_tcp_link_socket(link, hello->index, &s) != WEFT_OK) {
        weft_tcp_link_fail(link, WEFT_ERR_MEMORY, "%s", weft_last_error());
        drop(t, stranger, WEFT_LOG_WARN, "no memory for it");
        return;
    }
    weft_tcp_welcome welcome = { WEFT_TCP_VERSION, WEFT_TCP_ACCEPTED, (uint32_t)t->config.rank };
    weft_tcp_welcome_encode(&welcome, s->greeting);
    s->greeting_bytes = WEFT_TCP_WELCOME_BYTES;
    s->greeting_sent = 0;
    s->rail = -1;
    s->remote = stranger->from;
    s->source.fd = stranger->source.fd;
    s->source.interest = stranger->source.interest;
    stranger->source.fd = -1;
    t->stranger_count--;
    struct epoll_event event = { .events = s->source.interest, .data.ptr = &s->source };
    if (epoll_ctl(t->epoll, EPOLL_CTL_MOD, s->source.fd, &event) != 0) {
        weft_tcp_link_fail(link, WEFT_ERR_SYSTEM, "cannot watch the connection of rank %d: %s", link->peer,
                           strerror(errno));
        return;
    }
    weft_tcp_link_up(s);
    weft_tcp_link_flush(link);
}

static void introduce(tcp_transport *t, tcp_stranger *stranger)
{
    const weft_transport_config *config = &t->config;
    weft_tcp_hello hello;
    tcp_link *link;
    if (weft_tcp_hello_decode(stranger->hello, &hello) != WEFT_OK) {
        drop(t, stranger, WEFT_LOG_WARN, weft_last_error());
    } else if (hello.version != WEFT_TCP_VERSION) {
        refuse(t, stranger, WEFT_TCP_WRONG_VERSION, "it speaks another version of weft's protocol");
    } else if (hello.job != config->job) {
        refuse(t, stranger, WEFT_TCP_WRONG_JOB, "it belongs to another job");
    } else if (hello.target != (uint32_t)config->rank || hello.rank >= (uint32_t)config->ranks ||
               hello.rank == (uint32_t)config->rank) {
        refuse(t, stranger, WEFT_TCP_WRONG_RANK, "it looks for another rank, or says a rank that cannot be");
    } else if (weft_tcp_link_get(t, (int)hello.rank, &link) != WEFT_OK) {
        drop(t, stranger, WEFT_LOG_WARN, weft_last_error());
    } else {
        weft_tcp_answer answer = judge(link, &hello);
        if (answer == WEFT_TCP_ACCEPTED)
            adopt(t, stranger, link, &hello);
        else
            refuse(t, stranger, answer,
                   answer == WEFT_TCP_BUSY ? "this rank's own connection to it is used"
                                           : "a connection of that rank is not expected");
    }
}

void weft_tcp_stranger_event(tcp_transport *t, tcp_stranger *stranger)
{
    while (stranger->got < sizeof stranger->hello) {
        struct iovec part = { stranger->hello + stranger->got, sizeof stranger->hello - stranger->got };
        ssize_t n = weft_tcp_readv(stranger->source.fd, &part, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            drop(t, stranger, WEFT_LOG_INFO, "it went before it had said who it is");
            return;
        }
        stranger->got += (size_t)n;
        if (!weft_tcp_hello_begins(stranger->hello, stranger->got)) {
            drop(t, stranger, WEFT_LOG_WARN, "it does not speak weft's protocol");
            return;
        }
    }
    introduce(t, stranger);
}

void weft_tcp_strangers_expire(tcp_transport *t, int64_t now)
{
    for (int i = 0; i < t->strangers_max && t->stranger_count > 0; i++) {
        tcp_stranger *stranger = &t->strangers[i];
        if (stranger->source.fd >= 0 && now >= stranger->deadline_ns)
            weft_tcp_stranger_event(t, stranger); /* it may have spoken when nobody called progress() */
        if (stranger->source.fd < 0)
            continue;
        if (now >= stranger->deadline_ns)
            drop(t, stranger, WEFT_LOG_WARN, "it did not say who it is in time");
        else
            weft_tcp_timer_want(t, stranger->deadline_ns);
    }
}

/* ---- accepting ---- */

static tcp_stranger *free_slot(tcp_transport *t)
{
    tcp_stranger *oldest = NULL;
    for (int i = 0; i < t->strangers_max; i++) {
        tcp_stranger *stranger = &t->strangers[i];
        if (stranger->source.fd < 0)
            return stranger;
        if (!oldest || stranger->deadline_ns < oldest->deadline_ns)
            oldest = stranger;
    }
    drop(t, oldest, WEFT_LOG_WARN, "too many connections that do not say who they are, this is the oldest");
    return oldest;
}

/* The accept queue cannot be emptied, so it must not be watched for a while. */
static void pause_accepting(tcp_transport *t)
{
    if (t->accept_again_ns == 0)
        weft_log(WEFT_LOG_WARN,
                 "tcp: cannot accept a connection: %s; trying again every %d ms. If it is a limit on "
                 "descriptors, raise it (ulimit -n)",
                 strerror(errno), ACCEPT_PAUSE_MS);
    for (int i = 0; i < t->listener_count; i++)
        weft_tcp_interest(t, &t->listeners[i].source, 0);
    t->accept_again_ns = weft_now_ns() + (int64_t)ACCEPT_PAUSE_MS * WEFT_NS_PER_MS;
    weft_tcp_timer_want(t, t->accept_again_ns);
}

void weft_tcp_accept_resume(tcp_transport *t)
{
    for (int i = 0; i < t->listener_count; i++)
        weft_tcp_interest(t, &t->listeners[i].source, EPOLLIN);
    t->accept_again_ns = 0;
}

void weft_tcp_listen_end(tcp_transport *t)
{
    if (t->stranger_count > 0)
        return; /* later, when they are gone */
    for (int i = 0; i < t->listener_count; i++)
        weft_tcp_unwatch(t, &t->listeners[i].source);
    t->listener_count = 0;
    t->accept_again_ns = 0;
    t->may_rest = false;
    weft_free(t->strangers);
    t->strangers = NULL;
}

static void welcome_stranger(tcp_transport *t, int fd, const weft_tcp_sockaddr *from)
{
    tcp_stranger *stranger = free_slot(t);
    memset(stranger, 0, sizeof *stranger);
    stranger->source.kind = TCP_STRANGER;
    stranger->source.fd = fd;
    stranger->from = *from;
    stranger->deadline_ns = weft_now_ns() + t->config.dead_peer_ms * WEFT_NS_PER_MS;
    weft_tcp_tune(t, fd);
    if (weft_tcp_watch(t, &stranger->source, EPOLLIN) != WEFT_OK) {
        close(fd);
        stranger->source.fd = -1;
        return;
    }
    t->stranger_count++;
    weft_tcp_timer_want(t, stranger->deadline_ns);
    weft_tcp_stranger_event(t, stranger); /* a rank's hello is mostly there already */
}

void weft_tcp_accept_all(tcp_transport *t, tcp_listener *listener)
{
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        weft_tcp_sockaddr from;
        socklen_t bytes = sizeof from;
        memset(&from, 0, sizeof from);
        int fd = weft_tcp_accept(listener->source.fd, &from.any, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome_stranger(t, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(t);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } /* else that one connection is gone already (ECONNABORTED and network errors): on to the next */
    }
}

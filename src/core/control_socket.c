/* Descriptors of the control plane. Every one is entered in a table under a lock that fork takes too, so that no
 * child can inherit one unseen: a copy in a child would keep a dead parent's connections open. */
#define _GNU_SOURCE 1
#include "core/control_socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;
enum { FIRST_WORDS = 64, MORE_WORDS = 16 };
static uint64_t first_table[FIRST_WORDS]; /* so that a process without memory can still call the others */
static uint64_t *table = first_table;     /* bit per descriptor */
static size_t table_words = FIRST_WORDS;

static void before_fork(void) { pthread_mutex_lock(&table_lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&table_lock); }

static void after_fork_child(void)
{
    for (size_t word = 0; word < table_words; word++) {
        for (uint64_t bits = table[word]; bits != 0; bits &= bits - 1)
            close((int)(word * 64) + __builtin_ctzll(bits));
        table[word] = 0;
    }
    pthread_mutex_unlock(&table_lock);
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* With table_lock held. Closes fd if it cannot be entered. */
static int enter(int fd)
{
    if (fd < 0)
        return -1;
    size_t word = (size_t)fd / 64;
    if (word >= table_words) {
        size_t words = word + MORE_WORDS;
        uint64_t *more = weft_alloc_array(words, sizeof *table);
        if (more == NULL) {
            close(fd);
            errno = ENOMEM;
            return -1;
        }
        memcpy(more, table, table_words * sizeof *table);
        if (table != first_table)
            weft_free(table);
        table = more;
        table_words = words;
    }
    table[word] |= 1ull << (fd % 64);
    return fd;
}

static void lock_table(void)
{
    pthread_once(&table_once, install_fork_handlers);
    pthread_mutex_lock(&table_lock);
}

static int unlock_table(int fd)
{
    int error = errno;
    pthread_mutex_unlock(&table_lock);
    errno = error;
    return fd;
}

int weft_control_socket(int family)
{
    lock_table();
    return unlock_table(enter(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
}

int weft_control_accept(int listener, struct sockaddr_storage *peer)
{
    socklen_t bytes = sizeof *peer;
    memset(peer, 0, sizeof *peer);
    lock_table();
    int fd = enter(accept4(listener, (struct sockaddr *)peer, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
    unlock_table(fd);
    if (fd >= 0)
        weft_control_unmap(peer);
    return fd;
}

int weft_control_epoll(void)
{
    lock_table();
    return unlock_table(enter(epoll_create1(EPOLL_CLOEXEC)));
}

int weft_control_eventfd(void)
{
    lock_table();
    return unlock_table(enter(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

void weft_control_close(int fd)
{
    if (fd < 0)
        return;
    lock_table();
    if ((size_t)fd / 64 < table_words)
        table[fd / 64] &= ~(1ull << (fd % 64));
    close(fd);
    unlock_table(0);
}

weft_status weft_control_thread_start(pthread_t *thread, const char *what, void *(*function)(void *), void *argument)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = error;
    if (error == EAGAIN)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot start %s: no more threads or no more memory for them (ulimit -u, ulimit "
                               "-v, pids.max of the cgroup)", what);
    return error == 0 ? WEFT_OK : weft_fail_errno(WEFT_ERR_SYSTEM, "cannot start %s", what);
}

void weft_control_wake(int event)
{
    uint64_t one = 1;
    ssize_t written = write(event, &one, sizeof one); /* fails only when it is awake already */
    (void)written;
}

/* ---- sandboxes --------------------------------------------------------------------------------------- */

static bool refused(long result)
{
    return result < 0 && (errno == ENOSYS || errno == EPERM || errno == EACCES);
}

/* Each call that ranks meet by, on a socket that leads nowhere: permitted, it fails or does nothing. NULL: all of them are. */
static const char *refused_by_socket(int s)
{
    struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
    struct sockaddr_in any = { .sin_family = AF_INET };
    struct sockaddr_storage address;
    struct msghdr message = { 0 };
    char byte = 0;
    int error = 0;
    socklen_t bytes = sizeof error, room = sizeof address;
    if (refused(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &bytes)))
        return "getsockopt";
    if (refused(connect(s, &nowhere, sizeof nowhere)))
        return "connect";
    if (refused(accept4(s, (struct sockaddr *)&address, &room, SOCK_NONBLOCK | SOCK_CLOEXEC)))
        return "accept4";
    if (refused(send(s, &byte, 1, MSG_NOSIGNAL)))
        return "sendto";
    if (refused(recv(s, &byte, 1, 0)))
        return "recvfrom";
    if (refused(sendmsg(s, &message, MSG_NOSIGNAL)))
        return "sendmsg";
    if (refused(recvmsg(s, &message, 0)))
        return "recvmsg";
    if (refused(bind(s, (struct sockaddr *)&any, sizeof any)))
        return "bind";
    if (refused(getsockname(s, (struct sockaddr *)&address, &room)))
        return "getsockname";
    return refused(listen(s, 1)) ? "listen" : NULL;
}

static const char *refused_by_epoll(int epoll, int s)
{
    struct epoll_event event;
    if (refused(epoll))
        return "epoll_create1";
    if (refused(epoll_ctl(epoll, EPOLL_CTL_DEL, s, NULL)))
        return "epoll_ctl";
    return refused(epoll_wait(epoll, &event, 1, 0)) ? "epoll_wait" : NULL;
}

weft_status weft_control_check_calls(void)
{
    static atomic_bool all_permitted;
    if (atomic_load_explicit(&all_permitted, memory_order_relaxed))
        return WEFT_OK;
    const char *call = NULL;
    int s = weft_control_socket(AF_INET);
    if (refused(s))
        call = "socket";
    if (!call && s >= 0)
        call = refused_by_socket(s);
    if (!call && refused(poll(NULL, 0, 0)))
        call = "poll";
    int epoll = call ? -1 : weft_control_epoll();
    if (!call)
        call = refused_by_epoll(epoll, s);
    int event = call ? -1 : weft_control_eventfd();
    if (!call && refused(event))
        call = "eventfd";
    weft_status status = WEFT_OK;
    if (call)
        status = weft_fail_errno(WEFT_ERR_SYSTEM, "this process may not call %s, which ranks meet by; let its sandbox (seccomp) "
                                 "permit it", call);
    else
        atomic_store_explicit(&all_permitted, true, memory_order_relaxed);
    weft_control_close(s);
    weft_control_close(epoll);
    weft_control_close(event);
    return status;
}

/* ---- listening, waiting, writing --------------------------------------------------------------------- */

enum { FREE_PORT_TRIES = 64 };

weft_status weft_control_listen(uint16_t low, uint16_t high, int *fd, uint16_t *port)
{
    int family = AF_INET6, one = 1, zero = 0, tries = 0;
    weft_status status = weft_control_check_calls();
    if (status != WEFT_OK)
        return status;
    for (uint32_t next = low; next <= high;) {
        int s = weft_control_socket(family);
        struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)next) };
        struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)next) };
        struct sockaddr *address = family == AF_INET6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
        socklen_t bytes = family == AF_INET6 ? sizeof six : sizeof four;
        if (s >= 0) {
            setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (family == AF_INET6)
                setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        }
        if (s >= 0 && bind(s, address, bytes) == 0 && listen(s, 4096) == 0 && getsockname(s, address, &bytes) == 0) {
            *port = ntohs(family == AF_INET6 ? six.sin6_port : four.sin_port);
            *fd = s;
            return WEFT_OK;
        }
        int error = errno;
        weft_control_close(s);
        errno = error;
        if (family == AF_INET6 && error != EADDRINUSE && error != EACCES && error != EMFILE && error != ENFILE &&
            error != ENOMEM) {
            family = AF_INET; /* a host without IPv6 */
            continue;
        }
        /* With SO_REUSEADDR the kernel may deal one free port to two sockets that listen at the same time: once more. */
        if (error == EADDRINUSE && next == 0 && tries++ < FREE_PORT_TRIES)
            continue;
        if (error != EADDRINUSE || next == high)
            break;
        next++;
    }
    if (low == high)
        return weft_fail_errno(errno == ENOMEM ? WEFT_ERR_MEMORY : WEFT_ERR_SYSTEM, "cannot listen on port %u", low);
    return weft_fail_errno(errno == ENOMEM ? WEFT_ERR_MEMORY : WEFT_ERR_SYSTEM, "cannot listen on any port of %u-%u", low, high);
}

void weft_control_keepalive(int fd, int64_t dead_peer_ms)
{
    if (dead_peer_ms <= 0)
        return; /* never */
    int one = 1, timeout = dead_peer_ms > INT32_MAX ? INT32_MAX : (int)dead_peer_ms;
    int seconds = timeout / 3000 > 0 ? timeout / 3000 : 1, probes = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

void weft_control_no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int weft_control_poll_ms(int64_t deadline_ns, int most)
{
    if (deadline_ns == WEFT_NEVER)
        return most;
    int64_t left = deadline_ns - weft_now_ns();
    if (left <= 0)
        return 0;
    int64_t ms = (left + WEFT_NS_PER_MS - 1) / WEFT_NS_PER_MS;
    return ms < most ? (int)ms : most;
}

bool weft_control_write(int fd, const void *data, size_t bytes, int64_t deadline_ns)
{
    const char *at = data;
    while (bytes != 0) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            bytes -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLOUT };
            if (weft_now_ns() >= deadline_ns) {
                errno = ETIMEDOUT;
                return false;
            }
            poll(&p, 1, weft_control_poll_ms(deadline_ns, 1000));
        } else if (n < 0 && errno != EINTR) {
            return false;
        }
    }
    return true;
}

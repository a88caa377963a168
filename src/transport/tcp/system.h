/* The system calls of the tcp transport that can fail in interesting ways, behind one pointer: tests put a
 * table there to inject EINTR, short transfers, EAGAIN and resets. Without one each is a direct call. */
#ifndef WEFT_TCP_SYSTEM_H
#define WEFT_TCP_SYSTEM_H

#include <sys/epoll.h>
#include <sys/socket.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct weft_tcp_system {
    int (*socket)(int family, int type, int protocol);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t bytes);
    int (*accept)(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
    ssize_t (*readv)(int fd, const struct iovec *parts, int count);
    int (*wait)(int fd, struct epoll_event *events, int count, int timeout_ms);
} weft_tcp_system;

/* NULL but in tests. Set it while no transport is in a call. */
extern const weft_tcp_system *weft_tcp_injected;

static inline int weft_tcp_socket(int family, int type, int protocol)
{
    return __builtin_expect(weft_tcp_injected != NULL, 0) ? weft_tcp_injected->socket(family, type, protocol)
                                                          : socket(family, type, protocol);
}

static inline int weft_tcp_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    return __builtin_expect(weft_tcp_injected != NULL, 0) ? weft_tcp_injected->connect(fd, address, bytes)
                                                          : connect(fd, address, bytes);
}

static inline int weft_tcp_accept(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
    return __builtin_expect(weft_tcp_injected != NULL, 0)
               ? weft_tcp_injected->accept(fd, address, bytes, flags)
               : accept4(fd, address, bytes, flags);
}

/* The two below go past libc, whose wrappers make each call a point of cancellation at 20 ns in a process with threads; and
 * one piece of memory is cheaper for the kernel than a list of pieces. */

/* Small parts joined, up to `room` bytes; 0: they are larger. */
static inline size_t weft_tcp_join(const struct msghdr *message, unsigned char *joined, size_t room)
{
    size_t bytes = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) { /* an int in musl */
        if (message->msg_iov[i].iov_len > room - bytes)
            return 0;
        memcpy(joined + bytes, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        bytes += message->msg_iov[i].iov_len;
    }
    return bytes;
}

static inline ssize_t weft_tcp_sendmsg(int fd, const struct msghdr *message, int flags)
{
    unsigned char joined[512];
    if (__builtin_expect(weft_tcp_injected != NULL, 0))
        return weft_tcp_injected->sendmsg(fd, message, flags);
    size_t bytes = weft_tcp_join(message, joined, sizeof joined);
    return bytes ? syscall(SYS_sendto, fd, joined, bytes, flags, NULL, 0) : syscall(SYS_sendmsg, fd, message, flags);
}

static inline ssize_t weft_tcp_readv(int fd, const struct iovec *parts, int count)
{
    if (__builtin_expect(weft_tcp_injected != NULL, 0))
        return weft_tcp_injected->readv(fd, parts, count);
    return count == 1 ? syscall(SYS_recvfrom, fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT, NULL, NULL)
                      : syscall(SYS_readv, fd, parts, count);
}

static inline int weft_tcp_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
    return __builtin_expect(weft_tcp_injected != NULL, 0)
               ? weft_tcp_injected->wait(fd, events, count, timeout_ms)
               : epoll_wait(fd, events, count, timeout_ms);
}

#endif

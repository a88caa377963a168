/* The host's sockets: datagrams between abstract names, with or without a descriptor. Who may be trusted
 * and what a message means is for the callers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "transport/host_internal.h"

enum { MESSAGE_MAGIC = 0x77656674 };

void weft_socket_name_make(weft_socket_name *name, uint64_t job, int rank, uint64_t random, char kind)
{
    memset(name, 0, sizeof(*name));
    name->address.sun_family = AF_UNIX;
    /* sun_path[0] stays 0: an abstract name, which ends where its length says. */
    int length =
        snprintf(name->address.sun_path + 1, sizeof(name->address.sun_path) - 1, "weft-%016llx-%d-%016llx-%c",
                 (unsigned long long)job, rank, (unsigned long long)random, kind);
    name->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

weft_status weft_socket_open(const weft_socket_name *name, int *out)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "opening a Unix socket for this host's ranks (ulimit -n?)");
    if (bind(fd, (const struct sockaddr *)&name->address, name->bytes) != 0) {
        weft_status status = weft_fail_errno(WEFT_ERR_SYSTEM, "binding the abstract Unix socket %s",
                                             name->address.sun_path + 1);
        close(fd);
        return status;
    }
    *out = fd;
    return WEFT_OK;
}

int weft_socket_send(int fd, const weft_socket_name *to, const weft_host_message *message, int descriptor)
{
    weft_host_message copy = *message;
    copy.magic = MESSAGE_MAGIC;
    struct iovec part = {&copy, sizeof(copy)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof(control));
    struct msghdr m = {.msg_name = (void *)(uintptr_t)&to->address,
                       .msg_namelen = to->bytes,
                       .msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &descriptor, sizeof(int));
    ssize_t n;
    do
        n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
}

/* Is there no descriptor to be had in this process? That is how the kernel's dropping of one that came is
 * explained. */
static bool descriptors_exhausted(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return errno == EMFILE;
    close(copy);
    return false;
}

int weft_socket_receive(int fd, weft_host_message *message, int *descriptor)
{
    struct iovec part = {message, sizeof(*message)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do
        n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    int got = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&got, CMSG_DATA(c), sizeof(int));
    bool ours =
        n == (ssize_t)sizeof(*message) && message->magic == MESSAGE_MAGIC && !(m.msg_flags & MSG_TRUNC);
    if (ours && got >= 0) {
        *descriptor = got;
        return 0;
    }
    if (got >= 0)
        close(got);
    return ours && (m.msg_flags & MSG_CTRUNC) && descriptors_exhausted(fd) ? EMFILE : EBADMSG;
}

/* The plainest network plugin of NCCL over TCP, as a measure: one socket per connection, before each message its length in 4
 * bytes, each request moved by its own test() in the order of posting, nothing cut, nothing striped, no thread. So are NCCL's own
 * sockets where it knows nothing of the NIC. Speaks version 6 of the ABI; the interface is the loopback, or TEST_NET_ADDRESS. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/plugin/nccl_abi.h"

typedef struct request {
    struct connection *connection;
    int sends, used;
    char *data;
    uint32_t bytes, moved, head; /* head: bytes of the length that have moved */
    uint32_t length;
} request;

typedef struct connection {
    int fd;
    unsigned next, oldest;
    request requests[NCCL_NET_REQUESTS];
} connection;

typedef struct handle {
    struct sockaddr_in address;
    connection *dialling;
} handle;

static nccl_result init(nccl_log_function log)
{
    (void)log;
    return NCCL_SUCCESS;
}

static nccl_result devices(int *count)
{
    *count = 1;
    return NCCL_SUCCESS;
}

static nccl_result properties(int device, nccl_net_properties_v6 *p)
{
    *p = (nccl_net_properties_v6){.name = (char *)(uintptr_t) "plain", .guid = (uint64_t)device + 1, .ptrSupport = NCCL_PTR_HOST,
                                  .speed = 10000, .port = 1, .maxComms = 65536, .maxRecvs = 1};
    return NCCL_SUCCESS;
}

static nccl_result listen_at(int device, void *opaque, void **listener)
{
    handle *h = opaque;
    const char *text = getenv("TEST_NET_ADDRESS");
    socklen_t bytes = sizeof h->address;
    (void)device;
    memset(h, 0, sizeof *h);
    h->address.sin_family = AF_INET;
    h->address.sin_addr.s_addr = inet_addr(text ? text : "127.0.0.1");
    int *fd = malloc(sizeof *fd);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(*fd, (struct sockaddr *)&h->address, bytes) != 0 || listen(*fd, 4096) != 0 ||
        getsockname(*fd, (struct sockaddr *)&h->address, &bytes) != 0)
        return NCCL_SYSTEM_ERROR;
    *listener = fd;
    return NCCL_SUCCESS;
}

static connection *make_connection(int fd)
{
    int on = 1;
    connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return c;
}

static nccl_result dial(int device, void *opaque, void **out)
{
    handle *h = opaque;
    (void)device;
    *out = NULL;
    if (!h->dialling)
        h->dialling = make_connection(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (connect(h->dialling->fd, (struct sockaddr *)&h->address, sizeof h->address) == 0 || errno == EISCONN)
        *out = h->dialling;
    return *out || errno == EINPROGRESS || errno == EALREADY ? NCCL_SUCCESS : NCCL_REMOTE_ERROR;
}

static nccl_result take(void *listener, void **out)
{
    int fd = accept4(*(int *)listener, NULL, NULL, SOCK_NONBLOCK);
    *out = fd >= 0 ? make_connection(fd) : NULL;
    return fd >= 0 || errno == EAGAIN ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR;
}

static nccl_result register_memory(void *comm, void *data, int bytes, int type, void **memory)
{
    (void)comm, (void)data, (void)bytes, (void)type;
    *memory = NULL;
    return NCCL_SUCCESS;
}

static nccl_result deregister_memory(void *comm, void *memory)
{
    (void)comm, (void)memory;
    return NCCL_SUCCESS;
}

static nccl_result post(connection *c, int sends, void *data, int bytes, void **out)
{
    request *r = &c->requests[c->next % NCCL_NET_REQUESTS];
    *out = NULL;
    if (r->used)
        return NCCL_SUCCESS;
    *r = (request){.connection = c, .sends = sends, .used = 1, .data = data, .bytes = (uint32_t)bytes, .length = (uint32_t)bytes};
    c->next++;
    *out = r;
    return NCCL_SUCCESS;
}

static nccl_result post_send(void *comm, void *data, int bytes, int tag, void *memory, void **out)
{
    (void)tag, (void)memory;
    return post(comm, 1, data, bytes, out);
}

static nccl_result post_receive(void *comm, int n, void **data, int *bytes, int *tags, void **memory, void **out)
{
    (void)tags, (void)memory;
    return n == 1 ? post(comm, 0, data[0], bytes[0], out) : NCCL_INVALID_USAGE;
}

/* Moves what it can of [data, bytes) from *moved on. */
static nccl_result move(request *r, void *data, uint32_t bytes, uint32_t *moved)
{
    while (*moved < bytes) {
        char *at = (char *)data + *moved;
        ssize_t n = r->sends ? send(r->connection->fd, at, bytes - *moved, MSG_DONTWAIT | MSG_NOSIGNAL)
                             : recv(r->connection->fd, at, bytes - *moved, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return NCCL_SUCCESS;
        if (n <= 0)
            return NCCL_REMOTE_ERROR;
        *moved += (uint32_t)n;
    }
    return NCCL_SUCCESS;
}

static nccl_result advance(request *r)
{
    nccl_result result = move(r, &r->length, sizeof r->length, &r->head);
    if (result != NCCL_SUCCESS || r->head < sizeof r->length)
        return result;
    if (r->length > r->bytes)
        return NCCL_INVALID_USAGE;
    return move(r, r->data, r->length, &r->moved);
}

static int is_over(const request *r)
{
    return r->head == sizeof r->length && r->moved == r->length;
}

static nccl_result test(void *tested, int *done, int *sizes)
{
    request *r = tested;
    connection *c = r->connection;
    *done = 0;
    for (; c->oldest != c->next; c->oldest++) { /* in order of posting: there is one stream */
        request *first = &c->requests[c->oldest % NCCL_NET_REQUESTS];
        nccl_result result = advance(first);
        if (result != NCCL_SUCCESS)
            return result;
        if (!is_over(first))
            break;
        if (first == r) {
            c->oldest++;
            break;
        }
    }
    if (!is_over(r))
        return NCCL_SUCCESS;
    if (sizes)
        *sizes = (int)r->length;
    r->used = 0;
    *done = 1;
    return NCCL_SUCCESS;
}

static nccl_result close_connection(void *comm)
{
    connection *c = comm;
    close(c->fd);
    free(c);
    return NCCL_SUCCESS;
}

static nccl_result close_listener(void *listener)
{
    close(*(int *)listener);
    free(listener);
    return NCCL_SUCCESS;
}

const nccl_net_v6 ncclNetPlugin_v6 = {
    .name = "plain", .init = init, .devices = devices, .getProperties = properties, .listen = listen_at, .connect = dial,
    .accept = take, .regMr = register_memory, .deregMr = deregister_memory, .isend = post_send, .irecv = post_receive,
    .test = test, .closeSend = close_connection, .closeRecv = close_connection, .closeListen = close_listener,
};

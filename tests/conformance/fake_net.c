/* A NCCL network plugin for tests, over abstract Unix sockets, that is as awkward as the interface allows and watches that it is
 * used as the interface demands. Built once per version of the table (NET_VERSION). What each version does:
 *   6  at most 8 requests in flight           9  messages of at most 2000 bytes, registered memory
 *   7  registered memory only                10  a send needs a posted receive
 *   8  a send needs a posted receive         11, 12  a context per communicator, all of the above; 11: init fills the table
 * Version 12 has a second device on PCI that is as fast as the first, 11 one that is the same as the first under another name.
 * All of them need several calls to connect and to accept, refuse every third request for now, take one buffer per receive, and
 * do not survive to be closed while a connection is being made. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/plugin/nccl_abi.h"

#ifndef NET_VERSION
#define NET_VERSION 12
#endif
enum {
    LIMIT = NET_VERSION == 6 ? 8 : 32,
    REGISTERS = NET_VERSION == 7 || NET_VERSION == 9 || NET_VERSION >= 11,
    NEEDS_POSTED = NET_VERSION == 8 || NET_VERSION >= 10,
    MESSAGE_BYTES = NET_VERSION == 9 ? 2000 : NET_VERSION == 12 ? 5000 : 0, /* 0: as the interface allows */
    CONNECT_CALLS = 3, DEVICES = NET_VERSION >= 11 ? 4 : 3
};
#define MAGIC 0x66616b65u

typedef struct handle {       /* within NCCL_NET_HANDLE_BYTES; the connecting side keeps its state here */
    uint32_t magic;
    char name[28];
    int device, calls, fd;
} handle;

/* Bytes that have been sent from a device, for tests. */
static _Atomic uint64_t sent[4];
__attribute__((visibility("default"))) uint64_t fake_net_sent(int device);
uint64_t fake_net_sent(int device)
{
    return sent[device];
}

/* A device whose receiver moves something in one of that many calls only, while it says that it is as fast as the others, and
 * the sender's kernel takes much before that is noticed there; for tests. */
static int slow_device = -1, slow_calls = 1;
__attribute__((visibility("default"))) void fake_net_slow(int device, int calls);
void fake_net_slow(int device, int calls)
{
    slow_device = device;
    slow_calls = calls;
}

typedef struct registration {
    struct registration *next;
    unsigned char *data;
    size_t bytes;
} registration;

typedef struct comm comm;

typedef struct request {
    comm *c;
    bool used, is_done;
    unsigned char *data;
    size_t bytes, moved;
    uint32_t frame;            /* length on the wire */
    size_t frame_moved;
} request;

struct comm {
    uint32_t magic;
    int device;
    int fd, accepting;         /* of a listener: calls of accept for the next one */
    bool sends;
    request ring[32];
    unsigned first, count, calls, tests;
    int credits;               /* receives that the other side has posted */
    registration *registrations;
};
static unsigned made_count;
static comm *made[1 << 16]; /* so that what must not be closed is no leak */

static nccl_log_function say;
static int contexts;

static nccl_result complain(nccl_result result, const char *what)
{
    if (say)
        say(NCCL_LOG_WARN, NCCL_LOG_NET, __FILE__, __LINE__, "fake_net: %s", what);
    return result;
}

/* ---- beginning ---- */

static nccl_result devices(int *count)
{
    *count = DEVICES;
    return say ? NCCL_SUCCESS : NCCL_INVALID_USAGE;
}

/* Device 1 is to be chosen, and 3 if it is another one: 0 is slow, 2 takes no host memory. */
#define FILL(p, device)                                                        \
    do {                                                                       \
        static char name[4][8] = {"slow", "fast", "gpu", "fast2"};             \
        static char path[2][40] = {"/sys/devices/pci0000:00/0000:00:01.0",     \
                                   "/sys/devices/pci0000:00/0000:00:02.0"};    \
        memset((p), 0, sizeof *(p));                                           \
        (p)->name = name[device];                                              \
        (p)->ptrSupport = (device) == 2 ? NCCL_PTR_CUDA : NCCL_PTR_HOST;       \
        (p)->pciPath = path[(device) == 3 && NET_VERSION == 12];               \
        (p)->speed = (device) == 0 ? 10 : (device) == 2 ? 200000 : 100000;     \
        (p)->latency = 5;                                                      \
        (p)->maxComms = 1 << 16;                                               \
        (p)->maxRecvs = 1;                                                     \
    } while (0)

#define PROPERTIES_TYPE_(v) nccl_net_properties_v##v
#define PROPERTIES_TYPE(v) PROPERTIES_TYPE_(v)
static nccl_result get_properties(int device, PROPERTIES_TYPE(NET_VERSION) *p)
{
    if (device < 0 || device >= DEVICES)
        return complain(NCCL_INVALID_ARGUMENT, "there is no such device");
    FILL(p, device);
#if NET_VERSION >= 9
    p->maxP2pBytes = MESSAGE_BYTES > 0 ? MESSAGE_BYTES : NCCL_NET_P2P_BYTES_MAX;
#endif
    return NCCL_SUCCESS;
}

/* ---- connections ---- */

static comm *new_comm(int fd, bool sends)
{
    comm *c = calloc(1, sizeof *c);
    c->magic = MAGIC;
    c->fd = fd;
    c->sends = sends;
    made[__atomic_fetch_add(&made_count, 1, __ATOMIC_RELAXED) % (sizeof made / sizeof *made)] = c;
    return c;
}

static socklen_t name_of(struct sockaddr_un *un, const char *name)
{
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "%s", name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static nccl_result do_listen(int device, void *opaque, void **out)
{
    static _Atomic unsigned counter;
    handle h = {.magic = MAGIC, .device = device, .fd = -1};
    struct sockaddr_un un;
    if (device != 1 && (device != 3 || NET_VERSION != 12))
        return complain(NCCL_INVALID_ARGUMENT, "not the device that is to be chosen");
    snprintf(h.name, sizeof h.name, "weft-fake%d-%x-%x", NET_VERSION, (unsigned)getpid(), counter++);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&un, name_of(&un, h.name)) != 0 || listen(fd, 8) != 0)
        return complain(NCCL_SYSTEM_ERROR, "cannot listen");
    memcpy(opaque, &h, sizeof h);
    comm *c = new_comm(fd, false);
    c->device = device;
    *out = c;
    return NCCL_SUCCESS;
}

static nccl_result do_connect(int device, void *opaque, void **out)
{
    handle *h = opaque;
    struct sockaddr_un un;
    *out = NULL;
    if (h->magic != MAGIC || device != h->device)
        return complain(NCCL_INVALID_ARGUMENT, "connect with what is no handle, or from another device than it is for");
    if (h->calls++ == 0) /* also checks that the handle is the same buffer each time */
        h->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (h->calls < CONNECT_CALLS)
        return NCCL_SUCCESS;
    if (h->calls > CONNECT_CALLS + 1000)
        return complain(NCCL_SYSTEM_ERROR, "nobody accepts");
    if (connect(h->fd, (struct sockaddr *)&un, name_of(&un, h->name)) != 0)
        return errno == EAGAIN ? NCCL_SUCCESS : complain(NCCL_REMOTE_ERROR, "connect failed");
    const int much = 4 << 20;
    if (device == slow_device && setsockopt(h->fd, SOL_SOCKET, SO_SNDBUFFORCE, &much, sizeof much) != 0)
        (void)setsockopt(h->fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
    comm *c = new_comm(h->fd, true);
    c->device = device;
    *out = c;
    return NCCL_SUCCESS;
}

static nccl_result do_accept(void *listener, void **out)
{
    comm *l = listener;
    *out = NULL;
    if (l->magic != MAGIC || l->accepting < 0)
        return complain(NCCL_INVALID_USAGE, "a second connection by one handle");
    if (++l->accepting < CONNECT_CALLS)
        return NCCL_SUCCESS;
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return errno == EAGAIN ? NCCL_SUCCESS : complain(NCCL_SYSTEM_ERROR, "accept failed");
    l->accepting = -1;
    comm *c = new_comm(fd, false);
    c->device = l->device;
    *out = c;
    return NCCL_SUCCESS;
}

static nccl_result do_close(void *opaque)
{
    comm *c = opaque;
    if (!c || c->magic != MAGIC) {
        fprintf(stderr, "fake_net: closes what is not open\n");
        abort();
    }
    if (c->accepting > 0) {
        fprintf(stderr, "fake_net: closes a listener that is about to accept\n");
        abort();
    }
    if (c->registrations) {
        fprintf(stderr, "fake_net: closed with memory registered\n");
        abort();
    }
    close(c->fd);
    memset(c, 0, sizeof *c);
    free(c);
    return NCCL_SUCCESS;
}

/* ---- memory ---- */

static nccl_result do_register(void *opaque, void *data, size_t bytes, int type, void **memory)
{
    comm *c = opaque;
    if (c->magic != MAGIC || !data || bytes == 0 || type != NCCL_PTR_HOST)
        return complain(NCCL_INVALID_ARGUMENT, "regMr of what cannot be registered");
    if (!REGISTERS)
        return NCCL_SUCCESS;
    registration *r = calloc(1, sizeof *r);
    *r = (registration){c->registrations, data, bytes};
    c->registrations = r;
    *memory = r;
    return NCCL_SUCCESS;
}

static nccl_result do_register_dmabuf(void *c, void *data, size_t bytes, int type, uint64_t offset, int fd, void **memory)
{
    (void)c, (void)data, (void)bytes, (void)type, (void)offset, (void)fd, (void)memory;
    return NCCL_INTERNAL_ERROR;
}

static nccl_result do_deregister(void *opaque, void *memory)
{
    comm *c = opaque;
    registration **at = &c->registrations;
    while (*at && *at != memory)
        at = &(*at)->next;
    if (!REGISTERS)
        return NCCL_SUCCESS;
    if (!*at)
        return complain(NCCL_INVALID_ARGUMENT, "deregMr of what is not registered");
    registration *r = *at;
    *at = r->next;
    free(r);
    return NCCL_SUCCESS;
}

static bool is_registered(const comm *c, const registration *r, const unsigned char *data, size_t bytes)
{
    for (const registration *k = c->registrations; REGISTERS && k; k = k->next)
        if (k == r)
            return data >= r->data && bytes <= r->bytes && data + bytes <= r->data + r->bytes;
    return !REGISTERS;
}

/* ---- messages ---- */

static nccl_result begin(comm *c, void *data, size_t bytes, int tag, void *memory, void **out)
{
    *out = NULL;
    if (c->magic != MAGIC || tag != 1 || !is_registered(c, memory, data, bytes))
        return complain(NCCL_INVALID_ARGUMENT, "a message in memory that is not registered");
    if (MESSAGE_BYTES > 0 && bytes > MESSAGE_BYTES)
        return complain(NCCL_INVALID_ARGUMENT, "a message that is too long");
    if (c->count >= LIMIT)
        return complain(NCCL_INTERNAL_ERROR, "too many requests in flight");
    if (++c->calls % 3 == 0)
        return NCCL_SUCCESS;
    char posted[64];
    ssize_t n = NEEDS_POSTED && c->sends && c->credits == 0 ? recv(c->fd, posted, sizeof posted, 0) : -1;
    if (n == 0)
        return complain(NCCL_REMOTE_ERROR, "the receiver is gone");
    c->credits += n > 0 ? (int)n : 0;
    if (NEEDS_POSTED && c->sends && c->credits == 0)
        return NCCL_SUCCESS;
    if (NEEDS_POSTED && c->sends)
        c->credits--;
    if (NEEDS_POSTED && !c->sends && send(c->fd, "p", 1, MSG_NOSIGNAL) != 1)
        return complain(NCCL_REMOTE_ERROR, "the sender is gone");
    request *r = &c->ring[(c->first + c->count++) % 32];
    *r = (request){.c = c, .used = true, .data = data, .bytes = bytes, .frame = (uint32_t)bytes};
    *out = r;
    return NCCL_SUCCESS;
}

/* Moves bytes of one part; 1: complete, 0: not now, -1: over. */
static int move(const comm *c, void *data, size_t bytes, size_t *moved)
{
    while (*moved < bytes) {
        char *at = (char *)data + *moved;
        ssize_t n = c->sends ? send(c->fd, at, bytes - *moved, MSG_NOSIGNAL) : recv(c->fd, at, bytes - *moved, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return -1;
        if (n < 0)
            return 0;
        *moved += (size_t)n;
    }
    return 1;
}

static nccl_result do_test(void *opaque, int *done, int *sizes)
{
    request *r = opaque;
    comm *c = r->c;
    *done = 0;
    if (!c->sends && c->device == slow_device && ++c->tests % (unsigned)slow_calls != 0)
        return NCCL_SUCCESS;
    if (!r->used || r != &c->ring[c->first])
        return complain(NCCL_INVALID_USAGE, "tests another request than the oldest");
    int state = move(c, &r->frame, sizeof r->frame, &r->frame_moved);
    if (state > 0 && r->frame > r->bytes)
        return complain(NCCL_INTERNAL_ERROR, "a message is longer than its buffer");
    if (state > 0)
        state = move(c, r->data, r->frame, &r->moved);
    if (state < 0)
        return complain(NCCL_REMOTE_ERROR, "the connection is over");
    if (state == 0)
        return NCCL_SUCCESS;
    *done = 1;
    if (sizes && NET_VERSION != 6) /* Google's fastsocket, of version 6, leaves them alone */
        *sizes = (int)r->frame;
    r->used = false;
    if (c->sends)
        sent[c->device] += r->bytes;
    c->first = (c->first + 1) % 32;
    c->count--;
    return NCCL_SUCCESS;
}

static nccl_result do_flush(void *c, int n, void **data, int *bytes, void **memory, void **out)
{
    (void)c, (void)n, (void)data, (void)bytes, (void)memory, (void)out;
    return complain(NCCL_INVALID_USAGE, "iflush for host memory");
}

/* ---- the tables ---- */

#if NET_VERSION < 8
static nccl_result register_v6(void *c, void *data, int bytes, int type, void **memory)
{
    return do_register(c, data, (size_t)bytes, type, memory);
}
#define REGISTER register_v6
#else
#define REGISTER do_register
#endif

#if NET_VERSION < 9
#define BYTES_TYPE int
#else
#define BYTES_TYPE size_t
#endif
#if NET_VERSION < 10
#define PROFILE(name)
#else
#define PROFILE(name) name,
#endif
static nccl_result do_send(void *c, void *data, BYTES_TYPE bytes, int tag, void *memory, PROFILE(void *profile) void **out)
{
#if NET_VERSION >= 10
    (void)profile;
#endif
    if (!((comm *)c)->sends)
        return complain(NCCL_INVALID_USAGE, "a send on what receives");
    return begin(c, data, (size_t)bytes, tag, memory, out);
}

static nccl_result do_receive(void *c, int n, void **data, BYTES_TYPE *bytes, int *tags, void **memory,
                              PROFILE(void **profiles) void **out)
{
#if NET_VERSION >= 10
    (void)profiles;
#endif
    if (n != 1 || ((comm *)c)->sends)
        return complain(NCCL_INVALID_USAGE, "one buffer per receive, on what receives");
    return begin(c, data[0], (size_t)bytes[0], tags[0], memory[0], out);
}

#if NET_VERSION < 10
static nccl_result do_init(nccl_log_function log)
{
    say = log;
    return contexts++ == 0 ? NCCL_SUCCESS : complain(NCCL_INVALID_USAGE, "init twice");
}
#elif NET_VERSION == 10
static nccl_result do_init(nccl_log_function log, nccl_profiler_function profiler)
{
    say = log;
    return contexts++ == 0 && profiler ? NCCL_SUCCESS : complain(NCCL_INVALID_USAGE, "init twice");
}
#else
static nccl_result do_init(void **context, uint64_t communicator, nccl_net_config *config, nccl_log_function log,
                           nccl_profiler_function profiler)
{
    (void)communicator;
    say = log;
    *context = &contexts;
    __atomic_add_fetch(&contexts, 1, __ATOMIC_RELAXED);
    return config && config->trafficClass == NCCL_NET_UNDEFINED && profiler ? NCCL_SUCCESS : NCCL_INVALID_ARGUMENT;
}
static nccl_result do_finalize(void *context)
{
    if (context != &contexts || __atomic_sub_fetch(&contexts, 1, __ATOMIC_RELAXED) < 0) {
        fprintf(stderr, "fake_net: finalized without a context\n");
        abort();
    }
    return NCCL_SUCCESS;
}
static nccl_result listen_v11(void *context, int device, void *opaque, void **out)
{
    return context == &contexts ? do_listen(device, opaque, out) : complain(NCCL_INVALID_ARGUMENT, "no context");
}
static nccl_result connect_v11(void *context, int device, void *opaque, void **out, nccl_net_device_handle **offload)
{
    (void)offload;
    return context == &contexts ? do_connect(device, opaque, out) : complain(NCCL_INVALID_ARGUMENT, "no context");
}
#endif

#if NET_VERSION >= 7
static nccl_result accept_v7(void *listener, void **out, nccl_net_device_handle **offload)
{
    (void)offload;
    return do_accept(listener, out);
}
#endif
#if NET_VERSION >= 7 && NET_VERSION <= 9
static nccl_result connect_v7(int device, void *opaque, void **out, nccl_net_device_handle **offload)
{
    (void)offload;
    return do_connect(device, opaque, out);
}
#elif NET_VERSION == 10
static nccl_result connect_v10(int device, nccl_net_config *config, void *opaque, void **out, nccl_net_device_handle **offload)
{
    (void)offload;
    return config ? do_connect(device, opaque, out) : complain(NCCL_INVALID_ARGUMENT, "no config");
}
#endif

#define TABLE_TYPE_(v) nccl_net_v##v
#define TABLE_TYPE(v) TABLE_TYPE_(v)
#define TABLE_NAME_(v) ncclNetPlugin_v##v
#define TABLE_NAME(v) TABLE_NAME_(v)
#define EXPORTED __attribute__((visibility("default")))
#if NET_VERSION == 11
static const nccl_net_v11 table = {
#else
extern const TABLE_TYPE(NET_VERSION) TABLE_NAME(NET_VERSION);
EXPORTED const TABLE_TYPE(NET_VERSION) TABLE_NAME(NET_VERSION) = {
#endif
    .name = "fake", .init = do_init, .devices = devices, .getProperties = get_properties,
#if NET_VERSION >= 11
    .listen = listen_v11, .connect = connect_v11, .finalize = do_finalize,
#else
    .listen = do_listen,
#endif
#if NET_VERSION == 6
    .connect = do_connect, .accept = do_accept,
#else
    .accept = accept_v7,
#endif
#if NET_VERSION >= 7 && NET_VERSION <= 9
    .connect = connect_v7,
#elif NET_VERSION == 10
    .connect = connect_v10,
#endif
    .regMr = REGISTER, .regMrDmaBuf = do_register_dmabuf, .deregMr = do_deregister, .isend = do_send, .irecv = do_receive,
    .iflush = do_flush, .test = do_test, .closeSend = do_close, .closeRecv = do_close, .closeListen = do_close,
};

#if NET_VERSION == 11 /* as plugins that choose in init what they are */
EXPORTED extern nccl_net_v11 ncclNetPlugin_v11;
static nccl_result choosing_init(void **context, uint64_t communicator, nccl_net_config *config, nccl_log_function log,
                                 nccl_profiler_function profiler)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    ncclNetPlugin_v11 = table;
    pthread_mutex_unlock(&lock);
    return do_init(context, communicator, config, log, profiler);
}
nccl_net_v11 ncclNetPlugin_v11 = {.name = "not chosen yet", .init = choosing_init};
#endif

/* A transport as a plugin: slices between processes of one host over Unix SOCK_SEQPACKET sockets, one connection per direction.
 * What each operation promises stands in <weft/transport.h>; this is about the least that keeps it. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <weft/transport.h>

enum { FRAGMENT_BYTES = 64 << 10, GUESTS = 64, EVENTS = 16, PACKETS_PER_TURN = 32 };
#define MAGIC 0x7465706b63617071u /* "qpacket" and a bit */

/* Who can be reached at an address: equal machines and network namespaces share the abstract socket names. */
typedef struct address {
    uint64_t magic, machine, namespace;
    char name[24];
} address;

typedef struct hello { /* first packet of a connection */
    uint64_t magic, job;
    uint32_t rank;
} hello;

typedef struct packet { /* in front of each piece of a slice */
    uint64_t bytes, offset;
    unsigned char header[WEFT_HEADER_BYTES];
} packet;

struct weft_endpoint { /* the way to and from one peer */
    weft_transport *transport;
    int rank;
    struct sockaddr_un to;
    socklen_t to_bytes;
    int out, in;                   /* descriptors, -1: none */
    bool failed, sending, waits_to_connect, watches_room;
    weft_slice *first, *last;      /* to be sent; transport_state[0]: bytes that are gone */
    packet coming;                 /* the slice that is being received */
    size_t filled;                 /* bytes of it that are there; 0: between slices */
    unsigned char *memory, *own;   /* where it lands; a buffer for those that the caller gives no place */
};

struct weft_transport {
    weft_transport_config config;
    address self;
    int listener, epoll;
    bool closed;
    int guests[GUESTS];            /* accepted, no hello yet; -1: free */
    weft_endpoint *peers;          /* by rank */
    unsigned char fragment[FRAGMENT_BYTES];
};

static weft_status fail(const weft_transport *t, weft_status status, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return t->config.fail(status, text);
}

static void watch(weft_transport *t, int fd, uint32_t interest, int operation)
{
    struct epoll_event event = {.events = interest, .data.fd = fd};
    epoll_ctl(t->epoll, operation, fd, &event);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd); /* which also ends its being watched */
    *fd = -1;
}

/* ---- the end of a connection ---- */

static void drop_queue(weft_endpoint *e, weft_status status)
{
    while (e->first) {
        weft_slice *slice = e->first;
        e->first = slice->next;
        slice->done(slice, status);
    }
}

/* Tells the caller once; what still comes from that peer is not read. */
static void lose(weft_endpoint *e, const char *why)
{
    weft_transport *t = e->transport;
    char text[160];
    if (e->failed)
        return;
    e->failed = true;
    close_fd(&e->out);
    close_fd(&e->in);
    drop_queue(e, WEFT_ERR_PEER);
    snprintf(text, sizeof text, "seqpacket: rank %d: %s", e->rank, why);
    t->config.sink.failed(t->config.sink.context, e->rank, WEFT_ERR_PEER, text);
}

/* ---- receiving ---- */

/* The first piece of a slice lies in t->fragment. */
static void begin_slice(weft_endpoint *e, size_t piece)
{
    weft_transport *t = e->transport;
    weft_sink *sink = &t->config.sink;
    if (piece == e->coming.bytes) { /* all of it: the caller may read it where it is */
        sink->arrived(sink->context, e->rank, e->coming.header, t->fragment, piece);
        return;
    }
    e->memory = sink->place ? sink->place(sink->context, e->rank, e->coming.header, e->coming.bytes) : NULL;
    if (!e->memory && !e->own && !(e->own = malloc(WEFT_SLICE_MAX_BYTES))) {
        lose(e, "no memory for a slice");
        return;
    }
    e->memory = e->memory ? e->memory : e->own;
    memcpy(e->memory, t->fragment, piece);
    e->filled = piece;
}

/* Reads one packet. False: nothing there, or the connection is over. */
static bool receive(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    packet p;
    size_t left = e->coming.bytes - e->filled;
    struct iovec parts[2] = {{&p, sizeof p}, {t->fragment, sizeof t->fragment}};
    if (e->filled) /* the rest of a slice follows its beginning: straight to its place */
        parts[1] = (struct iovec){e->memory + e->filled, left < FRAGMENT_BYTES ? left : FRAGMENT_BYTES};
    ssize_t got = readv(e->in, parts, 2);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    size_t piece = got < (ssize_t)sizeof p ? 0 : (size_t)got - sizeof p;
    if (got < (ssize_t)sizeof p || p.bytes > WEFT_SLICE_MAX_BYTES || p.offset != e->filled || piece > p.bytes - e->filled) {
        lose(e, got == 0 ? "closed" : got < 0 ? strerror(errno) : "sent what is no slice");
        return false;
    }
    if (e->filled == 0) {
        e->coming = p;
        begin_slice(e, piece);
    } else if ((e->filled += piece) == e->coming.bytes) {
        e->filled = 0;
        t->config.sink.arrived(t->config.sink.context, e->rank, e->coming.header, e->memory, e->coming.bytes);
    }
    return !e->failed;
}

static int receive_some(weft_endpoint *e)
{
    int packets = 0;
    while (e->in >= 0 && packets < PACKETS_PER_TURN && receive(e))
        packets++;
    return packets;
}

/* Reads the hello of an accepted connection, which then belongs to a peer; strangers are closed. */
static void meet(weft_transport *t, int *guest)
{
    hello h;
    ssize_t got = recv(*guest, &h, sizeof h, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool good = got == (ssize_t)sizeof h && h.magic == MAGIC && h.job == t->config.job && h.rank < (uint32_t)t->config.ranks &&
                t->peers[h.rank].in < 0 && !t->peers[h.rank].failed;
    if (!good) {
        t->config.log(1, "seqpacket: a connection that is not of this job was closed");
        close_fd(guest);
        return;
    }
    t->peers[h.rank].in = *guest; /* still watched */
    *guest = -1;
}

static void accept_all(weft_transport *t)
{
    for (int i = 0; i < GUESTS; i++) {
        if (t->guests[i] < 0 && (t->guests[i] = accept4(t->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
            watch(t, t->guests[i], EPOLLIN, EPOLL_CTL_ADD);
        if (t->guests[i] >= 0)
            meet(t, &t->guests[i]);
    }
}

/* The peer does not take what we send. What it sent before it went is read first. */
static void sending_failed(weft_endpoint *e, const char *why)
{
    close_fd(&e->out);
    drop_queue(e, WEFT_ERR_PEER);
    accept_all(e->transport);
    while (e->in >= 0 && receive(e))
        ;
    if (e->in < 0)
        lose(e, why);
}

/* ---- sending ---- */

static bool make_connection(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    hello h = {MAGIC, t->config.job, (uint32_t)t->config.rank};
    e->waits_to_connect = false;
    e->out = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (e->out >= 0 && connect(e->out, (struct sockaddr *)&e->to, e->to_bytes) == 0 &&
        send(e->out, &h, sizeof h, MSG_NOSIGNAL) == (ssize_t)sizeof h) {
        watch(t, e->out, 0, EPOLL_CTL_ADD); /* its end is always reported */
        e->watches_room = false;
        return true;
    }
    int error = errno;
    close_fd(&e->out);
    if (error == EAGAIN)
        e->waits_to_connect = true; /* many others are before us: again later */
    else
        sending_failed(e, strerror(error));
    return false;
}

/* Writes one piece of a slice. False: no room, or the connection is over. */
static bool send_piece(weft_endpoint *e, weft_slice *slice)
{
    size_t offset = slice->transport_state[0], left = slice->bytes - offset;
    size_t piece = left < FRAGMENT_BYTES ? left : FRAGMENT_BYTES;
    packet p = {.bytes = slice->bytes, .offset = offset};
    memcpy(p.header, slice->header, sizeof p.header);
    struct iovec parts[2] = {{&p, sizeof p}, {(char *)(uintptr_t)slice->payload + offset, piece}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = piece ? 2 : 1};
    ssize_t sent = sendmsg(e->out, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        sending_failed(e, strerror(errno));
    if (sent < 0)
        return false;
    slice->transport_state[0] = offset + piece;
    return true;
}

/* Sends what is queued, as far as there is room. Returns the slices that are gone. */
static int send_queue(weft_endpoint *e)
{
    int moved = 0;
    if (e->sending || e->failed || !e->first)
        return 0;
    e->sending = true; /* a done() that sends only adds to the queue */
    while (e->first && !e->failed && (e->out >= 0 || make_connection(e)) && send_piece(e, e->first)) {
        weft_slice *slice = e->first;
        if (slice->transport_state[0] < slice->bytes)
            continue;
        e->first = slice->next;
        slice->done(slice, WEFT_OK);
        moved++;
    }
    e->sending = false;
    bool wants_room = e->first != NULL;
    if (e->out >= 0 && wants_room != e->watches_room) {
        watch(e->transport, e->out, wants_room ? EPOLLOUT : 0, EPOLL_CTL_MOD);
        e->watches_room = wants_room;
    }
    return moved;
}

static weft_status seqpacket_send(weft_endpoint *e, weft_slice *slice)
{
    if (e->transport->closed)
        return fail(e->transport, WEFT_ERR_ABORTED, "seqpacket: send to rank %d after close", e->rank);
    if (e->failed)
        return fail(e->transport, WEFT_ERR_PEER, "seqpacket: the connection to rank %d is lost", e->rank);
    slice->next = NULL;
    slice->transport_state[0] = 0;
    if (e->first)
        e->last->next = slice;
    else
        e->first = slice;
    e->last = slice;
    if (e->out >= 0) /* the first slice waits for progress(), which may report that there is nobody */
        send_queue(e);
    else
        e->waits_to_connect = true;
    return WEFT_OK;
}

/* ---- progress and waiting ---- */

static int seqpacket_progress(weft_transport *t)
{
    struct epoll_event events[EVENTS];
    int moved = 0, count = t->closed ? 0 : epoll_wait(t->epoll, events, EVENTS, 0);
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd;
        if (fd == t->listener) {
            accept_all(t);
            continue;
        }
        for (int g = 0; g < GUESTS; g++)
            if (t->guests[g] == fd)
                meet(t, &t->guests[g]);
        for (int r = 0; r < t->config.ranks; r++) { /* a table by descriptor would serve more ranks */
            weft_endpoint *e = &t->peers[r];
            if (e->in == fd)
                moved += receive_some(e);
            else if (e->out == fd && events[i].events & (EPOLLHUP | EPOLLERR))
                sending_failed(e, "closed");
            else if (e->out == fd)
                moved += send_queue(e);
        }
    }
    for (int r = 0; r < t->config.ranks && !t->closed; r++)
        if (t->peers[r].waits_to_connect)
            moved += send_queue(&t->peers[r]);
    return moved;
}

static int seqpacket_wait_fd(weft_transport *t)
{
    return t->epoll;
}

static weft_status seqpacket_arm(weft_transport *t)
{
    for (int r = 0; r < t->config.ranks; r++)
        if (t->peers[r].waits_to_connect)
            return WEFT_IN_PROGRESS; /* no descriptor tells when there is room for another connection */
    return WEFT_OK;
}

static weft_status seqpacket_flush(weft_transport *t, int64_t timeout_ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t end_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000 + timeout_ms;
    for (;;) {
        weft_endpoint *waiting = NULL;
        for (int r = 0; r < t->config.ranks; r++) {
            send_queue(&t->peers[r]);
            if (t->peers[r].first)
                waiting = &t->peers[r];
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left_ms = end_ms - (now.tv_sec * 1000 + now.tv_nsec / 1000000);
        if (!waiting)
            return WEFT_OK;
        if (left_ms <= 0)
            return fail(t, WEFT_ERR_TIMEOUT, "seqpacket: rank %d does not read", waiting->rank);
        struct pollfd room = {.fd = waiting->out, .events = POLLOUT};
        poll(&room, 1, waiting->out >= 0 && left_ms > 10 ? 10 : 1);
    }
}

/* ---- addresses ---- */

static uint64_t machine_number(void)
{
    uint64_t number = 1469598103934665603u;
    int c;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    while (f && (c = fgetc(f)) != EOF)
        number = (number ^ (uint64_t)c) * 1099511628211u;
    if (f)
        fclose(f);
    return number;
}

static socklen_t socket_name(struct sockaddr_un *un, const char *name)
{
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX; /* an abstract name: a zero, then the text; no file is left behind */
    int n = snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "%.23s", name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static weft_status seqpacket_address(weft_transport *t, void *bytes_of_address, size_t *bytes)
{
    if (*bytes < sizeof t->self)
        return fail(t, WEFT_ERR_INVALID, "seqpacket: an address needs %zu bytes, there are %zu", sizeof t->self, *bytes);
    memcpy(bytes_of_address, &t->self, sizeof t->self);
    *bytes = sizeof t->self;
    return WEFT_OK;
}

static weft_status seqpacket_reachable(weft_transport *t, int peer, const void *theirs, size_t bytes, weft_path_info *info)
{
    address a;
    if (bytes != sizeof a)
        return fail(t, WEFT_ERR_UNSUPPORTED, "seqpacket: rank %d gave an address of %zu bytes, not %zu", peer, bytes, sizeof a);
    memcpy(&a, theirs, sizeof a);
    if (a.magic != MAGIC || a.machine != t->self.machine || a.namespace != t->self.namespace)
        return fail(t, WEFT_ERR_UNSUPPORTED, "seqpacket: rank %d is on another host or in another network namespace", peer);
    if (info)
        *info = (weft_path_info){.latency_ns = 8000, .bandwidth_Bps = 3e9, .name = "seqpacket"};
    return WEFT_OK;
}

static weft_status seqpacket_connect(weft_transport *t, int peer, const void *theirs, size_t bytes, weft_endpoint **out)
{
    address a;
    if (peer < 0 || peer >= t->config.ranks || t->closed)
        return fail(t, WEFT_ERR_INVALID, "seqpacket: no way to rank %d of %d", peer, t->config.ranks);
    weft_status status = seqpacket_reachable(t, peer, theirs, bytes, NULL);
    if (status != WEFT_OK)
        return status;
    memcpy(&a, theirs, sizeof a);
    t->peers[peer].to_bytes = socket_name(&t->peers[peer].to, a.name);
    *out = &t->peers[peer];
    return WEFT_OK;
}

static void seqpacket_abandon(weft_endpoint *e)
{
    e->failed = true;
    e->waits_to_connect = false;
    close_fd(&e->out);
    close_fd(&e->in);
    drop_queue(e, WEFT_ERR_PEER);
}

/* ---- beginning and end ---- */

static void seqpacket_close(weft_transport *t)
{
    if (t->closed)
        return;
    t->closed = true;
    close_fd(&t->listener);
    for (int i = 0; i < GUESTS; i++)
        close_fd(&t->guests[i]);
    for (int r = 0; t->peers && r < t->config.ranks; r++) {
        close_fd(&t->peers[r].out);
        close_fd(&t->peers[r].in);
        drop_queue(&t->peers[r], WEFT_ERR_ABORTED);
    }
}

static void seqpacket_destroy(weft_transport *t)
{
    if (!t)
        return;
    seqpacket_close(t);
    close_fd(&t->epoll);
    for (int r = 0; t->peers && r < t->config.ranks; r++)
        free(t->peers[r].own);
    free(t->peers);
    free(t);
}

static weft_status start_listening(weft_transport *t)
{
    struct sockaddr_un un;
    struct stat namespace;
    uint64_t number[2] = {(uint64_t)getpid(), (uint64_t)(uintptr_t)t ^ t->config.job};
    t->self = (address){.magic = MAGIC, .machine = machine_number()};
    t->self.namespace = stat("/proc/self/ns/net", &namespace) == 0 ? (uint64_t)namespace.st_ino : 0;
    snprintf(t->self.name, sizeof t->self.name, "weft%x%012llx", (unsigned)number[0],
             (unsigned long long)number[1] & 0xffffffffffff);
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t bytes = socket_name(&un, t->self.name);
    if (t->epoll < 0 || t->listener < 0 || bind(t->listener, (struct sockaddr *)&un, bytes) != 0 ||
        listen(t->listener, 1024) != 0)
        return fail(t, WEFT_ERR_SYSTEM, "seqpacket: cannot listen: %s", strerror(errno));
    watch(t, t->listener, EPOLLIN, EPOLL_CTL_ADD);
    return WEFT_OK;
}

static weft_status seqpacket_open(const weft_transport_config *config, weft_transport **out)
{
    weft_transport *t = calloc(1, sizeof *t);
    if (!t)
        return config->fail(WEFT_ERR_MEMORY, "seqpacket: no memory");
    t->config = *config;
    t->listener = t->epoll = -1;
    for (int i = 0; i < GUESTS; i++)
        t->guests[i] = -1;
    t->peers = calloc((size_t)config->ranks, sizeof *t->peers);
    for (int r = 0; t->peers && r < config->ranks; r++)
        t->peers[r] = (weft_endpoint){.transport = t, .rank = r, .out = -1, .in = -1};
    weft_status status =
        t->peers ? start_listening(t) : fail(t, WEFT_ERR_MEMORY, "seqpacket: no memory for %d peers", config->ranks);
    if (status == WEFT_OK)
        *out = t;
    else
        seqpacket_destroy(t);
    return status;
}

const weft_transport_ops weft_transport_plugin = {
    .abi = WEFT_TRANSPORT_ABI, .size = sizeof(weft_transport_ops), .name = "seqpacket",
    .open = seqpacket_open, .address = seqpacket_address, .reachable = seqpacket_reachable, .connect = seqpacket_connect,
    .send = seqpacket_send, .progress = seqpacket_progress, .wait_fd = seqpacket_wait_fd, .arm = seqpacket_arm,
    .abandon = seqpacket_abandon, .close = seqpacket_close, .flush = seqpacket_flush, .destroy = seqpacket_destroy,
};

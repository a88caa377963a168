/* A transport by itself, without collectives: half a round trip of one slice, and slices one after another, between two processes
 * on CPUs of their own, beside the same by the plainest means. Arguments: names of transports (default: shm tcp). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "transport/registry.h"
#include "transport/shm/shm.h"

enum { BATCHES = 11, ROUNDS = 400, STREAM = 64, AHEAD = 16, LARGEST = 128 << 10, PATIENCE_S = 60 };
static const size_t sizes[] = {8, 512, 4 << 10, 32 << 10, LARGEST};

/* One of the two processes. `way` is a pipe to the other for what comes before the transport. */
typedef struct side {
    int rank, way;
    unsigned char *buffer;
    const weft_transport_ops *ops;
    weft_transport *transport;
    weft_endpoint *peer;
    weft_host *host;
    uint64_t arrived;
    const char *broken;
    int socket; /* of the plain way by TCP */
    struct shared *shared; /* of the plain way by memory */
    uint64_t given, taken; /* by it */
} side;

/* A flag and data of each side: the flag counts what the side has written, and read. */
typedef struct shared {
    struct {
        _Alignas(128) _Atomic uint64_t given;
        _Alignas(128) _Atomic uint64_t taken;
        _Alignas(128) unsigned char data[AHEAD][LARGEST];
    } of[2];
} shared;

typedef struct outgoing {
    weft_slice slice;
    bool busy;
} outgoing;

static outgoing pool[AHEAD];

static void give_up(const char *what)
{
    fprintf(stderr, "bench_transport: %s\n", what);
    exit(1);
}

static void exchange(const side *s, const void *mine, void *theirs, size_t bytes)
{
    if (write(s->way, mine, bytes) != (ssize_t)bytes || recv(s->way, theirs, bytes, MSG_WAITALL) != (ssize_t)bytes)
        give_up("the other process is gone");
}

static weft_status allgather(void *context, const void *send, void *recv_all, size_t bytes)
{
    const side *s = context;
    char *all = recv_all;
    memcpy(all + (size_t)s->rank * bytes, send, bytes);
    exchange(s, send, all + (size_t)!s->rank * bytes, bytes);
    return WEFT_OK;
}

/* ---- the transport --------------------------------------------------------------------------------- */

static void *place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    (void)peer, (void)header, (void)bytes;
    return ((side *)context)->buffer + LARGEST;
}

static void arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    side *s = context;
    (void)peer, (void)header;
    if (payload != s->buffer + LARGEST && bytes)
        memcpy(s->buffer + LARGEST, payload, bytes);
    s->arrived++;
}

static void failed(void *context, int peer, weft_status status, const char *reason)
{
    (void)peer, (void)status;
    ((side *)context)->broken = reason;
}

static void sent(weft_slice *slice, weft_status status)
{
    if (status != WEFT_OK)
        ((side *)slice->context)->broken = "a slice was not sent";
    ((outgoing *)slice)->busy = false; /* the slice is its first member */
}

static void progress(side *s)
{
    if (s->ops->progress(s->transport) == 0)
        weft_cpu_relax();
    if (s->broken)
        give_up(s->broken);
}

static void send_slice(side *s, size_t bytes)
{
    static unsigned next;
    outgoing *o = &pool[next++ % AHEAD];
    while (o->busy)
        progress(s);
    o->slice = (weft_slice){.payload = s->buffer, .bytes = bytes, .done = sent, .context = s};
    o->busy = true;
    if (s->ops->send(s->peer, &o->slice) != WEFT_OK)
        give_up(weft_last_error());
}

static void receive_slice(side *s, size_t bytes)
{
    uint64_t until = ++s->taken;
    (void)bytes;
    while (s->arrived < until)
        progress(s);
}

static void open_transport(side *s, const char *name)
{
    weft_host_config host = {.rank = s->rank, .ranks = 2, .job = 1, .region_bytes = weft_shm_region_bytes(2),
                             .deadline_ns = weft_deadline_ns(10000), .allgather = allgather, .context = s};
    weft_transport_config config = {.size = sizeof config, .rank = s->rank, .ranks = 2, .job = 1, .dead_peer_ms = 10000,
                                    .sink = {.context = s, .place = place, .arrived = arrived, .failed = failed},
                                    .fail = weft_transport_fail, .log = weft_transport_log};
    static unsigned char address[2][WEFT_TRANSPORT_ADDRESS_MAX];
    uint64_t bytes[2] = {0};
    size_t own = sizeof address[0];
    if (weft_host_create(&host, &s->host) != WEFT_OK)
        give_up(weft_last_error());
    config.host = s->host;
    if (weft_transport_get(name, &s->ops) != WEFT_OK || s->ops->open(&config, &s->transport) != WEFT_OK ||
        s->ops->address(s->transport, address[s->rank], &own) != WEFT_OK)
        give_up(weft_last_error());
    bytes[s->rank] = own;
    exchange(s, &bytes[s->rank], &bytes[!s->rank], sizeof bytes[0]);
    exchange(s, address[s->rank], address[!s->rank], sizeof address[0]);
    if (s->ops->connect(s->transport, !s->rank, address[!s->rank], bytes[!s->rank], &s->peer) != WEFT_OK)
        give_up(weft_last_error());
}

static void close_transport(side *s)
{
    char word = 0;
    for (int i = 0; i < AHEAD; i++)
        while (pool[i].busy)
            progress(s);
    s->ops->flush(s->transport, 1000);
    exchange(s, &word, &word, 1);
    s->ops->destroy(s->transport);
    weft_host_destroy(s->host);
}

/* ---- the plainest ways ------------------------------------------------------------------------- */

static void write_memory(side *s, size_t bytes)
{
    /* acquire: the other side has read what is overwritten; release: it sees the data (partner: read_memory) */
    while (s->given - atomic_load_explicit(&s->shared->of[!s->rank].taken, memory_order_acquire) >= AHEAD)
        weft_cpu_relax();
    memcpy(s->shared->of[s->rank].data[s->given % AHEAD], s->buffer, bytes);
    atomic_store_explicit(&s->shared->of[s->rank].given, ++s->given, memory_order_release);
}

static void read_memory(side *s, size_t bytes)
{
    while (atomic_load_explicit(&s->shared->of[!s->rank].given, memory_order_acquire) <= s->taken)
        weft_cpu_relax();
    memcpy(s->buffer + LARGEST, s->shared->of[!s->rank].data[s->taken % AHEAD], bytes);
    atomic_store_explicit(&s->shared->of[s->rank].taken, ++s->taken, memory_order_release);
}

static void open_memory(side *s, const char *name)
{
    (void)name;
    s->given = s->taken = 0;
    memset(&s->shared->of[s->rank], 0, sizeof s->shared->of[0]);
    char word = 0;
    exchange(s, &word, &word, 1);
}

static void write_socket(side *s, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = send(s->socket, s->buffer + at, bytes - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            give_up(strerror(errno));
        at += n > 0 ? (size_t)n : 0;
    }
}

static void read_socket(side *s, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = recv(s->socket, s->buffer + LARGEST + at, bytes - at, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            give_up("the other side of the socket is gone");
        at += n > 0 ? (size_t)n : 0;
    }
}

static void open_socket(side *s, const char *name)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in_port_t port = 0;
    (void)name;
    if (s->rank == 0 && (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 1) != 0 ||
                         getsockname(fd, (struct sockaddr *)&address, &length) != 0))
        give_up(strerror(errno));
    exchange(s, &address.sin_port, &port, sizeof port);
    if (s->rank == 0) {
        s->socket = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        close(fd);
    } else {
        address.sin_port = port;
        s->socket = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
    }
    if (s->socket < 0 || setsockopt(s->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        give_up(strerror(errno));
}

static void close_socket(side *s) { close(s->socket); }
static void close_memory(side *s) { (void)s; }

/* ---- measuring --------------------------------------------------------------------------------- */

typedef struct means {
    void (*open)(side *s, const char *name);
    void (*send)(side *s, size_t bytes);
    void (*receive)(side *s, size_t bytes);
    void (*close)(side *s);
} means;

static const means by_transport = {open_transport, send_slice, receive_slice, close_transport};
static const means by_memory = {open_memory, write_memory, read_memory, close_memory};
static const means by_socket = {open_socket, write_socket, read_socket, close_socket};

static void bounce(side *s, const means *m, size_t bytes)
{
    for (int half = 0; half < 2; half++)
        (half == s->rank ? m->send : m->receive)(s, bytes);
}

/* Slices from rank 0, and a word back. */
static void stream(side *s, const means *m, size_t bytes)
{
    for (int i = 0; i < STREAM; i++)
        (s->rank ? m->receive : m->send)(s, bytes);
    (s->rank ? m->send : m->receive)(s, 8);
}

static double best_ns(side *s, const means *m, void (*act)(side *, const means *, size_t), size_t bytes, int rounds)
{
    int64_t best = INT64_MAX;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = weft_now_ns();
        for (int i = 0; i < rounds; i++)
            act(s, m, bytes);
        int64_t ns = weft_now_ns() - start;
        best = ns < best ? ns : best;
    }
    return (double)best / rounds;
}

static void measure(side *s, const means *m, const char *name, double ns[][2])
{
    s->given = s->taken = s->arrived = 0;
    m->open(s, name);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        ns[i][0] = best_ns(s, m, bounce, sizes[i], ROUNDS) / 2;
        ns[i][1] = best_ns(s, m, stream, sizes[i], ROUNDS / STREAM + 1) / STREAM;
    }
    m->close(s);
}

static void run(side *s, const char *name)
{
    double own[ARRAY_LEN(sizes)][2], plain[ARRAY_LEN(sizes)][2];
    bool memory = strcmp(name, "shm") == 0;
    measure(s, &by_transport, name, own);
    measure(s, memory ? &by_memory : &by_socket, name, plain);
    if (s->rank)
        return;
    printf("# %s, beside plain %s; ns, best of %d batches\n", name, memory ? "copies through memory" : "loopback sockets",
           BATCHES);
    printf("%10s %12s %10s %12s %10s %10s\n", "bytes", "one way", "plain", "in a stream", "plain", "GB/s");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        printf("%10zu %12.0f %10.0f %12.0f %10.0f %10.2f\n", sizes[i], own[i][0], plain[i][0], own[i][1], plain[i][1],
               (double)sizes[i] / own[i][1]);
    fflush(stdout);
}

static void pin(int rank)
{
    cpu_set_t allowed, one;
    int seen = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        give_up("needs two CPUs");
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && seen++ == rank)
            CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"shm", "tcp"};
    int ways[2], status = 0, names = argc > 1 ? argc - 1 : (int)ARRAY_LEN(usual);
    if (argc > 1 && argv[1][0] == '-') {
        fprintf(stderr, "usage: bench_transport [TRANSPORT...]\n");
        return 2;
    }
    shared *memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ways) != 0)
        give_up(strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        give_up(strerror(errno));
    side s = {.rank = child == 0, .way = ways[child == 0], .shared = memory};
    close(ways[child != 0]);
    if (child == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        return 1;
    pin(s.rank);
    s.buffer = calloc(2, LARGEST);
    if (!s.buffer)
        give_up("no memory");
    for (int i = 0; i < names; i++) {
        alarm(PATIENCE_S); /* who waits for a process that is gone does not wait for ever */
        run(&s, argc > 1 ? argv[i + 1] : usual[i]);
    }
    free(s.buffer);
    if (child > 0)
        waitpid(child, &status, 0);
    return status ? 1 : 0;
}

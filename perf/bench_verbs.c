/* The verbs transport between two devices of this machine, as perftest measures: half a round trip of one slice (ib_send_lat), or
 * slices of one direction (ib_write_bw). One figure on stdout, so that a script can set it beside perftest's.
 * Arguments: latency|bandwidth DEVICE DEVICE BYTES COUNT [staged]. Bandwidth is of registered memory unless "staged". */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/registry.h"

enum { AHEAD = 16, WARM_UP = 20, PATIENCE_S = 120, IDLE_ROUNDS = 20, YIELD_ROUNDS = 200 };

typedef struct side {
    int rank, way; /* a pipe to the other */
    unsigned char *out, *in;
    const weft_transport_ops *ops;
    weft_transport *transport;
    weft_endpoint *peer;
    uint64_t arrived, sent;
    int idle; /* rounds in which nothing moved */
    const char *broken;
} side;

static void give_up(const char *what)
{
    fprintf(stderr, "bench_verbs: %s\n", what);
    exit(1);
}

static void exchange(const side *s, const void *mine, void *theirs, size_t bytes)
{
    if (write(s->way, mine, bytes) != (ssize_t)bytes || recv(s->way, theirs, bytes, MSG_WAITALL) != (ssize_t)bytes)
        give_up("the other process is gone");
}

static void *place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    (void)peer, (void)header, (void)bytes;
    return ((side *)context)->in;
}

static void arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    side *s = context;
    (void)peer, (void)header;
    if (payload != s->in && bytes)
        memcpy(s->in, payload, bytes);
    s->arrived++;
}

static void failed(void *context, int peer, weft_status status, const char *reason)
{
    (void)peer, (void)status;
    ((side *)context)->broken = reason;
}

static void done(weft_slice *slice, weft_status status)
{
    side *s = slice->context;
    if (status != WEFT_OK)
        s->broken = "a slice was not sent";
    s->sent++;
}

/* Who spins for long offers the processor to others now and then, as collectives do. */
static void progress(side *s)
{
    if (s->ops->progress(s->transport) > 0)
        s->idle = 0;
    else if (++s->idle % YIELD_ROUNDS == 0)
        sched_yield();
    if (s->broken)
        give_up(s->broken);
}

/* The same, but sleeps when nothing has come for some rounds, as collectives do and as perftest's passive side does: with software
 * RDMA who spins takes the processor from who moves the bytes. */
static void progress_or_sleep(side *s)
{
    struct pollfd fd = {.fd = s->ops->wait_fd(s->transport), .events = POLLIN};
    if (s->ops->progress(s->transport) > 0)
        s->idle = 0;
    else if (++s->idle > IDLE_ROUNDS && s->ops->arm(s->transport) == WEFT_OK)
        poll(&fd, 1, 1000);
    if (s->broken)
        give_up(s->broken);
}

/* With software RDMA and two processors who spins on the other's takes turns of milliseconds with it. */
static void pin(int rank)
{
    cpu_set_t allowed, one;
    int seen = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && seen++ == rank % CPU_COUNT(&allowed))
            CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static void open_side(side *s, size_t bytes, bool registered)
{
    weft_transport_config config = {.size = sizeof config, .rank = s->rank, .ranks = 2, .job = 1, .dead_peer_ms = 10000,
                                    .sink = {.context = s, .place = place, .arrived = arrived, .failed = failed},
                                    .fail = weft_transport_fail, .log = weft_transport_log};
    unsigned char address[2][WEFT_TRANSPORT_ADDRESS_MAX] = {{0}};
    uint64_t lengths[2] = {0};
    size_t own = sizeof address[0];
    void *memory = NULL;
    if (registered ? weft_mem_alloc(2 * bytes, &memory) != WEFT_OK : !(memory = calloc(2, bytes)))
        give_up(registered ? weft_last_error() : "no memory");
    s->out = memory;
    s->in = s->out + bytes;
    if (weft_transport_get("verbs", &s->ops) != WEFT_OK || s->ops->open(&config, &s->transport) != WEFT_OK ||
        s->ops->address(s->transport, address[s->rank], &own) != WEFT_OK)
        give_up(weft_last_error());
    lengths[s->rank] = own;
    exchange(s, &lengths[s->rank], &lengths[!s->rank], sizeof lengths[0]);
    exchange(s, address[s->rank], address[!s->rank], sizeof address[0]);
    if (s->ops->connect(s->transport, !s->rank, address[!s->rank], lengths[!s->rank], &s->peer) != WEFT_OK)
        give_up(weft_last_error());
}

static void send_one(side *s, weft_slice *slice, size_t bytes)
{
    *slice = (weft_slice){.payload = s->out, .bytes = bytes, .done = done, .context = s};
    if (s->ops->send(s->peer, slice) != WEFT_OK)
        give_up(weft_last_error());
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* Median of half round trips, us. */
static double latency(side *s, size_t bytes, int count)
{
    double *times = calloc((size_t)count, sizeof *times);
    weft_slice slice;
    if (!times)
        give_up("no memory");
    for (int i = -WARM_UP; i < count; i++) {
        int64_t start = weft_now_ns();
        uint64_t turn = (uint64_t)(i + WARM_UP);
        for (int half = 0; half < 2; half++) {
            if (half == s->rank)
                send_one(s, &slice, bytes);
            while ((half != s->rank && s->arrived <= turn) || s->sent < turn + (half == s->rank))
                progress(s);
        }
        if (i >= 0)
            times[i] = (double)(weft_now_ns() - start) / 2e3;
    }
    qsort(times, (size_t)count, sizeof *times, compare);
    double median = times[count / 2];
    free(times);
    return median;
}

/* MB/s from rank 0 to rank 1, until the last slice is there. */
static double bandwidth(side *s, size_t bytes, int count)
{
    static weft_slice slices[AHEAD];
    int64_t start = 0;
    for (int pass = 0; pass < 2; pass++) { /* the first one makes the connection and registers */
        uint64_t from = s->sent, until = s->arrived + (uint64_t)(s->rank ? (pass ? count : 1) : 1), posted = 0;
        start = weft_now_ns();
        if (s->rank == 0) {
            uint64_t most = pass ? (uint64_t)count : 1;
            while (s->sent - from < most) {
                while (posted < most && posted - (s->sent - from) < AHEAD) {
                    send_one(s, &slices[posted % AHEAD], bytes);
                    posted++;
                }
                progress_or_sleep(s);
            }
        } else {
            while (s->arrived < until)
                progress_or_sleep(s);
            send_one(s, &slices[0], 8);
        }
        while (s->rank == 0 ? s->arrived < until : s->sent < from + 1)
            progress_or_sleep(s);
    }
    return (double)bytes * count / ((double)(weft_now_ns() - start) / 1e3);
}

int main(int argc, char **argv)
{
    int64_t bytes, count;
    int ways[2], status = 0;
    if (argc < 6 || weft_parse_bytes(argv[4], &bytes) != WEFT_OK || bytes < 8 || bytes > WEFT_SLICE_MAX_BYTES ||
        weft_parse_int(argv[5], 1, 1000000, &count) != WEFT_OK) {
        fprintf(stderr, "usage: bench_verbs latency|bandwidth DEVICE DEVICE BYTES COUNT [staged]\n");
        return 2;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ways) != 0)
        give_up(strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        give_up(strerror(errno));
    side s = {.rank = child == 0, .way = ways[child == 0]};
    close(ways[child != 0]);
    if (child == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        return 1;
    alarm(PATIENCE_S);
    setenv("WEFT_IB_HCA", argv[2 + s.rank], 1);
    open_side(&s, (size_t)bytes, argc < 7);
    bool slow = strcmp(argv[1], "latency") == 0;
    if (slow)
        pin(s.rank);
    double figure = slow ? latency(&s, (size_t)bytes, (int)count) : bandwidth(&s, (size_t)bytes, (int)count);
    if (s.rank == 0)
        printf("%.2f\n", figure);
    s.ops->flush(s.transport, 1000);
    exchange(&s, "", &(char){0}, 1);
    s.ops->destroy(s.transport);
    if (child > 0)
        waitpid(child, &status, 0);
    return status ? 1 : 0;
}

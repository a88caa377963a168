/* One transport between two processes, as the benchmarks of RDMA and UCX measure: half a round trip of one message (ib_send_lat,
 * ucp_am_lat), or messages of one direction (ib_write_bw, ucp_am_bw). One figure on stdout, so that a script can set it beside
 * theirs (tests/rdma/figures.py, perf/ucx_figures.py). A message longer than a slice is several slices.
 * Arguments: TRANSPORT latency|bandwidth BYTES COUNT [registered|untouched] [DEVICE DEVICE]; the devices are for verbs.
 * registered: memory of weft_mem_alloc. untouched: memory that is never written before, as ucx_perftest's: what is sent is the
 * kernel's page of zeros, again and again from the cache, which saves 25 us of 230 where 1 MB goes through tcp. */
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

enum { AHEAD = 16, WARM_UP = 20, PATIENCE_S = 120, IDLE_ROUNDS = 20, YIELD_ROUNDS = 200, MESSAGE_MAX = 64 << 20 };

typedef struct side {
    int rank, way; /* a pipe to the other */
    unsigned char *out, *in;
    size_t bytes;      /* of a message */
    uint64_t slices;   /* of a message */
    bool sleeps;       /* who waits */
    const weft_transport_ops *ops;
    weft_transport *transport;
    weft_endpoint *peer;
    uint64_t arrived, sent;
    uint64_t number; /* of the next slice */
    int idle; /* rounds in which nothing moved */
    const char *broken;
} side;

static void give_up(const char *what)
{
    fprintf(stderr, "bench_pair: %s\n", what);
    exit(1);
}

static void exchange(const side *s, const void *mine, void *theirs, size_t bytes)
{
    if (write(s->way, mine, bytes) != (ssize_t)bytes || recv(s->way, theirs, bytes, MSG_WAITALL) != (ssize_t)bytes)
        give_up("the other process is gone");
}

static size_t offset_of(const unsigned char *header)
{
    uint64_t offset;
    memcpy(&offset, header, sizeof offset);
    return offset;
}

static void *place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    (void)peer, (void)bytes;
    return ((side *)context)->in + offset_of(header);
}

/* Nothing is done with the payload, as with those that are set beside it. */
static void arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    (void)peer, (void)header, (void)payload, (void)bytes;
    ((side *)context)->arrived++;
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

/* Who spins for long offers the processor to others now and then, as collectives do, where the kernel moves the bytes. */
static void progress(side *s)
{
    if (s->ops->progress(s->transport) > 0)
        s->idle = 0;
    else if (++s->idle % YIELD_ROUNDS == 0 && s->sleeps)
        sched_yield();
    if (s->broken)
        give_up(s->broken);
}

/* The same, but sleeps when nothing has come for some rounds, as collectives do and as perftest's passive side does: with
 * software RDMA who spins takes the processor from who moves the bytes. */
static void progress_or_sleep(side *s)
{
    if (!s->sleeps) {
        progress(s);
        return;
    }
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

/* As UCX allocates for ucx_perftest: huge pages where less than half of them is left over. */
static unsigned char *untouched(size_t bytes)
{
    const size_t huge = 2 << 20;
    char *memory = mmap(NULL, bytes + 2 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        give_up("no memory");
    memory = (char *)weft_round_up((size_t)memory, huge);
    if (weft_round_up(bytes, huge) < 2 * bytes)
        (void)madvise(memory, weft_round_up(bytes, huge), MADV_HUGEPAGE);
    return (unsigned char *)memory;
}

static void allocate(side *s, const char *kind)
{
    void *memory = NULL;
    if (strcmp(kind, "untouched") == 0) {
        s->out = untouched(s->bytes);
        s->in = untouched(s->bytes);
        return;
    }
    if (strcmp(kind, "registered") == 0 ? weft_mem_alloc(2 * s->bytes, &memory) != WEFT_OK
                                        : !(memory = weft_alloc_aligned(4096, 2 * s->bytes)))
        give_up("no memory");
    memset(memory, 1, 2 * s->bytes);
    s->out = memory;
    s->in = s->out + s->bytes;
}

static void open_side(side *s, const char *name)
{
    weft_transport_config config = {.size = sizeof config, .rank = s->rank, .ranks = 2, .job = 1, .dead_peer_ms = 10000,
                                    .sink = {.context = s, .place = place, .arrived = arrived, .failed = failed},
                                    .fail = weft_transport_fail, .log = weft_transport_log};
    unsigned char address[2][WEFT_TRANSPORT_ADDRESS_MAX] = {{0}};
    uint64_t lengths[2] = {0};
    size_t own = sizeof address[0];
    if (weft_transport_get(name, &s->ops) != WEFT_OK || s->ops->open(&config, &s->transport) != WEFT_OK ||
        s->ops->address(s->transport, address[s->rank], &own) != WEFT_OK)
        give_up(weft_last_error());
    lengths[s->rank] = own;
    exchange(s, &lengths[s->rank], &lengths[!s->rank], sizeof lengths[0]);
    exchange(s, address[s->rank], address[!s->rank], sizeof address[0]);
    if (s->ops->connect(s->transport, !s->rank, address[!s->rank], lengths[!s->rank], &s->peer) != WEFT_OK)
        give_up(weft_last_error());
}

/* One message, of `bytes`; slices are of an array with as many places as a message has slices. */
static void send_one(side *s, weft_slice *slices, size_t bytes)
{
    for (uint64_t at = 0, i = 0; at < bytes; at += WEFT_SLICE_MAX_BYTES, i++) {
        size_t part = bytes - at < WEFT_SLICE_MAX_BYTES ? bytes - at : WEFT_SLICE_MAX_BYTES;
        slices[i] = (weft_slice){.payload = s->out + at, .bytes = part, .done = done, .context = s};
        memcpy(slices[i].header, &at, sizeof at);
        memcpy(slices[i].header + sizeof at, &s->number, sizeof s->number); /* as in collectives, no two headers are the same */
        s->number++;
        if (s->ops->send(s->peer, &slices[i]) != WEFT_OK)
            give_up(weft_last_error());
    }
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* Median of half round trips, us. */
static double latency(side *s, weft_slice *slices, int count)
{
    double *times = calloc((size_t)count, sizeof *times);
    if (!times)
        give_up("no memory");
    int64_t start = weft_now_ns();
    for (int i = -WARM_UP; i < count; i++) { /* one look at the clock each, as theirs */
        uint64_t after = (uint64_t)(i + WARM_UP + 1) * s->slices, before = after - s->slices;
        for (int half = 0; half < 2; half++) {
            if (half == s->rank)
                send_one(s, slices, s->bytes);
            while ((half != s->rank && s->arrived < after) || s->sent < (half >= s->rank ? after : before))
                progress(s);
        }
        int64_t end = weft_now_ns();
        if (i >= 0)
            times[i] = (double)(end - start) / 2e3;
        start = end;
    }
    qsort(times, (size_t)count, sizeof *times, compare);
    double median = times[count / 2];
    free(times);
    return median;
}

/* MB/s from rank 0 to rank 1, until the last message is there and a word of that came back. */
static double bandwidth(side *s, weft_slice *slices, int count)
{
    int64_t start = 0;
    for (int pass = 0; pass < 2; pass++) { /* the first one makes the connection and registers */
        uint64_t most = (uint64_t)(pass ? count : 1) * s->slices, from = s->sent, posted = 0;
        uint64_t until = s->arrived + (s->rank ? most : 1);
        start = weft_now_ns();
        while (s->rank == 0 && s->sent - from < most) {
            while (posted < most && posted - (s->sent - from) + s->slices <= AHEAD * s->slices) {
                send_one(s, &slices[posted % (AHEAD * s->slices)], s->bytes);
                posted += s->slices;
            }
            progress_or_sleep(s);
        }
        while (s->arrived < until)
            progress_or_sleep(s);
        if (s->rank)
            send_one(s, slices, 8);
        while (s->rank && s->sent == from)
            progress_or_sleep(s);
    }
    return (double)s->bytes * count / ((double)(weft_now_ns() - start) / 1e3);
}

int main(int argc, char **argv)
{
    int64_t bytes, count;
    int ways[2], status = 0, devices = 5;
    const char *memory = "";
    if (argc > 5 && (strcmp(argv[5], "registered") == 0 || strcmp(argv[5], "untouched") == 0))
        memory = argv[devices++];
    if (argc < 5 || weft_parse_bytes(argv[3], &bytes) != WEFT_OK || bytes < 8 || bytes > MESSAGE_MAX ||
        weft_parse_int(argv[4], 1, 1000000, &count) != WEFT_OK || (argc != devices && argc != devices + 2)) {
        fprintf(stderr, "usage: bench_pair TRANSPORT latency|bandwidth BYTES COUNT [registered|untouched] [DEVICE DEVICE]\n");
        return 2;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ways) != 0)
        give_up(strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        give_up(strerror(errno));
    bool slow = strcmp(argv[2], "latency") == 0, verbs = strcmp(argv[1], "verbs") == 0;
    side s = {.rank = child == 0, .way = ways[child == 0], .bytes = (size_t)bytes, .sleeps = verbs,
              .slices = ((uint64_t)bytes + WEFT_SLICE_MAX_BYTES - 1) / WEFT_SLICE_MAX_BYTES};
    weft_slice *slices = weft_alloc_aligned(WEFT_CACHE_LINE, AHEAD * s.slices * sizeof *slices);
    close(ways[child != 0]);
    if (child == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
        return 1;
    alarm(PATIENCE_S);
    if (!slices)
        give_up("no memory");
    if (argc > devices)
        setenv("WEFT_IB_HCA", argv[devices + s.rank], 1);
    if (slow || !verbs)
        pin(s.rank);
    allocate(&s, memory);
    open_side(&s, argv[1]);
    double figure = slow ? latency(&s, slices, (int)count) : bandwidth(&s, slices, (int)count);
    if (s.rank == 0)
        printf("%.2f\n", figure);
    s.ops->flush(s.transport, 1000);
    exchange(&s, "", &(char){0}, 1);
    s.ops->destroy(s.transport);
    weft_free(slices);
    if (child > 0)
        waitpid(child, &status, 0);
    return status ? 1 : 0;
}

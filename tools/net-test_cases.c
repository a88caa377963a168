/* What a network plugin has to do for NCCL, case by case. Each runs on both sides at once. */
#include "net-test_session.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EARLY_CALLS = 200,          /* of connect() and accept() while the other side does nothing */
    BLOCKING_MS = 1000          /* a call that takes longer blocks */
};

static void report(const session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void report(const session *s, const char *format, ...)
{
    va_list list;
    if (!s->receives)
        return;
    printf("  %-28s ok", s->what);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

/* ---- properties ---- */

static bool case_properties(session *s)
{
    const nccl_net_properties_v12 *p = &s->properties;
    if (!p->name || !*p->name)
        return session_fail(s, "getProperties() gives no name");
    if (p->maxComms < 1 || p->maxRecvs < 1)
        return session_fail(s, "getProperties() gives maxComms %d and maxRecvs %d", p->maxComms, p->maxRecvs);
    if (!(p->ptrSupport & NCCL_PTR_HOST))
        return session_fail(s, "getProperties() gives ptrSupport %d: no host memory", p->ptrSupport);
    if (p->netDeviceType != NCCL_NET_DEVICE_HOST)
        return session_fail(s, "getProperties() gives netDeviceType %d, which needs a GPU", p->netDeviceType);
    if (p->vProps.ndevs < 1 || p->vProps.ndevs > 8)
        return session_fail(s, "getProperties() says that the device consists of %d", p->vProps.ndevs);
    if (p->maxP2pBytes < 1 || p->maxP2pBytes > NCCL_NET_P2P_BYTES_MAX)
        return session_fail(s, "getProperties() gives maxP2pBytes %zu", p->maxP2pBytes);
    report(s, ": %s, %d Mbit/s, guid %llx, port %d, %s, maxRecvs %d, rail %d", p->name, p->speed, (unsigned long long)p->guid,
           p->port, p->pciPath ? p->pciPath : "no PCI device", p->maxRecvs, p->railId);
    return true;
}

/* ---- handshake ---- */

/* Neither call may wait for the other side: each is made many times before the other side begins. */
static bool case_handshake(session *s)
{
    unsigned char handle[NCCL_NET_HANDLE_BYTES] = {0};
    void *listener = NULL, *comm = NULL;
    double slowest = 0, other;
    int calls = 0;
    if (s->receives) {
        if (!session_good(s, plugin_listen(s->plugin, s->device, handle, &listener), "listen"))
            return false;
        for (int i = 0; i < EARLY_CALLS && !comm; i++) {
            double start = now_s();
            if (!session_good(s, plugin_accept(s->plugin, listener, &comm), "accept"))
                return false;
            slowest = now_s() - start > slowest ? now_s() - start : slowest;
        }
        if (comm)
            return session_fail(s, "accept() gave a connection before anybody called connect()");
        if (!session_give(s, handle, sizeof handle) || !session_meet(s))
            return false;
    } else if (!session_take(s, handle, sizeof handle)) {
        return false;
    }
    waiting w = session_wait(s);
    while (!comm) {
        double start = now_s();
        nccl_result result = s->receives ? plugin_accept(s->plugin, listener, &comm)
                                         : plugin_connect(s->plugin, s->device, handle, &comm);
        slowest = now_s() - start > slowest ? now_s() - start : slowest;
        calls++;
        if (!session_good(s, result, s->receives ? "accept" : "connect"))
            return false;
        if (!s->receives && (calls == EARLY_CALLS || (comm && calls < EARLY_CALLS)) && !session_meet(s))
            return false;
        if (!comm && !session_waits(s, &w, s->receives ? "accept" : "connect"))
            return false;
    }
    if (slowest * 1000 > BLOCKING_MS)
        return session_fail(s, "a call of %s() took %.0f ms: it must not block", s->receives ? "accept" : "connect",
                            slowest * 1000);
    if (!session_give(s, &slowest, sizeof slowest) || !session_take(s, &other, sizeof other))
        return false;
    report(s, ": slowest call of accept %.2f ms, of connect %.2f ms", slowest * 1000, other * 1000);
    if (listener && !session_good(s, plugin_close_listen(s->plugin, listener), "closeListen"))
        return false;
    return session_close(s, true, comm);
}

/* ---- messages ---- */

static const size_t odd_sizes[] = {0,     1,     2,     3,      7,      8,      9,      31,      63,      64,     65,
                                   127,   129,   1000,  1023,   4095,   4096,   4097,   8191,    16383,   16385,  40000,
                                   65535, 65536, 65537, 131071, 250000, 262145, 524287, 1000003, 1048576, 1048577};
enum { ODD_SIZES = sizeof odd_sizes / sizeof odd_sizes[0] };

static size_t size_odd(const flow *f, int i)
{
    (void)f;
    return odd_sizes[((unsigned)i * 7) % ODD_SIZES];
}

/* 0, then ever larger ones, none round; the last is the largest. */
static size_t size_growing(const flow *f, int i)
{
    size_t bytes = f->largest;
    for (int k = i + 1; k < f->count; k++)
        bytes = bytes / 3 + (k & 1);
    return i == 0 ? 0 : bytes;
}

static bool run_connected(session *s, const flow *f)
{
    void *comm;
    return session_connect(s, true, &comm) && flow_run(s, comm, true, f) && session_meet(s) && session_close(s, true, comm);
}

static bool case_sizes(session *s)
{
    flow f = {.count = 12, .size_of = size_growing, .largest = s->options->check_bytes, .window = 1, .group = 1, .check = true};
    if (f.largest > s->properties.maxP2pBytes)
        f.largest = s->properties.maxP2pBytes;
    if (s->plugin->version <= 8 && f.largest > (size_t)1 << 30)
        f.largest = (size_t)1 << 30;
    if (!run_connected(s, &f))
        return false;
    report(s, ": 0 to %zu bytes", f.largest);
    return true;
}

static int requests_of(const session *s)
{
    return s->plugin->version == 6 ? NCCL_NET_V6_REQUESTS : NCCL_NET_REQUESTS;
}

static bool case_in_flight(session *s)
{
    flow f = {.count = 600, .size_of = size_odd, .largest = 1048577, .window = requests_of(s), .group = 1, .check = true};
    if (!run_connected(s, &f))
        return false;
    f.shuffle = true;
    f.count = 300;
    if (!run_connected(s, &f))
        return false;
    report(s, ": %d requests, tested in order and in any order", f.window);
    return true;
}

static bool case_grouped(session *s)
{
    int group = s->properties.maxRecvs < NCCL_NET_RECVS_MAX ? s->properties.maxRecvs : NCCL_NET_RECVS_MAX;
    flow f = {.count = 600, .size_of = size_odd, .largest = 1048577, .window = 8, .group = group, .check = true};
    if (group == 1) {
        report(s, ": not offered (maxRecvs is 1)");
        return true;
    }
    if (!run_connected(s, &f))
        return false;
    report(s, ": %d receives per request, sent in reverse", group);
    return true;
}

static bool case_slow_reader(session *s)
{
    flow f = {.count = 150, .size_of = size_odd, .largest = 1048577, .window = requests_of(s), .ahead = 1, .group = 1,
              .pause_us = 3000, .check = true};
    if (!run_connected(s, &f))
        return false;
    report(s, ": one receive at a time, each late, %d sends in flight", f.window);
    return true;
}

/* Small receives while large messages are under way the other way, in one thread, as a ring does it. */
static bool case_both_ways(session *s)
{
    void *there, *back;
    flow large = {.count = 1, .size_of = size_fixed, .largest = 200000, .fixed = 200000, .window = 1, .group = 1, .check = true};
    if (!session_connect(s, true, &there) || !session_connect(s, false, &back))
        return false;
    for (int i = 0; i < 60; i++) {
        if (!flow_run(s, there, true, &large) || !flow_run(s, back, false, &large))
            return false;
    }
    if (!session_meet(s) || !session_close(s, true, there) || !session_close(s, false, back))
        return false;
    report(s, ": 60 round trips");
    return true;
}

/* ---- many connections ---- */

static double resident_KiB(void)
{
    FILE *stream = fopen("/proc/self/statm", "re");
    long total = 0, resident = 0;
    if (stream && fscanf(stream, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    if (stream)
        fclose(stream);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1024;
}

typedef struct usage {
    double KiB;
    int descriptors;
} usage;

static bool talk_on_all(session *s, void **comm, int count)
{
    flow f = {.count = 2, .size_of = size_fixed, .largest = 1000, .fixed = 1000, .window = 2, .group = 1, .check = true};
    for (int i = 0; i < count; i++) {
        if (!flow_run(s, comm[i], true, &f))
            return false;
    }
    return session_meet(s);
}

static bool case_connections(session *s)
{
    int count = s->options->connections;
    void **comm = calloc((size_t)count, sizeof *comm);
    if (!comm)
        return session_fail(s, "no memory for %d connections", count);
    usage before = {resident_KiB(), session_descriptors()}, mine, theirs;
    double start = now_s();
    for (int i = 0; i < count; i++) {
        if (!session_connect(s, true, &comm[i]))
            return false;
    }
    double took = now_s() - start;
    mine = (usage){resident_KiB() - before.KiB, session_descriptors() - before.descriptors};
    if (!session_give(s, &mine, sizeof mine) || !session_take(s, &theirs, sizeof theirs) || !talk_on_all(s, comm, count))
        return false;
    for (int i = 0; i < count; i++) {
        if (!session_close(s, true, comm[i]))
            return false;
    }
    free(comm);
    if (!session_meet(s))
        return false;
    int left = session_descriptors() - before.descriptors;
    if (left > 0)
        return session_fail(s, "%d descriptors are still open after %d connections were closed", left, count);
    report(s, ": %d in %.2f s; idle, each takes %.1f KiB and %.1f descriptors on the receiving side, "
              "%.1f KiB and %.1f on the sending", count, took, mine.KiB / count, (double)mine.descriptors / count,
           theirs.KiB / count, (double)theirs.descriptors / count);
    return true;
}

/* ---- connections that are given up ---- */

static bool case_given_up(session *s)
{
    if (!case_half_made(s))
        return false;
    report(s, ": never connected, never accepted, closed with requests under way");
    return true;
}

/* ---- a peer that is killed ---- */

/* Posts and tests until the plugin reports an error; that is what has to happen. */
static bool outlive(session *s, void *comm)
{
    static char data[65536];
    void *memory = NULL, *request = NULL, *buffer = data;
    size_t bytes = sizeof data;
    int tag = 1, done = 0, sizes[NCCL_NET_RECVS_MAX];
    double start = now_s();
    nccl_result result = plugin_register(s->plugin, comm, data, sizeof data, &memory);
    while (result == NCCL_SUCCESS && now_s() - start < s->options->timeout_s) {
        if (!request && s->receives)
            result = plugin_receive(s->plugin, comm, 1, &buffer, &bytes, &tag, &memory, &request);
        else if (!request)
            result = plugin_send(s->plugin, comm, data, sizeof data, tag, memory, &request);
        if (result == NCCL_SUCCESS && request)
            result = plugin_test(s->plugin, request, &done, sizes);
        if (done)
            request = NULL;
        done = 0;
    }
    if (result == NCCL_SUCCESS)
        return session_fail(s, "the other side was killed, and there is no error after %d s", s->options->timeout_s);
    double took = now_s() - start;
    if ((memory && !session_good(s, plugin_deregister(s->plugin, comm, memory), "deregMr after an error")) ||
        !session_close(s, true, comm))
        return false;
    printf("  %-28s ok: %s after %.2f s\n", s->what, result_text(result), took);
    fflush(stdout);
    return true;
}

bool case_killed(session *s, bool victim)
{
    void *comm;
    flow f = {.count = 64, .size_of = size_fixed, .largest = 65536, .fixed = 65536, .window = 8, .group = 1, .check = true};
    s->what = s->receives == victim ? "receiving side killed" : "sending side killed";
    if (!session_connect(s, true, &comm) || !flow_run(s, comm, true, &f) || !session_meet(s))
        return false;
    if (victim)
        raise(SIGKILL);
    return outlive(s, comm);
}

/* ---- all ---- */

bool cases_run(session *s)
{
    static const struct {
        const char *name;
        bool (*run)(session *s);
    } cases[] = {
        {"properties", case_properties}, {"handshake without blocking", case_handshake}, {"sizes", case_sizes},
        {"requests in flight", case_in_flight}, {"grouped receives", case_grouped}, {"slow reader", case_slow_reader},
        {"both ways", case_both_ways}, {"connections given up", case_given_up}, {"many connections", case_connections},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s->what = cases[i].name;
        if (!cases[i].run(s) || !session_meet(s))
            return false;
    }
    return true;
}

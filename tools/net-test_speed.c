/* Bandwidth and latency per size, for one plugin or for several in turns, so that they can be compared. */
#include "net-test_session.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFERS_BYTES = 256 << 20, ROUNDS_MAX = 32, TRIAL_MESSAGES = 4 };
static const double measure_s = 0.25, latency_s = 0.05;

typedef struct ways {
    void *there, *back;
} ways;

typedef struct figures {
    double latency[ROUNDS_MAX], bandwidth[ROUNDS_MAX];
} figures;

/* ---- bandwidth ---- */

/* Bytes per second at the receiving side; the sending side gets the same figure. */
static bool run_flow(session *s, void *comm, size_t bytes, int count, double *took)
{
    flow f = {.count = count, .size_of = size_fixed, .largest = bytes, .fixed = bytes, .window = s->options->in_flight,
              .group = 1, .took = took};
    while (f.window > 1 && (size_t)f.window * bytes > BUFFERS_BYTES)
        f.window /= 2;
    f.window = f.window < count ? f.window : count;
    return flow_run(s, comm, true, &f);
}

static bool measure_bandwidth(session *s, void *comm, size_t bytes, double *bandwidth)
{
    int count = TRIAL_MESSAGES;
    double took;
    for (bool enough = false; !enough;) {
        if (!run_flow(s, comm, bytes, count, &took))
            return false;
        int next = (int)(measure_s / (took / count)) + 1;
        enough = took > measure_s * 0.7;
        if (s->receives) {
            int limit = count * 16;
            next = enough ? -1 : next < limit ? next : limit;
            if (!session_give(s, &next, sizeof next))
                return false;
        } else if (!session_take(s, &next, sizeof next)) {
            return false;
        }
        enough = next < 0;
        if (!enough)
            count = next;
    }
    *bandwidth = (double)bytes * count / took;
    return true;
}

/* ---- latency ---- */

typedef struct ball {
    void *comm, *memory;
    char *data;
    size_t bytes;
    bool sends;
} ball;

static bool pass(session *s, const ball *b)
{
    void *request = NULL, *data = b->data, *memory = b->memory;
    size_t bytes = b->bytes;
    int tag = 1, done = 0;
    waiting w = session_wait(s);
    while (!request) {
        nccl_result result = b->sends ? plugin_send(s->plugin, b->comm, data, bytes, tag, memory, &request)
                                      : plugin_receive(s->plugin, b->comm, 1, &data, &bytes, &tag, &memory, &request);
        if (!session_good(s, result, b->sends ? "isend" : "irecv") || (!request && !session_waits(s, &w, "isend or irecv")))
            return false;
    }
    while (!done) {
        if (!session_good(s, plugin_test(s->plugin, request, &done, NULL), "test") || (!done && !session_waits(s, &w, "test")))
            return false;
    }
    return true;
}

static bool round_trips(session *s, const ball *there, const ball *back, int count, double *took)
{
    if (!session_meet(s))
        return false;
    double start = now_s();
    for (int i = 0; i < count; i++) {
        if (!pass(s, there) || !pass(s, back))
            return false;
    }
    *took = now_s() - start;
    return true;
}

static bool measure_latency(session *s, const ways *w, size_t bytes, double *latency)
{
    ball there = {.comm = w->there, .bytes = bytes, .sends = !s->receives},
         back = {.comm = w->back, .bytes = bytes, .sends = s->receives};
    double took;
    int count = 2;
    there.data = calloc(2, bytes + 1);
    if (!there.data)
        return session_fail(s, "no memory for two buffers of %zu bytes", bytes);
    back.data = there.data + bytes + 1;
    if (!session_good(s, plugin_register(s->plugin, there.comm, there.data, bytes + 1, &there.memory), "regMr") ||
        !session_good(s, plugin_register(s->plugin, back.comm, back.data, bytes + 1, &back.memory), "regMr") ||
        !round_trips(s, &there, &back, count, &took))
        return false;
    count = (int)(latency_s / (took / count)) + 2;
    count = count < 2000 ? count : 2000;
    if (s->receives ? !session_give(s, &count, sizeof count) : !session_take(s, &count, sizeof count))
        return false;
    if (!round_trips(s, &there, &back, count, &took))
        return false;
    *latency = took / count / 2;
    bool good = session_good(s, plugin_deregister(s->plugin, there.comm, there.memory), "deregMr") &&
                session_good(s, plugin_deregister(s->plugin, back.comm, back.memory), "deregMr");
    free(there.data);
    return good;
}

/* ---- tables ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void print_head(session *sessions, int count)
{
    printf("#   latency in us (one way), bandwidth in MB/s (%d in flight), median of %d\n#%11s", sessions[0].options->in_flight,
           sessions[0].options->rounds, "bytes");
    for (int i = 0; i < count; i++)
        printf("  %20.20s v%-2d", sessions[i].plugin->label, sessions[i].plugin->version);
    for (int i = 1; i < count; i++)
        printf("  %10s", "1st/this");
    putchar('\n');
}

static void print_row(const session *s, size_t bytes, figures *all, int count)
{
    double latency[PLUGINS_MAX], bandwidth[PLUGINS_MAX];
    printf("%12zu", bytes);
    for (int i = 0; i < count; i++) {
        latency[i] = median(all[i].latency, s->options->rounds);
        bandwidth[i] = median(all[i].bandwidth, s->options->rounds);
        printf("  %11.2f %12.1f", latency[i] * 1e6, bandwidth[i] / 1e6);
    }
    for (int i = 1; i < count; i++)
        printf("  %4.2f %5.2f", latency[i] > 0 ? latency[0] / latency[i] : 0, bandwidth[i] > 0 ? bandwidth[0] / bandwidth[i] : 0);
    putchar('\n');
    fflush(stdout);
}

static bool measure_size(session *sessions, ways *connected, int count, size_t bytes)
{
    static figures all[PLUGINS_MAX];
    const test_options *options = sessions[0].options;
    for (int round = 0; round < options->rounds; round++) {
        for (int k = 0; k < count; k++) {
            int i = (k + round) % count;
            if (!measure_latency(&sessions[i], &connected[i], bytes, &all[i].latency[round]) ||
                !measure_bandwidth(&sessions[i], connected[i].there, bytes, &all[i].bandwidth[round]))
                return false;
        }
    }
    if (sessions[0].receives)
        print_row(&sessions[0], bytes, all, count);
    return true;
}

bool speed_run(session *sessions, int count)
{
    ways connected[PLUGINS_MAX];
    const test_options *options = sessions[0].options;
    for (int i = 0; i < count; i++) {
        sessions[i].what = "measurement";
        if (!session_connect(&sessions[i], true, &connected[i].there) ||
            !session_connect(&sessions[i], false, &connected[i].back))
            return false;
    }
    if (sessions[0].receives)
        print_head(sessions, count);
    for (size_t bytes = options->first_bytes; bytes <= options->last_bytes; bytes *= (size_t)options->factor) {
        if (!measure_size(sessions, connected, count, bytes))
            return false;
    }
    for (int i = 0; i < count; i++) {
        if (!session_meet(&sessions[i]) || !session_close(&sessions[i], true, connected[i].there) ||
            !session_close(&sessions[i], false, connected[i].back))
            return false;
    }
    return true;
}

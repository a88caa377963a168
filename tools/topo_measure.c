/* weft-topo --measure: latency and bandwidth of each kind of way between the ranks of a running job, put into a machine file.
 * Uses only the public headers. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <weft/weft.h>

#include "base/output.h"
#include "topo_args.h"

enum {
    WAYS_MAX = 256, ROUND_TRIPS = 200, BATCHES = 7, MESSAGE_BYTES = 4 << 20, MESSAGES_MAX = 64, SMALL_BYTES = 8,
};
static const double LONG_NS = 40e6; /* a measurement of bandwidth */

/* What a rank tells of itself. end: the smallest node of its machine that holds the processors it may use. */
typedef struct place {
    char host[TOPO_HOST_BYTES], name[32], label[32];
    int32_t end;
} place;

/* One kind of way and the first two ranks that have it. */
typedef struct way {
    int a, b;
    bool network;
    double latency_ns, bandwidth_Bps;
} way;

typedef struct measuring {
    weft_comm *comm;
    int rank, ranks;
    place *place;
    way ways[WAYS_MAX];
    int count;
    unsigned char *buffer;
} measuring;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- where ranks are ----------------------------------------------------------------------------- */

/* The smallest node around both. */
static int around(const weft_topology *t, int a, int b)
{
    while (a != b && a >= 0 && b >= 0) {
        if (a > b) /* parents stand before children */
            a = weft_topology_get_node(t, a)->parent;
        else
            b = weft_topology_get_node(t, b)->parent;
    }
    return a == b ? a : -1;
}

/* Memory is on NUMA nodes: who may run on several of them counts as on the first. */
static int own_end(const weft_topology *t)
{
    cpu_set_t set;
    int end = -1, numa = -1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int cpu = 0, first = 1; cpu < CPU_SETSIZE; cpu++) {
            int here = CPU_ISSET(cpu, &set) ? weft_topology_find_cpu(t, cpu) : -1;
            if (here < 0)
                continue;
            end = first ? here : around(t, end, here);
            first = 0;
        }
    for (int i = weft_topology_node_count(t) - 1; i >= 0; i--)
        if (weft_topology_get_node(t, i)->kind == WEFT_NODE_NUMA)
            numa = i;
    return weft_topology_enclosing(t, end, WEFT_NODE_NUMA) >= 0 ? end : numa;
}

static weft_status tell_places(measuring *m, const weft_topology *t)
{
    place own = { .end = own_end(t) };
    topo_host_text(t, own.host);
    snprintf(own.name, sizeof own.name, "%.31s", weft_topology_get_node(t, weft_topology_find(t, "host0"))->name);
    if (own.end >= 0)
        weft_topology_label(t, own.end, own.label, sizeof own.label);
    return weft_all_gather(m->comm, &own, m->place, sizeof own, WEFT_U8, NULL);
}

static bool same_host(const measuring *m, int a, int b)
{
    return strcmp(m->place[a].host, m->place[b].host) == 0;
}

/* The same kind of way: between the same two places, or between the same two hosts. */
static bool same_way(const measuring *m, const way *w, int a, int b)
{
    const place *p = m->place;
    if (w->network == same_host(m, a, b))
        return false;
    for (int turn = 0; turn < 2; turn++) {
        int x = turn ? w->b : w->a, y = turn ? w->a : w->b;
        if (same_host(m, x, a) && same_host(m, y, b) && (w->network || (p[x].end == p[a].end && p[y].end == p[b].end)))
            return true;
    }
    return false;
}

static void list_ways(measuring *m)
{
    for (int a = 0; a < m->ranks; a++)
        for (int b = a + 1; b < m->ranks && m->count < WAYS_MAX; b++) {
            bool known = false;
            for (int i = 0; i < m->count && !known; i++)
                known = same_way(m, &m->ways[i], a, b);
            if (!known)
                m->ways[m->count++] = (way){ .a = a, .b = b, .network = !same_host(m, a, b) };
        }
}

/* ---- measuring ----------------------------------------------------------------------------------- */

/* Round trips of 8 bytes; the best batch's time of one, in ns. */
static weft_status ping(measuring *m, int peer, bool begins, double *round_ns)
{
    weft_status status = WEFT_OK;
    *round_ns = 0;
    for (int batch = 0; batch < BATCHES && status == WEFT_OK; batch++) {
        double start = now_ns();
        for (int i = 0; i < 2 * ROUND_TRIPS && status == WEFT_OK; i++)
            status = (i % 2 == 0) == begins ? weft_send(m->comm, m->buffer, SMALL_BYTES, WEFT_U8, peer, 1, NULL)
                                            : weft_recv(m->comm, m->buffer, SMALL_BYTES, WEFT_U8, peer, 1, NULL, NULL);
        double took = (now_ns() - start) / ROUND_TRIPS;
        if (batch > 0 && (*round_ns <= 0 || took < *round_ns)) /* the first one connects */
            *round_ns = took;
    }
    return status;
}

/* `messages` one way, answered once; the time until the answer. */
static weft_status stream(measuring *m, int peer, bool begins, size_t bytes, int messages, double *took_ns)
{
    weft_status status = WEFT_OK;
    double start = now_ns();
    for (int i = 0; i < messages && status == WEFT_OK; i++)
        status = begins ? weft_send(m->comm, m->buffer, bytes, WEFT_U8, peer, 2, NULL)
                        : weft_recv(m->comm, m->buffer, bytes, WEFT_U8, peer, 2, NULL, NULL);
    if (status == WEFT_OK)
        status = begins ? weft_recv(m->comm, m->buffer, 1, WEFT_U8, peer, 3, NULL, NULL)
                        : weft_send(m->comm, m->buffer, 1, WEFT_U8, peer, 3, NULL);
    *took_ns = now_ns() - start;
    return status;
}

static weft_status run_way(measuring *m, way *w)
{
    bool begins = m->rank == w->a;
    int peer = begins ? w->b : w->a, messages = 0;
    double round_ns, took_ns;
    weft_status status = ping(m, peer, begins, &round_ns);
    if (status == WEFT_OK)
        status = stream(m, peer, begins, MESSAGE_BYTES, 1, &took_ns);
    if (status == WEFT_OK && begins) {
        messages = (int)(LONG_NS / took_ns) + 1;
        messages = messages < MESSAGES_MAX ? messages : MESSAGES_MAX;
        status = weft_send(m->comm, &messages, 1, WEFT_I32, peer, 4, NULL);
    } else if (status == WEFT_OK) {
        status = weft_recv(m->comm, &messages, 1, WEFT_I32, peer, 4, NULL, NULL);
    }
    if (status == WEFT_OK)
        status = stream(m, peer, begins, MESSAGE_BYTES, messages, &took_ns);
    w->latency_ns = round_ns / 2;
    double moving = took_ns - round_ns;
    w->bandwidth_Bps = (double)messages * MESSAGE_BYTES * 1e9 / (moving > took_ns / 2 ? moving : took_ns / 2);
    return status;
}

/* One way at a time, so that they do not disturb each other. */
static weft_status run_ways(measuring *m)
{
    weft_status status = WEFT_OK;
    for (int i = 0; i < m->count && status == WEFT_OK; i++) {
        way *w = &m->ways[i];
        if (m->rank == w->a || m->rank == w->b)
            status = run_way(m, w);
        double figures[2] = { w->latency_ns, w->bandwidth_Bps };
        if (status == WEFT_OK)
            status = weft_broadcast(m->comm, figures, figures, 2, WEFT_F64, w->a, NULL);
        w->latency_ns = figures[0];
        w->bandwidth_Bps = figures[1];
    }
    return status;
}

/* ---- the machine file ---------------------------------------------------------------------------- */

/* The network's figures at the ports of rank 0's host, each with its share by what it was said to carry. */
static int add_network(const weft_topology *t, double latency_ns, double bandwidth_Bps, weft_topology_measurement *list,
                       int count)
{
    double sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < weft_topology_edge_count(t); i++) {
            const weft_topology_edge *e = weft_topology_get_edge(t, i);
            const weft_topology_node *a = weft_topology_get_node(t, e->a), *b = weft_topology_get_node(t, e->b);
            int nic = a->kind == WEFT_NODE_PORT ? a->parent : b->kind == WEFT_NODE_PORT ? b->parent : -1;
            if (e->kind != WEFT_EDGE_WIRE || nic < 0 || weft_topology_rail(t, nic) < 0 || count == 2 * WAYS_MAX)
                continue;
            if (pass == 0)
                sum += e->bandwidth_Bps;
            else
                list[count++] = (weft_topology_measurement){ .edge = i, .node = -1, .latency_ns = latency_ns,
                                                             .bandwidth_Bps = bandwidth_Bps * e->bandwidth_Bps / sum };
        }
    return count;
}

/* Where a way within rank 0's host is noted: its narrowest edge, or the place that both ranks share. */
static weft_topology_measurement within(const measuring *m, const weft_topology *t, const way *w)
{
    weft_topology_path path;
    weft_topology_measurement measured = { .edge = -1, .node = m->place[w->a].end, .latency_ns = w->latency_ns,
                                           .bandwidth_Bps = w->bandwidth_Bps };
    if (m->place[w->a].end != m->place[w->b].end &&
        weft_topology_find_path(t, m->place[w->a].end, m->place[w->b].end, &path) == WEFT_OK && path.bottleneck >= 0)
        measured.edge = path.bottleneck;
    return measured;
}

static weft_status write_file(const weft_topology *t, const char *path)
{
    size_t length = strlen(path);
    bool json = length > 5 && strcmp(path + length - 5, ".json") == 0;
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    weft_status status = stream ? weft_topology_write(t, json ? WEFT_TOPOLOGY_JSON : WEFT_TOPOLOGY_XML, stream) : WEFT_ERR_MEMORY;
    if (stream && fclose(stream) != 0)
        status = WEFT_ERR_MEMORY;
    if (status == WEFT_OK && !weft_output_write(path, text, bytes))
        status = WEFT_ERR_SYSTEM;
    if (status != WEFT_OK)
        fprintf(stderr, "weft-topo: %s cannot be written: %s\n", path, strerror(errno));
    free(text);
    return status;
}

static weft_status put_into_machine(const measuring *m, const weft_topology *t, const char *path)
{
    weft_topology_measurement list[2 * WAYS_MAX];
    weft_topology *measured;
    int count = 0;
    way network = { .network = true };
    for (int i = 0; i < m->count; i++) {
        const way *w = &m->ways[i];
        if (w->network) { /* the slowest of them */
            network.latency_ns = w->latency_ns > network.latency_ns ? w->latency_ns : network.latency_ns;
            if (network.bandwidth_Bps <= 0 || w->bandwidth_Bps < network.bandwidth_Bps)
                network.bandwidth_Bps = w->bandwidth_Bps;
        } else if (same_host(m, w->a, 0) && m->place[w->a].end >= 0 && m->place[w->b].end >= 0) {
            list[count++] = within(m, t, w);
        }
    }
    if (network.bandwidth_Bps > 0)
        count = add_network(t, network.latency_ns, network.bandwidth_Bps, list, count);
    weft_status status = weft_topology_with_measurements(t, list, count, &measured);
    if (status != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
        return status;
    }
    status = write_file(measured, path);
    weft_topology_free(measured);
    return status;
}

static void print_ways(const measuring *m)
{
    printf("%-28s %-28s %12s %14s\n", "rank, host, place", "rank, host, place", "latency us", "bandwidth");
    for (int i = 0; i < m->count; i++) {
        const way *w = &m->ways[i];
        char from[96], to[96], rate[32];
        snprintf(from, sizeof from, "%d %s %s", w->a, m->place[w->a].name, m->place[w->a].label);
        snprintf(to, sizeof to, "%d %s %s", w->b, m->place[w->b].name, m->place[w->b].label);
        topo_rate_text(w->bandwidth_Bps, rate, sizeof rate);
        printf("%-28s %-28s %12.2f %14s\n", from, to, w->latency_ns / 1e3, rate);
    }
}

/* Of one rank; takes the communicator. */
static int measure(weft_comm *comm, const weft_topology *t, const char *path)
{
    measuring m = { .comm = comm, .rank = weft_comm_rank(comm), .ranks = weft_comm_size(comm) };
    m.place = calloc((size_t)m.ranks, sizeof *m.place);
    m.buffer = malloc(MESSAGE_BYTES);
    weft_status status = m.place && m.buffer ? tell_places(&m, t) : WEFT_ERR_MEMORY;
    if (status == WEFT_OK) {
        memset(m.buffer, 1, MESSAGE_BYTES);
        list_ways(&m);
        status = run_ways(&m);
    }
    if (status != WEFT_OK)
        fprintf(stderr, "weft-topo: %s: %s\n", weft_status_text(status), weft_last_error());
    else if (m.rank == 0) {
        print_ways(&m);
        status = put_into_machine(&m, t, path);
    }
    free(m.place);
    free(m.buffer);
    weft_comm_destroy(m.comm);
    return status == WEFT_OK ? 0 : TOPO_EXIT_FAILED;
}

/* ---- a job of our own ---------------------------------------------------------------------------- */

/* Rank 0 makes the id that all meet by and writes it once for each other rank; a pipe delivers one this short whole. */
static bool share_id(int rank, int ranks, const int ends[2], weft_unique_id *id)
{
    bool shared = true;
    if (rank != 0) {
        close(ends[1]);
        shared = read(ends[0], id, sizeof *id) == (ssize_t)sizeof *id;
    } else if (weft_get_unique_id(id) != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
        shared = false;
    }
    for (int r = 1; rank == 0 && shared && r < ranks; r++)
        shared = write(ends[1], id, sizeof *id) == (ssize_t)sizeof *id;
    close(ends[0]);
    if (rank == 0)
        close(ends[1]);
    return shared;
}

static int be_rank(const weft_topology *t, const char *path, int rank, int ranks, const int ends[2])
{
    weft_unique_id id;
    weft_comm *comm = NULL;
    if (!share_id(rank, ranks, ends, &id))
        return TOPO_EXIT_FAILED; /* rank 0 has said why */
    weft_status status = weft_comm_create_id(&id, rank, ranks, NULL, &comm);
    if (status != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s: %s\n", weft_status_text(status), weft_last_error());
        return TOPO_EXIT_FAILED;
    }
    return measure(comm, t, path);
}

/* Starts the ranks as processes, which end with this one; the exit code of the first that failed. */
static int start_ranks(const weft_topology *t, const char *path, int ranks)
{
    int ends[2], code = 0, status, started = 0;
    pid_t parent = getpid();
    if (pipe(ends) != 0) {
        fprintf(stderr, "weft-topo: cannot make a pipe: %s\n", strerror(errno));
        return TOPO_EXIT_FAILED;
    }
    fflush(stdout);
    signal(SIGCHLD, SIG_DFL); /* where it is ignored, wait() tells nothing */
    for (; started < ranks; started++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            bool orphan = prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent;
            int result = orphan ? TOPO_EXIT_FAILED : be_rank(t, path, started, ranks, ends);
            fflush(stdout);
            _exit(result);
        }
    }
    if (started < ranks) {
        fprintf(stderr, "weft-topo: cannot start rank %d: %s\n", started, strerror(errno));
        code = TOPO_EXIT_FAILED;
    }
    close(ends[0]);
    close(ends[1]);
    for (int i = 0; i < started; i++)
        if (wait(&status) > 0 && status != 0 && code == 0)
            code = WIFEXITED(status) ? WEXITSTATUS(status) : TOPO_EXIT_FAILED;
    return code;
}

int topo_measure(const weft_topology *t, const char *path, int ranks)
{
    if (ranks > 0 && !weft_output_check(path)) {
        fprintf(stderr, "weft-topo: %s cannot be written: %s\n", path, strerror(errno));
        return TOPO_EXIT_FAILED;
    }
    if (ranks > 0)
        return start_ranks(t, path, ranks);
    weft_comm *comm = NULL;
    weft_status status = weft_comm_create_env(NULL, &comm);
    if (status != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s: %s\n", weft_status_text(status), weft_last_error());
        return TOPO_EXIT_FAILED;
    }
    return measure(comm, t, path);
}

/* The measuring loop of `make compare`, the same for every library: the same buffers, CPU, check, warm-up, batches. Each rank
 * writes the time per call of each batch to a file of its own; compare.py takes the slowest rank of each batch and the median
 * of the batches. Usage: compare-LIBRARY --out PATH --cells COLLECTIVE:TYPE:BYTES,... [--ms TIME] [--variant NAME]
 * [--mode cells|startup|overlap] */
#define _GNU_SOURCE /* CPU sets */
#include "measure.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { FEWEST_BATCHES = 3, MOST_BATCHES = 101, MOST_CELLS = 1024, SPARSE_STRIDE = 61, LARGE_BYTES = 4 << 20 };
/* A batch is at least this long, so that reading the clock does not show. */
static const double BATCH_NS = 5e4, WARM_NS = 5e5;

static const char *const collectives[COMPARE_COLLECTIVES] = { "all_reduce", "all_gather", "reduce_scatter",
                                                              "broadcast",  "all_to_all", "barrier" };
static const char *const types[COMPARE_TYPES] = { "f32", "bf16" };

typedef struct arguments {
    const char *out, *cells, *mode, *variant;
    double ms;
} arguments;

typedef struct run {
    int rank, ranks;
    double ms, baseline_kb;
    FILE *out;
    void *send, *recv;
    size_t send_bytes, recv_bytes;
    compare_cell cells[MOST_CELLS];
    int count;
} run;

double compare_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Peak of this program's memory. Not getrusage: that includes what the process was before exec. */
static double peak_kb(void)
{
    char line[256];
    double kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %lf", &kb) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kb;
}

/* One CPU per rank where they fit; before the library starts, so that its memory and threads come there too: so the rank is what
 * the launcher's variables say. A launcher that bound the process already has done it. Ranks are counted over all hosts where
 * COMPARE_ONE_MACHINE says that these share one machine's CPUs. */
static void bind_to_cpu(void)
{
    static const char *const all[][2] = { { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" }, { "PMI_RANK", "PMI_SIZE" },
                                          { "RANK", "WORLD_SIZE" } };
    static const char *const local[][2] = { { "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE" },
                                            { "MPI_LOCALRANKID", "MPI_LOCALNRANKS" },
                                            { "RANK", "WORLD_SIZE" } };
    const char *const (*names)[2] = getenv("COMPARE_ONE_MACHINE") != NULL ? all : local;
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const char *rank = getenv(names[i][0]), *ranks = getenv(names[i][1]);
        if (rank == NULL || ranks == NULL)
            continue;
        if (strtol(ranks, NULL, 10) > CPU_COUNT(&allowed))
            return;
        long seen = strtol(rank, NULL, 10);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed) && seen-- == 0) {
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                (void)sched_setaffinity(0, sizeof one, &one);
            }
        return;
    }
}

/* ---- cells ---- */

static int find(const char *const *names, int count, const char *text, size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && strncmp(names[i], text, length) == 0)
            return i;
    return -1;
}

static size_t at_least_one(size_t count) { return count > 0 ? count : 1; }

static bool parse_cell(run *r, const char *text, size_t length)
{
    const char *first = memchr(text, ':', length);
    const char *second = first != NULL ? memchr(first + 1, ':', length - (size_t)(first + 1 - text)) : NULL;
    if (second == NULL || r->count == MOST_CELLS)
        return false;
    int collective = find(collectives, COMPARE_COLLECTIVES, text, (size_t)(first - text));
    int type = find(types, COMPARE_TYPES, first + 1, (size_t)(second - first - 1));
    if (collective < 0 || type < 0)
        return false;
    compare_cell *c = &r->cells[r->count++];
    *c = (compare_cell){ (compare_collective)collective, (compare_type)type, strtoull(second + 1, NULL, 10), 0 };
    size_t in = compare_blocks_in(c->collective, r->ranks), out = compare_blocks_out(c->collective, r->ranks);
    size_t blocks = in > out ? in : out, bytes = compare_type_bytes(c->type);
    if (blocks > 0)
        c->count = at_least_one(c->bytes / bytes / blocks);
    r->send_bytes = in * c->count * bytes > r->send_bytes ? in * c->count * bytes : r->send_bytes;
    r->recv_bytes = out * c->count * bytes > r->recv_bytes ? out * c->count * bytes : r->recv_bytes;
    return true;
}

static bool parse_cells(run *r, const char *text)
{
    while (*text != 0) {
        size_t length = strcspn(text, ",");
        if (!parse_cell(r, text, length)) {
            fprintf(stderr, "compare-%s: not a cell: %.*s\n", compare_this.name, (int)length, text);
            return false;
        }
        text += length + (text[length] == ',');
    }
    return true;
}

/* ---- measuring ---- */

int compare_agree(float *value)
{
    static const compare_cell cell = { COMPARE_BROADCAST, COMPARE_F32, sizeof *value, 1 };
    static float *line;
    if (line == NULL && posix_memalign((void **)&line, 64, 64) != 0)
        return 1;
    *line = *value;
    if (!compare_this.prepare(&cell, line, line))
        return 1;
    int failed = compare_this.run(&cell, line, line);
    if (compare_this.release != NULL)
        compare_this.release();
    *value = *line;
    return failed;
}

static int calls(const run *r, const compare_cell *c, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (compare_this.run(c, r->send, r->recv) != 0)
            return 1;
    return 0;
}

/* Calls until rank 0 has seen enough of them; *call_ns is then its time per call. Telling all ranks needs a collective of
 * another kind between, so the cell is prepared again each time. */
static int warm_up(const run *r, const compare_cell *c, double *call_ns)
{
    for (int64_t count = 1;; count *= 4) {
        if (!compare_this.prepare(c, r->send, r->recv))
            return 1;
        double start = compare_now_ns();
        if (calls(r, c, count) != 0)
            return 1;
        float ns = (float)(compare_now_ns() - start);
        if (compare_this.release != NULL)
            compare_this.release();
        if (compare_agree(&ns) != 0)
            return 1;
        *call_ns = (double)ns / (double)count;
        if (ns >= WARM_NS || count >= 1 << 14)
            return 0;
    }
}

static void note_wrong(const run *r, const compare_cell *c, size_t stride, const char *when)
{
    size_t wrong = compare_wrong(c, r->recv, r->rank, r->ranks, stride);
    if (wrong > 0)
        fprintf(r->out, "wrong %s %s %zu %zu %s\n", collectives[c->collective], types[c->type], c->bytes, wrong, when);
}

static int time_batches(const run *r, const compare_cell *c, double call_ns)
{
    double times[MOST_BATCHES];
    double batch_ns = r->ms * 1e6 / MOST_BATCHES;
    int64_t batch = (int64_t)((batch_ns > BATCH_NS ? batch_ns : BATCH_NS) / call_ns) + 1;
    double fit = r->ms * 1e6 / ((double)batch * call_ns);
    int batches = fit < FEWEST_BATCHES ? FEWEST_BATCHES : fit > MOST_BATCHES ? MOST_BATCHES : (int)fit;
    if (!compare_this.prepare(c, r->send, r->recv) || calls(r, c, 1) != 0)
        return 1;
    for (int i = 0; i < batches; i++) {
        double start = compare_now_ns();
        if (calls(r, c, batch) != 0)
            return 1;
        times[i] = (compare_now_ns() - start) / (double)batch;
    }
    if (compare_this.release != NULL)
        compare_this.release();
    fprintf(r->out, "cell %s %s %zu %lld", collectives[c->collective], types[c->type], c->bytes, (long long)batch);
    for (int i = 0; i < batches; i++)
        fprintf(r->out, " %.1f", times[i]);
    fprintf(r->out, "\n");
    return 0;
}

static int measure_cell(const run *r, const compare_cell *c)
{
    double call_ns = 0;
    compare_fill(c, r->send, r->recv, r->rank, r->ranks);
    if (!compare_this.prepare(c, r->send, r->recv)) {
        fprintf(r->out, "absent %s %s %zu\n", collectives[c->collective], types[c->type], c->bytes);
        return 0;
    }
    if (calls(r, c, 1) != 0)
        return 1;
    if (compare_this.release != NULL)
        compare_this.release();
    note_wrong(r, c, 1, "first");
    if (warm_up(r, c, &call_ns) != 0 || time_batches(r, c, call_ns) != 0)
        return 1;
    note_wrong(r, c, c->bytes > LARGE_BYTES ? SPARSE_STRIDE : 1, "last");
    fflush(r->out);
    return 0;
}

/* ---- the program ---- */

static void *allocate(size_t bytes)
{
    bytes = at_least_one(bytes);
    void *memory = compare_this.allocate != NULL ? compare_this.allocate(bytes) : NULL;
    if (memory == NULL) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return NULL;
    }
    memset(memory, 1, bytes);
    return memory;
}

static bool parse(arguments *a, int argc, char **argv)
{
    *a = (arguments){ .mode = "cells", .cells = "", .ms = 20 };
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--out") == 0)
            a->out = argv[i + 1];
        else if (strcmp(argv[i], "--cells") == 0)
            a->cells = argv[i + 1];
        else if (strcmp(argv[i], "--mode") == 0)
            a->mode = argv[i + 1];
        else if (strcmp(argv[i], "--variant") == 0)
            a->variant = argv[i + 1];
        else if (strcmp(argv[i], "--ms") == 0)
            a->ms = strtod(argv[i + 1], NULL);
        else
            return false;
    }
    return a->out != NULL && argc % 2 == 1;
}

static bool open_output(run *r, const char *path)
{
    char name[4096];
    snprintf(name, sizeof name, "%s.%d", path, r->rank);
    r->out = fopen(name, "w");
    if (r->out == NULL)
        fprintf(stderr, "compare-%s: rank %d cannot write %s\n", compare_this.name, r->rank, name);
    return r->out != NULL;
}

static int barrier(void)
{
    static const compare_cell cell = { COMPARE_BARRIER, COMPARE_F32, 0, 0 };
    int failed = !compare_this.prepare(&cell, NULL, NULL) || compare_this.run(&cell, NULL, NULL) != 0;
    if (compare_this.release != NULL)
        compare_this.release();
    return failed;
}

static int measure_all(run *r, const arguments *a)
{
    if (barrier() != 0)
        return 1;
    fprintf(r->out, "started %.0f\n", compare_now_ns());
    if (strcmp(a->mode, "startup") == 0)
        return 0;
    if (!parse_cells(r, a->cells))
        return 1;
    double before_kb = peak_kb();
    r->send = allocate(r->send_bytes);
    r->recv = allocate(r->recv_bytes);
    if (r->send == NULL || r->recv == NULL) {
        fprintf(stderr, "compare-%s: no memory for buffers of %zu and %zu bytes\n", compare_this.name, r->send_bytes,
                r->recv_bytes);
        return 1;
    }
    int failed = 0;
    for (int i = 0; i < r->count && failed == 0; i++)
        failed = strcmp(a->mode, "overlap") == 0
                     ? compare_overlap(&r->cells[i], r->send, r->recv, r->rank, r->ms / 1000, r->out)
                     : measure_cell(r, &r->cells[i]);
    double buffers_kb = (double)(r->send_bytes + r->recv_bytes) / 1024;
    fprintf(r->out, "memory %.0f %.0f\n", before_kb - r->baseline_kb, peak_kb() - r->baseline_kb - buffers_kb);
    /* Nobody closes connections that another still uses. */
    return failed != 0 ? failed : barrier();
}

int main(int argc, char **argv)
{
    static run r;
    arguments a;
    double entered = compare_now_ns();
    r.baseline_kb = peak_kb();
    /* A launcher that crashes leaves ranks that wait for each other for ever, on the cores that the next ones need. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1)
        return 1;
    if (!parse(&a, argc, argv)) {
        fprintf(stderr, "usage: compare-%s --out PATH --cells COLLECTIVE:TYPE:BYTES,... [--ms TIME] [--variant NAME] "
                        "[--mode cells|startup|overlap]\n", compare_this.name);
        return 2;
    }
    r.ms = a.ms;
    bind_to_cpu();
    if (compare_this.start(a.variant, &r.rank, &r.ranks) != 0 || !open_output(&r, a.out))
        return 1;
    fprintf(r.out, "entered %.0f\n", entered);
    int failed = measure_all(&r, &a);
    if (failed != 0)
        fprintf(r.out, "failed\n");
    else
        fprintf(r.out, "done\n");
    fclose(r.out);
    if (failed == 0)
        compare_this.finish();
    return failed;
}

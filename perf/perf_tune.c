/* Measures every algorithm that can serve a collective on this group, size by size, each in a communicator of
 * its own that is split off with that algorithm forced, and writes the table of the fastest.
 *
 * The file is text. Lines that start with # are comments; the others have five fields, separated by blanks:
 *     collective ranks hosts bytes algorithm
 *     all_reduce 4 1 8192 direct
 * For a group of so many ranks on so many hosts, the algorithm holds from that many bytes (as weft-perf
 * counts them) up to the next line of the same collective, ranks and hosts. Tables of different groups may be
 * put together with cat. */
#include "perf_tune.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "perf_run.h"

enum { MOST_SIZES = 512 };
static const double WORTH_A_CHANGE = 1.05;

typedef struct tuning {
    perf_context *x;
    weft_comm *all;       /* the communicator of the job */
    FILE *file;           /* rank 0 */
    int collective;
    uint64_t sizes[MOST_SIZES];
    int size_count;
    double time_us[MOST_SIZES][WEFT_ALGORITHM_COUNT]; /* 0: not measured, or wrong */
} tuning;

static void choose_sizes(tuning *t)
{
    const perf_args *args = t->x->args;
    uint64_t last = perf_collective_has_data(t->collective) ? args->max_bytes : 0;
    uint64_t bytes = perf_collective_has_data(t->collective) ? args->min_bytes : 0;
    for (t->size_count = 0; bytes <= last && t->size_count < MOST_SIZES;) {
        t->sizes[t->size_count++] = bytes;
        bytes = perf_next_size(args, t->collective, args->types[0], bytes);
    }
}

static weft_status measure_sizes(tuning *t, weft_algorithm algorithm, perf_buffers *buffers)
{
    perf_context *x = t->x;
    weft_status status = WEFT_OK;
    for (int i = 0; i < t->size_count && status == WEFT_OK; i++) {
        perf_result result;
        char text[160];
        perf_case c = { .collective = t->collective, .type = x->args->types[0], .op = x->args->ops[0],
                        .root = perf_collective_has_root(t->collective) ? x->args->root : -1, .rank = x->rank,
                        .ranks = x->ranks, .in_place = !x->args->out_of_place };
        snprintf(text, sizeof text, "# tuning %s: %s, %" PRIu64 " bytes", perf_collective_name(t->collective),
                 weft_algorithm_name(algorithm), t->sizes[i]);
        perf_progress(x, text);
        perf_case_set_size(&c, t->sizes[i]);
        status = perf_measure(x, buffers, &c, &result);
        if (status == WEFT_OK && result.wrong <= 0)
            t->time_us[i][algorithm] = result.p50_us;
    }
    return status;
}

/* An algorithm that cannot serve this group is left out; any other error ends the tuning. */
static weft_status measure_algorithm(tuning *t, weft_algorithm algorithm, perf_buffers *buffers)
{
    perf_context *x = t->x;
    char text[PERF_ALGORITHM_BYTES];
    weft_config config;
    weft_comm *forced = NULL;
    perf_config(x->args, &config, text);
    snprintf(text, sizeof text, "%s:%s", perf_collective_name(t->collective), weft_algorithm_name(algorithm));
    config.algorithm = text;
    weft_status status = weft_comm_split(t->all, 0, x->rank, &config, &forced);
    if (status == WEFT_ERR_UNSUPPORTED)
        return WEFT_OK;
    if (status != WEFT_OK)
        return perf_report(x, status, "splitting off a communicator");
    x->comm = forced;
    status = measure_sizes(t, algorithm, buffers);
    x->comm = t->all;
    weft_comm_destroy(forced);
    return status;
}

static void write_choices(tuning *t)
{
    int previous = WEFT_AUTO;
    perf_progress(t->x, NULL);
    for (int i = 0; i < t->size_count; i++) {
        int best = WEFT_AUTO;
        for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++)
            if (t->time_us[i][a] > 0 && (best == WEFT_AUTO || t->time_us[i][a] < t->time_us[i][best]))
                best = a;
        if (best == WEFT_AUTO)
            continue;
        /* No change for a difference that the next run may turn round. */
        double before = t->time_us[i][previous];
        if (before > 0 && before <= t->time_us[i][best] * WORTH_A_CHANGE)
            best = previous;
        printf("%-14s %12" PRIu64 "  %-20s %10.2f us  (", perf_collective_name(t->collective), t->sizes[i],
               weft_algorithm_name((weft_algorithm)best), t->time_us[i][best]);
        const char *separator = "";
        for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
            if (t->time_us[i][a] <= 0 || a == best)
                continue;
            printf("%s%s %.2f", separator, weft_algorithm_name((weft_algorithm)a), t->time_us[i][a]);
            separator = ", ";
        }
        printf(")\n");
        if (best != previous)
            fprintf(t->file, "%s %d %d %" PRIu64 " %s\n", perf_collective_name(t->collective), t->x->ranks,
                    weft_comm_hosts(t->all), t->sizes[i], weft_algorithm_name((weft_algorithm)best));
        previous = best;
    }
    fflush(stdout);
}

static weft_status tune_collective(tuning *t, int collective)
{
    perf_buffers buffers = { 0 };
    t->collective = collective;
    memset(t->time_us, 0, sizeof t->time_us);
    choose_sizes(t);
    weft_status status = perf_prepare_buffers(t->x, &buffers, collective) ? WEFT_OK : WEFT_ERR_MEMORY;
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT && status == WEFT_OK; a++)
        if (perf_obstacle(t->x, collective, (weft_algorithm)a) == NULL)
            status = measure_algorithm(t, (weft_algorithm)a, &buffers);
    if (status == WEFT_OK && t->x->rank == 0)
        write_choices(t);
    perf_buffers_free(&buffers);
    return status;
}

static FILE *open_table(const perf_context *x)
{
    FILE *file = fopen(x->args->tune_file, "we");
    if (file == NULL)
        fprintf(stderr, "%s: --tune %s: cannot open: %s; give a file that can be written\n", x->args->program,
                x->args->tune_file, strerror(errno));
    else
        fprintf(
            file,
            "# weft-perf --tune, weft %s: the fastest algorithm of each collective from that many bytes on\n"
            "# collective ranks hosts bytes algorithm\n",
            weft_version());
    return file;
}

static bool close_table(const perf_context *x, FILE *file)
{
    bool written = fflush(file) == 0 && ferror(file) == 0;
    int error = errno;
    if (fclose(file) != 0 && written) {
        written = false;
        error = errno;
    }
    if (!written)
        fprintf(stderr, "%s: --tune %s: cannot write: %s; give a file on a disk with room\n",
                x->args->program, x->args->tune_file, strerror(error));
    return written;
}

int perf_tune(perf_context *x)
{
    static tuning t; /* too large for the stack */
    const perf_args *args = x->args;
    t = (tuning){ .x = x, .all = x->comm };
    if (x->rank == 0)
        t.file = open_table(x);
    double ready = x->rank != 0 || t.file != NULL;
    weft_status status =
        perf_report(x, weft_broadcast(x->comm, &ready, &ready, 1, WEFT_F64, 0, NULL), "broadcast");
    if (status != WEFT_OK || ready == 0)
        return PERF_FAILED;
    int first = args->collective >= 0 ? args->collective : 0;
    int last = args->collective >= 0 ? args->collective : WEFT_COLLECTIVE_COUNT - 1;
    for (int collective = first; collective <= last && status == WEFT_OK; collective++)
        status = tune_collective(&t, collective);
    bool written = x->rank != 0 || close_table(x, t.file);
    return status == WEFT_OK && written ? PERF_OK : PERF_FAILED;
}

/* Finds where another algorithm than the untuned choice is faster on this group, and writes a table of that. Every algorithm that
 * can serve is measured once, in a communicator of its own that is split off with it forced; one that seems faster then has to
 * win each of several rounds against the untuned choice, so that no noise gets into the table.
 *
 * The file is text. Lines that start with # are comments; the others have five fields, separated by blanks:
 *     collective ranks hosts bytes algorithm
 *     all_reduce 4 1 8192 direct
 * For a group of so many ranks on so many hosts, the algorithm holds from that many bytes (as weft-perf
 * counts them) up to the next line of the same collective, ranks and hosts; auto: the untuned choice. Tables of different groups
 * may be put together with cat. */
#include "perf_tune.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/output.h"
#include "perf_run.h"

enum { MOST_SIZES = 512, ROUNDS = 5 };
/* Worth a change; and so far behind at one size that the next may do without. */
static const double FASTER = 0.95, HOPELESS = 4;

typedef struct tuning {
    perf_context *x;
    weft_comm *all;       /* the communicator of the job */
    FILE *file;           /* rank 0: what will be in the table's file */
    char *text;
    size_t bytes;
    perf_buffers *buffers;
    int collective;
    uint64_t sizes[MOST_SIZES];
    int size_count;
    weft_comm *forced[WEFT_ALGORITHM_COUNT]; /* WEFT_AUTO: untuned; NULL: cannot serve */
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

/* The median of one measurement, the same on all ranks; 0: a wrong result. */
static weft_status measure(tuning *t, int size, int algorithm, double *us)
{
    perf_context *x = t->x;
    perf_result result;
    char text[160];
    perf_case c = { .collective = t->collective, .type = x->args->types[0], .op = x->args->ops[0],
                    .root = perf_collective_has_root(t->collective) ? x->args->root : -1, .rank = x->rank,
                    .ranks = x->ranks, .in_place = !x->args->out_of_place };
    snprintf(text, sizeof text, "# tuning %s: %s, %" PRIu64 " bytes", perf_collective_name(t->collective),
             weft_algorithm_name((weft_algorithm)algorithm), t->sizes[size]);
    perf_progress(x, text);
    perf_case_set_size(&c, t->sizes[size]);
    x->comm = t->forced[algorithm];
    weft_status status = perf_measure(x, t->buffers, &c, &result);
    x->comm = t->all;
    *us = status == WEFT_OK && result.wrong <= 0 ? result.p50_us : 0;
    return status;
}

/* The algorithm that was fastest at that size, WEFT_AUTO if none was clearly faster than the untuned choice. */
static int fastest(const tuning *t, int size)
{
    int best = WEFT_AUTO;
    double limit = t->time_us[size][WEFT_AUTO] * FASTER;
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++)
        if (t->time_us[size][a] > 0 && t->time_us[size][a] < limit) {
            best = a;
            limit = t->time_us[size][a];
        }
    return best;
}

static bool is_hopeless(const tuning *t, int size, int algorithm)
{
    return size > 0 && algorithm != WEFT_AUTO && t->time_us[size - 1][algorithm] > HOPELESS * t->time_us[size - 1][WEFT_AUTO];
}

/* Both in turn; the candidate must win every round, and be worth it in the middle one. */
static weft_status verify(tuning *t, int size, int *candidate)
{
    double ratio[ROUNDS];
    bool wins = true;
    for (int round = 0; round < ROUNDS && wins; round++) {
        double untuned = 0, tried = 0;
        weft_status status = measure(t, size, WEFT_AUTO, &untuned);
        if (status == WEFT_OK)
            status = measure(t, size, *candidate, &tried);
        if (status != WEFT_OK)
            return status;
        wins = tried > 0 && tried < untuned;
        ratio[round] = wins ? tried / untuned : 1;
        for (int i = round; i > 0 && ratio[i] < ratio[i - 1]; i--) {
            double swapped = ratio[i];
            ratio[i] = ratio[i - 1];
            ratio[i - 1] = swapped;
        }
    }
    if (!wins || ratio[ROUNDS / 2] > FASTER)
        *candidate = WEFT_AUTO;
    return WEFT_OK;
}

static void print_choice(const tuning *t, int size, int chosen)
{
    perf_progress(t->x, NULL);
    printf("%-14s %12" PRIu64 "  %-20s %10.2f us  (", perf_collective_name(t->collective), t->sizes[size],
           weft_algorithm_name((weft_algorithm)chosen), t->time_us[size][chosen]);
    const char *separator = "";
    for (int a = WEFT_AUTO; a < WEFT_ALGORITHM_COUNT; a++) {
        if (t->time_us[size][a] <= 0 || a == chosen)
            continue;
        printf("%s%s %.2f", separator, weft_algorithm_name((weft_algorithm)a), t->time_us[size][a]);
        separator = ", ";
    }
    printf(")\n");
    fflush(stdout);
}

static void write_line(const tuning *t, uint64_t bytes, int algorithm)
{
    fprintf(t->file, "%s %d %d %" PRIu64 " %s\n", perf_collective_name(t->collective), t->x->ranks, weft_comm_hosts(t->all),
            bytes, weft_algorithm_name((weft_algorithm)algorithm));
}

/* What was found at one size holds up to twice that, and to the next size if it was found there too. The first line is there in
 * any case: it says that this group was tuned. */
static void write_choices(const tuning *t, const int *chosen)
{
    int holds = -1;
    for (int i = 0; i < t->size_count; i++) {
        if (chosen[i] != holds)
            write_line(t, t->sizes[i], chosen[i]);
        holds = chosen[i];
        bool goes_on = i + 1 < t->size_count && chosen[i + 1] == holds;
        if (holds != WEFT_AUTO && !goes_on && (i + 1 == t->size_count || 2 * t->sizes[i] < t->sizes[i + 1])) {
            write_line(t, 2 * t->sizes[i], WEFT_AUTO);
            holds = WEFT_AUTO;
        }
    }
}

static weft_status measure_sizes(tuning *t)
{
    static int chosen[MOST_SIZES];
    weft_status status = WEFT_OK;
    for (int i = 0; i < t->size_count && status == WEFT_OK; i++) {
        for (int a = WEFT_AUTO; a < WEFT_ALGORITHM_COUNT && status == WEFT_OK; a++)
            if (t->forced[a] && !is_hopeless(t, i, a))
                status = measure(t, i, a, &t->time_us[i][a]);
        chosen[i] = fastest(t, i);
        if (status == WEFT_OK && chosen[i] != WEFT_AUTO)
            status = verify(t, i, &chosen[i]);
        if (status == WEFT_OK && t->x->rank == 0)
            print_choice(t, i, chosen[i]);
    }
    if (status == WEFT_OK && t->x->rank == 0)
        write_choices(t, chosen);
    return status;
}

/* A communicator for each algorithm; one that cannot serve this group is left out, any other error ends the tuning. */
static weft_status split_all(tuning *t)
{
    perf_context *x = t->x;
    for (int a = WEFT_AUTO; a < WEFT_ALGORITHM_COUNT; a++) {
        char text[PERF_ALGORITHM_BYTES];
        weft_config config;
        if (a != WEFT_AUTO && perf_obstacle(x, t->collective, (weft_algorithm)a) != NULL)
            continue;
        perf_config(x->args, &config, text);
        snprintf(text, sizeof text, "%s:%s", perf_collective_name(t->collective), weft_algorithm_name((weft_algorithm)a));
        config.algorithm = text;
        weft_status status = weft_comm_split(t->all, 0, x->rank, &config, &t->forced[a]);
        if (status != WEFT_OK && status != WEFT_ERR_UNSUPPORTED)
            return perf_report(x, status, "splitting off a communicator");
    }
    return WEFT_OK;
}

static weft_status tune_collective(tuning *t, int collective)
{
    perf_buffers buffers = { 0 };
    t->collective = collective;
    t->buffers = &buffers;
    memset(t->time_us, 0, sizeof t->time_us);
    choose_sizes(t);
    weft_status status = perf_prepare_buffers(t->x, &buffers, collective) ? WEFT_OK : WEFT_ERR_MEMORY;
    if (status == WEFT_OK)
        status = split_all(t);
    if (status == WEFT_OK)
        status = measure_sizes(t);
    for (int a = WEFT_AUTO; a < WEFT_ALGORITHM_COUNT; a++) {
        weft_comm_destroy(t->forced[a]);
        t->forced[a] = NULL;
    }
    perf_buffers_free(&buffers);
    return status;
}

/* The file is tried first, so that nobody measures for nothing, and written last: an earlier table survives a run that is
 * broken off. */
static bool open_table(const perf_context *x, tuning *t)
{
    if (!weft_output_check(x->args->tune_file)) {
        fprintf(stderr, "%s: --tune %s: cannot open: %s; give a file that can be written\n", x->args->program,
                x->args->tune_file, strerror(errno));
        return false;
    }
    t->file = open_memstream(&t->text, &t->bytes);
    if (t->file == NULL) {
        fprintf(stderr, "%s: no memory for the table\n", x->args->program);
        return false;
    }
    fprintf(t->file,
            "# weft-perf --tune, weft %s: where another algorithm is faster than the untuned choice, from that many bytes on\n"
            "# collective ranks hosts bytes algorithm\n", weft_version());
    return true;
}

static bool close_table(const perf_context *x, tuning *t, bool complete)
{
    bool written = fclose(t->file) == 0 && (!complete || weft_output_write(x->args->tune_file, t->text, t->bytes));
    if (!written)
        fprintf(stderr, "%s: --tune %s: cannot write: %s; give a file that can be written, on a disk with room\n",
                x->args->program, x->args->tune_file, strerror(errno));
    free(t->text);
    return written;
}

int perf_tune(perf_context *x)
{
    static tuning t; /* too large for the stack */
    const perf_args *args = x->args;
    t = (tuning){ .x = x, .all = x->comm };
    double ready = x->rank != 0 || open_table(x, &t);
    weft_status status =
        perf_report(x, weft_broadcast(x->comm, &ready, &ready, 1, WEFT_F64, 0, NULL), "broadcast");
    if (status != WEFT_OK || ready == 0)
        return PERF_FAILED;
    int first = args->collective >= 0 ? args->collective : 0;
    int last = args->collective >= 0 ? args->collective : WEFT_COLLECTIVE_COUNT - 1;
    for (int collective = first; collective <= last && status == WEFT_OK; collective++)
        status = tune_collective(&t, collective);
    bool written = x->rank != 0 || close_table(x, &t, status == WEFT_OK);
    return status == WEFT_OK && written ? PERF_OK : PERF_FAILED;
}

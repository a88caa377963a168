/* The measuring loop. Short calls are timed in batches, so that reading the clock does not show; times go
 * into a histogram, and ranks exchange quantiles and counts of wrong elements by an all_gather, which only
 * copies. */
#include "perf_measure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FEWEST_CALLS = 20, MOST_CALLS = 20000, BARRIER_TRIALS = 16, PROGRESS_NS = 500000000 };
static const double MEASURE_NS = 1e8, BATCH_NS = 1e4, LATE_NS = 2e5;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void perf_progress(perf_context *x, const char *text)
{
    if (!x->on_terminal || (text == NULL && !x->interrupted_line))
        return;
    fprintf(stderr, "\r\033[K%s", text != NULL ? text : "");
    fflush(stderr);
    x->interrupted_line = text != NULL;
}

weft_status perf_report(perf_context *x, weft_status status, const char *what)
{
    if (status == WEFT_OK || x->reported)
        return status;
    char detail[1024]; /* printing must not come between the error and its text */
    snprintf(detail, sizeof detail, "%s", weft_last_error());
    perf_progress(x, NULL);
    fprintf(stderr, "%s: rank %d: %s: %s%s%s\n", x->args->program, x->rank, what, weft_status_text(status),
            detail[0] != 0 ? ": " : "", detail);
    x->reported = true;
    return status;
}

weft_status perf_exchange(perf_context *x, const double *values, int n, double *all)
{
    return perf_report(x, weft_all_gather(x->comm, values, all, (size_t)n, WEFT_F64, NULL),
                       "exchanging results");
}

/* The largest (for `sum`: the sum) over ranks of each of values[n], in place. */
static weft_status combine(perf_context *x, double *values, int n, bool sum)
{
    double *all = malloc((size_t)x->ranks * (size_t)n * sizeof *all);
    if (all == NULL) {
        fprintf(stderr, "%s: rank %d: out of memory for the results of %d ranks\n", x->args->program, x->rank,
                x->ranks);
        x->reported = true;
        return WEFT_ERR_MEMORY;
    }
    weft_status status = perf_exchange(x, values, n, all);
    for (int i = 0; status == WEFT_OK && i < n; i++) {
        values[i] = all[i];
        for (int r = 1; r < x->ranks; r++) {
            double other = all[r * n + i];
            values[i] = sum ? values[i] + other : other > values[i] ? other : values[i];
        }
    }
    free(all);
    return status;
}

/* ---- calls ---- */

typedef struct measurement {
    perf_context *x;
    perf_buffers *buffers;
    const perf_case *c;
    weft_request **requests; /* one per slot with --async, else NULL */
    double wrong;
    bool checked;
} measurement;

static weft_status call_slot(measurement *m, int slot, weft_request **request)
{
    return perf_case_call(m->c, m->x->comm, perf_buffers_send(m->buffers, slot, m->c),
                          perf_buffers_recv(m->buffers, slot, m->c), request);
}

/* One call, or with --async as many together as there are slots (at most `calls`). */
static weft_status run_round(measurement *m, int64_t calls, int64_t *done)
{
    weft_status status = WEFT_OK;
    *done = 1;
    if (m->requests == NULL)
        return call_slot(m, 0, NULL);
    int issued = 0;
    while (status == WEFT_OK && issued < m->buffers->count && issued < calls) {
        status = call_slot(m, issued, &m->requests[issued]);
        issued += status == WEFT_OK;
    }
    weft_status report = perf_report(m->x, status, perf_collective_name(m->c->collective));
    weft_status waited = weft_wait_all(m->requests, issued);
    *done = issued;
    return report != WEFT_OK ? report : waited;
}

static weft_status run_calls(measurement *m, int64_t calls)
{
    weft_status status = WEFT_OK;
    for (int64_t done = 0; calls > 0 && status == WEFT_OK; calls -= done)
        status = run_round(m, calls, &done);
    return perf_report(m->x, status, perf_collective_name(m->c->collective));
}

/* ---- checks ---- */

static void count_wrong(measurement *m, const char *when)
{
    const perf_case *c = m->c;
    uint64_t wrong = perf_buffers_check(m->buffers, c);
    if (wrong > 0 && m->wrong == 0) {
        perf_progress(m->x, NULL);
        fprintf(stderr, "%s: rank %d: wrong result of %s, %zu bytes of %s%s%s%s, %s: %s\n",
                m->x->args->program, c->rank, perf_collective_name(c->collective), c->bytes,
                weft_type_name(c->type), perf_collective_reduces(c->collective) ? " " : "",
                perf_collective_reduces(c->collective) ? weft_op_name(c->op) : "",
                c->in_place ? " in place" : "", when, m->buffers->finding);
    }
    m->wrong += (double)wrong;
}

/* Nobody may leave a barrier before the last has entered it; one rank after the other comes late. */
static weft_status check_barrier(measurement *m)
{
    perf_context *x = m->x;
    for (int trial = 0; trial < BARRIER_TRIALS; trial++) {
        double entered = now_ns(), start = entered;
        while (trial % x->ranks == x->rank && entered < start + LATE_NS)
            entered = now_ns();
        weft_status status = run_calls(m, 1);
        double left = now_ns();
        if (status == WEFT_OK)
            status = combine(x, &entered, 1, false);
        if (status != WEFT_OK)
            return status;
        if (left < entered && m->wrong++ == 0)
            fprintf(stderr, "%s: rank %d: left a barrier %.1f us before the last rank had entered it\n",
                    x->args->program, x->rank, (entered - left) / 1000);
    }
    return WEFT_OK;
}

static weft_status run_checks(measurement *m, perf_case *c)
{
    weft_status status = WEFT_OK;
    bool has_data = perf_collective_has_data(c->collective);
    m->checked = m->x->args->check > 0 && (has_data || m->x->one_clock);
    for (int i = 0; m->checked && status == WEFT_OK && i < m->x->args->check; i++) {
        if (!has_data) {
            status = check_barrier(m);
            continue;
        }
        c->seed = ++m->x->seed;
        perf_buffers_fill(m->buffers, c);
        status = run_calls(m, m->buffers->count);
        if (status == WEFT_OK)
            count_wrong(m, "checked call");
    }
    return status;
}

/* ---- time ---- */

/* The calls before the measured ones, of which all but the first tell how long a call takes (*mean_ns, the
 * slowest rank's). */
static weft_status warm_up(measurement *m, double *mean_ns)
{
    int64_t calls = m->x->args->warmup;
    *mean_ns = 0;
    weft_status status = run_calls(m, calls > 1 ? 1 : calls);
    double start = now_ns();
    if (status == WEFT_OK && calls > 1)
        status = run_calls(m, calls - 1);
    if (calls > 1)
        *mean_ns = (now_ns() - start) / (double)(calls - 1);
    return status == WEFT_OK ? combine(m->x, mean_ns, 1, false) : status;
}

static void show_calls(measurement *m, int64_t done, int64_t calls, double *shown)
{
    char text[160];
    double now = m->x->on_terminal ? now_ns() : 0;
    if (now < *shown + PROGRESS_NS)
        return;
    *shown = now;
    snprintf(text, sizeof text, "# %s %zu bytes: %" PRId64 " of %" PRId64 " calls",
             perf_collective_name(m->c->collective), m->c->bytes, done, calls);
    perf_progress(m->x, text);
}

static weft_status run_timed(measurement *m, int64_t calls, int64_t batch)
{
    perf_context *x = m->x;
    perf_histogram_reset(&x->histogram);
    double shown = x->on_terminal ? now_ns() : 0;
    weft_status status = perf_report(x, weft_barrier(x->comm, NULL), "barrier");
    for (int64_t done = 0; status == WEFT_OK && done < calls;) {
        int64_t now_calls = batch < calls - done ? batch : calls - done;
        if (x->args->cold) {
            perf_buffers_flush(m->buffers, 0, m->c);
            status = perf_report(x, weft_barrier(x->comm, NULL), "barrier");
        }
        double start = now_ns();
        if (status == WEFT_OK)
            status = run_calls(m, now_calls);
        perf_histogram_add(&x->histogram, (now_ns() - start) / (double)now_calls, (uint64_t)now_calls);
        done += now_calls;
        if (x->on_terminal)
            show_calls(m, done, calls, &shown);
    }
    return status;
}

/* How many calls, and how many of them per reading of the clock: the same on all ranks, as mean_ns is. */
static void choose_calls(const measurement *m, double mean_ns, int64_t *calls, int64_t *batch)
{
    const perf_args *args = m->x->args;
    double fit = mean_ns > 0 ? MEASURE_NS / mean_ns : FEWEST_CALLS;
    *calls = fit < FEWEST_CALLS ? FEWEST_CALLS : fit > MOST_CALLS ? MOST_CALLS : (int64_t)fit;
    if (args->iterations > 0)
        *calls = args->iterations;
    *batch = 1;
    if (!args->cold && mean_ns > 0 && mean_ns < BATCH_NS)
        *batch = (int64_t)(BATCH_NS / mean_ns) + 1;
    int64_t together = m->buffers->count;
    *batch = (*batch + together - 1) / together * together;
}

static weft_status summarize(measurement *m, perf_result *r)
{
    perf_context *x = m->x;
    const perf_histogram *h = &x->histogram;
    double times[4] = { h->min_ns, perf_histogram_quantile(h, 0.5), perf_histogram_quantile(h, 0.99),
                        h->max_ns };
    weft_status status = combine(x, times, 4, false);
    if (status == WEFT_OK)
        status = combine(x, &m->wrong, 1, true);
    r->c = *m->c;
    r->min_us = times[0] / 1000;
    r->p50_us = times[1] / 1000;
    r->p99_us = times[2] / 1000;
    r->max_us = times[3] / 1000;
    r->algbw_GBps = times[1] > 0 ? (double)m->c->bytes / times[1] : 0;
    r->busbw_GBps = r->algbw_GBps * perf_collective_bus_factor(m->c->collective, x->ranks);
    r->wrong = m->checked ? (int64_t)m->wrong : -1;
    return status;
}

weft_status perf_measure(perf_context *x, perf_buffers *b, perf_case *c, perf_result *result)
{
    measurement m = { .x = x, .buffers = b, .c = c };
    double mean_ns = 0;
    int64_t calls, batch;
    if (x->args->async > 0 && (m.requests = calloc((size_t)b->count, sizeof *m.requests)) == NULL) {
        fprintf(stderr, "%s: rank %d: out of memory for %d requests\n", x->args->program, x->rank, b->count);
        x->reported = true;
        return WEFT_ERR_MEMORY;
    }
    weft_status status = run_checks(&m, c);
    if (status == WEFT_OK && c->in_place)
        perf_buffers_settle(b, c);
    else if (status == WEFT_OK && perf_collective_has_data(c->collective))
        perf_buffers_fill(b, c);
    if (status == WEFT_OK)
        status = warm_up(&m, &mean_ns);
    if (status == WEFT_OK) {
        choose_calls(&m, mean_ns, &calls, &batch);
        status = run_timed(&m, calls, batch);
    }
    if (status == WEFT_OK && m.checked && !c->in_place && perf_collective_has_data(c->collective))
        count_wrong(&m, "measured calls");
    if (status == WEFT_OK)
        status = summarize(&m, result);
    free(m.requests);
    return status;
}

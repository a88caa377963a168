/* Measures one case: checked calls, warm-up, timed calls, and the figures of all ranks brought together. */
#ifndef PERF_MEASURE_H
#define PERF_MEASURE_H

#include "perf_buffers.h"
#include "perf_histogram.h"

enum { PERF_NAME_BYTES = 64 };

/* What a rank needs while it measures. */
typedef struct perf_context {
    const perf_args *args;
    weft_comm *comm;
    int rank, ranks;
    bool one_clock;        /* all ranks see the same CLOCK_MONOTONIC: they were forked here */
    bool on_terminal;      /* this rank shows progress */
    bool reported;         /* an error was printed already */
    bool interrupted_line; /* a progress line is on the terminal */
    uint64_t seed;         /* of the last data */
    perf_histogram histogram;
} perf_context;

typedef struct perf_result {
    perf_case c;
    double min_us, p50_us, p99_us, max_us;
    double algbw_GBps, busbw_GBps;
    int64_t wrong;         /* of all ranks; -1: not checked */
    char algorithm[PERF_NAME_BYTES], transport[PERF_NAME_BYTES];
} perf_result;

/* Collective. An error of the library is printed once per rank. */
weft_status perf_measure(perf_context *x, perf_buffers *b, perf_case *c, perf_result *result);
/* Prints "program: rank 2: what: status: detail" unless this rank has printed an error before; returns
 * status. */
weft_status perf_report(perf_context *x, weft_status status, const char *what);
/* values[n] of every rank into all[ranks * n]. Collective. */
weft_status perf_exchange(perf_context *x, const double *values, int n, double *all);
/* Replaces the progress line on rank 0's terminal; NULL takes it away. */
void perf_progress(perf_context *x, const char *text);
#endif

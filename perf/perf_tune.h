/* weft-perf --tune: measures every algorithm and writes which is the fastest. */
#ifndef PERF_TUNE_H
#define PERF_TUNE_H

#include "perf_measure.h"

/* Collective. Returns the exit code. */
int perf_tune(perf_context *x);
#endif

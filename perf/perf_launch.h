/* Starts the ranks where no launcher has: forks them, hands out the id by which they meet, binds them to
 * CPUs, and sees to it that none is left over. */
#ifndef PERF_LAUNCH_H
#define PERF_LAUNCH_H

#include "perf_args.h"

/* The name of the launcher that started this process as one of several ranks, NULL if there is none; *rank is
 * then this process's number, as far as the environment tells it. */
const char *perf_launcher(int *rank);

/* The ranks of a launcher that was killed would measure on, some for ever: from now on this process ends when its parent has.
 * Not where a shell has set torchrun's variables, which may well end before its ranks. */
void perf_end_with_launcher(const perf_args *args, const char *name);

typedef int (*perf_rank_function)(const perf_args *args, int rank, int ranks, const weft_unique_id *id);
/* Forks `ranks` children that call run(); its result is their exit code. Returns when all have ended: PERF_OK
 * if all returned that, else the first failure's code (PERF_FAILED if a signal killed it). Ends by a signal
 * that ended it. */
int perf_launch(const perf_args *args, int ranks, perf_rank_function run);
#endif

/* The sweep over sizes, types, operations and roots, and what comes of it. One call per rank. */
#ifndef PERF_RUN_H
#define PERF_RUN_H

#include "perf_measure.h"

/* Settings of the communicator that the arguments ask for; `algorithm` holds text that *config points to. */
enum { PERF_ALGORITHM_BYTES = 256 };
void perf_config(const perf_args *args, weft_config *config, char *algorithm);

/* Collective over comm: measures, prints (rank 0), writes JSON or the tuning table. Returns the exit code.
 * `one_clock`: the ranks are processes of one host. */
int perf_run(const perf_args *args, weft_comm *comm, bool one_clock);
/* Prints why the communicator could not be made, with the rank's number if it is known (>= 0). Returns
 * PERF_FAILED. */
int perf_run_failed(const perf_args *args, int rank, weft_status status, const char *what);

/* Of perf_run and the tuner: everything a rank needs before it measures. Collective: either all ranks get
 * true, or all false after those that failed have said why. */
bool perf_prepare_buffers(perf_context *x, perf_buffers *b, int collective);
/* Why an algorithm cannot serve this group, NULL if it can. Which rank is on which host only the library knows; an even
 * placement on as many hosts stands for it. */
const char *perf_obstacle(const perf_context *x, int collective, weft_algorithm algorithm);
/* The size after `bytes`, or more than max_bytes. */
uint64_t perf_next_size(const perf_args *args, int collective, weft_type type, uint64_t bytes);
#endif

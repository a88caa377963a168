/* The results as JSON: {"version", "machine", "args", "results"}. Rank 0 only. */
#ifndef PERF_JSON_H
#define PERF_JSON_H

#include "perf_measure.h"

/* Can the file be written? Creates it if it is not there and leaves its content alone. False after a message.
 */
bool perf_json_probe(const perf_context *x);
/* Writes it. False after a message: nothing, or only a part, was written. */
bool perf_json_write(const perf_context *x, const perf_result *results, size_t count);
#endif

/* The table on standard output, laid out as nccl-tests does. Rank 0 only. */
#ifndef PERF_TABLE_H
#define PERF_TABLE_H

#include "perf_measure.h"

/* Both halves of a row; NULL where that half is not measured. */
typedef struct perf_row { const perf_result *out_of_place, *in_place; } perf_row;

void perf_table_begin(const perf_context *x);
void perf_table_row(const perf_context *x, const perf_row *row);
/* What all rows come to. False if standard output did not take it all. */
bool perf_table_end(const perf_context *x, int64_t wrong, double average_busbw_GBps);
/* "sum", "none"; "0", "-1": as the table and the JSON name them. */
const char *perf_op_text(const perf_case *c);
#endif

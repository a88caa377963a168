/* Times of any number of calls in constant memory: a histogram of logarithmic buckets, under 0.4 % wide, with
 * exact smallest, largest and sum. */
#ifndef PERF_HISTOGRAM_H
#define PERF_HISTOGRAM_H

#include <stdint.h>

enum { PERF_HISTOGRAM_SUB = 256, PERF_HISTOGRAM_EXPONENTS = 56 };
typedef struct perf_histogram {
    uint64_t count;
    double sum_ns, min_ns, max_ns;
    uint64_t bucket[PERF_HISTOGRAM_EXPONENTS * PERF_HISTOGRAM_SUB];
} perf_histogram;

void perf_histogram_reset(perf_histogram *h);
/* A sample that stands for `calls` calls of `ns` each; ns >= 0. */
void perf_histogram_add(perf_histogram *h, double ns, uint64_t calls);
/* The smallest time that `fraction` of the calls do not exceed, to 0.2 %; 0 when there are none. */
double perf_histogram_quantile(const perf_histogram *h, double fraction);
#endif

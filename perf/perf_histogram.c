/* The histogram behind p50 and p99. Buckets hold times in 1/256 ns, so that means of batches keep their
 * fractions; each power of two is divided into PERF_HISTOGRAM_SUB equal parts. */
#include "perf_histogram.h"

#include <string.h>

static const double UNITS_PER_NS = 256.0;

void perf_histogram_reset(perf_histogram *h)
{
    memset(h, 0, sizeof *h);
}

/* Values below PERF_HISTOGRAM_SUB have a bucket each; above, the top 9 bits choose it. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < PERF_HISTOGRAM_SUB)
        return (uint32_t)value;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value) - 8u;
    return (exponent + 1) * PERF_HISTOGRAM_SUB + (uint32_t)(value >> exponent) - PERF_HISTOGRAM_SUB;
}

static double middle_of(uint32_t bucket)
{
    if (bucket < PERF_HISTOGRAM_SUB)
        return bucket;
    unsigned exponent = bucket / PERF_HISTOGRAM_SUB - 1;
    uint64_t low = (uint64_t)(bucket % PERF_HISTOGRAM_SUB + PERF_HISTOGRAM_SUB) << exponent;
    return (double)low + (double)((uint64_t)1 << exponent) / 2;
}

void perf_histogram_add(perf_histogram *h, double ns, uint64_t calls)
{
    double limit = (double)((uint64_t)1 << 62);
    double units = ns * UNITS_PER_NS;
    h->bucket[bucket_of((uint64_t)(units < limit ? units : limit))] += calls;
    if (h->count == 0 || ns < h->min_ns)
        h->min_ns = ns;
    if (h->count == 0 || ns > h->max_ns)
        h->max_ns = ns;
    h->count += calls;
    h->sum_ns += ns * (double)calls;
}

double perf_histogram_quantile(const perf_histogram *h, double fraction)
{
    double target = fraction * (double)h->count;
    uint64_t seen = 0;
    for (uint32_t b = 0; b < PERF_HISTOGRAM_EXPONENTS * PERF_HISTOGRAM_SUB; b++) {
        seen += h->bucket[b];
        if (h->bucket[b] == 0 || (double)seen < target)
            continue;
        double ns = middle_of(b) / UNITS_PER_NS;
        return ns < h->min_ns ? h->min_ns : ns > h->max_ns ? h->max_ns : ns;
    }
    return h->count > 0 ? h->max_ns : 0;
}

/* The data that weft-perf sends, and what must come of them, computed without the library. Every element
 * differs by rank, index and seed, and is chosen such that the result is exact in its type in whatever order
 * operands meet. */
#ifndef PERF_PATTERN_H
#define PERF_PATTERN_H

#include <weft/weft.h>

/* Values repeat after so many elements (a prime: no chunk size is a multiple of it), which bounds the
 * reference's work. */
enum { PERF_PATTERN_PERIOD = 16381, PERF_PATTERN_BYTES = PERF_PATTERN_PERIOD * 8 };
/* In place of a rank: the reduction over all ranks. */
enum { PERF_REDUCED = -1 };

typedef struct perf_pattern {
    weft_type type;
    bool reduces;   /* else the data are only moved: any bits will do */
    weft_op op;
    int ranks;
    uint64_t seed;
} perf_pattern;

/* Elements [first, first + count) of rank `source`, or of the result, into dst. */
void perf_pattern_fill(const perf_pattern *p, int source, uint64_t first, uint64_t count, void *dst);
/* How many of data's elements differ from that, in any bit; *where is the first one. */
uint64_t perf_pattern_compare(const perf_pattern *p, int source, uint64_t first, uint64_t count,
                              const void *data, uint64_t *where);
/* One element as text. */
void perf_pattern_text(weft_type type, const void *element, char *text, size_t bytes);
#endif

/* Dividing the bytes of a slice among the rails to a peer. A pure function. */
#include "transport/spans.h"

#include <string.h>

void weft_spans_divide(size_t bytes, const uint32_t *weights, const uint64_t *load, int rails, uint32_t *spans)
{
    double total_weight = 0, total_load = (double)bytes;
    int first = 0;
    memset(spans, 0, (size_t)rails * sizeof *spans);
    for (int i = 0; i < rails; i++) {
        total_weight += weights[i];
        total_load += (double)load[i];
        if (((double)load[i] + (double)bytes) / weights[i] < ((double)load[first] + (double)bytes) / weights[first])
            first = i;
    }
    if (rails == 1 || bytes < 2 * (size_t)WEFT_SPAN_MIN) {
        spans[first] = (uint32_t)bytes;
        return;
    }
    /* Each rail up to its share of all that is under way then; what rounding and full rails leave goes to the first. */
    size_t left = bytes;
    for (int i = 0; i < rails; i++) {
        double share = total_load * weights[i] / total_weight - (double)load[i];
        size_t span = share > 0 ? (size_t)share & ~(size_t)63 : 0;
        if (i == first || span < WEFT_SPAN_MIN)
            continue;
        spans[i] = (uint32_t)weft_min_size(span, left);
        left -= spans[i];
    }
    spans[first] = (uint32_t)left;
}

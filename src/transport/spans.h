/* How the bytes of a slice are divided among rails, for transports whose sender decides that beforehand. */
#ifndef WEFT_SPANS_H
#define WEFT_SPANS_H

#include "base/base.h"

enum { WEFT_SPAN_MIN = 16 << 10 }; /* fewer bytes are not worth a further rail */

/* Divides `bytes` among rails: spans[i] for each, in order of the bytes. `load`: bytes that each has under way already. Small
 * amounts go whole to the rail that will be done first; larger ones are shared by weight so that all end together. */
void weft_spans_divide(size_t bytes, const uint32_t *weights, const uint64_t *load, int rails, uint32_t *spans);

#endif

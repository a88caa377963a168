/* Names of the parts of a schedule, for everything that prints one. */
#ifndef WEFT_PRINT_H
#define WEFT_PRINT_H

#include <weft/schedule.h>

/* "input", "output", "scratch"; "?" for anything else. */
const char *weft_buffer_name(uint32_t buffer);
/* "send", "recv_reduce" ...; "?" for anything else. */
const char *weft_step_kind_name(unsigned kind);
/* "output[4]", "scratch[0..3]", "input[1,+2 x8]", "rank 3's input[4]" (if place->rank is not rank). */
void weft_place_text(const weft_place *place, int rank, char *text, size_t bytes);
/* "recv_reduce from 2: output[4] = output[4] op in": weft_step_text without lane and number. */
void weft_step_describe(const weft_schedule *schedule, const weft_step *step, char *text, size_t bytes);

#endif

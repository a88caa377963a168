/* The inline path: a blocking small collective, from call to result in one go: among ranks of one host, or by messages of one
 * slice each. A second, tiny interpreter of the schedules that the executor runs, which follows the same protocols: ranks of one
 * collective may be on either path, and what does not end soon goes on in the executor where it stands. */
#ifndef WEFT_INLINE_H
#define WEFT_INLINE_H

#include "collectives/execute.h"

typedef struct weft_inline weft_inline;

/* A call's shape made ready: schedule, count and type resolved to moves of bytes. *out is NULL where the inline path does not
 * serve it: more than a tile, large buffers (which might be read in place, or go in several slices), both shared memory and
 * messages, or sizes of its own per rank. Of messages it serves what comes before the first step that is not for it.
 * args: of addresses only whether they are there counts; what `ready` points to must outlive it. */
weft_status weft_inline_create(weft_exec *e, const weft_execution_args *args, weft_inline **out);
void weft_inline_destroy(weft_inline *c);
const weft_fingerprint *weft_inline_fingerprint(const weft_inline *c);
const weft_schedule *weft_inline_schedule(const weft_inline *c);

/* May it run on these? Not where an address is missing, nor in place if the schedule would have to be given a copy. */
bool weft_inline_takes(const weft_inline *c, const void *input, const void *output, bool in_place);

typedef enum weft_inline_outcome {
    WEFT_INLINE_DONE,
    WEFT_INLINE_NOT_BEGUN, /* other work is under way, or the place in shared memory is not free yet: nothing has happened */
    WEFT_INLINE_WAITS      /* begun, but a wait is not over, or a transport still has a slice: on with weft_execution_resume from
                              `point` */
} weft_inline_outcome;

/* Runs it on these buffers; spins at most e->spins looks per wait for a signal. On WEFT_INLINE_WAITS the buffers may not be
 * given up before it went on, or e->inline_sends is 0. */
weft_inline_outcome weft_inline_run(weft_exec *e, const weft_inline *c, const void *input, void *output,
                                    weft_execution_point *point);

/* While it waits for a message: a slice of its collective. */
weft_take weft_inline_take(weft_exec *e, const weft_incoming *in);

#endif

/* The verifier: a planned schedule with anything written into its steps is either right or reported, and what it calls right can
 * be costed and printed. The first bytes choose the plan, the rest are changes of 6 bytes each. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/print.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { RANKS = 5 };

static weft_schedule *copies[RANKS];

/* change[0]: rank; [1]: step; [2]: byte of the step; [3]: how; [4], [5]: with what. */
static void change(const uint8_t *c)
{
    weft_schedule *s = copies[c[0] % RANKS];
    weft_lane *lane = &s->lane[(c[0] >> 4) % s->lanes];
    if (lane->count == 0)
        return;
    weft_step *step = &lane->steps[c[1] % lane->count];
    switch (c[3] % 8) {
    case 0:
        ((uint8_t *)step)[c[2] % sizeof(*step)] = c[4];
        break;
    case 1:
        *step = lane->steps[c[4] % lane->count];
        break;
    case 2:
        memmove(step, step + 1, (size_t)(lane->steps + lane->count - step - 1) * sizeof(*step));
        lane->count--;
        break;
    case 3:
        step->from = c[4] % RANKS;
        step->to = c[5] % (RANKS + 1) - 1;
        break;
    case 4:
        step->dst.first = c[4];
        step->src.first = c[5];
        break;
    case 5:
        step->fence = c[4] % 8;
        break;
    case 6:
        lane->sends += (uint32_t)(c[4] % 3) - 1;
        lane->signals += (uint32_t)(c[5] % 3) - 1;
        break;
    default:
        if (s->source_count)
            ((uint8_t *)&s->sources[c[2] % s->source_count])[c[4] % sizeof(weft_place)] = c[5];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const int host[RANKS] = { 0, 0, 1, 1, 0 };
    if (bytes < 3)
        return 0;
    weft_plan_request request = { .collective = (weft_collective)(data[0] % WEFT_COLLECTIVE_COUNT),
                                  .algorithm = (weft_algorithm)(1 + data[1] % (WEFT_ALGORITHM_COUNT - 1)),
                                  .group = { RANKS, data[2] & 1 ? host : NULL } };
    if (weft_plan_obstacle(&request))
        return 0;
    for (int rank = 0; rank < RANKS; rank++)
        if (weft_plan(&request, rank, &copies[rank]) != WEFT_OK)
            abort();
    for (size_t at = 3; at + 6 <= bytes; at += 6)
        change(data + at);
    char text[256];
    const weft_schedule *const *all = (const weft_schedule *const *)copies;
    weft_status status = weft_verify(all, RANKS, &request.group, text, sizeof(text));
    if (status != WEFT_OK && (status != WEFT_ERR_MISMATCH || !text[0]))
        abort();
    weft_cost_model model;
    double time;
    weft_cost_model_default(&model);
    if (status == WEFT_OK && weft_cost(all, RANKS, &request.group, &model, 1 << 20, &time) != WEFT_OK)
        abort();
    for (int rank = 0; rank < RANKS; rank++)
        weft_schedule_free(copies[rank]);
    return 0;
}

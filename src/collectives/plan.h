/* Inside the planners: their functions (one file per family) and what several of them need to know of the group. */
#ifndef WEFT_PLAN_H
#define WEFT_PLAN_H

#include "base/base.h"
#include "collectives/planner.h"

enum { WEFT_PLAN_MAX_LANES = 32, WEFT_PLAN_MAX_RANKS = 32768 };
/* The number of lanes to plan: what was wished, else `fallback`. */
uint32_t weft_plan_lanes(const weft_plan_request *request, uint32_t fallback);
/* Largest power of two <= n. */
int weft_floor_pow2(int n);

/* Ranks in an order in which those of one host are neighbours, so that a ring crosses each link between hosts once. */
typedef struct weft_order {
    int ranks;
    int position; /* of this rank */
    int *rank;    /* by position */
} weft_order;
weft_status weft_order_create(weft_order *order, const weft_group *group, int rank);
void weft_order_free(weft_order *order);
/* Position `steps` further along the ring (direction 1 or -1) from this rank. */
int weft_order_along(const weft_order *order, int direction, int steps);

weft_status weft_plan_ring_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);

#endif

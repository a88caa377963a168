/* The table of planners: which algorithm serves which collective, and what each may be used for. */
#include "collectives/plan.h"

const weft_planner weft_planners[] = {
    /* algorithm, collective, function, one_host, vector, keeps_order, single_lane */
    { WEFT_RING, WEFT_ALL_REDUCE, weft_plan_ring_all_reduce, false, false, false, false },
    { WEFT_RING, WEFT_ALL_GATHER, weft_plan_ring_all_gather, false, true, true, false },
    { WEFT_RING, WEFT_REDUCE_SCATTER, weft_plan_ring_reduce_scatter, false, true, false, false },
    { WEFT_RING, WEFT_BROADCAST, weft_plan_ring_broadcast, false, false, true, false },
    { WEFT_RING, WEFT_REDUCE, weft_plan_ring_reduce, false, false, false, false },
    { WEFT_LINEAR, WEFT_GATHER, weft_plan_linear_gather, false, true, true, true },
    { WEFT_LINEAR, WEFT_SCATTER, weft_plan_linear_scatter, false, true, true, true },
    { WEFT_LINEAR, WEFT_REDUCE, weft_plan_linear_reduce, false, false, true, true },
    { WEFT_KNOMIAL, WEFT_BROADCAST, weft_plan_knomial_broadcast, false, false, true, false },
    { WEFT_KNOMIAL, WEFT_REDUCE, weft_plan_knomial_reduce, false, false, false, false },
    { WEFT_KNOMIAL, WEFT_ALL_REDUCE, weft_plan_knomial_all_reduce, false, false, true, false },
    { WEFT_KNOMIAL, WEFT_GATHER, weft_plan_knomial_gather, false, false, true, true },
    { WEFT_KNOMIAL, WEFT_SCATTER, weft_plan_knomial_scatter, false, false, true, true },
    { WEFT_KNOMIAL, WEFT_BARRIER, weft_plan_knomial_barrier, false, false, true, true },
    { WEFT_RECURSIVE_DOUBLING, WEFT_ALL_REDUCE, weft_plan_doubling_all_reduce, false, false, true, false },
    { WEFT_RECURSIVE_DOUBLING, WEFT_ALL_GATHER, weft_plan_doubling_all_gather, false, false, true, true },
    { WEFT_RECURSIVE_DOUBLING, WEFT_BARRIER, weft_plan_doubling_barrier, false, false, true, true },
    { WEFT_HALVING_DOUBLING, WEFT_ALL_REDUCE, weft_plan_halving_all_reduce, false, false, true, false },
    { WEFT_HALVING_DOUBLING, WEFT_REDUCE_SCATTER, weft_plan_halving_reduce_scatter, false, false, false, true },
    { WEFT_AUTO, WEFT_COLLECTIVE_COUNT, NULL, false, false, false, false },
};

const weft_planner *weft_planner_find(weft_algorithm algorithm, weft_collective collective)
{
    for (const weft_planner *p = weft_planners; p->plan; p++)
        if (p->algorithm == algorithm && p->collective == collective)
            return p;
    return NULL;
}

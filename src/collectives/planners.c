/* The table of planners: which algorithm serves which collective, and what each may be used for. */
#include "collectives/plan.h"

const weft_planner weft_planners[] = {
    /* algorithm, collective, function, one_host, vector, keeps_order, single_lane */
    { WEFT_RING, WEFT_ALL_REDUCE, weft_plan_ring_all_reduce, false, false, false, false },
    { WEFT_AUTO, WEFT_COLLECTIVE_COUNT, NULL, false, false, false, false },
};

const weft_planner *weft_planner_find(weft_algorithm algorithm, weft_collective collective)
{
    for (const weft_planner *p = weft_planners; p->plan; p++)
        if (p->algorithm == algorithm && p->collective == collective)
            return p;
    return NULL;
}

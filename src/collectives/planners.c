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
    { WEFT_HALVING_DOUBLING, WEFT_REDUCE_SCATTER, weft_plan_halving_reduce_scatter,
      false, false, false, true },
    { WEFT_BRUCK, WEFT_ALL_TO_ALL, weft_plan_bruck_all_to_all, false, false, true, true },
    { WEFT_BRUCK, WEFT_ALL_GATHER, weft_plan_bruck_all_gather, false, false, true, true },
    { WEFT_PAIRWISE, WEFT_ALL_TO_ALL, weft_plan_pairwise_all_to_all, false, true, true, false },
    { WEFT_PAIRWISE, WEFT_REDUCE_SCATTER, weft_plan_pairwise_reduce_scatter, false, true, true, true },
    { WEFT_FLAT, WEFT_ALL_REDUCE, weft_plan_flat_all_reduce, true, false, true, true },
    { WEFT_FLAT, WEFT_ALL_GATHER, weft_plan_flat_all_gather, true, false, true, true },
    { WEFT_FLAT, WEFT_REDUCE_SCATTER, weft_plan_flat_reduce_scatter, true, false, true, true },
    { WEFT_FLAT, WEFT_BROADCAST, weft_plan_flat_broadcast, true, false, true, true },
    { WEFT_FLAT, WEFT_REDUCE, weft_plan_flat_reduce, true, false, true, true },
    { WEFT_FLAT, WEFT_GATHER, weft_plan_flat_gather, true, false, true, true },
    { WEFT_FLAT, WEFT_SCATTER, weft_plan_flat_scatter, true, false, true, true },
    { WEFT_FLAT, WEFT_ALL_TO_ALL, weft_plan_flat_all_to_all, true, false, true, true },
    { WEFT_FLAT, WEFT_BARRIER, weft_plan_flat_barrier, true, false, true, true },
    { WEFT_DIRECT, WEFT_ALL_REDUCE, weft_plan_direct_all_reduce, true, false, true, true },
    { WEFT_DIRECT, WEFT_ALL_GATHER, weft_plan_flat_all_gather, true, false, true, true },
    { WEFT_DIRECT, WEFT_REDUCE_SCATTER, weft_plan_flat_reduce_scatter, true, false, true, true },
    { WEFT_DIRECT, WEFT_BROADCAST, weft_plan_direct_broadcast, true, false, true, true },
    { WEFT_DIRECT, WEFT_REDUCE, weft_plan_direct_reduce, true, false, true, true },
    { WEFT_DIRECT, WEFT_GATHER, weft_plan_flat_gather, true, false, true, true },
    { WEFT_DIRECT, WEFT_SCATTER, weft_plan_flat_scatter, true, false, true, true },
    { WEFT_DIRECT, WEFT_ALL_TO_ALL, weft_plan_flat_all_to_all, true, false, true, true },
    { WEFT_TREE, WEFT_ALL_REDUCE, weft_plan_tree_all_reduce, false, false, false, false },
    { WEFT_TREE, WEFT_BROADCAST, weft_plan_tree_broadcast, false, false, true, false },
    { WEFT_TREE, WEFT_REDUCE, weft_plan_tree_reduce, false, false, false, false },
    { WEFT_HIERARCHICAL, WEFT_ALL_REDUCE, weft_plan_hierarchical_all_reduce, false, false, false, true },
    { WEFT_HIERARCHICAL, WEFT_ALL_GATHER, weft_plan_hierarchical_all_gather, false, false, true, true },
    { WEFT_HIERARCHICAL, WEFT_REDUCE_SCATTER, weft_plan_hierarchical_reduce_scatter,
      false, false, false, true },
    { WEFT_HIERARCHICAL, WEFT_BROADCAST, weft_plan_hierarchical_broadcast, false, false, true, true },
    { WEFT_HIERARCHICAL, WEFT_REDUCE, weft_plan_hierarchical_reduce, false, false, false, true },
    { WEFT_HIERARCHICAL, WEFT_BARRIER, weft_plan_hierarchical_barrier, false, false, true, true },
    { WEFT_AUTO, WEFT_COLLECTIVE_COUNT, NULL, false, false, false, false },
};

const weft_planner *weft_planner_find(weft_algorithm algorithm, weft_collective collective)
{
    for (const weft_planner *p = weft_planners; p->plan; p++)
        if (p->algorithm == algorithm && p->collective == collective)
            return p;
    return NULL;
}

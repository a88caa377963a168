/* Pairwise exchange: in round s each rank sends to the one s further on and hears from the one s before. */
#include "collectives/plan.h"

weft_status weft_plan_pairwise_all_to_all(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    uint32_t lanes = weft_plan_lanes(request, 1), own = (uint32_t)rank;
    if (lanes > (uint32_t)n - 1)
        lanes = (uint32_t)n - 1;
    weft_build_shape(b, 1, 0, lanes);
    weft_build_not_in_place(b);
    for (int s = 1; s < n; s++) {
        uint32_t lane = (uint32_t)(s - 1) % lanes;
        int to = (rank + s) % n, from = (rank - s + n) % n;
        weft_build_send(b, lane, weft_at(b, WEFT_INPUT, (uint32_t)to, 1), to);
        weft_build_recv(b, lane, from, weft_at(b, WEFT_OUTPUT, (uint32_t)from, 1), -1);
    }
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, own, 1), weft_at(b, WEFT_OUTPUT, own, 1), 0);
    return WEFT_OK;
}

/* All operands of this rank's block are collected, then combined in rank order and rounded once. */
weft_status weft_plan_pairwise_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, (uint32_t)n - 1, 1);
    weft_place *sources = weft_alloc_array((size_t)n, sizeof *sources);
    if (!sources)
        return weft_fail(WEFT_ERR_MEMORY, "planning: no memory for %d sources", n);
    for (int r = 0; r < n; r++)
        sources[r] = r == rank ? weft_at(b, WEFT_INPUT, (uint32_t)rank, 1)
                               : weft_at(b, WEFT_SCRATCH, (uint32_t)(r - (r > rank)), 1);
    for (int s = 1; s < n; s++) {
        int to = (rank + s) % n, from = (rank - s + n) % n;
        weft_build_send(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)to, 1), to);
        weft_build_recv(b, 0, from, sources[from], -1);
    }
    weft_build_reduce(b, 0, sources, n, weft_at(b, WEFT_OUTPUT, 0, 1), WEFT_STEP_FINAL);
    weft_free(sources);
    return WEFT_OK;
}

/* Linear planners: the root and everyone else directly. For blocks of different sizes, which nobody but the
 * root knows, and for reductions in rank order whatever the root. */
#include "collectives/plan.h"

weft_status weft_plan_linear_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_build_shape(b, 1, 0, 1);
    weft_place own = weft_at(b, WEFT_INPUT, 0, 1);
    if (rank != request->root) {
        weft_build_send(b, 0, own, request->root);
        return WEFT_OK;
    }
    weft_build_copy(b, 0, own, weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    for (int r = 0; r < request->group.ranks; r++)
        if (r != rank)
            weft_build_recv(b, 0, r, weft_at(b, WEFT_OUTPUT, (uint32_t)r, 1), -1);
    return WEFT_OK;
}

weft_status weft_plan_linear_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_build_shape(b, 1, 0, 1);
    weft_place own = weft_at(b, WEFT_OUTPUT, 0, 1);
    if (rank != request->root) {
        weft_build_recv(b, 0, request->root, own, -1);
        return WEFT_OK;
    }
    for (int r = 0; r < request->group.ranks; r++)
        if (r != rank)
            weft_build_send(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)r, 1), r);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)rank, 1), own, 0);
    return WEFT_OK;
}

/* The root combines what comes in from rank 0 upwards: in place its output is its own operand, so what
 * belongs to the left of it is collected in scratch. */
weft_status weft_plan_linear_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, 1, 1);
    weft_place own = weft_at(b, WEFT_INPUT, 0, 1), output = weft_at(b, WEFT_OUTPUT, 0, 1);
    weft_place left = weft_at(b, WEFT_SCRATCH, 0, 1);
    if (rank != request->root) {
        weft_build_send(b, 0, own, request->root);
        return WEFT_OK;
    }
    if (rank == 1)
        weft_build_recv_reduce(b, 0, 0, own, output, -1,
                               WEFT_STEP_INCOMING_FIRST | (n == 2 ? WEFT_STEP_FINAL : 0));
    if (rank > 1) {
        weft_build_recv(b, 0, 0, left, -1);
        for (int r = 1; r < rank; r++)
            weft_build_recv_reduce(b, 0, r, left, left, -1, 0);
        weft_build_reduce(b, 0, (weft_place[]){ left, own }, 2, output, rank == n - 1 ? WEFT_STEP_FINAL : 0);
    }
    for (int r = rank + 1; r < n; r++)
        weft_build_recv_reduce(b, 0, r, r == 1 ? own : output, output, -1, r == n - 1 ? WEFT_STEP_FINAL : 0);
    return WEFT_OK;
}

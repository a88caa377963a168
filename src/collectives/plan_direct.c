/* Direct planners, for large messages among the ranks of one host: rank r reduces chunk r from all inputs in
 * rank order, in one pass, so that each rank reads and writes memory about once. Collectives that flat
 * already serves so use its planners. */
#include "collectives/plan.h"

/* In place: chunk c of an input is read by rank c only, before that rank's second signal, and overwritten
 * after it. */
weft_status weft_plan_direct_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    uint32_t own = (uint32_t)rank;
    weft_build_shape(b, (uint32_t)n, 0, 1);
    weft_build_local(b, true, true);
    weft_build_publish_others(b, (uint32_t)n, rank);
    weft_build_all_signal(b, n, rank, 1, 0);
    weft_status status = weft_build_reduce_ranks(b, NULL, n, weft_at(b, WEFT_INPUT, own, 1),
                                                 weft_at(b, WEFT_OUTPUT, own, 1), WEFT_STEP_FINAL);
    weft_build_publish(b, 0, weft_at(b, WEFT_OUTPUT, own, 1), WEFT_STEP_PUSH);
    weft_build_signal(b, 0, 0);
    for (int i = 1; i < n; i++) {
        int r = (rank + i) % n;
        weft_build_wait(b, 0, r, 2, 0);
        weft_build_copy(b, 0, weft_at_rank(r, WEFT_OUTPUT, (uint32_t)r, 1),
                        weft_at(b, WEFT_OUTPUT, (uint32_t)r, 1), WEFT_STEP_PUSHED);
    }
    weft_build_all_signal(b, n, rank, 3, WEFT_STEP_IF_MAPPED);
    return status;
}

/* The root has the others' outputs at hand as they have its input: of n equal parts they take n - 1 while it writes the last one
 * to all of them, so that its core works too. Out of place that core is busy with its own output, and nothing is pushed. */
weft_status weft_plan_direct_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks, root = request->root;
    uint32_t last = (uint32_t)n - 1;
    weft_build_shape(b, (uint32_t)n, 0, 1);
    weft_build_local(b, true, true);
    if (rank == root) {
        weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, last + 1), 0);
        weft_build_signal(b, 0, 0);
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, last, 1), weft_at(b, WEFT_OUTPUT, last, 1), 0);
        for (int i = 1; i < n; i++)
            weft_build_wait(b, 0, (rank + i) % n, 1, 0);
        weft_build_publish(b, 0, weft_at(b, WEFT_OUTPUT, last, 1), WEFT_STEP_PUSH);
        weft_build_signal(b, 0, 0);
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, last), weft_at(b, WEFT_OUTPUT, 0, last), 0);
        for (int i = 1; i < n; i++)
            weft_build_wait(b, 0, (rank + i) % n, 2, WEFT_STEP_IF_MAPPED);
        return WEFT_OK;
    }
    weft_build_signal(b, 0, 0);
    weft_build_wait(b, 0, root, 1, 0);
    weft_build_copy(b, 0, weft_at_rank(root, WEFT_INPUT, 0, last), weft_at(b, WEFT_OUTPUT, 0, last), 0);
    weft_build_wait(b, 0, root, 2, 0);
    weft_build_copy(b, 0, weft_at_rank(root, WEFT_INPUT, last, 1), weft_at(b, WEFT_OUTPUT, last, 1), WEFT_STEP_PUSHED);
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    return WEFT_OK;
}

/* Only the root has an output, so the others send it what they reduced. */
weft_status weft_plan_direct_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks, root = request->root;
    uint32_t own = (uint32_t)rank;
    weft_build_shape(b, (uint32_t)n, 1, 1);
    weft_build_local(b, true, false);
    weft_build_publish_others(b, (uint32_t)n, rank);
    weft_build_all_signal(b, n, rank, 1, 0);
    weft_place result = rank == root ? weft_at(b, WEFT_OUTPUT, own, 1) : weft_at(b, WEFT_SCRATCH, 0, 1);
    weft_status status =
        weft_build_reduce_ranks(b, NULL, n, weft_at(b, WEFT_INPUT, own, 1), result, WEFT_STEP_FINAL);
    if (rank != root)
        weft_build_send(b, 0, result, root);
    for (int i = 1; rank == root && i < n; i++) {
        int r = (rank + i) % n;
        weft_build_recv(b, 0, r, weft_at(b, WEFT_OUTPUT, (uint32_t)r, 1), -1);
    }
    weft_build_all_signal(b, n, rank, 2, WEFT_STEP_IF_MAPPED);
    return status;
}

/* Planners for ranks of one host that read each other's buffers: every rank publishes its input, signals, and
 * takes what it needs from the others' inputs, in rank order. One round; also the large-message form (direct)
 * of all collectives in which nobody would do work that another could share. */
#include "collectives/plan.h"

static void offer(weft_builder *b, int rank, uint32_t blocks)
{
    weft_build_shape(b, 1, 0, 1);
    weft_build_local(b, true, false);
    if (blocks == 1)
        weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, 1), 0);
    else
        weft_build_publish_others(b, blocks, rank);
}

/* Everyone's input readable by everyone. */
static void enter(weft_builder *b, int n, int rank, uint32_t blocks)
{
    offer(b, rank, blocks);
    weft_build_all_signal(b, n, rank, 1, 0);
}

/* Block `block` of every rank's input: the own one while the others' come. */
static void take_all(weft_builder *b, int n, int rank, uint32_t block)
{
    weft_build_signal(b, 0, 0);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, block, 1), weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    for (int i = 1; i < n; i++)
        weft_build_wait(b, 0, (rank + i) % n, 1, 0);
    for (int i = 1; i < n; i++) {
        int r = (rank + i) % n;
        weft_build_copy(b, 0, weft_at_rank(r, WEFT_INPUT, block, 1), weft_at(b, WEFT_OUTPUT, (uint32_t)r, 1), 0);
    }
}

/* Nobody goes while another may still read its input. */
static void leave(weft_builder *b, int n, int rank)
{
    weft_build_all_signal(b, n, rank, 2, WEFT_STEP_IF_MAPPED);
}

/* In place its output would be overwritten while others read it, so the input must lie elsewhere (staged, it
 * does). */
weft_status weft_plan_flat_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    enter(b, n, rank, 1);
    weft_build_not_in_place(b);
    weft_status status = weft_build_reduce_ranks(b, NULL, n, weft_at(b, WEFT_INPUT, 0, 1),
                                                 weft_at(b, WEFT_OUTPUT, 0, 1), WEFT_STEP_FINAL);
    leave(b, n, rank);
    return status;
}

weft_status weft_plan_flat_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    enter(b, n, rank, (uint32_t)n);
    weft_status status = weft_build_reduce_ranks(b, NULL, n, weft_at(b, WEFT_INPUT, (uint32_t)rank, 1),
                                                 weft_at(b, WEFT_OUTPUT, 0, 1), WEFT_STEP_FINAL);
    leave(b, n, rank);
    return status;
}

weft_status weft_plan_flat_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    offer(b, rank, 1);
    take_all(b, n, rank, 0);
    leave(b, n, rank);
    return WEFT_OK;
}

weft_status weft_plan_flat_all_to_all(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    offer(b, rank, (uint32_t)n);
    weft_build_not_in_place(b);
    take_all(b, n, rank, (uint32_t)rank);
    leave(b, n, rank);
    return WEFT_OK;
}

weft_status weft_plan_flat_barrier(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_build_shape(b, 1, 0, 1);
    weft_build_all_signal(b, request->group.ranks, rank, 1, 0);
    return WEFT_OK;
}

/* The root's input to all: block `rank` of it (scatter) or the only one (broadcast). */
static weft_status from_root(weft_builder *b, const weft_plan_request *request, int rank, uint32_t blocks)
{
    int n = request->group.ranks, root = request->root;
    weft_build_shape(b, 1, 0, 1);
    weft_build_local(b, true, false);
    weft_place src = weft_at_rank(root, WEFT_INPUT, blocks == 1 ? 0 : (uint32_t)rank, 1);
    if (rank == root) {
        if (blocks == 1)
            weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, 1), 0);
        else
            weft_build_publish_others(b, blocks, rank);
        weft_build_signal(b, 0, 0);
    } else {
        weft_build_wait(b, 0, root, 1, 0);
    }
    weft_build_copy(b, 0, src, weft_at(b, WEFT_OUTPUT, 0, 1), 0);
    if (rank != root)
        weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    for (int i = 1; rank == root && i < n; i++)
        weft_build_wait(b, 0, (rank + i) % n, 1, WEFT_STEP_IF_MAPPED);
    return WEFT_OK;
}

weft_status weft_plan_flat_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    return from_root(b, request, rank, 1);
}

weft_status weft_plan_flat_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    return from_root(b, request, rank, (uint32_t)request->group.ranks);
}

/* Everyone else's part in gather and reduce. */
static void offer_to_root(weft_builder *b, int root)
{
    weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, 1), 0);
    weft_build_signal(b, 0, 0);
    weft_build_wait(b, 0, root, 1, WEFT_STEP_IF_MAPPED);
}

weft_status weft_plan_flat_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, 0, 1);
    weft_build_local(b, true, false);
    if (rank != request->root) {
        offer_to_root(b, request->root);
        return WEFT_OK;
    }
    for (int i = 1; i < n; i++)
        weft_build_wait(b, 0, (rank + i) % n, 1, 0);
    weft_status status = weft_build_reduce_ranks(b, NULL, n, weft_at(b, WEFT_INPUT, 0, 1),
                                                 weft_at(b, WEFT_OUTPUT, 0, 1), WEFT_STEP_FINAL);
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    return status;
}

weft_status weft_plan_flat_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, 0, 1);
    weft_build_local(b, true, false);
    if (rank != request->root) {
        offer_to_root(b, request->root);
        return WEFT_OK;
    }
    for (int i = 0; i < n; i++) {
        int r = (rank + i) % n;
        if (i)
            weft_build_wait(b, 0, r, 1, 0);
        weft_build_copy(b, 0, weft_at_rank(r, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, (uint32_t)r, 1), 0);
    }
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    return WEFT_OK;
}

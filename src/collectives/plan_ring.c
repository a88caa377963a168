/* Ring planners: every rank talks to its two neighbours only, bandwidth-optimal. Odd lanes run the other way
 * round, so that both directions of a link carry data. Ranks of one host are neighbours (weft_order). */
#include "collectives/plan.h"

/* One lane's view of the ring. Members are named by how many steps further along they are; 0 is this rank. */
typedef struct ring {
    const weft_order *order;
    int direction;
    int next, previous;
} ring;

static ring ring_of_lane(const weft_order *order, uint32_t lane)
{
    ring r = { .order = order, .direction = lane % 2 ? -1 : 1 };
    r.next = order->rank[weft_order_along(order, r.direction, 1)];
    r.previous = order->rank[weft_order_along(order, r.direction, -1)];
    return r;
}

/* Reduce-scatter, then all-gather; the last reduction of a chunk already starts its way round. */
weft_status weft_plan_ring_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    int n = order.ranks;
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, (uint32_t)n * lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        ring r = ring_of_lane(&order, lane);
        uint32_t base = lane * (uint32_t)n;
        weft_build_send(b, lane, weft_at(b, WEFT_INPUT, base + (uint32_t)order.position, 1), r.next);
        for (int s = 1; s < n; s++) {
            uint32_t chunk = base + (uint32_t)weft_order_along(&order, r.direction, -s);
            weft_build_recv_reduce(b, lane, r.previous, weft_at(b, WEFT_INPUT, chunk, 1),
                                   weft_at(b, WEFT_OUTPUT, chunk, 1), r.next,
                                   s == n - 1 ? WEFT_STEP_FINAL : 0);
        }
        for (int s = 1; s < n; s++) {
            uint32_t chunk = base + (uint32_t)weft_order_along(&order, r.direction, 1 - s);
            weft_build_recv(b, lane, r.previous, weft_at(b, WEFT_OUTPUT, chunk, 1), s < n - 1 ? r.next : -1);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

/* Chunk `lane` of a block. */
static uint32_t block_chunk(int block, uint32_t lanes, uint32_t lane)
{
    return (uint32_t)block * lanes + lane;
}

weft_status weft_plan_ring_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    int n = order.ranks;
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 2 * lanes, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        ring r = ring_of_lane(&order, lane);
        int block = order.rank[weft_order_along(&order, r.direction, -1)];
        weft_build_send(b, lane, weft_at(b, WEFT_INPUT, block_chunk(block, lanes, lane), 1), r.next);
        for (int s = 1; s < n; s++) {
            bool last = s == n - 1;
            block = order.rank[weft_order_along(&order, r.direction, -1 - s)];
            /* two scratch chunks by turns: one is still being forwarded while the other fills */
            weft_place dst = last ? weft_at(b, WEFT_OUTPUT, lane, 1)
                                  : weft_at(b, WEFT_SCRATCH, 2 * lane + (uint32_t)(s & 1), 1);
            weft_build_recv_reduce(b, lane, r.previous,
                                   weft_at(b, WEFT_INPUT, block_chunk(block, lanes, lane), 1), dst,
                                   last ? -1 : r.next, last ? WEFT_STEP_FINAL : 0);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

weft_status weft_plan_ring_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    int n = order.ranks;
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        ring r = ring_of_lane(&order, lane);
        weft_place own = weft_at(b, WEFT_INPUT, lane, 1);
        weft_build_send(b, lane, own, r.next);
        weft_build_copy(b, lane, own, weft_at(b, WEFT_OUTPUT, block_chunk(rank, lanes, lane), 1), 0);
        for (int s = 1; s < n; s++) {
            int block = order.rank[weft_order_along(&order, r.direction, -s)];
            weft_build_recv(b, lane, r.previous, weft_at(b, WEFT_OUTPUT, block_chunk(block, lanes, lane), 1),
                            s < n - 1 ? r.next : -1);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

/* How many steps along the lane's direction this rank lies behind the root. */
static int steps_behind(const weft_order *order, int direction, int root)
{
    int s = 0;
    while (order->rank[weft_order_along(order, direction, -s)] != root)
        s++;
    return s;
}

/* A chain from the root once round; tiles make it a pipeline. */
weft_status weft_plan_ring_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        ring r = ring_of_lane(&order, lane);
        weft_place input = weft_at(b, WEFT_INPUT, lane, 1), output = weft_at(b, WEFT_OUTPUT, lane, 1);
        int behind = steps_behind(&order, r.direction, request->root);
        if (behind == 0) {
            weft_build_send(b, lane, input, r.next);
            weft_build_copy(b, lane, input, output, 0);
        } else {
            weft_build_recv(b, lane, r.previous, output, behind < order.ranks - 1 ? r.next : -1);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

/* The chain of a broadcast walked backwards: it begins behind the root and ends there. */
weft_status weft_plan_ring_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, lanes, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        ring r = ring_of_lane(&order, lane);
        weft_place input = weft_at(b, WEFT_INPUT, lane, 1);
        int behind = steps_behind(&order, r.direction, request->root);
        if (behind == 1)
            weft_build_send(b, lane, input, r.next);
        else if (behind == 0)
            weft_build_recv_reduce(b, lane, r.previous, input, weft_at(b, WEFT_OUTPUT, lane, 1), -1,
                                   WEFT_STEP_FINAL);
        else
            weft_build_recv_reduce(b, lane, r.previous, input, weft_at(b, WEFT_SCRATCH, lane, 1), r.next, 0);
    }
    weft_order_free(&order);
    return WEFT_OK;
}

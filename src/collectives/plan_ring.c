/* Ring planners: every rank talks to its two neighbours only, bandwidth-optimal. Odd lanes run the other way
 * round, so that both directions of a link carry data. Ranks of one host are neighbours (weft_order). */
#include "collectives/plan.h"

/* One lane's view of the ring. Members are named by how many steps further along they are; 0 is this rank. */
typedef struct ring {
    const weft_order *order;
    int rank, root;
    uint32_t lane, lanes;
    int direction;
    int next, previous;
} ring;

/* This rank's steps of every lane, as `plan_lane` makes them. The builder has its shape. */
static weft_status plan_lanes(weft_builder *b, const weft_plan_request *request, int rank,
                              void (*plan_lane)(weft_builder *b, const ring *r))
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    ring r = { .order = &order, .rank = rank, .root = request->root, .lanes = weft_plan_lanes(request, 1) };
    for (; r.lane < r.lanes; r.lane++) {
        r.direction = r.lane % 2 ? -1 : 1;
        r.next = order.rank[weft_order_along(&order, r.direction, 1)];
        r.previous = order.rank[weft_order_along(&order, r.direction, -1)];
        plan_lane(b, &r);
    }
    weft_order_free(&order);
    return WEFT_OK;
}

/* The place in the order, and the rank, of who is `steps` further along. */
static int position_along(const ring *r, int steps)
{
    return weft_order_along(r->order, r->direction, steps);
}

static int rank_along(const ring *r, int steps)
{
    return r->order->rank[position_along(r, steps)];
}

static void all_reduce_lane(weft_builder *b, const ring *r)
{
    int n = r->order->ranks;
    uint32_t base = r->lane * (uint32_t)n;
    weft_build_send(b, r->lane, weft_at(b, WEFT_INPUT, base + (uint32_t)r->order->position, 1), r->next);
    for (int s = 1; s < n; s++) {
        uint32_t chunk = base + (uint32_t)position_along(r, -s);
        weft_build_recv_reduce(b, r->lane, r->previous, weft_at(b, WEFT_INPUT, chunk, 1), weft_at(b, WEFT_OUTPUT, chunk, 1),
                               r->next, s == n - 1 ? WEFT_STEP_FINAL : 0);
    }
    for (int s = 1; s < n; s++) {
        uint32_t chunk = base + (uint32_t)position_along(r, 1 - s);
        weft_build_recv(b, r->lane, r->previous, weft_at(b, WEFT_OUTPUT, chunk, 1), s < n - 1 ? r->next : -1);
    }
}

/* Reduce-scatter, then all-gather; the last reduction of a chunk already starts its way round. */
weft_status weft_plan_ring_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, (uint32_t)request->group.ranks * lanes, 0, lanes);
    return plan_lanes(b, request, rank, all_reduce_lane);
}

/* The lane's chunk of a block. */
static uint32_t block_chunk(const ring *r, int block)
{
    return (uint32_t)block * r->lanes + r->lane;
}

static void reduce_scatter_lane(weft_builder *b, const ring *r)
{
    int n = r->order->ranks;
    weft_build_send(b, r->lane, weft_at(b, WEFT_INPUT, block_chunk(r, rank_along(r, -1)), 1), r->next);
    for (int s = 1; s < n; s++) {
        bool last = s == n - 1;
        /* two scratch chunks by turns: one is still being forwarded while the other fills */
        weft_place dst = last ? weft_at(b, WEFT_OUTPUT, r->lane, 1)
                              : weft_at(b, WEFT_SCRATCH, 2 * r->lane + (uint32_t)(s & 1), 1);
        weft_build_recv_reduce(b, r->lane, r->previous, weft_at(b, WEFT_INPUT, block_chunk(r, rank_along(r, -1 - s)), 1), dst,
                               last ? -1 : r->next, last ? WEFT_STEP_FINAL : 0);
    }
}

weft_status weft_plan_ring_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 2 * lanes, lanes);
    return plan_lanes(b, request, rank, reduce_scatter_lane);
}

static void all_gather_lane(weft_builder *b, const ring *r)
{
    int n = r->order->ranks;
    weft_place own = weft_at(b, WEFT_INPUT, r->lane, 1);
    weft_build_send(b, r->lane, own, r->next);
    weft_build_copy(b, r->lane, own, weft_at(b, WEFT_OUTPUT, block_chunk(r, r->rank), 1), 0);
    for (int s = 1; s < n; s++)
        weft_build_recv(b, r->lane, r->previous, weft_at(b, WEFT_OUTPUT, block_chunk(r, rank_along(r, -s)), 1),
                        s < n - 1 ? r->next : -1);
}

weft_status weft_plan_ring_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    return plan_lanes(b, request, rank, all_gather_lane);
}

/* How many steps along the lane's direction this rank lies behind the root. */
static int steps_behind_root(const ring *r)
{
    int s = 0;
    while (rank_along(r, -s) != r->root)
        s++;
    return s;
}

static void broadcast_lane(weft_builder *b, const ring *r)
{
    weft_place input = weft_at(b, WEFT_INPUT, r->lane, 1), output = weft_at(b, WEFT_OUTPUT, r->lane, 1);
    int behind = steps_behind_root(r);
    if (behind == 0) {
        weft_build_send(b, r->lane, input, r->next);
        weft_build_copy(b, r->lane, input, output, 0);
    } else {
        weft_build_recv(b, r->lane, r->previous, output, behind < r->order->ranks - 1 ? r->next : -1);
    }
}

/* A chain from the root once round; tiles make it a pipeline. */
weft_status weft_plan_ring_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    return plan_lanes(b, request, rank, broadcast_lane);
}

static void reduce_lane(weft_builder *b, const ring *r)
{
    weft_place input = weft_at(b, WEFT_INPUT, r->lane, 1);
    int behind = steps_behind_root(r);
    if (behind == 1)
        weft_build_send(b, r->lane, input, r->next);
    else if (behind == 0)
        weft_build_recv_reduce(b, r->lane, r->previous, input, weft_at(b, WEFT_OUTPUT, r->lane, 1), -1, WEFT_STEP_FINAL);
    else
        weft_build_recv_reduce(b, r->lane, r->previous, input, weft_at(b, WEFT_SCRATCH, r->lane, 1), r->next, 0);
}

/* The chain of a broadcast walked backwards: it begins behind the root and ends there. */
weft_status weft_plan_ring_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, lanes, lanes);
    return plan_lanes(b, request, rank, reduce_lane);
}

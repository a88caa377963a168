/* Ring planners: every rank talks to its two neighbours only, bandwidth-optimal. Odd lanes run the other way round, so that
 * both directions of a link carry data. Ranks of one host are neighbours (weft_order). */
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
                                   weft_at(b, WEFT_OUTPUT, chunk, 1), r.next, s == n - 1 ? WEFT_STEP_FINAL : 0);
        }
        for (int s = 1; s < n; s++) {
            uint32_t chunk = base + (uint32_t)weft_order_along(&order, r.direction, 1 - s);
            weft_build_recv(b, lane, r.previous, weft_at(b, WEFT_OUTPUT, chunk, 1), s < n - 1 ? r.next : -1);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

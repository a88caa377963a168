/* What several planners need to know of the group: orders of ranks, numbers of lanes. No schedule steps here. */
#include "collectives/plan.h"

uint32_t weft_plan_lanes(const weft_plan_request *request, uint32_t fallback)
{
    uint32_t lanes = request->lanes > 0 ? (uint32_t)request->lanes : fallback;
    return lanes > WEFT_PLAN_MAX_LANES ? WEFT_PLAN_MAX_LANES : lanes;
}

int weft_floor_pow2(int n)
{
    int power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

weft_status weft_order_create(weft_order *order, const weft_group *group, int rank)
{
    int n = group->ranks;
    order->ranks = n;
    order->position = rank;
    order->rank = weft_alloc_array((size_t)n, sizeof(int));
    int *start = group->host ? weft_alloc_array((size_t)n + 1, sizeof(int)) : NULL;
    if (!order->rank || (group->host && !start)) {
        weft_free(start);
        weft_order_free(order);
        return weft_fail(WEFT_ERR_MEMORY, "planning: no memory for the order of %d ranks", n);
    }
    if (!group->host) {
        for (int r = 0; r < n; r++)
            order->rank[r] = r;
        return WEFT_OK;
    }
    for (int r = 0; r < n; r++) /* counting sort by host, ranks of a host stay ascending */
        start[group->host[r] + 1]++;
    for (int h = 1; h <= n; h++)
        start[h] += start[h - 1];
    for (int r = 0; r < n; r++) {
        int position = start[group->host[r]]++;
        order->rank[position] = r;
        if (r == rank)
            order->position = position;
    }
    weft_free(start);
    return WEFT_OK;
}

void weft_order_free(weft_order *order)
{
    weft_free(order->rank);
    order->rank = NULL;
}

int weft_order_along(const weft_order *order, int direction, int steps)
{
    int n = order->ranks;
    return ((order->position + direction * (steps % n)) % n + n) % n;
}

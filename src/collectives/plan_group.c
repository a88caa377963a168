/* What several planners need to know of the group: orders of ranks, numbers of lanes, and step sequences that
 * more than one family emits. */
#include "collectives/plan.h"

#include <string.h>

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

int weft_group_hosts(const weft_group *group)
{
    int hosts = 1;
    for (int r = 0; group->host && r < group->ranks; r++)
        hosts = group->host[r] >= hosts ? group->host[r] + 1 : hosts;
    return hosts;
}

/* Stable, by key: numbers from -1 to ranks - 1. `begin` has room for ranks + 2 numbers. */
static void sort_by(const int *key, int *rank, int *sorted, int *begin, int ranks)
{
    memset(begin, 0, ((size_t)ranks + 2) * sizeof *begin);
    for (int r = 0; r < ranks; r++)
        begin[key[r] + 2]++;
    for (int k = 1; k < ranks + 2; k++)
        begin[k] += begin[k - 1];
    for (int i = 0; i < ranks; i++)
        sorted[begin[key[rank[i]] + 1]++] = rank[i];
    memcpy(rank, sorted, (size_t)ranks * sizeof *rank);
}

/* Within hosts by NUMA node, within these by cache. */
static weft_status sort_ranks(weft_order *order, const weft_group *group)
{
    const int *const keys[] = { group->cache, group->numa, group->host };
    size_t n = (size_t)group->ranks;
    int *room = group->cache || group->numa || group->host ? weft_alloc_array(2 * n + 2, sizeof(int)) : NULL;
    for (int r = 0; r < group->ranks; r++)
        order->rank[r] = r;
    for (size_t k = 0; k < ARRAY_LEN(keys) && room; k++)
        if (keys[k])
            sort_by(keys[k], order->rank, room, room + n, group->ranks);
    if (!room && (group->cache || group->numa || group->host))
        return weft_fail(WEFT_ERR_MEMORY, "planning: no memory for the order of %d ranks", group->ranks);
    weft_free(room);
    return WEFT_OK;
}

weft_status weft_order_create(weft_order *order, const weft_group *group, int rank)
{
    int n = group->ranks;
    *order = (weft_order){ .ranks = n, .hosts = weft_group_hosts(group), .position = rank };
    order->rank = weft_alloc_array((size_t)n, sizeof(int));
    order->start = weft_alloc_array((size_t)order->hosts + 1, sizeof(int));
    weft_status status = order->rank && order->start
                             ? sort_ranks(order, group)
                             : weft_fail(WEFT_ERR_MEMORY, "planning: no memory for the order of %d ranks", n);
    if (status != WEFT_OK) {
        weft_order_free(order);
        return status;
    }
    for (int i = n - 1; i >= 0; i--) {
        order->start[group->host ? group->host[order->rank[i]] : 0] = i;
        if (order->rank[i] == rank)
            order->position = i;
    }
    order->start[order->hosts] = n;
    return WEFT_OK;
}

void weft_order_free(weft_order *order)
{
    weft_free(order->rank);
    weft_free(order->start);
    *order = (weft_order){ 0 };
}

int weft_order_along(const weft_order *order, int direction, int steps)
{
    int n = order->ranks;
    return ((order->position + direction * (steps % n)) % n + n) % n;
}

void weft_build_publish_others(weft_builder *b, uint32_t count, int own)
{
    uint32_t skipped = (uint32_t)own;
    if (skipped > 0)
        weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, skipped), 0);
    if (skipped + 1 < count)
        weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, skipped + 1, count - skipped - 1), 0);
}

void weft_build_all_signal(weft_builder *b, int n, int rank, uint32_t value, unsigned flags)
{
    weft_build_signal(b, 0, flags);
    for (int i = 1; i < n; i++)
        weft_build_wait(b, 0, (rank + i) % n, value, flags);
}

weft_status weft_build_reduce_ranks(weft_builder *b, const int *ranks, int count, weft_place input,
                                    weft_place dst, unsigned flags)
{
    weft_place *sources = weft_alloc_array((size_t)count, sizeof *sources);
    if (!sources)
        return weft_fail(WEFT_ERR_MEMORY, "planning: no memory for %d sources", count);
    for (int i = 0; i < count; i++) {
        sources[i] = input;
        sources[i].rank = ranks ? ranks[i] : i;
    }
    weft_build_reduce(b, 0, sources, count, dst, flags);
    weft_free(sources);
    return WEFT_OK;
}

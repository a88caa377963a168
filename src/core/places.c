/* Where a communicator's ranks are within their hosts, in the numbers that planners want. What the places are, each rank has told
 * when the process group was made. */
#include <stdlib.h>

#include "core/comm.h"

/* A rank and where it is, to sort by. */
typedef struct weft_spot {
    int rank, host;
    weft_location at;
} weft_spot;

static int by_number(int a, int b)
{
    return (a > b) - (a < b);
}

static int by_spot(const void *left, const void *right)
{
    const weft_spot *a = left, *b = right;
    int order = by_number(a->host, b->host);
    order = order ? order : by_number(a->at.package, b->at.package);
    order = order ? order : by_number(a->at.numa, b->at.numa);
    return order ? order : by_number(a->at.cache, b->at.cache);
}

/* Two that are neighbours in order. What is not known may be anywhere. */
static weft_nearness nearness_of(const weft_location *a, const weft_location *b)
{
    if (a->numa >= 0 && a->numa == b->numa)
        return a->cache >= 0 && a->cache == b->cache ? WEFT_NEAR_CACHE : WEFT_NEAR_NUMA;
    if (a->cache >= 0 && a->cache == b->cache)
        return WEFT_NEAR_CACHE;
    return a->package >= 0 && a->package == b->package ? WEFT_NEAR_PACKAGE : WEFT_NEAR_HOST;
}

/* NUMA nodes and caches numbered within each host, neighbours on the machine one after the other. */
weft_status weft_comm_find_places(weft_comm *c)
{
    weft_spot *spot = weft_alloc_array((size_t)c->ranks, sizeof *spot);
    if (!spot)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the places of %d ranks", c->ranks);
    for (int r = 0; r < c->ranks; r++)
        spot[r] = (weft_spot){.rank = r, .host = c->host[r], .at = c->engine->location[c->world[r]]};
    qsort(spot, (size_t)c->ranks, sizeof *spot, by_spot);
    for (int i = 0, numa = 0, cache = 0; i < c->ranks; i++) {
        const weft_spot *s = &spot[i], *before = i ? &spot[i - 1] : NULL;
        bool same_host = before && s->host == before->host;
        bool same_numa = same_host && s->at.package == before->at.package && s->at.numa == before->at.numa;
        weft_nearness near = same_host ? nearness_of(&before->at, &s->at) : WEFT_NEAR_CACHE;
        c->farthest = near > c->farthest ? near : c->farthest;
        numa = same_host ? numa + !same_numa : 0;
        cache = same_host ? cache + (!same_numa || s->at.cache != before->at.cache) : 0;
        c->numa[s->rank] = s->at.numa < 0 ? -1 : numa;
        c->cache[s->rank] = s->at.cache < 0 ? -1 : cache;
    }
    weft_free(spot);
    return WEFT_OK;
}

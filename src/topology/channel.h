/* The channel search: what channel.c (levels, bandwidths, results) and channel_lay.c (rings and trees of one bandwidth) share. */
#ifndef WEFT_TOPOLOGY_CHANNEL_H
#define WEFT_TOPOLOGY_CHANNEL_H

#include "topology/graph.h"

enum { WEFT_CHANNEL_ENDS_MAX = 512, WEFT_CHANNELS_MAX = 256 };

/* A way between two places in directed links: first .. first + count - 1 of weft_search.link. */
typedef struct weft_way {
    int first, count;
    weft_path_class path_class;
} weft_way;

/* Places are the ends (0 .. ends - 1) and the NICs after them. A directed link is edge * 2 + (1 if walked from b to a); after
 * those of all edges come two for each NIC: in from the network, out to it. */
typedef struct weft_search {
    const weft_topology *t;
    weft_channel_shape shape;
    int ends, nics, channels_max;
    int *place;           /* node of each place */
    weft_way *way;        /* [from * places + to] */
    int *link;            /* of all ways */
    int links, link_room, directed;
    double *capacity;     /* of each directed link */
    weft_path_class limit, network_limit; /* ways beyond are not used */

    /* The laying: what one attempt has used up, and its channels. */
    double *left, bandwidth;
    uint64_t random;
    int noise;            /* 0: the best hop first; else equally near ones in random order */
    long steps;           /* hops that may still be tried for this channel */
    long work; /* hops that may still be weighed at this level: bounds the time of the whole, the same on every machine */
    int closer;           /* the end that a ring to a NIC leaves from: visited last; -1: any */
    bool *taken;
    int *rank_order;      /* scratch: candidates of each depth */
    double *score;

    int *order, *parent, *nic; /* as in weft_channels */
    int count;
} weft_search;

/* Lays as many channels of s->bandwidth as fit, from seed (0: without noise); s->count is how many. */
void weft_channels_lay(weft_search *s, uint64_t seed);
static inline const weft_way *weft_way_of(const weft_search *s, int from, int to)
{
    return &s->way[from * (s->ends + s->nics) + to];
}
#endif

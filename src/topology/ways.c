/* What ways between threads of one host are like by how near the threads are, from the map: what a job predicts with before
 * anything was measured. */
#include <math.h>

#include "topology/graph.h"
#include "topology/measured.h"

static weft_node_kind kind_of(const weft_topology *t, int node)
{
    return t->node[node].shown.kind;
}

/* The slowest of all links of this kind of ends. */
static void take(weft_measured *way, double latency_ns, double bandwidth_Bps)
{
    way->latency_ns = fmax(way->latency_ns, latency_ns);
    way->bandwidth_Bps = way->bandwidth_Bps > 0 ? fmin(way->bandwidth_Bps, bandwidth_Bps) : bandwidth_Bps;
}

void weft_topology_ways(const weft_topology *t, weft_measured way[WEFT_NEARNESS_COUNT])
{
    for (int k = 0; k < WEFT_NEARNESS_COUNT; k++)
        way[k] = (weft_measured){ 0 };
    for (int i = 0; i < t->edges; i++) {
        const weft_topology_edge *e = &t->edge[i];
        weft_node_kind a = kind_of(t, e->a), b = kind_of(t, e->b);
        if (e->kind != WEFT_EDGE_MEMORY && e->kind != WEFT_EDGE_SMP)
            continue;
        if (a == WEFT_NODE_NUMA && b == WEFT_NODE_NUMA)
            take(&way[e->kind == WEFT_EDGE_SMP ? WEFT_NEAR_HOST : WEFT_NEAR_PACKAGE], e->latency_ns, e->bandwidth_Bps);
        else if (a == WEFT_NODE_L3 && b == WEFT_NODE_NUMA)
            take(&way[WEFT_NEAR_NUMA], 2 * e->latency_ns, e->bandwidth_Bps); /* to memory and back */
    }
    for (int k = WEFT_NEAR_NUMA; k < WEFT_NEARNESS_COUNT; k++) { /* what is farther away goes through what is nearer */
        double step_ns = way[k].latency_ns + (k > WEFT_NEAR_NUMA ? way[WEFT_NEAR_NUMA].latency_ns : 0);
        way[k].latency_ns = fmax(step_ns, way[k - 1].latency_ns);
        if (way[k - 1].bandwidth_Bps > 0 && !(way[k].bandwidth_Bps > 0 && way[k].bandwidth_Bps < way[k - 1].bandwidth_Bps))
            way[k].bandwidth_Bps = way[k - 1].bandwidth_Bps;
    }
}

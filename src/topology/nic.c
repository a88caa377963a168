/* Which NICs collectives may use, what they carry, their rails, and which one an end takes: nearest, then balanced. */
#include <math.h>

#include "topology/graph.h"
#include "topology/route.h"

int weft_nic_wire(const weft_topology *t, int nic, int i)
{
    for (int d = 0; d < weft_topology_degree(t, nic); d++) {
        int edge = weft_topology_edge_of(t, nic, d);
        const weft_topology_edge *e = &t->edge[edge];
        if (e->kind == WEFT_EDGE_WIRE && i-- == 0)
            return edge;
        int port = e->a == nic ? e->b : e->a;
        if (e->kind != WEFT_EDGE_INSIDE || t->node[port].shown.kind != WEFT_NODE_PORT)
            continue;
        for (int p = 0; p < weft_topology_degree(t, port); p++) {
            int wire = weft_topology_edge_of(t, port, p);
            if (t->edge[wire].kind == WEFT_EDGE_WIRE && i-- == 0)
                return wire;
        }
    }
    return -1;
}

double weft_topology_nic_bandwidth(const weft_topology *t, int nic)
{
    double sum = 0;
    if (nic < 0 || nic >= t->nodes || t->node[nic].shown.kind != WEFT_NODE_NIC)
        return 0;
    for (int i = 0, wire; (wire = weft_nic_wire(t, nic, i)) >= 0; i++)
        sum += t->edge[wire].bandwidth_Bps;
    return sum;
}

bool weft_nic_usable(const weft_topology *t, int nic)
{
    if (nic < 0 || nic >= t->nodes || t->node[nic].shown.kind != WEFT_NODE_NIC || weft_topology_attribute(t, nic, "software"))
        return false;
    int parent = t->node[nic].shown.parent;
    return t->node[parent].shown.kind != WEFT_NODE_NIC && weft_nic_wire(t, nic, 0) >= 0;
}

int weft_topology_rail(const weft_topology *t, int nic)
{
    int rail = 0;
    if (!weft_nic_usable(t, nic))
        return -1;
    int host = weft_topology_enclosing(t, nic, WEFT_NODE_HOST);
    for (int i = 0; i < t->nodes; i++)
        rail += weft_nic_usable(t, i) && t->node[i].shown.index < t->node[nic].shown.index &&
                weft_topology_enclosing(t, i, WEFT_NODE_HOST) == host;
    return rail;
}

typedef struct candidate {
    int nic;
    double load, bandwidth;
} candidate;

/* Nearer, or as near and better joined; 0: equally good. */
static int compare_paths(const weft_topology_path *a, const weft_topology_path *b)
{
    if (a->path_class != b->path_class)
        return a->path_class < b->path_class ? -1 : 1;
    if (a->hops != b->hops)
        return a->hops < b->hops ? -1 : 1;
    if (fabs(a->bandwidth_Bps - b->bandwidth_Bps) > 0.01 * a->bandwidth_Bps)
        return a->bandwidth_Bps > b->bandwidth_Bps ? -1 : 1;
    return 0;
}

static weft_status choose(const weft_topology *t, int end, candidate *list, int count, int *chosen)
{
    weft_topology_path best = {.path_class = WEFT_PATH_NONE}, path;
    int host = weft_topology_enclosing(t, end, WEFT_NODE_HOST), pick = -1;
    for (int i = 0; i < count; i++) {
        if (weft_topology_enclosing(t, list[i].nic, WEFT_NODE_HOST) != host)
            continue;
        weft_status status = weft_route_plain(t, end, list[i].nic, &path);
        if (status != WEFT_OK)
            return status;
        if (path.path_class == WEFT_PATH_NONE)
            continue;
        int order = pick < 0 ? -1 : compare_paths(&path, &best);
        /* What one more end would leave for each. */
        if (order > 0 || (order == 0 && (list[i].load + 1) / list[i].bandwidth >= (list[pick].load + 1) / list[pick].bandwidth))
            continue;
        best = path;
        pick = i;
    }
    if (pick >= 0)
        list[pick].load++;
    *chosen = pick < 0 ? -1 : list[pick].nic;
    return WEFT_OK;
}

weft_status weft_topology_choose_nics(const weft_topology *t, const int *end, int count, int *nic)
{
    weft_clear_error();
    candidate *list = weft_alloc_array((size_t)t->nodes + 1, sizeof *list);
    int candidates = 0;
    weft_status status = list ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory to choose NICs");
    for (int i = 0; i < t->nodes && status == WEFT_OK; i++)
        if (weft_nic_usable(t, i))
            list[candidates++] = (candidate){i, 0, weft_topology_nic_bandwidth(t, i)};
    for (int i = 0; i < count && status == WEFT_OK; i++) {
        if (end[i] < 0 || end[i] >= t->nodes)
            status = weft_fail(WEFT_ERR_INVALID, "end %d is node %d: nodes are 0 to %d", i, end[i], t->nodes - 1);
        else
            status = choose(t, end[i], list, candidates, &nic[i]);
    }
    weft_free(list);
    return status;
}

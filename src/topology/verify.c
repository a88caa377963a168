/* The invariants of the graph: what every importer, the live reader and the round trip must produce. */
#include <math.h>
#include <string.h>

#include "topology/graph.h"

#define BIT(kind) (1u << (kind))

/* Which kinds may hold a node of a kind; 0: none, it stands alone. */
static unsigned holders(weft_node_kind kind)
{
    const unsigned host = BIT(WEFT_NODE_HOST), package = BIT(WEFT_NODE_PACKAGE), numa = BIT(WEFT_NODE_NUMA),
                   l3 = BIT(WEFT_NODE_L3);
    const unsigned slot = host | package | numa | l3 | BIT(WEFT_NODE_PCI_ROOT) | BIT(WEFT_NODE_PCI_BRIDGE);
    switch (kind) {
    case WEFT_NODE_HOST:
    case WEFT_NODE_NETWORK:
    case WEFT_NODE_KIND_COUNT:
        return 0;
    case WEFT_NODE_PACKAGE:
        return host | numa;
    case WEFT_NODE_NUMA:
        return host | package | l3;
    case WEFT_NODE_L3:
        return host | package | numa | l3;
    case WEFT_NODE_CORES:
    case WEFT_NODE_PCI_ROOT:
        return host | package | numa | l3;
    case WEFT_NODE_PORT:
        return BIT(WEFT_NODE_NIC);
    case WEFT_NODE_NIC:
        return slot | BIT(WEFT_NODE_NIC); /* a virtual function in its physical one */
    case WEFT_NODE_PCI_BRIDGE:
    case WEFT_NODE_PCI_DEVICE:
    case WEFT_NODE_GPU:
        return slot;
    case WEFT_NODE_NVSWITCH:
        return host;
    }
    return 0;
}

static bool check_node(const weft_topology *t, int i, char *fault, size_t bytes)
{
    const weft_topology_node *n = &t->node[i].shown;
    if ((unsigned)n->kind >= WEFT_NODE_KIND_COUNT)
        snprintf(fault, bytes, "node %d has no kind (%d)", i, (int)n->kind);
    else if (n->parent < -1 || n->parent >= i)
        snprintf(fault, bytes, "node %d (%s) has parent %d: parents come first", i, weft_node_kind_name(n->kind), n->parent);
    else if (n->parent < 0 ? holders(n->kind) != 0 : (holders(n->kind) & BIT(t->node[n->parent].shown.kind)) == 0)
        snprintf(fault, bytes, "node %d: a %s may not be in a %s", i, weft_node_kind_name(n->kind),
                 n->parent < 0 ? "nothing" : weft_node_kind_name(t->node[n->parent].shown.kind));
    else if (n->count < 0 || !memchr(n->name, 0, sizeof n->name) || !memchr(n->bus_id, 0, sizeof n->bus_id))
        snprintf(fault, bytes, "node %d (%s) has count %d or an endless name", i, weft_node_kind_name(n->kind), n->count);
    return fault[0] == 0;
}

static bool check_edge(const weft_topology *t, int i, char *fault, size_t bytes)
{
    const weft_topology_edge *e = &t->edge[i];
    if (e->a < 0 || e->a >= t->nodes || e->b < 0 || e->b >= t->nodes || e->a == e->b)
        snprintf(fault, bytes, "edge %d joins nodes %d and %d", i, e->a, e->b);
    else if ((unsigned)e->kind >= WEFT_EDGE_KIND_COUNT || (unsigned)e->source >= WEFT_FIGURE_COUNT || e->links < 0)
        snprintf(fault, bytes, "edge %d has kind %d, source %d, links %d", i, (int)e->kind, (int)e->source, e->links);
    else if (!isfinite(e->bandwidth_Bps) || e->bandwidth_Bps <= 0 || !isfinite(e->latency_ns) || e->latency_ns < 0)
        snprintf(fault, bytes, "edge %d has bandwidth %g and latency %g", i, e->bandwidth_Bps, e->latency_ns);
    return fault[0] == 0;
}

static bool check_numbers(const weft_topology *t, char *fault, size_t bytes)
{
    int count[WEFT_NODE_KIND_COUNT] = {0};
    bool *seen = weft_alloc_array((size_t)t->nodes * 1 + 1, sizeof *seen);
    if (!seen)
        return true; /* no memory to look: not a fault of the graph */
    for (int i = 0; i < t->nodes; i++)
        count[t->node[i].shown.kind]++;
    for (int kind = 0; kind < WEFT_NODE_KIND_COUNT && !fault[0]; kind++) {
        memset(seen, 0, (size_t)t->nodes);
        for (int i = 0; i < t->nodes && !fault[0]; i++) {
            const weft_topology_node *n = &t->node[i].shown;
            if (n->kind != (weft_node_kind)kind)
                continue;
            if (n->index < 0 || n->index >= count[kind] || seen[n->index])
                snprintf(fault, bytes, "node %d (%s) is number %d of %d, or twice", i, weft_node_kind_name(n->kind), n->index,
                         count[kind]);
            else
                seen[n->index] = true;
        }
    }
    weft_free(seen);
    return fault[0] == 0;
}

static int root_of(int *set, int i)
{
    while (set[i] != i)
        i = set[i] = set[set[i]];
    return i;
}

/* Everything that sends or computes can be reached from its host's first NUMA node without leaving the host. */
static bool check_reach(const weft_topology *t, char *fault, size_t bytes)
{
    int *set = weft_alloc_array((size_t)t->nodes + 1, sizeof *set), *home = weft_alloc_array((size_t)t->nodes + 1, sizeof *home);
    for (int i = 0; set && home && i < t->nodes; i++) {
        set[i] = i;
        home[i] = -1;
    }
    for (int i = 0; set && home && i < t->edges; i++)
        if (t->edge[i].kind != WEFT_EDGE_WIRE)
            set[root_of(set, t->edge[i].a)] = root_of(set, t->edge[i].b);
    for (int i = 0; set && home && i < t->nodes && !fault[0]; i++) {
        weft_node_kind kind = t->node[i].shown.kind;
        if (kind != WEFT_NODE_NUMA)
            continue;
        int host = weft_topology_enclosing(t, i, WEFT_NODE_HOST);
        if (home[host] < 0)
            home[host] = root_of(set, i);
    }
    for (int i = 0; set && home && i < t->nodes && !fault[0]; i++) {
        weft_node_kind kind = t->node[i].shown.kind;
        if (kind == WEFT_NODE_HOST || kind == WEFT_NODE_PACKAGE || kind == WEFT_NODE_NETWORK || kind == WEFT_NODE_NVSWITCH)
            continue;
        if (root_of(set, i) != home[weft_topology_enclosing(t, i, WEFT_NODE_HOST)])
            snprintf(fault, bytes, "node %d (%s %s) cannot be reached from its host", i, weft_node_kind_name(kind),
                     t->node[i].shown.name);
    }
    weft_free(set);
    weft_free(home);
    return fault[0] == 0;
}

bool weft_topology_sound(const weft_topology *t, char *fault, size_t bytes)
{
    fault[0] = 0;
    if (t->nodes == 0)
        snprintf(fault, bytes, "there is no node");
    for (int i = 0; i < t->nodes && !fault[0]; i++)
        check_node(t, i, fault, bytes);
    for (int i = 0; i < t->edges && !fault[0]; i++)
        check_edge(t, i, fault, bytes);
    return fault[0] == 0 && check_numbers(t, fault, bytes) && check_reach(t, fault, bytes);
}

/* Paths: the shortest way over PCI, buses and memory, and before that what GPUs have among themselves. Classes as
 * NCCL names them. */
#include <math.h>
#include <string.h>

#include "topology/graph.h"
#include "topology/route.h"

typedef struct queued {
    double latency;
    int node;
} queued;

typedef struct walk {
    const weft_topology *t;
    double *latency;
    int *via; /* edge by which a node was reached, -1: not yet */
    queued *heap;
    int queued, room;
    int home; /* NUMA node of the target: no other one is passed through on the way from it, -1: any may be */
} walk;

static weft_node_kind kind_of(const weft_topology *t, int node)
{
    return t->node[node].shown.kind;
}

static int other_end(const weft_topology *t, int edge, int node)
{
    return t->edge[edge].a == node ? t->edge[edge].b : t->edge[edge].a;
}

/* ---- the shortest way -------------------------------------------------------------------------- */

static bool push(walk *w, double latency, int node)
{
    if (w->queued == w->room) {
        int more = w->room ? w->room * 2 : 256;
        queued *larger = weft_realloc(w->heap, (size_t)more * sizeof *larger);
        if (!larger)
            return false;
        w->heap = larger;
        w->room = more;
    }
    int at = w->queued++;
    for (; at > 0 && w->heap[(at - 1) / 2].latency > latency; at = (at - 1) / 2)
        w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = (queued){latency, node};
    return true;
}

static queued pop(walk *w)
{
    queued top = w->heap[0], last = w->heap[--w->queued];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= w->queued)
            break;
        child += child + 1 < w->queued && w->heap[child + 1].latency < w->heap[child].latency;
        if (w->heap[child].latency >= last.latency)
            break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

/* Bytes pass through these; GPUs and devices are ends. */
static bool is_transit(weft_node_kind kind, bool wire)
{
    switch (kind) {
    case WEFT_NODE_PCI_BRIDGE:
    case WEFT_NODE_PCI_ROOT:
    case WEFT_NODE_NUMA:
    case WEFT_NODE_L3:
    case WEFT_NODE_NIC: /* to its ports and functions */
        return true;
    case WEFT_NODE_PORT:
    case WEFT_NODE_NETWORK:
        return wire;
    default:
        return false;
    }
}

static bool is_usable(weft_edge_kind kind, bool wire)
{
    return kind != WEFT_EDGE_NVLINK && kind != WEFT_EDGE_XGMI && kind != WEFT_EDGE_C2C && (wire || kind != WEFT_EDGE_WIRE);
}

/* NUMA nodes are joined each with each: whoever has come over the interconnect to one that is not the target's goes no further.
 * This keeps machines of many NUMA nodes quick. */
static bool is_detour(const walk *w, int node)
{
    int via = w->via[node];
    return w->home >= 0 && node != w->home && via >= 0 && kind_of(w->t, node) == WEFT_NODE_NUMA &&
           kind_of(w->t, other_end(w->t, via, node)) == WEFT_NODE_NUMA;
}

static bool walk_from(walk *w, int from, int to, bool wire)
{
    const weft_topology *t = w->t;
    w->queued = 0;
    for (int i = 0; i < t->nodes; i++) {
        w->latency[i] = INFINITY;
        w->via[i] = -1;
    }
    w->latency[from] = 0;
    if (!push(w, 0, from))
        return false;
    while (w->queued > 0) {
        queued now = pop(w);
        if (now.node == to)
            return true;
        if (now.latency > w->latency[now.node] || (now.node != from && !is_transit(kind_of(t, now.node), wire)) ||
            is_detour(w, now.node))
            continue;
        for (int i = t->node[now.node].edge_begin; i < t->node[now.node + 1].edge_begin; i++) {
            const weft_topology_edge *e = &t->edge[t->edge_order[i]];
            int next = e->a == now.node ? e->b : e->a;
            /* A hop costs something even where the table says it takes no time. */
            double latency = now.latency + e->latency_ns + 1;
            if (!is_usable(e->kind, wire) || latency >= w->latency[next])
                continue;
            w->latency[next] = latency;
            w->via[next] = t->edge_order[i];
            if (!push(w, latency, next))
                return false;
        }
    }
    return true;
}

static void path_clear(weft_topology_path *path)
{
    memset(path, 0, sizeof *path);
    path->path_class = WEFT_PATH_NONE;
    path->bottleneck = -1;
}

/* Adds an edge at the end. False: the path is longer than any machine's. */
static bool path_add(const weft_topology *t, weft_topology_path *path, int edge)
{
    if (path->hops >= WEFT_PATH_HOPS_MAX)
        return false;
    const weft_topology_edge *e = &t->edge[edge];
    path->edge[path->hops++] = edge;
    path->latency_ns += e->latency_ns;
    if (path->bottleneck < 0 || e->bandwidth_Bps < path->bandwidth_Bps) {
        path->bottleneck = edge;
        path->bandwidth_Bps = e->bandwidth_Bps;
    }
    return true;
}

static void path_reverse(weft_topology_path *path)
{
    for (int i = 0; i < path->hops / 2; i++) {
        int kept = path->edge[i];
        path->edge[i] = path->edge[path->hops - 1 - i];
        path->edge[path->hops - 1 - i] = kept;
    }
}

static bool is_memory_only(const weft_topology *t, const weft_topology_path *path)
{
    for (int i = 0; i < path->hops; i++) {
        weft_edge_kind kind = t->edge[path->edge[i]].kind;
        if (kind != WEFT_EDGE_INSIDE && kind != WEFT_EDGE_MEMORY)
            return false;
    }
    return true;
}

static weft_path_class classify(const weft_topology *t, int a, const weft_topology_path *path)
{
    int at = a, switches = 0;
    bool bridge = false;
    for (int i = 0; i < path->hops; i++) {
        const weft_topology_edge *e = &t->edge[path->edge[i]];
        if (e->kind == WEFT_EDGE_WIRE)
            return WEFT_PATH_NET;
        if (kind_of(t, e->a) == WEFT_NODE_NUMA && kind_of(t, e->b) == WEFT_NODE_NUMA)
            return WEFT_PATH_SYS;
        at = other_end(t, path->edge[i], at);
        bridge |= kind_of(t, at) == WEFT_NODE_NUMA || kind_of(t, at) == WEFT_NODE_PCI_ROOT || kind_of(t, a) == WEFT_NODE_NUMA ||
                  kind_of(t, a) == WEFT_NODE_PCI_ROOT;
        if (i + 1 < path->hops && kind_of(t, at) == WEFT_NODE_PCI_BRIDGE && !weft_topology_attribute(t, at, "port"))
            switches++;
    }
    if (is_memory_only(t, path))
        return WEFT_PATH_LOC;
    return bridge ? WEFT_PATH_PHB : switches > 1 ? WEFT_PATH_PXB : WEFT_PATH_PIX;
}

weft_status weft_route_plain(const weft_topology *t, int a, int b, weft_topology_path *path)
{
    path_clear(path);
    bool wire = kind_of(t, a) == WEFT_NODE_NETWORK || kind_of(t, b) == WEFT_NODE_NETWORK ||
                weft_topology_enclosing(t, a, WEFT_NODE_HOST) != weft_topology_enclosing(t, b, WEFT_NODE_HOST);
    walk w = {.t = t, .latency = weft_alloc_array((size_t)t->nodes, sizeof(double)),
              .via = weft_alloc_array((size_t)t->nodes, sizeof(int))};
    weft_status status = WEFT_OK;
    w.home = wire ? -1 : weft_topology_enclosing(t, a, WEFT_NODE_NUMA);
    bool walked = w.latency && w.via && walk_from(&w, b, a, wire);
    if (walked && w.home >= 0 && !isfinite(w.latency[a])) { /* a graph that is not built as usual */
        w.home = -1;
        walked = walk_from(&w, b, a, wire);
    }
    if (!walked)
        status = weft_fail(WEFT_ERR_MEMORY, "no memory for a path over %d nodes", t->nodes);
    bool whole = status == WEFT_OK && isfinite(w.latency[a]);
    /* Walked from b, so that following the edges back from a gives them in order. */
    for (int at = a; whole && at != b; at = other_end(t, w.via[at], at))
        whole = path_add(t, path, w.via[at]);
    if (status == WEFT_OK && !whole)
        path_clear(path);
    else if (status == WEFT_OK)
        path->path_class = classify(t, a, path);
    weft_free(w.latency);
    weft_free(w.via);
    weft_free(w.heap);
    return status;
}

/* ---- what GPUs have among themselves ----------------------------------------------------------- */

static bool is_gpu_link(const weft_topology_edge *e)
{
    return e->kind == WEFT_EDGE_NVLINK || e->kind == WEFT_EDGE_XGMI;
}

/* The widest direct link of these kinds between two nodes, -1: none. */
static int direct_link(const weft_topology *t, int a, int b, bool c2c)
{
    int best = -1;
    for (int i = t->node[a].edge_begin; i < t->node[a + 1].edge_begin; i++) {
        int edge = t->edge_order[i];
        const weft_topology_edge *e = &t->edge[edge];
        if (other_end(t, edge, a) == b && (is_gpu_link(e) || (c2c && e->kind == WEFT_EDGE_C2C)) &&
            (best < 0 || e->bandwidth_Bps > t->edge[best].bandwidth_Bps))
            best = edge;
    }
    return best;
}

/* Over one node in between: an NVSwitch fabric (through == NVSWITCH) or another GPU. */
static void two_links(const weft_topology *t, int a, int b, weft_node_kind through, weft_topology_path *path)
{
    path_clear(path);
    for (int i = t->node[a].edge_begin; i < t->node[a + 1].edge_begin; i++) {
        int first = t->edge_order[i], middle = other_end(t, first, a);
        if (!is_gpu_link(&t->edge[first]) || kind_of(t, middle) != through || middle == b)
            continue;
        int second = direct_link(t, middle, b, false);
        if (second < 0)
            continue;
        double narrow = fmin(t->edge[first].bandwidth_Bps, t->edge[second].bandwidth_Bps);
        if (path->hops && narrow <= path->bandwidth_Bps)
            continue;
        path_clear(path);
        path_add(t, path, first);
        path_add(t, path, second);
        path->path_class = through == WEFT_NODE_GPU ? WEFT_PATH_NVB : WEFT_PATH_NVL;
    }
}

static void nvlink_path(const weft_topology *t, int a, int b, weft_topology_path *path)
{
    two_links(t, a, b, WEFT_NODE_NVSWITCH, path);
    int direct = direct_link(t, a, b, false);
    if (direct >= 0 && t->edge[direct].bandwidth_Bps >= path->bandwidth_Bps) {
        path_clear(path);
        path_add(t, path, direct);
        path->path_class = WEFT_PATH_NVL;
    }
}

/* GPU to GPU: NVLink, else PCI unless a GPU in between has the wider way. */
static void gpu_to_gpu(const weft_topology *t, int a, int b, weft_topology_path *path)
{
    weft_topology_path linked, relayed;
    nvlink_path(t, a, b, &linked);
    two_links(t, a, b, WEFT_NODE_GPU, &relayed);
    if (linked.hops)
        *path = linked;
    else if (relayed.hops && relayed.bandwidth_Bps > path->bandwidth_Bps)
        *path = relayed;
}

/* Joins two paths; false: too long. */
static bool path_append(const weft_topology *t, weft_topology_path *path, const weft_topology_path *more)
{
    bool whole = true;
    for (int i = 0; i < more->hops && whole; i++)
        whole = path_add(t, path, more->edge[i]);
    return whole;
}

/* GPU to the processor or a NIC by the chip-to-chip link, where that is wider and PCI is not nearer. */
static weft_status over_c2c(const weft_topology *t, int gpu, int to, weft_topology_path *path)
{
    for (int i = t->node[gpu].edge_begin; i < t->node[gpu + 1].edge_begin; i++) {
        int edge = t->edge_order[i], numa = other_end(t, edge, gpu);
        if (kind_of(t, numa) != WEFT_NODE_NUMA || (t->edge[edge].kind != WEFT_EDGE_C2C && !is_gpu_link(&t->edge[edge])))
            continue;
        weft_topology_path candidate, rest;
        path_clear(&candidate);
        path_add(t, &candidate, edge);
        weft_status status = weft_route_plain(t, numa, to, &rest);
        if (status != WEFT_OK)
            return status;
        if ((numa != to && rest.hops == 0) || !path_append(t, &candidate, &rest) || candidate.bandwidth_Bps < path->bandwidth_Bps)
            continue;
        bool far = numa != to && rest.path_class >= WEFT_PATH_SYS;
        candidate.path_class = far                                                                   ? rest.path_class
                               : kind_of(t, to) == WEFT_NODE_NIC || kind_of(t, to) == WEFT_NODE_PORT ? WEFT_PATH_P2C
                                                                                                     : WEFT_PATH_C2C;
        if (candidate.path_class <= path->path_class)
            *path = candidate;
    }
    return WEFT_OK;
}

/* The widest link of a GPU to its processor, -1: only PCI. */
static int cpu_link(const weft_topology *t, int gpu)
{
    int best = -1;
    for (int i = t->node[gpu].edge_begin; i < t->node[gpu + 1].edge_begin; i++) {
        int edge = t->edge_order[i];
        const weft_topology_edge *e = &t->edge[edge];
        if (kind_of(t, other_end(t, edge, gpu)) == WEFT_NODE_NUMA && (e->kind == WEFT_EDGE_C2C || is_gpu_link(e)) &&
            (best < 0 || e->bandwidth_Bps > t->edge[best].bandwidth_Bps))
            best = edge;
    }
    return best;
}

/* GPUs that no NVLink joins, by their links to processors where those are wider than PCI (POWER, Grace). */
static weft_status over_processors(const weft_topology *t, int a, int b, weft_topology_path *path)
{
    int first = cpu_link(t, a), last = cpu_link(t, b);
    weft_topology_path candidate, middle;
    if (path->path_class <= WEFT_PATH_PXB || first < 0 || last < 0)
        return WEFT_OK;
    int from = other_end(t, first, a), to = other_end(t, last, b);
    path_clear(&candidate);
    path_add(t, &candidate, first);
    path_clear(&middle);
    weft_status status = from == to ? WEFT_OK : weft_route_plain(t, from, to, &middle);
    bool whole = status == WEFT_OK && (from == to || middle.hops > 0) && path_append(t, &candidate, &middle) &&
                 path_add(t, &candidate, last);
    if (whole && candidate.bandwidth_Bps > path->bandwidth_Bps) {
        candidate.path_class = from == to ? WEFT_PATH_PHB : middle.path_class;
        *path = candidate;
    }
    return status;
}

/* GPU to NIC by a GPU that is near the NIC, where the own way leads through the host bridge. */
static weft_status over_neighbour(const weft_topology *t, int gpu, int nic, weft_topology_path *path)
{
    weft_path_class nearest = WEFT_PATH_PHB;
    for (int x = 0; x < t->nodes; x++) {
        weft_topology_path candidate, rest;
        if (x == gpu || kind_of(t, x) != WEFT_NODE_GPU)
            continue;
        nvlink_path(t, gpu, x, &candidate);
        if (candidate.hops == 0)
            continue;
        weft_status status = weft_route_plain(t, x, nic, &rest);
        if (status != WEFT_OK)
            return status;
        if (rest.hops == 0 || rest.path_class > WEFT_PATH_PXB || rest.path_class >= nearest || !path_append(t, &candidate, &rest))
            continue;
        nearest = rest.path_class;
        candidate.path_class = WEFT_PATH_PXN;
        *path = candidate;
    }
    return WEFT_OK;
}

static weft_status gpu_to_other(const weft_topology *t, int gpu, int to, weft_topology_path *path)
{
    weft_node_kind kind = kind_of(t, to);
    bool nic = kind == WEFT_NODE_NIC || kind == WEFT_NODE_PORT;
    weft_status status = path->path_class > WEFT_PATH_PXB ? over_c2c(t, gpu, to, path) : WEFT_OK;
    if (status == WEFT_OK && nic && path->path_class >= WEFT_PATH_PHB && path->path_class <= WEFT_PATH_SYS)
        status = over_neighbour(t, gpu, to, path);
    return status;
}

weft_status weft_topology_find_path(const weft_topology *t, int a, int b, weft_topology_path *path)
{
    weft_clear_error();
    if (a < 0 || b < 0 || a >= t->nodes || b >= t->nodes)
        return weft_fail(WEFT_ERR_INVALID, "a path from node %d to %d: nodes are 0 to %d", a, b, t->nodes - 1);
    path_clear(path);
    if (a == b) {
        path->path_class = WEFT_PATH_LOC;
        return WEFT_OK;
    }
    weft_status status = weft_route_plain(t, a, b, path);
    if (status != WEFT_OK || path->path_class == WEFT_PATH_NET)
        return status;
    bool from_gpu = kind_of(t, a) == WEFT_NODE_GPU, to_gpu = kind_of(t, b) == WEFT_NODE_GPU;
    if (from_gpu && to_gpu) {
        gpu_to_gpu(t, a, b, path);
        status = over_processors(t, a, b, path);
    } else if (from_gpu) {
        status = gpu_to_other(t, a, b, path);
    } else if (to_gpu) {
        weft_topology_path back = *path;
        path_reverse(&back);
        status = gpu_to_other(t, b, a, &back);
        path_reverse(&back);
        *path = back;
    } else if (kind_of(t, b) == WEFT_NODE_NVSWITCH || kind_of(t, a) == WEFT_NODE_NVSWITCH) {
        path_clear(path);
    }
    if (status == WEFT_OK && path->hops == 0 && direct_link(t, a, b, true) >= 0) {
        path_add(t, path, direct_link(t, a, b, true));
        path->path_class = WEFT_PATH_NVL;
    }
    return status;
}

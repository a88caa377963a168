/* The edges that follow from where nodes are: memory, interconnect between NUMA nodes, PCI links with what they report or should
 * have, ports to the network. Explicit links (NVLink, xGMI, chip to chip) come from the importers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "topology/graph.h"
#include "topology/rates.h"

#define DRAM_BPS (100 * WEFT_GBPS)  /* of a NUMA node, where nothing says more */
#define CACHE_BPS (400 * WEFT_GBPS) /* of a last-level cache */
#define BUS_BPS (400 * WEFT_GBPS)   /* of a root complex */
#define FABRIC_BPS (48 * WEFT_GBPS) /* between NUMA nodes of one package */

static weft_node_kind kind_of(const weft_topology *t, int node)
{
    return t->node[node].shown.kind;
}

static int parent_of(const weft_topology *t, int node)
{
    return t->node[node].shown.parent;
}

static void join(weft_topology *t, weft_edge_kind kind, int a, int b, double bandwidth_Bps, weft_figure_source source)
{
    weft_topology_edge edge = {kind, a, b, 0, bandwidth_Bps, weft_rate_latency_ns(kind), source};
    weft_topology_add_edge(t, &edge);
}

/* ---- processors and memory --------------------------------------------------------------------- */

/* First NUMA node below each node, -1: none. Children come after parents, so one pass from the end does. */
static int *first_numa_below(weft_topology *t)
{
    int *first = weft_alloc_array((size_t)t->nodes + 1, sizeof *first);
    if (!first) {
        t->out_of_memory = true;
        return NULL;
    }
    for (int i = 0; i < t->nodes; i++)
        first[i] = -1;
    for (int i = t->nodes - 1; i >= 0; i--) {
        if (kind_of(t, i) == WEFT_NODE_NUMA)
            first[i] = i;
        int parent = parent_of(t, i);
        if (parent >= 0 && first[i] >= 0)
            first[parent] = first[i];
    }
    return first;
}

/* The NUMA node that a node's bytes start from: it encloses it, or is the first in what encloses it. */
static int numa_of(const weft_topology *t, const int *first_numa, int node)
{
    int numa = weft_topology_enclosing(t, node, WEFT_NODE_NUMA);
    for (int at = node; numa < 0 && at >= 0; at = parent_of(t, at))
        numa = first_numa[at];
    return numa;
}

static void give_every_host_memory(weft_topology *t)
{
    int nodes = t->nodes;
    for (int host = 0; host < nodes; host++) {
        if (kind_of(t, host) != WEFT_NODE_HOST)
            continue;
        bool found = false;
        for (int i = 0; i < nodes && !found; i++)
            found = kind_of(t, i) == WEFT_NODE_NUMA && weft_topology_enclosing(t, i, WEFT_NODE_HOST) == host;
        if (!found) {
            weft_topology_add_node(t, WEFT_NODE_NUMA, host);
            weft_topology_add_note(t, "no NUMA node is named: the whole host counts as one");
        }
    }
}

/* The ACPI distance from the n-th NUMA node's list ("10 21"), in which 10 is local; 0: not told. */
static double distance_of(const weft_topology *t, int numa, int other)
{
    const char *list = weft_topology_attribute(t, numa, "distances");
    char *end;
    for (; list; list = end, other--) {
        double distance = weft_strtod(list, &end);
        if (end == list)
            return 0;
        if (other == 0)
            return distance;
    }
    return 0;
}

static void join_numa_pair(weft_topology *t, int a, int b, double distance)
{
    int package = weft_topology_enclosing(t, a, WEFT_NODE_PACKAGE);
    bool near = package >= 0 && package == weft_topology_enclosing(t, b, WEFT_NODE_PACKAGE);
    weft_edge_kind kind = near ? WEFT_EDGE_MEMORY : WEFT_EDGE_SMP;
    weft_topology_edge edge = {kind, a, b, 0, near ? FABRIC_BPS : fmin(weft_rate_smp_Bps(t, a), weft_rate_smp_Bps(t, b)),
                               weft_rate_latency_ns(kind), near ? WEFT_FIGURE_ASSUMED : WEFT_FIGURE_TABLE};
    if (distance > 10 && distance < 255)
        edge.latency_ns = 13 * (distance - 10); /* a remote node of distance 20 costs about 130 ns more than the local one */
    weft_topology_add_edge(t, &edge);
}

static void join_numa_nodes(weft_topology *t)
{
    int *list = weft_alloc_array((size_t)t->nodes + 1, sizeof *list);
    int count = 0;
    if (!list) {
        t->out_of_memory = true;
        return;
    }
    for (int i = 0; i < t->nodes; i++)
        if (kind_of(t, i) == WEFT_NODE_NUMA)
            list[count++] = i;
    if (count > WEFT_TOPOLOGY_NUMA_MAX)
        t->too_large = true;
    for (int i = 0; i < count && !t->too_large; i++) {
        for (int j = i + 1; j < count; j++) {
            if (weft_topology_enclosing(t, list[i], WEFT_NODE_HOST) == weft_topology_enclosing(t, list[j], WEFT_NODE_HOST))
                join_numa_pair(t, list[i], list[j], distance_of(t, list[i], j));
        }
    }
    weft_free(list);
}

static void join_caches(weft_topology *t, int node, const int *first_numa)
{
    int above = parent_of(t, node);
    while (above >= 0 && kind_of(t, above) != WEFT_NODE_L3 && kind_of(t, above) != WEFT_NODE_NUMA)
        above = parent_of(t, above);
    if (above < 0)
        above = numa_of(t, first_numa, node);
    if (above >= 0 && above != node)
        join(t, WEFT_EDGE_MEMORY, node, above, kind_of(t, above) == WEFT_NODE_L3 ? CACHE_BPS : DRAM_BPS, WEFT_FIGURE_ASSUMED);
    if (above >= 0 && kind_of(t, above) == WEFT_NODE_L3 && kind_of(t, node) == WEFT_NODE_L3)
        return;
    /* A NUMA node inside a cache (sub-NUMA clusters): the cache reaches memory through its first. */
    if (kind_of(t, node) == WEFT_NODE_L3 && above < 0 && first_numa[node] >= 0)
        join(t, WEFT_EDGE_MEMORY, node, first_numa[node], DRAM_BPS, WEFT_FIGURE_ASSUMED);
}

/* ---- PCI --------------------------------------------------------------------------------------- */

typedef struct link_guess {
    double gts; /* the fastest that something below a bridge should have */
} link_guess;

/* What a link whose speed nobody tells probably is, from the devices below. */
static link_guess *guess_links(weft_topology *t)
{
    link_guess *guess = weft_alloc_array((size_t)t->nodes + 1, sizeof *guess);
    if (!guess) {
        t->out_of_memory = true;
        return NULL;
    }
    for (int i = t->nodes - 1; i >= 0; i--) {
        double told = weft_rate_parse_gts(weft_topology_attribute(t, i, "link_speed"));
        double own = told > 0 ? told : weft_rate_device_gts(t, i);
        guess[i].gts = fmax(guess[i].gts, own);
        int parent = parent_of(t, i);
        if (parent >= 0 && kind_of(t, parent) == WEFT_NODE_PCI_BRIDGE)
            guess[parent].gts = fmax(guess[parent].gts, guess[i].gts);
    }
    return guess;
}

static void join_pci(weft_topology *t, int node, int above, double guessed_gts)
{
    double gts = weft_rate_parse_gts(weft_topology_attribute(t, node, "link_speed"));
    double lanes = weft_topology_attribute_number(t, node, "link_width", 0),
           whole = weft_topology_attribute_number(t, node, "link_GBps", 0);
    if (whole > 0 && whole < 1e4) { /* hwloc tells the product, in coded bytes */
        weft_topology_edge known = {
            WEFT_EDGE_PCI, node, above, 0, whole * 0.7617 * WEFT_GBPS, weft_rate_latency_ns(WEFT_EDGE_PCI), WEFT_FIGURE_REPORTED};
        weft_topology_add_edge(t, &known);
        return;
    }
    bool told = gts > 0 && lanes >= 1 && lanes <= 64;
    if (gts == 0)
        gts = guessed_gts > 0 ? guessed_gts : 8;
    if (!(lanes >= 1 && lanes <= 64))
        lanes = 16;
    weft_topology_edge edge = {WEFT_EDGE_PCI, node, above, (int)lanes, weft_rate_pci_Bps(gts, (int)lanes),
                               weft_rate_latency_ns(WEFT_EDGE_PCI), told ? WEFT_FIGURE_REPORTED : WEFT_FIGURE_ASSUMED};
    weft_topology_add_edge(t, &edge);
}

static bool is_pci(weft_node_kind kind)
{
    return kind == WEFT_NODE_PCI_BRIDGE || kind == WEFT_NODE_PCI_DEVICE || kind == WEFT_NODE_NIC || kind == WEFT_NODE_GPU;
}

static void join_device(weft_topology *t, int node, const int *first_numa, const link_guess *guess)
{
    int above = parent_of(t, node);
    weft_node_kind above_kind = above >= 0 ? kind_of(t, above) : WEFT_NODE_HOST;
    if (above_kind == WEFT_NODE_NIC || weft_topology_attribute(t, node, "function")) {
        join(t, WEFT_EDGE_INSIDE, node, above, CACHE_BPS, WEFT_FIGURE_ASSUMED);
        return;
    }
    if (above_kind != WEFT_NODE_PCI_BRIDGE && above_kind != WEFT_NODE_PCI_ROOT)
        above = numa_of(t, first_numa, node);
    if (above < 0)
        return;
    if (t->node[node].shown.bus_id[0] || weft_topology_attribute(t, node, "link_width"))
        join_pci(t, node, above, guess[node].gts);
    else
        join(t, WEFT_EDGE_BUS, node, above, BUS_BPS, WEFT_FIGURE_ASSUMED);
}

/* ---- network ----------------------------------------------------------------------------------- */

static void join_port(weft_topology *t, int port)
{
    double mbit = weft_topology_attribute_number(t, port, "speed", 0);
    const char *state = weft_topology_attribute(t, port, "state");
    join(t, WEFT_EDGE_INSIDE, port, parent_of(t, port), CACHE_BPS, WEFT_FIGURE_ASSUMED);
    if (state && strcmp(state, "down") == 0)
        return;
    const weft_topology_node *nic = &t->node[parent_of(t, port)].shown;
    double rate = weft_rate_nic_Bps(nic->vendor, nic->device);
    bool told = mbit >= 1 && mbit <= 1e9;
    /* A card behind one slow lane is a Gigabit Ethernet one; what is behind more is 10 Gbit/s at least. */
    double lanes_GBps = weft_topology_attribute_number(t, parent_of(t, port), "link_GBps", 1e3);
    double usual = lanes_GBps < 1.25 ? 1e9 / 8 : 10e9 / 8;
    join(t, WEFT_EDGE_WIRE, port, weft_topology_network(t), told ? mbit * 1e6 / 8 : rate > 0 ? rate : usual,
         told ? WEFT_FIGURE_REPORTED : rate > 0 ? WEFT_FIGURE_TABLE : WEFT_FIGURE_ASSUMED);
}

/* A NIC of a skeleton, which names no ports, has the rate of its model, else of its slot. */
static void join_bare_nic(weft_topology *t, int nic)
{
    double rate = weft_rate_nic_Bps(t->node[nic].shown.vendor, t->node[nic].shown.device);
    weft_figure_source source = rate > 0 ? WEFT_FIGURE_TABLE : WEFT_FIGURE_ASSUMED;
    for (int i = 0; i < t->edges && rate == 0; i++)
        if (t->edge[i].kind == WEFT_EDGE_PCI && t->edge[i].a == nic)
            rate = t->edge[i].bandwidth_Bps;
    join(t, WEFT_EDGE_WIRE, nic, weft_topology_network(t), rate > 0 ? rate : 12 * WEFT_GBPS, source);
}

static void join_nics(weft_topology *t, int nodes)
{
    bool *has_port = weft_alloc_array((size_t)nodes + 1, sizeof *has_port);
    if (!has_port) {
        t->out_of_memory = true;
        return;
    }
    for (int i = 0; i < nodes; i++) {
        int parent = parent_of(t, i);
        if (parent >= 0 && kind_of(t, parent) == WEFT_NODE_NIC)
            has_port[parent] = true;
        if (kind_of(t, i) == WEFT_NODE_PORT)
            join_port(t, i);
    }
    for (int i = 0; i < nodes; i++)
        if (kind_of(t, i) == WEFT_NODE_NIC && !has_port[i] && !weft_topology_attribute(t, i, "no_link"))
            join_bare_nic(t, i);
    weft_free(has_port);
}

void weft_topology_derive(weft_topology *t)
{
    give_every_host_memory(t);
    int *first_numa = first_numa_below(t);
    link_guess *guess = guess_links(t);
    int nodes = t->nodes;
    for (int i = 0; first_numa && guess && i < nodes; i++) {
        weft_node_kind kind = kind_of(t, i);
        if (kind == WEFT_NODE_L3 || kind == WEFT_NODE_CORES)
            join_caches(t, i, first_numa);
        else if (kind == WEFT_NODE_PCI_ROOT && numa_of(t, first_numa, i) >= 0)
            join(t, WEFT_EDGE_BUS, i, numa_of(t, first_numa, i), BUS_BPS, WEFT_FIGURE_ASSUMED);
        else if (is_pci(kind))
            join_device(t, i, first_numa, guess);
    }
    if (first_numa && guess) {
        join_numa_nodes(t);
        join_nics(t, nodes);
    }
    weft_free(first_numa);
    weft_free(guess);
}

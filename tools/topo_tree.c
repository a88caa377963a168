/* weft-topo's tree: the machine in a screen. Uses only the public headers. */
#include <stdlib.h>
#include <string.h>

#include "topo_args.h"

typedef struct view {
    const weft_topology *t;
    bool color;
} view;

static const char *paint(const view *v, weft_node_kind kind)
{
    if (!v->color)
        return "";
    switch (kind) {
    case WEFT_NODE_GPU:
        return "\x1b[1;32m";
    case WEFT_NODE_NIC:
    case WEFT_NODE_PORT:
        return "\x1b[1;34m";
    case WEFT_NODE_NUMA:
        return "\x1b[1;33m";
    case WEFT_NODE_NVSWITCH:
        return "\x1b[1;35m";
    case WEFT_NODE_HOST:
        return "\x1b[1m";
    default:
        return "";
    }
}

void topo_rate_text(double bandwidth_Bps, char *text, size_t bytes)
{
    if (bandwidth_Bps >= 1e9)
        snprintf(text, bytes, "%.1f GB/s", bandwidth_Bps / 1e9);
    else
        snprintf(text, bytes, "%.4g Mbit/s", bandwidth_Bps * 8 / 1e6);
}

static void print_size(const char *text)
{
    double bytes = text ? strtod(text, NULL) : 0;
    if (bytes >= 1e9)
        printf("  %.4g GB", bytes / (1 << 30));
    else if (bytes > 0)
        printf("  %.4g MB", bytes / (1 << 20));
}

/* The edge to the parent, or for those that hang on nothing that is shown, to the NUMA node; -1: none. */
static int edge_up(const weft_topology *t, int node)
{
    int parent = weft_topology_get_node(t, node)->parent, other = -1;
    for (int i = 0; i < weft_topology_degree(t, node); i++) {
        int at = weft_topology_edge_of(t, node, i);
        const weft_topology_edge *e = weft_topology_get_edge(t, at);
        int end = e->a == node ? e->b : e->a;
        if (end == parent)
            return at;
        if (e->kind == WEFT_EDGE_PCI && end < node)
            other = at;
    }
    return other;
}

static void print_link(const weft_topology *t, int node)
{
    int up = edge_up(t, node);
    char rate[32];
    if (up < 0)
        return;
    const weft_topology_edge *e = weft_topology_get_edge(t, up);
    if (e->kind != WEFT_EDGE_PCI)
        return;
    topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
    printf("  %s", rate);
    if (e->links)
        printf(" (x%d)", e->links);
    if (e->source == WEFT_FIGURE_ASSUMED)
        printf(" assumed");
}

static void print_wire(const weft_topology *t, int node)
{
    for (int i = 0; i < weft_topology_degree(t, node); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(t, weft_topology_edge_of(t, node, i));
        if (e->kind == WEFT_EDGE_WIRE)
            printf("  %.4g Gbit/s%s", e->bandwidth_Bps * 8 / 1e9, e->source == WEFT_FIGURE_ASSUMED ? " assumed" : "");
    }
}

static int first_child(const weft_topology *t, int node, weft_node_kind kind)
{
    for (int i = node + 1; i < weft_topology_node_count(t); i++)
        if (weft_topology_get_node(t, i)->parent == node && weft_topology_get_node(t, i)->kind == kind)
            return i;
    return -1;
}

/* A NIC with one port stands in one line with it. */
static int only_port(const weft_topology *t, int nic)
{
    int port = first_child(t, nic, WEFT_NODE_PORT);
    for (int i = port + 1; port >= 0 && i < weft_topology_node_count(t); i++)
        if (weft_topology_get_node(t, i)->parent == nic)
            return -1;
    return port;
}

static void print_attribute(const weft_topology *t, int node, const char *name, const char *before)
{
    const char *text = weft_topology_attribute(t, node, name);
    size_t length = text ? strlen(text) : 0;
    while (length > 0 && text[length - 1] == ' ')
        length--;
    if (length > 0)
        printf("  %s%.*s", before, (int)(length > 60 ? 60 : length), text);
}

static void print_node(const view *v, int node, int depth)
{
    const weft_topology *t = v->t;
    const weft_topology_node *n = weft_topology_get_node(t, node);
    char label[32];
    weft_topology_label(t, node, label, sizeof label);
    printf("%*s%s%s%s", depth * 2, "", paint(v, n->kind), label, v->color ? "\x1b[0m" : "");
    if (n->name[0])
        printf(" %s", n->name);
    if (n->kind == WEFT_NODE_CORES)
        printf("  %d core%s", n->count, n->count == 1 ? "" : "s");
    if (n->bus_id[0])
        printf("  %s", n->bus_id);
    print_link(t, node);
    if (n->kind == WEFT_NODE_NUMA || n->kind == WEFT_NODE_CORES || n->kind == WEFT_NODE_L3)
        print_attribute(t, node, "cpus", "CPUs ");
    if (n->kind == WEFT_NODE_NUMA)
        print_size(weft_topology_attribute(t, node, "memory"));
    if (n->kind == WEFT_NODE_L3)
        print_size(weft_topology_attribute(t, node, "bytes"));
    print_attribute(t, node, "memory_kind", "");
    print_attribute(t, node, "product", "");
    print_attribute(t, node, "model", "");
    print_attribute(t, node, "state", "");
    int port = n->kind == WEFT_NODE_NIC ? only_port(t, node) : -1;
    if (port >= 0)
        print_attribute(t, port, "state", "");
    print_wire(t, port >= 0 ? port : node);
    putchar('\n');
}

/* The L3 caches of a node in one line: "L3-0 to L3-7: 8 x 32 MB, 64 cores". */
static void print_caches(const view *v, int parent, int depth)
{
    const weft_topology *t = v->t;
    char first[32] = "", last[32] = "";
    int caches = 0, cores = 0;
    const char *bytes = NULL;
    for (int i = parent + 1; i < weft_topology_node_count(t); i++) {
        const weft_topology_node *n = weft_topology_get_node(t, i);
        if (n->kind == WEFT_NODE_L3 && n->parent == parent && first_child(t, i, WEFT_NODE_NUMA) < 0) {
            weft_topology_label(t, i, caches++ ? last : first, sizeof first);
            bytes = weft_topology_attribute(t, i, "bytes");
        } else if (n->kind == WEFT_NODE_CORES &&
                   (n->parent == parent || weft_topology_get_node(t, n->parent)->parent == parent)) {
            cores += weft_topology_get_node(t, n->parent)->kind == WEFT_NODE_L3 || n->parent == parent ? n->count : 0;
        }
    }
    if (caches + cores == 0)
        return;
    printf("%*s", depth * 2, "");
    if (caches == 1)
        printf("%s", first);
    else if (caches)
        printf("%s to %s: %d caches of", first, last, caches);
    print_size(bytes);
    printf("%s%d core%s\n", caches ? "  " : "", cores, cores == 1 ? "" : "s");
}

static bool is_collapsed(const weft_topology *t, int node)
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    if (n->kind == WEFT_NODE_CORES)
        return true;
    if (n->kind == WEFT_NODE_PORT)
        return only_port(t, n->parent) >= 0;
    return n->kind == WEFT_NODE_L3 && first_child(t, node, WEFT_NODE_NUMA) < 0;
}

static void print_below(const view *v, int node, int depth)
{
    print_node(v, node, depth);
    print_caches(v, node, depth + 1);
    for (int i = node + 1; i < weft_topology_node_count(v->t); i++)
        if (weft_topology_get_node(v->t, i)->parent == node && !is_collapsed(v->t, i) && depth < 64)
            print_below(v, i, depth + 1);
}

static bool is_gpu_link(const weft_topology_edge *e)
{
    return e->kind == WEFT_EDGE_NVLINK || e->kind == WEFT_EDGE_XGMI || e->kind == WEFT_EDGE_C2C;
}

/* Links of a GPU in a line; those that come before in the list were told by their peer's. */
static void print_gpu_links(const view *v, int gpu)
{
    char label[32], rate[32];
    bool any = false;
    for (int i = 0; i < weft_topology_degree(v->t, gpu); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(v->t, weft_topology_edge_of(v->t, gpu, i));
        int peer = e->a == gpu ? e->b : e->a;
        if (!is_gpu_link(e))
            continue;
        if (!any) {
            weft_topology_label(v->t, gpu, label, sizeof label);
            printf("  %s%-6s%s", paint(v, WEFT_NODE_GPU), label, v->color ? "\x1b[0m" : "");
        }
        weft_topology_label(v->t, peer, label, sizeof label);
        topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
        if (e->links)
            printf("%s %s %dx %s", any ? "," : "", label, e->links, rate);
        else
            printf("%s %s %s", any ? "," : "", label, rate);
        any = true;
    }
    if (any)
        putchar('\n');
}

int topo_show_tree(const weft_topology *t, bool color)
{
    view v = {t, color};
    bool linked = false, several = false;
    for (int i = 0; i < weft_topology_edge_count(t); i++)
        linked |= is_gpu_link(weft_topology_get_edge(t, i));
    for (int i = 0; i < weft_topology_node_count(t); i++)
        if (weft_topology_get_node(t, i)->parent < 0 && weft_topology_get_node(t, i)->kind == WEFT_NODE_HOST) {
            if (several)
                putchar('\n');
            several = true;
            print_below(&v, i, 0);
        }
    printf(linked ? "links between GPUs, each direction:\n" : "");
    for (int i = 0; i < weft_topology_node_count(t); i++)
        if (weft_topology_get_node(t, i)->kind == WEFT_NODE_GPU)
            print_gpu_links(&v, i);
    printf("from: %s\n", weft_topology_origin(t));
    for (int i = 0; weft_topology_note(t, i); i++)
        printf("note: %s\n", weft_topology_note(t, i));
    return 0;
}

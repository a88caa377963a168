/* weft-topo's pictures: SVG as boxes in boxes with the links between GPUs drawn over them, and Graphviz. Uses only the public headers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "topo_args.h"

enum { PAD = 10, GAP = 8, LEAF_WIDTH = 132, LEAF_HEIGHT = 50, HEAD = 38 };

typedef struct box {
    double x, y, width, height;
    bool shown;
} box;

typedef struct drawing {
    const weft_topology *t;
    box *box;
    double room_below; /* for the curves between GPUs */
} drawing;

static weft_node_kind kind_of(const drawing *d, int node)
{
    return weft_topology_get_node(d->t, node)->kind;
}

static void put_escaped(const char *text, size_t most)
{
    for (size_t i = 0; text[i] && i < most; i++) {
        if (text[i] == '<')
            fputs("&lt;", stdout);
        else if (text[i] == '&')
            fputs("&amp;", stdout);
        else if (text[i] == '"')
            fputs("&quot;", stdout);
        else
            putchar((unsigned char)text[i] >= 0x80 ? '?' : text[i]);
    }
}

/* Caches and core sets are told in their NUMA node's head, ports in their NIC's. */
static bool is_shown(const drawing *d, int node)
{
    weft_node_kind kind = kind_of(d, node);
    return kind != WEFT_NODE_CORES && kind != WEFT_NODE_PORT && kind != WEFT_NODE_NETWORK && kind != WEFT_NODE_L3;
}

/* The nearest shown node around it. */
static int parent_of(const drawing *d, int node)
{
    int parent = weft_topology_get_node(d->t, node)->parent;
    while (parent >= 0 && !is_shown(d, parent))
        parent = weft_topology_get_node(d->t, parent)->parent;
    return parent;
}

/* Sizes from the inside out: children in rows, as near to a square as they come, but switches' in one column. */
static void measure(drawing *d, int node, int depth)
{
    box *b = &d->box[node];
    double row_width = 0, row_height = 0, width = 0, height = HEAD;
    int children = 0, in_row = 0, count = weft_topology_node_count(d->t);
    b->shown = true;
    for (int i = node + 1; i < count && depth < 64; i++)
        if (is_shown(d, i) && parent_of(d, i) == node)
            children++;
    weft_node_kind kind = kind_of(d, node);
    int per_row = kind == WEFT_NODE_HOST ? (children > 4 ? (children + 1) / 2 : children) : kind == WEFT_NODE_PCI_BRIDGE ? 1
                  : children > 4 ? (int)ceil(sqrt(children * 1.5)) : children;
    for (int i = node + 1; i < count && depth < 64; i++) {
        if (!is_shown(d, i) || parent_of(d, i) != node)
            continue;
        measure(d, i, depth + 1);
        bool bar = kind_of(d, i) == WEFT_NODE_NVSWITCH;
        if (in_row == per_row || (bar && in_row > 0)) {
            height += row_height + GAP;
            row_width = row_height = 0;
            in_row = 0;
        }
        d->box[i].x = PAD + row_width; /* from the corner of the parent, made absolute later */
        d->box[i].y = height;
        row_width += d->box[i].width + GAP;
        row_height = fmax(row_height, d->box[i].height);
        width = fmax(width, row_width);
        in_row++;
    }
    b->width = children ? fmax(width - GAP + 2 * PAD, 170) : LEAF_WIDTH;
    b->height = children ? height + row_height + PAD : LEAF_HEIGHT;
}

static void place(drawing *d, int node, double x, double y)
{
    d->box[node].x += x;
    d->box[node].y += y;
    for (int i = node + 1; i < weft_topology_node_count(d->t); i++) {
        if (!d->box[i].shown || parent_of(d, i) != node)
            continue;
        if (kind_of(d, i) == WEFT_NODE_NVSWITCH)
            d->box[i].width = d->box[node].width - 2 * PAD;
        place(d, i, d->box[node].x, d->box[node].y);
    }
}

static const char *fill_of(weft_node_kind kind)
{
    static const char *const fills[WEFT_NODE_KIND_COUNT] = {
        [WEFT_NODE_HOST] = "#f7f7f5", [WEFT_NODE_PACKAGE] = "#eceff4",    [WEFT_NODE_NUMA] = "#e3ebf6",
        [WEFT_NODE_PCI_ROOT] = "#ffffff", [WEFT_NODE_PCI_BRIDGE] = "#fbf3dd", [WEFT_NODE_PCI_DEVICE] = "#e8e8e8",
        [WEFT_NODE_NIC] = "#cfe3ff",  [WEFT_NODE_GPU] = "#c9ecc4",        [WEFT_NODE_NVSWITCH] = "#e6d3f3",
    };
    return fills[kind] ? fills[kind] : "#ffffff";
}

static int cores_in(const drawing *d, int numa)
{
    int cores = 0;
    for (int i = numa + 1; i < weft_topology_node_count(d->t); i++)
        if (kind_of(d, i) == WEFT_NODE_CORES && weft_topology_enclosing(d->t, i, WEFT_NODE_NUMA) == numa)
            cores += weft_topology_get_node(d->t, i)->count;
    return cores;
}

/* The second line of a box: what it carries or holds. */
static void describe(const drawing *d, int node, char *text, size_t bytes)
{
    const weft_topology_node *n = weft_topology_get_node(d->t, node);
    char rate[32];
    text[0] = 0;
    if (n->kind == WEFT_NODE_NUMA) {
        const char *cpus = weft_topology_attribute(d->t, node, "cpus");
        int cores = cores_in(d, node);
        if (cores)
            snprintf(text, bytes, "%d cores, CPUs %.40s", cores, cpus ? cpus : "?");
        else if (cpus)
            snprintf(text, bytes, "CPUs %.40s", cpus);
        return;
    }
    if (n->kind == WEFT_NODE_NVSWITCH) {
        snprintf(text, bytes, "%d chip%s", n->count, n->count == 1 ? "" : "s");
        return;
    }
    if (n->kind == WEFT_NODE_HOST || n->kind == WEFT_NODE_PACKAGE) {
        const char *model = weft_topology_attribute(d->t, node, n->kind == WEFT_NODE_HOST ? "product" : "model");
        snprintf(text, bytes, "%.60s", model ? model : "");
        return;
    }
    for (int i = 0; i < weft_topology_degree(d->t, node); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, node, i));
        if (e->kind != WEFT_EDGE_PCI || e->a != node)
            continue;
        topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
        snprintf(text, bytes, "%s", rate);
    }
    if (n->kind == WEFT_NODE_NIC && weft_topology_nic_bandwidth(d->t, node) > 0) {
        size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s%.4g Gbit/s", used ? ", " : "", weft_topology_nic_bandwidth(d->t, node) * 8 / 1e9);
    }
}

static void draw_boxes(const drawing *d)
{
    for (int i = 0; i < weft_topology_node_count(d->t); i++) {
        const box *b = &d->box[i];
        const weft_topology_node *n = weft_topology_get_node(d->t, i);
        char label[32], more[128];
        if (!b->shown)
            continue;
        weft_topology_label(d->t, i, label, sizeof label);
        describe(d, i, more, sizeof more);
        printf("<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" rx=\"5\" fill=\"%s\" stroke=\"#8a8f98\"/>\n", b->x, b->y, b->width,
               b->height, fill_of(n->kind));
        printf("<text x=\"%.0f\" y=\"%.0f\"><tspan font-weight=\"bold\">%s</tspan> ", b->x + 8, b->y + 16, label);
        put_escaped(n->name, 14);
        printf("</text>\n<text x=\"%.0f\" y=\"%.0f\" class=\"m\">", b->x + 8, b->y + 31);
        put_escaped(more, 64);
        puts("</text>");
        if (n->bus_id[0] && b->height == LEAF_HEIGHT)
            printf("<text x=\"%.0f\" y=\"%.0f\" class=\"m\">%s</text>\n", b->x + 8, b->y + 44, n->bus_id);
    }
}

static void draw_links(const drawing *d)
{
    for (int i = 0; i < weft_topology_edge_count(d->t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, i);
        if (e->kind != WEFT_EDGE_NVLINK && e->kind != WEFT_EDGE_XGMI && e->kind != WEFT_EDGE_C2C)
            continue;
        const box *a = &d->box[e->a], *b = &d->box[e->b];
        double width = e->links ? fmin(1 + e->links * 0.35, 6) : 2;
        double ax = a->x + a->width / 2, ay = a->y + a->height - 3, bx = b->x + b->width / 2, by = b->y + b->height - 3;
        if (kind_of(d, e->b) == WEFT_NODE_NVSWITCH || kind_of(d, e->a) == WEFT_NODE_NVSWITCH) {
            /* Beside the boxes below it, not through them. */
            const box *gpu = kind_of(d, e->b) == WEFT_NODE_NVSWITCH ? a : b, *bar = gpu == a ? b : a;
            printf("<path d=\"M%.0f %.0f h9 V%.0f\" class=\"l\" stroke-width=\"%.1f\"/>\n", gpu->x + gpu->width, gpu->y + gpu->height / 2, bar->y,
                   width);
            continue;
        }
        double sag = fmin(fabs(ax - bx) * 0.25 + fabs(ay - by) * 0.15 + 14, d->room_below);
        printf("<path d=\"M%.0f %.0f Q%.0f %.0f %.0f %.0f\" class=\"l\" stroke-width=\"%.1f\"/>\n", ax, ay, (ax + bx) / 2,
               fmax(ay, by) + sag, bx, by, width);
    }
}

int topo_draw_svg(const weft_topology *t)
{
    int count = weft_topology_node_count(t);
    drawing d = {t, calloc((size_t)count, sizeof(box)), 60};
    double width = 0, height = PAD;
    if (!d.box) {
        fprintf(stderr, "weft-topo: no memory for a picture of %d nodes\n", count);
        return TOPO_EXIT_FAILED;
    }
    for (int i = 0; i < count; i++) {
        if (kind_of(&d, i) != WEFT_NODE_HOST)
            continue;
        measure(&d, i, 0);
        place(&d, i, PAD, height);
        width = fmax(width, d.box[i].width);
        height += d.box[i].height + d.room_below / 2;
    }
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n", width + 2 * PAD,
           height + PAD);
    puts("<style>.m{font-size:10px;fill:#555}.l{fill:none;stroke:#2e8b57;stroke-opacity:.55}</style>");
    puts("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    draw_boxes(&d);
    draw_links(&d);
    printf("<text x=\"%d\" y=\"%.0f\" class=\"m\">from: ", PAD, height);
    put_escaped(weft_topology_origin(t), 60);
    puts("; green: links between GPUs; rates are payload in one direction</text>\n</svg>");
    free(d.box);
    return 0;
}

int topo_draw_dot(const weft_topology *t)
{
    drawing d = {t, NULL, 0};
    puts("graph machine {\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=9];");
    for (int i = 0; i < weft_topology_node_count(t); i++) {
        const weft_topology_node *n = weft_topology_get_node(t, i);
        char label[32];
        if (n->kind == WEFT_NODE_HOST || n->kind == WEFT_NODE_PACKAGE || weft_topology_degree(t, i) == 0)
            continue;
        weft_topology_label(t, i, label, sizeof label);
        printf("  n%d [label=\"%s", i, label);
        for (const char *c = n->name; *c; c++)
            printf("%s%c", c == n->name ? "\\n" : "", *c == '"' || *c == '\\' ? '?' : *c);
        printf("\", fillcolor=\"%s\"];\n", fill_of(kind_of(&d, i)));
    }
    for (int i = 0; i < weft_topology_edge_count(t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(t, i);
        char rate[32];
        topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
        printf("  n%d -- n%d [label=\"%s\"%s];\n", e->a, e->b, rate,
               e->kind == WEFT_EDGE_NVLINK || e->kind == WEFT_EDGE_XGMI ? ", color=\"#2e8b57\", penwidth=2" : "");
    }
    puts("}");
    return 0;
}

/* weft-topo's pictures: SVG as boxes in boxes with what joins them to an NVSwitch, below it the links between GPUs
 * (topo_draw_mesh.c), and Graphviz. Uses only the public headers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "topo_args.h"

enum { PAD = 10, GAP = 8, LEAF_WIDTH = 142, BOX_WIDTH_MAX = 300, LEAF_HEIGHT = 50, HEAD = 38, NAME_MAX = 24, TEXT_MAX = 128 };
/* Widths of letters, of the fonts that are usual. */
static const double bold_width = 8, name_width = 7, small_width = 5.9;

typedef struct box {
    double x, y, width, height;
    bool shown;
} box;

typedef struct drawing {
    const weft_topology *t;
    box *box;
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

/* What joins the host's NUMA nodes, the slowest of it. */
static void describe_interconnect(const drawing *d, int host, char *text, size_t bytes)
{
    double least = 0;
    for (int i = 0; kind_of(d, host) == WEFT_NODE_HOST && i < weft_topology_edge_count(d->t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, i);
        if (kind_of(d, e->a) == WEFT_NODE_NUMA && kind_of(d, e->b) == WEFT_NODE_NUMA &&
            weft_topology_enclosing(d->t, e->a, WEFT_NODE_HOST) == host && (least == 0 || e->bandwidth_Bps < least))
            least = e->bandwidth_Bps;
    }
    char rate[32];
    size_t used = strlen(text);
    topo_rate_text(least, rate, sizeof rate);
    if (least > 0)
        snprintf(text + used, bytes - used, "%s%s between NUMA nodes", used ? ", " : "", rate);
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
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, node, 0));
        topo_rate_text(e ? e->bandwidth_Bps : 0, rate, sizeof rate);
        snprintf(text, bytes, "%d chip%s; to each GPU %d links, %s", n->count, n->count == 1 ? "" : "s", e ? e->links : 0, rate);
        return;
    }
    if (n->kind == WEFT_NODE_HOST || n->kind == WEFT_NODE_PACKAGE) {
        const char *model = weft_topology_attribute(d->t, node, n->kind == WEFT_NODE_HOST ? "product" : "model");
        snprintf(text, bytes, "%.60s", model ? model : "");
        describe_interconnect(d, node, text, bytes);
        return;
    }
    for (int i = 0; i < weft_topology_degree(d->t, node); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, node, i));
        if (e->kind != WEFT_EDGE_PCI || e->a != node)
            continue;
        topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
        snprintf(text, bytes, "%s", rate);
    }
    for (int i = 0; i < weft_topology_degree(d->t, node) && n->kind == WEFT_NODE_GPU; i++) { /* links to the processor */
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, node, i));
        size_t used = strlen(text);
        if ((e->kind != WEFT_EDGE_C2C && e->kind != WEFT_EDGE_NVLINK) || kind_of(d, e->a == node ? e->b : e->a) != WEFT_NODE_NUMA)
            continue;
        topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
        snprintf(text + used, bytes - used, "%s%s %s", used ? ", " : "", e->kind == WEFT_EDGE_C2C ? "C2C" : "NVLink to CPU",
                 rate);
    }
    if (n->kind == WEFT_NODE_NIC && weft_topology_nic_bandwidth(d->t, node) > 0) {
        size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s%.4g Gbit/s", used ? ", " : "", weft_topology_nic_bandwidth(d->t, node) * 8 / 1e9);
    }
}

/* How wide the two lines in its head are. */
static double text_width(const drawing *d, int node)
{
    char label[32], more[TEXT_MAX];
    weft_topology_label(d->t, node, label, sizeof label);
    describe(d, node, more, sizeof more);
    double first = (double)strlen(label) * bold_width + name_width +
                   (double)strnlen(weft_topology_get_node(d->t, node)->name, NAME_MAX) * name_width;
    return fmin(fmax(first, (double)strlen(more) * small_width) + 16, BOX_WIDTH_MAX);
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
    int per_row = children;
    if (kind == WEFT_NODE_PCI_BRIDGE)
        per_row = 1;
    else if (kind == WEFT_NODE_HOST && children > 4 && children <= 12)
        per_row = (children + 1) / 2;
    else if (children > 4)
        per_row = (int)ceil(sqrt(children * 1.5));
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
    for (int i = node + 1; i < count && per_row == 1; i++) /* a column is of one width */
        if (d->box[i].shown && parent_of(d, i) == node)
            d->box[i].width = fmax(d->box[i].width, fmax(width - GAP, 150));
    b->width = fmax(text_width(d, node), children ? fmax(width - GAP + 2 * PAD, 170) : LEAF_WIDTH);
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

static void draw_boxes(const drawing *d)
{
    for (int i = 0; i < weft_topology_node_count(d->t); i++) {
        const box *b = &d->box[i];
        const weft_topology_node *n = weft_topology_get_node(d->t, i);
        char label[32], more[TEXT_MAX];
        if (!b->shown)
            continue;
        weft_topology_label(d->t, i, label, sizeof label);
        describe(d, i, more, sizeof more);
        printf("<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" rx=\"5\" fill=\"%s\" stroke=\"#8a8f98\"/>\n", b->x,
               b->y, b->width, b->height, fill_of(n->kind));
        printf("<text x=\"%.0f\" y=\"%.0f\"><tspan font-weight=\"bold\">%s</tspan> ", b->x + 8, b->y + 16, label);
        put_escaped(n->name, NAME_MAX);
        printf("</text>\n<text x=\"%.0f\" y=\"%.0f\" class=\"m\">", b->x + 8, b->y + 31);
        put_escaped(more, (size_t)((b->width - 12) / small_width));
        puts("</text>");
        if (n->bus_id[0] && b->height == LEAF_HEIGHT)
            printf("<text x=\"%.0f\" y=\"%.0f\" class=\"m\">%s</text>\n", b->x + 8, b->y + 44, n->bus_id);
    }
}

/* GPUs one below the other have their lines side by side. */
static int lines_before(const drawing *d, int edge, const box *gpu)
{
    int count = 0;
    for (int i = 0; i < edge; i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, i);
        const box *other = kind_of(d, e->b) == WEFT_NODE_NVSWITCH   ? &d->box[e->a]
                           : kind_of(d, e->a) == WEFT_NODE_NVSWITCH ? &d->box[e->b]
                                                                    : NULL;
        count += other && fabs(other->x + other->width - gpu->x - gpu->width) < 4;
    }
    return count;
}

/* From each GPU to the bar of its NVSwitch, beside the boxes below it. */
static void draw_links(const drawing *d)
{
    for (int i = 0; i < weft_topology_edge_count(d->t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, i);
        bool to = kind_of(d, e->b) == WEFT_NODE_NVSWITCH;
        if (!to && kind_of(d, e->a) != WEFT_NODE_NVSWITCH)
            continue;
        const box *gpu = &d->box[to ? e->a : e->b], *bar = &d->box[to ? e->b : e->a];
        printf("<path d=\"M%.0f %.0f h%d V%.0f\" class=\"l\" stroke-width=\"%.1f\"/>\n", gpu->x + gpu->width,
               gpu->y + gpu->height / 2, 4 + 6 * (lines_before(d, i, gpu) % 3), bar->y,
               e->links ? fmin(1 + e->links * 0.2, 4) : 2);
    }
}

int topo_draw_svg(const weft_topology *t)
{
    int count = weft_topology_node_count(t);
    drawing d = {t, calloc((size_t)count, sizeof(box))};
    double width = 360, height = PAD, mesh_width, mesh_height;
    if (!d.box) {
        fprintf(stderr, "weft-topo: no memory for a picture of %d nodes\n", count);
        return TOPO_EXIT_FAILED;
    }
    for (int i = 0; i < count; i++) {
        if (kind_of(&d, i) != WEFT_NODE_HOST)
            continue;
        measure(&d, i, 0);
        place(&d, i, PAD, height);
        topo_draw_mesh(t, i, 0, 0, true, &mesh_width, &mesh_height);
        width = fmax(width, fmax(d.box[i].width, mesh_width));
        height += d.box[i].height + 2 * PAD + mesh_height;
    }
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
           "font-family=\"sans-serif\" font-size=\"12\">\n", width + 2 * PAD, height + 2 * PAD);
    puts("<style>.m{font-size:10px;fill:#555}.l{fill:none;stroke:#2e8b57}</style>\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    draw_boxes(&d);
    draw_links(&d);
    for (int i = 0; i < count; i++)
        if (kind_of(&d, i) == WEFT_NODE_HOST)
            topo_draw_mesh(t, i, PAD, d.box[i].y + d.box[i].height + PAD, false, &mesh_width, &mesh_height);
    printf("<text x=\"%d\" y=\"%.0f\" class=\"m\">from: ", PAD, height + PAD / 2.0);
    put_escaped(weft_topology_origin(t), 60);
    puts("; rates are payload in one direction</text>\n</svg>");
    free(d.box);
    return 0;
}

int topo_draw_dot(const weft_topology *t)
{
    drawing d = {t, NULL};
    puts("graph machine {\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n"
         "  edge [fontname=\"sans-serif\", fontsize=9];");
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

/* weft-topo's rings and trees as pictures: a panel per channel, a ring as a circle, a tree from its root down, hops coloured by
 * the class of their path. SVG and Graphviz. Uses only the public headers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "topo_args.h"

enum { PANEL = 300, HEAD = 44, MARGIN = 24, LABEL_WIDTH = 54, LABEL_HEIGHT = 20, PER_ROW = 4 };

static const char *color_of(const weft_topology *t, int a, int b)
{
    weft_topology_path path;
    if (weft_topology_find_path(t, a, b, &path) != WEFT_OK)
        return "#999999";
    return path.path_class <= WEFT_PATH_C2C   ? "#2e8b57"
           : path.path_class <= WEFT_PATH_PXN ? "#2a6fbb"
           : path.path_class <= WEFT_PATH_PHB ? "#b8860b"
                                              : "#b22222";
}

/* Where the ends of a channel stand in its panel; the NIC, if there is one, is number `ends`. */
typedef struct spot {
    double x, y;
} spot;

static void stand_in_ring(const weft_channels *c, bool nic, spot *at)
{
    int count = c->ends + nic;
    for (int i = 0; i < count; i++) {
        double angle = 2 * acos(-1) * i / count, radius = (PANEL - LABEL_WIDTH) / 2.0 - 6;
        int who = nic ? (i == 0 ? c->ends : i - 1) : i; /* the NIC at the top */
        at[who] = (spot){ PANEL / 2.0 + radius * sin(angle), PANEL / 2.0 - radius * cos(angle) };
    }
}

/* Levels by distance from the root, each spread over the width. */
static void stand_in_tree(const weft_channels *c, const int *parent, bool nic, spot *at)
{
    int depth = 0, *level = calloc((size_t)c->ends * 3, sizeof *level), *width = level + c->ends, *seen = width + c->ends;
    for (int i = 0; level && i < c->ends; i++) { /* parents come first */
        level[i] = parent[i] < 0 ? 0 : level[parent[i]] + 1;
        width[level[i]]++;
        depth = level[i] > depth ? level[i] : depth;
    }
    double top = nic ? LABEL_HEIGHT * 3 : LABEL_HEIGHT, step = (PANEL - top - LABEL_HEIGHT) / (depth ? depth : 1);
    for (int i = 0; level && i < c->ends; i++)
        at[i] = (spot){ PANEL * (0.5 + seen[level[i]]++) / width[level[i]], top + step * level[i] };
    at[c->ends] = (spot){ PANEL / 2.0, LABEL_HEIGHT };
    free(level);
}

static void draw_hop(const weft_topology *t, int a, int b, spot from, spot to)
{
    double dx = to.x - from.x, dy = to.y - from.y; /* from the edge of one box to that of the other */
    double cut =
        fmin(0.45, fmin(LABEL_WIDTH / 2.0 / fmax(fabs(dx), 1e-9), LABEL_HEIGHT / 2.0 / fmax(fabs(dy), 1e-9)) + 3 / hypot(dx, dy));
    printf("<path d=\"M%.1f %.1f L%.1f %.1f\" stroke=\"%s\" class=\"h\"/>\n", from.x + dx * cut, from.y + dy * cut,
           to.x - dx * cut, to.y - dy * cut, color_of(t, a, b));
}

static void draw_end(const weft_topology *t, int node, spot at)
{
    char label[32];
    weft_topology_label(t, node, label, sizeof label);
    bool nic = weft_topology_get_node(t, node)->kind == WEFT_NODE_NIC;
    printf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\" rx=\"4\" fill=\"%s\" stroke=\"#8a8f98\"/>"
           "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
           at.x - LABEL_WIDTH / 2.0, at.y - LABEL_HEIGHT / 2.0, LABEL_WIDTH, LABEL_HEIGHT, nic ? "#cfe3ff" : "#c9ecc4", at.x,
           at.y + 4, label);
}

static void draw_channel(const weft_topology *t, const weft_channels *c, int channel, int same, spot *at)
{
    const int *order = c->order + channel * c->ends, *parent = c->parent ? c->parent + channel * c->ends : NULL;
    int nic = c->nic[channel];
    if (parent)
        stand_in_tree(c, parent, nic >= 0, at);
    else
        stand_in_ring(c, nic >= 0, at);
    for (int i = 0; i < c->ends; i++) {
        if (parent && parent[i] >= 0)
            draw_hop(t, order[parent[i]], order[i], at[parent[i]], at[i]);
        else if (!parent && (i + 1 < c->ends || (nic < 0 && c->ends > 1)))
            draw_hop(t, order[i], order[(i + 1) % c->ends], at[i], at[(i + 1) % c->ends]);
    }
    if (nic >= 0) {
        draw_hop(t, nic, order[0], at[c->ends], at[0]);
        if (!parent)
            draw_hop(t, order[c->ends - 1], nic, at[c->ends - 1], at[c->ends]);
        draw_end(t, nic, at[c->ends]);
    }
    for (int i = 0; i < c->ends; i++)
        draw_end(t, order[i], at[i]);
    printf("<text x=\"0\" y=\"-4\" class=\"m\">%s %d", parent ? "tree" : "ring", channel);
    if (same > 1)
        printf(" to %d", channel + same - 1);
    puts("</text>");
}

static int panels_of(const weft_channels *c)
{
    int panels = 0;
    for (int k = 0; c && k < c->count; k += topo_same_channels(c, k))
        panels++;
    return panels;
}

/* One row of panels after the other; what height they took. */
static double draw_all(const weft_topology *t, const weft_channels *c, double y, spot *at)
{
    char rate[32], total[32];
    topo_rate_text(c->bandwidth_Bps, rate, sizeof rate);
    topo_rate_text(c->total_Bps, total, sizeof total);
    printf("<text x=\"%d\" y=\"%.0f\" font-weight=\"bold\">%s over %d ends: %d x %s = %s</text>\n", MARGIN, y + 16,
           c->parent ? "trees" : "rings", c->ends, c->count, rate, total);
    int panel = 0;
    for (int k = 0, same; k < c->count; k += same, panel++) {
        same = topo_same_channels(c, k);
        printf("<g transform=\"translate(%d %.0f)\">\n", MARGIN + panel % PER_ROW * (PANEL + MARGIN),
               y + HEAD + panel / PER_ROW * (PANEL + HEAD));
        draw_channel(t, c, k, same, at);
        puts("</g>");
    }
    return HEAD + (double)((panel + PER_ROW - 1) / PER_ROW) * (PANEL + HEAD);
}

static int draw_svg(const weft_topology *t, weft_channels *const c[2])
{
    int ends = 0, panels = 0;
    double height = MARGIN;
    for (int i = 0; i < 2; i++) {
        int mine = panels_of(c[i]);
        ends = c[i] && c[i]->ends > ends ? c[i]->ends : ends;
        panels = mine > panels ? mine : panels;
        height += c[i] ? HEAD + (double)((mine + PER_ROW - 1) / PER_ROW) * (PANEL + HEAD) : 0;
    }
    spot *at = calloc((size_t)ends + 1, sizeof *at);
    if (!at) {
        fprintf(stderr, "weft-topo: no memory for a picture of %d ends\n", ends);
        return TOPO_EXIT_FAILED;
    }
    int across = panels < 2 ? 2 : panels < PER_ROW ? panels : PER_ROW;
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
           "font-family=\"sans-serif\" font-size=\"12\">\n", MARGIN + across * (PANEL + MARGIN), height + MARGIN);
    puts("<style>.m{font-size:11px;fill:#555}.h{fill:none;stroke-width:2;marker-end:url(#arrow)}</style>\n"
         "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"5\" markerHeight=\"5\" "
         "orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#444444\"/></marker></defs>\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    double y = 0;
    for (int i = 0; i < 2; i++)
        y += c[i] ? draw_all(t, c[i], y, at) : 0;
    printf("<text x=\"%d\" y=\"%.0f\" class=\"m\">green: NVLink, xGMI; blue: PCI switches; "
           "brown: through the CPU; red: between NUMA nodes</text>\n</svg>\n",
           MARGIN, y + MARGIN);
    free(at);
    return 0;
}

static void put_node(const weft_topology *t, const char *prefix, int channel, int node)
{
    char label[32];
    weft_topology_label(t, node, label, sizeof label);
    printf("    %s%d_%d [label=\"%s\"];\n", prefix, channel, node, label);
}

static void put_hop(const weft_topology *t, const char *prefix, int channel, int a, int b)
{
    printf("    %s%d_%d -> %s%d_%d [color=\"%s\"];\n", prefix, channel, a, prefix, channel, b, color_of(t, a, b));
}

static void draw_dot(const weft_topology *t, const weft_channels *c)
{
    const char *prefix = c->parent ? "tree" : "ring";
    for (int k = 0; k < c->count; k += topo_same_channels(c, k)) {
        const int *order = c->order + k * c->ends, *parent = c->parent ? c->parent + k * c->ends : NULL;
        printf("  subgraph cluster_%s%d {\n    label=\"%s %d\";\n", prefix, k, prefix, k);
        for (int i = 0; i < c->ends; i++)
            put_node(t, prefix, k, order[i]);
        if (c->nic[k] >= 0) {
            put_node(t, prefix, k, c->nic[k]);
            put_hop(t, prefix, k, c->nic[k], order[0]);
        }
        for (int i = 0; i < c->ends; i++) {
            if (parent && parent[i] >= 0)
                put_hop(t, prefix, k, order[parent[i]], order[i]);
            else if (!parent && i + 1 < c->ends)
                put_hop(t, prefix, k, order[i], order[i + 1]);
            else if (!parent && (c->nic[k] >= 0 || c->ends > 1))
                put_hop(t, prefix, k, order[i], c->nic[k] >= 0 ? c->nic[k] : order[0]);
        }
        puts("  }");
    }
}

int topo_draw_channels(const weft_topology *t, weft_channels *const c[2], bool dot)
{
    if (!dot)
        return draw_svg(t, c);
    puts("digraph channels {\n  node [shape=box, style=filled, fillcolor=\"#c9ecc4\", fontname=\"sans-serif\"];");
    for (int i = 0; i < 2; i++)
        if (c[i])
            draw_dot(t, c[i]);
    puts("}");
    return 0;
}

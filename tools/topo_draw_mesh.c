/* weft-topo's picture of the links between GPUs of a host: the GPUs on a circle, a line for each pair, coloured and as wide as
 * what it carries, and what that is beside it. Uses only the public headers. */
#include <math.h>
#include <stdlib.h>

#include "topo_args.h"

enum { LABEL_WIDTH = 54, LABEL_HEIGHT = 20, HEAD = 34, LINE = 18, KINDS_MAX = 6, LEGEND_WIDTH = 190, EDGE = 8 };

/* Links that carry the same. */
typedef struct link_class {
    weft_edge_kind kind;
    int links;
    double bandwidth_Bps;
} link_class;

typedef struct mesh {
    const weft_topology *t;
    int host;
    int gpus, *gpu;
    link_class kind[KINDS_MAX];
    int kinds;
} mesh;

static bool is_direct(const mesh *m, const weft_topology_edge *e)
{
    return (e->kind == WEFT_EDGE_NVLINK || e->kind == WEFT_EDGE_XGMI) &&
           weft_topology_get_node(m->t, e->a)->kind == WEFT_NODE_GPU &&
           weft_topology_get_node(m->t, e->b)->kind == WEFT_NODE_GPU &&
           weft_topology_enclosing(m->t, e->a, WEFT_NODE_HOST) == m->host;
}

static int by_bandwidth(const void *a, const void *b)
{
    const link_class *x = a, *y = b;
    return (x->bandwidth_Bps < y->bandwidth_Bps) - (x->bandwidth_Bps > y->bandwidth_Bps);
}

static int class_of(const mesh *m, const weft_topology_edge *e)
{
    int k = 0;
    while (k + 1 < m->kinds &&
           !(m->kind[k].kind == e->kind && m->kind[k].links == e->links && m->kind[k].bandwidth_Bps == e->bandwidth_Bps))
        k++;
    return k;
}

/* False: there is nothing to draw, or no memory. */
static bool find(mesh *m)
{
    m->gpu = calloc((size_t)weft_topology_node_count(m->t), sizeof *m->gpu);
    for (int i = 0; m->gpu && i < weft_topology_node_count(m->t); i++)
        if (weft_topology_get_node(m->t, i)->kind == WEFT_NODE_GPU && weft_topology_enclosing(m->t, i, WEFT_NODE_HOST) == m->host)
            m->gpu[m->gpus++] = i;
    for (int i = 0; i < weft_topology_edge_count(m->t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(m->t, i);
        link_class this = {e->kind, e->links, e->bandwidth_Bps};
        if (!is_direct(m, e))
            continue;
        int k = class_of(m, e);
        bool known = m->kinds > 0 && m->kind[k].kind == this.kind && m->kind[k].links == this.links &&
                     m->kind[k].bandwidth_Bps == this.bandwidth_Bps;
        if (!known && m->kinds < KINDS_MAX)
            m->kind[m->kinds++] = this;
    }
    qsort(m->kind, (size_t)m->kinds, sizeof *m->kind, by_bandwidth);
    return m->gpu && m->kinds > 0;
}

static double radius_of(const mesh *m)
{
    return fmax(80, m->gpus * 11.0 + 26);
}

static const char *color_of(int k)
{
    static const char *const colors[KINDS_MAX] = {"#2e8b57", "#2a6fbb", "#b8860b", "#8e44ad", "#c0392b", "#7f8c8d"};
    return colors[k];
}

static double width_of(const mesh *m, int k)
{
    return 1.2 + 2.3 * m->kind[k].bandwidth_Bps / m->kind[0].bandwidth_Bps;
}

static void draw_legend(const mesh *m, double x, double y)
{
    for (int k = 0; k < m->kinds; k++) {
        char rate[32];
        topo_rate_text(m->kind[k].bandwidth_Bps, rate, sizeof rate);
        printf("<path d=\"M%.0f %.0f h28\" stroke=\"%s\" stroke-width=\"%.1f\"/><text x=\"%.0f\" y=\"%.0f\" class=\"m\">%s", x,
               y + k * LINE, color_of(k), width_of(m, k), x + 36, y + k * LINE + 4,
               m->kind[k].kind == WEFT_EDGE_XGMI ? "xGMI" : "NVLink");
        if (m->kind[k].links)
            printf(" %dx", m->kind[k].links);
        printf(", %s%s</text>\n", rate, k + 1 == KINDS_MAX ? " or other" : "");
    }
}

static void draw(const mesh *m, double left, double top)
{
    double radius = radius_of(m), cx = left + radius + LABEL_WIDTH / 2.0 + EDGE, cy = top + HEAD + radius + LABEL_HEIGHT / 2.0,
           turn = 2 * acos(-1) / m->gpus;
    int *place = calloc((size_t)weft_topology_node_count(m->t), sizeof *place);
    for (int i = 0; place && i < m->gpus; i++)
        place[m->gpu[i]] = i;
    printf("<text x=\"%.0f\" y=\"%.0f\" font-weight=\"bold\">links between GPUs</text>\n", left, top + 16);
    for (int i = 0; place && i < weft_topology_edge_count(m->t); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(m->t, i);
        if (!is_direct(m, e))
            continue;
        double a = turn * place[e->a], b = turn * place[e->b];
        int k = class_of(m, e);
        printf("<path d=\"M%.1f %.1f L%.1f %.1f\" stroke=\"%s\" stroke-width=\"%.1f\" stroke-opacity=\".8\"/>\n",
               cx + radius * sin(a), cy - radius * cos(a), cx + radius * sin(b), cy - radius * cos(b), color_of(k),
               width_of(m, k));
    }
    for (int i = 0; i < m->gpus; i++) {
        char label[32];
        double x = cx + radius * sin(turn * i), y = cy - radius * cos(turn * i);
        weft_topology_label(m->t, m->gpu[i], label, sizeof label);
        printf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\" rx=\"4\" fill=\"#c9ecc4\" stroke=\"#8a8f98\"/>"
               "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
               x - LABEL_WIDTH / 2.0, y - LABEL_HEIGHT / 2.0, LABEL_WIDTH, LABEL_HEIGHT, x, y + 4, label);
    }
    draw_legend(m, cx + radius + LABEL_WIDTH, top + HEAD + 10);
    free(place);
}

void topo_draw_mesh(const weft_topology *t, int host, double left, double top, bool measure_only, double *width, double *height)
{
    mesh m = {.t = t, .host = host};
    *width = *height = 0;
    if (find(&m)) {
        *width = 2 * radius_of(&m) + 2 * LABEL_WIDTH + LEGEND_WIDTH;
        *height = fmax(2 * radius_of(&m) + LABEL_HEIGHT, m.kinds * LINE) + HEAD + EDGE;
        if (!measure_only)
            draw(&m, left, top);
    }
    free(m.gpu);
}

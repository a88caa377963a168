/* weft-topo's matrix of path classes, the NIC of each end, and the explanation of one path. Uses only the public headers. */
#include <stdlib.h>
#include <string.h>

#include "topo_args.h"

enum { ENDS_MAX = 256 };

int topo_list_ends(const weft_topology *t, int *list, int room)
{
    static const weft_node_kind kinds[] = {WEFT_NODE_GPU, WEFT_NODE_NIC, WEFT_NODE_NUMA};
    int count = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (int index = 0; index < weft_topology_node_count(t); index++) {
            int found = -1;
            for (int i = 0; i < weft_topology_node_count(t) && found < 0; i++)
                if (weft_topology_get_node(t, i)->kind == kinds[k] && weft_topology_get_node(t, i)->index == index)
                    found = i;
            if (found < 0)
                break;
            if (count < room)
                list[count++] = found;
        }
    }
    return count;
}

/* "NV4" for a bundle of four, else the class. */
static void class_text(const weft_topology *t, const weft_topology_path *path, char *text, size_t bytes)
{
    int links = path->hops ? weft_topology_get_edge(t, path->edge[0])->links : 0;
    if (path->path_class == WEFT_PATH_NVL && links > 0)
        snprintf(text, bytes, "%s%d", weft_topology_get_edge(t, path->edge[0])->kind == WEFT_EDGE_XGMI ? "XG" : "NV", links);
    else
        snprintf(text, bytes, "%s", weft_path_class_name(path->path_class));
}

static void print_legend(const weft_topology *t, const int *list, int count)
{
    puts("\nX: itself; NV# and XG#: so many NVLinks or xGMI links");
    for (int c = WEFT_PATH_LOC; c < WEFT_PATH_NONE; c++)
        printf("%-4s %s\n", weft_path_class_name((weft_path_class)c), weft_path_class_meaning((weft_path_class)c));
    for (int i = 0; i < count; i++) {
        char label[32];
        const weft_topology_node *n = weft_topology_get_node(t, list[i]);
        weft_topology_label(t, list[i], label, sizeof label);
        if (n->kind == WEFT_NODE_NIC && (n->name[0] || n->bus_id[0]))
            printf("%s: %s%s%s\n", label, n->name, n->name[0] && n->bus_id[0] ? "  " : "", n->bus_id);
    }
}

static const char *shade(weft_path_class path_class, bool color)
{
    if (!color)
        return "";
    return path_class <= WEFT_PATH_NVL   ? "\x1b[32m"
           : path_class <= WEFT_PATH_PXB ? "\x1b[36m"
           : path_class <= WEFT_PATH_PHB ? "\x1b[33m"
                                         : "\x1b[31m";
}

int topo_show_matrix(const weft_topology *t, bool color)
{
    int list[ENDS_MAX], count = topo_list_ends(t, list, ENDS_MAX);
    char label[32];
    printf("%-8s", "");
    for (int i = 0; i < count; i++) {
        weft_topology_label(t, list[i], label, sizeof label);
        printf("%-7s", label);
    }
    puts("CPUs");
    for (int i = 0; i < count; i++) {
        weft_topology_label(t, list[i], label, sizeof label);
        printf("%-8s", label);
        for (int j = 0; j < count; j++) {
            weft_topology_path path;
            char text[16] = "X";
            if (weft_topology_find_path(t, list[i], list[j], &path) != WEFT_OK) {
                fprintf(stderr, "weft-topo: %s\n", weft_last_error());
                return TOPO_EXIT_FAILED;
            }
            if (i != j)
                class_text(t, &path, text, sizeof text);
            printf("%s%-7s%s", shade(path.path_class, color), text, color ? "\x1b[0m" : "");
        }
        const char *cpus = NULL;
        for (int up = list[i]; up >= 0 && !cpus; up = weft_topology_get_node(t, up)->parent)
            cpus = weft_topology_attribute(t, up, "cpus");
        puts(cpus ? cpus : "");
    }
    print_legend(t, list, count);
    if (count == ENDS_MAX)
        printf("shown: the first %d; --explain tells of any pair\n", ENDS_MAX);
    return 0;
}

int topo_show_nics(const weft_topology *t)
{
    int list[ENDS_MAX], count = topo_list_ends(t, list, ENDS_MAX), ends = 0, nic[ENDS_MAX];
    weft_node_kind wanted = count && weft_topology_get_node(t, list[0])->kind == WEFT_NODE_GPU ? WEFT_NODE_GPU : WEFT_NODE_NUMA;
    for (int i = 0; i < count; i++)
        if (weft_topology_get_node(t, list[i])->kind == wanted)
            list[ends++] = list[i];
    if (weft_topology_choose_nics(t, list, ends, nic) != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
        return TOPO_EXIT_FAILED;
    }
    printf("%-8s%-8s%-20s%6s%8s%16s\n", "end", "NIC", "name", "rail", "path", "bandwidth");
    for (int i = 0; i < ends; i++) {
        char end[32], label[32] = "none", rate[32] = "";
        weft_topology_path path = {.path_class = WEFT_PATH_NONE};
        weft_topology_label(t, list[i], end, sizeof end);
        if (nic[i] >= 0 && weft_topology_find_path(t, list[i], nic[i], &path) == WEFT_OK) {
            weft_topology_label(t, nic[i], label, sizeof label);
            topo_rate_text(path.bandwidth_Bps, rate, sizeof rate);
        }
        printf("%-8s%-8s%-20s%6d%8s%16s\n", end, label, nic[i] >= 0 ? weft_topology_get_node(t, nic[i])->name : "",
               weft_topology_rail(t, nic[i]), weft_path_class_name(path.path_class), rate);
    }
    return 0;
}

static void print_step(const weft_topology *t, const weft_topology_path *path, int step, int *at)
{
    const weft_topology_edge *e = weft_topology_get_edge(t, path->edge[step]);
    int next = e->a == *at ? e->b : e->a;
    char from[32], to[32], rate[32];
    weft_topology_label(t, *at, from, sizeof from);
    weft_topology_label(t, next, to, sizeof to);
    topo_rate_text(e->bandwidth_Bps, rate, sizeof rate);
    printf("  %-10s -> %-10s %-7s", from, to, weft_edge_kind_name(e->kind));
    printf(e->links ? " x%-3d" : "     ", e->links);
    printf("%14s %6.0f ns  %s%s\n", rate, e->latency_ns, weft_figure_source_name(e->source),
           path->edge[step] == path->bottleneck ? "  <- narrowest" : "");
    *at = next;
}

static void say_why(const weft_topology *t, const weft_topology_path *path)
{
    if (path->bottleneck < 0)
        return;
    const weft_topology_edge *e = weft_topology_get_edge(t, path->bottleneck);
    static const char *const why[WEFT_FIGURE_COUNT] = {
        [WEFT_FIGURE_ASSUMED] = "nobody tells its rate: it is what such links usually have",
        [WEFT_FIGURE_TABLE] = "its rate is that of the standard or the model",
        [WEFT_FIGURE_REPORTED] = "its rate is what the machine reports",
        [WEFT_FIGURE_MEASURED] = "its rate was measured",
    };
    printf("limited by the %s link: %s\n", weft_edge_kind_name(e->kind), why[e->source]);
}

int topo_show_explanation(const weft_topology *t, const char *from, const char *to)
{
    int a = weft_topology_find(t, from), b = weft_topology_find(t, to);
    weft_topology_path path;
    if (a < 0 || b < 0) {
        fprintf(stderr,
                "weft-topo: there is no %s in this machine: give a label (GPU0, NIC1, NUMA0), a name (eth0) or a bus id\n",
                a < 0 ? from : to);
        return TOPO_EXIT_FAILED;
    }
    if (weft_topology_find_path(t, a, b, &path) != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
        return TOPO_EXIT_FAILED;
    }
    char label[2][32], rate[32];
    weft_topology_label(t, a, label[0], sizeof label[0]);
    weft_topology_label(t, b, label[1], sizeof label[1]);
    topo_rate_text(path.bandwidth_Bps, rate, sizeof rate);
    printf("%s to %s: %s: %s\n", label[0], label[1], weft_path_class_name(path.path_class),
           weft_path_class_meaning(path.path_class));
    if (path.hops)
        printf("%s each direction, %.0f ns one way, %d hop%s\n", rate, path.latency_ns, path.hops, path.hops == 1 ? "" : "s");
    for (int i = 0, at = a; i < path.hops; i++)
        print_step(t, &path, i, &at);
    say_why(t, &path);
    return 0;
}

/* weft-topo's rings and trees, drawn as text, and beside those of NCCL. Uses only the public headers. */
#include "topo_args.h"

#include <string.h>

enum { GRAPHS_MAX = 16 };

static void print_ring(const weft_topology *t, const weft_channels *c, int channel)
{
    char label[32];
    if (c->nic[channel] >= 0) {
        weft_topology_label(t, c->nic[channel], label, sizeof label);
        printf("%s -> ", label);
    }
    for (int i = 0; i < c->ends; i++) {
        weft_topology_label(t, c->order[channel * c->ends + i], label, sizeof label);
        printf("%s%s", i ? " -> " : "", label);
    }
    weft_topology_label(t, c->nic[channel] >= 0 ? c->nic[channel] : c->order[channel * c->ends], label, sizeof label);
    printf(" -> %s", label);
}

/* "GPU0(GPU1(GPU3) GPU2)": children in brackets behind their parent. */
static void print_subtree(const weft_topology *t, const weft_channels *c, int channel, int at, int depth)
{
    char label[32];
    const int *parent = c->parent + channel * c->ends;
    weft_topology_label(t, c->order[channel * c->ends + at], label, sizeof label);
    printf("%s", label);
    bool any = false;
    for (int i = at + 1; i < c->ends && depth < 600; i++) {
        if (parent[i] != at)
            continue;
        printf("%s", any ? " " : "(");
        print_subtree(t, c, channel, i, depth + 1);
        any = true;
    }
    printf("%s", any ? ")" : "");
}

static bool same_channel(const weft_channels *c, int a, int b)
{
    size_t bytes = (size_t)c->ends * sizeof(int);
    return c->nic[a] == c->nic[b] && memcmp(c->order + a * c->ends, c->order + b * c->ends, bytes) == 0 &&
           (!c->parent || memcmp(c->parent + a * c->ends, c->parent + b * c->ends, bytes) == 0);
}

int topo_same_channels(const weft_channels *c, int channel)
{
    int same = 1;
    while (channel + same < c->count && same_channel(c, channel, channel + same))
        same++;
    return same;
}

static weft_channels *search(const weft_topology *t, weft_channel_shape shape, int channels, bool network)
{
    weft_channel_request request = {.size = sizeof request, .shape = shape, .channels_max = channels, .network = network};
    weft_channels *c = NULL;
    if (weft_topology_search(t, &request, &c) != WEFT_OK)
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
    return c;
}

static int show_shape(const weft_topology *t, weft_channel_shape shape, const topo_args *args)
{
    const char *name = shape == WEFT_CHANNEL_RING ? "rings" : "trees";
    weft_channels *c = search(t, shape, args->channels, args->network);
    char rate[32], total[32], both[32];
    if (!c)
        return TOPO_EXIT_FAILED;
    if (c->count == 0) {
        printf("%s over %d end%s: none: %s\n", name, c->ends, c->ends == 1 ? "" : "s",
               c->ends == 1 && !args->network ? "there is nothing to join" : "no way joins them all");
        weft_channels_free(c);
        return 0;
    }
    topo_rate_text(c->bandwidth_Bps, rate, sizeof rate);
    topo_rate_text(c->total_Bps, total, sizeof total);
    topo_rate_text(c->both_ways_Bps, both, sizeof both);
    printf("%s over %d ends: %d x %s = %s, over %s", name, c->ends, c->count, rate, total, weft_path_class_name(c->worst));
    if (args->network)
        printf(", to NICs over %s", weft_path_class_name(c->worst_network));
    if (shape == WEFT_CHANNEL_TREE)
        printf("; up and down at once: %s", both);
    putchar('\n');
    for (int k = 0, same; k < c->count; k += same) {
        same = topo_same_channels(c, k);
        printf(same > 1 ? "  %2dx " : "      ", same);
        if (shape == WEFT_CHANNEL_RING) {
            print_ring(t, c, k);
        } else {
            char label[32] = "";
            if (c->nic[k] >= 0)
                weft_topology_label(t, c->nic[k], label, sizeof label);
            printf("%s%s", label, label[0] ? " -> " : "");
            print_subtree(t, c, k, 0, 0);
        }
        putchar('\n');
    }
    weft_channels_free(c);
    return 0;
}

static int draw(const weft_topology *t, const topo_args *args)
{
    weft_channels *c[2] = {args->rings ? search(t, WEFT_CHANNEL_RING, args->channels, args->network) : NULL,
                           args->trees ? search(t, WEFT_CHANNEL_TREE, args->channels, args->network) : NULL};
    bool found = (c[0] || !args->rings) && (c[1] || !args->trees);
    int code = found ? topo_draw_channels(t, c, args->draw == TOPO_DOT) : TOPO_EXIT_FAILED;
    weft_channels_free(c[0]);
    weft_channels_free(c[1]);
    return code;
}

int topo_show_channels(const weft_topology *t, const topo_args *args)
{
    if (args->draw != TOPO_TREE)
        return draw(t, args);
    int code = args->rings ? show_shape(t, WEFT_CHANNEL_RING, args) : 0;
    return args->trees && code == 0 ? show_shape(t, WEFT_CHANNEL_TREE, args) : code;
}

/* The greatest number of channels that NCCL's file asks for is what we may have: it is the product that counts. */
int topo_show_comparison(const weft_topology *t, const char *path)
{
    weft_nccl_graph graph[GRAPHS_MAX];
    int count = 0, worse = 0;
    if (weft_nccl_graph_load(path, graph, GRAPHS_MAX, &count) != WEFT_OK) {
        fprintf(stderr, "weft-topo: %s\n", weft_last_error());
        return TOPO_EXIT_FAILED;
    }
    printf("%-8s%10s%28s%28s%8s\n", "shape", "network", "NCCL", "Weft", "ratio");
    for (int i = 0; i < count && i < GRAPHS_MAX; i++) {
        const weft_nccl_graph *g = &graph[i];
        bool ring = g->pattern == 4, tree = g->pattern >= 1 && g->pattern <= 3;
        if ((!ring && !tree) || g->channels == 0)
            continue;
        weft_channels *c = search(t, ring ? WEFT_CHANNEL_RING : WEFT_CHANNEL_TREE, 0, g->network);
        if (!c)
            return TOPO_EXIT_FAILED;
        double theirs = g->channels * (g->network ? g->inter_Bps : g->intra_Bps);
        char text[2][64];
        snprintf(text[0], sizeof text[0], "%d x %.4g = %.5g GB/s", g->channels, theirs / g->channels / 1e9, theirs / 1e9);
        snprintf(text[1], sizeof text[1], "%d x %.4g = %.5g GB/s", c->count, c->bandwidth_Bps / 1e9, c->total_Bps / 1e9);
        printf("%-8s%10s%28s%28s%8.2f\n", ring ? "ring" : "tree", g->network ? "yes" : "no", text[0], text[1],
               c->total_Bps / theirs);
        worse += c->total_Bps < theirs * 0.999;
        weft_channels_free(c);
    }
    return worse ? TOPO_EXIT_FAILED : 0;
}

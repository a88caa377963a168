/* What differs between two machines: nodes and edges as lines of text under a key, sorted and compared. */
#include <stdlib.h>
#include <string.h>

#include "topology/graph.h"

typedef struct entry {
    char key[96], text[160];
} entry;

/* A bus id is the same on every machine of a kind; what has none goes by its label. */
static void key_of(const weft_topology *t, int node, char *key, size_t bytes)
{
    const weft_topology_node *n = &t->node[node].shown;
    char label[32];
    int host = weft_topology_enclosing(t, node, WEFT_NODE_HOST);
    weft_topology_label(t, node, label, sizeof label);
    if (n->bus_id[0] && host >= 0 && t->node[host].shown.index > 0)
        snprintf(key, bytes, "host%d %s", t->node[host].shown.index, n->bus_id);
    else
        snprintf(key, bytes, "%s", n->bus_id[0] ? n->bus_id : label);
}

static void fill_node(const weft_topology *t, int node, entry *out)
{
    const weft_topology_node *n = &t->node[node].shown;
    char label[32];
    const char *cpus = weft_topology_attribute(t, node, "cpus"), *model = weft_topology_attribute(t, node, "model");
    key_of(t, node, out->key, sizeof out->key);
    weft_topology_label(t, node, label, sizeof label);
    snprintf(out->text, sizeof out->text, "%s%s%.40s%s%.40s%s%.40s", label, n->name[0] ? " " : "", n->name, model ? ", " : "",
             model ? model : "", cpus ? ", CPUs " : "", cpus ? cpus : "");
    if (n->count != 1) {
        size_t used = strlen(out->text);
        snprintf(out->text + used, sizeof out->text - used, ", %d of it", n->count);
    }
}

static void fill_edge(const weft_topology *t, int edge, entry *out)
{
    const weft_topology_edge *e = &t->edge[edge];
    char a[40], b[40];
    key_of(t, e->a, a, sizeof a);
    key_of(t, e->b, b, sizeof b);
    bool swap = strcmp(a, b) > 0;
    snprintf(out->key, sizeof out->key, "%s - %s %s", swap ? b : a, swap ? a : b, weft_edge_kind_name(e->kind));
    snprintf(out->text, sizeof out->text, "%.4g GB/s", e->bandwidth_Bps / 1e9);
    if (e->links) {
        size_t used = strlen(out->text);
        snprintf(out->text + used, sizeof out->text - used, " x%d", e->links);
    }
}

static int by_key(const void *a, const void *b)
{
    int order = strcmp(((const entry *)a)->key, ((const entry *)b)->key);
    return order ? order : strcmp(((const entry *)a)->text, ((const entry *)b)->text);
}

static entry *list_all(const weft_topology *t, int *count)
{
    *count = t->nodes + t->edges;
    entry *list = weft_alloc_array((size_t)*count + 1, sizeof *list);
    for (int i = 0; list && i < t->nodes; i++)
        fill_node(t, i, &list[i]);
    for (int i = 0; list && i < t->edges; i++)
        fill_edge(t, i, &list[t->nodes + i]);
    if (list)
        qsort(list, (size_t)*count, sizeof *list, by_key);
    return list;
}

int weft_topology_diff(const weft_topology *a, const weft_topology *b, void (*differs)(void *context, const char *line),
                       void *context)
{
    int in_a = 0, in_b = 0, found = 0;
    entry *x = list_all(a, &in_a), *y = list_all(b, &in_b);
    for (int i = 0, j = 0; x && y && (i < in_a || j < in_b);) {
        char line[512];
        int order = i == in_a ? 1 : j == in_b ? -1 : strcmp(x[i].key, y[j].key);
        bool same = order == 0 && strcmp(x[i].text, y[j].text) == 0;
        if (order < 0)
            snprintf(line, sizeof line, "- %s: %s", x[i].key, x[i].text);
        else if (order > 0)
            snprintf(line, sizeof line, "+ %s: %s", y[j].key, y[j].text);
        else
            snprintf(line, sizeof line, "~ %s: %s, was %s", x[i].key, y[j].text, x[i].text);
        if (!same) {
            found++;
            differs(context, line);
        }
        i += order <= 0;
        j += order >= 0;
    }
    bool whole = x && y;
    weft_free(x);
    weft_free(y);
    return whole ? found : -1;
}

/* The graph: creation, nodes, attributes, edges, notes, numbering and what the public API reads. Leaves it to derive.c which
 * edges follow from where nodes are, and to verify.c whether the whole is sound. */
#include "topology/graph.h"
#include "topology/document.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

struct weft_text_block {
    struct weft_text_block *next;
    size_t used, room;
    char text[];
};

weft_topology *weft_topology_create(const char *origin)
{
    weft_topology *t = weft_alloc(sizeof *t);
    if (!t)
        return NULL;
    /* There is always a node 0 to look at, also for builders that go on after a failure. */
    t->node_room = 64;
    t->node = weft_alloc_array((size_t)t->node_room, sizeof *t->node);
    if (!t->node) {
        weft_free(t);
        return NULL;
    }
    t->node[0].shown.parent = t->node[0].first_attribute = -1;
    t->network = -1;
    snprintf(t->origin, sizeof t->origin, "%s", origin);
    return t;
}

void weft_topology_free(weft_topology *t)
{
    if (!t)
        return;
    while (t->text) {
        struct weft_text_block *next = t->text->next;
        weft_free(t->text);
        t->text = next;
    }
    for (int i = 0; i < t->notes; i++)
        weft_free(t->note[i]);
    weft_free(t->note);
    weft_free(t->node);
    weft_free(t->edge);
    weft_free(t->edge_order);
    weft_free(t->attribute);
    weft_free(t);
}

/* Room for one more of `bytes` in a growing array; false notes the failure. */
static bool make_room(weft_topology *t, void **array, int count, int *room, size_t bytes, int limit)
{
    if (count >= limit) {
        t->too_large = true;
        return false;
    }
    if (count < *room)
        return true;
    int more = *room ? *room * 2 : 64;
    void *larger = weft_realloc(*array, (size_t)more * bytes);
    if (!larger) {
        t->out_of_memory = true;
        return false;
    }
    *array = larger;
    *room = more;
    return true;
}

/* A copy that lives as long as the topology; control characters, which a terminal would obey, become '?'. */
static const char *keep_text(weft_topology *t, const char *text)
{
    size_t bytes = strnlen(text, WEFT_TOPOLOGY_TEXT_MAX) + 1;
    if (!t->text || t->text->room - t->text->used < bytes) {
        size_t room = weft_max_size(bytes, 8192);
        struct weft_text_block *block = weft_alloc(sizeof *block + room);
        if (!block) {
            t->out_of_memory = true;
            return NULL;
        }
        block->room = room;
        block->next = t->text;
        t->text = block;
    }
    char *copy = t->text->text + t->text->used;
    t->text->used += bytes;
    for (size_t i = 0; i + 1 < bytes; i++)
        copy[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    copy[bytes - 1] = 0;
    return copy;
}

int weft_topology_add_node(weft_topology *t, weft_node_kind kind, int parent)
{
    if (t->out_of_memory || t->too_large ||
        !make_room(t, (void **)&t->node, t->nodes, &t->node_room, sizeof *t->node, WEFT_TOPOLOGY_NODES_MAX))
        return 0;
    weft_graph_node *node = &t->node[t->nodes];
    memset(node, 0, sizeof *node);
    node->shown = (weft_topology_node){.kind = kind, .parent = parent, .os_index = -1, .count = 1};
    node->first_attribute = node->last_attribute = -1;
    return t->nodes++;
}

weft_topology_node *weft_topology_edit(weft_topology *t, int node)
{
    static _Thread_local weft_topology_node nowhere; /* after a failed allocation: written to, never read */
    return node < t->nodes ? &t->node[node].shown : &nowhere;
}

void weft_topology_set(weft_topology *t, int node, const char *name, const char *text)
{
    if (!text || node >= t->nodes)
        return;
    const char *kept = keep_text(t, text);
    if (!kept)
        return;
    weft_graph_node *n = &t->node[node];
    for (int i = n->first_attribute; i >= 0; i = t->attribute[i].next) {
        if (strcmp(t->attribute[i].name, name) == 0) {
            t->attribute[i].text = kept;
            return;
        }
    }
    const char *kept_name = keep_text(t, name);
    if (!kept_name || !make_room(t, (void **)&t->attribute, t->attributes, &t->attribute_room, sizeof *t->attribute,
                                 WEFT_TOPOLOGY_EDGES_MAX))
        return;
    t->attribute[t->attributes] = (weft_attribute){-1, kept_name, kept};
    if (n->last_attribute >= 0)
        t->attribute[n->last_attribute].next = t->attributes;
    else
        n->first_attribute = t->attributes;
    n->last_attribute = t->attributes++;
}

void weft_topology_set_number(weft_topology *t, int node, const char *name, double value)
{
    char text[32];
    locale_t usual = weft_number_begin();
    snprintf(text, sizeof text, "%.15g", value);
    weft_number_end(usual);
    weft_topology_set(t, node, name, text);
}

void weft_topology_set_name(weft_topology *t, int node, const char *name)
{
    char *kept = weft_topology_edit(t, node)->name;
    size_t i = 0;
    for (; name[i] && i + 1 < WEFT_TOPOLOGY_NAME_BYTES; i++)
        kept[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    kept[i] = 0;
}

void weft_topology_add_edge(weft_topology *t, const weft_topology_edge *edge)
{
    if (make_room(t, (void **)&t->edge, t->edges, &t->edge_room, sizeof *t->edge, WEFT_TOPOLOGY_EDGES_MAX))
        t->edge[t->edges++] = *edge;
}

void weft_topology_add_note(weft_topology *t, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    for (int i = 0; i < t->notes; i++)
        if (strcmp(t->note[i], text) == 0)
            return;
    /* A broken file has one fault a thousand times: the first tell enough. */
    if (t->notes >= 100 || !make_room(t, (void **)&t->note, t->notes, &t->note_room, sizeof *t->note, 100))
        return;
    t->note[t->notes] = weft_strdup(text);
    if (t->note[t->notes])
        t->notes++;
    else
        t->out_of_memory = true;
}

int weft_topology_network(weft_topology *t)
{
    if (t->network < 0)
        t->network = weft_topology_add_node(t, WEFT_NODE_NETWORK, -1);
    return t->network;
}

/* ---- finishing --------------------------------------------------------------------------------- */

typedef struct numbered {
    int node, os_index;
} numbered;

static int by_os_index(const void *a, const void *b)
{
    const numbered *x = a, *y = b;
    if (x->os_index != y->os_index)
        return x->os_index < y->os_index ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

/* Numbers the nodes of each kind: by the system's numbers where all of a kind have different ones, else as they came. */
static bool number_nodes(weft_topology *t)
{
    numbered *list = weft_alloc_array((size_t)t->nodes, sizeof *list);
    if (!list)
        return false;
    for (int kind = 0; kind < WEFT_NODE_KIND_COUNT; kind++) {
        int count = 0;
        bool distinct = kind == WEFT_NODE_NUMA || kind == WEFT_NODE_GPU || kind == WEFT_NODE_PACKAGE || kind == WEFT_NODE_NIC;
        for (int i = 0; i < t->nodes; i++)
            if (t->node[i].shown.kind == (weft_node_kind)kind)
                list[count++] = (numbered){i, t->node[i].shown.os_index};
        if (distinct)
            qsort(list, (size_t)count, sizeof *list, by_os_index);
        for (int i = 0; distinct && i < count; i++)
            distinct = list[i].os_index >= 0 && (i == 0 || list[i].os_index != list[i - 1].os_index);
        if (!distinct)
            for (int i = 0, next = 0; i < t->nodes; i++)
                if (t->node[i].shown.kind == (weft_node_kind)kind)
                    list[next++].node = i;
        for (int i = 0; i < count; i++) {
            t->node[list[i].node].shown.index = i;
            t->node[list[i].node].number = distinct && kind != WEFT_NODE_NIC ? list[i].os_index : i;
        }
    }
    weft_free(list);
    return true;
}

static bool index_edges(weft_topology *t)
{
    if (!make_room(t, (void **)&t->node, t->nodes, &t->node_room, sizeof *t->node, WEFT_TOPOLOGY_NODES_MAX + 1))
        return false;
    t->edge_order = weft_alloc_array((size_t)t->edges * 2 + 1, sizeof *t->edge_order);
    int *filled = weft_alloc_array((size_t)t->nodes + 1, sizeof *filled);
    if (t->edge_order && filled) {
        memset(&t->node[t->nodes], 0, sizeof *t->node);
        for (int i = 0; i <= t->nodes; i++)
            t->node[i].edge_begin = 0;
        for (int i = 0; i < t->edges; i++) {
            t->node[t->edge[i].a + 1].edge_begin++;
            t->node[t->edge[i].b + 1].edge_begin++;
        }
        for (int i = 0; i < t->nodes; i++)
            t->node[i + 1].edge_begin += t->node[i].edge_begin;
        for (int i = 0; i < t->edges; i++) {
            int a = t->edge[i].a, b = t->edge[i].b;
            t->edge_order[t->node[a].edge_begin + filled[a]++] = i;
            t->edge_order[t->node[b].edge_begin + filled[b]++] = i;
        }
    }
    bool done = t->edge_order && filled;
    weft_free(filled);
    return done;
}

/* The same two nodes and the same kind side by side, the widest first. */
static int by_ends(const void *x, const void *y)
{
    const weft_topology_edge *e = x, *f = y;
    int e_low = e->a < e->b ? e->a : e->b, e_high = e->a < e->b ? e->b : e->a;
    int f_low = f->a < f->b ? f->a : f->b, f_high = f->a < f->b ? f->b : f->a;
    if (e_low != f_low)
        return e_low < f_low ? -1 : 1;
    if (e_high != f_high)
        return e_high < f_high ? -1 : 1;
    if (e->kind != f->kind)
        return e->kind < f->kind ? -1 : 1;
    if (e->bandwidth_Bps != f->bandwidth_Bps)
        return e->bandwidth_Bps > f->bandwidth_Bps ? -1 : 1;
    return (e->a > f->a) - (e->a < f->a);
}

static void merge_edges(weft_topology *t)
{
    int kept = 0;
    if (t->edges > 1)
        qsort(t->edge, (size_t)t->edges, sizeof *t->edge, by_ends);
    for (int i = 0; i < t->edges; i++) {
        const weft_topology_edge *e = &t->edge[i], *last = kept ? &t->edge[kept - 1] : NULL;
        bool same = last && e->kind == last->kind &&
                    ((e->a == last->a && e->b == last->b) || (e->a == last->b && e->b == last->a));
        if (!same)
            t->edge[kept++] = *e;
    }
    t->edges = kept;
}

weft_status weft_topology_finish(weft_topology *t, bool derive)
{
    if (derive && !t->out_of_memory && !t->too_large)
        weft_topology_derive(t);
    if (t->too_large)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the machine is larger than %d nodes, %d edges and %d NUMA nodes: split the file",
                         WEFT_TOPOLOGY_NODES_MAX, WEFT_TOPOLOGY_EDGES_MAX, WEFT_TOPOLOGY_NUMA_MAX);
    for (int i = 0; i < t->edges; i++)
        if (t->edge[i].a < 0 || t->edge[i].a >= t->nodes || t->edge[i].b < 0 || t->edge[i].b >= t->nodes)
            return weft_fail(WEFT_ERR_INTERNAL, "edge %d joins nodes %d and %d of %d", i, t->edge[i].a, t->edge[i].b, t->nodes);
    merge_edges(t);
    if (t->out_of_memory || !number_nodes(t) || !index_edges(t))
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a topology of %d nodes", t->nodes);
    return weft_topology_verify(t);
}

/* ---- reading ----------------------------------------------------------------------------------- */

int weft_topology_node_count(const weft_topology *t)
{
    return t->nodes;
}

int weft_topology_edge_count(const weft_topology *t)
{
    return t->edges;
}

const weft_topology_node *weft_topology_get_node(const weft_topology *t, int node)
{
    return node >= 0 && node < t->nodes ? &t->node[node].shown : NULL;
}

const weft_topology_edge *weft_topology_get_edge(const weft_topology *t, int edge)
{
    return edge >= 0 && edge < t->edges ? &t->edge[edge] : NULL;
}

int weft_topology_degree(const weft_topology *t, int node)
{
    return node >= 0 && node < t->nodes ? t->node[node + 1].edge_begin - t->node[node].edge_begin : 0;
}

int weft_topology_edge_of(const weft_topology *t, int node, int i)
{
    return i >= 0 && i < weft_topology_degree(t, node) ? t->edge_order[t->node[node].edge_begin + i] : -1;
}

const char *weft_topology_attribute(const weft_topology *t, int node, const char *name)
{
    if (node < 0 || node >= t->nodes)
        return NULL;
    for (int i = t->node[node].first_attribute; i >= 0; i = t->attribute[i].next)
        if (strcmp(t->attribute[i].name, name) == 0)
            return t->attribute[i].text;
    return NULL;
}

bool weft_topology_attribute_at(const weft_topology *t, int node, int i, const char **name, const char **text)
{
    if (node < 0 || node >= t->nodes || i < 0)
        return false;
    int at = t->node[node].first_attribute;
    while (at >= 0 && i-- > 0)
        at = t->attribute[at].next;
    if (at < 0)
        return false;
    *name = t->attribute[at].name;
    *text = t->attribute[at].text;
    return true;
}

double weft_topology_attribute_number(const weft_topology *t, int node, const char *name, double otherwise)
{
    return weft_text_number(weft_topology_attribute(t, node, name), otherwise);
}

const char *weft_topology_note(const weft_topology *t, int i)
{
    return i >= 0 && i < t->notes ? t->note[i] : NULL;
}

const char *weft_topology_origin(const weft_topology *t)
{
    return t->origin;
}

int weft_topology_enclosing(const weft_topology *t, int node, weft_node_kind kind)
{
    while (node >= 0 && node < t->nodes && t->node[node].shown.kind != kind)
        node = t->node[node].shown.parent;
    return node < t->nodes ? node : -1;
}

weft_status weft_topology_verify(const weft_topology *t)
{
    char fault[256];
    return weft_topology_sound(t, fault, sizeof fault) ? WEFT_OK : weft_fail(WEFT_ERR_INTERNAL, "%s", fault);
}

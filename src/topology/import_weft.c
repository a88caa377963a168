/* Weft's own XML and JSON: what export.c writes, node for node and edge for edge. */
#include <ctype.h>
#include <string.h>

#include "topology/import.h"

enum { FORMAT_VERSION = 1 };

static int find_name(const char *text, const char *(*name_of)(int), int count)
{
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, name_of(i)) == 0)
            return i;
    return -1;
}

static const char *node_kind(int i)
{
    return weft_node_kind_name((weft_node_kind)i);
}

static const char *edge_kind(int i)
{
    return weft_edge_kind_name((weft_edge_kind)i);
}

static const char *figure(int i)
{
    return weft_figure_source_name((weft_figure_source)i);
}

/* Names that XML can hold: what is read must be writable again. */
static bool is_attribute_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("_.-", *name))
            return false;
    return true;
}

static void read_attributes(const weft_document *d, int element, weft_topology *t, int node)
{
    int list = weft_document_child(d, element, -1, "attributes");
    for (int i = list >= 0 ? d->element[list].first_attribute : -1; i >= 0; i = d->attribute[i].next) {
        if (is_attribute_name(d->attribute[i].name))
            weft_topology_set(t, node, d->attribute[i].name, d->attribute[i].value);
        else
            weft_topology_add_note(t, "line %d: an attribute's name is not a word: left out", d->element[list].line);
    }
}

static weft_status read_node(const weft_document *d, int element, weft_topology *t)
{
    const char *text = weft_document_get(d, element, "kind"), *name = weft_document_get(d, element, "name");
    const char *bus_id = weft_document_get(d, element, "bus");
    int kind = find_name(text, node_kind, WEFT_NODE_KIND_COUNT);
    if (kind < 0)
        return weft_document_fail(d, element, "kind \"%.40s\" is no kind of node", text ? text : "");
    if (weft_document_int(d, element, "id", 0, WEFT_TOPOLOGY_NODES_MAX, -1) != t->nodes)
        return weft_document_fail(d, element, "node ids count from 0: %d is expected here", t->nodes);
    int64_t parent = weft_document_int(d, element, "parent", -1, WEFT_TOPOLOGY_NODES_MAX, -1);
    if (parent >= t->nodes)
        return weft_document_fail(d, element, "parent %d does not stand before its child", (int)parent);
    int node = weft_topology_add_node(t, (weft_node_kind)kind, (int)parent);
    weft_topology_node *n = weft_topology_edit(t, node);
    n->os_index = (int)weft_document_int(d, element, "os", 0, 1 << 30, -1);
    n->count = (int)weft_document_int(d, element, "count", 0, 1 << 30, 1);
    n->pci_class = (uint32_t)weft_document_int(d, element, "class", 0, 0xffffff, 0);
    n->vendor = (uint32_t)weft_document_int(d, element, "vendor", 0, 0xffff, 0);
    n->device = (uint32_t)weft_document_int(d, element, "device", 0, 0xffff, 0);
    if (bus_id && !weft_bus_id_parse(bus_id, n->bus_id))
        return weft_document_fail(d, element, "bus \"%.40s\" is no PCI address", bus_id);
    if (kind == WEFT_NODE_NETWORK)
        t->network = node;
    if (name)
        weft_topology_set_name(t, node, name);
    read_attributes(d, element, t, node);
    return WEFT_OK;
}

static weft_status read_edge(const weft_document *d, int element, weft_topology *t)
{
    const char *text = weft_document_get(d, element, "kind"), *source = weft_document_get(d, element, "source");
    int kind = find_name(text, edge_kind, WEFT_EDGE_KIND_COUNT), from = find_name(source, figure, WEFT_FIGURE_COUNT);
    weft_topology_edge edge = {.kind = (weft_edge_kind)kind, .source = (weft_figure_source)from};
    edge.a = (int)weft_document_int(d, element, "a", 0, t->nodes - 1, -1);
    edge.b = (int)weft_document_int(d, element, "b", 0, t->nodes - 1, -1);
    edge.links = (int)weft_document_int(d, element, "links", 0, 1 << 20, 0);
    edge.bandwidth_Bps = weft_document_double(d, element, "bandwidth_Bps", 0);
    edge.latency_ns = weft_document_double(d, element, "latency_ns", -1);
    if (kind < 0 || from < 0)
        return weft_document_fail(d, element, "\"%.40s\" is no kind of edge or \"%.40s\" no source of a figure", text ? text : "",
                                  source ? source : "");
    if (edge.a < 0 || edge.b < 0 || edge.a == edge.b)
        return weft_document_fail(d, element, "an edge joins two different nodes that stand in the file");
    if (edge.bandwidth_Bps <= 0 || edge.latency_ns < 0)
        return weft_document_fail(d, element, "an edge needs bandwidth_Bps above 0 and latency_ns of 0 or more");
    weft_topology_add_edge(t, &edge);
    return WEFT_OK;
}

/* In XML nodes stand in <nodes>; in JSON each member of the array "nodes" is an element of that name. */
static weft_status read_list(const weft_document *d, int root, const char *list, weft_topology *t,
                             weft_status (*read)(const weft_document *d, int element, weft_topology *t))
{
    weft_status status = WEFT_OK;
    for (int at = -1; status == WEFT_OK && (at = weft_document_child(d, root, at, list)) >= 0;) {
        if (d->element[at].first_attribute >= 0) {
            status = read(d, at, t);
            continue;
        }
        for (int child = -1; status == WEFT_OK && (child = weft_document_child(d, at, child, NULL)) >= 0;)
            status = read(d, child, t);
    }
    return status;
}

static weft_status read_note(const weft_document *d, int element, weft_topology *t)
{
    const char *text = weft_document_get(d, element, "text");
    weft_topology_add_note(t, "%s", text ? text : "");
    return WEFT_OK;
}

weft_status weft_import_weft(const weft_document *d, weft_topology **out)
{
    bool xml = weft_document_is(d, 0, "weft-topology");
    int root = xml ? 0 : weft_document_child(d, 0, -1, "weft_topology");
    if (root < 0)
        return weft_document_fail(d, 0, "JSON without a member weft_topology: not a machine file of Weft");
    const char *origin = weft_document_get(d, root, "origin");
    if (weft_document_int(d, root, "version", 1, 1000, -1) != FORMAT_VERSION)
        return weft_document_fail(d, root, "version %.20s of Weft's topology is not known: %d is",
                                  weft_document_get(d, root, "version") ? weft_document_get(d, root, "version") : "(none)",
                                  FORMAT_VERSION);
    weft_topology *t = weft_topology_create("");
    if (!t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", d->file);
    for (size_t i = 0; origin && origin[i] && i + 1 < sizeof t->origin; i++)
        t->origin[i] = (unsigned char)origin[i] < 0x20 || origin[i] == 0x7f ? '?' : origin[i];
    weft_status status = read_list(d, root, "nodes", t, read_node);
    if (status == WEFT_OK)
        status = read_list(d, root, "edges", t, read_edge);
    if (status == WEFT_OK)
        status = read_list(d, root, "notes", t, read_note);
    return weft_import_done(t, status, false, d->file, out);
}

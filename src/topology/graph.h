/* The graph behind weft_topology and how importers build it: nodes and attributes first, explicit links next, then
 * weft_topology_finish, which adds the edges that follow from where nodes are, numbers them and proves the whole. */
#ifndef WEFT_TOPOLOGY_GRAPH_H
#define WEFT_TOPOLOGY_GRAPH_H

#include <weft/topology.h>

#include "base/base.h"

enum {
    WEFT_TOPOLOGY_NODES_MAX = 1 << 18,
    WEFT_TOPOLOGY_EDGES_MAX = 1 << 20,
    WEFT_TOPOLOGY_NUMA_MAX = 512, /* each pair has an edge */
    WEFT_TOPOLOGY_TEXT_MAX = 4096 /* an attribute's or a note's length; what is longer is cut */
};

typedef struct weft_attribute {
    int next; /* of the same node, -1: last */
    const char *name, *text;
} weft_attribute;

typedef struct weft_graph_node {
    weft_topology_node shown;
    int first_attribute, last_attribute;
    int number;      /* in the label: os_index where those are distinct, else index */
    int edge_begin;  /* in edge_order; edges of node n: edge_begin .. that of n + 1 */
} weft_graph_node;

struct weft_topology {
    weft_graph_node *node; /* nodes + 1 once finished: the last one closes edge_begin */
    weft_topology_edge *edge;
    weft_attribute *attribute;
    int *edge_order;
    char **note;
    struct weft_text_block *text; /* strings of attributes */
    int nodes, node_room, edges, edge_room, attributes, attribute_room, notes, note_room;
    int network;                  /* node, -1: none yet */
    bool out_of_memory, too_large;
    char origin[48];
};

/* An empty topology, NULL if there is no memory. Builders below note a failure in it; weft_topology_finish reports it. */
weft_topology *weft_topology_create(const char *origin);
/* Adds a node and gives its number; 0 after a failure, so that a builder need not look. */
int weft_topology_add_node(weft_topology *t, weft_node_kind kind, int parent);
weft_topology_node *weft_topology_edit(weft_topology *t, int node);
/* Sets or replaces an attribute; a NULL text is left out. */
void weft_topology_set(weft_topology *t, int node, const char *name, const char *text);
void weft_topology_set_number(weft_topology *t, int node, const char *name, double value);
/* Copies at most what fits; control characters become '?'. */
void weft_topology_set_name(weft_topology *t, int node, const char *name);
/* Adds an edge. Of several of one kind between the same two nodes finish keeps the widest: a pair's two rows in a file describe
 * the same links. */
void weft_topology_add_edge(weft_topology *t, const weft_topology_edge *edge);
void weft_topology_add_note(weft_topology *t, const char *format, ...) WEFT_PRINTF(2, 3);
/* The network that all ports of all hosts share; made on first use. */
int weft_topology_network(weft_topology *t);
/* Adds the edges that follow from parents and attributes (derive), numbers, indexes and verifies. On failure the caller still
 * owns t. */
weft_status weft_topology_finish(weft_topology *t, bool derive);

/* derive.c: the edges that follow from where nodes are. */
void weft_topology_derive(weft_topology *t);
/* verify.c: what is wrong with the graph, empty text: nothing. */
bool weft_topology_sound(const weft_topology *t, char *fault, size_t bytes);

double weft_topology_attribute_number(const weft_topology *t, int node, const char *name, double otherwise);
/* "0000:3b:00.0" in the shape that the kernel prints, from anything that is one ("3B:00.0", "00000000:3B:00.0");
 * false: it is none. */
bool weft_bus_id_parse(const char *text, char out[WEFT_BUS_ID_BYTES]);
/* A node by its bus id, -1. */
int weft_topology_find_bus(const weft_topology *t, const char *bus_id);
/* The kind of a PCI function by class and vendor: GPU, NIC, bridge or other device. */
weft_node_kind weft_pci_kind(uint32_t pci_class, uint32_t vendor);
/* NVSwitch chips: NVIDIA's bridges of class 0680. */
bool weft_pci_is_nvswitch(uint32_t pci_class, uint32_t vendor);
#endif

/* Names of kinds and classes, labels that people see, and how a text finds a node. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "topology/cpus.h"
#include "topology/graph.h"

static const char *const kind_names[] = {
#define NAME(name, text, label) [name] = text,
    WEFT_NODE_LIST(NAME)
#undef NAME
};
static const char *const kind_labels[] = {
#define LABEL(name, text, label) [name] = label,
    WEFT_NODE_LIST(LABEL)
#undef LABEL
};
static const char *const edge_names[] = {
#define NAME(name, text) [name] = text,
    WEFT_EDGE_LIST(NAME)
#undef NAME
};
static const char *const figure_names[] = {
#define NAME(name, text) [name] = text,
    WEFT_FIGURE_LIST(NAME)
#undef NAME
};
static const char *const path_names[] = {
#define NAME(name, text, meaning) [name] = text,
    WEFT_PATH_LIST(NAME)
#undef NAME
};
static const char *const path_meanings[] = {
#define MEANING(name, text, meaning) [name] = meaning,
    WEFT_PATH_LIST(MEANING)
#undef MEANING
};

static const char *pick(const char *const *names, size_t count, int i)
{
    return i >= 0 && (size_t)i < count ? names[i] : "?";
}

const char *weft_node_kind_name(weft_node_kind kind)
{
    return pick(kind_names, ARRAY_LEN(kind_names), (int)kind);
}

const char *weft_edge_kind_name(weft_edge_kind kind)
{
    return pick(edge_names, ARRAY_LEN(edge_names), (int)kind);
}

const char *weft_figure_source_name(weft_figure_source source)
{
    return pick(figure_names, ARRAY_LEN(figure_names), (int)source);
}

const char *weft_path_class_name(weft_path_class path_class)
{
    return pick(path_names, ARRAY_LEN(path_names), (int)path_class);
}

const char *weft_path_class_meaning(weft_path_class path_class)
{
    return pick(path_meanings, ARRAY_LEN(path_meanings), (int)path_class);
}

void weft_topology_label(const weft_topology *t, int node, char *text, size_t bytes)
{
    if (node < 0 || node >= t->nodes)
        snprintf(text, bytes, "?");
    else
        snprintf(text, bytes, "%s%d", kind_labels[t->node[node].shown.kind], t->node[node].number);
}

bool weft_bus_id_parse(const char *text, char out[WEFT_BUS_ID_BYTES])
{
    unsigned domain = 0, bus, slot, function;
    int end = 0;
    if (text[strspn(text, "0123456789abcdefABCDEF:.")] != 0) /* sscanf would take signs and spaces */
        return false;
    bool full = sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) == 4 && text[end] == 0;
    if (!full) {
        domain = 0;
        end = 0;
        if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &end) != 3 || text[end] != 0)
            return false;
    }
    snprintf(out, WEFT_BUS_ID_BYTES, "%04x:%02x:%02x.%x", domain, bus, slot, function);
    return true;
}

int weft_topology_find_bus(const weft_topology *t, const char *bus_id)
{
    for (int i = 0; i < t->nodes; i++)
        if (t->node[i].shown.bus_id[0] && strcmp(t->node[i].shown.bus_id, bus_id) == 0)
            return i;
    return -1;
}

/* "gpu3", "L3-0", "switch 2": a label without regard to case and to a space before the number. */
static int find_label(const weft_topology *t, const char *text)
{
    for (size_t kind = 0; kind < ARRAY_LEN(kind_labels); kind++) {
        size_t length = strlen(kind_labels[kind]);
        if (strncasecmp(text, kind_labels[kind], length) != 0)
            continue;
        const char *digits = text + length;
        while (*digits == ' ')
            digits++;
        char *end;
        long number = strtol(digits, &end, 10);
        if (!isdigit((unsigned char)*digits) || *end)
            continue;
        for (int i = 0; i < t->nodes; i++)
            if (t->node[i].shown.kind == (weft_node_kind)kind && t->node[i].number == number)
                return i;
    }
    return -1;
}

int weft_topology_find(const weft_topology *t, const char *text)
{
    char bus_id[WEFT_BUS_ID_BYTES];
    if (!text)
        return -1;
    int node = find_label(t, text);
    for (int i = 0; node < 0 && *text && i < t->nodes; i++)
        if (strcmp(t->node[i].shown.name, text) == 0)
            node = i;
    if (node < 0 && weft_bus_id_parse(text, bus_id))
        node = weft_topology_find_bus(t, bus_id);
    return node;
}

int weft_topology_find_cpu(const weft_topology *t, int cpu)
{
    static const int fineness[WEFT_NODE_KIND_COUNT] = {
        [WEFT_NODE_HOST] = 1, [WEFT_NODE_PACKAGE] = 2, [WEFT_NODE_NUMA] = 3, [WEFT_NODE_L3] = 4, [WEFT_NODE_CORES] = 5,
    };
    int best = -1;
    for (int i = 0; i < t->nodes; i++) {
        int fine = fineness[t->node[i].shown.kind];
        if (fine == 0 || (best >= 0 && fine <= fineness[t->node[best].shown.kind]))
            continue;
        const char *cpus = weft_topology_attribute(t, i, "cpus");
        if (cpus && weft_cpus_has(cpus, cpu))
            best = i;
    }
    return best;
}

weft_node_kind weft_pci_kind(uint32_t pci_class, uint32_t vendor)
{
    /* Display adapters of board management controllers are no GPUs. NVSwitch chips (bridges of class 0680) are devices: what
     * carries bytes is the fabric that they make together. */
    enum { MATROX = 0x102b, ASPEED = 0x1a03, CIRRUS = 0x1013, BOCHS = 0x1234, HUAWEI = 0x19e5, XGI = 0x18ca };
    switch (pci_class >> 16) {
    case 0x02:
        return WEFT_NODE_NIC;
    case 0x03:
        return vendor == MATROX || vendor == ASPEED || vendor == CIRRUS || vendor == BOCHS || vendor == HUAWEI || vendor == XGI
                   ? WEFT_NODE_PCI_DEVICE : WEFT_NODE_GPU;
    case 0x12:
        return WEFT_NODE_GPU;
    case 0x06:
        return pci_class >> 8 == 0x0604 ? WEFT_NODE_PCI_BRIDGE : WEFT_NODE_PCI_DEVICE;
    default:
        return WEFT_NODE_PCI_DEVICE;
    }
}

bool weft_pci_is_nvswitch(uint32_t pci_class, uint32_t vendor)
{
    return pci_class >> 8 == 0x0680 && vendor == 0x10de;
}

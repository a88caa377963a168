/* PCI from sysfs: roots, switches, GPUs, NICs and NVSwitch chips with the speed and width that each link runs at. */
#include <stdlib.h>
#include <string.h>

#include "topology/live.h"

enum { DEVICES_MAX = 16384, CHAIN_MAX = 32 };

typedef struct device {
    char bus_id[WEFT_BUS_ID_BYTES];
    char root[32];                             /* "pci0000:00" */
    char chain[CHAIN_MAX][WEFT_BUS_ID_BYTES];  /* bridges above, the outermost first */
    int above;
    bool virtual_function;
    uint32_t pci_class, vendor;
} device;

static uint32_t read_hex(const weft_live *l, const char *bus_id, const char *file)
{
    char text[32];
    return weft_live_read(l, text, sizeof text, "/sys/bus/pci/devices/%s/%s", bus_id, file) ? (uint32_t)strtoul(text, NULL, 16)
                                                                                            : 0;
}

/* ".../pci0000:00/0000:00:01.0/0000:01:00.0": the root, the bridges and last the device itself. */
static void read_chain(const weft_live *l, device *d)
{
    char path[WEFT_LIVE_PATH], *save, id[WEFT_BUS_ID_BYTES];
    if (!weft_live_resolve(l, path, sizeof path, "/sys/bus/pci/devices/%s", d->bus_id))
        return;
    for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (strncmp(part, "pci", 3) == 0 && strchr(part, ':'))
            snprintf(d->root, sizeof d->root, "%.31s", part);
        else if (d->root[0] && weft_bus_id_parse(part, id) && strcmp(id, d->bus_id) != 0 && d->above < CHAIN_MAX)
            memcpy(d->chain[d->above++], id, sizeof id);
    }
}

static void set_link(weft_live *l, int node, const char *bus_id)
{
    static const struct {
        const char *file, *attribute;
    } files[] = {{"current_link_speed", "link_speed"}, {"current_link_width", "link_width"},
                 {"max_link_speed", "max_link_speed"}, {"max_link_width", "max_link_width"},
                 {"subsystem_vendor", "subsystem_vendor"}, {"subsystem_device", "subsystem_device"}};
    char text[64];
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (weft_live_read(l, text, sizeof text, "/sys/bus/pci/devices/%s/%s", bus_id, files[i].file))
            weft_topology_set(l->t, node, files[i].attribute, text);
}

static int add_pci(weft_live *l, weft_node_kind kind, int parent, const char *bus_id)
{
    int node = weft_topology_add_node(l->t, kind, parent);
    weft_topology_node *n = weft_topology_edit(l->t, node);
    memcpy(n->bus_id, bus_id, WEFT_BUS_ID_BYTES);
    n->pci_class = read_hex(l, bus_id, "class") & 0xffffff;
    n->vendor = read_hex(l, bus_id, "vendor") & 0xffff;
    n->device = read_hex(l, bus_id, "device") & 0xffff;
    set_link(l, node, bus_id);
    return node;
}

static int find_root(weft_live *l, const device *d)
{
    char text[32];
    int numa_id =
        weft_live_read(l, text, sizeof text, "/sys/bus/pci/devices/%s/numa_node", d->bus_id) ? (int)strtol(text, NULL, 10) : -1;
    int numa = weft_live_numa(l, numa_id);
    for (int i = 0; i < l->t->nodes; i++)
        if (l->t->node[i].shown.kind == WEFT_NODE_PCI_ROOT && strcmp(l->t->node[i].shown.name, d->root) == 0)
            return i;
    int root = weft_topology_add_node(l->t, WEFT_NODE_PCI_ROOT, numa >= 0 ? numa : l->host);
    weft_topology_set_name(l->t, root, d->root);
    if (numa_id < 0 && weft_live_exists(l, "/sys/devices/system/node/node1"))
        weft_topology_add_note(l->t, "%s does not tell its NUMA node: taken as on the first", d->root);
    return root;
}

/* The NIC whose virtual function this is, -1: it is none or its NIC cannot be seen from here. */
static int physical_function(weft_live *l, const char *bus_id)
{
    char path[WEFT_LIVE_PATH], id[WEFT_BUS_ID_BYTES];
    if (!weft_live_resolve(l, path, sizeof path, "/sys/bus/pci/devices/%s/physfn", bus_id))
        return -1;
    const char *last = strrchr(path, '/');
    int node = last && weft_bus_id_parse(last + 1, id) ? weft_topology_find_bus(l->t, id) : -1;
    return node >= 0 && l->t->node[node].shown.kind == WEFT_NODE_NIC ? node : -1;
}

/* Functions of one card hang on one port and share its link. Virtual ones hang on their physical one. */
static bool shares_port(const device *list, int count, const device *d)
{
    for (int i = 0; i < count; i++)
        if (&list[i] != d && !list[i].virtual_function && d->above && list[i].above == d->above &&
            strcmp(list[i].chain[d->above - 1], d->chain[d->above - 1]) == 0)
            return true;
    return false;
}

static void add_device(weft_live *l, const device *list, int count, const device *d)
{
    weft_node_kind kind = weft_pci_kind(d->pci_class, d->vendor);
    int above = find_root(l, d), physical = kind == WEFT_NODE_NIC ? physical_function(l, d->bus_id) : -1;
    bool shared = !d->virtual_function && shares_port(list, count, d), at_port = false;
    /* Root port, switch, its downstream port, and so on: ports are the other end of the link that is below them. */
    for (int i = 0; i < d->above && physical < 0; i++) {
        bool port = i % 2 == 0;
        at_port = port && i + 1 == d->above && shared;
        if (port && !at_port)
            continue;
        int known = weft_topology_find_bus(l->t, d->chain[i]);
        above = known >= 0 ? known : add_pci(l, WEFT_NODE_PCI_BRIDGE, above, d->chain[i]);
        if (at_port) { /* its link is that of the card */
            weft_topology_set(l->t, above, "port", "1");
            set_link(l, above, d->bus_id);
        }
    }
    int node = add_pci(l, kind, physical >= 0 ? physical : above, d->bus_id);
    if (d->virtual_function)
        weft_topology_set(l->t, node, "virtual", "1");
    if (physical < 0 && at_port)
        weft_topology_set(l->t, node, "function", "1");
}

void weft_live_pci(weft_live *l)
{
    char **name = weft_alloc_array(DEVICES_MAX, sizeof *name);
    device *list = NULL;
    int count = name ? weft_live_list(l, "/sys/bus/pci/devices", name, DEVICES_MAX) : 0, wanted = 0;
    list = weft_alloc_array((size_t)count + 1, sizeof *list);
    if (!name || !list)
        l->t->out_of_memory = true;
    if (count == 0)
        weft_topology_add_note(l->t, "%s/sys/bus/pci shows no devices: GPUs and NICs have no place in the tree", l->root);
    for (int i = 0; i < count && list; i++) {
        device *d = &list[wanted];
        memset(d, 0, sizeof *d);
        if (!weft_bus_id_parse(name[i], d->bus_id))
            continue;
        d->pci_class = read_hex(l, d->bus_id, "class") & 0xffffff;
        d->vendor = read_hex(l, d->bus_id, "vendor") & 0xffff;
        weft_node_kind kind = weft_pci_kind(d->pci_class, d->vendor);
        if (kind != WEFT_NODE_GPU && kind != WEFT_NODE_NIC && !weft_pci_is_nvswitch(d->pci_class, d->vendor))
            continue;
        read_chain(l, d);
        d->virtual_function = weft_live_exists(l, "/sys/bus/pci/devices/%s/physfn", d->bus_id);
        wanted += d->root[0] != 0;
    }
    for (int i = 0; i < wanted; i++)
        add_device(l, list, wanted, &list[i]);
    for (int i = 0; i < count; i++)
        weft_free(name[i]);
    weft_free(name);
    weft_free(list);
}

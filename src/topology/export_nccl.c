/* NCCL topology XML, for NCCL_TOPO_FILE: NUMA nodes with what hangs on them. Nodes that NCCL does not know are left out, and
 * what is in them moves up. */
#include <string.h>

#include "topology/cpus.h"
#include "topology/export.h"

static void indent(FILE *out, int depth)
{
    fprintf(out, "%*s", depth * 2, "");
}

static void put(FILE *out, const char *name, const char *text)
{
    fprintf(out, " %s=", name);
    weft_export_xml_text(out, text ? text : "");
}

static void put_if(FILE *out, const weft_topology *t, int node, const char *name)
{
    const char *text = weft_topology_attribute(t, node, name);
    if (text)
        put(out, name, text);
}

static bool is_kind(const weft_topology *t, int node, weft_node_kind kind)
{
    return weft_topology_get_node(t, node)->kind == kind;
}

/* The bus id by which a GPU is named; one that no machine has where none is known, as in a matrix. */
static void bus_id_of(const weft_topology *t, int node, char out[WEFT_BUS_ID_BYTES])
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    if (n->bus_id[0])
        snprintf(out, WEFT_BUS_ID_BYTES, "%s", n->bus_id);
    else
        snprintf(out, WEFT_BUS_ID_BYTES, "fffe:%02x:%02x.0", (unsigned)n->index / 32 % 256, (unsigned)n->index % 32);
}

/* The first chip of the fabric takes the remainder; NCCL adds them all up again. */
static void put_fabric_links(FILE *out, const weft_topology *t, const weft_topology_edge *e, int fabric, int depth)
{
    const char *chips = weft_topology_attribute(t, fabric, "chips");
    int count = weft_topology_get_node(t, fabric)->count, links = e->links > 0 ? e->links : 1;
    char bus_id[WEFT_BUS_ID_BYTES];
    for (int i = 0; chips && *chips && i < count; i++) {
        size_t length = strcspn(chips, " ");
        int share = links / count + (i < links % count);
        char chip[32];
        snprintf(chip, sizeof chip, "%.*s", (int)weft_min_size(length, 31), chips);
        chips += length + (chips[length] == ' ');
        if (share == 0)
            continue;
        indent(out, depth);
        fprintf(out, "<nvlink target=\"%s\" count=\"%d\" tclass=\"0x068000\"/>\n",
                weft_bus_id_parse(chip, bus_id) ? bus_id : "ffff:f0:00.0", share);
    }
}

static void put_links(FILE *out, const weft_topology *t, int gpu, int depth)
{
    for (int i = 0; i < weft_topology_degree(t, gpu); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(t, weft_topology_edge_of(t, gpu, i));
        int peer = e->a == gpu ? e->b : e->a;
        const weft_topology_node *p = weft_topology_get_node(t, peer);
        bool xgmi = e->kind == WEFT_EDGE_XGMI;
        if (e->kind == WEFT_EDGE_C2C) {
            indent(out, depth);
            fprintf(out, "<c2c bw=\"%.0f\" count=\"%d\"/>\n", e->bandwidth_Bps / 1e6 / (e->links ? e->links : 1),
                    e->links ? e->links : 1);
        } else if ((e->kind == WEFT_EDGE_NVLINK || xgmi) && p->kind == WEFT_NODE_NVSWITCH) {
            put_fabric_links(out, t, e, peer, depth);
        } else if (e->kind == WEFT_EDGE_NVLINK || xgmi) {
            char bus_id[WEFT_BUS_ID_BYTES] = "ffff:fd:00.0"; /* a processor's */
            if (p->kind == WEFT_NODE_GPU)
                bus_id_of(t, peer, bus_id);
            indent(out, depth);
            fprintf(out, "<%s target=\"%s\" count=\"%d\" tclass=\"0x%06x\"/>\n", xgmi ? "xgmi" : "nvlink", bus_id,
                    e->links ? e->links : 1,
                    p->kind == WEFT_NODE_GPU ? (unsigned)(p->pci_class ? p->pci_class : 0x030200) : 0x068001u);
        }
    }
}

static void put_gpu(FILE *out, const weft_topology *t, int gpu, int depth)
{
    const weft_topology_node *n = weft_topology_get_node(t, gpu);
    static const char *const kept[] = {"sm", "gcn", "arch", "rank", "gdr"};
    indent(out, depth);
    fprintf(out, "<gpu dev=\"%d\"", n->os_index >= 0 ? n->os_index : n->index);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        put_if(out, t, gpu, kept[i]);
    fputs(">\n", out);
    put_links(out, t, gpu, depth + 1);
    indent(out, depth);
    fputs("</gpu>\n", out);
}

static bool has_wire(const weft_topology *t, int port)
{
    bool found = false;
    for (int e = 0; e < weft_topology_degree(t, port); e++)
        found |= weft_topology_get_edge(t, weft_topology_edge_of(t, port, e))->kind == WEFT_EDGE_WIRE;
    return found;
}

static void put_ports(FILE *out, const weft_topology *t, int nic, int depth)
{
    static const char *const kept[] = {"port", "latency", "guid", "maxconn", "gdr", "coll"};
    indent(out, depth);
    fputs("<nic>\n", out);
    for (int i = nic + 1; i < weft_topology_node_count(t); i++) {
        const weft_topology_node *n = weft_topology_get_node(t, i);
        if (n->kind != WEFT_NODE_PORT || n->parent != nic || !has_wire(t, i))
            continue;
        indent(out, depth + 1);
        fputs("<net", out);
        put(out, "name", n->name);
        fprintf(out, " dev=\"%d\"", n->os_index >= 0 ? n->os_index : n->index);
        for (int e = 0; e < weft_topology_degree(t, i); e++) {
            const weft_topology_edge *edge = weft_topology_get_edge(t, weft_topology_edge_of(t, i, e));
            if (edge->kind == WEFT_EDGE_WIRE)
                fprintf(out, " speed=\"%.0f\"", edge->bandwidth_Bps * 8 / 1e6);
        }
        for (size_t k = 0; k < ARRAY_LEN(kept); k++)
            put_if(out, t, i, kept[k]);
        fputs("/>\n", out);
    }
    indent(out, depth);
    fputs("</nic>\n", out);
}

/* hwloc tells a link's coded bytes, NCCL wants a generation and a width: the oldest generation that does it with 16 lanes. */
static void put_link(FILE *out, const weft_topology *t, int node)
{
    double whole = weft_topology_attribute_number(t, node, "link_GBps", 0), gts = 2.5;
    if (whole <= 0) {
        put(out, "link_speed", weft_topology_attribute(t, node, "link_speed"));
        put(out, "link_width", weft_topology_attribute(t, node, "link_width"));
        return;
    }
    while (gts < 64 && gts * (gts <= 5 ? 0.1 : 0.12308) * 16 < whole * 0.99)
        gts = gts == 5 ? 8 : gts * 2;
    double lane = gts * (gts <= 5 ? 0.1 : 0.12308);
    int width = 16;
    while (width > 1 && lane * (width / 2) > whole * 0.99)
        width /= 2;
    fprintf(out, " link_speed=\"%.1f GT/s PCIe\" link_width=\"%d\"", gts, width);
}

static void put_pci_start(FILE *out, const weft_topology *t, int node, int depth)
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    char bus_id[WEFT_BUS_ID_BYTES];
    bus_id_of(t, node, bus_id);
    indent(out, depth);
    fprintf(out, "<pci busid=\"%s\" class=\"0x%06x\"", bus_id,
            n->kind == WEFT_NODE_GPU && !n->pci_class ? 0x030200u : (unsigned)n->pci_class);
    fprintf(out, " vendor=\"0x%04x\" device=\"0x%04x\"", (unsigned)n->vendor, (unsigned)n->device);
    put_if(out, t, node, "subsystem_vendor");
    put_if(out, t, node, "subsystem_device");
    put_link(out, t, node);
    fputs(">\n", out);
}

static void put_below(FILE *out, const weft_topology *t, int parent, int depth);

static void put_device(FILE *out, const weft_topology *t, int node, int depth)
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    bool slot = n->bus_id[0] != 0 || n->kind == WEFT_NODE_GPU;
    if (n->kind == WEFT_NODE_NIC && weft_topology_nic_bandwidth(t, node) == 0)
        return; /* NCCL lists what it can use */
    if (!slot && n->kind == WEFT_NODE_PCI_BRIDGE) { /* without an address it cannot be named to NCCL */
        put_below(out, t, node, depth);
        return;
    }
    if (slot)
        put_pci_start(out, t, node, depth);
    if (n->kind == WEFT_NODE_GPU)
        put_gpu(out, t, node, depth + slot);
    else if (n->kind == WEFT_NODE_NIC)
        put_ports(out, t, node, depth + slot);
    else
        put_below(out, t, node, depth + 1);
    if (slot) {
        indent(out, depth);
        fputs("</pci>\n", out);
    }
}

/* What hangs on a node, through nodes that NCCL does not know. */
static void put_below(FILE *out, const weft_topology *t, int parent, int depth)
{
    for (int i = parent + 1; i < weft_topology_node_count(t); i++) {
        const weft_topology_node *n = weft_topology_get_node(t, i);
        if (n->parent != parent)
            continue;
        if (n->kind == WEFT_NODE_PCI_ROOT || n->kind == WEFT_NODE_L3)
            put_below(out, t, i, depth);
        else if (n->kind == WEFT_NODE_PCI_BRIDGE || n->kind == WEFT_NODE_PCI_DEVICE || n->kind == WEFT_NODE_GPU ||
                 n->kind == WEFT_NODE_NIC)
            put_device(out, t, i, depth);
    }
}

static void put_numa(FILE *out, const weft_topology *t, int numa)
{
    static const char *const kept[] = {"arch", "vendor", "familyid", "modelid"};
    const weft_topology_node *n = weft_topology_get_node(t, numa);
    const char *list = weft_topology_attribute(t, numa, "cpus"), *hash = NULL;
    int host = weft_topology_enclosing(t, numa, WEFT_NODE_HOST), above = numa;
    weft_cpus cpus;
    char mask[WEFT_CPUS_MAX / 32 * 9 + 1];
    hash = weft_topology_attribute(t, host, "host_hash");
    fputs("  <cpu", out);
    if (hash)
        put(out, "host_hash", hash);
    fprintf(out, " numaid=\"%d\"", n->os_index >= 0 ? n->os_index : n->index);
    if (list && weft_cpus_parse_list(list, &cpus)) {
        weft_cpus_mask(&cpus, mask, sizeof mask);
        put(out, "affinity", mask);
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        put_if(out, t, numa, kept[i]);
    fputs(">\n", out);
    /* Devices that hang on a package or on the host: with its first NUMA node. */
    for (int up = n->parent; up >= 0; up = weft_topology_get_node(t, up)->parent) {
        bool first = true;
        for (int i = up + 1; i < numa && first; i++)
            first = !is_kind(t, i, WEFT_NODE_NUMA) || weft_topology_enclosing(t, i, weft_topology_get_node(t, up)->kind) != up;
        if (!first)
            break;
        above = up;
        put_below(out, t, above, 2);
    }
    put_below(out, t, numa, 2);
    fputs("  </cpu>\n", out);
}

void weft_export_nccl(const weft_topology *t, FILE *out)
{
    fputs("<system version=\"1\">\n", out);
    for (int i = 0; i < weft_topology_node_count(t); i++)
        if (is_kind(t, i, WEFT_NODE_NUMA))
            put_numa(out, t, i);
    fputs("</system>\n", out);
}

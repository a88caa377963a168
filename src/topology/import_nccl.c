/* NCCL and RCCL topology XML: what NCCL_TOPO_DUMP_FILE writes, and the skeletons without GPUs that clouds ship. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"
#include "topology/import.h"
#include "topology/rates.h"

typedef struct link_row {
    int gpu, line, links;
    uint32_t target_class;
    bool xgmi;
    char target[WEFT_BUS_ID_BYTES];
} link_row;

typedef struct importer {
    const weft_document *d;
    weft_topology *t;
    link_row *row;
    int *by_bus; /* nodes with a bus id, sorted by it: machines have thousands of link rows */
    int rows, row_room, buses;
    int unknown_devices;
    bool gpu_details; /* some GPU is described, not only its PCI slot */
} importer;

static void copy_attribute(importer *im, int node, int element, const char *from, const char *to)
{
    const char *text = weft_document_get(im->d, element, from);
    if (text && *text)
        weft_topology_set(im->t, node, to, text);
}

static void copy_attributes(importer *im, int node, int element, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        copy_attribute(im, node, element, names[i], names[i]);
}

/* ---- hosts and processors ---------------------------------------------------------------------- */

static int find_host(importer *im, const char *hash)
{
    for (int i = 0; i < im->t->nodes; i++) {
        if (im->t->node[i].shown.kind != WEFT_NODE_HOST)
            continue;
        const char *have = weft_topology_attribute(im->t, i, "host_hash");
        if (!hash || !have || strcmp(hash, have) == 0)
            return i;
    }
    int host = weft_topology_add_node(im->t, WEFT_NODE_HOST, -1);
    weft_topology_set(im->t, host, "host_hash", hash);
    return host;
}

static int import_cpu(importer *im, int element)
{
    static const char *const kept[] = {"arch", "vendor", "familyid", "modelid"};
    int host = find_host(im, weft_document_get(im->d, element, "host_hash"));
    int numa = weft_topology_add_node(im->t, WEFT_NODE_NUMA, host);
    weft_topology_edit(im->t, numa)->os_index = (int)weft_document_int(im->d, element, "numaid", 0, 1 << 20, -1);
    copy_attributes(im, numa, element, kept, ARRAY_LEN(kept));
    const char *affinity = weft_document_get(im->d, element, "affinity");
    weft_cpus cpus;
    if (affinity && weft_cpus_parse_mask(affinity, &cpus)) {
        char list[WEFT_CPUS_TEXT];
        weft_cpus_list(&cpus, list, sizeof list);
        if (*list)
            weft_topology_set(im->t, numa, "cpus", list);
    } else if (affinity && *affinity) {
        weft_topology_add_note(im->t, "line %d: affinity \"%.40s\" is no mask of CPUs: left out", im->d->element[element].line,
                               affinity);
    }
    return numa;
}

/* ---- devices ----------------------------------------------------------------------------------- */

enum { NVSWITCH_CLASS = 0x068000, POWER_CPU_CLASS = 0x068001 };

/* A peer that a virtual machine does not see: NCCL writes what the driver says, "fffffff:ffff:ff", and takes it for a switch. */
static bool is_unseen(const char *target)
{
    return target && strchr(target, 'f') && strchr(target, ':') && target[strspn(target, "f:.")] == 0;
}

static weft_status add_link_rows(importer *im, int gpu, int element)
{
    for (int row = -1; (row = weft_document_child(im->d, element, row, NULL)) >= 0;) {
        bool xgmi = weft_document_is(im->d, row, "xgmi");
        if (!xgmi && !weft_document_is(im->d, row, "nvlink"))
            continue;
        const char *target = weft_document_get(im->d, row, "target");
        link_row add = {.gpu = gpu, .line = im->d->element[row].line, .xgmi = xgmi};
        add.links = (int)weft_document_int(im->d, row, "count", 1, 1024, 0);
        add.target_class = (uint32_t)weft_document_int(im->d, row, "tclass", 0, 0xffffff, 0);
        if (is_unseen(target)) {
            snprintf(add.target, sizeof add.target, "(not seen)");
            add.target_class = NVSWITCH_CLASS;
        } else if (!target || !weft_bus_id_parse(target, add.target))
            return weft_document_fail(im->d, row, "target \"%.40s\" is no PCI address", target ? target : "");
        if (add.links == 0) {
            weft_topology_add_note(im->t, "line %d: a link row without a usable count: left out", add.line);
            continue;
        }
        if (im->rows == im->row_room) {
            int more = im->row_room ? im->row_room * 2 : 64;
            link_row *larger = weft_realloc(im->row, (size_t)more * sizeof *larger);
            if (!larger)
                return weft_fail(WEFT_ERR_MEMORY, "no memory for the links of %s", im->d->file);
            im->row = larger;
            im->row_room = more;
        }
        im->row[im->rows++] = add;
    }
    return WEFT_OK;
}

static void add_c2c(importer *im, int gpu, int element)
{
    int c2c = weft_document_child(im->d, element, -1, "c2c");
    int numa = weft_topology_enclosing(im->t, gpu, WEFT_NODE_NUMA);
    if (c2c < 0 || numa < 0)
        return;
    int links = (int)weft_document_int(im->d, c2c, "count", 1, 1024, 1);
    double mega = weft_document_double(im->d, c2c, "bw", 0);
    bool told = mega > 0 && mega < 1e9;
    weft_topology_edge edge = {WEFT_EDGE_C2C, gpu, numa, links, (told ? mega * 1e6 : 20e9) * links,
                               weft_rate_latency_ns(WEFT_EDGE_C2C), told ? WEFT_FIGURE_REPORTED : WEFT_FIGURE_ASSUMED};
    weft_topology_add_edge(im->t, &edge);
}

static weft_status import_gpu(importer *im, int gpu, int element)
{
    static const char *const kept[] = {"sm", "gdr", "rank", "gcn", "arch"};
    im->gpu_details = true;
    weft_topology_edit(im->t, gpu)->os_index = (int)weft_document_int(im->d, element, "dev", 0, 1 << 20, -1);
    copy_attributes(im, gpu, element, kept, ARRAY_LEN(kept));
    add_c2c(im, gpu, element);
    return add_link_rows(im, gpu, element);
}

static void import_port(importer *im, int nic, int element)
{
    static const char *const kept[] = {"speed", "port", "guid", "gdr", "maxconn", "coll", "latency"};
    int port = weft_topology_add_node(im->t, WEFT_NODE_PORT, nic);
    const char *name = weft_document_get(im->d, element, "name");
    weft_topology_edit(im->t, port)->os_index = (int)weft_document_int(im->d, element, "dev", 0, 1 << 20, -1);
    copy_attributes(im, port, element, kept, ARRAY_LEN(kept));
    if (name)
        weft_topology_set_name(im->t, port, name);
    weft_topology_node *n = weft_topology_edit(im->t, nic);
    if (!n->name[0] && name) {
        weft_topology_set_name(im->t, nic, name);
        n->os_index = weft_topology_edit(im->t, port)->os_index;
    }
}

static void import_ports(importer *im, int nic, int element)
{
    for (int net = -1; (net = weft_document_child(im->d, element, net, "net")) >= 0;)
        import_port(im, nic, net);
}

/* The same virtual interface stands in every NUMA node in some dumps. */
static bool is_known_interface(importer *im, const char *name, int host)
{
    for (int i = 0; name && i < im->t->nodes; i++) {
        const weft_topology_node *n = &im->t->node[i].shown;
        if (n->kind == WEFT_NODE_NIC && !n->bus_id[0] && strcmp(n->name, name) == 0 &&
            weft_topology_enclosing(im->t, i, WEFT_NODE_HOST) == host)
            return true;
    }
    return false;
}

/* Interfaces without a PCI address: each is a NIC of its own. */
static void import_virtual_nics(importer *im, int parent, int element)
{
    for (int net = -1; (net = weft_document_child(im->d, element, net, "net")) >= 0;) {
        const char *name = weft_document_get(im->d, net, "name");
        if (is_known_interface(im, name, weft_topology_enclosing(im->t, parent, WEFT_NODE_HOST))) {
            weft_topology_add_note(im->t, "line %d: interface %.40s stands twice: taken once", im->d->element[net].line, name);
            continue;
        }
        int nic = weft_topology_add_node(im->t, WEFT_NODE_NIC, parent);
        import_port(im, nic, net);
    }
}

static weft_node_kind pci_kind(const importer *im, int element, uint32_t pci_class, uint32_t vendor)
{
    if (weft_document_child(im->d, element, -1, "pci") >= 0)
        return WEFT_NODE_PCI_BRIDGE;
    if (weft_document_child(im->d, element, -1, "gpu") >= 0)
        return WEFT_NODE_GPU;
    if (weft_document_child(im->d, element, -1, "nic") >= 0)
        return WEFT_NODE_NIC;
    return weft_pci_kind(pci_class, vendor);
}

static weft_status import_slot(importer *im, int parent, int element);

static weft_status import_below(importer *im, int node, int element)
{
    weft_node_kind kind = weft_topology_edit(im->t, node)->kind;
    weft_status status = WEFT_OK;
    for (int child = -1; status == WEFT_OK && (child = weft_document_child(im->d, element, child, NULL)) >= 0;) {
        if (weft_document_is(im->d, child, "pci"))
            status = import_slot(im, node, child);
        else if (weft_document_is(im->d, child, "gpu")) {
            int parent = kind == WEFT_NODE_NIC ? im->t->node[node].shown.parent : node;
            int gpu = kind == WEFT_NODE_GPU ? node : weft_topology_add_node(im->t, WEFT_NODE_GPU, parent);
            status = import_gpu(im, gpu, child);
        } else if (weft_document_is(im->d, child, "nic") && kind == WEFT_NODE_NIC)
            import_ports(im, node, child);
        else if (weft_document_is(im->d, child, "nic"))
            import_virtual_nics(im, kind == WEFT_NODE_GPU ? im->t->node[node].shown.parent : node, child);
    }
    return status;
}

/* Broadcom's PEX switches of generations 4 and 5 show one chip as two levels of bridges, as if a link joined them: the
 * generation, or 0. In generation 5 the levels have different ids. */
static int chip_generation(const importer *im, int element, int level)
{
    int64_t vendor = weft_document_int(im->d, element, "vendor", 0, 0xffff, 0),
            device = weft_document_int(im->d, element, "device", 0, 0xffff, 0);
    int64_t maker = weft_document_int(im->d, element, "subsystem_vendor", 0, 0xffff, 0);
    int64_t part = weft_document_int(im->d, element, "subsystem_device", 0, 0xffff, 0) >> 12;
    if (vendor != 0x1000 || maker != 0x1000)
        return 0;
    return device == 0xc010 && part == 0xa ? 4 : device == 0xc030 && part == level ? 5 : 0;
}

/* Is this bridge the second level of the chip whose first one is `parent`? */
static bool is_same_chip(const importer *im, int parent, int element)
{
    char bus_id[WEFT_BUS_ID_BYTES];
    int above = im->d->element[element].parent, generation = chip_generation(im, element, 1);
    const char *text = weft_document_get(im->d, above, "busid");
    return generation && generation == chip_generation(im, above, 0) && weft_document_is(im->d, above, "pci") && text &&
           weft_bus_id_parse(text, bus_id) && strcmp(bus_id, im->t->node[parent].shown.bus_id) == 0;
}

static weft_status import_slot(importer *im, int parent, int element)
{
    static const char *const kept[] = {"link_speed", "link_width", "subsystem_vendor", "subsystem_device"};
    char bus_id[WEFT_BUS_ID_BYTES];
    const char *text = weft_document_get(im->d, element, "busid");
    uint32_t pci_class = (uint32_t)weft_document_int(im->d, element, "class", 0, 0xffffff, 0);
    uint32_t vendor = (uint32_t)weft_document_int(im->d, element, "vendor", 0, 0xffff, 0);
    if (!text || !weft_bus_id_parse(text, bus_id))
        return weft_document_fail(im->d, element, "busid \"%.40s\" is no PCI address", text ? text : "");
    weft_node_kind kind = pci_kind(im, element, pci_class, vendor);
    if (kind == WEFT_NODE_PCI_BRIDGE && is_same_chip(im, parent, element))
        return import_below(im, parent, element);
    int node = weft_topology_add_node(im->t, kind, parent);
    weft_topology_node *n = weft_topology_edit(im->t, node);
    memcpy(n->bus_id, bus_id, sizeof bus_id);
    n->pci_class = pci_class;
    n->vendor = vendor;
    n->device = (uint32_t)weft_document_int(im->d, element, "device", 0, 0xffff, 0);
    copy_attributes(im, node, element, kept, ARRAY_LEN(kept));
    if (kind == WEFT_NODE_PCI_DEVICE && pci_class == 0)
        im->unknown_devices++;
    return import_below(im, node, element);
}

/* ---- NVLink and xGMI --------------------------------------------------------------------------- */

static int by_bus_id(const void *a, const void *b, void *topology)
{
    const weft_topology *t = topology;
    int x = *(const int *)a, y = *(const int *)b, order = strcmp(t->node[x].shown.bus_id, t->node[y].shown.bus_id);
    return order ? order : (x > y) - (x < y);
}

static bool index_buses(importer *im)
{
    weft_topology *t = im->t;
    im->by_bus = weft_alloc_array((size_t)t->nodes + 1, sizeof *im->by_bus);
    for (int i = 0; i < t->nodes && im->by_bus; i++)
        if (t->node[i].shown.bus_id[0])
            im->by_bus[im->buses++] = i;
    if (im->by_bus)
        qsort_r(im->by_bus, (size_t)im->buses, sizeof *im->by_bus, by_bus_id, t);
    return im->by_bus != NULL;
}

/* The first node of that bus id, -1. */
static int find_bus(const importer *im, const char *bus_id)
{
    int low = 0, high = im->buses;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (strcmp(im->t->node[im->by_bus[middle]].shown.bus_id, bus_id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < im->buses && strcmp(im->t->node[im->by_bus[low]].shown.bus_id, bus_id) == 0 ? im->by_bus[low] : -1;
}

static int by_ends(const void *a, const void *b)
{
    const link_row *x = a, *y = b;
    if (x->gpu != y->gpu)
        return x->gpu < y->gpu ? -1 : 1;
    int order = strcmp(x->target, y->target);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* Rows of one GPU to one target are one bundle. */
static void merge_rows(importer *im)
{
    int kept = 0;
    if (im->rows > 1)
        qsort(im->row, (size_t)im->rows, sizeof *im->row, by_ends);
    for (int i = 0; i < im->rows; i++) {
        link_row *last = kept ? &im->row[kept - 1] : NULL;
        if (last && last->gpu == im->row[i].gpu && strcmp(last->target, im->row[i].target) == 0)
            last->links += last->links < 1024 ? im->row[i].links : 0;
        else
            im->row[kept++] = im->row[i];
    }
    im->rows = kept;
}

static double link_rate(const importer *im, const link_row *row)
{
    return row->xgmi ? weft_rate_xgmi_Bps(weft_topology_attribute(im->t, row->gpu, "gcn"))
                     : weft_rate_nvlink_Bps(weft_rate_gpu_sm(im->t, row->gpu));
}

static void add_link(importer *im, const link_row *row, int to)
{
    weft_edge_kind kind = row->xgmi ? WEFT_EDGE_XGMI : WEFT_EDGE_NVLINK;
    weft_topology_edge edge = {kind, row->gpu, to, row->links, row->links * link_rate(im, row), weft_rate_latency_ns(kind),
                               WEFT_FIGURE_TABLE};
    weft_topology_add_edge(im->t, &edge);
}

/* The row the other way round; rows are sorted. */
static const link_row *reverse_row(const importer *im, const link_row *row, int target)
{
    link_row key = {.gpu = target};
    memcpy(key.target, weft_topology_edit(im->t, row->gpu)->bus_id, sizeof key.target);
    for (int low = 0, high = im->rows; low < high;) {
        int middle = low + (high - low) / 2;
        const link_row *at = &im->row[middle];
        int order = at->gpu != key.gpu ? (at->gpu < key.gpu ? -1 : 1) : strcmp(at->target, key.target);
        if (order == 0)
            return at;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void link_gpus(importer *im, const link_row *row, int target)
{
    const link_row *back = reverse_row(im, row, target);
    if (!back || back->links != row->links) {
        char text[128];
        snprintf(text, sizeof text, "%d links to %s, which names %d back", row->links, row->target, back ? back->links : 0);
        weft_topology_set(im->t, row->gpu, "nvlink_fault", text);
    }
    add_link(im, row, target);
}

/* A bridge joins two neighbouring cards; some files name each card as its own peer. Every such card that names nothing else is
 * paired with the next one, and that is said. */
static void repair_self_links(importer *im, const link_row **self, int count)
{
    bool even = count > 0 && count % 2 == 0;
    for (int i = 0; i + 1 < count && even; i += 2)
        even = self[i]->links == self[i + 1]->links;
    for (int i = 0; i < count; i++) {
        const char *own = self[i]->target;
        if (!even)
            weft_topology_add_note(im->t, "line %d: %s names itself as its NVLink peer: left out", self[i]->line, own);
        else if (i % 2 == 0)
            weft_topology_add_note(
                im->t, "line %d: %s and %s name themselves as their NVLink peers: taken as joined by a bridge (%d links)",
                self[i]->line, own, self[i + 1]->target, self[i]->links);
    }
    for (int i = 0; i + 1 < count && even; i += 2)
        add_link(im, self[i], self[i + 1]->gpu);
}

static void link_row_target(importer *im, const link_row *row)
{
    int target = find_bus(im, row->target);
    weft_node_kind kind = target >= 0 ? im->t->node[target].shown.kind : WEFT_NODE_KIND_COUNT;
    if (target >= 0 && kind == WEFT_NODE_GPU) {
        link_gpus(im, row, target);
    } else if (row->target_class == NVSWITCH_CLASS ||
               (kind == WEFT_NODE_PCI_DEVICE && weft_pci_is_nvswitch(im->t->node[target].shown.pci_class, 0x10de))) {
        int host = weft_topology_enclosing(im->t, row->gpu, WEFT_NODE_HOST);
        add_link(im, row, weft_import_fabric(im->t, host, row->target));
    } else if (row->target_class == POWER_CPU_CLASS && weft_topology_enclosing(im->t, row->gpu, WEFT_NODE_NUMA) >= 0) {
        add_link(im, row, weft_topology_enclosing(im->t, row->gpu, WEFT_NODE_NUMA));
    } else if (target < 0 && row->target_class == 0 && !row->xgmi) {
        weft_topology_add_note(im->t,
                               "line %d: NVLink peer %s is not in the file and has no class: taken for an NVSwitch, as NCCL does",
                               row->line, row->target);
        add_link(im, row, weft_import_fabric(im->t, weft_topology_enclosing(im->t, row->gpu, WEFT_NODE_HOST), row->target));
    } else {
        weft_topology_add_note(im->t, "line %d: NVLink peer %s is not in the file: left out", row->line, row->target);
    }
}

/* Links to the chips of one fabric add up per GPU. */
static void add_up_fabric_links(importer *im)
{
    for (int i = 0; i < im->t->edges; i++) {
        weft_topology_edge *e = &im->t->edge[i];
        if (im->t->node[e->b].shown.kind != WEFT_NODE_NVSWITCH || e->links == 0)
            continue;
        for (int j = i + 1; j < im->t->edges; j++) {
            weft_topology_edge *more = &im->t->edge[j];
            if (more->a != e->a) /* rows, and so edges, of one GPU stand together */
                break;
            if (more->b == e->b && more->links) {
                e->links += more->links;
                e->bandwidth_Bps += more->bandwidth_Bps;
                more->links = 0; /* the narrower of two: dropped when edges are merged */
            }
        }
    }
}

static weft_status import_links(importer *im)
{
    merge_rows(im);
    const link_row **self = weft_alloc_array((size_t)im->rows + 1, sizeof *self);
    int selves = 0;
    if (!self || !index_buses(im)) {
        weft_free(self);
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the links of %s", im->d->file);
    }
    for (int i = 0; i < im->rows; i++) {
        if (find_bus(im, im->row[i].target) != im->row[i].gpu)
            link_row_target(im, &im->row[i]);
        else if ((i == 0 || im->row[i - 1].gpu != im->row[i].gpu) && (i + 1 == im->rows || im->row[i + 1].gpu != im->row[i].gpu))
            self[selves++] = &im->row[i];
        else
            weft_topology_add_note(im->t, "line %d: %s names itself as an NVLink peer: left out", im->row[i].line,
                                   im->row[i].target);
    }
    repair_self_links(im, self, selves);
    weft_free(self);
    add_up_fabric_links(im);
    return WEFT_OK;
}

static void say_what_is_missing(importer *im)
{
    int gpus = 0;
    for (int i = 0; i < im->t->nodes; i++)
        gpus += im->t->node[i].shown.kind == WEFT_NODE_GPU;
    if (im->unknown_devices)
        weft_topology_add_note(im->t, "%d PCI devices without a class: whether they are GPUs or NICs shows on the machine itself",
                               im->unknown_devices);
    if (gpus > 1 && !im->gpu_details)
        weft_topology_add_note(im->t, "a skeleton: GPUs are only PCI slots in it, NVLink is found on the machine itself");
}

weft_status weft_import_nccl(const weft_document *d, weft_topology **out)
{
    importer im = {.d = d, .t = weft_topology_create("NCCL topology XML")};
    if (!im.t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", d->file);
    weft_status status = WEFT_OK;
    int cpus = 0;
    for (int cpu = -1; status == WEFT_OK && (cpu = weft_document_child(d, 0, cpu, "cpu")) >= 0; cpus++)
        status = import_below(&im, import_cpu(&im, cpu), cpu);
    if (status == WEFT_OK && cpus == 0)
        status = weft_document_fail(d, 0, "a <system> without a <cpu> in it");
    if (status == WEFT_OK)
        status = import_links(&im);
    if (status == WEFT_OK)
        say_what_is_missing(&im);
    for (int i = 0; i < im.rows; i++)
        if (im.row[i].xgmi)
            snprintf(im.t->origin, sizeof im.t->origin, "RCCL topology XML");
    weft_free(im.row);
    weft_free(im.by_bus);
    return weft_import_done(im.t, status, true, d->file, out);
}

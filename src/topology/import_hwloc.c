/* hwloc XML of versions 2 and 3, read without hwloc: packages, NUMA nodes, last-level caches, core sets, PCI with GPUs and NICs.
 * The matrices of distances are read in import_hwloc_links.c. */
#include "topology/import_hwloc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"

static const char *type_of(const weft_hwloc_import *im, int object)
{
    const char *type = weft_document_get(im->d, object, "type");
    return type ? type : "";
}

static bool is(const weft_hwloc_import *im, int object, const char *type)
{
    return strcmp(type_of(im, object), type) == 0;
}

/* The value of <info name="..."> in an object. */
static const char *info_of(const weft_hwloc_import *im, int object, const char *name)
{
    for (int info = -1; (info = weft_document_child(im->d, object, info, "info")) >= 0;) {
        const char *have = weft_document_get(im->d, info, "name");
        if (have && strcmp(have, name) == 0)
            return weft_document_get(im->d, info, "value");
    }
    return NULL;
}

static void set_cpus(weft_hwloc_import *im, int node, int object)
{
    const char *mask = weft_document_get(im->d, object, "cpuset");
    weft_cpus cpus;
    char list[WEFT_CPUS_TEXT];
    if (!mask || !weft_cpus_parse_mask(mask, &cpus))
        return;
    weft_cpus_list(&cpus, list, sizeof list);
    if (*list)
        weft_topology_set(im->t, node, "cpus", list);
}

static bool remember(weft_hwloc_import *im, int object, weft_hwloc_type type, int node)
{
    if (im->known == im->known_room) {
        int more = im->known_room ? im->known_room * 2 : 64;
        weft_hwloc_known *larger = weft_realloc(im->object, (size_t)more * sizeof *larger);
        if (!larger) {
            im->t->out_of_memory = true;
            return false;
        }
        im->object = larger;
        im->known_room = more;
    }
    im->object[im->known++] = (weft_hwloc_known){type, node, weft_document_int(im->d, object, "gp_index", 0, INT64_MAX, -1),
                                                 weft_document_int(im->d, object, "os_index", 0, INT32_MAX, -1)};
    return true;
}

/* ---- processors and memory --------------------------------------------------------------------- */

static int add_container(weft_hwloc_import *im, weft_node_kind kind, int parent, int object)
{
    int node = weft_topology_add_node(im->t, kind, parent);
    weft_topology_edit(im->t, node)->os_index = (int)weft_document_int(im->d, object, "os_index", 0, 1 << 30, -1);
    set_cpus(im, node, object);
    return node;
}

static int add_package(weft_hwloc_import *im, int parent, int object)
{
    static const struct {
        const char *info, *attribute;
    } kept[] = {{"CPUVendor", "vendor"}, {"CPUFamilyNumber", "familyid"}, {"CPUModelNumber", "modelid"}, {"CPUModel", "model"}};
    int package = add_container(im, WEFT_NODE_PACKAGE, parent, object);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        weft_topology_set(im->t, package, kept[i].attribute, info_of(im, object, kept[i].info));
    remember(im, object, WEFT_HWLOC_PACKAGE, package);
    return package;
}

/* NUMA nodes are "memory children", some behind a memory-side cache. The first is the container of what follows. One of a whole
 * package (CXL, say) whose parts have their own stands beside those. */
static int import_memory(weft_hwloc_import *im, int object, int container, int depth)
{
    int first = -1;
    if (im->t->node[container].shown.kind == WEFT_NODE_NUMA)
        container = im->t->node[container].shown.parent;
    for (int child = -1; depth < 8 && (child = weft_document_child(im->d, object, child, "object")) >= 0;) {
        int numa = -1;
        if (is(im, child, "MemCache")) {
            numa = import_memory(im, child, container, depth + 1);
        } else if (is(im, child, "NUMANode")) {
            numa = add_container(im, WEFT_NODE_NUMA, container, child);
            weft_topology_set(im->t, numa, "memory", weft_document_get(im->d, child, "local_memory"));
            weft_topology_set(im->t, numa, "memory_kind", weft_document_get(im->d, child, "subtype"));
            remember(im, child, WEFT_HWLOC_NUMA, numa);
        }
        first = first < 0 ? numa : first;
    }
    return first;
}

/* One node for all cores that share a container: their number and their CPUs. */
static void add_core(weft_hwloc_import *im, int container, int object)
{
    int node = -1;
    for (int i = im->t->nodes - 1; i > container && node < 0; i--)
        if (im->t->node[i].shown.kind == WEFT_NODE_CORES && im->t->node[i].shown.parent == container)
            node = i;
    if (node < 0) {
        node = weft_topology_add_node(im->t, WEFT_NODE_CORES, container);
        weft_topology_edit(im->t, node)->count = 0;
    }
    weft_topology_edit(im->t, node)->count++;
    weft_cpus cpus, core;
    char list[WEFT_CPUS_TEXT];
    const char *mask = weft_document_get(im->d, object, "cpuset"), *have = weft_topology_attribute(im->t, node, "cpus");
    if (!mask || !weft_cpus_parse_mask(mask, &core))
        return;
    if (have && weft_cpus_parse_list(have, &cpus))
        weft_cpus_add(&core, &cpus);
    weft_cpus_list(&core, list, sizeof list);
    weft_topology_set(im->t, node, "cpus", list);
}

/* `container` is the node that holds what comes: host, package, NUMA node or L3. */
static void import_object(weft_hwloc_import *im, int object, int container)
{
    if (is(im, object, "Package"))
        container = add_package(im, container, object);
    else if (is(im, object, "L3Cache") && im->t->node[container].shown.kind != WEFT_NODE_L3) {
        container = add_container(im, WEFT_NODE_L3, container, object);
        weft_topology_set(im->t, container, "bytes", weft_document_get(im->d, object, "cache_size"));
    } else if (is(im, object, "Core") || is(im, object, "PU")) {
        add_core(im, container, object);
        return;
    } else if (is(im, object, "Bridge") || is(im, object, "PCIDev")) {
        weft_hwloc_io(im, object, container, false);
        return;
    } else if (is(im, object, "OSDev") || is(im, object, "Misc") || is(im, object, "NUMANode") || is(im, object, "MemCache")) {
        return;
    }
    int numa = import_memory(im, object, container, 0);
    for (int child = -1; (child = weft_document_child(im->d, object, child, "object")) >= 0;)
        import_object(im, child, numa >= 0 ? numa : container);
}

/* Rates between NUMA nodes go by processor: each knows its package's, or that of any package. */
static void tell_processors(weft_hwloc_import *im, const char *architecture)
{
    static const char *const kept[] = {"vendor", "familyid", "modelid"};
    int any = -1;
    for (int i = 0; i < im->t->nodes && any < 0; i++)
        if (im->t->node[i].shown.kind == WEFT_NODE_PACKAGE)
            any = i;
    for (int i = 0; i < im->t->nodes; i++) {
        if (im->t->node[i].shown.kind != WEFT_NODE_NUMA)
            continue;
        int package = weft_topology_enclosing(im->t, i, WEFT_NODE_PACKAGE);
        weft_topology_set(im->t, i, "arch", architecture);
        for (size_t k = 0; k < ARRAY_LEN(kept) && any >= 0; k++)
            weft_topology_set(im->t, i, kept[k], weft_topology_attribute(im->t, package >= 0 ? package : any, kept[k]));
    }
}

/* ---- PCI --------------------------------------------------------------------------------------- */

static bool parse_pci_type(const char *text, uint32_t *pci_class, uint32_t *vendor, uint32_t *device)
{
    char *end;
    unsigned v = 0, d = 0;
    if (!text)
        return false;
    unsigned long c = strtoul(text, &end, 16);
    *pci_class = (uint32_t)(end - text <= 4 ? c << 8 : c) & 0xffffff;
    while (isspace((unsigned char)*end))
        end++;
    if (sscanf(end, "[%4x:%4x]", &v, &d) != 2)
        return false;
    *vendor = v;
    *device = d;
    return true;
}

static weft_node_kind device_kind(const weft_hwloc_import *im, int object, uint32_t *pci_class, uint32_t *vendor,
                                  uint32_t *device)
{
    const char *subtype = weft_document_get(im->d, object, "subtype");
    *pci_class = *vendor = *device = 0;
    bool told = parse_pci_type(weft_document_get(im->d, object, "pci_type"), pci_class, vendor, device);
    if (subtype && strcmp(subtype, "NVSwitch") == 0) { /* also where its configuration cannot be read */
        *pci_class = 0x068000;
        *vendor = 0x10de;
    }
    if (!told)
        return WEFT_NODE_PCI_DEVICE;
    return weft_pci_kind(*pci_class, *vendor);
}

/* GPUs, NICs and NVSwitch chips; disks and the like have no part in collectives. */
static bool is_wanted(const weft_hwloc_import *im, int object)
{
    uint32_t pci_class, vendor, device;
    weft_node_kind kind = device_kind(im, object, &pci_class, &vendor, &device);
    return is(im, object, "PCIDev") && (kind != WEFT_NODE_PCI_DEVICE || weft_pci_is_nvswitch(pci_class, vendor));
}

static bool is_virtual(const weft_hwloc_import *im, int object)
{
    const char *title = info_of(im, object, "PCIDevice");
    return is(im, object, "PCIDev") && title && strstr(title, "Virtual Function");
}

static int count_wanted(const weft_hwloc_import *im, int object)
{
    int count = is_wanted(im, object);
    for (int child = -1; (child = weft_document_child(im->d, object, child, "object")) >= 0;)
        count += count_wanted(im, child);
    return count;
}

static void set_link(weft_hwloc_import *im, int node, int object)
{
    double speed = weft_document_double(im->d, object, "pci_link_speed", 0);
    if (speed > 0)
        weft_topology_set_number(im->t, node, "link_GBps", speed);
}

static void import_gpu_functions(weft_hwloc_import *im, int gpu, int object)
{
    for (int os = -1; (os = weft_document_child(im->d, object, os, "object")) >= 0;) {
        const char *name = weft_document_get(im->d, os, "name"), *model = info_of(im, os, "GPUModel");
        if (!is(im, os, "OSDev"))
            continue;
        remember(im, os, WEFT_HWLOC_OSDEV, gpu);
        weft_topology_set(im->t, gpu, "model", model);
        if (name && (!im->t->node[gpu].shown.name[0] || strncmp(name, "nvml", 4) == 0 || strncmp(name, "rsmi", 4) == 0))
            weft_topology_set_name(im->t, gpu, name);
    }
}

static void add_verbs_ports(weft_hwloc_import *im, int nic, int os, const char *name)
{
    for (int p = 1; p <= 8; p++) {
        char key[32];
        snprintf(key, sizeof key, "Port%dState", p);
        const char *state = info_of(im, os, key);
        if (!state && p > 1)
            break;
        int port = weft_topology_add_node(im->t, WEFT_NODE_PORT, nic);
        weft_topology_set_name(im->t, port, name);
        weft_topology_set_number(im->t, port, "port", p);
        weft_topology_set(im->t, port, "guid", info_of(im, os, "NodeGUID"));
        if (state)
            weft_topology_set(im->t, port, "state", strcmp(state, "4") == 0 ? "up" : "down");
    }
}

/* RDMA devices name the ports; a NIC without one has its network interfaces as ports. */
static void import_nic_functions(weft_hwloc_import *im, int nic, int object)
{
    bool verbs = false;
    for (int pass = 0; pass < 2; pass++) {
        for (int os = -1; (os = weft_document_child(im->d, object, os, "object")) >= 0;) {
            const char *name = weft_document_get(im->d, os, "name");
            bool has_guid = info_of(im, os, "NodeGUID") != NULL;
            if (!is(im, os, "OSDev") || !name || (pass == 0) != has_guid)
                continue;
            if (has_guid) {
                verbs = true;
                add_verbs_ports(im, nic, os, name);
            } else if (verbs) {
                weft_topology_set(im->t, nic, "interface", name);
            } else {
                int port = weft_topology_add_node(im->t, WEFT_NODE_PORT, nic);
                weft_topology_set_name(im->t, port, name);
            }
            if (!im->t->node[nic].shown.name[0])
                weft_topology_set_name(im->t, nic, name);
        }
    }
}

/* The physical function that a virtual one belongs to: the NIC before it in the same slot. */
static int physical_function(const weft_hwloc_import *im, const char *bus_id)
{
    size_t slot = strlen(bus_id) > 5 ? strlen(bus_id) - 5 : 0; /* without device and function */
    for (int i = im->t->nodes - 1; i >= 0; i--) {
        const weft_topology_node *n = &im->t->node[i].shown;
        if (n->kind == WEFT_NODE_NIC && n->bus_id[0] && strncmp(n->bus_id, bus_id, slot) == 0 &&
            !weft_topology_attribute(im->t, i, "virtual"))
            return i;
    }
    return -1;
}

static void import_device(weft_hwloc_import *im, int object, int parent, bool function)
{
    char bus_id[WEFT_BUS_ID_BYTES] = "";
    uint32_t pci_class, vendor, device;
    const char *text = weft_document_get(im->d, object, "pci_busid"), *title = info_of(im, object, "PCIDevice");
    weft_node_kind kind = device_kind(im, object, &pci_class, &vendor, &device);
    if (kind == WEFT_NODE_PCI_BRIDGE || !is_wanted(im, object))
        return;
    if (text && !weft_bus_id_parse(text, bus_id))
        weft_topology_add_note(im->t, "line %d: pci_busid \"%.40s\" is no PCI address: left out", im->d->element[object].line,
                               text);
    /* Of the functions of one card, those that the system has no interface for are virtual in effect, whatever
     * they are called. */
    bool bare = function && weft_document_child(im->d, object, -1, "object") < 0;
    bool virtual_function = kind == WEFT_NODE_NIC && (bare || is_virtual(im, object));
    int physical = virtual_function ? physical_function(im, bus_id) : -1;
    int node = weft_topology_add_node(im->t, kind, physical >= 0 ? physical : parent);
    weft_topology_node *n = weft_topology_edit(im->t, node);
    memcpy(n->bus_id, bus_id, sizeof bus_id);
    n->pci_class = pci_class;
    n->vendor = vendor;
    n->device = device;
    if (virtual_function)
        weft_topology_set(im->t, node, "virtual", "1");
    else if (function)
        weft_topology_set(im->t, node, "function", "1");
    weft_topology_set(im->t, node, "model", title);
    set_link(im, node, object);
    remember(im, object, WEFT_HWLOC_PCIDEV, node);
    if (kind == WEFT_NODE_GPU)
        import_gpu_functions(im, node, object);
    else if (kind == WEFT_NODE_NIC)
        import_nic_functions(im, node, object);
}

/* PCI Express alternates: a root port, below it a switch's upstream port, below that its downstream ports, and so on. A port with
 * one thing behind it is the other end of that thing's link; one with several functions behind it is kept, since they
 * share its link. */
void weft_hwloc_io(weft_hwloc_import *im, int object, int parent, bool port)
{
    if (count_wanted(im, object) == 0)
        return;
    if (is(im, object, "PCIDev")) {
        import_device(im, object, parent, false);
        return;
    }
    if (!is(im, object, "Bridge"))
        return;
    const char *type = weft_document_get(im->d, object, "bridge_type"), *text = weft_document_get(im->d, object, "pci_busid");
    bool root = type && strncmp(type, "0-", 2) == 0;
    int node = parent, behind = 0;
    for (int child = -1; (child = weft_document_child(im->d, object, child, "object")) >= 0;)
        behind += !is_virtual(im, child) && count_wanted(im, child) > 0;
    if (root) {
        int container = weft_topology_enclosing(im->t, parent, WEFT_NODE_NUMA);
        node = weft_topology_add_node(im->t, WEFT_NODE_PCI_ROOT, container >= 0 ? container : parent);
        weft_topology_set(im->t, node, "buses", weft_document_get(im->d, object, "bridge_pci"));
    } else if (!port || behind > 1) {
        char bus_id[WEFT_BUS_ID_BYTES] = "";
        node = weft_topology_add_node(im->t, WEFT_NODE_PCI_BRIDGE, parent);
        if (text && weft_bus_id_parse(text, bus_id))
            memcpy(weft_topology_edit(im->t, node)->bus_id, bus_id, sizeof bus_id);
        weft_topology_edit(im->t, node)->pci_class = 0x060400;
        if (port)
            weft_topology_set(im->t, node, "port", "1");
        set_link(im, node, object);
    }
    for (int child = -1; (child = weft_document_child(im->d, object, child, "object")) >= 0;) {
        if (is(im, child, "PCIDev"))
            import_device(im, child, node, port && !root && behind > 1);
        else
            weft_hwloc_io(im, child, node, root || !port);
    }
}

/* ---- the whole --------------------------------------------------------------------------------- */

static weft_status check_version(const weft_document *d)
{
    const char *version = weft_document_get(d, 0, "version");
    char *end;
    long major = version ? strtol(version, &end, 10) : 1;
    if (major < 2)
        return weft_document_fail(d, 0, "hwloc XML of version 1: not read; convert it with lstopo of hwloc 2: "
                                  "lstopo --input old.xml --of xml new.xml");
    if (major > 3)
        return weft_document_fail(d, 0, "hwloc XML of version %.20s is newer than what is known (2 and 3): export it with "
                                  "lstopo --export-xml-flags v2", version);
    return WEFT_OK;
}

weft_status weft_hwloc_build(const weft_document *d, weft_topology **out)
{
    weft_status status = check_version(d);
    int machine = weft_document_child(d, 0, -1, "object");
    if (status == WEFT_OK && machine < 0)
        status = weft_document_fail(d, 0, "a <topology> without an <object> in it");
    if (status != WEFT_OK)
        return status;
    weft_hwloc_import im = {.d = d, .t = weft_topology_create("hwloc XML")};
    if (!im.t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", d->file);
    if (!is(&im, machine, "Machine")) {
        status = weft_document_fail(d, machine, "the outermost object is a %.40s, not a Machine", type_of(&im, machine));
        weft_topology_free(im.t);
        return status;
    }
    int host = weft_topology_add_node(im.t, WEFT_NODE_HOST, -1);
    set_cpus(&im, host, machine);
    const char *name = info_of(&im, machine, "HostName"), *architecture = info_of(&im, machine, "Architecture");
    if (name || info_of(&im, 0, "HostName"))
        weft_topology_set_name(im.t, host, name ? name : info_of(&im, 0, "HostName"));
    weft_topology_set(im.t, host, "product", info_of(&im, machine, "DMIProductName"));
    import_object(&im, machine, host);
    tell_processors(&im, architecture ? architecture : info_of(&im, 0, "Architecture"));
    status = weft_hwloc_links(&im, host);
    weft_free(im.object);
    if (status == WEFT_OK)
        *out = im.t;
    else
        weft_topology_free(im.t);
    return status;
}

weft_status weft_import_hwloc(const weft_document *d, weft_topology **out)
{
    weft_topology *t = NULL;
    weft_status status = weft_hwloc_build(d, &t);
    return status == WEFT_OK ? weft_import_done(t, WEFT_OK, true, d->file, out) : status;
}

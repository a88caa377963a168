/* NVIDIA's GPUs and their NVLinks by NVML, loaded when the program runs; a machine without the library is normal. The few
 * declarations of its stable interface that are used stand here. */
#include <dlfcn.h>
#include <string.h>

#include "topology/import.h"
#include "topology/live.h"
#include "topology/rates.h"

enum { NVML_OK = 0, NVML_LINKS = 18, NVML_REMOTE_GPU = 0, NVML_REMOTE_CPU = 1, NVML_REMOTE_SWITCH = 2, GPUS_MAX = 128 };

typedef struct nvml_pci {
    char legacy[16];
    unsigned domain, bus, device, ids, subsystem_ids;
    char bus_id[32];
} nvml_pci;

typedef struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *count);
    int (*handle)(unsigned index, void **device);
    int (*pci)(void *device, nvml_pci *pci);
    int (*name)(void *device, char *name, unsigned length);
    int (*capability)(void *device, int *major, int *minor);
    int (*link_state)(void *device, unsigned link, int *active);
    int (*link_remote)(void *device, unsigned link, nvml_pci *pci);
    int (*link_type)(void *device, unsigned link, int *type);
} nvml;

static bool find_functions(nvml *n)
{
    const struct {
        void *function; /* of type pointer to function */
        const char *name;
        bool needed;
    } wanted[] = {
        {&n->init, "nvmlInit_v2", true},
        {&n->shutdown, "nvmlShutdown", true},
        {&n->count, "nvmlDeviceGetCount_v2", true},
        {&n->handle, "nvmlDeviceGetHandleByIndex_v2", true},
        {&n->pci, "nvmlDeviceGetPciInfo_v3", true},
        {&n->name, "nvmlDeviceGetName", false},
        {&n->capability, "nvmlDeviceGetCudaComputeCapability", false},
        {&n->link_state, "nvmlDeviceGetNvLinkState", false},
        {&n->link_remote, "nvmlDeviceGetNvLinkRemotePciInfo_v2", false},
        {&n->link_type, "nvmlDeviceGetNvLinkRemoteDeviceType", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        void *symbol = dlsym(n->library, wanted[i].name);
        memcpy(wanted[i].function, &symbol, sizeof symbol);
        if (!symbol && wanted[i].needed)
            return false;
    }
    return true;
}

/* The node of GPU `index`; one that PCI does not show (in some containers) is added on the first NUMA node. */
static int find_gpu(weft_live *l, const nvml *n, void *device, unsigned index)
{
    nvml_pci pci;
    char bus_id[WEFT_BUS_ID_BYTES], name[96];
    memset(&pci, 0, sizeof pci);
    if (n->pci(device, &pci) != NVML_OK)
        return -1;
    pci.bus_id[sizeof pci.bus_id - 1] = 0;
    if (!weft_bus_id_parse(pci.bus_id, bus_id))
        return -1;
    int gpu = weft_topology_find_bus(l->t, bus_id);
    if (gpu < 0) {
        int numa = weft_live_numa(l, -1);
        gpu = weft_topology_add_node(l->t, WEFT_NODE_GPU, numa >= 0 ? numa : l->host);
        weft_topology_node *node = weft_topology_edit(l->t, gpu);
        memcpy(node->bus_id, bus_id, sizeof bus_id);
        node->vendor = pci.ids & 0xffff;
        node->device = pci.ids >> 16;
        weft_topology_add_note(l->t, "%s is known to NVML and not shown on PCI: taken as on the first NUMA node", bus_id);
    }
    if (l->t->node[gpu].shown.kind != WEFT_NODE_GPU)
        return -1;
    weft_topology_edit(l->t, gpu)->os_index = (int)index;
    int major = 0, minor = 0;
    if (n->name && n->name(device, name, sizeof name) == NVML_OK) {
        name[sizeof name - 1] = 0;
        weft_topology_set(l->t, gpu, "model", name);
    }
    if (n->capability && n->capability(device, &major, &minor) == NVML_OK)
        weft_topology_set_number(l->t, gpu, "sm", major * 10 + minor);
    return gpu;
}

/* The node at the far end of a link, -1: not known. */
static int far_end(weft_live *l, const nvml *n, void *device, unsigned link, int gpu)
{
    nvml_pci pci;
    char bus_id[WEFT_BUS_ID_BYTES];
    int type = -1;
    memset(&pci, 0, sizeof pci);
    bool told = n->link_remote && n->link_remote(device, link, &pci) == NVML_OK;
    pci.bus_id[sizeof pci.bus_id - 1] = 0;
    told = told && weft_bus_id_parse(pci.bus_id, bus_id);
    if (n->link_type)
        n->link_type(device, link, &type);
    int peer = told ? weft_topology_find_bus(l->t, bus_id) : -1;
    if (type == NVML_REMOTE_CPU)
        return weft_topology_enclosing(l->t, gpu, WEFT_NODE_NUMA);
    if (peer >= 0 && peer != gpu && l->t->node[peer].shown.kind == WEFT_NODE_GPU)
        return peer;
    if (type == NVML_REMOTE_SWITCH || (peer >= 0 && weft_pci_is_nvswitch(l->t->node[peer].shown.pci_class, 0x10de)))
        return weft_import_fabric(l->t, l->host, told ? bus_id : "(not told)");
    return -1;
}

static void add_links(weft_live *l, const nvml *n, void *device, int gpu)
{
    int far[NVML_LINKS], links = 0, active = 0;
    for (unsigned link = 0; link < NVML_LINKS; link++) {
        if (n->link_state(device, link, &active) != NVML_OK || !active)
            continue;
        far[links] = far_end(l, n, device, link, gpu);
        if (far[links] >= 0)
            links++;
        else
            weft_topology_add_note(l->t, "NVLink %u of %s: its far end is not known: left out", link,
                                   l->t->node[gpu].shown.bus_id);
    }
    for (int i = 0; i < links; i++) {
        int same = 0;
        bool told = false;
        for (int j = 0; j < links; j++) {
            same += far[j] == far[i];
            told |= j < i && far[j] == far[i];
        }
        if (told)
            continue;
        weft_topology_edge edge = {WEFT_EDGE_NVLINK, gpu, far[i], same, same * weft_rate_nvlink_Bps(weft_rate_gpu_sm(l->t, gpu)),
                                   weft_rate_latency_ns(WEFT_EDGE_NVLINK), WEFT_FIGURE_TABLE};
        weft_topology_add_edge(l->t, &edge);
    }
}

static void read_gpus(weft_live *l, const nvml *n)
{
    unsigned count = 0;
    void *device[GPUS_MAX] = {0};
    int gpu[GPUS_MAX];
    if (n->count(&count) != NVML_OK)
        count = 0;
    count = count < GPUS_MAX ? count : GPUS_MAX;
    for (unsigned i = 0; i < count; i++)
        gpu[i] = n->handle(i, &device[i]) == NVML_OK ? find_gpu(l, n, device[i], i) : -1;
    for (unsigned i = 0; i < count && n->link_state; i++)
        if (gpu[i] >= 0)
            add_links(l, n, device[i], gpu[i]);
}

static bool has_nvidia_gpu(const weft_topology *t)
{
    for (int i = 0; i < t->nodes; i++)
        if (t->node[i].shown.kind == WEFT_NODE_GPU && t->node[i].shown.vendor == 0x10de)
            return true;
    return false;
}

void weft_live_nvml(weft_live *l)
{
    const char *path = l->nvml ? l->nvml : "libnvidia-ml.so.1";
    nvml n = {.library = *path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL};
    bool wanted = has_nvidia_gpu(l->t);
    if (!n.library) {
        if (wanted && *path)
            weft_topology_add_note(l->t, "%s cannot be loaded: NVLinks are not known", path);
        return;
    }
    if (!find_functions(&n) || n.init() != NVML_OK) {
        weft_topology_add_note(l->t, "NVML does not start: NVLinks are not known");
    } else {
        read_gpus(l, &n);
        n.shutdown();
    }
    dlclose(n.library);
}

/* Where network devices are, and how far from where a thread may run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"
#include "topology/live.h"
#include "topology/place.h"

enum { LOCAL_DISTANCE = 10, CROSSING = 10, LOWER_MAX = 64, LEVELS_MAX = 4 };

/* ---- this machine -------------------------------------------------------------------------------- */

/* A virtio device has no node of its own, but the PCI device that it is in. */
static int numa_of_device(const weft_live *l, const char *class_name, const char *device)
{
    char text[16];
    if (!weft_live_read(l, text, sizeof text, "/sys/class/%s/%s/device/numa_node", class_name, device) &&
        !weft_live_read(l, text, sizeof text, "/sys/class/%s/%s/device/../numa_node", class_name, device))
        return -1;
    return (int)strtol(text, NULL, 10);
}

/* Of a PCI device by its folder in sysfs, "/sys/devices/pci0000:00/0000:00:01.0". */
static int numa_of_folder(const weft_live *l, const char *folder)
{
    char text[16];
    return weft_live_read(l, text, sizeof text, "%s/numa_node", folder) ? (int)strtol(text, NULL, 10) : -1;
}

/* The NUMA node of all interfaces below this one; -1: there are none, or they are on several. */
static int numa_of_interface(const weft_live *l, const char *interface, int levels)
{
    char folder[64], *entry[LOWER_MAX];
    int numa = numa_of_device(l, "net", interface), lower = 0;
    if (numa >= 0 || levels == 0)
        return numa;
    snprintf(folder, sizeof folder, "/sys/class/net/%.31s", interface);
    int count = weft_live_list(l, folder, entry, LOWER_MAX);
    for (int i = 0; i < count; i++) {
        if (strncmp(entry[i], "lower_", 6) == 0) {
            int here = numa_of_interface(l, entry[i] + 6, levels - 1);
            numa = lower++ == 0 || here == numa ? here : -1;
        }
        weft_free(entry[i]);
    }
    return numa;
}

void weft_device_read(const char *root, const char *device, weft_device_place *place)
{
    weft_topology failures = { .out_of_memory = false }; /* where what is shared with the whole map notes them */
    weft_live l = { .root = root, .t = &failures };
    char list[WEFT_CPUS_TEXT];
    weft_cpus cpus;
    *place = (weft_device_place){ .node = -1, .package = -1 };
    if (*device == '/')
        place->node = numa_of_folder(&l, device);
    else if ((place->node = numa_of_device(&l, "infiniband", device)) < 0)
        place->node = numa_of_interface(&l, device, LEVELS_MAX);
    if (place->node < 0)
        return;
    weft_live_read(&l, place->distances, sizeof place->distances, "/sys/devices/system/node/node%d/distance", place->node);
    if (!weft_live_read(&l, list, sizeof list, "/sys/devices/system/node/node%d/cpulist", place->node) ||
        !weft_cpus_parse_list(list, &cpus) || weft_cpus_first(&cpus) < 0 ||
        !weft_live_read(&l, list, sizeof list, "/sys/devices/system/cpu/cpu%d/topology/core_siblings_list",
                        weft_cpus_first(&cpus)) ||
        !weft_cpus_parse_list(list, &cpus))
        return;
    place->package = weft_cpus_first(&cpus);
}

/* The n-th number of "10 21 21"; -1: there is none. */
static int number_at(const char *list, int n)
{
    char *end;
    for (;; list = end) {
        long number = strtol(list, &end, 10);
        if (end == list)
            return -1;
        if (n-- == 0)
            return (int)number;
    }
}

static int distance_here(const weft_device_place *place, const weft_location *from)
{
    if (from->numa >= 0 && from->numa == place->node)
        return LOCAL_DISTANCE;
    if (from->numa >= 0 && place->distances[0])
        return number_at(place->distances, from->numa);
    if (from->package < 0 || place->package < 0)
        return -1;
    return from->package == place->package ? LOCAL_DISTANCE : LOCAL_DISTANCE + CROSSING;
}

/* ---- a machine from a file ----------------------------------------------------------------------- */

static int find_device(const weft_topology *t, const char *device)
{
    const char *slash = strrchr(device, '/'); /* a PCI device's folder in sysfs ends with its bus id */
    int node = weft_topology_find(t, slash ? slash + 1 : device);
    for (int i = 0; node < 0 && i < t->nodes; i++) { /* RDMA devices have given the ports their names */
        const char *interface = weft_topology_attribute(t, i, "interface");
        if (interface && strcmp(interface, device) == 0)
            node = i;
    }
    return node;
}

/* Whether the file tells where a node is: what is outside of all NUMA nodes and packages is just somewhere. */
static bool is_placed(const weft_topology *t, int node)
{
    const char *type = weft_topology_attribute(t, node, "type");
    return (!type || strcmp(type, "virtual") != 0) &&
           (weft_topology_enclosing(t, node, WEFT_NODE_NUMA) >= 0 || weft_topology_enclosing(t, node, WEFT_NODE_PACKAGE) >= 0);
}

void weft_device_find(const weft_topology *topology, const char *device, weft_device_place *place)
{
    char first[32];
    const char *over;
    int node = find_device(topology, device);
    for (int level = 0; node >= 0 && level < LEVELS_MAX && (over = weft_topology_attribute(topology, node, "over")); level++) {
        snprintf(first, sizeof first, "%.*s", (int)strcspn(over, " "), over);
        node = find_device(topology, first);
    }
    *place = (weft_device_place){.machine = topology, .node = node >= 0 && is_placed(topology, node) ? node : -1, .package = -1};
}

static int crossings(const weft_topology *t, const weft_topology_path *path)
{
    int count = 0;
    for (int i = 0; i < path->hops; i++) {
        const weft_topology_edge *e = &t->edge[path->edge[i]];
        count += t->node[e->a].shown.kind == WEFT_NODE_NUMA && t->node[e->b].shown.kind == WEFT_NODE_NUMA;
    }
    return count;
}

static int distance_on(const weft_device_place *place, const weft_location *from)
{
    int start = from->numa >= 0 ? from->numa : from->cache;
    weft_topology_path path;
    if (place->node < 0 || start < 0 || start >= place->machine->nodes ||
        weft_topology_find_path(place->machine, start, place->node, &path) != WEFT_OK || path.path_class == WEFT_PATH_NONE)
        return -1;
    return LOCAL_DISTANCE + CROSSING * crossings(place->machine, &path);
}

int weft_device_distance(const weft_device_place *place, const weft_location *from)
{
    if (place->node < 0)
        return -1;
    return place->machine ? distance_on(place, from) : distance_here(place, from);
}

/* Packages, NUMA nodes, last-level caches and cores from sysfs, and what of them this process may use. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/number.h"
#include "topology/cpus.h"
#include "topology/live.h"

enum { FOLDER_MAX = 4096 };

static long read_number(const weft_live *l, int cpu, const char *file, long otherwise)
{
    char text[64], *end;
    if (!weft_live_read(l, text, sizeof text, "/sys/devices/system/cpu/cpu%d/%s", cpu, file))
        return otherwise;
    long value = strtol(text, &end, 10);
    return *end ? otherwise : value;
}

/* A node of this kind in this container with these CPUs, made if there is none. */
static int find_or_add(weft_live *l, weft_node_kind kind, int parent, long os_index, const char *cpus)
{
    for (int i = parent + 1; i < l->t->nodes; i++) {
        const weft_topology_node *n = &l->t->node[i].shown;
        const char *have = weft_topology_attribute(l->t, i, "cpus");
        if (n->kind == kind && n->parent == parent && (cpus ? have && strcmp(have, cpus) == 0 : n->os_index == os_index))
            return i;
    }
    int node = weft_topology_add_node(l->t, kind, parent);
    weft_topology_edit(l->t, node)->os_index = (int)os_index;
    weft_topology_set(l->t, node, "cpus", cpus);
    return node;
}

/* The list of CPUs that share this one's L3; false: it has none, as in many virtual machines. */
static bool l3_of(const weft_live *l, int cpu, char *list, size_t bytes, char *size, size_t size_bytes)
{
    char level[16];
    for (int index = 0; index < 8; index++) {
        if (!weft_live_read(l, level, sizeof level, "/sys/devices/system/cpu/cpu%d/cache/index%d/level", cpu, index))
            return false;
        if (strcmp(level, "3") == 0) {
            weft_live_read(l, size, size_bytes, "/sys/devices/system/cpu/cpu%d/cache/index%d/size", cpu, index);
            return weft_live_read(l, list, bytes, "/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, index);
        }
    }
    return false;
}

static void add_cpu(weft_live *l, int numa, int cpu)
{
    char l3[WEFT_CPUS_TEXT], size[32] = "", siblings[WEFT_CPUS_TEXT];
    int container = numa;
    if (l3_of(l, cpu, l3, sizeof l3, size, sizeof size)) {
        container = find_or_add(l, WEFT_NODE_L3, numa, -1, l3);
        double kilobytes = weft_strtod(size, NULL);
        if (kilobytes > 0)
            weft_topology_set_number(l->t, container, "bytes", kilobytes * 1024);
    }
    int cores = -1;
    for (int i = container + 1; i < l->t->nodes && cores < 0; i++)
        if (l->t->node[i].shown.kind == WEFT_NODE_CORES && l->t->node[i].shown.parent == container)
            cores = i;
    if (cores < 0) {
        cores = weft_topology_add_node(l->t, WEFT_NODE_CORES, container);
        weft_topology_edit(l->t, cores)->count = 0;
    }
    bool told = weft_live_read(l, siblings, sizeof siblings, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (!told || strtol(siblings, NULL, 10) == cpu) /* the first thread counts its core */
        weft_topology_edit(l->t, cores)->count++;
    weft_cpus cpus, one;
    char list[WEFT_CPUS_TEXT];
    const char *have = weft_topology_attribute(l->t, cores, "cpus");
    snprintf(list, sizeof list, "%d", cpu);
    weft_cpus_parse_list(list, &one);
    if (have && weft_cpus_parse_list(have, &cpus))
        weft_cpus_add(&one, &cpus);
    weft_cpus_list(&one, list, sizeof list);
    weft_topology_set(l->t, cores, "cpus", list);
}

/* "vendor_id : GenuineIntel" -> the value. */
static bool cpuinfo_field(const char *info, const char *name, char *value, size_t bytes)
{
    const char *at = strstr(info, name), *colon = at ? strchr(at, ':') : NULL;
    if (!colon || strcspn(at, "\n") < (size_t)(colon - at))
        return false;
    colon += 1 + (colon[1] == ' ');
    snprintf(value, bytes, "%.*s", (int)strcspn(colon, "\n"), colon);
    return value[0] != 0;
}

static void tell_processor(weft_live *l)
{
    static const struct {
        const char *field, *attribute;
    } fields[] = {{"vendor_id", "vendor"}, {"cpu family", "familyid"}, {"model\t", "modelid"}, {"model name", "model"}};
    char info[WEFT_LIVE_TEXT], value[128];
    struct utsname names;
    bool told = weft_live_read(l, info, sizeof info, "/proc/cpuinfo");
    for (int i = 0; i < l->t->nodes; i++) {
        weft_node_kind kind = l->t->node[i].shown.kind;
        if (kind == WEFT_NODE_NUMA && uname(&names) == 0)
            weft_topology_set(l->t, i, "arch", names.machine);
        for (size_t f = 0; f < ARRAY_LEN(fields) && told; f++)
            if ((kind == WEFT_NODE_NUMA && f < 3) || (kind == WEFT_NODE_PACKAGE && f == 3))
                if (cpuinfo_field(info, fields[f].field, value, sizeof value))
                    weft_topology_set(l->t, i, fields[f].attribute, value);
    }
}

static void add_numa(weft_live *l, int os_index)
{
    char list[WEFT_CPUS_TEXT], text[WEFT_LIVE_TEXT];
    weft_cpus cpus;
    if (!weft_live_read(l, list, sizeof list, "/sys/devices/system/node/node%d/cpulist", os_index))
        list[0] = 0; /* memory without processors */
    if (!weft_cpus_parse_list(list, &cpus))
        return;
    int first = -1, package = l->host;
    for (int cpu = 0; cpu < WEFT_CPUS_MAX && first < 0; cpu++)
        if (weft_cpus_has(list, cpu))
            first = cpu;
    long package_id = first >= 0 ? read_number(l, first, "topology/physical_package_id", -1) : -1;
    if (package_id >= 0)
        package = find_or_add(l, WEFT_NODE_PACKAGE, l->host, package_id, NULL);
    int numa = weft_topology_add_node(l->t, WEFT_NODE_NUMA, package);
    weft_topology_edit(l->t, numa)->os_index = os_index;
    if (list[0])
        weft_topology_set(l->t, numa, "cpus", list);
    if (weft_live_read(l, text, sizeof text, "/sys/devices/system/node/node%d/distance", os_index))
        weft_topology_set(l->t, numa, "distances", text);
    const char *total = weft_live_read(l, text, sizeof text, "/sys/devices/system/node/node%d/meminfo", os_index)
                            ? strstr(text, "MemTotal:") : NULL;
    if (total)
        weft_topology_set_number(l->t, numa, "memory", weft_strtod(total + 9, NULL) * 1024);
    for (int cpu = 0; cpu < WEFT_CPUS_MAX && list[0]; cpu++)
        if (weft_cpus_has(list, cpu) && weft_live_exists(l, "/sys/devices/system/cpu/cpu%d/topology", cpu))
            add_cpu(l, numa, cpu);
}

/* A machine without /sys/devices/system/node has one NUMA node of all CPUs. */
static void add_flat(weft_live *l)
{
    char online[WEFT_CPUS_TEXT];
    int numa = weft_topology_add_node(l->t, WEFT_NODE_NUMA, l->host);
    if (weft_live_read(l, online, sizeof online, "/sys/devices/system/cpu/online")) {
        weft_topology_set(l->t, numa, "cpus", online);
        for (int cpu = 0; cpu < WEFT_CPUS_MAX; cpu++)
            if (weft_cpus_has(online, cpu))
                add_cpu(l, numa, cpu);
    } else {
        weft_topology_add_note(l->t, "%s/sys/devices/system/cpu cannot be read: processors are not known", l->root);
    }
    weft_topology_add_note(l->t, "the kernel tells no NUMA nodes: the machine counts as one");
}

/* What affinity and cgroup leave to this process: the kernel has both in one place. */
static void tell_allowed(weft_live *l)
{
    char status[WEFT_LIVE_TEXT], list[WEFT_CPUS_TEXT];
    if (weft_live_read(l, status, sizeof status, "/proc/self/status")) {
        if (cpuinfo_field(status, "Cpus_allowed_list", list, sizeof list))
            weft_topology_set(l->t, l->host, "allowed_cpus", list + strspn(list, "\t "));
        if (cpuinfo_field(status, "Mems_allowed_list", list, sizeof list))
            weft_topology_set(l->t, l->host, "allowed_numa", list + strspn(list, "\t "));
    }
    if (weft_live_read(l, list, sizeof list, "/sys/fs/cgroup/cpu.max"))
        weft_topology_set(l->t, l->host, "cpu_quota", list);
}

void weft_live_processors(weft_live *l)
{
    char **name = weft_alloc_array(FOLDER_MAX, sizeof *name), online[WEFT_CPUS_TEXT];
    int count = name ? weft_live_list(l, "/sys/devices/system/node", name, FOLDER_MAX) : 0, found = 0;
    if (!name)
        l->t->out_of_memory = true;
    if (weft_live_read(l, online, sizeof online, "/sys/devices/system/cpu/online"))
        weft_topology_set(l->t, l->host, "cpus", online);
    for (int i = 0; i < count; i++) {
        char *end;
        long os_index = strncmp(name[i], "node", 4) == 0 ? strtol(name[i] + 4, &end, 10) : -1;
        if (os_index >= 0 && name[i][4] && *end == 0 && os_index < 1 << 20) {
            add_numa(l, (int)os_index);
            found++;
        }
        weft_free(name[i]);
    }
    weft_free(name);
    if (found == 0)
        add_flat(l);
    tell_processor(l);
    tell_allowed(l);
}

/* Where the calling thread may run, from its affinity. Not from the whole map: reading that takes a file or more for each
 * processor, and every rank of a job would wait for it when a communicator is made. */
#define _GNU_SOURCE
#include "topology/place.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"
#include "topology/live.h"

enum { ENTRIES_MAX = 256, CACHES_MAX = 8 };

/* The processors of the thread's affinity; false: there are none that are known. */
static bool allowed_cpus(weft_cpus *cpus)
{
    memset(cpus, 0, sizeof *cpus);
    cpu_set_t *set = (cpu_set_t *)(void *)cpus->word; /* the kernel's masks are arrays of words too */
    return sched_getaffinity(0, sizeof cpus->word, set) == 0 && weft_cpus_count(cpus) > 0;
}

/* The number of what has these processors ("0-7,16-23"): its first one; -1: not all of the thread's are among them. */
static int number_of(const char *list, const weft_cpus *mine)
{
    weft_cpus cpus;
    if (!weft_cpus_parse_list(list, &cpus))
        return -1;
    for (int w = 0; w < WEFT_CPUS_MAX / 64; w++)
        if (mine->word[w] & ~cpus.word[w])
            return -1;
    return weft_cpus_first(&cpus);
}

static int find_cache(const weft_live *l, int cpu, const weft_cpus *mine)
{
    char level[16], list[WEFT_CPUS_TEXT];
    int last = -1, number = -1;
    for (int i = 0; i < CACHES_MAX; i++) {
        if (!weft_live_read(l, level, sizeof level, "/sys/devices/system/cpu/cpu%d/cache/index%d/level", cpu, i))
            break;
        long this = strtol(level, NULL, 10);
        if (this <= last || this < 3 ||
            !weft_live_read(l, list, sizeof list, "/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, i))
            continue;
        last = (int)this;
        number = number_of(list, mine);
    }
    return number;
}

static int find_numa(const weft_live *l, int cpu, const weft_cpus *mine)
{
    char folder[64], list[WEFT_CPUS_TEXT], *name[ENTRIES_MAX];
    int numa = -1;
    snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%d", cpu);
    int count = weft_live_list(l, folder, name, ENTRIES_MAX);
    for (int i = 0; i < count; i++) {
        char *end = name[i];
        long number = strncmp(name[i], "node", 4) == 0 ? strtol(name[i] + 4, &end, 10) : -1;
        if (end != name[i] && *end == 0 && number >= 0 &&
            weft_live_read(l, list, sizeof list, "/sys/devices/system/node/node%ld/cpulist", number) &&
            number_of(list, mine) >= 0)
            numa = (int)number;
        weft_free(name[i]);
    }
    return numa;
}

void weft_location_read(const char *root, weft_location *here)
{
    weft_cpus mine;
    char list[WEFT_CPUS_TEXT];
    *here = (weft_location){ -1, -1, -1 };
    weft_topology failures = { .out_of_memory = false }; /* where what is shared with the whole map notes them */
    weft_live l = { .root = root, .t = &failures };
    if (!allowed_cpus(&mine))
        return;
    int cpu = weft_cpus_first(&mine);
    if (weft_live_read(&l, list, sizeof list, "/sys/devices/system/cpu/cpu%d/topology/core_siblings_list", cpu))
        here->package = number_of(list, &mine);
    here->cache = find_cache(&l, cpu, &mine);
    here->numa = find_numa(&l, cpu, &mine);
}

bool weft_machine_is_divided(const char *root)
{
    weft_topology failures = { .out_of_memory = false };
    weft_live l = { .root = root, .t = &failures };
    char online[WEFT_CPUS_TEXT], cache[WEFT_CPUS_TEXT], nodes[64];
    if (weft_live_read(&l, nodes, sizeof nodes, "/sys/devices/system/node/online") && strpbrk(nodes, ",-"))
        return true;
    return weft_live_read(&l, online, sizeof online, "/sys/devices/system/cpu/online") &&
           weft_live_read(&l, cache, sizeof cache, "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list") &&
           strcmp(online, cache) != 0;
}

/* The node of a kind that holds all of the thread's processors. */
static int holder(const weft_topology *t, const weft_cpus *mine, weft_node_kind kind)
{
    int node = -1;
    for (int cpu = 0; cpu < WEFT_CPUS_MAX; cpu++) {
        if (!(mine->word[cpu / 64] >> cpu % 64 & 1))
            continue;
        int here = weft_topology_find_cpu(t, cpu);
        here = here >= 0 ? weft_topology_enclosing(t, here, kind) : -1;
        if (here < 0 || (node >= 0 && here != node))
            return -1;
        node = here;
    }
    return node;
}

void weft_location_find(const weft_topology *t, weft_location *here)
{
    weft_cpus mine;
    *here = (weft_location){ -1, -1, -1 };
    if (!allowed_cpus(&mine))
        return;
    here->package = holder(t, &mine, WEFT_NODE_PACKAGE);
    here->numa = holder(t, &mine, WEFT_NODE_NUMA);
    here->cache = holder(t, &mine, WEFT_NODE_L3);
}

/* Where on this machine the calling thread may run: what a job tells of each rank. */
#ifndef WEFT_TOPOLOGY_PLACE_H
#define WEFT_TOPOLOGY_PLACE_H

#include <weft/topology.h>

/* Numbers of one machine, equal for threads that share the thing and ascending as the machine counts; -1: the thread may run on
 * several, or none is known. */
typedef struct weft_location {
    int32_t package, numa, cache; /* cache: of the last level */
} weft_location;

/* By the thread's affinity, from some ten files of sysfs, below `root` ("": the real ones). */
void weft_location_read(const char *root, weft_location *here);
/* The same on a machine from a file. */
void weft_location_find(const weft_topology *topology, weft_location *here);

/* Has this machine several NUMA nodes or last-level caches? */
bool weft_machine_is_divided(const char *root);
/* Processors, caches and memory of this machine alone, as weft_topology_read does it. */
weft_status weft_topology_read_processors(const char *root, weft_topology **topology);

/* Where a network device is ("eth0", "mlx5_0", a PCI device's folder in sysfs; a bond or VLAN is where what it stands on is). */
typedef struct weft_device_place {
    const weft_topology *machine; /* NULL: this one */
    int node;                     /* of the machine; here the number of the NUMA node; -1: not known */
    int package;
    char distances[512];          /* from that NUMA node, as the firmware gives them */
} weft_device_place;

void weft_device_read(const char *root, const char *device, weft_device_place *place);
void weft_device_find(const weft_topology *topology, const char *device, weft_device_place *place);
/* How far it is from a thread, in the numbers of ACPI (10: on the same NUMA node); -1: not known. */
int weft_device_distance(const weft_device_place *place, const weft_location *from);

#endif

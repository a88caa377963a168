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

#endif

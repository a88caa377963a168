/* What ways between ranks are like on a machine, as was measured or as its map tells: what a job starts from before it has
 * run anything. */
#ifndef WEFT_TOPOLOGY_MEASURED_H
#define WEFT_TOPOLOGY_MEASURED_H

#include <weft/topology.h>

/* One kind of way; bandwidth 0: nothing was measured. */
typedef struct weft_measured {
    double latency_ns, bandwidth_Bps;
} weft_measured;

/* How near two threads of a host are. */
typedef enum weft_nearness {
    WEFT_NEAR_CACHE, WEFT_NEAR_NUMA, WEFT_NEAR_PACKAGE, WEFT_NEAR_HOST, WEFT_NEARNESS_COUNT
} weft_nearness;

/* What a way costs more than one within a last-level cache, and its narrowest link, by how near its ends are. */
void weft_topology_ways(const weft_topology *topology, weft_measured way[WEFT_NEARNESS_COUNT]);

/* The worst way within the host, and all ways of the host to others together. */
void weft_topology_measured(const weft_topology *topology, weft_measured *local, weft_measured *network);

#endif

/* What was measured on a machine, as its file tells: what a job starts from before it has run anything. */
#ifndef WEFT_TOPOLOGY_MEASURED_H
#define WEFT_TOPOLOGY_MEASURED_H

#include <weft/topology.h>

/* One kind of way; bandwidth 0: nothing was measured. */
typedef struct weft_measured {
    double latency_ns, bandwidth_Bps;
} weft_measured;

/* The worst way within the host, and all ways of the host to others together. */
void weft_topology_measured(const weft_topology *topology, weft_measured *local, weft_measured *network);

#endif

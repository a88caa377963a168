/* Routes: what path.c, nic.c and the channel search share. */
#ifndef WEFT_TOPOLOGY_ROUTE_H
#define WEFT_TOPOLOGY_ROUTE_H

#include "topology/graph.h"

/* As weft_topology_find_path, by PCI, buses and memory alone: without NVLink between GPUs, without PXN. */
weft_status weft_route_plain(const weft_topology *t, int a, int b, weft_topology_path *path);
/* May collectives use this NIC: it has a link that is up and is no virtual function of a NIC that is here itself. */
bool weft_nic_usable(const weft_topology *t, int nic);
/* The edges of the NIC and its ports to the network: the i-th, -1 past the last. */
int weft_nic_wire(const weft_topology *t, int nic, int i);
#endif

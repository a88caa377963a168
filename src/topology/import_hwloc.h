/* What the two files of the hwloc importer share. */
#ifndef WEFT_TOPOLOGY_IMPORT_HWLOC_H
#define WEFT_TOPOLOGY_IMPORT_HWLOC_H

#include "topology/import.h"

typedef enum weft_hwloc_type { WEFT_HWLOC_NUMA, WEFT_HWLOC_PACKAGE, WEFT_HWLOC_OSDEV, WEFT_HWLOC_PCIDEV } weft_hwloc_type;

/* An object that a matrix of distances may name, and the node that it became. */
typedef struct weft_hwloc_known {
    weft_hwloc_type type;
    int node;
    int64_t gp_index, os_index;
} weft_hwloc_known;

typedef struct weft_hwloc_import {
    const weft_document *d;
    weft_topology *t;
    weft_hwloc_known *object;
    int known, known_room;
} weft_hwloc_import;

/* A bridge or device and what is below it. `port`: a bridge here is a root port or a switch's downstream port. */
void weft_hwloc_io(weft_hwloc_import *im, int object, int parent, bool port);
/* The matrices: NVLink and xGMI bandwidths, latencies between NUMA nodes. */
weft_status weft_hwloc_links(weft_hwloc_import *im, int host);
#endif

/* Reading this machine: what the files live*.c share. Each adds what it can see to a topology that is being built and notes what
 * it cannot. */
#ifndef WEFT_TOPOLOGY_LIVE_H
#define WEFT_TOPOLOGY_LIVE_H

#include "topology/graph.h"

enum { WEFT_LIVE_PATH = 512, WEFT_LIVE_TEXT = 4096 };

typedef struct weft_live {
    weft_topology *t;
    const char *root; /* before /sys and /proc */
    const char *nvml;
    int host;
} weft_live;

/* The first line(s) of a small file under the root, without the newline at the end; false: it cannot be read. */
bool weft_live_read(const weft_live *l, char *text, size_t bytes, const char *format, ...) WEFT_PRINTF(4, 5);
bool weft_live_exists(const weft_live *l, const char *format, ...) WEFT_PRINTF(2, 3);
/* Where a symbolic link leads, with all links on the way resolved. */
bool weft_live_resolve(const weft_live *l, char *text, size_t bytes, const char *format, ...) WEFT_PRINTF(4, 5);
/* The names in a folder in order (numbers by value), at most `room`; how many. Each is freed by the caller with weft_free. */
int weft_live_list(const weft_live *l, const char *folder, char **name, int room);

void weft_live_processors(weft_live *l);
void weft_live_pci(weft_live *l);
void weft_live_network(weft_live *l);
void weft_live_nvml(weft_live *l);
void weft_live_limits(weft_live *l);
/* The NUMA node with the system's number, else the first one, else -1. */
int weft_live_numa(const weft_live *l, int os_index);
#endif

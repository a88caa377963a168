/* Memory on the NUMA node of the thread that it is for. */
#ifndef WEFT_NUMA_H
#define WEFT_NUMA_H

#include <stddef.h>

/* The kernel's calls, as libc does not have them: 0 or -1 and errno. */
typedef struct weft_numa_system {
    long (*get_mempolicy)(int *mode, unsigned long *mask, unsigned long bits, void *address, unsigned long flags);
    long (*getcpu)(unsigned *cpu, unsigned *node);
    long (*mbind)(void *address, unsigned long bytes, unsigned long mode, const unsigned long *mask, unsigned long bits,
                  unsigned flags);
} weft_numa_system;

/* NULL but in tests. */
extern const weft_numa_system *weft_numa_injected;

/* Pages of this mapping, whole pages of which none is there yet, shall come from the node that the calling thread runs on,
 * whoever touches them first. A wish: nothing happens where there is one node, where the user has chosen a policy for the thread,
 * or where the kernel refuses. */
void weft_numa_prefer(void *address, size_t bytes);

#endif

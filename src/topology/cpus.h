/* Sets of logical CPUs: from the kernel's masks and lists, as a list ("0-7,16-23") in a node's attribute "cpus". */
#ifndef WEFT_TOPOLOGY_CPUS_H
#define WEFT_TOPOLOGY_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEFT_CPUS_MAX = 8192, WEFT_CPUS_TEXT = 2048 };

typedef struct weft_cpus {
    uint64_t word[WEFT_CPUS_MAX / 64];
} weft_cpus;

/* "00ff00ff,0000ffff" (NCCL, sysfs), "0x000000ff,,0x1" (hwloc): 32-bit words, the highest first. CPUs beyond the maximum are
 * left out. False: it is no mask. */
bool weft_cpus_parse_mask(const char *text, weft_cpus *cpus);
/* "0-7,16-23". False: it is no list. */
bool weft_cpus_parse_list(const char *text, weft_cpus *cpus);
/* The list; what does not fit is cut at a comma. */
void weft_cpus_list(const weft_cpus *cpus, char *text, size_t bytes);
/* The mask as NCCL writes it. */
void weft_cpus_mask(const weft_cpus *cpus, char *text, size_t bytes);
int weft_cpus_count(const weft_cpus *cpus);
int weft_cpus_first(const weft_cpus *cpus); /* -1: there is none */
void weft_cpus_add(weft_cpus *to, const weft_cpus *more);
/* Is the CPU in this list? */
bool weft_cpus_has(const char *list, int cpu);
#endif

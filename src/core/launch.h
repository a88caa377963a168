/* Key-value stores of launchers, for weft_launch_detect. Each is a weft_store whose context has a free function. */
#ifndef WEFT_LAUNCH_H
#define WEFT_LAUNCH_H

#include "core/control.h"

/* What weft_launch.owner points to. */
typedef struct weft_launch_store {
    void (*release)(struct weft_launch_store *store);
    char prefix[32]; /* another one for each creation: these stores keep keys for the life of the job */
    weft_store store;
} weft_launch_store;

/* By libpmix, loaded at run time. *size is asked for when it is not known (-1). */
weft_status weft_launch_pmix_open(int *rank, int *size, weft_launch_store **out);
/* By the wire protocol of PMI (MPICH's mpiexec, Slurm) on the descriptor that PMI_FD names. */
weft_status weft_launch_pmi_open(int rank, int size, weft_launch_store **out);

/* Values as text, since PMI knows nothing else. hex holds 2 * bytes + 1. */
void weft_launch_to_hex(const void *data, size_t bytes, char *hex);
/* False: no hex, or longer than *bytes. */
bool weft_launch_from_hex(const char *hex, void *data, size_t *bytes);
#endif

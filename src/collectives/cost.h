/* Inside the cost model: the simulation that others may watch (the timeline does), and what it shares with
 * the formulas. */
#ifndef WEFT_COST_H
#define WEFT_COST_H

#include <weft/schedule.h>

#include "collectives/slice.h"

/* As the executor cuts and pipelines. */
enum {
    WEFT_COST_SLICE_BYTES = 64 << 10,         /* the longest; see slice.h */
    WEFT_COST_TREE_TILE_BYTES = 128 << 10,
    WEFT_COST_HIERARCHICAL_TILE_BYTES = 256 << 10,
    WEFT_COST_DEPTH = 2                /* tiles of a lane in flight */
};

static inline double weft_cost_slice(const weft_link *link, double message_bytes)
{
    double slice = (double)weft_slice_of((size_t)message_bytes, weft_slice_least(link->bandwidth_Bps), WEFT_COST_SLICE_BYTES);
    return slice < message_bytes ? slice : message_bytes;
}

/* Blocks that `bytes` (as weft-perf counts them) consist of. */
static inline uint32_t weft_cost_blocks(weft_collective collective, int ranks)
{
    switch (collective) {
    case WEFT_ALL_GATHER:
    case WEFT_REDUCE_SCATTER:
    case WEFT_GATHER:
    case WEFT_SCATTER:
    case WEFT_ALL_TO_ALL:
        return (uint32_t)ranks;
    default:
        return 1;
    }
}

/* Told of everything that happens, times in ns. Either function may be NULL. */
typedef struct weft_cost_watcher {
    void (*step)(void *context, int rank, uint32_t lane, uint32_t tile, uint32_t step, double start_ns,
                 double end_ns);
    void (*message)(void *context, int from, int to, uint32_t lane, double start_ns, double end_ns,
                    double bytes);
    void *context;
} weft_cost_watcher;

/* WEFT_ERR_INVALID for bandwidths of 0 and the like. */
weft_status weft_cost_model_check(const weft_cost_model *model);
/* weft_cost, watched. Many tiles are not all simulated, so the watcher sees the first ones only. */
weft_status weft_cost_watch(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                            const weft_cost_model *model, size_t bytes, const weft_cost_watcher *watcher,
                            double *time_ns);

#endif

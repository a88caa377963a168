/* Inside the planners: their functions (one file per family) and what several of them need to know of the
 * group. */
#ifndef WEFT_PLAN_H
#define WEFT_PLAN_H

#include "base/base.h"
#include "collectives/planner.h"

enum { WEFT_PLAN_MAX_LANES = 32, WEFT_PLAN_MAX_RANKS = 32768 };
/* The number of lanes to plan: what was wished, else `fallback`. */
uint32_t weft_plan_lanes(const weft_plan_request *request, uint32_t fallback);
/* Largest power of two <= n. */
int weft_floor_pow2(int n);

/* Ranks in an order in which those of one host are neighbours, and there those of one NUMA node and those of one cache, so that
 * a ring crosses each slow link once. */
typedef struct weft_order {
    int ranks, hosts;
    int position; /* of this rank */
    int *rank;    /* by position */
    int *start;   /* by host: position of its first rank; [hosts] is the end */
} weft_order;
weft_status weft_order_create(weft_order *order, const weft_group *group, int rank);
void weft_order_free(weft_order *order);
/* Position `steps` further along the ring (direction 1 or -1) from this rank. */
int weft_order_along(const weft_order *order, int direction, int steps);

int weft_group_hosts(const weft_group *group);

/* Any number of ranks as a power of two of "numbers": the first 2 * extra ranks in pairs (2i, 2i + 1), the
 * even one standing for both. */
typedef struct weft_fold {
    int active; /* numbers: a power of two */
    int extra;
    int number; /* of this rank, -1 for the odd one of a pair */
    int twin;   /* the other rank of the pair, -1 where there is none */
} weft_fold;
void weft_fold_create(weft_fold *fold, int ranks, int rank);
/* The first rank that `number` stands for; weft_fold_first(f, number + 1) is the end. */
int weft_fold_first(const weft_fold *fold, int number);

/* Publishes input chunks 0 to count - 1 but this rank's own, which nobody else reads. */
void weft_build_publish_others(weft_builder *b, uint32_t count, int own);
/* On one host: every rank signals, and waits for that signal, its value-th, of all others. In lane 0. */
void weft_build_all_signal(weft_builder *b, int ranks, int rank, uint32_t value, unsigned flags);
/* dst = the same input place of each of the ranks (NULL: 0, 1 ...), combined in that order. In lane 0. */
weft_status weft_build_reduce_ranks(weft_builder *b, const int *ranks, int count, weft_place input,
                                    weft_place dst, unsigned flags);

/* The planners; planners.c says what each is for. */
weft_status weft_plan_ring_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_ring_all_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_ring_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_ring_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_ring_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_linear_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_linear_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_linear_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_knomial_barrier(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_doubling_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_doubling_all_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_doubling_barrier(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_halving_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_halving_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_bruck_all_to_all(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_bruck_all_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_pairwise_all_to_all(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_pairwise_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_all_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_scatter(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_all_to_all(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_flat_barrier(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_direct_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_direct_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_direct_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_tree_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_tree_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_tree_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_hierarchical_all_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_hierarchical_all_gather(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_hierarchical_reduce_scatter(weft_builder *b, const weft_plan_request *request,
                                                  int rank);
weft_status weft_plan_hierarchical_broadcast(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_hierarchical_reduce(weft_builder *b, const weft_plan_request *request, int rank);
weft_status weft_plan_hierarchical_barrier(weft_builder *b, const weft_plan_request *request, int rank);

#endif

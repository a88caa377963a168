/* What the planners share: the table of planners and a builder of step lists. */
#ifndef WEFT_PLANNER_H
#define WEFT_PLANNER_H

#include <weft/schedule.h>

typedef struct weft_builder weft_builder;

/* A planner fills the builder for one rank. Pure: depends on request and rank only. */
typedef weft_status (*weft_planner_function)(weft_builder *b, const weft_plan_request *request, int rank);

typedef struct weft_planner {
    weft_algorithm algorithm;
    weft_collective collective;
    weft_planner_function plan;
    bool one_host;     /* needs all ranks on one host */
    bool vector;       /* right for blocks of different sizes */
    bool keeps_order;  /* right for operations that do not commute */
    bool single_lane;  /* ignores request->lanes */
} weft_planner;

/* All planners; sentinel has plan == NULL. One row per (algorithm, collective). */
extern const weft_planner weft_planners[];
const weft_planner *weft_planner_find(weft_algorithm algorithm, weft_collective collective);

/* Builder: errors (out of memory) are sticky and come back from weft_builder_finish. */
weft_status weft_builder_create(const weft_plan_request *request, int rank, weft_builder **b);
/* Ends the builder, also on failure; *schedule is the caller's. */
weft_status weft_builder_finish(weft_builder *b, weft_schedule **schedule);
void weft_builder_abandon(weft_builder *b);
/* First of all; the same on all ranks (the executor sizes its tiles by it). */
void weft_build_shape(weft_builder *b, uint32_t chunks_per_block, uint32_t scratch_chunks, uint32_t lanes);
void weft_build_send(weft_builder *b, uint32_t lane, weft_place src, int to);
void weft_build_recv(weft_builder *b, uint32_t lane, int from, weft_place dst, int forward_to);
void weft_build_recv_reduce(weft_builder *b, uint32_t lane, int from, weft_place src, weft_place dst,
                            int forward_to, unsigned flags);
void weft_build_copy(weft_builder *b, uint32_t lane, weft_place src, weft_place dst, unsigned flags);
void weft_build_reduce(weft_builder *b, uint32_t lane, const weft_place *sources, int count, weft_place dst,
                       unsigned flags);
void weft_build_publish(weft_builder *b, uint32_t lane, weft_place src, unsigned flags);
void weft_build_signal(weft_builder *b, uint32_t lane, unsigned flags);
void weft_build_wait(weft_builder *b, uint32_t lane, int from, uint32_t value, unsigned flags);
/* What some rank of the group does, though perhaps not this one: all ranks must know of it. */
void weft_build_local(weft_builder *b, bool publishes_input, bool publishes_output);
void weft_build_not_in_place(weft_builder *b);
/* Places of the builder's own rank, and of another. */
weft_place weft_at(const weft_builder *b, weft_buffer buffer, uint32_t first, uint32_t count);
weft_place weft_at_rank(int rank, weft_buffer buffer, uint32_t first, uint32_t count);

/* Computes fences and counters, and what the steps show of local and publishes_*; called by weft_plan after
 * the planner. */
weft_status weft_schedule_finish(weft_schedule *s);
#endif

/* Collects the steps that a planner emits and turns them into a schedule: storage, fences, counters. Knows no
 * algorithm. */
#include <string.h>

#include "base/base.h"
#include "collectives/planner.h"

typedef struct step_list {
    weft_step *steps;
    uint32_t count, capacity;
} step_list;

struct weft_builder {
    weft_schedule *schedule;
    step_list *lanes;
    uint32_t lane_count;
    weft_place *sources;
    uint32_t source_count, source_capacity;
    weft_status status;
};

static void fail(weft_builder *b)
{
    b->status = weft_fail(WEFT_ERR_MEMORY, "planning %s: no memory for the steps of rank %d",
                          weft_collective_name(b->schedule->collective), b->schedule->rank);
}

/* Room for one more item in an array that doubles; false: out of memory, the array stays. */
static bool grow(void **items, uint32_t needed, uint32_t *capacity, size_t item_bytes)
{
    if (needed <= *capacity)
        return true;
    uint32_t wanted = *capacity ? *capacity * 2 : 16;
    if (wanted < needed)
        wanted = needed;
    void *larger = weft_realloc(*items, wanted * item_bytes);
    if (!larger)
        return false;
    *items = larger;
    *capacity = wanted;
    return true;
}

static const struct {
    bool input_per_rank, output_per_rank;
} block_table[WEFT_COLLECTIVE_COUNT] = {
    [WEFT_ALL_GATHER] = { false, true }, [WEFT_REDUCE_SCATTER] = { true, false },
    [WEFT_GATHER] = { false, true },     [WEFT_SCATTER] = { true, false },
    [WEFT_ALL_TO_ALL] = { true, true },
};

weft_status weft_builder_create(const weft_plan_request *request, int rank, weft_builder **out)
{
    weft_builder *b = weft_alloc(sizeof *b);
    weft_schedule *s = weft_alloc(sizeof *s);
    if (!b || !s) {
        weft_free(b);
        weft_free(s);
        return weft_fail(WEFT_ERR_MEMORY, "planning %s: no memory",
                         weft_collective_name(request->collective));
    }
    b->schedule = s;
    s->collective = request->collective;
    s->algorithm = request->algorithm;
    s->rank = rank;
    s->ranks = request->group.ranks;
    s->root = request->root;
    bool barrier = request->collective == WEFT_BARRIER;
    uint32_t ranks = (uint32_t)request->group.ranks;
    s->input_blocks = barrier ? 0 : block_table[request->collective].input_per_rank ? ranks : 1;
    s->output_blocks = barrier ? 0 : block_table[request->collective].output_per_rank ? ranks : 1;
    s->chunks_per_block = 1;
    *out = b;
    return WEFT_OK;
}

void weft_builder_abandon(weft_builder *b)
{
    if (!b)
        return;
    for (uint32_t l = 0; l < b->lane_count; l++)
        weft_free(b->lanes[l].steps);
    weft_free(b->lanes);
    weft_free(b->sources);
    weft_schedule_free(b->schedule);
    weft_free(b);
}

/* One block of memory holds lanes, steps and sources of the finished schedule. */
static bool pack(weft_builder *b)
{
    weft_schedule *s = b->schedule;
    size_t steps = 0;
    for (uint32_t l = 0; l < b->lane_count; l++)
        steps += b->lanes[l].count;
    size_t step_bytes = steps * sizeof(weft_step), source_bytes = b->source_count * sizeof(weft_place);
    char *block = weft_alloc(b->lane_count * sizeof(weft_lane) + step_bytes + source_bytes + 1);
    if (!block)
        return false;
    s->owner = block;
    s->lane = (weft_lane *)(void *)block;
    s->lanes = b->lane_count;
    block += b->lane_count * sizeof(weft_lane);
    for (uint32_t l = 0; l < b->lane_count; l++) {
        size_t bytes = b->lanes[l].count * sizeof(weft_step);
        s->lane[l].steps = (weft_step *)(void *)block;
        s->lane[l].count = b->lanes[l].count;
        if (bytes)
            memcpy(block, b->lanes[l].steps, bytes);
        block += bytes;
    }
    s->sources = (weft_place *)(void *)block;
    s->source_count = b->source_count;
    if (source_bytes)
        memcpy(block, b->sources, source_bytes);
    return true;
}

weft_status weft_builder_finish(weft_builder *b, weft_schedule **schedule)
{
    if (b->status == WEFT_OK && !pack(b))
        fail(b);
    weft_status status = b->status;
    if (status == WEFT_OK)
        status = weft_schedule_finish(b->schedule);
    if (status == WEFT_OK) {
        *schedule = b->schedule;
        b->schedule = NULL;
    }
    weft_builder_abandon(b);
    return status;
}

void weft_build_shape(weft_builder *b, uint32_t chunks_per_block, uint32_t scratch_chunks, uint32_t lanes)
{
    b->schedule->chunks_per_block = chunks_per_block;
    b->schedule->scratch_chunks = scratch_chunks;
    b->lanes = weft_alloc_array(lanes, sizeof *b->lanes);
    if (b->lanes)
        b->lane_count = lanes;
    else
        fail(b);
}

void weft_build_local(weft_builder *b, bool publishes_input, bool publishes_output)
{
    b->schedule->local = true;
    b->schedule->publishes_input |= publishes_input;
    b->schedule->publishes_output |= publishes_output;
}

void weft_build_not_in_place(weft_builder *b)
{
    b->schedule->not_in_place = true;
}

/* A new step of the lane with nothing but its kind; after a failure one that nobody reads. */
static weft_step *add(weft_builder *b, uint32_t lane, weft_step_kind kind, unsigned flags)
{
    static _Thread_local weft_step nowhere;
    weft_step *step = &nowhere;
    if (b->status == WEFT_OK) {
        step_list *list = &b->lanes[lane];
        void *items = list->steps;
        if (grow(&items, list->count + 1, &list->capacity, sizeof(weft_step))) {
            list->steps = items;
            step = &list->steps[list->count++];
        } else {
            fail(b);
        }
    }
    memset(step, 0, sizeof *step);
    step->kind = (uint8_t)kind;
    step->flags = (uint8_t)flags;
    step->from = -1;
    step->to = -1;
    return step;
}

void weft_build_send(weft_builder *b, uint32_t lane, weft_place src, int to)
{
    weft_step *step = add(b, lane, WEFT_STEP_SEND, 0);
    step->src = src;
    step->to = to;
}

void weft_build_recv(weft_builder *b, uint32_t lane, int from, weft_place dst, int forward_to)
{
    weft_step *step = add(b, lane, WEFT_STEP_RECV, 0);
    step->from = from;
    step->dst = dst;
    step->to = forward_to;
}

void weft_build_recv_reduce(weft_builder *b, uint32_t lane, int from, weft_place src, weft_place dst,
                            int forward_to, unsigned flags)
{
    weft_step *step = add(b, lane, WEFT_STEP_RECV_REDUCE, flags);
    step->from = from;
    step->src = src;
    step->dst = dst;
    step->to = forward_to;
}

void weft_build_copy(weft_builder *b, uint32_t lane, weft_place src, weft_place dst, unsigned flags)
{
    weft_step *step = add(b, lane, WEFT_STEP_COPY, flags);
    step->src = src;
    step->dst = dst;
}

void weft_build_reduce(weft_builder *b, uint32_t lane, const weft_place *sources, int count, weft_place dst,
                       unsigned flags)
{
    weft_step *step = add(b, lane, WEFT_STEP_REDUCE, flags);
    step->sources = (uint16_t)count;
    step->value = b->source_count;
    step->dst = dst;
    void *items = b->sources;
    if (b->status != WEFT_OK)
        return;
    if (!grow(&items, b->source_count + (uint32_t)count, &b->source_capacity, sizeof(weft_place))) {
        fail(b);
        return;
    }
    b->sources = items;
    memcpy(b->sources + b->source_count, sources, (size_t)count * sizeof(weft_place));
    b->source_count += (uint32_t)count;
}

void weft_build_publish(weft_builder *b, uint32_t lane, weft_place src, unsigned flags)
{
    add(b, lane, WEFT_STEP_PUBLISH, flags)->src = src;
}

void weft_build_signal(weft_builder *b, uint32_t lane, unsigned flags)
{
    add(b, lane, WEFT_STEP_SIGNAL, flags);
}

void weft_build_wait(weft_builder *b, uint32_t lane, int from, uint32_t value, unsigned flags)
{
    weft_step *step = add(b, lane, WEFT_STEP_WAIT, flags);
    step->from = from;
    step->value = value;
}

weft_place weft_at_rank(int rank, weft_buffer buffer, uint32_t first, uint32_t count)
{
    return (weft_place){
        .rank = rank, .buffer = buffer, .first = first, .count = count, .repeat = 1, .stride = 0};
}

weft_place weft_at(const weft_builder *b, weft_buffer buffer, uint32_t first, uint32_t count)
{
    return weft_at_rank(b->schedule->rank, buffer, first, count);
}

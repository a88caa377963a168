/* The last pass over a planned schedule: which sends a step must wait for before it overwrites what they
 * carry, and the counters that readers of a schedule want. */
#include "base/base.h"
#include "collectives/planner.h"

/* Number of the last send of each chunk, over the lanes counted on, so that the table need not be cleared
 * between lanes. */
typedef struct send_table {
    const weft_schedule *s;
    uint64_t *last[WEFT_BUFFER_COUNT];
    uint32_t chunks[WEFT_BUFFER_COUNT];
    uint64_t sent;    /* in all lanes so far */
    int64_t shift;    /* in place, input chunk i is output chunk i + shift */
    bool aliased;
} send_table;

static int64_t in_place_shift(const weft_schedule *s)
{
    int64_t own = (int64_t)s->rank * s->chunks_per_block;
    switch (s->collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return own;
    case WEFT_REDUCE_SCATTER:
    case WEFT_SCATTER:
        return -own;
    default:
        return 0;
    }
}

static weft_status table_create(send_table *t, const weft_schedule *s)
{
    t->s = s;
    t->sent = 0;
    t->shift = in_place_shift(s);
    t->aliased = !s->not_in_place;
    t->chunks[WEFT_INPUT] = s->input_blocks * s->chunks_per_block;
    t->chunks[WEFT_OUTPUT] = s->output_blocks * s->chunks_per_block;
    t->chunks[WEFT_SCRATCH] = s->scratch_chunks;
    size_t all = (size_t)t->chunks[WEFT_INPUT] + t->chunks[WEFT_OUTPUT] + t->chunks[WEFT_SCRATCH];
    uint64_t *storage = weft_alloc_array(all + 1, sizeof(uint64_t));
    if (!storage)
        return weft_fail(WEFT_ERR_MEMORY, "planning: no memory to order the sends of %zu chunks", all);
    t->last[WEFT_INPUT] = storage;
    t->last[WEFT_OUTPUT] = storage + t->chunks[WEFT_INPUT];
    t->last[WEFT_SCRATCH] = t->last[WEFT_OUTPUT] + t->chunks[WEFT_OUTPUT];
    return WEFT_OK;
}

static void table_note_send(send_table *t, const weft_place *place)
{
    t->sent++;
    for (uint32_t run = 0; run < place->repeat; run++)
        for (uint32_t i = 0; i < place->count; i++)
            t->last[place->buffer][place->first + run * place->stride + i] = t->sent;
}

/* In place the two lie at one address, so the copy is none and waits for nobody. */
static bool is_own_image(const send_table *t, const weft_step *step)
{
    const weft_place *src = &step->src, *dst = &step->dst;
    return step->kind == WEFT_STEP_COPY && src->rank == dst->rank && src->buffer == WEFT_INPUT &&
           dst->buffer == WEFT_OUTPUT && (int64_t)src->first + t->shift == (int64_t)dst->first &&
           src->count == dst->count && src->repeat == dst->repeat && src->stride == dst->stride;
}

/* Number of the last send that carries any chunk of the place that this step overwrites. */
static uint64_t table_last(const send_table *t, const weft_step *step)
{
    const weft_place *place = &step->dst;
    uint64_t last = 0;
    bool aliased = t->aliased && place->buffer != WEFT_SCRATCH && !is_own_image(t, step);
    weft_buffer other = place->buffer == WEFT_INPUT ? WEFT_OUTPUT : WEFT_INPUT;
    int64_t shift = place->buffer == WEFT_INPUT ? t->shift : -t->shift;
    for (uint32_t run = 0; run < place->repeat; run++)
        for (uint32_t i = 0; i < place->count; i++) {
            uint32_t chunk = place->first + run * place->stride + i;
            if (t->last[place->buffer][chunk] > last)
                last = t->last[place->buffer][chunk];
            int64_t image = (int64_t)chunk + shift;
            if (aliased && image >= 0 && image < (int64_t)t->chunks[other] && t->last[other][image] > last)
                last = t->last[other][image];
        }
    return last;
}

static bool place_fits(const send_table *t, const weft_place *place)
{
    if (place->buffer >= WEFT_BUFFER_COUNT || place->repeat == 0)
        return false;
    uint64_t end = (uint64_t)place->first + (uint64_t)(place->repeat - 1) * place->stride + place->count;
    return place->count == 0 || end <= t->chunks[place->buffer];
}

static bool step_writes(const weft_step *step)
{
    return step->kind == WEFT_STEP_RECV || step->kind == WEFT_STEP_RECV_REDUCE ||
           step->kind == WEFT_STEP_COPY || step->kind == WEFT_STEP_REDUCE;
}

static weft_status finish_lane(weft_schedule *s, send_table *t, uint32_t index)
{
    weft_lane *lane = &s->lane[index];
    uint64_t before = t->sent;
    lane->signals = 0;
    for (uint32_t i = 0; i < lane->count; i++) {
        weft_step *step = &lane->steps[i];
        bool writes = step_writes(step), sends = step->to >= 0;
        if ((writes && !place_fits(t, &step->dst)) ||
            (step->kind == WEFT_STEP_SEND && !place_fits(t, &step->src)))
            return weft_fail(
                WEFT_ERR_INTERNAL, "planning %s by %s: rank %d lane %u step %u leaves its buffer",
                weft_collective_name(s->collective), weft_algorithm_name(s->algorithm), s->rank, index, i);
        step->fence = 0;
        if (writes) {
            uint64_t last = table_last(t, step);
            step->fence = last > before ? (uint32_t)(last - before) : 0;
        }
        if (sends)
            table_note_send(t, writes ? &step->dst : &step->src);
        if (step->kind == WEFT_STEP_SIGNAL)
            lane->signals++;
        if (step->kind == WEFT_STEP_PUBLISH) {
            s->publishes_input |= step->src.buffer == WEFT_INPUT;
            s->publishes_output |= step->src.buffer == WEFT_OUTPUT;
        }
        s->local |=
            step->kind == WEFT_STEP_PUBLISH || step->kind == WEFT_STEP_SIGNAL || step->kind == WEFT_STEP_WAIT;
    }
    lane->sends = (uint32_t)(t->sent - before);
    return WEFT_OK;
}

weft_status weft_schedule_finish(weft_schedule *s)
{
    send_table table = { 0 };
    weft_status status = table_create(&table, s);
    for (uint32_t l = 0; status == WEFT_OK && l < s->lanes; l++)
        status = finish_lane(s, &table, l);
    weft_free(table.last[WEFT_INPUT]); /* the others lie behind it */
    return status;
}

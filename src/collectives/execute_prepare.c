/* Before a collective runs: what the executor adds to a schedule, and binding a schedule to addresses, counts and
 * type. The running is in execute.c. */
#include <string.h>
#include <sys/mman.h>

#include "collectives/execute.h"

/* ---- ready schedules --------------------------------------------------------------------------- */

static bool has_src(const weft_step *s)
{
    return s->kind == WEFT_STEP_SEND || s->kind == WEFT_STEP_RECV_REDUCE || s->kind == WEFT_STEP_COPY ||
           s->kind == WEFT_STEP_PUBLISH;
}
static bool has_dst(const weft_step *s)
{
    return s->kind == WEFT_STEP_RECV || s->kind == WEFT_STEP_RECV_REDUCE || s->kind == WEFT_STEP_COPY ||
           s->kind == WEFT_STEP_REDUCE;
}
static bool same_scratch(const weft_place *a, const weft_place *b)
{
    return a->buffer == WEFT_SCRATCH && b->buffer == WEFT_SCRATCH && a->first == b->first && a->count == b->count &&
           a->repeat == b->repeat && a->stride == b->stride;
}

/* A place of this step that is no scratch: the sizes of its chunks are the sizes of all places of the step. */
static const weft_place *sized_place(const weft_schedule *s, const weft_step *step)
{
    if (has_dst(step) && step->dst.buffer != WEFT_SCRATCH)
        return &step->dst;
    if (has_src(step) && step->src.buffer != WEFT_SCRATCH)
        return &step->src;
    for (uint32_t i = 0; i < step->sources; i++)
        if (s->sources[step->value + i].buffer != WEFT_SCRATCH)
            return &s->sources[step->value + i];
    return NULL;
}

static bool uses_scratch(const weft_schedule *s, const weft_step *step, const weft_place *place)
{
    if ((has_src(step) && same_scratch(&step->src, place)) || (has_dst(step) && same_scratch(&step->dst, place)))
        return true;
    for (uint32_t i = 0; i < step->sources; i++)
        if (same_scratch(&s->sources[step->value + i], place))
            return true;
    return false;
}

static uint32_t chunk_of(const weft_place *p, uint32_t i)
{
    return p->repeat <= 1 ? p->first + i : p->first + i / p->count * p->stride + i % p->count;
}

/* Index in `whole` from which the chunks of `part` follow one another; -1: they do not. Both in scratch. */
static int64_t index_within(const weft_place *whole, const weft_place *part)
{
    uint32_t all = whole->count * whole->repeat, some = part->count * part->repeat;
    if (whole->buffer != WEFT_SCRATCH || some == 0 || some > all)
        return -1;
    uint32_t from = 0;
    while (from <= all - some && chunk_of(whole, from) != part->first)
        from++;
    for (uint32_t i = 0; i < some && from <= all - some; i++)
        if (chunk_of(whole, from + i) != chunk_of(part, i))
            return -1;
    return from <= all - some ? (int64_t)from : -1;
}

/* Chunks [from, from + count) of a place, as one run; false: they are none. */
static bool run_of(const weft_place *place, uint32_t from, uint32_t count, weft_place *part)
{
    *part = *place;
    part->first = chunk_of(place, from);
    part->count = count;
    part->repeat = 1;
    part->stride = 0;
    return place->repeat <= 1 || count == 1;
}

static const weft_place *keep_like(weft_ready *r, const weft_place *place)
{
    weft_ready_like *like = weft_alloc(sizeof *like);
    if (!like) {
        r->no_memory = true;
        return NULL;
    }
    *like = (weft_ready_like){.next = r->likes, .place = *place};
    r->likes = like;
    return &like->place;
}

/* Whose sizes a scratch place has that lies inside what the step uses beside a buffer (a run is reduced at once and
 * sent in parts). */
static bool part_like(const weft_schedule *s, const weft_step *step, const weft_place *place, weft_place *like)
{
    const weft_place *sized = sized_place(s, step);
    int64_t from = has_dst(step) ? index_within(&step->dst, place) : -1;
    if (from < 0 && has_src(step))
        from = index_within(&step->src, place);
    return sized && from >= 0 && place->repeat <= 1 && run_of(sized, (uint32_t)from, place->count, like);
}

enum { LIKE_REACH = 256 }; /* so many steps away it is looked for */

/* Whose sizes a scratch place has: its partner's in the same step, or in the nearest step of the lane that uses the
 * same scratch chunks beside a buffer; NULL: full chunks. Looks ahead first: what is received is used later. */
static const weft_place *scratch_like(weft_ready *r, uint32_t lane, uint32_t step, const weft_place *place)
{
    const weft_schedule *s = r->schedule;
    if (place->buffer != WEFT_SCRATCH)
        return NULL;
    const weft_lane *l = &s->lane[lane];
    const weft_place *like = sized_place(s, &l->steps[step]);
    for (uint32_t i = step + 1; !like && i < l->count && i < step + LIKE_REACH; i++)
        if (uses_scratch(s, &l->steps[i], place))
            like = sized_place(s, &l->steps[i]);
    for (uint32_t i = step; !like && i-- > 0 && i + LIKE_REACH > step;)
        if (uses_scratch(s, &l->steps[i], place))
            like = sized_place(s, &l->steps[i]);
    weft_place part;
    for (uint32_t i = step; !like && i-- > 0 && i + LIKE_REACH > step;)
        if (part_like(s, &l->steps[i], place, &part))
            like = keep_like(r, &part);
    return like;
}

/* Is what the first step makes, one chunk of the output, what the second publishes? */
static bool publishes_reduced(const weft_step *reduce, const weft_step *publish)
{
    const weft_place *made = &reduce->dst, *shown = &publish->src;
    return reduce->kind == WEFT_STEP_REDUCE && publish->kind == WEFT_STEP_PUBLISH && made->buffer == WEFT_OUTPUT &&
           shown->buffer == WEFT_OUTPUT && made->first == shown->first && made->count * made->repeat == 1 &&
           shown->count * shown->repeat == 1;
}

/* Counts transfers per peer in the order of the lane. counts: [ranks], zeroed here. */
static void number_transfers(weft_ready *r, uint32_t lane, uint32_t *sent, uint32_t *received)
{
    const weft_schedule *s = r->schedule;
    const weft_lane *l = &s->lane[lane];
    uint32_t send = 0;
    memset(sent, 0, sizeof *sent * (size_t)s->ranks);
    memset(received, 0, sizeof *received * (size_t)s->ranks);
    for (uint32_t i = 0; i < l->count; i++) {
        const weft_step *step = &l->steps[i];
        weft_ready_step *ready = &r->steps[lane][i];
        if (weft_step_receives(step))
            ready->receive_ordinal = received[step->from]++;
        ready->send_index = send;
        if (step->to >= 0) {
            r->sends[lane][send] = (weft_ready_send){.step = i, .ordinal = sent[step->to]++};
            send++;
        }
        if (has_src(step))
            ready->src_like = scratch_like(r, lane, i, &step->src);
        if (has_dst(step))
            ready->dst_like = scratch_like(r, lane, i, &step->dst);
        if (step->sources > r->most_sources)
            r->most_sources = step->sources;
        if (i > 0 && publishes_reduced(step - 1, step))
            r->steps[lane][i - 1].published = ready->published = true;
    }
    if (send > r->most_sends)
        r->most_sends = send;
}

weft_status weft_ready_create(weft_schedule *schedule, weft_ready **out)
{
    weft_ready *r = weft_alloc(sizeof *r);
    uint32_t *counts = weft_alloc_array((size_t)schedule->ranks * 2, sizeof *counts);
    if (r)
        r->schedule = schedule;
    else
        weft_schedule_free(schedule);
    if (!r || !counts)
        goto fail;
    if (schedule->lanes > WEFT_LANES_MAX) {
        weft_free(counts);
        weft_ready_destroy(r);
        return weft_fail(WEFT_ERR_UNSUPPORTED, "schedule with %u lanes, at most %d can run", schedule->lanes, WEFT_LANES_MAX);
    }
    for (uint32_t lane = 0; lane < schedule->lanes; lane++) {
        const weft_lane *l = &schedule->lane[lane];
        r->steps[lane] = weft_alloc_array((size_t)l->count + 1, sizeof **r->steps);
        r->sends[lane] = weft_alloc_array((size_t)l->sends + 1, sizeof **r->sends);
        if (!r->steps[lane] || !r->sends[lane])
            goto fail;
        number_transfers(r, lane, counts, counts + schedule->ranks);
        if (r->no_memory)
            goto fail;
    }
    weft_free(counts);
    r->local_only = schedule->local && schedule->lanes == 1 && schedule->lane[0].sends == 0;
    for (uint32_t i = 0; r->local_only && i < schedule->lane[0].count; i++)
        r->local_only = !weft_step_receives(&schedule->lane[0].steps[i]);
    *out = r;
    return WEFT_OK;
fail:
    weft_free(counts);
    weft_ready_destroy(r);
    return weft_fail(WEFT_ERR_MEMORY, "no memory to prepare a schedule");
}

void weft_ready_destroy(weft_ready *r)
{
    if (!r)
        return;
    for (int lane = 0; lane < WEFT_LANES_MAX; lane++) {
        weft_free(r->steps[lane]);
        weft_free(r->sends[lane]);
    }
    while (r->likes) {
        weft_ready_like *next = r->likes->next;
        weft_free(r->likes);
        r->likes = next;
    }
    weft_schedule_free(r->schedule);
    weft_free(r);
}

/* ---- executions -------------------------------------------------------------------------------- */

weft_execution *weft_execution_get(weft_exec *e)
{
    weft_execution *x = e->idle;
    if (x) {
        e->idle = x->next;
        return x;
    }
    x = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *x, WEFT_CACHE_LINE));
    if (x)
        x->exec = e;
    return x;
}

void weft_execution_put(weft_execution *x)
{
    x->next = x->exec->idle;
    x->exec->idle = x;
}

void weft_execution_destroy(weft_execution *x)
{
    if (!x)
        return;
    weft_free(x->sends);
    weft_free(x->scratch);
    weft_free(x->pointers);
    weft_free(x->cursors);
    weft_free(x);
}

/* Grows *memory to hold at least bytes; contents are not kept. */
static bool reserve(void **memory, size_t *capacity, size_t bytes)
{
    if (*capacity >= bytes)
        return true;
    void *more = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(bytes, WEFT_CACHE_LINE));
    if (!more)
        return false;
    weft_free(*memory);
    *memory = more;
    *capacity = bytes;
    return true;
}

static size_t largest_chunk(const weft_layout *l)
{
    if (l->blocks == 0)
        return 0;
    if (!l->counts)
        return l->chunk_elements;
    size_t most = 0;
    for (uint32_t b = 0; b < l->blocks; b++)
        most = weft_max_size(most, weft_chunk_elements(l->counts[b], l->chunks_per_block, l->element_bytes));
    return most;
}

/* How much of a chunk is worked on at once where the schedule does not force it: trees pipeline by tiles, rings and
 * chains already by slices. */
static size_t tile_wish_bytes(const weft_schedule *s)
{
    switch (s->algorithm) {
    case WEFT_TREE:
    case WEFT_KNOMIAL:
        return 128 << 10;
    case WEFT_HIERARCHICAL:
        return 256 << 10;
    default:
        return SIZE_MAX;
    }
}

/* Chunks that one rank stages of a tile. */
static size_t staged_chunks(const weft_schedule *s)
{
    return (s->publishes_input ? (size_t)s->input_blocks * s->chunks_per_block : 0) +
           (s->publishes_output ? (size_t)s->output_blocks * s->chunks_per_block : 0);
}

static weft_status choose_tiles(weft_execution *x, const weft_execution_args *args)
{
    const weft_schedule *s = args->ready->schedule;
    const weft_layout *in = &x->layouts[WEFT_INPUT], *out = &x->layouts[WEFT_OUTPUT];
    size_t element = out->element_bytes;
    size_t largest = weft_max_size(largest_chunk(in), largest_chunk(out));
    size_t tile = SIZE_MAX;
    if (args->sizes_shared) {
        size_t bytes = tile_wish_bytes(s);
        size_t staged = staged_chunks(s);
        if (staged)
            bytes = weft_min_size(bytes, weft_staged_tile_bytes(s->collective, s->algorithm,
                                                                x->exec->local_count == s->ranks) / staged);
        if (s->scratch_chunks)
            bytes = weft_min_size(bytes, weft_max_size(WEFT_SCRATCH_BYTES / s->scratch_chunks, 1024));
        tile = bytes / element;
        if (tile * element >= 1024)
            tile = tile / (WEFT_CACHE_LINE / element) * (WEFT_CACHE_LINE / element);
        if (tile == 0)
            return weft_fail(WEFT_ERR_UNSUPPORTED, "%s over %d ranks has more parts than shared memory has room for",
                             weft_algorithm_name(s->algorithm), s->ranks);
    }
    x->largest_chunk = largest;
    x->tile_elements = weft_max_size(1, weft_min_size(tile, largest));
    x->tiles = largest ? (largest + x->tile_elements - 1) / x->tile_elements : 1;
    x->chunk_bytes = x->tile_elements * element;
    if (x->tiles / WEFT_DEPTH >= (size_t)1 << WEFT_MARK_ROUND_BITS)
        return weft_fail(WEFT_ERR_INVALID, "count %zu is too large for one call of %s", args->count,
                         weft_algorithm_name(s->algorithm));
    return WEFT_OK;
}

static void bind_layout(weft_layout *l, const void *base, const weft_execution_args *args, uint32_t blocks,
                        const size_t *counts, const size_t *displs)
{
    size_t element = weft_type_bytes(args->reduction.type);
    *l = (weft_layout){.base = (char *)base, .element_bytes = element ? element : 1, .count = args->count,
                       .counts = counts, .displs = displs, .blocks = blocks,
                       .chunks_per_block = args->ready->schedule->chunks_per_block};
    if (l->chunks_per_block == 0)
        l->chunks_per_block = 1;
    l->chunk_elements = weft_chunk_elements(l->count, l->chunks_per_block, l->element_bytes);
}

/* Bound last to the same schedule, count and type, with equal blocks: then only addresses and operation can differ. */
static bool same_shape(const weft_execution *x, const weft_execution_args *args)
{
    return x->bound == args->ready && x->bound_count == args->count && x->bound_type == args->reduction.type &&
           args->sizes_shared && !args->input_counts && !args->output_counts;
}

/* The own small slots get their pages at once: else each call of the first lap through the slots would wait for this rank's fault
 * and then for one of every other. Kernels before 5.14 cannot. */
static void fill_small_slots(weft_exec *e)
{
#ifdef MADV_POPULATE_WRITE
    weft_local_region *own = e->regions[e->local_position[e->rank]];
    (void)madvise(own->small, sizeof own->small, MADV_POPULATE_WRITE);
#endif
    e->small_filled = true;
}

weft_status weft_execution_bind(weft_execution *x, const weft_execution_args *args)
{
    const weft_schedule *s = args->ready->schedule;
    if (same_shape(x, args)) {
        x->reduction = args->reduction;
        x->fingerprint = args->fingerprint;
        x->may_map = s->local && !args->staged;
        x->layouts[WEFT_INPUT].base = (char *)args->input;
        x->layouts[WEFT_OUTPUT].base = args->output;
        return WEFT_OK;
    }
    x->bound = NULL;
    x->ready = args->ready;
    x->reduction = args->reduction;
    x->fingerprint = args->fingerprint;
    x->may_map = s->local && !args->staged && !args->input_counts && !args->output_counts;
    bind_layout(&x->layouts[WEFT_INPUT], args->input, args, s->input_blocks, args->input_counts, args->input_displs);
    bind_layout(&x->layouts[WEFT_OUTPUT], args->output, args, s->output_blocks, args->output_counts, args->output_displs);
    x->in_line = s->publishes_input && !s->publishes_output && s->input_blocks * s->chunks_per_block == 1 && s->lanes == 1 &&
                 !args->input_counts && x->layouts[WEFT_INPUT].count * x->layouts[WEFT_INPUT].element_bytes <= WEFT_INLINE_BYTES;
    size_t input_bytes = s->input_blocks * args->count * x->layouts[WEFT_INPUT].element_bytes;
    size_t output_bytes = s->output_blocks * args->count * x->layouts[WEFT_OUTPUT].element_bytes;
    x->streams = !args->output_counts && output_bytes >= WEFT_STREAM_WHOLE_BYTES;
    x->larger_bytes = weft_max_size(input_bytes, output_bytes);
    x->host_bytes = (input_bytes + output_bytes) * (size_t)x->exec->local_count;
    weft_status status = choose_tiles(x, args);
    if (status != WEFT_OK)
        return status;
    x->small = args->sizes_shared && !args->input_counts && !args->output_counts && x->tiles == 1 && s->lanes == 1 &&
               staged_chunks(s) * x->chunk_bytes <= WEFT_SMALL_BYTES;
    if (x->small && !x->in_line && s->local && x->exec->regions && !x->exec->small_filled)
        fill_small_slots(x->exec);
    size_t scratch = (size_t)s->scratch_chunks * WEFT_DEPTH * x->chunk_bytes;
    size_t sends = (size_t)args->ready->most_sends * s->lanes * WEFT_DEPTH * sizeof *x->sends;
    size_t sources = args->ready->most_sources;
    if (!reserve(&x->scratch, &x->scratch_capacity, scratch) ||
        !reserve((void **)&x->sends, &x->sends_capacity, sends))
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a collective (%zu bytes of scratch)", scratch);
    if (x->pointers_capacity < sources) {
        weft_free(x->pointers);
        weft_free(x->cursors);
        x->pointers = weft_alloc_array(sources, sizeof *x->pointers);
        x->cursors = weft_alloc_array(sources, sizeof *x->cursors);
        x->pointers_capacity = x->pointers && x->cursors ? sources : 0;
        if (!x->pointers_capacity)
            return weft_fail(WEFT_ERR_MEMORY, "no memory for the %zu sources of a reduction", sources);
    }
    x->layouts[WEFT_SCRATCH] = (weft_layout){.base = x->scratch, .element_bytes = x->layouts[WEFT_OUTPUT].element_bytes};
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (int d = 0; d < WEFT_DEPTH; d++) {
            x->tasks[lane][d] = (weft_task){.execution = x, .lane = lane};
            x->tasks[lane][d].sends = x->sends + ((size_t)lane * WEFT_DEPTH + (size_t)d) * args->ready->most_sends;
        }
    if (args->sizes_shared && !args->input_counts && !args->output_counts) {
        x->bound = args->ready;
        x->bound_count = args->count;
        x->bound_type = args->reduction.type;
    }
    return WEFT_OK;
}

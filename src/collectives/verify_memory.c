/* The verifier's memory: what each chunk of each rank holds, and whether those who touch it are in order. Two
 * accesses, one a write, are in order if one happens before the other by the lane's order, by messages or by
 * signals; lanes are never in order with each other. A send reads its place until a fence says that it is
 * done. */
#include <string.h>

#include "collectives/print.h"
#include "collectives/verify.h"

static bool lane_free(uint16_t tag, const verify_run *r)
{
    return tag == 0 || tag == r->lane + 1;
}

static size_t cell_of(const verify *v, const weft_place *place, uint32_t i)
{
    return v->rank[place->rank].at[place->buffer] + verify_place_chunk(place, i);
}

/* Epoch of a rank's step in its own clock: 1 is its entry into the collective. */
static uint32_t epoch_of(uint32_t step)
{
    return step + 2;
}

static uint32_t known(const verify_run *r, int rank, int other)
{
    return r->clock[(size_t)rank * (size_t)r->v->ranks + (size_t)other];
}

static weft_status fail_lanes(const verify_run *r, int rank, uint32_t step, const weft_place *place,
                              uint32_t i, const char *verb)
{
    char text[64];
    weft_place_text(place, rank, text, sizeof(text));
    return verify_fail(r->v, rank, r->lane, step,
                       "%s chunk %u of %s, which another lane touches too, in no order", verb,
                       verify_place_chunk(place, i), text);
}

static weft_status fail_chunk(const verify_run *r, int rank, uint32_t step, const weft_place *place,
                              uint32_t i, const char *problem)
{
    return verify_fail(r->v, rank, r->lane, step, "%s[%u] of rank %d %s", weft_buffer_name(place->buffer),
                       verify_place_chunk(place, i), place->rank, problem);
}

static void mark_read(const verify_run *r, verify_cell *cell)
{
    uint16_t lane = (uint16_t)(r->lane + 1);
    cell->read_lane = cell->read_lane == 0 || cell->read_lane == lane ? lane : VERIFY_MANY;
}

/* Whoever uses a chunk that another rank pushes must know that it has. */
static weft_status check_push(const verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                              const verify_cell *cell)
{
    if (cell->pushed && cell->pushed > known(r, rank, cell->pusher))
        return fail_chunk(r, rank, step, place, i, "is used while another rank may still push to it");
    return WEFT_OK;
}

static weft_status read_cell(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                             verify_cell **out)
{
    verify_cell *cell = &r->v->cells[cell_of(r->v, place, i)];
    if (!lane_free(cell->write_lane, r))
        return fail_lanes(r, rank, step, place, i, "reads");
    if (cell->value.count == 0 && r->v->collective != WEFT_BARRIER)
        return fail_chunk(r, rank, step, place, i, "is read before anything is written to it");
    mark_read(r, cell);
    if (place->rank == rank)
        cell->touched = epoch_of(step);
    *out = cell;
    return check_push(r, rank, step, place, i, cell);
}

weft_status verify_read_own(verify_run *r, int rank, uint32_t step, const weft_place *place, int64_t send)
{
    uint32_t chunks = verify_place_chunks(place);
    for (uint32_t i = 0; i < chunks; i++) {
        verify_cell *cell = NULL;
        weft_status status = read_cell(r, rank, step, place, i, &cell);
        if (status != WEFT_OK)
            return status;
        if (send >= 0)
            cell->last_send = (uint32_t)send + 1;
    }
    return WEFT_OK;
}

static weft_status add_reader(verify_run *r, int rank, uint32_t step, size_t at, int owner, bool leaves)
{
    verify *v = r->v;
    if (v->reader_count == v->reader_room) {
        uint32_t room = v->reader_room ? v->reader_room * 2 : 1024;
        verify_reader *readers = weft_realloc(v->readers, room * sizeof(*readers));
        if (!readers)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
        v->readers = readers;
        v->reader_room = room;
    }
    v->readers[v->reader_count] = (verify_reader){.cell = at,
                                                  .next = v->shared[at].readers,
                                                  .epoch = epoch_of(step),
                                                  .step = step,
                                                  .rank = rank,
                                                  .owner = owner,
                                                  .exit = leaves};
    v->shared[at].readers = v->reader_count++;
    return WEFT_OK;
}

/* Nobody may still read what `rank` is about to overwrite. */
static weft_status end_readers(verify_run *r, int rank, uint32_t step, size_t at, const weft_place *place,
                               uint32_t i)
{
    verify *v = r->v;
    for (uint32_t k = v->shared[at].readers; k != VERIFY_NONE; k = v->readers[k].next) {
        verify_reader *reader = &v->readers[k];
        if (reader->rank != rank && reader->epoch > known(r, rank, reader->rank)) /* its own earlier steps are over */
            return verify_fail(
                v, rank, r->lane, step,
                "overwrites %s[%u], which rank %d may still be reading in its step %u: no signal or "
                "message orders the two",
                weft_buffer_name(place->buffer), verify_place_chunk(place, i), reader->rank, reader->step);
        reader->rank = -1;
    }
    v->shared[at].readers = VERIFY_NONE;
    return WEFT_OK;
}

/* What lies in the owner's memory now: its scratch, or a mapped buffer. */
static weft_status read_live(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i, bool mapped,
                             verify_value *value)
{
    verify_cell *cell = NULL;
    weft_status status = read_cell(r, rank, step, place, i, &cell);
    if (status != WEFT_OK)
        return status;
    if (cell->written > known(r, rank, place->rank))
        return fail_chunk(r, rank, step, place, i,
                          "is read while its owner may still write it: no signal orders the two");
    *value = cell->value;
    return add_reader(r, rank, step, cell_of(r->v, place, i), place->rank, mapped);
}

static weft_status read_published(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                                  verify_value *value)
{
    verify *v = r->v;
    const verify_rank *owner = &v->rank[place->rank];
    size_t raw = owner->raw[place->buffer] + verify_place_chunk(place, i);
    const verify_shared *shared = &v->shared[raw];
    if (shared->published == 0 || shared->lane != r->lane + 1 ||
        shared->published > known(r, rank, place->rank))
        return fail_chunk(r, rank, step, place, i,
                          "is not published before this: wait for a signal that follows its publish");
    if (!owner->mapped) {
        *value = shared->snapshot;
        if (value->count == 0)
            return fail_chunk(r, rank, step, place, i, "was published before anything was written to it");
        return add_reader(r, rank, step, raw, place->rank, false);
    }
    return read_live(r, rank, step, place, i, true, value);
}

weft_status verify_read(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                        verify_value *value)
{
    if (place->rank != rank)
        return place->buffer == WEFT_SCRATCH ? read_live(r, rank, step, place, i, false, value)
                                             : read_published(r, rank, step, place, i, value);
    verify_cell *cell = NULL;
    weft_status status = read_cell(r, rank, step, place, i, &cell);
    if (status == WEFT_OK)
        *value = cell->value;
    return status;
}

/* Blocks of the vector collectives differ in size; whose block a value or a place is, as a number. */
static uint64_t block_of_value(const verify *v, const verify_value *value)
{
    switch (v->collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return value->low;
    case WEFT_REDUCE_SCATTER:
    case WEFT_SCATTER:
        return value->chunk / v->chunks_per_block;
    case WEFT_ALL_TO_ALL:
        return (uint64_t)value->low << 32 | value->chunk / v->chunks_per_block;
    default:
        return 0;
    }
}

static uint64_t block_of_place(const verify *v, const weft_place *place, uint32_t chunk)
{
    uint64_t block = chunk / v->chunks_per_block;
    bool from_here = v->collective == WEFT_ALL_GATHER || v->collective == WEFT_GATHER;
    bool to_here = v->collective == WEFT_REDUCE_SCATTER || v->collective == WEFT_SCATTER;
    if (v->collective == WEFT_ALL_TO_ALL)
        return place->buffer == WEFT_INPUT ? (uint64_t)place->rank << 32 | block
                                           : block << 32 | (uint64_t)place->rank;
    if ((from_here && place->buffer == WEFT_INPUT) || (to_here && place->buffer == WEFT_OUTPUT))
        return (uint64_t)place->rank;
    return block;
}

/* A chunk goes only where one of its size belongs. */
static weft_status check_size(const verify_run *r, int rank, uint32_t step, const weft_place *place,
                              uint32_t chunk, const verify_value *value)
{
    const verify *v = r->v;
    if (place->buffer == WEFT_SCRATCH || v->collective == WEFT_BARRIER)
        return WEFT_OK;
    if (value->chunk % v->chunks_per_block != chunk % v->chunks_per_block)
        return verify_fail(v, rank, r->lane, step,
                           "stores part %u of a block at %s[%u], part %u, which may be of another size",
                           value->chunk % v->chunks_per_block, weft_buffer_name(place->buffer), chunk,
                           chunk % v->chunks_per_block);
    if (v->vector && block_of_value(v, value) != block_of_place(v, place, chunk))
        return verify_fail(v, rank, r->lane, step,
                           "stores another block's data at %s[%u]; blocks differ in size",
                           weft_buffer_name(place->buffer), chunk);
    return WEFT_OK;
}

weft_status verify_write(verify_run *r, int rank, uint32_t step, const weft_place *place, uint32_t i,
                         const verify_value *value)
{
    verify *v = r->v;
    size_t at = cell_of(v, place, i);
    verify_cell *cell = &v->cells[at];
    if (!lane_free(cell->write_lane, r) || !lane_free(cell->read_lane, r))
        return fail_lanes(r, rank, step, place, i, "writes");
    if (cell->last_send > r->fence[rank])
        return verify_fail(v, rank, r->lane, step,
                           "overwrites %s[%u] while send %u of the lane (step %u) may still read it: "
                           "the fence waits for %u sends only",
                           weft_buffer_name(place->buffer), verify_place_chunk(place, i), cell->last_send,
                           v->send_step[verify_lane_of(v, rank, r->lane)->first_send + cell->last_send - 1],
                           r->fence[rank]);
    weft_status status = check_push(r, rank, step, place, i, cell);
    if (status == WEFT_OK)
        status = check_size(r, rank, step, place, verify_place_chunk(place, i), value);
    if (status == WEFT_OK && r->clock && v->shared[at].readers != VERIFY_NONE)
        status = end_readers(r, rank, step, at, place, i);
    cell->value = *value;
    cell->written = cell->touched = epoch_of(step);
    cell->pushed = 0;
    cell->write_lane = (uint16_t)(r->lane + 1);
    return status;
}

weft_status verify_publish(verify_run *r, int rank, uint32_t step, const weft_place *place)
{
    verify *v = r->v;
    uint32_t chunks = verify_place_chunks(place);
    for (uint32_t i = 0; i < chunks; i++) {
        verify_cell *cell = &v->cells[cell_of(v, place, i)];
        size_t raw = v->rank[rank].raw[place->buffer] + verify_place_chunk(place, i);
        verify_shared *shared = &v->shared[raw];
        if (!lane_free(cell->write_lane, r) || !lane_free(shared->lane, r))
            return fail_lanes(r, rank, step, place, i, "publishes");
        mark_read(r, cell);
        cell->touched = epoch_of(step);
        weft_status status = v->rank[rank].mapped ? WEFT_OK : end_readers(r, rank, step, raw, place, i);
        if (status != WEFT_OK)
            return status;
        shared->snapshot = cell->value;
        shared->published = epoch_of(step);
        shared->lane = (uint16_t)(r->lane + 1);
    }
    return WEFT_OK;
}

/* One chunk into one peer's buffer. */
static weft_status push_cell(verify_run *r, int rank, uint32_t step, const weft_place *there, uint32_t i,
                             const verify_value *value)
{
    size_t at = cell_of(r->v, there, i);
    verify_cell *cell = &r->v->cells[at];
    uint32_t seen = known(r, rank, there->rank);
    if (!lane_free(cell->write_lane, r) || !lane_free(cell->read_lane, r))
        return fail_lanes(r, rank, step, there, i, "pushes to");
    if (seen == 0 || cell->touched > seen || cell->last_send)
        return fail_chunk(r, rank, step, there, i,
                          "is pushed to while its rank may not have begun, or may still use it: no signal orders the two");
    weft_status status = check_push(r, rank, step, there, i, cell);
    if (status == WEFT_OK)
        status = check_size(r, rank, step, there, verify_place_chunk(there, i), value);
    if (status == WEFT_OK && r->v->shared[at].readers != VERIFY_NONE)
        status = end_readers(r, rank, step, at, there, i);
    cell->value = *value;
    cell->pushed = epoch_of(step);
    cell->pusher = rank;
    cell->write_lane = (uint16_t)(r->lane + 1);
    return status;
}

weft_status verify_push(verify_run *r, int rank, uint32_t step, const weft_place *place)
{
    const verify *v = r->v;
    uint32_t chunks = verify_place_chunks(place);
    for (int peer = 0; peer < v->ranks; peer++) {
        weft_place there = *place;
        there.rank = peer;
        if (peer == rank || !v->rank[peer].mapped || verify_host(v, peer) != verify_host(v, rank))
            continue;
        for (uint32_t i = 0; i < chunks; i++) {
            weft_status status = push_cell(r, rank, step, &there, i, &v->cells[cell_of(v, place, i)].value);
            if (status != WEFT_OK)
                return status;
        }
    }
    return WEFT_OK;
}

weft_status verify_pushed(verify_run *r, int rank, uint32_t step, const weft_place *src, const weft_place *dst)
{
    uint32_t chunks = verify_place_chunks(dst);
    for (uint32_t i = 0; i < chunks; i++) {
        const verify_cell *cell = &r->v->cells[cell_of(r->v, dst, i)];
        if (!cell->pushed || cell->pusher != src->rank)
            return fail_chunk(r, rank, step, dst, i, "is taken for pushed, but the source's rank has not pushed it");
        weft_status status = check_push(r, rank, step, dst, i, cell);
        if (status != WEFT_OK)
            return status;
    }
    return WEFT_OK;
}

weft_status verify_exit(verify_run *r)
{
    verify *v = r->v;
    for (uint32_t i = 0; i < v->reader_count; i++) {
        const verify_reader *reader = &v->readers[i];
        if (reader->rank >= 0 && reader->exit && reader->epoch > known(r, reader->owner, reader->rank))
            return verify_fail(
                v, reader->rank, r->lane, reader->step,
                "may still read a buffer of rank %d after that rank has returned: it must wait for a "
                "signal that follows this step",
                reader->owner);
    }
    v->reader_count = 0;
    for (size_t i = 0; v->shared && i < v->cell_count; i++)
        v->shared[i].readers = VERIFY_NONE;
    return WEFT_OK;
}

weft_status verify_combine(verify_run *r, int rank, uint32_t step, verify_value *a, const verify_value *b)
{
    const verify *v = r->v;
    char left[96], right[96];
    if (!v->reduces)
        return verify_fail(v, rank, r->lane, step, "reduces, which %s never does",
                           weft_collective_name(v->collective));
    if (a->chunk != b->chunk)
        return verify_fail(v, rank, r->lane, step, "reduces chunk %u with chunk %u", a->chunk, b->chunk);
    if (a->finals || b->finals)
        return verify_fail(v, rank, r->lane, step,
                           "reduces a value that a step marked final has made already");
    verify_value result = { a->sum + b->sum, a->chunk, a->count + b->count, VERIFY_SCATTERED, 0 };
    if (a->low != VERIFY_SCATTERED && b->low != VERIFY_SCATTERED && a->low + a->count == b->low)
        result.low = a->low;
    if (result.count > (uint32_t)v->ranks || (v->keeps_order && result.low == VERIFY_SCATTERED)) {
        verify_value_text(v, a, left, sizeof(left));
        verify_value_text(v, b, right, sizeof(right));
        return verify_fail(v, rank, r->lane, step, "combines %s with %s%s", left, right,
                           result.count > (uint32_t)v->ranks ? ", so that some rank counts twice"
                                                             : ", which is not rank order");
    }
    *a = result;
    return WEFT_OK;
}

weft_status verify_finalise(verify_run *r, int rank, uint32_t step, verify_value *value)
{
    const verify *v = r->v;
    if (!v->reduces)
        return WEFT_OK;
    if (value->finals)
        return verify_fail(v, rank, r->lane, step, "is marked final, but its operand is final already");
    if (value->count != (uint32_t)v->ranks || value->sum != v->total_weight) {
        char text[96];
        verify_value_text(v, value, text, sizeof(text));
        return verify_fail(v, rank, r->lane, step, "is marked final, but its result has %s of %d ranks", text,
                           v->ranks);
    }
    value->finals = 1;
    return WEFT_OK;
}

void verify_memory_reset(verify *v)
{
    memset(v->cells, 0, v->cell_count * sizeof(*v->cells));
    v->reader_count = 0;
    for (size_t i = 0; v->shared && i < v->cell_count; i++)
        v->shared[i] = (verify_shared){ .readers = VERIFY_NONE };
    for (int rank = 0; rank < v->ranks; rank++) {
        const verify_rank *place = &v->rank[rank];
        for (uint32_t c = 0; c < place->chunks[WEFT_INPUT]; c++)
            v->cells[place->at[WEFT_INPUT] + c].value =
                (verify_value){v->weight[rank], c, 1, (uint32_t)rank, 0};
    }
}

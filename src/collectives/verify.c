/* The verifier: runs all ranks' schedules symbolically, in place and not, with buffers that peers read in
 * place and with staged ones, and compares what every output holds with what the collective promises. */
#include "collectives/verify.h"

#include "collectives/print.h"

static void finish_text(const verify *v, const char *message)
{
    if (v->text_bytes > 0)
        snprintf(v->text, v->text_bytes, "%s%s%s%s", message, v->mode ? " [" : "", v->mode ? v->mode : "",
                 v->mode ? "]" : "");
}

static weft_status fail_text(const verify *v, const char *message)
{
    finish_text(v, message);
    return weft_fail(WEFT_ERR_MISMATCH, "%s%s%s%s", message, v->mode ? " [" : "", v->mode ? v->mode : "",
                     v->mode ? "]" : "");
}

weft_status verify_fail(const verify *v, int rank, uint32_t lane, uint32_t step, const char *format, ...)
{
    char what[192], problem[768], message[1024];
    const weft_schedule *schedule = v->schedules[rank];
    weft_step_describe(schedule, &schedule->lane[lane].steps[step], what, sizeof(what));
    va_list list;
    va_start(list, format);
    vsnprintf(problem, sizeof(problem), format, list);
    va_end(list);
    snprintf(message, sizeof(message), "rank %d lane %u step %u (%s) %s", rank, lane, step, what, problem);
    return fail_text(v, message);
}

weft_status verify_fail_whole(const verify *v, const char *format, ...)
{
    char message[768];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof(message), format, list);
    va_end(list);
    return fail_text(v, message);
}

/* ---- values ------------------------------------------------------------------------------------ */

/* Finds two ranks so that all ranks but `missing` (or -1), and `twice` (or -1) once more, have that sum. */
static bool explain_sum(const verify *v, uint64_t sum, int *missing, int *twice)
{
    for (int m = -1; m < v->ranks; m++)
        for (int t = -1; t < v->ranks; t++) {
            uint64_t guess = v->total_weight - (m < 0 ? 0 : v->weight[m]) + (t < 0 ? 0 : v->weight[t]);
            if (guess == sum) {
                *missing = m;
                *twice = t;
                return true;
            }
        }
    return false;
}

void verify_value_text(const verify *v, const verify_value *value, char *text, size_t bytes)
{
    int missing, twice;
    if (value->count == 0)
        snprintf(text, bytes, "nothing");
    else if (value->count == 1)
        snprintf(text, bytes, "rank %u's chunk %u", value->low, value->chunk);
    else if (value->low != VERIFY_SCATTERED)
        snprintf(text, bytes, "ranks %u..%u", value->low, value->low + value->count - 1);
    else if (!explain_sum(v, value->sum, &missing, &twice))
        snprintf(text, bytes, "%u contributions", value->count);
    else if (missing >= 0 && twice >= 0)
        snprintf(text, bytes, "rank %d twice and rank %d never", twice, missing);
    else if (twice >= 0)
        snprintf(text, bytes, "all ranks, rank %d twice", twice);
    else if (missing >= 0)
        snprintf(text, bytes, "all ranks but %d", missing);
    else
        snprintf(text, bytes, "all ranks");
}

/* The single contribution that a data-moving collective puts into output chunk `chunk` of `rank`. */
static void expected_source(const verify *v, int rank, uint32_t chunk, uint32_t *source,
                            uint32_t *source_chunk)
{
    uint32_t block = chunk / v->chunks_per_block, part = chunk % v->chunks_per_block;
    uint32_t own = (uint32_t)rank * v->chunks_per_block;
    switch (v->collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        *source = block;
        *source_chunk = part;
        break;
    case WEFT_ALL_TO_ALL:
        *source = block;
        *source_chunk = own + part;
        break;
    case WEFT_SCATTER:
        *source = (uint32_t)v->root;
        *source_chunk = own + chunk;
        break;
    default:
        *source = (uint32_t)v->root;
        *source_chunk = chunk;
    }
}

static weft_status check_moved(const verify *v, int rank, uint32_t chunk, const verify_value *value)
{
    uint32_t source, source_chunk;
    char text[96];
    expected_source(v, rank, chunk, &source, &source_chunk);
    if (value->count == 1 && value->low == source && value->chunk == source_chunk)
        return WEFT_OK;
    verify_value_text(v, value, text, sizeof(text));
    return verify_fail_whole(v, "rank %d ends with %s in output[%u], not rank %u's chunk %u", rank, text,
                             chunk, source, source_chunk);
}

static weft_status check_reduced(const verify *v, int rank, uint32_t chunk, const verify_value *value)
{
    char text[96];
    uint32_t due =
        v->collective == WEFT_REDUCE_SCATTER ? (uint32_t)rank * v->chunks_per_block + chunk : chunk;
    if (value->count != (uint32_t)v->ranks || value->sum != v->total_weight) {
        verify_value_text(v, value, text, sizeof(text));
        return verify_fail_whole(v, "rank %d ends with %s in output[%u], not all %d ranks once", rank, text,
                                 chunk, v->ranks);
    }
    if (value->chunk != due)
        return verify_fail_whole(v, "rank %d ends with the result of chunk %u in output[%u], not of chunk %u",
                                 rank, value->chunk, chunk, due);
    if (v->keeps_order && value->low != 0)
        return verify_fail_whole(v, "rank %d ends with operands out of rank order in output[%u]", rank,
                                 chunk);
    if (value->finals != 1)
        return verify_fail_whole(
            v, "rank %d ends with a value in output[%u] that no step marked final has made", rank, chunk);
    return WEFT_OK;
}

weft_status verify_result(const verify *v)
{
    for (int rank = 0; rank < v->ranks; rank++) {
        const verify_rank *place = &v->rank[rank];
        for (uint32_t c = 0; c < place->chunks[WEFT_OUTPUT]; c++) {
            const verify_value *value = &v->cells[place->at[WEFT_OUTPUT] + c].value;
            weft_status status =
                v->reduces ? check_reduced(v, rank, c, value) : check_moved(v, rank, c, value);
            if (status != WEFT_OK)
                return status;
        }
        for (int other = 0; v->arrived && other < v->ranks; other++)
            if (v->arrived[(size_t)rank * (size_t)v->ranks + (size_t)other] == 0)
                return verify_fail_whole(v, "rank %d may leave the barrier before rank %d has come", rank,
                                         other);
    }
    return WEFT_OK;
}

/* ---- runs -------------------------------------------------------------------------------------- */

/* In place, the smaller of input and output lies inside the other one. */
static void place_buffers(verify *v, int rank)
{
    verify_rank *p = &v->rank[rank];
    for (int b = 0; b < WEFT_BUFFER_COUNT; b++)
        p->at[b] = p->raw[b];
    if (!p->in_place || !p->chunks[WEFT_INPUT] || !p->chunks[WEFT_OUTPUT])
        return;
    size_t own = (size_t)rank * v->chunks_per_block;
    switch (v->collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        p->at[WEFT_INPUT] = p->at[WEFT_OUTPUT] + own;
        break;
    case WEFT_REDUCE_SCATTER:
    case WEFT_SCATTER:
        p->at[WEFT_OUTPUT] = p->at[WEFT_INPUT] + own;
        break;
    default:
        p->at[WEFT_INPUT] = p->at[WEFT_OUTPUT];
    }
}

enum { ALL_OF_THEM = 1, EVERY_SECOND = 2, EVERY_THIRD = 3, NONE_OF_THEM = 0 };

static weft_status run(verify *v, int in_place, int mapped, const char *mode)
{
    v->mode = mode;
    v->any_mapped = false;
    for (int rank = 0; rank < v->ranks; rank++) {
        v->rank[rank].in_place = in_place && rank % in_place == 0;
        v->rank[rank].mapped = mapped && rank % mapped == 0;
        v->any_mapped |= v->rank[rank].mapped;
        place_buffers(v, rank);
    }
    verify_memory_reset(v);
    weft_status status = WEFT_OK;
    for (uint32_t lane = 0; status == WEFT_OK && lane < v->lanes; lane++)
        status = verify_run_lane(v, lane);
    return status == WEFT_OK ? verify_result(v) : status;
}

/* Above LARGE ranks each kind of memory and each kind of aliasing is still met once, but not in every
 * combination: runs cost seconds there. */
enum { SMALL = 64, LARGE = 256 };

static weft_status run_all(verify *v)
{
    bool alias = !v->schedules[0]->not_in_place && v->collective != WEFT_BARRIER, large = v->ranks > LARGE;
    weft_status status =
        run(v, NONE_OF_THEM, ALL_OF_THEM, v->publishes ? "not in place, mapped" : "not in place");
    if (status == WEFT_OK && v->publishes && !(large && alias))
        status = run(v, NONE_OF_THEM, NONE_OF_THEM, "not in place, staged");
    if (status == WEFT_OK && alias && !(large && v->publishes))
        status = run(v, ALL_OF_THEM, ALL_OF_THEM, v->publishes ? "in place, mapped" : "in place");
    if (status == WEFT_OK && alias && v->publishes)
        status = run(v, ALL_OF_THEM, NONE_OF_THEM, "in place, staged");
    if (status == WEFT_OK && v->publishes && v->ranks <= SMALL)
        status = run(v, alias ? EVERY_SECOND : NONE_OF_THEM, EVERY_THIRD,
                     alias ? "every second rank in place, every third mapped"
                           : "not in place, every third rank mapped");
    return status;
}

/* ---- set-up ------------------------------------------------------------------------------------ */

static bool is_root_input(weft_collective c)
{
    return c == WEFT_BROADCAST || c == WEFT_SCATTER;
}

static bool is_root_output(weft_collective c)
{
    return c == WEFT_REDUCE || c == WEFT_GATHER;
}

static void expected_blocks(const verify *v, uint32_t *input, uint32_t *output)
{
    uint32_t n = (uint32_t)v->ranks;
    weft_collective c = v->collective;
    *input = c == WEFT_REDUCE_SCATTER || c == WEFT_SCATTER || c == WEFT_ALL_TO_ALL ? n : 1;
    *output = c == WEFT_ALL_GATHER || c == WEFT_GATHER || c == WEFT_ALL_TO_ALL ? n : 1;
    if (c == WEFT_BARRIER)
        *input = *output = 0;
}

/* Ranks agree in what they share. */
static weft_status check_agreement(const verify *v, int rank)
{
    const weft_schedule *a = v->schedules[0], *s = v->schedules[rank];
    if (s->rank != rank || s->ranks != v->ranks)
        return verify_fail_whole(v, "the schedule at place %d of %d is that of rank %d of %d", rank, v->ranks,
                                 s->rank, s->ranks);
    if (s->collective != a->collective || s->algorithm != a->algorithm || s->root != a->root)
        return verify_fail_whole(v, "rank %d has %s by %s (root %d), rank 0 has %s by %s (root %d)", rank,
                                 weft_collective_name(s->collective), weft_algorithm_name(s->algorithm),
                                 s->root, weft_collective_name(a->collective),
                                 weft_algorithm_name(a->algorithm), a->root);
    if (s->chunks_per_block != a->chunks_per_block || s->lanes != a->lanes ||
        s->keeps_order != a->keeps_order || s->not_in_place != a->not_in_place)
        return verify_fail_whole(
            v, "ranks %d and 0 differ in chunks per block (%u, %u), lanes (%u, %u) or flags", rank,
            s->chunks_per_block, a->chunks_per_block, s->lanes, a->lanes);
    if (s->publishes_input != a->publishes_input || s->publishes_output != a->publishes_output)
        return verify_fail_whole(v, "ranks %d and 0 differ in which buffers any rank publishes", rank);
    return WEFT_OK;
}

static weft_status check_shape(verify *v, int rank)
{
    const weft_schedule *s = v->schedules[rank];
    verify_rank *p = &v->rank[rank];
    uint32_t input, output;
    expected_blocks(v, &input, &output);
    bool has_input = input && (!is_root_input(v->collective) || rank == v->root);
    bool has_output = output && (!is_root_output(v->collective) || rank == v->root);
    if ((has_input && s->input_blocks != input) || (has_output && s->output_blocks != output))
        return verify_fail_whole(v, "rank %d has %u input and %u output blocks; %s of %d ranks has %u and %u",
                                 rank, s->input_blocks, s->output_blocks, weft_collective_name(v->collective),
                                 v->ranks, input, output);
    p->chunks[WEFT_INPUT] = has_input ? input * s->chunks_per_block : 0;
    p->chunks[WEFT_OUTPUT] = has_output ? output * s->chunks_per_block : 0;
    p->chunks[WEFT_SCRATCH] = s->scratch_chunks;
    for (int b = 0; b < WEFT_BUFFER_COUNT; b++) {
        p->raw[b] = v->cell_count;
        v->cell_count += p->chunks[b];
    }
    return WEFT_OK;
}

/* Does a schedule publish what its header does not say? Finds out whether peers share memory at all. */
static weft_status check_sharing(verify *v, bool *shared)
{
    const weft_schedule *head = v->schedules[0];
    for (int rank = 0; rank < v->ranks; rank++)
        for (uint32_t lane = 0; lane < v->lanes; lane++) {
            const weft_lane *l = verify_steps(v, rank, lane);
            for (uint32_t i = 0; i < l->count; i++) {
                const weft_step *s = &l->steps[i];
                bool input = s->kind == WEFT_STEP_PUBLISH && s->src.buffer == WEFT_INPUT;
                bool output = s->kind == WEFT_STEP_PUBLISH && s->src.buffer == WEFT_OUTPUT;
                v->publishes |= input || output;
                if ((input && !head->publishes_input) || (output && !head->publishes_output))
                    return verify_fail(v, rank, lane, i, "publishes, but the schedule does not say so");
                *shared |= input || output || s->kind == WEFT_STEP_SIGNAL || s->kind == WEFT_STEP_WAIT ||
                           s->kind == WEFT_STEP_COPY || s->kind == WEFT_STEP_REDUCE;
            }
        }
    return WEFT_OK;
}

static uint64_t weight_of(int rank)
{
    return weft_hash(&rank, sizeof(rank), 0x9e3779b97f4a7c15u);
}

static weft_status check_header(const verify *v)
{
    const weft_schedule *head = v->schedules[0];
    if (head->collective >= WEFT_COLLECTIVE_COUNT || head->algorithm >= WEFT_ALGORITHM_COUNT)
        return verify_fail_whole(v, "unknown collective %d or algorithm %d", (int)head->collective,
                                 (int)head->algorithm);
    if (v->root < 0 || v->root >= v->ranks)
        return verify_fail_whole(v, "root %d is no rank (0..%d)", v->root, v->ranks - 1);
    if (v->lanes == 0 || v->lanes >= VERIFY_MANY - 1 || v->chunks_per_block == 0)
        return verify_fail_whole(v, "%u lanes and %u chunks per block; there must be at least one of each",
                                 v->lanes, v->chunks_per_block);
    return WEFT_OK;
}

static weft_status allocate_ranks(verify *v)
{
    size_t ranks = (size_t)v->ranks;
    v->rank = weft_alloc_array(ranks, sizeof(*v->rank));
    v->lane = weft_alloc_array(ranks * v->lanes, sizeof(*v->lane));
    v->weight = weft_alloc_array(ranks, sizeof(*v->weight));
    if (v->collective == WEFT_BARRIER)
        v->arrived = weft_alloc_array(ranks * ranks, sizeof(*v->arrived));
    if (!v->rank || !v->lane || !v->weight || (v->collective == WEFT_BARRIER && !v->arrived))
        return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
    for (int rank = 0; rank < v->ranks; rank++) {
        v->weight[rank] = weight_of(rank);
        v->total_weight += v->weight[rank];
    }
    return WEFT_OK;
}

static weft_status allocate_cells(verify *v, bool shared)
{
    v->cells = weft_alloc_array(v->cell_count + 1, sizeof(*v->cells));
    v->stamp_cell = weft_alloc_array(v->cell_count + 1, sizeof(*v->stamp_cell));
    if (shared)
        v->shared = weft_alloc_array(v->cell_count + 1, sizeof(*v->shared));
    return v->cells && v->stamp_cell && (!shared || v->shared)
               ? WEFT_OK
               : weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
}

static weft_status prepare(verify *v)
{
    weft_status status = check_header(v);
    if (status == WEFT_OK)
        status = allocate_ranks(v);
    for (int rank = 0; status == WEFT_OK && rank < v->ranks; rank++) {
        status = check_agreement(v, rank);
        if (status == WEFT_OK)
            status = check_shape(v, rank);
    }
    bool shared = v->collective == WEFT_BARRIER;
    if (status == WEFT_OK)
        status = verify_static(v);
    if (status == WEFT_OK)
        status = check_sharing(v, &shared);
    return status == WEFT_OK ? allocate_cells(v, shared) : status;
}

static void release(verify *v)
{
    weft_free(v->rank);
    weft_free(v->lane);
    weft_free(v->send_step);
    weft_free(v->match);
    weft_free(v->weight);
    weft_free(v->cells);
    weft_free(v->shared);
    weft_free(v->readers);
    weft_free(v->stamp_cell);
    weft_free(v->arrived);
}

static weft_status verify_all(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                              bool vector, char *text, size_t text_bytes)
{
    if (text_bytes > 0)
        text[0] = 0;
    if (ranks <= 0 || !schedules || (group && group->ranks != ranks))
        return weft_fail(WEFT_ERR_INVALID, "cannot verify %d schedules for a group of %d ranks", ranks,
                         group ? group->ranks : ranks);
    const weft_schedule *head = schedules[0];
    verify v = {.schedules = schedules,
                .group = group,
                .collective = head->collective,
                .ranks = ranks,
                .root = head->root,
                .lanes = head->lanes,
                .chunks_per_block = head->chunks_per_block,
                .vector = vector,
                .keeps_order = head->keeps_order,
                .text = text,
                .text_bytes = text_bytes};
    v.reduces =
        v.collective == WEFT_ALL_REDUCE || v.collective == WEFT_REDUCE || v.collective == WEFT_REDUCE_SCATTER;
    weft_status status = prepare(&v);
    if (status == WEFT_OK)
        status = run_all(&v);
    release(&v);
    return status;
}

weft_status weft_verify(const weft_schedule *const *schedules, int ranks, const weft_group *group, char *text,
                        size_t text_bytes)
{
    return verify_all(schedules, ranks, group, false, text, text_bytes);
}

weft_status weft_plan_verify(const weft_plan_request *request, char *text, size_t text_bytes)
{
    int ranks = request->group.ranks;
    if (text_bytes > 0)
        text[0] = 0;
    if (ranks <= 0)
        return weft_fail(WEFT_ERR_INVALID, "a group of %d ranks has no schedule", ranks);
    weft_schedule **schedules = weft_alloc_array((size_t)ranks, sizeof(*schedules));
    if (!schedules)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for %d schedules", ranks);
    weft_status status = WEFT_OK;
    for (int rank = 0; status == WEFT_OK && rank < ranks; rank++)
        status = weft_plan(request, rank, &schedules[rank]);
    if (status == WEFT_OK)
        status = verify_all((const weft_schedule *const *)schedules, ranks, &request->group, request->vector,
                            text, text_bytes);
    else if (text_bytes > 0)
        snprintf(text, text_bytes, "%s", weft_last_error());
    for (int rank = 0; rank < ranks; rank++)
        weft_schedule_free(schedules[rank]);
    weft_free(schedules);
    return status;
}

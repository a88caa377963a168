/* The inline path's compiler: a schedule and a call's shape become moves of bytes with resolved offsets. */
#include "collectives/inline_moves.h"

enum { RECEIVE_BYTES = 8 << 10 }; /* longer messages may come in parts, which the executor has put where they belong */
enum { SCRATCH_BYTES = 32 << 10 };

static bool make_room(void **items, uint32_t *capacity, uint32_t need, size_t bytes)
{
    if (need <= *capacity)
        return true;
    uint32_t more = need + *capacity + 8;
    void *grown = weft_realloc(*items, more * bytes);
    if (!grown)
        return false;
    *items = grown;
    *capacity = more;
    return true;
}

/* Chunk number i of a place: its bytes, and where they start. */
static size_t chunk_of(const weft_execution *x, const weft_place *p, uint32_t i, bool published, weft_inline_place *at)
{
    const weft_exec *e = x->exec;
    const weft_layout *l = &x->layouts[p->buffer];
    uint32_t chunk = p->first + i / p->count * p->stride + i % p->count;
    size_t offset;
    size_t bytes = weft_layout_chunk(l, chunk, x->tile_elements, 0, &offset) * l->element_bytes;
    if (p->rank == e->rank && !published)
        *at = (weft_inline_place){p->buffer, (uint32_t)(offset * l->element_bytes)};
    else
        *at = (weft_inline_place){WEFT_BASE_STAGE + (uint32_t)e->local_position[p->rank],
                                  (uint32_t)weft_stage_offset(x, p, chunk)};
    return bytes;
}

static bool follows(const weft_inline_place *a, uint32_t bytes, const weft_inline_place *b)
{
    return a->base == b->base && a->offset + bytes == b->offset;
}

/* Joins a move with the one before it, where both are of one step and all their places go on. */
static bool joined(weft_inline *c, const weft_inline_move *m, const weft_inline_place *sources)
{
    weft_inline_move *last = c->count ? &c->moves[c->count - 1] : NULL;
    if (!last || last->step != m->step || last->kind != m->kind || !follows(&last->dst, last->bytes, &m->dst))
        return false;
    if (m->sources == 0 && !follows(&last->src, last->bytes, &m->src))
        return false;
    for (uint32_t i = 0; i < m->sources; i++)
        if (!follows(&c->sources[last->first_source + i], last->bytes, &sources[i]))
            return false;
    last->bytes += m->bytes;
    return true;
}

static bool add_move(weft_inline *c, weft_inline_move *m, const weft_inline_place *sources)
{
    if (m->bytes && joined(c, m, sources))
        return true;
    if (!make_room((void **)&c->moves, &c->capacity, c->count + 1, sizeof *c->moves) ||
        !make_room((void **)&c->sources, &c->source_capacity, c->source_count + m->sources, sizeof *c->sources))
        return false;
    m->first_source = c->source_count;
    for (uint32_t i = 0; i < m->sources; i++) {
        c->sources[c->source_count++] = sources[i];
        c->reads_input |= sources[i].base == WEFT_INPUT;
    }
    c->moves[c->count++] = *m;
    c->reads_input |= m->sources == 0 && m->bytes && m->src.base == WEFT_INPUT;
    c->writes_output |= m->bytes && m->dst.base == WEFT_OUTPUT;
    return true;
}

/* Publish, copy or reduce: one move per piece that is contiguous everywhere. All places of a step have the same shape. */
static bool add_data(weft_inline *c, const weft_execution *x, const weft_step *step, uint32_t behind)
{
    const weft_place *from = step->kind == WEFT_STEP_REDUCE ? c->ready->schedule->sources + step->value : &step->src;
    const weft_place *to = step->kind == WEFT_STEP_PUBLISH ? &step->src : &step->dst;
    for (uint32_t i = 0; i < to->count * to->repeat; i++) {
        weft_inline_place sources[WEFT_INLINE_SOURCES_MAX];
        weft_inline_move m = {.kind = step->kind, .final = step->flags & WEFT_STEP_FINAL, .step = behind,
                              .sources = step->kind == WEFT_STEP_REDUCE ? step->sources : 0};
        m.bytes = (uint32_t)chunk_of(x, to, i, step->kind == WEFT_STEP_PUBLISH, &m.dst);
        if (m.sources == 0)
            chunk_of(x, from, i, false, &m.src);
        for (uint32_t s = 0; s < m.sources; s++)
            chunk_of(x, &from[s], i, false, &sources[s]);
        if (m.bytes && !add_move(c, &m, sources))
            return false;
    }
    return true;
}

/* A place of this rank that is one piece; false: it is not. like: whose sizes its chunks have, where it is scratch. */
static bool one_piece(const weft_execution *x, const weft_place *p, const weft_place *like, weft_inline_place *at,
                      uint32_t *bytes)
{
    *bytes = 0;
    for (uint32_t i = 0; i < p->count * p->repeat; i++) {
        weft_inline_place next;
        if (p->buffer == WEFT_SCRATCH && !like)
            return false;
        uint32_t more = (uint32_t)chunk_of(x, like ? like : p, i, false, &next);
        if (p->buffer == WEFT_SCRATCH)
            next = (weft_inline_place){WEFT_BASE_SCRATCH, /* chunks lie there one after the other */
                                       (uint32_t)((p->first + i / p->count * p->stride + i % p->count) * x->chunk_bytes)};
        if (*bytes && more && !follows(at, *bytes, &next))
            return false;
        *at = *bytes ? *at : next;
        *bytes += more;
    }
    return true;
}

/* In one slice; false: the executor must do it, or no memory. */
static bool add_send(weft_inline *c, const weft_execution *x, uint32_t index)
{
    const weft_exec *e = x->exec;
    const weft_step *step = &c->ready->schedule->lane[0].steps[index];
    weft_inline_move m = {.kind = step->kind, .fenced = step->fence > 0, .step = index + 1,
                          .position = (uint32_t)e->world[step->to],
                          .ordinal = c->ready->sends[0][c->ready->steps[0][index].send_index].ordinal};
    if (step->to == e->rank || step->src.buffer == WEFT_SCRATCH || !one_piece(x, &step->src, NULL, &m.src, &m.bytes))
        return false;
    size_t slice = e->slice_bytes ? e->slice_bytes : weft_wire_slice(e->wire, e->world[step->to], m.bytes);
    return m.bytes <= slice && add_move(c, &m, NULL);
}

static bool add_receive(weft_inline *c, const weft_execution *x, uint32_t index)
{
    const weft_exec *e = x->exec;
    const weft_step *step = &c->ready->schedule->lane[0].steps[index];
    const weft_ready_step *ready = &c->ready->steps[0][index];
    uint32_t bytes;
    weft_inline_move m = {.kind = step->kind, .fenced = step->fence > 0, .step = index + 1,
                          .position = (uint32_t)e->world[step->from], .ordinal = ready->receive_ordinal,
                          .final = step->flags & WEFT_STEP_FINAL, .incoming_first = step->flags & WEFT_STEP_INCOMING_FIRST};
    if (step->from == e->rank || step->to >= 0 || !one_piece(x, &step->dst, ready->dst_like, &m.dst, &m.bytes))
        return false;
    if (step->kind == WEFT_STEP_RECV_REDUCE && (!one_piece(x, &step->src, ready->src_like, &m.src, &bytes) || bytes != m.bytes))
        return false;
    return m.bytes <= RECEIVE_BYTES && add_move(c, &m, NULL);
}

/* Out of scratch or within it. */
static bool add_scratch_copy(weft_inline *c, const weft_execution *x, uint32_t index)
{
    const weft_step *step = &c->ready->schedule->lane[0].steps[index];
    const weft_ready_step *ready = &c->ready->steps[0][index];
    uint32_t bytes;
    weft_inline_move m = {.kind = step->kind, .final = step->flags & WEFT_STEP_FINAL, .step = index + 1};
    return one_piece(x, &step->src, ready->src_like, &m.src, &m.bytes) &&
           one_piece(x, &step->dst, ready->dst_like, &m.dst, &bytes) && bytes == m.bytes && add_move(c, &m, NULL);
}

static bool reduces_scratch(const weft_schedule *s, const weft_step *step)
{
    for (uint32_t i = 0; i < step->sources; i++)
        if (s->sources[step->value + i].buffer == WEFT_SCRATCH)
            return true;
    return step->kind == WEFT_STEP_REDUCE && step->dst.buffer == WEFT_SCRATCH;
}

static bool add_local_data(weft_inline *c, const weft_execution *x, uint32_t index)
{
    const weft_step *step = &c->ready->schedule->lane[0].steps[index];
    bool scratch = step->src.buffer == WEFT_SCRATCH || step->dst.buffer == WEFT_SCRATCH;
    uint32_t first = c->count;
    if (reduces_scratch(c->ready->schedule, step) ||
        !(scratch && step->kind == WEFT_STEP_COPY ? add_scratch_copy(c, x, index) : add_data(c, x, step, index + 1))) {
        c->count = first; /* memory ended amid the step: the executor does it whole */
        return false;
    }
    for (uint32_t m = first; m < c->count; m++)
        c->moves[m].fenced = step->fence > 0;
    return true;
}

/* From the beginning as far as it goes; false: no message is sent or received there. */
static bool compile_messages(weft_inline *c, const weft_execution *x, const weft_execution_args *args)
{
    const weft_lane *l = &c->ready->schedule->lane[0];
    bool messages = false;
    c->scratch_bytes = c->ready->schedule->scratch_chunks * x->chunk_bytes;
    if (c->scratch_bytes > SCRATCH_BYTES || (c->scratch_bytes && !(c->scratch = weft_alloc(c->scratch_bytes))))
        return false;
    for (uint32_t i = 0; i < l->count && !c->part; i++) {
        if (l->steps[i].kind == WEFT_STEP_SEND)
            messages |= !(c->part = !add_send(c, x, i));
        else if (weft_step_receives(&l->steps[i]))
            messages |= !(c->part = !add_receive(c, x, i));
        else
            c->part = !add_local_data(c, x, i);
    }
    c->reads_input = args->input; /* the executor's part too */
    c->writes_output = args->output;
    return messages;
}

static bool compile_local(weft_inline *c, const weft_execution *x)
{
    const weft_lane *l = &c->ready->schedule->lane[0];
    for (uint32_t i = 0; i < l->count; i++) {
        const weft_step *step = &l->steps[i];
        weft_inline_move m = {.kind = step->kind, .step = i + 1};
        switch (step->kind) {
        case WEFT_STEP_SIGNAL:
            m.signal = ++c->signals;
            if (!(step->flags & WEFT_STEP_IF_MAPPED) && !add_move(c, &m, NULL))
                return false;
            break;
        case WEFT_STEP_WAIT:
            m.signal = step->value;
            m.position = (uint32_t)x->exec->local_position[step->from];
            if (!(step->flags & WEFT_STEP_IF_MAPPED) && !add_move(c, &m, NULL))
                return false;
            break;
        default:
            if (!add_data(c, x, step, i + 1))
                return false;
        }
    }
    return true;
}

/* Bytes of a block that it serves, at most; 0: none. In shared memory: buffers that no rank may have mapped, nothing but local
 * steps. By messages: what goes in one slice. */
static size_t most_bytes(const weft_exec *e, const weft_execution_args *args)
{
    const weft_schedule *s = args->ready->schedule;
    if (args->ready->most_sources > WEFT_INLINE_SOURCES_MAX || args->input_counts || args->output_counts ||
        args->reduction.function)
        return 0;
    if (!s->local)
        return s->lanes == 1 ? WEFT_SLICE_MOST_BYTES : 0;
    if (!args->ready->local_only || !e->regions || s->scratch_chunks || e->local_count != e->ranks)
        return 0;
    return (WEFT_MAP_BYTES - 1) / (s->input_blocks > 1 || s->output_blocks > 1 ? (size_t)e->ranks : 1);
}

static bool serves(const weft_exec *e, const weft_execution_args *args)
{
    size_t element = weft_type_bytes(args->reduction.type), most = most_bytes(e, args);
    return most > 0 && args->count <= most && args->count * (element ? element : 1) <= most;
}

weft_status weft_inline_create(weft_exec *e, const weft_execution_args *args, weft_inline **out)
{
    *out = NULL;
    if (!serves(e, args))
        return WEFT_OK;
    weft_execution *x = weft_execution_get(e);
    weft_inline *c = weft_alloc(sizeof *c);
    weft_status status = x && c ? weft_execution_bind(x, args) : weft_fail(WEFT_ERR_MEMORY, "no memory for a short call");
    if (status == WEFT_OK && x->tiles == 1) {
        *c = (weft_inline){.ready = args->ready, .reduction = args->reduction, .fingerprint = args->fingerprint,
                           .local = args->ready->schedule->local, .small = x->small, .in_line = x->in_line,
                           .element_bytes = (uint32_t)x->layouts[WEFT_OUTPUT].element_bytes};
        if (c->local ? compile_local(c, x) : compile_messages(c, x, args))
            *out = c;
    }
    if (x)
        weft_execution_put(x);
    if (!*out)
        weft_inline_destroy(c);
    return status;
}

void weft_inline_destroy(weft_inline *c)
{
    if (!c)
        return;
    weft_free(c->moves);
    weft_free(c->sources);
    weft_free(c->scratch);
    weft_free(c);
}

/* The inline path's compiler (schedule -> moves with resolved offsets) and interpreter. Which calls come here is decided in
 * src/core; the protocol in shared memory is the executor's (execute.c). */
#include "collectives/inline.h"

#include <sched.h>
#include <string.h>

enum { SOURCES_MAX = 64, BASE_INPUT = WEFT_INPUT, BASE_OUTPUT = WEFT_OUTPUT, BASE_STAGE };

/* base: input, output, or BASE_STAGE + position of a local rank. */
typedef struct inline_place {
    uint32_t base, offset;
} inline_place;

typedef struct inline_move {
    uint8_t kind;          /* weft_step_kind: publish is a copy into the own stage */
    bool final;
    uint16_t sources;
    uint32_t first_source; /* reduce */
    uint32_t signal;       /* signal, wait: its number */
    uint32_t position;     /* wait: of the local rank */
    uint32_t step;         /* of the schedule: what is behind when this move is */
    uint32_t bytes;
    inline_place src, dst;
} inline_move;

struct weft_inline {
    const weft_ready *ready;
    weft_reduction reduction;
    weft_fingerprint fingerprint;
    uint32_t element_bytes;
    uint32_t signals;
    bool small, in_line;   /* published data lie in a small slot, in the signal's line */
    bool reads_input, writes_output;
    inline_move *moves;
    uint32_t count, capacity;
    inline_place *sources;
    uint32_t source_count, source_capacity;
};

/* ---- compiling --------------------------------------------------------------------------------- */

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
static size_t chunk_of(const weft_execution *x, const weft_place *p, uint32_t i, bool published, inline_place *at)
{
    const weft_exec *e = x->exec;
    const weft_layout *l = &x->layouts[p->buffer];
    uint32_t chunk = p->first + i / p->count * p->stride + i % p->count;
    size_t offset;
    size_t bytes = weft_layout_chunk(l, chunk, x->tile_elements, 0, &offset) * l->element_bytes;
    if (p->rank == e->rank && !published)
        *at = (inline_place){p->buffer, (uint32_t)(offset * l->element_bytes)};
    else
        *at = (inline_place){BASE_STAGE + (uint32_t)e->local_position[p->rank], (uint32_t)weft_stage_offset(x, p, chunk)};
    return bytes;
}

static bool follows(const inline_place *a, uint32_t bytes, const inline_place *b)
{
    return a->base == b->base && a->offset + bytes == b->offset;
}

/* Joins a move with the one before it, where both are of one step and all their places go on. */
static bool joined(weft_inline *c, const inline_move *m, const inline_place *sources)
{
    inline_move *last = c->count ? &c->moves[c->count - 1] : NULL;
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

static bool add_move(weft_inline *c, inline_move *m, const inline_place *sources)
{
    if (m->bytes && joined(c, m, sources))
        return true;
    if (!make_room((void **)&c->moves, &c->capacity, c->count + 1, sizeof *c->moves) ||
        !make_room((void **)&c->sources, &c->source_capacity, c->source_count + m->sources, sizeof *c->sources))
        return false;
    m->first_source = c->source_count;
    for (uint32_t i = 0; i < m->sources; i++) {
        c->sources[c->source_count++] = sources[i];
        c->reads_input |= sources[i].base == BASE_INPUT;
    }
    c->moves[c->count++] = *m;
    c->reads_input |= m->sources == 0 && m->bytes && m->src.base == BASE_INPUT;
    c->writes_output |= m->bytes && m->dst.base == BASE_OUTPUT;
    return true;
}

/* Publish, copy or reduce: one move per piece that is contiguous everywhere. All places of a step have the same shape. */
static bool add_data(weft_inline *c, const weft_execution *x, const weft_step *step, uint32_t behind)
{
    const weft_place *from = step->kind == WEFT_STEP_REDUCE ? c->ready->schedule->sources + step->value : &step->src;
    const weft_place *to = step->kind == WEFT_STEP_PUBLISH ? &step->src : &step->dst;
    for (uint32_t i = 0; i < to->count * to->repeat; i++) {
        inline_place sources[SOURCES_MAX];
        inline_move m = {.kind = step->kind, .final = step->flags & WEFT_STEP_FINAL, .step = behind,
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

static bool compile(weft_inline *c, const weft_execution *x)
{
    const weft_lane *l = &c->ready->schedule->lane[0];
    for (uint32_t i = 0; i < l->count; i++) {
        const weft_step *step = &l->steps[i];
        inline_move m = {.kind = step->kind, .step = i + 1};
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

/* Buffers that no rank may have mapped, nothing but local steps over a single tile. */
static bool serves(const weft_exec *e, const weft_execution_args *args)
{
    const weft_schedule *s = args->ready->schedule;
    size_t element = weft_type_bytes(args->reduction.type), limit = (WEFT_MAP_BYTES - 1) / (size_t)e->ranks;
    if (!args->ready->local_only || !e->regions || s->scratch_chunks || args->ready->most_sources > SOURCES_MAX ||
        args->input_counts || args->output_counts || args->reduction.function || e->local_count != e->ranks)
        return false;
    size_t most = s->input_blocks > 1 || s->output_blocks > 1 ? limit : WEFT_MAP_BYTES - 1;
    return args->count <= most && args->count * (element ? element : 1) <= most;
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
                           .small = x->small, .in_line = x->in_line,
                           .element_bytes = (uint32_t)x->layouts[WEFT_OUTPUT].element_bytes};
        if (!compile(c, x))
            status = weft_fail(WEFT_ERR_MEMORY, "no memory for a short call");
        else
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
    weft_free(c);
}

const weft_fingerprint *weft_inline_fingerprint(const weft_inline *c)
{
    return &c->fingerprint;
}

const weft_schedule *weft_inline_schedule(const weft_inline *c)
{
    return c->ready->schedule;
}

bool weft_inline_takes(const weft_inline *c, const void *input, const void *output, bool in_place)
{
    const weft_schedule *s = c->ready->schedule;
    return (input || !c->reads_input) && (output || !c->writes_output) && !(in_place && s->not_in_place && !s->publishes_input);
}

/* ---- running ----------------------------------------------------------------------------------- */

/* What a run works on. */
typedef struct inline_run {
    const weft_inline *call;
    weft_exec *e;
    char *buffers[2];  /* input, output */
    size_t slot, large;    /* numbers of the slots: for all, for large ones */
    uint64_t words[2]; /* the fingerprint */
    const weft_execution_point *point;
} inline_run;

static inline char *address(const inline_run *r, inline_place p)
{
    if (p.base < BASE_STAGE)
        return r->buffers[p.base] + p.offset;
    weft_local_region *region = r->e->regions[p.base - BASE_STAGE];
    if (r->call->in_line)
        return (char *)region->signal[0][0][r->slot].data + p.offset;
    return (r->call->small ? (char *)region->small[r->slot] : (char *)region->stage[r->large][0]) + p.offset;
}

static void reduce(const inline_run *r, const inline_move *m)
{
    const void *sources[SOURCES_MAX];
    for (uint32_t i = 0; i < m->sources; i++)
        sources[i] = address(r, r->call->sources[m->first_source + i]);
    weft_reduction_run(&r->call->reduction, address(r, m->dst), sources, m->sources, m->bytes / r->call->element_bytes, m->final);
}

static void copy(const inline_run *r, const inline_move *m)
{
    const void *from = address(r, m->src);
    char *to = address(r, m->dst);
    if (m->final && r->call->reduction.divisor > 1)
        weft_reduction_run(&r->call->reduction, to, &from, 1, m->bytes / r->call->element_bytes, true);
    else if (from != to)
        memcpy(to, from, m->bytes);
}

/* Has that rank raised the signal, in the same call after the same calls? If it disagrees the answer is no for ever: the
 * executor finds the words for it. */
static inline bool raised(const inline_run *r, const inline_move *m)
{
    const weft_local_signal *flag = &r->e->regions[m->position]->signal[0][0][r->slot];
    /* acquire: what was published before the signal is visible (partner: weft_signal_raise) */
    if (atomic_load_explicit(&flag->value, memory_order_acquire) < weft_mark(r->point->local_sequence, 0, m->signal))
        return false;
    uint64_t over = atomic_load_explicit(&flag->over, memory_order_relaxed);
    if (over > r->e->over[m->position])
        r->e->over[m->position] = over;
    return atomic_load_explicit(&flag->words[0], memory_order_relaxed) == r->words[0] &&
           atomic_load_explicit(&flag->words[1], memory_order_relaxed) == r->words[1] &&
           atomic_load_explicit(&flag->words[2], memory_order_relaxed) == r->point->before;
}

/* The first looks follow one another closely: a pause of the processor takes as long as the line takes to come. With more ranks
 * than cores the one waited for may need this core. */
static bool await(const inline_run *r, const inline_move *m)
{
    enum { CLOSE_LOOKS = 64 };
    for (int looks = 0; looks <= r->e->spins; looks++) {
        if (raised(r, m))
            return true;
        if (looks >= CLOSE_LOOKS)
            weft_cpu_relax();
    }
    for (int looks = 0; looks < r->e->yields; looks++) {
        sched_yield();
        if (raised(r, m))
            return true;
    }
    return false;
}

/* The moves from the first on; false: a wait is not over. */
static bool run_moves(const inline_run *r, weft_execution_point *point)
{
    const weft_inline *c = r->call;
    weft_local_region *own = r->e->regions[r->e->local_position[r->e->rank]];
    for (const inline_move *m = c->moves, *end = m + c->count; m < end; m++) {
        switch (m->kind) {
        case WEFT_STEP_SIGNAL:
            weft_signal_raise(&own->signal[0][0][r->slot],
                              &(weft_signal){.fingerprint = &c->fingerprint, .before = point->before,
                                             .over = point->local_sequence - 1,
                                             .mark = weft_mark(point->local_sequence, 0, m->signal)});
            break;
        case WEFT_STEP_WAIT:
            if (!await(r, m))
                return false;
            break;
        case WEFT_STEP_REDUCE:
            reduce(r, m);
            break;
        default:
            copy(r, m);
        }
        point->step = m->step;
        if (r->e->trace)
            r->e->trace(r->e->trace_context, m->step - 1);
    }
    return true;
}

/* None of this rank's buffers may be read in place. */
static void announce_staged(const weft_exec *e, size_t slot)
{
    weft_local_mapping *m = &e->regions[e->local_position[e->rank]]->mapping[slot];
    if (m->memory_id[0] | m->memory_id[1])
        m->memory_id[0] = m->memory_id[1] = 0;
}

weft_inline_outcome weft_inline_run(weft_exec *e, const weft_inline *c, const void *input, void *output,
                                    weft_execution_point *point)
{
    if (e->active || e->queued || e->early_count || e->error != WEFT_OK || !weft_exec_slot_free(e, e->next_local, c->small))
        return WEFT_INLINE_NOT_BEGUN;
    *point = (weft_execution_point){0};
    weft_exec_take_number(e, &c->fingerprint, &point->sequence, &point->before);
    point->local_sequence = weft_exec_take_slot(e, 1, 1, c->small);
    inline_run r = {.call = c, .e = e, .buffers = {(char *)input, output}, .slot = point->local_sequence % WEFT_LOCAL_SLOTS,
                    .large = point->local_sequence % WEFT_STAGE_SLOTS,
                    .point = point};
    memcpy(r.words, &c->fingerprint, sizeof r.words);
    if (!c->small)
        announce_staged(r.e, r.large);
    bool over = run_moves(&r, point);
    if (over) {
        weft_exec_leave(e, point->local_sequence, 0, 0);
        weft_exec_tell_over(e);
    }
    weft_exec_ring_all(e);
    return over ? WEFT_INLINE_DONE : WEFT_INLINE_WAITS;
}

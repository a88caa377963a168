/* The inline path's interpreter. Which calls come here is decided in src/core; the protocol in shared memory and that of slices
 * are the executor's (execute.c, execute_traffic.c). */
#include <sched.h>
#include <string.h>

#include "collectives/inline_moves.h"

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
typedef struct weft_inline_run {
    const weft_inline *call;
    weft_exec *e;
    char *buffers[3];  /* input, output, scratch */
    size_t slot, large;    /* numbers of the slots: for all, for large ones */
    uint64_t words[2]; /* the fingerprint */
    const weft_execution_point *point;
    const weft_inline_move *awaits; /* the message that is waited for; NULL: none, or it has come */
} inline_run;

static inline char *address(const inline_run *r, weft_inline_place p)
{
    if (p.base < WEFT_BASE_STAGE)
        return r->buffers[p.base] + p.offset;
    weft_local_region *region = r->e->regions[p.base - WEFT_BASE_STAGE];
    if (r->call->in_line)
        return (char *)region->signal[0][0][r->slot].data + p.offset;
    return (r->call->small ? (char *)region->small[r->slot] : (char *)region->stage[r->large][0]) + p.offset;
}

static void reduce(const inline_run *r, const weft_inline_move *m)
{
    const void *sources[WEFT_INLINE_SOURCES_MAX];
    for (uint32_t i = 0; i < m->sources; i++)
        sources[i] = address(r, r->call->sources[m->first_source + i]);
    weft_reduction_run(&r->call->reduction, address(r, m->dst), sources, m->sources, m->bytes / r->call->element_bytes, m->final);
}

static void copy(const inline_run *r, const weft_inline_move *m)
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
static inline bool raised(const inline_run *r, const weft_inline_move *m)
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
static bool await(const inline_run *r, const weft_inline_move *m)
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

static void send_done(void *owner, uint32_t index, size_t bytes, weft_status status)
{
    (void)index;
    (void)bytes;
    weft_exec *e = owner;
    e->inline_sends--;
    e->inline_lost |= status != WEFT_OK;
}

/* False: not now, or the peer is lost: the executor tries again. */
static bool send(const inline_run *r, const weft_inline_move *m, uint32_t index)
{
    weft_exec *e = r->e;
    if (!weft_wire_charge(e->wire, (int)m->position, m->bytes))
        return false;
    weft_wire_header header = {.kind = WEFT_WIRE_DATA, .flags = WEFT_WIRE_EAGER, .comm = e->comm,
                               .sequence = r->point->sequence, .ordinal = m->ordinal, .total = m->bytes,
                               .fingerprint = r->call->fingerprint};
    e->inline_sends++;
    weft_status status =
        weft_wire_post(e->wire, (int)m->position, &header, address(r, m->src), m->bytes, send_done, e, index);
    if (status != WEFT_OK)
        e->inline_sends--;
    return status == WEFT_OK && !e->inline_lost;
}

/* Is it the whole message that the move waits for? */
static bool fits(const inline_run *r, const weft_inline_move *m, const weft_incoming *in)
{
    const weft_wire_header *h = &in->header;
    return in->payload && h->kind == WEFT_WIRE_DATA && h->sequence == r->point->sequence && h->task == 0 &&
           in->peer == (int)m->position && h->ordinal == m->ordinal && h->total == m->bytes && in->bytes == m->bytes &&
           weft_fingerprint_same(&h->fingerprint, &r->call->fingerprint);
}

static void store(const inline_run *r, const weft_inline_move *m, const void *payload)
{
    if (!m->bytes)
        return;
    char *to = address(r, m->dst);
    if (m->kind == WEFT_STEP_RECV) {
        memcpy(to, payload, m->bytes);
        return;
    }
    const void *own = address(r, m->src);
    const void *sources[2] = {m->incoming_first ? payload : own, m->incoming_first ? own : payload};
    weft_reduction_run(&r->call->reduction, to, sources, 2, m->bytes / r->call->element_bytes, m->final);
}

weft_take weft_inline_take(weft_exec *e, const weft_incoming *in)
{
    inline_run *r = e->inline_run;
    if (!r->awaits || !fits(r, r->awaits, in))
        return WEFT_TAKE_KEEP;
    store(r, r->awaits, in->payload);
    r->awaits = NULL;
    return WEFT_TAKE_DONE;
}

/* Takes the message from those that came before it was waited for. */
static bool receive_early(const inline_run *r, const weft_inline_move *m)
{
    weft_exec *e = r->e;
    for (weft_incoming **link = weft_exec_early(e, r->point->sequence); *link; link = &(*link)->next) {
        weft_incoming *in = *link;
        if (!fits(r, m, in))
            continue;
        *link = in->next;
        e->early_count--;
        store(r, m, in->payload);
        weft_wire_release(e->wire, in);
        return true;
    }
    return false;
}

/* Who has others on this core, or waits for another host, goes at once to where the core is given up. */
static bool may_spin(const weft_exec *e)
{
    return !e->yields && weft_host_count(e->host) == 1;
}

/* What is not there soon is waited for by the executor. So is what comes while others' data lie here unread: the sender may have
 * to be asked for it (weft_task_ask). */
static bool receive(inline_run *r, const weft_inline_move *m)
{
    enum { LOOKS = 16 };
    weft_exec *e = r->e;
    if (e->early_count)
        return receive_early(r, m);
    r->awaits = m;
    e->inline_run = r;
    int looks = may_spin(e) ? LOOKS : 0;
    for (; looks > 0 && r->awaits && !e->early_count && e->error == WEFT_OK; looks--)
        weft_wire_progress(e->wire);
    e->inline_run = NULL;
    return !r->awaits && e->error == WEFT_OK;
}

/* The moves from the first on; false: a wait is not over. */
static bool run_moves(inline_run *r, weft_execution_point *point)
{
    const weft_inline *c = r->call;
    weft_exec *e = r->e;
    for (const weft_inline_move *m = c->moves, *end = m + c->count; m < end; m++) {
        if (m->fenced && e->inline_sends)
            return false;
        switch (m->kind) {
        case WEFT_STEP_SIGNAL:
            weft_signal_raise(&e->regions[e->local_position[e->rank]]->signal[0][0][r->slot],
                              &(weft_signal){.fingerprint = &c->fingerprint, .before = point->before,
                                             .over = point->local_sequence - 1,
                                             .mark = weft_mark(point->local_sequence, 0, m->signal)});
            break;
        case WEFT_STEP_WAIT:
            if (!await(r, m))
                return false;
            break;
        case WEFT_STEP_SEND:
            if (!send(r, m, point->sends))
                return false;
            point->sends++;
            break;
        case WEFT_STEP_RECV:
        case WEFT_STEP_RECV_REDUCE:
            if (!receive(r, m))
                return false;
            break;
        case WEFT_STEP_REDUCE:
            reduce(r, m);
            break;
        default:
            copy(r, m);
        }
        point->step = m->step;
        if (e->trace)
            e->trace(e->trace_context, m->step - 1);
    }
    return !c->part && e->inline_sends == 0;
}

/* None of this rank's buffers may be read in place. */
static void announce_staged(const weft_exec *e, size_t slot)
{
    weft_local_mapping *m = &e->regions[e->local_position[e->rank]]->mapping[slot];
    if (m->memory_id[0] | m->memory_id[1])
        m->memory_id[0] = m->memory_id[1] = 0;
}

/* Has a peer asked for a message of this collective? The executor answers. */
static bool is_asked(const inline_run *r)
{
    const weft_incoming *in = r->e->early_count ? *weft_exec_early(r->e, r->point->sequence) : NULL;
    while (in && in->header.sequence != r->point->sequence)
        in = in->next;
    return in;
}

static weft_inline_outcome run_messages(inline_run *r, weft_execution_point *point)
{
    r->e->inline_lost = false;
    point->scratch = r->call->scratch;
    point->scratch_bytes = r->call->scratch_bytes;
    return run_moves(r, point) && !is_asked(r) ? WEFT_INLINE_DONE : WEFT_INLINE_WAITS;
}

static weft_inline_outcome run_local(inline_run *r, weft_execution_point *point)
{
    weft_exec *e = r->e;
    r->large = weft_exec_stage_slot(e, e->next_local, 1);
    point->local_sequence = weft_exec_take_slot(e, 1, 1, r->call->small, r->large);
    r->slot = point->local_sequence % WEFT_LOCAL_SLOTS;
    memcpy(r->words, &r->call->fingerprint, sizeof r->words);
    if (!r->call->small)
        announce_staged(e, r->large);
    bool over = run_moves(r, point);
    if (over) {
        weft_exec_leave(e, point->local_sequence, 0, 0);
        weft_exec_tell_over(e);
    }
    weft_exec_ring_all(e);
    return over ? WEFT_INLINE_DONE : WEFT_INLINE_WAITS;
}

static bool may_begin(const weft_exec *e, const weft_inline *c)
{
    if (e->active || e->queued || e->error != WEFT_OK)
        return false;
    if (c->local)
        return !e->early_count && weft_exec_slot_free(e, c->small);
    bool receives = c->moves[0].kind == WEFT_STEP_RECV || c->moves[0].kind == WEFT_STEP_RECV_REDUCE;
    return !receives || e->early_count || may_spin(e);
}

weft_inline_outcome weft_inline_run(weft_exec *e, const weft_inline *c, const void *input, void *output,
                                    weft_execution_point *point)
{
    if (!may_begin(e, c))
        return WEFT_INLINE_NOT_BEGUN;
    *point = (weft_execution_point){0};
    weft_exec_take_number(e, &c->fingerprint, &point->sequence, &point->before);
    inline_run r = {.call = c, .e = e, .buffers = {(char *)input, output, c->scratch}, .point = point};
    return c->local ? run_local(&r, point) : run_messages(&r, point);
}

/* Runs schedules: tasks (a lane at work on a tile), their steps, what they send and what arrives for them. Data
 * movement is in execute_data.c, binding in execute_prepare.c, messages between ranks in wire.c. */
#include "collectives/execute.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void run(weft_task *t);
static void finish_if_drained(weft_execution *x);

/* ---- errors ------------------------------------------------------------------------------------ */

void weft_exec_fail(weft_exec *e, weft_status status, int world_rank, const char *format, ...)
{
    if (e->error != WEFT_OK)
        return;
    e->error = status;
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (e->fail)
        e->fail(e->context, status, world_rank, text);
}

void weft_fingerprint_text(const weft_fingerprint *f, char *text, size_t bytes)
{
    const char *op = f->op < WEFT_OP_COUNT ? weft_op_name(f->op) : "user operation";
    bool reduces = f->collective == WEFT_ALL_REDUCE || f->collective == WEFT_REDUCE || f->collective == WEFT_REDUCE_SCATTER;
    snprintf(text, bytes, "%s of %llu %s%s%s root %d by %s", weft_collective_name(f->collective),
             (unsigned long long)f->count, weft_type_name(f->type), reduces ? " " : "", reduces ? op : "", f->root,
             weft_algorithm_name(f->algorithm));
}

static bool same_fingerprint(const weft_fingerprint *a, const weft_fingerprint *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void mismatch(weft_exec *e, uint32_t sequence, const weft_fingerprint *mine, int peer_world, const weft_fingerprint *theirs)
{
    char a[160], b[160];
    weft_fingerprint_text(mine, a, sizeof a);
    weft_fingerprint_text(theirs, b, sizeof b);
    weft_exec_fail(e, WEFT_ERR_MISMATCH, peer_world, "collective %u: rank %d calls %s, rank %d calls %s", sequence, e->rank, a,
                   e->from_world[peer_world], b);
}

/* ---- sending ----------------------------------------------------------------------------------- */

static uint32_t task_number(const weft_task *t)
{
    return (uint32_t)(t->tile * t->execution->ready->schedule->lanes + t->lane);
}

static weft_wire_header header_for(const weft_task *t, weft_wire_kind kind)
{
    const weft_execution *x = t->execution;
    return (weft_wire_header){.kind = (uint8_t)kind, .comm = x->exec->comm, .sequence = x->sequence,
                              .task = task_number(t), .fingerprint = x->fingerprint};
}

static void send_done(void *owner, uint32_t index, size_t bytes, weft_status status)
{
    (void)bytes;
    weft_task *t = owner;
    weft_execution *x = t->execution;
    t->sends[index].outstanding--;
    x->in_flight--;
    if (x->status != WEFT_OK)
        finish_if_drained(x);
    else if (status != WEFT_OK && status != WEFT_ERR_PEER && status != WEFT_ERR_ABORTED)
        weft_exec_fail(x->exec, status, -1, "sending failed: %s", weft_status_text(status));
    else if (status != WEFT_OK) /* the peer's loss is reported by whoever finds out why */
        t->sends[index].outstanding++, x->in_flight++, x->lost_sends++;
}

/* Gives the transport what may be sent of one sending step. */
static void pump_one(weft_task *t, uint32_t index)
{
    weft_execution *x = t->execution;
    weft_exec *e = x->exec;
    weft_sending *s = &t->sends[index];
    const weft_ready_send *ready = &x->ready->sends[t->lane][index];
    const weft_step *step = &x->ready->schedule->lane[t->lane].steps[ready->step];
    int peer = e->world[step->to];
    while (!s->all_issued && (s->issued < s->allowed || s->total == 0)) {
        weft_cursor cursor = s->cursor;
        char *address = NULL;
        size_t bytes = weft_cursor_next(x, t, &cursor, weft_min_size(e->slice_bytes, s->allowed - s->issued), &address);
        if (bytes == 0 && s->total > 0)
            break; /* cannot be: allowed counts what the cursor gives */
        bool eager = !s->wanted;
        if (eager && !weft_wire_charge(e->wire, peer, bytes))
            return;
        s->cursor = cursor;
        s->issued += bytes;
        s->all_issued = s->issued == s->total;
        s->outstanding++;
        x->in_flight++;
        weft_wire_header header = header_for(t, WEFT_WIRE_DATA);
        header.flags = eager ? WEFT_WIRE_EAGER : 0;
        header.ordinal = ready->ordinal;
        header.total = s->total;
        weft_status status = weft_wire_post(e->wire, peer, &header, address, bytes, send_done, t, index);
        if (status != WEFT_OK) {
            s->outstanding--;
            x->in_flight--;
            s->all_issued = false;
            if (status != WEFT_ERR_PEER)
                weft_exec_fail(e, status, peer, "sending to rank %d failed: %s", step->to, weft_last_error());
            return;
        }
    }
}

static void pump(weft_task *t)
{
    for (uint32_t i = t->open; i < t->begun; i++)
        if (!t->sends[i].all_issued)
            pump_one(t, i);
    while (t->open < t->begun && t->sends[t->open].all_issued)
        t->open++;
    while (t->closed < t->open && t->sends[t->closed].outstanding == 0)
        t->closed++;
}

static void begin_send(weft_task *t, const weft_step *step, const weft_ready_step *ready, bool forward)
{
    weft_sending *s = &t->sends[ready->send_index];
    bool from_src = step->kind == WEFT_STEP_SEND;
    const weft_place *place = from_src ? &step->src : &step->dst;
    const weft_place *like = from_src ? ready->src_like : ready->dst_like;
    weft_cursor_start(&s->cursor, place, like);
    s->total = weft_place_bytes(t->execution, t, place, like);
    s->issued = 0;
    s->allowed = forward ? 0 : s->total;
    s->all_issued = false;
    s->begun = true;
    t->begun = ready->send_index + 1;
}

/* ---- receiving --------------------------------------------------------------------------------- */

static bool is_receive(const weft_step *step)
{
    return step->kind == WEFT_STEP_RECV || step->kind == WEFT_STEP_RECV_REDUCE;
}

static const weft_step *current_step(const weft_task *t)
{
    const weft_lane *l = &t->execution->ready->schedule->lane[t->lane];
    return t->step < l->count ? &l->steps[t->step] : NULL;
}

static const weft_ready_step *current_ready(const weft_task *t)
{
    return &t->execution->ready->steps[t->lane][t->step];
}

static weft_execution *find_running(const weft_exec *e, uint32_t sequence)
{
    weft_execution *x = e->running[sequence % WEFT_RUNNING_MAX];
    return x && x->sequence == sequence && x->active ? x : NULL;
}

static weft_task *find_task(weft_execution *x, uint32_t number)
{
    uint32_t lanes = x->ready->schedule->lanes;
    weft_task *t = &x->tasks[number % lanes][number / lanes % WEFT_DEPTH];
    return t->active && t->tile == number / lanes ? t : NULL;
}

/* Is the task at the step that takes this slice? */
static bool wants_slice(const weft_task *t, const weft_incoming *in)
{
    const weft_exec *e = t->execution->exec;
    const weft_step *step = current_step(t);
    return step && t->entered && is_receive(step) && step->from == e->from_world[in->peer] &&
           current_ready(t)->receive_ordinal == in->header.ordinal;
}

/* The sender's and our idea of the step's size must agree, and the slice must fit. */
static bool right_size(weft_task *t, const weft_incoming *in)
{
    weft_exec *e = t->execution->exec;
    const weft_step *step = current_step(t);
    if (step->dst.buffer == WEFT_SCRATCH && !current_ready(t)->dst_like)
        t->expected = in->header.total;
    if (in->header.total == t->expected && t->announced + in->bytes <= t->expected)
        return true;
    weft_exec_fail(e, WEFT_ERR_MISMATCH, in->peer, "%s: rank %d sends %llu bytes where rank %d expects %zu: the counts differ",
                   weft_collective_name(t->execution->fingerprint.collective), step->from,
                   (unsigned long long)in->header.total, e->rank, t->expected);
    return false;
}

/* What has arrived without gap may be forwarded. */
static void allow_forward(weft_task *t, int peer)
{
    const weft_step *step = current_step(t);
    if (step->to < 0)
        return;
    size_t whole = t->announced;
    for (const weft_incoming *in = t->execution->exec->wire->peers[peer].placed; in; in = in->next_placed)
        if (in->user[0] == t && in->position < whole)
            whole = in->position;
    t->sends[current_ready(t)->send_index].allowed = whole;
}

static void store_now(weft_task *t, const weft_incoming *in)
{
    t->announced += in->bytes;
    weft_execute_store(t->execution, t, current_step(t), in->payload, in->bytes);
    t->landed += in->bytes;
    t->slices++;
    allow_forward(t, in->peer);
}

/* Cursors of a slice that is still coming, in front of its staging memory. */
typedef struct placed_at {
    weft_cursor into, with;
} placed_at;
enum { PLACED_BYTES = 128 };
_Static_assert(sizeof(placed_at) <= PLACED_BYTES, "the payload starts at a cache line");

/* Chooses where a slice that is coming shall land: in the destination itself where it is one piece, else in staging. */
static weft_take place_slice(weft_task *t, weft_incoming *in)
{
    weft_execution *x = t->execution;
    const weft_step *step = current_step(t);
    char *address;
    in->user[0] = t;
    in->user[1] = NULL;
    in->position = t->announced;
    weft_cursor probe = t->into;
    if (step->kind == WEFT_STEP_RECV && weft_cursor_next(x, t, &probe, in->bytes, &address) == in->bytes) {
        t->into = probe;
        in->memory = address;
    } else {
        unsigned char *buffer = weft_wire_buffer(x->exec->wire, in->bytes + PLACED_BYTES);
        if (!buffer) {
            weft_exec_fail(x->exec, WEFT_ERR_MEMORY, -1, "no memory for a slice of %zu bytes", in->bytes);
            return WEFT_TAKE_DONE;
        }
        placed_at *at = (placed_at *)(void *)buffer;
        *at = (placed_at){.into = t->into, .with = t->with};
        size_t got;
        for (size_t left = in->bytes; left && (got = weft_cursor_next(x, t, &t->into, left, &address)); left -= got)
            ;
        for (size_t left = in->bytes; left && step->kind == WEFT_STEP_RECV_REDUCE &&
                                      (got = weft_cursor_next(x, t, &t->with, left, &address)); left -= got)
            ;
        in->buffer = in->user[1] = buffer;
        in->memory = buffer + PLACED_BYTES;
    }
    t->announced += in->bytes;
    x->in_flight++;
    return WEFT_TAKE_PLACE;
}

static weft_take take_want(weft_execution *x, const weft_incoming *in)
{
    uint32_t lanes = x->ready->schedule->lanes;
    weft_task *t = find_task(x, in->header.task);
    if (!t) { /* of a tile to come, or of one that is over */
        size_t tile = in->header.task / lanes;
        return tile > x->tasks[in->header.task % lanes][tile % WEFT_DEPTH].tile ? WEFT_TAKE_KEEP : WEFT_TAKE_DONE;
    }
    const weft_lane *l = &x->ready->schedule->lane[t->lane];
    int peer = x->exec->from_world[in->peer];
    for (uint32_t i = t->open; i < l->sends; i++) {
        const weft_ready_send *s = &x->ready->sends[t->lane][i];
        if (s->ordinal == in->header.ordinal && l->steps[s->step].to == peer) {
            t->sends[i].wanted = true;
            run(t);
            break;
        }
    }
    return WEFT_TAKE_DONE;
}

/* Compares what the peer does in this collective with what this rank does or did. */
static bool agrees(weft_exec *e, const weft_incoming *in, const weft_fingerprint *mine)
{
    if (same_fingerprint(&in->header.fingerprint, mine))
        return true;
    mismatch(e, in->header.sequence, mine, in->peer, &in->header.fingerprint);
    return false;
}

weft_take weft_exec_take(weft_exec *e, weft_incoming *in)
{
    if (e->error != WEFT_OK || e->from_world[in->peer] < 0)
        return WEFT_TAKE_DONE;
    uint32_t sequence = in->header.sequence;
    int32_t age = (int32_t)(e->next_sequence - sequence); /* > 0: this rank has called it */
    if (age <= 0)
        return WEFT_TAKE_KEEP;
    if (age <= WEFT_HISTORY && !agrees(e, in, &e->history[sequence % WEFT_HISTORY]))
        return WEFT_TAKE_DONE;
    weft_execution *x = find_running(e, sequence);
    if (!x) {
        for (x = e->queued; x; x = x->next)
            if (x->sequence == sequence)
                return WEFT_TAKE_KEEP;
        return WEFT_TAKE_DONE; /* a want for what is sent already */
    }
    if (in->header.kind == WEFT_WIRE_WANT)
        return take_want(x, in);
    weft_task *t = find_task(x, in->header.task);
    if (!t || !wants_slice(t, in) || t->early)
        return WEFT_TAKE_KEEP;
    if (!right_size(t, in))
        return WEFT_TAKE_DONE;
    if (!in->payload)
        return place_slice(t, in);
    store_now(t, in);
    run(t);
    return WEFT_TAKE_DONE;
}

void weft_exec_landed(weft_exec *e, weft_incoming *in)
{
    (void)e;
    weft_task *t = in->user[0];
    weft_execution *x = t->execution;
    x->in_flight--;
    if (x->status != WEFT_OK) {
        finish_if_drained(x);
        return;
    }
    if (in->user[1]) {
        placed_at *at = in->user[1], now = {.into = t->into, .with = t->with};
        t->into = at->into;
        t->with = at->with;
        weft_execute_store(x, t, current_step(t), in->payload, in->bytes);
        t->into = now.into;
        t->with = now.with;
    }
    t->landed += in->bytes;
    t->slices++;
    allow_forward(t, in->peer);
    run(t);
}

void weft_exec_lost(weft_exec *e, weft_incoming *in)
{
    (void)e;
    weft_task *t = in->user[0];
    t->execution->in_flight--;
    finish_if_drained(t->execution);
}

void weft_exec_kept(weft_exec *e, weft_incoming *in)
{
    weft_incoming **tail = &e->early;
    while (*tail)
        tail = &(*tail)->next;
    in->next = NULL;
    *tail = in;
}

void weft_exec_completed(weft_exec *e, weft_incoming *in)
{
    weft_execution *x = find_running(e, in->header.sequence);
    weft_task *t = x ? find_task(x, in->header.task) : NULL;
    if (t && wants_slice(t, in))
        run(t);
}

/* Takes what came before its step. */
static void take_early(weft_task *t)
{
    weft_exec *e = t->execution->exec;
    t->early = 0;
    for (weft_incoming **link = &e->early; *link && e->error == WEFT_OK;) {
        weft_incoming *in = *link;
        if (in->header.kind != WEFT_WIRE_DATA || in->header.sequence != t->execution->sequence ||
            in->header.task != task_number(t) || !wants_slice(t, in)) {
            link = &in->next;
            continue;
        }
        if (!in->payload || t->early) { /* later ones must not overtake it */
            t->early++;
            link = &in->next;
            continue;
        }
        *link = in->next;
        if (right_size(t, in))
            store_now(t, in);
        weft_wire_release(e->wire, in);
    }
}

/* Tasks began: wants that came before. They leave the list first, since serving one may come back here. */
static void take_early_wants(weft_exec *e, weft_execution *x)
{
    weft_incoming *wants = NULL, **tail = &wants;
    for (weft_incoming **link = &e->early; *link;) {
        weft_incoming *in = *link;
        if (in->header.kind != WEFT_WIRE_WANT || in->header.sequence != x->sequence) {
            link = &in->next;
            continue;
        }
        *link = in->next;
        in->next = NULL;
        *tail = in;
        tail = &in->next;
    }
    while (wants) {
        weft_incoming *in = wants;
        wants = in->next;
        if (take_want(x, in) == WEFT_TAKE_KEEP)
            weft_exec_kept(e, in);
        else
            weft_wire_release(e->wire, in);
    }
}

static void ask(weft_task *t, const weft_step *step)
{
    weft_exec *e = t->execution->exec;
    t->asked = true;
    weft_wire_header header = header_for(t, WEFT_WIRE_WANT);
    header.ordinal = current_ready(t)->receive_ordinal;
    header.total = t->expected;
    weft_wire_post(e->wire, e->world[step->from], &header, NULL, 0, NULL, NULL, 0); /* a lost peer is found elsewhere */
}

static void enter_receive(weft_task *t, const weft_step *step, const weft_ready_step *ready)
{
    weft_execution *x = t->execution;
    weft_cursor_start(&t->into, &step->dst, ready->dst_like);
    weft_cursor_start(&t->with, &step->src, ready->src_like);
    t->expected = weft_place_bytes(x, t, &step->dst, ready->dst_like);
    t->announced = t->landed = 0;
    t->slices = t->early = 0;
    t->asked = false;
    if (step->to >= 0)
        begin_send(t, step, ready, true);
    if (x->exec->early)
        take_early(t);
    if (t->expected > WEFT_WANT_BYTES && t->landed < t->expected)
        ask(t, step);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static weft_local_region *own_region(const weft_exec *e)
{
    return e->regions[e->local_position[e->rank]];
}

static void ring_all(const weft_exec *e)
{
    for (int i = 0; i < e->local_count; i++)
        if (e->local_ranks[i] != e->rank)
            weft_host_ring(e->host, e->local_host_index[i]);
}

static void raise_signal(weft_task *t)
{
    weft_execution *x = t->execution;
    weft_local_flag *flag = &own_region(x->exec)->signal[x->local_sequence % WEFT_LOCAL_SLOTS][t->lane][t->tile % WEFT_DEPTH];
    uint64_t words[2];
    memcpy(words, &x->fingerprint, sizeof words);
    t->signals++;
    atomic_store_explicit(&flag->words[0], words[0], memory_order_relaxed);
    atomic_store_explicit(&flag->words[1], words[1], memory_order_relaxed);
    /* release: what was published is visible to who sees the signal (partner: signal_seen) */
    atomic_store_explicit(&flag->value, weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, t->signals), memory_order_release);
    ring_all(x->exec);
}

/* A signal of another call than ours is a mismatch. It lies in the line that says that the signal is there, and stays
 * until this rank has left the tile. */
static bool signal_seen(const weft_task *t, const weft_step *step)
{
    const weft_execution *x = t->execution;
    const weft_exec *e = x->exec;
    const weft_local_flag *flag = &e->regions[e->local_position[step->from]]
                                       ->signal[x->local_sequence % WEFT_LOCAL_SLOTS][t->lane][t->tile % WEFT_DEPTH];
    uint64_t seen = atomic_load_explicit(&flag->value, memory_order_acquire), words[2];
    if (seen < weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, step->value))
        return false;
    words[0] = atomic_load_explicit(&flag->words[0], memory_order_relaxed);
    words[1] = atomic_load_explicit(&flag->words[1], memory_order_relaxed);
    if (memcmp(words, &x->fingerprint, sizeof words) == 0)
        return true;
    weft_fingerprint theirs;
    memcpy(&theirs, words, sizeof theirs);
    mismatch(x->exec, x->sequence, &x->fingerprint, e->world[step->from], &theirs);
    return false;
}

/* One step; true: it is over and the next may begin. */
static bool do_step(weft_task *t, const weft_step *step)
{
    weft_execution *x = t->execution;
    const weft_ready_step *ready = current_ready(t);
    if (!t->entered) {
        if (t->closed < step->fence)
            return false;
        t->entered = true;
        if (is_receive(step))
            enter_receive(t, step, ready);
    } else if (t->early) {
        take_early(t);
    }
    switch (step->kind) {
    case WEFT_STEP_SEND:
        begin_send(t, step, ready, false);
        return true;
    case WEFT_STEP_RECV:
    case WEFT_STEP_RECV_REDUCE:
        return t->slices > 0 && t->landed == t->expected && t->announced == t->expected;
    case WEFT_STEP_COPY:
        if (step->src.rank != x->exec->rank && !weft_execute_peers_mapped(x, step))
            return false;
        weft_execute_copy(x, t, step, ready);
        return true;
    case WEFT_STEP_REDUCE:
        if (x->ready->schedule->local && !weft_execute_peers_mapped(x, step))
            return false;
        weft_execute_reduce(x, t, step, ready);
        return true;
    case WEFT_STEP_PUBLISH:
        weft_execute_publish(x, t, step);
        return true;
    case WEFT_STEP_SIGNAL:
        raise_signal(t);
        return true;
    case WEFT_STEP_WAIT:
        if ((step->flags & WEFT_STEP_IF_MAPPED) && !x->mapped[0].memory_id && !x->mapped[1].memory_id)
            return true;
        return signal_seen(t, step);
    default:
        weft_exec_fail(x->exec, WEFT_ERR_INTERNAL, -1, "unknown step %d", step->kind);
        return false;
    }
}

/* ---- tasks ------------------------------------------------------------------------------------- */

/* Has every local rank left behind what was in that part of the slot? */
static bool left_behind(const weft_execution *x, uint32_t lane, size_t depth, uint64_t mark)
{
    const weft_exec *e = x->exec;
    for (int i = 0; i < e->local_count; i++) {
        uint64_t done = atomic_load_explicit(
            &e->regions[i]->done[x->local_sequence % WEFT_LOCAL_SLOTS][lane][depth].value, memory_order_acquire);
        if (done < mark)
            return false;
    }
    return true;
}

/* The earlier collective in this slot is over everywhere: then this one may begin. */
static bool pass_gate(weft_execution *x)
{
    const weft_schedule *s = x->ready->schedule;
    for (uint32_t lane = 0; lane < WEFT_LANES_MAX; lane++)
        for (size_t d = 0; d < WEFT_DEPTH; d++)
            if (x->gates[lane][d] && !left_behind(x, lane, d, x->gates[lane][d]))
                return false;
    x->gated = false;
    if (s->publishes_input || s->publishes_output)
        weft_execute_announce_mapping(x);
    return true;
}

/* The task begins that tile; false: there is no such tile. */
static bool begin_tile(weft_task *t, size_t tile)
{
    weft_execution *x = t->execution;
    uint32_t lane = t->lane;
    if (tile >= x->tiles)
        return false;
    weft_sending *sends = t->sends;
    *t = (weft_task){.execution = x, .lane = lane, .tile = tile, .active = true, .running = t->running, .sends = sends};
    if (x->ready->schedule->lane[lane].sends)
        memset(sends, 0, sizeof *sends * x->ready->schedule->lane[lane].sends);
    if (x->ready->schedule->local) {
        t->gated = t->tile >= WEFT_DEPTH;
    }
    return true;
}

static void task_over(weft_task *t)
{
    weft_execution *x = t->execution;
    weft_exec *e = x->exec;
    t->active = false;
    if (x->ready->schedule->local) {
        /* release: this rank has read what it reads of this tile (partner: left_behind) */
        atomic_store_explicit(&own_region(e)->done[x->local_sequence % WEFT_LOCAL_SLOTS][t->lane][t->tile % WEFT_DEPTH].value,
                              weft_mark(x->local_sequence, t->tile / WEFT_DEPTH + 1, 0), memory_order_release);
        ring_all(e);
    }
    if (begin_tile(t, t->tile + WEFT_DEPTH)) {
        take_early_wants(e, x);
        return;
    }
    x->tasks_left--;
}

static void run_once(weft_task *t)
{
    weft_execution *x = t->execution;
    const weft_lane *l = &x->ready->schedule->lane[t->lane];
    while (t->active && x->exec->error == WEFT_OK) {
        if (x->gated && !pass_gate(x))
            return;
        if (t->gated && !left_behind(x, t->lane, t->tile % WEFT_DEPTH, weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, 0)))
            return;
        t->gated = false;
        bool moved = false;
        while (t->step < l->count && do_step(t, &l->steps[t->step])) {
            t->step++;
            t->entered = false;
            moved = true;
            x->moved++;
            if (t->begun > t->open)
                pump(t);
        }
        if (t->open < t->begun || t->closed < t->open)
            pump(t);
        if (t->step == l->count && t->closed == l->sends) {
            task_over(t);
            continue;
        }
        if (!moved || t->step == l->count)
            return;
    }
}

static void run(weft_task *t)
{
    if (t->running) {
        t->again = true;
        return;
    }
    t->running = true;
    do {
        t->again = false;
        run_once(t);
    } while (t->again && t->active);
    t->running = false;
}

/* ---- executions -------------------------------------------------------------------------------- */

static void unlink_execution(weft_execution *x)
{
    *x->link = x->next;
    if (x->next)
        x->next->link = x->link;
    x->next = NULL;
}

static void finish(weft_execution *x)
{
    weft_exec *e = x->exec;
    unlink_execution(x);
    if (e->running[x->sequence % WEFT_RUNNING_MAX] == x)
        e->running[x->sequence % WEFT_RUNNING_MAX] = NULL;
    x->active = false;
    x->finished = true;
    x->done(x->context, x);
}

static void finish_if_drained(weft_execution *x)
{
    if (x->status != WEFT_OK && x->active && x->in_flight == x->lost_sends)
        x->drained = true; /* ended by weft_exec_progress, not in the middle of a callback */
}

static void activate(weft_execution *x)
{
    weft_exec *e = x->exec;
    const weft_schedule *s = x->ready->schedule;
    e->running[x->sequence % WEFT_RUNNING_MAX] = x;
    x->next = e->active;
    x->link = &e->active;
    if (x->next)
        x->next->link = &x->next;
    e->active = x;
    x->active = true;
    x->tasks_left = 0;
    x->gated = false;
    x->mapped[0].memory_id = x->mapped[1].memory_id = 0;
    if (s->local) {
        x->local_sequence = e->next_local++;
        unsigned slot = x->local_sequence % WEFT_LOCAL_SLOTS;
        x->gated = true;
        memcpy(x->gates, e->last_done[slot], sizeof x->gates);
        for (uint32_t lane = 0; lane < s->lanes; lane++)
            for (size_t d = 0; d < WEFT_DEPTH; d++) {
                size_t rounds = (x->tiles + WEFT_DEPTH - 1 - d) / WEFT_DEPTH;
                if (rounds)
                    e->last_done[slot][lane][d] = weft_mark(x->local_sequence, rounds, 0);
            }
    }
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (size_t d = 0; d < WEFT_DEPTH; d++)
            if (begin_tile(&x->tasks[lane][d], d))
                x->tasks_left++;
    if (e->early)
        take_early_wants(e, x);
}

/* Slices that came before the call show now whether the ranks agree. */
static void check_early(weft_exec *e, const weft_execution *x)
{
    for (weft_incoming *in = e->early; in && e->error == WEFT_OK; in = in->next)
        if (in->header.sequence == x->sequence)
            agrees(e, in, &x->fingerprint);
}

static void announce(weft_exec *e, const weft_execution *x)
{
    weft_local_board *b = &own_region(e)->board[x->sequence % WEFT_BOARDS];
    uint64_t words[2];
    memcpy(words, &x->fingerprint, sizeof words);
    /* partner of all four: compare_board, which sees the words of one call between two equal numbers */
    atomic_store_explicit(&b->sequence, 0, memory_order_relaxed);
    atomic_store_explicit(&b->words[0], words[0], memory_order_release);
    atomic_store_explicit(&b->words[1], words[1], memory_order_release);
    atomic_store_explicit(&b->sequence, (uint64_t)x->sequence + 1, memory_order_release);
}

static int poll_execution(weft_execution *x)
{
    x->moved = 0;
    const weft_schedule *s = x->ready->schedule;
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (int d = 0; d < WEFT_DEPTH; d++)
            if (x->tasks[lane][d].active)
                run(&x->tasks[lane][d]);
    return x->moved;
}

void weft_execution_start(weft_execution *x, void (*done)(void *context, weft_execution *x), void *context)
{
    weft_exec *e = x->exec;
    x->done = done;
    x->context = context;
    x->status = WEFT_OK;
    x->active = x->finished = x->drained = false;
    x->in_flight = x->lost_sends = 0;
    x->sequence = e->next_sequence++;
    x->started_ns = 0;
    e->history[x->sequence % WEFT_HISTORY] = x->fingerprint;
    if (e->regions)
        announce(e, x);
    check_early(e, x);
    if (e->running[x->sequence % WEFT_RUNNING_MAX] || e->queued || e->error != WEFT_OK) {
        weft_execution **tail = &e->queued;
        while (*tail)
            tail = &(*tail)->next;
        x->next = NULL;
        x->link = tail;
        *tail = x;
        return;
    }
    activate(x);
    poll_execution(x);
    if (x->active && x->tasks_left == 0 && x->in_flight == 0 && e->error == WEFT_OK)
        finish(x);
}

int weft_exec_progress(weft_exec *e)
{
    int moved = 0;
    for (weft_execution *x = e->active, *next; x; x = next) {
        next = x->next;
        if (x->status == WEFT_OK && e->error == WEFT_OK) {
            moved += poll_execution(x);
            if (x->tasks_left == 0 && x->in_flight == 0 && x->active && e->error == WEFT_OK) {
                moved++;
                finish(x);
            }
        } else if (x->drained) {
            moved++;
            finish(x);
        }
    }
    while (e->queued && !e->running[e->queued->sequence % WEFT_RUNNING_MAX] && e->error == WEFT_OK) {
        weft_execution *x = e->queued;
        unlink_execution(x);
        activate(x);
        moved += poll_execution(x) + 1;
    }
    return moved;
}

void weft_exec_abort(weft_exec *e, weft_status status)
{
    if (e->error == WEFT_OK)
        e->error = status;
    for (weft_execution *x = e->queued, *next; x; x = next) {
        next = x->next;
        x->status = status;
        x->active = true; /* so that it ends like the others, which have memory in flight */
        x->tasks_left = 0;
    }
    while (e->queued) {
        weft_execution *x = e->queued;
        unlink_execution(x);
        x->next = e->active;
        x->link = &e->active;
        if (x->next)
            x->next->link = &x->next;
        e->active = x;
        x->drained = true;
    }
    for (weft_execution *x = e->active; x; x = x->next) {
        if (x->status == WEFT_OK)
            x->status = status;
        finish_if_drained(x);
    }
}

/* ---- when nothing moves ------------------------------------------------------------------------ */

static void compare_board(weft_exec *e, const weft_execution *x, int rank)
{
    weft_local_board *b = &e->regions[e->local_position[rank]]->board[x->sequence % WEFT_BOARDS];
    uint64_t sequence = atomic_load_explicit(&b->sequence, memory_order_acquire), words[2];
    words[0] = atomic_load_explicit(&b->words[0], memory_order_acquire);
    words[1] = atomic_load_explicit(&b->words[1], memory_order_acquire);
    if (sequence != (uint64_t)x->sequence + 1 || atomic_load_explicit(&b->sequence, memory_order_relaxed) != sequence)
        return;
    weft_fingerprint theirs;
    memcpy(&theirs, words, sizeof theirs);
    if (!same_fingerprint(&theirs, &x->fingerprint))
        mismatch(e, x->sequence, &x->fingerprint, e->world[rank], &theirs);
}

void weft_exec_nudge(weft_exec *e)
{
    for (weft_execution *x = e->active; x && e->error == WEFT_OK; x = x->next) {
        for (uint32_t lane = 0; lane < x->ready->schedule->lanes; lane++)
            for (int d = 0; d < WEFT_DEPTH; d++) {
                weft_task *t = &x->tasks[lane][d];
                const weft_step *step = t->active ? current_step(t) : NULL;
                if (step && is_receive(step) && t->entered && !t->asked && t->landed == t->announced)
                    ask(t, step);
            }
        for (int i = 0; e->regions && i < e->local_count && e->error == WEFT_OK; i++)
            compare_board(e, x, e->local_ranks[i]);
    }
}

void weft_execution_describe(const weft_execution *x, char *text, size_t bytes, int *world_rank)
{
    *world_rank = -1;
    snprintf(text, bytes, "queued behind other collectives");
    if (!x->active)
        return;
    snprintf(text, bytes, "finishing");
    for (uint32_t lane = 0; lane < x->ready->schedule->lanes; lane++)
        for (int d = 0; d < WEFT_DEPTH; d++) {
            const weft_task *t = &x->tasks[lane][d];
            if (!t->active)
                continue;
            const weft_step *step = current_step(t);
            int peer = -1;
            if (step && (is_receive(step) || step->kind == WEFT_STEP_WAIT))
                peer = step->from;
            else if (t->open < t->begun)
                peer = x->ready->schedule->lane[lane].steps[x->ready->sends[lane][t->open].step].to;
            char what[160] = "its last sends";
            if (step)
                weft_step_text(x->ready->schedule, lane, t->step, what, sizeof what);
            snprintf(text, bytes, "tile %zu %s%s", t->tile, what, t->gated || x->gated ? " (shared memory still in use)" : "");
            if (peer >= 0) {
                *world_rank = x->exec->world[peer];
                return;
            }
        }
}

weft_status weft_exec_init(weft_exec *e)
{
    e->next_local = 1; /* 0 is what fresh shared memory says */
    e->error = WEFT_OK;
    if (e->slice_bytes == 0)
        return weft_fail(WEFT_ERR_INTERNAL, "slice size not set");
    return WEFT_OK;
}

void weft_exec_clear(weft_exec *e)
{
    while (e->early) {
        weft_incoming *in = e->early;
        e->early = in->next;
        weft_wire_discard(e->wire, in);
    }
    while (e->idle) {
        weft_execution *x = e->idle;
        e->idle = x->next;
        weft_execution_destroy(x);
    }
}

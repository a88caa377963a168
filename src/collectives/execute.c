/* Runs schedules: executions (a collective under way), tasks (a lane at work on a tile) and their steps. Slices are in
 * execute_traffic.c, data movement in execute_data.c, binding in execute_prepare.c, trouble in execute_watch.c. */
#include "collectives/execute.h"

#include <string.h>

/* ---- steps ------------------------------------------------------------------------------------- */

static weft_local_region *own_region(const weft_exec *e)
{
    return e->regions[e->local_position[e->rank]];
}

/* Does it use shared memory? A rank that is alone on its host has no region, where others' part of the same schedule has. */
static bool is_local(const weft_execution *x)
{
    return x->ready->schedule->local && x->exec->regions;
}

void weft_exec_ring_all(const weft_exec *e)
{
    weft_host_fence(e->host);
    for (int i = 0; i < e->local_count; i++)
        if (e->local_ranks[i] != e->rank)
            weft_host_ring_fenced(e->host, e->local_host_index[i]);
}

void weft_signal_raise(weft_local_signal *flag, const weft_signal *signal)
{
    uint64_t words[2];
    memcpy(words, signal->fingerprint, sizeof words);
    atomic_store_explicit(&flag->over, signal->over, memory_order_relaxed);
    atomic_store_explicit(&flag->words[0], words[0], memory_order_relaxed);
    atomic_store_explicit(&flag->words[1], words[1], memory_order_relaxed);
    atomic_store_explicit(&flag->words[2], signal->before, memory_order_relaxed);
    /* release: what was published is visible to who sees the signal (partners: signal_seen, inline.c) */
    atomic_store_explicit(&flag->value, signal->mark, memory_order_release);
}

static void raise_signal(weft_task *t)
{
    weft_execution *x = t->execution;
    t->signals++;
    uint64_t over = x->local_sequence - 1; /* but for those of this communicator that are still under way */
    for (const weft_execution *other = x->exec->active; other; other = other->next)
        if (other != x && other->ready->schedule->local && other->local_sequence <= over)
            over = other->local_sequence - 1;
    weft_signal_raise(&own_region(x->exec)->signal[t->lane][t->tile % WEFT_DEPTH][x->local_sequence % WEFT_LOCAL_SLOTS],
                    &(weft_signal){.fingerprint = &x->fingerprint, .before = x->before, .over = over,
                                   .mark = weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, t->signals)});
    weft_exec_ring_all(x->exec);
}

/* That of a tile. A signal of another call than ours is a mismatch. It lies in the line that says that the signal is there, and
 * stays until this rank has left the tile. */
static bool signal_seen(const weft_task *t, const weft_step *step, size_t tile)
{
    const weft_execution *x = t->execution;
    const weft_exec *e = x->exec;
    const weft_local_signal *flag = &e->regions[e->local_position[step->from]]
                                       ->signal[t->lane][tile % WEFT_DEPTH][x->local_sequence % WEFT_LOCAL_SLOTS];
    uint64_t seen = atomic_load_explicit(&flag->value, memory_order_acquire), words[2];
    if (seen < weft_mark(x->local_sequence, tile / WEFT_DEPTH, step->value))
        return false;
    words[0] = atomic_load_explicit(&flag->words[0], memory_order_relaxed);
    words[1] = atomic_load_explicit(&flag->words[1], memory_order_relaxed);
    weft_fingerprint theirs;
    memcpy(&theirs, words, sizeof theirs);
    bool same = weft_fingerprint_same(&theirs, &x->fingerprint);
    if (same && atomic_load_explicit(&flag->words[2], memory_order_relaxed) == x->before) {
        uint64_t *over = &e->over[e->local_position[step->from]], now = atomic_load_explicit(&flag->over, memory_order_relaxed);
        if (now > *over)
            *over = now;
        return true;
    }
    if (same)
        weft_exec_mismatch_before(x->exec, x->sequence, step->from);
    else
        weft_exec_mismatch(x->exec, x->sequence, &x->fingerprint, e->world[step->from], &theirs);
    return false;
}

/* A tile after the first needs no signal of its own for an input that is read in place: all of it was there when the call
 * began. In flat and direct schedules signal 1 says nothing else. */
static bool there_since_first(const weft_task *t, const weft_step *step)
{
    const weft_execution *x = t->execution;
    const weft_schedule *s = x->ready->schedule;
    return t->tile > 0 && step->value == 1 && !(step->flags & WEFT_STEP_IF_MAPPED) &&
           (s->algorithm == WEFT_FLAT || s->algorithm == WEFT_DIRECT) && signal_seen(t, step, 0) &&
           weft_execute_reads_private(x, step->from);
}

static bool reached(weft_execution *x)
{
    bool yes = !x->unreached;
    x->unreached = false;
    return yes;
}

/* One step; true: it is over and the next may begin. */
static bool do_step(weft_task *t, const weft_step *step)
{
    weft_execution *x = t->execution;
    const weft_ready_step *ready = weft_task_ready(t);
    if (!t->entered) {
        if (t->closed < step->fence)
            return false;
        t->entered = true;
        if (weft_step_receives(step))
            weft_task_enter_receive(t, step, ready);
    } else if (t->early) {
        weft_task_take_early(t);
    }
    switch (step->kind) {
    case WEFT_STEP_SEND:
        weft_task_begin_send(t, step, ready, false);
        return true;
    case WEFT_STEP_RECV:
    case WEFT_STEP_RECV_REDUCE:
        return t->slices > 0 && t->landed == t->expected && t->announced == t->expected;
    case WEFT_STEP_COPY:
        if (step->src.rank != x->exec->rank && !weft_execute_peers_mapped(x, step))
            return false;
        weft_execute_copy(x, t, step, ready);
        return reached(x);
    case WEFT_STEP_REDUCE:
        if (x->ready->schedule->local && !weft_execute_peers_mapped(x, step))
            return false;
        weft_execute_reduce(x, t, step, ready);
        return reached(x);
    case WEFT_STEP_PUBLISH:
        if (!weft_execute_can_push(x, step))
            return false;
        weft_execute_publish(x, t, step, ready);
        return reached(x);
    case WEFT_STEP_SIGNAL:
        raise_signal(t);
        return true;
    case WEFT_STEP_WAIT:
        if ((step->flags & WEFT_STEP_IF_MAPPED) && !x->mapped[0].memory_id && !x->mapped[1].memory_id)
            return true;
        return there_since_first(t, step) || signal_seen(t, step, t->tile);
    default:
        weft_exec_fail(x->exec, WEFT_ERR_INTERNAL, -1, "unknown step %d", step->kind);
        return false;
    }
}

/* ---- tasks ------------------------------------------------------------------------------------- */

/* Has every local rank left behind what was in that part of the slot? */
static bool left_behind(const weft_exec *e, uint64_t local_sequence, uint32_t lane, size_t depth, uint64_t mark)
{
    for (int i = 0; i < e->local_count; i++) {
        uint64_t done = atomic_load_explicit(&e->regions[i]->done[lane][depth][local_sequence % WEFT_LOCAL_SLOTS].value,
                                             memory_order_acquire);
        if (done < mark)
            return false;
    }
    return true;
}

/* What must be left behind before the next local collective begins: whoever had its slot, and the large slot. */
static void find_gates(const weft_exec *e, bool small, size_t stage_slot, weft_gate gates[2])
{
    uint64_t large = small ? 0 : e->last_large[stage_slot];
    const weft_gate *last = &e->last_done[large % WEFT_LOCAL_SLOTS];
    gates[0] = e->last_done[e->next_local % WEFT_LOCAL_SLOTS];
    gates[1].local_sequence = 0;
    if (large && last->local_sequence == large) /* else its slot was taken again, when all had left it */
        gates[1] = *last;
}

/* Do the ranks' own words say that all is over up to both? Without looking at a line for each tile. */
static bool known_over(const weft_exec *e, uint64_t slots_last, uint64_t stages_last)
{
    uint64_t local_sequence = slots_last > stages_last ? slots_last : stages_last;
    for (int i = 0; i < e->local_count; i++) {
        if (e->over[i] >= local_sequence || e->local_ranks[i] == e->rank)
            continue;
        /* acquire: partner is weft_exec_tell_over */
        uint64_t over = atomic_load_explicit(&e->regions[i]->over.value, memory_order_acquire);
        e->over[i] = over > e->over[i] ? over : e->over[i];
        if (e->over[i] < local_sequence)
            return false;
    }
    return true;
}

static bool passable(const weft_exec *e, const weft_gate gates[2])
{
    for (int g = 0; g < 2; g++)
        for (uint32_t lane = 0; gates[g].local_sequence && lane < WEFT_LANES_MAX; lane++)
            for (size_t d = 0; d < WEFT_DEPTH; d++)
                if (gates[g].marks[lane][d] && !left_behind(e, gates[g].local_sequence, lane, d, gates[g].marks[lane][d]))
                    return false;
    return true;
}

bool weft_exec_slot_free(const weft_exec *e, bool small)
{
    size_t stage_slot = weft_exec_stage_slot(e, e->next_local, 1);
    uint64_t slots_last = e->next_local > WEFT_LOCAL_SLOTS ? e->next_local - WEFT_LOCAL_SLOTS : 0;
    if (known_over(e, slots_last, small ? 0 : e->last_large[stage_slot]) && !e->active)
        return true;
    weft_gate gates[2];
    find_gates(e, small, stage_slot, gates);
    return passable(e, gates);
}

static bool pass_gate(weft_execution *x)
{
    const weft_schedule *s = x->ready->schedule;
    bool known = known_over(x->exec, x->gates[0].local_sequence, x->gates[1].local_sequence) && !x->exec->active->next;
    if (!known && !passable(x->exec, x->gates))
        return false;
    x->gated = false;
    if (!x->small && (s->publishes_input || s->publishes_output))
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
    t->gated = is_local(x) && t->tile >= WEFT_DEPTH;
    return true;
}

void weft_exec_leave(const weft_exec *e, uint64_t local_sequence, uint32_t lane, size_t tile)
{
    /* release: this rank has read what it reads of this tile (partner: left_behind) */
    atomic_store_explicit(&own_region(e)->done[lane][tile % WEFT_DEPTH][local_sequence % WEFT_LOCAL_SLOTS].value,
                          weft_mark(local_sequence, tile / WEFT_DEPTH + 1, 0), memory_order_release);
}

void weft_exec_tell_over(const weft_exec *e)
{
    /* release: this rank has read what it reads of all of them (partner: slot_free) */
    atomic_store_explicit(&own_region(e)->over.value, e->next_local - 1, memory_order_release);
}

static void leave_tile(weft_task *t)
{
    weft_execution *x = t->execution;
    t->active = false;
    if (!is_local(x))
        return;
    weft_exec_leave(x->exec, x->local_sequence, t->lane, t->tile);
    weft_exec_ring_all(x->exec);
}

static void task_over(weft_task *t)
{
    weft_execution *x = t->execution;
    weft_exec *e = x->exec;
    leave_tile(t);
    if (begin_tile(t, t->tile + WEFT_DEPTH)) {
        weft_execution_take_wants(e, x);
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
        if (t->gated && !left_behind(x->exec, x->local_sequence, t->lane, t->tile % WEFT_DEPTH,
                                     weft_mark(x->local_sequence, t->tile / WEFT_DEPTH, 0)))
            return;
        t->gated = false;
        bool moved = false;
        while (t->step < l->count && do_step(t, &l->steps[t->step])) {
            if (x->exec->trace)
                x->exec->trace(x->exec->trace_context, t->step);
            t->step++;
            t->entered = false;
            moved = true;
            x->moved++;
            if (t->begun > t->open)
                weft_task_pump(t);
        }
        if (t->open < t->begun || t->closed < t->open)
            weft_task_pump(t);
        if (t->step == l->count && t->closed == l->sends) {
            task_over(t);
            continue;
        }
        if (!moved || t->step == l->count)
            return;
    }
}

void weft_task_run(weft_task *t)
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
    if (!e->active && e->regions && x->status == WEFT_OK)
        weft_exec_tell_over(e);
    x->done(x->context, x);
}

void weft_execution_drained(weft_execution *x)
{
    if (x->status != WEFT_OK && x->active && x->in_flight == x->lost_sends)
        x->drained = true; /* ended by weft_exec_progress, not in the middle of a callback */
}

uint64_t weft_exec_take_slot(weft_exec *e, uint32_t lanes, size_t tiles, bool small, size_t stage_slot)
{
    uint64_t local_sequence = e->next_local++;
    weft_gate *gate = &e->last_done[local_sequence % WEFT_LOCAL_SLOTS];
    gate->local_sequence = local_sequence;
    for (uint32_t lane = 0; lane < lanes; lane++)
        for (size_t d = 0; d < WEFT_DEPTH; d++) {
            size_t rounds = (tiles + WEFT_DEPTH - 1 - d) / WEFT_DEPTH;
            gate->marks[lane][d] = rounds ? weft_mark(local_sequence, rounds, 0) : 0;
        }
    for (uint32_t lane = lanes; lane < WEFT_LANES_MAX; lane++)
        memset(gate->marks[lane], 0, sizeof gate->marks[lane]);
    if (!small)
        e->last_large[stage_slot] = local_sequence;
    e->longs += tiles > 1;
    return local_sequence;
}

/* The execution's turn in shared memory: the next slot, once what was in it is left behind. */
static void take_slot(weft_execution *x)
{
    weft_exec *e = x->exec;
    x->mapped[0].memory_id = x->mapped[1].memory_id = 0;
    x->gated = is_local(x);
    if (!x->gated)
        return;
    x->stage_slot = weft_exec_stage_slot(e, e->next_local, x->tiles);
    find_gates(e, x->small, x->stage_slot, x->gates);
    x->local_sequence = weft_exec_take_slot(e, x->ready->schedule->lanes, x->tiles, x->small, x->stage_slot);
}

static void join_active(weft_execution *x)
{
    weft_exec *e = x->exec;
    e->running[x->sequence % WEFT_RUNNING_MAX] = x;
    x->next = e->active;
    x->link = &e->active;
    if (x->next)
        x->next->link = &x->next;
    e->active = x;
    x->active = true;
}

static void activate(weft_execution *x)
{
    weft_exec *e = x->exec;
    const weft_schedule *s = x->ready->schedule;
    take_slot(x);
    join_active(x);
    x->tasks_left = 0;
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (size_t d = 0; d < WEFT_DEPTH; d++)
            if (begin_tile(&x->tasks[lane][d], d))
                x->tasks_left++;
    if (e->early_count)
        weft_execution_take_wants(e, x);
}

/* Slices that came before the call show now whether the ranks agree. */
static void check_early(weft_exec *e, const weft_execution *x)
{
    for (weft_incoming *in = *weft_exec_early(e, x->sequence); in && e->error == WEFT_OK; in = in->next)
        if (in->header.sequence == x->sequence)
            weft_exec_agrees(e, in, &x->fingerprint);
}

static void announce(weft_exec *e, uint32_t sequence, const weft_fingerprint *f)
{
    weft_local_board *b = &own_region(e)->board[sequence % WEFT_BOARDS];
    uint64_t words[2];
    memcpy(words, f, sizeof words);
    /* partner of all four: read_board, which sees the words of one call between two equal numbers */
    atomic_store_explicit(&b->sequence, 0, memory_order_relaxed);
    atomic_store_explicit(&b->words[0], words[0], memory_order_release);
    atomic_store_explicit(&b->words[1], words[1], memory_order_release);
    atomic_store_explicit(&b->sequence, (uint64_t)sequence + 1, memory_order_release);
}

/* All calls so far and one more; a few cycles, as every call pays for it. */
static uint64_t hash_call(uint64_t before, const weft_fingerprint *f)
{
    uint64_t words[2];
    memcpy(words, f, sizeof words);
    before = (before ^ words[0]) * 0x9e3779b97f4a7c15u;
    before = ((before ^ before >> 32) ^ words[1]) * 0xd6e8feb86659fd93u;
    return before ^ before >> 29;
}

static int poll_execution(weft_execution *x)
{
    x->moved = 0;
    const weft_schedule *s = x->ready->schedule;
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (int d = 0; d < WEFT_DEPTH; d++)
            if (x->tasks[lane][d].active)
                weft_task_run(&x->tasks[lane][d]);
    return x->moved;
}

void weft_exec_take_number(weft_exec *e, const weft_fingerprint *f, uint32_t *sequence, uint64_t *before)
{
    *sequence = e->next_sequence++;
    *before = e->before;
    e->history[*sequence % WEFT_HISTORY] = *f;
    e->before = hash_call(e->before, f);
    if (e->regions)
        announce(e, *sequence, f);
}

static void reset(weft_execution *x, void (*done)(void *context, weft_execution *x), void *context)
{
    x->done = done;
    x->context = context;
    x->status = WEFT_OK;
    x->active = x->drained = x->unreached = false;
    x->unreached_ns = 0;
    x->in_flight = x->lost_sends = 0;
}

/* As far as it goes at once. */
static void run_begun(weft_execution *x)
{
    poll_execution(x);
    if (x->active && x->tasks_left == 0 && x->in_flight == 0 && x->exec->error == WEFT_OK)
        finish(x);
}

void weft_execution_start(weft_execution *x, void (*done)(void *context, weft_execution *x), void *context)
{
    weft_exec *e = x->exec;
    reset(x, done, context);
    weft_exec_take_number(e, &x->fingerprint, &x->sequence, &x->before);
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
    run_begun(x);
}

void weft_execution_resume(weft_execution *x, const weft_execution_point *point, void (*done)(void *context, weft_execution *x),
                           void *context)
{
    weft_task *t = &x->tasks[0][0];
    const weft_lane *l = &x->ready->schedule->lane[0];
    reset(x, done, context);
    x->sequence = point->sequence;
    x->before = point->before;
    x->local_sequence = point->local_sequence;
    x->stage_slot = weft_exec_stage_slot(x->exec, point->local_sequence, 1);
    x->mapped[0].memory_id = x->mapped[1].memory_id = 0;
    x->gated = false;
    begin_tile(t, 0);
    for (t->step = 0; t->step < point->step; t->step++)
        t->signals += l->steps[t->step].kind == WEFT_STEP_SIGNAL;
    if (point->scratch_bytes)
        memcpy(x->layouts[WEFT_SCRATCH].base, point->scratch, point->scratch_bytes);
    if (point->sends)
        weft_task_adopt_sends(t, point->sends);
    x->tasks_left = 1;
    join_active(x);
    if (x->exec->early_count) {
        check_early(x->exec, x);
        weft_execution_take_wants(x->exec, x);
    }
    run_begun(x);
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
        weft_execution_drained(x);
    }
}

weft_status weft_exec_init(weft_exec *e)
{
    e->next_local = 1; /* 0 is what fresh shared memory says */
    e->error = WEFT_OK;
    e->over = weft_alloc_array((size_t)e->local_count, sizeof *e->over);
    return e->over ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory for %d local ranks", e->local_count);
}

void weft_exec_clear(weft_exec *e)
{
    weft_free(e->over);
    weft_free(e->bounce);
    e->over = NULL;
    e->bounce = NULL;
    for (size_t b = 0; b < WEFT_EARLY_BUCKETS; b++)
        while (e->early[b]) {
            weft_incoming *in = e->early[b];
            e->early[b] = in->next;
            weft_wire_discard(e->wire, in);
        }
    e->early_count = 0;
    while (e->idle) {
        weft_execution *x = e->idle;
        e->idle = x->next;
        weft_execution_destroy(x);
    }
}

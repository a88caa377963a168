/* The executor's slices: sending what steps send, taking what arrives, and what came too early. Steps and tasks are in
 * execute.c, the storing of data in execute_data.c, credit and connections in wire.c. */
#include <string.h>

#include "collectives/inline.h"

/* ---- sending ----------------------------------------------------------------------------------- */

static uint32_t task_number(const weft_task *t)
{
    return (uint32_t)(t->tile * t->execution->ready->schedule->lanes + t->lane);
}

weft_wire_header weft_task_header(const weft_task *t, weft_wire_kind kind)
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
        weft_execution_drained(x);
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
    /* What flows in several tiles needs no fine slices to flow. */
    size_t slice =
        e->slice_bytes ? e->slice_bytes : weft_wire_slice(e->wire, peer, s->total * weft_min_size(x->tiles, WEFT_SLICES));
    while (!s->all_issued && (s->issued < s->allowed || s->total == 0)) {
        weft_cursor cursor = s->cursor;
        char *address = NULL;
        size_t bytes = weft_cursor_next(x, t, &cursor, weft_min_size(slice, s->allowed - s->issued), &address);
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
        weft_wire_header header = weft_task_header(t, WEFT_WIRE_DATA);
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

void weft_task_pump(weft_task *t)
{
    for (uint32_t i = t->open; i < t->begun; i++)
        if (!t->sends[i].all_issued)
            pump_one(t, i);
    while (t->open < t->begun && t->sends[t->open].all_issued)
        t->open++;
    while (t->closed < t->open && t->sends[t->closed].outstanding == 0)
        t->closed++;
}

void weft_task_begin_send(weft_task *t, const weft_step *step, const weft_ready_step *ready, bool forward)
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

static void adopt_send(void *task, uint32_t index)
{
    weft_task *t = task;
    t->sends[index].outstanding++;
    t->execution->in_flight++;
}

void weft_task_adopt_sends(weft_task *t, uint32_t sends)
{
    weft_exec *e = t->execution->exec;
    for (uint32_t i = 0; i < sends; i++)
        t->sends[i] = (weft_sending){.begun = true, .all_issued = true};
    t->begun = sends;
    weft_wire_hand_over(e->wire, e, t, send_done, adopt_send);
    e->inline_sends = 0;
    weft_task_pump(t);
}

/* ---- receiving --------------------------------------------------------------------------------- */

static weft_execution *find_running(const weft_exec *e, uint32_t sequence)
{
    weft_execution *x = e->running[sequence % WEFT_RUNNING_MAX];
    return x && x->sequence == sequence && x->active ? x : NULL;
}

weft_task *weft_execution_task(weft_execution *x, uint32_t number)
{
    uint32_t lanes = x->ready->schedule->lanes;
    weft_task *t = &x->tasks[number % lanes][number / lanes % WEFT_DEPTH];
    return t->active && t->tile == number / lanes ? t : NULL;
}

/* Is the task at the step that takes this slice? */
static bool wants_slice(const weft_task *t, const weft_incoming *in)
{
    const weft_exec *e = t->execution->exec;
    const weft_step *step = weft_task_step(t);
    return step && t->entered && weft_step_receives(step) && step->from == e->from_world[in->peer] &&
           weft_task_ready(t)->receive_ordinal == in->header.ordinal;
}

/* The sender's and our idea of the step's size must agree, and the slice must fit. */
static bool right_size(weft_task *t, const weft_incoming *in)
{
    weft_exec *e = t->execution->exec;
    const weft_step *step = weft_task_step(t);
    if (step->dst.buffer == WEFT_SCRATCH && !weft_task_ready(t)->dst_like)
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
    const weft_step *step = weft_task_step(t);
    if (step->to < 0)
        return;
    size_t whole = t->announced;
    for (const weft_incoming *in = t->execution->exec->wire->peers[peer].placed; in; in = in->next_placed)
        if (in->user[0] == t && in->position < whole)
            whole = in->position;
    t->sends[weft_task_ready(t)->send_index].allowed = whole;
}

static void store_now(weft_task *t, const weft_incoming *in)
{
    t->announced += in->bytes;
    weft_execute_store(t->execution, t, weft_task_step(t), in->payload, in->bytes);
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
    const weft_step *step = weft_task_step(t);
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
    weft_task *t = weft_execution_task(x, in->header.task);
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
            weft_task_run(t);
            break;
        }
    }
    return WEFT_TAKE_DONE;
}

/* Compares what the peer does in this collective with what this rank does or did. */
bool weft_exec_agrees(weft_exec *e, const weft_incoming *in, const weft_fingerprint *mine)
{
    if (weft_fingerprint_same(&in->header.fingerprint, mine))
        return true;
    weft_exec_mismatch(e, in->header.sequence, mine, in->peer, &in->header.fingerprint);
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
    if (age <= WEFT_HISTORY && !weft_exec_agrees(e, in, &e->history[sequence % WEFT_HISTORY]))
        return WEFT_TAKE_DONE;
    weft_execution *x = find_running(e, sequence);
    if (!x && e->inline_run && age == 1)
        return weft_inline_take(e, in);
    if (!x) {
        for (x = e->queued; x; x = x->next)
            if (x->sequence == sequence)
                return WEFT_TAKE_KEEP;
        return WEFT_TAKE_DONE; /* a want for what is sent already */
    }
    if (in->header.kind == WEFT_WIRE_WANT)
        return take_want(x, in);
    weft_task *t = weft_execution_task(x, in->header.task);
    if (!t || !wants_slice(t, in) || t->early)
        return WEFT_TAKE_KEEP;
    if (!right_size(t, in))
        return WEFT_TAKE_DONE;
    if (!in->payload)
        return place_slice(t, in);
    store_now(t, in);
    weft_task_run(t);
    return WEFT_TAKE_DONE;
}

void weft_exec_landed(weft_exec *e, weft_incoming *in)
{
    (void)e;
    weft_task *t = in->user[0];
    weft_execution *x = t->execution;
    x->in_flight--;
    if (x->status != WEFT_OK) {
        weft_execution_drained(x);
        return;
    }
    if (in->user[1]) {
        placed_at *at = in->user[1], now = {.into = t->into, .with = t->with};
        t->into = at->into;
        t->with = at->with;
        weft_execute_store(x, t, weft_task_step(t), in->payload, in->bytes);
        t->into = now.into;
        t->with = now.with;
    }
    t->landed += in->bytes;
    t->slices++;
    allow_forward(t, in->peer);
    weft_task_run(t);
}

void weft_exec_lost(weft_exec *e, weft_incoming *in)
{
    (void)e;
    weft_task *t = in->user[0];
    t->execution->in_flight--;
    weft_execution_drained(t->execution);
}

void weft_exec_kept(weft_exec *e, weft_incoming *in)
{
    weft_incoming **tail = weft_exec_early(e, in->header.sequence);
    while (*tail)
        tail = &(*tail)->next;
    in->next = NULL;
    *tail = in;
    e->early_count++;
}

void weft_exec_completed(weft_exec *e, weft_incoming *in)
{
    weft_execution *x = find_running(e, in->header.sequence);
    weft_task *t = x ? weft_execution_task(x, in->header.task) : NULL;
    if (t && wants_slice(t, in))
        weft_task_run(t);
}

/* Takes what came before its step. */
void weft_task_take_early(weft_task *t)
{
    weft_exec *e = t->execution->exec;
    t->early = 0;
    for (weft_incoming **link = weft_exec_early(e, t->execution->sequence); *link && e->error == WEFT_OK;) {
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
        e->early_count--;
        if (right_size(t, in))
            store_now(t, in);
        weft_wire_release(e->wire, in);
    }
}

/* Tasks began: wants that came before. They leave the list first, since serving one may come back here. */
void weft_execution_take_wants(weft_exec *e, weft_execution *x)
{
    weft_incoming *wants = NULL, **tail = &wants;
    for (weft_incoming **link = weft_exec_early(e, x->sequence); *link;) {
        weft_incoming *in = *link;
        if (in->header.kind != WEFT_WIRE_WANT || in->header.sequence != x->sequence) {
            link = &in->next;
            continue;
        }
        *link = in->next;
        e->early_count--;
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

void weft_task_ask(weft_task *t, const weft_step *step)
{
    weft_exec *e = t->execution->exec;
    t->asked = true;
    weft_wire_header header = weft_task_header(t, WEFT_WIRE_WANT);
    header.ordinal = weft_task_ready(t)->receive_ordinal;
    header.total = t->expected;
    weft_wire_post(e->wire, e->world[step->from], &header, NULL, 0, NULL, NULL, 0); /* a lost peer is found elsewhere */
}

void weft_task_enter_receive(weft_task *t, const weft_step *step, const weft_ready_step *ready)
{
    weft_execution *x = t->execution;
    weft_cursor_start(&t->into, &step->dst, ready->dst_like);
    weft_cursor_start(&t->with, &step->src, ready->src_like);
    t->expected = weft_place_bytes(x, t, &step->dst, ready->dst_like);
    t->announced = t->landed = 0;
    t->slices = t->early = 0;
    t->asked = false;
    if (step->to >= 0)
        weft_task_begin_send(t, step, ready, true);
    if (x->exec->early_count)
        weft_task_take_early(t);
    if ((t->expected > WEFT_WANT_BYTES || x->exec->early_count) && t->landed < t->expected)
        weft_task_ask(t, step);
}

/* Blocking calls that go the inline path: which ones, and what must be so for it. All else is the long way, which also looks
 * after the rest of the process; every so often a short call takes it for that reason. */
#include "core/comm.h"

enum { LONG_WAY_EVERY = 64 };

static weft_short_call *place_of(weft_comm *c, const weft_call *call)
{
    size_t key =
        call->count * 31 + (size_t)call->collective * 7 + (size_t)call->type * 3 + (size_t)call->op + (size_t)call->root * 5;
    return &c->shorts[(key ^ key >> 4 ^ key >> 9) % WEFT_SHORT_CALLS];
}

static bool same(const weft_short_call *s, const weft_call *call)
{
    return s->collective == call->collective && s->type == call->type && s->op == call->op && s->root == call->root &&
           s->count == call->count;
}

void weft_short_learn(weft_comm *c, const weft_call *call, const weft_execution_args *args, size_t bytes)
{
    weft_short_call *s = place_of(c, call);
    weft_engine_lighten(c->engine);
    if (call->vector || call->op < 0 || call->op >= WEFT_OP_COUNT || (s->bytes && same(s, call)))
        return;
    weft_inline_destroy(s->call);
    *s = (weft_short_call){.collective = call->collective, .type = call->type, .op = call->op, .root = call->root,
                           .count = call->count, .bytes = bytes ? bytes : 1};
    if (weft_inline_create(&c->exec, args, &s->call) != WEFT_OK)
        *s = (weft_short_call){0}; /* without memory for it calls stay long */
}

void weft_short_clear(weft_comm *c)
{
    for (int i = 0; i < WEFT_SHORT_CALLS; i++)
        weft_inline_destroy(c->shorts[i].call);
}

/* Nothing else of this process group wants attention. */
static bool undisturbed(weft_comm *c)
{
    weft_engine *e = c->engine;
    return e->active == 0 && atomic_load_explicit(&e->notice_count, memory_order_acquire) == 0 &&
           atomic_load_explicit(&c->error, memory_order_relaxed) == WEFT_OK &&
           !atomic_load_explicit(&c->abort_wanted, memory_order_acquire);
}

static bool nothing_sent(void *exec)
{
    return ((const weft_exec *)exec)->inline_sends == 0;
}

/* Waits for what the inline path began, like any other call. Releases the lock. */
static weft_status go_on(weft_comm *c, const weft_call *call, const weft_execution_point *point)
{
    weft_request *r = weft_request_get(c, WEFT_REQUEST_COLLECTIVE);
    weft_status status = WEFT_OK;
    if (r) {
        r->call = *call;
        r->blocks = true;
        r->point = point;
        status = weft_request_begin(r);
    }
    if (c->exec.inline_sends) /* it could not go on: transports still read the caller's buffer */
        weft_engine_wait(c->engine, nothing_sent, &c->exec, WEFT_NEVER);
    return weft_request_finish_call(c, r, status, NULL);
}

bool weft_short_run(weft_comm *c, const weft_call *call, weft_status *status)
{
    const weft_short_call *s = place_of(c, call);
    if (++c->shorts_run % LONG_WAY_EVERY == 0 || !weft_lock_enter(&c->engine->lock))
        return false;
    weft_call resolved = *call;
    weft_execution_point point;
    bool in_place;
    weft_inline_outcome outcome = WEFT_INLINE_NOT_BEGUN;
    if (s->call && same(s, call) && undisturbed(c) && weft_call_resolve(c, &resolved, &in_place) == WEFT_OK &&
        weft_inline_takes(s->call, resolved.send, resolved.recv, in_place))
        outcome = weft_inline_run(&c->exec, s->call, resolved.send, resolved.recv, &point);
    if (outcome == WEFT_INLINE_WAITS) {
        weft_lock_stay(&c->engine->lock);
        *status = go_on(c, call, &point);
        return true;
    }
    if (outcome == WEFT_INLINE_DONE)
        weft_record_short(c, weft_inline_fingerprint(s->call), point.sequence, s->bytes);
    weft_lock_leave(&c->engine->lock);
    return outcome == WEFT_INLINE_DONE;
}

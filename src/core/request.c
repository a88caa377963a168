/* Requests: their life, waiting and testing. */
#include "core/comm.h"

#include <string.h>

/* ---- life (lock held) -------------------------------------------------------------------------- */

weft_request *weft_request_get(weft_comm *c, weft_request_kind kind)
{
    weft_request *r = c->idle;
    if (r)
        c->idle = r->next;
    else if (!(r = weft_alloc(sizeof *r)))
        return NULL;
    size_t *arrays = r->arrays;
    void *temporary = r->temporary;
    size_t arrays_capacity = r->arrays_capacity, temporary_capacity = r->temporary_capacity;
    memset(r, 0, sizeof *r);
    r->comm = c;
    r->kind = kind;
    r->timeout_ms = c->timeout_ms;
    r->arrays = arrays;
    r->arrays_capacity = arrays_capacity;
    r->temporary = temporary;
    r->temporary_capacity = temporary_capacity;
    r->next_taken = c->taken;
    r->taken_link = &c->taken;
    if (r->next_taken)
        r->next_taken->taken_link = &r->next_taken;
    c->taken = r;
    return r;
}

static void leave_taken(weft_request *r)
{
    *r->taken_link = r->next_taken;
    if (r->next_taken)
        r->next_taken->taken_link = r->taken_link;
}

void weft_request_put(weft_request *r)
{
    leave_taken(r);
    r->next = r->comm->idle;
    r->comm->idle = r;
}

void weft_request_destroy(weft_request *r)
{
    if (!r)
        return;
    weft_free(r->arrays);
    weft_free(r->temporary);
    weft_free(r);
}

void weft_request_give_back(weft_request *r)
{
    if (!r->comm) {
        weft_request_destroy(r);
        return;
    }
    weft_engine *e = r->comm->engine;
    weft_lock_take(&e->lock);
    weft_request_put(r);
    weft_lock_release(&e->lock);
}

void weft_request_orphan_all(weft_comm *c)
{
    while (c->taken) {
        weft_request *r = c->taken;
        leave_taken(r);
        if (r->active) /* did not end in time */
            weft_request_completed(r, WEFT_ERR_ABORTED);
        r->comm = NULL;
    }
}

static weft_status orphaned(weft_status status)
{
    return status == WEFT_OK ? WEFT_OK : weft_fail(status, "the communicator was destroyed");
}

static int64_t deadline_from(int64_t began_ns, int64_t timeout_ms)
{
    int64_t deadline;
    if (timeout_ms < 0 || __builtin_mul_overflow(timeout_ms, (int64_t)WEFT_NS_PER_MS, &deadline) ||
        __builtin_add_overflow(deadline, began_ns, &deadline))
        return WEFT_NEVER;
    return deadline;
}

static void link_request(weft_request *r)
{
    weft_comm *c = r->comm;
    r->next = c->requests;
    r->link = &c->requests;
    if (r->next)
        r->next->link = &r->next;
    c->requests = r;
    r->linked = true;
    c->engine->active++;
}

void weft_request_completed(weft_request *r, weft_status status)
{
    if (r->linked) {
        *r->link = r->next;
        if (r->next)
            r->next->link = r->link;
        r->linked = false;
        r->comm->engine->active--;
    }
    if (r->record) {
        r->record->over = true;
        r->record->status = status;
        r->record->ended_ns = weft_now_ns();
        r->record = NULL;
    }
    r->status = status;
    r->active = false;
    /* release: pairs with a waiter that looks without the lock (weft_wait_any over several groups) */
    atomic_store_explicit(&r->complete, true, memory_order_release);
}

static void message_done(void *context, weft_message *m)
{
    weft_request *r = context;
    if (!m->sending && r->info)
        *r->info = (weft_recv_info){.source = m->got_source, .tag = m->got_tag, .bytes = m->total};
    weft_request_completed(r, m->status);
}

static void begin_message(weft_request *r)
{
    weft_message *m = &r->message;
    int peer = r->kind == WEFT_REQUEST_SEND || r->call.root >= 0 ? r->call.root : WEFT_ANY_SOURCE;
    *m = (weft_message){.peer = peer, .tag = r->tag, .done = message_done, .context = r,
                        .buffer = r->kind == WEFT_REQUEST_SEND ? (char *)r->call.send : r->call.recv,
                        .bytes = r->call.count * weft_type_bytes(r->call.type)};
    if (r->kind == WEFT_REQUEST_SEND)
        weft_message_send(&r->comm->messages, m);
    else
        weft_message_recv(&r->comm->messages, m);
}

weft_status weft_request_begin(weft_request *r)
{
    weft_engine_take_news(r->comm->engine); /* of an abort, say: what the others did before may be all that a call needs */
    weft_status status = weft_comm_check(r->comm);
    if (status != WEFT_OK)
        return status;
    r->active = true;
    atomic_store_explicit(&r->complete, false, memory_order_relaxed);
    r->status = WEFT_OK;
    r->began_ns = weft_now_ns();
    r->deadline_ns = deadline_from(r->began_ns, r->timeout_ms);
    link_request(r);
    if (r->kind == WEFT_REQUEST_COLLECTIVE)
        status = weft_collective_begin(r);
    else
        begin_message(r);
    if (status != WEFT_OK) {
        weft_request_completed(r, status);
        status = weft_comm_cannot_begin(r->comm, status);
    }
    return status;
}

bool weft_request_done(void *request)
{
    return atomic_load_explicit(&((weft_request *)request)->complete, memory_order_acquire);
}

/* The status of a complete request with its detail. */
static weft_status result(const weft_request *r)
{
    weft_status status = r->status;
    if (status == WEFT_OK)
        return WEFT_OK;
    if (status == WEFT_ERR_TRUNCATED)
        return weft_fail(status, "message of %zu bytes from rank %d, tag %d, is longer than the receive buffer of %zu",
                         r->message.total, r->message.got_source, r->message.got_tag, r->message.bytes);
    if (!r->comm)
        return orphaned(status);
    weft_status of_comm = weft_comm_check(r->comm);
    return of_comm != WEFT_OK ? of_comm : weft_fail(status, "%s", weft_status_text(status));
}

weft_status weft_request_finish_call(weft_comm *c, weft_request *r, weft_status begun, weft_request **request)
{
    weft_engine *e = c->engine;
    if (!r) {
        weft_status status = weft_comm_cannot_begin(c, weft_fail(WEFT_ERR_MEMORY, "no memory for a request"));
        weft_lock_release(&e->lock);
        return status;
    }
    if (begun != WEFT_OK) {
        begun = weft_comm_cannot_begin(c, begun);
        weft_request_put(r);
        weft_lock_release(&e->lock);
        return begun;
    }
    if (request) {
        *request = r;
        weft_lock_release(&e->lock);
        return WEFT_OK;
    }
    weft_engine_wait(e, weft_request_done, r, WEFT_NEVER);
    weft_status status = result(r);
    weft_request_put(r);
    weft_lock_release(&e->lock);
    return status;
}

/* ---- groups of requests ------------------------------------------------------------------------ */

static bool group_done(const weft_request *r)
{
    for (int i = 0; i < r->part_count; i++)
        if (!weft_request_done(r->parts[i]))
            return false;
    return true;
}

static bool is_done(weft_request *r)
{
    return r->kind == WEFT_REQUEST_GROUP ? group_done(r) : weft_request_done(r);
}

/* An engine to wait in: that of something not done. */
static weft_engine *engine_of(const weft_request *r)
{
    if (r->kind != WEFT_REQUEST_GROUP)
        return r->comm->engine;
    for (int i = 0; i < r->part_count; i++)
        if (!weft_request_done(r->parts[i]))
            return r->parts[i]->comm->engine;
    return r->part_count ? r->parts[0]->comm->engine : NULL;
}

static bool idle(const weft_request *r)
{
    return !r || (r->persistent && !r->started);
}

typedef struct any_of {
    weft_request **requests;
    int count;
} any_of;

static bool any_done(void *context)
{
    const any_of *a = context;
    for (int i = 0; i < a->count; i++)
        if (!idle(a->requests[i]) && is_done(a->requests[i]))
            return true;
    return false;
}

/* Ends a complete request: frees it, or makes a persistent one inactive. */
static weft_status end(weft_request **request)
{
    weft_request *r = *request;
    weft_status status;
    if (r->kind == WEFT_REQUEST_GROUP) {
        *request = NULL;
        return weft_group_finish(r);
    }
    weft_engine *e = r->comm ? r->comm->engine : NULL;
    if (e)
        weft_lock_take(&e->lock);
    status = result(r);
    r->started = false;
    if (e)
        weft_lock_release(&e->lock);
    if (!r->persistent) {
        *request = NULL;
        weft_request_give_back(r);
    }
    return status;
}

/* Blocks until one of them is done or it is that late. */
static void wait_for_any(any_of *a, int64_t until_ns)
{
    while (!any_done(a)) {
        weft_engine *e = NULL;
        bool several = false;
        for (int i = 0; i < a->count; i++)
            if (!idle(a->requests[i])) {
                weft_engine *mine = engine_of(a->requests[i]);
                several |= e && mine != e;
                e = mine;
            }
        if (!e)
            return;
        /* with several groups the others are progressed by this wait, but cannot end its sleep: sleep shortly */
        weft_lock_take(&e->lock);
        int64_t shortly = several ? weft_now_ns() + WEFT_NS_PER_MS : WEFT_NEVER;
        weft_engine_wait(e, any_done, a, shortly < until_ns ? shortly : until_ns);
        weft_lock_release(&e->lock);
        if (until_ns != WEFT_NEVER && weft_now_ns() >= until_ns)
            return;
    }
}

weft_status weft_request_wait_for(weft_request *r)
{
    any_of one = {.requests = &r, .count = 1};
    wait_for_any(&one, WEFT_NEVER);
    return WEFT_OK;
}

/* ---- public ------------------------------------------------------------------------------------ */

static bool foreign(const weft_request *r)
{
    return r->comm && r->comm->engine->forks != weft_fork_count();
}

weft_status weft_wait(weft_request **request)
{
    weft_clear_error();
    if (!request)
        return weft_fail(WEFT_ERR_INVALID, "request is NULL");
    if (idle(*request))
        return WEFT_OK;
    if (foreign(*request))
        return weft_fail(WEFT_ERR_USAGE, "this request belongs to the parent process of a fork");
    weft_request_wait_for(*request);
    return end(request);
}

weft_status weft_test(weft_request **request, bool *done)
{
    weft_clear_error();
    if (!request || !done)
        return weft_fail(WEFT_ERR_INVALID, "request or done is NULL");
    *done = true;
    if (idle(*request))
        return WEFT_OK;
    if (foreign(*request))
        return weft_fail(WEFT_ERR_USAGE, "this request belongs to the parent process of a fork");
    if (!is_done(*request)) {
        weft_engine *e = engine_of(*request);
        if (e) {
            weft_lock_take(&e->lock);
            weft_engine_progress(e);
            weft_engine_check(e);
            weft_lock_release(&e->lock);
            weft_engine_progress_others(e);
        }
    }
    *done = is_done(*request);
    return *done ? end(request) : WEFT_OK;
}

static weft_status wait_any_until(weft_request **requests, int count, int64_t until_ns, int *index)
{
    *index = -1;
    bool some = false;
    for (int i = 0; i < count; i++)
        some |= !idle(requests[i]);
    if (!some)
        return WEFT_OK;
    any_of a = {.requests = requests, .count = count};
    wait_for_any(&a, until_ns);
    for (int i = 0; i < count; i++)
        if (!idle(requests[i]) && is_done(requests[i])) {
            *index = i;
            return end(&requests[i]);
        }
    return until_ns == WEFT_NEVER ? WEFT_OK : WEFT_IN_PROGRESS;
}

weft_status weft_wait_any(weft_request **requests, int count, int *index)
{
    weft_clear_error();
    if ((!requests && count != 0) || !index || count < 0)
        return weft_fail(WEFT_ERR_INVALID, "requests or index is NULL, or count %d is negative", count);
    return wait_any_until(requests, count, WEFT_NEVER, index);
}

weft_status weft_wait_any_for(weft_request **requests, int count, int64_t timeout_ms, int *index)
{
    weft_clear_error();
    if ((!requests && count != 0) || !index || count < 0 || timeout_ms < 0)
        return weft_fail(WEFT_ERR_INVALID, "requests or index is NULL, or count %d or timeout %lld ms is negative", count,
                         (long long)timeout_ms);
    return wait_any_until(requests, count, deadline_from(weft_now_ns(), timeout_ms), index);
}

weft_status weft_wait_all(weft_request **requests, int count)
{
    weft_clear_error();
    if ((!requests && count > 0) || count < 0)
        return weft_fail(WEFT_ERR_INVALID, "requests is NULL or count %d is negative", count);
    weft_status first = WEFT_OK;
    char detail[512] = "";
    for (int i = 0; i < count; i++) {
        weft_status status = weft_wait(&requests[i]);
        if (status != WEFT_OK && first == WEFT_OK) {
            first = status;
            size_t length = weft_min_size(strlen(weft_last_error()), sizeof detail - 1);
            memcpy(detail, weft_last_error(), length);
        }
    }
    return first == WEFT_OK ? WEFT_OK : weft_fail(first, "%s", detail);
}

weft_status weft_start(weft_request *r)
{
    weft_clear_error();
    if (!r || !r->persistent)
        return weft_fail(WEFT_ERR_USAGE, "weft_start needs a persistent request");
    if (r->started)
        return weft_fail(WEFT_ERR_USAGE, "this request is under way: wait for it first");
    if (foreign(r))
        return weft_fail(WEFT_ERR_USAGE, "this request belongs to the parent process of a fork");
    if (!r->comm)
        return orphaned(WEFT_ERR_ABORTED);
    weft_lock_take(&r->comm->engine->lock);
    weft_status status = weft_request_begin(r);
    r->started = status == WEFT_OK;
    weft_lock_release(&r->comm->engine->lock);
    return status;
}

weft_status weft_start_all(weft_request **requests, int count)
{
    weft_clear_error();
    if ((!requests && count > 0) || count < 0)
        return weft_fail(WEFT_ERR_INVALID, "requests is NULL or count %d is negative", count);
    for (int i = 0; i < count; i++) {
        weft_status status = weft_start(requests[i]);
        if (status != WEFT_OK)
            return status;
    }
    return WEFT_OK;
}

weft_status weft_request_free(weft_request **request)
{
    weft_clear_error();
    if (!request || !*request)
        return WEFT_OK;
    weft_request *r = *request;
    if (!r->persistent || r->started)
        return weft_fail(WEFT_ERR_USAGE, "only an inactive persistent request can be freed: wait for it first");
    *request = NULL;
    weft_request_give_back(r);
    return WEFT_OK;
}

weft_status weft_request_set_timeout(weft_request *r, int64_t timeout_ms)
{
    weft_clear_error();
    if (!r || timeout_ms == 0 || timeout_ms < -1)
        return weft_fail(WEFT_ERR_INVALID, "timeout %lld ms: positive, or -1 for none", (long long)timeout_ms);
    for (int i = 0; r->kind == WEFT_REQUEST_GROUP && i < r->part_count; i++)
        weft_request_set_timeout(r->parts[i], timeout_ms);
    if (r->kind == WEFT_REQUEST_GROUP || !r->comm)
        return WEFT_OK;
    weft_lock_take(&r->comm->engine->lock);
    r->timeout_ms = timeout_ms;
    r->deadline_ns = deadline_from(r->began_ns, timeout_ms);
    weft_lock_release(&r->comm->engine->lock);
    return WEFT_OK;
}

weft_status weft_progress(void)
{
    weft_engine_progress_all();
    return WEFT_OK;
}

weft_status weft_set_progress_hook(void (*hook)(void *context), void *context)
{
    weft_engine_set_hook(hook, context);
    return WEFT_OK;
}

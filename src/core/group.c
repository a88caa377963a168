/* Groups: calls of a thread that begin together. Small all_reduces of one communicator, type and operation become
 * one; decided by what all ranks see alike: order within the communicator, type, operation, counts. */
#include "core/comm.h"

#include <string.h>

enum { FUSE_BYTES = 64 << 10, FUSED_MAX_BYTES = 1 << 20 };

static _Thread_local struct {
    int depth;
    weft_request **calls;
    int count, capacity;
    weft_status failed;
} group;

/* Several all_reduces done as one over a packed buffer. */
typedef struct weft_fused {
    struct weft_fused *next;
    weft_request *whole;
    weft_request **parts; /* borrowed from the group's list */
    int count;
    char *buffer;
} weft_fused;

bool weft_group_open(void)
{
    return group.depth > 0;
}

/* This rank alone cannot begin the call, the thread's error says why: others would wait for it. */
static void give_up(weft_request *r, weft_status status)
{
    if (r->comm) {
        weft_engine *e = r->comm->engine;
        weft_lock_take(&e->lock);
        weft_comm_cannot_begin(r->comm, status);
        weft_lock_release(&e->lock);
    }
    weft_request_give_back(r);
}

weft_status weft_group_add(weft_request *r)
{
    if (group.count == group.capacity) {
        int capacity = group.capacity ? 2 * group.capacity : 16;
        weft_request **more = weft_realloc(group.calls, (size_t)capacity * sizeof *more);
        if (!more) {
            group.failed = weft_fail(WEFT_ERR_MEMORY, "no memory for %d calls in a group", capacity);
            give_up(r, group.failed);
            return WEFT_ERR_MEMORY;
        }
        group.calls = more;
        group.capacity = capacity;
    }
    group.calls[group.count++] = r;
    return WEFT_OK;
}

weft_status weft_group_start(void)
{
    weft_clear_error();
    group.depth++;
    return WEFT_OK;
}

/* ---- fusing ------------------------------------------------------------------------------------ */

static size_t call_bytes(const weft_request *r)
{
    return r->call.count * weft_type_bytes(r->call.type);
}

static bool fusible(const weft_request *r)
{
    return r->comm && r->kind == WEFT_REQUEST_COLLECTIVE && r->call.collective == WEFT_ALL_REDUCE &&
           call_bytes(r) <= FUSE_BYTES && r->call.op >= 0 && r->call.op < WEFT_OP_COUNT;
}

/* Sorts the calls by communicator, messages apart, each in the order of calling: what lies between the collectives of a
 * communicator differs from rank to rank and must not decide what is fused. */
static weft_status sort_calls(void)
{
    weft_request **sorted = weft_alloc_array((size_t)group.capacity, sizeof *sorted);
    if (!sorted)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to sort %d calls", group.count);
    int n = 0;
    for (int i = 0; i < group.count; i++) {
        const weft_request *a = group.calls[i];
        for (int k = i; a && k < group.count; k++) {
            weft_request *b = group.calls[k];
            if (!b || b->comm != a->comm || (b->kind == WEFT_REQUEST_COLLECTIVE) != (a->kind == WEFT_REQUEST_COLLECTIVE))
                continue;
            sorted[n++] = b;
            group.calls[k] = NULL;
        }
    }
    weft_free(group.calls);
    group.calls = sorted;
    return WEFT_OK;
}

/* How many calls from `first` on become one. */
static int run_length(int first)
{
    const weft_request *a = group.calls[first];
    size_t bytes = call_bytes(a);
    int n = 1;
    if (!fusible(a))
        return 1;
    for (int i = first + 1; i < group.count; i++, n++) {
        const weft_request *b = group.calls[i];
        if (!fusible(b) || b->comm != a->comm || b->call.type != a->call.type || b->call.op != a->call.op ||
            (bytes += call_bytes(b)) > FUSED_MAX_BYTES)
            break;
    }
    return n;
}

static const void *input_of(const weft_request *r)
{
    return r->call.send == WEFT_IN_PLACE ? r->call.recv : r->call.send;
}
static void *output_of(const weft_request *r)
{
    return r->call.recv == WEFT_IN_PLACE ? (void *)r->call.send : r->call.recv;
}

static weft_fused *fuse(weft_request **parts, int count)
{
    size_t elements = 0, element = weft_type_bytes(parts[0]->call.type), at = 0;
    for (int i = 0; i < count; i++)
        elements += parts[i]->call.count;
    weft_fused *f = weft_alloc(sizeof *f);
    if (!f || !(f->buffer = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(elements * element + 1, WEFT_CACHE_LINE)))) {
        weft_free(f);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        size_t bytes = call_bytes(parts[i]);
        if (bytes)
            memcpy(f->buffer + at, input_of(parts[i]), bytes);
        at += bytes;
    }
    f->parts = parts;
    f->count = count;
    weft_comm *c = parts[0]->comm;
    weft_lock_take(&c->engine->lock);
    f->whole = weft_request_get(c, WEFT_REQUEST_COLLECTIVE);
    if (f->whole) {
        f->whole->call = parts[0]->call;
        f->whole->call.send = f->whole->call.recv = f->buffer;
        f->whole->call.count = elements;
    }
    weft_lock_release(&c->engine->lock);
    if (!f->whole) {
        weft_free(f->buffer);
        weft_free(f);
        return NULL;
    }
    return f;
}

static void unpack(const weft_fused *f)
{
    size_t at = 0;
    for (int i = 0; i < f->count; i++) {
        size_t bytes = call_bytes(f->parts[i]);
        if (bytes)
            memcpy(output_of(f->parts[i]), f->buffer + at, bytes);
        at += bytes;
    }
}

/* ---- the end of a group ------------------------------------------------------------------------ */

static void free_group(weft_request *g)
{
    while (g->fused) {
        weft_fused *f = g->fused;
        g->fused = f->next;
        for (int i = 0; i < f->count; i++)
            weft_request_give_back(f->parts[i]);
        weft_free(f->buffer);
        weft_free(f);
    }
    weft_free(g->calls);
    weft_free(g->parts);
    weft_free(g);
}

weft_status weft_group_finish(weft_request *g)
{
    weft_status first = g->status;
    char detail[512] = "";
    if (first != WEFT_OK)
        snprintf(detail, sizeof detail, "%s", g->detail ? g->detail : weft_status_text(first));
    for (int i = 0; i < g->part_count; i++) {
        weft_request *part = g->parts[i];
        weft_status status = weft_wait(&part);
        if (status != WEFT_OK && first == WEFT_OK) {
            first = status;
            snprintf(detail, sizeof detail, "%s", weft_last_error());
        }
    }
    for (const weft_fused *f = g->fused; f && first == WEFT_OK; f = f->next)
        unpack(f);
    weft_free(g->detail);
    free_group(g);
    return first == WEFT_OK ? WEFT_OK : weft_fail(first, "%s", detail);
}

static weft_status begin(weft_request *r)
{
    if (!r->comm) {
        weft_request_destroy(r);
        return weft_fail(WEFT_ERR_ABORTED, "the communicator of a call in a group was destroyed");
    }
    weft_engine *e = r->comm->engine;
    weft_lock_take(&e->lock);
    weft_status status = weft_request_begin(r);
    if (status != WEFT_OK)
        weft_request_put(r);
    weft_lock_release(&e->lock);
    return status;
}

static void note_failure(weft_request *g, weft_status status)
{
    if (g->status != WEFT_OK)
        return;
    g->status = status;
    g->detail = weft_strdup(weft_last_error());
}

/* Begins all calls; what cannot begin makes the group fail, after the others have ended. */
static void begin_all(weft_request *g)
{
    for (int i = 0; i < group.count;) {
        int n = run_length(i);
        weft_request *r = group.calls[i];
        if (n > 1) {
            weft_fused *f = fuse(&group.calls[i], n);
            if (!f) {
                weft_status status = weft_fail(WEFT_ERR_MEMORY, "no memory to fuse %d all_reduces", n);
                note_failure(g, status);
                for (int k = i; k < group.count; k++)
                    give_up(group.calls[k], status);
                return;
            }
            f->next = g->fused;
            g->fused = f;
            r = f->whole;
        }
        i += n;
        weft_status status = begin(r);
        if (status == WEFT_OK) {
            g->parts[g->part_count++] = r;
        } else {
            note_failure(g, status);
        }
    }
}

weft_status weft_group_end(weft_request **request)
{
    weft_clear_error();
    if (group.depth == 0)
        return weft_fail(WEFT_ERR_USAGE, "weft_group_end without weft_group_start");
    if (group.depth > 1) {
        group.depth--;
        return request ? weft_fail(WEFT_ERR_USAGE, "only the outermost weft_group_end takes a request") : WEFT_OK;
    }
    group.depth = 0;
    weft_request *g = weft_alloc(sizeof *g);
    if (g)
        g->parts = weft_alloc_array((size_t)group.count + 1, sizeof *g->parts);
    weft_status failed = group.failed;
    group.failed = WEFT_OK;
    if (g && g->parts && group.count > 1 && failed == WEFT_OK)
        failed = sort_calls();
    if (!g || !g->parts || failed != WEFT_OK) {
        weft_status status = weft_fail(WEFT_ERR_MEMORY, "no memory for a group");
        for (int i = 0; i < group.count; i++)
            give_up(group.calls[i], status);
        weft_free(group.calls);
        weft_free(g ? g->parts : NULL);
        weft_free(g);
        group.calls = NULL;
        group.count = group.capacity = 0;
        return status;
    }
    g->kind = WEFT_REQUEST_GROUP;
    begin_all(g);
    g->calls = group.calls;
    group.calls = NULL;
    group.count = group.capacity = 0;
    if (request) {
        *request = g;
        return WEFT_OK;
    }
    return weft_wait(&g);
}

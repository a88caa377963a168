/* Who is absent when a call is over its time. In most schedules a rank waits for one that itself waits for the one that is
 * missing. So each rank whose time is up tells all for whom it waits, who is named so and waits too answers for whom, and
 * a moment later every rank knows the same: absent is who is waited for and said nothing. Errors spread in comm.c. */
#include <stdio.h>
#include <string.h>

#include "core/comm.h"

enum {
    VERDICT_NS = 250 * WEFT_NS_PER_MS, /* after the last answer */
    VERDICT_MOST_NS = 1000 * WEFT_NS_PER_MS,
    ACCUSED = 1,                       /* of c->suspicion */
    WAITS = 2
};

/* What the request waits for; the rank in the process group, or -1. */
static int describe(const weft_comm *c, const weft_request *r, char *call, size_t call_bytes, char *what, size_t what_bytes)
{
    int waited = -1;
    snprintf(call, call_bytes, "a message");
    *what = 0;
    if (r->execution) {
        weft_execution_describe(r->execution, what, what_bytes, &waited);
        weft_fingerprint_text(&r->execution->fingerprint, call, call_bytes);
    } else if (r->kind == WEFT_REQUEST_SEND || r->kind == WEFT_REQUEST_RECV) {
        waited = r->message.peer >= 0 ? c->world[r->message.peer] : -1;
        snprintf(call, call_bytes, "%s (peer %d, tag %d)", r->kind == WEFT_REQUEST_SEND ? "send" : "recv", r->message.peer,
                 r->message.tag);
    }
    return waited;
}

/* Of what is under way, the call that says for whom this rank waits; NULL: nothing is under way. */
static const weft_request *waiting(const weft_comm *c, const weft_request *first)
{
    char call[160], what[256];
    const weft_request *any = first;
    if (first && describe(c, first, call, sizeof call, what, sizeof what) >= 0)
        return first;
    for (const weft_request *r = c->requests; r; r = r->next) {
        if (r->complete)
            continue;
        if (describe(c, r, call, sizeof call, what, sizeof what) >= 0)
            return r;
        any = any ? any : r;
    }
    return any;
}

static void expect_verdict(weft_comm *c)
{
    int64_t now = weft_now_ns();
    if (!c->verdict_ns)
        c->verdict_latest_ns = now + VERDICT_MOST_NS;
    c->verdict_ns = now + VERDICT_NS < c->verdict_latest_ns ? now + VERDICT_NS : c->verdict_latest_ns;
}

static void mark(weft_comm *c, int world_rank, unsigned char how)
{
    if (world_rank >= 0 && world_rank < c->engine->ranks && c->from_world[world_rank] >= 0)
        c->suspicion[c->from_world[world_rank]] |= how;
}

/* Tells all, once, for whom this rank waits. */
static void accuse(weft_comm *c, const weft_request *r)
{
    char call[160], what[256];
    weft_notice notice = {.comm = c->client.comm, .status = WEFT_ERR_TIMEOUT, .rank = -1, .reporter = c->engine->rank};
    unsigned char *own = &c->suspicion[c->rank];
    if (*own & WAITS)
        return;
    notice.rank = describe(c, r, call, sizeof call, what, sizeof what);
    snprintf(notice.text, sizeof notice.text, "%.120s timed out", call);
    *own |= WAITS;
    mark(c, notice.rank, ACCUSED);
    weft_control_report(c->engine->control, &notice);
}

void weft_comm_time_out(weft_comm *c, const weft_request *overdue)
{
    if (c->verdict_ns)
        return;
    const weft_request *r = waiting(c, overdue);
    char call[160], what[256];
    describe(c, r, call, sizeof call, what, sizeof what);
    snprintf(c->timeout_text, sizeof c->timeout_text, "%.120s timed out after %lld ms", call, (long long)overdue->timeout_ms);
    expect_verdict(c);
    accuse(c, r);
}

void weft_comm_accused(weft_comm *c, const weft_notice *notice)
{
    if (notice->reporter == c->engine->rank)
        return; /* marked already */
    if (!c->verdict_ns)
        snprintf(c->timeout_text, sizeof c->timeout_text, "reported by rank %d: %.140s", c->from_world[notice->reporter],
                 notice->text);
    expect_verdict(c);
    mark(c, notice->reporter, WAITS);
    mark(c, notice->rank, ACCUSED);
    const weft_request *r = notice->rank == c->engine->rank ? waiting(c, NULL) : NULL;
    if (r)
        accuse(c, r);
}

/* "absent: ranks 2, 5": who is waited for and said nothing; nobody: *first is -1. */
static void name_absent(const weft_comm *c, char *text, size_t bytes, int *first)
{
    int count = 0;
    size_t used = 0;
    *first = -1;
    *text = 0;
    for (int r = 0; r < c->ranks; r++) {
        if (c->suspicion[r] != ACCUSED)
            continue;
        if (count++ == 0)
            *first = r;
        if (count <= 8 && used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%d", count == 1 ? "" : ", ", r);
    }
    char list[80];
    snprintf(list, sizeof list, "%.79s", text);
    if (count)
        snprintf(text, bytes, "; absent: %s %s%s", count == 1 ? "rank" : "ranks", list, count > 8 ? " and more" : "");
}

void weft_comm_judge(weft_comm *c, int64_t now)
{
    if (now < c->verdict_ns || atomic_load_explicit(&c->error, memory_order_relaxed) != WEFT_OK)
        return;
    char call[160], what[256] = "", who[120], place[200] = "", text[2 * WEFT_ERROR_TEXT]; /* cut later */
    const weft_request *r = waiting(c, NULL);
    int waited = r ? describe(c, r, call, sizeof call, what, sizeof what) : -1, absent;
    name_absent(c, who, sizeof who, &absent);
    if (*what)
        snprintf(place, sizeof place, "; this rank is at %.160s", what);
    if (absent < 0 && waited >= 0)
        snprintf(who, sizeof who, "; this rank waits for rank %d", c->from_world[waited]);
    snprintf(text, sizeof text, "%.170s%.80s%.140s", c->timeout_text, who, place);
    c->from_notice = true; /* the others judge for themselves */
    weft_comm_set_error(c, WEFT_ERR_TIMEOUT, absent >= 0 ? c->world[absent] : waited, text);
    if (r && c->engine->settings.dump_on_error)
        weft_record_dump(c, stderr);
}

/* The verifier's first part: the form of each step (ranks, buffers, shapes, counters) and which receive takes
 * which send. What depends on the order of execution is verify_run.c's. */
#include "collectives/print.h"
#include "collectives/verify.h"

typedef struct position {
    const verify *v;
    int rank;
    uint32_t lane, step;
    const weft_step *s;
} position;

#define FAIL_AT(p, ...) verify_fail((p)->v, (p)->rank, (p)->lane, (p)->step, __VA_ARGS__)

static weft_status check_peer(const position *p, int peer, const char *what)
{
    if (peer < 0 || peer >= p->v->ranks)
        return FAIL_AT(p, "%s rank %d does not exist (ranks are 0..%d)", what, peer, p->v->ranks - 1);
    if (peer == p->rank)
        return FAIL_AT(p, "%s is the rank itself", what);
    return WEFT_OK;
}

static weft_status check_place(const position *p, const weft_place *place, bool peers)
{
    const verify *v = p->v;
    if (place->rank != p->rank) {
        if (!peers)
            return FAIL_AT(p, "names a place of rank %d, but only copy and reduce may read another rank's",
                           place->rank);
        if (place->rank < 0 || place->rank >= v->ranks)
            return FAIL_AT(p, "names a place of rank %d, which does not exist", place->rank);
        if (verify_host(v, place->rank) != verify_host(v, p->rank))
            return FAIL_AT(p, "reads memory of rank %d, which is on another host", place->rank);
    }
    if (place->buffer >= WEFT_BUFFER_COUNT)
        return FAIL_AT(p, "names buffer %u, which does not exist", place->buffer);
    if (place->count == 0 || place->repeat == 0) /* an empty message, for its order alone */
        return WEFT_OK;
    if (place->repeat > 1 && place->stride < place->count)
        return FAIL_AT(p, "names chunks twice: runs of %u, one every %u", place->count, place->stride);
    uint64_t end = (uint64_t)place->first + place->count +
                   (place->repeat > 1 ? (uint64_t)(place->repeat - 1) * place->stride : 0);
    uint32_t chunks = v->rank[place->rank].chunks[place->buffer];
    if (end > chunks)
        return FAIL_AT(p, "%s[%llu] is out of range: rank %d has %u chunks there",
                       weft_buffer_name(place->buffer), (unsigned long long)(end - 1), place->rank, chunks);
    return WEFT_OK;
}

static weft_status check_write(const position *p, const weft_place *place)
{
    if (place->buffer == WEFT_INPUT)
        return FAIL_AT(p, "writes to the input, which is the caller's to keep");
    return check_place(p, place, false);
}

static weft_status check_shape(const position *p, const weft_place *a, const weft_place *b)
{
    if (a->count != b->count || a->repeat != b->repeat)
        return FAIL_AT(p, "joins places of different shape: %u x %u and %u x %u chunks", a->repeat, a->count,
                       b->repeat, b->count);
    return WEFT_OK;
}

static weft_status check_wait(const position *p)
{
    const verify *v = p->v;
    weft_status status = check_peer(p, p->s->from, "waited-for");
    if (status != WEFT_OK)
        return status;
    if (verify_host(v, p->s->from) != verify_host(v, p->rank))
        return FAIL_AT(p, "waits for a signal of rank %d, which is on another host", p->s->from);
    uint32_t signals = verify_lane_of(v, p->s->from, p->lane)->signals;
    if (p->s->value > signals)
        return FAIL_AT(p, "waits for signal %u of rank %d, which raises only %u in this lane", p->s->value,
                       p->s->from, signals);
    return WEFT_OK;
}

static weft_status check_reduce(const position *p)
{
    const weft_schedule *schedule = p->v->schedules[p->rank];
    const weft_step *s = p->s;
    if (s->sources == 0)
        return FAIL_AT(p, "has no sources");
    if ((uint64_t)s->value + s->sources > schedule->source_count)
        return FAIL_AT(p, "names sources %u..%u of %u", s->value, s->value + s->sources - 1,
                       schedule->source_count);
    for (uint32_t i = 0; i < s->sources; i++) {
        const weft_place *source = &schedule->sources[s->value + i];
        weft_status status = check_place(p, source, true);
        if (status == WEFT_OK)
            status = check_shape(p, source, &s->dst);
        if (status != WEFT_OK)
            return status;
    }
    return check_write(p, &s->dst);
}

static weft_status check_publish(const position *p)
{
    if (p->s->src.buffer == WEFT_SCRATCH)
        return FAIL_AT(p, "publishes scratch, which peers can always read");
    return check_place(p, &p->s->src, false);
}

static weft_status check_flags(const position *p)
{
    unsigned kind = p->s->kind, flags = p->s->flags;
    bool may_end = kind == WEFT_STEP_RECV_REDUCE || kind == WEFT_STEP_REDUCE || kind == WEFT_STEP_COPY;
    if (kind >= WEFT_STEP_KIND_COUNT)
        return verify_fail_whole(p->v, "rank %d lane %u step %u is of unknown kind %u", p->rank, p->lane,
                                 p->step, kind);
    if ((flags & WEFT_STEP_FINAL) && !may_end)
        return FAIL_AT(p, "is marked final, but neither reduces nor copies");
    if ((flags & WEFT_STEP_INCOMING_FIRST) && kind != WEFT_STEP_RECV_REDUCE)
        return FAIL_AT(p, "is marked incoming-first, but is no recv_reduce");
    if ((flags & WEFT_STEP_IF_MAPPED) && kind != WEFT_STEP_SIGNAL && kind != WEFT_STEP_WAIT)
        return FAIL_AT(p, "is marked if-mapped, but neither signals nor waits");
    if ((flags & WEFT_STEP_PUSH) && (kind != WEFT_STEP_PUBLISH || p->s->src.buffer != WEFT_OUTPUT))
        return FAIL_AT(p, "is marked push, but does not publish output");
    if ((flags & WEFT_STEP_PUSHED) && (kind != WEFT_STEP_COPY || p->s->dst.buffer != WEFT_OUTPUT || p->s->src.rank == p->rank))
        return FAIL_AT(p, "is marked pushed, but does not copy another rank's place to output");
    return WEFT_OK;
}

static weft_status check_step(const position *p)
{
    const weft_step *s = p->s;
    weft_status status = check_flags(p);
    if (status == WEFT_OK && verify_sends(s))
        status = check_peer(p, s->to, "destination");
    if (status == WEFT_OK && verify_receives(s))
        status = check_peer(p, s->from, "source");
    if (status != WEFT_OK)
        return status;
    switch (s->kind) {
    case WEFT_STEP_SEND:
        return check_place(p, &s->src, false);
    case WEFT_STEP_RECV:
        return check_write(p, &s->dst);
    case WEFT_STEP_RECV_REDUCE:
    case WEFT_STEP_COPY:
        status = check_place(p, &s->src, s->kind == WEFT_STEP_COPY);
        if (status == WEFT_OK)
            status = check_shape(p, &s->src, &s->dst);
        return status == WEFT_OK ? check_write(p, &s->dst) : status;
    case WEFT_STEP_REDUCE:
        return check_reduce(p);
    case WEFT_STEP_PUBLISH:
        return check_publish(p);
    case WEFT_STEP_WAIT:
        return check_wait(p);
    default:
        return WEFT_OK;
    }
}

static weft_status check_steps(const verify *v, int rank, uint32_t lane)
{
    const weft_lane *l = verify_steps(v, rank, lane);
    uint32_t sends = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        position p = { v, rank, lane, i, &l->steps[i] };
        weft_status status = check_step(&p);
        if (status != WEFT_OK)
            return status;
        if (p.s->fence > sends)
            return FAIL_AT(&p, "its fence waits for %u sends, but only %u come before it", p.s->fence, sends);
        sends += verify_sends(p.s);
    }
    return WEFT_OK;
}

/* Counts of a lane; sets `*local` if the lane shares memory with peers. */
static weft_status count_lane(const verify *v, int rank, uint32_t lane, bool *local)
{
    const weft_lane *l = verify_steps(v, rank, lane);
    verify_lane *counts = verify_lane_of(v, rank, lane);
    for (uint32_t i = 0; i < l->count; i++) {
        const weft_step *s = &l->steps[i];
        counts->sends += verify_sends(s);
        counts->recvs += verify_receives(s);
        counts->signals += s->kind == WEFT_STEP_SIGNAL;
        *local |= s->kind == WEFT_STEP_SIGNAL || s->kind == WEFT_STEP_WAIT || s->kind == WEFT_STEP_PUBLISH;
    }
    if (l->sends != counts->sends || l->signals != counts->signals)
        return verify_fail_whole(v, "rank %d lane %u says %u sends and %u signals, but has %u and %u", rank,
                                 lane, l->sends, l->signals, counts->sends, counts->signals);
    return WEFT_OK;
}

static weft_status count_lanes(verify *v)
{
    size_t sends = 0, recvs = 0;
    bool local = false;
    for (uint32_t lane = 0; lane < v->lanes; lane++)
        for (int rank = 0; rank < v->ranks; rank++) {
            weft_status status = count_lane(v, rank, lane, &local);
            if (status != WEFT_OK)
                return status;
            verify_lane *counts = verify_lane_of(v, rank, lane);
            counts->first_send = sends;
            counts->first_recv = recvs;
            sends += counts->sends;
            recvs += counts->recvs;
        }
    for (int rank = 0; local && rank < v->ranks; rank++)
        if (!v->schedules[rank]->local)
            return verify_fail_whole(
                v, "rank %d's schedule does not say `local`, but a rank publishes, signals or waits", rank);
    v->send_step = weft_alloc_array(sends + 1, sizeof(*v->send_step));
    v->match = weft_alloc_array(recvs + 1, sizeof(*v->match));
    return v->send_step && v->match ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
}

/* Sends of one lane, grouped by receiver, in each group by sender and number. */
typedef struct outbox {
    uint32_t *first;  /* [receiver], ranks + 1 */
    uint32_t *sender, *number;
    uint32_t *cursor, *end; /* [sender], within one receiver's group */
} outbox;

static void outbox_free(outbox *o)
{
    weft_free(o->first);
    weft_free(o->sender);
    weft_free(o->number);
    weft_free(o->cursor);
    weft_free(o->end);
}

static weft_status outbox_fill(const verify *v, uint32_t lane, outbox *o)
{
    size_t ranks = (size_t)v->ranks, sends = 0;
    for (int rank = 0; rank < v->ranks; rank++)
        sends += verify_lane_of(v, rank, lane)->sends;
    o->first = weft_alloc_array(ranks + 2, sizeof(*o->first));
    o->sender = weft_alloc_array(sends + 1, sizeof(*o->sender));
    o->number = weft_alloc_array(sends + 1, sizeof(*o->number));
    o->cursor = weft_alloc_array(ranks, sizeof(*o->cursor));
    o->end = weft_alloc_array(ranks, sizeof(*o->end));
    if (!o->first || !o->sender || !o->number || !o->cursor || !o->end)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
    for (int rank = 0; rank < v->ranks; rank++) {
        const weft_lane *l = verify_steps(v, rank, lane);
        for (uint32_t i = 0; i < l->count; i++)
            if (verify_sends(&l->steps[i]))
                o->first[l->steps[i].to + 2]++;
    }
    for (size_t i = 2; i < ranks + 2; i++)
        o->first[i] += o->first[i - 1];
    for (int rank = 0; rank < v->ranks; rank++) { /* now first[to + 1] is where to's next send goes */
        const weft_lane *l = verify_steps(v, rank, lane);
        uint32_t number = 0;
        for (uint32_t i = 0; i < l->count; i++)
            if (verify_sends(&l->steps[i])) {
                uint32_t at = o->first[l->steps[i].to + 1]++;
                v->send_step[verify_lane_of(v, rank, lane)->first_send + number] = i;
                o->sender[at] = (uint32_t)rank;
                o->number[at] = number++;
            }
    }
    return WEFT_OK;
}

static weft_status check_message(const verify *v, uint32_t lane, int rank, uint32_t step,
                                 uint32_t sender_step)
{
    const weft_step *s = &verify_steps(v, rank, lane)->steps[step];
    const weft_place *sent = verify_sent_place(&verify_steps(v, s->from, lane)->steps[sender_step]);
    if (sent->count != s->dst.count || sent->repeat != s->dst.repeat)
        return verify_fail(v, rank, lane, step,
                           "expects %u x %u chunks, but rank %d sends %u x %u in its step %u", s->dst.repeat,
                           s->dst.count, s->from, sent->repeat, sent->count, sender_step);
    return WEFT_OK;
}

static weft_status match_rank(const verify *v, uint32_t lane, int rank, outbox *o)
{
    const weft_lane *l = verify_steps(v, rank, lane);
    const verify_lane *mine = verify_lane_of(v, rank, lane);
    for (int i = 0; i < v->ranks; i++)
        o->cursor[i] = o->end[i] = 0;
    for (uint32_t at = o->first[rank]; at < o->first[rank + 1]; at++) {
        if (o->end[o->sender[at]] == 0)
            o->cursor[o->sender[at]] = at;
        o->end[o->sender[at]] = at + 1;
    }
    uint32_t number = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        const weft_step *s = &l->steps[i];
        if (!verify_receives(s))
            continue;
        uint32_t at = o->cursor[s->from]++;
        if (at >= o->end[s->from])
            return verify_fail(v, rank, lane, i,
                               "waits for ever: rank %d sends nothing more to it in this lane", s->from);
        v->match[mine->first_recv + number++] = o->number[at];
        uint32_t sender_step = v->send_step[verify_lane_of(v, s->from, lane)->first_send + o->number[at]];
        weft_status status = check_message(v, lane, rank, i, sender_step);
        if (status != WEFT_OK)
            return status;
    }
    for (int from = 0; from < v->ranks; from++)
        if (o->cursor[from] < o->end[from]) {
            uint32_t n = o->number[o->cursor[from]];
            return verify_fail(v, from, lane, v->send_step[verify_lane_of(v, from, lane)->first_send + n],
                               "is never received: rank %d has no receive for it", rank);
        }
    return WEFT_OK;
}

static weft_status match_lane(const verify *v, uint32_t lane)
{
    outbox o = { 0 };
    weft_status status = outbox_fill(v, lane, &o);
    for (int rank = 0; status == WEFT_OK && rank < v->ranks; rank++)
        status = match_rank(v, lane, rank, &o);
    outbox_free(&o);
    return status;
}

weft_status verify_static(verify *v)
{
    weft_status status = count_lanes(v);
    for (uint32_t lane = 0; status == WEFT_OK && lane < v->lanes; lane++)
        for (int rank = 0; status == WEFT_OK && rank < v->ranks; rank++)
            status = check_steps(v, rank, lane);
    for (uint32_t lane = 0; status == WEFT_OK && lane < v->lanes; lane++)
        status = match_lane(v, lane);
    return status;
}

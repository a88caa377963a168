/* The verifier's simulation of one lane of all ranks. Sends are asynchronous and are done when their receiver
 * takes them: no more buffering than that is assumed, so what ends here ends with any. Ranks run in whatever
 * order; all that could make the order matter is an error (verify_memory.c), so one order speaks for all. */
#include <string.h>

#include "collectives/print.h"
#include "collectives/verify.h"

enum { RUNNING, ON_RECEIVE, ON_SIGNAL, ON_FENCE, ENDED };

static const weft_step *current(const verify_run *r, int rank)
{
    return &verify_steps(r->v, rank, r->lane)->steps[r->pc[rank]];
}

static void make_ready(verify_run *r, int rank)
{
    r->blocked[rank] = RUNNING;
    r->ready[r->ready_count++] = rank;
}

/* ---- clocks ------------------------------------------------------------------------------------ */

static uint32_t *clock_of(const verify_run *r, int rank)
{
    return r->clock + (size_t)rank * (size_t)r->v->ranks;
}

/* A copy of the rank's clock as of the end of step `until`. NULL: no memory. */
static uint32_t *clock_copy(verify_run *r, int rank, uint32_t until_epoch)
{
    size_t bytes = (size_t)r->v->ranks * sizeof(uint32_t);
    void **memory = r->free_clocks;
    if (memory)
        r->free_clocks = *memory;
    else
        memory = weft_alloc(bytes < sizeof(void *) ? sizeof(void *) : bytes);
    if (!memory)
        return NULL;
    uint32_t *copy = (uint32_t *)(void *)memory;
    clock_of(r, rank)[rank] = until_epoch;
    memcpy(copy, clock_of(r, rank), bytes);
    return copy;
}

static void clock_release(verify_run *r, uint32_t *clock)
{
    void **memory = (void **)(void *)clock;
    *memory = r->free_clocks;
    r->free_clocks = memory;
}

/* What `other` knew then, rank knows now. */
static void clock_join(verify_run *r, int rank, int other, const uint32_t *then)
{
    uint32_t *now = clock_of(r, rank);
    if (now[other] >= then[other])
        return;
    for (int i = 0; i < r->v->ranks; i++)
        now[i] = now[i] > then[i] ? now[i] : then[i];
}

/* ---- steps ------------------------------------------------------------------------------------- */

static size_t send_index(const verify_run *r, int rank, uint32_t number)
{
    return verify_lane_of(r->v, rank, r->lane)->first_send + number;
}

/* A send of the step begins: its place is read until the send is done. */
static weft_status begin_send(verify_run *r, int rank, const weft_step *s)
{
    uint32_t number = r->sends[rank]++;
    weft_status status = verify_read_own(r, rank, r->pc[rank], verify_sent_place(s), number);
    if (status != WEFT_OK)
        return status;
    if (r->clock) { /* a forwarded slice leaves after this step has worked on it, a sent one needs only the
                       steps before */
        uint32_t *copy = clock_copy(r, rank, r->pc[rank] + (s->kind == WEFT_STEP_SEND ? 1 : 2));
        if (!copy)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
        r->send_clock[send_index(r, rank, number) - verify_lane_of(r->v, 0, r->lane)->first_send] = copy;
    }
    if (r->blocked[s->to] == ON_RECEIVE && current(r, s->to)->from == rank)
        make_ready(r, s->to);
    return WEFT_OK;
}

/* Number of the send that the rank's next receive takes. */
static uint32_t incoming(const verify_run *r, int rank)
{
    return r->v->match[verify_lane_of(r->v, rank, r->lane)->first_recv + r->recvs[rank]];
}

static void end_send(verify_run *r, int sender, uint32_t number)
{
    size_t base = verify_lane_of(r->v, 0, r->lane)->first_send;
    r->taken[send_index(r, sender, number) - base] = 1;
    while (r->done[sender] < r->sends[sender] && r->taken[send_index(r, sender, r->done[sender]) - base])
        r->done[sender]++;
    if (r->blocked[sender] == ON_FENCE && r->done[sender] >= current(r, sender)->fence)
        make_ready(r, sender);
}

static weft_status fail_overlap(const verify_run *r, int rank)
{
    return verify_fail(r->v, rank, r->lane, r->pc[rank],
                       "reads and writes places that overlap without being the same");
}

/* Source and destination are the same chunks or have none in common. */
static weft_status check_overlap(verify_run *r, int rank, const weft_place *src, const weft_place *dst)
{
    verify *v = r->v;
    uint32_t chunks = verify_place_chunks(dst);
    if (src->rank != rank || chunks == 0)
        return WEFT_OK;
    size_t from = v->rank[rank].at[src->buffer], to = v->rank[rank].at[dst->buffer];
    if (from + src->first > to + verify_place_chunk(dst, chunks - 1) ||
        to + dst->first > from + verify_place_chunk(src, chunks - 1))
        return WEFT_OK;
    bool overlap = false;
    for (uint32_t i = 0; i < chunks; i++)
        v->stamp_cell[to + verify_place_chunk(dst, i)] = i + 1;
    for (uint32_t i = 0; i < chunks; i++) {
        uint32_t stamp = v->stamp_cell[from + verify_place_chunk(src, i)];
        overlap |= stamp != 0 && stamp != i + 1;
    }
    for (uint32_t i = 0; i < chunks; i++)
        v->stamp_cell[to + verify_place_chunk(dst, i)] = 0;
    return overlap ? fail_overlap(r, rank) : WEFT_OK;
}

static weft_status store(verify_run *r, int rank, const weft_step *s, uint32_t i, verify_value *value)
{
    weft_status status = WEFT_OK;
    if (s->flags & WEFT_STEP_FINAL)
        status = verify_finalise(r, rank, r->pc[rank], value);
    return status == WEFT_OK ? verify_write(r, rank, r->pc[rank], &s->dst, i, value) : status;
}

static weft_status receive_chunk(verify_run *r, int rank, const weft_step *s, const weft_place *sent,
                                 uint32_t i)
{
    const verify *v = r->v;
    verify_value value = v->cells[v->rank[s->from].at[sent->buffer] + verify_place_chunk(sent, i)].value;
    if (s->kind == WEFT_STEP_RECV_REDUCE) {
        verify_value mine;
        weft_status status = verify_read(r, rank, r->pc[rank], &s->src, i, &mine);
        if (status != WEFT_OK)
            return status;
        verify_value *left = s->flags & WEFT_STEP_INCOMING_FIRST ? &value : &mine;
        verify_value *right = left == &mine ? &value : &mine;
        status = verify_combine(r, rank, r->pc[rank], left, right);
        if (status != WEFT_OK)
            return status;
        value = *left;
    }
    return store(r, rank, s, i, &value);
}

static weft_status receive(verify_run *r, int rank, const weft_step *s)
{
    verify *v = r->v;
    uint32_t number = incoming(r, rank);
    size_t index = send_index(r, s->from, number);
    const weft_place *sent =
        verify_sent_place(&verify_steps(v, s->from, r->lane)->steps[v->send_step[index]]);
    if (r->clock) {
        uint32_t **then = &r->send_clock[index - verify_lane_of(v, 0, r->lane)->first_send];
        clock_join(r, rank, s->from, *then);
        clock_release(r, *then);
        *then = NULL;
    }
    weft_status status =
        s->kind == WEFT_STEP_RECV_REDUCE ? check_overlap(r, rank, &s->src, &s->dst) : WEFT_OK;
    uint32_t chunks = verify_place_chunks(&s->dst);
    for (uint32_t i = 0; status == WEFT_OK && i < chunks; i++)
        status = receive_chunk(r, rank, s, sent, i);
    r->recvs[rank]++;
    end_send(r, s->from, number);
    return status == WEFT_OK && s->to >= 0 ? begin_send(r, rank, s) : status;
}

/* A copy of a place onto itself, as in-place calls have: nothing is written unless the copy ends a reduction.
 */
static bool is_own_image(const verify_run *r, int rank, const weft_step *s, const weft_place *src)
{
    const verify *v = r->v;
    if (s->kind != WEFT_STEP_COPY || src->rank != rank || ((s->flags & WEFT_STEP_FINAL) && v->reduces))
        return false;
    const size_t *at = v->rank[rank].at;
    return at[src->buffer] + src->first == at[s->dst.buffer] + s->dst.first &&
           (src->repeat <= 1 || src->stride == s->dst.stride);
}

static weft_status combine_sources(verify_run *r, int rank, const weft_step *s, const weft_place *sources,
                                   uint32_t count)
{
    weft_status status = WEFT_OK;
    if (is_own_image(r, rank, s, &sources[0]))
        return verify_read_own(r, rank, r->pc[rank], &sources[0], -1);
    for (uint32_t k = 0; status == WEFT_OK && k < count; k++)
        status = check_overlap(r, rank, &sources[k], &s->dst);
    uint32_t chunks = verify_place_chunks(&s->dst);
    for (uint32_t i = 0; status == WEFT_OK && i < chunks; i++) {
        verify_value value, other;
        status = verify_read(r, rank, r->pc[rank], &sources[0], i, &value);
        for (uint32_t k = 1; status == WEFT_OK && k < count; k++) {
            status = verify_read(r, rank, r->pc[rank], &sources[k], i, &other);
            if (status == WEFT_OK)
                status = verify_combine(r, rank, r->pc[rank], &value, &other);
        }
        if (status == WEFT_OK)
            status = store(r, rank, s, i, &value);
    }
    return status;
}

static bool skipped(const verify_run *r, const weft_step *s)
{
    return (s->flags & WEFT_STEP_IF_MAPPED) && !r->v->any_mapped;
}

/* A skipped signal keeps its number, so that those after it mean the same, but orders nothing. */
static weft_status raise_signal(verify_run *r, int rank, const weft_step *s)
{
    uint32_t number = r->signals[rank]++;
    if (!skipped(r, s)) {
        uint32_t *copy = clock_copy(r, rank, r->pc[rank] + 1);
        if (!copy)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
        r->signal_clock[r->first_signal[rank] + number] = copy;
    }
    int *link = &r->waiters[rank];
    while (*link >= 0) {
        int waiter = *link;
        if (current(r, waiter)->value <= r->signals[rank]) {
            *link = r->next_waiter[waiter];
            make_ready(r, waiter);
        } else {
            link = &r->next_waiter[waiter];
        }
    }
    return WEFT_OK;
}

static weft_status see_signal(verify_run *r, int rank, const weft_step *s)
{
    if (s->value == 0)
        return WEFT_OK;
    const uint32_t *then = r->signal_clock[r->first_signal[s->from] + s->value - 1];
    if (!then)
        return verify_fail(r->v, rank, r->lane, r->pc[rank],
                           "waits in every case for a signal that is only raised if buffers are mapped");
    clock_join(r, rank, s->from, then);
    return WEFT_OK;
}

static bool pushes(const verify *v, int rank)
{
    return v->collective != WEFT_BROADCAST || v->rank[rank].in_place;
}

static weft_status execute(verify_run *r, int rank, const weft_step *s)
{
    switch (s->kind) {
    case WEFT_STEP_SEND:
        return begin_send(r, rank, s);
    case WEFT_STEP_RECV:
    case WEFT_STEP_RECV_REDUCE:
        return receive(r, rank, s);
    case WEFT_STEP_COPY:
        if ((s->flags & WEFT_STEP_PUSHED) && r->v->rank[rank].mapped && pushes(r->v, s->src.rank))
            return verify_pushed(r, rank, r->pc[rank], &s->src, &s->dst);
        return combine_sources(r, rank, s, &s->src, 1);
    case WEFT_STEP_REDUCE:
        return combine_sources(r, rank, s, &r->v->schedules[rank]->sources[s->value], s->sources);
    case WEFT_STEP_PUBLISH: {
        bool push = s->flags & WEFT_STEP_PUSH;
        if (push && !pushes(r->v, rank))
            return WEFT_OK;
        weft_status status = verify_publish(r, rank, r->pc[rank], &s->src);
        return push && status == WEFT_OK ? verify_push(r, rank, r->pc[rank], &s->src) : status;
    }
    case WEFT_STEP_SIGNAL:
        return raise_signal(r, rank, s);
    default:
        return skipped(r, s) ? WEFT_OK : see_signal(r, rank, s);
    }
}

/* May the rank's current step begin? If not, says what it waits for and sees to it that it is woken. */
static bool may_run(verify_run *r, int rank, const weft_step *s)
{
    if (s->fence > r->done[rank]) {
        r->blocked[rank] = ON_FENCE;
        return false;
    }
    if (verify_receives(s) && r->sends[s->from] <= incoming(r, rank)) {
        r->blocked[rank] = ON_RECEIVE;
        return false;
    }
    if (s->kind == WEFT_STEP_WAIT && !skipped(r, s) && r->signals[s->from] < s->value) {
        r->blocked[rank] = ON_SIGNAL;
        r->next_waiter[rank] = r->waiters[s->from];
        r->waiters[s->from] = rank;
        return false;
    }
    return true;
}

static weft_status run_rank(verify_run *r, int rank)
{
    uint32_t count = verify_steps(r->v, rank, r->lane)->count;
    while (r->pc[rank] < count) {
        const weft_step *s = current(r, rank);
        if (!may_run(r, rank, s))
            return WEFT_OK;
        if (s->fence > r->fence[rank])
            r->fence[rank] = s->fence;
        weft_status status = execute(r, rank, s);
        if (status != WEFT_OK)
            return status;
        r->pc[rank]++;
    }
    r->blocked[rank] = ENDED;
    return WEFT_OK;
}

/* ---- deadlock ---------------------------------------------------------------------------------- */

static int waited_for(const verify_run *r, int rank)
{
    const weft_step *s = current(r, rank);
    if (r->blocked[rank] != ON_FENCE)
        return s->from;
    uint32_t step = r->v->send_step[send_index(r, rank, r->done[rank])];
    return verify_steps(r->v, rank, r->lane)->steps[step].to;
}

static const char *waited_what(const verify_run *r, int rank)
{
    return r->blocked[rank] == ON_FENCE ? "its fence" : r->blocked[rank] == ON_SIGNAL ? "a signal" : "data";
}

static weft_status fail_deadlock(const verify_run *r)
{
    int rank = 0;
    while (r->blocked[rank] == ENDED)
        rank++;
    for (int i = 0; i < r->v->ranks && r->blocked[rank] != ENDED;
         i++) /* after that many steps it is in the cycle */
        rank = waited_for(r, rank);
    char chain[512];
    size_t used = 0;
    int at = rank;
    for (int i = 0; i < 4; i++) {
        int next = waited_for(r, at);
        char step[128];
        weft_step_text(r->v->schedules[next], r->lane, r->pc[next], step, sizeof(step));
        int n = snprintf(chain + used, sizeof(chain) - used, " rank %d, which is at %s and waits for %s of",
                         next, step, waited_what(r, next));
        used += n > 0 && (size_t)n < sizeof(chain) - used ? (size_t)n : 0;
        at = next;
        if (at == rank)
            break;
    }
    return verify_fail(r->v, rank, r->lane, r->pc[rank], "waits for ever: for %s of%s rank %d%s",
                       waited_what(r, rank), chain, waited_for(r, at),
                       at == rank ? "" : ", and so on in a circle");
}

/* ---- the run ----------------------------------------------------------------------------------- */

static bool needs_clocks(const verify *v, uint32_t lane)
{
    if (v->collective == WEFT_BARRIER)
        return true;
    for (int rank = 0; rank < v->ranks; rank++) {
        const weft_lane *l = verify_steps(v, rank, lane);
        for (uint32_t i = 0; i < l->count; i++) {
            const weft_step *s = &l->steps[i];
            if (s->kind == WEFT_STEP_SIGNAL || s->kind == WEFT_STEP_WAIT || s->kind == WEFT_STEP_PUBLISH ||
                (s->kind == WEFT_STEP_COPY && s->src.rank != rank))
                return true;
            for (uint32_t k = 0; s->kind == WEFT_STEP_REDUCE && k < s->sources; k++)
                if (v->schedules[rank]->sources[s->value + k].rank != rank)
                    return true;
        }
    }
    return false;
}

static weft_status make_clocks(verify_run *r, size_t sends)
{
    size_t ranks = (size_t)r->v->ranks, signals = 0;
    for (int rank = 0; rank < r->v->ranks; rank++) {
        r->first_signal[rank] = signals;
        signals += verify_lane_of(r->v, rank, r->lane)->signals;
    }
    r->clock = weft_alloc_array(ranks * ranks, sizeof(*r->clock));
    r->send_clock = weft_alloc_array(sends + 1, sizeof(*r->send_clock));
    r->signal_clock = weft_alloc_array(signals + 1, sizeof(*r->signal_clock));
    if (!r->clock || !r->send_clock || !r->signal_clock)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
    for (size_t rank = 0; rank < ranks; rank++)
        r->clock[rank * ranks + rank] = 1;
    return WEFT_OK;
}

static size_t lane_sends(const verify *v, uint32_t lane)
{
    size_t sends = 0;
    for (int rank = 0; rank < v->ranks; rank++)
        sends += verify_lane_of(v, rank, lane)->sends;
    return sends;
}

static weft_status run_begin(verify_run *r)
{
    size_t ranks = (size_t)r->v->ranks, sends = lane_sends(r->v, r->lane);
    r->pc = weft_alloc_array(ranks * 6, sizeof(uint32_t));
    r->ready = weft_alloc_array(ranks * 3, sizeof(int));
    r->first_signal = weft_alloc_array(ranks, sizeof(*r->first_signal));
    r->taken = weft_alloc(sends + 1);
    r->blocked = weft_alloc(ranks);
    if (!r->pc || !r->ready || !r->first_signal || !r->taken || !r->blocked)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to verify a schedule");
    r->sends = r->pc + ranks;
    r->recvs = r->pc + 2 * ranks;
    r->signals = r->pc + 3 * ranks;
    r->fence = r->pc + 4 * ranks;
    r->done = r->pc + 5 * ranks;
    r->waiters = r->ready + ranks;
    r->next_waiter = r->ready + 2 * ranks;
    for (int rank = r->v->ranks - 1; rank >= 0; rank--) {
        r->waiters[rank] = -1;
        make_ready(r, rank);
    }
    return needs_clocks(r->v, r->lane) ? make_clocks(r, sends) : WEFT_OK;
}

static void run_end(verify_run *r)
{
    size_t sends = lane_sends(r->v, r->lane), signals = 0;
    for (int rank = 0; rank < r->v->ranks; rank++)
        signals += verify_lane_of(r->v, rank, r->lane)->signals;
    for (size_t i = 0; r->send_clock && i < sends; i++)
        weft_free(r->send_clock[i]);
    for (size_t i = 0; r->signal_clock && i < signals; i++)
        weft_free(r->signal_clock[i]);
    while (r->free_clocks) {
        void *next = *(void **)r->free_clocks;
        weft_free(r->free_clocks);
        r->free_clocks = next;
    }
    weft_free(r->clock);
    weft_free(r->send_clock);
    weft_free(r->signal_clock);
    weft_free(r->pc);
    weft_free(r->ready);
    weft_free(r->first_signal);
    weft_free(r->taken);
    weft_free(r->blocked);
}

static weft_status run_all(verify_run *r)
{
    verify *v = r->v;
    weft_status status = WEFT_OK;
    while (status == WEFT_OK && r->ready_count > 0)
        status = run_rank(r, r->ready[--r->ready_count]);
    if (status != WEFT_OK)
        return status;
    for (int rank = 0; rank < v->ranks; rank++)
        if (r->blocked[rank] != ENDED)
            return fail_deadlock(r);
    size_t ranks = (size_t)v->ranks;
    for (size_t i = 0; v->arrived && i < ranks * ranks; i++)
        v->arrived[i] |= r->clock[i];
    return r->clock ? verify_exit(r) : WEFT_OK;
}

weft_status verify_run_lane(verify *v, uint32_t lane)
{
    verify_run r = { .v = v, .lane = lane };
    weft_status status = run_begin(&r);
    if (status == WEFT_OK)
        status = run_all(&r);
    run_end(&r);
    return status;
}

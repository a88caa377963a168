/* Every planner's schedules run by a small model of the executor on symbolic values, lanes of all ranks
 * advancing in random order: in place and not, published buffers mapped and staged, buffers overwritten as
 * soon as a rank has left. The model knows neither time nor bytes; the verifier of the library, which is
 * checked here on the same plans, proves more about order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/planner.h"

/* What a chunk holds: a sum (who contributed) and a map x -> scale * x + offset (in which order), how many
 * operands, its size and whether a step declared it final. */
typedef struct value {
    uint64_t sum, scale, offset;
    int operands, size;
    bool valid, final;
} value;

typedef struct message {
    weft_place place;
    uint32_t send; /* index among the sends of the sender's lane */
} message;

typedef struct queue { /* of one (from, to, lane) */
    message *items;
    uint32_t head, count, capacity;
} queue;

typedef struct lane_state {
    uint32_t next, sent, signals;
    uint32_t done; /* the first `done` sends are over */
    bool *send_done;
} lane_state;

typedef struct rank_state {
    const weft_schedule *s;
    value *cells[WEFT_BUFFER_COUNT], *staged[2];
    bool *published[2];
    lane_state *lanes;
    bool left;
} rank_state;

typedef struct model {
    weft_plan_request request;
    rank_state *ranks;
    queue *queues; /* [from][to][lane] */
    int n;
    uint32_t lanes;
    bool in_place, mapped;
    uint64_t random;
    char fault[256];
} model;

#define FAULT(m, ...) (void)((m)->fault[0] ? 0 : snprintf((m)->fault, sizeof (m)->fault, __VA_ARGS__))

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

static uint64_t next_random(model *m)
{
    return m->random = mix(m->random + 0x1234567);
}

static uint32_t chunks_of(const weft_schedule *s, int buffer)
{
    return buffer == WEFT_SCRATCH
               ? s->scratch_chunks
               : (buffer == WEFT_INPUT ? s->input_blocks : s->output_blocks) * s->chunks_per_block;
}

static bool reduces(weft_collective c)
{
    return c == WEFT_ALL_REDUCE || c == WEFT_REDUCE || c == WEFT_REDUCE_SCATTER;
}

/* The size of a chunk of input or output: in the vector collectives as different as may be. */
static int size_of(const model *m, int rank, int buffer, int block)
{
    if (!m->request.vector)
        return 1;
    switch (m->request.collective) {
    case WEFT_ALL_TO_ALL:
        return buffer == WEFT_INPUT ? rank * 100 + block : block * 100 + rank;
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return buffer == WEFT_INPUT ? rank : block;
    default:
        return buffer == WEFT_OUTPUT ? rank : block;
    }
}

static value input_value(const model *m, int rank, uint32_t chunk, uint32_t chunks_per_block)
{
    uint64_t x = mix((uint64_t)rank * 1000003 + chunk + 1);
    return (value){ .sum = x, .scale = x | 1, .offset = mix(x), .operands = 1, .valid = true,
                    .size = size_of(m, rank, WEFT_INPUT, (int)(chunk / chunks_per_block)) };
}

static value combine(model *m, value left, value right)
{
    if (!left.valid || !right.valid)
        FAULT(m, "an operand was not there");
    if (left.size != right.size)
        FAULT(m, "operands of different size");
    if (left.final || right.final)
        FAULT(m, "an operand was final already");
    return (value){ .sum = left.sum + right.sum,
                   .scale = left.scale * right.scale,
                   .offset = left.scale * right.offset + left.offset,
                   .operands = left.operands + right.operands,
                   .size = left.size,
                   .valid = left.valid && right.valid };
}

/* In place, input and output chunks that hold equal data share a cell. */
static value *cell(const model *m, int rank, int buffer, uint32_t chunk)
{
    const rank_state *r = &m->ranks[rank];
    uint32_t own = (uint32_t)rank * r->s->chunks_per_block;
    if (m->in_place && !r->s->not_in_place) {
        bool wide_output = r->s->output_blocks > r->s->input_blocks,
             wide_input = r->s->input_blocks > r->s->output_blocks;
        if (wide_input && buffer == WEFT_OUTPUT)
            return &r->cells[WEFT_INPUT][own + chunk];
        if (wide_output && buffer == WEFT_INPUT)
            return &r->cells[WEFT_OUTPUT][own + chunk];
        if (buffer == WEFT_INPUT && !wide_input)
            return &r->cells[WEFT_OUTPUT][chunk];
    }
    return &r->cells[buffer][chunk];
}

static uint32_t chunk_of(const weft_place *p, uint32_t i)
{
    return p->first + i / p->count * p->stride + i % p->count;
}

static value load(model *m, int reader, const weft_place *p, uint32_t i)
{
    uint32_t chunk = chunk_of(p, i);
    if (chunk >= chunks_of(m->ranks[p->rank].s, (int)p->buffer)) {
        FAULT(m, "read beyond a buffer");
        return (value){ 0 };
    }
    if (p->rank == reader)
        return *cell(m, p->rank, (int)p->buffer, chunk);
    if (p->buffer == WEFT_SCRATCH || !m->ranks[p->rank].published[p->buffer][chunk]) {
        FAULT(m, "rank %d reads chunk %u of buffer %u of rank %d, which is not published", reader, chunk,
              p->buffer, p->rank);
        return (value){ 0 };
    }
    return m->mapped ? *cell(m, p->rank, (int)p->buffer, chunk) : m->ranks[p->rank].staged[p->buffer][chunk];
}

static void store(model *m, int rank, const weft_place *p, uint32_t i, value v)
{
    uint32_t chunk = chunk_of(p, i);
    const weft_schedule *s = m->ranks[rank].s;
    if (p->rank != rank || chunk >= chunks_of(s, (int)p->buffer)) {
        FAULT(m, "rank %d writes where it may not", rank);
        return;
    }
    if (!v.valid)
        FAULT(m, "rank %d stores what is not there", rank);
    if (p->buffer != WEFT_SCRATCH &&
        v.size != size_of(m, rank, (int)p->buffer, (int)(chunk / s->chunks_per_block)))
        FAULT(m, "rank %d stores a chunk of the wrong size", rank);
    *cell(m, rank, (int)p->buffer, chunk) = v;
}

static value finished(model *m, value v, unsigned flags)
{
    if (!(flags & WEFT_STEP_FINAL))
        return v;
    if (v.operands != m->n)
        FAULT(m, "a final value has %d operands", v.operands);
    v.final = true;
    return v;
}

static queue *queue_of(model *m, int from, int to, uint32_t lane)
{
    return &m->queues[((size_t)from * (size_t)m->n + (size_t)to) * m->lanes + lane];
}

static void push(model *m, int from, int to, uint32_t lane, weft_place place)
{
    queue *q = queue_of(m, from, to, lane);
    if (q->count == q->capacity) {
        q->capacity = q->capacity ? q->capacity * 2 : 4;
        q->items = weft_realloc(q->items, q->capacity * sizeof(message));
        assert_non_null(q->items);
    }
    q->items[q->count++] = (message){ place, m->ranks[from].lanes[lane].sent++ };
}

static void end_send(model *m, int rank, uint32_t lane, uint32_t send)
{
    lane_state *l = &m->ranks[rank].lanes[lane];
    l->send_done[send] = true;
    while (l->done < l->sent && l->send_done[l->done])
        l->done++;
}

static void receive(model *m, int rank, const weft_step *step, uint32_t lane, const message *in)
{
    uint32_t items = step->dst.count * step->dst.repeat;
    if (in->place.count != step->dst.count || in->place.repeat != step->dst.repeat)
        FAULT(m, "rank %d receives another shape than rank %d sent", rank, step->from);
    for (uint32_t i = 0; i < items && !m->fault[0]; i++) {
        value v = load(m, step->from, &in->place, i);
        if (step->kind == WEFT_STEP_RECV_REDUCE) {
            value own = load(m, rank, &step->src, i);
            v = step->flags & WEFT_STEP_INCOMING_FIRST ? combine(m, v, own) : combine(m, own, v);
            v = finished(m, v, step->flags);
        }
        store(m, rank, &step->dst, i, v);
    }
    end_send(m, step->from, lane, in->send);
}

static void run_local(model *m, int rank, const weft_step *step)
{
    rank_state *r = &m->ranks[rank];
    const weft_place *place = step->kind == WEFT_STEP_PUBLISH ? &step->src : &step->dst;
    for (uint32_t i = 0; i < place->count * place->repeat && !m->fault[0]; i++) {
        if (step->kind == WEFT_STEP_PUBLISH) {
            uint32_t chunk = chunk_of(place, i);
            r->published[place->buffer][chunk] = true;
            r->staged[place->buffer][chunk] = load(m, rank, place, i);
            continue;
        }
        if (step->kind == WEFT_STEP_COPY) {
            store(m, rank, place, i, finished(m, load(m, rank, &step->src, i), step->flags));
            continue;
        }
        value v = load(m, rank, &r->s->sources[step->value], i);
        for (uint32_t k = 1; k < step->sources; k++)
            v = combine(m, v, load(m, rank, &r->s->sources[step->value + k], i));
        store(m, rank, place, i, finished(m, v, step->flags));
    }
}

/* Tries one step; false: it must wait. */
static bool advance(model *m, int rank, uint32_t lane)
{
    rank_state *r = &m->ranks[rank];
    lane_state *l = &r->lanes[lane];
    const weft_step *step = &r->s->lane[lane].steps[l->next];
    if (l->done < step->fence)
        return false;
    bool skipped = (step->flags & WEFT_STEP_IF_MAPPED) && !m->mapped;
    if (step->kind == WEFT_STEP_SEND) {
        push(m, rank, step->to, lane, step->src);
    } else if (step->kind == WEFT_STEP_RECV || step->kind == WEFT_STEP_RECV_REDUCE) {
        queue *q = queue_of(m, step->from, rank, lane);
        if (q->head == q->count)
            return false;
        message in = q->items[q->head++];
        receive(m, rank, step, lane, &in);
        if (step->to >= 0)
            push(m, rank, step->to, lane, step->dst);
    } else if (step->kind == WEFT_STEP_SIGNAL) {
        l->signals += skipped ? 0 : 1;
    } else if (step->kind == WEFT_STEP_WAIT) {
        if (!skipped && m->ranks[step->from].lanes[lane].signals < step->value)
            return false;
    } else {
        run_local(m, rank, step);
    }
    l->next++;
    return true;
}

static value expected(model *m, int rank, uint32_t chunk, uint32_t c)
{
    uint32_t block = chunk / c, part = chunk % c, own = (uint32_t)rank * c;
    value sum;
    switch (m->request.collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return input_value(m, (int)block, part, c);
    case WEFT_BROADCAST:
        return input_value(m, m->request.root, chunk, c);
    case WEFT_SCATTER:
        return input_value(m, m->request.root, own + part, c);
    case WEFT_ALL_TO_ALL:
        return input_value(m, (int)block, own + part, c);
    default:
        own = m->request.collective == WEFT_REDUCE_SCATTER ? own : 0;
        sum = input_value(m, 0, own + chunk, c);
        for (int r = 1; r < m->n; r++)
            sum = combine(m, sum, input_value(m, r, own + chunk, c));
        return sum;
    }
}

static void check_output(model *m, int rank)
{
    const weft_schedule *s = m->ranks[rank].s;
    bool at_root = s->collective == WEFT_REDUCE || s->collective == WEFT_GATHER;
    if (at_root && rank != m->request.root)
        return;
    for (uint32_t i = 0; i < chunks_of(s, WEFT_OUTPUT); i++) {
        value got = *cell(m, rank, WEFT_OUTPUT, i), want = expected(m, rank, i, s->chunks_per_block);
        bool order = !s->keeps_order || (got.scale == want.scale && got.offset == want.offset);
        if (!got.valid || got.sum != want.sum || got.operands != want.operands || !order)
            FAULT(m, "rank %d has a wrong output chunk %u%s", rank, i, got.sum == want.sum ? " (order)" : "");
        if (reduces(s->collective) && !got.final)
            FAULT(m, "rank %d has output chunk %u that no step declared final", rank, i);
    }
}

/* A rank whose lanes and sends are over is checked, and its buffers are anyone's from then on. */
static void leave(model *m, int rank)
{
    rank_state *r = &m->ranks[rank];
    for (uint32_t l = 0; l < r->s->lanes; l++)
        if (r->lanes[l].next < r->s->lane[l].count || r->lanes[l].done < r->lanes[l].sent)
            return;
    check_output(m, rank);
    for (int buffer = 0; buffer < WEFT_BUFFER_COUNT; buffer++)
        memset(r->cells[buffer], 0, chunks_of(r->s, buffer) * sizeof(value));
    r->left = true;
}

static void run(model *m)
{
    size_t total = (size_t)m->n * m->lanes;
    int gone = 0;
    while (gone < m->n && !m->fault[0]) {
        bool moved = false;
        size_t start = next_random(m) % total, stride = m->n > 1 ? 1 + next_random(m) % 3 : 1;
        while (total % stride == 0 && stride > 1)
            stride--;
        for (size_t i = 0; i < total && !m->fault[0]; i++) {
            size_t pick = (start + i * stride) % total;
            int rank = (int)(pick / m->lanes);
            uint32_t lane = (uint32_t)(pick % m->lanes);
            rank_state *r = &m->ranks[rank];
            uint32_t burst = 1 + (uint32_t)(next_random(m) % 8);
            for (; burst && r->lanes[lane].next < r->s->lane[lane].count && advance(m, rank, lane); burst--)
                moved = true;
            if (!r->left) {
                leave(m, rank);
                gone += r->left;
                moved |= r->left;
            }
        }
        if (!moved)
            FAULT(m, "deadlock");
    }
    for (size_t q = 0; q < (size_t)m->n * (size_t)m->n * m->lanes && !m->fault[0]; q++)
        if (m->queues[q].head != m->queues[q].count)
            FAULT(m, "a message nobody received");
}

static void create_rank(model *m, int rank, const weft_schedule *s)
{
    rank_state *r = &m->ranks[rank];
    r->s = s;
    for (int buffer = 0; buffer < WEFT_BUFFER_COUNT; buffer++)
        r->cells[buffer] = weft_alloc_array(chunks_of(s, buffer) + 1, sizeof(value));
    for (int buffer = 0; buffer < 2; buffer++) {
        r->staged[buffer] = weft_alloc_array(chunks_of(s, buffer) + 1, sizeof(value));
        r->published[buffer] = weft_alloc_array(chunks_of(s, buffer) + 1, sizeof(bool));
    }
    r->lanes = weft_alloc_array(s->lanes, sizeof(lane_state));
    for (uint32_t l = 0; l < s->lanes; l++)
        r->lanes[l].send_done = weft_alloc_array(s->lane[l].sends + 1, sizeof(bool));
    bool reads_root_only = s->collective == WEFT_BROADCAST || s->collective == WEFT_SCATTER;
    for (uint32_t i = 0; i < chunks_of(s, WEFT_INPUT) && (!reads_root_only || rank == s->root); i++)
        *cell(m, rank, WEFT_INPUT, i) = input_value(m, rank, i, s->chunks_per_block);
}

static void destroy(model *m)
{
    for (int rank = 0; rank < m->n; rank++) {
        rank_state *r = &m->ranks[rank];
        for (int buffer = 0; buffer < WEFT_BUFFER_COUNT; buffer++)
            weft_free(r->cells[buffer]);
        for (int buffer = 0; buffer < 2; buffer++) {
            weft_free(r->staged[buffer]);
            weft_free(r->published[buffer]);
        }
        for (uint32_t l = 0; l < m->lanes; l++)
            weft_free(r->lanes[l].send_done);
        weft_free(r->lanes);
    }
    for (size_t q = 0; q < (size_t)m->n * (size_t)m->n * m->lanes; q++)
        weft_free(m->queues[q].items);
    weft_free(m->queues);
    weft_free(m->ranks);
}

/* What every rank's schedule must say alike. */
static void check_agreement(const weft_schedule *a, const weft_schedule *b)
{
    assert_int_equal(a->chunks_per_block, b->chunks_per_block);
    assert_int_equal(a->scratch_chunks, b->scratch_chunks);
    assert_int_equal(a->lanes, b->lanes);
    assert_int_equal(a->local, b->local);
    assert_int_equal(a->publishes_input, b->publishes_input);
    assert_int_equal(a->publishes_output, b->publishes_output);
    assert_int_equal(a->not_in_place, b->not_in_place);
    assert_int_equal(a->keeps_order, b->keeps_order);
}

/* Plans all ranks and runs the model in every combination of placements. */
static void check_plan(const weft_plan_request *request)
{
    int n = request->group.ranks;
    char text[512];
    if (weft_plan_verify(request, text, sizeof text) != WEFT_OK)
        fail_msg("%s by %s, %d ranks, root %d: %s", weft_collective_name(request->collective),
                 weft_algorithm_name(request->algorithm), n, request->root, text);
    weft_schedule **schedules = weft_alloc_array((size_t)n, sizeof *schedules);
    for (int r = 0; r < n; r++) {
        if (weft_plan(request, r, &schedules[r]) != WEFT_OK)
            fail_msg("%s", weft_last_error());
        check_agreement(schedules[0], schedules[r]);
        for (uint32_t l = 0; l < schedules[r]->lanes; l++)
            for (uint32_t i = 0; i < schedules[r]->lane[l].count; i++) {
                const weft_step *step = &schedules[r]->lane[l].steps[i];
                int peer = step->kind == WEFT_STEP_WAIT ? step->from : step->src.rank;
                if (request->group.host && (step->kind == WEFT_STEP_WAIT || step->kind == WEFT_STEP_COPY))
                    assert_int_equal(request->group.host[r], request->group.host[peer]);
            }
    }
    for (unsigned mode = 0; mode < 4; mode++) {
        model m = { .request = *request,
                   .n = n,
                   .lanes = schedules[0]->lanes,
                   .in_place = mode & 1,
                   .mapped = mode & 2,
                   .random = mix(mode + (uint64_t)n * 77) };
        if (m.mapped && !schedules[0]->local)
            continue;
        m.ranks = weft_alloc_array((size_t)n, sizeof *m.ranks);
        m.queues = weft_alloc_array((size_t)n * (size_t)n * m.lanes, sizeof *m.queues);
        for (int r = 0; r < n; r++)
            create_rank(&m, r, schedules[r]);
        run(&m);
        destroy(&m);
        if (m.fault[0])
            fail_msg("%s by %s, %d ranks, root %d, lanes %d, radix %d%s%s%s: %s",
                     weft_collective_name(request->collective), weft_algorithm_name(request->algorithm), n,
                     request->root, request->lanes, request->radix, request->vector ? ", vector" : "",
                     m.in_place ? ", in place" : "", m.mapped ? ", mapped" : "", m.fault);
    }
    for (int r = 0; r < n; r++)
        weft_schedule_free(schedules[r]);
    weft_free(schedules);
}

static bool rooted(weft_collective c)
{
    return c == WEFT_BROADCAST || c == WEFT_REDUCE || c == WEFT_GATHER || c == WEFT_SCATTER;
}

/* Roots worth trying: all where few ranks, else a few. */
static int next_root(const weft_plan_request *request, int root)
{
    int n = request->group.ranks;
    if (!rooted(request->collective))
        return n;
    return n <= 12 ? root + 1 : root == 0 ? 1 : root == 1 ? n / 2 + 1 : root == n / 2 + 1 ? n - 1 : n;
}

static void check_all_roots(const weft_planner *p, weft_plan_request request)
{
    request.algorithm = p->algorithm;
    request.collective = p->collective;
    for (int root = 0; root < request.group.ranks; root = next_root(&request, root)) {
        request.root = root;
        check_plan(&request);
    }
}

static void every_planner_gives_the_right_result(void **state)
{
    (void)state;
    for (const weft_planner *p = weft_planners; p->plan; p++)
        for (int n = 1; n <= 64; n++)
            check_all_roots(p, (weft_plan_request){ .group = { .ranks = n } });
}

static void every_planner_works_with_lanes_and_radices(void **state)
{
    (void)state;
    static const int ranks[] = { 2, 3, 5, 8, 13, 16 };
    for (const weft_planner *p = weft_planners; p->plan; p++)
        for (size_t i = 0; i < ARRAY_LEN(ranks); i++) {
            for (int lanes = 2; lanes <= 5 && !p->single_lane; lanes++)
                check_all_roots(p, (weft_plan_request){ .group = { .ranks = ranks[i] }, .lanes = lanes });
            for (int radix = 2; radix <= 9 && p->algorithm == WEFT_KNOMIAL; radix++)
                check_all_roots(p, (weft_plan_request){ .group = { .ranks = ranks[i] }, .radix = radix });
        }
}

static void vector_planners_join_only_equal_sizes(void **state)
{
    (void)state;
    for (const weft_planner *p = weft_planners; p->plan; p++)
        for (int n = 2; p->vector && n <= 17; n++)
            check_all_roots(p, (weft_plan_request){ .group = { .ranks = n }, .vector = true });
}

static void every_planner_takes_any_placement_on_hosts(void **state)
{
    (void)state;
    static const char *const placements[] = {
        "00", "01", "001", "010", "011", "0123", "0011", "0101", "0001", "0112", "00011222", "01010101",
        "01234567", "00000001", "012012012", "0001233", "000111222333", "001122330123", "0000000000000001",
        "0123401234012",
    };
    for (const weft_planner *p = weft_planners; p->plan; p++)
        for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
            int host[32], n = (int)strlen(placements[i]);
            for (int r = 0; r < n; r++)
                host[r] = placements[i][r] - '0';
            weft_plan_request request = { .algorithm = p->algorithm, .collective = p->collective,
                                          .group = { .ranks = n, .host = host } };
            if (!weft_plan_obstacle(&request))
                check_all_roots(p, request);
        }
}

/* The verifier alone, which takes larger groups than the model. */
static void verify_sample(weft_algorithm algorithm, weft_collective collective, int ranks, int ranks_per_host,
                          int root)
{
    int *host = weft_alloc_array((size_t)ranks, sizeof(int));
    for (int r = 0; r < ranks; r++)
        host[r] = r / ranks_per_host;
    char text[512];
    weft_plan_request request = { .algorithm = algorithm, .collective = collective, .root = root,
                                  .group = { .ranks = ranks, .host = host } };
    if (weft_plan_verify(&request, text, sizeof text) != WEFT_OK)
        fail_msg("%s by %s, %d ranks, %d per host: %s", weft_collective_name(collective),
                 weft_algorithm_name(algorithm), ranks, ranks_per_host, text);
    weft_free(host);
}

static void planners_of_few_steps_reach_a_thousand_ranks(void **state)
{
    (void)state;
    static const int ranks[] = { 100, 127, 128, 129, 1000, 1024 };
    for (size_t i = 0; i < ARRAY_LEN(ranks); i++)
        for (const weft_planner *p = weft_planners; p->plan; p++) {
            bool short_lists = p->algorithm == WEFT_TREE || p->algorithm == WEFT_KNOMIAL ||
                               p->algorithm == WEFT_LINEAR || p->algorithm == WEFT_RECURSIVE_DOUBLING;
            bool small = p->collective == WEFT_ALL_REDUCE || p->collective == WEFT_REDUCE ||
                         p->collective == WEFT_BROADCAST || p->collective == WEFT_BARRIER;
            if (!p->one_host && (ranks[i] < 130 || (short_lists && small)))
                verify_sample(p->algorithm, p->collective, ranks[i], 8,
                              rooted(p->collective) ? ranks[i] / 3 : 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planner_gives_the_right_result),
        cmocka_unit_test(every_planner_works_with_lanes_and_radices),
        cmocka_unit_test(vector_planners_join_only_equal_sizes),
        cmocka_unit_test(every_planner_takes_any_placement_on_hosts),
        cmocka_unit_test(planners_of_few_steps_reach_a_thousand_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

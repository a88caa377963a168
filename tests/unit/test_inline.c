/* The inline path, in shared memory and by messages: the same steps in the same order as the executor, the same results, ranks of
 * one collective on either path, and what does not end there goes on in the executor. */
#include "../checks.h"

#include "core/comm.h"

enum { TRACE_MAX = 256, WARM = 3, TRIES = 50 };

/* Runs one collective on this rank, each with fresh input, and compares. */
typedef struct call {
    weft_collective collective;
    size_t count; /* per block */
    bool in_place;
} call;

static float value(int rank, size_t i, int round)
{
    return (float)((size_t)rank * 7 + i % 13 + (size_t)round);
}

static size_t blocks_of(weft_collective c, bool output, int ranks)
{
    bool many = output ? c == WEFT_ALL_GATHER || c == WEFT_ALL_TO_ALL || c == WEFT_GATHER
                       : c == WEFT_REDUCE_SCATTER || c == WEFT_ALL_TO_ALL || c == WEFT_SCATTER;
    return many ? (size_t)ranks : 1;
}

static weft_status issue(weft_comm *comm, const call *k, const float *in, float *out, int root, weft_request **request)
{
    switch (k->collective) {
    case WEFT_ALL_REDUCE: return weft_all_reduce(comm, in, out, k->count, WEFT_F32, WEFT_SUM, request);
    case WEFT_ALL_GATHER: return weft_all_gather(comm, in, out, k->count, WEFT_F32, request);
    case WEFT_REDUCE_SCATTER: return weft_reduce_scatter(comm, in, out, k->count, WEFT_F32, WEFT_SUM, request);
    case WEFT_BROADCAST: return weft_broadcast(comm, in, out, k->count, WEFT_F32, root, request);
    case WEFT_REDUCE: return weft_reduce(comm, in, out, k->count, WEFT_F32, WEFT_AVG, root, request);
    case WEFT_GATHER: return weft_gather(comm, in, out, k->count, WEFT_F32, root, request);
    case WEFT_SCATTER: return weft_scatter(comm, in, out, k->count, WEFT_F32, root, request);
    case WEFT_ALL_TO_ALL: return weft_all_to_all(comm, in, out, k->count, WEFT_F32, request);
    default: return weft_barrier(comm, request);
    }
}

/* What element i of the output must be; block b of it. */
static float expected(const call *k, int rank, int ranks, int root, size_t i, int round)
{
    size_t block = k->count ? i / k->count : 0, at = k->count ? i % k->count : 0;
    float sum = 0;
    switch (k->collective) {
    case WEFT_ALL_REDUCE:
        for (int r = 0; r < ranks; r++)
            sum += value(r, i, round);
        return sum;
    case WEFT_REDUCE:
        for (int r = 0; r < ranks; r++)
            sum += value(r, i, round);
        return sum / (float)ranks;
    case WEFT_REDUCE_SCATTER:
        for (int r = 0; r < ranks; r++)
            sum += value(r, (size_t)rank * k->count + i, round);
        return sum;
    case WEFT_ALL_GATHER:
    case WEFT_GATHER: return value((int)block, at, round);
    case WEFT_BROADCAST: return value(root, i, round);
    case WEFT_SCATTER: return value(root, (size_t)rank * k->count + i, round);
    default: return value((int)block, (size_t)rank * k->count + at, round);
    }
}

static void run_once(weft_comm *comm, const call *k, int root, int round, bool blocking)
{
    int rank = weft_comm_rank(comm), ranks = weft_comm_size(comm);
    size_t most = k->count * (size_t)ranks + 1, outs = k->count * blocks_of(k->collective, true, ranks);
    float *in = calloc(most, sizeof *in), *out = calloc(most, sizeof *out);
    for (size_t i = 0; i < most; i++)
        in[i] = value(rank, i, round);
    memset(out, 0x55, most * sizeof *out);
    if (k->in_place && k->collective == WEFT_ALL_REDUCE)
        memcpy(out, in, most * sizeof *out);
    const float *from = k->in_place && k->collective == WEFT_ALL_REDUCE ? out : in;
    weft_request *request = NULL;
    CHECK_OK(issue(comm, k, from, out, root, blocking ? NULL : &request));
    if (!blocking)
        CHECK_OK(weft_wait(&request));
    bool has = k->collective != WEFT_BARRIER && ((k->collective != WEFT_REDUCE && k->collective != WEFT_GATHER) || rank == root);
    for (size_t i = 0; has && i < outs; i++)
        if (!CHECK(out[i] == expected(k, rank, ranks, root, i, round),
                   "%s of %zu, rank %d of %d, root %d, element %zu: %g, not %g", weft_collective_name(k->collective), k->count,
                   rank, ranks, root, i, (double)out[i], (double)expected(k, rank, ranks, root, i, round)))
            break;
    free(in);
    free(out);
}

typedef enum paths { ALL_BLOCK, SOME_BLOCK } paths;

static void sweep(weft_comm *comm, int rank, int ranks, void *context)
{
    static const size_t counts[] = {0, 1, 2, 5, 22, 23, 64, 1000, 2500};
    paths which = *(const paths *)context;
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
        for (size_t n = 0; n < ARRAY_LEN(counts); n++)
            for (int root = 0; root < ranks; root += ranks - 1 ? ranks - 1 : 1) {
                call k = {.collective = (weft_collective)c, .count = counts[n], .in_place = n % 2};
                for (int round = 0; round < 2 * WARM; round++)
                    run_once(comm, &k, root, round, which == ALL_BLOCK || (rank + round) % 2);
            }
}

static void sweep_groups(paths which)
{
    weft_config by_messages = WEFT_CONFIG_INIT;
    by_messages.transports = "tcp";
    for (int ranks = 1; ranks <= 5; ranks += ranks == 3 ? 2 : 1) {
        on_ranks(ranks, NULL, sweep, &which);
        on_ranks_with(ranks, &by_messages, sweep, &which);
    }
}

static void test_results(void **state)
{
    (void)state;
    sweep_groups(ALL_BLOCK);
}

static void test_ranks_on_either_path(void **state)
{
    (void)state;
    sweep_groups(SOME_BLOCK);
}

/* ---- traces ------------------------------------------------------------------------------------ */

typedef struct trace {
    uint32_t steps[TRACE_MAX];
    size_t count;
} trace;

static void note(void *context, uint32_t step)
{
    trace *t = context;
    if (t->count < TRACE_MAX)
        t->steps[t->count++] = step;
}

/* Without the steps that staged buffers do not need, which the inline path leaves out, and without the repeats of a step whose
 * moves could not be joined. */
static void reduce_to_needed(const weft_schedule *s, trace *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++)
        if (!(s->lane[0].steps[t->steps[i]].flags & WEFT_STEP_IF_MAPPED) && (n == 0 || t->steps[n - 1] != t->steps[i]))
            t->steps[n++] = t->steps[i];
    t->count = n;
}

/* Calls that neither waited in the executor nor were sent there to look after the process. */
static _Atomic int ended_at_once;

static void traced(weft_comm *comm, const call *k, bool blocking, trace *t)
{
    *t = (trace){.count = 0};
    comm->exec.trace = note;
    comm->exec.trace_context = t;
    run_once(comm, k, 0, 0, blocking);
    comm->exec.trace = NULL;
}

static void compare_traces(weft_comm *comm, int rank, int ranks, void *context)
{
    const bool all_served = *(const bool *)context;
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++) {
        call k = {.collective = (weft_collective)c, .count = 16};
        trace executed, inlined;
        traced(comm, &k, false, &executed);
        for (int round = 0; round < WARM; round++)
            run_once(comm, &k, 0, round, true);
        const weft_inline *shape = NULL;
        for (int i = 0; i < WEFT_SHORT_CALLS; i++)
            if (comm->shorts[i].call && comm->shorts[i].collective == k.collective)
                shape = comm->shorts[i].call;
        if (!shape && !all_served)
            continue;
        if (!CHECK(shape, "rank %d: %s is not served by the inline path", rank, weft_collective_name(k.collective)))
            return;
        reduce_to_needed(weft_inline_schedule(shape), &executed);
        for (int round = 0; round < TRIES; round++) {
            traced(comm, &k, true, &inlined);
            reduce_to_needed(weft_inline_schedule(shape), &inlined);
            CHECK(inlined.count == executed.count &&
                      memcmp(inlined.steps, executed.steps, executed.count * sizeof *executed.steps) == 0,
                  "%s, rank %d of %d: %zu steps, the executor %zu", weft_collective_name(k.collective), rank, ranks,
                  inlined.count, executed.count);
            if (comm->records[(comm->exec.next_sequence - 1) % WEFT_RECORDS].began_ns == 0)
                atomic_fetch_add(&ended_at_once, 1);
        }
    }
}

static void test_same_steps_as_executor(void **state)
{
    (void)state;
    bool all_served = true;
    weft_config config = WEFT_CONFIG_INIT;
    config.algorithm = "flat";
    for (int ranks = 2; ranks <= 4; ranks++) {
        atomic_store(&ended_at_once, 0);
        on_ranks_with(ranks, &config, compare_traces, &all_served);
        assert_true(atomic_load(&ended_at_once) > 0);
    }
}

static void test_same_messages_as_executor(void **state)
{
    (void)state;
    bool all_served = false; /* not on a rank that begins with forwarding */
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = "tcp";
    for (int ranks = 2; ranks <= 4; ranks++) {
        atomic_store(&ended_at_once, 0);
        on_ranks_with(ranks, &config, compare_traces, &all_served);
        assert_true(atomic_load(&ended_at_once) > 0);
    }
}

/* ---- trouble ----------------------------------------------------------------------------------- */

static void call_differently(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)ranks;
    (void)context;
    float in[8] = {0}, out[8];
    for (int round = 0; round < WARM; round++)
        for (size_t count = 4; count <= 5; count++)
            CHECK_OK(weft_all_reduce(comm, in, out, count, WEFT_F32, WEFT_SUM, NULL));
    CHECK_STATUS(weft_all_reduce(comm, in, out, rank ? 4 : 5, WEFT_F32, WEFT_SUM, NULL), WEFT_ERR_MISMATCH);
    CHECK_DETAIL("rank 0");
    CHECK_DETAIL("rank 1");
    CHECK_DETAIL("all_reduce of 5");
}

static void test_mismatch_names_both(void **state)
{
    (void)state;
    on_ranks(2, NULL, call_differently, NULL);
    weft_config by_messages = WEFT_CONFIG_INIT;
    by_messages.transports = "tcp";
    on_ranks_with(2, &by_messages, call_differently, NULL);
}

static void abort_while_waiting(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    float in = 1, out;
    for (int round = 0; round < WARM; round++)
        CHECK_OK(weft_all_reduce(comm, &in, &out, 1, WEFT_F32, WEFT_SUM, NULL));
    meet(ranks);
    if (rank == 0)
        CHECK_OK(weft_comm_abort(comm));
    CHECK_STATUS(weft_all_reduce(comm, &in, &out, 1, WEFT_F32, WEFT_SUM, NULL), WEFT_ERR_ABORTED);
}

static void test_abort_ends_a_short_call(void **state)
{
    (void)state;
    on_ranks(3, NULL, abort_while_waiting, NULL);
    weft_config by_messages = WEFT_CONFIG_INIT;
    by_messages.transports = "tcp";
    on_ranks_with(3, &by_messages, abort_while_waiting, NULL);
}

static void refuse_overlap(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)rank;
    (void)ranks;
    (void)context;
    float buffer[8] = {0};
    for (int round = 0; round < WARM; round++)
        CHECK_OK(weft_all_reduce(comm, buffer, buffer + 4, 4, WEFT_F32, WEFT_SUM, NULL));
    CHECK_STATUS(weft_all_reduce(comm, buffer, buffer + 1, 4, WEFT_F32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_all_reduce(comm, NULL, buffer, 4, WEFT_F32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_OK(weft_all_reduce(comm, buffer, buffer + 4, 4, WEFT_F32, WEFT_SUM, NULL));
}

static void test_arguments_are_checked(void **state)
{
    (void)state;
    on_ranks(2, NULL, refuse_overlap, NULL);
    weft_config by_messages = WEFT_CONFIG_INIT;
    by_messages.transports = "tcp";
    on_ranks_with(2, &by_messages, refuse_overlap, NULL);
}

int main(void)
{
    time_limit(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_ranks_on_either_path),
        cmocka_unit_test(test_same_steps_as_executor),
        cmocka_unit_test(test_same_messages_as_executor),
        cmocka_unit_test(test_mismatch_names_both),
        cmocka_unit_test(test_abort_ends_a_short_call),
        cmocka_unit_test(test_arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

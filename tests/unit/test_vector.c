/* The vector collectives with counts of all kinds: random, zero for some, zero for all, one rank with
 * everything; gaps between blocks, in place, persistent; on every algorithm that plans them. */
#include <weft/schedule.h>

#include "../checks.h"

enum { MOST_RANKS = 5, KINDS = 5, GUARD = -7 };

typedef struct vector_case {
    weft_collective collective;
} vector_case;

/* Elements that rank `from` has for rank `to`; of one kind of distribution. */
static size_t count_for(int kind, int from, int to, int ranks)
{
    uint32_t state = (uint32_t)(kind * 1009 + from * 31 + to * 7 + 3);
    (void)next_random(&state);
    switch (kind) {
    case 0: return next_random(&state) % 50;
    case 1: return (from + to) % 2 ? 0 : next_random(&state) % 3000;
    case 2: return 0;
    case 3: return to == ranks - 1 ? 40000 : 0;
    default: return next_random(&state) % 20000;
    }
}

static int32_t value(int from, int to, size_t i)
{
    return (int32_t)((uint32_t)from * 7001u + (uint32_t)to * 911u + (uint32_t)i * 13u) % 65521;
}

/* A buffer of blocks with or without gaps, guarded all over. */
typedef struct blocks {
    size_t counts[MOST_RANKS], displs[MOST_RANKS], total;
    int32_t *data;
} blocks;

static void lay_out(blocks *b, int ranks, const size_t *counts, bool gaps, bool backwards)
{
    b->total = gaps ? 3 : 0;
    for (int k = 0; k < ranks; k++) {
        int r = backwards ? ranks - 1 - k : k;
        b->counts[r] = counts[r];
        b->displs[r] = b->total;
        b->total += counts[r] + (gaps ? (size_t)r % 3 + 1 : 0);
    }
    b->data = malloc((b->total + 1) * sizeof *b->data);
    for (size_t i = 0; i <= b->total; i++)
        b->data[i] = GUARD;
}

/* What lies between blocks and behind them was left alone. */
static void check_guards(const blocks *b, int ranks, const char *what)
{
    for (size_t i = 0; i <= b->total; i++) {
        bool inside = false;
        for (int r = 0; r < ranks && !inside; r++)
            inside = i >= b->displs[r] && i < b->displs[r] + b->counts[r];
        if (!inside && !CHECK(b->data[i] == GUARD, "%s: element %zu between the blocks was written", what, i))
            return;
        if (inside) /* on to its end */
            for (int r = 0; r < ranks; r++)
                if (i >= b->displs[r] && i < b->displs[r] + b->counts[r]) {
                    i = b->displs[r] + b->counts[r] - 1;
                    break;
                }
    }
}

static void check_block(const int32_t *data, size_t count, int from, int to, const char *what)
{
    for (size_t i = 0; i < count; i++)
        if (!CHECK(data[i] == value(from, to, i), "%s: element %zu of %zu from rank %d is %d, not %d", what,
                   i, count, from, data[i], value(from, to, i)))
            return;
}

static void end_call(weft_status begun, weft_request **request, const char *what)
{
    CHECK(begun == WEFT_OK, "%s: %s", what, weft_last_error());
    if (begun == WEFT_OK && *request) { /* persistent: twice */
        for (int k = 0; k < 2; k++) {
            CHECK_OK(weft_start(*request));
            CHECK(weft_wait(request) == WEFT_OK, "%s: %s", what, weft_last_error());
        }
        CHECK_OK(weft_request_free(request));
    }
}

static void all_gather(weft_comm *comm, int rank, int ranks, int kind, int variant)
{
    bool gaps = variant & 1, in_place = variant & 2, persistent = variant & 4;
    size_t counts[MOST_RANKS] = {0};
    blocks out;
    for (int r = 0; r < ranks; r++)
        counts[r] = count_for(kind, 0, r, ranks);
    lay_out(&out, ranks, counts, gaps, gaps && variant & 4);
    size_t mine = counts[rank];
    int32_t *own = malloc((mine + 1) * sizeof *own);
    for (size_t i = 0; i < mine; i++)
        (in_place ? out.data + out.displs[rank] : own)[i] = value(rank, 0, i);
    const void *send = !in_place ? own : variant & 1 ? WEFT_IN_PLACE : (void *)(out.data + out.displs[rank]);
    const size_t *displs = gaps ? out.displs : NULL;
    weft_request *request = NULL;
    weft_status status =
        persistent ? weft_all_gather_v_init(comm, send, mine, out.data, counts, displs, WEFT_I32, &request)
                   : weft_all_gather_v(comm, send, mine, out.data, counts, displs, WEFT_I32, NULL);
    end_call(status, &request, "all_gather_v");
    for (int r = 0; r < ranks; r++)
        check_block(out.data + out.displs[r], counts[r], r, 0, "all_gather_v");
    check_guards(&out, ranks, "all_gather_v");
    free(own);
    free(out.data);
}

static void reduce_scatter(weft_comm *comm, int rank, int ranks, int kind, int variant)
{
    bool in_place = variant & 2, persistent = variant & 4;
    size_t counts[MOST_RANKS] = {0};
    blocks in;
    for (int r = 0; r < ranks; r++)
        counts[r] = count_for(kind, 0, r, ranks);
    lay_out(&in, ranks, counts, false, false);
    for (int r = 0; r < ranks; r++)
        for (size_t i = 0; i < counts[r]; i++)
            in.data[in.displs[r] + i] = value(rank, r, i);
    int32_t *own = malloc((counts[rank] + 1) * sizeof *own);
    own[counts[rank]] = GUARD;
    void *recv = !in_place ? own : variant & 1 ? WEFT_IN_PLACE : (void *)(in.data + in.displs[rank]);
    weft_op op = persistent ? WEFT_MAX : WEFT_SUM; /* what may be done twice in place */
    weft_request *request = NULL;
    weft_status status = persistent
                             ? weft_reduce_scatter_v_init(comm, in.data, recv, counts, WEFT_I32, op, &request)
                             : weft_reduce_scatter_v(comm, in.data, recv, counts, WEFT_I32, op, NULL);
    end_call(status, &request, "reduce_scatter_v");
    const int32_t *got = in_place ? in.data + in.displs[rank] : own;
    for (size_t i = 0; i < counts[rank]; i++) {
        int32_t expected = value(0, rank, i);
        for (int r = 1; r < ranks; r++)
            expected = op == WEFT_SUM                 ? expected + value(r, rank, i)
                       : expected > value(r, rank, i) ? expected
                                                      : value(r, rank, i);
        if (!CHECK(got[i] == expected, "reduce_scatter_v: element %zu of %zu is %d, not %d", i, counts[rank],
                   got[i], expected))
            break;
    }
    CHECK(own[counts[rank]] == GUARD, "reduce_scatter_v wrote beyond its end");
    free(own);
    free(in.data);
}

static void gather_or_scatter(weft_comm *comm, int rank, int ranks, int kind, int variant, bool scatter)
{
    bool gaps = variant & 1, in_place = variant & 2, persistent = variant & 4;
    int root = (kind + variant) % ranks;
    size_t counts[MOST_RANKS] = {0};
    blocks all = {.data = NULL};
    for (int r = 0; r < ranks; r++)
        counts[r] = count_for(kind, r, root, ranks);
    size_t mine = counts[rank];
    int32_t *own = malloc((mine + 1) * sizeof *own);
    for (size_t i = 0; i <= mine; i++)
        own[i] = scatter || i == mine ? GUARD : value(rank, 0, i);
    if (rank == root) {
        lay_out(&all, ranks, counts, gaps, gaps && !persistent);
        for (int r = 0; r < ranks; r++)
            for (size_t i = 0; i < counts[r] && (scatter || (in_place && r == rank)); i++)
                all.data[all.displs[r] + i] = value(r, 0, i);
    }
    const size_t *at_root = rank == root ? counts : NULL, *displs = rank == root && gaps ? all.displs : NULL;
    void *part = rank != root || !in_place ? (void *)own
                 : gaps                    ? WEFT_IN_PLACE
                                           : (void *)(all.data + all.displs[rank]);
    weft_request *request = NULL;
    weft_status status;
    if (scatter)
        status =
            persistent
                ? weft_scatter_v_init(comm, all.data, at_root, displs, part, mine, WEFT_I32, root, &request)
                : weft_scatter_v(comm, all.data, at_root, displs, part, mine, WEFT_I32, root, NULL);
    else
        status =
            persistent
                ? weft_gather_v_init(comm, part, mine, all.data, at_root, displs, WEFT_I32, root, &request)
                : weft_gather_v(comm, part, mine, all.data, at_root, displs, WEFT_I32, root, NULL);
    const char *what = scatter ? "scatter_v" : "gather_v";
    end_call(status, &request, what);
    if (scatter && (rank != root || !in_place))
        check_block(own, mine, rank, 0, what);
    CHECK(own[mine] == GUARD, "%s wrote beyond its end", what);
    if (rank == root) {
        for (int r = 0; r < ranks; r++)
            check_block(all.data + all.displs[r], counts[r], r, 0, what);
        check_guards(&all, ranks, what);
    }
    free(own);
    free(all.data);
}

static void all_to_all(weft_comm *comm, int rank, int ranks, int kind, int variant)
{
    bool gaps = variant & 1, persistent = variant & 4;
    size_t to[MOST_RANKS] = {0}, from[MOST_RANKS] = {0};
    blocks out, in;
    for (int r = 0; r < ranks; r++) {
        to[r] = count_for(kind, rank, r, ranks);
        from[r] = count_for(kind, r, rank, ranks);
    }
    lay_out(&in, ranks, to, variant & 2, false);
    lay_out(&out, ranks, from, gaps, gaps);
    for (int r = 0; r < ranks; r++)
        for (size_t i = 0; i < to[r]; i++)
            in.data[in.displs[r] + i] = value(rank, r, i);
    const size_t *in_displs = variant & 2 ? in.displs : NULL, *out_displs = gaps ? out.displs : NULL;
    weft_request *request = NULL;
    weft_status status = persistent ? weft_all_to_all_v_init(comm, in.data, to, in_displs, out.data, from,
                                                             out_displs, WEFT_I32, &request)
                                    : weft_all_to_all_v(comm, in.data, to, in_displs, out.data, from,
                                                        out_displs, WEFT_I32, NULL);
    end_call(status, &request, "all_to_all_v");
    for (int r = 0; r < ranks; r++) {
        check_block(out.data + out.displs[r], from[r], r, rank, "all_to_all_v");
        check_block(in.data + in.displs[r], to[r], rank, r, "all_to_all_v's input");
    }
    check_guards(&out, ranks, "all_to_all_v");
    free(in.data);
    free(out.data);
}

static void all_kinds(weft_comm *comm, int rank, int ranks, void *context)
{
    const vector_case *c = context;
    for (int kind = 0; kind < KINDS; kind++)
        for (int variant = 0; variant < 8 && check_failures == 0; variant++)
            switch (c->collective) {
            case WEFT_ALL_GATHER: all_gather(comm, rank, ranks, kind, variant); break;
            case WEFT_REDUCE_SCATTER: reduce_scatter(comm, rank, ranks, kind, variant); break;
            case WEFT_GATHER: gather_or_scatter(comm, rank, ranks, kind, variant, false); break;
            case WEFT_SCATTER: gather_or_scatter(comm, rank, ranks, kind, variant, true); break;
            default: all_to_all(comm, rank, ranks, kind, variant); break;
            }
}

/* One rank has all, the others nothing to send: each gives one address for both sides, where only one is used. */
static void one_address(weft_comm *comm, int rank, int ranks, void *context)
{
    int32_t data[MOST_RANKS] = {0};
    size_t to[MOST_RANKS] = {0}, from[MOST_RANKS] = {0};
    (void)context;
    for (int r = 1; r < ranks && rank == 0; r++) {
        to[r] = 1;
        data[r - 1] = value(0, r, 0);
    }
    from[0] = rank > 0;
    CHECK_OK(weft_all_to_all_v(comm, data, to, NULL, data, from, NULL, WEFT_I32, NULL));
    CHECK(rank == 0 || data[0] == value(0, rank, 0), "rank %d got %d", rank, data[0]);
    memset(to, 0, sizeof to);
    memset(from, 0, sizeof from);
    CHECK_OK(weft_all_to_all_v(comm, data, to, NULL, data, from, NULL, WEFT_I32, NULL));
    to[rank] = from[rank] = 1;
    CHECK_STATUS(weft_all_to_all_v(comm, data, to, NULL, data, from, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
}

static void test_all_to_all_with_one_address(void **state)
{
    (void)state;
    check_failures = 0;
    assert_int_equal(run_ranks(3, NULL, one_address, NULL), WEFT_OK);
    assert_int_equal(check_failures, 0);
}

static void every_algorithm(weft_collective collective)
{
    vector_case c = {.collective = collective};
    int planned = 0;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
        for (int a = 0; a < WEFT_ALGORITHM_COUNT; a++)
            for (int tcp = 0; tcp <= (ranks % 2 == 0); tcp++) {
                weft_plan_request request = {.collective = collective,
                                             .algorithm = (weft_algorithm)a,
                                             .vector = true,
                                             .group = {.ranks = ranks}};
                if (a != WEFT_AUTO && weft_plan_obstacle(&request))
                    continue;
                weft_config config = WEFT_CONFIG_INIT;
                config.transports = tcp ? "tcp" : "shm";
                config.algorithm = weft_algorithm_name((weft_algorithm)a);
                config.timeout_ms = CHECK_TIMEOUT_MS;
                check_failures = 0;
                assert_int_equal(run_ranks(ranks, &config, all_kinds, &c), WEFT_OK);
                if (check_failures)
                    fprintf(stderr, "%s by %s over %d ranks by %s\n", weft_collective_name(collective),
                            config.algorithm, ranks, config.transports);
                assert_int_equal(check_failures, 0);
                planned++;
            }
    assert_true(planned > MOST_RANKS);
}

static void test_all_gather(void **state)
{
    (void)state;
    every_algorithm(WEFT_ALL_GATHER);
}
static void test_reduce_scatter(void **state)
{
    (void)state;
    every_algorithm(WEFT_REDUCE_SCATTER);
}
static void test_gather(void **state)
{
    (void)state;
    every_algorithm(WEFT_GATHER);
}
static void test_scatter(void **state)
{
    (void)state;
    every_algorithm(WEFT_SCATTER);
}
static void test_all_to_all(void **state)
{
    (void)state;
    every_algorithm(WEFT_ALL_TO_ALL);
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_gather),
                                       cmocka_unit_test(test_reduce_scatter), cmocka_unit_test(test_gather),
                                       cmocka_unit_test(test_scatter), cmocka_unit_test(test_all_to_all),
                                       cmocka_unit_test(test_all_to_all_with_one_address)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

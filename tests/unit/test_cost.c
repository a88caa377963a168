/* The cost model: what a simulation must give for schedules so small that the time can be worked out by hand,
 * and how close the formulas come to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/cost.h"

enum { MAX_RANKS = 64 };

typedef struct plan {
    weft_plan_request request;
    weft_schedule *s[MAX_RANKS];
} plan;

static void plan_make(plan *p, weft_collective collective, weft_algorithm algorithm, int ranks,
                      const int *host, int lanes)
{
    p->request = (weft_plan_request){
        .collective = collective, .algorithm = algorithm, .group = {.ranks = ranks, .host = host}, .lanes = lanes};
    for (int rank = 0; rank < ranks; rank++)
        assert_int_equal(weft_plan(&p->request, rank, &p->s[rank]), WEFT_OK);
}

static void plan_free(plan *p)
{
    for (int rank = 0; rank < p->request.group.ranks; rank++)
        weft_schedule_free(p->s[rank]);
}

static double plan_cost(plan *p, const weft_cost_model *model, size_t bytes)
{
    double time;
    assert_int_equal(weft_cost((const weft_schedule *const *)p->s, p->request.group.ranks, &p->request.group,
                               model, bytes, &time),
                     WEFT_OK);
    return time;
}

static double cost_of(weft_collective collective, weft_algorithm algorithm, int ranks, const int *host,
                      const weft_cost_model *model, size_t bytes)
{
    plan p;
    plan_make(&p, collective, algorithm, ranks, host, 0);
    double time = plan_cost(&p, model, bytes);
    plan_free(&p);
    return time;
}

/* 1 byte per ns on a host, 10 ns per byte between hosts; nothing else costs. */
static weft_cost_model round_numbers(void)
{
    return (weft_cost_model){.local = {100, 1e9},
                             .remote = {1000, 1e8},
                             .signal_ns = 50,
                             .copy_Bps = 1e18,
                             .reduce_Bps = 1e18,
                             .step_ns = 0,
                             .cores_per_host = 64};
}

#define ASSERT_NEAR(a, b, tolerance)                                                            \
    do {                                                                                        \
        double left_ = (a), right_ = (b);                                                       \
        if (left_ < right_ - (tolerance) || left_ > right_ + (tolerance))                       \
            fail_msg("%s is %.1f, not %.1f", #a, left_, right_);                                \
    } while (0)

static void a_message_takes_latency_and_its_bytes(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    static const int apart[] = { 0, 1 };
    ASSERT_NEAR(cost_of(WEFT_BROADCAST, WEFT_RING, 2, NULL, &m, 1000), 100 + 1000, 1);
    ASSERT_NEAR(cost_of(WEFT_BROADCAST, WEFT_RING, 2, apart, &m, 1000), 1000 + 10000, 1);
}

static void ring_all_reduce_takes_two_times_n_minus_1_rounds(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    static const int apart[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    ASSERT_NEAR(cost_of(WEFT_ALL_REDUCE, WEFT_RING, 8, NULL, &m, 8000), 14 * (100 + 1000), 1);
    ASSERT_NEAR(cost_of(WEFT_ALL_REDUCE, WEFT_RING, 8, apart, &m, 8000), 14 * (1000 + 10000), 1);
}

static void forwarding_cuts_through(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    size_t bytes = 64 << 20;
    double chain = cost_of(WEFT_BROADCAST, WEFT_RING, 16, NULL, &m, bytes);
    assert_true(chain > (double)bytes && chain < 1.05 * (double)bytes);
}

static void ranks_of_a_host_share_its_ports(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    static const int apart[] = { 0, 1, 2, 3, 4, 5, 6, 7 }, pairs[] = { 0, 0, 1, 1, 2, 2, 3, 3 };
    double alone = cost_of(WEFT_ALL_TO_ALL, WEFT_PAIRWISE, 8, apart, &m, 8 << 20);
    double shared = cost_of(WEFT_ALL_TO_ALL, WEFT_PAIRWISE, 8, pairs, &m, 8 << 20);
    ASSERT_NEAR(alone, 7 * 10485760.0, 0.01 * alone); /* 7 blocks of 1 MiB leave each host */
    assert_true(shared > 1.6 * alone && shared < 1.9 * alone); /* 12 */
}

static void root_of_a_linear_gather_takes_in_everything(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    ASSERT_NEAR(cost_of(WEFT_GATHER, WEFT_LINEAR, 8, NULL, &m, 8000), 100 + 7 * 1000, 1);
}

static void signals_cost_what_the_model_says(void **state)
{
    (void)state;
    weft_cost_model m = round_numbers();
    ASSERT_NEAR(cost_of(WEFT_BARRIER, WEFT_FLAT, 8, NULL, &m, 0), 50, 1);
}

static void fewer_cores_than_ranks_slow_a_host(void **state)
{
    (void)state;
    weft_cost_model m;
    weft_cost_model_default(&m);
    m.cores_per_host = 8;
    double enough = cost_of(WEFT_ALL_REDUCE, WEFT_DIRECT, 8, NULL, &m, 1 << 20);
    m.cores_per_host = 2;
    double crowded = cost_of(WEFT_ALL_REDUCE, WEFT_DIRECT, 8, NULL, &m, 1 << 20);
    assert_true(crowded > 3 * enough && crowded < 4.1 * enough);
}

/* Beyond a few tiles the time is extrapolated: it must go on growing evenly. */
static void many_tiles_cost_in_proportion(void **state)
{
    (void)state;
    weft_cost_model m;
    weft_cost_model_default(&m);
    static const weft_algorithm algorithms[] = { WEFT_TREE, WEFT_KNOMIAL, WEFT_DIRECT, WEFT_HIERARCHICAL };
    for (size_t a = 0; a < ARRAY_LEN(algorithms); a++) {
        double one = cost_of(WEFT_ALL_REDUCE, algorithms[a], 8, NULL, &m, 64 << 20);
        double four = cost_of(WEFT_ALL_REDUCE, algorithms[a], 8, NULL, &m, 256 << 20);
        assert_true(four > 3.8 * one && four < 4.2 * one);
    }
}

static void more_bytes_never_take_less(void **state)
{
    (void)state;
    weft_cost_model m;
    weft_cost_model_default(&m);
    static const int host[] = { 0, 0, 0, 1, 1, 1, 2, 2 };
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
        for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
            plan p;
            weft_plan_request request = { .collective = (weft_collective)c, .algorithm = (weft_algorithm)a,
                                          .group = {.ranks = 8, .host = host} };
            if (weft_plan_obstacle(&request))
                continue;
            plan_make(&p, request.collective, request.algorithm, 8, host, 0);
            double before = 0;
            for (size_t bytes = 64; bytes <= (size_t)64 << 20; bytes *= 4) {
                double time = plan_cost(&p, &m, bytes);
                if (time < 0.99 * before)
                    fail_msg("%s by %s: %zu bytes take %.0f ns, a quarter took %.0f",
                             weft_collective_name(p.request.collective),
                             weft_algorithm_name(p.request.algorithm), bytes, time, before);
                before = time;
            }
            plan_free(&p);
        }
}

static void check_estimates(plan *p, const weft_cost_model *m)
{
    static const size_t sizes[] = { 8, 4096, 128 << 10, 4 << 20, 256 << 20 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        double estimate, time = plan_cost(p, m, sizes[i]);
        assert_int_equal(weft_cost_estimate(&p->request, m, sizes[i], &estimate), WEFT_OK);
        if (estimate > 3 * time || estimate < time / 3)
            fail_msg("%s by %s, %d ranks, %d lanes, %zu bytes: estimate %.0f ns, simulation %.0f ns",
                     weft_collective_name(p->request.collective), weft_algorithm_name(p->request.algorithm),
                     p->request.group.ranks, p->request.lanes, sizes[i], estimate, time);
    }
}

static void estimates_are_within_a_factor_of_3(void **state)
{
    (void)state;
    static const int counts[] = { 1, 2, 3, 4, 7, 8, 16, 24, 64 };
    int host[MAX_RANKS];
    weft_cost_model m;
    weft_cost_model_default(&m);
    for (size_t n = 0; n < ARRAY_LEN(counts); n++)
        for (int per_host = 1; per_host <= 64; per_host *= 4)
            for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
                for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
                    for (int rank = 0; rank < counts[n]; rank++)
                        host[rank] = rank / per_host;
                    plan p;
                    weft_plan_request request = {.collective = (weft_collective)c,
                                                 .algorithm = (weft_algorithm)a,
                                                 .group = {counts[n], host}};
                    if (weft_plan_obstacle(&request))
                        continue;
                    plan_make(&p, request.collective, request.algorithm, counts[n], host, 0);
                    check_estimates(&p, &m);
                    plan_free(&p);
                }
}

/* Where neither tiles nor slices overlap the formulas of a broadcast are the simulation: by them trees are chosen. */
static void estimates_of_short_broadcasts_are_exact(void **state)
{
    (void)state;
    static const int ranks[] = { 2, 4, 8, 16 }, host[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    static const weft_algorithm algorithms[] = { WEFT_TREE, WEFT_KNOMIAL, WEFT_RING };
    weft_cost_model m;
    weft_cost_model_default(&m);
    for (size_t i = 0; i < ARRAY_LEN(ranks); i++)
        for (size_t a = 0; a < ARRAY_LEN(algorithms); a++)
            for (size_t bytes = 512; bytes <= 16 << 10; bytes *= 2) {
                weft_plan_request request = { .collective = WEFT_BROADCAST, .algorithm = algorithms[a],
                                              .group = {.ranks = ranks[i], .host = host} };
                double estimate, time = cost_of(WEFT_BROADCAST, algorithms[a], ranks[i], host, &m, bytes);
                assert_int_equal(weft_cost_estimate(&request, &m, bytes, &estimate), WEFT_OK);
                double single = 0; /* of two ranks both send the same way: one message is less work than two */
                request.algorithm = WEFT_KNOMIAL;
                assert_int_equal(weft_cost_estimate(&request, &m, bytes, &single), WEFT_OK);
                if (ranks[i] == 2 && algorithms[a] == WEFT_TREE)
                    assert_true(single < estimate);
                if (estimate > 1.05 * time || estimate < 0.95 * time)
                    fail_msg("%s, %d ranks, %zu bytes: estimate %.0f ns, simulation %.0f ns",
                             weft_algorithm_name(algorithms[a]), ranks[i], bytes, estimate, time);
            }
}

static void what_cannot_be_planned_has_no_estimate(void **state)
{
    (void)state;
    static const int apart[] = { 0, 1 };
    weft_cost_model m;
    weft_cost_model_default(&m);
    weft_plan_request request = {.collective = WEFT_ALL_REDUCE, .algorithm = WEFT_FLAT, .group = {.ranks = 2, .host = apart}};
    double time;
    assert_int_equal(weft_cost_estimate(&request, &m, 8, &time), WEFT_ERR_UNSUPPORTED);
    request.algorithm = WEFT_RING;
    m.remote.bandwidth_Bps = 0;
    assert_int_equal(weft_cost_estimate(&request, &m, 8, &time), WEFT_ERR_INVALID);
}

static void a_deadlock_is_an_error_and_not_a_hang(void **state)
{
    (void)state;
    weft_cost_model m;
    weft_cost_model_default(&m);
    plan p;
    plan_make(&p, WEFT_BROADCAST, WEFT_RING, 3, NULL, 1);
    p.s[0]->lane[0].steps[0].kind = WEFT_STEP_COPY;
    p.s[0]->lane[0].steps[0].dst = p.s[0]->lane[0].steps[0].src;
    double time;
    assert_int_equal(weft_cost((const weft_schedule *const *)p.s, 3, &p.request.group, &m, 8, &time),
                     WEFT_ERR_MISMATCH);
    plan_free(&p);
}

static void out_of_memory_is_an_error(void **state)
{
    (void)state;
    weft_cost_model m;
    weft_cost_model_default(&m);
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_HIERARCHICAL, 4, (const int[]){ 0, 0, 1, 1 }, 0);
    weft_status status = WEFT_ERR_MEMORY;
    for (long n = 1; status == WEFT_ERR_MEMORY; n++) {
        double time;
        weft_alloc_fail_at(n, false);
        status = weft_cost((const weft_schedule *const *)p.s, 4, &p.request.group, &m, 64 << 20, &time);
        weft_alloc_fail_at(0, false);
    }
    assert_int_equal(status, WEFT_OK);
    plan_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_takes_latency_and_its_bytes),
        cmocka_unit_test(ring_all_reduce_takes_two_times_n_minus_1_rounds),
        cmocka_unit_test(forwarding_cuts_through),
        cmocka_unit_test(ranks_of_a_host_share_its_ports),
        cmocka_unit_test(root_of_a_linear_gather_takes_in_everything),
        cmocka_unit_test(signals_cost_what_the_model_says),
        cmocka_unit_test(fewer_cores_than_ranks_slow_a_host),
        cmocka_unit_test(many_tiles_cost_in_proportion),
        cmocka_unit_test(more_bytes_never_take_less),
        cmocka_unit_test(estimates_are_within_a_factor_of_3),
        cmocka_unit_test(estimates_of_short_broadcasts_are_exact),
        cmocka_unit_test(what_cannot_be_planned_has_no_estimate),
        cmocka_unit_test(a_deadlock_is_an_error_and_not_a_hang),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

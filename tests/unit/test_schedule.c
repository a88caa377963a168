/* Names, obstacles, digests, the builder and its fences, planning when memory runs out, and what the shape of
 * a ring, of the trees and of the hierarchy promises about links. Whether plans are right is tested in
 * property/test_planners.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/plan.h"

static weft_plan_request request_of(weft_algorithm algorithm, weft_collective collective, int ranks,
                                    const int *host)
{
    return (weft_plan_request){
        .algorithm = algorithm, .collective = collective, .group = { .ranks = ranks, .host = host } };
}

static weft_schedule *plan(const weft_plan_request *request, int rank)
{
    weft_schedule *s = NULL;
    if (weft_plan(request, rank, &s) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    return s;
}

static void names_and_parsing_are_inverse(void **state)
{
    (void)state;
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++) {
        weft_collective parsed;
        assert_int_equal(weft_collective_parse(weft_collective_name((weft_collective)c), &parsed), WEFT_OK);
        assert_int_equal(parsed, c);
    }
    for (int a = 0; a < WEFT_ALGORITHM_COUNT; a++) {
        weft_algorithm parsed;
        assert_int_equal(weft_algorithm_parse(weft_algorithm_name((weft_algorithm)a), &parsed), WEFT_OK);
        assert_int_equal(parsed, a);
    }
    assert_string_equal(weft_collective_name((weft_collective)99), "?");
    assert_string_equal(weft_algorithm_name((weft_algorithm)-1), "?");
}

static void an_unknown_name_is_told_what_there_is(void **state)
{
    (void)state;
    weft_algorithm algorithm;
    weft_collective collective;
    assert_int_equal(weft_algorithm_parse("rings", &algorithm), WEFT_ERR_PARSE);
    assert_non_null(strstr(weft_last_error(), "rings"));
    assert_non_null(strstr(weft_last_error(), "hierarchical"));
    assert_int_equal(weft_collective_parse("", &collective), WEFT_ERR_PARSE);
    assert_non_null(strstr(weft_last_error(), "barrier"));
    assert_int_equal(weft_collective_parse(NULL, &collective), WEFT_ERR_PARSE);
}

static void every_collective_has_a_planner_for_every_need(void **state)
{
    (void)state;
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++) {
        bool between_hosts = false, in_order = false, vector = false, on_host = false;
        for (const weft_planner *p = weft_planners; p->plan; p++) {
            if ((int)p->collective != c)
                continue;
            between_hosts |= !p->one_host;
            on_host |= p->one_host;
            in_order |= !p->one_host && p->keeps_order;
            vector |= !p->one_host && p->vector;
            assert_ptr_equal(weft_planner_find(p->algorithm, p->collective), p); /* no row twice */
        }
        assert_true(between_hosts && in_order && on_host);
        bool has_vector_form = c == WEFT_ALL_GATHER || c == WEFT_REDUCE_SCATTER || c == WEFT_GATHER ||
                               c == WEFT_SCATTER || c == WEFT_ALL_TO_ALL;
        assert_int_equal(vector, has_vector_form);
    }
}

static void obstacles_are_named(void **state)
{
    (void)state;
    int two_hosts[] = { 0, 0, 1 }, misnumbered[] = { 1, 0, 0 };
    weft_plan_request r = request_of(WEFT_FLAT, WEFT_ALL_REDUCE, 3, NULL);
    assert_null(weft_plan_obstacle(&r));
    r.group.host = two_hosts;
    assert_non_null(strstr(weft_plan_obstacle(&r), "one host"));
    weft_schedule *s = NULL;
    assert_int_equal(weft_plan(&r, 0, &s), WEFT_ERR_UNSUPPORTED);
    assert_non_null(strstr(weft_last_error(), "one host"));
    assert_null(s);
    r = request_of(WEFT_RING, WEFT_BARRIER, 3, NULL);
    assert_non_null(weft_plan_obstacle(&r));
    r = request_of(WEFT_BRUCK, WEFT_ALL_TO_ALL, 3, NULL);
    r.vector = true;
    assert_non_null(strstr(weft_plan_obstacle(&r), "equal size"));
    r = request_of(WEFT_RING, WEFT_ALL_REDUCE, 3, misnumbered);
    assert_non_null(strstr(weft_plan_obstacle(&r), "first appearance"));
    r = request_of(WEFT_AUTO, WEFT_ALL_REDUCE, 3, NULL);
    assert_non_null(weft_plan_obstacle(&r));
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    weft_schedule *s = NULL;
    weft_plan_request r = request_of(WEFT_RING, WEFT_BROADCAST, 4, NULL);
    assert_int_equal(weft_plan(&r, 4, &s), WEFT_ERR_INVALID);
    assert_int_equal(weft_plan(&r, -1, &s), WEFT_ERR_INVALID);
    r.root = 4;
    assert_int_equal(weft_plan(&r, 0, &s), WEFT_ERR_INVALID);
    r.root = 0;
    r.lanes = -1;
    assert_int_equal(weft_plan(&r, 0, &s), WEFT_ERR_INVALID);
    r.lanes = 0;
    r.radix = 1;
    assert_int_equal(weft_plan(&r, 0, &s), WEFT_ERR_INVALID);
    r.radix = 0;
    r.group.ranks = 0;
    assert_int_equal(weft_plan(&r, 0, &s), WEFT_ERR_INVALID);
    assert_int_equal(weft_plan(NULL, 0, &s), WEFT_ERR_INVALID);
    assert_null(s);
    weft_schedule_free(NULL);
}

static void the_digest_sees_what_ranks_share(void **state)
{
    (void)state;
    int one_host[] = { 0, 0, 0, 0 }, two_hosts[] = { 0, 0, 1, 1 }, other_hosts[] = { 0, 1, 0, 1 };
    weft_plan_request r = request_of(WEFT_RING, WEFT_ALL_REDUCE, 4, NULL), q = r;
    q.group.host = one_host; /* says the same */
    q.radix = 5;             /* concerns others */
    assert_true(weft_plan_digest(&r) == weft_plan_digest(&q));
    q.group.host = two_hosts;
    uint64_t digest = weft_plan_digest(&q);
    assert_true(digest != weft_plan_digest(&r));
    q.group.host = other_hosts;
    assert_true(digest != weft_plan_digest(&q));
    q = r;
    q.lanes = 2;
    assert_true(weft_plan_digest(&r) != weft_plan_digest(&q));
    q = r;
    q.algorithm = WEFT_TREE;
    assert_true(weft_plan_digest(&r) != weft_plan_digest(&q));
    r = request_of(WEFT_RING, WEFT_BROADCAST, 4, NULL);
    q = r;
    q.root = 1;
    assert_true(weft_plan_digest(&r) != weft_plan_digest(&q));
}

static void a_group_of_one_copies(void **state)
{
    (void)state;
    for (const weft_planner *p = weft_planners; p->plan; p++) {
        weft_plan_request r = request_of(p->algorithm, p->collective, 1, NULL);
        weft_schedule *s = plan(&r, 0);
        assert_int_equal(s->lanes, 1);
        assert_int_equal(s->lane[0].count, p->collective == WEFT_BARRIER ? 0 : 1);
        assert_false(s->local);
        if (s->lane[0].count)
            assert_int_equal(s->lane[0].steps[0].kind, WEFT_STEP_COPY);
        weft_schedule_free(s);
    }
}

/* A builder of one lane for all_reduce on rank 1 of 4, two chunks per block and two of scratch. */
static weft_builder *small_builder(weft_collective collective)
{
    weft_plan_request r = request_of(WEFT_RING, collective, 4, NULL);
    weft_builder *b;
    assert_int_equal(weft_builder_create(&r, 1, &b), WEFT_OK);
    weft_build_shape(b, 2, 2, 1);
    return b;
}

static void fences_wait_for_the_last_send_of_what_is_overwritten(void **state)
{
    (void)state;
    weft_builder *b = small_builder(WEFT_ALL_REDUCE);
    weft_build_send(b, 0, weft_at(b, WEFT_SCRATCH, 0, 1), 2);
    weft_build_send(b, 0, weft_at(b, WEFT_SCRATCH, 0, 2), 3);
    weft_build_send(b, 0, weft_at(b, WEFT_SCRATCH, 1, 1), 2);
    weft_build_recv(b, 0, 0, weft_at(b, WEFT_SCRATCH, 0, 1), 2);
    weft_build_recv(b, 0, 0, weft_at(b, WEFT_SCRATCH, 1, 1), -1);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_SCRATCH, 0, 1), 0);
    weft_schedule *s;
    assert_int_equal(weft_builder_finish(b, &s), WEFT_OK);
    const weft_step *steps = s->lane[0].steps;
    assert_int_equal(s->lane[0].sends, 4);
    assert_int_equal(steps[3].fence, 2);
    assert_int_equal(steps[4].fence, 3);
    assert_int_equal(steps[5].fence, 4); /* what step 3 forwards */
    weft_schedule_free(s);
}

static void fences_know_that_input_and_output_may_be_one(void **state)
{
    (void)state;
    weft_builder *b = small_builder(WEFT_ALL_GATHER);
    weft_build_send(b, 0, weft_at(b, WEFT_INPUT, 0, 2), 2);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 2), weft_at(b, WEFT_OUTPUT, 2, 2), 0); /* none in place */
    weft_build_recv(b, 0, 0, weft_at(b, WEFT_OUTPUT, 0, 2), -1);
    weft_build_recv(b, 0, 0, weft_at(b, WEFT_OUTPUT, 3, 1), -1); /* in place: the second chunk sent */
    weft_schedule *s;
    assert_int_equal(weft_builder_finish(b, &s), WEFT_OK);
    assert_int_equal(s->lane[0].steps[1].fence, 0);
    assert_int_equal(s->lane[0].steps[2].fence, 0);
    assert_int_equal(s->lane[0].steps[3].fence, 1);
    weft_schedule_free(s);
}

static void a_schedule_that_leaves_its_buffers_is_an_error(void **state)
{
    (void)state;
    weft_builder *b = small_builder(WEFT_ALL_REDUCE);
    weft_build_recv(b, 0, 0, weft_at(b, WEFT_OUTPUT, 1, 2), -1);
    weft_schedule *s = NULL;
    assert_int_equal(weft_builder_finish(b, &s), WEFT_ERR_INTERNAL);
    assert_null(s);
}

/* Every allocation of every planner fails once: an error each time, and nothing is left behind (as ASan
 * sees). */
static void planning_without_memory_is_an_error(void **state)
{
    (void)state;
    int host[] = { 0, 0, 1, 1, 1 };
    for (const weft_planner *p = weft_planners; p->plan; p++) {
        weft_plan_request r = request_of(p->algorithm, p->collective, 5, p->one_host ? NULL : host);
        for (long n = 1;; n++) {
            weft_schedule *s = NULL;
            weft_alloc_fail_at(n, false);
            weft_status status = weft_plan(&r, 2, &s);
            weft_alloc_fail_at(0, false);
            weft_schedule_free(s);
            if (status == WEFT_OK)
                break;
            assert_int_equal(status, WEFT_ERR_MEMORY);
            assert_null(s);
        }
    }
}

/* Sends (forwarding included) from `host_of` to another host, over all ranks. */
static int sends_between_hosts(const weft_plan_request *request)
{
    int crossing = 0;
    for (int rank = 0; rank < request->group.ranks; rank++) {
        weft_schedule *s = plan(request, rank);
        for (uint32_t l = 0; l < s->lanes; l++)
            for (uint32_t i = 0; i < s->lane[l].count; i++) {
                int to = s->lane[l].steps[i].to;
                crossing += to >= 0 && request->group.host[to] != request->group.host[rank];
            }
        weft_schedule_free(s);
    }
    return crossing;
}

static void rings_and_trees_cross_hosts_as_little_as_they_can(void **state)
{
    (void)state;
    int scattered[] = { 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2 };
    weft_plan_request r = request_of(WEFT_RING, WEFT_ALL_GATHER, 12, scattered);
    /* three of the twelve links, each carrying 11 blocks */
    assert_int_equal(sends_between_hosts(&r), 3 * 11);
    r = request_of(WEFT_RING, WEFT_BROADCAST, 12, scattered);
    assert_true(sends_between_hosts(&r) <= 3);
    r = request_of(WEFT_TREE, WEFT_ALL_REDUCE, 12, scattered);
    /* per tree and direction; a tree that ignored hosts would have some 8 */
    assert_true(sends_between_hosts(&r) <= 2 * 2 * 6);
}

static void hierarchies_carry_the_data_once_per_host(void **state)
{
    (void)state;
    int unequal[] = { 0, 0, 0, 1, 2, 2, 3, 3 }, equal[] = { 0, 1, 0, 1, 0, 1, 0, 1 };
    weft_plan_request r = request_of(WEFT_HIERARCHICAL, WEFT_ALL_REDUCE, 8, unequal);
    weft_schedule *s = plan(&r, 0);
    assert_int_equal(s->chunks_per_block, 4); /* one column, a chunk for each of four hosts */
    weft_schedule_free(s);
    assert_int_equal(sends_between_hosts(&r), 4 * 6); /* each host sends 2 (4 - 1) of 4 chunks */
    r.group.host = equal;
    /* four columns at once, two hosts, 2 (2 - 1) chunks */
    assert_int_equal(sends_between_hosts(&r), 4 * 2 * 2);
    s = plan(&r, 7);
    assert_int_equal(s->chunks_per_block, 8);
    assert_true(s->lane[0].sends > 0); /* the last rank drives a column too */
    weft_schedule_free(s);
}

/* No rank has more to forward than half of the data to two children, in one tree: that is what the two trees
 * are for. */
static void the_double_tree_loads_no_rank_twice(void **state)
{
    (void)state;
    for (int n = 2; n <= 65; n++) {
        weft_plan_request r = request_of(WEFT_TREE, WEFT_BROADCAST, n, NULL);
        for (int rank = 0; rank < n; rank++) {
            weft_schedule *s = plan(&r, rank);
            assert_int_equal(s->lanes, 2);
            assert_true(s->lane[0].sends + s->lane[1].sends <= 3);
            weft_schedule_free(s);
        }
    }
}

static void short_algorithms_have_short_lists(void **state)
{
    (void)state;
    static const struct { weft_algorithm algorithm; weft_collective collective; uint32_t most; } rows[] = {
        { WEFT_RECURSIVE_DOUBLING, WEFT_ALL_REDUCE, 24 }, { WEFT_HALVING_DOUBLING, WEFT_ALL_REDUCE, 44 },
        { WEFT_RECURSIVE_DOUBLING, WEFT_BARRIER, 20 },    { WEFT_KNOMIAL, WEFT_BROADCAST, 16 },
        { WEFT_BRUCK, WEFT_ALL_GATHER, 41 },              { WEFT_TREE, WEFT_ALL_REDUCE, 12 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int n = 1000; n <= 1024; n += 24)
            for (int rank = 0; rank < n; rank += 37) {
                weft_plan_request r = request_of(rows[i].algorithm, rows[i].collective, n, NULL);
                weft_schedule *s = plan(&r, rank);
                uint32_t steps = 0;
                for (uint32_t l = 0; l < s->lanes; l++)
                    steps += s->lane[l].count;
                assert_in_range(steps, 1, rows[i].most);
                weft_schedule_free(s);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_parsing_are_inverse),
        cmocka_unit_test(an_unknown_name_is_told_what_there_is),
        cmocka_unit_test(every_collective_has_a_planner_for_every_need),
        cmocka_unit_test(obstacles_are_named),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(the_digest_sees_what_ranks_share),
        cmocka_unit_test(a_group_of_one_copies),
        cmocka_unit_test(fences_wait_for_the_last_send_of_what_is_overwritten),
        cmocka_unit_test(fences_know_that_input_and_output_may_be_one),
        cmocka_unit_test(a_schedule_that_leaves_its_buffers_is_an_error),
        cmocka_unit_test(planning_without_memory_is_an_error),
        cmocka_unit_test(rings_and_trees_cross_hosts_as_little_as_they_can),
        cmocka_unit_test(hierarchies_carry_the_data_once_per_host),
        cmocka_unit_test(the_double_tree_loads_no_rank_twice),
        cmocka_unit_test(short_algorithms_have_short_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

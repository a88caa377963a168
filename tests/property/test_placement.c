/* Ranks on hosts, NUMA nodes and caches in any order: every planner stays right, rings and trees cross each slow link as seldom
 * as can be, and where nothing differs knowledge of places changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/planner.h"

enum { MOST = 32 };

/* Digits per rank; '-' for one that is not bound. */
typedef struct placement {
    const char *host, *numa, *cache;
} placement;

static const placement placements[] = {
    { "00000000", "01010101", "01230123" }, { "01010101", "00110011", "02130213" }, { "00001111", "10101010", NULL },
    { "012301230123", "000111222333", NULL }, { "00011233", "01000100", "30120100" }, { "00000000", "0011-1-0", "0123-3-0" },
    { "0123456701234567", "0101010111001100", "0123456701234567" }, { "000000000000", NULL, "010203210321" },
    { "01201201201201", "00011122201010", "01122334433221" },
};

typedef struct places {
    int host[MOST], numa[MOST], cache[MOST];
    weft_group group;
} places;

static const int *digits(const char *text, int *numbers)
{
    for (int r = 0; text && text[r]; r++)
        numbers[r] = text[r] == '-' ? -1 : text[r] - '0';
    return text ? numbers : NULL;
}

static void place(places *p, const placement *text)
{
    p->group = (weft_group){ .ranks = (int)strlen(text->host), .host = digits(text->host, p->host),
                             .numa = digits(text->numa, p->numa), .cache = digits(text->cache, p->cache) };
}

static bool rooted(weft_collective c)
{
    return c == WEFT_BROADCAST || c == WEFT_REDUCE || c == WEFT_GATHER || c == WEFT_SCATTER;
}

static void every_planner_takes_any_place(void **state)
{
    (void)state;
    for (const weft_planner *planner = weft_planners; planner->plan; planner++)
        for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
            places p;
            char text[512];
            place(&p, &placements[i]);
            for (int root = 0; root < (rooted(planner->collective) ? p.group.ranks : 1); root++) {
                weft_plan_request request = { .collective = planner->collective, .algorithm = planner->algorithm, .root = root,
                                              .group = p.group };
                if (!weft_plan_obstacle(&request) && weft_plan_verify(&request, text, sizeof text) != WEFT_OK)
                    fail_msg("%s by %s, placement %zu, root %d: %s", weft_collective_name(request.collective),
                             weft_algorithm_name(request.algorithm), i, root, text);
            }
        }
}

static bool same_host(const places *p, int a, int b) { return p->host[a] == p->host[b]; }

static bool same_numa(const places *p, int a, int b)
{
    return same_host(p, a, b) && (!p->group.numa || p->numa[a] == p->numa[b]);
}

static bool same_cache(const places *p, int a, int b)
{
    return same_numa(p, a, b) && (!p->group.cache || p->cache[a] == p->cache[b]);
}

/* The parts of the machine that the ranks are in. */
static int count_parts(const places *p, bool (*same)(const places *p, int a, int b))
{
    int parts = 0;
    for (int r = 0; r < p->group.ranks; r++) {
        bool first = true;
        for (int before = 0; before < r; before++)
            first &= !same(p, before, r);
        parts += first;
    }
    return parts;
}

/* Pairs that lane 0 sends between, over all ranks, of which `same` says that they are apart. */
static int edges_between(const weft_plan_request *request, const places *p, bool (*same)(const places *p, int a, int b))
{
    bool sends[MOST][MOST] = { { false } };
    int edges = 0;
    for (int r = 0; r < request->group.ranks; r++) {
        weft_schedule *s;
        assert_int_equal(weft_plan(request, r, &s), WEFT_OK);
        for (uint32_t i = 0; i < s->lane[0].count; i++)
            if (s->lane[0].steps[i].to >= 0)
                sends[r][s->lane[0].steps[i].to] = true;
        weft_schedule_free(s);
    }
    for (int a = 0; a < request->group.ranks; a++)
        for (int b = 0; b < request->group.ranks; b++)
            edges += sends[a][b] && !same(p, a, b);
    return edges;
}

static bool (*const levels[])(const places *p, int a, int b) = { same_host, same_numa, same_cache };

static void trees_cross_each_slow_link_once(void **state)
{
    (void)state;
    static const weft_collective collectives[] = { WEFT_ALL_REDUCE, WEFT_BROADCAST, WEFT_REDUCE };
    for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
        places p;
        place(&p, &placements[i]);
        for (size_t c = 0; c < ARRAY_LEN(collectives); c++)
            for (int root = 0; root < (rooted(collectives[c]) ? p.group.ranks : 1); root++) {
                weft_plan_request request = {
                    .collective = collectives[c], .algorithm = WEFT_TREE, .root = root, .group = p.group};
                int ways = collectives[c] == WEFT_ALL_REDUCE ? 2 : 1;
                for (size_t level = 0; level < ARRAY_LEN(levels); level++)
                    assert_int_equal(edges_between(&request, &p, levels[level]), ways * (count_parts(&p, levels[level]) - 1));
            }
    }
}

static void rings_cross_each_slow_link_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
        places p;
        place(&p, &placements[i]);
        weft_plan_request request = { .collective = WEFT_ALL_REDUCE, .algorithm = WEFT_RING, .group = p.group };
        for (size_t level = 0; level < ARRAY_LEN(levels); level++) {
            int parts = count_parts(&p, levels[level]);
            assert_int_equal(edges_between(&request, &p, levels[level]), parts > 1 ? parts : 0);
        }
    }
}

/* Neither the steps nor the digest, which ranks compare, may depend on whether it is said that all is alike. */
static void ranks_of_one_place_are_planned_as_without_places(void **state)
{
    (void)state;
    static const int host[] = { 0, 0, 1, 1, 1, 2 };
    int zero[6] = { 0 };
    weft_plan_request without = { .collective = WEFT_ALL_REDUCE, .algorithm = WEFT_TREE, .group = { .ranks = 6, .host = host } };
    weft_plan_request with = without;
    with.group.numa = with.group.cache = zero;
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++)
        for (int r = 0; r < 6; r++) {
            weft_schedule *one, *other;
            without.algorithm = with.algorithm = (weft_algorithm)a;
            if (weft_plan_obstacle(&without))
                continue;
            assert_int_equal(weft_plan(&without, r, &one), WEFT_OK);
            assert_int_equal(weft_plan(&with, r, &other), WEFT_OK);
            assert_int_equal(one->lanes, other->lanes);
            for (uint32_t l = 0; l < one->lanes; l++) {
                assert_int_equal(one->lane[l].count, other->lane[l].count);
                assert_memory_equal(one->lane[l].steps, other->lane[l].steps, one->lane[l].count * sizeof(weft_step));
            }
            weft_schedule_free(one);
            weft_schedule_free(other);
        }
}

static void a_place_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const int wrong[][2] = { { 0, 2 }, { -2, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        weft_schedule *s;
        weft_plan_request request = { .collective = WEFT_ALL_REDUCE, .algorithm = WEFT_RING,
                                      .group = { .ranks = 2, .numa = wrong[i] } };
        assert_non_null(weft_plan_obstacle(&request));
        assert_int_equal(weft_plan(&request, 0, &s), WEFT_ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_planner_takes_any_place),
        cmocka_unit_test(trees_cross_each_slow_link_once),
        cmocka_unit_test(rings_cross_each_slow_link_once),
        cmocka_unit_test(ranks_of_one_place_are_planned_as_without_places),
        cmocka_unit_test(a_place_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

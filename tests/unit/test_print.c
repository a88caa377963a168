/* Printing schedules: one step as a line, and whole schedules in every format. That JSON and SVG are well
 * formed is checked by tests/multi/plan.sh, which has parsers at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/planner.h"
#include "collectives/print.h"

enum { MAX_RANKS = 64 };

typedef struct plan {
    weft_plan_request request;
    weft_schedule *s[MAX_RANKS];
} plan;

static void plan_make(plan *p, weft_collective collective, weft_algorithm algorithm, int ranks,
                      const int *host)
{
    p->request =
        (weft_plan_request){.collective = collective, .algorithm = algorithm, .group = {.ranks = ranks, .host = host}};
    for (int rank = 0; rank < ranks; rank++)
        assert_int_equal(weft_plan(&p->request, rank, &p->s[rank]), WEFT_OK);
}

static void plan_free(plan *p)
{
    for (int rank = 0; rank < p->request.group.ranks; rank++)
        weft_schedule_free(p->s[rank]);
}

/* What is printed; to be freed by free. */
static char *printed(plan *p, int first, int count, size_t bytes, weft_print_format format)
{
    char *text = NULL;
    size_t used = 0;
    FILE *stream = open_memstream(&text, &used);
    assert_non_null(stream);
    assert_int_equal(weft_schedule_print((const weft_schedule *const *)p->s + first, count, &p->request.group,
                                         NULL, bytes, format, stream),
                     WEFT_OK);
    fclose(stream);
    return text;
}

static void expect_step(const weft_step *step, const char *expected)
{
    weft_place sources[] = {{0, WEFT_INPUT, 3, 1, 1, 0},
                            {1, WEFT_INPUT, 3, 1, 1, 0},
                            {2, WEFT_INPUT, 3, 1, 1, 0},
                            {3, WEFT_INPUT, 3, 1, 1, 0},
                            {4, WEFT_INPUT, 3, 1, 1, 0}};
    weft_step copy = *step;
    weft_lane lane = { .steps = &copy, .count = 1 };
    weft_schedule s = {
        .rank = 1, .ranks = 5, .lanes = 1, .lane = &lane, .sources = sources, .source_count = 5};
    char text[256];
    weft_step_text(&s, 0, 0, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void each_kind_of_step_reads_well(void **state)
{
    (void)state;
    weft_place in = {1, WEFT_INPUT, 4, 1, 1, 0}, out = {1, WEFT_OUTPUT, 4, 1, 1, 0},
               peer = {0, WEFT_OUTPUT, 2, 3, 1, 0};
    weft_place mine = { 1, WEFT_OUTPUT, 2, 3, 1, 0 }, strided = { 1, WEFT_SCRATCH, 1, 1, 4, 2 };
    weft_place runs = { 1, WEFT_SCRATCH, 1, 2, 4, 8 }, none = { 1, WEFT_SCRATCH, 0, 0, 1, 0 };
    expect_step(&(weft_step){.kind = WEFT_STEP_SEND, .from = -1, .to = 2, .src = strided},
                "lane 0 step 0: send to 2: scratch[1, +2 x4]");
    expect_step(&(weft_step){.kind = WEFT_STEP_SEND, .from = -1, .to = 2, .src = none},
                "lane 0 step 0: send to 2: scratch[0, none]");
    expect_step(&(weft_step){ .kind = WEFT_STEP_RECV, .from = 0, .to = 3, .dst = runs, .fence = 2 },
                "lane 0 step 0: recv from 0: scratch[1..2, +8 x4], forward to 3, after 2 sends");
    expect_step(&(weft_step){ .kind = WEFT_STEP_RECV_REDUCE, .from = 2, .to = -1, .src = in, .dst = out },
                "lane 0 step 0: recv_reduce from 2: output[4] = input[4] op in");
    expect_step(&(weft_step){.kind = WEFT_STEP_RECV_REDUCE,
                             .flags = WEFT_STEP_INCOMING_FIRST | WEFT_STEP_FINAL,
                             .from = 2,
                             .to = -1,
                             .src = in,
                             .dst = out,
                             .fence = 1},
                "lane 0 step 0: recv_reduce from 2: output[4] = in op input[4], after 1 send, final");
    expect_step(&(weft_step){ .kind = WEFT_STEP_COPY, .from = -1, .to = -1, .src = peer, .dst = mine },
                "lane 0 step 0: copy output[2..4] = rank 0's output[2..4]");
    expect_step(
        &(weft_step){.kind = WEFT_STEP_REDUCE, .from = -1, .to = -1, .sources = 3, .value = 0, .dst = out},
        "lane 0 step 0: reduce output[4] = rank 0's input[3] op input[3] op rank 2's input[3]");
    expect_step(
        &(weft_step){.kind = WEFT_STEP_REDUCE, .from = -1, .to = -1, .sources = 5, .value = 0, .dst = out},
        "lane 0 step 0: reduce output[4] = rank 0's input[3] op input[3] op rank 2's input[3] op ... (5 "
        "sources)");
    expect_step(&(weft_step){.kind = WEFT_STEP_PUBLISH, .from = -1, .to = -1, .src = in},
                "lane 0 step 0: publish input[4]");
    expect_step(&(weft_step){ .kind = WEFT_STEP_SIGNAL, .from = -1, .to = -1 }, "lane 0 step 0: signal");
    expect_step(
        &(weft_step){.kind = WEFT_STEP_WAIT, .flags = WEFT_STEP_IF_MAPPED, .from = 3, .to = -1, .value = 2},
        "lane 0 step 0: wait for signal 2 of 3, if mapped");
}

static void a_long_text_is_cut_and_ended(void **state)
{
    (void)state;
    plan p;
    char text[24];
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_RING, 4, NULL);
    for (size_t bytes = 1; bytes <= sizeof(text); bytes++) {
        memset(text, 'x', sizeof(text));
        weft_step_text(p.s[0], 0, 1, text, bytes);
        assert_int_equal(strlen(text), bytes - 1);
    }
    weft_step_text(p.s[0], 0, 1000, text, sizeof(text));
    assert_string_equal(text, "lane 0: end");
    weft_step_text(p.s[0], 9, 0, text, sizeof(text));
    assert_string_equal(text, "lane 9: end");
    plan_free(&p);
}

static void text_has_all_steps_of_a_small_plan(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, WEFT_RING, 2, (const int[]){ 0, 1 });
    char *text = printed(&p, 0, 2, 1 << 20, WEFT_PRINT_TEXT);
    assert_non_null(strstr(text, "ring broadcast, 2 ranks on 2 hosts, root 0"));
    assert_non_null(strstr(text, "1 MiB in chunks of 1 MiB"));
    assert_non_null(strstr(text, "predicted "));
    assert_non_null(strstr(text, "rank 1 (host 1)\n     0  recv from 0: output[0]\n"));
    free(text);
    plan_free(&p);
}

static void text_of_a_large_plan_is_numbers_and_of_one_rank_steps(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_RING, 64, NULL);
    char *text = printed(&p, 0, 64, 8, WEFT_PRINT_TEXT);
    assert_non_null(strstr(text, "ranks 0..63               127 steps: 1 send, 63 recv, 63 recv_reduce; "
                                 "sends 126 messages of 126 chunks"));
    assert_null(strstr(text, "input[1]"));
    free(text);
    text = printed(&p, 5, 1, 8, WEFT_PRINT_TEXT);
    assert_non_null(strstr(text, "rank 5\n     0  send to 6: input[5]\n"));
    assert_null(strstr(text, "predicted")); /* that needs all ranks */
    free(text);
    plan_free(&p);
}

/* Counts how often `part` occurs. */
static int occurrences(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

static void json_has_every_step_and_place(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_DIRECT, 3, NULL);
    char *text = printed(&p, 0, 3, 4096, WEFT_PRINT_JSON);
    assert_int_equal(occurrences(text, "\"kind\""),
                     p.s[0]->lane[0].count + p.s[1]->lane[0].count + p.s[2]->lane[0].count);
    assert_int_equal(occurrences(text, "\"kind\": \"reduce\""), 3);
    assert_int_equal(occurrences(text, "\"sources\": [{\"rank\": 0, \"buffer\": \"input\""), 3);
    assert_non_null(strstr(text, "\"hosts\": [0, 0, 0]"));
    assert_non_null(strstr(text, "\"if_mapped\": true"));
    free(text);
    plan_free(&p);
}

static void svg_has_a_bar_per_step_and_a_row_per_rank(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_RING, 4, NULL);
    char *text = printed(&p, 0, 4, 1 << 20, WEFT_PRINT_SVG);
    assert_int_equal(strncmp(text, "<svg xmlns=", 11), 0);
    assert_int_equal(occurrences(text, "<title>"), 4 * 7);
    for (int rank = 0; rank < 4; rank++) {
        char name[32];
        snprintf(name, sizeof(name), ">rank %d</text>", rank);
        assert_int_equal(occurrences(text, name), 1);
    }
    free(text);
    plan_free(&p);
}

static void dot_joins_what_goes_the_same_way(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_RING, 4, NULL);
    char *text = printed(&p, 0, 4, 1 << 20, WEFT_PRINT_DOT);
    assert_int_equal(occurrences(text, " -> "), 4);
    assert_non_null(strstr(text, "r3 -> r0 [color=\"#2563eb\", label=\"6 x 1\"]"));
    free(text);
    plan_free(&p);
    plan_make(&p, WEFT_ALL_GATHER, WEFT_FLAT, 3, NULL);
    text = printed(&p, 0, 3, 1 << 20, WEFT_PRINT_DOT);
    assert_int_equal(occurrences(text, "style=dashed"), 6);
    free(text);
    plan_free(&p);
}

/* Every planner's schedules go through every format. */
static void everything_prints(void **state)
{
    (void)state;
    static const int host[] = { 0, 0, 1, 1, 1, 2 };
    for (int hosts = 0; hosts < 2; hosts++)
        for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
            for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
                plan p;
                weft_plan_request request = {.collective = (weft_collective)c,
                                             .algorithm = (weft_algorithm)a,
                                             .group = {.ranks = 6, .host = hosts ? host : NULL}};
                if (weft_plan_obstacle(&request))
                    continue;
                plan_make(&p, request.collective, request.algorithm, 6, request.group.host);
                for (int format = WEFT_PRINT_TEXT; format <= WEFT_PRINT_DOT; format++)
                    for (size_t bytes = 0; bytes <= (size_t)256 << 20; bytes = bytes * 4096 + 4096)
                        free(printed(&p, 0, 6, bytes, (weft_print_format)format));
                plan_free(&p);
            }
}

static void what_cannot_be_printed_is_an_error(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_RING, 4, NULL);
    const weft_schedule *const *all = (const weft_schedule *const *)p.s;
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(weft_schedule_print(all, 4, NULL, NULL, 8, WEFT_PRINT_TEXT, full), WEFT_ERR_SYSTEM);
    fclose(full);
    assert_int_equal(weft_schedule_print(all, 2, NULL, NULL, 8, WEFT_PRINT_SVG, stdout), WEFT_ERR_INVALID);
    assert_int_equal(weft_schedule_print(all, 0, NULL, NULL, 8, WEFT_PRINT_TEXT, stdout), WEFT_ERR_INVALID);
    assert_int_equal(weft_schedule_print(all, 4, NULL, NULL, 8, (weft_print_format)9, stdout),
                     WEFT_ERR_INVALID);
    plan_free(&p);
}

static void out_of_memory_is_an_error(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, WEFT_HIERARCHICAL, 4, (const int[]){ 0, 0, 1, 1 });
    for (int format = WEFT_PRINT_TEXT; format <= WEFT_PRINT_DOT; format++) {
        weft_status status = WEFT_ERR_MEMORY;
        for (long n = 1; status == WEFT_ERR_MEMORY; n++) {
            FILE *stream = fopen("/dev/null", "w");
            assert_non_null(stream);
            weft_alloc_fail_at(n, false);
            status = weft_schedule_print((const weft_schedule *const *)p.s, 4, &p.request.group, NULL,
                                         1 << 20, (weft_print_format)format, stream);
            weft_alloc_fail_at(0, false);
            fclose(stream);
        }
        assert_int_equal(status, WEFT_OK);
    }
    plan_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_step_reads_well),
        cmocka_unit_test(a_long_text_is_cut_and_ended),
        cmocka_unit_test(text_has_all_steps_of_a_small_plan),
        cmocka_unit_test(text_of_a_large_plan_is_numbers_and_of_one_rank_steps),
        cmocka_unit_test(json_has_every_step_and_place),
        cmocka_unit_test(svg_has_a_bar_per_step_and_a_row_per_rank),
        cmocka_unit_test(dot_joins_what_goes_the_same_way),
        cmocka_unit_test(everything_prints),
        cmocka_unit_test(what_cannot_be_printed_is_an_error),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

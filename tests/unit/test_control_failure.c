/* Deaths and news: every survivor learns who died first, by name, while it is idle; survivors that quit because of it are
 * not named; a slow rank is not dead; the survivors find each other again.
 * mostly waits */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/control.h"
#include "support_ranks.h"

enum { NEWS_MS = 10000 };

enum { SHRINK_PORTS = 20 };
static int shrink_port; /* the ranks' listeners are at this one or one of the next, 0: anywhere */

static const char *fresh_url(void)
{
    static char url[64];
    int port;
    do {
        port = free_port(0);
    } while (shrink_port && port >= shrink_port && port <= shrink_port + SHRINK_PORTS);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    return url;
}

/* ---- deaths while idle -------------------------------------------------------------------------------- */

/* Creates, says so, sleeps until the first news, and exits at once without a goodbye. */
static void die_of_the_news(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_notice notice, first;
    notice_box *box = notice_box_create();
    weft_control_config config = rank_config(rank, size, context, 20000);
    config.notice = notice_box_put;
    config.notice_context = box;
    weft_status status = weft_control_create(&config, &c);
    if (status != WEFT_OK) {
        outcome_fail(result, status);
        return;
    }
    rank_say_ready();
    if (!notice_box_get(box, 0, NEWS_MS, &notice)) {
        result->status = WEFT_ERR_TIMEOUT;
        return;
    }
    uint64_t dead[8];
    weft_control_dead(c, dead);
    if (!weft_control_failed(c, &first) || first.rank != notice.rank || (dead[notice.rank / 64] >> (notice.rank % 64) & 1) == 0)
        result->status = WEFT_ERR_INTERNAL;
    result->rank = notice.rank;
    snprintf(result->text, sizeof result->text, "%s", notice.text);
}

static void expect_named(int size, int victim)
{
    rank_group group;
    outcome result;
    ranks_fork(&group, size, die_of_the_news, fresh_url());
    ranks_await_ready(&group);
    int64_t start = weft_now_ns();
    ranks_kill(&group, victim);
    for (int r = 0; r < size; r++) {
        if (r == victim)
            continue;
        assert_true(ranks_outcome(&group, r, NEWS_MS + 2000, &result));
        if (result.status != WEFT_OK || result.rank != victim)
            fail_msg("rank %d of %d says '%s' (%d), but rank %d died", r, size, result.text, (int)result.status, victim);
        char text[32];
        snprintf(text, sizeof text, "rank %d died", victim);
        assert_non_null(strstr(result.text, text));
    }
    print_message("%d ranks, rank %d killed: all survivors knew %.1f ms later\n", size, victim,
                  (double)(weft_now_ns() - start) / 1e6);
    ranks_end(&group);
}

static void test_every_survivor_names_who_died_first(void **state)
{
    (void)state;
    expect_named(2, 0);
    expect_named(2, 1);
    for (int victim = 0; victim < 6; victim++)
        expect_named(6, victim);
    expect_named(40, 0);  /* the root */
    expect_named(40, 1);  /* an inner node */
    expect_named(40, 39); /* a leaf */
}

/* ---- during an all-gather ----------------------------------------------------------------------------- */

static void gather_until_it_fails(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 20000);
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK)
        rank_say_ready();
    while (status == WEFT_OK)
        status = check_allgather(c, 1000);
    outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static void test_allgather_fails_with_the_name_of_the_dead(void **state)
{
    (void)state;
    for (int victim = 0; victim < 9; victim += 4) {
        rank_group group;
        outcome result;
        char text[32];
        ranks_fork(&group, 9, gather_until_it_fails, fresh_url());
        ranks_await_ready(&group);
        ranks_kill(&group, victim);
        snprintf(text, sizeof text, "rank %d died", victim);
        for (int r = 0; r < 9; r++) {
            if (r == victim)
                continue;
            assert_true(ranks_outcome(&group, r, NEWS_MS, &result));
            assert_int_equal(result.status, WEFT_ERR_PEER);
            assert_non_null(strstr(result.text, text));
        }
        ranks_end(&group);
    }
}

/* ---- a stopped rank ----------------------------------------------------------------------------------- */

static void stay_calm(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 20000);
    config.dead_peer_ms = 1000;
    weft_status status = weft_control_create(&config, &c);
    rank_say_ready();
    rank_await_word();
    if (status == WEFT_OK)
        status = check_allgather(c, 100);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static void test_a_stopped_rank_is_not_dead(void **state)
{
    (void)state;
    rank_group group;
    outcome result;
    ranks_fork(&group, 5, stay_calm, fresh_url());
    ranks_await_ready(&group);
    kill(group.pids[1], SIGSTOP);
    sleep(3); /* three times as long as a silent host is given */
    kill(group.pids[1], SIGCONT);
    ranks_send_word_all(&group);
    for (int r = 0; r < 5; r++) {
        assert_true(ranks_outcome(&group, r, NEWS_MS, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d: %s", r, result.text);
    }
    ranks_end(&group);
}

/* ---- a child of a fork that lives on ------------------------------------------------------------------ */

static void fork_and_wait(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_notice notice;
    notice_box *box = notice_box_create();
    weft_control_config config = rank_config(rank, size, context, 20000);
    config.notice = notice_box_put;
    config.notice_context = box;
    if (weft_control_create(&config, &c) != WEFT_OK) {
        outcome_fail(result, WEFT_ERR_INTERNAL);
        return;
    }
    if (rank == 1 && fork() == 0) {
        rank_await_word(); /* for ever: it ends with the test, whose end of the line closes */
        _exit(0);
    }
    rank_say_ready();
    if (!notice_box_get(box, 0, NEWS_MS, &notice))
        result->status = WEFT_ERR_TIMEOUT;
    else
        result->rank = notice.rank;
}

static void test_a_living_child_does_not_hide_its_parents_death(void **state)
{
    (void)state;
    rank_group group;
    outcome result;
    ranks_fork(&group, 4, fork_and_wait, fresh_url());
    ranks_await_ready(&group);
    ranks_kill(&group, 1);
    for (int r = 0; r < 4; r++) {
        if (r == 1)
            continue;
        assert_true(ranks_outcome(&group, r, NEWS_MS + 2000, &result));
        assert_int_equal(result.status, WEFT_OK);
        assert_int_equal(result.rank, 1);
    }
    ranks_end(&group);
}

/* ---- other news --------------------------------------------------------------------------------------- */

typedef struct reporting { const char *url; pthread_barrier_t *barrier; } reporting;

static void report(int rank, int size, const void *context, outcome *result)
{
    const reporting *r = context;
    weft_control *c = NULL;
    weft_notice notice;
    notice_box *box = notice_box_create();
    weft_control_config config = rank_config(rank, size, r->url, 20000);
    config.notice = notice_box_put;
    config.notice_context = box;
    weft_status status = weft_control_create(&config, &c);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    /* Ranks 3 and 5 find the same, rank 4 something else, three times. */
    for (int again = 0; again < 3 && c != NULL; again++) {
        weft_notice mine = { .comm = 7, .status = WEFT_ERR_MISMATCH, .rank = rank == 4 ? 0 : 2, .reporter = -1 };
        snprintf(mine.text, sizeof mine.text, "found by %d", rank);
        if (rank >= 3 && rank <= 5)
            weft_control_report(c, &mine);
    }
    bool seen[2] = { false, false };
    for (int i = 0; i < 2 && c != NULL; i++) {
        if (!notice_box_get(box, i, NEWS_MS, &notice) || notice.comm != 7 || notice.status != WEFT_ERR_MISMATCH ||
            (notice.rank != 0 && notice.rank != 2) || strncmp(notice.text, "found by ", 9) != 0 ||
            notice.reporter != notice.text[9] - '0')
            result->status = WEFT_ERR_INTERNAL;
        else
            seen[notice.rank / 2] = true;
    }
    pthread_barrier_wait(r->barrier);
    if (!seen[0] || !seen[1] || notice_box_count(box) != 2 || weft_control_failed(c, NULL))
        result->status = WEFT_ERR_INTERNAL;
    weft_control_destroy(c, 10000);
    notice_box_free(box);
}

static void test_news_reaches_each_rank_once(void **state)
{
    (void)state;
    outcome results[12];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 12);
    ranks_as_threads(12, report, &(reporting){ fresh_url(), &barrier }, results);
    for (int r = 0; r < 12; r++) {
        if (results[r].status != WEFT_OK)
            fail_msg("rank %d: %s", r, results[r].text);
    }
    pthread_barrier_destroy(&barrier);
}

/* ---- shrink ------------------------------------------------------------------------------------------- */

static int64_t shrink_patience_ms = 20000;

/* Waits for the first death and for the test's word, shrinks, and all-gathers among the survivors. */
static void shrink(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL, *smaller = NULL;
    weft_notice notice;
    bool alive[64] = { false };
    notice_box *box = notice_box_create();
    weft_control_config config = rank_config(rank, size, context, 20000);
    char ports[32];
    snprintf(ports, sizeof ports, "%d-%d", shrink_port, shrink_port + SHRINK_PORTS);
    config.port_range = shrink_port ? ports : NULL;
    config.notice = notice_box_put;
    config.notice_context = box;
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK) {
        rank_say_ready();
        notice_box_get(box, 0, NEWS_MS, &notice);
        rank_await_word();
        status = weft_control_shrink(c, weft_deadline_ns(shrink_patience_ms), NULL, NULL, alive, &smaller);
    }
    if (status == WEFT_OK)
        status = check_allgather(smaller, 33);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    if (smaller != NULL)
        result->rank = weft_control_rank(smaller) * 1000 + weft_control_size(smaller);
    for (int r = 0; r < size; r++)
        result->text[status == WEFT_OK ? r : 500] = alive[r] ? '1' : '0';
    weft_control_destroy(smaller, 10000);
    weft_control_destroy(c, 1000);
}

static void expect_shrunk(int size, const char *dead)
{
    rank_group group;
    outcome result;
    ranks_fork(&group, size, shrink, fresh_url());
    ranks_await_ready(&group);
    int survivors = 0, next = 0;
    for (int r = 0; r < size; r++) {
        if (dead[r] == 'x')
            ranks_kill(&group, r);
        survivors += dead[r] != 'x';
    }
    for (int r = 0; r < size; r++) {
        if (dead[r] != 'x')
            ranks_send_word(&group, r);
    }
    for (int r = 0; r < size; r++) {
        if (dead[r] == 'x')
            continue;
        assert_true(ranks_outcome(&group, r, 30000, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d with dead %s: %s", r, dead, result.text);
        assert_int_equal(result.rank, next++ * 1000 + survivors);
        for (int other = 0; other < size; other++)
            assert_int_equal(result.text[other], dead[other] == 'x' ? '0' : '1');
    }
    ranks_end(&group);
}

static void test_survivors_meet_again(void **state)
{
    (void)state;
    static const char *const dead[] = { "...x", "x...", "xx..", "xxx.", ".x.x.x.x", "xx.x......x.", "x......" };
    for (size_t i = 0; i < ARRAY_LEN(dead); i++)
        expect_shrunk((int)strlen(dead[i]), dead[i]);
}

static void test_a_death_during_the_shrink_is_survived(void **state)
{
    (void)state;
    for (int second = 1; second < 6; second += 2) { /* 1: the leader itself */
        rank_group group;
        outcome result;
        ranks_fork(&group, 7, shrink, fresh_url());
        ranks_await_ready(&group);
        ranks_kill(&group, 0);
        for (int r = 1; r < 7; r++) {
            if (r != second)
                ranks_send_word(&group, r);
        }
        ranks_kill(&group, second); /* the others wait for it, or for the meeting at it */
        int next = 0;
        for (int r = 1; r < 7; r++) {
            if (r == second)
                continue;
            assert_true(ranks_outcome(&group, r, 30000, &result));
            if (result.status != WEFT_OK)
                fail_msg("rank %d: %s", r, result.text);
            assert_int_equal(result.rank, next++ * 1000 + 5);
        }
        ranks_end(&group);
    }
}

/* The survivors open new listeners, which get the lowest ports that are free: those of the dead. */
static void test_a_port_of_the_dead_is_not_taken_for_their_life(void **state)
{
    shrink_port = free_port(SHRINK_PORTS);
    test_a_death_during_the_shrink_is_survived(state);
    shrink_port = 0;
}

static void test_a_survivor_that_does_not_shrink_is_named(void **state)
{
    (void)state;
    shrink_patience_ms = 3000;
    for (int absent = 1; absent < 4; absent += 2) { /* 1: the leader */
        rank_group group;
        outcome result;
        char text[32];
        ranks_fork(&group, 4, shrink, fresh_url());
        ranks_await_ready(&group);
        ranks_kill(&group, 0);
        for (int r = 1; r < 4; r++) {
            if (r != absent)
                ranks_send_word(&group, r);
        }
        snprintf(text, sizeof text, "rank %d", absent);
        for (int r = 1; r < 4; r++) {
            if (r == absent)
                continue;
            assert_true(ranks_outcome(&group, r, 30000, &result));
            assert_int_equal(result.status, WEFT_ERR_TIMEOUT);
            assert_non_null(strstr(result.text, text));
        }
        ranks_kill(&group, absent);
        ranks_end(&group);
    }
    shrink_patience_ms = 20000;
}

static void shrink_alone(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL, *again = NULL;
    bool alive[4] = { false };
    weft_control_config config = rank_config(rank, size, context, 20000);
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK)
        status = weft_control_shrink(c, weft_deadline_ns(20000), NULL, NULL, alive, &again);
    if (status == WEFT_OK)
        status = check_allgather(again, 3);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    else
        result->rank = weft_control_size(again);
    weft_control_destroy(c, 10000);
    weft_control_destroy(again, 10000);
}

static void test_shrink_without_a_death_keeps_all(void **state)
{
    (void)state;
    outcome results[3];
    for (int size = 1; size <= 3; size += 2) {
        ranks_as_threads(size, shrink_alone, fresh_url(), results);
        for (int r = 0; r < size; r++) {
            if (results[r].status != WEFT_OK)
                fail_msg("rank %d: %s", r, results[r].text);
            assert_int_equal(results[r].rank, size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_survivor_names_who_died_first),
        cmocka_unit_test(test_allgather_fails_with_the_name_of_the_dead),
        cmocka_unit_test(test_a_stopped_rank_is_not_dead),
        cmocka_unit_test(test_a_living_child_does_not_hide_its_parents_death),
        cmocka_unit_test(test_news_reaches_each_rank_once),
        cmocka_unit_test(test_survivors_meet_again),
        cmocka_unit_test(test_a_death_during_the_shrink_is_survived),
        cmocka_unit_test(test_a_port_of_the_dead_is_not_taken_for_their_life),
        cmocka_unit_test(test_a_survivor_that_does_not_shrink_is_named),
        cmocka_unit_test(test_shrink_without_a_death_keeps_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

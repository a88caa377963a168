/* One rank of several runs out of memory while the group is made, or one is split from it, at every allocation it does: all
 * others have an error that names it at once, and wait for no time limit. The ranks are processes, which count their own.
 * mostly waits */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support_ranks.h"

enum { RANKS = 4, LIMIT_MS = 60000, PATIENCE_MS = 10000, BUDGET_MS = 600 };

typedef struct creation {
    const char *url, *transports;
    int victim;
    long n;         /* the allocation that fails */
    bool all_after; /* and all later ones */
} creation;

/* result->rank: 1 if the victim did as many allocations as that. */
static void create(int rank, int size, const void *context, outcome *result)
{
    const creation *given = context;
    weft_config config = WEFT_CONFIG_INIT;
    weft_comm *comm = NULL, *part = NULL;
    config.transports = given->transports;
    config.timeout_ms = LIMIT_MS;
    if (rank == given->victim)
        weft_alloc_fail_at(given->n, given->all_after);
    weft_status status = weft_comm_create_url(given->url, rank, size, &config, &comm);
    if (status == WEFT_OK && strcmp(given->transports, "shm") == 0)
        status = weft_comm_split(comm, 0, rank, NULL, &part);
    if (rank == given->victim)
        result->rank = weft_alloc_count() >= given->n;
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_alloc_fail_at(0, false);
    /* Who could not read the last message of all fails alone; the others hear of it at their next call. */
    if (comm != NULL && part == NULL && status == WEFT_OK && (status = weft_barrier(comm, NULL)) != WEFT_OK)
        outcome_fail(result, status);
    weft_comm_destroy(part);
    weft_comm_destroy(comm);
}

static int problems;

static void check_rank(const creation *given, int rank, const outcome *victim, const outcome *said)
{
    char name[32];
    const char *problem = NULL;
    snprintf(name, sizeof name, "rank %d", given->victim);
    if (said->status == WEFT_OK && victim->status != WEFT_OK)
        problem = "knows nothing of it";
    else if (said->status != WEFT_OK && rank != given->victim && strstr(said->text, name) == NULL)
        problem = "does not name it";
    else if (said->status == WEFT_ERR_TIMEOUT)
        problem = "waited in vain";
    if (problem != NULL && problems++ < 20)
        print_error("allocation %ld%s of rank %d fails: rank %d %s: '%s' (there: '%s')\n", given->n,
                    given->all_after ? " and all later ones" : "", given->victim, rank, problem, said->text, victim->text);
}

/* True: the victim did that many allocations. */
static bool one_fails(const creation *given)
{
    rank_group group;
    outcome results[RANKS] = { 0 };
    ranks_fork(&group, RANKS, create, given);
    for (int r = 0; r < RANKS; r++)
        if (!ranks_outcome(&group, r, PATIENCE_MS, &results[r]))
            results[r] = (outcome){ .status = WEFT_ERR_TIMEOUT, .rank = 1, .text = "(hangs)" };
    ranks_end(&group);
    for (int r = 0; r < RANKS; r++) {
        if (getenv("ALLOCATION") != NULL)
            print_message("%ld of rank %d: rank %d after %.0f ms: %s\n", given->n, given->victim, r,
                          (double)results[r].taken_ns / 1e6, results[r].text);
        check_rank(given, r, &results[given->victim], &results[r]);
    }
    return results[given->victim].rank == 1;
}

static void everyone_hears_of_it(void **state)
{
    const char *transports = *state;
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d+7", free_port(7));
    const char *only = getenv("ALLOCATION"); /* to look at one */
    long made[RANKS] = { 0 };
    problems = 0;
    for (int victim = 0; victim < RANKS; victim += victim == 1 ? 2 : 1) {
        creation given = {.url = url, .transports = transports, .victim = victim, .n = only != NULL ? strtol(only, NULL, 10) : 1};
        int64_t end = weft_deadline_ns(BUDGET_MS);
        long lives = 0, step = 1;
        for (; one_fails(&given) && only == NULL; lives++) {
            step += weft_now_ns() > end ? step : 0; /* all while there is time, then ever fewer */
            given.n += step;
            given.all_after = victim != 0 && given.n % 5 == 4; /* rank 0 must have some to tell the others */
        }
        made[victim] = lives;
    }
    print_message("%s: %ld, %ld and %ld allocations of ranks 0, 1 and 3 failed\n", transports, made[0], made[1], made[3]);
    assert_int_equal(problems, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(everyone_hears_of_it, (void *)"shm"),
        cmocka_unit_test_prestate(everyone_hears_of_it, (void *)"tcp"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* System calls interrupted all the time: a timer signals every rank each millisecond, without SA_RESTART, while a group is
 * made, computes, sleeps while it waits, splits and ends. The ranks are processes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "support_ranks.h"

enum { RANKS = 3, ROUNDS = 8, MOST = 200000, NAP_US = 3000 };

typedef struct storm {
    const char *transports, *url;
} storm;

static volatile sig_atomic_t signals;

static void on_alarm(int number)
{
    (void)number;
    signals++;
}

static void start_storm(bool on)
{
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval every = { .it_interval = { .tv_usec = on ? 1000 : 0 }, .it_value = { .tv_usec = on ? 1000 : 0 } };
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

/* One rank comes late, so that the others sleep in the call, and the signals hit their sleep. */
static void come_late(bool late)
{
    sig_atomic_t until = signals + NAP_US / 1000;
    while (late && signals < until)
        pause();
}

static weft_status compute(weft_comm *comm, int rank)
{
    static const size_t counts[] = { 1, 1000, MOST };
    int64_t *data = calloc(MOST, sizeof *data), *other = calloc(MOST, sizeof *other);
    weft_status status = data != NULL && other != NULL ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory for the test");
    for (int round = 0; round < ROUNDS && status == WEFT_OK; round++) {
        size_t count = counts[round % (int)ARRAY_LEN(counts)];
        for (size_t i = 0; i < count; i++)
            data[i] = (int64_t)i + rank;
        come_late(round % RANKS == rank);
        status = weft_all_reduce(comm, data, data, count, WEFT_I64, WEFT_SUM, NULL);
        for (size_t i = 0; i < count && status == WEFT_OK; i++)
            if (data[i] != RANKS * (int64_t)i + RANKS * (RANKS - 1) / 2)
                status = weft_fail(WEFT_ERR_INTERNAL, "element %zu of %zu is wrong", i, count);
        weft_request *request = NULL;
        if (status == WEFT_OK)
            status = weft_send(comm, data, count, WEFT_I64, (rank + 1) % RANKS, round, &request);
        if (status == WEFT_OK)
            status = weft_recv(comm, other, count, WEFT_I64, (rank + RANKS - 1) % RANKS, round, NULL, NULL);
        if (request != NULL && weft_wait(&request) != WEFT_OK && status == WEFT_OK)
            status = weft_fail(WEFT_ERR_INTERNAL, "sending failed");
        if (status == WEFT_OK)
            status = weft_barrier(comm, NULL);
    }
    free(data);
    free(other);
    return status;
}

static void weather(int rank, int size, const void *context, outcome *result)
{
    const storm *given = context;
    weft_config config = WEFT_CONFIG_INIT;
    weft_comm *comm = NULL, *part = NULL;
    config.transports = given->transports;
    config.timeout_ms = 60000;
    start_storm(true);
    weft_status status = weft_comm_create_url(given->url, rank, size, &config, &comm);
    if (status == WEFT_OK)
        status = compute(comm, rank);
    if (status == WEFT_OK)
        status = weft_comm_split(comm, 0, -rank, NULL, &part);
    if (status == WEFT_OK)
        status = weft_barrier(part, NULL);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_comm_destroy(part);
    weft_comm_destroy(comm);
    start_storm(false);
    result->rank = (int)signals;
}

static void signals_do_no_harm(void **state)
{
    rank_group group;
    outcome result;
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_fork(&group, RANKS, weather, &(storm){ *state, url });
    for (int r = 0; r < RANKS; r++) {
        assert_true(ranks_outcome(&group, r, 60000, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d: %s", r, result.text);
        assert_true(result.rank > 0);
    }
    ranks_end(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(signals_do_no_harm, (void *)"shm"),
        cmocka_unit_test_prestate(signals_do_no_harm, (void *)"tcp"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

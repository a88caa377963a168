/* Every allocation of a small group's life fails once: creation, collectives, messages, groups, split and destruction end in
 * success or in an error on both ranks, and neither crash, hang nor leak. The ranks are threads of this process.
 * mostly waits */
#include <stdlib.h>

#include "../checks.h"
#include "base/base.h"

enum { RANKS = 2, COUNT = 3000, LEAST_MS = 400, SECONDS = 6 };

static const char *transports;
static int problems, seconds = SECONDS;
static int64_t timeout_ms = 10000;

static void problem(long n, bool all_after, int rank, weft_status status, const char *detail)
{
    if (problems++ < 20)
        print_error("allocation %ld%s fails: rank %d: %s: '%s'\n", n, all_after ? " and all later ones" : "", rank,
                    weft_status_text(status), detail);
}

static weft_status send_and_receive(weft_comm *comm, int rank, int32_t *data)
{
    weft_request *requests[2] = {NULL, NULL};
    weft_recv_info info;
    weft_status status = weft_send(comm, data, COUNT, WEFT_I32, 1 - rank, 7, &requests[0]);
    if (status == WEFT_OK)
        status = weft_recv(comm, data + COUNT, COUNT, WEFT_I32, 1 - rank, 7, &info, &requests[1]);
    char detail[300];
    snprintf(detail, sizeof detail, "%s", weft_last_error());
    weft_status waited = weft_wait_all(requests, 2); /* the first one, also if the second could not begin */
    return status == WEFT_OK ? waited : weft_fail(status, "%s", detail);
}

static weft_status grouped(weft_comm *comm, int32_t *data)
{
    weft_request *request = NULL;
    weft_status status = weft_group_start();
    if (status != WEFT_OK)
        return status;
    for (int k = 0; k < 3 && status == WEFT_OK; k++)
        status = weft_all_reduce(comm, data + k * 10, data + k * 10, 10, WEFT_I32, WEFT_SUM, NULL);
    weft_status ended = weft_group_end(&request);
    if (ended == WEFT_OK && request)
        ended = weft_wait(&request);
    return ended; /* says so too where a call could not be added */
}

static weft_status persistent(weft_comm *comm, int32_t *data)
{
    weft_request *request = NULL;
    weft_status status = weft_all_reduce_init(comm, data, data + COUNT, COUNT, WEFT_I32, WEFT_SUM, &request);
    for (int k = 0; k < 2 && status == WEFT_OK; k++) {
        status = weft_start(request);
        if (status == WEFT_OK)
            status = weft_wait(&request);
    }
    char detail[300];
    snprintf(detail, sizeof detail, "%s", weft_last_error());
    weft_request_free(&request);
    return status == WEFT_OK ? WEFT_OK : weft_fail(status, "%s", detail);
}

/* The calls of one rank, up to the first error: the other rank learns of it. */
static weft_status calls(weft_comm *comm, int rank, char *detail, size_t detail_bytes)
{
    int32_t *data = calloc(2 * COUNT, sizeof *data), *more = calloc(2 * COUNT, sizeof *more);
    const size_t counts[RANKS] = {5, 7}, displs[RANKS] = {0, 9};
    weft_comm *part = NULL;
    weft_status status = weft_all_reduce(comm, data, more, COUNT, WEFT_I32, WEFT_SUM, NULL);
    if (status == WEFT_OK)
        status = weft_broadcast(comm, data, data, COUNT, WEFT_I32, 1, NULL);
    if (status == WEFT_OK)
        status = weft_all_gather_v(comm, data, counts[rank], more, counts, displs, WEFT_I32, NULL);
    if (status == WEFT_OK)
        status = weft_all_to_all(comm, data, more, COUNT, WEFT_I32, NULL);
    if (status == WEFT_OK)
        status = weft_barrier(comm, NULL);
    if (status == WEFT_OK)
        status = send_and_receive(comm, rank, data);
    if (status == WEFT_OK)
        status = grouped(comm, data);
    if (status == WEFT_OK)
        status = persistent(comm, data);
    if (status == WEFT_OK)
        status = weft_comm_split(comm, 0, -rank, NULL, &part);
    if (status == WEFT_OK)
        status = weft_all_reduce(part, data, more, 3, WEFT_I32, WEFT_MAX, NULL);
    snprintf(detail, detail_bytes, "%s", status == WEFT_OK ? "" : weft_last_error());
    weft_comm_destroy(part);
    free(data);
    free(more);
    return status;
}

typedef struct place {
    const weft_unique_id *id;
    int rank;
    weft_status status;
    char detail[300];
} place;

static void *live(void *argument)
{
    place *p = argument;
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = transports;
    config.timeout_ms = timeout_ms;
    weft_comm *comm = NULL;
    p->status = weft_comm_create_id(p->id, p->rank, RANKS, &config, &comm);
    if (p->status == WEFT_OK)
        p->status = calls(comm, p->rank, p->detail, sizeof p->detail);
    else
        snprintf(p->detail, sizeof p->detail, "%s", weft_last_error());
    weft_comm_destroy(comm);
    return NULL;
}

/* One life in which the n-th allocation fails (0: none), and all later ones too if `all_after`; true: that many there were.
 * Nobody waits for the time limit: an error is told to the other rank. */
static bool one_life(long n, bool all_after)
{
    weft_unique_id id;
    place places[RANKS];
    pthread_t threads[RANKS];
    int64_t start = weft_now_ns();
    weft_alloc_fail_at(n, all_after);
    weft_status status = weft_get_unique_id(&id);
    for (int r = 0; r < RANKS && status == WEFT_OK; r++) {
        places[r] = (place){.id = &id, .rank = r};
        assert_int_equal(pthread_create(&threads[r], NULL, live, &places[r]), 0);
    }
    for (int r = 0; r < RANKS && status == WEFT_OK; r++)
        pthread_join(threads[r], NULL);
    long allocations = weft_alloc_count();
    weft_alloc_fail_at(0, false);
    if (status != WEFT_OK)
        return true;
    int64_t taken_ms = (weft_now_ns() - start) / WEFT_NS_PER_MS;
    for (int r = 0; r < RANKS; r++) {
        bool error = places[r].status != WEFT_OK;
        if (error && n == 0)
            fail_msg("rank %d fails where no allocation does: %s", r, places[r].detail);
        /* A timeout is right where a rank failed before it met the other, or at calls of a group: it never came. */
        if (error && (!places[r].detail[0] || places[r].status == WEFT_ERR_INTERNAL))
            problem(n, all_after, r, places[r].status, places[r].detail);
    }
    if (getenv("ALLOCATION") || taken_ms > 3 * timeout_ms) /* what a run that took long was about */
        print_message("%ld: %lld ms (who waits alone: %lld ms): %s | %s\n", n, (long long)taken_ms, (long long)timeout_ms,
                      places[0].detail, places[1].detail);
    return n == 0 || allocations >= n;
}

static void every_allocation_fails_once(void **state)
{
    transports = *state;
    problems = 0;
    time_limit(100 + 4 * (unsigned)seconds);
    timeout_ms = 10000;
    assert_true(one_life(0, false)); /* what is allocated once per process is there now */
    int64_t start = weft_now_ns();
    assert_true(one_life(0, false));
    timeout_ms = (weft_now_ns() - start) / WEFT_NS_PER_MS * 10; /* a rank that fails alone makes the other wait so long */
    timeout_ms = timeout_ms < LEAST_MS ? LEAST_MS : timeout_ms;
    int64_t end = weft_now_ns() + seconds * 1000000000ll;
    const char *only = getenv("ALLOCATION"); /* to look at one */
    long n = only ? strtol(only, NULL, 10) : 1, lives = 0;
    for (long step = 1; one_life(n, n % 7 == 3) && !only; n += step, lives++)
        if (weft_now_ns() > end) { /* all while there is time, then ever fewer */
            step *= 2;
            end += seconds * 100000000ll;
        }
    print_message("%s: %ld of %ld allocations failed\n", transports, lives, n);
    assert_int_equal(problems, 0);
}

/* An argument: seconds for each transport. */
int main(int argc, char **argv)
{
    seconds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : SECONDS;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(every_allocation_fails_once, (void *)"shm"),
        cmocka_unit_test_prestate(every_allocation_fails_once, (void *)"tcp"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Threads and progress: several communicators of a rank used from several threads at once, requests of one
 * communicator waited for by several, the progress hook, and that whoever blocks moves all that is under
 * way. */
#include <sched.h>

#include "../checks.h"

enum { THREADS = 3, ROUNDS = 60, MOST = 5000 };

static int32_t value(int rank, int thread, int round, size_t i)
{
    return rank * 31 + thread * 7 + round + (int32_t)i;
}

/* A rank's work on one communicator, from one thread. */
typedef struct worker {
    pthread_t thread;
    weft_comm *comm;
    int number;
    weft_unique_id id;
    int rank, ranks;
    weft_request *request;
    weft_status status;
} worker;

static void work_on(weft_comm *comm, int number)
{
    int rank = weft_comm_rank(comm), ranks = weft_comm_size(comm), next = (rank + 1) % ranks,
        before = (rank + ranks - 1) % ranks;
    int32_t *data = malloc(MOST * sizeof *data), got[50];
    for (int k = 0; k < ROUNDS; k++) {
        size_t count = k % 5 == 0 ? MOST : (size_t)k;
        weft_request *requests[3];
        for (size_t i = 0; i < count; i++)
            data[i] = value(rank, number, k, i);
        CHECK_OK(weft_recv(comm, got, 50, WEFT_I32, before, k, NULL, &requests[0]));
        CHECK_OK(weft_all_reduce(comm, data, data, count, WEFT_I32, WEFT_SUM, &requests[1]));
        int32_t out[2] = {rank, number};
        CHECK_OK(weft_send(comm, out, 2, WEFT_I32, next, k, &requests[2]));
        CHECK_OK(weft_wait_all(requests, 3));
        CHECK(got[0] == before && got[1] == number, "thread %d round %d: a message of rank %d, thread %d",
              number, k, got[0], got[1]);
        for (size_t i = 0; i < count; i++) {
            int32_t sum = 0;
            for (int r = 0; r < ranks; r++)
                sum += value(r, number, k, i);
            if (!CHECK(data[i] == sum, "thread %d round %d element %zu: %d, not %d", number, k, i, data[i],
                       sum))
                break;
        }
        if (k % 7 == 0)
            CHECK_OK(weft_barrier(comm, NULL));
    }
    free(data);
}

static void *work(void *argument)
{
    worker *w = argument;
    work_on(w->comm, w->number);
    return NULL;
}

/* Communicators of one process group. */
static void one_group(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    (void)ranks;
    worker workers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (worker){.number = t};
        CHECK_OK(weft_comm_split(comm, 0, t % 2 ? -rank : rank, NULL, &workers[t].comm));
    }
    for (int t = 0; t < THREADS; t++)
        pthread_create(&workers[t].thread, NULL, work, &workers[t]);
    work_on(comm, THREADS);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(workers[t].thread, NULL);
        CHECK_OK(weft_comm_destroy(workers[t].comm));
    }
}

/* Every thread makes a group of its own, works, and ends it. */
static void *group_of_its_own(void *argument)
{
    worker *w = argument;
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = w->number % 2 ? "tcp" : "shm";
    config.timeout_ms = CHECK_TIMEOUT_MS;
    if (!CHECK_OK(weft_comm_create_id(&w->id, w->rank, w->ranks, &config, &w->comm)))
        return NULL;
    work_on(w->comm, w->number);
    CHECK_OK(weft_comm_destroy(w->comm));
    return NULL;
}

static void several_groups(weft_comm *comm, int rank, int ranks, void *context)
{
    const weft_unique_id *ids = context;
    worker workers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (worker){.number = t, .id = ids[t], .rank = rank, .ranks = ranks};
        pthread_create(&workers[t].thread, NULL, group_of_its_own, &workers[t]);
    }
    work_on(comm, THREADS);
    for (int t = 0; t < THREADS; t++)
        pthread_join(workers[t].thread, NULL);
}

/* Different communicators split by different threads at the same time. */
static void *split_again(void *argument)
{
    worker *w = argument;
    for (int k = 0; k < 15; k++) {
        weft_comm *part = NULL;
        int ranks = weft_comm_size(w->comm), rank = weft_comm_rank(w->comm);
        if (!CHECK_OK(weft_comm_split(w->comm, (rank + k) % 2, rank, NULL, &part)))
            return NULL;
        for (int i = 0; i < 3; i++) {
            int64_t mine = 1000 * w->number + 1, sum = 0, expected = 0;
            for (int r = 0; r < ranks; r++)
                expected += (r + k) % 2 == (rank + k) % 2 ? mine : 0;
            CHECK_OK(weft_all_reduce(part, &mine, &sum, 1, WEFT_I64, WEFT_SUM, NULL));
            CHECK(sum == expected, "thread %d split %d: %lld, not %lld", w->number, k, (long long)sum,
                  (long long)expected);
        }
        CHECK_OK(weft_comm_destroy(part));
    }
    return NULL;
}

static void splits_at_once(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    (void)ranks;
    worker workers[THREADS];
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (worker){.number = t};
        CHECK_OK(weft_comm_split(comm, 0, rank, NULL, &workers[t].comm));
    }
    for (int t = 0; t < THREADS; t++)
        pthread_create(&workers[t].thread, NULL, split_again, &workers[t]);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(workers[t].thread, NULL);
        CHECK_OK(weft_comm_destroy(workers[t].comm));
    }
}

/* Requests of one communicator, each waited or tested for by a thread of its own. */
static void *wait_for_it(void *argument)
{
    worker *w = argument;
    if (w->number % 2) {
        w->status = weft_wait(&w->request);
        return NULL;
    }
    for (bool done = false; !done;)
        w->status = weft_test(&w->request, &done);
    return NULL;
}

static void waiting_threads(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    for (int round = 0; round < 10; round++) {
        worker workers[THREADS * 2];
        int32_t data[THREADS * 2][100];
        for (int t = 0; t < THREADS * 2; t++) {
            workers[t] = (worker){.number = t};
            for (size_t i = 0; i < 100; i++)
                data[t][i] = value(rank, t, round, i);
            CHECK_OK(weft_all_reduce(comm, data[t], data[t], 100, WEFT_I32, WEFT_MAX, &workers[t].request));
        }
        for (int t = 0; t < THREADS * 2; t++)
            pthread_create(&workers[t].thread, NULL, wait_for_it, &workers[t]);
        for (int t = 0; t < THREADS * 2; t++) {
            pthread_join(workers[t].thread, NULL);
            CHECK(workers[t].status == WEFT_OK && !workers[t].request, "thread %d: %s", t,
                  weft_status_text(workers[t].status));
            CHECK(data[t][99] == value(ranks - 1, t, round, 99), "thread %d: %d", t, data[t][99]);
        }
    }
}

/* ---- progress ---------------------------------------------------------------------------------- */

/* Rank 0 begins on one communicator and blocks on the other; rank 1 needs the first to go on before it
 * comes. Large, and with messages, so that nothing completes by being begun. */
static void blocked_elsewhere(weft_comm *first, weft_comm *second, int rank)
{
    enum { LARGE = 600000 };
    int32_t *data = calloc(LARGE, sizeof *data), *sent = calloc(LARGE, sizeof *sent), *got = calloc(LARGE, sizeof *got);
    weft_request *requests[2];
    CHECK_OK(weft_all_reduce(first, data, data, LARGE, WEFT_I32, WEFT_SUM, &requests[0]));
    if (rank == 0)
        CHECK_OK(weft_send(first, sent, LARGE, WEFT_I32, 1, 0, &requests[1]));
    else if (rank == 1)
        CHECK_OK(weft_recv(first, got, LARGE, WEFT_I32, 0, 0, NULL, &requests[1]));
    if (rank == 0) {
        CHECK_OK(weft_barrier(second, NULL));
        CHECK_OK(weft_wait_all(requests, 2));
    } else {
        CHECK_OK(weft_wait_all(requests, rank == 1 ? 2 : 1));
        CHECK_OK(weft_barrier(second, NULL));
    }
    free(data);
    free(sent);
    free(got);
}

static void same_group(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)ranks;
    (void)context;
    weft_comm *other = NULL;
    CHECK_OK(weft_comm_split(comm, 0, rank, NULL, &other));
    blocked_elsewhere(comm, other, rank);
    blocked_elsewhere(other, comm, rank);
    CHECK_OK(weft_comm_destroy(other));
}

static void other_group(weft_comm *comm, int rank, int ranks, void *context)
{
    weft_comm *other = NULL;
    weft_config config = WEFT_CONFIG_INIT;
    config.timeout_ms = CHECK_TIMEOUT_MS;
    config.transports = "tcp";
    if (!CHECK_OK(weft_comm_create_id(context, rank, ranks, &config, &other)))
        return;
    blocked_elsewhere(comm, other, rank);
    blocked_elsewhere(other, comm, rank);
    CHECK_OK(weft_comm_destroy(other));
}

static _Atomic int arrived;

/* Rank 0 does nothing but weft_progress; the others' collective completes. */
static void progress_alone(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { LARGE = 300000 };
    int32_t *data = calloc(LARGE, sizeof *data);
    weft_request *request;
    if (rank == 0)
        arrived = 0;
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK_OK(weft_broadcast(comm, data, data, LARGE, WEFT_I32, 0, &request));
    if (rank == 0)
        while (arrived < ranks - 1)
            CHECK_OK(weft_progress());
    CHECK_OK(weft_wait(&request));
    arrived++;
    free(data);
}

typedef struct hook_state {
    _Atomic long calls;
    _Atomic bool release;
} hook_state;

/* Lets the other rank go on only after it was called a few times. */
static void hook(void *context)
{
    hook_state *s = context;
    if (++s->calls >= 5)
        s->release = true;
}

static void hooked(weft_comm *comm, int rank, int ranks, void *context)
{
    hook_state *s = context;
    CHECK_OK(weft_barrier(comm, NULL));
    if (rank == 0)
        CHECK_OK(weft_set_progress_hook(hook, s));
    meet(ranks);
    while (rank == ranks - 1 && !s->release) /* the others wait for this one */
        sched_yield();
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK(s->calls >= 5, "the hook was called %ld times", s->calls);
    meet(ranks);
    if (rank == 0)
        CHECK_OK(weft_set_progress_hook(NULL, NULL));
    meet(ranks);
    long before = s->calls;
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK(s->calls == before, "called after it was taken away");
}

/* ------------------------------------------------------------------------------------------------ */

static void on_both(int ranks, rank_function function, void *context)
{
    on_ranks(ranks, "shm", function, context);
    on_ranks(ranks, "tcp", function, context);
}

static void test_one_group(void **state)
{
    (void)state;
    on_both(2, one_group, NULL);
    on_ranks(3, "shm", one_group, NULL);
}
static void test_several_groups(void **state)
{
    (void)state;
    weft_unique_id ids[THREADS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(weft_get_unique_id(&ids[t]), WEFT_OK);
    on_ranks(2, "shm", several_groups, ids);
}
static void test_splits(void **state)
{
    (void)state;
    on_both(3, splits_at_once, NULL);
}
static void test_waiting_threads(void **state)
{
    (void)state;
    on_both(2, waiting_threads, NULL);
}
static void test_same_group(void **state)
{
    (void)state;
    on_both(3, same_group, NULL);
}
static void test_other_group(void **state)
{
    (void)state;
    weft_unique_id id;
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    on_ranks(3, "shm", other_group, &id);
}
static void test_progress(void **state)
{
    (void)state;
    on_both(3, progress_alone, NULL);
}
static void test_hook(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        hook_state s = {.calls = 0};
        on_ranks(2, tcp ? "tcp" : "shm", hooked, &s);
    }
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_group),  cmocka_unit_test(test_several_groups),
        cmocka_unit_test(test_splits),     cmocka_unit_test(test_waiting_threads),
        cmocka_unit_test(test_same_group), cmocka_unit_test(test_other_group),
        cmocka_unit_test(test_progress),   cmocka_unit_test(test_hook)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

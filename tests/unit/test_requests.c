/* Requests: non-blocking calls ended in any order, waiting for one, some, all, testing, persistent calls,
 * timeouts of single requests, and what may not be done with them. */
#include "../checks.h"

enum { MANY = 200, STARTS = 300 };

static int32_t value(int rank, size_t index, int round)
{
    return (int32_t)((uint32_t)rank * 7919u + (uint32_t)index * 31u + (uint32_t)round * 101u) % 100000;
}

static size_t count_of(int call)
{
    static const size_t some[] = {1, 0, 17, 2000, 300, 20011, 5};
    return some[call % 7];
}

static void begin_all_reduces(weft_comm *comm, int rank, int32_t **data, weft_request **requests, int count)
{
    for (int k = 0; k < count; k++) {
        size_t n = count_of(k);
        data[k] = malloc((n + 1) * sizeof **data);
        for (size_t i = 0; i < n; i++)
            data[k][i] = value(rank, i, k);
        CHECK_OK(weft_all_reduce(comm, data[k], data[k], n, WEFT_I32, WEFT_SUM, &requests[k]));
        CHECK(requests[k] != NULL, "no request of call %d", k);
    }
}

static void check_all_reduce(const int32_t *data, int ranks, int call)
{
    for (size_t i = 0; i < count_of(call); i++) {
        int32_t sum = 0;
        for (int r = 0; r < ranks; r++)
            sum += value(r, i, call);
        if (!CHECK(data[i] == sum, "call %d element %zu is %d, not %d", call, i, data[i], sum))
            return;
    }
}

static void free_all(int32_t **data, int count)
{
    for (int k = 0; k < count; k++)
        free(data[k]);
}

/* Every rank waits in an order of its own. */
static void waited_in_any_order(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t *data[MANY];
    weft_request *requests[MANY];
    int order[MANY];
    begin_all_reduces(comm, rank, data, requests, MANY);
    shuffle(order, MANY, (uint32_t)rank + 1);
    for (int i = 0; i < MANY; i++) {
        int k = order[i];
        CHECK_OK(weft_wait(&requests[k]));
        CHECK(requests[k] == NULL, "the handle of call %d is still there", k);
        check_all_reduce(data[k], ranks, k);
    }
    free_all(data, MANY);
}

static void wait_any_finds_each_once(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t *data[MANY];
    weft_request *requests[MANY];
    bool seen[MANY] = {false};
    begin_all_reduces(comm, rank, data, requests, MANY);
    for (int i = 0; i < MANY; i++) {
        int k = -2;
        CHECK_OK(weft_wait_any(requests, MANY, &k));
        if (!CHECK(k >= 0 && k < MANY && !seen[k], "place %d", k))
            break;
        seen[k] = true;
        CHECK(requests[k] == NULL, "the handle of call %d is still there", k);
        check_all_reduce(data[k], ranks, k);
    }
    int k = 5;
    CHECK_OK(weft_wait_any(requests, MANY, &k));
    CHECK(k == -1, "place %d where all are NULL", k);
    free_all(data, MANY);
}

/* A wait of a while ends without ending what it waited for. */
static void waiting_for_a_while(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t word = rank + 1, token = 0;
    weft_request *requests[2] = {NULL, NULL};
    int k = -2;
    CHECK_OK(weft_wait_any_for(requests, 2, 1000, &k));
    CHECK(k == -1, "place %d where all are NULL", k);
    if (rank == 0) { /* the others come only when they are told */
        CHECK_OK(weft_all_reduce(comm, &word, &word, 1, WEFT_I32, WEFT_SUM, &requests[1]));
        for (int64_t ms = 0; ms < 30 && ranks > 1; ms += 10) {
            CHECK_STATUS(weft_wait_any_for(requests, 2, ms, &k), WEFT_IN_PROGRESS);
            CHECK(k == -1 && requests[1], "place %d of what is under way", k);
        }
        for (int r = 1; r < ranks; r++)
            CHECK_OK(weft_send(comm, &token, 1, WEFT_I32, r, 7, NULL));
        do
            k = -2;
        while (weft_wait_any_for(requests, 2, 5, &k) == WEFT_IN_PROGRESS);
        CHECK(k == 1 && !requests[1], "place %d", k);
    } else {
        CHECK_OK(weft_recv(comm, &token, 1, WEFT_I32, 0, 7, NULL, NULL));
        CHECK_OK(weft_all_reduce(comm, &word, &word, 1, WEFT_I32, WEFT_SUM, NULL));
    }
    CHECK(word == ranks * (ranks + 1) / 2, "the sum is %d", word);
}

static void wait_all_and_test(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t *data[MANY];
    weft_request *requests[MANY];
    begin_all_reduces(comm, rank, data, requests, MANY);
    for (int k = 0; k < MANY; k += 3) /* some by testing, the last first */
        for (bool done = false; !done;) {
            weft_request **r = &requests[MANY - 1 - k];
            if (!CHECK_OK(weft_test(r, &done)))
                break;
            CHECK(done == (*r == NULL), "done is %d, the handle %p", done, (void *)*r);
        }
    CHECK_OK(weft_wait_all(requests, MANY)); /* with NULLs among them */
    for (int k = 0; k < MANY; k++) {
        CHECK(requests[k] == NULL, "the handle of call %d is still there", k);
        check_all_reduce(data[k], ranks, k);
    }
    CHECK_OK(weft_wait_all(requests, MANY));
    CHECK_OK(weft_wait_all(NULL, 0));
    free_all(data, MANY);
}

/* Different collectives in flight at once. */
static void mixed_collectives(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { ROUNDS = 12, COUNT = 777 };
    weft_request *requests[ROUNDS][5];
    static int32_t sent[4][COUNT * 4];
    int32_t (*got)[4][COUNT * 4] = malloc(ROUNDS * sizeof *got);
    if (rank == 0)
        for (int s = 0; s < 4; s++)
            for (size_t i = 0; i < COUNT * 4; i++)
                sent[s][i] = value(s, i, 0);
    CHECK_OK(weft_barrier(comm, NULL));
    for (int k = 0; k < ROUNDS; k++) {
        int root = k % ranks;
        CHECK_OK(weft_all_gather(comm, sent[rank], got[k][0], COUNT, WEFT_I32, &requests[k][0]));
        CHECK_OK(weft_broadcast(comm, sent[rank], got[k][1], COUNT, WEFT_I32, root, &requests[k][1]));
        CHECK_OK(weft_barrier(comm, &requests[k][2]));
        CHECK_OK(weft_all_to_all(comm, sent[rank], got[k][2], COUNT, WEFT_I32, &requests[k][3]));
        CHECK_OK(
            weft_reduce_scatter(comm, sent[rank], got[k][3], COUNT, WEFT_I32, WEFT_SUM, &requests[k][4]));
    }
    CHECK_OK(weft_wait_all(&requests[0][0], ROUNDS * 5));
    for (int k = 0; k < ROUNDS; k++)
        for (size_t i = 0; i < COUNT; i++) {
            int32_t sum = 0;
            for (int r = 0; r < ranks; r++) {
                sum += value(r, (size_t)rank * COUNT + i, 0);
                CHECK(got[k][0][(size_t)r * COUNT + i] == value(r, i, 0), "all_gather %d", k);
                CHECK(got[k][2][(size_t)r * COUNT + i] == value(r, (size_t)rank * COUNT + i, 0),
                      "all_to_all %d", k);
            }
            CHECK(got[k][1][i] == value(k % ranks, i, 0), "broadcast %d", k);
            CHECK(got[k][3][i] == sum, "reduce_scatter %d", k);
        }
    free(got);
}

static void persistent_collectives(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { COUNT = 300 };
    int32_t in[COUNT] = {0}, out[COUNT], gathered[64];
    size_t counts[8], displs[8], at = 1;
    for (int r = 0; r < ranks; r++) {
        counts[r] = (size_t)r * 2 % 5;
        displs[r] = at;
        at += counts[r] + 1;
    }
    size_t mine = counts[rank];
    weft_request *both[2] = {NULL, NULL};
    CHECK_OK(weft_all_reduce_init(comm, in, out, COUNT, WEFT_I32, WEFT_SUM, &both[0]));
    CHECK_OK(weft_all_gather_v_init(comm, in, mine, gathered, counts, displs, WEFT_I32, &both[1]));
    memset(counts, 0xff, sizeof counts); /* they were copied */
    for (int k = 0; k < STARTS; k++) {
        memset(out, 0, sizeof out);
        memset(gathered, 0xff, sizeof gathered);
        for (size_t i = 0; i < COUNT; i++)
            in[i] = value(rank, i, k);
        CHECK_OK(weft_start_all(both, 2));
        if (k == 1) {
            CHECK_STATUS(weft_start(both[0]), WEFT_ERR_USAGE);
            CHECK_STATUS(weft_request_free(&both[0]), WEFT_ERR_USAGE);
            CHECK(both[0] != NULL, "freed all the same");
        }
        if (k % 2)
            CHECK_OK(weft_wait_all(both, 2));
        else
            for (int i = 0, place; i < 2; i++)
                CHECK_OK(weft_wait_any(both, 2, &place));
        CHECK(both[0] && both[1], "a persistent handle is gone");
        for (size_t i = 0; i < COUNT; i++) {
            int32_t sum = 0;
            for (int r = 0; r < ranks; r++)
                sum += value(r, i, k);
            if (!CHECK(out[i] == sum, "start %d element %zu", k, i))
                break;
        }
        for (int r = 0; r < ranks; r++) {
            for (size_t i = 0; i < (size_t)r * 2 % 5; i++)
                CHECK(gathered[displs[r] + i] == value(r, i, k), "start %d block %d", k, r);
            CHECK(gathered[displs[r] - 1] == -1, "start %d: the gap before block %d was written", k, r);
        }
    }
    bool done = false;
    int place = 3;
    CHECK_OK(weft_wait(&both[0])); /* inactive: complete */
    CHECK_OK(weft_test(&both[1], &done));
    CHECK(done && both[0] && both[1], "an inactive request is not complete");
    CHECK_OK(weft_wait_any(both, 2, &place));
    CHECK(place == -1, "place %d where all are inactive", place);
    CHECK_OK(weft_request_free(&both[0]));
    CHECK_OK(weft_request_free(&both[1]));
    CHECK(!both[0] && !both[1], "the handles are still there");
}

static void persistent_messages(weft_comm *comm, int rank, int ranks, void *context)
{
    const size_t count = *(const size_t *)context;
    int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
    int32_t *out = calloc(count, sizeof *out), *in = calloc(count, sizeof *in);
    weft_recv_info info = {0};
    weft_request *both[2];
    CHECK_OK(weft_send_init(comm, out, count, WEFT_I32, next, 9, &both[0]));
    CHECK_OK(weft_recv_init(comm, in, count, WEFT_I32, before, 9, &info, &both[1]));
    for (int k = 0; k < STARTS / 3; k++) {
        for (size_t i = 0; i < count; i++) {
            out[i] = value(rank, i, k);
            in[i] = -1;
        }
        CHECK_OK(weft_start_all(both, 2));
        CHECK_OK(weft_wait_all(both, 2));
        CHECK(info.source == before && info.tag == 9 && info.bytes == count * sizeof *in,
              "start %d: from %d, tag %d, %zu bytes", k, info.source, info.tag, info.bytes);
        for (size_t i = 0; i < count; i++)
            if (!CHECK(in[i] == value(before, i, k), "start %d element %zu", k, i))
                break;
    }
    CHECK_OK(weft_request_free(&both[0]));
    CHECK_OK(weft_request_free(&both[1]));
    free(out);
    free(in);
}

static void misuse(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)rank;
    (void)ranks;
    (void)context;
    int32_t one = 1;
    int place;
    bool done;
    weft_request *none = NULL, *request = NULL;
    CHECK_OK(weft_wait(&none));
    CHECK_OK(weft_test(&none, &done));
    CHECK(done, "NULL is not complete");
    CHECK_OK(weft_request_free(&none));
    CHECK_OK(weft_request_free(NULL));
    CHECK_STATUS(weft_wait(NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_test(NULL, &done), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_test(&none, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_wait_any(NULL, 1, &place), WEFT_ERR_INVALID);
    place = 7;
    CHECK_STATUS(weft_wait_any(NULL, 0, &place), WEFT_OK);
    CHECK(place == -1, "index of none: %d", place);
    CHECK_STATUS(weft_wait_any(&none, 1, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_wait_any(&none, -1, &place), WEFT_ERR_INVALID);
    CHECK_DETAIL("-1");
    CHECK_STATUS(weft_wait_any_for(NULL, 1, 1, &place), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_wait_any_for(&none, 1, 1, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_wait_any_for(&none, 1, -3, &place), WEFT_ERR_INVALID);
    CHECK_DETAIL("-3");
    CHECK_STATUS(weft_wait_all(NULL, 1), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_start_all(NULL, 1), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_start_all(&none, -1), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_start(NULL), WEFT_ERR_USAGE);
    CHECK_STATUS(weft_all_reduce_init(comm, &one, &one, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("request");

    CHECK_OK(weft_all_reduce(comm, &one, &one, 1, WEFT_I32, WEFT_SUM, &request));
    CHECK_STATUS(weft_start(request), WEFT_ERR_USAGE);
    CHECK_STATUS(weft_request_free(&request), WEFT_ERR_USAGE);
    CHECK_DETAIL("wait");
    CHECK_STATUS(weft_request_set_timeout(request, 0), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_request_set_timeout(request, -2), WEFT_ERR_INVALID);
    CHECK_DETAIL("-2");
    CHECK_STATUS(weft_request_set_timeout(NULL, 5), WEFT_ERR_INVALID);
    CHECK_OK(weft_request_set_timeout(request, INT64_MAX));
    CHECK_OK(weft_request_set_timeout(request, -1));
    CHECK_OK(weft_request_set_timeout(request, CHECK_TIMEOUT_MS));
    CHECK_OK(weft_wait(&request));
    CHECK(one == ranks, "the sum is %d", one);
    CHECK_STATUS(weft_comm_set_timeout(comm, 0), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_comm_set_timeout(comm, -7), WEFT_ERR_INVALID);
    CHECK_DETAIL("-7");
    CHECK_STATUS(weft_comm_set_timeout(NULL, 7), WEFT_ERR_INVALID);
    CHECK_OK(weft_comm_set_timeout(comm, INT64_MAX));
    CHECK_OK(weft_barrier(comm, NULL));
}

/* One request has little time, another much; the one with little ends the communicator, on all ranks. */
static void timeout_of_one_request(weft_comm *comm, int rank, int ranks, void *context)
{
    const int64_t *limit_ms = context;
    int32_t one = 1, sum = 0;
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    if (rank == ranks - 1) { /* the absent one: finds the error when it looks */
        weft_status error = WEFT_OK;
        while (error == WEFT_OK)
            CHECK_OK(weft_comm_async_error(comm, &error));
        CHECK(error == WEFT_ERR_TIMEOUT, "error is '%s'", weft_status_text(error));
        return;
    }
    weft_request *request = NULL;
    if (*limit_ms < 0) { /* the communicator's */
        CHECK_OK(weft_comm_set_timeout(comm, -*limit_ms));
        CHECK_OK(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, &request));
    } else {
        CHECK_OK(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, &request));
        CHECK_OK(weft_request_set_timeout(request, *limit_ms));
    }
    CHECK_STATUS(weft_wait(&request), WEFT_ERR_TIMEOUT);
    CHECK_DETAIL("timed out");
    CHECK_DETAIL("all_reduce");
    CHECK(request == NULL, "the handle is still there");
    CHECK_STATUS(weft_barrier(comm, NULL), WEFT_ERR_TIMEOUT);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A rank that comes later than the communicator's timeout, but within the request's own. */
static void longer_timeout(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t one = 1, sum = 0;
    weft_request *request = NULL;
    CHECK_OK(weft_barrier(comm, NULL));
    if (rank == 0)
        for (int64_t until = now_ms() + 400; now_ms() < until;)
            usleep(10000);
    CHECK_OK(weft_comm_set_timeout(comm, 100));
    CHECK_OK(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, &request));
    CHECK_OK(weft_request_set_timeout(request, CHECK_TIMEOUT_MS));
    CHECK_OK(weft_wait(&request));
    CHECK(sum == ranks, "the sum is %d", sum);
    CHECK_OK(weft_comm_set_timeout(comm, CHECK_TIMEOUT_MS));
    CHECK_OK(weft_barrier(comm, NULL));
}

static void on_both(rank_function function, void *context)
{
    on_ranks(3, "shm", function, context);
    on_ranks(2, "tcp", function, context);
    on_ranks(1, "auto", function, context);
}

static void test_any_order(void **state)
{
    (void)state;
    on_both(waited_in_any_order, NULL);
}
static void test_wait_any(void **state)
{
    (void)state;
    on_both(wait_any_finds_each_once, NULL);
    on_both(waiting_for_a_while, NULL);
}
static void test_wait_all(void **state)
{
    (void)state;
    on_both(wait_all_and_test, NULL);
}
static void test_mixed(void **state)
{
    (void)state;
    on_both(mixed_collectives, NULL);
}
static void test_persistent_collectives(void **state)
{
    (void)state;
    on_both(persistent_collectives, NULL);
}
static void test_persistent_messages(void **state)
{
    (void)state;
    for (size_t count = 10; count < 50000; count *= 100) {
        on_both(persistent_messages, &count);
    }
    size_t large = 60000;
    on_both(persistent_messages, &large);
}
static void test_misuse(void **state)
{
    (void)state;
    on_both(misuse, NULL);
}
static void test_timeouts(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++)
        for (int64_t limit = -150; limit <= 150; limit += 300)
            on_ranks(3, tcp ? "tcp" : "shm", timeout_of_one_request, &limit);
}
static void test_longer_timeout(void **state)
{
    (void)state;
    on_ranks(3, "shm", longer_timeout, NULL);
    on_ranks(2, "tcp", longer_timeout, NULL);
}

int main(void)
{
    time_limit(120);
    setenv("WEFT_DUMP", "0", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order),
                                       cmocka_unit_test(test_wait_any),
                                       cmocka_unit_test(test_wait_all),
                                       cmocka_unit_test(test_mixed),
                                       cmocka_unit_test(test_persistent_collectives),
                                       cmocka_unit_test(test_persistent_messages),
                                       cmocka_unit_test(test_misuse),
                                       cmocka_unit_test(test_timeouts),
                                       cmocka_unit_test(test_longer_timeout)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

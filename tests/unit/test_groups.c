/* Groups: fused all_reduces give what single ones give, calls of all kinds begin together, groups nest,
 * messages in them cannot block one another, several communicators may take part in different orders, and
 * errors leave nothing behind. */
#include "../checks.h"

enum { CALLS = 40, MOST = 3000 };

static int32_t value(int rank, int call, size_t i)
{
    return (int32_t)((uint32_t)rank * 977u + (uint32_t)call * 131u + (uint32_t)i * 7u) % 9973 - 3000;
}

static size_t count_of(int call)
{
    static const size_t some[] = {1, 0, 300, 7, 64, MOST, 2};
    return some[call % 7];
}

static int32_t sum_of(int ranks, int call, size_t i)
{
    int32_t sum = 0;
    for (int r = 0; r < ranks; r++)
        sum += value(r, call, i);
    return sum;
}

static void fill(int32_t *data, int rank, int call, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data[i] = value(rank, call, i);
}

static void check_sums(const int32_t *data, int ranks, int call, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!CHECK(data[i] == sum_of(ranks, call, i), "call %d element %zu is %d, not %d", call, i, data[i],
                   sum_of(ranks, call, i)))
            return;
}

/* In and out of place, by WEFT_IN_PLACE and by equal pointers, blocking and with a request. */
static void fused(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t (*in)[MOST] = malloc(CALLS * sizeof *in), (*out)[MOST] = malloc(CALLS * sizeof *out);
    for (int with_request = 0; with_request < 2; with_request++) {
        weft_request *request = NULL;
        for (int k = 0; k < CALLS; k++) {
            fill(in[k], rank, k, MOST);
            fill(out[k], rank, k, MOST);
        }
        CHECK_OK(weft_group_start());
        for (int k = 0; k < CALLS; k++) {
            const void *send = k % 4 == 0 ? in[k] : k % 4 == 1 ? out[k] : k % 4 == 2 ? WEFT_IN_PLACE : out[k];
            void *recv = k % 4 == 3 ? WEFT_IN_PLACE : out[k];
            CHECK_OK(weft_all_reduce(comm, send, recv, count_of(k), WEFT_I32, WEFT_SUM, NULL));
        }
        CHECK_OK(weft_group_end(with_request ? &request : NULL));
        CHECK((request != NULL) == with_request, "the group's request is %p", (void *)request);
        if (with_request)
            CHECK_OK(weft_wait(&request));
        for (int k = 0; k < CALLS; k++)
            check_sums(out[k], ranks, k, count_of(k));
        for (int k = 0; k < CALLS; k++) /* nothing beyond the counts was touched */
            for (size_t i = count_of(k); i < MOST; i++)
                if (!CHECK(out[k][i] == value(rank, k, i), "call %d wrote beyond its end", k))
                    break;
    }
    free(in);
    free(out);
}

/* What differs in type or operation is not fused, and right all the same. */
static void several_types_and_ops(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    double sum[2] = {rank + 0.5, 1}, most[1] = {rank * 1.0};
    int64_t product = rank + 1, expected = 1;
    uint8_t bits = (uint8_t)(1 << rank);
    for (int r = 0; r < ranks; r++)
        expected *= r + 1;
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_all_reduce(comm, sum, sum, 1, WEFT_F64, WEFT_SUM, NULL));
    CHECK_OK(weft_all_reduce(comm, sum + 1, sum + 1, 1, WEFT_F64, WEFT_SUM, NULL));
    CHECK_OK(weft_all_reduce(comm, most, most, 1, WEFT_F64, WEFT_MAX, NULL));
    CHECK_OK(weft_all_reduce(comm, &product, &product, 1, WEFT_I64, WEFT_PROD, NULL));
    CHECK_OK(weft_all_reduce(comm, &bits, &bits, 1, WEFT_U8, WEFT_BOR, NULL));
    CHECK_OK(weft_group_end(NULL));
    CHECK(sum[0] == ranks * (ranks - 1) / 2.0 + ranks * 0.5 && sum[1] == ranks, "sums %g %g", sum[0], sum[1]);
    CHECK(most[0] == ranks - 1, "maximum %g", most[0]);
    CHECK(product == expected, "product %lld", (long long)product);
    CHECK(bits == (1 << ranks) - 1, "bits %x", bits);
}

/* Collectives of all kinds with messages between them; large ones are not fused. */
static void mixed(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { LARGE = 50000 };
    int32_t *large = malloc(LARGE * sizeof *large), small[2][5], gathered[8 * 4], got[100], sent[100];
    int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
    weft_recv_info info = {0};
    fill(large, rank, 50, LARGE);
    fill(small[0], rank, 51, 5);
    fill(small[1], rank, 52, 5);
    fill(sent, rank, 53, 100);
    int32_t root_data[3] = {rank, rank, rank};
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_recv(comm, got, 100, WEFT_I32, before, 1, &info, NULL));
    CHECK_OK(weft_all_reduce(comm, small[0], small[0], 5, WEFT_I32, WEFT_SUM, NULL));
    CHECK_OK(weft_all_gather(comm, sent, gathered, 4, WEFT_I32, NULL));
    CHECK_OK(weft_all_reduce(comm, large, large, LARGE, WEFT_I32, WEFT_SUM, NULL));
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_all_reduce(comm, small[1], small[1], 5, WEFT_I32, WEFT_SUM, NULL));
    CHECK_OK(weft_group_end(NULL)); /* begins nothing yet */
    CHECK_OK(weft_broadcast(comm, root_data, root_data, 3, WEFT_I32, ranks - 1, NULL));
    CHECK_OK(weft_send(comm, sent, 100, WEFT_I32, next, 1, NULL));
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK_OK(weft_group_end(NULL));
    check_sums(large, ranks, 50, LARGE);
    check_sums(small[0], ranks, 51, 5);
    check_sums(small[1], ranks, 52, 5);
    CHECK(root_data[2] == ranks - 1, "broadcast %d", root_data[2]);
    for (int r = 0; r < ranks; r++)
        CHECK(gathered[4 * r + 3] == value(r, 53, 3), "gathered from %d", r);
    CHECK(info.source == before && info.bytes == sizeof got && got[99] == value(before, 53, 99),
          "message from %d", info.source);
    free(large);
}

/* Everyone sends large messages before it receives: would wait for ever without a group. */
static void exchange(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { COUNT = 500000 };
    int32_t *out = malloc(COUNT * sizeof *out), *in = malloc((size_t)ranks * COUNT * sizeof *in);
    fill(out, rank, 7, COUNT);
    CHECK_OK(weft_group_start());
    for (int r = 0; r < ranks; r++)
        CHECK_OK(weft_send(comm, out, COUNT, WEFT_I32, r, rank, NULL));
    for (int r = 0; r < ranks; r++)
        CHECK_OK(weft_recv(comm, in + (size_t)r * COUNT, COUNT, WEFT_I32, r, r, NULL, NULL));
    CHECK_OK(weft_group_end(NULL));
    for (int r = 0; r < ranks; r++)
        for (size_t i = 0; i < COUNT; i += 999)
            CHECK(in[(size_t)r * COUNT + i] == value(r, 7, i), "from rank %d element %zu", r, i);
    free(out);
    free(in);
}

/* Calls of two communicators, in an order that differs between ranks: only the order within each must be
 * the same. */
static void two_communicators(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *pairs = NULL;
    CHECK_OK(weft_comm_split(comm, rank / 2, rank, NULL, &pairs));
    if (!pairs)
        return;
    int32_t all[3][8], pair[3][8], sent = 1, got = 0;
    int in_pair = weft_comm_size(pairs), first = rank / 2 * 2;
    for (int k = 0; k < 3; k++) {
        fill(all[k], rank, k, 8);
        fill(pair[k], rank, 10 + k, 8);
    }
    CHECK_OK(weft_group_start());
    for (int k = 0; k < 6; k++) {
        bool whole = rank % 2 ? k < 3 : k % 2 == 0;
        int32_t *data = whole ? all[rank % 2 ? k : k / 2] : pair[rank % 2 ? k - 3 : k / 2];
        if (rank == 0 && k == 3) { /* a message between them changes nothing either */
            CHECK_OK(weft_send(comm, &sent, 1, WEFT_I32, 0, 0, NULL));
            CHECK_OK(weft_recv(comm, &got, 1, WEFT_I32, 0, 0, NULL, NULL));
        }
        CHECK_OK(weft_all_reduce(whole ? comm : pairs, data, data, 8, WEFT_I32, WEFT_SUM, NULL));
    }
    CHECK_OK(weft_group_end(NULL));
    for (int k = 0; k < 3; k++) {
        check_sums(all[k], ranks, k, 8);
        for (size_t i = 0; i < 8; i++) {
            int32_t sum = 0;
            for (int r = 0; r < in_pair; r++)
                sum += value(first + r, 10 + k, i);
            CHECK(pair[k][i] == sum, "pair's call %d element %zu is %d, not %d", k, i, pair[k][i], sum);
        }
    }
    CHECK_OK(weft_comm_destroy(pairs));
}

static void errors(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t one = 1, sum = 0;
    weft_request *request = NULL;
    CHECK_STATUS(weft_group_end(NULL), WEFT_ERR_USAGE);
    CHECK_DETAIL("weft_group_start");
    CHECK_OK(weft_group_start()); /* empty */
    CHECK_OK(weft_group_end(NULL));
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_group_end(&request));
    CHECK_OK(weft_wait(&request));
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_group_start());
    CHECK_STATUS(weft_group_end(&request), WEFT_ERR_USAGE); /* not the outermost */
    CHECK_DETAIL("outermost");
    CHECK_STATUS(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, &request), WEFT_ERR_USAGE);
    CHECK_DETAIL("weft_group_end");
    CHECK_STATUS(weft_send(comm, &one, 1, WEFT_I32, 0, 0, &request), WEFT_ERR_USAGE);
    CHECK_STATUS(weft_all_reduce(comm, &one, &sum, 1, WEFT_TYPE_COUNT, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_OK(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, NULL)); /* the others go on */
    CHECK_OK(weft_group_end(NULL));
    CHECK(sum == ranks, "the sum is %d", sum);

    /* one part fails: the group does, and ends */
    char data[20] = "";
    int self = rank;
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_send(comm, data, 20, WEFT_U8, self, 0, NULL));
    CHECK_OK(weft_recv(comm, data, 10, WEFT_U8, self, 0, NULL, NULL));
    CHECK_OK(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, NULL));
    CHECK_STATUS(weft_group_end(NULL), WEFT_ERR_TRUNCATED);
    CHECK(sum == ranks, "the sum is %d", sum);

    /* a group's request cannot be started or freed */
    CHECK_OK(weft_group_start());
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK_OK(weft_group_end(&request));
    CHECK_STATUS(weft_start(request), WEFT_ERR_USAGE);
    CHECK_STATUS(weft_request_free(&request), WEFT_ERR_USAGE);
    CHECK_OK(weft_request_set_timeout(request, CHECK_TIMEOUT_MS));
    bool done = false;
    while (!done)
        if (!CHECK_OK(weft_test(&request, &done)))
            break;
    CHECK(request == NULL, "the handle is still there");
}

/* Several groups under way, waited for backwards, among other requests. */
static void several_groups(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { GROUPS = 12, EACH = 5 };
    int32_t data[GROUPS][EACH][10], single[GROUPS];
    weft_request *requests[GROUPS * 2];
    for (int g = 0; g < GROUPS; g++) {
        CHECK_OK(weft_group_start());
        for (int k = 0; k < EACH; k++) {
            fill(data[g][k], rank, g * EACH + k, 10);
            CHECK_OK(weft_all_reduce(comm, data[g][k], data[g][k], 10, WEFT_I32, WEFT_SUM, NULL));
        }
        CHECK_OK(weft_group_end(&requests[2 * g]));
        single[g] = rank;
        CHECK_OK(weft_all_reduce(comm, &single[g], &single[g], 1, WEFT_I32, WEFT_MAX, &requests[2 * g + 1]));
    }
    for (int i = 2 * GROUPS - 1; i > GROUPS; i--)
        CHECK_OK(weft_wait(&requests[i]));
    for (int place = 0; place >= 0;)
        if (!CHECK_OK(weft_wait_any(requests, 2 * GROUPS, &place)))
            break;
    for (int g = 0; g < GROUPS; g++) {
        CHECK(single[g] == ranks - 1, "the maximum is %d", single[g]);
        for (int k = 0; k < EACH; k++)
            check_sums(data[g][k], ranks, g * EACH + k, 10);
    }
}

static void on_both(rank_function function)
{
    on_ranks(4, "shm", function, NULL);
    on_ranks(3, "tcp", function, NULL);
}

static void test_fused(void **state)
{
    (void)state;
    on_both(fused);
}
static void test_types(void **state)
{
    (void)state;
    on_both(several_types_and_ops);
}
static void test_mixed(void **state)
{
    (void)state;
    on_both(mixed);
}
static void test_exchange(void **state)
{
    (void)state;
    on_both(exchange);
}
static void test_two_communicators(void **state)
{
    (void)state;
    on_both(two_communicators);
}
static void test_errors(void **state)
{
    (void)state;
    on_both(errors);
}
static void test_several(void **state)
{
    (void)state;
    on_both(several_groups);
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fused),
                                       cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_mixed),
                                       cmocka_unit_test(test_exchange),
                                       cmocka_unit_test(test_two_communicators),
                                       cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_several)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

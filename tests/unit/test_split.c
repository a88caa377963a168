/* Communicators from communicators: colours, keys, none, split of split, several in use at once, a child
 * that outlives its parent, its own settings, and many of them one after the other. */
#include "../checks.h"

/* The sum over the communicator of what each rank gives tells who is in it. */
static int64_t sum_over(weft_comm *comm, int64_t mine)
{
    int64_t sum = -1;
    CHECK_OK(weft_all_reduce(comm, &mine, &sum, 1, WEFT_I64, WEFT_SUM, NULL));
    return sum;
}

static void colours_and_keys(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *part = NULL;
    /* by remainder, ranks in reverse */
    CHECK_OK(weft_comm_split(comm, rank % 3, -rank, NULL, &part));
    int members = (ranks - 1 - rank % 3) / 3 + 1, place = members - 1 - rank / 3;
    CHECK(weft_comm_size(part) == members, "%d members, not %d", weft_comm_size(part), members);
    CHECK(weft_comm_rank(part) == place, "rank %d is %d in its part, not %d", rank, weft_comm_rank(part),
          place);
    int64_t expected = 0;
    for (int r = rank % 3; r < ranks; r += 3)
        expected += 1 << r;
    CHECK(sum_over(part, 1 << rank) == expected, "others are in it");
    int32_t order[16], mine = rank;
    CHECK_OK(weft_all_gather(part, &mine, order, 1, WEFT_I32, NULL));
    for (int i = 0; i < members; i++)
        CHECK(order[i] == rank % 3 + 3 * (members - 1 - i), "place %d has rank %d", i, order[i]);
    CHECK_OK(weft_comm_destroy(part));

    /* equal keys: by old rank; all the same colour, a large one */
    CHECK_OK(weft_comm_split(comm, INT32_MAX, 7, NULL, &part));
    CHECK(weft_comm_rank(part) == rank && weft_comm_size(part) == ranks, "rank %d of %d",
          weft_comm_rank(part), weft_comm_size(part));
    CHECK(weft_comm_hosts(part) == weft_comm_hosts(comm) &&
              weft_comm_local_size(part) == weft_comm_local_size(comm),
          "other hosts");
    CHECK_OK(weft_comm_destroy(part));

    /* each alone, extreme keys */
    CHECK_OK(weft_comm_split(comm, rank, rank % 2 ? INT32_MIN : INT32_MAX, NULL, &part));
    CHECK(weft_comm_size(part) == 1 && weft_comm_rank(part) == 0, "%d members", weft_comm_size(part));
    CHECK(sum_over(part, 5) == 5, "more than one");
    CHECK_OK(weft_comm_destroy(part));

    CHECK_OK(weft_comm_split(comm, 0, rank % 2 ? INT32_MIN : INT32_MAX, NULL, &part));
    CHECK(weft_comm_rank(part) == (rank % 2 ? rank / 2 : ranks / 2 + rank / 2), "rank %d is %d", rank,
          weft_comm_rank(part));
    CHECK_OK(weft_comm_destroy(part));
}

static void undefined_colour(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *part = (weft_comm *)(void *)&part, *again = NULL;
    CHECK_OK(weft_comm_split(comm, rank == 1 ? WEFT_UNDEFINED : 4, 0, NULL, &part));
    CHECK((part == NULL) == (rank == 1), "rank %d got %p", rank, (void *)part);
    if (part)
        CHECK(sum_over(part, 1) == ranks - 1, "not all but one");
    /* the one that was left out takes part in the next */
    CHECK_OK(weft_comm_split(comm, 0, 0, NULL, &again));
    CHECK(sum_over(again, 1) == ranks, "not all");
    if (part)
        CHECK(sum_over(part, 1) == ranks - 1, "not all but one, later");
    CHECK_OK(weft_comm_destroy(again));
    CHECK_OK(weft_comm_destroy(part));
    CHECK_OK(weft_comm_split(comm, WEFT_UNDEFINED, 0, NULL, &part)); /* nobody wants one */
    CHECK(part == NULL, "got one");
    CHECK(sum_over(comm, 1) == ranks, "the parent");
}

static void errors(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *untouched = comm, *part = NULL;
    weft_config config = WEFT_CONFIG_INIT;
    CHECK_STATUS(weft_comm_split(NULL, 0, 0, NULL, &untouched), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_comm_split(comm, 0, 0, NULL, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_comm_split(comm, -2, 0, NULL, &untouched), WEFT_ERR_INVALID);
    CHECK_DETAIL("colour -2");
    config.lanes = 1000;
    CHECK_STATUS(weft_comm_split(comm, 0, 0, &config, &untouched), WEFT_ERR_INVALID);
    CHECK_DETAIL("1000");
    config.lanes = 0;
    config.algorithm = "no_such";
    CHECK(weft_comm_split(comm, 0, 0, &config, &untouched) != WEFT_OK, "an algorithm that is not");
    CHECK_DETAIL("no_such");
    CHECK(untouched == comm, "out was touched");
    CHECK(sum_over(comm, 1) == ranks, "the parent");
    CHECK_OK(weft_comm_split(comm, rank, 0, NULL, &part));
    CHECK_OK(weft_comm_destroy(part));
    CHECK_OK(weft_comm_destroy(NULL));
}

/* Rows and columns of a grid, and rows of rows; all in use at once, non-blocking, in different orders. */
static void grid(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { WIDTH = 2, ROUNDS = 20, COUNT = 3000 };
    weft_comm *row = NULL, *column = NULL, *alone = NULL;
    CHECK_OK(weft_comm_split(comm, rank / WIDTH, rank, NULL, &row));
    CHECK_OK(weft_comm_split(comm, rank % WIDTH, rank, NULL, &column));
    CHECK_OK(weft_comm_split(row, weft_comm_rank(row), 0, NULL, &alone));
    int64_t in_row = 0, in_column = 0;
    for (int r = 0; r < ranks; r++) {
        in_row += r / WIDTH == rank / WIDTH ? r : 0;
        in_column += r % WIDTH == rank % WIDTH ? r : 0;
    }
    weft_comm *comms[4] = {row, column, alone, comm};
    int64_t expected[4] = {in_row, in_column, rank, (int64_t)ranks * (ranks - 1) / 2};
    int64_t (*data)[4][COUNT] = malloc(ROUNDS * sizeof *data);
    weft_request *requests[ROUNDS][4];
    for (int k = 0; k < ROUNDS; k++)
        for (int c = 0; c < 4;
             c++) { /* each communicator has its order, but not the same among them on all ranks */
            int which = (c + rank + k) % 4;
            for (int i = 0; i < COUNT; i++)
                data[k][which][i] = rank;
            CHECK_OK(weft_all_reduce(comms[which], data[k][which], data[k][which], which % 2 ? COUNT : 3,
                                     WEFT_I64, WEFT_SUM, &requests[k][which]));
        }
    for (int k = ROUNDS - 1; k >= 0; k--)
        CHECK_OK(weft_wait_all(requests[k], 4));
    for (int k = 0; k < ROUNDS; k++)
        for (int c = 0; c < 4; c++)
            CHECK(data[k][c][2] == expected[c] && data[k][c][c % 2 ? COUNT - 1 : 0] == expected[c],
                  "round %d communicator %d", k, c);
    /* messages of one do not come in another */
    int32_t out = rank, got = -1;
    int next = (weft_comm_rank(column) + 1) % weft_comm_size(column);
    weft_request *first, *second;
    int32_t other = -1;
    CHECK_OK(weft_recv(comm, &got, 1, WEFT_I32, WEFT_ANY_SOURCE, WEFT_ANY_TAG, NULL, &first));
    CHECK_OK(weft_recv(column, &other, 1, WEFT_I32, WEFT_ANY_SOURCE, WEFT_ANY_TAG, NULL, &second));
    CHECK_OK(weft_send(column, &out, 1, WEFT_I32, next, 0, NULL));
    CHECK_OK(weft_wait(&second));
    CHECK(other % WIDTH == rank % WIDTH && other < ranks && (got == -1 || got >= 100), "got %d and %d", other,
          got);
    out += 100;
    CHECK_OK(weft_send(comm, &out, 1, WEFT_I32, (rank + 1) % ranks, 0, NULL));
    CHECK_OK(weft_wait(&first));
    CHECK(got == (rank + ranks - 1) % ranks + 100, "got %d", got);
    CHECK_OK(weft_comm_destroy(alone));
    CHECK_OK(weft_comm_destroy(row));
    CHECK_OK(weft_comm_destroy(column));
    free(data);
}

/* Split again and again, halves of halves, several alive; destroyed in an order that differs between ranks.
 * */
static void split_of_split(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *level[8];
    int depth = 0;
    level[0] = comm;
    while (weft_comm_size(level[depth]) > 1) {
        weft_comm *from = level[depth];
        CHECK_OK(weft_comm_split(from, weft_comm_rank(from) < weft_comm_size(from) / 2, rank, NULL,
                                 &level[depth + 1]));
        depth++;
        CHECK(sum_over(level[depth], 1) == weft_comm_size(level[depth]), "level %d", depth);
    }
    for (int i = 1; i <= depth; i++)
        CHECK_OK(weft_comm_destroy(level[rank % 2 ? i : depth + 1 - i]));
    for (int k = 0; k < 100; k++) { /* ids are not used up, nor memory */
        weft_comm *part = NULL;
        CHECK_OK(weft_comm_split(comm, rank % 2, k * rank, NULL, &part));
        CHECK(sum_over(part, 1) == (ranks + 1 - rank % 2) / 2, "split %d", k);
        CHECK_OK(weft_comm_destroy(part));
    }
}

/* A child's own algorithm, slices and timeout. */
static void own_settings(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_comm *part = NULL, *child = NULL;
    weft_config config = WEFT_CONFIG_INIT;
    config.algorithm = "all_reduce:ring,broadcast:knomial";
    config.slice_bytes = 4096;
    char text[100];
    int64_t data[2000];
    CHECK_OK(weft_comm_split(comm, 0, 0, &config, &part));
    weft_comm_describe(part, "all_reduce", 16000, text, sizeof text);
    CHECK(strstr(text, "ring") != NULL, "'%s'", text);
    weft_comm_describe(part, "broadcast", 16000, text, sizeof text);
    CHECK(strstr(text, "knomial") != NULL, "'%s'", text);
    CHECK_OK(weft_comm_split(part, 0, 0, NULL, &child)); /* takes them from its parent */
    weft_comm_describe(child, "all_reduce", 16000, text, sizeof text);
    CHECK(strstr(text, "ring") != NULL, "'%s'", text);
    for (int i = 0; i < 2000; i++)
        data[i] = rank + i;
    CHECK_OK(weft_all_reduce(part, data, data, 2000, WEFT_I64, WEFT_SUM, NULL));
    CHECK_OK(weft_all_reduce(child, data, data, 2000, WEFT_I64, WEFT_MAX, NULL));
    for (int i = 0; i < 2000; i++)
        CHECK(data[i] == ranks * (ranks - 1) / 2 + (int64_t)ranks * i, "element %d", i);
    CHECK_OK(weft_comm_destroy(part));
    CHECK(sum_over(child, 1) == ranks, "the grandchild alone");
    CHECK_OK(weft_comm_destroy(child));
}

/* ---- a child outlives its parent --------------------------------------------------------------- */

static void *outlives(void *argument)
{
    rank_thread *t = argument;
    weft_comm *comm = NULL, *child = NULL, *grandchild = NULL;
    if (!CHECK_OK(weft_comm_create_id(&t->id, t->rank, t->ranks, t->config, &comm)))
        return NULL;
    CHECK_OK(weft_comm_split(comm, 0, t->rank, NULL, &child));
    if (t->rank % 2) /* some much earlier than others */
        CHECK_OK(weft_comm_destroy(comm));
    for (int k = 0; k < 50; k++)
        CHECK(sum_over(child, t->rank) == t->ranks * (t->ranks - 1) / 2, "round %d", k);
    if (t->rank % 2 == 0)
        CHECK_OK(weft_comm_destroy(comm));
    int64_t *large = calloc(200000, sizeof *large);
    CHECK_OK(weft_all_reduce(child, large, large, 200000, WEFT_I64, WEFT_SUM, NULL));
    free(large);
    CHECK_OK(weft_comm_split(child, t->rank / 2, 0, NULL, &grandchild));
    CHECK_OK(weft_comm_destroy(child));
    CHECK(sum_over(grandchild, 1) == weft_comm_size(grandchild), "the grandchild");
    CHECK_OK(weft_comm_destroy(grandchild));
    return NULL;
}

static void test_outlives(void **state)
{
    (void)state;
    enum { RANKS = 4 };
    for (int tcp = 0; tcp < 2; tcp++) {
        rank_thread threads[RANKS];
        weft_unique_id id;
        weft_config config = WEFT_CONFIG_INIT;
        config.transports = tcp ? "tcp" : "shm";
        config.timeout_ms = CHECK_TIMEOUT_MS;
        check_failures = 0;
        assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
        for (int r = 0; r < RANKS; r++) {
            threads[r] = (rank_thread){.id = id, .rank = r, .ranks = RANKS, .config = &config};
            pthread_create(&threads[r].thread, NULL, outlives, &threads[r]);
        }
        for (int r = 0; r < RANKS; r++)
            pthread_join(threads[r].thread, NULL);
        assert_int_equal(check_failures, 0);
    }
}

/* ---- three process groups of their own at once -------------------------------------------------- */

enum { GROUPS = 3 };
typedef struct meetings {
    weft_unique_id ids[GROUPS];
} meetings;

/* Each rank is in three groups met by three ids, and in each with another number. */
static void three_groups(weft_comm *comm, int rank, int ranks, void *context)
{
    const meetings *m = context;
    weft_comm *comms[GROUPS];
    weft_config config = WEFT_CONFIG_INIT;
    config.timeout_ms = CHECK_TIMEOUT_MS;
    for (int g = 0; g < GROUPS; g++) {
        config.transports = g == 1 ? "tcp" : "auto";
        comms[g] = NULL;
        CHECK_OK(weft_comm_create_id(&m->ids[g], (rank + g) % ranks, ranks, &config, &comms[g]));
    }
    weft_request *requests[GROUPS + 1];
    int64_t data[GROUPS + 1];
    for (int k = 0; k < 50; k++) {
        for (int g = 0; g <= GROUPS; g++) {
            data[g] = rank + g;
            CHECK_OK(weft_all_reduce(g < GROUPS ? comms[g] : comm, &data[g], &data[g], 1, WEFT_I64, WEFT_SUM,
                                     &requests[g]));
        }
        if (k % 2)
            CHECK_OK(weft_wait_all(requests, GROUPS + 1));
        else
            for (int i = 0, place; i <= GROUPS; i++)
                CHECK_OK(weft_wait_any(requests, GROUPS + 1, &place));
        for (int g = 0; g <= GROUPS; g++)
            CHECK(data[g] == (int64_t)ranks * (ranks - 1) / 2 + ranks * g, "group %d round %d: %lld", g, k,
                  (long long)data[g]);
    }
    for (int g = 0; g < GROUPS; g++)
        CHECK_OK(weft_comm_destroy(comms[g]));
}

static void test_three_groups(void **state)
{
    (void)state;
    meetings m;
    for (int g = 0; g < GROUPS; g++)
        assert_int_equal(weft_get_unique_id(&m.ids[g]), WEFT_OK);
    on_ranks(3, "shm", three_groups, &m);
}

static void on_both(int ranks, rank_function function)
{
    on_ranks(ranks, "shm", function, NULL);
    on_ranks(ranks, "tcp", function, NULL);
}
static void test_colours(void **state)
{
    (void)state;
    on_both(6, colours_and_keys);
}
static void test_undefined(void **state)
{
    (void)state;
    on_both(4, undefined_colour);
}
static void test_errors(void **state)
{
    (void)state;
    on_both(3, errors);
}
static void test_grid(void **state)
{
    (void)state;
    on_both(6, grid);
}
static void test_split_of_split(void **state)
{
    (void)state;
    on_both(5, split_of_split);
}
static void test_settings(void **state)
{
    (void)state;
    on_both(3, own_settings);
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_colours),        cmocka_unit_test(test_undefined),
        cmocka_unit_test(test_errors),         cmocka_unit_test(test_grid),
        cmocka_unit_test(test_split_of_split), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_outlives),       cmocka_unit_test(test_three_groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

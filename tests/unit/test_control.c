/* The control plane's good days: all kinds of meeting, all-gather, leaving in order, fork in the caller, allocation failures.
 * Bad guests are test_rendezvous.c's, deaths test_control_failure.c's.
 * mostly waits */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rendezvous.h"
#include "support_ranks.h"

static void expect_ok(const outcome *results, int size)
{
    for (int r = 0; r < size; r++) {
        if (results[r].status != WEFT_OK)
            fail_msg("rank %d of %d: %s: %s", r, size, weft_status_text(results[r].status), results[r].text);
    }
}

/* ---- shape ------------------------------------------------------------------------------------------ */

static void test_tree_covers_all_ranks_once(void **state)
{
    (void)state;
    for (int size = 1; size <= 300; size++) {
        for (int rank = 0; rank < size; rank++) {
            weft_tree_place place, parent;
            weft_tree_find(rank, size, &place);
            assert_int_equal(place.low, rank);
            int next = rank + 1;
            for (int i = 0; i < place.children; i++) {
                assert_int_equal(place.child[i], next);
                next = place.child_high[i];
            }
            assert_int_equal(next, place.high);
            assert_int_equal(place.parent < 0, rank == 0);
            if (place.parent < 0)
                continue;
            weft_tree_find(place.parent, size, &parent);
            int named = 0;
            for (int i = 0; i < parent.children; i++)
                named += parent.child[i] == rank && parent.child_high[i] == place.high;
            assert_int_equal(named, 1);
        }
    }
}

static void test_tree_is_shallow(void **state)
{
    (void)state;
    int deepest = 0;
    for (int rank = 0; rank < 100000; rank += 37) {
        int depth = 0;
        weft_tree_place place;
        for (weft_tree_find(rank, 100000, &place); place.parent >= 0; depth++)
            weft_tree_find(place.parent, 100000, &place);
        deepest = depth > deepest ? depth : deepest;
    }
    assert_true(deepest <= 9); /* log4(100000) is 8.3 */
}

static void test_rank_list_is_short(void **state)
{
    (void)state;
    uint64_t bits[16] = { 1ull << 3 | 7ull << 5 };
    char text[256];
    weft_rank_list(bits, 1000, text, sizeof text);
    assert_string_equal(text, "ranks 3, 5-7");
    bits[0] = 2;
    weft_rank_list(bits, 64, text, sizeof text);
    assert_string_equal(text, "rank 1");
    for (int i = 0; i < 16; i++)
        bits[i] = 0x5555555555555555;
    weft_rank_list(bits, 1000, text, sizeof text);
    assert_non_null(strstr(text, " more"));
}

/* ---- kinds of meeting -------------------------------------------------------------------------------- */

static void meet(const weft_control_config *config, outcome *result)
{
    weft_control *c = NULL;
    weft_status status = weft_control_create(config, &c);
    if (status == WEFT_OK)
        status = check_allgather(c, 0);
    if (status == WEFT_OK)
        status = check_allgather(c, 37);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static void meet_by_url(int rank, int size, const void *context, outcome *result)
{
    weft_control_config config = rank_config(rank, size, context, 20000);
    meet(&config, result);
}

static void test_threads_meet_by_url(void **state)
{
    (void)state;
    static const int sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 13, 21, 40, 64 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char url[64];
        outcome results[64];
        snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
        ranks_as_threads(sizes[i], meet_by_url, url, results);
        expect_ok(results, sizes[i]);
    }
}

static void test_meet_by_ipv6_and_by_name(void **state)
{
    (void)state;
    outcome results[3];
    char url[64];
    snprintf(url, sizeof url, "tcp://localhost:%d", free_port(0));
    ranks_as_threads(3, meet_by_url, url, results);
    expect_ok(results, 3);
    if (access("/proc/net/if_inet6", R_OK) != 0)
        return;
    snprintf(url, sizeof url, "tcp://[::1]:%d", free_port(0));
    ranks_as_threads(3, meet_by_url, url, results);
    expect_ok(results, 3);
}

static void meet_processes(int size)
{
    rank_group group;
    char url[64];
    outcome result;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    int64_t start = weft_now_ns();
    ranks_fork(&group, size, meet_by_url, url);
    int64_t slowest = 0;
    for (int r = 0; r < size; r++) {
        assert_true(ranks_outcome(&group, r, 30000, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d: %s", r, result.text);
        slowest = result.taken_ns > slowest ? result.taken_ns : slowest;
    }
    print_message("%d processes: all have met and left %.0f ms after the first fork; a rank's own time at most %.0f ms\n", size,
                  (double)(weft_now_ns() - start) / 1e6, (double)slowest / 1e6);
    ranks_end(&group);
}

static void test_processes_meet(void **state)
{
    (void)state;
    meet_processes(2);
    meet_processes(5);
    meet_processes(64);
    meet_processes(256);
}

static void meet_by_id(int rank, int size, const void *context, outcome *result)
{
    weft_control_config config = rank_config(rank, size, NULL, 20000);
    config.kind = WEFT_RENDEZVOUS_ID;
    config.id = context;
    meet(&config, result);
}

static void test_meet_by_id(void **state)
{
    (void)state;
    outcome results[9];
    weft_unique_id id, unused;
    assert_int_equal(weft_get_unique_id(&unused), WEFT_OK);
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    ranks_as_threads(9, meet_by_id, &id, results);
    expect_ok(results, 9);
    rank_group group;
    outcome result;
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    ranks_fork(&group, 4, meet_by_id, &id); /* the server stays in this process, which is no rank */
    for (int r = 0; r < 4; r++) {
        assert_true(ranks_outcome(&group, r, 20000, &result));
        assert_int_equal(result.status, WEFT_OK);
    }
    ranks_end(&group);
}

static void test_id_that_is_none_is_refused(void **state)
{
    (void)state;
    weft_unique_id id = { { 0 } };
    outcome result = { 0 };
    meet_by_id(0, 2, &id, &result);
    assert_int_equal(result.status, WEFT_ERR_INVALID);
    assert_non_null(strstr(result.text, "weft_get_unique_id"));
}

static int files_in(const char *folder)
{
    int count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void test_meet_by_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/weft-test-XXXXXX", url[128], path[100];
    outcome results[5];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/place", folder);
    snprintf(url, sizeof url, "file://%s", path);
    ranks_as_threads(5, meet_by_url, url, results);
    expect_ok(results, 5);
    assert_int_equal(files_in(folder), 0);
    /* What an earlier run, or somebody else, left there does not matter. */
    static const char *const stale[] = { "weft-meeting 1 0123456789abcdef 1 127.0.0.1 end\n", "hello\n", "" };
    for (size_t i = 0; i < ARRAY_LEN(stale); i++) {
        FILE *f = fopen(path, "w");
        fputs(stale[i], f);
        fclose(f);
        ranks_as_threads(5, meet_by_url, url, results);
        expect_ok(results, 5);
        assert_int_equal(files_in(folder), 0);
    }
    rmdir(folder);
}

static void test_file_that_cannot_be_written_is_named(void **state)
{
    (void)state;
    outcome result = { 0 };
    meet_by_url(0, 2, "file:///no/such/folder/place", &result);
    assert_int_equal(result.status, WEFT_ERR_SYSTEM);
    assert_non_null(strstr(result.text, "/no/such/folder/place"));
    assert_non_null(strstr(result.text, "No such file"));
    weft_control_config config = rank_config(1, 2, "file:///no/such/folder/place", 200);
    result = (outcome){ 0 };
    meet(&config, &result);
    assert_int_equal(result.status, WEFT_ERR_TIMEOUT);
    assert_non_null(strstr(result.text, "rank 0 has not written /no/such/folder/place"));
}

/* An all-gather and a store of the caller's, by shared memory of threads. */
typedef struct board {
    pthread_barrier_t barrier;
    uint8_t cells[8][512];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char key[100];
    size_t bytes;
    bool fails;
} board;
typedef struct seat { board *board; int rank, size; } seat;

static int board_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    seat *s = context;
    memcpy(s->board->cells[s->rank], send, bytes);
    pthread_barrier_wait(&s->board->barrier);
    for (int r = 0; r < s->size; r++)
        memcpy((char *)recv + (size_t)r * bytes, s->board->cells[r], bytes);
    pthread_barrier_wait(&s->board->barrier);
    return s->board->fails ? 42 : 0;
}

static void meet_by_allgather(int rank, int size, const void *context, outcome *result)
{
    seat s = { (board *)context, rank, size };
    weft_control_config config = rank_config(rank, size, NULL, 20000);
    config.kind = WEFT_RENDEZVOUS_ALLGATHER;
    config.allgather = board_allgather;
    config.allgather_context = &s;
    meet(&config, result);
}

static void test_meet_by_the_callers_allgather(void **state)
{
    (void)state;
    outcome results[8];
    board b = { 0 };
    pthread_barrier_init(&b.barrier, NULL, 8);
    ranks_as_threads(8, meet_by_allgather, &b, results);
    expect_ok(results, 8);
    b.fails = true;
    ranks_as_threads(8, meet_by_allgather, &b, results);
    for (int r = 0; r < 8; r++) {
        assert_int_equal(results[r].status, WEFT_ERR_SYSTEM);
        assert_non_null(strstr(results[r].text, "42"));
    }
    pthread_barrier_destroy(&b.barrier);
}

static int board_set(void *context, const char *key, const void *value, size_t bytes)
{
    board *b = context;
    pthread_mutex_lock(&b->lock);
    snprintf(b->key, sizeof b->key, "%s", key);
    memcpy(b->cells[0], value, bytes);
    b->bytes = bytes;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return 0;
}

static int board_get(void *context, const char *key, void *value, size_t *bytes, int64_t timeout_ms)
{
    board *b = context;
    (void)timeout_ms;
    pthread_mutex_lock(&b->lock);
    while (b->bytes == 0)
        pthread_cond_wait(&b->changed, &b->lock);
    int result = strcmp(key, b->key) == 0 && b->bytes <= *bytes ? 0 : 7;
    memcpy(value, b->cells[0], b->bytes);
    *bytes = b->bytes;
    pthread_mutex_unlock(&b->lock);
    return result;
}

static void meet_by_store(int rank, int size, const void *context, outcome *result)
{
    weft_store store = { board_set, board_get, (board *)context, "job7/" };
    weft_control_config config = rank_config(rank, size, NULL, 20000);
    config.kind = WEFT_RENDEZVOUS_STORE;
    config.store = &store;
    meet(&config, result);
}

static void test_meet_by_the_callers_store(void **state)
{
    (void)state;
    outcome results[8];
    board b = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    ranks_as_threads(8, meet_by_store, &b, results);
    expect_ok(results, 8);
    assert_string_equal(b.key, "job7/weft/root");
    /* A second meeting under the same key: what the first left there is only tried in vain. */
    ranks_as_threads(8, meet_by_store, &b, results);
    expect_ok(results, 8);
}

/* ---- all-gather --------------------------------------------------------------------------------------- */

static void gather_much(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 20000);
    weft_status status = weft_control_create(&config, &c);
    static const size_t bytes[] = { 1, 100000, 0, 7, 1 << 20, 300, 65536 };
    for (size_t i = 0; status == WEFT_OK && i < ARRAY_LEN(bytes); i++)
        status = check_allgather(c, bytes[i]);
    for (int i = 0; status == WEFT_OK && i < 200; i++)
        status = check_allgather(c, 8);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static void test_allgather_of_any_size(void **state)
{
    (void)state;
    char url[64];
    outcome results[11];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_as_threads(11, gather_much, url, results);
    expect_ok(results, 11);
}

static void gather_in_vain(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 20000);
    if (weft_control_create(&config, &c) != WEFT_OK) {
        outcome_fail(result, WEFT_ERR_INTERNAL);
        return;
    }
    char all[8];
    if (rank != 3)
        outcome_fail(result, weft_control_allgather(c, "x", all, 1, weft_deadline_ns(200)));
    weft_control_destroy(c, 10000);
}

static void test_allgather_without_a_rank_times_out(void **state)
{
    (void)state;
    char url[64];
    outcome results[6];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_as_threads(6, gather_in_vain, url, results);
    for (int r = 0; r < 6; r++)
        assert_int_equal(results[r].status, r == 3 ? WEFT_OK : WEFT_ERR_TIMEOUT);
    assert_non_null(strstr(results[0].text, "3"));
}

/* ---- leaving ------------------------------------------------------------------------------------------ */

typedef struct leaving { const char *url; int early; int64_t linger_ms; pthread_barrier_t *barrier; } leaving;

static void leave(int rank, int size, const void *context, outcome *result)
{
    const leaving *l = context;
    weft_control *c = NULL;
    notice_box *box = notice_box_create();
    weft_control_config config = rank_config(rank, size, l->url, 20000);
    config.notice = notice_box_put;
    config.notice_context = box;
    weft_status status = weft_control_create(&config, &c);
    if (rank == l->early) {
        weft_control_destroy(c, l->linger_ms);
        c = NULL;
    }
    pthread_barrier_wait(l->barrier);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, l->linger_ms);
    result->rank = notice_box_count(box);
    notice_box_free(box);
}

static void test_leaving_early_is_no_death(void **state)
{
    (void)state;
    for (int early = 0; early < 7; early++) {
        char url[64];
        outcome results[7];
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, 7);
        snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
        leaving l = { url, early, 100, &barrier };
        ranks_as_threads(7, leave, &l, results);
        expect_ok(results, 7);
        for (int r = 0; r < 7; r++)
            assert_int_equal(results[r].rank, 0);
        pthread_barrier_destroy(&barrier);
    }
}

static void test_objects_can_be_created_again_and_again(void **state)
{
    (void)state;
    char url[64];
    outcome results[4];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    for (int i = 0; i < 20; i++) {
        ranks_as_threads(4, meet_by_url, url, results);
        expect_ok(results, 4);
    }
}

static int open_descriptors(void)
{
    return files_in("/proc/self/fd");
}

static void test_nothing_is_left_open(void **state)
{
    (void)state;
    char url[64];
    outcome results[5];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_as_threads(5, meet_by_url, url, results);
    int before = open_descriptors();
    ranks_as_threads(5, meet_by_url, url, results);
    assert_int_equal(open_descriptors(), before);
}

/* ---- fork --------------------------------------------------------------------------------------------- */

static void fork_inside(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 20000);
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK && rank == 1) {
        int before = open_descriptors(), code;
        pid_t pid = fork();
        if (pid == 0) {
            char all[8];
            bool refused = weft_control_allgather(c, "x", all, 1, weft_deadline_ns(1000)) == WEFT_ERR_USAGE;
            weft_control_destroy(c, 1000);
            _exit(refused && open_descriptors() < before ? 0 : 1);
        }
        if (waitpid(pid, &code, 0) != pid || code != 0)
            status = weft_fail(WEFT_ERR_INTERNAL, "the child was not refused");
    }
    if (status == WEFT_OK)
        status = check_allgather(c, 5); /* the child has disturbed nobody */
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static void test_child_of_a_fork_disturbs_nobody(void **state)
{
    (void)state;
    rank_group group;
    char url[64];
    outcome result;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_fork(&group, 3, fork_inside, url);
    for (int r = 0; r < 3; r++) {
        assert_true(ranks_outcome(&group, r, 20000, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d: %s", r, result.text);
    }
    ranks_end(&group);
}

/* ---- allocations -------------------------------------------------------------------------------------- */

static void meet_shortly(int rank, int size, const void *context, outcome *result)
{
    weft_control *c = NULL;
    weft_control_config config = rank_config(rank, size, context, 300);
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK)
        status = weft_control_allgather(c, "x", (char[4]){ 0 }, 1, weft_deadline_ns(200));
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 100);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    outcome results[3];
    bool all_ok = false;
    for (long n = 1; n < 200 && !all_ok; n++) {
        char url[64];
        snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
        weft_alloc_fail_at(n, false);
        ranks_as_threads(3, meet_shortly, url, results);
        bool reached = weft_alloc_count() >= n;
        weft_alloc_fail_at(0, false);
        for (int r = 0; r < 3; r++) {
            if (results[r].status != WEFT_OK)
                assert_string_not_equal(results[r].text, "");
        }
        all_ok = !reached;
    }
    assert_true(all_ok);
}

static int count_entries(const char *path)
{
    int count = 0;
    DIR *folder = opendir(path);
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

/* Of one rank, too, a place that cannot be is an error, and nothing of an id stays behind. */
static void test_one_rank(void **state)
{
    (void)state;
    weft_comm *comm = NULL;
    weft_unique_id id;
    memset(&id, 1, sizeof id);
    assert_int_equal(weft_comm_create_url("tcp://", 0, 1, NULL, &comm), WEFT_ERR_PARSE);
    assert_int_equal(weft_comm_create_id(&id, 0, 1, NULL, &comm), WEFT_ERR_INVALID);
    assert_null(comm);
    int before = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
        assert_int_equal(weft_comm_create_id(&id, 0, 1, NULL, &comm), WEFT_OK);
        assert_int_equal(weft_comm_destroy(comm), WEFT_OK);
        if (i == 0)
            before = count_entries("/proc/self/fd");
    }
    assert_in_range(count_entries("/proc/self/fd"), 0, before + 10); /* a server may just be ending */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank),
        cmocka_unit_test(test_tree_covers_all_ranks_once),
        cmocka_unit_test(test_tree_is_shallow),
        cmocka_unit_test(test_rank_list_is_short),
        cmocka_unit_test(test_threads_meet_by_url),
        cmocka_unit_test(test_meet_by_ipv6_and_by_name),
        cmocka_unit_test(test_processes_meet),
        cmocka_unit_test(test_meet_by_id),
        cmocka_unit_test(test_id_that_is_none_is_refused),
        cmocka_unit_test(test_meet_by_file),
        cmocka_unit_test(test_file_that_cannot_be_written_is_named),
        cmocka_unit_test(test_meet_by_the_callers_allgather),
        cmocka_unit_test(test_meet_by_the_callers_store),
        cmocka_unit_test(test_allgather_of_any_size),
        cmocka_unit_test(test_allgather_without_a_rank_times_out),
        cmocka_unit_test(test_leaving_early_is_no_death),
        cmocka_unit_test(test_objects_can_be_created_again_and_again),
        cmocka_unit_test(test_nothing_is_left_open),
        cmocka_unit_test(test_child_of_a_fork_disturbs_nobody),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

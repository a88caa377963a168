/* A rank that has forked a child, which lives on with copies of all its memory and descriptors, is killed: the other ranks
 * notice as if there was no child. And ranks that were one process when that first used weft. What a child may call is tested
 * in test_errors. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../checks.h"
#include "base/base.h"

enum { RANKS = 3, VICTIM = 1, NOTICE_MS = 2000, LIMIT_S = 60, COUNT = 1000 };

/* In memory that all processes share. */
typedef struct board {
    _Atomic int lingering;        /* pid of the child that lives on */
    _Atomic int64_t killed_ns;
    int64_t ended_ns[RANKS];
    weft_status status[RANKS];
    char said[RANKS][400];
} board;

/* A child that neither ends nor calls exec; it ends with the test at the latest. */
static void fork_lingering(board *b, pid_t test)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(0);
        while (kill(test, 0) == 0)
            usleep(20000);
        _exit(0);
    }
    atomic_store(&b->lingering, child);
}

_Noreturn static void be_rank(board *b, const weft_unique_id *id, int rank, const char *transports, pid_t test)
{
    weft_config config = WEFT_CONFIG_INIT;
    weft_comm *comm = NULL;
    int32_t data[COUNT] = {0};
    alarm(LIMIT_S);
    config.transports = transports;
    weft_status status = weft_comm_create_id(id, rank, RANKS, &config, &comm);
    for (int k = 0; status == WEFT_OK; k++) {
        status = weft_all_reduce(comm, data, data, COUNT, WEFT_I32, WEFT_MAX, NULL);
        if (status == WEFT_OK && rank == VICTIM && k == 20) {
            fork_lingering(b, test); /* all works after it as before */
        } else if (status == WEFT_OK && rank == VICTIM && k == 40) {
            atomic_store(&b->killed_ns, weft_now_ns());
            raise(SIGKILL);
        }
    }
    snprintf(b->said[rank], sizeof b->said[rank], "%s", weft_last_error());
    b->status[rank] = status;
    weft_comm_destroy(comm);
    b->ended_ns[rank] = weft_now_ns();
    _exit(0);
}

static void death_shows_in_spite_of_a_child(void **state)
{
    board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    weft_unique_id id;
    pid_t ranks[RANKS], test = getpid();
    assert_true(b != MAP_FAILED);
    time_limit(LIMIT_S);
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    for (int r = 0; r < RANKS; r++) {
        ranks[r] = fork();
        if (ranks[r] == 0)
            be_rank(b, &id, r, *state, test);
    }
    for (int r = 0; r < RANKS; r++)
        waitpid(ranks[r], NULL, 0);
    int64_t killed = atomic_load(&b->killed_ns);
    assert_true(killed > 0);
    assert_int_equal(kill(atomic_load(&b->lingering), 0), 0); /* it was there all the time */
    kill(atomic_load(&b->lingering), SIGKILL);
    for (int r = 0; r < RANKS; r++) {
        if (r == VICTIM)
            continue;
        print_message("%s: rank %d ended after %lld ms: %s\n", (const char *)*state, r,
                      (long long)(b->ended_ns[r] - killed) / WEFT_NS_PER_MS, b->said[r]);
        assert_int_equal(b->status[r], WEFT_ERR_PEER);
        assert_non_null(strstr(b->said[r], "rank 1 died"));
        assert_true(b->ended_ns[r] - killed < (int64_t)NOTICE_MS * WEFT_NS_PER_MS);
    }
    munmap(b, sizeof *b);
}

/* ---- processes that were one when they first used weft ---- */

enum { LARGE = 300000, CALLS = 5 };

typedef struct pair {
    weft_unique_id id;
    int rank;
} pair;

/* Large private buffers at the same addresses in both; the number of wrong results. */
static void *sum_large(void *argument)
{
    const pair *p = argument;
    weft_comm *comm = NULL;
    intptr_t wrong = weft_comm_create_id(&p->id, p->rank, 2, NULL, &comm) != WEFT_OK;
    int32_t *data = malloc(LARGE * sizeof *data), *sum = malloc(LARGE * sizeof *sum);
    for (int call = 0; call < CALLS && !wrong; call++) {
        for (int i = 0; i < LARGE; i++)
            data[i] = (p->rank + 1) * (i + call);
        wrong += weft_all_reduce(comm, data, sum, LARGE, WEFT_I32, WEFT_SUM, NULL) != WEFT_OK;
        for (int i = 0; i < LARGE; i++)
            wrong += sum[i] != 3 * (i + call);
    }
    free(data);
    free(sum);
    weft_comm_destroy(comm);
    return (void *)wrong;
}

static void ranks_forked_from_a_user_of_weft_are_not_one_process(void **state)
{
    (void)state;
    pair ranks[2] = {{.rank = 0}, {.rank = 1}};
    pthread_t thread;
    void *wrong;
    int status;
    time_limit(LIMIT_S);
    assert_int_equal(weft_get_unique_id(&ranks[0].id), WEFT_OK);
    ranks[1].id = ranks[0].id;
    pthread_create(&thread, NULL, sum_large, &ranks[1]);
    assert_null(sum_large(&ranks[0]));
    pthread_join(thread, &wrong);
    assert_null(wrong);

    assert_int_equal(weft_get_unique_id(&ranks[0].id), WEFT_OK);
    ranks[1].id = ranks[0].id;
    pid_t child = fork();
    if (child == 0)
        _exit(sum_large(&ranks[1]) != NULL);
    assert_null(sum_large(&ranks[0]));
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(death_shows_in_spite_of_a_child, (void *)"shm"),
        cmocka_unit_test_prestate(death_shows_in_spite_of_a_child, (void *)"tcp"),
        cmocka_unit_test(ranks_forked_from_a_user_of_weft_are_not_one_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* After a rank died: the survivors shrink the communicator and go on, twice. Ranks are processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <weft/weft.h>

enum { RANKS = 5, FAILED = 1, OUT_OF_ORDER = 2 };

/* The sum of 1 from everyone; -1 and the status if it fails. */
static int count_ranks(weft_comm *comm, weft_status *status)
{
    int32_t one = 1, sum = 0;
    *status = weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, NULL);
    return *status == WEFT_OK ? sum : -1;
}

/* Everyone but `victim` (a rank of comm) goes on in a communicator without it. */
static weft_comm *lose(weft_comm *comm, int victim)
{
    weft_status status;
    int32_t done = 1;
    if (weft_comm_rank(comm) == victim) { /* goes without a word, when all others are through with what was before */
        for (int r = 0; r < weft_comm_size(comm) - 1; r++)
            if (weft_recv(comm, &done, 1, WEFT_I32, WEFT_ANY_SOURCE, 7, NULL, NULL) != WEFT_OK)
                _exit(FAILED);
        _exit(0);
    }
    weft_send(comm, &done, 1, WEFT_I32, victim, 7, NULL);
    while (count_ranks(comm, &status) >= 0) {
    }
    char name[32];
    snprintf(name, sizeof name, "rank %d", victim);
    if (status != WEFT_ERR_PEER || !strstr(weft_last_error(), name)) {
        fprintf(stderr, "rank %d: %s: %s\n", weft_comm_rank(comm), weft_status_text(status), weft_last_error());
        _exit(OUT_OF_ORDER);
    }
    weft_comm *smaller = NULL;
    status = weft_comm_shrink(comm, NULL, &smaller);
    if (status != WEFT_OK) {
        fprintf(stderr, "rank %d: shrink: %s\n", weft_comm_rank(comm), weft_last_error());
        _exit(FAILED);
    }
    int expected = weft_comm_rank(comm) - (weft_comm_rank(comm) > victim);
    if (weft_comm_rank(smaller) != expected || weft_comm_size(smaller) != weft_comm_size(comm) - 1)
        _exit(OUT_OF_ORDER);
    weft_comm_destroy(comm);
    return smaller;
}

static void one_rank(const char *url, int rank, const char *transports)
{
    weft_config config = WEFT_CONFIG_INIT;
    config.timeout_ms = 20000;
    config.transports = transports;
    weft_comm *comm = NULL;
    weft_status status = weft_comm_create_url(url, rank, RANKS, &config, &comm);
    if (status != WEFT_OK || count_ranks(comm, &status) != RANKS) {
        fprintf(stderr, "rank %d: %s\n", rank, weft_last_error());
        _exit(FAILED);
    }
    comm = lose(comm, 0);
    if (count_ranks(comm, &status) != RANKS - 1)
        _exit(OUT_OF_ORDER);
    comm = lose(comm, 2);
    if (count_ranks(comm, &status) != RANKS - 2)
        _exit(OUT_OF_ORDER);
    weft_comm_destroy(comm);
    _exit(0);
}

static void survive(const char *transports)
{
    char directory[] = "/tmp/weft-shrink-XXXXXX", url[80], path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/meet", directory);
    snprintf(url, sizeof url, "file://%s", path);
    pid_t pids[RANKS];
    for (int r = 0; r < RANKS; r++)
        if ((pids[r] = fork()) == 0) {
            alarm(40);
            one_rank(url, r, transports);
        }
    for (int r = 0; r < RANKS; r++) {
        int state;
        assert_int_equal(waitpid(pids[r], &state, 0), pids[r]);
        assert_true(WIFEXITED(state));
        assert_int_equal(WEXITSTATUS(state), 0);
    }
    unlink(path);
    assert_int_equal(rmdir(directory), 0);
}

static void survivors_go_on_over_shm(void **state)
{
    (void)state;
    survive("auto");
}

static void survivors_go_on_over_tcp(void **state)
{
    (void)state;
    survive("tcp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(survivors_go_on_over_shm), cmocka_unit_test(survivors_go_on_over_tcp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

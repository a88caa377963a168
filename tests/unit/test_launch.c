/* Rank, size and meeting place from the environment, with the variables of each launcher set by hand, and PMI-1 and PMI-2 against
 * a launcher played by this test. Real launchers are tried by tests/multi. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/launch.h"
#include "support_ranks.h"

static const char *const variables[] = {
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK", "PMI_SIZE", "PMI_FD",
    "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEPID", "WEFT_RENDEZVOUS"
};

/* "A=1 B=2" and nothing else. */
static void set_environment(const char *settings)
{
    char text[512], *rest = text;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    snprintf(text, sizeof text, "%s", settings);
    for (char *item = strtok_r(text, " ", &rest); item != NULL; item = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(item, '=');
        *value = 0;
        setenv(item, value + 1, 1);
    }
}

static void expect_launch(const char *settings, int rank, int size, const char *launcher, const char *url)
{
    weft_launch launch;
    set_environment(settings);
    if (weft_launch_detect(&launch) != WEFT_OK)
        fail_msg("%s: %s", settings, weft_last_error());
    assert_int_equal(launch.rank, rank);
    assert_int_equal(launch.size, size);
    assert_string_equal(launch.launcher, launcher);
    assert_int_equal(launch.kind, WEFT_RENDEZVOUS_URL);
    assert_string_equal(launch.url, url);
    weft_launch_release(&launch);
}

static void expect_refused(const char *settings, weft_status status, const char *a, const char *b)
{
    weft_launch launch;
    set_environment(settings);
    weft_status got = weft_launch_detect(&launch);
    if (got != status || strstr(weft_last_error(), a) == NULL || strstr(weft_last_error(), b) == NULL)
        fail_msg("%s: %s: '%s' should name '%s' and '%s'", settings, weft_status_text(got), weft_last_error(), a, b);
    weft_launch_release(&launch);
}

static void test_nothing_set_is_one_rank(void **state)
{
    (void)state;
    expect_launch("", 0, 1, "none", "");
}

static void test_torchrun(void **state)
{
    (void)state;
    expect_launch("RANK=3 WORLD_SIZE=8 MASTER_ADDR=node1 MASTER_PORT=29500", 3, 8, "torchrun", "tcp://node1:29501+15");
    expect_launch("RANK=0 WORLD_SIZE=2 MASTER_ADDR=fd00::1 MASTER_PORT=29500", 0, 2, "torchrun", "tcp://[fd00::1]:29501+15");
    expect_launch("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=65535", 0, 2, "torchrun", "tcp://h:65519+15");
    expect_launch("RANK=0 WORLD_SIZE=1", 0, 1, "torchrun", "");
    /* torchrun inside srun inside a Slurm allocation. */
    expect_launch("RANK=1 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1000 SLURM_PROCID=0 SLURM_NTASKS=1", 1, 2, "torchrun",
                  "tcp://h:1001+15");
}

static void test_incarnations_have_different_tokens(void **state)
{
    (void)state;
    static const char base[] =
        "RANK=1 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1000 TORCHELASTIC_RUN_ID=a TORCHELASTIC_RESTART_COUNT=";
    char text[256];
    weft_launch first, again;
    snprintf(text, sizeof text, "%s0", base);
    set_environment(text);
    assert_int_equal(weft_launch_detect(&first), WEFT_OK);
    snprintf(text, sizeof text, "%s1", base);
    set_environment(text);
    assert_int_equal(weft_launch_detect(&again), WEFT_OK);
    assert_string_not_equal(first.token, again.token);
}

static void test_weft_rendezvous_comes_first(void **state)
{
    (void)state;
    expect_launch("RANK=3 WORLD_SIZE=8 MASTER_ADDR=h MASTER_PORT=1 WEFT_RENDEZVOUS=tcp://other:5", 3, 8, "torchrun",
                  "tcp://other:5");
    expect_launch("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PMIX_RANK=1 PMIX_NAMESPACE=x WEFT_RENDEZVOUS=file:///a/b", 1, 2,
                  "Open MPI", "file:///a/b");
    expect_refused("RANK=3 WORLD_SIZE=8 WEFT_RENDEZVOUS=http://x", WEFT_ERR_PARSE, "WEFT_RENDEZVOUS", "http://x");
}

static void test_other_launchers(void **state)
{
    (void)state;
    expect_launch("PMI_RANK=1 PMI_SIZE=2 MASTER_ADDR=h MASTER_PORT=9", 1, 2, "MPICH", "tcp://h:10+15");
    expect_launch("SLURM_PROCID=5 SLURM_NTASKS=6 MASTER_ADDR=h MASTER_PORT=9", 5, 6, "Slurm", "tcp://h:10+15");
    /* A step of fewer tasks than the job. */
    expect_launch(
        "SLURM_PROCID=1 SLURM_NTASKS=6 SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=4 SLURM_STEP_ID=0 MASTER_ADDR=h MASTER_PORT=9", 1, 2,
        "Slurm", "tcp://h:10+15");
    /* A batch script itself is no task, however many its job has. */
    expect_launch("SLURM_PROCID=0 SLURM_NTASKS=6 SLURM_JOB_ID=4", 0, 1, "none", "");
    expect_launch("SLURM_NTASKS=6 SLURM_JOB_ID=4", 0, 1, "none", "");
    /* mpirun inside of it is. */
    expect_launch("SLURM_PROCID=0 SLURM_NTASKS=6 SLURM_JOB_ID=4 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=3 MASTER_ADDR=h "
                  "MASTER_PORT=9", 1, 3, "Open MPI", "tcp://h:10+15");
}

static void test_values_that_cannot_be_are_named(void **state)
{
    (void)state;
    expect_refused("RANK=x WORLD_SIZE=8", WEFT_ERR_PARSE, "RANK", "'x'");
    expect_refused("RANK=-1 WORLD_SIZE=8", WEFT_ERR_PARSE, "RANK", "'-1'");
    expect_refused("RANK=0 WORLD_SIZE=0", WEFT_ERR_PARSE, "WORLD_SIZE", "'0'");
    expect_refused("RANK=8 WORLD_SIZE=8", WEFT_ERR_INVALID, "RANK is 8", "WORLD_SIZE, which is 8");
    expect_refused("PMI_RANK=2 PMI_SIZE=1", WEFT_ERR_INVALID, "PMI_RANK is 2", "PMI_SIZE");
    expect_refused("RANK=0", WEFT_ERR_INVALID, "RANK is set to '0'", "WORLD_SIZE is not");
    expect_refused("WORLD_SIZE=4", WEFT_ERR_INVALID, "WORLD_SIZE is set to '4'", "RANK is not");
    expect_refused("SLURM_PROCID=1", WEFT_ERR_INVALID, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");
    expect_refused("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h", WEFT_ERR_INVALID, "MASTER_ADDR is set to 'h'", "MASTER_PORT is not");
    expect_refused("RANK=0 WORLD_SIZE=2 MASTER_PORT=5", WEFT_ERR_INVALID, "MASTER_PORT is set to '5'", "MASTER_ADDR is not");
    expect_refused("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=70000", WEFT_ERR_PARSE, "MASTER_PORT", "'70000'");
    expect_refused("RANK=0 WORLD_SIZE=2", WEFT_ERR_INVALID, "WEFT_RENDEZVOUS", "MASTER_ADDR and MASTER_PORT");
    expect_refused("RANK=0 WORLD_SIZE=2", WEFT_ERR_INVALID, "PMIX_NAMESPACE", "PMI_FD");
    expect_refused("PMI_RANK=0 PMI_SIZE=2 PMI_FD=x", WEFT_ERR_PARSE, "PMI_FD", "'x'");
    expect_refused("PMI_RANK=0 PMI_SIZE=2 PMI_FD=9999", WEFT_ERR_SYSTEM, "PMI_FD is 9999", "no open descriptor");
}

static void test_hex(void **state)
{
    (void)state;
    uint8_t data[256], back[256];
    char hex[513];
    size_t bytes = sizeof back;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    weft_launch_to_hex(data, sizeof data, hex);
    assert_true(weft_launch_from_hex(hex, back, &bytes));
    assert_int_equal(bytes, sizeof data);
    assert_memory_equal(data, back, sizeof data);
    bytes = 2;
    assert_false(weft_launch_from_hex("abc", back, &bytes));
    assert_false(weft_launch_from_hex("ag", back, &bytes));
    assert_false(weft_launch_from_hex("aabbcc", back, &bytes));
}

/* ---- a launcher that speaks PMI ----------------------------------------------------------------------- */

enum { PMI_RANKS = 3 };
typedef struct pmi_server {
    int version; /* 1, 2; 0: talks nonsense */
    int lines[PMI_RANKS];
    int in_barrier, finalized;
    char key[128], value[1200];
} pmi_server;

static bool get_message(int line, int version, char *text, size_t room)
{
    size_t have = 0, want = room - 1;
    char digits[7] = "";
    if (version == 2) {
        if (recv(line, digits, 6, MSG_WAITALL) != 6)
            return false;
        want = (size_t)strtol(digits, NULL, 10);
        assert_true(want < room);
    }
    while (have < want) {
        if (recv(line, text + have, 1, 0) != 1)
            return false;
        if (version == 1 && text[have] == '\n')
            break;
        have++;
    }
    text[have] = 0;
    return true;
}

static void put_message(int line, int version, const char *text)
{
    char message[2048];
    int bytes = version == 2 ? snprintf(message, sizeof message, "%6zu%s", strlen(text), text) :
                               snprintf(message, sizeof message, "%s\n", text);
    send(line, message, (size_t)bytes, MSG_NOSIGNAL);
}

static const char *value_of(const char *text, const char *key, char *value, size_t room)
{
    const char *at = strstr(text, key);
    snprintf(value, room, "%s", at != NULL ? at + strlen(key) : "");
    value[strcspn(value, " ;")] = 0;
    return value;
}

static void answer(pmi_server *s, int r, int version, const char *text)
{
    char reply[1600], value[256];
    if (strstr(text, "cmd=get_my_kvsname") == text) {
        put_message(s->lines[r], version, "cmd=my_kvsname kvsname=kvs_1_2");
    } else if (strstr(text, "cmd=fullinit;") == text) {
        put_message(s->lines[r], version, "cmd=fullinit-response;rc=0;pmi-version=2;rank=0;");
    } else if (strstr(text, "cmd=job-getid;") == text) {
        put_message(s->lines[r], version, "cmd=job-getid-response;jobid=77.0;rc=0;");
    } else if (strstr(text, "cmd=put ") == text || strstr(text, "cmd=kvs-put;") == text) {
        assert_true(version == 2 || strcmp(value_of(text, "kvsname=", value, sizeof value), "kvs_1_2") == 0);
        value_of(text, "key=", s->key, sizeof s->key);
        value_of(text, "value=", s->value, sizeof s->value);
        put_message(s->lines[r], version, version == 2 ? "cmd=kvs-put-response;rc=0;" : "cmd=put_result rc=0 msg=success");
    } else if (strstr(text, "cmd=barrier_in") == text || strstr(text, "cmd=kvs-fence;") == text) {
        if (++s->in_barrier % PMI_RANKS == 0) {
            for (int i = 0; i < PMI_RANKS; i++)
                put_message(s->lines[i], version, version == 2 ? "cmd=kvs-fence-response;rc=0;" : "cmd=barrier_out");
        }
    } else if (strstr(text, "cmd=get ") == text || strstr(text, "cmd=kvs-get;") == text) {
        assert_string_equal(value_of(text, "key=", value, sizeof value), s->key);
        assert_true(version == 1 || strcmp(value_of(text, "jobid=", value, sizeof value), "77.0") == 0);
        snprintf(reply, sizeof reply, version == 2 ? "cmd=kvs-get-response;found=TRUE;value=%s;rc=0;" :
                 "cmd=get_result rc=0 msg=success value=%s", s->value);
        put_message(s->lines[r], version, reply);
    } else {
        assert_non_null(strstr(text, "cmd=finalize"));
        put_message(s->lines[r], version, version == 2 ? "cmd=finalize-response;rc=0;" : "cmd=finalize_ack");
        s->finalized++;
    }
}

/* Serves the ranks one message at a time until all lines are closed. */
static void *serve_pmi(void *argument)
{
    pmi_server *s = argument;
    int spoken[PMI_RANKS] = { 1, 1, 1 };
    for (bool open = true; open;) {
        open = false;
        fd_set readable;
        FD_ZERO(&readable);
        int most = -1;
        for (int r = 0; r < PMI_RANKS; r++) {
            if (s->lines[r] >= 0)
                FD_SET(s->lines[r], &readable);
            most = s->lines[r] > most ? s->lines[r] : most;
        }
        if (most < 0 || select(most + 1, &readable, NULL, NULL, NULL) <= 0)
            break;
        for (int r = 0; r < PMI_RANKS; r++) {
            char text[2048];
            if (s->lines[r] < 0)
                continue;
            open = true;
            if (!FD_ISSET(s->lines[r], &readable))
                continue;
            if (!get_message(s->lines[r], spoken[r], text, sizeof text)) {
                close(s->lines[r]);
                s->lines[r] = -1;
            } else if (s->version == 0) {
                put_message(s->lines[r], 1, "Segmentation fault");
            } else if (strstr(text, "cmd=init pmi_version=1") == text) {
                put_message(s->lines[r], 1, s->version == 1 ? "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0" :
                            "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=1");
            } else if (strstr(text, "cmd=init pmi_version=2") == text) {
                put_message(s->lines[r], 1, "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0");
                spoken[r] = 2;
            } else {
                answer(s, r, spoken[r], text);
            }
        }
    }
    return NULL;
}

/* A rank: the descriptor is inherited; detects, meets twice, and exits as a program does. */
static void meet_by_pmi(int rank, int size, const void *context, outcome *result)
{
    const int *ends = context;
    char text[100];
    (void)size;
    snprintf(text, sizeof text, "PMI_RANK=%d PMI_SIZE=%d PMI_FD=%d", rank, PMI_RANKS, ends[rank]);
    set_environment(text);
    for (int round = 0; round < 2 && result->status == WEFT_OK; round++) {
        weft_launch launch;
        weft_control *c = NULL;
        weft_status status = weft_launch_detect(&launch);
        if (status == WEFT_OK) {
            weft_control_config config = rank_config(launch.rank, launch.size, launch.url, 20000);
            config.kind = launch.kind;
            config.store = &launch.store;
            status = weft_control_create(&config, &c);
        }
        if (status == WEFT_OK)
            status = check_allgather(c, 50);
        if (status != WEFT_OK)
            outcome_fail(result, status);
        weft_control_destroy(c, 10000);
        weft_launch_release(&launch);
    }
}

static void run_pmi(int version, outcome results[PMI_RANKS])
{
    pmi_server server = { .version = version };
    int ends[PMI_RANKS];
    pthread_t thread;
    rank_group group;
    for (int r = 0; r < PMI_RANKS; r++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        server.lines[r] = pair[0];
        ends[r] = pair[1];
    }
    ranks_fork(&group, PMI_RANKS, meet_by_pmi, ends);
    for (int r = 0; r < PMI_RANKS; r++)
        close(ends[r]);
    pthread_create(&thread, NULL, serve_pmi, &server);
    for (int r = 0; r < PMI_RANKS; r++)
        assert_true(ranks_outcome(&group, r, 20000, &results[r]));
    ranks_end(&group);
    pthread_join(thread, NULL); /* all other ends of its lines are closed now */
}

static void test_pmi(void **state)
{
    (void)state;
    outcome results[PMI_RANKS];
    for (int version = 1; version <= 2; version++) {
        run_pmi(version, results);
        for (int r = 0; r < PMI_RANKS; r++) {
            if (results[r].status != WEFT_OK)
                fail_msg("PMI-%d, rank %d: %s", version, r, results[r].text);
        }
    }
    run_pmi(0, results);
    for (int r = 0; r < PMI_RANKS; r++) {
        assert_int_equal(results[r].status, WEFT_ERR_SYSTEM);
        assert_non_null(strstr(results[r].text, "Segmentation fault"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_set_is_one_rank),
        cmocka_unit_test(test_torchrun),
        cmocka_unit_test(test_incarnations_have_different_tokens),
        cmocka_unit_test(test_weft_rendezvous_comes_first),
        cmocka_unit_test(test_other_launchers),
        cmocka_unit_test(test_values_that_cannot_be_are_named),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_pmi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The host: grouping by proof, the base segment, further segments. Its doorbells: test_doorbells.c; memory that it offers:
 * test_offers.c. */
#define _GNU_SOURCE
#include "local_group.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void check_together(group_rank *r, weft_host *h)
{
    RANK_CHECK(r, weft_host_count(h) == 1);
    RANK_CHECK(r, weft_host_size(h) == r->group->ranks);
    RANK_CHECK(r, weft_host_index(h) == r->rank);
    RANK_CHECK(r, weft_host_cpus(h) >= 1);
    for (int i = 0; i < r->group->ranks; i++) {
        RANK_CHECK(r, weft_host_of(h)[i] == 0);
        RANK_CHECK(r, weft_host_ranks(h)[i] == i);
    }
}

static void body_together(group_rank *r)
{
    weft_host *h = group_host(r);
    if (!h)
        return;
    check_together(r, h);
    int n = weft_host_size(h);
    unsigned char *mine = weft_host_region(h, r->rank);
    for (size_t i = 0; i < r->region_bytes; i++)
        RANK_CHECK(r, mine[i] == 0);
    memset(mine, r->rank + 1, r->region_bytes);
    group_barrier(r);
    for (int i = 0; i < n; i++) {
        const unsigned char *theirs = weft_host_region(h, i);
        RANK_CHECK(r, theirs[0] == i + 1 && theirs[r->region_bytes - 1] == i + 1);
    }
    group_barrier(r);
    weft_host_destroy(h);
}

static void test_threads_share_a_host(void **state)
{
    (void)state;
    group_run_alike(1, true, 4096, body_together);
    group_run_alike(7, true, 12288, body_together);
}

static void test_processes_share_a_host(void **state)
{
    (void)state;
    group_run_alike(2, false, 4096, body_together);
    group_run_alike(64, false, 4096, body_together);
}

/* ---- who is together ---- */

/* Hosts are told by text: rank i of the group expects expected[i]. */
static int expected[GROUP_MAX_RANKS];

static void body_expected(group_rank *r)
{
    weft_host *h = group_host(r);
    if (!h)
        return;
    int size = 0, hosts = 0;
    for (int i = 0; i < r->group->ranks; i++) {
        RANK_CHECK(r, weft_host_of(h)[i] == expected[i]);
        hosts = expected[i] >= hosts ? expected[i] + 1 : hosts;
        if (expected[i] == expected[r->rank])
            RANK_CHECK(r, weft_host_ranks(h)[size++] == i);
    }
    RANK_CHECK(r, weft_host_size(h) == size && weft_host_count(h) == hosts);
    RANK_CHECK(r, weft_host_ranks(h)[weft_host_index(h)] == r->rank);
    unsigned char *mine = weft_host_region(h, weft_host_index(h));
    mine[0] = (unsigned char)(r->rank + 1);
    group_barrier(r);
    for (int i = 0; i < size; i++)
        RANK_CHECK(r, ((unsigned char *)weft_host_region(h, i))[0] == weft_host_ranks(h)[i] + 1);
    group_barrier(r);
    weft_host_destroy(h);
}

static void run_expected(const char *const *ids, const bool *alone, int ranks, bool threads)
{
    group_rank all[GROUP_MAX_RANKS];
    memset(all, 0, sizeof(all));
    for (int i = 0; i < ranks; i++) {
        all[i].body = body_expected;
        all[i].host_id = ids ? ids[i] : NULL;
        all[i].alone = alone && alone[i];
    }
    group_run(group_open(ranks), all, threads);
}

static void test_host_id_splits_and_joins(void **state)
{
    (void)state;
    const char *ids[] = {"b", "a", "b", "", "a", "c", NULL};
    const int hosts[] = {0, 1, 0, 2, 1, 3, 2};
    memcpy(expected, hosts, sizeof(hosts));
    run_expected(ids, NULL, 7, true);
    run_expected(ids, NULL, 7, false);
}

static void test_alone_is_alone(void **state)
{
    (void)state;
    const char *ids[] = {"x", "x", "x", "x"};
    const bool all_alone[] = {true, true, true, true}, one_alone[] = {false, true, false, false};
    const int separate[] = {0, 1, 2, 3}, one[] = {0, 1, 0, 0};
    memcpy(expected, separate, sizeof(separate));
    run_expected(NULL, all_alone, 4, false);
    memcpy(expected, one, sizeof(one));
    run_expected(ids, one_alone, 4, true);
}

/* A sandbox that refuses memfd_create, as some do. */
static bool refuse_shared_memory(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(filter), filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool sandboxed[GROUP_MAX_RANKS];

static void body_sandboxed(group_rank *r)
{
    if (sandboxed[r->rank])
        RANK_CHECK(r, refuse_shared_memory());
    body_expected(r);
}

static void test_who_may_not_share_memory_is_alone(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(refuse_shared_memory() ? 0 : 1);
    int failed = 1;
    waitpid(pid, &failed, 0);
    if (failed) {
        print_message("skipped: this kernel has no seccomp filters\n");
        skip();
    }
    const int one[] = {0, 1, 0, 0}, separate[] = {0, 1, 2, 3};
    for (int all = 0; all < 2; all++) {
        memcpy(expected, all ? separate : one, sizeof(one));
        for (int i = 0; i < 4; i++)
            sandboxed[i] = all || i == 1;
        group_run_alike(4, false, 4096, body_sandboxed);
    }
}

/* Ranks 0 and 3 stay; 1 makes a network namespace that 2 and 4 join; 5 has one of its own. */
static void body_namespaces(group_rank *r)
{
    if (r->rank == 1 || r->rank == 5)
        RANK_CHECK(r, unshare(CLONE_NEWNET) == 0);
    if (r->rank == 1)
        atomic_store(&r->group->word[0], (uint64_t)getpid());
    group_barrier(r);
    if (r->rank == 2 || r->rank == 4) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%llu/ns/net",
                 (unsigned long long)atomic_load(&r->group->word[0]));
        FILE *f = fopen(path, "r");
        RANK_CHECK(r, f && setns(fileno(f), CLONE_NEWNET) == 0);
        if (f)
            fclose(f);
    }
    group_barrier(r);
    body_expected(r);
}

static bool may_make_namespaces(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWNET) == 0 ? 0 : 1);
    int status = 1;
    waitpid(pid, &status, 0);
    return status == 0;
}

static void test_network_namespaces_are_hosts(void **state)
{
    (void)state;
    if (!may_make_namespaces()) {
        print_message("skipped: network namespaces may not be made here (needs root)\n");
        skip();
    }
    const int hosts[] = {0, 1, 1, 0, 1, 2};
    memcpy(expected, hosts, sizeof(hosts));
    /* Also with one WEFT_HOST_ID for all: it allows sharing, but proof decides. */
    for (int same_id = 0; same_id < 2; same_id++) {
        group_rank all[6];
        memset(all, 0, sizeof(all));
        for (int i = 0; i < 6; i++) {
            all[i].body = body_namespaces;
            all[i].host_id = same_id ? "everywhere" : NULL;
        }
        group_run(group_open(6), all, false);
    }
}

/* ---- CPUs ---- */

static void body_cpus(group_rank *r)
{
    cpu_set_t all, mine;
    sched_getaffinity(0, sizeof(all), &all);
    int first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&mine);
    CPU_SET(first, &mine);
    RANK_CHECK(r, sched_setaffinity(0, sizeof(mine), &mine) == 0);
    weft_host *h = group_host(r);
    RANK_CHECK(r, h && weft_host_cpus(h) == 1);
    weft_host_destroy(h);
}

static void test_cpus_are_the_union_of_affinities(void **state)
{
    (void)state;
    group_run_alike(3, false, 4096, body_cpus);
}

/* Being moved to a CPU of its own binds no thread more than it was, to one CPU or to several. */
static void body_spread_out(group_rank *r)
{
    weft_host *h = group_host(r);
    cpu_set_t before, after;
    if (!h)
        return;
    RANK_CHECK(r, sched_getaffinity(0, sizeof before, &before) == 0);
    weft_host_spread_out(h);
    RANK_CHECK(r, sched_getaffinity(0, sizeof after, &after) == 0 && CPU_EQUAL(&before, &after));
    for (int cpu = 0, kept = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before) && kept++ > 0)
            CPU_CLR(cpu, &before);
    RANK_CHECK(r, sched_setaffinity(0, sizeof before, &before) == 0);
    weft_host_spread_out(h);
    RANK_CHECK(r, sched_getaffinity(0, sizeof after, &after) == 0 && CPU_EQUAL(&before, &after));
    weft_host_destroy(h);
}

static void test_spreading_out_binds_nobody(void **state)
{
    (void)state;
    group_run_alike(5, false, 4096, body_spread_out);
}

/* ---- failures of creation ---- */

static int open_descriptors(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        count++;
    if (d)
        closedir(d);
    return count;
}

typedef struct failing_allgather {
    int calls, fail_at;
} failing_allgather;

static weft_status one_rank_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    failing_allgather *f = context;
    if (++f->calls == f->fail_at)
        return weft_fail(WEFT_ERR_PEER, "rank 9 died");
    memcpy(recv, send, bytes);
    return WEFT_OK;
}

static weft_status create_one(int fail_at, weft_host **h)
{
    failing_allgather f = {0, fail_at};
    weft_host_config config = {
        .ranks = 1, .region_bytes = 4096, .allgather = one_rank_allgather, .context = &f};
    return weft_host_create(&config, h);
}

static void test_failing_allgather_leaves_nothing(void **state)
{
    (void)state;
    int before = open_descriptors(), n = 1;
    weft_host *h = NULL;
    for (; create_one(n, &h) != WEFT_OK; n++) {
        assert_null(h);
        assert_non_null(strstr(weft_last_error(), "rank 9 died"));
        assert_int_equal(open_descriptors(), before);
    }
    assert_true(n > 2);
    weft_host_destroy(h);
    assert_int_equal(open_descriptors(), before);
}

static void test_failing_allocations_leave_nothing(void **state)
{
    (void)state;
    int before = open_descriptors(), n = 1;
    weft_host *h = NULL;
    for (;; n++) {
        weft_alloc_fail_at(n, false);
        weft_status status = create_one(0, &h);
        weft_alloc_fail_at(0, false);
        if (status == WEFT_OK)
            break;
        assert_int_equal(status, WEFT_ERR_MEMORY);
        assert_null(h);
        assert_int_equal(open_descriptors(), before);
    }
    assert_true(n > 5);
    weft_host_destroy(h);
    weft_host_destroy(NULL);
    assert_int_equal(open_descriptors(), before);
}

/* One rank lacks memory at any point: all ranks fail, and the others name it. */
static void body_one_without_memory(group_rank *r)
{
    weft_status status = WEFT_ERR_MEMORY;
    for (int n = 1; status != WEFT_OK; n++) {
        weft_host_config config = group_host_config(r);
        weft_host *h = NULL;
        weft_alloc_fail_at(r->rank == 1 ? n : 0, false);
        status = weft_host_create(&config, &h);
        weft_alloc_fail_at(0, false);
        RANK_CHECK(r, status == WEFT_OK || (status == WEFT_ERR_MEMORY && !h));
        RANK_CHECK(r, status == WEFT_OK || r->rank == 1 || strstr(weft_last_error(), "rank 1"));
        RANK_CHECK(r, status != WEFT_OK || n > 5);
        group_barrier(r);
        weft_host_destroy(h);
    }
}

static void test_lack_of_memory_is_an_error_on_all(void **state)
{
    (void)state;
    group_run_alike(3, false, 4096, body_one_without_memory);
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    weft_host *h = NULL;
    weft_host_config config = {.ranks = 0, .allgather = one_rank_allgather};
    assert_int_equal(weft_host_create(&config, &h), WEFT_ERR_INVALID);
    config = (weft_host_config){.ranks = 1, .rank = 1, .allgather = one_rank_allgather};
    assert_int_equal(weft_host_create(&config, &h), WEFT_ERR_INVALID);
    config = (weft_host_config){.ranks = 1};
    assert_int_equal(weft_host_create(&config, &h), WEFT_ERR_INVALID);
    assert_null(h);
}

static int limited_resource;
static rlim_t limit_from;

/* One rank has too little of something: all ranks fail, and name it. */
static void body_limited(group_rank *r)
{
    struct rlimit limit = {limit_from, limit_from};
    if (r->rank == 1)
        RANK_CHECK(r, setrlimit((__rlimit_resource_t)limited_resource, &limit) == 0);
    weft_host_config config = group_host_config(r);
    weft_host *h = NULL;
    weft_status status = weft_host_create(&config, &h);
    RANK_CHECK(r, status == WEFT_ERR_SYSTEM || status == WEFT_ERR_MEMORY);
    RANK_CHECK(r, !h);
    if (r->rank != 1)
        RANK_CHECK(r, strstr(weft_last_error(), "rank 1"));
}

static void run_limited(int resource, rlim_t limit, size_t region_bytes)
{
    limited_resource = resource;
    limit_from = limit;
    group_run_alike(3, false, region_bytes, body_limited);
}

static void test_out_of_descriptors_is_an_error_on_all(void **state)
{
    (void)state;
    /* Each step of creation: sockets, then the received memory. */
    int used = 3;
    for (char path[32]; used < 1000; used++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", used);
        if (access(path, F_OK) != 0)
            break;
    }
    run_limited(RLIMIT_NOFILE, (rlim_t)used, 4096);
    run_limited(RLIMIT_NOFILE, (rlim_t)used + 1, 4096);
    run_limited(RLIMIT_NOFILE, (rlim_t)used + 2, 4096);
}

static void test_out_of_address_space_is_an_error_on_all(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    print_message("skipped: sanitizers need the address space\n");
    skip();
#else
    (void)state;
    run_limited(RLIMIT_AS, 1u << 30, (size_t)4 << 30);
#endif
}

static void body_other_size(group_rank *r)
{
    weft_host_config config = group_host_config(r);
    config.region_bytes = r->rank == 2 ? 8192 : 4096;
    weft_host *h = NULL;
    RANK_CHECK(r, weft_host_create(&config, &h) == WEFT_ERR_MISMATCH && !h &&
                      strstr(weft_last_error(), "rank 2"));
}

static void test_regions_of_different_size_are_refused(void **state)
{
    (void)state;
    group_run_alike(3, true, 0, body_other_size);
}

/* ---- segments ---- */

static void body_segments(group_rank *r)
{
    weft_host *h = group_host(r);
    if (!h)
        return;
    const int even[] = {0, 2, 4}, odd[] = {1, 3}, all[] = {0, 1, 2, 3, 4};
    weft_segment *half = NULL, *whole[3] = {NULL, NULL, NULL};
    int64_t deadline = weft_deadline_ns(20000);
    const int *mine = r->rank % 2 ? odd : even;
    int count = r->rank % 2 ? 2 : 3;
    RANK_CHECK(r, weft_segment_create(h, mine, count, 7, 5000, deadline, &half) == WEFT_OK);
    /* The leader is ahead of the others by some keys; these ask in another order. */
    for (int i = 0; i < 3; i++) {
        int which = r->rank == 3 ? 2 - i : i;
        RANK_CHECK(r, weft_segment_create(h, all, 5, 100 + (uint64_t)which, 4096, deadline, &whole[which]) ==
                          WEFT_OK);
    }
    for (int i = 0; i < 3; i++)
        *(uint64_t *)weft_segment_region(whole[i], r->rank) = (uint64_t)(r->rank * 10 + i);
    *(uint64_t *)weft_segment_region(half, r->rank / 2) = (uint64_t)r->rank + 1000;
    group_barrier(r);
    for (int i = 0; i < 3; i++)
        for (int p = 0; p < 5; p++)
            RANK_CHECK(r, *(uint64_t *)weft_segment_region(whole[i], p) == (uint64_t)(p * 10 + i));
    for (int p = 0; p < count; p++)
        RANK_CHECK(r, *(uint64_t *)weft_segment_region(half, p) == (uint64_t)mine[p] + 1000);
    group_barrier(r);
    weft_segment_destroy(half);
    for (int i = 0; i < 3; i++)
        weft_segment_destroy(whole[i]);
    weft_segment_destroy(NULL);
    weft_host_destroy(h);
}

static void test_segments(void **state)
{
    (void)state;
    group_run_alike(5, true, 4096, body_segments);
    group_run_alike(5, false, 4096, body_segments);
}

static void body_many_segments(group_rank *r)
{
    enum { SEGMENTS = 40 }; /* more than a queue holds */
    weft_host *h = group_host(r);
    const int both[] = {0, 1};
    weft_segment *s[SEGMENTS] = {NULL};
    if (!h)
        return;
    for (int i = 0; i < SEGMENTS; i++)
        RANK_CHECK(r, weft_segment_create(h, both, 2, (uint64_t)i, 4096, weft_deadline_ns(20000), &s[i]) ==
                          WEFT_OK);
    for (int i = 0; i < SEGMENTS; i++)
        weft_segment_destroy(s[i]);
    group_barrier(r);
    weft_host_destroy(h);
}

static void test_more_segments_than_the_queue_holds(void **state)
{
    (void)state;
    group_run_alike(2, false, 4096, body_many_segments);
}

static void body_missing_leader(group_rank *r)
{
    weft_host *h = group_host(r);
    const int both[] = {0, 1}, wrong[] = {1, 0}, other[] = {0};
    weft_segment *s = NULL;
    if (!h)
        return;
    if (r->rank == 1) {
        RANK_CHECK(r, weft_segment_create(h, wrong, 2, 1, 4096, WEFT_NEVER, &s) == WEFT_ERR_INVALID);
        RANK_CHECK(r, weft_segment_create(h, other, 1, 1, 4096, WEFT_NEVER, &s) == WEFT_ERR_INVALID);
        RANK_CHECK(r, weft_segment_create(h, both, 2, 1, 4096, weft_deadline_ns(30), &s) == WEFT_ERR_TIMEOUT);
        RANK_CHECK(r, strstr(weft_last_error(), "rank 0"));
    }
    group_barrier(r);
    if (r->rank == 0) {
        weft_host_destroy(h);
        return;
    }
    RANK_CHECK(r, weft_segment_create(h, both, 2, 2, 4096, weft_deadline_ns(20000), &s) == WEFT_ERR_PEER);
    RANK_CHECK(r, strstr(weft_last_error(), "rank 0") && !s);
    weft_host_destroy(h);
}

static void test_segment_without_its_leader(void **state)
{
    (void)state;
    group_run_alike(2, false, 4096, body_missing_leader);
}

/* ---- after a crash ---- */

static int count_matches(const char *path, const char *text)
{
    char line[512];
    int count = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        count += strstr(line, text) != NULL;
    if (f)
        fclose(f);
    return count;
}

static void test_nothing_is_left_after_kill(void **state)
{
    (void)state;
    enum { RANKS = 3 };
    local_group *g = group_open(RANKS);
    char name[64];
    snprintf(name, sizeof(name), "weft-%016llx", (unsigned long long)g->job);
    pid_t pid[RANKS];
    for (int i = 0; i < RANKS; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            group_rank r = {.group = g, .rank = i, .region_bytes = 4096};
            weft_host *h = group_host(&r);
            memset(weft_host_region(h, i), 1, 4096);
            atomic_fetch_add(&g->word[0], 1);
            for (;;)
                pause();
        }
    }
    while (atomic_load(&g->word[0]) < RANKS)
        sched_yield();
    assert_int_equal(count_matches("/proc/net/unix", name), 2 * RANKS);
    for (int i = 0; i < RANKS; i++)
        kill(pid[i], SIGKILL);
    for (int i = 0; i < RANKS; i++)
        waitpid(pid[i], NULL, 0);
    assert_int_equal(count_matches("/proc/net/unix", name), 0);
    assert_int_equal(atomic_load(&g->failures), 0);
    munmap(g, sizeof(*g));
}

static void body_not_in_dev_shm(group_rank *r)
{
    weft_host *h = group_host(r);
    group_barrier(r);
    if (h)
        RANK_CHECK(r, count_matches("/proc/self/maps", "/dev/shm/") == 0);
    group_barrier(r);
    weft_host_destroy(h);
}

static void test_nothing_lies_in_dev_shm(void **state)
{
    (void)state;
    group_run_alike(2, false, 4096, body_not_in_dev_shm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_share_a_host),
        cmocka_unit_test(test_processes_share_a_host),
        cmocka_unit_test(test_host_id_splits_and_joins),
        cmocka_unit_test(test_alone_is_alone),
        cmocka_unit_test(test_who_may_not_share_memory_is_alone),
        cmocka_unit_test(test_network_namespaces_are_hosts),
        cmocka_unit_test(test_cpus_are_the_union_of_affinities),
        cmocka_unit_test(test_failing_allgather_leaves_nothing),
        cmocka_unit_test(test_failing_allocations_leave_nothing),
        cmocka_unit_test(test_lack_of_memory_is_an_error_on_all),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_out_of_descriptors_is_an_error_on_all),
        cmocka_unit_test(test_out_of_address_space_is_an_error_on_all),
        cmocka_unit_test(test_regions_of_different_size_are_refused),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_more_segments_than_the_queue_holds),
        cmocka_unit_test(test_segment_without_its_leader),
        cmocka_unit_test(test_spreading_out_binds_nobody),
        cmocka_unit_test(test_nothing_is_left_after_kill),
        cmocka_unit_test(test_nothing_lies_in_dev_shm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

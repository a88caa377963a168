/* Ranks for tests of what one host shares: threads of the test or forked processes, with an allgather
 * through anonymous shared memory. Included by one test program each. */
#ifndef LOCAL_GROUP_H
#define LOCAL_GROUP_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "transport/host.h"

enum { GROUP_CELL_BYTES = 256, GROUP_MAX_RANKS = 128 };

/* In memory that all ranks share. */
typedef struct local_group {
    int ranks;
    uint64_t job;
    _Atomic uint32_t arrived[2], generation;
    _Atomic int failures;
    _Atomic uint64_t word[8]; /* the test's */
    unsigned char cells[2][GROUP_MAX_RANKS][GROUP_CELL_BYTES];
} local_group;

typedef struct group_rank {
    local_group *group;
    int rank;
    void (*body)(struct group_rank *);
    const char *host_id;
    bool alone;
    size_t region_bytes;
} group_rank;

/* In a rank: reports and goes on, so that the others are not left waiting. */
#define RANK_CHECK(r, condition)                                                                             \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: rank %d: %s (%s)\n", __FILE__, __LINE__, (r)->rank, #condition,          \
                    weft_last_error());                                                                      \
            atomic_fetch_add(&(r)->group->failures, 1);                                                      \
        }                                                                                                    \
    } while (0)

/* The last one to come lets all go; ends with a failure after 60 s, so that no test hangs. */
static inline weft_status group_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    group_rank *r = context;
    local_group *g = r->group;
    uint32_t generation = atomic_load(&g->generation), side = generation & 1;
    if (bytes > GROUP_CELL_BYTES)
        return weft_fail(WEFT_ERR_INVALID, "the test's allgather takes %d bytes, not %zu", GROUP_CELL_BYTES,
                         bytes);
    memcpy(g->cells[side][r->rank], send, bytes);
    if (atomic_fetch_add(&g->arrived[side], 1) + 1 == (uint32_t)g->ranks) {
        atomic_store(&g->arrived[side ^ 1], 0);
        atomic_store(&g->generation, generation + 1);
    }
    int64_t deadline = weft_deadline_ns(60000);
    while (atomic_load(&g->generation) == generation) {
        if (weft_now_ns() > deadline)
            return weft_fail(WEFT_ERR_TIMEOUT, "the test's allgather waited too long");
        sched_yield();
    }
    for (int i = 0; i < g->ranks; i++)
        memcpy((char *)recv + (size_t)i * bytes, g->cells[side][i], bytes);
    return WEFT_OK;
}

static inline void group_barrier(group_rank *r)
{
    char mine = 0, all[GROUP_MAX_RANKS];
    RANK_CHECK(r, group_allgather(r, &mine, all, 1) == WEFT_OK);
}

static inline weft_host_config group_host_config(group_rank *r)
{
    return (weft_host_config){.rank = r->rank,
                              .ranks = r->group->ranks,
                              .job = r->group->job,
                              .host_id = r->host_id,
                              .alone = r->alone,
                              .region_bytes = r->region_bytes ? r->region_bytes : 8192,
                              .deadline_ns = weft_deadline_ns(30000),
                              .allgather = group_allgather,
                              .context = r};
}

static inline weft_host *group_host(group_rank *r)
{
    weft_host_config config = group_host_config(r);
    weft_host *h = NULL;
    RANK_CHECK(r, weft_host_create(&config, &h) == WEFT_OK);
    return h;
}

static inline local_group *group_open(int ranks)
{
    local_group *g = mmap(NULL, sizeof(*g), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g == MAP_FAILED)
        fail_msg("no memory for the test's group");
    g->ranks = ranks;
    g->job = weft_random64();
    return g;
}

static inline void *group_thread(void *arg)
{
    group_rank *r = arg;
    r->body(r);
    return NULL;
}

/* Runs all of `all` as threads, or as processes that exit with 0. */
static inline void group_run(local_group *g, group_rank *all, bool threads)
{
    pthread_t thread[GROUP_MAX_RANKS];
    pid_t pid[GROUP_MAX_RANKS];
    fflush(NULL);
    for (int i = 0; i < g->ranks; i++) {
        all[i].group = g;
        all[i].rank = i;
        if (threads) {
            assert_int_equal(pthread_create(&thread[i], NULL, group_thread, &all[i]), 0);
            continue;
        }
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            all[i].body(&all[i]);
            _exit(0);
        }
    }
    for (int i = 0; i < g->ranks; i++) {
        int status = 0;
        if (threads)
            pthread_join(thread[i], NULL);
        else
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    int failures = atomic_load(&g->failures);
    munmap(g, sizeof(*g));
    assert_int_equal(failures, 0);
}

/* The usual case: all ranks alike. */
static inline void group_run_alike(int ranks, bool threads, size_t region_bytes, void (*body)(group_rank *))
{
    group_rank all[GROUP_MAX_RANKS];
    memset(all, 0, sizeof(all));
    for (int i = 0; i < ranks; i++) {
        all[i].body = body;
        all[i].region_bytes = region_bytes;
    }
    group_run(group_open(ranks), all, threads);
}

#endif

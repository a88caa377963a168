/* The host: grouping by proof, the base segment, further segments, doorbells, offers. */
#define _GNU_SOURCE
#include "local_group.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "transport/memory.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_share_a_host),
        cmocka_unit_test(test_processes_share_a_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

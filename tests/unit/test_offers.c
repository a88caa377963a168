/* Memory that ranks of one host offer each other: mapped by name, withdrawn, and what a rank that is gone answers. */
#define _GNU_SOURCE
#include "local_group.h"

#include <sched.h>

#include "transport/memory.h"

static void body_offers(group_rank *r)
{
    enum { MEMORIES = 30 }; /* more than a queue holds, so that some wait for room */
    weft_host *h = group_host(r);
    if (!h)
        return;
    void *mine[MEMORIES];
    weft_memory_place places[MEMORIES], theirs[MEMORIES][8];
    int n = r->group->ranks;
    for (int m = 0; m < MEMORIES; m++) {
        RANK_CHECK(r, weft_mem_alloc(10000, &mine[m]) == WEFT_OK);
        *(int *)mine[m] = r->rank * 1000 + m;
        RANK_CHECK(r, weft_memory_find((char *)mine[m] + 5000, 5000, &places[m]) && places[m].offset == 5000);
        for (int p = 0; p < n; p++)
            for (int twice = 0; twice < 2; twice++)
                RANK_CHECK(r, weft_host_offer(h, p, places[m].memory_id, places[m].fd,
                                              places[m].memory_bytes) == WEFT_OK);
    }
    for (int m = 0; m < MEMORIES; m++)
        RANK_CHECK(r, group_allgather(r, &places[m], theirs[m], sizeof(places[m])) == WEFT_OK);
    /* From here on every rank makes progress until all have all. */
    for (int m = 0; m < MEMORIES; m++) {
        int64_t deadline = weft_deadline_ns(20000);
        for (int p = 0; p < n; p++) {
            size_t bytes = 0;
            const void *at;
            while (!(at = weft_host_map(h, p, theirs[m][p].memory_id, &bytes)) && weft_now_ns() < deadline) {
                weft_host_prepare_sleep(h, false);
                if (weft_host_progress(h) == 0)
                    weft_host_sleep(h, NULL, 0, deadline);
                else
                    weft_host_cancel_sleep(h);
            }
            RANK_CHECK(r, at && bytes == theirs[m][p].memory_bytes && *(const int *)at == p * 1000 + m);
        }
    }
    /* Others may still wait for what this rank could not send yet. */
    atomic_fetch_add(&r->group->word[0], 1);
    while (atomic_load(&r->group->word[0]) < (uint64_t)n) {
        weft_host_progress(h);
        sched_yield();
    }
    size_t bytes;
    weft_host_unmap(h, 0, theirs[0][0].memory_id);
    RANK_CHECK(r, !weft_host_map(h, 0, theirs[0][0].memory_id, &bytes));
    RANK_CHECK(r, !weft_host_map(h, n, 1, &bytes) && !weft_host_map(h, 0, 12345, &bytes));
    RANK_CHECK(r, weft_host_offer(h, n, 1, 0, 1) == WEFT_ERR_INVALID);
    for (int m = 0; m < MEMORIES; m++) {
        weft_host_withdraw(h, places[m].memory_id);
        RANK_CHECK(r, weft_mem_free(mine[m]) == WEFT_OK);
    }
    group_barrier(r);
    weft_host_destroy(h);
}

static void test_offered_memory_is_mapped(void **state)
{
    (void)state;
    group_run_alike(3, false, 4096, body_offers);
    group_run_alike(3, true, 4096, body_offers);
}

static void body_offer_to_the_dead(group_rank *r)
{
    weft_host *h = group_host(r);
    if (r->rank == 1)
        weft_host_destroy(h);
    group_barrier(r);
    if (r->rank == 1 || !h)
        return;
    void *memory = NULL;
    weft_memory_place place;
    RANK_CHECK(r, weft_mem_alloc(1, &memory) == WEFT_OK && weft_memory_find(memory, 1, &place));
    RANK_CHECK(r, weft_host_offer(h, 1, place.memory_id, place.fd, place.memory_bytes) == WEFT_ERR_PEER);
    RANK_CHECK(r, strstr(weft_last_error(), "rank 1"));
    weft_mem_free(memory);
    weft_host_destroy(h);
}

static void test_offer_to_a_rank_that_is_gone(void **state)
{
    (void)state;
    group_run_alike(2, false, 4096, body_offer_to_the_dead);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offered_memory_is_mapped),
        cmocka_unit_test(test_offer_to_a_rank_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

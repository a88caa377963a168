/* The doorbells of a host: no wake-up is lost, and what ends a sleep. */
#include "local_group.h"

static bool ping_in_poll, ping_lightly;
static int ping_count;

/* Each waits, asleep if need be, for the other's store; one lost wake-up and it hangs (20 s, then a
 * failure). */
static void body_ping(group_rank *r)
{
    weft_host *h = group_host(r);
    if (!h)
        return;
    if (ping_lightly) {
        weft_membarrier_register();
        for (int turn = 0; turn < 2; turn++) { /* it takes the other's word */
            weft_host_lighten(h);
            group_barrier(r);
        }
        RANK_CHECK(r, ((const weft_host_front *)(const void *)h)->light);
    }
    _Atomic uint32_t *mine = weft_host_region(h, r->rank), *theirs = weft_host_region(h, 1 - r->rank);
    for (uint32_t i = 1; i <= (uint32_t)ping_count; i++) {
        if (r->rank == 0) {
            atomic_store_explicit(theirs, i, memory_order_release);
            weft_host_ring(h, 1);
        }
        /* Both are awake after every other turn; after the next the answer comes at any moment of falling asleep. */
        uint32_t turns = i % 2 ? i % 997 : 50000;
        while (turns > 0 && atomic_load_explicit(mine, memory_order_acquire) != i)
            turns--;
        int64_t deadline = weft_deadline_ns(20000);
        while (atomic_load_explicit(mine, memory_order_acquire) != i) {
            weft_host_prepare_sleep(h, ping_in_poll);
            if (atomic_load_explicit(mine, memory_order_acquire) == i)
                weft_host_cancel_sleep(h);
            else
                weft_host_sleep(h, NULL, 0, deadline);
            if (weft_now_ns() >= deadline)
                break;
        }
        if (atomic_load(mine) != i) {
            RANK_CHECK(r, !"a wake-up was lost");
            break;
        }
        if (r->rank == 1) {
            atomic_store_explicit(theirs, i, memory_order_release);
            weft_host_ring(h, 0);
        }
    }
    group_barrier(r);
    weft_host_destroy(h);
}

static void run_ping(bool in_poll, int count, bool threads)
{
    ping_in_poll = in_poll;
    ping_count = count;
    group_run_alike(2, threads, 4096, body_ping);
}

static void test_no_wake_up_is_lost(void **state)
{
    (void)state;
    run_ping(false, 200000, true);
    run_ping(true, 5000, true);
    run_ping(false, 10000, false);
    run_ping(true, 5000, false);
}

/* Who rings has no fence of its own then: who goes to sleep has one for all. */
static void test_no_wake_up_is_lost_without_a_fence(void **state)
{
    (void)state;
    weft_membarrier_register();
    if (!weft_membarrier_ready())
        skip();
    ping_lightly = true;
    run_ping(false, 10000, true);
    run_ping(false, 10000, false);
    run_ping(true, 5000, false);
    ping_lightly = false;
}

static void body_sleep_ends(group_rank *r)
{
    weft_host *h = group_host(r);
    int pipe_ends[2];
    if (!h || pipe(pipe_ends) != 0)
        return;
    for (int in_poll = 0; in_poll < 2; in_poll++) {
        int64_t start = weft_now_ns();
        weft_host_prepare_sleep(h, in_poll);
        weft_host_sleep(h, NULL, 0, start + 2 * WEFT_NS_PER_MS); /* the deadline ends it */
        weft_host_prepare_sleep(h, in_poll);
        weft_host_sleep(h, NULL, 0, 0); /* one that is over, too */
        weft_host_prepare_sleep(h, in_poll);
        weft_host_ring_self(h);
        weft_host_sleep(h, NULL, 0, WEFT_NEVER); /* it was rung before */
    }
    RANK_CHECK(r, write(pipe_ends[1], "x", 1) == 1);
    weft_host_prepare_sleep(h, true);
    weft_host_sleep(h, pipe_ends, 1, WEFT_NEVER); /* a readable descriptor */
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    weft_host_destroy(h);
}

static void test_what_ends_a_sleep(void **state)
{
    (void)state;
    group_run_alike(1, true, 4096, body_sleep_ends);
}

static void *ring_self_of(void *host)
{
    weft_host_ring_self(host);
    return NULL;
}

/* A thread that waits for two groups sleeps on both hosts. */
static void body_two_hosts(group_rank *r)
{
    weft_host *a = group_host(r), *b = group_host(r);
    for (int turn = 0; turn < 200; turn++) {
        pthread_t thread;
        weft_host_prepare_sleep(a, true);
        weft_host_prepare_sleep(b, true);
        pthread_create(&thread, NULL, ring_self_of, turn % 2 ? a : b);
        int fd = weft_host_wait_fd(b);
        weft_host_sleep(a, &fd, 1, WEFT_NEVER);
        weft_host_cancel_sleep(b);
        pthread_join(thread, NULL);
        /* What is left of the ring is taken by a sleep of b that ends at once. */
        weft_host_prepare_sleep(b, true);
        weft_host_sleep(b, NULL, 0, 0);
    }
    weft_host_destroy(a);
    weft_host_destroy(b);
}

static void test_sleeping_on_two_hosts(void **state)
{
    (void)state;
    group_run_alike(1, true, 4096, body_two_hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_wake_up_is_lost),
        cmocka_unit_test(test_no_wake_up_is_lost_without_a_fence),
        cmocka_unit_test(test_what_ends_a_sleep),
        cmocka_unit_test(test_sleeping_on_two_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

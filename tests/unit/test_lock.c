/* The lock that favours a steady thread: one thread at a time inside, whoever comes, however it stays. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/lock.h"
#include "base/membarrier.h"

enum { STAYS = 1500000, VISITS = 20000, STEADY = 2 * WEFT_LOCK_STEADY };

typedef struct shared {
    weft_lock lock;
    pthread_cond_t changed;
    long count;            /* by plain additions: a second thread inside loses some */
    volatile int holders;
    bool overlapped;
    struct {
        _Alignas(64) _Atomic int word;
    } lines[32];           /* that all write: stores which keep what is stored after them waiting */
} shared;

static void use(shared *s)
{
    s->overlapped |= s->holders++ != 0;
    s->count++;
    for (volatile int i = 0; i < 20; i++)
        ;
    s->holders--;
}

static void write_lines(shared *s)
{
    for (size_t i = 0; i < sizeof s->lines / sizeof s->lines[0]; i++)
        atomic_store_explicit(&s->lines[i].word, 1, memory_order_relaxed);
}

static void set_up(shared *s)
{
    *s = (shared){0};
    weft_lock_init(&s->lock);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    weft_membarrier_register();
}

static void tear_down(shared *s)
{
    pthread_cond_destroy(&s->changed);
    weft_lock_destroy(&s->lock);
}

static void become_steady(shared *s)
{
    for (int i = 0; i < STEADY; i++) {
        assert_true(weft_lock_enter(&s->lock));
        use(s);
        weft_lock_leave(&s->lock);
    }
}

static bool favoured(const shared *s)
{
    return atomic_load(&s->lock.favoured) == (uintptr_t)pthread_self();
}

/* Comes now and then: takes the favour away, also by trying and by waiting for a condition that nobody signals. */
static void *visit(void *context)
{
    shared *s = context;
    for (int i = 0; i < VISITS; i++) {
        if (i % 3 == 0) {
            if (weft_lock_try(&s->lock)) {
                use(s);
                weft_lock_release(&s->lock);
            }
        } else {
            weft_lock_take(&s->lock);
            use(s);
            if (i % 100 == 1) {
                struct timespec at;
                clock_gettime(CLOCK_MONOTONIC, &at);
                weft_lock_wait(&s->lock, &s->changed, &at);
                use(s);
            }
            weft_lock_release(&s->lock);
        }
        for (int k = 0; k < i % 50; k++)
            write_lines(s);
    }
    return NULL;
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    shared s;
    set_up(&s);
    pthread_t visitors[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&visitors[i], NULL, visit, &s), 0);
    long favours = 0;
    for (long i = 0; i < STAYS; i++) {
        write_lines(&s);
        if (!weft_lock_enter(&s.lock)) {
            weft_lock_take(&s.lock);
            use(&s);
            weft_lock_release(&s.lock);
            continue;
        }
        favours += atomic_load_explicit(&s.lock.inside, memory_order_relaxed);
        use(&s);
        if (i % 1000 == 0) { /* stays for longer */
            weft_lock_stay(&s.lock);
            use(&s);
            weft_lock_release(&s.lock);
        } else {
            weft_lock_leave(&s.lock);
        }
    }
    for (int i = 0; i < 2; i++)
        pthread_join(visitors[i], NULL);
    assert_false(s.overlapped);
    assert_true(s.count >= STAYS);
    if (weft_membarrier_ready())
        assert_true(favours > 0);
    tear_down(&s);
}

static void *take_once(void *context)
{
    shared *s = context;
    weft_lock_take(&s->lock);
    use(s);
    weft_lock_release(&s->lock);
    return NULL;
}

/* A visitor ends the favour; it comes again only after as many stays as at first. */
static void test_favour_comes_and_goes(void **state)
{
    (void)state;
    shared s;
    set_up(&s);
    assert_false(weft_lock_is_steady(&s.lock));
    become_steady(&s);
    assert_true(weft_lock_is_steady(&s.lock));
    assert_int_equal(favoured(&s), weft_membarrier_ready());
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, take_once, &s), 0);
    pthread_join(thread, NULL);
    assert_false(favoured(&s));
    assert_true(weft_lock_enter(&s.lock));
    weft_lock_leave(&s.lock);
    assert_false(favoured(&s));
    become_steady(&s);
    assert_int_equal(favoured(&s), weft_membarrier_ready());
    tear_down(&s);
}

static void *try_while_held(void *context)
{
    shared *s = context;
    return weft_lock_try(&s->lock) || weft_lock_enter(&s->lock) ? s : NULL;
}

/* Whoever tries while the favoured thread has stayed is turned away. */
static void test_a_stay_is_a_lock(void **state)
{
    (void)state;
    shared s;
    set_up(&s);
    become_steady(&s);
    assert_true(weft_lock_enter(&s.lock));
    weft_lock_stay(&s.lock);
    pthread_t thread;
    void *got;
    assert_int_equal(pthread_create(&thread, NULL, try_while_held, &s), 0);
    pthread_join(thread, &got);
    assert_null(got);
    weft_lock_release(&s.lock);
    weft_lock_take(&s.lock);
    weft_lock_release(&s.lock);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_favour_comes_and_goes),
        cmocka_unit_test(test_a_stay_is_a_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

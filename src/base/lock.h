/* A mutex that favours who holds it again and again: that thread goes in and out for short stays by plain stores (a locked
 * instruction waits for all stores before it, a cache line's way to another core each). Anybody else takes the favour away
 * first, by a fence on all threads, and then the mutex. */
#ifndef WEFT_LOCK_H
#define WEFT_LOCK_H

#include <pthread.h>

#include "base/base.h"

enum { WEFT_LOCK_STEADY = 128 }; /* times in a row by one thread, until it is favoured */

typedef struct weft_lock {
    pthread_mutex_t mutex, revoking;
    _Atomic uintptr_t favoured; /* thread; 0: none. Changed with the mutex held (to a thread) or `revoking` (from one) */
    _Atomic bool inside;        /* it is, without the mutex */
    uintptr_t last;             /* who held the mutex last, and how often in a row */
    unsigned streak;
} weft_lock;

void weft_lock_init(weft_lock *l);
void weft_lock_destroy(weft_lock *l);
/* As of a mutex; a thread that holds it must not call them, nor enter. */
void weft_lock_take(weft_lock *l);
bool weft_lock_try(weft_lock *l);
void weft_lock_release(weft_lock *l);
/* Releases it, waits until `condition` is signalled or the absolute time, takes it. */
void weft_lock_wait(weft_lock *l, pthread_cond_t *condition, const struct timespec *until);
/* The same thread has held it many times in a row: it would be favoured, were the process registered (base/membarrier.h). */
static inline bool weft_lock_is_steady(const weft_lock *l) { return l->streak >= WEFT_LOCK_STEADY; }

/* A stay that is short and does not block; false: somebody else is in. Ends by leave, or by stay: then the lock is held as if
 * taken, and nobody was in between. */
static inline bool weft_lock_enter(weft_lock *l)
{
    uintptr_t self = (uintptr_t)pthread_self();
    if (atomic_load_explicit(&l->favoured, memory_order_relaxed) == self) {
        atomic_store_explicit(&l->inside, true, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst); /* partner: the fence on all threads of who takes the favour away */
        if (__builtin_expect(atomic_load_explicit(&l->favoured, memory_order_relaxed) == self, 1))
            return true;
        atomic_store_explicit(&l->inside, false, memory_order_release);
    }
    return weft_lock_try(l);
}
static inline void weft_lock_leave(weft_lock *l)
{
    if (atomic_load_explicit(&l->inside, memory_order_relaxed))
        atomic_store_explicit(&l->inside, false, memory_order_release); /* partner: revoke */
    else
        weft_lock_release(l);
}
void weft_lock_stay(weft_lock *l);

#endif

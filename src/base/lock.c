/* The favour of a lock: given to a thread that holds it often, taken away by others. Who may come is the caller's matter. */
#include "base/lock.h"

#include <sched.h>

#include "base/membarrier.h"

enum { REVOKED = 1 }; /* no thread's */

void weft_lock_init(weft_lock *l)
{
    *l = (weft_lock){0};
    pthread_mutex_init(&l->mutex, NULL);
    pthread_mutex_init(&l->revoking, NULL);
}

void weft_lock_destroy(weft_lock *l)
{
    pthread_mutex_destroy(&l->revoking);
    pthread_mutex_destroy(&l->mutex);
}

static bool favours_another(const weft_lock *l)
{
    uintptr_t favoured = atomic_load_explicit(&l->favoured, memory_order_acquire);
    return favoured != 0 && favoured != (uintptr_t)pthread_self();
}

/* Without the mutex, because who is inside may take it before it leaves. */
static void revoke(weft_lock *l)
{
    pthread_mutex_lock(&l->revoking);
    if (favours_another(l)) {
        atomic_store_explicit(&l->favoured, REVOKED, memory_order_relaxed);
        weft_membarrier_threads(); /* from here on it either is seen inside or sees that it is not favoured */
        while (atomic_load_explicit(&l->inside, memory_order_acquire)) /* partner: weft_lock_leave */
            sched_yield();
        atomic_store_explicit(&l->favoured, 0, memory_order_release);
    }
    pthread_mutex_unlock(&l->revoking);
}

/* The mutex is held by a thread that may keep it. */
static void note_holder(weft_lock *l)
{
    uintptr_t self = (uintptr_t)pthread_self();
    if (l->last != self) {
        l->last = self;
        l->streak = 0;
    } else if (l->streak < WEFT_LOCK_STEADY) {
        l->streak++;
    } else if (atomic_load_explicit(&l->favoured, memory_order_relaxed) == 0 && weft_membarrier_ready()) {
        atomic_store_explicit(&l->favoured, self, memory_order_release);
    }
}

/* By either way to take a mutex; false: it could not be taken. */
static bool take(weft_lock *l, int (*mutex_take)(pthread_mutex_t *))
{
    if (mutex_take(&l->mutex) != 0)
        return false;
    while (favours_another(l)) {
        pthread_mutex_unlock(&l->mutex);
        revoke(l);
        if (mutex_take(&l->mutex) != 0)
            return false;
    }
    note_holder(l);
    return true;
}

void weft_lock_take(weft_lock *l)
{
    take(l, pthread_mutex_lock);
}

bool weft_lock_try(weft_lock *l)
{
    return take(l, pthread_mutex_trylock);
}

void weft_lock_release(weft_lock *l)
{
    pthread_mutex_unlock(&l->mutex);
}

void weft_lock_wait(weft_lock *l, pthread_cond_t *condition, const struct timespec *until)
{
    pthread_cond_timedwait(condition, &l->mutex, until);
    if (favours_another(l)) {
        pthread_mutex_unlock(&l->mutex);
        weft_lock_take(l);
    }
}

void weft_lock_stay(weft_lock *l)
{
    if (!atomic_load_explicit(&l->inside, memory_order_relaxed))
        return;
    pthread_mutex_lock(&l->mutex); /* nobody keeps it: whoever has it sees the favour, and gives it back */
    atomic_store_explicit(&l->inside, false, memory_order_release);
}

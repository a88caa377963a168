/* Telling a forked child from its parent without a system call: getpid is one, and every call of the API asks. */
#include "base/base.h"

#include <pthread.h>

_Atomic uint32_t weft_forks;

static void in_child(void)
{
    atomic_fetch_add_explicit(&weft_forks, 1, memory_order_relaxed);
}

static void watch(void)
{
    /* can fail only for want of memory; then a child is not told apart, which is what it was without this check */
    (void)pthread_atfork(NULL, NULL, in_child);
}

void weft_fork_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}

/* membarrier, the system call: registering, and what stands in for it where it is refused later. When to use it: membarrier.h. */
#define _GNU_SOURCE
#include "base/membarrier.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DRAIN_NS = WEFT_NS_PER_MS };

static _Atomic uint64_t ready_in; /* weft_fork_count + 1 of the process that is registered */

static bool call(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

void weft_membarrier_register(void)
{
#ifndef WEFT_TSAN
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once);
    if (!weft_membarrier_ready() && call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) &&
        call(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
        atomic_store_explicit(&ready_in, (uint64_t)weft_fork_count() + 1, memory_order_release);
    pthread_mutex_unlock(&once);
#endif
}

void weft_membarrier_register_alone(void)
{
    struct stat tasks; /* a folder for each thread, and two names of its own */
    if (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3)
        weft_membarrier_register();
}

bool weft_membarrier_ready(void)
{
    return atomic_load_explicit(&ready_in, memory_order_acquire) == (uint64_t)weft_fork_count() + 1;
}

/* It can be refused only to who was confined after he registered; a store leaves its core within microseconds anyway. */
static void fence(int command)
{
    if (!call(command))
        nanosleep(&(struct timespec){.tv_nsec = DRAIN_NS}, NULL);
    atomic_thread_fence(memory_order_seq_cst);
}

void weft_membarrier_threads(void)
{
    fence(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

void weft_membarrier_processes(void)
{
    fence(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}

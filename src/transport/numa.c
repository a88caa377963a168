/* Where memory comes from: the policy of a mapping, by system calls of our own, so that libnuma need not be there. */
#define _GNU_SOURCE
#include "transport/numa.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"

/* As <linux/mempolicy.h> has them. */
enum { POLICY_DEFAULT = 0, POLICY_PREFERRED = 1, ASK_ALLOWED = 4, NODES_MAX = 1024, WORD_BITS = 8 * (int)sizeof(long) };

const weft_numa_system *weft_numa_injected;

static long get_mempolicy(int *mode, unsigned long *mask, unsigned long bits, void *address, unsigned long flags)
{
    return syscall(SYS_get_mempolicy, mode, mask, bits, address, flags);
}

static long getcpu_now(unsigned *cpu, unsigned *node)
{
    return syscall(SYS_getcpu, cpu, node, NULL);
}

static long mbind(void *address, unsigned long bytes, unsigned long mode, const unsigned long *mask, unsigned long bits,
                  unsigned flags)
{
    return syscall(SYS_mbind, address, bytes, mode, mask, bits, flags);
}

/* More than one node may give memory to this thread, and nobody has said which. */
static bool has_choice(const weft_numa_system *system)
{
    unsigned long allowed[NODES_MAX / WORD_BITS] = { 0 };
    int mode = POLICY_DEFAULT, nodes = 0;
    if (system->get_mempolicy(&mode, NULL, 0, NULL, 0) != 0 || mode != POLICY_DEFAULT ||
        system->get_mempolicy(NULL, allowed, NODES_MAX, NULL, ASK_ALLOWED) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        nodes += __builtin_popcountl(allowed[i]);
    return nodes > 1;
}

void weft_numa_prefer(void *address, size_t bytes)
{
    static const weft_numa_system real = { .get_mempolicy = get_mempolicy, .getcpu = getcpu_now, .mbind = mbind };
    const weft_numa_system *system = weft_numa_injected ? weft_numa_injected : &real;
    unsigned long mask[NODES_MAX / WORD_BITS] = { 0 };
    unsigned cpu, node;
    if (bytes == 0 || !has_choice(system) || system->getcpu(&cpu, &node) != 0 || node >= NODES_MAX - 1)
        return;
    mask[node / WORD_BITS] = 1ul << node % WORD_BITS;
    if (system->mbind(address, bytes, POLICY_PREFERRED, mask, NODES_MAX, 0) != 0)
        weft_log(WEFT_LOG_DEBUG, "memory is not put on NUMA node %u: %s", node, strerror(errno));
}

/* Allocation that tests can make fail. Memory that ranks share is not allocated here but in src/transport. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* Counting costs one relaxed addition: allocation is not on the path of a repeated collective. */
static atomic_long allocations;
static atomic_long fail_at;
static atomic_bool fail_all_after;

void weft_alloc_fail_at(long n, bool all_after)
{
    atomic_store_explicit(&fail_all_after, all_after, memory_order_relaxed);
    atomic_store_explicit(&allocations, 0, memory_order_relaxed);
    atomic_store_explicit(&fail_at, n, memory_order_relaxed);
}

long weft_alloc_count(void)
{
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

static bool must_fail(void)
{
    long n = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed) + 1;
    long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    if (at == 0 || n < at)
        return false;
    return n == at || atomic_load_explicit(&fail_all_after, memory_order_relaxed);
}

void *weft_alloc(size_t bytes)
{
    return must_fail() ? NULL : calloc(1, bytes ? bytes : 1);
}

void *weft_alloc_array(size_t count, size_t bytes)
{
    size_t product;
    if (__builtin_mul_overflow(count, bytes, &product))
        return NULL;
    return weft_alloc(product);
}

void *weft_alloc_aligned(size_t alignment, size_t bytes)
{
    void *memory = NULL;
    if (must_fail() || posix_memalign(&memory, weft_max_size(alignment, sizeof(void *)), bytes ? bytes : 1) != 0)
        return NULL;
    memset(memory, 0, bytes);
    return memory;
}

void *weft_realloc(void *memory, size_t bytes)
{
    return must_fail() ? NULL : realloc(memory, bytes ? bytes : 1);
}

char *weft_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = weft_alloc(bytes);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

void weft_free(void *memory)
{
    free(memory);
}

/* Time, random bits and a hash: small things that have no better place. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

int64_t weft_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t weft_deadline_ns(int64_t timeout_ms)
{
    int64_t span, deadline;
    if (timeout_ms < 0 || __builtin_mul_overflow(timeout_ms, (int64_t)WEFT_NS_PER_MS, &span) ||
        __builtin_add_overflow(weft_now_ns(), span, &deadline))
        return WEFT_NEVER;
    return deadline;
}

/* Finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t weft_random64(void)
{
    uint64_t value;
    ssize_t n;
    do
        n = getrandom(&value, sizeof value, 0);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof value)
        return value;
    /* A sandbox may refuse the call. The numbers name jobs, they keep no secret: time, process and address will do. */
    static atomic_uint_least64_t calls;
    uint64_t call = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return mix(mix((uint64_t)weft_now_ns() + call) ^ mix((uint64_t)getpid() ^ (uint64_t)(uintptr_t)&value));
}

uint64_t weft_hash(const void *data, size_t bytes, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = mix(seed + 0x9e3779b97f4a7c15u * (bytes + 1));
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        h = mix(h ^ word) + 0x9e3779b97f4a7c15u;
    }
    uint64_t rest = 0;
    if (bytes)
        memcpy(&rest, p, bytes);
    return mix(h ^ rest);
}

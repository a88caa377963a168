/* Chooses the set of kernels for this processor, and compares it with plain C, type by type, before the
 * first use. */
#include "collectives/reduce_internal.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum {
    CHECK_ELEMENTS = 1111, /* more than a block of the kernels and a tail */
    CHECK_SOURCES = 6,    /* more than one loop of the kernels takes */
    CHECK_BYTES = CHECK_ELEMENTS * 8,
};

typedef struct check {
    unsigned char sources[CHECK_SOURCES][CHECK_BYTES];
    unsigned char results[2][CHECK_BYTES];
    weft_type type;
} check;

static const weft_reduce_set *fastest_set(void)
{
#if defined(__x86_64__)
    /* Not every compiler's __builtin_cpu_supports knows f16c. */
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    bool avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &weft_reduce_set_avx512;
    if (avx2)
        return &weft_reduce_set_avx2;
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP) & HWCAP_SVE ? &weft_reduce_set_sve : &weft_reduce_set_neon;
#endif
    return &weft_reduce_set_plain;
}

const char *weft_reduce_isa(void) { return fastest_set()->isa; }

/* Random bits: as f16, bf16 and f8 they have every kind of value; f32 and f64 get theirs put in. */
static void fill(check *c)
{
    static const double special[] = {
        NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.0, 1.0 + 0x1p-23, 0x1p-24, 0x1p-149, -0x1p-1074,
        0x1p-126, 0x1.fffffep127, 0x1.fffffffffffffp1023, 65504.0, 1.5, -2.0,
    };
    uint64_t state = 0x9e3779b97f4a7c15;
    for (unsigned s = 0; s < CHECK_SOURCES; s++) {
        for (size_t i = 0; i < CHECK_BYTES; i += 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memcpy(c->sources[s] + i, &state, 8);
        }
        for (size_t i = s; i < CHECK_ELEMENTS && c->type == WEFT_F32; i += 3) {
            float value = (float)special[(i * (s + 1)) % ARRAY_LEN(special)];
            memcpy(c->sources[s] + i * 4, &value, 4);
        }
        for (size_t i = s; i < CHECK_ELEMENTS && c->type == WEFT_F64; i += 3)
            memcpy(c->sources[s] + i * 8, &special[(i * (s + 1)) % ARRAY_LEN(special)], 8);
    }
}

static bool is_nan(weft_type type, const void *element)
{
    uint64_t bits = 0;
    memcpy(&bits, element, weft_type_bytes(type));
    switch (type) {
    case WEFT_F16: return (bits & 0x7fff) > 0x7c00;
    case WEFT_BF16: return (bits & 0x7fff) > 0x7f80;
    case WEFT_F32: return (bits & 0x7fffffff) > 0x7f800000;
    case WEFT_F64: return (bits & INT64_MAX) > 0x7ff0000000000000;
    case WEFT_F8E4M3: return (bits & 0x7f) == 0x7f;
    case WEFT_F8E5M2: return (bits & 0x7f) > 0x7c;
    default: return false;
    }
}

static bool results_agree(const check *c)
{
    const size_t bytes = weft_type_bytes(c->type);
    for (size_t at = 0; at < CHECK_ELEMENTS * bytes; at += bytes) {
        const unsigned char *a = c->results[0] + at;
        const unsigned char *b = c->results[1] + at;
        if (memcmp(a, b, bytes) != 0 && !(is_nan(c->type, a) && is_nan(c->type, b)))
            return false;
    }
    return true;
}

static bool sets_agree(check *c, const weft_reduce_set *const sets[2], const char **op)
{
    const unsigned source_counts[] = { 2, 3, 4, CHECK_SOURCES };
    const void *sources[CHECK_SOURCES];
    const weft_type type = c->type;

    fill(c);
    for (unsigned s = 0; s < CHECK_SOURCES; s++)
        sources[s] = c->sources[s];
    for (unsigned k = 0; k < ARRAY_LEN(source_counts); k++) {
        for (int number = 0; number < WEFT_OP_COUNT; number++) {
            if (!sets[0]->kernels[type][number])
                continue;
            *op = weft_op_name(number);
            for (int side = 0; side < 2; side++)
                sets[side]->kernels[type][number](c->results[side], sources, source_counts[k], CHECK_ELEMENTS);
            if (!results_agree(c))
                return false;
        }
        *op = "avg";
        for (int side = 0; side < 2; side++)
            sets[side]->averages[type](c->results[side], sources, source_counts[k], CHECK_ELEMENTS, 3);
        if (!results_agree(c))
            return false;
    }
    *op = "premul_sum";
    for (int side = 0; side < 2; side++)
        sets[side]->premultiplies[type](c->results[side], sources[0], CHECK_ELEMENTS, sources[1]);
    return results_agree(c);
}

bool weft_reduce_sets_agree(const weft_reduce_set *a, const weft_reduce_set *b, weft_type type,
                            const char **op)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    static check c; /* too large for a small stack */
    pthread_mutex_lock(&one_at_a_time);
    c.type = type;
    bool agree = sets_agree(&c, (const weft_reduce_set *const[]){ a, b }, op);
    pthread_mutex_unlock(&one_at_a_time);
    return agree;
}

const weft_reduce_set *weft_reduce_set_trusted(const weft_reduce_set *set, weft_type type)
{
    const char *op = "";
    if (set == &weft_reduce_set_plain || weft_reduce_sets_agree(&weft_reduce_set_plain, set, type, &op))
        return set;
    weft_log(WEFT_LOG_WARN, "%s kernels of %s %s differ from plain C on this processor and are not used",
             set->isa, weft_type_name(type), op);
    return &weft_reduce_set_plain;
}

const weft_reduce_set *weft_reduce_set_best(weft_type type)
{
    /* Written once or by several threads with the same value; the sets are constants, so relaxed is
     * enough. */
    static _Atomic(const weft_reduce_set *) chosen[WEFT_TYPE_COUNT];
    const weft_reduce_set *set = atomic_load_explicit(&chosen[type], memory_order_relaxed);
    if (!set) {
        set = weft_reduce_set_trusted(fastest_set(), type);
        atomic_store_explicit(&chosen[type], set, memory_order_relaxed);
    }
    return set;
}

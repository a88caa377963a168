/* Reduction kernels: plain C against an element-by-element reference, every set of this processor against
 * plain C, for all types, operations, numbers of sources and awkward counts and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/reduce_internal.h"

enum { MAX_SOURCES = 9, MAX_COUNT = 1600, ELEMENT_BYTES = 8, GUARD_BYTES = 128 };
enum { BUFFER_BYTES = MAX_COUNT * ELEMENT_BYTES + 2 * GUARD_BYTES };

static unsigned char original[MAX_SOURCES][BUFFER_BYTES]; /* the operands; never changed by kernels */
static unsigned char work[MAX_SOURCES + 1][BUFFER_BYTES];
static unsigned char expected[BUFFER_BYTES];

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void put_f32(unsigned char *to, float value) { memcpy(to, &value, sizeof(value)); }
static void put_f64(unsigned char *to, double value) { memcpy(to, &value, sizeof(value)); }

/* Every second element of wide floats is an ordinary number, the others are random bits (NaN and denormals
 * among them) or special. Small floats have everything in random bits. */
static void fill(weft_type type)
{
    static const double special[] = { 0.0, -0.0, 1.0, -1.0, 0x1p-149, -0x1p-1074, 0x1p127, 0x1p-126 };
    uint64_t state = 88172645463325252u + (unsigned)type;
    for (unsigned s = 0; s < MAX_SOURCES; s++) {
        for (size_t i = 0; i < BUFFER_BYTES; i += 8) {
            uint64_t bits = next_random(&state);
            memcpy(&original[s][i], &bits, 8);
        }
        for (size_t i = 0; i < MAX_COUNT; i++) {
            uint64_t random = next_random(&state);
            double value =
                random % 5 ? (double)(int64_t)random * 0x1p-60 : special[(random >> 8) % ARRAY_LEN(special)];
            if (random % 7 != 0 && type == WEFT_F32)
                put_f32(&original[s][GUARD_BYTES + i * 4], (float)value);
            if (random % 7 != 0 && type == WEFT_F64)
                put_f64(&original[s][GUARD_BYTES + i * 8], value);
        }
    }
}

static bool is_small_float(weft_type type)
{
    return type == WEFT_F16 || type == WEFT_BF16 || type == WEFT_F8E4M3 || type == WEFT_F8E5M2;
}

static bool is_float(weft_type type) { return is_small_float(type) || type == WEFT_F32 || type == WEFT_F64; }

static bool is_signed(weft_type type)
{
    return type == WEFT_I8 || type == WEFT_I16 || type == WEFT_I32 || type == WEFT_I64;
}

static uint64_t load_bits(weft_type type, const unsigned char *at)
{
    uint64_t bits = 0;
    memcpy(&bits, at, weft_type_bytes(type));
    return bits;
}

static double load_float(weft_type type, const unsigned char *at)
{
    uint64_t bits = load_bits(type, at);
    float narrow;
    double wide;
    switch (type) {
    case WEFT_F16: return weft_f16_to_f32((uint16_t)bits);
    case WEFT_BF16: return weft_bf16_to_f32((uint16_t)bits);
    case WEFT_F8E4M3: return weft_f8e4m3_to_f32((uint8_t)bits);
    case WEFT_F8E5M2: return weft_f8e5m2_to_f32((uint8_t)bits);
    case WEFT_F32: memcpy(&narrow, at, 4); return narrow;
    default: memcpy(&wide, at, 8); return wide;
    }
}

static void store_float(weft_type type, unsigned char *to, double value)
{
    uint16_t half;
    switch (type) {
    case WEFT_F16: half = weft_f32_to_f16((float)value); memcpy(to, &half, 2); break;
    case WEFT_BF16: half = weft_f32_to_bf16((float)value); memcpy(to, &half, 2); break;
    case WEFT_F8E4M3: *to = weft_f32_to_f8e4m3((float)value); break;
    case WEFT_F8E5M2: *to = weft_f32_to_f8e5m2((float)value); break;
    case WEFT_F32: put_f32(to, (float)value); break;
    default: put_f64(to, value);
    }
}

static double combine_float(weft_type type, weft_builtin_op op, double a, double b)
{
    bool wide = type == WEFT_F64;
    switch (op) {
    case WEFT_SUM: case WEFT_AVG: return wide ? a + b : (double)((float)a + (float)b);
    case WEFT_PROD: return wide ? a * b : (double)((float)a * (float)b);
    case WEFT_MIN: return a != a ? a : b != b ? b : a < b ? a : b;
    default: return a != a ? a : b != b ? b : a > b ? a : b;
    }
}

static uint64_t combine_integer(weft_type type, weft_builtin_op op, uint64_t a, uint64_t b)
{
    unsigned unused_bits = 64 - 8 * (unsigned)weft_type_bytes(type);
    bool less = is_signed(type) ? (int64_t)(a << unused_bits) < (int64_t)(b << unused_bits) : a < b;
    if (type == WEFT_BOOL) {
        a = a != 0;
        b = b != 0;
        switch (op) {
        case WEFT_PROD: case WEFT_MIN: case WEFT_BAND: return a & b;
        case WEFT_BXOR: return a ^ b;
        default: return a | b;
        }
    }
    switch (op) {
    case WEFT_SUM: case WEFT_AVG: return (a + b) << unused_bits >> unused_bits;
    case WEFT_PROD: return (a * b) << unused_bits >> unused_bits;
    case WEFT_MIN: return less ? a : b;
    case WEFT_MAX: return less ? b : a;
    case WEFT_BAND: return a & b;
    case WEFT_BOR: return a | b;
    default: return a ^ b;
    }
}

/* What the contract says, one element at a time. */
static void reduce_by_contract(weft_type type, weft_builtin_op op, unsigned char *dst,
                               const void *const *sources, unsigned n, size_t count)
{
    const size_t bytes = weft_type_bytes(type);
    for (size_t i = 0; i < count * bytes; i += bytes) {
        if (n == 1) {
            memcpy(dst + i, (const char *)sources[0] + i, bytes);
        } else if (is_float(type)) {
            double value = load_float(type, (const unsigned char *)sources[0] + i);
            for (unsigned k = 1; k < n; k++)
                value =
                    combine_float(type, op, value, load_float(type, (const unsigned char *)sources[k] + i));
            store_float(type, dst + i, value);
        } else {
            uint64_t value = load_bits(type, (const unsigned char *)sources[0] + i);
            for (unsigned k = 1; k < n; k++)
                value =
                    combine_integer(type, op, value, load_bits(type, (const unsigned char *)sources[k] + i));
            memcpy(dst + i, &value, bytes);
        }
    }
}

/* Bit by bit, but that all NaN are equal: which operand's payload survives is the processor's affair. */
static void assert_same(weft_type type, const unsigned char *got, const unsigned char *want, size_t count,
                        const char *what)
{
    const size_t bytes = weft_type_bytes(type);
    if (memcmp(got, want, count * bytes) == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *a = got + i * bytes, *b = want + i * bytes;
        if (memcmp(a, b, bytes) == 0)
            continue;
        double x = is_float(type) ? load_float(type, a) : 0, y = is_float(type) ? load_float(type, b) : 0;
        if (x == x || y == y)
            fail_msg("%s: element %zu of %zu is %llx, not %llx", what, i, count,
                     (unsigned long long)load_bits(type, a), (unsigned long long)load_bits(type, b));
    }
}

/* Address of a buffer's data: off by some bytes, differently for each buffer. */
static unsigned char *place(unsigned char *buffer, unsigned misalignment)
{
    return buffer + GUARD_BYTES + misalignment;
}

/* One kernel against what `expected` holds: dst on its own or (alias < n) one of the sources; bytes around
 * stay. */
static void check_kernel(const char *isa, weft_reduce_kernel kernel, weft_type type, weft_builtin_op op,
                         unsigned n, size_t count, unsigned shift, unsigned alias)
{
    const size_t bytes = weft_type_bytes(type);
    const void *sources[MAX_SOURCES];
    unsigned char *dst = place(work[MAX_SOURCES], shift);
    char what[96];
    snprintf(what, sizeof(what), "%s %s %s of %u, shift %u, dst %u", isa, weft_type_name(type),
             weft_op_name((weft_op)op), n, shift, alias);

    for (unsigned k = 0; k < n; k++) {
        unsigned char *source = place(work[k], shift * (k + 1) % 64);
        memcpy(source, place(original[k], 0), count * bytes);
        sources[k] = source;
    }
    if (alias < n)
        dst = place(work[alias], shift * (alias + 1) % 64);
    memset(dst - 8, 0xa5, 8);
    memset(dst + count * bytes, 0xa5, 8);
    kernel(dst, sources, n, count);
    assert_same(type, dst, expected, count, what);
    for (unsigned i = 0; i < 8; i++)
        if (dst[-1 - (int)i] != 0xa5 || dst[count * bytes + i] != 0xa5)
            fail_msg("%s: wrote outside of %zu elements", what, count);
}

static void expect(weft_type type, weft_builtin_op op, unsigned n, size_t count)
{
    const void *sources[MAX_SOURCES];
    for (unsigned k = 0; k < MAX_SOURCES; k++)
        sources[k] = place(original[k], 0);
    reduce_by_contract(type, op, expected, sources, n, count);
}

static void check_set(const weft_reduce_set *set)
{
    for (int t = 0; t < WEFT_TYPE_COUNT; t++) {
        weft_type type = (weft_type)t;
        fill(type);
        for (int o = 0; o < WEFT_OP_COUNT; o++) {
            weft_builtin_op op = (weft_builtin_op)o;
            weft_reduce_kernel kernel = set->kernels[type][op];
            assert_int_equal(kernel == NULL, is_float(type) && op >= WEFT_BAND);
            for (unsigned n = 1; kernel && n <= MAX_SOURCES; n++) {
                expect(type, op, n, MAX_COUNT);
                for (size_t count = 0; count <= 130; count++)
                    check_kernel(set->isa, kernel, type, op, n, count, (unsigned)(count * 7 % 61),
                                 (unsigned)count % (n + 2));
                check_kernel(set->isa, kernel, type, op, n, 1024, 0, MAX_SOURCES);
                check_kernel(set->isa, kernel, type, op, n, 1000, 3, 0);
                check_kernel(set->isa, kernel, type, op, n, 1025, 0, n - 1);
                check_kernel(set->isa, kernel, type, op, n, MAX_COUNT, 1, n / 2);
            }
        }
    }
}

static void plain_kernels_do_what_the_contract_says(void **state)
{
    (void)state;
    check_set(&weft_reduce_set_plain);
}

static bool runs_here(const char *isa)
{
    const char *best = weft_reduce_isa();
    return strcmp(best, isa) == 0 || (strcmp(best, "avx512") == 0 && strcmp(isa, "avx2") == 0);
}

static void avx2_kernels_do_the_same(void **state)
{
    (void)state;
    if (!runs_here("avx2")) {
        print_message("skipped: this processor has no AVX2\n");
        skip();
    }
#if defined(__x86_64__)
    check_set(&weft_reduce_set_avx2);
#endif
}

static void avx512_kernels_do_the_same(void **state)
{
    (void)state;
    if (!runs_here("avx512")) {
        print_message("skipped: this processor has no AVX-512\n");
        skip();
    }
#if defined(__x86_64__)
    check_set(&weft_reduce_set_avx512);
#endif
}

static void best_and_plain_exist_for_the_same_operations(void **state)
{
    (void)state;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++)
        for (int op = 0; op < WEFT_OP_COUNT; op++)
            assert_int_equal(weft_reduce_kernel_plain((weft_type)type, (weft_builtin_op)op) == NULL,
                             weft_reduce_kernel_best((weft_type)type, (weft_builtin_op)op) == NULL);
    assert_null(weft_reduce_kernel_plain((weft_type)WEFT_TYPE_COUNT, WEFT_SUM));
    assert_null(weft_reduce_kernel_plain((weft_type)-1, WEFT_SUM));
    assert_null(weft_reduce_kernel_best((weft_type)WEFT_TYPE_COUNT, WEFT_SUM));
    assert_null(weft_reduce_kernel_best(WEFT_F32, (weft_builtin_op)WEFT_OP_COUNT));
}

static void this_processors_kernels_pass_the_check_at_first_use(void **state)
{
    (void)state;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++)
        assert_string_equal(weft_reduce_set_best((weft_type)type)->isa, weft_reduce_isa());
}

static void averages_and_factors_agree_in_every_set(void **state)
{
    (void)state;
    const weft_reduce_set *const sets[] = {
        &weft_reduce_set_plain,
#if defined(__x86_64__)
        runs_here("avx2") ? &weft_reduce_set_avx2 : &weft_reduce_set_plain,
        runs_here("avx512") ? &weft_reduce_set_avx512 : &weft_reduce_set_plain,
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        for (int type = 0; type < WEFT_TYPE_COUNT; type++)
            assert_ptr_equal(weft_reduce_set_trusted(sets[i], (weft_type)type), sets[i]);
}

static void wrong_last_element(void *dst, const void *const *sources, unsigned n, size_t count)
{
    weft_reduce_set_plain.kernels[WEFT_BF16][WEFT_MAX](dst, sources, n, count);
    ((unsigned char *)dst)[2 * count - 1] ^= 1;
}

static void wrong_average(void *dst, const void *const *sources, unsigned n, size_t count, int divisor)
{
    weft_reduce_set_plain.averages[WEFT_I16](dst, sources, n, count, divisor + 1);
}

static void wrong_premultiply(void *dst, const void *src, size_t count, const void *factor)
{
    (void)factor;
    memcpy(dst, src, count * 8);
}

static void the_check_names_a_wrong_kernel_and_takes_plain_c(void **state)
{
    (void)state;
    const char *op = NULL;
    weft_reduce_set wrong = weft_reduce_set_plain;
    assert_true(weft_reduce_sets_agree(&weft_reduce_set_plain, &wrong, WEFT_BF16, &op));

    wrong.kernels[WEFT_BF16][WEFT_MAX] = wrong_last_element;
    assert_false(weft_reduce_sets_agree(&weft_reduce_set_plain, &wrong, WEFT_BF16, &op));
    assert_string_equal(op, "max");
    wrong.averages[WEFT_I16] = wrong_average;
    assert_false(weft_reduce_sets_agree(&weft_reduce_set_plain, &wrong, WEFT_I16, &op));
    assert_string_equal(op, "avg");
    wrong.premultiplies[WEFT_F64] = wrong_premultiply;
    assert_false(weft_reduce_sets_agree(&weft_reduce_set_plain, &wrong, WEFT_F64, &op));
    assert_string_equal(op, "premul_sum");
    assert_ptr_equal(weft_reduce_set_trusted(&wrong, WEFT_F64), &weft_reduce_set_plain);
    assert_ptr_equal(weft_reduce_set_trusted(&wrong, WEFT_F32), &wrong);
    assert_true(weft_reduce_sets_agree(&weft_reduce_set_plain, &wrong, WEFT_F32, &op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_kernels_do_what_the_contract_says),
        cmocka_unit_test(avx2_kernels_do_the_same),
        cmocka_unit_test(avx512_kernels_do_the_same),
        cmocka_unit_test(best_and_plain_exist_for_the_same_operations),
        cmocka_unit_test(this_processors_kernels_pass_the_check_at_first_use),
        cmocka_unit_test(averages_and_factors_agree_in_every_set),
        cmocka_unit_test(the_check_names_a_wrong_kernel_and_takes_plain_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

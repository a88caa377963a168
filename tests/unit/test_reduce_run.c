/* Bound operations: what can be bound, averages, user functions, premultiplied sums, and weft_copy. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/reduce_internal.h"

enum { MAX_SOURCES = 9 };

static weft_reduction bound(weft_type type, weft_op op, int ranks)
{
    weft_reduction r;
    assert_int_equal(weft_reduction_bind(&r, type, op, ranks), WEFT_OK);
    return r;
}

static void what_does_not_apply_is_refused_with_the_reason(void **state)
{
    (void)state;
    weft_reduction r;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++) {
        bool is_float = type == WEFT_F16 || type == WEFT_BF16 || type == WEFT_F32 || type == WEFT_F64 ||
                        type == WEFT_F8E4M3 || type == WEFT_F8E5M2;
        for (int op = 0; op < WEFT_OP_COUNT; op++) {
            weft_status want = is_float && op >= WEFT_BAND ? WEFT_ERR_INVALID : WEFT_OK;
            assert_int_equal(weft_reduction_bind(&r, (weft_type)type, op, 4), want);
        }
    }
    assert_int_equal(weft_reduction_bind(&r, WEFT_F32, WEFT_BXOR, 4), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "bxor"));
    assert_non_null(strstr(weft_last_error(), "f32"));
    assert_int_equal(weft_reduction_bind(&r, (weft_type)WEFT_TYPE_COUNT, WEFT_SUM, 4), WEFT_ERR_INVALID);
    assert_int_equal(weft_reduction_bind(&r, (weft_type)-1, WEFT_SUM, 4), WEFT_ERR_INVALID);
    assert_int_equal(weft_reduction_bind(&r, WEFT_F32, WEFT_SUM, 0), WEFT_ERR_INVALID);
    assert_int_equal(weft_reduction_bind(&r, WEFT_F32, -1, 4), WEFT_ERR_INVALID);
    assert_int_equal(weft_reduction_bind(&r, WEFT_F32, WEFT_OP_COUNT, 4), WEFT_ERR_INVALID);
    assert_int_equal(weft_reduction_bind(&r, WEFT_F32, 123456789, 4), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "123456789"));
}

static void no_element_touches_nothing(void **state)
{
    (void)state;
    const weft_reduction r = bound(WEFT_F32, WEFT_SUM, 2);
    const void *sources[2] = { NULL, NULL };
    weft_reduction_run(&r, NULL, sources, 2, 0, true);
    weft_premultiply(NULL, NULL, 0, WEFT_F32, NULL);
    weft_copy(NULL, NULL, 0);
}

static void one_source_is_copied_bit_by_bit(void **state)
{
    (void)state;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++) {
        const weft_reduction r = bound((weft_type)type, WEFT_MAX, 3);
        unsigned char from[64], to[64];
        for (unsigned i = 0; i < sizeof(from); i++)
            from[i] = (unsigned char)(251 - 4 * i);
        const void *source = from;
        weft_reduction_run(&r, to, &source, 1, sizeof(from) / weft_type_bytes((weft_type)type), true);
        assert_memory_equal(to, from, sizeof(from));
        weft_reduction_run(&r, from, &source, 1, sizeof(from) / weft_type_bytes((weft_type)type), true);
        assert_memory_equal(to, from, sizeof(from));
    }
}

static void nan_wins_in_min_and_max(void **state)
{
    (void)state;
    float a[4] = { NAN, 1.0f, -INFINITY, NAN }, b[4] = { 1.0f, NAN, NAN, NAN }, to[4];
    double c[2] = { NAN, 1.0 }, d[2] = { -1.0, NAN }, wide[2];
    const void *sources[2] = { a, b }, *wide_sources[2] = { c, d };
    for (int op = WEFT_MIN; op <= WEFT_MAX; op++) {
        weft_reduction r = bound(WEFT_F32, op, 2);
        weft_reduction_run(&r, to, sources, 2, 4, true);
        for (int i = 0; i < 4; i++)
            assert_true(isnan(to[i]));
        r = bound(WEFT_F64, op, 2);
        weft_reduction_run(&r, wide, wide_sources, 2, 2, true);
        assert_true(isnan(wide[0]) && isnan(wide[1]));
    }
}

static void averages_divide_only_when_final(void **state)
{
    (void)state;
    const weft_reduction r = bound(WEFT_F64, WEFT_AVG, 4);
    double a[700], b[700], to[700];
    const void *sources[2] = { a, b };
    for (int i = 0; i < 700; i++) {
        a[i] = i;
        b[i] = 3 * i + 1;
    }
    weft_reduction_run(&r, to, sources, 2, 700, false);
    for (int i = 0; i < 700; i++)
        assert_true(to[i] == 4.0 * i + 1);
    weft_reduction_run(&r, to, sources, 2, 700, true);
    for (int i = 0; i < 700; i++)
        assert_true(to[i] == i + 0.25);
    weft_reduction_run(&r, b, sources, 2, 700, true); /* dst is a source */
    assert_memory_equal(b, to, sizeof(to));
    const void *one = to;
    weft_reduction_run(&r, a, &one, 1, 700, true);
    for (int i = 0; i < 700; i++)
        assert_true(a[i] == (i + 0.25) / 4);
}

static void integer_averages_truncate_towards_zero(void **state)
{
    (void)state;
    int8_t i8[2][4] = { { -3, -1, 100, -128 }, { -4, 0, 27, 0 } }, to8[4];
    const void *s8[2] = { i8[0], i8[1] };
    weft_reduction r = bound(WEFT_I8, WEFT_AVG, 2);
    weft_reduction_run(&r, to8, s8, 2, 4, true);
    assert_int_equal(to8[0], -3);
    assert_int_equal(to8[1], 0);
    assert_int_equal(to8[2], 63);
    assert_int_equal(to8[3], -64);

    uint32_t u32[2][2] = { { UINT32_MAX, 7 }, { 0, 4 } }, to32[2];
    const void *s32[2] = { u32[0], u32[1] };
    r = bound(WEFT_U32, WEFT_AVG, 3);
    weft_reduction_run(&r, to32, s32, 2, 2, true);
    assert_int_equal(to32[0], UINT32_MAX / 3);
    assert_int_equal(to32[1], 3);

    int64_t i64[2] = { INT64_MIN, -7 }, to64[2];
    uint64_t u64[2] = { UINT64_MAX, 7 }, tou64[2];
    const void *s64 = i64, *su64 = u64;
    r = bound(WEFT_I64, WEFT_AVG, 2);
    weft_reduction_run(&r, to64, &s64, 1, 2, true);
    assert_true(to64[0] == INT64_MIN / 2 && to64[1] == -3);
    r = bound(WEFT_U64, WEFT_AVG, 2);
    weft_reduction_run(&r, tou64, &su64, 1, 2, true);
    assert_true(tou64[0] == UINT64_MAX / 2 && tou64[1] == 3);
}

static void every_small_integer_divides_exactly(void **state)
{
    (void)state;
    static int16_t all[65536], to[65536];
    const void *source = all;
    for (int i = 0; i < 65536; i++)
        all[i] = (int16_t)(i - 32768);
    const int divisors[] = { 1, 2, 3, 7, 10, 255, 256, 1000, 32767, 32768, 40000 };
    for (size_t d = 0; d < ARRAY_LEN(divisors); d++) {
        const weft_reduction r = bound(WEFT_I16, WEFT_AVG, divisors[d]);
        weft_reduction_run(&r, to, &source, 1, 65536, true);
        for (int i = 0; i < 65536; i++)
            if (to[i] != all[i] / divisors[d])
                fail_msg("%d / %d is %d", all[i], divisors[d], to[i]);
    }
    const int32_t values[] = { INT32_MAX, INT32_MIN, INT32_MAX - 1, 0, -1, 1, 2147483629, -2147483629 };
    int32_t quotients[ARRAY_LEN(values)];
    const void *source32 = values;
    for (int divisor = 1; divisor < 3000; divisor++) {
        const weft_reduction r = bound(WEFT_I32, WEFT_AVG, divisor);
        weft_reduction_run(&r, quotients, &source32, 1, ARRAY_LEN(values), true);
        for (size_t i = 0; i < ARRAY_LEN(values); i++)
            assert_int_equal(quotients[i], values[i] / divisor);
    }
}

/* The sum of the sources overflows f16, their average does not. */
static void small_floats_round_an_average_once(void **state)
{
    (void)state;
    const uint16_t large = weft_f32_to_f16(60000);
    uint16_t a[3] = { large, 0x0001, 0x3c01 }, b[3] = { large, 0x0002, 0x3c00 }, to[3];
    const void *sources[2] = { a, b };
    const weft_reduction r = bound(WEFT_F16, WEFT_AVG, 2);
    weft_reduction_run(&r, to, sources, 2, 3, true);
    assert_int_equal(to[0], a[0]);
    assert_int_equal(to[1], 0x0002); /* 1.5 quanta: to even */
    assert_int_equal(to[2], 0x3c00); /* between 0x3c00 and 0x3c01: to even */
}

static void bool_is_true_for_any_bit(void **state)
{
    (void)state;
    const uint8_t a[4] = { 0, 2, 0x80, 0 }, b[4] = { 0, 0, 4, 1 };
    const void *sources[2] = { a, b };
    const uint8_t both[4] = { 0, 0, 1, 0 }, either[4] = { 0, 1, 1, 1 }, one[4] = { 0, 1, 0, 1 };
    uint8_t to[4];
    for (int op = 0; op < WEFT_OP_COUNT; op++) {
        const weft_reduction r = bound(WEFT_BOOL, op, 2);
        const bool is_and = op == WEFT_PROD || op == WEFT_MIN || op == WEFT_BAND;
        const uint8_t *want = is_and ? both : op == WEFT_BXOR ? one : either;
        weft_reduction_run(&r, to, sources, 2, 4, true);
        assert_memory_equal(to, want, 4);
    }
}

/* Neither commutative nor associative: the result tells the order. *context counts the elements. */
static void append_digit(void *result, const void *left, const void *right, size_t count, weft_type type,
                         void *context)
{
    assert_int_equal(type, WEFT_I64);
    *(size_t *)context += count;
    for (size_t i = 0; i < count; i++)
        ((int64_t *)result)[i] = 10 * ((const int64_t *)left)[i] + ((const int64_t *)right)[i];
}

static void user_functions_get_the_sources_in_order(void **state)
{
    (void)state;
    enum { COUNT = 2500 };
    static int64_t buffers[MAX_SOURCES + 1][COUNT];
    size_t elements = 0;
    weft_op op;
    assert_int_equal(weft_op_create(append_digit, &elements, false, &op), WEFT_OK);
    const weft_reduction r = bound(WEFT_I64, op, 4);
    assert_false(r.commutes);
    for (unsigned n = 1; n <= MAX_SOURCES; n++) {
        for (unsigned dst = 0; dst <= n; dst++) { /* n: on its own */
            const void *sources[MAX_SOURCES];
            int64_t want = 0;
            for (unsigned k = 0; k < n; k++) {
                for (int i = 0; i < COUNT; i++)
                    buffers[k][i] = k + 1;
                sources[k] = buffers[k];
                want = 10 * want + k + 1;
            }
            elements = 0;
            weft_reduction_run(&r, buffers[dst], sources, n, COUNT, true);
            for (int i = 0; i < COUNT; i++)
                assert_true(buffers[dst][i] == want);
            assert_int_equal(elements, COUNT * (n - 1));
        }
    }
    assert_int_equal(weft_op_free(op), WEFT_OK);
}

static void premultiplied_sums_multiply_and_add(void **state)
{
    (void)state;
    const float half = 0.5f;
    weft_op op;
    float factor[2] = { 0 };
    assert_int_equal(weft_op_create_premul_sum(&half, WEFT_F32, &op), WEFT_OK);
    assert_true(weft_op_premul_factor(op, factor));
    assert_true(factor[0] == 0.5f);
    const weft_reduction r = bound(WEFT_F32, op, 2);
    assert_true(r.commutes && !r.function && r.kernel == weft_reduce_kernel_best(WEFT_F32, WEFT_SUM));

    weft_reduction other;
    assert_int_equal(weft_reduction_bind(&other, WEFT_F64, op, 2), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "f32"));
    assert_non_null(strstr(weft_last_error(), "f64"));
    assert_int_equal(weft_op_free(op), WEFT_OK);
    assert_int_equal(weft_reduction_bind(&other, WEFT_F32, op, 2), WEFT_ERR_INVALID);
    assert_false(weft_op_premul_factor(op, factor));
    assert_false(weft_op_premul_factor(WEFT_SUM, factor));
}

/* Multiplication by hand is prod of two sources, one of which holds only the factor. */
static void premultiplying_is_prod_with_the_factor(void **state)
{
    (void)state;
    enum { BYTES = 12007 };
    static unsigned char from[BYTES], factors[BYTES], want[BYTES], to[BYTES];
    for (size_t i = 0; i < BYTES; i++)
        from[i] = weft_hash(&i, sizeof(i), 1) & 0xbf; /* without that bit all floats are finite */
    for (int t = 0; t < WEFT_TYPE_COUNT; t++) {
        weft_type type = (weft_type)t;
        size_t bytes = weft_type_bytes(type);
        for (size_t count = 0; count * bytes + 1 < BYTES; count = count * 3 + 1) {
            /* A factor that is a finite number of every type, not a power of two. */
            unsigned char factor[8] = { 0x35, 0x35, 0x35, 0x35, 0x35, 0x35, 0x35, 0x35 };
            memset(factors, 0x35, sizeof(factors));
            const void *sources[2] = { from + 1, factors };
            weft_reduce_kernel_plain(type, WEFT_PROD)(want, sources, 2, count);
            weft_premultiply(to, from + 1, count, type, factor);
            assert_memory_equal(to, want, count * bytes);
            memcpy(to, from + 1, count * bytes);
            weft_premultiply(to, to, count, type, factor);
            assert_memory_equal(to, want, count * bytes);
        }
    }
}

static void copies_of_all_sizes_are_exact(void **state)
{
    (void)state;
    const size_t limit = 2 << 20; /* where non-temporal stores begin */
    const size_t sizes[] = { 1, 63, 64, 4096, limit - 1, limit, limit + 1, limit + 99999, 3 * limit };
    const size_t room = 3 * limit + 256;
    unsigned char *from = malloc(room), *to = malloc(room);
    for (size_t i = 0; i < room; i++)
        from[i] = (unsigned char)(i * 31 + (i >> 8) * 7);
    for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
        for (size_t shift = 0; shift < 130; shift += 43) {
            size_t from_shift = shift * 3 % 64;
            memset(to, 0xee, room);
            weft_copy(to + shift, from + from_shift, sizes[n]);
            assert_memory_equal(to + shift, from + from_shift, sizes[n]);
            for (size_t i = 0; i < shift; i++)
                assert_int_equal(to[i], 0xee);
            assert_int_equal(to[shift + sizes[n]], 0xee);
        }
    }
    weft_copy(from, from, 3 * limit);
    assert_int_equal(from[1000], (unsigned char)(1000 * 31 + 3 * 7));
    free(from);
    free(to);
}

static void *use_all_types(void *argument)
{
    (void)argument;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++) {
        unsigned char a[256] = { 0 }, b[256] = { 0 };
        const void *sources[2] = { a, b };
        weft_reduction r;
        if (weft_reduction_bind(&r, (weft_type)type, WEFT_SUM, 2) == WEFT_OK)
            weft_reduction_run(&r, a, sources, 2, 32, true);
    }
    return NULL;
}

static void threads_may_be_first_together(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_all_types, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
}

static void nothing_is_allocated(void **state)
{
    (void)state;
    const float factor = 2;
    weft_op op;
    weft_alloc_fail_at(1, true);
    assert_int_equal(weft_op_create_premul_sum(&factor, WEFT_F32, &op), WEFT_OK);
    use_all_types(NULL);
    assert_int_equal(weft_op_free(op), WEFT_OK);
    assert_int_equal(weft_alloc_count(), 0);
    weft_alloc_fail_at(0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_may_be_first_together), /* before any other test uses a type */
        cmocka_unit_test(what_does_not_apply_is_refused_with_the_reason),
        cmocka_unit_test(no_element_touches_nothing),
        cmocka_unit_test(one_source_is_copied_bit_by_bit),
        cmocka_unit_test(nan_wins_in_min_and_max),
        cmocka_unit_test(averages_divide_only_when_final),
        cmocka_unit_test(integer_averages_truncate_towards_zero),
        cmocka_unit_test(every_small_integer_divides_exactly),
        cmocka_unit_test(small_floats_round_an_average_once),
        cmocka_unit_test(bool_is_true_for_any_bit),
        cmocka_unit_test(user_functions_get_the_sources_in_order),
        cmocka_unit_test(premultiplied_sums_multiply_and_add),
        cmocka_unit_test(premultiplying_is_prod_with_the_factor),
        cmocka_unit_test(copies_of_all_sizes_are_exact),
        cmocka_unit_test(nothing_is_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

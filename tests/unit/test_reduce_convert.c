/* Conversions between f32 and the floats of 16 and 8 bits, against a search for the nearest value in
 * double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/reduce.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct format {
    const char *name;
    unsigned mantissa; /* bits */
    unsigned codes;    /* without the sign */
    unsigned infinity; /* code where finite values end: infinity or e4m3's NaN */
    int bias;
    bool has_infinity;
    float (*widen)(unsigned code);
    unsigned (*narrow)(float value);
} format;

static float widen_f16(unsigned code) { return weft_f16_to_f32((uint16_t)code); }
static float widen_bf16(unsigned code) { return weft_bf16_to_f32((uint16_t)code); }
static float widen_f8e4m3(unsigned code) { return weft_f8e4m3_to_f32((uint8_t)code); }
static float widen_f8e5m2(unsigned code) { return weft_f8e5m2_to_f32((uint8_t)code); }
static unsigned narrow_f16(float value) { return weft_f32_to_f16(value); }
static unsigned narrow_bf16(float value) { return weft_f32_to_bf16(value); }
static unsigned narrow_f8e4m3(float value) { return weft_f32_to_f8e4m3(value); }
static unsigned narrow_f8e5m2(float value) { return weft_f32_to_f8e5m2(value); }

static const format formats[] = {
    { "f16", 10, 0x8000, 0x7c00, 15, true, widen_f16, narrow_f16 },
    { "bf16", 7, 0x8000, 0x7f80, 127, true, widen_bf16, narrow_bf16 },
    { "f8e4m3", 3, 0x80, 0x7f, 7, false, widen_f8e4m3, narrow_f8e4m3 },
    { "f8e5m2", 2, 0x80, 0x7c, 15, true, widen_f8e5m2, narrow_f8e5m2 },
};

/* Value of a code by the definition of the format; beyond the finite ones: what the next code would be
 * worth. */
static double value_of(const format *f, unsigned code)
{
    int exponent = (int)(code >> f->mantissa);
    double fraction = (double)(code & ((1u << f->mantissa) - 1)) / (double)(1u << f->mantissa);
    return exponent == 0 ? ldexp(fraction, 1 - f->bias) : ldexp(1 + fraction, exponent - f->bias);
}

/* The code of the nearest value, the even one of two; finite, not negative. */
static unsigned nearest_code(const format *f, double value)
{
    unsigned low = 0, high = f->infinity; /* value_of(low) <= value; high is above or the end */
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (value_of(f, middle) <= value)
            low = middle;
        else
            high = middle;
    }
    double below = value - value_of(f, low), above = value_of(f, high) - value;
    if (below != above)
        return below < above ? low : high;
    return low % 2 == 0 ? low : high;
}

static void check(const format *f, float value)
{
    unsigned want = nearest_code(f, fabs((double)value)) | (signbit(value) ? f->codes : 0);
    unsigned got = f->narrow(value);
    if (got != want)
        fail_msg("%s of %a is %#x, not %#x", f->name, (double)value, got, want);
}

static void every_code_has_its_value_and_comes_back(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(formats); n++) {
        const format *f = &formats[n];
        for (unsigned code = 0; code < 2 * f->codes; code++) {
            unsigned magnitude = code % f->codes;
            float value = f->widen(code);
            assert_int_equal(signbit(value) != 0, code >= f->codes);
            if (magnitude < f->infinity) {
                assert_true((double)fabsf(value) == value_of(f, magnitude));
                assert_int_equal(f->narrow(value), code);
            } else if (magnitude == f->infinity && f->has_infinity) {
                assert_true(isinf(value));
                assert_int_equal(f->narrow(value), code);
            } else {
                assert_true(isnan(value));
                assert_true(isnan(f->widen(f->narrow(value))));
                assert_int_equal(signbit(f->widen(f->narrow(value))) != 0, code >= f->codes);
            }
        }
    }
}

static void ties_and_their_neighbours_round_to_nearest_even(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(formats); n++) {
        const format *f = &formats[n];
        for (unsigned code = 0; code < f->infinity; code++) {
            double tie = (value_of(f, code) + value_of(f, code + 1)) / 2;
            if (tie > (double)__FLT_MAX__)
                break;
            float value = (float)tie; /* exact: f32 has more bits than any of them */
            assert_true((double)value == tie);
            for (int sign = -1; sign <= 1; sign += 2) {
                check(f, (float)sign * value);
                check(f, (float)sign * nextafterf(value, 0.0f));
                check(f, (float)sign * nextafterf(value, INFINITY));
            }
        }
    }
}

static void every_kind_of_f32_rounds_to_the_nearest(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(formats); n++) {
        /* A prime step through all bit patterns: every exponent, both signs, mantissas of all kinds. */
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 20011) {
            uint32_t low = (uint32_t)bits;
            float value;
            memcpy(&value, &low, sizeof(value));
            if (!isnan(value) && !isinf(value))
                check(&formats[n], value);
        }
    }
}

static void values_beyond_the_range_become_infinity_or_nan(void **state)
{
    (void)state;
    assert_int_equal(weft_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(weft_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(weft_f32_to_bf16(__FLT_MAX__), 0x7f80);
    assert_int_equal(weft_f32_to_f8e5m2(61439.996f), 0x7b);
    assert_int_equal(weft_f32_to_f8e5m2(61440.0f), 0x7c);
    assert_int_equal(weft_f32_to_f8e5m2(-1e30f), 0xfc);
    assert_int_equal(weft_f32_to_f8e4m3(464.0f), 0x7e);
    assert_int_equal(weft_f32_to_f8e4m3(464.00003f), 0x7f);
    assert_int_equal(weft_f32_to_f8e4m3(-1e30f), 0xff);
    assert_int_equal(weft_f32_to_f8e4m3(INFINITY), 0x7f);
    assert_int_equal(weft_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(weft_f32_to_bf16(-INFINITY), 0xff80);
    assert_int_equal(weft_f32_to_f8e5m2(INFINITY), 0x7c);
}

static void nan_stays_nan_with_any_payload(void **state)
{
    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(formats); n++) {
        for (uint32_t payload = 1; payload < 0x800000; payload = payload * 2 + (payload > 1000)) {
            uint32_t bits = 0x7f800000 | payload;
            float value;
            memcpy(&value, &bits, sizeof(value));
            assert_true(isnan(formats[n].widen(formats[n].narrow(value))));
        }
    }
}

/* Frameworks set it for whole threads. */
static void flushing_denormals_changes_no_conversion(void **state)
{
    (void)state;
#if defined(__x86_64__)
    const unsigned flush_to_zero_and_denormals_are_zero = 0x8040;
    const unsigned before = _mm_getcsr();
    unsigned wrong = 0;
    _mm_setcsr(before | flush_to_zero_and_denormals_are_zero);
    for (size_t n = 0; n < ARRAY_LEN(formats); n++)
        for (unsigned code = 0; code < formats[n].infinity; code++)
            wrong += formats[n].narrow(formats[n].widen(code)) != code;
    _mm_setcsr(before);
    assert_int_equal(wrong, 0);
#else
    print_message("skipped: the mode that flushes small numbers to zero is the x86's\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_value_and_comes_back),
        cmocka_unit_test(ties_and_their_neighbours_round_to_nearest_even),
        cmocka_unit_test(every_kind_of_f32_rounds_to_the_nearest),
        cmocka_unit_test(values_beyond_the_range_become_infinity_or_nan),
        cmocka_unit_test(nan_stays_nan_with_any_payload),
        cmocka_unit_test(flushing_denormals_changes_no_conversion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* weft-perf's own parts: its reference results must be what exact arithmetic gives in whatever order operands
 * meet, its comparison must see every kind of damage, and its histogram must keep quantiles within 1 %. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/reduce.h"

#include "../../perf/perf_histogram.c"
#include "../../perf/perf_pattern.c"

enum { COUNT = 300, MOST_RANKS = 300 };

/* Combines all ranks' inputs pairwise by the library's plain kernels: left to right, or as a tree with each
 * node rounded. */
static void reduce_inputs(const perf_pattern *p, bool tree, unsigned char *result)
{
    size_t width = weft_type_bytes(p->type);
    unsigned char *parts = weft_alloc_array((size_t)p->ranks, COUNT * width);
    weft_reduction r;
    assert_non_null(parts);
    assert_int_equal(weft_reduction_bind(&r, p->type, p->op, p->ranks), WEFT_OK);
    for (int rank = 0; rank < p->ranks; rank++)
        perf_pattern_fill(p, rank, 7, COUNT, parts + (size_t)rank * COUNT * width);
    for (int step = 1; step < p->ranks; step *= 2) {
        for (int left = 0; tree && left + step < p->ranks; left += 2 * step) {
            unsigned char *a = parts + (size_t)left * COUNT * width;
            const void *sources[] = { a, a + (size_t)step * COUNT * width };
            weft_reduction_run(&r, a, sources, 2, COUNT, 2 * step >= p->ranks);
        }
    }
    for (int rank = 1; !tree && rank < p->ranks; rank++) {
        const void *sources[] = { parts, parts + (size_t)rank * COUNT * width };
        weft_reduction_run(&r, parts, sources, 2, COUNT, rank == p->ranks - 1);
    }
    memcpy(result, parts, COUNT * width);
    weft_free(parts);
}

static void check_reference(weft_type type, weft_op op, int ranks)
{
    static unsigned char result[COUNT * 8];
    perf_pattern p = { .type = type, .reduces = true, .op = op, .ranks = ranks, .seed = (uint64_t)ranks };
    for (int tree = 0; tree < 2; tree++) {
        uint64_t where = 0;
        reduce_inputs(&p, tree == 1, result);
        if (perf_pattern_compare(&p, PERF_REDUCED, 7, COUNT, result, &where) != 0)
            fail_msg("%s of %s, %d ranks, %s: element %llu differs", weft_op_name(op), weft_type_name(type),
                     ranks, tree == 1 ? "tree" : "chain", (unsigned long long)where);
    }
}

static void references_are_exact_in_any_order(void **state)
{
    static const int ranks[] = { 1, 2, 3, 4, 5, 8, 13, 16, 17, 31, 64, 129, MOST_RANKS };
    (void)state;
    for (int type = 0; type < WEFT_TYPE_COUNT; type++)
        for (int op = 0; op < WEFT_OP_COUNT; op++)
            for (size_t i = 0; i < ARRAY_LEN(ranks); i++)
                if (weft_reduce_kernel_plain((weft_type)type, (weft_builtin_op)op) != NULL)
                    check_reference((weft_type)type, op, ranks[i]);
}

static void inputs_differ_by_rank_index_and_seed(void **state)
{
    static uint64_t a[64], b[64];
    (void)state;
    for (int change = 0; change < 3; change++) {
        perf_pattern p = { .type = WEFT_F64, .reduces = true, .op = WEFT_SUM, .ranks = 4, .seed = 1 };
        perf_pattern_fill(&p, 0, 0, 64, a);
        p.seed += change == 2;
        perf_pattern_fill(&p, change == 0, change == 1, 64, b);
        int equal = 0;
        for (int i = 0; i < 64; i++)
            equal += a[i] == b[i];
        assert_in_range(equal, 0, 2);
    }
}

static void comparison_counts_and_places_every_wrong_element(void **state)
{
    enum { ELEMENTS = 3 * PERF_PATTERN_PERIOD + 5 };
    static uint16_t data[ELEMENTS];
    perf_pattern p = { .type = WEFT_F16, .reduces = true, .op = WEFT_SUM, .ranks = 3, .seed = 9 };
    uint64_t where = 0;
    (void)state;
    perf_pattern_fill(&p, 1, 1000, ELEMENTS, data);
    assert_int_equal(perf_pattern_compare(&p, 1, 1000, ELEMENTS, data, &where), 0);
    data[ELEMENTS - 1] ^= 1;
    data[PERF_PATTERN_PERIOD + 17] ^= 0x8000;
    assert_int_equal(perf_pattern_compare(&p, 1, 1000, ELEMENTS, data, &where), 2);
    assert_int_equal(where, PERF_PATTERN_PERIOD + 17);
    assert_int_not_equal(perf_pattern_compare(&p, 2, 1000, ELEMENTS, data, &where), 0);
}

static void elements_print_as_numbers(void **state)
{
    char text[64];
    int8_t minus = -3;
    uint16_t half = 0xC100, smallest = 1;
    (void)state;
    perf_pattern_text(WEFT_I8, &minus, text, sizeof text);
    assert_string_equal(text, "-3");
    perf_pattern_text(WEFT_F16, &half, text, sizeof text);
    assert_string_equal(text, "-2.5 (0xc100)");
    perf_pattern_text(WEFT_F16, &smallest, text, sizeof text);
    assert_string_equal(text, "5.96046e-08 (0x1)");
}

static void quantiles_are_within_one_percent(void **state)
{
    static perf_histogram h;
    static const double fractions[] = { 0.01, 0.5, 0.9, 0.99 };
    (void)state;
    perf_histogram_reset(&h);
    assert_true(perf_histogram_quantile(&h, 0.5) == 0);
    for (int i = 1; i <= 100000; i++)
        perf_histogram_add(&h, i * 0.37, 1);
    for (size_t i = 0; i < ARRAY_LEN(fractions); i++) {
        double right = fractions[i] * 100000 * 0.37, found = perf_histogram_quantile(&h, fractions[i]);
        assert_true(found > right * 0.99 && found < right * 1.01);
    }
    assert_true(h.min_ns == 0.37 && h.max_ns == 100000 * 0.37);
}

static void a_batch_counts_as_its_calls(void **state)
{
    static perf_histogram h;
    (void)state;
    perf_histogram_reset(&h);
    perf_histogram_add(&h, 1e15, 1);
    perf_histogram_add(&h, 100, 99);
    assert_true(perf_histogram_quantile(&h, 0.5) > 99 && perf_histogram_quantile(&h, 0.5) < 101);
    assert_true(perf_histogram_quantile(&h, 0.99) < 101);
    assert_true(perf_histogram_quantile(&h, 1.0) > 0.99e15);
    assert_int_equal(h.count, 100);
    perf_histogram_add(&h, 1e30, 1); /* more than any bucket holds: no harm */
    assert_true(h.max_ns == 1e30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_exact_in_any_order),
        cmocka_unit_test(inputs_differ_by_rank_index_and_seed),
        cmocka_unit_test(comparison_counts_and_places_every_wrong_element),
        cmocka_unit_test(elements_print_as_numbers),
        cmocka_unit_test(quantiles_are_within_one_percent),
        cmocka_unit_test(a_batch_counts_as_its_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Every operation on every type through weft_all_reduce on every algorithm, averages, premultiplied sums,
 * users' operations in rank order, results that are bit for bit the same on all ranks, and floats of 16
 * bits that are rounded once. */
#include <math.h>
#include <weft/schedule.h>

#include "../checks.h"

enum { MOST_RANKS = 5, MOST = 1000 };

/* ---- numbers of any type, exact ones only ------------------------------------------------------ */

static const struct {
    weft_type type;
    int exponent_bits, mantissa_bits;
} floats[] = {{WEFT_F16, 5, 10}, {WEFT_BF16, 8, 7}, {WEFT_F8E4M3, 4, 3}, {WEFT_F8E5M2, 5, 2}};

static int float_kind(weft_type type)
{
    for (int k = 0; k < 4; k++)
        if (floats[k].type == type)
            return k;
    return -1;
}

static unsigned encode_bits(double v, int kind)
{
    int e, m = floats[kind].mantissa_bits, bias = (1 << (floats[kind].exponent_bits - 1)) - 1;
    unsigned sign = v < 0 ? 1u << (floats[kind].exponent_bits + m) : 0;
    if (v == 0)
        return 0;
    double fraction = frexp(fabs(v), &e); /* 0.5 <= fraction < 1 */
    return sign | (unsigned)(e - 1 + bias) << m | (unsigned)((fraction * 2 - 1) * (1 << m));
}

static double decode_bits(unsigned bits, int kind)
{
    int m = floats[kind].mantissa_bits, bias = (1 << (floats[kind].exponent_bits - 1)) - 1;
    int e = (int)(bits >> m) & ((1 << floats[kind].exponent_bits) - 1);
    double mantissa = bits & ((1u << m) - 1);
    double v = e ? ldexp(1 + mantissa / (1 << m), e - bias) : ldexp(mantissa / (1 << m), 1 - bias);
    return bits >> (floats[kind].exponent_bits + m) & 1 ? -v : v;
}

#define INTEGER_TYPES(X)                                                                                     \
    X(WEFT_I8, int8_t)                                                                                       \
    X(WEFT_U8, uint8_t) X(WEFT_I16, int16_t) X(WEFT_U16, uint16_t) X(WEFT_I32, int32_t)                      \
        X(WEFT_U32, uint32_t) X(WEFT_I64, int64_t) X(WEFT_U64, uint64_t) X(WEFT_F32, float)                  \
            X(WEFT_F64, double) X(WEFT_BOOL, uint8_t)

static void put(void *data, size_t i, weft_type type, double v)
{
    int kind = float_kind(type);
    switch (type) {
#define PUT(name, c) case name: ((c *)data)[i] = (c)v; return;
        INTEGER_TYPES(PUT)
#undef PUT
    default:
        if (weft_type_bytes(type) == 2)
            ((uint16_t *)data)[i] = (uint16_t)encode_bits(v, kind);
        else
            ((uint8_t *)data)[i] = (uint8_t)encode_bits(v, kind);
    }
}

static double get(const void *data, size_t i, weft_type type)
{
    int kind = float_kind(type);
    switch (type) {
#define GET(name, c) case name: return (double)((const c *)data)[i];
        INTEGER_TYPES(GET)
#undef GET
    default:
        return decode_bits(
            weft_type_bytes(type) == 2 ? ((const uint16_t *)data)[i] : ((const uint8_t *)data)[i], kind);
    }
}

static bool is_float(weft_type type)
{
    return type == WEFT_F32 || type == WEFT_F64 || float_kind(type) >= 0;
}

static bool is_signed(weft_type type)
{
    return is_float(type) || type == WEFT_I8 || type == WEFT_I16 || type == WEFT_I32 || type == WEFT_I64;
}

/* Small, so that all results are exact in 8 bits; powers of two for products. */
static double operand(weft_type type, weft_op op, int rank, size_t i)
{
    unsigned mix = (unsigned)rank * 5 + (unsigned)i * 3 + (unsigned)(i / 7);
    if (type == WEFT_BOOL)
        return mix % 3 != 0;
    if (op == WEFT_PROD)
        return (is_signed(type) && mix % 5 == 0 ? -1.0 : 1.0) * (mix % 3 == 0 ? 2 : 1);
    return is_signed(type) ? (int)(mix % 4) - 2 : (int)(mix % 3);
}

static double combine(weft_type type, weft_op op, double a, double b)
{
    bool logic = type == WEFT_BOOL;
    switch (op) {
    case WEFT_SUM:
    case WEFT_AVG: return logic ? a != 0 || b != 0 : a + b;
    case WEFT_PROD: return a * b;
    case WEFT_MIN: return a < b ? a : b;
    case WEFT_MAX: return a > b ? a : b;
    case WEFT_BAND: return (double)((int64_t)a & (int64_t)b);
    case WEFT_BOR: return (double)((int64_t)a | (int64_t)b);
    default: return (double)((int64_t)a ^ (int64_t)b);
    }
}

static double expected(weft_type type, weft_op op, int ranks, size_t i)
{
    double v = operand(type, op, 0, i);
    for (int r = 1; r < ranks; r++)
        v = combine(type, op, v, operand(type, op, r, i));
    if (op != WEFT_AVG || type == WEFT_BOOL)
        return v;
    return is_float(type) ? v / ranks : trunc(v / ranks);
}

/* ---- every operation --------------------------------------------------------------------------- */

static void all_operations(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    static const size_t counts[] = {1, 37, MOST};
    double in[MOST], out[MOST];
    for (int type = 0; type < WEFT_TYPE_COUNT; type++)
        for (weft_op op = 0; op < WEFT_OP_COUNT; op++) {
            bool bitwise = op == WEFT_BAND || op == WEFT_BOR || op == WEFT_BXOR;
            bool exact = op != WEFT_AVG || !is_float((weft_type)type) || (ranks & (ranks - 1)) == 0;
            for (size_t c = 0; c < 3 && exact; c++) {
                for (size_t i = 0; i < counts[c]; i++)
                    put(in, i, (weft_type)type, operand((weft_type)type, op, rank, i));
                memset(out, 0x55, sizeof out);
                weft_status status = weft_all_reduce(comm, in, out, counts[c], (weft_type)type, op, NULL);
                if (bitwise && is_float((weft_type)type)) {
                    CHECK(status == WEFT_ERR_INVALID, "%s of %s: %s", weft_op_name(op),
                          weft_type_name((weft_type)type), weft_status_text(status));
                    break;
                }
                CHECK(status == WEFT_OK, "%s of %s: %s", weft_op_name(op), weft_type_name((weft_type)type),
                      weft_last_error());
                for (size_t i = 0; i < counts[c]; i++) {
                    double v = get(out, i, (weft_type)type), right = expected((weft_type)type, op, ranks, i);
                    if (!CHECK(v == right, "%s of %s over %d ranks, element %zu of %zu: %g, not %g",
                               weft_op_name(op), weft_type_name((weft_type)type), ranks, i, counts[c], v,
                               right))
                        break;
                }
            }
        }
}

static void premultiplied(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    double in[MOST], out[MOST], factor[1];
    for (int type = 0; type < WEFT_TYPE_COUNT; type++) {
        if (type == WEFT_BOOL)
            continue;
        weft_op op;
        put(factor, 0, (weft_type)type, rank % 2 + 1);
        CHECK_OK(weft_op_create_premul_sum(factor, (weft_type)type, &op));
        memset(factor, 0x77, sizeof factor); /* it was read */
        for (size_t i = 0; i < 37; i++)
            put(in, i, (weft_type)type, (double)(i % 2));
        CHECK_OK(weft_all_reduce(comm, in, out, 37, (weft_type)type, op, NULL));
        double sum = 0;
        for (int r = 0; r < ranks; r++)
            sum += r % 2 + 1;
        for (size_t i = 0; i < 37; i++)
            if (!CHECK(get(out, i, (weft_type)type) == sum * (double)(i % 2), "premultiplied %s: %g, not %g",
                       weft_type_name((weft_type)type), get(out, i, (weft_type)type), sum * (double)(i % 2)))
                break;
        CHECK_STATUS(weft_all_reduce(comm, in, out, 1, type == WEFT_I32 ? WEFT_U32 : WEFT_I32, op, NULL),
                     WEFT_ERR_INVALID);
        CHECK_OK(weft_op_free(op));
    }
}

/* ---- users' operations ------------------------------------------------------------------------- */

/* x -> a x + b modulo 2^32 as a pair in 64 bits; applying one after the other is associative and does not
 * commute. */
static void compose(void *result, const void *left, const void *right, size_t count, weft_type type,
                    void *context)
{
    (void)type;
    *(_Atomic int *)context += 1;
    const uint64_t *l = left, *r = right;
    uint64_t *out = result;
    for (size_t i = 0; i < count; i++) {
        uint32_t la = (uint32_t)l[i], lb = (uint32_t)(l[i] >> 32), ra = (uint32_t)r[i],
                 rb = (uint32_t)(r[i] >> 32);
        uint32_t a = la * ra, b = lb * ra + rb;
        out[i] = (uint64_t)b << 32 | a;
    }
}

static uint64_t pair_of(int rank, size_t i)
{
    return (uint64_t)((uint32_t)rank * 77u + (uint32_t)i * 5u + 1u) << 32 |
           ((uint32_t)rank * 6u + (uint32_t)i * 2u + 3u);
}

static uint64_t composed(int ranks, size_t i)
{
    _Atomic int calls = 0;
    uint64_t v = pair_of(0, i);
    for (int r = 1; r < ranks; r++) {
        uint64_t next = pair_of(r, i);
        compose(&v, &v, &next, 1, WEFT_U64, &calls);
    }
    return v;
}

static void larger_magnitude(void *result, const void *left, const void *right, size_t count, weft_type type,
                             void *context)
{
    (void)context;
    (void)type;
    for (size_t i = 0; i < count; i++) {
        int32_t l = ((const int32_t *)left)[i], r = ((const int32_t *)right)[i];
        ((int32_t *)result)[i] = abs(l) > abs(r) ? abs(l) : abs(r);
    }
}

static void users_operations(weft_comm *comm, int rank, int ranks, void *context)
{
    _Atomic bool *served = context; /* by any algorithm at all */
    enum { LARGE = 30011 };
    static const size_t counts[] = {1, 100, LARGE};
    _Atomic int calls = 0;
    weft_op ordered, any;
    CHECK_OK(weft_op_create(compose, &calls, false, &ordered));
    CHECK_OK(weft_op_create(larger_magnitude, NULL, true, &any));
    uint64_t *in = malloc(sizeof *in * LARGE * (size_t)ranks), *out = malloc(sizeof *out * LARGE);
    int32_t numbers[100], most[100];
    for (size_t c = 0; c < 3; c++) {
        size_t n = counts[c];
        for (size_t i = 0; i < n * (size_t)ranks; i++)
            in[i] = pair_of(rank, i);
        weft_status status = weft_all_reduce(comm, in, out, n, WEFT_U64, ordered, NULL);
        if (status != WEFT_ERR_UNSUPPORTED) {
            CHECK(status == WEFT_OK, "all_reduce: %s", weft_last_error());
            *served = true;
            for (size_t i = 0; i < n; i++)
                if (!CHECK(out[i] == composed(ranks, i),
                           "all_reduce of %zu: element %zu is not in rank order", n, i))
                    break;
        }
        status = weft_reduce(comm, in, out, n, WEFT_U64, ordered, ranks - 1, NULL);
        for (size_t i = 0; i < n && status == WEFT_OK && rank == ranks - 1; i++)
            if (!CHECK(out[i] == composed(ranks, i), "reduce of %zu: element %zu is not in rank order", n, i))
                break;
        CHECK(status == WEFT_OK || status == WEFT_ERR_UNSUPPORTED, "reduce: %s", weft_last_error());
        status = weft_reduce_scatter(comm, in, out, n, WEFT_U64, ordered, NULL);
        for (size_t i = 0; i < n && status == WEFT_OK; i++)
            if (!CHECK(out[i] == composed(ranks, (size_t)rank * n + i),
                       "reduce_scatter of %zu: element %zu is not in rank order", n, i))
                break;
        CHECK(status == WEFT_OK || status == WEFT_ERR_UNSUPPORTED, "reduce_scatter: %s", weft_last_error());
    }
    for (int i = 0; i < 100; i++)
        numbers[i] = (rank % 2 ? -1 : 1) * (rank * 100 - i * i);
    CHECK_OK(weft_all_reduce(comm, numbers, most, 100, WEFT_I32, any, NULL));
    for (int i = 0; i < 100; i++) {
        int right = 0;
        for (int r = 0; r < ranks; r++)
            right = abs(r * 100 - i * i) > right ? abs(r * 100 - i * i) : right;
        if (ranks > 1)
            CHECK(most[i] == right, "element %d is %d, not %d", i, most[i], right);
    }
    CHECK_OK(weft_op_free(ordered));
    CHECK_OK(weft_op_free(any));
    free(in);
    free(out);
}

static void misuse_of_operations(void **state)
{
    (void)state;
    weft_op op;
    int32_t factor = 1;
    assert_int_equal(weft_op_create(NULL, NULL, true, &op), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create(compose, NULL, true, NULL), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create_premul_sum(NULL, WEFT_I32, &op), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create_premul_sum(&factor, WEFT_TYPE_COUNT, &op), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_free(WEFT_SUM), WEFT_ERR_INVALID);
    assert_int_equal(weft_op_create(compose, NULL, true, &op), WEFT_OK);
    assert_int_equal(weft_op_free(op), WEFT_OK);
    assert_int_equal(weft_op_free(op), WEFT_ERR_INVALID);
}

static void freed_operation(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)rank;
    (void)ranks;
    (void)context;
    weft_op op;
    int32_t one = 1;
    CHECK_OK(weft_op_create(larger_magnitude, NULL, true, &op));
    CHECK_OK(weft_op_free(op));
    meet(ranks);
    CHECK_STATUS(weft_all_reduce(comm, &one, &one, 1, WEFT_I32, op, NULL), WEFT_ERR_INVALID);
}

/* ---- the same bits everywhere ------------------------------------------------------------------ */

enum { BITS = 70001 };
static uint32_t results[MOST_RANKS][BITS];

/* Sums that depend on their order; every rank must have the same one. */
static void same_bits(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    static const size_t counts[] = {1, 3, 1000, BITS};
    uint32_t *in = malloc(BITS * sizeof *in);
    for (int type = 0; type < 3; type++)
        for (size_t c = 0; c < 4; c++) {
            weft_type t = type == 0 ? WEFT_F32 : type == 1 ? WEFT_BF16 : WEFT_F16;
            uint32_t state = (uint32_t)rank * 99u + 5u;
            for (size_t i = 0; i < counts[c]; i++) {
                double v = ldexp(1 + (next_random(&state) % 1024) / 1024.0, (int)(next_random(&state) % 13)) *
                           (next_random(&state) % 2 ? -1 : 1);
                if (t == WEFT_F32)
                    ((float *)in)[i] = (float)(v * (1 + (next_random(&state) % 4096) / 4096e3));
                else
                    ((uint16_t *)in)[i] = (uint16_t)encode_bits(v, float_kind(t));
            }
            CHECK_OK(
                weft_all_reduce(comm, in, results[rank], counts[c], t, c % 2 ? WEFT_AVG : WEFT_SUM, NULL));
            meet(ranks);
            CHECK(memcmp(results[0], results[rank], counts[c] * weft_type_bytes(t)) == 0,
                  "%s, %zu elements: rank %d has other bits", weft_type_name(t), counts[c], rank);
            meet(ranks);
        }
    free(in);
}

/* Nearest, ties to even, of a value that a double holds exactly. */
static double rounded(double v, int kind)
{
    int e;
    if (v == 0)
        return 0;
    frexp(v, &e);
    double unit = ldexp(1, e - 1 - floats[kind].mantissa_bits);
    return rint(v / unit) * unit;
}

/* One step sums all ranks: the sum of exact values is rounded once, not once per rank. */
static void rounded_once(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { COUNT = 2000 };
    uint16_t in[COUNT], out[COUNT];
    for (int kind = 0; kind < 2; kind++) {
        double value[MOST_RANKS][COUNT];
        for (int r = 0; r < ranks; r++) {
            uint32_t state = (uint32_t)r * 31u + 7u;
            for (size_t i = 0; i < COUNT; i++)
                value[r][i] = ldexp(1 + (next_random(&state) % (1u << floats[kind].mantissa_bits)) /
                                            (double)(1 << floats[kind].mantissa_bits),
                                    (int)(next_random(&state) % 6));
        }
        for (size_t i = 0; i < COUNT; i++)
            in[i] = (uint16_t)encode_bits(value[rank][i], kind);
        CHECK_OK(weft_all_reduce(comm, in, out, COUNT, floats[kind].type, WEFT_SUM, NULL));
        for (size_t i = 0; i < COUNT; i++) {
            double sum = 0;
            for (int r = 0; r < ranks; r++)
                sum += value[r][i];
            if (!CHECK(decode_bits(out[i], kind) == rounded(sum, kind), "%s element %zu: %.10g, not %.10g",
                       weft_type_name(floats[kind].type), i, decode_bits(out[i], kind), rounded(sum, kind)))
                break;
        }
    }
}

/* ------------------------------------------------------------------------------------------------ */

static void on_algorithms(rank_function function, void *context, int ranks, bool both_transports)
{
    for (int a = 0; a < WEFT_ALGORITHM_COUNT; a++)
        for (int tcp = 0; tcp <= both_transports; tcp++) {
            static const int apart[MOST_RANKS] = {0, 1, 2, 3,
                                                  4}; /* over tcp alone each rank is a host of its own */
            weft_plan_request request = {.collective = WEFT_ALL_REDUCE, .algorithm = (weft_algorithm)a,
                                         .group = {.ranks = ranks, .host = tcp ? apart : NULL}};
            if (a != WEFT_AUTO && weft_plan_obstacle(&request))
                continue;
            weft_config config = WEFT_CONFIG_INIT;
            config.transports = tcp ? "tcp" : "shm";
            config.algorithm = a == WEFT_AUTO ? NULL : weft_algorithm_name((weft_algorithm)a);
            config.timeout_ms = CHECK_TIMEOUT_MS;
            check_failures = 0;
            weft_status status = run_ranks(ranks, &config, function, context);
            if (check_failures)
                fprintf(stderr, "by %s over %d ranks by %s\n", weft_algorithm_name((weft_algorithm)a), ranks,
                        config.transports);
            assert_int_equal(status, WEFT_OK);
            assert_int_equal(check_failures, 0);
        }
}

static void test_all_operations(void **state)
{
    (void)state;
    on_algorithms(all_operations, NULL, 4, false);
    on_algorithms(all_operations, NULL, 3, true);
    on_ranks(1, "auto", all_operations, NULL);
}
static void test_premultiplied(void **state)
{
    (void)state;
    on_algorithms(premultiplied, NULL, 4, false);
    on_algorithms(premultiplied, NULL, 3, true);
    on_ranks(1, "auto", premultiplied, NULL);
}
static void test_users(void **state)
{
    (void)state;
    _Atomic bool served = false;
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++)
        on_algorithms(users_operations, &served, ranks, false);
    served = false;
    on_ranks(4, "shm", users_operations, &served);
    assert_true(served);
    served = false;
    on_ranks(3, "tcp", users_operations, &served);
    assert_true(served);
    on_ranks(1, "auto", users_operations, &served);
    on_ranks(2, "shm", freed_operation, NULL);
}
static void test_same_bits(void **state)
{
    (void)state;
    on_algorithms(same_bits, NULL, 4, true);
    on_algorithms(same_bits, NULL, 5, false);
}
static void test_rounded_once(void **state)
{
    (void)state;
    on_algorithms(rounded_once, NULL, 2, true);
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = "shm";
    config.algorithm = "flat";
    on_ranks_with(4, &config, rounded_once, NULL);
    config.algorithm = "direct";
    on_ranks_with(4, &config, rounded_once, NULL);
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_operations), cmocka_unit_test(test_premultiplied),
        cmocka_unit_test(test_users),          cmocka_unit_test(misuse_of_operations),
        cmocka_unit_test(test_same_bits),      cmocka_unit_test(test_rounded_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

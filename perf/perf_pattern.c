/* Inputs and reference results. Integers use all bits (sums and products wrap; averages stay in range).
 * Floats are small integers, or for products signed powers of two, within bounds set by type and number of
 * ranks so that every partial result is representable. The encoders of the small floats are weft-perf's own:
 * the library's are under test. */
#include "perf_pattern.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef enum number_kind { NUMBER_SIGNED, NUMBER_UNSIGNED, NUMBER_BOOL, NUMBER_FLOAT } number_kind;
/* Of the floats: bits of exponent and mantissa, the largest integer up to which all are exact, and how far a
 * product of powers of two may go in either direction. */
typedef struct type_facts {
    number_kind kind;
    int exponent_bits, mantissa_bits;
    int64_t exact;
    int most_powers;
} type_facts;

static const type_facts facts_of[WEFT_TYPE_COUNT] = {
    [WEFT_I8] = { NUMBER_SIGNED, 0, 0, INT8_MAX, 0 },
    [WEFT_U8] = { NUMBER_UNSIGNED, 0, 0, UINT8_MAX, 0 },
    [WEFT_I16] = { NUMBER_SIGNED, 0, 0, INT16_MAX, 0 },
    [WEFT_U16] = { NUMBER_UNSIGNED, 0, 0, UINT16_MAX, 0 },
    [WEFT_I32] = { NUMBER_SIGNED, 0, 0, INT32_MAX, 0 },
    [WEFT_U32] = { NUMBER_UNSIGNED, 0, 0, UINT32_MAX, 0 },
    [WEFT_I64] = { NUMBER_SIGNED, 0, 0, INT64_MAX, 0 },
    [WEFT_U64] = { NUMBER_UNSIGNED, 0, 0, INT64_MAX, 0 },
    [WEFT_F16] = { NUMBER_FLOAT, 5, 10, 2048, 14 },
    [WEFT_BF16] = { NUMBER_FLOAT, 8, 7, 256, 100 },
    [WEFT_F32] = { NUMBER_FLOAT, 8, 23, 1 << 24, 100 },
    [WEFT_F64] = { NUMBER_FLOAT, 11, 52, (int64_t)1 << 53, 1000 },
    [WEFT_F8E4M3] = { NUMBER_FLOAT, 4, 3, 16, 6 },
    [WEFT_F8E5M2] = { NUMBER_FLOAT, 5, 2, 8, 14 },
    [WEFT_BOOL] = { NUMBER_BOOL, 0, 0, 1, 0 },
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x = (x ^ (x >> 29)) * 0x9e3779b97f4a7c15u;
    return x ^ (x >> 32);
}

static uint64_t bits_at(const perf_pattern *p, int rank, uint64_t index)
{
    return mix(p->seed * 0x2545f4914f6cdd1du + (uint64_t)(uint32_t)rank * 0x9e3779b97f4a7c15u +
               index * 0xbf58476d1ce4e5b9u);
}

/* A number from low to high, both included, by random bits. */
static int64_t between(uint64_t bits, int64_t low, int64_t high)
{
    uint64_t width = (uint64_t)high - (uint64_t)low + 1;
    return (int64_t)((uint64_t)low + (width == 0 ? bits : bits % width));
}

/* Of each `stride` neighbouring ranks, one has its turn at an index: at most `most` of all ranks. */
static bool has_turn(int unit, int units, uint64_t index, int64_t most)
{
    int64_t stride = (units + most - 1) / most;
    return stride <= 1 || ((uint64_t)unit + index) % (uint64_t)stride == 0;
}

/* Averages of floats: the sum is ranks x mean exactly, mean by index, so that dividing is exact. Ranks 2k and
 * 2k + 1 are off by +x and -x; where the range is too short for that, one rank holds the whole sum. */
static int64_t mean_at(const perf_pattern *p, uint64_t index, int64_t limit)
{
    int64_t most = limit >= 2 ? limit / 2 : limit;
    return between(bits_at(p, PERF_REDUCED, index), -most, most);
}

static int64_t averaged_float(const perf_pattern *p, int rank, uint64_t index, int64_t exact)
{
    int64_t limit = exact / p->ranks;
    int64_t mean = mean_at(p, index, limit);
    if (limit < 2)
        return (uint64_t)rank == index % (uint64_t)p->ranks ? mean * p->ranks : 0;
    if ((rank ^ 1) >= p->ranks)
        return mean;
    int64_t off = between(bits_at(p, rank >> 1, index), 0, limit - limit / 2);
    return (rank & 1) != 0 ? mean - off : mean + off;
}

static double float_input(const perf_pattern *p, const type_facts *facts, int rank, uint64_t index)
{
    uint64_t bits = bits_at(p, rank, index);
    int64_t exact = facts->exact < (1 << 30) ? facts->exact : (int64_t)1 << 40;
    if (p->op == WEFT_PROD) {
        int power = has_turn(rank, p->ranks, index, facts->most_powers) ? (int)between(bits >> 8, -1, 1) : 0;
        return ldexp((bits & 1) != 0 ? -1.0 : 1.0, power);
    }
    if (p->op == WEFT_AVG)
        return (double)averaged_float(p, rank, index, exact);
    if (p->op != WEFT_SUM)
        return (double)between(bits, -exact, exact);
    int64_t limit = exact / p->ranks;
    if (limit >= 1)
        return (double)between(bits, -limit, limit);
    return has_turn(rank, p->ranks, index, exact) ? (double)between(bits, -1, 1) : 0.0;
}

/* Bits of an integer or a bool, wider than its type. */
static uint64_t integer_input(const perf_pattern *p, const type_facts *facts, int rank, uint64_t index)
{
    uint64_t bits = bits_at(p, rank, index);
    if (facts->kind == NUMBER_BOOL) {
        /* Neither "all" nor "any" of many ranks may be a foregone conclusion. */
        if (p->op == WEFT_BXOR || !p->reduces)
            return bits & 1;
        bool all = p->op == WEFT_PROD || p->op == WEFT_MIN || p->op == WEFT_BAND;
        return (bits % (uint64_t)p->ranks == 0) != all;
    }
    if (!p->reduces)
        return bits;
    if (p->op == WEFT_PROD)
        return bits | 1;
    if (p->op != WEFT_AVG)
        return bits;
    int64_t limit = facts->exact / p->ranks;
    if (limit < 1)
        return has_turn(rank, p->ranks, index, facts->exact);
    return (uint64_t)between(bits, facts->kind == NUMBER_SIGNED ? -limit : 0, limit);
}

static double float_result(const perf_pattern *p, const type_facts *facts, uint64_t index)
{
    double result = float_input(p, facts, 0, index);
    for (int rank = 1; rank < p->ranks; rank++) {
        double value = float_input(p, facts, rank, index);
        switch (p->op) {
        case WEFT_PROD: result *= value; break;
        case WEFT_MIN: result = value < result ? value : result; break;
        case WEFT_MAX: result = value > result ? value : result; break;
        default: result += value; break;
        }
    }
    return p->op == WEFT_AVG ? result / p->ranks : result;
}

/* As a number of the type, in the bits of an int64_t. */
static uint64_t narrow(const type_facts *facts, size_t bytes, uint64_t bits)
{
    unsigned shift = 64 - 8 * (unsigned)bytes;
    return facts->kind == NUMBER_SIGNED ? (uint64_t)((int64_t)(bits << shift) >> shift)
                                        : bits << shift >> shift;
}

static bool is_less(const type_facts *facts, uint64_t a, uint64_t b)
{
    return facts->kind == NUMBER_SIGNED ? (int64_t)a < (int64_t)b : a < b;
}

static uint64_t integer_result(const perf_pattern *p, const type_facts *facts, uint64_t index)
{
    size_t bytes = weft_type_bytes(p->type);
    bool truth = facts->kind == NUMBER_BOOL;
    uint64_t result = narrow(facts, bytes, integer_input(p, facts, 0, index));
    for (int rank = 1; rank < p->ranks; rank++) {
        uint64_t value = narrow(facts, bytes, integer_input(p, facts, rank, index));
        switch (p->op) {
        case WEFT_PROD: result *= value; break;
        case WEFT_MIN: result = is_less(facts, value, result) ? value : result; break;
        case WEFT_MAX: result = is_less(facts, result, value) ? value : result; break;
        case WEFT_BAND: result &= value; break;
        case WEFT_BOR: result |= value; break;
        case WEFT_BXOR: result ^= value; break;
        default: result = truth ? result | value : result + value; break;
        }
    }
    if (p->op == WEFT_AVG && !truth)
        result = facts->kind == NUMBER_SIGNED ? (uint64_t)((int64_t)result / p->ranks)
                                              : result / (uint64_t)p->ranks;
    return result;
}

/* IEEE-like bits of a value that the format holds exactly. */
static uint64_t encode_float(const type_facts *facts, double value)
{
    int bias = (1 << (facts->exponent_bits - 1)) - 1;
    int width = facts->exponent_bits + facts->mantissa_bits;
    uint64_t sign = (uint64_t)(signbit(value) != 0) << width;
    if (value == 0)
        return sign;
    int exponent = 0;
    double fraction = frexp(fabs(value), &exponent); /* 0.5 <= fraction < 1 */
    exponent += bias - 1;
    if (exponent <= 0) {
        return sign | (uint64_t)ldexp(fraction, facts->mantissa_bits + exponent);
    }
    uint64_t mantissa = (uint64_t)ldexp(fraction * 2 - 1, facts->mantissa_bits);
    return sign | (uint64_t)exponent << facts->mantissa_bits | mantissa;
}

static void store_bits(void *dst, uint64_t bits, size_t bytes)
{
    uint8_t b8 = (uint8_t)bits;
    uint16_t b16 = (uint16_t)bits;
    uint32_t b32 = (uint32_t)bits;
    switch (bytes) {
    case 1: memcpy(dst, &b8, 1); break;
    case 2: memcpy(dst, &b16, 2); break;
    case 4: memcpy(dst, &b32, 4); break;
    default: memcpy(dst, &bits, 8); break;
    }
}

/* One period of elements from `first`, or `count` of them if that is less. Returns how many. */
static uint64_t make_period(const perf_pattern *p, int source, uint64_t first, uint64_t count,
                            unsigned char *dst)
{
    const type_facts *facts = &facts_of[p->type];
    size_t bytes = weft_type_bytes(p->type);
    uint64_t made = count < PERF_PATTERN_PERIOD ? count : PERF_PATTERN_PERIOD;
    for (uint64_t i = 0; i < made; i++) {
        uint64_t index = (first + i) % PERF_PATTERN_PERIOD;
        uint64_t bits;
        if (facts->kind == NUMBER_FLOAT && p->reduces)
            bits = encode_float(facts, source == PERF_REDUCED ? float_result(p, facts, index)
                                                              : float_input(p, facts, source, index));
        else
            bits = source == PERF_REDUCED ? integer_result(p, facts, index)
                                          : integer_input(p, facts, source, index);
        store_bits(dst + i * bytes, bits, bytes);
    }
    return made;
}

void perf_pattern_fill(const perf_pattern *p, int source, uint64_t first, uint64_t count, void *dst)
{
    unsigned char *out = dst;
    size_t bytes = weft_type_bytes(p->type);
    uint64_t done = make_period(p, source, first, count, out);
    for (uint64_t part; done < count; done += part) {
        part = count - done < PERF_PATTERN_PERIOD ? count - done : PERF_PATTERN_PERIOD;
        memcpy(out + done * bytes, out, part * bytes);
    }
}

uint64_t perf_pattern_compare(const perf_pattern *p, int source, uint64_t first, uint64_t count,
                              const void *data, uint64_t *where)
{
    static unsigned char expected[PERF_PATTERN_BYTES];
    const unsigned char *in = data;
    size_t bytes = weft_type_bytes(p->type);
    uint64_t wrong = 0;
    make_period(p, source, first, count, expected);
    for (uint64_t done = 0, part; done < count; done += part) {
        part = count - done < PERF_PATTERN_PERIOD ? count - done : PERF_PATTERN_PERIOD;
        if (memcmp(in + done * bytes, expected, part * bytes) == 0)
            continue;
        for (uint64_t i = 0; i < part; i++) {
            if (memcmp(in + (done + i) * bytes, expected + i * bytes, bytes) == 0)
                continue;
            if (wrong++ == 0)
                *where = done + i;
        }
    }
    return wrong;
}

static uint64_t load_bits(const void *src, size_t bytes)
{
    uint8_t b8 = 0;
    uint16_t b16 = 0;
    uint32_t b32 = 0;
    uint64_t b64 = 0;
    switch (bytes) {
    case 1: memcpy(&b8, src, 1); return b8;
    case 2: memcpy(&b16, src, 2); return b16;
    case 4: memcpy(&b32, src, 4); return b32;
    default: memcpy(&b64, src, 8); return b64;
    }
}

static double decode_float(const type_facts *facts, uint64_t bits)
{
    int bias = (1 << (facts->exponent_bits - 1)) - 1;
    int64_t exponent = (int64_t)(bits >> facts->mantissa_bits) & ((1 << facts->exponent_bits) - 1);
    uint64_t mantissa = bits & (((uint64_t)1 << facts->mantissa_bits) - 1);
    double sign = (bits >> (facts->exponent_bits + facts->mantissa_bits) & 1) != 0 ? -1.0 : 1.0;
    double unit = ldexp((double)mantissa, -facts->mantissa_bits);
    return exponent == 0 ? sign * ldexp(unit, 1 - bias) : sign * ldexp(1 + unit, (int)exponent - bias);
}

void perf_pattern_text(weft_type type, const void *element, char *text, size_t bytes)
{
    const type_facts *facts = &facts_of[type];
    size_t size = weft_type_bytes(type);
    uint64_t bits = load_bits(element, size);
    if (facts->kind == NUMBER_FLOAT)
        snprintf(text, bytes, "%g (0x%" PRIx64 ")", decode_float(facts, bits), bits);
    else if (facts->kind == NUMBER_SIGNED)
        snprintf(text, bytes, "%" PRId64, (int64_t)narrow(facts, size, bits));
    else
        snprintf(text, bytes, "%" PRIu64, bits);
}

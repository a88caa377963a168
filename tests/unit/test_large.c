/* More elements than 31 bits count, pointers of no alignment for all types and collectives, and counts that
 * ranks do not divide. What needs gigabytes is skipped by name where they are not there. */
#include <sys/mman.h>

#include "../checks.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- more than 2^31 elements ------------------------------------------------------------------- */

#define LARGE (((size_t)1 << 31) + 5)
enum { NEEDED_GIB = 7 };

static long available_gib(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[200];
    long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "MemAvailable:", 13) == 0)
            kib = strtol(line + 13, NULL, 10);
    if (file)
        fclose(file);
    return kib >> 20;
}

static bool skipped(void)
{
    long gib = available_gib();
    if (!SANITIZED && gib >= NEEDED_GIB)
        return false;
    if (SANITIZED)
        print_message("skipped: a sanitizer build\n");
    else
        print_message("skipped: %ld GiB of memory are free, it needs %d\n", gib, NEEDED_GIB);
    return true;
}

static const size_t marks[] = {
    0, 1, ((size_t)1 << 30) - 1, (size_t)1 << 30, ((size_t)1 << 31) - 1, (size_t)1 << 31, LARGE - 1};
enum { MARKS = sizeof marks / sizeof *marks };

/* The marks hold what is expected; `all`: everything else is zero. */
static void check_marks(const char *what, unsigned char *data, const unsigned char *expected, bool all)
{
    for (int m = 0; m < MARKS; m++) {
        CHECK(data[marks[m]] == expected[m], "%s: element %zu is %d, not %d", what, marks[m], data[marks[m]],
              expected[m]);
        data[marks[m]] = 0;
    }
    size_t i = all ? 0 : LARGE / 8 * 8;
    for (uint64_t word = 0; i + 8 <= LARGE && !word; i += 8)
        memcpy(&word, data + i, 8);
    CHECK(i + 8 > LARGE, "%s: something near element %zu", what, i);
}

static void beyond_31_bits(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    unsigned char expected[MARKS];
    unsigned char *data =
        mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!CHECK(data != MAP_FAILED, "no memory"))
        return;
    for (int m = 0; m < MARKS; m++) {
        data[marks[m]] = (unsigned char)(rank * 10 + m);
        expected[m] = (unsigned char)(ranks * (ranks - 1) / 2 * 10 + ranks * m);
    }
    CHECK_OK(weft_all_reduce(comm, data, data, LARGE, WEFT_I8, WEFT_SUM, NULL));
    check_marks("all_reduce", data, expected, true);
    for (int m = 0; m < MARKS; m++) {
        data[marks[m]] = rank == 1;
        expected[m] = 1;
    }
    CHECK_OK(weft_broadcast(comm, data, data, LARGE, WEFT_BOOL, 1, NULL));
    check_marks("broadcast", data, expected, false);
    for (int m = 0; m < MARKS; m++) {
        data[marks[m]] = (unsigned char)(rank == 0 ? m + 1 : 0);
        expected[m] = (unsigned char)(m + 1);
    }
    weft_recv_info info = {0, 0, LARGE};
    if (rank == 0)
        CHECK_OK(weft_send(comm, data, LARGE, WEFT_U8, 1, 0, NULL));
    else
        CHECK_OK(weft_recv(comm, data, LARGE, WEFT_U8, 0, 0, &info, NULL));
    CHECK(info.bytes == LARGE, "%zu bytes", info.bytes);
    check_marks("send and recv", data, expected, true);
    munmap(data, LARGE);
}

static void test_beyond_31_bits(void **state)
{
    (void)state;
    if (skipped())
        skip();
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = "shm";
    config.timeout_ms = 2 * CHECK_TIMEOUT_MS; /* gigabytes, perhaps on a machine that does much else */
    on_ranks_with(2, &config, beyond_31_bits, NULL);
}

/* ---- no alignment, no even division ------------------------------------------------------------ */

enum { MOST_RANKS = 4, MOST_BYTES = 8, SPARE = 16 };

typedef struct odd_case {
    size_t count;
} odd_case;

/* Bytes that differ by rank and place; as numbers they mean nothing, so that the operation is one that
 * copies: max. */
static void fill(unsigned char *data, size_t bytes, int rank)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)((unsigned)rank * 37u + (unsigned)i * 3u + (unsigned)(i >> 7)) & 0x3f;
}

static bool same_as(const unsigned char *data, size_t bytes, int rank, size_t from)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] !=
            ((unsigned char)((unsigned)rank * 37u + (unsigned)(from + i) * 3u + (unsigned)((from + i) >> 7)) &
             0x3f))
            return false;
    return true;
}

/* Numbers to add: this element type's one, at any address. */
static void put_ones(unsigned char *data, size_t count, weft_type type)
{
    static const float one_f32 = 1;
    static const double one_f64 = 1;
    uint64_t bits = 1;
    size_t bytes = weft_type_bytes(type);
    switch (type) {
    case WEFT_F16: bits = 0x3c00; break;
    case WEFT_BF16: bits = 0x3f80; break;
    case WEFT_F8E4M3: bits = 0x38; break;
    case WEFT_F8E5M2: bits = 0x3c; break;
    case WEFT_F32: memcpy(&bits, &one_f32, 4); break;
    case WEFT_F64: memcpy(&bits, &one_f64, 8); break;
    default: break;
    }
    for (size_t i = 0; i < count; i++)
        memcpy(data + i * bytes, &bits, bytes);
}

static double number(const unsigned char *data, size_t i, weft_type type)
{
    uint64_t bits = 0;
    size_t bytes = weft_type_bytes(type);
    float f;
    double d;
    memcpy(&bits, data + i * bytes, bytes);
    memcpy(&f, &bits, 4);
    memcpy(&d, &bits, 8);
    switch (type) { /* only 1 to 4 are asked for */
    case WEFT_F16:
        return bits == 0x3c00 ? 1 : bits == 0x4000 ? 2 : bits == 0x4200 ? 3 : bits == 0x4400 ? 4 : -1;
    case WEFT_BF16:
        return bits == 0x3f80 ? 1 : bits == 0x4000 ? 2 : bits == 0x4040 ? 3 : bits == 0x4080 ? 4 : -1;
    case WEFT_F8E4M3: return bits == 0x38 ? 1 : bits == 0x40 ? 2 : bits == 0x44 ? 3 : bits == 0x48 ? 4 : -1;
    case WEFT_F8E5M2: return bits == 0x3c ? 1 : bits == 0x40 ? 2 : bits == 0x42 ? 3 : bits == 0x44 ? 4 : -1;
    case WEFT_F32: return (double)f;
    case WEFT_F64: return d;
    default: return (double)bits;
    }
}

static void check_sum(const unsigned char *data, size_t count, weft_type type, int ranks, const char *what)
{
    double sum = type == WEFT_BOOL ? 1 : ranks;
    for (size_t i = 0; i < count; i++)
        if (!CHECK(number(data, i, type) == sum, "%s of %s: element %zu of %zu", what, weft_type_name(type),
                   i, count))
            return;
}

static void unaligned(weft_comm *comm, int rank, int ranks, void *context)
{
    size_t count = ((const odd_case *)context)->count, all = count * (size_t)ranks;
    unsigned char *in = malloc(all * MOST_BYTES + SPARE), *out = malloc(all * MOST_BYTES + SPARE);
    int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks, root = ranks - 1;
    for (int t = 0; t < WEFT_TYPE_COUNT && check_failures == 0; t++) {
        weft_type type = (weft_type)t;
        size_t bytes = weft_type_bytes(type), block = count * bytes;
        unsigned char *a = in + 1 + t % 7, *b = out + 3 + (t + rank) % 5;
        out[2 + (t + rank) % 5] = 0xee;
        put_ones(a, all, type);
        CHECK_OK(weft_all_reduce(comm, a, b, count, type, WEFT_SUM, NULL));
        check_sum(b, count, type, ranks, "all_reduce");
        CHECK_OK(weft_reduce_scatter(comm, a, b, count, type, WEFT_SUM, NULL));
        check_sum(b, count, type, ranks, "reduce_scatter");
        CHECK_OK(weft_reduce(comm, a, b, count, type, WEFT_SUM, root, NULL));
        if (rank == root)
            check_sum(b, count, type, ranks, "reduce");
        memcpy(b, a, block);
        CHECK_OK(weft_all_reduce(comm, WEFT_IN_PLACE, b, count, type, WEFT_SUM, NULL));
        check_sum(b, count, type, ranks, "all_reduce in place");
        fill(a, all * bytes, rank);
        CHECK_OK(weft_all_gather(comm, a, b, count, type, NULL));
        for (int r = 0; r < ranks; r++)
            CHECK(same_as(b + (size_t)r * block, block, r, 0), "all_gather of %s from %d",
                  weft_type_name(type), r);
        CHECK_OK(weft_all_to_all(comm, a, b, count, type, NULL));
        for (int r = 0; r < ranks; r++)
            CHECK(same_as(b + (size_t)r * block, block, r, (size_t)rank * block), "all_to_all of %s from %d",
                  weft_type_name(type), r);
        CHECK_OK(weft_broadcast(comm, a, b, count, type, root, NULL));
        CHECK(same_as(b, block, root, 0), "broadcast of %s", weft_type_name(type));
        CHECK_OK(weft_scatter(comm, a, b, count, type, root, NULL));
        CHECK(same_as(b, block, root, (size_t)rank * block), "scatter of %s", weft_type_name(type));
        CHECK_OK(weft_gather(comm, a, b, count, type, root, NULL));
        for (int r = 0; r < ranks && rank == root; r++)
            CHECK(same_as(b + (size_t)r * block, block, r, 0), "gather of %s from %d", weft_type_name(type),
                  r);
        weft_request *request;
        CHECK_OK(weft_recv(comm, b, count, type, before, t, NULL, &request));
        CHECK_OK(weft_send(comm, a, count, type, next, t, NULL));
        CHECK_OK(weft_wait(&request));
        CHECK(same_as(b, block, before, 0), "message of %s", weft_type_name(type));
        CHECK(out[2 + (t + rank) % 5] == 0xee, "%s: written in front of the buffer", weft_type_name(type));
    }
    free(in);
    free(out);
}

/* Sums of counts around multiples of the ranks, elements numbered. */
static void uneven(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    for (size_t base = 1; base <= 100000; base *= 10)
        for (size_t count = base > 2 ? base - 2 : 1; count <= base + 2 && check_failures == 0; count++) {
            int64_t *data = malloc(count * sizeof *data);
            for (size_t i = 0; i < count; i++)
                data[i] = (int64_t)i * (rank + 1);
            CHECK_OK(weft_all_reduce(comm, data, data, count, WEFT_I64, WEFT_SUM, NULL));
            for (size_t i = 0; i < count; i++)
                if (!CHECK(data[i] == (int64_t)i * ranks * (ranks + 1) / 2, "element %zu of %zu", i, count))
                    break;
            free(data);
        }
}

static void test_unaligned(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 31, 1003, 9001};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        odd_case c = {.count = counts[k]};
        on_ranks(4, "shm", unaligned, &c);
        on_ranks(3, "tcp", unaligned, &c);
        on_ranks(1, "auto", unaligned, &c);
    }
}

static void test_uneven(void **state)
{
    (void)state;
    static const char *const algorithms[] = {
        NULL, "ring", "tree", "halving_doubling", "direct", "recursive_doubling"};
    for (size_t k = 0; k < sizeof algorithms / sizeof *algorithms; k++)
        for (int ranks = 2; ranks <= 4; ranks++) {
            weft_config config = WEFT_CONFIG_INIT;
            config.algorithm = algorithms[k];
            config.timeout_ms = CHECK_TIMEOUT_MS;
            on_ranks_with(ranks, &config, uneven, NULL);
        }
}

int main(void)
{
    time_limit(240);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unaligned), cmocka_unit_test(test_uneven),
                                       cmocka_unit_test(test_beyond_31_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

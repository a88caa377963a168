/* Every collective on every algorithm that can serve it, against a plain reference, over shm and tcp, in place and not,
 * with ranks as threads of this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <weft/schedule.h>

#include "../ranks.h"

/* ThreadSanitizer makes the reference ten times as slow: there a large result is checked at every seventh element. */
#if defined(__SANITIZE_THREAD__)
enum { LARGE = 150001, CHECK_EVERY = 7 };
#else
enum { LARGE = 300007, CHECK_EVERY = 1 };
#endif
static const size_t counts[] = {0, 1, 3, 17, 1000, LARGE};
enum { ROUNDS = 2 };

typedef struct plan_case {
    weft_collective collective;
    const char *algorithm;
    _Atomic long wrong, errors, ran;
    _Atomic bool unsupported;
    bool mapped;
} plan_case;

static int32_t value(int rank, size_t index, int round)
{
    return (int32_t)((uint32_t)rank * 2654435761u + (uint32_t)index * 40503u + (uint32_t)round * 97u) % 1000;
}

static size_t blocks_in(weft_collective c, int n)
{
    return c == WEFT_REDUCE_SCATTER || c == WEFT_ALL_TO_ALL || c == WEFT_SCATTER ? (size_t)n : 1;
}
static size_t blocks_out(weft_collective c, int n)
{
    return c == WEFT_ALL_GATHER || c == WEFT_ALL_TO_ALL || c == WEFT_GATHER ? (size_t)n : 1;
}

/* The expected output element. */
static int32_t expected(weft_collective c, int rank, int n, int root, size_t count, size_t i, int round)
{
    int32_t sum = 0;
    size_t block = count ? i / count : 0, in = count ? i % count : 0;
    switch (c) {
    case WEFT_ALL_REDUCE:
    case WEFT_REDUCE:
        for (int r = 0; r < n; r++)
            sum += value(r, i, round);
        return sum;
    case WEFT_REDUCE_SCATTER:
        for (int r = 0; r < n; r++)
            sum += value(r, (size_t)rank * count + i, round);
        return sum;
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return value((int)block, in, round);
    case WEFT_BROADCAST:
        return value(root, i, round);
    case WEFT_SCATTER:
        return value(root, (size_t)rank * count + i, round);
    case WEFT_ALL_TO_ALL:
        return value((int)block, (size_t)rank * count + in, round);
    default:
        return 0;
    }
}

static weft_status call(weft_comm *comm, weft_collective c, const void *send, void *recv, size_t count, int root)
{
    switch (c) {
    case WEFT_ALL_REDUCE: return weft_all_reduce(comm, send, recv, count, WEFT_I32, WEFT_SUM, NULL);
    case WEFT_ALL_GATHER: return weft_all_gather(comm, send, recv, count, WEFT_I32, NULL);
    case WEFT_REDUCE_SCATTER: return weft_reduce_scatter(comm, send, recv, count, WEFT_I32, WEFT_SUM, NULL);
    case WEFT_BROADCAST: return weft_broadcast(comm, send, recv, count, WEFT_I32, root, NULL);
    case WEFT_REDUCE: return weft_reduce(comm, send, recv, count, WEFT_I32, WEFT_SUM, root, NULL);
    case WEFT_GATHER: return weft_gather(comm, send, recv, count, WEFT_I32, root, NULL);
    case WEFT_SCATTER: return weft_scatter(comm, send, recv, count, WEFT_I32, root, NULL);
    case WEFT_ALL_TO_ALL: return weft_all_to_all(comm, send, recv, count, WEFT_I32, NULL);
    default: return weft_barrier(comm, NULL);
    }
}

static bool rooted(weft_collective c)
{
    return c == WEFT_BROADCAST || c == WEFT_REDUCE || c == WEFT_GATHER || c == WEFT_SCATTER;
}

/* Private memory, or memory that peers on the host read in place. */
static int32_t *allocate(plan_case *p, size_t elements)
{
    void *memory = NULL;
    if (!p->mapped)
        return malloc(elements * sizeof(int32_t));
    if (weft_mem_alloc(elements * sizeof(int32_t), &memory) != WEFT_OK)
        p->errors++;
    return memory;
}

static void release(plan_case *p, int32_t *memory)
{
    if (p->mapped)
        weft_mem_free(memory);
    else
        free(memory);
}

static void one_size(weft_comm *comm, plan_case *p, int rank, int n, size_t count, int root, bool in_place, int round)
{
    weft_collective c = p->collective;
    size_t in = blocks_in(c, n) * count, out = blocks_out(c, n) * count;
    int32_t *a = allocate(p, in + 2), *b = allocate(p, out + 2);
    for (size_t i = 0; i < in; i++)
        a[i] = value(rank, i, round);
    for (size_t i = 0; i < out + 1; i++)
        b[i] = -77;
    bool has_out = !(c == WEFT_REDUCE || c == WEFT_GATHER) || rank == root;
    bool part_in = c == WEFT_REDUCE_SCATTER || c == WEFT_SCATTER;
    const int32_t *result = b;
    weft_status status;
    if (in_place && part_in && (rank == root || !rooted(c))) {
        status = call(comm, c, a, a + (size_t)rank * count, count, root);
        result = a + (size_t)rank * count;
    } else if (in_place && !part_in && has_out) {
        size_t at = c == WEFT_ALL_GATHER || c == WEFT_GATHER ? (size_t)rank * count : 0;
        memcpy(b + at, a, in * sizeof *a);
        status = call(comm, c, WEFT_IN_PLACE, b, count, root);
    } else {
        status = call(comm, c, a, has_out ? b : NULL, count, root);
    }
    if (status == WEFT_ERR_UNSUPPORTED)
        p->unsupported = true;
    else if (status != WEFT_OK && p->errors++ == 0)
        fprintf(stderr, "rank %d: %s %s count %zu root %d: %s\n", rank, p->algorithm, weft_collective_name(c), count, root,
                weft_last_error());
    size_t step = count == LARGE ? CHECK_EVERY : 1;
    for (size_t i = 0; status == WEFT_OK && has_out && c != WEFT_BARRIER && i < out; i += step)
        if (result[i] != expected(c, rank, n, root, count, i, round) && p->wrong++ == 0)
            fprintf(stderr, "rank %d of %d: %s %s count %zu root %d %s: element %zu is %d, not %d\n", rank, n, p->algorithm,
                    weft_collective_name(c), count, root, in_place ? "in place" : "", i, result[i],
                    expected(c, rank, n, root, count, i, round));
    if (has_out && b[out] != -77 && p->wrong++ == 0)
        fprintf(stderr, "rank %d: %s %s count %zu writes beyond the end\n", rank, p->algorithm, weft_collective_name(c), count);
    p->ran++;
    release(p, a);
    release(p, b);
}

static void all_sizes(weft_comm *comm, int rank, int n, void *context)
{
    plan_case *p = context;
    /* LARGE is of all blocks together */
    size_t blocks = blocks_in(p->collective, n) * blocks_out(p->collective, n) > 1 ? (size_t)n : 1;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        for (int round = 0; round < ROUNDS; round++)
            for (int root = 0; root < (rooted(p->collective) ? n : 1) && !p->errors; root += n > 3 ? 3 : 1)
                one_size(comm, p, rank, n, counts[k] < LARGE ? counts[k] : LARGE / blocks, root, round % 2, round);
}

static void every_algorithm(const char *transports, const int *sizes, bool mapped)
{
    for (; *sizes; sizes++)
        for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
            for (int a = 0; a < WEFT_ALGORITHM_COUNT; a++) {
                weft_plan_request request = {.collective = (weft_collective)c, .algorithm = (weft_algorithm)a,
                                             .group = {.ranks = *sizes}};
                if (a != WEFT_AUTO && weft_plan_obstacle(&request))
                    continue;
                weft_config config = WEFT_CONFIG_INIT;
                config.transports = transports;
                config.algorithm = weft_algorithm_name((weft_algorithm)a);
                config.timeout_ms = 20000;
                plan_case p = {.collective = (weft_collective)c, .algorithm = config.algorithm, .mapped = mapped};
                weft_status status = run_ranks(*sizes, &config, all_sizes, &p);
                if (status != WEFT_OK || p.wrong || p.errors)
                    fprintf(stderr, "FAILED: %d ranks %s %s %s\n", *sizes, transports, config.algorithm,
                            weft_collective_name((weft_collective)c));
                assert_int_equal(status, WEFT_OK);
                assert_int_equal(p.wrong, 0);
                assert_int_equal(p.errors, 0);
                assert_true(p.ran > 0);
            }
}

static void over_shm(void **state)
{
    (void)state;
    every_algorithm("shm", (const int[]){1, 2, 3, 5, 0}, false);
}

static void over_shm_mapped(void **state)
{
    (void)state;
    every_algorithm("shm", (const int[]){2, 3, 0}, true);
}

static void over_tcp(void **state)
{
    (void)state;
    every_algorithm("tcp", (const int[]){2, 4, 0}, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(over_shm), cmocka_unit_test(over_shm_mapped), cmocka_unit_test(over_tcp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

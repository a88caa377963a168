/* Registered buffers that begin and end amid a page: results are right whatever the type, the collective and where its chunks
 * meet the edges, and the whole pages inside are read in place by the other ranks. The ranks are processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support_ranks.h"

enum { RANKS = 3, AREA_BYTES = 3 << 20, LEAST_ELEMENTS = 100000 };

typedef struct buffers {
    unsigned char *send, *recv; /* areas */
} buffers;

/* Small whole numbers: sums over ranks are exact in f32. */
static float value(int rank, size_t i)
{
    return (float)((i * 7 + (size_t)rank * 13) % 101);
}

static void fill(unsigned char *at, int rank, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float v = value(rank, i);
        memcpy(at + i * sizeof v, &v, sizeof v);
    }
}

static bool holds_sum(const unsigned char *at, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float sum = 0, v;
        for (int r = 0; r < RANKS; r++)
            sum += value(r, first + i);
        memcpy(&v, at + i * sizeof v, sizeof v);
        if (v != sum)
            return false;
    }
    return true;
}

static bool holds(const unsigned char *at, int rank, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float expected = value(rank, i), v;
        memcpy(&v, at + i * sizeof v, sizeof v);
        if (v != expected)
            return false;
    }
    return true;
}

static weft_status wrong(const char *what, size_t skip, size_t count)
{
    return weft_fail(WEFT_ERR_INTERNAL, "%s of %zu elements %zu bytes into the page is wrong", what, count, skip);
}

/* All at buffers that start `skip` bytes into their area. */
static weft_status run_all(weft_comm *comm, int rank, const buffers *b, size_t skip, size_t count)
{
    unsigned char *send = b->send + skip, *recv = b->recv + skip;
    fill(send, rank, count * RANKS);
    weft_status status = weft_all_reduce(comm, send, recv, count, WEFT_F32, WEFT_SUM, NULL);
    if (status == WEFT_OK && !holds_sum(recv, 0, count))
        status = wrong("all_reduce", skip, count);
    if (status == WEFT_OK)
        status = weft_reduce_scatter(comm, send, recv, count / RANKS, WEFT_F32, WEFT_SUM, NULL);
    if (status == WEFT_OK && !holds_sum(recv, count / RANKS * (size_t)rank, count / RANKS))
        status = wrong("reduce_scatter", skip, count);
    if (status == WEFT_OK)
        status = weft_all_gather(comm, send, recv, count / RANKS, WEFT_F32, NULL);
    for (int r = 0; r < RANKS && status == WEFT_OK; r++)
        if (!holds(recv + (size_t)r * (count / RANKS) * sizeof(float), r, count / RANKS))
            status = wrong("all_gather", skip, count);
    for (int root = 0; root < RANKS && status == WEFT_OK; root++) {
        status = weft_broadcast(comm, send, recv, count, WEFT_F32, root, NULL);
        if (status == WEFT_OK && !holds(recv, root, count))
            status = wrong("broadcast", skip, count);
        fill(recv, rank, count);
        if (status == WEFT_OK)
            status = weft_broadcast(comm, recv, recv, count, WEFT_F32, root, NULL);
        if (status == WEFT_OK && !holds(recv, root, count))
            status = wrong("broadcast in place", skip, count);
    }
    if (status == WEFT_OK)
        status = weft_all_reduce(comm, send, send, count, WEFT_F32, WEFT_SUM, NULL);
    return status != WEFT_OK || holds_sum(send, 0, count) ? status : wrong("all_reduce in place", skip, count);
}

/* Shared buffers that this process has mapped, its own and others'. */
static int mapped_buffers(void)
{
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        found += strstr(line, "memfd:weft-buffer") != NULL;
    if (maps != NULL)
        fclose(maps);
    return found;
}

static void use_edges(int rank, int size, const void *context, outcome *result)
{
    static const struct {
        size_t skip, more; /* bytes before the buffer in its page, elements more than the least */
    } cases[] = {{100, 0}, {4095, 3}, {1, 1021}, {4, 1023}, {2048, 512}, {0, 1}};
    weft_config config = WEFT_CONFIG_INIT;
    weft_comm *comm = NULL;
    buffers b;
    config.transports = "shm";
    config.algorithm = "all_reduce:direct,reduce_scatter:direct,all_gather:direct,broadcast:direct";
    config.timeout_ms = 60000;
    b.send = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b.recv = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    weft_status status = weft_comm_create_url(context, rank, size, &config, &comm);
    for (size_t i = 0; i < ARRAY_LEN(cases) && status == WEFT_OK; i++) {
        size_t count = LEAST_ELEMENTS + cases[i].more, bytes = count * RANKS * sizeof(float);
        if ((status = weft_mem_register(b.send + cases[i].skip, bytes)) == WEFT_OK)
            status = weft_mem_register(b.recv + cases[i].skip, bytes);
        if (status == WEFT_OK)
            status = run_all(comm, rank, &b, cases[i].skip, count);
        if (status == WEFT_OK && mapped_buffers() <= 2)
            status =
                weft_fail(WEFT_ERR_INTERNAL, "no other rank's buffer %zu bytes into the page is read in place", cases[i].skip);
        if (status == WEFT_OK)
            status = weft_barrier(comm, NULL);
        if (status != WEFT_OK)
            outcome_fail(result, status);
        weft_mem_deregister(b.send + cases[i].skip);
        weft_mem_deregister(b.recv + cases[i].skip);
    }
    if (comm == NULL)
        outcome_fail(result, status);
    weft_comm_destroy(comm);
}

static void edges_are_staged_and_whole_pages_read_in_place(void **state)
{
    (void)state;
    rank_group group;
    outcome result;
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", free_port(0));
    ranks_fork(&group, RANKS, use_edges, url);
    for (int r = 0; r < RANKS; r++) {
        assert_true(ranks_outcome(&group, r, 60000, &result));
        if (result.status != WEFT_OK)
            fail_msg("rank %d: %s", r, result.text);
    }
    ranks_end(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges_are_staged_and_whole_pages_read_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

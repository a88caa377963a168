/* The facts of each collective in one table, and the calls. */
#include "perf_collective.h"

#include "perf_pattern.h"

typedef struct collective_facts {
    bool reduces, has_root;
    bool blocks_in, blocks_out; /* the array is the input, the output, or both: ranks blocks of `count` */
} collective_facts;

static const collective_facts facts_of[PERF_COLLECTIVE_COUNT] = {
    [WEFT_ALL_REDUCE] = { .reduces = true },
    [WEFT_ALL_GATHER] = { .blocks_out = true },
    [WEFT_REDUCE_SCATTER] = { .reduces = true, .blocks_in = true },
    [WEFT_BROADCAST] = { .has_root = true },
    [WEFT_REDUCE] = { .reduces = true, .has_root = true },
    [WEFT_GATHER] = { .has_root = true, .blocks_out = true },
    [WEFT_SCATTER] = { .has_root = true, .blocks_in = true },
    [WEFT_ALL_TO_ALL] = { .blocks_in = true, .blocks_out = true },
};
/* nccl-tests rounds the counts of those with blocks to so many bytes. */
enum { BLOCK_ALIGNMENT = 16 };

bool perf_collective_reduces(int collective) { return facts_of[collective].reduces; }
bool perf_collective_has_root(int collective) { return facts_of[collective].has_root; }
bool perf_collective_has_data(int collective) { return collective != WEFT_BARRIER; }

bool perf_collective_has_in_place(int collective)
{
    return collective != WEFT_BARRIER && collective != PERF_SENDRECV;
}

static bool has_blocks(int collective)
{
    return facts_of[collective].blocks_in || facts_of[collective].blocks_out;
}

double perf_collective_bus_factor(int collective, int ranks)
{
    if (collective == WEFT_ALL_REDUCE)
        return 2.0 * (ranks - 1) / ranks;
    return has_blocks(collective) ? (double)(ranks - 1) / ranks : 1.0;
}

void perf_case_set_size(perf_case *c, uint64_t bytes)
{
    size_t width = weft_type_bytes(c->type);
    c->count = perf_collective_has_data(c->collective) ? (size_t)bytes / width : 0;
    if (!has_blocks(c->collective)) {
        c->bytes = c->count * width;
        return;
    }
    size_t step = BLOCK_ALIGNMENT / width;
    c->count = c->count / (size_t)c->ranks / step * step;
    c->bytes = c->count * width * (size_t)c->ranks;
}

static bool is_root(const perf_case *c) { return c->rank == c->root; }

size_t perf_case_input_count(const perf_case *c)
{
    bool read_at_root_only = c->collective == WEFT_BROADCAST || c->collective == WEFT_SCATTER;
    if (read_at_root_only && !is_root(c))
        return 0;
    return facts_of[c->collective].blocks_in ? c->count * (size_t)c->ranks : c->count;
}

size_t perf_case_output_count(const perf_case *c)
{
    return c->count * perf_case_output_blocks(c);
}

size_t perf_case_output_blocks(const perf_case *c)
{
    bool written_at_root_only = c->collective == WEFT_REDUCE || c->collective == WEFT_GATHER;
    if (c->collective == WEFT_BARRIER || (written_at_root_only && !is_root(c)))
        return 0;
    return facts_of[c->collective].blocks_out ? (size_t)c->ranks : 1;
}

bool perf_case_lives_in_send(const perf_case *c)
{
    return facts_of[c->collective].blocks_in && !facts_of[c->collective].blocks_out;
}

perf_place perf_case_place(const perf_case *c)
{
    const collective_facts *facts = &facts_of[c->collective];
    size_t whole = c->count * (size_t)c->ranks, own = c->count * (size_t)c->rank;
    if (!has_blocks(c->collective))
        return (perf_place){ c->count, 0, 0 };
    if (facts->has_root && !is_root(c)) /* gather, scatter: only root has all blocks */
        return (perf_place){ c->count, 0, 0 };
    return (perf_place){ whole, facts->blocks_in ? 0 : own, facts->blocks_out ? 0 : own };
}

void perf_case_expected(const perf_case *c, size_t block, int *source, uint64_t *first)
{
    const collective_facts *facts = &facts_of[c->collective];
    *first = facts->blocks_in ? (uint64_t)c->count * (uint64_t)c->rank : 0;
    if (facts->reduces)
        *source = PERF_REDUCED;
    else if (facts->blocks_out)
        *source = (int)block;
    else if (facts->has_root)
        *source = c->root;
    else
        *source = (c->rank + c->ranks - 1) % c->ranks;
}

/* Around the ring, both ways in one group, so that no order of the two can block. */
static weft_status send_and_receive(const perf_case *c, weft_comm *comm, const void *send, void *recv,
                                    weft_request **request)
{
    int next = (c->rank + 1) % c->ranks, before = (c->rank + c->ranks - 1) % c->ranks;
    weft_status status = weft_group_start();
    if (status == WEFT_OK)
        status = weft_send(comm, send, c->count, c->type, next, 0, NULL);
    if (status == WEFT_OK)
        status = weft_recv(comm, recv, c->count, c->type, before, 0, NULL, NULL);
    return status == WEFT_OK ? weft_group_end(request) : status;
}

weft_status perf_case_call(const perf_case *c, weft_comm *comm, const void *send, void *recv,
                           weft_request **request)
{
    switch (c->collective) {
    case WEFT_ALL_REDUCE: return weft_all_reduce(comm, send, recv, c->count, c->type, c->op, request);
    case WEFT_ALL_GATHER: return weft_all_gather(comm, send, recv, c->count, c->type, request);
    case WEFT_REDUCE_SCATTER: return weft_reduce_scatter(comm, send, recv, c->count, c->type, c->op, request);
    case WEFT_BROADCAST: return weft_broadcast(comm, send, recv, c->count, c->type, c->root, request);
    case WEFT_REDUCE: return weft_reduce(comm, send, recv, c->count, c->type, c->op, c->root, request);
    case WEFT_GATHER: return weft_gather(comm, send, recv, c->count, c->type, c->root, request);
    case WEFT_SCATTER: return weft_scatter(comm, send, recv, c->count, c->type, c->root, request);
    case WEFT_ALL_TO_ALL: return weft_all_to_all(comm, send, recv, c->count, c->type, request);
    case WEFT_BARRIER: return weft_barrier(comm, request);
    default: return send_and_receive(c, comm, send, recv, request);
    }
}

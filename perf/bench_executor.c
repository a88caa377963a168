/* What the executor adds to a step, in ns: a schedule of many copies of 8 bytes within one rank, run as any collective is, beside
 * the same copies in a plain loop. And what a collective costs before its first step: one of a single copy. */
#include <stdlib.h>
#include <string.h>
#include <weft/schedule.h>

#include "base/settings.h"
#include "collectives/execute.h"
#include "collectives/planner.h"

enum { RUNS = 2000, BATCHES = 15, ELEMENT_BYTES = 8 };

static weft_status plan(uint32_t chunks, const weft_ready **ready)
{
    weft_plan_request request = {.collective = WEFT_BROADCAST, .algorithm = WEFT_LINEAR, .group = {.ranks = 1}};
    weft_builder *b;
    weft_schedule *schedule;
    weft_ready *made;
    weft_status status = weft_builder_create(&request, 0, &b);
    if (status != WEFT_OK)
        return status;
    weft_build_shape(b, chunks, 0, 1);
    /* not in order of chunks: neighbours would become one piece */
    for (uint32_t i = 0; i < chunks; i++)
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, chunks - 1 - i, 1), weft_at(b, WEFT_OUTPUT, chunks - 1 - i, 1), 0);
    status = weft_builder_finish(b, &schedule);
    if (status == WEFT_OK)
        status = weft_ready_create(schedule, &made);
    if (status == WEFT_OK)
        *ready = made;
    return status;
}

static void ignore(void *context, weft_execution *x)
{
    (void)context, (void)x;
}

static weft_status run(weft_exec *e, const weft_execution_args *args)
{
    weft_execution *x = weft_execution_get(e);
    weft_status status = x ? weft_execution_bind(x, args) : weft_fail(WEFT_ERR_MEMORY, "no memory for a collective");
    if (status != WEFT_OK)
        return status;
    weft_execution_start(x, ignore, NULL);
    while (e->active)
        weft_exec_progress(e);
    weft_execution_put(x);
    return WEFT_OK;
}

/* ns of the best batch of runs. */
static weft_status measure(weft_exec *e, uint32_t chunks, double *executor_ns, double *plain_ns)
{
    uint64_t *input = calloc(chunks * 8, ELEMENT_BYTES), *output = calloc(chunks * 8, ELEMENT_BYTES);
    weft_execution_args args = {.input = input, .output = output, .count = chunks * 8, .sizes_shared = true,
                                .reduction = {.type = WEFT_U64}};
    weft_status status = input && output ? plan(chunks, &args.ready) : weft_fail(WEFT_ERR_MEMORY, "no memory for buffers");
    int64_t best = INT64_MAX, plain = INT64_MAX;
    for (int batch = 0; batch < BATCHES && status == WEFT_OK; batch++) {
        int64_t start = weft_now_ns();
        for (int i = 0; i < RUNS && status == WEFT_OK; i++)
            status = run(e, &args);
        int64_t middle = weft_now_ns();
        for (int i = 0; i < RUNS; i++)
            for (uint32_t c = chunks; c-- > 0;) {
                memcpy(output + c * 8, input + c * 8, 8 * ELEMENT_BYTES);
                __asm__ volatile("" ::: "memory");
            }
        int64_t end = weft_now_ns();
        best = middle - start < best ? middle - start : best;
        plain = end - middle < plain ? end - middle : plain;
    }
    *executor_ns = (double)best / RUNS;
    *plain_ns = (double)plain / RUNS;
    weft_ready_destroy((weft_ready *)args.ready);
    free(input);
    free(output);
    return status;
}

int main(void)
{
    static const int world[1] = {0};
    weft_wire wire = {.ranks = 1};
    weft_exec e = {.wire = &wire, .comm = 1, .ranks = 1, .world = world, .from_world = world};
    double one, many, plain_one, plain_many;
    enum { STEPS = 256 };
    weft_status status = weft_exec_init(&e);
    if (status == WEFT_OK)
        status = measure(&e, 1, &one, &plain_one);
    if (status == WEFT_OK)
        status = measure(&e, STEPS, &many, &plain_many);
    weft_exec_clear(&e);
    if (status != WEFT_OK) {
        fprintf(stderr, "bench_executor: %s\n", weft_last_error());
        return 1;
    }
    printf("# ns, best of %d batches: copies of 64 bytes as steps of a schedule, and in a plain loop\n", BATCHES);
    printf("%-40s %10s %10s\n", "", "executor", "loop");
    printf("%-40s %10.1f %10.1f\n", "a collective of one step", one, plain_one);
    printf("%-40s %10.1f %10.1f\n", "each further step", (many - one) / (STEPS - 1), (plain_many - plain_one) / (STEPS - 1));
    return 0;
}

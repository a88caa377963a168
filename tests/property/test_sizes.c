/* What the executor takes the size of scratch chunks from (weft_ready) is the same on both sides of every message and in all
 * places of a step, for blocks that do not divide evenly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "collectives/execute.h"

enum { MAX_RANKS = 33, ODD_COUNT = 1000003 }; /* elements of a block: the last chunk is short, or chunks are empty */

/* Elements of the i-th chunk of a place, as the executor sees it. */
static size_t chunk_elements(const weft_schedule *s, const weft_place *place, const weft_place *like, uint32_t i, size_t count)
{
    const weft_place *sized = place->buffer == WEFT_SCRATCH ? like : place;
    size_t full = weft_chunk_elements(count, s->chunks_per_block, 4), offset;
    if (!sized)
        return full;
    weft_layout layout = { .element_bytes = 4, .count = count, .chunk_elements = full, .blocks = UINT32_MAX,
                           .chunks_per_block = s->chunks_per_block };
    uint32_t chunk = sized->first + i / place->count * sized->stride + i % place->count;
    return weft_layout_chunk(&layout, chunk, SIZE_MAX / 8, 0, &offset);
}

typedef struct end {
    const weft_schedule *s;
    const weft_place *place, *like;
    uint32_t lane, step;
} end;

static void compare(const end *a, const end *b, size_t count)
{
    uint32_t chunks = a->place->count * a->place->repeat;
    for (uint32_t i = 0; i < chunks; i++) {
        size_t left = chunk_elements(a->s, a->place, a->like, i, count),
               right = chunk_elements(b->s, b->place, b->like, i, count);
        char one[200], other[200];
        weft_step_text(a->s, a->lane, a->step, one, sizeof(one));
        weft_step_text(b->s, b->lane, b->step, other, sizeof(other));
        if (left != right)
            fail_msg("%s by %s, %d ranks, %zu elements a block: chunk %u is of %zu in rank %d's %s, of %zu in rank %d's %s",
                     weft_collective_name(a->s->collective), weft_algorithm_name(a->s->algorithm), a->s->ranks, count, i, left,
                     a->s->rank, one, right, b->s->rank, other);
    }
}

static end receiving_end(weft_ready *const *ready, int rank, uint32_t lane, uint32_t i)
{
    const weft_schedule *s = ready[rank]->schedule;
    return (end){ s, &s->lane[lane].steps[i].dst, ready[rank]->steps[lane][i].dst_like, lane, i };
}

/* The send that the receive takes, by its number among the sends to that rank. */
static end sending_end(weft_ready *const *ready, int rank, uint32_t lane, uint32_t i)
{
    const weft_step *receive = &ready[rank]->schedule->lane[lane].steps[i];
    weft_ready *sender = ready[receive->from];
    const weft_schedule *s = sender->schedule;
    for (uint32_t k = 0; k < s->lane[lane].sends; k++) {
        uint32_t at = sender->sends[lane][k].step;
        const weft_step *step = &s->lane[lane].steps[at];
        if (step->to == rank && sender->sends[lane][k].ordinal == ready[rank]->steps[lane][i].receive_ordinal) {
            bool send = step->kind == WEFT_STEP_SEND;
            const weft_ready_step *r = &sender->steps[lane][at];
            return (end){ s, send ? &step->src : &step->dst, send ? r->src_like : r->dst_like, lane, at };
        }
    }
    fail_msg("rank %d: no send for a receive", rank);
    abort();
}

static void check_lane(weft_ready *const *ready, int rank, uint32_t lane, size_t count)
{
    const weft_schedule *s = ready[rank]->schedule;
    for (uint32_t i = 0; i < s->lane[lane].count; i++) {
        const weft_step *step = &s->lane[lane].steps[i];
        end dst = receiving_end(ready, rank, lane, i), src = { s, &step->src, ready[rank]->steps[lane][i].src_like, lane, i };
        if (step->kind == WEFT_STEP_RECV || step->kind == WEFT_STEP_RECV_REDUCE) {
            end from = sending_end(ready, rank, lane, i);
            compare(&from, &dst, count);
        }
        if (step->kind == WEFT_STEP_RECV_REDUCE || step->kind == WEFT_STEP_COPY)
            compare(&src, &dst, count);
    }
}

static void check_plan(const weft_plan_request *request)
{
    static const size_t counts[] = { 1, 5, 61, ODD_COUNT };
    weft_ready *ready[MAX_RANKS];
    for (int rank = 0; rank < request->group.ranks; rank++) {
        weft_schedule *s;
        assert_int_equal(weft_plan(request, rank, &s), WEFT_OK);
        assert_int_equal(weft_ready_create(s, &ready[rank]), WEFT_OK);
    }
    for (size_t c = 0; c < ARRAY_LEN(counts); c++)
        for (int rank = 0; rank < request->group.ranks; rank++)
            for (uint32_t lane = 0; lane < ready[rank]->schedule->lanes; lane++)
                check_lane(ready, rank, lane, counts[c]);
    for (int rank = 0; rank < request->group.ranks; rank++)
        weft_ready_destroy(ready[rank]);
}

static void sizes_agree_everywhere(void **state)
{
    (void)state;
    static const int ranks[] = { 1, 2, 3, 4, 5, 7, 8, 12, 13, 33 };
    static const int per_host[] = { MAX_RANKS, 1, 3, 4 };
    int host[MAX_RANKS];
    for (size_t n = 0; n < ARRAY_LEN(ranks); n++)
        for (size_t h = 0; h < ARRAY_LEN(per_host); h++)
            for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
                for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++)
                    for (int lanes = 0; lanes <= 3; lanes += 3) {
                        for (int rank = 0; rank < ranks[n]; rank++)
                            host[rank] = rank / per_host[h];
                        weft_plan_request request = { .collective = (weft_collective)c, .algorithm = (weft_algorithm)a,
                                                      .root = ranks[n] / 2, .group = { ranks[n], host }, .lanes = lanes };
                        if (c == WEFT_ALL_REDUCE || c == WEFT_ALL_GATHER || c == WEFT_REDUCE_SCATTER || c == WEFT_ALL_TO_ALL ||
                            c == WEFT_BARRIER)
                            request.root = 0;
                        if (!weft_plan_obstacle(&request))
                            check_plan(&request);
                    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(sizes_agree_everywhere) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

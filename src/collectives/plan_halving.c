/* Recursive halving and doubling: log2 n rounds in which what is exchanged halves, so that each rank moves no
 * more than in a ring. After Thakur, Rabenseifner and Gropp, "Optimization of collective communication
 * operations in MPICH" (2005). */
#include "collectives/plan.h"

/* All_reduce of one lane among the numbers of the fold. Partners are near first (and so groups of consecutive
 * ranks are combined, in order); the halves of chunks are named by the bits of the number. */
static void all_reduce_active(weft_builder *b, const weft_fold *f, uint32_t lane, uint32_t base,
                              weft_buffer operand)
{
    uint32_t first = base, count = (uint32_t)f->active;
    for (int bit = 1; bit < f->active; bit *= 2) {
        int other = f->number ^ bit, partner = weft_fold_first(f, other);
        count /= 2;
        uint32_t kept = first + (f->number & bit ? count : 0), given = first + (f->number & bit ? 0 : count);
        unsigned flags =
            (other < f->number ? WEFT_STEP_INCOMING_FIRST : 0) | (count == 1 ? WEFT_STEP_FINAL : 0);
        weft_build_send(b, lane, weft_at(b, operand, given, count), partner);
        weft_build_recv_reduce(b, lane, partner, weft_at(b, operand, kept, count),
                               weft_at(b, WEFT_OUTPUT, kept, count), -1, flags);
        operand = WEFT_OUTPUT;
        first = kept;
    }
    for (int bit = f->active / 2; bit >= 1; bit /= 2) {
        int partner = weft_fold_first(f, f->number ^ bit);
        uint32_t missing = f->number & bit ? first - count : first + count;
        weft_build_send(b, lane, weft_at(b, WEFT_OUTPUT, first, count), partner);
        weft_build_recv(b, lane, partner, weft_at(b, WEFT_OUTPUT, missing, count), -1);
        first = first < missing ? first : missing;
        count *= 2;
    }
}

weft_status weft_plan_halving_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_fold f;
    weft_fold_create(&f, request->group.ranks, rank);
    uint32_t lanes = weft_plan_lanes(request, 1), size = (uint32_t)f.active;
    weft_build_shape(b, size * lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        uint32_t base = lane * size;
        weft_place input = weft_at(b, WEFT_INPUT, base, size), output = weft_at(b, WEFT_OUTPUT, base, size);
        if (f.number < 0) {
            weft_build_send(b, lane, input, f.twin);
            weft_build_recv(b, lane, f.twin, output, -1);
            continue;
        }
        if (f.twin >= 0)
            weft_build_recv_reduce(b, lane, f.twin, input, output, -1, 0);
        all_reduce_active(b, &f, lane, base, f.twin >= 0 ? WEFT_OUTPUT : WEFT_INPUT);
        if (f.twin >= 0)
            weft_build_send(b, lane, output, f.twin);
    }
    return WEFT_OK;
}

/* Reduce_scatter: partners are far first, so that what is kept is a contiguous range of blocks also where
 * some numbers stand for two ranks. Intermediate results lie in scratch, by block. */
weft_status weft_plan_halving_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_fold f;
    uint32_t n = (uint32_t)request->group.ranks;
    weft_fold_create(&f, request->group.ranks, rank);
    weft_build_shape(b, 1, n, 1);
    weft_place output = weft_at(b, WEFT_OUTPUT, 0, 1);
    if (f.number < 0) {
        weft_build_send(b, 0, weft_at(b, WEFT_INPUT, 0, n), f.twin);
        weft_build_recv(b, 0, f.twin, output, -1);
        return WEFT_OK;
    }
    weft_buffer operand = WEFT_INPUT;
    if (f.twin >= 0) {
        weft_build_recv_reduce(b, 0, f.twin, weft_at(b, WEFT_INPUT, 0, n), weft_at(b, WEFT_SCRATCH, 0, n), -1,
                               0);
        operand = WEFT_SCRATCH;
    }
    for (int bit = f.active / 2; bit >= 1; bit /= 2) {
        int other = f.number ^ bit, partner = weft_fold_first(&f, other);
        int mine = f.number & ~(bit - 1), theirs = other & ~(bit - 1);
        uint32_t kept = (uint32_t)weft_fold_first(&f, mine),
                 kept_end = (uint32_t)weft_fold_first(&f, mine + bit);
        uint32_t given = (uint32_t)weft_fold_first(&f, theirs),
                 given_end = (uint32_t)weft_fold_first(&f, theirs + bit);
        bool alone = bit == 1 && f.twin < 0;
        weft_build_send(b, 0, weft_at(b, operand, given, given_end - given), partner);
        weft_build_recv_reduce(b, 0, partner, weft_at(b, operand, kept, kept_end - kept),
                               alone ? output : weft_at(b, WEFT_SCRATCH, kept, kept_end - kept), -1,
                               (other < f.number ? WEFT_STEP_INCOMING_FIRST : 0) |
                                   (bit == 1 ? WEFT_STEP_FINAL : 0));
        operand = WEFT_SCRATCH;
    }
    if (f.twin >= 0) {
        weft_build_send(b, 0, weft_at(b, WEFT_SCRATCH, (uint32_t)f.twin, 1), f.twin);
        weft_build_copy(b, 0, weft_at(b, WEFT_SCRATCH, (uint32_t)rank, 1), output, 0);
    }
    return WEFT_OK;
}

/* Recursive doubling: log2 n rounds with a partner at distance 1, 2, 4 ..., the whole value each time: for
 * small messages. Other rank counts than powers of two fold neighbours first. Both partners combine the lower
 * ranks' operand first, so results agree bit by bit and keep rank order. */
#include "collectives/plan.h"

/* The first 2 * extra ranks are folded in pairs (2i, 2i + 1) of which the even one joins in the rounds. */
void weft_fold_create(weft_fold *f, int ranks, int rank)
{
    f->active = weft_floor_pow2(ranks);
    f->extra = ranks - f->active;
    f->number = rank >= 2 * f->extra ? rank - f->extra : rank % 2 == 0 ? rank / 2 : -1;
    f->twin = rank >= 2 * f->extra ? -1 : rank ^ 1;
}

int weft_fold_first(const weft_fold *f, int number)
{
    return number < f->extra ? 2 * number : number + f->extra;
}

/* Places of the intermediate results of `rounds` exchanges. What a round sends it must not overwrite, and in
 * place the operand of round 0 is the output, so round 0 never writes there; from then on results alternate
 * so that the last lands in the output. */
static weft_place round_result(const weft_builder *b, int round, int rounds, uint32_t lane)
{
    if (round > 0 && (rounds - 1 - round) % 2 == 0)
        return weft_at(b, WEFT_OUTPUT, lane, 1);
    return weft_at(b, WEFT_SCRATCH, 2 * lane + (uint32_t)(round & 1), 1);
}

static void all_reduce_lane(weft_builder *b, const weft_fold *f, uint32_t lane)
{
    weft_place current = weft_at(b, WEFT_INPUT, lane, 1), output = weft_at(b, WEFT_OUTPUT, lane, 1);
    if (f->number < 0) {
        weft_build_send(b, lane, current, f->twin);
        weft_build_recv(b, lane, f->twin, output, -1);
        return;
    }
    if (f->twin >= 0) {
        weft_build_recv_reduce(b, lane, f->twin, current, output, -1, 0);
        current = output;
    }
    int rounds = 0;
    while (1 << rounds < f->active)
        rounds++;
    for (int round = 0; round < rounds; round++) {
        int other = f->number ^ (1 << round), partner = weft_fold_first(f, other);
        weft_place result = round_result(b, round, rounds, lane);
        unsigned flags =
            (other < f->number ? WEFT_STEP_INCOMING_FIRST : 0) | (round == rounds - 1 ? WEFT_STEP_FINAL : 0);
        weft_build_send(b, lane, current, partner);
        weft_build_recv_reduce(b, lane, partner, current, result, -1, flags);
        current = result;
    }
    if (rounds == 1)
        weft_build_copy(b, lane, current, output, 0);
    if (f->twin >= 0)
        weft_build_send(b, lane, output, f->twin);
}

weft_status weft_plan_doubling_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_fold fold;
    weft_fold_create(&fold, request->group.ranks, rank);
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 2 * lanes, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++)
        all_reduce_lane(b, &fold, lane);
    return WEFT_OK;
}

/* After round i a number holds the blocks of its aligned group of 2^(i+1) numbers, a contiguous range of
 * ranks. */
weft_status weft_plan_doubling_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_fold f;
    uint32_t n = (uint32_t)request->group.ranks, own = (uint32_t)rank;
    weft_fold_create(&f, request->group.ranks, rank);
    weft_build_shape(b, 1, 0, 1);
    if (f.number < 0) {
        weft_build_send(b, 0, weft_at(b, WEFT_INPUT, 0, 1), f.twin);
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, own, 1), 0);
        weft_build_recv(b, 0, f.twin, weft_at(b, WEFT_OUTPUT, 0, own), -1);
        if (own + 1 < n)
            weft_build_recv(b, 0, f.twin, weft_at(b, WEFT_OUTPUT, own + 1, n - own - 1), -1);
        return WEFT_OK;
    }
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, own, 1), 0);
    if (f.twin >= 0)
        weft_build_recv(b, 0, f.twin, weft_at(b, WEFT_OUTPUT, own + 1, 1), -1);
    for (int size = 1; size < f.active; size *= 2) {
        int mine = f.number & ~(size - 1), other = mine ^ size,
            partner = weft_fold_first(&f, f.number ^ size);
        uint32_t my_first = (uint32_t)weft_fold_first(&f, mine),
                 my_end = (uint32_t)weft_fold_first(&f, mine + size);
        uint32_t first = (uint32_t)weft_fold_first(&f, other),
                 end = (uint32_t)weft_fold_first(&f, other + size);
        weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, my_first, my_end - my_first), partner);
        weft_build_recv(b, 0, partner, weft_at(b, WEFT_OUTPUT, first, end - first), -1);
    }
    if (f.twin >= 0) {
        uint32_t twin = (uint32_t)f.twin;
        weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, 0, twin), f.twin);
        if (twin + 1 < n)
            weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, twin + 1, n - twin - 1), f.twin);
    }
    return WEFT_OK;
}

/* Dissemination: in round i hear from the rank 2^i before, which has heard from 2^i ranks. */
weft_status weft_plan_doubling_barrier(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, 0, 1);
    weft_place nothing = weft_at(b, WEFT_SCRATCH, 0, 0);
    for (int distance = 1; distance < n; distance *= 2) {
        weft_build_send(b, 0, nothing, (rank + distance) % n);
        weft_build_recv(b, 0, (rank - distance + n) % n, nothing, -1);
    }
    return WEFT_OK;
}

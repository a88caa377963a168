/* Bruck's algorithms: ceil(log2 n) rounds for any rank count, for small blocks. After Bruck, Ho, Kipnis,
 * Upfal and Weathersby, "Efficient algorithms for all-to-all communications in multiport message-passing
 * systems" (1997). */
#include "collectives/plan.h"

/* Blocks [start, start + count) of n, that may wrap round: one or two messages. */
static void exchange(weft_builder *b, uint32_t n, uint32_t mine, int to, uint32_t theirs, int from,
                     uint32_t count)
{
    uint32_t until_end = n - mine;
    weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, mine, count < until_end ? count : until_end), to);
    if (count > until_end)
        weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, 0, count - until_end), to);
    until_end = n - theirs;
    weft_build_recv(b, 0, from, weft_at(b, WEFT_OUTPUT, theirs, count < until_end ? count : until_end), -1);
    if (count > until_end)
        weft_build_recv(b, 0, from, weft_at(b, WEFT_OUTPUT, 0, count - until_end), -1);
}

/* Before round d a rank has the d blocks from its own on; it gets as many more from the rank d further on. */
weft_status weft_plan_bruck_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    weft_build_shape(b, 1, 0, 1);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    for (int d = 1; d < n; d *= 2) {
        int count = d < n - d ? d : n - d, from = (rank + d) % n;
        exchange(b, (uint32_t)n, (uint32_t)rank, (rank - d + n) % n, (uint32_t)from, from, (uint32_t)count);
    }
    return WEFT_OK;
}

/* Chunk i of the first n chunks of scratch is what still has to travel by the bits of i: round d moves all
 * whose number has bit d. What comes in replaces what went out; as that may still be on its way, it lands
 * behind them first. */
static void move_bit(weft_builder *b, uint32_t n, uint32_t d, int to, int from)
{
    uint32_t periods = n / (2 * d), rest = n % (2 * d);
    weft_place out[2], in[2];
    int messages = 0;
    if (periods) {
        out[0] = weft_at(b, WEFT_SCRATCH, d, d);
        in[0] = weft_at(b, WEFT_SCRATCH, n, d);
        out[0].repeat = in[0].repeat = periods;
        if (periods > 1) {
            out[0].stride = 2 * d;
            in[0].stride = d;
        }
        messages = 1;
    }
    if (rest > d) {
        out[messages] = weft_at(b, WEFT_SCRATCH, periods * 2 * d + d, rest - d);
        in[messages++] = weft_at(b, WEFT_SCRATCH, n + periods * d, rest - d);
    }
    for (int i = 0; i < messages; i++)
        weft_build_send(b, 0, out[i], to);
    for (int i = 0; i < messages; i++)
        weft_build_recv(b, 0, from, in[i], -1);
    for (int i = 0; i < messages; i++)
        weft_build_copy(b, 0, in[i], out[i], 0);
}

weft_status weft_plan_bruck_all_to_all(weft_builder *b, const weft_plan_request *request, int rank)
{
    int n = request->group.ranks;
    uint32_t own = (uint32_t)rank, all = (uint32_t)n;
    weft_build_shape(b, 1, all + (uint32_t)weft_floor_pow2(n), 1);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, own, all - own), weft_at(b, WEFT_SCRATCH, 0, all - own), 0);
    if (own)
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, own), weft_at(b, WEFT_SCRATCH, all - own, own), 0);
    for (int d = 1; d < n; d *= 2)
        move_bit(b, all, (uint32_t)d, (rank + d) % n, (rank - d + n) % n);
    for (int i = 0; i < n; i++)
        weft_build_copy(b, 0, weft_at(b, WEFT_SCRATCH, (uint32_t)i, 1),
                        weft_at(b, WEFT_OUTPUT, (uint32_t)((rank - i + n) % n), 1), 0);
    return WEFT_OK;
}

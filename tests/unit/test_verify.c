/* The verifier against schedules made by hand: right ones pass, and each kind of mistake is found and named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "collectives/planner.h"

enum { MAX_RANKS = 16 };

typedef void (*plan_function)(weft_builder *b, int rank, int ranks);

typedef struct plan {
    weft_schedule *s[MAX_RANKS];
    weft_group group;
    int ranks;
    char text[1200];
} plan;

static void plan_make(plan *p, weft_collective collective, int ranks, plan_function function)
{
    weft_plan_request request = {.collective = collective, .algorithm = WEFT_RING, .group = {.ranks = ranks}};
    p->ranks = ranks;
    p->group = request.group;
    for (int rank = 0; rank < ranks; rank++) {
        weft_builder *b;
        assert_int_equal(weft_builder_create(&request, rank, &b), WEFT_OK);
        function(b, rank, ranks);
        assert_int_equal(weft_builder_finish(b, &p->s[rank]), WEFT_OK);
    }
}

static void plan_free(plan *p)
{
    for (int rank = 0; rank < p->ranks; rank++)
        weft_schedule_free(p->s[rank]);
}

static weft_status plan_verify(plan *p)
{
    return weft_verify((const weft_schedule *const *)p->s, p->ranks, &p->group, p->text, sizeof(p->text));
}

static void expect_right(plan *p)
{
    if (plan_verify(p) != WEFT_OK)
        fail_msg("%s (%s)", p->text, weft_last_error());
    assert_string_equal(p->text, "");
    plan_free(p);
}

/* The report must contain every one of the texts (up to NULL). */
static void expect_fault(plan *p, ...)
{
    assert_int_equal(plan_verify(p), WEFT_ERR_MISMATCH);
    va_list list;
    va_start(list, p);
    for (const char *text; (text = va_arg(list, const char *)) != NULL;)
        if (!strstr(p->text, text))
            fail_msg("the report lacks \"%s\": %s", text, p->text);
    va_end(list);
    plan_free(p);
}

static weft_step *step_of(plan *p, int rank, uint32_t step)
{
    assert_true(step < p->s[rank]->lane[0].count);
    return &p->s[rank]->lane[0].steps[step];
}

/* Makes a step as good as none, and counts again. */
static void recount(plan *p)
{
    for (int rank = 0; rank < p->ranks; rank++) {
        uint32_t lane_sends, signals;
        for (uint32_t l = 0; l < p->s[rank]->lanes; l++) {
            weft_lane *lane = &p->s[rank]->lane[l];
            lane_sends = signals = 0;
            for (uint32_t i = 0; i < lane->count; i++) {
                lane_sends += lane->steps[i].to >= 0;
                signals += lane->steps[i].kind == WEFT_STEP_SIGNAL;
            }
            lane->sends = lane_sends;
            lane->signals = signals;
        }
    }
}

static void drop_step(plan *p, int rank, uint32_t step)
{
    weft_lane *lane = &p->s[rank]->lane[0];
    memmove(&lane->steps[step], &lane->steps[step + 1], (lane->count - step - 1) * sizeof(weft_step));
    lane->count--;
    recount(p);
}

/* ---- right schedules --------------------------------------------------------------------------- */

static void ring_all_reduce(weft_builder *b, int rank, int n)
{
    int next = (rank + 1) % n, previous = (rank + n - 1) % n;
    weft_build_shape(b, (uint32_t)n, 0, 1);
    weft_build_send(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)rank, 1), next);
    for (int s = 1; s < n; s++) {
        uint32_t chunk = (uint32_t)((rank + n - s) % n);
        weft_build_recv_reduce(b, 0, previous, weft_at(b, WEFT_INPUT, chunk, 1),
                               weft_at(b, WEFT_OUTPUT, chunk, 1), next, s == n - 1 ? WEFT_STEP_FINAL : 0);
    }
    for (int s = 1; s < n; s++) {
        uint32_t chunk = (uint32_t)((rank + n - s + 1) % n);
        weft_build_recv(b, 0, previous, weft_at(b, WEFT_OUTPUT, chunk, 1), s < n - 1 ? next : -1);
    }
}

/* Reduce-scatter and all-gather by reading the peers' memory. */
static void direct_all_reduce(weft_builder *b, int rank, int n)
{
    weft_place sources[MAX_RANKS];
    weft_build_shape(b, (uint32_t)n, 0, 1);
    weft_build_publish(b, 0, weft_at(b, WEFT_INPUT, 0, (uint32_t)n), 0);
    weft_build_signal(b, 0, 0);
    for (int peer = 0; peer < n; peer++) {
        sources[peer] = weft_at_rank(peer, WEFT_INPUT, (uint32_t)rank, 1);
        if (peer != rank)
            weft_build_wait(b, 0, peer, 1, 0);
    }
    weft_build_reduce(b, 0, sources, n, weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), WEFT_STEP_FINAL);
    weft_build_publish(b, 0, weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    weft_build_signal(b, 0, 0);
    for (int peer = 0; peer < n; peer++)
        if (peer != rank)
            weft_build_wait(b, 0, peer, 2, 0);
    for (int peer = 0; peer < n; peer++)
        if (peer != rank)
            weft_build_copy(b, 0, weft_at_rank(peer, WEFT_OUTPUT, (uint32_t)peer, 1),
                            weft_at(b, WEFT_OUTPUT, (uint32_t)peer, 1), 0);
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    for (int peer = 0; peer < n; peer++)
        if (peer != rank)
            weft_build_wait(b, 0, peer, 3, WEFT_STEP_IF_MAPPED);
}
/* Its steps for 3 ranks: 0 publish, 1 signal, 2 3 wait, 4 reduce, 5 publish, 6 signal, 7 8 wait, 9 10 copy,
 * 11 signal, 12 13 wait. */

static void linear_broadcast(weft_builder *b, int rank, int n)
{
    weft_build_shape(b, 1, 0, 1);
    if (rank != 0) {
        weft_build_recv(b, 0, 0, weft_at(b, WEFT_OUTPUT, 0, 1), -1);
        return;
    }
    for (int peer = 1; peer < n; peer++)
        weft_build_send(b, 0, weft_at(b, WEFT_INPUT, 0, 1), peer);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, 0, 1), 0);
}

/* Combines in rank order: rank 0's partial goes along the ranks, the result comes back. */
static void chain_all_reduce(weft_builder *b, int rank, int n)
{
    weft_place in = weft_at(b, WEFT_INPUT, 0, 1), out = weft_at(b, WEFT_OUTPUT, 0, 1);
    bool last = rank == n - 1;
    weft_build_shape(b, 1, 0, 1);
    if (rank == 0)
        weft_build_send(b, 0, in, 1);
    else
        weft_build_recv_reduce(b, 0, rank - 1, in, out, last ? rank - 1 : rank + 1,
                               (unsigned)(WEFT_STEP_INCOMING_FIRST | (last ? WEFT_STEP_FINAL : 0)));
    if (!last)
        weft_build_recv(b, 0, rank + 1, out, rank > 0 ? rank - 1 : -1);
}

static void dissemination_barrier(weft_builder *b, int rank, int n)
{
    weft_build_shape(b, 1, 1, 1);
    for (int distance = 1; distance < n; distance *= 2) {
        weft_place token = weft_at(b, WEFT_SCRATCH, 0, 0);
        weft_build_send(b, 0, token, (rank + distance) % n);
        weft_build_recv(b, 0, (rank + n - distance) % n, token, -1);
    }
}

static void pairwise_all_to_all(weft_builder *b, int rank, int n)
{
    weft_build_shape(b, 1, 0, 1);
    weft_build_not_in_place(b);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)rank, 1),
                    weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    for (int d = 1; d < n; d++) {
        int to = (rank + d) % n, from = (rank + n - d) % n;
        weft_build_send(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)to, 1), to);
        weft_build_recv(b, 0, from, weft_at(b, WEFT_OUTPUT, (uint32_t)from, 1), -1);
    }
}

static void ring_all_gather(weft_builder *b, int rank, int n)
{
    int next = (rank + 1) % n, previous = (rank + n - 1) % n;
    weft_build_shape(b, 1, 0, 1);
    weft_build_send(b, 0, weft_at(b, WEFT_INPUT, 0, 1), next);
    weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1), 0);
    for (int s = 1; s < n; s++)
        weft_build_recv(b, 0, previous, weft_at(b, WEFT_OUTPUT, (uint32_t)((rank + n - s) % n), 1),
                        s < n - 1 ? next : -1);
}

/* Through scratch, so that there are fences: the second block overwrites the first one's place. */
static void relay_broadcast(weft_builder *b, int rank, int n)
{
    weft_build_shape(b, 2, 1, 1);
    for (uint32_t chunk = 0; chunk < 2; chunk++) {
        weft_place scratch = weft_at(b, WEFT_SCRATCH, 0, 1);
        if (rank == 0)
            weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, chunk, 1), scratch, 0);
        else
            weft_build_recv(b, 0, rank - 1, scratch, rank + 1 < n ? rank + 1 : -1);
        if (rank == 0)
            weft_build_send(b, 0, scratch, 1);
        weft_build_copy(b, 0, scratch, weft_at(b, WEFT_OUTPUT, chunk, 1), 0);
    }
}

static void right_schedules_pass(void **state)
{
    (void)state;
    plan p;
    for (int n = 2; n <= MAX_RANKS; n++) {
        plan_make(&p, WEFT_ALL_REDUCE, n, ring_all_reduce);
        expect_right(&p);
        plan_make(&p, WEFT_ALL_REDUCE, n, direct_all_reduce);
        expect_right(&p);
        plan_make(&p, WEFT_BROADCAST, n, linear_broadcast);
        expect_right(&p);
        plan_make(&p, WEFT_BROADCAST, n, relay_broadcast);
        expect_right(&p);
        plan_make(&p, WEFT_BARRIER, n, dissemination_barrier);
        expect_right(&p);
        plan_make(&p, WEFT_ALL_TO_ALL, n, pairwise_all_to_all);
        expect_right(&p);
        plan_make(&p, WEFT_ALL_GATHER, n, ring_all_gather);
        expect_right(&p);
        plan_make(&p, WEFT_ALL_REDUCE, n, chain_all_reduce);
        for (int rank = 0; rank < n; rank++)
            p.s[rank]->keeps_order = true;
        expect_right(&p);
    }
}

/* ---- messages ---------------------------------------------------------------------------------- */

static void dropped_send_leaves_receive_waiting(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    drop_step(&p, 1, 0);
    expect_fault(&p, "rank 2 lane 0 step 6 (recv from 1", "waits for ever", NULL);
}

static void dropped_receive_leaves_send(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, 3, linear_broadcast);
    drop_step(&p, 2, 0);
    expect_fault(&p, "rank 0 lane 0 step 1 (send to 2: input[0])", "never received", NULL);
}

static void wrong_peer_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 3, 2)->from = 1;
    expect_fault(&p, "rank 3 lane 0 step 2 (recv_reduce from 1", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 3, 2)->to = 4;
    expect_fault(&p, "rank 3 lane 0 step 2", "rank 4 does not exist", NULL);
    plan_make(&p, WEFT_BROADCAST, 3, linear_broadcast);
    step_of(&p, 0, 1)->to = 0;
    expect_fault(&p, "rank 0 lane 0 step 1", "is the rank itself", NULL);
}

static void different_shapes_are_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, 3, relay_broadcast);
    step_of(&p, 1, 0)->dst.count = 0;
    expect_fault(&p, "rank 1 lane 0 step 0", "expects 1 x 0 chunks, but rank 0 sends 1 x 1", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 0, 1)->src.repeat = 2;
    expect_fault(&p, "rank 0 lane 0 step 1", NULL);
}

static void circle_is_a_deadlock_and_all_are_named(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_TO_ALL, 3, pairwise_all_to_all);
    for (int rank = 0; rank < 3; rank++) { /* all receive before they send */
        weft_step send = *step_of(&p, rank, 1);
        *step_of(&p, rank, 1) = *step_of(&p, rank, 2);
        *step_of(&p, rank, 2) = send;
    }
    expect_fault(&p, "lane 0 step 1 (recv from", "waits for ever: for data of rank", "rank 0", "rank 1",
                 "rank 2", NULL);
}

static void fence_in_a_circle_is_a_deadlock(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_TO_ALL, 2, pairwise_all_to_all);
    step_of(&p, 0, 2)->fence = 1; /* each receives only when the other has taken what it sent */
    step_of(&p, 1, 2)->fence = 1;
    expect_fault(&p, "rank 0 lane 0 step 2", "waits for its fence of rank 1", NULL);
    plan_make(&p, WEFT_ALL_TO_ALL, 2, pairwise_all_to_all);
    step_of(&p, 0, 0)->fence = 1;
    expect_fault(&p, "rank 0 lane 0 step 0", "its fence waits for 1 sends, but only 0 come before it", NULL);
}

static void missing_fence_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, 3, relay_broadcast);
    assert_int_equal(step_of(&p, 1, 2)->fence, 1);
    step_of(&p, 1, 2)->fence = 0;
    expect_fault(&p, "rank 1 lane 0 step 2", "overwrites scratch[0]", "(step 0)", NULL);
}

/* ---- results ----------------------------------------------------------------------------------- */

static void wrong_chunk_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 2, 1)->src.first = 3;
    expect_fault(&p, "rank 2 lane 0 step 1", "reduces chunk", NULL);
    plan_make(&p, WEFT_ALL_GATHER, 2, ring_all_gather);
    step_of(&p, 1, 2)->dst.first = 1;
    expect_fault(&p, "rank 1 ends with nothing in output[0], not rank 0's chunk 0", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 2, 1)->dst.first = 4;
    expect_fault(&p, "rank 2 lane 0 step 1", "output[4] is out of range: rank 2 has 4 chunks", NULL);
}

static void double_contribution_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, chain_all_reduce);
    *step_of(&p, 3, 0) = *step_of(&p, 3, 0);
    step_of(&p, 2, 0)->src.buffer = WEFT_OUTPUT; /* not written yet: only in place is it rank 2's own */
    expect_fault(&p, "rank 2 lane 0 step 0", "is read before anything is written", NULL);

    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    p.s[1]->sources[2].rank = 0;
    p.s[1]->sources[2].first = 1;
    expect_fault(&p, "rank 1 lane 0 step 4", "marked final, but its result has rank 0 twice and rank 2 never",
                 NULL);
}

static void order_is_checked_where_it_is_promised(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, chain_all_reduce);
    for (int rank = 0; rank < 4; rank++)
        p.s[rank]->keeps_order = true;
    step_of(&p, 2, 0)->flags &= (uint8_t)~WEFT_STEP_INCOMING_FIRST;
    expect_fault(&p, "rank 2 lane 0 step 0",
                 "combines rank 2's chunk 0 with ranks 0..1, which is not rank order", NULL);
}

static void final_marks_are_checked(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 0, 3)->flags = 0;
    expect_fault(&p, "output[1]", "no step marked final", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 0, 1)->flags = WEFT_STEP_FINAL;
    expect_fault(&p, "rank 0 lane 0 step 1", "marked final, but its result has", "of 4 ranks", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    step_of(&p, 1, 9)->flags = WEFT_STEP_FINAL;
    expect_fault(&p, "rank 1 lane 0 step 9", "final already", NULL);
}

static void input_is_the_callers(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 4, ring_all_reduce);
    step_of(&p, 0, 1)->dst.buffer = WEFT_INPUT;
    expect_fault(&p, "rank 0 lane 0 step 1", "writes to the input", NULL);
}

/* Wrong only where input and output are one buffer. */
static void only_in_place_is_wrong(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_TO_ALL, 3, pairwise_all_to_all);
    for (int rank = 0; rank < 3; rank++)
        p.s[rank]->not_in_place = false;
    expect_fault(&p, "[in place]", NULL);
}

static void parts_of_other_size_are_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, 3, relay_broadcast);
    step_of(&p, 2, 1)->dst.first = 1;
    expect_fault(&p, "rank 2 lane 0 step 1", "stores part 0 of a block at output[1]", NULL);
}

/* ---- shared memory ----------------------------------------------------------------------------- */

static void dropped_wait_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    drop_step(&p, 0, 2);
    expect_fault(&p, "rank 0 lane 0 step 3 (reduce", "input[0] of rank 1 is not published before this", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    drop_step(&p, 0, 8);
    expect_fault(&p, "rank 0 lane 0 step 9 (copy", "output[2] of rank 2 is not published", NULL);
}

static void dropped_exit_wait_is_found_when_mapped(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    drop_step(&p, 0, 13);
    expect_fault(&p, "rank 2 lane 0 step 9 (copy",
                 "may still read a buffer of rank 0 after that rank has returned", "mapped]", NULL);
}

/* As direct_all_reduce, but what is reduced is pushed to mapped peers. */
static plan pushing(void)
{
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    for (int rank = 0; rank < 3; rank++) {
        weft_step *steps = p.s[rank]->lane[0].steps;
        steps[5].flags |= WEFT_STEP_PUSH;
        steps[9].flags |= WEFT_STEP_PUSHED;
        steps[10].flags |= WEFT_STEP_PUSHED;
    }
    return p;
}

static void pushes_are_in_order(void **state)
{
    (void)state;
    plan p = pushing();
    expect_right(&p);
    p = pushing(); /* rank 0 pushes, and rank 1 may not have begun */
    drop_step(&p, 0, 2);
    expect_fault(&p, "rank 0 lane 0 step", NULL);
    p = pushing(); /* rank 1 takes rank 2's chunk for pushed before it knows */
    drop_step(&p, 1, 8);
    expect_fault(&p, "rank 1 lane 0 step", "output[2]", NULL);
    p = pushing();
    p.s[2]->lane[0].steps[5].flags = 0;
    expect_fault(&p, "taken for pushed, but the source's rank has not pushed it", NULL);
    p = pushing();
    p.s[2]->lane[0].steps[0].flags = WEFT_STEP_PUSH;
    expect_fault(&p, "is marked push, but does not publish output", NULL);
    p = pushing();
    p.s[2]->lane[0].steps[4].flags |= WEFT_STEP_PUSHED;
    expect_fault(&p, "is marked pushed, but does not copy", NULL);
}

static void dropped_signal_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    drop_step(&p, 2, 11);
    expect_fault(&p, "rank 0 lane 0 step 13 (wait for signal 3 of 2", "raises only 2", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    drop_step(&p, 2, 0);
    expect_fault(&p, "of rank 2 is not published before this", NULL);
}

static void signals_in_a_circle_are_a_deadlock(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 2, direct_all_reduce);
    for (int rank = 0; rank < 2; rank++) {
        weft_step wait = *step_of(&p, rank, 2);
        *step_of(&p, rank, 2) = *step_of(&p, rank, 1);
        *step_of(&p, rank, 1) = wait;
    }
    expect_fault(&p, "rank 0 lane 0 step 1 (wait for signal 1 of 1)",
                 "waits for ever: for a signal of rank 1", NULL);
}

static void always_waiting_for_a_mapped_only_signal_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    step_of(&p, 1, 6)->flags = WEFT_STEP_IF_MAPPED;
    expect_fault(&p, "step 7 (wait for signal 2 of 1)", "only raised if buffers are mapped", "staged]", NULL);
}

static void other_host_is_out_of_reach(void **state)
{
    (void)state;
    static const int hosts[] = { 0, 0, 1 };
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    p.group.host = hosts;
    expect_fault(&p, "rank 0 lane 0 step 3 (wait for signal 1 of 2)", "on another host", NULL);
}

/* Owner writes again what a peer may be reading. Steps of 2 ranks: publish signal wait reduce publish signal
 * wait copy signal wait. */
static void overwriting_what_peers_read_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 2, direct_all_reduce);
    *step_of(&p, 0, 7) = *step_of(&p, 0, 3);
    expect_fault(&p, "rank 1 lane 0 step 7", "output[0] of rank 0 is read while its owner may still write it",
                 NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 2, direct_all_reduce);
    *step_of(&p, 1, 7) = *step_of(&p, 1, 3);
    expect_fault(&p, "rank 1 lane 0 step 7",
                 "overwrites output[1], which rank 0 may still be reading in its step 7", NULL);
}

/* ---- lanes and whole schedules ----------------------------------------------------------------- */

static void two_lane_broadcast(weft_builder *b, int rank, int n)
{
    weft_build_shape(b, 2, 0, 2);
    for (uint32_t lane = 0; lane < 2; lane++) {
        if (rank != 0)
            weft_build_recv(b, lane, 0, weft_at(b, WEFT_OUTPUT, lane, 1), -1);
        for (int peer = 1; rank == 0 && peer < n; peer++)
            weft_build_send(b, lane, weft_at(b, WEFT_INPUT, lane, 1), peer);
        if (rank == 0)
            weft_build_copy(b, lane, weft_at(b, WEFT_INPUT, lane, 1), weft_at(b, WEFT_OUTPUT, lane, 1), 0);
    }
}

static void lanes_must_not_meet(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BROADCAST, 3, two_lane_broadcast);
    expect_right(&p);
    plan_make(&p, WEFT_BROADCAST, 3, two_lane_broadcast);
    p.s[1]->lane[1].steps[0].dst.first = 0;
    p.s[0]->lane[1].steps[0].src.first = 0;
    expect_fault(&p, "rank 1 lane 1 step 0", "another lane touches too", NULL);
}

static void disagreement_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, ring_all_reduce);
    p.s[2]->algorithm = WEFT_TREE;
    expect_fault(&p, "rank 2 has all_reduce by tree", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    p.s[1]->local = false;
    expect_fault(&p, "rank 1's schedule does not say `local`", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, ring_all_reduce);
    p.s[1]->lane[0].sends = 9;
    expect_fault(&p, "rank 1 lane 0 says 9 sends", NULL);
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    for (int rank = 0; rank < 3; rank++)
        p.s[rank]->publishes_output = false;
    expect_fault(&p, "rank 0 lane 0 step 5 (publish output[0])", "does not say so", NULL);
}

static void leaving_a_barrier_early_is_found(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_BARRIER, 4, dissemination_barrier);
    for (int rank = 0; rank < 4; rank++) {
        drop_step(&p, rank, 3);
        drop_step(&p, rank, 2);
    }
    expect_fault(&p, "rank 0 may leave the barrier before rank 1 has come", NULL);
}

/* Dropping any one step of a right schedule is an error, and the report never lacks a rank. */
static void every_dropped_step_is_found(void **state)
{
    (void)state;
    static const struct { weft_collective collective; plan_function function;
    } cases[] = {
        {WEFT_ALL_REDUCE, ring_all_reduce},  {WEFT_ALL_REDUCE, direct_all_reduce},
        {WEFT_ALL_REDUCE, chain_all_reduce}, {WEFT_ALL_GATHER, ring_all_gather},
        {WEFT_BROADCAST, relay_broadcast},   {WEFT_ALL_TO_ALL, pairwise_all_to_all},
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++)
        for (uint32_t step = 0;; step++) {
            plan p;
            plan_make(&p, cases[c].collective, 4, cases[c].function);
            if (step >= p.s[1]->lane[0].count) {
                plan_free(&p);
                break;
            }
            drop_step(&p, 1, step);
            expect_fault(&p, "rank ", NULL);
        }
}

static void out_of_memory_is_an_error(void **state)
{
    (void)state;
    plan p;
    plan_make(&p, WEFT_ALL_REDUCE, 3, direct_all_reduce);
    weft_status status = WEFT_ERR_MEMORY;
    for (long n = 1; status == WEFT_ERR_MEMORY; n++) {
        assert_true(n < 10000);
        weft_alloc_fail_at(n, false);
        status = plan_verify(&p);
        weft_alloc_fail_at(0, false);
    }
    assert_int_equal(status, WEFT_OK);
    plan_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_schedules_pass),
        cmocka_unit_test(dropped_send_leaves_receive_waiting),
        cmocka_unit_test(dropped_receive_leaves_send),
        cmocka_unit_test(wrong_peer_is_found),
        cmocka_unit_test(different_shapes_are_found),
        cmocka_unit_test(circle_is_a_deadlock_and_all_are_named),
        cmocka_unit_test(fence_in_a_circle_is_a_deadlock),
        cmocka_unit_test(missing_fence_is_found),
        cmocka_unit_test(wrong_chunk_is_found),
        cmocka_unit_test(double_contribution_is_found),
        cmocka_unit_test(order_is_checked_where_it_is_promised),
        cmocka_unit_test(final_marks_are_checked),
        cmocka_unit_test(input_is_the_callers),
        cmocka_unit_test(only_in_place_is_wrong),
        cmocka_unit_test(parts_of_other_size_are_found),
        cmocka_unit_test(dropped_wait_is_found),
        cmocka_unit_test(dropped_exit_wait_is_found_when_mapped),
        cmocka_unit_test(pushes_are_in_order),
        cmocka_unit_test(dropped_signal_is_found),
        cmocka_unit_test(signals_in_a_circle_are_a_deadlock),
        cmocka_unit_test(always_waiting_for_a_mapped_only_signal_is_found),
        cmocka_unit_test(other_host_is_out_of_reach),
        cmocka_unit_test(overwriting_what_peers_read_is_found),
        cmocka_unit_test(lanes_must_not_meet),
        cmocka_unit_test(disagreement_is_found),
        cmocka_unit_test(leaving_a_barrier_early_is_found),
        cmocka_unit_test(every_dropped_step_is_found),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

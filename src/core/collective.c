/* From a call of the API to a running collective: argument checks, in-place forms, choice of the schedule, binding. */
#include "core/comm.h"

#include <string.h>

static bool reduces(weft_collective c)
{
    return c == WEFT_ALL_REDUCE || c == WEFT_REDUCE || c == WEFT_REDUCE_SCATTER;
}

static bool rooted(weft_collective c)
{
    return c == WEFT_BROADCAST || c == WEFT_REDUCE || c == WEFT_GATHER || c == WEFT_SCATTER;
}

/* Number of blocks of each side, as schedule.h's table has them. */
static size_t input_blocks(const weft_comm *c, const weft_call *call)
{
    bool many = call->collective == WEFT_REDUCE_SCATTER || call->collective == WEFT_ALL_TO_ALL ||
                (call->collective == WEFT_SCATTER && c->rank == call->root);
    return many ? (size_t)c->ranks : 1;
}
static size_t output_blocks(const weft_comm *c, const weft_call *call)
{
    bool many = call->collective == WEFT_ALL_GATHER || call->collective == WEFT_ALL_TO_ALL ||
                (call->collective == WEFT_GATHER && c->rank == call->root);
    return many ? (size_t)c->ranks : 1;
}

/* Elements on one side. */
static size_t elements(size_t blocks, size_t count, const size_t *counts)
{
    if (!counts)
        return blocks * count;
    size_t total = 0;
    for (size_t b = 0; b < blocks; b++)
        total += counts[b];
    return total;
}

static bool uses_input(const weft_comm *c, const weft_call *call)
{
    return (call->collective != WEFT_BROADCAST && call->collective != WEFT_SCATTER) || c->rank == call->root;
}
static bool uses_output(const weft_comm *c, const weft_call *call)
{
    return (call->collective != WEFT_REDUCE && call->collective != WEFT_GATHER) || c->rank == call->root;
}

static weft_status check_counts(const weft_comm *c, const weft_call *call)
{
    size_t limit = (size_t)PTRDIFF_MAX / weft_type_bytes(call->type) / (size_t)c->ranks;
    const size_t *arrays[2] = {call->send_counts, call->recv_counts};
    if (call->count > limit)
        return weft_fail(WEFT_ERR_INVALID, "count %zu of %s is beyond the address space", call->count,
                         weft_type_name(call->type));
    for (int a = 0; a < 2; a++)
        for (size_t b = 0; arrays[a] && b < (a ? output_blocks(c, call) : input_blocks(c, call)); b++)
            if (arrays[a][b] > limit)
                return weft_fail(WEFT_ERR_INVALID, "count %zu for rank %zu is beyond the address space", arrays[a][b], b);
    return WEFT_OK;
}

weft_status weft_call_check(const weft_comm *c, const weft_call *call)
{
    const char *name = weft_collective_name(call->collective);
    if (call->collective == WEFT_BARRIER)
        return WEFT_OK;
    if (weft_type_bytes(call->type) == 0)
        return weft_fail(WEFT_ERR_INVALID, "%s: type %d is unknown", name, (int)call->type);
    if (rooted(call->collective) && (call->root < 0 || call->root >= c->ranks))
        return weft_fail(WEFT_ERR_INVALID, "%s: root %d, but ranks are 0 to %d", name, call->root, c->ranks - 1);
    weft_reduction reduction;
    weft_status status = WEFT_OK;
    if (reduces(call->collective))
        status = weft_reduction_bind(&reduction, call->type, call->op, c->ranks);
    if (status == WEFT_OK)
        status = check_counts(c, call);
    if (status != WEFT_OK)
        return weft_fail_context(status, "%s", name);
    if (!call->send && uses_input(c, call) && elements(input_blocks(c, call), call->count, call->send_counts) > 0)
        return weft_fail(WEFT_ERR_INVALID, "%s: send is NULL for a count that is not 0", name);
    if (!call->recv && uses_output(c, call) && elements(output_blocks(c, call), call->count, call->recv_counts) > 0)
        return weft_fail(WEFT_ERR_INVALID, "%s: recv is NULL for a count that is not 0", name);
    if (call->send == WEFT_IN_PLACE && call->recv == WEFT_IN_PLACE)
        return weft_fail(WEFT_ERR_INVALID, "%s: send and recv are both WEFT_IN_PLACE", name);
    if ((call->send == WEFT_IN_PLACE && !uses_output(c, call)) || (call->recv == WEFT_IN_PLACE && !uses_input(c, call)))
        return weft_fail(WEFT_ERR_INVALID, "%s: WEFT_IN_PLACE on rank %d, but only the root, rank %d, has both buffers", name,
                         c->rank, call->root);
    return WEFT_OK;
}

/* ---- in place ---------------------------------------------------------------------------------- */

static size_t block_offset(const weft_call *call, bool output, int block)
{
    const size_t *displs = output ? call->recv_displs : call->send_displs;
    return displs ? displs[block] : (size_t)block * call->count;
}

/* Where this rank's part of the other buffer lies, in elements: the place of equal data. */
static size_t shared_offset(const weft_comm *c, const weft_call *call)
{
    switch (call->collective) {
    case WEFT_ALL_GATHER:
    case WEFT_GATHER:
        return block_offset(call, true, c->rank);
    case WEFT_REDUCE_SCATTER:
    case WEFT_SCATTER:
        return block_offset(call, false, c->rank);
    default:
        return 0;
    }
}

weft_status weft_call_resolve(const weft_comm *c, weft_call *call, bool *in_place)
{
    size_t offset = shared_offset(c, call) * weft_type_bytes(call->type);
    bool recv_is_part = call->collective == WEFT_REDUCE_SCATTER || call->collective == WEFT_SCATTER;
    if (call->send == WEFT_IN_PLACE) {
        if (recv_is_part)
            return weft_fail(WEFT_ERR_INVALID, "%s: in place means recv, not send, is WEFT_IN_PLACE",
                             weft_collective_name(call->collective));
        call->send = uses_output(c, call) ? (char *)call->recv + offset : NULL;
    } else if (call->recv == WEFT_IN_PLACE) {
        if (call->collective == WEFT_ALL_GATHER || call->collective == WEFT_GATHER)
            return weft_fail(WEFT_ERR_INVALID, "%s: in place means send, not recv, is WEFT_IN_PLACE",
                             weft_collective_name(call->collective));
        call->recv = uses_input(c, call) ? (char *)call->send + offset : NULL;
    }
    if (call->collective == WEFT_BROADCAST && c->rank != call->root)
        call->send = call->recv;
    if (call->collective == WEFT_REDUCE && c->rank != call->root)
        call->recv = NULL;
    const char *shared = recv_is_part ? (const char *)call->send + offset : (const char *)call->recv + offset;
    const char *part = recv_is_part ? call->recv : call->send;
    *in_place = call->send && call->recv && part == shared;
    if (*in_place || !call->send || !call->recv)
        return WEFT_OK;
    size_t element = weft_type_bytes(call->type);
    size_t in = call->send_displs ? 0 : elements(input_blocks(c, call), call->count, call->send_counts) * element;
    size_t out = call->recv_displs ? 0 : elements(output_blocks(c, call), call->count, call->recv_counts) * element;
    const char *a = call->send, *b = call->recv;
    if (in && out && uses_input(c, call) && uses_output(c, call) && a < b + out && b < a + in)
        return weft_fail(WEFT_ERR_INVALID, "%s: send and recv overlap, but not as 'in place' does",
                         weft_collective_name(call->collective));
    return WEFT_OK;
}

/* ---- starting ---------------------------------------------------------------------------------- */

static size_t tuner_bytes(const weft_comm *c, const weft_call *call)
{
    size_t bytes = call->count * weft_type_bytes(call->type);
    bool per_rank = call->collective != WEFT_ALL_REDUCE && call->collective != WEFT_BROADCAST && call->collective != WEFT_REDUCE;
    return per_rank ? bytes * (size_t)c->ranks : bytes;
}

static uint8_t op_code(weft_op op)
{
    unsigned char factor[8];
    if (op >= 0 && op < WEFT_OP_COUNT)
        return (uint8_t)op;
    if (weft_op_premul_factor(op, factor))
        return WEFT_OP_COUNT + 2;
    return (uint8_t)(WEFT_OP_COUNT + (weft_op_commutes(op) ? 0 : 1));
}

/* A copy of the input, where it must not share memory with the output, or its product with the factor. */
static weft_status private_input(weft_request *r, weft_call *call, const void *factor)
{
    size_t count = elements(input_blocks(r->comm, call), call->count, call->send_counts);
    size_t bytes = count * weft_type_bytes(call->type);
    if (r->temporary_capacity < bytes) {
        weft_free(r->temporary);
        r->temporary_capacity = 0;
        r->temporary = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(bytes, WEFT_CACHE_LINE));
        if (!r->temporary)
            return weft_fail(WEFT_ERR_MEMORY, "no memory for a copy of the input (%zu bytes)", bytes);
        r->temporary_capacity = bytes;
    }
    if (factor)
        weft_premultiply(r->temporary, call->send, count, call->type, factor);
    else
        weft_copy(r->temporary, call->send, bytes);
    call->send = r->temporary;
    return WEFT_OK;
}

static void execution_done(void *context, weft_execution *x)
{
    weft_request *r = context;
    r->execution = NULL;
    weft_status status = x->status;
    weft_execution_put(x);
    weft_request_completed(r, status);
}

static weft_status prepare(const weft_comm *c, const weft_call *call, const weft_ready *ready, bool staged,
                           weft_execution_args *args)
{
    *args = (weft_execution_args){
        .ready = ready, .input = call->send, .output = call->recv, .count = call->count, .input_counts = call->send_counts,
        .input_displs = call->send_displs, .output_counts = call->recv_counts, .output_displs = call->recv_displs,
        .sizes_shared = call->sizes_shared, .staged = staged,
        .reduction = {.type = call->type, .divisor = 1},
        .fingerprint = {.collective = (uint8_t)call->collective, .type = (uint8_t)call->type,
                        .algorithm = (uint8_t)ready->schedule->algorithm, .root = call->root,
                        .count = call->vector ? 0 : call->count}};
    if (!reduces(call->collective))
        return WEFT_OK;
    args->fingerprint.op = op_code(call->op);
    return weft_reduction_bind(&args->reduction, call->type, call->op, c->ranks);
}

weft_status weft_collective_begin(weft_request *r)
{
    weft_comm *c = r->comm;
    weft_call call = r->call;
    bool in_place = false;
    unsigned char factor[8];
    bool premultiplied = reduces(call.collective) && weft_op_premul_factor(call.op, factor);
    bool commutes = !reduces(call.collective) || weft_op_commutes(call.op);
    weft_algorithm algorithm;
    const weft_ready *ready = NULL;
    weft_status status = weft_call_resolve(c, &call, &in_place);
    if (status == WEFT_OK)
        status =
            weft_tuner_choose(&c->tuner, call.collective, call.root, tuner_bytes(c, &call), call.vector, commutes, &algorithm);
    if (status == WEFT_OK)
        status = weft_tuner_schedule(&c->tuner, call.collective, algorithm, call.root, call.vector, &ready);
    /* published input is staged before anyone writes the output, so it need not be copied once more */
    bool copies = in_place && status == WEFT_OK && ready->schedule->not_in_place && !ready->schedule->publishes_input;
    if (status == WEFT_OK && (premultiplied || copies))
        status = private_input(r, &call, premultiplied ? factor : NULL);
    if (status != WEFT_OK)
        return status;
    weft_execution_args args;
    status = prepare(c, &call, ready, in_place && ready->schedule->not_in_place, &args);
    if (status != WEFT_OK)
        return status;
    r->execution = weft_execution_get(&c->exec);
    if (!r->execution)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a collective");
    status = weft_execution_bind(r->execution, &args);
    if (status != WEFT_OK) {
        weft_execution_put(r->execution);
        r->execution = NULL;
        return status;
    }
    size_t bytes = tuner_bytes(c, &call);
    if (r->blocks && !r->point && !premultiplied && !copies)
        weft_short_learn(c, &r->call, &args, bytes);
    r->record = weft_record_begin(c, &args.fingerprint, r->point ? r->point->sequence : c->exec.next_sequence, bytes);
    if (r->point)
        weft_execution_resume(r->execution, r->point, execution_done, r);
    else
        weft_execution_start(r->execution, execution_done, r);
    return WEFT_OK;
}

weft_status weft_call_run(weft_comm *c, const weft_call *call)
{
    weft_lock_take(&c->engine->lock);
    weft_request *r = weft_request_get(c, WEFT_REQUEST_COLLECTIVE);
    weft_status status = WEFT_OK;
    if (r) {
        r->call = *call;
        status = weft_request_begin(r);
    }
    return weft_request_finish_call(c, r, status, NULL);
}

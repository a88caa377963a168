/* The collectives and messages of the public API: each call as data, then one way in. */
#include "core/comm.h"

#include <string.h>

/* Copies a vector call's counts and displacements into the request, displacements made explicit. */
static weft_status copy_arrays(weft_request *r, size_t ranks)
{
    weft_call *call = &r->call;
    if (r->arrays_capacity < 4 * ranks) {
        weft_free(r->arrays);
        r->arrays_capacity = 0;
        r->arrays = weft_alloc_array(4 * ranks, sizeof *r->arrays);
        if (!r->arrays)
            return weft_fail(WEFT_ERR_MEMORY, "no memory for the counts of %zu ranks", ranks);
        r->arrays_capacity = 4 * ranks;
    }
    const size_t **counts[2] = {&call->send_counts, &call->recv_counts};
    const size_t **displs[2] = {&call->send_displs, &call->recv_displs};
    for (int side = 0; side < 2; side++) {
        if (!*counts[side])
            continue;
        size_t *to = r->arrays + (size_t)side * 2 * ranks, packed = 0;
        size_t blocks = side == call->single_side ? 1 : ranks;
        for (size_t b = 0; b < blocks; b++) {
            to[b] = (*counts[side])[b];
            to[ranks + b] = *displs[side] ? (*displs[side])[b] : packed;
            packed += to[b];
        }
        *counts[side] = to;
        *displs[side] = to + ranks;
    }
    return WEFT_OK;
}

static weft_status check_comm(const weft_comm *c)
{
    weft_clear_error();
    if (!c)
        return weft_fail(WEFT_ERR_INVALID, "comm is NULL");
    if (c->engine->forks != weft_fork_count())
        return weft_fail(WEFT_ERR_USAGE, "this communicator belongs to the parent process of a fork");
    return WEFT_OK;
}

/* The way in for everything: r is prepared; begins it, or puts it aside for the group or as persistent request. */
static weft_status enter(weft_request *r, bool persistent, weft_request **request)
{
    weft_comm *c = r->comm;
    if (persistent) {
        r->persistent = true;
        *request = r;
        weft_lock_release(&c->engine->lock);
        return WEFT_OK;
    }
    if (weft_group_open()) {
        if (request)
            weft_request_put(r);
        weft_lock_release(&c->engine->lock);
        return request ? weft_fail(WEFT_ERR_USAGE, "inside a group request must be NULL: weft_group_end has it")
                       : weft_group_add(r);
    }
    r->blocks = !request;
    return weft_request_finish_call(c, r, weft_request_begin(r), request);
}

static weft_status submit(weft_comm *c, const weft_call *call, bool persistent, weft_request **request)
{
    weft_status status = check_comm(c);
    if (status == WEFT_OK && !request && !call->vector && !weft_group_open() && weft_short_run(c, call, &status))
        return status;
    if (status == WEFT_OK && persistent && !request)
        status = weft_fail(WEFT_ERR_INVALID, "request is NULL: a persistent request needs a place");
    if (status == WEFT_OK)
        status = weft_call_check(c, call);
    if (status != WEFT_OK)
        return status;
    weft_lock_take(&c->engine->lock);
    weft_request *r = weft_request_get(c, WEFT_REQUEST_COLLECTIVE);
    if (r) {
        r->call = *call;
        if (call->vector)
            status = copy_arrays(r, (size_t)c->ranks);
    }
    if (!r || status != WEFT_OK)
        return weft_request_finish_call(c, r, status, NULL);
    return enter(r, persistent, request);
}

/* send_counts and recv_counts of one element stand for this rank's own block. */
enum { SEND_SINGLE = 0, RECV_SINGLE = 1, NONE_SINGLE = -1 };

weft_status weft_all_reduce(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                            weft_op op, weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_REDUCE, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op};
    return submit(comm, &call, false, request);
}

weft_status weft_all_reduce_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                 weft_type type, weft_op op, weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_REDUCE, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op};
    return submit(comm, &call, true, request);
}

weft_status weft_all_gather(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                            weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_GATHER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type};
    return submit(comm, &call, false, request);
}

weft_status weft_all_gather_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                 weft_type type, weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_GATHER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type};
    return submit(comm, &call, true, request);
}

weft_status weft_reduce_scatter(weft_comm *comm, const void *send, void *recv, size_t count,
                                weft_type type, weft_op op, weft_request **request)
{
    weft_call call = {.collective = WEFT_REDUCE_SCATTER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op};
    return submit(comm, &call, false, request);
}

weft_status weft_reduce_scatter_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                     weft_type type, weft_op op, weft_request **request)
{
    weft_call call = {.collective = WEFT_REDUCE_SCATTER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op};
    return submit(comm, &call, true, request);
}

weft_status weft_broadcast(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                           int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_BROADCAST, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, false, request);
}

weft_status weft_broadcast_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                weft_type type, int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_BROADCAST, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, true, request);
}

weft_status weft_reduce(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                        weft_op op, int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_REDUCE, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op, .root = root};
    return submit(comm, &call, false, request);
}

weft_status weft_reduce_init(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                             weft_op op, int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_REDUCE, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .op = op, .root = root};
    return submit(comm, &call, true, request);
}

weft_status weft_gather(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                        int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_GATHER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, false, request);
}

weft_status weft_gather_init(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                             int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_GATHER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, true, request);
}

weft_status weft_scatter(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                         int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_SCATTER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, false, request);
}

weft_status weft_scatter_init(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                              int root, weft_request **request)
{
    weft_call call = {.collective = WEFT_SCATTER, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type, .root = root};
    return submit(comm, &call, true, request);
}

weft_status weft_all_to_all(weft_comm *comm, const void *send, void *recv, size_t count, weft_type type,
                            weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_TO_ALL, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type};
    return submit(comm, &call, false, request);
}

weft_status weft_all_to_all_init(weft_comm *comm, const void *send, void *recv, size_t count,
                                 weft_type type, weft_request **request)
{
    weft_call call = {.collective = WEFT_ALL_TO_ALL, .send = send, .recv = recv, .count = count,
                      .sizes_shared = true, .type = type};
    return submit(comm, &call, true, request);
}

weft_status weft_barrier(weft_comm *comm, weft_request **request)
{
    weft_call call = {.collective = WEFT_BARRIER, .sizes_shared = true, .type = WEFT_U8};
    return submit(comm, &call, false, request);
}

weft_status weft_barrier_init(weft_comm *comm, weft_request **request)
{
    weft_call call = {.collective = WEFT_BARRIER, .sizes_shared = true, .type = WEFT_U8};
    return submit(comm, &call, true, request);
}

static weft_status all_gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                const size_t *counts, const size_t *displs, weft_type type, bool persistent,
                                weft_request **request)
{
    if (comm && (!counts))
        return weft_fail(WEFT_ERR_INVALID, "all_gather_v: counts is NULL");
    if (comm && (counts[comm->rank] != send_count))
        return weft_fail(WEFT_ERR_INVALID, "all_gather_v: send_count is %zu, but counts[%d] is %zu", send_count, comm->rank,
                         counts[comm->rank]);
    weft_call call = {.collective = WEFT_ALL_GATHER, .vector = true, .send = send, .recv = recv,
                      .send_counts = &send_count, .recv_counts = counts, .recv_displs = displs,
                      .single_side = SEND_SINGLE, .sizes_shared = true, .type = type};
    return submit(comm, &call, persistent, request);
}

weft_status weft_all_gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                              const size_t *counts, const size_t *displs, weft_type type,
                              weft_request **request)
{
    return all_gather_v(comm, send, send_count, recv, counts, displs, type, false, request);
}

weft_status weft_all_gather_v_init(weft_comm *comm, const void *send, size_t send_count, void *recv,
                                   const size_t *counts, const size_t *displs, weft_type type,
                                   weft_request **request)
{
    return all_gather_v(comm, send, send_count, recv, counts, displs, type, true, request);
}

static weft_status reduce_scatter_v(weft_comm *comm, const void *send, void *recv, const size_t *counts,
                                    weft_type type, weft_op op, bool persistent, weft_request **request)
{
    if (comm && (!counts))
        return weft_fail(WEFT_ERR_INVALID, "reduce_scatter_v: counts is NULL");
    weft_call call = {.collective = WEFT_REDUCE_SCATTER, .vector = true, .send = send, .recv = recv,
                      .send_counts = counts, .recv_counts = comm && counts ? &counts[comm->rank] : NULL,
                      .single_side = RECV_SINGLE, .sizes_shared = true, .type = type, .op = op};
    return submit(comm, &call, persistent, request);
}

weft_status weft_reduce_scatter_v(weft_comm *comm, const void *send, void *recv, const size_t *counts,
                                  weft_type type, weft_op op, weft_request **request)
{
    return reduce_scatter_v(comm, send, recv, counts, type, op, false, request);
}

weft_status weft_reduce_scatter_v_init(weft_comm *comm, const void *send, void *recv, const size_t *counts,
                                       weft_type type, weft_op op, weft_request **request)
{
    return reduce_scatter_v(comm, send, recv, counts, type, op, true, request);
}

static weft_status gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                            const size_t *counts, const size_t *displs, weft_type type, int root,
                            bool persistent, weft_request **request)
{
    if (comm && (comm->rank == root && !counts))
        return weft_fail(WEFT_ERR_INVALID, "gather_v: counts is NULL at the root");
    if (comm && (comm->rank == root && counts[root] != send_count))
        return weft_fail(WEFT_ERR_INVALID, "gather_v: send_count is %zu, but counts[%d] is %zu", send_count, root,
                         counts[root]);
    weft_call call = {.collective = WEFT_GATHER, .vector = true, .send = send, .recv = recv,
                      .send_counts = &send_count, .recv_counts = comm && comm->rank == root ? counts : NULL,
                      .recv_displs = displs, .single_side = SEND_SINGLE, .type = type, .root = root};
    return submit(comm, &call, persistent, request);
}

weft_status weft_gather_v(weft_comm *comm, const void *send, size_t send_count, void *recv,
                          const size_t *counts, const size_t *displs, weft_type type, int root,
                          weft_request **request)
{
    return gather_v(comm, send, send_count, recv, counts, displs, type, root, false, request);
}

weft_status weft_gather_v_init(weft_comm *comm, const void *send, size_t send_count, void *recv,
                               const size_t *counts, const size_t *displs, weft_type type, int root,
                               weft_request **request)
{
    return gather_v(comm, send, send_count, recv, counts, displs, type, root, true, request);
}

static weft_status scatter_v(weft_comm *comm, const void *send, const size_t *counts, const size_t *displs,
                             void *recv, size_t recv_count, weft_type type, int root, bool persistent,
                             weft_request **request)
{
    if (comm && (comm->rank == root && !counts))
        return weft_fail(WEFT_ERR_INVALID, "scatter_v: counts is NULL at the root");
    if (comm && (comm->rank == root && counts[root] != recv_count))
        return weft_fail(WEFT_ERR_INVALID, "scatter_v: recv_count is %zu, but counts[%d] is %zu", recv_count, root,
                         counts[root]);
    weft_call call = {.collective = WEFT_SCATTER, .vector = true, .send = send, .recv = recv,
                      .send_counts = comm && comm->rank == root ? counts : NULL, .send_displs = displs,
                      .recv_counts = &recv_count, .single_side = RECV_SINGLE, .type = type, .root = root};
    return submit(comm, &call, persistent, request);
}

weft_status weft_scatter_v(weft_comm *comm, const void *send, const size_t *counts, const size_t *displs,
                           void *recv, size_t recv_count, weft_type type, int root, weft_request **request)
{
    return scatter_v(comm, send, counts, displs, recv, recv_count, type, root, false, request);
}

weft_status weft_scatter_v_init(weft_comm *comm, const void *send, const size_t *counts,
                                const size_t *displs, void *recv, size_t recv_count, weft_type type,
                                int root, weft_request **request)
{
    return scatter_v(comm, send, counts, displs, recv, recv_count, type, root, true, request);
}

static bool all_zero(const size_t *counts, int ranks)
{
    for (int r = 0; r < ranks; r++)
        if (counts[r])
            return false;
    return true;
}

static weft_status all_to_all_v(weft_comm *comm, const void *send, const size_t *send_counts,
                                const size_t *send_displs, void *recv, const size_t *recv_counts,
                                const size_t *recv_displs, weft_type type, bool persistent,
                                weft_request **request)
{
    if (comm && (!send_counts || !recv_counts))
        return weft_fail(WEFT_ERR_INVALID, "all_to_all_v: send_counts or recv_counts is NULL");
    bool one_way = comm && (all_zero(send_counts, comm->ranks) || all_zero(recv_counts, comm->ranks));
    if (comm && (send == WEFT_IN_PLACE || recv == WEFT_IN_PLACE || (send && send == recv && !one_way)))
        return weft_fail(WEFT_ERR_INVALID, "all_to_all_v: in place is not possible: give two buffers");
    if (comm && (send_counts[comm->rank] != recv_counts[comm->rank]))
        return weft_fail(WEFT_ERR_INVALID, "all_to_all_v: send_counts[%d] is %zu, but recv_counts[%d] is %zu", comm->rank,
                         send_counts[comm->rank], comm->rank, recv_counts[comm->rank]);
    weft_call call = {.collective = WEFT_ALL_TO_ALL, .vector = true, .send = send, .recv = recv,
                      .send_counts = send_counts, .send_displs = send_displs,
                      .recv_counts = recv_counts, .recv_displs = recv_displs,
                      .single_side = NONE_SINGLE, .type = type};
    return submit(comm, &call, persistent, request);
}

weft_status weft_all_to_all_v(weft_comm *comm, const void *send, const size_t *send_counts,
                              const size_t *send_displs, void *recv, const size_t *recv_counts,
                              const size_t *recv_displs, weft_type type, weft_request **request)
{
    return all_to_all_v(comm, send, send_counts, send_displs, recv, recv_counts, recv_displs, type, false,
                        request);
}

weft_status weft_all_to_all_v_init(weft_comm *comm, const void *send, const size_t *send_counts,
                                   const size_t *send_displs, void *recv, const size_t *recv_counts,
                                   const size_t *recv_displs, weft_type type, weft_request **request)
{
    return all_to_all_v(comm, send, send_counts, send_displs, recv, recv_counts, recv_displs, type, true,
                        request);
}

/* ---- point to point ---------------------------------------------------------------------------- */

static weft_status check_message(const weft_comm *c, const void *buffer, size_t count, weft_type type, int peer, int tag,
                                 bool receive)
{
    weft_status status = check_comm(c);
    const char *name = receive ? "recv" : "send";
    if (status != WEFT_OK)
        return status;
    if (weft_type_bytes(type) == 0)
        return weft_fail(WEFT_ERR_INVALID, "%s: type %d is unknown", name, (int)type);
    if (count > (size_t)PTRDIFF_MAX / weft_type_bytes(type))
        return weft_fail(WEFT_ERR_INVALID, "%s: count %zu is beyond the address space", name, count);
    if (peer >= c->ranks || peer < (receive ? WEFT_ANY_SOURCE : 0))
        return weft_fail(WEFT_ERR_INVALID, "%s: rank %d, but ranks are 0 to %d", name, peer, c->ranks - 1);
    if (tag < (receive ? WEFT_ANY_TAG : 0))
        return weft_fail(WEFT_ERR_INVALID, "%s: tag %d is negative", name, tag);
    if (!buffer && count > 0)
        return weft_fail(WEFT_ERR_INVALID, "%s: buffer is NULL for a count that is not 0", name);
    return WEFT_OK;
}

static weft_status submit_message(weft_comm *c, const weft_call *call, weft_request_kind kind, int tag, weft_recv_info *info,
                                  bool persistent, weft_request **request)
{
    weft_status status = check_message(c, kind == WEFT_REQUEST_SEND ? call->send : call->recv, call->count, call->type,
                                       call->root, tag, kind == WEFT_REQUEST_RECV);
    if (status == WEFT_OK && persistent && !request)
        status = weft_fail(WEFT_ERR_INVALID, "request is NULL: a persistent request needs a place");
    if (status != WEFT_OK)
        return status;
    weft_lock_take(&c->engine->lock);
    weft_request *r = weft_request_get(c, kind);
    if (!r)
        return weft_request_finish_call(c, NULL, WEFT_ERR_MEMORY, NULL);
    r->call = *call;
    r->tag = tag;
    r->info = info;
    return enter(r, persistent, request);
}

weft_status weft_send(weft_comm *comm, const void *buffer, size_t count, weft_type type, int dest, int tag,
                      weft_request **request)
{
    weft_call call = {.send = buffer, .count = count, .type = type, .root = dest};
    return submit_message(comm, &call, WEFT_REQUEST_SEND, tag, NULL, false, request);
}

weft_status weft_send_init(weft_comm *comm, const void *buffer, size_t count, weft_type type, int dest, int tag,
                           weft_request **request)
{
    weft_call call = {.send = buffer, .count = count, .type = type, .root = dest};
    return submit_message(comm, &call, WEFT_REQUEST_SEND, tag, NULL, true, request);
}

weft_status weft_recv(weft_comm *comm, void *buffer, size_t count, weft_type type, int source, int tag,
                      weft_recv_info *info, weft_request **request)
{
    weft_call call = {.recv = buffer, .count = count, .type = type, .root = source};
    return submit_message(comm, &call, WEFT_REQUEST_RECV, tag, info, false, request);
}

weft_status weft_recv_init(weft_comm *comm, void *buffer, size_t count, weft_type type, int source, int tag,
                           weft_recv_info *info, weft_request **request)
{
    weft_call call = {.recv = buffer, .count = count, .type = type, .root = source};
    return submit_message(comm, &call, WEFT_REQUEST_RECV, tag, info, true, request);
}

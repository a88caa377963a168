/* One collective from MPI's arguments to Weft's call: the layout of both sides, packing of what is not contiguous, and the call
 * itself. Requests are in requests.c. */
#include "weft_mpi.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- preparing --------------------------------------------------------------------------------- */

weft_mpi_comm *weft_mpi_call_comm(weft_mpi_kind kind, weft_mpi_form form, MPI_Comm comm)
{
    weft_mpi_fate fate;
    weft_mpi_comm *c = weft_mpi_comm_of(comm, form, &fate);
    if (!c)
        weft_mpi_count(kind, fate, 0);
    return c;
}

void weft_mpi_operation_begin(weft_mpi_operation *o, weft_mpi_kind kind, weft_mpi_form form, weft_mpi_comm *c)
{
    memset(o, 0, sizeof *o);
    o->kind = kind;
    o->form = form;
    o->type = WEFT_U8;
    o->comm = c;
}

bool weft_mpi_pass(weft_mpi_operation *o, weft_mpi_fate fate)
{
    weft_mpi_count(o->kind, fate, 0);
    weft_mpi_operation_clear(o);
    return false;
}

void *weft_mpi_memory(weft_mpi_operation *o, size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        o->failed = WEFT_ERR_MEMORY;
    return memory;
}

static void place(weft_mpi_operation *o, weft_mpi_side *s)
{
    s->packed = !s->layout.contiguous && s->total > 0;
    s->data = s->packed ? weft_mpi_memory(o, s->total) : s->user;
}

void weft_mpi_side_set(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, size_t count, MPI_Datatype type, int blocks)
{
    s->user = (char *)buffer;
    s->type = type;
    s->blocks = blocks;
    s->block_count = count;
    s->total = count * s->layout.size * (size_t)blocks;
    place(o, s);
}

/* Weft's displacements are not negative, MPI's may be: they count from the lowest block. */
void weft_mpi_side_set_vector(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, weft_mpi_numbers counts,
                              weft_mpi_numbers displs, MPI_Datatype type, int blocks)
{
    s->user = (char *)buffer;
    s->type = type;
    s->blocks = blocks;
    s->bytes = weft_mpi_memory(o, 3 * (size_t)blocks * sizeof *s->bytes);
    if (!s->bytes)
        return;
    s->offsets = s->bytes + blocks;
    s->places = (ptrdiff_t *)(s->offsets + blocks);
    ptrdiff_t lowest = 0;
    for (int i = 0; i < blocks; i++) {
        s->bytes[i] = (size_t)weft_mpi_number(counts, i) * s->layout.size;
        s->offsets[i] = s->total;
        s->places[i] = s->bytes[i] ? weft_mpi_number(displs, i) * s->layout.extent : 0;
        s->total += s->bytes[i];
        if (s->places[i] < lowest)
            lowest = s->places[i];
    }
    place(o, s);
    if (s->packed)
        return;
    for (int i = 0; i < blocks; i++)
        s->offsets[i] = s->bytes[i] ? (size_t)(s->places[i] - lowest) : 0;
    if (lowest)
        s->data += lowest;
}

void weft_mpi_operation_clear(weft_mpi_operation *o)
{
    weft_mpi_side *const sides[] = {&o->send, &o->recv};
    for (int i = 0; i < 2; i++) {
        if (sides[i]->packed)
            free(sides[i]->data);
        if (sides[i]->own_type)
            PMPI_Type_free(&sides[i]->type);
        free(sides[i]->bytes);
        sides[i]->packed = false;
        sides[i]->own_type = false;
        sides[i]->bytes = NULL;
    }
    free(o->counts);
    free(o->result);
    o->counts = NULL;
    o->result = NULL;
}

/* ---- packing ----------------------------------------------------------------------------------- */

/* One element of more bytes than MPI_Pack can count: as a message from this rank to itself. */
static int copy_huge(char *user, const weft_mpi_side *s, char *packed, bool to_packed)
{
    enum { PART = 1 << 20 };
    size_t parts = s->layout.size / PART;
    int lengths[] = {(int)parts, (int)(s->layout.size % PART)};
    MPI_Aint places[] = {0, (MPI_Aint)(parts * PART)};
    MPI_Datatype types[] = {MPI_DATATYPE_NULL, MPI_BYTE}, bytes;
    MPI_Comm self;
    int code = PMPI_Type_contiguous(PART, MPI_BYTE, &types[0]);
    if (code != MPI_SUCCESS || (code = PMPI_Type_create_struct(2, lengths, places, types, &bytes)) != MPI_SUCCESS ||
        (code = PMPI_Type_commit(&bytes)) != MPI_SUCCESS || (code = PMPI_Comm_dup(MPI_COMM_SELF, &self)) != MPI_SUCCESS)
        return code; /* MPI_COMM_SELF's error handler knows */
    code = to_packed ? PMPI_Sendrecv(user, 1, s->type, 0, 0, packed, 1, bytes, 0, 0, self, MPI_STATUS_IGNORE)
                     : PMPI_Sendrecv(packed, 1, bytes, 0, 0, user, 1, s->type, 0, 0, self, MPI_STATUS_IGNORE);
    PMPI_Comm_free(&self);
    PMPI_Type_free(&bytes);
    PMPI_Type_free(&types[0]);
    return code;
}

/* Between the user's elements and their packed copy, in pieces that MPI's int can count. */
static int copy_packed(char *user, size_t count, const weft_mpi_side *s, char *packed, bool to_packed)
{
    size_t most = s->layout.size ? INT_MAX / s->layout.size : INT_MAX;
    for (; most == 0 && count > 0; count--) {
        int code = copy_huge(user, s, packed, to_packed);
        if (code != MPI_SUCCESS)
            return code;
        user += s->layout.extent;
        packed += s->layout.size;
    }
    while (count > 0) {
        size_t n = count < most ? count : most;
        int bytes = (int)(n * s->layout.size), position = 0;
        int code = to_packed ? PMPI_Pack(user, (int)n, s->type, packed, bytes, &position, MPI_COMM_SELF)
                             : PMPI_Unpack(packed, bytes, &position, user, (int)n, s->type, MPI_COMM_SELF);
        if (code != MPI_SUCCESS)
            return code;
        user += (ptrdiff_t)n * s->layout.extent;
        packed += bytes;
        count -= n;
    }
    return MPI_SUCCESS;
}

/* All blocks, or `only` that one (-1: all). */
static void copy_blocks(const weft_mpi_side *s, bool to_packed, int only)
{
    size_t offset = 0;
    for (int i = 0; i < s->blocks; i++) {
        size_t count = s->bytes ? s->bytes[i] / s->layout.size : s->block_count;
        ptrdiff_t at = s->places ? s->places[i] : (ptrdiff_t)((size_t)i * s->block_count) * s->layout.extent;
        if (only < 0 || only == i)
            copy_packed(s->user + at, count, s, s->data + offset, to_packed);
        offset += count * s->layout.size;
    }
}

/* MPI's alltoallv may be in place, Weft's not: what is sent is copied out of the receive buffer. */
static void copy_from_receive_side(weft_mpi_operation *o)
{
    char *to = o->result;
    for (int i = 0; i < o->recv.blocks; i++) {
        if (o->recv.bytes[i])
            memcpy(to, o->recv.data + o->recv.offsets[i], o->recv.bytes[i]);
        to += o->recv.bytes[i];
    }
}

void weft_mpi_pack_inputs(weft_mpi_operation *o)
{
    bool bcast_root = o->kind == WEFT_MPI_BCAST && o->root == o->comm->rank;
    if (o->send.packed)
        copy_blocks(&o->send, true, -1);
    if (o->recv.packed && (bcast_root || o->send.in_place)) {
        bool all = bcast_root || o->kind == WEFT_MPI_ALLTOALL || o->kind == WEFT_MPI_ALLTOALLV;
        copy_blocks(&o->recv, true, all ? -1 : o->comm->rank);
    }
    if (o->kind == WEFT_MPI_ALLTOALLV && o->send.in_place)
        copy_from_receive_side(o);
}

void weft_mpi_unpack_outputs(weft_mpi_operation *o)
{
    if (o->recv.packed && !(o->kind == WEFT_MPI_BCAST && o->root == o->comm->rank))
        copy_blocks(&o->recv, false, -1);
    if (o->kind != WEFT_MPI_ALLTOALLV && o->result_bytes)
        memcpy(o->recv.user, o->result, o->result_bytes);
}

/* ---- calling Weft ------------------------------------------------------------------------------ */

/* Where Weft writes: MPI's reduce_scatter in place has its result at another place than Weft's. */
static char *target(const weft_mpi_operation *o)
{
    return o->result ? o->result : o->recv.data;
}

weft_status weft_mpi_issue(weft_mpi_operation *o, weft_request **request)
{
    weft_comm *c = o->comm->weft;
    const weft_mpi_side *s = &o->send, *r = &o->recv;
    switch (o->kind) {
    case WEFT_MPI_BARRIER:
        return weft_barrier(c, request);
    case WEFT_MPI_BCAST:
        return weft_broadcast(c, r->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_REDUCE:
        return weft_reduce(c, s->data, r->data, o->count, o->type, o->op, o->root, request);
    case WEFT_MPI_ALLREDUCE:
        return weft_all_reduce(c, s->data, r->data, o->count, o->type, o->op, request);
    case WEFT_MPI_REDUCE_SCATTER_BLOCK:
        return weft_reduce_scatter(c, s->data, target(o), o->count, o->type, o->op, request);
    case WEFT_MPI_REDUCE_SCATTER:
        return weft_reduce_scatter_v(c, s->data, target(o), o->counts, o->type, o->op, request);
    case WEFT_MPI_GATHER:
        return weft_gather(c, s->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_GATHERV:
        return weft_gather_v(c, s->data, o->count, r->data, r->bytes, r->offsets, o->type, o->root, request);
    case WEFT_MPI_SCATTER:
        return weft_scatter(c, s->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_SCATTERV:
        return weft_scatter_v(c, s->data, s->bytes, s->offsets, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_ALLGATHER:
        return weft_all_gather(c, s->data, r->data, o->count, o->type, request);
    case WEFT_MPI_ALLGATHERV:
        return weft_all_gather_v(c, s->data, o->count, r->data, r->bytes, r->offsets, o->type, request);
    case WEFT_MPI_ALLTOALL:
        return weft_all_to_all(c, s->data, r->data, o->count, o->type, request);
    case WEFT_MPI_ALLTOALLV:
        return weft_all_to_all_v(c, o->result ? o->result : s->data, o->result ? r->bytes : s->bytes,
                                 o->result ? NULL : s->offsets, r->data, r->bytes, r->offsets, o->type, request);
    default:
        return WEFT_ERR_INTERNAL; /* kinds that are never served */
    }
}

weft_status weft_mpi_issue_init(weft_mpi_operation *o)
{
    weft_comm *c = o->own;
    weft_request **request = &o->request;
    const weft_mpi_side *s = &o->send, *r = &o->recv;
    switch (o->kind) {
    case WEFT_MPI_BARRIER:
        return weft_barrier_init(c, request);
    case WEFT_MPI_BCAST:
        return weft_broadcast_init(c, r->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_REDUCE:
        return weft_reduce_init(c, s->data, r->data, o->count, o->type, o->op, o->root, request);
    case WEFT_MPI_ALLREDUCE:
        return weft_all_reduce_init(c, s->data, r->data, o->count, o->type, o->op, request);
    case WEFT_MPI_REDUCE_SCATTER_BLOCK:
        return weft_reduce_scatter_init(c, s->data, target(o), o->count, o->type, o->op, request);
    case WEFT_MPI_REDUCE_SCATTER:
        return weft_reduce_scatter_v_init(c, s->data, target(o), o->counts, o->type, o->op, request);
    case WEFT_MPI_GATHER:
        return weft_gather_init(c, s->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_GATHERV:
        return weft_gather_v_init(c, s->data, o->count, r->data, r->bytes, r->offsets, o->type, o->root, request);
    case WEFT_MPI_SCATTER:
        return weft_scatter_init(c, s->data, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_SCATTERV:
        return weft_scatter_v_init(c, s->data, s->bytes, s->offsets, r->data, o->count, o->type, o->root, request);
    case WEFT_MPI_ALLGATHER:
        return weft_all_gather_init(c, s->data, r->data, o->count, o->type, request);
    case WEFT_MPI_ALLGATHERV:
        return weft_all_gather_v_init(c, s->data, o->count, r->data, r->bytes, r->offsets, o->type, request);
    case WEFT_MPI_ALLTOALL:
        return weft_all_to_all_init(c, s->data, r->data, o->count, o->type, request);
    case WEFT_MPI_ALLTOALLV:
        return weft_all_to_all_v_init(c, o->result ? o->result : s->data, o->result ? r->bytes : s->bytes,
                                      o->result ? NULL : s->offsets, r->data, r->bytes, r->offsets, o->type, request);
    default:
        return WEFT_ERR_INTERNAL; /* kinds that are never served */
    }
}

/* This rank cannot take part although the others do: they get an error instead of waiting for it. */
static int give_up(weft_mpi_operation *o, weft_status status)
{
    weft_comm_abort(o->comm->weft);
    int code = weft_mpi_fail(o->comm, o->kind, status);
    weft_mpi_operation_clear(o);
    return code;
}

/* Before the call returns: afterwards the user may free the types that are still needed to pack and unpack. */
static void keep_types(weft_mpi_operation *o)
{
    weft_mpi_side *const sides[] = {&o->send, &o->recv};
    for (int i = 0; i < 2; i++) {
        if (!sides[i]->packed)
            continue;
        if (PMPI_Type_dup(sides[i]->type, &sides[i]->type) == MPI_SUCCESS)
            sides[i]->own_type = true;
        else
            o->failed = WEFT_ERR_MEMORY;
    }
}

int weft_mpi_run(weft_mpi_operation *o, MPI_Request *request)
{
    if (o->form != WEFT_MPI_BLOCKING)
        keep_types(o);
    if (o->failed != WEFT_OK)
        return give_up(o, o->failed);
    if (o->form != WEFT_MPI_PERSISTENT)
        weft_mpi_count_served(o);
    if (o->form == WEFT_MPI_BLOCKING) {
        weft_mpi_pack_inputs(o);
        weft_status status = weft_mpi_issue(o, NULL);
        int code = MPI_SUCCESS;
        if (status == WEFT_OK)
            weft_mpi_unpack_outputs(o);
        else
            code = weft_mpi_fail(o->comm, o->kind, status);
        weft_mpi_operation_clear(o);
        return code;
    }
    weft_mpi_operation *kept = malloc(sizeof *kept);
    if (!kept)
        return give_up(o, WEFT_ERR_MEMORY);
    *kept = *o;
    return o->form == WEFT_MPI_REQUEST ? weft_mpi_begin_request(kept, request) : weft_mpi_make_persistent(kept, request);
}

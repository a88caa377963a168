/* From the arguments of each MPI collective to an operation of Weft. Arguments that the MPI would refuse are passed on to it, so
 * that its own error handling sees them. Calls that move data are in bytes: the types of two ranks may differ. */
#include "prepare.h"

#include <string.h>

/* No rank's own count may decide between Weft and the MPI, but a wrong one is an error anyway. */
static bool is_count(size_t count) { return count <= PTRDIFF_MAX; /* a negative one became larger */ }

static bool are_counts(weft_mpi_numbers counts, int size)
{
    for (int i = 0; i < size; i++)
        if (!counts.values || weft_mpi_number(counts, i) < 0)
            return false;
    return true;
}

static bool refuse(weft_mpi_operation *o) { return weft_mpi_pass(o, WEFT_MPI_ARGUMENTS); }

static bool set_in_place(weft_mpi_side *s)
{
    s->in_place = true;
    s->data = WEFT_IN_PLACE;
    return true;
}

/* A side of equal blocks. */
static bool set(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, size_t count, MPI_Datatype type,
                int blocks)
{
    if (!is_count(count) || !weft_mpi_type_find(type, &s->layout))
        return false;
    weft_mpi_side_set(o, s, buffer, count, type, blocks);
    return true;
}

static bool set_vector(weft_mpi_operation *o, weft_mpi_side *s, const void *buffer, weft_mpi_numbers counts,
                       weft_mpi_numbers displs, MPI_Datatype type)
{
    int size = o->comm->size;
    if (!displs.values || !are_counts(counts, size) || !weft_mpi_type_find(type, &s->layout))
        return false;
    weft_mpi_side_set_vector(o, s, buffer, counts, displs, type, size);
    return true;
}

static bool valid_root(weft_mpi_operation *o, int root)
{
    o->root = root;
    return root >= 0 && root < o->comm->size;
}

static bool begin(weft_mpi_operation *o, weft_mpi_kind kind, weft_mpi_form form, MPI_Comm comm)
{
    weft_mpi_comm *c = weft_mpi_call_comm(kind, form, comm);
    if (c)
        weft_mpi_operation_begin(o, kind, form, c);
    return c;
}

/* Whether it is to be passed on is found out before anything is prepared, so that passing on costs little. MPI makes operation
 * and type the same on all ranks. The types of reductions are predefined: their elements are contiguous. */
static bool begin_reduction(weft_mpi_operation *o, weft_mpi_kind kind, weft_mpi_form form, MPI_Comm comm, size_t count,
                            MPI_Datatype type, MPI_Op op)
{
    weft_mpi_comm *c = weft_mpi_call_comm(kind, form, comm);
    if (!c)
        return false;
    weft_mpi_type layout;
    weft_op found = WEFT_SUM;
    if (!is_count(count) || !weft_mpi_reduction_find(op, type, &found, &layout)) {
        weft_mpi_count(kind, is_count(count) ? WEFT_MPI_OPERATION : WEFT_MPI_ARGUMENTS, 0);
        return false;
    }
    weft_mpi_operation_begin(o, kind, form, c);
    o->op = found;
    o->type = (weft_type)layout.weft;
    o->count = count * layout.lanes;
    o->send.layout = o->recv.layout = layout;
    o->send.total = count * layout.size;
    return true;
}

bool weft_mpi_prepare_barrier(weft_mpi_operation *o, weft_mpi_form form, MPI_Comm comm)
{
    return begin(o, WEFT_MPI_BARRIER, form, comm);
}

bool weft_mpi_prepare_bcast(weft_mpi_operation *o, weft_mpi_form form, void *buffer, size_t count, MPI_Datatype type,
                            int root, MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_BCAST, form, comm))
        return false;
    if (!valid_root(o, root) || !set(o, &o->recv, buffer, count, type, 1))
        return refuse(o);
    o->count = o->recv.total;
    return true;
}

bool weft_mpi_prepare_reduce(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv, size_t count,
                             MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm)
{
    if (!begin_reduction(o, WEFT_MPI_REDUCE, form, comm, count, type, op))
        return false;
    if (!valid_root(o, root))
        return refuse(o);
    bool at_root = root == o->comm->rank;
    o->recv.data = at_root ? recv : NULL;
    o->send.data = at_root && send == MPI_IN_PLACE ? recv : (char *)send;
    return true;
}

bool weft_mpi_prepare_allreduce(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv, size_t count,
                                MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    if (!begin_reduction(o, WEFT_MPI_ALLREDUCE, form, comm, count, type, op))
        return false;
    o->recv.data = recv;
    o->send.data = send == MPI_IN_PLACE ? recv : (char *)send;
    return true;
}

/* In place, MPI has the result of reduce_scatter at the start of the buffer whose rest stays as it was. */
static void set_scattered(weft_mpi_operation *o, const void *send, void *recv, size_t result_bytes)
{
    o->recv.user = o->recv.data = recv;
    o->send.data = (char *)send;
    if (send != MPI_IN_PLACE)
        return;
    o->send.data = recv;
    o->result_bytes = result_bytes;
    o->result = weft_mpi_memory(o, result_bytes);
}

bool weft_mpi_prepare_reduce_scatter_block(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv,
                                           size_t count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    if (!begin_reduction(o, WEFT_MPI_REDUCE_SCATTER_BLOCK, form, comm, count, type, op))
        return false;
    o->send.total *= (size_t)o->comm->size;
    set_scattered(o, send, recv, count * o->recv.layout.size);
    return true;
}

bool weft_mpi_prepare_reduce_scatter(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv,
                                     weft_mpi_numbers counts, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    if (!begin_reduction(o, WEFT_MPI_REDUCE_SCATTER, form, comm, 0, type, op))
        return false;
    if (!are_counts(counts, o->comm->size))
        return refuse(o);
    size_t size = (size_t)o->comm->size;
    o->counts = weft_mpi_memory(o, size * sizeof *o->counts);
    if (!o->counts)
        return true; /* marked as failed */
    for (size_t i = 0; i < size; i++) {
        size_t count = (size_t)weft_mpi_number(counts, (int)i);
        o->counts[i] = count * o->send.layout.lanes;
        o->send.total += count * o->send.layout.size;
    }
    set_scattered(o, send, recv, (size_t)weft_mpi_number(counts, o->comm->rank) * o->recv.layout.size);
    return true;
}

bool weft_mpi_prepare_gather(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                             MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type, int root,
                             MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_GATHER, form, comm))
        return false;
    if (!valid_root(o, root))
        return refuse(o);
    bool at_root = root == o->comm->rank;
    bool good =
        at_root && send == MPI_IN_PLACE ? set_in_place(&o->send) : set(o, &o->send, send, send_count, send_type, 1);
    good = good && (!at_root || set(o, &o->recv, recv, recv_count, recv_type, o->comm->size));
    if (!good)
        return refuse(o);
    o->count = o->send.in_place ? o->recv.total / (size_t)o->comm->size : o->send.total;
    return true;
}

bool weft_mpi_prepare_gatherv(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                              MPI_Datatype send_type, void *recv, weft_mpi_numbers counts, weft_mpi_numbers displs,
                              MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_GATHERV, form, comm))
        return false;
    if (!valid_root(o, root))
        return refuse(o);
    bool at_root = root == o->comm->rank;
    bool good =
        at_root && send == MPI_IN_PLACE ? set_in_place(&o->send) : set(o, &o->send, send, send_count, send_type, 1);
    good = good && (!at_root || set_vector(o, &o->recv, recv, counts, displs, recv_type));
    if (!good)
        return refuse(o);
    o->count = !o->send.in_place ? o->send.total : o->recv.bytes ? o->recv.bytes[o->comm->rank] : 0;
    return true;
}

bool weft_mpi_prepare_scatter(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                              MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type, int root,
                              MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_SCATTER, form, comm))
        return false;
    if (!valid_root(o, root))
        return refuse(o);
    bool at_root = root == o->comm->rank;
    bool good =
        at_root && recv == MPI_IN_PLACE ? set_in_place(&o->recv) : set(o, &o->recv, recv, recv_count, recv_type, 1);
    good = good && (!at_root || set(o, &o->send, send, send_count, send_type, o->comm->size));
    if (!good)
        return refuse(o);
    o->count = o->recv.in_place ? o->send.total / (size_t)o->comm->size : o->recv.total;
    return true;
}

bool weft_mpi_prepare_scatterv(weft_mpi_operation *o, weft_mpi_form form, const void *send, weft_mpi_numbers counts,
                               weft_mpi_numbers displs, MPI_Datatype send_type, void *recv, size_t recv_count,
                               MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_SCATTERV, form, comm))
        return false;
    if (!valid_root(o, root))
        return refuse(o);
    bool at_root = root == o->comm->rank;
    bool good =
        at_root && recv == MPI_IN_PLACE ? set_in_place(&o->recv) : set(o, &o->recv, recv, recv_count, recv_type, 1);
    good = good && (!at_root || set_vector(o, &o->send, send, counts, displs, send_type));
    if (!good)
        return refuse(o);
    o->count = !o->recv.in_place ? o->recv.total : o->send.bytes ? o->send.bytes[o->comm->rank] : 0;
    return true;
}

bool weft_mpi_prepare_allgather(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                                MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type,
                                MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_ALLGATHER, form, comm))
        return false;
    bool good = send == MPI_IN_PLACE ? set_in_place(&o->send) : set(o, &o->send, send, send_count, send_type, 1);
    if (!good || !set(o, &o->recv, recv, recv_count, recv_type, o->comm->size))
        return refuse(o);
    o->count = o->recv.total / (size_t)o->comm->size;
    return true;
}

bool weft_mpi_prepare_allgatherv(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                                 MPI_Datatype send_type, void *recv, weft_mpi_numbers counts, weft_mpi_numbers displs,
                                 MPI_Datatype recv_type, MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_ALLGATHERV, form, comm))
        return false;
    bool good = send == MPI_IN_PLACE ? set_in_place(&o->send) : set(o, &o->send, send, send_count, send_type, 1);
    if (!good || !set_vector(o, &o->recv, recv, counts, displs, recv_type))
        return refuse(o);
    o->count = !o->send.in_place ? o->send.total : o->recv.bytes ? o->recv.bytes[o->comm->rank] : 0;
    return true;
}

bool weft_mpi_prepare_alltoall(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                               MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type,
                               MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_ALLTOALL, form, comm))
        return false;
    int size = o->comm->size;
    bool good = send == MPI_IN_PLACE ? set_in_place(&o->send) : set(o, &o->send, send, send_count, send_type, size);
    if (!good || !set(o, &o->recv, recv, recv_count, recv_type, size))
        return refuse(o);
    o->count = o->recv.total / (size_t)size;
    return true;
}

bool weft_mpi_prepare_alltoallv(weft_mpi_operation *o, weft_mpi_form form, const void *send,
                                weft_mpi_numbers send_counts, weft_mpi_numbers send_displs, MPI_Datatype send_type,
                                void *recv, weft_mpi_numbers recv_counts, weft_mpi_numbers recv_displs,
                                MPI_Datatype recv_type, MPI_Comm comm)
{
    if (!begin(o, WEFT_MPI_ALLTOALLV, form, comm))
        return false;
    bool good = send == MPI_IN_PLACE ? set_in_place(&o->send)
                                     : set_vector(o, &o->send, send, send_counts, send_displs, send_type);
    if (!good || !set_vector(o, &o->recv, recv, recv_counts, recv_displs, recv_type))
        return refuse(o);
    /* Weft takes equal addresses for "in place", which it has not here; a side without data may have any. */
    static char nothing;
    if (o->send.in_place)
        o->result = weft_mpi_memory(o, o->recv.total);
    else if (o->send.total == 0)
        o->send.data = &nothing;
    return true;
}

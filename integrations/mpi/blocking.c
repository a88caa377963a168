/* The blocking collectives of MPI: on Weft, or passed on. */
#include "prepare.h"

#ifndef WEFT_MPI_LARGE
WEFT_MPI_EXPORT int MPI_Barrier(MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_BARRIER, comm) && weft_mpi_prepare_barrier(&o, WEFT_MPI_BLOCKING, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Barrier(comm));
}
#endif

WEFT_MPI_EXPORT int MPI_Bcast(void *buffer, COUNT count, MPI_Datatype type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_BCAST, comm) &&
        weft_mpi_prepare_bcast(&o, WEFT_MPI_BLOCKING, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Bcast(buffer, count, type, root, comm));
}

WEFT_MPI_EXPORT int MPI_Reduce(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, int root,
                               MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_REDUCE, comm) &&
        weft_mpi_prepare_reduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Reduce(send, recv, count, type, op, root, comm));
}

WEFT_MPI_EXPORT int MPI_Allreduce(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                  MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_ALLREDUCE, comm) &&
        weft_mpi_prepare_allreduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Allreduce(send, recv, count, type, op, comm));
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter_block(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                             MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_REDUCE_SCATTER_BLOCK, comm) &&
        weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Reduce_scatter_block(send, recv, count, type, op, comm));
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter(const void *send, void *recv, const COUNT counts[], MPI_Datatype type, MPI_Op op,
                                       MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_REDUCE_SCATTER, comm) &&
        weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_BLOCKING, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Reduce_scatter(send, recv, counts, type, op, comm));
}

WEFT_MPI_EXPORT int MPI_Gather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv, COUNT recv_count,
                               MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_GATHER, comm) &&
        weft_mpi_prepare_gather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Gather(send, send_count, send_type, recv, recv_count, recv_type, root, comm));
}

WEFT_MPI_EXPORT int MPI_Gatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, int root,
                                MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_GATHERV, comm) &&
        weft_mpi_prepare_gatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                 NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Gatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm));
}

WEFT_MPI_EXPORT int MPI_Scatter(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                COUNT recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_SCATTER, comm) &&
        weft_mpi_prepare_scatter(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                 root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Scatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm));
}

WEFT_MPI_EXPORT int MPI_Scatterv(const void *send, const COUNT counts[], const DISPL displs[], MPI_Datatype send_type,
                                 void *recv, COUNT recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_SCATTERV, comm) &&
        weft_mpi_prepare_scatterv(&o, WEFT_MPI_BLOCKING, send, NUMBERS(counts), NUMBERS(displs), send_type, recv,
                                  (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Scatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm));
}

WEFT_MPI_EXPORT int MPI_Allgather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                  COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_ALLGATHER, comm) &&
        weft_mpi_prepare_allgather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                   recv_type, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Allgather(send, send_count, send_type, recv, recv_count, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Allgatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                   const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_ALLGATHERV, comm) &&
        weft_mpi_prepare_allgatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                    NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Alltoall(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                 COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_ALLTOALL, comm) &&
        weft_mpi_prepare_alltoall(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                  comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Alltoallv(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                  MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                  const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (!weft_mpi_is_lone(WEFT_MPI_ALLTOALLV, comm) &&
        weft_mpi_prepare_alltoallv(&o, WEFT_MPI_BLOCKING, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type, recv,
                                   NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, NULL);
    weft_mpi_enter();
    return weft_mpi_leave(
        PMPI_Alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm));
}

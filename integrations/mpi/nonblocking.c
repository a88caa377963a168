/* The nonblocking collectives of MPI: on Weft, or passed on. */
#include "prepare.h"

#ifndef WEFT_MPI_LARGE
WEFT_MPI_EXPORT int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_barrier(&o, WEFT_MPI_REQUEST, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ibarrier(comm, request);
}
#endif

WEFT_MPI_EXPORT int MPI_Ibcast(void *buffer, COUNT count, MPI_Datatype type, int root, MPI_Comm comm,
                               MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_bcast(&o, WEFT_MPI_REQUEST, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ibcast(buffer, count, type, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ireduce(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, int root,
                                MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ireduce(send, recv, count, type, op, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iallreduce(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                   MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allreduce(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Iallreduce(send, recv, count, type, op, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ireduce_scatter_block(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                              MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ireduce_scatter_block(send, recv, count, type, op, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ireduce_scatter(const void *send, void *recv, const COUNT counts[], MPI_Datatype type,
                                        MPI_Op op, MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_REQUEST, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ireduce_scatter(send, recv, counts, type, op, comm, request);
}

WEFT_MPI_EXPORT int MPI_Igather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv, COUNT recv_count,
                                MPI_Datatype recv_type, int root, MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gather(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Igather(send, send_count, send_type, recv, recv_count, recv_type, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Igatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                 const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, int root,
                                 MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gatherv(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                 NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Igatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iscatter(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv, COUNT recv_count,
                                 MPI_Datatype recv_type, int root, MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatter(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                 recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Iscatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iscatterv(const void *send, const COUNT counts[], const DISPL displs[], MPI_Datatype send_type,
                                  void *recv, COUNT recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm,
                                  MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatterv(&o, WEFT_MPI_REQUEST, send, NUMBERS(counts), NUMBERS(displs), send_type, recv,
                                  (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Iscatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iallgather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                   COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgather(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv,
                                   (size_t)recv_count, recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Iallgather(send, send_count, send_type, recv, recv_count, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iallgatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                    const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, MPI_Comm comm,
                                    MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgatherv(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                    NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Iallgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ialltoall(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                  COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoall(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                  recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ialltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ialltoallv(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                   MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                   const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm,
                                   MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoallv(&o, WEFT_MPI_REQUEST, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type,
                                   recv, NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Ialltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm,
                           request);
}

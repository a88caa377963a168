/* The persistent collectives: on Weft, or passed on. They are in MPI 4, in Open MPI from version 5 on, and before that in 4.1 by
 * other names. */
#include "prepare.h"

#if WEFT_MPI_OPEN_MPI && OMPI_MAJOR_VERSION < 5
#include <mpi-ext.h>
#ifdef OMPI_HAVE_MPI_EXT_PCOLLREQ
#define MPI_Barrier_init MPIX_Barrier_init
#define PMPI_Barrier_init PMPIX_Barrier_init
#define MPI_Bcast_init MPIX_Bcast_init
#define PMPI_Bcast_init PMPIX_Bcast_init
#define MPI_Reduce_init MPIX_Reduce_init
#define PMPI_Reduce_init PMPIX_Reduce_init
#define MPI_Allreduce_init MPIX_Allreduce_init
#define PMPI_Allreduce_init PMPIX_Allreduce_init
#define MPI_Reduce_scatter_block_init MPIX_Reduce_scatter_block_init
#define PMPI_Reduce_scatter_block_init PMPIX_Reduce_scatter_block_init
#define MPI_Reduce_scatter_init MPIX_Reduce_scatter_init
#define PMPI_Reduce_scatter_init PMPIX_Reduce_scatter_init
#define MPI_Gather_init MPIX_Gather_init
#define PMPI_Gather_init PMPIX_Gather_init
#define MPI_Gatherv_init MPIX_Gatherv_init
#define PMPI_Gatherv_init PMPIX_Gatherv_init
#define MPI_Scatter_init MPIX_Scatter_init
#define PMPI_Scatter_init PMPIX_Scatter_init
#define MPI_Scatterv_init MPIX_Scatterv_init
#define PMPI_Scatterv_init PMPIX_Scatterv_init
#define MPI_Allgather_init MPIX_Allgather_init
#define PMPI_Allgather_init PMPIX_Allgather_init
#define MPI_Allgatherv_init MPIX_Allgatherv_init
#define PMPI_Allgatherv_init PMPIX_Allgatherv_init
#define MPI_Alltoall_init MPIX_Alltoall_init
#define PMPI_Alltoall_init PMPIX_Alltoall_init
#define MPI_Alltoallv_init MPIX_Alltoallv_init
#define PMPI_Alltoallv_init PMPIX_Alltoallv_init
#define HAVE_PERSISTENT 1
#endif
#elif WEFT_MPI_OPEN_MPI || MPI_VERSION >= 4
#define HAVE_PERSISTENT 1
#endif

#ifdef HAVE_PERSISTENT

#ifndef WEFT_MPI_LARGE
WEFT_MPI_EXPORT int MPI_Barrier_init(MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_barrier(&o, WEFT_MPI_PERSISTENT, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Barrier_init(comm, info, request);
}
#endif

WEFT_MPI_EXPORT int MPI_Bcast_init(void *buffer, COUNT count, MPI_Datatype type, int root, MPI_Comm comm, MPI_Info info,
                                   MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_bcast(&o, WEFT_MPI_PERSISTENT, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Bcast_init(buffer, count, type, root, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Reduce_init(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, int root,
                                    MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Reduce_init(send, recv, count, type, op, root, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Allreduce_init(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                       MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allreduce(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Allreduce_init(send, recv, count, type, op, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter_block_init(const void *send, void *recv, COUNT count, MPI_Datatype type,
                                                  MPI_Op op, MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Reduce_scatter_block_init(send, recv, count, type, op, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter_init(const void *send, void *recv, const COUNT counts[], MPI_Datatype type,
                                            MPI_Op op, MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_PERSISTENT, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Reduce_scatter_init(send, recv, counts, type, op, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Gather_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                    COUNT recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm, MPI_Info info,
                                    MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gather(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv,
                                (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Gather_init(send, send_count, send_type, recv, recv_count, recv_type, root, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Gatherv_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                     const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, int root,
                                     MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gatherv(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                 NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Gatherv_init(send, send_count, send_type, recv, counts, displs, recv_type, root, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Scatter_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                     COUNT recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm, MPI_Info info,
                                     MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatter(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv,
                                 (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Scatter_init(send, send_count, send_type, recv, recv_count, recv_type, root, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Scatterv_init(const void *send, const COUNT counts[], const DISPL displs[],
                                      MPI_Datatype send_type, void *recv, COUNT recv_count, MPI_Datatype recv_type,
                                      int root, MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatterv(&o, WEFT_MPI_PERSISTENT, send, NUMBERS(counts), NUMBERS(displs), send_type, recv,
                                  (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Scatterv_init(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm, info,
                              request);
}

WEFT_MPI_EXPORT int MPI_Allgather_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                       COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Info info,
                                       MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgather(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv,
                                   (size_t)recv_count, recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Allgather_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Allgatherv_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                        const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type, MPI_Comm comm,
                                        MPI_Info info, MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgatherv(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                    NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Allgatherv_init(send, send_count, send_type, recv, counts, displs, recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Alltoall_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                      COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Info info,
                                      MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoall(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv,
                                  (size_t)recv_count, recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Alltoall_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Alltoallv_init(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                       MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                       const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm, MPI_Info info,
                                       MPI_Request *request)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoallv(&o, WEFT_MPI_PERSISTENT, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type,
                                   recv, NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    return PMPI_Alltoallv_init(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type,
                               comm, info, request);
}

#endif

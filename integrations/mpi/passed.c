/* The collectives that Weft does not have: passed on, and counted so that the report is complete. */
#include "prepare.h"

WEFT_MPI_EXPORT int MPI_Scan(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_SCAN, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Scan(send, recv, count, type, op, comm));
}

WEFT_MPI_EXPORT int MPI_Exscan(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_EXSCAN, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Exscan(send, recv, count, type, op, comm));
}

WEFT_MPI_EXPORT int MPI_Alltoallw(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                  const MPI_Datatype send_types[], void *recv, const COUNT recv_counts[],
                                  const DISPL recv_displs[], const MPI_Datatype recv_types[], MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(
        PMPI_Alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm));
}

WEFT_MPI_EXPORT int MPI_Neighbor_allgather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                           COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHER, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Neighbor_allgather(send, send_count, send_type, recv, recv_count, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Neighbor_allgatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                            const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type,
                                            MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHERV, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Neighbor_allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoall(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                          COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALL, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Neighbor_alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoallv(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                           MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                           const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLV, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Neighbor_alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts,
                                                  recv_displs, recv_type, comm));
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoallw(const void *send, const COUNT send_counts[], const MPI_Aint send_displs[],
                                           const MPI_Datatype send_types[], void *recv, const COUNT recv_counts[],
                                           const MPI_Aint recv_displs[], const MPI_Datatype recv_types[], MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    weft_mpi_enter();
    return weft_mpi_leave(PMPI_Neighbor_alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts,
                                                  recv_displs, recv_types, comm));
}

WEFT_MPI_EXPORT int MPI_Iscan(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                              MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_SCAN, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Iscan(send, recv, count, type, op, comm, request);
}

WEFT_MPI_EXPORT int MPI_Iexscan(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_EXSCAN, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Iexscan(send, recv, count, type, op, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ialltoallw(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                   const MPI_Datatype send_types[], void *recv, const COUNT recv_counts[],
                                   const DISPL recv_displs[], const MPI_Datatype recv_types[], MPI_Comm comm,
                                   MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ialltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm,
                           request);
}

WEFT_MPI_EXPORT int MPI_Ineighbor_allgather(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                            COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm,
                                            MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHER, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ineighbor_allgather(send, send_count, send_type, recv, recv_count, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ineighbor_allgatherv(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                             const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type,
                                             MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHERV, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ineighbor_allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ineighbor_alltoall(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                           COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm,
                                           MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALL, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ineighbor_alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ineighbor_alltoallv(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                            MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                            const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm,
                                            MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLV, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ineighbor_alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs,
                                    recv_type, comm, request);
}

WEFT_MPI_EXPORT int MPI_Ineighbor_alltoallw(const void *send, const COUNT send_counts[], const MPI_Aint send_displs[],
                                            const MPI_Datatype send_types[], void *recv, const COUNT recv_counts[],
                                            const MPI_Aint recv_displs[], const MPI_Datatype recv_types[],
                                            MPI_Comm comm, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Ineighbor_alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs,
                                    recv_types, comm, request);
}

#if MPI_VERSION >= 4 || (WEFT_MPI_OPEN_MPI && OMPI_MAJOR_VERSION >= 5)

WEFT_MPI_EXPORT int MPI_Scan_init(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                  MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_SCAN, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Scan_init(send, recv, count, type, op, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Exscan_init(const void *send, void *recv, COUNT count, MPI_Datatype type, MPI_Op op,
                                    MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_EXSCAN, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Exscan_init(send, recv, count, type, op, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Alltoallw_init(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                       const MPI_Datatype send_types[], void *recv, const COUNT recv_counts[],
                                       const DISPL recv_displs[], const MPI_Datatype recv_types[], MPI_Comm comm,
                                       MPI_Info info, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Alltoallw_init(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types,
                               comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Neighbor_allgather_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                                COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Info info,
                                                MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHER, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Neighbor_allgather_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Neighbor_allgatherv_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                                 const COUNT counts[], const DISPL displs[], MPI_Datatype recv_type,
                                                 MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHERV, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Neighbor_allgatherv_init(send, send_count, send_type, recv, counts, displs, recv_type, comm, info,
                                         request);
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoall_init(const void *send, COUNT send_count, MPI_Datatype send_type, void *recv,
                                               COUNT recv_count, MPI_Datatype recv_type, MPI_Comm comm, MPI_Info info,
                                               MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALL, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Neighbor_alltoall_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoallv_init(const void *send, const COUNT send_counts[], const DISPL send_displs[],
                                                MPI_Datatype send_type, void *recv, const COUNT recv_counts[],
                                                const DISPL recv_displs[], MPI_Datatype recv_type, MPI_Comm comm,
                                                MPI_Info info, MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLV, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Neighbor_alltoallv_init(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs,
                                        recv_type, comm, info, request);
}

WEFT_MPI_EXPORT int MPI_Neighbor_alltoallw_init(const void *send, const COUNT send_counts[],
                                                const MPI_Aint send_displs[], const MPI_Datatype send_types[],
                                                void *recv, const COUNT recv_counts[], const MPI_Aint recv_displs[],
                                                const MPI_Datatype recv_types[], MPI_Comm comm, MPI_Info info,
                                                MPI_Request *request)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    return PMPI_Neighbor_alltoallw_init(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs,
                                        recv_types, comm, info, request);
}

#endif

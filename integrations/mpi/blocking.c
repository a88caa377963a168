/* The blocking collectives of MPI: on Weft, or passed on. While operations of Weft are under way, a passed call is begun
 * without blocking where the MPI does not progress Weft by itself, so that a rank that waits for them comes on. */
#include "prepare.h"

WEFT_MPI_EXPORT int MPI_Barrier(MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_barrier(&o, WEFT_MPI_BLOCKING, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ibarrier(comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Barrier(comm);
}

WEFT_MPI_EXPORT int MPI_Bcast(void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_bcast(&o, WEFT_MPI_BLOCKING, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ibcast(buffer, count, type, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Bcast(buffer, count, type, root, comm);
}

WEFT_MPI_EXPORT int MPI_Reduce(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op, int root,
                               MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ireduce(send, recv, count, type, op, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Reduce(send, recv, count, type, op, root, comm);
}

WEFT_MPI_EXPORT int MPI_Allreduce(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op,
                                  MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allreduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Iallreduce(send, recv, count, type, op, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Allreduce(send, recv, count, type, op, comm);
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter_block(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op,
                                             MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ireduce_scatter_block(send, recv, count, type, op, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Reduce_scatter_block(send, recv, count, type, op, comm);
}

WEFT_MPI_EXPORT int MPI_Reduce_scatter(const void *send, void *recv, const int counts[], MPI_Datatype type, MPI_Op op,
                                       MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_BLOCKING, send, recv, counts, type, op, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ireduce_scatter(send, recv, counts, type, op, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Reduce_scatter(send, recv, counts, type, op, comm);
}

WEFT_MPI_EXPORT int MPI_Gather(const void *send, int send_count, MPI_Datatype send_type, void *recv, int recv_count,
                               MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Igather(send, send_count, send_type, recv, recv_count, recv_type, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Gather(send, send_count, send_type, recv, recv_count, recv_type, root, comm);
}

WEFT_MPI_EXPORT int MPI_Gatherv(const void *send, int send_count, MPI_Datatype send_type, void *recv,
                                const int counts[], const int displs[], MPI_Datatype recv_type, int root,
                                MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, counts, displs,
                                 recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Igatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Gatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm);
}

WEFT_MPI_EXPORT int MPI_Scatter(const void *send, int send_count, MPI_Datatype send_type, void *recv, int recv_count,
                                MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatter(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                 recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Iscatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Scatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm);
}

WEFT_MPI_EXPORT int MPI_Scatterv(const void *send, const int counts[], const int displs[], MPI_Datatype send_type,
                                 void *recv, int recv_count, MPI_Datatype recv_type, int root, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatterv(&o, WEFT_MPI_BLOCKING, send, counts, displs, send_type, recv, (size_t)recv_count,
                                  recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Iscatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Scatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm);
}

WEFT_MPI_EXPORT int MPI_Allgather(const void *send, int send_count, MPI_Datatype send_type, void *recv,
                                  int recv_count, MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv,
                                   (size_t)recv_count, recv_type, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Iallgather(send, send_count, send_type, recv, recv_count, recv_type, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Allgather(send, send_count, send_type, recv, recv_count, recv_type, comm);
}

WEFT_MPI_EXPORT int MPI_Allgatherv(const void *send, int send_count, MPI_Datatype send_type, void *recv,
                                   const int counts[], const int displs[], MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, counts, displs,
                                    recv_type, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Iallgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm);
}

WEFT_MPI_EXPORT int MPI_Alltoall(const void *send, int send_count, MPI_Datatype send_type, void *recv, int recv_count,
                                 MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoall(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv,
                                  (size_t)recv_count, recv_type, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ialltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm);
}

WEFT_MPI_EXPORT int MPI_Alltoallv(const void *send, const int send_counts[], const int send_displs[],
                                  MPI_Datatype send_type, void *recv, const int recv_counts[],
                                  const int recv_displs[], MPI_Datatype recv_type, MPI_Comm comm)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoallv(&o, WEFT_MPI_BLOCKING, send, send_counts, send_displs, send_type, recv,
                                   recv_counts, recv_displs, recv_type, comm))
        return weft_mpi_run(&o, NULL);
    if (weft_mpi_must_poll()) {
        MPI_Request request;
        int code = PMPI_Ialltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs,
                                   recv_type, comm, &request);
        return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
    }
    return PMPI_Alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm);
}

/* ---- collectives that Weft does not have: counted, so that the report is complete --------------- */

WEFT_MPI_EXPORT int MPI_Scan(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_SCAN, WEFT_MPI_NOT_COVERED, 0);
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Scan(send, recv, count, type, op, comm);
    int code = PMPI_Iscan(send, recv, count, type, op, comm, &request);
    return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
}

WEFT_MPI_EXPORT int MPI_Exscan(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_EXSCAN, WEFT_MPI_NOT_COVERED, 0);
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Exscan(send, recv, count, type, op, comm);
    int code = PMPI_Iexscan(send, recv, count, type, op, comm, &request);
    return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
}

WEFT_MPI_EXPORT int MPI_Alltoallw(const void *send, const int send_counts[], const int send_displs[],
                                  const MPI_Datatype send_types[], void *recv, const int recv_counts[],
                                  const int recv_displs[], const MPI_Datatype recv_types[], MPI_Comm comm)
{
    weft_mpi_count(WEFT_MPI_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm);
    int code = PMPI_Ialltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm,
                               &request);
    return code == MPI_SUCCESS ? weft_mpi_wait_polling(&request, MPI_STATUS_IGNORE) : code;
}

/* The persistent collectives of a communicator (MPIX_..._init in Open MPI 4.1): on Weft, or as they were selected before. */
#include "coll_weft.h"

static int barrier_init(struct ompi_communicator_t *comm, struct ompi_info_t *info, ompi_request_t **request,
                        mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_barrier(&o, WEFT_MPI_PERSISTENT, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_barrier_init(comm, info, request, next->coll_barrier_init_module);
}

static int bcast_init(void *buffer, int count, struct ompi_datatype_t *type, int root, struct ompi_communicator_t *comm,
                      struct ompi_info_t *info, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_bcast(&o, WEFT_MPI_PERSISTENT, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_bcast_init(buffer, count, type, root, comm, info, request, next->coll_bcast_init_module);
}

static int reduce_init(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op, int root,
                       struct ompi_communicator_t *comm, struct ompi_info_t *info, ompi_request_t **request,
                       mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce_init(send, recv, count, type, op, root, comm, info, request, next->coll_reduce_init_module);
}

static int allreduce_init(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op,
                          struct ompi_communicator_t *comm, struct ompi_info_t *info, ompi_request_t **request,
                          mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allreduce(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allreduce_init(send, recv, count, type, op, comm, info, request, next->coll_allreduce_init_module);
}

static int reduce_scatter_block_init(const void *send, void *recv, int count, struct ompi_datatype_t *type,
                                     struct ompi_op_t *op, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                                     ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_PERSISTENT, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce_scatter_block_init(send, recv, count, type, op, comm, info, request,
                                                next->coll_reduce_scatter_block_init_module);
}

static int reduce_scatter_init(const void *send, void *recv, const int *counts, struct ompi_datatype_t *type,
                               struct ompi_op_t *op, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                               ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_PERSISTENT, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce_scatter_init(send, recv, counts, type, op, comm, info, request,
                                          next->coll_reduce_scatter_init_module);
}

static int gather_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                       struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                       ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gather(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_gather_init(send, send_count, send_type, recv, recv_count, recv_type, root, comm, info, request,
                                  next->coll_gather_init_module);
}

static int gatherv_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                        const int *displs, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                        struct ompi_info_t *info, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_gatherv(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                 NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_gatherv_init(send, send_count, send_type, recv, counts, displs, recv_type, root, comm, info, request,
                                   next->coll_gatherv_init_module);
}

static int scatter_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                        struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                        ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatter(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                 recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_scatter_init(send, send_count, send_type, recv, recv_count, recv_type, root, comm, info, request,
                                   next->coll_scatter_init_module);
}

static int scatterv_init(const void *send, const int *counts, const int *displs, struct ompi_datatype_t *send_type, void *recv,
                         int recv_count, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                         struct ompi_info_t *info, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_scatterv(&o, WEFT_MPI_PERSISTENT, send, NUMBERS(counts), NUMBERS(displs), send_type, recv,
                                  (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_scatterv_init(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm, info, request,
                                    next->coll_scatterv_init_module);
}

static int allgather_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                          struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                          ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgather(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                   recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allgather_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request,
                                     next->coll_allgather_init_module);
}

static int allgatherv_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                           const int *displs, struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                           struct ompi_info_t *info, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_allgatherv(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                    NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allgatherv_init(send, send_count, send_type, recv, counts, displs, recv_type, comm, info, request,
                                      next->coll_allgatherv_init_module);
}

static int alltoall_init(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                         struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, struct ompi_info_t *info,
                         ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoall(&o, WEFT_MPI_PERSISTENT, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                  recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_alltoall_init(send, send_count, send_type, recv, recv_count, recv_type, comm, info, request,
                                    next->coll_alltoall_init_module);
}

static int alltoallv_init(const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *send_type,
                          void *recv, const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *recv_type,
                          struct ompi_communicator_t *comm, struct ompi_info_t *info, ompi_request_t **request,
                          mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (weft_mpi_prepare_alltoallv(&o, WEFT_MPI_PERSISTENT, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type,
                                   recv, NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_alltoallv_init(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm,
                                     info, request, next->coll_alltoallv_init_module);
}

void coll_weft_set_persistent(mca_coll_base_module_t *m)
{
    m->coll_barrier_init = barrier_init;
    m->coll_bcast_init = bcast_init;
    m->coll_reduce_init = reduce_init;
    m->coll_allreduce_init = allreduce_init;
    m->coll_reduce_scatter_block_init = reduce_scatter_block_init;
    m->coll_reduce_scatter_init = reduce_scatter_init;
    m->coll_gather_init = gather_init;
    m->coll_gatherv_init = gatherv_init;
    m->coll_scatter_init = scatter_init;
    m->coll_scatterv_init = scatterv_init;
    m->coll_allgather_init = allgather_init;
    m->coll_allgatherv_init = allgatherv_init;
    m->coll_alltoall_init = alltoall_init;
    m->coll_alltoallv_init = alltoallv_init;
}

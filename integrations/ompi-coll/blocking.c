/* The blocking collectives of a communicator: on Weft, or as they were selected before. What Weft's own creation asks of the MPI
 * is passed on uncounted. */
#include "coll_weft.h"

static int barrier(struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_barrier(&o, WEFT_MPI_BLOCKING, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_barrier(comm, next->coll_barrier_module);
}

static int bcast(void *buffer, int count, struct ompi_datatype_t *type, int root, struct ompi_communicator_t *comm,
                 mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_bcast(&o, WEFT_MPI_BLOCKING, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_bcast(buffer, count, type, root, comm, next->coll_bcast_module);
}

static int reduce(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op, int root,
                  struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_reduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce(send, recv, count, type, op, root, comm, next->coll_reduce_module);
}

static int allreduce(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op,
                     struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_allreduce(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allreduce(send, recv, count, type, op, comm, next->coll_allreduce_module);
}

static int reduce_scatter_block(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op,
                                struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_BLOCKING, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce_scatter_block(send, recv, count, type, op, comm, next->coll_reduce_scatter_block_module);
}

static int reduce_scatter(const void *send, void *recv, const int *counts, struct ompi_datatype_t *type, struct ompi_op_t *op,
                          struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_BLOCKING, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_reduce_scatter(send, recv, counts, type, op, comm, next->coll_reduce_scatter_module);
}

static int gather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                  struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_gather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_gather(send, send_count, send_type, recv, recv_count, recv_type, root, comm, next->coll_gather_module);
}

static int gatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                   const int *displs, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                   mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_gatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type,
                                                         recv, NUMBERS(counts), NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_gatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm,
                              next->coll_gatherv_module);
}

static int scatter(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                   struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                   mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_scatter(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                 recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_scatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm, next->coll_scatter_module);
}

static int scatterv(const void *send, const int *counts, const int *displs, struct ompi_datatype_t *send_type, void *recv,
                    int recv_count, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                    mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_scatterv(&o, WEFT_MPI_BLOCKING, send, NUMBERS(counts), NUMBERS(displs),
                                                          send_type, recv, (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_scatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm,
                               next->coll_scatterv_module);
}

static int allgather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                     struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_allgather(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                   recv_type, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allgather(send, send_count, send_type, recv, recv_count, recv_type, comm, next->coll_allgather_module);
}

static int allgatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                      const int *displs, struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                      mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() && weft_mpi_prepare_allgatherv(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type,
                                                            recv, NUMBERS(counts), NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm,
                                 next->coll_allgatherv_module);
}

static int alltoall(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                    struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_alltoall(&o, WEFT_MPI_BLOCKING, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                  recv_type, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, next->coll_alltoall_module);
}

static int alltoallv(const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *send_type,
                     void *recv, const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *recv_type,
                     struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (!weft_mpi_own_call() &&
        weft_mpi_prepare_alltoallv(&o, WEFT_MPI_BLOCKING, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type,
                                   recv, NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, NULL);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm,
                                next->coll_alltoallv_module);
}

void coll_weft_set_blocking(mca_coll_base_module_t *m)
{
    m->coll_barrier = barrier;
    m->coll_bcast = bcast;
    m->coll_reduce = reduce;
    m->coll_allreduce = allreduce;
    m->coll_reduce_scatter_block = reduce_scatter_block;
    m->coll_reduce_scatter = reduce_scatter;
    m->coll_gather = gather;
    m->coll_gatherv = gatherv;
    m->coll_scatter = scatter;
    m->coll_scatterv = scatterv;
    m->coll_allgather = allgather;
    m->coll_allgatherv = allgatherv;
    m->coll_alltoall = alltoall;
    m->coll_alltoallv = alltoallv;
}

/* The nonblocking collectives of a communicator: on Weft, or as they were selected before.
 *
 * Open MPI itself calls some of them on a program's communicators, to agree about the number of a new one, from within its
 * progress: at another time among the program's calls on each rank, and while Weft waits. Weft needs one order on all ranks. So
 * only what the program's calls ask for is served. */
#include "coll_weft.h"

#include <dlfcn.h>

/* Whether this code is one of MPI_I..., which is the same on all ranks. Each is a single place in libmpi, found once. */
static bool by_program(weft_mpi_kind kind, void *code)
{
    static void *_Atomic known[WEFT_MPI_KIND_COUNT];
    if (atomic_load_explicit(&known[kind], memory_order_relaxed) == code)
        return true;
    Dl_info caller;
    if (!dladdr(code, &caller) || !caller.dli_sname)
        return false;
    const char *name = caller.dli_sname + (caller.dli_sname[0] == 'P');
    if (strncmp(name, "MPI_I", 5) != 0)
        return false;
    atomic_store_explicit(&known[kind], code, memory_order_relaxed);
    return true;
}

static int ibarrier(struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_BARRIER, __builtin_return_address(0)) && weft_mpi_prepare_barrier(&o, WEFT_MPI_REQUEST, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ibarrier(comm, request, next->coll_ibarrier_module);
}

static int ibcast(void *buffer, int count, struct ompi_datatype_t *type, int root, struct ompi_communicator_t *comm,
                  ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_BCAST, __builtin_return_address(0)) &&
        weft_mpi_prepare_bcast(&o, WEFT_MPI_REQUEST, buffer, (size_t)count, type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ibcast(buffer, count, type, root, comm, request, next->coll_ibcast_module);
}

static int ireduce(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op, int root,
                   struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_REDUCE, __builtin_return_address(0)) &&
        weft_mpi_prepare_reduce(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ireduce(send, recv, count, type, op, root, comm, request, next->coll_ireduce_module);
}

static int iallreduce(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op,
                      struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_ALLREDUCE, __builtin_return_address(0)) &&
        weft_mpi_prepare_allreduce(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iallreduce(send, recv, count, type, op, comm, request, next->coll_iallreduce_module);
}

static int ireduce_scatter_block(const void *send, void *recv, int count, struct ompi_datatype_t *type, struct ompi_op_t *op,
                                 struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_REDUCE_SCATTER_BLOCK, __builtin_return_address(0)) &&
        weft_mpi_prepare_reduce_scatter_block(&o, WEFT_MPI_REQUEST, send, recv, (size_t)count, type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ireduce_scatter_block(send, recv, count, type, op, comm, request,
                                            next->coll_ireduce_scatter_block_module);
}

static int ireduce_scatter(const void *send, void *recv, const int *counts, struct ompi_datatype_t *type, struct ompi_op_t *op,
                           struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_REDUCE_SCATTER, __builtin_return_address(0)) &&
        weft_mpi_prepare_reduce_scatter(&o, WEFT_MPI_REQUEST, send, recv, NUMBERS(counts), type, op, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ireduce_scatter(send, recv, counts, type, op, comm, request, next->coll_ireduce_scatter_module);
}

static int igather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                   struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm, ompi_request_t **request,
                   mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_GATHER, __builtin_return_address(0)) &&
        weft_mpi_prepare_gather(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_igather(send, send_count, send_type, recv, recv_count, recv_type, root, comm, request,
                              next->coll_igather_module);
}

static int igatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                    const int *displs, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                    ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_GATHERV, __builtin_return_address(0)) &&
        weft_mpi_prepare_gatherv(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                 NUMBERS(displs), recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_igatherv(send, send_count, send_type, recv, counts, displs, recv_type, root, comm, request,
                               next->coll_igatherv_module);
}

static int iscatter(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                    struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm, ompi_request_t **request,
                    mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_SCATTER, __builtin_return_address(0)) &&
        weft_mpi_prepare_scatter(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count, recv_type,
                                 root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iscatter(send, send_count, send_type, recv, recv_count, recv_type, root, comm, request,
                               next->coll_iscatter_module);
}

static int iscatterv(const void *send, const int *counts, const int *displs, struct ompi_datatype_t *send_type, void *recv,
                     int recv_count, struct ompi_datatype_t *recv_type, int root, struct ompi_communicator_t *comm,
                     ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_SCATTERV, __builtin_return_address(0)) &&
        weft_mpi_prepare_scatterv(&o, WEFT_MPI_REQUEST, send, NUMBERS(counts), NUMBERS(displs), send_type, recv,
                                  (size_t)recv_count, recv_type, root, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iscatterv(send, counts, displs, send_type, recv, recv_count, recv_type, root, comm, request,
                                next->coll_iscatterv_module);
}

static int iallgather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request,
                      mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_ALLGATHER, __builtin_return_address(0)) &&
        weft_mpi_prepare_allgather(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                   recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iallgather(send, send_count, send_type, recv, recv_count, recv_type, comm, request,
                                 next->coll_iallgather_module);
}

static int iallgatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts,
                       const int *displs, struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                       ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_ALLGATHERV, __builtin_return_address(0)) &&
        weft_mpi_prepare_allgatherv(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, NUMBERS(counts),
                                    NUMBERS(displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iallgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm, request,
                                  next->coll_iallgatherv_module);
}

static int ialltoall(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                     struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request,
                     mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_ALLTOALL, __builtin_return_address(0)) &&
        weft_mpi_prepare_alltoall(&o, WEFT_MPI_REQUEST, send, (size_t)send_count, send_type, recv, (size_t)recv_count,
                                  recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ialltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, request,
                                next->coll_ialltoall_module);
}

static int ialltoallv(const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *send_type,
                      void *recv, const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *recv_type,
                      struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_operation o;
    if (by_program(WEFT_MPI_ALLTOALLV, __builtin_return_address(0)) &&
        weft_mpi_prepare_alltoallv(&o, WEFT_MPI_REQUEST, send, NUMBERS(send_counts), NUMBERS(send_displs), send_type,
                                   recv, NUMBERS(recv_counts), NUMBERS(recv_displs), recv_type, comm))
        return weft_mpi_run(&o, request);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ialltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm,
                                 request, next->coll_ialltoallv_module);
}

void coll_weft_set_nonblocking(mca_coll_base_module_t *m)
{
    m->coll_ibarrier = ibarrier;
    m->coll_ibcast = ibcast;
    m->coll_ireduce = ireduce;
    m->coll_iallreduce = iallreduce;
    m->coll_ireduce_scatter_block = ireduce_scatter_block;
    m->coll_ireduce_scatter = ireduce_scatter;
    m->coll_igather = igather;
    m->coll_igatherv = igatherv;
    m->coll_iscatter = iscatter;
    m->coll_iscatterv = iscatterv;
    m->coll_iallgather = iallgather;
    m->coll_iallgatherv = iallgatherv;
    m->coll_ialltoall = ialltoall;
    m->coll_ialltoallv = ialltoallv;
}

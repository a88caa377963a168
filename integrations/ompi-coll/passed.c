/* Collectives that Weft does not have and that blocking.c does not count: nonblocking and of neighbourhoods. */
#include "coll_weft.h"

static int iscan(const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
                 struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_SCAN, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iscan(send, recv, elements, type, op, comm, request, next->coll_iscan_module);
}

static int iexscan(const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
                   struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_EXSCAN, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_iexscan(send, recv, elements, type, op, comm, request, next->coll_iexscan_module);
}

static int ialltoallw(const void *send, const int *send_counts, const int *send_displs,
                      struct ompi_datatype_t *const *send_types, void *recv, const int *recv_counts, const int *recv_displs,
                      struct ompi_datatype_t *const *recv_types, struct ompi_communicator_t *comm, ompi_request_t **request,
                      mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ialltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm,
                                 request, next->coll_ialltoallw_module);
}

static int neighbor_allgather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                              struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                              mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHER, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_neighbor_allgather(send, send_count, send_type, recv, recv_count, recv_type, comm,
                                         next->coll_neighbor_allgather_module);
}

static int neighbor_allgatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv,
                               const int *counts, const int *displs, struct ompi_datatype_t *recv_type,
                               struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHERV, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_neighbor_allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm,
                                          next->coll_neighbor_allgatherv_module);
}

static int neighbor_alltoall(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                             struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                             mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALL, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_neighbor_alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm,
                                        next->coll_neighbor_alltoall_module);
}

static int neighbor_alltoallv(const void *send, const int *send_counts, const int *send_displs,
                              struct ompi_datatype_t *send_type, void *recv, const int *recv_counts, const int *recv_displs,
                              struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
                              mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLV, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_neighbor_alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type,
                                         comm, next->coll_neighbor_alltoallv_module);
}

static int neighbor_alltoallw(const void *send, const int *send_counts, const MPI_Aint *send_displs,
                              struct ompi_datatype_t *const *send_types, void *recv, const int *recv_counts,
                              const MPI_Aint *recv_displs, struct ompi_datatype_t *const *recv_types,
                              struct ompi_communicator_t *comm, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_neighbor_alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types,
                                         comm, next->coll_neighbor_alltoallw_module);
}

static int ineighbor_allgather(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                               struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request,
                               mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHER, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ineighbor_allgather(send, send_count, send_type, recv, recv_count, recv_type, comm, request,
                                          next->coll_ineighbor_allgather_module);
}

static int ineighbor_allgatherv(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv,
                                const int *counts, const int *displs, struct ompi_datatype_t *recv_type,
                                struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLGATHERV, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ineighbor_allgatherv(send, send_count, send_type, recv, counts, displs, recv_type, comm, request,
                                           next->coll_ineighbor_allgatherv_module);
}

static int ineighbor_alltoall(const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
                              struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request,
                              mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALL, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ineighbor_alltoall(send, send_count, send_type, recv, recv_count, recv_type, comm, request,
                                         next->coll_ineighbor_alltoall_module);
}

static int ineighbor_alltoallv(const void *send, const int *send_counts, const int *send_displs,
                               struct ompi_datatype_t *send_type, void *recv, const int *recv_counts, const int *recv_displs,
                               struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request,
                               mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLV, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ineighbor_alltoallv(send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type,
                                          comm, request, next->coll_ineighbor_alltoallv_module);
}

static int ineighbor_alltoallw(const void *send, const int *send_counts, const MPI_Aint *send_displs,
                               struct ompi_datatype_t *const *send_types, void *recv, const int *recv_counts,
                               const MPI_Aint *recv_displs, struct ompi_datatype_t *const *recv_types,
                               struct ompi_communicator_t *comm, ompi_request_t **request, mca_coll_base_module_t *module)
{
    weft_mpi_count(WEFT_MPI_NEIGHBOR_ALLTOALLW, WEFT_MPI_NOT_COVERED, 0);
    const mca_coll_base_comm_coll_t *next = coll_weft_next(module);
    return next->coll_ineighbor_alltoallw(send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs,
                                          recv_types, comm, request, next->coll_ineighbor_alltoallw_module);
}

void coll_weft_set_passed(mca_coll_base_module_t *m)
{
    m->coll_iscan = iscan;
    m->coll_iexscan = iexscan;
    m->coll_ialltoallw = ialltoallw;
    m->coll_neighbor_allgather = neighbor_allgather;
    m->coll_neighbor_allgatherv = neighbor_allgatherv;
    m->coll_neighbor_alltoall = neighbor_alltoall;
    m->coll_neighbor_alltoallv = neighbor_alltoallv;
    m->coll_neighbor_alltoallw = neighbor_alltoallw;
    m->coll_ineighbor_allgather = ineighbor_allgather;
    m->coll_ineighbor_allgatherv = ineighbor_allgatherv;
    m->coll_ineighbor_alltoall = ineighbor_alltoall;
    m->coll_ineighbor_alltoallv = ineighbor_alltoallv;
    m->coll_ineighbor_alltoallw = ineighbor_alltoallw;
}

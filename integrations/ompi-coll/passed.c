/* The collectives that Weft does not have: passed on, and counted so that the report is complete. */
#include "coll_weft.h"

#define UNWRAP(...) __VA_ARGS__
/* Slot, kind, what it gets but for the module, and what the next component's function gets of that. */
#define PASS(slot, kind, parameters, ...)                                     \
    static int slot(UNWRAP parameters, mca_coll_base_module_t *module)        \
    {                                                                         \
        const mca_coll_base_comm_coll_t *next = coll_weft_next(module);       \
        if (!weft_mpi_own_call())                                             \
            weft_mpi_count(kind, WEFT_MPI_NOT_COVERED, 0);                    \
        return next->coll_##slot(__VA_ARGS__, next->coll_##slot##_module);    \
    }

PASS(scan, WEFT_MPI_SCAN,
     (const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
      struct ompi_communicator_t *comm),
     send, recv, elements, type, op, comm)
PASS(exscan, WEFT_MPI_EXSCAN,
     (const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
      struct ompi_communicator_t *comm),
     send, recv, elements, type, op, comm)
PASS(alltoallw, WEFT_MPI_ALLTOALLW,
     (const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *const *send_types,
      void *recv, const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *const *recv_types,
      struct ompi_communicator_t *comm),
     send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm)
PASS(iscan, WEFT_MPI_SCAN,
     (const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
      struct ompi_communicator_t *comm, ompi_request_t **request),
     send, recv, elements, type, op, comm, request)
PASS(iexscan, WEFT_MPI_EXSCAN,
     (const void *send, void *recv, int elements, struct ompi_datatype_t *type, struct ompi_op_t *op,
      struct ompi_communicator_t *comm, ompi_request_t **request),
     send, recv, elements, type, op, comm, request)
PASS(ialltoallw, WEFT_MPI_ALLTOALLW,
     (const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *const *send_types,
      void *recv, const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *const *recv_types,
      struct ompi_communicator_t *comm, ompi_request_t **request),
     send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm, request)
PASS(neighbor_allgather, WEFT_MPI_NEIGHBOR_ALLGATHER,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm),
     send, send_count, send_type, recv, recv_count, recv_type, comm)
PASS(neighbor_allgatherv, WEFT_MPI_NEIGHBOR_ALLGATHERV,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts, const int *displs,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm),
     send, send_count, send_type, recv, counts, displs, recv_type, comm)
PASS(neighbor_alltoall, WEFT_MPI_NEIGHBOR_ALLTOALL,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm),
     send, send_count, send_type, recv, recv_count, recv_type, comm)
PASS(neighbor_alltoallv, WEFT_MPI_NEIGHBOR_ALLTOALLV,
     (const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *send_type, void *recv,
      const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm),
     send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm)
PASS(neighbor_alltoallw, WEFT_MPI_NEIGHBOR_ALLTOALLW,
     (const void *send, const int *send_counts, const MPI_Aint *send_displs, struct ompi_datatype_t *const *send_types,
      void *recv, const int *recv_counts, const MPI_Aint *recv_displs, struct ompi_datatype_t *const *recv_types,
      struct ompi_communicator_t *comm),
     send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm)
PASS(ineighbor_allgather, WEFT_MPI_NEIGHBOR_ALLGATHER,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request),
     send, send_count, send_type, recv, recv_count, recv_type, comm, request)
PASS(ineighbor_allgatherv, WEFT_MPI_NEIGHBOR_ALLGATHERV,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, const int *counts, const int *displs,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request),
     send, send_count, send_type, recv, counts, displs, recv_type, comm, request)
PASS(ineighbor_alltoall, WEFT_MPI_NEIGHBOR_ALLTOALL,
     (const void *send, int send_count, struct ompi_datatype_t *send_type, void *recv, int recv_count,
      struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm, ompi_request_t **request),
     send, send_count, send_type, recv, recv_count, recv_type, comm, request)
PASS(ineighbor_alltoallv, WEFT_MPI_NEIGHBOR_ALLTOALLV,
     (const void *send, const int *send_counts, const int *send_displs, struct ompi_datatype_t *send_type, void *recv,
      const int *recv_counts, const int *recv_displs, struct ompi_datatype_t *recv_type, struct ompi_communicator_t *comm,
      ompi_request_t **request),
     send, send_counts, send_displs, send_type, recv, recv_counts, recv_displs, recv_type, comm, request)
PASS(ineighbor_alltoallw, WEFT_MPI_NEIGHBOR_ALLTOALLW,
     (const void *send, const int *send_counts, const MPI_Aint *send_displs, struct ompi_datatype_t *const *send_types,
      void *recv, const int *recv_counts, const MPI_Aint *recv_displs, struct ompi_datatype_t *const *recv_types,
      struct ompi_communicator_t *comm, ompi_request_t **request),
     send, send_counts, send_displs, send_types, recv, recv_counts, recv_displs, recv_types, comm, request)

void coll_weft_set_passed(mca_coll_base_module_t *m)
{
    m->coll_scan = scan;
    m->coll_exscan = exscan;
    m->coll_alltoallw = alltoallw;
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

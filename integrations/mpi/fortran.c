/* Fortran's names of the collectives for Open MPI, whose own go to PMPI_ and so past this library (MPICH's do not). They turn
 * handles and special addresses into C's and call the functions of the other files. `ompi_*_f` is what the module mpi_f08
 * calls. */
#include "weft_mpi.h"

#if WEFT_MPI_OPEN_MPI

_Static_assert(sizeof(MPI_Fint) == sizeof(int), "INTEGER of Fortran must be C's int: arrays are not converted");

/* Fortran's MPI_IN_PLACE and MPI_BOTTOM are the addresses of these variables of Open MPI, named as gfortran does. */
extern char mpi_fortran_in_place_, mpi_fortran_bottom_;

static void *address(char *buffer)
{
    return buffer == &mpi_fortran_in_place_ ? MPI_IN_PLACE : buffer == &mpi_fortran_bottom_ ? MPI_BOTTOM : (void *)buffer;
}

/* The error argument of mpi_f08 may be left out. */
static void set(MPI_Fint *error, int code)
{
    if (error)
        *error = code;
}

static void finish_begun(int code, MPI_Request begun, MPI_Fint *request, MPI_Fint *error)
{
    if (code == MPI_SUCCESS)
        *request = PMPI_Request_c2f(begun);
    set(error, code);
}

WEFT_MPI_EXPORT void mpi_barrier_(const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Barrier(PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ibarrier_(const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ibarrier(PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_bcast_(char *buffer, const MPI_Fint *count, const MPI_Fint *type, const MPI_Fint *root,
                                const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Bcast(address(buffer), *count, PMPI_Type_f2c(*type), *root, PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ibcast_(char *buffer, const MPI_Fint *count, const MPI_Fint *type, const MPI_Fint *root,
                                 const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ibcast(address(buffer), *count, PMPI_Type_f2c(*type), *root, PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_reduce_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type, const MPI_Fint *op,
                                 const MPI_Fint *root, const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Reduce(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op), *root,
                          PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ireduce_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type, const MPI_Fint *op,
                                  const MPI_Fint *root, const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ireduce(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op), *root,
                           PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_allreduce_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type, const MPI_Fint *op,
                                    const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Allreduce(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                             PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_iallreduce_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type,
                                     const MPI_Fint *op, const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Iallreduce(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                              PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_reduce_scatter_block_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type,
                                               const MPI_Fint *op, const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Reduce_scatter_block(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                                        PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ireduce_scatter_block_(char *send, char *recv, const MPI_Fint *count, const MPI_Fint *type,
                                                const MPI_Fint *op, const MPI_Fint *comm, MPI_Fint *request,
                                                MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ireduce_scatter_block(address(send), address(recv), *count, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                                         PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_reduce_scatter_(char *send, char *recv, const MPI_Fint counts[], const MPI_Fint *type,
                                         const MPI_Fint *op, const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Reduce_scatter(address(send), address(recv), counts, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                                  PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ireduce_scatter_(char *send, char *recv, const MPI_Fint counts[], const MPI_Fint *type,
                                          const MPI_Fint *op, const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ireduce_scatter(address(send), address(recv), counts, PMPI_Type_f2c(*type), PMPI_Op_f2c(*op),
                                   PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_gather_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                 const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                 const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Gather(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                          PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_igather_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                  const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                  const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Igather(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                           PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_gatherv_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                  const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *recv_type,
                                  const MPI_Fint *root, const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Gatherv(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), counts, displs,
                           PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_igatherv_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                   const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *recv_type,
                                   const MPI_Fint *root, const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Igatherv(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), counts, displs,
                            PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_scatter_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                  const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                  const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Scatter(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                           PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_iscatter_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                   const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                   const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Iscatter(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                            PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_scatterv_(char *send, const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *send_type,
                                   char *recv, const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                   const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Scatterv(address(send), counts, displs, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                            PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_iscatterv_(char *send, const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *send_type,
                                    char *recv, const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *root,
                                    const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Iscatterv(address(send), counts, displs, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                             PMPI_Type_f2c(*recv_type), *root, PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_allgather_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                    const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *comm,
                                    MPI_Fint *error)
{
    set(error, MPI_Allgather(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                             PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_iallgather_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                     const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *comm,
                                     MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Iallgather(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                              PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_allgatherv_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                     const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *recv_type,
                                     const MPI_Fint *comm, MPI_Fint *error)
{
    set(error, MPI_Allgatherv(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), counts, displs,
                              PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_iallgatherv_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                      const MPI_Fint counts[], const MPI_Fint displs[], const MPI_Fint *recv_type,
                                      const MPI_Fint *comm, MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Iallgatherv(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), counts, displs,
                               PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_alltoall_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                   const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *comm,
                                   MPI_Fint *error)
{
    set(error, MPI_Alltoall(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                            PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ialltoall_(char *send, const MPI_Fint *send_count, const MPI_Fint *send_type, char *recv,
                                    const MPI_Fint *recv_count, const MPI_Fint *recv_type, const MPI_Fint *comm,
                                    MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ialltoall(address(send), *send_count, PMPI_Type_f2c(*send_type), address(recv), *recv_count,
                             PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_alltoallv_(char *send, const MPI_Fint send_counts[], const MPI_Fint send_displs[],
                                    const MPI_Fint *send_type, char *recv, const MPI_Fint recv_counts[],
                                    const MPI_Fint recv_displs[], const MPI_Fint *recv_type, const MPI_Fint *comm,
                                    MPI_Fint *error)
{
    set(error, MPI_Alltoallv(address(send), send_counts, send_displs, PMPI_Type_f2c(*send_type), address(recv), recv_counts,
                             recv_displs, PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm)));
}

WEFT_MPI_EXPORT void mpi_ialltoallv_(char *send, const MPI_Fint send_counts[], const MPI_Fint send_displs[],
                                     const MPI_Fint *send_type, char *recv, const MPI_Fint recv_counts[],
                                     const MPI_Fint recv_displs[], const MPI_Fint *recv_type, const MPI_Fint *comm,
                                     MPI_Fint *request, MPI_Fint *error)
{
    MPI_Request begun = MPI_REQUEST_NULL;
    int code = MPI_Ialltoallv(address(send), send_counts, send_displs, PMPI_Type_f2c(*send_type), address(recv),
                              recv_counts, recv_displs, PMPI_Type_f2c(*recv_type), PMPI_Comm_f2c(*comm), &begun);
    finish_begun(code, begun, request, error);
}

WEFT_MPI_EXPORT void mpi_finalize_(MPI_Fint *error) { set(error, MPI_Finalize()); }

WEFT_MPI_EXPORT void mpi_comm_free_(MPI_Fint *comm, MPI_Fint *error)
{
    MPI_Comm freed = PMPI_Comm_f2c(*comm);
    int code = MPI_Comm_free(&freed);
    if (code == MPI_SUCCESS)
        *comm = PMPI_Comm_c2f(freed);
    set(error, code);
}

WEFT_MPI_EXPORT void mpi_comm_disconnect_(MPI_Fint *comm, MPI_Fint *error)
{
    MPI_Comm freed = PMPI_Comm_f2c(*comm);
    int code = MPI_Comm_disconnect(&freed);
    if (code == MPI_SUCCESS)
        *comm = PMPI_Comm_c2f(freed);
    set(error, code);
}

#pragma weak ompi_barrier_f = mpi_barrier_
#pragma weak ompi_ibarrier_f = mpi_ibarrier_
#pragma weak ompi_bcast_f = mpi_bcast_
#pragma weak ompi_ibcast_f = mpi_ibcast_
#pragma weak ompi_reduce_f = mpi_reduce_
#pragma weak ompi_ireduce_f = mpi_ireduce_
#pragma weak ompi_allreduce_f = mpi_allreduce_
#pragma weak ompi_iallreduce_f = mpi_iallreduce_
#pragma weak ompi_reduce_scatter_block_f = mpi_reduce_scatter_block_
#pragma weak ompi_ireduce_scatter_block_f = mpi_ireduce_scatter_block_
#pragma weak ompi_reduce_scatter_f = mpi_reduce_scatter_
#pragma weak ompi_ireduce_scatter_f = mpi_ireduce_scatter_
#pragma weak ompi_gather_f = mpi_gather_
#pragma weak ompi_igather_f = mpi_igather_
#pragma weak ompi_gatherv_f = mpi_gatherv_
#pragma weak ompi_igatherv_f = mpi_igatherv_
#pragma weak ompi_scatter_f = mpi_scatter_
#pragma weak ompi_iscatter_f = mpi_iscatter_
#pragma weak ompi_scatterv_f = mpi_scatterv_
#pragma weak ompi_iscatterv_f = mpi_iscatterv_
#pragma weak ompi_allgather_f = mpi_allgather_
#pragma weak ompi_iallgather_f = mpi_iallgather_
#pragma weak ompi_allgatherv_f = mpi_allgatherv_
#pragma weak ompi_iallgatherv_f = mpi_iallgatherv_
#pragma weak ompi_alltoall_f = mpi_alltoall_
#pragma weak ompi_ialltoall_f = mpi_ialltoall_
#pragma weak ompi_alltoallv_f = mpi_alltoallv_
#pragma weak ompi_ialltoallv_f = mpi_ialltoallv_
#pragma weak ompi_finalize_f = mpi_finalize_
#pragma weak ompi_comm_free_f = mpi_comm_free_
#pragma weak ompi_comm_disconnect_f = mpi_comm_disconnect_

#endif

/* From the arguments of each MPI collective to an operation of Weft; shared by its blocking, nonblocking and persistent form.
 * Each returns false if the call is to be passed on to the MPI. */
#ifndef WEFT_MPI_PREPARE_H
#define WEFT_MPI_PREPARE_H

#include "weft_mpi.h"

#define NUMBERS(array) ((weft_mpi_numbers){(array), sizeof *(array)})

/* What the calls of MPI that programs make have for counts and displacements; others in large.c. */
#ifndef WEFT_MPI_LARGE
#define COUNT int
#define DISPL int
#endif

bool weft_mpi_prepare_barrier(weft_mpi_operation *o, weft_mpi_form form, MPI_Comm comm);
bool weft_mpi_prepare_bcast(weft_mpi_operation *o, weft_mpi_form form, void *buffer, size_t count, MPI_Datatype type,
                            int root, MPI_Comm comm);
bool weft_mpi_prepare_reduce(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv, size_t count,
                             MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm);
bool weft_mpi_prepare_allreduce(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv, size_t count,
                                MPI_Datatype type, MPI_Op op, MPI_Comm comm);
bool weft_mpi_prepare_reduce_scatter_block(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv,
                                           size_t count, MPI_Datatype type, MPI_Op op, MPI_Comm comm);
bool weft_mpi_prepare_reduce_scatter(weft_mpi_operation *o, weft_mpi_form form, const void *send, void *recv,
                                     weft_mpi_numbers counts, MPI_Datatype type, MPI_Op op, MPI_Comm comm);
bool weft_mpi_prepare_gather(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                             MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type, int root,
                             MPI_Comm comm);
bool weft_mpi_prepare_gatherv(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                              MPI_Datatype send_type, void *recv, weft_mpi_numbers counts, weft_mpi_numbers displs,
                              MPI_Datatype recv_type, int root, MPI_Comm comm);
bool weft_mpi_prepare_scatter(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                              MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type, int root,
                              MPI_Comm comm);
bool weft_mpi_prepare_scatterv(weft_mpi_operation *o, weft_mpi_form form, const void *send, weft_mpi_numbers counts,
                               weft_mpi_numbers displs, MPI_Datatype send_type, void *recv, size_t recv_count,
                               MPI_Datatype recv_type, int root, MPI_Comm comm);
bool weft_mpi_prepare_allgather(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                                MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type,
                                MPI_Comm comm);
bool weft_mpi_prepare_allgatherv(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                                 MPI_Datatype send_type, void *recv, weft_mpi_numbers counts, weft_mpi_numbers displs,
                                 MPI_Datatype recv_type, MPI_Comm comm);
bool weft_mpi_prepare_alltoall(weft_mpi_operation *o, weft_mpi_form form, const void *send, size_t send_count,
                               MPI_Datatype send_type, void *recv, size_t recv_count, MPI_Datatype recv_type,
                               MPI_Comm comm);
bool weft_mpi_prepare_alltoallv(weft_mpi_operation *o, weft_mpi_form form, const void *send,
                                weft_mpi_numbers send_counts, weft_mpi_numbers send_displs, MPI_Datatype send_type,
                                void *recv, weft_mpi_numbers recv_counts, weft_mpi_numbers recv_displs,
                                MPI_Datatype recv_type, MPI_Comm comm);

#endif

/* Blocking point-to-point calls of an MPI that does not progress Weft by itself (MPICH): while operations of Weft are under way,
 * they are begun without blocking and Weft is polled until they are done. Else they are passed on as they are. */
#include "weft_mpi.h"

#if !WEFT_MPI_OPEN_MPI
#include <sched.h>

/* What a begun call ends with. */
static int finish(int code, MPI_Request *request, MPI_Status *status)
{
    return code == MPI_SUCCESS ? weft_mpi_wait_polling(request, status) : code;
}

WEFT_MPI_EXPORT int MPI_Send(const void *buffer, int count, MPI_Datatype type, int dest, int tag, MPI_Comm comm)
{
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Send(buffer, count, type, dest, tag, comm);
    return finish(PMPI_Isend(buffer, count, type, dest, tag, comm, &request), &request, MPI_STATUS_IGNORE);
}

WEFT_MPI_EXPORT int MPI_Ssend(const void *buffer, int count, MPI_Datatype type, int dest, int tag, MPI_Comm comm)
{
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Ssend(buffer, count, type, dest, tag, comm);
    return finish(PMPI_Issend(buffer, count, type, dest, tag, comm, &request), &request, MPI_STATUS_IGNORE);
}

WEFT_MPI_EXPORT int MPI_Rsend(const void *buffer, int count, MPI_Datatype type, int dest, int tag, MPI_Comm comm)
{
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Rsend(buffer, count, type, dest, tag, comm);
    return finish(PMPI_Irsend(buffer, count, type, dest, tag, comm, &request), &request, MPI_STATUS_IGNORE);
}

WEFT_MPI_EXPORT int MPI_Recv(void *buffer, int count, MPI_Datatype type, int source, int tag, MPI_Comm comm,
                             MPI_Status *status)
{
    MPI_Request request;
    if (!weft_mpi_must_poll())
        return PMPI_Recv(buffer, count, type, source, tag, comm, status);
    return finish(PMPI_Irecv(buffer, count, type, source, tag, comm, &request), &request, status);
}

WEFT_MPI_EXPORT int MPI_Sendrecv(const void *send, int send_count, MPI_Datatype send_type, int dest, int send_tag, void *recv,
                                 int recv_count, MPI_Datatype recv_type, int source, int recv_tag, MPI_Comm comm,
                                 MPI_Status *status)
{
    if (!weft_mpi_must_poll())
        return PMPI_Sendrecv(send, send_count, send_type, dest, send_tag, recv, recv_count, recv_type, source, recv_tag, comm,
                             status);
    MPI_Request receiving, sending;
    int code = PMPI_Irecv(recv, recv_count, recv_type, source, recv_tag, comm, &receiving);
    if (code != MPI_SUCCESS)
        return code;
    code = finish(PMPI_Isend(send, send_count, send_type, dest, send_tag, comm, &sending), &sending, MPI_STATUS_IGNORE);
    int received = weft_mpi_wait_polling(&receiving, status);
    return code != MPI_SUCCESS ? code : received;
}

WEFT_MPI_EXPORT int MPI_Probe(int source, int tag, MPI_Comm comm, MPI_Status *status)
{
    int found = 0, code = MPI_SUCCESS;
    while (code == MPI_SUCCESS && !found && weft_mpi_must_poll()) {
        weft_mpi_poll();
        code = PMPI_Iprobe(source, tag, comm, &found, status);
        if (!found)
            sched_yield();
    }
    return found || code != MPI_SUCCESS ? code : PMPI_Probe(source, tag, comm, status);
}

WEFT_MPI_EXPORT int MPI_Mprobe(int source, int tag, MPI_Comm comm, MPI_Message *message, MPI_Status *status)
{
    int found = 0, code = MPI_SUCCESS;
    while (code == MPI_SUCCESS && !found && weft_mpi_must_poll()) {
        weft_mpi_poll();
        code = PMPI_Improbe(source, tag, comm, &found, message, status);
        if (!found)
            sched_yield();
    }
    return found || code != MPI_SUCCESS ? code : PMPI_Mprobe(source, tag, comm, message, status);
}

#endif

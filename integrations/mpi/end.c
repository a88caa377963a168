/* The calls that end a communicator, and the MPI. */
#include "weft_mpi.h"

WEFT_MPI_EXPORT int MPI_Comm_free(MPI_Comm *comm)
{
    if (comm)
        weft_mpi_comm_forget(*comm);
    return PMPI_Comm_free(comm);
}

WEFT_MPI_EXPORT int MPI_Comm_disconnect(MPI_Comm *comm)
{
    if (comm)
        weft_mpi_comm_forget(*comm);
    return PMPI_Comm_disconnect(comm);
}

WEFT_MPI_EXPORT int MPI_Finalize(void)
{
    weft_mpi_end();
    return PMPI_Finalize();
}

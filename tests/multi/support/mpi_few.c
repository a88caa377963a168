/* Some ranks use collectives, the last none at all: MPI_Finalize must not wait for it to. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    int rank, one = 1, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0)
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_SELF);
    if (rank < 2) {
        MPI_Group world, two;
        MPI_Comm pair;
        MPI_Comm_group(MPI_COMM_WORLD, &world);
        MPI_Group_incl(world, 2, (int[]){0, 1}, &two);
        MPI_Comm_create_group(MPI_COMM_WORLD, two, 7, &pair);
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, pair);
        if (sum != 2)
            MPI_Abort(MPI_COMM_WORLD, 3);
    }
    MPI_Finalize();
    if (rank == 0)
        puts("few: good");
    return 0;
}

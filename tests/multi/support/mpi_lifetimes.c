/* An MPI program that frees what it uses as early as MPI allows: types and communicators while operations on them are under way,
 * and makes communicators of every kind among collectives on their parents. Checks its results. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef OMPI_MAJOR_VERSION
#include <mpi-ext.h>
#endif

/* Open MPI 4.1 has the persistent ones by another name. */
#if MPI_VERSION < 4 && defined OMPI_HAVE_MPI_EXT_PCOLLREQ
#define MPI_Allgather_init MPIX_Allgather_init
#endif

static int rank, size;

static void expect(int got, int expected, const char *what)
{
    if (got == expected)
        return;
    fprintf(stderr, "rank %d: %s: %d instead of %d\n", rank, what, got, expected);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Every other int of four. */
static MPI_Datatype make_strided(void)
{
    MPI_Datatype strided;
    MPI_Type_vector(2, 1, 2, MPI_INT, &strided);
    MPI_Type_create_resized(strided, 0, 4 * sizeof(int), &strided);
    MPI_Type_commit(&strided);
    return strided;
}

static void check_gathered(const int *all, int round, const char *what)
{
    for (int i = 0; i < size; i++) {
        expect(all[4 * i], 10 * i + round, what);
        expect(all[4 * i + 1], -1, what);
        expect(all[4 * i + 2], 10 * i + round + 1, what);
    }
}

static void clear(int *all)
{
    for (int i = 0; i < 4 * size; i++)
        all[i] = -1;
}

static void free_types_under_way(MPI_Comm comm, int *all)
{
    MPI_Barrier(comm);
    for (int round = 0; round < 20; round++) {
        MPI_Datatype strided = make_strided(), others[8];
        int mine[4] = {10 * rank + round, -2, 10 * rank + round + 1, -2};
        MPI_Request request;
        clear(all);
        MPI_Iallgather(mine, 1, strided, all, 1, strided, comm, &request);
        MPI_Type_free(&strided);
        for (int i = 0; i < 8; i++) { /* that may get its place in memory */
            MPI_Type_vector(3 + i, 2, 5, MPI_DOUBLE, &others[i]);
            MPI_Type_commit(&others[i]);
        }
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        check_gathered(all, round, "iallgather with a freed type");
        for (int i = 0; i < 8; i++)
            MPI_Type_free(&others[i]);
    }
}

static void free_communicators_under_way(void)
{
    for (int round = 0; round < 10; round++) {
        MPI_Comm comm;
        MPI_Request request;
        int mine = rank + round, sum = 0;
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        MPI_Barrier(comm);
        MPI_Iallreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, comm, &request);
        MPI_Comm_free(&comm);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        expect(sum, size * (size - 1) / 2 + size * round, "iallreduce on a freed communicator");
    }
}

static void duplicate_under_way(void)
{
    for (int round = 0; round < 10; round++) {
        MPI_Comm parent, child;
        MPI_Request requests[2];
        int mine = rank, sum = 0, most = 0, token = rank;
        MPI_Comm_dup(MPI_COMM_WORLD, &parent);
        if (round % 2)
            MPI_Barrier(parent);
        MPI_Comm_idup(parent, &child, &requests[0]);
        if (rank % 2) /* ranks come to the steps of the duplication at other times */
            MPI_Sendrecv_replace(&token, 1, MPI_INT, rank, 0, rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        MPI_Allreduce(&mine, &most, 1, MPI_INT, MPI_MAX, parent);
        MPI_Wait(&requests[0], MPI_STATUS_IGNORE);
        expect(sum, size * (size - 1) / 2, "allreduce beside idup");
        expect(most, size - 1, "allreduce on what is duplicated");
        sum = 0;
        MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, child);
        expect(sum, size * (size - 1) / 2, "allreduce on the duplicate");
        MPI_Comm_free(&parent);
        MPI_Comm_free(&child);
    }
}

/* An MPI makes these by collectives of its own on the parents. */
static void join_halves(void)
{
    MPI_Comm half, inter, joined;
    int odd = rank % 2, mine = 1, sum = 0, remote = 0;
    if (size < 2)
        return;
    MPI_Comm_split(MPI_COMM_WORLD, odd, rank, &half);
    MPI_Barrier(half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - odd, 7, &inter);
    MPI_Allreduce(&mine, &remote, 1, MPI_INT, MPI_SUM, inter);
    expect(remote, odd ? (size + 1) / 2 : size / 2, "allreduce between halves");
    MPI_Intercomm_merge(inter, odd, &joined);
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, joined);
    expect(sum, size, "allreduce on joined halves");
    MPI_Comm_free(&joined);
    MPI_Comm_free(&inter);
    MPI_Comm_free(&half);
}

#if defined MPI_Allgather_init || MPI_VERSION >= 4 || (defined OMPI_MAJOR_VERSION && OMPI_MAJOR_VERSION >= 5)
static void start_again(MPI_Comm comm, int *all)
{
    MPI_Datatype strided = make_strided();
    int mine[4] = {0, -2, 0, -2};
    MPI_Request request;
    MPI_Allgather_init(mine, 1, strided, all, 1, strided, comm, MPI_INFO_NULL, &request);
    MPI_Type_free(&strided);
    for (int round = 0; round < 20; round++) {
        mine[0] = 10 * rank + round;
        mine[2] = 10 * rank + round + 1;
        clear(all);
        MPI_Start(&request);
        if (round % 2) {
            int done = 0;
            while (!done)
                MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        } else {
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        }
        check_gathered(all, round, "persistent allgather with a freed type");
    }
    MPI_Request_free(&request);
}
#else
static void start_again(MPI_Comm comm, int *all) { (void)comm, (void)all; }
#endif

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int *all = malloc((size_t)size * 4 * sizeof *all);
    free_types_under_way(MPI_COMM_WORLD, all);
    free_communicators_under_way();
    duplicate_under_way();
    join_halves();
    start_again(MPI_COMM_WORLD, all);
    free(all);
    if (rank == 0)
        puts("lifetimes: good");
    MPI_Finalize();
    return 0;
}

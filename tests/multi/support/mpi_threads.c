/* An MPI program with threads (MPI_THREAD_MULTIPLE): each has a communicator and mixes collectives, blocking and not, with
 * messages, while the others do the same. Exit code 77: the MPI gives no such threads. */
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 3, ROUNDS = 60 };

static int rank, size;

static void expect(int got, int expected, const char *what)
{
    if (got == expected)
        return;
    fprintf(stderr, "rank %d: %s: %d instead of %d\n", rank, what, got, expected);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* A communicator comes and goes while other threads wait in Weft and in the MPI. */
static void come_and_go(MPI_Comm parent, int round)
{
    MPI_Comm comm;
    MPI_Request request;
    int mine = rank + round, sum = 0;
    MPI_Comm_dup(parent, &comm);
    MPI_Barrier(comm);
    MPI_Iallreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, comm, &request);
#ifdef OPEN_MPI /* 4.1 crashes by itself when a communicator is freed with an operation under way */
    MPI_Wait(&request, MPI_STATUS_IGNORE);
#endif
    MPI_Comm_free(&comm);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    expect(sum, size * (size - 1) / 2 + round * size, "iallreduce on a communicator of a few calls");
}

static void *work(void *context)
{
    MPI_Comm comm = *(MPI_Comm *)context;
    int all = size * (size - 1) / 2;
    for (int i = 0; i < ROUNDS; i++) {
        int mine = rank + i, sum = 0, later = 0, token = -1, root = i % size;
        MPI_Request requests[2];
        MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, comm);
        expect(sum, all + i * size, "allreduce");
        MPI_Iallreduce(&mine, &later, 1, MPI_INT, MPI_SUM, comm, &requests[0]);
        MPI_Irecv(&token, 1, MPI_INT, (rank + size - 1) % size, i, comm, &requests[1]);
        MPI_Send(&mine, 1, MPI_INT, (rank + 1) % size, i, comm);
        MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
        expect(later, all + i * size, "iallreduce");
        expect(token, (rank + size - 1) % size + i, "message");
        MPI_Bcast(&mine, 1, MPI_INT, root, comm);
        expect(mine, root + i, "bcast");
        mine = 1; /* which Weft does not have, beside one that it has */
        MPI_Iallreduce(&mine, &later, 1, MPI_INT, MPI_SUM, comm, &requests[0]);
        MPI_Scan(&mine, &sum, 1, MPI_INT, MPI_SUM, comm);
        MPI_Wait(&requests[0], MPI_STATUS_IGNORE);
        expect(sum, rank + 1, "scan");
        expect(later, size, "iallreduce beside a scan");
        if (i % 20 == 0)
            come_and_go(comm, i);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (provided < MPI_THREAD_MULTIPLE) {
        MPI_Finalize();
        return 77;
    }
    pthread_t threads[THREADS];
    MPI_Comm comms[THREADS];
    for (int i = 0; i < THREADS; i++)
        MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, &comms[i]))
            MPI_Abort(MPI_COMM_WORLD, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        MPI_Comm_free(&comms[i]);
    }
    if (rank == 0)
        puts("threads: good");
    MPI_Finalize();
    return 0;
}

/* What libweft-mpi.so adds to a collective that it passes on to the MPI: MPI_X, which it takes, beside PMPI_X, in one process, by
 * turns. Started with it by LD_PRELOAD (`make compare-passed`); without it the two are one function, which gives the noise. */
#include <mpi.h>
#if defined(OPEN_MPI)
#include <mpi-ext.h>
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 101, MOST = 1 << 16, BLOCK_NS = 100000 };

static double from[MOST], to[2 * MOST];
static int count, rank, size, counts[64], byte_displs[64];
static MPI_Datatype types[64], pair;
static MPI_Op user;
static MPI_Comm ring, across, fresh;
static MPI_Request request;

static void add(void *in, void *inout, int *length, MPI_Datatype *type)
{
    int lanes = *type == pair ? 2 : 1;
    for (int i = 0; i < *length * lanes; i++)
        ((double *)inout)[i] += ((double *)in)[i];
}

#define BOTH(name, ...)                              \
    static void name##_taken(void) { __VA_ARGS__(MPI_); } \
    static void name##_own(void) { __VA_ARGS__(PMPI_); }
#define SCAN(p) p##Scan(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD)
#define EXSCAN(p) p##Exscan(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD)
#define USER(p) p##Allreduce(from, to, count, MPI_DOUBLE, user, MPI_COMM_WORLD)
#define DERIVED(p) p##Allreduce(from, to, count / 2, pair, user, MPI_COMM_WORLD)
#define MINLOC(p) p##Allreduce(from, to, count / 2, MPI_DOUBLE_INT, MPI_MINLOC, MPI_COMM_WORLD)
#define ALLTOALLW(p) p##Alltoallw(from, counts, byte_displs, types, to, counts, byte_displs, types, MPI_COMM_WORLD)
#define NEIGHBOUR(p) p##Neighbor_allgather(from, count, MPI_DOUBLE, to, count, MPI_DOUBLE, ring)
#define INTER(p) p##Allreduce(from, to, count, MPI_DOUBLE, MPI_SUM, across)
#define LONE(p) p##Allreduce(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_SELF)
#define LATER(p) (p##Iscan(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request), p##Wait(&request, MPI_STATUS_IGNORE))
#define LATER_USER(p) \
    (p##Iallreduce(from, to, count, MPI_DOUBLE, user, MPI_COMM_WORLD, &request), p##Wait(&request, MPI_STATUS_IGNORE))
#define NOT_YET(p) \
    (p##Iallreduce(from, to, count, MPI_DOUBLE, MPI_SUM, fresh, &request), p##Wait(&request, MPI_STATUS_IGNORE))
#define MESSAGE(p) p##Sendrecv(from, count, MPI_DOUBLE, rank ^ 1, 1, to, count, MPI_DOUBLE, rank ^ 1, 1, MPI_COMM_WORLD, \
                               MPI_STATUS_IGNORE)
/* Made anew where the count is another one; only its start and its wait are timed. */
#define PERSISTENT(p)                                                                                          \
    static MPI_Request kept = MPI_REQUEST_NULL;                                                                \
    static int of;                                                                                             \
    if (of != count) {                                                                                         \
        if (kept != MPI_REQUEST_NULL)                                                                          \
            p##_Request_free(&kept);                                                                           \
        p##X_Scan_init(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, MPI_INFO_NULL, &kept);            \
        of = count;                                                                                            \
    }                                                                                                          \
    p##_Start(&kept);                                                                                          \
    p##_Wait(&kept, MPI_STATUS_IGNORE)
#if defined(OMPI_HAVE_MPI_EXT_PCOLLREQ) && OMPI_HAVE_MPI_EXT_PCOLLREQ
static void persistent_taken(void) { PERSISTENT(MPI); }
static void persistent_own(void) { PERSISTENT(PMPI); }
#endif
BOTH(scan, SCAN)
BOTH(exscan, EXSCAN)
BOTH(user, USER)
BOTH(derived, DERIVED)
BOTH(minloc, MINLOC)
BOTH(alltoallw, ALLTOALLW)
BOTH(neighbour, NEIGHBOUR)
BOTH(inter, INTER)
BOTH(lone, LONE)
BOTH(later, LATER)
BOTH(later_user, LATER_USER)
BOTH(not_yet, NOT_YET)
BOTH(message, MESSAGE)

static const struct {
    const char *name;
    void (*taken)(void), (*own)(void);
} cases[] = {
#define ROW(name, text) {text, name##_taken, name##_own}
    ROW(scan, "Scan"), ROW(exscan, "Exscan"), ROW(user, "Allreduce, user's operation"),
    ROW(derived, "Allreduce, derived type"), ROW(minloc, "Allreduce, MINLOC"), ROW(alltoallw, "Alltoallw"),
    ROW(neighbour, "Neighbor_allgather"), ROW(inter, "Allreduce, intercommunicator"), ROW(lone, "Allreduce, one rank"),
    ROW(later, "Iscan and Wait"), ROW(later_user, "Iallreduce, user's op., and Wait"),
#if defined(OMPI_HAVE_MPI_EXT_PCOLLREQ) && OMPI_HAVE_MPI_EXT_PCOLLREQ
    ROW(persistent, "Scan_init: Start and Wait"),
#endif
    ROW(not_yet, "Iallreduce, first on it, and Wait"), ROW(message, "Sendrecv (no collective)"),
};

/* ns a call, of the slowest rank. */
static double timed(void (*call)(void), int calls)
{
    struct timespec a, b;
    PMPI_Barrier(MPI_COMM_WORLD);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < calls; i++)
        call();
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / calls, slowest;
    PMPI_Allreduce(&ns, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

static void measure(size_t which)
{
    static double taken[ROUNDS], own[ROUNDS], ratio[ROUNDS];
    double once = timed(cases[which].own, 20);
    int calls = once > BLOCK_NS ? 1 : (int)(BLOCK_NS / once) + 1;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2)
            own[i] = timed(cases[which].own, calls);
        taken[i] = timed(cases[which].taken, calls);
        if (i % 2 == 0)
            own[i] = timed(cases[which].own, calls);
        ratio[i] = taken[i] / own[i];
    }
    if (rank == 0)
        printf("%-34s %8zu B %10.0f ns %10.0f ns %+7.1f %%\n", cases[which].name, (size_t)count * sizeof(double), median(own),
               median(taken), 100 * (median(ratio) - 1));
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size < 2 || size > 64 || size % 2) {
        fprintf(stderr, "compare-passed: 2 to 64 ranks, an even number\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    MPI_Barrier(MPI_COMM_WORLD); /* the communicator of Weft is there */
    MPI_Op_create(add, 1, &user);
    MPI_Type_contiguous(2, MPI_DOUBLE, &pair);
    MPI_Type_commit(&pair);
    MPI_Cart_create(MPI_COMM_WORLD, 1, &size, (int[]){1}, 0, &ring);
    MPI_Comm_dup(MPI_COMM_WORLD, &fresh);
    MPI_Comm half;
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - rank % 2, 5, &across);
    for (int i = 0; i < size; i++)
        types[i] = MPI_DOUBLE;
    if (rank == 0)
        printf("%d ranks; %-22s %10s %13s %13s\n", size, "passed on", "", "PMPI_", "MPI_");
    static const int sizes[] = {2, 8, 512, 8192};
    for (size_t which = 0; which < sizeof cases / sizeof *cases; which++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            count = sizes[s];
            for (int i = 0; i < size; i++) {
                counts[i] = count;
                byte_displs[i] = i * count * (int)sizeof(double);
            }
            if ((size_t)size * (size_t)count <= MOST)
                measure(which);
        }
    MPI_Finalize();
    return 0;
}

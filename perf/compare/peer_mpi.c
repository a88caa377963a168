/* An MPI library for the comparison; which one is decided by the compiler wrapper. MPI knows no bf16: sums are a user's operation
 * over 16-bit words, as programs do it that need one. */
#include "measure.h"

#include <mpi.h>

static MPI_Op add_bf16;
static MPI_Request request = MPI_REQUEST_NULL;

static void add(void *in, void *in_out, int *count, MPI_Datatype *type)
{
    (void)type;
    enum { STEP = 1024 };
    const uint16_t *left = in;
    uint16_t *right = in_out, sum[STEP];
    for (int i = 0; i < *count; i += STEP) {
        int now = *count - i < STEP ? *count - i : STEP;
        compare_add_bf16(sum, left + i, right + i, (size_t)now);
        __builtin_memcpy(right + i, sum, (size_t)now * sizeof *sum);
    }
}

static int start(const char *variant, int *rank, int *ranks)
{
    (void)variant;
    if (MPI_Init(NULL, NULL) != MPI_SUCCESS || MPI_Op_create(add, 1, &add_bf16) != MPI_SUCCESS)
        return 1;
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, ranks);
    return 0;
}

static bool prepare(const compare_cell *c, void *send, void *recv)
{
    (void)c, (void)send, (void)recv;
    return true;
}

static int run(const compare_cell *c, void *send, void *recv)
{
    MPI_Datatype type = c->type == COMPARE_F32 ? MPI_FLOAT : MPI_UINT16_T;
    MPI_Op sum = c->type == COMPARE_F32 ? MPI_SUM : add_bf16;
    int count = (int)c->count;
    switch (c->collective) {
    case COMPARE_ALL_REDUCE:
        return MPI_Allreduce(send, recv, count, type, sum, MPI_COMM_WORLD);
    case COMPARE_ALL_GATHER:
        return MPI_Allgather(send, count, type, recv, count, type, MPI_COMM_WORLD);
    case COMPARE_REDUCE_SCATTER:
        return MPI_Reduce_scatter_block(send, recv, count, type, sum, MPI_COMM_WORLD);
    case COMPARE_BROADCAST:
        return MPI_Bcast(recv, count, type, 0, MPI_COMM_WORLD);
    case COMPARE_ALL_TO_ALL:
        return MPI_Alltoall(send, count, type, recv, count, type, MPI_COMM_WORLD);
    default:
        return MPI_Barrier(MPI_COMM_WORLD);
    }
}

static int begin(const compare_cell *c, void *send, void *recv)
{
    return MPI_Iallreduce(send, recv, (int)c->count, c->type == COMPARE_F32 ? MPI_FLOAT : MPI_UINT16_T,
                          c->type == COMPARE_F32 ? MPI_SUM : add_bf16, MPI_COMM_WORLD, &request);
}

static int test(bool *done)
{
    int flag = 0;
    int failed = MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
    *done = flag != 0;
    return failed;
}

static int wait(void) { return MPI_Wait(&request, MPI_STATUS_IGNORE); }

static void finish(void)
{
    MPI_Op_free(&add_bf16);
    MPI_Finalize();
}

const compare_library compare_this = { .name = "mpi", .start = start, .prepare = prepare, .run = run, .begin = begin,
                                       .test = test, .wait = wait, .finish = finish };

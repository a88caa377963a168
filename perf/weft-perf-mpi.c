/* weft-perf-mpi: weft-perf for ranks that any MPI started. MPI only carries the unique id from rank 0 to the
 * others; everything measured is weft. */
#include "perf_run.h"

#include <mpi.h>
#include <stdlib.h>

static int run_rank(const perf_args *args, int rank, int ranks)
{
    char algorithm[PERF_ALGORITHM_BYTES];
    weft_config config;
    weft_comm *comm = NULL;
    weft_unique_id id;
    int made = rank != 0 || weft_get_unique_id(&id) == WEFT_OK;
    if (!made)
        perf_run_failed(args, rank, WEFT_ERR_SYSTEM, "making the unique id");
    MPI_Bcast(&made, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (!made)
        return PERF_FAILED;
    MPI_Bcast(&id, (int)sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    perf_config(args, &config, algorithm);
    weft_status status = weft_comm_create_id(&id, rank, ranks, &config, &comm);
    if (status != WEFT_OK)
        return perf_run_failed(args, rank, status, "creating the communicator");
    int code = perf_run(args, comm, false);
    weft_comm_destroy(comm);
    return code;
}

static int run(int rank, int ranks, int argc, char **argv)
{
    perf_args args;
    int code = perf_args_parse(&args, "weft-perf-mpi", rank != 0, argc, argv);
    if (code != PERF_OK)
        return code;
    if (args.ranks > 0)
        return perf_args_error(&args, "--ranks %d: MPI says how many ranks there are; leave it out",
                               args.ranks);
    if (args.action == PERF_TUNE)
        unsetenv("WEFT_TUNING_FILE"); /* what is tuned is compared with the untuned choice */
    if (args.action == PERF_RUN || args.action == PERF_TUNE)
        return run_rank(&args, rank, ranks);
    if (rank != 0)
        return PERF_OK;
    if (args.action == PERF_HELP)
        perf_args_help(args.program, stdout);
    else if (args.action == PERF_HELP_ENV)
        weft_settings_print(stdout);
    else
        printf("weft-perf-mpi %s (%s)\n", weft_version(), weft_build_info());
    return fflush(stdout) == 0 ? PERF_OK : PERF_FAILED;
}

int main(int argc, char **argv)
{
    int rank = 0, ranks = 1;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int code = run(rank, ranks, argc, argv);
    MPI_Finalize();
    return code;
}

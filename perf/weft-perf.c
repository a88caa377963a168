/* weft-perf: measures and checks weft's collectives. Finds out who runs it - a launcher, or nobody, then it
 * forks the ranks - makes the communicator and leaves the rest to perf_run. */
#include "perf_launch.h"
#include "perf_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One forked rank. */
static int run_forked(const perf_args *args, int rank, int ranks, const weft_unique_id *id)
{
    char algorithm[PERF_ALGORITHM_BYTES];
    weft_config config;
    weft_comm *comm = NULL;
    perf_config(args, &config, algorithm);
    weft_status status = weft_comm_create_id(id, rank, ranks, &config, &comm);
    if (status != WEFT_OK)
        return perf_run_failed(args, rank, status, "creating the communicator");
    int code = perf_run(args, comm, true);
    weft_comm_destroy(comm);
    return code;
}

/* A rank that a launcher has started. */
static int run_launched(const perf_args *args, int rank)
{
    char algorithm[PERF_ALGORITHM_BYTES];
    weft_config config;
    weft_comm *comm = NULL;
    perf_config(args, &config, algorithm);
    weft_status status = weft_comm_create_env(&config, &comm);
    if (status != WEFT_OK)
        return perf_run_failed(args, rank, status, "creating the communicator");
    int code = perf_run(args, comm, false);
    weft_comm_destroy(comm);
    return code;
}

static int print_information(const perf_args *args)
{
    switch (args->action) {
    case PERF_HELP: perf_args_help(args->program, stdout); break;
    case PERF_HELP_ENV: weft_settings_print(stdout); break;
    default: printf("weft-perf %s (%s)\n", weft_version(), weft_build_info()); break;
    }
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return PERF_OK;
    fprintf(stderr, "%s: cannot write to standard output: %s\n", args->program, strerror(errno));
    return PERF_FAILED;
}

int main(int argc, char **argv)
{
    perf_args args;
    int rank = 0;
    const char *launcher = perf_launcher(&rank);
    bool launched = launcher != NULL;
    int code = perf_args_parse(&args, "weft-perf", launched && rank != 0, argc, argv);
    if (code != PERF_OK)
        return code;
    if (args.action == PERF_TUNE)
        unsetenv("WEFT_TUNING_FILE"); /* what is tuned is compared with the untuned choice */
    if (args.action != PERF_RUN && args.action != PERF_TUNE)
        return launched && rank != 0 ? PERF_OK : print_information(&args);
    if (launched && args.ranks == 0) {
        perf_end_with_launcher(&args, launcher);
        return run_launched(&args, rank);
    }
    return perf_launch(&args, args.ranks > 0 ? args.ranks : PERF_DEFAULT_RANKS, run_forked);
}

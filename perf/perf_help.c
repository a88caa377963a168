/* The text of weft-perf --help. */
#include "perf_args.h"

static const char usage_text[] =
    "Measures a collective of weft, and checks its results.\n"
    "\n"
    "usage: %s COLLECTIVE [flags]\n"
    "\n"
    "COLLECTIVE: all_reduce all_gather reduce_scatter broadcast reduce gather scatter\n"
    "  all_to_all barrier sendrecv (each rank sends to the next and receives from the\n"
    "  one before)\n"
    "\n"
    "Who runs it. Under mpirun, srun or torchrun: the ranks that those started. Else,\n"
    "or with --ranks: so many local processes, each on a CPU of its own where they fit.\n"
    "      --ranks P          fork P local ranks (default 2 where there is no launcher)\n"
    "      --no-bind          do not bind forked ranks to CPUs\n"
    "\n"
    "Sizes, as nccl-tests counts them: the bytes of the whole array. For all_gather,\n"
    "reduce_scatter, gather, scatter and all_to_all that is ranks x count, and count is\n"
    "rounded down to 16 bytes. K, M and G are binary.\n"
    "  -b, --minbytes SIZE    smallest size (default 8)\n"
    "  -e, --maxbytes SIZE    largest size (default 64M)\n"
    "  -f, --stepfactor N     multiply by N from size to size (default 4)\n"
    "  -i, --stepbytes SIZE   add SIZE from size to size, instead of -f\n"
    "\n";
static const char measured_text[] =
    "What is measured.\n"
    "  -d, --datatype TYPE    i8 u8 i16 u16 i32 u32 i64 u64 f16 bf16 f32 f64 f8e4m3\n"
    "                         f8e5m2 bool (and nccl-tests' names: float, half, int32\n"
    "                         ...), or all (default f32)\n"
    "  -o, --op OP            sum prod min max avg band bor bxor, or all (default sum)\n"
    "  -r, --root RANK        root of broadcast, reduce, gather, scatter; all or -1: each\n"
    "                         in turn (default 0)\n"
    "      --in-place         only in place\n"
    "      --out-of-place     only out of place\n"
    "      --both             both (default)\n"
    "  -n, --iters N          measured calls (default: as many as fit in 0.1 s, but 20\n"
    "                         to 20000)\n"
    "  -w, --warmup_iters N   calls before those (default 5)\n"
    "      --cold             buffers are thrown out of the CPU's caches before each\n"
    "                         call; each call is measured by itself after a barrier\n"
    "      --async[=N]        non-blocking calls, N at a time outstanding, on buffers of\n"
    "                         their own (default 4)\n"
    "      --registered       buffers from weft_mem_alloc, which ranks on the same host\n"
    "                         read in place\n"
    "\n"
    "How it is done.\n"
    "      --transport LIST   auto (default), or transports in order of preference, such as\n"
    "                         shm,tcp; shm, verbs, tcp, or one in a library; a forced one\n"
    "                         never falls back\n"
    "      --algorithm NAME   auto, ring, tree, halving_doubling, recursive_doubling,\n"
    "                         knomial, bruck, pairwise, linear, flat, direct,\n"
    "                         hierarchical (default auto)\n"
    "      --lanes N          parallel lanes of a schedule\n"
    "      --slice SIZE       largest slice\n"
    "\n";
static const char results_text[] =
    "Results. time is the median (p50) of a call in us; --wide and -J also have p99, min\n"
    "and max. Each is taken per rank, then the largest of all ranks is shown. Calls\n"
    "shorter than 10 us are timed in batches: a sample is then a batch's mean. algbw is\n"
    "bytes / time in 10^9 bytes per second. busbw is algbw x 2(n-1)/n for all_reduce,\n"
    "x (n-1)/n for all_gather, reduce_scatter, gather, scatter and all_to_all, and x 1\n"
    "for the others.\n"
    "  -c, --check N          0: no check. N: before the measured calls, N checked calls,\n"
    "                         each with other data; and what the measured calls left is\n"
    "                         checked (default 1). #wrong counts elements that are not\n"
    "                         exactly what they must be, elements of inputs that were\n"
    "                         changed, and bytes written outside of a buffer\n"
    "  -J, --output_file FILE write the results as JSON (rank 0)\n"
    "      --wide             more columns\n"
    "      --tune FILE        measure every algorithm of COLLECTIVE (of all collectives\n"
    "                         if none is given) at each size, and write for\n"
    "                         WEFT_TUNING_FILE where one is faster than the untuned\n"
    "                         choice, in each of several rounds\n"
    "\n"
    "  -h, --help             this text\n"
    "      --help-env         the WEFT_* environment variables\n"
    "      --version          the version, and what weft was built with\n"
    "\n"
    "Exit code: 0 all is well; 1 a wrong result or an error; 2 a wrong argument.\n"
    "\n";
static const char example_text[] =
    "Examples: %s all_reduce --ranks 4\n"
    "          %s all_to_all -b 1M -e 64M -f 2 -d f16 --transport tcp --wide\n"
    "          mpirun -np 8 %s broadcast -J broadcast.json\n";

void perf_args_help(const char *program, FILE *stream)
{
    fprintf(stream, usage_text, program);
    fputs(measured_text, stream);
    fputs(results_text, stream);
    fprintf(stream, example_text, program, program, program);
}

/* The command line of weft-perf: what it may say, its defaults (perf_args.c), its help (perf_help.c). Knows
 * no communicator. */
#ifndef PERF_ARGS_H
#define PERF_ARGS_H

#include <weft/schedule.h>

/* The collectives that can be measured: weft's own, numbered as weft_collective, and a ring of sends. */
enum { PERF_SENDRECV = WEFT_COLLECTIVE_COUNT, PERF_COLLECTIVE_COUNT };
/* Exit codes. */
enum { PERF_OK = 0, PERF_FAILED = 1, PERF_USAGE = 2 };
enum { PERF_ALL_ROOTS = -1, PERF_MOST_RANKS = 65536, PERF_DEFAULT_RANKS = 2, PERF_MOST_ASYNC = 1024 };

typedef enum perf_action { PERF_RUN, PERF_TUNE, PERF_HELP, PERF_HELP_ENV, PERF_VERSION } perf_action;

typedef struct perf_args {
    perf_action action;
    int collective;             /* -1: none given (PERF_TUNE: all) */
    uint64_t min_bytes, max_bytes, step_bytes; /* step_bytes 0: by step_factor */
    int step_factor;
    int64_t iterations;         /* 0: chosen by time */
    int64_t warmup;
    int check;                  /* checked calls before the measured ones; 0: no check at all */
    weft_type types[WEFT_TYPE_COUNT];
    int type_count;
    weft_op ops[WEFT_OP_COUNT];
    int op_count;
    int root;                   /* or PERF_ALL_ROOTS */
    int ranks;                  /* 0: not given */
    const char *transport, *algorithm; /* NULL: not given */
    int lanes;
    uint64_t slice_bytes;
    bool in_place, out_of_place;
    bool cold, registered, wide, bind;
    int async;                  /* calls outstanding; 0: blocking calls */
    const char *json_file, *tune_file; /* NULL: none */
    const char *program;        /* for messages */
    bool silent;                /* another rank says what is wrong */
    int argc;                   /* as given, for the JSON; a copy that lives as long as the process */
    char **argv;
} perf_args;

/* Fills args. A wrong argument: prints value, place and remedy to stderr (not if `silent`: of many ranks one
 * is to speak) and returns PERF_USAGE. The strings of argv must outlive args. */
int perf_args_parse(perf_args *args, const char *program, bool silent, int argc, char **argv);
/* The same for what shows only later. Returns PERF_USAGE. */
int perf_args_error(const perf_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
void perf_args_help(const char *program, FILE *stream);
/* "all_reduce", "sendrecv". */
const char *perf_collective_name(int collective);
#endif

/* Parses weft-perf's command line: nccl-tests' flags and weft's own. Says what is wrong in one line that
 * names the value, the flag and the remedy; leaves to the library what only it can judge: whether a group
 * can run an algorithm or use a transport. */
#include "perf_args.h"

#include <weft/transport.h>

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_RANKS = 256,
    OPTION_TRANSPORT,
    OPTION_ALGORITHM,
    OPTION_LANES,
    OPTION_SLICE,
    OPTION_IN_PLACE,
    OPTION_OUT_OF_PLACE,
    OPTION_BOTH,
    OPTION_COLD,
    OPTION_ASYNC,
    OPTION_REGISTERED,
    OPTION_NO_BIND,
    OPTION_TUNE,
    OPTION_HELP_ENV,
    OPTION_VERSION,
    OPTION_WIDE
};

static const char short_options[] = ":b:e:f:i:n:w:c:o:d:r:J:h";
static const struct option long_options[] = {
    { "minbytes", required_argument, NULL, 'b' },
    { "maxbytes", required_argument, NULL, 'e' },
    { "stepfactor", required_argument, NULL, 'f' },
    { "stepbytes", required_argument, NULL, 'i' },
    { "iters", required_argument, NULL, 'n' },
    { "warmup_iters", required_argument, NULL, 'w' },
    { "check", required_argument, NULL, 'c' },
    { "op", required_argument, NULL, 'o' },
    { "datatype", required_argument, NULL, 'd' },
    { "root", required_argument, NULL, 'r' },
    { "output_file", required_argument, NULL, 'J' },
    { "ranks", required_argument, NULL, OPTION_RANKS },
    { "transport", required_argument, NULL, OPTION_TRANSPORT },
    { "algorithm", required_argument, NULL, OPTION_ALGORITHM },
    { "lanes", required_argument, NULL, OPTION_LANES },
    { "slice", required_argument, NULL, OPTION_SLICE },
    { "in-place", no_argument, NULL, OPTION_IN_PLACE },
    { "out-of-place", no_argument, NULL, OPTION_OUT_OF_PLACE },
    { "both", no_argument, NULL, OPTION_BOTH },
    { "cold", no_argument, NULL, OPTION_COLD },
    { "async", optional_argument, NULL, OPTION_ASYNC },
    { "registered", no_argument, NULL, OPTION_REGISTERED },
    { "no-bind", no_argument, NULL, OPTION_NO_BIND },
    { "wide", no_argument, NULL, OPTION_WIDE },
    { "tune", required_argument, NULL, OPTION_TUNE },
    { "help", no_argument, NULL, 'h' },
    { "help-env", no_argument, NULL, OPTION_HELP_ENV },
    { "version", no_argument, NULL, OPTION_VERSION },
    { NULL, 0, NULL, 0 },
};

const char *perf_collective_name(int collective)
{
    return collective == PERF_SENDRECV ? "sendrecv" : weft_collective_name((weft_collective)collective);
}

int perf_args_error(const perf_args *args, const char *format, ...)
{
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (!args->silent)
        fprintf(stderr, "%s: %s (%s --help lists all)\n", args->program, text, args->program);
    return PERF_USAGE;
}

/* "64K" -> 65536. The whole text must match; false if not, or if it does not fit. */
static bool parse_size(const char *text, uint64_t *value)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    unsigned shift = 0;
    switch (*end) {
    case 'k': case 'K': shift = 10; end++; break;
    case 'm': case 'M': shift = 20; end++; break;
    case 'g': case 'G': shift = 30; end++; break;
    default: break;
    }
    if (*end != 0 || number > (uint64_t)INT64_MAX >> shift)
        return false;
    *value = (uint64_t)number << shift;
    return true;
}

static int parse_size_flag(const perf_args *args, const char *flag, const char *text, uint64_t low,
                           uint64_t *value)
{
    if (!parse_size(text, value))
        return perf_args_error(args, "%s %s: not a size; give bytes, K, M or G may follow, such as 64K", flag,
                               text);
    if (*value < low)
        return perf_args_error(args, "%s %s: too small; give at least %llu", flag, text,
                               (unsigned long long)low);
    return PERF_OK;
}

static int parse_integer_flag(const perf_args *args, const char *flag, const char *text, int64_t low,
                              int64_t high, int64_t *value)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (text[0] == 0 || *end != 0 || errno != 0 || number < low || number > high)
        return perf_args_error(args, "%s %s: not a number from %lld to %lld", flag, text, (long long)low,
                               (long long)high);
    *value = number;
    return PERF_OK;
}

static int parse_types(perf_args *args, const char *text)
{
    args->type_count = 0;
    if (strcmp(text, "all") == 0) {
        for (int type = 0; type < WEFT_TYPE_COUNT; type++)
            args->types[args->type_count++] = (weft_type)type;
        return PERF_OK;
    }
    args->type_count = 1;
    if (weft_type_parse(text, &args->types[0]) != WEFT_OK)
        return perf_args_error(args, "-d %s: no such type; give i8, i32, f16, bf16, f32 ... or all", text);
    return PERF_OK;
}

static int parse_ops(perf_args *args, const char *text)
{
    args->op_count = 0;
    if (strcmp(text, "all") == 0) {
        for (int op = 0; op < WEFT_OP_COUNT; op++)
            args->ops[args->op_count++] = op;
        return PERF_OK;
    }
    args->op_count = 1;
    if (weft_op_parse(text, &args->ops[0]) != WEFT_OK)
        return perf_args_error(
            args, "-o %s: no such operation; give sum, prod, min, max, avg, band, bor, bxor or all", text);
    return PERF_OK;
}

static int parse_collective(perf_args *args, const char *text)
{
    weft_collective collective;
    if (args->collective >= 0)
        return perf_args_error(args, "%s: a second collective after %s; give one", text,
                           perf_collective_name(args->collective));
    if (strcmp(text, "sendrecv") == 0)
        args->collective = PERF_SENDRECV;
    else if (weft_collective_parse(text, &collective) == WEFT_OK)
        args->collective = (int)collective;
    else
        return perf_args_error(
            args,
            "%s: no such collective; give all_reduce, all_gather, reduce_scatter, broadcast, "
            "reduce, gather, scatter, all_to_all, barrier or sendrecv",
            text);
    return PERF_OK;
}

/* A list per collective ("all_reduce:tree,broadcast:knomial") is left to the library. */
static int check_algorithm(const perf_args *args, const char *text)
{
    weft_algorithm algorithm;
    if (strchr(text, ':') == NULL && weft_algorithm_parse(text, &algorithm) != WEFT_OK)
        return perf_args_error(
            args, "--algorithm %s: no such algorithm; give auto, ring, tree, flat, direct ...", text);
    return PERF_OK;
}

static int check_transports(const perf_args *args, const char *text)
{
    for (const char *name = text; name != NULL;) {
        char one[32];
        const char *comma = strchr(name, ',');
        size_t length = comma != NULL ? (size_t)(comma - name) : strlen(name);
        snprintf(one, sizeof one, "%.*s", (int)length, name);
        bool automatic = comma == NULL && name == text && strcmp(one, "auto") == 0;
        if (!automatic && length >= sizeof one)
            return perf_args_error(args, "--transport %s: there is no transport '%.*s'", text, (int)length, name);
        if (!automatic && weft_transport_find(one) == NULL)
            return perf_args_error(args, "--transport %s: %s", text, weft_last_error());
        name = comma != NULL ? comma + 1 : NULL;
    }
    return PERF_OK;
}

/* The flags that take a size or a number. */
static int apply_number(perf_args *args, int option, const char *text)
{
    int64_t number = 0;
    int code = PERF_OK;
    switch (option) {
    case 'b': return parse_size_flag(args, "-b", text, 0, &args->min_bytes);
    case 'e': return parse_size_flag(args, "-e", text, 0, &args->max_bytes);
    case 'i': return parse_size_flag(args, "-i", text, 1, &args->step_bytes);
    case OPTION_SLICE: return parse_size_flag(args, "--slice", text, 1, &args->slice_bytes);
    case 'n': return parse_integer_flag(args, "-n", text, 1, INT32_MAX, &args->iterations);
    case 'w': return parse_integer_flag(args, "-w", text, 0, INT32_MAX, &args->warmup);
    case 'f':
        code = parse_integer_flag(args, "-f", text, 2, 1 << 30, &number);
        args->step_factor = (int)number;
        return code;
    case 'c':
        code = parse_integer_flag(args, "-c", text, 0, 1000000, &number);
        args->check = (int)number;
        return code;
    case 'r':
        if (strcmp(text, "all") != 0)
            code = parse_integer_flag(args, "-r", text, -1, PERF_MOST_RANKS - 1, &number);
        args->root = strcmp(text, "all") == 0 ? PERF_ALL_ROOTS : (int)number;
        return code;
    case OPTION_RANKS:
        code = parse_integer_flag(args, "--ranks", text, 1, PERF_MOST_RANKS, &number);
        args->ranks = (int)number;
        return code;
    case OPTION_LANES:
        code = parse_integer_flag(args, "--lanes", text, 1, 4096, &number);
        args->lanes = (int)number;
        return code;
    default:
        code = parse_integer_flag(args, "--async", text != NULL ? text : "4", 1, PERF_MOST_ASYNC, &number);
        args->async = (int)number;
        return code;
    }
}

static int apply_option(perf_args *args, int option, const char *text)
{
    switch (option) {
    case 'o': return parse_ops(args, text);
    case 'd': return parse_types(args, text);
    case 'J': args->json_file = text; return PERF_OK;
    case OPTION_TRANSPORT: args->transport = text; return check_transports(args, text);
    case OPTION_ALGORITHM: args->algorithm = text; return check_algorithm(args, text);
    case OPTION_IN_PLACE: args->in_place = true; args->out_of_place = false; return PERF_OK;
    case OPTION_OUT_OF_PLACE: args->in_place = false; args->out_of_place = true; return PERF_OK;
    case OPTION_BOTH: args->in_place = args->out_of_place = true; return PERF_OK;
    case OPTION_COLD: args->cold = true; return PERF_OK;
    case OPTION_REGISTERED: args->registered = true; return PERF_OK;
    case OPTION_NO_BIND: args->bind = false; return PERF_OK;
    case OPTION_WIDE: args->wide = true; return PERF_OK;
    case OPTION_TUNE: args->tune_file = text; args->action = PERF_TUNE; return PERF_OK;
    case 'h': args->action = PERF_HELP; return PERF_OK;
    case OPTION_HELP_ENV: args->action = PERF_HELP_ENV; return PERF_OK;
    case OPTION_VERSION: args->action = PERF_VERSION; return PERF_OK;
    default: return apply_number(args, option, text);
    }
}

static bool op_fits_type(weft_op op, weft_type type)
{
    bool bitwise = op == WEFT_BAND || op == WEFT_BOR || op == WEFT_BXOR;
    bool real = type == WEFT_F16 || type == WEFT_BF16 || type == WEFT_F32 || type == WEFT_F64 ||
                type == WEFT_F8E4M3 || type == WEFT_F8E5M2;
    return !(bitwise && real);
}

/* What only shows when all flags are known. */
static int check_together(perf_args *args, bool min_given, bool max_given, bool factor_given)
{
    if (args->collective < 0 && args->action != PERF_TUNE)
        return perf_args_error(args, "no collective given; say which, such as: %s all_reduce", args->program);
    if (min_given && !max_given && args->min_bytes > args->max_bytes)
        args->max_bytes = args->min_bytes;
    if (max_given && !min_given && args->min_bytes > args->max_bytes)
        args->min_bytes = args->max_bytes;
    if (args->min_bytes > args->max_bytes)
        return perf_args_error(args, "-b %llu is more than -e %llu; give -e at least as large",
                           (unsigned long long)args->min_bytes, (unsigned long long)args->max_bytes);
    if (factor_given && args->step_bytes != 0)
        return perf_args_error(args,
                               "-f %d and -i %llu: sizes are either multiplied or added to; give one of them",
                               args->step_factor, (unsigned long long)args->step_bytes);
    if (args->ranks > 0 && args->root >= args->ranks)
        return perf_args_error(args, "-r %d: there are ranks 0 to %d; give one of them", args->root,
                               args->ranks - 1);
    if (args->collective == PERF_SENDRECV && !args->out_of_place)
        return perf_args_error(args, "--in-place: sendrecv has no in-place form; leave it out");
    if (args->action == PERF_TUNE && (args->json_file != NULL || args->algorithm != NULL || args->async > 0))
        return perf_args_error(args, "--tune goes with neither -J, --algorithm nor --async; leave those out");
    if (args->action == PERF_TUNE && args->root == PERF_ALL_ROOTS)
        return perf_args_error(args, "-r all: --tune measures one root; give its number");
    if (args->collective == PERF_SENDRECV && args->action == PERF_TUNE)
        return perf_args_error(args,
                               "--tune: sendrecv has no algorithms to choose from; give another collective");
    if (args->collective == PERF_SENDRECV && args->algorithm != NULL)
        return perf_args_error(args, "--algorithm: sendrecv has no algorithms to choose from; leave it out");
    if (args->cold && args->async > 0)
        return perf_args_error(args,
                               "--cold and --async: cold calls are measured one by one; give one of them");
    if (args->type_count == 1 && args->op_count == 1 && !op_fits_type(args->ops[0], args->types[0]))
        return perf_args_error(
            args, "-o %s -d %s: a bitwise operation needs an integer type or bool; give -d i32, say",
            weft_op_name(args->ops[0]), weft_type_name(args->types[0]));
    return PERF_OK;
}

static int refuse_option(const perf_args *args, int result, char **argv)
{
    const char *given = argv[optind - 1];
    if (result == ':')
        return perf_args_error(args, "%s needs a value after it", given);
    if (optopt != 0 && given[0] == '-' && given[1] == '-')
        return perf_args_error(args, "%s: this flag takes no value", given);
    if (optopt == 'g' || optopt == 't')
        return perf_args_error(
            args, "-%c: weft has one rank per process; give --ranks, or start more of them", optopt);
    if (optopt != 0)
        return perf_args_error(args, "-%c: no such flag", optopt);
    return perf_args_error(args, "%s: no such flag, or one that could be several", given);
}

int perf_args_parse(perf_args *args, const char *program, bool silent, int argc, char **argv)
{
    *args = (perf_args){
        .collective = -1, .min_bytes = 8, .max_bytes = 64u << 20, .step_factor = 4, .warmup = 5, .check = 1,
        .types = { WEFT_F32 }, .type_count = 1, .ops = { WEFT_SUM }, .op_count = 1, .in_place = true,
        .out_of_place = true, .bind = true, .program = program, .silent = silent, .argc = argc,
    };
    bool min_given = false, max_given = false, factor_given = false;
    int option;
    opterr = 0;
    /* getopt_long reorders argv; the JSON tells the command as it was. One copy for the life of the process. */
    static char **command;
    free(command);
    if ((command = malloc((size_t)argc * sizeof *argv)) == NULL)
        return perf_args_error(args, "out of memory for %d arguments; give fewer", argc);
    args->argv = memcpy(command, argv, (size_t)argc * sizeof *argv);
    while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return refuse_option(args, option, argv);
        int code = apply_option(args, option, optarg);
        if (code != PERF_OK)
            return code;
        min_given |= option == 'b';
        max_given |= option == 'e';
        factor_given |= option == 'f';
        if (args->action == PERF_HELP || args->action == PERF_HELP_ENV || args->action == PERF_VERSION)
            return PERF_OK;
    }
    for (; optind < argc; optind++) {
        int code = parse_collective(args, argv[optind]);
        if (code != PERF_OK)
            return code;
    }
    return check_together(args, min_given, max_given, factor_given);
}

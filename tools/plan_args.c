/* weft-plan's command line: flags, values, help. What is wrong is said with the value and the remedy. */
#include "plan_args.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "Prints, draws, verifies and costs the schedule of a collective.\n"
    "\n"
    "usage: weft-plan COLLECTIVE [flags]\n"
    "\n"
    "COLLECTIVE: all_reduce all_gather reduce_scatter broadcast reduce gather scatter\n"
    "  all_to_all barrier\n"
    "\n"
    "What is planned.\n"
    "      --ranks N          ranks (default 4, or as --hosts says)\n"
    "      --hosts LIST       ranks of each host: 4,4,2, or HOSTSxRANKS: 16x8 (default: one\n"
    "                         host)\n"
    "      --numa N           NUMA nodes of a host; its ranks go to them by turns, as\n"
    "                         launchers place them (default: not known)\n"
    "  -b, --bytes SIZE       size as weft-perf counts it, for the predicted time; K, M and\n"
    "                         G are binary (default 1M)\n"
    "      --algorithm NAME   auto, ring, tree, halving_doubling, recursive_doubling,\n"
    "                         knomial, bruck, pairwise, linear, flat, direct,\n"
    "                         hierarchical (default auto: the cheapest)\n"
    "  -r, --root RANK        root of broadcast, reduce, gather, scatter (default 0)\n"
    "      --lanes N          parallel lanes (default: the algorithm's choice)\n"
    "      --radix K          of knomial trees (default: the algorithm's choice)\n"
    "      --vector           blocks of different sizes, as in all_gather_v\n"
    "      --cores N          cores per host in the cost model (default 16)\n"
    "\n"
    "What is shown. The schedule of all ranks is verified in every case.\n"
    "      --format FORMAT    text, json, svg (a timeline), dot (for Graphviz); default text\n"
    "      --rank R           only this rank's steps (text and json)\n"
    "      --verify           only whether the schedule is right\n"
    "      --why              every algorithm with its predicted time or what prevents it,\n"
    "                         and which would be chosen\n"
    "      --list             which algorithm serves which collective\n"
    "      --help             this text\n"
    "      --version          the version\n"
    "\n"
    "Exit code: 0, 1 if a schedule is wrong or cannot be made, 2 for wrong usage.\n";

void plan_print_help(FILE *stream)
{
    fputs(usage_text, stream);
}

void plan_print_list(FILE *stream)
{
    fprintf(stream, "%-20s", "");
    for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++)
        fprintf(stream, " %s", weft_collective_name((weft_collective)c));
    fprintf(stream, "\n");
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
        fprintf(stream, "%-20s", weft_algorithm_name((weft_algorithm)a));
        for (int c = 0; c < WEFT_COLLECTIVE_COUNT; c++) {
            weft_plan_request request = {
                .collective = (weft_collective)c, .algorithm = (weft_algorithm)a, .group = {.ranks = 4}};
            int width = (int)strlen(weft_collective_name((weft_collective)c));
            fprintf(stream, " %*s%*s", (width + 1) / 2, weft_plan_obstacle(&request) ? "-" : "yes", width / 2,
                    "");
        }
        fprintf(stream, "\n");
    }
}

static bool wrong(plan_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(plan_args *args, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(args->error, sizeof(args->error), format, list);
    va_end(list);
    return false;
}

static bool parse_number(plan_args *args, const char *flag, const char *text, int low, int high, int *value)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || errno || number < low || number > high)
        return wrong(args, "%s %s: give a number from %d to %d", flag, text, low, high);
    *value = (int)number;
    return true;
}

static bool parse_size(plan_args *args, const char *flag, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end == 'K' || *end == 'k')
        shift = 10;
    else if (*end == 'M' || *end == 'm')
        shift = 20;
    else if (*end == 'G' || *end == 'g')
        shift = 30;
    end += shift > 0;
    if (*text < '0' || *text > '9' || *end != 0 || errno || number > (SIZE_MAX >> shift))
        return wrong(args, "%s %s: give bytes, as 4096, 64K, 1M or 2G", flag, text);
    args->bytes = (size_t)number << shift;
    return true;
}

/* Adds `ranks` ranks on the next host; false: too many, or no memory. */
static bool add_host(plan_args *args, int *count, int host, int ranks)
{
    if (*count > PLAN_MAX_RANKS - ranks)
        return false;
    int *larger = realloc(args->host, (size_t)(*count + ranks) * sizeof(int));
    if (!larger)
        return false;
    args->host = larger;
    for (int i = 0; i < ranks; i++)
        larger[(*count)++] = host;
    return true;
}

static bool wrong_hosts(plan_args *args, const char *text)
{
    return wrong(
        args, "--hosts %s: give the ranks of each host, as 4,4,2, or HOSTSxRANKS, as 16x8 (at most %d ranks)",
        text, PLAN_MAX_RANKS);
}

/* "4,4,2" or "16x8". Returns the number of ranks in *count. */
static bool parse_hosts(plan_args *args, const char *text, int *count)
{
    const char *at = text;
    int host = 0;
    *count = 0;
    for (;;) {
        char *end;
        errno = 0;
        long number = strtol(at, &end, 10);
        if (*at < '0' || *at > '9' || errno || number < 1 || number > PLAN_MAX_RANKS)
            return wrong_hosts(args, text);
        long times = 1;
        if (*end == 'x') {
            times = number;
            at = end + 1;
            number = strtol(at, &end, 10);
            if (*at < '0' || *at > '9' || errno || number < 1 || number > PLAN_MAX_RANKS)
                return wrong_hosts(args, text);
        }
        for (; times > 0; times--)
            if (!add_host(args, count, host++, (int)number))
                return wrong_hosts(args, text);
        if (*end == 0)
            return true;
        if (*end != ',')
            return wrong_hosts(args, text);
        at = end + 1;
    }
}

static bool parse_format(plan_args *args, const char *text)
{
    static const char *const names[] = { "text", "json", "svg", "dot" };
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            args->format = (weft_print_format)i;
            return true;
        }
    return wrong(args, "--format %s: give text, json, svg or dot", text);
}

static bool set_action(plan_args *args, plan_action action)
{
    args->action = action;
    return true;
}

/* Flags without a value. *known tells whether it is one. */
static bool parse_switch(plan_args *args, const char *flag, bool *known)
{
    static const struct { const char *flag; plan_action action;
    } actions[] = {
        {"--verify", PLAN_VERIFY}, {"--why", PLAN_WHY}, {"--list", PLAN_LIST},
        {"--help", PLAN_HELP},     {"-h", PLAN_HELP},   {"--version", PLAN_VERSION},
    };
    *known = true;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(flag, actions[i].flag) == 0)
            return set_action(args, actions[i].action);
    if (strcmp(flag, "--vector") == 0)
        return args->vector = true;
    *known = false;
    return true;
}

static bool parse_value(plan_args *args, const char *flag, const char *value, int *hosts_ranks, bool *known)
{
    *known = true;
    if (strcmp(flag, "--ranks") == 0)
        return parse_number(args, flag, value, 1, PLAN_MAX_RANKS, &args->ranks);
    if (strcmp(flag, "--hosts") == 0)
        return parse_hosts(args, value, hosts_ranks);
    if (strcmp(flag, "-b") == 0 || strcmp(flag, "--bytes") == 0)
        return parse_size(args, flag, value);
    if (strcmp(flag, "-r") == 0 || strcmp(flag, "--root") == 0)
        return parse_number(args, flag, value, 0, PLAN_MAX_RANKS - 1, &args->root);
    if (strcmp(flag, "--lanes") == 0)
        return parse_number(args, flag, value, 1, 32, &args->lanes);
    if (strcmp(flag, "--radix") == 0)
        return parse_number(args, flag, value, 2, PLAN_MAX_RANKS, &args->radix);
    if (strcmp(flag, "--numa") == 0)
        return parse_number(args, flag, value, 1, PLAN_MAX_RANKS, &args->numa_nodes);
    if (strcmp(flag, "--cores") == 0)
        return parse_number(args, flag, value, 1, 1 << 20, &args->cores);
    if (strcmp(flag, "--rank") == 0)
        return parse_number(args, flag, value, 0, PLAN_MAX_RANKS - 1, &args->rank);
    if (strcmp(flag, "--format") == 0)
        return parse_format(args, value);
    if (strcmp(flag, "--algorithm") == 0)
        return weft_algorithm_parse(value, &args->algorithm) == WEFT_OK ||
               wrong(args, "--algorithm: %s", weft_last_error());
    *known = false;
    return true;
}

static bool takes_value(const char *flag)
{
    static const char *const flags[] = {"--ranks", "--hosts", "-b",       "--bytes",
                                        "-r",      "--root",  "--lanes",  "--radix", "--numa",
                                        "--cores", "--rank",  "--format", "--algorithm"};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (strcmp(flag, flags[i]) == 0)
            return true;
    return false;
}

/* The ranks of each host to its NUMA nodes by turns. */
static bool deal_to_numa(plan_args *args)
{
    args->numa = calloc((size_t)args->ranks, sizeof(int));
    for (int r = 0, next = 0; args->numa && r < args->ranks; r++) {
        if (r > 0 && args->host && args->host[r] != args->host[r - 1])
            next = 0;
        args->numa[r] = next++ % args->numa_nodes;
    }
    return args->numa;
}

static bool check_together(plan_args *args, bool named, int hosts_ranks)
{
    if (!named)
        return wrong(args, "name a collective: weft-plan all_reduce (weft-plan --help lists them)");
    if (args->ranks == 0)
        args->ranks = hosts_ranks ? hosts_ranks : 4;
    if (hosts_ranks && hosts_ranks != args->ranks)
        return wrong(args, "--hosts has %d ranks and --ranks says %d: leave one out", hosts_ranks,
                     args->ranks);
    if (args->numa_nodes && !deal_to_numa(args))
        return wrong(args, "--numa %d: no memory", args->numa_nodes);
    if (args->root >= args->ranks)
        return wrong(args, "--root %d: ranks are 0 to %d", args->root, args->ranks - 1);
    if (args->rank >= args->ranks)
        return wrong(args, "--rank %d: ranks are 0 to %d", args->rank, args->ranks - 1);
    if (args->rank >= 0 && (args->format == WEFT_PRINT_SVG || args->format == WEFT_PRINT_DOT))
        return wrong(args, "--rank goes with text and json; a drawing shows all ranks");
    return true;
}

/* One argument, "--flag=value" or "--flag value"; *i moves on. */
static bool parse_argument(plan_args *args, int argc, char **argv, int *i, bool *named, int *hosts_ranks)
{
    char flag[32];
    const char *text = argv[*i], *equals = text[0] == '-' ? strchr(text, '=') : NULL,
               *value = equals ? equals + 1 : NULL;
    bool known;
    if (text[0] != '-') {
        if (*named)
            return wrong(args, "%s: only one collective can be planned at a time", text);
        *named = true;
        return weft_collective_parse(text, &args->collective) == WEFT_OK ||
               wrong(args, "%s", weft_last_error());
    }
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    if (length >= sizeof(flag))
        return wrong(args, "%s: there is no such flag (weft-plan --help lists them)", text);
    memcpy(flag, text, length);
    flag[length] = 0;
    if (!value && !parse_switch(args, flag, &known))
        return false;
    if (!value && known)
        return true;
    if (!takes_value(flag))
        return wrong(args, "%s: there is no such flag (weft-plan --help lists them)", text);
    if (!value && *i + 1 >= argc)
        return wrong(args, "%s: give a value after it (weft-plan --help says which)", flag);
    if (!value)
        value = argv[++*i];
    return parse_value(args, flag, value, hosts_ranks, &known);
}

bool plan_args_parse(plan_args *args, int argc, char **argv)
{
    *args = (plan_args){ .rank = -1, .bytes = 1 << 20, .algorithm = WEFT_AUTO };
    bool named = false;
    int hosts_ranks = 0;
    for (int i = 1; i < argc; i++) {
        if (!parse_argument(args, argc, argv, &i, &named, &hosts_ranks))
            return false;
        if (args->action == PLAN_HELP || args->action == PLAN_VERSION)
            return true;
    }
    return args->action == PLAN_LIST || check_together(args, named, hosts_ranks);
}

void plan_args_free(plan_args *args)
{
    free(args->host);
    free(args->numa);
    args->host = args->numa = NULL;
}

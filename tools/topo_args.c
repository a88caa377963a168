/* weft-topo's command line: flags, values, help. What is wrong is said with the value and the remedy. */
#include "topo_args.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage_text[] =
    "Shows how a machine is built: processors, memory, PCI, NICs, GPUs and the links between\n"
    "them, with what each link carries.\n"
    "\n"
    "usage: weft-topo [flags] [FILE]\n"
    "\n"
    "FILE: another machine's: NCCL or RCCL topology XML, hwloc XML (2, 3), the text of\n"
    "  nvidia-smi topo -m, or Weft's own XML or JSON; without it this machine is read.\n"
    "\n"
    "What is read.\n"
    "  -f, --file FILE        the same as FILE\n"
    "      --sysfs DIR        read DIR/sys and DIR/proc instead of /sys and /proc\n"
    "      --hwloc            let hwloc read processors and PCI\n"
    "\n"
    "What is shown: one of these (default: the tree, in a screen).\n"
    "      --matrix           how each pair of GPUs, NICs and NUMA nodes is joined\n"
    "      --nics             which NIC each GPU (or NUMA node) takes, and its rail\n"
    "      --rings N          the rings it would build, at most N (0 or left out: as many as\n"
    "                         pay)\n"
    "      --trees            the trees it would build (may stand beside --rings)\n"
    "      --network          rings and trees that enter and leave the host by its NICs\n"
    "      --compare GRAPH    rings and trees beside those of NCCL (NCCL_GRAPH_DUMP_FILE)\n"
    "      --explain A B      the path from A to B, step by step, and what limits it\n"
    "      --check            what is wrong with this machine for training, and the remedy\n"
    "      --diff A B         what is different in machine file B\n"
    "      --measure FILE     in a running job (under mpirun, torchrun, ...): latency and\n"
    "                         bandwidth between its ranks; FILE gets the machine with them,\n"
    "                         for WEFT_TOPO_FILE\n"
    "      --ranks N          with --measure: starts N ranks here\n"
    "      --json             all of it, as JSON\n"
    "      --xml              all of it, as XML\n"
    "      --nccl-xml         NCCL topology XML, for NCCL_TOPO_FILE\n"
    "      --dot              for Graphviz; beside --rings, --trees these\n"
    "      --svg              a picture; beside --rings, --trees these\n"
    "      --color            colours also where the output is no terminal\n"
    "      --help             this text\n"
    "      --version          the version\n"
    "\n"
    "Exit code: 0; 1: a machine cannot be read, --check found a fault, --diff a difference;\n"
    "2: wrong usage.\n";

void topo_print_help(FILE *stream)
{
    fputs(usage_text, stream);
}

static bool wrong(topo_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(topo_args *args, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(args->error, sizeof(args->error), format, list);
    va_end(list);
    return false;
}

typedef enum flag {
    FLAG_FILE, FLAG_SYSFS, FLAG_HWLOC, FLAG_MATRIX, FLAG_NICS, FLAG_RINGS, FLAG_TREES, FLAG_NETWORK, FLAG_COMPARE,
    FLAG_EXPLAIN, FLAG_CHECK, FLAG_DIFF, FLAG_MEASURE, FLAG_RANKS, FLAG_JSON, FLAG_XML, FLAG_NCCL_XML, FLAG_DOT, FLAG_SVG,
    FLAG_COLOR, FLAG_HELP, FLAG_VERSION
} flag;

/* Values of a flag; the action that it chooses, -1: none. */
static const struct {
    const char *name;
    flag flag;
    int values, action;
} flags[] = {
    {"-f", FLAG_FILE, 1, -1},
    {"--file", FLAG_FILE, 1, -1},
    {"--sysfs", FLAG_SYSFS, 1, -1},
    {"--hwloc", FLAG_HWLOC, 0, -1},
    {"--matrix", FLAG_MATRIX, 0, TOPO_MATRIX},
    {"--nics", FLAG_NICS, 0, TOPO_NICS},
    {"--rings", FLAG_RINGS, 1, TOPO_CHANNELS},
    {"--trees", FLAG_TREES, 0, TOPO_CHANNELS},
    {"--network", FLAG_NETWORK, 0, -1},
    {"--compare", FLAG_COMPARE, 1, TOPO_COMPARE},
    {"--explain", FLAG_EXPLAIN, 2, TOPO_EXPLAIN},
    {"--check", FLAG_CHECK, 0, TOPO_CHECK},
    {"--diff", FLAG_DIFF, 2, TOPO_DIFF},
    {"--measure", FLAG_MEASURE, 1, TOPO_MEASURE},
    {"--ranks", FLAG_RANKS, 1, -1},
    {"--json", FLAG_JSON, 0, TOPO_JSON},
    {"--xml", FLAG_XML, 0, TOPO_XML},
    {"--nccl-xml", FLAG_NCCL_XML, 0, TOPO_NCCL_XML},
    {"--dot", FLAG_DOT, 0, -1},
    {"--svg", FLAG_SVG, 0, -1},
    {"--color", FLAG_COLOR, 0, -1},
    {"--help", FLAG_HELP, 0, TOPO_HELP},
    {"--version", FLAG_VERSION, 0, TOPO_VERSION},
};

static bool set_file(topo_args *args, const char *file)
{
    if (args->file)
        return wrong(args, "%s: only one machine file (%s is there already); --diff compares two", file, args->file);
    args->file = file;
    return true;
}

static bool parse_channels(topo_args *args, const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || number > 256)
        return wrong(args, "--rings %s: give a number from 0 to 256", text);
    args->channels = (int)number;
    args->rings = true;
    return true;
}

static bool parse_ranks(topo_args *args, const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || number < 2 || number > TOPO_RANKS_MAX)
        return wrong(args, "--ranks %s: give a number from 2 to %d", text, TOPO_RANKS_MAX);
    args->ranks = (int)number;
    return true;
}

static bool take(topo_args *args, flag which, const char *const *value)
{
    switch (which) {
    case FLAG_FILE:
        return set_file(args, value[0]);
    case FLAG_SYSFS:
        args->root = value[0];
        return true;
    case FLAG_RINGS:
        return parse_channels(args, value[0]);
    case FLAG_DOT:
    case FLAG_SVG:
        args->draw = which == FLAG_DOT ? TOPO_DOT : TOPO_SVG;
        return true;
    case FLAG_RANKS:
        return parse_ranks(args, value[0]);
    case FLAG_MEASURE:
    case FLAG_EXPLAIN:
    case FLAG_DIFF:
    case FLAG_COMPARE:
        args->first = value[0];
        args->second = value[1];
        return true;
    default:
        args->hwloc |= which == FLAG_HWLOC;
        args->color |= which == FLAG_COLOR;
        args->trees |= which == FLAG_TREES;
        args->network |= which == FLAG_NETWORK;
        return true;
    }
}

/* One flag with its values at argv[*at]; "--flag=value" for those with one. */
static bool parse_flag(topo_args *args, int argc, char **argv, int *at)
{
    const char *text = argv[*at], *equals = text[0] == '-' && text[1] == '-' ? strchr(text, '=') : NULL;
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const char *value[2] = {equals ? equals + 1 : NULL, NULL};
        if (strlen(flags[i].name) != length || strncmp(flags[i].name, text, length) != 0)
            continue;
        if (equals && flags[i].values != 1)
            return wrong(args, "%s takes no value after =", flags[i].name);
        /* The number of rings may be left out. */
        bool left_out = flags[i].flag == FLAG_RINGS && !equals && (*at + 1 >= argc || !isdigit((unsigned char)argv[*at + 1][0]));
        if (left_out)
            value[0] = "0";
        for (int v = equals || left_out ? 1 : 0; v < flags[i].values; v++) {
            if (*at + 1 >= argc)
                return wrong(args, "%s: give %s after it", flags[i].name, flags[i].values == 2 ? "two values" : "a value");
            value[v] = argv[++*at];
        }
        int action = flags[i].action;
        if (action >= 0 && args->action != TOPO_TREE && (int)args->action != action && action != TOPO_HELP)
            return wrong(args, "%s: only one thing is shown at a time", flags[i].name);
        if (action >= 0)
            args->action = (topo_action)action;
        return take(args, flags[i].flag, value);
    }
    return wrong(args, "%s: there is no such flag; --help lists them", text);
}

bool topo_args_parse(topo_args *args, int argc, char **argv)
{
    memset(args, 0, sizeof *args);
    args->color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    for (int i = 1; i < argc; i++) {
        bool fine = argv[i][0] == '-' && argv[i][1] ? parse_flag(args, argc, argv, &i) : set_file(args, argv[i]);
        if (!fine)
            return false;
    }
    if (args->action == TOPO_DIFF && args->file)
        return wrong(args, "--diff names both machines: leave out %s", args->file);
    if (args->draw != TOPO_TREE && args->action == TOPO_TREE)
        args->action = args->draw;
    else if (args->draw != TOPO_TREE && args->action != TOPO_CHANNELS && args->action != TOPO_HELP &&
             args->action != TOPO_VERSION)
        return wrong(args, "%s: draws the machine, or --rings and --trees; only one thing is shown at a time",
                     args->draw == TOPO_DOT ? "--dot" : "--svg");
    if (args->ranks && args->action != TOPO_MEASURE)
        return wrong(args, "--ranks goes with --measure");
    if (args->action == TOPO_MEASURE && (args->file || args->root))
        return wrong(args, "--measure runs on this machine: leave out %s", args->file ? args->file : "--sysfs");
    if (args->action == TOPO_MEASURE && !args->ranks && !topo_is_job())
        return wrong(args, "--measure needs ranks: start it under mpirun, srun or torchrun, or say --ranks 2");
    if (args->network && args->action != TOPO_CHANNELS)
        return wrong(args, "--network goes with --rings and --trees");
    if (args->file && (args->root || args->hwloc))
        return wrong(args, "%s goes without --sysfs and --hwloc, which read this machine", args->file);
    return true;
}

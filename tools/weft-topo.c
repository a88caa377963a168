/* weft-topo: shows a machine, live or from a file: tree, matrix, pictures, paths, channels, what is wrong with it. Uses only the
 * public headers. */
#include <errno.h>
#include <string.h>

#include "topo_args.h"

static int failed(void)
{
    fprintf(stderr, "weft-topo: %s\n", weft_last_error());
    return TOPO_EXIT_FAILED;
}

static int write_as(const weft_topology *t, weft_topology_format format)
{
    return weft_topology_write(t, format, stdout) == WEFT_OK ? 0 : failed();
}

static int show(const topo_args *args, const weft_topology *t)
{
    switch (args->action) {
    case TOPO_MATRIX:
        return topo_show_matrix(t, args->color);
    case TOPO_NICS:
        return topo_show_nics(t);
    case TOPO_EXPLAIN:
        return topo_show_explanation(t, args->first, args->second);
    case TOPO_CHANNELS:
        return topo_show_channels(t, args);
    case TOPO_COMPARE:
        return topo_show_comparison(t, args->first);
    case TOPO_CHECK:
        return topo_show_check(t, args->color);
    case TOPO_SVG:
        return topo_draw_svg(t);
    case TOPO_DOT:
        return topo_draw_dot(t);
    case TOPO_JSON:
        return write_as(t, WEFT_TOPOLOGY_JSON);
    case TOPO_XML:
        return write_as(t, WEFT_TOPOLOGY_XML);
    case TOPO_NCCL_XML:
        return write_as(t, WEFT_TOPOLOGY_NCCL_XML);
    default:
        return topo_show_tree(t, args->color);
    }
}

static int run(const topo_args *args)
{
    if (args->action == TOPO_HELP) {
        topo_print_help(stdout);
        return 0;
    }
    if (args->action == TOPO_VERSION) {
        printf("weft-topo %s\n", weft_version());
        return 0;
    }
    if (args->action == TOPO_DIFF)
        return topo_show_diff(args->first, args->second);
    weft_topology *t;
    weft_topology_live live = {.size = sizeof live, .root = args->root, .hwloc = args->hwloc};
    weft_status status = args->file                ? weft_topology_load(args->file, &t)
                         : args->root || args->hwloc ? weft_topology_read(&live, &t)
                                                     : weft_topology_discover(&t);
    if (status != WEFT_OK)
        return failed();
    int code = args->action == TOPO_MEASURE ? topo_measure(t, args->first, args->ranks)
               : args->action == TOPO_TREE && !args->file && topo_is_job() ? topo_show_job(t) : show(args, t);
    weft_topology_free(t);
    return code;
}

int main(int argc, char **argv)
{
    topo_args args;
    int code = TOPO_EXIT_USAGE;
    if (topo_args_parse(&args, argc, argv))
        code = run(&args);
    else
        fprintf(stderr, "weft-topo: %s\n", args.error);
    if (fflush(stdout) != 0 && code == 0) {
        fprintf(stderr, "weft-topo: cannot write to standard output: %s\n", strerror(errno));
        code = TOPO_EXIT_FAILED;
    }
    return code;
}

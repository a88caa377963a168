/* weft-topo's command line, and what its parts share. */
#ifndef WEFT_TOPO_ARGS_H
#define WEFT_TOPO_ARGS_H

#include <stdio.h>
#include <weft/topology.h>

enum { TOPO_EXIT_FAILED = 1, TOPO_EXIT_USAGE = 2, TOPO_HOST_BYTES = 192, TOPO_RANKS_MAX = 512 };

typedef enum topo_action {
    TOPO_TREE, TOPO_MATRIX, TOPO_JSON, TOPO_XML, TOPO_NCCL_XML, TOPO_DOT, TOPO_SVG, TOPO_CHANNELS, TOPO_EXPLAIN, TOPO_CHECK,
    TOPO_DIFF, TOPO_COMPARE, TOPO_NICS, TOPO_MEASURE, TOPO_HELP, TOPO_VERSION
} topo_action;

typedef struct topo_args {
    topo_action action;
    const char *file;           /* NULL: this machine */
    const char *first, *second; /* of --explain, --diff; first: of --compare, --measure */
    const char *root;           /* another root of /sys */
    bool hwloc, color, rings, trees, network;
    topo_action draw;           /* TOPO_SVG or TOPO_DOT: --rings, --trees as a picture; else TOPO_TREE */
    int channels;               /* at most; 0: chosen */
    int ranks;                  /* to start for --measure; 0: a launcher did */
    char error[256];            /* what is wrong with the command line */
} topo_args;

/* False: wrong usage, said in args->error. */
bool topo_args_parse(topo_args *args, int argc, char **argv);
void topo_print_help(FILE *stream);

/* Each gives the exit code. */
int topo_show_tree(const weft_topology *t, bool color);
int topo_show_matrix(const weft_topology *t, bool color);
int topo_show_nics(const weft_topology *t);
int topo_show_channels(const weft_topology *t, const topo_args *args);
/* How many channels from this one on are the same. */
int topo_same_channels(const weft_channels *channels, int channel);
/* Rings and trees, either may be NULL, as SVG or for Graphviz. */
int topo_draw_channels(const weft_topology *t, weft_channels *const channels[2], bool dot);
int topo_show_comparison(const weft_topology *t, const char *path);
/* Started by a launcher with other ranks? Then the whole job is shown rather than one machine. */
bool topo_is_job(void);
int topo_show_job(const weft_topology *t);
/* What names the host of the calling rank: the same for ranks that see the same machine and network. */
void topo_host_text(const weft_topology *t, char text[TOPO_HOST_BYTES]);
/* Measures the ways between the job's ranks, or those of `ranks` ranks that it starts; rank 0 writes the machine to the file. */
int topo_measure(const weft_topology *t, const char *path, int ranks);
int topo_show_check(const weft_topology *t, bool color);
int topo_show_diff(const char *first, const char *second);
int topo_draw_svg(const weft_topology *t);
int topo_draw_dot(const weft_topology *t);
/* The links between the GPUs of a host, from this corner on; what room that takes, 0 if there are none. */
void topo_draw_mesh(const weft_topology *t, int host, double left, double top, bool measure_only, double *width, double *height);
int topo_show_explanation(const weft_topology *t, const char *from, const char *to);

/* "24.0 GB/s", "10 Gbit/s" below a gigabyte per second: at most 15 characters. */
void topo_rate_text(double bandwidth_Bps, char *text, size_t bytes);
/* The GPUs, NICs and NUMA nodes that matrices and pictures show; how many, at most `room`. */
int topo_list_ends(const weft_topology *t, int *list, int room);
#endif

/* weft-plan's command line. */
#ifndef PLAN_ARGS_H
#define PLAN_ARGS_H

#include <weft/schedule.h>

enum { PLAN_MAX_RANKS = 32768, PLAN_EXIT_FAILED = 1, PLAN_EXIT_USAGE = 2 };

typedef enum plan_action {
    PLAN_PRINT,
    PLAN_VERIFY,
    PLAN_WHY,
    PLAN_LIST,
    PLAN_HELP,
    PLAN_VERSION
} plan_action;

typedef struct plan_args {
    plan_action action;
    weft_collective collective;
    weft_algorithm algorithm; /* WEFT_AUTO: the cheapest */
    int ranks, root, lanes, radix, cores;
    int rank;                 /* the only one to print, -1: all */
    bool vector;
    size_t bytes;
    weft_print_format format;
    int *host;                /* of each rank; allocated */
    int numa_nodes;           /* of each host; 0: not said */
    int *numa;                /* of each rank; allocated */
    char error[320];          /* what is wrong: value and remedy */
} plan_args;

/* false: args->error says why. plan_args_free in either case. */
bool plan_args_parse(plan_args *args, int argc, char **argv);
void plan_args_free(plan_args *args);
void plan_print_help(FILE *stream);
void plan_print_list(FILE *stream);

#endif

/* Columns as in nccl-tests, so that what reads its tables reads these; --wide adds p99, min and max after the
 * time. */
#include "perf_table.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

const char *perf_op_text(const perf_case *c)
{
    return perf_collective_reduces(c->collective) ? weft_op_name(c->op) : "none";
}

static void print_group_title(const perf_context *x, const char *title, bool more)
{
    int width = x->args->wide ? 67 : 34; /* of the columns below it */
    int left = (width - (int)strlen(title)) / 2;
    printf("%*s%s", left, "", title);
    if (more)
        printf("%*s", width - left - (int)strlen(title), "");
}

static void print_group_line(const perf_context *x, const char *time, const char *p99, const char *min,
                             const char *max, const char *algbw, const char *busbw, const char *wrong)
{
    printf("  %9s", time);
    if (x->args->wide)
        printf("  %9s  %9s  %9s", p99, min, max);
    printf("  %6s  %6s  %5s", algbw, busbw, wrong);
}

void perf_table_begin(const perf_context *x)
{
    const perf_args *args = x->args;
    bool halves[2] = { args->out_of_place || !perf_collective_has_in_place(args->collective),
                       args->in_place && perf_collective_has_in_place(args->collective) };
    int hosts = weft_comm_hosts(x->comm);
    printf("# weft %s: %s, %d rank%s on %d host%s", weft_version(), perf_collective_name(args->collective),
           x->ranks, x->ranks == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s");
    if (perf_collective_has_data(args->collective)) {
        printf(", %" PRIu64 " to %" PRIu64 " bytes ", args->min_bytes, args->max_bytes);
        if (args->step_bytes != 0)
            printf("by steps of %" PRIu64, args->step_bytes);
        else
            printf("by factors of %d", args->step_factor);
    }
    printf(", check %d%s%s%s\n#\n#%57s", args->check, args->cold ? ", cold" : "",
           args->async > 0 ? ", async" : "", args->registered ? ", registered" : "", "");
    for (int i = 0; i < 2; i++)
        if (halves[i])
            print_group_title(x, i == 0 ? "out-of-place" : "in-place", i == 0 && halves[1]);
    printf("\n# %10s  %12s  %8s  %6s  %6s   ", "size", "count", "type", "redop", "root");
    for (int i = 0; i < 2; i++)
        if (halves[i])
            print_group_line(x, x->args->wide ? "p50" : "time", "p99", "min", "max", "algbw", "busbw",
                             "#wrong");
    printf("\n# %10s  %12s  %8s  %6s  %6s   ", "(B)", "(elements)", "", "", "");
    for (int i = 0; i < 2; i++)
        if (halves[i])
            print_group_line(x, "(us)", "(us)", "(us)", "(us)", "(GB/s)", "(GB/s)", "");
    printf("\n");
    fflush(stdout);
}

/* Four or so significant digits, as short as the column. */
static void print_time(double us)
{
    printf("  %9.*f", us >= 10000 ? 0 : us >= 100 ? 1 : 2, us);
}

static void print_group(const perf_context *x, const perf_result *r)
{
    print_time(r->p50_us);
    if (x->args->wide) {
        print_time(r->p99_us);
        print_time(r->min_us);
        print_time(r->max_us);
    }
    printf("  %6.2f  %6.2f", r->algbw_GBps, r->busbw_GBps);
    if (r->wrong < 0)
        printf("  %6s", "N/A");
    else
        printf("  %6" PRId64, r->wrong);
}

void perf_table_row(const perf_context *x, const perf_row *row)
{
    const perf_result *any = row->out_of_place != NULL ? row->out_of_place : row->in_place;
    const perf_case *c = &any->c;
    printf("%12zu  %12zu  %8s  %6s  %6d   ", c->bytes, c->count,
           perf_collective_has_data(c->collective) ? weft_type_name(c->type) : "none", perf_op_text(c),
           c->root);
    if (row->out_of_place != NULL)
        print_group(x, row->out_of_place);
    if (row->in_place != NULL)
        print_group(x, row->in_place);
    printf("\n");
    fflush(stdout);
}

bool perf_table_end(const perf_context *x, int64_t wrong, double average_busbw_GBps)
{
    if (wrong >= 0)
        printf("# Out of bounds values : %" PRId64 " %s\n", wrong, wrong == 0 ? "OK" : "FAILED");
    else
        printf("# Out of bounds values : N/A (not checked)\n");
    printf("# Avg bus bandwidth    : %g\n", average_busbw_GBps);
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return true;
    fprintf(stderr, "%s: cannot write the table to standard output: %s\n", x->args->program, strerror(errno));
    return false;
}

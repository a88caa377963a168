/* weft-plan: prints, draws, verifies and costs the schedule of a collective, and says why an algorithm would
 * be chosen. Uses only the public headers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "plan_args.h"

typedef struct plan {
    weft_plan_request request;
    weft_schedule **schedules; /* of all ranks */
} plan;

static weft_plan_request request_of(const plan_args *args, weft_algorithm algorithm)
{
    return (weft_plan_request){.collective = args->collective,
                               .algorithm = algorithm,
                               .root = args->root,
                               .group = {.ranks = args->ranks, .host = args->host, .numa = args->numa},
                               .lanes = args->lanes,
                               .radix = args->radix,
                               .vector = args->vector};
}

static void plan_free(plan *p)
{
    for (int rank = 0; p->schedules && rank < p->request.group.ranks; rank++)
        weft_schedule_free(p->schedules[rank]);
    free(p->schedules);
}

static weft_status plan_make(plan *p)
{
    weft_status status = WEFT_OK;
    p->schedules = calloc((size_t)p->request.group.ranks, sizeof(*p->schedules));
    if (!p->schedules) {
        fprintf(stderr, "weft-plan: no memory for the schedules of %d ranks\n", p->request.group.ranks);
        return WEFT_ERR_MEMORY;
    }
    for (int rank = 0; status == WEFT_OK && rank < p->request.group.ranks; rank++)
        status = weft_plan(&p->request, rank, &p->schedules[rank]);
    if (status != WEFT_OK)
        fprintf(stderr, "weft-plan: %s\n", weft_last_error());
    return status;
}

static const weft_schedule *const *schedules_of(const plan *p)
{
    return (const weft_schedule *const *)p->schedules;
}

/* The cheapest that can be planned; WEFT_AUTO if there is none. */
static weft_algorithm cheapest(const plan_args *args, const weft_cost_model *model)
{
    weft_algorithm best = WEFT_AUTO;
    double least = 0, time;
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
        weft_plan_request request = request_of(args, (weft_algorithm)a);
        if (weft_plan_obstacle(&request) ||
            weft_cost_estimate(&request, model, args->bytes, &time) != WEFT_OK)
            continue;
        if (best == WEFT_AUTO || time < least) {
            best = (weft_algorithm)a;
            least = time;
        }
    }
    return best;
}

static void print_us(double ns)
{
    printf(ns < 1e5 ? "%14.2f" : "%14.0f", ns / 1e3);
}

static int show_why(const plan_args *args, const weft_cost_model *model)
{
    int code = 0;
    weft_algorithm best = cheapest(args, model);
    printf("%s of %zu bytes over %d ranks\n\n%-20s%14s%14s\n", weft_collective_name(args->collective),
           args->bytes, args->ranks, "algorithm", "estimate us", "simulated us");
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
        plan p = { .request = request_of(args, (weft_algorithm)a) };
        const char *obstacle = weft_plan_obstacle(&p.request);
        double estimate, time;
        printf("%-20s", weft_algorithm_name((weft_algorithm)a));
        if (obstacle) {
            printf("%14s%14s  %s\n", "-", "-", obstacle);
            continue;
        }
        if (weft_cost_estimate(&p.request, model, args->bytes, &estimate) != WEFT_OK ||
            plan_make(&p) != WEFT_OK ||
            weft_cost(schedules_of(&p), args->ranks, &p.request.group, model, args->bytes, &time) !=
                WEFT_OK) {
            printf("  failed: %s\n", weft_last_error());
            code = PLAN_EXIT_FAILED;
        } else {
            print_us(estimate);
            print_us(time);
            printf("%s\n", (weft_algorithm)a == best ? "  <- chosen" : "");
        }
        plan_free(&p);
    }
    printf("\nThe choice is the least estimate on an ordinary machine with %d cores a host. A communicator "
           "whose operation does\n"
           "not commute leaves out what does not keep rank order; a table measured by weft-perf --tune comes "
           "first.\n",
           model->cores_per_host);
    return best == WEFT_AUTO ? PLAN_EXIT_FAILED : code;
}

static weft_status print_plan(const plan *p, const plan_args *args, const weft_cost_model *model)
{
    const weft_schedule *const *all = schedules_of(p);
    bool one = args->rank >= 0;
    weft_status status = weft_schedule_print(one ? all + args->rank : all, one ? 1 : args->ranks,
                                             &p->request.group, model, args->bytes, args->format, stdout);
    if (status != WEFT_OK)
        fprintf(stderr, "weft-plan: %s\n", weft_last_error());
    else if (args->format == WEFT_PRINT_TEXT)
        printf("\nverified\n");
    return status;
}

static int show_plan(const plan_args *args, const weft_cost_model *model)
{
    char fault[1400];
    weft_algorithm algorithm = args->algorithm == WEFT_AUTO ? cheapest(args, model) : args->algorithm;
    plan p = { .request = request_of(args, algorithm) };
    if (algorithm == WEFT_AUTO) {
        fprintf(stderr, "weft-plan: no algorithm serves that; --why says what prevents each\n");
        return PLAN_EXIT_FAILED;
    }
    const char *obstacle = weft_plan_obstacle(&p.request);
    if (obstacle) {
        fprintf(stderr, "weft-plan: %s by %s: %s; --why lists what can be planned\n",
                weft_collective_name(args->collective), weft_algorithm_name(algorithm), obstacle);
        return PLAN_EXIT_FAILED;
    }
    weft_status status = plan_make(&p);
    if (status == WEFT_OK &&
        (args->vector ? weft_plan_verify(&p.request, fault, sizeof(fault))
                      : weft_verify(schedules_of(&p), args->ranks, &p.request.group, fault, sizeof(fault)))) {
        fprintf(stderr, "weft-plan: %s by %s is wrong: %s\n", weft_collective_name(args->collective),
                weft_algorithm_name(algorithm), fault[0] ? fault : weft_last_error());
        status = WEFT_ERR_MISMATCH;
    }
    if (status == WEFT_OK && args->action == PLAN_VERIFY)
        printf("%s by %s, %d ranks: verified\n", weft_collective_name(args->collective),
               weft_algorithm_name(algorithm), args->ranks);
    else if (status == WEFT_OK)
        status = print_plan(&p, args, model);
    plan_free(&p);
    return status == WEFT_OK ? 0 : PLAN_EXIT_FAILED;
}

static int run(const plan_args *args)
{
    weft_cost_model model;
    weft_cost_model_default(&model);
    if (args->cores)
        model.cores_per_host = args->cores;
    switch (args->action) {
    case PLAN_HELP:
        plan_print_help(stdout);
        return 0;
    case PLAN_VERSION:
        printf("weft-plan %s\n", weft_version());
        return 0;
    case PLAN_LIST:
        plan_print_list(stdout);
        return 0;
    case PLAN_WHY:
        return show_why(args, &model);
    default:
        return show_plan(args, &model);
    }
}

int main(int argc, char **argv)
{
    plan_args args;
    int code = PLAN_EXIT_USAGE;
    if (plan_args_parse(&args, argc, argv))
        code = run(&args);
    else
        fprintf(stderr, "weft-plan: %s\n", args.error);
    plan_args_free(&args);
    if (fflush(stdout) != 0 && code == 0) {
        fprintf(stderr, "weft-plan: cannot write to standard output: %s\n", strerror(errno));
        code = PLAN_EXIT_FAILED;
    }
    return code;
}

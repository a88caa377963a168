/* The public side of planning: names, what an algorithm can serve, planning one rank's list by the table of
 * planners. The planners themselves lie in plan_*.c, the collecting of steps in builder.c. */
#include <string.h>

#include "base/base.h"
#include "collectives/plan.h"

#define NAME_ENTRY(name, text) [name] = text,
static const char *const collective_names[] = { WEFT_COLLECTIVE_LIST(NAME_ENTRY) };
static const char *const algorithm_names[] = { WEFT_ALGORITHM_LIST(NAME_ENTRY) };
#undef NAME_ENTRY

const char *weft_collective_name(weft_collective collective)
{
    return (unsigned)collective < WEFT_COLLECTIVE_COUNT ? collective_names[collective] : "?";
}

const char *weft_algorithm_name(weft_algorithm algorithm)
{
    return (unsigned)algorithm < WEFT_ALGORITHM_COUNT ? algorithm_names[algorithm] : "?";
}

/* Index of text among the names, or -1 and an error that lists them. */
static int parse_name(const char *text, const char *const *names, int count, const char *what)
{
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    char list[256];
    size_t used = 0;
    list[0] = 0;
    for (int i = 0; i < count && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    weft_fail(WEFT_ERR_PARSE, "\"%s\" is not %s: use one of %s", text ? text : "(null)", what, list);
    return -1;
}

weft_status weft_collective_parse(const char *text, weft_collective *collective)
{
    int found = parse_name(text, collective_names, WEFT_COLLECTIVE_COUNT, "a collective");
    if (found < 0)
        return WEFT_ERR_PARSE;
    *collective = (weft_collective)found;
    return WEFT_OK;
}

weft_status weft_algorithm_parse(const char *text, weft_algorithm *algorithm)
{
    int found = parse_name(text, algorithm_names, WEFT_ALGORITHM_COUNT, "an algorithm");
    if (found < 0)
        return WEFT_ERR_PARSE;
    *algorithm = (weft_algorithm)found;
    return WEFT_OK;
}

static bool is_rooted(weft_collective collective)
{
    return collective == WEFT_BROADCAST || collective == WEFT_REDUCE || collective == WEFT_GATHER ||
           collective == WEFT_SCATTER;
}

/* What is wrong with the request whatever the algorithm; NULL: nothing. */
static const char *request_fault(const weft_plan_request *request)
{
    if (!request)
        return "there is no request";
    if ((unsigned)request->collective >= WEFT_COLLECTIVE_COUNT)
        return "there is no such collective";
    if (request->algorithm == WEFT_AUTO || (unsigned)request->algorithm >= WEFT_ALGORITHM_COUNT)
        return "no algorithm is named";
    if (request->group.ranks < 1 || request->group.ranks > WEFT_PLAN_MAX_RANKS)
        return "the number of ranks must be 1 to 32768";
    if (is_rooted(request->collective) && (request->root < 0 || request->root >= request->group.ranks))
        return "the root is not a rank of the group";
    if (request->lanes < 0)
        return "the number of lanes is negative";
    if (request->radix < 0 || request->radix == 1)
        return "the radix must be 2 or more";
    for (int r = 0, hosts = 0; request->group.host && r < request->group.ranks; r++) {
        if (request->group.host[r] < 0 || request->group.host[r] > hosts)
            return "hosts must be numbered from 0 in order of first appearance";
        hosts += request->group.host[r] == hosts;
    }
    const int *const within[] = { request->group.numa, request->group.cache };
    for (size_t k = 0; k < ARRAY_LEN(within); k++)
        for (int r = 0; within[k] && r < request->group.ranks; r++)
            if (within[k][r] < -1 || within[k][r] >= request->group.ranks)
                return "NUMA nodes and caches are numbers from -1 to ranks - 1";
    return NULL;
}

const char *weft_plan_obstacle(const weft_plan_request *request)
{
    const char *fault = request_fault(request);
    if (fault)
        return fault;
    const weft_planner *planner = weft_planner_find(request->algorithm, request->collective);
    if (!planner)
        return "does not serve this collective";
    if (planner->one_host && weft_group_hosts(&request->group) > 1)
        return "needs all ranks on one host";
    if (request->vector && !planner->vector)
        return "needs blocks of equal size";
    return NULL;
}

/* A group of one: the result is the input. */
static void plan_alone(weft_builder *b, weft_collective collective)
{
    weft_build_shape(b, 1, 0, 1);
    if (collective != WEFT_BARRIER)
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, 0, 1), weft_at(b, WEFT_OUTPUT, 0, 1), WEFT_STEP_FINAL);
}

weft_status weft_plan(const weft_plan_request *request, int rank, weft_schedule **schedule)
{
    const char *obstacle = weft_plan_obstacle(request);
    if (obstacle)
        return weft_fail(request_fault(request) ? WEFT_ERR_INVALID : WEFT_ERR_UNSUPPORTED,
                         "planning %s by %s: %s", request ? weft_collective_name(request->collective) : "?",
                         request ? weft_algorithm_name(request->algorithm) : "?", obstacle);
    if (rank < 0 || rank >= request->group.ranks)
        return weft_fail(WEFT_ERR_INVALID, "planning %s: rank %d is not in the group of %d",
                         weft_collective_name(request->collective), rank, request->group.ranks);
    const weft_planner *planner = weft_planner_find(request->algorithm, request->collective);
    weft_builder *b;
    weft_status status = weft_builder_create(request, rank, &b);
    if (status != WEFT_OK)
        return status;
    if (request->group.ranks == 1)
        plan_alone(b, request->collective);
    else
        status = planner->plan(b, request, rank);
    if (status != WEFT_OK) {
        weft_builder_abandon(b);
        return status;
    }
    status = weft_builder_finish(b, schedule);
    if (status == WEFT_OK)
        (*schedule)->keeps_order = planner->keeps_order || request->group.ranks == 1;
    return status;
}

void weft_schedule_free(weft_schedule *schedule)
{
    if (!schedule)
        return;
    weft_free(schedule->owner);
    weft_free(schedule);
}

uint64_t weft_plan_digest(const weft_plan_request *request)
{
    const weft_planner *planner = weft_planner_find(request->algorithm, request->collective);
    int32_t shared[7] = { (int32_t)request->collective, (int32_t)request->algorithm,
                          is_rooted(request->collective) ? request->root : 0, request->group.ranks,
                          planner && planner->single_lane ? 0 : request->lanes,
                          request->algorithm == WEFT_KNOMIAL ? request->radix : 0, request->vector };
    uint64_t digest = weft_hash(shared, sizeof shared, 0);
    const int *const where[] = { weft_group_hosts(&request->group) > 1 ? request->group.host : NULL, request->group.numa,
                                 request->group.cache };
    for (size_t k = 0; k < ARRAY_LEN(where); k++)
        if (where[k])
            digest = weft_hash(where[k], (size_t)request->group.ranks * sizeof(int), digest + k);
    return digest;
}

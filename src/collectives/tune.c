/* The choice of an algorithm, and the cache of this rank's schedules. */
#include "collectives/tune.h"

#include <string.h>

#include "collectives/planner.h"

weft_status weft_tuner_parse_forced(const char *text, uint8_t forced[WEFT_COLLECTIVE_COUNT])
{
    memset(forced, WEFT_AUTO, WEFT_COLLECTIVE_COUNT);
    while (text && *text) {
        char entry[64];
        size_t length = strcspn(text, ",");
        if (length >= sizeof entry)
            return weft_fail(WEFT_ERR_PARSE, "algorithm '%s': too long", text);
        memcpy(entry, text, length);
        entry[length] = 0;
        text += length + (text[length] == ',');
        char *colon = strchr(entry, ':');
        weft_collective collective;
        weft_algorithm algorithm;
        if (colon)
            *colon = 0;
        weft_status status = weft_algorithm_parse(colon ? colon + 1 : entry, &algorithm);
        if (status == WEFT_OK && colon)
            status = weft_collective_parse(entry, &collective);
        if (status != WEFT_OK)
            return weft_fail_context(status, "algorithm setting (algorithm, or collective:algorithm,...)");
        if (colon)
            forced[collective] = (uint8_t)algorithm;
        else
            memset(forced, algorithm, WEFT_COLLECTIVE_COUNT);
    }
    return WEFT_OK;
}

weft_status weft_tuner_init(weft_tuner *t, int rank, weft_group group, int cpus, int lanes, const char *forced)
{
    memset(t, 0, sizeof *t);
    t->rank = rank;
    t->group = group;
    t->lanes = lanes;
    weft_cost_model_default(&t->model);
    if (cpus > 0)
        t->model.cores_per_host = cpus;
    return weft_tuner_parse_forced(forced, t->forced);
}

void weft_tuner_clear(weft_tuner *t)
{
    for (size_t b = 0; b < ARRAY_LEN(t->ready); b++)
        while (t->ready[b]) {
            weft_ready_entry *entry = t->ready[b];
            t->ready[b] = entry->next;
            weft_ready_destroy(entry->ready);
            weft_free(entry);
        }
}

static weft_plan_request request_for(const weft_tuner *t, weft_collective collective, weft_algorithm algorithm, int root,
                                     bool vector)
{
    return (weft_plan_request){.collective = collective, .algorithm = algorithm, .root = root, .group = t->group,
                               .lanes = t->lanes, .vector = vector};
}

/* Why that algorithm cannot serve; NULL: it can. Ranks of one host share memory, or they would be hosts of their own. */
static const char *obstacle(const weft_tuner *t, const weft_plan_request *request, bool commutes)
{
    const char *why = weft_plan_obstacle(request);
    if (why)
        return why;
    const weft_planner *p = weft_planner_find(request->algorithm, request->collective);
    if (!commutes && !p->keeps_order && t->group.ranks > 1)
        return "does not keep the order that this operation needs";
    return NULL;
}

/* The cheapest by the model for that many bytes; WEFT_AUTO: none. Lack of memory is an error: without the algorithms that it
 * hits this rank might choose another one than the others. */
static weft_status find_cheapest(const weft_tuner *t, weft_collective collective, int root, size_t bytes, bool vector,
                                 bool commutes, weft_algorithm *cheapest)
{
    weft_algorithm best = WEFT_AUTO;
    double least = 0;
    for (int a = WEFT_AUTO + 1; a < WEFT_ALGORITHM_COUNT; a++) {
        weft_plan_request request = request_for(t, collective, (weft_algorithm)a, root, vector);
        double time = 0;
        if (obstacle(t, &request, commutes))
            continue;
        weft_status status = weft_cost_estimate(&request, &t->model, bytes, &time);
        if (status == WEFT_ERR_MEMORY)
            return status;
        if (status != WEFT_OK)
            continue;
        if (best == WEFT_AUTO || time < least) {
            best = (weft_algorithm)a;
            least = time;
        }
    }
    *cheapest = best;
    return WEFT_OK;
}

static unsigned bucket(size_t bytes)
{
    unsigned b = 0;
    while (bytes > ((size_t)1 << b) && b + 1 < WEFT_BUCKETS)
        b++;
    return b;
}

weft_status weft_tuner_choose(weft_tuner *t, weft_collective collective, int root, size_t bytes, bool vector,
                              bool commutes, weft_algorithm *algorithm)
{
    weft_algorithm forced = (weft_algorithm)t->forced[collective];
    if (forced != WEFT_AUTO && weft_planner_find(forced, collective)) {
        weft_plan_request request = request_for(t, collective, forced, root, vector);
        const char *why = obstacle(t, &request, commutes);
        if (why)
            return weft_fail(WEFT_ERR_UNSUPPORTED, "algorithm %s is forced for %s%s, but it %s", weft_algorithm_name(forced),
                             weft_collective_name(collective), vector ? " (vector form)" : "", why);
        *algorithm = forced;
        return WEFT_OK;
    }
    const weft_tuned *row = vector ? NULL : weft_tune_find(t, collective, bytes);
    if (row && row->algorithm != WEFT_AUTO) {
        weft_plan_request request = request_for(t, collective, (weft_algorithm)row->algorithm, root, false);
        if (!obstacle(t, &request, commutes)) {
            *algorithm = request.algorithm;
            return WEFT_OK;
        }
    }
    unsigned b = bucket(bytes);
    uint8_t *chosen = vector ? NULL : &t->chosen[collective][commutes][b];
    if (chosen && *chosen) {
        *algorithm = (weft_algorithm)*chosen;
        return WEFT_OK;
    }
    /* the bucket's upper end, so that all sizes of a bucket choose alike */
    weft_algorithm best;
    weft_status status = find_cheapest(t, collective, root, vector ? 1 << 16 : (size_t)1 << b, vector, commutes, &best);
    if (status != WEFT_OK)
        return status;
    if (best == WEFT_AUTO)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "no algorithm for %s%s over %d ranks%s", weft_collective_name(collective),
                         vector ? " (vector form)" : "", t->group.ranks,
                         commutes ? "" : " with an operation that does not commute");
    if (chosen)
        *chosen = (uint8_t)best;
    *algorithm = best;
    return WEFT_OK;
}

weft_status weft_tuner_schedule(weft_tuner *t, weft_collective collective, weft_algorithm algorithm, int root, bool vector,
                                const weft_ready **ready)
{
    weft_ready_entry **bucket_of = &t->ready[(collective * 31u + algorithm * 7u + (unsigned)root) % ARRAY_LEN(t->ready)];
    for (weft_ready_entry *entry = *bucket_of; entry; entry = entry->next)
        if (entry->collective == collective && entry->algorithm == algorithm && entry->root == root && entry->vector == vector) {
            *ready = entry->ready;
            return WEFT_OK;
        }
    weft_plan_request request = request_for(t, collective, algorithm, root, vector);
    weft_schedule *schedule;
    weft_ready_entry *entry = weft_alloc(sizeof *entry);
    if (!entry)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a schedule");
    weft_status status = weft_plan(&request, t->rank, &schedule);
    if (status == WEFT_OK)
        status = weft_ready_create(schedule, &entry->ready);
    if (status != WEFT_OK) {
        weft_free(entry);
        return status;
    }
    entry->collective = (uint8_t)collective;
    entry->algorithm = (uint8_t)algorithm;
    entry->root = root;
    entry->vector = vector;
    entry->next = *bucket_of;
    *bucket_of = entry;
    *ready = entry->ready;
    return WEFT_OK;
}

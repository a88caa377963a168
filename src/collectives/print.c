/* What schedules are called and how one step reads; chooses the printer. The formats lie in print_text.c,
 * print_json.c, print_svg.c and print_dot.c. */
#include "collectives/print.h"

#include <stdarg.h>

#include "base/base.h"
#include "base/number.h"

const char *weft_buffer_name(uint32_t buffer)
{
    static const char *const names[] = { "input", "output", "scratch" };
    return buffer < ARRAY_LEN(names) ? names[buffer] : "?";
}

const char *weft_step_kind_name(unsigned kind)
{
    static const char *const names[] = {"send",   "recv",    "recv_reduce", "copy",
                                        "reduce", "publish", "signal",      "wait"};
    return kind < ARRAY_LEN(names) ? names[kind] : "?";
}

/* Text that grows in a fixed buffer and is cut at its end. */
typedef struct line {
    char *text;
    size_t bytes, used;
} line;

static void add(line *l, const char *format, ...) WEFT_PRINTF(2, 3);
static void add(line *l, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = l->used < l->bytes ? vsnprintf(l->text + l->used, l->bytes - l->used, format, list) : 0;
    va_end(list);
    l->used += n > 0 ? (size_t)n : 0;
}

static void add_place(line *l, const weft_place *place, int rank)
{
    if (place->rank != rank)
        add(l, "rank %d's ", place->rank);
    add(l, "%s[%u", weft_buffer_name(place->buffer), place->first);
    if (place->count == 0 || place->repeat == 0)
        add(l, ", none]");
    else if (place->repeat > 1 && place->count == 1)
        add(l, ", +%u x%u]", place->stride, place->repeat);
    else if (place->repeat > 1)
        add(l, "..%u, +%u x%u]", place->first + place->count - 1, place->stride, place->repeat);
    else if (place->count > 1)
        add(l, "..%u]", place->first + place->count - 1);
    else
        add(l, "]");
}

void weft_place_text(const weft_place *place, int rank, char *text, size_t bytes)
{
    line l = { text, bytes, 0 };
    if (bytes > 0)
        text[0] = 0;
    add_place(&l, place, rank);
}

static void add_recv(line *l, const weft_schedule *schedule, const weft_step *s)
{
    add(l, " from %d: ", s->from);
    add_place(l, &s->dst, schedule->rank);
    if (s->kind == WEFT_STEP_RECV_REDUCE) {
        add(l, " = %s", s->flags & WEFT_STEP_INCOMING_FIRST ? "in op " : "");
        add_place(l, &s->src, schedule->rank);
        add(l, "%s", s->flags & WEFT_STEP_INCOMING_FIRST ? "" : " op in");
    }
    if (s->to >= 0)
        add(l, ", forward to %d", s->to);
}

enum { SOURCES_SHOWN = 4 };

static void add_sources(line *l, const weft_schedule *schedule, const weft_step *s)
{
    for (uint32_t i = 0; i < s->sources && s->value + i < schedule->source_count; i++) {
        if (s->sources > SOURCES_SHOWN && i == SOURCES_SHOWN - 1) {
            add(l, " op ... (%u sources)", s->sources);
            return;
        }
        add(l, "%s", i ? " op " : "");
        add_place(l, &schedule->sources[s->value + i], schedule->rank);
    }
}

void weft_step_describe(const weft_schedule *schedule, const weft_step *s, char *text, size_t bytes)
{
    line l = { text, bytes, 0 };
    if (bytes > 0)
        text[0] = 0;
    add(&l, "%s", weft_step_kind_name(s->kind));
    switch (s->kind) {
    case WEFT_STEP_SEND:
        add(&l, " to %d: ", s->to);
        add_place(&l, &s->src, schedule->rank);
        break;
    case WEFT_STEP_RECV:
    case WEFT_STEP_RECV_REDUCE:
        add_recv(&l, schedule, s);
        break;
    case WEFT_STEP_COPY:
    case WEFT_STEP_REDUCE:
        add(&l, " ");
        add_place(&l, &s->dst, schedule->rank);
        add(&l, " = ");
        if (s->kind == WEFT_STEP_COPY)
            add_place(&l, &s->src, schedule->rank);
        else
            add_sources(&l, schedule, s);
        break;
    case WEFT_STEP_PUBLISH:
        add(&l, " ");
        add_place(&l, &s->src, schedule->rank);
        break;
    case WEFT_STEP_WAIT:
        add(&l, " for signal %u of %d", s->value, s->from);
        break;
    default:
        break;
    }
    if (s->fence)
        add(&l, ", after %u send%s", s->fence, s->fence == 1 ? "" : "s");
    if (s->flags & WEFT_STEP_FINAL)
        add(&l, ", final");
    if (s->flags & WEFT_STEP_IF_MAPPED)
        add(&l, ", if mapped");
    if (s->flags & WEFT_STEP_PUSH)
        add(&l, ", pushed to mapped peers");
    if (s->flags & WEFT_STEP_PUSHED)
        add(&l, ", unless pushed");
}

void weft_step_text(const weft_schedule *schedule, uint32_t lane, uint32_t step, char *text, size_t bytes)
{
    char what[256];
    if (lane >= schedule->lanes || step >= schedule->lane[lane].count) {
        snprintf(text, bytes, "lane %u: end", lane);
        return;
    }
    weft_step_describe(schedule, &schedule->lane[lane].steps[step], what, sizeof(what));
    snprintf(text, bytes, "lane %u step %u: %s", lane, step, what);
}

/* ---- whole schedules --------------------------------------------------------------------------- */

void weft_print_bytes(double value, char *text, size_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(text, bytes, "%.4g %s", value, units[unit]);
}

void weft_print_time(double ns, char *text, size_t bytes)
{
    if (ns < 1e3)
        snprintf(text, bytes, "%.0f ns", ns);
    else if (ns < 1e6)
        snprintf(text, bytes, "%.4g us", ns / 1e3);
    else if (ns < 1e9)
        snprintf(text, bytes, "%.4g ms", ns / 1e6);
    else
        snprintf(text, bytes, "%.4g s", ns / 1e9);
}

void weft_print_title(const weft_print_job *job, char *text, size_t bytes)
{
    const weft_schedule *s = job->schedules[0];
    snprintf(text, bytes, "%s %s, %d rank%s on %d host%s", weft_algorithm_name(s->algorithm),
             weft_collective_name(s->collective), s->ranks, s->ranks == 1 ? "" : "s", job->hosts,
             job->hosts == 1 ? "" : "s");
}

static weft_status check_job(const weft_schedule *const *schedules, int ranks, const weft_group *group)
{
    if (ranks <= 0 || !schedules)
        return weft_fail(WEFT_ERR_INVALID, "there are %d schedules to print", ranks);
    for (int i = 0; i < ranks; i++)
        if (!schedules[i] || schedules[i]->ranks != schedules[0]->ranks)
            return weft_fail(WEFT_ERR_INVALID,
                             "schedule %d of those to print is not of the same plan as the first", i);
    if (group && group->ranks != schedules[0]->ranks)
        return weft_fail(WEFT_ERR_INVALID, "the schedules are for %d ranks, the group has %d",
                         schedules[0]->ranks, group->ranks);
    return WEFT_OK;
}

weft_status weft_schedule_print(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                                const weft_cost_model *model, size_t bytes, weft_print_format format,
                                FILE *stream)
{
    weft_status status = check_job(schedules, ranks, group);
    if (status != WEFT_OK)
        return status;
    weft_cost_model ordinary;
    weft_cost_model_default(&ordinary);
    weft_print_job job = {.schedules = schedules,
                          .count = ranks,
                          .group = group,
                          .model = model ? model : &ordinary,
                          .bytes = bytes,
                          .stream = stream,
                          .hosts = 1,
                          .complete = ranks == schedules[0]->ranks};
    for (int rank = 0; group && rank < group->ranks; rank++)
        job.hosts = weft_print_host(group, rank) >= job.hosts ? weft_print_host(group, rank) + 1 : job.hosts;
    if (!job.complete && (format == WEFT_PRINT_SVG || format == WEFT_PRINT_DOT))
        return weft_fail(WEFT_ERR_INVALID, "a drawing needs the schedules of all %d ranks, %d are given",
                         schedules[0]->ranks, ranks);
    if (job.complete)
        status = weft_cost(schedules, ranks, group, job.model, bytes, &job.time_ns);
    if (status != WEFT_OK)
        return status;
    locale_t usual = weft_number_begin();
    status = format == WEFT_PRINT_TEXT   ? weft_print_text(&job)
             : format == WEFT_PRINT_JSON ? weft_print_json(&job)
             : format == WEFT_PRINT_SVG  ? weft_print_svg(&job)
             : format == WEFT_PRINT_DOT
                 ? weft_print_dot(&job)
                 : weft_fail(WEFT_ERR_INVALID, "there is no print format %d", (int)format);
    weft_number_end(usual);
    if (status == WEFT_OK && (fflush(stream) != 0 || ferror(stream)))
        status = weft_fail_errno(WEFT_ERR_SYSTEM, "printing a schedule");
    return status;
}

/* What schedules are called and how one step reads; chooses the printer. The formats lie in print_text.c, print_json.c,
 * print_svg.c and print_dot.c. */
#include "collectives/print.h"

#include <stdarg.h>

#include "base/base.h"

const char *weft_buffer_name(uint32_t buffer)
{
    static const char *const names[] = { "input", "output", "scratch" };
    return buffer < ARRAY_LEN(names) ? names[buffer] : "?";
}

const char *weft_step_kind_name(unsigned kind)
{
    static const char *const names[] = { "send", "recv", "recv_reduce", "copy", "reduce", "publish", "signal", "wait" };
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
        add(&l, ", after %u sends", s->fence);
    if (s->flags & WEFT_STEP_FINAL)
        add(&l, ", final");
    if (s->flags & WEFT_STEP_IF_MAPPED)
        add(&l, ", if mapped");
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

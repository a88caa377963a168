/* Schedules as a picture: a timeline by the cost model, a row per rank and lane, bars for steps and lines for
 * messages. */
#include <math.h>

#include "base/base.h"
#include "collectives/cost.h"
#include "collectives/print.h"

enum {
    LINES_SHOWN = 4000,  /* messages: more than that are only a smear */
    BARS_SHOWN = 20000   /* beyond that, neighbours of one colour become one, without text */
};

static const double left_px = 96, top_px = 92, plot_px = 1080, right_px = 24;

typedef struct bar {
    int rank;
    uint32_t lane, tile, step;
    double start_ns, end_ns;
} bar;

typedef struct wire {
    int from, to;
    uint32_t lane;
    double start_ns, end_ns, bytes;
} wire;

typedef struct picture {
    const weft_print_job *job;
    bar *bars;
    wire *wires;
    size_t bar_count, bar_room, wire_count, wire_room;
    bool no_memory;
    double end_ns, ns_px;  /* time of the right edge; pixels per ns */
    double row_px;
    uint32_t lanes, tiles;
    bar *spans;            /* by row: what is being joined, step is a step of its colour */
} picture;

/* Colours of kinds of work, in the order of the legend. */
typedef struct kind_colour {
    const char *name, *colour;
    unsigned kinds; /* bit set of weft_step_kind */
} kind_colour;

static const kind_colour kind_colours[] = {
    { "send", "#94a3b8", 1u << WEFT_STEP_SEND },
    { "receive", "#3b82f6", 1u << WEFT_STEP_RECV },
    { "receive and reduce", "#f59e0b", 1u << WEFT_STEP_RECV_REDUCE },
    { "reduce", "#ea580c", 1u << WEFT_STEP_REDUCE },
    { "copy", "#10b981", 1u << WEFT_STEP_COPY },
    { "publish", "#8b5cf6", 1u << WEFT_STEP_PUBLISH },
    { "signal, wait", "#e11d48", 1u << WEFT_STEP_SIGNAL | 1u << WEFT_STEP_WAIT },
};

static size_t colour_of(unsigned kind)
{
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(kind_colours) && !(kind_colours[i].kinds & 1u << kind))
        i++;
    return i;
}

static const char *colour_at(const picture *p, const bar *b)
{
    return kind_colours[colour_of(p->job->schedules[b->rank]->lane[b->lane].steps[b->step].kind)].colour;
}

/* ---- collecting -------------------------------------------------------------------------------- */

static void *grown(picture *p, void *items, size_t count, size_t *room, size_t item_bytes)
{
    if (count < *room)
        return items;
    size_t more = *room ? *room * 2 : 1024;
    void *larger = weft_realloc(items, more * item_bytes);
    if (!larger) {
        p->no_memory = true;
        return items;
    }
    *room = more;
    return larger;
}

static void see_step(void *context, int rank, uint32_t lane, uint32_t tile, uint32_t step, double start_ns,
                     double end_ns)
{
    picture *p = context;
    p->bars = grown(p, p->bars, p->bar_count, &p->bar_room, sizeof(bar));
    if (p->bar_count < p->bar_room)
        p->bars[p->bar_count++] = (bar){ rank, lane, tile, step, start_ns, end_ns };
    p->end_ns = end_ns > p->end_ns ? end_ns : p->end_ns;
    p->tiles = tile >= p->tiles ? tile + 1 : p->tiles;
}

static void see_message(void *context, int from, int to, uint32_t lane, double start_ns, double end_ns,
                        double bytes)
{
    picture *p = context;
    p->wires = grown(p, p->wires, p->wire_count, &p->wire_room, sizeof(wire));
    if (p->wire_count < p->wire_room)
        p->wires[p->wire_count++] = (wire){ from, to, lane, start_ns, end_ns, bytes };
    p->end_ns = end_ns > p->end_ns ? end_ns : p->end_ns;
}

/* ---- drawing ----------------------------------------------------------------------------------- */

static double x_of(const picture *p, double ns)
{
    return left_px + ns * p->ns_px;
}

static double rank_px(const picture *p)
{
    return p->row_px * p->lanes + (p->row_px > 6 ? 4 : 1);
}

static double y_of(const picture *p, int rank, uint32_t lane)
{
    return top_px + rank * rank_px(p) + lane * p->row_px;
}

static double bottom_of(const picture *p)
{
    return top_px + p->job->count * rank_px(p);
}

/* A round number of ns, so that there are 5 to 12 ticks. */
static double tick_of(double all_ns)
{
    double power = pow(10, floor(log10(all_ns > 1 ? all_ns : 1) - 0.5));
    double steps[] = { 1, 2, 5, 10 };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (all_ns / (power * steps[i]) <= 12)
            return power * steps[i];
    return power * 20;
}

static void draw_head(const picture *p)
{
    const weft_print_job *job = p->job;
    FILE *out = job->stream;
    char title[160], size[32], time[32];
    weft_print_title(job, title, sizeof(title));
    weft_print_bytes((double)job->bytes, size, sizeof(size));
    weft_print_time(job->time_ns, time, sizeof(time));
    double width = left_px + plot_px + right_px, height = bottom_of(p) + 34;
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" "
        "font-family=\"Inter, Helvetica, Arial, sans-serif\">\n",
        width, height, width, height);
    fprintf(out, "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n");
    fprintf(out,
            "<text x=\"%.0f\" y=\"30\" font-size=\"18\" font-weight=\"600\" fill=\"#0f172a\">%s</text>\n",
            left_px, title);
    fprintf(out, "<text x=\"%.0f\" y=\"50\" font-size=\"13\" fill=\"#475569\">", left_px);
    if (job->schedules[0]->collective != WEFT_BARRIER)
        fprintf(out, "%s, ", size);
    fprintf(out, "predicted %s", time);
    if (p->end_ns < 0.99 * job->time_ns)
        fprintf(out, "; shown: the first %u tiles", p->tiles);
    fprintf(out, "</text>\n");
}

static void draw_legend(const picture *p)
{
    unsigned used = 0;
    double x = left_px;
    for (size_t i = 0; i < p->bar_count; i++) {
        const bar *b = &p->bars[i];
        used |= 1u << p->job->schedules[b->rank]->lane[b->lane].steps[b->step].kind;
    }
    for (size_t i = 0; i < ARRAY_LEN(kind_colours); i++) {
        if (!(kind_colours[i].kinds & used))
            continue;
        fprintf(p->job->stream, "<rect x=\"%.0f\" y=\"63\" width=\"11\" height=\"11\" rx=\"2\" fill=\"%s\"/>"
                "<text x=\"%.0f\" y=\"73\" font-size=\"12\" fill=\"#334155\">%s</text>\n",
                x, kind_colours[i].colour, x + 16, kind_colours[i].name);
        for (const char *c = kind_colours[i].name; *c; c++)
            x += 6.6;
        x += 38;
    }
}

static void draw_grid(const picture *p)
{
    FILE *out = p->job->stream;
    double tick = tick_of(p->end_ns), bottom = bottom_of(p);
    for (double t = 0; t <= p->end_ns * 1.0001; t += tick) {
        char label[32];
        weft_print_time(t, label, sizeof(label));
        fprintf(out,
                "<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\" stroke=\"#e2e8f0\"/>"
                "<text x=\"%.1f\" y=\"%.0f\" font-size=\"11\" fill=\"#64748b\" "
                "text-anchor=\"middle\">%s</text>\n",
                x_of(p, t), top_px - 4, x_of(p, t), bottom + 4, x_of(p, t), bottom + 20,
                t == 0 ? "0" : label);
    }
}

/* Rows of every second host are shaded; ranks are named as densely as there is room. */
static void draw_rows(const picture *p)
{
    const weft_print_job *job = p->job;
    int every = rank_px(p) >= 12 ? 1 : (int)ceil(12 / rank_px(p));
    for (int rank = 0; rank < job->count; rank++) {
        double y = y_of(p, rank, 0);
        const char *fill = weft_print_host(job->group, rank) % 2 ? "#eef2ff" : "#f8fafc";
        fprintf(job->stream, "<rect x=\"%.0f\" y=\"%.1f\" width=\"%.0f\" height=\"%.1f\" fill=\"%s\"/>\n",
                left_px, y, plot_px, p->row_px * p->lanes, fill);
        if (rank % every != 0)
            continue;
        fprintf(job->stream,
                "<text x=\"%.0f\" y=\"%.1f\" font-size=\"11\" fill=\"#334155\" text-anchor=\"end\">",
                left_px - 8, y + p->row_px * p->lanes / 2 + 4);
        if (job->hosts > 1)
            fprintf(job->stream, "host %d, ", weft_print_host(job->group, rank));
        fprintf(job->stream, "rank %d</text>\n", rank);
    }
}

static void draw_wires(const picture *p)
{
    FILE *out = p->job->stream;
    if (p->wire_count > LINES_SHOWN)
        return;
    double opacity = p->wire_count > 400 ? 0.25 : 0.55;
    fprintf(out, "<g stroke=\"#64748b\" stroke-width=\"%.1f\" stroke-opacity=\"%.2f\">\n",
            p->wire_count > 400 ? 0.6 : 1.0, opacity);
    for (size_t i = 0; i < p->wire_count; i++) {
        const wire *w = &p->wires[i];
        double half = p->row_px / 2;
        fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x_of(p, w->start_ns),
                y_of(p, w->from, w->lane) + half, x_of(p, w->end_ns), y_of(p, w->to, w->lane) + half);
    }
    fprintf(out, "</g>\n");
}

/* "&" and the like do not occur in step texts, so they go in as they are. */
static void draw_bar(const picture *p, const bar *b)
{
    const weft_schedule *s = p->job->schedules[b->rank];
    char text[256], time[32];
    double x = x_of(p, b->start_ns), width = (b->end_ns - b->start_ns) * p->ns_px;
    double inset = p->row_px > 8 ? 2 : 0.4, height = p->row_px - 2 * inset;
    weft_step_describe(s, &s->lane[b->lane].steps[b->step], text, sizeof(text));
    weft_print_time(b->end_ns - b->start_ns, time, sizeof(time));
    fprintf(p->job->stream,
            "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"%s fill=\"%s\" fill-opacity=\"%s\">"
            "<title>rank %d lane %u step %u",
            x, y_of(p, b->rank, b->lane) + inset, width < 1.2 ? 1.2 : width, height,
            width > 5 ? " rx=\"1.5\" stroke=\"#fff\" stroke-width=\"0.7\"" : "", colour_at(p, b),
            b->tile % 2 ? "0.62" : "0.92", b->rank, b->lane, b->step);
    if (p->tiles > 1)
        fprintf(p->job->stream, " tile %u", b->tile);
    fprintf(p->job->stream, ": %s (%s)</title></rect>\n", text, time);
}

static void draw_span(const picture *p, const bar *b)
{
    double width = (b->end_ns - b->start_ns) * p->ns_px;
    if (b->end_ns <= b->start_ns)
        return;
    fprintf(p->job->stream, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
            x_of(p, b->start_ns), y_of(p, b->rank, b->lane) + 0.4, width < 0.5 ? 0.5 : width, p->row_px - 0.8,
            colour_at(p, b));
}

/* Adds the bar to its row's span, or draws that span and begins the next. */
static void join_bar(picture *p, const bar *b)
{
    bar *span = &p->spans[(size_t)b->rank * p->lanes + b->lane];
    double gap = (b->start_ns - span->end_ns) * p->ns_px;
    if (span->end_ns > 0 && gap < 1 && gap > -1 && colour_at(p, span) == colour_at(p, b)) {
        span->end_ns = b->end_ns > span->end_ns ? b->end_ns : span->end_ns;
        return;
    }
    draw_span(p, span);
    *span = *b;
}

static void draw_bars(picture *p)
{
    bool joined = p->bar_count > BARS_SHOWN;
    for (size_t i = 0; i < p->bar_count; i++)
        if (joined)
            join_bar(p, &p->bars[i]);
        else
            draw_bar(p, &p->bars[i]);
    for (size_t i = 0; joined && i < (size_t)p->job->count * p->lanes; i++)
        draw_span(p, &p->spans[i]);
}

static void draw(picture *p)
{
    double rows = (double)p->job->count * p->lanes;
    p->row_px = 640 / rows > 26 ? 26 : 640 / rows < 2.5 ? 2.5 : 640 / rows;
    p->ns_px = plot_px / (p->end_ns > 0 ? p->end_ns : 1);
    draw_head(p);
    draw_legend(p);
    draw_rows(p);
    draw_grid(p);
    draw_bars(p);
    draw_wires(p);
    fprintf(p->job->stream, "</svg>\n");
}

weft_status weft_print_svg(const weft_print_job *job)
{
    picture p = { .job = job, .lanes = job->schedules[0]->lanes };
    const weft_cost_watcher watcher = { .step = see_step, .message = see_message, .context = &p };
    double time;
    weft_status status =
        weft_cost_watch(job->schedules, job->count, job->group, job->model, job->bytes, &watcher, &time);
    p.spans = weft_alloc_array((size_t)job->count * p.lanes, sizeof(bar));
    if (status == WEFT_OK && (p.no_memory || !p.spans))
        status = weft_fail(WEFT_ERR_MEMORY, "no memory to draw a schedule");
    if (status == WEFT_OK)
        draw(&p);
    weft_free(p.bars);
    weft_free(p.wires);
    weft_free(p.spans);
    return status;
}

/* Schedules as a Graphviz graph: who sends to whom how much (solid), who reads whose memory (dashed), hosts
 * as boxes. */
#include <stdlib.h>

#include "base/base.h"
#include "collectives/print.h"

/* What one rank gets from another. */
typedef struct edge {
    int from, to;
    uint32_t lane;
    uint32_t messages, chunks;
    bool memory; /* read, not sent */
} edge;

typedef struct edge_list {
    edge *edges;
    size_t count, room;
} edge_list;

static weft_status add_edge(edge_list *list, edge e)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 256;
        edge *edges = weft_realloc(list->edges, room * sizeof(edge));
        if (!edges)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to draw a schedule");
        list->edges = edges;
        list->room = room;
    }
    list->edges[list->count++] = e;
    return WEFT_OK;
}

static weft_status collect_step(edge_list *list, const weft_schedule *s, uint32_t lane, const weft_step *step)
{
    weft_status status = WEFT_OK;
    if (step->to >= 0) {
        const weft_place *sent = step->kind == WEFT_STEP_SEND ? &step->src : &step->dst;
        status = add_edge(list, (edge){ s->rank, step->to, lane, 1, sent->count * sent->repeat, false });
    }
    if (step->kind == WEFT_STEP_COPY && step->src.rank != s->rank)
        status = add_edge(list,
                          (edge){step->src.rank, s->rank, lane, 1, step->src.count * step->src.repeat, true});
    for (uint32_t i = 0; step->kind == WEFT_STEP_REDUCE && i < step->sources && status == WEFT_OK; i++) {
        const weft_place *source = &s->sources[step->value + i];
        if (source->rank != s->rank)
            status =
                add_edge(list, (edge){source->rank, s->rank, lane, 1, source->count * source->repeat, true});
    }
    return status;
}

static int compare_edges(const void *a, const void *b)
{
    const edge *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    if (x->memory != y->memory)
        return x->memory ? 1 : -1;
    return x->lane < y->lane ? -1 : x->lane > y->lane;
}

/* Edges of the same ends, lane and kind become one. */
static void join_edges(edge_list *list)
{
    size_t kept = 0;
    if (list->count == 0)
        return;
    qsort(list->edges, list->count, sizeof(edge), compare_edges);
    for (size_t i = 1; i < list->count; i++) {
        if (compare_edges(&list->edges[kept], &list->edges[i]) == 0) {
            list->edges[kept].messages += list->edges[i].messages;
            list->edges[kept].chunks += list->edges[i].chunks;
        } else {
            list->edges[++kept] = list->edges[i];
        }
    }
    list->count = kept + 1;
}

static void print_nodes(const weft_print_job *job)
{
    int ranks = job->schedules[0]->ranks;
    for (int host = 0; host < job->hosts; host++) {
        if (job->hosts > 1)
            fprintf(job->stream,
                    "  subgraph cluster_%d {\n    label=\"host %d\"; color=\"#9aa5b1\"; style=rounded;\n",
                    host, host);
        for (int rank = 0; rank < ranks; rank++)
            if (weft_print_host(job->group, rank) == host)
                fprintf(job->stream, "    r%d [label=\"%d\"];\n", rank, rank);
        if (job->hosts > 1)
            fprintf(job->stream, "  }\n");
    }
}

weft_status weft_print_dot(const weft_print_job *job)
{
    static const char *const colours[] = {"#2563eb", "#d97706", "#059669", "#db2777",
                                          "#7c3aed", "#0891b2", "#65a30d", "#dc2626"};
    char title[160];
    edge_list list = { 0 };
    weft_status status = WEFT_OK;
    for (int i = 0; i < job->count; i++)
        for (uint32_t lane = 0; lane < job->schedules[i]->lanes; lane++)
            for (uint32_t k = 0; status == WEFT_OK && k < job->schedules[i]->lane[lane].count; k++)
                status =
                    collect_step(&list, job->schedules[i], lane, &job->schedules[i]->lane[lane].steps[k]);
    if (status != WEFT_OK) {
        weft_free(list.edges);
        return status;
    }
    join_edges(&list);
    weft_print_title(job, title, sizeof(title));
    fprintf(job->stream,
            "digraph schedule {\n  label=\"%s\\nsolid: messages, dashed: reads of shared memory; messages x "
            "chunks\";\n",
            title);
    fprintf(job->stream,
            "  labelloc=t; layout=%s; overlap=false; K=1.4; mindist=1.2; fontname=\"sans-serif\";\n",
            job->hosts > 1 ? "fdp" : "circo");
    fprintf(job->stream, "  node [shape=circle, style=filled, fillcolor=\"#eef2f7\", color=\"#52606d\", "
                         "fontname=\"sans-serif\"];\n");
    fprintf(job->stream, "  edge [fontname=\"sans-serif\", fontsize=9];\n");
    print_nodes(job);
    for (size_t i = 0; i < list.count; i++) {
        const edge *e = &list.edges[i];
        fprintf(job->stream, "  r%d -> r%d [color=\"%s\"", e->from, e->to,
                colours[e->lane % ARRAY_LEN(colours)]);
        if (e->memory)
            fprintf(job->stream, ", style=dashed];\n");
        else
            fprintf(job->stream, ", label=\"%u x %u\"];\n", e->messages, e->chunks / e->messages);
    }
    fprintf(job->stream, "}\n");
    weft_free(list.edges);
    return WEFT_OK;
}

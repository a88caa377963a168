/* Schedules as JSON, complete: what a program needs to draw, check or import them. */
#include "base/base.h"
#include "collectives/print.h"

static void print_place(FILE *stream, const char *name, const weft_place *place)
{
    fprintf(stream,
            ", \"%s\": {\"rank\": %d, \"buffer\": \"%s\", \"first\": %u, \"count\": %u, \"repeat\": %u, "
            "\"stride\": %u}",
            name, place->rank, weft_buffer_name(place->buffer), place->first, place->count, place->repeat,
            place->stride);
}

static void print_sources(FILE *stream, const weft_schedule *s, const weft_step *step)
{
    fprintf(stream, ", \"sources\": [");
    for (uint32_t i = 0; i < step->sources; i++) {
        const weft_place *p = &s->sources[step->value + i];
        fprintf(stream,
                "%s{\"rank\": %d, \"buffer\": \"%s\", \"first\": %u, \"count\": %u, \"repeat\": %u, "
                "\"stride\": %u}",
                i ? ", " : "", p->rank, weft_buffer_name(p->buffer), p->first, p->count, p->repeat,
                p->stride);
    }
    fprintf(stream, "]");
}

static void print_step(FILE *stream, const weft_schedule *s, const weft_step *step)
{
    unsigned kind = step->kind;
    fprintf(stream, "{\"kind\": \"%s\"", weft_step_kind_name(kind));
    if (step->from >= 0)
        fprintf(stream, ", \"from\": %d", step->from);
    if (step->to >= 0)
        fprintf(stream, ", \"to\": %d", step->to);
    if (kind == WEFT_STEP_WAIT)
        fprintf(stream, ", \"value\": %u", step->value);
    if (kind == WEFT_STEP_SEND || kind == WEFT_STEP_RECV_REDUCE || kind == WEFT_STEP_COPY ||
        kind == WEFT_STEP_PUBLISH)
        print_place(stream, "src", &step->src);
    if (kind == WEFT_STEP_RECV || kind == WEFT_STEP_RECV_REDUCE || kind == WEFT_STEP_COPY ||
        kind == WEFT_STEP_REDUCE)
        print_place(stream, "dst", &step->dst);
    if (kind == WEFT_STEP_REDUCE)
        print_sources(stream, s, step);
    if (step->fence)
        fprintf(stream, ", \"fence\": %u", step->fence);
    if (step->flags & WEFT_STEP_INCOMING_FIRST)
        fprintf(stream, ", \"incoming_first\": true");
    if (step->flags & WEFT_STEP_FINAL)
        fprintf(stream, ", \"final\": true");
    if (step->flags & WEFT_STEP_IF_MAPPED)
        fprintf(stream, ", \"if_mapped\": true");
    if (step->flags & WEFT_STEP_PUSH)
        fprintf(stream, ", \"push\": true");
    if (step->flags & WEFT_STEP_PUSHED)
        fprintf(stream, ", \"pushed\": true");
    fprintf(stream, "}");
}

static void print_schedule(FILE *stream, const weft_schedule *s)
{
    fprintf(stream, "    {\"rank\": %d, \"scratch_chunks\": %u, \"lanes\": [", s->rank, s->scratch_chunks);
    for (uint32_t lane = 0; lane < s->lanes; lane++) {
        fprintf(stream, "%s\n      [", lane ? "," : "");
        for (uint32_t i = 0; i < s->lane[lane].count; i++) {
            fprintf(stream, "%s\n        ", i ? "," : "");
            print_step(stream, s, &s->lane[lane].steps[i]);
        }
        fprintf(stream, "]");
    }
    fprintf(stream, "]}");
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

weft_status weft_print_json(const weft_print_job *job)
{
    const weft_schedule *s = job->schedules[0];
    FILE *out = job->stream;
    fprintf(
        out,
        "{\n  \"collective\": \"%s\", \"algorithm\": \"%s\", \"ranks\": %d, \"root\": %d, \"bytes\": %zu,\n",
        weft_collective_name(s->collective), weft_algorithm_name(s->algorithm), s->ranks, s->root,
        job->bytes);
    fprintf(out, "  \"hosts\": [");
    for (int rank = 0; rank < s->ranks; rank++)
        fprintf(out, "%s%d", rank ? ", " : "", weft_print_host(job->group, rank));
    fprintf(out, "],\n");
    if (job->complete)
        fprintf(out, "  \"predicted_us\": %.3f,\n", job->time_ns / 1e3);
    fprintf(out, "  \"lanes\": %u, \"chunks_per_block\": %u, \"input_blocks\": %u, \"output_blocks\": %u,\n",
            s->lanes, s->chunks_per_block, s->input_blocks, s->output_blocks);
    fprintf(out, "  \"keeps_order\": %s, \"not_in_place\": %s, \"local\": %s,\n", truth(s->keeps_order),
            truth(s->not_in_place), truth(s->local));
    fprintf(out, "  \"schedules\": [\n");
    for (int i = 0; i < job->count; i++) {
        print_schedule(out, job->schedules[i]);
        fprintf(out, "%s\n", i + 1 < job->count ? "," : "");
    }
    fprintf(out, "  ]\n}\n");
    return WEFT_OK;
}

/* Schedules as text: every step where a person would read them, else what each rank has to do, in numbers. */
#include <string.h>

#include "base/base.h"
#include "collectives/cost.h"
#include "collectives/print.h"

enum { STEPS_SHOWN = 240 }; /* beyond that many, only numbers */

static void print_head(const weft_print_job *job)
{
    const weft_schedule *s = job->schedules[0];
    char title[160], size[32], chunk[32], time[32];
    weft_print_title(job, title, sizeof(title));
    weft_print_bytes((double)job->bytes, size, sizeof(size));
    weft_print_bytes((double)job->bytes / weft_cost_blocks(s->collective, s->ranks) / s->chunks_per_block, chunk, sizeof(chunk));
    fprintf(job->stream, "%s", title);
    if (s->collective == WEFT_BROADCAST || s->collective == WEFT_REDUCE || s->collective == WEFT_GATHER ||
        s->collective == WEFT_SCATTER)
        fprintf(job->stream, ", root %d", s->root);
    fprintf(job->stream, "\n%u lane%s", s->lanes, s->lanes == 1 ? "" : "s");
    if (s->collective != WEFT_BARRIER)
        fprintf(job->stream, "; input %u x %u, output %u x %u chunks; %s in chunks of %s", s->input_blocks, s->chunks_per_block,
                s->output_blocks, s->chunks_per_block, size, chunk);
    fprintf(job->stream, "%s%s%s\n", s->keeps_order ? "; keeps rank order" : "", s->not_in_place ? "; not in place" : "",
            s->local ? "; shares memory" : "");
    if (!job->complete)
        return;
    weft_print_time(job->time_ns, time, sizeof(time));
    fprintf(job->stream, "predicted %s", time);
    if (job->bytes > 0 && job->time_ns > 0 && s->collective != WEFT_BARRIER)
        fprintf(job->stream, " (%.3g GB/s)", (double)job->bytes / job->time_ns);
    fprintf(job->stream, "\n");
}

static void print_steps(const weft_print_job *job, const weft_schedule *s)
{
    char text[320];
    fprintf(job->stream, "\nrank %d", s->rank);
    if (job->hosts > 1)
        fprintf(job->stream, " (host %d)", weft_print_host(job->group, s->rank));
    if (s->scratch_chunks)
        fprintf(job->stream, ", %u scratch chunk%s", s->scratch_chunks, s->scratch_chunks == 1 ? "" : "s");
    fprintf(job->stream, "\n");
    for (uint32_t lane = 0; lane < s->lanes; lane++) {
        if (s->lanes > 1)
            fprintf(job->stream, "  lane %u\n", lane);
        if (s->lane[lane].count == 0)
            fprintf(job->stream, "    nothing to do\n");
        for (uint32_t i = 0; i < s->lane[lane].count; i++) {
            weft_step_describe(s, &s->lane[lane].steps[i], text, sizeof(text));
            fprintf(job->stream, "  %4u  %s\n", i, text);
        }
    }
}

/* "127 steps: 64 recv, 63 recv_reduce; sends 126 messages of 126 chunks to 1 rank". */
static void summarise(const weft_schedule *s, char *text, size_t bytes)
{
    uint64_t kinds[WEFT_STEP_KIND_COUNT] = { 0 }, steps = 0, messages = 0, chunks = 0;
    for (uint32_t lane = 0; lane < s->lanes; lane++)
        for (uint32_t i = 0; i < s->lane[lane].count; i++) {
            const weft_step *step = &s->lane[lane].steps[i];
            const weft_place *sent = step->kind == WEFT_STEP_SEND ? &step->src : &step->dst;
            kinds[step->kind % WEFT_STEP_KIND_COUNT]++;
            steps++;
            messages += step->to >= 0;
            chunks += step->to >= 0 ? (uint64_t)sent->count * sent->repeat : 0;
        }
    size_t used = (size_t)snprintf(text, bytes, "%llu steps", (unsigned long long)steps);
    const char *separator = ": ";
    for (unsigned kind = 0; kind < WEFT_STEP_KIND_COUNT && used < bytes; kind++)
        if (kinds[kind]) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%llu %s", separator, (unsigned long long)kinds[kind],
                                     weft_step_kind_name(kind));
            separator = ", ";
        }
    if (messages && used < bytes)
        snprintf(text + used, bytes - used, "; sends %llu message%s of %llu chunk%s in all", (unsigned long long)messages,
                 messages == 1 ? "" : "s", (unsigned long long)chunks, chunks == 1 ? "" : "s");
}

/* One line for each run of ranks that have as much to do. */
static void print_numbers(const weft_print_job *job)
{
    char line[320], next[320];
    fprintf(job->stream, "\n");
    for (int i = 0; i < job->count;) {
        int first = i;
        summarise(job->schedules[i++], line, sizeof(line));
        for (; i < job->count; i++) {
            summarise(job->schedules[i], next, sizeof(next));
            if (strcmp(line, next) != 0)
                break;
        }
        char ranks[32];
        if (i - first > 1)
            snprintf(ranks, sizeof(ranks), "ranks %d..%d", first, i - 1);
        else
            snprintf(ranks, sizeof(ranks), "rank %d", first);
        fprintf(job->stream, "%-14s %s\n", ranks, line);
    }
}

weft_status weft_print_text(const weft_print_job *job)
{
    uint64_t steps = 0;
    for (int i = 0; i < job->count; i++)
        for (uint32_t lane = 0; lane < job->schedules[i]->lanes; lane++)
            steps += job->schedules[i]->lane[lane].count;
    print_head(job);
    if (steps > STEPS_SHOWN && job->count > 1) {
        print_numbers(job);
        return WEFT_OK;
    }
    for (int i = 0; i < job->count; i++)
        print_steps(job, job->schedules[i]);
    return WEFT_OK;
}

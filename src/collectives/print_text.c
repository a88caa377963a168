/* Schedules as text: every step where a person would read them, else what each rank has to do, in numbers. */
#include <string.h>

#include "base/base.h"
#include "collectives/cost.h"
#include "collectives/print.h"

enum { STEPS_SHOWN = 240, RANKS_SHOWN = 16 }; /* beyond that many, only numbers */

static void print_head(const weft_print_job *job)
{
    const weft_schedule *s = job->schedules[0];
    char title[160], size[32], chunk[32], time[32];
    weft_print_title(job, title, sizeof(title));
    weft_print_bytes((double)job->bytes, size, sizeof(size));
    weft_print_bytes((double)job->bytes / weft_cost_blocks(s->collective, s->ranks) / s->chunks_per_block,
                     chunk, sizeof(chunk));
    fprintf(job->stream, "%s", title);
    if (s->collective == WEFT_BROADCAST || s->collective == WEFT_REDUCE || s->collective == WEFT_GATHER ||
        s->collective == WEFT_SCATTER)
        fprintf(job->stream, ", root %d", s->root);
    fprintf(job->stream, "\n%u lane%s", s->lanes, s->lanes == 1 ? "" : "s");
    if (s->collective != WEFT_BARRIER)
        fprintf(job->stream, "; input %u x %u, output %u x %u chunks; %s in chunks of %s", s->input_blocks,
                s->chunks_per_block, s->output_blocks, s->chunks_per_block, size, chunk);
    fprintf(job->stream, "%s%s%s\n", s->keeps_order ? "; keeps rank order" : "",
            s->not_in_place ? "; not in place" : "", s->local ? "; shares memory" : "");
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
    size_t used =
        (size_t)snprintf(text, bytes, "%llu step%s", (unsigned long long)steps, steps == 1 ? "" : "s");
    const char *separator = ": ";
    for (unsigned kind = 0; kind < WEFT_STEP_KIND_COUNT && used < bytes; kind++)
        if (kinds[kind]) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%llu %s", separator,
                                     (unsigned long long)kinds[kind], weft_step_kind_name(kind));
            separator = ", ";
        }
    if (messages && used < bytes)
        snprintf(text + used, bytes - used, "; sends %llu message%s of %llu chunk%s in all",
                 (unsigned long long)messages, messages == 1 ? "" : "s", (unsigned long long)chunks,
                 chunks == 1 ? "" : "s");
}

static uint64_t summary_digest(const weft_schedule *s)
{
    char line[320];
    summarise(s, line, sizeof(line));
    return weft_hash(line, strlen(line), 0);
}

/* The ranks among `digests` that have as much to do as rank `first`: "ranks 0..63", "rank 5", "12 ranks (1,
 * 9, 13 ...)". */
static void name_ranks(const weft_print_job *job, const uint64_t *digests, int first, char *text,
                       size_t bytes)
{
    int count = 0, last = first, shown[3] = { first, first, first };
    for (int i = first; i < job->count; i++)
        if (digests[i] == digests[first]) {
            if (count < 3)
                shown[count] = i;
            last = i;
            count++;
        }
    if (count == 1)
        snprintf(text, bytes, "rank %d", first);
    else if (last - first == count - 1)
        snprintf(text, bytes, "ranks %d..%d", first, last);
    else if (count == 2)
        snprintf(text, bytes, "ranks %d, %d", shown[0], shown[1]);
    else
        snprintf(text, bytes, "%d ranks (%d, %d, %d%s)", count, shown[0], shown[1], shown[2],
                 count > 3 ? " ..." : "");
}

/* One line for all ranks that have as much to do. */
static weft_status print_numbers(const weft_print_job *job)
{
    uint64_t *digests = weft_alloc_array((size_t)job->count, sizeof(*digests));
    if (!digests)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to print %d schedules", job->count);
    fprintf(job->stream, "\n");
    for (int i = 0; i < job->count; i++)
        digests[i] = summary_digest(job->schedules[i]);
    for (int i = 0; i < job->count; i++) {
        char line[320], ranks[64];
        int earlier = 0;
        while (digests[earlier] != digests[i])
            earlier++;
        if (earlier < i)
            continue;
        summarise(job->schedules[i], line, sizeof(line));
        name_ranks(job, digests, i, ranks, sizeof(ranks));
        fprintf(job->stream, "%-24s  %s\n", ranks, line);
    }
    weft_free(digests);
    return WEFT_OK;
}

weft_status weft_print_text(const weft_print_job *job)
{
    uint64_t steps = 0;
    for (int i = 0; i < job->count; i++)
        for (uint32_t lane = 0; lane < job->schedules[i]->lanes; lane++)
            steps += job->schedules[i]->lane[lane].count;
    print_head(job);
    if (job->count > 1 && (steps > STEPS_SHOWN || job->count > RANKS_SHOWN))
        return print_numbers(job);
    for (int i = 0; i < job->count; i++)
        print_steps(job, job->schedules[i]);
    return WEFT_OK;
}

/* Names of the parts of a schedule, for everything that prints one. */
#ifndef WEFT_PRINT_H
#define WEFT_PRINT_H

#include <weft/schedule.h>

/* What is printed: some or all ranks' schedules, and the machine they are costed on. */
typedef struct weft_print_job {
    const weft_schedule *const *schedules;
    int count;
    const weft_group *group;
    const weft_cost_model *model;
    size_t bytes;
    FILE *stream;
    int hosts;
    bool complete;  /* all ranks are there, so that there is a predicted time */
    double time_ns;
} weft_print_job;

weft_status weft_print_text(const weft_print_job *job);
weft_status weft_print_json(const weft_print_job *job);
weft_status weft_print_svg(const weft_print_job *job);
weft_status weft_print_dot(const weft_print_job *job);

/* "ring all_reduce, 4 ranks on 2 hosts", "1.5 MiB", "12.3 us". */
void weft_print_title(const weft_print_job *job, char *text, size_t bytes);
void weft_print_bytes(double value, char *text, size_t bytes);
void weft_print_time(double ns, char *text, size_t bytes);
static inline int weft_print_host(const weft_group *group, int rank)
{
    return group && group->host ? group->host[rank] : 0;
}

/* "input", "output", "scratch"; "?" for anything else. */
const char *weft_buffer_name(uint32_t buffer);
/* "send", "recv_reduce" ...; "?" for anything else. */
const char *weft_step_kind_name(unsigned kind);
/* "output[4]", "scratch[0..3]", "input[1,+2 x8]", "rank 3's input[4]" (if place->rank is not rank). */
void weft_place_text(const weft_place *place, int rank, char *text, size_t bytes);
/* "recv_reduce from 2: output[4] = output[4] op in": weft_step_text without lane and number. */
void weft_step_describe(const weft_schedule *schedule, const weft_step *step, char *text, size_t bytes);

#endif

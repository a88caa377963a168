/* Ranks for tests of the control plane: as threads of the test, or as forked processes on a line to the test. */
#ifndef WEFT_SUPPORT_RANKS_H
#define WEFT_SUPPORT_RANKS_H

#include <sys/types.h>

#include "core/control.h"

enum { RANKS_MOST = 512, RANKS_TEXT_BYTES = 600 };

/* What a rank says at its end. */
typedef struct outcome {
    weft_status status;
    int rank;                     /* of a notice: the culprit */
    int64_t taken_ns;
    char text[RANKS_TEXT_BYTES];  /* error detail or notice */
} outcome;

/* A rank's work; result is zeroed (WEFT_OK). */
typedef void (*rank_body)(int rank, int size, const void *context, outcome *result);

/* ---- threads: one per rank; returns when all have ended ------------------------------------------- */
void ranks_as_threads(int size, rank_body body, const void *context, outcome *results);

/* ---- processes -------------------------------------------------------------------------------------- */
typedef struct rank_group {
    int size;
    pid_t pids[RANKS_MOST];
    int lines[RANKS_MOST];
} rank_group;
void ranks_fork(rank_group *group, int size, rank_body body, const void *context);
/* One more rank, after the others. */
void ranks_fork_one(rank_group *group, int rank, int size, rank_body body, const void *context);
/* All (or one) have called rank_say_ready. Fails the test after 30 s. */
void ranks_await_ready(rank_group *group);
void ranks_await_ready_one(rank_group *group, int rank);
/* Ends rank_await_word there. */
void ranks_send_word(rank_group *group, int rank);
void ranks_send_word_all(rank_group *group);
/* Kills and reaps it. */
void ranks_kill(rank_group *group, int rank);
/* What it said at its end; false: it died, or said nothing within the time. */
bool ranks_outcome(rank_group *group, int rank, int timeout_ms, outcome *result);
/* Reaps all; kills what is still there. */
void ranks_end(rank_group *group);
/* Called by a body in a process. */
void rank_say_ready(void);
void rank_await_word(void);

/* ---- odds and ends ---------------------------------------------------------------------------------- */
/* A port that is free now, on all addresses, and so are the `more` after it. */
int free_port(int more);
/* tcp://127.0.0.1:port, with a deadline of seconds. */
weft_control_config rank_config(int rank, int size, const char *url, int64_t deadline_ms);
/* result->status and text from the thread's error. */
void outcome_fail(outcome *result, weft_status status);
/* All-gathers `bytes` per rank and checks them. */
weft_status check_allgather(weft_control *c, size_t bytes);

/* Waits for notices: give it as notice_context with notice_box_put. */
typedef struct notice_box notice_box;
notice_box *notice_box_create(void);
void notice_box_put(void *box, const weft_notice *notice);
/* The n-th notice (from 0); false: not within the time. */
bool notice_box_get(notice_box *box, int n, int timeout_ms, weft_notice *notice);
int notice_box_count(notice_box *box);
void notice_box_free(notice_box *box);
#endif

/* Which algorithm a collective runs with: what was forced, what was measured, what the cost model says, in that order. Reads
 * only what all ranks share. */
#ifndef WEFT_TUNE_H
#define WEFT_TUNE_H

#include "collectives/execute.h"

enum { WEFT_TUNED_MAX = 512, WEFT_BUCKETS = 48 };

/* A line of a measured table. */
typedef struct weft_tuned {
    uint8_t collective, algorithm;
    int32_t ranks, hosts;
    uint64_t bytes; /* from, to the next line's */
} weft_tuned;

typedef struct weft_ready_entry {
    struct weft_ready_entry *next;
    uint8_t collective, algorithm;
    bool vector;
    int root;
    weft_ready *ready;
} weft_ready_entry;

typedef struct weft_tuner {
    int rank;
    weft_group group;
    int lanes;
    weft_cost_model model;
    uint8_t forced[WEFT_COLLECTIVE_COUNT];  /* weft_algorithm; WEFT_AUTO: not */
    weft_tuned table[WEFT_TUNED_MAX];
    int table_count;
    uint8_t chosen[WEFT_COLLECTIVE_COUNT][2][WEFT_BUCKETS]; /* [commutes], by log2 of bytes; 0: not chosen yet */
    weft_ready_entry *ready[64];
} weft_tuner;

/* group.host must live as long. cpus: cores of a host, the same on all ranks; `forced` as WEFT_ALGORITHM says. */
weft_status weft_tuner_init(weft_tuner *t, int rank, weft_group group, int cpus, int lanes, const char *forced);
void weft_tuner_clear(weft_tuner *t);
/* The algorithm; WEFT_ERR_UNSUPPORTED if the forced one cannot. */
weft_status weft_tuner_choose(weft_tuner *t, weft_collective collective, int root, size_t bytes, bool vector,
                              bool commutes, weft_algorithm *algorithm);
/* The schedule of this rank, planned once. */
weft_status weft_tuner_schedule(weft_tuner *t, weft_collective collective, weft_algorithm algorithm, int root, bool vector,
                                const weft_ready **ready);
/* Reads a measured table: rows[WEFT_TUNED_MAX]. Errors name file and line. */
weft_status weft_tune_read(const char *path, weft_tuned *rows, int *count);
/* Takes the rows of this group. */
void weft_tuner_use_table(weft_tuner *t, const weft_tuned *rows, int count);
const weft_tuned *weft_tune_find(const weft_tuner *t, weft_collective collective, size_t bytes);
/* Checks WEFT_ALGORITHM's syntax into forced[]. */
weft_status weft_tuner_parse_forced(const char *text, uint8_t forced[WEFT_COLLECTIVE_COUNT]);
#endif

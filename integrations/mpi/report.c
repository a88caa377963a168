/* WEFT_MPI_REPORT=1: how many calls and bytes Weft served and what was passed on, so that nobody takes passing on for success. */
#include "weft_mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls of each kind and fate, then bytes of the served ones. */
static _Atomic uint64_t calls[WEFT_MPI_KIND_COUNT][WEFT_MPI_FATE_COUNT];
static _Atomic uint64_t bytes_served[WEFT_MPI_KIND_COUNT];

static bool wanted(void)
{
    const char *text = getenv("WEFT_MPI_REPORT");
    return text && *text && strcmp(text, "0") != 0 && strcmp(text, "no") != 0 && strcmp(text, "off") != 0 &&
           strcmp(text, "false") != 0;
}

/* -1: not looked up yet. Threads that look it up at once find the same. */
static _Atomic int counting = -1;

void weft_mpi_count(weft_mpi_kind kind, weft_mpi_fate fate, size_t bytes)
{
    int count = atomic_load_explicit(&counting, memory_order_relaxed);
    if (count < 0)
        atomic_store_explicit(&counting, count = wanted(), memory_order_relaxed);
    if (!count)
        return;
    atomic_fetch_add_explicit(&calls[kind][fate], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes_served[kind], bytes, memory_order_relaxed);
}

void weft_mpi_count_served(const weft_mpi_operation *o)
{
    weft_mpi_count(o->kind, WEFT_MPI_SERVED, o->send.total > o->recv.total ? o->send.total : o->recv.total);
}

static void print_kind(const char *name, const uint64_t *sums, uint64_t bytes)
{
    uint64_t passed = 0;
    for (int f = 1; f < WEFT_MPI_FATE_COUNT; f++)
        passed += sums[f];
    if (!sums[WEFT_MPI_SERVED] && !passed)
        return;
    fprintf(stderr, "weft-mpi:   %-20s %12llu %16llu %12llu", name, (unsigned long long)sums[WEFT_MPI_SERVED],
            (unsigned long long)bytes, (unsigned long long)passed);
#define FATE_TEXT(name, text) text,
    static const char *const reasons[] = {WEFT_MPI_FATES(FATE_TEXT)};
#undef FATE_TEXT
    const char *separator = "  ";
    for (int f = 1; f < WEFT_MPI_FATE_COUNT; f++) {
        if (sums[f])
            fprintf(stderr, "%s%s: %llu", separator, reasons[f], (unsigned long long)sums[f]);
        if (sums[f])
            separator = ", ";
    }
    fputc('\n', stderr);
}

enum { ROW = WEFT_MPI_FATE_COUNT + 1, CELLS = WEFT_MPI_KIND_COUNT * ROW };

static void print_all(const uint64_t *sums)
{
#define KIND_TEXT(name, text) text,
    static const char *const names[] = {WEFT_MPI_KINDS(KIND_TEXT)};
#undef KIND_TEXT
    for (int k = 0; k < WEFT_MPI_KIND_COUNT; k++)
        print_kind(names[k], &sums[k * ROW], sums[k * ROW + WEFT_MPI_FATE_COUNT]);
}

void weft_mpi_report(bool collective)
{
    int mine = wanted(), all = 0, initialized = 0, rank = 0, size = 1;
    if (PMPI_Initialized(&initialized) != MPI_SUCCESS || !initialized)
        return;
    /* Only what every rank's environment says is collective. */
    if (collective ? PMPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) != MPI_SUCCESS || !all : !mine)
        return;
    uint64_t cells[CELLS], sums[CELLS];
    for (int k = 0; k < WEFT_MPI_KIND_COUNT; k++) {
        for (int f = 0; f < WEFT_MPI_FATE_COUNT; f++)
            cells[k * ROW + f] = atomic_load_explicit(&calls[k][f], memory_order_relaxed);
        cells[k * ROW + WEFT_MPI_FATE_COUNT] = atomic_load_explicit(&bytes_served[k], memory_order_relaxed);
    }
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    PMPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!collective) {
        fprintf(stderr, "weft-mpi: rank %d of %d alone:    served calls     served bytes    passed on\n", rank, size);
        print_all(cells);
        return;
    }
    if (PMPI_Reduce(cells, sums, CELLS, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD) != MPI_SUCCESS || rank != 0)
        return;
    fprintf(stderr, "weft-mpi: %d ranks, all together:  served calls     served bytes    passed on\n", size);
    print_all(sums);
}

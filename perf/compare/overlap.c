/* Communication under computation: how much of a non-blocking all_reduce is hidden behind arithmetic of the same length, and how
 * much longer the arithmetic takes meanwhile; once left alone, once looked at every so often as a program that calls in would. */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 4096, MOST_REPEATS = 201, FEWEST_REPEATS = 5 };
/* How long the computation goes on between two looks. */
static const double LOOK_NS = 2e4;

typedef struct work {
    float words[WORDS];
    double pass_ns; /* of one pass over the words */
} work;

static void pass(work *w)
{
    for (int i = 0; i < WORDS; i++)
        w->words[i] = w->words[i] * 0.999f + 0.001f;
    /* Every pass is done, though nobody reads the result of most. */
    __asm__ volatile("" : : "r"(w->words) : "memory");
}

static void calibrate(work *w)
{
    for (int i = 0; i < 1000; i++)
        pass(w);
    double start = compare_now_ns();
    for (int i = 0; i < 2000; i++)
        pass(w);
    w->pass_ns = (compare_now_ns() - start) / 2000;
}

/* `passes` of computation; the library is looked at every `look` of them, 0: never. */
static int compute(work *w, int64_t passes, int64_t look)
{
    bool done = look == 0;
    for (int64_t i = 0; i < passes; i++) {
        pass(w);
        if (!done && (i + 1) % look == 0 && compare_this.test(&done) != 0)
            return 1;
    }
    return 0;
}

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return values[count / 2];
}

/* Times of one way: the call with `passes` of computation between begin and wait; *both_ns and of that the computation. */
static int measure(const compare_cell *c, void *send, void *recv, work *w, int64_t passes, int64_t look, int repeats,
                   double *both_ns, double *compute_ns)
{
    double both[MOST_REPEATS], computing[MOST_REPEATS];
    for (int i = -2; i < repeats; i++) {
        double start = compare_now_ns();
        if (compare_this.begin(c, send, recv) != 0)
            return 1;
        double begun = compare_now_ns();
        if (compute(w, passes, look) != 0)
            return 1;
        double computed = compare_now_ns();
        if (compare_this.wait() != 0)
            return 1;
        if (i >= 0) {
            both[i] = compare_now_ns() - start;
            computing[i] = computed - begun;
        }
    }
    *both_ns = median(both, repeats);
    *compute_ns = median(computing, repeats);
    return 0;
}

static double computing_alone(work *w, int64_t passes, int repeats)
{
    double times[MOST_REPEATS];
    for (int i = -2; i < repeats; i++) {
        double start = compare_now_ns();
        (void)compute(w, passes, 0);
        if (i >= 0)
            times[i] = compare_now_ns() - start;
    }
    return median(times, repeats);
}

int compare_overlap(const compare_cell *c, void *send, void *recv, int rank, double seconds, void *stream)
{
    static work w;
    double alone_ns, none, left_ns, left_compute, looked_ns, looked_compute;
    if (compare_this.begin == NULL || c->collective != COMPARE_ALL_REDUCE) {
        fprintf(stream, "absent all_reduce %s %zu\n", c->type == COMPARE_F32 ? "f32" : "bf16", c->bytes);
        return 0;
    }
    (void)rank;
    calibrate(&w);
    if (measure(c, send, recv, &w, 0, 0, FEWEST_REPEATS, &alone_ns, &none) != 0)
        return 1;
    float agreed = (float)alone_ns;
    if (compare_agree(&agreed) != 0)
        return 1;
    double fit = seconds * 1e9 / (5 * (double)agreed);
    int repeats = fit < FEWEST_REPEATS ? FEWEST_REPEATS : fit > MOST_REPEATS ? MOST_REPEATS : (int)fit;
    if (measure(c, send, recv, &w, 0, 0, repeats, &alone_ns, &none) != 0)
        return 1;
    agreed = (float)alone_ns;
    if (compare_agree(&agreed) != 0)
        return 1;
    int64_t passes = (int64_t)((double)agreed / w.pass_ns) + 1, look = (int64_t)(LOOK_NS / w.pass_ns) + 1;
    double compute_alone = computing_alone(&w, passes, repeats);
    if (measure(c, send, recv, &w, passes, 0, repeats, &left_ns, &left_compute) != 0 ||
        measure(c, send, recv, &w, passes, look, repeats, &looked_ns, &looked_compute) != 0)
        return 1;
    fprintf(stream, "overlap %zu %.0f %.0f %.0f %.0f %.0f %.0f\n", c->bytes, alone_ns, compute_alone, left_ns, left_compute,
            looked_ns, looked_compute);
    fflush(stream);
    return 0;
}

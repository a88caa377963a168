/* Checks for the ranks of a test, which run on threads of their own where cmocka's asserts cannot: counted
 * and told here, judged by on_ranks when all ranks are done. A test that hangs is ended by the clock that
 * time_limit starts. */
#ifndef WEFT_TESTS_CHECKS_H
#define WEFT_TESTS_CHECKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ranks.h"

static _Atomic int check_failures;
enum { CHECK_SHOWN = 20, CHECK_TIMEOUT_MS = 60000 };

#define CHECK(condition, ...) check_that((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)
/* The status of a call of weft that must be `expected`. */
#define CHECK_STATUS(call, expected) check_status((call), (expected), __FILE__, __LINE__, #call)
#define CHECK_OK(call) CHECK_STATUS(call, WEFT_OK)
/* The detail of the last error has this in it. */
#define CHECK_DETAIL(part) check_text(weft_last_error(), (part), __FILE__, __LINE__)

__attribute__((format(printf, 5, 6))) static inline bool check_that(bool good, const char *file, int line,
                                                                    const char *text, const char *format, ...)
{
    if (good || check_failures++ >= CHECK_SHOWN)
        return good;
    char detail[512];
    va_list list;
    va_start(list, format);
    vsnprintf(detail, sizeof detail, format, list);
    va_end(list);
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, text, detail);
    return false;
}

static inline bool check_status(weft_status status, weft_status expected, const char *file, int line,
                                const char *text)
{
    return check_that(status == expected, file, line, text, "is '%s' (%s), not '%s'",
                      weft_status_text(status), status == WEFT_OK ? "" : weft_last_error(),
                      weft_status_text(expected));
}

static inline bool check_text(const char *text, const char *part, const char *file, int line)
{
    return check_that(strstr(text, part) != NULL, file, line, "detail", "'%s' is not in '%s'", part, text);
}

static inline void time_limit(unsigned seconds)
{
    alarm(seconds);
}

/* Runs it with a configuration; the test fails if a rank cannot start or a check failed. */
static inline void on_ranks_with(int ranks, const weft_config *config, rank_function function, void *context)
{
    check_failures = 0;
    weft_status status = run_ranks(ranks, config, function, context);
    if (check_failures > CHECK_SHOWN)
        fprintf(stderr, "and %d more\n", check_failures - CHECK_SHOWN);
    assert_int_equal(status, WEFT_OK);
    assert_int_equal(check_failures, 0);
}

static inline void on_ranks(int ranks, const char *transports, rank_function function, void *context)
{
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = transports;
    config.timeout_ms = CHECK_TIMEOUT_MS;
    on_ranks_with(ranks, &config, function, context);
}

/* Waits until all ranks of the test are here, without weft. */
static inline void meet(int ranks)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
    static int here;
    static unsigned meetings;
    pthread_mutex_lock(&lock);
    unsigned mine = meetings;
    if (++here == ranks) {
        here = 0;
        meetings++;
        pthread_cond_broadcast(&all_here);
    }
    while (mine == meetings)
        pthread_cond_wait(&all_here, &lock);
    pthread_mutex_unlock(&lock);
}

/* Small repeatable random numbers, one state per use. */
static inline uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A permutation of 0 .. count-1. */
static inline void shuffle(int *order, int count, uint32_t seed)
{
    for (int i = 0; i < count; i++)
        order[i] = i;
    for (int i = count - 1; i > 0; i--) {
        int j = (int)(next_random(&seed) % (uint32_t)(i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
#endif

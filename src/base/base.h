/* What every module uses: errors with detail, log, allocation that tests can make fail, clock, small helpers. */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <stdatomic.h>
#include <weft/weft.h>

#define WEFT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))
enum { WEFT_CACHE_LINE = 64 };

/* Sets the thread's error detail and returns `status`, so that `return weft_fail(...)` is the way to fail. */
weft_status weft_fail(weft_status status, const char *format, ...) WEFT_PRINTF(2, 3);
/* The same for a failed system call: appends ": " and the text of errno. */
weft_status weft_fail_errno(weft_status status, const char *format, ...) WEFT_PRINTF(2, 3);
/* Puts more context in front of the detail that is there: "while creating ...: <old detail>". */
weft_status weft_fail_context(weft_status status, const char *format, ...) WEFT_PRINTF(2, 3);
/* Forgets the detail; every public entry that can fail calls it. */
void weft_clear_error(void);

typedef enum weft_log_level { WEFT_LOG_ERROR, WEFT_LOG_WARN, WEFT_LOG_INFO, WEFT_LOG_DEBUG, WEFT_LOG_TRACE } weft_log_level;
/* To stderr as one write: "weft[rank] warn: ..."; by WEFT_LOG (default warn). Any thread. */
void weft_log(weft_log_level level, const char *format, ...) WEFT_PRINTF(2, 3);
bool weft_log_enabled(weft_log_level level);
/* Process wide; loading the settings sets it to what WEFT_LOG says. */
void weft_log_set_level(weft_log_level level);
/* "warn" -> WEFT_LOG_WARN; false if there is none of that name. */
bool weft_log_level_find(const char *text, weft_log_level *level);
/* Rank shown by this thread's log lines; -1: none. */
void weft_log_set_rank(int rank);
/* A daemon may have closed its standard streams: /dev/null takes their place, lest a connection get the number of one and the
 * next line of a log go to a peer. Before descriptors are opened that last. */
void weft_hold_standard_streams(void);

/* Zeroed memory, NULL if there is none (or a test says so). weft_free takes NULL. */
void *weft_alloc(size_t bytes);
void *weft_alloc_array(size_t count, size_t bytes); /* checks the product */
void *weft_alloc_aligned(size_t alignment, size_t bytes);
void *weft_realloc(void *memory, size_t bytes);     /* new part not zeroed */
char *weft_strdup(const char *text);
void weft_free(void *memory);
/* Tests: the n-th allocation from now (1: the next) and, if `all_after`, all later ones fail; 0: none. The counter of
 * allocations since then. Process wide. */
void weft_alloc_fail_at(long n, bool all_after);
long weft_alloc_count(void);

/* CLOCK_MONOTONIC in ns. */
int64_t weft_now_ns(void);
enum { WEFT_NS_PER_MS = 1000000 };
#define WEFT_NEVER INT64_MAX /* a deadline that never comes */
int64_t weft_deadline_ns(int64_t timeout_ms); /* -1: WEFT_NEVER */

/* How often this process was forked from one that watches: differs between parent and child. Watching begins with the first call
 * of weft_fork_watch. */
extern _Atomic uint32_t weft_forks;
void weft_fork_watch(void);
static inline uint32_t weft_fork_count(void) { return atomic_load_explicit(&weft_forks, memory_order_relaxed); }

/* Random bits from the kernel. */
uint64_t weft_random64(void);
/* 64-bit mixing hash of bytes; not for hostile input. */
uint64_t weft_hash(const void *data, size_t bytes, uint64_t seed);

static inline void weft_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}
static inline size_t weft_min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t weft_max_size(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t weft_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif

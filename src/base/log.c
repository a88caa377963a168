/* Log lines to stderr, one write each, so that lines of several ranks do not mix. The level comes from WEFT_LOG by way
 * of the settings. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/settings.h"

enum { LINE_BYTES = 2048, LEVEL_UNKNOWN = -1 };

static atomic_int current_level = LEVEL_UNKNOWN;
static _Thread_local int shown_rank = -1;

static const char *const level_names[] = {
    [WEFT_LOG_ERROR] = "error", [WEFT_LOG_WARN] = "warn",   [WEFT_LOG_INFO] = "info",
    [WEFT_LOG_DEBUG] = "debug", [WEFT_LOG_TRACE] = "trace",
};

bool weft_log_level_find(const char *text, weft_log_level *level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (weft_log_level)i;
            return true;
        }
    }
    return false;
}

void weft_log_set_level(weft_log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

void weft_log_set_rank(int rank)
{
    shown_rank = rank;
}

bool weft_log_enabled(weft_log_level level)
{
    /* Relaxed: the level guards no other data. Threads that come first all compute the same. */
    int now = atomic_load_explicit(&current_level, memory_order_relaxed);
    if (now == LEVEL_UNKNOWN) {
        now = (int)weft_settings_log_level();
        atomic_store_explicit(&current_level, now, memory_order_relaxed);
    }
    return (int)level <= now;
}

/* A peer's garbage may end up in a message; it must not control the terminal or forge a line. */
static void blank_control_characters(char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            *text = c == '\t' ? ' ' : '?';
    }
}

void weft_log(weft_log_level level, const char *format, ...)
{
    if (!weft_log_enabled(level))
        return;
    int saved = errno;
    char line[LINE_BYTES];
    const char *name = level_names[level];
    int head = shown_rank < 0 ? snprintf(line, sizeof line, "weft %s: ", name)
                              : snprintf(line, sizeof line, "weft[%d] %s: ", shown_rank, name);
    size_t room = sizeof line - (size_t)head - 1; /* one for the newline */
    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + head, room, format, args);
    va_end(args);
    if (body < 0)
        line[head] = 0;
    blank_control_characters(line + head);
    size_t length = strlen(line);
    line[length++] = '\n';
    ssize_t written;
    do
        written = write(STDERR_FILENO, line, length);
    while (written < 0 && errno == EINTR);
    errno = saved; /* a log line that cannot be written is lost: there is nobody to tell */
}

void weft_hold_standard_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* The status of a call and the detail of a thread's last error; which version this is and what it was built with.
 * Texts of single errors are written where they happen, with weft_fail. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/base.h"

enum { DETAIL_BYTES = 1024 };

static _Thread_local char detail[DETAIL_BYTES];

#define STRINGIZE(x) #x
#define VERSION_TEXT(major, minor, patch) STRINGIZE(major) "." STRINGIZE(minor) "." STRINGIZE(patch)

const char *weft_status_text(weft_status status)
{
    switch (status) {
#define STATUS_CASE(name, number, text) case name: return text;
    WEFT_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    case WEFT_STATUS_COUNT: break;
    }
    return "unknown status";
}

const char *weft_last_error(void)
{
    return detail;
}

void weft_clear_error(void)
{
    detail[0] = 0;
}

/* Arguments may point into the old detail, so the new one is put together beside it. */
static void set_detail(const char *format, va_list args, const char *suffix)
{
    char text[DETAIL_BYTES];
    int n = vsnprintf(text, sizeof text, format, args);
    size_t used = n < 0 ? 0 : weft_min_size((size_t)n, sizeof text - 1);
    text[used] = 0;
    if (suffix)
        snprintf(text + used, sizeof text - used, ": %s", suffix);
    memcpy(detail, text, sizeof detail);
}

weft_status weft_fail(weft_status status, const char *format, ...)
{
    int saved = errno;
    va_list args;
    va_start(args, format);
    set_detail(format, args, NULL);
    va_end(args);
    errno = saved;
    return status;
}

weft_status weft_fail_errno(weft_status status, const char *format, ...)
{
    int saved = errno;
    char reason[128];
    if (strerror_r(saved, reason, sizeof reason) != 0)
        snprintf(reason, sizeof reason, "error %d", saved);
    va_list args;
    va_start(args, format);
    set_detail(format, args, reason);
    va_end(args);
    errno = saved;
    return status;
}

weft_status weft_fail_context(weft_status status, const char *format, ...)
{
    int saved = errno;
    char old[DETAIL_BYTES];
    memcpy(old, detail, sizeof old);
    va_list args;
    va_start(args, format);
    set_detail(format, args, old[0] ? old : weft_status_text(status));
    va_end(args);
    errno = saved;
    return status;
}

const char *weft_version(void)
{
    return VERSION_TEXT(WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH);
}

#if defined(__clang__)
#define COMPILER "clang-" VERSION_TEXT(__clang_major__, __clang_minor__, __clang_patchlevel__)
#else
#define COMPILER "gcc-" VERSION_TEXT(__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__)
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER " asan"
#elif defined(__SANITIZE_THREAD__)
#define SANITIZER " tsan"
#else
#define SANITIZER ""
#endif

#ifdef WEFT_HAVE_VERBS
#define VERBS "verbs "
#else
#define VERBS ""
#endif

const char *weft_build_info(void)
{
    return "shm tcp " VERBS "plugin " COMPILER SANITIZER;
}

/* Reads every WEFT_* environment variable by the table in settings.h, prints that table, and parses sizes, times and
 * numbers for it and for command lines. What a value means is up to who uses it. */
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

extern char **environ;

/* ---- parsers ----------------------------------------------------------------------------------- */

/* Decimal digits at *text; moves *text behind them. False: none, or too large. */
static bool take_number(const char **text, int64_t *value)
{
    const char *p = *text;
    int64_t n = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(n, (int64_t)10, &n) || __builtin_add_overflow(n, (int64_t)(*p - '0'), &n))
            return false;
    }
    if (p == *text)
        return false;
    *text = p;
    *value = n;
    return true;
}

weft_status weft_parse_bytes(const char *text, int64_t *bytes)
{
    const char *p = text;
    int64_t value = 0;
    bool good = take_number(&p, &value);
    if (good && *p) {
        static const char units[] = "KMGT";
        char upper = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
        const char *unit = upper ? strchr(units, upper) : NULL;
        if (unit) {
            good = !__builtin_mul_overflow(value, (int64_t)1 << (10 * (unit - units + 1)), &value);
            p++;
            if (p[0] == 'i' && p[1] == 'B')
                p++;
        }
        if (*p == 'B')
            p++;
    }
    if (!good || *p)
        return weft_fail(WEFT_ERR_PARSE, "'%.40s' is not a size: write a number of bytes, or one with K, M, G or T "
                         "(powers of 1024), such as 64K", text);
    *bytes = value;
    return WEFT_OK;
}

weft_status weft_parse_ms(const char *text, int64_t *ms)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};
    if (strcmp(text, "never") == 0) {
        *ms = -1;
        return WEFT_OK;
    }
    const char *p = text;
    int64_t value;
    if (take_number(&p, &value)) {
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            if (strcmp(p, units[i].name) == 0 && !__builtin_mul_overflow(value, units[i].ms, &value)) {
                *ms = value;
                return WEFT_OK;
            }
        }
    }
    return weft_fail(WEFT_ERR_PARSE, "'%.40s' is not a time: write milliseconds, or a number with ms, s, min or h, "
                     "such as 30s, or never", text);
}

weft_status weft_parse_int(const char *text, int64_t low, int64_t high, int64_t *value)
{
    const char *p = text;
    int64_t number = 0;
    bool negative = *p == '-';
    if (negative)
        p++;
    if (!take_number(&p, &number) || *p)
        return weft_fail(WEFT_ERR_PARSE, "'%.40s' is not a whole number from %lld to %lld", text, (long long)low,
                         (long long)high);
    if (negative)
        number = -number;
    if (number < low || number > high)
        return weft_fail(WEFT_ERR_PARSE, "%lld is out of range: it must be from %lld to %lld", (long long)number,
                         (long long)low, (long long)high);
    *value = number;
    return WEFT_OK;
}

weft_status weft_parse_bool(const char *text, bool *value)
{
    static const char *const words[2][4] = {{"0", "no", "false", "off"}, {"1", "yes", "true", "on"}};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < ARRAY_LEN(words[i]); k++) {
            if (strcmp(text, words[i][k]) == 0) {
                *value = i == 1;
                return WEFT_OK;
            }
        }
    }
    return weft_fail(WEFT_ERR_PARSE, "'%.40s' is neither yes nor no: write 1, yes, true, on, 0, no, false or off", text);
}

/* ---- the table --------------------------------------------------------------------------------- */

/* Takes the next piece of the settings' string storage. */
static const char *keep(char **storage, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = memcpy(*storage, text, bytes);
    *storage += bytes;
    return copy;
}

static weft_status read_string(const char *text, char **storage, const char **value)
{
    *value = keep(storage, text);
    return WEFT_OK;
}

static weft_status read_level(const char *text, char **storage, const char **value)
{
    weft_log_level level;
    *value = keep(storage, text);
    if (weft_log_level_find(text, &level))
        return WEFT_OK;
    return weft_fail(WEFT_ERR_PARSE, "'%.40s' is not a log level: use error, warn, info, debug or trace", text);
}

static weft_status read_int(const char *text, char **storage, int64_t *value)
{
    (void)storage;
    return weft_parse_int(text, -1, INT32_MAX, value);
}

static weft_status read_count(const char *text, char **storage, int64_t *value)
{
    (void)storage;
    return weft_parse_int(text, 0, INT32_MAX, value);
}

static weft_status read_bytes(const char *text, char **storage, int64_t *value)
{
    (void)storage;
    return weft_parse_bytes(text, value);
}

static weft_status read_ms(const char *text, char **storage, int64_t *value)
{
    (void)storage;
    return weft_parse_ms(text, value);
}

static weft_status read_bool(const char *text, char **storage, bool *value)
{
    (void)storage;
    return weft_parse_bool(text, value);
}

/* An empty variable counts as one that is not set: shells and job files cannot always unset. */
static const char *text_of(const char *variable, const char *otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? text : otherwise;
}

static bool known(const char *entry, size_t name_bytes)
{
    static const char *const variables[] = {
#define SETTING_NAME(field, variable, kind, text, help) variable,
        WEFT_SETTINGS(SETTING_NAME)
#undef SETTING_NAME
    };
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        if (strlen(variables[i]) == name_bytes && memcmp(variables[i], entry, name_bytes) == 0)
            return true;
    }
    return false;
}

/* A misspelt variable would silently do nothing: say so, once per process. */
static void warn_of_unknown_variables(void)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set_explicit(&warned, memory_order_relaxed))
        return;
    static const char prefix[] = "WEFT_", of_tests[] = "WEFT_TEST_";
    for (char **entry = environ; entry && *entry; entry++) {
        size_t name_bytes = strcspn(*entry, "=");
        if (strncmp(*entry, prefix, sizeof prefix - 1) == 0 && strncmp(*entry, of_tests, sizeof of_tests - 1) != 0 &&
            !known(*entry, name_bytes))
            weft_log(WEFT_LOG_WARN, "%.*s is no variable of weft and does nothing; weft-perf --help-env lists them",
                     (int)name_bytes, *entry);
    }
}

weft_status weft_settings_load(weft_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    size_t string_bytes = 0;
#define SETTING_BYTES(field, variable, kind, text, help) string_bytes += strlen(text_of(variable, text)) + 1;
    WEFT_SETTINGS(SETTING_BYTES)
#undef SETTING_BYTES
    settings->storage = weft_alloc(string_bytes);
    if (!settings->storage)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the settings (%zu bytes)", string_bytes);
    char *storage = settings->storage;
    const char *culprit = NULL;
    weft_status status = WEFT_OK;
#define SETTING_READ(field, variable, kind, text, help)                                                  \
    if (status == WEFT_OK && (status = read_##kind(text_of(variable, text), &storage, &settings->field)) != WEFT_OK) \
        culprit = variable;
    WEFT_SETTINGS(SETTING_READ)
#undef SETTING_READ
    if (status != WEFT_OK) {
        weft_settings_unload(settings);
        return weft_fail_context(status, "environment variable %s", culprit);
    }
    weft_log_set_level(weft_settings_log_level());
    warn_of_unknown_variables();
    return WEFT_OK;
}

void weft_settings_unload(weft_settings *settings)
{
    weft_free(settings->storage);
    memset(settings, 0, sizeof *settings);
}

const char *weft_settings_plugin_path(void)
{
    return text_of("WEFT_PLUGIN_PATH", "");
}

weft_log_level weft_settings_log_level(void)
{
    weft_log_level level = WEFT_LOG_WARN;
    weft_log_level_find(text_of("WEFT_LOG", "warn"), &level);
    return level;
}

void weft_settings_print(FILE *stream)
{
    static const struct {
        const char *variable, *kind, *text, *help;
    } rows[] = {
#define SETTING_ROW(field, variable, kind, text, help) {variable, #kind, text, help},
        WEFT_SETTINGS(SETTING_ROW)
#undef SETTING_ROW
    };
    fprintf(stream, "%-21s %-7s %-8s %s\n", "variable", "type", "default", "meaning");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        fprintf(stream, "%-21s %-7s %-8s %s\n", rows[i].variable, rows[i].kind, rows[i].text[0] ? rows[i].text : "-",
                rows[i].help);
}

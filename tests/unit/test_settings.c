/* The WEFT_* environment variables and the parsers of sizes, times and numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/settings.h"

static const char *const variables[] = {
#define VARIABLE(field, variable, kind, text, help) variable,
    WEFT_SETTINGS(VARIABLE)
#undef VARIABLE
};

/* Tests run by hand may inherit settings. */
static int clean_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    return 0;
}

static void defaults_hold_when_nothing_is_set(void **state)
{
    (void)state;
    weft_settings s;
    assert_int_equal(weft_settings_load(&s), WEFT_OK);
    assert_string_equal(s.log, "warn");
    assert_string_equal(s.rendezvous, "");
    assert_string_equal(s.transports, "auto");
    assert_int_equal(s.slice_bytes, 0);
    assert_int_equal(s.timeout, 30 * 60 * 1000);
    assert_int_equal(s.spin, -1);
    assert_true(s.dump_on_error);
    weft_settings_unload(&s);
    assert_null(s.storage);
    weft_settings_unload(&s);
}

static void variables_override_defaults(void **state)
{
    (void)state;
    setenv("WEFT_TRANSPORTS", "tcp", 1);
    setenv("WEFT_SLICE_BYTES", "256K", 1);
    setenv("WEFT_TIMEOUT", "never", 1);
    setenv("WEFT_DUMP", "off", 1);
    setenv("WEFT_LANES", "4", 1);
    setenv("WEFT_HOST_ID", "", 1);
    setenv("WEFT_CREATE_TIMEOUT", "", 1);
    weft_settings s;
    assert_int_equal(weft_settings_load(&s), WEFT_OK);
    setenv("WEFT_TRANSPORTS", "later change", 1);
    assert_string_equal(s.transports, "tcp");
    assert_int_equal(s.slice_bytes, 256 * 1024);
    assert_int_equal(s.timeout, -1);
    assert_false(s.dump_on_error);
    assert_int_equal(s.lanes, 4);
    assert_string_equal(s.host_id, "");
    assert_int_equal(s.create_timeout, 5 * 60 * 1000); /* empty counts as not set */
    weft_settings_unload(&s);
}

static void a_bad_value_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *value;
    } bad[] = {
        {"WEFT_LOG", "loud"},     {"WEFT_LANES", "-1"},       {"WEFT_LANES", "two"},    {"WEFT_SLICE_BYTES", "64Q"},
        {"WEFT_TIMEOUT", "soon"}, {"WEFT_SPIN_US", "-2"},     {"WEFT_DUMP", "maybe"},   {"WEFT_SOCKETS", "4294967296"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        setenv(bad[i].variable, bad[i].value, 1);
        weft_settings s;
        assert_int_equal(weft_settings_load(&s), WEFT_ERR_PARSE);
        assert_null(s.storage);
        assert_non_null(strstr(weft_last_error(), bad[i].variable));
        assert_non_null(strstr(weft_last_error(), bad[i].value));
        unsetenv(bad[i].variable);
    }
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    weft_settings s;
    weft_alloc_fail_at(1, false);
    assert_int_equal(weft_settings_load(&s), WEFT_ERR_MEMORY);
    weft_alloc_fail_at(0, false);
    weft_settings_unload(&s);
}

static void the_log_level_follows_the_variable(void **state)
{
    (void)state;
    weft_settings s;
    setenv("WEFT_LOG", "debug", 1);
    assert_int_equal(weft_settings_load(&s), WEFT_OK);
    assert_true(weft_log_enabled(WEFT_LOG_DEBUG));
    assert_false(weft_log_enabled(WEFT_LOG_TRACE));
    weft_settings_unload(&s);
    unsetenv("WEFT_LOG");
    assert_int_equal(weft_settings_load(&s), WEFT_OK);
    assert_false(weft_log_enabled(WEFT_LOG_INFO));
    weft_settings_unload(&s);
}

static void every_variable_is_printed(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    assert_non_null(stream);
    weft_settings_print(stream);
    fclose(stream);
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        assert_non_null(strstr(text, variables[i]));
    assert_non_null(strstr(text, "30min"));
    free(text);
}

static void sizes_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {
        {"0", 0},         {"17", 17},       {"64K", 65536},          {"64k", 65536},
        {"1M", 1 << 20},  {"1MiB", 1 << 20}, {"2G", (int64_t)2 << 30}, {"1T", (int64_t)1 << 40},
        {"8B", 8},        {"8KB", 8192},    {"", -1},                {"K", -1},
        {"-1", -1},       {" 1", -1},       {"1 ", -1},              {"1KK", -1},
        {"1Ki", -1},      {"0x10", -1},     {"9223372036854775808", -1}, {"9223372036854775807T", -1},
        {"1.5M", -1},     {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t bytes = -1;
        weft_status status = weft_parse_bytes(cases[i].text, &bytes);
        assert_int_equal(status, cases[i].bytes < 0 ? WEFT_ERR_PARSE : WEFT_OK);
        assert_true(bytes == cases[i].bytes);
    }
}

static void times_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -2: refused */
    } cases[] = {
        {"0", 0},      {"250", 250},  {"250ms", 250}, {"10s", 10000}, {"5min", 300000}, {"1h", 3600000},
        {"never", -1}, {"", -2},      {"-1", -2},     {"1 s", -2},    {"1sec", -2},     {"9223372036854775807h", -2},
        {"s", -2},     {"nevers", -2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms = -2;
        weft_status status = weft_parse_ms(cases[i].text, &ms);
        assert_int_equal(status, cases[i].ms == -2 ? WEFT_ERR_PARSE : WEFT_OK);
        assert_true(ms == cases[i].ms);
    }
}

static void numbers_parse_within_their_range(void **state)
{
    (void)state;
    int64_t value = 99;
    assert_int_equal(weft_parse_int("-5", -10, 10, &value), WEFT_OK);
    assert_int_equal(value, -5);
    assert_int_equal(weft_parse_int("10", -10, 10, &value), WEFT_OK);
    assert_int_equal(weft_parse_int("11", -10, 10, &value), WEFT_ERR_PARSE);
    assert_non_null(strstr(weft_last_error(), "from -10 to 10"));
    static const char *const refused[] = {"", "-", "+1", "1x", "x", "--1", " 1", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        assert_int_equal(weft_parse_int(refused[i], INT64_MIN, INT64_MAX, &value), WEFT_ERR_PARSE);
    assert_int_equal(value, 10);
}

/* ---- the manual page --------------------------------------------------------------------------- */

/* The section of weft.7 between its two marks, from the table. */
static char *section_from_table(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    assert_non_null(stream);
#define ENTRY(field, variable, kind, initial, help)                                                        \
    fprintf(stream, ".TP\n.BR %s \" (%s, default %s)\"\n%s\n", variable, #kind, initial[0] ? initial : "none", help);
    WEFT_SETTINGS(ENTRY)
#undef ENTRY
    fclose(stream);
    return text;
}

static void the_manual_says_what_the_table_says(void **state)
{
    (void)state;
    static const char page[] = "docs/man/weft.7", begin_mark[] = ".\\\" BEGIN SETTINGS", end_mark[] = ".\\\" END SETTINGS";
    FILE *file = fopen(page, "r");
    if (!file) {
        print_message("skipped: not run from the top of the source tree\n");
        skip();
    }
    static char text[65536];
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    char *section = section_from_table();
    char *begin = strstr(text, begin_mark), *end = strstr(text, end_mark);
    assert_true(begin && end && begin < end);
    begin = strchr(begin, '\n') + 1;
    bool same = (size_t)(end - begin) == strlen(section) && memcmp(begin, section, strlen(section)) == 0;
    if (!same && getenv("UPDATE_MANUAL")) {
        file = fopen(page, "w");
        assert_non_null(file);
        fprintf(file, "%.*s%s%s", (int)(begin - text), text, section, end);
        fclose(file);
        same = true;
    }
    if (!same)
        print_error("%s is older than the table of settings: run UPDATE_MANUAL=1 with this test\n", page);
    assert_true(same);
    free(section);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_hold_when_nothing_is_set, clean_environment),
        cmocka_unit_test_setup(variables_override_defaults, clean_environment),
        cmocka_unit_test_setup(a_bad_value_is_named, clean_environment),
        cmocka_unit_test_setup(no_memory_is_an_error, clean_environment),
        cmocka_unit_test_setup(the_log_level_follows_the_variable, clean_environment),
        cmocka_unit_test_setup(every_variable_is_printed, clean_environment),
        cmocka_unit_test(the_manual_says_what_the_table_says),
        cmocka_unit_test(sizes_parse),
        cmocka_unit_test(times_parse),
        cmocka_unit_test(numbers_parse_within_their_range),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, clean_environment);
}

/* What every module builds on: error details, the log, allocation that can be made to fail, clocks, the hash, types. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static void every_status_has_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < WEFT_STATUS_COUNT; i++)
        assert_string_not_equal(weft_status_text((weft_status)i), "unknown status");
    assert_string_equal(weft_status_text((weft_status)999), "unknown status");
    assert_string_equal(weft_status_text((weft_status)-1), "unknown status");
}

static void a_failure_leaves_its_detail(void **state)
{
    (void)state;
    weft_clear_error();
    assert_string_equal(weft_last_error(), "");
    assert_int_equal(weft_fail(WEFT_ERR_INVALID, "root %d of %d", 7, 4), WEFT_ERR_INVALID);
    assert_string_equal(weft_last_error(), "root 7 of 4");
    errno = ENOENT;
    assert_int_equal(weft_fail_errno(WEFT_ERR_SYSTEM, "open %s", "/x"), WEFT_ERR_SYSTEM);
    assert_string_equal(weft_last_error(), "open /x: No such file or directory");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(weft_fail_context(WEFT_ERR_SYSTEM, "creating rank %d", 3), WEFT_ERR_SYSTEM);
    assert_string_equal(weft_last_error(), "creating rank 3: open /x: No such file or directory");
    weft_clear_error();
    weft_fail_context(WEFT_ERR_TIMEOUT, "creating");
    assert_string_equal(weft_last_error(), "creating: timed out");
}

static void a_detail_may_quote_the_old_one(void **state)
{
    (void)state;
    weft_fail(WEFT_ERR_INVALID, "inner");
    weft_fail(WEFT_ERR_INVALID, "outer (%s)", weft_last_error());
    assert_string_equal(weft_last_error(), "outer (inner)");
}

static void a_long_detail_is_cut(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    weft_fail(WEFT_ERR_INVALID, "%s", text);
    assert_int_equal(strlen(weft_last_error()), 1023);
    weft_fail_context(WEFT_ERR_INVALID, "%s", text);
    errno = EINTR;
    weft_fail_errno(WEFT_ERR_SYSTEM, "%s", text);
    assert_int_equal(strlen(weft_last_error()), 1023);
}

static void *fail_elsewhere(void *seen)
{
    snprintf(seen, 64, "%s", weft_last_error());
    weft_fail(WEFT_ERR_PEER, "of the other thread");
    return NULL;
}

static void details_are_per_thread(void **state)
{
    (void)state;
    weft_fail(WEFT_ERR_INVALID, "mine");
    char seen[64] = "not run";
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, seen), 0);
    pthread_join(thread, NULL);
    assert_string_equal(seen, "");
    assert_string_equal(weft_last_error(), "mine");
}

/* Runs log() with stderr going to a pipe and gives back what came. */
static void captured(void (*log)(void), char *text, size_t bytes)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    dup2(ends[1], STDERR_FILENO);
    log();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], text, bytes - 1);
    text[n > 0 ? n : 0] = 0;
    close(ends[0]);
}

static void log_one_of_each(void)
{
    weft_log(WEFT_LOG_WARN, "rail %s is slow", "eth0");
    weft_log(WEFT_LOG_INFO, "not shown");
    weft_log_set_rank(3);
    weft_log(WEFT_LOG_ERROR, "hello\nweft[0] error: forged \033[2J");
    weft_log_set_rank(-1);
}

static void log_lines_name_level_and_rank(void **state)
{
    (void)state;
    char text[512];
    weft_log_set_level(WEFT_LOG_WARN);
    captured(log_one_of_each, text, sizeof text);
    assert_string_equal(text, "weft warn: rail eth0 is slow\n"
                              "weft[3] error: hello?weft[0] error: forged ?[2J\n");
    assert_true(weft_log_enabled(WEFT_LOG_ERROR));
    assert_false(weft_log_enabled(WEFT_LOG_INFO));
}

static void log_a_long_line(void)
{
    char text[5000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = 0;
    weft_log(WEFT_LOG_ERROR, "%s", text);
}

static void a_long_log_line_is_cut_but_ends(void **state)
{
    (void)state;
    char text[8192];
    captured(log_a_long_line, text, sizeof text);
    size_t length = strlen(text);
    assert_in_range(length, 1000, 2048);
    assert_int_equal(text[length - 1], '\n');
}

static void allocation_is_zeroed_and_checks_products(void **state)
{
    (void)state;
    unsigned char *memory = weft_alloc_array(100, 10);
    assert_non_null(memory);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    weft_free(memory);
    assert_null(weft_alloc_array(SIZE_MAX / 2, 3));
    memory = weft_alloc(0);
    assert_non_null(memory);
    memory = weft_realloc(memory, 10);
    assert_non_null(memory);
    weft_free(memory);
    memory = weft_alloc_aligned(4096, 100);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    assert_int_equal(memory[99], 0);
    weft_free(memory);
    weft_free(NULL);
}

static void allocations_fail_when_told(void **state)
{
    (void)state;
    weft_alloc_fail_at(2, false);
    void *first = weft_alloc(1), *second = weft_alloc(1), *third = weft_alloc(1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(weft_alloc_count(), 3);
    weft_alloc_fail_at(1, true);
    assert_null(weft_alloc(1));
    assert_null(weft_alloc_aligned(64, 1));
    assert_null(weft_realloc(first, 100));
    assert_null(weft_strdup("text"));
    weft_alloc_fail_at(0, false);
    char *copy = weft_strdup("text");
    assert_string_equal(copy, "text");
    weft_free(copy);
    weft_free(first);
    weft_free(third);
}

static void deadlines_saturate(void **state)
{
    (void)state;
    int64_t before = weft_now_ns();
    int64_t deadline = weft_deadline_ns(1000);
    assert_true(deadline >= before + 1000 * (int64_t)WEFT_NS_PER_MS);
    assert_true(weft_deadline_ns(0) <= weft_now_ns());
    assert_true(weft_deadline_ns(-1) == WEFT_NEVER);
    assert_true(weft_deadline_ns(INT64_MAX) == WEFT_NEVER);
    assert_true(weft_deadline_ns(INT64_MAX / WEFT_NS_PER_MS) == WEFT_NEVER);
}

static void random_numbers_differ(void **state)
{
    (void)state;
    uint64_t a = weft_random64(), b = weft_random64(), c = weft_random64();
    assert_true(a != b && b != c);
}

static void hashes_depend_on_every_byte(void **state)
{
    (void)state;
    unsigned char data[40] = {0};
    for (size_t bytes = 0; bytes <= sizeof data; bytes++) {
        uint64_t plain = weft_hash(data, bytes, 1);
        assert_true(plain == weft_hash(data, bytes, 1));
        assert_true(plain != weft_hash(data, bytes, 2));
        assert_true(bytes == sizeof data || plain != weft_hash(data, bytes + 1, 1));
        for (size_t i = 0; i < bytes; i++) {
            data[i] ^= 1;
            assert_true(plain != weft_hash(data, bytes, 1));
            data[i] ^= 1;
        }
    }
    assert_true(weft_hash(NULL, 0, 5) == weft_hash(data, 0, 5));
}

static void types_have_names_and_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < WEFT_TYPE_COUNT; i++) {
        weft_type type = WEFT_TYPE_COUNT;
        assert_int_equal(weft_type_parse(weft_type_name((weft_type)i), &type), WEFT_OK);
        assert_int_equal(type, i);
    }
    assert_int_equal(weft_type_bytes(WEFT_F64), 8);
    assert_int_equal(weft_type_bytes(WEFT_BF16), 2);
    assert_int_equal(weft_type_bytes(WEFT_F8E5M2), 1);
    assert_int_equal(weft_type_bytes(WEFT_TYPE_COUNT), 0);
    assert_string_equal(weft_type_name((weft_type)-1), "?");
    weft_type type;
    assert_int_equal(weft_type_parse("half", &type), WEFT_OK);
    assert_int_equal(type, WEFT_F16);
    assert_int_equal(weft_type_parse("uint64", &type), WEFT_OK);
    assert_int_equal(type, WEFT_U64);
    assert_int_equal(weft_type_parse("flaot", &type), WEFT_ERR_PARSE);
    assert_non_null(strstr(weft_last_error(), "flaot"));
    assert_non_null(strstr(weft_last_error(), "bf16"));
    assert_int_equal(weft_type_parse(NULL, &type), WEFT_ERR_INVALID);
}

static void the_version_is_that_of_the_header(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR, WEFT_VERSION_PATCH);
    assert_string_equal(weft_version(), text);
    assert_non_null(strstr(weft_build_info(), "shm tcp"));
#ifdef WEFT_HAVE_VERBS
    assert_non_null(strstr(weft_build_info(), " verbs plugin "));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_text),
        cmocka_unit_test(a_failure_leaves_its_detail),
        cmocka_unit_test(a_detail_may_quote_the_old_one),
        cmocka_unit_test(a_long_detail_is_cut),
        cmocka_unit_test(details_are_per_thread),
        cmocka_unit_test(log_lines_name_level_and_rank),
        cmocka_unit_test(a_long_log_line_is_cut_but_ends),
        cmocka_unit_test(allocation_is_zeroed_and_checks_products),
        cmocka_unit_test(allocations_fail_when_told),
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(random_numbers_differ),
        cmocka_unit_test(hashes_depend_on_every_byte),
        cmocka_unit_test(types_have_names_and_sizes),
        cmocka_unit_test(the_version_is_that_of_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

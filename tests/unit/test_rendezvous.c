/* Bad days of the meeting: ranks that do not fit together, ranks that do not come, strangers on the port, wrong addresses.
 * Each ends on every rank with an error that names the culprit.
 * mostly waits */
#define _GNU_SOURCE 1 /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rendezvous.h"
#include "core/rendezvous_file.h"
#include "core/rendezvous_url.h"
#include "support_ranks.h"

/* ---- what one rank is told to do ---------------------------------------------------------------------- */

typedef struct part { int rank, size; int64_t deadline_ms; const char *url, *token; bool by_id; } part;
typedef struct cast { part parts[8]; const weft_unique_id *id; const char *url; } cast;

static void play(int index, int size, const void *context, outcome *result)
{
    const cast *all = context;
    const part *p = &all->parts[index];
    weft_control *c = NULL;
    (void)size;
    weft_control_config config = rank_config(p->rank, p->size, p->url != NULL ? p->url : all->url,
                                             p->deadline_ms != 0 ? p->deadline_ms : 20000);
    config.token = p->token;
    if (all->id != NULL) {
        config.kind = WEFT_RENDEZVOUS_ID;
        config.id = all->id;
    }
    weft_status status = weft_control_create(&config, &c);
    if (status == WEFT_OK)
        status = check_allgather(c, 9);
    if (status != WEFT_OK)
        outcome_fail(result, status);
    weft_control_destroy(c, 10000);
}

static const char *fresh_url(int more)
{
    static char url[64];
    snprintf(url, sizeof url, more != 0 ? "tcp://127.0.0.1:%d+%d" : "tcp://127.0.0.1:%d", free_port(more), more);
    return url;
}

static int port_of(const char *url)
{
    weft_url parsed;
    assert_int_equal(weft_url_parse(url, &parsed), WEFT_OK);
    return parsed.port;
}

static void expect_all(const outcome *results, int count, weft_status status, const char *a, const char *b, const char *c)
{
    for (int i = 0; i < count; i++) {
        if (results[i].status != status || strstr(results[i].text, a) == NULL || strstr(results[i].text, b) == NULL ||
            strstr(results[i].text, c) == NULL)
            fail_msg("participant %d: %s: '%s' should name '%s', '%s' and '%s'", i, weft_status_text(results[i].status),
                     results[i].text, a, b, c);
    }
}

static void expect_ok(const outcome *results, int count)
{
    for (int i = 0; i < count; i++) {
        if (results[i].status != WEFT_OK)
            fail_msg("participant %d: %s: %s", i, weft_status_text(results[i].status), results[i].text);
    }
}

/* ---- ranks that do not fit together ------------------------------------------------------------------- */

static void test_wrong_size_names_rank_and_both_sizes(void **state)
{
    (void)state;
    outcome results[4];
    cast c = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 5 }, { 3, 4 } }, .url = fresh_url(0) };
    ranks_as_threads(4, play, &c, results);
    expect_all(results, 4, WEFT_ERR_MISMATCH, "rank 2 (127.0.0.1:", "size 5", "has 4");
    cast smaller = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 3 }, { 3, 4 } }, .url = fresh_url(0) };
    ranks_as_threads(4, play, &smaller, results);
    expect_all(results, 4, WEFT_ERR_MISMATCH, "rank 2 (127.0.0.1:", "size 3", "has 4");
    weft_unique_id id;
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    cast by_id = { .parts = { { 0, 3 }, { 1, 3 }, { 3, 4 } }, .id = &id };
    ranks_as_threads(3, play, &by_id, results);
    expect_all(results, 3, WEFT_ERR_MISMATCH, "rank ", "size ", "all ranks must give the same size");
}

static void test_duplicate_rank_names_both_addresses(void **state)
{
    (void)state;
    outcome results[4];
    cast c = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 4 }, { 2, 4 } }, .url = fresh_url(0) };
    ranks_as_threads(4, play, &c, results);
    expect_all(results, 4, WEFT_ERR_MISMATCH, "rank 2 joined twice: from 127.0.0.1:", " and from 127.0.0.1:", "pid");
}

static void test_rank_out_of_range_is_told_to_all(void **state)
{
    (void)state;
    outcome results[4];
    cast c = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 4 }, { 4, 4 } }, .url = fresh_url(0) };
    ranks_as_threads(4, play, &c, results);
    expect_all(results, 3, WEFT_ERR_MISMATCH, "rank 4 (127.0.0.1:", "not below", "ranks are 0 to 3");
    expect_all(results + 3, 1, WEFT_ERR_INVALID, "rank 4", "0 to 3", "size 4");
}

static void test_ranks_that_never_come_are_named(void **state)
{
    (void)state;
    outcome results[3];
    cast c = { .parts = { { 0, 8, 400 }, { 2, 8, 2000 }, { 4, 8, 2000 } }, .url = fresh_url(0) };
    ranks_as_threads(3, play, &c, results);
    expect_all(results, 3, WEFT_ERR_TIMEOUT, "ranks 1, 3, 5-7 did not join within 0.", "", "");
    weft_unique_id id;
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    cast by_id = { .parts = { { 0, 4, 300 }, { 2, 4, 300 }, { 3, 4, 300 } }, .id = &id };
    ranks_as_threads(3, play, &by_id, results);
    expect_all(results, 3, WEFT_ERR_TIMEOUT, "rank 1 did not join within 0.", "", "");
}

static void test_latecomers_hear_of_the_failure_too(void **state)
{
    (void)state;
    outcome results[3], late = { 0 };
    cast c = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 5 }, { 3, 4 } }, .url = fresh_url(0) };
    ranks_as_threads(3, play, &c, results);
    play(3, 4, &c, &late);
    expect_all(&late, 1, WEFT_ERR_MISMATCH, "rank 2", "size 5", "has 4");
}

static void test_a_new_attempt_at_the_same_place_succeeds(void **state)
{
    (void)state;
    outcome results[3];
    /* Rank 3 has not come yet, so the failed meeting's server waits for it when the new attempt begins. */
    cast wrong = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 5 } }, .url = fresh_url(0) };
    cast right = { .parts = { { 0, 3 }, { 1, 3 }, { 2, 3 } }, .url = wrong.url };
    ranks_as_threads(3, play, &wrong, results);
    ranks_as_threads(3, play, &right, results);
    expect_ok(results, 3);
}

static void test_groups_with_other_tokens_do_not_mix(void **state)
{
    (void)state;
    outcome results[8];
    cast c = { .url = fresh_url(3) };
    for (int i = 0; i < 8; i++)
        c.parts[i] = (part){ .rank = i / 2, .size = 4, .token = i % 2 != 0 ? "one" : "other" };
    ranks_as_threads(8, play, &c, results);
    expect_ok(results, 8);
}

/* ---- strangers ---------------------------------------------------------------------------------------- */

static int dial_port(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    for (int attempt = 0; attempt < 2000; attempt++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
        poll(NULL, 0, 5); /* the server is just starting */
    }
    fail_msg("nobody listens on port %d", port);
    return -1;
}

static void *run_first(void *argument)
{
    void **a = argument;
    play(0, 3, a[0], a[1]);
    return NULL;
}

static void *run_first_of_two(void *argument)
{
    void **a = argument;
    play(0, 2, a[0], a[1]);
    return NULL;
}

static void join_with(int fd, uint16_t version, uint32_t rank, uint32_t size)
{
    uint8_t bytes[WEFT_JOIN_BYTES];
    weft_join join = { .version = version, .rank = rank, .size = size, .timeout_ms = 5000, .token = weft_hash("", 0, 0) };
    weft_join_encode(&join, bytes);
    assert_int_equal(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
}

static void test_strangers_on_the_port_harm_nobody(void **state)
{
    (void)state;
    outcome results[3] = { 0 };
    cast c = { .parts = { { 0, 3 }, { 1, 3 }, { 2, 3 } }, .url = fresh_url(0) };
    int port = port_of(c.url), silent[40];
    pthread_t first;
    pthread_create(&first, NULL, run_first, (void *[]){ &c, &results[0] });
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a scan of ports by somebody who means no harm\r\n\r\n";
    for (int i = 0; i < 40; i++) {
        silent[i] = dial_port(port);
        if (i % 4 == 1)
            assert_int_equal(send(silent[i], "WEFTjoin", 8, MSG_NOSIGNAL), 8); /* a slow sender */
        if (i % 4 == 2)
            assert_int_equal(send(silent[i], http, sizeof http - 1, MSG_NOSIGNAL), sizeof http - 1);
        if (i % 4 == 3)
            close(silent[i]);
    }
    /* A member of another group, by mistake. */
    int other = dial_port(port);
    uint8_t bytes[WEFT_JOIN_BYTES];
    weft_join_encode(&(weft_join){ .version = WEFT_CONTROL_VERSION, .rank = 1, .size = 2, .token = 12345 }, bytes);
    assert_int_equal(send(other, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
    outcome rest[2];
    cast others = { .parts = { { 1, 3 }, { 2, 3 } }, .url = c.url };
    ranks_as_threads(2, play, &others, rest);
    pthread_join(first, NULL);
    expect_ok(results, 1);
    expect_ok(rest, 2);
    close(other);
    for (int i = 0; i < 40; i++) {
        if (i % 4 != 3)
            close(silent[i]);
    }
}

/* Ranks try the addresses of the place side by side, and leave without a word where they were not needed. */
static void test_who_leaves_without_a_word_is_no_warning(void **state)
{
    (void)state;
    outcome results[2] = { 0 };
    cast c = { .parts = { { 0, 2 }, { 1, 2 } }, .url = fresh_url(0) };
    FILE *log = tmpfile();
    int kept = dup(STDERR_FILENO);
    assert_true(log != NULL && kept >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    pthread_t first;
    pthread_create(&first, NULL, run_first_of_two, (void *[]){ &c, &results[0] });
    close(dial_port(port_of(c.url)));
    int fd = dial_port(port_of(c.url));
    assert_int_equal(send(fd, "GET", 3, MSG_NOSIGNAL), 3);
    close(fd);
    outcome rest[1];
    cast other = { .parts = { { 1, 2 } }, .url = c.url };
    ranks_as_threads(1, play, &other, rest);
    pthread_join(first, NULL);
    fflush(stderr);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    expect_ok(results, 1);
    expect_ok(rest, 1);
    char line[300];
    int lines = 0;
    rewind(log);
    while (fgets(line, sizeof line, log) != NULL)
        lines += strstr(line, "dropped a connection") != NULL;
    fclose(log);
    assert_int_equal(lines, 1); /* of the one that asked for something */
}

static void test_other_version_of_a_rank_is_told_to_all(void **state)
{
    (void)state;
    outcome results[1] = { 0 };
    cast c = { .parts = { { 0, 3 } }, .url = fresh_url(0) };
    pthread_t first;
    pthread_create(&first, NULL, run_first, (void *[]){ &c, &results[0] });
    int other = dial_port(port_of(c.url));
    join_with(other, 77, 2, 3);
    pthread_join(first, NULL);
    expect_all(results, 1, WEFT_ERR_VERSION, "rank 2 (127.0.0.1:", "version 77", "version 1");
    /* The other one is told as well, in a form that all versions read. */
    uint8_t answer[WEFT_GREETING_BYTES + WEFT_FRAME_HEADER_BYTES];
    assert_int_equal(recv(other, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    weft_frame_header header;
    assert_true(weft_frame_decode(&header, answer + WEFT_GREETING_BYTES));
    assert_int_equal(header.type, WEFT_FRAME_ERROR);
    close(other);
}

/* A meeting place of another version: greets, takes the join, refuses. */
static void *serve_other_version(void *argument)
{
    int listener = *(int *)argument;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    uint8_t greeting[WEFT_GREETING_BYTES], join[WEFT_JOIN_BYTES], refusal[200];
    weft_greeting_encode(&(weft_greeting){ 78, weft_hash("", 0, 0), 0 }, greeting);
    send(fd, greeting, sizeof greeting, MSG_NOSIGNAL);
    recv(fd, join, sizeof join, MSG_WAITALL);
    size_t bytes = weft_error_encode(WEFT_ERR_VERSION, "rank 1 speaks version 1, this is 78", refusal, sizeof refusal);
    send(fd, refusal, bytes, MSG_NOSIGNAL);
    recv(fd, join, 1, 0);
    close(fd);
    return NULL;
}

static int listen_on(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static void test_other_version_of_the_meeting_place_is_named(void **state)
{
    (void)state;
    outcome result = { 0 };
    cast c = { .parts = { { 1, 3, 5000 } }, .url = fresh_url(0) };
    int listener = listen_on(port_of(c.url));
    pthread_t server;
    pthread_create(&server, NULL, serve_other_version, &listener);
    play(0, 3, &c, &result);
    pthread_join(server, NULL);
    close(listener);
    expect_all(&result, 1, WEFT_ERR_VERSION, "rank 1", "78", "1");
}

/* ---- wrong and busy addresses ------------------------------------------------------------------------- */

static void test_port_in_use_is_named(void **state)
{
    (void)state;
    outcome result = { 0 };
    char port[16];
    cast c = { .parts = { { 0, 2 } }, .url = fresh_url(0) };
    int listener = listen_on(port_of(c.url));
    snprintf(port, sizeof port, "port %d", port_of(c.url));
    play(0, 2, &c, &result);
    close(listener);
    expect_all(&result, 1, WEFT_ERR_SYSTEM, c.url, port, "Address already in use");
}

static void test_alien_service_on_the_port_is_passed_by(void **state)
{
    (void)state;
    outcome results[4];
    cast c = { .parts = { { 0, 4 }, { 1, 4 }, { 2, 4 }, { 3, 4 } }, .url = fresh_url(3) };
    int listener = listen_on(port_of(c.url)); /* accepts (in its backlog) and says nothing */
    ranks_as_threads(4, play, &c, results);
    expect_ok(results, 4);
    /* Nothing was sent to it. */
    struct pollfd p = { .fd = listener, .events = POLLIN };
    while (poll(&p, 1, 0) == 1) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        char byte;
        assert_int_equal(recv(fd, &byte, 1, 0), 0);
        close(fd);
    }
    close(listener);
}

static void test_unreachable_place_is_named(void **state)
{
    (void)state;
    outcome result = { 0 };
    char address[64];
    cast c = { .parts = { { 1, 2, 300 } }, .url = fresh_url(0) };
    snprintf(address, sizeof address, "127.0.0.1:%d: Connection refused", port_of(c.url));
    play(0, 2, &c, &result);
    expect_all(&result, 1, WEFT_ERR_TIMEOUT, c.url, address, "rank 0");
    result = (outcome){ 0 };
    c.url = "tcp://no-such-host.invalid:7777";
    play(0, 2, &c, &result);
    expect_all(&result, 1, WEFT_ERR_TIMEOUT, c.url, "no-such-host.invalid", "cannot be resolved");
    result = (outcome){ 0 };
    c.url = fresh_url(0);
    c.parts[0].deadline_ms = 2500;
    int listener = listen_on(port_of(c.url));
    play(0, 2, &c, &result);
    close(listener);
    expect_all(&result, 1, WEFT_ERR_TIMEOUT, c.url, "does not greet as weft does", "");
}

static void test_rank_0_may_come_last(void **state)
{
    (void)state;
    outcome result;
    cast c = { .parts = { { 0, 3 }, { 1, 3 }, { 2, 3 } }, .url = fresh_url(0) };
    rank_group group;
    ranks_fork(&group, 0, play, NULL);
    for (int r = 2; r >= 1; r--)
        ranks_fork_one(&group, r, 3, play, &c);
    poll(NULL, 0, 300); /* they have tried in vain by then, in most runs */
    ranks_fork_one(&group, 0, 3, play, &c);
    for (int r = 0; r < 3; r++) {
        assert_true(ranks_outcome(&group, r, 20000, &result));
        expect_ok(&result, 1);
    }
    ranks_end(&group);
}

static void test_death_during_the_meeting_is_told(void **state)
{
    (void)state;
    outcome result;
    cast c = { .parts = { { 0, 3 }, { 1, 3 } }, .url = fresh_url(0) };
    rank_group group;
    ranks_fork(&group, 2, play, &c);
    /* Rank 2 joins by hand and goes. */
    int fd = dial_port(port_of(c.url));
    join_with(fd, WEFT_CONTROL_VERSION, 2, 3);
    shutdown(fd, SHUT_WR);
    char rest[512];
    while (recv(fd, rest, sizeof rest, 0) > 0)
        ;
    close(fd);
    for (int r = 0; r < 2; r++) {
        assert_true(ranks_outcome(&group, r, 20000, &result));
        expect_all(&result, 1, WEFT_ERR_PEER, "rank 2 (127.0.0.1:", "left before the group was complete", "");
    }
    ranks_end(&group);
}

/* ---- parsers ------------------------------------------------------------------------------------------ */

static void test_urls(void **state)
{
    (void)state;
    weft_url url;
    assert_int_equal(weft_url_parse("tcp://[fe80::1%eth0]:80+31", &url), WEFT_OK);
    assert_string_equal(url.host, "fe80::1%eth0");
    assert_int_equal(url.port, 80);
    assert_int_equal(url.more_ports, 31);
    assert_int_equal(weft_url_parse("file:///a b/c", &url), WEFT_OK);
    assert_string_equal(url.path, "/a b/c");
    static const char *const bad[] = {
        "", "tcp://", "tcp://host", "tcp://host:", "tcp://host:0", "tcp://host:65536", "tcp://host:1x", "tcp://:80",
        "tcp://[::1:80", "tcp://[::1]80", "tcp://host:80+32", "tcp://host:65535+1", "tcp://host:80+", "file://", "file://a",
        "file:///", "http://host:80", "host:80", "tcp://host:123456789012345678901"
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (weft_url_parse(bad[i], &url) == WEFT_OK)
            fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(strstr(weft_last_error(), bad[i]));
    }
    assert_int_equal(weft_url_parse(NULL, &url), WEFT_ERR_INVALID);
}

static void test_port_ranges(void **state)
{
    (void)state;
    uint16_t low, high;
    assert_int_equal(weft_control_parse_ports("20000-20100", &low, &high), WEFT_OK);
    assert_int_equal(low, 20000);
    assert_int_equal(high, 20100);
    assert_int_equal(weft_control_parse_ports("7", &low, &high), WEFT_OK);
    assert_int_equal(high, 7);
    assert_int_equal(weft_control_parse_ports("", &low, &high), WEFT_OK);
    assert_int_equal(high, 0);
    static const char *const bad[] = { "x", "1-", "-1", "2-1", "0", "1-65536", "1-2x", "1 2", "70000" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (weft_control_parse_ports(bad[i], &low, &high) == WEFT_OK)
            fail_msg("'%s' was accepted", bad[i]);
    }
}

static void test_ports_of_the_range_are_used(void **state)
{
    (void)state;
    int first = free_port(3), fd[5];
    uint16_t port;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(weft_control_listen((uint16_t)first, (uint16_t)(first + 3), &fd[i], &port), WEFT_OK);
        assert_int_equal(port, first + i);
    }
    assert_int_equal(weft_control_listen((uint16_t)first, (uint16_t)(first + 3), &fd[4], &port), WEFT_ERR_SYSTEM);
    for (int i = 0; i < 4; i++)
        weft_control_close(fd[i]);
}

static void test_interfaces(void **state)
{
    (void)state;
    weft_endpoint endpoint;
    assert_int_equal(weft_control_addresses("lo", &endpoint), WEFT_OK);
    assert_int_equal(endpoint.addresses[0].bytes[0], 127);
    assert_int_equal(weft_control_addresses("", &endpoint), WEFT_OK);
    assert_int_equal(weft_control_addresses("=lo", &endpoint), WEFT_OK);
    assert_int_equal(weft_control_addresses("=l", &endpoint), WEFT_ERR_INVALID);
    assert_int_equal(weft_control_addresses("nosuch,nope", &endpoint), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "nosuch,nope"));
    assert_non_null(strstr(weft_last_error(), "lo"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_size_names_rank_and_both_sizes),
        cmocka_unit_test(test_duplicate_rank_names_both_addresses),
        cmocka_unit_test(test_rank_out_of_range_is_told_to_all),
        cmocka_unit_test(test_ranks_that_never_come_are_named),
        cmocka_unit_test(test_latecomers_hear_of_the_failure_too),
        cmocka_unit_test(test_a_new_attempt_at_the_same_place_succeeds),
        cmocka_unit_test(test_groups_with_other_tokens_do_not_mix),
        cmocka_unit_test(test_strangers_on_the_port_harm_nobody),
        cmocka_unit_test(test_who_leaves_without_a_word_is_no_warning),
        cmocka_unit_test(test_other_version_of_a_rank_is_told_to_all),
        cmocka_unit_test(test_other_version_of_the_meeting_place_is_named),
        cmocka_unit_test(test_port_in_use_is_named),
        cmocka_unit_test(test_alien_service_on_the_port_is_passed_by),
        cmocka_unit_test(test_unreachable_place_is_named),
        cmocka_unit_test(test_rank_0_may_come_last),
        cmocka_unit_test(test_death_during_the_meeting_is_told),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_port_ranges),
        cmocka_unit_test(test_ports_of_the_range_are_used),
        cmocka_unit_test(test_interfaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The tcp transport and connections that it did not ask for: garbage, silence, other jobs, other versions; and
 * what a rank is told that connects to the wrong place.
 * mostly waits */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/tcp/address.h"
#include "transport/tcp/wire.h"

enum { DEAD_PEER_MS = 400 };

static void short_deadline(weft_transport_config *config)
{
    config->dead_peer_ms = DEAD_PEER_MS;
}

static const conformance_subject subject = { .name = "tcp" };
static const conformance_subject impatient = { .name = "tcp", .configure = short_deadline };

static void open_group(conformance_group *group, const conformance_subject *of, int ranks)
{
    if (conformance_open(group, of, ranks, PLACE_MIXED) != WEFT_OK)
        fail_msg("%s", weft_last_error());
}

static weft_tcp_sockaddr listening_address(conformance_member *member)
{
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    weft_tcp_addresses addresses;
    assert_int_equal(member->ops->address(member->transport, blob, &bytes), WEFT_OK);
    assert_int_equal(weft_tcp_addresses_decode(blob, bytes, &addresses), WEFT_OK);
    return addresses.entries[0].address;
}

/* A connection to the member that has sent `bytes`. */
static int connect_as_stranger(conformance_member *member, const void *bytes, size_t count)
{
    weft_tcp_sockaddr address = listening_address(member);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &address.any, weft_tcp_address_bytes(&address)), 0);
    if (count > 0)
        assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Reads until the other side closes, while the group goes on; returns how much came. */
static size_t read_to_end(conformance_group *group, int fd, unsigned char *bytes, size_t most)
{
    size_t got = 0;
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    for (;;) {
        unsigned char rest[64];
        ssize_t n = got < most ? recv(fd, bytes + got, most - got, 0) : recv(fd, rest, sizeof rest, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            break;
        got += n > 0 ? (size_t)n : 0;
        conformance_drive(group);
        if (weft_now_ns() > deadline)
            fail_msg("the connection is not dropped");
    }
    close(fd);
    return got;
}

static void expect_dropped(conformance_group *group, const void *bytes, size_t count)
{
    unsigned char answer[256];
    int fd = connect_as_stranger(&group->members[0], bytes, count);
    conformance_traffic(group, 3, 20000);
    assert_int_equal(read_to_end(group, fd, answer, sizeof answer), 0);
}

static void expect_answer(conformance_group *group, const void *bytes, weft_tcp_answer expected)
{
    unsigned char answer[WEFT_TCP_WELCOME_BYTES];
    weft_tcp_welcome welcome;
    int fd = connect_as_stranger(&group->members[0], bytes, WEFT_TCP_HELLO_BYTES);
    assert_int_equal(read_to_end(group, fd, answer, sizeof answer), sizeof answer);
    assert_int_equal(weft_tcp_welcome_decode(answer, &welcome), WEFT_OK);
    assert_int_equal(welcome.answer, expected);
    assert_int_equal(welcome.rank, 0);
    conformance_traffic(group, 3, 20000);
}

static void test_garbage_is_dropped_while_traffic_flows(void **state)
{
    (void)state;
    static const char request[] = "GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: scanner/1.0 (compatible)\r\n\r\n";
    conformance_group group;
    unsigned char bytes[5000];
    open_group(&group, &subject, 3);
    conformance_traffic(&group, 3, 1000);
    expect_dropped(&group, request, sizeof request - 1);
    expect_dropped(&group, "x", 1);
    for (size_t n = 1; n < sizeof bytes; n = n * 2 + 1) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)conformance_random();
        expect_dropped(&group, bytes, n);
    }
    conformance_close(&group);
}

static void test_silent_and_half_said_connections_are_dropped_in_time(void **state)
{
    (void)state;
    conformance_group group;
    unsigned char hello[WEFT_TCP_HELLO_BYTES], answer[8];
    weft_tcp_hello said = { .version = WEFT_TCP_VERSION, .job = 1, .rank = 1, .set = 1, .count = 1 };
    weft_tcp_hello_encode(&said, hello);
    open_group(&group, &impatient, 2);
    int silent = connect_as_stranger(&group.members[0], NULL, 0);
    int half = connect_as_stranger(&group.members[0], hello, WEFT_TCP_HELLO_BYTES / 2);
    int gone = connect_as_stranger(&group.members[0], hello, WEFT_TCP_HELLO_BYTES - 1);
    close(gone);
    conformance_traffic(&group, 20, 20000);
    assert_int_equal(read_to_end(&group, silent, answer, sizeof answer), 0);
    assert_int_equal(read_to_end(&group, half, answer, sizeof answer), 0);
    conformance_traffic(&group, 3, 20000);
    conformance_close(&group);
}

/* More of them than are kept: ranks of the job still get in. */
static void test_a_crowd_of_silent_connections_keeps_nobody_out(void **state)
{
    (void)state;
    enum { CROWD = 150 };
    conformance_group group;
    int fds[CROWD];
    open_group(&group, &subject, 3);
    for (int i = 0; i < CROWD; i++) {
        fds[i] = connect_as_stranger(&group.members[0], NULL, 0);
        conformance_drive(&group);
    }
    conformance_traffic(&group, 10, 1000);
    for (int i = 0; i < CROWD; i++)
        close(fds[i]);
    conformance_traffic(&group, 10, 1000);
    conformance_close(&group);
}

static uint64_t job_of_group;

static void remember_job(weft_transport_config *config)
{
    job_of_group = config->job;
}

static void test_greetings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const conformance_subject remembering = { .name = "tcp", .configure = remember_job };
    conformance_group group;
    unsigned char bytes[WEFT_TCP_HELLO_BYTES];
    open_group(&group, &remembering, 3);
    conformance_traffic(&group, 1, 1000);
    const weft_tcp_hello good = {.version = WEFT_TCP_VERSION, .job = job_of_group, .rank = 2, .set = 5, .count = 1};
    weft_tcp_hello hello = good;
    hello.version = WEFT_TCP_VERSION + 1;
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_VERSION);
    hello = good;
    hello.job ^= 1;
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_JOB);
    hello = good;
    hello.target = 1;
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_RANK);
    hello = good;
    hello.rank = 0; /* oneself */
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_RANK);
    hello.rank = 3;
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_RANK);
    hello.rank = UINT32_MAX;
    weft_tcp_hello_encode(&hello, bytes);
    expect_answer(&group, bytes, WEFT_TCP_WRONG_RANK);
    weft_tcp_hello_encode(&good, bytes); /* rank 2 is connected already, as rank 0 dialled it */
    expect_answer(&group, bytes, WEFT_TCP_BUSY);
    hello = good;
    hello.count = WEFT_TCP_SOCKETS_MAX + 1;
    weft_tcp_hello_encode(&hello, bytes);
    expect_dropped(&group, bytes, sizeof bytes);
    hello = good;
    hello.index = 1;
    weft_tcp_hello_encode(&hello, bytes);
    expect_dropped(&group, bytes, sizeof bytes);
    weft_tcp_hello_encode(&good, bytes);
    bytes[20] ^= 1;
    expect_dropped(&group, bytes, sizeof bytes);
    conformance_close(&group);
}

/* Someone who knows the job's number and then sends nonsense harms only the rank that it claims to be. */
static void test_nonsense_after_a_good_greeting_breaks_only_that_link(void **state)
{
    (void)state;
    static const conformance_subject remembering = { .name = "tcp", .configure = remember_job };
    for (int kind = 0; kind < 4; kind++) {
        conformance_group group;
        unsigned char bytes[WEFT_TCP_HELLO_BYTES + 200] = { 0 };
        open_group(&group, &remembering, 3);
        weft_tcp_hello hello = {.version = WEFT_TCP_VERSION, .job = job_of_group, .rank = 2, .set = 5, .count = 1};
        weft_tcp_hello_encode(&hello, bytes);
        if (kind == 1)
            weft_tcp_frame_encode(WEFT_SLICE_MAX_BYTES + 1, 0, 5, bytes + WEFT_TCP_HELLO_BYTES);
        if (kind == 2) /* the slice before it cannot come */
            weft_tcp_frame_encode(0, 1, 5, bytes + WEFT_TCP_HELLO_BYTES);
        if (kind == 3)
            weft_tcp_frame_encode(0, 0, 6, bytes + WEFT_TCP_HELLO_BYTES);
        int fd = connect_as_stranger(&group.members[0], bytes, sizeof bytes);
        conformance_until(&group, group.members[0].peers[2].failed);
        assert_int_equal(group.members[0].peers[1].failed, 0);
        assert_int_equal(conformance_send(&group.members[0], 1, 1000), WEFT_OK);
        assert_int_equal(conformance_send(&group.members[1], 0, 1000), WEFT_OK);
        conformance_until(&group, group.members[0].arrived == 1 && group.members[1].arrived == 1);
        close(fd);
        conformance_close(&group);
    }
}

/* ---- connecting to the wrong place ---- */

typedef struct outcome {
    int failed;
    weft_status status;
    char reason[256];
    int done;
    weft_status done_status;
} outcome;

static void no_arrival(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    (void)context, (void)peer, (void)header, (void)payload, (void)bytes;
}

static void note_failure(void *context, int peer, weft_status status, const char *reason)
{
    outcome *o = context;
    (void)peer;
    o->failed++;
    o->status = status;
    snprintf(o->reason, sizeof o->reason, "%s", reason);
}

static void note_done(weft_slice *slice, weft_status status)
{
    outcome *o = slice->context;
    o->done++;
    o->done_status = status;
}

/* Sends to rank 1 at that address until it fails; `background` may progress what listens there. */
static outcome dial_in_vain(const void *address, size_t bytes, conformance_group *background, int listener)
{
    const weft_transport_ops *ops = weft_transport_find("tcp");
    outcome o = { 0 };
    weft_transport_config config = {
        .size = sizeof config, .rank = 0, .ranks = 3, .job = 1, .dead_peer_ms = DEAD_PEER_MS,
        .sink = { &o, NULL, no_arrival, note_failure },
    };
    weft_transport *t;
    weft_endpoint *e;
    weft_slice slice = { .done = note_done, .context = &o };
    assert_int_equal(ops->open(&config, &t), WEFT_OK);
    assert_int_equal(ops->connect(t, 1, address, bytes, &e), WEFT_OK);
    assert_int_equal(ops->connect(t, 1, address, bytes, &e), WEFT_ERR_USAGE);
    assert_int_equal(ops->send(e, &slice), WEFT_OK);
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while (!o.failed && weft_now_ns() < deadline) {
        ops->progress(t);
        if (background)
            conformance_drive(background);
        int fd = listener >= 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
        if (fd >= 0)
            close(fd);
    }
    assert_int_equal(o.failed, 1);
    assert_int_equal(o.done, 1);
    assert_int_equal(o.done_status, o.status);
    assert_int_equal(ops->send(e, &slice), o.status);
    assert_non_null(strstr(o.reason, "rank 1"));
    ops->destroy(t);
    assert_int_equal(o.done, 1);
    return o;
}

static void test_the_wrong_job_is_named(void **state)
{
    (void)state;
    conformance_group others;
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    open_group(&others, &subject, 3);
    assert_int_equal(others.members[1].ops->address(others.members[1].transport, blob, &bytes), WEFT_OK);
    outcome o = dial_in_vain(blob, bytes, &others, -1);
    assert_int_equal(o.status, WEFT_ERR_PEER);
    assert_non_null(strstr(o.reason, "another job"));
    conformance_close(&others);
}

static void test_a_rank_that_is_gone_refuses_at_once(void **state)
{
    (void)state;
    conformance_group others;
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    open_group(&others, &subject, 2);
    assert_int_equal(others.members[1].ops->address(others.members[1].transport, blob, &bytes), WEFT_OK);
    conformance_close(&others);
    outcome o = dial_in_vain(blob, bytes, NULL, -1);
    assert_int_equal(o.status, WEFT_ERR_PEER);
    assert_non_null(strstr(o.reason, "refused"));
}

/* Something listens there, but hangs up without a word: tried again for a while, then given up. */
static void test_a_listener_that_hangs_up_is_given_up(void **state)
{
    (void)state;
    weft_tcp_addresses addresses = { .count = 1 };
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    conformance_group group;
    open_group(&group, &subject, 1);
    weft_tcp_sockaddr address = listening_address(&group.members[0]);
    socklen_t length = weft_tcp_address_bytes(&address);
    weft_tcp_set_port(&address, 0);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, &address.any, length), 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(getsockname(fd, &addresses.entries[0].address.any, &length), 0);
    addresses.host = weft_tcp_host_number("/proc", &addresses);
    assert_int_equal(weft_tcp_addresses_encode(&addresses, blob, &bytes), WEFT_OK);
    outcome o = dial_in_vain(blob, bytes, NULL, fd);
    assert_int_equal(o.status, WEFT_ERR_PEER);
    close(fd);
    conformance_close(&group);
}

/* A rank that does not progress for longer than dead_peer_ms is slow, not dead: also with full buffers. */
static void test_a_slow_rank_is_not_taken_for_dead(void **state)
{
    (void)state;
    conformance_group group;
    open_group(&group, &impatient, 2);
    conformance_member *sender = &group.members[0];
    conformance_traffic(&group, 1, 10);
    for (int i = 0; i < 40; i++)
        assert_int_equal(conformance_send(sender, 1, WEFT_SLICE_MAX_BYTES), WEFT_OK);
    int64_t end = weft_deadline_ns(5 * DEAD_PEER_MS);
    while (weft_now_ns() < end) {
        sender->ops->progress(sender->transport);
        usleep(1000);
    }
    assert_int_equal(sender->peers[1].failed, 0);
    conformance_until(&group, conformance_quiet(&group));
    conformance_close(&group);
}

/* The same before the connection is made: the kernel accepts, the process does not. */
static void test_a_rank_that_is_slow_to_accept_is_not_taken_for_dead(void **state)
{
    (void)state;
    conformance_group group;
    open_group(&group, &impatient, 2);
    conformance_member *sender = &group.members[0];
    assert_int_equal(conformance_send(sender, 1, 100), WEFT_OK);
    int64_t end = weft_deadline_ns(3 * DEAD_PEER_MS);
    while (weft_now_ns() < end) {
        sender->ops->progress(sender->transport);
        usleep(1000);
    }
    conformance_until(&group, conformance_quiet(&group));
    conformance_close(&group);
}

/* And when it is the dialling rank that is slow, so that the other drops its silent connection. */
static void test_a_dialler_that_was_dropped_as_silent_dials_again(void **state)
{
    (void)state;
    conformance_group group;
    open_group(&group, &impatient, 2);
    conformance_member *member = &group.members[1];
    int stranger = connect_as_stranger(member, NULL, 0);
    assert_int_equal(conformance_send(&group.members[0], 1, 100), WEFT_OK);
    int64_t end = weft_deadline_ns(2 * DEAD_PEER_MS);
    while (weft_now_ns() < end) {
        member->ops->progress(member->transport);
        usleep(1000);
    }
    conformance_until(&group, conformance_quiet(&group));
    close(stranger);
    conformance_close(&group);
}

/* ---- ports and interfaces ---- */

static char port_range[32];
static const char *interfaces;

static void set_range(weft_transport_config *config)
{
    config->port_range = port_range;
    config->interfaces = interfaces;
}

static void test_ports_are_taken_from_the_range(void **state)
{
    (void)state;
    static const conformance_subject ranged = { .name = "tcp", .configure = set_range };
    conformance_group group;
    interfaces = "lo";
    int low = 20000 + (int)(weft_random64() % 10000);
    snprintf(port_range, sizeof port_range, "%d-%d", low, low + 40);
    open_group(&group, &ranged, 4);
    for (int i = 0; i < 4; i++) {
        weft_tcp_sockaddr address = listening_address(&group.members[i]);
        assert_in_range(ntohs(address.v4.sin_port), low, low + 40);
    }
    conformance_traffic(&group, 3, 1000);
    /* Two instances cannot share one port. */
    int taken = ntohs(listening_address(&group.members[0]).v4.sin_port);
    conformance_group second;
    snprintf(port_range, sizeof port_range, "%d-%d", taken, taken);
    assert_int_equal(conformance_open(&second, &ranged, 1, PLACE_NULL), WEFT_ERR_SYSTEM);
    assert_non_null(strstr(weft_last_error(), "WEFT_PORT_RANGE"));
    snprintf(port_range, sizeof port_range, "5-x");
    assert_int_equal(conformance_open(&second, &ranged, 1, PLACE_NULL), WEFT_ERR_PARSE);
    interfaces = "nosuch";
    port_range[0] = 0;
    assert_int_equal(conformance_open(&second, &ranged, 1, PLACE_NULL), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "nosuch"));
    assert_non_null(strstr(weft_last_error(), "lo ("));
    conformance_close(&group);
}

static void hear_nothing(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    (void)context, (void)peer, (void)header, (void)payload, (void)bytes;
    fail_msg("a slice came from nobody");
}

static void hear_no_failure(void *context, int peer, weft_status status, const char *reason)
{
    (void)context, (void)peer, (void)status;
    fail_msg("a rank failed: %s", reason);
}

/* All ranks of a large job may dial one at once, and none of them may have said yet who it is. */
static void test_all_ranks_may_dial_at_once(void **state)
{
    enum { RANKS = 200 };
    const weft_transport_ops *ops = weft_transport_find("tcp");
    weft_transport_config config = {.size = sizeof config, .ranks = RANKS, .interfaces = "lo",
                                    .dead_peer_ms = CONFORMANCE_PATIENCE_MS,
                                    .sink = {.arrived = hear_nothing, .failed = hear_no_failure}};
    conformance_member member = {.ops = ops};
    int fds[RANKS - 1];
    char byte;
    (void)state;
    assert_non_null(ops);
    assert_int_equal(ops->open(&config, &member.transport), WEFT_OK);
    for (int i = 0; i < RANKS - 1; i++) {
        fds[i] = connect_as_stranger(&member, NULL, 0);
        ops->progress(member.transport);
    }
    for (int i = 0; i < RANKS; i++)
        ops->progress(member.transport);
    for (int i = 0; i < RANKS - 1; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, MSG_DONTWAIT), -1); /* 0: it was dropped */
        assert_int_equal(errno, EAGAIN);
    }
    ops->destroy(member.transport);
    for (int i = 0; i < RANKS - 1; i++)
        close(fds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_garbage_is_dropped_while_traffic_flows),
        cmocka_unit_test(test_silent_and_half_said_connections_are_dropped_in_time),
        cmocka_unit_test(test_a_crowd_of_silent_connections_keeps_nobody_out),
        cmocka_unit_test(test_greetings_that_do_not_fit_are_refused),
        cmocka_unit_test(test_nonsense_after_a_good_greeting_breaks_only_that_link),
        cmocka_unit_test(test_the_wrong_job_is_named),
        cmocka_unit_test(test_a_rank_that_is_gone_refuses_at_once),
        cmocka_unit_test(test_a_listener_that_hangs_up_is_given_up),
        cmocka_unit_test(test_a_slow_rank_is_not_taken_for_dead),
        cmocka_unit_test(test_a_rank_that_is_slow_to_accept_is_not_taken_for_dead),
        cmocka_unit_test(test_a_dialler_that_was_dropped_as_silent_dials_again),
        cmocka_unit_test(test_all_ranks_may_dial_at_once),
        cmocka_unit_test(test_ports_are_taken_from_the_range),
    };
    return cmocka_run_group_tests_name("tcp strangers", tests, NULL, NULL);
}

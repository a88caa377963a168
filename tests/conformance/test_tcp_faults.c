/* The tcp transport when system calls do what they seldom do: stop half way, are interrupted, have no room, no
 * descriptors, or find the connection gone. */
#define _GNU_SOURCE
#include "conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tcp/system.h"

/* Chances of 1024 that a call is disturbed, and calls that fail once. Counters are reset by inject(); both ranks' threads
 * count. */
static struct {
    int interrupt, again, shorten;
    size_t most_bytes;          /* of a shortened transfer */
    long reset_send_at, reset_read_at;
    _Atomic long sends, reads;
    int accepts_without_descriptors, sockets_without_descriptors, aborted_accepts;
} faults;

static bool chance(int of_1024)
{
    return (int)(conformance_random() % 1024) < of_1024;
}

static bool disturbed(void)
{
    if (chance(faults.interrupt)) {
        errno = EINTR;
        return true;
    }
    if (chance(faults.again)) {
        errno = EAGAIN;
        return true;
    }
    return false;
}

/* The first bytes of the parts only. */
static int shorten(const struct iovec *parts, int count, struct iovec *few)
{
    size_t left = faults.most_bytes > 1 ? 1 + conformance_random() % faults.most_bytes : 1;
    int n = 0;
    for (; n < count && left > 0; n++) {
        few[n] = parts[n];
        few[n].iov_len = weft_min_size(parts[n].iov_len, left);
        left -= few[n].iov_len;
    }
    return n;
}

static ssize_t faulty_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec few[128];
    struct msghdr part = *message;
    if (++faults.sends == faults.reset_send_at) {
        errno = ECONNRESET;
        return -1;
    }
    if (disturbed())
        return -1;
    if (chance(faults.shorten)) {
        part.msg_iov = few;
        part.msg_iovlen = (size_t)shorten(message->msg_iov, (int)message->msg_iovlen, few);
    }
    return sendmsg(fd, &part, flags);
}

static ssize_t faulty_readv(int fd, const struct iovec *parts, int count)
{
    struct iovec few[8];
    if (++faults.reads == faults.reset_read_at) {
        errno = ECONNRESET;
        return -1;
    }
    if (disturbed())
        return -1;
    if (chance(faults.shorten))
        return readv(fd, few, shorten(parts, count, few));
    return readv(fd, parts, count);
}

static int faulty_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    int result = connect(fd, address, bytes);
    if (result == 0 && chance(faults.interrupt)) { /* it goes on in the background */
        errno = EINTR;
        return -1;
    }
    return result;
}

static int faulty_accept(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
    if (faults.accepts_without_descriptors > 0) {
        faults.accepts_without_descriptors--;
        errno = EMFILE;
        return -1;
    }
    if (faults.aborted_accepts > 0) {
        faults.aborted_accepts--;
        errno = ECONNABORTED;
        return -1;
    }
    return disturbed() ? -1 : accept4(fd, address, bytes, flags);
}

static int faulty_socket(int family, int type, int protocol)
{
    if (faults.sockets_without_descriptors > 0 && --faults.sockets_without_descriptors == 0) {
        errno = EMFILE;
        return -1;
    }
    return socket(family, type, protocol);
}

static int faulty_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
    if (chance(faults.interrupt)) {
        errno = EINTR;
        return -1;
    }
    return chance(faults.again) ? 0 : epoll_wait(fd, events, count, timeout_ms);
}

static const weft_tcp_system faulty = { faulty_socket,  faulty_connect, faulty_accept,
                                        faulty_sendmsg, faulty_readv,   faulty_wait };

static int clear_faults(void **state)
{
    (void)state;
    weft_tcp_injected = NULL;
    memset(&faults, 0, sizeof faults);
    return 0;
}

static void several_sockets(weft_transport_config *config)
{
    config->sockets = 3;
}

static const conformance_subject one = { .name = "tcp", .notices_death = true };
static const conformance_subject several = {.name = "tcp", .notices_death = true, .configure = several_sockets};

static void open_group(conformance_group *group, const conformance_subject *subject, int ranks)
{
    if (conformance_open(group, subject, ranks, PLACE_MIXED) != WEFT_OK)
        fail_msg("%s", weft_last_error());
}

static void run_traffic(const conformance_subject *subject, int count, size_t most)
{
    conformance_group group;
    weft_tcp_injected = &faulty;
    open_group(&group, subject, 3);
    conformance_traffic(&group, count, most);
    conformance_close(&group);
}

static void test_one_byte_at_a_time(void **state)
{
    (void)state;
    faults.shorten = 1024;
    faults.most_bytes = 1;
    run_traffic(&one, 20, 200);
    run_traffic(&several, 20, 200);
}

static void test_transfers_of_random_lengths(void **state)
{
    (void)state;
    faults.shorten = 512;
    for (faults.most_bytes = 30; faults.most_bytes < 100000; faults.most_bytes *= 16) {
        run_traffic(&one, 60, faults.most_bytes * 4);
        run_traffic(&several, 60, faults.most_bytes * 4);
    }
}

static void test_interruptions_and_full_buffers(void **state)
{
    (void)state;
    faults.interrupt = 300;
    faults.again = 300;
    faults.shorten = 300;
    faults.most_bytes = 5000;
    run_traffic(&one, 200, 20000);
    run_traffic(&several, 200, 20000);
}

/* Whatever the call that fails: the peers are told once, every slice is done once, nothing hangs. */
static void reset_at(const conformance_subject *subject, long *which, long n)
{
    conformance_group group;
    clear_faults(NULL);
    *which = n;
    weft_tcp_injected = &faulty;
    open_group(&group, subject, 2);
    conformance_member *a = &group.members[0], *b = &group.members[1];
    for (int i = 0; i < 12; i++) {
        for (int from = 0; from < 2; from++) {
            conformance_member *member = &group.members[from];
            if (!member->peers[!from].failed)
                conformance_send(member, !from, i % 4 == 3 ? 300000 : 100);
        }
        conformance_drive(&group);
    }
    conformance_until(&group, conformance_quiet(&group) || (a->peers[1].failed && b->peers[0].failed));
    conformance_close(&group);
}

static void test_a_reset_at_any_call_is_reported_once(void **state)
{
    (void)state;
    for (long n = 1; n < 40; n++) {
        reset_at(&one, &faults.reset_send_at, n);
        reset_at(&one, &faults.reset_read_at, n);
        reset_at(&several, n % 2 ? &faults.reset_send_at : &faults.reset_read_at, n);
    }
}

static void test_without_descriptors_accepting_pauses_and_goes_on(void **state)
{
    (void)state;
    conformance_group group;
    weft_tcp_injected = &faulty;
    open_group(&group, &one, 2);
    faults.accepts_without_descriptors = 2;
    faults.aborted_accepts = 3;
    conformance_traffic(&group, 3, 1000);
    assert_int_equal(faults.accepts_without_descriptors, 0);
    conformance_close(&group);
}

static void test_without_descriptors_send_says_so_and_may_be_repeated(void **state)
{
    (void)state;
    conformance_group group;
    weft_tcp_injected = &faulty;
    open_group(&group, &one, 2);
    faults.sockets_without_descriptors = 1;
    assert_int_equal(conformance_send(&group.members[0], 1, 10), WEFT_ERR_SYSTEM);
    assert_non_null(strstr(weft_last_error(), "ulimit -n"));
    assert_non_null(strstr(weft_last_error(), "rank 1"));
    conformance_traffic(&group, 3, 1000);
    conformance_close(&group);
}

static void test_listening_without_descriptors_is_an_error(void **state)
{
    (void)state;
    conformance_group group;
    weft_tcp_injected = &faulty;
    for (int n = 1; n < 100; n++) {
        faults.sockets_without_descriptors = n;
        weft_status status = conformance_open(&group, &one, 2, PLACE_NULL);
        if (status == WEFT_OK)
            conformance_close(&group);
        else
            assert_non_null(strstr(weft_last_error(), "ulimit -n"));
        if (faults.sockets_without_descriptors > 0)
            break;
        assert_true(n < 50);
    }
}

/* The whole suite over a network that is unsteady, but loses nothing. */
static int run_suite_disturbed(void)
{
    clear_faults(NULL);
    faults.interrupt = 60;
    faults.again = 60;
    faults.shorten = 200;
    faults.most_bytes = 60000;
    weft_tcp_injected = &faulty;
    int failed = conformance_run("tcp, disturbed", &several);
    clear_faults(NULL);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one_byte_at_a_time, clear_faults),
        cmocka_unit_test_teardown(test_transfers_of_random_lengths, clear_faults),
        cmocka_unit_test_teardown(test_interruptions_and_full_buffers, clear_faults),
        cmocka_unit_test_teardown(test_a_reset_at_any_call_is_reported_once, clear_faults),
        cmocka_unit_test_teardown(test_without_descriptors_accepting_pauses_and_goes_on, clear_faults),
        cmocka_unit_test_teardown(test_without_descriptors_send_says_so_and_may_be_repeated, clear_faults),
        cmocka_unit_test_teardown(test_listening_without_descriptors_is_an_error, clear_faults),
    };
    return cmocka_run_group_tests_name("tcp faults", tests, NULL, NULL) + run_suite_disturbed();
}

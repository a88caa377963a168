/* The conformance tests, each for any transport. What only one transport promises is tested in its own
 * program. */
#define _GNU_SOURCE
#include "conformance.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t awkward_bytes[] = { 0, 1, 63, 64, 65, 4096, 65536, 1 << 20 };

static const conformance_subject *subject_of(void **state)
{
    return *state;
}

/* How much of a long test is done with this transport. */
static int amount(void **state, int count)
{
    int share = subject_of(state)->share > 0 ? subject_of(state)->share : 1;
    return count > share ? count / share : 1;
}

static void open_group(conformance_group *group, void **state, int ranks, conformance_place place)
{
    weft_status status = conformance_open(group, subject_of(state), ranks, place);
    if (status != WEFT_OK)
        fail_msg("cannot open %d instances: %s: %s", ranks, weft_status_text(status), weft_last_error());
}

static void send_ok(conformance_member *from, int to, size_t bytes)
{
    if (conformance_send(from, to, bytes) != WEFT_OK)
        fail_msg("send: %s", weft_last_error());
}

static void test_payloads_of_all_sizes_arrive_intact(void **state)
{
    for (conformance_place place = PLACE_MEMORY; place <= PLACE_ABSENT; place++) {
        conformance_group group;
        open_group(&group, state, 2, place);
        for (size_t i = 0; i < ARRAY_LEN(awkward_bytes); i++) {
            for (int n = 0; n < 3; n++) {
                send_ok(&group.members[0], 1, awkward_bytes[i]);
                send_ok(&group.members[1], 0, awkward_bytes[ARRAY_LEN(awkward_bytes) - 1 - i]);
            }
        }
        conformance_until(&group, conformance_quiet(&group));
        conformance_close(&group);
    }
}

static void test_thousands_of_small_slices_both_ways_keep_their_order(void **state)
{
    for (conformance_place place = PLACE_MEMORY; place <= PLACE_ABSENT; place++) {
        conformance_group group;
        open_group(&group, state, 2, place);
        conformance_traffic(&group, amount(state, 3000), 300);
        conformance_close(&group);
    }
}

static void test_mixed_sizes_keep_their_order(void **state)
{
    conformance_group group;
    open_group(&group, state, 2, PLACE_MIXED);
    conformance_traffic(&group, amount(state, 200), WEFT_SLICE_MAX_BYTES);
    conformance_close(&group);
}

static void test_a_slow_receiver_of_a_full_queue_gets_everything(void **state)
{
    int slices = amount(state, 1000);
    conformance_group group;
    open_group(&group, state, 2, PLACE_NULL);
    conformance_member *sender = &group.members[0], *receiver = &group.members[1];
    unsigned char *payload = malloc(WEFT_SLICE_MAX_BYTES);
    for (size_t i = 0; i < WEFT_SLICE_MAX_BYTES; i++)
        payload[i] = (unsigned char)(i * 7 + i / 256);
    for (int i = 0; i < slices; i++)
        assert_int_equal(conformance_send_from(sender, 1, payload, WEFT_SLICE_MAX_BYTES), WEFT_OK);
    int64_t deadline = weft_deadline_ns(2 * CONFORMANCE_PATIENCE_MS);
    while (receiver->arrived < (uint64_t)slices || sender->done_ok < (uint64_t)slices) {
        for (int i = 0; i < 20; i++)
            sender->ops->progress(sender->transport);
        receiver->ops->progress(receiver->transport);
        conformance_check(receiver);
        assert_true(weft_now_ns() < deadline);
    }
    conformance_close(&group);
    free(payload);
}

static void reply(conformance_member *member, int peer, size_t bytes)
{
    int *left = member->user;
    if ((*left)-- > 0 && conformance_send(member, peer, bytes % 5000 + 1) != WEFT_OK)
        snprintf(member->wrong, sizeof member->wrong, "send inside arrived: %s", weft_last_error());
}

static void test_sends_from_inside_the_sink_work(void **state)
{
    conformance_group group;
    int left = amount(state, 2000);
    open_group(&group, state, 2, PLACE_MIXED);
    for (int i = 0; i < 2; i++) {
        group.members[i].on_arrived = reply;
        group.members[i].user = &left;
        send_ok(&group.members[i], !i, 10);
    }
    conformance_until(&group, left <= 0 && conformance_quiet(&group));
    conformance_close(&group);
}

static void test_one_way_traffic_makes_the_connection(void **state)
{
    for (int sender = 0; sender < 2; sender++) {
        conformance_group group;
        open_group(&group, state, 2, PLACE_MEMORY);
        for (int i = 0; i < 100; i++) /* nothing to do is fine, too */
            conformance_drive(&group);
        send_ok(&group.members[sender], !sender, 100);
        conformance_until(&group, conformance_quiet(&group));
        send_ok(&group.members[!sender], sender, 100);
        conformance_until(&group, conformance_quiet(&group));
        conformance_close(&group);
    }
}

/* All ranks send before anyone progresses, then they progress in random order: connections cross in every
 * way. */
static void test_simultaneous_first_sends_meet(void **state)
{
    for (int round = 0, rounds = amount(state, 30); round < rounds; round++) {
        conformance_group group;
        int ranks = 2 + round % 3;
        open_group(&group, state, ranks, PLACE_MIXED);
        for (int from = 0; from < ranks; from++) {
            for (int i = 0; i < (int)(conformance_random() % 4); i++)
                group.members[from].ops->progress(group.members[from].transport);
            for (int to = 0; to < ranks; to++) {
                if (to != from)
                    send_ok(&group.members[from], to, conformance_random() % 3000);
            }
        }
        for (int i = 0; i < 50; i++) {
            conformance_member *member = &group.members[conformance_random() % (unsigned)ranks];
            member->ops->progress(member->transport);
        }
        conformance_until(&group, conformance_quiet(&group));
        conformance_close(&group);
    }
}

static void test_eight_ranks_all_to_all(void **state)
{
    conformance_group group;
    open_group(&group, state, 8, PLACE_MIXED);
    conformance_traffic(&group, amount(state, 20), 100000);
    conformance_close(&group);
}

/* ---- threads: each rank drives its own instance ---- */

typedef struct driver {
    conformance_member *member;
    int rounds;
    bool sleeping;
    const char *problem;
} driver;

/* Sleeps as a waiting call would; false when the wake-up does not come. */
static bool sleep_for_work(conformance_member *member)
{
    struct pollfd fd = { member->ops->wait_fd(member->transport), POLLIN, 0 };
    if (fd.fd < 0 || member->ops->arm(member->transport) != WEFT_OK)
        return true;
    return poll(&fd, 1, CONFORMANCE_PATIENCE_MS) > 0;
}

/* Sends one slice, waits for one, again and again; the last ones are awaited too. */
static void *exchange(void *context)
{
    driver *d = context;
    conformance_member *member = d->member;
    int peer = !member->rank;
    int64_t deadline = weft_deadline_ns(2 * CONFORMANCE_PATIENCE_MS);
    for (int i = 0; i < d->rounds && !d->problem; i++) {
        if (conformance_send(member, peer, conformance_random() % 20000 >> conformance_random() % 10) !=
            WEFT_OK)
            d->problem = "send failed";
        while (!d->problem && (member->arrived <= (uint64_t)i || member->done_ok < member->sent)) {
            if (member->ops->progress(member->transport) == 0 && d->sleeping && !sleep_for_work(member))
                d->problem = "the wake-up was lost";
            if (weft_now_ns() > deadline || member->wrong[0] || member->peers[peer].failed)
                d->problem = "it does not go on";
        }
    }
    return NULL;
}

static void run_exchange(void **state, int rounds, bool sleeping)
{
    conformance_group group;
    pthread_t thread;
    open_group(&group, state, 2, PLACE_MIXED);
    driver drivers[2] = {{&group.members[0], rounds, sleeping, NULL},
                         {&group.members[1], rounds, sleeping, NULL}};
    assert_int_equal(pthread_create(&thread, NULL, exchange, &drivers[1]), 0);
    exchange(&drivers[0]);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) {
        conformance_check(&group.members[i]);
        if (drivers[i].problem)
            fail_msg("rank %d: %s", i, drivers[i].problem);
    }
    conformance_close(&group);
}

static void test_two_threads_exchange(void **state)
{
    for (int i = 0, rounds = amount(state, 10); i < rounds; i++) /* the beginning is what races */
        run_exchange(state, 20, false);
}

static void test_no_wake_up_is_lost(void **state)
{
    conformance_group group;
    open_group(&group, state, 2, PLACE_NULL);
    int fd = group.members[0].ops->wait_fd(group.members[0].transport);
    conformance_close(&group);
    if (fd < 0) {
        print_message("skipped: this transport wakes through the host's doorbell, not a descriptor\n");
        skip();
    }
    run_exchange(state, amount(state, 2000), true);
}

static void test_registered_memory_is_sent_from(void **state)
{
    enum { BYTES = 2 << 20 };
    conformance_group group;
    open_group(&group, state, 2, PLACE_MEMORY);
    conformance_member *member = &group.members[0];
    unsigned char *memory = malloc(BYTES);
    void *handle = NULL;
    assert_non_null(memory);
    for (size_t i = 0; i < BYTES; i++)
        memory[i] = (unsigned char)(i * 7 + i / 256);
    weft_status status = member->ops->mem_register(member->transport, memory, BYTES, &handle);
    if (status == WEFT_ERR_UNSUPPORTED)
        print_message("this transport registers no memory\n");
    else
        assert_int_equal(status, WEFT_OK);
    for (int round = 0; round < 2; round++) { /* registered, and afterwards again */
        for (size_t bytes = 1; bytes <= WEFT_SLICE_MAX_BYTES; bytes *= 32)
            assert_int_equal(conformance_send_from(member, 1, memory + bytes * 4096 % 1000, bytes), WEFT_OK);
        conformance_until(&group, conformance_quiet(&group));
        if (status == WEFT_OK && round == 0)
            member->ops->mem_deregister(member->transport, handle);
    }
    conformance_close(&group);
    free(memory);
}

/* ---- ends ---- */

static void test_flush_then_destroy_delivers_everything(void **state)
{
    for (int round = 0, rounds = amount(state, 8) > 2 ? 5 : 2; round < rounds; round++) {
        conformance_group group;
        open_group(&group, state, 3, PLACE_MIXED);
        conformance_traffic(&group, 2, 100);
        conformance_member *leaver = &group.members[2];
        uint64_t before = group.members[0].peers[2].arrived;
        for (int i = 0; i < 20; i++) {
            send_ok(leaver, 0, 1000);
            send_ok(leaver, 1, 1000);
            if (round % 2) /* data that nobody reads must not take with it what was sent */
                send_ok(&group.members[0], 2, 1000);
        }
        assert_int_equal(leaver->ops->flush(leaver->transport, CONFORMANCE_PATIENCE_MS), WEFT_OK);
        assert_int_equal(leaver->done_ok, leaver->sent);
        leaver->ops->destroy(leaver->transport);
        leaver->transport = NULL;
        conformance_until(&group, group.members[0].peers[2].failed && group.members[1].peers[2].failed);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(group.members[i].peers[2].arrived, before + 20);
            assert_int_equal(group.members[i].peers[2].failure, WEFT_ERR_PEER);
            assert_non_null(strstr(group.members[i].peers[2].reason, "rank 2"));
        }
        send_ok(&group.members[0], 1, 500); /* the others are not disturbed */
        conformance_until(&group, group.members[1].peers[0].arrived == group.members[0].peers[1].next_sent);
        assert_int_not_equal(conformance_send(&group.members[0], 2, 10), WEFT_OK);
        conformance_close(&group);
    }
}

static void test_flush_waits_no_longer_than_told(void **state)
{
    conformance_group group;
    open_group(&group, state, 2, PLACE_NULL);
    conformance_traffic(&group, 1, 10);
    for (int i = 0; i < 64; i++)
        send_ok(&group.members[0], 1, WEFT_SLICE_MAX_BYTES);
    assert_int_equal(group.members[0].ops->flush(group.members[0].transport, 20), WEFT_ERR_TIMEOUT);
    conformance_until(&group, conformance_quiet(&group));
    assert_int_equal(group.members[0].ops->flush(group.members[0].transport, CONFORMANCE_PATIENCE_MS),
                     WEFT_OK);
    conformance_close(&group);
}

/* What comes while a flush waits for something else is there for the next progress(), and who means to sleep is told. */
static void test_nothing_that_came_during_a_flush_is_slept_over(void **state)
{
    static const conformance_place places[] = {PLACE_MEMORY, PLACE_NULL, PLACE_ABSENT};
    for (int round = 0, rounds = amount(state, 24) >= 3 ? 28 : 6; round < rounds; round++) {
        conformance_group group;
        open_group(&group, state, 2, places[round % 3]);
        conformance_traffic(&group, 2, 100);
        conformance_member *here = &group.members[0], *there = &group.members[1];
        for (int i = 0; i < 1 + round % 4; i++) {
            send_ok(there, 0, WEFT_SLICE_MAX_BYTES / 2);
            send_ok(there, 0, 100);
        }
        for (int i = 0; i < 8 + round && !here->placed; i++) /* some have begun to come */
            conformance_drive(&group);
        send_ok(here, 1, WEFT_SLICE_MAX_BYTES);
        int64_t end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
        while (here->ops->flush(here->transport, 1) != WEFT_OK) {
            there->ops->progress(there->transport);
            assert_true(weft_now_ns() < end);
        }
        int fd = here->ops->wait_fd(here->transport);
        while (!conformance_quiet(&group)) {
            struct pollfd wake = {fd, POLLIN, 0};
            if (there->ops->progress(there->transport) > 0) /* it may be what the other one waits for */
                continue;
            if (fd < 0 || here->ops->arm(here->transport) != WEFT_OK || poll(&wake, 1, 1) > 0)
                here->ops->progress(here->transport);
            if (weft_now_ns() > end)
                fail_msg("round %d: %d slices have not arrived", round, (int)(there->sent - here->arrived));
        }
        conformance_close(&group);
    }
}

static void test_close_ends_queued_slices_once(void **state)
{
    for (int connected = 0; connected < 2; connected++) {
        conformance_group group;
        open_group(&group, state, 2, PLACE_NULL);
        conformance_member *member = &group.members[0];
        if (connected)
            conformance_traffic(&group, 1, 10);
        for (int i = 0; i < 50; i++)
            send_ok(member, 1, WEFT_SLICE_MAX_BYTES);
        uint64_t arrived = member->arrived;
        member->ops->close(member->transport);
        assert_int_equal(member->done_ok + member->done_error, member->sent);
        assert_true(member->done_error > 0);
        assert_int_equal(member->last_error, WEFT_ERR_ABORTED);
        member->ops->close(member->transport);
        assert_int_not_equal(conformance_send(member, 1, 10), WEFT_OK);
        assert_int_equal(member->ops->progress(member->transport), 0);
        assert_int_equal(member->arrived, arrived);
        assert_int_equal(member->peers[1].failed, 0);
        conformance_close(&group);
    }
}

static void test_a_peer_that_is_destroyed_under_way_is_reported(void **state)
{
    conformance_group group;
    open_group(&group, state, 2, PLACE_MEMORY);
    conformance_traffic(&group, 2, 1000);
    conformance_member *member = &group.members[0];
    for (int i = 0; i < 50; i++)
        send_ok(member, 1, WEFT_SLICE_MAX_BYTES);
    group.members[1].ops->progress(group.members[1].transport);
    group.members[1].ops->destroy(group.members[1].transport);
    group.members[1].transport = NULL;
    conformance_until(&group,
                      member->peers[1].failed && member->done_ok + member->done_error == member->sent);
    assert_int_equal(member->peers[1].failure, WEFT_ERR_PEER);
    assert_true(member->done_error > 0);
    for (int i = 0; i < 100; i++)
        conformance_drive(&group);
    conformance_close(&group);
}

/* The child sends without end until it is killed. */
static int send_for_ever(const conformance_subject *subject, int *link)
{
    conformance_member member;
    if (conformance_member_open(&member, subject, 1, 2, 99, PLACE_NULL, conformance_process_allgather,
                                link) != WEFT_OK)
        return 2;
    while (!member.peers[0].failed) {
        if (member.sent - member.done_ok < 8 && conformance_send(&member, 0, 30000) != WEFT_OK)
            return 3;
        member.ops->progress(member.transport);
    }
    return 0;
}

static void test_a_peer_that_is_killed_is_reported(void **state)
{
    if (!subject_of(state)->notices_death) {
        print_message("skipped: this transport leaves deaths to the control plane\n");
        skip();
    }
    conformance_process process;
    conformance_member member;
    conformance_fork(&process, send_for_ever, subject_of(state));
    assert_int_equal(conformance_member_open(&member, subject_of(state), 0, 2, 99, PLACE_MIXED,
                                             conformance_process_allgather, process.link), WEFT_OK);
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while (member.arrived < 100 && weft_now_ns() < deadline)
        member.ops->progress(member.transport);
    for (int i = 0; i < 20; i++)
        send_ok(&member, 1, WEFT_SLICE_MAX_BYTES);
    kill(process.pid, SIGKILL);
    while (!member.peers[1].failed && weft_now_ns() < deadline)
        member.ops->progress(member.transport);
    assert_int_equal(conformance_join(&process), -SIGKILL);
    assert_int_equal(member.peers[1].failed, 1);
    assert_int_equal(member.peers[1].failure, WEFT_ERR_PEER);
    assert_non_null(strstr(member.peers[1].reason, "rank 1"));
    assert_int_equal(member.done_ok + member.done_error, member.sent);
    conformance_member_close(&member);
    conformance_check(&member);
}

static void test_half_built_instances_can_be_destroyed(void **state)
{
    const weft_transport_ops *ops = weft_transport_find(subject_of(state)->name);
    conformance_group group;
    ops->destroy(NULL);
    open_group(&group, state, 3, PLACE_NULL);
    conformance_close(&group);
    open_group(&group, state, 3, PLACE_NULL); /* in the middle of connecting */
    send_ok(&group.members[0], 1, 100);
    send_ok(&group.members[2], 0, 100);
    group.members[1].ops->progress(group.members[1].transport);
    conformance_close(&group);
    open_group(&group, state, 2, PLACE_MEMORY); /* in the middle of a payload */
    send_ok(&group.members[0], 1, WEFT_SLICE_MAX_BYTES);
    for (int i = 0; i < 4; i++)
        conformance_drive(&group);
    send_ok(&group.members[0], 1, WEFT_SLICE_MAX_BYTES);
    conformance_close(&group);
}

static void test_garbage_is_no_address(void **state)
{
    conformance_group group;
    open_group(&group, state, 2, PLACE_NULL);
    conformance_member *member = &group.members[0];
    unsigned char good[WEFT_TRANSPORT_ADDRESS_MAX], bad[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof good;
    assert_int_equal(group.members[1].ops->address(group.members[1].transport, good, &bytes), WEFT_OK);
    assert_true(bytes > 0 && bytes <= sizeof good);
    weft_path_info info;
    assert_int_equal(member->ops->reachable(member->transport, 1, good, bytes, NULL), WEFT_OK);
    assert_int_equal(member->ops->reachable(member->transport, 1, good, 0, &info), WEFT_ERR_UNSUPPORTED);
    assert_int_equal(member->ops->reachable(member->transport, 1, good, bytes - 1, &info),
                     WEFT_ERR_UNSUPPORTED);
    for (int round = 0; round < 1000; round++) {
        size_t n = 1 + conformance_random() % sizeof bad;
        for (size_t i = 0; i < n; i++)
            bad[i] = (unsigned char)conformance_random();
        assert_int_equal(member->ops->reachable(member->transport, 1, bad, n, &info), WEFT_ERR_UNSUPPORTED);
        memcpy(bad, good, bytes); /* nearly right: any answer, but no harm */
        bad[conformance_random() % bytes] ^= (unsigned char)(1 + conformance_random() % 255);
        member->ops->reachable(member->transport, 1, bad, bytes, &info);
    }
    conformance_close(&group);
}

/* Some traffic whose every step may lack memory; errors are fine, crashes, leaks and silence are not. */
static void traffic_without_memory(conformance_group *group)
{
    for (int i = 0; i < 2; i++) {
        weft_status status = WEFT_OK;
        for (int n = 0; n < 3 && status == WEFT_OK; n++)
            status = conformance_send(&group->members[i], !i, n == 1 ? 100000 : 10);
    }
    conformance_member *a = &group->members[0], *b = &group->members[1];
    conformance_until(group, conformance_quiet(group) || a->peers[1].failed || b->peers[0].failed);
}

static void test_each_allocation_may_fail(void **state)
{
    bool clean = false;
    for (long n = 1; !clean; n++) {
        conformance_group group;
        assert_true(n < 10000);
        weft_alloc_fail_at(n, false);
        weft_status status = conformance_open(&group, subject_of(state), 2, PLACE_NULL);
        if (status == WEFT_OK) {
            traffic_without_memory(&group);
            clean = weft_alloc_count() < n;
        } else {
            assert_int_equal(status, WEFT_ERR_MEMORY);
            assert_true(weft_last_error()[0]);
        }
        weft_alloc_fail_at(0, false);
        if (status == WEFT_OK)
            conformance_close(&group);
    }
}

static void test_the_table_is_whole(void **state)
{
    const weft_transport_ops *ops = weft_transport_find(subject_of(state)->name);
    assert_non_null(ops);
    assert_string_equal(ops->name, subject_of(state)->name);
    assert_int_equal(ops->abi, WEFT_TRANSPORT_ABI);
    assert_true(ops->open && ops->address && ops->reachable && ops->connect && ops->send && ops->progress);
    assert_true(ops->wait_fd && ops->arm && ops->mem_register && ops->mem_deregister && ops->close &&
                ops->flush && ops->destroy);
    assert_null(weft_transport_find("no such transport"));
    assert_null(weft_transport_find(NULL));
}

int conformance_run(const char *group_name, const conformance_subject *subject)
{
    void *state = (void *)(uintptr_t)subject;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_the_table_is_whole, state),
        cmocka_unit_test_prestate(test_payloads_of_all_sizes_arrive_intact, state),
        cmocka_unit_test_prestate(test_thousands_of_small_slices_both_ways_keep_their_order, state),
        cmocka_unit_test_prestate(test_mixed_sizes_keep_their_order, state),
        cmocka_unit_test_prestate(test_a_slow_receiver_of_a_full_queue_gets_everything, state),
        cmocka_unit_test_prestate(test_sends_from_inside_the_sink_work, state),
        cmocka_unit_test_prestate(test_one_way_traffic_makes_the_connection, state),
        cmocka_unit_test_prestate(test_simultaneous_first_sends_meet, state),
        cmocka_unit_test_prestate(test_eight_ranks_all_to_all, state),
        cmocka_unit_test_prestate(test_two_threads_exchange, state),
        cmocka_unit_test_prestate(test_no_wake_up_is_lost, state),
        cmocka_unit_test_prestate(test_registered_memory_is_sent_from, state),
        cmocka_unit_test_prestate(test_flush_then_destroy_delivers_everything, state),
        cmocka_unit_test_prestate(test_flush_waits_no_longer_than_told, state),
        cmocka_unit_test_prestate(test_nothing_that_came_during_a_flush_is_slept_over, state),
        cmocka_unit_test_prestate(test_a_peer_that_is_killed_is_reported, state),
        cmocka_unit_test_prestate(test_close_ends_queued_slices_once, state),
        cmocka_unit_test_prestate(test_a_peer_that_is_destroyed_under_way_is_reported, state),
        cmocka_unit_test_prestate(test_half_built_instances_can_be_destroyed, state),
        cmocka_unit_test_prestate(test_garbage_is_no_address, state),
        cmocka_unit_test_prestate(test_each_allocation_may_fail, state),
    };
    return cmocka_run_group_tests_name(group_name, tests, NULL, NULL);
}

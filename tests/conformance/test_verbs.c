/* The verbs transport: the conformance suite over fake devices, which exist in this process only, and what only this transport
 * promises. With the argument "real": the suite over the devices that there are, as in the machine of tests/rdma. */
#include "conformance.h"

#ifdef WEFT_HAVE_VERBS
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "../fake_verbs.h"
#include "transport/registry.h"

static const conformance_subject subject = {.name = "verbs", .share = 4};
static const conformance_subject real = {.name = "verbs", .notices_death = true, .share = 10};

/* ---- two instances whose payloads land where the test says ---- */

typedef struct side {
    const weft_transport_ops *ops;
    weft_transport *transport;
    weft_endpoint *peer;
    unsigned char *landing;
    const void *landed;
    int arrived, done;
    weft_status failure;
    char reason[256];
} side;

static void *side_place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    (void)peer, (void)header, (void)bytes;
    return ((side *)context)->landing;
}

static void side_arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    side *s = context;
    (void)peer, (void)header, (void)bytes;
    s->landed = payload;
    s->arrived++;
}

static void side_failed(void *context, int peer, weft_status status, const char *reason)
{
    side *s = context;
    (void)peer;
    s->failure = status;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
}

static void side_done(weft_slice *slice, weft_status status)
{
    assert_int_equal(status, WEFT_OK);
    ((side *)slice->context)->done++;
}

static void side_done_anyhow(weft_slice *slice, weft_status status)
{
    (void)status;
    ((side *)slice->context)->done++;
}

static void open_sides(side sides[2])
{
    unsigned char address[2][WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes[2];
    memset(sides, 0, 2 * sizeof *sides);
    for (int i = 0; i < 2; i++) {
        side *s = &sides[i];
        weft_transport_config config = {.size = sizeof config, .rank = i, .ranks = 2, .job = 5, .dead_peer_ms = 10000,
                                        .sink = {s, side_place, side_arrived, side_failed},
                                        .fail = weft_transport_fail, .log = weft_transport_log};
        s->ops = weft_transport_find("verbs");
        assert_int_equal(s->ops->open(&config, &s->transport), WEFT_OK);
        bytes[i] = sizeof address[i];
        assert_int_equal(s->ops->address(s->transport, address[i], &bytes[i]), WEFT_OK);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(sides[i].ops->connect(sides[i].transport, !i, address[!i], bytes[!i], &sides[i].peer), WEFT_OK);
}

static void close_sides(side sides[2])
{
    for (int i = 0; i < 2; i++)
        sides[i].ops->destroy(sides[i].transport);
}

static void drive(side sides[2], int rounds)
{
    for (int i = 0; i < rounds; i++)
        for (int k = 0; k < 2; k++)
            sides[k].ops->progress(sides[k].transport);
}

/* One slice from rank 0 to rank 1, until both know. */
static void pass(side sides[2], const void *payload, size_t bytes)
{
    _Alignas(64) weft_slice slice = {.payload = payload, .bytes = bytes, .done = side_done, .context = &sides[0]};
    int arrived = sides[1].arrived, done = sides[0].done;
    assert_int_equal(sides[0].ops->send(sides[0].peer, &slice), WEFT_OK);
    int64_t end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while ((sides[1].arrived == arrived || sides[0].done == done) && weft_now_ns() < end)
        drive(sides, 1);
    assert_int_equal(sides[1].arrived, arrived + 1);
    assert_int_equal(sides[0].done, done + 1);
}

enum { LARGE = 1 << 20 };

static void test_allocated_memory_is_sent_from_and_written_in_place(void **state)
{
    (void)state;
    side sides[2];
    void *memory[2];
    open_sides(sides);
    pass(sides, "hello", 5);
    uint64_t registered = fake_verbs_registered_bytes();
    for (int i = 0; i < 2; i++)
        assert_int_equal(weft_mem_alloc(LARGE, &memory[i]), WEFT_OK);
    memset(memory[0], 7, LARGE);
    sides[1].landing = memory[1];
    for (int i = 0; i < 3; i++) {
        memset(memory[1], 0, LARGE);
        pass(sides, memory[0], LARGE);
        assert_ptr_equal(sides[1].landed, memory[1]);
        assert_memory_equal(memory[0], memory[1], LARGE);
    }
    /* Each once at each of its two ports, and no stage. */
    assert_int_equal(fake_verbs_registered_bytes(), registered + 2 * 2 * LARGE);
    for (int i = 0; i < 2; i++)
        assert_int_equal(weft_mem_free(memory[i]), WEFT_OK);
    drive(sides, 2000); /* that they have ended is noticed now and then */
    assert_int_equal(fake_verbs_registered_bytes(), registered);
    close_sides(sides);
}

static void test_registered_memory_is_known_until_it_is_deregistered(void **state)
{
    (void)state;
    side sides[2];
    void *handles[2];
    unsigned char *memory[2] = {malloc(LARGE), malloc(LARGE)};
    open_sides(sides);
    pass(sides, "hello", 5);
    uint64_t registered = fake_verbs_registered_bytes();
    memset(memory[0], 9, LARGE);
    memset(memory[1], 0, LARGE);
    for (int i = 0; i < 2; i++)
        assert_int_equal(i ? sides[i].ops->mem_register_dmabuf(sides[i].transport, FAKE_DMABUF, 0, memory[i], LARGE, &handles[i])
                           : sides[i].ops->mem_register(sides[i].transport, memory[i], LARGE, &handles[i]),
                         WEFT_OK);
    sides[1].landing = memory[1];
    pass(sides, memory[0], LARGE);
    assert_ptr_equal(sides[1].landed, memory[1]);
    assert_memory_equal(memory[0], memory[1], LARGE);
    assert_int_equal(fake_verbs_registered_bytes(), registered + 2 * 2 * LARGE);
    void *none;
    assert_int_equal(sides[0].ops->mem_register_dmabuf(sides[0].transport, 1, 0, memory[0], LARGE, &none), WEFT_ERR_UNSUPPORTED);
    assert_non_null(strstr(weft_last_error(), "fake0"));
    for (int i = 0; i < 2; i++)
        sides[i].ops->mem_deregister(sides[i].transport, handles[i]);
    assert_int_equal(fake_verbs_registered_bytes(), registered);
    memset(memory[1], 0, LARGE);
    pass(sides, memory[0], LARGE); /* by the stages now */
    assert_memory_equal(sides[1].landed, memory[0], LARGE);
    assert_true(fake_verbs_registered_bytes() > registered);
    close_sides(sides);
    free(memory[0]);
    free(memory[1]);
}

static void test_large_slices_share_the_rails(void **state)
{
    (void)state;
    side sides[2];
    unsigned char *memory = calloc(1, LARGE);
    open_sides(sides);
    uint64_t before[2] = {fake_verbs_sent(0), fake_verbs_sent(1)};
    for (int i = 0; i < 10; i++)
        pass(sides, memory, LARGE);
    for (int i = 0; i < 2; i++)
        assert_in_range(fake_verbs_sent(i) - before[i], 4 * LARGE, 6 * LARGE);
    close_sides(sides);
    free(memory);
}

static void expect_named_device(void (*event)(int device), const char *text)
{
    side sides[2];
    open_sides(sides);
    pass(sides, "hello", 5);
    event(1);
    int64_t end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while ((!sides[0].failure || !sides[1].failure) && weft_now_ns() < end)
        drive(sides, 1);
    for (int i = 0; i < 2; i++) { /* the one that looks first tells the other */
        assert_true(sides[i].failure == WEFT_ERR_SYSTEM || sides[i].failure == WEFT_ERR_PEER);
        assert_non_null(strstr(sides[i].reason, text));
    }
    close_sides(sides);
}

static void test_a_port_that_goes_down_is_named(void **state)
{
    (void)state;
    expect_named_device(fake_verbs_port_down, "fake1:1: the port went down");
}

static void test_a_device_that_breaks_is_named(void **state)
{
    (void)state;
    expect_named_device(fake_verbs_device_fatal, "fake1:1: fatal error");
}

static void test_settings_reach_queue_pairs_and_registrations(void **state)
{
    static const char *const settings[][2] = {{"WEFT_IB_TC", "104"}, {"WEFT_IB_SL", "3"}, {"WEFT_IB_GID_INDEX", "1"},
                                              {"WEFT_IB_MTU", "1024"}, {"WEFT_IB_TIMEOUT", "16"}, {"WEFT_IB_RELAXED", "1"}};
    (void)state;
    side sides[2];
    unsigned char *memory = calloc(1, LARGE);
    void *handle;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        setenv(settings[i][0], settings[i][1], 1);
    open_sides(sides);
    pass(sides, "hello", 5);
    fake_verbs_path path = fake_verbs_last_path();
    assert_int_equal(path.traffic_class, 104);
    assert_int_equal(path.service_level, 3);
    assert_int_equal(path.gid_index, 1);
    assert_int_equal(path.mtu, 1024);
    assert_int_equal(path.timeout, 16);
    assert_int_equal(path.pkey_index, 0);
    assert_in_range(path.retries, 1, 6); /* 7 is "for ever" for some */
    assert_int_equal(sides[0].ops->mem_register(sides[0].transport, memory, LARGE, &handle), WEFT_OK);
    assert_true(fake_verbs_last_access() & IBV_ACCESS_RELAXED_ORDERING);
    sides[0].ops->mem_deregister(sides[0].transport, handle);
    close_sides(sides);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        unsetenv(settings[i][0]);
    open_sides(sides);
    assert_int_equal(sides[0].ops->mem_register(sides[0].transport, memory, LARGE, &handle), WEFT_OK);
    assert_false(fake_verbs_last_access() & IBV_ACCESS_RELAXED_ORDERING);
    close_sides(sides);
    free(memory);
}

static void test_settings_out_of_range_are_named(void **state)
{
    static const char *const settings[][2] = {{"WEFT_IB_TC", "256"}, {"WEFT_IB_SL", "16"}, {"WEFT_IB_GID_INDEX", "256"},
                                              {"WEFT_IB_GID_INDEX", "-2"}, {"WEFT_IB_MTU", "1000"}, {"WEFT_IB_MTU", "8192"},
                                              {"WEFT_IB_TIMEOUT", "32"}, {"WEFT_IB_TIMEOUT", "0"}, {"WEFT_IB_PKEY", "65536"}};
    (void)state;
    const weft_transport_ops *ops = weft_transport_find("verbs");
    side unused;
    weft_transport_config config = {.size = sizeof config, .ranks = 2, .sink = {&unused, side_place, side_arrived, side_failed},
                                    .fail = weft_transport_fail, .log = weft_transport_log};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        char expected[64];
        weft_transport *transport = NULL;
        setenv(settings[i][0], settings[i][1], 1);
        weft_status status = ops->open(&config, &transport);
        unsetenv(settings[i][0]);
        assert_true(status == WEFT_ERR_INVALID || status == WEFT_ERR_PARSE);
        snprintf(expected, sizeof expected, " %s", settings[i][1]);
        assert_non_null(strstr(weft_last_error(), settings[i][0]));
        assert_non_null(strstr(weft_last_error(), expected));
    }
}

static void test_only_devices_that_may_be_used_are_opened_and_once(void **state)
{
    (void)state;
    const weft_transport_ops *ops = weft_transport_find("verbs");
    weft_transport *transport = NULL;
    side unused;
    weft_transport_config config = {.size = sizeof config, .ranks = 2, .sink = {&unused, side_place, side_arrived, side_failed},
                                    .rdma_ports = "=fake1:1", .fail = weft_transport_fail, .log = weft_transport_log};
    fake_verbs_use(3);
    assert_int_equal(ops->open(&config, &transport), WEFT_OK);
    assert_int_equal(fake_verbs_times_opened(0), 0);
    assert_int_equal(fake_verbs_times_opened(1), 1);
    assert_int_equal(fake_verbs_times_opened(2), 0);
    ops->destroy(transport);
    assert_int_equal(fake_verbs_open_objects(), 0);
    fake_verbs_use(2);
}

static void test_a_short_receive_queue_is_enough(void **state)
{
    (void)state;
    side sides[2];
    fake_verbs_use(2);
    fake_verbs_receive_queue_limit(250);
    open_sides(sides);
    pass(sides, "hello", 5);
    close_sides(sides);
    fake_verbs_use(2);
}

/* Some drivers forget what a queue pair has completed when it is destroyed, and the buffers with it. */
static void test_buffers_come_back_from_a_peer_that_is_given_up(void **state)
{
    enum { SLICES = 20 };
    static _Alignas(64) weft_slice slices[SLICES];
    (void)state;
    side sides[2];
    open_sides(sides);
    pass(sides, "hello", 5);
    drive(sides, 100);
    int before = fake_verbs_posted_buffers();
    for (int i = 0; i < SLICES; i++) {
        slices[i] = (weft_slice){.payload = "lost", .bytes = 4, .done = side_done_anyhow, .context = &sides[0]};
        assert_int_equal(sides[0].ops->send(sides[0].peer, &slices[i]), WEFT_OK);
    }
    for (int i = 0; i < 100; i++)
        sides[0].ops->progress(sides[0].transport);
    assert_int_equal(fake_verbs_posted_buffers(), before - SLICES);
    sides[1].ops->abandon(sides[1].peer);
    for (int i = 0; i < 100; i++)
        sides[1].ops->progress(sides[1].transport);
    assert_int_equal(fake_verbs_posted_buffers(), before);
    close_sides(sides);
}

static void test_ports_of_infiniband_need_no_ip_interface(void **state)
{
    (void)state;
    side sides[2];
    unsigned char *memory = calloc(1, LARGE);
    fake_verbs_use(2);
    fake_verbs_infiniband();
    open_sides(sides);
    pass(sides, memory, LARGE);
    fake_verbs_path path = fake_verbs_last_path();
    assert_int_equal(path.lid, 8); /* of the second rail, which is connected last */
    assert_false(path.global);
    assert_true(fake_verbs_sent(0) > LARGE / 4 && fake_verbs_sent(1) > LARGE / 4);
    close_sides(sides);
    fake_verbs_use(2);
    free(memory);
}

static void test_a_device_that_registers_nothing_is_named(void **state)
{
    (void)state;
    side sides[2];
    unsigned char *memory = calloc(1, LARGE);
    open_sides(sides);
    pass(sides, "hello", 5);
    drive(sides, 100); /* credit comes back */
    fake_verbs_refuse_registration(true);
    _Alignas(64) weft_slice slice = {.payload = memory, .bytes = LARGE, .done = side_done_anyhow, .context = &sides[0]};
    weft_log_set_level(WEFT_LOG_ERROR);
    sides[0].ops->send(sides[0].peer, &slice); /* taken or not: what counts is that the way is reported as broken */
    fake_verbs_refuse_registration(false);
    int64_t end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while (!sides[1].failure && weft_now_ns() < end)
        sides[1].ops->progress(sides[1].transport), sides[0].ops->progress(sides[0].transport);
    assert_int_equal(sides[0].failure, WEFT_ERR_SYSTEM);
    assert_non_null(strstr(sides[0].reason, "ulimit -l"));
    assert_non_null(strstr(sides[0].reason, "fake"));
    close_sides(sides);
    free(memory);
}

static void test_memory_that_is_gone_is_the_peers_end(void **state)
{
    (void)state;
    side sides[2];
    unsigned char *memory = calloc(1, LARGE);
    open_sides(sides);
    pass(sides, "hello", 5);
    fake_verbs_lose_memory(true);
    _Alignas(64) weft_slice slice = {.payload = memory, .bytes = LARGE, .done = side_done_anyhow, .context = &sides[0]};
    assert_int_equal(sides[0].ops->send(sides[0].peer, &slice), WEFT_OK);
    int64_t end = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    while (!sides[0].failure && weft_now_ns() < end)
        drive(sides, 1);
    fake_verbs_lose_memory(false);
    assert_int_equal(sides[0].failure, WEFT_ERR_PEER);
    assert_non_null(strstr(sides[0].reason, "rank 1"));
    close_sides(sides);
    free(memory);
}

/* ---- many peers and one receiver ---- */

static void test_many_senders_share_what_a_receiver_lends(void **state)
{
    enum { RANKS = 16, BURST = 400, ROUNDS = 4 };
    static conformance_group group;
    (void)state;
    assert_int_equal(conformance_open(&group, &subject, RANKS, PLACE_NULL), WEFT_OK);
    for (int round = 0; round < ROUNDS; round++) { /* in turn, so that who was lent much before gives it back */
        for (int from = 1 + round % 2; from < RANKS; from += 2)
            for (int i = 0; i < BURST; i++)
                assert_int_equal(conformance_send(&group.members[from], 0, (size_t)i % 200), WEFT_OK);
        conformance_until(&group, conformance_quiet(&group));
    }
    conformance_close(&group);
    assert_int_equal(fake_verbs_not_ready(), 0);
}

static void test_memory_hardly_grows_with_peers(void **state)
{
    enum { RANKS = 16, PORTS = 2 };
    static conformance_group group;
    (void)state;
    assert_int_equal(conformance_open(&group, &subject, RANKS, PLACE_NULL), WEFT_OK);
    uint64_t before = fake_verbs_registered_bytes();
    for (int from = 1; from < RANKS; from++)
        assert_int_equal(conformance_send(&group.members[from], 0, 100), WEFT_OK);
    conformance_until(&group, conformance_quiet(&group));
    /* 8 KiB for a peer, registered 256 KiB at a time: rank 0 has 15 peers, the others one. */
    assert_true(fake_verbs_registered_bytes() - before <= RANKS * 256 * 1024);
    conformance_close(&group);
}

static int run_own(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocated_memory_is_sent_from_and_written_in_place),
        cmocka_unit_test(test_registered_memory_is_known_until_it_is_deregistered),
        cmocka_unit_test(test_large_slices_share_the_rails),
        cmocka_unit_test(test_a_port_that_goes_down_is_named),
        cmocka_unit_test(test_a_device_that_breaks_is_named),
        cmocka_unit_test(test_settings_reach_queue_pairs_and_registrations),
        cmocka_unit_test(test_settings_out_of_range_are_named),
        cmocka_unit_test(test_only_devices_that_may_be_used_are_opened_and_once),
        cmocka_unit_test(test_a_short_receive_queue_is_enough),
        cmocka_unit_test(test_buffers_come_back_from_a_peer_that_is_given_up),
        cmocka_unit_test(test_ports_of_infiniband_need_no_ip_interface),
        cmocka_unit_test(test_a_device_that_registers_nothing_is_named),
        cmocka_unit_test(test_memory_that_is_gone_is_the_peers_end),
        cmocka_unit_test(test_many_senders_share_what_a_receiver_lends),
        cmocka_unit_test(test_memory_hardly_grows_with_peers),
    };
    return cmocka_run_group_tests_name("verbs, its own", tests, NULL, NULL);
}

/* What is to hold after each group: no message that found no buffer, nothing left open. */
static int left(void)
{
    bool nothing = !fake_verbs_not_ready() && !fake_verbs_open_objects() && !fake_verbs_registrations();
    if (!nothing)
        fprintf(stderr, "%llu messages found no buffer; left open: %d objects, %d registrations\n",
                (unsigned long long)fake_verbs_not_ready(), fake_verbs_open_objects(), fake_verbs_registrations());
    return !nothing;
}

int main(int count, char **arguments)
{
    int failed = 0;
    if (count > 1 && strcmp(arguments[1], "real") == 0)
        return conformance_run("verbs", &real);
    if (count > 1) /* "present": is it in this build? */
        return 0;
    fake_verbs_use(2);
    failed += run_own();
    failed += left();
    for (int devices = 1; devices <= 2; devices++) {
        fake_verbs_use(devices);
        failed += conformance_run(devices == 1 ? "verbs, a fake device" : "verbs, two fake devices", &subject);
        failed += left();
    }
    return failed;
}
#else
int main(void)
{
    puts("verbs is not in this build, for want of libibverbs-dev");
    return 77;
}
#endif

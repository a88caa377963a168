/* The transport "plugin" over NCCL network plugins: the suite over fake ones (fake_net.c), how they are found, and that each
 * version of the interface works. With arguments: the suite, shortened, over the plugins named
 * (as in WEFT_NET_PLUGIN). */
#define _GNU_SOURCE
#include "conformance.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[400], plugin[512];

static void configure(weft_transport_config *config)
{
    config->net_plugin = plugin;
}

static const conformance_subject subject = {.name = "plugin", .configure = configure, .notices_death = true};

static void use(const char *format, ...) WEFT_PRINTF(1, 2);
static void use(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(plugin, sizeof plugin, format, args);
    va_end(args);
}

static void expect_refusal(weft_status expected, const char *text)
{
    conformance_group group;
    assert_int_equal(conformance_open(&group, &subject, 2, PLACE_MIXED), expected);
    if (!strstr(weft_last_error(), text))
        fail_msg("'%s' does not say '%s'", weft_last_error(), text);
}

static void test_every_version_carries_slices(void **state)
{
    (void)state;
    for (int version = 6; version <= 12; version++) {
        conformance_group group;
        use("%s/libnccl-net-fake%d.so", folder, version);
        if (conformance_open(&group, &subject, 3, PLACE_MIXED) != WEFT_OK)
            fail_msg("version %d: %s", version, weft_last_error());
        conformance_traffic(&group, 30, 300000);
        conformance_close(&group);
    }
}

static void test_plugins_are_found_by_name_in_the_folders_of_weft(void **state)
{
    (void)state;
    conformance_group group;
    use("fake7");
    expect_refusal(WEFT_ERR_UNSUPPORTED, "libnccl-net-fake7.so");
    setenv("WEFT_PLUGIN_PATH", folder, 1);
    assert_int_equal(conformance_open(&group, &subject, 2, PLACE_MIXED), WEFT_OK);
    conformance_traffic(&group, 3, 100);
    conformance_close(&group);
    use("nowhere,,fake8"); /* the first that there is */
    assert_int_equal(conformance_open(&group, &subject, 2, PLACE_MIXED), WEFT_OK);
    conformance_close(&group);
    unsetenv("WEFT_PLUGIN_PATH");
}

static void test_what_is_no_plugin_is_refused(void **state)
{
    (void)state;
    use("/nowhere/at/all.so");
    expect_refusal(WEFT_ERR_UNSUPPORTED, "no NCCL network plugin '/nowhere/at/all.so'");
    use("nowhere");
    expect_refusal(WEFT_ERR_UNSUPPORTED, "libnccl-net-nowhere.so");
    use(",");
    expect_refusal(WEFT_ERR_INVALID, "names no plugin");
    use("libm.so.6");
    expect_refusal(WEFT_ERR_INVALID, "no ncclNetPlugin_v6 to _v12");
}

static void test_ranks_with_different_plugins_do_not_reach_each_other(void **state)
{
    (void)state;
    conformance_group a, b;
    unsigned char address[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof address;
    use("%s/libnccl-net-fake12.so", folder); /* it sends less at a time */
    assert_int_equal(conformance_open(&a, &subject, 2, PLACE_MIXED), WEFT_OK);
    use("%s/libnccl-net-fake10.so", folder);
    assert_int_equal(conformance_open(&b, &subject, 2, PLACE_MIXED), WEFT_OK);
    const weft_transport_ops *ops = b.members[0].ops;
    assert_int_equal(ops->address(a.members[1].transport, address, &bytes), WEFT_OK);
    assert_int_equal(ops->reachable(a.members[0].transport, 1, address, bytes, NULL), WEFT_OK);
    assert_int_equal(ops->reachable(b.members[0].transport, 1, address, bytes, NULL), WEFT_ERR_UNSUPPORTED);
    assert_non_null(strstr(weft_last_error(), "5000 bytes at a time on rank 1"));
    conformance_close(&a);
    conformance_close(&b);
}

/* What each device of the fake plugin of that version has sent of `slices` slices of 1 MiB, after 64 others, in MiB; device 3's
 * receiver does something in one of `slow` calls. */
static void send_much(int version, int slices, int slow, double sent[4])
{
    conformance_group group;
    use("%s/libnccl-net-fake%d.so", folder, version);
    if (conformance_open(&group, &subject, 2, PLACE_MEMORY) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    void *library = dlopen(plugin, RTLD_NOW | RTLD_NOLOAD);
    uint64_t (*count)(int), before[4];
    void (*make_slow)(int, int);
    assert_non_null(library);
    *(void **)(void *)&make_slow = dlsym(library, "fake_net_slow");
    make_slow(3, slow);
    *(void **)(void *)&count = dlsym(library, "fake_net_sent");
    for (int round = 0; round < 2; round++) { /* in the first one it finds out */
        for (int i = 0; i < 4; i++)
            before[i] = count(i);
        for (int i = 0; i < (round == 0 ? 64 : slices); i++)
            assert_int_equal(conformance_send(&group.members[0], 1, 1 << 20), WEFT_OK);
        conformance_until(&group, conformance_quiet(&group));
    }
    for (int i = 0; i < 4; i++)
        sent[i] = (double)(count(i) - before[i]) / (1 << 20);
    make_slow(3, 1); /* the library stays, and is used again */
    dlclose(library);
    conformance_close(&group);
}

static void test_slices_are_divided_among_devices_that_are_as_fast(void **state)
{
    (void)state;
    double sent[4];
    send_much(12, 16, 1, sent);
    assert_true(sent[1] > 2 && sent[3] > 2 && sent[0] == 0); /* by what each brings, which others on this machine disturb */
    setenv("WEFT_NET_DEVICES", "=fast2", 1);
    send_much(12, 16, 1, sent);
    assert_true(sent[1] == 0 && sent[3] > 15);
    setenv("WEFT_NET_DEVICES", "nothing", 1);
    expect_refusal(WEFT_ERR_INVALID, "WEFT_NET_DEVICES 'nothing'");
    expect_refusal(WEFT_ERR_INVALID, "slow, fast, fast2");
    unsetenv("WEFT_NET_DEVICES");
    send_much(11, 16, 1, sent); /* two devices in the same place are one */
    assert_true(sent[1] > 15 && sent[3] == 0);
}

/* Both say 100 Gbit/s. */
static void test_a_device_that_is_slower_than_it_says_gets_less(void **state)
{
    (void)state;
    double sent[4];
    send_much(12, 2, 64, sent);
    if (sent[3] > 0.5) /* by what they say it would be 1 */
        fail_msg("the slow device has sent %.1f MiB of 2", sent[3]);
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        use("%s", argv[i]);
        conformance_subject named = subject;
        named.share = 8;
        failed += conformance_run(argv[i], &named);
    }
    if (argc > 1)
        return failed;
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    assert_true(n > 0);
    *strrchr(folder, '/') = '\0';
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_version_carries_slices),
        cmocka_unit_test(test_plugins_are_found_by_name_in_the_folders_of_weft),
        cmocka_unit_test(test_what_is_no_plugin_is_refused),
        cmocka_unit_test(test_ranks_with_different_plugins_do_not_reach_each_other),
        cmocka_unit_test(test_slices_are_divided_among_devices_that_are_as_fast),
        cmocka_unit_test(test_a_device_that_is_slower_than_it_says_gets_less),
    };
    failed = cmocka_run_group_tests_name("NCCL plugins", tests, NULL, NULL);
    use("%s/libnccl-net-fake7.so", folder);
    failed += conformance_run("plugin, version 7, registered memory", &subject);
    use("%s/libnccl-net-fake12.so", folder);
    return failed + conformance_run("plugin, version 12, short messages", &subject);
}

/* The rate that traffic control holds an interface to, in a network namespace of the test's own. */
#define _GNU_SOURCE
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/traffic.h"

static const char *obstacle;

static void command(const char *text)
{
    char line[256];
    snprintf(line, sizeof line, "%s 2>/dev/null", text);
    if (!obstacle && system(line) != 0)
        obstacle = text;
}

static int enter_namespace(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        obstacle = "unshare --net (root)";
        return 0;
    }
    command("ip link add plain type veth peer name other");
    command("ip link add held type veth peer name other2");
    command("tc qdisc add dev held root tbf rate 250mbit burst 128kb latency 5ms");
    command("ip link add classes type veth peer name other3");
    command("tc qdisc add dev classes root handle 1: htb default 10");
    command("tc class add dev classes parent 1: classid 1:1 htb rate 300mbit ceil 300mbit");
    command("tc class add dev classes parent 1:1 classid 1:10 htb rate 100mbit ceil 200mbit");
    command("ip link add wide type veth peer name other4");
    command("tc qdisc add dev wide root tbf rate 100gbit burst 1mb latency 5ms");
    return 0;
}

static void need_interfaces(void)
{
    if (obstacle) {
        printf("skipped: '%s' does not work here\n", obstacle);
        skip();
    }
}

static void test_a_token_bucket_limits(void **state)
{
    (void)state;
    need_interfaces();
    assert_int_equal(weft_traffic_limit_Mbps(if_nametoindex("held")), 250);
}

static void test_of_classes_the_outermost_limits(void **state)
{
    (void)state;
    need_interfaces();
    assert_int_equal(weft_traffic_limit_Mbps(if_nametoindex("classes")), 300);
}

static void test_rates_beyond_32_bits_are_read(void **state)
{
    (void)state;
    need_interfaces();
    assert_int_equal(weft_traffic_limit_Mbps(if_nametoindex("wide")), 100000);
}

static void test_without_traffic_control_there_is_no_limit(void **state)
{
    (void)state;
    need_interfaces();
    assert_int_equal(weft_traffic_limit_Mbps(if_nametoindex("plain")), 0);
    assert_int_equal(weft_traffic_limit_Mbps(if_nametoindex("lo")), 0);
    assert_int_equal(weft_traffic_limit_Mbps(0), 0);
    assert_int_equal(weft_traffic_limit_Mbps(4000000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_bucket_limits),
        cmocka_unit_test(test_of_classes_the_outermost_limits),
        cmocka_unit_test(test_rates_beyond_32_bits_are_read),
        cmocka_unit_test(test_without_traffic_control_there_is_no_limit),
    };
    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}

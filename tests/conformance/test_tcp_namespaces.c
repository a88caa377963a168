/* The tcp transport between two network stacks: two processes in network namespaces of their own, joined by veth
 * pairs. IPv4, IPv6, link-local addresses, two rails, rails that fail, a host that vanishes. Needs root and
 * `ip`; the namespaces end with the processes.
 * mostly waits */
#define _GNU_SOURCE
#include "conformance.h"

#include <ifaddrs.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLICES = 60, LARGEST = 300000 };

/* What is set up and what happens; "%d" in a command is the rank + 1. */
typedef struct scene {
    int pairs;                 /* of veth: r0, r1 */
    const char *each[4];       /* commands on both sides */
    const char *cut_early;     /* command of rank 1 between opening and the first slice */
    const char *cut_late;      /* command of rank 1 after the traffic: rank 0 must notice */
    bool send_after;           /* ... while it sends */
    int64_t dead_peer_ms;
    bool both_rails;           /* must have carried something */
} scene;

static const scene *current;

static void configure(weft_transport_config *config)
{
    config->dead_peer_ms = current->dead_peer_ms ? current->dead_peer_ms : 10000;
}

static const conformance_subject subject = { .name = "tcp", .configure = configure };

static bool run(const char *format, int number)
{
    char command[256];
    snprintf(command, sizeof command, format, number);
    return system(command) == 0;
}

static bool meet(int *link)
{
    char own = 1, all[2];
    return conformance_process_allgather(link, &own, all, 1) == WEFT_OK;
}

static bool set_up_side(int rank)
{
    bool good = true;
    for (int i = 0; i < current->pairs; i++)
        good = good && run("ip link set r%d addrgenmode none up", i);
    for (size_t i = 0; i < ARRAY_LEN(current->each) && current->each[i]; i++)
        good = good && run(current->each[i], rank + 1);
    return good;
}

static bool is_running(const char *name)
{
    struct ifaddrs *list;
    bool running = false;
    if (getifaddrs(&list) != 0)
        return false;
    for (struct ifaddrs *item = list; item; item = item->ifa_next)
        running = running || (strcmp(item->ifa_name, name) == 0 && (item->ifa_flags & IFF_RUNNING));
    freeifaddrs(list);
    return running;
}

/* The kernel reports the carrier of a new pair some time after both ends are up: on a busy machine up to a second. */
static bool links_come_up(void)
{
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    for (int i = 0; i < current->pairs; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        while (!is_running(name)) {
            if (weft_now_ns() > deadline)
                return false;
            usleep(1000);
        }
    }
    return true;
}

static bool exchange(conformance_member *member)
{
    int peer = !member->rank;
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    for (int i = 0; i < SLICES; i++) {
        if (conformance_send(member, peer, conformance_random() % LARGEST) != WEFT_OK)
            return false;
    }
    while (member->arrived < SLICES || member->done_ok < SLICES) {
        member->ops->progress(member->transport);
        if (member->wrong[0] || member->peers[peer].failed || weft_now_ns() > deadline) {
            fprintf(stderr, "rank %d: %s%s, %d arrived\n", member->rank, member->wrong, member->peers[peer].reason,
                    (int)member->arrived);
            return false;
        }
    }
    return true;
}

/* Rank 1. Its exit code says how far it came. */
static int second(const conformance_subject *of, int *link)
{
    static conformance_member member;
    if (unshare(CLONE_NEWNET) != 0)
        return 10;
    if (!meet(link) || !meet(link) || !set_up_side(1) || !meet(link) || !links_come_up())
        return 11;
    if (conformance_member_open(&member, of, 1, 2, 5, PLACE_MIXED, conformance_process_allgather, link) != WEFT_OK) {
        fprintf(stderr, "rank 1: %s\n", weft_last_error());
        return 12;
    }
    if (current->cut_early && !run(current->cut_early, 2))
        return 13;
    if (!meet(link) || !exchange(&member))
        return 14;
    if (!meet(link))
        return 15;
    if (current->cut_late && (!run(current->cut_late, 2) || !meet(link)))
        return 16;
    /* Stays until rank 0 has seen what it is to see, but does not tell it anything any more. */
    meet(link);
    conformance_member_close(&member);
    return member.wrong[0] ? 17 : 0;
}

static uint64_t bytes_sent_over(const char *name)
{
    struct ifaddrs *list;
    uint64_t bytes = 0;
    assert_int_equal(getifaddrs(&list), 0);
    for (struct ifaddrs *item = list; item; item = item->ifa_next) {
        if (strcmp(item->ifa_name, name) == 0 && item->ifa_addr && item->ifa_addr->sa_family == AF_PACKET)
            bytes = ((struct rtnl_link_stats *)item->ifa_data)->tx_bytes;
    }
    freeifaddrs(list);
    return bytes;
}

static void notice_loss(conformance_member *member)
{
    int64_t deadline = weft_deadline_ns(CONFORMANCE_PATIENCE_MS);
    for (int i = 0; i < 10 && current->send_after; i++)
        assert_int_equal(conformance_send(member, 1, 1000), WEFT_OK);
    while (!member->peers[1].failed && weft_now_ns() < deadline) {
        member->ops->progress(member->transport);
        usleep(2000);
    }
    assert_int_equal(member->peers[1].failed, 1);
    assert_int_equal(member->peers[1].failure, WEFT_ERR_PEER);
    assert_non_null(strstr(member->peers[1].reason, "rank 1"));
}

static void play(const scene *played)
{
    static conformance_member member;
    conformance_process process;
    current = played;
    if (geteuid() != 0 || system("ip link show >/dev/null 2>&1") != 0) {
        print_message("skipped: network namespaces need root, and ip (package iproute2)\n");
        skip();
    }
    conformance_fork(&process, second, &subject);
    if (unshare(CLONE_NEWNET) != 0) {
        conformance_join(&process);
        print_message("skipped: network namespaces may not be made here\n");
        skip();
    }
    assert_true(meet(process.link));
    for (int i = 0; i < played->pairs; i++) {
        char command[128];
        snprintf(command, sizeof command, "ip link add r%d type veth peer name r%d netns %d", i, i, process.pid);
        assert_int_equal(system(command), 0);
    }
    assert_true(set_up_side(0));
    assert_true(meet(process.link));
    assert_true(meet(process.link));
    assert_true(links_come_up());
    if (conformance_member_open(&member, &subject, 0, 2, 5, PLACE_MIXED, conformance_process_allgather,
                                process.link) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    assert_true(meet(process.link));
    assert_true(exchange(&member));
    assert_true(meet(process.link));
    if (played->both_rails) {
        assert_true(bytes_sent_over("r0") > SLICES * LARGEST / 20);
        assert_true(bytes_sent_over("r1") > SLICES * LARGEST / 20);
    }
    if (played->cut_late) {
        assert_true(meet(process.link));
        notice_loss(&member);
    }
    conformance_member_close(&member);
    conformance_check(&member);
    assert_true(meet(process.link));
    assert_int_equal(conformance_join(&process), 0);
}

static void test_ipv4(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 1, .each = { "ip addr add 10.77.0.%d/24 dev r0" } });
}

static void test_ipv6(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 1, .each = { "ip addr add fd77::%d/64 dev r0 nodad" } });
}

static void test_ipv6_link_local_when_there_is_nothing_else(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 1, .each = { "ip addr add fe80::%d/64 dev r0 nodad" } });
}

static void test_two_rails_both_carry(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 2, .both_rails = true,
                   .each = { "ip addr add 10.77.0.%d/24 dev r0", "ip addr add 10.77.1.%d/24 dev r1" } });
}

/* Both NICs in one subnet: the dialling side binds to the interfaces; what the other sends follows its routes. */
static void test_two_rails_in_one_subnet_work(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 2,
                   .each = { "ip addr add 10.77.0.%d/24 dev r0", "ip addr add 10.77.0.1%d/24 dev r1" } });
}

static void test_one_rail_that_fails_before_it_is_used_does_not_matter(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 2, .dead_peer_ms = 1000, .cut_early = "ip link set r1 down",
                   .each = { "ip addr add 10.77.0.%d/24 dev r0", "ip addr add 10.77.1.%d/24 dev r1" } });
}

static void test_a_host_that_vanishes_while_slices_flow_is_noticed(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 1, .dead_peer_ms = 1000, .cut_late = "ip link set r0 down", .send_after = true,
                   .each = { "ip addr add 10.77.0.%d/24 dev r0" } });
}

static void test_a_host_that_vanishes_while_idle_is_noticed(void **state)
{
    (void)state;
    play(&(scene){ .pairs = 1, .dead_peer_ms = 1000, .cut_late = "ip link set r0 down",
                   .each = { "ip addr add 10.77.0.%d/24 dev r0" } });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_ipv6_link_local_when_there_is_nothing_else),
        cmocka_unit_test(test_two_rails_both_carry),
        cmocka_unit_test(test_two_rails_in_one_subnet_work),
        cmocka_unit_test(test_one_rail_that_fails_before_it_is_used_does_not_matter),
        cmocka_unit_test(test_a_host_that_vanishes_while_slices_flow_is_noticed),
        cmocka_unit_test(test_a_host_that_vanishes_while_idle_is_noticed),
    };
    return cmocka_run_group_tests_name("tcp between namespaces", tests, NULL, NULL);
}

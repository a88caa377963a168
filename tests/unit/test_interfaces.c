/* Which addresses the tcp transport uses, by WEFT_INTERFACES, and how two instances' addresses become rails. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "transport/near.h"
#include "transport/tcp/address.h"

static weft_tcp_sockaddr address_of(const char *text)
{
    weft_tcp_sockaddr address;
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
        address.v4.sin_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &address.v6.sin6_addr), 1);
        address.v6.sin6_family = AF_INET6;
    }
    return address;
}

static weft_tcp_interface interface_of(const char *name, const char *address)
{
    weft_tcp_interface i = { .up = true, .prefix = 24, .loopback = strcmp(name, "lo") == 0 };
    memcpy(i.name, name, strlen(name));
    i.address = address_of(address);
    return i;
}

/* "eth0 10.0.0.1, lo 127.0.0.1": what was chosen. */
static const char *chosen_of(const weft_tcp_interface *all, int count, const char *setting)
{
    static char text[512];
    weft_tcp_interface chosen[WEFT_TCP_ADDRESSES_MAX];
    int n = 0;
    size_t used = 0;
    text[0] = 0;
    if (weft_tcp_interfaces_choose(all, count, setting, chosen, &n) != WEFT_OK)
        return "none";
    for (int i = 0; i < n; i++) {
        char address[WEFT_TCP_ADDRESS_TEXT];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s", i ? ", " : "", chosen[i].name,
                                 weft_tcp_address_text(&chosen[i].address, address));
    }
    return text;
}

static void test_every_usable_interface_is_used_by_default(void **state)
{
    (void)state;
    weft_tcp_interface all[] = {
        interface_of("lo", "127.0.0.1"),       interface_of("lo", "::1"),
        interface_of("eth0", "10.0.0.1"),      interface_of("eth0", "10.9.0.1"),
        interface_of("eth0", "fe80::1"),       interface_of("eth0", "fd00::1"),
        interface_of("eth1", "169.254.3.3"),   interface_of("ib0", "10.1.0.1"),
        interface_of("down0", "10.2.0.1"),
    };
    all[8].up = false;
    assert_string_equal(chosen_of(all, 9, NULL), "eth0 10.0.0.1, eth0 fd00::1, ib0 10.1.0.1");
    assert_string_equal(chosen_of(all, 9, ""), "eth0 10.0.0.1, eth0 fd00::1, ib0 10.1.0.1");
    assert_string_equal(chosen_of(all, 9, "eth"), "eth0 10.0.0.1, eth0 fd00::1");
    assert_string_equal(chosen_of(all, 9, "ib,eth1"), "ib0 10.1.0.1");
    assert_string_equal(chosen_of(all, 9, "^eth"), "ib0 10.1.0.1");
    assert_string_equal(chosen_of(all, 9, "^eth,ib"), "lo 127.0.0.1, lo ::1");
    assert_string_equal(chosen_of(all, 9, "lo"), "lo 127.0.0.1, lo ::1");
    assert_string_equal(chosen_of(all, 9, "ib0,lo"), "lo 127.0.0.1, lo ::1, ib0 10.1.0.1");
}

static void test_whole_names(void **state)
{
    (void)state;
    weft_tcp_interface all[] = {interface_of("eth1", "10.0.0.1"), interface_of("eth10", "10.1.0.1"),
                                interface_of("ib0", "10.2.0.1")};
    assert_string_equal(chosen_of(all, 3, "eth1"), "eth1 10.0.0.1, eth10 10.1.0.1");
    assert_string_equal(chosen_of(all, 3, "=eth1"), "eth1 10.0.0.1");
    assert_string_equal(chosen_of(all, 3, "=eth10,ib0"), "eth10 10.1.0.1, ib0 10.2.0.1");
    assert_string_equal(chosen_of(all, 3, "^=eth1"), "eth10 10.1.0.1, ib0 10.2.0.1");
    assert_string_equal(chosen_of(all, 3, "=eth"), "none");
}

static void test_loopback_and_link_local_only_when_there_is_nothing_else(void **state)
{
    (void)state;
    weft_tcp_interface all[] = { interface_of("lo", "127.0.0.1"), interface_of("eth0", "fe80::7"),
                                 interface_of("eth0", "169.254.0.1") };
    assert_string_equal(chosen_of(all, 1, NULL), "lo 127.0.0.1");
    assert_string_equal(chosen_of(all, 3, NULL), "eth0 fe80::7");
    assert_string_equal(chosen_of(all, 3, "^eth"), "lo 127.0.0.1");
}

static void test_no_match_names_what_there_is(void **state)
{
    (void)state;
    weft_tcp_interface all[] = { interface_of("lo", "127.0.0.1"), interface_of("eth0", "10.0.0.1") };
    weft_tcp_interface chosen[WEFT_TCP_ADDRESSES_MAX];
    int count;
    all[1].up = false;
    assert_int_equal(weft_tcp_interfaces_choose(all, 2, "ib,mlx", chosen, &count), WEFT_ERR_INVALID);
    assert_non_null(strstr(weft_last_error(), "'ib,mlx'"));
    assert_non_null(strstr(weft_last_error(), "lo (127.0.0.1)"));
    assert_non_null(strstr(weft_last_error(), "eth0 (down, 10.0.0.1)"));
    assert_int_equal(weft_tcp_interfaces_choose(all, 2, "eth0", chosen, &count), WEFT_ERR_INVALID);
    assert_int_equal(weft_tcp_interfaces_choose(all, 0, NULL, chosen, &count), WEFT_ERR_UNSUPPORTED);
}

static void test_of_too_many_those_that_lead_out_are_used(void **state)
{
    (void)state;
    weft_tcp_interface all[2 * WEFT_TCP_INTERFACES_MAX], chosen[WEFT_TCP_ADDRESSES_MAX];
    int count = 2 * WEFT_TCP_INTERFACES_MAX, n = 0;
    for (int i = 0; i < count; i++) {
        char name[16], address[32];
        snprintf(name, sizeof name, "br%d", i);
        snprintf(address, sizeof address, "172.17.%d.1", i);
        all[i] = interface_of(name, address);
    }
    all[count - 2].outward = all[count - 1].outward = true;
    assert_int_equal(weft_tcp_interfaces_choose(all, count, NULL, chosen, &n), WEFT_OK);
    assert_int_equal(n, WEFT_TCP_INTERFACES_MAX);
    assert_string_equal(chosen[0].name, all[count - 2].name);
    assert_string_equal(chosen[1].name, all[count - 1].name);
    for (int i = 2; i < n; i++)
        assert_string_equal(chosen[i].name, all[i - 2].name);
    assert_int_equal(weft_tcp_interfaces_choose(all, count, "=br3", chosen, &n), WEFT_OK);
    assert_int_equal(n, 1);
}

static void test_this_machine_has_interfaces(void **state)
{
    (void)state;
    static weft_tcp_interface all[WEFT_TCP_CANDIDATES_MAX];
    int count = 0;
    assert_int_equal(weft_tcp_interfaces_list(all, WEFT_TCP_CANDIDATES_MAX, &count), WEFT_OK);
    assert_true(count > 0);
    assert_int_equal(weft_tcp_interfaces_list(all, 1, &count), WEFT_OK);
    assert_int_equal(count, 1);
}

static void test_port_ranges(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "x", "1-", "-5", "0-5", "9-8", "1-65536", "1-2-3", " 1-2", "1- 2", "99999999999999999999", "+1-2"};
    uint16_t low = 1, high = 1;
    assert_int_equal(weft_tcp_port_range_parse(NULL, &low, &high), WEFT_OK);
    assert_int_equal(low + high, 0);
    assert_int_equal(weft_tcp_port_range_parse("20000-20100", &low, &high), WEFT_OK);
    assert_int_equal(low, 20000);
    assert_int_equal(high, 20100);
    assert_int_equal(weft_tcp_port_range_parse("65535", &low, &high), WEFT_OK);
    assert_int_equal(low, 65535);
    assert_int_equal(high, 65535);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(weft_tcp_port_range_parse(bad[i], &low, &high), WEFT_ERR_PARSE);
        assert_non_null(strstr(weft_last_error(), bad[i]));
    }
}

/* ---- rails ---- */

static void add(weft_tcp_addresses *to, int interface, const char *name, const char *address, unsigned prefix,
                uint32_t speed)
{
    weft_tcp_entry *entry = &to->entries[to->count++];
    memset(entry, 0, sizeof *entry);
    entry->address = address_of(address);
    weft_tcp_set_port(&entry->address, (uint16_t)(4000 + to->count));
    entry->interface = interface;
    entry->prefix = prefix;
    entry->speed_Mbps = speed;
    entry->loopback = strcmp(name, "lo") == 0;
    entry->link_local = strncmp(address, "fe80", 4) == 0;
    entry->scope = 7;
    memcpy(entry->name, name, strlen(name) + 1);
}

/* "eth0->10.0.0.2:4001 ib0->...": the rails, after a trip of the peer's addresses through a blob. */
static const char *rails_of(const weft_tcp_addresses *mine, const weft_tcp_addresses *theirs)
{
    static char text[512];
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob, used = 0;
    weft_tcp_addresses received;
    weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX], back[WEFT_TCP_INTERFACES_MAX];
    int count = 0, back_count = 0;
    assert_int_equal(weft_tcp_addresses_encode(theirs, blob, &bytes), WEFT_OK);
    assert_int_equal(weft_tcp_addresses_decode(blob, bytes, &received), WEFT_OK);
    weft_status status = weft_tcp_rails_match(mine, &received, rails, &count);
    assert_int_equal(weft_tcp_rails_match(&received, mine, back, &back_count), status);
    assert_int_equal(count, back_count);
    if (status != WEFT_OK) {
        assert_int_equal(status, WEFT_ERR_UNSUPPORTED);
        return "none";
    }
    for (int i = 0; i < count; i++) {
        char address[WEFT_TCP_ADDRESS_TEXT];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s->%s", i ? " " : "", rails[i].interface,
                                 weft_tcp_address_text(&rails[i].remote, address));
    }
    return text;
}

static void test_rails_pair_interfaces_of_a_subnet(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 };
    add(&a, 0, "eth0", "10.0.0.1", 24, 10000);
    add(&a, 0, "eth0", "fd00::1", 64, 10000);
    add(&a, 1, "eth1", "10.0.1.1", 24, 10000);
    add(&b, 0, "eth1", "10.0.1.2", 24, 10000);
    add(&b, 1, "eth0", "10.0.0.2", 24, 10000);
    add(&b, 1, "eth0", "fd00::2", 64, 10000);
    assert_string_equal(rails_of(&a, &b), "eth0->10.0.0.2:4002 eth1->10.0.1.2:4001");
    add(&a, 2, "mgmt", "10.0.2.1", 24, 1000); /* too slow beside the others */
    add(&b, 2, "mgmt", "10.0.2.2", 24, 1000);
    assert_string_equal(rails_of(&a, &b), "eth0->10.0.0.2:4002 eth1->10.0.1.2:4001");
    b.host = 1; /* all within one host is one rail */
    assert_string_equal(rails_of(&a, &b), "eth0->10.0.0.2:4002");
}

static void test_rails_across_routers_pair_by_position(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 };
    add(&a, 0, "eth0", "10.0.0.1", 24, 0);
    add(&a, 1, "eth1", "10.0.1.1", 24, 0);
    add(&b, 0, "eth0", "10.7.0.2", 24, 0);
    add(&b, 1, "eth1", "10.7.1.2", 24, 0);
    assert_string_equal(rails_of(&a, &b), "eth0->10.7.0.2:4001 eth1->10.7.1.2:4002");
}

static void test_families_and_loopback(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 }, c = { .host = 2 }, d = { .host = 1 };
    add(&a, 0, "eth0", "fd00::1", 64, 0);
    add(&a, 1, "lo", "127.0.0.1", 8, 0);
    add(&b, 0, "eth0", "10.0.0.2", 24, 0);
    add(&b, 1, "lo", "127.0.0.1", 8, 0);
    assert_string_equal(rails_of(&a, &b), "none");
    add(&c, 0, "eth0", "fd00::2", 64, 0);
    assert_string_equal(rails_of(&a, &c), "eth0->[fd00::2]:4001");
    add(&d, 0, "lo", "127.0.0.1", 8, 0);
    assert_string_equal(rails_of(&a, &d), "lo->127.0.0.1:4001");
}

/* Container software gives its bridge the same address on every host: it leads nowhere. */
static void test_an_address_of_both_hosts_is_no_way_between_them(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 };
    add(&a, 0, "docker0", "172.17.0.1", 16, 0);
    add(&a, 1, "eth0", "10.0.0.1", 24, 0);
    add(&b, 0, "docker0", "172.17.0.1", 16, 0);
    add(&b, 1, "eth0", "10.0.0.2", 24, 0);
    assert_string_equal(rails_of(&a, &b), "eth0->10.0.0.2:4002");
}

static void test_link_local_addresses_get_the_own_scope(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 };
    weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX];
    int count;
    add(&a, 0, "eth0", "fe80::1", 64, 0);
    add(&b, 0, "eth0", "fe80::2", 64, 0);
    assert_int_equal(weft_tcp_rails_match(&a, &b, rails, &count), WEFT_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rails[0].remote.v6.sin6_scope_id, 7);
}

/* ---- near and far ---- */

/* Where the ranks of a host and its interfaces are: the number after the name is the interface's NUMA node, "?": not known. */
typedef struct made_host {
    int ranks, numa[8], self;
} made_host;

static void made_distances(void *context, const char *device, int *distance)
{
    const made_host *host = context;
    for (int i = 0; i < host->ranks; i++) {
        int numa = host->numa[(host->self + i) % host->ranks];
        distance[i] = device[3] == '?' || numa < 0 ? -1 : device[3] - '0' == numa ? 10 : 21;
    }
}

/* What each rank keeps to, such as "eth0 | eth1"; "" for all. */
static const char *division_of(made_host host, int count, const char *const *names, const uint32_t *speeds)
{
    static char text[256];
    size_t used = 0;
    text[0] = 0;
    for (host.self = 0; host.self < host.ranks; host.self++) {
        weft_transport_config config = { .host_ranks = host.ranks, .distances = made_distances, .distances_context = &host };
        weft_near_device device[8];
        int far = 0;
        for (int i = 0; i < count; i++)
            device[i] = (weft_near_device){ .name = names[i], .speed_Mbps = speeds ? speeds[i] : 0 };
        assert_int_equal(weft_near_divide(&config, device, count), WEFT_OK);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", host.self ? " |" : "");
        for (int i = 0; i < count; i++)
            far += device[i].far;
        for (int i = 0; i < count && far; i++)
            used += device[i].far ? 0 : (size_t)snprintf(text + used, sizeof text - used, " %s", device[i].name);
    }
    return text;
}

static void test_ranks_keep_to_their_nearest_interfaces(void **state)
{
    (void)state;
    static const char *const two[] = { "nic0", "nic1" }, *const four[] = { "nic0", "nic1", "nic0b", "nic1b" };
    static const uint32_t speeds[] = { 100000, 100000, 100000, 100000 };
    made_host host = { .ranks = 4, .numa = { 0, 0, 1, 1 } };
    assert_string_equal(division_of(host, 2, two, speeds), " nic0 | nic0 | nic1 | nic1");
    assert_string_equal(division_of(host, 2, two, NULL), " nic0 | nic0 | nic1 | nic1");
    assert_string_equal(division_of(host, 4, four, speeds), " nic0 nic0b | nic0 nic0b | nic1 nic1b | nic1 nic1b");
}

/* What is not known to be anywhere is for everyone: a bridge of container software. */
static void test_an_interface_of_unknown_place_is_for_all(void **state)
{
    (void)state;
    static const char *const names[] = { "nic0", "nic1", "nic?", "nic?" };
    made_host host = { .ranks = 2, .numa = { 0, 1 } };
    assert_string_equal(division_of(host, 4, names, NULL), " nic0 nic? nic? | nic1 nic? nic?");
}

static void test_no_interface_is_left_idle_for_the_sake_of_distance(void **state)
{
    (void)state;
    static const char *const two[] = {"nic0", "nic1"}, *const three[] = {"nic0", "nic0b", "nic1"},
                             *const same[] = {"nic0", "nic0b"};
    static const uint32_t unequal[] = { 100000, 400000 }, fitting[] = { 100000, 300000 };
    made_host alone = {.ranks = 1, .numa = {0}}, one_side = {.ranks = 2, .numa = {0, 0}},
              three_one = {.ranks = 4, .numa = {0, 0, 0, 1}}, one_three = {.ranks = 4, .numa = {0, 1, 1, 1}},
              each = {.ranks = 2, .numa = {0, 1}}, unbound = {.ranks = 2, .numa = {-1, 1}};
    assert_string_equal(division_of(alone, 2, two, NULL), "");
    assert_string_equal(division_of(one_side, 2, two, NULL), " |");
    assert_string_equal(division_of(three_one, 2, two, NULL), " | | |");
    assert_string_equal(division_of(each, 3, three, NULL), " |");
    assert_string_equal(division_of(each, 2, same, NULL), " |");
    assert_string_equal(division_of(each, 2, two, unequal), " |");
    assert_string_equal(division_of(one_three, 2, two, fitting), " nic0 | nic1 | nic1 | nic1");
    assert_string_equal(division_of(unbound, 2, two, NULL), " |");
}

static void test_rails_that_are_near_at_both_ends_come_first(void **state)
{
    (void)state;
    /* far at: nothing; mine of the first; both of the first; theirs of the first and mine of the second; all */
    static const struct {
        bool mine[2], theirs[2];
        const char *kept;
    } cases[] = {
        {{false, false}, {false, false}, "01"}, {{true, false}, {false, false}, "1"}, {{false, true}, {false, true}, "0"},
        {{true, false}, {false, true}, "01"},   {{true, true}, {true, true}, "01"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        weft_tcp_addresses a = { .host = 1 }, b = { .host = 2 }, received;
        add(&a, 0, "eth0", "10.0.0.1", 24, 0);
        add(&a, 1, "eth1", "10.0.1.1", 24, 0);
        add(&b, 0, "eth0", "10.0.0.2", 24, 0);
        add(&b, 1, "eth1", "10.0.1.2", 24, 0);
        for (int i = 0; i < 2; i++) {
            a.entries[i].far = cases[c].mine[i];
            b.entries[i].far = cases[c].theirs[i];
        }
        unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
        size_t bytes = sizeof blob;
        weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX];
        char kept[3] = "";
        int count;
        assert_int_equal(weft_tcp_addresses_encode(&b, blob, &bytes), WEFT_OK);
        assert_int_equal(weft_tcp_addresses_decode(blob, bytes, &received), WEFT_OK);
        assert_int_equal(weft_tcp_rails_match(&a, &received, rails, &count), WEFT_OK);
        assert_int_equal(count, 2);
        count = weft_tcp_rails_keep_near(rails, count);
        for (int i = 0; i < count; i++) {
            kept[i] = rails[i].interface[3];
            assert_true(rails[i].bound); /* the other one is there all the same */
        }
        assert_string_equal(kept, cases[c].kept);
    }
}

static void test_the_longest_blob_fits(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .host = 1 };
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    for (int i = 0; i < WEFT_TCP_ADDRESSES_MAX; i++)
        add(&a, i / 2, "eth0", i % 2 ? "fd00::1" : "10.0.0.1", 24, 0);
    assert_int_equal(weft_tcp_addresses_encode(&a, blob, &bytes), WEFT_OK);
    assert_true(bytes <= sizeof blob);
    bytes -= 1;
    assert_int_equal(weft_tcp_addresses_encode(&a, blob, &bytes), WEFT_ERR_INVALID);
}

/* In a sandbox without /proc all hosts would be one: 127.0.0.1 and the bridges of containers are the same on each. */
static void test_without_proc_a_host_is_known_by_its_addresses(void **state)
{
    (void)state;
    weft_tcp_addresses a = { .count = 0 }, b = { .count = 0 };
    add(&a, 0, "eth0", "10.0.0.1", 24, 0);
    add(&b, 0, "eth0", "10.0.0.2", 24, 0);
    add(&a, 1, "docker0", "172.17.0.1", 16, 0);
    add(&b, 1, "docker0", "172.17.0.1", 16, 0);
    assert_int_equal(weft_tcp_host_number("/proc", &a), weft_tcp_host_number("/proc", &b));
    assert_int_equal(weft_tcp_host_number("/nowhere", &a), weft_tcp_host_number("/nowhere", &a));
    assert_int_not_equal(weft_tcp_host_number("/nowhere", &a), weft_tcp_host_number("/nowhere", &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_usable_interface_is_used_by_default),
        cmocka_unit_test(test_whole_names),
        cmocka_unit_test(test_loopback_and_link_local_only_when_there_is_nothing_else),
        cmocka_unit_test(test_no_match_names_what_there_is),
        cmocka_unit_test(test_of_too_many_those_that_lead_out_are_used),
        cmocka_unit_test(test_this_machine_has_interfaces),
        cmocka_unit_test(test_port_ranges),
        cmocka_unit_test(test_rails_pair_interfaces_of_a_subnet),
        cmocka_unit_test(test_rails_across_routers_pair_by_position),
        cmocka_unit_test(test_families_and_loopback),
        cmocka_unit_test(test_an_address_of_both_hosts_is_no_way_between_them),
        cmocka_unit_test(test_link_local_addresses_get_the_own_scope),
        cmocka_unit_test(test_ranks_keep_to_their_nearest_interfaces),
        cmocka_unit_test(test_an_interface_of_unknown_place_is_for_all),
        cmocka_unit_test(test_no_interface_is_left_idle_for_the_sake_of_distance),
        cmocka_unit_test(test_rails_that_are_near_at_both_ends_come_first),
        cmocka_unit_test(test_without_proc_a_host_is_known_by_its_addresses),
        cmocka_unit_test(test_the_longest_blob_fits),
    };
    return cmocka_run_group_tests_name("interfaces", tests, NULL, NULL);
}

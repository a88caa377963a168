/* The decisions of the verbs transport, which need no device: ports of WEFT_IB_HCA, GIDs, pairs of ports, shares of rails,
 * address blobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#ifdef WEFT_HAVE_VERBS
#include <string.h>

#include "transport/spans.h"
#include "transport/verbs/ports.h"

/* ---- lists of devices ---- */

static bool allowed(const char *list, const char *device, int port)
{
    int position, weight;
    return weft_verbs_list_match(list, device, port, &position, &weight);
}

static void lists_name_devices_and_ports(void **state)
{
    (void)state;
    assert_true(allowed("", "mlx5_0", 1));
    assert_true(allowed(NULL, "mlx5_0", 1));
    assert_true(allowed("mlx5", "mlx5_0", 1));
    assert_false(allowed("mlx4", "mlx5_0", 1));
    assert_true(allowed("mlx5_1", "mlx5_10", 1));
    assert_false(allowed("=mlx5_1", "mlx5_10", 1));
    assert_true(allowed("=mlx5_1", "mlx5_1", 2));
    assert_true(allowed("mlx5_1:2", "mlx5_1", 2));
    assert_false(allowed("mlx5_1:2", "mlx5_1", 1));
    assert_false(allowed("^mlx5_1", "mlx5_1", 1));
    assert_true(allowed("^mlx5_1", "mlx5_0", 1));
    assert_true(allowed("^=mlx5_1:2", "mlx5_1", 1));
    assert_false(allowed("^mlx5,rxe", "rxe0", 1));
}

static void lists_give_order_and_weight(void **state)
{
    (void)state;
    int position, weight;
    assert_true(weft_verbs_list_match("rxe1*3,rxe0", "rxe0", 1, &position, &weight));
    assert_int_equal(position, 1);
    assert_int_equal(weight, 1);
    assert_true(weft_verbs_list_match("rxe1*3,rxe0", "rxe1", 1, &position, &weight));
    assert_int_equal(position, 0);
    assert_int_equal(weight, 3);
    assert_true(weft_verbs_list_match("=rxe1:1*1000", "rxe1", 1, &position, &weight));
    assert_int_equal(weight, 1000);
}

static void lists_that_are_none_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const good[] = {"", "mlx5", "^mlx5_0,rxe", "=a:1*2,b", "rxe0:255"};
    static const char *const bad[] = {",",     "mlx5,",     "rxe0:0", "rxe0:x", "rxe0:256", "rxe0*0",
                                      "rxe0*", "rxe0*1001", ":1",     "=",      "^"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(weft_verbs_list_check(good[i]), WEFT_OK);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(weft_verbs_list_check(bad[i]), WEFT_ERR_PARSE);
        assert_non_null(strstr(weft_last_error(), "WEFT_IB_HCA"));
    }
}

/* ---- GIDs ---- */

static weft_verbs_gid gid(int index, bool v2, unsigned char kind)
{
    weft_verbs_gid g = {.index = index, .roce_v2 = v2};
    if (kind == 'l') {
        memcpy(g.raw, "\xfe\x80\0\0\0\0\0\0\2\0\0\0\0\0\0\1", 16);
    } else if (kind == '6') {
        memcpy(g.raw, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    } else if (kind == '4') {
        memcpy(g.raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\1", 16);
    }
    return g;
}

static int chosen(const weft_verbs_gid *table, int count, bool ethernet, int wanted)
{
    int place;
    return weft_verbs_gid_choose(table, count, ethernet, wanted, &place) == WEFT_OK ? table[place].index : -1;
}

static void gids_of_roce_v2_and_ipv4_come_first(void **state)
{
    (void)state;
    /* As a ConnectX with an IPv4 and an IPv6 address has them: each for v1 and for v2. */
    const weft_verbs_gid table[] = {gid(0, false, 'l'), gid(1, true, 'l'), gid(2, false, '4'), gid(3, true, '4'),
                                    gid(4, false, '6'), gid(5, true, '6'), gid(6, true, '4'), gid(7, true, 0)};
    assert_int_equal(chosen(table, 8, true, -1), 3);
    assert_int_equal(chosen(table, 2, true, -1), 1);
    assert_int_equal(chosen(table + 4, 2, true, -1), 5);
    assert_int_equal(chosen(table + 2, 1, true, -1), 2);
    /* v2 with a link-local address before v1 with any. */
    const weft_verbs_gid mixed[] = {gid(0, false, '4'), gid(1, true, 'l')};
    assert_int_equal(chosen(mixed, 2, true, -1), 1);
    assert_int_equal(chosen(table, 8, false, -1), 0); /* InfiniBand: the port's own */
}

static void gids_can_be_forced_and_missing_ones_are_named(void **state)
{
    (void)state;
    const weft_verbs_gid table[] = {gid(0, false, 'l'), gid(3, true, '4'), gid(4, true, 0)};
    assert_int_equal(chosen(table, 3, true, 0), 0);
    assert_int_equal(chosen(table, 3, true, 3), 3);
    assert_int_equal(chosen(table, 3, true, 4), -1);
    assert_non_null(strstr(weft_last_error(), "WEFT_IB_GID_INDEX"));
    assert_int_equal(chosen(table, 3, true, 9), -1);
    assert_non_null(strstr(weft_last_error(), "9"));
    assert_int_equal(chosen(table, 0, true, -1), -1);
}

/* ---- pairs ---- */

static weft_verbs_port ethernet(unsigned char last, uint32_t speed)
{
    weft_verbs_port p = {.ethernet = true, .pkey = 0xffff, .mtu = 5, .speed_Mbps = speed, .weight = 1};
    memcpy(p.gid, gid(0, true, '4').raw, 16);
    p.gid[15] = last;
    return p;
}

static weft_verbs_port infiniband(unsigned char subnet, uint16_t key)
{
    weft_verbs_port p = {.pkey = key, .mtu = 5, .lid = 7, .speed_Mbps = 100000, .weight = 1};
    memcpy(p.gid, "\xfe\x80\0\0\0\0\0\0\1\2\3\4\5\6\7", 16);
    p.gid[7] = subnet;
    return p;
}

/* Both sides find the same rails, each from its point of view; how many. */
static int matched(const weft_verbs_port *a, int a_count, const weft_verbs_port *b, int b_count, weft_verbs_pair *pairs)
{
    weft_verbs_pair back[WEFT_VERBS_RAILS_MAX];
    int count, back_count;
    weft_status status = weft_verbs_pairs_match(a, a_count, b, b_count, true, pairs, &count);
    assert_int_equal(weft_verbs_pairs_match(b, b_count, a, a_count, false, back, &back_count), status);
    assert_int_equal(count, back_count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(pairs[i].mine, back[i].theirs);
        assert_int_equal(pairs[i].theirs, back[i].mine);
        assert_int_equal(pairs[i].weight, back[i].weight);
    }
    return count;
}

static void ports_are_paired_in_order(void **state)
{
    (void)state;
    const weft_verbs_port a[] = {ethernet(1, 100000), ethernet(2, 100000)}, b[] = {ethernet(3, 100000), ethernet(4, 25000)};
    weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX];
    assert_int_equal(matched(a, 2, b, 2, pairs), 2);
    assert_int_equal(pairs[0].mine + pairs[0].theirs, 0);
    assert_true(pairs[1].mine == 1 && pairs[1].theirs == 1);
    assert_true(pairs[0].weight == 4 * pairs[1].weight); /* as the slower side can */
    assert_int_equal(matched(a, 1, b, 2, pairs), 2);     /* one here, two there */
    assert_true(pairs[0].mine == 0 && pairs[1].mine == 0 && pairs[0].theirs != pairs[1].theirs);
}

/* Two ranks near the first of two ports each, then one near the first and one near the second. */
static void ports_near_at_both_ends_are_preferred(void **state)
{
    (void)state;
    weft_verbs_port a[2] = {ethernet(1, 100000), ethernet(2, 100000)}, b[2] = {ethernet(3, 100000), ethernet(4, 100000)};
    weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX];
    a[1].far = b[1].far = true;
    assert_int_equal(matched(a, 2, b, 2, pairs), 1);
    assert_true(pairs[0].mine == 0 && pairs[0].theirs == 0);
    b[1].far = false;
    b[0].far = true; /* rails stay what they are: both are near at one end */
    assert_int_equal(matched(a, 2, b, 2, pairs), 2);
    assert_true(pairs[0].mine == 0 && pairs[0].theirs == 0);
    weft_verbs_port eight[WEFT_VERBS_PORTS_MAX]; /* more than there are rails: the second half is used by who is near to it */
    for (int i = 0; i < WEFT_VERBS_PORTS_MAX; i++) {
        eight[i] = ethernet((unsigned char)i, 100000);
        eight[i].far = i < WEFT_VERBS_PORTS_MAX / 2;
    }
    assert_int_equal(matched(eight, WEFT_VERBS_PORTS_MAX, eight, WEFT_VERBS_PORTS_MAX, pairs), WEFT_VERBS_RAILS_MAX);
    for (int i = 0; i < WEFT_VERBS_RAILS_MAX; i++)
        assert_true(pairs[i].mine == WEFT_VERBS_PORTS_MAX / 2 + i && pairs[i].theirs == pairs[i].mine);
}

static void ports_that_cannot_talk_are_not_paired(void **state)
{
    (void)state;
    weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX];
    const weft_verbs_port e = ethernet(1, 1000), i1 = infiniband(1, 0xffff), i2 = infiniband(2, 0xffff);
    assert_int_equal(matched(&e, 1, &i1, 1, pairs), 0);
    assert_non_null(strstr(weft_last_error(), "WEFT_IB_"));
    assert_int_equal(matched(&i1, 1, &i2, 1, pairs), 0); /* two subnets */
    assert_int_equal(matched(&i1, 1, &i1, 1, pairs), 1);
    const weft_verbs_port full = infiniband(1, 0x8001), limited = infiniband(1, 0x0001), other = infiniband(1, 0x8002);
    assert_int_equal(matched(&full, 1, &limited, 1, pairs), 1);
    assert_int_equal(matched(&limited, 1, &limited, 1, pairs), 0);
    assert_int_equal(matched(&full, 1, &other, 1, pairs), 0);
    weft_verbs_port v6 = ethernet(1, 1000);
    memcpy(v6.gid, gid(0, true, '6').raw, 16);
    assert_int_equal(matched(&e, 1, &v6, 1, pairs), 0);
    const weft_verbs_port mine[] = {i1, e}, theirs[] = {e, i2}; /* what fits stands at different places */
    assert_int_equal(matched(mine, 2, theirs, 2, pairs), 1);
    assert_true(pairs[0].mine == 1 && pairs[0].theirs == 0);
}

/* ---- shares ---- */

static void shares_follow_weights_and_load(void **state)
{
    (void)state;
    const uint32_t equal[] = {10, 10}, unequal[] = {30, 10};
    const uint64_t idle[] = {0, 0}, busy[] = {1 << 20, 0};
    uint32_t spans[2];
    weft_spans_divide(1 << 20, equal, idle, 2, spans);
    assert_int_equal(spans[0], 1 << 19);
    assert_int_equal(spans[1], 1 << 19);
    weft_spans_divide(1 << 20, unequal, idle, 2, spans);
    assert_int_equal(spans[0], 3 << 18);
    weft_spans_divide(1 << 20, equal, busy, 2, spans); /* the idle one catches up */
    assert_int_equal(spans[1], 1 << 20);
    weft_spans_divide(20000, equal, busy, 2, spans); /* too little to be divided */
    assert_int_equal(spans[0], 0);
    assert_int_equal(spans[1], 20000);
}

static void shares_add_up(void **state)
{
    (void)state;
    uint64_t random = 12345;
    for (int round = 0; round < 20000; round++) {
        uint32_t weights[4], spans[4];
        uint64_t load[4], sum = 0;
        random = random * 6364136223846793005u + 1442695040888963407u;
        int rails = 1 + (int)(random >> 60) % 4;
        size_t bytes = (size_t)(random >> 30) % ((1 << 20) + 1);
        for (int i = 0; i < rails; i++) {
            weights[i] = 1 + (uint32_t)(random >> (8 * i)) % 1000;
            load[i] = (random >> (5 * i)) % (4 << 20);
        }
        weft_spans_divide(bytes, weights, load, rails, spans);
        for (int i = 0; i < rails; i++)
            sum += spans[i];
        assert_int_equal(sum, bytes);
    }
}

/* ---- blobs ---- */

static void addresses_survive_the_way(void **state)
{
    (void)state;
    unsigned char blob[600];
    size_t bytes = sizeof blob;
    weft_verbs_address out = {.count = 2, .ports = {ethernet(1, 100000), infiniband(3, 0x8001)},
                              .control = (const unsigned char *)"control", .control_bytes = 7}, in;
    assert_int_equal(weft_verbs_address_encode(&out, blob, &bytes), WEFT_OK);
    assert_int_equal(weft_verbs_address_decode(blob, bytes, &in), WEFT_OK);
    assert_int_equal(in.count, 2);
    assert_memory_equal(&in.ports[0], &out.ports[0], offsetof(weft_verbs_port, name));
    assert_memory_equal(&in.ports[1], &out.ports[1], offsetof(weft_verbs_port, name));
    assert_int_equal(in.control_bytes, 7);
    assert_memory_equal(in.control, "control", 7);
    for (size_t i = 0; i < bytes; i++) {
        blob[i] ^= 1;
        assert_int_equal(weft_verbs_address_decode(blob, bytes, &in), WEFT_ERR_UNSUPPORTED);
        blob[i] ^= 1;
        assert_int_equal(weft_verbs_address_decode(blob, i, &in), WEFT_ERR_UNSUPPORTED);
    }
    bytes = 40;
    assert_int_equal(weft_verbs_address_encode(&out, blob, &bytes), WEFT_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_name_devices_and_ports), cmocka_unit_test(lists_give_order_and_weight),
        cmocka_unit_test(lists_that_are_none_are_refused_by_name), cmocka_unit_test(gids_of_roce_v2_and_ipv4_come_first),
        cmocka_unit_test(gids_can_be_forced_and_missing_ones_are_named), cmocka_unit_test(ports_are_paired_in_order),
        cmocka_unit_test(ports_near_at_both_ends_are_preferred),
        cmocka_unit_test(ports_that_cannot_talk_are_not_paired), cmocka_unit_test(shares_follow_weights_and_load),
        cmocka_unit_test(shares_add_up), cmocka_unit_test(addresses_survive_the_way),
    };
    return cmocka_run_group_tests_name("verbs", tests, NULL, NULL);
}
#else
#include <stdio.h>

int main(void)
{
    puts("verbs is not in this build, for want of libibverbs-dev");
    return 77;
}
#endif

/* Rings and trees: they join every end once, no link carries more than it can, and the totals are those that are possible. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "topology/graph.h"

#define MACHINES "tests/golden/topology/"

static weft_topology *load(const char *path)
{
    weft_topology *t = NULL;
    if (weft_topology_load(path, &t) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    return t;
}

static weft_channels *search(const weft_topology *t, weft_channel_shape shape, bool network)
{
    weft_channel_request request = {.size = sizeof request, .shape = shape, .network = network};
    weft_channels *c = NULL;
    if (weft_topology_search(t, &request, &c) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    return c;
}

static void add_path(const weft_topology *t, double *load_of, int from, int to, double bandwidth)
{
    weft_topology_path path;
    assert_int_equal(weft_topology_find_path(t, from, to, &path), WEFT_OK);
    assert_true(path.hops > 0);
    for (int i = 0, at = from; i < path.hops; i++) {
        const weft_topology_edge *e = weft_topology_get_edge(t, path.edge[i]);
        load_of[path.edge[i] * 2 + (e->b == at)] += bandwidth;
        at = e->a == at ? e->b : e->a;
    }
}

/* Worked out anew from the paths: not what the search believed. */
static void check_channels(const weft_topology *t, const weft_channels *c)
{
    size_t links = (size_t)weft_topology_edge_count(t) * 2;
    double *load_of = calloc(links, sizeof *load_of), *nic_load = calloc((size_t)weft_topology_node_count(t), sizeof *nic_load);
    assert_non_null(load_of);
    assert_non_null(nic_load);
    assert_true(fabs(c->total_Bps - c->count * c->bandwidth_Bps) < 1);
    for (int k = 0; k < c->count; k++) {
        const int *order = c->order + k * c->ends;
        for (int i = 0; i < c->ends; i++)
            for (int j = 0; j < i; j++)
                assert_int_not_equal(order[i], order[j]);
        for (int i = 0; i < c->ends; i++) {
            int parent = c->parent ? c->parent[k * c->ends + i] : i - 1;
            assert_true(parent < i);
            if (parent >= 0)
                add_path(t, load_of, order[parent], order[i], c->bandwidth_Bps);
        }
        int last = order[c->parent ? 0 : c->ends - 1];
        if (c->nic[k] >= 0) {
            add_path(t, load_of, c->nic[k], order[0], c->bandwidth_Bps);
            add_path(t, load_of, last, c->nic[k], c->bandwidth_Bps);
            nic_load[c->nic[k]] += c->bandwidth_Bps;
        } else if (!c->parent) {
            add_path(t, load_of, last, order[0], c->bandwidth_Bps);
        }
    }
    for (size_t i = 0; i < links; i++)
        if (load_of[i] > weft_topology_get_edge(t, (int)(i / 2))->bandwidth_Bps * 1.001)
            fail_msg("edge %zu carries %g of %g", i / 2, load_of[i], weft_topology_get_edge(t, (int)(i / 2))->bandwidth_Bps);
    for (int i = 0; i < weft_topology_node_count(t); i++)
        assert_true(nic_load[i] <= weft_topology_nic_bandwidth(t, i) * 1.001);
    free(load_of);
    free(nic_load);
}

static void no_link_carries_more_than_it_can(void **state)
{
    (void)state;
    static const char *const files[] = {"switched8.xml", "cubemesh8.xml",       "xgmi4.xml",
                                        "skeleton.xml",  "sockets2.hwloc2.xml", "matrix.txt"};
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        char path[128];
        snprintf(path, sizeof path, MACHINES "%s", files[f]);
        weft_topology *t = load(path);
        for (int shape = WEFT_CHANNEL_RING; shape <= WEFT_CHANNEL_TREE; shape++) {
            for (int network = 0; network < 2; network++) {
                weft_channels *c = search(t, (weft_channel_shape)shape, network != 0);
                assert_true(c->count > 0);
                check_channels(t, c);
                weft_channels_free(c);
            }
        }
        weft_topology_free(t);
    }
}

static void totals_are_what_the_links_allow(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        weft_channel_shape shape;
        double total_Bps;
    } expected[] = {
        /* All 18 NVLinks of every GPU; six links each in a cube mesh, in three rings and their reverse; three xGMI links each. */
        {MACHINES "switched8.xml", WEFT_CHANNEL_RING, 18 * 20.6e9},
        {MACHINES "cubemesh8.xml", WEFT_CHANNEL_RING, 6 * 20e9},
        {MACHINES "xgmi4.xml", WEFT_CHANNEL_RING, 3 * 48e9},
        /* Every tree spares its root the way in: 4/3 of what each end can take. */
        {MACHINES "xgmi4.xml", WEFT_CHANNEL_TREE, 4 * 48e9},
        /* Two sockets of 10 GB/s between them. */
        {MACHINES "skeleton.xml", WEFT_CHANNEL_RING, 10e9},
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        weft_topology *t = load(expected[i].file);
        weft_channels *c = search(t, expected[i].shape, false);
        if (fabs(c->total_Bps - expected[i].total_Bps) > 1e6)
            fail_msg("%s: %g, not %g", expected[i].file, c->total_Bps, expected[i].total_Bps);
        weft_channels_free(c);
        weft_topology_free(t);
    }
}

static void nvlink_alone_where_it_joins_all(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "cubemesh8.xml");
    weft_channels *c = search(t, WEFT_CHANNEL_RING, false);
    assert_int_equal(c->worst, WEFT_PATH_NVL);
    weft_channels_free(c);
    weft_topology_free(t);
}

/* A ring over two sockets crosses between them once there and once back. */
static void slow_links_are_crossed_as_seldom_as_can_be(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "skeleton.xml");
    weft_channels *c = search(t, WEFT_CHANNEL_RING, false);
    for (int k = 0; k < c->count; k++) {
        int crossings = 0;
        for (int i = 0; i < c->ends; i++) {
            int a = c->order[k * c->ends + i], b = c->order[k * c->ends + (i + 1) % c->ends];
            crossings += weft_topology_enclosing(t, a, WEFT_NODE_NUMA) != weft_topology_enclosing(t, b, WEFT_NODE_NUMA);
        }
        assert_int_equal(crossings, 2);
    }
    weft_channels_free(c);
    weft_topology_free(t);
}

static void the_same_machine_has_the_same_channels(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "cubemesh8.xml");
    weft_channels *a = search(t, WEFT_CHANNEL_TREE, false), *b = search(t, WEFT_CHANNEL_TREE, false);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->order, b->order, (size_t)(a->count * a->ends) * sizeof(int));
    weft_channels_free(a);
    weft_channels_free(b);
    weft_topology_free(t);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "xgmi4.xml");
    weft_channels *c = NULL;
    int gpu = weft_topology_find(t, "GPU1"), twice[] = {gpu, gpu}, beyond[] = {gpu, 1 << 20};
    weft_channel_request request = {.size = sizeof request, .end = twice, .ends = 2};
    assert_int_equal(weft_topology_search(t, &request, &c), WEFT_ERR_INVALID);
    request.end = beyond;
    assert_int_equal(weft_topology_search(t, &request, &c), WEFT_ERR_INVALID);
    request.size = 1;
    assert_int_equal(weft_topology_search(t, &request, &c), WEFT_ERR_INVALID);
    assert_null(c);
    weft_topology_free(t);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "xgmi4.xml");
    weft_status status = WEFT_ERR_MEMORY;
    /* Everything is taken before the search; in it a ring that finds no memory is one that is not found. */
    for (long n = 1; status != WEFT_OK; n++) {
        weft_channel_request request = {.size = sizeof request, .shape = WEFT_CHANNEL_TREE, .network = true};
        weft_channels *c = NULL;
        weft_alloc_fail_at(n, false);
        status = weft_topology_search(t, &request, &c);
        weft_alloc_fail_at(0, false);
        assert_true(status == WEFT_OK ? c != NULL : status == WEFT_ERR_MEMORY && c == NULL);
        weft_channels_free(c);
        assert_true(n < 10000);
    }
    weft_topology_free(t);
}

static void graphs_of_nccl_are_read(void **state)
{
    (void)state;
    weft_nccl_graph graph[4];
    int count = 0;
    assert_int_equal(weft_nccl_graph_load(MACHINES "refused-graph.xml", graph, 4, &count), WEFT_OK);
    assert_int_equal(count, 1);
    assert_int_equal(graph[0].pattern, 4);
    assert_int_equal(graph[0].channels, 1);
    assert_true(graph[0].intra_Bps == 12e9 && !graph[0].network);
    assert_int_equal(weft_nccl_graph_load(MACHINES "xgmi4.xml", graph, 4, &count), WEFT_ERR_PARSE);
    assert_int_equal(weft_nccl_graph_load(MACHINES "none.xml", graph, 4, &count), WEFT_ERR_SYSTEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_link_carries_more_than_it_can),
        cmocka_unit_test(totals_are_what_the_links_allow),
        cmocka_unit_test(nvlink_alone_where_it_joins_all),
        cmocka_unit_test(slow_links_are_crossed_as_seldom_as_can_be),
        cmocka_unit_test(the_same_machine_has_the_same_channels),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(graphs_of_nccl_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

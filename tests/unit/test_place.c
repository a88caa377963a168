/* Where ranks run: from the affinity of the thread and a made-up /sys, from machine files, and what a communicator
 * makes of it. */
#define _GNU_SOURCE
#include "../checks.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/comm.h"

/* ---- a /sys of our own --------------------------------------------------------------------------- */

static char root[64];

/* Makes the file and the folders on the way to it. */
static void put(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *text, const char *format, ...)
{
    char path[256];
    int head = snprintf(path, sizeof path, "%s", root);
    va_list args;
    va_start(args, format);
    vsnprintf(path + head, sizeof path - (size_t)head, format, args);
    va_end(args);
    for (char *slash = strchr(path + head + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/weft-test-place-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

/* A processor's caches of level 1, 2 and 3; the last is shared by `shared`. */
static void put_caches(int cpu, const char *shared)
{
    char own[16];
    snprintf(own, sizeof own, "%d\n", cpu);
    for (int i = 0; i < 4; i++) {
        put(i < 2 ? "1\n" : i == 2 ? "2\n" : "3\n", "/sys/devices/system/cpu/cpu%d/cache/index%d/level", cpu, i);
        put(i < 3 ? own : shared, "/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, i);
    }
}

static cpu_set_t before;

static int keep_affinity(void)
{
    return sched_getaffinity(0, sizeof before, &before);
}

static int leave(void **state)
{
    return remove_root(state) | sched_setaffinity(0, sizeof before, &before);
}

/* The n-th processor that the test may use; -1: there are fewer. */
static int own_cpu(int n)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before) && n-- == 0)
            return cpu;
    return -1;
}

static void run_on(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static void a_bound_thread_is_found(void **state)
{
    (void)state;
    int cpu = own_cpu(0);
    char list[32];
    snprintf(list, sizeof list, "%d,%d-%d\n", cpu, cpu + 4, cpu + 7);
    put_caches(cpu, list);
    put(list, "/sys/devices/system/cpu/cpu%d/topology/core_siblings_list", cpu);
    put("", "/sys/devices/system/cpu/cpu%d/node3/x", cpu);
    put(list, "/sys/devices/system/node/node3/cpulist");
    run_on(cpu);
    weft_location here;
    weft_location_read(root, &here);
    assert_int_equal(here.package, cpu);
    assert_int_equal(here.numa, 3);
    assert_int_equal(here.cache, cpu);
}

static void a_thread_that_may_run_on_two_is_on_none(void **state)
{
    (void)state;
    if (own_cpu(1) < 0) {
        print_message("skipped: one processor\n");
        skip();
    }
    int cpu = own_cpu(0);
    char one[16], both[32];
    snprintf(one, sizeof one, "%d\n", cpu);
    snprintf(both, sizeof both, "%d,%d\n", cpu, own_cpu(1));
    put_caches(cpu, one);
    put(both, "/sys/devices/system/cpu/cpu%d/topology/core_siblings_list", cpu);
    put("", "/sys/devices/system/cpu/cpu%d/node0/x", cpu);
    put(one, "/sys/devices/system/node/node0/cpulist");
    cpu_set_t two;
    CPU_ZERO(&two);
    CPU_SET(cpu, &two);
    CPU_SET(own_cpu(1), &two);
    assert_int_equal(sched_setaffinity(0, sizeof two, &two), 0);
    weft_location here;
    weft_location_read(root, &here);
    assert_int_equal(here.package, cpu < own_cpu(1) ? cpu : own_cpu(1));
    assert_int_equal(here.numa, -1);
    assert_int_equal(here.cache, -1);
}

static void without_a_sysfs_nothing_is_known(void **state)
{
    (void)state;
    weft_location here;
    weft_location_read(root, &here);
    assert_int_equal(here.package, -1);
    assert_int_equal(here.numa, -1);
    assert_int_equal(here.cache, -1);
}

/* ---- network devices ----------------------------------------------------------------------------- */

/* Two NUMA nodes in a package each; eth0, mlx5_0 and a PCI device are at the second one, vlan on eth0, bond over both, veth
 * nowhere. */
static void devices_have_distances(void **state)
{
    (void)state;
#define PCI "/sys/devices/pci0000:80/0000:80:01.0"
    static const struct {
        const char *device;
        int numa0, numa1, package0, unbound;
    } cases[] = {{"eth0", 21, 10, 20, -1}, {"mlx5_0", 21, 10, 20, -1}, {"vlan", 21, 10, 20, -1}, {"eth1", 10, 21, 10, -1},
                 {"virtio", 10, 21, 10, -1}, {PCI, 21, 10, 20, -1}, {"bond", -1, -1, -1, -1}, {"veth", -1, -1, -1, -1},
                 {"none", -1, -1, -1, -1}};
    for (int numa = 0; numa < 2; numa++) {
        put(numa ? "4-7\n" : "0-3\n", "/sys/devices/system/node/node%d/cpulist", numa);
        put(numa ? "21 10\n" : "10 21\n", "/sys/devices/system/node/node%d/distance", numa);
        put(numa ? "4-7\n" : "0-3\n", "/sys/devices/system/cpu/cpu%d/topology/core_siblings_list", 4 * numa);
    }
    put("1\n", "/sys/class/net/eth0/device/numa_node");
    put("0\n", "/sys/class/net/eth1/device/numa_node");
    put("1\n", PCI "/numa_node");
    put("1\n", "/sys/class/infiniband/mlx5_0/device/numa_node");
    put("0\n", "/sys/class/net/virtio/numa_node"); /* that is device/.. here, where nothing is a link */
    put("", "/sys/class/net/virtio/device/x");
    put("-1\n", "/sys/class/net/veth/device/numa_node");
    put("", "/sys/class/net/vlan/lower_eth0");
    put("", "/sys/class/net/bond/lower_eth0");
    put("", "/sys/class/net/bond/lower_eth1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weft_device_place place;
        weft_device_read(root, cases[i].device, &place);
        assert_int_equal(weft_device_distance(&place, &(weft_location){0, 0, 0}), cases[i].numa0);
        assert_int_equal(weft_device_distance(&place, &(weft_location){4, 1, 4}), cases[i].numa1);
        assert_int_equal(weft_device_distance(&place, &(weft_location){0, -1, -1}), cases[i].package0);
        assert_int_equal(weft_device_distance(&place, &(weft_location){-1, -1, -1}), cases[i].unbound);
    }
}

static void devices_of_a_file_have_distances(void **state)
{
    (void)state;
    static const char text[] = "<weft-topology version=\"1\"><nodes><node id=\"0\" kind=\"network\" parent=\"-1\"/>"
                               "<node id=\"1\" kind=\"host\" parent=\"-1\"/>"
                               "<node id=\"2\" kind=\"numa\" parent=\"1\"/><node id=\"3\" kind=\"numa\" parent=\"1\"/>"
                               "<node id=\"4\" kind=\"nic\" parent=\"3\" name=\"mlx5_0\"><attributes interface=\"eth0\"/></node>"
                               "<node id=\"5\" kind=\"nic\" parent=\"2\" name=\"vlan0\"><attributes over=\"eth0\"/></node>"
                               "<node id=\"6\" kind=\"nic\" parent=\"1\" name=\"eth1\"/></nodes><edges>"
                               "<edge kind=\"smp\" a=\"2\" b=\"3\" bandwidth_Bps=\"1e10\" latency_ns=\"100\" source=\"table\"/>"
                               "<edge kind=\"bus\" a=\"4\" b=\"3\" bandwidth_Bps=\"1e10\" latency_ns=\"100\" source=\"assumed\"/>"
                               "<edge kind=\"bus\" a=\"5\" b=\"2\" bandwidth_Bps=\"1e10\" latency_ns=\"100\" source=\"assumed\"/>"
                               "<edge kind=\"bus\" a=\"6\" b=\"2\" bandwidth_Bps=\"1e10\" latency_ns=\"100\" source=\"assumed\"/>"
                               "</edges></weft-topology>";
    static const struct {
        const char *device;
        int first, second;
    } cases[] = {{"eth0", 20, 10}, {"mlx5_0", 20, 10}, {"vlan0", 20, 10}, {"eth1", -1, -1}, {"none", -1, -1}};
    weft_topology *machine;
    assert_int_equal(weft_topology_parse(text, strlen(text), "test", &machine), WEFT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weft_device_place place;
        weft_device_find(machine, cases[i].device, &place);
        assert_int_equal(weft_device_distance(&place, &(weft_location){-1, weft_topology_find(machine, "NUMA0"), -1}),
                         cases[i].first);
        assert_int_equal(weft_device_distance(&place, &(weft_location){-1, weft_topology_find(machine, "NUMA1"), -1}),
                         cases[i].second);
        assert_int_equal(weft_device_distance(&place, &(weft_location){-1, -1, -1}), -1);
    }
    weft_topology_free(machine);
}

/* ---- in a communicator --------------------------------------------------------------------------- */

/* Two packages; the second processor that we may use is in the first of them. */
static void write_machine(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "<system version=\"1\">\n");
    for (int numa = 0; numa < 2; numa++) {
        int cpu = own_cpu(1 - numa);
        char mask[WEFT_TOPOLOGY_NAME_BYTES * 40] = "";
        size_t used = (size_t)snprintf(mask, sizeof mask, "%x", 1u << cpu % 32);
        for (int word = 0; word < cpu / 32; word++)
            used += (size_t)snprintf(mask + used, sizeof mask - used, ",00000000");
        fprintf(file,
                "<cpu numaid=\"%d\" affinity=\"%s\" arch=\"x86_64\" vendor=\"GenuineIntel\" familyid=\"6\" modelid=\"85\"/>\n",
                numa, mask);
    }
    fprintf(file, "</system>\n");
    assert_int_equal(fclose(file), 0);
}

/* Ranks 0 and 2 on one processor, 1 and 3 on the other: neighbours in number are not neighbours on the machine. */
static void alternating(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    for (int r = 0; r < ranks; r++)
        CHECK(comm->numa[r] == (r % 2 ? 0 : 1), "rank %d is on NUMA node %d", r, comm->numa[r]);
    weft_comm *half;
    CHECK_OK(weft_comm_split(comm, rank / 2, -rank, NULL, &half));
    CHECK(half->numa[0] == 0 && half->numa[1] == 1, "in a half, backwards: %d and %d", half->numa[0], half->numa[1]);
    int sum = rank + 1;
    CHECK_OK(weft_all_reduce(comm, WEFT_IN_PLACE, &sum, 1, WEFT_I32, WEFT_SUM, NULL));
    CHECK(sum == 10, "the sum is %d", sum);
    /* Predictions know the crossing; what shares a NUMA node has none. */
    weft_cost_model model;
    weft_cost_model_default(&model);
    CHECK(comm->farthest == WEFT_NEAR_HOST, "the farthest are %d", comm->farthest);
    CHECK(comm->tuner.model.local.latency_ns == model.local.latency_ns + 260, "%g ns", comm->tuner.model.local.latency_ns);
    CHECK(comm->tuner.model.signal_ns == model.signal_ns + 130, "a signal of %g ns", comm->tuner.model.signal_ns);
    weft_comm_destroy(half);
    CHECK_OK(weft_comm_split(comm, rank % 2, rank, NULL, &half));
    CHECK(half->farthest == WEFT_NEAR_NUMA && half->tuner.model.local.latency_ns == model.local.latency_ns,
          "on one NUMA node: %d, %g ns", half->farthest, half->tuner.model.local.latency_ns);
    weft_comm_destroy(half);
}

enum { RANKS = 4 };

static void *bound_main(void *argument)
{
    rank_thread *t = argument;
    run_on(own_cpu(t->rank % 2));
    return rank_main(t);
}

static void run_bound(rank_function function)
{
    rank_thread threads[RANKS];
    weft_unique_id id;
    check_failures = 0;
    assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
    for (int r = 0; r < RANKS; r++) {
        threads[r] = (rank_thread){.id = id, .rank = r, .ranks = RANKS, .function = function};
        pthread_create(&threads[r].thread, NULL, bound_main, &threads[r]);
    }
    for (int r = 0; r < RANKS; r++)
        pthread_join(threads[r].thread, NULL);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(threads[r].status, WEFT_OK);
    assert_int_equal(check_failures, 0);
}

static void ranks_are_told_where_the_others_are(void **state)
{
    (void)state;
    if (own_cpu(1) < 0) {
        print_message("skipped: one processor\n");
        skip();
    }
    char path[128], dump[128];
    snprintf(path, sizeof path, "%s/machine.xml", root);
    snprintf(dump, sizeof dump, "%s/dump.xml", root);
    write_machine(path);
    setenv("WEFT_TOPO_FILE", path, 1);
    setenv("WEFT_TOPO_DUMP_FILE", dump, 1);
    run_bound(alternating);
    unsetenv("WEFT_TOPO_FILE");
    unsetenv("WEFT_TOPO_DUMP_FILE");
    weft_topology *machine;
    assert_int_equal(weft_topology_load(dump, &machine), WEFT_OK);
    weft_topology_free(machine);
}

/* ---- what was measured --------------------------------------------------------------------------- */

static void uses_what_was_measured(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)rank, (void)ranks, (void)context;
    CHECK(comm->tuner.model.local.bandwidth_Bps == 3e9, "within the host: %g", comm->tuner.model.local.bandwidth_Bps);
    CHECK(comm->tuner.model.local.latency_ns == 700, "within the host: %g ns", comm->tuner.model.local.latency_ns);
}

static void predictions_begin_with_what_was_measured(void **state)
{
    (void)state;
    char path[128];
    weft_topology *machine, *measured;
    snprintf(path, sizeof path, "%s/measured.json", root);
    assert_int_equal(weft_topology_read(NULL, &machine), WEFT_OK);
    weft_topology_measurement figures = {
        .edge = -1, .node = weft_topology_find(machine, "NUMA0"), .bandwidth_Bps = 3e9, .latency_ns = 700};
    assert_int_equal(weft_topology_with_measurements(machine, &figures, 1, &measured), WEFT_OK);
    assert_null(weft_topology_attribute(machine, figures.node, "measured_Bps"));
    FILE *file = fopen(path, "w");
    assert_int_equal(weft_topology_write(measured, WEFT_TOPOLOGY_JSON, file), WEFT_OK);
    fclose(file);
    setenv("WEFT_TOPO_FILE", path, 1);
    on_ranks(2, NULL, uses_what_was_measured, NULL);
    unsetenv("WEFT_TOPO_FILE");
    weft_topology_free(machine);
    weft_topology_free(measured);
}

static void measured_edges_keep_their_figures_in_a_file(void **state)
{
    (void)state;
    static const char text[] =
        "<weft-topology version=\"1\"><nodes><node id=\"0\" kind=\"network\" parent=\"-1\"/>"
        "<node id=\"1\" kind=\"host\" parent=\"-1\"/><node id=\"2\" kind=\"numa\" parent=\"1\"/><node id=\"3\" kind=\"nic\" "
        "parent=\"2\"/>"
        "<node id=\"4\" kind=\"port\" parent=\"3\"/></nodes><edges>"
        "<edge kind=\"bus\" a=\"2\" b=\"3\" bandwidth_Bps=\"8e9\" latency_ns=\"100\" source=\"assumed\"/>"
        "<edge kind=\"inside\" a=\"3\" b=\"4\" bandwidth_Bps=\"8e9\" latency_ns=\"10\" source=\"assumed\"/>"
        "<edge kind=\"wire\" a=\"4\" b=\"0\" bandwidth_Bps=\"1e9\" latency_ns=\"1000\" "
        "source=\"reported\"/></edges></weft-topology>";
    weft_topology *machine, *measured;
    weft_measured local, network;
    assert_int_equal(weft_topology_parse(text, strlen(text), "test", &machine), WEFT_OK);
    weft_topology_measured(machine, &local, &network);
    assert_true(local.bandwidth_Bps == 0 && network.bandwidth_Bps == 0);
    weft_topology_measurement figures = {.edge = 0, .node = -1, .bandwidth_Bps = 117e6, .latency_ns = 30e3};
    while (weft_topology_get_edge(machine, figures.edge)->kind != WEFT_EDGE_WIRE)
        figures.edge++;
    assert_int_equal(weft_topology_with_measurements(machine, &figures, 1, &measured), WEFT_OK);
    assert_int_equal(weft_topology_get_edge(measured, figures.edge)->source, WEFT_FIGURE_MEASURED);
    weft_topology_measured(measured, &local, &network);
    assert_true(local.bandwidth_Bps == 0 && network.bandwidth_Bps == 117e6 && network.latency_ns == 30e3);
    weft_topology_free(measured);
    static const weft_topology_measurement wrong[] = {{.edge = 3, .node = -1, .bandwidth_Bps = 1},
                                                      {.edge = -1, .node = 5, .bandwidth_Bps = 1},
                                                      {.edge = -1, .node = -1, .bandwidth_Bps = 1},
                                                      {.edge = 2, .bandwidth_Bps = 0},
                                                      {.edge = 2, .bandwidth_Bps = 1, .latency_ns = -1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(weft_topology_with_measurements(machine, &wrong[i], 1, &measured), WEFT_ERR_INVALID);
    weft_topology_free(machine);
}

static void ways_follow_from_the_map(void **state)
{
    (void)state;
    static const char text[] =
        "<weft-topology version=\"1\"><nodes><node id=\"0\" kind=\"host\" parent=\"-1\"/>"
        "<node id=\"1\" kind=\"numa\" parent=\"0\"/><node id=\"2\" kind=\"numa\" parent=\"0\"/><node id=\"3\" kind=\"numa\" "
        "parent=\"0\"/>"
        "<node id=\"4\" kind=\"l3\" parent=\"1\"/></nodes><edges>"
        "<edge kind=\"memory\" a=\"1\" b=\"2\" bandwidth_Bps=\"5e9\" latency_ns=\"60\" source=\"assumed\"/>"
        "<edge kind=\"smp\" a=\"1\" b=\"3\" bandwidth_Bps=\"2e9\" latency_ns=\"130\" source=\"table\"/>"
        "<edge kind=\"smp\" a=\"2\" b=\"3\" bandwidth_Bps=\"1e9\" latency_ns=\"120\" source=\"table\"/>"
        "<edge kind=\"memory\" a=\"4\" b=\"1\" bandwidth_Bps=\"9e9\" latency_ns=\"50\" "
        "source=\"assumed\"/></edges></weft-topology>";
    static const weft_measured expected[WEFT_NEARNESS_COUNT] = {{0, 0}, {100, 9e9}, {160, 5e9}, {230, 1e9}};
    weft_topology *machine;
    weft_measured way[WEFT_NEARNESS_COUNT];
    assert_int_equal(weft_topology_parse(text, strlen(text), "test", &machine), WEFT_OK);
    weft_topology_ways(machine, way);
    for (int k = 0; k < WEFT_NEARNESS_COUNT; k++)
        assert_true(way[k].latency_ns == expected[k].latency_ns && way[k].bandwidth_Bps == expected[k].bandwidth_Bps);
    weft_topology_free(machine);
}

static void a_machine_in_parts_is_known(void **state)
{
    (void)state;
    assert_false(weft_machine_is_divided(root)); /* nothing is known */
    put("0-7\n", "/sys/devices/system/cpu/online");
    put("0-7\n", "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list");
    put("0\n", "/sys/devices/system/node/online");
    assert_false(weft_machine_is_divided(root));
    put("0-3\n", "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list");
    assert_true(weft_machine_is_divided(root));
    put("0-7\n", "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list");
    put("0-1\n", "/sys/devices/system/node/online");
    assert_true(weft_machine_is_divided(root));
}

static void nobody(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)comm, (void)rank, (void)ranks, (void)context;
}

static void a_machine_file_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    setenv("WEFT_TOPO_FILE", "/nowhere/machine.xml", 1);
    assert_int_equal(run_ranks(2, NULL, nobody, NULL), WEFT_ERR_SYSTEM);
    unsetenv("WEFT_TOPO_FILE");
}

int main(void)
{
    time_limit(60);
    if (keep_affinity() != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_bound_thread_is_found, make_root, leave),
        cmocka_unit_test_setup_teardown(a_thread_that_may_run_on_two_is_on_none, make_root, leave),
        cmocka_unit_test_setup_teardown(without_a_sysfs_nothing_is_known, make_root, leave),
        cmocka_unit_test_setup_teardown(devices_have_distances, make_root, leave),
        cmocka_unit_test(devices_of_a_file_have_distances),
        cmocka_unit_test_setup_teardown(ranks_are_told_where_the_others_are, make_root, leave),
        cmocka_unit_test_setup_teardown(predictions_begin_with_what_was_measured, make_root, leave),
        cmocka_unit_test(ways_follow_from_the_map),
        cmocka_unit_test_setup_teardown(a_machine_in_parts_is_known, make_root, leave),
        cmocka_unit_test(measured_edges_keep_their_figures_in_a_file),
        cmocka_unit_test(a_machine_file_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

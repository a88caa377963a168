/* The graph, its importers, paths and the choice of NICs, on the machine files in tests/golden/topology and on small texts. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "topology/cpus.h"
#include "topology/graph.h"

#define MACHINES "tests/golden/topology/"

static weft_topology *load(const char *path)
{
    weft_topology *t = NULL;
    if (weft_topology_load(path, &t) != WEFT_OK)
        fail_msg("%s", weft_last_error());
    return t;
}

static weft_path_class class_of(const weft_topology *t, const char *a, const char *b)
{
    weft_topology_path path;
    assert_int_equal(weft_topology_find_path(t, weft_topology_find(t, a), weft_topology_find(t, b), &path), WEFT_OK);
    return path.path_class;
}

static double bandwidth_of(const weft_topology *t, const char *a, const char *b)
{
    weft_topology_path path;
    assert_int_equal(weft_topology_find_path(t, weft_topology_find(t, a), weft_topology_find(t, b), &path), WEFT_OK);
    return path.bandwidth_Bps;
}

static void refuses(const char *text, const char *reason)
{
    weft_topology *t = NULL;
    assert_int_equal(weft_topology_parse(text, strlen(text), "file", &t), WEFT_ERR_PARSE);
    assert_null(t);
    if (!strstr(weft_last_error(), reason))
        fail_msg("'%s' is not in '%s'", reason, weft_last_error());
}

/* In the folder of the build: a machine may have no locale but C. */
static bool set_locale_with_a_comma(void)
{
    const char *build = getenv("BUILD");
    char command[512];
    setenv("LOCPATH", build ? build : "build", 1);
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2> /dev/null", getenv("LOCPATH"));
    return system(command) == 0 && setlocale(LC_NUMERIC, "de_DE.UTF-8") && strcmp(localeconv()->decimal_point, ",") == 0;
}

static char *written(const weft_topology *t, weft_topology_format format)
{
    char *text;
    size_t bytes;
    FILE *stream = open_memstream(&text, &bytes);
    assert_int_equal(weft_topology_write(t, format, stream), WEFT_OK);
    fclose(stream);
    return text;
}

static void a_locale_with_decimal_commas_changes_nothing(void **state)
{
    static const char *const machines[] = {"switched8.xml", "sockets2.hwloc3.xml", "matrix.txt"};
    (void)state;
    if (!set_locale_with_a_comma()) {
        print_message("no locale with a decimal comma here (localedef, package locales)\n");
        skip();
    }
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        char path[128], *text[2][3];
        snprintf(path, sizeof path, MACHINES "%s", machines[i]);
        for (int comma = 0; comma < 2; comma++) {
            setlocale(LC_NUMERIC, comma ? "de_DE.UTF-8" : "C");
            weft_topology *t = load(path), *again = NULL;
            for (int format = 0; format < 3; format++)
                text[comma][format] = written(t, (weft_topology_format)format);
            assert_int_equal(weft_topology_parse(text[0][0], strlen(text[0][0]), "again", &again), WEFT_OK);
            weft_topology_free(t);
            t = again;
            char *twice = written(t, WEFT_TOPOLOGY_XML);
            assert_string_equal(twice, text[0][0]);
            free(twice);
            weft_topology_free(t);
        }
        setlocale(LC_NUMERIC, "C");
        for (int format = 0; format < 3; format++) {
            assert_string_equal(text[0][format], text[1][format]);
            free(text[0][format]);
            free(text[1][format]);
        }
    }
}

static void a_byte_order_mark_is_passed_over(void **state)
{
    static const char *const texts[] = {"\xef\xbb\xbf\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPHB\t0-3\nGPU1\tPHB\t X \t0-3\n",
                                        "\xef\xbb\xbf<system><cpu numaid='0'/></system>"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        weft_topology *t = NULL;
        if (weft_topology_parse(texts[i], strlen(texts[i]), "file", &t) != WEFT_OK)
            fail_msg("%s", weft_last_error());
        weft_topology_free(t);
    }
}

static void what_is_wrong_in_a_file_is_said_with_its_line(void **state)
{
    (void)state;
    refuses("", "file:1: the file is empty");
    refuses("hello\n", "file:1: of no known format");
    refuses("<system>\n<cpu numaid=0>\n</cpu></system>", "file:2: an attribute's value is not in quotes");
    refuses("<system>\n<cpu numaid='0' numaid='1'/>\n</system>", "file:2: attribute numaid stands twice");
    refuses("<system>\n<cpu>\n</system>", "file:3: </system> closes <cpu>");
    refuses("<system>\n<cpu a=\"&unknown;\"/></system>", "file:2: & without a known entity");
    refuses("<!DOCTYPE a [<!ENTITY b 'c'>]><system/>", "file:1: a DOCTYPE with declarations");
    refuses("<system/>\n<system/>", "file:2: a second element");
    refuses("</>", "file:1: an end tag without its begin");
    refuses("<system version=\"1\"/>", "file:1: a <system> without a <cpu>");
    refuses("<topology version=\"4.0\"><object type=\"Machine\"/></topology>", "file:1: hwloc XML of version 4.0 is newer");
    refuses("{\"a\": 1}", "file:1: JSON without a member weft_topology");
    refuses("{\"weft_topology\": {\"version\": 1,\n\"nodes\": [{\"id\": 1}]}}", "file:2: kind \"\" is no kind of node");
    refuses("{\"weft_topology\": {\"version\": 9}}", "version 9 of Weft's topology is not known");
    refuses("{\"weft_topology\": [1, 2}", "file:1: , or ] is missing");
}

static void nesting_has_an_end(void **state)
{
    (void)state;
    enum { LEVELS = 5000 };
    char *text = malloc(LEVELS * 3 + 1);
    assert_non_null(text);
    for (int i = 0; i < LEVELS; i++)
        memcpy(text + i * 3, "<a>", 4);
    refuses(text, "nested deeper");
    memset(text, '[', LEVELS * 3);
    memcpy(text, "{\"a\":", 5);
    refuses(text, "nested deeper");
    free(text);
}

static void sets_of_cpus_are_read_and_written(void **state)
{
    (void)state;
    weft_cpus cpus;
    char text[128];
    assert_true(weft_cpus_parse_mask("0000ffff,00000000,0000ffff", &cpus));
    weft_cpus_list(&cpus, text, sizeof text);
    assert_string_equal(text, "0-15,64-79");
    weft_cpus_mask(&cpus, text, sizeof text);
    assert_string_equal(text, "0000ffff,00000000,0000ffff");
    assert_true(weft_cpus_parse_mask("0x00000001,,0x80000000", &cpus));
    weft_cpus_list(&cpus, text, sizeof text);
    assert_string_equal(text, "31,64");
    assert_true(weft_cpus_parse_list("0-3, 8\n", &cpus));
    assert_int_equal(weft_cpus_count(&cpus), 5);
    assert_true(weft_cpus_has("0-3,8", 8));
    assert_false(weft_cpus_has("0-3,8", 7));
    assert_false(weft_cpus_parse_list("3-1", &cpus));
    assert_false(weft_cpus_parse_mask("zz", &cpus));
}

static void bus_ids_have_one_shape(void **state)
{
    (void)state;
    char id[WEFT_BUS_ID_BYTES];
    assert_true(weft_bus_id_parse("00000000:3B:00.0", id));
    assert_string_equal(id, "0000:3b:00.0");
    assert_true(weft_bus_id_parse("3b:1f.7", id));
    assert_string_equal(id, "0000:3b:1f.7");
    assert_true(weft_bus_id_parse("10000:e1:00.0", id));
    assert_string_equal(id, "10000:e1:00.0");
    assert_false(weft_bus_id_parse("0000:-4:00.0", id));
    assert_false(weft_bus_id_parse("0000:3b:00", id));
    assert_false(weft_bus_id_parse("eth0", id));
}

static void paths_have_the_classes_of_nccl(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "switched8.xml");
    assert_int_equal(class_of(t, "GPU0", "GPU0"), WEFT_PATH_LOC);
    assert_int_equal(class_of(t, "GPU0", "GPU7"), WEFT_PATH_NVL);
    assert_true(bandwidth_of(t, "GPU0", "GPU7") == 18 * 20.6e9);
    assert_int_equal(class_of(t, "GPU0", "mlx5_0"), WEFT_PATH_PIX);
    assert_int_equal(class_of(t, "mlx5_5", "GPU0"), WEFT_PATH_PXN);
    assert_int_equal(class_of(t, "NIC0", "NIC1"), WEFT_PATH_PHB);
    assert_int_equal(class_of(t, "NIC0", "NIC7"), WEFT_PATH_SYS);
    assert_int_equal(class_of(t, "GPU0", "NUMA0"), WEFT_PATH_PHB);
    assert_int_equal(class_of(t, "NUMA0", "NUMA1"), WEFT_PATH_SYS);
    weft_topology_free(t);
    t = load(MACHINES "cubemesh8.xml");
    assert_int_equal(class_of(t, "GPU0", "GPU5"), WEFT_PATH_NVB);
    assert_int_equal(class_of(t, "GPU7", "GPU3"), WEFT_PATH_NVL); /* one of the two rows is missing */
    weft_topology_free(t);
    t = load(MACHINES "c2c-two-hosts.xml");
    assert_int_equal(class_of(t, "GPU0", "NUMA0"), WEFT_PATH_C2C);
    assert_int_equal(class_of(t, "GPU0", "NIC0"), WEFT_PATH_P2C);
    assert_int_equal(class_of(t, "GPU0", "GPU1"), WEFT_PATH_NET);
    weft_topology_free(t);
    t = load(MACHINES "matrix.txt");
    assert_int_equal(class_of(t, "GPU1", "mlx5_0"), WEFT_PATH_PXB);
    weft_topology_free(t);
}

static void a_path_is_as_wide_as_its_narrowest_edge(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "sockets2.hwloc2.xml");
    weft_topology_path path, back;
    int a = weft_topology_find(t, "NIC0"), b = weft_topology_find(t, "NUMA1");
    assert_int_equal(weft_topology_find_path(t, a, b, &path), WEFT_OK);
    assert_int_equal(weft_topology_find_path(t, b, a, &back), WEFT_OK);
    double narrowest = 1e18, latency = 0;
    int at = a;
    for (int i = 0; i < path.hops; i++) {
        const weft_topology_edge *e = weft_topology_get_edge(t, path.edge[i]);
        assert_true(e->a == at || e->b == at);
        at = e->a == at ? e->b : e->a;
        narrowest = e->bandwidth_Bps < narrowest ? e->bandwidth_Bps : narrowest;
        latency += e->latency_ns;
        assert_int_equal(path.edge[i], back.edge[back.hops - 1 - i]);
    }
    assert_int_equal(at, b);
    assert_true(path.bandwidth_Bps == narrowest && path.latency_ns == latency);
    assert_true(weft_topology_get_edge(t, path.bottleneck)->bandwidth_Bps == narrowest);
    assert_int_equal(weft_topology_find_path(t, -1, b, &path), WEFT_ERR_INVALID);
    weft_topology_free(t);
}

static void nics_are_near_and_shared_evenly(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "switched8.xml");
    int end[8], nic[8];
    for (int i = 0; i < 8; i++) {
        char label[8];
        snprintf(label, sizeof label, "GPU%d", i);
        end[i] = weft_topology_find(t, label);
    }
    assert_int_equal(weft_topology_choose_nics(t, end, 8, nic), WEFT_OK);
    for (int i = 0; i < 8; i++)
        assert_int_equal(weft_topology_rail(t, nic[i]), i);
    /* Eight ranks on one NUMA node: each of its four NICs twice. */
    int used[8] = {0};
    for (int i = 0; i < 8; i++)
        end[i] = weft_topology_find(t, "NUMA1");
    assert_int_equal(weft_topology_choose_nics(t, end, 8, nic), WEFT_OK);
    for (int i = 0; i < 8; i++)
        used[weft_topology_rail(t, nic[i])]++;
    for (int i = 0; i < 8; i++)
        assert_int_equal(used[i], i < 4 ? 0 : 2);
    weft_topology_free(t);
    /* Ports that are down and virtual functions are left alone. */
    t = load(MACHINES "sockets2.hwloc2.xml");
    end[0] = weft_topology_find(t, "GPU0");
    assert_int_equal(weft_topology_choose_nics(t, end, 1, nic), WEFT_OK);
    assert_string_equal(weft_topology_get_node(t, nic[0])->name, "mlx5_0");
    assert_int_equal(weft_topology_rail(t, weft_topology_find(t, "mlx5_1")), -1);
    assert_int_equal(weft_topology_rail(t, weft_topology_find(t, "mlx5_2")), 1);
    weft_topology_free(t);
}

static void a_cpu_finds_its_place(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "sockets2.hwloc3.xml");
    int cores = weft_topology_find_cpu(t, 5);
    assert_int_equal(weft_topology_get_node(t, cores)->kind, WEFT_NODE_CORES);
    assert_int_equal(weft_topology_enclosing(t, cores, WEFT_NODE_L3), weft_topology_find(t, "L3-2"));
    assert_int_equal(weft_topology_enclosing(t, cores, WEFT_NODE_NUMA), weft_topology_find(t, "numa 1"));
    assert_int_equal(weft_topology_find_cpu(t, 4000), -1);
    weft_topology_free(t);
}

/* A machine with `nics` interfaces on one NUMA node and many switches. */
static void many_devices_are_no_trouble(void **state)
{
    (void)state;
    enum { NICS = 61, SWITCHES = 400 };
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    fputs("<system version=\"1\"><cpu numaid=\"0\">", out);
    for (int i = 0; i < SWITCHES; i++)
        fprintf(out,
                "<pci busid=\"%04x:00:00.0\" class=\"0x060400\" vendor=\"0x0000\" device=\"0x0000\"><pci busid=\"%04x:01:00.0\" "
                "class=\"0x030200\"/></pci>",
                i, i);
    for (int i = 0; i < NICS; i++)
        fprintf(out, "<pci busid=\"0000:00:00.0\" class=\"0x020000\"><nic>"
                     "<net name=\"n%d\" dev=\"%d\" speed=\"99999999999999999999\"/></nic></pci>", i, i);
    fputs("</cpu></system>", out);
    fclose(out);
    weft_topology *t = NULL;
    assert_int_equal(weft_topology_parse(text, bytes, "many", &t), WEFT_OK);
    assert_int_equal(weft_topology_rail(t, weft_topology_find(t, "n60")), 60);
    assert_int_equal(class_of(t, "GPU0", "GPU399"), WEFT_PATH_PHB);
    assert_int_equal(weft_topology_verify(t), WEFT_OK);
    weft_topology_free(t);
    free(text);
}

static void two_levels_of_one_switch_chip_are_one(void **state)
{
    (void)state;
    static const char text[] = "<system version=\"1\"><cpu numaid=\"0\">"
                               "<pci busid=\"0000:01:00.0\" class=\"0x060400\" vendor=\"0x1000\" device=\"0xc010\" "
                               "subsystem_vendor=\"0x1000\" subsystem_device=\"0xa096\">"
                               "<pci busid=\"0000:02:00.0\" class=\"0x060400\" vendor=\"0x1000\" device=\"0xc010\" "
                               "subsystem_vendor=\"0x1000\" subsystem_device=\"0xa096\">"
                               "<pci busid=\"0000:03:00.0\" class=\"0x030200\"/></pci>"
                               "<pci busid=\"0000:04:00.0\" class=\"0x060400\" vendor=\"0x1000\" device=\"0xc010\" "
                               "subsystem_vendor=\"0x1234\" subsystem_device=\"0xa096\">"
                               "<pci busid=\"0000:05:00.0\" class=\"0x030200\"/></pci>"
                               "<pci busid=\"0000:06:00.0\" class=\"0x030200\"/></pci></cpu></system>";
    weft_topology *t = NULL;
    assert_int_equal(weft_topology_parse(text, strlen(text), "chip", &t), WEFT_OK);
    assert_int_equal(weft_topology_find(t, "0000:02:00.0"), -1);
    assert_int_equal(class_of(t, "0000:03:00.0", "0000:06:00.0"), WEFT_PATH_PIX);
    assert_int_equal(class_of(t, "0000:03:00.0", "0000:05:00.0"), WEFT_PATH_PXB);
    weft_topology_free(t);
}

static void verification_finds_a_broken_graph(void **state)
{
    (void)state;
    weft_topology *t = load(MACHINES "xgmi4.xml");
    assert_int_equal(weft_topology_verify(t), WEFT_OK);
    double kept = t->edge[0].bandwidth_Bps;
    t->edge[0].bandwidth_Bps = -1;
    assert_int_equal(weft_topology_verify(t), WEFT_ERR_INTERNAL);
    t->edge[0].bandwidth_Bps = kept;
    int gpu = weft_topology_find(t, "GPU1");
    t->node[gpu].shown.index = 0;
    assert_int_equal(weft_topology_verify(t), WEFT_ERR_INTERNAL);
    t->node[gpu].shown.index = 1;
    t->node[gpu].shown.parent = gpu;
    assert_int_equal(weft_topology_verify(t), WEFT_ERR_INTERNAL);
    weft_topology_free(t);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    static const char *const files[] = {MACHINES "cubemesh8.xml", MACHINES "sockets2.hwloc2.xml", MACHINES "matrix.txt"};
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        weft_status status = WEFT_ERR_MEMORY;
        for (long n = 1; status != WEFT_OK; n++) {
            weft_topology *t = NULL;
            weft_alloc_fail_at(n, false);
            status = weft_topology_load(files[f], &t);
            weft_alloc_fail_at(0, false);
            if (status != WEFT_OK) {
                assert_int_equal(status, WEFT_ERR_MEMORY);
                assert_null(t);
            }
            weft_topology_free(t);
            assert_true(n < 10000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(a_locale_with_decimal_commas_changes_nothing),
        cmocka_unit_test(what_is_wrong_in_a_file_is_said_with_its_line),
        cmocka_unit_test(nesting_has_an_end),
        cmocka_unit_test(sets_of_cpus_are_read_and_written),
        cmocka_unit_test(bus_ids_have_one_shape),
        cmocka_unit_test(paths_have_the_classes_of_nccl),
        cmocka_unit_test(a_path_is_as_wide_as_its_narrowest_edge),
        cmocka_unit_test(nics_are_near_and_shared_evenly),
        cmocka_unit_test(a_cpu_finds_its_place),
        cmocka_unit_test(many_devices_are_no_trouble),
        cmocka_unit_test(two_levels_of_one_switch_chip_are_one),
        cmocka_unit_test(verification_finds_a_broken_graph),
        cmocka_unit_test(missing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

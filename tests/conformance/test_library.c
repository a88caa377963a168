/* Transports in libraries of their own. With a name as argument: the conformance suite over that transport ("dies": one that
 * notices a killed peer follows, then by what long tests are divided). Without: what is no such library is refused, and
 * why is said. */
#define _GNU_SOURCE
#include "conformance.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/registry.h"

static void expect_refusal(const char *name, weft_status expected, const char *text)
{
    const weft_transport_ops *ops = NULL;
    assert_int_equal(weft_transport_get(name, &ops), expected);
    assert_null(ops);
    if (!strstr(weft_last_error(), text))
        fail_msg("'%s' does not say '%s'", weft_last_error(), text);
    assert_null(weft_transport_find(name));
    assert_non_null(strstr(weft_last_error(), text));
}

static void test_names_that_are_no_transport(void **state)
{
    (void)state;
    expect_refusal("", WEFT_ERR_INVALID, "there is no transport ''");
    expect_refusal("../evil", WEFT_ERR_INVALID, "there is no transport '../evil'");
    expect_refusal("UPPER", WEFT_ERR_INVALID, "there is no transport 'UPPER'");
    expect_refusal("a-name-that-is-much-too-long", WEFT_ERR_INVALID, "1 to 23 of");
    expect_refusal("carrier-pigeon", WEFT_ERR_UNSUPPORTED, "libweft-transport-carrier-pigeon.so");
    expect_refusal("carrier-pigeon", WEFT_ERR_UNSUPPORTED, "WEFT_PLUGIN_PATH");
}

static void test_a_file_that_is_no_library_is_named(void **state)
{
    (void)state;
    char folder[] = "/tmp/weft-library-XXXXXX", path[128], search[256];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/libweft-transport-text.so", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("this is a text\n", f);
    fclose(f);
    snprintf(search, sizeof search, "/nowhere::%s", folder);
    setenv("WEFT_PLUGIN_PATH", search, 1);
    expect_refusal("text", WEFT_ERR_UNSUPPORTED, path);
    unsetenv("WEFT_PLUGIN_PATH");
    unlink(path);
    rmdir(folder);
}

static void test_built_in_transports_are_found_without_a_library(void **state)
{
    (void)state;
    const weft_transport_ops *first, *again;
    assert_int_equal(weft_transport_get("tcp", &first), WEFT_OK);
    assert_int_equal(weft_transport_get("tcp", &again), WEFT_OK);
    assert_ptr_equal(first, again);
    assert_ptr_equal(first, weft_transport_find("tcp"));
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        const conformance_subject subject = {.name = argv[1], .notices_death = argc > 2 && strcmp(argv[2], "dies") == 0,
                                             .share = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0};
        return conformance_run(argv[1], &subject);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_that_are_no_transport),
        cmocka_unit_test(test_a_file_that_is_no_library_is_named),
        cmocka_unit_test(test_built_in_transports_are_found_without_a_library),
    };
    return cmocka_run_group_tests_name("libraries of transports", tests, NULL, NULL);
}

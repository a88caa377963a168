/* Machine files: any bytes give a sound topology that can be written and read again, or an error with file and line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weft/topology.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What was written must be readable, and give the same text once more. */
static void check_round_trip(const weft_topology *t, weft_topology_format format)
{
    char *first = NULL, *second = NULL;
    size_t first_bytes = 0, second_bytes = 0;
    weft_topology *again = NULL;
    FILE *stream = open_memstream(&first, &first_bytes);
    if (!stream)
        return;
    if (weft_topology_write(t, format, stream) != WEFT_OK || fclose(stream) != 0)
        abort();
    if (weft_topology_parse(first, first_bytes, "again", &again) != WEFT_OK) {
        fprintf(stderr, "%s\n", weft_last_error());
        abort();
    }
    stream = open_memstream(&second, &second_bytes);
    if (stream && (weft_topology_write(again, format, stream) != WEFT_OK || fclose(stream) != 0))
        abort();
    if (stream && (first_bytes != second_bytes || memcmp(first, second, first_bytes) != 0))
        abort();
    weft_topology_free(again);
    free(first);
    free(second);
}

static void check_paths(const weft_topology *t)
{
    int nodes = weft_topology_node_count(t);
    for (int a = 0; a < nodes && a < 12; a++) {
        for (int b = 0; b < nodes && b < 12; b++) {
            weft_topology_path path;
            if (weft_topology_find_path(t, a, b, &path) != WEFT_OK)
                abort();
            if ((path.path_class == WEFT_PATH_NONE || a == b) != (path.hops == 0))
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    weft_topology *t = NULL;
    if (weft_topology_parse((const char *)data, bytes, "fuzz", &t) != WEFT_OK) {
        const char *reason = weft_last_error();
        if (t || strncmp(reason, "fuzz:", 5) != 0 || reason[5] < '0' || reason[5] > '9')
            abort();
        return 0;
    }
    if (weft_topology_verify(t) != WEFT_OK)
        abort();
    check_round_trip(t, WEFT_TOPOLOGY_XML);
    check_round_trip(t, WEFT_TOPOLOGY_JSON);
    check_paths(t);
    weft_topology_free(t);
    return 0;
}

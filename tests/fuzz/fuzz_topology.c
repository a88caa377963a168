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

static void ignore_finding(void *context, const weft_finding *finding)
{
    (void)context;
    if (!finding->text[0] || !finding->remedy[0])
        abort();
}

static void ignore_difference(void *context, const char *line)
{
    (void)context;
    (void)line;
    abort(); /* a machine does not differ from itself */
}

static void check_what_follows(const weft_topology *t)
{
    for (int network = 0; network < 2; network++) {
        weft_channel_request request = {.size = sizeof request, .channels_max = 4, .network = network != 0};
        weft_channels *channels = NULL;
        request.shape = network ? WEFT_CHANNEL_TREE : WEFT_CHANNEL_RING;
        if (weft_topology_node_count(t) > 64)
            continue;
        if (weft_topology_search(t, &request, &channels) != WEFT_OK ? channels != NULL : channels->count > 4)
            abort();
        weft_channels_free(channels);
    }
    weft_topology_diagnose(t, ignore_finding, NULL);
    weft_topology_diff(t, t, ignore_difference, NULL);
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
    check_what_follows(t);
    weft_topology_free(t);
    return 0;
}

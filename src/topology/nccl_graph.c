/* What NCCL's own search found, from the file that NCCL_GRAPH_DUMP_FILE makes: for comparison with ours. */
#include "topology/document.h"
#include "topology/load.h"

static weft_nccl_graph read_graph(const weft_document *d, int element)
{
    weft_nccl_graph g = {.id = (int)weft_document_int(d, element, "id", 0, 1000, -1),
                         .pattern = (int)weft_document_int(d, element, "pattern", 0, 1000, 0),
                         .channels = (int)weft_document_int(d, element, "nchannels", 0, 1000, 0),
                         .intra_Bps = weft_document_double(d, element, "speedintra", 0) * 1e9,
                         .inter_Bps = weft_document_double(d, element, "speedinter", 0) * 1e9};
    for (int channel = -1; (channel = weft_document_child(d, element, channel, "channel")) >= 0;)
        g.network |= weft_document_child(d, channel, -1, "net") >= 0;
    return g;
}

weft_status weft_nccl_graph_load(const char *path, weft_nccl_graph *graph, int room, int *count)
{
    char *text = NULL;
    size_t bytes = 0;
    weft_document d;
    weft_clear_error();
    weft_status status = weft_read_file(path, &text, &bytes);
    if (status != WEFT_OK)
        return status;
    status = weft_xml_parse(text, bytes, path, &d);
    weft_free(text);
    if (status != WEFT_OK)
        return status;
    int found = 0;
    if (!weft_document_is(&d, 0, "graphs"))
        status = weft_document_fail(&d, 0, "<%.40s> begins no NCCL graph: it begins with <graphs>", d.element[0].name);
    for (int element = -1; status == WEFT_OK && (element = weft_document_child(&d, 0, element, "graph")) >= 0; found++)
        if (found < room)
            graph[found] = read_graph(&d, element);
    weft_document_free(&d);
    if (status == WEFT_OK)
        *count = found;
    return status;
}

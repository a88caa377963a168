/* Machine files: reads one, knows its format from the content, hands it to the importer. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "topology/import.h"
#include "topology/load.h"

weft_status weft_import_done(weft_topology *t, weft_status status, bool derive, const char *file, weft_topology **out)
{
    if (status == WEFT_OK) {
        status = weft_topology_finish(t, derive);
        if (status != WEFT_OK && status != WEFT_ERR_MEMORY)
            status = weft_fail_context(WEFT_ERR_PARSE, "%s:1: not a machine that can be", file);
    }
    if (status == WEFT_OK)
        *out = t;
    else
        weft_topology_free(t);
    return status;
}

int weft_import_fabric(weft_topology *t, int host, const char *chip)
{
    int fabric = -1;
    for (int i = 0; i < t->nodes && fabric < 0; i++)
        if (t->node[i].shown.kind == WEFT_NODE_NVSWITCH && t->node[i].shown.parent == host)
            fabric = i;
    if (fabric < 0) {
        fabric = weft_topology_add_node(t, WEFT_NODE_NVSWITCH, host);
        weft_topology_edit(t, fabric)->count = 0;
    }
    const char *chips = weft_topology_attribute(t, fabric, "chips");
    if (chips && strstr(chips, chip))
        return fabric;
    char list[WEFT_TOPOLOGY_TEXT_MAX];
    int length = snprintf(list, sizeof list, "%s%s%s", chips ? chips : "", chips ? " " : "", chip);
    if (length > 0 && (size_t)length < sizeof list)
        weft_topology_set(t, fabric, "chips", list);
    weft_topology_edit(t, fabric)->count++;
    return fabric;
}

static weft_status import_xml(const char *text, size_t bytes, const char *name, weft_topology **out)
{
    weft_document d;
    weft_status status = weft_xml_parse(text, bytes, name, &d);
    if (status != WEFT_OK)
        return status;
    if (weft_document_is(&d, 0, "system"))
        status = weft_import_nccl(&d, out);
    else if (weft_document_is(&d, 0, "topology"))
        status = weft_import_hwloc(&d, out);
    else if (weft_document_is(&d, 0, "weft-topology"))
        status = weft_import_weft(&d, out);
    else if (weft_document_is(&d, 0, "graphs"))
        status = weft_document_fail(&d, 0, "a NCCL graph (the result of a search), not a machine: "
                                           "give it to weft-topo --compare");
    else
        status = weft_document_fail(&d, 0, "<%.40s> begins no machine file that is known: NCCL or RCCL topology XML begins with "
                                           "<system>, hwloc's with <topology>, Weft's with <weft-topology>", d.element[0].name);
    weft_document_free(&d);
    return status;
}

static weft_status import_json(const char *text, size_t bytes, const char *name, weft_topology **out)
{
    weft_document d;
    weft_status status = weft_json_parse(text, bytes, name, &d);
    if (status != WEFT_OK)
        return status;
    status = weft_import_weft(&d, out);
    weft_document_free(&d);
    return status;
}

/* What an archive or another binary file is, NULL: it is none that is known. */
static const char *binary_kind(const char *text, size_t bytes)
{
    static const struct {
        const char *magic;
        size_t bytes;
        const char *name;
    } kinds[] = {{"BZh", 3, "a bzip2 archive"},          {"\x1f\x8b", 2, "a gzip archive"}, {"\xfd" "7zXZ", 5, "an xz archive"},
                 {"\x28\xb5\x2f\xfd", 4, "a zstd archive"}, {"PK\x03\x04", 4, "a zip archive"}, {"\x7f" "ELF", 4, "a program"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (bytes >= kinds[i].bytes && memcmp(text, kinds[i].magic, kinds[i].bytes) == 0)
            return kinds[i].name;
    return bytes > 262 && memcmp(text + 257, "ustar", 5) == 0 ? "a tar archive" : NULL;
}

weft_status weft_topology_parse(const char *text, size_t bytes, const char *name, weft_topology **topology)
{
    weft_clear_error();
    const char *binary = binary_kind(text, bytes);
    if (binary)
        return weft_fail(WEFT_ERR_PARSE, "%s:1: %s: not read; if it is a gather of hwloc, unpack it and export it with "
                         "lstopo --input DIRECTORY machine.xml", name, binary);
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* saved by Windows */
        text += 3;
        bytes -= 3;
    }
    size_t at = 0;
    while (at < bytes && memchr(" \t\r\n", text[at], 4))
        at++;
    if (at == bytes)
        return weft_fail(WEFT_ERR_PARSE, "%s:1: the file is empty", name);
    if (text[at] == '<')
        return import_xml(text, bytes, name, topology);
    if (text[at] == '{')
        return import_json(text, bytes, name, topology);
    return weft_import_matrix(text, bytes, name, topology);
}

weft_status weft_read_file(const char *path, char **text, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s: cannot be opened", path);
    char *read_text = NULL;
    size_t used = 0, room = 0;
    weft_status status = WEFT_OK;
    for (;;) {
        if (used == room) {
            size_t more = room ? room * 2 : 1 << 16;
            char *larger = room > WEFT_DOCUMENT_BYTES_MAX ? NULL : weft_realloc(read_text, more);
            if (!larger) {
                status = room > WEFT_DOCUMENT_BYTES_MAX
                             ? weft_fail(WEFT_ERR_PARSE, "%s:1: larger than %d bytes", path, WEFT_DOCUMENT_BYTES_MAX)
                             : weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", path);
                break;
            }
            read_text = larger;
            room = more;
        }
        ssize_t got = read(fd, read_text + used, room - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = weft_fail_errno(WEFT_ERR_SYSTEM, "%s: cannot be read", path);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    close(fd);
    if (status != WEFT_OK) {
        weft_free(read_text);
        return status;
    }
    *text = read_text;
    *bytes = used;
    return WEFT_OK;
}

weft_status weft_topology_load(const char *path, weft_topology **topology)
{
    char *text = NULL;
    size_t bytes = 0;
    weft_clear_error();
    weft_status status = weft_read_file(path, &text, &bytes);
    if (status != WEFT_OK)
        return status;
    status = weft_topology_parse(text, bytes, path, topology);
    weft_free(text);
    return status;
}

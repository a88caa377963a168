/* Weft's own XML and JSON. Both hold every node, edge and note, so that reading them again gives the same topology. */
#include <string.h>

#include "topology/export.h"

#include "base/number.h"

typedef enum dialect { XML, JSON } dialect;

/* A byte sequence that is UTF-8: its length; 0: it is none. */
static size_t utf8_length(const unsigned char *text)
{
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xc2 && text[0] < 0xe0 ? 2 : (text[0] & 0xf0) == 0xe0 ? 3
                    : text[0] >= 0xf0 && text[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if (length == 3 && ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0)))
        return 0;
    return length == 4 && ((text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90)) ? 0 : length;
}

/* Text in quotes; what is not UTF-8 becomes '?'. */
static void put_text(FILE *out, dialect how, const char *text)
{
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        size_t length = utf8_length(c);
        if (length == 0 || *c < 0x20)
            fputc('?', out);
        else if (how == JSON && (*c == '"' || *c == '\\'))
            fprintf(out, "\\%c", *c);
        else if (how == XML && *c == '"')
            fputs("&quot;", out);
        else if (how == XML && *c == '&')
            fputs("&amp;", out);
        else if (how == XML && *c == '<')
            fputs("&lt;", out);
        else
            fwrite(c, 1, length, out);
        c += length ? length : 1;
    }
    fputc('"', out);
}

void weft_export_xml_text(FILE *out, const char *text)
{
    put_text(out, XML, text);
}

static void put_name(FILE *out, dialect how, const char *name, bool first)
{
    if (how == XML)
        fprintf(out, " %s=", name);
    else
        fprintf(out, "%s\"%s\": ", first ? "" : ", ", name);
}

static void put_string(FILE *out, dialect how, const char *name, const char *text, bool first)
{
    put_name(out, how, name, first);
    put_text(out, how, text);
}

static void put_int(FILE *out, dialect how, const char *name, int value, bool first)
{
    put_name(out, how, name, first);
    fprintf(out, how == XML ? "\"%d\"" : "%d", value);
}

/* As short as gives the same number again. */
static void put_double(FILE *out, dialect how, const char *name, double value)
{
    char text[40];
    put_name(out, how, name, false);
    for (int digits = 6; digits <= 17; digits++) {
        double again = 0;
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (sscanf(text, "%lf", &again) == 1 && again == value)
            break;
    }
    fprintf(out, how == XML ? "\"%s\"" : "%s", text);
}

static void put_hex(FILE *out, dialect how, const char *name, uint32_t value, int digits)
{
    char text[16];
    snprintf(text, sizeof text, "0x%0*x", digits, (unsigned)value);
    if (value)
        put_string(out, how, name, text, false);
}

static void put_attributes(FILE *out, dialect how, const weft_topology *t, int node)
{
    const char *name, *text;
    if (!weft_topology_attribute_at(t, node, 0, &name, &text)) {
        fputs(how == XML ? "/>\n" : "}", out);
        return;
    }
    fputs(how == XML ? "><attributes" : ", \"attributes\": {", out);
    for (int i = 0; weft_topology_attribute_at(t, node, i, &name, &text); i++)
        put_string(out, how, name, text, i == 0);
    fputs(how == XML ? "/></node>\n" : "}}", out);
}

static void put_node(FILE *out, dialect how, const weft_topology *t, int node)
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    fputs(how == XML ? "    <node" : "      {", out);
    put_int(out, how, "id", node, true);
    put_string(out, how, "kind", weft_node_kind_name(n->kind), false);
    put_int(out, how, "parent", n->parent, false);
    if (n->os_index >= 0)
        put_int(out, how, "os", n->os_index, false);
    if (n->count != 1)
        put_int(out, how, "count", n->count, false);
    if (n->name[0])
        put_string(out, how, "name", n->name, false);
    if (n->bus_id[0])
        put_string(out, how, "bus", n->bus_id, false);
    put_hex(out, how, "class", n->pci_class, 6);
    put_hex(out, how, "vendor", n->vendor, 4);
    put_hex(out, how, "device", n->device, 4);
    put_attributes(out, how, t, node);
}

static void put_edge(FILE *out, dialect how, const weft_topology_edge *e)
{
    fputs(how == XML ? "    <edge" : "      {", out);
    put_string(out, how, "kind", weft_edge_kind_name(e->kind), true);
    put_int(out, how, "a", e->a, false);
    put_int(out, how, "b", e->b, false);
    if (e->links)
        put_int(out, how, "links", e->links, false);
    put_double(out, how, "bandwidth_Bps", e->bandwidth_Bps);
    put_double(out, how, "latency_ns", e->latency_ns);
    put_string(out, how, "source", weft_figure_source_name(e->source), false);
    fputs(how == XML ? "/>\n" : "}", out);
}

static void put_note(FILE *out, dialect how, const char *note)
{
    fputs(how == XML ? "    <note" : "      {", out);
    put_string(out, how, "text", note, true);
    fputs(how == XML ? "/>\n" : "}", out);
}

static void open_list(FILE *out, dialect how, const char *name)
{
    fprintf(out, how == XML ? "  <%s>\n" : "    \"%s\": [", name);
}

static void between(FILE *out, dialect how, int i)
{
    if (how == JSON)
        fputs(i ? ",\n" : "\n", out);
}

static void close_list(FILE *out, dialect how, const char *name, bool last)
{
    if (how == XML)
        fprintf(out, "  </%s>\n", name);
    else
        fputs(last ? "\n    ]\n" : "\n    ],\n", out);
}

static void put_all(FILE *out, dialect how, const weft_topology *t)
{
    fputs(how == XML ? "<weft-topology" : "{\n  \"weft_topology\": {\n    ", out);
    put_int(out, how, "version", 1, true);
    put_string(out, how, "origin", weft_topology_origin(t), false);
    fputs(how == XML ? ">\n" : ",\n", out);
    open_list(out, how, "nodes");
    for (int i = 0; i < weft_topology_node_count(t); i++) {
        between(out, how, i);
        put_node(out, how, t, i);
    }
    close_list(out, how, "nodes", false);
    open_list(out, how, "edges");
    for (int i = 0; i < weft_topology_edge_count(t); i++) {
        between(out, how, i);
        put_edge(out, how, weft_topology_get_edge(t, i));
    }
    close_list(out, how, "edges", false);
    open_list(out, how, "notes");
    for (int i = 0; weft_topology_note(t, i); i++) {
        between(out, how, i);
        put_note(out, how, weft_topology_note(t, i));
    }
    close_list(out, how, "notes", true);
    fputs(how == XML ? "</weft-topology>\n" : "  }\n}\n", out);
}

weft_status weft_topology_write(const weft_topology *t, weft_topology_format format, FILE *stream)
{
    weft_clear_error();
    if (format != WEFT_TOPOLOGY_NCCL_XML && format != WEFT_TOPOLOGY_XML && format != WEFT_TOPOLOGY_JSON)
        return weft_fail(WEFT_ERR_INVALID, "format %d: use WEFT_TOPOLOGY_XML, _JSON or _NCCL_XML", (int)format);
    locale_t usual = weft_number_begin();
    if (format == WEFT_TOPOLOGY_NCCL_XML)
        weft_export_nccl(t, stream);
    else
        put_all(stream, format == WEFT_TOPOLOGY_XML ? XML : JSON, t);
    weft_number_end(usual);
    return ferror(stream) ? weft_fail(WEFT_ERR_SYSTEM, "the topology cannot be written") : WEFT_OK;
}

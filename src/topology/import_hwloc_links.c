/* The matrices of distances in hwloc XML: which GPUs NVLink and xGMI join and how wide, and how far NUMA nodes are apart. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "topology/import_hwloc.h"
#include "topology/rates.h"

enum { MATRIX_MAX = 2048 };

typedef struct matrix {
    int count;
    int *node;      /* what each row stands for, -1: unknown */
    double *value;  /* [row * count + column] */
} matrix;

static void matrix_free(matrix *m)
{
    weft_free(m->node);
    weft_free(m->value);
}

static int find_object(const weft_hwloc_import *im, weft_hwloc_type type, bool by_os, int64_t index)
{
    for (int i = 0; i < im->known; i++)
        if (im->object[i].type == type && (by_os ? im->object[i].os_index : im->object[i].gp_index) == index)
            return im->object[i].node;
    return -1;
}

static bool type_by_name(const char *name, size_t length, weft_hwloc_type *type)
{
    static const char *const names[] = {[WEFT_HWLOC_NUMA] = "NUMANode", [WEFT_HWLOC_PACKAGE] = "Package",
                                        [WEFT_HWLOC_OSDEV] = "OSDev", [WEFT_HWLOC_PCIDEV] = "PCIDev"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *type = (weft_hwloc_type)i;
            return true;
        }
    }
    return false;
}

/* "802" of the matrix's type, or "OSDev:802" where it mixes types. */
static int read_index(const weft_hwloc_import *im, int element, const char *token, size_t length)
{
    const char *own = weft_document_get(im->d, element, "type"), *indexing = weft_document_get(im->d, element, "indexing");
    const char *colon = memchr(token, ':', length);
    weft_hwloc_type type;
    if (colon ? !type_by_name(token, (size_t)(colon - token), &type) : !own || !type_by_name(own, strlen(own), &type))
        return -1;
    return find_object(im, type, !colon && indexing && strcmp(indexing, "os") == 0, strtoll(colon ? colon + 1 : token, NULL, 10));
}

static const char *next_token(const char *text, size_t *length)
{
    while (isspace((unsigned char)*text))
        text++;
    *length = strcspn(text, " \t\r\n");
    return text;
}

/* False: the matrix is not whole. */
static bool read_matrix(const weft_hwloc_import *im, int element, matrix *m)
{
    int indexes = 0;
    size_t values = 0, wanted = (size_t)m->count * (size_t)m->count, length;
    for (int child = -1; (child = weft_document_child(im->d, element, child, "indexes")) >= 0;)
        for (const char *at = next_token(im->d->element[child].text, &length); length > 0; at = next_token(at + length, &length))
            if (indexes < m->count)
                m->node[indexes++] = read_index(im, element, at, length);
    for (int child = -1; (child = weft_document_child(im->d, element, child, "u64values")) >= 0;)
        for (const char *at = next_token(im->d->element[child].text, &length); length > 0; at = next_token(at + length, &length))
            if (values < wanted)
                m->value[values++] = weft_strtod(at, NULL);
    return indexes == m->count && values == wanted;
}

/* The wider of the two directions, in bytes per second as signalled; hwloc has them in MB/s. 0 where they are not linked. */
static double raw_of(const matrix *m, int i, int j)
{
    double there = m->value[(size_t)i * (size_t)m->count + (size_t)j], back = m->value[(size_t)j * (size_t)m->count + (size_t)i];
    double mega = fmax(there, back);
    return mega > 0 && mega < 999999 ? mega * 1e6 : 0; /* 1000000 stands for "itself" */
}

static int link_count(double raw_Bps)
{
    static const double per_link[] = {25e9, 20e9, 26.562e9, 50e9};
    for (size_t i = 0; i < ARRAY_LEN(per_link); i++)
        if (fabs(remainder(raw_Bps, per_link[i])) < 1e6)
            return (int)(raw_Bps / per_link[i] + 0.5);
    return 0;
}

static void add_link(weft_hwloc_import *im, weft_edge_kind kind, int a, int b, double raw_Bps)
{
    double payload = kind == WEFT_EDGE_NVLINK ? weft_rate_nvlink_raw_Bps(raw_Bps) : raw_Bps * 0.75;
    int links = kind == WEFT_EDGE_NVLINK ? link_count(raw_Bps) : 0;
    weft_topology_edge edge = {kind, a, b, links, payload, weft_rate_latency_ns(kind), WEFT_FIGURE_REPORTED};
    weft_topology_add_edge(im->t, &edge);
}

static bool is_chip(const weft_hwloc_import *im, int node)
{
    const weft_topology_node *n = &im->t->node[node].shown;
    return n->kind == WEFT_NODE_PCI_DEVICE && weft_pci_is_nvswitch(n->pci_class, n->vendor);
}

static int first_numa_in(const weft_hwloc_import *im, int package)
{
    for (int i = 0; i < im->t->nodes; i++)
        if (im->t->node[i].shown.kind == WEFT_NODE_NUMA && weft_topology_enclosing(im->t, i, WEFT_NODE_PACKAGE) == package)
            return i;
    return weft_topology_enclosing(im->t, package, WEFT_NODE_NUMA);
}

/* All of one GPU: to other GPUs, to a processor, and to the chips of a fabric together. */
static void add_links_of(weft_hwloc_import *im, const matrix *m, int i, weft_edge_kind kind, int host)
{
    double to_fabric = 0;
    int gpu = m->node[i], fabric = -1;
    for (int j = 0; j < m->count; j++) {
        double raw = raw_of(m, i, j);
        int other = m->node[j];
        if (raw == 0 || other < 0 || other == gpu)
            continue;
        weft_node_kind what = im->t->node[other].shown.kind;
        if (what == WEFT_NODE_GPU && j > i) {
            add_link(im, kind, gpu, other, raw);
        } else if (what == WEFT_NODE_PACKAGE && first_numa_in(im, other) >= 0) {
            add_link(im, kind, gpu, first_numa_in(im, other), raw);
        } else if (is_chip(im, other)) {
            fabric = weft_import_fabric(im->t, host, im->t->node[other].shown.bus_id);
            to_fabric += raw;
        }
    }
    if (fabric >= 0)
        add_link(im, kind, gpu, fabric, to_fabric);
}

static void keep_latencies(weft_hwloc_import *im, const matrix *m)
{
    locale_t usual = weft_number_begin();
    for (int i = 0; i < m->count; i++) {
        char list[WEFT_TOPOLOGY_TEXT_MAX];
        size_t used = 0;
        for (int j = 0; j < m->count && used + 24 < sizeof list; j++)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%.6g", j ? " " : "",
                                     m->value[(size_t)i * (size_t)m->count + (size_t)j]);
        if (m->node[i] >= 0)
            weft_topology_set(im->t, m->node[i], "distances", list);
    }
    weft_number_end(usual);
}

static void use_matrix(weft_hwloc_import *im, const char *name, const matrix *m, int host)
{
    bool nvlink = strcmp(name, "NVLinkBandwidth") == 0;
    if (strcmp(name, "NUMALatency") == 0)
        keep_latencies(im, m);
    else if (nvlink || strcmp(name, "XGMIBandwidth") == 0)
        for (int i = 0; i < m->count; i++)
            if (m->node[i] >= 0 && im->t->node[m->node[i]].shown.kind == WEFT_NODE_GPU)
                add_links_of(im, m, i, nvlink ? WEFT_EDGE_NVLINK : WEFT_EDGE_XGMI, host);
}

weft_status weft_hwloc_links(weft_hwloc_import *im, int host)
{
    for (int element = -1; (element = weft_document_child(im->d, 0, element, NULL)) >= 0;) {
        const char *name = weft_document_get(im->d, element, "name");
        if ((!weft_document_is(im->d, element, "distances2") && !weft_document_is(im->d, element, "distances2hetero")) || !name)
            continue;
        matrix m = {.count = (int)weft_document_int(im->d, element, "nbobjs", 1, MATRIX_MAX, 0)};
        m.node = weft_alloc_array((size_t)m.count + 1, sizeof *m.node);
        m.value = weft_alloc_array((size_t)m.count * (size_t)m.count + 1, sizeof *m.value);
        bool there = m.node && m.value, whole = there && m.count > 0 && read_matrix(im, element, &m);
        if (whole)
            use_matrix(im, name, &m, host);
        else if (there)
            weft_topology_add_note(im->t, "line %d: the matrix %.40s is not whole: left out", im->d->element[element].line, name);
        matrix_free(&m);
        if (!there)
            return weft_fail(WEFT_ERR_MEMORY, "no memory for the distances of %s", im->d->file);
    }
    return WEFT_OK;
}

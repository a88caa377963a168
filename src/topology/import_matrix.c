/* The text of nvidia-smi topo -m: how each pair of GPUs and NICs is joined, from which a machine is built that has these pairs.
 * What the matrix does not tell (bus ids, speeds) is assumed. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"
#include "topology/import.h"
#include "topology/rates.h"

enum { ENDS_MAX = 512, LINE_MAX_BYTES = 8192, LINKS_OF_A_GPU = 18 };

typedef enum relation { REL_NONE, REL_PIX, REL_PXB, REL_PHB, REL_NODE, REL_SYS, REL_SELF } relation;

typedef struct end {
    char name[32];
    char cpus[256];
    bool gpu;
    long numa; /* told, -1: not */
    int node;
} end;

typedef struct reader {
    const char *at, *stop, *file;
    int line;
    int ends, rows;
    end *end;
    uint8_t *cell;  /* relation, [row * ends + column] */
    uint8_t *links; /* NVLinks of the pair */
    /* A representative of those that share a switch, a tree of switches, a NUMA node: the first of them. */
    int bridge[ENDS_MAX], top[ENDS_MAX], home[ENDS_MAX];
    bool cpu_column, numa_column;
} reader;

/* The next line without escape sequences, which nvidia-smi uses to underline its header; false at the end. */
static bool next_line(reader *r, char *line, size_t room)
{
    size_t used = 0;
    if (r->at >= r->stop)
        return false;
    for (; r->at < r->stop && *r->at != '\n'; r->at++) {
        if (*r->at == '\x1b') {
            while (r->at + 1 < r->stop && r->at[1] != '\n' && !isalpha((unsigned char)*r->at))
                r->at++;
        } else if (used + 1 < room) {
            line[used++] = *r->at ? *r->at : '?';
        }
    }
    line[used] = 0;
    r->at++;
    r->line++;
    return true;
}

static char *next_word(char **at)
{
    char *from = *at + strspn(*at, " \t\r");
    if (!*from)
        return NULL;
    char *to = from + strcspn(from, " \t\r");
    *at = to + (*to != 0);
    *to = 0;
    return from;
}

static bool is_header(const char *line)
{
    line += strspn(line, " \t");
    return strncmp(line, "GPU0", 4) == 0 && (line[4] == ' ' || line[4] == '\t') && !strstr(line, " X ") && !strstr(line, "\tX\t");
}

static weft_status read_header(reader *r, char *line)
{
    char *at = line, *word;
    r->end = weft_alloc_array(ENDS_MAX, sizeof *r->end);
    if (!r->end)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", r->file);
    while ((word = next_word(&at)) && strcmp(word, "CPU") != 0) {
        if (r->ends == ENDS_MAX)
            return weft_fail(WEFT_ERR_PARSE, "%s:%d: more than %d devices", r->file, r->line, ENDS_MAX);
        end *e = &r->end[r->ends++];
        snprintf(e->name, sizeof e->name, "%.31s", word);
        e->gpu = strncmp(word, "GPU", 3) == 0;
        e->numa = -1;
    }
    r->cpu_column = word != NULL;
    while ((word = next_word(&at)))
        r->numa_column |= strcmp(word, "NUMA") == 0;
    r->cell = weft_alloc_array((size_t)r->ends * (size_t)r->ends, 1);
    r->links = weft_alloc_array((size_t)r->ends * (size_t)r->ends, 1);
    return r->cell && r->links ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", r->file);
}

static bool parse_cell(const char *word, uint8_t *cell, uint8_t *links)
{
    static const struct {
        const char *name;
        relation relation;
    } names[] = {{"X", REL_SELF}, {"PIX", REL_PIX}, {"PXB", REL_PXB}, {"PHB", REL_PHB}, {"NODE", REL_NODE}, {"SYS", REL_SYS},
                 {"SOC", REL_SYS}, {"N/A", REL_NONE}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(word, names[i].name) == 0) {
            *cell = (uint8_t)names[i].relation;
            return true;
        }
    }
    char *stop;
    long count = strncmp(word, "NV", 2) == 0 ? strtol(word + 2, &stop, 10) : 0;
    if (count < 1 || count > 200 || *stop)
        return false;
    *links = (uint8_t)count;
    return true;
}

static weft_status read_row(reader *r, char *line)
{
    char *at = line, *word = next_word(&at);
    int row = r->rows;
    if (!word || strcmp(word, r->end[row].name) != 0)
        return weft_fail(WEFT_ERR_PARSE, "%s:%d: the row of %s is expected here", r->file, r->line, r->end[row].name);
    for (int column = 0; column < r->ends; column++) {
        size_t i = (size_t)row * (size_t)r->ends + (size_t)column;
        word = next_word(&at);
        if (!word || !parse_cell(word, &r->cell[i], &r->links[i]))
            return weft_fail(WEFT_ERR_PARSE, "%s:%d: \"%.20s\" between %s and %s: X, NV#, PIX, PXB, PHB, NODE or SYS is expected",
                             r->file, r->line, word ? word : "", r->end[row].name, r->end[column].name);
    }
    word = r->cpu_column ? next_word(&at) : NULL;
    weft_cpus cpus;
    if (word && weft_cpus_parse_list(word, &cpus))
        snprintf(r->end[row].cpus, sizeof r->end[row].cpus, "%.255s", word);
    word = r->numa_column ? next_word(&at) : NULL;
    if (word && isdigit((unsigned char)*word) && strlen(word) <= 4)
        r->end[row].numa = strtol(word, NULL, 10);
    r->rows++;
    return WEFT_OK;
}

/* "  NIC0: mlx5_0" below the matrix. */
static void read_legend(reader *r, const char *line)
{
    char alias[32], name[32];
    if (sscanf(line, " %31[A-Za-z0-9_]: %31s", alias, name) != 2)
        return;
    for (int i = 0; i < r->ends; i++)
        if (!r->end[i].gpu && strcmp(r->end[i].name, alias) == 0)
            snprintf(r->end[i].name, sizeof r->end[i].name, "%s", name);
}

static relation related(const reader *r, int i, int j)
{
    relation there = (relation)r->cell[(size_t)i * (size_t)r->ends + (size_t)j];
    return there ? there : (relation)r->cell[(size_t)j * (size_t)r->ends + (size_t)i];
}

static void unite(int *of, int count, int a, int b)
{
    int from = of[a] > of[b] ? of[a] : of[b], to = of[a] > of[b] ? of[b] : of[a];
    for (int i = 0; i < count && from != to; i++)
        if (of[i] == from)
            of[i] = to;
}

static void group_ends(reader *r)
{
    for (int i = 0; i < r->ends; i++)
        r->bridge[i] = r->top[i] = r->home[i] = i;
    for (int i = 0; i < r->ends; i++) {
        for (int j = i + 1; j < r->ends; j++) {
            relation how = related(r, i, j);
            const end *a = &r->end[i], *b = &r->end[j];
            if (how == REL_PIX)
                unite(r->bridge, r->ends, i, j);
            if (how == REL_PIX || how == REL_PXB)
                unite(r->top, r->ends, i, j);
            bool same_place = a->numa >= 0 && b->numa >= 0 ? a->numa == b->numa
                              : a->gpu && b->gpu && a->cpus[0] && strcmp(a->cpus, b->cpus) == 0;
            bool told_apart = a->numa >= 0 && b->numa >= 0 && a->numa != b->numa;
            if (same_place || (!told_apart && how >= REL_PIX && how <= REL_NODE))
                unite(r->home, r->ends, i, j);
        }
    }
}

static int add_home(reader *r, weft_topology *t, int host, int first)
{
    int numa = weft_topology_add_node(t, WEFT_NODE_NUMA, host);
    for (int i = first; i < r->ends; i++) {
        if (r->home[i] != first)
            continue;
        if (r->end[i].numa >= 0)
            weft_topology_edit(t, numa)->os_index = (int)r->end[i].numa;
        if (r->end[i].cpus[0])
            weft_topology_set(t, numa, "cpus", r->end[i].cpus);
    }
    return numa;
}

static bool shares_switch(const reader *r, int which)
{
    for (int i = 0; i < r->ends; i++)
        if (i != which && r->bridge[i] == r->bridge[which])
            return true;
    return false;
}

/* A width says that it hangs on PCI, though there is no address. */
static int add_switch(weft_topology *t, int above)
{
    int node = weft_topology_add_node(t, WEFT_NODE_PCI_BRIDGE, above);
    weft_topology_set(t, node, "link_width", "16");
    return node;
}

/* The switch that holds an end; PIX: one for those that share it; PXB: those hang on a further one. */
static int bridge_of(reader *r, weft_topology *t, int which, int numa, int *bridge_node, int *top_node)
{
    int own = r->bridge[which], own_top = r->top[which], above = numa;
    bool several = false;
    for (int i = 0; i < r->ends; i++)
        several |= r->top[i] == own_top && r->bridge[i] != own;
    if (several) {
        if (top_node[own_top] < 0)
            top_node[own_top] = add_switch(t, above);
        above = top_node[own_top];
    }
    if (!several && !shares_switch(r, which))
        return above;
    if (bridge_node[own] < 0)
        bridge_node[own] = add_switch(t, above);
    return bridge_node[own];
}

static void add_end(weft_topology *t, end *e, int above)
{
    e->node = weft_topology_add_node(t, e->gpu ? WEFT_NODE_GPU : WEFT_NODE_NIC, above);
    weft_topology_set(t, e->node, "link_width", "16");
    if (e->gpu && strlen(e->name) < 8)
        weft_topology_edit(t, e->node)->os_index = (int)strtol(e->name + 3, NULL, 10);
    else
        weft_topology_set_name(t, e->node, e->name);
}

/* Links to all peers add up to more than a GPU has: the matrix shows a fabric of switches. */
static bool through_switches(const reader *r)
{
    int most = 0, sum = 0;
    for (int i = 0; i < r->ends; i++) {
        int links = r->links[i];
        sum += links;
        most = links > most ? links : most;
    }
    return sum > LINKS_OF_A_GPU && most > 0;
}

static void add_nvlinks(reader *r, weft_topology *t, int host)
{
    bool fabric = through_switches(r);
    for (int i = 0; i < r->ends; i++) {
        int most = 0;
        for (int j = 0; j < r->ends; j++) {
            int links = r->links[(size_t)i * (size_t)r->ends + (size_t)j];
            most = links > most ? links : most;
            if (fabric || links == 0 || i == j)
                continue;
            weft_topology_edge edge = {WEFT_EDGE_NVLINK, r->end[i].node, r->end[j].node, links, links * weft_rate_nvlink_Bps(0),
                                       weft_rate_latency_ns(WEFT_EDGE_NVLINK), WEFT_FIGURE_TABLE};
            weft_topology_add_edge(t, &edge);
        }
        if (!fabric || most == 0)
            continue;
        double rate = weft_rate_nvlink_Bps(most >= LINKS_OF_A_GPU ? 90 : 80);
        weft_topology_edge edge = {WEFT_EDGE_NVLINK, r->end[i].node, weft_import_fabric(t, host, "(not told)"), most, most * rate,
                                   weft_rate_latency_ns(WEFT_EDGE_NVLINK), WEFT_FIGURE_TABLE};
        weft_topology_add_edge(t, &edge);
    }
}

static weft_topology *build(reader *r)
{
    weft_topology *t = weft_topology_create("nvidia-smi topo -m");
    int *map = weft_alloc_array((size_t)r->ends * 3, sizeof *map);
    if (!t || !map) {
        weft_topology_free(t);
        weft_free(map);
        return NULL;
    }
    int *numa = map, *bridge = map + r->ends, *top = map + 2 * r->ends;
    memset(map, 0xff, (size_t)r->ends * 3 * sizeof *map);
    int host = weft_topology_add_node(t, WEFT_NODE_HOST, -1);
    group_ends(r);
    for (int i = 0; i < r->ends; i++) {
        int home = r->home[i];
        if (numa[home] < 0)
            numa[home] = add_home(r, t, host, home);
        add_end(t, &r->end[i], bridge_of(r, t, i, numa[home], bridge, top));
    }
    add_nvlinks(r, t, host);
    weft_topology_add_note(t, "a matrix tells how pairs are joined, not how fast: PCI and network rates are assumed");
    weft_free(map);
    return t;
}

static weft_status read_all(reader *r)
{
    char line[LINE_MAX_BYTES];
    weft_status status = WEFT_OK;
    while (status == WEFT_OK && next_line(r, line, sizeof line)) {
        if (!r->end) {
            if (is_header(line))
                status = read_header(r, line);
        } else if (r->rows < r->ends) {
            status = read_row(r, line);
        } else {
            read_legend(r, line);
        }
    }
    if (status == WEFT_OK && !r->end)
        return weft_fail(WEFT_ERR_PARSE,
                         "%s:1: of no known format: topology XML of NCCL, RCCL or hwloc, nvidia-smi topo -m or Weft's own XML "
                         "or JSON is expected",
                         r->file);
    if (status == WEFT_OK && r->rows < r->ends)
        return weft_fail(WEFT_ERR_PARSE, "%s:%d: the file ends before the row of %s", r->file, r->line, r->end[r->rows].name);
    return status;
}

weft_status weft_import_matrix(const char *text, size_t bytes, const char *file, weft_topology **out)
{
    reader r = {.at = text, .stop = text + bytes, .file = file};
    weft_status status = read_all(&r);
    if (status == WEFT_OK) {
        weft_topology *t = build(&r);
        status = t ? weft_import_done(t, WEFT_OK, true, file, out) : weft_fail(WEFT_ERR_MEMORY, "no memory to read %s", file);
    }
    weft_free(r.end);
    weft_free(r.cell);
    weft_free(r.links);
    return status;
}

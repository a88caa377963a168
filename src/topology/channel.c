/* The channel search: which ways there are between the ends, which bandwidths are worth trying, what came out best. Laying
 * channels of one bandwidth is in channel_lay.c. */
#include "topology/channel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "topology/route.h"

enum { BANDWIDTHS_MAX = 4096, SHARES_MAX = 16 };

/* ---- ends and ways ----------------------------------------------------------------------------- */

static int count_kind(const weft_topology *t, weft_node_kind kind)
{
    int count = 0;
    for (int i = 0; i < t->nodes; i++)
        count += t->node[i].shown.kind == kind;
    return count;
}

static void list_kind(const weft_topology *t, weft_node_kind kind, int *list)
{
    for (int i = 0; i < t->nodes; i++)
        if (t->node[i].shown.kind == kind)
            list[t->node[i].shown.index] = i;
}

static weft_status choose_ends(weft_search *s, const weft_channel_request *request)
{
    const weft_topology *t = s->t;
    weft_node_kind kind = count_kind(t, WEFT_NODE_GPU) ? WEFT_NODE_GPU : WEFT_NODE_NUMA;
    s->ends = request->end ? request->ends : count_kind(t, kind);
    if (s->ends < 1 || s->ends > WEFT_CHANNEL_ENDS_MAX)
        return weft_fail(WEFT_ERR_INVALID, "channels over %d ends: 1 to %d are possible", s->ends, WEFT_CHANNEL_ENDS_MAX);
    int nics = 0;
    for (int i = 0; i < t->nodes && request->network; i++)
        nics += weft_nic_usable(t, i);
    s->nics = nics < WEFT_CHANNEL_ENDS_MAX ? nics : WEFT_CHANNEL_ENDS_MAX;
    if (request->network && nics == 0)
        return weft_fail(WEFT_ERR_INVALID, "channels to the network, and the machine has no usable NIC");
    s->place = weft_alloc_array((size_t)(s->ends + s->nics), sizeof *s->place);
    if (!s->place)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a channel search over %d ends", s->ends);
    if (request->end)
        memcpy(s->place, request->end, (size_t)s->ends * sizeof *s->place);
    else
        list_kind(t, kind, s->place);
    for (int i = 0; i < t->nodes && s->nics; i++)
        if (weft_nic_usable(t, i) && weft_topology_rail(t, i) < s->nics)
            s->place[s->ends + --nics] = i;
    for (int i = 0; i < s->ends; i++) {
        if (s->place[i] < 0 || s->place[i] >= t->nodes)
            return weft_fail(WEFT_ERR_INVALID, "end %d is node %d: nodes are 0 to %d", i, s->place[i], t->nodes - 1);
        for (int j = 0; j < i; j++)
            if (s->place[j] == s->place[i])
                return weft_fail(WEFT_ERR_INVALID, "ends %d and %d are the same node %d", j, i, s->place[i]);
    }
    return WEFT_OK;
}

static bool add_link(weft_search *s, int link)
{
    if (s->links == s->link_room) {
        int more = s->link_room ? s->link_room * 2 : 256;
        int *larger = weft_realloc(s->link, (size_t)more * sizeof *larger);
        if (!larger)
            return false;
        s->link = larger;
        s->link_room = more;
    }
    s->link[s->links++] = link;
    return true;
}

static weft_status find_way(weft_search *s, int from, int to)
{
    weft_topology_path path;
    weft_way *way = &s->way[from * (s->ends + s->nics) + to];
    *way = (weft_way){s->links, 0, WEFT_PATH_NONE};
    if (from == to || (from >= s->ends && to >= s->ends))
        return WEFT_OK;
    weft_status status = weft_topology_find_path(s->t, s->place[from], s->place[to], &path);
    if (status != WEFT_OK || path.hops == 0)
        return status;
    int wire = s->directed - 2 * s->nics, at = s->place[from];
    bool kept = from < s->ends || add_link(s, wire + 2 * (from - s->ends));
    for (int i = 0; i < path.hops && kept; i++) {
        const weft_topology_edge *e = &s->t->edge[path.edge[i]];
        kept = add_link(s, path.edge[i] * 2 + (e->b == at));
        at = e->a == at ? e->b : e->a;
    }
    kept = kept && (to < s->ends || add_link(s, wire + 2 * (to - s->ends) + 1));
    way->count = s->links - way->first;
    way->path_class = path.path_class;
    return kept ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory for the ways of a channel search");
}

static weft_status prepare(weft_search *s)
{
    size_t places = (size_t)(s->ends + s->nics), cells = (size_t)s->channels_max * (size_t)s->ends;
    s->directed = 2 * s->t->edges + 2 * s->nics;
    s->way = weft_alloc_array(places * places, sizeof *s->way);
    s->capacity = weft_alloc_array((size_t)s->directed + 1, sizeof *s->capacity);
    s->left = weft_alloc_array((size_t)s->directed + 1, sizeof *s->left);
    s->taken = weft_alloc_array(places, sizeof *s->taken);
    s->score = weft_alloc_array(places, sizeof *s->score);
    s->rank_order = weft_alloc_array((size_t)s->ends * (size_t)s->ends + places, sizeof *s->rank_order);
    s->order = weft_alloc_array(cells, sizeof *s->order);
    s->parent = weft_alloc_array(cells, sizeof *s->parent);
    s->nic = weft_alloc_array((size_t)s->channels_max, sizeof *s->nic);
    if (!s->way || !s->capacity || !s->left || !s->taken || !s->score || !s->rank_order || !s->order || !s->parent || !s->nic)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a channel search over %d ends", s->ends);
    for (int i = 0; i < 2 * s->t->edges; i++)
        s->capacity[i] = s->t->edge[i / 2].bandwidth_Bps;
    for (int i = 0; i < 2 * s->nics; i++)
        s->capacity[2 * s->t->edges + i] = weft_topology_nic_bandwidth(s->t, s->place[s->ends + i / 2]);
    weft_status status = WEFT_OK;
    for (int from = 0; from < (int)places && status == WEFT_OK; from++)
        for (int to = 0; to < (int)places && status == WEFT_OK; to++)
            status = find_way(s, from, to);
    return status;
}

static void search_free(weft_search *s)
{
    void *const parts[] = {s->place,      s->way,   s->link,  s->capacity, s->left, s->taken,
                           s->rank_order, s->score, s->order, s->parent,   s->nic};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        weft_free(parts[i]);
}

/* ---- which bandwidths to try ------------------------------------------------------------------- */

static bool is_allowed(const weft_search *s, int from, int to)
{
    const weft_way *way = weft_way_of(s, from, to);
    bool network = from >= s->ends || to >= s->ends;
    return way->count > 0 && way->path_class <= (network ? s->network_limit : s->limit);
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static bool is_new(const double *list, int count, double value)
{
    for (int i = 0; i < count; i++)
        if (fabs(list[i] - value) < 1e-4 * value)
            return false;
    return true;
}

/* Every link's capacity in whole shares: a best solution has some link full. */
static int list_bandwidths(const weft_search *s, double *list)
{
    double widths[64];
    int count = 0, kinds = 0, places = s->ends + s->nics, shares = s->ends > SHARES_MAX ? 2 * SHARES_MAX : SHARES_MAX;
    for (int from = 0; from < places; from++) {
        for (int to = 0; to < places; to++) {
            const weft_way *way = weft_way_of(s, from, to);
            for (int i = 0; i < way->count && is_allowed(s, from, to); i++) {
                double width = s->capacity[s->link[way->first + i]];
                if (kinds < (int)ARRAY_LEN(widths) && is_new(widths, kinds, width))
                    widths[kinds++] = width;
            }
        }
    }
    for (int k = 0; k < kinds; k++)
        for (int share = 1; share <= shares && count < BANDWIDTHS_MAX; share++)
            if (is_new(list, count, widths[k] / share))
                list[count++] = widths[k] / share;
    qsort(list, (size_t)count, sizeof *list, descending);
    return count;
}

/* Distinct links by which an end can be left (out) or reached, all together. */
static double capacity_at(weft_search *s, int end, bool out)
{
    double sum = 0;
    memset(s->left, 0, (size_t)s->directed * sizeof *s->left); /* marks here */
    for (int other = 0; other < s->ends + s->nics; other++) {
        int from = out ? end : other, to = out ? other : end;
        const weft_way *way = weft_way_of(s, from, to);
        if (!is_allowed(s, from, to))
            continue;
        int link = s->link[out ? way->first : way->first + way->count - 1];
        sum += s->left[link] > 0 ? 0 : s->capacity[link];
        s->left[link] = 1;
    }
    return sum;
}

/* No set of channels can carry more than this. */
static double upper_bound(weft_search *s)
{
    double least = INFINITY, sum = 0, nics = 0;
    for (int i = 0; i < s->ends; i++) {
        least = fmin(least, fmin(capacity_at(s, i, true), capacity_at(s, i, false)));
        sum += capacity_at(s, i, false);
    }
    for (int k = 0; k < s->nics; k++)
        nics += s->capacity[s->directed - 2 * s->nics + 2 * k];
    double inside = s->ends == 1 ? INFINITY : s->shape == WEFT_CHANNEL_RING ? least : sum / (s->ends - 1);
    return s->nics ? fmin(inside, nics) : inside;
}

/* ---- the best ---------------------------------------------------------------------------------- */

/* Hops inside and to NICs: the farthest class of each. */
static void note_classes(const weft_search *s, weft_channels *c)
{
    c->worst = c->worst_network = WEFT_PATH_LOC;
    for (int k = 0; k < s->count; k++) {
        const int *order = s->order + (size_t)k * (size_t)s->ends, *parent = s->parent + (size_t)k * (size_t)s->ends;
        for (int i = s->shape == WEFT_CHANNEL_TREE; i < s->ends && s->ends > 1; i++) {
            if (s->shape == WEFT_CHANNEL_RING && s->nics && i == s->ends - 1)
                break; /* the ring goes on through the network */
            int from = s->shape == WEFT_CHANNEL_TREE ? order[parent[i]] : order[i];
            int to = s->shape == WEFT_CHANNEL_TREE ? order[i] : order[(i + 1) % s->ends];
            weft_path_class path_class = weft_way_of(s, from, to)->path_class;
            c->worst = path_class > c->worst ? path_class : c->worst;
        }
        if (s->nic[k] < 0)
            continue;
        weft_path_class in = weft_way_of(s, s->nic[k], order[0])->path_class;
        weft_path_class out = weft_way_of(s, order[s->shape == WEFT_CHANNEL_RING ? s->ends - 1 : 0], s->nic[k])->path_class;
        weft_path_class far = in > out ? in : out;
        c->worst_network = far > c->worst_network ? far : c->worst_network;
    }
}

static void add_load(const weft_search *s, double *load, int from, int to)
{
    const weft_way *way = weft_way_of(s, from, to);
    for (int i = 0; i < way->count; i++)
        load[s->link[way->first + i]] += s->bandwidth;
}

/* Trees that reduce upwards and broadcast downwards at once load links in both directions. */
static double both_ways(weft_search *s, double total)
{
    double worst = 1, *load = s->left;
    memset(load, 0, (size_t)s->directed * sizeof *load);
    for (int k = 0; k < s->count; k++) {
        const int *order = s->order + (size_t)k * (size_t)s->ends, *parent = s->parent + (size_t)k * (size_t)s->ends;
        for (int i = 1; i < s->ends; i++) {
            add_load(s, load, order[parent[i]], order[i]);
            add_load(s, load, order[i], order[parent[i]]);
        }
        if (s->nic[k] >= 0) {
            add_load(s, load, order[0], s->nic[k]);
            add_load(s, load, s->nic[k], order[0]);
        }
    }
    for (int i = 0; i < s->directed; i++)
        if (load[i] > 0 && s->capacity[i] > 0)
            worst = fmax(worst, load[i] / s->capacity[i]);
    return total / worst;
}

/* Takes over what was laid, as nodes. */
static void keep(weft_search *s, weft_channels *best)
{
    best->count = s->count;
    best->bandwidth_Bps = s->bandwidth;
    best->total_Bps = s->bandwidth * s->count;
    note_classes(s, best);
    best->both_ways_Bps = s->shape == WEFT_CHANNEL_TREE ? both_ways(s, best->total_Bps) : best->total_Bps;
    for (int i = 0; i < s->count * s->ends; i++) {
        best->order[i] = s->place[s->order[i]];
        if (best->parent)
            best->parent[i] = s->parent[i];
    }
    for (int k = 0; k < s->count; k++)
        best->nic[k] = s->nic[k] < 0 ? -1 : s->place[s->nic[k]];
}

/* Under these limits, every bandwidth that could beat what is there: first each once, then again with other choices
 * among equals. */
static void search_level(weft_search *s, weft_channels *best, double *list, long work)
{
    double bound = upper_bound(s);
    int count = list_bandwidths(s, list), attempts = s->ends <= 16 ? 24 : s->ends <= 64 ? 4 : 1;
    s->work = work;
    for (int attempt = 0; attempt < attempts; attempt++) {
        bool any = false;
        for (int i = 0; i < count && best->total_Bps < bound * 0.9999 && s->work > 0; i++) {
            int most = (int)fmin(floor(bound / list[i] * 1.0001), s->channels_max);
            if (list[i] * most <= best->total_Bps * 1.0001)
                continue;
            s->bandwidth = list[i];
            weft_channels_lay(s, (uint64_t)attempt);
            any |= s->count > 0;
            if (list[i] * s->count > best->total_Bps * 1.0001)
                keep(s, best);
        }
        if (!any && attempt >= 2)
            return;
    }
}

static void search_levels(weft_search *s, weft_channels *best, double *list)
{
    static const weft_path_class limits[] = {WEFT_PATH_NVL, WEFT_PATH_NVB, WEFT_PATH_PXB,
                                             WEFT_PATH_PHB, WEFT_PATH_SYS, WEFT_PATH_NET};
    static const weft_path_class network_limits[] = {WEFT_PATH_PIX, WEFT_PATH_PXB, WEFT_PATH_PXN, WEFT_PATH_PHB, WEFT_PATH_SYS};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        long work = s->nics == 0 ? 300000 : limits[i] == WEFT_PATH_NVL ? 200000 : 50000;
        s->limit = limits[i];
        for (size_t k = 0; k < (s->nics ? ARRAY_LEN(network_limits) : 1); k++) {
            s->network_limit = network_limits[k];
            /* A great machine has to be laid once at least. */
            search_level(s, best, list, work + 64L * s->ends * s->ends);
        }
        if (best->count > 0 && (limits[i] == WEFT_PATH_NVL || s->ends == 1))
            return; /* NVLink alone joins them all */
    }
}

static weft_channels *channels_create(const weft_search *s)
{
    weft_channels *c = weft_alloc(sizeof *c);
    size_t cells = (size_t)s->channels_max * (size_t)s->ends;
    if (!c)
        return NULL;
    c->ends = s->ends;
    c->order = weft_alloc_array(cells, sizeof *c->order);
    c->parent = s->shape == WEFT_CHANNEL_TREE ? weft_alloc_array(cells, sizeof *c->parent) : NULL;
    c->nic = weft_alloc_array((size_t)s->channels_max, sizeof *c->nic);
    if (c->order && c->nic && (c->parent || s->shape == WEFT_CHANNEL_RING))
        return c;
    weft_channels_free(c);
    return NULL;
}

weft_status weft_topology_search(const weft_topology *t, const weft_channel_request *request, weft_channels **channels)
{
    weft_clear_error();
    if (!request)
        return weft_fail(WEFT_ERR_INVALID, "weft_topology_search: request is NULL");
    if (request->size != sizeof *request || request->channels_max < 0 || request->channels_max > WEFT_CHANNELS_MAX ||
        (request->shape != WEFT_CHANNEL_RING && request->shape != WEFT_CHANNEL_TREE))
        return weft_fail(WEFT_ERR_INVALID,
                         "a channel request of size %zu, shape %d and %d channels: size is sizeof, channels 0 to %d",
                         request->size, (int)request->shape, request->channels_max, WEFT_CHANNELS_MAX);
    weft_search s = {.t = t, .shape = request->shape, .channels_max = request->channels_max ? request->channels_max : 32};
    double *list = NULL;
    weft_channels *best = NULL;
    weft_status status = choose_ends(&s, request);
    if (status == WEFT_OK)
        status = prepare(&s);
    if (status == WEFT_OK) {
        list = weft_alloc_array(BANDWIDTHS_MAX, sizeof *list);
        best = channels_create(&s);
        if (!list || !best)
            status = weft_fail(WEFT_ERR_MEMORY, "no memory for the channels of %d ends", s.ends);
    }
    if (status == WEFT_OK)
        search_levels(&s, best, list);
    search_free(&s);
    weft_free(list);
    if (status == WEFT_OK)
        *channels = best;
    else
        weft_channels_free(best);
    return status;
}

void weft_channels_free(weft_channels *channels)
{
    if (!channels)
        return;
    weft_free(channels->order);
    weft_free(channels->parent);
    weft_free(channels->nic);
    weft_free(channels);
}

/* Laying channels of one bandwidth under the capacities of the links: rings by a search in depth that tries the nearest and least
 * used hop first, trees by growing from a root. A ring laid is tried backwards next, since links work both ways. */
#include <stdlib.h>
#include <string.h>

#include "topology/channel.h"

#define SLACK 1e-6 /* relative: sums of shares of a link's capacity may not quite add up to it */

/* xorshift64 (Marsaglia, 2003): the same channels for the same machine. */
static uint64_t next_random(weft_search *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    return s->random ^= s->random << 17;
}

/* What a way has left at its narrowest, negative: not allowed or no way. */
static double room_on(const weft_search *s, int from, int to)
{
    const weft_way *way = weft_way_of(s, from, to);
    bool network = from >= s->ends || to >= s->ends;
    double least = 1e30;
    if (way->count == 0 || way->path_class > (network ? s->network_limit : s->limit))
        return -1;
    for (int i = 0; i < way->count; i++)
        if (s->left[s->link[way->first + i]] < least)
            least = s->left[s->link[way->first + i]];
    return least;
}

static bool is_enough(const weft_search *s, double room)
{
    return room >= s->bandwidth * (1 - SLACK);
}

static bool fits(weft_search *s, int from, int to)
{
    s->work--;
    return is_enough(s, room_on(s, from, to));
}

static void use(weft_search *s, int from, int to, double bandwidth)
{
    const weft_way *way = weft_way_of(s, from, to);
    for (int i = 0; i < way->count; i++)
        s->left[s->link[way->first + i]] -= bandwidth;
}

/* Takes a hop if it fits even where the way uses a link twice. */
static bool take(weft_search *s, int from, int to)
{
    if (!fits(s, from, to))
        return false;
    use(s, from, to, s->bandwidth);
    const weft_way *way = weft_way_of(s, from, to);
    for (int i = 0; i < way->count; i++) {
        int link = s->link[way->first + i];
        if (s->left[link] < -s->bandwidth * SLACK * 64) {
            use(s, from, to, -s->bandwidth);
            return false;
        }
    }
    return true;
}

/* Nearer ones first; among those the one with most room. Small is good. */
static double score_hop(weft_search *s, int from, int to, double room)
{
    double share = room > 0 ? s->bandwidth / room : 1;
    double tie = s->noise ? (double)(next_random(s) % 1024) / 1024 : share;
    return (double)weft_way_of(s, from, to)->path_class + 0.9 * tie;
}

static int sort_candidates(weft_search *s, int from, bool last, int *list)
{
    int count = 0;
    for (int to = 0; to < s->ends; to++) {
        if (s->taken[to] || (to == s->closer && !last))
            continue;
        double room = room_on(s, from, to);
        s->work--;
        if (!is_enough(s, room))
            continue;
        double score = score_hop(s, from, to, room);
        int at = count++;
        for (; at > 0 && s->score[list[at - 1]] > score; at--)
            list[at] = list[at - 1];
        list[at] = to;
        s->score[to] = score;
    }
    return count;
}

/* ---- rings ------------------------------------------------------------------------------------- */

/* Continues the ring `order` of `depth` ends and closes it to `home` (its first end, or a NIC). Iterative: the depth is the
 * number of ends. */
static bool extend_ring(weft_search *s, int *order, int depth, int home)
{
    int *at = weft_alloc_array((size_t)s->ends * 2 + 2, sizeof *at), *left = at + s->ends + 1;
    bool closed = false;
    int base = depth;
    if (!at)
        return false;
    left[depth] = -1;
    while (depth >= base) {
        int from = depth > 0 ? order[depth - 1] : home, *list = s->rank_order + (size_t)depth * (size_t)s->ends;
        if (depth == s->ends) {
            closed = take(s, from, home);
            if (closed)
                break;
        } else if (left[depth] < 0) {
            left[depth] = sort_candidates(s, from, depth == s->ends - 1, list);
            at[depth] = 0;
        }
        bool moved = false;
        while (depth < s->ends && at[depth] < left[depth] && !moved) {
            int to = list[at[depth]++];
            moved = s->steps-- > 0 && s->work > 0 && take(s, from, to);
            if (moved) {
                s->taken[to] = true;
                order[depth++] = to;
                left[depth] = -1;
            }
        }
        if (moved)
            continue;
        if (--depth < base)
            break;
        s->taken[order[depth]] = false;
        use(s, depth > 0 ? order[depth - 1] : home, order[depth], -s->bandwidth);
    }
    weft_free(at);
    return closed;
}

/* NICs with most room first. */
static int pick_nics(const weft_search *s, int *list)
{
    int count = 0;
    for (int k = 0; k < s->nics; k++) {
        double room = s->left[s->directed - 2 * s->nics + 2 * k];
        int at = count++;
        for (; at > 0 && s->left[s->directed - 2 * s->nics + 2 * (list[at - 1] - s->ends)] < room; at--)
            list[at] = list[at - 1];
        list[at] = s->ends + k;
    }
    return count;
}

/* Ends that can reach the NIC, the nearest first. A ring has to end at one of them, so that one is kept for the end. */
static int pick_closers(weft_search *s, int nic, int *list)
{
    int count = 0;
    for (int end = 0; end < s->ends; end++) {
        if (!fits(s, end, nic))
            continue;
        double score = score_hop(s, end, nic, room_on(s, end, nic));
        int at = count++;
        for (; at > 0 && s->score[list[at - 1]] > score; at--)
            list[at] = list[at - 1];
        list[at] = end;
        s->score[end] = score;
    }
    return count;
}

static bool lay_ring_by_nic(weft_search *s, int *order, int nic)
{
    int closer[WEFT_CHANNEL_ENDS_MAX], closers = pick_closers(s, nic, closer), tries = s->ends > 32 ? 4 : closers;
    bool laid = false;
    for (int i = 0; i < closers && i < tries && !laid; i++) {
        memset(s->taken, 0, (size_t)s->ends * sizeof *s->taken);
        s->steps = 100 + 10L * s->ends;
        s->closer = closer[i];
        laid = extend_ring(s, order, 0, nic);
    }
    s->closer = -1;
    return laid;
}

static bool lay_ring(weft_search *s, int *order, int *nic)
{
    s->closer = -1;
    if (s->nics == 0) {
        int start = s->noise ? (int)(next_random(s) % (uint64_t)s->ends) : 0;
        memset(s->taken, 0, (size_t)s->ends * sizeof *s->taken);
        s->steps = 400 + 20L * s->ends;
        order[0] = start;
        s->taken[start] = true;
        *nic = -1;
        return s->ends == 1 || extend_ring(s, order, 1, start);
    }
    int list[WEFT_CHANNEL_ENDS_MAX], nics = pick_nics(s, list);
    for (int k = 0; k < nics; k++) {
        *nic = list[k];
        if (lay_ring_by_nic(s, order, list[k]))
            return true;
    }
    return false;
}

/* The ring before, the other way round; false leaves everything as it was. */
static bool lay_backwards(weft_search *s, const int *before, int before_nic, int *order, int *nic)
{
    int hops = s->ends + (before_nic >= 0), done = 0;
    for (int i = 0; i < s->ends; i++)
        order[i] = before[s->ends - 1 - i];
    *nic = before_nic;
    for (; done < hops; done++) {
        int from = before_nic < 0 ? order[done] : done ? order[done - 1] : before_nic;
        int to = before_nic < 0 ? order[(done + 1) % s->ends] : done < s->ends ? order[done] : before_nic;
        if (!take(s, from, to))
            break;
    }
    if (done == hops)
        return true;
    while (done-- > 0) {
        int from = before_nic < 0 ? order[done] : done ? order[done - 1] : before_nic;
        int to = before_nic < 0 ? order[(done + 1) % s->ends] : done < s->ends ? order[done] : before_nic;
        use(s, from, to, -s->bandwidth);
    }
    return false;
}

/* ---- trees ------------------------------------------------------------------------------------- */

static double room_out_of(const weft_search *s, int end)
{
    double sum = 0;
    const weft_graph_node *node = &s->t->node[s->place[end]];
    for (int i = node[0].edge_begin; i < node[1].edge_begin; i++) {
        int edge = s->t->edge_order[i];
        sum += s->left[edge * 2 + (s->t->edge[edge].b == s->place[end])];
    }
    return sum;
}

/* The next edge of the tree: near, then with room, then from an end that has much left. */
static bool grow(weft_search *s, int *order, int *parent, int *children, int size)
{
    enum { CHILDREN_MAX = 2 };
    double best = 1e30;
    int best_from = -1, best_to = -1;
    for (int i = 0; i < size; i++) {
        if (children[i] >= CHILDREN_MAX)
            continue;
        double spare = room_out_of(s, order[i]);
        for (int to = 0; to < s->ends; to++) {
            if (s->taken[to])
                continue;
            double room = room_on(s, order[i], to);
            s->work--;
            if (!is_enough(s, room))
                continue;
            double score = 2 * score_hop(s, order[i], to, room) + (spare > 0 ? s->bandwidth / spare : 1) + 0.1 * children[i];
            if (score < best) {
                best = score;
                best_from = i;
                best_to = to;
            }
        }
    }
    if (best_from < 0 || !take(s, order[best_from], best_to))
        return false;
    children[best_from]++;
    order[size] = best_to;
    parent[size] = best_from;
    s->taken[best_to] = true;
    return true;
}

static bool grow_from(weft_search *s, int root, int *order, int *parent)
{
    int *children = s->rank_order, size = 1; /* as many as ends: the rows of the ring search are free here */
    memset(children, 0, (size_t)s->ends * sizeof *children);
    memset(s->taken, 0, (size_t)s->ends * sizeof *s->taken);
    order[0] = root;
    parent[0] = -1;
    s->taken[root] = true;
    while (size < s->ends && grow(s, order, parent, children, size))
        size++;
    if (size == s->ends)
        return true;
    while (--size > 0)
        use(s, order[parent[size]], order[size], -s->bandwidth);
    return false;
}

/* Roots with most room first: every tree spares its root's way in. */
static int pick_roots(weft_search *s, int *list)
{
    for (int i = 0; i < s->ends; i++) {
        double room = room_out_of(s, i) * (s->noise ? 1 + (double)(next_random(s) % 64) / 256 : 1);
        int at = i;
        s->score[i] = room;
        for (; at > 0 && s->score[list[at - 1]] < room; at--)
            list[at] = list[at - 1];
        list[at] = i;
    }
    return s->ends;
}

static bool lay_tree(weft_search *s, int *order, int *parent, int *nic)
{
    int roots[WEFT_CHANNEL_ENDS_MAX], count = pick_roots(s, roots), tries = s->ends > 32 ? 4 : count;
    *nic = -1;
    if (s->nics == 0) {
        for (int i = 0; i < count && i < tries; i++)
            if (grow_from(s, roots[i], order, parent))
                return true;
        return false;
    }
    int list[WEFT_CHANNEL_ENDS_MAX], nics = pick_nics(s, list);
    for (int k = 0; k < nics; k++) {
        for (int i = 0; i < count; i++) {
            if (!take(s, list[k], roots[i]))
                continue;
            if (take(s, roots[i], list[k])) {
                *nic = list[k];
                if (grow_from(s, roots[i], order, parent))
                    return true;
                use(s, roots[i], list[k], -s->bandwidth);
            }
            use(s, list[k], roots[i], -s->bandwidth);
        }
    }
    return false;
}

void weft_channels_lay(weft_search *s, uint64_t seed)
{
    memcpy(s->left, s->capacity, (size_t)s->directed * sizeof *s->left);
    s->random = seed * 0x9e3779b97f4a7c15u + 1;
    s->noise = seed != 0;
    bool backwards = false;
    for (s->count = 0; s->count < s->channels_max && s->work > 0; s->count++) {
        int *order = s->order + (size_t)s->count * (size_t)s->ends, *nic = &s->nic[s->count];
        bool laid;
        if (s->shape == WEFT_CHANNEL_TREE) {
            laid = lay_tree(s, order, s->parent + (size_t)s->count * (size_t)s->ends, nic);
        } else {
            backwards = s->count > 0 && !backwards && lay_backwards(s, order - s->ends, nic[-1], order, nic);
            laid = backwards || lay_ring(s, order, nic);
        }
        if (!laid)
            return;
    }
}

/* Double binary trees: two trees over the same ranks, each for half of the chunks, such that (nearly) every
 * rank is inner in one and leaf in the other; so that log2 n deep pipelines use the full bandwidth. After
 * Sanders, Speck and Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan". Where ranks share hosts,
 * NUMA nodes or caches, trees of these are nested. */
#include "collectives/plan.h"

enum { LEVELS = 4, CHILDREN_MAX = 2 * LEVELS };

/* A rank's place in one tree. */
typedef struct node {
    int parent;              /* rank, -1 at the top */
    int child[CHILDREN_MAX]; /* ranks, those over the slowest link first */
    int children;
} node;

/* Positions begin .. end - 1 of the order. */
typedef struct range {
    int begin, end;
} range;

/* One of the two trees. It is nested: one over hosts, in each host one over NUMA nodes, in each of these one over caches, in each
 * of these one over ranks; of the tree around it a part sees its leader only. So a slow link is crossed by one edge. */
typedef struct forest {
    const weft_group *group;
    weft_order order;
    int which;
} forest;

/* Node `label` of 1..n of the in-order binary tree, in which a label's height is its number of trailing zero
 * bits: odd labels are leaves. The right subtree is cut off at n. */
static void in_order_tree(int label, int n, int *parent, int children[2], int *count)
{
    int bit = label & -label;
    *count = 0;
    if (bit > 1)
        children[(*count)++] = label - bit / 2;
    for (int half = bit / 2; half >= 1; half /= 2)
        if (label + half <= n) {
            children[(*count)++] = label + half;
            break;
        }
    *parent = 0;
    for (int up = label, b = bit; b <= n && !*parent; b *= 2) {
        up = (up ^ b) | b * 2;
        if (up <= n)
            *parent = up;
    }
}

/* What tells parts of a level apart. */
static int key_of(const forest *f, int level, int position)
{
    const int *const keys[LEVELS - 1] = { f->group->host, f->group->numa, f->group->cache };
    if (level == LEVELS - 1)
        return position;
    return keys[level] ? keys[level][f->order.rank[position]] : 0;
}

static range part_from(const forest *f, int level, range within, int begin)
{
    range part = { begin, begin + 1 };
    while (part.end < within.end && key_of(f, level, part.end) == key_of(f, level, begin))
        part.end++;
    return part;
}

/* How many parts of a level there are within a range, and which of them holds `position` (-1: not asked). */
static int count_parts(const forest *f, int level, range within, int position, int *index)
{
    int count = 0;
    for (range part = { 0, within.begin }; part.end < within.end; count++) {
        part = part_from(f, level, within, part.end);
        if (index && position >= part.begin && position < part.end)
            *index = count;
    }
    return count;
}

static range part_at(const forest *f, int level, range within, int index)
{
    range part = part_from(f, level, within, within.begin);
    while (index-- > 0)
        part = part_from(f, level, within, part.end);
    return part;
}

/* The label of the `index`-th of `count` siblings and back: the second tree is shifted by one, so that odd labels (leaves) become
 * even ones. */
static int label_of(const forest *f, int index, int count)
{
    return (index - f->which + count) % count + 1;
}

static int index_of(const forest *f, int label, int count)
{
    return (label - 1 + f->which) % count;
}

/* The position of the rank at the top of a range: the largest power of two is the label of every in-order tree's root. */
static int leader_of(const forest *f, int level, range within)
{
    for (; level < LEVELS; level++) {
        int count = count_parts(f, level, within, -1, NULL);
        within = part_at(f, level, within, index_of(f, weft_floor_pow2(count), count));
    }
    return within.begin;
}

static int leading_rank(const forest *f, int level, range within, int index)
{
    return f->order.rank[leader_of(f, level + 1, part_at(f, level, within, index))];
}

/* Joins this rank, the leader of a part, with the leaders of its siblings: it is number `sibling` of `count`, which are the parts
 * from number `first` on, round the `parts` of the level; the one that holds the root is none of them. */
static void join_siblings(const forest *f, int level, range within, int sibling, int first, int count, int parts, int root,
                          node *t)
{
    int parent, child[2], children;
    in_order_tree(label_of(f, sibling, count), count, &parent, child, &children);
    if (parent)
        t->parent = leading_rank(f, level, within, (index_of(f, parent, count) + first) % parts);
    else if (root >= 0)
        t->parent = root;
    for (int i = 0; i < children; i++)
        t->child[t->children++] = leading_rank(f, level, within, (index_of(f, child[i], count) + first) % parts);
}

/* root: a rank that stands outside of the trees, which are made of the others and whose tops talk to it; -1: none. */
static node node_of(const forest *f, int root, int root_position)
{
    node t = { .parent = -1 };
    range within = { 0, f->order.ranks };
    int position = f->order.position;
    for (int level = 0; level < LEVELS; level++) {
        int own = 0, theirs = -1, parts = count_parts(f, level, within, position, &own);
        range mine = part_at(f, level, within, own);
        if (root >= 0)
            count_parts(f, level, within, root_position, &theirs);
        if (theirs == own && parts > 1 && position == root_position)
            t.child[t.children++] =
                leading_rank(f, level, within, (index_of(f, weft_floor_pow2(parts - 1), parts - 1) + own + 1) % parts);
        if (theirs != own && leader_of(f, level + 1, mine) == position) {
            int first = theirs + 1, count = theirs < 0 ? parts : parts - 1;
            join_siblings(f, level, within, (own - first + parts) % parts, first, count, parts, root, &t);
        }
        if (theirs != own) /* the root is in another part */
            root = -1;
        within = mine;
    }
    return t;
}

/* Combines the subtree's values and hands them to `up` (-1: nobody). */
static void reduce_up(weft_builder *b, uint32_t lane, const node *t, weft_place own, weft_place into, int up,
                      unsigned flags)
{
    if (!t->children)
        weft_build_send(b, lane, own, up);
    for (int i = t->children - 1; i >= 0; i--) { /* the slowest link's last: it is passed on as it comes */
        bool first = i == t->children - 1;
        weft_build_recv_reduce(b, lane, t->child[i], first ? own : into, into, i ? -1 : up, i ? 0 : flags);
    }
}

static void broadcast_down(weft_builder *b, uint32_t lane, const node *t, weft_place place, int from)
{
    if (from >= 0)
        weft_build_recv(b, lane, from, place, t->children ? t->child[0] : -1);
    for (int i = from >= 0 ? 1 : 0; i < t->children; i++)
        weft_build_send(b, lane, place, t->child[i]);
}

/* Lanes come in pairs, one per tree. */
static uint32_t tree_lanes(const weft_plan_request *request)
{
    return (weft_plan_lanes(request, 2) + 1) / 2 * 2;
}

/* This rank's steps of every lane, as `plan_lane` makes them from its node in the lane's tree. With a root, which stands outside:
 * the trees are made of the others, and their tops talk to it. */
static weft_status plan_lanes(weft_builder *b, const weft_plan_request *request, int rank, int root,
                              void (*plan_lane)(weft_builder *b, uint32_t lane, const node *t, bool is_root))
{
    forest f = { .group = &request->group };
    weft_status status = weft_order_create(&f.order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = tree_lanes(request);
    int root_position = 0;
    while (root >= 0 && f.order.rank[root_position] != root)
        root_position++;
    for (uint32_t lane = 0; lane < lanes; lane++) {
        f.which = lane % 2;
        node t = node_of(&f, root, root_position);
        plan_lane(b, lane, &t, rank == root);
    }
    weft_order_free(&f.order);
    return WEFT_OK;
}

static void all_reduce_lane(weft_builder *b, uint32_t lane, const node *t, bool is_root)
{
    (void)is_root;
    weft_place output = weft_at(b, WEFT_OUTPUT, lane, 1);
    reduce_up(b, lane, t, weft_at(b, WEFT_INPUT, lane, 1), output, t->parent, t->parent < 0 ? WEFT_STEP_FINAL : 0);
    broadcast_down(b, lane, t, output, t->parent);
}

weft_status weft_plan_tree_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = tree_lanes(request);
    weft_build_shape(b, lanes, 0, lanes);
    return plan_lanes(b, request, rank, -1, all_reduce_lane);
}

static void broadcast_lane(weft_builder *b, uint32_t lane, const node *t, bool is_root)
{
    weft_place input = weft_at(b, WEFT_INPUT, lane, 1), output = weft_at(b, WEFT_OUTPUT, lane, 1);
    if (is_root) {
        for (int i = 0; i < t->children; i++)
            weft_build_send(b, lane, input, t->child[i]);
        weft_build_copy(b, lane, input, output, 0);
    } else {
        broadcast_down(b, lane, t, output, t->parent);
    }
}

weft_status weft_plan_tree_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = tree_lanes(request);
    weft_build_shape(b, lanes, 0, lanes);
    return plan_lanes(b, request, rank, request->root, broadcast_lane);
}

static void reduce_lane(weft_builder *b, uint32_t lane, const node *t, bool is_root)
{
    reduce_up(b, lane, t, weft_at(b, WEFT_INPUT, lane, 1), weft_at(b, is_root ? WEFT_OUTPUT : WEFT_SCRATCH, lane, 1),
              is_root ? -1 : t->parent, is_root ? WEFT_STEP_FINAL : 0);
}

weft_status weft_plan_tree_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    uint32_t lanes = tree_lanes(request);
    weft_build_shape(b, lanes, lanes, lanes);
    return plan_lanes(b, request, rank, request->root, reduce_lane);
}

/* Double binary trees: two trees over the same ranks, each for half of the chunks, such that (nearly) every
 * rank is inner in one and leaf in the other; so that log2 n deep pipelines use the full bandwidth. After
 * Sanders, Speck and Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan". */
#include "collectives/plan.h"

/* A rank's place in one tree. */
typedef struct node {
    int parent;   /* rank, -1 at the top */
    int child[2]; /* ranks; the first `children` are there */
    int children;
} node;

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

/* The rank of node `label` of tree `which` among `nodes` ranks from position `first` of the order on. The
 * second tree is shifted by one, so that odd labels (leaves) become even ones. */
static int rank_of(const weft_order *order, int first, int nodes, int which, int label)
{
    return order->rank[(first + (label - 1 + which) % nodes) % order->ranks];
}

static node node_of(const weft_order *order, int first, int nodes, int which)
{
    int index = (order->position - first + order->ranks) % order->ranks;
    int label = (index - which + nodes) % nodes + 1, parent, child[2];
    node t;
    in_order_tree(label, nodes, &parent, child, &t.children);
    t.parent = parent ? rank_of(order, first, nodes, which, parent) : -1;
    for (int i = 0; i < t.children; i++)
        t.child[i] = rank_of(order, first, nodes, which, child[i]);
    return t;
}

/* The rank at the top: the largest power of two is the label of every in-order tree's root. */
static int top_of(const weft_order *order, int first, int nodes, int which)
{
    return rank_of(order, first, nodes, which, weft_floor_pow2(nodes));
}

/* Combines the subtree's values and hands them to `up` (-1: nobody). */
static void reduce_up(weft_builder *b, uint32_t lane, const node *t, weft_place own, weft_place into, int up,
                      unsigned flags)
{
    if (!t->children)
        weft_build_send(b, lane, own, up);
    for (int i = 0; i < t->children; i++) {
        bool last = i == t->children - 1;
        weft_build_recv_reduce(b, lane, t->child[i], i ? into : own, into, last ? up : -1, last ? flags : 0);
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

weft_status weft_plan_tree_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = tree_lanes(request);
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        node t = node_of(&order, 0, order.ranks, lane % 2);
        weft_place output = weft_at(b, WEFT_OUTPUT, lane, 1);
        reduce_up(b, lane, &t, weft_at(b, WEFT_INPUT, lane, 1), output, t.parent,
                  t.parent < 0 ? WEFT_STEP_FINAL : 0);
        broadcast_down(b, lane, &t, output, t.parent);
    }
    weft_order_free(&order);
    return WEFT_OK;
}

static int position_of(const weft_order *order, int rank)
{
    int position = 0;
    while (order->rank[position] != rank)
        position++;
    return position;
}

/* With a root: it stands outside, the trees are made of the others, and their tops talk to it. */
weft_status weft_plan_tree_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = tree_lanes(request);
    int first = position_of(&order, request->root) + 1, nodes = order.ranks - 1;
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        weft_place input = weft_at(b, WEFT_INPUT, lane, 1), output = weft_at(b, WEFT_OUTPUT, lane, 1);
        if (rank == request->root) {
            weft_build_send(b, lane, input, top_of(&order, first, nodes, lane % 2));
            weft_build_copy(b, lane, input, output, 0);
        } else {
            node t = node_of(&order, first, nodes, lane % 2);
            broadcast_down(b, lane, &t, output, t.parent < 0 ? request->root : t.parent);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

weft_status weft_plan_tree_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    weft_order order;
    weft_status status = weft_order_create(&order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t lanes = tree_lanes(request);
    int first = position_of(&order, request->root) + 1, nodes = order.ranks - 1;
    weft_build_shape(b, lanes, lanes, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        weft_place input = weft_at(b, WEFT_INPUT, lane, 1);
        if (rank == request->root) {
            weft_build_recv_reduce(b, lane, top_of(&order, first, nodes, lane % 2), input,
                                   weft_at(b, WEFT_OUTPUT, lane, 1), -1, WEFT_STEP_FINAL);
        } else {
            node t = node_of(&order, first, nodes, lane % 2);
            reduce_up(b, lane, &t, input, weft_at(b, WEFT_SCRATCH, lane, 1),
                      t.parent < 0 ? request->root : t.parent, 0);
        }
    }
    weft_order_free(&order);
    return WEFT_OK;
}

/* k-nomial trees: few rounds, for small messages. Ranks are numbered from the root on ("virtual"); the parent
 * of a virtual rank is that number with its lowest non-zero digit in base k cleared, so that a subtree is a
 * contiguous range and a reduction with root 0 keeps rank order. */
#include "collectives/plan.h"

typedef struct tree {
    int ranks, root, radix;
    int virtual_rank;
    int reach;  /* this rank's subtree is [virtual_rank, virtual_rank + reach), cut off at ranks */
    int parent; /* rank, -1 at the root */
} tree;

static int real_rank(const tree *t, int virtual_rank)
{
    return (virtual_rank + t->root) % t->ranks;
}

static tree tree_of(const weft_plan_request *request, int rank, int root)
{
    enum { DEFAULT_RADIX = 4 };
    int n = request->group.ranks;
    tree t = { .ranks = n,
              .root = root,
              .radix = request->radix ? request->radix : DEFAULT_RADIX,
              .reach = 1,
              .parent = -1 };
    if (t.radix > n && n > 1)
        t.radix = n;
    t.virtual_rank = (rank - root + n) % n;
    if (t.virtual_rank == 0) {
        while (t.reach < n)
            t.reach *= t.radix;
        return t;
    }
    while (t.virtual_rank / t.reach % t.radix == 0)
        t.reach *= t.radix;
    int digit = t.virtual_rank / t.reach % t.radix;
    t.parent = real_rank(&t, t.virtual_rank - digit * t.reach);
    return t;
}

/* One child, and where a walk over the children stands. */
typedef struct child {
    int weight, digit; /* its number is the parent's plus digit * weight */
    int virtual_rank, rank, size; /* of its subtree */
} child;

static bool child_at(const tree *t, int weight, int digit, child *c)
{
    c->weight = weight;
    c->digit = digit;
    c->virtual_rank = t->virtual_rank + digit * weight;
    if (c->virtual_rank >= t->ranks)
        return false;
    c->rank = real_rank(t, c->virtual_rank);
    c->size = t->ranks - c->virtual_rank < weight ? t->ranks - c->virtual_rank : weight;
    return true;
}

/* Children in ascending order of weight and digit; start with *c zeroed. */
static bool next_child(const tree *t, child *c)
{
    int weight = c->weight ? c->weight : 1, digit = c->digit + 1;
    if (digit == t->radix) {
        digit = 1;
        weight *= t->radix;
    }
    return weight < t->reach && child_at(t, weight, digit, c);
}

/* Children in descending order; start with *c zeroed. */
static bool previous_child(const tree *t, child *c)
{
    int weight = c->weight ? c->weight : t->reach, digit = c->digit - 1;
    for (;; digit--) {
        if (digit < 1) {
            weight /= t->radix;
            digit = t->radix - 1;
        }
        if (weight < 1)
            return false;
        if (child_at(t, weight, digit, c))
            return true;
    }
}

/* Everything under this rank combined in virtual order, into `into` (or straight from `own` at a leaf), and
 * up to the parent. */
static void reduce_up(weft_builder *b, uint32_t lane, const tree *t, weft_place own, weft_place into)
{
    child c = { 0 }, ahead = { 0 };
    weft_place accumulated = own;
    bool more = next_child(t, &ahead);
    if (!more)
        weft_build_send(b, lane, own, t->parent);
    while (more) {
        c = ahead;
        more = next_child(t, &ahead);
        weft_build_recv_reduce(b, lane, c.rank, accumulated, into, more ? -1 : t->parent,
                               !more && t->parent < 0 ? WEFT_STEP_FINAL : 0);
        accumulated = into;
    }
}

/* From the parent to `place` (at the root it lies there already) and on to the children, largest subtree
 * first. */
static void broadcast_down(weft_builder *b, uint32_t lane, const tree *t, weft_place place)
{
    child c = { 0 };
    bool more = previous_child(t, &c);
    if (t->parent >= 0) {
        weft_build_recv(b, lane, t->parent, place, more ? c.rank : -1);
        more = more && previous_child(t, &c);
    }
    for (; more; more = previous_child(t, &c))
        weft_build_send(b, lane, place, c.rank);
}

weft_status weft_plan_knomial_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, request->root);
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        weft_place input = weft_at(b, WEFT_INPUT, lane, 1), output = weft_at(b, WEFT_OUTPUT, lane, 1);
        broadcast_down(b, lane, &t, t.parent < 0 ? input : output);
        if (t.parent < 0)
            weft_build_copy(b, lane, input, output, 0);
    }
    return WEFT_OK;
}

weft_status weft_plan_knomial_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, request->root);
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, lanes, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++)
        reduce_up(b, lane, &t, weft_at(b, WEFT_INPUT, lane, 1),
                  weft_at(b, t.parent < 0 ? WEFT_OUTPUT : WEFT_SCRATCH, lane, 1));
    return WEFT_OK;
}

weft_status weft_plan_knomial_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, 0);
    uint32_t lanes = weft_plan_lanes(request, 1);
    weft_build_shape(b, lanes, 0, lanes);
    for (uint32_t lane = 0; lane < lanes; lane++) {
        weft_place output = weft_at(b, WEFT_OUTPUT, lane, 1);
        reduce_up(b, lane, &t, weft_at(b, WEFT_INPUT, lane, 1), output);
        broadcast_down(b, lane, &t, output);
    }
    return WEFT_OK;
}

weft_status weft_plan_knomial_barrier(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, 0);
    weft_build_shape(b, 1, 0, 1);
    weft_place nothing = weft_at(b, WEFT_SCRATCH, 0, 0);
    for (child c = { 0 }; next_child(&t, &c);)
        weft_build_recv(b, 0, c.rank, nothing, -1);
    if (t.parent >= 0) {
        weft_build_send(b, 0, nothing, t.parent);
        weft_build_recv(b, 0, t.parent, nothing, -1);
    }
    for (child c = { 0 }; previous_child(&t, &c);)
        weft_build_send(b, 0, nothing, c.rank);
    return WEFT_OK;
}

/* Size of the largest subtree under the root: what inner ranks need room for, the same on all ranks. */
static uint32_t largest_subtree(const tree *t)
{
    int weight = 1;
    while (weight * t->radix < t->ranks)
        weight *= t->radix;
    return (uint32_t)weight;
}

/* The blocks of virtual ranks [from, from + count) as they lie in a buffer of all blocks by real rank: at
 * most two runs, since the numbering wraps round. Fills first and length of each, returns how many. */
static int real_runs(const tree *t, int from, int count, uint32_t first[2], uint32_t length[2])
{
    int start = real_rank(t, from), until_end = t->ranks - start;
    first[0] = (uint32_t)start;
    length[0] = (uint32_t)(count < until_end ? count : until_end);
    first[1] = 0;
    length[1] = (uint32_t)count - length[0];
    return length[1] ? 2 : 1;
}

weft_status weft_plan_knomial_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, request->root);
    uint32_t first[2], length[2];
    weft_build_shape(b, 1, largest_subtree(&t), 1);
    weft_place own = weft_at(b, WEFT_INPUT, 0, 1);
    int size = t.ranks - t.virtual_rank < t.reach ? t.ranks - t.virtual_rank : t.reach;
    if (size > 1)
        weft_build_copy(b, 0, own, t.parent < 0 ? weft_at(b, WEFT_OUTPUT, (uint32_t)rank, 1)
                                                : weft_at(b, WEFT_SCRATCH, 0, 1), 0);
    for (child c = { 0 }; next_child(&t, &c);) {
        int runs = real_runs(&t, c.virtual_rank, c.size, first, length);
        uint32_t offset = (uint32_t)(c.virtual_rank - t.virtual_rank);
        for (int i = 0; i < runs; offset += length[i], i++)
            weft_build_recv(b, 0, c.rank, t.parent < 0 ? weft_at(b, WEFT_OUTPUT, first[i], length[i])
                                                       : weft_at(b, WEFT_SCRATCH, offset, length[i]), -1);
    }
    if (t.parent < 0)
        return WEFT_OK;
    int runs = real_runs(&t, t.virtual_rank, size, first, length);
    for (int i = 0; i < runs; i++)
        weft_build_send(b, 0, size == 1 ? own : weft_at(b, WEFT_SCRATCH, i ? length[0] : 0, length[i]),
                        t.parent);
    return WEFT_OK;
}

weft_status weft_plan_knomial_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    tree t = tree_of(request, rank, request->root);
    uint32_t first[2], length[2];
    weft_build_shape(b, 1, largest_subtree(&t), 1);
    weft_place own = weft_at(b, WEFT_OUTPUT, 0, 1);
    int size = t.ranks - t.virtual_rank < t.reach ? t.ranks - t.virtual_rank : t.reach;
    if (t.parent >= 0) {
        int runs = real_runs(&t, t.virtual_rank, size, first, length);
        for (int i = 0; i < runs; i++)
            weft_build_recv(b, 0, t.parent,
                            size == 1 ? own : weft_at(b, WEFT_SCRATCH, i ? length[0] : 0, length[i]), -1);
    }
    for (child c = { 0 }; previous_child(&t, &c);) {
        int runs = real_runs(&t, c.virtual_rank, c.size, first, length);
        uint32_t offset = (uint32_t)(c.virtual_rank - t.virtual_rank);
        for (int i = 0; i < runs; offset += length[i], i++)
            weft_build_send(b, 0, t.parent < 0 ? weft_at(b, WEFT_INPUT, first[i], length[i])
                                               : weft_at(b, WEFT_SCRATCH, offset, length[i]), c.rank);
    }
    if (t.parent < 0)
        weft_build_copy(b, 0, weft_at(b, WEFT_INPUT, (uint32_t)rank, 1), own, 0);
    else if (size > 1)
        weft_build_copy(b, 0, weft_at(b, WEFT_SCRATCH, 0, 1), own, 0);
    return WEFT_OK;
}

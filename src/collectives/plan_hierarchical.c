/* Hierarchical planners: within a host by reading each other's published buffers, between hosts by rings. The
 * ring of column j joins the j-th rank of every host and carries part j of the data; there are as many
 * columns as the smallest host has ranks, and all drive the network at once. Ranks of a host may be any and
 * of unequal number; those beyond the columns only take part within the host. On a single host there is no
 * hierarchy: the direct planners serve it. */
#include "collectives/plan.h"

typedef struct layout {
    weft_order order;
    int columns;
    int host, index;      /* this rank is the index-th of its host */
    int mates;            /* ranks of this host */
    const int *mate;
    bool column;          /* it drives a column */
    bool shares;          /* any host has several ranks */
} layout;

static weft_status layout_create(layout *t, const weft_plan_request *request, int rank)
{
    weft_status status = weft_order_create(&t->order, &request->group, rank);
    if (status != WEFT_OK)
        return status;
    t->host = request->group.host ? request->group.host[rank] : 0;
    t->columns = t->order.ranks;
    t->shares = false;
    for (int h = 0; h < t->order.hosts; h++) {
        int size = t->order.start[h + 1] - t->order.start[h];
        t->columns = size < t->columns ? size : t->columns;
        t->shares |= size > 1;
    }
    t->mate = t->order.rank + t->order.start[t->host];
    t->mates = t->order.start[t->host + 1] - t->order.start[t->host];
    t->index = t->order.position - t->order.start[t->host];
    t->column = t->index < t->columns;
    return WEFT_OK;
}

/* The host `steps` further round. */
static int host_along(const layout *t, int steps)
{
    int hosts = t->order.hosts;
    return ((t->host + steps) % hosts + hosts) % hosts;
}

/* This rank's neighbour in its column, `steps` hosts further. */
static int neighbour(const layout *t, int steps)
{
    return t->order.rank[t->order.start[host_along(t, steps)] + t->index];
}

static void publish_and_signal(weft_builder *b, weft_place place)
{
    weft_build_publish(b, 0, place, 0);
    weft_build_signal(b, 0, 0);
}

static void wait_for_mates(weft_builder *b, const layout *t, uint32_t value)
{
    for (int i = 1; i < t->mates; i++)
        weft_build_wait(b, 0, t->mate[(t->index + i) % t->mates], value, 0);
}

/* Before buffers may go: every mate has raised its last signal, which is number `column_value` for those with
 * a column. Emits this rank's own; waits only if `waits`. */
static void leave(weft_builder *b, const layout *t, uint32_t column_value, uint32_t other_value, bool waits)
{
    if (t->mates == 1)
        return;
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    for (int i = 1; waits && i < t->mates; i++) {
        int index = (t->index + i) % t->mates;
        weft_build_wait(b, 0, t->mate[index], index < t->columns ? column_value : other_value,
                        WEFT_STEP_IF_MAPPED);
    }
}

/* ---- all_reduce, broadcast, reduce: part j of the data belongs to column j ---------------------- */

/* The operand of this host at chunk `chunk` of the input: combined from all mates into `into`, or the input
 * itself. */
static weft_place host_operand(weft_builder *b, const layout *t, uint32_t chunk, weft_place into,
                               weft_status *status)
{
    weft_place input = weft_at(b, WEFT_INPUT, chunk, 1);
    if (t->mates == 1)
        return input;
    weft_status result = weft_build_reduce_ranks(b, t->mate, t->mates, input, into, 0);
    if (result != WEFT_OK)
        *status = result;
    return into;
}

/* The ring of one column over its part, which begins at chunk `base` and has a chunk per host. The host's
 * operand of a chunk is made just before it is needed, while the one before travels. */
static weft_status column_all_reduce(weft_builder *b, const layout *t, uint32_t base)
{
    int hosts = t->order.hosts, next = neighbour(t, 1), previous = neighbour(t, -1);
    weft_status status = WEFT_OK;
    uint32_t chunk = base + (uint32_t)t->host;
    weft_place output = weft_at(b, WEFT_OUTPUT, chunk, 1);
    weft_place operand = host_operand(b, t, chunk, output, &status);
    weft_build_send(b, 0, operand, next);
    for (int s = 1; s < hosts; s++) {
        chunk = base + (uint32_t)host_along(t, -s);
        output = weft_at(b, WEFT_OUTPUT, chunk, 1);
        operand = host_operand(b, t, chunk, output, &status);
        weft_build_recv_reduce(b, 0, previous, operand, output, next, s == hosts - 1 ? WEFT_STEP_FINAL : 0);
    }
    for (int s = 1; s < hosts; s++)
        weft_build_recv(b, 0, previous, weft_at(b, WEFT_OUTPUT, base + (uint32_t)host_along(t, 1 - s), 1),
                        s < hosts - 1 ? next : -1);
    return status;
}

/* What each column's rank of this host has published in its output: `count` chunks per column. */
static void take_columns(weft_builder *b, const layout *t, uint32_t count, uint32_t value)
{
    for (int i = 0; i < t->columns; i++) {
        int index = (t->index + i) % t->columns;
        if (index == t->index)
            continue;
        uint32_t first = (uint32_t)index * count;
        weft_build_wait(b, 0, t->mate[index], value, 0);
        weft_build_copy(b, 0, weft_at_rank(t->mate[index], WEFT_OUTPUT, first, count),
                        weft_at(b, WEFT_OUTPUT, first, count), 0);
    }
}

/* In place: part j of an input is read by column j only, before its second signal, and overwritten after
 * that. */
weft_status weft_plan_hierarchical_all_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_direct_all_reduce(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t part = (uint32_t)t.order.hosts, all = part * (uint32_t)t.columns,
             base = part * (uint32_t)t.index;
    weft_build_shape(b, all, 0, 1);
    if (t.shares)
        weft_build_local(b, true, true);
    if (t.mates > 1)
        publish_and_signal(b, weft_at(b, WEFT_INPUT, 0, all));
    if (t.column) {
        wait_for_mates(b, &t, 1);
        status = column_all_reduce(b, &t, base);
        if (t.mates > 1)
            publish_and_signal(b, weft_at(b, WEFT_OUTPUT, base, part));
    }
    take_columns(b, &t, part, 2);
    leave(b, &t, 3, 2, t.column);
    weft_order_free(&t.order);
    return status;
}

/* On the root's host everyone reads the root's input, and the columns send their chunk of it on from host to
 * host. */
static void broadcast_at_root_host(weft_builder *b, const layout *t, int root)
{
    uint32_t own = (uint32_t)t->index, all = (uint32_t)t->columns;
    int rank = t->mate[t->index], next = t->column ? neighbour(t, 1) : -1;
    weft_place everything = weft_at_rank(root, WEFT_INPUT, 0, all);
    if (rank == root) {
        if (t->mates > 1)
            publish_and_signal(b, everything);
        if (next >= 0)
            weft_build_send(b, 0, weft_at(b, WEFT_INPUT, own, 1), next);
        weft_build_copy(b, 0, everything, weft_at(b, WEFT_OUTPUT, 0, all), 0);
        for (int i = 1; i < t->mates; i++)
            weft_build_wait(b, 0, t->mate[(t->index + i) % t->mates], 1, WEFT_STEP_IF_MAPPED);
        return;
    }
    weft_build_wait(b, 0, root, 1, 0);
    if (next >= 0) { /* its own chunk first: it has the longest way */
        weft_build_copy(b, 0, weft_at_rank(root, WEFT_INPUT, own, 1), weft_at(b, WEFT_OUTPUT, own, 1), 0);
        weft_build_send(b, 0, weft_at(b, WEFT_OUTPUT, own, 1), next);
        if (own > 0)
            weft_build_copy(b, 0, weft_at_rank(root, WEFT_INPUT, 0, own), weft_at(b, WEFT_OUTPUT, 0, own), 0);
        if (own + 1 < all)
            weft_build_copy(b, 0, weft_at_rank(root, WEFT_INPUT, own + 1, all - own - 1),
                            weft_at(b, WEFT_OUTPUT, own + 1, all - own - 1), 0);
    } else {
        weft_build_copy(b, 0, everything, weft_at(b, WEFT_OUTPUT, 0, all), 0);
    }
    weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
}

/* How many hosts round from the root's this rank's host lies. */
static int hosts_behind(const layout *t, const weft_plan_request *request)
{
    int root_host = request->group.host ? request->group.host[request->root] : 0;
    return (t->host - root_host + t->order.hosts) % t->order.hosts;
}

weft_status weft_plan_hierarchical_broadcast(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_direct_broadcast(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    weft_build_shape(b, (uint32_t)t.columns, 0, 1);
    if (t.shares)
        weft_build_local(b, true, true);
    int behind = hosts_behind(&t, request);
    if (behind == 0) {
        broadcast_at_root_host(b, &t, request->root);
    } else {
        if (t.column) {
            weft_place own = weft_at(b, WEFT_OUTPUT, (uint32_t)t.index, 1);
            weft_build_recv(b, 0, neighbour(&t, -1), own, behind < t.order.hosts - 1 ? neighbour(&t, 1) : -1);
            if (t.mates > 1)
                publish_and_signal(b, own);
        }
        take_columns(b, &t, 1, 1);
        leave(b, &t, 2, 1, t.column);
    }
    weft_order_free(&t.order);
    return status;
}

/* A column's way to the root's host, where its rank hands the result to the root. */
static weft_status column_reduce(weft_builder *b, const layout *t, int behind, int root)
{
    uint32_t chunk = (uint32_t)t->index;
    weft_status status = WEFT_OK;
    bool at_root = t->mate[t->index] == root;
    weft_place scratch = weft_at(b, WEFT_SCRATCH, 0, 1), output = weft_at(b, WEFT_OUTPUT, chunk, 1);
    weft_place operand = host_operand(b, t, chunk, scratch, &status);
    if (behind == 0)
        weft_build_recv_reduce(b, 0, neighbour(t, -1), operand, at_root ? output : scratch,
                               at_root ? -1 : root, WEFT_STEP_FINAL);
    else if (behind == 1)
        weft_build_send(b, 0, operand, neighbour(t, 1));
    else
        weft_build_recv_reduce(b, 0, neighbour(t, -1), operand, scratch, neighbour(t, 1), 0);
    return status;
}

weft_status weft_plan_hierarchical_reduce(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_direct_reduce(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    weft_build_shape(b, (uint32_t)t.columns, 1, 1);
    if (t.shares)
        weft_build_local(b, true, false);
    if (t.mates > 1)
        publish_and_signal(b, weft_at(b, WEFT_INPUT, 0, (uint32_t)t.columns));
    if (t.column) {
        wait_for_mates(b, &t, 1);
        status = column_reduce(b, &t, hosts_behind(&t, request), request->root);
        if (t.mates > 1)
            weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    }
    for (int i = 0; rank == request->root && i < t.columns; i++)
        if (i != t.index)
            weft_build_recv(b, 0, t.mate[i], weft_at(b, WEFT_OUTPUT, (uint32_t)i, 1), -1);
    for (int i = 0; i < t.columns; i++)
        if (i != t.index)
            weft_build_wait(b, 0, t.mate[i], 2, WEFT_STEP_IF_MAPPED);
    weft_order_free(&t.order);
    return status;
}

/* ---- all_gather, reduce_scatter: chunk j of every block belongs to column j --------------------- */

/* Walks the blocks of one host's ranks in runs of consecutive ranks. Start with position =
 * order->start[host]. */
static bool next_run(const weft_order *order, int host, int *position, int *first, int *length)
{
    int end = order->start[host + 1];
    if (*position == end)
        return false;
    *first = order->rank[*position];
    *length = 0;
    while (*position < end && order->rank[*position] == *first + *length) {
        ++*position;
        ++*length;
    }
    return true;
}

/* Chunk `part` of `length` blocks, of `chunks` chunks each, from block `first` on. */
static weft_place column_place(const weft_builder *b, weft_buffer buffer, int first, int length,
                               uint32_t chunks, uint32_t part, bool strided)
{
    if (!strided)
        return weft_at(b, buffer, (uint32_t)first * chunks + part, (uint32_t)length);
    weft_place place = weft_at(b, buffer, (uint32_t)first * chunks + part, 1);
    if (length > 1) {
        place.repeat = (uint32_t)length;
        place.stride = chunks;
    }
    return place;
}

typedef struct run {
    int position, first, length;
} run;

static run first_run(const layout *t, int host)
{
    return (run){ .position = t->order.start[host] };
}

static void all_gather_column(weft_builder *b, const layout *t)
{
    uint32_t chunks = (uint32_t)t->columns, own = (uint32_t)t->index;
    int hosts = t->order.hosts;
    for (int s = 0; s < hosts; s++) { /* s == 0: what this host has to send */
        int host = host_along(t, -s);
        for (run r = first_run(t, host); next_run(&t->order, host, &r.position, &r.first, &r.length);) {
            weft_place place = column_place(b, WEFT_OUTPUT, r.first, r.length, chunks, own, chunks > 1);
            if (s == 0)
                weft_build_send(b, 0, place, neighbour(t, 1));
            else
                weft_build_recv(b, 0, neighbour(t, -1), place, s < hosts - 1 ? neighbour(t, 1) : -1);
        }
    }
}

/* The other hosts' blocks: published by the columns, copied by everyone. */
static void all_gather_within(weft_builder *b, const layout *t)
{
    uint32_t chunks = (uint32_t)t->columns;
    for (int i = 0; i < t->columns; i++) {
        int index = t->column ? (t->index + i) % t->columns : i;
        bool own = index == t->index;
        if (!own)
            weft_build_wait(b, 0, t->mate[index], 2, 0);
        for (int s = 1; s < t->order.hosts; s++) {
            int host = host_along(t, -s);
            for (run r = first_run(t, host); next_run(&t->order, host, &r.position, &r.first, &r.length);) {
                weft_place place =
                    column_place(b, WEFT_OUTPUT, r.first, r.length, chunks, (uint32_t)index, chunks > 1);
                weft_place from = place;
                from.rank = t->mate[index];
                if (own)
                    weft_build_publish(b, 0, place, 0);
                else
                    weft_build_copy(b, 0, from, place, 0);
            }
        }
        if (own)
            weft_build_signal(b, 0, 0);
    }
}

weft_status weft_plan_hierarchical_all_gather(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_flat_all_gather(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t chunks = (uint32_t)t.columns;
    weft_build_shape(b, chunks, 0, 1);
    if (t.shares)
        weft_build_local(b, true, true);
    if (t.mates > 1)
        publish_and_signal(b, weft_at(b, WEFT_INPUT, 0, chunks));
    for (int i = 0; i < t.mates; i++) {
        int mate = t.mate[(t.index + i) % t.mates];
        if (i)
            weft_build_wait(b, 0, mate, 1, 0);
        weft_build_copy(b, 0, weft_at_rank(mate, WEFT_INPUT, 0, chunks),
                        weft_at(b, WEFT_OUTPUT, (uint32_t)mate * chunks, chunks), 0);
    }
    if (t.column)
        all_gather_column(b, &t);
    if (t.mates > 1)
        all_gather_within(b, &t);
    leave(b, &t, 3, 2, true);
    weft_order_free(&t.order);
    return status;
}

/* This host's operand of a run of blocks, in scratch by block, or the input where there is nothing to
 * combine. */
static weft_place run_operand(weft_builder *b, const layout *t, const run *r, weft_status *status)
{
    uint32_t chunks = (uint32_t)t->columns;
    weft_place input =
        column_place(b, WEFT_INPUT, r->first, r->length, chunks, (uint32_t)t->index, chunks > 1);
    if (t->mates == 1)
        return input;
    weft_place scratch = column_place(b, WEFT_SCRATCH, r->first, r->length, 1, 0, chunks > 1);
    weft_status result = weft_build_reduce_ranks(b, t->mate, t->mates, input, scratch, 0);
    if (result != WEFT_OK)
        *status = result;
    return scratch;
}

/* The ring of one column: each host's blocks go round and end there. */
static weft_status reduce_scatter_column(weft_builder *b, const layout *t)
{
    weft_status status = WEFT_OK;
    int hosts = t->order.hosts;
    bool strided = t->columns > 1;
    for (int s = 0; s < hosts; s++) {
        int host = host_along(t, -1 - s);
        bool last = s == hosts - 1;
        for (run r = first_run(t, host); next_run(&t->order, host, &r.position, &r.first, &r.length);) {
            weft_place operand = run_operand(b, t, &r, &status);
            weft_place scratch = column_place(b, WEFT_SCRATCH, r.first, r.length, 1, 0, strided);
            if (s == 0)
                weft_build_send(b, 0, operand, neighbour(t, 1));
            else
                weft_build_recv_reduce(b, 0, neighbour(t, -1), operand, scratch, last ? -1 : neighbour(t, 1),
                                       last ? WEFT_STEP_FINAL : 0);
        }
    }
    for (int i = 1; i < t->mates; i++) {
        int mate = t->mate[(t->index + i) % t->mates];
        weft_build_send(b, 0, weft_at(b, WEFT_SCRATCH, (uint32_t)mate, 1), mate);
    }
    weft_build_copy(b, 0, weft_at(b, WEFT_SCRATCH, (uint32_t)t->mate[t->index], 1),
                    weft_at(b, WEFT_OUTPUT, (uint32_t)t->index, 1), 0);
    return status;
}

weft_status weft_plan_hierarchical_reduce_scatter(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_flat_reduce_scatter(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    uint32_t chunks = (uint32_t)t.columns, ranks = (uint32_t)t.order.ranks;
    weft_build_shape(b, chunks, ranks, 1);
    if (t.shares)
        weft_build_local(b, true, false);
    if (t.mates > 1)
        publish_and_signal(b, weft_at(b, WEFT_INPUT, 0, ranks * chunks));
    if (t.column) {
        wait_for_mates(b, &t, 1);
        status = reduce_scatter_column(b, &t);
        if (t.mates > 1)
            weft_build_signal(b, 0, WEFT_STEP_IF_MAPPED);
    }
    for (int i = 0; i < t.columns; i++)
        if (i != t.index)
            weft_build_recv(b, 0, t.mate[i], weft_at(b, WEFT_OUTPUT, (uint32_t)i, 1), -1);
    for (int i = 0; i < t.columns; i++)
        if (i != t.index)
            weft_build_wait(b, 0, t.mate[i], 2, WEFT_STEP_IF_MAPPED);
    weft_order_free(&t.order);
    return status;
}

/* ---- barrier ----------------------------------------------------------------------------------- */

/* The first rank of each host gathers its mates' signals, meets those of the other hosts by dissemination,
 * and signals. */
weft_status weft_plan_hierarchical_barrier(weft_builder *b, const weft_plan_request *request, int rank)
{
    if (weft_group_hosts(&request->group) == 1)
        return weft_plan_flat_barrier(b, request, rank);
    layout t;
    weft_status status = layout_create(&t, request, rank);
    if (status != WEFT_OK)
        return status;
    weft_build_shape(b, 1, 0, 1);
    if (t.shares)
        weft_build_local(b, false, false);
    if (t.index == 0) {
        weft_place nothing = weft_at(b, WEFT_SCRATCH, 0, 0);
        wait_for_mates(b, &t, 1);
        for (int distance = 1; distance < t.order.hosts; distance *= 2) {
            weft_build_send(b, 0, nothing, neighbour(&t, distance));
            weft_build_recv(b, 0, neighbour(&t, -distance), nothing, -1);
        }
        if (t.mates > 1)
            weft_build_signal(b, 0, 0);
    } else {
        weft_build_signal(b, 0, 0);
        weft_build_wait(b, 0, t.mate[0], 1, 0);
    }
    weft_order_free(&t.order);
    return status;
}

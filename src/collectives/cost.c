/* The cost model: predicts a schedule's time by a discrete-event simulation of all ranks. A message takes its
 * turn at the sender's and at the receiver's port (ranks of a host share its ports to other hosts), local
 * work at the rank's core; forwarded data leave slice by slice while they come in; large chunks go in tiles.
 * Buffers are taken as staged. */
#include "collectives/cost.h"

#include "base/base.h"
#include "collectives/plan.h"

enum { MAX_TILES = 6, PACE_TILES = 4, NOTHING = -1 };
enum { RUNNABLE, ON_RECEIVE, ON_SIGNAL, ENDED, NOT_BEGUN };

/* From its sending until its receive step begins; waiting for it in the receiver's list. */
typedef struct message {
    double slice;
    double first_ns, last_ns; /* arrival of its first slice and of its end */
    double bytes;
    int from, next;
} message;

/* A lane of a rank at work on a tile. */
typedef struct actor {
    double now_ns;
    int rank;
    uint32_t lane, tile, step;
    uint32_t sends, signals;
    size_t first_send, first_signal;
    int blocked;
    int inbox, inbox_end;    /* messages */
    int waiters, next_waiter; /* actors waiting for this one's signals */
    bool arriving;           /* the current receive's message is known */
} actor;

typedef struct simulation {
    const weft_schedule *const *schedules;
    const weft_group *group;
    const weft_cost_model *model;
    const weft_cost_watcher *watcher;
    int ranks, hosts;
    uint32_t lanes, tiles;
    bool in_place;        /* a broadcast that its root pushes its part of; nothing is staged */
    double chunk_bytes;   /* of one tile */
    actor *actors;        /* [(tile * lanes + lane) * ranks + rank] */
    int *heap;            /* runnable actors, earliest first */
    int heap_count;
    message *messages;
    int message_count, message_room, free_message;
    double *send_end_ns;  /* latest end of the first k + 1 sends of an actor */
    double *signal_ns;
    double *slowness;     /* by host: ranks per core, at least 1 */
    double *core_free_ns; /* by rank */
    double *local_out_ns, *local_in_ns;   /* by rank: when the port is free */
    double *remote_out_ns, *remote_in_ns; /* by host */
    double end_ns;
} simulation;

void weft_cost_model_default(weft_cost_model *model)
{
    *model = (weft_cost_model){
        .local = { .latency_ns = 500, .bandwidth_Bps = 4e9 },
        .remote = { .latency_ns = 15000, .bandwidth_Bps = 1.2e9 },
        .signal_ns = 200,
        .copy_Bps = 16e9,
        .reduce_Bps = 10e9,
        .step_ns = 60,
        .cores_per_host = 16,
        .switch_ns = 1000,
    };
}

static int host_of(const weft_group *group, int rank)
{
    return group && group->host ? group->host[rank] : 0;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* ---- the heap of runnable actors --------------------------------------------------------------- */

static bool earlier(const simulation *m, int a, int b)
{
    const actor *x = &m->actors[a], *y = &m->actors[b];
    return x->now_ns < y->now_ns || (x->now_ns == y->now_ns && a < b);
}

static void heap_push(simulation *m, int a)
{
    int at = m->heap_count++;
    m->actors[a].blocked = RUNNABLE;
    while (at > 0 && earlier(m, a, m->heap[(at - 1) / 2])) {
        m->heap[at] = m->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    m->heap[at] = a;
}

static int heap_pop(simulation *m)
{
    int top = m->heap[0], last = m->heap[--m->heap_count], at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= m->heap_count)
            break;
        if (child + 1 < m->heap_count && earlier(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (!earlier(m, m->heap[child], last))
            break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    if (m->heap_count > 0)
        m->heap[at] = last;
    return top;
}

/* ---- messages ---------------------------------------------------------------------------------- */

static actor *actor_at(const simulation *m, uint32_t tile, uint32_t lane, int rank)
{
    return &m->actors[((size_t)tile * m->lanes + lane) * (size_t)m->ranks + (size_t)rank];
}

static const weft_step *step_of(const simulation *m, const actor *a)
{
    return &m->schedules[a->rank]->lane[a->lane].steps[a->step];
}

static int index_of(const simulation *m, const actor *a)
{
    return (int)(a - m->actors);
}

static double place_bytes(const simulation *m, const weft_place *place)
{
    return (double)place->count * place->repeat * m->chunk_bytes;
}

/* A work of that long by the rank's core, no earlier than `from`. Returns when it begins. */
static double use_core(simulation *m, int rank, double from_ns, double work_ns)
{
    double start = larger(from_ns, m->core_free_ns[rank]);
    m->core_free_ns[rank] = start + work_ns;
    return start;
}

static double slowness_of(const simulation *m, int rank)
{
    return m->slowness[host_of(m->group, rank)];
}

/* Until the core is that rank's, which the others that share it must give up. */
static double turn_of(const simulation *m, int rank)
{
    return (slowness_of(m, rank) - 1) * m->model->switch_ns;
}

/* Sends data whose first slice is there at first_ns and whose last at last_ns. Fills the arrival; returns
 * when the source is free again. */
static double transfer(simulation *m, int from, int to, double first_ns, double last_ns, message *out)
{
    int source = host_of(m->group, from), target = host_of(m->group, to);
    bool local = source == target;
    const weft_link *link = local ? &m->model->local : &m->model->remote;
    double *out_free = local ? &m->local_out_ns[from] : &m->remote_out_ns[source];
    double *in_free = local ? &m->local_in_ns[to] : &m->remote_in_ns[target];
    double ns_per_byte =
        1e9 / link->bandwidth_Bps * (local ? larger(m->slowness[source], m->slowness[target]) : 1);
    double whole = out->bytes * ns_per_byte, slice = (out->slice = weft_cost_slice(link, out->bytes)) * ns_per_byte;
    double start = larger(first_ns, *out_free);
    double sent = larger(start + whole, last_ns + slice);
    *out_free = start + whole;
    double begins = larger(start + link->latency_ns + turn_of(m, to), *in_free);
    *in_free = begins + whole;
    out->first_ns = begins + slice;
    out->last_ns = larger(begins + whole, sent + link->latency_ns);
    return sent;
}

static int new_message(simulation *m)
{
    if (m->free_message >= 0) {
        int found = m->free_message;
        m->free_message = m->messages[found].next;
        return found;
    }
    if (m->message_count == m->message_room) {
        int room = m->message_room ? m->message_room * 2 : 256;
        message *larger_list = weft_realloc(m->messages, (size_t)room * sizeof(message));
        if (!larger_list)
            return NOTHING;
        m->messages = larger_list;
        m->message_room = room;
    }
    return m->message_count++;
}

static weft_status send(simulation *m, actor *a, const weft_step *s, double first_ns, double last_ns)
{
    int number = new_message(m);
    if (number < 0)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to simulate a schedule");
    message *letter = &m->messages[number];
    *letter = (message){.bytes = place_bytes(m, s->kind == WEFT_STEP_SEND ? &s->src : &s->dst),
                        .from = a->rank,
                        .next = NOTHING};
    double sent = transfer(m, a->rank, s->to, first_ns, last_ns, letter);
    size_t at = a->first_send + a->sends;
    m->send_end_ns[at] = a->sends ? larger(m->send_end_ns[at - 1], sent) : sent;
    a->sends++;
    if (m->watcher && m->watcher->message)
        m->watcher->message(m->watcher->context, a->rank, s->to, a->lane, first_ns, letter->last_ns,
                            letter->bytes);
    actor *receiver = actor_at(m, a->tile, a->lane, s->to);
    if (receiver->inbox < 0)
        receiver->inbox = number;
    else
        m->messages[receiver->inbox_end].next = number;
    receiver->inbox_end = number;
    if (receiver->blocked == ON_RECEIVE && step_of(m, receiver)->from == a->rank)
        heap_push(m, index_of(m, receiver));
    return WEFT_OK;
}

/* The first message from that rank; NOTHING if none has been sent. */
static int find_message(const simulation *m, const actor *a, int from)
{
    int at = a->inbox;
    while (at >= 0 && m->messages[at].from != from)
        at = m->messages[at].next;
    return at;
}

static void take_message(simulation *m, actor *a, int number)
{
    int before = NOTHING;
    for (int at = a->inbox; at != number; at = m->messages[at].next)
        before = at;
    if (before < 0)
        a->inbox = m->messages[number].next;
    else
        m->messages[before].next = m->messages[number].next;
    if (a->inbox_end == number)
        a->inbox_end = before;
    m->messages[number].next = m->free_message;
    m->free_message = number;
}

/* ---- steps ------------------------------------------------------------------------------------- */

/* The step began at start_ns and the actor goes on at end_ns. */
static void step_over(simulation *m, actor *a, double start_ns, double end_ns)
{
    if (m->watcher && m->watcher->step)
        m->watcher->step(m->watcher->context, a->rank, a->lane, a->tile, a->step, start_ns, end_ns);
    a->now_ns = end_ns;
    a->step++;
}

static weft_status run_receive(simulation *m, actor *a, const weft_step *s)
{
    int number = find_message(m, a, s->from);
    if (number < 0) {
        a->blocked = ON_RECEIVE;
        return WEFT_OK;
    }
    message letter = m->messages[number];
    if (!a->arriving && letter.first_ns > a->now_ns) { /* come back then: others may use the core before */
        a->arriving = true;
        a->now_ns = letter.first_ns;
        return WEFT_OK;
    }
    a->arriving = false;
    take_message(m, a, number);
    double slow = slowness_of(m, a->rank), slice = letter.slice;
    double per_byte = s->kind == WEFT_STEP_RECV_REDUCE ? 1e9 / m->model->reduce_Bps * slow : 0;
    double overhead = m->model->step_ns * slow;
    double start = use_core(m, a->rank, a->now_ns, overhead + letter.bytes * per_byte);
    double first = start + overhead + slice * per_byte;
    double end = larger(start + overhead + letter.bytes * per_byte, letter.last_ns + slice * per_byte);
    weft_status status = s->to >= 0 ? send(m, a, s, first, end) : WEFT_OK;
    step_over(m, a, start, end);
    return status;
}

static void run_local(simulation *m, actor *a, double work_ns)
{
    double all = (m->model->step_ns + work_ns) * slowness_of(m, a->rank);
    double start = use_core(m, a->rank, a->now_ns, all);
    step_over(m, a, start, start + all);
}

static void run_signal(simulation *m, actor *a)
{
    run_local(m, a, 0);
    m->signal_ns[a->first_signal + a->signals++] = a->now_ns;
    int *link = &a->waiters;
    while (*link >= 0) {
        actor *waiter = &m->actors[*link];
        if (step_of(m, waiter)->value > a->signals) {
            link = &waiter->next_waiter;
            continue;
        }
        int number = *link;
        *link = waiter->next_waiter;
        heap_push(m, number);
    }
}

static void run_wait(simulation *m, actor *a, const weft_step *s)
{
    actor *peer = actor_at(m, a->tile, a->lane, s->from);
    if (peer->signals < s->value) {
        a->blocked = ON_SIGNAL;
        a->next_waiter = peer->waiters;
        peer->waiters = index_of(m, a);
        return;
    }
    double seen = s->value ? m->signal_ns[peer->first_signal + s->value - 1] + m->model->signal_ns + turn_of(m, a->rank) : 0;
    double start = larger(a->now_ns, seen);
    double overhead = m->model->step_ns * slowness_of(m, a->rank);
    step_over(m, a, start, start + overhead);
}

/* The memory traffic of a reduction grows with its sources: k reads and a write, against 2 and 1 of the
 * model. */
static double reduce_ns(const simulation *m, const weft_step *s)
{
    return place_bytes(m, &s->dst) * (s->sources + 1) / 3 * 1e9 / m->model->reduce_Bps;
}

static double copy_ns(const simulation *m, const actor *a, const weft_step *s)
{
    bool nothing = m->in_place && ((s->flags & WEFT_STEP_PUSHED) || s->src.rank == a->rank);
    return nothing ? 0 : place_bytes(m, &s->dst) * 1e9 / m->model->copy_Bps;
}

static double publish_ns(const simulation *m, const weft_step *s)
{
    double copies = m->in_place ? (s->flags & WEFT_STEP_PUSH ? m->ranks - 1 : 0) : 1;
    return copies * place_bytes(m, &s->src) * 1e9 / m->model->copy_Bps;
}

/* One step, or as much of it as can be done now. */
static weft_status run_step(simulation *m, actor *a)
{
    const weft_step *s = step_of(m, a);
    if (s->fence > a->sends)
        return weft_fail(WEFT_ERR_MISMATCH, "rank %d waits for sends that come later; verify the schedule",
                         a->rank);
    if (s->fence && m->send_end_ns[a->first_send + s->fence - 1] > a->now_ns) {
        a->now_ns = m->send_end_ns[a->first_send + s->fence - 1];
        return WEFT_OK;
    }
    switch (s->kind) {
    case WEFT_STEP_SEND: {
        double start = use_core(m, a->rank, a->now_ns, m->model->step_ns * slowness_of(m, a->rank));
        weft_status status = send(m, a, s, m->core_free_ns[a->rank], m->core_free_ns[a->rank]);
        step_over(m, a, start, m->core_free_ns[a->rank]);
        return status;
    }
    case WEFT_STEP_RECV:
    case WEFT_STEP_RECV_REDUCE:
        return run_receive(m, a, s);
    case WEFT_STEP_COPY:
        run_local(m, a, copy_ns(m, a, s));
        break;
    case WEFT_STEP_REDUCE:
        run_local(m, a, reduce_ns(m, s));
        break;
    case WEFT_STEP_PUBLISH:
        run_local(m, a, publish_ns(m, s));
        break;
    case WEFT_STEP_SIGNAL:
        run_signal(m, a);
        break;
    default:
        if (s->flags & WEFT_STEP_IF_MAPPED)
            a->step++;
        else
            run_wait(m, a, s);
    }
    return WEFT_OK;
}

/* The actor ends: the lane's tile after the next may begin. */
static void end_actor(simulation *m, actor *a)
{
    double end = a->sends ? larger(a->now_ns, m->send_end_ns[a->first_send + a->sends - 1]) : a->now_ns;
    a->blocked = ENDED;
    m->end_ns = larger(m->end_ns, end);
    if (a->tile + WEFT_COST_DEPTH < m->tiles) {
        actor *next = actor_at(m, a->tile + WEFT_COST_DEPTH, a->lane, a->rank);
        next->now_ns = end;
        heap_push(m, index_of(m, next));
    }
}

static weft_status simulate(simulation *m)
{
    while (m->heap_count > 0) {
        actor *a = &m->actors[heap_pop(m)];
        uint32_t count = m->schedules[a->rank]->lane[a->lane].count;
        while (a->blocked == RUNNABLE && a->step < count) {
            weft_status status = run_step(m, a);
            if (status != WEFT_OK)
                return status;
            if (a->blocked == RUNNABLE && m->heap_count > 0 && m->actors[m->heap[0]].now_ns < a->now_ns)
                break;
        }
        if (a->blocked != RUNNABLE)
            continue;
        if (a->step < count)
            heap_push(m, index_of(m, a));
        else
            end_actor(m, a);
    }
    for (size_t i = 0; i < (size_t)m->tiles * m->lanes * (size_t)m->ranks; i++)
        if (m->actors[i].blocked != ENDED)
            return weft_fail(WEFT_ERR_MISMATCH,
                             "rank %d waits for ever in step %u of lane %u; verify the schedule",
                             m->actors[i].rank, m->actors[i].step, m->actors[i].lane);
    return WEFT_OK;
}

/* ---- set-up ------------------------------------------------------------------------------------ */

/* Into how many tiles the executor cuts a chunk of that size. */
static double tiles_of(const weft_schedule *s, double chunk_bytes, bool one_host)
{
    double tile = chunk_bytes;
    if (s->algorithm == WEFT_TREE || s->algorithm == WEFT_KNOMIAL)
        tile = WEFT_COST_TREE_TILE_BYTES;
    if (s->algorithm == WEFT_HIERARCHICAL)
        tile = WEFT_COST_HIERARCHICAL_TILE_BYTES;
    double staged =
        (double)((s->publishes_input ? s->input_blocks : 0) + (s->publishes_output ? s->output_blocks : 0)) *
        s->chunks_per_block;
    if (staged > 0)
        tile = smaller(tile, larger((double)weft_staged_tile_bytes(s->collective, s->algorithm, one_host) / staged, 1));
    if (chunk_bytes <= tile)
        return 1;
    double whole = (double)(uint64_t)(chunk_bytes / tile);
    return whole * tile < chunk_bytes ? whole + 1 : whole;
}

static weft_status allocate_actors(simulation *m)
{
    size_t sends = 0, signals = 0, actors = (size_t)m->tiles * m->lanes * (size_t)m->ranks;
    m->actors = weft_alloc_array(actors, sizeof(actor));
    m->heap = weft_alloc_array(actors, sizeof(int));
    if (!m->actors || !m->heap)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to simulate a schedule");
    for (size_t i = 0; i < actors; i++) {
        int rank = (int)(i % (size_t)m->ranks);
        uint32_t lane = (uint32_t)(i / (size_t)m->ranks % m->lanes);
        const weft_lane *l = &m->schedules[rank]->lane[lane];
        m->actors[i] = (actor){.rank = rank,
                               .lane = lane,
                               .tile = (uint32_t)(i / ((size_t)m->ranks * m->lanes)),
                               .first_send = sends,
                               .first_signal = signals,
                               .blocked = NOT_BEGUN,
                               .inbox = NOTHING,
                               .waiters = NOTHING,
                               .next_waiter = NOTHING};
        sends += l->sends;
        signals += l->signals;
        if (m->actors[i].tile < WEFT_COST_DEPTH)
            heap_push(m, (int)i);
    }
    m->send_end_ns = weft_alloc_array(sends + 1, sizeof(double));
    m->signal_ns = weft_alloc_array(signals + 1, sizeof(double));
    return m->send_end_ns && m->signal_ns ? WEFT_OK
                                          : weft_fail(WEFT_ERR_MEMORY, "no memory to simulate a schedule");
}

static weft_status allocate_machine(simulation *m)
{
    for (int rank = 0; rank < m->ranks; rank++)
        m->hosts = host_of(m->group, rank) >= m->hosts ? host_of(m->group, rank) + 1 : m->hosts;
    size_t ranks = (size_t)m->ranks, hosts = (size_t)m->hosts;
    double *all = weft_alloc_array(3 * ranks + 3 * hosts, sizeof(double));
    m->slowness = all;
    if (!all)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to simulate a schedule");
    m->remote_out_ns = all + hosts;
    m->remote_in_ns = all + 2 * hosts;
    m->core_free_ns = all + 3 * hosts;
    m->local_out_ns = m->core_free_ns + ranks;
    m->local_in_ns = m->core_free_ns + 2 * ranks;
    for (int rank = 0; rank < m->ranks; rank++)
        m->slowness[host_of(m->group, rank)]++;
    int cores = m->model->cores_per_host > 0 ? m->model->cores_per_host : 1;
    for (size_t host = 0; host < hosts; host++)
        m->slowness[host] = larger(1, m->slowness[host] / cores);
    return WEFT_OK;
}

static void release(simulation *m)
{
    weft_free(m->actors);
    weft_free(m->heap);
    weft_free(m->messages);
    weft_free(m->send_end_ns);
    weft_free(m->signal_ns);
    weft_free(m->slowness);
}

weft_status weft_cost_model_check(const weft_cost_model *m)
{
    if (m->local.bandwidth_Bps > 0 && m->remote.bandwidth_Bps > 0 && m->copy_Bps > 0 && m->reduce_Bps > 0 &&
        m->local.latency_ns >= 0 && m->remote.latency_ns >= 0 && m->signal_ns >= 0 && m->step_ns >= 0 && m->switch_ns >= 0)
        return WEFT_OK;
    return weft_fail(WEFT_ERR_INVALID, "a cost model's bandwidths must be above 0 and its times at least 0");
}

/* The time of the first `tiles` tiles. */
static weft_status run(const simulation *setting, uint32_t tiles, const weft_cost_watcher *watcher,
                       double *time_ns)
{
    simulation m = *setting;
    m.tiles = tiles;
    m.watcher = watcher;
    weft_status status = allocate_machine(&m);
    if (status == WEFT_OK)
        status = allocate_actors(&m);
    if (status == WEFT_OK)
        status = simulate(&m);
    *time_ns = m.end_ns;
    release(&m);
    return status;
}

weft_status weft_cost_watch(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                            const weft_cost_model *model, size_t bytes, const weft_cost_watcher *watcher,
                            double *time_ns)
{
    if (ranks <= 0 || !schedules || (group && group->ranks != ranks))
        return weft_fail(WEFT_ERR_INVALID, "cannot cost %d schedules for a group of %d ranks", ranks,
                         group ? group->ranks : ranks);
    weft_status status = weft_cost_model_check(model);
    if (status != WEFT_OK)
        return status;
    const weft_schedule *head = schedules[0];
    if (head->collective == WEFT_BARRIER)
        bytes = 0;
    double chunk = (double)bytes / weft_cost_blocks(head->collective, ranks) / head->chunks_per_block;
    bool one_host = !group || weft_group_hosts(group) == 1, crowded = ranks > larger(1, model->cores_per_host);
    double tiles = tiles_of(head, chunk, one_host), some, fewer;
    simulation m = {.schedules = schedules,
                    .group = group,
                    .model = model,
                    .ranks = ranks,
                    .lanes = head->lanes,
                    .in_place = one_host && head->collective == WEFT_BROADCAST && head->publishes_output &&
                                weft_broadcast_in_place((double)bytes, ranks, crowded),
                    .chunk_bytes = chunk / tiles,
                    .free_message = NOTHING};
    status = run(&m, tiles < MAX_TILES ? (uint32_t)tiles : MAX_TILES, watcher, &some);
    if (status != WEFT_OK)
        return status;
    *time_ns = some;
    if (tiles <= MAX_TILES)
        return WEFT_OK;
    status = run(&m, PACE_TILES, NULL, &fewer); /* the rest follows at the pace of the last ones */
    *time_ns = some + (tiles - MAX_TILES) * (some - fewer) / (MAX_TILES - PACE_TILES);
    return status;
}

weft_status weft_cost(const weft_schedule *const *schedules, int ranks, const weft_group *group,
                      const weft_cost_model *model, size_t bytes, double *time_ns)
{
    return weft_cost_watch(schedules, ranks, group, model, bytes, NULL, time_ns);
}

/* The cost model without schedules: closed formulas for each algorithm, cheap enough for the tuner, in the
 * terms of cost.c (latency, time per byte, ports that ranks of a host share, staged tiles). The forms are
 * those of Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH"
 * (2005) for rings, recursive doubling and halving, trees and Bruck, and of Sanders, Speck and Traeff,
 * "Two-tree algorithms" (2009) for the double tree. */
#include "base/base.h"
#include "collectives/cost.h"

enum { KNOMIAL_RADIX = 4, STAGED_TWICE = 2, STEADY_BYTES = 32 << 10 };
/* What a round of large messages between hosts costs more than its bytes: each has another partner, so that each way starts anew,
 * in a burst, where those of a ring never rest. */
static const double RESTARTED = 0.15;

/* One kind of way between ranks: ns, and ns per byte of one rank's message. */
typedef struct way {
    double latency, byte;
} way;

typedef struct frame {
    const weft_plan_request *request;
    weft_collective collective;
    int n, hosts, most, least; /* ranks; hosts; ranks of the fullest and of the emptiest host */
    int root_mates;            /* ranks of the root's host */
    bool contiguous;           /* each host's ranks are neighbours */
    int extra;                 /* ranks beyond a power of two, which fold with a neighbour first */
    int *size, *tally;         /* by host: ranks, and room to count */
    double bytes, block;       /* all, and one of n parts */
    way local, remote, worst;  /* worst: the slower per byte of those in use */
    double step, copy, reduce; /* ns; ns per byte; ns per result byte of two sources */
    double signal, slow;       /* slow: ranks that share a core */
} frame;

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* Smallest r with base^r >= n. */
static int log_up(int n, int base)
{
    int rounds = 0;
    for (long reach = 1; reach < n; reach *= base)
        rounds++;
    return rounds;
}

static int floor_log2(int n)
{
    int rounds = 0;
    while (n >> (rounds + 1))
        rounds++;
    return rounds;
}

static double slice_of(way w, double bytes)
{
    return weft_cost_slice(&(weft_link){.bandwidth_Bps = 1e9 / w.byte}, bytes);
}

/* A message whose receiver reduces it (by `work` ns per byte; 0: only stores it) slice by slice. The core that reduces also moves
 * bytes, so that only half of the lesser work hides behind the greater. */
static double hop(way w, double bytes, double work)
{
    return w.latency + bytes * larger(w.byte, work) + larger(slice_of(w, bytes), bytes / 2) * smaller(w.byte, work);
}

/* k reads and a write against 2 and 1. */
static double reduce_many(const frame *f, double bytes, int sources)
{
    return bytes * (sources + 1) / 3 * f->reduce;
}

/* All ranks of a host have seen a signal of all the others. */
static double all_signal(const frame *f, int ranks)
{
    return f->signal + ranks * f->step;
}

/* The most ranks of one host that have their partner on another: numbers ^ d among a power of two of them (as
 * folded), or rank + d. */
static int crossing(const frame *f, int d, bool shift)
{
    const int *host = f->request->group.host;
    int count = shift ? f->n : f->n - f->extra, most = 0;
    if (f->hosts == 1)
        return 0;
    for (int h = 0; h < f->hosts; h++)
        f->tally[h] = 0;
    for (int i = 0; i < count; i++) {
        int partner = shift ? (i + d) % f->n : i ^ d;
        int here = host[shift || i >= f->extra ? i + (shift ? 0 : f->extra) : 2 * i];
        int there = host[shift || partner >= f->extra ? partner + (shift ? 0 : f->extra) : 2 * partner];
        most = here != there && ++f->tally[here] > most ? f->tally[here] : most;
    }
    return most;
}

/* What the folding of neighbours costs: `bytes` there, reduced by `work` per byte, and `back` back. */
static double fold(const frame *f, double bytes, double work, double back)
{
    const int *host = f->request->group.host;
    bool far = false;
    for (int i = 0; host && i < f->extra; i++)
        far |= host[2 * i] != host[2 * i + 1];
    double time = hop(f->local, bytes, work) + hop(f->local, back, 0);
    if (far)
        time = larger(time, hop(f->remote, bytes, work) + hop(f->remote, back, 0));
    return f->extra ? time : 0;
}

/* All ranks exchange `bytes` with a partner at distance d at once. */
static double exchange(const frame *f, int d, bool shift, double bytes, double work)
{
    int crowd = crossing(f, d, shift);
    double time = crowd < f->most ? hop(f->local, bytes, work) : 0;
    if (crowd > 0)
        time = larger(time, hop((way){ f->remote.latency, f->remote.byte * crowd }, bytes, work) +
                                larger(0, bytes - STEADY_BYTES) * f->remote.byte * crowd * RESTARTED);
    return time;
}

/* Latency of `hops` hops of a ring in which neighbours are on one host wherever they can be. */
static double ring_latency(const frame *f, int hops)
{
    double remote = f->hosts > 1 ? (double)f->hosts / f->n : 0;
    return hops * (f->local.latency * (1 - remote) + f->remote.latency * remote);
}

/* Time of the first slice of `bytes` along such hops. */
static double ring_slices(const frame *f, int hops, double bytes)
{
    double remote = f->hosts > 1 ? (double)f->hosts / f->n : 0;
    return hops *
           (slice_of(f->local, bytes) * f->local.byte * (1 - remote) + slice_of(f->remote, bytes) * f->remote.byte * remote);
}

/* ---- algorithms -------------------------------------------------------------------------------- */

static double ring_time(const frame *f)
{
    int hops = f->n - 1;
    double part = f->block, byte = f->worst.byte, work = larger(byte, f->reduce);
    switch (f->collective) {
    case WEFT_ALL_REDUCE:
        return ring_latency(f, 2 * hops) + hops * part * (work + byte);
    case WEFT_ALL_GATHER:
        return ring_latency(f, hops) + hops * part * byte;
    case WEFT_REDUCE_SCATTER:
        return ring_latency(f, hops) + hops * part * work;
    case WEFT_REDUCE:
        return ring_latency(f, hops) + f->bytes * work + ring_slices(f, hops, f->bytes) +
               hops * slice_of(f->worst, f->bytes) * f->reduce;
    default: /* broadcast: a chain, cut through */
        return ring_latency(f, hops) + f->bytes * byte + ring_slices(f, hops - 1, f->bytes);
    }
}

static double linear_time(const frame *f)
{
    double part = f->collective == WEFT_REDUCE ? f->bytes : f->block;
    double work = f->collective == WEFT_REDUCE ? f->reduce : 0;
    int near = f->root_mates - 1, far = f->n - f->root_mates;
    double core = (f->n - 1) * (f->step + part * work);
    double ports = larger(near * part * f->local.byte, far * part * f->remote.byte);
    return larger(core, ports) + (far ? f->remote.latency : f->local.latency) +
           slice_of(f->local, part) * f->local.byte;
}

/* The longest way down from the top, in hops: one for each digit of a number below n that is not zero. */
static int knomial_depth(int n, int radix)
{
    int depth = 0;
    for (long ones = 1; ones <= n - 1; ones = ones * radix + 1)
        depth++;
    return depth;
}

/* The top serves its up to radix - 1 children of each weight one after the other, those on other hosts
 * through another port. */
static double knomial_levels(const frame *f, int radix, double bytes, double work)
{
    int near = 0, far = 0, far_levels = 0, depth = knomial_depth(f->n, radix);
    for (int weight = 1; weight < f->n; weight *= radix) {
        int before = far;
        for (int digit = 1; digit < radix && digit * weight < f->n; digit++) {
            bool away = f->hosts > 1 && (!f->contiguous || digit * weight >= f->most);
            near += !away;
            far += away;
        }
        far_levels += far > before;
    }
    way crowded = f->remote;
    if (!f->contiguous)
        crowded.byte *= f->most;
    far_levels = far_levels < depth ? far_levels : depth;
    double latency =
        far_levels * f->remote.latency + (depth - far_levels) * f->local.latency + (near + far) * f->step;
    return latency +
           larger(near * bytes * larger(f->local.byte, work), far * bytes * larger(crowded.byte, work));
}

static double knomial_time(const frame *f)
{
    int radix = f->request->radix ? f->request->radix : KNOMIAL_RADIX;
    radix = radix > f->n ? f->n : radix;
    int rounds = log_up(f->n, radix);
    switch (f->collective) {
    case WEFT_BROADCAST:
        return knomial_levels(f, radix, f->bytes, 0);
    case WEFT_REDUCE:
        return knomial_levels(f, radix, f->bytes, f->reduce);
    case WEFT_ALL_REDUCE:
        return knomial_levels(f, radix, f->bytes, f->reduce) + knomial_levels(f, radix, f->bytes, 0);
    case WEFT_BARRIER:
        return 2 * knomial_levels(f, radix, 0, 0);
    default: { /* gather, scatter: all passes the root's port once, a k-th of it each level below */
        int far = f->n - f->root_mates;
        double passed = f->block * larger((f->root_mates - 1) * f->local.byte, far * f->remote.byte);
        double deep = rounds > 1 ? f->bytes / radix * f->worst.byte / 2 : 0;
        return knomial_levels(f, radix, 0, 0) + passed + deep;
    }
    }
}

static double doubling_time(const frame *f)
{
    int active = 1 << floor_log2(f->n), rounds = floor_log2(f->n);
    double time = 0;
    if (f->collective == WEFT_BARRIER) {
        for (int d = 1; d < f->n; d *= 2)
            time += exchange(f, d, true, 0, 0);
        return time;
    }
    bool gather = f->collective == WEFT_ALL_GATHER;
    for (int r = 0; r < rounds; r++)
        time += exchange(f, 1 << r, false, gather ? f->block * (1 << r) * f->n / active : f->bytes,
                         gather ? 0 : f->reduce);
    return time + fold(f, gather ? f->block : f->bytes, gather ? 0 : f->reduce, f->bytes);
}

static double halving_time(const frame *f)
{
    int active = 1 << floor_log2(f->n);
    bool scatter = f->collective == WEFT_REDUCE_SCATTER;
    double time = fold(f, f->bytes, f->reduce, scatter ? f->block : f->bytes);
    double part = f->bytes / 2;
    for (int i = 1; i < active; i *= 2, part /= 2) {
        int d = scatter ? active / (2 * i) : i;
        time += exchange(f, d, false, part, f->reduce);
        if (!scatter)
            time += exchange(f, d, false, part, 0);
    }
    return time;
}

static double bruck_time(const frame *f)
{
    double time = 0;
    bool gather = f->collective == WEFT_ALL_GATHER;
    for (int d = 1; d < f->n; d *= 2) {
        double moved = gather ? f->block * (d < f->n - d ? d : f->n - d) : f->bytes / 2;
        time += exchange(f, d, true, moved, 0) + (gather ? 0 : moved * f->copy);
    }
    return gather ? time + f->block * f->copy : time + 2 * f->bytes * f->copy + f->n * f->step;
}

static double pairwise_time(const frame *f)
{
    int rounds = f->n - 1;
    double volume = f->block * (f->most - 1) * f->local.byte,
           latency = f->hosts > 1 ? f->remote.latency : f->local.latency;
    for (int h = 0; f->hosts > 1 && h < f->hosts; h++)
        volume = larger(volume, f->block * f->size[h] * (f->n - f->size[h]) * f->remote.byte);
    double time = rounds * latency + volume;
    return f->collective == WEFT_REDUCE_SCATTER ? time + reduce_many(f, f->block, f->n)
                                                : time + f->block * f->copy;
}

/* Two trees, half of the bytes each, in tiles of which two are under way. What goes up and down again holds
 * its leaf for the whole round trip; what goes one way flows. */
static double tree_time(const frame *f)
{
    int far = log_up(f->hosts, 2), near = log_up(f->most, 2); /* a tree in each host, one over hosts */
    int lanes = f->request->lanes > 1 ? (f->request->lanes + 1) / 2 * 2 : 2;
    double chunk = f->bytes / lanes, tile = smaller(chunk, WEFT_COST_TREE_TILE_BYTES),
           tiles = chunk > tile ? chunk / tile : 1;
    double level = 2 * slice_of(f->worst, tile), lane_share = larger(1, lanes / 2.0);
    double down = near * (f->local.latency + level * f->local.byte) +
                  far * (f->remote.latency + level * f->remote.byte);
    double up = down + (near + far) * level * f->reduce;
    double byte = f->worst.byte, core = larger(byte, f->reduce);
    switch (f->collective) {
    case WEFT_ALL_REDUCE:
        return larger((up + down) * larger(1, tiles / WEFT_COST_DEPTH) * (tiles > 1 ? 1 : lane_share),
                      f->bytes * (core + byte));
    case WEFT_REDUCE:
        return up + f->bytes * core;
    default: /* one tile: its first slices are counted in the levels. Each lane is a message. */
        return down + lanes * f->step + (tiles > 1 ? f->bytes : larger(0, f->bytes - level)) * byte;
    }
}

/* Everybody reads what everybody has published. `staged`: bytes of which one rank publishes the most. */
static double flat_time(const frame *f)
{
    int n = f->n;
    bool from_root = f->collective == WEFT_BROADCAST || f->collective == WEFT_SCATTER;
    bool to_all = f->collective == WEFT_ALL_GATHER || f->collective == WEFT_GATHER;
    double staged = to_all ? f->block : f->bytes;
    double tiles = larger(1, staged / (double)weft_staged_tile_bytes(f->collective, WEFT_FLAT, true));
    int waits = from_root ? 1 : n;
    double time = all_signal(f, waits) + staged * f->copy + ((tiles - 1) * waits + tiles * 4) * f->step;
    switch (f->collective) {
    case WEFT_ALL_REDUCE:
    case WEFT_REDUCE:
        return time + reduce_many(f, f->bytes, n);
    case WEFT_REDUCE_SCATTER:
        return time + reduce_many(f, f->block, n);
    case WEFT_SCATTER:
        return time + f->block * f->copy;
    case WEFT_BARRIER:
        return all_signal(f, n) + f->step;
    default:
        return time + f->bytes * f->copy;
    }
}

/* Each core copies its part of what the others get, from and to where buffers are; through the stage it is flat's way and a
 * signal more. */
static double direct_broadcast_time(const frame *f)
{
    int n = f->n;
    double signals = 2 * f->signal + 2 * n * f->step;
    if (!weft_broadcast_in_place(f->bytes, n, f->slow > 1))
        return flat_time(f) + signals;
    double tiles = larger(1, f->bytes * 2 / (double)weft_staged_tile_bytes(f->collective, WEFT_DIRECT, true));
    return signals + tiles * 3 * f->step + (f->bytes - f->block) * f->copy;
}

static double direct_time(const frame *f)
{
    int n = f->n;
    if (f->collective == WEFT_BROADCAST)
        return direct_broadcast_time(f);
    double tiles = larger(1, f->bytes * 2 / (double)weft_staged_tile_bytes(f->collective, f->request->algorithm, true));
    if (f->collective == WEFT_ALL_REDUCE) {
        double work = (f->bytes - f->block) * f->copy + reduce_many(f, f->block, n) + f->bytes * f->copy;
        /* through the stage all is read just after it was written, twice; larger buffers are read in place where that can be */
        if (f->bytes < WEFT_MAP_BYTES)
            work *= STAGED_TWICE;
        return 2 * all_signal(f, n) + (tiles * 3 - 2) * n * f->step + work;
    }
    if (f->collective == WEFT_REDUCE)
        return all_signal(f, n) + (tiles * 2 - 1) * n * f->step +
               larger((f->bytes - f->block) * f->copy + reduce_many(f, f->block, n),
                      (f->bytes - f->block) * f->local.byte) + /* tiles overlap */
               f->local.latency;
    return flat_time(f);
}

/* Within hosts by shared memory, between them a ring per column, all columns through the host's port. */
static double hierarchical_time(const frame *f)
{
    if (f->hosts == 1) /* the planner hands over to direct: never cheaper than asking for it */
        return direct_time(f) * 1.01;
    int hosts = f->hosts, columns = f->least, mates = f->most, hops = hosts - 1;
    bool blocks = weft_cost_blocks(f->collective, f->n) > 1;
    double chunk = (blocks ? f->block : f->bytes / (f->collective == WEFT_ALL_REDUCE ? hosts : 1)) / columns;
    double tiles = mates > 1 ? f->bytes * 2 / (double)weft_staged_tile_bytes(f->collective, WEFT_HIERARCHICAL, false)
                             : chunk / WEFT_COST_HIERARCHICAL_TILE_BYTES;
    tiles = larger(1, tiles);
    double part = f->bytes / columns, volume = f->bytes / hosts * hops * f->remote.byte,
           latency = hops * f->remote.latency;
    double sync = mates > 1 ? all_signal(f, mates) + (tiles - 1) * mates * f->step : 0;
    double take = mates > 1 ? f->bytes * f->copy : 0, publish = take;
    double join = mates > 1 ? reduce_many(f, part, mates) : 0;
    double ring = latency + larger(volume, (tiles / WEFT_COST_DEPTH - 1) * latency);
    double chain =
        hops ? latency + f->bytes * f->remote.byte + hops * slice_of(f->remote, chunk / tiles) * columns * f->remote.byte
             : 0;
    switch (f->collective) {
    case WEFT_ALL_REDUCE:
        return 2 * sync + publish + join + 2 * ring + take + part * f->copy;
    case WEFT_BROADCAST:
        return 2 * f->signal + 4 * f->step + publish + chain + take + part * f->copy;
    case WEFT_REDUCE:
        return sync + publish + join + chain +
               f->bytes * f->local.byte * (columns - 1) / columns + f->local.latency;
    case WEFT_ALL_GATHER:
        return 2 * sync + ring + take + part * f->copy;
    case WEFT_REDUCE_SCATTER:
        return sync + publish + join + ring + f->local.latency +
               mates * (2 * f->step + f->block * f->local.byte);
    case WEFT_BARRIER:
        return (hops ? 2 : 1) * sync + log_up(hosts, 2) * f->remote.latency;
    default:
        return 2 * sync + f->bytes * (f->copy + f->worst.byte) + latency;
    }
}

/* ---- the frame --------------------------------------------------------------------------------- */

static weft_status count_hosts(frame *f)
{
    const weft_group *g = &f->request->group;
    f->hosts = 1;
    f->most = f->least = f->root_mates = g->ranks;
    f->contiguous = true;
    if (!g->host)
        return WEFT_OK;
    int changes = 0;
    for (int r = 0; r < g->ranks; r++) {
        f->hosts = g->host[r] >= f->hosts ? g->host[r] + 1 : f->hosts;
        changes += r > 0 && g->host[r] != g->host[r - 1];
    }
    f->contiguous = changes == f->hosts - 1;
    f->size = weft_alloc_array((size_t)f->hosts * 2, sizeof(int));
    if (!f->size)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to count the ranks of %d hosts", f->hosts);
    f->tally = f->size + f->hosts;
    for (int r = 0; r < g->ranks; r++)
        f->size[g->host[r]]++;
    f->most = f->least = f->size[0];
    for (int h = 1; h < f->hosts; h++) {
        f->most = f->size[h] > f->most ? f->size[h] : f->most;
        f->least = f->size[h] < f->least ? f->size[h] : f->least;
    }
    f->root_mates = f->size[g->host[f->request->root]];
    return WEFT_OK;
}

static void price(frame *f, const weft_cost_model *m, size_t bytes)
{
    int cores = m->cores_per_host > 0 ? m->cores_per_host : 1;
    double slow = larger(1, (double)f->most / cores);
    f->bytes = f->collective == WEFT_BARRIER ? 0 : (double)bytes;
    f->block = f->bytes / f->n;
    f->slow = slow;
    f->step = m->step_ns * slow;
    double turn = (slow - 1) * m->switch_ns;
    f->local = (way){ m->local.latency_ns + turn + 2 * f->step, slow * 1e9 / m->local.bandwidth_Bps };
    f->remote = (way){ m->remote.latency_ns + turn + 2 * f->step, 1e9 / m->remote.bandwidth_Bps };
    f->worst = f->hosts > 1 && (f->remote.byte > f->local.byte || f->most == 1) ? f->remote : f->local;
    f->copy = slow * 1e9 / m->copy_Bps;
    f->reduce = slow * 1e9 / m->reduce_Bps;
    f->signal = m->signal_ns + turn;
}

static double time_of(const frame *f)
{
    switch (f->request->algorithm) {
    case WEFT_RING:
        return ring_time(f);
    case WEFT_TREE:
        return tree_time(f);
    case WEFT_HALVING_DOUBLING:
        return halving_time(f);
    case WEFT_RECURSIVE_DOUBLING:
        return doubling_time(f);
    case WEFT_KNOMIAL:
        return knomial_time(f);
    case WEFT_BRUCK:
        return bruck_time(f);
    case WEFT_PAIRWISE:
        return pairwise_time(f);
    case WEFT_LINEAR:
        return linear_time(f);
    case WEFT_FLAT:
        return flat_time(f);
    case WEFT_DIRECT:
        return direct_time(f);
    default:
        return hierarchical_time(f);
    }
}

weft_status weft_cost_estimate(const weft_plan_request *request, const weft_cost_model *model, size_t bytes,
                               double *time_ns)
{
    const char *obstacle = weft_plan_obstacle(request);
    if (obstacle)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "%s by %s: %s", weft_collective_name(request->collective),
                         weft_algorithm_name(request->algorithm), obstacle);
    weft_status status = weft_cost_model_check(model);
    if (status != WEFT_OK)
        return status;
    frame f = { .request = request, .collective = request->collective, .n = request->group.ranks };
    f.extra = f.n - (1 << floor_log2(f.n));
    status = count_hosts(&f);
    if (status != WEFT_OK)
        return status;
    price(&f, model, bytes);
    if (f.n > 1)
        *time_ns = time_of(&f);
    else
        *time_ns = f.collective == WEFT_BARRIER ? 0 : f.step + f.bytes * f.copy;
    weft_free(f.size);
    return WEFT_OK;
}

/* The executor's data movement: cursors over places, copies, reductions, publishing and what arrives. */
#include <errno.h>
#include <string.h>

#include "collectives/execute.h"

void weft_cursor_start(weft_cursor *c, const weft_place *place, const weft_place *like)
{
    *c = (weft_cursor){.place = place, .like = like};
}

/* Of every buffer of a small collective. */
static const weft_local_mapping unmapped = {.tail = {UINT64_MAX, UINT64_MAX}};

/* Where a rank of this host says something of its buffers for this collective, which is large. */
static weft_local_mapping *mapping_place(const weft_execution *x, int rank)
{
    const weft_exec *e = x->exec;
    return &e->regions[e->local_position[rank]]->mapping[x->stage_slot];
}

/* What it has said. */
static const weft_local_mapping *mapping_of(const weft_execution *x, int rank)
{
    return x->small ? &unmapped : mapping_place(x, rank);
}

/* Where a local peer's input or output starts here, if it may be read in place; *staged otherwise. NULL and not staged: not
 * mapped yet. Valid after a wait for the peer's signal. */
static char *peer_base(const weft_execution *x, const weft_place *p, bool *staged)
{
    const weft_exec *e = x->exec;
    int position = e->local_position[p->rank];
    const weft_local_mapping *m = mapping_of(x, p->rank);
    int side = p->buffer == WEFT_OUTPUT;
    *staged = m->memory_id[side] == 0;
    if (*staged)
        return NULL;
    if (m->memory_id[side] == WEFT_MEMORY_PRIVATE)
        return (char *)(uintptr_t)m->offset[side]; /* an address there: for fetch and push_to only */
    size_t bytes;
    char *base = weft_host_map(e->host, e->local_host_index[position], m->memory_id[side], &bytes);
    return base ? (char *)((uintptr_t)base + m->offset[side]) : NULL; /* modulo: an edge may lie before the shared pages */
}

/* Must what is read from that place be fetched from the other process? Valid after a wait for the peer's signal. */
static bool is_private(const weft_execution *x, const weft_place *p)
{
    return p->rank != x->exec->rank && p->buffer != WEFT_SCRATCH &&
           mapping_of(x, p->rank)->memory_id[p->buffer == WEFT_OUTPUT] == WEFT_MEMORY_PRIVATE;
}

bool weft_execute_reads_private(const weft_execution *x, int rank)
{
    return mapping_of(x, rank)->memory_id[WEFT_INPUT] == WEFT_MEMORY_PRIVATE;
}

/* Most likely its process is gone, or going: who died first the control plane knows, so this rank tries again
 * until it says so. */
static void unreachable(weft_execution *x, int rank)
{
    enum { GRACE_NS = 2000 * WEFT_NS_PER_MS };
    int error = errno;
    x->unreached = true;
    if (x->unreached_ns == 0)
        x->unreached_ns = weft_now_ns();
    else if (weft_now_ns() - x->unreached_ns > GRACE_NS)
        weft_exec_fail(x->exec, WEFT_ERR_PEER, x->exec->world[rank], "the memory of rank %d cannot be reached: %s%s", rank,
                       strerror(error), error == EPERM ? "; if ranks change their user or rights, set WEFT_CMA=0" : "");
}

static void fetch(weft_execution *x, const weft_place *from, void *here, const char *there, size_t bytes)
{
    const weft_exec *e = x->exec;
    if (!weft_peer_read(&e->regions[e->local_position[from->rank]]->identity, here, (uintptr_t)there, bytes))
        unreachable(x, from->rank);
}

/* `bytes` of a local peer's buffer are read in place from *start on: fewer, or from elsewhere, where they are an edge of it. */
static size_t step_over_edge(const weft_execution *x, const weft_place *p, char **start, size_t bytes)
{
    int side = p->buffer == WEFT_OUTPUT;
    const weft_local_mapping *m = mapping_of(x, p->rank);
    if (m->memory_id[side] == 0 || (m->head[side] == 0 && m->tail[side] == UINT64_MAX))
        return bytes;
    bool staged;
    size_t at = (uintptr_t)*start - (uintptr_t)peer_base(x, p, &staged);
    if (at < m->head[side]) {
        *start = (char *)m->edge[side][0] + at;
        return weft_min_size(bytes, m->head[side] - at);
    }
    if (at >= m->tail[side]) {
        *start = (char *)m->edge[side][1] + (at - m->tail[side]);
        return bytes;
    }
    return weft_min_size(bytes, m->tail[side] - at);
}

bool weft_execute_peers_mapped(const weft_execution *x, const weft_step *step)
{
    const weft_exec *e = x->exec;
    const weft_place *places = step->kind == WEFT_STEP_REDUCE ? x->ready->schedule->sources + step->value : &step->src;
    unsigned n = step->kind == WEFT_STEP_REDUCE ? step->sources : 1;
    for (unsigned i = 0; i < n; i++) {
        bool staged = true;
        if (places[i].rank != e->rank && places[i].buffer != WEFT_SCRATCH && !peer_base(x, &places[i], &staged) && !staged)
            return false;
    }
    return true;
}

/* What this process has freed since is not to stay mapped elsewhere. */
static void withdraw_ended(weft_exec *e)
{
    uint64_t ids[16];
    for (size_t n; (n = weft_memory_ended(&e->memories_ended, ids, ARRAY_LEN(ids))) > 0;)
        for (size_t i = 0; i < n; i++)
            weft_host_withdraw(e->host, ids[i]);
}

/* Each rank tries the next one; all must have said yes. Asked where it matters, as at creation not all have
 * introduced themselves. */
static bool all_reachable(weft_exec *e)
{
    if (e->reach != WEFT_PEER_UNKNOWN)
        return e->reach == WEFT_PEER_YES;
    weft_local_region *own = e->regions[e->local_position[e->rank]];
    int next = (e->local_position[e->rank] + 1) % e->local_count;
    if (atomic_load_explicit(&own->reach, memory_order_relaxed) == WEFT_PEER_UNKNOWN)
        atomic_store_explicit(&own->reach, weft_peer_try(&own->identity, &e->regions[next]->identity), memory_order_release);
    bool all = true;
    for (int i = 0; i < e->local_count; i++) {
        uint32_t verdict = atomic_load_explicit(&e->regions[i]->reach, memory_order_acquire);
        if (verdict == WEFT_PEER_NO)
            e->reach = WEFT_PEER_NO;
        all &= verdict == WEFT_PEER_YES;
    }
    if (all)
        e->reach = WEFT_PEER_YES;
    return all;
}

void weft_execute_announce_mapping(weft_execution *x)
{
    weft_exec *e = x->exec;
    withdraw_ended(e);
    weft_local_mapping *m = mapping_place(x, e->rank);
    const weft_schedule *s = x->ready->schedule;
    bool in_place = x->layouts[WEFT_INPUT].base == x->layouts[WEFT_OUTPUT].base;
    bool pushes = s->collective != WEFT_BROADCAST || s->rank != s->root || in_place;
    bool may_fetch = x->host_bytes <= weft_fetch_most_bytes(s->collective, s->algorithm == WEFT_DIRECT && pushes && !e->crowded);
    for (int side = 0; side < 2; side++) {
        const weft_layout *l = &x->layouts[side];
        size_t bytes = (size_t)l->blocks * l->count * l->element_bytes;
        bool published = side ? s->publishes_output : s->publishes_input;
        weft_memory_place *place = &x->mapped[side];
        size_t head = 0, tail = 0, counts = e->crowded ? bytes : x->larger_bytes;
        bool offered = x->may_map && published && l->base && counts >= WEFT_MAP_BYTES;
        bool found = offered && weft_memory_find_inner(l->base, bytes, place, &head, &tail);
        /* whole elements: an odd address may put one on the boundary */
        head = weft_round_up(head, l->element_bytes);
        tail = weft_round_up(tail, l->element_bytes);
        found = found && head <= WEFT_EDGE_BYTES && tail <= WEFT_EDGE_BYTES && head + tail <= bytes;
        for (int i = 0; found && i < e->local_count; i++)
            if (e->local_ranks[i] != e->rank)
                found =
                    weft_host_offer(e->host, e->local_host_index[i], place->memory_id, place->fd, place->memory_bytes) == WEFT_OK;
        if (!found)
            *place = (weft_memory_place){.memory_id = 0};
        if (!found && offered && may_fetch && (!e->crowded || x->larger_bytes >= WEFT_FETCH_CROWDED_BYTES) && all_reachable(e))
            *place = (weft_memory_place){.memory_id = WEFT_MEMORY_PRIVATE, .offset = (uintptr_t)l->base};
        m->memory_id[side] = place->memory_id;
        m->offset[side] = place->offset;
        m->head[side] = found ? head : 0;
        m->tail[side] = found && tail ? bytes - tail : UINT64_MAX;
    }
    m->pushes = pushes;
}

size_t weft_stage_offset(const weft_execution *x, const weft_place *p, uint32_t chunk)
{
    const weft_schedule *s = x->ready->schedule;
    size_t staged = chunk;
    if (x->in_line)
        return 0;
    if (p->buffer == WEFT_OUTPUT && s->publishes_input)
        staged += (size_t)s->input_blocks * s->chunks_per_block;
    return staged * x->chunk_bytes;
}

static char *stage_of(const weft_execution *x, const weft_task *t, int rank)
{
    const weft_exec *e = x->exec;
    weft_local_region *r = e->regions[e->local_position[rank]];
    size_t slot = x->local_sequence % WEFT_LOCAL_SLOTS;
    if (x->in_line)
        return (char *)r->signal[0][0][slot].data;
    return x->small ? (char *)r->small[slot] : (char *)r->stage[x->stage_slot][t->tile % WEFT_DEPTH];
}

/* Bytes of the cursor's chunk in this tile, and where they start. */
static size_t chunk_at(const weft_execution *x, const weft_task *t, const weft_place *p, const weft_place *like,
                       uint32_t run, uint32_t i, char **address)
{
    const weft_exec *e = x->exec;
    uint32_t chunk = p->first + run * p->stride + i;
    if (p->buffer == WEFT_SCRATCH) {
        *address = x->layouts[WEFT_SCRATCH].base + ((t->tile % WEFT_DEPTH) *
                   (size_t)x->ready->schedule->scratch_chunks + chunk) * x->chunk_bytes;
        if (!like) { /* a full chunk's part of the tile */
            size_t left = x->largest_chunk - t->tile * x->tile_elements;
            return weft_min_size(left, x->tile_elements) * x->layouts[WEFT_SCRATCH].element_bytes;
        }
        chunk = like->first + run * like->stride + i;
        const weft_layout *l = &x->layouts[like->buffer];
        size_t offset;
        return weft_layout_chunk(l, chunk, x->tile_elements, t->tile, &offset) * l->element_bytes;
    }
    const weft_layout *l = &x->layouts[p->buffer];
    size_t offset;
    size_t bytes = weft_layout_chunk(l, chunk, x->tile_elements, t->tile, &offset) * l->element_bytes;
    if (p->rank == e->rank) {
        *address = l->base + offset * l->element_bytes;
        return bytes;
    }
    bool staged_there;
    char *base = peer_base(x, p, &staged_there);
    if (!staged_there) {
        *address = base + offset * l->element_bytes;
        return bytes;
    }
    *address = stage_of(x, t, p->rank) + weft_stage_offset(x, p, chunk);
    return bytes;
}

size_t weft_cursor_next(const weft_execution *x, const weft_task *t, weft_cursor *c, size_t most, char **address)
{
    const weft_place *p = c->place;
    size_t got = 0;
    while (c->run < p->repeat && got < most) {
        char *start;
        size_t bytes = chunk_at(x, t, p, c->like, c->run, c->chunk, &start);
        size_t left = bytes - c->offset;
        start += c->offset;
        size_t run = left;
        if (left && p->rank != x->exec->rank && p->buffer != WEFT_SCRATCH)
            run = step_over_edge(x, p, &start, left);
        if (left && got && start != *address + got)
            break; /* not contiguous */
        if (left) {
            if (!got)
                *address = start;
            size_t take = weft_min_size(run, most - got);
            got += take;
            c->offset += take;
            left -= take;
        }
        if (left)
            break;
        c->offset = 0;
        if (++c->chunk >= p->count) {
            c->chunk = 0;
            c->run++;
        }
    }
    return got;
}

size_t weft_place_bytes(const weft_execution *x, const weft_task *t, const weft_place *place, const weft_place *like)
{
    size_t total = 0;
    char *address;
    for (uint32_t run = 0; run < place->repeat; run++)
        for (uint32_t i = 0; i < place->count; i++)
            total += chunk_at(x, t, place, like, run, i, &address);
    return total;
}

/* To the output: what is too large to stay in cache goes past it. */
static void copy_out(const weft_execution *x, char *dst, const char *src, size_t bytes)
{
    if (x->streams)
        weft_copy_part(dst, src, bytes);
    else
        weft_copy(dst, src, bytes);
}

/* Copies what others do not push of [dst, dst + bytes): the edges. `src` may be another rank's private memory. */
static void copy_edges(weft_execution *x, const weft_place *place, char *dst, const char *src, size_t bytes)
{
    bool private = is_private(x, place);
    const weft_local_mapping *m = mapping_of(x, x->exec->rank);
    uint64_t at = (uintptr_t)dst - (uintptr_t)x->layouts[WEFT_OUTPUT].base, end = at + bytes;
    uint64_t head = m->head[WEFT_OUTPUT] < end ? m->head[WEFT_OUTPUT] : end,
             tail = m->tail[WEFT_OUTPUT] > at ? m->tail[WEFT_OUTPUT] : at;
    if (at < head && private)
        fetch(x, place, dst, src, head - at);
    else if (at < head)
        memcpy(dst, src, head - at);
    if (tail < end && private)
        fetch(x, place, dst + (tail - at), src + (tail - at), end - tail);
    else if (tail < end)
        memcpy(dst + (tail - at), src + (tail - at), end - tail);
}

void weft_execute_copy(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready)
{
    weft_cursor from, to;
    weft_cursor_start(&from, &step->src, ready->src_like);
    weft_cursor_start(&to, &step->dst, ready->dst_like);
    bool final = step->flags & WEFT_STEP_FINAL;
    bool pushed = (step->flags & WEFT_STEP_PUSHED) && x->mapped[1].memory_id && mapping_of(x, step->src.rank)->pushes;
    bool private = is_private(x, &step->src);
    char *src, *dst;
    size_t bytes;
    if (pushed && mapping_of(x, x->exec->rank)->head[WEFT_OUTPUT] == 0 &&
        mapping_of(x, x->exec->rank)->tail[WEFT_OUTPUT] == UINT64_MAX)
        return;
    while ((bytes = weft_cursor_next(x, t, &to, SIZE_MAX, &dst)) > 0)
        for (size_t got; bytes > 0; bytes -= got, dst += got) {
            got = weft_cursor_next(x, t, &from, bytes, &src);
            if (got == 0)
                return;
            const void *source = src;
            if (pushed) {
                copy_edges(x, &step->src, dst, src, got);
                continue;
            }
            if (private) {
                fetch(x, &step->src, dst, src, got);
                source = src = dst;
            }
            if (final && x->reduction.divisor > 1)
                weft_reduction_run(&x->reduction, dst, &source, 1, got / x->layouts[WEFT_OUTPUT].element_bytes, true);
            else if (step->dst.buffer == WEFT_OUTPUT)
                copy_out(x, dst, src, got);
            else if (src != dst)
                weft_copy(dst, src, got);
        }
}

/* Pieces of private sources that stay in cache; kept for the next reduction. */
enum { BOUNCE_BYTES = 64 << 10 };

static bool have_bounce(const weft_execution *x, unsigned sources)
{
    weft_exec *e = x->exec;
    size_t bytes = (size_t)sources * BOUNCE_BYTES;
    if (e->bounce_capacity >= bytes)
        return true;
    weft_free(e->bounce);
    e->bounce_capacity = 0;
    e->bounce = weft_alloc_aligned(WEFT_CACHE_LINE, bytes);
    if (e->bounce)
        e->bounce_capacity = bytes;
    else
        weft_exec_fail(e, WEFT_ERR_MEMORY, e->world[e->rank], "rank %d: no memory for %u sources of a reduction", e->rank,
                       sources);
    return e->bounce;
}

/* A result that is published and does not stay in cache is made in the stage, and taken from there to the output, and to the
 * others' outputs that it is pushed to. */
static bool through_stage(const weft_execution *x, const weft_ready_step *ready)
{
    return ready->published && x->streams && (!x->mapped[1].memory_id || x->larger_bytes >= WEFT_STREAM_PUSHED_BYTES);
}

void weft_execute_reduce(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready)
{
    const weft_place *sources = x->ready->schedule->sources + step->value;
    unsigned n = step->sources;
    const weft_place *like = NULL;
    for (unsigned i = 0; i < n && !like; i++)
        if (sources[i].buffer != WEFT_SCRATCH)
            like = &sources[i];
    if (step->dst.buffer != WEFT_SCRATCH)
        like = &step->dst;
    for (unsigned i = 0; i < n; i++)
        weft_cursor_start(&x->cursors[i], &sources[i], sources[i].buffer == WEFT_SCRATCH ? like : NULL);
    weft_cursor to;
    weft_cursor_start(&to, &step->dst, ready->dst_like ? ready->dst_like : like);
    size_t element = x->layouts[WEFT_OUTPUT].element_bytes;
    bool any_private = false;
    for (unsigned i = 0; i < n; i++)
        any_private |= is_private(x, &sources[i]);
    if (any_private && !have_bounce(x, n))
        return;
    char *dst, *start, *stage = NULL;
    if (through_stage(x, ready)) {
        chunk_at(x, t, &step->dst, NULL, 0, 0, &start);
        stage = stage_of(x, t, x->exec->rank) + weft_stage_offset(x, &step->dst, step->dst.first);
    }
    size_t bytes;
    while ((bytes = weft_cursor_next(x, t, &to, SIZE_MAX, &dst)) > 0) {
        while (bytes > 0) {
            size_t piece = any_private ? weft_min_size(bytes, BOUNCE_BYTES) : bytes;
            for (unsigned i = 0; i < n; i++) { /* the shortest contiguous piece of all */
                weft_cursor probe = x->cursors[i];
                char *address;
                piece = weft_cursor_next(x, t, &probe, piece, &address);
            }
            if (piece == 0)
                return;
            for (unsigned i = 0; i < n; i++) {
                char *address;
                weft_cursor_next(x, t, &x->cursors[i], piece, &address);
                x->pointers[i] = address;
                if (any_private && is_private(x, &sources[i])) {
                    x->pointers[i] = x->exec->bounce + i * BOUNCE_BYTES;
                    fetch(x, &sources[i], x->exec->bounce + i * BOUNCE_BYTES, address, piece);
                }
            }
            weft_reduction_run(&x->reduction, stage ? stage + (dst - start) : dst, x->pointers, n, piece / element,
                               step->flags & WEFT_STEP_FINAL);
            bytes -= piece;
            dst += piece;
        }
    }
}

/* Copies what [at, at + bytes) of a buffer, which lies at `from`, has in common with [first, end) to where that range is kept. */
static void publish_common(unsigned char *kept, uint64_t first, uint64_t end, const char *from, uint64_t at, size_t bytes)
{
    uint64_t low = at > first ? at : first, high = at + bytes < end ? at + bytes : end;
    if (low < high)
        memcpy(kept + (low - first), from + (low - at), high - low);
}

static void publish_edges(weft_execution *x, weft_task *t, const weft_place *p)
{
    int side = p->buffer == WEFT_OUTPUT;
    weft_local_mapping *m = mapping_place(x, x->exec->rank);
    if (x->small || (m->head[side] == 0 && m->tail[side] == UINT64_MAX))
        return;
    for (uint32_t run = 0; run < p->repeat; run++)
        for (uint32_t i = 0; i < p->count; i++) {
            char *from;
            size_t bytes = chunk_at(x, t, p, NULL, run, i, &from);
            uint64_t at = (uintptr_t)from - (uintptr_t)x->layouts[side].base;
            publish_common(m->edge[side][0], 0, m->head[side], from, at, bytes);
            publish_common(m->edge[side][1], m->tail[side], UINT64_MAX, from, at, bytes);
        }
}

bool weft_execute_can_push(const weft_execution *x, const weft_step *step)
{
    const weft_exec *e = x->exec;
    bool pushes = (step->flags & WEFT_STEP_PUSH) && mapping_of(x, e->rank)->pushes;
    for (int i = 0; pushes && i < e->local_count; i++) {
        weft_place there = step->src;
        there.rank = e->local_ranks[i];
        bool staged = true;
        if (there.rank != e->rank && !peer_base(x, &there, &staged) && !staged)
            return false;
    }
    return true;
}

/* Writes a place of the output to that of a peer, as far as it is shared; is_staged: from the stage, where it was made. */
static void push_to(weft_execution *x, weft_task *t, const weft_place *p, int position, bool is_staged)
{
    const weft_exec *e = x->exec;
    const weft_local_mapping *m = mapping_of(x, e->local_ranks[position]);
    weft_place there = *p;
    bool staged;
    there.rank = e->local_ranks[position];
    char *base = peer_base(x, &there, &staged);
    for (uint32_t i = 0; !staged && i < p->repeat * p->count; i++) {
        uint32_t run = i / p->count, chunk = i % p->count;
        char *from;
        size_t bytes = chunk_at(x, t, p, NULL, run, chunk, &from);
        uint64_t at = (uintptr_t)from - (uintptr_t)x->layouts[WEFT_OUTPUT].base;
        uint64_t low = at > m->head[WEFT_OUTPUT] ? at : m->head[WEFT_OUTPUT];
        uint64_t high = at + bytes < m->tail[WEFT_OUTPUT] ? at + bytes : m->tail[WEFT_OUTPUT];
        if (low >= high)
            continue;
        if (is_staged)
            from = stage_of(x, t, e->rank) + weft_stage_offset(x, p, p->first + run * p->stride + chunk);
        if (!is_private(x, &there))
            copy_out(x, (char *)((uintptr_t)base + low), from + (low - at), high - low);
        else if (!weft_peer_write(&e->regions[position]->identity, from + (low - at), (uintptr_t)base + low, high - low))
            unreachable(x, there.rank);
    }
}

static void push(weft_execution *x, weft_task *t, const weft_place *p, bool is_staged)
{
    const weft_exec *e = x->exec;
    for (int i = 0; i < e->local_count; i++)
        if (e->local_ranks[i] != e->rank)
            push_to(x, t, p, i, is_staged);
}

/* To the stage; what is there already is taken from it to the output. */
static void publish_staged(const weft_execution *x, weft_task *t, const weft_place *p, bool is_there)
{
    char *stage = stage_of(x, t, x->exec->rank);
    for (uint32_t run = 0; run < p->repeat; run++)
        for (uint32_t i = 0; i < p->count; i++) {
            char *from;
            size_t bytes = chunk_at(x, t, p, NULL, run, i, &from);
            char *staged = stage + weft_stage_offset(x, p, p->first + run * p->stride + i);
            if (is_there)
                copy_out(x, from, staged, bytes);
            else if (bytes)
                memcpy(staged, from, bytes);
        }
}

void weft_execute_publish(weft_execution *x, weft_task *t, const weft_step *step, const weft_ready_step *ready)
{
    const weft_place *p = &step->src;
    bool pushed = (step->flags & WEFT_STEP_PUSH) && !x->small;
    if (pushed && !mapping_of(x, x->exec->rank)->pushes)
        return;
    bool is_mapped = x->mapped[p->buffer == WEFT_OUTPUT].memory_id, is_staged = through_stage(x, ready);
    if (is_staged || !is_mapped)
        publish_staged(x, t, p, is_staged);
    if (is_mapped)
        publish_edges(x, t, p);
    if (pushed)
        push(x, t, p, is_staged);
}

void weft_execute_store(weft_execution *x, weft_task *t, const weft_step *step, const unsigned char *payload, size_t bytes)
{
    bool reduce = step->kind == WEFT_STEP_RECV_REDUCE;
    size_t element = x->layouts[WEFT_OUTPUT].element_bytes;
    while (bytes > 0) {
        char *dst, *own;
        size_t got = weft_cursor_next(x, t, &t->into, bytes, &dst);
        if (got == 0)
            return;
        bytes -= got;
        if (!reduce) {
            if ((const unsigned char *)dst != payload)
                memcpy(dst, payload, got);
            payload += got;
            continue;
        }
        while (got > 0) {
            size_t piece = weft_cursor_next(x, t, &t->with, got, &own);
            if (piece == 0)
                return;
            bool first = step->flags & WEFT_STEP_INCOMING_FIRST;
            const void *sources[2] = {first ? (const void *)payload : own, first ? own : (const void *)payload};
            weft_reduction_run(&x->reduction, dst, sources, 2, piece / element, step->flags & WEFT_STEP_FINAL);
            got -= piece;
            dst += piece;
            payload += piece;
        }
    }
}

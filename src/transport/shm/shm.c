/* The shm transport: one ring per ordered pair of local ranks, written by the sender, read in place by the
 * receiver. Deaths are found by the control plane, sleeping and waking is the host's. */
#include <sched.h>
#include <stdio.h>

#include "transport/host_internal.h"
#include "transport/shm/ring.h"

enum {
    ADDRESS_MAGIC = 0x6d6873, /* "shm" */
    RECORDS_PER_TURN = 64,    /* read from one ring before the next has its turn */
    IDLE_TURNS = 2000,        /* a ring that was empty so often is polled no more, if there are many */
    POLL_ALWAYS = 8           /* so few rings are always polled */
};

typedef struct shm_address {
    uint64_t magic;
    uint64_t base_id;
} shm_address;

/* What is received from one local rank. */
typedef struct shm_source {
    ring *ring;
    uint64_t position;
    uint64_t asked; /* position when the sender was last asked whether it wants to be woken */
    uint32_t idle;
    bool polled;
    unsigned char *whole; /* where a fragmented slice is put together */
    size_t bytes, filled; /* its size; how much is there. filled < bytes: more to come */
    unsigned char header[WEFT_HEADER_BYTES];
    bool closed;             /* the peer closed: what is in the ring is the last */
    bool failed;             /* said so: what still comes is dropped */
    weft_endpoint *endpoint; /* the other direction, if there is one */
    unsigned char *own;      /* WEFT_SLICE_MAX_BYTES, for callers without place() */
} shm_source;

struct weft_endpoint {
    weft_transport *transport;
    int index;    /* local rank of the peer */
    bool in_done; /* within a done(): send() only queues */
    bool blocked; /* in the list of those with a queue */
    bool broken;  /* the peer failed */
    ring_writer writer;
    weft_slice *first, **end; /* waiting for room */
    weft_endpoint *next;      /* of all endpoints */
    weft_endpoint *next_blocked;
};

struct weft_transport {
    weft_host *host;
    weft_sink sink;
    int index, size, rank, ranks;
    bool closed;
    shm_region *region;
    shm_source *sources; /* by local rank */
    int *polled;         /* local ranks whose rings are polled */
    int polled_count;
    weft_endpoint *endpoints, *blocked;
};

size_t weft_shm_region_bytes(int local_ranks_max)
{
    return weft_round_up(
        sizeof(shm_region) + (size_t)(local_ranks_max > 0 ? local_ranks_max : 1) * sizeof(ring), 4096);
}

static int local_index(const weft_transport *t, int peer)
{
    const int *ranks = weft_host_ranks(t->host);
    for (int low = 0, high = t->size; low < high;) {
        int middle = low + (high - low) / 2;
        if (ranks[middle] == peer)
            return middle;
        if (ranks[middle] < peer)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* ---- opening and connecting ---- */

static weft_status shm_open(const weft_transport_config *config, weft_transport **out)
{
    weft_host *h = config->host;
    if (!h)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "shm: no host was given in the configuration");
    int size = weft_host_size(h);
    if (size > SHM_MAX_LOCAL_RANKS)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "shm: %d ranks on one host are more than %d", size,
                         SHM_MAX_LOCAL_RANKS);
    if (h->region_bytes < weft_shm_region_bytes(size))
        return weft_fail(WEFT_ERR_INVALID,
                         "shm: regions of %zu bytes are too small for %d ranks, %zu are needed",
                         h->region_bytes, size, weft_shm_region_bytes(size));
    weft_transport *t = weft_alloc(sizeof(*t));
    if (!t)
        return weft_fail(WEFT_ERR_MEMORY, "shm: no memory for a transport");
    t->host = h;
    t->sink = config->sink;
    t->index = weft_host_index(h);
    t->size = size;
    t->rank = config->rank;
    t->ranks = config->ranks;
    t->region = weft_host_region(h, t->index);
    t->sources = weft_alloc_array((size_t)size, sizeof(*t->sources));
    t->polled = weft_alloc_array((size_t)size, sizeof(*t->polled));
    if (!t->sources || !t->polled) {
        weft_free(t->sources);
        weft_free(t->polled);
        weft_free(t);
        return weft_fail(WEFT_ERR_MEMORY, "shm: no memory for %d peers", size);
    }
    *out = t;
    return WEFT_OK;
}

static weft_status shm_address_of(weft_transport *t, void *address, size_t *bytes)
{
    shm_address own = {ADDRESS_MAGIC, weft_host_base_id(t->host)};
    if (*bytes < sizeof(own))
        return weft_fail(WEFT_ERR_INVALID, "shm: an address needs %zu bytes, there are %zu", sizeof(own),
                         *bytes);
    memcpy(address, &own, sizeof(own));
    *bytes = sizeof(own);
    return WEFT_OK;
}

static weft_status shm_reachable(weft_transport *t, int peer, const void *address, size_t bytes,
                                 weft_path_info *info)
{
    shm_address theirs;
    if (peer < 0 || peer >= t->ranks)
        return weft_fail(WEFT_ERR_INVALID, "shm: rank %d is not in 0..%d", peer, t->ranks - 1);
    if (bytes != sizeof(theirs))
        return weft_fail(WEFT_ERR_UNSUPPORTED, "shm: rank %d gave an address of %zu bytes, not %zu", peer,
                         bytes, sizeof(theirs));
    memcpy(&theirs, address, sizeof(theirs));
    if (theirs.magic != ADDRESS_MAGIC || theirs.base_id != weft_host_base_id(t->host) ||
        local_index(t, peer) < 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "shm: rank %d is not on the host of rank %d (no descriptor could be passed)", peer,
                         t->rank);
    if (info)
        *info = (weft_path_info){.latency_ns = 200, .bandwidth_Bps = 8e9, .name = "shm"};
    return WEFT_OK;
}

static weft_status shm_connect(weft_transport *t, int peer, const void *address, size_t bytes,
                               weft_endpoint **out)
{
    weft_status status = shm_reachable(t, peer, address, bytes, NULL);
    if (status != WEFT_OK)
        return status;
    weft_endpoint *e = weft_alloc(sizeof(*e));
    if (!e)
        return weft_fail(WEFT_ERR_MEMORY, "shm: no memory for the way to rank %d", peer);
    e->transport = t;
    e->index = local_index(t, peer);
    e->end = &e->first;
    shm_region *theirs = weft_host_region(t->host, e->index);
    e->writer.ring = &theirs->rings[t->index];
    e->broken = t->sources[e->index].failed;
    t->sources[e->index].endpoint = e;
    e->next = t->endpoints;
    t->endpoints = e;
    *out = e;
    return WEFT_OK;
}

/* ---- sending ---- */

/* After publishing: has the receiver stopped polling this ring, does it sleep? Both are asked after one
 * fence. */
static void call_receiver(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    weft_fence_store_load(); /* partners: stop_polling and weft_host_prepare_sleep */
    if (!atomic_load_explicit(&e->writer.ring->control.listening, memory_order_relaxed)) {
        shm_region *theirs = weft_host_region(t->host, e->index);
        atomic_fetch_or_explicit(&theirs->calls[t->index / 64], 1ull << (t->index % 64),
                                 memory_order_seq_cst);
    }
    weft_host_ring_fenced(t->host, e->index);
}

/* Writes the slice, or as many of its fragments as there is room for. True: all of it is in the ring. */
static bool write_slice(weft_endpoint *e, weft_slice *slice)
{
    ring_writer *w = &e->writer;
    if (slice->bytes <= WEFT_SHM_WHOLE_BYTES) {
        ring_record *record = ring_reserve(w, slice->bytes);
        if (!record)
            return false;
        memcpy(record->header, slice->header, WEFT_HEADER_BYTES);
        if (slice->bytes)
            memcpy(ring_payload(record, slice->bytes), slice->payload, slice->bytes);
        ring_publish(w, record, RING_SLICE, slice->bytes, slice->bytes);
        call_receiver(e);
        return true;
    }
    while (slice->transport_state[0] < slice->bytes) {
        size_t sent = slice->transport_state[0];
        size_t piece = weft_min_size(slice->bytes - sent, WEFT_SHM_WHOLE_BYTES);
        ring_record *record = ring_reserve(w, piece);
        if (!record)
            return false;
        if (sent == 0)
            memcpy(record->header, slice->header, WEFT_HEADER_BYTES);
        memcpy(ring_payload(record, piece), (const unsigned char *)slice->payload + sent, piece);
        ring_publish(w, record, sent == 0 ? RING_FIRST : RING_MORE, sent == 0 ? slice->bytes : piece, piece);
        slice->transport_state[0] = sent + piece;
        call_receiver(e);
    }
    return true;
}

static void finish(weft_endpoint *e, weft_slice *slice, weft_status status)
{
    e->in_done = true;
    slice->done(slice, status);
    e->in_done = false;
}

/* Writes what waits, as far as there is room. Returns how many slices are done. When it stops for lack of
 * room, the peer knows at which head it shall ring. */
static int flush_endpoint(weft_endpoint *e)
{
    int moved = 0;
    ring_control *control = &e->writer.ring->control;
    while (e->first) {
        if (!write_slice(e, e->first)) {
            if (atomic_load_explicit(&control->wanted, memory_order_relaxed) != e->writer.wanted) {
                atomic_store_explicit(&control->wanted, e->writer.wanted, memory_order_relaxed);
                weft_fence_store_load(); /* partner: ring_if_wanted */
                continue;                /* it may have made room before it could see that */
            }
            return moved;
        }
        weft_slice *slice = e->first;
        e->first = slice->next;
        if (!e->first)
            e->end = &e->first;
        finish(e, slice, WEFT_OK);
        moved++;
    }
    if (atomic_load_explicit(&control->wanted, memory_order_relaxed) != 0)
        atomic_store_explicit(&control->wanted, 0, memory_order_relaxed);
    return moved;
}

static void enqueue(weft_endpoint *e, weft_slice *slice)
{
    slice->next = NULL;
    *e->end = slice;
    e->end = &slice->next;
    if (!e->blocked) {
        e->blocked = true;
        e->next_blocked = e->transport->blocked;
        e->transport->blocked = e;
    }
}

/* All that waits in the queue ends with that status. */
static void drop_queue(weft_endpoint *e, weft_status status)
{
    while (e->first) {
        weft_slice *slice = e->first;
        e->first = slice->next;
        if (!e->first)
            e->end = &e->first;
        finish(e, slice, status);
    }
}

static void shm_abandon(weft_endpoint *e)
{
    e->broken = true;
    e->transport->sources[e->index].failed = true; /* what is still in the ring is dropped, the sink knows already */
    drop_queue(e, WEFT_ERR_PEER);
}

static weft_status shm_send(weft_endpoint *e, weft_slice *slice)
{
    if (e->transport->closed)
        return weft_fail(WEFT_ERR_ABORTED, "shm: the transport is closed");
    if (e->broken)
        return weft_fail(WEFT_ERR_PEER, "shm: rank %d is dead or has closed",
                         weft_host_ranks(e->transport->host)[e->index]);
    if (slice->bytes > WEFT_SLICE_MAX_BYTES)
        return weft_fail(WEFT_ERR_INVALID, "shm: a slice of %zu bytes is longer than %d", slice->bytes,
                         WEFT_SLICE_MAX_BYTES);
    slice->transport_state[0] = 0;
    if (e->first || e->in_done || !write_slice(e, slice)) {
        enqueue(e, slice);
        return WEFT_OK;
    }
    finish(e, slice, WEFT_OK);
    if (e->first) /* done() sent more */
        flush_endpoint(e);
    return WEFT_OK;
}

/* All queues that waited for room. Those that still do stay in the list. */
static int flush_blocked(weft_transport *t)
{
    int moved = 0;
    weft_endpoint *list = t->blocked;
    t->blocked = NULL; /* done() may add endpoints */
    while (list) {
        weft_endpoint *e = list;
        list = e->next_blocked;
        moved += flush_endpoint(e);
        if (e->first) {
            e->next_blocked = t->blocked;
            t->blocked = e;
        } else {
            e->blocked = false;
        }
    }
    return moved;
}

/* ---- receiving ---- */

/* The way to a peer is broken, in both directions. Said once. */
static void fail_peer(weft_transport *t, int index, weft_status status, const char *what)
{
    shm_source *s = &t->sources[index];
    char reason[96];
    int peer = weft_host_ranks(t->host)[index];
    if (s->failed)
        return;
    s->failed = true;
    if (s->endpoint) {
        s->endpoint->broken = true;
        drop_queue(s->endpoint, status);
    }
    snprintf(reason, sizeof(reason), "rank %d: %s", peer, what);
    if (t->sink.failed)
        t->sink.failed(t->sink.context, peer, status, reason);
}

static void begin_long_slice(weft_transport *t, shm_source *s, int index, const ring_record *record,
                             size_t bytes)
{
    memcpy(s->header, record->header, WEFT_HEADER_BYTES);
    s->bytes = bytes;
    s->filled = 0;
    s->whole = NULL;
    if (!s->failed && t->sink.place)
        s->whole = t->sink.place(t->sink.context, weft_host_ranks(t->host)[index], s->header, bytes);
    if (s->whole)
        return;
    if (!s->own)
        s->own = weft_alloc_aligned(RING_LINE, WEFT_SLICE_MAX_BYTES);
    s->whole = s->own;
    if (!s->whole)
        fail_peer(t, index, WEFT_ERR_MEMORY, "no memory to put a long slice together");
}

/* Takes one record that is no wrap. */
static void take_record(weft_transport *t, shm_source *s, int index, ring_record *record, ring_kind kind,
                        size_t bytes)
{
    int peer = weft_host_ranks(t->host)[index];
    if (kind == RING_SLICE) {
        s->position += ring_record_bytes(bytes);
        if (!s->failed)
            t->sink.arrived(t->sink.context, peer, record->header, ring_payload(record, bytes), bytes);
        return;
    }
    size_t piece = bytes;
    if (kind == RING_FIRST) {
        begin_long_slice(t, s, index, record, bytes);
        piece = WEFT_SHM_WHOLE_BYTES;
    }
    s->position += ring_record_bytes(piece);
    if (!s->failed)
        memcpy(s->whole + s->filled, ring_payload(record, piece), piece);
    s->filled += piece;
    if (s->filled == s->bytes && !s->failed)
        t->sink.arrived(t->sink.context, peer, s->header, s->whole, s->bytes);
}

/* The sender may have run out of room: it left the head at which it wants to be woken. */
static void ring_if_wanted(weft_transport *t, shm_source *s, int index)
{
    s->asked = s->position;
    weft_fence_store_load(); /* partner: flush_endpoint */
    uint64_t wanted = atomic_load_explicit(&s->ring->control.wanted, memory_order_relaxed);
    if (wanted != 0 && s->position >= wanted)
        weft_host_ring_fenced(t->host, index);
}

static int read_ring(weft_transport *t, int index)
{
    shm_source *s = &t->sources[index];
    int moved = 0;
    for (int n = 0; n < RECORDS_PER_TURN; n++) {
        ring_record *record = ring_at(s->ring, s->position);
        uint64_t word = atomic_load_explicit(&record->word, memory_order_acquire); /* partner: ring_publish */
        if (word == 0)
            break;
        if (word >> 32 == RING_WRAP) {
            s->position = (s->position | RING_MASK) + 1;
        } else {
            take_record(t, s, index, record, (ring_kind)(word >> 32), (size_t)(uint32_t)word);
            moved++;
        }
        ring_release(s->ring, s->position);
    }
    /* Only now and then, for it costs a fence: a sender that found too little room at head h has put more
     * than a quarter of the ring behind h, so this condition comes true before the ring is empty. */
    if (s->position - s->asked >= WEFT_SHM_RING_BYTES / 4)
        ring_if_wanted(t, s, index);
    return moved;
}

static void start_polling(weft_transport *t, int index)
{
    shm_source *s = &t->sources[index];
    if (s->polled)
        return;
    s->ring = &t->region->rings[index];
    s->polled = true;
    s->idle = 0;
    atomic_store_explicit(&s->ring->control.listening, 1, memory_order_relaxed);
    t->polled[t->polled_count++] = index;
}

/* Begins to poll the rings whose senders called; notes who closed. */
static void answer_calls(weft_transport *t)
{
    int words = (t->size + 63) / 64;
    for (int word = 0; word < words; word++) {
        /* First who closed: its last call came before that, so it is seen below. */
        uint64_t closed = 0, calls = 0;
        if (__builtin_expect(atomic_load_explicit(&t->region->closed[word], memory_order_relaxed) != 0, 0))
            closed = atomic_exchange_explicit(&t->region->closed[word], 0, memory_order_acq_rel);
        if (__builtin_expect(atomic_load_explicit(&t->region->calls[word], memory_order_relaxed) != 0, 0))
            calls = atomic_exchange_explicit(&t->region->calls[word], 0, memory_order_acq_rel);
        for (; calls; calls &= calls - 1)
            start_polling(t, word * 64 + __builtin_ctzll(calls));
        for (; closed; closed &= closed - 1) {
            int index = word * 64 + __builtin_ctzll(closed);
            t->sources[index].closed = true;
            if (!t->sources[index].ring) /* it never wrote: its pages need not be touched */
                fail_peer(t, index, WEFT_ERR_PEER, "has closed its transport");
            else
                start_polling(t, index);
        }
    }
}

/* Forgets a ring until its sender calls again. False: something came at the last moment. */
static bool stop_polling(shm_source *s)
{
    atomic_store_explicit(&s->ring->control.listening, 0, memory_order_relaxed);
    weft_fence_store_load(); /* partner: call_receiver */
    if (atomic_load_explicit(&ring_at(s->ring, s->position)->word, memory_order_relaxed) == 0) {
        s->polled = false;
        return true;
    }
    atomic_store_explicit(&s->ring->control.listening, 1, memory_order_relaxed);
    s->idle = 0;
    return false;
}

static int shm_progress(weft_transport *t)
{
    if (t->closed)
        return 0;
    int moved = 0;
    answer_calls(t);
    for (int i = 0; i < t->polled_count; i++) {
        shm_source *s = &t->sources[t->polled[i]];
        int n = read_ring(t, t->polled[i]);
        moved += n;
        s->idle = n ? 0 : s->idle + 1;
        if (n == 0 && s->closed)
            fail_peer(t, t->polled[i], WEFT_ERR_PEER, "has closed its transport");
        bool finished = n == 0 && s->closed;
        if (finished || (s->idle > IDLE_TURNS && t->polled_count > POLL_ALWAYS && stop_polling(s)))
            t->polled[i--] = t->polled[--t->polled_count];
    }
    if (t->blocked)
        moved += flush_blocked(t);
    return moved;
}

/* ---- the end ---- */

static weft_status shm_flush(weft_transport *t, int64_t timeout_ms)
{
    int64_t deadline_ns = weft_deadline_ns(timeout_ms);
    while (!t->closed) {
        flush_blocked(t);
        if (!t->blocked)
            return WEFT_OK;
        if (weft_now_ns() >= deadline_ns)
            return weft_fail(WEFT_ERR_TIMEOUT, "shm: rank %d did not take all slices within %lld ms",
                             weft_host_ranks(t->host)[t->blocked->index], (long long)timeout_ms);
        sched_yield();
    }
    return WEFT_OK;
}

static void shm_close(weft_transport *t)
{
    if (t->closed)
        return;
    t->closed = true; /* from now on done() cannot queue more */
    for (weft_endpoint *e = t->endpoints; e; e = e->next)
        drop_queue(e, WEFT_ERR_ABORTED);
    t->blocked = NULL;
    for (int i = 0; i < t->size; i++) {
        if (i == t->index)
            continue;
        shm_region *theirs = weft_host_region(t->host, i);
        atomic_fetch_or_explicit(&theirs->closed[t->index / 64], 1ull << (t->index % 64),
                                 memory_order_seq_cst);
        weft_host_ring(t->host, i);
    }
}

static void shm_destroy(weft_transport *t)
{
    if (!t)
        return;
    shm_close(t);
    while (t->endpoints) {
        weft_endpoint *e = t->endpoints;
        t->endpoints = e->next;
        weft_free(e);
    }
    for (int i = 0; i < t->size; i++)
        weft_free(t->sources[i].own);
    weft_free(t->sources);
    weft_free(t->polled);
    weft_free(t);
}

const weft_transport_ops weft_shm_transport = {
    .abi = WEFT_TRANSPORT_ABI,
    .size = sizeof(weft_transport_ops),
    .name = "shm",
    .open = shm_open,
    .address = shm_address_of,
    .reachable = shm_reachable,
    .connect = shm_connect,
    .send = shm_send,
    .progress = shm_progress,
    .abandon = shm_abandon,
    .close = shm_close,
    .flush = shm_flush,
    .destroy = shm_destroy,
};

/* Multiplexing of communicators over the transports of a process group; see wire.h. What a slice means is the
 * client's business (execute.c, p2p.c). */
#include "collectives/wire.h"

#include <string.h>

_Static_assert(sizeof(weft_wire_header) == WEFT_HEADER_BYTES, "the header fills the transport's header exactly");

/* A slice on its way out. */
typedef struct wire_send {
    weft_slice slice;
    weft_wire *wire;
    struct wire_send *next_free;
    struct wire_send *next_owned, **link; /* among the sends that transports own */
    weft_wire_done done;
    void *owner;
    uint32_t index;
} wire_send;

/* Memory of a size class, its class in front of it. */
typedef struct wire_buffer {
    struct wire_buffer *next;
    uint32_t size_class;
    uint32_t padding;
} wire_buffer;
_Static_assert(sizeof(wire_buffer) <= WEFT_CACHE_LINE, "the payload starts at a cache line");

static unsigned size_class(size_t bytes)
{
    unsigned c = 0;
    while (((size_t)256 << c) < bytes)
        c++;
    return c;
}

void *weft_wire_buffer(weft_wire *w, size_t bytes)
{
    unsigned c = size_class(bytes);
    if (c >= WEFT_WIRE_CLASSES)
        return NULL;
    wire_buffer *b = w->free_buffers[c];
    if (b) {
        w->free_buffers[c] = b->next;
    } else {
        b = weft_alloc_aligned(WEFT_CACHE_LINE, WEFT_CACHE_LINE + ((size_t)256 << c));
        if (!b)
            return NULL;
        b->size_class = c;
        w->buffer_bytes += (size_t)256 << c;
    }
    return (char *)b + WEFT_CACHE_LINE;
}

void weft_wire_buffer_free(weft_wire *w, void *buffer)
{
    if (!buffer)
        return;
    wire_buffer *b = (void *)((char *)buffer - WEFT_CACHE_LINE);
    b->next = w->free_buffers[b->size_class];
    w->free_buffers[b->size_class] = b;
}

static weft_incoming *incoming_new(weft_wire *w, const weft_incoming *from)
{
    weft_incoming *in = w->free_incoming;
    if (in)
        w->free_incoming = in->next;
    else if (!(in = weft_alloc(sizeof *in)))
        return NULL;
    *in = *from;
    in->next = in->next_placed = NULL;
    return in;
}

static void incoming_free(weft_wire *w, weft_incoming *in)
{
    weft_wire_buffer_free(w, in->buffer);
    in->buffer = NULL;
    in->next = w->free_incoming;
    w->free_incoming = in;
}

static weft_wire_client *find_client(const weft_wire *w, uint32_t comm)
{
    weft_wire_client *c = w->clients[comm % WEFT_WIRE_BUCKETS];
    while (c && c->comm != comm)
        c = c->next;
    return c;
}

/* ---- sending ----------------------------------------------------------------------------------- */

static void slice_done(weft_slice *slice, weft_status status)
{
    wire_send *s = slice->context;
    weft_wire *w = s->wire;
    w->sends--;
    weft_wire_done done = s->done;
    void *owner = s->owner;
    uint32_t index = s->index;
    size_t bytes = slice->bytes;
    *s->link = s->next_owned;
    if (s->next_owned)
        s->next_owned->link = s->link;
    s->next_free = w->free_sends;
    w->free_sends = s;
    if (done)
        done(owner, index, bytes, status);
}

static weft_status need_endpoint(weft_wire *w, int peer)
{
    weft_wire_peer *p = &w->peers[peer];
    if (p->broken)
        return weft_fail(WEFT_ERR_PEER, "rank %d: %s", peer, p->reason ? p->reason : "connection lost");
    if (!p->route)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "no transport reaches rank %d", peer);
    const weft_wire_route *r = p->route;
    return r->ops->connect(r->transport, peer, r->addresses + (size_t)peer * r->address_stride,
                           r->address_bytes[peer], &p->endpoint);
}

static void deliver(weft_wire *w, int peer, const weft_wire_header *header, const void *payload, size_t bytes);

weft_status weft_wire_post(weft_wire *w, int peer, weft_wire_header *header, const void *payload, size_t bytes,
                           weft_wire_done done, void *owner, uint32_t index)
{
    weft_wire_peer *p = &w->peers[peer];
    header->credit = p->credit_due;
    if (peer == w->rank) { /* to itself: straight in */
        p->credit_due = 0;
        deliver(w, peer, header, payload ? payload : "", bytes);
        if (done)
            done(owner, index, bytes, WEFT_OK);
        return WEFT_OK;
    }
    if (w->closed)
        return weft_fail(WEFT_ERR_ABORTED, "the connections of this process group are closed");
    if (!p->endpoint || p->broken) {
        weft_status status = need_endpoint(w, peer);
        if (status != WEFT_OK)
            return status;
    }
    wire_send *s = w->free_sends;
    if (s)
        w->free_sends = s->next_free;
    else if (!(s = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *s, WEFT_CACHE_LINE))))
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a slice to rank %d", peer);
    s->wire = w;
    s->done = done;
    s->owner = owner;
    s->index = index;
    s->slice.payload = payload;
    s->slice.bytes = bytes;
    s->slice.done = slice_done;
    s->slice.context = s;
    s->slice.next = NULL;
    memcpy(s->slice.header, header, sizeof *header);
    s->next_owned = w->owned_sends;
    s->link = (wire_send **)&w->owned_sends;
    if (s->next_owned)
        s->next_owned->link = &s->next_owned;
    w->owned_sends = s;
    w->sends++;
    p->credit_due = 0;
    weft_status status = p->route->ops->send(p->endpoint, &s->slice);
    if (status != WEFT_OK) {
        s->done = NULL;
        slice_done(&s->slice, status);
    }
    return status;
}

void weft_wire_hand_over(weft_wire *w, const void *owner, void *to, weft_wire_done done, void (*each)(void *to, uint32_t index))
{
    for (wire_send *s = w->owned_sends; s; s = s->next_owned) {
        if (s->owner != owner)
            continue;
        s->owner = to;
        s->done = done;
        each(to, s->index);
    }
}

/* ---- credit ------------------------------------------------------------------------------------ */

void weft_wire_taken(weft_wire *w, int peer, const weft_wire_header *header, size_t bytes)
{
    if (!(header->flags & WEFT_WIRE_EAGER))
        return;
    weft_wire_peer *p = &w->peers[peer];
    p->credit_due += (uint32_t)weft_max_size(bytes, WEFT_EAGER_MIN_CHARGE);
    if (p->credit_due >= WEFT_EAGER_BYTES / 2 && !p->broken && !w->closed) {
        weft_wire_header credit = {.kind = WEFT_WIRE_CREDIT};
        weft_wire_post(w, peer, &credit, NULL, 0, NULL, NULL, 0); /* a broken peer needs no credit */
    }
}

void weft_wire_release(weft_wire *w, weft_incoming *in)
{
    weft_wire_taken(w, in->peer, &in->header, in->bytes);
    incoming_free(w, in);
}

static void credit_came(weft_wire *w, int peer, uint32_t credit)
{
    weft_wire_peer *p = &w->peers[peer];
    p->eager_used -= credit > p->eager_used ? p->eager_used : credit;
}

/* ---- receiving --------------------------------------------------------------------------------- */

static void keep(weft_wire *w, weft_wire_client *client, weft_incoming *in)
{
    in->client = client;
    if (client) {
        client->kept(client, in);
        return;
    }
    weft_incoming **tail = &w->orphans;
    while (*tail)
        tail = &(*tail)->next;
    *tail = in;
}

/* Copies what must outlive the call; NULL (and the client's fault) when there is no memory. */
static weft_incoming *hold(weft_wire *w, weft_wire_client *client, const weft_incoming *from, bool with_buffer)
{
    weft_incoming *in = incoming_new(w, from);
    if (in && with_buffer && from->bytes && !(in->buffer = weft_wire_buffer(w, from->bytes))) {
        incoming_free(w, in);
        in = NULL;
    }
    if (!in && client)
        client->fault(client, WEFT_ERR_MEMORY, "no memory to keep a slice that came early");
    return in;
}

static bool over(const weft_wire *w, const weft_wire_client *client, const weft_wire_header *header)
{
    return !client && header->comm < w->next_comm;
}

/* A slice whose payload is in memory. */
static void deliver(weft_wire *w, int peer, const weft_wire_header *header, const void *payload, size_t bytes)
{
    if (header->credit)
        credit_came(w, peer, header->credit);
    if (header->kind == WEFT_WIRE_CREDIT)
        return;
    weft_incoming in = {.payload = payload, .bytes = bytes, .peer = peer, .header = *header};
    in.client = find_client(w, header->comm);
    if (over(w, in.client, header)) {
        weft_wire_taken(w, peer, header, bytes);
        return;
    }
    weft_take take = in.client ? in.client->take(in.client, &in) : WEFT_TAKE_KEEP;
    if (take == WEFT_TAKE_DONE) {
        weft_wire_taken(w, peer, header, bytes);
    } else if (take == WEFT_TAKE_PLACE) {
        memcpy(in.memory, payload, bytes);
        in.payload = in.memory;
        in.client->landed(in.client, &in);
        weft_wire_taken(w, peer, header, bytes);
    } else {
        weft_incoming *kept = hold(w, in.client, &in, true);
        if (!kept)
            return;
        if (bytes)
            memcpy(kept->buffer, payload, bytes);
        kept->payload = bytes ? kept->buffer : (const unsigned char *)"";
        keep(w, kept->client, kept);
    }
}

static void sink_arrived(void *context, int peer, const unsigned char *bytes_of_header, const void *payload, size_t bytes)
{
    weft_wire *w = context;
    for (weft_incoming **link = &w->peers[peer].placed; *link; link = &(*link)->next_placed) {
        weft_incoming *in = *link;
        if (payload != (in->memory ? in->memory : in->buffer))
            continue;
        *link = in->next_placed;
        in->payload = payload;
        if (in->unwanted) {
            weft_wire_release(w, in);
        } else if (in->memory) {
            in->client->landed(in->client, in);
            weft_wire_release(w, in);
        } else if (in->client) { /* kept: the holder has it already */
            in->client->completed(in->client, in);
        }
        return;
    }
    weft_wire_header header;
    memcpy(&header, bytes_of_header, sizeof header);
    deliver(w, peer, &header, payload ? payload : "", bytes);
}

static void *sink_place(void *context, int peer, const unsigned char *bytes_of_header, size_t bytes)
{
    weft_wire *w = context;
    weft_incoming in = {.bytes = bytes, .peer = peer};
    memcpy(&in.header, bytes_of_header, sizeof in.header);
    in.client = find_client(w, in.header.comm);
    bool dropped = over(w, in.client, &in.header);
    weft_take take = in.client && !dropped ? in.client->take(in.client, &in) : WEFT_TAKE_KEEP;
    weft_incoming *held = hold(w, in.client, &in, take != WEFT_TAKE_PLACE);
    if (!held && take == WEFT_TAKE_PLACE) { /* the payload comes as that of a slice in the transport's memory */
        in.client->lost(in.client, &in);
        weft_wire_buffer_free(w, in.buffer);
    }
    if (!held)
        return NULL;
    if (in.header.credit)
        credit_came(w, peer, in.header.credit);
    weft_incoming **tail = &w->peers[peer].placed;
    while (*tail)
        tail = &(*tail)->next_placed;
    *tail = held;
    held->unwanted = dropped || take == WEFT_TAKE_DONE;
    if (take == WEFT_TAKE_KEEP && !dropped)
        keep(w, held->client, held);
    return held->memory ? held->memory : held->buffer;
}

/* Nothing more comes from that peer: placed slices are given up. */
static void lose_placed(weft_wire_peer *p)
{
    for (weft_incoming *in = p->placed; in; in = in->next_placed)
        if (in->memory && !in->unwanted) {
            in->unwanted = true;
            in->client->lost(in->client, in);
        }
}

static void sink_failed(void *context, int peer, weft_status status, const char *reason)
{
    weft_wire *w = context;
    weft_wire_peer *p = &w->peers[peer];
    if (p->broken)
        return;
    p->broken = true;
    p->reason = weft_strdup(reason ? reason : weft_status_text(status));
    lose_placed(p);
    for (int b = 0; b < WEFT_WIRE_BUCKETS; b++)
        for (weft_wire_client *c = w->clients[b], *next; c; c = next) {
            next = c->next;
            c->broken(c, peer, status, p->reason ? p->reason : "connection lost");
        }
}

void weft_wire_peer_dead(weft_wire *w, int peer, const char *reason)
{
    weft_wire_peer *p = &w->peers[peer];
    if (!p->broken) {
        p->broken = true;
        p->reason = weft_strdup(reason);
        lose_placed(p);
    }
    if (p->endpoint && !w->closed)
        p->route->ops->abandon(p->endpoint);
}

weft_sink weft_wire_sink(weft_wire *w)
{
    return (weft_sink){.context = w, .place = sink_place, .arrived = sink_arrived, .failed = sink_failed};
}

/* ---- clients and life -------------------------------------------------------------------------- */

void weft_wire_add_client(weft_wire *w, weft_wire_client *client)
{
    weft_wire_client **bucket = &w->clients[client->comm % WEFT_WIRE_BUCKETS];
    client->next = *bucket;
    *bucket = client;
    if (client->comm >= w->next_comm)
        w->next_comm = client->comm + 1;
    for (weft_incoming **link = &w->orphans; *link;) {
        weft_incoming *in = *link;
        if (in->header.comm != client->comm) {
            link = &in->next;
            continue;
        }
        *link = in->next;
        in->next = NULL;
        keep(w, client, in);
    }
}

void weft_wire_remove_client(weft_wire *w, weft_wire_client *client)
{
    weft_wire_client **link = &w->clients[client->comm % WEFT_WIRE_BUCKETS];
    while (*link && *link != client)
        link = &(*link)->next;
    if (*link)
        *link = client->next;
}

void weft_wire_discard(weft_wire *w, weft_incoming *in)
{
    if (in->payload)
        weft_wire_release(w, in);
    else
        in->unwanted = true; /* freed when the transport is done with it */
}

int weft_wire_progress(weft_wire *w)
{
    int moved = 0;
    for (int i = 0; i < w->route_count; i++)
        moved += w->routes[i].ops->progress(w->routes[i].transport);
    return moved;
}

void weft_wire_close(weft_wire *w)
{
    if (w->closed)
        return;
    w->closed = true;
    for (int i = 0; i < w->route_count; i++)
        w->routes[i].ops->close(w->routes[i].transport);
    for (int p = 0; w->peers && p < w->ranks; p++)
        lose_placed(&w->peers[p]);
}

static void free_list(weft_incoming *in)
{
    while (in) {
        weft_incoming *next = in->next;
        if (in->buffer)
            weft_free((char *)in->buffer - WEFT_CACHE_LINE);
        weft_free(in);
        in = next;
    }
}

void weft_wire_destroy(weft_wire *w)
{
    weft_wire_close(w);
    for (int i = 0; i < w->route_count; i++) {
        w->routes[i].ops->destroy(w->routes[i].transport);
        weft_free(w->routes[i].addresses);
        weft_free(w->routes[i].address_bytes);
    }
    w->route_count = 0;
    for (int p = 0; w->peers && p < w->ranks; p++) {
        for (weft_incoming *in = w->peers[p].placed, *next; in; in = next) {
            next = in->next_placed;
            if (in->unwanted) { /* others are in their holder's list */
                in->next = NULL;
                free_list(in);
            }
        }
        weft_free(w->peers[p].reason);
    }
    free_list(w->orphans);
    free_list(w->free_incoming);
    for (wire_send *s = w->free_sends, *next; s; s = next) {
        next = s->next_free;
        weft_free(s);
    }
    for (int c = 0; c < WEFT_WIRE_CLASSES; c++)
        for (wire_buffer *b = w->free_buffers[c], *next; b; b = next) {
            next = b->next;
            weft_free(b);
        }
    weft_free(w->peers);
    memset(w, 0, sizeof *w);
}

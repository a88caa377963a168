/* Slices to and from one peer over the connections of a NCCL plugin: announced on SHORT, large payloads on BULK. How a connection
 * is made and keeps its messages is channel.c's, who tells whom of handles control.c's. */
#include "transport/plugin/plugin.h"

#include <stdio.h>
#include <string.h>

enum { ARRIVALS_PER_TURN = 32, END_NS = 2000 * WEFT_NS_PER_MS };

/* In front of every message of SHORT. */
typedef struct short_header {
    unsigned char header[WEFT_HEADER_BYTES];
    uint64_t bytes;             /* of the payload, which follows, or comes on BULK if it does not fit */
} short_header;

static size_t inline_bytes(const plugin_transport *t)
{
    return t->short_bytes - sizeof(short_header);
}

weft_status weft_plugin_link_get(plugin_transport *t, int peer, plugin_link **out)
{
    plugin_link *l = t->links[peer];
    if (!l) {
        if (!(l = weft_alloc(sizeof *l)))
            return weft_fail(WEFT_ERR_MEMORY, "plugin: no memory for the way to rank %d", peer);
        l->transport = t;
        l->peer = peer;
        l->end = &l->first;
        l->bulk_end = &l->bulk;
        l->arrivals_end = &l->arrivals;
        for (int k = 0; k < PLUGIN_KINDS; k++) {
            l->out[k].sends = true;
            l->out[k].kind = l->in[k].kind = (plugin_kind)k;
        }
        l->next = t->active;
        t->active = t->links[peer] = l;
    }
    *out = l;
    return WEFT_OK;
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void end_list(weft_slice *slice, weft_status status)
{
    while (slice) {
        weft_slice *next = slice->next;
        slice->done(slice, status);
        slice = next;
    }
}

/* Slices that are only known by their last message, in front of `list`. */
static weft_slice *posted_slices(const plugin_channel *c, weft_slice *list)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const plugin_message *m = &c->ring[(c->first + i) % NCCL_NET_REQUESTS];
        if (!m->slice)
            continue;
        m->slice->next = list;
        list = m->slice;
    }
    return list;
}

void weft_plugin_link_drop(plugin_link *l, weft_status status)
{
    weft_slice *queued = l->first, *bulk = l->bulk, *posted = posted_slices(&l->out[PLUGIN_BULK], NULL);
    posted = posted_slices(&l->out[PLUGIN_SHORT], posted);
    for (int k = 0; k < PLUGIN_KINDS; k++) { /* first, as afterwards nobody may touch the payloads */
        weft_plugin_channel_close(l->transport, &l->out[k]);
        weft_plugin_channel_close(l->transport, &l->in[k]);
    }
    l->first = l->bulk = NULL;
    l->end = &l->first;
    l->bulk_end = &l->bulk;
    l->ahead_bytes = 0;
    end_list(posted, status);
    end_list(bulk, status);
    end_list(queued, status);
}

static void free_arrival(plugin_arrival *a)
{
    if (a->own)
        weft_free(a->memory);
    weft_free(a);
}

void weft_plugin_link_fail(plugin_link *l, weft_status status, const char *reason)
{
    if (l->failed)
        return;
    l->failed = true;
    l->why = status;
    if (reason != l->reason)
        snprintf(l->reason, sizeof l->reason, "rank %d over plugin %s: %.200s", l->peer, l->transport->net.name, reason);
    weft_plugin_link_drop(l, WEFT_ERR_PEER);
}

void weft_plugin_link_end(plugin_link *l, weft_status status, const char *reason)
{
    if (status == WEFT_ERR_MEMORY) /* ours: there is nobody to wait for */
        weft_plugin_link_fail(l, status, reason);
    if (l->failed || l->ending)
        return;
    snprintf(l->reason, sizeof l->reason, "rank %d over plugin %s: %.200s", l->peer, l->transport->net.name, reason);
    l->ending = true;
    l->why = status;
    l->ending_ns = weft_now_ns() + END_NS;
}

/* Is there anything still to be waited for from a peer that ends? Without its word that it leaves, that word, or the inner
 * transport's that it is dead, for a while: it says better what happened than the plugin can. */
static bool is_over(const plugin_link *l)
{
    if (weft_now_ns() > l->ending_ns)
        return true;
    if (!l->left)
        return false;
    channel_state s = l->in[PLUGIN_SHORT].state, b = l->in[PLUGIN_BULK].state;
    bool more = l->received < l->left_count && (s == CHANNEL_UP || s == CHANNEL_MEETING);
    bool rest = l->arrivals && b != CHANNEL_BROKEN;
    return !more && !rest;
}

/* A call into the plugin went wrong. */
static void trouble(plugin_link *l, weft_status status)
{
    char why[256];
    snprintf(why, sizeof why, "%s", weft_last_error());
    weft_plugin_link_end(l, status, why);
}

void weft_plugin_link_free(plugin_link *l)
{
    for (plugin_arrival *a = l->arrivals, *next; a; a = next) {
        next = a->next;
        free_arrival(a);
    }
    weft_free(l);
}

/* ---- sending ----------------------------------------------------------------------------------- */

/* Makes the connection, step by step. True: it is up. */
static bool bring_up(plugin_link *l, plugin_channel *c)
{
    weft_status status = WEFT_OK;
    if (c->state == CHANNEL_NONE) {
        c->state = CHANNEL_WAITING;
        status = weft_plugin_control_ask(l, c->kind);
        if (status != WEFT_OK)
            c->state = CHANNEL_BROKEN;
    }
    if (c->state == CHANNEL_MEETING) {
        bool first = !c->called;
        status = weft_plugin_channel_meet(l->transport, c);
        if (first && c->called) {
            weft_status told = weft_plugin_control_met(l, c);
            status = told == WEFT_OK ? status : told;
        }
    }
    if (status != WEFT_OK && status != WEFT_IN_PROGRESS)
        trouble(l, status);
    return c->state == CHANNEL_UP;
}

/* Takes out what the plugin has sent. */
static int reap(plugin_link *l, plugin_channel *c)
{
    int moved = 0;
    for (;;) {
        plugin_message *m;
        size_t bytes;
        weft_status status = weft_plugin_channel_oldest(l->transport, c, &m, &bytes);
        if (status != WEFT_OK)
            trouble(l, status);
        if (status != WEFT_OK || !m)
            return moved;
        weft_slice *slice = m->slice;
        if (c->kind == PLUGIN_BULK)
            l->ahead_bytes -= m->bytes;
        weft_plugin_channel_pop(l->transport, c);
        moved++;
        if (slice) /* not before: a plugin may move the bytes only while it is tested */
            slice->done(slice, WEFT_OK);
    }
}

/* The first queued slice as a message of SHORT. False: not now. */
static bool announce(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->out[PLUGIN_SHORT];
    weft_slice *slice = l->first;
    bool fits = slice->bytes <= inline_bytes(t);
    if (!fits && l->ahead_bytes > 0 && l->ahead_bytes + slice->bytes > WEFT_NET_AHEAD_BYTES)
        return false; /* the receiver holds what is announced: not without end */
    plugin_message *m = weft_plugin_channel_next(c);
    if (!m)
        return false;
    short_header h = {.bytes = slice->bytes};
    memcpy(h.header, slice->header, sizeof h.header);
    memcpy(m->stage, &h, sizeof h);
    if (fits && slice->bytes)
        memcpy(m->stage + sizeof h, slice->payload, slice->bytes);
    m->bytes = sizeof h + (fits ? slice->bytes : 0);
    m->slice = fits ? slice : NULL;
    weft_status status = weft_plugin_channel_push(t, c, m, m->stage);
    if (status != WEFT_OK) {
        if (status != WEFT_IN_PROGRESS)
            trouble(l, status);
        return false;
    }
    l->sent++;
    l->first = slice->next;
    if (!l->first)
        l->end = &l->first;
    slice->next = NULL;
    if (fits)
        return true;
    slice->transport_state[0] = 0;
    *l->bulk_end = slice;
    l->bulk_end = &slice->next;
    l->ahead_bytes += slice->bytes;
    return true;
}

/* The next piece of the first announced payload. False: not now. */
static bool send_piece(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->out[PLUGIN_BULK];
    weft_slice *slice = l->bulk;
    size_t offset = slice->transport_state[0];
    plugin_message *m = weft_plugin_channel_next(c);
    if (!m)
        return false;
    unsigned char *data = (unsigned char *)(uintptr_t)slice->payload + offset;
    m->bytes = weft_min_size(t->piece_bytes, slice->bytes - offset);
    m->slice = offset + m->bytes == slice->bytes ? slice : NULL;
    if (c->copies && !c->staged)
        memcpy(m->stage, data, m->bytes);
    size_t bytes = m->bytes;
    weft_status status = weft_plugin_channel_push(t, c, m, c->copies ? m->stage : data);
    c->staged = status == WEFT_IN_PROGRESS;
    if (status != WEFT_OK) {
        if (status != WEFT_IN_PROGRESS)
            trouble(l, status);
        return false;
    }
    slice->transport_state[0] = offset + bytes;
    if (offset + bytes == slice->bytes) {
        l->bulk = slice->next;
        if (!l->bulk)
            l->bulk_end = &l->bulk;
    }
    return true;
}

void weft_plugin_link_queue(plugin_link *l, weft_slice *slice)
{
    slice->next = NULL;
    *l->end = slice;
    l->end = &slice->next;
}

int weft_plugin_link_send(plugin_link *l)
{
    int moved = 0;
    plugin_channel *brief = &l->out[PLUGIN_SHORT], *bulk = &l->out[PLUGIN_BULK];
    if (l->failed || l->working)
        return 0;
    l->working = true; /* a done() that sends only queues */
    if (brief->count > 0)
        moved += reap(l, brief);
    if (bulk->count > 0)
        moved += reap(l, bulk);
    if (!l->ending && l->first && bring_up(l, brief))
        while (l->first && !l->failed && announce(l))
            ;
    if (!l->ending && l->bulk && bring_up(l, bulk))
        while (l->bulk && !l->failed && send_piece(l))
            ;
    l->working = false;
    return moved;
}

bool weft_plugin_link_quiet(const plugin_link *l)
{
    return l->failed || (!l->first && !l->bulk && l->out[PLUGIN_SHORT].count == 0 && l->out[PLUGIN_BULK].count == 0);
}

bool weft_plugin_link_idle(const plugin_link *l)
{
    if (l->failed)
        return l->told;
    bool idle = !l->first && !l->bulk && !l->ending;
    for (int k = 0; k < PLUGIN_KINDS; k++)
        idle = idle && l->in[k].state != CHANNEL_MEETING && l->in[k].state != CHANNEL_UP && l->out[k].count == 0;
    return idle;
}

/* ---- receiving --------------------------------------------------------------------------------- */

static bool accepted(plugin_link *l, plugin_channel *c)
{
    if (c->state == CHANNEL_MEETING) {
        weft_status status = weft_plugin_channel_meet(l->transport, c);
        if (status == WEFT_OK)
            status = weft_plugin_control_met(l, c);
        if (status != WEFT_OK && status != WEFT_IN_PROGRESS)
            trouble(l, status);
    }
    return c->state == CHANNEL_UP;
}

/* Keeps buffers posted: as many as may be, as some plugins send only into what is posted. One refusal is not the last word. */
static void post_short(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->in[PLUGIN_SHORT];
    weft_status status = WEFT_OK;
    plugin_message *m;
    for (int refused = 0; refused < 2 && (m = weft_plugin_channel_next(c));) {
        m->bytes = t->short_bytes;
        status = weft_plugin_channel_push(t, c, m, m->stage);
        refused = status == WEFT_OK ? 0 : status == WEFT_IN_PROGRESS ? refused + 1 : 2;
    }
    if (status != WEFT_OK && status != WEFT_IN_PROGRESS)
        trouble(l, status);
}

/* A slice whose payload comes on BULK, or must wait for those before it. */
static plugin_arrival *announced(plugin_link *l, const short_header *h)
{
    const weft_sink *sink = &l->transport->config.sink;
    plugin_arrival *a = weft_alloc(sizeof *a);
    if (a) {
        a->bytes = h->bytes;
        memcpy(a->header, h->header, sizeof a->header);
        a->memory = sink->place ? sink->place(sink->context, l->peer, h->header, h->bytes) : NULL;
        a->own = !a->memory;
        if (a->own)
            a->memory = weft_alloc(h->bytes + 1);
    }
    if (!a || !a->memory) {
        weft_free(a);
        weft_plugin_link_fail(l, WEFT_ERR_MEMORY, "no memory for a slice that comes in");
        return NULL;
    }
    *l->arrivals_end = a;
    l->arrivals_end = &a->next;
    return a;
}

/* A caller without place() takes arrived() for the announcement, so that nothing may overtake. */
static void receive_whole(plugin_link *l, const short_header *h, const unsigned char *payload)
{
    const weft_sink *sink = &l->transport->config.sink;
    if (sink->place || !l->arrivals) {
        sink->arrived(sink->context, l->peer, h->header, payload, h->bytes);
        return;
    }
    plugin_arrival *a = announced(l, h);
    if (!a)
        return;
    memcpy(a->memory, payload, h->bytes);
    a->posted = a->filled = a->bytes;
}

static int receive_short(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->in[PLUGIN_SHORT];
    int moved = 0;
    while (moved < ARRIVALS_PER_TURN && !l->failed) {
        plugin_message *m;
        size_t bytes;
        short_header h;
        weft_status status = weft_plugin_channel_oldest(t, c, &m, &bytes);
        if (status != WEFT_OK)
            trouble(l, status);
        if (status != WEFT_OK || !m)
            break;
        memcpy(&h, m->stage, sizeof h);
        bool fits = h.bytes <= inline_bytes(t);
        if (bytes == WEFT_NET_UNKNOWN_BYTES)
            bytes = sizeof h + (fits ? h.bytes : 0);
        if (bytes < sizeof h || h.bytes > WEFT_SLICE_MAX_BYTES || bytes != sizeof h + (fits ? h.bytes : 0)) {
            weft_plugin_link_fail(l, WEFT_ERR_PEER, "it sent what is no slice");
            break;
        }
        l->received++;
        moved++;
        if (fits)
            receive_whole(l, &h, m->stage + sizeof h);
        else
            announced(l, &h);
        if (!l->failed)
            weft_plugin_channel_pop(t, c);
    }
    return moved;
}

/* Posts the pieces of what was announced, in order. */
static void post_bulk(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->in[PLUGIN_BULK];
    weft_status status = WEFT_OK;
    for (plugin_arrival *a = l->arrivals; a && status == WEFT_OK; a = a->next) {
        plugin_message *m;
        while (a->posted < a->bytes && status == WEFT_OK && (m = weft_plugin_channel_next(c))) {
            size_t piece = m->bytes = weft_min_size(t->piece_bytes, a->bytes - a->posted);
            status = weft_plugin_channel_push(t, c, m, c->copies ? m->stage : a->memory + a->posted);
            a->posted += status == WEFT_OK ? piece : 0;
        }
        if (a->posted < a->bytes)
            break;
    }
    if (status != WEFT_OK && status != WEFT_IN_PROGRESS)
        trouble(l, status);
}

static int receive_bulk(plugin_link *l)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->in[PLUGIN_BULK];
    const weft_sink *sink = &t->config.sink;
    int moved = 0;
    while (moved < ARRIVALS_PER_TURN && !l->failed) {
        plugin_message *m;
        size_t bytes;
        weft_status status = weft_plugin_channel_oldest(t, c, &m, &bytes);
        if (status != WEFT_OK)
            trouble(l, status);
        if (status != WEFT_OK || !m)
            break;
        plugin_arrival *a = l->arrivals;
        if (bytes != m->bytes && bytes != WEFT_NET_UNKNOWN_BYTES) {
            weft_plugin_link_fail(l, WEFT_ERR_PEER, "a piece of a payload has another length than it was to have");
            break;
        }
        if (c->copies)
            memcpy(a->memory + a->filled, m->stage, m->bytes);
        a->filled += m->bytes;
        weft_plugin_channel_pop(t, c);
        moved++;
        while ((a = l->arrivals) && a->filled == a->bytes && !l->failed) {
            l->arrivals = a->next;
            if (!l->arrivals)
                l->arrivals_end = &l->arrivals;
            sink->arrived(sink->context, l->peer, a->header, a->memory, a->bytes);
            free_arrival(a);
        }
    }
    return moved;
}

void weft_plugin_link_discard(plugin_link *l)
{
    enum { MOST = 1024 };
    plugin_channel *c = &l->in[PLUGIN_SHORT];
    for (int i = 0; i < MOST && c->state == CHANNEL_UP && !l->failed; i++) {
        plugin_message *m;
        size_t bytes;
        if (weft_plugin_channel_oldest(l->transport, c, &m, &bytes) != WEFT_OK || !m)
            return;
        weft_plugin_channel_pop(l->transport, c);
        post_short(l);
    }
}

int weft_plugin_link_progress(plugin_link *l)
{
    int moved = 0;
    if (!l->failed && accepted(l, &l->in[PLUGIN_SHORT])) {
        post_short(l);
        moved += receive_short(l);
        if (moved > 0 && !l->failed)
            post_short(l);
    }
    if (!l->failed && accepted(l, &l->in[PLUGIN_BULK])) {
        if (l->arrivals)
            post_bulk(l);
        moved += receive_bulk(l);
    }
    moved += weft_plugin_link_send(l);
    if (l->ending && !l->failed && is_over(l))
        weft_plugin_link_fail(l, l->why, l->reason);
    return moved;
}

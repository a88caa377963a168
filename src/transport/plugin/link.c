/* Slices to and from one peer over the connections of a NCCL plugin: announced on SHORT, large payloads on BULK. How a connection
 * is made and keeps its messages is channel.c's, who tells whom of handles control.c's. */
#include "transport/plugin/plugin.h"

#include <stdio.h>
#include <string.h>

#include "transport/spans.h"

enum { ARRIVALS_PER_TURN = 32, END_NS = 2000 * WEFT_NS_PER_MS };
/* Of a rail's last parts about so many count. The sender is told when a rail should get a quarter more or less than it got, not
 * too often. Of so many payloads one uses all rails, also such that are not worth it: a rail may recover. */
enum { PACE_PARTS = 16, PACE_CHANGE = 4, PACE_NS = 5 * WEFT_NS_PER_MS, PROBE_PAYLOADS = 64, PROBE_SHARE = 32 };

/* In front of every message of SHORT. */
typedef struct short_header {
    unsigned char header[WEFT_HEADER_BYTES];
    uint64_t bytes;             /* of the payload, which follows, or comes on BULK if it does not fit */
    uint32_t span[WEFT_NET_RAILS_MAX]; /* what of it comes over which rail, in order of the bytes */
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
        l->going_end = &l->going;
        l->coming_end = &l->coming;
        for (int k = 0; k < PLUGIN_KINDS; k++) {
            l->out[k].sends = true;
            l->out[k].kind = l->in[k].kind = k;
        }
        for (int i = 0; i < WEFT_NET_RAILS_MAX; i++) {
            l->rail[i].parts_end = &l->rail[i].parts;
            l->parts_end[i] = &l->parts[i];
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

/* Slices that are only known by their message, in front of `list`. */
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

static void free_payload(plugin_payload *p)
{
    if (p->own)
        weft_free(p->memory);
    weft_free(p);
}

void weft_plugin_link_drop(plugin_link *l, weft_status status)
{
    weft_slice *queued = l->first, *posted = posted_slices(&l->out[PLUGIN_SHORT], NULL);
    plugin_payload *going = l->going;
    for (int k = 0; k < PLUGIN_KINDS; k++) { /* first, as afterwards nobody may touch the payloads */
        weft_plugin_channel_close(l->transport, &l->out[k]);
        weft_plugin_channel_close(l->transport, &l->in[k]);
    }
    l->first = NULL;
    l->end = &l->first;
    l->going = NULL;
    l->going_end = &l->going;
    l->ahead_bytes = 0;
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++)
        l->rail[i].parts = NULL;
    end_list(posted, status);
    for (plugin_payload *p = going, *next; p; p = next) {
        next = p->next;
        p->slice->done(p->slice, status);
        free_payload(p);
    }
    end_list(queued, status);
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
    channel_state s = l->in[PLUGIN_SHORT].state;
    bool more = l->received < l->left_count && (s == CHANNEL_UP || s == CHANNEL_MEETING), rest = l->coming;
    for (int k = PLUGIN_BULK; k < PLUGIN_KINDS; k++)
        rest = rest && l->in[k].state != CHANNEL_BROKEN;
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
    for (plugin_payload *p = l->coming, *next; p; p = next) {
        next = p->next;
        free_payload(p);
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
        status = weft_plugin_control_ask(l, c);
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

/* A message of BULK is sent. Its slice is done when that was the last: not before, as a plugin may move bytes only while it is
 * tested. */
static void piece_sent(plugin_link *l, plugin_rail *rail, plugin_part *part, size_t bytes)
{
    plugin_payload *p = part->of, **at = &l->going;
    rail->load -= bytes;
    l->ahead_bytes -= bytes;
    p->moved += bytes;
    if (p->moved < p->bytes)
        return;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (!*at)
        l->going_end = at;
    weft_slice *slice = p->slice;
    free_payload(p);
    slice->done(slice, WEFT_OK);
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
        plugin_message sent = *m;
        weft_plugin_channel_pop(l->transport, c);
        moved++;
        if (sent.part)
            piece_sent(l, &l->rail[c->kind - PLUGIN_BULK], sent.part, sent.bytes);
        else if (sent.slice)
            sent.slice->done(sent.slice, WEFT_OK);
    }
}

/* Lays a payload out over the rails, and queues its parts. */
static void add_parts(plugin_payload *p, unsigned char *data, const uint32_t *span, plugin_part ***ends, int rails)
{
    for (int i = 0; i < rails; i++) {
        plugin_part *part = &p->part[i];
        if (span[i] == 0)
            continue;
        *part = (plugin_part){.of = p, .data = data, .bytes = span[i]};
        data += span[i];
        *ends[i] = part;
        ends[i] = &part->next;
    }
}

/* What is under way on a rail. What the plugin has not sent is less than that, most of all on a slow rail: its socket's buffer
 * is as large as the others'. */
static uint64_t under_way(const plugin_link *l, const plugin_rail *rail, int64_t now)
{
    if (!l->paced)
        return rail->load;
    return rail->due_ns > now ? (uint64_t)((double)(rail->due_ns - now) * rail->weight / 1e6) : 0;
}

/* A slice whose payload goes on BULK. */
static bool divide(plugin_link *l, weft_slice *slice, uint32_t *span, plugin_payload **out)
{
    uint32_t weights[WEFT_NET_RAILS_MAX];
    uint64_t loads[WEFT_NET_RAILS_MAX];
    plugin_payload *p = weft_alloc(sizeof *p);
    if (!p) {
        weft_plugin_link_fail(l, WEFT_ERR_MEMORY, "no memory for a slice that goes out");
        return false;
    }
    uint32_t best = 0;
    int64_t now = l->paced ? weft_now_ns() : 0;
    for (int i = 0; i < l->rails; i++) {
        weights[i] = l->rail[i].weight;
        loads[i] = under_way(l, &l->rail[i], now);
        best = weights[i] > best ? weights[i] : best;
    }
    bool probe = ++l->divided % PROBE_PAYLOADS == 0;
    for (int i = 0; i < l->rails && probe; i++)
        if (weights[i] < best / PROBE_SHARE)
            weights[i] = best / PROBE_SHARE;
    weft_spans_divide(slice->bytes, weights, loads, l->rails, span);
    for (int i = 0; i < l->rails && l->paced; i++) {
        int64_t *due = &l->rail[i].due_ns;
        *due = (*due > now ? *due : now) + (int64_t)(span[i] * 1e6 / l->rail[i].weight);
    }
    p->slice = slice;
    p->bytes = slice->bytes;
    *out = p;
    return true;
}

static void enlist(plugin_link *l, plugin_payload *p, const uint32_t *span)
{
    plugin_part **ends[WEFT_NET_RAILS_MAX];
    for (int i = 0; i < l->rails; i++)
        ends[i] = l->rail[i].parts_end;
    add_parts(p, (unsigned char *)(uintptr_t)p->slice->payload, span, ends, l->rails);
    for (int i = 0; i < l->rails; i++) {
        l->rail[i].parts_end = ends[i];
        l->rail[i].load += span[i];
    }
    *l->going_end = p;
    l->going_end = &p->next;
    l->ahead_bytes += p->bytes;
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
    short_header h = {.bytes = slice->bytes};
    plugin_payload *p = NULL;
    if (!m || (!fits && !divide(l, slice, h.span, &p)))
        return false;
    memcpy(h.header, slice->header, sizeof h.header);
    memcpy(m->stage, &h, sizeof h);
    if (fits && slice->bytes)
        memcpy(m->stage + sizeof h, slice->payload, slice->bytes);
    m->bytes = sizeof h + (fits ? slice->bytes : 0);
    m->slice = fits ? slice : NULL;
    weft_status status = weft_plugin_channel_push(t, c, m, m->stage);
    if (status != WEFT_OK) {
        weft_free(p);
        if (status != WEFT_IN_PROGRESS)
            trouble(l, status);
        return false;
    }
    l->sent++;
    l->first = slice->next;
    if (!l->first)
        l->end = &l->first;
    slice->next = NULL;
    if (p)
        enlist(l, p, h.span);
    return true;
}

/* The next piece of the first part that a rail has. False: not now. */
static bool send_piece(plugin_link *l, plugin_rail *rail, plugin_channel *c)
{
    plugin_transport *t = l->transport;
    plugin_part *part = rail->parts;
    plugin_message *m = weft_plugin_channel_next(c);
    if (!m)
        return false;
    unsigned char *data = part->data + part->posted;
    m->bytes = weft_min_size(t->piece_bytes, part->bytes - part->posted);
    m->part = part;
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
    part->posted += bytes;
    if (part->posted == part->bytes) {
        rail->parts = part->next;
        if (!rail->parts)
            rail->parts_end = &rail->parts;
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
    plugin_channel *brief = &l->out[PLUGIN_SHORT];
    if (l->failed || l->working)
        return 0;
    l->working = true; /* a done() that sends only queues */
    for (int k = 0; k < PLUGIN_KINDS; k++)
        if (l->out[k].count > 0)
            moved += reap(l, &l->out[k]);
    if (!l->ending && l->first && bring_up(l, brief))
        while (l->first && !l->failed && announce(l))
            ;
    for (int i = 0; i < l->rails; i++) {
        plugin_channel *bulk = &l->out[PLUGIN_BULK + i];
        if (!l->ending && l->rail[i].parts && bring_up(l, bulk))
            while (l->rail[i].parts && !l->failed && send_piece(l, &l->rail[i], bulk))
                ;
    }
    l->working = false;
    return moved;
}

bool weft_plugin_link_quiet(const plugin_link *l)
{
    return l->failed || (!l->first && !l->going && l->out[PLUGIN_SHORT].count == 0);
}

bool weft_plugin_link_idle(const plugin_link *l)
{
    if (l->failed)
        return l->told;
    bool idle = !l->first && !l->going && !l->ending;
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
static plugin_payload *announced(plugin_link *l, const short_header *h)
{
    const weft_sink *sink = &l->transport->config.sink;
    plugin_payload *p = weft_alloc(sizeof *p);
    if (p) {
        p->bytes = h->bytes;
        memcpy(p->header, h->header, sizeof p->header);
        p->memory = sink->place ? sink->place(sink->context, l->peer, h->header, h->bytes) : NULL;
        p->own = !p->memory;
        if (p->own)
            p->memory = weft_alloc(h->bytes + 1);
    }
    if (!p || !p->memory) {
        weft_free(p);
        weft_plugin_link_fail(l, WEFT_ERR_MEMORY, "no memory for a slice that comes in");
        return NULL;
    }
    *l->coming_end = p;
    l->coming_end = &p->next;
    return p;
}

/* A caller without place() takes arrived() for the announcement, so that nothing may overtake. */
static void receive_whole(plugin_link *l, const short_header *h, const unsigned char *payload)
{
    const weft_sink *sink = &l->transport->config.sink;
    if (sink->place || !l->coming) {
        sink->arrived(sink->context, l->peer, h->header, payload, h->bytes);
        return;
    }
    plugin_payload *p = announced(l, h);
    if (!p)
        return;
    memcpy(p->memory, payload, h->bytes);
    p->moved = p->bytes;
}

/* ---- what rails bring ---- */

static void pace_announced(plugin_link *l, const uint32_t *span)
{
    int64_t now = 0;
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++)
        if (span[i] > 0 && !l->parts[i])
            l->pace[i].since_ns = now ? now : (now = weft_now_ns());
}

/* What this end of the rail has seen while it was waiting for it: if the caller looks seldom, all rails seem equally slow for
 * what they were given, and nothing changes. */
static void pace_brought(plugin_pace *pace, size_t bytes)
{
    int64_t now = weft_now_ns();
    pace->bytes += (double)bytes - pace->bytes / PACE_PARTS;
    pace->ns += (double)(now - pace->since_ns) - pace->ns / PACE_PARTS;
    pace->since_ns = now;
}

/* Tells the sender if it should divide otherwise. */
static void tell_pace(plugin_link *l)
{
    uint32_t pace[WEFT_NET_RAILS_MAX] = {0};
    double sum = 0, bytes = 0;
    bool other = false;
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++) {
        const plugin_pace *p = &l->pace[i];
        double kBps = p->bytes * 1e6 / (p->ns + 1);
        if (p->bytes > 0)
            pace[i] = kBps < 1 ? 1 : kBps < UINT32_MAX ? (uint32_t)kBps : UINT32_MAX;
        sum += pace[i];
        bytes += p->bytes;
    }
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++) {
        double got = l->pace[i].bytes / bytes, should = pace[i] / sum, by = should > got ? should - got : got - should;
        other = other || by * PACE_CHANGE > got;
    }
    int64_t now = other ? weft_now_ns() : 0;
    if (!other || now - l->paced_ns < PACE_NS)
        return;
    l->paced_ns = now;
    (void)weft_plugin_control_pace(l, pace); /* a lost connection is noticed elsewhere */
}

/* Whether a message of SHORT with so many bytes is what its header says. */
static bool is_slice(const plugin_transport *t, const short_header *h, size_t bytes)
{
    uint64_t sum = 0;
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++)
        sum += h->span[i];
    bool fits = h->bytes <= inline_bytes(t);
    return bytes >= sizeof *h && h->bytes <= WEFT_SLICE_MAX_BYTES && bytes == sizeof *h + (fits ? h->bytes : 0) &&
           sum == (fits ? 0 : h->bytes);
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
        if (!is_slice(t, &h, bytes)) {
            weft_plugin_link_fail(l, WEFT_ERR_PEER, "it sent what is no slice");
            break;
        }
        l->received++;
        moved++;
        plugin_payload *p;
        if (fits)
            receive_whole(l, &h, m->stage + sizeof h);
        else if ((p = announced(l, &h))) {
            pace_announced(l, h.span);
            add_parts(p, p->memory, h.span, l->parts_end, WEFT_NET_RAILS_MAX);
        }
        if (!l->failed)
            weft_plugin_channel_pop(t, c);
    }
    return moved;
}

/* Posts the pieces of what was announced to come over a rail, in order. */
static void post_bulk(plugin_link *l, plugin_part *first, plugin_channel *c)
{
    plugin_transport *t = l->transport;
    weft_status status = WEFT_OK;
    for (plugin_part *part = first; part && status == WEFT_OK; part = part->next) {
        plugin_message *m;
        while (part->posted < part->bytes && status == WEFT_OK && (m = weft_plugin_channel_next(c))) {
            size_t piece = m->bytes = weft_min_size(t->piece_bytes, part->bytes - part->posted);
            m->part = part;
            status = weft_plugin_channel_push(t, c, m, c->copies ? m->stage : part->data + part->posted);
            part->posted += status == WEFT_OK ? piece : 0;
        }
        if (part->posted < part->bytes)
            break;
    }
    if (status != WEFT_OK && status != WEFT_IN_PROGRESS)
        trouble(l, status);
}

/* Hands over what is complete, in the order of its announcement. */
static void deliver(plugin_link *l)
{
    const weft_sink *sink = &l->transport->config.sink;
    plugin_payload *p;
    while ((p = l->coming) && p->moved == p->bytes && !l->failed) {
        l->coming = p->next;
        if (!l->coming)
            l->coming_end = &l->coming;
        sink->arrived(sink->context, l->peer, p->header, p->memory, p->bytes);
        free_payload(p);
    }
}

static int receive_bulk(plugin_link *l, int rail)
{
    plugin_transport *t = l->transport;
    plugin_channel *c = &l->in[PLUGIN_BULK + rail];
    int moved = 0;
    while (moved < ARRIVALS_PER_TURN && !l->failed) {
        plugin_message *m;
        size_t bytes;
        weft_status status = weft_plugin_channel_oldest(t, c, &m, &bytes);
        if (status != WEFT_OK)
            trouble(l, status);
        if (status != WEFT_OK || !m)
            break;
        plugin_part *part = m->part;
        if (bytes != m->bytes && bytes != WEFT_NET_UNKNOWN_BYTES) {
            weft_plugin_link_fail(l, WEFT_ERR_PEER, "a piece of a payload has another length than it was to have");
            break;
        }
        if (c->copies)
            memcpy(part->data + part->moved, m->stage, m->bytes);
        part->moved += m->bytes;
        part->of->moved += m->bytes;
        weft_plugin_channel_pop(t, c);
        moved++;
        if (part->moved == part->bytes) { /* the rail's first */
            l->parts[rail] = part->next;
            if (!part->next)
                l->parts_end[rail] = &l->parts[rail];
            pace_brought(&l->pace[rail], part->bytes);
            tell_pace(l);
        }
        deliver(l);
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
    for (int i = 0; i < WEFT_NET_RAILS_MAX; i++) {
        if (l->failed || !accepted(l, &l->in[PLUGIN_BULK + i]))
            continue;
        if (l->parts[i])
            post_bulk(l, l->parts[i], &l->in[PLUGIN_BULK + i]);
        moved += receive_bulk(l, i);
    }
    moved += weft_plugin_link_send(l);
    if (l->ending && !l->failed && is_over(l))
        weft_plugin_link_fail(l, l->why, l->reason);
    return moved;
}

/* Point-to-point messages: the first slice carries tag and length and is matched; what is longer than the eager part
 * waits until the receiver asks for it, so that unexpected data stays bounded. */
#include "collectives/message.h"

#include <string.h>

/* In these headers: sequence = number of the message between the two ranks, task = tag, total = its bytes, ordinal: 1 for the
 * first slice, fingerprint.count = where the slice starts. */

weft_status weft_messages_init(weft_messages *m, weft_wire *wire, uint32_t comm, int rank, int ranks, const int *world,
                               const int *from_world, size_t slice_bytes)
{
    *m = (weft_messages){.wire = wire, .comm = comm, .rank = rank, .ranks = ranks, .world = world,
                         .from_world = from_world, .slice_bytes = slice_bytes};
    m->next_number = weft_alloc_array((size_t)ranks, sizeof *m->next_number);
    return m->next_number ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory for %d message counters", ranks);
}

void weft_messages_clear(weft_messages *m)
{
    while (m->early) {
        weft_incoming *in = m->early;
        m->early = in->next;
        weft_wire_discard(m->wire, in);
    }
    weft_free(m->next_number);
    m->next_number = NULL;
}

static void append(weft_message **list, weft_message *m)
{
    while (*list)
        list = &(*list)->next;
    m->next = NULL;
    *list = m;
    m->linked = true;
}

static void unlink_message(weft_message **list, weft_message *m)
{
    while (*list && *list != m)
        list = &(*list)->next;
    if (*list) {
        *list = m->next;
        m->linked = false;
    }
}

static void end(weft_messages *ms, weft_message *m, weft_status status)
{
    if (m->complete || m->outstanding)
        return;
    m->complete = true;
    if (m->status == WEFT_OK)
        m->status = status;
    unlink_message(m->sending ? &ms->sends : m->matched ? &ms->matched : &ms->receives, m);
    m->done(m->context, m);
}

/* ---- sending ----------------------------------------------------------------------------------- */

static void slice_sent(void *owner, uint32_t index, size_t bytes, weft_status status)
{
    weft_message *m = owner;
    (void)index;
    (void)bytes;
    m->outstanding--;
    if (status != WEFT_OK && m->status == WEFT_OK)
        m->status = status;
}

/* False: the peer is lost; the message stays open until that is explained. */
static bool post(weft_messages *ms, weft_message *m, size_t bytes, bool eager)
{
    weft_wire_header h = {.kind = WEFT_WIRE_MESSAGE, .flags = eager ? WEFT_WIRE_EAGER : 0, .comm = ms->comm,
                          .sequence = m->number, .task = (uint32_t)m->tag, .ordinal = m->began ? 0 : 1, .total = m->bytes,
                          .fingerprint.count = m->moved};
    const char *payload = bytes ? m->buffer + m->moved : NULL;
    m->began = true;
    m->moved += bytes;
    m->outstanding++;
    weft_status status = weft_wire_post(ms->wire, ms->world[m->peer], &h, payload, bytes, slice_sent, m, 0);
    if (status != WEFT_OK)
        slice_sent(m, 0, bytes, status == WEFT_ERR_PEER ? WEFT_OK : status);
    if (status != WEFT_ERR_PEER)
        return true;
    m->moved -= bytes;
    return false;
}

static int push(weft_messages *ms, weft_message *m)
{
    int moved = 0;
    size_t slice = ms->slice_bytes ? ms->slice_bytes : weft_wire_slice(ms->wire, ms->world[m->peer], m->bytes);
    if (!m->began) {
        size_t first = weft_min_size(m->bytes, weft_min_size(slice, WEFT_MESSAGE_EAGER_BYTES));
        bool charged = weft_wire_charge(ms->wire, ms->world[m->peer], first);
        if (!charged)
            first = 0; /* only the announcement: it must not wait for credit, or another tag could never come */
        moved += post(ms, m, first, charged);
    }
    while (m->wanted && m->moved < m->bytes && m->status == WEFT_OK &&
           post(ms, m, weft_min_size(slice, m->bytes - m->moved), false))
        moved++;
    if (m->outstanding == 0 && (m->moved == m->bytes || m->status != WEFT_OK)) {
        end(ms, m, WEFT_OK);
        moved++;
    }
    return moved;
}

void weft_message_send(weft_messages *ms, weft_message *m)
{
    m->sending = true;
    m->number = ms->next_number[m->peer]++;
    m->status = ms->error;
    append(&ms->sends, m);
    push(ms, m);
}

/* ---- receiving --------------------------------------------------------------------------------- */

static bool fits(const weft_message *m, int source, int tag)
{
    return (m->peer == WEFT_ANY_SOURCE || m->peer == source) && (m->tag == WEFT_ANY_TAG || m->tag == tag);
}

/* The receive under way that takes further slices of that message. */
static weft_message *under_way(const weft_messages *ms, int source, uint32_t number)
{
    weft_message *m = ms->matched;
    while (m && (m->got_source != source || m->number != number))
        m = m->next;
    return m;
}

static void arrived(weft_messages *ms, weft_message *m, size_t bytes)
{
    m->moved += bytes;
    if (m->moved == m->total)
        end(ms, m, m->total > m->bytes ? WEFT_ERR_TRUNCATED : WEFT_OK);
}

/* Copies what fits; the rest of a message that is too long is dropped. */
static void store(weft_messages *ms, weft_message *m, const weft_incoming *in)
{
    size_t at = in->header.fingerprint.count;
    if (at < m->bytes && in->bytes)
        memcpy(m->buffer + at, in->payload, weft_min_size(in->bytes, m->bytes - at));
    arrived(ms, m, in->bytes);
}

static void match(weft_messages *ms, weft_message *m, const weft_incoming *in)
{
    if (m->linked)
        unlink_message(&ms->receives, m);
    m->matched = true;
    m->got_source = ms->from_world[in->peer];
    m->got_tag = (int)in->header.task;
    m->number = in->header.sequence;
    m->total = in->header.total;
    append(&ms->matched, m);
    if (in->bytes < m->total) {
        weft_wire_header h = {.kind = WEFT_WIRE_MESSAGE_WANT, .comm = ms->comm, .sequence = m->number};
        weft_wire_post(ms->wire, in->peer, &h, NULL, 0, NULL, NULL, 0); /* a lost peer is found elsewhere */
    }
}

static weft_take take_want(weft_messages *ms, const weft_incoming *in)
{
    int peer = ms->from_world[in->peer];
    for (weft_message *m = ms->sends; m; m = m->next)
        if (m->peer == peer && m->number == in->header.sequence) {
            m->wanted = true;
            push(ms, m);
            break;
        }
    return WEFT_TAKE_DONE;
}

weft_take weft_messages_take(weft_messages *ms, weft_incoming *in)
{
    int source = ms->from_world[in->peer];
    if (source < 0 || ms->error != WEFT_OK)
        return WEFT_TAKE_DONE;
    if (in->header.kind == WEFT_WIRE_MESSAGE_WANT)
        return take_want(ms, in);
    weft_message *m;
    if (in->header.ordinal == 1) {
        for (m = ms->receives; m && !fits(m, source, (int)in->header.task); m = m->next)
            ;
        if (!m)
            return WEFT_TAKE_KEEP;
        match(ms, m, in);
    } else {
        m = under_way(ms, source, in->header.sequence);
        if (!m)
            return WEFT_TAKE_KEEP;
    }
    if (in->header.fingerprint.count > m->total || in->bytes > m->total - in->header.fingerprint.count)
        return WEFT_TAKE_DONE; /* no sender of ours does that */
    if (in->payload) {
        store(ms, m, in);
        return WEFT_TAKE_DONE;
    }
    size_t at = in->header.fingerprint.count;
    if (at + in->bytes > m->bytes) { /* too long: what does not fit goes to wire memory */
        in->user[1] = in->buffer = weft_wire_buffer(ms->wire, in->bytes);
        in->memory = in->buffer;
        if (!in->memory)
            return WEFT_TAKE_DONE;
    } else {
        in->memory = m->buffer + at;
        in->user[1] = NULL;
    }
    in->user[0] = m;
    in->position = at;
    m->outstanding++;
    return WEFT_TAKE_PLACE;
}

void weft_messages_landed(weft_messages *ms, weft_incoming *in)
{
    weft_message *m = in->user[0];
    m->outstanding--;
    if (in->user[1] && in->position < m->bytes)
        memcpy(m->buffer + in->position, in->payload, weft_min_size(in->bytes, m->bytes - in->position));
    if (m->status == WEFT_OK)
        arrived(ms, m, in->bytes);
}

void weft_messages_lost(weft_messages *ms, weft_incoming *in)
{
    (void)ms;
    weft_message *m = in->user[0];
    m->outstanding--;
}

void weft_messages_kept(weft_messages *ms, weft_incoming *in)
{
    weft_incoming **tail = &ms->early;
    while (*tail)
        tail = &(*tail)->next;
    in->next = NULL;
    *tail = in;
}

void weft_messages_completed(weft_messages *ms, weft_incoming *in)
{
    weft_message *m = under_way(ms, ms->from_world[in->peer], in->header.sequence);
    if (!m)
        return; /* waits in `early` for its receive */
    for (weft_incoming **link = &ms->early; *link; link = &(*link)->next)
        if (*link == in) {
            *link = in->next;
            store(ms, m, in);
            weft_wire_release(ms->wire, in);
            return;
        }
}

void weft_message_recv(weft_messages *ms, weft_message *m)
{
    m->sending = false;
    m->status = ms->error;
    for (weft_incoming **link = &ms->early; *link; link = &(*link)->next) {
        weft_incoming *in = *link;
        if (in->header.ordinal != 1 || in->user[0] || !fits(m, ms->from_world[in->peer], (int)in->header.task))
            continue;
        in->user[0] = m; /* its own from here on, though its bytes may still be coming */
        match(ms, m, in);
        if (in->payload) {
            *link = in->next;
            store(ms, m, in);
            weft_wire_release(ms->wire, in);
        }
        return;
    }
    append(&ms->receives, m);
}

static void abort_list(weft_messages *ms, weft_message *m, weft_status status)
{
    for (weft_message *next; m; m = next) {
        next = m->next;
        if (m->status == WEFT_OK)
            m->status = status;
        end(ms, m, status);
    }
}

int weft_messages_progress(weft_messages *ms)
{
    int moved = 0;
    if (ms->error != WEFT_OK) { /* those whose memory transports held */
        weft_messages_abort(ms, ms->error);
        return 0;
    }
    for (weft_message *m = ms->sends, *next; m; m = next) {
        next = m->next;
        moved += push(ms, m);
    }
    return moved;
}

void weft_messages_abort(weft_messages *ms, weft_status status)
{
    ms->error = status;
    abort_list(ms, ms->sends, status);
    abort_list(ms, ms->receives, status);
    abort_list(ms, ms->matched, status);
}

/* What the ranks of the plugin transport tell each other outside of the plugin, over an inner tcp transport: who wants a
 * connection, its handle, that it cannot be had, that a rank leaves. */
#include "transport/plugin/plugin.h"

#include <stdio.h>
#include <string.h>

enum { CONTROL_BYTES = 1024 };

typedef enum control_kind {
    CONTROL_ASK = 1, /* make a handle for a connection from me to you; the payload is my inner address, to answer to */
    CONTROL_HANDLE,  /* here it is */
    CONTROL_CALLED,  /* I have called connect with it */
    CONTROL_ACCEPTED, /* and I have accepted it */
    CONTROL_REFUSE,  /* it cannot be made; the payload says why */
    CONTROL_PACE,    /* what your rails bring me, in kB/s, 32 bits each */
    CONTROL_LEAVE    /* I close; `count` messages of SHORT are all that I sent, or not all was sent */
} control_kind;

/* Equal builds on both sides, as in the rest of the job. */
typedef struct control_header {
    uint32_t kind, channel;
    uint64_t count;
    uint32_t complete, device;  /* device: of ASK, which of those that are used, on both sides */
    unsigned char rest[24];
} control_header;
_Static_assert(sizeof(control_header) == WEFT_HEADER_BYTES, "it is the inner transport's header");

typedef struct control_slice {
    weft_slice slice;
    unsigned char payload[CONTROL_BYTES];
} control_slice;

static void sent(weft_slice *slice, weft_status status)
{
    (void)status; /* a lost connection is told by the sink */
    weft_free(slice->context);
}

static weft_status tell(plugin_link *l, const control_header *header, const void *payload, size_t bytes)
{
    plugin_transport *t = l->transport;
    if (!l->control || bytes > CONTROL_BYTES)
        return weft_fail(WEFT_ERR_USAGE, "plugin: nothing can be told to rank %d (%zu bytes)", l->peer, bytes);
    control_slice *s = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *s, WEFT_CACHE_LINE));
    if (!s)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a message to rank %d", l->peer);
    memcpy(s->slice.header, header, sizeof *header);
    if (bytes)
        memcpy(s->payload, payload, bytes);
    s->slice.payload = s->payload;
    s->slice.bytes = bytes;
    s->slice.done = sent;
    s->slice.context = s;
    weft_status status = t->tcp->send(l->control, &s->slice);
    if (status != WEFT_OK)
        weft_free(s);
    return status;
}

weft_status weft_plugin_control_ask(plugin_link *l, const plugin_channel *c)
{
    plugin_transport *t = l->transport;
    control_header h = {.kind = CONTROL_ASK, .channel = (uint32_t)c->kind, .device = (uint32_t)c->device};
    unsigned char address[CONTROL_BYTES];
    size_t bytes = sizeof address;
    weft_status status = t->tcp->address(t->inner, address, &bytes);
    return status == WEFT_OK ? tell(l, &h, address, bytes) : status;
}

weft_status weft_plugin_control_met(plugin_link *l, const plugin_channel *c)
{
    control_header h = {.kind = c->sends ? CONTROL_CALLED : CONTROL_ACCEPTED, .channel = (uint32_t)c->kind};
    return tell(l, &h, NULL, 0);
}

weft_status weft_plugin_control_pace(plugin_link *l, const uint32_t *pace)
{
    control_header h = {.kind = CONTROL_PACE};
    return tell(l, &h, pace, WEFT_NET_RAILS_MAX * sizeof *pace);
}

/* Nothing changes unless all rails are known. */
static void paced(plugin_link *l, const void *payload)
{
    uint32_t pace[WEFT_NET_RAILS_MAX];
    memcpy(pace, payload, sizeof pace);
    for (int i = 0; i < l->rails; i++)
        if (pace[i] == 0)
            return;
    for (int i = 0; i < l->rails; i++)
        l->rail[i].weight = pace[i];
    l->paced = true;
}

void weft_plugin_control_leave(plugin_link *l)
{
    bool complete = !l->first && !l->going && l->out[PLUGIN_SHORT].count == 0;
    control_header h = {.kind = CONTROL_LEAVE, .count = l->sent, .complete = complete};
    tell(l, &h, NULL, 0); /* else the peer takes the closed connection for a death, which is not far from it */
}

/* A peer wants to send: it gets a handle of a connection that is accepted from now on. */
static void asked(plugin_link *l, plugin_channel *c, uint32_t device, const void *address, size_t bytes)
{
    plugin_transport *t = l->transport;
    control_header h = {.kind = CONTROL_HANDLE, .channel = (uint32_t)c->kind};
    if (c->state != CHANNEL_NONE || device >= (uint32_t)t->net.devices)
        return;
    weft_status status = l->control ? WEFT_OK : t->tcp->connect(t->inner, l->peer, address, bytes, &l->control);
    if (status == WEFT_OK)
        status = weft_plugin_channel_listen(t, c, (int)device);
    if (status == WEFT_OK)
        status = tell(l, &h, c->handle, sizeof c->handle);
    if (status == WEFT_OK)
        return;
    char why[200];
    snprintf(why, sizeof why, "%s", weft_last_error());
    h.kind = CONTROL_REFUSE;
    tell(l, &h, why, strlen(why) + 1);
    weft_plugin_link_end(l, status, why);
}

static void heard(void *context, int peer, const unsigned char *bytes_of_header, const void *payload, size_t bytes)
{
    plugin_transport *t = context;
    control_header h;
    plugin_link *l;
    memcpy(&h, bytes_of_header, sizeof h);
    if (h.channel >= PLUGIN_KINDS || weft_plugin_link_get(t, peer, &l) != WEFT_OK || l->failed)
        return;
    plugin_channel *out = &l->out[h.channel], *in = &l->in[h.channel];
    if (h.kind == CONTROL_ASK) {
        asked(l, in, h.device, payload, bytes);
    } else if (h.kind == CONTROL_HANDLE && out->state == CHANNEL_WAITING && bytes == sizeof out->handle) {
        memcpy(out->handle, payload, bytes);
        out->state = CHANNEL_MEETING;
    } else if (h.kind == CONTROL_CALLED && in->state == CHANNEL_WAITING) {
        in->state = CHANNEL_MEETING;
    } else if (h.kind == CONTROL_ACCEPTED) {
        out->accepted = true;
    } else if (h.kind == CONTROL_REFUSE && bytes > 0) {
        char why[200];
        snprintf(why, sizeof why, "%.*s", (int)bytes, (const char *)payload);
        weft_plugin_link_end(l, WEFT_ERR_SYSTEM, why);
    } else if (h.kind == CONTROL_PACE && bytes == WEFT_NET_RAILS_MAX * sizeof(uint32_t)) {
        paced(l, payload);
    } else if (h.kind == CONTROL_LEAVE) {
        l->left = true;
        l->left_count = h.complete ? h.count : 0;
        l->ending = false; /* whatever went wrong before: this is why */
        weft_plugin_link_end(l, WEFT_ERR_PEER, "closed by it");
    }
}

static void inner_failed(void *context, int peer, weft_status status, const char *reason)
{
    plugin_link *l;
    /* What it sent last is not waited for: it did not say how much that is. */
    if (weft_plugin_link_get(context, peer, &l) == WEFT_OK && !l->left)
        weft_plugin_link_fail(l, status, reason);
}

weft_sink weft_plugin_control_sink(plugin_transport *t)
{
    return (weft_sink){.context = t, .arrived = heard, .failed = inner_failed};
}

/* One connection of a NCCL network plugin: made without blocking, its messages kept in order, its memory registered. What the
 * messages mean is link.c's. */
#include "transport/plugin/plugin.h"

#include <string.h>

weft_status weft_plugin_channel_listen(plugin_transport *t, plugin_channel *c, int device)
{
    *c = (plugin_channel){.state = CHANNEL_WAITING, .kind = c->kind, .device = device};
    weft_status status = weft_net_listen(&t->net, device, c->handle, &c->listen_comm);
    if (status != WEFT_OK)
        c->state = CHANNEL_BROKEN;
    return status;
}

/* Memory for what goes through the channel, registered with it. A plugin that gives no handle keeps no record of memory, so its
 * registrations cost nothing and payloads need no copy. */
static weft_status prepare_buffers(plugin_transport *t, plugin_channel *c)
{
    bool bulk = c->kind >= PLUGIN_BULK;
    uint32_t buffers = bulk ? WEFT_NET_STAGES : (uint32_t)t->net.requests;
    c->limit = (uint32_t)t->net.requests;
    c->buffer_bytes = bulk ? t->piece_bytes : t->short_bytes;
    size_t bytes = buffers * c->buffer_bytes;
    c->buffers = weft_alloc_aligned(4096, weft_round_up(bytes, 4096));
    if (!c->buffers)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for %zu bytes of a plugin's messages", bytes);
    weft_status status = weft_net_register(&t->net, c->comm, c->buffers, bytes, &c->buffers_memory);
    if (status != WEFT_OK) {
        weft_free(c->buffers);
        c->buffers = NULL;
        return status;
    }
    c->copies = c->buffers_memory != NULL;
    if (bulk && !c->copies) {
        weft_net_deregister(&t->net, c->comm, NULL);
        weft_free(c->buffers);
        c->buffers = NULL;
    } else if (bulk) {
        c->limit = WEFT_NET_STAGES;
    }
    return WEFT_OK;
}

weft_status weft_plugin_channel_meet(plugin_transport *t, plugin_channel *c)
{
    weft_status status = c->comm    ? WEFT_OK
                         : c->sends ? weft_net_connect(&t->net, c->device, c->handle, &c->comm)
                                    : weft_net_accept(&t->net, c->listen_comm, &c->comm);
    c->called = status == WEFT_OK;
    if (status == WEFT_OK && (!c->comm || (c->sends && !c->accepted)))
        return WEFT_IN_PROGRESS;
    if (status == WEFT_OK) {
        weft_net_close_listen(&t->net, c->listen_comm);
        c->listen_comm = NULL;
        status = prepare_buffers(t, c);
    }
    c->state = status == WEFT_OK ? CHANNEL_UP : CHANNEL_BROKEN;
    return status;
}

plugin_message *weft_plugin_channel_next(plugin_channel *c)
{
    if (c->state != CHANNEL_UP || c->count >= c->limit)
        return NULL;
    uint32_t at = (c->first + c->count) % NCCL_NET_REQUESTS;
    plugin_message *m = &c->ring[at];
    *m = (plugin_message){0};
    if (c->buffers)
        m->stage = c->buffers + (size_t)(at % c->limit) * c->buffer_bytes; /* the limit divides the ring */
    return m;
}

weft_status weft_plugin_channel_push(plugin_transport *t, plugin_channel *c, plugin_message *m, void *data)
{
    void *memory = c->buffers_memory;
    weft_status status = WEFT_OK;
    if (!c->buffers) {
        status = weft_net_register(&t->net, c->comm, data, m->bytes, &m->memory);
        m->registered = status == WEFT_OK;
        memory = m->memory;
    }
    if (status == WEFT_OK)
        status = c->sends ? weft_net_send(&t->net, c->comm, data, m->bytes, memory, &m->request)
                          : weft_net_receive(&t->net, c->comm, data, m->bytes, memory, &m->request);
    if (status == WEFT_OK && m->request) {
        c->count++;
        return WEFT_OK;
    }
    if (m->registered)
        weft_net_deregister(&t->net, c->comm, m->memory);
    if (status != WEFT_OK)
        c->state = CHANNEL_BROKEN;
    return status == WEFT_OK ? WEFT_IN_PROGRESS : status;
}

weft_status weft_plugin_channel_oldest(plugin_transport *t, plugin_channel *c, plugin_message **out, size_t *bytes)
{
    bool done = false;
    *out = NULL;
    if (c->state != CHANNEL_UP || c->count == 0)
        return WEFT_OK;
    weft_status status = weft_net_test(&t->net, c->ring[c->first].request, &done, bytes);
    if (status != WEFT_OK)
        c->state = CHANNEL_BROKEN;
    else if (done)
        *out = &c->ring[c->first];
    return status;
}

void weft_plugin_channel_pop(plugin_transport *t, plugin_channel *c)
{
    plugin_message *m = &c->ring[c->first];
    if (m->registered)
        weft_net_deregister(&t->net, c->comm, m->memory);
    c->first = (c->first + 1) % NCCL_NET_REQUESTS;
    c->count--;
}

void weft_plugin_channel_close(plugin_transport *t, plugin_channel *c)
{
    bool halfway = c->called && (c->sends ? !c->accepted : !c->comm);
    if (halfway) {
        t->net.unfinished = true;
        c->comm = c->listen_comm = NULL;
    }
    if (c->comm) {
        for (uint32_t i = 0; i < c->count; i++) {
            const plugin_message *m = &c->ring[(c->first + i) % NCCL_NET_REQUESTS];
            if (m->registered)
                weft_net_deregister(&t->net, c->comm, m->memory);
        }
        if (c->buffers)
            weft_net_deregister(&t->net, c->comm, c->buffers_memory);
        if (c->sends)
            weft_net_close_send(&t->net, c->comm);
        else
            weft_net_close_receive(&t->net, c->comm);
    }
    weft_net_close_listen(&t->net, c->listen_comm);
    weft_free(c->buffers);
    *c = (plugin_channel){.state = CHANNEL_BROKEN};
}

/* Links: what is known of the peer, queue pairs, the messages of the control channel that bring both sides to send, failing.
 *
 * Each side says HELLO once, with its queue pairs: the side that wants to send first, the other in answer (or both at once). Who
 * has said and heard it raises its queue pairs and says READY; who has heard that may send. */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/verbs/verbs.h"

enum { BLOB_MAX = 1024, MIN_RNR_TIMER = 12 };

typedef enum control_kind { CONTROL_HELLO = 1, CONTROL_READY, CONTROL_BROKEN, CONTROL_RECALL, CONTROL_RETURN } control_kind;

/* In the header of a slice of the control channel. */
typedef struct control_header {
    uint32_t kind;
    uint32_t value;                /* RETURN: the limit that is left; HELLO: rails */
} control_header;
_Static_assert(sizeof(control_header) <= WEFT_HEADER_BYTES, "it fits");

typedef struct hello_rail {
    uint32_t qp, psn;
} hello_rail;

typedef struct hello {
    hello_rail rails[WEFT_VERBS_RAILS_MAX];
    unsigned char blob[BLOB_MAX];  /* the address of who greets: the other may not have it (yet) */
} hello;

typedef struct control_slice {
    weft_slice slice;
    hello payload;
} control_slice;

static void control_done(weft_slice *slice, weft_status status)
{
    (void)status; /* the channel's end is told by its sink */
    weft_free(slice->context);
}

static void control_send(verbs_link *link, control_kind kind, uint32_t value, const void *payload, size_t bytes)
{
    control_slice *c = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *c, WEFT_CACHE_LINE));
    if (!c) {
        weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: no memory for a message", link->peer);
        return;
    }
    control_header header = {kind, value};
    memset(&c->slice, 0, sizeof c->slice);
    memcpy(c->slice.header, &header, sizeof header);
    if (bytes)
        memcpy(&c->payload, payload, bytes);
    c->slice.payload = bytes ? &c->payload : NULL;
    c->slice.bytes = bytes;
    c->slice.done = control_done;
    c->slice.context = c;
    const weft_transport_ops *ops = link->transport->control_ops;
    if (ops->send(link->control, &c->slice) != WEFT_OK) {
        weft_free(c);
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d: %s", link->peer, weft_last_error());
    }
}

/* ---- making ----------------------------------------------------------------------------------------- */

weft_status weft_verbs_link_get(verbs_transport *t, int peer, verbs_link **out)
{
    verbs_link *link = t->links[peer];
    if (!link) {
        link = weft_alloc(sizeof *link);
        if (!link)
            return weft_fail(WEFT_ERR_MEMORY, "verbs: no memory for the link to rank %d", peer);
        link->transport = t;
        link->peer = peer;
        link->limit = link->granted = link->told = link->window = 1;
        t->links[peer] = link;
    }
    *out = link;
    return WEFT_OK;
}

weft_status weft_verbs_pairs_find(const verbs_transport *t, int peer, const void *address, size_t bytes,
                                  weft_verbs_address *theirs, weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX], int *count)
{
    weft_verbs_port mine[WEFT_VERBS_PORTS_MAX];
    weft_status status = weft_verbs_address_decode(address, bytes, theirs);
    for (int i = 0; i < t->port_count; i++)
        mine[i] = t->ports[i].card;
    if (status == WEFT_OK)
        status = weft_verbs_pairs_match(mine, t->port_count, theirs->ports, theirs->count, t->config.rank < peer, pairs, count);
    return status;
}

weft_status weft_verbs_link_know(verbs_link *link, const void *address, size_t bytes)
{
    verbs_transport *t = link->transport;
    weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX];
    weft_verbs_address theirs;
    int count;
    weft_status status = weft_verbs_pairs_find(t, link->peer, address, bytes, &theirs, pairs, &count);
    if (status == WEFT_OK)
        status = t->control_ops->connect(t->control, link->peer, theirs.control, theirs.control_bytes, &link->control);
    if (status != WEFT_OK)
        return weft_fail_context(status, "verbs to rank %d", link->peer);
    for (int i = 0; i < count; i++) {
        link->rails[i].port = &t->ports[pairs[i].mine];
        link->rails[i].remote = theirs.ports[pairs[i].theirs];
        link->rails[i].weight = pairs[i].weight;
    }
    link->rail_count = count;
    link->known = true;
    return WEFT_OK;
}

/* A queue pair; adapters that have no room for as much inline data as wanted are asked for less. */
static weft_status make_queue_pair(verbs_rail *rail)
{
    verbs_port *port = rail->port;
    const weft_verbs_library *v = port->transport->verbs;
    for (uint32_t most_inline = VERBS_INLINE;; most_inline /= 2) {
        struct ibv_qp_init_attr attributes = {
            .send_cq = port->cq, .recv_cq = port->cq, .srq = port->srq, .qp_type = IBV_QPT_RC,
            .cap = {.max_send_wr = VERBS_QUEUE, .max_send_sge = 2, .max_inline_data = most_inline},
        };
        rail->qp = v->create_qp(port->pd, &attributes);
        if (rail->qp) {
            rail->max_inline = attributes.cap.max_inline_data;
            break;
        }
        if (most_inline == 0)
            return weft_fail_errno(WEFT_ERR_SYSTEM, "%s gives no queue pair", port->card.name);
    }
    rail->own_psn = (uint32_t)weft_random64() & 0xffffff;
    struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_INIT, .pkey_index = (uint16_t)port->transport->settings.ib_pkey,
                                     .port_num = port->device_port,
                                     .qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE};
    int error = v->modify_qp(rail->qp, &attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
    if (error) {
        errno = error;
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s does not prepare a queue pair", port->card.name);
    }
    return WEFT_OK;
}

static weft_status raise_queue_pair(verbs_rail *rail)
{
    verbs_port *port = rail->port;
    const verbs_transport *t = port->transport;
    const weft_verbs_port *remote = &rail->remote;
    struct ibv_qp_attr attributes = {
        .qp_state = IBV_QPS_RTR, .path_mtu = remote->mtu < port->card.mtu ? remote->mtu : port->card.mtu,
        .dest_qp_num = rail->remote_qp, .rq_psn = rail->remote_psn, .max_dest_rd_atomic = 1, .min_rnr_timer = MIN_RNR_TIMER,
        .ah_attr = {.dlid = remote->lid, .sl = (uint8_t)t->settings.ib_sl, .port_num = port->device_port,
                    .is_global = port->card.ethernet || remote->lid == 0},
    };
    if (attributes.ah_attr.is_global) {
        attributes.ah_attr.grh = (struct ibv_global_route){.sgid_index = port->gid_index, .hop_limit = 255,
                                                           .traffic_class = (uint8_t)t->settings.ib_tc};
        memcpy(attributes.ah_attr.grh.dgid.raw, remote->gid, sizeof remote->gid);
    }
    int error = t->verbs->modify_qp(rail->qp, &attributes,
                                    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
    attributes = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS, .timeout = (uint8_t)t->settings.ib_timeout,
                                      .retry_cnt = VERBS_RETRIES, .rnr_retry = 7, .sq_psn = rail->own_psn, .max_rd_atomic = 1};
    if (!error)
        error = t->verbs->modify_qp(rail->qp, &attributes,
                                    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                                        IBV_QP_MAX_QP_RD_ATOMIC);
    if (error) {
        errno = error;
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s does not connect a queue pair (WEFT_IB_GID_INDEX?)", port->card.name);
    }
    return WEFT_OK;
}

static weft_status hello_address(verbs_transport *t, hello *h, size_t *bytes)
{
    *bytes = sizeof h->blob;
    weft_status status = weft_verbs_own_address(t, h->blob, bytes);
    *bytes += offsetof(hello, blob);
    return status;
}

void weft_verbs_link_meet(verbs_link *link)
{
    hello h = {.rails = {{0, 0}}};
    size_t bytes = 0;
    if (link->hello_sent || link->state == VERBS_FAILED)
        return;
    link->state = VERBS_MEETING;
    link->hello_sent = true;
    link->transport->unsettled++;
    weft_status status = weft_verbs_port_add_peer(link->rails[0].port);
    link->has_buffers = status == WEFT_OK;
    for (int i = 0; i < link->rail_count && status == WEFT_OK; i++) {
        verbs_rail *rail = &link->rails[i];
        status = make_queue_pair(rail);
        if (status == WEFT_OK)
            h.rails[i] = (hello_rail){rail->qp->qp_num, rail->own_psn};
    }
    if (status == WEFT_OK)
        status = hello_address(link->transport, &h, &bytes);
    if (status != WEFT_OK)
        weft_verbs_link_fail(link, status, "rank %d: %s", link->peer, weft_last_error());
    else
        control_send(link, CONTROL_HELLO, (uint32_t)link->rail_count, &h, bytes);
}

static void settle(verbs_link *link)
{
    if (link->state == VERBS_MEETING)
        link->transport->unsettled--;
}

static void open_if_ready(verbs_link *link)
{
    if (link->state != VERBS_MEETING || !link->hello_sent || !link->hello_came)
        return;
    if (!link->raised) {
        for (int i = 0; i < link->rail_count; i++)
            if (raise_queue_pair(&link->rails[i]) != WEFT_OK) {
                weft_verbs_link_fail(link, WEFT_ERR_SYSTEM, "rank %d: %s", link->peer, weft_last_error());
                return;
            }
        link->raised = true;
        control_send(link, CONTROL_READY, 0, NULL, 0);
    }
    if (link->state == VERBS_MEETING && link->ready_came) {
        settle(link);
        link->state = VERBS_OPEN;
        weft_verbs_attend(link);
    }
}

/* ---- what comes over the control channel --------------------------------------------------------------- */

static void hello_came(verbs_transport *t, int peer, uint32_t rails, const void *payload, size_t bytes)
{
    hello h;
    verbs_link *link = NULL;
    if (bytes < offsetof(hello, blob) || bytes > sizeof h || weft_verbs_link_get(t, peer, &link) != WEFT_OK)
        return; /* without memory for a link there is none that could fail; the peer waits for its timeout */
    memcpy(&h, payload, bytes);
    if (link->state == VERBS_FAILED || link->hello_came)
        return;
    if (!link->known && weft_verbs_link_know(link, h.blob, bytes - offsetof(hello, blob)) != WEFT_OK) {
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "%s", weft_last_error());
        return;
    }
    if (rails != (uint32_t)link->rail_count) {
        weft_verbs_link_fail(link, WEFT_ERR_MISMATCH, "rank %d counts %u rails of RDMA, rank %d %d", peer, rails, t->config.rank,
                             link->rail_count);
        return;
    }
    link->hello_came = true;
    for (int i = 0; i < link->rail_count; i++) {
        link->rails[i].remote_qp = h.rails[i].qp;
        link->rails[i].remote_psn = h.rails[i].psn;
    }
    weft_verbs_link_meet(link);
    open_if_ready(link);
}

/* The peer wants back what it lent: all but the one frame that it cannot take away. What it grants from now on has the
 * next epoch's number. */
static void recall_came(verbs_link *link)
{
    if ((int32_t)(link->limit - link->sent) > 1)
        link->limit = link->sent + 1;
    link->out_epoch++;
    control_send(link, CONTROL_RETURN, link->limit, NULL, 0);
}

static void return_came(verbs_link *link, uint32_t limit)
{
    uint32_t window = limit - link->received; /* under way, and the one */
    if (!link->recalling || (int32_t)window < 0 || window > link->window)
        return;
    link->recalling = false;
    link->shrinking = true;
    link->in_epoch++;
    link->granted = link->told = limit;
    window = window > 0 ? window : 1;
    link->rails[0].port->lend.left += (int)(link->window - window);
    link->window = window;
    if ((int32_t)(link->consumed + window - link->granted) > 0) /* it has sent its last one already */
        link->granted = link->consumed + window;
    weft_verbs_attend(link);
}

void weft_verbs_recall(verbs_link *link)
{
    link->recalling = true;
    control_send(link, CONTROL_RECALL, 0, NULL, 0);
}

void weft_verbs_control_arrived(void *context, int peer, const unsigned char *bytes_of_header, const void *payload, size_t bytes)
{
    verbs_transport *t = context;
    control_header header;
    memcpy(&header, bytes_of_header, sizeof header);
    if (header.kind == CONTROL_HELLO) {
        hello_came(t, peer, header.value, payload, bytes);
        return;
    }
    verbs_link *link = t->links[peer];
    if (!link || link->state == VERBS_FAILED)
        return;
    switch (header.kind) {
    case CONTROL_READY:
        link->ready_came = true;
        open_if_ready(link);
        break;
    case CONTROL_BROKEN:
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d has given up: %.*s", peer, (int)bytes, (const char *)payload);
        break;
    case CONTROL_RECALL: recall_came(link); break;
    case CONTROL_RETURN: return_came(link, header.value); break;
    default: break;
    }
}

/* What it sent before may still wait to be read: the link fails when that is done. */
void weft_verbs_control_failed(void *context, int peer, weft_status status, const char *reason)
{
    verbs_transport *t = context;
    verbs_link *link = t->links[peer];
    if (!link || link->state == VERBS_FAILED || link->control_lost)
        return;
    link->control_lost = true;
    link->status = status;
    snprintf(link->reason, sizeof link->reason, "%s%s", reason, strstr(reason, "rank") ? "" : " (its rank's control connection)");
    weft_verbs_attend(link);
}

/* ---- ends ----------------------------------------------------------------------------------------------- */

void weft_verbs_link_fail(verbs_link *link, weft_status status, const char *format, ...)
{
    va_list arguments;
    char reason[VERBS_REASON_BYTES];
    if (link->state == VERBS_FAILED)
        return;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    settle(link);
    link->state = VERBS_FAILED;
    link->status = status;
    memcpy(link->reason, reason, sizeof reason);
    weft_verbs_link_release(link);
    if (link->control && !link->control_lost && !link->transport->closed) /* the peer need not wait for its adapter to notice */
        control_send(link, CONTROL_BROKEN, 0, reason, strlen(reason));
    weft_verbs_attend(link);
}

static void release_incoming(verbs_link *link)
{
    verbs_transport *t = link->transport;
    for (verbs_incoming *in = link->incoming, *next; in; in = next) {
        next = in->next;
        if (in->state == VERBS_MOVING) {
            t->moving[in->number] = NULL;
            for (int i = 0; i < link->rail_count; i++)
                link->rails[i].port->writes.left += in->due >> i & 1;
        }
        weft_verbs_incoming_free(in);
    }
    link->incoming = link->incoming_last = link->next_answer = NULL;
}

void weft_verbs_link_release(verbs_link *link)
{
    const weft_verbs_library *v = link->transport->verbs;
    for (int i = 0; i < link->rail_count; i++) {
        verbs_rail *rail = &link->rails[i];
        if (!rail->qp)
            continue;
        struct ibv_qp_attr attributes = {.qp_state = IBV_QPS_ERR};
        v->modify_qp(rail->qp, &attributes, IBV_QP_STATE);
        if (!link->transport->closed)
            weft_verbs_put_aside(rail->port, INT_MAX);
        v->destroy_qp(rail->qp);
        rail->qp = NULL;
        weft_verbs_retire_all(rail);
    }
    release_incoming(link);
    link->transport->freed = true;
    if (link->has_buffers) {
        link->rails[0].port->lend.left += (int)link->window - 1;
        link->rails[0].port->spare_peers++;
        link->has_buffers = false;
        link->window = 1;
    }
}

void weft_verbs_link_drop_slices(verbs_link *link, weft_status status)
{
    verbs_transport *t = link->transport;
    for (int i = 0; t->outgoing && i < VERBS_MOVING_MAX; i++) {
        verbs_outgoing *out = &t->outgoing[i];
        if (out->link != link)
            continue;
        link->rails[0].port->answers.left += !out->answered;
        weft_verbs_outgoing_end(out, status);
    }
    link->ready = link->ready_last = NULL;
    while (link->queue) {
        weft_slice *slice = link->queue;
        link->queue = slice->next;
        slice->done(slice, status);
    }
    link->queue_last = NULL;
    link->queued = 0;
}

void weft_verbs_link_free(verbs_link *link)
{
    if (!link)
        return;
    weft_verbs_link_release(link);
    weft_verbs_link_drop_slices(link, WEFT_ERR_ABORTED);
    weft_free(link);
}

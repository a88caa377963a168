/* Receiving: completions, frames in and their credit, large slices in the order of sending, delivery to the sink. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "transport/verbs/verbs.h"

enum { POLL_AT_ONCE = 16, POLL_MOST = 64, IDLE_ROUNDS = 64, RECALL_EVERY = 256 };

/* ---- credit ------------------------------------------------------------------------------------------------ */

bool weft_verbs_credit_due(const verbs_link *link)
{
    return link->granted != link->told && (int32_t)(link->told - link->received) <= (int32_t)link->window / 4 &&
           link->credits_sent == link->credits_seen && !link->recalling;
}

/* What the peer says of credit in any frame. */
static void credit_came(verbs_link *link, const verbs_frame *frame)
{
    link->credits_seen = frame->seen;
    if (frame->epoch == link->out_epoch && (int32_t)(frame->granted - link->limit) > 0) {
        link->limit = frame->granted;
        if (link->queue)
            weft_verbs_attend(link);
    }
    if (weft_verbs_credit_due(link))
        weft_verbs_attend(link);
}

/* Nothing is left to lend: who was lent most long ago and does not use it gives it back. */
static void recall_from_another(verbs_link *asking)
{
    verbs_transport *t = asking->transport;
    verbs_link *idle = NULL;
    if (t->round < t->recall_round)
        return;
    t->recall_round = t->round + RECALL_EVERY;
    for (int peer = 0; peer < t->config.ranks; peer++) {
        verbs_link *link = t->links[peer];
        if (link && link != asking && link->state == VERBS_OPEN && link->rails[0].port == asking->rails[0].port &&
            link->window > 1 && !link->recalling && link->active_round + IDLE_ROUNDS < t->round &&
            (!idle || link->active_round < idle->active_round))
            idle = link;
    }
    if (idle)
        weft_verbs_recall(idle);
}

/* A frame that counts came: the peer's window grows as long as it has more to send. */
static void lend(verbs_link *link, uint32_t waiting)
{
    verbs_port *port = link->rails[0].port;
    uint32_t wanted = link->window;
    link->active_round = link->transport->round;
    if (link->recalling || link->shrinking)
        return;
    if (waiting > 0)
        wanted = link->window < VERBS_WINDOW_FIRST ? VERBS_WINDOW_FIRST : 2 * link->window;
    else if (link->window < VERBS_WINDOW_FIRST && port->lend.left + port->lend.most - port->lend.made > port->lend.most / 2)
        wanted = VERBS_WINDOW_FIRST;
    wanted = wanted < VERBS_WINDOW_MAX ? wanted : VERBS_WINDOW_MAX;
    if (wanted <= link->window)
        return;
    uint32_t more = wanted - link->window;
    if (waiting > 0 && !weft_verbs_share_has(port, &port->lend, (int)more) && port->lend.left == 0)
        recall_from_another(link);
    more = more < (uint32_t)port->lend.left ? more : (uint32_t)port->lend.left;
    port->lend.left -= (int)more;
    link->window += more;
}

/* The buffer of a frame that counts is free again. */
static void consumed(verbs_link *link)
{
    link->consumed++;
    if (link->shrinking) {
        if (link->window > 1) {
            link->window--;
            link->rails[0].port->lend.left++;
        }
        link->shrinking = link->window > 1;
    }
    if (!link->recalling && (int32_t)(link->consumed + link->window - link->granted) > 0)
        link->granted = link->consumed + link->window;
    if (weft_verbs_credit_due(link))
        weft_verbs_attend(link);
}

/* ---- large slices ------------------------------------------------------------------------------------------- */

void weft_verbs_incoming_free(verbs_incoming *in)
{
    verbs_transport *t = in->link->transport;
    if (in->page >= 0)
        weft_verbs_stage_give(&t->receive_stage, in->page, in->bytes);
    weft_free(in->own);
    in->next = t->free_incoming;
    t->free_incoming = in;
}

static verbs_incoming *incoming_new(verbs_link *link, uint32_t sequence, uint32_t bytes, const void *header)
{
    verbs_transport *t = link->transport;
    verbs_incoming *in = t->free_incoming;
    if (in)
        t->free_incoming = in->next;
    else if (!(in = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *in, WEFT_CACHE_LINE)))) {
        weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: no memory for a slice of it", link->peer);
        return NULL;
    }
    memset(in, 0, sizeof *in);
    in->link = link;
    in->sequence = sequence;
    in->bytes = bytes;
    in->page = -1;
    memcpy(in->header, header, WEFT_HEADER_BYTES);
    return in;
}

/* Into the list, which is in the order of sending; nearly always at its end. */
static void insert(verbs_link *link, verbs_incoming *in)
{
    verbs_incoming **at = &link->incoming;
    if (link->incoming_last && (int32_t)(link->incoming_last->sequence - in->sequence) < 0)
        at = &link->incoming_last->next;
    while (*at && (int32_t)((*at)->sequence - in->sequence) < 0)
        at = &(*at)->next;
    in->next = *at;
    *at = in;
    if (!in->next)
        link->incoming_last = in;
    if (in->state == VERBS_WAITING && (!link->next_answer || (int32_t)(in->sequence - link->next_answer->sequence) < 0))
        link->next_answer = in;
}

static void take_out(verbs_link *link, verbs_incoming *in)
{
    verbs_incoming **at = &link->incoming, *before = NULL;
    while (*at != in) {
        before = *at;
        at = &before->next;
    }
    *at = in->next;
    if (link->incoming_last == in)
        link->incoming_last = before;
    if (link->next_answer == in)
        link->next_answer = in->next;
}

/* A complete one goes to the sink. The link may have failed afterwards. */
static void deliver(verbs_link *link, verbs_incoming *in)
{
    const weft_sink *sink = &link->transport->config.sink;
    const void *payload = in->payload;
    take_out(link, in);
    if (in->announced && in->memory) {
        if (in->payload != in->memory)
            memcpy(in->memory, in->payload, in->bytes);
        payload = in->memory;
    }
    sink->arrived(sink->context, link->peer, in->header, payload, in->bytes);
    weft_verbs_incoming_free(in);
}

static void announce(verbs_link *link, verbs_incoming *in)
{
    const weft_sink *sink = &link->transport->config.sink;
    in->announced = true;
    void *memory = sink->place(sink->context, link->peer, in->header, in->bytes);
    if (link->state != VERBS_FAILED) /* else it is gone */
        in->memory = memory;
}

/* Delivers those that are complete, and announces the others, of all that were sent before `sequence`, so that it can be
 * delivered. False: that cannot be, or the link has failed. */
static bool clear_before(verbs_link *link, uint32_t sequence, int *arrived)
{
    for (verbs_incoming *in = link->incoming, *next; in && (int32_t)(in->sequence - sequence) < 0; in = next) {
        next = in->next;
        if (in->announced)
            continue;
        if (in->state == VERBS_COMPLETE) {
            deliver(link, in);
            (*arrived)++;
        } else if (link->transport->config.sink.place) {
            announce(link, in);
        } else {
            return false;
        }
        if (link->state == VERBS_FAILED)
            return false;
    }
    return true;
}

/* Delivers what is complete and next in order. */
static int deliver_in_order(verbs_link *link)
{
    int arrived = 0;
    for (verbs_incoming *in = link->incoming, *next; in && link->state != VERBS_FAILED; in = next) {
        next = in->next;
        if (in->announced)
            continue;
        if (in->state != VERBS_COMPLETE)
            break;
        deliver(link, in);
        arrived++;
    }
    return arrived;
}

static void offer_came(verbs_link *link, const verbs_frame *frame, uint32_t sequence, bool deliver_now)
{
    const unsigned char *extra = (const unsigned char *)(frame + 1);
    uint32_t spans[WEFT_VERBS_RAILS_MAX];
    uint64_t sum = 0;
    memcpy(spans, extra + WEFT_HEADER_BYTES, sizeof spans);
    for (int i = 0; i < WEFT_VERBS_RAILS_MAX; i++)
        sum += i < link->rail_count || spans[i] == 0 ? spans[i] : UINT32_MAX;
    if (sum != frame->bytes || sum == 0 || sum > WEFT_SLICE_MAX_BYTES) {
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d offers %u bytes in spans that are not right", link->peer,
                             frame->bytes);
        return;
    }
    verbs_incoming *in = incoming_new(link, sequence, frame->bytes, extra);
    if (!in)
        return;
    in->state = VERBS_WAITING;
    in->id = frame->id;
    memcpy(in->spans, spans, sizeof in->spans);
    insert(link, in);
    int arrived = 0;
    /* Asking early where it shall land pays if that may be registered memory; else it is read from the stage. */
    if (deliver_now && link->transport->config.sink.place && weft_verbs_has_regions(link->transport))
        clear_before(link, sequence + 1, &arrived);
    if (link->state != VERBS_FAILED)
        weft_verbs_attend(link);
}

/* A small slice; its payload is in the receive buffer. */
static int data_came(verbs_link *link, const verbs_frame *frame, uint32_t sequence)
{
    const weft_sink *sink = &link->transport->config.sink;
    const unsigned char *header = (const unsigned char *)(frame + 1), *payload = header + WEFT_HEADER_BYTES;
    int arrived = 0;
    if (!link->incoming || clear_before(link, sequence, &arrived)) {
        sink->arrived(sink->context, link->peer, header, payload, frame->bytes);
        return arrived + 1;
    }
    if (link->state == VERBS_FAILED)
        return arrived;
    verbs_incoming *in = incoming_new(link, sequence, frame->bytes, header);
    if (!in)
        return arrived;
    in->state = VERBS_COMPLETE;
    in->own = in->payload = weft_alloc(weft_max_size(frame->bytes, 1));
    if (!in->own) {
        weft_verbs_incoming_free(in);
        weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: no memory for a slice of it", link->peer);
        return arrived;
    }
    memcpy(in->own, payload, frame->bytes);
    insert(link, in);
    return arrived;
}

/* All writes of that slice have come. */
static int complete(verbs_link *link, verbs_incoming *in)
{
    in->state = VERBS_COMPLETE;
    if (!in->announced)
        return deliver_in_order(link);
    deliver(link, in);
    return 1;
}

/* ---- completions ----------------------------------------------------------------------------------------------- */

static int write_came(verbs_port *port, uint32_t number, uint32_t qp_number, bool deliver_now)
{
    verbs_transport *t = port->transport;
    verbs_incoming *in = number < VERBS_MOVING_MAX ? t->moving[number] : NULL;
    for (int i = 0; in && i < in->link->rail_count; i++) {
        const verbs_rail *rail = &in->link->rails[i];
        if (rail->port != port || !rail->qp || rail->qp->qp_num != qp_number || !(in->due >> i & 1))
            continue;
        in->due &= (uint8_t)~(1 << i);
        port->writes.left++;
        if (in->due)
            return 0;
        if (deliver_now) {
            t->moving[number] = NULL;
            return complete(in->link, in);
        }
        t->written = true;
        return 0;
    }
    return 0; /* of a link that is gone */
}

/* The link whose first queue pair has that number, if it is alive. */
static verbs_link *link_of(verbs_port *port, uint32_t rank, uint32_t qp_number)
{
    const verbs_transport *t = port->transport;
    verbs_link *link = rank < (uint32_t)t->config.ranks ? t->links[rank] : NULL;
    bool right = link && link->state != VERBS_FAILED && link->rails[0].port == port && link->rails[0].qp &&
                 link->rails[0].qp->qp_num == qp_number;
    return right ? link : NULL;
}

static size_t frame_bytes(const verbs_frame *frame)
{
    switch (frame->kind) {
    case VERBS_DATA: return sizeof *frame + WEFT_HEADER_BYTES + frame->bytes;
    case VERBS_OFFER: return sizeof *frame + WEFT_HEADER_BYTES + WEFT_VERBS_RAILS_MAX * sizeof(uint32_t);
    case VERBS_ANSWER: return sizeof *frame + sizeof(verbs_place);
    case VERBS_CREDIT: return sizeof *frame;
    default: return SIZE_MAX;
    }
}

/* A frame came into that buffer, which is given back but where it is kept for later. */
static int frame_came(verbs_port *port, uint32_t buffer, uint32_t bytes, uint32_t qp_number, bool deliver_now)
{
    const verbs_frame *frame = (const verbs_frame *)(const void *)weft_verbs_receive_buffer(port, buffer);
    verbs_link *link = bytes >= sizeof *frame ? link_of(port, frame->from, qp_number) : NULL;
    int arrived = 0;
    if (!link) {
        weft_verbs_repost(port, buffer);
        return 0;
    }
    if (frame->bytes > WEFT_SLICE_MAX_BYTES || frame_bytes(frame) != bytes) {
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d sent a frame of %u bytes that is not right", link->peer, bytes);
        weft_verbs_repost(port, buffer);
        return 0;
    }
    credit_came(link, frame);
    if (frame->kind == VERBS_CREDIT) {
        link->credits_came++;
    } else if (frame->kind == VERBS_ANSWER) {
        verbs_place place;
        memcpy(&place, frame + 1, sizeof place);
        weft_verbs_answered(link, frame, &place);
    } else {
        uint32_t sequence = link->received++;
        lend(link, frame->waiting);
        if (frame->kind == VERBS_DATA && !deliver_now) {
            verbs_transport *t = port->transport;
            t->backlog[t->backlog_count++] = (verbs_backlog){port, buffer, sequence}; /* has room for every buffer */
            return 0;
        }
        if (frame->kind == VERBS_DATA)
            arrived = data_came(link, frame, sequence);
        else
            offer_came(link, frame, sequence, deliver_now);
        if (link->state != VERBS_FAILED)
            consumed(link);
    }
    weft_verbs_repost(port, buffer);
    return arrived;
}

bool weft_verbs_has_backlog(const verbs_transport *t)
{
    return t->backlog_count > 0 || t->written;
}

int weft_verbs_backlog_run(verbs_transport *t)
{
    int arrived = 0, count = t->backlog_count;
    for (int i = 0; i < count; i++) {
        const verbs_backlog *entry = &t->backlog[i];
        const verbs_frame *frame = (const verbs_frame *)(const void *)weft_verbs_receive_buffer(entry->port, entry->buffer);
        verbs_link *link = t->links[frame->from];
        if (link && link->state != VERBS_FAILED) {
            arrived += data_came(link, frame, entry->sequence);
            if (link->state != VERBS_FAILED)
                consumed(link);
        }
        weft_verbs_repost(entry->port, entry->buffer);
    }
    t->backlog_count = 0;
    for (int i = 0; i < VERBS_MOVING_MAX && t->written; i++) { /* after the small ones, none of which waits for them */
        verbs_incoming *in = t->moving[i];
        if (!in || in->due)
            continue;
        t->moving[i] = NULL;
        arrived += complete(in->link, in);
    }
    t->written = false;
    t->freed = true; /* of the stage, perhaps */
    return arrived;
}

static void work_failed(verbs_link *link, const verbs_rail *rail, const struct ibv_wc *wc)
{
    const verbs_port *port = rail->port;
    weft_verbs_events(link->transport); /* which may know better: the port went down */
    if (link->state == VERBS_FAILED)
        return;
    bool peers = wc->status == IBV_WC_RETRY_EXC_ERR || wc->status == IBV_WC_RNR_RETRY_EXC_ERR ||
                 wc->status == IBV_WC_WR_FLUSH_ERR || wc->status == IBV_WC_REM_OP_ERR || wc->status == IBV_WC_REM_INV_REQ_ERR ||
                 wc->status == IBV_WC_REM_ACCESS_ERR; /* the memory of a process that ends goes before its queue pairs */
    weft_verbs_link_fail(link, peers ? WEFT_ERR_PEER : WEFT_ERR_SYSTEM, "rank %d, from %s: %s (vendor's code 0x%x)", link->peer,
                         port->card.name, port->transport->verbs->wc_status_str(wc->status), wc->vendor_err);
}

static int handle(verbs_port *port, const struct ibv_wc *wc, bool deliver_now)
{
    verbs_transport *t = port->transport;
    if (wc->wr_id >> 63) {
        uint32_t buffer = (uint32_t)wc->wr_id;
        if (wc->status == IBV_WC_SUCCESS && wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM)
            return frame_came(port, buffer, wc->byte_len, wc->qp_num, deliver_now);
        weft_verbs_repost(port, buffer);
        if (wc->status == IBV_WC_SUCCESS)
            return write_came(port, ntohl(wc->imm_data), wc->qp_num, deliver_now);
        for (int peer = 0; peer < t->config.ranks; peer++) {
            verbs_link *link = t->links[peer];
            for (int i = 0; link && link->state != VERBS_FAILED && i < link->rail_count; i++)
                if (link->rails[i].port == port && link->rails[i].qp && link->rails[i].qp->qp_num == wc->qp_num)
                    work_failed(link, &link->rails[i], wc);
        }
        return 0;
    }
    uint32_t slot = (uint32_t)(wc->wr_id >> 32);
    verbs_link *link = t->links[slot / WEFT_VERBS_RAILS_MAX];
    verbs_rail *rail = link ? &link->rails[slot % WEFT_VERBS_RAILS_MAX] : NULL;
    if (!rail || !rail->qp || rail->qp->qp_num != wc->qp_num)
        return 0;
    if (wc->status != IBV_WC_SUCCESS)
        work_failed(link, rail, wc);
    else
        weft_verbs_retire(rail, (uint32_t)wc->wr_id);
    return 0;
}

int weft_verbs_put_aside(verbs_port *port, int most)
{
    int kept = 0, count = 1;
    for (; kept < most && count > 0; kept += count > 0 ? count : 0) {
        if (port->aside_first == port->aside_end)
            port->aside_first = port->aside_end = 0;
        if (port->aside_end == port->aside_max) {
            int more = port->aside_max ? 2 * port->aside_max : POLL_AT_ONCE;
            struct ibv_wc *larger = weft_alloc_array((size_t)more, sizeof *larger);
            if (!larger)
                return 1;
            if (port->aside_end)
                memcpy(larger, port->aside, (size_t)port->aside_end * sizeof *larger);
            weft_free(port->aside);
            port->aside = larger;
            port->aside_max = more;
        }
        int room = port->aside_max - port->aside_end;
        count = ibv_poll_cq(port->cq, most - kept < room ? most - kept : room, port->aside + port->aside_end);
        port->aside_end += count > 0 ? count : 0;
    }
    return kept;
}

int weft_verbs_poll(verbs_port *port, bool deliver_now, int *completions)
{
    struct ibv_wc found[POLL_AT_ONCE];
    int arrived = 0, total = 0, count = 0;
    bool again;
    do {
        again = port->aside_first < port->aside_end;
        for (count = 0; port->aside_first < port->aside_end && count < POLL_AT_ONCE;)
            found[count++] = port->aside[port->aside_first++];
        if (!again)
            count = ibv_poll_cq(port->cq, POLL_AT_ONCE, found);
        for (int i = 0; i < count; i++)
            arrived += handle(port, &found[i], deliver_now);
        total += count > 0 ? count : 0;
    } while ((again || count == POLL_AT_ONCE) && total < POLL_MOST);
    if (total == 0 && port->again_count > 0)
        weft_verbs_repost_flush(port);
    *completions += total;
    return arrived;
}

/* Sending: frames, offers of large slices and the writes that follow their answers, credit. */
#include <errno.h>
#include <arpa/inet.h>
#include <string.h>

#include "transport/spans.h"
#include "transport/verbs/verbs.h"

/* ---- work requests ----------------------------------------------------------------------------------- */

static bool has_room(const verbs_rail *rail, bool signaled)
{
    return rail->posted - rail->retired < VERBS_QUEUE && (!signaled || rail->port->signaled < VERBS_SIGNALED_MAX);
}

static bool post(verbs_link *link, verbs_rail *rail, struct ibv_send_wr *request, const verbs_work *work)
{
    uint32_t slot = (uint32_t)link->peer * WEFT_VERBS_RAILS_MAX + (uint32_t)(rail - link->rails);
    struct ibv_send_wr *bad;
    request->wr_id = (uint64_t)slot << 32 | rail->posted;
    request->send_flags |= work->signaled ? IBV_SEND_SIGNALED : 0;
    int error = ibv_post_send(rail->qp, request, &bad);
    if (error) {
        weft_verbs_link_fail(link, WEFT_ERR_SYSTEM, "rank %d: %s takes no work: %s", link->peer, rail->port->card.name,
                             strerror(error));
        return false;
    }
    rail->work[rail->posted++ % VERBS_QUEUE] = *work;
    rail->unsignaled = work->signaled ? 0 : rail->unsignaled + 1;
    rail->port->signaled += work->signaled;
    return true;
}

static void retire_one(verbs_rail *rail)
{
    const verbs_work *work = &rail->work[rail->retired++ % VERBS_QUEUE];
    verbs_port *port = rail->port;
    port->signaled -= work->signaled;
    if (work->kind == VERBS_WORK_BUFFER)
        port->send_free[port->send_free_count++] = work->buffer;
    else if (work->kind == VERBS_WORK_WRITE)
        rail->load -= work->bytes;
}

void weft_verbs_retire(verbs_rail *rail, uint32_t up_to)
{
    while ((int32_t)(up_to - rail->retired) >= 0) {
        const verbs_work *work = &rail->work[rail->retired % VERBS_QUEUE];
        verbs_outgoing *out = work->kind == VERBS_WORK_WRITE ? work->outgoing : NULL;
        retire_one(rail);
        if (out && --out->writes_left == 0)
            weft_verbs_outgoing_end(out, WEFT_OK);
    }
}

void weft_verbs_retire_all(verbs_rail *rail)
{
    while (rail->retired != rail->posted)
        retire_one(rail);
    rail->load = 0;
}

/* ---- frames -------------------------------------------------------------------------------------------- */

enum { EXTRA_MAX = WEFT_HEADER_BYTES + WEFT_VERBS_RAILS_MAX * sizeof(uint32_t) };
_Static_assert(sizeof(verbs_place) <= EXTRA_MAX, "the place fits");

/* Posts a frame with what follows it; false: not now, or the link has failed. */
static bool post_frame(verbs_link *link, verbs_frame *frame, const void *extra, size_t extra_bytes, const void *payload,
                       size_t bytes)
{
    verbs_rail *rail = &link->rails[0];
    verbs_port *port = rail->port;
    size_t head_bytes = sizeof *frame + extra_bytes, total = head_bytes + bytes;
    bool in_line = total <= rail->max_inline;
    unsigned char small[sizeof(verbs_frame) + EXTRA_MAX], *head = small;
    struct ibv_sge parts[2];
    struct ibv_send_wr request = {.opcode = IBV_WR_SEND, .sg_list = parts, .num_sge = 1};
    verbs_work work = {.kind = in_line ? VERBS_WORK_INLINE : VERBS_WORK_BUFFER,
                       .signaled = !in_line || rail->unsignaled + 1 >= VERBS_SIGNAL_EVERY};
    if (!has_room(rail, work.signaled) || (!in_line && port->send_free_count == 0))
        return false;
    if (!in_line && weft_verbs_port_need_send_buffers(port) != WEFT_OK) {
        weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: %s", link->peer, weft_last_error());
        return false;
    }
    if (!in_line) {
        work.buffer = port->send_free[port->send_free_count - 1];
        head = weft_verbs_send_buffer(port, work.buffer);
    }
    frame->from = (uint32_t)link->transport->config.rank;
    frame->granted = link->granted;
    frame->epoch = link->in_epoch;
    frame->seen = link->credits_came;
    frame->waiting = link->queued;
    memcpy(head, frame, sizeof *frame);
    memcpy(head + sizeof *frame, extra, extra_bytes);
    parts[0] = (struct ibv_sge){(uintptr_t)head, (uint32_t)head_bytes, 0};
    if (in_line) {
        request.send_flags = IBV_SEND_INLINE;
        if (bytes) {
            parts[1] = (struct ibv_sge){(uintptr_t)payload, (uint32_t)bytes, 0};
            request.num_sge = 2;
        }
    } else {
        if (bytes)
            memcpy(head + head_bytes, payload, bytes);
        parts[0].length = (uint32_t)total;
        parts[0].lkey = port->send_block.mr->lkey;
    }
    if (!post(link, rail, &request, &work))
        return false;
    port->send_free_count -= !in_line;
    link->told = frame->granted;
    return true;
}

static bool has_credit(const verbs_link *link)
{
    return (int32_t)(link->limit - link->sent) > 0;
}

static bool post_data(verbs_link *link, const weft_slice *slice)
{
    verbs_frame frame = {.kind = VERBS_DATA, .bytes = (uint32_t)slice->bytes};
    if (!post_frame(link, &frame, slice->header, WEFT_HEADER_BYTES, slice->payload, slice->bytes))
        return false;
    link->sent++;
    return true;
}

static bool post_credit(verbs_link *link)
{
    verbs_frame frame = {.kind = VERBS_CREDIT};
    if (!post_frame(link, &frame, "", 0, NULL, 0))
        return false;
    link->credits_sent++;
    return true;
}

/* ---- large slices ---------------------------------------------------------------------------------------- */

void weft_verbs_outgoing_end(verbs_outgoing *out, weft_status status)
{
    verbs_link *link = out->link;
    verbs_transport *t = link->transport;
    weft_slice *slice = out->slice;
    if (out->page >= 0)
        weft_verbs_stage_give(&t->send_stage, out->page, out->bytes);
    link->offers--;
    out->link = NULL;
    out->slice = NULL;
    out->next = t->free_outgoing;
    t->free_outgoing = out;
    if (slice)
        slice->done(slice, status);
}

/* Where the slice's bytes can be written from: its own memory, if that is registered, else a copy of them in the stage. */
static bool find_source(verbs_link *link, verbs_outgoing *out, const weft_slice *slice)
{
    verbs_transport *t = link->transport;
    out->page = -1;
    out->source = slice->payload;
    out->region = weft_verbs_region_find(link, slice->payload, slice->bytes, out->spans);
    if (out->region)
        return true;
    out->region = &t->send_stage.region;
    if (weft_verbs_stage_open(&t->send_stage) != WEFT_OK) {
        weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: %s", link->peer, weft_last_error());
        return false;
    }
    for (int i = 0; i < link->rail_count; i++)
        if (out->spans[i] && !weft_verbs_region_mr(link->rails[i].port, out->region)) {
            weft_verbs_link_fail(link, WEFT_ERR_SYSTEM, "rank %d: %s does not register a stage (ulimit -l?)", link->peer,
                                 link->rails[i].port->card.name);
            return false;
        }
    out->page = weft_verbs_stage_take(&t->send_stage, slice->bytes);
    if (out->page < 0)
        return false;
    out->source = memcpy(weft_verbs_stage_address(&t->send_stage, out->page), slice->payload, slice->bytes);
    return true;
}

/* Offers the slice. It is done only when its writes are posted, though the stage may have it: an adapter goes on by itself, an
 * offer does not. */
static bool post_offer(verbs_link *link, weft_slice *slice)
{
    verbs_transport *t = link->transport;
    verbs_outgoing *out = t->free_outgoing;
    uint32_t weights[WEFT_VERBS_RAILS_MAX];
    uint64_t loads[WEFT_VERBS_RAILS_MAX];
    unsigned char extra[EXTRA_MAX];
    if (!out || !has_room(&link->rails[0], true) ||
        !weft_verbs_share_has(link->rails[0].port, &link->rails[0].port->answers, 1))
        return false;
    verbs_outgoing *next = out->next;
    *out = (verbs_outgoing){.next = next, .bytes = (uint32_t)slice->bytes};
    for (int i = 0; i < link->rail_count; i++) {
        weights[i] = link->rails[i].weight;
        loads[i] = link->rails[i].load;
    }
    weft_spans_divide(slice->bytes, weights, loads, link->rail_count, out->spans);
    if (!find_source(link, out, slice))
        return false;
    verbs_frame frame = {.kind = VERBS_OFFER, .bytes = out->bytes, .id = (uint32_t)(out - t->outgoing)};
    memcpy(extra, slice->header, WEFT_HEADER_BYTES);
    memcpy(extra + WEFT_HEADER_BYTES, out->spans, sizeof out->spans);
    if (!post_frame(link, &frame, extra, sizeof extra, NULL, 0)) {
        if (out->page >= 0)
            weft_verbs_stage_give(&t->send_stage, out->page, out->bytes);
        return false;
    }
    link->sent++;
    link->rails[0].port->answers.left--;
    link->offers++;
    for (int i = 0; i < link->rail_count; i++) {
        link->rails[i].load += out->spans[i];
        out->writes_left += out->spans[i] > 0;
    }
    t->free_outgoing = next;
    out->link = link;
    out->slice = slice;
    return true;
}

void weft_verbs_answered(verbs_link *link, const verbs_frame *frame, const verbs_place *place)
{
    verbs_transport *t = link->transport;
    verbs_outgoing *out = frame->id < VERBS_MOVING_MAX ? &t->outgoing[frame->id] : NULL;
    if (!out || out->link != link || out->answered) {
        weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d answers an offer that was not made", link->peer);
        return;
    }
    out->answered = true;
    out->place = *place;
    out->next = NULL;
    link->rails[0].port->answers.left++;
    if (link->ready)
        link->ready_last->next = out;
    else
        link->ready = out;
    link->ready_last = out;
    weft_verbs_attend(link);
}

/* Posts the writes of a slice, one per rail that has a span; false: not all of them now. A slice in the stage is done then. */
static bool post_writes(verbs_link *link, verbs_outgoing *out)
{
    uint64_t offset = 0;
    for (int i = 0; i < link->rail_count; offset += out->spans[i++]) {
        verbs_rail *rail = &link->rails[i];
        if (i < out->next_rail || out->spans[i] == 0)
            continue;
        struct ibv_sge part = {(uintptr_t)out->source + offset, out->spans[i], out->region->mr[rail->port->number]->lkey};
        struct ibv_send_wr request = {.opcode = IBV_WR_RDMA_WRITE_WITH_IMM, .sg_list = &part, .num_sge = 1,
                                      .imm_data = htonl(out->place.number),
                                      .wr.rdma = {.remote_addr = out->place.address + offset, .rkey = out->place.keys[i]}};
        verbs_work work = {.kind = VERBS_WORK_WRITE, .signaled = true, .bytes = out->spans[i], .outgoing = out};
        if (!has_room(rail, true) || !post(link, rail, &request, &work))
            return false;
        out->next_rail = i + 1;
    }
    return true;
}

/* The first slice that is answered; false: not now. */
static bool write_first(verbs_link *link, int *moved)
{
    verbs_outgoing *out = link->ready;
    weft_slice *slice = out->slice;
    if (!post_writes(link, out))
        return false;
    link->ready = out->next;
    if (out->page >= 0) {
        out->slice = NULL;
        (*moved)++;
        slice->done(slice, WEFT_OK);
    }
    return true;
}

/* Tells the offerer where to write; false: not now. */
static bool post_answer(verbs_link *link, verbs_incoming *in)
{
    verbs_transport *t = link->transport;
    verbs_region *region = in->announced && in->memory ? weft_verbs_region_find(link, in->memory, in->bytes, in->spans) : NULL;
    verbs_place place = {.number = 0};
    int number = -1;
    for (int i = 0; i < VERBS_MOVING_MAX && number < 0; i++)
        if (!t->moving[(t->moving_hint + i) % VERBS_MOVING_MAX])
            number = (t->moving_hint + i) % VERBS_MOVING_MAX;
    if (number < 0 || !has_room(&link->rails[0], true))
        return false;
    for (int i = 0; i < link->rail_count; i++)
        if (in->spans[i] && !weft_verbs_share_has(link->rails[i].port, &link->rails[i].port->writes, 1))
            return false;
    in->payload = in->memory;
    if (!region) {
        region = &t->receive_stage.region;
        if (weft_verbs_stage_open(&t->receive_stage) != WEFT_OK) {
            weft_verbs_link_fail(link, WEFT_ERR_MEMORY, "rank %d: %s", link->peer, weft_last_error());
            return false;
        }
        if (in->page < 0 && (in->page = weft_verbs_stage_take(&t->receive_stage, in->bytes)) < 0)
            return false;
        in->payload = weft_verbs_stage_address(&t->receive_stage, in->page);
    }
    place.address = (uintptr_t)in->payload;
    place.number = (uint32_t)number;
    for (int i = 0; i < link->rail_count; i++) {
        const struct ibv_mr *mr = in->spans[i] ? weft_verbs_region_mr(link->rails[i].port, region) : NULL;
        if (in->spans[i] && !mr) {
            weft_verbs_link_fail(link, WEFT_ERR_SYSTEM, "rank %d: %s does not register a stage (ulimit -l?)", link->peer,
                                 link->rails[i].port->card.name);
            return false;
        }
        place.keys[i] = mr ? mr->rkey : 0;
    }
    verbs_frame frame = {.kind = VERBS_ANSWER, .id = in->id};
    if (!post_frame(link, &frame, &place, sizeof place, NULL, 0))
        return false;
    in->state = VERBS_MOVING;
    in->number = number;
    t->moving[number] = in;
    t->moving_hint = (number + 1) % VERBS_MOVING_MAX;
    for (int i = 0; i < link->rail_count; i++)
        if (in->spans[i]) {
            in->due |= (uint8_t)(1 << i);
            link->rails[i].port->writes.left--;
        }
    return true;
}

/* ---- the queue --------------------------------------------------------------------------------------------- */

static void take_from_queue(verbs_link *link)
{
    weft_slice *slice = link->queue;
    link->queue = slice->next;
    if (!link->queue)
        link->queue_last = NULL;
    slice->next = NULL;
}

/* The first slice of the queue, which counts as behind itself no more. */
static bool send_first(verbs_link *link, int *moved)
{
    weft_slice *slice = link->queue;
    bool small = slice->bytes <= VERBS_EAGER_BYTES;
    link->queued--;
    if (small ? !post_data(link, slice) : !post_offer(link, slice)) {
        link->queued++;
        return false;
    }
    take_from_queue(link);
    if (small) {
        (*moved)++;
        slice->done(slice, WEFT_OK);
    }
    return true;
}

int weft_verbs_pump(verbs_link *link)
{
    int moved = 0;
    bool stalled = false;
    if (link->state != VERBS_OPEN || link->pumping)
        return 0;
    link->pumping = true;
    while (!stalled && link->next_answer) {
        verbs_incoming *in = link->next_answer;
        stalled = in->state == VERBS_WAITING && !post_answer(link, in);
        if (!stalled)
            link->next_answer = in->next;
    }
    while (link->state == VERBS_OPEN && link->ready)
        if (!write_first(link, &moved)) {
            stalled = true;
            break;
        }
    while (link->state == VERBS_OPEN && link->queue && has_credit(link))
        if (!send_first(link, &moved)) {
            stalled = true;
            break;
        }
    if (link->state == VERBS_OPEN && weft_verbs_credit_due(link) && !post_credit(link))
        stalled = true;
    link->pumping = false;
    if (stalled && link->state == VERBS_OPEN)
        weft_verbs_stall(link);
    return moved;
}

weft_status weft_verbs_send(verbs_link *link, weft_slice *slice)
{
    if (link->transport->closed)
        return weft_fail(WEFT_ERR_ABORTED, "send to rank %d on a closed verbs transport", link->peer);
    if (link->state == VERBS_FAILED)
        return weft_fail(link->status, "%s", link->reason);
    if (slice->bytes > WEFT_SLICE_MAX_BYTES)
        return weft_fail(WEFT_ERR_INVALID, "a slice of %zu bytes to rank %d: at most %d", slice->bytes, link->peer,
                         WEFT_SLICE_MAX_BYTES);
    if (link->state == VERBS_OPEN && !link->queue && !link->pumping && slice->bytes <= VERBS_EAGER_BYTES && has_credit(link)) {
        if (post_data(link, slice)) {
            slice->done(slice, WEFT_OK);
            return WEFT_OK;
        }
        if (link->state == VERBS_FAILED)
            return weft_fail(link->status, "%s", link->reason);
    }
    slice->next = NULL;
    if (link->queue)
        link->queue_last->next = slice;
    else
        link->queue = slice;
    link->queue_last = slice;
    link->queued++;
    if (link->state == VERBS_IDLE)
        weft_verbs_attend(link);
    else
        weft_verbs_pump(link);
    return WEFT_OK;
}

bool weft_verbs_all_acknowledged(verbs_link *link)
{
    bool all = true;
    for (int i = 0; i < link->rail_count && link->state == VERBS_OPEN; i++) {
        verbs_rail *rail = &link->rails[i];
        if (rail->posted == rail->retired)
            continue;
        all = false;
        if (rail->unsignaled > 0 && has_room(rail, true)) { /* a write of nothing, for its report */
            struct ibv_send_wr request = {.opcode = IBV_WR_RDMA_WRITE};
            post(link, rail, &request, &(verbs_work){.kind = VERBS_WORK_INLINE, .signaled = true});
        }
    }
    return all;
}

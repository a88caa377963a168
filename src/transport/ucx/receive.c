/* Slices in: active messages in the order of their numbers, those of a rendezvous straight into the place that the sink chose. */
#include <string.h>

#include "transport/ucx/ucx.h"

static void free_arrival(ucx_arrival *a)
{
    if (a->own)
        weft_free(a->memory);
    if (a->kind == UCX_COPIED)
        weft_free(a->data);
    a->endpoint->transport->kept--;
    weft_free(a);
}

/* The receiver cannot go on with that peer, whose slice is lost. */
static void out_of_memory(weft_endpoint *e)
{
    weft_ucx_broke(e, UCS_ERR_NO_MEMORY);
}

/* ---- the sink's turn --------------------------------------------------------------------------- */

/* What landed goes to the sink; in order where it has no place(), as that is how it hears of slices then. */
static void deliver_landed(weft_endpoint *e)
{
    const weft_sink *sink = &e->transport->config.sink;
    for (ucx_arrival **link = &e->landing; *link && !e->failed;) {
        ucx_arrival *a = *link;
        if (a->status == UCS_INPROGRESS) {
            if (!sink->place)
                return;
            link = &a->next;
            continue;
        }
        *link = a->next;
        if (!*link)
            e->landing_end = link;
        e->transport->moved++;
        if (a->status == UCS_OK)
            sink->arrived(sink->context, e->rank, (const unsigned char *)&a->slice, a->memory, a->bytes);
        free_arrival(a);
        link = &e->landing; /* the sink may have done anything */
    }
}

static void begin_waiting(weft_endpoint *e);

static void on_landed(void *request, ucs_status_t status, size_t bytes, void *user_data)
{
    ucx_arrival *a = user_data;
    weft_endpoint *e = a->endpoint;
    (void)bytes;
    e->transport->pending--;
    e->landing_bytes -= a->bytes;
    ucp_request_free(request);
    a->status = status;
    if (status != UCS_OK)
        weft_ucx_broke(e, status);
    begin_waiting(e);
    if (!e->transport->muted)
        deliver_landed(e);
}

/* Lets those begin that were announced. UCX takes turns of 64 KiB with all that have begun, so that each takes as long as all
 * together, and none of the memory stays in the cache: not too many at once. */
static void begin_waiting(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    while (e->waiting && !e->failed && e->broken == UCS_OK &&
           (e->landing_bytes == 0 || e->landing_bytes + e->waiting->bytes <= UCX_LANDING_BYTES)) {
        ucx_arrival *a = e->waiting;
        ucp_request_param_t param = {
            .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA, .cb.recv_am = on_landed, .user_data = a};
        e->waiting = a->next;
        if (!e->waiting)
            e->waiting_end = &e->waiting;
        a->next = NULL;
        a->status = UCS_INPROGRESS;
        *e->landing_end = a;
        e->landing_end = &a->next;
        ucs_status_ptr_t request = ucp_am_recv_data_nbx(t->worker, a->data, a->memory, a->bytes, &param);
        if (request && !UCS_PTR_IS_ERR(request)) {
            t->pending++;
            e->landing_bytes += a->bytes;
            continue;
        }
        a->status = request ? UCS_PTR_STATUS(request) : UCS_OK;
        if (a->status != UCS_OK)
            weft_ucx_broke(e, a->status);
    }
}

/* Announces a rendezvous. */
static void land(weft_endpoint *e, ucx_arrival *a)
{
    weft_transport *t = e->transport;
    const weft_sink *sink = &t->config.sink;
    a->memory = sink->place ? sink->place(sink->context, e->rank, (const unsigned char *)&a->slice, a->bytes) : NULL;
    a->own = !a->memory;
    if (a->own && !(a->memory = weft_alloc(a->bytes))) {
        ucp_am_data_release(t->worker, a->data);
        free_arrival(a);
        out_of_memory(e);
        return;
    }
    a->next = NULL;
    *e->waiting_end = a;
    e->waiting_end = &a->next;
    begin_waiting(e);
}

/* A slice has its turn: makes its header whole. */
static void turn(weft_endpoint *e, const ucx_header *h)
{
    uint32_t changed = h->origin >> UCX_RANK_BITS;
    for (uint32_t i = 0; changed; changed &= changed - 1)
        e->in.words[__builtin_ctz(changed)] = h->words[i++];
    e->expected++;
    e->transport->moved++;
}

static void take_turn(weft_endpoint *e, ucx_arrival *a)
{
    weft_transport *t = e->transport;
    const weft_sink *sink = &t->config.sink;
    turn(e, &a->header);
    a->slice = e->in;
    if (a->kind == UCX_RENDEZVOUS) {
        land(e, a);
        deliver_landed(e);
        return;
    }
    sink->arrived(sink->context, e->rank, (const unsigned char *)&a->slice, a->data, a->bytes);
    if (a->kind == UCX_DESCRIPTOR)
        ucp_am_data_release(t->worker, a->data);
    free_arrival(a);
}

void weft_ucx_deliver(weft_endpoint *e)
{
    bool ordered = !e->transport->config.sink.place; /* then nothing overtakes what is still landing */
    deliver_landed(e);
    while (e->early && e->early->header.number == e->expected && !e->failed && !(ordered && (e->landing || e->waiting))) {
        ucx_arrival *a = e->early;
        e->early = a->next;
        take_turn(e, a);
    }
}

/* UCX lets go of what it holds for them. */
static void drop(weft_endpoint *e, ucx_arrival *first)
{
    for (ucx_arrival *a = first, *next; a; a = next) {
        next = a->next;
        if (a->kind != UCX_COPIED)
            ucp_am_data_release(e->transport->worker, a->data);
        free_arrival(a);
    }
}

bool weft_ucx_has_arrivals(const weft_endpoint *e)
{
    const ucx_arrival *landed = e->landing;
    if (e->failed)
        return false;
    if (!e->transport->config.sink.place && (landed || e->waiting)) /* then nothing overtakes the first */
        return landed && landed->status != UCS_INPROGRESS;
    while (landed && landed->status == UCS_INPROGRESS)
        landed = landed->next;
    return landed || (e->early && e->early->header.number == e->expected);
}

void weft_ucx_drop_arrivals(weft_endpoint *e)
{
    drop(e, e->early);
    drop(e, e->waiting);
    e->early = e->waiting = NULL;
    e->waiting_end = &e->waiting;
}

/* ---- UCX's callbacks --------------------------------------------------------------------------- */

/* Keeps what cannot be given to the sink now. */
static ucs_status_t keep(weft_endpoint *e, const ucx_header *h, void *data, size_t bytes, uint64_t attributes)
{
    ucx_arrival *a = weft_alloc(sizeof *a);
    bool rendezvous = attributes & UCP_AM_RECV_ATTR_FLAG_RNDV, stays = attributes & UCP_AM_RECV_ATTR_FLAG_DATA;
    if (!a) {
        out_of_memory(e);
        return UCS_OK;
    }
    e->transport->kept++;
    a->endpoint = e;
    a->header = *h;
    a->bytes = bytes;
    a->data = data;
    a->kind = rendezvous ? UCX_RENDEZVOUS : stays ? UCX_DESCRIPTOR : UCX_COPIED;
    if (a->kind == UCX_COPIED) {
        a->data = weft_alloc(bytes + 1);
        if (!a->data) {
            free_arrival(a);
            out_of_memory(e);
            return UCS_OK;
        }
        if (bytes)
            memcpy(a->data, data, bytes);
    }
    ucx_arrival **at = &e->early;
    while (*at && (int32_t)((*at)->header.number - h->number) < 0)
        at = &(*at)->next;
    a->next = *at;
    *at = a;
    return a->kind == UCX_COPIED ? UCS_OK : UCS_INPROGRESS;
}

/* The endpoint that a message is from, which begins with that header; NULL: of another job, or no such header. */
static weft_endpoint *sender(weft_transport *t, const void *message, size_t bytes, ucx_header *h, size_t *header_bytes)
{
    if (bytes < UCX_HEADER_BYTES)
        return NULL;
    memcpy(h, message, UCX_HEADER_BYTES);
    uint32_t rank = h->origin & ((1u << UCX_RANK_BITS) - 1), changed = h->origin >> UCX_RANK_BITS;
    size_t words = (size_t)__builtin_popcount(changed) * sizeof h->words[0];
    if (h->job != weft_ucx_job(t) || rank >= (uint32_t)t->config.ranks || t->peers[rank].failed || t->closed ||
        bytes - UCX_HEADER_BYTES < words)
        return NULL;
    memcpy(h->words, (const char *)message + UCX_HEADER_BYTES, words);
    *header_bytes = UCX_HEADER_BYTES + words;
    return &t->peers[rank];
}

/* attributes: UCX's, of the data. */
static ucs_status_t take(weft_endpoint *e, const ucx_header *h, void *data, size_t bytes, uint64_t attributes)
{
    weft_transport *t = e->transport;
    const weft_sink *sink = &t->config.sink;
    if (bytes > WEFT_SLICE_MAX_BYTES)
        return UCS_OK;
    bool now = h->number == e->expected && !t->muted && !((e->landing || e->waiting) && !sink->place);
    if (now && !(attributes & UCP_AM_RECV_ATTR_FLAG_RNDV)) { /* the common way: read where it lies */
        turn(e, h);
        sink->arrived(sink->context, e->rank, (const unsigned char *)&e->in, bytes ? data : "", bytes);
        if (e->early)
            weft_ucx_deliver(e);
        return UCS_OK;
    }
    ucs_status_t status = keep(e, h, data, bytes, attributes);
    if (now)
        weft_ucx_deliver(e);
    return status;
}

static ucs_status_t on_slice(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *param)
{
    ucx_header h;
    size_t used;
    weft_endpoint *e = sender(arg, header, header_bytes, &h, &used);
    return e && used == header_bytes ? take(e, &h, data, bytes, param->recv_attr) : UCS_OK;
}

/* The header is the beginning of the data. */
static ucs_status_t take_in_one(weft_transport *t, size_t header_bytes, void *data, size_t bytes,
                                const ucp_am_recv_param_t *param, bool padded)
{
    ucx_header h;
    size_t used;
    if (header_bytes != 0 || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV))
        return UCS_OK;
    weft_endpoint *e = sender(t, data, bytes, &h, &used);
    if (e && padded && (used = weft_ucx_piece_header(used)) > bytes)
        return UCS_OK;
    /* What is kept is copied: UCX takes back what it gave by its beginning only. */
    return e ? take(e, &h, (char *)data + used, bytes - used, param->recv_attr & ~(uint64_t)UCP_AM_RECV_ATTR_FLAG_DATA) : UCS_OK;
}

static ucs_status_t on_small(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *param)
{
    (void)header;
    return take_in_one(arg, header_bytes, data, bytes, param, false);
}

static ucs_status_t on_piece(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *param)
{
    (void)header;
    return take_in_one(arg, header_bytes, data, bytes, param, true);
}

static ucs_status_t on_leave(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *param)
{
    ucx_header h;
    size_t used;
    weft_endpoint *e = sender(arg, header, header_bytes, &h, &used);
    (void)data, (void)bytes, (void)param;
    if (e) {
        e->left = e->transport->troubled = true;
        e->left_count = h.number;
        e->left_ns = weft_now_ns();
    }
    return UCS_OK;
}

static ucs_status_t on_hello(void *arg, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *param)
{
    (void)arg, (void)header, (void)header_bytes, (void)data, (void)bytes, (void)param;
    return UCS_OK;
}

weft_status weft_ucx_listen(weft_transport *t)
{
    ucp_am_handler_param_t param = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                                                  UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS,
                                    .id = UCX_AM_SLICE, .flags = UCP_AM_FLAG_WHOLE_MSG, .cb = on_slice, .arg = t};
    ucs_status_t status = ucp_worker_set_am_recv_handler(t->worker, &param);
    param.id = UCX_AM_SMALL;
    param.cb = on_small;
    if (status == UCS_OK)
        status = ucp_worker_set_am_recv_handler(t->worker, &param);
    param.id = UCX_AM_PIECE;
    param.cb = on_piece;
    if (status == UCS_OK)
        status = ucp_worker_set_am_recv_handler(t->worker, &param);
    param.id = UCX_AM_LEAVE;
    param.cb = on_leave;
    if (status == UCS_OK)
        status = ucp_worker_set_am_recv_handler(t->worker, &param);
    param.id = UCX_AM_HELLO;
    param.cb = on_hello;
    if (status == UCS_OK)
        status = ucp_worker_set_am_recv_handler(t->worker, &param);
    return status == UCS_OK ? WEFT_OK : weft_ucx_fail_ucs(t, status, "ucx: active messages");
}

/* Slices out: active messages, their endpoints, and memory that was registered for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/ucx/ucx.h"

enum { CLOSE_NS = 200 * WEFT_NS_PER_MS, MAKE_NS = 50 * WEFT_NS_PER_MS };

static ucx_send *take_send(weft_transport *t)
{
    ucx_send *s = t->free_sends;
    if (s)
        t->free_sends = s->next;
    else
        s = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *s, WEFT_CACHE_LINE));
    return s;
}

static void give_back(ucx_send *s)
{
    weft_transport *t = s->endpoint->transport;
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    s->next = t->free_sends;
    t->free_sends = s;
}

static void on_error(void *arg, ucp_ep_h ep, ucs_status_t status)
{
    (void)ep;
    weft_ucx_broke(arg, status);
}

/* UCX 1.13's shared memory cannot report a peer that died, and is not used where that is asked for. Where it is all that may be
 * used, it is not asked for: deaths are found by Weft's control plane in any case. */
static bool shared_memory_only(void)
{
    static const char *const names[] = {"posix", "sysv", "cma", "xpmem", "knem", "sm", "shm", "mm", "self"};
    const char *at = getenv("UCX_TLS");
    bool only = at && *at;
    while (at && *at && only) {
        size_t length = strcspn(at, ",");
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            known |= length == strlen(names[i]) && memcmp(at, names[i], length) == 0;
        only = known;
        at += length + (at[length] == ',');
    }
    return only;
}

/* Over shared memory UCX asks the peer for something before the first message that is not among the smallest; all after it wait.
 * That is better done at once than when a flush() waits for the last ones, whose receiver is busy with something else. */
static void send_hello(weft_endpoint *e)
{
    static const char anything[512];
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_EAGER};
    ucs_status_ptr_t request = ucp_am_send_nbx(e->ep, UCX_AM_HELLO, NULL, 0, anything, sizeof anything, &param);
    if (request && !UCS_PTR_IS_ERR(request))
        ucp_request_free(request); /* UCX keeps it until it is sent */
}

static weft_status need_ep(weft_endpoint *e)
{
    if (e->ep)
        return WEFT_OK;
    if (!e->address)
        return weft_ucx_fail(e->transport, WEFT_ERR_USAGE, "ucx: rank %d is not connected", e->rank);
    e->forceable = !shared_memory_only();
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                            UCP_EP_PARAM_FIELD_ERR_HANDLER,
                              .address = e->address,
                              .err_mode = e->forceable ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE,
                              .err_handler = {.cb = on_error, .arg = e}};
    ucs_status_t status = ucp_ep_create(e->transport->worker, &params, &e->ep);
    char what[64];
    snprintf(what, sizeof what, "ucx: no endpoint to rank %d", e->rank);
    if (status != UCS_OK)
        return weft_ucx_fail_ucs(e->transport, status, what);
    if (!e->forceable)
        send_hello(e);
    return WEFT_OK;
}

static weft_status status_of(ucs_status_t status)
{
    return status == UCS_OK                ? WEFT_OK
           : status == UCS_ERR_NO_MEMORY   ? WEFT_ERR_MEMORY
           : status == UCS_ERR_UNREACHABLE || status == UCS_ERR_UNSUPPORTED ? WEFT_ERR_UNSUPPORTED
                                           : WEFT_ERR_PEER;
}

static void on_sent(void *request, ucs_status_t status, void *user_data)
{
    ucx_send *s = user_data;
    weft_slice *slice = s->slice;
    weft_transport *t = s->endpoint->transport;
    t->pending--;
    t->moved++;
    s->endpoint->up |= status == UCS_OK;
    ucp_request_free(request);
    give_back(s);
    if (slice)
        slice->done(slice, status_of(status));
}

static const ucx_region *region_of(const weft_transport *t, const void *payload, size_t bytes)
{
    for (const ucx_region *r = t->regions; r; r = r->next)
        if ((const char *)payload >= r->base && (const char *)payload + bytes <= r->base + r->bytes)
            return r;
    return NULL;
}

/* Returns the header's length. */
static size_t make_header(const weft_endpoint *e, ucx_header *h, const weft_slice *slice)
{
    ucx_slice_header now;
    uint32_t changed = 0, count = 0;
    memcpy(&now, slice->header, sizeof now);
    for (uint32_t i = 0; i < UCX_HEADER_WORDS; i++)
        if (now.words[i] != e->out.words[i]) {
            changed |= 1u << i;
            h->words[count++] = now.words[i];
        }
    h->job = weft_ucx_job(e->transport);
    h->origin = (uint32_t)e->transport->config.rank | changed << UCX_RANK_BITS;
    h->number = e->sent;
    return UCX_HEADER_BYTES + count * sizeof h->words[0];
}

/* Gives it to UCX: a request, NULL when it is sent already, or an error. */
static ucs_status_ptr_t start(weft_endpoint *e, ucx_send *s, const weft_slice *slice)
{
    size_t header_bytes = make_header(e, &s->header, slice);
    weft_transport *t = e->transport;
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA, .cb.send = on_sent,
                                 .user_data = s};
    if (slice->bytes <= UCX_PIECE_BYTES) {
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
        param.flags = UCP_AM_SEND_FLAG_EAGER;
        if (slice->bytes <= UCX_SMALL_BYTES) {
            if (slice->bytes)
                memcpy((char *)s + header_bytes, slice->payload, slice->bytes);
            return ucp_am_send_nbx(e->ep, UCX_AM_SMALL, NULL, 0, s, header_bytes + slice->bytes, &param);
        }
        header_bytes = weft_ucx_piece_header(header_bytes);
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
        param.datatype = ucp_dt_make_iov();
        s->parts[0] = (ucp_dt_iov_t){.buffer = &s->header, .length = header_bytes};
        s->parts[1] = (ucp_dt_iov_t){.buffer = (void *)(uintptr_t)slice->payload, .length = slice->bytes};
        return ucp_am_send_nbx(e->ep, UCX_AM_PIECE, NULL, 0, s->parts, ARRAY_LEN(s->parts), &param);
    }
    const ucx_region *region = t->regions ? region_of(t, slice->payload, slice->bytes) : NULL;
    if (region) {
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
        param.memh = region->memory;
    }
    return ucp_am_send_nbx(e->ep, UCX_AM_SLICE, &s->header, header_bytes, slice->payload, slice->bytes, &param);
}

weft_status weft_ucx_send(weft_endpoint *e, weft_slice *slice)
{
    weft_transport *t = e->transport;
    weft_status status = need_ep(e);
    if (status != WEFT_OK)
        return status;
    ucx_send *s = take_send(t);
    if (!s)
        return weft_ucx_fail(t, WEFT_ERR_MEMORY, "ucx: no memory for a slice to rank %d", e->rank);
    s->endpoint = e;
    s->slice = slice;
    s->next = e->sends;
    s->link = &e->sends;
    if (s->next)
        s->next->link = &s->next;
    e->sends = s;
    ucs_status_ptr_t request = start(e, s, slice);
    if (UCS_PTR_IS_ERR(request)) {
        char what[64];
        give_back(s);
        snprintf(what, sizeof what, "ucx: sending to rank %d", e->rank);
        return weft_ucx_fail_ucs(t, UCS_PTR_STATUS(request), what);
    }
    e->sent++;
    memcpy(&e->out, slice->header, sizeof e->out);
    if (request) {
        t->pending++;
        return WEFT_OK;
    }
    e->up = true;
    give_back(s);
    slice->done(slice, WEFT_OK);
    return WEFT_OK;
}

/* ---- the end ----------------------------------------------------------------------------------- */

/* Drives UCX until the request is over, for a limited time. */
static void settle(weft_transport *t, void *request, int64_t deadline_ns)
{
    if (!request || UCS_PTR_IS_ERR(request))
        return;
    bool muted = t->muted;
    t->muted = true;
    while (ucp_request_check_status(request) == UCS_INPROGRESS && weft_now_ns() < deadline_ns)
        ucp_worker_progress(t->worker);
    t->muted = muted;
    ucp_request_free(request);
}

void weft_ucx_leave(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    ucx_header h = {.job = weft_ucx_job(t), .origin = (uint32_t)t->config.rank, .number = e->sent};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_EAGER};
    if (!e->ep || e->failed || e->broken != UCS_OK)
        return;
    /* No flush of the endpoint: it would wait for the peer, who may be busy with something else. */
    settle(t, ucp_am_send_nbx(e->ep, UCX_AM_LEAVE, &h, UCX_HEADER_BYTES, NULL, 0, &param), weft_now_ns() + CLOSE_NS);
}

/* Drives UCX, without the sink, until the endpoint is made or nothing is under way on it, for a limited time. */
static void settle_endpoint(weft_endpoint *e, bool until_empty)
{
    weft_transport *t = e->transport;
    int64_t deadline = weft_now_ns() + (until_empty ? CLOSE_NS : MAKE_NS);
    bool muted = t->muted;
    t->muted = true;
    while (e->sends && (until_empty || !e->up) && e->broken == UCS_OK && weft_now_ns() < deadline)
        ucp_worker_progress(t->worker);
    while (until_empty && e->sends && weft_now_ns() < deadline)
        ucp_worker_progress(t->worker);
    t->muted = muted;
}

/* UCX 1.13 aborts the process when an endpoint is closed by force before it is made. It stays then, and its worker, too. */
static void close_ep(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    if (!e->ep)
        return;
    if (!e->up)
        settle_endpoint(e, false);
    if (!e->up) {
        t->stuck = true;
        return;
    }
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = e->forceable ? UCP_EP_CLOSE_FLAG_FORCE : 0};
    settle(t, ucp_ep_close_nbx(e->ep, &param), weft_now_ns() + CLOSE_NS);
    e->ep = NULL;
    settle_endpoint(e, true);
}

void weft_ucx_disconnect(weft_endpoint *e, weft_status status)
{
    weft_slice *first = NULL, **end = &first;
    for (ucx_send *s = e->sends; s; s = s->next) { /* done when UCX has let go of all of them */
        if (!s->slice)
            continue;
        s->slice->next = NULL;
        *end = s->slice;
        end = &s->slice->next;
        s->slice = NULL;
    }
    close_ep(e);
    while (first) {
        weft_slice *slice = first;
        first = slice->next;
        slice->done(slice, status);
    }
}

/* ---- memory ------------------------------------------------------------------------------------ */

weft_status weft_ucx_register(weft_transport *t, void *base, size_t bytes, void **handle)
{
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH, .address = base, .length = bytes};
    ucx_region *r = weft_alloc(sizeof *r);
    if (!r)
        return weft_ucx_fail(t, WEFT_ERR_MEMORY, "ucx: no memory to note a buffer");
    ucs_status_t status = ucp_mem_map(t->context, &params, &r->memory);
    if (status != UCS_OK) {
        weft_free(r);
        return weft_ucx_fail_ucs(t, status, "ucx: registering memory");
    }
    r->base = base;
    r->bytes = bytes;
    r->next = t->regions;
    t->regions = r;
    *handle = r;
    return WEFT_OK;
}

void weft_ucx_deregister(weft_transport *t, void *handle)
{
    ucx_region **at = &t->regions;
    while (*at && *at != handle)
        at = &(*at)->next;
    if (!*at)
        return;
    ucx_region *r = *at;
    *at = r->next;
    ucp_mem_unmap(t->context, r->memory);
    weft_free(r);
}

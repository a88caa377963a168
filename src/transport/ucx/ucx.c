/* The transport "ucx": its table and its instances, each with a UCP worker of its own. Slices are send.c's and receive.c's. */
#include "transport/ucx/ucx.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 8, BROKEN_NS = 300 * WEFT_NS_PER_MS, LEFT_NS = 2000 * WEFT_NS_PER_MS };
#define MAGIC 0x7863755f74666577u /* "weft_ucx" */

typedef struct ucx_address {
    uint64_t magic, hash; /* UCX takes an address as it is: it must not be anything else */
    uint32_t bytes, unused;
} ucx_address;

weft_status weft_ucx_fail(const weft_transport *t, weft_status status, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return t->config.fail(status, text);
}

weft_status weft_ucx_fail_ucs(const weft_transport *t, ucs_status_t status, const char *what)
{
    weft_status ours = WEFT_ERR_SYSTEM;
    if (status == UCS_ERR_NO_MEMORY)
        ours = WEFT_ERR_MEMORY;
    else if (status == UCS_ERR_UNSUPPORTED || status == UCS_ERR_UNREACHABLE || status == UCS_ERR_NO_DEVICE)
        ours = WEFT_ERR_UNSUPPORTED;
    else if (status == UCS_ERR_CONNECTION_RESET || status == UCS_ERR_ENDPOINT_TIMEOUT || status == UCS_ERR_NOT_CONNECTED)
        ours = WEFT_ERR_PEER;
    return weft_ucx_fail(t, ours, "%s: %s (UCX_TLS and UCX_NET_DEVICES say what UCX uses)", what, ucs_status_string(status));
}

void weft_ucx_broke(weft_endpoint *e, ucs_status_t status)
{
    if (e->broken == UCS_OK) {
        e->broken = status;
        e->broken_ns = weft_now_ns();
    }
    e->transport->troubled = true;
}

/* ---- beginning and end ------------------------------------------------------------------------- */

static void ucx_close(weft_transport *t)
{
    if (t->closed)
        return;
    t->muted = true;
    for (int r = 0; t->peers && t->worker && r < t->config.ranks; r++)
        if (!t->peers[r].sends)
            weft_ucx_leave(&t->peers[r]);
    t->closed = true;
    for (int r = 0; t->peers && t->worker && r < t->config.ranks; r++) {
        weft_endpoint *e = &t->peers[r];
        weft_ucx_disconnect(e, WEFT_ERR_ABORTED);
        weft_ucx_drop_arrivals(e);
    }
    for (int64_t end = weft_now_ns() + BROKEN_NS; t->worker && t->pending > 0 && weft_now_ns() < end;)
        ucp_worker_progress(t->worker); /* payloads that land: after this nobody writes to the caller's memory */
    t->stuck |= t->pending > 0;
}

static void ucx_destroy(weft_transport *t)
{
    if (!t)
        return;
    ucx_close(t);
    if (t->stuck) { /* what it may still point to stays until the process ends */
        t->config.log(2, "ucx: a worker whose connections were not made yet, or with something under way, is left behind");
        return;
    }
    if (t->address)
        ucp_worker_release_address(t->worker, t->address);
    while (t->regions)
        weft_ucx_deregister(t, t->regions);
    if (t->worker)
        ucp_worker_destroy(t->worker);
    if (t->context)
        ucp_cleanup(t->context);
    for (int r = 0; t->peers && r < t->config.ranks; r++) {
        weft_endpoint *e = &t->peers[r];
        weft_free(e->address);
        for (ucx_arrival *a = e->landing, *next; a; a = next) {
            next = a->next;
            if (a->own)
                weft_free(a->memory);
            weft_free(a);
        }
        for (ucx_send *s = e->sends, *next; s; s = next) {
            next = s->next;
            weft_free(s);
        }
    }
    for (ucx_send *s = t->free_sends, *next; s; s = next) {
        next = s->next;
        weft_free(s);
    }
    weft_free(t->peers);
    weft_free(t);
}

static weft_status start_ucx(weft_transport *t)
{
    ucp_config_t *settings;
    ucs_status_t status = ucp_config_read(NULL, NULL, &settings);
    if (status != UCS_OK)
        return weft_ucx_fail_ucs(t, status, "ucx: reading UCX_* settings");
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS | UCP_PARAM_FIELD_NAME,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP, .estimated_num_eps = (size_t)t->config.ranks,
                           .name = "weft"};
    status = ucp_init(&params, settings, &t->context);
    ucp_config_release(settings);
    if (status != UCS_OK)
        return weft_ucx_fail_ucs(t, status, "ucx: opening UCX");
    ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    status = ucp_worker_create(t->context, &worker, &t->worker);
    if (status == UCS_OK)
        status = ucp_worker_get_efd(t->worker, &t->fd);
    if (status == UCS_OK)
        status = ucp_worker_get_address(t->worker, &t->address, &t->address_bytes);
    if (status != UCS_OK)
        return weft_ucx_fail_ucs(t, status, "ucx: creating a worker");
    if (t->address_bytes + sizeof(ucx_address) > WEFT_TRANSPORT_ADDRESS_MAX)
        return weft_ucx_fail(t, WEFT_ERR_UNSUPPORTED,
                             "ucx: the worker's address has %zu bytes, at most %zu fit: let UCX use fewer devices "
                             "(UCX_NET_DEVICES, UCX_TLS)",
                             t->address_bytes, WEFT_TRANSPORT_ADDRESS_MAX - sizeof(ucx_address));
    return weft_ucx_listen(t);
}

static weft_status ucx_open(const weft_transport_config *config, weft_transport **out)
{
    weft_transport *t = weft_alloc(sizeof *t);
    if (!t)
        return config->fail(WEFT_ERR_MEMORY, "ucx: no memory for a transport");
    t->config = *config;
    t->fd = -1;
    if (config->ranks > 1 << UCX_RANK_BITS) {
        weft_free(t);
        return config->fail(WEFT_ERR_UNSUPPORTED, "ucx: more than 1048576 ranks; use tcp");
    }
    t->peers = weft_alloc_array((size_t)config->ranks, sizeof *t->peers);
    for (int r = 0; t->peers && r < config->ranks; r++) {
        t->peers[r].transport = t;
        t->peers[r].rank = r;
        t->peers[r].landing_end = &t->peers[r].landing;
        t->peers[r].waiting_end = &t->peers[r].waiting;
    }
    weft_status status =
        t->peers ? start_ucx(t) : weft_ucx_fail(t, WEFT_ERR_MEMORY, "ucx: no memory for %d peers", config->ranks);
    if (status == WEFT_OK)
        *out = t;
    else
        ucx_destroy(t);
    return status;
}

/* ---- addresses --------------------------------------------------------------------------------- */

static weft_status ucx_address_of(weft_transport *t, void *address, size_t *bytes)
{
    ucx_address own = {
        .magic = MAGIC, .hash = weft_hash(t->address, t->address_bytes, MAGIC), .bytes = (uint32_t)t->address_bytes};
    if (*bytes < sizeof own + t->address_bytes)
        return weft_ucx_fail(t, WEFT_ERR_INVALID, "ucx: the address needs %zu bytes, there are %zu",
                             sizeof own + t->address_bytes, *bytes);
    memcpy(address, &own, sizeof own);
    memcpy((char *)address + sizeof own, t->address, t->address_bytes);
    *bytes = sizeof own + t->address_bytes;
    return WEFT_OK;
}

static weft_status ucx_reachable(weft_transport *t, int peer, const void *address, size_t bytes, weft_path_info *info)
{
    ucx_address theirs;
    if (bytes <= sizeof theirs)
        return weft_ucx_fail(t, WEFT_ERR_UNSUPPORTED, "ucx: rank %d has not opened this transport", peer);
    memcpy(&theirs, address, sizeof theirs);
    const char *blob = (const char *)address + sizeof theirs;
    if (theirs.magic != MAGIC || theirs.bytes != bytes - sizeof theirs || theirs.hash != weft_hash(blob, theirs.bytes, MAGIC))
        return weft_ucx_fail(t, WEFT_ERR_UNSUPPORTED, "ucx: what rank %d gave is no address", peer);
    if (info)
        *info = (weft_path_info){.latency_ns = 15000, .bandwidth_Bps = 2e9, .name = "ucx"};
    return WEFT_OK;
}

static weft_status ucx_connect(weft_transport *t, int peer, const void *address, size_t bytes, weft_endpoint **out)
{
    if (peer < 0 || peer >= t->config.ranks || peer == t->config.rank || t->closed)
        return weft_ucx_fail(t, WEFT_ERR_INVALID, "ucx: no way to rank %d of %d", peer, t->config.ranks);
    weft_status status = ucx_reachable(t, peer, address, bytes, NULL);
    weft_endpoint *e = &t->peers[peer];
    if (status != WEFT_OK)
        return status;
    if (!e->address) {
        e->address = weft_alloc(bytes - sizeof(ucx_address));
        if (!e->address)
            return weft_ucx_fail(t, WEFT_ERR_MEMORY, "ucx: no memory for the address of rank %d", peer);
        memcpy(e->address, (const char *)address + sizeof(ucx_address), bytes - sizeof(ucx_address));
    }
    *out = e;
    return WEFT_OK;
}

/* ---- slices and progress ----------------------------------------------------------------------- */

static weft_status ucx_send_slice(weft_endpoint *e, weft_slice *slice)
{
    if (e->transport->closed)
        return weft_ucx_fail(e->transport, WEFT_ERR_ABORTED, "ucx: send to rank %d after close", e->rank);
    if (e->failed || e->broken != UCS_OK || e->left)
        return weft_ucx_fail(e->transport, WEFT_ERR_PEER, "ucx: the connection to rank %d is lost", e->rank);
    return weft_ucx_send(e, slice);
}

/* A peer that closed or broke is reported when all it sent is read, or will not come. */
static void end_if_over(weft_endpoint *e)
{
    weft_transport *t = e->transport;
    if (e->failed || (!e->left && e->broken == UCS_OK))
        return;
    bool complete = e->left && e->expected == e->left_count && !e->landing && !e->waiting;
    bool late = (e->left && weft_now_ns() - e->left_ns > LEFT_NS) ||
                (e->broken != UCS_OK && (e->broken == UCS_ERR_NO_MEMORY || weft_now_ns() - e->broken_ns > BROKEN_NS));
    if (!complete && !late)
        return;
    weft_status status = e->broken == UCS_ERR_NO_MEMORY ? WEFT_ERR_MEMORY : WEFT_ERR_PEER;
    snprintf(e->reason, sizeof e->reason, "rank %d over ucx: %s", e->rank,
             e->left ? "closed by it" : ucs_status_string(e->broken));
    e->failed = true;
    weft_ucx_disconnect(e, WEFT_ERR_PEER);
    weft_ucx_drop_arrivals(e);
    t->moved++;
    t->config.sink.failed(t->config.sink.context, e->rank, status, e->reason);
}

/* When something came, or waits for its turn or its end. */
static __attribute__((noinline)) int go_on(weft_transport *t)
{
    for (int i = 1; i < ROUNDS && t->moved == 0 && ucp_worker_progress(t->worker) > 0; i++)
        ;
    for (int r = 0; t->kept && r < t->config.ranks; r++)
        if (weft_ucx_has_arrivals(&t->peers[r])) /* that came while the sink could not be called */
            weft_ucx_deliver(&t->peers[r]);
    for (int r = 0; t->troubled && r < t->config.ranks; r++)
        end_if_over(&t->peers[r]);
    return t->moved;
}

static int ucx_progress(weft_transport *t)
{
    if (t->closed)
        return 0;
    t->moved = 0;
    unsigned events = ucp_worker_progress(t->worker);
    if ((events == 0 || t->moved > 0) && t->kept == 0 && !t->troubled) /* the common ways, without a detour */
        return t->moved;
    return go_on(t);
}

static int ucx_wait_fd(weft_transport *t)
{
    return t->fd;
}

static weft_status ucx_arm(weft_transport *t)
{
    for (int r = 0; (t->kept || t->troubled) && r < t->config.ranks; r++) {
        const weft_endpoint *e = &t->peers[r];
        if (weft_ucx_has_arrivals(e) || (!e->failed && (e->left || e->broken != UCS_OK)))
            return WEFT_IN_PROGRESS;
    }
    return ucp_worker_arm(t->worker) == UCS_OK ? WEFT_OK : WEFT_IN_PROGRESS;
}

static void ucx_abandon(weft_endpoint *e)
{
    e->failed = true;
    weft_ucx_disconnect(e, WEFT_ERR_PEER);
    weft_ucx_drop_arrivals(e);
}

static weft_status ucx_flush(weft_transport *t, int64_t timeout_ms)
{
    int64_t deadline = weft_deadline_ns(timeout_ms);
    bool muted = t->muted;
    const weft_endpoint *waiting = NULL;
    t->muted = true;
    for (;;) {
        waiting = NULL;
        for (int r = 0; r < t->config.ranks && !waiting; r++)
            waiting = t->peers[r].sends ? &t->peers[r] : NULL;
        if (!waiting || weft_now_ns() > deadline)
            break;
        if (ucp_worker_progress(t->worker) == 0 && ucp_worker_arm(t->worker) == UCS_OK) {
            struct pollfd fd = {.fd = t->fd, .events = POLLIN};
            poll(&fd, 1, 1);
        }
    }
    t->muted = muted;
    return waiting ? weft_ucx_fail(t, WEFT_ERR_TIMEOUT, "ucx: slices to rank %d are not sent yet", waiting->rank) : WEFT_OK;
}

const weft_transport_ops weft_transport_plugin = {
    .abi = WEFT_TRANSPORT_ABI, .size = sizeof(weft_transport_ops), .name = "ucx",
    .open = ucx_open, .address = ucx_address_of, .reachable = ucx_reachable, .connect = ucx_connect,
    .send = ucx_send_slice, .progress = ucx_progress, .wait_fd = ucx_wait_fd, .arm = ucx_arm, .abandon = ucx_abandon,
    .mem_register = weft_ucx_register, .mem_deregister = weft_ucx_deregister,
    .close = ucx_close, .flush = ucx_flush, .destroy = ucx_destroy,
};

/* The verbs transport: its table of operations, its instances, progress and waiting. What a link does is link.c's, send.c's and
 * receive.c's. */
#define _GNU_SOURCE
#include "transport/verbs/verbs.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    CONTROL_EVERY = 128,           /* rounds in which nothing came, between looks at the control channel */
    CONTROL_EVERY_BUSY = 1024,     /* rounds, whatever came */
    EVENTS_EVERY = 4096,           /* ... between looks at asynchronous events: a system call per port */
    FLUSH_NAP_MS = 1
};

static verbs_transport *instance(weft_transport *t)
{
    return (verbs_transport *)(void *)t;
}

static weft_transport *as_transport(verbs_transport *t)
{
    return (weft_transport *)(void *)t;
}

/* ---- lists of links --------------------------------------------------------------------------------- */

void weft_verbs_attend(verbs_link *link)
{
    verbs_transport *t = link->transport;
    if (link->attending)
        return;
    link->attending = true;
    link->next_attending = t->attending;
    t->attending = link;
}

void weft_verbs_stall(verbs_link *link)
{
    verbs_transport *t = link->transport;
    if (link->stalled)
        return;
    link->stalled = true;
    link->next_stalled = t->stalled;
    t->stalled = link;
}

/* ---- open, close, destroy ------------------------------------------------------------------------------ */

static void verbs_close(weft_transport *transport)
{
    verbs_transport *t = instance(transport);
    if (t->closed)
        return;
    t->closed = true;
    for (int peer = 0; t->links && peer < t->config.ranks; peer++) {
        if (!t->links[peer])
            continue;
        weft_verbs_link_release(t->links[peer]);
        weft_verbs_link_drop_slices(t->links[peer], WEFT_ERR_ABORTED);
    }
    if (t->control)
        t->control_ops->close(t->control);
}

static void verbs_destroy(weft_transport *transport)
{
    verbs_transport *t = instance(transport);
    if (!t)
        return;
    verbs_close(transport);
    for (int peer = 0; t->links && peer < t->config.ranks; peer++)
        weft_verbs_link_free(t->links[peer]);
    while (t->free_incoming) {
        verbs_incoming *in = t->free_incoming;
        t->free_incoming = in->next;
        weft_free(in);
    }
    weft_verbs_regions_close(t);
    weft_verbs_stage_close(t, &t->send_stage);
    weft_verbs_stage_close(t, &t->receive_stage);
    weft_verbs_ports_close(t);
    if (t->control)
        t->control_ops->destroy(t->control);
    if (t->epoll >= 0)
        close(t->epoll);
    weft_free(t->links);
    weft_free(t->outgoing);
    weft_free(t->moving);
    weft_free(t->backlog);
    weft_settings_unload(&t->settings);
    weft_free(t);
}

static weft_status check_config(const weft_transport_config *config)
{
    if (!config || config->size < sizeof *config)
        return weft_fail(WEFT_ERR_INVALID, "verbs: the configuration's size is not set");
    if (config->ranks < 1 || config->rank < 0 || config->rank >= config->ranks)
        return weft_fail(WEFT_ERR_INVALID, "verbs: rank %d of %d", config->rank, config->ranks);
    if (!config->sink.arrived || !config->sink.failed)
        return weft_fail(WEFT_ERR_INVALID, "verbs: the sink has no arrived or no failed");
    return WEFT_OK;
}

static weft_status check_settings(const weft_settings *s)
{
    if (s->ib_mtu != 0 && s->ib_mtu != 256 && s->ib_mtu != 512 && s->ib_mtu != 1024 && s->ib_mtu != 2048 && s->ib_mtu != 4096)
        return weft_fail(WEFT_ERR_INVALID, "WEFT_IB_MTU %lld: 256, 512, 1024, 2048 or 4096", (long long)s->ib_mtu);
    const struct {
        const char *name;
        int64_t value;
        int least, most;
    } ranges[] = {{"WEFT_IB_TC", s->ib_tc, 0, 255}, {"WEFT_IB_SL", s->ib_sl, 0, 15}, {"WEFT_IB_PKEY", s->ib_pkey, 0, UINT16_MAX},
                  {"WEFT_IB_GID_INDEX", s->ib_gid_index, -1, 255},
                  {"WEFT_IB_TIMEOUT", s->ib_timeout, 1, 31}}; /* 0 is "for ever" for adapters */
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (ranges[i].value < ranges[i].least || ranges[i].value > ranges[i].most)
            return weft_fail(WEFT_ERR_INVALID, "%s %lld: from %d to %d", ranges[i].name, (long long)ranges[i].value,
                             ranges[i].least, ranges[i].most);
    return weft_verbs_list_check(s->ib_hca);
}

/* The control channel: a tcp instance of the same rank and job. */
static weft_status open_control(verbs_transport *t)
{
    t->control_ops = weft_transport_find("tcp");
    weft_transport_config config = t->config;
    config.sink = (weft_sink){.context = t, .arrived = weft_verbs_control_arrived, .failed = weft_verbs_control_failed};
    config.sockets = 1;
    weft_status status = t->control_ops->open(&config, &t->control);
    if (status != WEFT_OK)
        return weft_fail_context(status, "verbs: its control channel");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = t};
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->control_ops->wait_fd(t->control), &event) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "verbs: cannot watch the control channel");
    return WEFT_OK;
}

static weft_status make_tables(verbs_transport *t)
{
    for (int i = 0; i < t->port_count; i++)
        t->backlog_max += t->ports[i].blocks_max * VERBS_BLOCK_BUFFERS;
    t->links = weft_alloc_array((size_t)t->config.ranks, sizeof *t->links);
    t->outgoing = weft_alloc_array(VERBS_MOVING_MAX, sizeof *t->outgoing);
    t->moving = weft_alloc_array(VERBS_MOVING_MAX, sizeof *t->moving);
    t->backlog = weft_alloc_array((size_t)t->backlog_max, sizeof *t->backlog);
    if (!t->links || !t->outgoing || !t->moving || !t->backlog)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the verbs transport's %d links", t->config.ranks);
    for (int i = VERBS_MOVING_MAX - 1; i >= 0; i--) {
        t->outgoing[i].next = t->free_outgoing;
        t->free_outgoing = &t->outgoing[i];
    }
    return WEFT_OK;
}

/* Marks the ports of devices that other ranks of this host are nearer to. */
static weft_status leave_far_ports(verbs_transport *t)
{
    weft_near_device device[WEFT_VERBS_PORTS_MAX];
    for (int i = 0; i < t->port_count; i++)
        device[i] = (weft_near_device){.name = t->verbs->get_device_name(t->ports[i].context->device),
                                       .speed_Mbps = t->ports[i].card.speed_Mbps};
    weft_status status = weft_near_divide(&t->config, device, t->port_count);
    for (int i = 0; i < t->port_count; i++) {
        t->ports[i].card.far = device[i].far;
        if (device[i].far)
            weft_log(WEFT_LOG_INFO, "verbs: rank %d leaves %s to ranks that are nearer to it", t->config.rank,
                     t->ports[i].card.name);
    }
    return status;
}

static weft_status verbs_open(const weft_transport_config *config, weft_transport **out)
{
    weft_status status = check_config(config);
    if (status != WEFT_OK)
        return status;
    verbs_transport *t = weft_alloc(sizeof *t);
    if (!t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the verbs transport");
    memcpy(&t->config, config, sizeof t->config);
    t->config.size = sizeof t->config;
    t->epoll = -1;
    status = weft_settings_load(&t->settings);
    if (status == WEFT_OK)
        status = check_settings(&t->settings);
    if (status == WEFT_OK)
        status = weft_verbs_library_get(&t->verbs);
    if (status == WEFT_OK && (t->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        status = weft_fail_errno(WEFT_ERR_SYSTEM, "cannot create the verbs transport's descriptor");
    if (status == WEFT_OK)
        status = weft_verbs_ports_open(t);
    if (status == WEFT_OK)
        status = leave_far_ports(t);
    if (status == WEFT_OK)
        status = make_tables(t);
    if (status == WEFT_OK)
        status = open_control(t);
    if (status != WEFT_OK) {
        verbs_destroy(as_transport(t));
        return status;
    }
    t->config.distances = NULL; /* its context ends here */
    *out = as_transport(t);
    return WEFT_OK;
}

/* ---- addresses and endpoints -------------------------------------------------------------------------------- */

weft_status weft_verbs_own_address(verbs_transport *t, void *address, size_t *bytes)
{
    unsigned char control[WEFT_TRANSPORT_ADDRESS_MAX];
    weft_verbs_address own = {.count = t->port_count, .control = control, .control_bytes = sizeof control};
    for (int i = 0; i < t->port_count; i++)
        own.ports[i] = t->ports[i].card;
    weft_status status = t->control_ops->address(t->control, control, &own.control_bytes);
    return status == WEFT_OK ? weft_verbs_address_encode(&own, address, bytes) : status;
}

static weft_status verbs_address(weft_transport *transport, void *address, size_t *bytes)
{
    return weft_verbs_own_address(instance(transport), address, bytes);
}

static void describe(const verbs_transport *t, const weft_verbs_pair *pairs, int count, weft_path_info *info)
{
    enum { LATENCY_NS = 2000 };
    memset(info, 0, sizeof *info);
    info->latency_ns = LATENCY_NS;
    for (int i = 0; i < count; i++)
        info->bandwidth_Bps += t->ports[pairs[i].mine].card.speed_Mbps * 1e6 / 8;
    for (int i = 0; i < t->port_count; i++) /* the host's ranks together use these, too */
        info->bandwidth_Bps += t->ports[i].card.far ? t->ports[i].card.speed_Mbps * 1e6 / 8 : 0;
    int n = snprintf(info->name, sizeof info->name, "verbs %.40s", t->ports[pairs[0].mine].card.name);
    if (count > 1 && n > 0 && (size_t)n < sizeof info->name)
        snprintf(info->name + n, sizeof info->name - (size_t)n, " x%d", count);
}

static weft_status verbs_reachable(weft_transport *transport, int peer, const void *address, size_t bytes, weft_path_info *info)
{
    verbs_transport *t = instance(transport);
    weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX];
    weft_verbs_address theirs;
    int count;
    weft_status status = weft_verbs_pairs_find(t, peer, address, bytes, &theirs, pairs, &count);
    if (status == WEFT_OK)
        status = t->control_ops->reachable(t->control, peer, theirs.control, theirs.control_bytes, NULL);
    if (status != WEFT_OK)
        return weft_fail_context(status, "verbs to rank %d", peer);
    if (info)
        describe(t, pairs, count, info);
    return WEFT_OK;
}

static weft_status verbs_connect(weft_transport *transport, int peer, const void *address, size_t bytes, weft_endpoint **out)
{
    verbs_transport *t = instance(transport);
    verbs_link *link;
    if (t->closed)
        return weft_fail(WEFT_ERR_USAGE, "connect to rank %d on a closed verbs transport", peer);
    if (peer < 0 || peer >= t->config.ranks || peer == t->config.rank)
        return weft_fail(WEFT_ERR_INVALID, "verbs: rank %d is no peer of rank %d of %d", peer, t->config.rank, t->config.ranks);
    weft_status status = weft_verbs_link_get(t, peer, &link);
    if (status == WEFT_OK && link->connected)
        status = weft_fail(WEFT_ERR_USAGE, "the endpoint to rank %d exists already", peer);
    if (status == WEFT_OK && !link->known && link->state != VERBS_FAILED) /* else the peer's greeting said it all */
        status = weft_verbs_link_know(link, address, bytes);
    if (status != WEFT_OK)
        return status;
    link->connected = true;
    *out = (weft_endpoint *)(void *)link;
    return WEFT_OK;
}

static weft_status verbs_send(weft_endpoint *e, weft_slice *slice)
{
    return weft_verbs_send((verbs_link *)(void *)e, slice);
}

static void verbs_abandon(weft_endpoint *e)
{
    verbs_link *link = (verbs_link *)(void *)e;
    verbs_transport *t = link->transport;
    link->reported = true;
    link->control_lost = true; /* there is nobody to tell */
    weft_verbs_link_fail(link, WEFT_ERR_PEER, "rank %d is dead", link->peer);
    weft_verbs_link_drop_slices(link, WEFT_ERR_PEER);
    if (link->control && !t->closed)
        t->control_ops->abandon(link->control);
}

/* ---- progress --------------------------------------------------------------------------------------------------- */

static int poll_ports(verbs_transport *t, bool deliver, int *completions)
{
    int arrived = 0;
    for (int i = 0; i < t->port_count; i++)
        arrived += weft_verbs_poll(&t->ports[i], deliver, completions);
    return arrived;
}

/* The peer is gone; what it sent before is in the completion queues by now. */
static int read_last(verbs_link *link)
{
    verbs_transport *t = link->transport;
    int arrived = 0, completions;
    do {
        completions = 0;
        arrived += poll_ports(t, true, &completions);
    } while (completions > 0 && link->state != VERBS_FAILED);
    if (link->state != VERBS_FAILED) {
        char reason[VERBS_REASON_BYTES];
        memcpy(reason, link->reason, sizeof reason);
        weft_verbs_link_fail(link, link->status, "%s", reason);
    }
    return arrived;
}

static int attend_one(verbs_link *link)
{
    verbs_transport *t = link->transport;
    int moved = 0;
    if (link->control_lost && link->state != VERBS_FAILED)
        moved += read_last(link);
    if (link->state == VERBS_FAILED) {
        if (!link->reported) { /* before the slices' ends, which do not say why */
            link->reported = true;
            t->config.sink.failed(t->config.sink.context, link->peer, link->status, link->reason);
        }
        weft_verbs_link_drop_slices(link, link->status);
        return moved;
    }
    if (link->state == VERBS_IDLE && link->queue)
        weft_verbs_link_meet(link);
    return moved + weft_verbs_pump(link);
}

/* What waits for progress(); what is added meanwhile has its turn in the next round, but for failures. */
static int attend_all(verbs_transport *t)
{
    int moved = 0;
    verbs_link *list = t->attending;
    t->attending = NULL;
    while (list) {
        verbs_link *link = list;
        list = link->next_attending;
        link->attending = false;
        moved += attend_one(link);
    }
    return moved;
}

static int pump_stalled(verbs_transport *t)
{
    int moved = 0;
    verbs_link *list = t->stalled;
    t->stalled = NULL;
    while (list) {
        verbs_link *link = list;
        list = link->next_stalled;
        link->stalled = false;
        moved += weft_verbs_pump(link);
    }
    return moved;
}

static int verbs_progress(weft_transport *transport)
{
    verbs_transport *t = instance(transport);
    int moved = 0, completions = 0;
    if (t->closed)
        return 0;
    t->round++;
    if (weft_verbs_has_backlog(t)) {
        moved += weft_verbs_backlog_run(t);
        for (int i = 0; i < t->port_count; i++)
            weft_verbs_repost_flush(&t->ports[i]);
    }
    moved += poll_ports(t, true, &completions);
    if (t->unsettled || t->look_at_control || (completions == 0 && t->round % CONTROL_EVERY == 0) ||
        t->round % CONTROL_EVERY_BUSY == 0) {
        t->control_ops->progress(t->control);
        weft_verbs_regions_expire(t);
    }
    if (t->look_at_control || t->round % EVENTS_EVERY == 0)
        weft_verbs_events(t);
    t->look_at_control = false;
    if (t->attending)
        moved += attend_all(t);
    if (t->stalled && (completions > 0 || t->freed)) {
        t->freed = false;
        moved += pump_stalled(t);
    }
    return moved;
}

static int verbs_wait_fd(weft_transport *transport)
{
    return instance(transport)->epoll;
}

/* Asks one port to report the next completion; true: there is one already, put aside for progress(). */
static bool arm_port(verbs_port *port)
{
    const weft_verbs_library *v = port->transport->verbs;
    struct ibv_cq *cq;
    void *user;
    if (port->aside_first < port->aside_end)
        return true;
    if (port->armed && v->get_cq_event(port->channel, &cq, &user) == 0) {
        port->armed = false;
        if (++port->events == UINT16_MAX) { /* acknowledging is costly, so not each by itself */
            v->ack_cq_events(port->cq, port->events);
            port->events = 0;
        }
    }
    if (!port->armed && ibv_req_notify_cq(port->cq, 0) == 0)
        port->armed = true;
    return weft_verbs_put_aside(port, 1) > 0;
}

static weft_status verbs_arm(weft_transport *transport)
{
    verbs_transport *t = instance(transport);
    if (t->closed)
        return WEFT_OK;
    t->look_at_control = true; /* what wakes the caller need not be a completion */
    if (t->attending || weft_verbs_has_backlog(t) || (t->stalled && t->freed))
        return WEFT_IN_PROGRESS;
    bool more = false;
    for (int i = 0; i < t->port_count; i++)
        more |= arm_port(&t->ports[i]);
    return more ? WEFT_IN_PROGRESS : t->control_ops->arm(t->control);
}

/* ---- flush --------------------------------------------------------------------------------------------------------- */

/* A rank with something on the way to it that its adapter does not have, -1: none. */
static int rank_not_flushed(verbs_transport *t)
{
    int late = -1;
    for (int peer = 0; peer < t->config.ranks; peer++) {
        verbs_link *link = t->links[peer];
        if (!link || link->state == VERBS_FAILED || link->control_lost || (link->state == VERBS_IDLE && !link->queue))
            continue;
        if (link->state == VERBS_IDLE)
            weft_verbs_link_meet(link);
        weft_verbs_pump(link);
        if (link->queue || link->offers > 0 || !weft_verbs_all_acknowledged(link))
            late = peer;
    }
    return late;
}

static weft_status verbs_flush(weft_transport *transport, int64_t timeout_ms)
{
    verbs_transport *t = instance(transport);
    int64_t deadline = weft_deadline_ns(timeout_ms);
    while (!t->closed) {
        int completions = 0;
        poll_ports(t, false, &completions);
        t->control_ops->progress(t->control);
        int peer = rank_not_flushed(t);
        if (peer < 0)
            break;
        if (weft_now_ns() >= deadline)
            return weft_fail(WEFT_ERR_TIMEOUT, "rank %d has not taken what was sent to it within %lld ms", peer,
                             (long long)timeout_ms);
        if (completions == 0)
            poll(NULL, 0, FLUSH_NAP_MS);
    }
    return t->closed ? WEFT_OK : t->control_ops->flush(t->control, timeout_ms);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

static weft_status verbs_mem_register(weft_transport *transport, void *base, size_t bytes, void **handle)
{
    return weft_verbs_region_add(instance(transport), base, bytes, -1, 0, handle);
}

static weft_status verbs_mem_register_dmabuf(weft_transport *transport, int fd, uint64_t offset, void *base, size_t bytes,
                                             void **handle)
{
    if (fd < 0)
        return weft_fail(WEFT_ERR_INVALID, "verbs: %d is no descriptor of a dma-buf", fd);
    return weft_verbs_region_add(instance(transport), base, bytes, fd, offset, handle);
}

static void verbs_mem_deregister(weft_transport *transport, void *handle)
{
    weft_verbs_region_remove(instance(transport), handle);
}

const weft_transport_ops weft_verbs_transport = {
    .abi = WEFT_TRANSPORT_ABI,
    .size = sizeof(weft_transport_ops),
    .name = "verbs",
    .open = verbs_open,
    .address = verbs_address,
    .reachable = verbs_reachable,
    .connect = verbs_connect,
    .send = verbs_send,
    .progress = verbs_progress,
    .wait_fd = verbs_wait_fd,
    .arm = verbs_arm,
    .abandon = verbs_abandon,
    .mem_register = verbs_mem_register,
    .mem_deregister = verbs_mem_deregister,
    .close = verbs_close,
    .flush = verbs_flush,
    .destroy = verbs_destroy,
    .mem_register_dmabuf = verbs_mem_register_dmabuf,
};

/* The transport "plugin": its table, its instances, waiting. Slices go through a NCCL network plugin by the connections of
 * link.c; plugin.h says how. */
#include "transport/plugin/plugin.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/near.h"
#include "transport/registry.h"

/* NCCL's plugins have no descriptor to wait on: who sleeps wakes up by himself, after longer and longer naps. */
enum { NAP_MIN_NS = 30000, NAP_MAX_NS = 1 * WEFT_NS_PER_MS, FLUSH_NAP_MS = 1, ADDRESS_MAGIC = 0x6e6c7078 };

typedef struct plugin_address {
    uint32_t magic, short_bytes, piece_bytes, devices;
    char name[WEFT_NET_NAME];  /* of the plugin: both sides need the same one */
    struct {
        uint32_t speed_Mbps, far;
    } device[WEFT_NET_RAILS_MAX];
} plugin_address;              /* the inner transport's address follows */

static plugin_transport *instance(weft_transport *t)
{
    return (plugin_transport *)(void *)t;
}

/* ---- beginning and end ------------------------------------------------------------------------- */

static void plugin_close(weft_transport *transport)
{
    plugin_transport *t = instance(transport);
    if (t->closed)
        return;
    t->closed = true;
    for (plugin_link *l = t->active; l; l = l->next)
        if (!l->failed)
            weft_plugin_control_leave(l);
    if (t->inner) {
        t->tcp->flush(t->inner, 0);
        t->tcp->close(t->inner);
    }
    for (plugin_link *l = t->active; l; l = l->next) {
        weft_plugin_link_discard(l);
        l->failed = l->told = true;
        weft_plugin_link_drop(l, WEFT_ERR_ABORTED);
    }
}

static void plugin_destroy(weft_transport *transport)
{
    plugin_transport *t = instance(transport);
    if (!t)
        return;
    plugin_close(transport);
    for (plugin_link *l = t->active, *next; l; l = next) {
        next = l->next;
        weft_plugin_link_free(l);
    }
    if (t->tcp)
        t->tcp->destroy(t->inner);
    weft_net_close(&t->net);
    if (t->timer >= 0)
        close(t->timer);
    if (t->epoll >= 0)
        close(t->epoll);
    weft_free(t->links);
    weft_free(t);
}

static weft_status open_inner(plugin_transport *t)
{
    weft_transport_config config = t->config;
    config.sink = weft_plugin_control_sink(t);
    config.sockets = 1;
    weft_status status = weft_transport_get("tcp", &t->tcp);
    return status == WEFT_OK ? t->tcp->open(&config, &t->inner) : status;
}

static weft_status open_descriptors(plugin_transport *t)
{
    struct epoll_event inner = {.events = EPOLLIN}, timer = {.events = EPOLLIN};
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (t->epoll < 0 || t->timer < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->timer, &timer) != 0 ||
        epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->tcp->wait_fd(t->inner), &inner) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot create the plugin transport's descriptors");
    return WEFT_OK;
}

/* Which devices are better left to other ranks of this host. */
static weft_status find_near(plugin_transport *t)
{
    weft_near_device device[WEFT_NET_RAILS_MAX];
    for (int i = 0; i < t->net.devices; i++) {
        const weft_net_device *d = &t->net.device[i];
        device[i] = (weft_near_device){.name = *d->pci_path ? d->pci_path : d->name, .speed_Mbps = (uint32_t)d->speed_Mbps};
    }
    weft_status status = weft_near_divide(&t->config, device, t->net.devices);
    for (int i = 0; i < t->net.devices && status == WEFT_OK; i++)
        t->far[i] = device[i].far;
    return status;
}

/* The plugin, and the devices of it that are used. */
static weft_status open_net(plugin_transport *t)
{
    weft_settings settings;
    weft_status status = weft_settings_load(&settings);
    if (status != WEFT_OK)
        return status;
    status = weft_net_open(t->config.net_plugin, settings.net_devices, t->config.job, &t->net);
    weft_settings_unload(&settings);
    return status == WEFT_OK ? find_near(t) : status;
}

static weft_status plugin_open(const weft_transport_config *config, weft_transport **out)
{
    if (!config || config->size < sizeof *config)
        return weft_fail(WEFT_ERR_INVALID, "plugin: the configuration's size is not set");
    plugin_transport *t = weft_alloc(sizeof *t);
    if (!t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the plugin transport");
    t->config = *config;
    t->epoll = t->timer = -1;
    t->nap_ns = NAP_MIN_NS;
    t->links = weft_alloc_array((size_t)config->ranks, sizeof *t->links);
    weft_status status = t->links ? open_net(t)
                                  : weft_fail(WEFT_ERR_MEMORY, "no memory for the plugin transport's %d links", config->ranks);
    if (status == WEFT_OK) {
        t->short_bytes = weft_min_size(WEFT_NET_SHORT_BYTES, t->net.message_bytes);
        t->piece_bytes = weft_min_size(WEFT_NET_PIECE_BYTES, t->net.message_bytes);
        status = open_inner(t);
    }
    if (status == WEFT_OK)
        status = open_descriptors(t);
    /* The caller's strings were needed for opening only. */
    t->config.interfaces = t->config.port_range = t->config.net_plugin = NULL;
    t->config.distances = NULL;
    if (status != WEFT_OK) {
        plugin_destroy((weft_transport *)(void *)t);
        return status;
    }
    *out = (weft_transport *)(void *)t;
    return WEFT_OK;
}

/* ---- addresses --------------------------------------------------------------------------------- */

static weft_status plugin_address_of(weft_transport *transport, void *address, size_t *bytes)
{
    plugin_transport *t = instance(transport);
    plugin_address own = {
        .magic = ADDRESS_MAGIC, .short_bytes = (uint32_t)t->short_bytes, .piece_bytes = (uint32_t)t->piece_bytes,
        .devices = (uint32_t)t->net.devices};
    if (*bytes < sizeof own)
        return weft_fail(WEFT_ERR_INVALID, "plugin: an address needs more than %zu bytes, there are %zu", sizeof own, *bytes);
    memcpy(own.name, t->net.name, sizeof own.name);
    for (int i = 0; i < t->net.devices; i++) {
        own.device[i].speed_Mbps = (uint32_t)t->net.device[i].speed_Mbps;
        own.device[i].far = t->far[i];
    }
    memcpy(address, &own, sizeof own);
    size_t inner = *bytes - sizeof own;
    weft_status status = t->tcp->address(t->inner, (char *)address + sizeof own, &inner);
    *bytes = sizeof own + inner;
    return status;
}

/* The rails to a peer: each of our devices goes with the one in the same place there, of these the ones that are near at both
 * ends, if there are none those at one end, else all. Fills device[] with their places; returns how many. */
static int find_rails(const plugin_transport *t, const plugin_address *theirs, int device[WEFT_NET_RAILS_MAX])
{
    int most = theirs->devices < (uint32_t)t->net.devices ? (int)theirs->devices : t->net.devices, least = 2, rails = 0;
    for (int i = 0; i < most; i++) {
        int far_ends = t->far[i] + (theirs->device[i].far != 0);
        least = far_ends < least ? far_ends : least;
    }
    for (int i = 0; i < most; i++)
        if (t->far[i] + (theirs->device[i].far != 0) == least)
            device[rails++] = i;
    return rails;
}

static uint32_t rail_speed(const plugin_transport *t, const plugin_address *theirs, int device)
{
    uint32_t here = (uint32_t)t->net.device[device].speed_Mbps, there = theirs->device[device].speed_Mbps;
    return here < there ? here : there;
}

static weft_status plugin_reachable(weft_transport *transport, int peer, const void *address, size_t bytes, weft_path_info *info)
{
    plugin_transport *t = instance(transport);
    plugin_address theirs;
    if (bytes <= sizeof theirs)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin: rank %d has not opened this transport", peer);
    memcpy(&theirs, address, sizeof theirs);
    if (theirs.magic != ADDRESS_MAGIC || theirs.devices < 1)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin: what rank %d gave is no address", peer);
    if (strncmp(theirs.name, t->net.name, sizeof theirs.name) != 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "rank %d uses plugin %.*s, rank %d uses %s: WEFT_NET_PLUGIN must name the same everywhere", peer,
                         (int)sizeof theirs.name - 1, theirs.name, t->config.rank, t->net.name);
    if (theirs.short_bytes != t->short_bytes || theirs.piece_bytes != t->piece_bytes)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin %s: its device sends %u bytes at a time on rank %d, but %zu on rank %d",
                         t->net.name, theirs.piece_bytes, peer, t->piece_bytes, t->config.rank);
    weft_status status = t->tcp->reachable(t->inner, peer, (const char *)address + sizeof theirs, bytes - sizeof theirs, NULL);
    if (status != WEFT_OK || !info)
        return status;
    int device[WEFT_NET_RAILS_MAX] = {0}, rails = find_rails(t, &theirs, device);
    uint32_t speed = 0;
    for (int i = 0; i < rails; i++)
        speed += rail_speed(t, &theirs, device[i]);
    *info = (weft_path_info){.latency_ns = t->net.latency_ns > 0 ? t->net.latency_ns : 30000,
                             .bandwidth_Bps = speed > 0 ? speed * 1e6 / 8 : 1.25e9};
    int n = snprintf(info->name, sizeof info->name, "plugin %.20s %.28s", t->net.name, t->net.device[device[0]].name);
    if (rails > 1)
        snprintf(info->name + n, sizeof info->name - (size_t)n, " x%d", rails);
    return WEFT_OK;
}

static weft_status plugin_connect(weft_transport *transport, int peer, const void *address, size_t bytes, weft_endpoint **out)
{
    plugin_transport *t = instance(transport);
    plugin_link *l;
    if (t->closed)
        return weft_fail(WEFT_ERR_USAGE, "connect to rank %d on a closed plugin transport", peer);
    if (peer < 0 || peer >= t->config.ranks || peer == t->config.rank)
        return weft_fail(WEFT_ERR_INVALID, "plugin: rank %d is no peer of rank %d of %d", peer, t->config.rank, t->config.ranks);
    weft_status status = plugin_reachable(transport, peer, address, bytes, NULL);
    if (status == WEFT_OK)
        status = weft_plugin_link_get(t, peer, &l);
    if (status == WEFT_OK && !l->control) /* it is there when the peer asked for a connection before */
        status = t->tcp->connect(t->inner, peer, (const char *)address + sizeof(plugin_address), bytes - sizeof(plugin_address),
                                 &l->control);
    if (status != WEFT_OK)
        return status;
    plugin_address theirs;
    int device[WEFT_NET_RAILS_MAX] = {0};
    memcpy(&theirs, address, sizeof theirs);
    l->rails = find_rails(t, &theirs, device);
    l->out[PLUGIN_SHORT].device = device[0];
    for (int i = 0; i < l->rails; i++) {
        uint32_t speed = rail_speed(t, &theirs, device[i]);
        l->rail[i].weight = speed > 0 ? speed : 1;
        l->out[PLUGIN_BULK + i].device = device[i];
    }
    *out = (weft_endpoint *)(void *)l;
    return WEFT_OK;
}

/* ---- slices ------------------------------------------------------------------------------------ */

static weft_status plugin_send(weft_endpoint *e, weft_slice *slice)
{
    plugin_link *l = (plugin_link *)(void *)e;
    if (l->transport->closed)
        return weft_fail(WEFT_ERR_ABORTED, "plugin: send to rank %d after close", l->peer);
    if (l->failed || l->ending)
        return weft_fail(WEFT_ERR_PEER, "%s", l->reason);
    bool first = !l->first;
    weft_plugin_link_queue(l, slice);
    if (first)
        weft_plugin_link_send(l);
    return WEFT_OK;
}

static void plugin_abandon(weft_endpoint *e)
{
    plugin_link *l = (plugin_link *)(void *)e;
    if (l->control)
        l->transport->tcp->abandon(l->control);
    l->told = true;
    weft_plugin_link_fail(l, WEFT_ERR_PEER, "it is dead");
}

static int plugin_progress(weft_transport *transport)
{
    plugin_transport *t = instance(transport);
    uint64_t expirations;
    if (t->closed)
        return 0;
    if (t->timer_set && read(t->timer, &expirations, sizeof expirations) > 0)
        t->timer_set = false;
    int moved = t->tcp->progress(t->inner);
    for (plugin_link *l = t->active; l; l = l->next) {
        moved += weft_plugin_link_progress(l);
        if (l->failed && !l->told) {
            l->told = true;
            if (l->control) /* so that the peer hears of it, whatever it was */
                t->tcp->abandon(l->control);
            t->config.sink.failed(t->config.sink.context, l->peer, l->why, l->reason);
            moved++;
        }
    }
    if (moved > 0)
        t->nap_ns = NAP_MIN_NS;
    return moved;
}

static int plugin_wait_fd(weft_transport *t)
{
    return instance(t)->epoll;
}

static weft_status plugin_arm(weft_transport *transport)
{
    plugin_transport *t = instance(transport);
    weft_status status = t->tcp->arm(t->inner);
    bool idle = true;
    for (plugin_link *l = t->active; l && idle; l = l->next)
        idle = weft_plugin_link_idle(l);
    if (status != WEFT_OK || idle || t->timer_set)
        return status;
    struct itimerspec nap = {.it_value = {.tv_nsec = t->nap_ns}};
    if (timerfd_settime(t->timer, 0, &nap, NULL) != 0)
        return WEFT_IN_PROGRESS;
    t->timer_set = true;
    t->nap_ns = t->nap_ns * 2 < NAP_MAX_NS ? t->nap_ns * 2 : NAP_MAX_NS;
    return WEFT_OK;
}

static weft_status plugin_flush(weft_transport *transport, int64_t timeout_ms)
{
    plugin_transport *t = instance(transport);
    int64_t deadline = weft_deadline_ns(timeout_ms);
    if (t->closed)
        return WEFT_OK;
    for (;;) {
        const plugin_link *waiting = NULL;
        t->tcp->progress(t->inner); /* handles come in here; what it reports of peers, progress() tells later */
        for (plugin_link *l = t->active; l; l = l->next) {
            weft_plugin_link_send(l);
            waiting = weft_plugin_link_quiet(l) || l->ending ? waiting : l;
        }
        int64_t left_ns = deadline == WEFT_NEVER ? WEFT_NEVER : deadline - weft_now_ns();
        if (!waiting)
            return t->tcp->flush(t->inner, left_ns == WEFT_NEVER ? -1 : left_ns > 0 ? left_ns / WEFT_NS_PER_MS : 0);
        if (left_ns <= 0)
            return weft_fail(WEFT_ERR_TIMEOUT, "plugin %s: slices to rank %d are not sent yet", t->net.name, waiting->peer);
        struct pollfd control = {.fd = t->tcp->wait_fd(t->inner), .events = POLLIN};
        if (t->tcp->arm(t->inner) == WEFT_OK)
            poll(&control, 1, FLUSH_NAP_MS);
    }
}

const weft_transport_ops weft_plugin_transport = {
    .abi = WEFT_TRANSPORT_ABI, .size = sizeof(weft_transport_ops), .name = "plugin",
    .open = plugin_open, .address = plugin_address_of, .reachable = plugin_reachable, .connect = plugin_connect,
    .send = plugin_send, .progress = plugin_progress, .wait_fd = plugin_wait_fd, .arm = plugin_arm,
    .abandon = plugin_abandon, .close = plugin_close, .flush = plugin_flush, .destroy = plugin_destroy,
};

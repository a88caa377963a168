/* Ports of RDMA devices: choosing and opening them, their shared receive queues, send buffers and asynchronous events. */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport/verbs/verbs.h"

enum { GIDS_MAX = 256, SEND_QUEUES_BEYOND = 1024 };

/* ---- blocks of buffers ---------------------------------------------------------------------------- */

/* Shared memory, so that a fork leaves it where the device knows it. */
static weft_status block_open(verbs_port *port, verbs_block *block)
{
    size_t bytes = (size_t)VERBS_BLOCK_BUFFERS * VERBS_BUFFER_BYTES;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return weft_fail_errno(WEFT_ERR_MEMORY, "%s: no memory for %d buffers", port->card.name, VERBS_BLOCK_BUFFERS);
    block->mr = port->transport->verbs->reg_mr(port->pd, memory, bytes, IBV_ACCESS_LOCAL_WRITE);
    if (!block->mr) {
        weft_status status = weft_fail_errno(WEFT_ERR_SYSTEM, "%s does not register %zu bytes of buffers (ulimit -l?)",
                                             port->card.name, bytes);
        munmap(memory, bytes);
        return status;
    }
    block->memory = memory;
    return WEFT_OK;
}

static void block_close(verbs_port *port, verbs_block *block)
{
    if (!block->memory)
        return;
    port->transport->verbs->dereg_mr(block->mr);
    munmap(block->memory, (size_t)VERBS_BLOCK_BUFFERS * VERBS_BUFFER_BYTES);
    block->memory = NULL;
}

unsigned char *weft_verbs_send_buffer(verbs_port *port, uint16_t number)
{
    return (unsigned char *)port->send_block.memory + (size_t)number * VERBS_BUFFER_BYTES;
}

unsigned char *weft_verbs_receive_buffer(verbs_port *port, uint32_t number)
{
    return (unsigned char *)port->blocks[number / VERBS_BLOCK_BUFFERS].memory +
           (size_t)(number % VERBS_BLOCK_BUFFERS) * VERBS_BUFFER_BYTES;
}

/* ---- the receive queue ------------------------------------------------------------------------------ */

void weft_verbs_repost_flush(verbs_port *port)
{
    struct ibv_recv_wr requests[VERBS_SLACK], *bad;
    struct ibv_sge places[VERBS_SLACK];
    int count = port->again_count;
    if (count == 0)
        return;
    for (int i = 0; i < count; i++) {
        uint32_t number = port->again[i];
        places[i] = (struct ibv_sge){(uintptr_t)weft_verbs_receive_buffer(port, number), VERBS_BUFFER_BYTES,
                                     port->blocks[number / VERBS_BLOCK_BUFFERS].mr->lkey};
        requests[i] = (struct ibv_recv_wr){.wr_id = (uint64_t)1 << 63 | number, .next = i + 1 < count ? &requests[i + 1] : NULL,
                                           .sg_list = &places[i], .num_sge = 1};
    }
    port->again_count = 0;
    int error = ibv_post_srq_recv(port->srq, requests, &bad);
    if (error)
        weft_log(WEFT_LOG_ERROR, "%s takes no receive buffers: %s", port->card.name, strerror(error));
}

void weft_verbs_repost(verbs_port *port, uint32_t number)
{
    port->again[port->again_count++] = number;
    if (port->again_count == VERBS_SLACK)
        weft_verbs_repost_flush(port);
}

/* Posts so many further buffers, as far as the queue has room for them. */
static weft_status post_more(verbs_port *port, int count)
{
    for (; count > 0; count--) {
        if (port->posted_ever == port->buffers) {
            if (port->block_count == port->blocks_max)
                return WEFT_OK; /* a peer too many: the adapter makes senders wait, see docs/verbs.md */
            weft_status status = block_open(port, &port->blocks[port->block_count]);
            if (status != WEFT_OK)
                return status;
            port->block_count++;
            port->buffers += VERBS_BLOCK_BUFFERS;
        }
        weft_verbs_repost(port, (uint32_t)port->posted_ever++);
    }
    weft_verbs_repost_flush(port);
    return WEFT_OK;
}

weft_status weft_verbs_port_add_peer(verbs_port *port)
{
    if (port->spare_peers > 0) {
        port->spare_peers--;
        return WEFT_OK;
    }
    return post_more(port, VERBS_PER_PEER);
}

bool weft_verbs_share_has(verbs_port *port, verbs_share *share, int count)
{
    while (share->left < count && share->made < share->most) {
        int more = share->made < share->most - share->made ? share->made : share->most - share->made;
        if (post_more(port, more) != WEFT_OK) {
            weft_log(WEFT_LOG_INFO, "%s goes on with %d receive buffers: %s", port->card.name, port->posted_ever,
                     weft_last_error());
            share->most = share->made;
            break;
        }
        share->left += more;
        share->made += more;
    }
    return share->left >= count;
}

weft_status weft_verbs_port_need_send_buffers(verbs_port *port)
{
    return port->send_block.memory ? WEFT_OK : block_open(port, &port->send_block);
}

/* ---- choosing ports ---------------------------------------------------------------------------------- */

/* Is the GID of RoCE v2? Only sysfs says so to programs that are not to depend on a recent libibverbs. */
static bool gid_is_v2(const char *device, int port, int index)
{
    char path[256], text[32];
    snprintf(path, sizeof path, "/sys/class/infiniband/%s/ports/%d/gid_attrs/types/%d", device, port, index);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return strncmp(text, "RoCE v2", 7) == 0;
}

static weft_status choose_gid(verbs_port *port, const char *device, int table_length)
{
    const verbs_transport *t = port->transport;
    static const unsigned char none[16];
    weft_verbs_gid table[GIDS_MAX];
    int count = 0, place;
    for (int i = 0; i < table_length && count < GIDS_MAX; i++) {
        union ibv_gid gid;
        if (t->verbs->query_gid(port->context, port->device_port, i, &gid) != 0 || memcmp(gid.raw, none, sizeof none) == 0)
            continue;
        table[count] = (weft_verbs_gid){.index = i};
        table[count].roce_v2 = port->card.ethernet && gid_is_v2(device, port->device_port, i);
        memcpy(table[count++].raw, gid.raw, sizeof gid.raw);
    }
    weft_status status = weft_verbs_gid_choose(table, count, port->card.ethernet, (int)t->settings.ib_gid_index, &place);
    if (status != WEFT_OK)
        return weft_fail_context(status, "%s", port->card.name);
    port->gid_index = (uint8_t)table[place].index;
    memcpy(port->card.gid, table[place].raw, sizeof port->card.gid);
    return WEFT_OK;
}

/* Mbit/s of a lane by the code of ibv_port_attr.active_speed, and lanes by that of its width. */
static uint32_t port_speed(const struct ibv_port_attr *attributes)
{
    static const struct {
        int code;
        uint32_t Mbps;
    } speeds[] = {{1, 2500}, {2, 5000}, {4, 10000}, {8, 10000}, {16, 14000}, {32, 25000}, {64, 50000}, {128, 100000}};
    static const struct {
        int code;
        uint32_t lanes;
    } widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}};
    uint32_t Mbps = 2500, lanes = 1;
    for (size_t i = 0; i < ARRAY_LEN(speeds); i++)
        if (speeds[i].code == attributes->active_speed)
            Mbps = speeds[i].Mbps;
    for (size_t i = 0; i < ARRAY_LEN(widths); i++)
        if (widths[i].code == attributes->active_width)
            lanes = widths[i].lanes;
    return Mbps * lanes;
}

static weft_status describe_port(verbs_port *port, const char *device, int weight)
{
    const verbs_transport *t = port->transport;
    struct ibv_port_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    snprintf(port->card.name, sizeof port->card.name, "%s:%d", device, port->device_port);
    if (t->verbs->query_port(port->context, port->device_port, &attributes) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s says nothing of itself", port->card.name);
    if (attributes.state != IBV_PORT_ACTIVE)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "%s is not active", port->card.name);
    int mtu = attributes.active_mtu;
    for (int code = IBV_MTU_256; code <= IBV_MTU_4096 && t->settings.ib_mtu; code++)
        if ((128 << code) == t->settings.ib_mtu && code < mtu)
            mtu = code;
    port->card.ethernet = attributes.link_layer == IBV_LINK_LAYER_ETHERNET;
    port->card.lid = attributes.lid;
    port->card.mtu = (uint8_t)mtu;
    port->card.weight = (uint16_t)weight;
    port->card.speed_Mbps = port_speed(&attributes);
    __be16 key;
    if (t->verbs->query_pkey(port->context, port->device_port, (int)t->settings.ib_pkey, &key) != 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "%s has no partition key %lld (WEFT_IB_PKEY)", port->card.name,
                         (long long)t->settings.ib_pkey);
    port->card.pkey = be16toh(key);
    return choose_gid(port, device, attributes.gid_tbl_len);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

/* A peer is not lent more than its window. */
static int lend_most(const verbs_port *port)
{
    int peers = port->transport->config.ranks - 1;
    return peers < VERBS_LEND / VERBS_WINDOW_MAX ? VERBS_WINDOW_MAX * (peers > 1 ? peers : 1) : VERBS_LEND;
}

static int capacity_of(const verbs_port *port, const struct ibv_device_attr *device)
{
    int64_t shared = lend_most(port) + VERBS_ANSWERS + VERBS_WRITES + VERBS_SLACK;
    int64_t wanted = shared + (int64_t)VERBS_PER_PEER * port->transport->config.ranks;
    int64_t most = device->max_srq_wr;
    if (most > device->max_cqe - VERBS_SIGNALED_MAX - SEND_QUEUES_BEYOND)
        most = device->max_cqe - VERBS_SIGNALED_MAX - SEND_QUEUES_BEYOND;
    wanted = (wanted + VERBS_BLOCK_BUFFERS - 1) / VERBS_BLOCK_BUFFERS;
    most /= VERBS_BLOCK_BUFFERS;
    return (int)(wanted < most ? wanted : most) * VERBS_BLOCK_BUFFERS;
}

/* Completions of sends: those that are signaled, and on an error all that is posted. */
static int sends_at_once(const verbs_port *port)
{
    int64_t all = (int64_t)(port->transport->config.ranks - 1) * WEFT_VERBS_RAILS_MAX * VERBS_QUEUE;
    return all < VERBS_SIGNALED_MAX + SEND_QUEUES_BEYOND ? (int)all : VERBS_SIGNALED_MAX + SEND_QUEUES_BEYOND;
}

static weft_status make_queues(verbs_port *port, int capacity)
{
    const weft_verbs_library *v = port->transport->verbs;
    if (!(port->pd = v->alloc_pd(port->context)) || !(port->channel = v->create_comp_channel(port->context)) ||
        !(port->cq = v->create_cq(port->context, capacity + sends_at_once(port), NULL, port->channel, 0)))
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s gives no completion queue", port->card.name);
    struct ibv_srq_init_attr srq = {.attr = {.max_wr = (uint32_t)capacity, .max_sge = 1}};
    if (!(port->srq = v->create_srq(port->pd, &srq)))
        return weft_fail_errno(WEFT_ERR_SYSTEM, "%s gives no shared receive queue for %d buffers", port->card.name, capacity);
    const int fds[] = {port->channel->fd, port->context->async_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = port};
        if (fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK) != 0 ||
            epoll_ctl(port->transport->epoll, EPOLL_CTL_ADD, fds[i], &event) != 0)
            return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot watch %s", port->card.name);
    }
    return WEFT_OK;
}

static weft_status make_buffers(verbs_port *port, int capacity)
{
    port->blocks_max = capacity / VERBS_BLOCK_BUFFERS;
    port->blocks = weft_alloc_array((size_t)port->blocks_max, sizeof *port->blocks);
    port->again = weft_alloc_array(VERBS_SLACK, sizeof *port->again);
    port->send_free = weft_alloc_array(VERBS_SEND_BUFFERS, sizeof *port->send_free);
    if (!port->blocks || !port->again || !port->send_free)
        return weft_fail(WEFT_ERR_MEMORY, "%s: no memory for the books of its buffers", port->card.name);
    _Static_assert((int)VERBS_SEND_BUFFERS <= (int)VERBS_BLOCK_BUFFERS, "one block has them all");
    while (port->send_free_count < VERBS_SEND_BUFFERS) {
        port->send_free[port->send_free_count] = (uint16_t)port->send_free_count;
        port->send_free_count++;
    }
    int first = VERBS_BLOCK_BUFFERS - 2 * VERBS_FIRST - VERBS_SLACK - VERBS_PER_PEER;
    port->lend = (verbs_share){first, first, lend_most(port)};
    port->answers = (verbs_share){VERBS_FIRST, VERBS_FIRST, VERBS_ANSWERS};
    port->writes = (verbs_share){VERBS_FIRST, VERBS_FIRST, VERBS_WRITES};
    return post_more(port, first + 2 * VERBS_FIRST + VERBS_SLACK);
}

static void port_close(verbs_port *port)
{
    const weft_verbs_library *v = port->transport->verbs;
    if (port->srq)
        v->destroy_srq(port->srq);
    if (port->cq && port->events)
        v->ack_cq_events(port->cq, port->events);
    if (port->cq)
        v->destroy_cq(port->cq);
    if (port->channel)
        v->destroy_comp_channel(port->channel);
    for (int i = 0; i < port->block_count; i++)
        block_close(port, &port->blocks[i]);
    block_close(port, &port->send_block);
    if (port->pd)
        v->dealloc_pd(port->pd);
    if (port->context)
        v->close_device(port->context);
    weft_free(port->blocks);
    weft_free(port->again);
    weft_free(port->send_free);
    weft_free(port->aside);
    memset(port, 0, sizeof *port);
}

/* A port that may be used. */
typedef struct candidate {
    struct ibv_device *device;
    struct ibv_context *context; /* opened to count the device's ports: the first one's. NULL: to be opened */
    int port, position, weight;
} candidate;

/* Opens one port; the table's entry stays unused when that fails. Takes the candidate's context. */
static weft_status open_port(verbs_transport *t, candidate *from, verbs_port *port)
{
    struct ibv_device_attr attributes;
    const char *name = t->verbs->get_device_name(from->device);
    *port = (verbs_port){.transport = t, .device_port = (uint8_t)from->port};
    port->context = from->context ? from->context : t->verbs->open_device(from->device);
    from->context = NULL;
    if (!port->context)
        return weft_fail_errno(WEFT_ERR_UNSUPPORTED, "cannot open RDMA device %s (rights of /dev/infiniband?)", name);
    weft_status status = WEFT_OK;
    memset(&attributes, 0, sizeof attributes);
    if (t->verbs->query_device(port->context, &attributes) != 0 || attributes.max_srq < 1)
        status = weft_fail(WEFT_ERR_UNSUPPORTED, "%s has no shared receive queues", name);
    int capacity = capacity_of(port, &attributes);
    if (status == WEFT_OK && capacity < VERBS_BLOCK_BUFFERS)
        status = weft_fail(WEFT_ERR_UNSUPPORTED, "%s has room for %d receive buffers only", name, attributes.max_srq_wr);
    if (status == WEFT_OK)
        status = describe_port(port, name, from->weight);
    if (status == WEFT_OK)
        status = make_queues(port, capacity);
    if (status == WEFT_OK)
        status = make_buffers(port, capacity);
    if (status != WEFT_OK)
        port_close(port);
    return status;
}

static int compare_candidates(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    return a->position != b->position ? a->position - b->position : a->port - b->port;
}

static bool is_allowed(const verbs_transport *t, const char *name, int port, int *position, int *weight)
{
    return weft_verbs_list_match(t->config.rdma_ports, name, port, position, weight) &&
           weft_verbs_list_match(t->settings.ib_hca, name, port, position, weight);
}

/* Opens a device to see how many ports it has. NULL: it cannot be opened, which is said when one is to be used. */
static struct ibv_context *count_ports(const verbs_transport *t, struct ibv_device *device, int *ports)
{
    struct ibv_device_attr attributes;
    struct ibv_context *context = t->verbs->open_device(device);
    *ports = context && t->verbs->query_device(context, &attributes) == 0 ? attributes.phys_port_cnt : 1;
    return context;
}

/* Ports that the lists allow, in the order of WEFT_IB_HCA, or in that of the devices. Others are not opened. */
static int find_candidates(const verbs_transport *t, struct ibv_device **devices, int device_count, candidate *found, int most)
{
    int count = 0;
    for (int i = 0; i < device_count && count < most; i++) {
        const char *name = t->verbs->get_device_name(devices[i]);
        int ports = 0, first = 1, position, weight;
        while (first <= UINT8_MAX && !is_allowed(t, name, first, &position, &weight))
            first++;
        struct ibv_context *context = first <= UINT8_MAX ? count_ports(t, devices[i], &ports) : NULL;
        for (int port = first; port <= ports && count < most; port++) {
            candidate c = {.device = devices[i], .context = context, .port = port};
            if (!is_allowed(t, name, port, &c.position, &c.weight))
                continue;
            c.position = c.position * device_count + i;
            found[count++] = c;
            context = NULL;
        }
        if (context)
            t->verbs->close_device(context);
    }
    qsort(found, (size_t)count, sizeof *found, compare_candidates);
    return count;
}

static weft_status open_candidates(verbs_transport *t, candidate *found, int count)
{
    weft_status last = WEFT_OK;
    for (int i = 0; i < count && last != WEFT_ERR_MEMORY && t->port_count < WEFT_VERBS_PORTS_MAX; i++) {
        verbs_port *port = &t->ports[t->port_count];
        last = open_port(t, &found[i], port);
        if (last == WEFT_OK)
            port->number = t->port_count++;
        else
            weft_log(WEFT_LOG_INFO, "verbs: not used: %s", weft_last_error());
    }
    for (int i = 0; i < count; i++)
        if (found[i].context)
            t->verbs->close_device(found[i].context);
    if (last == WEFT_ERR_MEMORY)
        return last;
    if (t->port_count > 0)
        return WEFT_OK;
    if (count > 0)
        return weft_fail_context(WEFT_ERR_UNSUPPORTED, "verbs: no port can be used, the last");
    return weft_fail(WEFT_ERR_UNSUPPORTED, "verbs: this process sees no RDMA device%s%s",
                     *t->settings.ib_hca ? " that WEFT_IB_HCA allows: " : "", t->settings.ib_hca);
}

weft_status weft_verbs_ports_open(verbs_transport *t)
{
    candidate found[4 * WEFT_VERBS_PORTS_MAX];
    int device_count = 0;
    struct ibv_device **devices = t->verbs->get_device_list(&device_count);
    if (!devices)
        return errno == ENOSYS
                   ? weft_fail(WEFT_ERR_UNSUPPORTED, "verbs: this kernel has no RDMA (no /sys/class/infiniband_verbs)")
                   : weft_fail_errno(WEFT_ERR_UNSUPPORTED, "verbs: no list of RDMA devices");
    int count = find_candidates(t, devices, device_count, found, (int)ARRAY_LEN(found));
    weft_status status = open_candidates(t, found, count);
    t->verbs->free_device_list(devices);
    return status;
}

void weft_verbs_ports_close(verbs_transport *t)
{
    while (t->port_count > 0)
        port_close(&t->ports[--t->port_count]);
}

/* ---- asynchronous events -------------------------------------------------------------------------------- */

static void fail_links_of(verbs_port *port, const struct ibv_qp *only, const char *what)
{
    verbs_transport *t = port->transport;
    for (int peer = 0; peer < t->config.ranks; peer++) {
        verbs_link *link = t->links[peer];
        for (int i = 0; link && link->state != VERBS_FAILED && i < link->rail_count; i++)
            if (link->rails[i].port == port && (!only || link->rails[i].qp == only))
                weft_verbs_link_fail(link, WEFT_ERR_SYSTEM, "%s: %s (the way to rank %d)", port->card.name, what, peer);
    }
}

/* Acknowledged before it has effects: a queue pair cannot be destroyed with an event of its own outstanding. */
static void handle_event(verbs_port *port, struct ibv_async_event *event)
{
    const weft_verbs_library *v = port->transport->verbs;
    enum ibv_event_type type = event->event_type;
    const struct ibv_qp *qp = NULL;
    int number = 0;
    bool of_qp = type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR || type == IBV_EVENT_QP_ACCESS_ERR;
    if (of_qp)
        qp = event->element.qp;
    else if (type == IBV_EVENT_PORT_ERR)
        number = event->element.port_num;
    v->ack_async_event(event);
    if (of_qp)
        fail_links_of(port, qp, v->event_type_str(type));
    else if (type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_CQ_ERR || type == IBV_EVENT_SRQ_ERR)
        fail_links_of(port, NULL, v->event_type_str(type));
    else if (type == IBV_EVENT_PORT_ERR && number == port->device_port)
        fail_links_of(port, NULL, "the port went down");
    else
        weft_log(WEFT_LOG_DEBUG, "%s: %s", port->card.name, v->event_type_str(type));
}

void weft_verbs_events(verbs_transport *t)
{
    for (int i = 0; i < t->port_count; i++) {
        struct ibv_async_event event;
        while (t->verbs->get_async_event(t->ports[i].context, &event) == 0)
            handle_event(&t->ports[i], &event);
    }
}

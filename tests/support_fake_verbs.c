/* Fake RDMA devices for tests; see fake_verbs.h. One lock for all of it. */
#define _GNU_SOURCE
#ifdef WEFT_HAVE_VERBS
#include "fake_verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/verbs/library.h"

enum { DEVICES_MAX = 4, QPS_MAX = 4096, MRS_MAX = 4096, INLINE_MAX = 256 };

typedef struct fake_context {
    struct ibv_context base;
    int device;
    int pipe_end;                  /* the writing one of async_fd's pipe */
    struct fake_context *next;
} fake_context;

typedef struct fake_channel {
    struct ibv_comp_channel base;
    int pipe_end;
} fake_channel;

typedef struct fake_cq {
    struct ibv_cq base;
    struct ibv_wc *ring;
    unsigned head, tail, size;
    bool notify;
} fake_cq;

typedef struct fake_srq {
    struct ibv_srq base;
    struct fake_srq *next;
    struct ibv_sge *places;
    uint64_t *ids;
    unsigned head, tail, size;
} fake_srq;

typedef struct fake_request {
    struct fake_request *next;
    struct ibv_send_wr wr;
    struct ibv_sge parts[2];
    unsigned char inlined[INLINE_MAX];
} fake_request;

typedef struct fake_qp {
    struct ibv_qp base;
    struct ibv_qp_init_attr init;
    uint32_t remote;
    fake_request *first, *last;
    int outstanding;
} fake_qp;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ibv_device devices[DEVICES_MAX];
static int device_count, objects, registrations;
static fake_context *contexts;
static fake_srq *srqs;
static fake_qp *qps[QPS_MAX];
static struct ibv_mr *mrs[MRS_MAX];
static unsigned mr_access[MRS_MAX];
static unsigned last_access;
static fake_verbs_path path;
static uint32_t next_qp, next_mr;
static uint64_t not_ready, sent[DEVICES_MAX], registered_bytes;
static int opened[DEVICES_MAX], srq_limit;
static bool refusing, memory_lost, infiniband;
static uint64_t random_state = 1;

static bool chance(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 63;
}

/* ---- devices ---- */

static struct ibv_device **get_device_list(int *count)
{
    struct ibv_device **list = calloc(DEVICES_MAX + 1, sizeof *list);
    for (int i = 0; i < device_count; i++) {
        snprintf(devices[i].name, sizeof devices[i].name, "fake%d", i);
        list[i] = &devices[i];
    }
    *count = device_count;
    return list;
}

static void free_device_list(struct ibv_device **list) { free(list); }
static const char *get_device_name(struct ibv_device *device) { return device->name; }

static int poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc);
static int req_notify_cq(struct ibv_cq *cq, int solicited);
static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);

static int open_pipe(int *writing)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        abort();
    *writing = ends[1];
    return ends[0];
}

static struct ibv_context *open_device(struct ibv_device *device)
{
    fake_context *c = calloc(1, sizeof *c);
    c->base.device = device;
    c->base.ops.poll_cq = poll_cq;
    c->base.ops.req_notify_cq = req_notify_cq;
    c->base.ops.post_srq_recv = post_srq_recv;
    c->base.ops.post_send = post_send;
    c->base.async_fd = open_pipe(&c->pipe_end);
    c->device = (int)(device - devices);
    pthread_mutex_lock(&lock);
    c->next = contexts;
    contexts = c;
    opened[c->device]++;
    objects++;
    pthread_mutex_unlock(&lock);
    return &c->base;
}

static int close_device(struct ibv_context *context)
{
    fake_context *c = (fake_context *)(void *)context;
    pthread_mutex_lock(&lock);
    fake_context **at = &contexts;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    objects--;
    pthread_mutex_unlock(&lock);
    close(c->base.async_fd);
    close(c->pipe_end);
    free(c);
    return 0;
}

static int query_device(struct ibv_context *context, struct ibv_device_attr *attributes)
{
    (void)context;
    memset(attributes, 0, sizeof *attributes);
    attributes->max_srq = 10;
    attributes->max_srq_wr = srq_limit;
    attributes->max_cqe = 1 << 16;
    attributes->phys_port_cnt = 1;
    return 0;
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attributes)
{
    (void)port;
    memset(attributes, 0, sizeof *attributes);
    attributes->state = IBV_PORT_ACTIVE;
    attributes->active_mtu = IBV_MTU_4096;
    attributes->gid_tbl_len = 4;
    attributes->link_layer = infiniband ? IBV_LINK_LAYER_INFINIBAND : IBV_LINK_LAYER_ETHERNET;
    attributes->lid = infiniband ? (uint16_t)(((fake_context *)(void *)context)->device + 7) : 0;
    attributes->active_speed = 32;
    attributes->active_width = 2;
    return 0;
}

static int query_gid(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid)
{
    (void)port;
    static const unsigned char local[] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2},
                               mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1};
    memset(gid, 0, sizeof *gid);
    if (index == 0)
        memcpy(gid->raw, local, sizeof local);
    else if (index == 1 && !infiniband)
        memcpy(gid->raw, mapped, sizeof mapped);
    if (index < (infiniband ? 1 : 2))
        gid->raw[15] = (unsigned char)(((fake_context *)(void *)context)->device + 1);
    return 0;
}

static int query_pkey(struct ibv_context *context, uint8_t port, int index, __be16 *key)
{
    (void)context, (void)port;
    *key = htons(0xffff);
    return index == 0 ? 0 : EINVAL;
}

static int get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    return read(context->async_fd, event, sizeof *event) == sizeof *event ? 0 : -1;
}

static void ack_async_event(struct ibv_async_event *event) { (void)event; }

/* ---- memory ---- */

static struct ibv_pd *alloc_pd(struct ibv_context *context)
{
    struct ibv_pd *pd = calloc(1, sizeof *pd);
    pd->context = context;
    return pd;
}

static int dealloc_pd(struct ibv_pd *pd)
{
    free(pd);
    return 0;
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *address, size_t bytes, int access)
{
    struct ibv_mr *mr = NULL;
    pthread_mutex_lock(&lock);
    if (!refusing) {
        uint32_t key = next_mr++;
        while (mrs[key % MRS_MAX])
            key = next_mr++;
        mr = calloc(1, sizeof *mr);
        *mr = (struct ibv_mr){.context = pd->context, .pd = pd, .addr = address, .length = bytes, .lkey = key, .rkey = key};
        mrs[key % MRS_MAX] = mr;
        mr_access[key % MRS_MAX] = last_access = (unsigned)access;
        registrations++;
        registered_bytes += bytes;
    }
    pthread_mutex_unlock(&lock);
    errno = ENOMEM;
    return mr;
}

static struct ibv_mr *reg_mr_iova2(struct ibv_pd *pd, void *address, size_t bytes, uint64_t iova, unsigned access)
{
    return iova == (uintptr_t)address ? reg_mr(pd, address, bytes, (int)access) : NULL;
}

/* A dma-buf that is memory of this process: its address is what devices are to know it by. */
static struct ibv_mr *reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t bytes, uint64_t iova, int fd, int access)
{
    if (fd != FAKE_DMABUF || offset != 0) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    return reg_mr(pd, (void *)(uintptr_t)iova, bytes, access);
}

static int dereg_mr(struct ibv_mr *mr)
{
    pthread_mutex_lock(&lock);
    mrs[mr->lkey % MRS_MAX] = NULL;
    registrations--;
    registered_bytes -= mr->length;
    pthread_mutex_unlock(&lock);
    free(mr);
    return 0;
}

/* Is that range registered with this key, in this protection domain, for that access? */
static bool permitted(const struct ibv_pd *pd, uint32_t key, uint64_t address, uint64_t bytes, unsigned access)
{
    const struct ibv_mr *mr = mrs[key % MRS_MAX];
    return mr && mr->lkey == key && mr->pd == pd && (mr_access[key % MRS_MAX] & access) == access &&
           address >= (uintptr_t)mr->addr && bytes <= mr->length && address - (uintptr_t)mr->addr <= mr->length - bytes;
}

/* ---- completions ---- */

static struct ibv_comp_channel *create_comp_channel(struct ibv_context *context)
{
    fake_channel *channel = calloc(1, sizeof *channel);
    channel->base.context = context;
    channel->base.fd = open_pipe(&channel->pipe_end);
    return &channel->base;
}

static int destroy_comp_channel(struct ibv_comp_channel *base)
{
    close(base->fd);
    close(((fake_channel *)(void *)base)->pipe_end);
    free(base);
    return 0;
}

static struct ibv_cq *create_cq(struct ibv_context *context, int entries, void *user, struct ibv_comp_channel *channel,
                                int vector)
{
    (void)user, (void)vector;
    fake_cq *cq = calloc(1, sizeof *cq);
    cq->base.context = context;
    cq->base.channel = channel;
    cq->size = (unsigned)entries;
    cq->ring = calloc(cq->size, sizeof *cq->ring);
    return &cq->base;
}

static int destroy_cq(struct ibv_cq *base)
{
    free(((fake_cq *)(void *)base)->ring);
    free(base);
    return 0;
}

static void complete(struct ibv_cq *base, struct ibv_wc wc)
{
    fake_cq *cq = (fake_cq *)(void *)base;
    if (cq->tail - cq->head == cq->size)
        abort(); /* a completion queue that overflows is a bug of its user */
    cq->ring[cq->tail++ % cq->size] = wc;
    if (cq->notify) {
        cq->notify = false;
        if (write(((fake_channel *)(void *)base->channel)->pipe_end, "e", 1) != 1)
            abort();
    }
}

static int get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user)
{
    char byte;
    *cq = NULL;
    *user = NULL;
    return read(channel->fd, &byte, 1) == 1 ? 0 : -1;
}

static void ack_cq_events(struct ibv_cq *cq, unsigned count) { (void)cq, (void)count; }

/* ---- queues ---- */

static struct ibv_srq *create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *attributes)
{
    if (attributes->attr.max_wr > (uint32_t)srq_limit) {
        errno = EINVAL;
        return NULL;
    }
    fake_srq *srq = calloc(1, sizeof *srq);
    srq->base.context = pd->context;
    srq->base.pd = pd;
    srq->size = attributes->attr.max_wr;
    srq->places = calloc(srq->size, sizeof *srq->places);
    srq->ids = calloc(srq->size, sizeof *srq->ids);
    pthread_mutex_lock(&lock);
    srq->next = srqs;
    srqs = srq;
    pthread_mutex_unlock(&lock);
    return &srq->base;
}

static int destroy_srq(struct ibv_srq *base)
{
    fake_srq *srq = (fake_srq *)(void *)base, **at = &srqs;
    pthread_mutex_lock(&lock);
    while (*at != srq)
        at = &(*at)->next;
    *at = srq->next;
    pthread_mutex_unlock(&lock);
    free(srq->places);
    free(srq->ids);
    free(srq);
    return 0;
}

static int post_srq_recv(struct ibv_srq *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    fake_srq *srq = (fake_srq *)(void *)base;
    int error = 0;
    pthread_mutex_lock(&lock);
    for (; wr && !error; wr = wr->next) {
        *bad = wr;
        if (srq->tail - srq->head == srq->size) {
            error = ENOMEM;
            continue;
        }
        srq->places[srq->tail % srq->size] = wr->sg_list[0];
        srq->ids[srq->tail++ % srq->size] = wr->wr_id;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static struct ibv_qp *create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attributes)
{
    fake_qp *qp = NULL;
    if (attributes->cap.max_inline_data > INLINE_MAX) {
        errno = EINVAL;
        return NULL;
    }
    pthread_mutex_lock(&lock);
    uint32_t number = ++next_qp;
    while (qps[number % QPS_MAX])
        number = ++next_qp;
    qp = calloc(1, sizeof *qp);
    qp->base.context = pd->context;
    qp->base.pd = pd;
    qp->base.qp_num = number;
    qp->base.state = IBV_QPS_RESET;
    qp->init = *attributes;
    qps[number % QPS_MAX] = qp;
    objects++;
    pthread_mutex_unlock(&lock);
    return &qp->base;
}

static void end_first(fake_qp *qp, enum ibv_wc_status status)
{
    fake_request *r = qp->first;
    qp->first = r->next;
    if (!qp->first)
        qp->last = NULL;
    qp->outstanding--;
    if (status != IBV_WC_SUCCESS || (r->wr.send_flags & IBV_SEND_SIGNALED))
        complete(qp->init.send_cq, (struct ibv_wc){.wr_id = r->wr.wr_id, .status = status, .qp_num = qp->base.qp_num});
    free(r);
}

static void flush_requests(fake_qp *qp)
{
    while (qp->first)
        end_first(qp, IBV_WC_WR_FLUSH_ERR);
}

static int modify_qp(struct ibv_qp *base, struct ibv_qp_attr *attributes, int mask)
{
    fake_qp *qp = (fake_qp *)(void *)base;
    pthread_mutex_lock(&lock);
    if (mask & IBV_QP_PKEY_INDEX)
        path.pkey_index = attributes->pkey_index;
    if (mask & IBV_QP_AV) {
        path.traffic_class = attributes->ah_attr.grh.traffic_class;
        path.service_level = attributes->ah_attr.sl;
        path.gid_index = attributes->ah_attr.grh.sgid_index;
        path.mtu = 128 << attributes->path_mtu;
        path.lid = attributes->ah_attr.dlid;
        path.global = attributes->ah_attr.is_global;
    }
    if (mask & IBV_QP_TIMEOUT) {
        path.timeout = attributes->timeout;
        path.retries = attributes->retry_cnt;
    }
    if (mask & IBV_QP_DEST_QPN)
        qp->remote = attributes->dest_qp_num;
    base->state = attributes->qp_state;
    if (base->state == IBV_QPS_ERR)
        flush_requests(qp);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* As drivers do: nobody can ask for them any more. Receive buffers that these tell of are not posted again by that. */
static void forget_completions(struct ibv_cq *base, uint32_t qp_number)
{
    fake_cq *cq = (fake_cq *)(void *)base;
    unsigned kept = cq->head;
    for (unsigned i = cq->head; i != cq->tail; i++)
        if (cq->ring[i % cq->size].qp_num != qp_number)
            cq->ring[kept++ % cq->size] = cq->ring[i % cq->size];
    cq->tail = kept;
}

static int destroy_qp(struct ibv_qp *base)
{
    fake_qp *qp = (fake_qp *)(void *)base;
    pthread_mutex_lock(&lock);
    while (qp->first) {
        fake_request *r = qp->first;
        qp->first = r->next;
        free(r);
    }
    forget_completions(qp->init.send_cq, base->qp_num);
    forget_completions(qp->init.recv_cq, base->qp_num);
    qps[base->qp_num % QPS_MAX] = NULL;
    objects--;
    pthread_mutex_unlock(&lock);
    free(qp);
    return 0;
}

/* ---- carrying out ---- */

static size_t gather(const fake_request *r, unsigned char *to)
{
    size_t bytes = 0;
    for (int i = 0; i < r->wr.num_sge; i++) {
        const void *from = r->wr.send_flags & IBV_SEND_INLINE ? r->inlined + bytes : (const void *)(uintptr_t)r->parts[i].addr;
        if (to && r->parts[i].length)
            memcpy(to + bytes, from, r->parts[i].length);
        bytes += r->parts[i].length;
    }
    return bytes;
}

/* The first request of a queue pair; false: not now. */
static bool carry_out(fake_qp *qp)
{
    const fake_request *r = qp->first;
    fake_qp *remote = qps[qp->remote % QPS_MAX];
    if (!remote || remote->base.qp_num != qp->remote || remote->base.state < IBV_QPS_RTR || remote->base.state == IBV_QPS_ERR ||
        remote->remote != qp->base.qp_num)
        return false; /* the adapter would repeat it for a long time */
    size_t bytes = gather(r, NULL);
    bool writes = r->wr.opcode != IBV_WR_SEND, takes_buffer = r->wr.opcode != IBV_WR_RDMA_WRITE;
    for (int i = 0; i < r->wr.num_sge && !(r->wr.send_flags & IBV_SEND_INLINE); i++)
        if (!permitted(qp->base.pd, r->parts[i].lkey, r->parts[i].addr, r->parts[i].length, 0)) {
            end_first(qp, IBV_WC_LOC_PROT_ERR);
            return true;
        }
    if (writes && bytes &&
        (memory_lost ||
         !permitted(remote->base.pd, r->wr.wr.rdma.rkey, r->wr.wr.rdma.remote_addr, bytes, IBV_ACCESS_REMOTE_WRITE))) {
        end_first(qp, IBV_WC_REM_ACCESS_ERR);
        return true;
    }
    fake_srq *srq = (fake_srq *)(void *)remote->init.srq;
    if (takes_buffer && srq->head == srq->tail) {
        not_ready++;
        return false;
    }
    struct ibv_wc wc = {.status = IBV_WC_SUCCESS, .qp_num = remote->base.qp_num, .byte_len = (uint32_t)bytes};
    if (writes && bytes)
        gather(r, (unsigned char *)(uintptr_t)r->wr.wr.rdma.remote_addr);
    if (takes_buffer) {
        const struct ibv_sge *place = &srq->places[srq->head % srq->size];
        wc.wr_id = srq->ids[srq->head++ % srq->size];
        wc.opcode = writes ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
        wc.imm_data = r->wr.imm_data;
        if (!writes &&
            (bytes > place->length || !permitted(remote->base.pd, place->lkey, place->addr, bytes, IBV_ACCESS_LOCAL_WRITE)))
            abort();
        if (!writes)
            gather(r, (unsigned char *)(uintptr_t)place->addr);
    }
    sent[((fake_context *)(void *)qp->base.context)->device] += bytes;
    if (takes_buffer)
        complete(remote->init.recv_cq, wc);
    end_first(qp, IBV_WC_SUCCESS);
    return true;
}

/* All that is posted anywhere, or with some luck less of it. */
static void carry_out_all(bool really)
{
    for (int i = 0; i < QPS_MAX && next_qp; i++)
        for (fake_qp *qp = qps[i]; qp && qp->first && qp->base.state == IBV_QPS_RTS && (really || chance());)
            if (!carry_out(qp))
                break;
}

static int post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    fake_qp *qp = (fake_qp *)(void *)base;
    *bad = wr;
    if (base->state != IBV_QPS_RTS || wr->num_sge > 2)
        return EINVAL;
    fake_request *r = calloc(1, sizeof *r);
    r->wr = *wr;
    size_t bytes = 0;
    for (int i = 0; i < wr->num_sge; i++) {
        r->parts[i] = wr->sg_list[i];
        if ((wr->send_flags & IBV_SEND_INLINE) && bytes + r->parts[i].length <= sizeof r->inlined)
            memcpy(r->inlined + bytes, (const void *)(uintptr_t)r->parts[i].addr, r->parts[i].length);
        bytes += r->parts[i].length;
    }
    pthread_mutex_lock(&lock);
    bool full = qp->outstanding == (int)qp->init.cap.max_send_wr || ((wr->send_flags & IBV_SEND_INLINE) && bytes > INLINE_MAX);
    if (!full) {
        qp->outstanding++;
        if (qp->last)
            qp->last->next = r;
        else
            qp->first = r;
        qp->last = r;
        const fake_qp *remote = qps[qp->remote % QPS_MAX];
        if (remote && ((fake_cq *)(void *)remote->init.recv_cq)->notify) /* who sleeps will not poll, and the sender need not */
            carry_out_all(true);
    }
    pthread_mutex_unlock(&lock);
    if (full)
        free(r);
    return full ? ENOMEM : 0;
}

static int poll_cq(struct ibv_cq *base, int count, struct ibv_wc *wc)
{
    fake_cq *cq = (fake_cq *)(void *)base;
    int n = 0;
    pthread_mutex_lock(&lock);
    carry_out_all(false);
    while (n < count && cq->head != cq->tail)
        wc[n++] = cq->ring[cq->head++ % cq->size];
    pthread_mutex_unlock(&lock);
    return n;
}

static int req_notify_cq(struct ibv_cq *base, int solicited)
{
    (void)solicited;
    pthread_mutex_lock(&lock);
    ((fake_cq *)(void *)base)->notify = true;
    carry_out_all(true); /* who asked may sleep from now on */
    pthread_mutex_unlock(&lock);
    return 0;
}

static const char *wc_status_str(enum ibv_wc_status status) { return status == IBV_WC_WR_FLUSH_ERR ? "flushed" : "fake error"; }
static const char *event_type_str(enum ibv_event_type type)
{
    return type == IBV_EVENT_DEVICE_FATAL ? "fatal error" : "fake event";
}

/* ---- what tests use ---- */

void fake_verbs_use(int count)
{
    static const weft_verbs_library fake = {
        get_device_list, free_device_list, get_device_name, open_device, close_device, query_device, query_port, query_gid,
        query_pkey, alloc_pd, dealloc_pd, reg_mr, reg_mr_iova2, reg_dmabuf_mr, dereg_mr, create_comp_channel,
        destroy_comp_channel, create_cq, destroy_cq, get_cq_event, ack_cq_events, create_srq, destroy_srq, create_qp,
        modify_qp, destroy_qp, get_async_event, ack_async_event, wc_status_str, event_type_str,
    };
    device_count = count < DEVICES_MAX ? count : DEVICES_MAX;
    not_ready = 0;
    memset(sent, 0, sizeof sent);
    memset(opened, 0, sizeof opened);
    srq_limit = 1 << 15;
    infiniband = false;
    weft_verbs_library_set(count ? &fake : NULL);
}

void fake_verbs_infiniband(void) { infiniband = true; }
void fake_verbs_receive_queue_limit(int most) { srq_limit = most; }

uint64_t fake_verbs_not_ready(void) { return not_ready; }
uint64_t fake_verbs_sent(int device) { return sent[device]; }
int fake_verbs_times_opened(int device) { return opened[device]; }
int fake_verbs_posted_buffers(void)
{
    unsigned sum = 0;
    for (const fake_srq *srq = srqs; srq; srq = srq->next)
        sum += srq->tail - srq->head;
    return (int)sum;
}
int fake_verbs_open_objects(void) { return objects; }
int fake_verbs_registrations(void) { return registrations; }
uint64_t fake_verbs_registered_bytes(void) { return registered_bytes; }
void fake_verbs_refuse_registration(bool refuse) { refusing = refuse; }
void fake_verbs_lose_memory(bool lose) { memory_lost = lose; }

fake_verbs_path fake_verbs_last_path(void) { return path; }
unsigned fake_verbs_last_access(void) { return last_access; }

static void tell(int device, struct ibv_async_event event)
{
    pthread_mutex_lock(&lock);
    for (fake_context *c = contexts; c; c = c->next)
        if (c->device == device && write(c->pipe_end, &event, sizeof event) != sizeof event)
            abort();
    pthread_mutex_unlock(&lock);
}

void fake_verbs_port_down(int device)
{
    tell(device, (struct ibv_async_event){.event_type = IBV_EVENT_PORT_ERR, .element.port_num = 1});
}

void fake_verbs_device_fatal(int device)
{
    tell(device, (struct ibv_async_event){.event_type = IBV_EVENT_DEVICE_FATAL});
}
#endif

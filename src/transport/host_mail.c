/* The host's mail: descriptors that ranks of one host send each other after creation. Offers of memory to
 * map (weft_host_offer, weft_host_map) and parcels, the descriptors of segments, kept until their segment
 * is created here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport/host_internal.h"
#include "transport/memory.h"

/* ---- tables of offers: open addressing, linear probing ---- */

static size_t slot_of(const weft_offer_table *t, int index, uint64_t memory_id)
{
    return (memory_id * 0x9e3779b97f4a7c15ull + (uint64_t)index * 0xff51afd7ed558ccdull) >> 20 &
           (t->capacity - 1);
}

static weft_offer *table_find(const weft_offer_table *t, int index, uint64_t memory_id)
{
    if (t->used == 0)
        return NULL;
    for (size_t i = slot_of(t, index, memory_id);; i = (i + 1) & (t->capacity - 1)) {
        weft_offer *entry = &t->entries[i];
        if (entry->index < 0)
            return NULL;
        if (entry->index == index && entry->memory_id == memory_id)
            return entry;
    }
}

static weft_offer *table_place(weft_offer_table *t, int index, uint64_t memory_id)
{
    size_t i = slot_of(t, index, memory_id);
    while (t->entries[i].index >= 0)
        i = (i + 1) & (t->capacity - 1);
    t->entries[i].index = index;
    t->entries[i].memory_id = memory_id;
    t->used++;
    return &t->entries[i];
}

/* A new entry for a key that is not in the table; NULL: out of memory, nothing changed. */
static weft_offer *table_add(weft_offer_table *t, int index, uint64_t memory_id)
{
    if ((t->used + 1) * 2 > t->capacity) {
        weft_offer_table bigger = {NULL, t->capacity ? t->capacity * 2 : 16, 0};
        bigger.entries = weft_alloc_array(bigger.capacity, sizeof(weft_offer));
        if (!bigger.entries)
            return NULL;
        for (size_t i = 0; i < bigger.capacity; i++)
            bigger.entries[i].index = -1;
        for (size_t i = 0; i < t->capacity; i++)
            if (t->entries[i].index >= 0)
                *table_place(&bigger, t->entries[i].index, t->entries[i].memory_id) = t->entries[i];
        weft_free(t->entries);
        *t = bigger;
    }
    weft_offer *entry = table_place(t, index, memory_id);
    entry->fd = -1;
    entry->bytes = 0;
    entry->address = NULL;
    entry->held = false;
    return entry;
}

/* Takes an entry out and moves up those that had to make way for it. */
static void table_remove(weft_offer_table *t, weft_offer *entry)
{
    size_t hole = (size_t)(entry - t->entries), mask = t->capacity - 1;
    for (size_t i = (hole + 1) & mask; t->entries[i].index >= 0; i = (i + 1) & mask) {
        size_t home = slot_of(t, t->entries[i].index, t->entries[i].memory_id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->entries[hole] = t->entries[i];
            hole = i;
        }
    }
    t->entries[hole].index = -1;
    t->used--;
}

/* ---- reading ---- */

static int index_of_rank(const weft_host *h, int rank)
{
    int low = 0, high = h->size;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (h->local_ranks[middle] < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low < h->size && h->local_ranks[low] == rank ? low : -1;
}

static void release_offer(weft_offer *entry)
{
    if (entry->fd >= 0)
        close(entry->fd);
    if (entry->held)
        weft_memory_release(entry->memory_id);
    else if (entry->address)
        weft_shared_unmap(entry->memory_id);
}

/* Files one message away; false: it is not wanted and its descriptor is still the caller's. */
static bool file_message(weft_host *h, int index, const weft_host_message *message, int fd)
{
    if (message->kind == WEFT_MESSAGE_SEGMENT) {
        weft_parcel *parcel = weft_alloc(sizeof(*parcel));
        if (!parcel) {
            h->parcel_lost = true;
            return false;
        }
        *parcel = (weft_parcel){h->parcels, *message, fd};
        h->parcels = parcel;
        return true;
    }
    if (message->kind == WEFT_MESSAGE_WITHDRAW) {
        weft_offer *entry = table_find(&h->received, index, message->key);
        if (entry) {
            release_offer(entry);
            table_remove(&h->received, entry);
        }
        return false;
    }
    if (message->kind != WEFT_MESSAGE_OFFER || table_find(&h->received, index, message->key))
        return false;
    weft_offer *entry = table_add(&h->received, index, message->key);
    if (!entry)
        return false;
    entry->fd = fd;
    entry->bytes = message->bytes;
    return true;
}

int weft_host_read_mail(weft_host *h)
{
    /* Before reading, so that a message that comes meanwhile is looked for again. */
    h->mail_seen = atomic_load_explicit(&h->front.bells[h->index].mail, memory_order_acquire);
    int count = 0;
    weft_host_message message;
    for (;;) {
        int fd = -1, error = weft_socket_receive(h->mail_socket, &message, &fd);
        if (error == EBADMSG)
            continue;
        if (error == EMFILE) {
            weft_log(WEFT_LOG_WARN, "no descriptor left for memory that rank %d shares (ulimit -n)",
                     message.rank);
            continue;
        }
        if (error)
            break;
        int index = index_of_rank(h, message.rank);
        bool trusted = index >= 0 && message.job == h->job && message.secret == h->peers[index].secret;
        if (!trusted || !file_message(h, index, &message, fd))
            close(fd);
        count++;
    }
    weft_doorbell *bell = &h->front.bells[h->index];
    if (count > 0 && atomic_exchange_explicit(&bell->mail_wanted, 0, memory_order_acq_rel))
        for (int i = 0; i < h->size; i++)
            weft_host_ring(h, i);
    return count;
}

bool weft_host_take_parcel(weft_host *h, int rank, uint64_t key, weft_host_message *message, int *fd)
{
    for (weft_parcel **link = &h->parcels; *link; link = &(*link)->next) {
        weft_parcel *parcel = *link;
        if (parcel->message.rank != rank || parcel->message.key != key)
            continue;
        *link = parcel->next;
        *message = parcel->message;
        *fd = parcel->fd;
        weft_free(parcel);
        return true;
    }
    return false;
}

/* ---- offers ---- */

void weft_host_fill_message(const weft_host *h, weft_host_message *message, weft_message_kind kind,
                            uint64_t key, uint64_t id, uint64_t bytes)
{
    *message = (weft_host_message){.kind = (uint32_t)kind,
                                   .job = h->job,
                                   .secret = h->secret,
                                   .rank = h->rank,
                                   .key = key,
                                   .id = id,
                                   .bytes = bytes};
}

/* 0 or errno; the receiver is woken, for it may be waiting for just this. */
static int post(weft_host *h, int index, weft_message_kind kind, uint64_t memory_id, int fd, uint64_t bytes)
{
    weft_host_message message;
    weft_doorbell *bell = &h->front.bells[index];
    weft_host_fill_message(h, &message, kind, memory_id, memory_id, bytes);
    int error = weft_socket_send(h->mail_socket, &h->peers[index].mail, &message, fd);
    if (error == EAGAIN) {
        /* Once more after saying so: else it might have read its mail in between and nobody would ring. */
        atomic_store_explicit(&bell->mail_wanted, 1, memory_order_seq_cst);
        error = weft_socket_send(h->mail_socket, &h->peers[index].mail, &message, fd);
    }
    if (error == 0) {
        atomic_fetch_add_explicit(&bell->mail, 1, memory_order_release);
        weft_host_ring(h, index);
    }
    return error;
}

static weft_status offer_later(weft_host *h, int index, uint64_t memory_id, int fd, uint64_t bytes)
{
    weft_pending_offer *pending = weft_alloc(sizeof(*pending));
    if (!pending)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to note an offer to rank %d", h->local_ranks[index]);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the owner may free the memory before there is room */
    if (copy < 0) {
        weft_free(pending);
        return weft_fail_errno(WEFT_ERR_SYSTEM, "copying a descriptor for rank %d (ulimit -n?)",
                               h->local_ranks[index]);
    }
    weft_pending_offer **end = &h->pending;
    while (*end)
        end = &(*end)->next;
    *pending = (weft_pending_offer){NULL, index, copy, memory_id, bytes};
    *end = pending;
    atomic_fetch_add_explicit(&h->pending_count, 1, memory_order_relaxed);
    return WEFT_OK;
}

static int retry_pending(weft_host *h)
{
    int moved = 0;
    for (weft_pending_offer **link = &h->pending; *link;) {
        weft_pending_offer *pending = *link;
        int error = post(h, pending->index, WEFT_MESSAGE_OFFER, pending->memory_id, pending->fd,
                         pending->bytes);
        if (error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ETOOMANYREFS) {
            link = &pending->next;
            continue;
        }
        *link = pending->next; /* sent, or the peer is gone: then others find that out */
        close(pending->fd);
        weft_free(pending);
        atomic_fetch_sub_explicit(&h->pending_count, 1, memory_order_relaxed);
        moved++;
    }
    return moved;
}

weft_status weft_host_offer(weft_host *h, int index, uint64_t memory_id, int fd, size_t bytes)
{
    if (index < 0 || index >= h->size)
        return weft_fail(WEFT_ERR_INVALID, "local rank %d is not in 0..%d", index, h->size - 1);
    weft_status status = WEFT_OK;
    pthread_mutex_lock(&h->lock);
    weft_offer *entry = table_find(&h->sent, index, memory_id);
    if (!entry) {
        entry = table_add(&h->sent, index, memory_id);
        if (!entry) {
            status =
                weft_fail(WEFT_ERR_MEMORY, "no memory to note an offer to rank %d", h->local_ranks[index]);
        } else {
            int error = post(h, index, WEFT_MESSAGE_OFFER, memory_id, fd, bytes);
            if (error == ECONNREFUSED || error == ECONNRESET || error == EPIPE) {
                status = weft_fail(WEFT_ERR_PEER, "rank %d is gone", h->local_ranks[index]);
            } else if (error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ETOOMANYREFS) {
                status = offer_later(h, index, memory_id, fd, bytes);
            } else if (error) {
                errno = error;
                status = weft_fail_errno(WEFT_ERR_SYSTEM, "sending a descriptor to rank %d",
                                         h->local_ranks[index]);
            }
            if (status != WEFT_OK)
                table_remove(&h->sent, entry);
        }
    }
    pthread_mutex_unlock(&h->lock);
    return status;
}

void weft_host_withdraw(weft_host *h, uint64_t memory_id)
{
    pthread_mutex_lock(&h->lock);
    for (int index = 0; index < h->size; index++) {
        weft_offer *entry = table_find(&h->sent, index, memory_id);
        if (!entry)
            continue;
        /* A peer whose queue is full keeps its mapping until the group ends: it costs memory, nothing else. */
        post(h, index, WEFT_MESSAGE_WITHDRAW, memory_id, h->mail_socket, 0);
        table_remove(&h->sent, entry);
    }
    pthread_mutex_unlock(&h->lock);
}

void *weft_host_map(weft_host *h, int index, uint64_t memory_id, size_t *bytes)
{
    void *address = NULL;
    if (index < 0 || index >= h->size)
        return NULL;
    pthread_mutex_lock(&h->lock);
    weft_offer *entry = table_find(&h->received, index, memory_id);
    if (!entry && weft_host_read_mail(h) > 0)
        entry = table_find(&h->received, index, memory_id);
    if (entry && !entry->address && entry->fd >= 0) {
        /* A rank of this process: its own mapping will do. */
        entry->address = weft_memory_hold(memory_id);
        entry->held = entry->address != NULL;
        if (!entry->held && weft_shared_map(memory_id, entry->fd, entry->bytes, &entry->address) != WEFT_OK)
            entry->address = NULL;
        if (entry->address) {
            close(entry->fd);
            entry->fd = -1;
        }
    }
    if (entry && entry->address) {
        address = entry->address;
        *bytes = entry->bytes;
    }
    pthread_mutex_unlock(&h->lock);
    return address;
}

void weft_host_unmap(weft_host *h, int index, uint64_t memory_id)
{
    pthread_mutex_lock(&h->lock);
    weft_offer *entry = table_find(&h->received, index, memory_id);
    if (entry) {
        release_offer(entry);
        table_remove(&h->received, entry);
    }
    pthread_mutex_unlock(&h->lock);
}

int weft_host_progress(weft_host *h)
{
    uint32_t mail = atomic_load_explicit(&h->front.bells[h->index].mail, memory_order_relaxed);
    uint32_t waiting = atomic_load_explicit(&h->pending_count, memory_order_relaxed);
    if (mail == atomic_load_explicit(&h->mail_seen, memory_order_relaxed) && waiting == 0)
        return 0;
    pthread_mutex_lock(&h->lock);
    int moved = weft_host_read_mail(h) + retry_pending(h);
    pthread_mutex_unlock(&h->lock);
    return moved;
}

void weft_host_drop_mail(weft_host *h)
{
    while (h->parcels) {
        weft_parcel *parcel = h->parcels;
        h->parcels = parcel->next;
        close(parcel->fd);
        weft_free(parcel);
    }
    while (h->pending) {
        weft_pending_offer *pending = h->pending;
        h->pending = pending->next;
        close(pending->fd);
        weft_free(pending);
    }
    for (size_t i = 0; i < h->received.capacity; i++)
        if (h->received.entries[i].index >= 0)
            release_offer(&h->received.entries[i]);
    weft_free(h->received.entries);
    weft_free(h->sent.entries);
}

/* Further shared segments among some of a host's ranks: the first of them makes the memory and sends its
 * descriptor to the others, who find it in their mail. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "transport/host_internal.h"
#include "transport/memfd.h"
#include "transport/numa.h"

enum { PROBE_MS = 100, RETRY_MS = 1, TURN_MS = 20 };

/* Between tries: does not wait beyond the deadline. */
static void wait_mail(const weft_host *h, bool readable, int ms)
{
    struct pollfd polled = {.fd = readable ? h->mail_socket : -1, .events = POLLIN};
    poll(&polled, 1, ms);
}

static weft_status check_members(const weft_host *h, const int *indices, int count, int *position)
{
    *position = -1;
    for (int i = 0; i < count; i++) {
        if (indices[i] < 0 || indices[i] >= h->size || (i > 0 && indices[i] <= indices[i - 1]))
            return weft_fail(WEFT_ERR_INVALID,
                             "segment: local ranks must ascend within 0..%d, entry %d is %d", h->size - 1, i,
                             indices[i]);
        if (indices[i] == h->index)
            *position = i;
    }
    if (*position < 0)
        return weft_fail(WEFT_ERR_INVALID, "segment: local rank %d is not among its %d members", h->index,
                         count);
    return WEFT_OK;
}

/* Sends the descriptor to one member; waits while its queue is full. */
static weft_status send_segment(weft_host *h, int index, const weft_host_message *message, int fd,
                                int64_t deadline_ns)
{
    for (;;) {
        int error = weft_socket_send(h->mail_socket, &h->peers[index].mail, message, fd);
        if (error == 0) {
            atomic_fetch_add_explicit(&h->front.bells[index].mail, 1, memory_order_release);
            return WEFT_OK;
        }
        if (error == ECONNREFUSED || error == ECONNRESET || error == EPIPE)
            return weft_fail(WEFT_ERR_PEER, "rank %d is gone", h->local_ranks[index]);
        if (error != EAGAIN && error != ENOBUFS && error != ENOMEM && error != ETOOMANYREFS) {
            errno = error;
            return weft_fail_errno(WEFT_ERR_SYSTEM, "sending a descriptor to rank %d", h->local_ranks[index]);
        }
        if (weft_now_ns() >= deadline_ns)
            return weft_fail(WEFT_ERR_TIMEOUT, "rank %d does not read its mail", h->local_ranks[index]);
        /* Two leaders that wait for each other's queue must both read theirs. */
        pthread_mutex_lock(&h->lock);
        weft_host_read_mail(h);
        pthread_mutex_unlock(&h->lock);
        wait_mail(h, false, RETRY_MS);
    }
}

/* The others (but the first `told`) wait for it: a message of no bytes says that none will come. Its descriptor means
 * nothing. The error stays the thread's. */
static void refuse(weft_host *h, const int *indices, int count, int told, uint64_t key, int64_t deadline_ns, weft_status why)
{
    weft_host_message message;
    char reason[256];
    snprintf(reason, sizeof reason, "%s", weft_last_error());
    weft_host_fill_message(h, &message, WEFT_MESSAGE_SEGMENT, key, 0, 0);
    for (int i = 1 + told; i < count; i++)
        (void)send_segment(h, indices[i], &message, h->mail_socket, deadline_ns);
    weft_fail(why, "%s", reason);
}

static weft_status lead(weft_host *h, const int *indices, int count, uint64_t key, size_t bytes,
                        int64_t deadline_ns, weft_segment *s, int *told)
{
    int fd = -1; /* one rank alone needs none */
    void *address;
    weft_host_message message;
    weft_status status = count > 1 ? weft_memfd_create("weft-segment", bytes, &fd) : WEFT_OK;
    if (status != WEFT_OK)
        return status;
    s->id = weft_random64();
    weft_host_fill_message(h, &message, WEFT_MESSAGE_SEGMENT, key, s->id, bytes);
    for (int i = 1; i < count && status == WEFT_OK; i++)
        if ((status = send_segment(h, indices[i], &message, fd, deadline_ns)) == WEFT_OK)
            (*told)++;
    if (status == WEFT_OK && (status = weft_shared_map(s->id, fd, bytes, &address)) == WEFT_OK)
        s->base = address;
    if (fd >= 0)
        close(fd);
    return status;
}

/* Is the peer's socket still there? A byte for its doorbell shows it; it does no harm. */
static bool peer_gone(const weft_host *h, int index)
{
    const weft_socket_name *to = &h->peers[index].bell;
    return sendto(h->bell_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&to->address,
                  to->bytes) < 0 &&
           errno == ECONNREFUSED;
}

static weft_status follow(weft_host *h, int leader, uint64_t key, size_t bytes, int64_t deadline_ns,
                          weft_segment *s)
{
    weft_host_message message;
    int fd = -1;
    int64_t probe_at = weft_now_ns() + (int64_t)PROBE_MS * WEFT_NS_PER_MS;
    for (bool gone = false;;) {
        pthread_mutex_lock(&h->lock);
        weft_host_read_mail(h);
        bool found = weft_host_take_parcel(h, h->local_ranks[leader], key, &message, &fd), lost = h->parcel_lost;
        pthread_mutex_unlock(&h->lock);
        if (found)
            break;
        if (lost)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to take a segment from another rank");
        if (gone)
            return weft_fail(WEFT_ERR_PEER, "rank %d is gone before it made a segment",
                             h->local_ranks[leader]);
        int64_t now = weft_now_ns();
        if (now >= deadline_ns)
            return weft_fail(WEFT_ERR_TIMEOUT, "no segment came from rank %d", h->local_ranks[leader]);
        if (now >= probe_at) {
            gone = peer_gone(h, leader); /* then one more look, for what it sent before it went */
            probe_at = now + (int64_t)PROBE_MS * WEFT_NS_PER_MS;
            continue;
        }
        int64_t left_ms = (deadline_ns - now) / WEFT_NS_PER_MS + 1;
        wait_mail(h, true,
                  left_ms < TURN_MS ? (int)left_ms
                                    : TURN_MS); /* another thread may take our message from the socket */
    }
    weft_status status;
    void *address;
    if (message.bytes == 0)
        status = weft_fail(WEFT_ERR_PEER, "rank %d could not make a segment", h->local_ranks[leader]);
    else if (message.bytes != bytes)
        status = weft_fail(WEFT_ERR_MISMATCH, "segment: rank %d made %llu bytes, rank %d expects %zu",
                           h->local_ranks[leader], (unsigned long long)message.bytes, h->rank, bytes);
    else if ((status = weft_shared_map(message.id, fd, bytes, &address)) == WEFT_OK) {
        s->base = address;
        s->id = message.id;
    }
    close(fd);
    return status;
}

weft_status weft_segment_create(weft_host *h, const int *indices, int count, uint64_t key,
                                size_t region_bytes, int64_t deadline_ns, weft_segment **out)
{
    int position, told = 0;
    weft_status status = check_members(h, indices, count, &position);
    if (status != WEFT_OK)
        return status;
    weft_segment *s = weft_alloc(sizeof(*s));
    if (!s) {
        status = weft_fail(WEFT_ERR_MEMORY, "no memory for a segment");
        if (position == 0)
            refuse(h, indices, count, told, key, deadline_ns, status);
        return status;
    }
    s->count = count;
    s->region_bytes = weft_round_up(region_bytes ? region_bytes : 1, (size_t)sysconf(_SC_PAGESIZE));
    size_t bytes;
    if (__builtin_mul_overflow(s->region_bytes, (size_t)count, &bytes))
        status = weft_fail(WEFT_ERR_INVALID, "segment: %d regions of %zu bytes are too large", count,
                           region_bytes);
    else if (position == 0)
        status = lead(h, indices, count, key, bytes, deadline_ns, s, &told);
    else
        status = follow(h, indices[0], key, bytes, deadline_ns, s);
    if (status != WEFT_OK) {
        weft_free(s);
        if (position == 0)
            refuse(h, indices, count, told, key, deadline_ns, status);
        return status;
    }
    weft_numa_prefer(weft_segment_region(s, position), s->region_bytes);
    *out = s;
    return WEFT_OK;
}

void *weft_segment_region(const weft_segment *s, int position)
{
    return s->base + (size_t)position * s->region_bytes;
}

void weft_segment_destroy(weft_segment *s)
{
    if (!s)
        return;
    weft_shared_unmap(s->id);
    weft_free(s);
}

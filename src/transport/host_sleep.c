/* Doorbells: sleeping until a local peer has written something, on a futex in the base segment or in poll
 * together with the caller's descriptors. What there is to wait for is the caller's. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/membarrier.h"
#include "transport/host_internal.h"

enum { MAX_POLL_FDS = 256, POLL_SLICE_NS = 1000000 };

#ifdef WEFT_TSAN
_Atomic uint32_t weft_tsan_fence_word;
#endif

static void wake_futex(weft_doorbell *bell)
{
    syscall(SYS_futex, &bell->state, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void wake_poll(weft_host *h, int index)
{
    const weft_socket_name *to = &h->peers[index].bell;
    /* EAGAIN: its queue is full, so poll returns anyway. ECONNREFUSED: it is gone. Short of memory: try
     * again. */
    for (int tries = 0; tries < 100; tries++) {
        ssize_t n = sendto(h->bell_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL,
                           (const struct sockaddr *)&to->address, to->bytes);
        if (n >= 0 || (errno != EINTR && errno != ENOBUFS && errno != ENOMEM))
            return;
        sched_yield();
    }
}

void weft_host_wake(weft_host *h, int index)
{
    weft_doorbell *bell = &h->front.bells[index];
    /* Only one of several ringers pays for the system call. Release: what it wrote is visible to who
     * wakes. */
    uint32_t was = atomic_exchange_explicit(&bell->state, WEFT_BELL_AWAKE, memory_order_acq_rel);
    if (was == WEFT_BELL_FUTEX)
        wake_futex(bell);
    else if (was == WEFT_BELL_POLL)
        wake_poll(h, index);
}

void weft_host_ring_self(weft_host *h)
{
    /* Whatever the word says: a peer may have set it to awake and died before its system call. */
    atomic_exchange_explicit(&h->front.bells[h->index].state, WEFT_BELL_AWAKE, memory_order_acq_rel);
    wake_futex(&h->front.bells[h->index]);
    wake_poll(h, h->index);
}

int weft_host_wait_fd(const weft_host *h) { return h->bell_socket; }

void weft_host_prepare_sleep(weft_host *h, bool with_fds)
{
    h->sleeps_in_poll = with_fds;
    atomic_store_explicit(&h->front.bells[h->index].state, with_fds ? WEFT_BELL_POLL : WEFT_BELL_FUTEX,
                          memory_order_relaxed);
    if (atomic_load_explicit(&h->front.bells[h->index].light, memory_order_relaxed))
        weft_membarrier_processes();
    weft_fence_store_load(); /* partner: weft_host_fence */
}

void weft_host_lighten(weft_host *h)
{
    if (h->front.light)
        return;
    /* release: it was said awake, or after a sleep began that whoever reads this sees (partner: below, at the others) */
    atomic_store_explicit(&h->front.bells[h->index].light, 1, memory_order_release);
    for (int i = 0; i < h->size; i++)
        if (!atomic_load_explicit(&h->front.bells[i].light, memory_order_acquire))
            return;
    h->front.light = true;
}

void weft_host_cancel_sleep(weft_host *h)
{
    /* Acquire: pairs with the ringer's exchange. A datagram that is on its way only shortens a later
     * sleep. */
    atomic_exchange_explicit(&h->front.bells[h->index].state, WEFT_BELL_AWAKE, memory_order_acq_rel);
}

static void sleep_on_futex(weft_doorbell *bell, int64_t deadline_ns)
{
    struct timespec until = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
    /* Returns at once with EAGAIN if someone rang already; FUTEX_WAIT_BITSET because its timeout is
     * absolute. */
    syscall(SYS_futex, &bell->state, FUTEX_WAIT_BITSET, WEFT_BELL_FUTEX,
            deadline_ns == WEFT_NEVER ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void sleep_in_poll(weft_host *h, const int *fds, int n, int64_t deadline_ns)
{
    struct pollfd polled[MAX_POLL_FDS];
    int count = n < MAX_POLL_FDS - 1 ? n : MAX_POLL_FDS - 1;
    polled[0] = (struct pollfd){.fd = h->bell_socket, .events = POLLIN};
    for (int i = 0; i < count; i++)
        polled[i + 1] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    struct timespec wait = {0, 0}, *timeout = NULL;
    int64_t left = deadline_ns == WEFT_NEVER ? INT64_MAX : deadline_ns - weft_now_ns();
    if (left < 0)
        left = 0;
    if (count < n && left > POLL_SLICE_NS)
        left = POLL_SLICE_NS; /* more descriptors than are watched: look again soon */
    if (left != INT64_MAX) {
        wait.tv_sec = (time_t)(left / 1000000000);
        wait.tv_nsec = (long)(left % 1000000000);
        timeout = &wait;
    }
    if (ppoll(polled, (nfds_t)(count + 1), timeout, NULL) > 0 && polled[0].revents) {
        char drop[16];
        while (recv(h->bell_socket, drop, sizeof(drop), MSG_DONTWAIT) >= 0)
            ;
    }
}

void weft_host_sleep(weft_host *h, const int *fds, int n, int64_t deadline_ns)
{
    weft_doorbell *bell = &h->front.bells[h->index];
    if (h->sleeps_in_poll || n > 0)
        sleep_in_poll(h, fds, n, deadline_ns);
    else
        sleep_on_futex(bell, deadline_ns);
    weft_host_cancel_sleep(h);
}

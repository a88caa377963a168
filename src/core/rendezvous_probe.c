/* Which ranks of a broken group are dead, proven for shrink: every rank keeps a listener that nobody serves, so a
 * connection to it stands (in the kernel's backlog) exactly as long as its process lives. Refused or reset: dead or left. */
#include <errno.h>
#include <sys/epoll.h>

#include "core/rendezvous_server.h"

static void close_probe(weft_meeting_probe *probe)
{
    weft_control_close(probe->fd);
    probe->fd = -1;
}

/* Tries the rank's addresses from probe->address on; when none is left the rank is absent. */
static void start(weft_meeting_server *s, weft_meeting_probe *probe)
{
    struct sockaddr_storage addresses[WEFT_MEETING_PLACES];
    int count = weft_control_sockaddrs(&s->endpoints[probe->rank], addresses, ARRAY_LEN(addresses));
    close_probe(probe);
    probe->stands = false;
    for (; probe->address < count; probe->address++) {
        const struct sockaddr_storage *address = &addresses[probe->address];
        probe->fd = weft_control_socket(address->ss_family);
        if (probe->fd < 0)
            continue;
        weft_control_keepalive(probe->fd, s->dead_peer_ms);
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = probe };
        socklen_t bytes = weft_control_sockaddr_bytes(address);
        if ((connect(probe->fd, (const struct sockaddr *)address, bytes) == 0 || errno == EINPROGRESS) &&
            epoll_ctl(s->epoll, EPOLL_CTL_ADD, probe->fd, &event) == 0) {
            probe->deadline_ns = weft_deadline_ns(s->dead_peer_ms > 0 ? s->dead_peer_ms : -1);
            return;
        }
        close_probe(probe);
    }
    weft_meeting_absent(s, probe->rank);
}

weft_status weft_meeting_start_probes(weft_meeting_server *s, const weft_meeting_config *config)
{
    s->probes = weft_alloc_array((size_t)s->size, sizeof *s->probes);
    if (s->probes == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to look for the survivors of %d ranks", s->size);
    s->endpoints = config->endpoints;
    s->dead_peer_ms = config->dead_peer_ms;
    s->self = config->self;
    for (int r = 0; r < s->size; r++)
        s->probes[r] = (weft_meeting_probe){ .fd = -1, .rank = r };
    for (int r = 0; r < s->size; r++) {
        if ((config->dead[r / 64] >> (r % 64) & 1) != 0)
            weft_meeting_absent(s, r);
        else if (r != config->self)
            start(s, &s->probes[r]);
    }
    return WEFT_OK;
}

void weft_meeting_stop_probes(weft_meeting_server *s)
{
    for (int r = 0; s->probes != NULL && r < s->size; r++)
        close_probe(&s->probes[r]);
    weft_free(s->probes);
    s->probes = NULL;
}

bool weft_meeting_is_probe(const weft_meeting_server *s, const void *what)
{
    uintptr_t first = (uintptr_t)s->probes, at = (uintptr_t)what;
    return s->probes != NULL && at >= first && at < first + (size_t)s->size * sizeof *s->probes;
}

static void next_address(weft_meeting_server *s, weft_meeting_probe *probe)
{
    probe->address++;
    start(s, probe);
    weft_meeting_check_complete(s);
}

void weft_meeting_probe_event(weft_meeting_server *s, weft_meeting_probe *probe)
{
    if (probe->fd < 0)
        return;
    int error = 0;
    socklen_t bytes = sizeof error;
    if (!probe->stands) {
        if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
            next_address(s, probe);
            return;
        }
        probe->stands = true;
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = probe };
        epoll_ctl(s->epoll, EPOLL_CTL_MOD, probe->fd, &event);
    }
    for (;;) {
        char unread[256]; /* a greeting, if that rank serves too */
        ssize_t n = recv(probe->fd, unread, sizeof unread, 0);
        if (n > 0 || (n < 0 && errno == EINTR))
            continue;
        if (n == 0 || errno != EAGAIN)
            next_address(s, probe);
        return;
    }
}

void weft_meeting_check_probes(weft_meeting_server *s, int64_t now_ns)
{
    for (int r = 0; s->probes != NULL && r < s->size; r++) {
        if (s->probes[r].fd >= 0 && !s->probes[r].stands && now_ns >= s->probes[r].deadline_ns)
            next_address(s, &s->probes[r]);
    }
}

void weft_meeting_absent(weft_meeting_server *s, int rank)
{
    if ((s->absent[rank / 64] >> (rank % 64) & 1) != 0)
        return;
    s->absent[rank / 64] |= 1ull << (rank % 64);
    s->absent_count++;
    close_probe(&s->probes[rank]);
}

void weft_meeting_present(weft_meeting_server *s, int rank)
{
    if (s->probes == NULL)
        return;
    close_probe(&s->probes[rank]);
    if ((s->absent[rank / 64] >> (rank % 64) & 1) != 0) { /* taken for dead by mistake: it was only cut off */
        s->absent[rank / 64] &= ~(1ull << (rank % 64));
        s->absent_count--;
    }
}

void weft_meeting_probe_again(weft_meeting_server *s, int rank)
{
    if ((s->absent[rank / 64] >> (rank % 64) & 1) != 0 || rank == s->self)
        return;
    s->probes[rank].address = 0;
    start(s, &s->probes[rank]);
}

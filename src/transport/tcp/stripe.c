/* Which of a link's sockets takes the next slices: the one with the least under way for its rail's speed. The first that has room
 * would not do: the kernel's buffers have room for all that a collective has under way at once, so that one rail would carry
 * everything. A speed learned from acknowledgements would not do either: it feeds on itself. */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "transport/tcp/tcp.h"

static bool same_address(const weft_tcp_sockaddr *a, const weft_tcp_sockaddr *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET6)
        return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
    return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

/* By what the peer's end is called: a socket that was accepted has no rail, but each of the peer's interfaces is of
 * one rail only. */
void weft_tcp_stripe_begin(tcp_socket *s)
{
    const tcp_link *link = s->link;
    s->given = 0;
    s->speed_Mbps = 0;
    for (int i = 0; i < link->rail_count; i++)
        if (same_address(&link->rails[i].remote, &s->remote))
            s->speed_Mbps = link->rails[i].speed_Mbps;
}

static bool ready(const tcp_socket *s)
{
    return s && s->state == TCP_UP && !s->write_error && !s->blocked;
}

/* What the peer has yet to acknowledge; 0 where the kernel does not tell: then sockets take turns. */
static double held_by(const tcp_socket *s)
{
    int held = 0;
    return ioctl(s->source.fd, SIOCOUTQ, &held) == 0 && held > 0 ? held : 0;
}

tcp_socket *weft_tcp_stripe_choose(tcp_link *link)
{
    bool known = true;
    for (int i = 0; i < link->socket_count; i++)
        known &= !ready(link->sockets[i]) || link->sockets[i]->speed_Mbps > 0;
    tcp_socket *best = NULL;
    double least = 0, least_given = 0;
    for (int i = 0; i < link->socket_count; i++) {
        tcp_socket *s = link->sockets[i];
        if (!ready(s))
            continue;
        double speed = known ? s->speed_Mbps : 1;
        double wait = (held_by(s) + link->queue->bytes) / speed, given = (double)s->given / speed;
        if (!best || wait < least || (wait <= least && given < least_given)) {
            best = s;
            least = wait;
            least_given = given;
        }
    }
    return best;
}

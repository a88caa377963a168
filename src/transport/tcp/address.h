/* The address blob of a tcp instance, and which of its addresses to pair with which of a peer's. */
#ifndef WEFT_TCP_ADDRESS_H
#define WEFT_TCP_ADDRESS_H

#include <weft/transport.h>

#include "transport/tcp/interfaces.h"

typedef struct weft_tcp_entry {
    weft_tcp_sockaddr address; /* with the port that is listened on */
    int interface;             /* number of the interface, to tell which entries are of one */
    unsigned prefix;
    bool loopback, link_local;
    bool far;                  /* other ranks of its host are nearer to the interface */
    uint32_t speed_Mbps;       /* 0: unknown */
    char name[IF_NAMESIZE];    /* own entries only */
    unsigned scope;            /* own entries only: the kernel's index */
} weft_tcp_entry;

typedef struct weft_tcp_addresses {
    uint64_t host;             /* same number: same network stack, so 127.0.0.1 is the same */
    int count;
    weft_tcp_entry entries[WEFT_TCP_ADDRESSES_MAX];
} weft_tcp_addresses;

/* A pair of addresses that a socket can go between. */
typedef struct weft_tcp_rail {
    weft_tcp_sockaddr local, remote; /* local: port 0 */
    char interface[IF_NAMESIZE];
    uint32_t speed_Mbps;
    bool same_host;
    bool bound;                /* one of several: routing alone would not find it */
    int far_ends;              /* 0 to 2: at how many ends other ranks are nearer to the interface */
} weft_tcp_rail;

weft_status weft_tcp_addresses_encode(const weft_tcp_addresses *addresses, void *bytes, size_t *count);
/* WEFT_ERR_UNSUPPORTED with the reason when it is no address blob of this version. */
weft_status weft_tcp_addresses_decode(const void *bytes, size_t count, weft_tcp_addresses *addresses);

/* The rails between two instances, best first: interfaces in a common subnet, else by position. One per pair
 * of interfaces; only one between ranks of the same host. WEFT_ERR_UNSUPPORTED with the reason when there is
 * none. Symmetric in whether there is any. */
weft_status weft_tcp_rails_match(const weft_tcp_addresses *mine, const weft_tcp_addresses *theirs,
                                 weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX], int *count);

/* Leaves the rails that are near at both ends, if there are none those at one end, else all. Returns how many. */
int weft_tcp_rails_keep_near(weft_tcp_rail *rails, int count);

/* Number of this process's network stack, by proc ("/proc"); where that is not to be had, by its own addresses. */
uint64_t weft_tcp_host_number(const char *proc, const weft_tcp_addresses *own);

#endif

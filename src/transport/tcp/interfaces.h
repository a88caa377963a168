/* Which network interfaces and addresses of this machine the tcp transport listens on and dials from. */
#ifndef WEFT_TCP_INTERFACES_H
#define WEFT_TCP_INTERFACES_H

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/base.h"

enum {
    WEFT_TCP_INTERFACES_MAX = 8,
    WEFT_TCP_ADDRESSES_MAX = 2 * WEFT_TCP_INTERFACES_MAX, /* one IPv4 and one IPv6 address of each */
    WEFT_TCP_CANDIDATES_MAX = 256
};

typedef union weft_tcp_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} weft_tcp_sockaddr;

/* One address of one interface. */
typedef struct weft_tcp_interface {
    char name[IF_NAMESIZE];
    unsigned index;           /* the kernel's */
    bool up, loopback;
    bool outward;             /* leads out of the machine; only where there are more than WEFT_TCP_INTERFACES_MAX */
    uint32_t speed_Mbps;      /* 0: unknown */
    unsigned prefix;          /* bits of the subnet */
    weft_tcp_sockaddr address; /* port 0 */
} weft_tcp_interface;

/* All addresses of this machine, at most `max`, without their speeds. Interfaces without an address are listed with family 0. */
weft_status weft_tcp_interfaces_list(weft_tcp_interface *all, int max, int *count);
/* The ones to use, by the rules of WEFT_INTERFACES (`setting`; NULL or "": every usable one): up, at most one
 * IPv4 and one IPv6 address each, loopback only if named or if there is nothing else; of too many those that lead out. Pure.
 * WEFT_ERR_INVALID naming all interfaces when none is left. */
weft_status weft_tcp_interfaces_choose(const weft_tcp_interface *all, int count, const char *setting,
                                       weft_tcp_interface chosen[WEFT_TCP_ADDRESSES_MAX], int *chosen_count);

/* The speeds of those: a file and some system calls each, so not of all that a machine with many containers has. */
void weft_tcp_interfaces_find_speeds(weft_tcp_interface *chosen, int count);

/* "low-high" or one port; NULL or "": 0-0, any. */
weft_status weft_tcp_port_range_parse(const char *text, uint16_t *low, uint16_t *high);

/* "10.0.0.2:4000", "[fe80::1%eth0]:4000"; without port when it is 0. */
enum { WEFT_TCP_ADDRESS_TEXT = 80 };
const char *weft_tcp_address_text(const weft_tcp_sockaddr *address, char text[WEFT_TCP_ADDRESS_TEXT]);
void weft_tcp_set_port(weft_tcp_sockaddr *address, uint16_t port);
socklen_t weft_tcp_address_bytes(const weft_tcp_sockaddr *address);

#endif

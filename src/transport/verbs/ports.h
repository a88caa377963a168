/* Ports of RDMA devices as data: which of them to use, which GID of a port, which ports of two instances to pair, and
 * the address blob. Opens no device. */
#ifndef WEFT_VERBS_PORTS_H
#define WEFT_VERBS_PORTS_H

#include <weft/transport.h>

#include "base/base.h"

enum {
    WEFT_VERBS_PORTS_MAX = 8, /* that one instance uses */
    WEFT_VERBS_RAILS_MAX = 4, /* between two instances */
    WEFT_VERBS_NAME = 72,     /* "mlx5_0:1" */
    WEFT_VERBS_WEIGHT_MAX = 1000
};

/* ---- which ports ---- */

/* Is that port in the list of WEFT_IB_HCA? "" or NULL: all. "mlx5" is a prefix of device names, "=mlx5_1" a whole name,
 * "mlx5_1:2" one port, a leading "^" leaves out what the list names; "mlx5_1*3" gives a weight. *position: of the entry
 * that names it, for the order; *weight: 1 if none is given. */
bool weft_verbs_list_match(const char *list, const char *device, int port, int *position, int *weight);
/* WEFT_ERR_PARSE naming the entry that is none. */
weft_status weft_verbs_list_check(const char *list);

/* ---- which GID ---- */

typedef struct weft_verbs_gid {
    int index;                 /* in the port's table */
    bool roce_v2;
    unsigned char raw[16];     /* all 0: an empty place */
} weft_verbs_gid;

/* The place in `table` of the GID to use: `wanted` if it is not -1, else for Ethernet RoCE v2 before v1, IPv4 before IPv6 before
 * link-local addresses, low indices first; for InfiniBand the first. WEFT_ERR_UNSUPPORTED with the reason when there is none. */
weft_status weft_verbs_gid_choose(const weft_verbs_gid *table, int count, bool ethernet, int wanted, int *place);

/* ---- what peers learn of a port ---- */

typedef struct weft_verbs_port {
    bool ethernet;             /* RoCE, else InfiniBand */
    unsigned char gid[16];
    uint16_t lid;
    uint16_t pkey;             /* the key itself */
    uint8_t mtu;               /* enum ibv_mtu */
    uint32_t speed_Mbps;
    uint16_t weight;
    bool far;                  /* other ranks of its host are nearer to it */
    char name[WEFT_VERBS_NAME]; /* own ports only */
} weft_verbs_port;

typedef struct weft_verbs_address {
    int count;
    weft_verbs_port ports[WEFT_VERBS_PORTS_MAX];
    const unsigned char *control; /* the control channel's address, inside the blob */
    size_t control_bytes;
} weft_verbs_address;

weft_status weft_verbs_address_encode(const weft_verbs_address *address, void *bytes, size_t *count);
/* WEFT_ERR_UNSUPPORTED with the reason when it is no blob of this version, or of a host of other byte order. */
weft_status weft_verbs_address_decode(const void *bytes, size_t count, weft_verbs_address *address);

/* ---- which ports to pair ---- */

typedef struct weft_verbs_pair {
    int mine, theirs;          /* numbers of ports */
    uint32_t weight;           /* share of bytes: the slower side's speed times its weight */
} weft_verbs_pair;

/* The rails between two instances: port by port in their order, the shorter list from its start again; the same on both
 * sides but for the point of view. Of these the ones that are near at both ends, if there are none those at one end, else all.
 * `lower`: this side's rank is the lower one. WEFT_ERR_UNSUPPORTED when no two ports reach
 * each other. */
weft_status weft_verbs_pairs_match(const weft_verbs_port *mine, int mine_count, const weft_verbs_port *theirs, int their_count,
                                   bool lower, weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX], int *count);

#endif

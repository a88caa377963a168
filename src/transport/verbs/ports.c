/* Choosing and pairing ports, choosing GIDs, address blobs. Pure functions. */
#include "transport/verbs/ports.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* ---- lists of devices --------------------------------------------------------------------------- */

/* One entry: "[=]name[:port][*weight]". */
typedef struct entry {
    const char *name;
    size_t name_bytes;
    bool exact;
    int port;                  /* 0: any */
    int weight;                /* 0: not given */
} entry;

/* A decimal number in [1, most]; 0 if it is none. */
static int number_at(const char *at, const char *end, int most)
{
    int value = 0;
    if (at == end)
        return 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9' || (value = value * 10 + (*at - '0')) > most)
            return 0;
    }
    return value;
}

static bool entry_read(const char *at, size_t bytes, entry *e)
{
    const char *end = at + bytes;
    *e = (entry){.exact = bytes > 0 && *at == '='};
    at += e->exact;
    const char *star = memchr(at, '*', (size_t)(end - at));
    if (star && !(e->weight = number_at(star + 1, end, WEFT_VERBS_WEIGHT_MAX)))
        return false;
    end = star ? star : end;
    const char *colon = memchr(at, ':', (size_t)(end - at));
    if (colon && !(e->port = number_at(colon + 1, end, 255)))
        return false;
    end = colon ? colon : end;
    e->name = at;
    e->name_bytes = (size_t)(end - at);
    return e->name_bytes > 0;
}

weft_status weft_verbs_list_check(const char *list)
{
    entry e;
    if (!list || !*list)
        return WEFT_OK;
    for (const char *at = list + (*list == '^');; at++) {
        size_t bytes = strcspn(at, ",");
        if (!entry_read(at, bytes, &e))
            return weft_fail(WEFT_ERR_PARSE, "WEFT_IB_HCA '%s': '%.*s' is not NAME, NAME:PORT or NAME*WEIGHT", list, (int)bytes,
                             at);
        at += bytes;
        if (!*at)
            return WEFT_OK;
    }
}

bool weft_verbs_list_match(const char *list, const char *device, int port, int *position, int *weight)
{
    entry e;
    *position = 0;
    *weight = 1;
    if (!list || !*list)
        return true;
    bool leave_out = *list == '^';
    for (const char *at = list + leave_out;; at++) {
        size_t bytes = strcspn(at, ",");
        bool named = entry_read(at, bytes, &e) && strncmp(device, e.name, e.name_bytes) == 0 &&
                     (!e.exact || device[e.name_bytes] == 0) && (e.port == 0 || e.port == port);
        if (named) {
            *weight = e.weight ? e.weight : 1;
            return !leave_out;
        }
        (*position)++;
        at += bytes;
        if (!*at)
            return leave_out;
    }
}

/* ---- GIDs ---------------------------------------------------------------------------------------- */

typedef enum gid_family { GID_NONE, GID_LINK_LOCAL, GID_IPV6, GID_IPV4 } gid_family;

static gid_family family_of(const unsigned char gid[16])
{
    static const unsigned char none[16], mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(gid, none, sizeof none) == 0 || (gid[0] == 0xfe && gid[1] == 0x80 && memcmp(gid + 8, none, 8) == 0))
        return GID_NONE;
    if (memcmp(gid, mapped, sizeof mapped) == 0)
        return GID_IPV4;
    return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80 ? GID_LINK_LOCAL : GID_IPV6;
}

weft_status weft_verbs_gid_choose(const weft_verbs_gid *table, int count, bool ethernet, int wanted, int *place)
{
    int best = -1, best_rank = 0;
    for (int i = 0; i < count; i++) {
        gid_family family = family_of(table[i].raw);
        if (wanted >= 0 && table[i].index == wanted) {
            if (family == GID_NONE)
                return weft_fail(WEFT_ERR_UNSUPPORTED, "GID %d (WEFT_IB_GID_INDEX) is empty", wanted);
            *place = i;
            return WEFT_OK;
        }
        if (family == GID_NONE)
            continue;
        int rank = ethernet ? (table[i].roce_v2 ? 8 : 0) + (int)family : 1;
        if (rank > best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    if (wanted >= 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "there is no GID %d (WEFT_IB_GID_INDEX)", wanted);
    if (best < 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the port has no GID: has its interface an address?");
    *place = best;
    return WEFT_OK;
}

/* ---- address blobs -------------------------------------------------------------------------------- */

/* All numbers little endian. Head: magic, count of ports, bytes of the control address, hash of all that follows. */
enum { HEAD_BYTES = 16, PORT_BYTES = 28, PORT_ETHERNET = 1, PORT_FAR = 2 };
static const unsigned char blob_magic[4] = {'W', 'V', 'A', 1};

static uint64_t blob_hash(const unsigned char *blob, size_t bytes)
{
    uint64_t hash = htole64(weft_hash(blob + HEAD_BYTES, bytes - HEAD_BYTES, 7));
    return hash;
}

weft_status weft_verbs_address_encode(const weft_verbs_address *address, void *bytes, size_t *count)
{
    size_t needed = HEAD_BYTES + (size_t)address->count * PORT_BYTES + address->control_bytes;
    unsigned char *blob = bytes, *at = blob + HEAD_BYTES;
    if (needed > *count)
        return weft_fail(WEFT_ERR_INVALID, "verbs: %zu bytes are too few for an address of %zu", *count, needed);
    memset(blob, 0, needed);
    for (int i = 0; i < address->count; i++, at += PORT_BYTES) {
        const weft_verbs_port *p = &address->ports[i];
        at[0] = (unsigned char)((p->ethernet ? PORT_ETHERNET : 0) | (p->far ? PORT_FAR : 0));
        at[1] = p->mtu;
        weft_put16(at + 2, p->lid);
        weft_put16(at + 4, p->pkey);
        weft_put16(at + 6, p->weight);
        weft_put32(at + 8, p->speed_Mbps);
        memcpy(at + 12, p->gid, sizeof p->gid);
    }
    if (address->control_bytes)
        memcpy(at, address->control, address->control_bytes);
    memcpy(blob, blob_magic, sizeof blob_magic);
    weft_put16(blob + 4, (uint16_t)address->count);
    weft_put16(blob + 6, (uint16_t)address->control_bytes);
    uint64_t hash = blob_hash(blob, needed);
    memcpy(blob + 8, &hash, sizeof hash);
    *count = needed;
    return WEFT_OK;
}

weft_status weft_verbs_address_decode(const void *bytes, size_t count, weft_verbs_address *address)
{
    const unsigned char *blob = bytes, *at = blob + HEAD_BYTES;
    memset(address, 0, sizeof *address);
    if (count < HEAD_BYTES || memcmp(blob, blob_magic, sizeof blob_magic) != 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the peer has no address of verbs (no RDMA device, or another version of weft)");
    int ports = weft_get16(blob + 4);
    size_t control_bytes = weft_get16(blob + 6);
    uint64_t hash = blob_hash(blob, count);
    if (ports < 1 || ports > WEFT_VERBS_PORTS_MAX || count != HEAD_BYTES + (size_t)ports * PORT_BYTES + control_bytes ||
        memcmp(blob + 8, &hash, sizeof hash) != 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the peer's address of verbs is damaged (%zu bytes)", count);
    for (int i = 0; i < ports; i++, at += PORT_BYTES) {
        weft_verbs_port *p = &address->ports[i];
        p->ethernet = at[0] & PORT_ETHERNET;
        p->far = at[0] & PORT_FAR;
        p->mtu = at[1];
        p->lid = weft_get16(at + 2);
        p->pkey = weft_get16(at + 4);
        p->weight = weft_get16(at + 6);
        p->speed_Mbps = weft_get32(at + 8);
        memcpy(p->gid, at + 12, sizeof p->gid);
    }
    address->count = ports;
    address->control = at;
    address->control_bytes = control_bytes;
    return WEFT_OK;
}

/* ---- pairs ---------------------------------------------------------------------------------------- */

/* Keys of a partition agree in their lower 15 bits; bit 15 says full member, and two limited members may not talk. */
static bool keys_agree(uint16_t a, uint16_t b)
{
    return ((a ^ b) & 0x7fff) == 0 && ((a | b) & 0x8000);
}

static bool ports_reach(const weft_verbs_port *a, const weft_verbs_port *b)
{
    if (a->ethernet != b->ethernet || !keys_agree(a->pkey, b->pkey))
        return false;
    if (!a->ethernet) /* one subnet of InfiniBand, which its prefix names */
        return memcmp(a->gid, b->gid, 8) == 0;
    return family_of(a->gid) == family_of(b->gid);
}

static uint32_t pair_weight(const weft_verbs_port *a, const weft_verbs_port *b)
{
    uint64_t left = (uint64_t)(a->speed_Mbps ? a->speed_Mbps : 1) * (a->weight ? a->weight : 1);
    uint64_t right = (uint64_t)(b->speed_Mbps ? b->speed_Mbps : 1) * (b->weight ? b->weight : 1);
    uint64_t weight = left < right ? left : right;
    return weight < UINT32_MAX / 2 ? (uint32_t)weight : UINT32_MAX / 2;
}

/* All rails, from the lower side's point of view. */
static int match_ports(const weft_verbs_port *low, int low_count, const weft_verbs_port *high, int high_count,
                       weft_verbs_pair pairs[WEFT_VERBS_PORTS_MAX])
{
    int most = low_count > high_count ? low_count : high_count, n = 0;
    for (int i = 0; i < most && n < WEFT_VERBS_PORTS_MAX; i++) {
        int l = i % low_count;
        for (int k = 0; k < high_count; k++) { /* the one at the same place first */
            int h = (i + k) % high_count;
            if (!ports_reach(&low[l], &high[h]))
                continue;
            bool twice = false;
            for (int j = 0; j < n; j++)
                twice |= pairs[j].mine == l && pairs[j].theirs == h;
            if (twice)
                continue;
            pairs[n++] = (weft_verbs_pair){l, h, pair_weight(&low[l], &high[h])};
            break;
        }
    }
    return n;
}

weft_status weft_verbs_pairs_match(const weft_verbs_port *mine, int mine_count, const weft_verbs_port *theirs, int their_count,
                                   bool lower, weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX], int *count)
{
    const weft_verbs_port *low = lower ? mine : theirs, *high = lower ? theirs : mine;
    weft_verbs_pair all[WEFT_VERBS_PORTS_MAX];
    int found = match_ports(low, lower ? mine_count : their_count, high, lower ? their_count : mine_count, all), least = 2, n = 0;
    for (int i = 0; i < found; i++) {
        int far_ends = low[all[i].mine].far + high[all[i].theirs].far;
        least = far_ends < least ? far_ends : least;
    }
    for (int i = 0; i < found && n < WEFT_VERBS_RAILS_MAX; i++)
        if (low[all[i].mine].far + high[all[i].theirs].far == least)
            pairs[n++] = lower ? all[i] : (weft_verbs_pair){all[i].theirs, all[i].mine, all[i].weight};
    *count = n;
    return n ? WEFT_OK
             : weft_fail(WEFT_ERR_UNSUPPORTED, "no RDMA port here and at the peer have link layer, kind of GID or subnet, and "
                                               "partition in common (WEFT_IB_HCA, WEFT_IB_GID_INDEX, WEFT_IB_PKEY)");
}

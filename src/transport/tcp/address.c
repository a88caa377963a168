/* Address blobs and the pairing of two instances' addresses into rails. Reads no interfaces and opens no
 * sockets. */
#include "transport/tcp/address.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 16,
    ENTRY_BYTES = 28,
    ENTRY_LOOPBACK = 1,
    ENTRY_LINK_LOCAL = 2,
    ENTRY_FAR = 4,
    SLOW_RAIL_FACTOR = 4 /* a rail slower than the fastest by more than this would hold the others up */
};
_Static_assert(HEADER_BYTES + WEFT_TCP_ADDRESSES_MAX * ENTRY_BYTES <= WEFT_TRANSPORT_ADDRESS_MAX,
               "the longest blob fits");

static const unsigned char blob_magic[4] = { 'W', 'T', 'A', 1 };

static void encode_entry(const weft_tcp_entry *entry, unsigned char *at)
{
    bool v6 = entry->address.any.sa_family == AF_INET6;
    uint16_t port = v6 ? entry->address.v6.sin6_port : entry->address.v4.sin_port; /* network order already */
    uint32_t speed = htole32(entry->speed_Mbps);
    memset(at, 0, ENTRY_BYTES);
    at[0] = v6 ? 6 : 4;
    at[1] = (unsigned char)entry->interface;
    at[2] = (unsigned char)entry->prefix;
    at[3] = (unsigned char)((entry->loopback ? ENTRY_LOOPBACK : 0) | (entry->link_local ? ENTRY_LINK_LOCAL : 0) |
                            (entry->far ? ENTRY_FAR : 0));
    memcpy(at + 4, &port, 2);
    memcpy(at + 8, &speed, 4);
    if (v6)
        memcpy(at + 12, &entry->address.v6.sin6_addr, 16);
    else
        memcpy(at + 12, &entry->address.v4.sin_addr, 4);
}

static bool decode_entry(const unsigned char *at, weft_tcp_entry *entry)
{
    uint16_t port;
    uint32_t speed;
    memset(entry, 0, sizeof *entry);
    memcpy(&port, at + 4, 2);
    memcpy(&speed, at + 8, 4);
    entry->interface = at[1];
    entry->prefix = at[2];
    entry->loopback = at[3] & ENTRY_LOOPBACK;
    entry->link_local = at[3] & ENTRY_LINK_LOCAL;
    entry->far = at[3] & ENTRY_FAR;
    entry->speed_Mbps = le32toh(speed);
    if (at[0] == 4) {
        entry->address.v4.sin_family = AF_INET;
        entry->address.v4.sin_port = port;
        memcpy(&entry->address.v4.sin_addr, at + 12, 4);
    } else if (at[0] == 6) {
        entry->address.v6.sin6_family = AF_INET6;
        entry->address.v6.sin6_port = port;
        memcpy(&entry->address.v6.sin6_addr, at + 12, 16);
    } else {
        return false;
    }
    return port != 0 && entry->interface < WEFT_TCP_INTERFACES_MAX &&
           entry->prefix <= (at[0] == 4 ? 32 : 128);
}

weft_status weft_tcp_addresses_encode(const weft_tcp_addresses *addresses, void *bytes, size_t *count)
{
    size_t need = HEADER_BYTES + (size_t)addresses->count * ENTRY_BYTES;
    if (*count < need)
        return weft_fail(WEFT_ERR_INVALID, "a tcp address needs %zu bytes, there is room for %zu", need,
                         *count);
    unsigned char *at = bytes;
    uint64_t host = htole64(addresses->host);
    memset(at, 0, HEADER_BYTES);
    memcpy(at, blob_magic, sizeof blob_magic);
    at[4] = (unsigned char)addresses->count;
    memcpy(at + 8, &host, sizeof host);
    for (int i = 0; i < addresses->count; i++)
        encode_entry(&addresses->entries[i], at + HEADER_BYTES + i * ENTRY_BYTES);
    *count = need;
    return WEFT_OK;
}

weft_status weft_tcp_addresses_decode(const void *bytes, size_t count, weft_tcp_addresses *addresses)
{
    const unsigned char *at = bytes;
    memset(addresses, 0, sizeof *addresses);
    if (!bytes || count < HEADER_BYTES || memcmp(at, blob_magic, sizeof blob_magic) != 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "the peer's %zu bytes are no tcp address of this version of weft", count);
    int entries = at[4];
    if (entries < 1 || entries > WEFT_TCP_ADDRESSES_MAX ||
        count != HEADER_BYTES + (size_t)entries * ENTRY_BYTES)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the peer's tcp address is damaged: %d entries in %zu bytes",
                         entries, count);
    memcpy(&addresses->host, at + 8, sizeof addresses->host);
    addresses->host = le64toh(addresses->host);
    for (int i = 0; i < entries; i++) {
        if (!decode_entry(at + HEADER_BYTES + i * ENTRY_BYTES, &addresses->entries[i]))
            return weft_fail(WEFT_ERR_UNSUPPORTED,
                             "the peer's tcp address is damaged: entry %d makes no sense", i);
    }
    addresses->count = entries;
    return WEFT_OK;
}

static bool same_bits(const void *a, const void *b, unsigned bits)
{
    const unsigned char *x = a, *y = b;
    if (memcmp(x, y, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || (x[bits / 8] ^ y[bits / 8]) >> (8 - rest) == 0;
}

static const void *raw_address(const weft_tcp_entry *entry)
{
    return entry->address.any.sa_family == AF_INET6 ? (const void *)&entry->address.v6.sin6_addr
                                                    : (const void *)&entry->address.v4.sin_addr;
}

static unsigned raw_bits(const weft_tcp_entry *entry)
{
    return entry->address.any.sa_family == AF_INET6 ? 128 : 32;
}

uint64_t weft_tcp_host_number(const char *proc, const weft_tcp_addresses *own)
{
    char path[64], text[128] = "";
    size_t used = 0;
    snprintf(path, sizeof path, "%s/sys/kernel/random/boot_id", proc);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, 64);
        used = n > 0 ? (size_t)n : 0;
        close(fd);
    }
    bool known = used > 0;
    snprintf(path, sizeof path, "%s/self/ns/net", proc);
    ssize_t n = readlink(path, text + used, sizeof text - used);
    used += n > 0 ? (size_t)n : 0;
    uint64_t number = weft_hash(text, used, 1);
    for (int i = 0; i < own->count && !known; i++) /* a sandbox or a chroot, which tells nothing that differs from host to host */
        number = weft_hash(raw_address(&own->entries[i]), raw_bits(&own->entries[i]) / 8, number);
    return number;
}

static bool same_subnet(const weft_tcp_entry *a, const weft_tcp_entry *b)
{
    return a->prefix == b->prefix && a->prefix > 0 && same_bits(raw_address(a), raw_address(b), a->prefix);
}

/* Can a packet go from one to the other, as far as one can know without sending it? */
static bool compatible(const weft_tcp_entry *a, const weft_tcp_entry *b, bool same_host)
{
    if (a->address.any.sa_family != b->address.any.sa_family)
        return false;
    if (a->loopback || b->loopback)
        return a->loopback && b->loopback && same_host;
    /* A bridge that container software gives the same address on every host leads to oneself. */
    if (!same_host && same_bits(raw_address(a), raw_address(b), raw_bits(a)))
        return false;
    return a->link_local == b->link_local;
}

static void make_rail(const weft_tcp_entry *mine, const weft_tcp_entry *theirs, bool same_host,
                      weft_tcp_rail *rail)
{
    memset(rail, 0, sizeof *rail);
    rail->local = mine->address;
    rail->remote = theirs->address;
    weft_tcp_set_port(&rail->local, 0);
    if (mine->link_local) { /* IPv6 only */
        rail->local.v6.sin6_scope_id = mine->scope;
        rail->remote.v6.sin6_scope_id = mine->scope;
    }
    memcpy(rail->interface, mine->name, sizeof rail->interface);
    rail->same_host = same_host;
    rail->far_ends = mine->far + theirs->far;
    rail->speed_Mbps = mine->speed_Mbps;
    if (theirs->speed_Mbps && (!rail->speed_Mbps || theirs->speed_Mbps < rail->speed_Mbps))
        rail->speed_Mbps = theirs->speed_Mbps;
}

/* Best pair of entries of two interfaces: entries are in order of preference (IPv4 first). */
static bool pair_interfaces(const weft_tcp_addresses *mine, int own, const weft_tcp_addresses *theirs,
                            int other, bool need_subnet, weft_tcp_rail *rail)
{
    bool same_host = mine->host == theirs->host;
    for (int family = 0; family < 2; family++) {
        for (int i = 0; i < mine->count; i++) {
            const weft_tcp_entry *a = &mine->entries[i];
            if (a->interface != own || (a->address.any.sa_family == AF_INET6) != family)
                continue;
            for (int k = 0; k < theirs->count; k++) {
                const weft_tcp_entry *b = &theirs->entries[k];
                if (b->interface != other || !compatible(a, b, same_host) ||
                    (need_subnet && !same_subnet(a, b)))
                    continue;
                make_rail(a, b, same_host, rail);
                return true;
            }
        }
    }
    return false;
}

/* Pairs each interface with at most one of the peer's. Without a common subnet it is the position that
 * counts: hosts of a cluster name their rails in the same order; what is left over is paired as it comes. */
static int match(const weft_tcp_addresses *mine, const weft_tcp_addresses *theirs, bool need_subnet,
                 weft_tcp_rail *rails)
{
    int count = 0;
    bool own_used[WEFT_TCP_INTERFACES_MAX] = { false }, other_used[WEFT_TCP_INTERFACES_MAX] = { false };
    for (int distance = 0; distance < WEFT_TCP_INTERFACES_MAX; distance++) {
        for (int own = 0; own < WEFT_TCP_INTERFACES_MAX; own++) {
            int other = (own + distance) % WEFT_TCP_INTERFACES_MAX;
            if (own_used[own] || other_used[other])
                continue;
            if (pair_interfaces(mine, own, theirs, other, need_subnet, &rails[count])) {
                own_used[own] = other_used[other] = true;
                count++;
            }
        }
        /* Pairs of unequal position in unrelated subnets are a last resort: one is enough. */
        if (!need_subnet && count > 0)
            break;
    }
    return count;
}

static int drop_slow(weft_tcp_rail *rails, int count)
{
    uint32_t fastest = 0;
    for (int i = 0; i < count; i++)
        fastest = rails[i].speed_Mbps > fastest ? rails[i].speed_Mbps : fastest;
    int kept = 0;
    for (int i = 0; i < count; i++) {
        if (rails[i].speed_Mbps == 0 || rails[i].speed_Mbps >= fastest / SLOW_RAIL_FACTOR)
            rails[kept++] = rails[i];
    }
    return kept;
}

weft_status weft_tcp_rails_match(const weft_tcp_addresses *mine, const weft_tcp_addresses *theirs,
                                 weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX], int *count)
{
    int n = match(mine, theirs, true, rails);
    if (n == 0)
        n = match(mine, theirs, false, rails);
    if (n == 0) {
        char own[WEFT_TCP_ADDRESS_TEXT], other[WEFT_TCP_ADDRESS_TEXT];
        return weft_fail(WEFT_ERR_UNSUPPORTED, "no common address family between %s%s and %s%s",
                         mine->count ? weft_tcp_address_text(&mine->entries[0].address, own) : "nothing",
                         mine->count > 1 ? " (and others)" : "",
                         weft_tcp_address_text(&theirs->entries[0].address, other),
                         theirs->count > 1 ? " (and others)" : "");
    }
    n = drop_slow(rails, n);
    *count = rails[0].same_host && n > 1 ? 1 : n; /* all rails within a host are its memory */
    for (int i = 0; i < *count; i++)
        rails[i].bound = *count > 1;
    return WEFT_OK;
}

int weft_tcp_rails_keep_near(weft_tcp_rail *rails, int count)
{
    int least = 2, kept = 0;
    for (int i = 0; i < count; i++)
        least = rails[i].far_ends < least ? rails[i].far_ends : least;
    for (int i = 0; i < count; i++) {
        if (rails[i].far_ends == least)
            rails[kept++] = rails[i];
    }
    return kept;
}

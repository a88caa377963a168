/* Lists the machine's addresses and chooses those that the tcp transport uses. Pairing them with a peer's is
 * address.c's. */
#include "transport/tcp/interfaces.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/interface.h"
#include "base/settings.h"
#include "base/traffic.h"

socklen_t weft_tcp_address_bytes(const weft_tcp_sockaddr *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

void weft_tcp_set_port(weft_tcp_sockaddr *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->v6.sin6_port = htons(port);
    else
        address->v4.sin_port = htons(port);
}

const char *weft_tcp_address_text(const weft_tcp_sockaddr *address, char text[WEFT_TCP_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";
    char scope[IF_NAMESIZE + 1] = "";
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        snprintf(text, WEFT_TCP_ADDRESS_TEXT, address->v4.sin_port ? "%s:%u" : "%s", host,
                 ntohs(address->v4.sin_port));
    } else if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
        char name[IF_NAMESIZE];
        if (address->v6.sin6_scope_id && if_indextoname(address->v6.sin6_scope_id, name))
            snprintf(scope, sizeof scope, "%%%.15s", name);
        if (address->v6.sin6_port)
            snprintf(text, WEFT_TCP_ADDRESS_TEXT, "[%s%s]:%u", host, scope, ntohs(address->v6.sin6_port));
        else
            snprintf(text, WEFT_TCP_ADDRESS_TEXT, "%s%s", host, scope);
    } else {
        snprintf(text, WEFT_TCP_ADDRESS_TEXT, "no address");
    }
    return text;
}

/* What the driver says in Mbit/s; many virtual ones say -1 or nothing. */
static uint32_t read_speed(const char *interface)
{
    char path[64 + IF_NAMESIZE];
    snprintf(path, sizeof path, "/sys/class/net/%s/speed", interface);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    char text[32];
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    long speed = strtol(text, NULL, 10);
    return speed > 0 && speed <= 10 * 1000 * 1000 ? (uint32_t)speed : 0;
}

/* What the driver says, or less where traffic control holds it back. */
static uint32_t speed_of(const weft_tcp_interface *i)
{
    uint32_t speed = read_speed(i->name), limit = weft_traffic_limit_Mbps(i->index);
    return limit > 0 && (speed == 0 || limit < speed) ? limit : speed;
}

static unsigned prefix_bits(const struct sockaddr *mask)
{
    const unsigned char *bytes;
    size_t count;
    if (!mask)
        return 0;
    if (mask->sa_family == AF_INET6) {
        bytes = ((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr.s6_addr;
        count = 16;
    } else {
        bytes = (const unsigned char *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
        count = 4;
    }
    unsigned bits = 0;
    for (size_t i = 0; i < count; i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

static void note(weft_tcp_interface *to, const struct ifaddrs *item)
{
    memset(to, 0, sizeof *to);
    int family = item->ifa_addr ? item->ifa_addr->sa_family : 0;
    if (family == AF_INET)
        memcpy(&to->address.v4, item->ifa_addr, sizeof to->address.v4);
    else if (family == AF_INET6)
        memcpy(&to->address.v6, item->ifa_addr, sizeof to->address.v6);
    size_t length = strnlen(item->ifa_name, sizeof to->name - 1);
    memcpy(to->name, item->ifa_name, length);
    to->index = if_nametoindex(item->ifa_name);
    to->up = (item->ifa_flags & IFF_UP) && (item->ifa_flags & IFF_RUNNING);
    to->loopback = item->ifa_flags & IFF_LOOPBACK;
    to->prefix = prefix_bits(item->ifa_netmask);
}

weft_status weft_tcp_interfaces_list(weft_tcp_interface *all, int max, int *count)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot list the network interfaces");
    int n = 0;
    for (int with_address = 1; with_address >= 0; with_address--) { /* hundreds without one must not leave no room */
        for (const struct ifaddrs *item = list; item && n < max; item = item->ifa_next) {
            int family = item->ifa_addr ? item->ifa_addr->sa_family : 0;
            if ((family == AF_INET || family == AF_INET6) == with_address)
                note(&all[n++], item);
        }
    }
    freeifaddrs(list);
    for (int i = 0; i < n && n > WEFT_TCP_INTERFACES_MAX; i++)
        all[i].outward = all[i].up && all[i].address.any.sa_family && weft_interface_leads_out(all[i].name);
    *count = n;
    return WEFT_OK;
}

static bool is_v4(const weft_tcp_interface *i)
{
    return i->address.any.sa_family == AF_INET;
}

static bool is_link_local(const weft_tcp_interface *i)
{
    if (is_v4(i))
        return (ntohl(i->address.v4.sin_addr.s_addr) >> 16) == 0xa9fe; /* 169.254/16 */
    return IN6_IS_ADDR_LINKLOCAL(&i->address.v6.sin6_addr);
}

static bool is_named(const char *name, const char *setting)
{
    return setting && *setting && *setting != '^' && weft_name_in_list(name, setting);
}

/* In which round an address is considered: 0 the normal ones, then what is taken only when there is nothing
 * better; -1: never. */
enum { ROUND_NORMAL, ROUND_LINK_LOCAL, ROUND_LOOPBACK, ROUNDS };

static int round_of(const weft_tcp_interface *i, const char *setting)
{
    int family = i->address.any.sa_family;
    if (!i->up || (family != AF_INET && family != AF_INET6) || !weft_interface_allowed(i->name, setting))
        return -1;
    if (i->loopback)
        return is_named(i->name, setting) ? ROUND_NORMAL : ROUND_LOOPBACK;
    if (is_link_local(i))
        return is_v4(i) ? -1 : ROUND_LINK_LOCAL;
    return ROUND_NORMAL;
}

static bool has_address_like(const weft_tcp_interface *const *chosen, int count, const weft_tcp_interface *i)
{
    for (int k = 0; k < count; k++) {
        if (strcmp(chosen[k]->name, i->name) == 0 && is_v4(chosen[k]) == is_v4(i))
            return true;
    }
    return false;
}

static weft_status fail_none(const weft_tcp_interface *all, int count, const char *setting)
{
    char text[512] = "";
    size_t used = 0;
    for (int k = 0; k < count && used < sizeof text - 1; k++) {
        if (all[k].address.any.sa_family != AF_INET && all[k].address.any.sa_family != AF_INET6 && all[k].up)
            continue;
        char address[WEFT_TCP_ADDRESS_TEXT];
        int n = snprintf(text + used, sizeof text - used, "%s%s (%s%s)", used ? ", " : "", all[k].name,
                         all[k].up ? "" : "down, ", weft_tcp_address_text(&all[k].address, address));
        used += n > 0 ? (size_t)n : 0;
    }
    if (setting && *setting)
        return weft_fail(WEFT_ERR_INVALID,
                         "no usable network interface matches WEFT_INTERFACES '%s'; there are: %s", setting,
                         *text ? text : "none");
    return weft_fail(WEFT_ERR_UNSUPPORTED, "no usable network interface; there are: %s",
                     *text ? text : "none");
}

static int count_names(const weft_tcp_interface *const *list, int count)
{
    int names = 0;
    for (int i = 0; i < count; i++) {
        int first = 0;
        while (strcmp(list[first]->name, list[i]->name) != 0)
            first++;
        names += first == i;
    }
    return names;
}

/* Puts those first that lead out, else in the order in which they were. */
static void outward_first(const weft_tcp_interface **list, int count)
{
    for (int i = 0, places = 0; i < count; i++) {
        const weft_tcp_interface *moved = list[i];
        if (!moved->outward)
            continue;
        memmove(&list[places + 1], &list[places], (size_t)(i - places) * sizeof *list);
        list[places++] = moved;
    }
}

weft_status weft_tcp_interfaces_choose(const weft_tcp_interface *all, int count, const char *setting,
                                       weft_tcp_interface chosen[WEFT_TCP_ADDRESSES_MAX], int *chosen_count)
{
    const weft_tcp_interface *usable[WEFT_TCP_CANDIDATES_MAX];
    int n = 0;
    for (int round = 0; round < ROUNDS && n == 0; round++)
        for (int k = 0; k < count && n < WEFT_TCP_CANDIDATES_MAX; k++)
            if (round_of(&all[k], setting) == round && !has_address_like(usable, n, &all[k]))
                usable[n++] = &all[k];
    if (n == 0)
        return fail_none(all, count, setting);
    int names = count_names(usable, n);
    if (names > WEFT_TCP_INTERFACES_MAX) {
        outward_first(usable, n);
        while (count_names(usable, n) > WEFT_TCP_INTERFACES_MAX)
            n--;
        weft_log(WEFT_LOG_WARN, "tcp: of %d network interfaces %d are used, from %s to %s, those first that lead out of the "
                 "machine; choose by WEFT_INTERFACES", names, WEFT_TCP_INTERFACES_MAX, usable[0]->name, usable[n - 1]->name);
    }
    *chosen_count = n;
    for (int k = 0; k < n; k++)
        chosen[k] = *usable[k];
    return WEFT_OK;
}

void weft_tcp_interfaces_find_speeds(weft_tcp_interface *chosen, int count)
{
    for (int k = 0; k < count; k++)
        chosen[k].speed_Mbps = chosen[k].loopback ? 0 : speed_of(&chosen[k]);
}

weft_status weft_tcp_port_range_parse(const char *text, uint16_t *low, uint16_t *high)
{
    *low = *high = 0;
    if (!text || !*text)
        return WEFT_OK;
    char *end;
    errno = 0;
    long first = strtol(text, &end, 10), last = first;
    bool good = end != text && *text >= '0' && *text <= '9';
    if (good && *end == '-') {
        const char *rest = end + 1;
        last = strtol(rest, &end, 10);
        good = end != rest && *rest >= '0' && *rest <= '9';
    }
    if (!good || *end || errno || first < 1 || last > 65535 || last < first)
        return weft_fail(WEFT_ERR_PARSE, "port range '%s' is not low-high with ports from 1 to 65535, "
                         "such as 20000-20100", text);
    *low = (uint16_t)first;
    *high = (uint16_t)last;
    return WEFT_OK;
}

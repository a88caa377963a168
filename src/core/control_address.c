/* Addresses of the control plane: this host's, their texts, ports, and which of several a peer should try first. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "base/interface.h"
#include "base/settings.h"
#include "core/control_socket.h"

weft_status weft_control_parse_ports(const char *text, uint16_t *low, uint16_t *high)
{
    *low = *high = 0;
    if (text == NULL || *text == 0)
        return WEFT_OK;
    int64_t first = 0, last = 0;
    char number[8] = "";
    const char *dash = strchr(text, '-');
    size_t length = dash != NULL ? (size_t)(dash - text) : strlen(text);
    memcpy(number, text, weft_min_size(length, sizeof number - 1));
    if (length >= sizeof number || weft_parse_int(number, 1, 65535, &first) != WEFT_OK ||
        weft_parse_int(dash != NULL ? dash + 1 : number, first, 65535, &last) != WEFT_OK)
        return weft_fail(WEFT_ERR_PARSE, "port range '%s' is not like 20000-20100 (WEFT_PORT_RANGE)", text);
    *low = (uint16_t)first;
    *high = (uint16_t)last;
    return WEFT_OK;
}

void weft_control_unmap(struct sockaddr_storage *address)
{
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    if (address->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return;
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = six->sin6_port };
    memcpy(&four.sin_addr, six->sin6_addr.s6_addr + 12, 4);
    memset(address, 0, sizeof *address);
    memcpy(address, &four, sizeof four);
}

char *weft_control_address_text(const struct sockaddr_storage *address, char text[WEFT_ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(text, WEFT_ADDRESS_TEXT_BYTES, "%s:%u", host, ntohs(four->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        char scope[1 + IF_NAMESIZE] = "%";
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        if (six->sin6_scope_id == 0 || if_indextoname(six->sin6_scope_id, scope + 1) == NULL)
            scope[0] = '\0';
        snprintf(text, WEFT_ADDRESS_TEXT_BYTES, "[%s%s]:%u", host, scope, ntohs(six->sin6_port));
    } else {
        snprintf(text, WEFT_ADDRESS_TEXT_BYTES, "unknown address");
    }
    return text;
}

socklen_t weft_control_sockaddr_bytes(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void from_wire(const weft_endpoint *endpoint, int index, struct sockaddr_storage *address)
{
    memset(address, 0, sizeof *address);
    if (endpoint->addresses[index].family == 4) {
        struct sockaddr_in *four = (struct sockaddr_in *)address;
        four->sin_family = AF_INET;
        four->sin_port = htons(endpoint->port);
        memcpy(&four->sin_addr, endpoint->addresses[index].bytes, 4);
        return;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(endpoint->port);
    memcpy(&six->sin6_addr, endpoint->addresses[index].bytes, 16);
}

/* False: no IP address. */
static bool to_wire(const struct sockaddr_storage *address, uint8_t *family, uint8_t bytes[16])
{
    memset(bytes, 0, 16);
    *family = address->ss_family == AF_INET ? 4 : 6;
    if (address->ss_family == AF_INET)
        memcpy(bytes, &((const struct sockaddr_in *)address)->sin_addr, 4);
    else if (address->ss_family == AF_INET6)
        memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    return address->ss_family == AF_INET || address->ss_family == AF_INET6;
}

/* Of IPv6, which means nothing on another link: a sender has to say by which of his interfaces. */
static bool is_link_local(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* One that a sender of this host cannot tell the link of, once by each that it may be. Returns how many. */
static int add_scopes(struct sockaddr_storage address, struct sockaddr_storage *list, int room)
{
    struct ifaddrs *all;
    int count = 0;
    if (getifaddrs(&all) != 0)
        return 0;
    for (const struct ifaddrs *i = all; i != NULL && count < room; i = i->ifa_next) {
        struct sockaddr_in6 own;
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET6 || !(i->ifa_flags & IFF_UP))
            continue;
        memcpy(&own, i->ifa_addr, sizeof own);
        if (!IN6_IS_ADDR_LINKLOCAL(&own.sin6_addr))
            continue;
        ((struct sockaddr_in6 *)&address)->sin6_scope_id = own.sin6_scope_id;
        list[count++] = address;
    }
    freeifaddrs(all);
    return count;
}

int weft_control_sockaddrs(const weft_endpoint *endpoint, struct sockaddr_storage *list, int room)
{
    int count = 0;
    for (int i = 0; i < endpoint->count && count < room; i++) {
        struct sockaddr_storage address;
        from_wire(endpoint, i, &address);
        if (is_link_local(&address))
            count += add_scopes(address, list + count, room - count);
        else
            list[count++] = address;
    }
    return count;
}

void weft_control_prefer(weft_endpoint *endpoint, const struct sockaddr_storage *address)
{
    uint8_t family, bytes[16];
    if (is_link_local(address) || !to_wire(address, &family, bytes))
        return;
    int place = 0;
    while (place < endpoint->count && (endpoint->addresses[place].family != family ||
                                       memcmp(endpoint->addresses[place].bytes, bytes, 16) != 0))
        place++;
    if (place == endpoint->count && endpoint->count < WEFT_ENDPOINT_ADDRESSES)
        endpoint->count++;
    if (place == WEFT_ENDPOINT_ADDRESSES)
        place--;
    memmove(endpoint->addresses + 1, endpoint->addresses, (size_t)place * sizeof endpoint->addresses[0]);
    endpoint->addresses[0].family = family;
    memcpy(endpoint->addresses[0].bytes, bytes, 16);
}

bool weft_control_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

bool weft_control_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    uint8_t family_a, family_b, bytes_a[16], bytes_b[16];
    return !is_link_local(a) && to_wire(a, &family_a, bytes_a) && to_wire(b, &family_b, bytes_b) && family_a == family_b &&
           memcmp(bytes_a, bytes_b, 16) == 0;
}

/* Each once: an interface comes up for each of its addresses. */
static void add_name(char *names, size_t bytes, const char *name)
{
    size_t used = strlen(names), length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length) {
        if ((at == names || at[-1] == ' ') && (at[length] == ',' || at[length] == '\0'))
            return;
    }
    snprintf(names + used, bytes - used, "%s%s", used != 0 ? ", " : "", name);
}

static weft_status fail_none(const struct ifaddrs *all, const char *interfaces)
{
    char names[200] = "";
    for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr != NULL && (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6) &&
            (i->ifa_flags & IFF_UP))
            add_name(names, sizeof names, i->ifa_name);
    }
    if (names[0] == '\0')
        return weft_fail(WEFT_ERR_UNSUPPORTED, "no network interface is up, not even the loopback, and ranks meet over TCP: "
                         "ip link set lo up");
    return weft_fail(WEFT_ERR_INVALID, "no network interface matches '%s' (WEFT_INTERFACES); there are: %s",
                     interfaces != NULL ? interfaces : "", names);
}

/* In the order in which they are told to others; the last three only when there is nothing else. */
typedef enum { USE_NEVER, USE_V4, USE_V6, USE_LINK_LOCAL, USE_LOOPBACK4, USE_LOOPBACK6, USES } address_use;

static address_use use_of(const struct ifaddrs *i, const char *interfaces, struct sockaddr_storage *address)
{
    int family = i->ifa_addr != NULL ? i->ifa_addr->sa_family : AF_UNSPEC;
    if ((family != AF_INET && family != AF_INET6) || !(i->ifa_flags & IFF_UP) || !weft_interface_allowed(i->ifa_name, interfaces))
        return USE_NEVER;
    memset(address, 0, sizeof *address);
    memcpy(address, i->ifa_addr, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    if (i->ifa_flags & IFF_LOOPBACK)
        return family == AF_INET ? USE_LOOPBACK4 : USE_LOOPBACK6;
    return family == AF_INET ? USE_V4 : is_link_local(address) ? USE_LINK_LOCAL : USE_V6;
}

typedef enum { ANY_WAY, OUTWARD, INWARD } address_way;

static void add_uses(weft_endpoint *endpoint, const struct ifaddrs *all, const char *interfaces, address_use use, address_way way)
{
    for (const struct ifaddrs *i = all; i != NULL && endpoint->count < WEFT_ENDPOINT_ADDRESSES; i = i->ifa_next) {
        struct sockaddr_storage address;
        if (use_of(i, interfaces, &address) != use ||
            (way != ANY_WAY && weft_interface_leads_out(i->ifa_name) != (way == OUTWARD)))
            continue;
        int at = endpoint->count++;
        to_wire(&address, &endpoint->addresses[at].family, endpoint->addresses[at].bytes);
    }
}

weft_status weft_control_addresses(const char *interfaces, weft_endpoint *endpoint)
{
    struct ifaddrs *all;
    weft_status status = weft_control_check_calls();
    if (status != WEFT_OK)
        return status;
    if (getifaddrs(&all) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot list the network interfaces");
    int of_use[USES] = { 0 };
    for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
        of_use[use_of(i, interfaces, &(struct sockaddr_storage){ 0 })]++;
    endpoint->count = 0;
    bool crowded = of_use[USE_V4] + of_use[USE_V6] > WEFT_ENDPOINT_ADDRESSES;
    for (address_use use = USE_V4; use <= USE_V6; use++) {
        add_uses(endpoint, all, interfaces, use, crowded ? OUTWARD : ANY_WAY);
        if (crowded)
            add_uses(endpoint, all, interfaces, use, INWARD);
    }
    if (endpoint->count == 0)
        add_uses(endpoint, all, interfaces, USE_LINK_LOCAL, ANY_WAY);
    if (endpoint->count == 0) {
        add_uses(endpoint, all, interfaces, USE_LOOPBACK4, ANY_WAY);
        add_uses(endpoint, all, interfaces, USE_LOOPBACK6, ANY_WAY);
    }
    status = endpoint->count == 0 ? fail_none(all, interfaces) : WEFT_OK;
    freeifaddrs(all);
    return status;
}

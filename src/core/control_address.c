/* Addresses of the control plane: this host's, their texts, ports, and which of several a peer should try first. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "base/outward.h"
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
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(text, WEFT_ADDRESS_TEXT_BYTES, "[%s]:%u", host, ntohs(six->sin6_port));
    } else {
        snprintf(text, WEFT_ADDRESS_TEXT_BYTES, "unknown address");
    }
    return text;
}

socklen_t weft_control_sockaddr(const weft_endpoint *endpoint, int index, struct sockaddr_storage *address)
{
    memset(address, 0, sizeof *address);
    if (endpoint->addresses[index].family == 4) {
        struct sockaddr_in *four = (struct sockaddr_in *)address;
        four->sin_family = AF_INET;
        four->sin_port = htons(endpoint->port);
        memcpy(&four->sin_addr, endpoint->addresses[index].bytes, 4);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(endpoint->port);
    memcpy(&six->sin6_addr, endpoint->addresses[index].bytes, 16);
    return sizeof *six;
}

/* False for what means nothing on another host (link-local IPv6 needs a scope) or is no IP address. */
static bool to_wire(const struct sockaddr_storage *address, uint8_t *family, uint8_t bytes[16])
{
    memset(bytes, 0, 16);
    if (address->ss_family == AF_INET) {
        *family = 4;
        memcpy(bytes, &((const struct sockaddr_in *)address)->sin_addr, 4);
        return true;
    }
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    if (address->ss_family != AF_INET6 || IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
        return false;
    *family = 6;
    memcpy(bytes, &six->sin6_addr, 16);
    return true;
}

void weft_control_prefer(weft_endpoint *endpoint, const struct sockaddr_storage *address)
{
    uint8_t family, bytes[16];
    if (!to_wire(address, &family, bytes))
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
    return to_wire(a, &family_a, bytes_a) && to_wire(b, &family_b, bytes_b) && family_a == family_b &&
           memcmp(bytes_a, bytes_b, 16) == 0;
}

/* "eth0,ib": one of these prefixes; "^docker,lo": none of them. */
static bool interface_allowed(const char *list, const char *name)
{
    if (list == NULL || *list == 0)
        return true;
    bool except = *list == '^', found = false;
    for (const char *item = list + except; *item != 0;) {
        size_t length = strcspn(item, ",");
        found |= length != 0 && strncmp(item, name, length) == 0;
        item += length + (item[length] == ',');
    }
    return found != except;
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

weft_status weft_control_addresses(const char *interfaces, weft_endpoint *endpoint)
{
    struct ifaddrs *all;
    weft_status status = weft_control_check_calls();
    if (status != WEFT_OK)
        return status;
    if (getifaddrs(&all) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot list the network interfaces");
    char names[200] = "";
    endpoint->count = 0;
    /* IPv4 first, IPv6 then, of each first what leads out, as there is no room for all; loopback only when there is nothing
     * else. */
    static const struct { int family; bool loopback, outward; } rounds[] = {
        { AF_INET, false, true }, { AF_INET, false, false }, { AF_INET6, false, true }, { AF_INET6, false, false },
        { AF_INET, true, false }, { AF_INET6, true, false }
    };
    for (size_t r = 0; r < ARRAY_LEN(rounds); r++) {
        if (rounds[r].loopback && rounds[r].family == AF_INET && endpoint->count != 0)
            break;
        for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
            if (i->ifa_addr == NULL || i->ifa_addr->sa_family != rounds[r].family || !(i->ifa_flags & IFF_UP) ||
                ((i->ifa_flags & IFF_LOOPBACK) != 0) != rounds[r].loopback ||
                (!rounds[r].loopback && weft_interface_leads_out(i->ifa_name) != rounds[r].outward))
                continue;
            add_name(names, sizeof names, i->ifa_name);
            struct sockaddr_storage address = { 0 };
            memcpy(&address, i->ifa_addr,
                   rounds[r].family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
            int at = endpoint->count;
            if (interface_allowed(interfaces, i->ifa_name) && at < WEFT_ENDPOINT_ADDRESSES &&
                to_wire(&address, &endpoint->addresses[at].family, endpoint->addresses[at].bytes))
                endpoint->count++;
        }
    }
    freeifaddrs(all);
    if (endpoint->count == 0 && names[0] == '\0')
        return weft_fail(WEFT_ERR_UNSUPPORTED, "no network interface is up, not even the loopback, and ranks meet over TCP: "
                         "ip link set lo up");
    if (endpoint->count == 0)
        return weft_fail(WEFT_ERR_INVALID, "no network interface matches '%s' (WEFT_INTERFACES); there are: %s",
                         interfaces != NULL ? interfaces : "", names);
    return WEFT_OK;
}

/* NCCL's devices: network interfaces and, from rdma.c, ports of InfiniBand that have none; what they are like (sysfs), and
 * devices that fuse several. */
#define _GNU_SOURCE
#include "nccl_net.h"

#include <ifaddrs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weft/topology.h>

enum { DEFAULT_SPEED_MBPS = 10000 };

/* Written under the lock; what is below the count is not written again. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static net_device devices[NET_DEVICES_MAX];
static _Atomic int device_count;
static int physical_count;

/* ---- sysfs ---- */

bool net_sysfs_text(char *text, size_t bytes, const char *format, ...)
{
    char path[400];
    va_list list;
    va_start(list, format);
    vsnprintf(path, sizeof path, format, list);
    va_end(list);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return false;
    bool good = fgets(text, (int)bytes, stream);
    fclose(stream);
    if (good)
        text[strcspn(text, "\n")] = 0;
    return good;
}

static long read_number(const net_device *device, const char *file, long otherwise)
{
    char text[32], *end;
    if (!net_sysfs_text(text, sizeof text, "%s/%s", device->folder, file))
        return otherwise;
    long value = strtol(text, &end, 0);
    return end != text && *end == 0 ? value : otherwise;
}

static uint64_t hash(const char *text, size_t bytes)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++)
        value = (value ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return value;
}

/* Equal for the functions of one adapter: its PCI address without the function; else the hardware address, or an adapter's
 * own number. */
static uint64_t find_guid(const net_device *device, int number)
{
    char address[64];
    const char *file = device->bare ? "node_guid" : "address";
    if (device->pci_path) {
        const char *dot = strrchr(device->pci_path, '.');
        return hash(device->pci_path, dot ? (size_t)(dot - device->pci_path) : strlen(device->pci_path));
    }
    if (net_sysfs_text(address, sizeof address, "%s/%s", device->folder, file) && strspn(address, "0:") < strlen(address))
        return hash(address, strlen(address));
    return (uint64_t)number + 1;
}

/* "0000:3b:00.0" */
static bool is_bus_id(const char *name)
{
    static const char form[] = "xxxx:xx:xx.x";
    size_t i = 0;
    for (; form[i] && name[i]; i++) {
        if (form[i] == 'x' ? !strchr("0123456789abcdef", name[i]) : form[i] != name[i])
            return false;
    }
    return !form[i] && !name[i];
}

/* The PCI device at or above the interface's: a virtio device, say, is a child of its own. NULL: not on PCI. */
static char *find_pci(const char *link)
{
    char *path = realpath(link, NULL);
    for (char *slash = path ? strrchr(path, '/') : NULL; slash; slash = strrchr(path, '/')) {
        if (is_bus_id(slash + 1))
            return path;
        *slash = 0;
    }
    free(path);
    return NULL;
}

static void describe(net_device *device, int number)
{
    char link[sizeof device->folder + 8];
    snprintf(link, sizeof link, "%s/device", device->folder);
    device->pci_path = find_pci(link);
    if (device->bare) {
        device->speed_Mbps = device->speed_Mbps > 0 ? device->speed_Mbps : DEFAULT_SPEED_MBPS;
    } else {
        long speed = read_number(device, "speed", 0);
        device->speed_Mbps = speed > 0 && speed <= 10000000 ? (int)speed : DEFAULT_SPEED_MBPS;
        device->port = (int)read_number(device, "dev_port", 0) + 1;
        snprintf(device->interfaces, sizeof device->interfaces, "=%s", device->name);
        net_rdma_find(device);
    }
    device->guid = find_guid(device, number);
    device->rail = NCCL_NET_UNDEFINED;
    device->count = 1;
    device->part[0] = number;
}

/* A rail is the place of a NIC among the usable ones, which hosts of one make have in common. */
static void find_rails(void)
{
    weft_topology_live live = {.size = sizeof live, .nvml = ""};
    weft_topology *topology;
    if (weft_topology_read(&live, &topology) != WEFT_OK) {
        net_info("rails are not known: %s", weft_last_error());
        return;
    }
    for (int i = 0; i < physical_count; i++) {
        int node = weft_topology_find(topology, strrchr(devices[i].folder, '/') + 1);
        int rail = node >= 0 ? weft_topology_rail(topology, node) : -1;
        devices[i].rail = rail >= 0 && rail < INT16_MAX ? rail : NCCL_NET_UNDEFINED;
    }
    weft_topology_free(topology);
}

/* ---- choosing ---- */

/* Whether a setting in NCCL's or Weft's syntax names the interface: prefixes, after "=" whole names; "^" before either: all but
 * those. */
static bool is_listed(const char *name, const char *list)
{
    bool exact = *list == '=';
    for (list += exact; *list; list += *list == ',') {
        size_t length = strcspn(list, ",");
        if (length > 0 && strncmp(name, list, length) == 0 && (!exact || name[length] == 0))
            return true;
        list += length;
    }
    return false;
}

/* 0: use; 1: only if there is nothing better; -1: never. */
static int preference(const struct ifaddrs *item, const char *setting)
{
    int family = item->ifa_addr ? item->ifa_addr->sa_family : 0;
    bool up = (item->ifa_flags & IFF_UP) && (item->ifa_flags & IFF_RUNNING);
    if (!up || (family != AF_INET && family != AF_INET6))
        return -1;
    if (setting && *setting != '^')
        return is_listed(item->ifa_name, setting) ? 0 : -1;
    if (setting && is_listed(item->ifa_name, setting + 1))
        return -1;
    if (item->ifa_flags & IFF_LOOPBACK)
        return 1;
    return setting || !is_listed(item->ifa_name, "docker,virbr,veth") ? 0 : 1;
}

/* How good an address is: IPv4, then IPv6 that is not of one link only. */
static int address_rank(const net_address *address)
{
    if (address->any.sa_family == AF_INET)
        return 3;
    if (address->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&address->v6.sin6_addr) ? 1 : 2;
    return 0;
}

static void add(const struct ifaddrs *item)
{
    net_address address;
    memset(&address, 0, sizeof address);
    memcpy(&address, item->ifa_addr, item->ifa_addr->sa_family == AF_INET6 ? sizeof address.v6 : sizeof address.v4);
    int at = 0;
    while (at < physical_count && strcmp(devices[at].name, item->ifa_name) != 0)
        at++;
    if (at == NET_DEVICES_MAX / 2)
        return;
    net_device *device = &devices[at];
    if (at == physical_count) {
        physical_count++;
        snprintf(device->name, sizeof device->name, "%s", item->ifa_name);
        snprintf(device->folder, sizeof device->folder, "/sys/class/net/%s", item->ifa_name);
        device->scope = if_nametoindex(item->ifa_name);
    }
    if (address_rank(&address) > address_rank(&device->address))
        device->address = address;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(((const net_device *)a)->name, ((const net_device *)b)->name);
}

/* Ports of InfiniBand that need no interface: for a device of its own it takes one that really opens, as sysfs shows a container
 * adapters that it may not use. Sides meet over the first interface. */
static void add_bare_ports(void)
{
    static net_device found[NET_DEVICES_MAX / 2];
    const weft_transport_ops *verbs = weft_transport_find("verbs");
    int interfaces = physical_count, count = verbs ? net_rdma_list(devices, interfaces, found, (int)ARRAY_LEN(found)) : 0;
    for (int i = 0; i < count && physical_count < NET_DEVICES_MAX / 2; i++) {
        net_device *device = &devices[physical_count];
        net_comm *trial;
        memcpy(found[i].interfaces, devices[0].interfaces, sizeof found[i].interfaces);
        found[i].address = devices[0].address;
        found[i].scope = devices[0].scope;
        if (net_comm_create(verbs, &found[i], 0, true, &trial) != NCCL_SUCCESS)
            continue;
        trial->failed = NCCL_INTERNAL_ERROR; /* nothing is under way that its end would wait for */
        net_comm_destroy(trial);
        *device = found[i];
        describe(device, physical_count++);
    }
}

static nccl_result find_all(void)
{
    const char *setting = net_setting("WEFT_INTERFACES");
    const char *name = setting ? "WEFT_INTERFACES" : "NCCL_SOCKET_IFNAME";
    struct ifaddrs *list;
    if (!setting)
        setting = net_setting(name);
    if (getifaddrs(&list) != 0) {
        net_warn("cannot list the network interfaces");
        return NCCL_SYSTEM_ERROR;
    }
    for (int round = 0; round < 2 && physical_count == 0; round++) {
        for (const struct ifaddrs *item = list; item; item = item->ifa_next) {
            if (preference(item, setting) == round)
                add(item);
        }
    }
    freeifaddrs(list);
    if (physical_count == 0) {
        net_warn(setting ? "no network interface that is up matches %s '%s'" : "no network interface is up", name, setting);
        return NCCL_INVALID_USAGE;
    }
    qsort(devices, (size_t)physical_count, sizeof devices[0], by_name);
    for (int i = 0; i < physical_count; i++)
        describe(&devices[i], i);
    add_bare_ports();
    find_rails();
    for (int i = 0; i < physical_count; i++) {
        char text[NET_ADDRESS_TEXT];
        net_info("device %d: %s, %s%s, %d Mbit/s, rail %d, %s, RDMA %s", i, devices[i].name, devices[i].bare ? "met at " : "",
                 net_address_text(&devices[i].address, text), devices[i].speed_Mbps, devices[i].rail,
                 devices[i].pci_path ? devices[i].pci_path : "not on PCI",
                 devices[i].rdma_ports[0] ? devices[i].rdma_ports : "no");
    }
    return NCCL_SUCCESS;
}

nccl_result net_devices_find(void)
{
    nccl_result result = NCCL_SUCCESS;
    pthread_mutex_lock(&lock);
    if (device_count == 0) {
        result = find_all();
        if (result == NCCL_SUCCESS)
            device_count = physical_count;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int net_devices_count(void)
{
    return device_count;
}

const net_device *net_device_get(int number)
{
    int count = device_count;
    if (number >= 0 && number < count)
        return &devices[number];
    net_warn("there is no device %d: there are %d", number, count);
    return NULL;
}

/* ---- fusing ---- */

static void fuse(net_device *fused, const int *parts, int count)
{
    size_t name = 0, interfaces = 0, ports = 0;
    *fused = devices[parts[0]];
    fused->speed_Mbps = 0;
    fused->count = count;
    for (int i = 0; i < count; i++) {
        const net_device *part = &devices[parts[i]];
        int room = IF_NAMESIZE - 1; /* for each, as a kernel's interface has it */
        name += (size_t)snprintf(fused->name + name, sizeof fused->name - name, "%s%.*s", i ? "+" : "", room, part->name);
        interfaces += (size_t)snprintf(fused->interfaces + interfaces, sizeof fused->interfaces - interfaces, "%s%.*s",
                                       i ? "," : "=", room, part->interfaces + 1);
        if (part->rdma_ports[0] && ports + strlen(part->rdma_ports) + 2 < sizeof fused->rdma_ports)
            ports += (size_t)snprintf(fused->rdma_ports + ports, sizeof fused->rdma_ports - ports, "%s%s", ports ? "," : "",
                                      part->rdma_ports);
        fused->speed_Mbps += part->speed_Mbps;
        fused->part[i] = parts[i];
    }
}

nccl_result net_device_fuse(const int *parts, int count, int *number)
{
    nccl_result result = NCCL_SUCCESS;
    if (count < 1 || count > NET_FUSED_MAX) {
        net_warn("cannot fuse %d devices: from 1 to %d", count, NET_FUSED_MAX);
        return NCCL_INVALID_ARGUMENT;
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count && result == NCCL_SUCCESS; i++) {
        bool twice = false;
        for (int k = 0; k < i; k++)
            twice |= parts[k] == parts[i];
        if (parts[i] < 0 || parts[i] >= physical_count || twice) {
            net_warn("cannot fuse device %d: %s", parts[i], twice ? "it is named twice" : "it is no physical device");
            result = NCCL_INVALID_ARGUMENT;
        }
    }
    if (result == NCCL_SUCCESS && device_count == NET_DEVICES_MAX) {
        net_warn("cannot fuse devices: there are %d already", NET_DEVICES_MAX);
        result = NCCL_INVALID_USAGE;
    }
    if (result == NCCL_SUCCESS) {
        int at = device_count;
        net_device fused;
        fuse(&fused, parts, count);
        devices[at] = fused;
        device_count = at + 1;
        *number = at;
        net_info("device %d: %s, %d Mbit/s", at, devices[at].name, devices[at].speed_Mbps);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

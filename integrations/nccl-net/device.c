/* Network interfaces as NCCL's devices: which there are, what they are like (sysfs), and devices that fuse several. */
#define _GNU_SOURCE
#include "nccl_net.h"

#include <dirent.h>
#include <ifaddrs.h>
#include <pthread.h>
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

static bool read_text(const char *interface, const char *file, char *text, size_t bytes)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/net/%.15s/%s", interface, file);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return false;
    bool good = fgets(text, (int)bytes, stream);
    fclose(stream);
    if (good)
        text[strcspn(text, "\n")] = 0;
    return good;
}

static long read_number(const char *interface, const char *file, long otherwise)
{
    char text[32], *end;
    if (!read_text(interface, file, text, sizeof text))
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

/* Equal for the functions of one adapter: its PCI address without the function; else the hardware address. */
static uint64_t find_guid(const net_device *device, int number)
{
    char address[64];
    if (device->pci_path) {
        const char *dot = strrchr(device->pci_path, '.');
        return hash(device->pci_path, dot ? (size_t)(dot - device->pci_path) : strlen(device->pci_path));
    }
    if (read_text(device->name, "address", address, sizeof address) && strspn(address, "0:") < strlen(address))
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

/* Whether a port of an RDMA device is the interface's: one of its GIDs is (RoCE), or it is of the same PCI device
 * (InfiniBand). */
static bool is_rdma_port(const net_device *device, const char *adapter, int port)
{
    enum { GIDS = 16 };
    char path[400], text[IF_NAMESIZE + 1], *own, *its;
    for (int gid = 0; gid < GIDS; gid++) {
        snprintf(path, sizeof path, "/sys/class/infiniband/%.63s/ports/%d/gid_attrs/ndevs/%d", adapter, port, gid);
        FILE *stream = fopen(path, "re");
        if (!stream)
            break;
        bool good = fgets(text, sizeof text, stream);
        fclose(stream);
        text[good ? strcspn(text, "\n") : 0] = 0;
        if (strcmp(text, device->name) == 0)
            return true;
    }
    snprintf(path, sizeof path, "/sys/class/net/%.15s/device", device->name);
    own = realpath(path, NULL);
    snprintf(path, sizeof path, "/sys/class/infiniband/%.63s/device", adapter);
    its = realpath(path, NULL);
    bool same = own && its && strcmp(own, its) == 0 && port == device->port;
    free(own);
    free(its);
    return same;
}

static void find_rdma_ports(net_device *device)
{
    enum { PORTS = 4 };
    DIR *folder = opendir("/sys/class/infiniband");
    size_t bytes = 0;
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        for (int port = 1; port <= PORTS && entry->d_name[0] != '.' && bytes < 80; port++) {
            if (is_rdma_port(device, entry->d_name, port))
                bytes += (size_t)snprintf(device->rdma_ports + bytes, sizeof device->rdma_ports - bytes, "%s=%.63s:%d",
                                          bytes ? "," : "", entry->d_name, port);
        }
    }
    if (folder)
        closedir(folder);
}

static void describe(net_device *device, int number)
{
    char path[128], name[IF_NAMESIZE];
    memcpy(name, device->name, sizeof name);
    snprintf(path, sizeof path, "/sys/class/net/%.15s/device", name);
    device->pci_path = find_pci(path);
    long speed = read_number(device->name, "speed", 0);
    device->speed_Mbps = speed > 0 && speed <= 10000000 ? (int)speed : DEFAULT_SPEED_MBPS;
    device->port = (int)read_number(device->name, "dev_port", 0) + 1;
    device->guid = find_guid(device, number);
    find_rdma_ports(device);
    snprintf(device->interfaces, sizeof device->interfaces, "=%.15s", name);
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
        int node = weft_topology_find(topology, devices[i].name);
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
        device->scope = if_nametoindex(item->ifa_name);
    }
    if (address_rank(&address) > address_rank(&device->address))
        device->address = address;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(((const net_device *)a)->name, ((const net_device *)b)->name);
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
    find_rails();
    for (int i = 0; i < physical_count; i++) {
        char text[NET_ADDRESS_TEXT];
        net_info("device %d: %s, %s, %d Mbit/s, rail %d, %s, RDMA %s", i, devices[i].name,
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
        name += (size_t)snprintf(fused->name + name, sizeof fused->name - name, "%s%.15s", i ? "+" : "", part->name);
        interfaces += (size_t)snprintf(fused->interfaces + interfaces, sizeof fused->interfaces - interfaces, "%s%.15s",
                                       i ? "," : "=", part->name);
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

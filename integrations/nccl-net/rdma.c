/* Ports of RDMA adapters in sysfs: which of them belong to an interface, and which are of InfiniBand and have none. */
#define _GNU_SOURCE
#include "nccl_net.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS = 4, ADAPTERS = 64, ADAPTER_BYTES = 64 };

/* Whether NCCL's settings allow the port; WEFT_IB_HCA, which goes before NCCL_IB_HCA, is the verbs transport's to apply. That is
 * a list of "name" or "name:port": the beginnings of names, after "=" whole ones, after "^" those that are left out. */
static bool is_allowed(const char *adapter, int port)
{
    const char *off = net_setting("NCCL_IB_DISABLE"), *list = net_setting("NCCL_IB_HCA");
    if (off && strcmp(off, "0") != 0)
        return false;
    if (!list || net_setting("WEFT_IB_HCA"))
        return true;
    bool leave_out = *list == '^', named = false;
    list += leave_out;
    bool whole = *list == '=';
    for (list += whole; *list && !named; list += *list == ',') {
        size_t length = strcspn(list, ","), name = strcspn(list, ",:");
        named = name > 0 && strncmp(adapter, list, name) == 0 && (!whole || adapter[name] == 0) &&
                (name == length || strtol(list + name + 1, NULL, 10) == port);
        list += length;
    }
    return named != leave_out;
}

/* Whether a port is the interface's: one of its GIDs is (RoCE), or it is of the same PCI device (InfiniBand). */
static bool is_port_of(const net_device *interface, const char *adapter, int port)
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
        if (strcmp(text, interface->name) == 0)
            return true;
    }
    snprintf(path, sizeof path, "%s/device", interface->folder);
    own = realpath(path, NULL);
    snprintf(path, sizeof path, "/sys/class/infiniband/%.63s/device", adapter);
    its = realpath(path, NULL);
    bool same = own && its && strcmp(own, its) == 0 && port == interface->port;
    free(own);
    free(its);
    return same;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(a, b);
}

static int list_adapters(char names[ADAPTERS][ADAPTER_BYTES])
{
    DIR *folder = opendir("/sys/class/infiniband");
    int count = 0;
    for (const struct dirent *entry; folder && count < ADAPTERS && (entry = readdir(folder));) {
        if (entry->d_name[0] != '.')
            snprintf(names[count++], ADAPTER_BYTES, "%.63s", entry->d_name);
    }
    if (folder)
        closedir(folder);
    qsort(names, (size_t)count, ADAPTER_BYTES, by_name);
    return count;
}

void net_rdma_find(net_device *interface)
{
    char adapters[ADAPTERS][ADAPTER_BYTES];
    size_t bytes = 0;
    int count = list_adapters(adapters);
    for (int i = 0; i < count; i++) {
        for (int port = 1; port <= PORTS && bytes < 80; port++) {
            if (is_port_of(interface, adapters[i], port) && is_allowed(adapters[i], port))
                bytes += (size_t)snprintf(interface->rdma_ports + bytes, sizeof interface->rdma_ports - bytes, "%s=%.63s:%d",
                                          bytes ? "," : "", adapters[i], port);
        }
    }
}

int net_rdma_list(const net_device *interfaces, int count, net_device *found, int most)
{
    char adapters[ADAPTERS][ADAPTER_BYTES], text[64];
    int adapter_count = list_adapters(adapters), n = 0;
    for (int i = 0; i < adapter_count; i++) {
        for (int port = 1; port <= PORTS && n < most; port++) {
            const char *name = adapters[i];
            bool taken = false;
            for (int k = 0; k < count && !taken; k++)
                taken = is_port_of(&interfaces[k], name, port);
            if (taken || !is_allowed(name, port) ||
                !net_sysfs_text(text, sizeof text, "/sys/class/infiniband/%s/ports/%d/link_layer", name, port) ||
                strcmp(text, "InfiniBand") != 0)
                continue;
            net_device *device = &found[n++];
            *device = (net_device){.bare = true, .port = port};
            if (port == 1) /* as NCCL and its topology files call it */
                snprintf(device->name, sizeof device->name, "%.63s", name);
            else
                snprintf(device->name, sizeof device->name, "%.63s:%d", name, port);
            snprintf(device->folder, sizeof device->folder, "/sys/class/infiniband/%.63s", name);
            snprintf(device->rdma_ports, sizeof device->rdma_ports, "=%.63s:%d", name, port);
            if (net_sysfs_text(text, sizeof text, "%s/ports/%d/rate", device->folder, port)) /* "200 Gb/sec (4X HDR)" */
                device->speed_Mbps = (int)(strtod(text, NULL) * 1000);
        }
    }
    return n;
}

/* Calls into a NCCL network plugin, one function for each operation whatever the version of its table. Finding and loading the
 * library is net_library.c's. */
#include "transport/plugin/net.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/interface.h"
#include "transport/plugin/net_library.h"

/* Up to here all tables have the same members in the same places, so that calls whose form never changed go through v6. */
_Static_assert(offsetof(nccl_net_v6, closeListen) == offsetof(nccl_net_v12, closeListen) &&
               offsetof(nccl_net_v6, test) == offsetof(nccl_net_v9, test) &&
               offsetof(nccl_net_v6, listen) == offsetof(nccl_net_v10, listen), "the tables begin alike");

enum { TAG = 1, MESSAGE_BYTES = 1 << 20, SMALLEST_MESSAGE_BYTES = 128 };

static const char *result_text(nccl_result result)
{
    switch (result) {
    case NCCL_SUCCESS: return "success";
    case NCCL_UNHANDLED_CUDA_ERROR: return "unhandled device error";
    case NCCL_SYSTEM_ERROR: return "system error";
    case NCCL_INTERNAL_ERROR: return "internal error";
    case NCCL_INVALID_ARGUMENT: return "invalid argument";
    case NCCL_INVALID_USAGE: return "invalid usage";
    case NCCL_REMOTE_ERROR: return "remote error";
    }
    return "unknown error";
}

/* The plugin's result as ours. */
static weft_status check(const weft_net *net, const char *call, nccl_result result)
{
    if (result == NCCL_SUCCESS)
        return WEFT_OK;
    const char *warning = weft_net_last_warning();
    return weft_fail(result == NCCL_REMOTE_ERROR ? WEFT_ERR_PEER : WEFT_ERR_SYSTEM, "plugin %s: %s: %s%s%s", net->name, call,
                     result_text(result), *warning ? ": " : "", warning);
}

/* ---- beginning and end ------------------------------------------------------------------------- */

static nccl_result no_profiler(void **event, int type, void *parent, int64_t plugin, void *data)
{
    (void)event, (void)type, (void)parent, (void)plugin, (void)data;
    return NCCL_SUCCESS;
}

static weft_status init(weft_net *net, uint64_t job)
{
    const weft_net_library *l = net->library;
    nccl_net_config config = {.trafficClass = NCCL_NET_UNDEFINED};
    weft_net_clear_warning();
    if (net->version >= 11)
        return check(net, "init", l->table.v11->init(&net->context, job, &config, weft_net_log, no_profiler));
    return check(net, "init", weft_net_library_init(l, no_profiler));
}

/* What we need of a device's properties, of any version. */
typedef struct device_properties {
    const char *name, *pci_path;
    int memory, speed_Mbps, offload, port;
    double latency_us;
    size_t message_bytes;
} device_properties;

static nccl_result get_properties(const weft_net *net, int device, device_properties *out)
{
    const weft_net_table *t = &net->library->table;
    nccl_net_properties_v12 p; /* larger than any other */
    memset(&p, 0, sizeof p);
    *out = (device_properties){.message_bytes = MESSAGE_BYTES};
    nccl_result result;
#define COMMON(from)                                                                                                             \
    out->name = (from).name, out->pci_path = (from).pciPath, out->memory = (from).ptrSupport, out->speed_Mbps = (from).speed,    \
    out->port = (from).port, out->latency_us = (double)(from).latency
    if (net->version == 6) {
        nccl_net_properties_v6 v6 = {0};
        result = t->v6->getProperties(device, &v6);
        COMMON(v6);
    } else if (net->version == 7) {
        nccl_net_properties_v7 v7 = {0};
        result = t->v7->getProperties(device, &v7);
        COMMON(v7), out->offload = v7.netDeviceType;
    } else if (net->version == 8) {
        nccl_net_properties_v8 v8 = {0};
        result = t->v8->getProperties(device, &v8);
        COMMON(v8), out->offload = v8.netDeviceType;
    } else if (net->version <= 11) { /* v9 and v10 are the beginning of v11 */
        nccl_net_properties_v11 v11 = {0};
        result = net->version == 11 ? t->v11->getProperties(device, &v11)
                                    : t->v9->getProperties(device, (nccl_net_properties_v9 *)(void *)&v11);
        COMMON(v11), out->offload = v11.netDeviceType, out->message_bytes = v11.maxP2pBytes;
    } else {
        result = t->v12->getProperties(device, &p);
        COMMON(p), out->offload = p.netDeviceType, out->message_bytes = p.maxP2pBytes;
    }
#undef COMMON
    return result;
}
_Static_assert(offsetof(nccl_net_properties_v9, maxP2pBytes) == offsetof(nccl_net_properties_v11, maxP2pBytes),
               "v11 goes on where v9 ends");

/* Ports of different adapters, or different ports of one: else it is the same thing under two names. */
static bool is_apart(const weft_net *net, const weft_net_device *d)
{
    for (int i = 0; i < net->devices; i++) {
        const weft_net_device *other = &net->device[i];
        if (!*d->pci_path || !*other->pci_path || (strcmp(d->pci_path, other->pci_path) == 0 && d->port == other->port))
            return false;
    }
    return true;
}

/* Takes a device into those that are used. Without a list those are the fastest: of equal ones the first, as the plugin puts
 * those in front that it prefers, and others that surely lead to another wire. */
static void consider(weft_net *net, const char *chosen, const weft_net_device *d, const device_properties *p)
{
    if (*chosen ? !weft_name_in_list(d->name, chosen) : net->devices > 0 && d->speed_Mbps < net->device[0].speed_Mbps)
        return;
    if (!*chosen && net->devices > 0 && d->speed_Mbps > net->device[0].speed_Mbps)
        net->devices = 0;
    if (net->devices == WEFT_NET_RAILS_MAX || (!*chosen && net->devices > 0 && !is_apart(net, d)))
        return;
    if (net->devices == 0) {
        net->message_bytes = MESSAGE_BYTES;
        net->latency_ns = p->latency_us * 1000;
    }
    if (p->message_bytes > 0)
        net->message_bytes = weft_min_size(p->message_bytes, net->message_bytes);
    net->device[net->devices++] = *d;
}

static weft_status choose_devices(weft_net *net, const char *chosen)
{
    int count = 0, usable = 0;
    char names[256] = "";
    weft_status status = check(net, "devices", net->library->table.v6->devices(&count));
    for (int i = 0; i < count && status == WEFT_OK; i++) {
        device_properties p;
        status = check(net, "getProperties", get_properties(net, i, &p));
        if (status != WEFT_OK || !(p.memory & NCCL_PTR_HOST) || p.offload != NCCL_NET_DEVICE_HOST)
            continue;
        weft_net_device d = {.number = i, .port = p.port, .speed_Mbps = p.speed_Mbps};
        snprintf(d.name, sizeof d.name, "%s", p.name ? p.name : "");
        snprintf(d.pci_path, sizeof d.pci_path, "%s", p.pci_path ? p.pci_path : "");
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", usable++ ? ", " : "", d.name);
        consider(net, chosen, &d, &p);
    }
    if (status == WEFT_OK && usable == 0)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin %s (%s): none of its %d devices sends host memory", net->name,
                         net->library->path, count);
    if (status == WEFT_OK && net->devices == 0)
        return weft_fail(WEFT_ERR_INVALID, "plugin %s: no device matches WEFT_NET_DEVICES '%s'; there are: %s", net->name, chosen,
                         names);
    if (status == WEFT_OK && net->message_bytes < SMALLEST_MESSAGE_BYTES)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin %s (%s): device %s sends %zu bytes at a time, at least %d are needed",
                         net->name, net->library->path, net->device[0].name, net->message_bytes, SMALLEST_MESSAGE_BYTES);
    return status;
}

static void set_name(weft_net *net)
{
    const char *name = net->library->table.v6->name;
    snprintf(net->name, sizeof net->name, "%s", name ? name : "without a name");
}

weft_status weft_net_open(const char *setting, const char *chosen, uint64_t job, weft_net *net)
{
    memset(net, 0, sizeof *net);
    weft_status status = weft_net_library_get(setting, &net->library);
    if (status != WEFT_OK)
        return status;
    net->version = net->library->version;
    net->requests = net->version == 6 ? NCCL_NET_V6_REQUESTS : NCCL_NET_REQUESTS;
    set_name(net);
    status = init(net, job);
    if (status != WEFT_OK) {
        net->library = NULL;
        return weft_fail_context(status, "%s", "opening a NCCL network plugin");
    }
    set_name(net);
    if ((status = weft_net_library_check(net->library)) != WEFT_OK || (status = choose_devices(net, chosen)) != WEFT_OK)
        weft_net_close(net);
    for (int i = 0; i < net->devices && status == WEFT_OK; i++)
        weft_log(WEFT_LOG_INFO, "plugin: %s, version %d of NCCL's table, from %s: device %s, %d Mbit/s", net->name, net->version,
                 net->library->path, net->device[i].name, net->device[i].speed_Mbps);
    return status;
}

void weft_net_close(weft_net *net)
{
    if (net->library && net->version >= 11 && net->library->table.v11->finalize && !net->unfinished)
        net->library->table.v11->finalize(net->context);
    net->library = NULL;
}

/* ---- connections ------------------------------------------------------------------------------- */

weft_status weft_net_listen(const weft_net *net, int device, void *handle, void **listen_comm)
{
    const weft_net_table *t = &net->library->table;
    weft_net_clear_warning();
    nccl_result result = net->version >= 11 ? t->v11->listen(net->context, net->device[device].number, handle, listen_comm)
                                            : t->v6->listen(net->device[device].number, handle, listen_comm);
    return check(net, "listen", result);
}

weft_status weft_net_connect(const weft_net *net, int device, void *handle, void **send_comm)
{
    const weft_net_table *t = &net->library->table;
    nccl_net_device_handle *offload = NULL;
    nccl_net_config config = {.trafficClass = NCCL_NET_UNDEFINED};
    nccl_result result;
    weft_net_clear_warning();
    if (net->version == 6)
        result = t->v6->connect(net->device[device].number, handle, send_comm);
    else if (net->version < 10)
        result = t->v7->connect(net->device[device].number, handle, send_comm, &offload);
    else if (net->version == 10)
        result = t->v10->connect(net->device[device].number, &config, handle, send_comm, &offload);
    else
        result = t->v11->connect(net->context, net->device[device].number, handle, send_comm, &offload);
    return check(net, "connect", result);
}

weft_status weft_net_accept(const weft_net *net, void *listen_comm, void **receive_comm)
{
    const weft_net_table *t = &net->library->table;
    nccl_net_device_handle *offload = NULL;
    weft_net_clear_warning();
    return check(net, "accept", net->version == 6 ? t->v6->accept(listen_comm, receive_comm)
                                                  : t->v7->accept(listen_comm, receive_comm, &offload));
}

weft_status weft_net_register(const weft_net *net, void *comm, void *data, size_t bytes, void **memory)
{
    const weft_net_table *t = &net->library->table;
    if (net->version < 8 && bytes > INT_MAX)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "plugin %s: version %d registers at most 2 GiB at once", net->name, net->version);
    *memory = NULL;
    weft_net_clear_warning();
    return check(net, "regMr", net->version < 8 ? t->v6->regMr(comm, data, (int)bytes, NCCL_PTR_HOST, memory)
                                                : t->v8->regMr(comm, data, bytes, NCCL_PTR_HOST, memory));
}

void weft_net_deregister(const weft_net *net, void *comm, void *memory)
{
    net->library->table.v6->deregMr(comm, memory);
}

void weft_net_close_send(const weft_net *net, void *comm)
{
    if (comm)
        net->library->table.v6->closeSend(comm);
}

void weft_net_close_receive(const weft_net *net, void *comm)
{
    if (comm)
        net->library->table.v6->closeRecv(comm);
}

void weft_net_close_listen(const weft_net *net, void *comm)
{
    if (comm)
        net->library->table.v6->closeListen(comm);
}

/* ---- messages ---------------------------------------------------------------------------------- */

weft_status weft_net_send(const weft_net *net, void *comm, const void *data, size_t bytes, void *memory, void **request)
{
    const weft_net_table *t = &net->library->table;
    void *from = (void *)(uintptr_t)data;
    nccl_result result;
    *request = NULL;
    if (net->version < 9)
        result = t->v6->isend(comm, from, (int)bytes, TAG, memory, request);
    else if (net->version == 9)
        result = t->v9->isend(comm, from, bytes, TAG, memory, request);
    else
        result = t->v10->isend(comm, from, bytes, TAG, memory, NULL, request);
    return result == NCCL_SUCCESS ? WEFT_OK : check(net, "isend", result);
}

weft_status weft_net_receive(const weft_net *net, void *comm, void *data, size_t bytes, void *memory, void **request)
{
    const weft_net_table *t = &net->library->table;
    int tag = TAG, bytes_v6 = (int)bytes;
    void *profile = NULL;
    nccl_result result;
    *request = NULL;
    if (net->version < 9)
        result = t->v6->irecv(comm, 1, &data, &bytes_v6, &tag, &memory, request);
    else if (net->version == 9)
        result = t->v9->irecv(comm, 1, &data, &bytes, &tag, &memory, request);
    else
        result = t->v10->irecv(comm, 1, &data, &bytes, &tag, &memory, &profile, request);
    return result == NCCL_SUCCESS ? WEFT_OK : check(net, "irecv", result);
}

weft_status weft_net_test(const weft_net *net, void *request, bool *done, size_t *bytes)
{
    int sizes[NCCL_NET_RECVS_MAX], is_done = 0; /* room for a plugin that fills more than it was asked for */
    sizes[0] = -1;
    nccl_result result = net->library->table.v6->test(request, &is_done, sizes);
    *done = is_done != 0;
    *bytes = sizes[0] >= 0 ? (size_t)sizes[0] : WEFT_NET_UNKNOWN_BYTES;
    return result == NCCL_SUCCESS ? WEFT_OK : check(net, "test", result);
}

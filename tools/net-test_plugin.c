/* Loads a network plugin of NCCL and fits the versions of its ABI to one face. */
#include "net-test_plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- loading ---- */

static void *open_library(const char *name, char *reason, size_t bytes)
{
    char path[512], first[256];
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library)
        return library;
    snprintf(first, sizeof first, "%s", dlerror());
    if (strchr(name, '/')) {
        snprintf(reason, bytes, "%s", first);
        return NULL;
    }
    snprintf(path, sizeof path, "libnccl-net-%s.so", name);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        snprintf(reason, bytes, "%s; %s", first, dlerror());
    return library;
}

bool plugin_load(plugin *p, const char *name, int version, char *reason, size_t bytes)
{
    const char *slash = strrchr(name, '/');
    memset(p, 0, sizeof *p);
    p->library = open_library(name, reason, bytes);
    if (!p->library)
        return false;
    for (int v = NCCL_NET_NEWEST; v >= NCCL_NET_OLDEST && !p->table; v--) {
        char symbol[32];
        if (version && v != version)
            continue;
        snprintf(symbol, sizeof symbol, "ncclNetPlugin_v%d", v);
        p->table = dlsym(p->library, symbol);
        p->version = v;
    }
    if (!p->table) {
        if (version)
            snprintf(reason, bytes, "%s has no ncclNetPlugin_v%d", name, version);
        else
            snprintf(reason, bytes, "%s has no ncclNetPlugin_v%d to _v%d", name, NCCL_NET_OLDEST, NCCL_NET_NEWEST);
        dlclose(p->library);
        return false;
    }
    snprintf(p->label, sizeof p->label, "%s", slash ? slash + 1 : name);
    return true;
}

void plugin_unload(plugin *p)
{
    /* Before v11 there is no finalize: what connect() has begun stays the plugin's until the process ends, and may be at work. */
    if (p->library && p->version >= 11)
        dlclose(p->library);
    p->library = NULL;
}

/* ---- what NCCL gives a plugin ---- */

static bool log_everything;

static void log_line(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void log_line(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list list;
    (void)flags, (void)file, (void)line;
    if (level > NCCL_LOG_WARN && !log_everything)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "[%d] %s%s\n", (int)getpid(), level == NCCL_LOG_WARN ? "warning: " : "", text);
}

static nccl_result profile_nothing(void **event, int type, void *parent, int64_t plugin_id, void *data)
{
    (void)event, (void)type, (void)parent, (void)plugin_id, (void)data;
    return NCCL_SUCCESS;
}

const char *result_text(nccl_result result)
{
    switch (result) {
    case NCCL_SUCCESS: return "success";
    case NCCL_UNHANDLED_CUDA_ERROR: return "unhandled CUDA error (1)";
    case NCCL_SYSTEM_ERROR: return "system error (2)";
    case NCCL_INTERNAL_ERROR: return "internal error (3)";
    case NCCL_INVALID_ARGUMENT: return "invalid argument (4)";
    case NCCL_INVALID_USAGE: return "invalid usage (5)";
    case NCCL_REMOTE_ERROR: return "remote error (6)";
    }
    return "a result that NCCL does not know";
}

/* ---- one face ---- */

/* The operation of the plugin's table, of the type that it has in that version. */
#define TABLE(v) ((const nccl_net_v##v *)p->table)

nccl_result plugin_init(plugin *p, bool verbose)
{
    nccl_net_config config = {.trafficClass = NCCL_NET_UNDEFINED};
    log_everything = verbose;
    switch (p->version) {
    case 12: return TABLE(12)->init(&p->context, 0x5745465454455354, &config, log_line, profile_nothing);
    case 11: return TABLE(11)->init(&p->context, 0x5745465454455354, &config, log_line, profile_nothing);
    case 10: return TABLE(10)->init(log_line, profile_nothing);
    default: return TABLE(6)->init(log_line); /* the same in 6 to 9 */
    }
}

nccl_result plugin_finalize(plugin *p)
{
    if (p->version == 12 && TABLE(12)->finalize)
        return TABLE(12)->finalize(p->context);
    if (p->version == 11 && TABLE(11)->finalize)
        return TABLE(11)->finalize(p->context);
    return NCCL_SUCCESS;
}

nccl_result plugin_devices(plugin *p, int *count)
{
    return TABLE(6)->devices(count);
}

#define COPY_OLDEST(to, from)                                                                                                  \
    ((to)->name = (from).name, (to)->pciPath = (from).pciPath, (to)->guid = (from).guid, (to)->ptrSupport = (from).ptrSupport,  \
     (to)->speed = (from).speed, (to)->port = (from).port, (to)->latency = (from).latency, (to)->maxComms = (from).maxComms,   \
     (to)->maxRecvs = (from).maxRecvs)
#define COPY_V9(to, from)                                                                                                      \
    (COPY_OLDEST(to, from), (to)->regIsGlobal = (from).regIsGlobal, (to)->netDeviceType = (from).netDeviceType,                \
     (to)->vProps.ndevs = (from).vProps.ndevs, memcpy((to)->vProps.devs, (from).vProps.devs, sizeof(from).vProps.devs),        \
     (to)->maxP2pBytes = (from).maxP2pBytes, (to)->maxCollBytes = (from).maxCollBytes)

nccl_result plugin_properties(plugin *p, int device, nccl_net_properties_v12 *to)
{
    nccl_net_properties_v11 v11;
    nccl_net_properties_v9 v9;
    nccl_net_properties_v8 v8;
    nccl_net_properties_v7 v7;
    nccl_net_properties_v6 v6;
    nccl_result result;
    memset(to, 0, sizeof *to);
    to->vProps.ndevs = 1;
    to->vProps.devs[0] = device;
    to->maxP2pBytes = to->maxCollBytes = (size_t)1 << 30;
    to->railId = to->planeId = NCCL_NET_UNDEFINED;
    switch (p->version) {
    case 12: return TABLE(12)->getProperties(device, to);
    case 11:
        if ((result = TABLE(11)->getProperties(device, &v11)) == NCCL_SUCCESS)
            COPY_V9(to, v11);
        return result;
    case 10:
    case 9:
        result = p->version == 10 ? TABLE(10)->getProperties(device, &v9) : TABLE(9)->getProperties(device, &v9);
        if (result == NCCL_SUCCESS)
            COPY_V9(to, v9);
        return result;
    case 8:
        if ((result = TABLE(8)->getProperties(device, &v8)) == NCCL_SUCCESS) {
            COPY_OLDEST(to, v8);
            to->regIsGlobal = v8.regIsGlobal;
            to->netDeviceType = v8.netDeviceType;
        }
        return result;
    case 7:
        if ((result = TABLE(7)->getProperties(device, &v7)) == NCCL_SUCCESS) {
            COPY_OLDEST(to, v7);
            to->netDeviceType = v7.netDeviceType;
        }
        return result;
    default:
        if ((result = TABLE(6)->getProperties(device, &v6)) == NCCL_SUCCESS)
            COPY_OLDEST(to, v6);
        return result;
    }
}

bool plugin_can_fuse(const plugin *p)
{
    return (p->version == 12 && TABLE(12)->makeVDevice) || (p->version == 11 && TABLE(11)->makeVDevice) ||
           (p->version == 10 && TABLE(10)->makeVDevice) || (p->version == 9 && TABLE(9)->makeVDevice);
}

nccl_result plugin_fuse(plugin *p, int *device, const int *parts, int count)
{
    nccl_net_vdevice_v12 v12 = {.ndevs = count};
    nccl_net_vdevice_v9 v9 = {.ndevs = count};
    if (count > (p->version == 12 ? 8 : 4))
        return NCCL_INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        v12.devs[i] = parts[i];
        if (i < 4)
            v9.devs[i] = parts[i];
    }
    switch (p->version) {
    case 12: return TABLE(12)->makeVDevice(device, &v12);
    case 11: return TABLE(11)->makeVDevice(device, &v9);
    case 10: return TABLE(10)->makeVDevice(device, &v9);
    default: return TABLE(9)->makeVDevice(device, &v9);
    }
}

nccl_result plugin_listen(plugin *p, int device, void *handle, void **listen_comm)
{
    *listen_comm = NULL;
    switch (p->version) {
    case 12: return TABLE(12)->listen(p->context, device, handle, listen_comm);
    case 11: return TABLE(11)->listen(p->context, device, handle, listen_comm);
    default: return TABLE(6)->listen(device, handle, listen_comm); /* the same in 6 to 10 */
    }
}

nccl_result plugin_connect(plugin *p, int device, void *handle, void **comm)
{
    nccl_net_config config = {.trafficClass = NCCL_NET_UNDEFINED};
    nccl_net_device_handle *offload = NULL;
    *comm = NULL;
    switch (p->version) {
    case 12: return TABLE(12)->connect(p->context, device, handle, comm, &offload);
    case 11: return TABLE(11)->connect(p->context, device, handle, comm, &offload);
    case 10: return TABLE(10)->connect(device, &config, handle, comm, &offload);
    case 6: return TABLE(6)->connect(device, handle, comm);
    default: return TABLE(7)->connect(device, handle, comm, &offload); /* the same in 7 to 9 */
    }
}

nccl_result plugin_accept(plugin *p, void *listen_comm, void **comm)
{
    nccl_net_device_handle *offload = NULL;
    *comm = NULL;
    if (p->version == 6)
        return TABLE(6)->accept(listen_comm, comm);
    return TABLE(7)->accept(listen_comm, comm, &offload);
}

nccl_result plugin_register(plugin *p, void *comm, void *data, size_t bytes, void **memory)
{
    *memory = NULL;
    if (p->version >= 8)
        return TABLE(8)->regMr(comm, data, bytes, NCCL_PTR_HOST, memory);
    return bytes > INT_MAX ? NCCL_INVALID_ARGUMENT : TABLE(6)->regMr(comm, data, (int)bytes, NCCL_PTR_HOST, memory);
}

nccl_result plugin_deregister(plugin *p, void *comm, void *memory)
{
    return TABLE(6)->deregMr(comm, memory);
}

nccl_result plugin_send(plugin *p, void *comm, void *data, size_t bytes, int tag, void *memory, void **request)
{
    *request = NULL;
    if (p->version >= 10)
        return TABLE(10)->isend(comm, data, bytes, tag, memory, NULL, request);
    if (p->version == 9)
        return TABLE(9)->isend(comm, data, bytes, tag, memory, request);
    return bytes > INT_MAX ? NCCL_INVALID_ARGUMENT : TABLE(6)->isend(comm, data, (int)bytes, tag, memory, request);
}

nccl_result plugin_receive(plugin *p, void *comm, int n, void **data, size_t *bytes, int *tags, void **memory, void **request)
{
    void *profiles[NCCL_NET_RECVS_MAX] = {NULL};
    int small[NCCL_NET_RECVS_MAX];
    *request = NULL;
    if (p->version >= 10)
        return TABLE(10)->irecv(comm, n, data, bytes, tags, memory, profiles, request);
    if (p->version == 9)
        return TABLE(9)->irecv(comm, n, data, bytes, tags, memory, request);
    for (int i = 0; i < n; i++) {
        if (bytes[i] > INT_MAX)
            return NCCL_INVALID_ARGUMENT;
        small[i] = (int)bytes[i];
    }
    return TABLE(6)->irecv(comm, n, data, small, tags, memory, request);
}

/* From here on the tables are the same in all versions. */

nccl_result plugin_test(plugin *p, void *request, int *done, int *sizes)
{
    return TABLE(6)->test(request, done, sizes);
}

nccl_result plugin_close_send(plugin *p, void *comm)
{
    return TABLE(6)->closeSend(comm);
}

nccl_result plugin_close_receive(plugin *p, void *comm)
{
    return TABLE(6)->closeRecv(comm);
}

nccl_result plugin_close_listen(plugin *p, void *comm)
{
    return TABLE(6)->closeListen(comm);
}

/* The tables that NCCL finds: one per version of the ABI, newest first. What differs between versions is fitted here. */
#include "plugin.h"

#define EXPORTED __attribute__((visibility("default")))

/* ---- init ---- */

static nccl_result init_v10(nccl_log_function log, nccl_profiler_function profiler)
{
    return net_plugin_init(NULL, 0, NULL, log, profiler);
}

static nccl_result init_v8(nccl_log_function log)
{
    return net_plugin_init(NULL, 0, NULL, log, NULL);
}

/* ---- properties: what all versions have, then what some have ---- */

#define COPY_COMMON(to, from)                                                                                                  \
    ((to)->name = (from).name, (to)->pciPath = (from).pciPath, (to)->guid = (from).guid, (to)->ptrSupport = (from).ptrSupport,  \
     (to)->regIsGlobal = (from).regIsGlobal, (to)->speed = (from).speed, (to)->port = (from).port,                             \
     (to)->latency = (from).latency, (to)->maxComms = (from).maxComms, (to)->maxRecvs = (from).maxRecvs,                       \
     (to)->netDeviceType = (from).netDeviceType, (to)->netDeviceVersion = (from).netDeviceVersion)

static void copy_vdevice(nccl_net_vdevice_v9 *to, const nccl_net_vdevice_v12 *from)
{
    to->ndevs = from->ndevs < (int)ARRAY_LEN(to->devs) ? from->ndevs : (int)ARRAY_LEN(to->devs);
    for (size_t i = 0; i < ARRAY_LEN(to->devs); i++)
        to->devs[i] = from->devs[i];
}

static nccl_result properties_v11(int device, nccl_net_properties_v11 *properties)
{
    nccl_net_properties_v12 all;
    nccl_result result = net_plugin_properties(device, &all);
    if (result != NCCL_SUCCESS)
        return result;
    *properties = (nccl_net_properties_v11){.forceFlush = all.forceFlush, .maxP2pBytes = all.maxP2pBytes,
                                            .maxCollBytes = all.maxCollBytes, .maxMultiRequestSize = all.maxMultiRequestSize};
    COPY_COMMON(properties, all);
    copy_vdevice(&properties->vProps, &all.vProps);
    return NCCL_SUCCESS;
}

static nccl_result properties_v9(int device, nccl_net_properties_v9 *properties)
{
    nccl_net_properties_v12 all;
    nccl_result result = net_plugin_properties(device, &all);
    if (result != NCCL_SUCCESS)
        return result;
    *properties = (nccl_net_properties_v9){.forceFlush = all.forceFlush, .maxP2pBytes = all.maxP2pBytes,
                                           .maxCollBytes = all.maxCollBytes};
    COPY_COMMON(properties, all);
    copy_vdevice(&properties->vProps, &all.vProps);
    return NCCL_SUCCESS;
}

static nccl_result properties_v8(int device, nccl_net_properties_v8 *properties)
{
    nccl_net_properties_v12 all;
    nccl_result result = net_plugin_properties(device, &all);
    if (result != NCCL_SUCCESS)
        return result;
    *properties = (nccl_net_properties_v8){0};
    COPY_COMMON(properties, all);
    return NCCL_SUCCESS;
}

/* ---- connections ---- */

static nccl_result listen_v8(int device, void *handle, void **listen_comm)
{
    return net_plugin_listen(NULL, device, handle, listen_comm);
}

static nccl_result connect_v10(int device, nccl_net_config *config, void *handle, void **send_comm,
                               nccl_net_device_handle **offload)
{
    (void)config;
    return net_plugin_connect(NULL, device, handle, send_comm, offload);
}

static nccl_result connect_v8(int device, void *handle, void **send_comm, nccl_net_device_handle **offload)
{
    return net_plugin_connect(NULL, device, handle, send_comm, offload);
}

static nccl_result make_vdevice_v9(int *device, nccl_net_vdevice_v9 *properties)
{
    if (properties->ndevs < 0 || properties->ndevs > (int)ARRAY_LEN(properties->devs)) {
        net_warn("cannot fuse %d devices: at most %zu in this version of the ABI", properties->ndevs,
                 ARRAY_LEN(properties->devs));
        return NCCL_INVALID_ARGUMENT;
    }
    return net_device_fuse(properties->devs, properties->ndevs, device);
}

/* ---- messages ---- */

static nccl_result send_v9(void *send_comm, void *data, size_t bytes, int tag, void *memory, void **request)
{
    return net_plugin_send(send_comm, data, bytes, tag, memory, NULL, request);
}

static nccl_result send_v8(void *send_comm, void *data, int bytes, int tag, void *memory, void **request)
{
    return net_plugin_send(send_comm, data, bytes < 0 ? SIZE_MAX : (size_t)bytes, tag, memory, NULL, request);
}

static nccl_result receive_v9(void *receive_comm, int n, void **data, size_t *bytes, int *tags, void **memory, void **request)
{
    return net_plugin_receive(receive_comm, n, data, bytes, tags, memory, NULL, request);
}

static nccl_result receive_v8(void *receive_comm, int n, void **data, int *bytes, int *tags, void **memory, void **request)
{
    size_t sizes[NCCL_NET_RECVS_MAX];
    for (int i = 0; i < n && i < NCCL_NET_RECVS_MAX; i++)
        sizes[i] = bytes[i] < 0 ? 0 : (size_t)bytes[i];
    return net_plugin_receive(receive_comm, n, data, sizes, tags, memory, NULL, request);
}

/* ---- tables ---- */

#define SAME_IN_ALL                                                                                                              \
    .name = "Weft", .devices = net_plugin_devices, .accept = net_plugin_accept, .regMr = net_plugin_register,                    \
    .regMrDmaBuf = net_plugin_register_dmabuf, .deregMr = net_plugin_deregister, .iflush = net_plugin_flush,                     \
    .test = net_plugin_test, .closeSend = net_plugin_close_comm, .closeRecv = net_plugin_close_comm,                             \
    .closeListen = net_plugin_close_listener, .getDeviceMr = net_plugin_device_memory,                                           \
    .irecvConsumed = net_plugin_receive_consumed

EXPORTED extern const nccl_net_v12 ncclNetPlugin_v12;
const nccl_net_v12 ncclNetPlugin_v12 = {
    SAME_IN_ALL, .init = net_plugin_init, .getProperties = net_plugin_properties, .listen = net_plugin_listen,
    .connect = net_plugin_connect, .isend = net_plugin_send, .irecv = net_plugin_receive, .makeVDevice = net_plugin_make_vdevice,
    .finalize = net_plugin_finalize, .setNetAttr = net_plugin_set_attribute,
};

EXPORTED extern const nccl_net_v11 ncclNetPlugin_v11;
const nccl_net_v11 ncclNetPlugin_v11 = {
    SAME_IN_ALL, .init = net_plugin_init, .getProperties = properties_v11, .listen = net_plugin_listen,
    .connect = net_plugin_connect, .isend = net_plugin_send, .irecv = net_plugin_receive, .makeVDevice = make_vdevice_v9,
    .finalize = net_plugin_finalize,
    .setNetAttr = net_plugin_set_attribute,
};

EXPORTED extern const nccl_net_v10 ncclNetPlugin_v10;
const nccl_net_v10 ncclNetPlugin_v10 = {
    SAME_IN_ALL, .init = init_v10, .getProperties = properties_v9, .listen = listen_v8, .connect = connect_v10,
    .isend = net_plugin_send, .irecv = net_plugin_receive, .makeVDevice = make_vdevice_v9,
};

EXPORTED extern const nccl_net_v9 ncclNetPlugin_v9;
const nccl_net_v9 ncclNetPlugin_v9 = {
    SAME_IN_ALL, .init = init_v8, .getProperties = properties_v9, .listen = listen_v8, .connect = connect_v8,
    .isend = send_v9, .irecv = receive_v9, .makeVDevice = make_vdevice_v9,
};

EXPORTED extern const nccl_net_v8 ncclNetPlugin_v8;
const nccl_net_v8 ncclNetPlugin_v8 = {
    SAME_IN_ALL, .init = init_v8, .getProperties = properties_v8, .listen = listen_v8, .connect = connect_v8,
    .isend = send_v8, .irecv = receive_v8,
};

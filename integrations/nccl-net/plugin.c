/* The operations that NCCL calls: arguments checked, then handed on. */
#include "plugin.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* test() gives sizes as int, so this is the most that a message may have. NCCL cuts at the same. */
#define MESSAGE_BYTES_MAX ((size_t)1 << 30)

static _Atomic int in_use; /* communicators of v11 and v12 that are not finalized; the versions before have no end */

nccl_result net_plugin_init(void **context, uint64_t communicator, nccl_net_config *config, nccl_log_function log,
                          nccl_profiler_function profiler)
{
    (void)communicator, (void)config, (void)profiler;
    net_set_log(log);
    if (context)
        *context = NULL; /* nothing is kept per communicator */
    nccl_result result = net_devices_find();
    if (result == NCCL_SUCCESS && context)
        in_use++;
    return result;
}

nccl_result net_plugin_finalize(void *context)
{
    (void)context;
    if (--in_use == 0)
        net_dialling_end();
    return NCCL_SUCCESS;
}

nccl_result net_plugin_set_attribute(void *context, nccl_net_attribute *attribute)
{
    (void)context, (void)attribute; /* hints on how many peers and flows there will be: connections do not depend on it */
    return NCCL_SUCCESS;
}

nccl_result net_plugin_devices(int *count)
{
    *count = net_devices_count();
    return NCCL_SUCCESS;
}

nccl_result net_plugin_properties(int number, nccl_net_properties_v12 *properties)
{
    const net_device *device = net_device_get(number);
    if (!device)
        return NCCL_INVALID_ARGUMENT;
    memset(properties, 0, sizeof *properties);
    properties->name = (char *)(uintptr_t)device->name;
    properties->pciPath = device->pci_path;
    properties->guid = device->guid;
    properties->ptrSupport = NCCL_PTR_HOST;
    properties->regIsGlobal = !weft_transport_find("verbs"); /* tcp needs no registration; an adapter's is of one connection */
    properties->speed = device->speed_Mbps;
    properties->port = device->port;
    properties->latency = 0;
    properties->maxComms = 65536;
    properties->maxRecvs = NCCL_NET_RECVS_MAX;
    properties->netDeviceType = NCCL_NET_DEVICE_HOST;
    properties->netDeviceVersion = NCCL_NET_DEVICE_INVALID_VERSION;
    properties->vProps.ndevs = device->count;
    memcpy(properties->vProps.devs, device->part, (size_t)device->count * sizeof device->part[0]);
    properties->maxP2pBytes = MESSAGE_BYTES_MAX;
    properties->maxCollBytes = MESSAGE_BYTES_MAX;
    properties->maxMultiRequestSize = 1;
    properties->railId = (int16_t)device->rail;
    properties->planeId = NCCL_NET_UNDEFINED;
    return NCCL_SUCCESS;
}

nccl_result net_plugin_make_vdevice(int *number, nccl_net_vdevice_v12 *properties)
{
    return net_device_fuse(properties->devs, properties->ndevs, number);
}

/* ---- connections ---- */

nccl_result net_plugin_listen(void *context, int device, void *handle, void **listen_comm)
{
    (void)context;
    net_listener *listener = NULL;
    *listen_comm = NULL;
    nccl_result result = net_listen(device, handle, &listener);
    *listen_comm = listener;
    return result;
}

nccl_result net_plugin_connect(void *context, int device, void *handle, void **send_comm, nccl_net_device_handle **offload)
{
    (void)context, (void)offload;
    net_comm *comm = NULL;
    nccl_result result = net_connect(device, handle, &comm);
    *send_comm = comm;
    return result;
}

nccl_result net_plugin_accept(void *listen_comm, void **receive_comm, nccl_net_device_handle **offload)
{
    (void)offload;
    net_comm *comm = NULL;
    nccl_result result = net_accept(listen_comm, &comm);
    *receive_comm = comm;
    return result;
}

nccl_result net_plugin_close_comm(void *comm)
{
    net_comm_destroy(comm);
    return NCCL_SUCCESS;
}

nccl_result net_plugin_close_listener(void *listen_comm)
{
    if (listen_comm)
        net_listener_close(listen_comm);
    return NCCL_SUCCESS;
}

/* ---- memory ---- */

/* A registration with the transport, or none where the transport reads any memory. */
typedef struct registration {
    void *handle;
    bool held;
} registration;

nccl_result net_plugin_register(void *comm, void *data, size_t bytes, int type, void **memory)
{
    net_comm *to = comm;
    if (type != NCCL_PTR_HOST) {
        net_warn("memory of type %d cannot be registered: this device takes host memory (%d) only", type, NCCL_PTR_HOST);
        return NCCL_INVALID_USAGE;
    }
    registration *made = calloc(1, sizeof *made);
    if (!made) {
        net_warn("no memory for a registration");
        return NCCL_SYSTEM_ERROR;
    }
    /* What a transport refuses it sends from its own memory. */
    made->held = to->ops->mem_register(to->transport, data, bytes, &made->handle) == WEFT_OK;
    *memory = made;
    return NCCL_SUCCESS;
}

nccl_result net_plugin_register_dmabuf(void *comm, void *data, size_t bytes, int type, uint64_t offset, int fd, void **memory)
{
    net_comm *to = comm;
    if (type != NCCL_PTR_HOST) {
        net_warn("a dma-buf of memory of type %d cannot be registered: the processor has to reach it (type %d)", type,
                 NCCL_PTR_HOST);
        return NCCL_INVALID_USAGE;
    }
    registration *made = calloc(1, sizeof *made);
    if (!made) {
        net_warn("no memory for a registration");
        return NCCL_SYSTEM_ERROR;
    }
    weft_status status = to->ops->mem_register_dmabuf(to->transport, fd, offset, data, bytes, &made->handle);
    if (status != WEFT_OK) {
        net_warn("a dma-buf cannot be registered with %s: %s", to->ops->name, weft_last_error());
        free(made);
        return net_result(status);
    }
    made->held = true;
    *memory = made;
    return NCCL_SUCCESS;
}

nccl_result net_plugin_deregister(void *comm, void *memory)
{
    net_comm *from = comm;
    registration *made = memory;
    if (made && made->held)
        from->ops->mem_deregister(from->transport, made->handle);
    free(made);
    return NCCL_SUCCESS;
}

nccl_result net_plugin_device_memory(void *comm, void *memory, void **device_memory)
{
    (void)comm, (void)memory, (void)device_memory;
    net_warn("this device has no memory of GPUs");
    return NCCL_INVALID_USAGE;
}

/* ---- messages ---- */

nccl_result net_plugin_send(void *send_comm, void *data, size_t bytes, int tag, void *memory, void *profile, void **request)
{
    (void)memory, (void)profile;
    net_comm *comm = send_comm;
    net_request *made = NULL;
    *request = NULL;
    if (bytes > MESSAGE_BYTES_MAX) {
        net_warn("a message of %zu bytes to %s: the most is %zu", bytes, comm->peer, MESSAGE_BYTES_MAX);
        return NCCL_INVALID_ARGUMENT;
    }
    nccl_result result = net_send_post(comm, data, bytes, tag, &made);
    *request = made;
    return result;
}

nccl_result net_plugin_receive(void *receive_comm, int n, void **data, size_t *bytes, int *tags, void **memory, void **profiles,
                             void **request)
{
    (void)memory, (void)profiles;
    net_comm *comm = receive_comm;
    net_request *made = NULL;
    *request = NULL;
    if (n < 1 || n > NCCL_NET_RECVS_MAX) {
        net_warn("a receive of %d buffers from %s: from 1 to %d", n, comm->peer, NCCL_NET_RECVS_MAX);
        return NCCL_INVALID_ARGUMENT;
    }
    nccl_result result = net_receive_post(comm, n, data, bytes, tags, &made);
    *request = made;
    return result;
}

nccl_result net_plugin_flush(void *receive_comm, int n, void **data, int *bytes, void **memory, void **request)
{
    (void)receive_comm, (void)n, (void)data, (void)bytes, (void)memory;
    *request = NULL; /* what was received into host memory is there: nothing to wait for */
    return NCCL_SUCCESS;
}

nccl_result net_plugin_receive_consumed(void *receive_comm, int n, void *request)
{
    (void)receive_comm, (void)n, (void)request;
    return NCCL_SUCCESS;
}

static bool is_done(const net_request *request)
{
    return request->kind == NET_REQUEST_SEND ? request->finished : request->incomplete == 0;
}

nccl_result net_plugin_test(void *tested, int *done, int *sizes)
{
    net_request *request = tested;
    net_comm *comm = request->comm;
    *done = 0;
    if (!is_done(request) && !net_send_waits(comm))
        net_comm_progress(comm);
    if (!is_done(request))
        return comm->failed ? net_comm_failure(comm) : NCCL_SUCCESS;
    if (sizes && request->kind == NET_REQUEST_SEND)
        sizes[0] = (int)request->bytes;
    for (int i = 0; sizes && request->kind == NET_REQUEST_RECEIVE && i < request->slots; i++)
        sizes[i] = (int)request->slot[i].got;
    net_request_free(request);
    *done = 1;
    return NCCL_SUCCESS;
}

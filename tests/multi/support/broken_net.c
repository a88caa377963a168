/* A network plugin of NCCL with one fault, around a good one (TEST_NET_GOOD, a path): so that weft-net-test is seen to find it.
 * TEST_NET_FAULT: data, size, guard, hang, block, leak, null (an operation is missing) or noinit. Speaks version 8 of the ABI. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/plugin/nccl_abi.h"

static const nccl_net_v8 *good;
extern nccl_net_v8 ncclNetPlugin_v8;

static bool fault_is(const char *name)
{
    const char *fault = getenv("TEST_NET_FAULT");
    return fault && strcmp(fault, name) == 0;
}

/* The last receive: where it lands and what room it has. */
static unsigned char *landing;
static size_t room;
static void *watched;

static nccl_result receive(void *comm, int n, void **data, int *bytes, int *tags, void **memory, void **request)
{
    nccl_result result = good->irecv(comm, n, data, bytes, tags, memory, request);
    if (*request) {
        landing = data[0];
        room = (size_t)bytes[0];
        watched = *request;
    }
    return result;
}

static nccl_result test(void *request, int *done, int *sizes)
{
    static int finished;
    if (fault_is("hang") && finished > 20) {
        *done = 0;
        return NCCL_SUCCESS;
    }
    nccl_result result = good->test(request, done, sizes);
    if (result != NCCL_SUCCESS || !*done)
        return result;
    finished++;
    if (request != watched)
        return result;
    if (fault_is("data") && finished > 10 && sizes && sizes[0] > 3)
        landing[sizes[0] / 2] ^= 1;
    if (fault_is("guard") && finished > 10)
        landing[room] = 0;
    if (fault_is("size") && finished > 10 && sizes)
        sizes[0]++;
    return result;
}

static nccl_result connect_late(int device, void *handle, void **comm, nccl_net_device_handle **offload)
{
    nccl_result result;
    do {
        result = good->connect(device, handle, comm, offload);
    } while (fault_is("block") && result == NCCL_SUCCESS && !*comm);
    return result;
}

static nccl_result close_receive(void *comm)
{
    if (fault_is("leak") && open("/dev/null", O_RDONLY) < 0)
        return NCCL_SYSTEM_ERROR;
    return good->closeRecv(comm);
}

static nccl_result init(nccl_log_function log)
{
    void *library = dlopen(getenv("TEST_NET_GOOD"), RTLD_NOW);
    good = library ? dlsym(library, "ncclNetPlugin_v8") : NULL;
    if (!good)
        return NCCL_SYSTEM_ERROR;
    ncclNetPlugin_v8 = *good;
    ncclNetPlugin_v8.irecv = receive;
    ncclNetPlugin_v8.test = test;
    ncclNetPlugin_v8.connect = connect_late;
    ncclNetPlugin_v8.closeRecv = close_receive;
    if (fault_is("null"))
        ncclNetPlugin_v8.closeListen = NULL;
    return good->init(log);
}

nccl_net_v8 ncclNetPlugin_v8 = {.name = "broken", .init = init};

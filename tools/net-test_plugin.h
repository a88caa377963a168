/* A network plugin of NCCL behind one face, whichever version of the ABI it speaks: what weft-net-test calls. */
#ifndef WEFT_NET_TEST_PLUGIN_H
#define WEFT_NET_TEST_PLUGIN_H

#include <stdbool.h>

#include "transport/plugin/nccl_abi.h"

typedef struct plugin {
    char label[64];            /* how it is called in what is printed */
    void *library;
    int version;               /* of the ABI */
    const void *table;
    void *context;
} plugin;

/* Finds it as NCCL does: `name` as a path, then libnccl-net-NAME.so; version 0: the newest that it has. False with the reason. */
bool plugin_load(plugin *p, const char *name, int version, char *reason, size_t bytes);
void plugin_unload(plugin *p);

nccl_result plugin_init(plugin *p, bool verbose);
nccl_result plugin_finalize(plugin *p);
nccl_result plugin_devices(plugin *p, int *count);
/* What older versions do not say is filled with what NCCL takes for it. */
nccl_result plugin_properties(plugin *p, int device, nccl_net_properties_v12 *properties);
bool plugin_can_fuse(const plugin *p);
nccl_result plugin_fuse(plugin *p, int *device, const int *parts, int count);
nccl_result plugin_listen(plugin *p, int device, void *handle, void **listen_comm);
nccl_result plugin_connect(plugin *p, int device, void *handle, void **comm);
nccl_result plugin_accept(plugin *p, void *listen_comm, void **comm);
nccl_result plugin_register(plugin *p, void *comm, void *data, size_t bytes, void **memory);
nccl_result plugin_deregister(plugin *p, void *comm, void *memory);
nccl_result plugin_send(plugin *p, void *comm, void *data, size_t bytes, int tag, void *memory, void **request);
nccl_result plugin_receive(plugin *p, void *comm, int n, void **data, size_t *bytes, int *tags, void **memory, void **request);
nccl_result plugin_test(plugin *p, void *request, int *done, int *sizes);
nccl_result plugin_close_send(plugin *p, void *comm);
nccl_result plugin_close_receive(plugin *p, void *comm);
nccl_result plugin_close_listen(plugin *p, void *comm);
const char *result_text(nccl_result result);

#endif

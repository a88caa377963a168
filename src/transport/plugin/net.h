/* A loaded NCCL network plugin: found as NCCL finds it, its newest table chosen, the differences between the versions evened
 * out. What is done with its connections is plugin.c's and channel.c's. */
#ifndef WEFT_PLUGIN_NET_H
#define WEFT_PLUGIN_NET_H

#include "base/base.h"
#include "transport/plugin/nccl_abi.h"

enum { WEFT_NET_NAME = 32, WEFT_NET_PATH = 256, WEFT_NET_RAILS_MAX = 4 };

typedef struct weft_net_device {
    int number;                /* the plugin's */
    int port, speed_Mbps;
    char name[WEFT_NET_NAME];
    char pci_path[WEFT_NET_PATH]; /* "": not known */
} weft_net_device;

/* One use of a plugin: from version 11 on it has a context of its own, before that all uses share the plugin's state. */
typedef struct weft_net {
    const struct weft_net_library *library;
    void *context;
    int version;
    char name[WEFT_NET_NAME];  /* the plugin's own */
    weft_net_device device[WEFT_NET_RAILS_MAX]; /* that are used; all take host memory */
    int devices;
    double latency_ns;         /* 0: not known */
    int requests;              /* that may be in flight per comm */
    size_t message_bytes;      /* longest message */
    bool unfinished;           /* a connection stays half made: see weft_net_close */
} weft_net;

/* setting: WEFT_NET_PLUGIN; NULL or "": libnccl-net.so. chosen: WEFT_NET_DEVICES. */
weft_status weft_net_open(const char *setting, const char *chosen, uint64_t job, weft_net *net);
/* Takes a zeroed one. Where a connection was left half made, the plugin may still be at it, and is not finalized: NCCL's
 * interface has no way to give one up, and plugins in use reach into what was closed meanwhile. */
void weft_net_close(weft_net *net);

/* As in the ABI; host memory only. `device` is a place among those that are used. None of them blocks. A failure is
 * WEFT_ERR_SYSTEM, or WEFT_ERR_PEER for what the plugin says is the remote side's; the detail has what the plugin last warned
 * of. */
weft_status weft_net_listen(const weft_net *net, int device, void *handle, void **listen_comm);
weft_status weft_net_connect(const weft_net *net, int device, void *handle, void **send_comm);
weft_status weft_net_accept(const weft_net *net, void *listen_comm, void **receive_comm);
weft_status weft_net_register(const weft_net *net, void *comm, void *data, size_t bytes, void **memory);
void weft_net_deregister(const weft_net *net, void *comm, void *memory);
weft_status weft_net_send(const weft_net *net, void *comm, const void *data, size_t bytes, void *memory, void **request);
weft_status weft_net_receive(const weft_net *net, void *comm, void *data, size_t bytes, void *memory, void **request);
/* *bytes: of a receive that is done, or WEFT_NET_UNKNOWN_BYTES: Google's fastsocket never says. */
#define WEFT_NET_UNKNOWN_BYTES SIZE_MAX
weft_status weft_net_test(const weft_net *net, void *request, bool *done, size_t *bytes);
void weft_net_close_send(const weft_net *net, void *comm);
void weft_net_close_receive(const weft_net *net, void *comm);
void weft_net_close_listen(const weft_net *net, void *comm);

#endif

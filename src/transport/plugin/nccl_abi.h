/* The ABI between NCCL and its network plugins, versions 6 to 12, as it lies in memory: what the loader of such plugins, our own
 * plugin and weft-net-test share. Facts of somebody else's interface in our words: nothing of weft, no code. A plugin exports
 * one table per version as an object named ncclNetPlugin_v<version>; a host takes the newest that both know.
 *
 * Threads: NCCL calls a comm object from one thread at a time, different ones from different threads, and init, devices,
 * getProperties and makeVDevice from any.
 */
#ifndef WEFT_NCCL_ABI_H
#define WEFT_NCCL_ABI_H

#include <stddef.h>
#include <stdint.h>

enum {
    NCCL_NET_OLDEST = 6,
    NCCL_NET_NEWEST = 12,
    NCCL_NET_HANDLE_BYTES = 128,   /* what listen() fills, sent to the other side by NCCL; connect() may keep state in its copy */
    NCCL_NET_REQUESTS = 32,        /* requests in flight per comm; a sender has this times maxRecvs */
    NCCL_NET_V6_REQUESTS = 8,      /* what v6 promised */
    NCCL_NET_RECVS_MAX = 8         /* most that plugins are known to give in maxRecvs */
};
#define NCCL_NET_P2P_BYTES_MAX ((size_t)1 << 40)  /* most that maxP2pBytes and maxCollBytes may be */
/* In *request on entry of irecv(), from v9: its completion may come late or early. */
#define NCCL_NET_OPTIONAL_REQUEST ((void *)1)

typedef enum nccl_result {
    NCCL_SUCCESS = 0,
    NCCL_UNHANDLED_CUDA_ERROR = 1,
    NCCL_SYSTEM_ERROR = 2,
    NCCL_INTERNAL_ERROR = 3,
    NCCL_INVALID_ARGUMENT = 4,
    NCCL_INVALID_USAGE = 5,
    NCCL_REMOTE_ERROR = 6
} nccl_result;

/* Bits of ptrSupport, and the type of memory given to regMr. */
enum { NCCL_PTR_HOST = 1, NCCL_PTR_CUDA = 2, NCCL_PTR_DMABUF = 4 };

typedef enum nccl_log_level {
    NCCL_LOG_NONE, NCCL_LOG_VERSION, NCCL_LOG_WARN, NCCL_LOG_INFO, NCCL_LOG_ABORT, NCCL_LOG_TRACE
} nccl_log_level;
enum { NCCL_LOG_INIT = 1, NCCL_LOG_NET = 16 }; /* of the bits that say which part speaks */

/* One call is one line; the format has no line end. */
typedef void (*nccl_log_function)(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
typedef nccl_result (*nccl_profiler_function)(void **event, int type, void *parent, int64_t plugin, void *data);

/* netDeviceType: who works through the requests. Only 0, the host's processor, concerns us. */
enum { NCCL_NET_DEVICE_HOST = 0, NCCL_NET_DEVICE_INVALID_VERSION = 0 };
typedef struct nccl_net_device_handle { /* same from v7 to v12 */
    int netDeviceType;
    int netDeviceVersion;
    void *handle;
    size_t size;
    int needsProxyProgress;
} nccl_net_device_handle;

/* Physical devices that one device consists of. */
typedef struct nccl_net_vdevice_v9 {
    int ndevs;
    int devs[4];
} nccl_net_vdevice_v9;
typedef struct nccl_net_vdevice_v12 {
    int ndevs;
    int devs[8];
} nccl_net_vdevice_v12;

enum { NCCL_NET_UNDEFINED = -1 };  /* trafficClass, attributes, railId and planeId that are not set */
typedef struct nccl_net_config {   /* v10 gives it to connect(), v11 and later to init() */
    int trafficClass;
} nccl_net_config;

/* ---- properties; strings belong to the plugin and stay until finalize() ---- */

typedef struct nccl_net_properties_v6 {
    char *name;
    char *pciPath;                 /* of the device in /sys, NULL: none */
    uint64_t guid;                 /* equal for ports of one adapter */
    int ptrSupport;
    int speed;                     /* Mbit/s */
    int port;
    float latency;                 /* us; 0: not known */
    int maxComms;
    int maxRecvs;                  /* most buffers of one irecv() */
} nccl_net_properties_v6;

typedef struct nccl_net_properties_v7 {
    char *name;
    char *pciPath;
    uint64_t guid;
    int ptrSupport;
    int speed;
    int port;
    float latency;
    int maxComms;
    int maxRecvs;
    int netDeviceType;
    int netDeviceVersion;
} nccl_net_properties_v7;

typedef struct nccl_net_properties_v8 {
    char *name;
    char *pciPath;
    uint64_t guid;
    int ptrSupport;
    int regIsGlobal;               /* a registration serves all comms of the device */
    int speed;
    int port;
    float latency;
    int maxComms;
    int maxRecvs;
    int netDeviceType;
    int netDeviceVersion;
} nccl_net_properties_v8;

typedef struct nccl_net_properties_v9 { /* v10 has the same */
    char *name;
    char *pciPath;
    uint64_t guid;
    int ptrSupport;
    int regIsGlobal;
    int forceFlush;                /* iflush() is needed whatever the GPU is */
    int speed;
    int port;
    float latency;
    int maxComms;
    int maxRecvs;
    int netDeviceType;
    int netDeviceVersion;
    nccl_net_vdevice_v9 vProps;
    size_t maxP2pBytes;
    size_t maxCollBytes;
} nccl_net_properties_v9;
typedef nccl_net_properties_v9 nccl_net_properties_v10;

typedef struct nccl_net_properties_v11 {
    char *name;
    char *pciPath;
    uint64_t guid;
    int ptrSupport;
    int regIsGlobal;
    int forceFlush;
    int speed;
    int port;
    float latency;
    int maxComms;
    int maxRecvs;
    int netDeviceType;
    int netDeviceVersion;
    nccl_net_vdevice_v9 vProps;
    size_t maxP2pBytes;
    size_t maxCollBytes;
    int maxMultiRequestSize;       /* requests that one call may post; 1: no such calls */
} nccl_net_properties_v11;

typedef struct nccl_net_properties_v12 {
    char *name;
    char *pciPath;
    uint64_t guid;
    int ptrSupport;
    int regIsGlobal;
    int forceFlush;
    int speed;
    int port;
    float latency;
    int maxComms;
    int maxRecvs;
    int netDeviceType;
    int netDeviceVersion;
    nccl_net_vdevice_v12 vProps;
    size_t maxP2pBytes;
    size_t maxCollBytes;
    int maxMultiRequestSize;
    int16_t railId;                /* devices of one number reach each other by few switches; NCCL_NET_UNDEFINED: not known */
    int16_t planeId;
} nccl_net_properties_v12;

/* What a communicator is going to do, told by setNetAttr(); hints. */
typedef struct nccl_net_comm_attribute {
    int32_t maxConcurrentPeers;
    int32_t minConcurrentPeers;
    int32_t maxFlowsPerPeer;
    int32_t minFlowsPerPeer;
} nccl_net_comm_attribute;
typedef struct nccl_net_attribute {
    nccl_net_comm_attribute sendCommAttr;
    nccl_net_comm_attribute recvCommAttr;
    uint32_t op;
    uint32_t algo;
    uint32_t proto;
} nccl_net_attribute;

/* ---- operations that changed between versions ---- */

typedef nccl_result nccl_init_v6(nccl_log_function log);
typedef nccl_result nccl_init_v10(nccl_log_function log, nccl_profiler_function profiler);
/* Once per communicator; the context goes to listen, connect, finalize and setNetAttr. */
typedef nccl_result nccl_init_v11(void **context, uint64_t communicator, nccl_net_config *config, nccl_log_function log,
                                  nccl_profiler_function profiler);

typedef nccl_result nccl_listen_v6(int device, void *handle, void **listen_comm);
typedef nccl_result nccl_listen_v11(void *context, int device, void *handle, void **listen_comm);

/* Neither connect nor accept blocks. Success with a NULL comm: to be called again with the same arguments. */
typedef nccl_result nccl_connect_v6(int device, void *handle, void **send_comm);
typedef nccl_result nccl_connect_v7(int device, void *handle, void **send_comm, nccl_net_device_handle **offload);
typedef nccl_result nccl_connect_v10(int device, nccl_net_config *config, void *handle, void **send_comm,
                                     nccl_net_device_handle **offload);
typedef nccl_result nccl_connect_v11(void *context, int device, void *handle, void **send_comm, nccl_net_device_handle **offload);
typedef nccl_result nccl_accept_v6(void *listen_comm, void **receive_comm);
typedef nccl_result nccl_accept_v7(void *listen_comm, void **receive_comm, nccl_net_device_handle **offload);

typedef nccl_result nccl_register_v6(void *comm, void *data, int bytes, int type, void **memory);
typedef nccl_result nccl_register_v8(void *comm, void *data, size_t bytes, int type, void **memory);

/* Success with *request NULL: not now, to be called again. */
typedef nccl_result nccl_send_v6(void *send_comm, void *data, int bytes, int tag, void *memory, void **request);
typedef nccl_result nccl_send_v9(void *send_comm, void *data, size_t bytes, int tag, void *memory, void **request);
typedef nccl_result nccl_send_v10(void *send_comm, void *data, size_t bytes, int tag, void *memory, void *profile,
                                  void **request);
typedef nccl_result nccl_receive_v6(void *receive_comm, int n, void **data, int *bytes, int *tags, void **memory, void **request);
typedef nccl_result nccl_receive_v9(void *receive_comm, int n, void **data, size_t *bytes, int *tags, void **memory,
                                    void **request);
typedef nccl_result nccl_receive_v10(void *receive_comm, int n, void **data, size_t *bytes, int *tags, void **memory,
                                     void **profiles, void **request);

/* Fuses the devices named into a new one whose number is put into *device. */
typedef nccl_result nccl_make_vdevice_v9(int *device, nccl_net_vdevice_v9 *properties);
typedef nccl_result nccl_make_vdevice_v12(int *device, nccl_net_vdevice_v12 *properties);

/* ---- operations that are the same in all versions that have them ---- */

typedef nccl_result nccl_devices(int *count);
typedef nccl_result nccl_register_dmabuf(void *comm, void *data, size_t bytes, int type, uint64_t offset, int fd, void **memory);
typedef nccl_result nccl_deregister(void *comm, void *memory);
/* For memory of GPUs: makes what was received visible to the GPU. */
typedef nccl_result nccl_flush(void *receive_comm, int n, void **data, int *bytes, void **memory, void **request);
/* `sizes`, which may be NULL, gets the bytes of a send, or of each of the n buffers of a receive. A request that
 * is done is the plugin's again. */
typedef nccl_result nccl_test(void *request, int *done, int *sizes);
typedef nccl_result nccl_close(void *comm);
typedef nccl_result nccl_get_device_memory(void *comm, void *memory, void **device_memory);
typedef nccl_result nccl_receive_consumed(void *receive_comm, int n, void *request);
typedef nccl_result nccl_finalize(void *context);
typedef nccl_result nccl_set_attribute(void *context, nccl_net_attribute *attribute);

/* ---- tables ---- */

typedef struct nccl_net_v6 {
    const char *name;
    nccl_init_v6 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v6 *properties);
    nccl_listen_v6 *listen;
    nccl_connect_v6 *connect;
    nccl_accept_v6 *accept;
    nccl_register_v6 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v6 *isend;
    nccl_receive_v6 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
} nccl_net_v6;

/* The first operation that a table lacks of those that host memory needs, NULL: none. All versions have them at the same
 * places. */
static inline const char *nccl_net_lacks(const void *table)
{
    const nccl_net_v6 *t = table;
    return !t->init ? "init" : !t->devices ? "devices" : !t->getProperties ? "getProperties" : !t->listen ? "listen"
           : !t->connect ? "connect" : !t->accept ? "accept" : !t->regMr ? "regMr" : !t->deregMr ? "deregMr"
           : !t->isend ? "isend" : !t->irecv ? "irecv" : !t->test ? "test" : !t->closeSend ? "closeSend"
           : !t->closeRecv ? "closeRecv" : !t->closeListen ? "closeListen" : NULL;
}

typedef struct nccl_net_v7 {
    const char *name;
    nccl_init_v6 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v7 *properties);
    nccl_listen_v6 *listen;
    nccl_connect_v7 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v6 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v6 *isend;
    nccl_receive_v6 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
} nccl_net_v7;

typedef struct nccl_net_v8 {
    const char *name;
    nccl_init_v6 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v8 *properties);
    nccl_listen_v6 *listen;
    nccl_connect_v7 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v8 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v6 *isend;
    nccl_receive_v6 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
} nccl_net_v8;

typedef struct nccl_net_v9 {
    const char *name;
    nccl_init_v6 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v9 *properties);
    nccl_listen_v6 *listen;
    nccl_connect_v7 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v8 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v9 *isend;
    nccl_receive_v9 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
    nccl_make_vdevice_v9 *makeVDevice;
} nccl_net_v9;

typedef struct nccl_net_v10 {
    const char *name;
    nccl_init_v10 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v10 *properties);
    nccl_listen_v6 *listen;
    nccl_connect_v10 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v8 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v10 *isend;
    nccl_receive_v10 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
    nccl_make_vdevice_v9 *makeVDevice;
} nccl_net_v10;

typedef struct nccl_net_v11 {
    const char *name;
    nccl_init_v11 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v11 *properties);
    nccl_listen_v11 *listen;
    nccl_connect_v11 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v8 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v10 *isend;
    nccl_receive_v10 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
    nccl_make_vdevice_v9 *makeVDevice;
    nccl_finalize *finalize;
    nccl_set_attribute *setNetAttr;
} nccl_net_v11;

typedef struct nccl_net_v12 {
    const char *name;
    nccl_init_v11 *init;
    nccl_devices *devices;
    nccl_result (*getProperties)(int device, nccl_net_properties_v12 *properties);
    nccl_listen_v11 *listen;
    nccl_connect_v11 *connect;
    nccl_accept_v7 *accept;
    nccl_register_v8 *regMr;
    nccl_register_dmabuf *regMrDmaBuf;
    nccl_deregister *deregMr;
    nccl_send_v10 *isend;
    nccl_receive_v10 *irecv;
    nccl_flush *iflush;
    nccl_test *test;
    nccl_close *closeSend;
    nccl_close *closeRecv;
    nccl_close *closeListen;
    nccl_get_device_memory *getDeviceMr;
    nccl_receive_consumed *irecvConsumed;
    nccl_make_vdevice_v12 *makeVDevice;
    nccl_finalize *finalize;
    nccl_set_attribute *setNetAttr;
} nccl_net_v12;

/* The layouts are NCCL's: they cannot change. */
_Static_assert(sizeof(nccl_net_properties_v6) == 48 && sizeof(nccl_net_v6) == 17 * sizeof(void *), "v6");
_Static_assert(sizeof(nccl_net_properties_v7) == 56 && sizeof(nccl_net_v7) == 19 * sizeof(void *), "v7");
_Static_assert(sizeof(nccl_net_properties_v8) == 64 && sizeof(nccl_net_v8) == 19 * sizeof(void *), "v8");
_Static_assert(sizeof(nccl_net_properties_v9) == 104 && sizeof(nccl_net_v9) == 20 * sizeof(void *), "v9");
_Static_assert(sizeof(nccl_net_v10) == 20 * sizeof(void *), "v10");
_Static_assert(sizeof(nccl_net_properties_v11) == 112 && sizeof(nccl_net_v11) == 22 * sizeof(void *), "v11");
_Static_assert(sizeof(nccl_net_properties_v12) == 128 && sizeof(nccl_net_v12) == 22 * sizeof(void *), "v12");

#endif

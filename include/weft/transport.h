/* weft/transport.h - the contract between weft and what moves bytes between two ranks.
 *
 * The built-in transports (shm, tcp, verbs) and plugins implement the same table. A transport moves slices:
 * a fixed-size header that it never interprets, and a payload. Slices from one rank to another arrive
 * whole and their headers are delivered in the order in which they were sent. What slices mean, flow
 * control and matching are the caller's.
 *
 * Threads: the caller serialises all calls on one transport instance; a transport starts no threads and
 * calls the sink only from inside progress(). Different instances share nothing.
 *
 * A plugin is a shared library libweft-transport-NAME.so, in a folder of WEFT_PLUGIN_PATH or in the folder weft
 * beside libweft.so, that exports one symbol, its table: weft_transport_plugin. It does nothing when it is loaded (no
 * constructors), needs no function of libweft, and is never unloaded.
 */
#ifndef WEFT_TRANSPORT_H
#define WEFT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weft/weft.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WEFT_TRANSPORT_ABI = 1,         /* raised when a struct below changes other than at its end */
    WEFT_HEADER_BYTES = 48,         /* header of every slice */
    WEFT_TRANSPORT_ADDRESS_MAX = 4096, /* longest address blob; what is exchanged is as long as it is */
    WEFT_SLICE_MAX_BYTES = 1 << 20  /* longest payload of one slice */
};

typedef struct weft_transport weft_transport; /* an open instance: one per process group member */
typedef struct weft_endpoint weft_endpoint;   /* the way to one peer */

/* One slice on its way out. The caller fills header, payload, bytes, done and context and owns the
 * struct; from a successful send() until `done` is called, the struct and the payload belong to the
 * transport and must not be changed. `done` may be called inside send() itself. */
typedef struct weft_slice weft_slice;
struct weft_slice {
    const void *payload;            /* may be NULL when bytes is 0 */
    size_t bytes;                   /* 0 .. WEFT_SLICE_MAX_BYTES */
    void (*done)(weft_slice *slice, weft_status status); /* payload may be reused; WEFT_OK or why not */
    void *context;                  /* the caller's */
    weft_slice *next;               /* the transport's while it owns the slice */
    uint64_t transport_state[2];    /* the transport's while it owns the slice */
    unsigned char header[WEFT_HEADER_BYTES] __attribute__((aligned(16)));
};

/* What a transport tells its caller, from inside progress() (and done() also from send()).
 * Sink calls may call send() but not progress(), close() or destroy(). */
typedef struct weft_sink {
    void *context;
    /* Optional step for transports that can choose where a payload lands: returns memory of at least
     * `bytes` that stays valid until `arrived` for the same slice, or NULL: the transport then uses its
     * own memory. A transport whose payload already lies in memory (shm) need not call it. */
    void *(*place)(void *context, int peer, const unsigned char *header, size_t bytes);
    /* The payload is complete. `payload` is what `place` returned, or the transport's own memory, which
     * is valid only during this call. Called once per slice. Headers are announced (by `place`, or by
     * `arrived` where place is not called) in order of sending; payloads of announced slices may
     * complete in another order. */
    void (*arrived)(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes);
    /* The way to `peer` is broken and nothing more will arrive; called at most once per peer. */
    void (*failed)(void *context, int peer, weft_status status, const char *reason);
} weft_sink;

typedef struct weft_transport_config {
    size_t size;                    /* sizeof(weft_transport_config) */
    int rank, ranks;                /* this process in its group: peers are named by rank, 0..ranks-1 */
    uint64_t job;                   /* random number of the group; a connection of another job is refused */
    weft_sink sink;
    const char *interfaces;         /* tcp: WEFT_INTERFACES syntax, NULL: every usable one */
    const char *port_range;         /* tcp: "low-high", NULL: any */
    int sockets;                    /* tcp: sockets per peer, 0: the transport's choice */
    int64_t dead_peer_ms;           /* a silent, unreachable peer is reported after about this long */
    void *host;                     /* shm: the struct weft_host of this process, see src/transport/host.h */
    const char *net_plugin;         /* plugin: WEFT_NET_PLUGIN syntax, NULL or "": as NCCL does */
    /* For transports in libraries, which cannot reach the thread's error detail and the log themselves. `fail` keeps a copy
     * of the detail for weft_last_error() and returns `status`; any operation that returns an error calls it first. `level`
     * is 0 error, 1 warning, 2 information, 3 debugging. Never NULL; callable at any time from any thread. */
    weft_status (*fail)(weft_status status, const char *detail);
    void (*log)(int level, const char *text);
    bool listen_briefly;            /* tcp: listen only until every peer is connected, as many instances of two ranks want */
    bool gather;                    /* tcp: send() only queues, progress() writes all that is queued with few system calls */
    const char *rdma_ports;         /* verbs: only these of what WEFT_IB_HCA allows, in its syntax; NULL: all. Valid while open */
    /* Where network devices are, for transports that have several: fills distance[host_ranks] with how far the device of that
     * name ("eth0", "mlx5_0", or a PCI device's folder in sysfs) is from each rank of this host, this rank first; a larger number
     * is farther, -1 is not known. NULL: nothing is known. To be called inside open() only. */
    int host_ranks;
    void (*distances)(void *context, const char *device, int *distance);
    void *distances_context;
} weft_transport_config;

/* How a path compares; for selection and for the cost model. Figures are nominal until measured. */
typedef struct weft_path_info {
    double latency_ns;              /* one small slice, one way */
    double bandwidth_Bps;           /* large slices, one direction */
    char name[64];                  /* what a person reads: "tcp eth0->10.0.0.2 x4" */
} weft_path_info;

typedef struct weft_transport_ops {
    uint32_t abi;                   /* WEFT_TRANSPORT_ABI */
    uint32_t size;                  /* sizeof(weft_transport_ops) as the transport was compiled */
    const char *name;               /* "tcp" */

    /* Opens an instance. May do local system calls (listen, mmap); waits for no peer.
     * On failure nothing is left and *out is untouched. */
    weft_status (*open)(const weft_transport_config *config, weft_transport **out);

    /* Fills `address` with what peers need to connect; *bytes: capacity in, length out. Never blocks. */
    weft_status (*address)(weft_transport *t, void *address, size_t *bytes);

    /* Can this instance reach a peer with that address? WEFT_OK and *info (may be NULL), or
     * WEFT_ERR_UNSUPPORTED with the reason as detail. Never blocks, sends nothing.
     * Answers are symmetric: if a reaches b, b reaches a. */
    weft_status (*reachable)(weft_transport *t, int peer, const void *address, size_t bytes,
                             weft_path_info *info);

    /* Creates the endpoint to `peer` (once per peer). Returns at once: a connection is made when the
     * first slice is sent, by progress(). Slices from a peer arrive with or without an endpoint. */
    weft_status (*connect)(weft_transport *t, int peer, const void *address, size_t bytes,
                           weft_endpoint **out);

    /* Queues one slice. Never blocks, never fails for lack of room (it queues).
     * An error means the slice was not taken: `done` will not be called. */
    weft_status (*send)(weft_endpoint *e, weft_slice *slice);

    /* Moves what can be moved without blocking and calls the sink and done(). Returns the number of
     * slices that moved (0: nothing to do). Reports errors only through the sink. */
    int (*progress)(weft_transport *t);

    /* A descriptor that poll() reports readable when progress() has work, or -1: this transport wakes
     * its peers through the host's doorbell. Valid until destroy. */
    int (*wait_fd)(weft_transport *t);

    /* Call before sleeping on wait_fd: WEFT_OK: sleep; WEFT_IN_PROGRESS: work came in, call progress(). */
    weft_status (*arm)(weft_transport *t);

    /* The caller knows from elsewhere that the peer is dead: what is queued is done with WEFT_ERR_PEER before it
     * returns, later sends fail, the sink hears no more of that peer. Never blocks. Optional. */
    void (*abandon)(weft_endpoint *e);

    /* Makes memory known to the transport; optional (default WEFT_ERR_UNSUPPORTED). The caller
     * deregisters before it frees. */
    weft_status (*mem_register)(weft_transport *t, void *base, size_t bytes, void **handle);
    void (*mem_deregister)(weft_transport *t, void *handle);

    /* Stops: no sink call after it returns; queued slices are done with WEFT_ERR_ABORTED. Never blocks. */
    void (*close)(weft_transport *t);

    /* Sends what is still queued, waits at most timeout_ms for it. Optional. Before close. */
    weft_status (*flush)(weft_transport *t, int64_t timeout_ms);

    /* Frees the instance and its endpoints, closes first if need be. Takes NULL and half-built. */
    void (*destroy)(weft_transport *t);

    /* Like mem_register, of memory that the dma-buf `fd` stands for from `offset` on (of a GPU, say) and that lies at `base`
     * here, where the processor can read it: small slices are copied from there. Optional (default WEFT_ERR_UNSUPPORTED);
     * the descriptor may be closed afterwards. mem_deregister takes it back. */
    weft_status (*mem_register_dmabuf)(weft_transport *t, int fd, uint64_t offset, void *base, size_t bytes, void **handle);
} weft_transport_ops;

/* Defined by a plugin, not by libweft: the one symbol it exports. Checked when it is loaded: abi, size, name, and that no
 * operation is missing but those that are optional (wait_fd, arm, abandon, mem_register, mem_deregister, flush,
 * mem_register_dmabuf). */
#define WEFT_TRANSPORT_PLUGIN_SYMBOL "weft_transport_plugin"
extern const weft_transport_ops weft_transport_plugin __attribute__((visibility("default")));

/* The table of a transport, built in ("shm", "tcp", ...) or in a library of that name, which is loaded now; NULL if there is
 * none, and weft_last_error() says why. Works without a communicator. Missing optional operations are filled with defaults.
 * Any thread. */
WEFT_API const weft_transport_ops *weft_transport_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif

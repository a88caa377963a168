/* The inside of libnccl-net-weft.so, Weft under NCCL as a network plugin.
 *
 * versions.c: the tables that NCCL finds, v8 to v12; plugin.c: their operations; device.c: network interfaces as NCCL's devices;
 * rdma.c: ports of RDMA adapters; hello.c: what two sides tell each other first; meet.c: listening and dialling; comm.c: one
 * connection, a pair of instances of a weft transport; send.c and receive.c: messages over it.
 */
#ifndef WEFT_NCCL_NET_H
#define WEFT_NCCL_NET_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <weft/transport.h>

#include "transport/plugin/nccl_abi.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

enum {
    NET_DEVICES_MAX = 64,              /* physical and fused ones */
    NET_FUSED_MAX = 8,                 /* interfaces of one device; v9 to v11 can say 4 */
    NET_SENDS_MAX = NCCL_NET_REQUESTS * NCCL_NET_RECVS_MAX,
    NET_SEND_RANK = 1, NET_RECEIVE_RANK = 0, /* a connection is a group of two */
    NET_REASON_BYTES = 512
};

/* ---- saying what happens ---- */

/* Through NCCL's log, with "NET/Weft: " before it. */
void net_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void net_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void net_set_log(nccl_log_function log);
nccl_result net_result(weft_status status);
/* Monotonic clock. */
int64_t net_now_ms(void);
int64_t net_now_ns(void);

/* ---- devices ---- */

typedef union net_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} net_address;
enum { NET_ADDRESS_TEXT = 80 };
const char *net_address_text(const net_address *address, char text[NET_ADDRESS_TEXT]);
socklen_t net_address_bytes(const net_address *address);

typedef struct net_device {
    char name[IF_NAMESIZE * NET_FUSED_MAX];  /* "eth0", "eth0+eth1", "mlx5_0" */
    char folder[96];                         /* in sysfs, of the (first) interface or adapter */
    bool bare;                               /* a port of InfiniBand without an interface: `interfaces` is where sides meet */
    char interfaces[(IF_NAMESIZE + 1) * NET_FUSED_MAX + 2]; /* for weft_transport_config: "=eth0,eth1" */
    char rdma_ports[80 * NET_FUSED_MAX];     /* likewise: "=mlx5_0:1"; "": it has none */
    char *pci_path;                          /* NULL: not on PCI */
    uint64_t guid;
    int speed_Mbps, port, rail;              /* rail NCCL_NET_UNDEFINED: not known */
    net_address address;                     /* port 0 */
    unsigned scope;                          /* the kernel's number of the (first) interface */
    int count, part[NET_FUSED_MAX];          /* numbers of the physical devices; its own if it is one */
} net_device;

/* Finds the devices on the first call; later ones return what the first did. */
nccl_result net_devices_find(void);
int net_devices_count(void);
/* NULL and a warning if there is none of that number. Valid for ever: devices are only added. */
const net_device *net_device_get(int number);
nccl_result net_device_fuse(const int *parts, int count, int *number);
/* The first line of a file. */
bool net_sysfs_text(char *text, size_t bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Fills in the RDMA ports of an interface. */
void net_rdma_find(net_device *interface);
/* Ports of InfiniBand that none of these interfaces has: name, folder, port, speed and RDMA port of each. Returns how many. */
int net_rdma_list(const net_device *interfaces, int count, net_device *found, int most);
/* The text of a setting, NULL: not set or empty. */
const char *net_setting(const char *name);

/* ---- meeting ---- */

/* What a listener gives NCCL to carry to the other side; `attempt` is the dialling side's. */
typedef struct net_handle {
    uint64_t magic;
    uint64_t job;                      /* random: who knows it may connect */
    uint32_t version;
    uint16_t family, port;             /* port in network order */
    unsigned char address[16];
    struct net_attempt *attempt;
} net_handle;
_Static_assert(sizeof(net_handle) <= NCCL_NET_HANDLE_BYTES, "the handle fits");

typedef struct net_listener net_listener;
typedef struct net_comm net_comm;

nccl_result net_listen(int device, net_handle *handle, net_listener **out);
/* Both never block: *out NULL after success means that it has to be called again. */
nccl_result net_connect(int device, net_handle *handle, net_comm **out);
/* Frees what connect() has begun and nobody has asked for again. No thread may be connecting. */
void net_dialling_end(void);
nccl_result net_accept(net_listener *listener, net_comm **out);
void net_listener_close(net_listener *listener);

/* ---- the first words of both sides, over the connection to the listener ---- */

enum { NET_VERSION = 1, NET_TRANSPORTS_MAX = 4, NET_NAME_BYTES = 96 };

/* A transport that the dialler could use, with the address of its instance. */
typedef struct net_offer {
    char transport[16];
    uint16_t bytes;
    unsigned char address[WEFT_TRANSPORT_ADDRESS_MAX];
} net_offer;

/* All numbers little endian; equal on both ways. The dialler offers all it has, the listener answers with the one it chose, or
 * with a reason. */
typedef struct net_hello {
    char magic[8];
    uint32_t version;
    uint32_t refused;                  /* the listener's: `reason` says why */
    uint64_t job;
    uint32_t protection;               /* 0: none. The place for encryption: nothing else is spoken so far */
    uint32_t offers;
    char name[NET_NAME_BYTES];         /* who speaks: "host pid 123" */
    char reason[160];
    net_offer offer[NET_TRANSPORTS_MAX];
} net_hello;

void net_hello_begin(net_hello *hello, uint64_t job);
/* False with a reason if these are not the words of this version for this job. */
bool net_hello_check(net_hello *hello, uint64_t job, const char **why);

/* ---- a connection ---- */

/* What precedes each payload, in weft_slice.header. Little endian. */
typedef enum net_kind {
    NET_START = 1,                     /* sender: the connection works */
    NET_FIRST,                         /* sender: a message begins, its first bytes follow */
    NET_ANNOUNCE,                      /* sender: a message that waits for NET_GRANT */
    NET_DATA,                          /* sender: more of a message */
    NET_GRANT,                         /* receiver: an announced message has a place */
    NET_CREDIT                         /* receiver: `total` more bytes may come unasked than at the start */
} net_kind;
typedef struct net_frame {
    uint32_t kind;
    int32_t tag;
    uint64_t message;                  /* number among the messages of this connection, from 0 */
    uint64_t total;                    /* bytes of the message */
    uint64_t offset;                   /* of the payload in it */
    uint64_t unused[2];
} net_frame;
_Static_assert(sizeof(net_frame) == WEFT_HEADER_BYTES, "the frame is the header of a slice");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames and hellos are sent as they lie in memory");

/* A message may come unasked while what came so and was not yet claimed by a receive is below a window. The window starts small
 * and grows while receives are posted before their messages come, so that a receiver that is late holds little. */
enum {
    NET_WINDOW_FIRST_BYTES = 256 * 1024,
    NET_WINDOW_MAX_BYTES = 8 * 1024 * 1024,
    NET_MESSAGE_CHARGE_BYTES = 128     /* what a message takes besides its bytes */
};
static inline uint64_t net_charge(uint64_t bytes)
{
    return bytes + NET_MESSAGE_CHARGE_BYTES;
}

typedef enum net_request_kind { NET_REQUEST_SEND = 1, NET_REQUEST_RECEIVE } net_request_kind;

typedef struct net_slice net_slice;

typedef struct net_slot {              /* one buffer of a receive */
    unsigned char *data;
    size_t bytes;                      /* room */
    int32_t tag;
    bool matched, complete;
    size_t got;
} net_slot;

typedef struct net_request net_request;
struct net_request {
    net_comm *comm;
    net_request *next;                 /* in the list that it is in */
    net_request *next_made;            /* all that the connection has */
    net_request_kind kind;
    /* A send. */
    const unsigned char *data;
    size_t bytes, cut;                 /* cut: handed to the transport */
    int pending;                       /* slices that the transport has not written yet */
    uint64_t message;
    int32_t tag;
    bool asked;                        /* is announced or about to be; else it goes unasked */
    bool begun, finished;
    /* A receive. */
    int slots, incomplete, unmatched;
    net_slot slot[NCCL_NET_RECVS_MAX];
};

/* A message that has begun to come in and is not wholly in its buffer. */
typedef struct net_message net_message;
struct net_message {
    uint64_t number, total, got;
    int32_t tag;
    bool asked;                        /* it was announced, and waits until it is granted */
    bool whole;                        /* all bytes are here */
    net_request *request;              /* NULL: no receive for it yet */
    int slot;
    unsigned char *own;                /* where it lands when it came before its receive */
    net_message *next;                 /* unclaimed, or free */
};

struct net_comm {
    const weft_transport_ops *ops;
    weft_transport *transport;
    weft_endpoint *endpoint;
    bool sends;                        /* else it receives */
    bool started;                      /* sender: NET_START is on its way; receiver: it came */
    int control;                       /* descriptor of the first words' connection, kept where the transport itself cannot
                                          notice a dead peer; -1: none */
    int64_t control_ms;                /* when to look at it next */
    char peer[NET_NAME_BYTES + NET_ADDRESS_TEXT];
    nccl_result failed;
    char reason[NET_REASON_BYTES];
    bool failure_logged;

    net_slice *free_slices;
    int slices_out;
    size_t slice_bytes, bytes_out;

    net_request *free_requests, *made;
    int requests;                      /* in use */
    net_request *queue, *queue_last;   /* sender: with something to hand over; receiver: with unmatched slots */
    net_request *waiting;              /* sender: announced and not granted */
    uint64_t next_message;
    uint64_t used_bytes, window_bytes; /* sender: charged so far, and the most that may be */
    int batch;                         /* sender: small messages that wait for company */
    bool posted;                       /* ... of which one came since test() was last called */
    int64_t written_ns;                /* when the last ones went */

    net_message **messages;            /* receiver: [message number & (capacity - 1)], NULL: not begun or done */
    uint64_t capacity, oldest;         /* messages from `oldest` to next_message have their places there */
    net_message *unclaimed, **unclaimed_end; /* in order of sending */
    net_message *free_messages;
    uint64_t granted_bytes;            /* the window as it has grown, */
    uint64_t returned_bytes;           /* ... what the sender may use again or anew, all in all, */
    uint64_t told_bytes;               /* ... and how much of that it knows */
};

/* Opens an instance of the transport for a side of a connection. */
nccl_result net_comm_create(const weft_transport_ops *ops, const net_device *device, uint64_t job, bool sends, net_comm **out);
void net_comm_destroy(net_comm *comm);
/* Moves what can be moved. */
void net_comm_progress(net_comm *comm);
/* The connection is of no more use; the first reason counts. */
void net_comm_fail(net_comm *comm, nccl_result result, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What to return from a call on a failed connection; says it once. */
nccl_result net_comm_failure(net_comm *comm);
/* Hands one slice to the transport. `request` is told when it is written, NULL: nobody. False: the connection has failed. */
bool net_comm_put(net_comm *comm, const net_frame *frame, const void *payload, size_t bytes, net_request *request);
net_request *net_request_take(net_comm *comm); /* NULL: no memory */
void net_request_free(net_request *request);

nccl_result net_send_post(net_comm *comm, const void *data, size_t bytes, int32_t tag, net_request **out);
/* Hands over what the window and the transport's queue have room for; true if that is anything. */
bool net_send_pump(net_comm *comm);
/* A send is tested. Whether it may wait for another one: nothing is done for it then. */
bool net_send_waits(net_comm *comm);
void net_send_control(net_comm *comm, const net_frame *frame);

nccl_result net_receive_post(net_comm *comm, int count, void **data, const size_t *bytes, const int *tags, net_request **out);
/* Where the payload goes, NULL: the connection has failed. */
unsigned char *net_receive_place(net_comm *comm, const net_frame *frame, size_t bytes);
void net_receive_arrived(net_comm *comm, const net_frame *frame, const void *payload, size_t bytes);
void net_receive_drop(net_comm *comm);

#endif

/* The parts of the transport "ucx": slices as UCP active messages.
 *
 * It is a library of its own, libweft-transport-ucx.so, loaded when its name is asked for: libweft needs libc only, and a process
 * that does not use UCX does not get its threads, signal handlers and memory hooks. So nothing here reaches libweft but through
 * the configuration; what it takes of src/base is linked into it.
 */
#ifndef WEFT_UCX_H
#define WEFT_UCX_H

#include <ucp/api/ucp.h>
#include <weft/transport.h>

#include "base/base.h"

enum { UCX_AM_SLICE = 1, UCX_AM_LEAVE, UCX_AM_HELLO, UCX_AM_SMALL, UCX_AM_PIECE };

/* In front of every active message: its header, or where it is not large (UCX_AM_SMALL, UCX_AM_PIECE) the beginning of its data:
 * UCX sends at once only what is either, and puts headers behind the data, where reading one costs 0.15 us more over shared
 * memory. UCX keeps no order between messages of different protocols: number does.
 * Of a slice's header only those words are sent that are others than in the slice before: most are not, and each cache line that
 * a receiver has to fetch costs it 0.1 us: what goes with a payload of 8 bytes and two such words fits in one. */
typedef struct ucx_header {
    uint32_t job;               /* both halves of it */
    uint32_t origin;            /* the rank that it is from; from bit UCX_RANK_BITS on: which words follow */
    uint32_t number;
    uint32_t words[WEFT_HEADER_BYTES / sizeof(uint32_t)];
} ucx_header;

enum {
    UCX_HEADER_BYTES = offsetof(ucx_header, words),
    UCX_HEADER_WORDS = WEFT_HEADER_BYTES / sizeof(uint32_t),
    UCX_RANK_BITS = 20
};

/* A slice's header, whole. */
typedef struct ucx_slice_header {
    _Alignas(16) uint32_t words[UCX_HEADER_WORDS];
} ucx_slice_header;

/* Payloads up to the first are copied behind their header, up to the second they are the second part of one piece: what UCX
 * sends by copying into one of its own buffers (8 KiB over shared memory, headers of its own in it). Those behind a header of the
 * third come to lie at the beginning of a cache line there, behind UCX's 8 bytes: of 4 KiB that saves 0.08 us of 0.70, and a
 * quarter of the time where many are under way. */
enum { UCX_SMALL_BYTES = 448, UCX_PIECE_BYTES = 8000, UCX_PIECE_HEADER_BYTES = 56 };

/* Of rendezvous with one peer that are landing at a time. */
enum { UCX_LANDING_BYTES = 2 << 20 };

/* A slice that UCX has, with the header that must stay until it is sent. */
typedef struct ucx_send {
    ucx_header header;
    unsigned char room[UCX_SMALL_BYTES]; /* a small payload is right behind the header, wherever that ends */
    ucp_dt_iov_t parts[2];      /* the header and a payload that is not copied */
    struct ucx_send *next, **link; /* among those of its endpoint; next alone: in the free list */
    weft_endpoint *endpoint;
    weft_slice *slice;          /* NULL: nobody waits for it any more */
} ucx_send;

typedef enum ucx_kind { UCX_COPIED, UCX_DESCRIPTOR, UCX_RENDEZVOUS } ucx_kind;

/* A slice that came in and was not given to the sink yet. */
typedef struct ucx_arrival {
    struct ucx_arrival *next;
    weft_endpoint *endpoint;
    ucx_kind kind;
    ucx_header header;
    ucx_slice_header slice;     /* once it had its turn */
    void *data;                 /* UCX's, or a copy */
    void *memory;               /* where a rendezvous lands */
    bool own;
    size_t bytes;
    ucs_status_t status;        /* of a rendezvous: UCS_INPROGRESS, then how it ended */
} ucx_arrival;

struct weft_endpoint {
    weft_transport *transport;
    int rank;
    ucp_ep_h ep;                /* NULL: nothing was sent yet */
    bool forceable;             /* made so that it reports errors, and can be closed with slices under way */
    bool up;                    /* something was sent, so that it is made */
    void *address;
    ucx_send *sends;
    uint32_t sent, expected;    /* numbers of slices */
    ucx_slice_header out, in;   /* of the last ones */
    ucx_arrival *early;         /* ahead of their turn, by number */
    ucx_arrival *waiting, **waiting_end; /* announced, in that order, but not begun */
    ucx_arrival *landing, **landing_end; /* begun, in that order */
    size_t landing_bytes;
    bool failed, told;
    bool left;                  /* the peer closed; left_count slices are all it sent */
    uint32_t left_count;
    ucs_status_t broken;        /* what UCX reported */
    int64_t left_ns, broken_ns; /* failed when what the peer sent before is read, or after a while */
    char reason[200];
};

typedef struct ucx_region {
    struct ucx_region *next;
    char *base;
    size_t bytes;
    ucp_mem_h memory;
} ucx_region;

struct weft_transport {
    weft_transport_config config;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_address_t *address;
    size_t address_bytes;
    weft_endpoint *peers;       /* by rank */
    ucx_send *free_sends;
    ucx_region *regions;
    int fd;
    int moved;                  /* in this round */
    int pending;                /* requests that UCX has */
    int kept;                   /* arrivals of all peers */
    bool muted;                 /* UCX is driven, but not by progress(): the sink must not be called */
    bool closed;
    bool troubled;              /* some endpoint is broken or left */
    bool stuck;                 /* some endpoint is not made yet, or something is landing: UCX would abort the process */
};

weft_status weft_ucx_fail(const weft_transport *t, weft_status status, const char *format, ...) WEFT_PRINTF(3, 4);
/* The text of UCX with it. */
weft_status weft_ucx_fail_ucs(const weft_transport *t, ucs_status_t status, const char *what);
/* Something does not work any more: progress() fails the endpoint. */
void weft_ucx_broke(weft_endpoint *e, ucs_status_t status);

/* What is in front of a payload that goes as one piece with its header. */
static inline size_t weft_ucx_piece_header(size_t bytes)
{
    return bytes > UCX_PIECE_HEADER_BYTES ? bytes : UCX_PIECE_HEADER_BYTES;
}

static inline uint32_t weft_ucx_job(const weft_transport *t)
{
    return (uint32_t)t->config.job ^ (uint32_t)(t->config.job >> 32);
}

/* ---- send.c ---- */
weft_status weft_ucx_send(weft_endpoint *e, weft_slice *slice);
/* Says that this rank closes. */
void weft_ucx_leave(weft_endpoint *e);
/* Ends the connection by force: UCX touches no payload afterwards; slices are done with status. */
void weft_ucx_disconnect(weft_endpoint *e, weft_status status);
weft_status weft_ucx_register(weft_transport *t, void *base, size_t bytes, void **handle);
void weft_ucx_deregister(weft_transport *t, void *handle);

/* ---- receive.c ---- */
weft_status weft_ucx_listen(weft_transport *t);
/* Gives the sink what has its turn. */
void weft_ucx_deliver(weft_endpoint *e);
/* Is there something for the sink? */
bool weft_ucx_has_arrivals(const weft_endpoint *e);
void weft_ucx_drop_arrivals(weft_endpoint *e);

#endif

/* The inside of the verbs transport. An instance opens ports of RDMA devices; a link is the way to one peer, over one queue pair
 * per rail. Links are made, and peers watched, by way of a tcp instance inside (the control channel), which carries no slices.
 *
 * Small slices are sent as one frame into the peer's shared receive queue. A large one is offered by a frame; the receiver
 * answers with a place, the sender writes there by RDMA, a span per rail, each with an immediate that tells the receiver.
 * Payloads go straight from and to memory that is registered, else through a stage.
 *
 * Each port has one shared receive queue. Its buffers are promised, so that a frame always finds one: two to each linked peer
 * (one frame, one word about credit), and the rest lent to who sends, kept for answers to own offers, and for immediates of
 * writes that were asked for.
 *
 * verbs.c: instance, progress. device.c: ports, receive queues. stage.c: memory. link.c: queue pairs, control channel.
 * send.c: frames, offers, writes. receive.c: what comes in, credit. ports.c, library.c: see there.
 */
#ifndef WEFT_VERBS_H
#define WEFT_VERBS_H

#include "base/settings.h"
#include "transport/near.h"
#include "transport/verbs/library.h"
#include "transport/verbs/ports.h"

enum {
    VERBS_BUFFER_BYTES = 4096,     /* of a frame */
    VERBS_BLOCK_BUFFERS = 64,      /* receive buffers are registered so many at a time */
    VERBS_LEND = 256,              /* most buffers of a port's receive queue: lent to peers that send ... */
    VERBS_ANSWERS = 64,            /* ... for answers to offers ... */
    VERBS_WRITES = 64,             /* ... for immediates of writes ... */
    VERBS_PER_PEER = 2,            /* ... for each linked peer ... */
    VERBS_SLACK = 16,              /* ... and for those that are read and not posted again yet, which is done in idle moments */
    VERBS_FIRST = 8,               /* there are at first: for answers and for writes; with the lent ones, a block in all */
    VERBS_WINDOW_FIRST = 32,       /* what a peer that begins to send is lent, and at most */
    VERBS_WINDOW_MAX = 128,
    VERBS_QUEUE = 64,              /* work requests of a queue pair */
    VERBS_SIGNAL_EVERY = 16,       /* inline frames report their completion so often */
    VERBS_SIGNALED_MAX = 512,      /* reports under way, of a port */
    VERBS_SEND_BUFFERS = 64,       /* of a port, for frames that are not inline */
    VERBS_INLINE = 192,            /* asked for: frame, header and 112 bytes of payload */
    VERBS_MOVING_MAX = 256,        /* large slices under way, each direction */
    VERBS_STAGE_BYTES = 4 << 20,   /* each direction; registered when it is first needed */
    VERBS_STAGE_PAGE = 16 << 10,
    VERBS_STAGE_PAGES = VERBS_STAGE_BYTES / VERBS_STAGE_PAGE,
    VERBS_REASON_BYTES = 256,
    VERBS_RETRIES = 6              /* 7 is "for ever" with rdma_rxe */
};

typedef struct verbs_transport verbs_transport;
typedef struct verbs_link verbs_link;

/* ---- frames: what goes through queue pairs; between little endian hosts ---- */

typedef enum verbs_kind {
    VERBS_DATA = 1,                /* + header + payload */
    VERBS_OFFER,                   /* + header + spans: a large slice */
    VERBS_ANSWER,                  /* + place: where it shall be written */
    VERBS_CREDIT                   /* only brings credit */
} verbs_kind;

typedef struct verbs_frame {
    uint8_t kind;
    uint8_t epoch;                 /* credit was given back so often: `granted` of another epoch is void */
    uint8_t seen;                  /* credit frames that the sender of this has received, modulo 256 */
    uint8_t unused;
    uint32_t from;                 /* rank */
    uint32_t granted;              /* data and offers that the receiver of this may have sent in all */
    uint32_t waiting;              /* slices queued behind this one */
    uint32_t bytes;                /* of the slice */
    uint32_t id;                   /* offer, answer: the offerer's number of the slice */
    uint32_t more[2];
} verbs_frame;

typedef struct verbs_place {
    uint64_t address;
    uint32_t number;               /* comes back as immediate */
    uint32_t unused;
    uint32_t keys[WEFT_VERBS_RAILS_MAX];
} verbs_place;

enum { VERBS_EAGER_BYTES = VERBS_BUFFER_BYTES - sizeof(verbs_frame) - WEFT_HEADER_BYTES };

/* ---- memory ---- */

/* Memory that devices know, with its keys of each port. */
typedef struct verbs_region {
    struct verbs_region *next;
    uintptr_t start, end;
    uint64_t memory_id;            /* of weft_mem_alloc or weft_mem_register; 0: by mem_register */
    bool ended;                    /* to be freed when nothing is sent from it any more */
    struct ibv_mr *mr[WEFT_VERBS_PORTS_MAX];
    bool refused[WEFT_VERBS_PORTS_MAX];
} verbs_region;

/* Pages for payloads that do not lie in registered memory. */
typedef struct verbs_stage {
    verbs_region region;
    uint64_t taken[VERBS_STAGE_PAGES / 64];
    int hint;
} verbs_stage;

/* ---- ports ---- */

typedef struct verbs_block {
    void *memory;
    struct ibv_mr *mr;
} verbs_block;

/* Buffers of a receive queue that are promised for one purpose: there are so few at first, and more when these are all in use. */
typedef struct verbs_share {
    int left, made, most;
} verbs_share;

typedef struct verbs_port {
    verbs_transport *transport;
    int number;                    /* in the instance */
    weft_verbs_port card;          /* what peers learn */
    uint8_t device_port;
    uint8_t gid_index;
    struct ibv_context *context;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_srq *srq;

    verbs_block *blocks;           /* receive buffers */
    int block_count, blocks_max;
    int buffers, posted_ever;      /* there are, of them were posted */
    uint32_t *again;               /* [VERBS_SLACK]: to be posted again */
    int again_count;
    verbs_share lend, answers, writes;
    int spare_peers;               /* pairs of buffers whose peers are gone */

    verbs_block send_block;        /* made when it is first needed */
    uint16_t *send_free;           /* numbers of free send buffers */
    int send_free_count;

    int signaled;
    bool armed;
    unsigned events;               /* not acknowledged */
    struct ibv_wc *aside;          /* polled by others than progress(), and for it: [aside_first, aside_end) */
    int aside_first, aside_end, aside_max;
} verbs_port;

/* ---- links ---- */

typedef struct verbs_outgoing verbs_outgoing;
/* A large slice on its way out. */
struct verbs_outgoing {
    verbs_outgoing *next;          /* free, or in the link's list of those to be written */
    verbs_link *link;              /* NULL: free */
    weft_slice *slice;             /* NULL: done already */
    const unsigned char *source;
    verbs_region *region;          /* source lies in it */
    int page;                      /* of the stage; -1: not staged */
    uint32_t bytes;
    uint32_t spans[WEFT_VERBS_RAILS_MAX];
    bool answered;
    int next_rail;                 /* spans before it are posted */
    int writes_left;               /* spans that are not complete */
    verbs_place place;
};

typedef enum verbs_incoming_state { VERBS_WAITING, VERBS_MOVING, VERBS_COMPLETE } verbs_incoming_state;
typedef struct verbs_incoming verbs_incoming;
/* A large slice on its way in, or a small one that has to wait for one. */
struct verbs_incoming {
    verbs_incoming *next;          /* in the order of sending; or free */
    verbs_link *link;
    verbs_incoming_state state;
    uint32_t sequence, bytes, id;
    uint32_t spans[WEFT_VERBS_RAILS_MAX];
    bool announced;
    void *memory;                  /* what the sink's `place` returned */
    unsigned char *payload;        /* where it is written: stage, `memory` or own */
    unsigned char *own;            /* copy of a small one */
    int page;                      /* of the stage; -1: none */
    int number;                    /* among those that are moving */
    uint8_t due;                   /* rails whose write has not come, as bits */
    _Alignas(16) unsigned char header[WEFT_HEADER_BYTES];
};

typedef enum verbs_work_kind { VERBS_WORK_INLINE, VERBS_WORK_BUFFER, VERBS_WORK_WRITE } verbs_work_kind;
typedef struct verbs_work {
    verbs_work_kind kind;
    bool signaled;
    uint32_t bytes;
    uint16_t buffer;
    verbs_outgoing *outgoing;
} verbs_work;

typedef struct verbs_rail {
    verbs_port *port;
    weft_verbs_port remote;
    uint32_t weight;
    struct ibv_qp *qp;
    uint32_t own_psn, remote_psn, remote_qp;
    verbs_work work[VERBS_QUEUE];  /* posted and not complete: [retired, posted) modulo its length */
    uint32_t posted, retired;
    int unsignaled;                /* since the last signaled one */
    uint32_t max_inline;
    uint64_t load;                 /* bytes of writes under way or promised */
} verbs_rail;

typedef enum verbs_link_state { VERBS_IDLE, VERBS_MEETING, VERBS_OPEN, VERBS_FAILED } verbs_link_state;

struct verbs_link {
    verbs_transport *transport;
    int peer;
    verbs_link_state state;
    bool known;                    /* rails and control endpoint are there */
    bool connected;                /* connect() was called */
    bool hello_sent, hello_came, ready_came, raised;
    weft_endpoint *control;
    verbs_rail rails[WEFT_VERBS_RAILS_MAX]; /* frames go over the first */
    int rail_count;
    bool has_buffers;              /* of the first rail's receive queue */

    weft_slice *queue, *queue_last;
    uint32_t queued;
    bool pumping;

    uint32_t limit, sent;          /* credit to send frames */
    uint8_t out_epoch, credits_came;
    uint32_t granted, told;        /* credit that the peer has, and knows of */
    uint32_t received, consumed;   /* frames that count for it; consumed: their buffer is free again */
    uint32_t window;               /* ... at most so much, 1 + what is lent */
    uint8_t in_epoch, credits_sent, credits_seen;
    bool recalling, shrinking;
    uint64_t active_round;         /* when something came last */

    verbs_outgoing *ready, *ready_last; /* answered: to be written */
    int offers;                    /* not complete */
    verbs_incoming *incoming, *incoming_last, *next_answer;

    bool attending, stalled;       /* is in the transport's lists */
    verbs_link *next_attending, *next_stalled;
    bool control_lost;
    bool reported;
    weft_status status;
    char reason[VERBS_REASON_BYTES];
};

/* A small slice that came while the sink must not be called; it stays in its receive buffer. */
typedef struct verbs_backlog {
    verbs_port *port;
    uint32_t buffer;
    uint32_t sequence;
} verbs_backlog;

struct verbs_transport {
    weft_transport_config config;
    weft_settings settings;
    const weft_verbs_library *verbs;
    verbs_port ports[WEFT_VERBS_PORTS_MAX];
    int port_count;
    const weft_transport_ops *control_ops;
    weft_transport *control;
    int epoll;
    verbs_link **links;            /* [ranks] */
    verbs_link *attending;         /* with something that only progress() may do */
    verbs_link *stalled;           /* that wait for stage, buffers or numbers */
    bool freed;                    /* some came back, though nothing was completed */
    verbs_outgoing *outgoing;      /* [VERBS_MOVING_MAX] */
    verbs_outgoing *free_outgoing;
    verbs_incoming **moving;       /* [VERBS_MOVING_MAX] */
    int moving_hint;
    verbs_incoming *free_incoming;
    verbs_stage send_stage, receive_stage;
    verbs_region *regions;         /* of mem_register, and cached ones */
    bool regions_ended;            /* some of them are to be freed */
    uint64_t memory_seen;          /* ends of memories that are known */
    verbs_backlog *backlog;
    int backlog_count, backlog_max;
    bool written;                  /* large ones came meanwhile: their writes, in `moving`, are not due any more */
    uint64_t round;                /* of progress() */
    uint64_t recall_round;         /* not before it is credit asked back again */
    int unsettled;                 /* links that are meeting: the control channel is looked at each time */
    bool look_at_control;
    bool closed;
};

/* verbs.c */
weft_status weft_verbs_own_address(verbs_transport *t, void *address, size_t *bytes);
void weft_verbs_attend(verbs_link *link);
void weft_verbs_stall(verbs_link *link);

/* device.c */
/* Opens every usable port that the settings allow; WEFT_ERR_UNSUPPORTED with the reason when there is none. */
weft_status weft_verbs_ports_open(verbs_transport *t);
void weft_verbs_ports_close(verbs_transport *t);
/* Posts receive buffers for one more linked peer. */
weft_status weft_verbs_port_add_peer(verbs_port *port);
/* Whether so many buffers are left of that share; posts more, where there may be more. */
bool weft_verbs_share_has(verbs_port *port, verbs_share *share, int count);
/* Memory for frames that are not inline; an error that names the device. */
weft_status weft_verbs_port_need_send_buffers(verbs_port *port);
unsigned char *weft_verbs_receive_buffer(verbs_port *port, uint32_t number);
/* Gives a receive buffer back; they are posted again by the next flush. */
void weft_verbs_repost(verbs_port *port, uint32_t number);
void weft_verbs_repost_flush(verbs_port *port);
unsigned char *weft_verbs_send_buffer(verbs_port *port, uint16_t number);
/* Asynchronous events of all ports: ports that went down, devices that failed. */
void weft_verbs_events(verbs_transport *t);

/* stage.c */
weft_status weft_verbs_stage_open(verbs_stage *stage);
void weft_verbs_stage_close(verbs_transport *t, verbs_stage *stage);
/* First of the pages for so many bytes, -1: not now. */
int weft_verbs_stage_take(verbs_stage *stage, size_t bytes);
void weft_verbs_stage_give(verbs_stage *stage, int page, size_t bytes);
unsigned char *weft_verbs_stage_address(const verbs_stage *stage, int page);
/* The registered memory that has all of the range, with keys of the ports of these rails that have a span; NULL: none. */
verbs_region *weft_verbs_region_find(verbs_link *link, const void *pointer, size_t bytes, const uint32_t *spans);
/* Registers a region at a port if it is not; NULL: it cannot be. */
struct ibv_mr *weft_verbs_region_mr(verbs_port *port, verbs_region *region);
bool weft_verbs_has_regions(const verbs_transport *t);
/* Forgets cached registrations of memory that has ended. */
void weft_verbs_regions_expire(verbs_transport *t);
void weft_verbs_regions_close(verbs_transport *t);
weft_status weft_verbs_region_add(verbs_transport *t, void *base, size_t bytes, int dmabuf, uint64_t dmabuf_offset,
                                  void **handle);
void weft_verbs_region_remove(verbs_transport *t, void *handle);

/* link.c */
weft_status weft_verbs_link_get(verbs_transport *t, int peer, verbs_link **out);
/* What the peer's address says, and which of its ports go with which of ours. */
weft_status weft_verbs_pairs_find(const verbs_transport *t, int peer, const void *address, size_t bytes,
                                  weft_verbs_address *theirs, weft_verbs_pair pairs[WEFT_VERBS_RAILS_MAX], int *count);
/* Takes the peer's address in: rails, control endpoint. */
weft_status weft_verbs_link_know(verbs_link *link, const void *address, size_t bytes);
/* Makes queue pairs and greets the peer, if that is not done. */
void weft_verbs_link_meet(verbs_link *link);
/* The link is broken: no memory of it is touched from now on; sink and slices hear of it at the end of progress(). */
void weft_verbs_link_fail(verbs_link *link, weft_status status, const char *format, ...) WEFT_PRINTF(3, 4);
/* Ends its queue pairs and gives back what it holds, but for slices. */
void weft_verbs_link_release(verbs_link *link);
/* Ends all slices that the link owns. */
void weft_verbs_link_drop_slices(verbs_link *link, weft_status status);
void weft_verbs_link_free(verbs_link *link);
void weft_verbs_control_arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes);
void weft_verbs_control_failed(void *context, int peer, weft_status status, const char *reason);
/* Asks that peer for the credit that it does not use. */
void weft_verbs_recall(verbs_link *link);

/* send.c */
weft_status weft_verbs_send(verbs_link *link, weft_slice *slice);
/* Posts what can be posted now: answers, writes, slices, credit. Returns the number of slices that are sent. */
int weft_verbs_pump(verbs_link *link);
/* All up to this one of a queue pair is complete. */
void weft_verbs_retire(verbs_rail *rail, uint32_t up_to);
/* Gives back what is posted and will not complete. */
void weft_verbs_retire_all(verbs_rail *rail);
void weft_verbs_outgoing_end(verbs_outgoing *out, weft_status status);
void weft_verbs_answered(verbs_link *link, const verbs_frame *frame, const verbs_place *place);
/* True when all that was sent has reached the peer's adapter; posts what tells so. */
bool weft_verbs_all_acknowledged(verbs_link *link);

/* receive.c */
/* Completions of one port. Without `deliver` the sink is not called. Returns the number of slices that arrived. */
int weft_verbs_poll(verbs_port *port, bool deliver, int *completions);
/* Up to so many completions are kept for the next poll: what a queue pair has completed is lost with it. Returns how many, or 1
 * where there is no memory to keep any. */
int weft_verbs_put_aside(verbs_port *port, int most);
bool weft_verbs_has_backlog(const verbs_transport *t);
int weft_verbs_backlog_run(verbs_transport *t);
/* Must the peer be told of its credit by a frame of its own? */
bool weft_verbs_credit_due(const verbs_link *link);
void weft_verbs_incoming_free(verbs_incoming *in);

#endif

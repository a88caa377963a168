/* Wire formats of the control plane: the meeting (greeting, join, verdicts) and the tree (hello, frames). Encoding and
 * checked decoding only, no I/O. Everything is little-endian. The first 20 bytes of a join, the greeting and the
 * error frame keep their layout in all versions, so that two versions can tell each other that they differ. */
#ifndef WEFT_CONTROL_WIRE_H
#define WEFT_CONTROL_WIRE_H

#include "core/control.h"

enum {
    WEFT_CONTROL_VERSION = 1,
    WEFT_ENDPOINT_ADDRESSES = 8,
    WEFT_ADDRESS_BYTES = 17,                                         /* family, 16 bytes */
    WEFT_ENDPOINT_BYTES = 3 + WEFT_ENDPOINT_ADDRESSES * WEFT_ADDRESS_BYTES,
    WEFT_ID_ADDRESSES = 6,                                           /* what fits into a weft_unique_id */
    WEFT_PROOF_BYTES = 64, /* reserved for a proof of membership (answer to the greeting's challenge); zero for now */
    WEFT_GREETING_BYTES = 32,
    WEFT_JOIN_PREFIX_BYTES = 20,
    WEFT_JOIN_BYTES = 256,
    WEFT_HELLO_BYTES = 96,
    WEFT_FRAME_HEADER_BYTES = 12,
    WEFT_NOTICE_BYTES = 16 + WEFT_NOTICE_TEXT_BYTES,
    WEFT_GATHER_HEADER_BYTES = 12,
    WEFT_MEETING_FRAME_LIMIT = 1 << 20
};
#define WEFT_GATHER_LIMIT_BYTES ((size_t)256 << 20) /* largest all-gather result */
#define WEFT_NO_RANK UINT32_MAX

/* Addresses where one port is listened on, best first. */
typedef struct weft_endpoint {
    uint16_t port;
    int count;
    struct { uint8_t family; /* 4 or 6 */ uint8_t bytes[16]; } addresses[WEFT_ENDPOINT_ADDRESSES];
} weft_endpoint;

/* The server speaks first, so that a client that reached an alien service never sends anything to it. */
typedef struct weft_greeting { uint16_t version; uint64_t token, challenge; } weft_greeting;

typedef struct weft_join {
    uint16_t version;
    uint32_t rank, size, pid;
    int64_t timeout_ms;   /* how long this rank will still wait; -1: for ever */
    uint64_t token;
    weft_endpoint listen; /* where this rank's children connect */
} weft_join;

/* Frames: after the join in both directions, and on the tree. */
typedef enum weft_frame_type {
    WEFT_FRAME_ERROR = 1,  /* status, text: the meeting failed */
    WEFT_FRAME_RETRY,      /* come again later: this meeting is over */
    WEFT_FRAME_ASSIGN,     /* server -> rank: job, place in the tree */
    WEFT_FRAME_CONNECTED,  /* rank -> server: all my edges stand */
    WEFT_FRAME_GO,         /* server -> rank: everybody's edges stand */
    WEFT_FRAME_NOTICE,     /* tree */
    WEFT_FRAME_GATHER,     /* tree, up: a subtree's part */
    WEFT_FRAME_SPREAD,     /* tree, down: the whole */
    WEFT_FRAME_BYE,        /* tree, up: this subtree is ready to leave */
    WEFT_FRAME_ALLBYE,     /* tree, down: everybody is */
    WEFT_FRAME_LEAVE       /* tree: this rank leaves alone, in order */
} weft_frame_type;
typedef struct weft_frame_header { weft_frame_type type; size_t bytes; } weft_frame_header;

typedef struct weft_assign {
    uint64_t job;
    uint32_t rank, size;       /* in the new group */
    uint32_t parent;           /* WEFT_NO_RANK: the root */
    weft_endpoint parent_listen;
    const uint8_t *alive;      /* shrink: a bit per old rank, inside the frame; NULL: all */
    uint32_t alive_bytes;
} weft_assign;

/* First message of both sides of a tree edge. */
typedef struct weft_hello { uint16_t version; uint32_t rank; uint64_t job; } weft_hello;

size_t weft_endpoint_encode(const weft_endpoint *endpoint, int limit, uint8_t *out); /* returns bytes: 3 + limit * 17 */
bool weft_endpoint_decode(weft_endpoint *endpoint, int limit, const uint8_t *in);

void weft_greeting_encode(const weft_greeting *greeting, uint8_t out[WEFT_GREETING_BYTES]);
bool weft_greeting_decode(weft_greeting *greeting, const uint8_t in[WEFT_GREETING_BYTES]);
void weft_join_encode(const weft_join *join, uint8_t out[WEFT_JOIN_BYTES]);
/* Version, rank and size only; false: not a join at all. */
bool weft_join_decode_prefix(weft_join *join, const uint8_t in[WEFT_JOIN_PREFIX_BYTES]);
bool weft_join_decode(weft_join *join, const uint8_t in[WEFT_JOIN_BYTES]);
void weft_hello_encode(const weft_hello *hello, uint8_t out[WEFT_HELLO_BYTES]);
bool weft_hello_decode(weft_hello *hello, const uint8_t in[WEFT_HELLO_BYTES]);

void weft_frame_encode(weft_frame_type type, size_t bytes, uint8_t out[WEFT_FRAME_HEADER_BYTES]);
/* False: no frame, or longer than its type may be. */
bool weft_frame_decode(weft_frame_header *header, const uint8_t in[WEFT_FRAME_HEADER_BYTES]);
/* Returns the bytes written (header included); out holds WEFT_FRAME_HEADER_BYTES + WEFT_NOTICE_BYTES. */
size_t weft_notice_encode(const weft_notice *notice, uint8_t *out);
bool weft_notice_decode(weft_notice *notice, const uint8_t *payload, size_t bytes);
size_t weft_error_encode(weft_status status, const char *text, uint8_t *out, size_t out_bytes);
bool weft_error_decode(weft_status *status, char *text, size_t text_bytes, const uint8_t *payload, size_t bytes);
/* Bytes of an ASSIGN frame with its header. */
size_t weft_assign_bytes(uint32_t alive_bytes);
void weft_assign_encode(const weft_assign *assign, uint8_t *out);
bool weft_assign_decode(weft_assign *assign, const uint8_t *payload, size_t bytes);
/* The head of GATHER and SPREAD payloads: number of the all-gather, bytes per rank. */
void weft_gather_encode(uint32_t sequence, uint64_t bytes_per_rank, uint8_t out[WEFT_GATHER_HEADER_BYTES]);
void weft_gather_decode(uint32_t *sequence, uint64_t *bytes_per_rank, const uint8_t in[WEFT_GATHER_HEADER_BYTES]);

#endif

/* What goes over a socket of the tcp transport: a greeting each way, then frames. All numbers little endian.
 * Encoding and decoding only; wire.c has the functions, handshake.c and stream.c the protocol. */
#ifndef WEFT_TCP_WIRE_H
#define WEFT_TCP_WIRE_H

#include "base/base.h"
#include <weft/transport.h>

enum {
    WEFT_TCP_VERSION = 1,
    WEFT_TCP_HELLO_BYTES = 64,
    WEFT_TCP_WELCOME_BYTES = 32,
    WEFT_TCP_FRAME_BYTES = 16,                                         /* of weft's own header */
    WEFT_TCP_HEADERS_BYTES = WEFT_TCP_FRAME_BYTES + WEFT_HEADER_BYTES, /* what precedes each payload */
    WEFT_TCP_SOCKETS_MAX = 16                                          /* per peer */
};

/* The first bytes of the side that dialled. */
typedef struct weft_tcp_hello {
    uint32_t version;
    uint64_t job;
    uint32_t rank, target;    /* who dials, and whom it believes to have reached */
    uint64_t set;             /* random number of the set of sockets that this one is part of */
    uint16_t index, count;    /* of this socket in its set */
} weft_tcp_hello;

/* What the accepting side says to a hello. */
typedef enum weft_tcp_answer {
    WEFT_TCP_ACCEPTED,
    WEFT_TCP_BUSY,            /* this side dials you at the moment: its sockets will be used */
    WEFT_TCP_WRONG_VERSION,
    WEFT_TCP_WRONG_JOB,
    WEFT_TCP_WRONG_RANK,      /* not the rank you look for, or you say a rank that cannot be */
    WEFT_TCP_DUPLICATE,       /* there is a connection already */
    WEFT_TCP_BROKEN,          /* the way between the two has failed before */
    WEFT_TCP_ANSWER_COUNT
} weft_tcp_answer;

typedef struct weft_tcp_welcome {
    uint32_t version;
    uint32_t answer;          /* weft_tcp_answer; unknown ones are refusals */
    uint32_t rank;            /* who answers */
} weft_tcp_welcome;

void weft_tcp_hello_encode(const weft_tcp_hello *hello, unsigned char bytes[WEFT_TCP_HELLO_BYTES]);
/* WEFT_ERR_PARSE: not a greeting of weft. A greeting of another version has only `version` filled. */
weft_status weft_tcp_hello_decode(const unsigned char bytes[WEFT_TCP_HELLO_BYTES], weft_tcp_hello *hello);
/* Whether the first `count` bytes can be the start of a hello: lets strangers be dropped early. */
bool weft_tcp_hello_begins(const unsigned char *bytes, size_t count);
void weft_tcp_welcome_encode(const weft_tcp_welcome *welcome, unsigned char bytes[WEFT_TCP_WELCOME_BYTES]);
weft_status weft_tcp_welcome_decode(const unsigned char bytes[WEFT_TCP_WELCOME_BYTES],
                                    weft_tcp_welcome *welcome);
const char *weft_tcp_answer_text(uint32_t answer);

/* A frame: payload length and number of the slice among all from this rank to that one, whichever socket
 * carries it. The check, over both and the set's number, tells a stream that lost its step. */
void weft_tcp_frame_encode(uint32_t payload_bytes, uint64_t sequence, uint64_t set,
                           unsigned char bytes[WEFT_TCP_FRAME_BYTES]);
weft_status weft_tcp_frame_decode(const unsigned char bytes[WEFT_TCP_FRAME_BYTES], uint64_t set,
                                  uint32_t *payload_bytes, uint64_t *sequence);

#endif

/* What the inline path's compiler (inline_compile.c) makes and its interpreter (inline.c) runs. */
#ifndef WEFT_INLINE_MOVES_H
#define WEFT_INLINE_MOVES_H

#include "collectives/inline.h"

enum { WEFT_INLINE_SOURCES_MAX = 64, WEFT_BASE_SCRATCH = WEFT_SCRATCH, WEFT_BASE_STAGE };

/* base: input, output, scratch, or WEFT_BASE_STAGE + position of a local rank. */
typedef struct weft_inline_place {
    uint32_t base, offset;
} weft_inline_place;

typedef struct weft_inline_move {
    uint8_t kind;          /* weft_step_kind: publish is a copy into the own stage */
    bool final;
    bool fenced;           /* what is sent before must have left */
    bool incoming_first;   /* receive and reduce: the operands' order */
    uint16_t sources;
    uint32_t first_source; /* reduce */
    uint32_t signal;       /* signal, wait: its number */
    uint32_t position;     /* wait: of the local rank; send, receive: the peer in the process group */
    uint32_t ordinal;      /* send, receive: how many to, from that peer came before */
    uint32_t step;         /* of the schedule: what is behind when this move is */
    uint32_t bytes;
    weft_inline_place src, dst;
} weft_inline_move;

struct weft_inline {
    const weft_ready *ready;
    weft_reduction reduction;
    weft_fingerprint fingerprint;
    uint32_t element_bytes;
    uint32_t signals;
    bool local;            /* in shared memory; else by messages */
    bool part;             /* the rest is the executor's */
    bool small, in_line;   /* published data lie in a small slot, in the signal's line */
    bool reads_input, writes_output;
    weft_inline_move *moves;
    uint32_t count, capacity;
    weft_inline_place *sources;
    uint32_t source_count, source_capacity;
    char *scratch;         /* of messages; nothing is sent from it */
    size_t scratch_bytes;
};

#endif

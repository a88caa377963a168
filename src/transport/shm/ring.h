/* The ring of one ordered pair of ranks: its layout in the receiver's region, and how records are written
 * and read. Single producer, single consumer; knows nothing of slices, peers or sleeping. */
#ifndef WEFT_SHM_RING_H
#define WEFT_SHM_RING_H

#include <string.h>

#include "transport/shm/shm.h"

/* A record is one line, then its payload in whole lines. `word` of the line after the last record is
 * always 0: that is what the consumer polls, so that a small slice costs it one cache miss. */
enum {
    RING_LINE = WEFT_CACHE_LINE,
    RING_MASK = WEFT_SHM_RING_BYTES - 1,
    RING_INLINE_BYTES = 8,
    RING_EARLY_WRAP = 64 << 10 /* an empty ring starts over beyond this: light traffic stays in warm pages */
};

typedef enum ring_kind {
    RING_SLICE = 1, /* a whole slice of `bytes` */
    RING_FIRST,     /* header and first fragment of a slice of `bytes` in all */
    RING_MORE,      /* the next fragment; `bytes` of it */
    RING_WRAP       /* the next record is at the ring's start */
} ring_kind;

typedef struct ring_record {
    /* ring_kind << 32 | bytes; 0: not there yet. Release by the producer, acquire by the consumer: covers the
     * record and the 0 in the word after it. */
    _Alignas(RING_LINE) _Atomic uint64_t word;
    unsigned char small[RING_INLINE_BYTES];    /* payload of up to 8 bytes */
    unsigned char header[WEFT_HEADER_BYTES];
    unsigned char payload[];                   /* longer payloads */
} ring_record;

/* What the two sides tell each other, one line for each writer. Positions count bytes and never wrap. */
typedef struct ring_control {
    _Alignas(RING_LINE) _Atomic uint64_t head; /* consumer: all before it may be overwritten (release) */
    /* Consumer, rarely: it polls this ring; else the producer sets its bit in `calls`. */
    _Alignas(RING_LINE) _Atomic uint32_t listening;
    /* Producer, rarely: wake me when head has come here; 0: nothing wanted. */
    _Alignas(RING_LINE) _Atomic uint64_t wanted;
} ring_control;

typedef struct ring {
    ring_control control;
    _Alignas(RING_LINE) unsigned char bytes[WEFT_SHM_RING_BYTES];
} ring;

/* A rank's region: what local ranks tell it, then the ring of each. Bit i is set by local rank i, cleared
 * by the owner. */
enum { RING_CALL_WORDS = 64, SHM_MAX_LOCAL_RANKS = RING_CALL_WORDS * 64 };
typedef struct shm_region {
    _Atomic uint64_t calls[RING_CALL_WORDS];  /* wrote while nobody polled its ring */
    _Atomic uint64_t closed[RING_CALL_WORDS]; /* has closed: its ring holds the last (release) */
    ring rings[]; /* their stride is no power of two, so that polled lines fall into different cache sets */
} shm_region;

static inline ring_record *ring_at(ring *r, uint64_t position)
{
    return (ring_record *)(void *)(r->bytes + (position & RING_MASK));
}

/* Bytes in the ring of a record with that payload. */
static inline uint64_t ring_record_bytes(size_t payload)
{
    if (payload <= RING_INLINE_BYTES)
        return RING_LINE;
    return RING_LINE + ((payload + RING_LINE - 1) & ~(size_t)(RING_LINE - 1));
}

static inline unsigned char *ring_payload(ring_record *record, size_t payload)
{
    return payload <= RING_INLINE_BYTES ? record->small : record->payload;
}

/* The producer's view. */
typedef struct ring_writer {
    ring *ring;
    uint64_t tail;
    uint64_t head;   /* the consumer's, when last looked at */
    uint64_t wanted; /* head that the last refusal needs */
} ring_writer;

static inline bool ring_fits(ring_writer *w, uint64_t bytes)
{
    /* One line more for the 0 after the record. */
    uint64_t end = w->tail + bytes + RING_LINE;
    if (end - w->head <= WEFT_SHM_RING_BYTES)
        return true;
    w->head = atomic_load_explicit(&w->ring->control.head, memory_order_acquire); /* partner: ring_release */
    w->wanted = end - WEFT_SHM_RING_BYTES;
    return end - w->head <= WEFT_SHM_RING_BYTES;
}

/* Fills the rest of the ring with nothing. */
static inline void ring_wrap(ring_writer *w)
{
    ring_record *record = ring_at(w->ring, w->tail);
    w->tail = (w->tail | RING_MASK) + 1;
    atomic_store_explicit(&ring_at(w->ring, w->tail)->word, 0, memory_order_relaxed);
    atomic_store_explicit(&record->word, (uint64_t)RING_WRAP << 32, memory_order_release);
}

/* Room for a record with `payload` bytes in one piece, NULL if there is none now. Then fill header and
 * payload and publish. */
static inline ring_record *ring_reserve(ring_writer *w, size_t payload)
{
    uint64_t need = ring_record_bytes(payload), offset = w->tail & RING_MASK;
    if (offset + need > WEFT_SHM_RING_BYTES) {
        /* The rest is too short: it and the record must both fit, else the 0 at the start would overwrite. */
        if (!ring_fits(w, WEFT_SHM_RING_BYTES - offset + need))
            return NULL;
        ring_wrap(w);
    } else if (offset >= RING_EARLY_WRAP && offset >= need + RING_LINE) {
        /* Only if the record fits then: a wrap alone would be published without anybody being rung. */
        if (w->head != w->tail)
            w->head = atomic_load_explicit(&w->ring->control.head, memory_order_acquire);
        if (w->head == w->tail)
            ring_wrap(w);
    }
    return ring_fits(w, need) ? ring_at(w->ring, w->tail) : NULL;
}

static inline void ring_publish(ring_writer *w, ring_record *record, ring_kind kind, size_t bytes,
                                size_t payload)
{
    w->tail += ring_record_bytes(payload);
    atomic_store_explicit(&ring_at(w->ring, w->tail)->word, 0, memory_order_relaxed);
    atomic_store_explicit(&record->word, (uint64_t)kind << 32 | bytes, memory_order_release);
}

/* The consumer is done with all before `position`. */
static inline void ring_release(ring *r, uint64_t position)
{
    atomic_store_explicit(&r->control.head, position, memory_order_release); /* partner: ring_fits */
}

#endif

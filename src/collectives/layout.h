/* Where the chunks of a buffer lie: blocks of elements, each cut into equal chunks (the last short or empty), and
 * tiles, the same subrange of every chunk. Pure arithmetic; the executor and the tools use it. */
#ifndef WEFT_LAYOUT_H
#define WEFT_LAYOUT_H

#include <weft/schedule.h>

typedef struct weft_layout {
    char *base;            /* address of element 0 */
    size_t element_bytes;
    size_t count;          /* elements per block where all blocks are equal */
    size_t chunk_elements; /* of a full chunk, likewise */
    const size_t *counts;  /* elements of each block; NULL: `count` each */
    const size_t *displs;  /* first element of each block; NULL: packed, with `offsets` or equal blocks */
    uint32_t blocks, chunks_per_block;
} weft_layout;

enum { WEFT_CHUNK_ALIGN_BYTES = 64, WEFT_CHUNK_ALIGN_FROM_BYTES = 4096 };

/* Elements of a full chunk of a block of `count`: rounded up to whole cache lines once chunks are large. */
static inline size_t weft_chunk_elements(size_t count, uint32_t chunks, size_t element_bytes)
{
    if (chunks <= 1)
        return count;
    size_t elements = (count + chunks - 1) / chunks;
    if (elements * element_bytes >= WEFT_CHUNK_ALIGN_FROM_BYTES) {
        size_t line = WEFT_CHUNK_ALIGN_BYTES / element_bytes;
        elements = (elements + line - 1) / line * line;
    }
    return elements;
}

static inline size_t weft_layout_block_count(const weft_layout *l, uint32_t block)
{
    return l->counts ? l->counts[block] : l->count;
}

static inline size_t weft_layout_block_offset(const weft_layout *l, uint32_t block)
{
    return l->displs ? l->displs[block] : (size_t)block * l->count;
}

/* The elements of tile `tile` of chunk `chunk`: returns how many, *offset is the first one's index in the buffer. */
static inline size_t weft_layout_chunk(const weft_layout *l, uint32_t chunk, size_t tile_elements, size_t tile,
                                       size_t *offset)
{
    uint32_t block = chunk, part = 0;
    if (l->chunks_per_block != 1) {
        block = l->blocks == 1 ? 0 : chunk / l->chunks_per_block;
        part = chunk - block * l->chunks_per_block;
    }
    size_t count = weft_layout_block_count(l, block);
    size_t chunk_elements = l->counts ? weft_chunk_elements(count, l->chunks_per_block, l->element_bytes)
                                      : l->chunk_elements;
    size_t start = part * chunk_elements;
    size_t end = start + chunk_elements;
    if (start > count)
        start = count;
    if (end > count)
        end = count;
    size_t from = tile ? start + tile * tile_elements : start;
    if (from > end)
        from = end;
    size_t length = end - from;
    if (length > tile_elements)
        length = tile_elements;
    *offset = weft_layout_block_offset(l, block) + from;
    return length;
}

#endif

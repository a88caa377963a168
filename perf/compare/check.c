/* Inputs and the check of results. Values are small integers that differ by rank and place: every sum of up to 16 ranks is
 * exact in f32 and in bf16, so a result is right or wrong, whatever the order of the additions. */
#include "measure.h"

#include <string.h>

/* 0 .. 15 */
static inline uint32_t value(uint32_t rank, uint32_t place)
{
    return (place + rank * 977u) * 2654435761u >> 28;
}

static inline float to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

static inline uint16_t to_bf16(float f)
{
    uint32_t wide;
    memcpy(&wide, &f, sizeof wide);
    wide += 0x7fff + (wide >> 16 & 1);
    return (uint16_t)(wide >> 16);
}

static void add(uint16_t *restrict sum, const uint16_t *restrict left, const uint16_t *restrict right, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] = to_bf16(to_f32(left[i]) + to_f32(right[i]));
}

void compare_add_bf16(uint16_t *sum, const uint16_t *left, const uint16_t *right, size_t count) { add(sum, left, right, count); }

size_t compare_type_bytes(compare_type type) { return type == COMPARE_F32 ? 4 : 2; }

size_t compare_blocks_in(compare_collective collective, int ranks)
{
    if (collective == COMPARE_BARRIER)
        return 0;
    return collective == COMPARE_REDUCE_SCATTER || collective == COMPARE_ALL_TO_ALL ? (size_t)ranks : 1;
}

size_t compare_blocks_out(compare_collective collective, int ranks)
{
    if (collective == COMPARE_BARRIER)
        return 0;
    return collective == COMPARE_ALL_GATHER || collective == COMPARE_ALL_TO_ALL ? (size_t)ranks : 1;
}

static void write_values(compare_type type, void *to, size_t count, int rank)
{
    for (size_t i = 0; type == COMPARE_F32 && i < count; i++)
        ((float *)to)[i] = (float)value((uint32_t)rank, (uint32_t)i);
    for (size_t i = 0; type == COMPARE_BF16 && i < count; i++)
        ((uint16_t *)to)[i] = to_bf16((float)value((uint32_t)rank, (uint32_t)i));
}

/* A broadcast has one buffer, `recv`, as MPI_Bcast has. */
void compare_fill(const compare_cell *c, void *send, void *recv, int rank, int ranks)
{
    size_t bytes = compare_type_bytes(c->type);
    memset(recv, 0xff, c->count * compare_blocks_out(c->collective, ranks) * bytes);
    write_values(c->type, send, c->count * compare_blocks_in(c->collective, ranks), rank);
    if (c->collective == COMPARE_BROADCAST && rank == 0)
        write_values(c->type, recv, c->count, rank);
}

/* What belongs at element i of block `block` of the output. */
static inline uint32_t expected(const compare_cell *c, int rank, int ranks, size_t block, size_t i)
{
    uint32_t sum = 0;
    switch (c->collective) {
    case COMPARE_ALL_REDUCE:
    case COMPARE_REDUCE_SCATTER:
        if (c->collective == COMPARE_REDUCE_SCATTER)
            i += c->count * (size_t)rank;
        for (int r = 0; r < ranks; r++)
            sum += value((uint32_t)r, (uint32_t)i);
        return sum;
    case COMPARE_ALL_GATHER:
        return value((uint32_t)block, (uint32_t)i);
    case COMPARE_ALL_TO_ALL:
        return value((uint32_t)block, (uint32_t)(c->count * (size_t)rank + i));
    default:
        return value(0, (uint32_t)i);
    }
}

size_t compare_wrong(const compare_cell *c, const void *recv, int rank, int ranks, size_t stride)
{
    size_t wrong = 0, blocks = compare_blocks_out(c->collective, ranks);
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < c->count; i += stride) {
            size_t at = block * c->count + i;
            float got = c->type == COMPARE_F32 ? ((const float *)recv)[at] : to_f32(((const uint16_t *)recv)[at]);
            wrong += got != (float)expected(c, rank, ranks, block, i);
        }
    return wrong;
}

/* How long slices are, and which buffers are staged: the executor goes by this, the cost model prices it. */
#ifndef WEFT_SLICE_H
#define WEFT_SLICE_H

#include <weft/schedule.h>

#include "base/base.h"

enum { WEFT_SLICE_LEAST_BYTES = 8 << 10, WEFT_SLICE_MOST_BYTES = 128 << 10, WEFT_SLICES = 8 };
/* Where a rank's larger buffer is less, both are staged though they could be read in place. Where ranks share cores the last
 * waiting for each other costs more, so that it is a published buffer by itself that counts, and system calls begin to pay with
 * larger ones (4 ranks on 2 cores, 64 KB: reduce_scatter 25 us by system call, 16 through the stages; all_reduce 44, 30; but
 * all_gather of 256 KB, 64 KB each, 51 and 65). */
enum { WEFT_MAP_BYTES = (32 << 10) + 1, WEFT_FETCH_CROWDED_BYTES = (64 << 10) + 1 };
/* Measured: private buffers of all ranks of a host that are more than this together, so that they come from memory, go faster
 * through the stages than by system call (all_reduce, 2 ranks, 64 MB: 14 and 19 ms; 4 ranks on 2 cores, 16 MB: 20 and 27 ms). */
enum { WEFT_FETCH_MOST_BYTES = 96 << 20 };
/* An all_reduce reads what it has written, which the last-level cache must hold for that: 2 ranks, 16 MB, on a virtual machine
 * whose share of that cache varies, 3.1 to 7.0 ms by system call and 3.4 to 5.4 through the stages; 8 MB 1.7 and 2.2. */
enum { WEFT_FETCH_MOST_REDUCED_BYTES = 48 << 20 };
/* Where a broadcast's root writes its part while the others read theirs, all cores copy: 2 ranks, 32 MB 2.7 ms through the
 * stages, 1.6 by system call; 256 MB 29 and 26. Not where ranks share cores (4 on 2, 16 MB: 3.4 and 6.4), nor where only
 * one side copies (2 ranks, 64 MB: 5.5 and 10). */
static inline size_t weft_fetch_most_bytes(weft_collective collective, bool all_copy)
{
    if (collective == WEFT_BROADCAST && all_copy)
        return SIZE_MAX;
    return collective == WEFT_ALL_REDUCE ? (size_t)WEFT_FETCH_MOST_REDUCED_BYTES : (size_t)WEFT_FETCH_MOST_BYTES;
}

/* Is a direct broadcast of that size read and written in place by so many ranks of one host? Else through the stages. */
static inline bool weft_broadcast_in_place(double bytes, int ranks, bool crowded)
{
    return bytes >= (crowded ? WEFT_FETCH_CROWDED_BYTES : WEFT_MAP_BYTES) &&
           2 * bytes * ranks <= (double)weft_fetch_most_bytes(WEFT_BROADCAST, !crowded);
}

/* Room for what one rank stages of a tile. */
enum { WEFT_STAGE_BYTES = 1 << 20 };

/* ... and how much of it is used. Longer tiles meet less often (2 MB, 2 ranks: all_reduce 280 and 264 us, direct broadcast 76 and
 * 70; 4 ranks: all_gather 530 and 414), but those of a flat broadcast should stay in a cache that all readers share (4 ranks on
 * 2 cores: 648 and 791), and between hosts tiles are what is pipelined. */
static inline size_t weft_staged_tile_bytes(weft_collective collective, weft_algorithm algorithm, bool one_host)
{
    bool longer = one_host && (collective != WEFT_BROADCAST || algorithm == WEFT_DIRECT);
    return longer ? WEFT_STAGE_BYTES : WEFT_STAGE_BYTES / 2;
}

/* The shortest worth cutting on such a way: what it moves in some 64 us, long enough that the work per slice is little beside
 * it, short enough that who forwards a message begins early. A power of two. */
static inline size_t weft_slice_least(double bandwidth_Bps)
{
    size_t bytes = WEFT_SLICE_LEAST_BYTES;
    while (bytes < WEFT_SLICE_MOST_BYTES && (double)bytes * 1e9 < bandwidth_Bps * 64e3)
        bytes *= 2;
    return bytes;
}

/* Of a message: about an eighth of it, within those bounds. */
static inline size_t weft_slice_of(size_t message_bytes, size_t least, size_t most)
{
    size_t part = (message_bytes / WEFT_SLICES + 63) / 64 * 64;
    return weft_min_size(most, weft_max_size(least, part));
}

#endif

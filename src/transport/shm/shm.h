/* The shm transport: slices between ranks of one host through rings in the host's base segment. */
#ifndef WEFT_SHM_H
#define WEFT_SHM_H

#include <weft/transport.h>

#include "transport/host.h"

enum {
    WEFT_SHM_RING_BYTES = 256 << 10,          /* of each ordered pair of ranks; virtual, touched as used */
    WEFT_SHM_SLICE_BYTES = 32 << 10,          /* the best slice: several fit a ring and stay in cache on the way */
    /* Longer slices are cut, and put together again by the receiver (a copy more). */
    WEFT_SHM_WHOLE_BYTES = WEFT_SHM_RING_BYTES / 4
};

/* The table behind weft_transport_find("shm"). weft_transport_config.host is needed; one instance at a
 * time per weft_host: it owns the first weft_shm_region_bytes(size of the host) of each rank's region. */
extern const weft_transport_ops weft_shm_transport;

/* What weft_host_config.region_bytes must at least be for that many ranks on one host: about 256 KiB per
 * rank, sparse. */
size_t weft_shm_region_bytes(int local_ranks_max);

#endif

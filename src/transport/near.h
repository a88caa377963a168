/* Which of a host's network devices each of its ranks uses first: the nearest, where that divides the devices evenly. */
#ifndef WEFT_NEAR_H
#define WEFT_NEAR_H

#include <weft/transport.h>

#include "base/base.h"

typedef struct weft_near_device {
    const char *name;          /* as config->distances knows it */
    uint32_t speed_Mbps;       /* 0: unknown */
    bool far;                  /* out: better left to ranks that are nearer to it */
} weft_near_device;

/* Ranks of one host that ask with the same devices are told the same division. Nothing is far where distances are unknown, where
 * all are equal, or where all ranks keeping to their nearest would leave a device with less to do than others: then all devices
 * are for all ranks. */
weft_status weft_near_divide(const weft_transport_config *config, weft_near_device *device, int count);

#endif

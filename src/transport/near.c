/* Dividing a host's network devices among its ranks by distance. A device across the interconnect of processors costs each byte
 * that crossing; a device without work costs its whole bandwidth. So ranks keep to the nearest only where the load stays even. */
#include "transport/near.h"

#include <string.h>

/* The busiest device may have that much more to do, for its speed, than all together. */
#define UNEVEN_MOST 1.1

typedef struct division {
    weft_near_device *device;
    int count, ranks;
    int *distance;             /* [device * ranks + rank], -1: unknown */
    double *load;              /* of each device, when every rank brings the same */
    double speed_sum;          /* of devices whose distance is known */
} division;

static double speed_of(const division *d, int device)
{
    for (int i = 0; i < d->count; i++) /* one that is unknown makes them all count alike */
        if (d->device[i].speed_Mbps == 0)
            return 1;
    return d->device[device].speed_Mbps;
}

static bool is_known(const division *d, int device)
{
    for (int r = 0; r < d->ranks; r++)
        if (d->distance[device * d->ranks + r] < 0)
            return false;
    return true;
}

static int nearest(const division *d, int rank)
{
    int least = -1;
    for (int i = 0; i < d->count; i++) {
        int distance = d->distance[i * d->ranks + rank];
        if (is_known(d, i) && (least < 0 || distance < least))
            least = distance;
    }
    return least;
}

/* Each rank's bytes over the devices that are nearest to it, by their speeds. */
static void add_load(division *d, int rank)
{
    int least = nearest(d, rank);
    double sum = 0;
    for (int i = 0; i < d->count; i++)
        if (is_known(d, i) && d->distance[i * d->ranks + rank] == least)
            sum += speed_of(d, i);
    for (int i = 0; i < d->count; i++)
        if (is_known(d, i) && d->distance[i * d->ranks + rank] == least)
            d->load[i] += speed_of(d, i) / sum;
}

static bool is_even(const division *d)
{
    for (int i = 0; i < d->count; i++)
        if (is_known(d, i) && d->load[i] / speed_of(d, i) > UNEVEN_MOST * d->ranks / d->speed_sum)
            return false;
    return true;
}

weft_status weft_near_divide(const weft_transport_config *config, weft_near_device *device, int count)
{
    division d = {.device = device, .count = count, .ranks = config->host_ranks};
    for (int i = 0; i < count; i++)
        device[i].far = false;
    if (!config->distances || d.ranks < 2 || count < 2)
        return WEFT_OK;
    d.distance = weft_alloc_array((size_t)count * (size_t)d.ranks, sizeof *d.distance);
    d.load = weft_alloc_array((size_t)count, sizeof *d.load);
    if (!d.distance || !d.load) {
        weft_free(d.distance);
        weft_free(d.load);
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the distances of %d devices from %d ranks", count, d.ranks);
    }
    for (int i = 0; i < count; i++)
        config->distances(config->distances_context, device[i].name, &d.distance[i * d.ranks]);
    for (int i = 0; i < count; i++)
        d.speed_sum += is_known(&d, i) ? speed_of(&d, i) : 0;
    for (int r = 0; r < d.ranks; r++)
        add_load(&d, r);
    int least = nearest(&d, 0);
    for (int i = 0; i < count && is_even(&d); i++)
        device[i].far = is_known(&d, i) && d.distance[i * d.ranks] > least;
    weft_free(d.distance);
    weft_free(d.load);
    return WEFT_OK;
}

/* The routes of a process group: reads the list of transports, opens them, exchanges their addresses and gives each peer the
 * first that reaches it. Slices are the wire's (collectives/wire.c). */
#include "core/routes.h"

#include <stdio.h>
#include <string.h>

enum { SHM_SLICE_BYTES = 32 << 10 };

/* ---- the list ---------------------------------------------------------------------------------- */

bool weft_routes_chosen(const weft_route_choice *choice, const char *name)
{
    for (int i = 0; i < choice->count; i++)
        if (strcmp(choice->entries[i].name, name) == 0)
            return true;
    return false;
}

static weft_status add(weft_route_choice *choice, const char *list, const char *name, size_t length, bool optional)
{
    char text[WEFT_TRANSPORT_NAME];
    const weft_transport_ops *ops;
    if (length == 0 || length >= sizeof text)
        return weft_fail(WEFT_ERR_INVALID, "transports '%s': '%.*s' is no transport", list, (int)weft_min_size(length, 60), name);
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    if (weft_routes_chosen(choice, text))
        return WEFT_OK;
    if (choice->count == WEFT_WIRE_ROUTES)
        return weft_fail(WEFT_ERR_INVALID, "transports '%s': more than %d", list, WEFT_WIRE_ROUTES);
    weft_status status = weft_transport_get(text, &ops);
    if (status != WEFT_OK)
        return weft_fail_context(status, "transports '%s'", list);
    memcpy(choice->entries[choice->count].name, text, sizeof text);
    choice->entries[choice->count++].optional = optional;
    return WEFT_OK;
}

weft_status weft_routes_choose(const char *list, bool net_plugin, weft_route_choice *choice)
{
    weft_status status = WEFT_OK;
    memset(choice, 0, sizeof *choice);
    for (const char *at = list; *at && status == WEFT_OK;) {
        size_t length = strcspn(at, ",");
        const char *name = NULL;
        bool optional = false, automatic = length == 4 && memcmp(at, "auto", 4) == 0;
        for (int i = 0; automatic && status == WEFT_OK && (name = weft_transport_auto(i, net_plugin, &optional)); i++)
            status = add(choice, list, name, strlen(name), optional);
        if (!automatic)
            status = add(choice, list, at, length, false);
        at += length + (at[length] == ',');
    }
    return status;
}

/* ---- opening ----------------------------------------------------------------------------------- */

/* For transports: how far a network device is from the ranks of this host, this one first. */
static void find_distances(void *context, const char *device, int *distance)
{
    const weft_engine *e = context;
    const int *ranks = weft_host_ranks(e->host);
    int count = weft_host_size(e->host), own = weft_host_index(e->host);
    weft_device_place place;
    if (e->machine)
        weft_device_find(e->machine, device, &place);
    else
        weft_device_read("", device, &place);
    for (int i = 0; i < count; i++)
        distance[i] = weft_device_distance(&place, &e->location[ranks[(own + i) % count]]);
}

static weft_status open_route(weft_engine *e, const char *name)
{
    const weft_transport_ops *ops;
    weft_status status = weft_transport_get(name, &ops);
    if (status != WEFT_OK)
        return status;
    weft_transport_config config = {.size = sizeof config, .rank = e->rank, .ranks = e->ranks,
                                    .job = weft_control_job(e->control), .sink = weft_wire_sink(&e->wire),
                                    .interfaces = e->settings.interfaces, .port_range = e->settings.port_range,
                                    .sockets = (int)e->settings.sockets, .dead_peer_ms = e->settings.dead_peer, .host = e->host,
                                    .net_plugin = e->settings.net_plugin, .fail = weft_transport_fail, .log = weft_transport_log,
                                    .host_ranks = weft_host_size(e->host), .distances = find_distances, .distances_context = e};
    weft_wire_route *r = &e->wire.routes[e->wire.route_count];
    *r = (weft_wire_route){.ops = ops};
    status = ops->open(&config, &r->transport);
    if (status != WEFT_OK)
        return weft_fail_context(status, "opening transport %s", name);
    e->wire.route_count++;
    r->slice_bytes = strcmp(name, "shm") == 0 ? SHM_SLICE_BYTES : WEFT_SLICE_MOST_BYTES;
    r->least_slice_bytes = r->slice_bytes;
    return WEFT_OK;
}

weft_status weft_routes_open(weft_engine *e, const weft_route_choice *choice)
{
    bool one_host = weft_host_size(e->host) == e->ranks, after_shm = false;
    for (int i = 0; i < choice->count; i++) {
        const char *name = choice->entries[i].name;
        bool shm = strcmp(name, "shm") == 0;
        after_shm |= shm;
        if (shm ? weft_host_size(e->host) == 1 : one_host && after_shm)
            continue;
        weft_status status = open_route(e, name);
        if (status != WEFT_OK && (!choice->entries[i].optional || status == WEFT_ERR_MEMORY))
            return status;
        if (status != WEFT_OK)
            weft_log(WEFT_LOG_INFO, "transport %s is not used: %s", name, weft_last_error());
    }
    return WEFT_OK;
}

/* ---- addresses --------------------------------------------------------------------------------- */

/* What a rank has opened; sent as bytes between equal builds. */
typedef struct route_offer {
    char name[WEFT_TRANSPORT_NAME];
    uint32_t bytes; /* of its address */
} route_offer;

typedef struct route_offers {
    route_offer each[WEFT_WIRE_ROUTES];
} route_offers;

static size_t offered_bytes(const route_offers *offers)
{
    size_t sum = 0;
    for (int i = 0; i < WEFT_WIRE_ROUTES; i++)
        sum += weft_min_size(offers->each[i].bytes, WEFT_TRANSPORT_ADDRESS_MAX);
    return sum;
}

/* This rank's addresses one after another, and the list that says what they are. */
static weft_status own_addresses(weft_engine *e, route_offers *offers, unsigned char *packed)
{
    memset(offers, 0, sizeof *offers);
    for (int i = 0; i < e->wire.route_count; i++) {
        const weft_wire_route *r = &e->wire.routes[i];
        size_t bytes = WEFT_TRANSPORT_ADDRESS_MAX;
        weft_status status = r->ops->address(r->transport, packed, &bytes);
        if (status != WEFT_OK)
            return weft_fail_context(status, "the address of transport %s", r->ops->name);
        snprintf(offers->each[i].name, sizeof offers->each[i].name, "%s", r->ops->name);
        offers->each[i].bytes = (uint32_t)bytes;
        packed += bytes;
    }
    return WEFT_OK;
}

/* The place of a transport's address among those that a rank offers; NULL: it has none. */
static const unsigned char *find_offer(const route_offers *offers, const char *name, const unsigned char *packed, size_t *bytes)
{
    for (int i = 0; i < WEFT_WIRE_ROUTES; i++) {
        *bytes = weft_min_size(offers->each[i].bytes, WEFT_TRANSPORT_ADDRESS_MAX);
        if (strncmp(offers->each[i].name, name, sizeof offers->each[i].name) == 0)
            return packed;
        packed += *bytes;
    }
    *bytes = 0;
    return NULL;
}

static weft_status keep_addresses(weft_engine *e, weft_wire_route *r, const route_offers *offers, const unsigned char *all,
                                  size_t stride)
{
    size_t bytes, longest = 1;
    for (int p = 0; p < e->ranks; p++) {
        find_offer(&offers[p], r->ops->name, all + (size_t)p * stride, &bytes);
        longest = weft_max_size(longest, bytes);
    }
    r->address_stride = longest;
    r->addresses = weft_alloc_array((size_t)e->ranks, longest);
    r->address_bytes = weft_alloc_array((size_t)e->ranks, sizeof *r->address_bytes);
    if (!r->addresses || !r->address_bytes)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the addresses of %d ranks", e->ranks);
    for (int p = 0; p < e->ranks; p++) {
        const unsigned char *address = find_offer(&offers[p], r->ops->name, all + (size_t)p * stride, &bytes);
        r->address_bytes[p] = (uint32_t)bytes;
        if (address)
            memcpy(r->addresses + (size_t)p * longest, address, bytes);
    }
    return WEFT_OK;
}

/* Two rounds: what each has and how long it is, then the addresses themselves, as long as the longest. */
weft_status weft_routes_exchange(weft_engine *e, int64_t deadline_ns)
{
    size_t capacity = (size_t)WEFT_WIRE_ROUTES * WEFT_TRANSPORT_ADDRESS_MAX, stride = 0;
    route_offers own;
    unsigned char *packed = weft_alloc(capacity), *all = NULL;
    route_offers *offers = weft_alloc_array((size_t)e->ranks, sizeof *offers);
    weft_status status = packed && offers ? own_addresses(e, &own, packed)
                                          : weft_fail(WEFT_ERR_MEMORY, "no memory for the addresses of %d ranks", e->ranks);
    if (status == WEFT_OK)
        status = weft_control_allgather(e->control, &own, offers, sizeof own, deadline_ns);
    for (int p = 0; p < e->ranks && status == WEFT_OK; p++)
        stride = weft_max_size(stride, offered_bytes(&offers[p]));
    if (status == WEFT_OK && stride > 0) {
        all = weft_alloc_array((size_t)e->ranks, stride);
        status = all ? weft_control_allgather(e->control, packed, all, stride, deadline_ns)
                     : weft_fail(WEFT_ERR_MEMORY, "no memory for the addresses of %d ranks", e->ranks);
    }
    for (int i = 0; i < e->wire.route_count && status == WEFT_OK; i++)
        status = keep_addresses(e, &e->wire.routes[i], offers, all, stride);
    weft_free(all);
    weft_free(offers);
    weft_free(packed);
    return status;
}

/* ---- selection --------------------------------------------------------------------------------- */

static void note_worst(weft_agreed *worst, double latency_ns, double bandwidth_Bps)
{
    if (bandwidth_Bps <= 0)
        return;
    worst->latency_ns = latency_ns > worst->latency_ns ? latency_ns : worst->latency_ns;
    if (worst->bandwidth_Bps <= 0 || bandwidth_Bps < worst->bandwidth_Bps)
        worst->bandwidth_Bps = bandwidth_Bps;
}

weft_status weft_routes_select(weft_engine *e)
{
    for (int p = 0; p < e->ranks; p++) {
        if (p == e->rank)
            continue;
        weft_clear_error();
        for (int i = 0; i < e->wire.route_count && !e->wire.peers[p].route; i++) {
            weft_wire_route *r = &e->wire.routes[i];
            weft_path_info path = {0};
            if (r->ops->reachable(r->transport, p, r->addresses + (size_t)p * r->address_stride, r->address_bytes[p], &path) !=
                WEFT_OK)
                continue;
            e->wire.peers[p].route = r;
            r->peers++;
            if (strcmp(r->ops->name, "shm") != 0) {
                note_worst(&e->agreed, path.latency_ns, path.bandwidth_Bps);
                r->least_slice_bytes = weft_min_size(r->least_slice_bytes, weft_slice_least(path.bandwidth_Bps));
            }
        }
        if (!e->wire.peers[p].route) {
            char why[256];
            snprintf(why, sizeof why, "%s", weft_last_error());
            return weft_fail(WEFT_ERR_UNSUPPORTED, "no transport of '%s' reaches rank %d from rank %d%s%s",
                             e->settings.transports, p, e->rank, *why ? ": " : "", why);
        }
    }
    for (int i = 0; i < e->wire.route_count; i++) {
        weft_wire_route *r = &e->wire.routes[i];
        int fd = r->ops->wait_fd(r->transport);
        if (r->peers > 0 && fd >= 0)
            e->wait_fds[e->wait_fd_count++] = fd;
    }
    return WEFT_OK;
}

weft_status weft_routes_agree(weft_engine *e, int64_t deadline_ns)
{
    double mine[2] = {e->agreed.latency_ns, e->agreed.bandwidth_Bps};
    double *all = weft_alloc_array((size_t)e->ranks, sizeof mine);
    if (!all)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the paths of %d ranks", e->ranks);
    weft_status status = weft_control_allgather(e->control, mine, all, sizeof mine, deadline_ns);
    for (int r = 0; r < e->ranks && status == WEFT_OK; r++)
        note_worst(&e->agreed, all[2 * r], all[2 * r + 1]);
    weft_free(all);
    return status;
}

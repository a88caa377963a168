/* Rendezvous kinds: how the address of the meeting's server reaches the ranks by URL (tcp://, file://), unique id,
 * the caller's all-gather or the caller's store. The meeting itself is rendezvous_server.c's and rendezvous_guest.c's. */
#include "core/rendezvous.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "core/rendezvous_file.h"
#include "core/rendezvous_url.h"

enum { FIRST_PATIENCE_MS = 1000, REFUSE_MS = 2000, DOUBLE_PATIENCE_MS = 500, BIND_TRIES = 10, BIND_PAUSE_MS = 50 };
enum { CARD_BYTES = 8 + 8 + WEFT_ENDPOINT_BYTES };
static const uint8_t id_magic[8] = { 'W', 'E', 'F', 'T', 'i', 'd', '0', '1' };
_Static_assert(8 + 8 + 3 + WEFT_ID_ADDRESSES * WEFT_ADDRESS_BYTES <= WEFT_UNIQUE_ID_BYTES, "an id must hold its addresses");

/* What a guest's find needs. */
typedef struct finding {
    const weft_control_config *config;
    weft_guest *guest;
    weft_url url;
    weft_file_place file;
    uint16_t own_port;          /* rank 0: of its own server, reached by loopback */
    weft_endpoint endpoint;     /* id, all-gather */
    bool exchanged;             /* the caller's all-gather is over: it is to be called once */
    char place[640];
} finding;

static void add_endpoint(weft_meeting_places *places, const weft_endpoint *endpoint)
{
    places->count += weft_control_sockaddrs(endpoint, places->address + places->count, WEFT_MEETING_PLACES - places->count);
}

static void add_loopback(weft_meeting_places *places, uint16_t port)
{
    weft_endpoint endpoint = { .port = port, .count = 2 };
    endpoint.addresses[0].family = 4;
    memcpy(endpoint.addresses[0].bytes, (uint8_t[]){ 127, 0, 0, 1 }, 4);
    endpoint.addresses[1].family = 6;
    endpoint.addresses[1].bytes[15] = 1;
    add_endpoint(places, &endpoint);
}

static weft_status find_endpoint(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    finding *f = context;
    (void)deadline_ns;
    if (f->own_port != 0)
        add_loopback(places, f->own_port);
    add_endpoint(places, &f->endpoint);
    return WEFT_OK;
}

static weft_status find_url(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    finding *f = context;
    if (f->own_port != 0)
        return find_endpoint(context, places, deadline_ns);
    return weft_url_resolve(&f->url, places);
}

static weft_status find_file(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    finding *f = context;
    if (f->own_port != 0)
        return find_endpoint(context, places, deadline_ns);
    weft_endpoint endpoint;
    weft_status status = weft_file_read(f->url.path, &endpoint, &places->token);
    if (status == WEFT_OK)
        add_endpoint(places, &endpoint);
    return status;
}

/* ---- cards: what an all-gather or a store carries -------------------------------------------------- */

static void card_encode(uint64_t token, const weft_endpoint *endpoint, uint8_t out[CARD_BYTES])
{
    memcpy(out, id_magic, 8);
    for (int i = 0; i < 8; i++)
        out[8 + i] = (uint8_t)(token >> (8 * i));
    weft_endpoint_encode(endpoint, WEFT_ENDPOINT_ADDRESSES, out + 16);
}

static bool card_decode(const uint8_t *in, int limit, uint64_t *token, weft_endpoint *endpoint)
{
    *token = 0;
    for (int i = 0; i < 8; i++)
        *token |= (uint64_t)in[8 + i] << (8 * i);
    return memcmp(in, id_magic, 8) == 0 && weft_endpoint_decode(endpoint, limit, in + 16) && endpoint->count > 0;
}

static weft_status find_store(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    finding *f = context;
    const weft_store *store = f->config->store;
    uint8_t card[CARD_BYTES] = { 0 };
    char key[256];
    size_t bytes = sizeof card;
    weft_endpoint endpoint;
    if (f->own_port != 0)
        return find_endpoint(context, places, deadline_ns);
    snprintf(key, sizeof key, "%sweft/root", store->prefix != NULL ? store->prefix : "");
    int64_t left_ms = deadline_ns == WEFT_NEVER ? -1 : (deadline_ns - weft_now_ns()) / WEFT_NS_PER_MS;
    int result = store->get(store->context, key, card, &bytes, left_ms);
    if (result != 0)
        return weft_fail(WEFT_ERR_TIMEOUT, "the store's get of '%s' returned %d", key, result);
    if (bytes != sizeof card || !card_decode(card, WEFT_ENDPOINT_ADDRESSES, &places->token, &endpoint))
        return weft_fail(WEFT_ERR_TIMEOUT, "the store's '%s' is not what rank 0 writes there", key);
    add_endpoint(places, &endpoint);
    return WEFT_OK;
}

/* ---- rank 0's server -------------------------------------------------------------------------------- */

typedef struct taken_ports {
    uint16_t low, high;
} taken_ports;

static weft_status find_taken(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    const taken_ports *taken = context;
    (void)deadline_ns;
    for (uint32_t port = taken->low; port <= taken->high; port++)
        add_loopback(places, (uint16_t)port);
    return WEFT_OK;
}

/* If it is another rank 0 of this group that has those ports, joining it is the way to tell everybody. WEFT_OK: it is not. */
static weft_status find_double(const weft_control_config *config, uint16_t low, uint16_t high, uint64_t token)
{
    taken_ports taken = { low, high };
    weft_meeting_result result;
    int64_t soon = weft_deadline_ns(REFUSE_MS);
    weft_guest guest = { .rank = config->rank, .size = config->size, .place = "of another rank 0", .find = find_taken,
                         .context = &taken, .token = token, .listener = -1, .once = true, .patience_ms = DOUBLE_PATIENCE_MS,
                         .greeting_patience_ms = DOUBLE_PATIENCE_MS,
                         .deadline_ns = soon < config->deadline_ns ? soon : config->deadline_ns };
    char kept[WEFT_MEETING_TEXT_BYTES];
    snprintf(kept, sizeof kept, "%s", weft_last_error());
    weft_status status = weft_meeting_join(&guest, &result);
    if (status == WEFT_ERR_MISMATCH)
        return status;
    if (status == WEFT_OK)
        weft_meeting_release(&result);
    weft_clear_error();
    if (kept[0] != 0)
        weft_fail(WEFT_ERR_SYSTEM, "%s", kept);
    return WEFT_OK;
}

static weft_status serve(const weft_control_config *config, uint16_t low, uint16_t high, uint64_t token,
                         finding *f, weft_meeting_server **server)
{
    int listener;
    weft_meeting_stop_lingering(low, high);
    weft_status status = weft_control_listen(low, high, &listener, &f->own_port);
    /* Somebody's outgoing connection may have the port for a moment. */
    for (int i = 0; status != WEFT_OK && errno == EADDRINUSE && i < BIND_TRIES; i++) {
        poll(NULL, 0, BIND_PAUSE_MS);
        status = weft_control_listen(low, high, &listener, &f->own_port);
    }
    bool none = status != WEFT_OK && errno == EADDRINUSE, known = config->kind == WEFT_RENDEZVOUS_URL && f->url.path[0] == 0;
    if (known && (none || (status == WEFT_OK && f->own_port > low))) {
        weft_status found = find_double(config, low, none ? high : (uint16_t)(f->own_port - 1), token);
        if (found != WEFT_OK && status == WEFT_OK)
            weft_control_close(listener);
        if (found != WEFT_OK)
            return found;
    }
    if (status != WEFT_OK)
        return status;
    weft_meeting_config meeting = { .listener = listener, .size = config->size, .token = token,
                                    .deadline_ns = config->deadline_ns };
    return weft_meeting_serve(&meeting, server);
}

/* A server at any port, with its addresses. */
static weft_status serve_anywhere(const weft_control_config *config, uint64_t token, finding *f, weft_meeting_server **server)
{
    uint16_t low, high;
    weft_status status = weft_control_parse_ports(config->port_range, &low, &high);
    if (status == WEFT_OK)
        status = weft_control_addresses(config->interfaces, &f->endpoint);
    if (status == WEFT_OK)
        status = serve(config, low, high, token, f, server);
    f->endpoint.port = f->own_port;
    return status;
}

static weft_status prepare_url(const weft_control_config *config, finding *f, weft_meeting_server **server)
{
    weft_status status = weft_url_parse(config->url, &f->url);
    if (status != WEFT_OK)
        return status;
    snprintf(f->place, sizeof f->place, "%s", config->url);
    const char *token = config->token != NULL ? config->token : "";
    f->guest->token = weft_hash(token, strlen(token), 0);
    f->guest->find = f->url.path[0] != 0 ? find_file : find_url;
    if (config->rank != 0)
        return WEFT_OK;
    if (f->url.path[0] == 0) {
        uint16_t high = (uint16_t)(f->url.port + f->url.more_ports);
        status = serve(config, f->url.port, high, f->guest->token, f, server);
        return status == WEFT_OK ? status : weft_fail_context(status, "meeting place %s", config->url);
    }
    f->guest->token = weft_random64();
    status = serve_anywhere(config, f->guest->token, f, server);
    return status == WEFT_OK ? weft_file_write(&f->file, f->url.path, &f->endpoint, f->guest->token) : status;
}

static weft_status prepare_id(const weft_control_config *config, finding *f)
{
    if (config->id == NULL || !card_decode((const uint8_t *)config->id->bytes, WEFT_ID_ADDRESSES, &f->guest->token,
                                           &f->endpoint))
        return weft_fail(WEFT_ERR_INVALID, "this is no unique id: it must come from weft_get_unique_id");
    f->guest->find = find_endpoint;
    snprintf(f->place, sizeof f->place, "of the unique id (port %u of the process that made it; an id serves once)",
             f->endpoint.port);
    return WEFT_OK;
}

static weft_status prepare_allgather(const weft_control_config *config, finding *f, weft_meeting_server **server)
{
    uint8_t own[CARD_BYTES] = { 0 };
    weft_status status = WEFT_OK;
    uint8_t *all = weft_alloc_array((size_t)config->size, CARD_BYTES);
    if (all == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the addresses of %d ranks", config->size);
    if (config->rank == 0) {
        f->guest->token = weft_random64();
        status = serve_anywhere(config, f->guest->token, f, server);
        if (status == WEFT_OK)
            card_encode(f->guest->token, &f->endpoint, own);
    }
    /* Also after a failure here: the others wait for this rank's part. */
    f->exchanged = true;
    int result = config->allgather(config->allgather_context, own, all, CARD_BYTES);
    f->guest->find = find_endpoint;
    snprintf(f->place, sizeof f->place, "of rank 0 (told by the caller's all-gather)");
    if (status == WEFT_OK && result != 0)
        status = weft_fail(WEFT_ERR_SYSTEM, "the caller's all-gather returned %d", result);
    else if (status == WEFT_OK && config->rank != 0 &&
             !card_decode(all, WEFT_ENDPOINT_ADDRESSES, &f->guest->token, &f->endpoint))
        status = weft_fail(WEFT_ERR_PEER, "rank 0 could not open a meeting place, or the caller's all-gather did not "
                           "carry what rank 0 gave");
    weft_free(all);
    return status;
}

static weft_status prepare_store(const weft_control_config *config, finding *f, weft_meeting_server **server)
{
    const weft_store *store = config->store;
    uint8_t card[CARD_BYTES];
    char key[256];
    f->guest->find = find_store;
    snprintf(f->place, sizeof f->place, "of rank 0 (told by the key-value store)");
    if (config->rank != 0)
        return WEFT_OK;
    snprintf(key, sizeof key, "%sweft/root", store->prefix != NULL ? store->prefix : "");
    f->guest->token = weft_random64();
    weft_status status = serve_anywhere(config, f->guest->token, f, server);
    if (status != WEFT_OK)
        return status;
    card_encode(f->guest->token, &f->endpoint, card);
    int result = store->set(store->context, key, card, sizeof card);
    return result == 0 ? WEFT_OK : weft_fail(WEFT_ERR_SYSTEM, "the store's set of '%s' returned %d", key, result);
}

static weft_status prepare(const weft_control_config *config, finding *f, weft_meeting_server **server)
{
    switch (config->kind) {
    case WEFT_RENDEZVOUS_ID: return prepare_id(config, f);
    case WEFT_RENDEZVOUS_URL: return prepare_url(config, f, server);
    case WEFT_RENDEZVOUS_ALLGATHER: return prepare_allgather(config, f, server);
    case WEFT_RENDEZVOUS_STORE: return prepare_store(config, f, server);
    }
    return weft_fail(WEFT_ERR_INTERNAL, "unknown rendezvous kind %d", (int)config->kind);
}

static weft_status open_own_listener(const weft_control_config *config, int *listener, weft_endpoint *listen)
{
    uint16_t low, high;
    weft_status status = weft_control_parse_ports(config->port_range, &low, &high);
    if (status == WEFT_OK)
        status = weft_control_addresses(config->interfaces, listen);
    if (status == WEFT_OK)
        status = weft_control_listen(low, high, listener, &listen->port);
    return status;
}

static weft_guest guest_of(const weft_control_config *config, int64_t deadline_ns)
{
    return (weft_guest){ .rank = config->rank, .size = config->size, .deadline_ns = deadline_ns, .listener = -1,
                         .patience_ms = FIRST_PATIENCE_MS, .greeting_patience_ms = FIRST_PATIENCE_MS };
}

/* Tells the others the thread's error: joins where they meet (found: how is known), or, as rank 0, opens the meeting place
 * after all. A rank that lacked memory may have it again by now. */
static void refuse(finding *f, weft_status found, weft_status status)
{
    const weft_control_config *config = f->config;
    char reason[WEFT_MEETING_TEXT_BYTES];
    weft_meeting_server *server = NULL;
    weft_meeting_result result;
    int64_t soon = weft_deadline_ns(REFUSE_MS);
    weft_guest *guest = f->guest;
    snprintf(reason, sizeof reason, "%s", weft_last_error());
    guest->deadline_ns = soon < config->deadline_ns ? soon : config->deadline_ns;
    guest->refusal = status;
    guest->reason = reason;
    if (found != WEFT_OK && !f->exchanged && found == WEFT_ERR_MEMORY)
        found = prepare(config, f, &server);
    if (server != NULL) {
        weft_fail(status, "rank %d: %.400s", config->rank, reason);
        weft_meeting_finish(server, status);
        weft_file_remove(&f->file);
    } else if (found == WEFT_OK && weft_meeting_join(guest, &result) == WEFT_OK) {
        weft_meeting_release(&result);
    }
    weft_fail(status, "%s", reason);
}

void weft_rendezvous_refuse(const weft_control_config *config, weft_status status)
{
    weft_guest guest = guest_of(config, config->deadline_ns);
    finding f = { .config = config, .guest = &guest };
    guest.place = f.place;
    guest.context = &f;
    refuse(&f, WEFT_ERR_MEMORY, status);
}

weft_status weft_rendezvous_meet(const weft_control_config *config, int *listener, weft_endpoint *listen,
                                 weft_meeting_result *result)
{
    weft_guest guest = guest_of(config, config->deadline_ns);
    finding f = { .config = config, .guest = &guest };
    weft_meeting_server *server = NULL;
    guest.place = f.place;
    guest.context = &f;
    *listener = -1;
    weft_status prepared = prepare(config, &f, &server), status = prepared;
    if (status == WEFT_OK)
        status = open_own_listener(config, listener, listen);
    if (status == WEFT_OK) {
        guest.listener = *listener;
        guest.listen = *listen;
        status = weft_meeting_join(&guest, result);
    } else if (server == NULL) {
        refuse(&f, prepared, status);
    }
    if (server != NULL)
        weft_meeting_finish(server, status);
    if (server != NULL && status == WEFT_ERR_TIMEOUT && config->kind == WEFT_RENDEZVOUS_URL) /* perhaps they look elsewhere */
        weft_fail_context(status, "meeting place %s", config->url);
    weft_file_remove(&f.file);
    if (status != WEFT_OK) {
        weft_control_close(*listener);
        *listener = -1;
    }
    return status;
}

weft_status weft_get_unique_id(weft_unique_id *id)
{
    uint8_t bytes[WEFT_UNIQUE_ID_BYTES] = { 0 };
    weft_settings settings = { 0 };
    weft_endpoint endpoint = { 0 };
    weft_meeting_server *server;
    uint16_t low, high;
    int listener;
    weft_clear_error();
    weft_hold_standard_streams();
    if (id == NULL)
        return weft_fail(WEFT_ERR_INVALID, "weft_get_unique_id: id is NULL");
    weft_status status = weft_settings_load(&settings);
    if (status == WEFT_OK)
        status = weft_control_parse_ports(settings.port_range, &low, &high);
    if (status == WEFT_OK)
        status = weft_control_addresses(settings.interfaces, &endpoint);
    if (status == WEFT_OK)
        status = weft_control_listen(low, high, &listener, &endpoint.port);
    weft_settings_unload(&settings);
    if (status != WEFT_OK)
        return status;
    uint64_t token = weft_random64();
    weft_meeting_config meeting = { .listener = listener, .token = token, .deadline_ns = WEFT_NEVER };
    status = weft_meeting_serve(&meeting, &server);
    if (status != WEFT_OK)
        return status;
    weft_meeting_leave(server);
    memcpy(bytes, id_magic, 8);
    for (int i = 0; i < 8; i++)
        bytes[8 + i] = (uint8_t)(token >> (8 * i));
    weft_endpoint_encode(&endpoint, WEFT_ID_ADDRESSES, bytes + 16);
    memcpy(id->bytes, bytes, sizeof bytes);
    return WEFT_OK;
}

/* The survivors' meeting after a failure. Its place is the listener of the lowest rank that lives, which every rank has
 * known since creation; who lives is proven by connections (rendezvous_probe.c), so that ranks that have heard of different
 * deaths come to one list. If that rank dies too, the next one takes over and all begin again. */
#include <string.h>

#include "core/control_object.h"

enum { LISTEN_TRIES = 64 };

typedef struct shrinking {
    weft_control *c;
    uint64_t *gone;          /* dead or left, as far as this rank knows */
    int leader;
    weft_guest guest;
    weft_meeting_server *server;
    char place[80];
} shrinking;

static bool is_gone(const shrinking *s, int rank)
{
    return (s->gone[rank / 64] >> (rank % 64) & 1) != 0;
}

static weft_status find_leader(void *context, weft_meeting_places *places, int64_t deadline_ns)
{
    shrinking *s = context;
    (void)deadline_ns;
    places->count = weft_control_sockaddrs(&s->c->endpoints[s->leader], places->address, WEFT_MEETING_PLACES);
    return WEFT_OK;
}

static weft_status serve_as_leader(shrinking *s, int64_t deadline_ns)
{
    weft_control *c = s->c;
    weft_meeting_config config = { .listener = c->listener, .size = c->size, .token = s->guest.token,
                                   .deadline_ns = deadline_ns, .survivors = true, .endpoints = c->endpoints,
                                   .dead = s->gone, .self = c->rank, .dead_peer_ms = c->dead_peer_ms };
    return s->server == NULL ? weft_meeting_serve(&config, &s->server) : WEFT_OK;
}

/* One leader after the other until there is a meeting, an error or no time left. */
static weft_status meet(shrinking *s, int64_t deadline_ns, weft_meeting_result *result)
{
    weft_control *c = s->c;
    size_t words = ((size_t)c->size + 63) / 64;
    uint64_t *dead = weft_alloc_array(words, sizeof *dead);
    if (dead == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the list of survivors");
    weft_status status;
    do {
        weft_control_dead(c, dead);
        for (size_t i = 0; i < words; i++)
            s->gone[i] |= dead[i];
        s->gone[c->rank / 64] &= ~(1ull << (c->rank % 64));
        for (s->leader = 0; is_gone(s, s->leader); s->leader++)
            ;
        snprintf(s->place, sizeof s->place, "of the survivors at rank %d", s->leader);
        status = s->leader == c->rank ? serve_as_leader(s, deadline_ns) : WEFT_OK;
        if (status == WEFT_OK)
            status = weft_meeting_join(&s->guest, result);
        if (status != WEFT_ERR_PEER || s->leader == c->rank)
            continue;
        if (weft_now_ns() >= deadline_ns)
            status = weft_fail(WEFT_ERR_TIMEOUT, "rank %d, the first survivor, did not take part in the shrink in time",
                               s->leader);
        else
            s->gone[s->leader / 64] |= 1ull << (s->leader % 64);
    } while (status == WEFT_IN_PROGRESS || (status == WEFT_ERR_PEER && s->leader != c->rank));
    weft_free(dead);
    return status;
}

static weft_status check_survivors(const weft_control *c, const weft_meeting_result *result, bool *alive)
{
    int survivors = 0;
    for (int r = 0; r < c->size; r++) {
        alive[r] = c->size == 1 || ((size_t)r / 8 < result->alive_bytes && (result->alive[r / 8] >> (r % 8) & 1) != 0);
        survivors += alive[r];
    }
    return survivors == result->size && alive[c->rank] ? WEFT_OK :
           weft_fail(WEFT_ERR_PEER, "the survivors' meeting sent a malformed list");
}

static bool was_a_members(const weft_control *c, uint16_t port)
{
    for (int r = 0; r < c->size; r++) {
        if (c->endpoints[r].port == port)
            return true;
    }
    return false;
}

/* A new listener at a port that no rank has or had: who finds somebody listening at a dead rank's port takes it for alive. */
static weft_status listen_apart(const weft_control *c, uint16_t low, uint16_t high, int *listener, uint16_t *port)
{
    int held[LISTEN_TRIES], n = 0;
    weft_status status = weft_control_listen(low, high, listener, port);
    while (status == WEFT_OK && was_a_members(c, *port) && n < LISTEN_TRIES) {
        held[n++] = *listener;
        status = weft_control_listen(low, high, listener, port);
    }
    while (n > 0)
        weft_control_close(held[--n]);
    /* Where there is no other port, one of the dead must do. */
    return status == WEFT_OK ? status : weft_control_listen(low, high, listener, port);
}

static weft_status meet_survivors(weft_control *c, int64_t deadline_ns, int *listener, weft_endpoint *listen,
                                  weft_meeting_result *result)
{
    uint16_t low, high;
    weft_status status = weft_control_parse_ports(c->port_range, &low, &high);
    if (status == WEFT_OK)
        status = weft_control_addresses(c->interfaces, listen);
    if (status == WEFT_OK)
        status = listen_apart(c, low, high, listener, &listen->port);
    if (status != WEFT_OK)
        return status;
    shrinking s = { .c = c };
    s.gone = weft_alloc_array(((size_t)c->size + 63) / 64, sizeof *s.gone);
    if (s.gone == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the list of survivors");
    s.guest = (weft_guest){ .rank = c->rank, .size = c->size, .place = s.place, .find = find_leader, .context = &s,
                            .token = weft_hash(&c->job, sizeof c->job, 1), .deadline_ns = deadline_ns, .once = true,
                            .patience_ms = c->dead_peer_ms > 0 ? c->dead_peer_ms : -1, .greeting_patience_ms = -1,
                            .listener = *listener, .listen = *listen };
    status = meet(&s, deadline_ns, result);
    if (s.server != NULL)
        weft_meeting_finish(s.server, status);
    weft_free(s.gone);
    return status;
}

weft_status weft_control_shrink(weft_control *c, int64_t deadline_ns, weft_notice_function notice, void *context,
                                bool *alive, weft_control **out)
{
    weft_meeting_result result = { .size = 1, .parent = -1, .children = { -1, -1, -1, -1 } };
    weft_endpoint listen = { 0 };
    int listener = -1;
    weft_control_config config = { .interfaces = c->interfaces, .port_range = c->port_range, .deadline_ns = deadline_ns,
                                   .dead_peer_ms = c->dead_peer_ms, .notice = notice, .notice_context = context };
    if (c->forks != weft_fork_count())
        return weft_fail(WEFT_ERR_USAGE, "the process has forked: only the parent may use the communicator");
    weft_status status = WEFT_OK;
    if (c->size == 1)
        result.job = weft_random64();
    else
        status = meet_survivors(c, deadline_ns, &listener, &listen, &result);
    if (status == WEFT_OK)
        status = check_survivors(c, &result, alive);
    weft_free(result.alive);
    if (status == WEFT_OK)
        return weft_control_start(&config, &result, listener, &listen, out);
    weft_meeting_release(&result);
    weft_control_close(listener);
    return status;
}

/* Communicators: building and freeing, their error state, progress, queries. Ways to meet are in create.c, split and
 * shrink in split.c. */
#include "core/comm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    GRACE_NS = 1000 * WEFT_NS_PER_MS,     /* for the last slices of a communicator in error, then connections close */
    LOSS_GRACE_NS = 500 * WEFT_NS_PER_MS, /* for the control plane to say why a connection broke */
    NUDGE_NS = 20 * WEFT_NS_PER_MS        /* without progress, before those waited for are asked */
};

/* ---- the wire's client ------------------------------------------------------------------------- */

static weft_comm *of_client(weft_wire_client *client)
{
    return container_of(client, weft_comm, client);
}

static bool is_message(const weft_incoming *in)
{
    return in->header.kind == WEFT_WIRE_MESSAGE || in->header.kind == WEFT_WIRE_MESSAGE_WANT;
}

static weft_take client_take(weft_wire_client *client, weft_incoming *in)
{
    weft_comm *c = of_client(client);
    return is_message(in) ? weft_messages_take(&c->messages, in) : weft_exec_take(&c->exec, in);
}

static void client_landed(weft_wire_client *client, weft_incoming *in)
{
    weft_comm *c = of_client(client);
    if (is_message(in))
        weft_messages_landed(&c->messages, in);
    else
        weft_exec_landed(&c->exec, in);
}

static void client_lost(weft_wire_client *client, weft_incoming *in)
{
    weft_comm *c = of_client(client);
    if (is_message(in))
        weft_messages_lost(&c->messages, in);
    else
        weft_exec_lost(&c->exec, in);
}

static void client_kept(weft_wire_client *client, weft_incoming *in)
{
    weft_comm *c = of_client(client);
    if (is_message(in))
        weft_messages_kept(&c->messages, in);
    else
        weft_exec_kept(&c->exec, in);
}

static void client_completed(weft_wire_client *client, weft_incoming *in)
{
    weft_comm *c = of_client(client);
    if (is_message(in))
        weft_messages_completed(&c->messages, in);
    else
        weft_exec_completed(&c->exec, in);
}

static void client_broken(weft_wire_client *client, int peer, weft_status status, const char *reason)
{
    weft_comm *c = of_client(client);
    weft_log(WEFT_LOG_DEBUG, "communicator %u: connection to rank %d lost: %s", client->comm, peer, reason);
    if (c->from_world[peer] >= 0 && (status == WEFT_ERR_MEMORY || status == WEFT_ERR_SYSTEM)) { /* not the peer's fault */
        char text[WEFT_ERROR_TEXT];
        snprintf(text, sizeof text, "rank %d: %.300s", c->rank, reason);
        weft_comm_set_error(c, status, c->engine->rank, text);
        return;
    }
    if (c->from_world[peer] >= 0 && (c->lost_peer < 0 || c->lost_ns == 0)) {
        c->lost_peer = peer;
        c->lost_ns = weft_now_ns();
    }
}

static void client_fault(weft_wire_client *client, weft_status status, const char *reason)
{
    weft_exec_fail(&of_client(client)->exec, status, -1, "%s", reason);
}

/* ---- errors ------------------------------------------------------------------------------------ */

/* The executor found it, in the middle of its work: only remembered here, spread by weft_comm_progress. */
static void exec_failed(void *context, weft_status status, int world_rank, const char *text)
{
    weft_comm *c = context;
    if (atomic_load_explicit(&c->error, memory_order_relaxed) != WEFT_OK)
        return;
    snprintf(c->error_text, sizeof c->error_text, "%s", text);
    c->error_rank = world_rank;
    atomic_store_explicit(&c->error, (int)status, memory_order_release);
}

void weft_comm_set_error(weft_comm *c, weft_status status, int world_rank, const char *text)
{
    exec_failed(c, status, world_rank, text);
}

/* First time after the error came up: everything under way ends, the others are told. */
static void spread_error(weft_comm *c)
{
    c->error_spread = c->engine->troubled = true;
    c->error_ns = weft_now_ns();
    weft_status status = (weft_status)atomic_load_explicit(&c->error, memory_order_relaxed);
    weft_log(WEFT_LOG_INFO, "communicator %u: %s", c->client.comm, c->error_text);
    weft_exec_abort(&c->exec, status);
    weft_messages_abort(&c->messages, status);
    if (c->from_notice)
        return;
    weft_notice notice = {.comm = c->client.comm, .status = status, .rank = c->error_rank, .reporter = c->engine->rank};
    snprintf(notice.text, sizeof notice.text, "%.*s", (int)sizeof notice.text - 1, c->error_text);
    weft_control_report(c->engine->control, &notice);
}

void weft_comm_notice(weft_comm *c, const weft_notice *notice)
{
    if (notice->comm != 0 && notice->comm != c->client.comm)
        return;
    if (notice->comm == 0 && (notice->rank < 0 || notice->rank >= c->engine->ranks || c->from_world[notice->rank] < 0))
        return;
    if (atomic_load_explicit(&c->error, memory_order_relaxed) != WEFT_OK)
        return;
    if (notice->comm != 0 && notice->reporter >= 0 && notice->reporter < c->engine->ranks && c->from_world[notice->reporter] < 0)
        return; /* another communicator with that number, of other ranks */
    if (notice->comm != 0 && notice->status == WEFT_ERR_TIMEOUT && notice->reporter >= 0) {
        weft_comm_accused(c, notice);
        return;
    }
    if (c->verdict_ns) { /* who leaves after a timeout is not to blame for it */
        weft_comm_judge(c, c->verdict_ns);
        return;
    }
    c->from_notice = true;
    char text[WEFT_ERROR_TEXT];
    if (notice->comm == 0 && c->from_world[notice->rank] == notice->rank)
        snprintf(text, sizeof text, "%s", notice->text);
    else if (notice->comm == 0) /* the notice speaks of ranks of the process group */
        snprintf(text, sizeof text, "rank %d of this communicator: %s", c->from_world[notice->rank], notice->text);
    else if (notice->reporter == c->engine->rank)
        snprintf(text, sizeof text, "%s", notice->text);
    else
        snprintf(text, sizeof text, "reported by rank %d: %s", c->from_world[notice->reporter], notice->text);
    weft_comm_set_error(c, (weft_status)notice->status, notice->rank, text);
}

static void see_abort(weft_comm *c)
{
    if (atomic_load_explicit(&c->abort_wanted, memory_order_acquire) && c->exec.error == WEFT_OK)
        weft_comm_set_error(c, WEFT_ERR_ABORTED, c->engine->rank, "aborted by weft_comm_abort");
}

weft_status weft_comm_cannot_begin(weft_comm *c, weft_status status)
{
    if ((status != WEFT_ERR_MEMORY && status != WEFT_ERR_SYSTEM) ||
        atomic_load_explicit(&c->error, memory_order_relaxed) != WEFT_OK)
        return status;
    char text[WEFT_ERROR_TEXT];
    snprintf(text, sizeof text, "rank %d could not begin a call: %.300s", c->rank, weft_last_error());
    weft_comm_set_error(c, status, c->engine->rank, text);
    weft_comm_progress(c); /* tells the others, who may wait */
    return weft_fail(status, "%s", text);
}

weft_status weft_comm_check(weft_comm *c)
{
    see_abort(c);
    weft_status status = (weft_status)atomic_load_explicit(&c->error, memory_order_acquire);
    return status == WEFT_OK ? WEFT_OK : weft_fail(status, "%s", c->error_text);
}

/* ---- progress ---------------------------------------------------------------------------------- */

/* A connection broke while collectives wait, and nobody has said why in time: then it is that rank. */
static void judge_loss(weft_comm *c, int64_t now)
{
    if (c->lost_peer < 0 || c->requests == NULL || now - c->lost_ns < LOSS_GRACE_NS)
        return;
    const char *reason = c->engine->wire.peers[c->lost_peer].reason;
    weft_notice notice = {.status = WEFT_ERR_PEER, .rank = c->lost_peer, .reporter = c->engine->rank};
    snprintf(notice.text, sizeof notice.text, "rank %d: connection lost (%s)", c->lost_peer, reason ? reason : "closed");
    c->lost_ns = now + 3600LL * 1000000000; /* once */
    weft_control_report(c->engine->control, &notice);
}

int weft_comm_progress(weft_comm *c)
{
    see_abort(c);
    if (c->verdict_ns)
        weft_comm_judge(c, weft_now_ns());
    if (atomic_load_explicit(&c->error, memory_order_relaxed) != WEFT_OK && !c->error_spread)
        spread_error(c);
    if (!c->requests)
        return 0;
    int moved = weft_exec_progress(&c->exec);
    if (c->messages.sends || c->messages.error)
        moved += weft_messages_progress(&c->messages);
    if (c->error_spread && c->requests && !c->engine->wire.closed && weft_now_ns() - c->error_ns > GRACE_NS) {
        weft_log(WEFT_LOG_INFO, "communicator %u: closing connections that do not drain", c->client.comm);
        weft_wire_close(&c->engine->wire);
    }
    return moved;
}

void weft_comm_idle(weft_comm *c, int64_t now)
{
    if (!c->requests)
        return;
    judge_loss(c, now);
    for (weft_request *r = c->requests; r; r = r->next)
        if (!r->complete && now > r->deadline_ns && c->exec.error == WEFT_OK) {
            weft_comm_time_out(c, r);
            break;
        }
    if (now - c->nudged_ns >= NUDGE_NS) {
        c->nudged_ns = now;
        if (c->exec.error == WEFT_OK)
            weft_exec_nudge(&c->exec);
    }
}

/* ---- building ---------------------------------------------------------------------------------- */

/* Hosts numbered in order of appearance in this communicator, and who is on ours. */
static weft_status find_hosts(weft_comm *c)
{
    const weft_engine *e = c->engine;
    const int *host_of = weft_host_of(e->host);
    int known = weft_host_count(e->host);
    int *number = weft_alloc_array((size_t)known, sizeof *number);
    if (!number)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for %d hosts", known);
    for (int h = 0; h < known; h++)
        number[h] = -1;
    for (int r = 0; r < c->ranks; r++) {
        int h = host_of[c->world[r]];
        if (number[h] < 0)
            number[h] = c->hosts++;
        c->host[r] = number[h];
        c->local_position[r] = -1;
    }
    weft_free(number);
    const int *on_host = weft_host_ranks(e->host);
    for (int i = 0; i < weft_host_size(e->host); i++)
        c->index_of_world[on_host[i]] = i;
    for (int r = 0; r < c->ranks; r++)
        if (c->host[r] == c->host[c->rank]) {
            c->local_position[r] = c->local_count;
            c->local_ranks[c->local_count] = r;
            c->local_host_index[c->local_count++] = c->index_of_world[c->world[r]];
        }
    return WEFT_OK;
}

weft_status weft_comm_connect(weft_comm *c, int64_t deadline_ns)
{
    weft_engine *e = c->engine;
    int n = 0, *indices = c->segment_indices;
    if (c->local_count < 2)
        return WEFT_OK;
    /* the host wants them ascending; regions are found again by index */
    for (int i = 0; i < weft_host_size(e->host); i++)
        for (int k = 0; k < c->local_count; k++)
            if (c->local_host_index[k] == i)
                indices[n++] = i;
    weft_status status = weft_segment_create(e->host, indices, n, c->client.comm, sizeof(weft_local_region), deadline_ns,
                                             &c->segment);
    for (int i = 0; i < n && status == WEFT_OK; i++)
        for (int k = 0; k < c->local_count; k++)
            if (c->local_host_index[k] == indices[i])
                c->regions[k] = weft_segment_region(c->segment, i);
    if (status == WEFT_OK)
        weft_peer_introduce(&c->regions[c->local_position[c->rank]]->identity, e->settings.cma);
    return status;
}

static weft_status allocate_tables(weft_comm *c)
{
    size_t n = (size_t)c->ranks, all = (size_t)c->engine->ranks;
    c->world = weft_alloc_array(n, sizeof(int));
    c->from_world = weft_alloc_array(all, sizeof(int));
    c->index_of_world = weft_alloc_array(all, sizeof(int));
    c->host = weft_alloc_array(n, sizeof(int));
    c->numa = weft_alloc_array(n, sizeof(int));
    c->cache = weft_alloc_array(n, sizeof(int));
    c->local_ranks = weft_alloc_array(n, sizeof(int));
    c->local_host_index = weft_alloc_array(n, sizeof(int));
    c->local_position = weft_alloc_array(n, sizeof(int));
    c->suspicion = weft_alloc_array(n, sizeof *c->suspicion);
    if (c->world && c->from_world && c->index_of_world && c->host && c->numa && c->cache && c->local_ranks &&
        c->local_host_index && c->local_position && c->suspicion)
        return WEFT_OK;
    return weft_fail(WEFT_ERR_MEMORY, "no memory for a communicator of %d ranks", c->ranks);
}

static weft_status init_parts(weft_comm *c, const weft_agreed *agreed)
{
    weft_engine *e = c->engine;
    weft_status status = find_hosts(c);
    if (status == WEFT_OK)
        status = weft_comm_find_places(c);
    if (status == WEFT_OK && c->local_count > 1) {
        c->segment_indices = weft_alloc_array((size_t)c->local_count, sizeof *c->segment_indices);
        c->regions = weft_alloc_array((size_t)c->local_count, sizeof *c->regions);
        if (!c->segment_indices || !c->regions)
            status = weft_fail(WEFT_ERR_MEMORY, "no memory for %d local ranks", c->local_count);
    }
    if (status != WEFT_OK)
        return status;
    c->exec = (weft_exec){.wire = &e->wire, .comm = c->client.comm, .rank = c->rank, .ranks = c->ranks, .world = c->world,
                          .from_world = c->from_world, .slice_bytes = ((size_t)agreed->slice_bytes + 63) / 64 * 64,
                          .host = e->host, .local_count = c->local_count, .spins = (int)(e->spin_ns / 20),
                          .yields = e->spin_ns ? 0 : e->yields, .crowded = e->crowded, .local_ranks = c->local_ranks,
                          .local_host_index = c->local_host_index, .local_position = c->local_position, .regions = c->regions,
                          .fail = exec_failed, .context = c};
    if ((status = weft_exec_init(&c->exec)) != WEFT_OK ||
        (status = weft_messages_init(&c->messages, &e->wire, c->client.comm, c->rank, c->ranks, c->world, c->from_world,
                                     c->exec.slice_bytes)) != WEFT_OK)
        return status;
    weft_group group = {.ranks = c->ranks, .host = c->host, .numa = c->numa, .cache = c->cache};
    status = weft_tuner_init(&c->tuner, c->rank, group, agreed->cpus, agreed->lanes, agreed->algorithm);
    if (agreed->bandwidth_Bps > 0)
        c->tuner.model.remote = (weft_link){.latency_ns = agreed->latency_ns, .bandwidth_Bps = agreed->bandwidth_Bps};
    const weft_measured *way = &agreed->way[c->farthest]; /* what it takes more than within a cache, which the defaults are for */
    c->tuner.model.signal_ns += way->latency_ns;
    c->tuner.model.local.latency_ns += 2 * way->latency_ns; /* what was written is fetched, and so is the word that tells of it */
    if (way->bandwidth_Bps > 0 && way->bandwidth_Bps < c->tuner.model.local.bandwidth_Bps)
        c->tuner.model.local.bandwidth_Bps = way->bandwidth_Bps;
    weft_link *const links[] = {[WEFT_WITHIN_HOST] = &c->tuner.model.local, [WEFT_BETWEEN_HOSTS] = &c->tuner.model.remote};
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (agreed->measured[i].bandwidth_Bps > 0)
            *links[i] =
                (weft_link){.latency_ns = agreed->measured[i].latency_ns, .bandwidth_Bps = agreed->measured[i].bandwidth_Bps};
    if (status == WEFT_OK && e->table)
        weft_tuner_use_table(&c->tuner, e->table, e->agreed.tuned);
    return status;
}

weft_status weft_comm_build(weft_engine *e, uint32_t id, int rank, int ranks, const int *world, const weft_agreed *agreed,
                            weft_comm **out)
{
    weft_comm *c = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *c, WEFT_CACHE_LINE));
    if (!c)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a communicator");
    c->engine = e;
    c->rank = rank;
    c->ranks = ranks;
    c->timeout_ms = e->settings.timeout;
    c->error_rank = c->lost_peer = -1;
    c->agreed = *agreed;
    c->client = (weft_wire_client){.comm = id, .take = client_take, .landed = client_landed, .lost = client_lost,
                                   .kept = client_kept, .completed = client_completed, .broken = client_broken,
                                   .fault = client_fault};
    weft_status status = allocate_tables(c);
    if (status == WEFT_OK) {
        for (int r = 0; r < e->ranks; r++)
            c->from_world[r] = -1;
        for (int r = 0; r < ranks; r++) {
            c->world[r] = world[r];
            c->from_world[world[r]] = r;
        }
        status = init_parts(c, agreed);
    }
    weft_lock_take(&e->lock);
    weft_engine_retain(e);
    c->next = e->comms;
    c->link = &e->comms;
    if (c->next)
        c->next->link = &c->next;
    e->comms = c;
    if (status == WEFT_OK)
        weft_wire_add_client(&e->wire, &c->client);
    weft_lock_release(&e->lock);
    if (status != WEFT_OK) {
        weft_comm_free(c);
        return status;
    }
    *out = c;
    return WEFT_OK;
}

static bool requests_gone(void *context)
{
    return ((weft_comm *)context)->requests == NULL;
}

/* The caller's thread is the only one that uses it. */
void weft_comm_free(weft_comm *c)
{
    if (!c)
        return;
    weft_engine *e = c->engine;
    weft_lock_take(&e->lock);
    if (c->requests) {
        c->from_notice = true; /* others are not concerned */
        weft_comm_set_error(c, WEFT_ERR_ABORTED, -1, "the communicator was destroyed");
        weft_engine_wait(e, requests_gone, c, weft_deadline_ns(2 * GRACE_NS / WEFT_NS_PER_MS));
    }
    weft_wire_remove_client(&e->wire, &c->client);
    if (c->exec.wire) {
        weft_messages_clear(&c->messages);
        weft_exec_clear(&c->exec);
    }
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    weft_request_orphan_all(c);
    weft_short_clear(c);
    while (c->idle) {
        weft_request *r = c->idle;
        c->idle = r->next;
        weft_request_destroy(r);
    }
    weft_lock_release(&e->lock);
    weft_tuner_clear(&c->tuner);
    weft_segment_destroy(c->segment);
    weft_free(c->regions);
    weft_free(c->segment_indices);
    weft_free(c->world);
    weft_free(c->from_world);
    weft_free(c->index_of_world);
    weft_free(c->host);
    weft_free(c->numa);
    weft_free(c->cache);
    weft_free(c->local_ranks);
    weft_free(c->local_host_index);
    weft_free(c->local_position);
    weft_free(c->suspicion);
    weft_free(c);
    weft_engine_release(e);
}

/* ---- public ------------------------------------------------------------------------------------ */

weft_status weft_comm_destroy(weft_comm *c)
{
    weft_clear_error();
    if (c && c->engine->forks != weft_fork_count())
        return weft_fail(WEFT_ERR_USAGE, "this communicator belongs to the parent process of a fork");
    weft_comm_free(c);
    return WEFT_OK;
}

weft_status weft_comm_abort(weft_comm *c)
{
    weft_clear_error();
    if (!c)
        return weft_fail(WEFT_ERR_INVALID, "comm is NULL");
    atomic_store_explicit(&c->abort_wanted, true, memory_order_release);
    weft_notice notice = {
        .comm = c->client.comm, .status = WEFT_ERR_ABORTED, .rank = c->engine->rank, .reporter = c->engine->rank};
    snprintf(notice.text, sizeof notice.text, "aborted by rank %d", c->rank);
    weft_control_report(c->engine->control, &notice);
    weft_engine_wake(c->engine);
    return WEFT_OK;
}

weft_status weft_comm_async_error(weft_comm *c, weft_status *error)
{
    if (!c || !error)
        return weft_fail(WEFT_ERR_INVALID, "comm or error is NULL");
    /* what another rank reported may lie there unread, where this one does nothing but ask; who has the lock reads it */
    if (weft_lock_try(&c->engine->lock)) {
        weft_engine_take_news(c->engine);
        if (c->verdict_ns)
            weft_comm_judge(c, weft_now_ns());
        weft_lock_release(&c->engine->lock);
    }
    *error = (weft_status)atomic_load_explicit(&c->error, memory_order_acquire);
    weft_notice first;
    if (*error == WEFT_OK && atomic_load_explicit(&c->abort_wanted, memory_order_acquire))
        *error = WEFT_ERR_ABORTED;
    else if (*error == WEFT_OK && weft_control_failed(c->engine->control, &first) && first.rank >= 0 &&
             c->from_world[first.rank] >= 0)
        *error = (weft_status)first.status;
    if (*error != WEFT_OK)
        weft_fail(*error, "%s", atomic_load(&c->error) ? c->error_text : weft_status_text(*error));
    return WEFT_OK;
}

weft_status weft_comm_set_timeout(weft_comm *c, int64_t timeout_ms)
{
    weft_clear_error();
    if (!c || timeout_ms == 0 || timeout_ms < -1)
        return weft_fail(WEFT_ERR_INVALID, "timeout %lld ms: positive, or -1 for none", (long long)timeout_ms);
    c->timeout_ms = timeout_ms;
    return WEFT_OK;
}

int weft_comm_rank(const weft_comm *c)
{
    return c ? c->rank : -1;
}

int weft_comm_size(const weft_comm *c)
{
    return c ? c->ranks : 0;
}

int weft_comm_local_rank(const weft_comm *c)
{
    return c ? c->local_position[c->rank] : -1;
}

int weft_comm_local_size(const weft_comm *c)
{
    return c ? c->local_count : 0;
}

int weft_comm_hosts(const weft_comm *c)
{
    return c ? c->hosts : 0;
}

void weft_comm_dump(weft_comm *c, FILE *stream)
{
    if (!c || !stream)
        return;
    weft_lock_take(&c->engine->lock);
    weft_record_dump(c, stream);
    weft_lock_release(&c->engine->lock);
}

void weft_comm_describe(weft_comm *c, const char *collective, size_t bytes, char *text, size_t text_bytes)
{
    if (text_bytes == 0)
        return;
    text[0] = 0;
    weft_collective which;
    weft_algorithm algorithm;
    if (!c || !collective || weft_collective_parse(collective, &which) != WEFT_OK)
        return;
    weft_lock_take(&c->engine->lock);
    weft_status status = weft_tuner_choose(&c->tuner, which, 0, bytes, false, true, &algorithm);
    char transports[64] = "";
    for (int i = 0; i < c->engine->wire.route_count; i++)
        if (c->engine->wire.routes[i].peers) {
            size_t used = strlen(transports);
            snprintf(transports + used, sizeof transports - used, "%s%s", used ? "+" : "", c->engine->wire.routes[i].ops->name);
        }
    weft_lock_release(&c->engine->lock);
    if (status == WEFT_OK)
        snprintf(text, text_bytes, "%s %s", weft_algorithm_name(algorithm), *transports ? transports : "none");
}

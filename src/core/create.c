/* Creation and end of a process group and its first communicator: meet, exchange, open transports, agree. */
#include <string.h>
#include <unistd.h>

#include "base/membarrier.h"
#include "core/comm.h"
#include "core/routes.h"
#include "transport/shm/shm.h"

/* How long an orderly end waits for the others, and one after an error. */
enum { LINGER_MS = 3000, TROUBLED_LINGER_MS = 500 };

/* ---- settings ---------------------------------------------------------------------------------- */

static void override_text(const char **setting, const char *text)
{
    if (text && *text)
        *setting = text;
}

/* The user's config wins over the environment. Its strings need to live only while the engine is created. */
static weft_status merge_config(weft_settings *s, const weft_config *user)
{
    if (!user)
        return WEFT_OK;
    if (user->size < offsetof(weft_config, slice_bytes) || user->size > 4096)
        return weft_fail(WEFT_ERR_INVALID, "config.size is %zu: start from WEFT_CONFIG_INIT", user->size);
    if (user->timeout_ms) {
        s->timeout = user->timeout_ms;
        s->create_timeout = user->timeout_ms;
    }
    override_text(&s->transports, user->transports);
    override_text(&s->algorithm, user->algorithm);
    override_text(&s->interfaces, user->interfaces);
    override_text(&s->port_range, user->port_range);
    override_text(&s->host_id, user->host_id);
    override_text(&s->tuning_file, user->tuning_file);
    if (user->lanes)
        s->lanes = user->lanes;
    if (user->sockets)
        s->sockets = user->sockets;
    if (user->slice_bytes)
        s->slice_bytes = (int64_t)user->slice_bytes;
    if (s->lanes < 0 || s->lanes > WEFT_LANES_MAX)
        return weft_fail(WEFT_ERR_INVALID, "lanes %lld: 1 to %d, or 0", (long long)s->lanes, WEFT_LANES_MAX);
    if (s->slice_bytes < 0 || s->slice_bytes > WEFT_EAGER_BYTES / 4)
        return weft_fail(WEFT_ERR_INVALID, "slice size %lld: 64 to %d bytes, or 0", (long long)s->slice_bytes,
                         WEFT_EAGER_BYTES / 4);
    uint8_t forced[WEFT_COLLECTIVE_COUNT];
    return weft_tuner_parse_forced(s->algorithm, forced);
}

/* ---- agreement --------------------------------------------------------------------------------- */

/* What every rank tells all others first. */
typedef struct weft_hello {
    weft_agreed settings;
    weft_location here;
} weft_hello;

static weft_status exchange_hello(weft_engine *e, weft_hello *hello, int64_t deadline_ns)
{
    weft_agreed mine = {.version = WEFT_VERSION_MAJOR << 16 | WEFT_VERSION_MINOR << 8 | WEFT_TRANSPORT_ABI,
                        .lanes = (int32_t)e->settings.lanes, .cpus = weft_host_cpus(e->host),
                        .slice_bytes = e->settings.slice_bytes};
    const char *algorithm = e->settings.algorithm ? e->settings.algorithm : "auto";
    if (strlen(algorithm) >= sizeof mine.algorithm)
        return weft_fail(WEFT_ERR_INVALID, "algorithm setting is longer than %zu bytes", sizeof mine.algorithm);
    memcpy(mine.algorithm, algorithm, strlen(algorithm));
    mine.tuned = e->agreed.tuned;
    memcpy(mine.measured, hello->settings.measured, sizeof mine.measured);
    memcpy(mine.way, hello->settings.way, sizeof mine.way);
    hello->settings = mine;
    weft_hello *all = weft_alloc_array((size_t)e->ranks, sizeof *all);
    e->location = weft_alloc_array((size_t)e->ranks, sizeof *e->location);
    weft_status status = all && e->location ? weft_control_allgather(e->control, hello, all, sizeof *hello, deadline_ns)
                                            : weft_fail(WEFT_ERR_MEMORY, "no memory for the settings of %d ranks", e->ranks);
    for (int r = 0; r < e->ranks && status == WEFT_OK; r++) {
        e->location[r] = all[r].here;
        if (all[r].settings.version != mine.version)
            status = weft_fail(WEFT_ERR_VERSION, "rank %d runs another version of weft (%x, here %x)", r, all[r].settings.version,
                               mine.version);
    }
    if (status == WEFT_OK)
        e->agreed = all[0].settings;
    weft_free(all);
    return status;
}

/* Rank 0's measured table, where it has one: read before the settings are exchanged, then told to all. */
static weft_status read_table(weft_engine *e)
{
    const char *path = e->settings.tuning_file;
    if (e->rank != 0 || !path || !*path)
        return WEFT_OK;
    int count = 0;
    e->table = weft_alloc_array(WEFT_TUNED_MAX, sizeof *e->table);
    if (!e->table)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the tuning file");
    weft_status status = weft_tune_read(path, e->table, &count);
    e->agreed.tuned = count;
    return status;
}

/* What ways within a host are like, where they are not all alike. A machine that cannot be read has them alike. */
static weft_status read_ways(weft_hello *hello)
{
    weft_topology *machine = NULL;
    if (!weft_machine_is_divided(""))
        return WEFT_OK;
    weft_status status = weft_topology_read_processors("", &machine);
    if (status == WEFT_OK)
        weft_topology_ways(machine, hello->settings.way);
    weft_topology_free(machine);
    return status == WEFT_ERR_MEMORY ? status : WEFT_OK;
}

/* Where this rank runs, and what a machine file says that was measured. Rank 0's machine is written where that is asked for. */
static weft_status look_around(weft_engine *e, weft_hello *hello)
{
    weft_topology *machine = NULL;
    bool file = e->settings.topology_file[0], dumps = e->rank == 0 && e->settings.topology_dump_file[0];
    *hello = (weft_hello){.here = {-1, -1, -1}};
    if (!file)
        weft_location_read("", &hello->here);
    if (!file && !dumps)
        return e->rank == 0 ? read_ways(hello) : WEFT_OK;
    weft_status status = weft_topology_discover(&machine);
    if (status != WEFT_OK)
        return weft_fail_context(status, "%s", file ? "WEFT_TOPO_FILE" : "WEFT_TOPO_DUMP_FILE");
    weft_topology_ways(machine, hello->settings.way);
    if (file) {
        weft_measured *measured = hello->settings.measured;
        weft_location_find(machine, &hello->here);
        weft_topology_measured(machine, &measured[WEFT_WITHIN_HOST], &measured[WEFT_BETWEEN_HOSTS]);
        e->machine = machine;
    } else {
        weft_topology_free(machine);
    }
    return WEFT_OK;
}

static weft_status exchange_table(weft_engine *e, int64_t deadline_ns)
{
    size_t lines = (size_t)e->agreed.tuned, bytes = lines * sizeof(weft_tuned);
    if (lines == 0)
        return WEFT_OK;
    weft_tuned *mine = weft_alloc_array(lines, sizeof *mine), *all = weft_alloc_array(lines * (size_t)e->ranks, sizeof *all);
    weft_status status = mine && all ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory for %zu tuned lines", lines);
    if (status == WEFT_OK && e->rank == 0)
        memcpy(mine, e->table, bytes);
    if (status == WEFT_OK)
        status = weft_control_allgather(e->control, mine, all, bytes, deadline_ns);
    if (status == WEFT_OK) {
        memcpy(mine, all, bytes);
        weft_free(e->table);
        e->table = mine;
        mine = NULL;
    }
    weft_free(mine);
    weft_free(all);
    return status;
}

typedef struct weft_verdict {
    int32_t status;
    char text[252];
} weft_verdict;

weft_status weft_engine_all_ok(weft_engine *e, weft_status mine, int64_t deadline_ns)
{
    weft_verdict verdict = {.status = mine};
    if (mine != WEFT_OK) {
        size_t length = weft_min_size(strlen(weft_last_error()), sizeof verdict.text - 1);
        memcpy(verdict.text, weft_last_error(), length);
    }
    weft_verdict *all = weft_alloc_array((size_t)e->ranks, sizeof *all);
    if (!all)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the states of %d ranks", e->ranks);
    weft_status status = weft_control_allgather(e->control, &verdict, all, sizeof verdict, deadline_ns);
    for (int r = 0; r < e->ranks && status == WEFT_OK; r++)
        if (all[r].status != WEFT_OK) {
            e->failure_known = true;
            status = r == e->rank ? weft_fail(mine, "%s", verdict.text)
                                  : weft_fail((weft_status)all[r].status, "rank %d: %s", r, all[r].text);
        }
    weft_free(all);
    return status;
}

/* ---- host and routes ---------------------------------------------------------------------------- */

/* How long to spin: only where every rank of the host has a core of its own. */
static void choose_waiting(weft_engine *e)
{
    bool roomy = weft_host_size(e->host) <= weft_host_cpus(e->host);
    e->spin_ns = e->settings.spin >= 0 ? e->settings.spin * 1000 : roomy ? 100000 : 0;
    e->yields = roomy ? 20 : 32;
    e->crowded = !roomy;
}

static weft_status host_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    weft_engine *e = context;
    return weft_control_allgather(e->control, send, recv, bytes, e->create_deadline_ns);
}

static weft_status open_host(weft_engine *e, bool shm)
{
    weft_host_config config = {.rank = e->rank, .ranks = e->ranks, .job = weft_control_job(e->control),
                               .host_id = e->settings.host_id, .alone = !shm,
                               .region_bytes = weft_shm_region_bytes(e->ranks), .deadline_ns = e->create_deadline_ns,
                               .allgather = host_allgather, .context = e};
    weft_status status = weft_host_create(&config, &e->host);
    if (status == WEFT_OK)
        atomic_store_explicit(&e->bell, e->host, memory_order_release);
    return status;
}

/* Everything after the control plane is there. */
static weft_status open_all(weft_engine *e)
{
    int64_t deadline = e->create_deadline_ns;
    weft_route_choice choice;
    weft_hello hello;
    weft_status status = weft_routes_choose(e->settings.transports, e->settings.net_plugin && *e->settings.net_plugin, &choice);
    if (status == WEFT_OK)
        status = read_table(e);
    if (status == WEFT_OK)
        status = look_around(e, &hello);
    if ((status = weft_engine_all_ok(e, status, deadline)) != WEFT_OK)
        return status;
    if ((status = open_host(e, weft_routes_chosen(&choice, "shm"))) != WEFT_OK)
        return status;
    if ((status = exchange_hello(e, &hello, deadline)) != WEFT_OK || (status = exchange_table(e, deadline)) != WEFT_OK)
        return status;
    choose_waiting(e);
    e->wire.rank = e->rank;
    e->wire.ranks = e->ranks;
    e->wire.next_comm = 1;
    e->wire.peers = weft_alloc_array((size_t)e->ranks, sizeof *e->wire.peers);
    if (!e->wire.peers)
        status = weft_fail(WEFT_ERR_MEMORY, "no memory for %d peers", e->ranks);
    if (status == WEFT_OK)
        status = weft_routes_open(e, &choice);
    if ((status = weft_engine_all_ok(e, status, deadline)) != WEFT_OK)
        return status;
    if ((status = weft_routes_exchange(e, deadline)) != WEFT_OK)
        return status;
    if ((status = weft_engine_all_ok(e, weft_routes_select(e), deadline)) != WEFT_OK)
        return status;
    return weft_routes_agree(e, deadline);
}

static weft_engine *engine_new(void)
{
    weft_engine *e = weft_alloc(sizeof *e);
    if (!e)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    weft_lock_init(&e->lock);
    pthread_mutex_init(&e->notice_lock, NULL);
    pthread_cond_init(&e->woken, &attributes);
    pthread_condattr_destroy(&attributes);
    weft_fork_watch();
    weft_membarrier_register_alone(); /* before there is a control thread; weft_engine_lighten for the others */
    e->forks = weft_fork_count();
    return e;
}

/* From any half-built state. */
static void engine_destroy(weft_engine *e, int64_t linger_ms)
{
    if (!e)
        return;
    for (int i = 0; i < e->wire.route_count && !e->wire.closed; i++) {
        const weft_transport_ops *ops = e->wire.routes[i].ops;
        ops->flush(e->wire.routes[i].transport, linger_ms);
    }
    weft_control_destroy(e->control, linger_ms);
    e->control = NULL;
    weft_wire_destroy(&e->wire);
    weft_host_destroy(e->host);
    weft_settings_unload(&e->settings);
    weft_free(e->table);
    weft_free(e->location);
    weft_topology_free(e->machine);
    pthread_cond_destroy(&e->woken);
    pthread_mutex_destroy(&e->notice_lock);
    weft_lock_destroy(&e->lock);
    weft_free(e);
}

/* Settings and engine before anyone is met. */
static weft_status engine_prepare(const weft_config *user, weft_engine **out)
{
    weft_engine *e = engine_new();
    if (!e)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a process group");
    weft_status status = weft_settings_load(&e->settings);
    if (status == WEFT_OK)
        status = merge_config(&e->settings, user);
    if (status != WEFT_OK) {
        engine_destroy(e, 0);
        return status;
    }
    e->create_deadline_ns = weft_deadline_ns(e->settings.create_timeout);
    *out = e;
    return WEFT_OK;
}

/* With the control plane there (or not: status says). */
static weft_status engine_complete(weft_engine *e, weft_status status, weft_engine **out)
{
    if (status == WEFT_OK) {
        e->rank = weft_control_rank(e->control);
        e->ranks = weft_control_size(e->control);
        status = open_all(e);
        if (status != WEFT_OK && !e->failure_known)
            weft_control_give_up(e->control);
    }
    if (status != WEFT_OK) {
        engine_destroy(e, 0);
        return status;
    }
    weft_engine_enlist(e);
    *out = e;
    return WEFT_OK;
}

weft_status weft_engine_create(weft_control_config *config, const weft_config *user, weft_engine **out)
{
    weft_engine *e;
    weft_status status = engine_prepare(user, &e);
    if (status != WEFT_OK) {
        config->deadline_ns = WEFT_NEVER; /* it takes its own little time */
        weft_control_refuse(config, status);
        return status;
    }
    config->interfaces = e->settings.interfaces;
    config->port_range = e->settings.port_range;
    config->deadline_ns = e->create_deadline_ns;
    config->dead_peer_ms = e->settings.dead_peer;
    config->notice = weft_engine_notice;
    config->notice_context = e;
    return engine_complete(e, weft_control_create(config, &e->control), out);
}

weft_status weft_engine_shrink(weft_engine *old, const weft_config *user, weft_engine **out)
{
    weft_engine *e;
    weft_status status = engine_prepare(user, &e);
    if (status != WEFT_OK)
        return status;
    bool *alive = weft_alloc_array((size_t)old->ranks, sizeof *alive);
    status = alive ? weft_control_shrink(old->control, e->create_deadline_ns, weft_engine_notice, e, alive, &e->control)
                   : weft_fail(WEFT_ERR_MEMORY, "no memory for %d ranks", old->ranks);
    weft_free(alive);
    return engine_complete(e, status, out);
}

void weft_engine_release(weft_engine *e)
{
    if (--e->references > 0)
        return;
    weft_engine_delist(e);
    engine_destroy(e, e->troubled ? TROUBLED_LINGER_MS : LINGER_MS);
}

/* ---- the public ways to meet ------------------------------------------------------------------- */

static weft_status create(weft_control_config *config, const weft_config *user, weft_comm **comm)
{
    weft_clear_error();
    weft_hold_standard_streams();
    if (!comm)
        return weft_fail(WEFT_ERR_INVALID, "comm is NULL");
    if (config->size < 1 || config->rank < 0 || config->rank >= config->size)
        return weft_fail(WEFT_ERR_INVALID, "rank %d of %d ranks: size must be at least 1 and rank in 0..size-1", config->rank,
                         config->size);
    weft_engine *e;
    weft_status status = weft_engine_create(config, user, &e);
    if (status != WEFT_OK)
        return status;
    return weft_engine_first_comm(e, comm);
}

weft_status weft_engine_first_comm(weft_engine *e, weft_comm **out)
{
    int *world = weft_alloc_array((size_t)e->ranks, sizeof *world);
    for (int r = 0; world && r < e->ranks; r++)
        world[r] = r;
    weft_comm *c = NULL;
    weft_lock_take(&e->lock);
    weft_engine_retain(e); /* build gives its own back when it fails */
    weft_lock_release(&e->lock);
    weft_status status = world ? weft_comm_build(e, 1, e->rank, e->ranks, world, &e->agreed, &c)
                               : weft_fail(WEFT_ERR_MEMORY, "no memory for %d ranks", e->ranks);
    weft_free(world);
    status = weft_engine_all_ok(e, status, e->create_deadline_ns);
    if (status == WEFT_OK)
        status = weft_engine_all_ok(e, weft_comm_connect(c, e->create_deadline_ns), e->create_deadline_ns);
    if (status == WEFT_OK) {
        *out = c;
        if (e->crowded) /* at the end: whom the meetings woke is where who woke it was */
            weft_host_spread_out(e->host);
    } else {
        e->troubled = true; /* not to wait long for the others */
        if (!e->failure_known)
            weft_control_give_up(e->control);
        weft_comm_free(c);
    }
    weft_engine_release(e);
    return status;
}

weft_status weft_comm_create_id(const weft_unique_id *id, int rank, int size, const weft_config *config, weft_comm **comm)
{
    if (!id)
        return weft_fail(WEFT_ERR_INVALID, "id is NULL");
    weft_control_config c = {.rank = rank, .size = size, .kind = WEFT_RENDEZVOUS_ID, .id = id};
    return create(&c, config, comm);
}

weft_status weft_comm_create_url(const char *url, int rank, int size, const weft_config *config, weft_comm **comm)
{
    if (!url || !*url)
        return weft_fail(WEFT_ERR_INVALID, "url is %s: tcp://host:port or file:///path", url ? "empty" : "NULL");
    weft_control_config c = {.rank = rank, .size = size, .kind = WEFT_RENDEZVOUS_URL, .url = url};
    return create(&c, config, comm);
}

weft_status weft_comm_create_allgather(weft_allgather_function allgather, void *context, int rank, int size,
                                       const weft_config *config, weft_comm **comm)
{
    if (!allgather)
        return weft_fail(WEFT_ERR_INVALID, "allgather is NULL");
    weft_control_config c = {.rank = rank, .size = size, .kind = WEFT_RENDEZVOUS_ALLGATHER, .allgather = allgather,
                             .allgather_context = context};
    return create(&c, config, comm);
}

weft_status weft_comm_create_store(const weft_store *store, int rank, int size, const weft_config *config, weft_comm **comm)
{
    if (!store || !store->set || !store->get)
        return weft_fail(WEFT_ERR_INVALID, "store needs set and get");
    weft_control_config c = {.rank = rank, .size = size, .kind = WEFT_RENDEZVOUS_STORE, .store = store};
    return create(&c, config, comm);
}

weft_status weft_comm_create_env(const weft_config *config, weft_comm **comm)
{
    weft_clear_error();
    weft_hold_standard_streams();
    weft_launch launch;
    memset(&launch, 0, sizeof launch);
    weft_status status = weft_launch_detect(&launch);
    if (status != WEFT_OK)
        return status;
    weft_control_config c = {.rank = launch.rank, .size = launch.size, .kind = launch.kind, .url = launch.url,
                             .token = launch.token, .store = &launch.store};
    status = create(&c, config, comm);
    weft_launch_release(&launch);
    return status;
}

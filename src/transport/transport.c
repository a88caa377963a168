/* The registry of transports: finds a table by name, built in or in a library, and fills its missing optional operations with
 * defaults. Which transport a pair of ranks uses is the communicator's choice. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "transport/registry.h"

extern const weft_transport_ops weft_shm_transport;
extern const weft_transport_ops weft_tcp_transport;
extern const weft_transport_ops weft_plugin_transport;
#ifdef WEFT_HAVE_VERBS
extern const weft_transport_ops weft_verbs_transport;
#endif

/* In the order in which "auto" tries them. */
static const struct row {
    const char *name;
    const weft_transport_ops *ops; /* NULL: not in this build */
    const char *absent;            /* then why, and what to do */
    bool named, optional;          /* "auto" tries it only when asked for; skips it where it cannot work */
} rows[] = {
    {"shm", &weft_shm_transport, NULL, false, false},
    {"plugin", &weft_plugin_transport, NULL, true, false}, /* WEFT_NET_PLUGIN */
#ifdef WEFT_HAVE_VERBS
    {"verbs", &weft_verbs_transport, NULL, false, true},
#else
    {"verbs", NULL, "not in this build, for want of libibverbs-dev when it was made", false, true},
#endif
    {"tcp", &weft_tcp_transport, NULL, false, false},
};

/* A table with its defaults filled in; lives for the rest of the process. */
typedef struct known_transport {
    struct known_transport *next;
    weft_transport_ops ops;
    char name[WEFT_TRANSPORT_NAME];
} known_transport;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static known_transport builtin[ARRAY_LEN(rows)];
static known_transport *known; /* under the lock */

static int no_wait_fd(weft_transport *t)
{
    (void)t;
    return -1;
}

static weft_status no_arm(weft_transport *t)
{
    (void)t;
    return WEFT_OK;
}

static void no_abandon(weft_endpoint *e)
{
    (void)e;
}

static weft_status no_mem_register(weft_transport *t, void *base, size_t bytes, void **handle)
{
    (void)t, (void)base, (void)bytes, (void)handle;
    return weft_fail(WEFT_ERR_UNSUPPORTED, "this transport does not register memory");
}

static void no_mem_deregister(weft_transport *t, void *handle)
{
    (void)t, (void)handle;
}

static weft_status no_mem_register_dmabuf(weft_transport *t, int fd, uint64_t offset, void *base, size_t bytes, void **handle)
{
    (void)t, (void)fd, (void)offset, (void)base, (void)bytes, (void)handle;
    return weft_fail(WEFT_ERR_UNSUPPORTED, "this transport does not register dma-bufs");
}

static weft_status no_flush(weft_transport *t, int64_t timeout_ms)
{
    (void)t, (void)timeout_ms;
    return WEFT_OK;
}

/* A table of an older library is shorter than ours: what it does not have is NULL, and so a default. */
static void fill(known_transport *k, const weft_transport_ops *from, const char *name)
{
    memcpy(&k->ops, from, weft_min_size(from->size, sizeof k->ops));
    snprintf(k->name, sizeof k->name, "%s", name);
    weft_transport_ops *ops = &k->ops;
    ops->wait_fd = ops->wait_fd ? ops->wait_fd : no_wait_fd;
    ops->arm = ops->arm ? ops->arm : no_arm;
    ops->abandon = ops->abandon ? ops->abandon : no_abandon;
    ops->mem_register = ops->mem_register ? ops->mem_register : no_mem_register;
    ops->mem_deregister = ops->mem_deregister ? ops->mem_deregister : no_mem_deregister;
    ops->mem_register_dmabuf = ops->mem_register_dmabuf ? ops->mem_register_dmabuf : no_mem_register_dmabuf;
    ops->flush = ops->flush ? ops->flush : no_flush;
    k->next = known;
    known = k;
}

static const weft_transport_ops *find_known(const char *name)
{
    for (const known_transport *k = known; k; k = k->next)
        if (strcmp(k->name, name) == 0)
            return &k->ops;
    return NULL;
}

static weft_status get_locked(const char *name, const weft_transport_ops **out)
{
    if ((*out = find_known(name)))
        return WEFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (!rows[i].ops)
            return weft_fail(WEFT_ERR_UNSUPPORTED, "transport %s: %s", name, rows[i].absent);
        fill(&builtin[i], rows[i].ops, name);
        *out = &builtin[i].ops;
        return WEFT_OK;
    }
    const weft_transport_ops *loaded;
    weft_status status = weft_transport_load(name, &loaded);
    if (status != WEFT_OK)
        return status;
    known_transport *k = weft_alloc(sizeof *k);
    if (!k)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the table of transport %s", name);
    fill(k, loaded, name);
    *out = &k->ops;
    return WEFT_OK;
}

weft_status weft_transport_get(const char *name, const weft_transport_ops **out)
{
    pthread_mutex_lock(&lock);
    weft_status status = get_locked(name, out);
    pthread_mutex_unlock(&lock);
    return status;
}

const char *weft_transport_auto(int index, bool net_plugin, bool *optional)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((rows[i].named && !net_plugin) || !rows[i].ops || index-- > 0)
            continue;
        *optional = rows[i].optional;
        return rows[i].name;
    }
    return NULL;
}

const weft_transport_ops *weft_transport_find(const char *name)
{
    const weft_transport_ops *ops = NULL;
    weft_clear_error();
    if (!name)
        weft_fail(WEFT_ERR_INVALID, "weft_transport_find: name is NULL");
    return name && weft_transport_get(name, &ops) == WEFT_OK ? ops : NULL;
}

weft_status weft_transport_fail(weft_status status, const char *detail)
{
    return weft_fail(status, "%s", detail ? detail : weft_status_text(status));
}

void weft_transport_log(int level, const char *text)
{
    static const weft_log_level levels[] = {WEFT_LOG_ERROR, WEFT_LOG_WARN, WEFT_LOG_INFO, WEFT_LOG_DEBUG};
    weft_log(level >= 0 && level < (int)ARRAY_LEN(levels) ? levels[level] : WEFT_LOG_TRACE, "%s", text);
}

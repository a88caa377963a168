/* Finds and loads NCCL network plugins as NCCL does, takes the newest table that both know, and refuses libraries that have
 * something else under those names. Calling them is net.c's. */
#define _GNU_SOURCE
#include "transport/plugin/net_library.h"

#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/registry.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static weft_net_library *libraries; /* under the lock */

/* ---- log --------------------------------------------------------------------------------------- */

static _Thread_local char warning[256];

const char *weft_net_last_warning(void)
{
    return warning;
}

void weft_net_clear_warning(void)
{
    warning[0] = '\0';
}

void weft_net_log(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
{
    char text[512];
    (void)flags, (void)file, (void)line;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text[strcspn(text, "\n")] = '\0';
    if (level == NCCL_LOG_WARN)
        snprintf(warning, sizeof warning, "%.255s", text);
    weft_log_level ours = level == NCCL_LOG_WARN ? WEFT_LOG_INFO : level == NCCL_LOG_TRACE ? WEFT_LOG_TRACE : WEFT_LOG_DEBUG;
    weft_log(ours, "plugin: %s", text);
}

/* ---- what is in a library ---------------------------------------------------------------------- */

static const size_t table_bytes[] = {
    [6] = sizeof(nccl_net_v6), [7] = sizeof(nccl_net_v7), [8] = sizeof(nccl_net_v8), [9] = sizeof(nccl_net_v9),
    [10] = sizeof(nccl_net_v10), [11] = sizeof(nccl_net_v11), [12] = sizeof(nccl_net_v12),
};

/* The bytes of an exported object, as its library's symbol table says; 0: it does not. */
static size_t symbol_bytes(const void *symbol)
{
#ifdef __GLIBC__
    Dl_info info;
    const ElfW(Sym) *entry = NULL;
    if (dladdr1(symbol, &info, (void **)(uintptr_t)&entry, RTLD_DL_SYMENT) && entry && info.dli_saddr == symbol)
        return entry->st_size;
#else
    (void)symbol; /* musl */
#endif
    return 0;
}

/* Versions that NCCL has dropped, or that are newer than this Weft: to say so. */
static int other_version(void *library)
{
    for (int version = 1; version < NCCL_NET_NEWEST + 8; version++) {
        char name[32];
        snprintf(name, sizeof name, "ncclNetPlugin_v%d", version);
        if (dlsym(library, name))
            return version;
    }
    return 0;
}

/* Builds of aws-ofi-nccl for Neuron have tables of their own under NCCL's names, with other members in between; calling them
 * would jump to the wrong functions. */
static weft_status check_layout(const char *path, const void *table, int version)
{
    const char *file = strrchr(path, '/');
    size_t bytes = symbol_bytes(table);
    if (strstr(file ? file : path, "nccom"))
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "%s: a plugin for Neuron, whose ncclNetPlugin_v%d is not NCCL's: use a build for NCCL or RCCL", path,
                         version);
    if (bytes != 0 && bytes != table_bytes[version])
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "%s: its ncclNetPlugin_v%d has %zu bytes, NCCL's has %zu: another interface under the same "
                         "name (a build for Neuron?); use a build for NCCL or RCCL",
                         path, version, bytes, table_bytes[version]);
    return WEFT_OK;
}

weft_status weft_net_library_check(const weft_net_library *l)
{
    const char *lacking = nccl_net_lacks(l->table.any);
    if (!lacking)
        return WEFT_OK;
    return weft_fail(WEFT_ERR_UNSUPPORTED, "%s: its ncclNetPlugin_v%d lacks the operation %s(), which host memory needs", l->path,
                     l->version, lacking);
}

static weft_status inspect(void *handle, weft_net_library *l)
{
    for (l->version = NCCL_NET_NEWEST; l->version >= NCCL_NET_OLDEST; l->version--) {
        char name[32];
        snprintf(name, sizeof name, "ncclNetPlugin_v%d", l->version);
        l->table.any = dlsym(handle, name);
        if (l->table.any)
            break;
    }
    if (l->table.any) {
        weft_status status = check_layout(l->path, l->table.any, l->version);
        return status == WEFT_OK && !l->table.v6->init ? weft_net_library_check(l) : status; /* init may fill in the others */
    }
    int other = other_version(handle);
    if (other)
        return weft_fail(WEFT_ERR_VERSION, "%s: has version %d of NCCL's network plugin interface, this Weft knows %d to %d",
                         l->path, other, NCCL_NET_OLDEST, NCCL_NET_NEWEST);
    if (dlsym(handle, WEFT_TRANSPORT_PLUGIN_SYMBOL))
        return weft_fail(WEFT_ERR_INVALID,
                         "%s: a transport for Weft itself, not a NCCL plugin: put its folder into WEFT_PLUGIN_PATH and its "
                         "name into WEFT_TRANSPORTS",
                         l->path);
    return weft_fail(WEFT_ERR_INVALID, "%s: exports no ncclNetPlugin_v%d to _v%d, so it is no NCCL network plugin", l->path,
                     NCCL_NET_OLDEST, NCCL_NET_NEWEST);
}

/* ---- finding it -------------------------------------------------------------------------------- */

/* Opens `name` in a folder of WEFT_PLUGIN_PATH, if it is there. */
static void *open_in_folders(const char *name)
{
    char path[PATH_MAX];
    for (const char *at = weft_settings_plugin_path(); *at;) {
        size_t length = strcspn(at, ":");
        int n = snprintf(path, sizeof path, "%.*s/%s", (int)length, at, name);
        if (length > 0 && n < (int)sizeof path && access(path, F_OK) == 0)
            return dlopen(path, RTLD_NOW | RTLD_LOCAL);
        at += length + (at[length] == ':');
    }
    return NULL;
}

/* As NCCL does: the text itself is tried as a library, then libnccl-net-TEXT.so. */
static void *open_named(const char *text, char *why, size_t why_bytes)
{
    char name[288];
    void *handle = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    const char *error = handle ? NULL : dlerror();
    snprintf(why, why_bytes, "%s", error ? error : "");
    bool is_path = strchr(text, '/') != NULL, is_file = strstr(text, ".so") != NULL;
    if (handle || is_path)
        return handle;
    snprintf(name, sizeof name, "libnccl-net-%s.so", text);
    if ((handle = open_in_folders(is_file ? text : name)) || is_file || (handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)))
        return handle;
    error = dlerror();
    snprintf(why, why_bytes, "%s", error ? error : "");
    return NULL;
}

static weft_status load(const char *text, weft_net_library **out)
{
    char why[300];
    struct link_map *map = NULL;
    void *handle = open_named(text, why, sizeof why);
    if (!handle)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "no NCCL network plugin '%s': %s (WEFT_NET_PLUGIN is a path, or NAME for libnccl-net-NAME.so)", text,
                         why);
    weft_net_library *l = weft_alloc(sizeof *l);
    if (!l) {
        dlclose(handle);
        return weft_fail(WEFT_ERR_MEMORY, "no memory for plugin %s", text);
    }
    bool known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map && map->l_name[0];
    snprintf(l->path, sizeof l->path, "%.255s", known ? map->l_name : text);
    weft_status status = inspect(handle, l);
    if (status != WEFT_OK) {
        dlclose(handle);
        weft_free(l);
        return status;
    }
    for (weft_net_library *have = libraries; have; have = have->next)
        if (have->table.any == l->table.any) { /* by another name */
            weft_free(l);
            *out = have;
            return WEFT_OK;
        }
    l->next = libraries;
    libraries = l;
    *out = l;
    return WEFT_OK;
}

weft_status weft_net_library_get(const char *setting, const weft_net_library **out)
{
    const char *list = setting && *setting ? setting : "libnccl-net.so";
    weft_status status = weft_fail(WEFT_ERR_INVALID, "WEFT_NET_PLUGIN '%s' names no plugin", list);
    weft_net_library *found = NULL;
    pthread_mutex_lock(&lock);
    for (const char *at = list; *at && !found;) { /* the first that can be loaded */
        char text[256];
        size_t length = strcspn(at, ",");
        if (length > 0 && length < sizeof text) {
            snprintf(text, sizeof text, "%.*s", (int)length, at);
            status = load(text, &found);
        }
        at += length + (at[length] == ',');
    }
    pthread_mutex_unlock(&lock);
    *out = found;
    return found ? WEFT_OK : status;
}

nccl_result weft_net_library_init(const weft_net_library *library, nccl_profiler_function profiler)
{
    nccl_result result = NCCL_SUCCESS;
    pthread_mutex_lock(&lock);
    for (weft_net_library *l = libraries; l; l = l->next) {
        if (l != library || l->initialised)
            continue;
        result = l->version == 10 ? l->table.v10->init(weft_net_log, profiler) : l->table.v6->init(weft_net_log);
        l->initialised = result == NCCL_SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

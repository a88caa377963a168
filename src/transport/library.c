/* Transports in libraries of their own: finds libweft-transport-NAME.so, loads it, and refuses one that was built for another
 * version of the contract. What the table then does is the library's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/registry.h"

/* The table as version 1 began: a library may have more, never less. */
enum { SMALLEST_TABLE = offsetof(weft_transport_ops, destroy) + sizeof(void (*)(void)) };

static weft_status check_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    if (length == 0 || name[length] || length >= WEFT_TRANSPORT_NAME)
        return weft_fail(WEFT_ERR_INVALID, "there is no transport '%.40s': names have 1 to %d of a-z, 0-9, _ and -", name,
                         WEFT_TRANSPORT_NAME - 1);
    return WEFT_OK;
}

static weft_status check_table(const char *path, const char *name, const weft_transport_ops *ops)
{
    if (ops->abi != WEFT_TRANSPORT_ABI)
        return weft_fail(WEFT_ERR_VERSION,
                         "%s: built for version %u of the transport contract, this Weft has version %d: "
                         "build it again with this Weft's headers",
                         path, ops->abi, WEFT_TRANSPORT_ABI);
    if (ops->size < SMALLEST_TABLE || ops->size > sizeof *ops)
        return weft_fail(WEFT_ERR_VERSION,
                         "%s: its table has %u bytes, this Weft knows tables of %d to %zu: build it again with this "
                         "Weft's headers",
                         path, ops->size, SMALLEST_TABLE, sizeof *ops);
    if (!ops->name || (name && strcmp(ops->name, name) != 0))
        return weft_fail(WEFT_ERR_INVALID, "%s: holds transport '%s', not '%s'", path, ops->name ? ops->name : "",
                         name ? name : "");
    if (!ops->open || !ops->address || !ops->reachable || !ops->connect || !ops->send || !ops->progress || !ops->close ||
        !ops->destroy)
        return weft_fail(WEFT_ERR_INVALID,
                         "%s: its table lacks an operation that has no default (open, address, reachable, connect, "
                         "send, progress, close or destroy)",
                         path);
    return WEFT_OK;
}

weft_status weft_transport_load_file(const char *path, const char *name, const weft_transport_ops **out)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return weft_fail(WEFT_ERR_UNSUPPORTED, "cannot load %s: %s", path, why ? why : "no reason given");
    }
    const weft_transport_ops *ops = dlsym(library, WEFT_TRANSPORT_PLUGIN_SYMBOL);
    weft_status status = ops ? check_table(path, name, ops)
                             : weft_fail(WEFT_ERR_INVALID, "%s: has no symbol %s, so it holds no transport of Weft's", path,
                                         WEFT_TRANSPORT_PLUGIN_SYMBOL);
    if (status != WEFT_OK) {
        dlclose(library);
        return status;
    }
    /* The library stays for the rest of the process: threads and exit handlers of what it uses outlive any instance. */
    *out = ops;
    return WEFT_OK;
}

/* The folder of this library, or of the program that it is linked into. */
static bool own_folder(char *folder)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)weft_transport_load, &info) || !info.dli_fname)
        return false;
    const char *path = strchr(info.dli_fname, '/') ? info.dli_fname : "/proc/self/exe"; /* a program found by PATH */
    if (!realpath(path, folder))
        return false;
    *strrchr(folder, '/') = '\0';
    return true;
}

static weft_status try_folder(const char *folder, size_t length, const char *below, const char *name,
                              const weft_transport_ops **out, bool *found)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%.*s%s/libweft-transport-%s.so", (int)length, folder, below, name);
    if (length == 0 || n >= (int)sizeof path || access(path, F_OK) != 0)
        return WEFT_OK;
    *found = true;
    return weft_transport_load_file(path, name, out);
}

weft_status weft_transport_load(const char *name, const weft_transport_ops **out)
{
    char folder[PATH_MAX], path[WEFT_TRANSPORT_NAME + 32];
    bool found = false;
    weft_status status = check_name(name);
    for (const char *at = weft_settings_plugin_path(); status == WEFT_OK && !found && *at;) {
        size_t length = strcspn(at, ":");
        status = try_folder(at, length, "", name, out, &found);
        at += length + (at[length] == ':');
    }
    bool own = own_folder(folder);
    if (own && status == WEFT_OK && !found) /* beside libweft.so */
        status = try_folder(folder, strlen(folder), "/weft", name, out, &found);
    if (own && status == WEFT_OK && !found) /* from a program in bin */
        status = try_folder(folder, strlen(folder), "/../lib/weft", name, out, &found);
    if (found || status != WEFT_OK)
        return status;
    snprintf(path, sizeof path, "libweft-transport-%s.so", name);
    status = weft_transport_load_file(path, name, out);
    if (status != WEFT_ERR_UNSUPPORTED)
        return status;
    char why[256];
    snprintf(why, sizeof why, "%s", weft_last_error());
    return weft_fail(WEFT_ERR_UNSUPPORTED,
                     "there is no transport '%s': shm, tcp, verbs and plugin are built in, others are libraries in "
                     "WEFT_PLUGIN_PATH or %s%s: %s",
                     name, own ? folder : "the loader's path", own ? "/weft" : "", why);
}

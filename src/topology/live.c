/* This machine: reads sysfs, or lets hwloc read processors and PCI, and adds network, NVML and limits. What a job uses is decided
 * here: the file of WEFT_TOPO_FILE or the live machine. */
#define _GNU_SOURCE
#include "topology/live.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/output.h"
#include "base/settings.h"
#include "topology/import.h"
#include "topology/place.h"

/* ---- files ------------------------------------------------------------------------------------- */

static bool make_path(const weft_live *l, char *path, const char *format, va_list args)
{
    int head = snprintf(path, WEFT_LIVE_PATH, "%s", l->root);
    if (head < 0 || head >= WEFT_LIVE_PATH)
        return false;
    int tail = vsnprintf(path + head, (size_t)(WEFT_LIVE_PATH - head), format, args);
    return tail >= 0 && tail < WEFT_LIVE_PATH - head;
}

bool weft_live_read(const weft_live *l, char *text, size_t bytes, const char *format, ...)
{
    char path[WEFT_LIVE_PATH];
    va_list args;
    va_start(args, format);
    bool fits = make_path(l, path, format, args);
    va_end(args);
    int fd = fits ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    text[0] = 0;
    if (fd < 0)
        return false;
    size_t used = 0;
    ssize_t got;
    while (used + 1 < bytes && ((got = read(fd, text + used, bytes - 1 - used)) > 0 || (got < 0 && errno == EINTR)))
        used += got > 0 ? (size_t)got : 0;
    close(fd);
    while (used > 0 && (text[used - 1] == '\n' || text[used - 1] == ' '))
        used--;
    text[used] = 0;
    return used > 0;
}

bool weft_live_exists(const weft_live *l, const char *format, ...)
{
    char path[WEFT_LIVE_PATH];
    va_list args;
    va_start(args, format);
    bool fits = make_path(l, path, format, args);
    va_end(args);
    return fits && access(path, F_OK) == 0;
}

bool weft_live_resolve(const weft_live *l, char *text, size_t bytes, const char *format, ...)
{
    char path[WEFT_LIVE_PATH];
    va_list args;
    va_start(args, format);
    bool fits = make_path(l, path, format, args);
    va_end(args);
    char *resolved = fits ? realpath(path, NULL) : NULL;
    bool kept = resolved && strlen(resolved) < bytes;
    if (kept)
        snprintf(text, bytes, "%s", resolved);
    weft_free(resolved); /* libc's, as all memory here */
    return kept;
}

static int by_version(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

int weft_live_list(const weft_live *l, const char *folder, char **name, int room)
{
    char path[WEFT_LIVE_PATH];
    int count = 0;
    if (snprintf(path, sizeof path, "%s%s", l->root, folder) >= (int)sizeof path)
        return 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && count < room && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        name[count] = weft_strdup(entry->d_name);
        if (!name[count]) {
            l->t->out_of_memory = true;
            break;
        }
        count++;
    }
    if (dir)
        closedir(dir);
    qsort(name, (size_t)count, sizeof *name, by_version);
    return count;
}

int weft_live_numa(const weft_live *l, int os_index)
{
    int first = -1;
    for (int i = 0; i < l->t->nodes; i++) {
        if (l->t->node[i].shown.kind != WEFT_NODE_NUMA)
            continue;
        if (os_index >= 0 && l->t->node[i].shown.os_index == os_index)
            return i;
        first = first < 0 ? i : first;
    }
    return first;
}

void weft_live_limits(weft_live *l)
{
    static const struct {
        const char *path, *attribute;
    } files[] = {
        {"/proc/sys/net/core/rmem_max", "rmem_max"}, {"/proc/sys/net/core/wmem_max", "wmem_max"}, {"/proc/cmdline", "cmdline"}};
    char text[WEFT_LIVE_TEXT];
    struct rlimit locked;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (weft_live_read(l, text, sizeof text, "%s", files[i].path))
            weft_topology_set(l->t, l->host, files[i].attribute, text);
    if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0)
        weft_topology_set_number(l->t, l->host, "memlock", locked.rlim_cur == RLIM_INFINITY ? 9e18 : (double)locked.rlim_cur);
    char *group[1];
    if (weft_live_list(l, "/sys/kernel/iommu_groups", group, 1) > 0) {
        weft_topology_set(l->t, l->host, "iommu", "1");
        weft_free(group[0]);
    }
}

/* ---- hwloc ------------------------------------------------------------------------------------- */

/* Loaded when the program runs, so that the library needs only libc; its XML goes through our own reader. */
static weft_status read_hwloc(weft_topology **out)
{
    enum { KEEP_IMPORTANT = 3 };
    void *library = dlopen("libhwloc.so.15", RTLD_NOW | RTLD_LOCAL), *machine = NULL;
    if (!library)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "libhwloc.so.15 cannot be loaded (%s): install libhwloc15, or leave out hwloc",
                         dlerror());
    int (*init)(void **) = (int (*)(void **))(uintptr_t)dlsym(library, "hwloc_topology_init");
    int (*filter)(void *, int) = (int (*)(void *, int))(uintptr_t)dlsym(library, "hwloc_topology_set_io_types_filter");
    int (*load)(void *) = (int (*)(void *))(uintptr_t)dlsym(library, "hwloc_topology_load");
    int (*export)(void *, char **, int *, unsigned long) =
        (int (*)(void *, char **, int *, unsigned long))(uintptr_t)dlsym(library, "hwloc_topology_export_xmlbuffer");
    void (*free_buffer)(void *, char *) = (void (*)(void *, char *))(uintptr_t)dlsym(library, "hwloc_free_xmlbuffer");
    void (*destroy)(void *) = (void (*)(void *))(uintptr_t)dlsym(library, "hwloc_topology_destroy");
    char *text = NULL;
    int bytes = 0;
    weft_document d;
    weft_status status = WEFT_OK;
    if (!init || !filter || !load || !export || !free_buffer || !destroy || init(&machine) != 0 ||
        filter(machine, KEEP_IMPORTANT) != 0 || load(machine) != 0 || export(machine, &text, &bytes, 0) != 0 || bytes < 1)
        status = weft_fail(WEFT_ERR_UNSUPPORTED, "hwloc cannot describe this machine");
    if (status == WEFT_OK)
        status = weft_xml_parse(text, strnlen(text, (size_t)bytes), "hwloc", &d);
    if (status == WEFT_OK) {
        status = weft_hwloc_build(&d, out);
        weft_document_free(&d);
    }
    if (text)
        free_buffer(machine, text);
    if (machine && destroy)
        destroy(machine);
    dlclose(library);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int find_host(const weft_topology *t)
{
    for (int i = 0; i < t->nodes; i++)
        if (t->node[i].shown.kind == WEFT_NODE_HOST)
            return i;
    return 0;
}

weft_status weft_topology_read(const weft_topology_live *live, weft_topology **topology)
{
    weft_clear_error();
    if (live && live->size != sizeof *live)
        return weft_fail(WEFT_ERR_INVALID, "weft_topology_live of size %zu: it is sizeof(weft_topology_live), %zu", live->size,
                         sizeof *live);
    weft_live l = {.root = live && live->root ? live->root : "", .nvml = live ? live->nvml : NULL};
    bool hwloc = live && live->hwloc;
    weft_status status = WEFT_OK;
    if (hwloc) {
        status = read_hwloc(&l.t);
    } else {
        l.t = weft_topology_create("this machine");
        status = l.t ? WEFT_OK : weft_fail(WEFT_ERR_MEMORY, "no memory to read this machine");
    }
    if (status != WEFT_OK)
        return status;
    char name[WEFT_TOPOLOGY_NAME_BYTES];
    l.host = hwloc ? find_host(l.t) : weft_topology_add_node(l.t, WEFT_NODE_HOST, -1);
    snprintf(l.t->origin, sizeof l.t->origin, "this machine%s", hwloc ? ", by hwloc" : "");
    if (weft_live_read(&l, name, sizeof name, "/proc/sys/kernel/hostname"))
        weft_topology_set_name(l.t, l.host, name);
    if (!hwloc) {
        weft_live_processors(&l);
        weft_live_pci(&l);
    }
    weft_live_network(&l);
    weft_live_nvml(&l);
    weft_live_limits(&l);
    return weft_import_done(l.t, WEFT_OK, true, "this machine", topology);
}

weft_status weft_topology_read_processors(const char *root, weft_topology **topology)
{
    weft_live l = {.root = root, .t = weft_topology_create("this machine")};
    if (!l.t)
        return weft_fail(WEFT_ERR_MEMORY, "no memory to read this machine");
    l.host = weft_topology_add_node(l.t, WEFT_NODE_HOST, -1);
    weft_live_processors(&l);
    return weft_import_done(l.t, WEFT_OK, true, "this machine", topology);
}

static weft_status dump(const weft_topology *t, const char *path)
{
    size_t length = strlen(path);
    bool json = length > 5 && strcmp(path + length - 5, ".json") == 0;
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    weft_status status = stream ? weft_topology_write(t, json ? WEFT_TOPOLOGY_JSON : WEFT_TOPOLOGY_XML, stream) : WEFT_ERR_MEMORY;
    if ((stream && fclose(stream) != 0) || status != WEFT_OK)
        status = weft_fail(WEFT_ERR_MEMORY, "no memory for the text of WEFT_TOPO_DUMP_FILE %s", path);
    else if (!weft_output_write(path, text, bytes))
        status = weft_fail_errno(WEFT_ERR_SYSTEM, "WEFT_TOPO_DUMP_FILE %s cannot be written", path);
    weft_free(text); /* libc's, as all memory here */
    return status;
}

weft_status weft_topology_discover(weft_topology **topology)
{
    weft_settings settings;
    weft_topology *t = NULL;
    weft_clear_error();
    weft_status status = weft_settings_load(&settings);
    if (status != WEFT_OK)
        return status;
    status = settings.topology_file[0] ? weft_topology_load(settings.topology_file, &t) : weft_topology_read(NULL, &t);
    if (status == WEFT_OK && settings.topology_dump_file[0])
        status = dump(t, settings.topology_dump_file);
    weft_settings_unload(&settings);
    if (status == WEFT_OK)
        *topology = t;
    else
        weft_topology_free(t);
    return status;
}

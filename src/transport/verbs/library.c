/* Finds libibverbs.so.1 and the functions in it. */
#include "transport/verbs/library.h"

#include <dlfcn.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static weft_verbs_library real;
static bool loaded;
static const weft_verbs_library *used; /* all under the lock */

/* Where in the table which function belongs. */
static const struct {
    size_t offset;
    const char *name;
    bool optional;
} functions[] = {
#define FUNCTION(member, needed) {offsetof(weft_verbs_library, member), "ibv_" #member, !(needed)}
    FUNCTION(get_device_list, true), FUNCTION(free_device_list, true), FUNCTION(get_device_name, true),
    FUNCTION(open_device, true), FUNCTION(close_device, true), FUNCTION(query_device, true),
    FUNCTION(query_port, true), FUNCTION(query_gid, true), FUNCTION(query_pkey, true),
    FUNCTION(alloc_pd, true), FUNCTION(dealloc_pd, true), FUNCTION(reg_mr, true), FUNCTION(reg_mr_iova2, false),
    FUNCTION(reg_dmabuf_mr, false), FUNCTION(dereg_mr, true),
    FUNCTION(create_comp_channel, true), FUNCTION(destroy_comp_channel, true), FUNCTION(create_cq, true),
    FUNCTION(destroy_cq, true), FUNCTION(get_cq_event, true), FUNCTION(ack_cq_events, true), FUNCTION(create_srq, true),
    FUNCTION(destroy_srq, true), FUNCTION(create_qp, true), FUNCTION(modify_qp, true), FUNCTION(destroy_qp, true),
    FUNCTION(get_async_event, true), FUNCTION(ack_async_event, true), FUNCTION(wc_status_str, true),
    FUNCTION(event_type_str, true),
#undef FUNCTION
};

static weft_status load(void)
{
    void *handle = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "verbs: %s (Debian: apt install libibverbs1 ibverbs-providers)", dlerror());
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *function = dlsym(handle, functions[i].name);
        if (!function && !functions[i].optional) {
            dlclose(handle);
            return weft_fail(WEFT_ERR_UNSUPPORTED, "verbs: libibverbs.so.1 has no %s: it is too old", functions[i].name);
        }
        *(void **)(void *)((char *)&real + functions[i].offset) = function;
    }
    loaded = true; /* and stays: drivers keep state in it */
    return WEFT_OK;
}

weft_status weft_verbs_library_get(const weft_verbs_library **out)
{
    pthread_mutex_lock(&lock);
    weft_status status = used || loaded ? WEFT_OK : load();
    *out = used ? used : &real;
    pthread_mutex_unlock(&lock);
    return status;
}

void weft_verbs_library_set(const weft_verbs_library *library)
{
    pthread_mutex_lock(&lock);
    used = library;
    pthread_mutex_unlock(&lock);
}

/* The key-value store of PMIx (Open MPI's mpirun, srun --mpi=pmix), by libpmix loaded at run time. Only what is needed of
 * its interface is declared here, from the PMIx standard 2.x to 4.x, which share this part. */
#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/control_socket.h"
#include "core/launch.h"

/* The standard's pmix_proc_t, pmix_value_t and numbers. */
typedef struct pmix_proc { char nspace[256]; uint32_t rank; } pmix_proc;
typedef struct pmix_value {
    uint16_t type;
    union {
        char *string;
        uint32_t uint32;
        int integer;
        uint8_t room[64]; /* the true union is smaller in every version */
    } data;
} pmix_value;
typedef struct pmix_info { char key[512]; uint32_t flags; pmix_value value; } pmix_info; /* only ever one of them */
enum { PMIX_SUCCESS = 0, PMIX_TYPE_STRING = 3, PMIX_TYPE_INT = 6, PMIX_TYPE_UINT32 = 14, PMIX_SCOPE_GLOBAL = 3 };
#define PMIX_RANK_WILDCARD (UINT32_MAX - 1)
enum { VALUE_BYTES = 500, ASK_AGAIN_MS = 20, ONE_WAIT_S = 5 };

/* One per process: initialised once, finalised at exit. PMIx counts, so an MPI library in the process may do the same. */
static struct {
    pthread_mutex_t lock;
    bool ready;
    pid_t pid;
    pmix_proc self;
    int (*init)(pmix_proc *self, void *info, size_t infos);
    int (*finalize)(const void *info, size_t infos);
    int (*put)(uint8_t scope, const char *key, pmix_value *value);
    int (*commit)(void);
    int (*get)(const pmix_proc *who, const char *key, const void *info, size_t infos, pmix_value **value);
    const char *(*error_string)(int status);
    void (*free_value)(pmix_value *value, size_t count); /* not in all versions */
} pmix = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void end_at_exit(void)
{
    if (pmix.ready && pmix.pid == getpid())
        pmix.finalize(NULL, 0);
}

static weft_status load(void)
{
    void *library = dlopen("libpmix.so.2", RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "the launcher offers PMIx, but libpmix.so.2 cannot be loaded (%s): install "
                         "libpmix2, or set WEFT_RENDEZVOUS", dlerror());
    const struct { const char *name; void *place; } symbols[] = {
        { "PMIx_Init", &pmix.init }, { "PMIx_Finalize", &pmix.finalize }, { "PMIx_Put", &pmix.put },
        { "PMIx_Commit", &pmix.commit }, { "PMIx_Get", &pmix.get }, { "PMIx_Error_string", &pmix.error_string },
    };
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (symbol == NULL)
            return weft_fail(WEFT_ERR_UNSUPPORTED, "libpmix.so.2 has no %s: set WEFT_RENDEZVOUS", symbols[i].name);
        memcpy(symbols[i].place, &symbol, sizeof symbol);
    }
    void *symbol = dlsym(library, "PMIx_Value_free");
    memcpy(&pmix.free_value, &symbol, sizeof symbol);
    return WEFT_OK; /* never unloaded: it has threads */
}

static void free_value(pmix_value *value)
{
    if (pmix.free_value != NULL && value != NULL)
        pmix.free_value(value, 1);
}

static weft_status begin(void)
{
    if (pmix.ready && pmix.pid == getpid())
        return WEFT_OK;
    if (pmix.ready)
        return weft_fail(WEFT_ERR_USAGE, "the process has forked: only the parent may use the launcher's PMIx");
    weft_status status = load();
    if (status != WEFT_OK)
        return status;
    int result = pmix.init(&pmix.self, NULL, 0);
    if (result != PMIX_SUCCESS)
        return weft_fail(WEFT_ERR_SYSTEM, "PMIx_Init failed: %s", pmix.error_string(result));
    pmix.pid = getpid();
    pmix.ready = true;
    atexit(end_at_exit);
    return WEFT_OK;
}

static int store_set(void *context, const char *key, const void *data, size_t bytes)
{
    char hex[2 * VALUE_BYTES + 1];
    pmix_value value = { .type = PMIX_TYPE_STRING, .data.string = hex };
    (void)context;
    if (bytes > VALUE_BYTES)
        return -1;
    weft_launch_to_hex(data, bytes, hex);
    pthread_mutex_lock(&pmix.lock);
    int result = pmix.put(PMIX_SCOPE_GLOBAL, key, &value);
    if (result == PMIX_SUCCESS)
        result = pmix.commit();
    pthread_mutex_unlock(&pmix.lock);
    return result;
}

/* Rank 0's value. A key that is not there yet is an error at once in some versions, so it is asked for again. */
static int store_get(void *context, const char *key, void *data, size_t *bytes, int64_t timeout_ms)
{
    int64_t deadline_ns = weft_deadline_ns(timeout_ms);
    pmix_proc root = pmix.self;
    pmix_info timeout = { .key = "pmix.timeout", .value = { .type = PMIX_TYPE_INT } };
    root.rank = 0;
    (void)context;
    for (;;) {
        pmix_value *value = NULL;
        timeout.value.data.integer = 1 + weft_control_poll_ms(deadline_ns, ONE_WAIT_S * 1000 - 1) / 1000;
        pthread_mutex_lock(&pmix.lock);
        int result = pmix.get(&root, key, &timeout, 1, &value);
        pthread_mutex_unlock(&pmix.lock);
        if (result == PMIX_SUCCESS && value != NULL) {
            bool good = value->type == PMIX_TYPE_STRING && weft_launch_from_hex(value->data.string, data, bytes);
            free_value(value);
            return good ? 0 : -1;
        }
        if (weft_now_ns() >= deadline_ns)
            return result != 0 ? result : -1;
        poll(NULL, 0, weft_control_poll_ms(deadline_ns, ASK_AGAIN_MS));
    }
}

static void release(weft_launch_store *store)
{
    weft_free(store);
}

static weft_status ask_size(int *size)
{
    pmix_proc job = pmix.self;
    pmix_value *value = NULL;
    job.rank = PMIX_RANK_WILDCARD;
    int result = pmix.get(&job, "pmix.job.size", NULL, 0, &value);
    if (result != PMIX_SUCCESS || value == NULL || value->type != PMIX_TYPE_UINT32)
        return weft_fail(WEFT_ERR_SYSTEM, "PMIx does not tell the number of ranks (pmix.job.size): %s",
                         pmix.error_string(result));
    *size = (int)value->data.uint32;
    free_value(value);
    return WEFT_OK;
}

weft_status weft_launch_pmix_open(int *rank, int *size, weft_launch_store **out)
{
    weft_launch_store *store = weft_alloc(sizeof *store);
    if (store == NULL)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for the PMIx store");
    pthread_mutex_lock(&pmix.lock);
    weft_status status = begin();
    if (status == WEFT_OK && *size < 0)
        status = ask_size(size);
    pthread_mutex_unlock(&pmix.lock);
    if (status == WEFT_OK && (*rank < 0 || *rank >= *size))
        status = weft_fail(WEFT_ERR_INVALID, "PMIX_RANK is %d, but PMIx counts %d ranks", *rank, *size);
    if (status != WEFT_OK) {
        weft_free(store);
        return status;
    }
    store->release = release;
    store->store = (weft_store){ .set = store_set, .get = store_get };
    *out = store;
    return WEFT_OK;
}

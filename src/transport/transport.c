/* The registry of transports: finds a table by name and fills its missing optional operations with defaults.
 * Which transport a pair of ranks uses is the communicator's choice. */
#include <pthread.h>
#include <string.h>
#include <weft/transport.h>

#include "base/base.h"

extern const weft_transport_ops weft_shm_transport;
extern const weft_transport_ops weft_tcp_transport;

static const weft_transport_ops *const builtin[] = { &weft_shm_transport, &weft_tcp_transport };

static weft_transport_ops filled[ARRAY_LEN(builtin)];
static pthread_once_t filled_once = PTHREAD_ONCE_INIT;

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

static weft_status no_flush(weft_transport *t, int64_t timeout_ms)
{
    (void)t, (void)timeout_ms;
    return WEFT_OK;
}

static void fill_all(void)
{
    for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
        weft_transport_ops *ops = &filled[i];
        *ops = *builtin[i];
        ops->wait_fd = ops->wait_fd ? ops->wait_fd : no_wait_fd;
        ops->arm = ops->arm ? ops->arm : no_arm;
        ops->abandon = ops->abandon ? ops->abandon : no_abandon;
        ops->mem_register = ops->mem_register ? ops->mem_register : no_mem_register;
        ops->mem_deregister = ops->mem_deregister ? ops->mem_deregister : no_mem_deregister;
        ops->flush = ops->flush ? ops->flush : no_flush;
    }
}

const weft_transport_ops *weft_transport_find(const char *name)
{
    pthread_once(&filled_once, fill_all);
    for (size_t i = 0; name && i < ARRAY_LEN(filled); i++) {
        if (strcmp(filled[i].name, name) == 0)
            return &filled[i];
    }
    return NULL;
}

/* Libraries that are NCCL network plugins: found, loaded once per process, and refused when their tables are not NCCL's. */
#ifndef WEFT_PLUGIN_NET_LIBRARY_H
#define WEFT_PLUGIN_NET_LIBRARY_H

#include "base/base.h"
#include "transport/plugin/nccl_abi.h"

typedef union weft_net_table {
    const void *any;
    const nccl_net_v6 *v6;
    const nccl_net_v7 *v7;
    const nccl_net_v8 *v8;
    const nccl_net_v9 *v9;
    const nccl_net_v10 *v10;
    const nccl_net_v11 *v11;
    const nccl_net_v12 *v12;
} weft_net_table;

typedef struct weft_net_library {
    struct weft_net_library *next;
    weft_net_table table;
    int version;
    bool initialised;  /* versions before 11: once per process */
    char path[256];
} weft_net_library;

/* Stays loaded for the rest of the process: plugins start threads and register exit handlers. */
weft_status weft_net_library_get(const char *setting, const weft_net_library **out);
/* Whether its table has what is needed: after its init, which fills it in plugins that choose what they are then
 * (nccl-rdma-sharp-plugins). */
weft_status weft_net_library_check(const weft_net_library *library);
/* The init of versions before 11, done once. */
nccl_result weft_net_library_init(const weft_net_library *library, nccl_profiler_function profiler);

/* What plugins log goes to Weft's log, one level lower, as NCCL prints none of it by default; warnings of this thread are also
 * kept, to say what went wrong. */
void weft_net_log(nccl_log_level level, unsigned long flags, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *weft_net_last_warning(void);
void weft_net_clear_warning(void);

#endif

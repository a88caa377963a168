/* Rank, size and meeting place from the launcher's environment. How a launcher's own store works is launch_pmix.c's
 * and launch_pmi.c's. */
#include "core/launch.h"

#include <stdlib.h>
#include <string.h>

#include "base/settings.h"
#include "core/rendezvous_url.h"

enum { FURTHER_PORTS = 15 };

/* Launchers in the order of belief: torchrun inside srun is torchrun; mpirun inside a Slurm allocation is mpirun. */
static const struct launcher {
    const char *name, *rank, *size;
} launchers[] = {
    { "torchrun", "RANK", "WORLD_SIZE" },
    { "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" },
    { "PMIx", "PMIX_RANK", NULL },
    { "MPICH", "PMI_RANK", "PMI_SIZE" },
    { "Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS" },
    { "Slurm", "SLURM_PROCID", "SLURM_NTASKS" },
};

static const char *variable(const char *name)
{
    const char *text = name != NULL ? getenv(name) : NULL;
    return text != NULL && *text != 0 ? text : NULL;
}

static weft_status number(const char *name, int64_t low, int64_t high, int *value)
{
    int64_t parsed;
    if (weft_parse_int(variable(name), low, high, &parsed) != WEFT_OK)
        return weft_fail(WEFT_ERR_PARSE, "%s is '%.100s': must be a number from %lld to %lld", name, variable(name),
                         (long long)low, (long long)high);
    *value = (int)parsed;
    return WEFT_OK;
}

/* Variables of a batch script's own shell describe the job, not a launched rank. */
static bool is_batch_script(const struct launcher *l)
{
    return strcmp(l->name, "Slurm") == 0 && variable("SLURM_JOB_ID") != NULL && variable("SLURM_STEP_ID") == NULL &&
           variable("SLURM_STEPID") == NULL;
}

static const struct launcher *find_launcher(void)
{
    for (size_t i = 0; i < ARRAY_LEN(launchers); i++) {
        const struct launcher *l = &launchers[i];
        if (variable(l->rank) != NULL && (l->size == NULL || variable(l->size) != NULL) && !is_batch_script(l))
            return l;
    }
    return NULL;
}

/* No pair of variables is complete: one half of a pair is a mistake, nothing at all is one rank. */
static weft_status check_halves(void)
{
    for (size_t i = 0; i < ARRAY_LEN(launchers); i++) {
        const struct launcher *l = &launchers[i];
        if (l->size == NULL || is_batch_script(l) || (variable(l->rank) == NULL) == (variable(l->size) == NULL))
            continue;
        if (strcmp(l->name, "Slurm") == 0 && variable(l->rank) == NULL)
            continue; /* salloc's shell */
        bool has_rank = variable(l->rank) != NULL;
        return weft_fail(WEFT_ERR_INVALID, "%s is set to '%.100s' but %s is not: a rank needs both",
                         has_rank ? l->rank : l->size, variable(has_rank ? l->rank : l->size), has_rank ? l->size : l->rank);
    }
    return WEFT_OK;
}

static weft_status rank_and_size(weft_launch *launch)
{
    const struct launcher *l = find_launcher();
    launch->rank = 0;
    launch->size = 1;
    launch->launcher = "none";
    if (l == NULL)
        return check_halves();
    launch->launcher = l->name;
    launch->size = -1;
    weft_status status = number(l->rank, 0, INT32_MAX - 1, &launch->rank);
    if (status == WEFT_OK && l->size != NULL)
        status = number(l->size, 1, INT32_MAX, &launch->size);
    if (status == WEFT_OK && l->size != NULL && launch->rank >= launch->size)
        return weft_fail(WEFT_ERR_INVALID, "%s is %d, but must be below %s, which is %d", l->rank, launch->rank, l->size,
                         launch->size);
    return status;
}

/* The URL of a launcher's MASTER_ADDR: near MASTER_PORT, where torchrun's own store sits. The token keeps jobs at
 * near ports, and a restarted job and what is left of it, apart. */
static weft_status master_url(weft_launch *launch)
{
    const char *host = variable("MASTER_ADDR"), *port_text = variable("MASTER_PORT");
    int port = 0;
    if (host == NULL || port_text == NULL)
        return weft_fail(WEFT_ERR_INVALID, "%s is set to '%.200s' but %s is not: the meeting place needs both",
                         host != NULL ? "MASTER_ADDR" : "MASTER_PORT", host != NULL ? host : port_text,
                         host != NULL ? "MASTER_PORT" : "MASTER_ADDR");
    weft_status status = number("MASTER_PORT", 1, 65535, &port);
    if (status != WEFT_OK)
        return status;
    if (strlen(host) > 255)
        return weft_fail(WEFT_ERR_PARSE, "MASTER_ADDR is longer than 255 characters");
    int first = port + 1 + FURTHER_PORTS <= 65535 ? port + 1 : port - 1 - FURTHER_PORTS;
    bool bare_six = strchr(host, ':') != NULL && *host != '[';
    snprintf(launch->url, sizeof launch->url, bare_six ? "tcp://[%s]:%d+%d" : "tcp://%s:%d+%d", host, first,
             FURTHER_PORTS);
    const char *run = variable("TORCHELASTIC_RUN_ID"), *restart = variable("TORCHELASTIC_RESTART_COUNT");
    snprintf(launch->token, sizeof launch->token, "%d/%.80s/%.20s", port, run != NULL ? run : "",
             restart != NULL ? restart : "");
    weft_url url;
    status = weft_url_parse(launch->url, &url);
    return status == WEFT_OK ? status : weft_fail_context(status, "MASTER_ADDR");
}

static weft_status own_url(weft_launch *launch, bool *found)
{
    weft_settings settings = { 0 };
    weft_url url;
    weft_status status = weft_settings_load(&settings);
    if (status != WEFT_OK)
        return status;
    *found = settings.rendezvous[0] != 0;
    if (*found) {
        status = weft_url_parse(settings.rendezvous, &url);
        if (status == WEFT_OK && strlen(settings.rendezvous) >= sizeof launch->url)
            status = weft_fail(WEFT_ERR_PARSE, "the URL is longer than %zu characters", sizeof launch->url - 1);
        if (status != WEFT_OK)
            status = weft_fail_context(status, "WEFT_RENDEZVOUS");
        snprintf(launch->url, sizeof launch->url, "%.500s", settings.rendezvous);
    }
    weft_settings_unload(&settings);
    return status;
}

static void use_store(weft_launch *launch, weft_launch_store *store)
{
    /* Ranks create their communicators in the same order, so the same number is the same creation. */
    static atomic_uint creations;
    unsigned creation = atomic_fetch_add_explicit(&creations, 1, memory_order_relaxed);
    snprintf(store->prefix, sizeof store->prefix, "weft-%u-", creation);
    store->store.prefix = store->prefix;
    launch->kind = WEFT_RENDEZVOUS_STORE;
    launch->store = store->store;
    launch->owner = store;
}

weft_status weft_launch_detect(weft_launch *launch)
{
    weft_launch_store *store = NULL;
    bool found = false;
    memset(launch, 0, sizeof *launch);
    launch->kind = WEFT_RENDEZVOUS_URL;
    weft_status status = rank_and_size(launch);
    if (status == WEFT_OK)
        status = own_url(launch, &found);
    if (status != WEFT_OK || (found && launch->size > 0))
        return status;
    if (!found && launch->size != 1 && (variable("MASTER_ADDR") != NULL || variable("MASTER_PORT") != NULL)) {
        status = master_url(launch);
        found = true;
    }
    if (status != WEFT_OK || launch->size == 1 || (found && launch->size > 0))
        return status;
    if (variable("PMIX_NAMESPACE") != NULL && variable("PMIX_RANK") != NULL) {
        status = weft_launch_pmix_open(&launch->rank, &launch->size, &store);
        if (status != WEFT_OK)
            return status;
        if (found || launch->size == 1)
            store->release(store); /* only its size was wanted */
        else
            use_store(launch, store);
        return WEFT_OK;
    }
    if (variable("PMI_FD") != NULL) {
        status = weft_launch_pmi_open(launch->rank, launch->size, &store);
        if (status == WEFT_OK)
            use_store(launch, store);
        return status;
    }
    return weft_fail(WEFT_ERR_INVALID, "rank %d of %d (%s) knows no meeting place: set WEFT_RENDEZVOUS (tcp://host:port or "
                     "file:///path), or MASTER_ADDR and MASTER_PORT, or start it by a launcher with PMIx (PMIX_NAMESPACE) or "
                     "PMI (PMI_FD; srun --mpi=pmix or --mpi=pmi2)", launch->rank, launch->size, launch->launcher);
}

void weft_launch_release(weft_launch *launch)
{
    weft_launch_store *store = launch->owner;
    if (store != NULL)
        store->release(store);
    launch->owner = NULL;
}

void weft_launch_to_hex(const void *data, size_t bytes, char *hex)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = data;
    for (size_t i = 0; i < bytes; i++) {
        *hex++ = digits[in[i] >> 4];
        *hex++ = digits[in[i] & 15];
    }
    *hex = 0;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool weft_launch_from_hex(const char *hex, void *data, size_t *bytes)
{
    size_t length = strlen(hex);
    uint8_t *out = data;
    if (length % 2 != 0 || length / 2 > *bytes)
        return false;
    for (size_t i = 0; i < length; i += 2) {
        int high = digit(hex[i]), low = digit(hex[i + 1]);
        if (high < 0 || low < 0)
            return false;
        *out++ = (uint8_t)(high << 4 | low);
    }
    *bytes = length / 2;
    return true;
}

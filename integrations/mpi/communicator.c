/* Weft's communicator of an MPI communicator: an attribute, made collectively at the first call that may wait for all ranks,
 * gone with the MPI communicator or in MPI_Finalize. Also the beginning and the end of the library, and errors. */
#include "weft_mpi.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each communicator made here has connections and a sleeping thread of its own; beyond this many, calls on further ones are
 * passed on, which the ranks of each agree about. */
enum { MOST_BOOTSTRAPPED = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, begin and end */
static weft_mpi_comm *all, *gone;
static int bootstrapped;
static _Atomic bool ready;
static bool ended;
static int keyval = MPI_KEYVAL_INVALID, end_keyval = MPI_KEYVAL_INVALID;
static int error_codes[WEFT_STATUS_COUNT];

/* What this thread found last, NULL: one that Weft does not know yet; `generation` changes whenever a communicator goes, as its
 * handle may come again, and whenever one becomes known. */
static _Atomic unsigned generation = 1;
_Atomic(MPI_Comm) weft_mpi_lone_comm = MPI_COMM_NULL;
static WEFT_MPI_THREAD_LOCAL struct {
    MPI_Comm comm;
    weft_mpi_comm *found;
    unsigned generation;
} recent;
static WEFT_MPI_THREAD_LOCAL bool own_call;

bool weft_mpi_own_call(void) { return own_call; }

bool weft_mpi_ready(void) { return atomic_load_explicit(&ready, memory_order_acquire); /* release in begin_locked */ }

/* A communicator is freed, maybe in a way that did not pass by here (MPICH's module mpi_f08 calls PMPI_Comm_free). The MPI may
 * hold locks now, so that Weft is not entered: what is to be released waits for weft_mpi_release_freed. */
static int attribute_deleted(MPI_Comm comm, int key, void *value, void *extra)
{
    (void)comm, (void)key, (void)extra;
    weft_mpi_comm *c = value;
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    atomic_store_explicit(&weft_mpi_lone_comm, MPI_COMM_NULL, memory_order_relaxed);
    atomic_store_explicit(&c->freed, true, memory_order_relaxed);
    return MPI_SUCCESS;
}

/* The first thing that MPI_Finalize does, by the standard, is to delete the attributes of MPI_COMM_SELF. */
static int self_attribute_deleted(MPI_Comm comm, int key, void *value, void *extra)
{
    (void)comm, (void)key, (void)value, (void)extra;
    weft_mpi_end();
    return MPI_SUCCESS;
}

static void make_error_codes(void)
{
    int class;
    if (PMPI_Add_error_class(&class) != MPI_SUCCESS)
        class = MPI_ERR_OTHER;
    else
        PMPI_Add_error_string(class, "Weft failed");
    for (int i = 0; i < WEFT_STATUS_COUNT; i++) {
        char text[MPI_MAX_ERROR_STRING];
        snprintf(text, sizeof text, "Weft: %s", weft_status_text((weft_status)i));
        if (PMPI_Add_error_code(class, &error_codes[i]) != MPI_SUCCESS)
            error_codes[i] = MPI_ERR_OTHER;
        else
            PMPI_Add_error_string(error_codes[i], text);
    }
}

/* The first collective of the process begins the library. */
static bool begin_locked(void)
{
    int initialized = 0, finalized = 0;
    if (ended || PMPI_Initialized(&initialized) != MPI_SUCCESS || !initialized ||
        PMPI_Finalized(&finalized) != MPI_SUCCESS || finalized)
        return false;
    if (PMPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, attribute_deleted, &keyval, NULL) != MPI_SUCCESS ||
        !weft_mpi_progress_begin() || weft_mpi_types_create() != WEFT_OK) {
        fprintf(stderr, "weft-mpi: cannot begin: %s\n", weft_last_error());
        abort(); /* other ranks begin: passing on here alone would hang them all */
    }
    make_error_codes();
    if (PMPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, self_attribute_deleted, &end_keyval, NULL) == MPI_SUCCESS)
        PMPI_Comm_set_attr(MPI_COMM_SELF, end_keyval, NULL);
    atomic_store_explicit(&ready, true, memory_order_release); /* acquire in weft_mpi_ready */
    return true;
}

static bool begin(void)
{
    if (weft_mpi_ready())
        return true;
    pthread_mutex_lock(&lock);
    bool good = weft_mpi_ready() || begin_locked();
    pthread_mutex_unlock(&lock);
    return good;
}

int weft_mpi_fail(const weft_mpi_comm *c, weft_mpi_kind kind, weft_status status)
{
#define KIND_TEXT(name, text) text,
    static const char *const names[] = {WEFT_MPI_KINDS(KIND_TEXT)};
#undef KIND_TEXT
    fprintf(stderr, "weft-mpi: MPI_%s on rank %d of %d: %s: %s\n", names[kind], c->rank, c->size, weft_status_text(status),
            weft_last_error());
    weft_mpi_raise(c->comm, error_codes[status]);
    return error_codes[status];
}

/* ---- creation ---------------------------------------------------------------------------------- */

static int gather_over_mpi(void *context, const void *send, void *recv, size_t bytes)
{
    own_call = true;
    int code = PMPI_Allgather(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, *(MPI_Comm *)context);
    own_call = false;
    return code != MPI_SUCCESS;
}

/* Whether all ranks say yes. */
static bool agreed(MPI_Comm comm, bool yes)
{
    int mine = yes, least = 0;
    own_call = true;
    int code = PMPI_Allreduce(&mine, &least, 1, MPI_INT, MPI_MIN, comm);
    own_call = false;
    return code == MPI_SUCCESS && least;
}

static bool may_have_another(void)
{
    pthread_mutex_lock(&lock);
    bool yes = bootstrapped < MOST_BOOTSTRAPPED;
    bootstrapped += yes;
    pthread_mutex_unlock(&lock);
    return yes;
}

/* Collective: c->weft, or NULL on all ranks. */
static void bootstrap(weft_mpi_comm *c)
{
    c->fate = WEFT_MPI_NO_COMM;
    c->bootstrapped = may_have_another();
    if (!agreed(c->comm, c->bootstrapped))
        return;
    weft_config config = WEFT_CONFIG_INIT;
    const char *timeout = getenv("WEFT_TIMEOUT");
    if (!timeout || !*timeout)
        config.timeout_ms = -1; /* as in MPI: a rank may compute for hours, and mpirun sees deaths */
    MPI_Comm comm = c->comm;
    weft_status status = weft_comm_create_allgather(gather_over_mpi, &comm, c->rank, c->size, &config, &c->weft);
    if (status != WEFT_OK)
        fprintf(stderr, "weft-mpi: rank %d of %d: no communicator of Weft, its calls are passed on: %s: %s\n", c->rank,
                c->size, weft_status_text(status), weft_last_error());
    if (agreed(c->comm, status == WEFT_OK)) {
        c->fate = WEFT_MPI_SERVED;
        return;
    }
    weft_comm_destroy(c->weft);
    c->weft = NULL;
}

void weft_mpi_release_freed(void)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        weft_mpi_comm *c = all;
        while (c && !atomic_load_explicit(&c->freed, memory_order_relaxed))
            c = c->next;
        if (c)
            atomic_store_explicit(&c->freed, false, memory_order_relaxed);
        pthread_mutex_unlock(&lock);
        if (!c)
            return;
        weft_mpi_comm_release(c);
    }
}

static weft_mpi_comm *create(MPI_Comm comm, weft_mpi_form form, weft_mpi_fate *fate)
{
    weft_mpi_release_freed();
    int inter = 0, size = 0;
    if (PMPI_Comm_test_inter(comm, &inter) != MPI_SUCCESS || PMPI_Comm_size(comm, &size) != MPI_SUCCESS)
        return NULL;
    bool to_serve = !inter && size > 1;
    if (to_serve && form == WEFT_MPI_REQUEST) {
        /* Creation waits for all ranks, which a call that must not block may not. */
        *fate = WEFT_MPI_NOT_YET;
        return NULL;
    }
    weft_mpi_comm *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* as above: this rank cannot tell the others */
    *c = (weft_mpi_comm){.comm = comm, .size = size, .fate = inter ? WEFT_MPI_INTERCOMM : WEFT_MPI_ONE_RANK, .references = 1};
    PMPI_Comm_rank(comm, &c->rank);
    if (to_serve)
        bootstrap(c);
    pthread_mutex_lock(&lock);
    c->next = all;
    c->link = &all;
    if (c->next)
        c->next->link = &c->next;
    all = c;
    pthread_mutex_unlock(&lock);
    PMPI_Comm_set_attr(comm, keyval, c);
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    return c;
}

weft_mpi_comm *weft_mpi_comm_of(MPI_Comm comm, weft_mpi_form form, weft_mpi_fate *fate)
{
    unsigned now = atomic_load_explicit(&generation, memory_order_relaxed);
    weft_mpi_comm *c = recent.found;
    if (recent.generation != now || recent.comm != comm || (!c && form != WEFT_MPI_REQUEST)) {
        *fate = WEFT_MPI_ARGUMENTS;
        if (comm == MPI_COMM_NULL || weft_mpi_inside() || !begin())
            return NULL;
        int found = 0;
        if (PMPI_Comm_get_attr(comm, keyval, &c, &found) != MPI_SUCCESS)
            return NULL;
        if (!found && !(c = create(comm, form, fate)) && *fate != WEFT_MPI_NOT_YET)
            return NULL;
        recent.comm = comm;
        recent.found = c;
        recent.generation = now;
    }
    *fate = c ? c->fate : WEFT_MPI_NOT_YET;
    if (!c)
        return NULL;
    if (c->fate == WEFT_MPI_ONE_RANK)
        atomic_store_explicit(&weft_mpi_lone_comm, comm, memory_order_relaxed);
    return c->weft ? c : NULL;
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void unlink_locked(weft_mpi_comm *c)
{
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    bootstrapped -= c->bootstrapped;
}

void weft_mpi_comm_release(weft_mpi_comm *c)
{
    if (atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1) /* orders what other threads did with it */
        return;
    pthread_mutex_lock(&lock);
    unlink_locked(c);
    pthread_mutex_unlock(&lock);
    weft_comm_destroy(c->weft);
    free(c);
}

/* Before the MPI frees a communicator. */
void weft_mpi_comm_forget(MPI_Comm comm)
{
    weft_mpi_comm *c;
    int found = 0;
    if (!weft_mpi_ready() || comm == MPI_COMM_NULL || PMPI_Comm_get_attr(comm, keyval, &c, &found) != MPI_SUCCESS || !found)
        return;
    PMPI_Comm_delete_attr(comm, keyval); /* which marks it as freed */
    weft_mpi_release_freed();
}

/* Whether it has been created here, which all its ranks do together; others may have begun nothing at all. */
static bool known(MPI_Comm comm)
{
    weft_mpi_comm *c;
    int found = 0;
    return PMPI_Comm_get_attr(comm, keyval, &c, &found) == MPI_SUCCESS && found;
}

/* Once: calls after it are the MPI's. */
void weft_mpi_end(void)
{
    while (weft_mpi_any_active())
        weft_mpi_poll();
    pthread_mutex_lock(&lock);
    bool first = !ended, begun = weft_mpi_ready();
    ended = true;
    weft_mpi_comm *left = all;
    all = NULL;
    pthread_mutex_unlock(&lock);
    if (!first)
        return;
    own_call = true;
    weft_mpi_report(begun && known(MPI_COMM_WORLD));
    own_call = false;
    if (!begun)
        return;
    while (left) {
        weft_mpi_comm *c = left;
        left = c->next;
        weft_comm_destroy(c->weft);
        c->weft = NULL;
        c->next = gone; /* kept: the attributes of communicators that are still there point to them */
        gone = c;
    }
    atomic_store_explicit(&ready, false, memory_order_release);
    atomic_fetch_add_explicit(&generation, 1, memory_order_relaxed);
    weft_mpi_types_destroy();
    weft_mpi_progress_end();
}

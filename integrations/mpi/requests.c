/* MPI requests for operations of Weft, and the functions that wait for requests.
 *
 * A nonblocking operation is a generalized request: a true handle of the MPI, so that arrays of requests may mix both kinds,
 * Fortran can convert it, and calls that nobody takes here work too. A persistent operation is a persistent receive of an empty
 * message from this rank to itself on a communicator of our own, which is sent when Weft's operation is done. */
#include "weft_mpi.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of both lists; never held in calls of the MPI */
static weft_mpi_operation *under_way, *persistent;
static _Atomic int active_count, persistent_count;
static int next_tag;
static _Thread_local bool polling;

bool weft_mpi_any_active(void) { return atomic_load_explicit(&active_count, memory_order_relaxed) > 0; }

/* ---- under way --------------------------------------------------------------------------------- */

static void link_locked(weft_mpi_operation *o)
{
    o->active = true;
    o->next = under_way;
    o->link = &under_way;
    if (o->next)
        o->next->link = &o->next;
    under_way = o;
    atomic_fetch_add_explicit(&active_count, 1, memory_order_relaxed);
}

static void unlink_locked(weft_mpi_operation *o)
{
    o->active = false;
    *o->link = o->next;
    if (o->next)
        o->next->link = o->link;
}

static void link_operation(weft_mpi_operation *o)
{
    pthread_mutex_lock(&lock);
    link_locked(o);
    pthread_mutex_unlock(&lock);
}

/* Weft's part of an unlinked operation is over. */
static void complete(weft_mpi_operation *o, weft_status status)
{
    if (status == WEFT_OK)
        weft_mpi_unpack_outputs(o);
    else
        o->error = weft_mpi_fail(o->comm, o->kind, status);
    if (o->form == WEFT_MPI_PERSISTENT)
        PMPI_Send(NULL, 0, MPI_BYTE, 0, o->tag, weft_mpi_self());
    else
        PMPI_Grequest_complete(o->handle);
    atomic_fetch_sub_explicit(&active_count, 1, memory_order_relaxed);
}

void weft_mpi_poll(void)
{
    if (!weft_mpi_any_active() || polling || weft_mpi_inside() || pthread_mutex_trylock(&lock) != 0)
        return;
    polling = true;
    weft_mpi_operation *done_list = NULL;
    for (weft_mpi_operation *o = under_way, *next; o; o = next) {
        next = o->next;
        bool done = false;
        weft_status status = weft_test(&o->request, &done);
        if (!done && status == WEFT_OK)
            continue;
        unlink_locked(o);
        o->error = (int)status; /* until it is completed below */
        o->next = done_list;
        done_list = o;
    }
    pthread_mutex_unlock(&lock);
    while (done_list) {
        weft_mpi_operation *o = done_list;
        done_list = o->next;
        weft_status status = (weft_status)o->error;
        o->error = MPI_SUCCESS;
        complete(o, status);
    }
    polling = false;
}

/* The operation under way that a request stands for, now the caller's to complete; NULL: none. */
static weft_mpi_operation *take(MPI_Request handle)
{
    pthread_mutex_lock(&lock);
    weft_mpi_operation *o = under_way;
    while (o && o->handle != handle)
        o = o->next;
    if (o)
        unlink_locked(o);
    pthread_mutex_unlock(&lock);
    return o;
}

/* Waits for Weft's part of a request, if it has one. */
static void wait_in_weft(MPI_Request handle)
{
    weft_mpi_operation *o = handle == MPI_REQUEST_NULL ? NULL : take(handle);
    if (o)
        complete(o, weft_wait(&o->request));
}

static void relax(int *rounds)
{
    if (++*rounds > 100)
        sched_yield();
}

int weft_mpi_wait_polling(MPI_Request *request, MPI_Status *status)
{
    int done = 0, code, rounds = 0;
    while ((code = PMPI_Test(request, &done, status)) == MPI_SUCCESS && !done) {
        weft_mpi_poll();
        relax(&rounds);
    }
    return code;
}

/* ---- nonblocking ------------------------------------------------------------------------------- */

static int query(void *context, MPI_Status *status)
{
    const weft_mpi_operation *o = context;
    PMPI_Status_set_elements(status, MPI_BYTE, 0);
    PMPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = MPI_UNDEFINED;
    status->MPI_TAG = MPI_UNDEFINED;
    return o->error;
}

static void destroy(weft_mpi_operation *o)
{
    weft_mpi_operation_clear(o);
    weft_comm_destroy(o->own);
    weft_mpi_comm_release(o->comm);
    free(o);
}

static int free_operation(void *context)
{
    destroy(context);
    return MPI_SUCCESS;
}

static int cancel(void *context, int complete_already)
{
    (void)context, (void)complete_already; /* a collective cannot be cancelled */
    return MPI_SUCCESS;
}

#if WEFT_MPI_OPEN_MPI
static int poll_from_open_mpi(void)
{
    weft_mpi_poll();
    return 0;
}
#endif

/* Open MPI calls this in whatever call of it a rank waits, so that Weft comes on there. */
static void join_progress_of_mpi(void)
{
#if WEFT_MPI_OPEN_MPI
    int (*join)(int (*)(void)) = NULL;
    void *found = dlsym(RTLD_DEFAULT, "opal_progress_register");
    if (!found)
        return;
    *(void **)&join = found;
    join(poll_from_open_mpi);
#endif
}

#if WEFT_MPI_OPEN_MPI
static int make_handle(weft_mpi_operation *o)
{
    return PMPI_Grequest_start(query, free_operation, cancel, o, &o->handle);
}
#else
static int poll_from_mpich(void *context, MPI_Status *status)
{
    (void)context, (void)status;
    weft_mpi_poll();
    return MPI_SUCCESS;
}

static int wait_from_mpich(int count, void *contexts[], double timeout, MPI_Status *status)
{
    (void)timeout, (void)status;
    int rounds = 0;
    for (int i = 0; i < count; i++) {
        while (((const weft_mpi_operation *)contexts[i])->active) {
            weft_mpi_poll();
            relax(&rounds);
        }
    }
    return MPI_SUCCESS;
}

/* MPICH's module mpi_f08 waits by PMPI_Wait, past this library: its own extension calls back while it waits for the request. Not
 * with several threads: it calls under its lock, which another thread in Weft may want. */
static int make_handle(weft_mpi_operation *o)
{
    int threads = MPI_THREAD_MULTIPLE;
    PMPI_Query_thread(&threads);
    return threads == MPI_THREAD_MULTIPLE
               ? PMPI_Grequest_start(query, free_operation, cancel, o, &o->handle)
               : PMPIX_Grequest_start(query, free_operation, cancel, poll_from_mpich, wait_from_mpich, o,
                                      &o->handle);
}
#endif

static int failed_begin(weft_mpi_operation *o, weft_status status)
{
    int code = weft_mpi_fail(o->comm, o->kind, status);
    destroy(o);
    return code;
}

int weft_mpi_begin_request(weft_mpi_operation *o, MPI_Request *request)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, join_progress_of_mpi);
    atomic_fetch_add_explicit(&o->comm->references, 1, memory_order_relaxed);
    weft_mpi_pack_inputs(o);
    weft_status status = weft_mpi_issue(o, &o->request);
    if (status != WEFT_OK)
        return failed_begin(o, status);
    int code = make_handle(o);
    if (code != MPI_SUCCESS) {
        weft_wait(&o->request);
        destroy(o);
        return code;
    }
    *request = o->handle;
    link_operation(o);
    return MPI_SUCCESS;
}

/* ---- persistent -------------------------------------------------------------------------------- */

int weft_mpi_make_persistent(weft_mpi_operation *o, MPI_Request *request)
{
    atomic_fetch_add_explicit(&o->comm->references, 1, memory_order_relaxed);
    weft_status status = weft_comm_split(o->comm->weft, 0, o->comm->rank, NULL, &o->own);
    if (status == WEFT_OK)
        status = weft_mpi_issue_init(o);
    if (status != WEFT_OK)
        return failed_begin(o, status);
    pthread_mutex_lock(&lock);
    o->tag = next_tag++ % 32768; /* MPI promises tags up to there; so many at a time nobody has */
    pthread_mutex_unlock(&lock);
    int code = PMPI_Recv_init(NULL, 0, MPI_BYTE, 0, o->tag, weft_mpi_self(), &o->handle);
    if (code != MPI_SUCCESS) {
        weft_request_free(&o->request);
        destroy(o);
        return code;
    }
    *request = o->handle;
    pthread_mutex_lock(&lock);
    o->next_persistent = persistent;
    o->persistent_link = &persistent;
    if (persistent)
        persistent->persistent_link = &o->next_persistent;
    persistent = o;
    pthread_mutex_unlock(&lock);
    atomic_fetch_add_explicit(&persistent_count, 1, memory_order_relaxed);
    return MPI_SUCCESS;
}

static weft_mpi_operation *find_persistent(MPI_Request handle)
{
    if (atomic_load_explicit(&persistent_count, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&lock);
    weft_mpi_operation *o = persistent;
    while (o && o->handle != handle)
        o = o->next_persistent;
    pthread_mutex_unlock(&lock);
    return o;
}

static int start(weft_mpi_operation *o, MPI_Request *request)
{
    int code = PMPI_Start(request);
    if (code != MPI_SUCCESS)
        return code;
    weft_mpi_pack_inputs(o);
    weft_status status = weft_start(o->request);
    if (status == WEFT_OK) {
        link_operation(o);
        return MPI_SUCCESS;
    }
    PMPI_Send(NULL, 0, MPI_BYTE, 0, o->tag, weft_mpi_self());
    return weft_mpi_fail(o->comm, o->kind, status);
}

WEFT_MPI_EXPORT int MPI_Start(MPI_Request *request)
{
    weft_mpi_operation *o = request ? find_persistent(*request) : NULL;
    return o ? start(o, request) : PMPI_Start(request);
}

WEFT_MPI_EXPORT int MPI_Startall(int count, MPI_Request requests[])
{
    if (atomic_load_explicit(&persistent_count, memory_order_relaxed) == 0)
        return PMPI_Startall(count, requests);
    int code = MPI_SUCCESS;
    for (int i = 0; i < count && code == MPI_SUCCESS; i++)
        code = MPI_Start(&requests[i]);
    return code;
}

WEFT_MPI_EXPORT int MPI_Request_free(MPI_Request *request)
{
    weft_mpi_operation *o = request ? find_persistent(*request) : NULL;
    if (!o)
        return PMPI_Request_free(request);
    wait_in_weft(*request);
    pthread_mutex_lock(&lock);
    *o->persistent_link = o->next_persistent;
    if (o->next_persistent)
        o->next_persistent->persistent_link = o->persistent_link;
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub_explicit(&persistent_count, 1, memory_order_relaxed);
    weft_request_free(&o->request);
    destroy(o);
    return PMPI_Request_free(request);
}

/* ---- waiting and testing ----------------------------------------------------------------------- */

WEFT_MPI_EXPORT int MPI_Wait(MPI_Request *request, MPI_Status *status)
{
    if (!weft_mpi_any_active())
        return PMPI_Wait(request, status);
    if (request)
        wait_in_weft(*request);
    return weft_mpi_any_active() ? weft_mpi_wait_polling(request, status) : PMPI_Wait(request, status);
}

WEFT_MPI_EXPORT int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[])
{
    for (int i = 0; i < count && weft_mpi_any_active(); i++)
        wait_in_weft(requests[i]);
    int done = 0, code = MPI_SUCCESS, rounds = 0;
    while (weft_mpi_any_active()) {
        code = PMPI_Testall(count, requests, &done, statuses);
        if (code != MPI_SUCCESS || done)
            return code;
        weft_mpi_poll();
        relax(&rounds);
    }
    return PMPI_Waitall(count, requests, statuses);
}

WEFT_MPI_EXPORT int MPI_Waitany(int count, MPI_Request requests[], int *index, MPI_Status *status)
{
    int done = 0, code, rounds = 0;
    while (weft_mpi_any_active()) {
        weft_mpi_poll();
        code = PMPI_Testany(count, requests, index, &done, status);
        if (code != MPI_SUCCESS || done)
            return code;
        relax(&rounds);
    }
    return PMPI_Waitany(count, requests, index, status);
}

WEFT_MPI_EXPORT int MPI_Waitsome(int count, MPI_Request requests[], int *done_count, int indices[], MPI_Status statuses[])
{
    int code, rounds = 0;
    while (weft_mpi_any_active()) {
        weft_mpi_poll();
        code = PMPI_Testsome(count, requests, done_count, indices, statuses);
        if (code != MPI_SUCCESS || *done_count)
            return code;
        relax(&rounds);
    }
    return PMPI_Waitsome(count, requests, done_count, indices, statuses);
}

WEFT_MPI_EXPORT int MPI_Test(MPI_Request *request, int *done, MPI_Status *status)
{
    weft_mpi_poll();
    return PMPI_Test(request, done, status);
}

WEFT_MPI_EXPORT int MPI_Testall(int count, MPI_Request requests[], int *done, MPI_Status statuses[])
{
    weft_mpi_poll();
    return PMPI_Testall(count, requests, done, statuses);
}

WEFT_MPI_EXPORT int MPI_Testany(int count, MPI_Request requests[], int *index, int *done, MPI_Status *status)
{
    weft_mpi_poll();
    return PMPI_Testany(count, requests, index, done, status);
}

WEFT_MPI_EXPORT int MPI_Testsome(int count, MPI_Request requests[], int *done_count, int indices[], MPI_Status statuses[])
{
    weft_mpi_poll();
    return PMPI_Testsome(count, requests, done_count, indices, statuses);
}

WEFT_MPI_EXPORT int MPI_Request_get_status(MPI_Request request, int *done, MPI_Status *status)
{
    weft_mpi_poll();
    return PMPI_Request_get_status(request, done, status);
}

/* MPI requests that stand for operations of Weft, made of what every MPI offers.
 *
 * A nonblocking operation is a generalized request: a true handle of the MPI, so that arrays of requests may mix both kinds,
 * Fortran can convert it, and calls that nobody takes here work too. A persistent operation is a persistent receive of an empty
 * message from this rank to itself on a communicator of our own, which is sent when Weft's operation is done. */
#include "weft_mpi.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and of self; never held in polling */
static weft_mpi_operation *persistent;
static _Atomic int persistent_count;
static int next_tag;
static MPI_Comm self = MPI_COMM_NULL; /* a duplicate of MPI_COMM_SELF */

void weft_mpi_raise(MPI_Comm comm, int code) { PMPI_Comm_call_errhandler(comm, code); }

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

static int free_operation(void *context)
{
    weft_mpi_operation_destroy(context);
    return MPI_SUCCESS;
}

static int cancel(void *context, int complete_already)
{
    (void)context, (void)complete_already; /* a collective cannot be cancelled */
    return MPI_SUCCESS;
}

#if WEFT_MPI_OPEN_MPI
static int make_generalized(weft_mpi_operation *o)
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
            weft_mpi_relax(&rounds);
        }
    }
    return MPI_SUCCESS;
}

/* MPICH's module mpi_f08 waits by PMPI_Wait, past this library: its own extension calls back while it waits for the request. Not
 * with several threads: it calls under its lock, which another thread in Weft may want. */
static int make_generalized(weft_mpi_operation *o)
{
    int threads = MPI_THREAD_MULTIPLE;
    PMPI_Query_thread(&threads);
    return threads == MPI_THREAD_MULTIPLE
               ? PMPI_Grequest_start(query, free_operation, cancel, o, &o->handle)
               : PMPIX_Grequest_start(query, free_operation, cancel, poll_from_mpich, wait_from_mpich, o,
                                      &o->handle);
}
#endif

/* ---- persistent -------------------------------------------------------------------------------- */

static int make_persistent(weft_mpi_operation *o)
{
    pthread_mutex_lock(&lock);
    int code = self == MPI_COMM_NULL ? PMPI_Comm_dup(MPI_COMM_SELF, &self) : MPI_SUCCESS;
    o->tag = next_tag++ % 32768; /* MPI promises tags up to there; so many at a time nobody has */
    if (code == MPI_SUCCESS)
        code = PMPI_Recv_init(NULL, 0, MPI_BYTE, 0, o->tag, self, &o->handle);
    if (code == MPI_SUCCESS) {
        o->next_persistent = persistent;
        o->persistent_link = &persistent;
        if (persistent)
            persistent->persistent_link = &o->next_persistent;
        persistent = o;
        atomic_fetch_add_explicit(&persistent_count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static weft_mpi_operation *find_persistent(const MPI_Request *request)
{
    if (!request || atomic_load_explicit(&persistent_count, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&lock);
    weft_mpi_operation *o = persistent;
    while (o && o->handle != *request)
        o = o->next_persistent;
    pthread_mutex_unlock(&lock);
    return o;
}

WEFT_MPI_EXPORT int MPI_Start(MPI_Request *request)
{
    weft_mpi_operation *o = find_persistent(request);
    int code = PMPI_Start(request);
    return o && code == MPI_SUCCESS ? weft_mpi_start(o) : code;
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
    weft_mpi_operation *o = find_persistent(request);
    if (!o)
        return PMPI_Request_free(request);
    weft_mpi_wait_in_weft(*request);
    pthread_mutex_lock(&lock);
    *o->persistent_link = o->next_persistent;
    if (o->next_persistent)
        o->next_persistent->persistent_link = o->persistent_link;
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub_explicit(&persistent_count, 1, memory_order_relaxed);
    weft_mpi_operation_destroy(o);
    return PMPI_Request_free(request);
}

/* ---- both -------------------------------------------------------------------------------------- */

int weft_mpi_handle_make(weft_mpi_operation *o)
{
    return o->form == WEFT_MPI_PERSISTENT ? make_persistent(o) : make_generalized(o);
}

void weft_mpi_handle_complete(weft_mpi_operation *o)
{
    if (o->form == WEFT_MPI_PERSISTENT)
        PMPI_Send(NULL, 0, MPI_BYTE, 0, o->tag, self);
    else
        PMPI_Grequest_complete(o->handle);
}

/* ---- waiting and testing ----------------------------------------------------------------------- */

WEFT_MPI_EXPORT int MPI_Wait(MPI_Request *request, MPI_Status *status)
{
    if (!weft_mpi_any_active())
        return PMPI_Wait(request, status);
    if (request)
        weft_mpi_wait_in_weft(*request);
    return weft_mpi_any_active() ? weft_mpi_wait_polling(request, status) : PMPI_Wait(request, status);
}

WEFT_MPI_EXPORT int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[])
{
    for (int i = 0; i < count && weft_mpi_any_active(); i++)
        weft_mpi_wait_in_weft(requests[i]);
    int done = 0, code = MPI_SUCCESS, rounds = 0;
    while (weft_mpi_any_active()) {
        code = PMPI_Testall(count, requests, &done, statuses);
        if (code != MPI_SUCCESS || done)
            return code;
        weft_mpi_poll();
        weft_mpi_relax(&rounds);
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
        weft_mpi_relax(&rounds);
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
        weft_mpi_relax(&rounds);
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

/* Operations of Weft that a request of the MPI stands for: their list, beginning, polling and end. What the requests are is in
 * handles.c. */
#include "weft_mpi.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list; never held in calls of the MPI */
static weft_mpi_operation *under_way;
static _Atomic int active_count;
static WEFT_MPI_THREAD_LOCAL bool polling;

bool weft_mpi_any_active(void) { return atomic_load_explicit(&active_count, memory_order_relaxed) > 0; }

/* ---- under way --------------------------------------------------------------------------------- */

static void link_operation(weft_mpi_operation *o)
{
    pthread_mutex_lock(&lock);
    o->active = true;
    o->next = under_way;
    o->link = &under_way;
    if (o->next)
        o->next->link = &o->next;
    under_way = o;
    atomic_fetch_add_explicit(&active_count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

static void unlink_locked(weft_mpi_operation *o)
{
    o->active = false;
    *o->link = o->next;
    if (o->next)
        o->next->link = o->link;
}

/* Weft's part of an unlinked operation is over. */
static void complete(weft_mpi_operation *o, weft_status status)
{
    if (status == WEFT_OK)
        weft_mpi_unpack_outputs(o);
    else
        o->error = weft_mpi_fail(o->comm, o->kind, status);
    weft_mpi_handle_complete(o);
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

void weft_mpi_wait_in_weft(MPI_Request handle)
{
    weft_mpi_operation *o = handle == MPI_REQUEST_NULL ? NULL : take(handle);
    if (o)
        complete(o, weft_wait(&o->request));
}

void weft_mpi_relax(int *rounds)
{
    if (++*rounds > 100)
        sched_yield();
}

int weft_mpi_wait_polling(MPI_Request *request, MPI_Status *status)
{
    int done = 0, code, rounds = 0;
    while ((code = PMPI_Test(request, &done, status)) == MPI_SUCCESS && !done) {
        weft_mpi_poll();
        weft_mpi_relax(&rounds);
    }
    return code;
}

/* ---- their life -------------------------------------------------------------------------------- */

void weft_mpi_operation_destroy(weft_mpi_operation *o)
{
    if (o->form == WEFT_MPI_PERSISTENT)
        weft_request_free(&o->request);
    weft_mpi_operation_clear(o);
    weft_comm_destroy(o->own);
    weft_mpi_comm_release(o->comm);
    free(o);
}

static int failed_begin(weft_mpi_operation *o, weft_status status)
{
    int code = weft_mpi_fail(o->comm, o->kind, status);
    weft_mpi_operation_destroy(o);
    return code;
}

int weft_mpi_begin_request(weft_mpi_operation *o, MPI_Request *request)
{
    weft_mpi_progress_join();
    atomic_fetch_add_explicit(&o->comm->references, 1, memory_order_relaxed);
    weft_mpi_pack_inputs(o);
    weft_status status = weft_mpi_issue(o, &o->request);
    if (status != WEFT_OK)
        return failed_begin(o, status);
    int code = weft_mpi_handle_make(o);
    if (code != MPI_SUCCESS) {
        weft_wait(&o->request);
        weft_mpi_operation_destroy(o);
        return code;
    }
    *request = o->handle;
    link_operation(o);
    return MPI_SUCCESS;
}

int weft_mpi_make_persistent(weft_mpi_operation *o, MPI_Request *request)
{
    weft_mpi_progress_join();
    atomic_fetch_add_explicit(&o->comm->references, 1, memory_order_relaxed);
    weft_status status = weft_comm_split(o->comm->weft, 0, o->comm->rank, NULL, &o->own);
    if (status == WEFT_OK)
        status = weft_mpi_issue_init(o);
    if (status != WEFT_OK)
        return failed_begin(o, status);
    int code = weft_mpi_handle_make(o);
    if (code == MPI_SUCCESS)
        *request = o->handle;
    else
        weft_mpi_operation_destroy(o);
    return code;
}

int weft_mpi_start(weft_mpi_operation *o)
{
    weft_mpi_count_served(o);
    weft_mpi_pack_inputs(o);
    weft_status status = weft_start(o->request);
    if (status == WEFT_OK) {
        link_operation(o);
        return MPI_SUCCESS;
    }
    o->error = weft_mpi_fail(o->comm, o->kind, status);
    weft_mpi_handle_complete(o);
    return o->error;
}

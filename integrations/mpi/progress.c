/* The MPI and Weft progress each other: who waits in Weft calls the MPI's progress, who waits in the MPI Weft's. */
#include "weft_mpi.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* This thread is in the MPI because it waits in Weft. */
static WEFT_MPI_THREAD_LOCAL bool inside;
_Atomic int weft_mpi_helped_threads; /* changed under help_lock */

bool weft_mpi_inside(void) { return inside; }

#if WEFT_MPI_OPEN_MPI

/* From the library under libmpi, whatever the name that it has in this version. */
extern void opal_progress(void) __attribute__((weak));
extern int opal_progress_register(int (*poll)(void)) __attribute__((weak));
extern int opal_progress_unregister(int (*poll)(void)) __attribute__((weak));
extern bool opal_progress_set_yield_when_idle(bool yield) __attribute__((weak));

static int poll_from_open_mpi(void)
{
    weft_mpi_poll();
    return 0;
}

void weft_mpi_help_begin(void) {}
void weft_mpi_help_end(void) {}
static bool begin_mpi(void) { return opal_progress && opal_progress_register && opal_progress_unregister; }
static void progress_mpi(void) { opal_progress(); }
/* Whether a call that finds nothing gives up the processor; as it was. */
static bool mpi_yields(bool yield) { return opal_progress_set_yield_when_idle && opal_progress_set_yield_when_idle(yield); }
static void end_mpi(void) { opal_progress_unregister(poll_from_open_mpi); }

void weft_mpi_progress_join(void)
{
    static _Atomic bool joined;
    if (!atomic_exchange_explicit(&joined, true, memory_order_relaxed))
        opal_progress_register(poll_from_open_mpi);
}

#else

static MPI_Comm self; /* a duplicate of MPI_COMM_SELF: no message ever waits there */

/* The thread that progresses Weft while others block in the MPI; it never calls the MPI. */
static pthread_mutex_t help_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t help_changed = PTHREAD_COND_INITIALIZER;
static pthread_t helper;
static bool helper_runs, helper_ends;
static WEFT_MPI_THREAD_LOCAL bool helped;

static void *help(void *unused)
{
    inside = true;
    pthread_mutex_lock(&help_lock);
    while (!helper_ends) {
        if (weft_mpi_helped_threads == 0) {
            pthread_cond_wait(&help_changed, &help_lock);
            continue;
        }
        pthread_mutex_unlock(&help_lock);
        weft_progress();
        usleep(20);
        pthread_mutex_lock(&help_lock);
    }
    pthread_mutex_unlock(&help_lock);
    return unused;
}

static void start_helper_locked(void)
{
    sigset_t every, before; /* signals are for the program's threads */
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    helper_runs = pthread_create(&helper, NULL, help, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!helper_runs) {
        fprintf(stderr, "weft-mpi: cannot begin the thread that progresses nonblocking collectives\n");
        abort(); /* other ranks might wait for this one for ever */
    }
}

void weft_mpi_help_begin(void)
{
    pthread_mutex_lock(&help_lock);
    if (!helper_runs)
        start_helper_locked();
    weft_mpi_helped_threads++;
    helped = true;
    pthread_cond_signal(&help_changed);
    pthread_mutex_unlock(&help_lock);
}

void weft_mpi_help_end(void)
{
    if (!helped)
        return;
    pthread_mutex_lock(&help_lock);
    weft_mpi_helped_threads--;
    helped = false;
    pthread_mutex_unlock(&help_lock);
}

static void end_helper(void)
{
    pthread_mutex_lock(&help_lock);
    bool runs = helper_runs;
    helper_ends = true;
    helper_runs = false;
    pthread_cond_signal(&help_changed);
    pthread_mutex_unlock(&help_lock);
    if (runs)
        pthread_join(helper, NULL);
}

static bool begin_mpi(void) { return PMPI_Comm_dup(MPI_COMM_SELF, &self) == MPI_SUCCESS; }

static void end_mpi(void)
{
    end_helper();
    PMPI_Comm_free(&self);
}

static void progress_mpi(void)
{
    int flag;
    PMPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, self, &flag, MPI_STATUS_IGNORE);
}

static bool mpi_yields(bool yield) { return yield; }

/* MPICH calls nobody while it waits: the calls that wait poll (weft_mpi_must_poll) or are helped. */
void weft_mpi_progress_join(void) {}

#endif

static int threads_allowed; /* what MPI_Init_thread granted */

/* A thread that waits in Weft may be one that knows nothing of the MPI: of another user of Weft in this process. */
static bool may_enter_mpi(void)
{
    int main_thread = 0;
    return threads_allowed >= MPI_THREAD_SERIALIZED ||
           (PMPI_Is_thread_main(&main_thread) == MPI_SUCCESS && main_thread);
}

/* Another rank may need the MPI here again and again: an accumulate to this rank of a type in many pieces, each of which waits
 * for the one before. So a call of the MPI that found something is soon followed by another. The MPI does not tell; a call that
 * found nothing is always as short as the shortest. */
enum { FOUND_NS = 150, LINGER_NS = 5000, LINGER_LIMIT_NS = 1000000 };

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void progress_mpi_while_busy(void)
{
    static _Atomic int64_t shortest_ns = INT64_MAX;
    bool yields = mpi_yields(false); /* time away would look like something found; the last call may yield */
    int64_t begin = clock_ns(), now = begin, found = begin - LINGER_NS;
    do {
        int64_t before = now;
        progress_mpi();
        now = clock_ns();
        int64_t shortest = atomic_load_explicit(&shortest_ns, memory_order_relaxed);
        if (now - before < shortest)
            atomic_store_explicit(&shortest_ns, now - before, memory_order_relaxed);
        else if (now - before > 2 * shortest + FOUND_NS)
            found = now;
    } while (now - found < LINGER_NS && now - begin < LINGER_LIMIT_NS);
    mpi_yields(yields);
    if (yields && found < begin)
        progress_mpi();
}

/* Called while this thread waits in Weft: what the MPI has under way must come on, or a rank that waits in the MPI for this one
 * would never enter the collective. The lock of Weft's engine is held: no callback of the MPI that runs under a lock of the MPI
 * may enter Weft (communicator.c, handles.c). */
static void progress_from_weft(void *context)
{
    (void)context;
    if (inside || !may_enter_mpi())
        return;
    inside = true;
    progress_mpi_while_busy();
    inside = false;
}

bool weft_mpi_progress_begin(void)
{
    if (PMPI_Query_thread(&threads_allowed) != MPI_SUCCESS || !begin_mpi())
        return false;
    weft_set_progress_hook(progress_from_weft, NULL);
    return true;
}

void weft_mpi_progress_end(void)
{
    weft_set_progress_hook(NULL, NULL);
    end_mpi();
}

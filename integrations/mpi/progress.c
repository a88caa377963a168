/* The MPI and Weft progress each other: who waits in Weft calls the MPI's progress, who waits in the MPI Weft's. */
#include "weft_mpi.h"

/* This thread is in the MPI because it waits in Weft. */
static _Thread_local bool inside;

bool weft_mpi_inside(void) { return inside; }

#if WEFT_MPI_OPEN_MPI

/* From the library under libmpi, whatever the name that it has in this version. */
extern void opal_progress(void) __attribute__((weak));
extern int opal_progress_register(int (*poll)(void)) __attribute__((weak));
extern int opal_progress_unregister(int (*poll)(void)) __attribute__((weak));

static int poll_from_open_mpi(void)
{
    weft_mpi_poll();
    return 0;
}

static bool begin_mpi(void) { return opal_progress && opal_progress_register && opal_progress_unregister; }
static void progress_mpi(void) { opal_progress(); }
static void end_mpi(void) { opal_progress_unregister(poll_from_open_mpi); }

void weft_mpi_progress_join(void)
{
    static _Atomic bool joined;
    if (!atomic_exchange_explicit(&joined, true, memory_order_relaxed))
        opal_progress_register(poll_from_open_mpi);
}

#else

static MPI_Comm self; /* a duplicate of MPI_COMM_SELF: no message ever waits there */

static bool begin_mpi(void) { return PMPI_Comm_dup(MPI_COMM_SELF, &self) == MPI_SUCCESS; }
static void end_mpi(void) { PMPI_Comm_free(&self); }

static void progress_mpi(void)
{
    int flag;
    PMPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, self, &flag, MPI_STATUS_IGNORE);
}

/* MPICH calls nobody while it waits: the calls that wait poll (weft_mpi_must_poll). */
void weft_mpi_progress_join(void) {}

#endif

/* Called while this thread waits in Weft: what the MPI has under way must come on, or a rank that waits in the MPI for this one
 * would never enter the collective. */
static void progress_from_weft(void *context)
{
    (void)context;
    if (inside)
        return;
    inside = true;
    progress_mpi();
    inside = false;
}

bool weft_mpi_progress_begin(void)
{
    if (!begin_mpi())
        return false;
    weft_set_progress_hook(progress_from_weft, NULL);
    return true;
}

void weft_mpi_progress_end(void)
{
    weft_set_progress_hook(NULL, NULL);
    end_mpi();
}

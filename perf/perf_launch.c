/* The forking launcher. The parent takes no part in the job: it waits for children and signals, forwards what
 * should end them, and tells which rank was killed. Children die with it. */
#define _GNU_SOURCE /* CPU sets */
#include "perf_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/output.h"

/* How long the other ranks may take to end by themselves after one has failed, after a signal, and after
 * SIGTERM. */
enum { FAILURE_GRACE_MS = 15000, SIGNAL_GRACE_MS = 5000, TERM_GRACE_MS = 2000 };

/* ---- launchers ---- */

typedef struct launcher { const char *name, *rank_variable, *size_variable; } launcher;

static const launcher launchers[] = {
    { "torchrun", "RANK", "WORLD_SIZE" },
    { "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" },
    { "MPICH", "PMI_RANK", "PMI_SIZE" },
    { "PMIx", "PMIX_RANK", NULL },
    { "Slurm", "SLURM_PROCID", "SLURM_NTASKS" },
};

/* What is set but no number counts as 0 here: the library says what is wrong with it. */
static bool read_number(const char *variable, long *number)
{
    const char *text = getenv(variable);
    char *end = NULL;
    if (text == NULL || text[0] == 0)
        return false;
    *number = strtol(text, &end, 10);
    if (*end != 0)
        *number = 0;
    return true;
}

const char *perf_launcher(int *rank)
{
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const launcher *l = &launchers[i];
        long number = 0, size = 0;
        if (!read_number(l->rank_variable, &number) ||
            (l->size_variable != NULL && !read_number(l->size_variable, &size)))
            continue;
        /* The shell of a Slurm allocation has these variables too, with one task. */
        if (strcmp(l->name, "Slurm") == 0 && size <= 1)
            continue;
        *rank = (int)number;
        return l->name;
    }
    return NULL;
}

typedef struct watched { const char *program, *launcher; int pidfd; } watched;

static void *wait_for_launcher(void *argument)
{
    const watched *w = argument;
    struct pollfd ended = { .fd = w->pidfd, .events = POLLIN };
    while (poll(&ended, 1, -1) < 0 && errno == EINTR)
        ;
    fprintf(stderr, "%s: what started this rank (%s) has ended; so does the rank\n", w->program, w->launcher);
    _exit(PERF_FAILED);
}

/* By a thread that sleeps: PR_SET_PDEATHSIG would tell of the end of the thread that forked. */
void perf_end_with_launcher(const perf_args *args, const char *name)
{
    static watched w;
    pthread_t thread;
    sigset_t all, old;
    if (strcmp(name, "torchrun") == 0 && getenv("TORCHELASTIC_RUN_ID") == NULL)
        return;
    w = (watched){ .program = args->program, .launcher = name };
    w.pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    if (w.pidfd < 0)
        return; /* an old kernel, or a parent in another PID namespace */
    fcntl(w.pidfd, F_SETFD, FD_CLOEXEC);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, NULL, wait_for_launcher, &w) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- a child ---- */

/* The rank-th CPU of those allowed, if every rank can have one. Not being bound is no error. */
static void bind_to_cpu(const cpu_set_t *allowed, int rank, int ranks)
{
    if (ranks > CPU_COUNT(allowed))
        return;
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, allowed) || seen++ != rank)
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static bool read_all(int fd, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, (char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* Rank 0 makes the id (its listener lives in that process) and writes it once for each other rank; a pipe
 * delivers each copy whole to one reader. False if rank 0 failed, which it has said. */
static bool share_id(const perf_args *args, int rank, int ranks, const int pipe_ends[2], weft_unique_id *id)
{
    bool ok = true;
    if (rank != 0) {
        close(pipe_ends[1]);
        ok = read_all(pipe_ends[0], id, sizeof *id);
    } else {
        weft_status status = weft_get_unique_id(id);
        if (status != WEFT_OK)
            fprintf(stderr, "%s: rank 0: making the unique id: %s: %s\n", args->program,
                    weft_status_text(status), weft_last_error());
        ok = status == WEFT_OK;
        for (int r = 1; ok && r < ranks; r++)
            ok = weft_output_write_all(pipe_ends[1], id, sizeof *id);
        close(pipe_ends[1]);
    }
    close(pipe_ends[0]);
    return ok;
}

typedef struct family {
    const perf_args *args;
    pid_t *pids;   /* 0: ended */
    int ranks, started, alive;
    int code;      /* of the first failure */
    int signal;    /* that the parent got; 0: none */
    cpu_set_t cpus;
    bool bind;
    sigset_t old_mask, handled;
    struct timespec deadline;
    bool has_deadline, termed;
} family;

/* `weft-perf | head`: rank 0 has lost its reader. It must not die of that, or the others would report a dead rank: it
 * tells the parent, who ends them all. */
static void reader_is_gone(int signal)
{
    kill(getppid(), signal);
    for (;;)
        pause();
}

_Noreturn static void be_child(family *f, int rank, pid_t parent, const int pipe_ends[2],
                               perf_rank_function run)
{
    weft_unique_id id;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(PERF_FAILED);
    struct sigaction action;
    if (rank == 0 && sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, reader_is_gone);
    sigprocmask(SIG_SETMASK, &f->old_mask, NULL);
    if (f->bind)
        bind_to_cpu(&f->cpus, rank, f->ranks);
    const perf_args *args = f->args;
    int ranks = f->ranks;
    free(f->pids);
    exit(share_id(args, rank, ranks, pipe_ends, &id) ? run(args, rank, ranks, &id) : PERF_FAILED);
}

/* ---- the parent ---- */

static void set_deadline(family *f, int ms)
{
    clock_gettime(CLOCK_MONOTONIC, &f->deadline);
    f->deadline.tv_sec += ms / 1000;
    f->deadline.tv_nsec += (long)(ms % 1000) * 1000000;
    f->has_deadline = true;
}

static void signal_all(const family *f, int signal)
{
    for (int r = 0; r < f->started; r++)
        if (f->pids[r] > 0)
            kill(f->pids[r], signal);
}

static void note_end(family *f, int rank, int status)
{
    f->pids[rank] = 0;
    f->alive--;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : PERF_FAILED;
    if (code == PERF_OK)
        return;
    bool first = f->code == PERF_OK;
    if (first)
        f->code = code;
    if (WIFSIGNALED(status) && f->signal == 0 && !f->termed) {
        int signal = WTERMSIG(status);
        fprintf(stderr, "%s: rank %d was killed by signal %d (%s)\n", f->args->program, rank, signal,
                strsignal(signal));
    }
    if (first)
        set_deadline(f, FAILURE_GRACE_MS);
}

static void reap(family *f)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int r = 0; r < f->started; r++)
            if (f->pids[r] == pid)
                note_end(f, r, status);
}

/* The others had their time: first asks, then kills. */
static void end_overdue(family *f)
{
    if (!f->termed && f->signal == 0) {
        fprintf(stderr, "%s: %d rank(s) did not end after a failure; ending them\n", f->args->program,
                f->alive);
        signal_all(f, SIGTERM);
    } else {
        signal_all(f, SIGKILL);
    }
    f->termed = true;
    set_deadline(f, TERM_GRACE_MS);
}

/* Milliseconds until the deadline, at least 0; 1000 where there is none. */
static struct timespec time_left(const family *f)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = f->has_deadline
                  ? (f->deadline.tv_sec - now.tv_sec) * 1000 + (f->deadline.tv_nsec - now.tv_nsec) / 1000000
                  : 1000;
    ms = ms < 0 ? 0 : ms;
    return (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
}

static void wait_for_all(family *f)
{
    for (reap(f); f->alive > 0; reap(f)) {
        struct timespec left = time_left(f);
        int signal = sigtimedwait(&f->handled, NULL, &left);
        if (signal > 0 && signal != SIGCHLD) {
            f->signal = signal;
            if (signal == SIGPIPE) {
                signal_all(f, SIGSTOP); /* or those that end last report the others as dead */
                signal_all(f, SIGKILL);
            } else {
                signal_all(f, signal);
            }
            set_deadline(f, SIGNAL_GRACE_MS);
        }
        left = time_left(f);
        if (f->has_deadline && left.tv_sec == 0 && left.tv_nsec == 0 && signal != SIGCHLD)
            end_overdue(f);
    }
}

static bool start_all(family *f, perf_rank_function run)
{
    int pipe_ends[2];
    pid_t parent = getpid();
    if (pipe(pipe_ends) != 0) {
        fprintf(stderr, "%s: cannot make a pipe: %s\n", f->args->program, strerror(errno));
        return false;
    }
    fflush(NULL); /* or each child would print it again */
    for (; f->started < f->ranks; f->started++, f->alive++) {
        pid_t pid = fork();
        if (pid == 0)
            be_child(f, f->started, parent, pipe_ends, run);
        if (pid < 0) {
            fprintf(stderr, "%s: cannot start rank %d of %d: %s; lower --ranks, or raise ulimit -u\n", f->args->program,
                    f->started, f->ranks, strerror(errno));
            break;
        }
        f->pids[f->started] = pid;
    }
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return f->started == f->ranks;
}

int perf_launch(const perf_args *args, int ranks, perf_rank_function run)
{
    static const int handled[] = { SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    struct sigaction action;
    family f = { .args = args, .ranks = ranks, .pids = calloc((size_t)ranks, sizeof *f.pids) };
    if (f.pids == NULL) {
        fprintf(stderr, "%s: out of memory for %d ranks; lower --ranks\n", args->program, ranks);
        return PERF_FAILED;
    }
    f.bind = args->bind && sched_getaffinity(0, sizeof f.cpus, &f.cpus) == 0;
    signal(SIGCHLD, SIG_DFL); /* where it is ignored, waitpid() tells nothing */
    sigemptyset(&f.handled);
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++)
        if (sigaction(handled[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) /* nohup and the like */
            sigaddset(&f.handled, handled[i]);
    sigprocmask(SIG_BLOCK, &f.handled, &f.old_mask);
    if (!start_all(&f, run)) {
        f.code = PERF_FAILED;
        f.termed = true;
        signal_all(&f, SIGKILL);
    }
    wait_for_all(&f);
    free(f.pids);
    sigprocmask(SIG_SETMASK, &f.old_mask, NULL);
    if (f.signal != 0) {
        signal(f.signal, SIG_DFL);
        raise(f.signal);
    }
    return f.code;
}

/* What telling another process something costs: round trips through shared memory between two processes, each
 * pinned to a CPU of its own. They are the floor under every small collective on one host. Arguments:
 * [CPU CPU] (default: the first two that may be used). */
#define _GNU_SOURCE
#include "base/settings.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCHES = 20, LINE_WORDS = WEFT_CACHE_LINE / 4, DATA_WORDS = LINE_WORDS - 1, BULK_LINES = 64 };

typedef struct line {
    _Alignas(WEFT_CACHE_LINE) _Atomic uint32_t flag;
    uint32_t data[DATA_WORDS];
} line;

/* One writer per line: the parent writes `there`, the child `back`. The processor fetches lines in pairs, so
 * that one beside a line of the other side may cost more: both are measured. */
typedef struct shared {
    line there, beside, back, unused;
    line bulk_there[BULK_LINES], bulk_back[BULK_LINES];
    line shared_flag; /* of the way with a single line, which both write in turn */
} shared;

typedef struct way {
    const char *name;
    uint32_t rounds; /* of a batch */
    /* Round by round the parent sends and waits, the child waits and sends. */
    void (*send)(shared *s, bool parent, uint32_t round);
    void (*wait)(shared *s, bool parent, uint32_t round);
} way;

static line *own_line(shared *s, bool parent) { return parent ? &s->there : &s->back; }
static line *peer_line(shared *s, bool parent) { return parent ? &s->back : &s->there; }

static void spin_until(_Atomic uint32_t *flag, uint32_t value)
{
    /* Acquire: pairs with the release store of the sender. */
    while (atomic_load_explicit(flag, memory_order_acquire) != value)
        weft_cpu_relax();
}

/* The parent sends odd values, the child the even ones that follow. */
static void send_one_line(shared *s, bool parent, uint32_t round)
{
    atomic_store_explicit(&s->shared_flag.flag, 2 * round + (parent ? 1 : 2), memory_order_release);
}

static void wait_one_line(shared *s, bool parent, uint32_t round)
{
    spin_until(&s->shared_flag.flag, 2 * round + (parent ? 2 : 1));
}

static void send_flag(shared *s, bool parent, uint32_t round)
{
    atomic_store_explicit(&own_line(s, parent)->flag, round + 1, memory_order_release);
}

static void wait_flag(shared *s, bool parent, uint32_t round)
{
    spin_until(&peer_line(s, parent)->flag, round + 1);
}

/* The child's line is the neighbour of the parent's. */
static void send_beside(shared *s, bool parent, uint32_t round)
{
    atomic_store_explicit(parent ? &s->there.flag : &s->beside.flag, round + 1, memory_order_release);
}

static void wait_beside(shared *s, bool parent, uint32_t round)
{
    spin_until(parent ? &s->beside.flag : &s->there.flag, round + 1);
}

static void send_data(shared *s, bool parent, uint32_t round)
{
    memset(own_line(s, parent)->data, (int)round, sizeof(s->there.data));
    send_flag(s, parent, round);
}

static void wait_data(shared *s, bool parent, uint32_t round)
{
    uint32_t data[DATA_WORDS];
    wait_flag(s, parent, round);
    memcpy(data, peer_line(s, parent)->data, sizeof(data));
    if (data[0] != (round & 0xff) * 0x01010101u)
        abort();
}

static void send_bulk(shared *s, bool parent, uint32_t round)
{
    memset(parent ? s->bulk_there : s->bulk_back, (int)round, sizeof(s->bulk_there));
    send_flag(s, parent, round);
}

static void wait_bulk(shared *s, bool parent, uint32_t round)
{
    line copy[BULK_LINES];
    wait_flag(s, parent, round);
    memcpy(copy, parent ? s->bulk_back : s->bulk_there, sizeof(copy));
    if (copy[BULK_LINES - 1].data[0] != (round & 0xff) * 0x01010101u)
        abort();
}

static void wait_yielding(shared *s, bool parent, uint32_t round)
{
    while (atomic_load_explicit(&peer_line(s, parent)->flag, memory_order_acquire) != round + 1)
        sched_yield();
}

static void send_futex(shared *s, bool parent, uint32_t round)
{
    send_flag(s, parent, round);
    syscall(SYS_futex, &own_line(s, parent)->flag, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void wait_futex(shared *s, bool parent, uint32_t round)
{
    _Atomic uint32_t *flag = &peer_line(s, parent)->flag;
    uint32_t value;
    while ((value = atomic_load_explicit(flag, memory_order_acquire)) != round + 1)
        syscall(SYS_futex, flag, FUTEX_WAIT, value, NULL, NULL, 0);
}

static const way ways[] = {
    { "spin, both write one line", 20000, send_one_line, wait_one_line },
    { "spin, a line each, neighbours", 20000, send_beside, wait_beside },
    { "spin, a line each, 128 bytes apart", 20000, send_flag, wait_flag },
    { "spin, flag and 60 bytes in one line", 20000, send_data, wait_data },
    { "spin, flag and 4 KB", 2000, send_bulk, wait_bulk },
    { "sched_yield", 5000, send_flag, wait_yielding },
    { "futex, both sleep", 2000, send_futex, wait_futex },
};

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set);
}

/* The flags go on counting from batch to batch of a way; they begin at 0 for each way. */
static void answer(shared *s, const way *w)
{
    for (uint32_t round = 0; round < w->rounds * BATCHES; round++) {
        w->wait(s, false, round);
        w->send(s, false, round);
    }
}

static void measure(shared *s, const way *w)
{
    int64_t best = INT64_MAX, worst = 0;
    uint32_t round = 0;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = weft_now_ns();
        for (uint32_t end = round + w->rounds; round < end; round++) {
            w->send(s, true, round);
            w->wait(s, true, round);
        }
        int64_t ns = weft_now_ns() - start;
        best = ns < best ? ns : best;
        worst = ns > worst ? ns : worst;
    }
    printf("%-38s %10.0f %10.0f\n", w->name, (double)best / w->rounds, (double)worst / w->rounds);
}

/* Each way has a child of its own, which ends with it or with the parent. */
static int run(shared *s, const way *w, const int cpus[2])
{
    memset(s, 0, sizeof(*s));
    fflush(stdout);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || pin(cpus[1]) != 0)
            _exit(1);
        answer(s, w);
        _exit(0);
    }
    /* A child that cannot answer must not leave the parent waiting for ever. */
    alarm(60);
    measure(s, w);
    alarm(0);
    waitpid(child, NULL, 0);
    return 0;
}

static int choose_cpus(int argc, char **argv, int cpus[2])
{
    cpu_set_t allowed;
    int found = 0;
    if (argc == 3) {
        for (int i = 0; i < 2; i++) {
            int64_t cpu;
            if (weft_parse_int(argv[i + 1], 0, CPU_SETSIZE - 1, &cpu) != WEFT_OK)
                return -1;
            cpus[i] = (int)cpu;
        }
        return 0;
    }
    if (argc != 1 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[found++] = cpu;
    /* On one CPU only the ways that give it up end soon; main leaves the others out. */
    if (found == 1)
        cpus[1] = cpus[0];
    return found > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    int cpus[2];
    if (choose_cpus(argc, argv, cpus) != 0) {
        fprintf(stderr, "usage: bench_flag [CPU CPU]\n");
        return 2;
    }
    int fd = memfd_create("bench_flag", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof(shared)) != 0 || pin(cpus[1]) != 0 || pin(cpus[0]) != 0) {
        fprintf(stderr, "bench_flag: memory for CPUs %d and %d: %s\n", cpus[0], cpus[1], strerror(errno));
        return 1;
    }
    shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) {
        fprintf(stderr, "bench_flag: mmap: %s\n", strerror(errno));
        return 1;
    }
    printf("# round trip between CPU %d and CPU %d in ns: best and worst of %d batches\n", cpus[0], cpus[1],
           BATCHES);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        bool spins = strncmp(ways[i].name, "spin", 4) == 0;
        if (spins && cpus[0] == cpus[1])
            continue;
        if (run(s, &ways[i], cpus) != 0) {
            fprintf(stderr, "bench_flag: fork: %s\n", strerror(errno));
            return 1;
        }
    }
    return 0;
}

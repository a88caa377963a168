/* The floors under the comparison, measured by plain loops of two processes on two CPUs (or of one, where there is no second):
 * what a cache line takes to cross, memory to be copied and read, an all_reduce to be done by nothing but its copies, two sockets
 * to exchange bytes. Prints JSON. Usage: compare-floors local [BYTES,...] | serve PORT | connect HOST PORT */
#define _GNU_SOURCE /* CPU sets, memfd */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64, SIDES = 2, TILE = 128 << 10, ROUNDS = 20000, SAMPLES = 7, MOST_SIZES = 64 };
static const size_t LARGEST = (size_t)256 << 20;

typedef struct flag { _Alignas(2 * LINE) _Atomic uint32_t value; uint32_t data[15]; } flag;

/* Each side writes its own flags only. `stage` is what private buffers are copied through, two tiles deep; `mapped` are the
 * buffers of both sides where they read each other's in place. */
typedef struct shared {
    flag flags[SIDES], round_trip[SIDES];
    double result[SIDES];
    char stage[SIDES][2][2 * TILE];
} shared;

typedef struct side {
    shared *s;
    int me;
    uint32_t round;
    char *in, *out;                   /* private */
    char *mapped_in[SIDES], *mapped_out[SIDES];
} side;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Of a wait: where the other has lost its core to somebody, it gets ours. */
static void relax(void)
{
    static uint32_t waited;
    if (++waited % 4096 == 0)
        sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* The least: a floor is what nothing has disturbed. */
static double least_of(const double *values, int count)
{
    double least = values[0];
    for (int i = 1; i < count; i++)
        least = values[i] < least ? values[i] : least;
    return least;
}

/* Both tell, both wait: the shortest barrier of two that there is. Release and acquire pair with each other. */
static void meet(side *x)
{
    flag *mine = &x->s->flags[x->me], *other = &x->s->flags[1 - x->me];
    atomic_store_explicit(&mine->value, ++x->round, memory_order_release);
    while ((int32_t)(atomic_load_explicit(&other->value, memory_order_acquire) - x->round) < 0)
        relax();
}

/* ---- the things measured; each returns ns of one call on this side ---- */

static double exchange(side *x, size_t bytes)
{
    (void)bytes;
    double start = now_ns();
    for (int i = 0; i < ROUNDS; i++)
        meet(x);
    return (now_ns() - start) / ROUNDS;
}

static double round_trip(side *x, size_t bytes)
{
    (void)bytes;
    static uint32_t base;
    flag *mine = &x->s->round_trip[x->me], *other = &x->s->round_trip[1 - x->me];
    double start = now_ns();
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        if (x->me == 0)
            atomic_store_explicit(&mine->value, base + i, memory_order_release);
        while (atomic_load_explicit(&other->value, memory_order_acquire) != base + i)
            relax();
        if (x->me == 1)
            atomic_store_explicit(&mine->value, base + i, memory_order_release);
    }
    base += ROUNDS;
    return (now_ns() - start) / ROUNDS;
}

static int calls_for(size_t bytes)
{
    size_t calls = ((size_t)8 << 20) / (bytes + 1);
    return calls < 1 ? 1 : calls > 2000 ? 2000 : (int)calls;
}

static double copy(side *x, size_t bytes)
{
    int calls = calls_for(bytes);
    double start = now_ns();
    for (int i = 0; i < calls; i++) {
        memcpy(x->out, x->in, bytes);
        __asm__ volatile("" : : "r"(x->out) : "memory");
    }
    return (now_ns() - start) / calls;
}

static double read_all(side *x, size_t bytes)
{
    int calls = calls_for(bytes);
    double start = now_ns();
    for (int i = 0; i < calls; i++) {
        const uint64_t *words = (const uint64_t *)x->in;
        uint64_t sum[8] = { 0 };
        for (size_t w = 0; w + 8 <= bytes / 8; w += 8)
            for (int k = 0; k < 8; k++)
                sum[k] ^= words[w + (size_t)k];
        uint64_t all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
        __asm__ volatile("" : : "r"(all) : "memory");
    }
    return (now_ns() - start) / calls;
}

static void add(float *restrict sum, const float *restrict left, const float *restrict right, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] = left[i] + right[i];
}

static void add_to_both(float *restrict one, float *restrict two, const float *restrict left, const float *restrict right,
                        size_t count)
{
    for (size_t i = 0; i < count; i++)
        one[i] = two[i] = left[i] + right[i];
}

/* Private buffers, tile by tile: the other's half of the input goes to the stage; the own half is summed with what the other
 * staged, into the output and into the stage; the other's sum is copied out. Two stages alternate, so two meetings
 * per tile do. */
static void staged_call(side *x, size_t bytes)
{
    size_t tile = bytes < 2 * TILE ? bytes : 2 * TILE;
    for (size_t at = 0, turn = 0; at < bytes; at += tile, turn ^= 1) {
        size_t now = bytes - at < tile ? bytes - at : tile, half = now / 2 / LINE * LINE;
        size_t mine = x->me == 0 ? 0 : half, my_bytes = x->me == 0 ? half : now - half;
        size_t others = x->me == 0 ? half : 0, other_bytes = now - my_bytes;
        char *own = x->s->stage[x->me][turn], *peer = x->s->stage[1 - x->me][turn];
        memcpy(own + others, x->in + at + others, other_bytes);
        meet(x);
        add_to_both((float *)(x->out + at + mine), (float *)(own + mine), (const float *)(x->in + at + mine),
                    (const float *)(peer + mine), my_bytes / sizeof(float));
        meet(x);
        memcpy(x->out + at + others, peer + others, other_bytes);
    }
}

/* Mapped buffers: each reads its half of both inputs and writes it to both outputs. */
static void mapped_call(side *x, size_t bytes)
{
    size_t half = bytes / 2 / LINE * LINE, at = x->me == 0 ? 0 : half, mine = x->me == 0 ? half : bytes - half;
    meet(x);
    add_to_both((float *)(x->mapped_out[x->me] + at), (float *)(x->mapped_out[1 - x->me] + at),
                (const float *)(x->mapped_in[x->me] + at), (const float *)(x->mapped_in[1 - x->me] + at), mine / sizeof(float));
    meet(x);
}

/* All that a rank has goes to the stage tile by tile, the other's is added to the own: more to copy, one meeting per tile. A
 * stage is filled again two tiles later: by then the other has come to the meeting between, so it has read it. */
static void flat_call(side *x, size_t bytes)
{
    static size_t turn;
    for (size_t at = 0; at < bytes; at += TILE, turn ^= 1) {
        size_t now = bytes - at < TILE ? bytes - at : TILE;
        char *own = x->s->stage[x->me][turn], *peer = x->s->stage[1 - x->me][turn];
        memcpy(own, x->in + at, now);
        meet(x);
        add((float *)(x->out + at), (const float *)(x->in + at), (const float *)peer, now / sizeof(float));
    }
}

static double repeat(side *x, size_t bytes, void (*call)(side *x, size_t bytes))
{
    int calls = calls_for(bytes);
    call(x, bytes);
    double start = now_ns();
    for (int i = 0; i < calls; i++)
        call(x, bytes);
    return (now_ns() - start) / calls;
}

static double staged(side *x, size_t bytes) { return repeat(x, bytes, staged_call); }
static double mapped(side *x, size_t bytes) { return repeat(x, bytes, mapped_call); }
static double flat(side *x, size_t bytes) { return repeat(x, bytes, flat_call); }

/* ---- both sides run the same list, side 0 prints ---- */

/* The best of some samples, each that of the slower side, in us. */
static double measure(side *x, size_t bytes, double (*what)(side *x, size_t bytes))
{
    double samples[SAMPLES];
    int count = bytes > (size_t)32 << 20 ? 3 : SAMPLES;
    for (int i = 0; i < count; i++) {
        meet(x);
        double mine = what(x, bytes);
        x->s->result[x->me] = mine;
        meet(x);
        double other = x->s->result[1 - x->me];
        samples[i] = mine > other ? mine : other;
        meet(x);
    }
    return least_of(samples, count) / 1000;
}

static void print_table(side *x, const char *name, const size_t *sizes, int count, size_t least, size_t most,
                        double (*what)(side *x, size_t bytes))
{
    const char *comma = "";
    if (x->me == 0)
        printf("  \"%s\": {", name);
    for (int i = 0; i < count; i++) {
        if (sizes[i] < least || sizes[i] > most)
            continue;
        double us = measure(x, sizes[i], what);
        if (x->me == 0)
            printf("%s\"%zu\": %.4f", comma, sizes[i], us);
        comma = ", ";
    }
    if (x->me == 0)
        printf("},\n");
}

static void run_side(side *x, const size_t *sizes, int count)
{
    double crossing = measure(x, 0, exchange), trip = measure(x, 0, round_trip);
    if (x->me == 0)
        printf("{\n  \"exchange_us\": %.4f,\n  \"round_trip_us\": %.4f,\n", crossing, trip);
    print_table(x, "flat_us", sizes, count, sizeof(float), LARGEST, flat);
    print_table(x, "staged_us", sizes, count, 4096, LARGEST, staged);
    print_table(x, "mapped_us", sizes, count, 4096, LARGEST, mapped);
    print_table(x, "copy_us", sizes, count, 1, LARGEST, copy);
    print_table(x, "read_us", sizes, count, 4096, LARGEST, read_all);
    if (x->me == 0)
        printf("  \"cpus\": 2\n}\n");
}

static void *memory(size_t bytes, int flags)
{
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) {
        perror("compare-floors: mmap");
        exit(1);
    }
    return m;
}

static void pin(int index)
{
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && index-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
        }
}

static int run_local(const char *text)
{
    size_t sizes[MOST_SIZES], most = LINE;
    int count = 0;
    cpu_set_t allowed;
    for (char *end; count < MOST_SIZES && *text != 0; text = *end == ',' ? end + 1 : end) {
        sizes[count] = strtoull(text, &end, 10);
        if (end == text || sizes[count] > LARGEST)
            return 2;
        most = sizes[count] > most ? sizes[count] : most;
        count++;
    }
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) {
        printf("{\"cpus\": 1}\n");
        return 0;
    }
    side x = { .s = memory(sizeof(shared), MAP_SHARED) };
    for (int i = 0; i < SIDES; i++) {
        x.mapped_in[i] = memory(most, MAP_SHARED);
        x.mapped_out[i] = memory(most, MAP_SHARED);
    }
    fflush(stdout);
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        return 1;
    x.me = child == 0;
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    /* A side that has died must not leave the other waiting for ever. */
    alarm(300);
    pin(x.me);
    x.in = memory(most, MAP_PRIVATE);
    x.out = memory(most, MAP_PRIVATE);
    memset(x.in, 0, most);
    memset(x.out, 0, most);
    memset(x.mapped_in[x.me], 0, most);
    memset(x.mapped_out[x.me], 0, most);
    run_side(&x, sizes, count);
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    return 0;
}

/* ---- sockets: both sides send some bytes and receive as many at the same time ---- */

static const size_t socket_sizes[] = { 8, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20 };

/* What has been moved stays in cache until the other way had its turn. */
enum { SOCKET_CHUNK = 256 << 10 };

static bool exchange_bytes(int fd, char *out, char *in, size_t bytes)
{
    for (size_t sent = 0, got = 0; sent < bytes || got < bytes;) {
        size_t left = bytes - sent < SOCKET_CHUNK ? bytes - sent : SOCKET_CHUNK;
        ssize_t n = left > 0 ? send(fd, out + sent, left, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (n < 0 && errno != EAGAIN)
            return false;
        sent += n > 0 ? (size_t)n : 0;
        left = bytes - got < SOCKET_CHUNK ? bytes - got : SOCKET_CHUNK;
        n = left > 0 ? recv(fd, in + got, left, MSG_DONTWAIT) : 0;
        if ((n < 0 && errno != EAGAIN) || (n == 0 && left > 0))
            return false;
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static int exchange_over(int fd, bool prints)
{
    int one = 1;
    size_t most = socket_sizes[sizeof socket_sizes / sizeof *socket_sizes - 1];
    char *out = memory(most, MAP_PRIVATE), *in = memory(most, MAP_PRIVATE);
    memset(out, 1, most);
    memset(in, 1, most);
    alarm(120);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (size_t i = 0; i < sizeof socket_sizes / sizeof *socket_sizes; i++) {
        double samples[SAMPLES];
        int calls = calls_for(socket_sizes[i]) / 4 + 1;
        for (int s = 0; s < SAMPLES; s++) {
            double start = now_ns();
            for (int k = 0; k < calls; k++)
                if (!exchange_bytes(fd, out, in, socket_sizes[i]))
                    return 1;
            samples[s] = (now_ns() - start) / calls / 1000;
        }
        if (prints)
            printf("%s\"%zu\": %.3f", i == 0 ? "{" : ", ", socket_sizes[i], least_of(samples, SAMPLES));
    }
    if (prints)
        printf("}\n");
    return 0;
}

static int serve(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0) {
        perror("compare-floors: serve");
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    alarm(60);
    int peer = accept(fd, NULL, NULL);
    pin(1);
    return peer < 0 ? 1 : exchange_over(peer, false);
}

static int connect_to(const char *host, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("compare-floors: connect");
        return 1;
    }
    pin(0);
    return exchange_over(fd, true);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "local") == 0)
        return run_local(argc > 2 ? argv[2] : "8,4096,32768,262144,2097152,16777216");
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve((int)strtol(argv[2], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "connect") == 0)
        return connect_to(argv[2], (int)strtol(argv[3], NULL, 10));
    fprintf(stderr, "usage: compare-floors local [BYTES,...] | serve PORT | connect HOST PORT\n");
    return 2;
}

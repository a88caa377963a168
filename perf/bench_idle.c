/* What a connection that carries nothing costs: memory of a process with so many peers, who live in another process, before and
 * after each has sent and received one small slice. Arguments: TRANSPORT PEERS. On stdout KiB per connection: of the process
 * (resident, private), and of the kernel (what its allocators gained, divided by both ends; whatever else runs is in it). */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/settings.h"
#include "transport/registry.h"

enum { PEERS_MAX = 4096, PATIENCE_S = 160, BYTES = 8, SETTLE_ROUNDS = 20000 };

typedef struct blob {
    size_t bytes;
    unsigned char data[WEFT_TRANSPORT_ADDRESS_MAX];
} blob;

typedef struct member {
    weft_transport *transport;
    weft_endpoint *peer; /* rank 0, of the others */
    int arrived;
} member;

static const weft_transport_ops *ops;

static void give_up(const char *what)
{
    fprintf(stderr, "bench_idle: %s\n", what);
    exit(1);
}

static void send_all(int fd, const void *data, size_t bytes)
{
    if (send(fd, data, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        give_up("the other process is gone");
}

static void receive_all(int fd, void *data, size_t bytes)
{
    if (recv(fd, data, bytes, MSG_WAITALL) != (ssize_t)bytes)
        give_up("the other process is gone");
}

static void arrived(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    (void)peer, (void)header, (void)payload, (void)bytes;
    ((member *)context)->arrived++;
}

static void failed(void *context, int peer, weft_status status, const char *reason)
{
    (void)context, (void)peer, (void)status;
    give_up(reason);
}

static void done(weft_slice *slice, weft_status status)
{
    (void)status;
    weft_free(slice);
}

static void open_member(member *m, int rank, int ranks, blob *own)
{
    weft_transport_config config = {.size = sizeof config, .rank = rank, .ranks = ranks, .job = 1, .dead_peer_ms = 60000,
                                    .sink = {.context = m, .arrived = arrived, .failed = failed},
                                    .fail = weft_transport_fail, .log = weft_transport_log};
    own->bytes = sizeof own->data;
    if (ops->open(&config, &m->transport) != WEFT_OK || ops->address(m->transport, own->data, &own->bytes) != WEFT_OK)
        give_up(weft_last_error());
}

static void send_word(weft_endpoint *to)
{
    weft_slice *slice = weft_alloc_aligned(WEFT_CACHE_LINE, weft_round_up(sizeof *slice, WEFT_CACHE_LINE));
    if (!slice)
        give_up("no memory");
    *slice = (weft_slice){.payload = "12345678", .bytes = BYTES, .done = done};
    if (ops->send(to, slice) != WEFT_OK)
        give_up(weft_last_error());
}

/* KiB of a line of a file of /proc. */
static double kib(const char *path, const char *name)
{
    char line[256];
    double sum = 0, value;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), "%lf", &value) == 1)
            sum += value;
    if (f)
        fclose(f);
    return sum;
}

static double of_process(void)
{
    return kib("/proc/self/smaps_rollup", "Private_Dirty:") + kib("/proc/self/smaps_rollup", "Private_Clean:");
}

static double of_kernel(void)
{
    return kib("/proc/meminfo", "Slab:") + kib("/proc/meminfo", "PageTables:") + kib("/proc/meminfo", "VmallocUsed:");
}

/* All peers, in the other process. */
static void be_peers(int way, int peers)
{
    member *all = calloc((size_t)peers, sizeof *all);
    blob own, first;
    char word;
    if (!all)
        give_up("no memory");
    receive_all(way, &first, sizeof first);
    for (int i = 0; i < peers; i++) {
        open_member(&all[i], i + 1, peers + 1, &own);
        if (ops->connect(all[i].transport, 0, first.data, first.bytes, &all[i].peer) != WEFT_OK)
            give_up(weft_last_error());
        send_all(way, &own, sizeof own);
    }
    receive_all(way, &word, 1);
    for (int i = 0; i < peers; i++)
        send_word(all[i].peer);
    for (;;) { /* until it is ended */
        int moved = 0;
        for (int i = 0; i < peers; i++)
            moved += ops->progress(all[i].transport);
        if (!moved)
            poll(NULL, 0, 1);
    }
}

static void be_first(int way, int peers)
{
    member m = {.arrived = 0};
    weft_endpoint **to = calloc((size_t)peers, sizeof(weft_endpoint *));
    blob address;
    if (!to)
        give_up("no memory");
    open_member(&m, 0, peers + 1, &address);
    send_all(way, &address, sizeof address);
    for (int i = 0; i < peers; i++) {
        receive_all(way, &address, sizeof address);
        if (ops->connect(m.transport, i + 1, address.data, address.bytes, &to[i]) != WEFT_OK)
            give_up(weft_last_error());
    }
    double process = of_process(), kernel = of_kernel();
    send_all(way, "", 1);
    for (int i = 0; i < peers; i++)
        send_word(to[i]);
    while (m.arrived < peers)
        ops->progress(m.transport);
    for (int i = 0; i < SETTLE_ROUNDS; i++) /* what is still on its way to them */
        ops->progress(m.transport);
    printf("%s, %d connections: %.1f KiB of the process and %.1f KiB of the kernel for each\n", ops->name, peers,
           (of_process() - process) / peers, (of_kernel() - kernel) / peers / 2);
}

int main(int argc, char **argv)
{
    int64_t peers;
    int ways[2];
    struct rlimit files;
    if (argc != 3 || weft_parse_int(argv[2], 1, PEERS_MAX, &peers) != WEFT_OK) {
        fprintf(stderr, "usage: bench_idle TRANSPORT PEERS\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (weft_transport_get(argv[1], &ops) != WEFT_OK)
        give_up(weft_last_error());
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ways) != 0)
        give_up(strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        give_up(strerror(errno));
    alarm(PATIENCE_S);
    if (child == 0) {
        close(ways[0]);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
            return 1;
        be_peers(ways[1], (int)peers);
    }
    close(ways[1]);
    be_first(ways[0], (int)peers);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

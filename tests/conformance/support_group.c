/* Instances of a transport for tests, traffic between them, and the checks of what arrives: order of
 * announcement, integrity, where payloads land, that each slice is done once. */
#define _GNU_SOURCE
#include "conformance.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/registry.h"

enum { LIVE = 0x11fe };

/* A slice on its way out, or a payload on its way in. */
struct conformance_message {
    weft_slice slice;
    conformance_member *member;
    conformance_message *next;
    int state; /* LIVE until done */
    int peer;
    uint64_t number;
    unsigned char *payload;
};

typedef struct header {
    uint32_t from, to;
    uint64_t number, bytes, hash;
    uint32_t rest[4]; /* of which one changes from slice to slice */
} header;
_Static_assert(sizeof(header) == WEFT_HEADER_BYTES, "it fits");

uint64_t conformance_random(void)
{
    static _Thread_local uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void wrong(conformance_member *member, const char *format, ...) WEFT_PRINTF(2, 3);
static void wrong(conformance_member *member, const char *format, ...)
{
    va_list args;
    if (member->wrong[0])
        return;
    va_start(args, format);
    vsnprintf(member->wrong, sizeof member->wrong, format, args);
    va_end(args);
}

void conformance_check(const conformance_member *member)
{
    if (member->wrong[0])
        fail_msg("rank %d: %s", member->rank, member->wrong);
}

static uint32_t rest_of(uint64_t number, size_t i)
{
    return (uint32_t)((number + i) / 4);
}

/* ---- the sink ---- */

static void check_rest(conformance_member *member, const header *h)
{
    for (size_t i = 0; i < ARRAY_LEN(h->rest); i++)
        if (h->rest[i] != rest_of(h->number, i))
            wrong(member, "slice %llu has another header than it was sent with", (unsigned long long)h->number);
}

static void announce(conformance_member *member, int peer, const header *h, size_t bytes)
{
    conformance_peer *p = &member->peers[peer];
    if (h->from != (uint32_t)peer || h->to != (uint32_t)member->rank)
        wrong(member, "a slice from %u to %u came from %d", h->from, h->to, peer);
    if (h->bytes != bytes)
        wrong(member, "a slice of %zu bytes was sent as %llu", bytes, (unsigned long long)h->bytes);
    if (h->number != p->next_announced)
        wrong(member, "slice %llu of rank %d announced when it was the turn of %llu",
              (unsigned long long)h->number, peer, (unsigned long long)p->next_announced);
    if (p->failed)
        wrong(member, "a slice of rank %d after failed()", peer);
    check_rest(member, h);
    p->next_announced++;
}

static void *sink_place(void *context, int peer, const unsigned char *bytes_of_header, size_t bytes)
{
    conformance_member *member = context;
    header h;
    memcpy(&h, bytes_of_header, sizeof h);
    announce(member, peer, &h, bytes);
    conformance_message *m = calloc(1, sizeof *m);
    m->peer = peer;
    m->number = h.number;
    if (member->place == PLACE_MEMORY || (member->place == PLACE_MIXED && h.number % 2))
        m->payload = malloc(bytes ? bytes : 1);
    m->next = member->placed;
    member->placed = m;
    return m->payload;
}

/* What was announced by place, taken out of the list; NULL: it was not. */
static conformance_message *take_placed(conformance_member *member, int peer, uint64_t number)
{
    for (conformance_message **at = &member->placed; *at; at = &(*at)->next) {
        conformance_message *m = *at;
        if (m->peer == peer && m->number == number) {
            *at = m->next;
            return m;
        }
    }
    return NULL;
}

static void sink_arrived(void *context, int peer, const unsigned char *bytes_of_header, const void *payload,
                         size_t bytes)
{
    conformance_member *member = context;
    header h;
    memcpy(&h, bytes_of_header, sizeof h);
    conformance_message *m = take_placed(member, peer, h.number);
    if (!m)
        announce(member, peer, &h, bytes);
    else if (m->payload && payload != m->payload)
        wrong(member, "the payload is not where it was to be placed");
    check_rest(member, &h);
    if (h.hash != weft_hash(payload, bytes, h.number))
        wrong(member, "slice %llu of rank %d arrived with other bytes", (unsigned long long)h.number, peer);
    if (m)
        free(m->payload);
    free(m);
    member->arrived++;
    member->arrived_bytes += bytes;
    member->peers[peer].arrived++;
    if (member->on_arrived)
        member->on_arrived(member, peer, bytes);
}

static void sink_failed(void *context, int peer, weft_status status, const char *reason)
{
    conformance_member *member = context;
    conformance_peer *p = &member->peers[peer];
    if (p->failed++)
        wrong(member, "failed() was called twice for rank %d", peer);
    if (status == WEFT_OK || !reason || !*reason)
        wrong(member, "failed() without a status or reason");
    p->failure = status;
    snprintf(p->reason, sizeof p->reason, "%s", reason);
}

static void slice_done(weft_slice *slice, weft_status status)
{
    conformance_message *m = slice->context;
    conformance_member *member = m->member;
    if (m->state != LIVE) {
        wrong(member, "done() was called twice");
        return;
    }
    m->state = 0;
    if (status == WEFT_OK)
        member->done_ok++;
    else
        member->done_error++;
    if (status != WEFT_OK)
        member->last_error = status;
    free(m->payload);
    free(m);
}

static weft_status send_message(conformance_member *from, int to, const void *payload, size_t bytes,
                                void *owned)
{
    conformance_message *m = aligned_alloc(64, weft_round_up(sizeof *m, 64));
    memset(m, 0, sizeof *m);
    m->payload = owned;
    m->member = from;
    m->state = LIVE;
    header h = { (uint32_t)from->rank, (uint32_t)to, from->peers[to].next_sent, bytes, 0, {0} };
    for (size_t i = 0; i < ARRAY_LEN(h.rest); i++)
        h.rest[i] = rest_of(h.number, i);
    h.hash = weft_hash(payload, bytes, h.number);
    memcpy(m->slice.header, &h, sizeof h);
    m->slice.payload = bytes ? payload : NULL;
    m->slice.bytes = bytes;
    m->slice.done = slice_done;
    m->slice.context = m;
    /* Counted first: what the transport does with it may happen inside the call. */
    from->peers[to].next_sent++;
    from->sent++;
    weft_status status = from->ops->send(from->peers[to].endpoint, &m->slice);
    if (status != WEFT_OK) {
        from->peers[to].next_sent--;
        from->sent--;
        free(owned);
        free(m);
    }
    return status;
}

weft_status conformance_send_from(conformance_member *from, int to, const void *payload, size_t bytes)
{
    return send_message(from, to, payload, bytes, NULL);
}

weft_status conformance_send(conformance_member *from, int to, size_t bytes)
{
    unsigned char *payload = malloc(bytes ? bytes : 1);
    uint64_t word = conformance_random();
    for (size_t i = 0; i < bytes; i++) {
        if (i % 8 == 0)
            word = word * 6364136223846793005u + 1442695040888963407u;
        payload[i] = (unsigned char)(word >> i % 8 * 8);
    }
    return send_message(from, to, payload, bytes, payload);
}

/* ---- opening and closing ---- */

static weft_status open_transport(conformance_member *member, const conformance_subject *subject, int rank,
                                  int ranks, uint64_t job, conformance_place place)
{
    void *host = member->host;
    memset(member, 0, sizeof *member);
    member->host = host;
    member->subject = subject;
    member->ops = weft_transport_find(subject->name);
    member->rank = rank;
    member->ranks = ranks;
    member->place = place;
    weft_transport_config config = {
        .size = sizeof config, .rank = rank, .ranks = ranks, .job = job, .dead_peer_ms = 10000, .host = host,
        .fail = weft_transport_fail, .log = weft_transport_log,
        .sink = { member, place == PLACE_ABSENT ? NULL : sink_place, sink_arrived, sink_failed },
    };
    if (subject->configure)
        subject->configure(&config);
    return member->ops->open(&config, &member->transport);
}

void conformance_member_close(conformance_member *member)
{
    if (member->ops)
        member->ops->destroy(member->transport);
    member->transport = NULL;
    if (member->host && member->subject)
        member->subject->host_destroy(member->host);
    member->host = NULL;
    while (member->placed) {
        conformance_message *m = member->placed;
        member->placed = m->next;
        free(m->payload);
        free(m);
    }
    if (member->done_ok + member->done_error != member->sent)
        wrong(member, "of %llu slices %llu are done", (unsigned long long)member->sent,
              (unsigned long long)(member->done_ok + member->done_error));
}

typedef struct address {
    size_t bytes;
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
} address;

static weft_status connect_all(conformance_member *member, const address *addresses)
{
    for (int peer = 0; peer < member->ranks; peer++) {
        if (peer == member->rank)
            continue;
        const address *a = &addresses[peer];
        weft_path_info info;
        weft_status status = member->ops->reachable(member->transport, peer, a->blob, a->bytes, &info);
        if (status == WEFT_OK && (info.bandwidth_Bps <= 0 || info.latency_ns <= 0 || !info.name[0]))
            return weft_fail(WEFT_ERR_INTERNAL, "reachable() filled no figures");
        if (status == WEFT_OK)
            status = member->ops->connect(member->transport, peer, a->blob, a->bytes,
                                          &member->peers[peer].endpoint);
        if (status != WEFT_OK)
            return status;
    }
    return WEFT_OK;
}

/* The allgather between threads of this process, for what is collective over the group. */
typedef struct thread_gather {
    pthread_barrier_t barrier;
    int ranks;
    unsigned char *bytes;
    pthread_mutex_t lock;
} thread_gather;

typedef struct thread_rank {
    thread_gather *gather;
    const conformance_subject *subject;
    int rank;
    uint64_t job;
    void *host;
    weft_status status;
    char error[256]; /* each thread has its own last error */
} thread_rank;

static weft_status gather_threads(void *context, const void *send, void *recv, size_t bytes)
{
    thread_rank *me = context;
    thread_gather *g = me->gather;
    pthread_mutex_lock(&g->lock);
    if (!g->bytes)
        g->bytes = malloc((size_t)g->ranks * bytes);
    memcpy(g->bytes + (size_t)me->rank * bytes, send, bytes);
    pthread_mutex_unlock(&g->lock);
    pthread_barrier_wait(&g->barrier);
    memcpy(recv, g->bytes, (size_t)g->ranks * bytes);
    if (pthread_barrier_wait(&g->barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
        free(g->bytes);
        g->bytes = NULL;
    }
    pthread_barrier_wait(&g->barrier);
    return WEFT_OK;
}

static void *create_host(void *context)
{
    thread_rank *me = context;
    me->status =
        me->subject->host_create(me->rank, me->gather->ranks, me->job, gather_threads, me, &me->host);
    snprintf(me->error, sizeof me->error, "%s", weft_last_error());
    return NULL;
}

static weft_status create_hosts(conformance_group *group, const conformance_subject *subject, int ranks,
                                uint64_t job)
{
    pthread_t threads[CONFORMANCE_RANKS_MAX];
    thread_rank each[CONFORMANCE_RANKS_MAX];
    thread_gather gather = { .ranks = ranks, .lock = PTHREAD_MUTEX_INITIALIZER };
    weft_status status = WEFT_OK;
    pthread_barrier_init(&gather.barrier, NULL, (unsigned)ranks);
    for (int i = 0; i < ranks; i++) {
        each[i] = (thread_rank){ .gather = &gather, .subject = subject, .rank = i, .job = job };
        pthread_create(&threads[i], NULL, create_host, &each[i]);
    }
    for (int i = 0; i < ranks; i++) {
        pthread_join(threads[i], NULL);
        group->members[i].host = each[i].host;
        if (status == WEFT_OK && each[i].status != WEFT_OK)
            status = weft_fail(each[i].status, "%s", each[i].error);
    }
    pthread_barrier_destroy(&gather.barrier);
    return status;
}

weft_status conformance_open(conformance_group *group, const conformance_subject *subject, int ranks,
                             conformance_place place)
{
    static address addresses[CONFORMANCE_RANKS_MAX];
    uint64_t job = weft_random64();
    weft_status status = WEFT_OK;
    memset(group, 0, sizeof *group);
    group->ranks = ranks;
    if (subject->host_create)
        status = create_hosts(group, subject, ranks, job);
    for (int i = 0; i < ranks && status == WEFT_OK; i++) {
        conformance_member *member = &group->members[i];
        status = open_transport(member, subject, i, ranks, job, place);
        addresses[i].bytes = sizeof addresses[i].blob;
        if (status == WEFT_OK)
            status = member->ops->address(member->transport, addresses[i].blob, &addresses[i].bytes);
    }
    for (int i = 0; i < ranks && status == WEFT_OK; i++)
        status = connect_all(&group->members[i], addresses);
    if (status != WEFT_OK) {
        for (int i = 0; i < ranks; i++) {
            group->members[i].subject = subject;
            conformance_member_close(&group->members[i]);
        }
    }
    return status;
}

void conformance_close(conformance_group *group)
{
    for (int i = 0; i < group->ranks; i++)
        conformance_member_close(&group->members[i]);
    for (int i = 0; i < group->ranks; i++)
        conformance_check(&group->members[i]);
}

weft_status conformance_member_open(conformance_member *member, const conformance_subject *subject, int rank,
                                    int ranks, uint64_t job, conformance_place place,
                                    conformance_allgather allgather, void *context)
{
    address own = { .bytes = sizeof own.blob }, all[CONFORMANCE_RANKS_MAX];
    weft_status status = WEFT_OK;
    memset(member, 0, sizeof *member);
    member->subject = subject;
    if (subject->host_create)
        status = subject->host_create(rank, ranks, job, allgather, context, &member->host);
    if (status == WEFT_OK)
        status = open_transport(member, subject, rank, ranks, job, place);
    if (status == WEFT_OK)
        status = member->ops->address(member->transport, own.blob, &own.bytes);
    if (status == WEFT_OK)
        status = allgather(context, &own, all, sizeof own);
    if (status == WEFT_OK)
        status = connect_all(member, all);
    return status;
}

/* ---- driving ---- */

void conformance_drive(conformance_group *group)
{
    for (int i = 0; i < group->ranks; i++) {
        conformance_member *member = &group->members[i];
        if (member->transport)
            member->ops->progress(member->transport);
        conformance_check(member);
    }
}

bool conformance_quiet(const conformance_group *group)
{
    for (int i = 0; i < group->ranks; i++) {
        const conformance_member *member = &group->members[i];
        if (member->done_ok + member->done_error != member->sent)
            return false;
        for (int k = 0; k < group->ranks; k++) {
            if (k != i && group->members[k].peers[i].next_sent != member->peers[k].arrived)
                return false;
        }
    }
    return true;
}

void conformance_traffic(conformance_group *group, int count, size_t most)
{
    for (int n = 0; n < count; n++) {
        for (int from = 0; from < group->ranks; from++) {
            for (int to = 0; to < group->ranks; to++) {
                /* Mostly short ones, as headers are what a transport gets wrong. */
                size_t bytes = conformance_random() % (most + 1) >> conformance_random() % 12;
                if (to != from)
                    assert_int_equal(conformance_send(&group->members[from], to, bytes), WEFT_OK);
            }
        }
        if (conformance_random() % 4 == 0)
            conformance_drive(group);
    }
    conformance_until(group, conformance_quiet(group));
}

/* ---- a second process ---- */

weft_status conformance_process_allgather(void *context, const void *send, void *recv, size_t bytes)
{
    int fd = *(const int *)context;
    bool first = ((const int *)context)[1] == 0;
    unsigned char *own = (unsigned char *)recv + (first ? 0 : bytes),
                  *other = (unsigned char *)recv + (first ? bytes : 0);
    memcpy(own, send, bytes);
    if (write(fd, send, bytes) != (ssize_t)bytes)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "cannot write to the other process");
    for (size_t got = 0; got < bytes;) {
        ssize_t n = read(fd, other + got, bytes - got);
        if (n <= 0)
            return weft_fail(WEFT_ERR_PEER, "the other process is gone");
        got += (size_t)n;
    }
    return WEFT_OK;
}

void conformance_fork(conformance_process *process,
                      int (*child)(const conformance_subject *subject, int *link),
                      const conformance_subject *subject)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fflush(NULL);
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0) {
        int link[2] = { ends[1], 1 };
        close(ends[0]);
        alarm(60); /* it must not outlive a parent that fails */
        _exit(child(subject, link));
    }
    close(ends[1]);
    process->link[0] = ends[0];
    process->link[1] = 0;
}

int conformance_join(conformance_process *process)
{
    int status = 0;
    close(process->link[0]);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Which ranks share this host, and their base segment. Proof is the passing of a descriptor: in each round
 * the lowest rank of each class of candidates sends its memory to the others by name; who got it is on its
 * host, who did not is a candidate of the next round. An allgather lies between sending and looking, so
 * that nobody has to wait for mail. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/host_internal.h"
#include "transport/memfd.h"
#include "transport/numa.h"

enum { MAX_ROUNDS = 6, PAGE = 4096 };

/* What every rank tells all others at first. */
typedef struct host_card {
    uint64_t hint;    /* of kernel and network namespace: whom to try */
    uint64_t host_id; /* hash of the text, 0: none */
    uint64_t random;  /* in its sockets' names */
    uint64_t secret;
    uint64_t region_bytes;
    int32_t alone;
    int32_t status; /* a weft_status: this rank cannot take part */
    int32_t error;  /* errno of that */
    int32_t unused;
} host_card;

typedef struct host_answer {
    int32_t status; /* WEFT_OK: joined (or, from a leader, made the memory); WEFT_IN_PROGRESS: not (yet) */
    int32_t error;
} host_answer;

/* A rank in the sorted list of a round's candidates. */
typedef struct candidate {
    uint64_t class;
    int32_t rank;
} candidate;

/* State of the creation. */
typedef struct joining {
    const weft_host_config *config;
    weft_host *h;
    host_card *cards;      /* [ranks] */
    host_answer *answers;  /* [ranks] */
    candidate *candidates; /* [ranks] */
    int *leader_of;        /* [ranks]: -1 while in no group */
    int candidate_count;
    int *class_ranks;      /* [members]: this rank's class, ascending */
    int *slots;            /* [members]: scratch */
    int members, position; /* how many, and this rank's place in it */
    bool any_class;        /* a class of two or more exists in this round */
    host_answer mine;
} joining;

static uint64_t hash_of_this_host(void)
{
    char text[128] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
    }
    struct stat space;
    uint64_t seed = stat("/proc/self/ns/net", &space) == 0 ? (uint64_t)space.st_ino : 0;
    return weft_hash(text, strlen(text), seed);
}

/* What to tell the others; right after a failure, while errno is that of the failed call. */
static host_answer answer_of(weft_status status)
{
    return (host_answer){(int32_t)status, status == WEFT_ERR_SYSTEM ? errno : 0};
}

static weft_status open_sockets(weft_host *h, uint64_t random)
{
    weft_socket_name name;
    weft_socket_name_make(&name, h->job, h->rank, random, 'b');
    weft_status status = weft_socket_open(&name, &h->bell_socket);
    if (status != WEFT_OK)
        return status;
    weft_socket_name_make(&name, h->job, h->rank, random, 'm');
    return weft_socket_open(&name, &h->mail_socket);
}

static weft_status exchange(joining *j, const void *mine, void *all, size_t bytes)
{
    weft_status status = j->config->allgather(j->config->context, mine, all, bytes);
    return status == WEFT_OK ? WEFT_OK : weft_fail_context(status, "finding the ranks of each host");
}

/* Every rank sees the same answers, so that all of them fail for one that does. The culprit keeps its own,
 * fuller text. */
static weft_status first_failure(joining *j, weft_status own, const char *what)
{
    for (int r = 0; r < j->h->ranks; r++) {
        const host_answer *a = &j->answers[r];
        if (a->status == WEFT_OK || a->status == WEFT_IN_PROGRESS)
            continue;
        if (r == j->h->rank)
            return own;
        errno = a->error;
        return a->error ? weft_fail_errno((weft_status)a->status, "rank %d could not %s", r, what)
                        : weft_fail((weft_status)a->status, "rank %d could not %s: %s", r, what,
                                    weft_status_text((weft_status)a->status));
    }
    return WEFT_OK;
}

/* A rank that may not make shared memory is a host of its own: its peers reach it over the network. */
static bool has_to_be_alone(void)
{
    if (!weft_memfd_refused())
        return false;
    weft_log(WEFT_LOG_WARN, "no shared memory here (memfd_create: %s; a sandbox?): this rank counts as a host of its own",
             strerror(errno));
    return true;
}

static weft_status exchange_cards(joining *j)
{
    weft_host *h = j->h;
    const char *id = j->config->host_id;
    host_card card = {.hint = hash_of_this_host(),
                      .alone = j->config->alone || has_to_be_alone(),
                      .region_bytes = h->region_bytes,
                      .random = weft_random64(),
                      .secret = h->secret};
    if (id && *id)
        card.host_id = weft_hash(id, strlen(id), 1) | 1;
    weft_status own = open_sockets(h, card.random);
    card.status = (int32_t)own;
    card.error = answer_of(own).error;
    weft_status status = exchange(j, &card, j->cards, sizeof(card));
    if (status != WEFT_OK)
        return status;
    for (int r = 0; r < h->ranks; r++)
        j->answers[r] = (host_answer){j->cards[r].status, j->cards[r].error};
    status = first_failure(j, own, "open its sockets for shared memory");
    for (int r = 1; r < h->ranks && status == WEFT_OK; r++)
        if (j->cards[r].region_bytes != j->cards[0].region_bytes)
            status = weft_fail(WEFT_ERR_MISMATCH, "rank %d has regions of %llu bytes, rank 0 of %llu", r,
                               (unsigned long long)j->cards[r].region_bytes,
                               (unsigned long long)j->cards[0].region_bytes);
    return status;
}

static int compare_candidates(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->class != b->class)
        return a->class < b->class ? -1 : 1;
    return a->rank < b->rank ? -1 : a->rank > b->rank;
}

/* Who is tried together in this round: all of one WEFT_HOST_ID at first, then (for an id given to several
 * hosts) those of them that look like one host, then again all; without an id those that look like one
 * host. In the last round nobody. */
static uint64_t class_of(const host_card *card, int rank, int round)
{
    struct {
        uint64_t kind, a, b;
    } key = {1, card->hint, 0};
    if (card->alone || round == MAX_ROUNDS - 1) {
        key.kind = 2;
        key.a = (uint64_t)rank;
    } else if (card->host_id) {
        key.kind = round == 1 ? 4 : 3;
        key.a = card->host_id;
        key.b = round == 1 ? card->hint : 0;
    }
    return weft_hash(&key, sizeof(key), 0);
}

/* Notes this rank's class: it stays what it was in the round in which the rank joined. */
static void note_class(joining *j, const candidate *class, int members)
{
    j->members = members;
    for (int i = 0; i < members; i++) {
        j->class_ranks[i] = class[i].rank;
        if (class[i].rank == j->h->rank)
            j->position = i;
    }
}

static void find_candidates(joining *j, int round)
{
    int n = 0;
    bool looking = j->leader_of[j->h->rank] < 0;
    for (int r = 0; r < j->h->ranks; r++)
        if (j->leader_of[r] < 0)
            j->candidates[n++] = (candidate){class_of(&j->cards[r], r, round), r};
    qsort(j->candidates, (size_t)n, sizeof(candidate), compare_candidates);
    j->candidate_count = n;
    j->any_class = false;
    for (int first = 0, end; first < n; first = end) {
        bool own = false;
        for (end = first; end < n && j->candidates[end].class == j->candidates[first].class; end++)
            own |= j->candidates[end].rank == j->h->rank;
        if (own && looking)
            note_class(j, &j->candidates[first], end - first);
        j->any_class |= end - first > 1;
    }
}

/* Size of the base segment for a class: doorbells, CPU infos, regions. */
static size_t base_layout(size_t members, size_t *infos_at, size_t *regions_at, size_t region_bytes)
{
    *infos_at = members * sizeof(weft_doorbell);
    *regions_at = weft_round_up(*infos_at + members * sizeof(weft_cpu_info), PAGE);
    size_t regions, total;
    if (__builtin_mul_overflow(members, region_bytes, &regions) ||
        __builtin_add_overflow(regions, *regions_at, &total) || total > (size_t)INT64_MAX)
        return 0;
    return total;
}

static weft_status map_base(joining *j, uint64_t id, int fd)
{
    weft_host *h = j->h;
    size_t infos_at;
    void *address;
    h->base_bytes = base_layout((size_t)j->members, &infos_at, &h->regions_at, h->region_bytes);
    weft_status status = weft_shared_map(id, fd, h->base_bytes, &address);
    if (status != WEFT_OK)
        return status;
    h->base = address;
    h->base_id = id;
    h->front.bells = address;
    weft_numa_prefer(h->base + h->regions_at + (size_t)j->position * h->region_bytes, h->region_bytes);
    weft_cpu_info_read((weft_cpu_info *)(void *)(h->base + infos_at) + j->position);
    return WEFT_OK;
}

/* The leader makes the memory and sends it to whom it can reach. */
static weft_status lead_class(joining *j)
{
    weft_host *h = j->h;
    size_t infos_at, regions_at,
        bytes = base_layout((size_t)j->members, &infos_at, &regions_at, h->region_bytes);
    if (bytes == 0)
        return weft_fail(WEFT_ERR_INVALID, "%d regions of %zu bytes are too large for a segment", j->members,
                         h->region_bytes);
    int fd = -1; /* one rank alone needs none */
    weft_status status = j->members > 1 ? weft_memfd_create("weft-host", bytes, &fd) : WEFT_OK;
    if (status != WEFT_OK)
        return status;
    uint64_t id = weft_random64();
    weft_host_message message;
    weft_host_fill_message(h, &message, WEFT_MESSAGE_JOIN, 0, id, bytes);
    for (int i = 1; i < j->members; i++) {
        int rank = j->class_ranks[i];
        weft_socket_name to;
        weft_socket_name_make(&to, h->job, rank, j->cards[rank].random, 'm');
        int error = weft_socket_send(h->mail_socket, &to, &message, fd);
        if (error)
            weft_log(WEFT_LOG_DEBUG, "rank %d is on another host than rank %d (%s)", rank, h->rank,
                     strerror(error));
    }
    status = map_base(j, id, fd);
    if (fd >= 0)
        close(fd);
    return status;
}

/* Looks for what the leader sent; it was sent before the last allgather ended, so it is there or never
 * will be. */
static weft_status follow_leader(joining *j)
{
    int leader = j->class_ranks[0];
    weft_host_message message;
    for (;;) {
        int fd = -1, error = weft_socket_receive(j->h->mail_socket, &message, &fd);
        if (error == EBADMSG)
            continue;
        if (error == EMFILE) {
            errno = error;
            return weft_fail_errno(WEFT_ERR_SYSTEM, "receiving shared memory from rank %d (ulimit -n)",
                                   leader);
        }
        if (error)
            return WEFT_IN_PROGRESS;
        bool right = message.kind == WEFT_MESSAGE_JOIN && message.job == j->h->job &&
                     message.rank == leader && message.secret == j->cards[leader].secret;
        weft_status status = right ? map_base(j, message.id, fd) : WEFT_IN_PROGRESS;
        close(fd);
        if (right)
            return status;
    }
}

/* Files every rank that joined under its leader. All ranks come to the same result. */
static void note_groups(joining *j)
{
    int leader = -1;
    uint64_t class = 0;
    for (int i = 0; i < j->candidate_count; i++) {
        const candidate *c = &j->candidates[i];
        if (leader < 0 || c->class != class) {
            leader = c->rank;
            class = c->class;
        }
        if (j->answers[c->rank].status == WEFT_OK)
            j->leader_of[c->rank] = leader;
    }
}

/* Room for the local ranks, at most this rank's class: before the round's last allgather, after which one
 * rank may not fail alone. */
static weft_status reserve_lists(joining *j)
{
    weft_host *h = j->h;
    weft_free(h->local_ranks);
    weft_free(h->peers);
    h->local_ranks = weft_alloc_array((size_t)j->members, sizeof(*h->local_ranks));
    h->peers = weft_alloc_array((size_t)j->members, sizeof(*h->peers));
    if (!h->local_ranks || !h->peers)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for a list of %d local ranks", j->members);
    return WEFT_OK;
}

static weft_status join_round(joining *j, int round)
{
    weft_host *h = j->h;
    find_candidates(j, round);
    bool taking_part = j->leader_of[h->rank] < 0, leading = taking_part && j->position == 0;
    weft_status own = WEFT_OK;
    if (leading) {
        own = lead_class(j);
        j->mine = answer_of(own);
    } else if (taking_part) {
        j->mine = (host_answer){WEFT_IN_PROGRESS, 0};
    }
    weft_status status = WEFT_OK;
    if (j->any_class) {
        status = exchange(j, &j->mine, j->answers, sizeof(j->mine));
        if (status == WEFT_OK)
            status = first_failure(j, own, "make shared memory");
        if (status != WEFT_OK)
            return status;
        if (taking_part && !leading)
            own = follow_leader(j);
    }
    if (taking_part && own == WEFT_OK)
        own = reserve_lists(j);
    if (taking_part)
        j->mine = answer_of(own);
    status = exchange(j, &j->mine, j->answers, sizeof(j->mine));
    if (status == WEFT_OK)
        status = first_failure(j, own, "map shared memory");
    if (status == WEFT_OK)
        note_groups(j);
    return status;
}

/* Numbers the hosts and lists this one's ranks. */
static void number_hosts(joining *j)
{
    weft_host *h = j->h;
    int own_leader = j->leader_of[h->rank];
    for (int r = 0; r < h->ranks; r++) {
        h->host_of[r] = j->leader_of[r] == r
                            ? h->hosts++
                            : h->host_of[j->leader_of[r]]; /* a leader is its host's lowest rank */
        if (j->leader_of[r] != own_leader)
            continue;
        int n = h->size++;
        if (r == h->rank)
            h->index = n;
        weft_socket_name_make(&h->peers[n].bell, h->job, r, j->cards[r].random, 'b');
        weft_socket_name_make(&h->peers[n].mail, h->job, r, j->cards[r].random, 'm');
        h->peers[n].secret = j->cards[r].secret;
        h->local_ranks[n] = r;
    }
}

static void count_cpus(joining *j)
{
    weft_host *h = j->h;
    size_t infos_at, regions_at;
    base_layout((size_t)j->members, &infos_at, &regions_at, h->region_bytes);
    int n = 0; /* the class was listed by rank, so those who joined are in the order of local_ranks */
    for (int i = 0; i < j->members && n < h->size; i++)
        if (j->class_ranks[i] == h->local_ranks[n])
            j->slots[n++] = i;
    h->cpus = weft_cpu_info_count((const weft_cpu_info *)(const void *)(h->base + infos_at), j->slots, n);
}

static weft_status join(joining *j)
{
    int ranks = j->h->ranks;
    weft_status status = exchange_cards(j);
    for (int r = 0; r < ranks; r++)
        j->leader_of[r] = -1;
    for (int round = 0, left = ranks; status == WEFT_OK && left > 0; round++) {
        status = join_round(j, round);
        left = 0;
        for (int r = 0; r < ranks; r++)
            left += j->leader_of[r] < 0;
    }
    if (status == WEFT_OK) {
        number_hosts(j);
        count_cpus(j);
    }
    return status;
}

static weft_status check_config(const weft_host_config *c)
{
    if (c->ranks < 1 || c->rank < 0 || c->rank >= c->ranks)
        return weft_fail(WEFT_ERR_INVALID, "host: rank %d is not in 0..%d", c->rank, c->ranks - 1);
    if (!c->allgather)
        return weft_fail(WEFT_ERR_INVALID, "host: no allgather was given");
    return WEFT_OK;
}

/* A rank without memory for its own part still tells the others, so that they do not wait for it. */
static weft_status decline(const weft_host_config *config)
{
    host_card card = {.status = WEFT_ERR_MEMORY};
    size_t bytes = (size_t)config->ranks * sizeof(card);
    void *all = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all != MAP_FAILED) {
        (void)config->allgather(config->context, &card, all, sizeof(card));
        munmap(all, bytes);
    }
    return weft_fail(WEFT_ERR_MEMORY, "rank %d: no memory to find the hosts of %d ranks", config->rank,
                     config->ranks);
}

static bool allocate(joining *j, size_t ranks)
{
    weft_host *h = j->h;
    h->host_of = weft_alloc_array(ranks, sizeof(*h->host_of));
    h->lock_made = pthread_mutex_init(&h->lock, NULL) == 0;
    j->cards = weft_alloc_array(ranks, sizeof(*j->cards));
    j->answers = weft_alloc_array(ranks, sizeof(*j->answers));
    j->candidates = weft_alloc_array(ranks, sizeof(*j->candidates));
    j->leader_of = weft_alloc_array(ranks, sizeof(*j->leader_of));
    j->class_ranks = weft_alloc_array(ranks, sizeof(*j->class_ranks));
    j->slots = weft_alloc_array(ranks, sizeof(*j->slots));
    return h->host_of && h->lock_made && j->cards && j->answers && j->candidates && j->leader_of &&
           j->class_ranks && j->slots;
}

static void release(joining *j)
{
    weft_free(j->cards);
    weft_free(j->answers);
    weft_free(j->candidates);
    weft_free(j->leader_of);
    weft_free(j->class_ranks);
    weft_free(j->slots);
}

weft_status weft_host_create(const weft_host_config *config, weft_host **out)
{
    weft_status status = check_config(config);
    if (status != WEFT_OK)
        return status;
    weft_host *h = weft_alloc(sizeof(*h));
    if (!h)
        return decline(config);
    h->rank = config->rank;
    h->ranks = config->ranks;
    h->job = config->job;
    h->secret = weft_random64();
    h->bell_socket = h->mail_socket = -1;
    h->region_bytes =
        weft_round_up(config->region_bytes ? config->region_bytes : 1, (size_t)sysconf(_SC_PAGESIZE));
    joining j = {.config = config, .h = h};
    status = allocate(&j, (size_t)config->ranks) ? join(&j) : decline(config);
    release(&j);
    if (status != WEFT_OK)
        weft_host_destroy(h);
    else
        *out = h;
    return status;
}

void weft_host_destroy(weft_host *h)
{
    if (!h)
        return;
    weft_host_drop_mail(h);
    if (h->bell_socket >= 0)
        close(h->bell_socket);
    if (h->mail_socket >= 0)
        close(h->mail_socket);
    if (h->base)
        weft_shared_unmap(h->base_id);
    if (h->lock_made)
        pthread_mutex_destroy(&h->lock);
    weft_free(h->host_of);
    weft_free(h->local_ranks);
    weft_free(h->peers);
    weft_free(h);
}

const int *weft_host_of(const weft_host *h) { return h->host_of; }

int weft_host_count(const weft_host *h) { return h->hosts; }

const int *weft_host_ranks(const weft_host *h) { return h->local_ranks; }

int weft_host_size(const weft_host *h) { return h->size; }

int weft_host_index(const weft_host *h) { return h->index; }

int weft_host_cpus(const weft_host *h) { return h->cpus; }

void *weft_host_region(const weft_host *h, int index)
{
    return h->base + h->regions_at + (size_t)index * h->region_bytes;
}

uint64_t weft_host_base_id(const weft_host *h) { return h->base_id; }

/* The shm transport between threads and between processes: order, content of all sizes, full rings,
 * sleeping. */
#define _GNU_SOURCE
#include "local_group.h"

#include "transport/shm/shm.h"

enum { WINDOW = 32 };

/* One rank's end: checks that what comes from each peer is the sequence it must be. */
typedef struct traffic {
    group_rank *r;
    weft_host *host;
    weft_transport *t;
    weft_endpoint *to[GROUP_MAX_RANKS];
    uint32_t sent[GROUP_MAX_RANKS], done[GROUP_MAX_RANKS], announced[GROUP_MAX_RANKS],
        arrived[GROUP_MAX_RANKS];
    uint32_t aborted;
    size_t largest;
    size_t exactly; /* not 0: all slices are so long */
    unsigned char *placed; /* what place() gives out */
    weft_slice slices[GROUP_MAX_RANKS][WINDOW];
} traffic;

typedef struct header {
    uint32_t sequence, from;
    uint64_t bytes, seed;
    unsigned char rest[24];
} header;
_Static_assert(sizeof(header) == WEFT_HEADER_BYTES, "a header of the transport");

static unsigned char *pattern; /* random bytes; a slice is a piece of it */
enum { PATTERN_BYTES = WEFT_SLICE_MAX_BYTES + 4096 };

static void make_pattern(void)
{
    pattern = malloc(PATTERN_BYTES);
    for (size_t i = 0; i < PATTERN_BYTES; i++)
        pattern[i] = (unsigned char)(i * 2654435761u >> 13 ^ i >> 3);
}

/* Deterministic size of a slice: many small ones, all edges, now and then the largest. */
static size_t size_of(uint32_t sequence, uint32_t from, size_t largest)
{
    static const size_t sizes[] = {0,
                                   1,
                                   7,
                                   8,
                                   9,
                                   63,
                                   64,
                                   65,
                                   100,
                                   1000,
                                   4096,
                                   16384,
                                   32768,
                                   WEFT_SHM_WHOLE_BYTES - 1,
                                   WEFT_SHM_WHOLE_BYTES,
                                   WEFT_SHM_WHOLE_BYTES + 1,
                                   3 * WEFT_SHM_WHOLE_BYTES,
                                   WEFT_SLICE_MAX_BYTES - 1,
                                   WEFT_SLICE_MAX_BYTES};
    uint32_t key[2] = {sequence, from};
    uint64_t h = weft_hash(key, sizeof(key), 7);
    size_t bytes = h % 4 ? (h >> 8) % 300 : sizes[(h >> 8) % ARRAY_LEN(sizes)];
    return weft_min_size(bytes, largest);
}

static void *on_place(void *context, int peer, const unsigned char *bytes_of_header, size_t bytes)
{
    traffic *x = context;
    header h;
    memcpy(&h, bytes_of_header, sizeof(h));
    RANK_CHECK(x->r, h.sequence == x->announced[peer] && h.bytes == bytes);
    return x->placed ? x->placed + (size_t)peer * WEFT_SLICE_MAX_BYTES : NULL;
}

static void on_arrived(void *context, int peer, const unsigned char *bytes_of_header, const void *payload,
                       size_t bytes)
{
    traffic *x = context;
    header h;
    memcpy(&h, bytes_of_header, sizeof(h));
    RANK_CHECK(x->r, (int)h.from == peer && h.sequence == x->arrived[peer] && h.bytes == bytes);
    RANK_CHECK(x->r, memcmp(payload, pattern + h.seed, bytes) == 0);
    x->announced[peer] = ++x->arrived[peer];
}

static void on_failed(void *context, int peer, weft_status status, const char *reason)
{
    traffic *x = context;
    fprintf(stderr, "peer %d: %d %s\n", peer, status, reason);
    RANK_CHECK(x->r, !"the way to a peer failed");
}

static void on_done(weft_slice *slice, weft_status status)
{
    traffic *x = ((void **)slice->context)[0];
    int peer = (int)(intptr_t)((void **)slice->context)[1];
    free(slice->context);
    x->aborted += status == WEFT_ERR_ABORTED;
    x->done[peer]++;
}

static void send_next(traffic *x, int peer)
{
    uint32_t sequence = x->sent[peer]++;
    weft_slice *slice = &x->slices[peer][sequence % WINDOW];
    void **context = malloc(2 * sizeof(void *));
    context[0] = x;
    context[1] = (void *)(intptr_t)peer;
    header h = {.sequence = sequence,
                .from = (uint32_t)x->r->rank,
                .bytes = size_of(sequence, (uint32_t)x->r->rank, x->largest)};
    if (x->exactly)
        h.bytes = x->exactly;
    h.seed = weft_hash(&h, 16, 0) % 4096;
    *slice = (weft_slice){.payload = pattern + h.seed, .bytes = h.bytes, .done = on_done, .context = context};
    memcpy(slice->header, &h, sizeof(h));
    RANK_CHECK(x->r, weft_shm_transport.send(x->to[peer], slice) == WEFT_OK);
}

static traffic *traffic_open(group_rank *r)
{
    traffic *x = calloc(1, sizeof(*x));
    x->r = r;
    x->largest = WEFT_SLICE_MAX_BYTES;
    x->host = group_host(r);
    weft_transport_config config = {.size = sizeof(config),
                                    .rank = r->rank,
                                    .ranks = r->group->ranks,
                                    .job = r->group->job,
                                    .sink = {x, on_place, on_arrived, on_failed},
                                    .host = x->host};
    RANK_CHECK(r, weft_shm_transport.open(&config, &x->t) == WEFT_OK);
    unsigned char address[GROUP_CELL_BYTES], all[GROUP_MAX_RANKS][GROUP_CELL_BYTES];
    size_t bytes = sizeof(address);
    RANK_CHECK(r, weft_shm_transport.address(x->t, address, &bytes) == WEFT_OK);
    RANK_CHECK(r, group_allgather(r, address, all, sizeof(address)) == WEFT_OK);
    for (int i = 0; i < r->group->ranks; i++) {
        weft_path_info info;
        RANK_CHECK(r, weft_shm_transport.reachable(x->t, i, all[i], bytes, &info) == WEFT_OK &&
                          info.bandwidth_Bps > 0);
        RANK_CHECK(r, weft_shm_transport.connect(x->t, i, all[i], bytes, &x->to[i]) == WEFT_OK);
    }
    return x;
}

static void traffic_close(traffic *x)
{
    group_barrier(x->r);
    weft_shm_transport.destroy(x->t);
    weft_host_destroy(x->host);
    free(x->placed);
    free(x);
}

/* Progresses, and sleeps on the doorbell when there is nothing; sleeps end after 20 s with a failure. */
static void wait_some(traffic *x)
{
    if (weft_shm_transport.progress(x->t) > 0)
        return;
    weft_host_prepare_sleep(x->host, x->r->rank % 2 == 1);
    if (weft_shm_transport.progress(x->t) > 0) {
        weft_host_cancel_sleep(x->host);
        return;
    }
    int64_t deadline = weft_deadline_ns(20000);
    weft_host_sleep(x->host, NULL, 0, deadline);
    if (weft_now_ns() >= deadline) {
        RANK_CHECK(x->r, !"slept for 20 s");
        abort();
    }
}

static void exchange_all(traffic *x, uint32_t count)
{
    int ranks = x->r->group->ranks;
    for (bool busy = true; busy;) {
        busy = false;
        for (int peer = 0; peer < ranks; peer++) {
            while (x->sent[peer] < count && x->sent[peer] - x->done[peer] < WINDOW)
                send_next(x, peer);
            busy |= x->done[peer] < count || x->arrived[peer] < count;
        }
        if (busy)
            wait_some(x);
    }
}

static void body_all_to_all(group_rank *r)
{
    traffic *x = traffic_open(r);
    if (r->rank % 2)
        x->placed = malloc((size_t)r->group->ranks * WEFT_SLICE_MAX_BYTES);
    exchange_all(x, 300);
    traffic_close(x);
}

static void test_threads_exchange_all_sizes(void **state)
{
    (void)state;
    group_run_alike(4, true, weft_shm_region_bytes(4), body_all_to_all);
}

static void test_processes_exchange_all_sizes(void **state)
{
    (void)state;
    group_run_alike(2, false, weft_shm_region_bytes(2), body_all_to_all);
    group_run_alike(5, false, weft_shm_region_bytes(8), body_all_to_all);
}

/* More rings than are polled for ever: they go idle and come back. */
static void body_many_peers(group_rank *r)
{
    traffic *x = traffic_open(r);
    x->largest = 200;
    for (uint32_t round = 1; round <= 4; round++) {
        exchange_all(x, round * 3);
        if (r->rank == 0)
            for (int i = 0; i < 5000; i++)
                weft_shm_transport.progress(x->t);
    }
    traffic_close(x);
}

static void test_many_peers(void **state)
{
    (void)state;
    group_run_alike(40, false, weft_shm_region_bytes(40), body_many_peers);
}

static void body_small_ping_pong(group_rank *r)
{
    traffic *x = traffic_open(r);
    x->largest = 8;
    int peer = 1 - r->rank;
    for (uint32_t i = 1; i <= 20000; i++) {
        if (r->rank == 0)
            send_next(x, peer);
        while (x->arrived[peer] < i)
            wait_some(x);
        if (r->rank == 1)
            send_next(x, peer);
    }
    traffic_close(x);
}

static void test_ping_pong_with_sleeping(void **state)
{
    (void)state;
    group_run_alike(2, true, weft_shm_region_bytes(2), body_small_ping_pong);
    group_run_alike(2, false, weft_shm_region_bytes(2), body_small_ping_pong);
}

/* Rank 1 reads nothing until rank 0 has filled the ring: the rest waits in the sender's queue, close
 * aborts it. */
static void body_full_ring(group_rank *r)
{
    traffic *x = traffic_open(r);
    x->exactly = WEFT_SHM_SLICE_BYTES;
    if (r->rank == 0)
        while (x->sent[1] < WINDOW)
            send_next(x, 1);
    group_barrier(r);
    if (r->rank == 1)
        while (x->arrived[0] < WINDOW)
            wait_some(x);
    else
        while (x->done[1] < WINDOW)
            wait_some(x);
    group_barrier(r);
    traffic_close(x);
}

static void test_full_ring_is_no_error(void **state)
{
    (void)state;
    group_run_alike(2, true, weft_shm_region_bytes(2), body_full_ring);
}

static void body_close_aborts(group_rank *r)
{
    traffic *x = traffic_open(r);
    if (r->rank == 0) {
        static unsigned char big[WEFT_SLICE_MAX_BYTES];
        for (int i = 0; i < 4; i++) {
            weft_slice *slice = &x->slices[1][i];
            void **context = malloc(2 * sizeof(void *));
            context[0] = x;
            context[1] = (void *)(intptr_t)1;
            *slice = (weft_slice){.payload = big, .bytes = sizeof(big), .done = on_done, .context = context};
            RANK_CHECK(r, weft_shm_transport.send(x->to[1], slice) == WEFT_OK);
        }
        RANK_CHECK(r, weft_shm_transport.flush(x->t, 1) == WEFT_ERR_TIMEOUT);
        RANK_CHECK(r, x->done[1] == 0);
        weft_shm_transport.close(x->t);
        RANK_CHECK(r, x->aborted == 4 && x->done[1] == 4);
        RANK_CHECK(r, weft_shm_transport.send(x->to[1], &x->slices[1][0]) == WEFT_ERR_ABORTED);
        RANK_CHECK(r, weft_shm_transport.progress(x->t) == 0);
    }
    traffic_close(x);
}

static void test_close_aborts_what_is_queued(void **state)
{
    (void)state;
    group_run_alike(2, true, weft_shm_region_bytes(2), body_close_aborts);
}

/* Rank 1 is said to be dead: what waits for it ends, nothing of it is heard any more. */
static void body_abandon(group_rank *r)
{
    traffic *x = traffic_open(r);
    x->exactly = WEFT_SHM_SLICE_BYTES;
    for (int i = 0; i < WINDOW; i++)
        send_next(x, 1 - r->rank);
    group_barrier(r);
    if (r->rank == 0) {
        uint32_t before = x->done[1];
        weft_shm_transport.abandon(x->to[1]);
        RANK_CHECK(r, before < WINDOW && x->done[1] == WINDOW && x->aborted == 0);
        weft_slice late = {.bytes = 0};
        RANK_CHECK(r, weft_shm_transport.send(x->to[1], &late) == WEFT_ERR_PEER);
        RANK_CHECK(r, strstr(weft_last_error(), "rank 1"));
        for (int i = 0; i < 100; i++)
            weft_shm_transport.progress(x->t);
        RANK_CHECK(r, x->arrived[1] == 0);
    }
    traffic_close(x);
}

static void test_an_abandoned_peer_is_silent(void **state)
{
    (void)state;
    group_run_alike(2, true, weft_shm_region_bytes(2), body_abandon);
}

static void body_refusals(group_rank *r)
{
    traffic *x = traffic_open(r);
    unsigned char address[64];
    size_t bytes = sizeof(address);
    weft_endpoint *e = NULL;
    RANK_CHECK(r, weft_shm_transport.address(x->t, address, &bytes) == WEFT_OK);
    size_t small = 4;
    RANK_CHECK(r, weft_shm_transport.address(x->t, address, &small) == WEFT_ERR_INVALID);
    RANK_CHECK(r, weft_shm_transport.reachable(x->t, 2, address, bytes, NULL) == WEFT_ERR_INVALID);
    RANK_CHECK(r, weft_shm_transport.reachable(x->t, 1, address, bytes - 1, NULL) == WEFT_ERR_UNSUPPORTED);
    address[bytes - 1] ^= 1;
    RANK_CHECK(r, weft_shm_transport.reachable(x->t, 1, address, bytes, NULL) == WEFT_ERR_UNSUPPORTED);
    RANK_CHECK(r, weft_shm_transport.connect(x->t, 1, address, bytes, &e) == WEFT_ERR_UNSUPPORTED && !e);
    weft_slice slice = {.bytes = WEFT_SLICE_MAX_BYTES + 1, .payload = address};
    RANK_CHECK(r, weft_shm_transport.send(x->to[0], &slice) == WEFT_ERR_INVALID);
    weft_transport_config config = {.size = sizeof(config), .ranks = 1};
    weft_transport *none = NULL;
    RANK_CHECK(r, weft_shm_transport.open(&config, &none) == WEFT_ERR_UNSUPPORTED && !none);
    weft_shm_transport.destroy(NULL);
    traffic_close(x);
}

static void test_refusals(void **state)
{
    (void)state;
    group_run_alike(2, true, weft_shm_region_bytes(2), body_refusals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_exchange_all_sizes),
        cmocka_unit_test(test_processes_exchange_all_sizes),
        cmocka_unit_test(test_many_peers),
        cmocka_unit_test(test_ping_pong_with_sleeping),
        cmocka_unit_test(test_full_ring_is_no_error),
        cmocka_unit_test(test_close_aborts_what_is_queued),
        cmocka_unit_test(test_an_abandoned_peer_is_silent),
        cmocka_unit_test(test_refusals),
    };
    make_pattern();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(pattern);
    return failed;
}

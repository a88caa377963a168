/* A stream of messages over one connection, as NCCL's proxy thread makes it: requests posted as far as the window goes, the
 * oldest (or any) tested, every byte compared. */
#include "net-test_session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    GUARD_BYTES = 61,      /* behind each buffer: nothing may be written there */
    GUARD = 0xa5,
    SPARE_BYTES = 13,      /* how much larger than the message a checked receive is */
    WINDOW_MAX = 32 * NCCL_NET_RECVS_MAX,
    FIRST_TAG = 40
};

size_t size_fixed(const flow *f, int i)
{
    (void)i;
    return f->fixed;
}

static uint64_t word_of(int message, size_t word)
{
    return (word * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)message * UINT64_C(0xd6e8feb86659fd93) + 1);
}

static void fill(unsigned char *data, size_t bytes, int message)
{
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = word_of(message, at / 8);
        memcpy(data + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

/* Offset of the first wrong byte, `bytes` if there is none. */
static size_t find_wrong(const unsigned char *data, size_t bytes, int message)
{
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = word_of(message, at / 8);
        if (memcmp(data + at, &word, bytes - at < 8 ? bytes - at : 8) != 0) {
            const unsigned char *expected = (const unsigned char *)&word;
            while (data[at] == expected[at % 8])
                at++;
            return at;
        }
    }
    return bytes;
}

/* ---- buffers: one slot per message that may be in flight ---- */

typedef struct slots {
    unsigned char *base;
    size_t stride;
    int count;
    void *memory;
    double start;
} slots;

static bool make_slots(session *s, void *comm, const flow *f, slots *to)
{
    to->count = f->window * f->group;
    to->stride = (f->largest + SPARE_BYTES + GUARD_BYTES + 63) / 64 * 64;
    size_t bytes = to->stride * (size_t)to->count;
    to->base = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!to->base)
        return session_fail(s, "no memory for buffers of %zu bytes", bytes);
    memset(to->base, GUARD, bytes);
    if (!session_good(s, plugin_register(s->plugin, comm, to->base, bytes, &to->memory), "regMr") ||
        (f->took && !session_meet(s)))
        return false;
    to->start = now_s();
    return true;
}

static bool free_slots(session *s, void *comm, const flow *f, slots *from)
{
    if (f->took)
        *f->took = now_s() - from->start;
    bool good = session_good(s, plugin_deregister(s->plugin, comm, from->memory), "deregMr");
    free(from->base);
    return good;
}

/* Which message the sender sends as its i-th: groups backwards, so that tags decide. */
static int order_of(const flow *f, int i)
{
    int start = i / f->group * f->group, count = f->count - start < f->group ? f->count - start : f->group;
    return start + count - 1 - (i - start);
}

/* The request to test next: the oldest, or any of those in flight. */
static int choose(const flow *f, int oldest, int posted, void *const *requests, int limit, unsigned *seed)
{
    if (!f->shuffle)
        return oldest;
    int start = rand_r(seed) % (posted - oldest);
    for (int k = 0; k < posted - oldest; k++) {
        int i = oldest + (start + k) % (posted - oldest);
        if (requests[i % limit])
            return i;
    }
    return oldest;
}

/* ---- sending ---- */

static bool post_send(session *s, void *comm, const flow *f, slots *from, int i, void **request)
{
    int message = order_of(f, i);
    size_t bytes = f->size_of(f, message);
    unsigned char *data = from->base + (size_t)(i % from->count) * from->stride;
    if (f->check)
        fill(data, bytes, message);
    return session_good(s, plugin_send(s->plugin, comm, data, bytes, FIRST_TAG + message % f->group, from->memory, request),
                        "isend");
}

static bool check_sent(session *s, const flow *f, const slots *from, int i, const int *sizes)
{
    size_t bytes = f->size_of(f, order_of(f, i));
    (void)from;
    if ((s->plugin->version > 6 || sizes[0] != -1) && (size_t)sizes[0] != bytes)
        return session_fail(s, "test() says that a send of %zu bytes had %d", bytes, sizes[0]);
    return true;
}

/* ---- receiving ---- */

static bool post_receive(session *s, void *comm, const flow *f, slots *to, int i, void **request)
{
    void *data[NCCL_NET_RECVS_MAX], *memory[NCCL_NET_RECVS_MAX];
    size_t bytes[NCCL_NET_RECVS_MAX];
    int tags[NCCL_NET_RECVS_MAX], first = i * f->group, count = 0;
    if (f->pause_us)
        usleep((useconds_t)f->pause_us);
    for (; count < f->group && first + count < f->count; count++) {
        data[count] = to->base + (size_t)((first + count) % to->count) * to->stride;
        bytes[count] = f->size_of(f, first + count) + (f->check ? SPARE_BYTES : 0);
        tags[count] = FIRST_TAG + count;
        memory[count] = to->memory;
        if (f->check)
            memset(data[count], GUARD, to->stride);
    }
    return session_good(s, plugin_receive(s->plugin, comm, count, data, bytes, tags, memory, request), "irecv");
}

static bool check_received(session *s, const flow *f, const slots *to, int i, const int *sizes)
{
    int first = i * f->group;
    for (int k = 0; k < f->group && first + k < f->count; k++) {
        const unsigned char *data = to->base + (size_t)((first + k) % to->count) * to->stride;
        size_t bytes = f->size_of(f, first + k);
        /* Google's fastsocket leaves sizes alone, and NCCL can do without. */
        bool told = s->plugin->version > 6 || sizes[k] != -1;
        if (told && (size_t)sizes[k] != bytes)
            return session_fail(s, "message %d has %zu bytes, test() says %d", first + k, bytes, sizes[k]);
        if (!f->check)
            continue;
        size_t wrong = find_wrong(data, bytes, first + k);
        if (wrong < bytes)
            return session_fail(s, "message %d of %zu bytes: byte %zu is wrong", first + k, bytes, wrong);
        for (size_t at = bytes; at < bytes + SPARE_BYTES + GUARD_BYTES; at++) {
            if (data[at] != GUARD)
                return session_fail(s, "message %d of %zu bytes: byte %zu behind it was written", first + k, bytes, at - bytes);
        }
    }
    return true;
}

/* ---- both ---- */

typedef struct side {
    bool (*post)(session *s, void *comm, const flow *f, slots *memory, int i, void **request);
    bool (*check)(session *s, const flow *f, const slots *memory, int i, const int *sizes); /* a request that is done */
    int count, limit; /* of requests, and of those in flight */
    unsigned seed;
} side;

static bool run(session *s, void *comm, const flow *f, side *d)
{
    slots memory;
    void *requests[WINDOW_MAX] = {NULL};
    int posted = 0, oldest = 0;
    if (!make_slots(s, comm, f, &memory))
        return false;
    waiting w = session_wait(s);
    while (oldest < d->count && !s->failed) {
        bool moved = false;
        if (posted < d->count && posted - oldest < d->limit) {
            if (!d->post(s, comm, f, &memory, posted, &requests[posted % d->limit]))
                return false;
            moved = requests[posted % d->limit];
            posted += moved;
        }
        if (posted > oldest) {
            int done = 0, sizes[NCCL_NET_RECVS_MAX], i = choose(f, oldest, posted, requests, d->limit, &d->seed);
            memset(sizes, 0xff, sizeof sizes);
            if (!session_good(s, plugin_test(s->plugin, requests[i % d->limit], &done, sizes), "test"))
                return false;
            if (done && !d->check(s, f, &memory, i, sizes))
                return false;
            if (done)
                requests[i % d->limit] = NULL;
            moved |= done;
        }
        while (oldest < posted && !requests[oldest % d->limit])
            oldest++;
        if (moved)
            w = session_wait(s);
        else if (!session_waits(s, &w, "test"))
            return false;
    }
    return free_slots(s, comm, f, &memory);
}

bool flow_send(session *s, void *comm, const flow *f)
{
    return run(s, comm, f, &(side){post_send, check_sent, f->count, f->window * f->group, 1});
}

bool flow_receive(session *s, void *comm, const flow *f)
{
    int groups = (f->count + f->group - 1) / f->group;
    return run(s, comm, f, &(side){post_receive, check_received, groups, f->ahead ? f->ahead : f->window, 2});
}

bool flow_run(session *s, void *comm, bool to_receiver, const flow *f)
{
    return s->receives == to_receiver ? flow_receive(s, comm, f) : flow_send(s, comm, f);
}

/* Messages between ranks: sizes around the limits of what is sent unasked, tags, any source, order,
 * unexpected ones, truncation, to oneself, both ways at once, and that no tag waits behind another. */
#include "collectives/message.h"

#include "../checks.h"

static unsigned char byte_of(int source, int tag, size_t i)
{
    return (unsigned char)(((unsigned)source * 31u + (unsigned)tag * 7u + (unsigned)i) ^ (unsigned)(i >> 8) ^
                           (unsigned)(i >> 16));
}

static void fill(unsigned char *data, size_t bytes, int source, int tag)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_of(source, tag, i);
}

static bool holds(const unsigned char *data, size_t bytes, int source, int tag)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != byte_of(source, tag, i))
            return CHECK(false, "byte %zu of %zu from rank %d with tag %d is wrong", i, bytes, source, tag);
    return true;
}

static const size_t sizes[] = {0,     1,     63,    64,     65,     4095,   4097,   32767,  32768,   32769,
                               65535, 65536, 65537, 131071, 131073, 524287, 524288, 524289, 1048579, 4194304};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGEST = 4194304 };

/* Each size expected, unexpected (the receiver comes after a barrier), and with more room than needed. */
static void every_size(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    unsigned char *out = malloc(LARGEST), *in = malloc(LARGEST + 64);
    int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
    for (int k = 0; k < SIZES; k++)
        for (int late = 0; late < 2; late++) {
            size_t bytes = sizes[k], room = bytes + (late ? 64 : 0);
            weft_request *both[2];
            weft_recv_info info = {-5, -5, 5};
            fill(out, bytes, rank, k);
            memset(in, 0xee, bytes + 64);
            if (!late)
                CHECK_OK(weft_recv(comm, in, room, WEFT_U8, before, k, &info, &both[1]));
            CHECK_OK(weft_send(comm, bytes ? out : NULL, bytes, WEFT_U8, next, k, &both[0]));
            if (late) {
                CHECK_OK(weft_barrier(comm, NULL));
                CHECK_OK(weft_recv(comm, in, room, WEFT_U8, before, k, &info, &both[1]));
            }
            CHECK_OK(weft_wait_all(both, 2));
            CHECK(info.source == before && info.tag == k && info.bytes == bytes, "from %d, tag %d, %zu bytes",
                  info.source, info.tag, info.bytes);
            holds(in, bytes, before, k);
            CHECK(in[bytes] == 0xee, "%zu bytes wrote beyond their end", bytes);
        }
    free(out);
    free(in);
}

/* All send to rank 0, which takes any; then any tag of one source; the order per source and tag holds. */
static void any_source(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { EACH = 50 };
    if (rank > 0) {
        for (int k = 0; k < EACH; k++) {
            int32_t data[2] = {rank, k};
            CHECK_OK(weft_send(comm, data, 2, WEFT_I32, 0, k % 3, NULL));
        }
        CHECK_OK(weft_send(comm, NULL, 0, WEFT_U8, 0, 77, NULL));
        return;
    }
    int last[16][3];
    memset(last, -1, sizeof last);
    for (int k = 0; k < EACH * (ranks - 1); k++) {
        int32_t data[2] = {-1, -1};
        weft_recv_info info;
        int tag = k < EACH ? k % 3 : WEFT_ANY_TAG;
        if (tag == WEFT_ANY_TAG) { /* the empty one must stay for later */
            for (int t = 0; t < 3 && tag == WEFT_ANY_TAG; t++)
                for (int r = 1; r < ranks; r++)
                    if (last[r][t] + 3 < EACH && (last[r][t] < 0 ? t : last[r][t] + 3) < EACH)
                        tag = t;
        }
        CHECK_OK(weft_recv(comm, data, 2, WEFT_I32, WEFT_ANY_SOURCE, tag, &info, NULL));
        if (!CHECK(info.source > 0 && info.source < ranks && info.tag == tag && data[0] == info.source &&
                       info.bytes == 8,
                   "message %d: %d from %d, tag %d", k, data[0], info.source, info.tag))
            return;
        int expected = last[info.source][tag] < 0 ? tag : last[info.source][tag] + 3;
        CHECK(data[1] == expected, "from %d with tag %d: number %d, not %d", info.source, tag, data[1],
              expected);
        last[info.source][tag] = data[1];
    }
    for (int r = 1; r < ranks; r++) {
        weft_recv_info info;
        CHECK_OK(weft_recv(comm, NULL, 0, WEFT_U8, r, WEFT_ANY_TAG, &info, NULL));
        CHECK(info.source == r && info.tag == 77 && info.bytes == 0, "from %d, tag %d, %zu bytes",
              info.source, info.tag, info.bytes);
    }
}

/* Many of changing sizes with one tag arrive in order, whether they are waited for or not. */
static void in_order(weft_comm *comm, int rank, int ranks, void *context)
{
    enum { MESSAGES = 300, MOST = 50000 };
    (void)ranks;
    (void)context;
    weft_request *requests[MESSAGES];
    uint32_t state = 5;
    size_t length[MESSAGES], at[MESSAGES], total = 0;
    for (int k = 0; k < MESSAGES; k++) {
        length[k] = next_random(&state) % 4 ? next_random(&state) % 100 : next_random(&state) % MOST;
        at[k] = total;
        total += length[k] + 1;
    }
    unsigned char *data = malloc(total);
    weft_recv_info info[MESSAGES];
    for (int k = 0; k < MESSAGES && rank == 0; k++) {
        fill(data + at[k], length[k], k, 3);
        CHECK_OK(weft_send(comm, data + at[k], length[k], WEFT_U8, 1, 3, &requests[k]));
    }
    for (int k = 0; k < MESSAGES && rank == 1; k++) {
        if (k == MESSAGES / 2) /* what came so far is unexpected from here on */
            CHECK_OK(weft_wait_all(requests, k));
        CHECK_OK(weft_recv(comm, data + at[k], length[k] + 1, WEFT_U8, 0, 3, &info[k], &requests[k]));
    }
    if (rank < 2)
        CHECK_OK(weft_wait_all(requests, MESSAGES));
    for (int k = 0; k < MESSAGES && rank == 1; k++) {
        CHECK(info[k].bytes == length[k], "message %d has %zu bytes, not %zu", k, info[k].bytes, length[k]);
        holds(data + at[k], length[k], k, 3);
    }
    free(data);
}

/* Hundreds of messages that nobody wants yet, more than may lie there unasked; a later tag comes through
 * all the same. */
static void no_tag_blocks_another(weft_comm *comm, int rank, int ranks, void *context)
{
    const size_t bytes = *(const size_t *)context;
    enum { UNWANTED = 400 };
    (void)ranks;
    unsigned char *data = malloc(bytes * UNWANTED), late[1000];
    weft_request *requests[UNWANTED];
    if (rank == 0) {
        for (int k = 0; k < UNWANTED; k++) {
            fill(data + bytes * (size_t)k, bytes, 0, k);
            CHECK_OK(weft_send(comm, data + bytes * (size_t)k, bytes, WEFT_U8, 1, k, &requests[k]));
        }
        fill(late, sizeof late, 0, 1000);
        CHECK_OK(weft_send(comm, late, sizeof late, WEFT_U8, 1, 1000, NULL));
        CHECK_OK(weft_wait_all(requests, UNWANTED));
    } else {
        CHECK_OK(weft_recv(comm, late, sizeof late, WEFT_U8, 0, 1000, NULL, NULL));
        holds(late, sizeof late, 0, 1000);
        for (int k = UNWANTED - 1; k >= 0; k--) /* the last first */
            CHECK_OK(weft_recv(comm, data + bytes * (size_t)k, bytes, WEFT_U8, 0, k, NULL, &requests[k]));
        CHECK_OK(weft_wait_all(requests, UNWANTED));
        for (int k = 0; k < UNWANTED; k++)
            holds(data + bytes * (size_t)k, bytes, 0, k);
    }
    CHECK_OK(weft_barrier(comm, NULL));
    free(data);
}

/* A message too long for its buffer is an error of that receive alone, and is gone. */
static void truncation(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)ranks;
    (void)context;
    static const size_t lengths[] = {10, 32768, 40000, 200000, 1500000};
    unsigned char *data = malloc(1500000);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (int late = 0; late < 2; late++) {
            size_t room = k == 0 ? 4 : lengths[k] / 2 + 5;
            if (rank == 0) {
                fill(data, lengths[k], 0, 1);
                weft_request *both[2];
                CHECK_OK(weft_send(comm, data, lengths[k], WEFT_U8, 1, 1, &both[0]));
                CHECK_OK(weft_send(comm, data, 4, WEFT_U8, 1, 1, &both[1]));
                if (late)
                    CHECK_OK(weft_barrier(comm, NULL));
                CHECK_OK(weft_wait_all(both, 2));
            } else if (rank == 1) {
                weft_recv_info info = {0};
                memset(data, 0xee, 1500000);
                if (late)
                    CHECK_OK(weft_barrier(comm, NULL));
                CHECK_STATUS(weft_recv(comm, data, room, WEFT_U8, 0, 1, &info, NULL), WEFT_ERR_TRUNCATED);
                CHECK_DETAIL("tag 1");
                CHECK_DETAIL("rank 0");
                CHECK(info.bytes == lengths[k], "%zu bytes of %zu", info.bytes, lengths[k]);
                CHECK(data[room] == 0xee, "%zu bytes wrote beyond a buffer of %zu", lengths[k], room);
                CHECK_OK(weft_recv(comm, data, 4, WEFT_U8, 0, 1, &info, NULL));
                CHECK(info.bytes == 4, "%zu bytes of the next message", info.bytes);
                holds(data, 4, 0, 1);
            }
        }
    CHECK_OK(weft_barrier(comm, NULL));
    free(data);
}

static void to_itself(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)ranks;
    (void)context;
    unsigned char *out = malloc(LARGEST), *in = malloc(LARGEST);
    for (int k = 0; k < SIZES; k++)
        for (int late = 0; late < 2; late++) {
            weft_request *both[2];
            weft_recv_info info = {0};
            fill(out, sizes[k], rank, k);
            memset(in, 0, sizes[k]);
            if (!late)
                CHECK_OK(weft_recv(comm, in, sizes[k], WEFT_U8, k % 2 ? rank : WEFT_ANY_SOURCE, k, &info,
                                   &both[1]));
            CHECK_OK(weft_send(comm, out, sizes[k], WEFT_U8, rank, k, &both[0]));
            if (late)
                CHECK_OK(weft_recv(comm, in, sizes[k], WEFT_U8, rank, WEFT_ANY_TAG, &info, &both[1]));
            CHECK_OK(weft_wait_all(both, 2));
            CHECK(info.source == rank && info.tag == k && info.bytes == sizes[k],
                  "from %d, tag %d, %zu bytes", info.source, info.tag, info.bytes);
            holds(in, sizes[k], rank, k);
        }
    for (int k = 0; k < 3000; k++) { /* small ones complete unreceived, within their bound */
        int32_t one = k, got = -1;
        CHECK_OK(weft_send(comm, &one, 1, WEFT_I32, rank, 5, NULL));
        CHECK_OK(weft_recv(comm, &got, 1, WEFT_I32, rank, 5, NULL, NULL));
        CHECK(got == k, "got %d, not %d", got, k);
    }
    free(out);
    free(in);
}

/* Everyone sends everyone large messages, all at once, receives posted after the sends. */
static void both_ways(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    enum { EACH = 3, BYTES = 1 << 20 };
    int total = ranks * EACH, n = 0;
    weft_request **requests = calloc((size_t)total * 2, sizeof *requests);
    unsigned char *out = malloc((size_t)EACH * BYTES), *in = malloc((size_t)total * BYTES);
    for (int k = 0; k < EACH; k++)
        fill(out + (size_t)k * BYTES, BYTES, rank, k);
    for (int r = 0; r < ranks; r++)
        for (int k = 0; k < EACH; k++)
            CHECK_OK(weft_send(comm, out + (size_t)k * BYTES, BYTES - 5, WEFT_U8, (rank + r) % ranks, k,
                               &requests[n++]));
    for (int r = 0; r < ranks; r++)
        for (int k = 0; k < EACH; k++)
            CHECK_OK(weft_recv(comm, in + (size_t)(r * EACH + k) * BYTES, BYTES, WEFT_U8, r, k, NULL,
                               &requests[n++]));
    CHECK_OK(weft_wait_all(requests, n));
    for (int r = 0; r < ranks; r++)
        for (int k = 0; k < EACH; k++)
            holds(in + (size_t)(r * EACH + k) * BYTES, BYTES - 5, r, k);
    free(requests);
    free(out);
    free(in);
}

/* The same size in other words on both sides: bytes count. Tags up to the largest. */
static void types_and_tags(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)ranks;
    (void)context;
    double out = 1.5;
    int32_t in[3] = {0, 0, 7};
    weft_recv_info info;
    if (rank == 0) {
        CHECK_OK(weft_send(comm, &out, 1, WEFT_F64, 1, INT32_MAX, NULL));
    } else if (rank == 1) {
        CHECK_OK(weft_recv(comm, in, 3, WEFT_I32, WEFT_ANY_SOURCE, WEFT_ANY_TAG, &info, NULL));
        CHECK(info.tag == INT32_MAX && info.source == 0 && info.bytes == 8 && in[2] == 7,
              "tag %d from %d, %zu bytes", info.tag, info.source, info.bytes);
        CHECK(memcmp(in, &out, 8) == 0, "other bytes");
    }
}

/* ---- the matching alone, on a wire that is a pretence ------------------------------------------ */

static int completions;
static void note_done(void *context, weft_message *m)
{
    (void)context;
    (void)m;
    completions++;
}

static weft_status pretend_connect(weft_transport *t, int peer, const void *address, size_t bytes,
                                   weft_endpoint **endpoint)
{
    (void)t, (void)peer, (void)address, (void)bytes;
    static char there;
    *endpoint = (weft_endpoint *)(void *)&there;
    return WEFT_OK;
}
static weft_status pretend_send(weft_endpoint *endpoint, weft_slice *slice)
{
    (void)endpoint;
    slice->done(slice, WEFT_OK);
    return WEFT_OK;
}
static void pretend_close(weft_transport *t)
{
    (void)t;
}

typedef struct pretence {
    weft_wire wire;
    weft_messages messages;
    weft_transport_ops ops;
} pretence;
static const int identity[2] = {0, 1};

static void pretend(pretence *p)
{
    memset(p, 0, sizeof *p);
    p->ops = (weft_transport_ops){
        .connect = pretend_connect, .send = pretend_send, .close = pretend_close, .destroy = pretend_close};
    p->wire.ranks = 2;
    p->wire.peers = calloc(2, sizeof *p->wire.peers);
    p->wire.route_count = 1;
    p->wire.routes[0].ops = &p->ops;
    p->wire.routes[0].addresses = calloc(2, 64);
    p->wire.routes[0].address_stride = 64;
    p->wire.routes[0].address_bytes = calloc(2, sizeof(uint32_t));
    p->wire.peers[1].route = &p->wire.routes[0];
    assert_int_equal(weft_messages_init(&p->messages, &p->wire, 1, 0, 2, identity, identity, 32768), WEFT_OK);
    completions = 0;
}

static void pretence_over(pretence *p)
{
    weft_messages_clear(&p->messages);
    weft_wire_destroy(&p->wire);
}

static weft_incoming *announced(uint32_t number, int tag, size_t bytes, size_t total)
{
    weft_incoming *in = weft_alloc(sizeof *in);
    in->peer = 1;
    in->bytes = bytes;
    in->header = (weft_wire_header){.kind = WEFT_WIRE_MESSAGE,
                                    .comm = 1,
                                    .sequence = number,
                                    .task = (uint32_t)tag,
                                    .ordinal = 1,
                                    .total = total};
    return in;
}

/* A slice whose bytes are still on their way belongs to the receive that came first; a second one waits for
 * the next. */
static void half_arrived_is_matched_once(void **state)
{
    (void)state;
    pretence p;
    pretend(&p);
    char first[8] = "", second[8] = "";
    weft_message a = {.peer = 1, .tag = 4, .buffer = first, .bytes = 8, .done = note_done};
    weft_message b = {.peer = 1, .tag = 4, .buffer = second, .bytes = 8, .done = note_done};
    weft_incoming *one = announced(0, 4, 8, 8), *two = announced(1, 4, 8, 8);
    assert_int_equal(weft_messages_take(&p.messages, one), WEFT_TAKE_KEEP);
    weft_messages_kept(&p.messages, one);
    weft_message_recv(&p.messages, &a);
    weft_message_recv(&p.messages, &b);
    one->payload = (const unsigned char *)"1234567";
    weft_messages_completed(&p.messages, one);
    two->payload = (const unsigned char *)"abcdefg";
    assert_int_equal(weft_messages_take(&p.messages, two), WEFT_TAKE_DONE);
    assert_int_equal(completions, 2);
    assert_string_equal(first, "1234567");
    assert_string_equal(second, "abcdefg");
    weft_free(two);
    pretence_over(&p);
}

/* The peer is gone when it is asked to be served: the message stays open, and the call comes back. */
static void wanted_by_a_lost_peer(void **state)
{
    (void)state;
    pretence p;
    pretend(&p);
    char *data = calloc(1, 100000);
    weft_message m = {.peer = 1, .tag = 4, .buffer = data, .bytes = 100000, .done = note_done};
    weft_message_send(&p.messages, &m);
    p.wire.peers[1].broken = true;
    weft_incoming want = {.peer = 1, .header = {.kind = WEFT_WIRE_MESSAGE_WANT, .comm = 1, .sequence = 0}};
    assert_int_equal(weft_messages_take(&p.messages, &want), WEFT_TAKE_DONE);
    assert_int_equal(weft_messages_progress(&p.messages), 0);
    assert_int_equal(completions, 0);
    weft_messages_abort(&p.messages, WEFT_ERR_PEER);
    assert_int_equal(completions, 1);
    assert_int_equal(m.status, WEFT_ERR_PEER);
    free(data);
    pretence_over(&p);
}

/* ------------------------------------------------------------------------------------------------ */

static void on_both(int ranks, rank_function function, void *context)
{
    on_ranks(ranks, "shm", function, context);
    on_ranks(ranks, "tcp", function, context);
}

static void test_sizes(void **state)
{
    (void)state;
    on_both(2, every_size, NULL);
    on_both(3, every_size, NULL);
}
static void test_any_source(void **state)
{
    (void)state;
    on_both(4, any_source, NULL);
}
static void test_order(void **state)
{
    (void)state;
    on_both(2, in_order, NULL);
}
static void test_tags_apart(void **state)
{
    (void)state;
    for (size_t bytes = 8; bytes <= 40000; bytes = bytes * 70)
        on_both(2, no_tag_blocks_another, &bytes);
    on_both(2, no_tag_blocks_another, &(size_t){40000});
}
static void test_truncation(void **state)
{
    (void)state;
    on_both(2, truncation, NULL);
}
static void test_self(void **state)
{
    (void)state;
    on_both(2, to_itself, NULL);
    on_ranks(1, "auto", to_itself, NULL);
}
static void test_both_ways(void **state)
{
    (void)state;
    on_both(2, both_ways, NULL);
    on_both(4, both_ways, NULL);
}
static void test_types(void **state)
{
    (void)state;
    on_both(2, types_and_tags, NULL);
}

int main(void)
{
    time_limit(120);
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_arrived_is_matched_once),
                                       cmocka_unit_test(wanted_by_a_lost_peer),
                                       cmocka_unit_test(test_sizes),
                                       cmocka_unit_test(test_any_source),
                                       cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_tags_apart),
                                       cmocka_unit_test(test_truncation),
                                       cmocka_unit_test(test_self),
                                       cmocka_unit_test(test_both_ways),
                                       cmocka_unit_test(test_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

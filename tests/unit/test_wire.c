/* The wire's receiving side without a transport: what a client was promised it hears the end of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collectives/wire.h"

typedef struct counting_client {
    weft_wire_client client; /* first */
    unsigned char memory[64];
    bool in_buffer; /* places slices in a buffer of the wire */
    int placed, lost, landed, faults;
    weft_wire *wire;
} counting_client;

static weft_take take(weft_wire_client *client, weft_incoming *in)
{
    counting_client *c = (counting_client *)(void *)client;
    if (c->faults)
        return WEFT_TAKE_DONE;
    in->memory = c->in_buffer ? in->buffer = weft_wire_buffer(c->wire, in->bytes) : c->memory;
    c->placed++;
    return WEFT_TAKE_PLACE;
}

static void landed(weft_wire_client *client, weft_incoming *in)
{
    (void)in;
    ((counting_client *)(void *)client)->landed++;
}

static void lost(weft_wire_client *client, weft_incoming *in)
{
    (void)in;
    ((counting_client *)(void *)client)->lost++;
}

static void fault(weft_wire_client *client, weft_status status, const char *reason)
{
    (void)reason;
    assert_int_equal(status, WEFT_ERR_MEMORY);
    ((counting_client *)(void *)client)->faults++;
}

/* Its place would never be given up: a collective in error waited for it for ever. */
static void test_a_placed_slice_that_cannot_be_noted_is_lost(void **state)
{
    (void)state;
    for (int in_buffer = 0; in_buffer < 2; in_buffer++) {
        weft_wire_peer peers[2] = {0};
        weft_wire wire = {.rank = 0, .ranks = 2, .peers = peers, .next_comm = 1};
        counting_client c = {.client = {.comm = 1, .take = take, .landed = landed, .lost = lost, .fault = fault},
                             .in_buffer = in_buffer, .wire = &wire};
        weft_wire_add_client(&wire, &c.client);
        weft_sink sink = weft_wire_sink(&wire);
        weft_wire_header header = {.comm = 1};
        unsigned char bytes[WEFT_HEADER_BYTES], payload[16] = {0};
        memcpy(bytes, &header, sizeof bytes);
        weft_alloc_fail_at(in_buffer + 1, true);
        void *where = sink.place(sink.context, 1, bytes, sizeof payload);
        weft_alloc_fail_at(0, false);
        assert_null(where);
        assert_int_equal(c.placed, 1);
        assert_int_equal(c.lost, 1);
        assert_int_equal(c.faults, 1);
        sink.arrived(sink.context, 1, bytes, payload, sizeof payload);
        assert_int_equal(c.landed, 0);
        weft_wire_remove_client(&wire, &c.client);
        wire.peers = NULL; /* not the heap's */
        weft_wire_destroy(&wire);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_placed_slice_that_cannot_be_noted_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

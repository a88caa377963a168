/* The control plane's decoders and parsers on any bytes, and a rank of the tree whose neighbours send any bytes: nothing is
 * read out of bounds, what decodes encodes to the same again, and a malformed message costs its sender the connection. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/control_object.h"
#include "core/launch.h"
#include "core/rendezvous_file.h"
#include "core/rendezvous_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(bool good)
{
    if (!good)
        abort();
}

static void decode_fixed(const uint8_t *data, size_t bytes)
{
    uint8_t in[WEFT_JOIN_BYTES] = { 0 }, out[WEFT_JOIN_BYTES];
    weft_greeting greeting;
    weft_join join, again;
    weft_hello hello;
    memcpy(in, data, weft_min_size(bytes, sizeof in));
    if (weft_greeting_decode(&greeting, in))
        weft_greeting_encode(&greeting, out);
    if (weft_hello_decode(&hello, in))
        weft_hello_encode(&hello, out);
    if (weft_join_decode(&join, in)) {
        weft_join_encode(&join, out);
        check(weft_join_decode(&again, out) && again.rank == join.rank && again.listen.count == join.listen.count);
        struct sockaddr_storage addresses[2 * WEFT_ENDPOINT_ADDRESSES];
        int count = weft_control_sockaddrs(&join.listen, addresses, 2 * WEFT_ENDPOINT_ADDRESSES);
        for (int i = 0; i < count; i++) {
            char text[WEFT_ADDRESS_TEXT_BYTES];
            check(strlen(weft_control_address_text(&addresses[i], text)) > 0);
            weft_control_prefer(&join.listen, &addresses[i]);
        }
    }
}

static void decode_payloads(const uint8_t *data, size_t bytes)
{
    weft_notice notice, again;
    weft_assign assign;
    weft_status status;
    char text[64];
    uint8_t frame[WEFT_FRAME_HEADER_BYTES + WEFT_NOTICE_BYTES];
    if (weft_notice_decode(&notice, data, bytes)) {
        size_t length = weft_notice_encode(&notice, frame);
        check(weft_notice_decode(&again, frame + WEFT_FRAME_HEADER_BYTES, length - WEFT_FRAME_HEADER_BYTES));
        check(again.rank == notice.rank && strcmp(again.text, notice.text) == 0);
    }
    if (weft_error_decode(&status, text, sizeof text, data, bytes))
        check(status > WEFT_IN_PROGRESS && status < WEFT_STATUS_COUNT && strlen(text) < sizeof text);
    if (weft_assign_decode(&assign, data, bytes)) {
        uint8_t *out = malloc(weft_assign_bytes(assign.alive_bytes));
        weft_assign_encode(&assign, out);
        check(assign.alive_bytes <= bytes);
        free(out);
    }
}

static void parse_texts(const uint8_t *data, size_t bytes)
{
    char text[600], value[300];
    size_t used = weft_min_size(bytes, sizeof text - 1), room = sizeof value;
    weft_endpoint endpoint;
    weft_url url;
    uint64_t token;
    uint16_t low, high;
    memcpy(text, data, used);
    text[used] = 0;
    if (weft_url_parse(text, &url) == WEFT_OK)
        check(url.path[0] != 0 || (url.host[0] != 0 && url.port != 0));
    if (weft_file_parse(text, &endpoint, &token))
        check(endpoint.count > 0 && endpoint.count <= WEFT_ENDPOINT_ADDRESSES && endpoint.port != 0);
    if (weft_control_parse_ports(text, &low, &high) == WEFT_OK)
        check(low <= high);
    if (weft_launch_from_hex(text, value, &room))
        check(room == strlen(text) / 2);
}

/* Rank 1 of 7, with its parent 0 and its child 2; no thread. */
static void read_tree(const uint8_t *data, size_t bytes)
{
    static const char all_gather[32];
    int parent[2], child[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, parent) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, child) == 0);
    _Atomic uint64_t dead = 0;
    weft_control c = { .rank = 1, .size = 7, .epoll = -1, .notice_room = 4, .dead = &dead, .lock = PTHREAD_MUTEX_INITIALIZER,
                       .changed = PTHREAD_COND_INITIALIZER, .edge_count = 2 };
    c.wake = open("/dev/null", O_WRONLY | O_CLOEXEC);
    c.notices = weft_alloc_array(4, sizeof *c.notices);
    weft_tree_find(1, 7, &c.place);
    c.edges[0] = (weft_control_edge){ .fd = parent[0], .rank = 0, .parent = true };
    c.edges[1] = (weft_control_edge){ .fd = child[0], .rank = 2, .low = 2, .high = 3 };
    for (int i = 0; i < 2; i++)
        c.edges[i].last = &c.edges[i].first;
    if (bytes % 2 == 0) { /* an all-gather of 4 bytes is under way */
        c.gather = weft_control_buffer_create(WEFT_GATHER_DATA + 2 * 4);
        memcpy(c.gather->data + WEFT_GATHER_DATA, all_gather, 8);
        c.gather_bytes = 4;
        c.gather_sequence = 1;
        c.gathering = true;
    }
    c.leaving = bytes % 3 == 0;
    /* The first byte says which part the parent sends. */
    size_t split = bytes != 0 ? 1 + (bytes - 1) * data[0] / 255 : 0;
    if (bytes > 1) {
        check(send(parent[1], data + 1, split - 1, 0) == (ssize_t)(split - 1) || split == 1);
        check(send(child[1], data + split, bytes - split, 0) == (ssize_t)(bytes - split) || split == bytes);
    }
    close(parent[1]);
    close(child[1]);
    for (int i = 1; i >= 0; i--)
        weft_edge_read(&c, &c.edges[i]);
    for (int i = 0; i < 2; i++) {
        check(c.edges[i].ended);
        weft_edge_close(&c, &c.edges[i]);
    }
    check(c.notice_count <= c.notice_room);
    weft_control_buffer_release(c.gather);
    weft_free(c.gather_payload);
    weft_free(c.notices);
    close(c.wake);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    weft_log_set_level((weft_log_level)-2); /* below all: every input is malformed */
    decode_fixed(data, bytes);
    decode_payloads(data, bytes);
    parse_texts(data, bytes);
    read_tree(data, bytes);
    return 0;
}

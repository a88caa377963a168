/* Bytes that come in over a socket of the tcp transport. The first byte of the input says how far the sender gets:
 * a stranger from its first byte on, or one with a good greeting whose frames are the input, raw or with good
 * checksums. Address blobs, greetings, interface lists and port ranges are parsed as well. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/tcp/address.h"
#include "transport/tcp/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { JOB = 7, RANKS = 3, STREAM_MAX = 1 << 16 };

static uint64_t arrived;
static int failed;
static unsigned char landing[WEFT_SLICE_MAX_BYTES];

static void *place(void *context, int peer, const unsigned char *header, size_t bytes)
{
    (void)context, (void)peer, (void)bytes;
    return header[0] % 2 ? landing : NULL;
}

static void note_arrival(void *context, int peer, const unsigned char *header, const void *payload, size_t bytes)
{
    (void)context, (void)header;
    if (peer != 1 || bytes > WEFT_SLICE_MAX_BYTES)
        abort();
    volatile unsigned char last = bytes ? ((const unsigned char *)payload)[bytes - 1] : 0;
    (void)last;
    arrived++;
}

static void note_failure(void *context, int peer, weft_status status, const char *reason)
{
    (void)context;
    if (peer != 1 || status == WEFT_OK || !*reason)
        abort();
    failed++;
}

static void parse_texts(const uint8_t *data, size_t bytes)
{
    char text[100];
    size_t used = weft_min_size(bytes, sizeof text - 1);
    uint16_t low, high;
    weft_tcp_interface all[2] = {{.name = "lo", .up = true, .loopback = true}, {.name = "eth0", .up = true}};
    weft_tcp_interface chosen[WEFT_TCP_ADDRESSES_MAX];
    int count;
    memcpy(text, data, used);
    text[used] = 0;
    all[0].address.any.sa_family = all[1].address.any.sa_family = AF_INET;
    if (weft_tcp_port_range_parse(text, &low, &high) == WEFT_OK ? low > high : !*weft_last_error())
        abort();
    if (weft_tcp_interfaces_choose(all, 2, text, chosen, &count) == WEFT_OK ? count < 1 : !*weft_last_error())
        abort();
}

static void parse_blobs(const uint8_t *data, size_t bytes)
{
    weft_tcp_addresses theirs, mine = { .host = 1, .count = 1 };
    weft_tcp_rail rails[WEFT_TCP_INTERFACES_MAX];
    weft_tcp_hello hello;
    weft_tcp_welcome welcome;
    unsigned char fixed[WEFT_TCP_HELLO_BYTES] = { 0 };
    int count;
    mine.entries[0].address.any.sa_family = AF_INET;
    if (weft_tcp_addresses_decode(data, bytes, &theirs) == WEFT_OK)
        weft_tcp_rails_match(&mine, &theirs, rails, &count);
    memcpy(fixed, data, weft_min_size(bytes, sizeof fixed));
    weft_tcp_hello_decode(fixed, &hello);
    weft_tcp_welcome_decode(fixed, &welcome);
}

/* Turns the input into frames with good checksums: two bytes give the length of each, the payload is what follows
 * as far as it goes; a byte in between may skip or repeat a sequence number. */
static size_t make_frames(const uint8_t *data, size_t bytes, uint64_t set, unsigned char *stream)
{
    size_t used = 0, at = 0;
    uint64_t sequence = 0;
    while (at + 3 <= bytes && used + WEFT_TCP_HEADERS_BYTES < STREAM_MAX / 2) {
        uint32_t length = data[at] | (uint32_t)data[at + 1] << 8;
        sequence += data[at + 2] == 255 ? (uint64_t)-1 : data[at + 2] == 254;
        at += 3;
        weft_tcp_frame_encode(length, sequence++, set, stream + used);
        memset(stream + used + WEFT_TCP_FRAME_BYTES, (int)length, WEFT_HEADER_BYTES);
        used += WEFT_TCP_HEADERS_BYTES;
        size_t part = weft_min_size(weft_min_size(length, bytes - at), STREAM_MAX - used);
        memcpy(stream + used, data + at, part);
        at += part;
        used += part;
    }
    return used;
}

static size_t make_stream(const uint8_t *data, size_t bytes, unsigned char *stream)
{
    const weft_tcp_hello hello = {
        .version = WEFT_TCP_VERSION, .job = JOB, .rank = 1, .target = 0, .set = 9, .count = 1};
    size_t used = 0;
    int kind = data[0] % 3;
    data++;
    bytes--;
    if (kind > 0) {
        weft_tcp_hello_encode(&hello, stream);
        used = WEFT_TCP_HELLO_BYTES;
    }
    if (kind == 2)
        return used + make_frames(data, bytes, hello.set, stream + used);
    size_t part = weft_min_size(bytes, STREAM_MAX - used);
    memcpy(stream + used, data, part);
    return used + part;
}

/* NULL: thousands of connections a second have used up the ports, some of which are still in TIME_WAIT. */
static weft_transport *open_transport(const weft_transport_ops *ops, weft_tcp_sockaddr *address)
{
    unsigned char blob[WEFT_TRANSPORT_ADDRESS_MAX];
    size_t bytes = sizeof blob;
    weft_tcp_addresses own;
    weft_transport *t;
    weft_transport_config config = {
        .size = sizeof config, .rank = 0, .ranks = RANKS, .job = JOB, .interfaces = "lo",
        .sink = { NULL, place, note_arrival, note_failure },
    };
    weft_status status = ops->open(&config, &t);
    if (status == WEFT_ERR_SYSTEM)
        return NULL;
    if (status != WEFT_OK || ops->address(t, blob, &bytes) != WEFT_OK ||
        weft_tcp_addresses_decode(blob, bytes, &own) != WEFT_OK)
        abort();
    *address = own.entries[0].address;
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static unsigned char stream[STREAM_MAX];
    const weft_transport_ops *ops = weft_transport_find("tcp");
    weft_tcp_sockaddr address;
    if (bytes == 0)
        return 0;
    setenv("WEFT_LOG", "error", 1);
    parse_texts(data, bytes);
    parse_blobs(data, bytes);
    arrived = 0;
    failed = 0;
    weft_transport *t = open_transport(ops, &address);
    if (!t)
        return 0;
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        abort();
    if (connect(fd, &address.any, weft_tcp_address_bytes(&address)) != 0) {
        if (errno != EADDRNOTAVAIL)
            abort();
        close(fd);
        ops->destroy(t);
        return 0;
    }
    size_t count = make_stream(data, bytes, stream);
    for (size_t sent = 0; sent < count;) {
        ssize_t n = send(fd, stream + sent, count - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            break;
        sent += n > 0 ? (size_t)n : 0;
        ops->progress(t);
    }
    const struct linger reset = { .l_onoff = 1 }; /* leaves no port in TIME_WAIT */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 8; i++)
        ops->progress(t);
    if (failed > 1)
        abort();
    close(fd);
    ops->destroy(t);
    return 0;
}

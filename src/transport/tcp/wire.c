/* Encoding and decoding of greetings and frame headers, and the pointer of the fault injector. No I/O, no
 * state of connections. */
#define _GNU_SOURCE
#include "transport/tcp/wire.h"
#include "transport/tcp/system.h"

#include <endian.h>
#include <string.h>

const weft_tcp_system *weft_tcp_injected;

static const char hello_magic[8] = { 'W', 'E', 'F', 'T', '-', 'T', 'C', 'P' };
static const char welcome_magic[8] = { 'W', 'E', 'F', 'T', '-', 'A', 'N', 'S' };

static void put16(unsigned char *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof value);
}

static void put32(unsigned char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static void put64(unsigned char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static uint16_t get16(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static uint32_t get32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint64_t get64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

void weft_tcp_hello_encode(const weft_tcp_hello *hello, unsigned char bytes[WEFT_TCP_HELLO_BYTES])
{
    memset(bytes, 0, WEFT_TCP_HELLO_BYTES);
    memcpy(bytes, hello_magic, sizeof hello_magic);
    put32(bytes + 8, hello->version);
    put64(bytes + 16, hello->job);
    put32(bytes + 24, hello->rank);
    put32(bytes + 28, hello->target);
    put64(bytes + 32, hello->set);
    put16(bytes + 40, hello->index);
    put16(bytes + 42, hello->count);
    put64(bytes + 56, weft_hash(bytes, 56, 0));
}

weft_status weft_tcp_hello_decode(const unsigned char bytes[WEFT_TCP_HELLO_BYTES], weft_tcp_hello *hello)
{
    memset(hello, 0, sizeof *hello);
    if (memcmp(bytes, hello_magic, sizeof hello_magic) != 0)
        return weft_fail(WEFT_ERR_PARSE, "not a greeting of weft");
    hello->version = get32(bytes + 8);
    if (hello->version != WEFT_TCP_VERSION)
        return WEFT_OK;
    if (get64(bytes + 56) != weft_hash(bytes, 56, 0))
        return weft_fail(WEFT_ERR_PARSE, "a greeting of weft with a wrong checksum");
    hello->job = get64(bytes + 16);
    hello->rank = get32(bytes + 24);
    hello->target = get32(bytes + 28);
    hello->set = get64(bytes + 32);
    hello->index = get16(bytes + 40);
    hello->count = get16(bytes + 42);
    if (hello->count == 0 || hello->count > WEFT_TCP_SOCKETS_MAX || hello->index >= hello->count)
        return weft_fail(WEFT_ERR_PARSE, "a greeting of weft for socket %u of %u", hello->index,
                         hello->count);
    return WEFT_OK;
}

bool weft_tcp_hello_begins(const unsigned char *bytes, size_t count)
{
    return memcmp(bytes, hello_magic, weft_min_size(count, sizeof hello_magic)) == 0;
}

void weft_tcp_welcome_encode(const weft_tcp_welcome *welcome, unsigned char bytes[WEFT_TCP_WELCOME_BYTES])
{
    memset(bytes, 0, WEFT_TCP_WELCOME_BYTES);
    memcpy(bytes, welcome_magic, sizeof welcome_magic);
    put32(bytes + 8, welcome->version);
    put32(bytes + 12, welcome->answer);
    put32(bytes + 16, welcome->rank);
    put64(bytes + 24, weft_hash(bytes, 24, 0));
}

weft_status weft_tcp_welcome_decode(const unsigned char bytes[WEFT_TCP_WELCOME_BYTES],
                                    weft_tcp_welcome *welcome)
{
    memset(welcome, 0, sizeof *welcome);
    if (memcmp(bytes, welcome_magic, sizeof welcome_magic) != 0 ||
        get64(bytes + 24) != weft_hash(bytes, 24, 0))
        return weft_fail(WEFT_ERR_PARSE, "not an answer of weft");
    welcome->version = get32(bytes + 8);
    welcome->answer = get32(bytes + 12);
    welcome->rank = get32(bytes + 16);
    return WEFT_OK;
}

const char *weft_tcp_answer_text(uint32_t answer)
{
    static const char *const texts[WEFT_TCP_ANSWER_COUNT] = {
        [WEFT_TCP_ACCEPTED] = "accepted",
        [WEFT_TCP_BUSY] = "it dials this rank itself",
        [WEFT_TCP_WRONG_VERSION] = "it runs another version of weft",
        [WEFT_TCP_WRONG_JOB] = "it belongs to another job",
        [WEFT_TCP_WRONG_RANK] = "it is another rank of the job",
        [WEFT_TCP_DUPLICATE] = "it has a connection to this rank already",
        [WEFT_TCP_BROKEN] = "its connection to this rank has failed before",
    };
    return answer < WEFT_TCP_ANSWER_COUNT ? texts[answer] : "it refuses for a reason unknown to this version";
}

static uint32_t frame_check(uint32_t payload_bytes, uint64_t sequence, uint64_t set)
{
    uint64_t mixed =
        (sequence * UINT64_C(0x9e3779b97f4a7c15) ^ set) + payload_bytes * UINT64_C(0xd6e8feb86659fd93);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(mixed >> 32);
}

void weft_tcp_frame_encode(uint32_t payload_bytes, uint64_t sequence, uint64_t set,
                           unsigned char bytes[WEFT_TCP_FRAME_BYTES])
{
    put32(bytes, payload_bytes);
    put32(bytes + 4, frame_check(payload_bytes, sequence, set));
    put64(bytes + 8, sequence);
}

weft_status weft_tcp_frame_decode(const unsigned char bytes[WEFT_TCP_FRAME_BYTES], uint64_t set,
                                  uint32_t *payload_bytes, uint64_t *sequence)
{
    *payload_bytes = get32(bytes);
    *sequence = get64(bytes + 8);
    if (get32(bytes + 4) != frame_check(*payload_bytes, *sequence, set))
        return weft_fail(WEFT_ERR_INTERNAL,
                         "a frame header with a wrong checksum came in: the stream is damaged");
    if (*payload_bytes > WEFT_SLICE_MAX_BYTES)
        return weft_fail(WEFT_ERR_INTERNAL, "a frame of %u bytes came in, the most is %d", *payload_bytes,
                         WEFT_SLICE_MAX_BYTES);
    return WEFT_OK;
}

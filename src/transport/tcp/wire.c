/* Encoding and decoding of greetings and frame headers, and the pointer of the fault injector. No I/O, no
 * state of connections. */
#define _GNU_SOURCE
#include "transport/tcp/wire.h"
#include "base/bytes.h"
#include "transport/tcp/system.h"

#include <string.h>

const weft_tcp_system *weft_tcp_injected;

static const char hello_magic[8] = { 'W', 'E', 'F', 'T', '-', 'T', 'C', 'P' };
static const char welcome_magic[8] = { 'W', 'E', 'F', 'T', '-', 'A', 'N', 'S' };

void weft_tcp_hello_encode(const weft_tcp_hello *hello, unsigned char bytes[WEFT_TCP_HELLO_BYTES])
{
    memset(bytes, 0, WEFT_TCP_HELLO_BYTES);
    memcpy(bytes, hello_magic, sizeof hello_magic);
    weft_put32(bytes + 8, hello->version);
    weft_put64(bytes + 16, hello->job);
    weft_put32(bytes + 24, hello->rank);
    weft_put32(bytes + 28, hello->target);
    weft_put64(bytes + 32, hello->set);
    weft_put16(bytes + 40, hello->index);
    weft_put16(bytes + 42, hello->count);
    weft_put64(bytes + 56, weft_hash(bytes, 56, 0));
}

weft_status weft_tcp_hello_decode(const unsigned char bytes[WEFT_TCP_HELLO_BYTES], weft_tcp_hello *hello)
{
    memset(hello, 0, sizeof *hello);
    if (memcmp(bytes, hello_magic, sizeof hello_magic) != 0)
        return weft_fail(WEFT_ERR_PARSE, "not a greeting of weft");
    hello->version = weft_get32(bytes + 8);
    if (hello->version != WEFT_TCP_VERSION)
        return WEFT_OK;
    if (weft_get64(bytes + 56) != weft_hash(bytes, 56, 0))
        return weft_fail(WEFT_ERR_PARSE, "a greeting of weft with a wrong checksum");
    hello->job = weft_get64(bytes + 16);
    hello->rank = weft_get32(bytes + 24);
    hello->target = weft_get32(bytes + 28);
    hello->set = weft_get64(bytes + 32);
    hello->index = weft_get16(bytes + 40);
    hello->count = weft_get16(bytes + 42);
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
    weft_put32(bytes + 8, welcome->version);
    weft_put32(bytes + 12, welcome->answer);
    weft_put32(bytes + 16, welcome->rank);
    weft_put64(bytes + 24, weft_hash(bytes, 24, 0));
}

weft_status weft_tcp_welcome_decode(const unsigned char bytes[WEFT_TCP_WELCOME_BYTES],
                                    weft_tcp_welcome *welcome)
{
    memset(welcome, 0, sizeof *welcome);
    if (memcmp(bytes, welcome_magic, sizeof welcome_magic) != 0 ||
        weft_get64(bytes + 24) != weft_hash(bytes, 24, 0))
        return weft_fail(WEFT_ERR_PARSE, "not an answer of weft");
    welcome->version = weft_get32(bytes + 8);
    welcome->answer = weft_get32(bytes + 12);
    welcome->rank = weft_get32(bytes + 16);
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
    weft_put32(bytes, payload_bytes);
    weft_put32(bytes + 4, frame_check(payload_bytes, sequence, set));
    weft_put64(bytes + 8, sequence);
}

weft_status weft_tcp_frame_decode(const unsigned char bytes[WEFT_TCP_FRAME_BYTES], uint64_t set,
                                  uint32_t *payload_bytes, uint64_t *sequence)
{
    *payload_bytes = weft_get32(bytes);
    *sequence = weft_get64(bytes + 8);
    if (weft_get32(bytes + 4) != frame_check(*payload_bytes, *sequence, set))
        return weft_fail(WEFT_ERR_INTERNAL,
                         "a frame header with a wrong checksum came in: the stream is damaged");
    if (*payload_bytes > WEFT_SLICE_MAX_BYTES)
        return weft_fail(WEFT_ERR_INTERNAL, "a frame of %u bytes came in, the most is %d", *payload_bytes,
                         WEFT_SLICE_MAX_BYTES);
    return WEFT_OK;
}

/* Encoding and checked decoding of the control plane's messages. Decoders take hostile bytes; they say false and
 * never read beyond what they were given. No I/O. */
#include "core/control_wire.h"

#include <string.h>

static const uint8_t greeting_magic[8] = { 'W', 'E', 'F', 'T', 'm', 'e', 'e', 't' };
static const uint8_t join_magic[8] = { 'W', 'E', 'F', 'T', 'j', 'o', 'i', 'n' };
static const uint8_t hello_magic[8] = { 'W', 'E', 'F', 'T', 't', 'r', 'e', 'e' };
enum { FRAME_MAGIC = 0x4657 }; /* "WF" */

static uint8_t *put(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *out++ = (uint8_t)(value >> (8 * i));
    return out;
}

static uint64_t get(const uint8_t **in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)*(*in)++ << (8 * i);
    return value;
}

size_t weft_endpoint_encode(const weft_endpoint *endpoint, int limit, uint8_t *out)
{
    int count = endpoint->count < limit ? endpoint->count : limit;
    size_t bytes = 3 + (size_t)limit * WEFT_ADDRESS_BYTES;
    memset(out, 0, bytes);
    out = put(out, endpoint->port, 2);
    out = put(out, (uint64_t)count, 1);
    for (int i = 0; i < count; i++) {
        *out++ = endpoint->addresses[i].family;
        memcpy(out, endpoint->addresses[i].bytes, 16);
        out += 16;
    }
    return bytes;
}

bool weft_endpoint_decode(weft_endpoint *endpoint, int limit, const uint8_t *in)
{
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->port = (uint16_t)get(&in, 2);
    int count = (int)get(&in, 1);
    if (count > limit || count > WEFT_ENDPOINT_ADDRESSES)
        return false;
    for (int i = 0; i < count; i++) {
        endpoint->addresses[i].family = *in++;
        if (endpoint->addresses[i].family != 4 && endpoint->addresses[i].family != 6)
            return false;
        memcpy(endpoint->addresses[i].bytes, in, 16);
        in += 16;
    }
    endpoint->count = count;
    return true;
}

void weft_greeting_encode(const weft_greeting *greeting, uint8_t out[WEFT_GREETING_BYTES])
{
    memset(out, 0, WEFT_GREETING_BYTES);
    memcpy(out, greeting_magic, 8);
    out = put(out + 8, greeting->version, 2) + 6;
    out = put(out, greeting->token, 8);
    put(out, greeting->challenge, 8);
}

bool weft_greeting_decode(weft_greeting *greeting, const uint8_t in[WEFT_GREETING_BYTES])
{
    if (memcmp(in, greeting_magic, 8) != 0)
        return false;
    in += 8;
    greeting->version = (uint16_t)get(&in, 2);
    in += 6;
    greeting->token = get(&in, 8);
    greeting->challenge = get(&in, 8);
    return true;
}

void weft_join_encode(const weft_join *join, uint8_t out[WEFT_JOIN_BYTES])
{
    memset(out, 0, WEFT_JOIN_BYTES);
    memcpy(out, join_magic, 8);
    out = put(out + 8, join->version, 2) + 2;
    out = put(out, join->rank, 4);
    out = put(out, join->size, 4);
    out = put(out, join->pid, 4);
    out = put(out, (uint64_t)join->timeout_ms, 8);
    out = put(out, join->token, 8) + WEFT_PROOF_BYTES;
    weft_endpoint_encode(&join->listen, WEFT_ENDPOINT_ADDRESSES, out);
}

bool weft_join_decode_prefix(weft_join *join, const uint8_t in[WEFT_JOIN_PREFIX_BYTES])
{
    memset(join, 0, sizeof *join);
    if (memcmp(in, join_magic, 8) != 0)
        return false;
    in += 8;
    join->version = (uint16_t)get(&in, 2);
    in += 2;
    join->rank = (uint32_t)get(&in, 4);
    join->size = (uint32_t)get(&in, 4);
    return true;
}

bool weft_join_decode(weft_join *join, const uint8_t in[WEFT_JOIN_BYTES])
{
    if (!weft_join_decode_prefix(join, in) || join->version != WEFT_CONTROL_VERSION)
        return false;
    in += WEFT_JOIN_PREFIX_BYTES;
    join->pid = (uint32_t)get(&in, 4);
    join->timeout_ms = (int64_t)get(&in, 8);
    join->token = get(&in, 8);
    in += WEFT_PROOF_BYTES;
    return weft_endpoint_decode(&join->listen, WEFT_ENDPOINT_ADDRESSES, in);
}

void weft_hello_encode(const weft_hello *hello, uint8_t out[WEFT_HELLO_BYTES])
{
    memset(out, 0, WEFT_HELLO_BYTES); /* 8 + 2 + 2 + 4 + 8, then room for a proof */
    memcpy(out, hello_magic, 8);
    out = put(out + 8, hello->version, 2) + 2;
    out = put(out, hello->rank, 4);
    put(out, hello->job, 8);
}

bool weft_hello_decode(weft_hello *hello, const uint8_t in[WEFT_HELLO_BYTES])
{
    if (memcmp(in, hello_magic, 8) != 0)
        return false;
    in += 8;
    hello->version = (uint16_t)get(&in, 2);
    in += 2;
    hello->rank = (uint32_t)get(&in, 4);
    hello->job = get(&in, 8);
    return hello->version == WEFT_CONTROL_VERSION;
}

void weft_frame_encode(weft_frame_type type, size_t bytes, uint8_t out[WEFT_FRAME_HEADER_BYTES])
{
    out = put(out, FRAME_MAGIC, 2);
    out = put(out, (uint64_t)type, 2);
    put(out, bytes, 8);
}

static size_t frame_limit(weft_frame_type type)
{
    switch (type) {
    case WEFT_FRAME_ERROR:
    case WEFT_FRAME_ASSIGN: return WEFT_MEETING_FRAME_LIMIT;
    case WEFT_FRAME_NOTICE: return WEFT_NOTICE_BYTES;
    case WEFT_FRAME_GATHER:
    case WEFT_FRAME_SPREAD: return WEFT_GATHER_LIMIT_BYTES + WEFT_GATHER_HEADER_BYTES;
    default: return 0;
    }
}

bool weft_frame_decode(weft_frame_header *header, const uint8_t in[WEFT_FRAME_HEADER_BYTES])
{
    if (get(&in, 2) != FRAME_MAGIC)
        return false;
    uint64_t type = get(&in, 2), bytes = get(&in, 8);
    if (type < WEFT_FRAME_ERROR || type > WEFT_FRAME_LEAVE || bytes > frame_limit((weft_frame_type)type))
        return false;
    if ((type == WEFT_FRAME_GATHER || type == WEFT_FRAME_SPREAD) && bytes < WEFT_GATHER_HEADER_BYTES)
        return false;
    header->type = (weft_frame_type)type;
    header->bytes = (size_t)bytes;
    return true;
}

size_t weft_notice_encode(const weft_notice *notice, uint8_t *out)
{
    size_t length = strnlen(notice->text, WEFT_NOTICE_TEXT_BYTES - 1);
    weft_frame_encode(WEFT_FRAME_NOTICE, 16 + length, out);
    uint8_t *at = put(out + WEFT_FRAME_HEADER_BYTES, notice->comm, 4);
    at = put(at, (uint32_t)notice->status, 4);
    at = put(at, (uint32_t)notice->rank, 4);
    at = put(at, (uint32_t)notice->reporter, 4);
    memcpy(at, notice->text, length);
    return WEFT_FRAME_HEADER_BYTES + 16 + length;
}

bool weft_notice_decode(weft_notice *notice, const uint8_t *payload, size_t bytes)
{
    if (bytes < 16 || bytes - 16 >= WEFT_NOTICE_TEXT_BYTES)
        return false;
    memset(notice, 0, sizeof *notice);
    notice->comm = (uint32_t)get(&payload, 4);
    notice->status = (int32_t)get(&payload, 4);
    notice->rank = (int32_t)get(&payload, 4);
    notice->reporter = (int32_t)get(&payload, 4);
    memcpy(notice->text, payload, bytes - 16);
    return notice->status > 0 && notice->status < WEFT_STATUS_COUNT && notice->rank >= -1;
}

size_t weft_error_encode(weft_status status, const char *text, uint8_t *out, size_t out_bytes)
{
    size_t length = weft_min_size(strlen(text), out_bytes - WEFT_FRAME_HEADER_BYTES - 4);
    weft_frame_encode(WEFT_FRAME_ERROR, 4 + length, out);
    memcpy(put(out + WEFT_FRAME_HEADER_BYTES, (uint64_t)status, 4), text, length);
    return WEFT_FRAME_HEADER_BYTES + 4 + length;
}

bool weft_error_decode(weft_status *status, char *text, size_t text_bytes, const uint8_t *payload, size_t bytes)
{
    if (bytes < 4 || text_bytes == 0)
        return false;
    uint64_t number = get(&payload, 4);
    /* A later version may know statuses that this one does not. */
    *status = number > WEFT_IN_PROGRESS && number < WEFT_STATUS_COUNT ? (weft_status)number : WEFT_ERR_INTERNAL;
    size_t length = weft_min_size(bytes - 4, text_bytes - 1);
    for (size_t i = 0; i < length; i++)
        text[i] = payload[i] >= ' ' && payload[i] < 127 ? (char)payload[i] : '?';
    text[length] = 0;
    return true;
}

enum { ASSIGN_FIXED_BYTES = 8 + 4 + 4 + 4 + WEFT_ENDPOINT_BYTES + 4 };

size_t weft_assign_bytes(uint32_t alive_bytes)
{
    return WEFT_FRAME_HEADER_BYTES + ASSIGN_FIXED_BYTES + alive_bytes;
}

void weft_assign_encode(const weft_assign *assign, uint8_t *out)
{
    weft_frame_encode(WEFT_FRAME_ASSIGN, ASSIGN_FIXED_BYTES + (size_t)assign->alive_bytes, out);
    out = put(out + WEFT_FRAME_HEADER_BYTES, assign->job, 8);
    out = put(out, assign->rank, 4);
    out = put(out, assign->size, 4);
    out = put(out, assign->parent, 4);
    out += weft_endpoint_encode(&assign->parent_listen, WEFT_ENDPOINT_ADDRESSES, out);
    out = put(out, assign->alive_bytes, 4);
    if (assign->alive_bytes != 0)
        memcpy(out, assign->alive, assign->alive_bytes);
}

bool weft_assign_decode(weft_assign *assign, const uint8_t *payload, size_t bytes)
{
    if (bytes < ASSIGN_FIXED_BYTES)
        return false;
    assign->job = get(&payload, 8);
    assign->rank = (uint32_t)get(&payload, 4);
    assign->size = (uint32_t)get(&payload, 4);
    assign->parent = (uint32_t)get(&payload, 4);
    if (!weft_endpoint_decode(&assign->parent_listen, WEFT_ENDPOINT_ADDRESSES, payload))
        return false;
    payload += WEFT_ENDPOINT_BYTES;
    assign->alive_bytes = (uint32_t)get(&payload, 4);
    assign->alive = assign->alive_bytes != 0 ? payload : NULL;
    return assign->alive_bytes == bytes - ASSIGN_FIXED_BYTES && assign->rank < assign->size &&
           assign->size <= INT32_MAX && (assign->parent == WEFT_NO_RANK) == (assign->rank == 0) &&
           (assign->parent == WEFT_NO_RANK || assign->parent < assign->rank);
}

void weft_gather_encode(uint32_t sequence, uint64_t bytes_per_rank, uint8_t out[WEFT_GATHER_HEADER_BYTES])
{
    put(put(out, sequence, 4), bytes_per_rank, 8);
}

void weft_gather_decode(uint32_t *sequence, uint64_t *bytes_per_rank, const uint8_t in[WEFT_GATHER_HEADER_BYTES])
{
    *sequence = (uint32_t)get(&in, 4);
    *bytes_per_rank = get(&in, 8);
}

/* Buffers, guards, poison, checks, and the cache flush of --cold. Knows places and patterns; calls no
 * collective. */
#include "perf_buffers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "perf_pattern.h"

enum { GUARD_BYTES = 4096, GUARD = 0xC3, POISON = 0x9D, CACHE_LINE = 64 };

/* ---- memory ---- */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Bytes of data that a slot's two regions need on this rank. */
static void slot_bytes(const perf_case *largest, bool in_place, bool out_of_place, size_t *send, size_t *recv)
{
    perf_case c = *largest;
    size_t width = weft_type_bytes(c.type);
    *send = *recv = 0;
    /* Any rank may come to be root (-r all): room for that. */
    if (c.root >= 0)
        c.root = c.rank;
    if (out_of_place) {
        *send = perf_case_input_count(&c) * width;
        *recv = perf_case_output_count(&c) * width;
    }
    if (in_place) {
        size_t *container = perf_case_lives_in_send(&c) ? send : recv;
        *container = larger(*container, perf_case_place(&c).container_count * width);
    }
}

uint64_t perf_buffers_bytes(const perf_case *largest, int slots, bool in_place, bool out_of_place)
{
    size_t send, recv;
    slot_bytes(largest, in_place, out_of_place, &send, &recv);
    return (uint64_t)slots * ((uint64_t)send + recv + 4 * (uint64_t)GUARD_BYTES);
}

static bool region_create(perf_region *region, size_t bytes, bool registered)
{
    void *memory = NULL;
    size_t whole = bytes + 2 * (size_t)GUARD_BYTES;
    if (registered) {
        if (weft_mem_alloc(whole, &memory) != WEFT_OK)
            return false;
    } else {
        memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return false;
    }
    *region = (perf_region){ .memory = memory, .bytes = bytes, .registered = registered };
    return true;
}

static void region_free(perf_region *region)
{
    if (region->memory != NULL && region->registered)
        weft_mem_free(region->memory);
    else if (region->memory != NULL)
        munmap(region->memory, region->bytes + 2 * (size_t)GUARD_BYTES);
    region->memory = NULL;
}

bool perf_buffers_create(perf_buffers *b, const perf_case *largest, int slots, bool in_place,
                         bool out_of_place, bool registered, char *text, size_t text_bytes)
{
    size_t send, recv;
    slot_bytes(largest, in_place, out_of_place, &send, &recv);
    *b = (perf_buffers){ .slots = calloc((size_t)slots, sizeof *b->slots) };
    bool made = b->slots != NULL;
    for (; made && b->count < slots; b->count++) {
        perf_slot *slot = &b->slots[b->count];
        made = region_create(&slot->send, send, registered) && region_create(&slot->recv, recv, registered);
    }
    if (!made)
        snprintf(text, text_bytes,
                 "no memory for %d set(s) of buffers of %zu + %zu bytes%s%s; lower -e or --async", slots,
                 send, recv, registered ? ": " : "", registered ? weft_last_error() : "");
    return made;
}

void perf_buffers_free(perf_buffers *b)
{
    for (int i = 0; i < b->count; i++) {
        region_free(&b->slots[i].send);
        region_free(&b->slots[i].recv);
    }
    free(b->slots);
    *b = (perf_buffers){ 0 };
}

/* ---- what lies where ---- */

static unsigned char *data_of(const perf_region *region) { return region->memory + GUARD_BYTES; }

static perf_region *container_of_case(const perf_buffers *b, int slot, const perf_case *c)
{
    return perf_case_lives_in_send(c) ? &b->slots[slot].send : &b->slots[slot].recv;
}

const void *perf_buffers_send(const perf_buffers *b, int slot, const perf_case *c)
{
    bool same_everywhere = c->in_place && c->collective == WEFT_BROADCAST;
    if (perf_case_input_count(c) == 0 && !same_everywhere)
        return NULL;
    if (!c->in_place)
        return data_of(&b->slots[slot].send);
    return data_of(container_of_case(b, slot, c)) +
           perf_case_place(c).input_offset * weft_type_bytes(c->type);
}

void *perf_buffers_recv(const perf_buffers *b, int slot, const perf_case *c)
{
    if (perf_case_output_count(c) == 0)
        return NULL;
    if (!c->in_place)
        return data_of(&b->slots[slot].recv);
    return data_of(container_of_case(b, slot, c)) +
           perf_case_place(c).output_offset * weft_type_bytes(c->type);
}

/* ---- fill ---- */

static perf_pattern pattern_of(const perf_case *c)
{
    return (perf_pattern){ .type = c->type, .reduces = perf_collective_reduces(c->collective), .op = c->op,
                           .ranks = c->ranks, .seed = c->seed };
}

/* Guards before the data and right behind the bytes that this case uses. */
static void guard_set(perf_region *region, size_t used)
{
    memset(region->memory, GUARD, GUARD_BYTES);
    memset(data_of(region) + used, GUARD, GUARD_BYTES);
}

static void region_prepare(perf_region *region, size_t used)
{
    guard_set(region, used);
    memset(data_of(region), POISON, used);
}

void perf_buffers_fill(perf_buffers *b, const perf_case *c)
{
    perf_pattern pattern = pattern_of(c);
    size_t width = weft_type_bytes(c->type), input = perf_case_input_count(c);
    for (int slot = 0; slot < b->count; slot++) {
        unsigned char *first = data_of(&b->slots[slot].send);
        if (c->in_place) {
            perf_place place = perf_case_place(c);
            perf_region *container = container_of_case(b, slot, c);
            region_prepare(container, place.container_count * width);
            first = data_of(container) + place.input_offset * width;
        } else {
            region_prepare(&b->slots[slot].send, input * width);
            region_prepare(&b->slots[slot].recv, perf_case_output_count(c) * width);
        }
        perf_pattern_fill(&pattern, c->rank, 0, input, first);
    }
}

void perf_buffers_settle(perf_buffers *b, const perf_case *c)
{
    size_t bytes = perf_case_place(c).container_count * weft_type_bytes(c->type);
    for (int slot = 0; slot < b->count; slot++)
        memset(data_of(container_of_case(b, slot, c)), 0, bytes);
}

/* ---- check ---- */

typedef struct checker {
    perf_buffers *buffers;
    const perf_case *c;
    perf_pattern pattern;
    int slot;
    uint64_t wrong;
} checker;

/* Elements from `first` of `source` must lie at data; `what` names them. */
static void check_block(checker *k, const char *what, size_t offset, const unsigned char *data, int source,
                        uint64_t first, size_t count)
{
    uint64_t where = 0;
    uint64_t wrong = perf_pattern_compare(&k->pattern, source, first, count, data, &where);
    if (wrong > 0 && k->buffers->finding[0] == 0) {
        char expected[64], found[64];
        unsigned char right[8];
        size_t width = weft_type_bytes(k->c->type);
        perf_pattern_fill(&k->pattern, source, first + where, 1, right);
        perf_pattern_text(k->c->type, right, expected, sizeof expected);
        perf_pattern_text(k->c->type, data + where * width, found, sizeof found);
        snprintf(k->buffers->finding, sizeof k->buffers->finding, "%s[%llu] is %s, not %s", what,
                 (unsigned long long)(offset + where), found, expected);
    }
    k->wrong += wrong;
}

static void check_guard(checker *k, const char *what, const unsigned char *guard)
{
    for (int i = 0; i < GUARD_BYTES; i++) {
        if (guard[i] == GUARD)
            continue;
        if (k->buffers->finding[0] == 0)
            snprintf(k->buffers->finding, sizeof k->buffers->finding, "byte %d of the %d %s was overwritten",
                     i, GUARD_BYTES, what);
        k->wrong++;
    }
}

static void check_guards(checker *k, const perf_region *region, size_t used, const char *before,
                         const char *behind)
{
    check_guard(k, before, region->memory);
    check_guard(k, behind, region->memory + GUARD_BYTES + used);
}

static void check_output(checker *k, const unsigned char *output)
{
    const perf_case *c = k->c;
    size_t blocks = perf_case_output_blocks(c), block_bytes = c->count * weft_type_bytes(c->type);
    for (size_t block = 0; block < blocks; block++) {
        int source;
        uint64_t first;
        perf_case_expected(c, block, &source, &first);
        check_block(k, "recv", block * c->count, output + block * block_bytes, source, first, c->count);
    }
}

/* In place, what of the input is not output must be as it was. */
static void check_input_around(checker *k, const unsigned char *data)
{
    const perf_case *c = k->c;
    size_t width = weft_type_bytes(c->type);
    size_t input = perf_case_input_count(c), output = perf_case_output_count(c);
    size_t start = output > 0 ? perf_case_place(c).output_offset : input, end = start + output;
    if (input <= output)
        return; /* the whole input became output */
    check_block(k, "send", 0, data, c->rank, 0, start);
    if (end < input)
        check_block(k, "send", end, data + end * width, c->rank, end, input - end);
}

uint64_t perf_buffers_check(perf_buffers *b, const perf_case *c)
{
    size_t width = weft_type_bytes(c->type), input = perf_case_input_count(c);
    checker k = { .buffers = b, .c = c, .pattern = pattern_of(c) };
    b->finding[0] = 0;
    for (k.slot = 0; k.slot < b->count; k.slot++) {
        const perf_slot *slot = &b->slots[k.slot];
        if (c->in_place) {
            const perf_region *container = container_of_case(b, k.slot, c);
            perf_place place = perf_case_place(c);
            check_output(&k, data_of(container) + place.output_offset * width);
            check_input_around(&k, data_of(container));
            check_guards(&k, container, place.container_count * width, "before the buffer",
                         "behind the buffer");
        } else {
            check_output(&k, data_of(&slot->recv));
            check_block(&k, "send", 0, data_of(&slot->send), c->rank, 0, input);
            check_guards(&k, &slot->send, input * width, "before send", "behind send");
            check_guards(&k, &slot->recv, perf_case_output_count(c) * width, "before recv", "behind recv");
        }
    }
    return k.wrong;
}

/* ---- cold caches ---- */

/* By line where user space may do that on this CPU; elsewhere by reading more than the caches hold. */
static void flush_range(const unsigned char *data, size_t bytes)
{
#if defined(__x86_64__) || defined(__i386__)
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __builtin_ia32_clflush(data + i);
    __builtin_ia32_mfence();
#elif defined(__aarch64__)
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __asm__ __volatile__("dc civac, %0" : : "r"(data + i) : "memory");
    __asm__ __volatile__("dsb sy" : : : "memory");
#else
    static unsigned char *sweep;
    static const size_t sweep_bytes = (size_t)64 << 20;
    (void)data;
    if (bytes == 0 || (sweep == NULL && (sweep = calloc(sweep_bytes, 1)) == NULL))
        return;
    for (size_t i = 0; i < sweep_bytes; i += CACHE_LINE)
        ((volatile unsigned char *)sweep)[i]++;
#endif
}

void perf_buffers_flush(perf_buffers *b, int slot, const perf_case *c)
{
    size_t width = weft_type_bytes(c->type);
    if (c->in_place) {
        flush_range(data_of(container_of_case(b, slot, c)), perf_case_place(c).container_count * width);
        return;
    }
    flush_range(data_of(&b->slots[slot].send), perf_case_input_count(c) * width);
    flush_range(data_of(&b->slots[slot].recv), perf_case_output_count(c) * width);
}

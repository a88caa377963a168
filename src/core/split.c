/* Communicators from communicators: split, and shrink to the survivors of a failure. */
#include "core/comm.h"

#include <stdlib.h>
#include <string.h>

typedef struct split_entry {
    int32_t colour, key, rank;
    uint32_t next_comm;
    weft_agreed agreed;
} split_entry;

static int by_key(const void *a, const void *b)
{
    const split_entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static weft_status gather_bytes(weft_comm *c, const void *mine, void *all, size_t bytes)
{
    weft_call call = {
        .collective = WEFT_ALL_GATHER, .send = mine, .recv = all, .count = bytes, .sizes_shared = true, .type = WEFT_U8};
    return weft_call_run(c, &call);
}

/* Do all members of the new communicator have it? Asked over the parent, by everyone in it. The lowest rank that has
 * not is named. */
static weft_status agree(weft_comm *parent, weft_status mine)
{
    uint64_t value = mine == WEFT_OK ? 0 : (uint64_t)(parent->ranks - parent->rank) << 32 | (uint32_t)mine;
    weft_call call = {.collective = WEFT_ALL_REDUCE, .send = &value, .recv = &value, .count = 1, .sizes_shared = true,
                      .type = WEFT_U64, .op = WEFT_MAX};
    char detail[256];
    snprintf(detail, sizeof detail, "%s", weft_last_error());
    weft_status status = weft_call_run(parent, &call);
    if (status == WEFT_OK && value != 0) {
        status = (weft_status)(uint32_t)value;
        return mine != WEFT_OK ? weft_fail(mine, "%s", detail)
                               : weft_fail(status, "weft_comm_split failed on rank %d: %s", parent->ranks - (int)(value >> 32),
                                           weft_status_text(status));
    }
    return status;
}

static weft_status merge_agreed(const weft_comm *c, const weft_config *config, weft_agreed *agreed)
{
    *agreed = c->agreed;
    if (!config)
        return WEFT_OK;
    if (config->lanes < 0 || config->lanes > WEFT_LANES_MAX)
        return weft_fail(WEFT_ERR_INVALID, "lanes %d: 1 to %d, or 0", config->lanes, WEFT_LANES_MAX);
    if (config->lanes)
        agreed->lanes = config->lanes;
    if (config->slice_bytes)
        agreed->slice_bytes = (int64_t)weft_min_size(config->slice_bytes, WEFT_EAGER_BYTES / 4);
    if (!config->algorithm)
        return WEFT_OK;
    uint8_t forced[WEFT_COLLECTIVE_COUNT];
    size_t length = strlen(config->algorithm);
    if (length >= sizeof agreed->algorithm)
        return weft_fail(WEFT_ERR_INVALID, "algorithm setting is longer than %zu bytes", sizeof agreed->algorithm - 1);
    memset(agreed->algorithm, 0, sizeof agreed->algorithm);
    memcpy(agreed->algorithm, config->algorithm, length);
    return weft_tuner_parse_forced(config->algorithm, forced);
}

/* Members of our colour, sorted; *count of them. */
static int select_members(split_entry *all, int ranks, int colour)
{
    int n = 0;
    for (int r = 0; r < ranks; r++)
        if (all[r].colour == colour)
            all[n++] = all[r];
    qsort(all, (size_t)n, sizeof *all, by_key);
    return n;
}

static weft_status build_member(weft_comm *parent, split_entry *members, int n, uint32_t id, const weft_config *config,
                                weft_comm **out)
{
    int *world = weft_alloc_array((size_t)n, sizeof *world), mine = 0;
    if (!world)
        return weft_fail(WEFT_ERR_MEMORY, "no memory for %d ranks", n);
    for (int r = 0; r < n; r++) {
        world[r] = parent->world[members[r].rank];
        if (members[r].rank == parent->rank)
            mine = r;
    }
    weft_status status = weft_comm_build(parent->engine, id, mine, n, world, &members[0].agreed, out);
    weft_free(world);
    if (status == WEFT_OK)
        (*out)->timeout_ms = config && config->timeout_ms ? config->timeout_ms : parent->timeout_ms;
    return status;
}

static uint32_t next_id(weft_engine *e)
{
    weft_lock_take(&e->lock);
    uint32_t id = e->wire.next_comm;
    weft_lock_release(&e->lock);
    return id;
}

/* Takes the number, also for those who will not be in the communicator: numbers below it are over. False: another thread,
 * which splits another communicator, was faster. */
static bool claim_id(weft_engine *e, uint32_t id)
{
    weft_lock_take(&e->lock);
    bool unused = e->wire.next_comm <= id;
    if (unused)
        e->wire.next_comm = id + 1;
    weft_lock_release(&e->lock);
    return unused;
}

/* Everyone's entry, and a number that no communicator of any of them has. */
static weft_status gather_entries(weft_comm *c, split_entry *mine, split_entry *all, uint32_t *id)
{
    int32_t taken;
    do {
        mine->next_comm = next_id(c->engine);
        weft_status status = gather_bytes(c, mine, all, sizeof *mine);
        if (status != WEFT_OK)
            return status;
        *id = 0;
        for (int r = 0; r < c->ranks; r++)
            if (all[r].next_comm > *id)
                *id = all[r].next_comm;
        taken = !claim_id(c->engine, *id);
        weft_call call = {.collective = WEFT_ALL_REDUCE, .send = &taken, .recv = &taken, .count = 1, .sizes_shared = true,
                          .type = WEFT_I32, .op = WEFT_MAX};
        status = weft_call_run(c, &call);
        if (status != WEFT_OK)
            return status;
    } while (taken);
    return WEFT_OK;
}

weft_status weft_comm_split(weft_comm *c, int colour, int key, const weft_config *config, weft_comm **out)
{
    weft_clear_error();
    if (!c || !out)
        return weft_fail(WEFT_ERR_INVALID, "comm or out is NULL");
    if (colour < 0 && colour != WEFT_UNDEFINED)
        return weft_fail(WEFT_ERR_INVALID, "colour %d: 0 or more, or WEFT_UNDEFINED", colour);
    split_entry mine = {.colour = colour, .key = key, .rank = c->rank};
    weft_status status = merge_agreed(c, config, &mine.agreed);
    if (status != WEFT_OK)
        return status;
    split_entry *all = weft_alloc_array((size_t)c->ranks, sizeof *all);
    if (!all) {
        weft_lock_take(&c->engine->lock);
        status = weft_comm_cannot_begin(c, weft_fail(WEFT_ERR_MEMORY, "no memory for %d ranks", c->ranks));
        weft_lock_release(&c->engine->lock);
        return status;
    }
    uint32_t id = 0;
    status = gather_entries(c, &mine, all, &id);
    if (status != WEFT_OK) {
        weft_free(all);
        return status;
    }
    weft_comm *made = NULL;
    if (colour != WEFT_UNDEFINED) {
        int n = select_members(all, c->ranks, colour);
        status = build_member(c, all, n, id, config, &made);
    }
    weft_free(all);
    status = agree(c, status);
    if (status == WEFT_OK) {
        if (made)
            status = weft_comm_connect(made, weft_deadline_ns(c->engine->settings.create_timeout));
        status = agree(c, status);
    }
    if (status != WEFT_OK) {
        weft_comm_free(made);
        return status;
    }
    *out = made;
    return WEFT_OK;
}

weft_status weft_comm_shrink(weft_comm *c, const weft_config *config, weft_comm **out)
{
    weft_clear_error();
    if (!c || !out)
        return weft_fail(WEFT_ERR_INVALID, "comm or out is NULL");
    if (c->ranks != c->engine->ranks)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "only a communicator of the whole process group can be shrunk: shrink the parent and split again");
    weft_engine *e = NULL;
    weft_status status = weft_engine_shrink(c->engine, config, &e);
    if (status != WEFT_OK)
        return status;
    return weft_engine_first_comm(e, out);
}

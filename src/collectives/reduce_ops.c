/* The process-wide table of created operations. Creating and freeing lock; looking up reads one word. What
 * an operation does to buffers is reduce.c's. */
#include "collectives/reduce_internal.h"

#include <pthread.h>
#include <string.h>

enum { OP_SLOT_BITS = 10, OP_SLOTS = 1 << OP_SLOT_BITS, OP_GENERATIONS = INT32_MAX >> OP_SLOT_BITS };

/* A handle is generation << OP_SLOT_BITS | slot with a generation of at least 1, so that it is no built-in
 * operation and that one kept after weft_op_free is noticed. The handle in the slot, 0 when it is free, is
 * written last by weft_op_create (release) and read first by weft_op_find (acquire). */
typedef struct op_slot {
    atomic_int handle;
    int generation; /* of the last operation here */
    weft_user_op op;
} op_slot;

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static op_slot table[OP_SLOTS];
static unsigned next_slot; /* where the search for a free one begins: late reuse */

_Static_assert((int)WEFT_OP_COUNT <= OP_SLOTS, "handles must lie above the built-in operations");

static weft_status add(const weft_user_op *op, weft_op *handle)
{
    pthread_mutex_lock(&table_lock);
    for (unsigned tried = 0; tried < OP_SLOTS; tried++) {
        unsigned number = (next_slot + tried) % OP_SLOTS;
        op_slot *slot = &table[number];
        /* Acquire: the last user's reads, before its weft_op_free, come before what is written here. */
        if (atomic_load_explicit(&slot->handle, memory_order_acquire) != 0)
            continue;
        slot->generation = slot->generation == OP_GENERATIONS ? 1 : slot->generation + 1;
        slot->op = *op;
        *handle = slot->generation << OP_SLOT_BITS | (int)number;
        atomic_store_explicit(&slot->handle, *handle, memory_order_release);
        next_slot = number + 1;
        pthread_mutex_unlock(&table_lock);
        return WEFT_OK;
    }
    pthread_mutex_unlock(&table_lock);
    return weft_fail(WEFT_ERR_MEMORY,
                     "all %d places for created operations are taken; free some with weft_op_free", OP_SLOTS);
}

weft_status weft_op_create(weft_op_function function, void *context, bool commutes, weft_op *op)
{
    weft_clear_error();
    if (!function)
        return weft_fail(WEFT_ERR_INVALID,
                         "weft_op_create: function is NULL; give the function that combines two buffers");
    if (!op)
        return weft_fail(WEFT_ERR_INVALID, "weft_op_create: op is NULL; give a place for the handle");
    const weft_user_op entry = { .function = function, .context = context, .commutes = commutes };
    return add(&entry, op);
}

weft_status weft_op_create_premul_sum(const void *factor, weft_type type, weft_op *op)
{
    weft_clear_error();
    if (!factor || !op)
        return weft_fail(WEFT_ERR_INVALID, "weft_op_create_premul_sum: %s is NULL", factor ? "op" : "factor");
    size_t bytes = weft_type_bytes(type);
    if (bytes == 0)
        return weft_fail(WEFT_ERR_INVALID, "weft_op_create_premul_sum: %d is no weft_type", (int)type);
    weft_user_op entry = { .commutes = true, .type = type };
    memcpy(entry.factor, factor, bytes);
    return add(&entry, op);
}

weft_status weft_op_free(weft_op op)
{
    weft_clear_error();
    if (op >= 0 && op < WEFT_OP_COUNT)
        return weft_fail(WEFT_ERR_INVALID, "weft_op_free: %s is built in and cannot be freed",
                         weft_op_name(op));
    /* Out of two threads that free one operation, one fails. The release is for the next weft_op_create in
     * this slot. */
    int expected = op;
    if (op < OP_SLOTS || !atomic_compare_exchange_strong_explicit(&table[op % OP_SLOTS].handle, &expected, 0,
                                                                  memory_order_release, memory_order_relaxed))
        return weft_fail(WEFT_ERR_INVALID, "weft_op_free: operation %d does not exist or was freed before",
                         op);
    return WEFT_OK;
}

const weft_user_op *weft_op_find(weft_op op)
{
    if (op < OP_SLOTS)
        return NULL;
    op_slot *slot = &table[op % OP_SLOTS];
    return atomic_load_explicit(&slot->handle, memory_order_acquire) == op ? &slot->op : NULL;
}

bool weft_op_premul_factor(weft_op op, void *factor)
{
    const weft_user_op *found = weft_op_find(op);
    if (!found || found->function)
        return false;
    memcpy(factor, found->factor, sizeof(found->factor));
    return true;
}

bool weft_op_commutes(weft_op op)
{
    const weft_user_op *found = weft_op_find(op);
    return !found || found->commutes;
}

#define OP_NAME(name, text) [name] = text,
static const char *const op_names[] = { WEFT_OP_LIST(OP_NAME) };

const char *weft_op_name(weft_op op)
{
    if (op >= 0 && op < WEFT_OP_COUNT)
        return op_names[op];
    const weft_user_op *found = weft_op_find(op);
    return !found ? "?" : found->function ? "user" : "premul_sum";
}

weft_status weft_op_parse(const char *text, weft_op *op)
{
    weft_clear_error();
    if (!text || !op)
        return weft_fail(WEFT_ERR_INVALID, "weft_op_parse: %s is NULL", text ? "op" : "text");
    for (int i = 0; i < WEFT_OP_COUNT; i++) {
        if (strcmp(text, op_names[i]) == 0) {
            *op = i;
            return WEFT_OK;
        }
    }
    return weft_fail(WEFT_ERR_PARSE, "\"%s\" is no operation; take one of sum prod min max avg band bor bxor",
                     text);
}

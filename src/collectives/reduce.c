/* Binds operations to types and runs them, user functions included. The kernels are in reduce_body.h, the
 * choice among them in reduce_select.c, the table of operations in reduce_ops.c. */
#include "collectives/reduce_internal.h"

#include "collectives/reduce_convert.h"

#include <string.h>

float weft_f16_to_f32(uint16_t h) { return weft_small_widen(h, WEFT_FORMAT_F16); }
uint16_t weft_f32_to_f16(float f) { return (uint16_t)weft_small_narrow(f, WEFT_FORMAT_F16); }
float weft_bf16_to_f32(uint16_t h) { return weft_bf16_widen(h); }
uint16_t weft_f32_to_bf16(float f) { return (uint16_t)weft_bf16_narrow(f); }
float weft_f8e4m3_to_f32(uint8_t h) { return weft_small_widen(h, WEFT_FORMAT_F8E4M3); }
uint8_t weft_f32_to_f8e4m3(float f) { return (uint8_t)weft_small_narrow(f, WEFT_FORMAT_F8E4M3); }
float weft_f8e5m2_to_f32(uint8_t h) { return weft_small_widen(h, WEFT_FORMAT_F8E5M2); }
uint8_t weft_f32_to_f8e5m2(float f) { return (uint8_t)weft_small_narrow(f, WEFT_FORMAT_F8E5M2); }

static bool type_is_valid(weft_type type) { return (unsigned)type < WEFT_TYPE_COUNT; }
static bool op_is_valid(weft_builtin_op op) { return (unsigned)op < WEFT_OP_COUNT; }

weft_reduce_kernel weft_reduce_kernel_plain(weft_type type, weft_builtin_op op)
{
    return type_is_valid(type) && op_is_valid(op) ? weft_reduce_set_plain.kernels[type][op] : NULL;
}

weft_reduce_kernel weft_reduce_kernel_best(weft_type type, weft_builtin_op op)
{
    return type_is_valid(type) && op_is_valid(op) ? weft_reduce_set_best(type)->kernels[type][op] : NULL;
}

static weft_status bind_created(weft_reduction *r, weft_type type, weft_op op)
{
    const weft_user_op *created = weft_op_find(op);
    if (!created)
        return weft_fail(WEFT_ERR_INVALID,
                         "operation %d does not exist or was freed; take a built-in one or what "
                         "weft_op_create returned",
                         op);
    if (created->function) {
        r->function = created->function;
        r->context = created->context;
        r->commutes = created->commutes;
        return WEFT_OK;
    }
    if (created->type != type)
        return weft_fail(WEFT_ERR_INVALID,
                         "operation %d multiplies by a factor of type %s and cannot be used with %s; "
                         "create one with a factor of that type",
                         op, weft_type_name(created->type), weft_type_name(type));
    r->kernel = weft_reduce_kernel_best(type, WEFT_SUM);
    return WEFT_OK;
}

weft_status weft_reduction_bind(weft_reduction *r, weft_type type, weft_op op, int ranks)
{
    if (!type_is_valid(type))
        return weft_fail(WEFT_ERR_INVALID, "%d is no weft_type; valid are 0 to %d", (int)type,
                         WEFT_TYPE_COUNT - 1);
    if (ranks < 1)
        return weft_fail(WEFT_ERR_INVALID, "a reduction over %d ranks; there must be at least 1", ranks);
    *r = (weft_reduction){ .type = type, .op = op, .commutes = true, .divisor = ranks };
    if (op < 0 || op >= WEFT_OP_COUNT) {
        weft_status status = bind_created(r, type, op);
        if (status != WEFT_OK)
            return status;
    } else {
        r->kernel = weft_reduce_kernel_best(type, (weft_builtin_op)op);
        if (!r->kernel)
            return weft_fail(WEFT_ERR_INVALID,
                             "operation %s is not defined for type %s; use it with integers or bool",
                             weft_op_name(op), weft_type_name(type));
    }
    return WEFT_OK;
}

/* User functions take two operands, and dst may be a source that is needed later: then by blocks, partial
 * results aside. */
static void run_function(const weft_reduction *r, void *dst, const void *const *sources, unsigned n,
                         size_t count)
{
    bool overwrites = false;
    for (unsigned k = 2; k < n; k++)
        overwrites |= sources[k] == dst;
    if (!overwrites) {
        r->function(dst, sources[0], sources[1], count, r->type, r->context);
        for (unsigned k = 2; k < n; k++)
            r->function(dst, dst, sources[k], count, r->type, r->context);
        return;
    }
    enum { BLOCK_BYTES = 8192 };
    unsigned char total[BLOCK_BYTES] __attribute__((aligned(WEFT_CACHE_LINE)));
    const size_t bytes = weft_type_bytes(r->type);
    for (size_t done = 0; done < count; done += BLOCK_BYTES / bytes) {
        size_t block = weft_min_size(count - done, BLOCK_BYTES / bytes);
        size_t offset = done * bytes;
        r->function(total, (const char *)sources[0] + offset, (const char *)sources[1] + offset, block,
                    r->type, r->context);
        for (unsigned k = 2; k + 1 < n; k++)
            r->function(total, total, (const char *)sources[k] + offset, block, r->type, r->context);
        r->function((char *)dst + offset, total, (const char *)sources[n - 1] + offset, block, r->type,
                    r->context);
    }
}

void weft_reduction_run(const weft_reduction *r, void *dst, const void *const *sources, unsigned n,
                        size_t count, bool final)
{
    if (count == 0)
        return;
    if (final && r->op == WEFT_AVG)
        weft_reduce_set_best(r->type)->averages[r->type](dst, sources, n, count, r->divisor);
    else if (n == 1)
        weft_copy(dst, sources[0], count * weft_type_bytes(r->type));
    else if (r->function)
        run_function(r, dst, sources, n, count);
    else
        r->kernel(dst, sources, n, count);
}

void weft_premultiply(void *dst, const void *src, size_t count, weft_type type, const void *factor)
{
    if (count > 0)
        weft_reduce_set_best(type)->premultiplies[type](dst, src, count, factor);
}

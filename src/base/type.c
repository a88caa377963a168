/* Element types: sizes, names and the names that other libraries' tools use for them. Operations live with the
 * reduction kernels. */
#include <string.h>

#include "base/base.h"

static const struct {
    const char *name;
    size_t bytes;
} types[] = {
#define TYPE_ROW(type, size, text) [type] = {text, size},
    WEFT_TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};

/* Names of nccl-tests and of numpy. */
static const struct {
    const char *name;
    weft_type type;
} aliases[] = {
    {"int8", WEFT_I8},        {"uint8", WEFT_U8},          {"int16", WEFT_I16},     {"uint16", WEFT_U16},
    {"int32", WEFT_I32},      {"uint32", WEFT_U32},        {"int64", WEFT_I64},     {"uint64", WEFT_U64},
    {"half", WEFT_F16},       {"float16", WEFT_F16},       {"bfloat16", WEFT_BF16}, {"float", WEFT_F32},
    {"float32", WEFT_F32},    {"double", WEFT_F64},        {"float64", WEFT_F64},   {"fp8_e4m3", WEFT_F8E4M3},
    {"fp8_e5m2", WEFT_F8E5M2},
};

static bool valid(weft_type type)
{
    return (unsigned)type < WEFT_TYPE_COUNT;
}

size_t weft_type_bytes(weft_type type)
{
    return valid(type) ? types[type].bytes : 0;
}

const char *weft_type_name(weft_type type)
{
    return valid(type) ? types[type].name : "?";
}

weft_status weft_type_parse(const char *text, weft_type *type)
{
    weft_clear_error();
    if (!text || !type)
        return weft_fail(WEFT_ERR_INVALID, "weft_type_parse: text and type must not be NULL");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(text, types[i].name) == 0) {
            *type = (weft_type)i;
            return WEFT_OK;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(text, aliases[i].name) == 0) {
            *type = aliases[i].type;
            return WEFT_OK;
        }
    }
    return weft_fail(WEFT_ERR_PARSE, "'%.40s' is not an element type: use one of"
#define TYPE_NAME(name, bytes, type_text) " " type_text
                     WEFT_TYPE_LIST(TYPE_NAME)
#undef TYPE_NAME
                     , text);
}

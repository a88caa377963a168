/* MPI datatypes and operations in Weft's terms. Predefined types are in a hash table made once; derived ones are asked for at
 * each call. Which types a reduction takes follows MPI's table of types and operations. */
#include "weft_mpi.h"

#include <limits.h>
#include <string.h>

enum { CLASS_DATA, CLASS_INTEGER, CLASS_FLOAT, CLASS_COMPLEX, CLASS_LOGICAL, CLASS_BYTE };
enum { SLOTS = 256 };

static struct {
    MPI_Datatype type;
    weft_mpi_type info;
    bool used;
} table[SLOTS];
static weft_op logical_and, logical_or, logical_xor;
/* Weft's operation for MPI's, and the classes of types that it takes, as bits. */
static struct {
    MPI_Op mpi;
    weft_op weft;
    unsigned classes;
} operations[10];
static int operation_count;

static unsigned slot_of(MPI_Datatype type)
{
    return (unsigned)(((uint64_t)(uintptr_t)type * 0x9E3779B97F4A7C15u) >> 56);
}

static int signed_type(size_t size)
{
    return size == 1 ? WEFT_I8 : size == 2 ? WEFT_I16 : size == 4 ? WEFT_I32 : size == 8 ? WEFT_I64 : -1;
}

static int unsigned_type(size_t size)
{
    return size == 1 ? WEFT_U8 : size == 2 ? WEFT_U16 : size == 4 ? WEFT_U32 : size == 8 ? WEFT_U64 : -1;
}

static int float_type(size_t size)
{
    return size == 4 ? WEFT_F32 : size == 8 ? WEFT_F64 : -1;
}

static void add(MPI_Datatype type, int class, bool is_unsigned)
{
    int size;
    MPI_Aint lower, extent;
    if (type == MPI_DATATYPE_NULL || PMPI_Type_size(type, &size) != MPI_SUCCESS || size <= 0 ||
        PMPI_Type_get_extent(type, &lower, &extent) != MPI_SUCCESS)
        return; /* a type of a language that this MPI was built without */
    weft_mpi_type info = {.size = (size_t)size, .extent = extent, .contiguous = size == extent && lower == 0, .lanes = 1};
    int weft = class == CLASS_FLOAT     ? float_type(info.size)
               : class == CLASS_COMPLEX ? float_type(info.size / 2)
               : class == CLASS_DATA    ? -1
               : is_unsigned            ? unsigned_type(info.size)
                                        : signed_type(info.size);
    info.weft = (int8_t)weft;
    info.class = (uint8_t)(weft < 0 ? CLASS_DATA : class);
    info.lanes = class == CLASS_COMPLEX ? 2 : 1;
    unsigned slot = slot_of(type);
    while (table[slot].used && table[slot].type != type)
        slot = (slot + 1) % SLOTS;
    table[slot].type = type;
    table[slot].info = info;
    table[slot].used = true;
}

static void add_all(const MPI_Datatype *types, int count, int class, bool is_unsigned)
{
    for (int i = 0; i < count; i++)
        add(types[i], class, is_unsigned);
}

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))

static void add_types(void)
{
    const MPI_Datatype data[] = {MPI_CHARACTER, MPI_WCHAR, MPI_PACKED, MPI_LONG_DOUBLE, MPI_C_LONG_DOUBLE_COMPLEX,
                                 MPI_2INT, MPI_2INTEGER, MPI_2REAL, MPI_2DOUBLE_PRECISION, MPI_FLOAT_INT, MPI_DOUBLE_INT,
                                 MPI_LONG_INT, MPI_SHORT_INT, MPI_LONG_DOUBLE_INT};
    const MPI_Datatype integers[] = {MPI_SIGNED_CHAR, MPI_SHORT, MPI_INT, MPI_LONG, MPI_LONG_LONG, MPI_INT8_T, MPI_INT16_T,
                                     MPI_INT32_T, MPI_INT64_T, MPI_INTEGER, MPI_INTEGER1, MPI_INTEGER2, MPI_INTEGER4,
                                     MPI_INTEGER8, MPI_AINT, MPI_COUNT, MPI_OFFSET};
    const MPI_Datatype naturals[] = {MPI_UNSIGNED_CHAR, MPI_UNSIGNED_SHORT, MPI_UNSIGNED, MPI_UNSIGNED_LONG,
                                     MPI_UNSIGNED_LONG_LONG, MPI_UINT8_T, MPI_UINT16_T, MPI_UINT32_T, MPI_UINT64_T};
    const MPI_Datatype floats[] = {MPI_FLOAT, MPI_DOUBLE, MPI_REAL, MPI_DOUBLE_PRECISION, MPI_REAL4, MPI_REAL8};
    const MPI_Datatype complexes[] = {MPI_C_FLOAT_COMPLEX, MPI_C_DOUBLE_COMPLEX, MPI_COMPLEX, MPI_DOUBLE_COMPLEX,
                                      MPI_COMPLEX8, MPI_COMPLEX16, MPI_CXX_FLOAT_COMPLEX, MPI_CXX_DOUBLE_COMPLEX};
    const MPI_Datatype logicals[] = {MPI_C_BOOL, MPI_CXX_BOOL, MPI_LOGICAL};
    add_all(data, COUNT_OF(data), CLASS_DATA, false);
    add_all(integers, COUNT_OF(integers), CLASS_INTEGER, false);
    add_all(naturals, COUNT_OF(naturals), CLASS_INTEGER, true);
    add_all(floats, COUNT_OF(floats), CLASS_FLOAT, false);
    add_all(complexes, COUNT_OF(complexes), CLASS_COMPLEX, false);
    add_all(logicals, COUNT_OF(logicals), CLASS_LOGICAL, true);
    add(MPI_BYTE, CLASS_BYTE, true);
    add(MPI_CHAR, CLASS_INTEGER, CHAR_MIN == 0); /* a letter by the standard, but both MPIs reduce it */
}

/* ---- logical operations: Weft has them on bits only -------------------------------------------- */

static bool is_set(const char *element, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (element[i])
            return true;
    return false;
}

/* context: 0 and, 1 or, 2 xor. The result is 1 or 0 in the machine's byte order. */
static void combine_logical(void *result, const void *left, const void *right, size_t count, weft_type type, void *context)
{
    size_t bytes = weft_type_bytes(type);
    const uint16_t one = 1;
    size_t low_byte = *(const char *)&one ? 0 : bytes - 1;
    int which = *(const int *)context;
    char *to = result;
    const char *a = left, *b = right;
    for (size_t i = 0; i < count; i++, to += bytes, a += bytes, b += bytes) {
        bool x = is_set(a, bytes), y = is_set(b, bytes);
        bool value = which == 0 ? x && y : which == 1 ? x || y : x != y;
        memset(to, 0, bytes);
        to[low_byte] = value;
    }
}

static void add_operation(MPI_Op mpi, weft_op weft, unsigned classes)
{
    operations[operation_count].mpi = mpi;
    operations[operation_count].weft = weft;
    operations[operation_count++].classes = classes;
}

static void add_operations(void)
{
    const unsigned number = 1u << CLASS_INTEGER | 1u << CLASS_FLOAT, bits = 1u << CLASS_INTEGER | 1u << CLASS_BYTE;
    const unsigned logical = 1u << CLASS_INTEGER | 1u << CLASS_LOGICAL;
    operation_count = 0;
    add_operation(MPI_SUM, WEFT_SUM, number | 1u << CLASS_COMPLEX);
    add_operation(MPI_MAX, WEFT_MAX, number);
    add_operation(MPI_MIN, WEFT_MIN, number);
    add_operation(MPI_PROD, WEFT_PROD, number);
    add_operation(MPI_LAND, logical_and, logical);
    add_operation(MPI_BAND, WEFT_BAND, bits);
    add_operation(MPI_LOR, logical_or, logical);
    add_operation(MPI_BOR, WEFT_BOR, bits);
    add_operation(MPI_LXOR, logical_xor, logical);
    add_operation(MPI_BXOR, WEFT_BXOR, bits);
}

weft_status weft_mpi_types_create(void)
{
    static int which[] = {0, 1, 2};
    add_types();
    weft_op *const made[] = {&logical_and, &logical_or, &logical_xor};
    for (int i = 0; i < 3; i++) {
        weft_status status = weft_op_create(combine_logical, &which[i], true, made[i]);
        if (status != WEFT_OK)
            return status;
    }
    add_operations();
    return WEFT_OK;
}

void weft_mpi_types_destroy(void)
{
    weft_op_free(logical_and);
    weft_op_free(logical_or);
    weft_op_free(logical_xor);
    memset(table, 0, sizeof table);
}

static bool find_predefined(MPI_Datatype type, weft_mpi_type *found)
{
    for (unsigned slot = slot_of(type); table[slot].used; slot = (slot + 1) % SLOTS) {
        if (table[slot].type == type) {
            *found = table[slot].info;
            return true;
        }
    }
    return false;
}

bool weft_mpi_type_find(MPI_Datatype type, weft_mpi_type *found)
{
    if (find_predefined(type, found))
        return true;
    MPI_Count size;
    MPI_Aint lower, extent;
    if (type == MPI_DATATYPE_NULL || PMPI_Type_size_x(type, &size) != MPI_SUCCESS || size == MPI_UNDEFINED ||
        PMPI_Type_get_extent(type, &lower, &extent) != MPI_SUCCESS)
        return false;
    *found = (weft_mpi_type){.size = (size_t)size, .extent = extent, .weft = -1, .lanes = 1, .class = CLASS_DATA};
    found->contiguous = size == extent && lower == 0 && weft_mpi_packs_as_it_lies(type);
    return true;
}

bool weft_mpi_reduction_find(MPI_Op op, MPI_Datatype type, weft_op *weft, weft_mpi_type *layout)
{
    for (int i = 0; i < operation_count; i++) {
        if (operations[i].mpi == op) {
            *weft = operations[i].weft;
            return find_predefined(type, layout) && layout->weft >= 0 && (operations[i].classes & 1u << layout->class);
        }
    }
    return false;
}

/* Whether elements of a type lie in memory as MPI_Pack would put them, by what MPI tells of types. */
#include "weft_mpi.h"

/* Longer lists of blocks are not looked through: such types are packed. */
enum { MOST_NUMBERS = 64, MOST_TYPES = 32 };

/* How a type was made. The numbers are in the order of the constructor's large-count form: counts, lengths of blocks, places. */
typedef struct recipe {
    int combiner;
    MPI_Count integers, addresses, larges, types; /* how many of each there are */
    int64_t numbers[MOST_NUMBERS];
    MPI_Datatype type[MOST_TYPES];
} recipe;

/* Types made by large-count constructors can only be read by the large-count functions. */
static bool read_kind(MPI_Datatype type, recipe *r)
{
#if MPI_VERSION >= 4
    return PMPI_Type_get_envelope_c(type, &r->integers, &r->addresses, &r->larges, &r->types, &r->combiner) == MPI_SUCCESS;
#else
    int integers, addresses, types;
    if (PMPI_Type_get_envelope(type, &integers, &addresses, &types, &r->combiner) != MPI_SUCCESS)
        return false;
    r->integers = integers, r->addresses = addresses, r->larges = 0, r->types = types;
    return true;
#endif
}

static bool read_contents(MPI_Datatype type, recipe *r)
{
    if (r->integers + r->addresses + r->larges > MOST_NUMBERS || r->types > MOST_TYPES)
        return false;
    int integer[MOST_NUMBERS], n = 0;
    MPI_Aint address[MOST_NUMBERS];
#if MPI_VERSION >= 4
    MPI_Count large[MOST_NUMBERS];
    int code = PMPI_Type_get_contents_c(type, r->integers, r->addresses, r->larges, r->types, integer, address, large, r->type);
#else
    const int *large = NULL;
    int code = PMPI_Type_get_contents(type, (int)r->integers, (int)r->addresses, (int)r->types, integer, address, r->type);
#endif
    for (int i = 0; code == MPI_SUCCESS && i < r->integers; i++)
        r->numbers[n++] = integer[i];
    for (int i = 0; code == MPI_SUCCESS && i < r->addresses; i++)
        r->numbers[n++] = address[i];
    for (int i = 0; code == MPI_SUCCESS && i < r->larges; i++)
        r->numbers[n++] = large[i];
    return code == MPI_SUCCESS;
}

/* Of a type whose elements lie one after the other; else -1. */
static int64_t dense_bytes(MPI_Datatype type)
{
    MPI_Count size;
    MPI_Aint lower, extent;
    bool known = PMPI_Type_size_x(type, &size) == MPI_SUCCESS && PMPI_Type_get_extent(type, &lower, &extent) == MPI_SUCCESS;
    return known && size == extent && lower == 0 && weft_mpi_packs_as_it_lies(type) ? size : -1;
}

static bool blocks_in_order(const recipe *r)
{
    const int64_t *n = r->numbers, count = n[0];
    int64_t at = 0;
    for (int i = 0; i < count; i++) {
        int64_t length = n[1 + i], bytes = length > 0 ? dense_bytes(r->type[i]) : 0;
        if (bytes < 0 || (bytes > 0 && n[1 + count + i] != at))
            return false;
        at += length * bytes;
    }
    return true;
}

/* The type as a whole has its size as its extent, so its blocks can only lie dense or overlap or change places. */
static bool is_dense(const recipe *r)
{
    const int64_t *n = r->numbers;
    switch (r->combiner) {
    case MPI_COMBINER_CONTIGUOUS:
    case MPI_COMBINER_DUP:
        return dense_bytes(r->type[0]) >= 0;
    case MPI_COMBINER_VECTOR:
        return (n[0] == 1 || n[1] == n[2]) && dense_bytes(r->type[0]) >= 0;
    case MPI_COMBINER_STRUCT:
        return blocks_in_order(r);
    default:
        return false;
    }
}

/* Trusted to lie in memory as its packed form: only what is built of whole predefined elements one after the other. The same
 * size and extent do not suffice: a struct may name its members backwards. */
bool weft_mpi_packs_as_it_lies(MPI_Datatype type)
{
    recipe r, inner;
    if (!read_kind(type, &r))
        return false;
    if (r.combiner == MPI_COMBINER_NAMED) {
        int size;
        MPI_Aint lower, extent;
        return PMPI_Type_size(type, &size) == MPI_SUCCESS && PMPI_Type_get_extent(type, &lower, &extent) == MPI_SUCCESS &&
               size == extent && lower == 0;
    }
    if (!read_contents(type, &r))
        return false;
    bool dense = is_dense(&r);
    for (int i = 0; i < r.types; i++)
        if (read_kind(r.type[i], &inner) && inner.combiner != MPI_COMBINER_NAMED)
            PMPI_Type_free(&r.type[i]);
    return dense;
}

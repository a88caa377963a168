/* Whether elements of a type lie in memory as MPI_Pack would put them, by what MPI tells of types. */
#include "weft_mpi.h"

/* Trusted to lie in memory as its packed form: only what is built of whole predefined elements one after the other. The same
 * size and extent do not suffice: a struct may name its members backwards. */
bool weft_mpi_packs_as_it_lies(MPI_Datatype type)
{
    int integers, addresses, types, combiner;
    if (PMPI_Type_get_envelope(type, &integers, &addresses, &types, &combiner) != MPI_SUCCESS)
        return false;
    if (combiner == MPI_COMBINER_NAMED) {
        int size;
        MPI_Aint lower, extent;
        return PMPI_Type_size(type, &size) == MPI_SUCCESS && PMPI_Type_get_extent(type, &lower, &extent) == MPI_SUCCESS &&
               size == extent && lower == 0;
    }
    if ((combiner != MPI_COMBINER_CONTIGUOUS && combiner != MPI_COMBINER_DUP) || types != 1 || integers > 1 || addresses)
        return false;
    int count[1];
    MPI_Aint address[1];
    MPI_Datatype inner;
    if (PMPI_Type_get_contents(type, integers, addresses, 1, count, address, &inner) != MPI_SUCCESS)
        return false;
    bool good = weft_mpi_packs_as_it_lies(inner);
    int inner_integers, inner_addresses, inner_types, inner_combiner;
    if (PMPI_Type_get_envelope(inner, &inner_integers, &inner_addresses, &inner_types, &inner_combiner) == MPI_SUCCESS &&
        inner_combiner != MPI_COMBINER_NAMED)
        PMPI_Type_free(&inner);
    return good;
}

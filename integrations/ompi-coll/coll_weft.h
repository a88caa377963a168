/* An Open MPI component of the framework "coll": the collectives of a communicator run on Weft, by what libweft-mpi.so is made of
 * (../mpi). Built with the headers of Open MPI's inside, so for one version of it. */
#ifndef COLL_WEFT_H
#define COLL_WEFT_H

#include "ompi_config.h"

#include "ompi/communicator/communicator.h"
#include "ompi/mca/coll/base/base.h"
#include "ompi/mca/coll/coll.h"
#include "ompi/request/request.h"

#include "../mpi/prepare.h"

/* One for each communicator, with the functions that were selected before ours: for what is passed on. */
typedef struct coll_weft_module {
    mca_coll_base_module_t super;
    mca_coll_base_comm_coll_t next; /* only what the table in component.c names; each holds a reference to its module */
} coll_weft_module;

OBJ_CLASS_DECLARATION(coll_weft_module);

/* What the functions get as their last argument. */
static inline const mca_coll_base_comm_coll_t *coll_weft_next(const mca_coll_base_module_t *module)
{
    return &((const coll_weft_module *)module)->next;
}

/* The memory of requests. */
int coll_weft_open(void);
int coll_weft_close(void);

/* Fill in the functions of a module. */
void coll_weft_set_blocking(mca_coll_base_module_t *m);
void coll_weft_set_nonblocking(mca_coll_base_module_t *m);
void coll_weft_set_persistent(mca_coll_base_module_t *m);
void coll_weft_set_passed(mca_coll_base_module_t *m);

#endif

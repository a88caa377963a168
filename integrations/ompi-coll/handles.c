/* Requests of Open MPI that stand for operations of Weft, and what it knows of types, by its inside (../mpi/handles.c and
 * layout.c do it from outside). */
#include "coll_weft.h"

/* The header of operations includes one that Debian's package lacks; only this name is needed of it. */
#define OMPI_OP_H
typedef struct ompi_op_t ompi_op_t;
#include "ompi/mca/coll/base/coll_base_util.h"

/* Open MPI takes every request of a collective for its own kind: it keeps the types and the operation there that a program may
 * free before the request, and looks at them even after that has been freed, so that its memory must stay. */
typedef struct coll_weft_request {
    ompi_coll_base_nbc_request_t super;
    weft_mpi_operation *operation;
} coll_weft_request;

static opal_free_list_t requests;

static int start(size_t count, ompi_request_t **handles)
{
    for (size_t i = 0; i < count; i++) {
        handles[i]->req_complete = REQUEST_PENDING;
        handles[i]->req_state = OMPI_REQUEST_ACTIVE;
        handles[i]->req_status.MPI_ERROR = MPI_SUCCESS;
        int code = weft_mpi_start(((coll_weft_request *)handles[i])->operation);
        if (code != MPI_SUCCESS)
            return code;
    }
    return MPI_SUCCESS;
}

/* Called for the program, or by a wait for one that is not persistent. */
static int free_handle(ompi_request_t **handle)
{
    coll_weft_request *r = (coll_weft_request *)*handle;
    struct ompi_communicator_t *comm = (*handle)->req_mpi_object.comm;
    if (!REQUEST_COMPLETE(*handle))
        weft_mpi_wait_in_weft(*handle);
    weft_mpi_operation_destroy(r->operation);
    OMPI_REQUEST_FINI(*handle);
    opal_free_list_return(&requests, &(*handle)->super);
    OBJ_RELEASE(comm);
    *handle = MPI_REQUEST_NULL;
    return MPI_SUCCESS;
}

static OBJ_CLASS_INSTANCE(coll_weft_request, ompi_coll_base_nbc_request_t, NULL, NULL);

int coll_weft_open(void)
{
    OBJ_CONSTRUCT(&requests, opal_free_list_t);
    return opal_free_list_init(&requests, sizeof(coll_weft_request), opal_cache_line_size, OBJ_CLASS(coll_weft_request), 0,
                               opal_cache_line_size, 0, -1, 8, NULL, 0, NULL, NULL, NULL);
}

int coll_weft_close(void)
{
    OBJ_DESTRUCT(&requests);
    return OMPI_SUCCESS;
}

int weft_mpi_handle_make(weft_mpi_operation *o)
{
    coll_weft_request *r = (coll_weft_request *)opal_free_list_get(&requests);
    if (!r)
        return MPI_ERR_NO_MEM;
    bool persistent = o->form == WEFT_MPI_PERSISTENT;
    ompi_request_t *handle = &r->super.super;
    OMPI_REQUEST_INIT(handle, persistent);
    handle->req_type = OMPI_REQUEST_COLL;
    handle->req_state = persistent ? OMPI_REQUEST_INACTIVE : OMPI_REQUEST_ACTIVE;
    handle->req_status = ompi_status_empty;
    handle->req_start = start;
    handle->req_free = free_handle;
    handle->req_cancel = NULL; /* a collective cannot be cancelled */
    handle->req_mpi_object.comm = o->comm->comm;
    OBJ_RETAIN(o->comm->comm); /* the program may free it before the request */
    r->operation = o;
    o->handle = handle;
    return MPI_SUCCESS;
}

void weft_mpi_handle_complete(weft_mpi_operation *o)
{
    o->handle->req_status.MPI_ERROR = o->error;
    ompi_request_complete(o->handle, true);
}

/* Open MPI does it with the code that it gets. */
void weft_mpi_raise(MPI_Comm comm, int code) { (void)comm, (void)code; }

/* Open MPI packs such types by memcpy. Its own calls have types that MPI_Type_get_envelope fails for. */
bool weft_mpi_packs_as_it_lies(MPI_Datatype type)
{
    return type->super.true_lb == 0 && ompi_datatype_is_contiguous_memory_layout(type, 2);
}

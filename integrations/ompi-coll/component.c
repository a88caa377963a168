/* The component, its priority, and its modules: one for each communicator, over those that were selected before. */
#include "coll_weft.h"

static int priority;

static int set_parameters(void);
static int begin(bool progress_threads, bool mpi_threads);
static mca_coll_base_module_t *query(struct ompi_communicator_t *comm, int *its_priority);

/* Open MPI finds it by this name. */
extern mca_coll_base_component_t mca_coll_weft_component;
WEFT_MPI_EXPORT mca_coll_base_component_t mca_coll_weft_component = {
    .collm_version = {
        MCA_COLL_BASE_VERSION_2_0_0,
        .mca_component_name = "weft",
        .mca_component_major_version = WEFT_VERSION_MAJOR,
        .mca_component_minor_version = WEFT_VERSION_MINOR,
        .mca_component_release_version = WEFT_VERSION_PATCH,
        .mca_open_component = coll_weft_open,
        .mca_close_component = coll_weft_close,
        .mca_register_component_params = set_parameters,
    },
    .collm_data = {MCA_BASE_METADATA_PARAM_NONE},
    .collm_init_query = begin,
    .collm_comm_query = query,
};

/* Above Open MPI's own, which go up to 50: who puts this component where Open MPI finds it wants it. */
static int set_parameters(void)
{
    priority = 90;
    return mca_base_component_var_register(&mca_coll_weft_component.collm_version, "priority",
                                           "Priority of the collectives on Weft; 0 or less: not used",
                                           MCA_BASE_VAR_TYPE_INT, NULL, 0, 0, OPAL_INFO_LVL_6,
                                           MCA_BASE_VAR_SCOPE_READONLY, &priority) < 0 ? OMPI_ERROR : OMPI_SUCCESS;
}

static int begin(bool progress_threads, bool mpi_threads)
{
    (void)progress_threads, (void)mpi_threads;
    return OMPI_SUCCESS;
}

/* ---- modules ----------------------------------------------------------------------------------- */

/* Function and module in what a communicator has, and the function in a module, for each that is taken. */
#define PLACES(member) {offsetof(mca_coll_base_comm_coll_t, member), offsetof(mca_coll_base_module_t, member)}
static const struct {
    size_t in_comm, in_module;
} taken[] = {
    PLACES(coll_barrier), PLACES(coll_bcast), PLACES(coll_reduce), PLACES(coll_allreduce),
    PLACES(coll_reduce_scatter_block), PLACES(coll_reduce_scatter), PLACES(coll_gather), PLACES(coll_gatherv),
    PLACES(coll_scatter), PLACES(coll_scatterv), PLACES(coll_allgather), PLACES(coll_allgatherv), PLACES(coll_alltoall),
    PLACES(coll_alltoallv), PLACES(coll_alltoallw), PLACES(coll_scan), PLACES(coll_exscan),
    PLACES(coll_ibarrier), PLACES(coll_ibcast), PLACES(coll_ireduce), PLACES(coll_iallreduce),
    PLACES(coll_ireduce_scatter_block), PLACES(coll_ireduce_scatter), PLACES(coll_igather), PLACES(coll_igatherv),
    PLACES(coll_iscatter), PLACES(coll_iscatterv), PLACES(coll_iallgather), PLACES(coll_iallgatherv), PLACES(coll_ialltoall),
    PLACES(coll_ialltoallv),
    PLACES(coll_barrier_init), PLACES(coll_bcast_init), PLACES(coll_reduce_init), PLACES(coll_allreduce_init),
    PLACES(coll_reduce_scatter_block_init), PLACES(coll_reduce_scatter_init), PLACES(coll_gather_init),
    PLACES(coll_gatherv_init), PLACES(coll_scatter_init), PLACES(coll_scatterv_init), PLACES(coll_allgather_init),
    PLACES(coll_allgatherv_init), PLACES(coll_alltoall_init), PLACES(coll_alltoallv_init),
    PLACES(coll_iscan), PLACES(coll_iexscan), PLACES(coll_ialltoallw),
    PLACES(coll_neighbor_allgather), PLACES(coll_neighbor_allgatherv), PLACES(coll_neighbor_alltoall),
    PLACES(coll_neighbor_alltoallv), PLACES(coll_neighbor_alltoallw), PLACES(coll_ineighbor_allgather),
    PLACES(coll_ineighbor_allgatherv), PLACES(coll_ineighbor_alltoall), PLACES(coll_ineighbor_alltoallv),
    PLACES(coll_ineighbor_alltoallw)};
enum { TAKEN = sizeof taken / sizeof *taken };

/* What a communicator has of a collective. */
typedef struct selected {
    void (*function)(void);
    mca_coll_base_module_t *module;
} selected;

_Static_assert(offsetof(mca_coll_base_comm_coll_t, coll_allreduce_module) -
                       offsetof(mca_coll_base_comm_coll_t, coll_allreduce) == offsetof(selected, module),
               "Open MPI keeps each function beside its module");

static selected *selected_at(mca_coll_base_comm_coll_t *all, int i) { return (selected *)((char *)all + taken[i].in_comm); }

static void construct(coll_weft_module *m)
{
    memset((char *)m + sizeof m->super, 0, sizeof *m - sizeof m->super);
}

/* The communicator is gone, and with it Weft's. */
static void destruct(coll_weft_module *m)
{
    for (int i = 0; i < TAKEN; i++)
        if (selected_at(&m->next, i)->module)
            OBJ_RELEASE(selected_at(&m->next, i)->module);
    if (weft_mpi_ready() && !weft_mpi_inside())
        weft_mpi_release_freed();
}

OBJ_CLASS_INSTANCE(coll_weft_module, mca_coll_base_module_t, construct, destruct);

/* Modules are enabled from the lowest priority up: what the communicator has now is what comes after us. */
static int enable(mca_coll_base_module_t *module, struct ompi_communicator_t *comm)
{
    coll_weft_module *m = (coll_weft_module *)module;
    for (int i = 0; i < TAKEN; i++) {
        selected *before = selected_at(comm->c_coll, i);
        if (before->function && before->module) {
            *selected_at(&m->next, i) = *before;
            OBJ_RETAIN(before->module);
        } else {
            memset((char *)module + taken[i].in_module, 0, sizeof before->function);
        }
    }
    return OMPI_SUCCESS;
}

/* The same on all ranks: they have one priority, as all MCA parameters. */
static mca_coll_base_module_t *query(struct ompi_communicator_t *comm, int *its_priority)
{
    if (priority <= 0 || OMPI_COMM_IS_INTER(comm) || ompi_comm_size(comm) < 2)
        return NULL;
    coll_weft_module *m = OBJ_NEW(coll_weft_module);
    if (!m)
        return NULL;
    *its_priority = priority;
    m->super.coll_module_enable = enable;
    coll_weft_set_blocking(&m->super);
    coll_weft_set_nonblocking(&m->super);
    coll_weft_set_persistent(&m->super);
    coll_weft_set_passed(&m->super);
    return &m->super;
}

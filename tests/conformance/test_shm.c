/* The shm transport: the conformance suite over a host made for each group. */
#include "conformance.h"

#include "transport/shm/shm.h"

static weft_status host_create(int rank, int ranks, uint64_t job, conformance_allgather allgather,
                               void *context, void **host)
{
    weft_host_config config = {.rank = rank,
                               .ranks = ranks,
                               .job = job,
                               .region_bytes = weft_shm_region_bytes(ranks),
                               .deadline_ns = weft_deadline_ns(CONFORMANCE_PATIENCE_MS),
                               .allgather = allgather,
                               .context = context};
    weft_host *made = NULL;
    weft_status status = weft_host_create(&config, &made);
    *host = made;
    return status;
}

static void host_destroy(void *host) { weft_host_destroy(host); }

int main(void)
{
    static const conformance_subject subject = {
        .name = "shm", .host_create = host_create, .host_destroy = host_destroy};
    return conformance_run("shm", &subject);
}

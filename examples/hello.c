/* Sums one number over all ranks. Started by mpirun, srun or torchrun; alone it is one rank. */
#include <stdio.h>
#include <weft/weft.h>

int main(void)
{
    weft_comm *comm;
    if (weft_comm_create_env(NULL, &comm) != WEFT_OK) {
        fprintf(stderr, "%s\n", weft_last_error());
        return 1;
    }
    float mine = (float)weft_comm_rank(comm) + 1, sum = 0;
    weft_status status = weft_all_reduce(comm, &mine, &sum, 1, WEFT_F32, WEFT_SUM, NULL);
    if (status == WEFT_OK)
        printf("rank %d of %d: the sum is %g\n", weft_comm_rank(comm), weft_comm_size(comm), sum);
    else
        fprintf(stderr, "%s: %s\n", weft_status_text(status), weft_last_error());
    weft_comm_destroy(comm);
    return status != WEFT_OK;
}

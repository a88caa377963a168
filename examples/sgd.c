/* Data-parallel training: every rank has its own samples of a line with noise, and fits slope and offset by stochastic gradient
 * descent. Ranks average their gradients in each step, so that all hold the same model. Started by mpirun, srun or torchrun;
 * alone it is one rank. */
#include <stdio.h>
#include <weft/weft.h>

enum { SAMPLES = 64, STEPS = 400 };

/* A number in -1 .. 1 from a generator that each rank seeds in its own way. */
static double noise(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (1 << 23) - 1;
}

static int failed(const char *what, weft_status status)
{
    fprintf(stderr, "%s: %s: %s\n", what, weft_status_text(status), weft_last_error());
    return 1;
}

int main(void)
{
    weft_comm *comm;
    weft_status status = weft_comm_create_env(NULL, &comm);
    if (status != WEFT_OK)
        return failed("meeting the other ranks", status);

    /* What a rank knows: its samples of y = 3 x - 2. */
    double x[SAMPLES], y[SAMPLES];
    unsigned seed = 17u + 1000u * (unsigned)weft_comm_rank(comm);
    for (int i = 0; i < SAMPLES; i++) {
        x[i] = noise(&seed);
        y[i] = 3 * x[i] - 2 + 0.01 * noise(&seed);
    }

    /* The same buffers in each step: a persistent request checks and plans once. */
    double model[2] = {0, 0}, gradient[3];
    weft_request *average = NULL;
    status = weft_all_reduce_init(comm, gradient, gradient, 3, WEFT_F64, WEFT_AVG, &average);
    for (int step = 0; step < STEPS && status == WEFT_OK; step++) {
        gradient[0] = gradient[1] = gradient[2] = 0; /* the third is the loss */
        for (int i = 0; i < SAMPLES; i++) {
            double error = model[0] * x[i] + model[1] - y[i];
            gradient[0] += 2 * error * x[i] / SAMPLES;
            gradient[1] += 2 * error / SAMPLES;
            gradient[2] += error * error / SAMPLES;
        }
        if ((status = weft_start(average)) == WEFT_OK)
            status = weft_wait(&average);
        model[0] -= 0.3 * gradient[0];
        model[1] -= 0.3 * gradient[1];
    }
    if (status == WEFT_OK && weft_comm_rank(comm) == 0)
        printf("%d ranks: y = %.2f x %+.2f, loss %.1e\n", weft_comm_size(comm), model[0], model[1], gradient[2]);
    int code = status == WEFT_OK ? 0 : failed("training", status);
    weft_request_free(&average);
    weft_comm_destroy(comm);
    return code;
}

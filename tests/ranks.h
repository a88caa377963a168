/* Tests of several ranks: each rank a thread of this process, meeting by a unique id. */
#ifndef WEFT_TESTS_RANKS_H
#define WEFT_TESTS_RANKS_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft/weft.h>

typedef void (*rank_function)(weft_comm *comm, int rank, int ranks, void *context);

typedef struct rank_thread {
    pthread_t thread;
    weft_unique_id id;
    int rank, ranks;
    const weft_config *config;
    rank_function function;
    void *context;
    weft_status status;
    char detail[400];
} rank_thread;

static void *rank_main(void *argument)
{
    rank_thread *t = argument;
    weft_comm *comm = NULL;
    t->status = weft_comm_create_id(&t->id, t->rank, t->ranks, t->config, &comm);
    if (t->status != WEFT_OK) {
        snprintf(t->detail, sizeof t->detail, "%s", weft_last_error());
        return NULL;
    }
    t->function(comm, t->rank, t->ranks, t->context);
    weft_comm_destroy(comm);
    return NULL;
}

/* Runs `function` on `ranks` ranks; the first creation error, WEFT_OK if there was none. */
static inline weft_status run_ranks(int ranks, const weft_config *config, rank_function function, void *context)
{
    rank_thread *threads = calloc((size_t)ranks, sizeof *threads);
    weft_unique_id id;
    weft_status status = weft_get_unique_id(&id);
    if (status != WEFT_OK || !threads) {
        fprintf(stderr, "weft_get_unique_id: %s\n", weft_last_error());
        free(threads);
        return status;
    }
    for (int r = 0; r < ranks; r++) {
        threads[r] =
            (rank_thread){.id = id, .rank = r, .ranks = ranks, .config = config, .function = function, .context = context};
        pthread_create(&threads[r].thread, NULL, rank_main, &threads[r]);
    }
    for (int r = 0; r < ranks; r++) {
        pthread_join(threads[r].thread, NULL);
        if (threads[r].status != WEFT_OK) {
            fprintf(stderr, "rank %d: %s\n", r, threads[r].detail);
            status = threads[r].status;
        }
    }
    free(threads);
    return status;
}
#endif

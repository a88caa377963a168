/* Weft for the comparison. Variant "registered": buffers from weft_mem_alloc, which ranks on one host read in place. */
#include "measure.h"

#include <stdio.h>
#include <string.h>
#include <weft/weft.h>

static weft_comm *comm;
static weft_request *request;
static bool registered;

static int said(weft_status status)
{
    if (status == WEFT_OK)
        return 0;
    fprintf(stderr, "compare-weft: %s: %s\n", weft_status_text(status), weft_last_error());
    return 1;
}

static int start(const char *variant, int *rank, int *ranks)
{
    registered = variant != NULL && strcmp(variant, "registered") == 0;
    if (said(weft_comm_create_env(NULL, &comm)) != 0)
        return 1;
    *rank = weft_comm_rank(comm);
    *ranks = weft_comm_size(comm);
    return 0;
}

static void *allocate(size_t bytes)
{
    void *memory = NULL;
    return registered && said(weft_mem_alloc(bytes, &memory)) == 0 ? memory : NULL;
}

static bool prepare(const compare_cell *c, void *send, void *recv)
{
    (void)c, (void)send, (void)recv;
    return true;
}

static weft_type type_of(const compare_cell *c) { return c->type == COMPARE_F32 ? WEFT_F32 : WEFT_BF16; }

static int run(const compare_cell *c, void *send, void *recv)
{
    weft_status status = WEFT_ERR_INVALID;
    switch (c->collective) {
    case COMPARE_ALL_REDUCE:
        status = weft_all_reduce(comm, send, recv, c->count, type_of(c), WEFT_SUM, NULL);
        break;
    case COMPARE_ALL_GATHER:
        status = weft_all_gather(comm, send, recv, c->count, type_of(c), NULL);
        break;
    case COMPARE_REDUCE_SCATTER:
        status = weft_reduce_scatter(comm, send, recv, c->count, type_of(c), WEFT_SUM, NULL);
        break;
    case COMPARE_BROADCAST:
        status = weft_broadcast(comm, recv, recv, c->count, type_of(c), 0, NULL);
        break;
    case COMPARE_ALL_TO_ALL:
        status = weft_all_to_all(comm, send, recv, c->count, type_of(c), NULL);
        break;
    default:
        status = weft_barrier(comm, NULL);
        break;
    }
    return status == WEFT_OK ? 0 : said(status);
}

static int begin(const compare_cell *c, void *send, void *recv)
{
    return said(weft_all_reduce(comm, send, recv, c->count, type_of(c), WEFT_SUM, &request));
}

static int test(bool *done) { return said(weft_test(&request, done)); }
static int wait(void) { return said(weft_wait(&request)); }
static void finish(void) { weft_comm_destroy(comm); }

const compare_library compare_this = { .name = "weft", .start = start, .allocate = allocate, .prepare = prepare, .run = run,
                                       .begin = begin, .test = test, .wait = wait, .finish = finish };

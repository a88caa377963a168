/* Bad days of the public API: arguments, ranks that do not agree, an absent rank, abort, calls after an
 * error, and ending a communicator with requests under way.
 * mostly waits */
#include <sys/wait.h>

#include "../checks.h"

#include "core/comm.h"

/* ---- arguments --------------------------------------------------------------------------------- */

/* Each is refused at once with a detail that has the value, touches nothing and leaves the communicator as
 * it was. */
static void arguments(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t a[64] = {0}, b[64] = {0};
    size_t counts[8] = {0}, wrong[8] = {0};
    wrong[rank] = 3;
    weft_request *request = (weft_request *)(void *)a;
    CHECK_STATUS(weft_all_reduce(NULL, a, b, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("comm");
    CHECK_STATUS(weft_all_reduce(comm, a, b, 1, (weft_type)99, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("99");
    CHECK_STATUS(weft_all_reduce(comm, a, b, 1, WEFT_I32, 77, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("77");
    CHECK_STATUS(weft_all_reduce(comm, a, b, 1, WEFT_I32, -1, &request), WEFT_ERR_INVALID);
    CHECK(request == (weft_request *)(void *)a, "the request was touched");
    CHECK_STATUS(weft_all_reduce(comm, a, b, 1, WEFT_F32, WEFT_BXOR, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("bxor");
    CHECK_STATUS(weft_all_reduce(comm, NULL, b, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("send is NULL");
    CHECK_STATUS(weft_all_reduce(comm, a, NULL, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("recv is NULL");
    CHECK_STATUS(weft_all_reduce(comm, WEFT_IN_PLACE, WEFT_IN_PLACE, 1, WEFT_I32, WEFT_SUM, NULL),
                 WEFT_ERR_INVALID);
    CHECK_DETAIL("WEFT_IN_PLACE");
    CHECK_STATUS(weft_all_reduce(comm, a, a + 1, 4, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("overlap");
    CHECK_STATUS(weft_all_reduce(comm, a, b, SIZE_MAX / 2, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("count");
    CHECK_STATUS(weft_broadcast(comm, a, b, 1, WEFT_I32, ranks, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("root");
    CHECK_STATUS(weft_broadcast(comm, a, b, 1, WEFT_I32, -1, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("-1");
    CHECK_STATUS(weft_all_gather(comm, a, WEFT_IN_PLACE, 1, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("send");
    CHECK_STATUS(weft_reduce_scatter(comm, WEFT_IN_PLACE, a, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("recv");
    CHECK_STATUS(weft_all_gather_v(comm, a, 1, b, NULL, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("counts is NULL");
    CHECK_STATUS(weft_all_gather_v(comm, a, 1, b, counts, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("send_count is 1");
    CHECK_STATUS(weft_reduce_scatter_v(comm, a, b, NULL, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_gather_v(comm, a, 2, b, counts, NULL, WEFT_I32, rank, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("send_count is 2");
    CHECK_STATUS(weft_gather_v(comm, a, 2, b, NULL, NULL, WEFT_I32, rank, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_gather_v(comm, a, 0, b, counts, NULL, WEFT_I32, 1000, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("1000");
    CHECK_STATUS(weft_scatter_v(comm, a, counts, NULL, b, 2, WEFT_I32, rank, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("recv_count is 2");
    CHECK_STATUS(weft_all_to_all_v(comm, a, wrong, NULL, a, wrong, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("two buffers");
    CHECK_STATUS(weft_all_to_all_v(comm, a, counts, NULL, b, wrong, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("3");
    CHECK_STATUS(weft_all_to_all_v(comm, a, NULL, NULL, b, counts, NULL, WEFT_I32, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_barrier(NULL, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_send(comm, a, 1, WEFT_I32, ranks, 0, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("ranks are 0 to");
    CHECK_STATUS(weft_send(comm, a, 1, WEFT_I32, WEFT_ANY_SOURCE, 0, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_send(comm, a, 1, WEFT_I32, 0, WEFT_ANY_TAG, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("tag -1");
    CHECK_STATUS(weft_send(comm, NULL, 1, WEFT_I32, 0, 0, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_recv(comm, a, 1, WEFT_I32, -2, 0, NULL, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_recv(comm, a, 1, WEFT_I32, 0, -2, NULL, NULL), WEFT_ERR_INVALID);
    CHECK_DETAIL("-2");
    CHECK_STATUS(weft_recv(comm, a, SIZE_MAX / 2, WEFT_I32, 0, 0, NULL, NULL), WEFT_ERR_INVALID);
    if (ranks > 1) { /* in place where there is nothing to be in place with */
        int other = (rank + 1) % ranks;
        CHECK_STATUS(weft_broadcast(comm, a, WEFT_IN_PLACE, 4, WEFT_I32, other, NULL), WEFT_ERR_INVALID);
        CHECK_DETAIL("WEFT_IN_PLACE");
        CHECK_STATUS(weft_scatter(comm, NULL, WEFT_IN_PLACE, 4, WEFT_I32, other, NULL), WEFT_ERR_INVALID);
        CHECK_STATUS(weft_reduce(comm, WEFT_IN_PLACE, NULL, 4, WEFT_I32, WEFT_SUM, other, NULL),
                     WEFT_ERR_INVALID);
        CHECK_STATUS(weft_reduce(comm, WEFT_IN_PLACE, b, 4, WEFT_I32, WEFT_SUM, other, NULL),
                     WEFT_ERR_INVALID);
        CHECK_DETAIL("root");
        CHECK_STATUS(weft_gather(comm, WEFT_IN_PLACE, NULL, 4, WEFT_I32, other, NULL), WEFT_ERR_INVALID);
    }
    weft_status error = WEFT_ERR_INTERNAL;
    CHECK_OK(weft_barrier(comm, NULL));
    CHECK_OK(weft_comm_async_error(comm, &error));
    CHECK(error == WEFT_OK, "the communicator is in error");
    CHECK_STATUS(weft_comm_async_error(comm, NULL), WEFT_ERR_INVALID);
    CHECK_STATUS(weft_comm_abort(NULL), WEFT_ERR_INVALID);
    for (size_t i = 0; i < 64; i++)
        CHECK(a[i] == 0 && b[i] == 0, "element %zu was touched", i);
}

/* ---- ranks that do not agree ------------------------------------------------------------------- */

typedef weft_status (*differing_call)(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                      weft_request **request);

static weft_status other_count(weft_comm *comm, bool odd, int32_t *in, int32_t *out, weft_request **request)
{
    return weft_all_reduce(comm, in, out, odd ? 24 : 8, WEFT_I32, WEFT_SUM, request);
}
static weft_status other_large_count(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                     weft_request **request)
{
    return weft_all_reduce(comm, in, out, odd ? 100000 : 99999, WEFT_I32, WEFT_SUM, request);
}
static weft_status other_type(weft_comm *comm, bool odd, int32_t *in, int32_t *out, weft_request **request)
{
    return weft_all_reduce(comm, in, out, 8, odd ? WEFT_F32 : WEFT_I32, WEFT_SUM, request);
}
static weft_status other_op(weft_comm *comm, bool odd, int32_t *in, int32_t *out, weft_request **request)
{
    return weft_all_reduce(comm, in, out, 8, WEFT_I32, odd ? WEFT_MAX : WEFT_SUM, request);
}
static weft_status other_root(weft_comm *comm, bool odd, int32_t *in, int32_t *out, weft_request **request)
{
    return weft_broadcast(comm, in, out, 8, WEFT_I32, odd, request);
}
static weft_status other_reduce_root(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                     weft_request **request)
{
    return weft_reduce(comm, in, out, 8, WEFT_I32, WEFT_SUM, odd, request);
}
static weft_status other_gather_root(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                     weft_request **request)
{
    return weft_gather(comm, in, out, 8, WEFT_I32, odd, request);
}
static weft_status other_collective(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                    weft_request **request)
{
    return odd ? weft_all_gather(comm, in, out, 8, WEFT_I32, request)
               : weft_all_reduce(comm, in, out, 8, WEFT_I32, WEFT_SUM, request);
}
static weft_status barrier_or_not(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                  weft_request **request)
{
    return odd ? weft_barrier(comm, request) : weft_all_to_all(comm, in, out, 8, WEFT_I32, request);
}
static weft_status other_counts(weft_comm *comm, bool odd, int32_t *in, int32_t *out, weft_request **request)
{
    size_t counts[8] = {5, 5, 5, 5, 5, 5, 5, 5}; /* the third rank's, which is neither's own */
    counts[2] += odd;
    return weft_all_gather_v(comm, in, counts[weft_comm_rank(comm)], out, counts, NULL, WEFT_I32, request);
}
static weft_status other_reduced_counts(weft_comm *comm, bool odd, int32_t *in, int32_t *out,
                                        weft_request **request)
{
    size_t counts[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    counts[2] += odd;
    return weft_reduce_scatter_v(comm, in, out, counts, WEFT_I32, WEFT_SUM, request);
}

static const struct {
    const char *name;
    differing_call call;
    const char *mine, *theirs; /* in the detail */
} differences[] = {
    {"count", other_count, "of 8 ", "of 24 "},
    {"large count", other_large_count, "99999", "100000"},
    {"type", other_type, "i32", "f32"},
    {"operation", other_op, "sum", "max"},
    {"root", other_root, "root 0", "root 1"},
    {"reduce's root", other_reduce_root, "root 0", "root 1"},
    {"gather's root", other_gather_root, "root 0", "root 1"},
    {"collective", other_collective, "all_reduce", "all_gather"},
    {"barrier", barrier_or_not, "all_to_all", "barrier"},
    {"counts", other_counts, "all_gather", "rank 1"},
    {"reduced counts", other_reduced_counts, "reduce_scatter", "rank 1"},
};

typedef struct difference_case {
    size_t which;
    bool blocking;
} difference_case;

/* Rank 1 alone differs. A rank that needs nothing of the others may return, but never all, and all know it
 * at the next call. */
static void disagree(weft_comm *comm, int rank, int ranks, void *context)
{
    const difference_case *c = context;
    int32_t *in = calloc(100000, 4 * sizeof *in), *out = calloc(100000, 4 * sizeof *out);
    weft_request *request = NULL;
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    weft_status status = differences[c->which].call(comm, rank == 1, in, out, c->blocking ? NULL : &request);
    if (status == WEFT_OK)
        status = weft_wait(&request);
    if (status == WEFT_OK)
        status = weft_barrier(comm, NULL);
    bool told =
        CHECK(status == WEFT_ERR_MISMATCH, "%s differs, rank %d: '%s' (%s)", differences[c->which].name, rank,
              weft_status_text(status), status == WEFT_OK ? "" : weft_last_error());
    if (told) {
        CHECK_DETAIL("rank 1 ");
        CHECK_DETAIL(differences[c->which].mine);
        CHECK_DETAIL(differences[c->which].theirs);
        CHECK_STATUS(weft_barrier(comm, NULL), WEFT_ERR_MISMATCH);
        weft_status error;
        CHECK_OK(weft_comm_async_error(comm, &error));
        CHECK(error == WEFT_ERR_MISMATCH, "async_error '%s'", weft_status_text(error));
    }
    weft_request *last = NULL;
    CHECK_STATUS(weft_send(comm, in, 1, WEFT_I32, 0, 0, &last), WEFT_ERR_MISMATCH);
    CHECK(last == NULL, "a request of a call that failed");
    free(in);
    free(out);
}

/* ---- an absent rank ---------------------------------------------------------------------------- */

static void absent(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t one = 1, sum = 0;
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    if (rank == 1) {
        weft_status error = WEFT_OK;
        while (error == WEFT_OK)
            CHECK_OK(weft_comm_async_error(comm, &error));
        CHECK(error == WEFT_ERR_TIMEOUT, "async_error '%s'", weft_status_text(error));
        return;
    }
    CHECK_OK(weft_comm_set_timeout(comm, rank == 0 ? 200 : 2000));
    CHECK_STATUS(weft_all_reduce(comm, &one, &sum, 1, WEFT_I32, WEFT_SUM, NULL), WEFT_ERR_TIMEOUT);
    CHECK_DETAIL("all_reduce");
    CHECK_DETAIL("rank 1");
}

static void absent_message(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t got;
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    if (rank == 0) {
        CHECK_OK(weft_comm_set_timeout(comm, 100));
        CHECK_STATUS(weft_recv(comm, &got, 1, WEFT_I32, 1, 42, NULL, NULL), WEFT_ERR_TIMEOUT);
        CHECK_DETAIL("rank 1");
        CHECK_DETAIL("tag 42");
    } else {
        CHECK_STATUS(weft_recv(comm, &got, 1, WEFT_I32, 0, 1, NULL, NULL), WEFT_ERR_TIMEOUT);
        CHECK_DETAIL("tag 42");
    }
}

/* ---- abort ------------------------------------------------------------------------------------- */

static void *abort_it(void *comm)
{
    usleep(50000); /* so that the others block most of the times; right in any case */
    CHECK_OK(weft_comm_abort(comm));
    return NULL;
}

static void aborted_while_blocked(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    char data[100] = "";
    weft_request *request = NULL;
    pthread_t thread;
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    if (rank == 0) {
        pthread_create(&thread, NULL, abort_it, comm);
        CHECK_STATUS(weft_recv(comm, data, 100, WEFT_U8, ranks - 1, 1, NULL, NULL), WEFT_ERR_ABORTED);
        pthread_join(thread, NULL);
    } else {
        weft_status status = weft_all_reduce(comm, data, data, 100, WEFT_U8, WEFT_SUM, &request);
        CHECK(status == WEFT_OK || status == WEFT_ERR_ABORTED, "'%s'", weft_status_text(status));
        CHECK_STATUS(weft_recv(comm, data, 100, WEFT_U8, 0, 1, NULL, NULL), WEFT_ERR_ABORTED);
        CHECK_DETAIL("abort");
        CHECK_DETAIL("rank 0");
        if (request)
            CHECK_STATUS(weft_wait(&request), WEFT_ERR_ABORTED);
    }
    weft_status error = WEFT_OK;
    CHECK_OK(weft_comm_async_error(comm, &error));
    CHECK(error == WEFT_ERR_ABORTED, "async_error '%s'", weft_status_text(error));
    CHECK_STATUS(weft_barrier(comm, NULL), WEFT_ERR_ABORTED);
    CHECK_STATUS(weft_comm_split(comm, 0, 0, NULL, &comm), WEFT_ERR_ABORTED);
}

/* No call begins any more on the rank that aborted, not even one that would need no other rank. */
static void nothing_after_abort(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_request *request = NULL, *kept = NULL;
    char data[8] = "";
    CHECK_OK(weft_barrier_init(comm, &kept));
    if (rank == ranks - 1)
        CHECK_OK(weft_comm_abort(comm));
    if (rank == ranks - 1) {
        CHECK_STATUS(weft_send(comm, data, 8, WEFT_U8, 0, 0, &request), WEFT_ERR_ABORTED);
        CHECK_DETAIL("abort");
        CHECK(request == NULL, "a request of a call that failed");
        CHECK_STATUS(weft_barrier(comm, &request), WEFT_ERR_ABORTED);
        CHECK_STATUS(weft_start(kept), WEFT_ERR_ABORTED);
    }
    CHECK_STATUS(weft_barrier(comm, NULL), WEFT_ERR_ABORTED);
    CHECK_OK(weft_request_free(&kept));
    CHECK_OK(weft_comm_abort(comm)); /* again is nothing */
}

/* Nor on the others once the news is there, also if the one that aborted had done its part of the call. */
static void nothing_after_news_of_abort(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    weft_request *request = NULL;
    char data[8] = "";
    CHECK_OK(weft_barrier(comm, NULL));
    meet(ranks); /* the error may be faster than the barrier */
    if (rank == 0) {
        CHECK_OK(weft_all_reduce(comm, data, data, 8, WEFT_U8, WEFT_SUM, &request));
        CHECK_OK(weft_comm_abort(comm));
        CHECK_STATUS(weft_wait(&request), WEFT_ERR_ABORTED);
        return;
    }
    while (atomic_load(&comm->engine->notice_count) == 0 && atomic_load(&comm->error) == WEFT_OK)
        usleep(1000);
    CHECK_STATUS(weft_all_reduce(comm, data, data, 8, WEFT_U8, WEFT_SUM, &request), WEFT_ERR_ABORTED);
    CHECK(request == NULL, "a request of a call that failed");
}

/* ---- destroyed with requests under way --------------------------------------------------------- */

typedef struct orphans {
    weft_request *pending[2], *persistent, *started, *complete, *group;
} orphans;

/* The communicator goes first; its requests end with an error, and their handles may still be waited for
 * and freed. */
static void *destroys_first(void *argument)
{
    rank_thread *t = argument;
    weft_comm *comm = NULL;
    orphans o;
    memset(&o, 0, sizeof o);
    char data[6][16] = {""};
    if (!CHECK_OK(weft_comm_create_id(&t->id, t->rank, t->ranks, t->config, &comm)))
        return NULL;
    CHECK_OK(weft_barrier(comm, NULL));
    if (t->rank == 0) {
        bool done = false;
        CHECK_OK(weft_recv(comm, data[0], 16, WEFT_U8, 1, 1, NULL, &o.pending[0]));
        CHECK_OK(weft_recv(comm, data[1], 16, WEFT_U8, 1, 2, NULL, &o.pending[1]));
        CHECK_OK(weft_recv_init(comm, data[2], 16, WEFT_U8, 1, 3, NULL, &o.persistent));
        CHECK_OK(weft_recv_init(comm, data[3], 16, WEFT_U8, 1, 4, NULL, &o.started));
        CHECK_OK(weft_start(o.started));
        CHECK_OK(
            weft_send(comm, data[4], 16, WEFT_U8, 0, 5, &o.complete)); /* small: complete, not waited for */
        CHECK_OK(weft_group_start());
        CHECK_OK(weft_recv(comm, data[5], 16, WEFT_U8, 1, 6, NULL, NULL));
        CHECK_OK(weft_group_end(&o.group));
        CHECK_OK(weft_comm_destroy(comm));
        CHECK_STATUS(weft_wait(&o.pending[0]), WEFT_ERR_ABORTED);
        CHECK_DETAIL("destroyed");
        CHECK_STATUS(weft_test(&o.pending[1], &done), WEFT_ERR_ABORTED);
        CHECK(done && !o.pending[0] && !o.pending[1], "handles are still there");
        CHECK_STATUS(weft_wait(&o.group), WEFT_ERR_ABORTED);
        CHECK_OK(weft_wait(&o.complete));
        CHECK_STATUS(weft_start(o.persistent), WEFT_ERR_ABORTED);
        CHECK_OK(weft_request_free(&o.persistent));
        CHECK_STATUS(weft_wait(&o.started), WEFT_ERR_ABORTED);
        CHECK_OK(weft_request_free(&o.started));
    } else {
        CHECK_OK(weft_comm_destroy(comm));
    }
    return NULL;
}

static void test_destroyed_first(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        rank_thread threads[2];
        weft_unique_id id;
        weft_config config = WEFT_CONFIG_INIT;
        config.transports = tcp ? "tcp" : "shm";
        config.timeout_ms = CHECK_TIMEOUT_MS;
        check_failures = 0;
        assert_int_equal(weft_get_unique_id(&id), WEFT_OK);
        for (int r = 0; r < 2; r++) {
            threads[r] = (rank_thread){.id = id, .rank = r, .ranks = 2, .config = &config};
            pthread_create(&threads[r].thread, NULL, destroys_first, &threads[r]);
        }
        for (int r = 0; r < 2; r++)
            pthread_join(threads[r].thread, NULL);
        assert_int_equal(check_failures, 0);
    }
}

/* ---- fork -------------------------------------------------------------------------------------- */

/* What the child of a fork may not do with what its parent has; how many answers were wrong. */
static int in_the_child(weft_comm *comm, weft_request *pending, weft_request *persistent)
{
    int32_t data = 0;
    bool done;
    return (weft_all_reduce(comm, &data, &data, 1, WEFT_I32, WEFT_SUM, NULL) != WEFT_ERR_USAGE) +
           (strstr(weft_last_error(), "fork") == NULL) +
           (weft_send(comm, &data, 1, WEFT_I32, 0, 0, NULL) != WEFT_ERR_USAGE) +
           (weft_wait(&pending) != WEFT_ERR_USAGE) + (weft_test(&pending, &done) != WEFT_ERR_USAGE) +
           (weft_start(persistent) != WEFT_ERR_USAGE) + (weft_comm_destroy(comm) != WEFT_ERR_USAGE) +
           (weft_progress() != WEFT_OK);
}

static void forked(weft_comm *comm, int rank, int ranks, void *context)
{
    (void)context;
    int32_t got = 0, sum = rank;
    weft_request *pending = NULL, *persistent = NULL;
    CHECK_OK(weft_recv(comm, &got, 1, WEFT_I32, (rank + ranks - 1) % ranks, 1, NULL, &pending));
    CHECK_OK(weft_barrier_init(comm, &persistent));
    if (rank == 0) {
        pid_t child = fork();
        if (child == 0)
            _exit(in_the_child(comm, pending, persistent));
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child, "the child is gone");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %x", (unsigned)status);
    }
    CHECK_OK(weft_all_reduce(comm, &sum, &sum, 1, WEFT_I32, WEFT_SUM, NULL));
    CHECK(sum == ranks * (ranks - 1) / 2, "the sum is %d", sum);
    CHECK_OK(weft_send(comm, &rank, 1, WEFT_I32, (rank + 1) % ranks, 1, NULL));
    CHECK_OK(weft_wait(&pending));
    CHECK(got == (rank + ranks - 1) % ranks, "got %d", got);
    CHECK_OK(weft_start(persistent));
    CHECK_OK(weft_wait(&persistent));
    CHECK_OK(weft_request_free(&persistent));
}

/* ------------------------------------------------------------------------------------------------ */

static void test_arguments(void **state)
{
    (void)state;
    on_ranks(3, "shm", arguments, NULL);
    on_ranks(2, "tcp", arguments, NULL);
    on_ranks(1, "auto", arguments, NULL);
}

static void disagreements(const char *transports, int ranks)
{
    for (size_t k = 0; k < sizeof differences / sizeof *differences; k++)
        for (int blocking = 0; blocking < 2; blocking++) {
            difference_case c = {.which = k, .blocking = blocking};
            if (ranks < 3 &&
                (differences[k].call == other_counts || differences[k].call == other_reduced_counts))
                continue;
            on_ranks(ranks, transports, disagree, &c);
        }
}

static void test_disagreement_shm(void **state)
{
    (void)state;
    disagreements("shm", 2);
    disagreements("shm", 4);
}
static void test_disagreement_tcp(void **state)
{
    (void)state;
    disagreements("tcp", 2);
    disagreements("tcp", 4);
}

/* What stderr says while it runs. */
static char *stderr_of(void (*run)(void))
{
    FILE *file = tmpfile();
    int kept = dup(2);
    fflush(stderr);
    dup2(fileno(file), 2);
    run();
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    long bytes = ftell(file);
    fseek(file, 0, SEEK_END);
    bytes = ftell(file);
    char *text = calloc(1, (size_t)bytes + 1);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)bytes, file), bytes);
    fclose(file);
    fputs(check_failures ? text : "", stderr);
    return text;
}

static void run_absent_shm(void)
{
    check_failures = 0;
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = "shm";
    run_ranks(3, &config, absent, NULL);
}
static void run_absent_tcp(void)
{
    check_failures = 0;
    weft_config config = WEFT_CONFIG_INIT;
    config.transports = "tcp";
    run_ranks(3, &config, absent, NULL);
}

static void test_absent(void **state)
{
    (void)state;
    setenv("WEFT_DUMP", "1", 1);
    for (int tcp = 0; tcp < 2; tcp++) {
        char *text = stderr_of(tcp ? run_absent_tcp : run_absent_shm);
        assert_int_equal(check_failures, 0);
        assert_non_null(strstr(text, "flight recorder"));
        assert_non_null(strstr(text, "all_reduce of 1 i32 sum"));
        assert_non_null(strstr(text, "under way"));
        assert_non_null(strstr(text, "absent: rank 1"));
        free(text);
    }
    setenv("WEFT_DUMP", "0", 1);
}

static void test_absent_message(void **state)
{
    (void)state;
    on_ranks(2, "shm", absent_message, NULL);
    on_ranks(2, "tcp", absent_message, NULL);
}
static void test_abort(void **state)
{
    (void)state;
    on_ranks(3, "shm", aborted_while_blocked, NULL);
    on_ranks(3, "tcp", aborted_while_blocked, NULL);
}
static void test_after_abort(void **state)
{
    (void)state;
    on_ranks(3, "shm", nothing_after_abort, NULL);
    on_ranks(2, "tcp", nothing_after_abort, NULL);
    on_ranks(1, "auto", nothing_after_abort, NULL);
    on_ranks(2, "shm", nothing_after_news_of_abort, NULL);
}

static void test_fork(void **state)
{
    (void)state;
    on_ranks(2, "shm", forked, NULL);
    on_ranks(2, "tcp", forked, NULL);
}

int main(void)
{
    time_limit(180);
    setenv("WEFT_DUMP", "0", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_arguments),
                                       cmocka_unit_test(test_disagreement_shm),
                                       cmocka_unit_test(test_disagreement_tcp),
                                       cmocka_unit_test(test_absent),
                                       cmocka_unit_test(test_absent_message),
                                       cmocka_unit_test(test_abort),
                                       cmocka_unit_test(test_after_abort),
                                       cmocka_unit_test(test_destroyed_first),
                                       cmocka_unit_test(test_fork)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

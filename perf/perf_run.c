/* Runs through all cases in the same order on all ranks, and keeps the results for the JSON on rank 0. */
#include "perf_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perf_json.h"
#include "perf_table.h"
#include "perf_tune.h"

/* ---- before ---- */

void perf_config(const perf_args *args, weft_config *config, char *algorithm)
{
    *config = (weft_config)WEFT_CONFIG_INIT;
    config->transports = args->transport;
    config->lanes = args->lanes;
    config->slice_bytes = (size_t)args->slice_bytes;
    if (args->algorithm == NULL || args->collective < 0)
        return;
    /* Only for what is measured: the exchange of results may need another one. */
    if (strchr(args->algorithm, ':') != NULL)
        snprintf(algorithm, PERF_ALGORITHM_BYTES, "%s", args->algorithm);
    else
        snprintf(algorithm, PERF_ALGORITHM_BYTES, "%s:%s", perf_collective_name(args->collective),
                 args->algorithm);
    config->algorithm = algorithm;
}

int perf_run_failed(const perf_args *args, int rank, weft_status status, const char *what)
{
    char number[32] = "";
    if (rank >= 0)
        snprintf(number, sizeof number, "rank %d: ", rank);
    const char *detail = weft_last_error();
    fprintf(stderr, "%s: %s%s: %s%s%s\n", args->program, number, what, weft_status_text(status),
            detail[0] != 0 ? ": " : "", detail);
    return PERF_FAILED;
}

/* Bytes of memory that this host can still give; UINT64_MAX if it does not say. */
static uint64_t available_bytes(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    uint64_t kilobytes = UINT64_MAX >> 10;
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kilobytes) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kilobytes << 10;
}

/* True if no rank says false. */
static bool all_agree(perf_context *x, bool ok)
{
    double mine = ok ? 0 : 1;
    double *all = malloc((size_t)x->ranks * sizeof *all);
    bool agreed = all != NULL && perf_exchange(x, &mine, 1, all) == WEFT_OK;
    for (int r = 0; agreed && r < x->ranks; r++)
        agreed = all[r] == 0;
    free(all);
    return agreed;
}

bool perf_prepare_buffers(perf_context *x, perf_buffers *b, int collective)
{
    const perf_args *args = x->args;
    perf_case largest = { .collective = collective, .type = WEFT_U8, .rank = x->rank, .ranks = x->ranks,
                          .root = perf_collective_has_root(collective) ? x->rank : -1 };
    perf_case_set_size(&largest, args->max_bytes);
    int slots = args->async > 0 ? args->async : 1;
    bool in_place = args->in_place && perf_collective_has_in_place(collective);
    bool out_of_place = args->out_of_place || !in_place;
    uint64_t needed = perf_buffers_bytes(&largest, slots, in_place, out_of_place);
    int local = x->one_clock ? x->ranks : weft_comm_local_size(x->comm);
    bool speaks = x->one_clock ? x->rank == 0 : weft_comm_local_rank(x->comm) == 0;
    uint64_t available = available_bytes();
    char text[600];
    bool ok = needed <= available / (uint64_t)(local > 0 ? local : 1);
    if (!ok && speaks)
        fprintf(stderr,
                "%s: rank %d: %d rank(s) of this host need %" PRIu64 " MiB each for -e %" PRIu64
                ", and %" PRIu64 " MiB of memory are free; lower -e, --async or the number of ranks\n",
                args->program, x->rank, local, needed >> 20, args->max_bytes, available >> 20);
    if (!all_agree(x, ok))
        return false;
    ok = perf_buffers_create(b, &largest, slots, in_place, out_of_place, args->registered, text, sizeof text);
    if (!ok)
        fprintf(stderr, "%s: rank %d: %s\n", args->program, x->rank, text);
    return all_agree(x, ok);
}

const char *perf_obstacle(const perf_context *x, int collective, weft_algorithm algorithm)
{
    int *host = calloc((size_t)x->ranks, sizeof *host), hosts = weft_comm_hosts(x->comm);
    for (int r = 0; host != NULL && r < x->ranks; r++)
        host[r] = (int)((int64_t)r * hosts / x->ranks);
    bool rooted = perf_collective_has_root(collective) && x->args->root > 0;
    weft_plan_request request = { .collective = (weft_collective)collective, .algorithm = algorithm,
                                  .root = rooted ? x->args->root : 0,
                                  .group = { .ranks = x->ranks, .host = host } };
    const char *why = weft_plan_obstacle(&request);
    free(host);
    return why;
}

uint64_t perf_next_size(const perf_args *args, int collective, weft_type type, uint64_t bytes)
{
    if (!perf_collective_has_data(collective))
        return UINT64_MAX;
    if (args->step_bytes != 0)
        return bytes + args->step_bytes;
    if (bytes == 0)
        return weft_type_bytes(type);
    return bytes > UINT64_MAX / (uint64_t)args->step_factor ? UINT64_MAX
                                                            : bytes * (uint64_t)args->step_factor;
}

/* ---- the sweep ---- */

typedef struct sweep {
    perf_context *x;
    perf_buffers buffers;
    perf_result *results; /* rank 0 with -J */
    size_t count, capacity;
    int64_t wrong;        /* -1: nothing was checked */
    double busbw_sum;
    int64_t measured;
} sweep;

static bool keep_result(sweep *s, const perf_result *r)
{
    s->busbw_sum += r->busbw_GBps;
    s->measured++;
    if (r->wrong >= 0)
        s->wrong = (s->wrong > 0 ? s->wrong : 0) + r->wrong;
    if (s->x->rank != 0 || s->x->args->json_file == NULL)
        return true;
    if (s->count == s->capacity) {
        size_t capacity = s->capacity > 0 ? 2 * s->capacity : 64;
        perf_result *more = realloc(s->results, capacity * sizeof *more);
        if (more == NULL) {
            fprintf(stderr, "%s: out of memory for %zu results; measure fewer sizes\n", s->x->args->program,
                    capacity);
            return false;
        }
        s->results = more;
        s->capacity = capacity;
    }
    s->results[s->count++] = *r;
    return true;
}

/* weft_comm_describe says "ring shm+tcp". */
static void describe(perf_context *x, perf_result *r)
{
    char text[256] = "";
    bool planned = r->c.collective < WEFT_COLLECTIVE_COUNT;
    const char *name = perf_collective_name(planned ? r->c.collective : WEFT_BARRIER);
    weft_comm_describe(x->comm, name, r->c.bytes, text, sizeof text);
    size_t first = strcspn(text, " ");
    const char *second = text + first + strspn(text + first, " ");
    snprintf(r->algorithm, sizeof r->algorithm, "%.*s", planned ? (int)first : 4, planned ? text : "none");
    snprintf(r->transport, sizeof r->transport, "%.*s", (int)strcspn(second, " "), second);
}

static weft_status run_size(sweep *s, perf_case c, uint64_t bytes)
{
    perf_context *x = s->x;
    perf_result results[2];
    bool has_in_place = perf_collective_has_in_place(c.collective);
    bool wanted[2] = { x->args->out_of_place || !has_in_place, x->args->in_place && has_in_place };
    weft_status status = WEFT_OK;
    perf_case_set_size(&c, bytes);
    for (int i = 0; i < 2 && status == WEFT_OK; i++) {
        c.in_place = i == 1;
        if (!wanted[i])
            continue;
        status = perf_measure(x, &s->buffers, &c, &results[i]);
        if (status == WEFT_OK) {
            describe(x, &results[i]);
            if (!keep_result(s, &results[i]))
                status = WEFT_ERR_MEMORY;
        }
    }
    perf_progress(x, NULL);
    if (status == WEFT_OK && x->rank == 0)
        perf_table_row(x, &(perf_row){ wanted[0] ? &results[0] : NULL, wanted[1] ? &results[1] : NULL });
    return status;
}

static weft_status run_sizes(sweep *s, const perf_case *c)
{
    const perf_args *args = s->x->args;
    uint64_t first = perf_collective_has_data(c->collective) ? args->min_bytes : 0;
    uint64_t last = perf_collective_has_data(c->collective) ? args->max_bytes : 0;
    weft_status status = WEFT_OK;
    for (uint64_t bytes = first; bytes <= last && status == WEFT_OK;) {
        char text[160];
        snprintf(text, sizeof text, "# %s %s: %" PRIu64 " of at most %" PRIu64 " bytes",
                 perf_collective_name(c->collective), weft_type_name(c->type), bytes, last);
        perf_progress(s->x, text);
        status = run_size(s, *c, bytes);
        bytes = perf_next_size(args, c->collective, c->type, bytes);
    }
    return status;
}

static bool is_real(weft_type type)
{
    return type == WEFT_F16 || type == WEFT_BF16 || type == WEFT_F32 || type == WEFT_F64 ||
           type == WEFT_F8E4M3 || type == WEFT_F8E5M2;
}

static bool applies(weft_op op, weft_type type)
{
    return !is_real(type) || (op != WEFT_BAND && op != WEFT_BOR && op != WEFT_BXOR);
}

static weft_status run_all(sweep *s)
{
    const perf_args *args = s->x->args;
    bool reduces = perf_collective_reduces(args->collective),
         rooted = perf_collective_has_root(args->collective);
    int first_root = !rooted ? -1 : args->root == PERF_ALL_ROOTS ? 0 : args->root;
    int last_root = rooted && args->root == PERF_ALL_ROOTS ? s->x->ranks - 1 : first_root;
    int types = perf_collective_has_data(args->collective) ? args->type_count : 1;
    weft_status status = WEFT_OK;
    for (int type = 0; type < types && status == WEFT_OK; type++)
        for (int op = 0; op < (reduces ? args->op_count : 1) && status == WEFT_OK; op++)
            for (int root = first_root; root <= last_root && status == WEFT_OK; root++) {
                perf_case c = { .collective = args->collective, .type = args->types[type],
                                .op = reduces ? args->ops[op] : WEFT_SUM, .root = root, .rank = s->x->rank,
                                .ranks = s->x->ranks };
                if (!reduces || applies(c.op, c.type))
                    status = run_sizes(s, &c);
            }
    return status;
}

static int run_sweep(perf_context *x)
{
    sweep s = { .x = x, .wrong = -1 };
    bool ready = perf_prepare_buffers(x, &s.buffers, x->args->collective);
    if (ready && x->rank == 0)
        perf_table_begin(x);
    weft_status status = ready ? run_all(&s) : WEFT_ERR_MEMORY;
    bool written = true;
    if (status == WEFT_OK && x->rank == 0) {
        written = perf_table_end(x, s.wrong, s.measured > 0 ? s.busbw_sum / (double)s.measured : 0);
        if (x->args->json_file != NULL)
            written = perf_json_write(x, s.results, s.count) && written;
    }
    free(s.results);
    perf_buffers_free(&s.buffers);
    return status == WEFT_OK && written && s.wrong <= 0 ? PERF_OK : PERF_FAILED;
}

/* Arguments that can be judged only when the ranks are known. */
static int check_for_group(const perf_context *x)
{
    perf_args args = *x->args;
    weft_algorithm algorithm = WEFT_AUTO;
    args.silent = x->rank != 0;
    if (args.root >= x->ranks)
        return perf_args_error(&args, "-r %d: there are ranks 0 to %d; give one of them", args.root, x->ranks - 1);
    if (args.algorithm == NULL || weft_algorithm_parse(args.algorithm, &algorithm) != WEFT_OK ||
        algorithm == WEFT_AUTO)
        return PERF_OK;
    const char *why = perf_obstacle(x, args.collective, algorithm);
    if (why == NULL)
        return PERF_OK;
    return perf_args_error(&args, "--algorithm %s: %s with %d ranks on %d host%s: it %s; give another",
                           args.algorithm, perf_collective_name(args.collective), x->ranks,
                           weft_comm_hosts(x->comm), weft_comm_hosts(x->comm) == 1 ? "" : "s", why);
}

int perf_run(const perf_args *args, weft_comm *comm, bool one_clock)
{
    static perf_context x; /* too large for the stack */
    x = (perf_context){
        .args = args, .comm = comm, .rank = weft_comm_rank(comm), .ranks = weft_comm_size(comm)
    };
    x.one_clock = one_clock;
    x.on_terminal = x.rank == 0 && isatty(STDERR_FILENO);
    int code = check_for_group(&x);
    if (code != PERF_OK)
        return code;
    bool writable = x.rank != 0 || args->json_file == NULL || perf_json_probe(&x);
    if (!all_agree(&x, writable))
        return PERF_FAILED;
    return args->action == PERF_TUNE ? perf_tune(&x) : run_sweep(&x);
}

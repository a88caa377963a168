/* weft-topo under a launcher: the whole job: hosts, the ranks on each, where they may run, their NICs and rails, and what hosts
 * differ in. Every rank sends its machine to rank 0, which prints. Uses only the public headers. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weft/weft.h>

#include "topo_args.h"

enum { SHOWN_DIFFERENCES = 10 };

typedef struct member {
    char host[TOPO_HOST_BYTES];
    uint64_t bytes;
    int32_t local_size;
} member;

typedef struct job {
    weft_comm *comm;
    int ranks;
    member *member;
    weft_topology **machine; /* of each rank, at rank 0 */
    int *host;               /* number of each rank's host */
} job;

bool topo_is_job(void)
{
    static const char *const variables[] = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "SLURM_STEP_ID"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (getenv(variables[i]))
            return true;
    return false;
}

/* Ranks on one kernel may be in containers with networks of their own, which are hosts to the job. */
void topo_host_text(const weft_topology *t, char text[TOPO_HOST_BYTES])
{
    char network[64] = "", boot[64] = "";
    ssize_t length = readlink("/proc/self/ns/net", network, sizeof network - 1);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    network[length > 0 ? length : 0] = 0;
    if (file) {
        if (!fgets(boot, sizeof boot, file))
            boot[0] = 0;
        fclose(file);
    }
    int host = weft_topology_find(t, "host0");
    snprintf(text, TOPO_HOST_BYTES, "%.60s %.*s %s", host >= 0 ? weft_topology_get_node(t, host)->name : "",
             (int)strcspn(boot, "\n"), boot, network);
}

/* Every rank's machine to rank 0, as Weft's XML. */
static weft_status gather(job *j, const weft_topology *t)
{
    char *text = NULL, *all = NULL;
    size_t bytes = 0, sum = 0, *counts = calloc((size_t)j->ranks, sizeof *counts);
    member own = {.local_size = weft_comm_local_size(j->comm)};
    FILE *stream = open_memstream(&text, &bytes);
    weft_status status = stream && counts ? weft_topology_write(t, WEFT_TOPOLOGY_XML, stream) : WEFT_ERR_MEMORY;
    if (stream)
        fclose(stream);
    topo_host_text(t, own.host);
    own.bytes = status == WEFT_OK ? bytes : 0;
    weft_status sent = weft_all_gather(j->comm, &own, j->member, sizeof own, WEFT_U8, NULL);
    for (int r = 0; r < j->ranks && counts; r++)
        sum += counts[r] = j->member[r].bytes;
    bool root = weft_comm_rank(j->comm) == 0;
    all = root ? malloc(sum + 1) : NULL;
    if (status == WEFT_OK && sent == WEFT_OK && (all || !root))
        status = weft_gather_v(j->comm, text, bytes, all, counts, NULL, WEFT_U8, 0, NULL);
    else
        status = sent != WEFT_OK ? sent : WEFT_ERR_MEMORY;
    for (size_t r = 0, at = 0; root && status == WEFT_OK && r < (size_t)j->ranks; at += counts[r++])
        status = weft_topology_parse(all + at, counts[r], "a rank's machine", &j->machine[r]);
    free(text);
    free(all);
    free(counts);
    return status;
}

static int number_hosts(job *j)
{
    int hosts = 0;
    for (int r = 0; r < j->ranks; r++) {
        j->host[r] = -1;
        for (int other = 0; other < r && j->host[r] < 0; other++)
            if (strcmp(j->member[r].host, j->member[other].host) == 0)
                j->host[r] = j->host[other];
        if (j->host[r] < 0)
            j->host[r] = hosts++;
    }
    return hosts;
}

/* The NUMA node of the first CPU that the rank may use. */
static int place_of(const weft_topology *t, const char **cpus)
{
    *cpus = weft_topology_attribute(t, weft_topology_find(t, "host0"), "allowed_cpus");
    int at = *cpus ? weft_topology_find_cpu(t, (int)strtol(*cpus, NULL, 10)) : -1;
    int numa = weft_topology_enclosing(t, at, WEFT_NODE_NUMA);
    for (int i = 0; numa < 0 && i < weft_topology_node_count(t); i++)
        if (weft_topology_get_node(t, i)->kind == WEFT_NODE_NUMA)
            numa = i;
    return numa;
}

static void print_host(const job *j, int host, const weft_topology *t)
{
    int *end = calloc((size_t)j->ranks, sizeof *end), *nic = calloc((size_t)j->ranks, sizeof *nic), count = 0;
    for (int r = 0; r < j->ranks && end && nic; r++) {
        const char *cpus;
        if (j->host[r] == host)
            end[count++] = place_of(j->machine[r], &cpus);
    }
    printf("host%d %s: %d rank%s\n", host, weft_topology_get_node(t, weft_topology_find(t, "host0"))->name, count,
           count == 1 ? "" : "s");
    bool chosen = end && nic && weft_topology_choose_nics(t, end, count, nic) == WEFT_OK;
    for (int r = 0, k = 0; r < j->ranks && chosen; r++) {
        const char *cpus;
        char where[32], rate[32] = "";
        if (j->host[r] != host)
            continue;
        weft_topology_label(t, place_of(j->machine[r], &cpus), where, sizeof where);
        if (nic[k] >= 0)
            topo_rate_text(weft_topology_nic_bandwidth(t, nic[k]), rate, sizeof rate);
        printf("  rank %-5d %-8s CPUs %-16s", r, where, cpus ? cpus : "?");
        if (nic[k] >= 0)
            printf(" %s rail %d, %s\n", weft_topology_get_node(t, nic[k])->name, weft_topology_rail(t, nic[k]), rate);
        else
            puts(" no NIC");
        if (j->member[r].local_size != count)
            printf("  warning: rank %d shares memory with %d ranks, not with the %d that see this machine: containers, or "
                   "WEFT_HOST_ID\n",
                   r, j->member[r].local_size, count);
        k++;
    }
    free(end);
    free(nic);
}

static void print_difference(void *context, const char *line)
{
    int *shown = context;
    if (strncmp(line + 1, " host", 5) != 0 && (*shown)++ < SHOWN_DIFFERENCES)
        printf("    %s\n", line);
}

static void print_job(const job *j)
{
    int hosts = number_hosts((job *)j), first = 0;
    printf("%d rank%s on %d host%s\n", j->ranks, j->ranks == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s");
    for (int host = 0; host < hosts; host++) {
        int rank = 0, shown = 0;
        while (j->host[rank] != host)
            rank++;
        print_host(j, host, j->machine[rank]);
        if (host == 0)
            first = rank;
        else
            weft_topology_diff(j->machine[first], j->machine[rank], print_difference, &shown);
        if (shown)
            printf("  warning: host%d differs from host0 in %d things%s\n", host, shown,
                   shown > SHOWN_DIFFERENCES ? ", the first are above" : "");
    }
}

int topo_show_job(const weft_topology *t)
{
    job j = {0};
    weft_status status = weft_comm_create_env(NULL, &j.comm);
    if (status == WEFT_OK) {
        j.ranks = weft_comm_size(j.comm);
        j.member = calloc((size_t)j.ranks, sizeof *j.member);
        j.machine = calloc((size_t)j.ranks, sizeof *j.machine);
        j.host = calloc((size_t)j.ranks, sizeof *j.host);
        status = j.member && j.machine && j.host ? gather(&j, t) : WEFT_ERR_MEMORY;
    }
    if (status != WEFT_OK)
        fprintf(stderr, "weft-topo: %s: %s\n", weft_status_text(status), weft_last_error());
    else if (weft_comm_rank(j.comm) == 0)
        print_job(&j);
    for (int r = 0; r < j.ranks && j.machine; r++)
        weft_topology_free(j.machine[r]);
    free(j.member);
    free(j.machine);
    free(j.host);
    weft_comm_destroy(j.comm);
    return status == WEFT_OK ? 0 : TOPO_EXIT_FAILED;
}

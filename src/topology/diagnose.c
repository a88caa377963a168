/* What is wrong with a machine for training: slow links, GPUs far from NICs, missing NVLinks, limits of the system. Each finding
 * has its remedy. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "topology/cpus.h"
#include "topology/graph.h"
#include "topology/rates.h"
#include "topology/route.h"

typedef struct doctor {
    const weft_topology *t;
    void (*found)(void *context, const weft_finding *finding);
    void *context;
    int count;
    weft_finding now; /* being put together */
} doctor;

static void report(doctor *d, weft_finding_level level, int node, const char *remedy, const char *format, ...) WEFT_PRINTF(5, 6);
static void report(doctor *d, weft_finding_level level, int node, const char *remedy, const char *format, ...)
{
    va_list args;
    d->now.level = level;
    d->now.node = node;
    va_start(args, format);
    vsnprintf(d->now.text, sizeof d->now.text, format, args);
    va_end(args);
    snprintf(d->now.remedy, sizeof d->now.remedy, "%s", remedy);
    d->count++;
    d->found(d->context, &d->now);
}

/* "GPU0 (0000:3b:00.0)", "NIC1 (mlx5_0)" */
static const char *who(const doctor *d, int node, char text[128])
{
    char label[32];
    const weft_topology_node *n = weft_topology_get_node(d->t, node);
    weft_topology_label(d->t, node, label, sizeof label);
    const char *more = n->kind == WEFT_NODE_NIC && n->name[0] ? n->name : n->bus_id;
    snprintf(text, 128, *more ? "%s (%s)" : "%s", label, more);
    return text;
}

static weft_node_kind kind_of(const doctor *d, int node)
{
    return d->t->node[node].shown.kind;
}

static double number(const doctor *d, int node, const char *name)
{
    return weft_topology_attribute_number(d->t, node, name, 0);
}

/* ---- PCI links --------------------------------------------------------------------------------- */

static const weft_topology_edge *pci_link_up(const doctor *d, int node)
{
    for (int i = 0; i < weft_topology_degree(d->t, node); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, node, i));
        if (e->kind == WEFT_EDGE_PCI && e->a == node)
            return e;
    }
    return NULL;
}

static void check_link_state(doctor *d, int node)
{
    char name[128];
    double width = number(d, node, "link_width"), widest = number(d, node, "max_link_width");
    double speed = weft_rate_parse_gts(weft_topology_attribute(d->t, node, "link_speed"));
    double fastest = weft_rate_parse_gts(weft_topology_attribute(d->t, node, "max_link_speed"));
    bool gpu = kind_of(d, node) == WEFT_NODE_GPU;
    if (width > 0 && width < widest)
        report(d, WEFT_FINDING_FAULT, node,
               "reseat the card; use a slot with all lanes wired; look for bifurcation of the slot in the firmware setup",
               "%s runs with %g of its %g PCI lanes", who(d, node, name), width, widest);
    else if (gpu && width > 0 && width < 16 && widest == 0)
        report(d, WEFT_FINDING_WARNING, node, "use a slot with 16 lanes, and reseat the card if it is in one",
               "%s runs with %g PCI lanes", who(d, node, name), width);
    if (speed > 0 && speed < fastest)
        report(d, gpu ? WEFT_FINDING_HINT : WEFT_FINDING_WARNING, node,
               gpu ? "idle GPUs lower their speed: look again under load"
                   : "look for a limit of the slot's speed in the firmware setup; reseat the card",
               "%s runs at %g of its %g GT/s", who(d, node, name), speed, fastest);
}

static void check_slot_against_port(doctor *d, int nic)
{
    char name[128];
    const weft_topology_edge *link = pci_link_up(d, nic);
    double ports = weft_topology_nic_bandwidth(d->t, nic);
    if (link && link->source == WEFT_FIGURE_REPORTED && link->bandwidth_Bps < ports * 0.95)
        report(d, WEFT_FINDING_WARNING, nic,
               "move it to a slot with more lanes or of a newer generation, or count on the slot's rate",
               "%s has ports of %.3g GB/s behind a PCI link of %.3g GB/s", who(d, nic, name), ports / 1e9,
               link->bandwidth_Bps / 1e9);
}

/* A switch whose way up is much narrower than a device below it. */
static void check_switch(doctor *d, int bridge)
{
    char name[128];
    const weft_topology_edge *up = pci_link_up(d, bridge);
    double widest = 0;
    for (int i = bridge + 1; i < d->t->nodes; i++) {
        const weft_topology_edge *link = d->t->node[i].shown.parent == bridge ? pci_link_up(d, i) : NULL;
        if (link && link->source == WEFT_FIGURE_REPORTED)
            widest = fmax(widest, link->bandwidth_Bps);
    }
    if (up && up->source == WEFT_FIGURE_REPORTED && up->bandwidth_Bps < widest * 0.5)
        report(d, WEFT_FINDING_WARNING, bridge,
               "look again under load; if it stays, reseat the riser or cable and look for a limit in the firmware setup",
               "%s reaches the processor with %.3g GB/s, and has links of %.3g GB/s below", who(d, bridge, name),
               up->bandwidth_Bps / 1e9, widest / 1e9);
}

/* ---- GPUs -------------------------------------------------------------------------------------- */

static void check_nic_distance(doctor *d, int gpu)
{
    char name[128];
    weft_topology_path path;
    int nic = -1;
    if (weft_topology_choose_nics(d->t, &gpu, 1, &nic) != WEFT_OK || nic < 0)
        return;
    if (weft_topology_find_path(d->t, gpu, nic, &path) == WEFT_OK && path.path_class == WEFT_PATH_P2C)
        return; /* it is made to go by the processor */
    if (weft_route_plain(d->t, gpu, nic, &path) != WEFT_OK)
        return;
    if (path.path_class == WEFT_PATH_SYS)
        report(d, WEFT_FINDING_WARNING, gpu, "put a NIC on the GPU's NUMA node, best behind the same PCI switch",
               "%s has its nearest NIC on another NUMA node", who(d, gpu, name));
    else if (path.path_class == WEFT_PATH_PHB)
        report(d, WEFT_FINDING_HINT, gpu, "a NIC behind the same PCI switch would spare the host bridge",
               "%s reaches its nearest NIC through the host bridge", who(d, gpu, name));
}

static int links_of(const doctor *d, int gpu)
{
    int links = 0;
    for (int i = 0; i < weft_topology_degree(d->t, gpu); i++) {
        const weft_topology_edge *e = weft_topology_get_edge(d->t, weft_topology_edge_of(d->t, gpu, i));
        links += e->kind == WEFT_EDGE_NVLINK || e->kind == WEFT_EDGE_XGMI ? e->links : 0;
    }
    return links;
}

static void check_gpu_links(doctor *d)
{
    char name[128];
    int most = 0;
    for (int i = 0; i < d->t->nodes; i++)
        if (kind_of(d, i) == WEFT_NODE_GPU && links_of(d, i) > most)
            most = links_of(d, i);
    for (int i = 0; i < d->t->nodes; i++) {
        if (kind_of(d, i) != WEFT_NODE_GPU)
            continue;
        const char *row = weft_topology_attribute(d->t, i, "nvlink_fault");
        if (row)
            report(d, WEFT_FINDING_FAULT, i,
                   "a link is down on one side: look at nvidia-smi nvlink --status and reset the GPU; or the file is incomplete",
                   "%s has %s", who(d, i, name), row);
        else if (links_of(d, i) < most)
            report(d, WEFT_FINDING_FAULT, i,
                   "look at nvidia-smi nvlink --status (rocm-smi --showtopo), reset the GPU, and look at the fabric manager",
                   "%s has %d links to others where another GPU has %d", who(d, i, name), links_of(d, i), most);
    }
}

/* ---- NICs and system --------------------------------------------------------------------------- */

static double mtu_of(const doctor *d, int nic)
{
    double mtu = number(d, nic, "mtu");
    for (int i = nic + 1; i < d->t->nodes && mtu == 0; i++)
        if (d->t->node[i].shown.parent == nic && kind_of(d, i) == WEFT_NODE_PORT)
            mtu = number(d, i, "mtu");
    return mtu;
}

static void check_rails(doctor *d)
{
    char name[128], other[128];
    int first = -1, first_mtu = -1;
    for (int i = 0; i < d->t->nodes; i++) {
        const char *state = kind_of(d, i) == WEFT_NODE_PORT ? weft_topology_attribute(d->t, i, "state") : NULL;
        int nic = d->t->node[i].shown.parent;
        if (state && strcmp(state, "down") == 0 && d->t->node[nic].shown.bus_id[0])
            report(d, WEFT_FINDING_HINT, nic, "if it should be up: look at cable, transceiver and the switch's port",
                   "%s: a port is down", who(d, nic, name));
        if (!weft_nic_usable(d->t, i))
            continue;
        double rate = weft_topology_nic_bandwidth(d->t, i), mtu = mtu_of(d, i);
        if (first_mtu >= 0 && mtu > 0 && mtu != mtu_of(d, first_mtu))
            report(d, WEFT_FINDING_WARNING, i, "give all rails the same MTU: ip link set dev NAME mtu SIZE",
                   "%s has MTU %g, %s has %g", who(d, i, name), mtu, who(d, first_mtu, other), mtu_of(d, first_mtu));
        if (first >= 0 && fabs(rate - weft_topology_nic_bandwidth(d->t, first)) > 0.01 * rate)
            report(d, WEFT_FINDING_HINT, i, "leave slow ones out with WEFT_INTERFACES if they are not meant for the job",
                   "%s carries %.3g GB/s, %s carries %.3g GB/s", who(d, i, name), rate / 1e9, who(d, first, other),
                   weft_topology_nic_bandwidth(d->t, first) / 1e9);
        if (mtu > 0 && mtu < 4000 && rate >= 25e9 / 8)
            report(d, WEFT_FINDING_HINT, i, "if the network carries jumbo frames: ip link set dev NAME mtu 9000",
                   "%s has MTU %g at %.3g Gbit/s", who(d, i, name), mtu, rate * 8 / 1e9);
        first = first < 0 ? i : first;
        first_mtu = first_mtu < 0 && mtu > 0 ? i : first_mtu;
    }
}

static bool has_rdma(const doctor *d)
{
    for (int i = 0; i < d->t->nodes; i++)
        if (kind_of(d, i) == WEFT_NODE_PORT && weft_topology_attribute(d->t, i, "link_layer"))
            return true;
    return false;
}

static void check_limits(doctor *d, int host)
{
    double memlock = weft_topology_attribute_number(d->t, host, "memlock", -1), fastest = 0;
    bool gpus = false, rdma = has_rdma(d);
    for (int i = 0; i < d->t->nodes; i++) {
        gpus |= kind_of(d, i) == WEFT_NODE_GPU;
        if (weft_nic_usable(d->t, i))
            fastest = fmax(fastest, weft_topology_nic_bandwidth(d->t, i));
    }
    if (rdma && memlock >= 0 && memlock < (double)(1 << 30))
        report(d, WEFT_FINDING_FAULT, host,
               "ulimit -l unlimited, in the service or in /etc/security/limits.conf: memlock unlimited",
               "only %.4g MB of memory may be locked: RDMA registers more", memlock / (1 << 20));
    double receive = weft_topology_attribute_number(d->t, host, "rmem_max", 1e18),
           send = weft_topology_attribute_number(d->t, host, "wmem_max", 1e18);
    if (fmin(receive, send) < 4 << 20 && fastest >= 10e9 / 8)
        report(d, WEFT_FINDING_WARNING, host, "sysctl -w net.core.rmem_max=16777216 net.core.wmem_max=16777216",
               "sockets may buffer only %.4g KB: too little for %.3g Gbit/s", fmin(receive, send) / 1024, fastest * 8 / 1e9);
    const char *line = weft_topology_attribute(d->t, host, "cmdline");
    if ((gpus || rdma) && weft_topology_attribute(d->t, host, "iommu") && (!line || !strstr(line, "iommu=pt")))
        report(d, WEFT_FINDING_HINT, host,
               "iommu=pt on the kernel's command line; on bare metal switch off ACS on the PCI bridges (or the IOMMU)",
               "an IOMMU translates: GPUs and NICs may reach each other only through the root");
    const char *allowed = weft_topology_attribute(d->t, host, "allowed_cpus"), *all = weft_topology_attribute(d->t, host, "cpus");
    weft_cpus some, every;
    if (allowed && all && weft_cpus_parse_list(allowed, &some) && weft_cpus_parse_list(all, &every) &&
        weft_cpus_count(&some) < weft_cpus_count(&every))
        report(d, WEFT_FINDING_HINT, host, "if that is not meant: the launcher's binding, taskset or the cgroup's cpuset",
               "this process may use %d of %d CPUs (%.100s)", weft_cpus_count(&some), weft_cpus_count(&every), allowed);
}

int weft_topology_diagnose(const weft_topology *t, void (*found)(void *context, const weft_finding *finding), void *context)
{
    doctor d = {.t = t, .found = found, .context = context};
    for (int i = 0; i < t->nodes; i++) {
        weft_node_kind kind = kind_of(&d, i);
        if (kind == WEFT_NODE_GPU || kind == WEFT_NODE_NIC)
            check_link_state(&d, i);
        if (kind == WEFT_NODE_NIC)
            check_slot_against_port(&d, i);
        else if (kind == WEFT_NODE_PCI_BRIDGE)
            check_switch(&d, i);
        else if (kind == WEFT_NODE_GPU)
            check_nic_distance(&d, i);
        else if (kind == WEFT_NODE_HOST)
            check_limits(&d, i);
    }
    check_gpu_links(&d);
    check_rails(&d);
    return d.count;
}

/* weft/topology.h - the map of a machine: a graph of hosts, memory, caches, PCI, NICs, GPUs and the links between them, read from
 * the live machine or from files of other machines; paths, NIC choice and channel search on it.
 *
 * A weft_topology never changes once it is made: any number of threads may read it. Nodes and edges are named by index, 0 ..
 * count - 1; what a function gives out by pointer belongs to the topology and lives as long as it. Bandwidths are payload bytes
 * per second that large transfers reach, in one direction (every link carries them in both at once); latencies are one way. Every
 * figure says where it comes from. Works without a communicator.
 */
#ifndef WEFT_TOPOLOGY_H
#define WEFT_TOPOLOGY_H

#include <weft/weft.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_topology weft_topology;

/* ---- nodes and edges --------------------------------------------------------------------------- */

/* In this order nodes are numbered per kind ("GPU3"): the enum, the name in files, the label that people see. */
#define WEFT_NODE_LIST(X)                                                                              \
    X(WEFT_NODE_HOST, "host", "host")          X(WEFT_NODE_PACKAGE, "package", "package")              \
    X(WEFT_NODE_NUMA, "numa", "NUMA")          X(WEFT_NODE_L3, "l3", "L3-")                            \
    X(WEFT_NODE_CORES, "cores", "cores")       X(WEFT_NODE_PCI_ROOT, "pci_root", "root")               \
    X(WEFT_NODE_PCI_BRIDGE, "pci_bridge", "switch") X(WEFT_NODE_PCI_DEVICE, "pci_device", "pci")       \
    X(WEFT_NODE_NIC, "nic", "NIC")             X(WEFT_NODE_PORT, "port", "port")                       \
    X(WEFT_NODE_GPU, "gpu", "GPU")             X(WEFT_NODE_NVSWITCH, "nvswitch", "NVSwitch")           \
    X(WEFT_NODE_NETWORK, "network", "network")
#define WEFT_NODE_ENUM(name, text, label) name,
typedef enum weft_node_kind { WEFT_NODE_LIST(WEFT_NODE_ENUM) WEFT_NODE_KIND_COUNT } weft_node_kind;
#undef WEFT_NODE_ENUM

/* memory: within a package (caches to memory, NUMA nodes of one package). smp: between packages or NUMA nodes of unknown package.
 * pci: PCI Express, up to the root. bus: root to its NUMA node. nvlink: also to NVSwitch. c2c: GPU to CPU, chip to chip.
 * wire: port to network. inside: NIC to its ports. */
#define WEFT_EDGE_LIST(X)                                                                              \
    X(WEFT_EDGE_MEMORY, "memory") X(WEFT_EDGE_SMP, "smp") X(WEFT_EDGE_BUS, "bus")                      \
    X(WEFT_EDGE_PCI, "pci") X(WEFT_EDGE_NVLINK, "nvlink") X(WEFT_EDGE_XGMI, "xgmi")                    \
    X(WEFT_EDGE_C2C, "c2c") X(WEFT_EDGE_INSIDE, "inside") X(WEFT_EDGE_WIRE, "wire")
#define WEFT_EDGE_ENUM(name, text) name,
typedef enum weft_edge_kind { WEFT_EDGE_LIST(WEFT_EDGE_ENUM) WEFT_EDGE_KIND_COUNT } weft_edge_kind;
#undef WEFT_EDGE_ENUM

/* measured: by running bytes over it. reported: the device or the file says so (link speed x width, port rate). table: the rate
 * that the standard or the model of the part gives. assumed: nothing is known; a usual value. */
#define WEFT_FIGURE_LIST(X)                                                                            \
    X(WEFT_FIGURE_ASSUMED, "assumed") X(WEFT_FIGURE_TABLE, "table")                                    \
    X(WEFT_FIGURE_REPORTED, "reported") X(WEFT_FIGURE_MEASURED, "measured")
#define WEFT_FIGURE_ENUM(name, text) name,
typedef enum weft_figure_source { WEFT_FIGURE_LIST(WEFT_FIGURE_ENUM) WEFT_FIGURE_COUNT } weft_figure_source;
#undef WEFT_FIGURE_ENUM

enum { WEFT_TOPOLOGY_NAME_BYTES = 64, WEFT_BUS_ID_BYTES = 24 };

/* What is the same for all kinds; the rest ("sm", "guid", "gdr", "cpus", ...) are attributes. */
typedef struct weft_topology_node {
    weft_node_kind kind;
    int parent;                         /* where it is: GPU in switch in root in NUMA node in host; -1: host, network */
    int index;                          /* number among its kind, in the order of the machine: the 3 of GPU3 */
    int os_index;                       /* the system's number (NUMA node, GPU device, NIC device), -1: none */
    int count;                          /* cores of a core set, chips of an NVSwitch, else 1 */
    char name[WEFT_TOPOLOGY_NAME_BYTES]; /* the system's name ("mlx5_0") or "" */
    char bus_id[WEFT_BUS_ID_BYTES];     /* PCI address "0000:3b:00.0" or "" */
    uint32_t pci_class;                 /* 0x030200, 0: unknown or none */
    uint32_t vendor, device;            /* PCI ids, 0: unknown or none */
} weft_topology_node;

typedef struct weft_topology_edge {
    weft_edge_kind kind;
    int a, b;                           /* nodes; a link works in both directions */
    int links;                          /* NVLinks or xGMI links bundled in it, lanes of PCI Express; 0: unknown */
    double bandwidth_Bps, latency_ns;
    weft_figure_source source;          /* of the bandwidth */
} weft_topology_edge;

WEFT_API const char *weft_node_kind_name(weft_node_kind kind);
WEFT_API const char *weft_edge_kind_name(weft_edge_kind kind);
WEFT_API const char *weft_figure_source_name(weft_figure_source source);

WEFT_API int weft_topology_node_count(const weft_topology *topology);
WEFT_API int weft_topology_edge_count(const weft_topology *topology);
/* NULL if there is no node or edge of that number. */
WEFT_API const weft_topology_node *weft_topology_get_node(const weft_topology *topology, int node);
WEFT_API const weft_topology_edge *weft_topology_get_edge(const weft_topology *topology, int edge);
/* The edges at a node: how many, and the i-th (0 ..). */
WEFT_API int weft_topology_degree(const weft_topology *topology, int node);
WEFT_API int weft_topology_edge_of(const weft_topology *topology, int node, int i);
/* The text of an attribute, NULL if the node has none of that name. */
WEFT_API const char *weft_topology_attribute(const weft_topology *topology, int node, const char *name);
/* The i-th attribute's name and text; false when i is past the last. */
WEFT_API bool weft_topology_attribute_at(const weft_topology *topology, int node, int i, const char **name, const char **text);
/* The i-th note: what could not be seen, what was repaired or guessed; NULL past the last. */
WEFT_API const char *weft_topology_note(const weft_topology *topology, int i);
/* Where it comes from: "NCCL topology XML", "live", ... */
WEFT_API const char *weft_topology_origin(const weft_topology *topology);

/* "GPU3", "NIC0", "NUMA1", "L3-0" and so on as printed, a system's name ("mlx5_0", "eth0"), or a bus id. -1: there is none. */
WEFT_API int weft_topology_find(const weft_topology *topology, const char *text);
/* What people see: "GPU3", "NIC0". At most `bytes`, with the final 0. */
WEFT_API void weft_topology_label(const weft_topology *topology, int node, char *text, size_t bytes);
/* The smallest node (core set, L3, NUMA node, package, host) that holds this logical CPU; -1: none does. */
WEFT_API int weft_topology_find_cpu(const weft_topology *topology, int cpu);
/* The nearest enclosing node of `kind`, itself included; -1: none. */
WEFT_API int weft_topology_enclosing(const weft_topology *topology, int node, weft_node_kind kind);

/* Proves the graph's invariants: parents come before children and are of a kind that may hold them, edges join two different
 * nodes that exist, figures are finite and positive, indices are numbered without gaps, every end can be reached from its
 * host. WEFT_OK, or WEFT_ERR_INTERNAL with what is wrong. */
WEFT_API weft_status weft_topology_verify(const weft_topology *topology);

WEFT_API void weft_topology_free(weft_topology *topology); /* takes NULL */

/* ---- where it comes from ----------------------------------------------------------------------- */

/* Reads a machine from a file. The format is known from the content: NCCL or RCCL topology XML, hwloc XML (2.x, 3.x), the text
 * of nvidia-smi topo -m, Weft's own XML or JSON. WEFT_ERR_PARSE with "FILE:LINE: reason" when the content is at fault or of a
 * format that is refused (hwloc 1.x, archives, a NCCL graph); WEFT_ERR_SYSTEM when the file cannot be read.
 * On failure *topology is untouched; on success the caller frees it. */
WEFT_API weft_status weft_topology_load(const char *path, weft_topology **topology);
/* The same from memory; `name` stands for the file in messages. */
WEFT_API weft_status weft_topology_parse(const char *text, size_t bytes, const char *name, weft_topology **topology);

typedef struct weft_topology_live {
    size_t size;               /* sizeof(weft_topology_live) */
    const char *root;          /* prefix of /sys and /proc, for tests; NULL or "": the real ones */
    const char *nvml;          /* path of the NVML library; NULL: libnvidia-ml.so.1; "": do not look */
    bool hwloc;                /* let hwloc (loaded when the program runs) read processors and PCI instead of sysfs */
} weft_topology_live;

/* Reads this machine: sysfs, affinity and cgroup of this process, NVML where its library is. `live` may be NULL: defaults. Needs
 * no privileges; what it could not see stands in the notes. Ownership as weft_topology_load. */
WEFT_API weft_status weft_topology_read(const weft_topology_live *live, weft_topology **topology);
/* What a job uses: the file that WEFT_TOPO_FILE names, else this machine; written to WEFT_TOPO_DUMP_FILE if that is set (as XML,
 * as JSON where it ends in .json). */
WEFT_API weft_status weft_topology_discover(weft_topology **topology);

typedef enum weft_topology_format { WEFT_TOPOLOGY_XML, WEFT_TOPOLOGY_JSON, WEFT_TOPOLOGY_NCCL_XML } weft_topology_format;
/* XML and JSON are Weft's own and give the same topology when read again. NCCL_XML is for NCCL_TOPO_FILE: it holds what NCCL
 * knows (NUMA nodes, PCI, GPUs, NICs, NVLink). */
WEFT_API weft_status weft_topology_write(const weft_topology *topology, weft_topology_format format, FILE *stream);

/* What was measured: the figures of an edge, or (edge -1) of the way between two ranks that share a node. */
typedef struct weft_topology_measurement {
    int edge, node;
    double bandwidth_Bps, latency_ns;
} weft_topology_measurement;
/* A copy with these figures in place of what was there, the source said to be measured; of a node they are its attributes
 * measured_Bps and measured_ns. Written to a file that WEFT_TOPO_FILE names, they are what a job predicts times with. The caller
 * frees *copy; WEFT_ERR_INVALID for what does not exist or is no figure. */
WEFT_API weft_status weft_topology_with_measurements(const weft_topology *topology, const weft_topology_measurement *measurement,
                                                     int count, weft_topology **copy);

/* ---- paths ------------------------------------------------------------------------------------- */

/* From near to far. The names are NCCL's; the text says what each means. */
#define WEFT_PATH_LIST(X)                                                                                          \
    X(WEFT_PATH_LOC, "LOC", "the same device, or caches and memory of one NUMA node")                              \
    X(WEFT_PATH_NVL, "NVL", "NVLink or xGMI, directly or through NVSwitch")                                        \
    X(WEFT_PATH_NVB, "NVB", "NVLink through one GPU in between")                                                   \
    X(WEFT_PATH_C2C, "C2C", "GPU to CPU over a chip-to-chip link")                                                 \
    X(WEFT_PATH_PIX, "PIX", "at most one PCI switch")                                                              \
    X(WEFT_PATH_PXB, "PXB", "several PCI switches, no host bridge")                                                \
    X(WEFT_PATH_P2C, "P2C", "GPU to NIC: chip-to-chip link to the CPU, then PCI")                                  \
    X(WEFT_PATH_PXN, "PXN", "GPU to NIC by NVLink to a GPU that is near the NIC")                                  \
    X(WEFT_PATH_PHB, "PHB", "through a PCI host bridge, that is the CPU")                                          \
    X(WEFT_PATH_SYS, "SYS", "through the interconnect between NUMA nodes")                                         \
    X(WEFT_PATH_NET, "NET", "through the network")                                                                 \
    X(WEFT_PATH_NONE, "-", "no way is known")
#define WEFT_PATH_ENUM(name, text, meaning) name,
typedef enum weft_path_class { WEFT_PATH_LIST(WEFT_PATH_ENUM) WEFT_PATH_CLASS_COUNT } weft_path_class;
#undef WEFT_PATH_ENUM
WEFT_API const char *weft_path_class_name(weft_path_class path_class);
WEFT_API const char *weft_path_class_meaning(weft_path_class path_class);

enum { WEFT_PATH_HOPS_MAX = 64 };
typedef struct weft_topology_path {
    weft_path_class path_class;
    int hops;                            /* edges on it; 0 for LOC and NONE */
    int edge[WEFT_PATH_HOPS_MAX];        /* in order from a to b */
    int bottleneck;                      /* the narrowest of them (an edge), -1: none */
    double bandwidth_Bps, latency_ns;    /* of the bottleneck; the sum. 0 for NONE */
} weft_topology_path;

/* The way bytes take between two nodes (GPUs, NICs, ports, NUMA nodes, caches, core sets, PCI devices). WEFT_ERR_INVALID if there
 * is no node of that number; a pair that cannot reach each other is WEFT_OK with class NONE. */
WEFT_API weft_status weft_topology_find_path(const weft_topology *topology, int a, int b, weft_topology_path *path);

/* For each of `count` ends (GPUs; NUMA nodes, L3s or core sets for ranks without a GPU) a NIC: the nearest by path class, hops
 * and bandwidth, and among equally near ones so that the load per bandwidth is even. nic[i] is a NIC node, -1: this machine has
 * no usable one (ports that are down, loopback and virtual interfaces do not count). */
WEFT_API weft_status weft_topology_choose_nics(const weft_topology *topology, const int *end, int count, int *nic);
/* A NIC's rail: its number among the usable NICs in the order of the machine, so that rail r of one host meets rail r of another
 * of the same make. -1: not a usable NIC. */
WEFT_API int weft_topology_rail(const weft_topology *topology, int nic);
/* What the NIC's ports carry together, one direction; 0: not a NIC or down. */
WEFT_API double weft_topology_nic_bandwidth(const weft_topology *topology, int nic);

/* ---- channels ---------------------------------------------------------------------------------- */

typedef enum weft_channel_shape { WEFT_CHANNEL_RING, WEFT_CHANNEL_TREE } weft_channel_shape;

typedef struct weft_channel_request {
    size_t size;                 /* sizeof(weft_channel_request) */
    weft_channel_shape shape;
    const int *end;              /* the nodes to join; NULL: all GPUs, or the NUMA nodes where there is no GPU */
    int ends;
    int channels_max;            /* 0: 32 */
    bool network;                /* each channel enters and leaves the host by a NIC */
} weft_channel_request;

typedef struct weft_channels {
    int count;                   /* channels; 0: the ends cannot be joined */
    int ends;
    double bandwidth_Bps;        /* of each channel */
    double total_Bps;            /* count x bandwidth: what leaves a root (tree) or passes any end (ring) */
    double both_ways_Bps;        /* trees: total when reduction and broadcast stream at once; rings: as total */
    weft_path_class worst;       /* of the hops inside the host */
    weft_path_class worst_network; /* of the hops to a NIC; LOC without network */
    int *order;                  /* [channel * ends + i]: nodes, in ring order, or in an order in which parents come first */
    int *parent;                 /* trees: [channel * ends + i]: place in order of the parent, -1: root; NULL for rings */
    int *nic;                    /* [channel]: where it enters and leaves, -1 without network */
} weft_channels;

/* Searches rings or trees over the ends that together carry most under the capacity of every link: channels of equal bandwidth,
 * over NVLink alone where that joins all ends, each slow link crossed as seldom as possible. The same input gives the same
 * result. A tree is charged for the direction from root to leaves, as NCCL does. The caller frees *channels with
 * weft_channels_free. WEFT_ERR_INVALID for ends that do not exist or are named twice. */
WEFT_API weft_status weft_topology_search(const weft_topology *topology, const weft_channel_request *request,
                                          weft_channels **channels);
WEFT_API void weft_channels_free(weft_channels *channels); /* takes NULL */

/* One result of NCCL's search, from a file that NCCL_GRAPH_DUMP_FILE made. */
typedef struct weft_nccl_graph {
    int id, pattern;             /* NCCL's: 1 balanced tree, 2 split tree, 3 tree, 4 ring, 5 NVLS, 6 collnet */
    int channels;
    bool network;                /* its channels have NICs */
    double intra_Bps, inter_Bps; /* of each channel */
} weft_nccl_graph;
/* Fills at most `room` graphs, *count is how many there are. Errors as weft_topology_load. */
WEFT_API weft_status weft_nccl_graph_load(const char *path, weft_nccl_graph *graph, int room, int *count);

/* ---- what is wrong, and what differs ----------------------------------------------------------- */

typedef enum weft_finding_level { WEFT_FINDING_HINT, WEFT_FINDING_WARNING, WEFT_FINDING_FAULT } weft_finding_level;
typedef struct weft_finding {
    weft_finding_level level;
    int node;                    /* what it is about, -1: the whole machine */
    char text[256], remedy[256];
} weft_finding;
/* Calls `found` for everything that is wrong with this machine for training; returns how many. Live machines are also asked for
 * their limits and socket buffers, which were read when the topology was made. */
WEFT_API int weft_topology_diagnose(const weft_topology *topology, void (*found)(void *context, const weft_finding *finding),
                                    void *context);

/* Calls `differs` with a line of text ("+ GPU8 ...", "- NIC1 ...", "~ GPU0-switch1: 24 GB/s, was 48 GB/s") for each difference of
 * b from a; returns how many; -1: out of memory. Devices are matched by bus id, else by label. */
WEFT_API int weft_topology_diff(const weft_topology *a, const weft_topology *b, void (*differs)(void *context, const char *line),
                                void *context);

#ifdef __cplusplus
}
#endif
#endif

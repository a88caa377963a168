/* Every WEFT_* environment variable: one table. Read once per communicator; nothing else calls getenv for them. */
#ifndef WEFT_SETTINGS_H
#define WEFT_SETTINGS_H

#include "base/base.h"

/* X(field, variable, kind, default as text, help). Kinds: string; level (of the log); count (0 .. 2^31-1); int
 * (-1 .. 2^31-1); bytes (K/M/G/T binary); ms (milliseconds or with suffix ms, s, min, h; "never" is -1); bool
 * (0/1/yes/no/true/false/on/off). "" for a string: not set; an empty variable counts as not set. */
#define WEFT_SETTINGS(X)                                                                                                         \
    X(log, "WEFT_LOG", level, "warn", "what is logged to stderr: error, warn, info, debug, trace")                               \
    X(rendezvous, "WEFT_RENDEZVOUS", string, "", "where ranks meet: tcp://host:port or file:///path")                            \
    X(transports, "WEFT_TRANSPORTS", string, "auto", "auto, or the allowed transports in order: shm,verbs,tcp")                  \
    X(algorithm, "WEFT_ALGORITHM", string, "auto", "algorithm, or collective:algorithm,... (rank 0 decides)")                    \
    X(tuning_file, "WEFT_TUNING_FILE", string, "", "table made by weft-perf --tune (rank 0 decides)")                            \
    X(lanes, "WEFT_LANES", count, "0", "parallel lanes of a schedule, 0: chosen (rank 0 decides)")                               \
    X(slice_bytes, "WEFT_SLICE_BYTES", bytes, "0", "largest slice, 0: chosen (rank 0 decides)")                                  \
    X(interfaces, "WEFT_INTERFACES", string, "", "network interfaces: prefixes, or after = names, to use; after ^: to leave out")\
    X(port_range, "WEFT_PORT_RANGE", string, "", "TCP ports to listen on: low-high")                                             \
    X(sockets, "WEFT_SOCKETS", count, "0", "TCP sockets per peer, 0: chosen")                                                    \
    X(net_plugin, "WEFT_NET_PLUGIN", string, "",                                                                                 \
      "NCCL network plugin of transport plugin: NAME of libnccl-net-NAME.so, or a path")                                         \
    X(net_devices, "WEFT_NET_DEVICES", string, "",                                                                               \
      "its devices: prefixes, after = whole names; default: the fastest, and others on PCI that are as fast")                    \
    X(plugin_path, "WEFT_PLUGIN_PATH", string, "",                                                                               \
      "folders with libweft-transport-NAME.so and libnccl-net-NAME.so, separated by colons")                                     \
    X(ib_hca, "WEFT_IB_HCA", string, "",                                                                                         \
      "RDMA devices: prefixes, =NAME or NAME:PORT, in order, NAME*WEIGHT; or ^ and those to leave out")                          \
    X(ib_gid_index, "WEFT_IB_GID_INDEX", int, "-1", "RDMA: number of the GID, -1: chosen (RoCE v2 and IPv4 first)")              \
    X(ib_pkey, "WEFT_IB_PKEY", count, "0", "RDMA: place of the partition key in the port's table")                               \
    X(ib_tc, "WEFT_IB_TC", count, "0", "RDMA: traffic class; with RoCE v2 four times the DSCP")                                  \
    X(ib_sl, "WEFT_IB_SL", count, "0", "RDMA: service level of InfiniBand")                                                      \
    X(ib_mtu, "WEFT_IB_MTU", count, "0", "RDMA: largest packet, 256 to 4096; 0: what both ports have")                           \
    X(ib_timeout, "WEFT_IB_TIMEOUT", count, "18",                                                                                \
      "RDMA: adapters repeat what is not acknowledged after 4 us * 2^this, six times")                                           \
    X(ib_relaxed, "WEFT_IB_RELAXED", bool, "0", "RDMA: PCI relaxed ordering of writes to registered memory")                     \
    X(host_id, "WEFT_HOST_ID", string, "", "ranks with equal texts may share memory, others may not")                            \
    X(timeout, "WEFT_TIMEOUT", ms, "30min", "how long a collective may take; never: no limit")                                   \
    X(create_timeout, "WEFT_CREATE_TIMEOUT", ms, "5min", "how long creation waits for all ranks")                                \
    X(dead_peer, "WEFT_DEAD_PEER", ms, "10s", "after how long an unreachable host counts as dead")                               \
    X(spin, "WEFT_SPIN_US", int, "-1", "microseconds to spin before sleeping, -1: chosen by cores and ranks")                    \
    X(topology_file, "WEFT_TOPO_FILE", string, "", "machine file (NCCL, RCCL, hwloc or Weft's own) instead of this machine")     \
    X(topology_dump_file, "WEFT_TOPO_DUMP_FILE", string, "", "where the machine is written: XML, or JSON if it ends in .json")   \
    X(cma, "WEFT_CMA", bool, "1", "read other ranks' private buffers by system call, where the kernel permits it")               \
    X(dump_on_error, "WEFT_DUMP", bool, "1", "print the flight recorder to stderr when a collective times out")                  \
    X(library, "WEFT_LIBRARY", string, "", "the libweft.so that the Python package loads")                                       \
    X(mpi_report, "WEFT_MPI_REPORT", bool, "0", "libweft-mpi.so: at the end, which calls Weft served (rank 0 prints)")

#define WEFT_SETTING_TYPE_string const char *
#define WEFT_SETTING_TYPE_level const char *
#define WEFT_SETTING_TYPE_count int64_t
#define WEFT_SETTING_TYPE_int int64_t
#define WEFT_SETTING_TYPE_bytes int64_t
#define WEFT_SETTING_TYPE_ms int64_t
#define WEFT_SETTING_TYPE_bool bool
#define WEFT_SETTING_FIELD(field, variable, kind, text, help) WEFT_SETTING_TYPE_##kind field;
typedef struct weft_settings {
    WEFT_SETTINGS(WEFT_SETTING_FIELD)
    void *storage; /* of the strings */
} weft_settings;

/* Reads the environment; a value that does not parse is WEFT_ERR_PARSE naming variable, value and what is allowed. */
weft_status weft_settings_load(weft_settings *settings);
/* Frees the strings; takes a zeroed one. */
void weft_settings_unload(weft_settings *settings);

/* Parsers, also for command lines: "64K" -> 65536; "10s" -> 10000. The whole text must match. */
weft_status weft_parse_bytes(const char *text, int64_t *bytes);
weft_status weft_parse_ms(const char *text, int64_t *ms);
weft_status weft_parse_int(const char *text, int64_t low, int64_t high, int64_t *value);
weft_status weft_parse_bool(const char *text, bool *value);
/* What WEFT_PLUGIN_PATH says now, "" if nothing: transports are found without a communicator, too. */
const char *weft_settings_plugin_path(void);
/* What WEFT_LOG says now; a value that does not parse counts as the default here. Leaves the error detail alone. */
weft_log_level weft_settings_log_level(void);
#endif

/* What links carry when nobody measured it: payload rates by standard and by model. */
#ifndef WEFT_TOPOLOGY_RATES_H
#define WEFT_TOPOLOGY_RATES_H

#include "topology/graph.h"

#define WEFT_GBPS 1e9 /* bytes per second */

/* One way, by kind of edge. */
double weft_rate_latency_ns(weft_edge_kind kind);
/* "16.0 GT/s PCIe" -> 16; 0: no speed in it. */
double weft_rate_parse_gts(const char *text);
/* What `lanes` lanes of PCI Express at `gts` GT/s carry. */
double weft_rate_pci_Bps(double gts, int lanes);
/* One NVLink of a GPU of this compute capability (80: A100). */
double weft_rate_nvlink_Bps(int sm);
/* Payload of an NVLink whose signalling rate is known. */
double weft_rate_nvlink_raw_Bps(double raw_Bps);
/* One xGMI link of a GPU of this architecture ("gfx90a", "910", "gfx942"). */
double weft_rate_xgmi_Bps(const char *gcn);
/* Between two NUMA nodes that are not known to share a package, by the processor of the node. */
double weft_rate_smp_Bps(const weft_topology *t, int numa);
/* Compute capability of a GPU: what the file says, else by PCI id; 0: unknown. */
int weft_rate_gpu_sm(const weft_topology *t, int gpu);
/* The port rate that a NIC of this PCI id has; 0: unknown. */
double weft_rate_nic_Bps(uint32_t vendor, uint32_t device);
/* The link speed in GT/s that a device of this kind has when it runs at its best; 0: unknown. */
double weft_rate_device_gts(const weft_topology *t, int node);
#endif

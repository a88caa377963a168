/* Tables of rates. All are payload that large transfers reach, which is what a schedule can count on: about three quarters of the
 * coded rate of PCI Express, four fifths of NVLink's. NCCL counts links the same way, so figures compare. */
#include "topology/rates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

double weft_rate_latency_ns(weft_edge_kind kind)
{
    static const double latency[WEFT_EDGE_KIND_COUNT] = {
        [WEFT_EDGE_MEMORY] = 50, [WEFT_EDGE_SMP] = 130, [WEFT_EDGE_BUS] = 100,   [WEFT_EDGE_PCI] = 150,  [WEFT_EDGE_NVLINK] = 300,
        [WEFT_EDGE_XGMI] = 500,  [WEFT_EDGE_C2C] = 300, [WEFT_EDGE_INSIDE] = 10, [WEFT_EDGE_WIRE] = 600,
    };
    return latency[kind];
}

double weft_rate_parse_gts(const char *text)
{
    char *end;
    if (!text)
        return 0;
    double gts = weft_strtod(text, &end);
    return end != text && isfinite(gts) && gts >= 1 && gts <= 1024 ? gts : 0;
}

double weft_rate_pci_Bps(double gts, int lanes)
{
    /* 8b/10b up to 5 GT/s; 128b/130b and later codes beyond. */
    double lane_Bps = gts <= 5 ? gts * 0.075 * WEFT_GBPS : gts * 0.09375 * WEFT_GBPS;
    return lane_Bps * lanes;
}

double weft_rate_nvlink_Bps(int sm)
{
    if (sm >= 100)
        return 40.1 * WEFT_GBPS;
    if (sm >= 90)
        return 20.6 * WEFT_GBPS;
    if (sm == 86 || sm == 87 || sm == 89)
        return 12.0 * WEFT_GBPS; /* bridges of workstation cards: 14 GB/s raw */
    return (sm == 0 || sm >= 70 ? 20.0 : 18.0) * WEFT_GBPS;
}

double weft_rate_nvlink_raw_Bps(double raw_Bps)
{
    return raw_Bps * 0.8;
}

double weft_rate_xgmi_Bps(const char *gcn)
{
    if (gcn && strncmp(gcn, "gfx", 3) == 0)
        gcn += 3;
    if (gcn && (strncmp(gcn, "94", 2) == 0 || strncmp(gcn, "95", 2) == 0))
        return 48 * WEFT_GBPS;
    if (gcn && (strcmp(gcn, "90a") == 0 || strcmp(gcn, "910") == 0))
        return 36 * WEFT_GBPS;
    return 24 * WEFT_GBPS;
}

double weft_rate_smp_Bps(const weft_topology *t, int numa)
{
    const char *vendor = weft_topology_attribute(t, numa, "vendor"), *arch = weft_topology_attribute(t, numa, "arch");
    double model = weft_topology_attribute_number(t, numa, "modelid", 0);
    if (vendor && strcmp(vendor, "AuthenticAMD") == 0)
        return 16 * WEFT_GBPS;
    if (vendor && strcmp(vendor, "GenuineIntel") == 0)
        return (model >= 173 ? 40 : model >= 143 ? 22 : model >= 85 ? 10 : 6) * WEFT_GBPS;
    if (arch && strncmp(arch, "ppc", 3) == 0)
        return 32 * WEFT_GBPS;
    return (arch && (strcmp(arch, "arm64") == 0 || strcmp(arch, "aarch64") == 0) ? 6 : 10) * WEFT_GBPS;
}

int weft_rate_gpu_sm(const weft_topology *t, int gpu)
{
    static const struct {
        uint32_t low, high;
        int sm;
    } models[] = {
        {0x15f0, 0x15ff, 60}, {0x1b00, 0x1dff, 61}, {0x1db0, 0x1dff, 70}, {0x1e00, 0x1fff, 75}, {0x20b0, 0x20ff, 80},
        {0x2200, 0x22ff, 86}, {0x2300, 0x23ff, 90}, {0x2400, 0x25ff, 86}, {0x2600, 0x28ff, 89}, {0x2900, 0x31ff, 100},
    };
    int sm = (int)fmin(fmax(weft_topology_attribute_number(t, gpu, "sm", 0), 0), 10000);
    const weft_topology_node *node = weft_topology_get_node(t, gpu);
    if (node->vendor != 0x10de || sm > 0)
        return sm;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) /* the last that fits is the most special */
        if (node->device >= models[i].low && node->device <= models[i].high)
            sm = models[i].sm;
    return sm;
}

double weft_rate_nic_Bps(uint32_t vendor, uint32_t device)
{
    static const struct {
        uint32_t vendor, device;
        int gbit;
    } models[] = {
        {0x15b3, 0x1013, 100}, {0x15b3, 0x1015, 25},  {0x15b3, 0x1017, 100}, {0x15b3, 0x1019, 100}, {0x15b3, 0x101b, 200},
        {0x15b3, 0x101d, 200}, {0x15b3, 0x1021, 400}, {0x15b3, 0x1023, 800}, {0x1d0f, 0xefa0, 100}, {0x1d0f, 0xefa1, 100},
        {0x1d0f, 0xefa2, 200}, {0x17db, 0x0501, 200}, {0x8086, 0x1572, 10},  {0x8086, 0x1563, 10},  {0x8086, 0x1592, 100},
    };
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        if (models[i].vendor == vendor && models[i].device == device)
            return models[i].gbit * WEFT_GBPS / 8;
    return 0;
}

double weft_rate_device_gts(const weft_topology *t, int node)
{
    const weft_topology_node *n = weft_topology_get_node(t, node);
    if (n->kind == WEFT_NODE_GPU) {
        int sm = weft_rate_gpu_sm(t, node);
        return sm >= 90 && n->vendor == 0x10de ? 32 : sm >= 80 && n->vendor == 0x10de ? 16 : sm > 0 ? 8 : 0;
    }
    double port_Bps = n->kind == WEFT_NODE_NIC ? weft_rate_nic_Bps(n->vendor, n->device) : 0;
    if (port_Bps == 0)
        return 0;
    for (double gts = 8; gts <= 64; gts *= 2)
        if (weft_rate_pci_Bps(gts, 16) >= port_Bps)
            return gts;
    return 64;
}

/* A library with NVML's interface and two made-up GPUs, joined by four NVLinks and each with two to an NVSwitch chip, for
 * tests/multi/topo_live.sh: no machine of this project has the real one. */
#include <stdio.h>
#include <string.h>

typedef struct pci_info {
    char legacy[16];
    unsigned domain, bus, device, ids, subsystem_ids;
    char bus_id[32];
} pci_info;

static int gpus[2] = {0, 1};

static int fill(pci_info *pci, unsigned bus)
{
    memset(pci, 0, sizeof *pci);
    pci->bus = bus;
    pci->ids = 0x20b210de;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", bus);
    return 0;
}

int nvmlInit_v2(void)
{
    return 0;
}

int nvmlShutdown(void)
{
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = 2;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &gpus[index];
    return index < 2 ? 0 : 2;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci_info *pci)
{
    return fill(pci, *(int *)device ? 0x84 : 0x04);
}

int nvmlDeviceGetName(void *device, char *name, unsigned length)
{
    snprintf(name, length, "Made-up GPU %d", *(int *)device);
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    (void)device;
    *major = 8;
    *minor = 0;
    return 0;
}

/* Links 0 to 3 go to the other GPU, 4 and 5 to the chip, 6 is down, others are not there. */
int nvmlDeviceGetNvLinkState(void *device, unsigned link, int *active)
{
    (void)device;
    *active = link < 6;
    return link < 7 ? 0 : 3;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned link, pci_info *pci)
{
    return fill(pci, link >= 4 ? 0xc0 : *(int *)device ? 0x04 : 0x84);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type)
{
    (void)device;
    *type = link >= 4 ? 2 : 0;
    return 0;
}

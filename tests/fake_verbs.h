/* A libibverbs of the test's own: RDMA devices that exist in this process only, with reliable queue pairs between them, shared
 * receive queues, registrations that are checked, events. What is posted is carried out some time later, when somebody polls or
 * waits. It leaves out what the verbs transport does not use. */
#ifndef WEFT_FAKE_VERBS_H
#define WEFT_FAKE_VERBS_H

#include <stdbool.h>
#include <stdint.h>

/* The only descriptor that these devices take for a dma-buf. */
enum { FAKE_DMABUF = 12345 };

/* From now on the transport sees `devices` devices, fake0 ... with one Ethernet port each; 0: the real library again. */
void fake_verbs_use(int devices);
/* Their ports are of InfiniBand: local identifiers (7 and on), one GID with the GUID, no IP interface. */
void fake_verbs_infiniband(void);
/* Their shared receive queues have room for so many buffers at most. */
void fake_verbs_receive_queue_limit(int most);
/* Since then: how often a message found no receive buffer, and bytes that were sent from a device. */
uint64_t fake_verbs_not_ready(void);
uint64_t fake_verbs_sent(int device);
int fake_verbs_times_opened(int device);
/* Receive buffers that wait for a message. */
int fake_verbs_posted_buffers(void);
/* Devices, queue pairs, registrations and the like that are open. */
int fake_verbs_open_objects(void);
int fake_verbs_registrations(void);
/* Bytes of receive buffers that are registered. */
uint64_t fake_verbs_registered_bytes(void);
/* The device's port reports that it went down; the device, that it is broken. */
void fake_verbs_port_down(int device);
void fake_verbs_device_fatal(int device);
/* How the last queue pair was connected, and what the last registration permits (enum ibv_access_flags). */
typedef struct fake_verbs_path {
    int traffic_class, service_level, gid_index, mtu, pkey_index, timeout, retries, lid, global;
} fake_verbs_path;
fake_verbs_path fake_verbs_last_path(void);
unsigned fake_verbs_last_access(void);
/* From now on registering fails, or not. */
void fake_verbs_refuse_registration(bool refuse);
/* From now on no device knows the memory that its peers write to, as when their process has been killed; or does. */
void fake_verbs_lose_memory(bool lose);

#endif

/* Another process's private memory, read and written by system call (Linux's cross-memory attach, process_vm_readv): one copy
 * instead of two through shared memory, where the kernel permits it. Who may touch what when is the caller's matter. */
#ifndef WEFT_PEER_H
#define WEFT_PEER_H

#include "base/base.h"

/* What a process tells the others of itself, in shared memory. */
typedef struct weft_peer_identity {
    int32_t pid;
    uint32_t uid, gid;
    uint64_t pid_namespace, user_namespace;
    uint64_t proof_address, proof; /* where this process keeps a random number, and the number */
    _Atomic uint32_t written;
} weft_peer_identity;

/* Fills the own one; not `willing`: others must not try. */
void weft_peer_introduce(weft_peer_identity *own, bool willing);

typedef enum weft_peer_verdict { WEFT_PEER_UNKNOWN, WEFT_PEER_YES, WEFT_PEER_NO } weft_peer_verdict;
/* May this process touch that one's memory? Tried on the proof; UNKNOWN until it has introduced itself. YES also means that the
 * two are alike in all that decides it, so that what one may the other may too. */
weft_peer_verdict weft_peer_try(const weft_peer_identity *own, const weft_peer_identity *peer);

/* Moves bytes between memory here and an address there. Of the own process: a plain copy. False: errno says why. */
bool weft_peer_read(const weft_peer_identity *peer, void *here, uint64_t there, size_t bytes);
bool weft_peer_write(const weft_peer_identity *peer, const void *here, uint64_t there, size_t bytes);

#endif

/* Cross-memory attach: introducing, trying, moving. */
#define _GNU_SOURCE
#include "transport/peer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static uint64_t proof;

static void make_proof(void)
{
    proof = weft_random64() | 1;
}

/* Number of a namespace of this process, 0: unknown. */
static uint64_t namespace_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

void weft_peer_introduce(weft_peer_identity *own, bool willing)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_proof);
    own->pid = getpid();
    own->uid = geteuid();
    own->gid = getegid();
    own->pid_namespace = namespace_of("/proc/self/ns/pid");
    own->user_namespace = namespace_of("/proc/self/ns/user");
    own->proof_address = (uintptr_t)&proof;
    own->proof = willing ? proof : 0;
    /* release: what stands above is whole (partner: weft_peer_try) */
    atomic_store_explicit(&own->written, 1, memory_order_release);
}

weft_peer_verdict weft_peer_try(const weft_peer_identity *own, const weft_peer_identity *peer)
{
    if (!atomic_load_explicit(&peer->written, memory_order_acquire))
        return WEFT_PEER_UNKNOWN;
    bool alike = own->uid == peer->uid && own->gid == peer->gid && own->pid_namespace &&
                 own->pid_namespace == peer->pid_namespace && own->user_namespace &&
                 own->user_namespace == peer->user_namespace && own->proof && peer->proof;
    uint64_t read = 0;
    return alike && weft_peer_read(peer, &read, peer->proof_address, sizeof read) && read == peer->proof ? WEFT_PEER_YES
                                                                                                         : WEFT_PEER_NO;
}

typedef ssize_t (*transfer)(pid_t pid, const struct iovec *local, unsigned long local_count, const struct iovec *remote,
                            unsigned long remote_count, unsigned long flags);

static bool move(transfer call, const weft_peer_identity *peer, char *here, uint64_t there, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        struct iovec local = {here + done, bytes - done}, remote = {(void *)(uintptr_t)(there + done), bytes - done};
        ssize_t n = call(peer->pid, &local, 1, &remote, 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : EFAULT;
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* Threads of one process: the address is this process's. A fork leaves the proof the same in both. */
static bool is_here(const weft_peer_identity *peer)
{
    return peer->proof_address == (uintptr_t)&proof && peer->proof == proof && peer->pid == getpid();
}

bool weft_peer_read(const weft_peer_identity *peer, void *here, uint64_t there, size_t bytes)
{
    if (is_here(peer)) {
        memcpy(here, (const void *)(uintptr_t)there, bytes);
        return true;
    }
    return move(process_vm_readv, peer, here, there, bytes);
}

bool weft_peer_write(const weft_peer_identity *peer, const void *here, uint64_t there, size_t bytes)
{
    if (is_here(peer)) {
        memcpy((void *)(uintptr_t)there, here, bytes);
        return true;
    }
    return move(process_vm_writev, peer, (char *)(uintptr_t)here, there, bytes);
}

/* Files in memory: limits that would kill the process, sandboxes, seals. */
#define _GNU_SOURCE
#include "transport/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static bool is_refusal(int error)
{
    return error == ENOSYS || error == EPERM || error == EACCES;
}

bool weft_memfd_refused(void)
{
    int fd = memfd_create("weft", MFD_CLOEXEC);
    if (fd < 0)
        return is_refusal(errno);
    close(fd);
    return false;
}

weft_status weft_memfd_create(const char *name, size_t bytes, int *fd)
{
    /* Beyond RLIMIT_FSIZE ftruncate would not just fail but raise SIGXFSZ. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "%s: %zu bytes of shared memory are more than the limit of file sizes, %llu (ulimit -f)", name, bytes,
                         (unsigned long long)limit.rlim_cur);
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0)
        return weft_fail_errno(is_refusal(errno) ? WEFT_ERR_UNSUPPORTED : WEFT_ERR_SYSTEM,
                               "%s: memfd_create of shared memory (ulimit -n? a sandbox?)", name);
    if (ftruncate(made, (off_t)bytes) != 0) {
        weft_status status = weft_fail_errno(errno == ENOMEM ? WEFT_ERR_MEMORY : WEFT_ERR_SYSTEM,
                                             "%s: making shared memory of %zu bytes", name, bytes);
        close(made);
        return status;
    }
    /* A truncated file would be SIGBUS for all who mapped it. Where sealing is refused, that is only less safe. */
    (void)fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    *fd = made;
    return WEFT_OK;
}

/* A file in memory, for what the processes of a host share: nothing lies in a file system, and the kernel frees it with the
 * last process. */
#ifndef WEFT_MEMFD_H
#define WEFT_MEMFD_H

#include "base/base.h"

/* Of that size, zeroed, which nobody can change any more. The name is seen in /proc/PID/maps and comes first in the error's
 * detail. WEFT_ERR_UNSUPPORTED: this process may not have it. */
weft_status weft_memfd_create(const char *name, size_t bytes, int *fd);
/* Such files are refused to this process, whatever their size: by a sandbox, say. errno says how. */
bool weft_memfd_refused(void);
#endif

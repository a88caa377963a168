/* A process-wide table of the shared memory that is mapped: ranks that are threads of one process see one mapping, which saves
 * address space and lets TSan see the protocols in it. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "transport/host_internal.h"

typedef struct mapping {
    struct mapping *next;
    uint64_t id;
    void *address;
    size_t bytes;
    int references;
} mapping;

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static mapping *table; /* short: a few segments per communicator */

static weft_status map_new(int fd, size_t bytes, void **address)
{
    struct stat file;
    if (fd >= 0 && fstat(fd, &file) != 0)
        return weft_fail_errno(WEFT_ERR_SYSTEM, "looking at the shared memory that a peer sent");
    if (fd >= 0 && (uint64_t)file.st_size < bytes)
        return weft_fail(WEFT_ERR_INTERNAL, "shared memory from a peer has %lld bytes, not %zu",
                         (long long)file.st_size, bytes);
    int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        return weft_fail_errno(errno == ENOMEM ? WEFT_ERR_MEMORY : WEFT_ERR_SYSTEM,
                               "mapping %zu bytes of shared memory (ulimit -v, vm.max_map_count?)", bytes);
    *address = p;
    return WEFT_OK;
}

weft_status weft_shared_map(uint64_t id, int fd, size_t bytes, void **address)
{
    weft_status status = WEFT_OK;
    pthread_mutex_lock(&table_lock);
    mapping *m = table;
    while (m && m->id != id)
        m = m->next;
    if (!m) {
        m = weft_alloc(sizeof(*m));
        if (!m)
            status = weft_fail(WEFT_ERR_MEMORY, "no memory to note a mapping");
        else if ((status = map_new(fd, bytes, &m->address)) != WEFT_OK)
            weft_free(m);
        else {
            m->id = id;
            m->bytes = bytes;
            m->next = table;
            table = m;
        }
    }
    if (status == WEFT_OK) {
        m->references++;
        *address = m->address;
    }
    pthread_mutex_unlock(&table_lock);
    return status;
}

void weft_shared_unmap(uint64_t id)
{
    pthread_mutex_lock(&table_lock);
    mapping **link = &table;
    while (*link && (*link)->id != id)
        link = &(*link)->next;
    mapping *m = *link;
    if (m && --m->references == 0) {
        *link = m->next;
        munmap(m->address, m->bytes);
        weft_free(m);
    }
    pthread_mutex_unlock(&table_lock);
}

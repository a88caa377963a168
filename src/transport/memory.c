/* Memory that other processes of this host may map: allocated as shared memory, or moved into it at the
 * addresses it has. Keeps the process-wide table that tells where a range lies. Sending descriptors to
 * peers is the host's. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "transport/memfd.h"
#include "transport/memory.h"
#include "transport/numa.h"

enum { HUGE_PAGE = 2 << 20 };

typedef struct memory {
    uintptr_t base; /* as the caller knows it */
    size_t bytes;
    uintptr_t start; /* the shared pages: start .. start + mapped; mapped == 0 while it is being moved */
    size_t mapped;
    uint64_t file_start; /* offset of `start` in the memfd: congruent to it, so that huge pages fit */
    uint64_t id;
    int fd;
    int holds;
    bool registered;     /* not allocated */
    struct memory *next; /* in `freed` */
} memory;

static pthread_rwlock_t table_lock = PTHREAD_RWLOCK_INITIALIZER;
static memory **table; /* by base */
static size_t table_count, table_capacity;
static _Atomic size_t table_size; /* == table_count, for those who find nothing without the lock */
static uint64_t ended[WEFT_MEMORY_ENDED];
static _Atomic uint64_t ended_count; /* written under the lock */
static memory *freed;             /* freed but still held by a rank of this process */

/* ---- table, with the lock held ---- */

/* Index of the first entry whose base is above `address`. */
static size_t table_above(uintptr_t address)
{
    size_t low = 0, high = table_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table[middle]->base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static weft_status table_insert(memory *m)
{
    size_t at = table_above(m->base);
    const memory *before = at > 0 ? table[at - 1] : NULL, *after = at < table_count ? table[at] : NULL;
    if (before && before->base + before->bytes > m->base)
        return weft_fail(WEFT_ERR_INVALID,
                         "%zu bytes at %p overlap the %zu bytes at %p that weft knows already", m->bytes,
                         (void *)m->base, before->bytes, (void *)before->base);
    if (after && m->base + m->bytes > after->base)
        return weft_fail(WEFT_ERR_INVALID,
                         "%zu bytes at %p overlap the %zu bytes at %p that weft knows already", m->bytes,
                         (void *)m->base, after->bytes, (void *)after->base);
    if (table_count == table_capacity) {
        size_t capacity = table_capacity ? table_capacity * 2 : 16;
        memory **bigger = weft_realloc(table, capacity * sizeof(*bigger));
        if (!bigger)
            return weft_fail(WEFT_ERR_MEMORY, "no memory to note a shared buffer");
        table = bigger;
        table_capacity = capacity;
    }
    memmove(table + at + 1, table + at, (table_count - at) * sizeof(*table));
    table[at] = m;
    table_count++;
    atomic_store_explicit(&table_size, table_count, memory_order_release);
    return WEFT_OK;
}

static memory *table_at(const void *base)
{
    size_t above = table_above((uintptr_t)base);
    return above > 0 && table[above - 1]->base == (uintptr_t)base ? table[above - 1] : NULL;
}

static void table_remove(const memory *m)
{
    uint64_t number = atomic_load_explicit(&ended_count, memory_order_relaxed);
    ended[number % WEFT_MEMORY_ENDED] = m->id;
    atomic_store_explicit(&ended_count, number + 1, memory_order_release);
    size_t at = table_above(m->base) - 1;
    memmove(table + at, table + at + 1, (table_count - at - 1) * sizeof(*table));
    table_count--;
    atomic_store_explicit(&table_size, table_count, memory_order_release);
    if (table_count == 0) {
        weft_free(table);
        table = NULL;
        table_capacity = 0;
    }
}

bool weft_memory_any(void)
{
    return atomic_load_explicit(&table_size, memory_order_acquire) > 0;
}

bool weft_memory_find_inner(const void *pointer, size_t bytes, weft_memory_place *place, size_t *head, size_t *tail)
{
    /* The caller's own buffers were entered by calls that happened before this one. */
    if (atomic_load_explicit(&table_size, memory_order_acquire) == 0)
        return false;
    uintptr_t at = (uintptr_t)pointer;
    bool found = false;
    pthread_rwlock_rdlock(&table_lock);
    size_t above = table_above(at);
    const memory *m = above > 0 ? table[above - 1] : NULL;
    if (m && m->mapped && at - m->base < m->bytes && bytes <= m->bytes - (at - m->base)) {
        uintptr_t start = m->start, end = m->start + m->mapped;
        *head = at < start ? start - at : 0;
        *tail = at + bytes > end ? at + bytes - end : 0;
        found = at < end && *head <= bytes && *head + *tail <= bytes;
        *place = (weft_memory_place){m->id, m->file_start + (at - start), m->file_start + m->mapped, m->fd, start, m->mapped};
    }
    pthread_rwlock_unlock(&table_lock);
    return found;
}

bool weft_memory_find(const void *pointer, size_t bytes, weft_memory_place *place)
{
    size_t head, tail;
    return weft_memory_find_inner(pointer, bytes, place, &head, &tail) && head == 0 && tail == 0;
}

size_t weft_memory_ended(uint64_t *seen, uint64_t *ids, size_t room)
{
    uint64_t count = atomic_load_explicit(&ended_count, memory_order_acquire);
    if (count == *seen)
        return 0;
    pthread_rwlock_rdlock(&table_lock);
    if (count - *seen > WEFT_MEMORY_ENDED)
        *seen = count - WEFT_MEMORY_ENDED;
    size_t n = 0;
    while (*seen < count && n < room)
        ids[n++] = ended[(*seen)++ % WEFT_MEMORY_ENDED];
    pthread_rwlock_unlock(&table_lock);
    return n;
}

void *weft_memory_hold(uint64_t memory_id)
{
    void *address = NULL;
    pthread_rwlock_wrlock(&table_lock);
    for (size_t i = 0; i < table_count && !address; i++)
        if (table[i]->id == memory_id && table[i]->mapped) {
            table[i]->holds++;
            address = (void *)(table[i]->start - table[i]->file_start);
        }
    pthread_rwlock_unlock(&table_lock);
    return address;
}

static void unmap_and_free(memory *m)
{
    munmap((void *)m->start, m->mapped);
    close(m->fd);
    weft_free(m);
}

void weft_memory_release(uint64_t memory_id)
{
    pthread_rwlock_wrlock(&table_lock);
    for (size_t i = 0; i < table_count; i++)
        if (table[i]->id == memory_id)
            table[i]->holds--;
    for (memory **link = &freed; *link; link = &(*link)->next) {
        memory *m = *link;
        if (m->id != memory_id)
            continue;
        if (--m->holds == 0) {
            *link = m->next;
            unmap_and_free(m);
        }
        break;
    }
    pthread_rwlock_unlock(&table_lock);
}

/* ---- shared and private pages ---- */

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* Maps `bytes` anywhere at an address congruent to `like` modulo a huge page. fd -1: private anonymous. */
static weft_status map_congruent(uintptr_t like, size_t bytes, int fd, uint64_t offset, void **out)
{
    size_t reserve;
    void *area = MAP_FAILED;
    if (!__builtin_add_overflow(bytes, (size_t)HUGE_PAGE, &reserve))
        area = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return weft_fail_errno(WEFT_ERR_MEMORY, "no address space for %zu bytes", bytes);
    uintptr_t at = (uintptr_t)area + ((like - (uintptr_t)area) & (HUGE_PAGE - 1));
    int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *p = mmap((void *)at, bytes, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
    if (p == MAP_FAILED) {
        weft_status status = weft_fail_errno(WEFT_ERR_MEMORY, "mapping %zu bytes", bytes);
        munmap(area, reserve);
        return status;
    }
    /* What is left of the reservation on both sides. */
    if (at > (uintptr_t)area)
        munmap(area, at - (uintptr_t)area);
    uintptr_t end = at + bytes, area_end = (uintptr_t)area + reserve;
    if (area_end > end)
        munmap((void *)end, area_end - end);
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* where allowed; else ordinary pages do */
    *out = p;
    return WEFT_OK;
}

/* ---- allocating ---- */

weft_status weft_mem_alloc(size_t bytes, void **out)
{
    weft_clear_error();
    if (!out)
        return weft_fail(WEFT_ERR_INVALID, "weft_mem_alloc: memory is NULL");
    size_t page = page_bytes();
    if (bytes > (size_t)INT64_MAX - HUGE_PAGE)
        return weft_fail(WEFT_ERR_MEMORY, "weft_mem_alloc: %zu bytes are more than there can be", bytes);
    size_t mapped = weft_round_up(bytes ? bytes : 1, page);
    int fd = -1;
    void *p = NULL;
    memory *m = weft_alloc(sizeof(*m));
    weft_status status =
        m ? weft_memfd_create("weft-buffer", mapped, &fd) : weft_fail(WEFT_ERR_MEMORY, "no memory to note a shared buffer");
    if (status == WEFT_OK)
        status = map_congruent(0, mapped, fd, 0, &p);
    if (status == WEFT_OK) {
        weft_numa_prefer(p, mapped);
        *m = (memory){.base = (uintptr_t)p,
                      .bytes = mapped,
                      .start = (uintptr_t)p,
                      .mapped = mapped,
                      .id = weft_random64(),
                      .fd = fd};
        pthread_rwlock_wrlock(&table_lock);
        status = table_insert(m);
        pthread_rwlock_unlock(&table_lock);
    }
    if (status == WEFT_OK) {
        *out = p;
        return WEFT_OK;
    }
    if (p)
        munmap(p, mapped);
    if (fd >= 0)
        close(fd);
    weft_free(m);
    return weft_fail_context(status, "weft_mem_alloc of %zu bytes", bytes);
}

weft_status weft_mem_free(void *base)
{
    weft_clear_error();
    if (!base)
        return WEFT_OK;
    weft_status status = WEFT_OK;
    pthread_rwlock_wrlock(&table_lock);
    memory *m = table_at(base);
    if (!m) {
        status = weft_fail(WEFT_ERR_INVALID,
                           "weft_mem_free: %p did not come from weft_mem_alloc, or was freed", base);
    } else if (m->registered) {
        status = weft_fail(WEFT_ERR_INVALID,
                           "weft_mem_free: %p was registered; weft_mem_deregister ends that", base);
    } else {
        table_remove(m);
        if (m->holds == 0) {
            unmap_and_free(m);
        } else {
            m->next = freed;
            freed = m;
        }
    }
    pthread_rwlock_unlock(&table_lock);
    return status;
}

/* ---- registering ---- */

/* Is all of the range private, anonymous, readable and writable memory? Else why not. */
static const char *obstacle(uintptr_t start, uintptr_t end)
{
    const char *reason = "not all of it is mapped";
    FILE *f = fopen("/proc/self/maps", "re");
    if (!f)
        return "/proc/self/maps cannot be read";
    char line[512];
    bool whole_line = true;
    while (start < end && fgets(line, sizeof(line), f)) {
        bool continued = !whole_line;
        whole_line = strchr(line, '\n') != NULL;
        unsigned long low, high, inode;
        char permissions[8];
        int name_at = 0;
        if (continued ||
            sscanf(line, "%lx-%lx %7s %*s %*s %lu %n", &low, &high, permissions, &inode, &name_at) < 4 ||
            high <= start)
            continue;
        if (low > start)
            break;
        if (strcmp(permissions, "rw-p") != 0)
            reason = "not all of it is private, readable and writable";
        else if (inode != 0 || line[name_at] == '/')
            reason = "some of it is a mapped file";
        else if (strncmp(line + name_at, "[stack", 6) == 0)
            reason = "it lies on the stack";
        else {
            start = high;
            continue;
        }
        break;
    }
    fclose(f);
    if (start < end)
        return reason;
    return NULL;
}

/* The same addresses backed by `area` from now on, which is unmapped where it was. Both mappings are
 * `bytes` long. */
static weft_status move_over(void *area, uintptr_t start, size_t bytes)
{
    if (mremap(area, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) == MAP_FAILED)
        return weft_fail_errno(WEFT_ERR_MEMORY, "moving %zu bytes to %p (vm.max_map_count?)", bytes,
                               (void *)start);
    return WEFT_OK;
}

static weft_status move_into_memfd(memory *m, uintptr_t start, size_t bytes)
{
    const char *reason = obstacle(start, start + bytes);
    uintptr_t here = (uintptr_t)&reason;
    if (!reason && here >= start && here < start + bytes)
        reason = "it lies on the stack";
    /* MS_INVALIDATE does nothing to anonymous memory but refuse locked pages. */
    if (!reason && msync((void *)start, bytes, MS_ASYNC | MS_INVALIDATE) != 0 && errno == EBUSY)
        reason = "it is locked (mlock)";
    if (reason)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "cannot be moved into shared memory: %s", reason);
    uint64_t file_start = start & (HUGE_PAGE - 1); /* the file's beginning stays a hole */
    int fd = -1;
    void *area = NULL;
    weft_status status = weft_memfd_create("weft-buffer", file_start + bytes, &fd);
    if (status != WEFT_OK)
        return status;
    status = map_congruent(start, bytes, fd, file_start, &area);
    if (status == WEFT_OK) {
        memcpy(area, (const void *)start, bytes);
        status = move_over(area, start, bytes);
        if (status != WEFT_OK)
            munmap(area, bytes);
    }
    if (status != WEFT_OK) {
        close(fd);
        return status;
    }
    m->fd = fd;
    m->file_start = file_start;
    return WEFT_OK;
}

weft_status weft_mem_register(void *base, size_t bytes)
{
    weft_clear_error();
    size_t page = page_bytes();
    uintptr_t at = (uintptr_t)base;
    if (!base || bytes == 0 || bytes > UINTPTR_MAX - page - at)
        return weft_fail(WEFT_ERR_INVALID, "weft_mem_register: %zu bytes at %p are no buffer", bytes, base);
    uintptr_t start = weft_round_up(at, page), end = (at + bytes) / page * page;
    if (start >= end)
        return weft_fail(WEFT_ERR_UNSUPPORTED,
                         "weft_mem_register: no whole page lies in %zu bytes at %p; it works staged", bytes,
                         base);
    memory *m = weft_alloc(sizeof(*m));
    if (!m)
        return weft_fail(WEFT_ERR_MEMORY, "weft_mem_register: no memory to note a buffer");
    *m = (memory){
        .base = at, .bytes = bytes, .start = start, .id = weft_random64(), .fd = -1, .registered = true};
    pthread_rwlock_wrlock(&table_lock);
    weft_status status = table_insert(m);
    pthread_rwlock_unlock(&table_lock);
    if (status != WEFT_OK) {
        weft_free(m);
        return weft_fail_context(status, "weft_mem_register");
    }
    /* Without the lock, for it takes its time; an entry with mapped == 0 only keeps others out. */
    status = move_into_memfd(m, start, end - start);
    pthread_rwlock_wrlock(&table_lock);
    if (status == WEFT_OK)
        m->mapped = end - start;
    else
        table_remove(m);
    pthread_rwlock_unlock(&table_lock);
    if (status != WEFT_OK) {
        weft_free(m);
        return weft_fail_context(status, "weft_mem_register of %zu bytes at %p", bytes, base);
    }
    return WEFT_OK;
}

/* Copies the shared pages into private ones and puts these in their place. */
static weft_status move_back(uintptr_t start, size_t bytes)
{
    void *area;
    weft_status status = map_congruent(start, bytes, -1, 0, &area);
    if (status != WEFT_OK)
        return status;
    memcpy(area, (const void *)start, bytes);
    status = move_over(area, start, bytes);
    if (status != WEFT_OK)
        munmap(area, bytes);
    return status;
}

weft_status weft_mem_deregister(void *base)
{
    weft_clear_error();
    weft_status status = WEFT_OK;
    size_t mapped = 0;
    pthread_rwlock_wrlock(&table_lock);
    memory *m = table_at(base);
    if (!m || !m->registered)
        status = weft_fail(WEFT_ERR_INVALID, "weft_mem_deregister: %p is not registered", base);
    else if (m->mapped == 0)
        status =
            weft_fail(WEFT_ERR_USAGE,
                      "weft_mem_deregister: %p is being registered or deregistered by another thread", base);
    else {
        mapped = m->mapped;
        m->mapped = 0;
    }
    pthread_rwlock_unlock(&table_lock);
    if (status != WEFT_OK)
        return status;
    status = move_back(m->start, mapped);
    pthread_rwlock_wrlock(&table_lock);
    if (status == WEFT_OK)
        table_remove(m);
    else
        m->mapped = mapped;
    pthread_rwlock_unlock(&table_lock);
    if (status != WEFT_OK)
        return weft_fail_context(status, "weft_mem_deregister of %p, which stays registered", base);
    close(m->fd);
    weft_free(m);
    return WEFT_OK;
}

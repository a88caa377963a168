/* Memory for RDMA: stages for payloads that are not registered, and registrations. Explicit ones (mem_register) last until they
 * are taken back. Memory from weft_mem_alloc or weft_mem_register is registered when it is first used; its registration is found
 * again by the memory's number, which is never used twice, so that it cannot be a stale one. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "transport/memory.h"
#include "transport/verbs/verbs.h"

/* ---- registering -------------------------------------------------------------------------------- */

static unsigned access_flags(const verbs_transport *t, bool dmabuf)
{
    unsigned access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
    /* Optional access bits need a function that old libraries do not have. */
    if (t->settings.ib_relaxed && (dmabuf || t->verbs->reg_mr_iova2))
        access |= IBV_ACCESS_RELAXED_ORDERING;
    return access;
}

static struct ibv_mr *register_range(verbs_port *port, uintptr_t start, size_t bytes)
{
    const verbs_transport *t = port->transport;
    unsigned access = access_flags(t, false);
    if (t->verbs->reg_mr_iova2)
        return t->verbs->reg_mr_iova2(port->pd, (void *)start, bytes, start, access);
    return t->verbs->reg_mr(port->pd, (void *)start, bytes, (int)access);
}

struct ibv_mr *weft_verbs_region_mr(verbs_port *port, verbs_region *region)
{
    int n = port->number;
    if (region->mr[n] || region->refused[n])
        return region->mr[n];
    region->mr[n] = register_range(port, region->start, region->end - region->start);
    if (!region->mr[n]) {
        region->refused[n] = true;
        weft_log(WEFT_LOG_WARN, "%s does not register %zu bytes (%s; ulimit -l?): they go through a stage", port->card.name,
                 (size_t)(region->end - region->start), strerror(errno));
    }
    return region->mr[n];
}

/* Its keys are taken back. */
static void region_release(verbs_transport *t, verbs_region *region)
{
    for (int i = 0; i < t->port_count; i++) {
        if (region->mr[i])
            t->verbs->dereg_mr(region->mr[i]);
        region->mr[i] = NULL;
    }
}

bool weft_verbs_has_regions(const verbs_transport *t)
{
    return t->regions || weft_memory_any();
}

static verbs_region *region_new(verbs_transport *t, uintptr_t start, size_t bytes, uint64_t memory_id)
{
    verbs_region *region = weft_alloc(sizeof *region);
    if (!region)
        return NULL;
    *region = (verbs_region){.next = t->regions, .start = start, .end = start + bytes, .memory_id = memory_id};
    t->regions = region;
    return region;
}

static verbs_region *region_of(verbs_transport *t, const void *pointer, size_t bytes)
{
    uintptr_t start = (uintptr_t)pointer;
    weft_memory_place place;
    for (verbs_region *r = t->regions; r; r = r->next)
        if (r->memory_id == 0 && !r->ended && start >= r->start && start < r->end && bytes <= r->end - start)
            return r;
    if (!weft_memory_find(pointer, bytes, &place))
        return NULL;
    for (verbs_region *r = t->regions; r; r = r->next)
        if (r->memory_id == place.memory_id)
            return r;
    return region_new(t, place.start, place.mapped, place.memory_id);
}

verbs_region *weft_verbs_region_find(verbs_link *link, const void *pointer, size_t bytes, const uint32_t *spans)
{
    if (!weft_verbs_has_regions(link->transport))
        return NULL;
    verbs_region *region = region_of(link->transport, pointer, bytes);
    for (int i = 0; region && i < link->rail_count; i++)
        if (spans[i] && !weft_verbs_region_mr(link->rails[i].port, region))
            return NULL;
    return region;
}

/* Is something still sent from it? Whoever ends memory in the middle of that must get away with an error. */
static bool is_in_use(const verbs_transport *t, const verbs_region *region)
{
    for (int i = 0; i < VERBS_MOVING_MAX; i++)
        if (t->outgoing[i].link && t->outgoing[i].region == region)
            return true;
    return false;
}

static void free_ended(verbs_transport *t)
{
    t->regions_ended = false;
    for (verbs_region **at = &t->regions; *at;) {
        verbs_region *region = *at;
        bool keep = !region->ended || is_in_use(t, region);
        t->regions_ended |= region->ended && keep;
        if (keep) {
            at = &region->next;
            continue;
        }
        *at = region->next;
        region_release(t, region);
        weft_free(region);
    }
}

void weft_verbs_regions_expire(verbs_transport *t)
{
    uint64_t ids[16];
    size_t count;
    while ((count = weft_memory_ended(&t->memory_seen, ids, ARRAY_LEN(ids))) > 0)
        for (verbs_region *region = t->regions; region; region = region->next)
            for (size_t i = 0; i < count; i++)
                if (region->memory_id && region->memory_id == ids[i])
                    region->ended = t->regions_ended = true;
    if (t->regions_ended)
        free_ended(t);
}

void weft_verbs_regions_close(verbs_transport *t)
{
    while (t->regions) {
        verbs_region *region = t->regions;
        t->regions = region->next;
        region_release(t, region);
        weft_free(region);
    }
}

weft_status weft_verbs_region_add(verbs_transport *t, void *base, size_t bytes, int dmabuf, uint64_t dmabuf_offset,
                                  void **handle)
{
    if (bytes == 0)
        return weft_fail(WEFT_ERR_INVALID, "verbs: no bytes at %p to register", base);
    if (dmabuf >= 0 && !t->verbs->reg_dmabuf_mr)
        return weft_fail(WEFT_ERR_UNSUPPORTED, "verbs: this libibverbs registers no dma-buf");
    verbs_region *region = region_new(t, (uintptr_t)base, bytes, 0);
    if (!region)
        return weft_fail(WEFT_ERR_MEMORY, "verbs: no memory to note a registration");
    for (int i = 0; i < t->port_count; i++) {
        verbs_port *port = &t->ports[i];
        region->mr[i] = dmabuf < 0 ? register_range(port, region->start, bytes)
                                   : t->verbs->reg_dmabuf_mr(port->pd, dmabuf_offset, bytes, region->start, dmabuf,
                                                             (int)access_flags(t, true));
        if (region->mr[i])
            continue;
        bool lacks = errno == EOPNOTSUPP || errno == ENOSYS || errno == EPROTONOSUPPORT;
        weft_status status = weft_fail_errno(lacks ? WEFT_ERR_UNSUPPORTED : WEFT_ERR_SYSTEM,
                                             "%s does not register %s%zu bytes at %p", port->card.name,
                                             dmabuf < 0 ? "" : "a dma-buf of ", bytes, base);
        weft_verbs_region_remove(t, region);
        return status;
    }
    *handle = region;
    return WEFT_OK;
}

void weft_verbs_region_remove(verbs_transport *t, void *handle)
{
    for (verbs_region *region = t->regions; region; region = region->next)
        if (region == handle)
            region->ended = true;
    free_ended(t);
}

/* ---- stages -------------------------------------------------------------------------------------- */

/* Shared memory, so that a fork leaves it where the device knows it. */
weft_status weft_verbs_stage_open(verbs_stage *stage)
{
    if (stage->region.start)
        return WEFT_OK;
    void *memory = mmap(NULL, VERBS_STAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return weft_fail_errno(WEFT_ERR_MEMORY, "verbs: no memory for a stage of %d bytes", VERBS_STAGE_BYTES);
    stage->region = (verbs_region){.start = (uintptr_t)memory, .end = (uintptr_t)memory + VERBS_STAGE_BYTES};
    return WEFT_OK;
}

void weft_verbs_stage_close(verbs_transport *t, verbs_stage *stage)
{
    if (!stage->region.start)
        return;
    region_release(t, &stage->region);
    munmap((void *)stage->region.start, VERBS_STAGE_BYTES);
    stage->region.start = 0;
}

static bool is_taken(const verbs_stage *stage, int page)
{
    return stage->taken[page / 64] >> page % 64 & 1;
}

int weft_verbs_stage_take(verbs_stage *stage, size_t bytes)
{
    int pages = (int)((bytes + VERBS_STAGE_PAGE - 1) / VERBS_STAGE_PAGE), run = 0, at = stage->hint;
    /* Once around from where the last search ended, and once more for a run that lies across that place. */
    for (int looked = 0; looked < VERBS_STAGE_PAGES + pages; looked++, at++) {
        if (at >= VERBS_STAGE_PAGES) {
            at = 0;
            run = 0;
        }
        run = is_taken(stage, at) ? 0 : run + 1;
        if (run < pages)
            continue;
        int first = at - pages + 1;
        for (int page = first; page <= at; page++)
            stage->taken[page / 64] |= (uint64_t)1 << page % 64;
        stage->hint = at + 1;
        return first;
    }
    return -1;
}

void weft_verbs_stage_give(verbs_stage *stage, int page, size_t bytes)
{
    int pages = (int)((bytes + VERBS_STAGE_PAGE - 1) / VERBS_STAGE_PAGE);
    for (int i = page; i < page + pages; i++)
        stage->taken[i / 64] &= ~((uint64_t)1 << i % 64);
}

unsigned char *weft_verbs_stage_address(const verbs_stage *stage, int page)
{
    return (unsigned char *)stage->region.start + (size_t)page * VERBS_STAGE_PAGE;
}

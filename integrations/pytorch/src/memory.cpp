/* Gradient buckets as memory that ranks on this host read in place: who registers what, and when it is given back. */
#include <atomic>
#include <mutex>
#include <unordered_map>

#include "tensors.h"

namespace weft_torch {

namespace {

/* Below that a registration (a copy, a mapping in each peer) is not worth it. */
constexpr size_t SMALLEST_BYTES = 256 * 1024;
/* Storages that are remembered at most; beyond, those that are gone are forgotten. */
constexpr size_t REMEMBERED = 1024;

struct Seen {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    const void *data;
    c10::weak_intrusive_ptr<Work> last; /* its last operation: the table keeps no tensor alive */
};

std::mutex seen_lock;
std::atomic<size_t> registered{0};

/* Never destroyed: storages may end after static objects. */
std::unordered_map<const c10::StorageImpl *, Seen> &seen()
{
    static auto *table = new std::unordered_map<const c10::StorageImpl *, Seen>();
    return *table;
}

/* What was in the storage before, and its size. */
struct Registered {
    at::DataPtr memory;
    size_t bytes;
};

/* The deleter of a registered storage. */
void give_back(void *context)
{
    auto *mine = static_cast<Registered *>(context);
    weft_mem_deregister(mine->memory.get());
    registered.fetch_sub(mine->bytes, std::memory_order_relaxed);
    delete mine;
}

void forget_gone()
{
    for (auto entry = seen().begin(); entry != seen().end();)
        entry = entry->second.storage.expired() ? seen().erase(entry) : std::next(entry);
}

void try_register(c10::StorageImpl &storage)
{
    void *data = storage.data_ptr().get();
    size_t bytes = storage.nbytes();
    if (weft_mem_register(data, bytes) != WEFT_OK)
        return;
    at::Device device = storage.data_ptr().device();
    auto *mine = new Registered{at::DataPtr(), bytes};
    mine->memory = storage.set_data_ptr(at::DataPtr(data, mine, give_back, device));
    registered.fetch_add(bytes, std::memory_order_relaxed);
}

} // namespace

size_t registered_bytes()
{
    return registered.load(std::memory_order_relaxed);
}

void register_repeated(const at::Tensor &tensor, const c10::intrusive_ptr<Work> &work)
{
    if (tensor.nbytes() < SMALLEST_BYTES)
        return;
    c10::StorageImpl *storage = tensor.storage().unsafeGetStorageImpl();
    const at::DataPtr &held = storage->data_ptr();
    /* Only memory of a plain allocator, where nobody else looks at the context: neither registered already nor shared. */
    if (storage->nbytes() != tensor.nbytes() || held.get() != held.get_context())
        return;
    std::lock_guard<std::mutex> lock(seen_lock);
    auto found = seen().find(storage);
    bool known = found != seen().end() && !found->second.storage.expired();
    if (known && found->second.data == held.get()) {
        /* Nobody may write to it meanwhile, so its last operation must be over. */
        c10::intrusive_ptr<Work> last = found->second.last.lock();
        if (!last || last->done())
            try_register(*storage);
        found->second.last = c10::weak_intrusive_ptr<Work>(work);
        return;
    }
    /* One that has changed its memory will do so again: registered anew each time it would lose more than it gains. */
    if (known)
        return;
    if (seen().size() >= REMEMBERED)
        forget_gone();
    if (found != seen().end())
        seen().erase(storage);
    if (seen().size() < REMEMBERED)
        seen().emplace(storage, Seen{c10::weak_intrusive_ptr<c10::StorageImpl>(tensor.storage().getWeakStorageImpl()), held.get(),
                                     c10::weak_intrusive_ptr<Work>(work)});
}

} // namespace weft_torch

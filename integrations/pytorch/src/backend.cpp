/* A process group's communicator, its barriers, messages and bookkeeping; collectives.cpp has the rest. */
#include "backend.h"

#include <algorithm>
#include <cstring>

#include "tensors.h"

namespace weft_torch {

void (*without_python_hook)(const std::function<void()> &blocks) = nullptr;

/* ---- the communicator --------------------------------------------------------------------------- */

namespace {

int store_set(void *context, const char *key, const void *value, size_t bytes)
{
    try {
        const auto *from = static_cast<const uint8_t *>(value);
        static_cast<c10d::Store *>(context)->set(key, std::vector<uint8_t>(from, from + bytes));
        return 0;
    } catch (...) {
        return 1;
    }
}

int store_get(void *context, const char *key, void *value, size_t *bytes, int64_t timeout_ms)
{
    try {
        auto *store = static_cast<c10d::Store *>(context);
        store->wait({key}, timeout_ms > 0 ? Milliseconds(timeout_ms) : store->getTimeout());
        std::vector<uint8_t> found = store->get(key);
        *bytes = std::min(*bytes, found.size());
        std::memcpy(value, found.data(), *bytes);
        return 0;
    } catch (...) {
        return 1;
    }
}

weft_config configured(Milliseconds timeout)
{
    weft_config config = WEFT_CONFIG_INIT;
    config.timeout_ms = timeout.count() > 0 ? timeout.count() : -1;
    return config;
}

} // namespace

Communicator::Communicator(const c10::intrusive_ptr<c10d::Store> &store, int rank_, int size_, Milliseconds timeout_)
    : rank(rank_), size(size_), timeout(timeout_), collectives(Progress::make(Progress::Kind::collectives))
{
    weft_config config = configured(timeout);
    weft_store access = {store_set, store_get, store.get(), "weft"};
    weft_status status = weft_comm_create_store(&access, rank, size, &config, &comm);
    if (status != WEFT_OK)
        throw std::runtime_error(error_text("weft: creation of the process group", rank, size, status, timeout));
}

Communicator::Communicator(weft_comm *made, Milliseconds timeout_)
    : comm(made), rank(weft_comm_rank(made)), size(weft_comm_size(made)), timeout(timeout_),
      collectives(Progress::make(Progress::Kind::collectives))
{
}

std::shared_ptr<Communicator> Communicator::of_environment(Milliseconds timeout)
{
    weft_config config = configured(timeout);
    weft_comm *made = nullptr;
    weft_status status = weft_comm_create_env(&config, &made);
    if (status != WEFT_OK)
        throw std::runtime_error("weft: creation by the launcher's variables: " + std::string(weft_status_text(status)) + ": " +
                                 weft_last_error());
    return std::make_shared<Communicator>(made, timeout);
}

std::shared_ptr<Communicator> Communicator::split(int colour, int key, Milliseconds limit)
{
    weft_config config = configured(limit);
    weft_comm *made = nullptr;
    weft_status status;
    {
        std::lock_guard<std::mutex> lock(order);
        status = weft_comm_split(comm, colour, key, &config, &made);
    }
    if (status != WEFT_OK)
        throw std::runtime_error(error_text("weft: split", rank, size, status, limit));
    return made ? std::make_shared<Communicator>(made, limit) : nullptr;
}

Communicator::~Communicator()
{
    collectives->stop();
    without_python([this] { weft_comm_destroy(comm); });
}

/* ---- beginning ---------------------------------------------------------------------------------- */

Backend::Backend(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, Milliseconds timeout)
    : Backend(std::make_shared<Communicator>(store, rank, size, timeout), store)
{
}

Backend::Backend(std::shared_ptr<Communicator> communicator, const c10::intrusive_ptr<c10d::Store> &store)
    : Base(communicator->rank, communicator->size), communicator_(std::move(communicator)), store_(store)
{
#if TORCH_VERSION_MAJOR < 2
    init();
#endif
}

Backend::~Backend() = default;

c10::intrusive_ptr<Work> Backend::new_work(c10d::OpType type, const char *title, const Tensors &inputs,
                                           std::vector<Tensors> outputs, Milliseconds timeout)
{
    auto work = c10::make_intrusive<Work>(communicator_, type, title, inputs, std::move(outputs));
    if (timeout.count() > 0)
        work->timeout = timeout;
    return work;
}

/* With the order lock. */
WorkPointer Backend::started(c10::intrusive_ptr<Work> work, weft_status status)
{
    if (!work->is_message())
        sequence_++;
    if (status == WEFT_OK && work->request && work->timeout != communicator_->timeout)
        weft_request_set_timeout(work->request, work->timeout.count());
    if (status != WEFT_OK)
        work->fail(status);
    else
        (work->is_message() ? message_progress() : communicator_->collectives)->add(work);
    if (coalescing_)
        coalesced_.push_back(work);
    return work;
}

uint64_t Backend::getSequenceNumberForGroup()
{
    std::lock_guard<std::mutex> lock(communicator_->order);
    return sequence_;
}

void Backend::abort_all()
{
    weft_comm_abort(communicator_->comm);
}

std::string Backend::describe(const std::string &collective, size_t bytes)
{
    char text[256];
    weft_comm_describe(communicator_->comm, collective.c_str(), bytes, text, sizeof text);
    return text;
}

#if TORCH_VERSION_MAJOR >= 2
/* What begins in between is one work in the end. Each has begun by then: small ones lose a little, none waits for another. */
void Backend::startCoalescing()
{
    std::lock_guard<std::mutex> lock(communicator_->order);
    coalescing_ = true;
}

WorkPointer Backend::endCoalescing()
{
    auto work = new_work(c10d::OpType::COALESCED, "weft:coalesced", {}, {}, Milliseconds(0));
    std::lock_guard<std::mutex> lock(communicator_->order);
    coalescing_ = false;
    work->prior.swap(coalesced_);
    work->stands_for_prior = true;
    return started(work, WEFT_OK);
}
#endif

/* ---- barriers ----------------------------------------------------------------------------------- */

WorkPointer Backend::barrier(const c10d::BarrierOptions &options)
{
    auto work = new_work(c10d::OpType::BARRIER, "weft:barrier", {}, {}, options.timeout);
    work->prior = communicator_->collectives->outstanding();
    return start(work, [](weft_comm *comm, weft_request **request) { return weft_barrier(comm, request); });
}

namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;

/* What is left until then, at least 1 ms: a store takes 0 for "no limit". */
Milliseconds left(Clock::time_point until)
{
    auto rest = std::chrono::duration_cast<Milliseconds>(until - Clock::now());
    return std::max(rest, Milliseconds(1));
}

bool came(c10d::Store &store, const std::string &key, Clock::time_point until)
{
    try {
        store.wait({key}, left(until));
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

/* What a store keeps for ever if nobody does; those that cannot, do not. */
void forget(c10d::Store &store, const std::string &key)
{
    try {
        store.deleteKey(key);
    } catch (const std::exception &) {
    }
}

std::string listed(const std::vector<int> &ranks)
{
    std::string text = ranks.size() > 1 ? "Ranks " : "Rank ";
    for (size_t i = 0; i < ranks.size(); i++)
        text += (i ? ", " : "") + std::to_string(ranks[i]);
    return text;
}

} // namespace

void Backend::monitoredBarrier(const c10d::BarrierOptions &options, bool wait_for_all)
{
    Milliseconds limit = options.timeout.count() >= 0 ? options.timeout : communicator_->timeout;
    Clock::time_point until = Clock::now() + limit;
    std::string prefix = "weft_monitored/" + std::to_string(monitored_++) + "/", verdict = prefix + "verdict";
    std::string within = " in " + std::to_string(limit.count()) + " ms";
    if (rank_ != 0) {
        store_->set(prefix + std::to_string(rank_), Bytes{1});
        bool told = came(*store_, verdict, until);
        if (told && store_->get(verdict) == Bytes{1})
            return;
        throw std::runtime_error("weft:monitored_barrier: Rank " + std::to_string(rank_) +
                                 " successfully reached monitoredBarrier, but"
                                 " received errors while waiting for send/recv from rank 0: " +
                                 (told ? "rank 0 says that some rank did not come" : "rank 0 said nothing") + within +
                                 ", Timed out");
    }
    std::vector<int> absent;
    for (int peer = 1; peer < size_ && (wait_for_all || absent.empty()); peer++) {
        if (limit.count() == 0) {
            store_->set(verdict, Bytes{0});
            throw std::runtime_error("weft:monitored_barrier: Rank 0 timed out in monitoredBarrier after 0 ms, before rank " +
                                     std::to_string(peer) + " could have come");
        }
        if (!came(*store_, prefix + std::to_string(peer), until))
            absent.push_back(peer);
    }
    if (absent.empty()) { /* so all have read what was said of the barrier before */
        for (int peer = 1; peer < size_; peer++)
            forget(*store_, prefix + std::to_string(peer));
        if (!last_verdict_.empty())
            forget(*store_, last_verdict_);
    }
    last_verdict_ = verdict;
    store_->set(verdict, Bytes{(uint8_t)absent.empty()});
    if (!absent.empty())
        throw std::runtime_error("weft:monitored_barrier: " + listed(absent) + " failed to pass monitoredBarrier" + within);
}

/* ---- messages ----------------------------------------------------------------------------------- */

WorkPointer Backend::send(Tensors &tensors, int destination, int tag)
{
    const char *title = "weft:send";
    at::Tensor memory = to_read(only(title, tensors));
    Elements elements = elements_to_move(memory.scalar_type());
    auto work = new_work(c10d::OpType::SEND, title, tensors, {}, Milliseconds(0));
    work->kept = {memory};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_send(comm, memory.data_ptr(), (size_t)memory.numel() * elements.each, elements.type, destination, tag,
                         request);
    });
}

WorkPointer Backend::receive(Tensors &tensors, int source, int tag, c10d::OpType type, const char *title)
{
    at::Tensor &tensor = only(title, tensors);
    auto work = new_work(type, title, tensors, {tensors}, Milliseconds(0));
    at::Tensor memory = to_write(*work, tensor, true);
    Elements elements = elements_to_move(memory.scalar_type());
    work->kept = {memory};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_recv(comm, memory.data_ptr(), (size_t)memory.numel() * elements.each, elements.type, source, tag, &work->info,
                         request);
    });
}

WorkPointer Backend::recv(Tensors &tensors, int source, int tag)
{
    return receive(tensors, source, tag, c10d::OpType::RECV, "weft:recv");
}

WorkPointer Backend::recvAnysource(Tensors &tensors, int tag)
{
    return receive(tensors, WEFT_ANY_SOURCE, tag, c10d::OpType::RECVANYSOURCE, "weft:recvAnySource");
}

} // namespace weft_torch

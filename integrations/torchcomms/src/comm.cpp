/* torchcomms' operations as those of weft_torch; the life of a communicator; what torchcomms looks for in the library. */
#include "comm.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>

#include <comms/torchcomms/utils/Utils.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

namespace weft_torchcomms {

/* ---- an operation under way --------------------------------------------------------------------- */

Work::Work(c10::intrusive_ptr<weft_torch::Work> inner, Milliseconds limit, std::function<void()> failed)
    : inner_(std::move(inner)), limit_(limit), failed_(std::move(failed))
{
    setStatus(WorkStatus::INPROGRESS);
}

void Work::follow()
{
    auto self = c10::intrusive_ptr<Work>::reclaim_copy(this);
    inner_->when_over([self](weft_status status) {
        self->setStatus(status == WEFT_OK            ? WorkStatus::COMPLETED
                        : status == WEFT_ERR_TIMEOUT ? WorkStatus::TIMEDOUT
                                                     : WorkStatus::ERROR);
    });
}

void Work::wait()
{
    runWaitPreHooks();
    try {
        inner_->wait(limit_);
    } catch (...) {
        failed_();
        throw;
    }
    runWaitPostHooks();
}

WorkPointer Comm::begun(const weft_torch::WorkPointer &inner, bool async, Milliseconds limit)
{
    std::weak_ptr<Comm> weak = weak_from_this();
    auto failed = [weak] {
        if (auto comm = weak.lock())
            comm->runAbortHooks();
    };
    auto work = c10::make_intrusive<Work>(c10::dynamic_intrusive_pointer_cast<weft_torch::Work>(inner), limit, std::move(failed));
    work->follow();
    if (!async)
        work->wait();
    return work;
}

/* ---- its life ----------------------------------------------------------------------------------- */

namespace {

/* Communicators may have the name of one that is gone, in a store that still knows it. */
std::string fresh_prefix(const std::string &name)
{
    static std::mutex lock;
    static std::map<std::string, int> times;
    std::lock_guard<std::mutex> guard(lock);
    return "weft/" + name + "/" + std::to_string(times[name]++);
}

} // namespace

void Comm::take(std::shared_ptr<weft_torch::Communicator> communicator, at::Device device, const std::string &name,
                const tc::CommOptions &options)
{
    communicator_ = std::move(communicator);
    rank_ = communicator_->rank;
    size_ = communicator_->size;
    device_ = device;
    name_ = name;
    options_ = options;
    options_.store.reset();
    group_ = c10::make_intrusive<weft_torch::Backend>(communicator_, nullptr);
}

void Comm::init(at::Device device, const std::string &name, const tc::CommOptions &options)
{
    TORCH_CHECK(rank_ < 0, "weft: communicator ", name_, " has been initialized already");
    TORCH_CHECK(device.is_cpu(), "weft: communicator ", name, ": the device must be the CPU, not ", device);
    if (options.store) {
        auto [rank, size] = tc::query_ranksize();
        auto store = c10::make_intrusive<c10d::PrefixStore>(fresh_prefix(name), options.store);
        take(std::make_shared<weft_torch::Communicator>(store, rank, size, options.timeout), device, name, options);
    } else {
        take(weft_torch::Communicator::of_environment(options.timeout), device, name, options);
    }
    /* Rank 0 may hold the store itself, which others still read from. */
    barrier(false, {});
}

void Comm::finalize()
{
    group();
    group_.reset();
    communicator_.reset();
}

weft_torch::Backend &Comm::group()
{
    TORCH_CHECK(group_, "weft: communicator ", name_, rank_ < 0 ? " has not been initialized" : " has been finalized");
    return *group_;
}

void Comm::abort()
{
    group().abort_all();
    aborted_.store(true);
}

std::shared_ptr<tc::TorchCommBackend> Comm::split(const std::vector<int> &ranks, const std::string &name,
                                                  const tc::CommOptions &options)
{
    group();
    auto place = std::find(ranks.begin(), ranks.end(), rank_);
    TORCH_CHECK(ranks.empty() || place != ranks.end(), "weft: split ", name, ": the ranks do not include this one, ", rank_);
    for (size_t i = 0; i < ranks.size(); i++)
        TORCH_CHECK(ranks[i] >= 0 && ranks[i] < size_ && std::count(ranks.begin(), ranks.end(), ranks[i]) == 1, "weft: split ",
                    name, ": rank ", ranks[i], " is twice in the list, or none of the ", size_, " ranks");
    int colour = ranks.empty() ? WEFT_UNDEFINED : *std::min_element(ranks.begin(), ranks.end());
    auto part = communicator_->split(colour, (int)(place - ranks.begin()), options.timeout);
    if (!part)
        return nullptr;
    auto made = std::make_shared<Comm>();
    made->take(std::move(part), device_, name + "_" + std::to_string(colour), options);
    return made;
}

/* ---- the operations ----------------------------------------------------------------------------- */

namespace {

c10d::ReduceOp converted(const tc::ReduceOp &op)
{
    switch (op.type()) {
    case tc::ReduceOp::RedOpType::SUM: return c10d::ReduceOp::SUM;
    case tc::ReduceOp::RedOpType::PRODUCT: return c10d::ReduceOp::PRODUCT;
    case tc::ReduceOp::RedOpType::MIN: return c10d::ReduceOp::MIN;
    case tc::ReduceOp::RedOpType::MAX: return c10d::ReduceOp::MAX;
    case tc::ReduceOp::RedOpType::BAND: return c10d::ReduceOp::BAND;
    case tc::ReduceOp::RedOpType::BOR: return c10d::ReduceOp::BOR;
    case tc::ReduceOp::RedOpType::BXOR: return c10d::ReduceOp::BXOR;
    case tc::ReduceOp::RedOpType::AVG: return c10d::ReduceOp::AVG;
    case tc::ReduceOp::RedOpType::PREMUL_SUM: break;
    }
    const auto &factor = *op.factor();
    if (const auto *number = std::get_if<double>(&factor))
        return c10d::makePreMulSum(*number);
    return c10d::makePreMulSum(std::get<at::Tensor>(factor));
}

/* The first rows of a tensor, as many as the splits have. */
Tensor rows_of(const Tensor &tensor, const std::vector<int64_t> &splits)
{
    int64_t rows = std::accumulate(splits.begin(), splits.end(), (int64_t)0);
    return tensor.dim() > 0 && rows < tensor.size(0) ? tensor.narrow(0, 0, rows) : tensor;
}

} // namespace

WorkPointer Comm::send(const Tensor &tensor, int destination, bool async, const tc::SendOptions &options)
{
    Tensors tensors{tensor};
    return begun(group().send(tensors, destination, options.tag), async, options.timeout);
}

WorkPointer Comm::recv(Tensor &tensor, int source, bool async, const tc::RecvOptions &options)
{
    Tensors tensors{tensor};
    return begun(group().recv(tensors, source, options.tag), async, options.timeout);
}

WorkPointer Comm::batch_op_issue(const std::vector<tc::BatchSendRecv::P2POp> &operations, bool async,
                                 const tc::BatchP2POptions &options)
{
    weft_torch::Backend &group = this->group();
    group.startCoalescing();
    for (const auto &operation : operations) {
        Tensors tensors{operation.tensor};
        if (operation.type == tc::BatchSendRecv::P2POp::OpType::SEND)
            group.send(tensors, operation.peer, 0);
        else
            group.recv(tensors, operation.peer, 0);
    }
    return begun(group.endCoalescing(), async, options.timeout);
}

WorkPointer Comm::broadcast(Tensor &tensor, int root, bool async, const tc::BroadcastOptions &options)
{
    Tensors tensors{tensor};
    c10d::BroadcastOptions with;
    with.rootRank = root;
    with.timeout = limit(options.timeout);
    return begun(group().broadcast(tensors, with), async);
}

WorkPointer Comm::all_reduce(Tensor &tensor, const tc::ReduceOp &op, bool async, const tc::AllReduceOptions &options)
{
    Tensors tensors{tensor};
    c10d::AllreduceOptions with;
    with.reduceOp = converted(op);
    with.timeout = limit(options.timeout);
    return begun(group().allreduce(tensors, with), async);
}

WorkPointer Comm::reduce(const Tensor &tensor, int root, const tc::ReduceOp &op, bool async, const tc::ReduceOptions &options)
{
    Tensors tensors{tensor};
    c10d::ReduceOptions with;
    with.reduceOp = converted(op);
    with.rootRank = root;
    with.timeout = limit(options.timeout);
    return begun(group().reduce(tensors, with), async);
}

/* Tensors of equal and of different sizes are one operation. */
WorkPointer Comm::all_gather(const Tensors &outputs, const Tensor &input, bool async, const tc::AllGatherOptions &options)
{
    std::vector<Tensors> lists{outputs};
    Tensors inputs{input};
    c10d::AllgatherOptions with;
    with.timeout = limit(options.timeout);
    return begun(group().allgather(lists, inputs, with), async);
}

WorkPointer Comm::all_gather_v(const Tensors &outputs, const Tensor &input, bool async, const tc::AllGatherOptions &options)
{
    return all_gather(outputs, input, async, options);
}

WorkPointer Comm::all_gather_single(Tensor &output, const Tensor &input, bool async, const tc::AllGatherSingleOptions &options)
{
    Tensor from = input;
    c10d::AllgatherOptions with;
    with.timeout = limit(options.timeout);
    return begun(group()._allgather_base(output, from, with), async);
}

WorkPointer Comm::reduce_scatter(Tensor &output, const Tensors &inputs, const tc::ReduceOp &op, bool async,
                                 const tc::ReduceScatterOptions &options)
{
    Tensors outputs{output};
    std::vector<Tensors> lists{inputs};
    c10d::ReduceScatterOptions with;
    with.reduceOp = converted(op);
    with.timeout = limit(options.timeout);
    return begun(group().reduce_scatter(outputs, lists, with), async);
}

WorkPointer Comm::reduce_scatter_v(Tensor &output, const Tensors &inputs, const tc::ReduceOp &op, bool async,
                                   const tc::ReduceScatterOptions &options)
{
    return reduce_scatter(output, inputs, op, async, options);
}

WorkPointer Comm::reduce_scatter_single(Tensor &output, const Tensor &input, const tc::ReduceOp &op, bool async,
                                        const tc::ReduceScatterSingleOptions &options)
{
    Tensor from = input;
    c10d::ReduceScatterOptions with;
    with.reduceOp = converted(op);
    with.timeout = limit(options.timeout);
    return begun(group()._reduce_scatter_base(output, from, with), async);
}

WorkPointer Comm::all_to_all_single(Tensor &output, const Tensor &input, bool async, const tc::AllToAllSingleOptions &options)
{
    Tensor from = input;
    std::vector<int64_t> even_out, even_in;
    c10d::AllToAllOptions with;
    with.timeout = limit(options.timeout);
    return begun(group().alltoall_base(output, from, even_out, even_in, with), async);
}

WorkPointer Comm::all_to_all_v_single(Tensor &output, const Tensor &input, const std::vector<uint64_t> &output_splits,
                                      const std::vector<uint64_t> &input_splits, bool async,
                                      const tc::AllToAllvSingleOptions &options)
{
    std::vector<int64_t> out(output_splits.begin(), output_splits.end()), in(input_splits.begin(), input_splits.end());
    Tensor to = rows_of(output, out), from = rows_of(input, in);
    c10d::AllToAllOptions with;
    with.timeout = limit(options.timeout);
    return begun(group().alltoall_base(to, from, out, in, with), async);
}

WorkPointer Comm::all_to_all(const Tensors &outputs, const Tensors &inputs, bool async, const tc::AllToAllOptions &options)
{
    Tensors to = outputs, from = inputs;
    c10d::AllToAllOptions with;
    with.timeout = limit(options.timeout);
    return begun(group().alltoall(to, from, with), async);
}

WorkPointer Comm::barrier(bool async, const tc::BarrierOptions &options)
{
    c10d::BarrierOptions with;
    with.timeout = limit(options.timeout);
    return begun(group().barrier(with), async);
}

WorkPointer Comm::scatter(Tensor &output, const Tensors &inputs, int root, bool async, const tc::ScatterOptions &options)
{
    Tensors outputs{output};
    std::vector<Tensors> lists;
    if (rank_ == root)
        lists.push_back(inputs);
    c10d::ScatterOptions with;
    with.rootRank = root;
    with.timeout = limit(options.timeout);
    return begun(group().scatter(outputs, lists, with), async);
}

WorkPointer Comm::gather(const Tensors &outputs, const Tensor &input, int root, bool async, const tc::GatherOptions &options)
{
    std::vector<Tensors> lists;
    if (rank_ == root)
        lists.push_back(outputs);
    Tensors inputs{input};
    c10d::GatherOptions with;
    with.rootRank = root;
    with.timeout = limit(options.timeout);
    return begun(group().gather(lists, inputs, with), async);
}

} // namespace weft_torchcomms

/* ---- what torchcomms looks for ------------------------------------------------------------------ */

extern "C" __attribute__((visibility("default"))) torch::comms::DynamicLoaderInterface create_dynamic_loader_weft()
{
    torch::comms::DynamicLoaderInterface loader;
    loader.new_comm = []() -> torch::comms::TorchCommBackend * { return new weft_torchcomms::Comm; };
    loader.destroy_comm = [](torch::comms::TorchCommBackend *comm) { delete comm; };
    /* The version of the headers that this was compiled with; torchcomms refuses any other than its own. */
    loader.get_supported_version = []() -> const char * { return torch::comms::TORCHCOMM_BACKEND_ABI_VERSION; };
    return loader;
}

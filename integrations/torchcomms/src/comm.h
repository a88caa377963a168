/* What torchcomms sees: a communicator whose operations are those of weft_torch's process group, under torchcomms' names. */
#ifndef WEFT_TORCHCOMMS_COMM_H
#define WEFT_TORCHCOMMS_COMM_H

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <comms/torchcomms/TorchCommBackend.hpp>

#include "backend.h"

namespace weft_torchcomms {

namespace tc = torch::comms;
using Milliseconds = weft_torch::Milliseconds;
using Tensor = at::Tensor;
using Tensors = std::vector<at::Tensor>;
using WorkPointer = c10::intrusive_ptr<tc::TorchWork>;

/* A weft_torch::Work under way. Its status follows the operation, whoever ends it: the caller or the progress thread. */
class Work : public tc::TorchWork {
  public:
    /* `failed` runs before wait() throws what the operation failed with. limit 0: the operation's own. */
    Work(c10::intrusive_ptr<weft_torch::Work> inner, Milliseconds limit, std::function<void()> failed);
    /* Makes the status follow; not before somebody else holds the object. */
    void follow();

    void wait() override;
    void waitBlocking() override { wait(); }
    Milliseconds getTimeout() const override { return limit_.count() > 0 ? limit_ : inner_->timeout; }

  private:
    const c10::intrusive_ptr<weft_torch::Work> inner_;
    const Milliseconds limit_;
    const std::function<void()> failed_;
};

class Comm : public tc::TorchCommBackend, public std::enable_shared_from_this<Comm> {
  public:
    void init(at::Device device, const std::string &name, const tc::CommOptions &options) override;
    void finalize() override;
    int getRank() const override { return rank_; }
    int getSize() const override { return size_; }
    std::string_view getBackendName() const override { return "weft"; }
    std::string_view getBackendVersion() const override { return weft_version(); }
    std::string_view getCommName() const override { return name_; }
    const tc::CommOptions &getOptions() const override { return options_; }
    const at::Device &getDevice() const override { return device_; }

    WorkPointer send(const Tensor &tensor, int destination, bool async, const tc::SendOptions &options) override;
    WorkPointer recv(Tensor &tensor, int source, bool async, const tc::RecvOptions &options) override;
    WorkPointer batch_op_issue(const std::vector<tc::BatchSendRecv::P2POp> &operations, bool async,
                               const tc::BatchP2POptions &options) override;
    WorkPointer broadcast(Tensor &tensor, int root, bool async, const tc::BroadcastOptions &options) override;
    WorkPointer all_reduce(Tensor &tensor, const tc::ReduceOp &op, bool async, const tc::AllReduceOptions &options) override;
    WorkPointer reduce(const Tensor &tensor, int root, const tc::ReduceOp &op, bool async,
                       const tc::ReduceOptions &options) override;
    WorkPointer all_gather(const Tensors &outputs, const Tensor &input, bool async, const tc::AllGatherOptions &options) override;
    WorkPointer all_gather_v(const Tensors &outputs, const Tensor &input, bool async,
                             const tc::AllGatherOptions &options) override;
    WorkPointer all_gather_single(Tensor &output, const Tensor &input, bool async,
                                  const tc::AllGatherSingleOptions &options) override;
    WorkPointer reduce_scatter(Tensor &output, const Tensors &inputs, const tc::ReduceOp &op, bool async,
                               const tc::ReduceScatterOptions &options) override;
    WorkPointer reduce_scatter_v(Tensor &output, const Tensors &inputs, const tc::ReduceOp &op, bool async,
                                 const tc::ReduceScatterOptions &options) override;
    WorkPointer reduce_scatter_single(Tensor &output, const Tensor &input, const tc::ReduceOp &op, bool async,
                                      const tc::ReduceScatterSingleOptions &options) override;
    WorkPointer all_to_all_single(Tensor &output, const Tensor &input, bool async,
                                  const tc::AllToAllSingleOptions &options) override;
    WorkPointer all_to_all_v_single(Tensor &output, const Tensor &input, const std::vector<uint64_t> &output_splits,
                                    const std::vector<uint64_t> &input_splits, bool async,
                                    const tc::AllToAllvSingleOptions &options) override;
    WorkPointer all_to_all(const Tensors &outputs, const Tensors &inputs, bool async,
                           const tc::AllToAllOptions &options) override;
    WorkPointer barrier(bool async, const tc::BarrierOptions &options) override;
    WorkPointer scatter(Tensor &output, const Tensors &inputs, int root, bool async, const tc::ScatterOptions &options) override;
    WorkPointer gather(const Tensors &outputs, const Tensor &input, int root, bool async,
                       const tc::GatherOptions &options) override;

    /* Collective over this communicator: ranks that are in no group call it with no ranks and get none. */
    std::shared_ptr<tc::TorchCommBackend> split(const std::vector<int> &ranks, const std::string &name,
                                                const tc::CommOptions &options) override;

    bool isInitialized() const override { return (bool)group_; }
    bool isAbortSupported() const override { return true; }
    bool isAborted() const override { return aborted_.load(); }
    void abort() override;
    void setTimeout(Milliseconds timeout) override { options_.timeout = timeout; }

  private:
    void take(std::shared_ptr<weft_torch::Communicator> communicator, at::Device device, const std::string &name,
              const tc::CommOptions &options);
    weft_torch::Backend &group();
    /* What the caller gets for an operation that has begun: waited for already, unless async. */
    WorkPointer begun(const weft_torch::WorkPointer &inner, bool async, Milliseconds limit = Milliseconds(0));
    /* A call's own time limit, or the communicator's. */
    Milliseconds limit(Milliseconds own) const { return own.count() > 0 ? own : options_.timeout; }

    at::Device device_{at::kCPU};
    std::string name_;
    tc::CommOptions options_;
    int rank_ = -1, size_ = -1;
    std::shared_ptr<weft_torch::Communicator> communicator_;
    c10::intrusive_ptr<weft_torch::Backend> group_;
    std::atomic<bool> aborted_{false};
};

} // namespace weft_torchcomms
#endif

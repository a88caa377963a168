/* The process group that torch sees: every operation becomes one call of weft.h, or a group of them, and a Work. */
#ifndef WEFT_TORCH_BACKEND_H
#define WEFT_TORCH_BACKEND_H

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "work.h"

namespace weft_torch {

using WorkPointer = c10::intrusive_ptr<c10d::Work>;

class Backend : public Base {
  public:
    Backend(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, Milliseconds timeout);
    /* On a communicator that is there; without a store it has no monitored barrier. */
    Backend(std::shared_ptr<Communicator> communicator, const c10::intrusive_ptr<c10d::Store> &store);
    ~Backend() override;

    const std::string getBackendName() const override { return "weft"; }

    WorkPointer broadcast(Tensors &tensors, const c10d::BroadcastOptions &options) override;
    WorkPointer allreduce(Tensors &tensors, const c10d::AllreduceOptions &options) override;
    WorkPointer allreduce_coalesced(Tensors &tensors, const c10d::AllreduceCoalescedOptions &options) override;
    WorkPointer reduce(Tensors &tensors, const c10d::ReduceOptions &options) override;
    WorkPointer allgather(std::vector<Tensors> &outputs, Tensors &inputs, const c10d::AllgatherOptions &options) override;
    WorkPointer _allgather_base(at::Tensor &output, at::Tensor &input, const c10d::AllgatherOptions &options) override;
    WorkPointer allgather_coalesced(std::vector<Tensors> &outputs, Tensors &inputs,
                                    const c10d::AllgatherOptions &options) override;
    WorkPointer gather(std::vector<Tensors> &outputs, Tensors &inputs, const c10d::GatherOptions &options) override;
    WorkPointer scatter(Tensors &outputs, std::vector<Tensors> &inputs, const c10d::ScatterOptions &options) override;
    WorkPointer reduce_scatter(Tensors &outputs, std::vector<Tensors> &inputs,
                               const c10d::ReduceScatterOptions &options) override;
    WorkPointer _reduce_scatter_base(at::Tensor &output, at::Tensor &input, const c10d::ReduceScatterOptions &options) override;
    WorkPointer alltoall_base(at::Tensor &output, at::Tensor &input, std::vector<int64_t> &output_splits,
                              std::vector<int64_t> &input_splits, const c10d::AllToAllOptions &options) override;
    WorkPointer alltoall(Tensors &outputs, Tensors &inputs, const c10d::AllToAllOptions &options) override;
    WorkPointer barrier(const c10d::BarrierOptions &options) override;
    WorkPointer send(Tensors &tensors, int destination, int tag) override;
    WorkPointer recv(Tensors &tensors, int source, int tag) override;
    WorkPointer recvAnysource(Tensors &tensors, int tag) override;
#if TORCH_VERSION_MAJOR >= 2
    WorkPointer allreduce_sparse(Tensors &tensors, const c10d::AllreduceOptions &options) override;
    WorkPointer allgather_into_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                                const c10d::AllgatherOptions &options) override;
    WorkPointer reduce_scatter_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                                const c10d::ReduceScatterOptions &options) override;
    void startCoalescing() override;
    WorkPointer endCoalescing() override;
#endif
    /* By the store, so that a rank that does not come leaves the communicator usable. */
    void monitoredBarrier(const c10d::BarrierOptions &options, bool wait_for_all) override;
    /* Collectives begun so far; all ranks count from 0, so nothing has to be agreed on. */
    void setSequenceNumberForGroup() override {}
    uint64_t getSequenceNumberForGroup() override;

    /* Every operation under way, and every later one, fails on all ranks. */
    void abort_all();
    /* Which algorithm and transports an operation of so many bytes uses. */
    std::string describe(const std::string &collective, size_t bytes);

  private:
    c10::intrusive_ptr<Work> new_work(c10d::OpType type, const char *title, const Tensors &inputs, std::vector<Tensors> outputs,
                                      Milliseconds timeout);
    /* Begins `work` by begin(comm, &request), in order with all others. */
    template <typename Begin> WorkPointer start(c10::intrusive_ptr<Work> work, const Begin &begin);
    /* The same for several calls that begin together: begin(comm) makes them without requests. */
    template <typename Begin> WorkPointer start_group(c10::intrusive_ptr<Work> work, const Begin &begin);
    WorkPointer started(c10::intrusive_ptr<Work> work, weft_status status);
    WorkPointer receive(Tensors &tensors, int source, int tag, c10d::OpType type, const char *title);
    WorkPointer sparse(at::Tensor &tensor, const c10d::AllreduceOptions &options);

    const std::shared_ptr<Communicator> communicator_;
    const c10::intrusive_ptr<c10d::Store> store_;
    uint64_t sequence_ = 0, monitored_ = 0;
    std::string last_verdict_; /* key of the last monitored barrier's result, at rank 0 */
    bool coalescing_ = false;
    std::vector<c10::intrusive_ptr<Work>> coalesced_;
};

template <typename Begin> WorkPointer Backend::start(c10::intrusive_ptr<Work> work, const Begin &begin)
{
    std::lock_guard<std::mutex> lock(communicator_->order);
    return started(work, begin(communicator_->comm, &work->request));
}

template <typename Begin> WorkPointer Backend::start_group(c10::intrusive_ptr<Work> work, const Begin &begin)
{
    return start(std::move(work), [&](weft_comm *comm, weft_request **request) {
        weft_status status = weft_group_start(), ended;
        if (status != WEFT_OK)
            return status;
        status = begin(comm);
        ended = weft_group_end(request);
        return status != WEFT_OK ? status : ended;
    });
}

} // namespace weft_torch
#endif

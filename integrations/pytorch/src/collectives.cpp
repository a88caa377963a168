/* The collectives: checks, staging where tensors do not lie in one piece, and the call of weft. */
#include <numeric>

#include "backend.h"
#include "tensors.h"

namespace weft_torch {

namespace {

/* One element count times weft elements per torch element. */
size_t count_of(const at::Tensor &tensor, const Elements &elements)
{
    return (size_t)tensor.numel() * elements.each;
}

void check_ranks(const char *title, size_t given, int size)
{
    TORCH_CHECK(given == (size_t)size, title, ": a tensor per rank is needed, ", size, " and not ", given);
}

void check_parts(const char *title, const at::Tensor &whole, const at::Tensor &part, int size)
{
    check_dense(title, whole);
    check_dense(title, part);
    TORCH_CHECK(whole.scalar_type() == part.scalar_type(), title, ": tensors of ", c10::toString(whole.scalar_type()), " and ",
                c10::toString(part.scalar_type()));
    TORCH_CHECK(whole.numel() == part.numel() * size, title, ": the larger tensor has ", whole.numel(), " elements instead of ",
                size, " times ", part.numel());
}

void check_same_type(const char *title, const Tensors &tensors, const at::Tensor &like)
{
    check_dense(title, tensors);
    for (const at::Tensor &tensor : tensors)
        TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), title, ": tensors of ", c10::toString(tensor.scalar_type()),
                    " and ", c10::toString(like.scalar_type()));
}

} // namespace

/* ---- reductions --------------------------------------------------------------------------------- */

WorkPointer Backend::allreduce(Tensors &tensors, const c10d::AllreduceOptions &options)
{
    const char *title = "weft:all_reduce";
    TORCH_CHECK(tensors.size() == 1, title, ": one tensor is needed, not ", tensors.size());
    if (tensors[0].layout() == at::kSparse)
        return sparse(tensors[0], options);
    at::Tensor &tensor = only(title, tensors);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, tensor.scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::ALLREDUCE, title, tensors, {tensors}, options.timeout);
    work->own_op = own;
    at::Tensor memory = to_write(*work, tensor, true);
    work->kept = {memory};
    if (weft_comm_local_size(communicator_->comm) > 1)
        register_repeated(memory, work);
    return start(work, [&](weft_comm *comm, weft_request **request) {
        void *data = memory.data_ptr();
        return weft_all_reduce(comm, data, data, count_of(memory, elements), elements.type, op, request);
    });
}

WorkPointer Backend::allreduce_coalesced(Tensors &tensors, const c10d::AllreduceCoalescedOptions &options)
{
    const char *title = "weft:all_reduce";
    check_dense(title, tensors);
    check_same_type(title, tensors, tensors[0]);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, tensors[0].scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::ALLREDUCE_COALESCED, title, tensors, {tensors}, options.timeout);
    work->own_op = own;
    at::NoGradGuard no_grad;
    Tensors memories, staged;
    for (const at::Tensor &tensor : tensors) {
        memories.push_back(to_read(tensor));
        staged.push_back(tensor.is_contiguous() ? at::Tensor() : memories.back());
    }
    work->kept = memories;
    work->finish_step = [tensors, staged] {
        for (size_t i = 0; i < tensors.size(); i++)
            if (staged[i].defined())
                tensors[i].detach().copy_(staged[i]);
    };
    return start_group(work, [&](weft_comm *comm) {
        weft_status status = WEFT_OK;
        for (size_t i = 0; status == WEFT_OK && i < memories.size(); i++) {
            void *data = memories[i].data_ptr();
            status = weft_all_reduce(comm, data, data, count_of(memories[i], elements), elements.type, op, nullptr);
        }
        return status;
    });
}

WorkPointer Backend::reduce(Tensors &tensors, const c10d::ReduceOptions &options)
{
    const char *title = "weft:reduce";
    at::Tensor &tensor = only(title, tensors);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, tensor.scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::REDUCE, title, tensors, {tensors}, options.timeout);
    work->own_op = own;
    bool root = options.rootRank == rank_;
    at::Tensor memory = root ? to_write(*work, tensor, true) : to_read(tensor);
    work->kept = {memory};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        void *data = memory.data_ptr();
        return weft_reduce(comm, data, root ? data : nullptr, count_of(memory, elements), elements.type, op,
                           (int)options.rootRank, request);
    });
}

WorkPointer Backend::reduce_scatter(Tensors &outputs, std::vector<Tensors> &inputs, const c10d::ReduceScatterOptions &options)
{
    const char *title = "weft:reduce_scatter";
    at::Tensor &output = only(title, outputs);
    TORCH_CHECK(inputs.size() == 1, title, ": one list of inputs is needed, not ", inputs.size());
    check_ranks(title, inputs[0].size(), size_);
    check_same_type(title, inputs[0], output);
    check_like(title, inputs[0][rank_], output);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, output.scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::REDUCE_SCATTER, title, inputs[0], {outputs}, options.timeout);
    work->own_op = own;
    at::Tensor whole = gathered(inputs[0]), part = to_write(*work, output, false);
    work->kept = {whole, part};
    std::vector<size_t> counts = counts_of(inputs[0], elements.each);
    return start(work, [&](weft_comm *comm, weft_request **request) {
        if (all_equal(counts))
            return weft_reduce_scatter(comm, whole.data_ptr(), part.data_ptr(), counts[0], elements.type, op, request);
        return weft_reduce_scatter_v(comm, whole.data_ptr(), part.data_ptr(), counts.data(), elements.type, op, request);
    });
}

WorkPointer Backend::_reduce_scatter_base(at::Tensor &output, at::Tensor &input, const c10d::ReduceScatterOptions &options)
{
    const char *title = "weft:_reduce_scatter_base";
    check_parts(title, input, output, size_);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, output.scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::_REDUCE_SCATTER_BASE, title, {input}, {{output}}, options.timeout);
    work->own_op = own;
    at::Tensor whole = to_read(input), part = to_write(*work, output, false);
    work->kept = {whole, part};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_reduce_scatter(comm, whole.data_ptr(), part.data_ptr(), count_of(part, elements), elements.type, op, request);
    });
}

/* ---- gathering ---------------------------------------------------------------------------------- */

WorkPointer Backend::allgather(std::vector<Tensors> &outputs, Tensors &inputs, const c10d::AllgatherOptions &options)
{
    const char *title = "weft:all_gather";
    at::Tensor &input = only(title, inputs);
    TORCH_CHECK(outputs.size() == 1, title, ": one list of outputs is needed, not ", outputs.size());
    check_ranks(title, outputs[0].size(), size_);
    check_same_type(title, outputs[0], input);
    check_like(title, outputs[0][rank_], input);
    auto work = new_work(c10d::OpType::ALLGATHER, title, inputs, {outputs[0]}, options.timeout);
    Elements elements = elements_to_move(input.scalar_type());
    at::Tensor part = to_read(input), whole = to_scatter(*work, outputs[0]);
    work->kept = {part, whole};
    std::vector<size_t> counts = counts_of(outputs[0], elements.each);
    return start(work, [&](weft_comm *comm, weft_request **request) {
        if (all_equal(counts))
            return weft_all_gather(comm, part.data_ptr(), whole.data_ptr(), counts[0], elements.type, request);
        return weft_all_gather_v(comm, part.data_ptr(), counts[rank_], whole.data_ptr(), counts.data(), nullptr, elements.type,
                                 request);
    });
}

WorkPointer Backend::_allgather_base(at::Tensor &output, at::Tensor &input, const c10d::AllgatherOptions &options)
{
    const char *title = "weft:_all_gather_base";
    check_parts(title, output, input, size_);
    auto work = new_work(c10d::OpType::_ALLGATHER_BASE, title, {input}, {{output}}, options.timeout);
    Elements elements = elements_to_move(input.scalar_type());
    at::Tensor part = to_read(input), whole = to_write(*work, output, false);
    work->kept = {part, whole};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_all_gather(comm, part.data_ptr(), whole.data_ptr(), count_of(part, elements), elements.type, request);
    });
}

/* outputs[rank][i] is that rank's inputs[i]. */
WorkPointer Backend::allgather_coalesced(std::vector<Tensors> &outputs, Tensors &inputs, const c10d::AllgatherOptions &options)
{
    const char *title = "weft:all_gather";
    check_dense(title, inputs);
    check_ranks(title, outputs.size(), size_);
    for (const Tensors &list : outputs) {
        TORCH_CHECK(list.size() == inputs.size(), title, ": lists of ", list.size(), " and ", inputs.size(), " tensors");
        for (size_t i = 0; i < inputs.size(); i++)
            check_like(title, list[i], inputs[i]);
    }
    auto work = new_work(c10d::OpType::ALLGATHER_COALESCED, title, inputs, outputs, options.timeout);
    at::NoGradGuard no_grad;
    Tensors parts, wholes;
    for (const at::Tensor &input : inputs) {
        parts.push_back(to_read(input));
        wholes.push_back(at::empty({size_, input.numel()}, input.options()));
    }
    work->kept = parts;
    work->finish_step = [outputs, wholes] {
        for (size_t rank = 0; rank < outputs.size(); rank++)
            for (size_t i = 0; i < wholes.size(); i++)
                outputs[rank][i].detach().copy_(wholes[i][(int64_t)rank].view(outputs[rank][i].sizes()));
    };
    return start_group(work, [&](weft_comm *comm) {
        weft_status status = WEFT_OK;
        for (size_t i = 0; status == WEFT_OK && i < parts.size(); i++) {
            Elements elements = elements_to_move(parts[i].scalar_type());
            status = weft_all_gather(comm, parts[i].data_ptr(), wholes[i].data_ptr(), count_of(parts[i], elements), elements.type,
                                     nullptr);
        }
        return status;
    });
}

#if TORCH_VERSION_MAJOR >= 2
namespace {

/* Contiguous memory for each result, copied back at the end where it is not the result itself. */
Tensors memories_for(Work &work, const Tensors &outputs)
{
    at::NoGradGuard no_grad;
    Tensors memories;
    for (const at::Tensor &output : outputs)
        memories.push_back(output.is_contiguous() ? output : at::empty(output.sizes(), output.options()));
    work.finish_step = [outputs, memories] {
        for (size_t i = 0; i < outputs.size(); i++)
            if (!memories[i].is_same(outputs[i]))
                outputs[i].detach().copy_(memories[i]);
    };
    return memories;
}

Tensors all_to_read(const Tensors &tensors)
{
    Tensors memories;
    for (const at::Tensor &tensor : tensors)
        memories.push_back(to_read(tensor));
    return memories;
}

} // namespace

WorkPointer Backend::allgather_into_tensor_coalesced(Tensors &outputs, Tensors &inputs, const c10d::AllgatherOptions &options)
{
    const char *title = "weft:_all_gather_base";
    TORCH_CHECK(outputs.size() == inputs.size(), title, ": ", outputs.size(), " outputs for ", inputs.size(), " inputs");
    for (size_t i = 0; i < inputs.size(); i++)
        check_parts(title, outputs[i], inputs[i], size_);
    auto work = new_work(c10d::OpType::COALESCED, title, inputs, {outputs}, options.timeout);
    Tensors parts = all_to_read(inputs), wholes = memories_for(*work, outputs);
    work->kept = parts;
    return start_group(work, [&](weft_comm *comm) {
        weft_status status = WEFT_OK;
        for (size_t i = 0; status == WEFT_OK && i < parts.size(); i++) {
            Elements elements = elements_to_move(parts[i].scalar_type());
            status = weft_all_gather(comm, parts[i].data_ptr(), wholes[i].data_ptr(), count_of(parts[i], elements), elements.type,
                                     nullptr);
        }
        return status;
    });
}

WorkPointer Backend::reduce_scatter_tensor_coalesced(Tensors &outputs, Tensors &inputs, const c10d::ReduceScatterOptions &options)
{
    const char *title = "weft:_reduce_scatter_base";
    TORCH_CHECK(outputs.size() == inputs.size(), title, ": ", outputs.size(), " outputs for ", inputs.size(), " inputs");
    check_same_type(title, inputs, inputs[0]);
    for (size_t i = 0; i < inputs.size(); i++)
        check_parts(title, inputs[i], outputs[i], size_);
    weft_op op, own;
    Elements elements = elements_to_reduce(title, inputs[0].scalar_type(), options.reduceOp, &op, &own);
    auto work = new_work(c10d::OpType::COALESCED, title, inputs, {outputs}, options.timeout);
    work->own_op = own;
    Tensors wholes = all_to_read(inputs), parts = memories_for(*work, outputs);
    work->kept = wholes;
    return start_group(work, [&](weft_comm *comm) {
        weft_status status = WEFT_OK;
        for (size_t i = 0; status == WEFT_OK && i < parts.size(); i++)
            status = weft_reduce_scatter(comm, wholes[i].data_ptr(), parts[i].data_ptr(), count_of(parts[i], elements),
                                         elements.type, op, nullptr);
        return status;
    });
}
#endif

/* ---- one to all, all to one, all to all --------------------------------------------------------- */

WorkPointer Backend::broadcast(Tensors &tensors, const c10d::BroadcastOptions &options)
{
    const char *title = "weft:broadcast";
    at::Tensor &tensor = only(title, tensors);
    auto work = new_work(c10d::OpType::BROADCAST, title, tensors, {tensors}, options.timeout);
    Elements elements = elements_to_move(tensor.scalar_type());
    bool root = options.rootRank == rank_;
    at::Tensor memory = root ? to_read(tensor) : to_write(*work, tensor, false);
    work->kept = {memory};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        void *data = memory.data_ptr();
        return weft_broadcast(comm, data, data, count_of(memory, elements), elements.type, (int)options.rootRank, request);
    });
}

WorkPointer Backend::gather(std::vector<Tensors> &outputs, Tensors &inputs, const c10d::GatherOptions &options)
{
    const char *title = "weft:gather";
    at::Tensor &input = only(title, inputs);
    bool root = options.rootRank == rank_;
    TORCH_CHECK(outputs.size() == (root ? 1 : 0), title, ": one list of outputs at the root and none elsewhere, not ",
                outputs.size());
    if (root) {
        check_ranks(title, outputs[0].size(), size_);
        for (const at::Tensor &output : outputs[0])
            check_like(title, output, input);
    }
    auto work = new_work(c10d::OpType::GATHER, title, inputs, outputs, options.timeout);
    Elements elements = elements_to_move(input.scalar_type());
    at::Tensor part = to_read(input), whole;
    if (root)
        whole = to_scatter(*work, outputs[0]);
    work->kept = {part, whole};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_gather(comm, part.data_ptr(), root ? whole.data_ptr() : nullptr, count_of(part, elements), elements.type,
                           (int)options.rootRank, request);
    });
}

WorkPointer Backend::scatter(Tensors &outputs, std::vector<Tensors> &inputs, const c10d::ScatterOptions &options)
{
    const char *title = "weft:scatter";
    at::Tensor &output = only(title, outputs);
    bool root = options.rootRank == rank_;
    TORCH_CHECK(inputs.size() == (root ? 1 : 0), title, ": one list of inputs at the root and none elsewhere, not ",
                inputs.size());
    if (root) {
        check_ranks(title, inputs[0].size(), size_);
        for (const at::Tensor &input : inputs[0])
            check_like(title, input, output);
    }
    auto work = new_work(c10d::OpType::SCATTER, title, root ? inputs[0] : Tensors(), {outputs}, options.timeout);
    Elements elements = elements_to_move(output.scalar_type());
    at::Tensor part = to_write(*work, output, false), whole;
    if (root)
        whole = gathered(inputs[0]);
    work->kept = {part, whole};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_scatter(comm, root ? whole.data_ptr() : nullptr, part.data_ptr(), count_of(part, elements), elements.type,
                            (int)options.rootRank, request);
    });
}

namespace {

/* Rows per rank as weft elements per rank; without splits equal parts. */
std::vector<size_t> split_counts(const char *title, const at::Tensor &tensor, const std::vector<int64_t> &splits, size_t each,
                                 int size)
{
    int64_t rows = tensor.dim() > 0 ? tensor.size(0) : 1;
    size_t per_row = rows > 0 ? (size_t)(tensor.numel() / rows) * each : 0;
    if (splits.empty()) {
        TORCH_CHECK(rows % size == 0, title, ": ", rows, " rows cannot be split evenly among ", size, " ranks");
        return std::vector<size_t>((size_t)size, (size_t)(rows / size) * per_row);
    }
    TORCH_CHECK(splits.size() == (size_t)size, title, ": ", splits.size(), " splits for ", size, " ranks");
    TORCH_CHECK(std::accumulate(splits.begin(), splits.end(), (int64_t)0) == rows, title, ": the splits do not add up to the ",
                rows, " rows of the tensor");
    std::vector<size_t> counts;
    for (int64_t split : splits)
        counts.push_back((size_t)split * per_row);
    return counts;
}

} // namespace

WorkPointer Backend::alltoall_base(at::Tensor &output, at::Tensor &input, std::vector<int64_t> &output_splits,
                                   std::vector<int64_t> &input_splits, const c10d::AllToAllOptions &options)
{
    const char *title = "weft:all_to_all";
    check_dense(title, Tensors{output, input});
    TORCH_CHECK(output.scalar_type() == input.scalar_type(), title, ": tensors of ", c10::toString(output.scalar_type()), " and ",
                c10::toString(input.scalar_type()));
    Elements elements = elements_to_move(input.scalar_type());
    bool even = output_splits.empty() && input_splits.empty();
    TORCH_CHECK(!even || output.numel() == input.numel(), title, ": tensors of ", output.numel(), " and ", input.numel(),
                " elements");
    std::vector<size_t> send_counts = split_counts(title, input, input_splits, elements.each, size_);
    std::vector<size_t> recv_counts = split_counts(title, output, output_splits, elements.each, size_);
    auto work = new_work(c10d::OpType::ALLTOALL_BASE, title, {input}, {{output}}, options.timeout);
    at::Tensor from = to_read(input), to = to_write(*work, output, false);
    work->kept = {from, to};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        if (even)
            return weft_all_to_all(comm, from.data_ptr(), to.data_ptr(), send_counts[0], elements.type, request);
        return weft_all_to_all_v(comm, from.data_ptr(), send_counts.data(), nullptr, to.data_ptr(), recv_counts.data(), nullptr,
                                 elements.type, request);
    });
}

WorkPointer Backend::alltoall(Tensors &outputs, Tensors &inputs, const c10d::AllToAllOptions &options)
{
    const char *title = "weft:all_to_all";
    check_ranks(title, outputs.size(), size_);
    check_ranks(title, inputs.size(), size_);
    check_same_type(title, outputs, inputs[0]);
    check_same_type(title, inputs, inputs[0]);
    auto work = new_work(c10d::OpType::ALLTOALL, title, inputs, {outputs}, options.timeout);
    Elements elements = elements_to_move(inputs[0].scalar_type());
    std::vector<size_t> send_counts = counts_of(inputs, elements.each), recv_counts = counts_of(outputs, elements.each);
    at::Tensor from = gathered(inputs), to = to_scatter(*work, outputs);
    work->kept = {from, to};
    return start(work, [&](weft_comm *comm, weft_request **request) {
        return weft_all_to_all_v(comm, from.data_ptr(), send_counts.data(), nullptr, to.data_ptr(), recv_counts.data(), nullptr,
                                 elements.type, request);
    });
}

} // namespace weft_torch

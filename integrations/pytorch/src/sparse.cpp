/* The all_reduce of sparse tensors: everybody's indices and values go to everybody, who adds them up in rank order. */
#include "backend.h"
#include "tensors.h"

#include <ATen/ATen.h>

namespace weft_torch {

namespace {

constexpr int64_t DIMENSIONS = 8;
/* What ranks tell each other first: entries, dtype, sparse dimensions, dimensions, sizes. */
constexpr int64_t SHAPE_WORDS = 4 + DIMENSIONS;

at::Tensor shape_of(const at::Tensor &tensor)
{
    at::Tensor shape = at::zeros({SHAPE_WORDS}, at::kLong);
    int64_t *words = shape.data_ptr<int64_t>();
    words[0] = tensor._nnz();
    words[1] = (int64_t)tensor.scalar_type();
    words[2] = tensor.sparse_dim();
    words[3] = tensor.dim();
    for (int64_t i = 0; i < tensor.dim(); i++)
        words[4 + i] = tensor.size(i);
    return shape;
}

} // namespace

#if TORCH_VERSION_MAJOR >= 2
WorkPointer Backend::allreduce_sparse(Tensors &tensors, const c10d::AllreduceOptions &options)
{
    return allreduce(tensors, options);
}
#endif

/* Blocks in its exchanges: how much there is to receive is known only after the first. */
WorkPointer Backend::sparse(at::Tensor &tensor, const c10d::AllreduceOptions &options)
{
    const char *title = "weft:all_reduce";
    TORCH_CHECK(tensor.device().is_cpu(), title, ": a tensor on the CPU is needed, this one is on ", tensor.device());
    TORCH_CHECK((c10d::ReduceOp::RedOpType)options.reduceOp == c10d::ReduceOp::SUM, title, ": sparse tensors can only be summed");
    TORCH_CHECK(tensor.dim() <= DIMENSIONS, title, ": sparse tensors of up to ", DIMENSIONS, " dimensions, not ", tensor.dim());
    at::NoGradGuard no_grad;
    at::Tensor mine = tensor.detach().coalesce(), shape = shape_of(mine);
    at::Tensor shapes = at::empty({size_, SHAPE_WORDS}, at::kLong);
    at::Tensor indices = mine._indices().t().contiguous(), values = mine._values().contiguous();
    auto work = new_work(c10d::OpType::ALLREDUCE, title, {tensor}, {{tensor}}, options.timeout);
    work->kept = {tensor};
    std::vector<at::Tensor> all_indices, all_values;
    std::lock_guard<std::mutex> lock(communicator_->order);
    weft_comm *comm = communicator_->comm;
    weft_status status = weft_all_gather(comm, shape.data_ptr(), shapes.data_ptr(), SHAPE_WORDS, WEFT_I64, nullptr);
    if (status == WEFT_OK) {
        at::Tensor counts = shapes.select(1, 0).contiguous();
        const int64_t *entries = counts.data_ptr<int64_t>();
        for (int rank = 0; rank < size_; rank++)
            TORCH_CHECK(at::equal(shapes[rank].narrow(0, 1, SHAPE_WORDS - 1), shape.narrow(0, 1, SHAPE_WORDS - 1)), title,
                        ": the sparse tensors of ranks ", rank, " and ", rank_, " differ in dtype or size");
        int64_t total = counts.sum().item<int64_t>();
        std::vector<int64_t> value_sizes = values.sizes().vec();
        value_sizes[0] = total;
        at::Tensor got_indices = at::empty({total, indices.size(1)}, indices.options());
        at::Tensor got_values = at::empty(value_sizes, values.options());
        Elements elements = elements_to_move(values.scalar_type());
        size_t per_value = 1;
        for (size_t i = 1; i < value_sizes.size(); i++)
            per_value *= (size_t)value_sizes[i];
        std::vector<size_t> index_counts, value_counts;
        for (int rank = 0; rank < size_; rank++) {
            index_counts.push_back((size_t)entries[rank] * (size_t)indices.size(1));
            value_counts.push_back((size_t)entries[rank] * per_value * elements.each);
        }
        status = weft_all_gather_v(comm, indices.data_ptr(), index_counts[rank_], got_indices.data_ptr(), index_counts.data(),
                                   nullptr, WEFT_I64, nullptr);
        if (status == WEFT_OK)
            status = weft_all_gather_v(comm, values.data_ptr(), value_counts[rank_], got_values.data_ptr(), value_counts.data(),
                                       nullptr, elements.type, nullptr);
        if (status == WEFT_OK)
            tensor.copy_(at::sparse_coo_tensor(got_indices.t(), got_values, tensor.sizes()).coalesce());
    }
    return started(work, status);
}

} // namespace weft_torch

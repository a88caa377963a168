/* Element types, operations, and the staging of tensors that do not lie in one piece. */
#include "tensors.h"

#include <ATen/core/Tensor.h>

namespace weft_torch {

namespace {

bool find_type(at::ScalarType type, Elements *elements)
{
    switch (type) {
    case at::kBool: *elements = {WEFT_BOOL, 1}; return true;
    case at::kByte: *elements = {WEFT_U8, 1}; return true;
    case at::kChar: *elements = {WEFT_I8, 1}; return true;
    case at::kShort: *elements = {WEFT_I16, 1}; return true;
    case at::kInt: *elements = {WEFT_I32, 1}; return true;
    case at::kLong: *elements = {WEFT_I64, 1}; return true;
    case at::kHalf: *elements = {WEFT_F16, 1}; return true;
    case at::kBFloat16: *elements = {WEFT_BF16, 1}; return true;
    case at::kFloat: *elements = {WEFT_F32, 1}; return true;
    case at::kDouble: *elements = {WEFT_F64, 1}; return true;
    case at::kComplexHalf: *elements = {WEFT_F16, 2}; return true;
    case at::kComplexFloat: *elements = {WEFT_F32, 2}; return true;
    case at::kComplexDouble: *elements = {WEFT_F64, 2}; return true;
#if TORCH_VERSION_MAJOR >= 2
    case at::ScalarType::UInt16: *elements = {WEFT_U16, 1}; return true;
    case at::ScalarType::UInt32: *elements = {WEFT_U32, 1}; return true;
    case at::ScalarType::UInt64: *elements = {WEFT_U64, 1}; return true;
    case at::ScalarType::Float8_e4m3fn: *elements = {WEFT_F8E4M3, 1}; return true;
    case at::ScalarType::Float8_e5m2: *elements = {WEFT_F8E5M2, 1}; return true;
#endif
    default: return false;
    }
}

weft_op builtin(const char *title, const c10d::ReduceOp &op)
{
    switch ((c10d::ReduceOp::RedOpType)op) {
    case c10d::ReduceOp::SUM: return WEFT_SUM;
    case c10d::ReduceOp::AVG: return WEFT_AVG;
    case c10d::ReduceOp::PRODUCT: return WEFT_PROD;
    case c10d::ReduceOp::MIN: return WEFT_MIN;
    case c10d::ReduceOp::MAX: return WEFT_MAX;
    case c10d::ReduceOp::BAND: return WEFT_BAND;
    case c10d::ReduceOp::BOR: return WEFT_BOR;
    case c10d::ReduceOp::BXOR: return WEFT_BXOR;
    default: TORCH_CHECK(false, title, ": unknown reduction operation ", (int)(c10d::ReduceOp::RedOpType)op);
    }
}

/* The factor of a premultiplied sum as one element of the tensors' type. */
weft_op premultiplied(const char *title, at::ScalarType type, const Elements &elements, const c10d::ReduceOp &op)
{
    const auto *given = dynamic_cast<const c10d::NCCLPreMulSumSupplement *>(op.supplement_.get());
    TORCH_CHECK(given, title, ": PREMUL_SUM without a factor");
    at::Tensor factor = at::scalar_tensor(given->double_factor, at::TensorOptions().dtype(at::kDouble));
#if TORCH_VERSION_MAJOR >= 2
    if (given->tensor_factor.defined())
        factor = given->tensor_factor;
#else
    if (!given->tensor_factors.empty())
        factor = given->tensor_factors[0];
#endif
    factor = factor.to(at::kCPU).to(type).contiguous();
    weft_op made;
    weft_status status = weft_op_create_premul_sum(factor.data_ptr(), elements.type, &made);
    TORCH_CHECK(status == WEFT_OK, title, ": ", weft_last_error());
    return made;
}

bool adjacent(const Tensors &tensors)
{
    const char *next = static_cast<const char *>(tensors[0].data_ptr());
    for (const at::Tensor &tensor : tensors) {
        if (!tensor.is_contiguous() || tensor.data_ptr() != next || !tensor.storage().is_alias_of(tensors[0].storage()))
            return false;
        next += tensor.nbytes();
    }
    return true;
}

/* One tensor over all of them, which are adjacent. */
at::Tensor over(const Tensors &tensors)
{
    int64_t elements = 0;
    for (const at::Tensor &tensor : tensors)
        elements += tensor.numel();
    return tensors[0].detach().as_strided({elements}, {1}, tensors[0].storage_offset());
}

int64_t total(const Tensors &tensors)
{
    int64_t elements = 0;
    for (const at::Tensor &tensor : tensors)
        elements += tensor.numel();
    return elements;
}

} // namespace

Elements elements_to_move(at::ScalarType type)
{
    Elements elements;
    return find_type(type, &elements) ? elements : Elements{WEFT_U8, c10::elementSize(type)};
}

Elements elements_to_reduce(const char *title, at::ScalarType type, const c10d::ReduceOp &op, weft_op *weft, weft_op *own)
{
    Elements elements;
    TORCH_CHECK(find_type(type, &elements), title, ": tensors of ", c10::toString(type), " cannot be reduced");
    *own = -1;
    if ((c10d::ReduceOp::RedOpType)op == c10d::ReduceOp::PREMUL_SUM) {
        TORCH_CHECK(elements.each == 1, title, ": PREMUL_SUM of complex tensors is not supported");
        *weft = *own = premultiplied(title, type, elements, op);
        return elements;
    }
    *weft = builtin(title, op);
    TORCH_CHECK(elements.each == 1 || *weft == WEFT_SUM || *weft == WEFT_AVG, title,
                ": complex tensors have sum and average, not ", weft_op_name(*weft));
    TORCH_CHECK(*weft < WEFT_BAND || c10::isIntegralType(type, true), title, ": ", weft_op_name(*weft), " needs integers, not ",
                c10::toString(type));
    return elements;
}

void check_dense(const char *title, const at::Tensor &tensor)
{
    TORCH_CHECK(tensor.device().is_cpu(), title, ": a tensor on the CPU is needed, this one is on ", tensor.device());
    TORCH_CHECK(tensor.layout() == at::kStrided, title, ": a dense tensor is needed, this one is ", tensor.layout());
}

void check_dense(const char *title, const Tensors &tensors)
{
    TORCH_CHECK(!tensors.empty(), title, ": at least one tensor is needed");
    for (const at::Tensor &tensor : tensors)
        check_dense(title, tensor);
}

at::Tensor &only(const char *title, Tensors &tensors)
{
    TORCH_CHECK(tensors.size() == 1, title, ": one tensor is needed, not ", tensors.size());
    check_dense(title, tensors[0]);
    return tensors[0];
}

void check_like(const char *title, const at::Tensor &tensor, const at::Tensor &like)
{
    check_dense(title, tensor);
    TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), title, ": tensors of ", c10::toString(tensor.scalar_type()), " and ",
                c10::toString(like.scalar_type()));
    TORCH_CHECK(tensor.numel() == like.numel(), title, ": tensors of ", tensor.numel(), " and ", like.numel(), " elements");
}

at::Tensor to_read(const at::Tensor &tensor)
{
    at::NoGradGuard no_grad;
    return tensor.is_contiguous() ? tensor : tensor.contiguous();
}

at::Tensor to_write(Work &work, const at::Tensor &tensor, bool keep)
{
    if (tensor.is_contiguous())
        return tensor;
    at::NoGradGuard no_grad;
    at::Tensor memory = keep ? tensor.contiguous() : at::empty(tensor.sizes(), tensor.options());
    work.finish_step = [memory, tensor] { tensor.detach().copy_(memory); };
    return memory;
}

at::Tensor gathered(const Tensors &tensors)
{
    if (adjacent(tensors))
        return over(tensors);
    at::NoGradGuard no_grad;
    at::Tensor memory = at::empty({total(tensors)}, tensors[0].options());
    int64_t at = 0;
    for (const at::Tensor &tensor : tensors) {
        memory.narrow(0, at, tensor.numel()).copy_(tensor.detach().reshape({-1}));
        at += tensor.numel();
    }
    return memory;
}

at::Tensor to_scatter(Work &work, const Tensors &tensors)
{
    if (adjacent(tensors))
        return over(tensors);
    at::NoGradGuard no_grad;
    at::Tensor memory = at::empty({total(tensors)}, tensors[0].options());
    work.finish_step = [memory, tensors] {
        int64_t at = 0;
        for (const at::Tensor &tensor : tensors) {
            tensor.detach().copy_(memory.narrow(0, at, tensor.numel()).view(tensor.sizes()));
            at += tensor.numel();
        }
    };
    return memory;
}

std::vector<size_t> counts_of(const Tensors &tensors, size_t each)
{
    std::vector<size_t> counts;
    for (const at::Tensor &tensor : tensors)
        counts.push_back((size_t)tensor.numel() * each);
    return counts;
}

bool all_equal(const std::vector<size_t> &counts)
{
    for (size_t count : counts)
        if (count != counts[0])
            return false;
    return true;
}

} // namespace weft_torch

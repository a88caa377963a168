/* Tensors as weft sees them: element types, operations, contiguous memory. */
#ifndef WEFT_TORCH_TENSORS_H
#define WEFT_TORCH_TENSORS_H

#include <weft/weft.h>

#include "work.h"

namespace weft_torch {

/* A dtype as so many weft elements each. */
struct Elements {
    weft_type type;
    size_t each;
};

/* For moving data: every dtype, as bytes where weft has no such type. */
Elements elements_to_move(at::ScalarType type);
/* For reducing; an error for what cannot be reduced like this. *own receives a new operation that the caller frees, or -1. */
Elements elements_to_reduce(const char *title, at::ScalarType type, const c10d::ReduceOp &op, weft_op *weft, weft_op *own);

/* Errors for what is not a dense tensor on the CPU. */
void check_dense(const char *title, const at::Tensor &tensor);
void check_dense(const char *title, const Tensors &tensors);
/* Exactly one, dense. */
at::Tensor &only(const char *title, Tensors &tensors);
/* The same dtype and number of elements. */
void check_like(const char *title, const at::Tensor &tensor, const at::Tensor &like);

/* The tensor itself if it is contiguous, else a copy. */
at::Tensor to_read(const at::Tensor &tensor);
/* Contiguous memory for a result: the tensor itself, or a new one that the work's finish step copies into it. `keep`: what is in
 * the tensor matters. */
at::Tensor to_write(Work &work, const at::Tensor &tensor, bool keep);

/* Several tensors one after the other: adjacent ones as they lie, else copied; and the way back by the finish step. */
at::Tensor gathered(const Tensors &tensors);
at::Tensor to_scatter(Work &work, const Tensors &tensors);
/* Elements of each. */
std::vector<size_t> counts_of(const Tensors &tensors, size_t each);
bool all_equal(const std::vector<size_t> &counts);

/* memory.cpp: a tensor that fills its storage and is reduced again and again becomes memory that ranks on this host read in
 * place, until its storage frees it. */
void register_repeated(const at::Tensor &tensor, const c10::intrusive_ptr<Work> &work);
/* Bytes registered at the moment. */
size_t registered_bytes();

} // namespace weft_torch
#endif

/* The life of an operation after it has begun: waiting, testing, its future and its errors. */
#include "work.h"

#include <ATen/core/jit_type.h>

namespace weft_torch {

std::string error_text(const char *title, int rank, int size, weft_status status, Milliseconds timeout)
{
    std::string detail = weft_last_error(), text = title;
    text += ": rank " + std::to_string(rank) + " of " + std::to_string(size) + ": ";
    if (status == WEFT_ERR_TIMEOUT)
        text += "a timeout of " + std::to_string(timeout.count()) + " ms is over";
    else
        text += weft_status_text(status);
    return detail.empty() ? text : text + ": " + detail;
}

Work::Work(std::shared_ptr<Communicator> communicator, c10d::OpType type, const char *title, const Tensors &inputs,
           std::vector<Tensors> outputs)
    : c10d::Work(communicator->rank, type, title, Optional<Tensors>(inputs)), timeout(communicator->timeout),
      communicator_(std::move(communicator)), progress_(is_message() ? message_progress() : communicator_->collectives),
      title_(title), size_(communicator_->size), outputs_(std::move(outputs))
{
}

/* ---- ending ------------------------------------------------------------------------------------- */

void Work::mark(c10::ivalue::Future &future, const std::exception_ptr &error)
{
    if (error)
        future.setError(error);
    else if (outputs_.size() > 1)
        future.markCompleted(c10::IValue(outputs_));
    else
        future.markCompleted(c10::IValue(outputs_.empty() ? Tensors() : outputs_[0]));
}

/* By the thread that has taken it. The future comes first: who waited for the work may use it at once. */
void Work::end_with(weft_status status, std::exception_ptr error)
{
    finish_step = nullptr;
    kept.clear();
    prior.clear();
    if (own_op >= 0)
        weft_op_free(own_op);
    c10::intrusive_ptr<c10::ivalue::Future> future;
    std::function<void(weft_status)> tell;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        exception_ = error;
        marked_ = true;
        status_ = status;
        future = future_;
        tell.swap(tell_);
    }
    if (tell)
        tell(status);
    if (future)
        mark(*future, error);
    finish(error);
    progress_->remove(this);
    std::shared_ptr<Communicator> last;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        last.swap(communicator_);
    }
    /* release: who sees it done sees that this thread is out of it */
    done_.store(true, std::memory_order_release);
}

void Work::end(weft_status status)
{
    std::exception_ptr error;
    try {
        if (status != WEFT_OK)
            throw std::runtime_error(error_text(title_, rank_, size_, status, timeout));
        for (const auto &work : prior)
            work->settle();
        for (const auto &work : prior)
            if (stands_for_prior && work->exception())
                std::rethrow_exception(work->exception());
        if (finish_step) {
            at::NoGradGuard no_grad;
            finish_step();
        }
    } catch (...) {
        error = std::current_exception();
        status = status == WEFT_OK ? WEFT_ERR_INTERNAL : status;
    }
    end_with(status, error);
}

void Work::when_over(std::function<void(weft_status)> tell)
{
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!marked_) {
            tell_ = std::move(tell);
            return;
        }
    }
    tell(status_);
}

void Work::fail(weft_status status)
{
    if (take())
        end(status);
}

void Work::drive()
{
    weft_status status = weft_wait(&request);
    if (!Progress::inside() || !Progress::left())
        end(status);
}

bool Work::try_settle()
{
    if (done() || !take())
        return false;
    drive();
    return true;
}

void Work::settle()
{
    if (try_settle())
        return;
    std::unique_lock<std::mutex> lock(mutex_);
    cv_.wait(lock, [this] { return completed_; });
}

/* ---- what torch calls --------------------------------------------------------------------------- */

bool Work::isCompleted()
{
    if (!done() && take()) {
        bool complete = true;
        weft_status status = request ? weft_test(&request, &complete) : WEFT_OK;
        for (size_t i = 0; complete && status == WEFT_OK && i < prior.size(); i++)
            complete = prior[i]->isCompleted();
        if (complete)
            end(status);
        else
            taken_.store(false, std::memory_order_release);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    return completed_;
}

int Work::sourceRank() const
{
    TORCH_CHECK(opType_ == c10d::OpType::RECV || opType_ == c10d::OpType::RECVANYSOURCE, title_, ": only a receive has a source");
    return info.source;
}

Tensors Work::result()
{
    TORCH_CHECK(isCompleted(), title_, ": Work needs to be completed before calling result");
    TORCH_CHECK(outputs_.size() <= 1, title_, ": has lists of results: take its future's");
    return outputs_.empty() ? Tensors() : outputs_[0];
}

void Work::hand_over()
{
    wanted_.store(true, std::memory_order_relaxed);
    progress_->hurry();
}

bool Work::wait(Milliseconds limit)
{
    if (limit.count() <= 0) {
        settle();
    } else if (!isCompleted()) {
        hand_over();
        std::unique_lock<std::mutex> lock(mutex_);
        if (!cv_.wait_for(lock, limit, [this] { return completed_; }))
            throw std::runtime_error(std::string(title_) + ": rank " + std::to_string(rank_) + " of " + std::to_string(size_) +
                                     ": a timeout of " + std::to_string(limit.count()) + " ms is over: Timed out waiting for it");
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (exception_)
        std::rethrow_exception(exception_);
    return true;
}

void Work::abort()
{
    std::shared_ptr<Communicator> communicator;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        communicator = communicator_;
    }
    if (communicator)
        weft_comm_abort(communicator->comm);
}

c10::intrusive_ptr<c10::ivalue::Future> Work::getFuture()
{
    bool under_way;
    c10::intrusive_ptr<c10::ivalue::Future> future;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!future_) {
            c10::TypePtr type = c10::ListType::create(c10::TensorType::get());
            future_ = c10::make_intrusive<c10::ivalue::Future>(outputs_.size() > 1 ? c10::ListType::create(type) : type);
            if (marked_)
                mark(*future_, exception_);
        }
        future = future_;
        under_way = !marked_;
    }
    if (under_way && Progress::inside())
        without_python([this] { settle(); }); /* a callback that waits for this future would wait for itself */
    else if (under_way)
        hand_over();
    return future;
}

} // namespace weft_torch

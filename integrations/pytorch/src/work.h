/* A communicator with what belongs to it, and one operation on it: who waits for a Work drives it, in the calling thread. */
#ifndef WEFT_TORCH_WORK_H
#define WEFT_TORCH_WORK_H

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <weft/weft.h>

#include "progress.h"
#include "version.h"

namespace weft_torch {

using Milliseconds = std::chrono::milliseconds;
using Tensors = std::vector<at::Tensor>;

/* Lives as long as its process group or an operation on it does. */
class Communicator {
  public:
    Communicator(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size, Milliseconds timeout);
    /* Takes a communicator over. */
    Communicator(weft_comm *made, Milliseconds timeout);
    /* As weft_comm_create_env: by the variables of mpirun, srun or torchrun. */
    static std::shared_ptr<Communicator> of_environment(Milliseconds timeout);
    ~Communicator();
    Communicator(const Communicator &) = delete;
    Communicator &operator=(const Communicator &) = delete;

    weft_comm *comm = nullptr;
    const int rank, size;
    const Milliseconds timeout;
    /* Begins operations one after the other. */
    std::mutex order;
    const std::shared_ptr<Progress> collectives;

    /* As weft_comm_split, in order with what has begun: none for WEFT_UNDEFINED. */
    std::shared_ptr<Communicator> split(int colour, int key, Milliseconds timeout);
};

/* Runs what may block, without Python's lock if the caller holds it. Set by module.cpp, the only file that knows Python. */
extern void (*without_python_hook)(const std::function<void()> &blocks);
inline void without_python(const std::function<void()> &blocks)
{
    if (without_python_hook)
        without_python_hook(blocks);
    else
        blocks();
}

/* The text of an error of this thread's last weft call: operation, rank, what happened. */
std::string error_text(const char *title, int rank, int size, weft_status status, Milliseconds timeout);

class Work : public c10d::Work {
  public:
    /* outputs: what result() and the future give; a list of lists where there are several. title must be a literal. */
    Work(std::shared_ptr<Communicator> communicator, c10d::OpType type, const char *title, const Tensors &inputs,
         std::vector<Tensors> outputs);

    bool isCompleted() override;
    int sourceRank() const override;
    Tensors result() override;
    bool wait(Milliseconds timeout = kNoTimeout) override;
    void abort() override;
    c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;

    /* Set before it begins: run once after success, by whoever ends it; and what must live until then. */
    std::function<void()> finish_step;
    Tensors kept;
    std::vector<c10::intrusive_ptr<Work>> prior;
    bool stands_for_prior = false; /* fails if one of them did */
    weft_request *request = nullptr;
    weft_recv_info info = {-1, -1, 0};
    weft_op own_op = -1;
    Milliseconds timeout{0};

    /* It could not begin. */
    void fail(weft_status status);
    /* Drives it to its end, or waits for who does. */
    void settle();
    /* Calls tell(status) when it is over, in the thread that ends it and before anybody who waits returns; at once if it is. One
     * caller. */
    void when_over(std::function<void(weft_status)> tell);
    /* For the progress thread: false if somebody else drives it. */
    bool try_settle();

    bool done() const { return done_.load(std::memory_order_acquire); }
    bool wanted() const { return wanted_.load(std::memory_order_relaxed); }
    bool free() const { return !taken_.load(std::memory_order_relaxed); }
    bool is_message() const { return c10d::isP2POp(opType_); }
    std::chrono::steady_clock::time_point began;

    /* A weak reference (memory.cpp) keeps the object, and must not keep the tensors. */
    void release_resources() override
    {
        outputs_.clear();
        future_.reset();
    }

  private:
    bool take() { return !taken_.exchange(true, std::memory_order_acquire); }
    void drive();
    void end(weft_status status);
    void end_with(weft_status status, std::exception_ptr error);
    void mark(c10::ivalue::Future &future, const std::exception_ptr &error);
    void hand_over();

    std::shared_ptr<Communicator> communicator_;
    const std::shared_ptr<Progress> progress_;
    const char *const title_;
    const int size_;
    std::vector<Tensors> outputs_;
    c10::intrusive_ptr<c10::ivalue::Future> future_;
    /* One thread at a time tests, waits and ends; release by who gives it back, acquire by who takes it. */
    std::atomic<bool> taken_{false};
    std::atomic<bool> done_{false}, wanted_{false};
    bool marked_ = false;
    weft_status status_ = WEFT_IN_PROGRESS;
    std::function<void(weft_status)> tell_;
};

/* The one thread for messages of all groups. */
const std::shared_ptr<Progress> &message_progress();

} // namespace weft_torch
#endif

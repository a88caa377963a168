/* The threads that finish what nobody waits for: a work is taken over when its future is asked for, or when it has been under way
 * for a while. A thread sleeps while nothing is outstanding. */
#ifndef WEFT_TORCH_PROGRESS_H
#define WEFT_TORCH_PROGRESS_H

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "version.h"

namespace weft_torch {

class Work;

class Progress : public std::enable_shared_from_this<Progress> {
  public:
    /* Collectives of one communicator end in order, so a thread waits for the oldest; messages end in any order
     * and are polled. */
    enum class Kind { collectives, messages };
    explicit Progress(Kind kind) : kind_(kind) {}
    static std::shared_ptr<Progress> make(Kind kind);

    /* A work that has begun. */
    void add(c10::intrusive_ptr<Work> work);
    /* It is over. The caller holds it. */
    void remove(const Work *work);
    /* Somebody waits for a work that was added and does not drive it. */
    void hurry();
    /* What has begun and is not over. */
    std::vector<c10::intrusive_ptr<Work>> outstanding();
    /* Ends the thread when its works are over. */
    void stop();
    /* The calling thread is one of these. */
    static bool inside();
    /* The program ends: gives collectives that are under way, which other ranks may wait for, a while to end; then no thread of
     * ours ends anything, as a future's callback would need a Python that is no more. */
    static void leave(std::chrono::milliseconds patience);
    static bool left();

  private:
    using Works = std::vector<c10::intrusive_ptr<Work>>;
    void run();
    c10::intrusive_ptr<Work> next_due();
    bool poll_all();
    void rest(std::unique_lock<std::mutex> &lock);

    const Kind kind_;
    std::mutex mutex_;
    std::condition_variable bell_;
    std::deque<c10::intrusive_ptr<Work>> works_;
    bool started_ = false, asleep_ = false, stopped_ = false;
    int idle_ticks_ = 0;
    std::chrono::microseconds pause_{0};
};

} // namespace weft_torch
#endif

/* The progress threads: when they take a work over, when they sleep. What a work is, is work.cpp's. */
#include "progress.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "work.h"

namespace weft_torch {

namespace {

/* A work is taken over that nobody has waited for within one to two ticks; after so many ticks without any the thread sleeps
 * until it is woken. Ticks cost less than waking it for each of many small operations that their caller is about to wait for. */
constexpr Milliseconds TICK(1);
constexpr int IDLE_TICKS = 20;
/* Messages that do not come are asked for less and less often, down to once a tick. */
constexpr std::chrono::microseconds SHORTEST_PAUSE(50);

thread_local bool inside_progress;

/* All there are; never destroyed, as threads may outlive static objects. */
std::mutex all_lock;
std::vector<std::weak_ptr<Progress>> &all()
{
    static auto *found = new std::vector<std::weak_ptr<Progress>>();
    return *found;
}

std::atomic<bool> has_left{false};

bool some_outstanding()
{
    std::lock_guard<std::mutex> lock(all_lock);
    for (const auto &weak : all())
        if (auto progress = weak.lock())
            for (const auto &work : progress->outstanding())
                if (!work->is_message())
                    return true;
    return false;
}

} // namespace

std::shared_ptr<Progress> Progress::make(Kind kind)
{
    auto made = std::make_shared<Progress>(kind);
    std::lock_guard<std::mutex> lock(all_lock);
    auto gone = [](const std::weak_ptr<Progress> &weak) { return weak.expired(); };
    all().erase(std::remove_if(all().begin(), all().end(), gone), all().end());
    all().push_back(made);
    return made;
}

void Progress::leave(std::chrono::milliseconds patience)
{
    auto until = std::chrono::steady_clock::now() + patience;
    while (some_outstanding() && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(TICK);
    has_left.store(true, std::memory_order_relaxed);
}

bool Progress::left()
{
    return has_left.load(std::memory_order_relaxed);
}

bool Progress::inside()
{
    return inside_progress;
}

const std::shared_ptr<Progress> &message_progress()
{
    static const auto *progress = new std::shared_ptr<Progress>(Progress::make(Progress::Kind::messages));
    return *progress;
}

void Progress::add(c10::intrusive_ptr<Work> work)
{
    work->began = std::chrono::steady_clock::now();
    std::unique_lock<std::mutex> lock(mutex_);
    works_.push_back(std::move(work));
    pause_ = SHORTEST_PAUSE;
    bool wake = asleep_;
    if (!started_) {
        started_ = true;
        std::thread([self = shared_from_this()] { self->run(); }).detach();
    }
    lock.unlock();
    if (wake)
        bell_.notify_one();
}

void Progress::remove(const Work *work)
{
    c10::intrusive_ptr<Work> found; /* let go of without the lock */
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto place = works_.begin(); place != works_.end(); ++place)
        if (place->get() == work) {
            found = std::move(*place);
            works_.erase(place);
            break;
        }
}

void Progress::hurry()
{
    /* The lock orders this with a thread that has looked and is about to sleep. */
    {
        std::lock_guard<std::mutex> lock(mutex_);
    }
    bell_.notify_one();
}

void Progress::stop()
{
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stopped_ = true;
    }
    bell_.notify_one();
}

std::vector<c10::intrusive_ptr<Work>> Progress::outstanding()
{
    std::lock_guard<std::mutex> lock(mutex_);
    return Works(works_.begin(), works_.end());
}

/* The oldest that nobody drives and that is wanted or has waited for long. */
c10::intrusive_ptr<Work> Progress::next_due()
{
    auto now = std::chrono::steady_clock::now();
    for (const auto &work : works_)
        if (work->free() && (work->wanted() || now - work->began >= TICK))
            return work;
    return {};
}

/* One look at each message; true if one has ended. Without the lock. */
bool Progress::poll_all()
{
    bool some = false;
    for (const auto &work : outstanding())
        some |= !left() && work->isCompleted();
    return some;
}

/* Nothing is due. */
void Progress::rest(std::unique_lock<std::mutex> &lock)
{
    if (!works_.empty() || idle_ticks_ < IDLE_TICKS) {
        idle_ticks_ = works_.empty() ? idle_ticks_ + 1 : 0;
        bell_.wait_for(lock, TICK);
        return;
    }
    asleep_ = true;
    bell_.wait(lock, [this] { return !works_.empty() || stopped_; });
    asleep_ = false;
    idle_ticks_ = 0;
}

void Progress::run()
{
    inside_progress = true;
    pthread_setname_np(pthread_self(), kind_ == Kind::messages ? "weft-messages" : "weft-progress");
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        c10::intrusive_ptr<Work> due = next_due();
        if (!due) {
            if ((works_.empty() && stopped_) || left())
                return;
            rest(lock);
            continue;
        }
        lock.unlock();
        if (left())
            return;
        bool idle = kind_ == Kind::messages ? !poll_all() : !due->try_settle();
        due.reset(); /* may end a communicator: not with the lock */
        lock.lock();
        if (idle) {
            bell_.wait_for(lock, pause_);
            pause_ = std::min<std::chrono::microseconds>(2 * pause_, TICK);
        } else {
            pause_ = SHORTEST_PAUSE;
        }
    }
}

} // namespace weft_torch

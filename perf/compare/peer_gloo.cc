/* Gloo for the comparison, over TCP as Debian's is. Variants: "ring" and "bcube" are the algorithms of its present interface,
 * "halving_doubling" and "ring_chunked" those of its older one, which keep their buffers from call to call; with "_sync" these
 * poll their sockets in the calling thread. Gloo knows no bf16: sums are a function of ours over 16-bit words. */
#include "measure.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <gloo/allgather.h>
#include <gloo/allgather_ring.h>
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/alltoall.h>
#include <gloo/barrier.h>
#include <gloo/barrier_all_to_one.h>
#include <gloo/broadcast.h>
#include <gloo/broadcast_one_to_all.h>
#include <gloo/math.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

namespace {

std::shared_ptr<gloo::rendezvous::Context> context;
std::unique_ptr<gloo::rendezvous::FileStore> meeting;
std::unique_ptr<gloo::Algorithm> algorithm;
std::string variant = "ring";
bool sync_mode, old_interface;

/* sum may be left, not partly. */
void add_bf16(void *sum, const void *left, const void *right, size_t count)
{
    enum { STEP = 1024 };
    uint16_t part[STEP];
    for (size_t i = 0; i < count; i += STEP) {
        size_t now = count - i < STEP ? count - i : (size_t)STEP;
        compare_add_bf16(part, static_cast<const uint16_t *>(left) + i, static_cast<const uint16_t *>(right) + i, now);
        memcpy(static_cast<uint16_t *>(sum) + i, part, now * sizeof *part);
    }
}

void add_to_bf16(uint16_t *sum, const uint16_t *right, size_t count) { add_bf16(sum, sum, right, count); }

const gloo::ReductionFunction<uint16_t> sum_bf16(gloo::CUSTOM, add_to_bf16);

/* What the older interface offers, for both types. Its all_reduce and reduce_scatter work in place, in `recv` and in `send`'s
 * copy: run() copies the input first, as a program with two buffers has to. */
template <typename T> bool make_algorithm(const compare_cell &c, T *send, T *recv, const gloo::ReductionFunction<T> *sum)
{
    std::vector<T *> out{recv};
    int count = static_cast<int>(c.count);
    if (c.collective == COMPARE_ALL_REDUCE && variant.compare(0, 7, "halving") == 0)
        algorithm.reset(new gloo::AllreduceHalvingDoubling<T>(context, out, count, sum));
    else if (c.collective == COMPARE_ALL_REDUCE)
        algorithm.reset(new gloo::AllreduceRingChunked<T>(context, out, count, sum));
    else if (c.collective == COMPARE_ALL_GATHER)
        algorithm.reset(new gloo::AllgatherRing<T>(context, std::vector<const T *>{send}, recv, count));
    else if (c.collective == COMPARE_BROADCAST)
        algorithm.reset(new gloo::BroadcastOneToAll<T>(context, out, count));
    else if (c.collective == COMPARE_BARRIER)
        algorithm.reset(new gloo::BarrierAllToOne(context));
    else
        return false;
    return true;
}

/* The one reduce_scatter that Gloo has keeps its result at the start of the buffer it reduces. */
template <typename T> void make_reduce_scatter(const compare_cell &c, T *send, const gloo::ReductionFunction<T> *sum)
{
    std::vector<int> parts(static_cast<size_t>(context->size), static_cast<int>(c.count));
    algorithm.reset(new gloo::ReduceScatterHalvingDoubling<T>(context, std::vector<T *>{send},
                                                              static_cast<int>(c.count) * context->size, parts, sum));
}

std::vector<char> reduced; /* the copy that reduce_scatter destroys */

bool make(const compare_cell &c, void *send, void *recv)
{
    const gloo::ReductionFunction<float> *sum = gloo::ReductionFunction<float>::sum;
    if (c.collective == COMPARE_REDUCE_SCATTER) {
        reduced.resize(c.count * static_cast<size_t>(context->size) * compare_type_bytes(c.type));
        if (c.type == COMPARE_F32)
            make_reduce_scatter(c, reinterpret_cast<float *>(reduced.data()), sum);
        else
            make_reduce_scatter(c, reinterpret_cast<uint16_t *>(reduced.data()), &sum_bf16);
        return true;
    }
    if (!old_interface)
        return true;
    if (c.type == COMPARE_F32)
        return make_algorithm(c, static_cast<float *>(send), static_cast<float *>(recv), sum);
    return make_algorithm(c, static_cast<uint16_t *>(send), static_cast<uint16_t *>(recv), &sum_bf16);
}

template <typename Options> void set_buffers(Options &options, const compare_cell &c, void *send, void *recv)
{
    size_t in = c.count * compare_blocks_in(c.collective, context->size);
    size_t out = c.count * compare_blocks_out(c.collective, context->size);
    if (c.type == COMPARE_F32) {
        options.setInput(static_cast<float *>(send), in);
        options.setOutput(static_cast<float *>(recv), out);
    } else {
        options.setInput(static_cast<uint16_t *>(send), in);
        options.setOutput(static_cast<uint16_t *>(recv), out);
    }
}

void run_all_reduce(const compare_cell &c, void *send, void *recv)
{
    gloo::AllreduceOptions options(context);
    set_buffers(options, c, send, recv);
    options.setAlgorithm(variant == "bcube" ? gloo::AllreduceOptions::Algorithm::BCUBE
                                            : gloo::AllreduceOptions::Algorithm::RING);
    if (c.type == COMPARE_F32)
        options.setReduceFunction(
            static_cast<void (*)(void *, const void *, const void *, size_t)>(&gloo::sum<float>));
    else
        options.setReduceFunction(add_bf16);
    gloo::allreduce(options);
}

void run_broadcast(const compare_cell &c, void *recv)
{
    gloo::BroadcastOptions options(context);
    options.setRoot(0);
    if (c.type == COMPARE_F32)
        options.setOutput(static_cast<float *>(recv), c.count);
    else
        options.setOutput(static_cast<uint16_t *>(recv), c.count);
    gloo::broadcast(options);
}

void run_new(const compare_cell &c, void *send, void *recv)
{
    if (c.collective == COMPARE_ALL_REDUCE) {
        run_all_reduce(c, send, recv);
    } else if (c.collective == COMPARE_BROADCAST) {
        run_broadcast(c, recv);
    } else if (c.collective == COMPARE_ALL_GATHER) {
        gloo::AllgatherOptions options(context);
        set_buffers(options, c, send, recv);
        gloo::allgather(options);
    } else if (c.collective == COMPARE_ALL_TO_ALL) {
        gloo::AlltoallOptions options(context);
        set_buffers(options, c, send, recv);
        gloo::alltoall(options);
    } else {
        gloo::BarrierOptions options(context);
        gloo::barrier(options);
    }
}

void run_old(const compare_cell &c, void *send, void *recv)
{
    size_t bytes = c.count * compare_type_bytes(c.type);
    if (c.collective == COMPARE_ALL_REDUCE)
        memcpy(recv, send, bytes);
    else if (c.collective == COMPARE_REDUCE_SCATTER)
        memcpy(reduced.data(), send, reduced.size());
    algorithm->run();
    if (c.collective == COMPARE_REDUCE_SCATTER)
        memcpy(recv, reduced.data(), bytes);
}

/* Gloo's exceptions end here: those who call are C. */
template <typename Action> int guarded(const char *what, Action action)
{
    try {
        action();
        return 0;
    } catch (const std::exception &error) {
        fprintf(stderr, "compare-gloo: %s: %s\n", what, error.what());
        return 1;
    }
}

int number_of(const char *name)
{
    const char *text = getenv(name);
    return text != nullptr ? static_cast<int>(strtol(text, nullptr, 10)) : -1;
}

int start(const char *wanted, int *rank, int *ranks)
{
    const char *store = getenv("COMPARE_STORE"), *interface = getenv("COMPARE_INTERFACE");
    *rank = number_of("RANK");
    *ranks = number_of("WORLD_SIZE");
    if (store == nullptr || *rank < 0 || *ranks < 1) {
        fprintf(stderr, "compare-gloo: RANK, WORLD_SIZE and COMPARE_STORE (a folder) must be set\n");
        return 1;
    }
    if (wanted != nullptr)
        variant = wanted;
    sync_mode = variant.size() > 5 && variant.compare(variant.size() - 5, 5, "_sync") == 0;
    old_interface = variant != "ring" && variant != "bcube";
    return guarded("start", [&] {
        gloo::transport::tcp::attr attributes;
        attributes.iface = interface != nullptr ? interface : "lo";
        auto device = gloo::transport::tcp::CreateDevice(attributes);
        meeting.reset(new gloo::rendezvous::FileStore(store));
        context = std::make_shared<gloo::rendezvous::Context>(*rank, *ranks);
        context->setTimeout(std::chrono::seconds(10));
        context->connectFullMesh(*meeting, device);
        for (int peer = 0; sync_mode && peer < *ranks; peer++)
            if (peer != *rank)
                context->getPair(peer)->setSync(true, true);
    });
}

bool prepare(const compare_cell *c, void *send, void *recv)
{
    bool offered = true;
    algorithm.reset();
    if (old_interface && c->collective == COMPARE_ALL_TO_ALL)
        return false;
    /* The older interface does not take so many ranks for so few elements. */
    if (old_interface && c->collective == COMPARE_ALL_REDUCE && c->count < static_cast<size_t>(context->size))
        return false;
    return guarded("prepare", [&] { offered = make(*c, send, recv); }) == 0 && offered;
}

int run(const compare_cell *c, void *send, void *recv)
{
    return guarded("run", [&] {
        if (algorithm)
            run_old(*c, send, recv);
        else
            run_new(*c, send, recv);
    });
}

void release() { algorithm.reset(); }

/* A rank that closes its connections makes those fail who have not yet looked at what came last: all wait for all, elsewhere. */
void finish()
{
    (void)guarded("finish", [] {
        std::vector<std::string> keys;
        for (int rank = 0; rank < context->size; rank++)
            keys.push_back("finished" + std::to_string(rank));
        meeting->set(keys[static_cast<size_t>(context->rank)], std::vector<char>{1});
        meeting->wait(keys);
        context.reset();
    });
}

} // namespace

extern "C" const compare_library compare_this = {"gloo",  start,   nullptr, prepare, run,
                                                 release, nullptr, nullptr, nullptr, finish};

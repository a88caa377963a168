/* The Python module weft_torch._C: makes process groups. The only file that knows Python. */
#include <torch/csrc/utils/pybind.h>

#include <pybind11/chrono.h>
#include <pybind11/functional.h>

#include "backend.h"
#include "tensors.h"

namespace weft_torch {
namespace {

void without_lock(const std::function<void()> &blocks)
{
#if PY_VERSION_HEX >= 0x030d0000
    bool ending = Py_IsFinalizing();
#else
    bool ending = _Py_IsFinalizing();
#endif
    /* Of an ending Python the check says nothing. */
    if (ending || !PyGILState_Check()) {
        blocks();
        return;
    }
    py::gil_scoped_release release;
    blocks();
}

c10::intrusive_ptr<Base> create(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size,
                                std::chrono::duration<double> timeout)
{
    return c10::make_intrusive<Backend>(store, rank, size, std::chrono::duration_cast<Milliseconds>(timeout));
}

Backend &as_weft(const c10::intrusive_ptr<Base> &group)
{
    auto *backend = dynamic_cast<Backend *>(group.get());
    TORCH_CHECK(backend, "this process group's backend is ", group->getBackendName(), ", not weft");
    return *backend;
}

} // namespace
} // namespace weft_torch

PYBIND11_MODULE(_C, module)
{
    using namespace weft_torch;
    /* The classes of torch must be known before their names are used here. */
    py::module_::import("torch.distributed");
    without_python_hook = without_lock;
    module.def("create", &create, py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"),
               py::call_guard<py::gil_scoped_release>());
    module.def("abort", [](const c10::intrusive_ptr<Base> &group) { as_weft(group).abort_all(); },
               py::call_guard<py::gil_scoped_release>());
    module.def("describe", [](const c10::intrusive_ptr<Base> &group, const std::string &collective, size_t bytes) {
        return as_weft(group).describe(collective, bytes);
    });
    module.def("leave", [](double seconds) { Progress::leave(Milliseconds((int64_t)(seconds * 1000))); },
               py::call_guard<py::gil_scoped_release>());
    module.def("is_weft", [](const c10::intrusive_ptr<Base> &group) { return dynamic_cast<Backend *>(group.get()) != nullptr; });
    module.def("registered_bytes", &registered_bytes);
    module.def("weft_version", [] { return std::string(weft_version()); });
}

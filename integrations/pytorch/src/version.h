/* What differs between torch 1.13 (a backend is a c10d::ProcessGroup) and torch 2 (a c10d::Backend), and nothing else. */
#ifndef WEFT_TORCH_VERSION_H
#define WEFT_TORCH_VERSION_H

#include <torch/version.h>

#if TORCH_VERSION_MAJOR >= 2
#include <optional>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#else
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#endif
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace weft_torch {

#if TORCH_VERSION_MAJOR >= 2
using Base = c10d::Backend;
template <typename T> using Optional = std::optional<T>;
#else
using Base = c10d::ProcessGroup;
template <typename T> using Optional = c10::optional<T>;
#endif

} // namespace weft_torch
#endif

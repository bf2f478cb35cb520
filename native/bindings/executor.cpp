// The executor over numpy arrays.
#include "executor/executor.h"

#include <nanobind/stl/shared_ptr.h>

#include <algorithm>

#include "bindings/bindings.h"
#include "executor/timing.h"

namespace activsparse {
namespace {

// Of an array that holds it so many times.
std::string text_of(TensorDesc d, int parts = 1) {
  d.n *= parts;
  const auto s = [](int v) { return std::to_string(v); };
  return d.nchw ? "(" + s(d.n) + ", " + s(d.c) + ", " + s(d.h) + ", " + s(d.w) + ")"
                : "(" + s(d.n) + ", " + s(d.h) + ", " + s(d.w) + ", " + s(d.c) + ")";
}

bool same(const TensorDesc& a, const TensorDesc& b) {
  return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c && a.nchw == b.nchw &&
         (a.nchw || a.stride == b.stride) && a.dtype == b.dtype;
}

using PyTensors = std::vector<std::pair<TensorDesc, int64_t>>;
using PyStep = std::tuple<nb::object, std::vector<int>, std::vector<int>>;

std::vector<PlanTensor> tensors_of(const PyTensors& tensors) {
  std::vector<PlanTensor> result;
  for (const auto& [desc, offset] : tensors) result.push_back({desc, offset});
  return result;
}

// An operator must get the tensors it was packed for: it trusts their sizes.
void check_descs(const std::vector<int>& ids, const std::vector<TensorDesc>& packed,
                 const PyTensors& tensors, const std::string& where) {
  if (ids.size() != packed.size())
    throw Error(where + " was packed for " + std::to_string(packed.size()) + " tensors, got " +
                std::to_string(ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= tensors.size())
      throw Error(where + " names tensor " + std::to_string(ids[i]) + " of " +
                  std::to_string(tensors.size()));
    const TensorDesc& desc = tensors[ids[i]].first;
    if (!same(desc, packed[i]))
      throw Error(where + " was packed for a tensor " + text_of(packed[i]) + " with stride " +
                  std::to_string(packed[i].stride) + ", but tensor " + std::to_string(ids[i]) +
                  " is " + text_of(desc) + " with stride " + std::to_string(desc.stride));
  }
}

class PyExecutor {
 public:
  PyExecutor(const PyTensors& tensors, const std::vector<PyStep>& steps, std::vector<int> inputs,
             std::vector<int> outputs, int64_t arena_bytes, int threads, int parts,
             std::shared_ptr<ThreadPool> pool, int runs) {
    if (parts < 1 || runs < 1) throw Error("parts and runs must be at least 1");
    if (pool == nullptr) pool = ThreadPool::of_process(threads);
    std::vector<PlanStep> plan;
    for (const auto& [object, in, out] : steps) {
      const auto& packed = nb::cast<const PackedOperator&>(object);
      const std::string where =
          "step " + std::to_string(plan.size()) + " (" + packed.kind + "/" + packed.algorithm + ")";
      require_available(packed.isa);
      check_descs(in, packed.inputs, tensors, where + ", inputs");
      check_descs(out, packed.outputs, tensors, where + ", outputs");
      plan.push_back({packed.op.get(), in, out});
      keep_.push_back(object);
    }
    executor_ = std::make_unique<Executor>(tensors_of(tensors), std::move(plan), std::move(inputs),
                                           std::move(outputs), arena_bytes,
                                           Workforce{std::move(pool), threads, parts, runs});
  }

  void run(const std::vector<InputArray>& inputs, const std::vector<OutputArray>& outputs) {
    const Pointers p = check(inputs, outputs);
    nb::gil_scoped_release release;
    executor_->run(p.inputs.data(), p.outputs.data());
  }

  std::vector<double> profile(const std::vector<InputArray>& inputs,
                              const std::vector<OutputArray>& outputs, int repeat) {
    const Pointers p = check(inputs, outputs);
    nb::gil_scoped_release release;
    const std::vector<double> times = executor_->profile(p.inputs.data(), p.outputs.data(), repeat);
    const size_t steps = executor_->step_count();
    std::vector<double> medians(steps), column(repeat);
    for (size_t s = 0; s < steps; ++s) {
      for (int r = 0; r < repeat; ++r) column[r] = times[r * steps + s];
      std::nth_element(column.begin(), column.begin() + repeat / 2, column.end());
      medians[s] = column[repeat / 2];
    }
    return medians;
  }

  Executor& executor() const { return *executor_; }

 private:
  struct Pointers {
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
  };

  template <class Array>
  void check_array(const Array& array, const TensorDesc& desc, const std::string& name) const {
    const int64_t parts = executor_->parts();
    const bool wrong_shape = desc.nchw && array.ndim() == 4 &&
                             (array.shape(0) != static_cast<size_t>(parts * desc.n) ||
                              array.shape(1) != static_cast<size_t>(desc.c) ||
                              array.shape(2) != static_cast<size_t>(desc.h) ||
                              array.shape(3) != static_cast<size_t>(desc.w));
    if (!wrong_shape && static_cast<int64_t>(array.size()) == parts * tensor_extent(desc)) return;
    throw Error(name + " has shape " + shape_text(array) + ", the plan was compiled for " +
                text_of(desc, executor_->parts()) +
                "; pass an array of that shape or compile for the other one");
  }

  Pointers check(const std::vector<InputArray>& inputs,
                 const std::vector<OutputArray>& outputs) const {
    if (inputs.size() != executor_->input_count() || outputs.size() != executor_->output_count())
      throw Error("the plan has " + std::to_string(executor_->input_count()) + " inputs and " +
                  std::to_string(executor_->output_count()) + " outputs, got " +
                  std::to_string(inputs.size()) + " and " + std::to_string(outputs.size()));
    Pointers p;
    for (size_t i = 0; i < inputs.size(); ++i) {
      check_array(inputs[i], executor_->input(i), "input " + std::to_string(i));
      p.inputs.push_back(
          data_of(inputs[i], executor_->input(i).dtype, "input " + std::to_string(i)));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      check_array(outputs[i], executor_->output(i), "output " + std::to_string(i));
      p.outputs.push_back(
          data_of(outputs[i], executor_->output(i).dtype, "output " + std::to_string(i)));
    }
    return p;
  }

  std::vector<nb::object> keep_;  // the packed operators
  std::unique_ptr<Executor> executor_;
};

Timed timed(const PackedOperator& packed) {
  return {packed.op.get(), packed.blob.data(), packed.blob.size()};
}

std::vector<double> time_packed(const PackedOperator& packed, int repeat, int threads,
                                size_t evict_bytes) {
  require_available(packed.isa);
  nb::gil_scoped_release release;
  return time_operator(timed(packed), packed.inputs, packed.outputs, repeat, threads, evict_bytes);
}

}  // namespace

void bind_executor(nb::module_& m) {
  nb::class_<ThreadPool>(m, "ThreadPool", "Threads that executors share.")
      .def(nb::init<int>(), nb::arg("threads"))
      .def_prop_ro("threads", &ThreadPool::threads);
  nb::class_<PyExecutor>(m, "Executor", "Runs a compiled plan; see docs/architecture.md.")
      .def(nb::init<const PyTensors&, const std::vector<PyStep>&, std::vector<int>,
                    std::vector<int>, int64_t, int, int, std::shared_ptr<ThreadPool>, int>(),
           nb::arg("tensors"), nb::arg("steps"), nb::arg("inputs"), nb::arg("outputs"),
           nb::arg("arena_bytes"), nb::arg("threads") = 1, nb::arg("parts") = 1,
           nb::arg("pool").none() = nb::none(), nb::arg("runs") = 1)
      .def("run", &PyExecutor::run, nb::arg("inputs"), nb::arg("outputs"),
           "Run once on contiguous float32 arrays. Other Python threads go on meanwhile.")
      .def("profile", &PyExecutor::profile, nb::arg("inputs"), nb::arg("outputs"),
           nb::arg("repeat") = 20, "Median milliseconds of every step over `repeat` runs.")
      .def_prop_ro("runs_at_once", [](PyExecutor& e) { return e.executor().runs_at_once(); })
      .def_prop_ro("arena_bytes", [](const PyExecutor& e) { return e.executor().arena_bytes(); })
      .def_prop_ro("scratch_bytes",
                   [](const PyExecutor& e) { return e.executor().scratch_bytes(); });
  m.def(
      "fma_peak", [](const std::string& isa) { return fma_peak_gflops(isa_from_name(isa)); },
      nb::arg("isa"), nb::call_guard<nb::gil_scoped_release>(),
      "GFLOP/s of independent fused multiply-adds on registers, one thread, a few milliseconds.");
  m.def(
      "time_operator", &time_packed, nb::arg("packed"), nb::arg("repeat"), nb::arg("threads") = 1,
      nb::arg("evict_bytes") = 0,
      "Milliseconds of each of `repeat` runs on random data, after one that is not counted. With\n"
      "`evict_bytes`, weights are pushed out of caches of that size before each run (flushed, if\n"
      "it is the last-level cache's size or more), and inputs\n"
      "are touched, as within a network.");
}

}  // namespace activsparse

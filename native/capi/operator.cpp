// A single operator: packed, created, and run on threads it shares with the others.
#include <memory>
#include <mutex>

#include "capi/spec.h"
#include "capi/status.h"
#include "choose/choose.h"
#include "choose/measure.h"
#include "common/machine.h"
#include "executor/executor.h"

using namespace activsparse;

struct as_operator {
  std::string algorithm;
  Blob blob;
  std::unique_ptr<Operator> op;
  std::vector<TensorDesc> inputs, outputs;
  std::mutex mutex;  // of the executor's replacement
  std::unique_ptr<Executor> executor;
};

namespace {

std::unique_ptr<Executor> executor_of(const as_operator& op, int threads) {
  std::vector<PlanTensor> tensors;
  PlanStep step{op.op.get(), {}, {}};
  for (const TensorDesc& desc : op.inputs) {
    step.inputs.push_back(static_cast<int>(tensors.size()));
    tensors.push_back({desc, -1});
  }
  for (const TensorDesc& desc : op.outputs) {
    step.outputs.push_back(static_cast<int>(tensors.size()));
    tensors.push_back({desc, -1});
  }
  const std::vector<int> inputs = step.inputs, outputs = step.outputs;
  return std::make_unique<Executor>(std::move(tensors), std::vector<PlanStep>{std::move(step)},
                                    inputs, outputs, 0,
                                    Workforce{ThreadPool::of_process(threads), threads});
}

// By measurement on one thread, weights out of the near caches.
const OperatorType& fastest_type(const OpSpec& spec, Isa isa) {
  const std::vector<const OperatorType*> types = able(spec, isa);
  if (types.size() == 1) return *types[0];
  OperatorTimer timer(1);
  PackedBlocks blocks(spec, isa, timer, 2 * cpu_info().l2);
  const Costs& costs = costs_here(isa);
  const OperatorType& favourite = choose(spec, costs);
  return *fastest(types, estimates(spec, costs, types), favourite, std::ref(blocks)).fastest;
}

}  // namespace

as_status as_operator_create(const as_spec* spec, const char* algorithm, const char* isa,
                             as_operator** op) {
  if (op != nullptr) *op = nullptr;
  return guarded([&] {
    require_argument(spec != nullptr, "spec");
    require_argument(op != nullptr, "op");
    if (!spec->failure.empty()) throw Error(spec->failure);
    if (spec->spec.inputs.empty() || spec->spec.outputs.empty())
      throw Error(spec->spec.kind + ": the spec needs inputs and outputs");
    const Isa set = isa ? isa_from_name(isa) : best_isa();
    auto made = std::make_unique<as_operator>();
    made->algorithm = algorithm ? algorithm : fastest_type(spec->spec, set).algorithm;
    const OperatorType& type = find_operator_type(spec->spec.kind, made->algorithm);
    const std::string reason = type.unsupported(spec->spec, set);
    if (!reason.empty())
      throw Error(spec->spec.kind + "/" + made->algorithm + " cannot run this operator: " + reason);
    made->blob = type.pack(spec->spec, set);
    made->op = type.create(BlobView(made->blob.data(), made->blob.size()), set);
    made->inputs = spec->spec.inputs;
    made->outputs = spec->spec.outputs;
    *op = made.release();
  });
}

void as_operator_free(as_operator* op) { delete op; }

const char* as_operator_algorithm(const as_operator* op) { return op ? op->algorithm.c_str() : ""; }

size_t as_operator_bytes(const as_operator* op) { return op ? op->blob.size() : 0; }

as_status as_operator_run(as_operator* op, const float* const* inputs, float* const* outputs,
                          int threads) {
  return guarded([&] {
    require_argument(op != nullptr, "op");
    require_argument(inputs != nullptr, "inputs");
    require_argument(outputs != nullptr, "outputs");
    for (size_t i = 0; i < op->inputs.size(); ++i)
      require_argument(inputs[i] != nullptr, "inputs[i]");
    for (size_t i = 0; i < op->outputs.size(); ++i)
      require_argument(outputs[i] != nullptr, "outputs[i]");
    std::lock_guard<std::mutex> lock(op->mutex);
    if (!op->executor || op->executor->threads() != threads)
      op->executor = executor_of(*op, threads);
    op->executor->run(reinterpret_cast<const void* const*>(inputs),
                      reinterpret_cast<void* const*>(outputs));
  });
}

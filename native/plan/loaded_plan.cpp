#include "plan/loaded_plan.h"

namespace activsparse {

LoadedPlan::LoadedPlan(std::shared_ptr<const PlanFile> file) : file_(std::move(file)) {
  for (std::size_t i = 0; i < content().steps.size(); ++i) operators_.push_back(file_->create(i));
  // The executor's checks of ids and sizes belong here, not to the first run.
  executor({});
}

std::unique_ptr<Executor> LoadedPlan::executor(Workforce force) const {
  const PlanContent& c = content();
  force.parts = c.parts;
  std::vector<PlanStep> steps;
  for (std::size_t i = 0; i < c.steps.size(); ++i)
    steps.push_back({operators_[i].get(), c.steps[i].inputs, c.steps[i].outputs});
  std::vector<int> inputs, outputs;
  for (const PlanValue& value : c.inputs) inputs.push_back(value.tensor);
  for (const PlanValue& value : c.outputs) outputs.push_back(value.tensor);
  return std::make_unique<Executor>(c.tensors, std::move(steps), std::move(inputs),
                                    std::move(outputs), c.arena_bytes, std::move(force));
}

}  // namespace activsparse

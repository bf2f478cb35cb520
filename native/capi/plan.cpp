// Compiled plans: loaded once, run in as many contexts as there are callers.
#include "capi/status.h"
#include "plan/loaded_plan.h"

using namespace activsparse;

struct as_plan {
  std::shared_ptr<const LoadedPlan> loaded;
};

struct as_pool {
  std::shared_ptr<ThreadPool> threads;
};

struct as_context {
  std::shared_ptr<const LoadedPlan> loaded;
  std::unique_ptr<Executor> executor;
};

namespace {

template <class Open>
as_status load(as_plan** plan, const Open& open) {
  if (plan != nullptr) *plan = nullptr;
  return guarded([&] {
    require_argument(plan != nullptr, "plan");
    *plan = new as_plan{std::make_shared<const LoadedPlan>(open())};
  });
}

using Values = std::vector<PlanValue> PlanContent::*;

const PlanValue& value_of(const as_plan* plan, Values list, const char* what, std::size_t index) {
  require_argument(plan != nullptr, "plan");
  const std::vector<PlanValue>& values = plan->loaded->content().*list;
  if (index >= values.size())
    throw Error("the plan has " + std::to_string(values.size()) + " " + what + "s, there is no " +
                what + " " + std::to_string(index));
  return values[index];
}

as_status type_of(const as_plan* plan, Values list, const char* what, std::size_t index,
                  as_dtype* dtype) {
  return guarded([&] {
    require_argument(dtype != nullptr, "dtype");
    *dtype = static_cast<as_dtype>(value_of(plan, list, what, index).type);
  });
}

as_status describe(const as_plan* plan, Values list, const char* what, std::size_t index,
                   as_value* value) {
  return guarded([&] {
    require_argument(value != nullptr, "value");
    const PlanValue& found = value_of(plan, list, what, index);
    *value = {found.name.c_str(), AS_FLOAT32, static_cast<int32_t>(found.shape.size()), {}, 1};
    for (std::size_t i = 0; i < found.shape.size(); ++i) {
      value->shape[i] = found.shape[i];
      value->elements *= static_cast<std::size_t>(found.shape[i]);
    }
  });
}

template <class Force>
as_status create_context(const as_plan* plan, as_context** context, const Force& force) {
  if (context != nullptr) *context = nullptr;
  return guarded([&] {
    require_argument(plan != nullptr, "plan");
    require_argument(context != nullptr, "context");
    *context = new as_context{plan->loaded, plan->loaded->executor(force(*plan->loaded))};
  });
}

}  // namespace

as_status as_plan_load(const char* path, as_plan** plan) {
  return load(plan, [&] {
    require_argument(path != nullptr, "path");
    return PlanFile::open(path);
  });
}

as_status as_plan_load_memory(const void* data, size_t bytes, as_plan** plan) {
  return load(plan, [&] {
    require_argument(data != nullptr, "data");
    return PlanFile::in_memory(data, bytes);
  });
}

void as_plan_free(as_plan* plan) { delete plan; }

const char* as_plan_isa(const as_plan* plan) {
  return plan ? isa_name(plan->loaded->content().isa) : "";
}

int as_plan_threads(const as_plan* plan) { return plan ? plan->loaded->content().threads : 0; }

size_t as_plan_input_count(const as_plan* plan) {
  return plan ? plan->loaded->content().inputs.size() : 0;
}

size_t as_plan_output_count(const as_plan* plan) {
  return plan ? plan->loaded->content().outputs.size() : 0;
}

as_status as_plan_input(const as_plan* plan, size_t index, as_value* value) {
  return describe(plan, &PlanContent::inputs, "input", index, value);
}

as_status as_plan_output(const as_plan* plan, size_t index, as_value* value) {
  return describe(plan, &PlanContent::outputs, "output", index, value);
}

as_status as_plan_input_type(const as_plan* plan, size_t index, as_dtype* dtype) {
  return type_of(plan, &PlanContent::inputs, "input", index, dtype);
}

as_status as_plan_output_type(const as_plan* plan, size_t index, as_dtype* dtype) {
  return type_of(plan, &PlanContent::outputs, "output", index, dtype);
}

as_status as_pool_create(int threads, as_pool** pool) {
  if (pool != nullptr) *pool = nullptr;
  return guarded([&] {
    require_argument(pool != nullptr, "pool");
    *pool = new as_pool{std::make_shared<ThreadPool>(threads)};
  });
}

void as_pool_free(as_pool* pool) { delete pool; }

as_status as_context_create(const as_plan* plan, int threads, as_context** context) {
  return create_context(plan, context, [&](const LoadedPlan& loaded) {
    const int count = threads == 0 ? loaded.content().threads : threads;
    return Workforce{ThreadPool::of_process(count), count};
  });
}

as_status as_context_create_on(const as_plan* plan, as_pool* pool, int threads,
                               as_context** context) {
  return create_context(plan, context, [&](const LoadedPlan&) {
    require_argument(pool != nullptr, "pool");
    return Workforce{pool->threads, threads == 0 ? pool->threads->threads() : threads};
  });
}

void as_context_free(as_context* context) { delete context; }

size_t as_context_bytes(const as_context* context) {
  return context ? context->executor->arena_bytes() + context->executor->scratch_bytes() : 0;
}

as_status as_context_run(as_context* context, const float* const* inputs, float* const* outputs) {
  return guarded([&] {
    require_argument(context != nullptr, "context");
    Executor& executor = *context->executor;
    require_argument(inputs != nullptr || executor.input_count() == 0, "inputs");
    require_argument(outputs != nullptr || executor.output_count() == 0, "outputs");
    for (size_t i = 0; i < executor.input_count(); ++i)
      require_argument(inputs[i] != nullptr, "inputs[i]");
    for (size_t i = 0; i < executor.output_count(); ++i)
      require_argument(outputs[i] != nullptr, "outputs[i]");
    executor.run(reinterpret_cast<const void* const*>(inputs),
                 reinterpret_cast<void* const*>(outputs));
  });
}

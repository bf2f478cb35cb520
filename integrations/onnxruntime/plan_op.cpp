// `activsparse.Plan` for ONNX Runtime: one operator that runs a compiled plan, which stands in its
// attribute `plan`, on ONNX Runtime's threads. `activsparse.onnxruntime.rewrite` puts it in place
// of the parts of a model this engine runs.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "integrations/onnxruntime/ort_api.h"
#include "plan/loaded_plan.h"

using namespace activsparse;

namespace {

constexpr int kInvalidArgument = 2;
constexpr const char* kThreadsKey = "activsparse.threads";

void check(const ort::Api& api, ort::Status* status) {
  if (status == nullptr) return;
  const std::string text = api.message(status);
  api.release(status);
  throw Error(text);
}

// Runs `body`; what it throws becomes a status of ONNX Runtime.
template <class Body>
ort::Status* guarded(const ort::Api& api, const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return api.create_status(kInvalidArgument,
                             (std::string("activsparse: ") + error.what()).c_str());
  }
}

std::string string_attribute(const ort::Api& api, const ort::KernelInfo* info, const char* name) {
  size_t size = 0;
  check(api, api.string_attribute(info, name, nullptr, &size));
  std::string text(size, '\0');
  check(api, api.string_attribute(info, name, text.data(), &size));
  if (size > 0) text.resize(size - 1);  // the zero that ends it
  return text;
}

class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo* info, int threads) : api_(api) {
    const std::string bytes = string_attribute(api, info, "plan");
    data_.assign(bytes.begin(), bytes.end());
    plan_ = std::make_unique<LoadedPlan>(PlanFile::in_memory(data_.data(), data_.size()));
    executor_ = plan_->executor(std::make_shared<ThreadPool>(threads, ThreadPool::kNone));
  }

  const ort::Api& api() const { return api_; }

  void compute(ort::KernelContext* context) {
    const PlanContent& content = plan_->content();
    size_t inputs = 0, outputs = 0;
    check(api_, api_.input_count(context, &inputs));
    check(api_, api_.output_count(context, &outputs));
    if (inputs != content.inputs.size() || outputs != content.outputs.size())
      throw Error("the node has another number of inputs or outputs than its plan");
    std::vector<const float*> in;
    std::vector<float*> out;
    for (size_t i = 0; i < inputs; ++i) in.push_back(input(context, i));
    for (size_t i = 0; i < outputs; ++i) {
      const std::vector<int64_t>& shape = content.outputs[i].shape;
      ort::Value* value = nullptr;
      void* data = nullptr;
      check(api_, api_.output(context, i, shape.data(), shape.size(), &value));
      check(api_, api_.data(value, &data));
      out.push_back(static_cast<float*>(data));
    }
    const auto parallel = [&](void (*body)(void*, size_t), int count, void* data) {
      check(api_, api_.parallel_for(context, body, static_cast<size_t>(count), 0, data));
    };
    executor_->run_on(parallel, in.data(), out.data());
  }

 private:
  const float* input(ort::KernelContext* context, size_t index) const {
    const PlanValue& expected = plan_->content().inputs[index];
    const ort::Value* value = nullptr;
    check(api_, api_.input(context, index, &value));
    ort::TensorInfo* info = nullptr;
    check(api_, api_.tensor_info(value, &info));
    const std::unique_ptr<ort::TensorInfo, Release> owner(info, Release{api_});
    size_t rank = 0;
    check(api_, api_.rank(info, &rank));
    std::vector<int64_t> shape(rank);
    check(api_, api_.shape(info, shape.data(), rank));
    if (shape != expected.shape)
      throw Error("input '" + expected.name +
                  "' has another shape than the model was rewritten for; rewrite it with that one");
    void* data = nullptr;
    check(api_, api_.data(const_cast<ort::Value*>(value), &data));
    return static_cast<const float*>(data);
  }

  struct Release {
    const ort::Api& api;
    void operator()(ort::TensorInfo* info) const { api.release(info); }
  };

  const ort::Api& api_;
  Blob data_;
  std::unique_ptr<LoadedPlan> plan_;
  std::unique_ptr<Executor> executor_;
};

// The operator as one session sees it; ONNX Runtime keeps the pointer, so it is never freed.
struct PlanOp : ort::CustomOp {
  int threads;

  explicit PlanOp(int thread_count) : ort::CustomOp{}, threads(thread_count) {
    version = ort::kVersion;
    name = [](const ort::CustomOp*) { return "Plan"; };
    provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
    input_type = output_type = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    input_type_count = output_type_count = [](const ort::CustomOp*) -> size_t { return 1; };
    input_characteristic =
        output_characteristic = [](const ort::CustomOp*, size_t) { return ort::kVariadic; };
    input_memory = [](const ort::CustomOp*, size_t) { return 0; };
    variadic_input_minimum = variadic_output_minimum = [](const ort::CustomOp*) { return 1; };
    variadic_input_homogeneous =
        variadic_output_homogeneous = [](const ort::CustomOp*) { return 1; };
    start_version = [](const ort::CustomOp*) { return 1; };
    end_version = [](const ort::CustomOp*) { return INT32_MAX; };
    create_kernel_v2 = [](const ort::CustomOp* op, const ort::Api* table,
                          const ort::KernelInfo* info, void** kernel) {
      return guarded(*table, [&] {
        *kernel = new Kernel(*table, info, static_cast<const PlanOp*>(op)->threads);
      });
    };
    compute_v2 = [](void* kernel, ort::KernelContext* context) {
      auto* self = static_cast<Kernel*>(kernel);
      return guarded(self->api(), [&] { self->compute(context); });
    };
    destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }
};

int threads_of(const ort::Api& api, const ort::SessionOptions* options) {
  int given = 0;
  check(api, api.has_config_entry(options, kThreadsKey, &given));
  if (given == 0) return 1;
  char text[16] = "";
  size_t size = sizeof(text);
  check(api, api.config_entry(options, kThreadsKey, text, &size));
  return std::max(1, std::atoi(text));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->get_api(ort::kVersion);
  if (api == nullptr) return nullptr;  // older than 1.17: nodes of this domain will not be found
  return guarded(*api, [&] {
    ort::Domain* domain = nullptr;
    check(*api, api->create_domain("activsparse", &domain));
    check(*api, api->add_to_domain(domain, new PlanOp(threads_of(*api, options))));
    check(*api, api->add_domain(options, domain));
  });
}

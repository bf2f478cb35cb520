// `activsparse.Plan` for ONNX Runtime: one operator that runs a compiled plan, which stands in its
// attribute `plan`, on ONNX Runtime's threads. `activsparse.onnxruntime.rewrite` puts it in place
// of the parts of a model this engine runs.
#include <numeric>

#include "integrations/onnxruntime/plan_kernel.h"

using namespace activsparse;

namespace {

constexpr const char* kThreadsKey = "activsparse.threads";

std::string string_attribute(const ort::Api& api, const ort::KernelInfo* info, const char* name) {
  return read_text(
      api, [&](char* text, size_t* size) { return api.string_attribute(info, name, text, size); });
}

// A node's kernel and the bytes of its plan.
class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo* info, int threads) {
    const std::string bytes = string_attribute(api, info, "plan");
    data_.assign(bytes.begin(), bytes.end());
    auto file = PlanFile::in_memory(data_.data(), data_.size());
    std::vector<size_t> inputs(file->content().inputs.size());
    std::vector<size_t> outputs(file->content().outputs.size());
    for (auto* order : {&inputs, &outputs}) std::iota(order->begin(), order->end(), size_t{0});
    kernel_ = std::make_unique<PlanKernel>(api, std::move(file), threads, inputs, outputs);
  }
  PlanKernel& operator*() { return *kernel_; }

 private:
  Blob data_;
  std::unique_ptr<PlanKernel> kernel_;
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
      PlanKernel& self = **static_cast<Kernel*>(kernel);
      return guarded(self.api(), [&] { self.compute(context); });
    };
    destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->get_api(ort::kVersion);
  if (api == nullptr) return nullptr;  // older than 1.17: nodes of this domain will not be found
  return guarded(*api, [&] {
    const int threads = thread_count(*api, options, kThreadsKey);
    ort::Domain* domain = nullptr;
    check(*api, api->create_domain("activsparse", &domain));
    check(*api, api->add_to_domain(domain, new PlanOp(threads)));
    check(*api, api->add_domain(options, domain));
  });
}

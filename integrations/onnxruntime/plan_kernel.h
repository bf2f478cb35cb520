// A compiled plan as ONNX Runtime runs it: on the tensors and the threads of one of its nodes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "common/machine.h"
#include "common/whole_number.h"
#include "integrations/onnxruntime/ort_api.h"
#include "integrations/onnxruntime/types.h"
#include "plan/loaded_plan.h"

namespace activsparse {

inline constexpr int kInvalidArgument = 2;

inline void check(const ort::Api& api, ort::Status* status) {
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

// A text that `read(buffer, &size)` gives: first its size, then itself.
template <class Read>
std::string read_text(const ort::Api& api, const Read& read) {
  size_t size = 0;
  check(api, read(nullptr, &size));
  std::string text(size, '\0');
  check(api, read(text.data(), &size));
  if (size > 0) text.resize(size - 1);  // the zero that ends it
  return text;
}

// A value of a session's configuration, or `otherwise` if there is none.
inline std::string config_entry(const ort::Api& api, const ort::SessionOptions* options,
                                const char* key, const char* otherwise) {
  int given = 0;
  check(api, api.has_config_entry(options, key, &given));
  if (given == 0) return otherwise;
  return read_text(
      api, [&](char* text, size_t* size) { return api.config_entry(options, key, text, size); });
}

// How many of a session's threads its configuration gives; one if it does not say.
inline int thread_count(const ort::Api& api, const ort::SessionOptions* options, const char* key) {
  const std::string text = config_entry(api, options, key, "1");
  const std::optional<int> number = whole_number(text, 1, ThreadPool::kMost);
  if (!number)
    throw Error("option '" + std::string(key) + "' is '" + text +
                "'; give how many of the session's threads to use, a whole number from 1 to " +
                std::to_string(ThreadPool::kMost) + ", or leave it out for 1");
  return *number;
}

class PlanKernel {
 public:
  // The plan's input `i` is the node's input `inputs[i]`, and likewise its outputs.
  PlanKernel(const ort::Api& api, std::shared_ptr<const PlanFile> file, int threads,
             std::vector<size_t> inputs, std::vector<size_t> outputs)
      : api_(api),
        plan_(std::move(file)),
        inputs_(std::move(inputs)),
        outputs_(std::move(outputs)) {
    executor_ = plan_.executor({nullptr, threads, 1, usable_cores()});
  }
  PlanKernel(const PlanKernel&) = delete;
  PlanKernel& operator=(const PlanKernel&) = delete;

  const ort::Api& api() const { return api_; }

  void compute(ort::KernelContext* context) {
    const PlanContent& content = plan_.content();
    size_t inputs = 0, outputs = 0;
    check(api_, api_.input_count(context, &inputs));
    check(api_, api_.output_count(context, &outputs));
    if (inputs != inputs_.size() || outputs != outputs_.size())
      throw Error("the node has another number of inputs or outputs than its plan");
    // What is not float32 is converted on its way in or out.
    std::vector<std::vector<float>> rooms(inputs), results(outputs);
    std::vector<ort::Value*> values(outputs);
    std::vector<const void*> in;
    std::vector<void*> out;
    for (size_t i = 0; i < inputs; ++i) in.push_back(input(context, i, rooms[i]));
    for (size_t i = 0; i < outputs; ++i) {
      const std::vector<int64_t>& shape = content.outputs[i].shape;
      check(api_, api_.output(context, outputs_[i], shape.data(), shape.size(), &values[i]));
      if (describe(values[i]).type == ort::kFloat) {
        out.push_back(data_of(values[i]));
      } else {
        results[i].resize(elements(shape));
        out.push_back(results[i].data());
      }
    }
    const auto parallel = [&](void (*body)(void*, size_t), int count, void* data) {
      check(api_, api_.parallel_for(context, body, static_cast<size_t>(count), 0, data));
    };
    executor_->run_on(parallel, in.data(), out.data());
    for (size_t i = 0; i < outputs; ++i)
      if (!results[i].empty())
        from_floats(results[i], describe(values[i]).type, data_of(values[i]),
                    content.outputs[i].name);
  }

 private:
  struct Description {
    int type;
    std::vector<int64_t> shape;
  };

  Description describe(const ort::Value* value) const {
    ort::TensorInfo* info = nullptr;
    check(api_, api_.tensor_info(value, &info));
    const std::unique_ptr<ort::TensorInfo, Release> owner(info, Release{api_});
    Description description{};
    check(api_, api_.element_type(info, &description.type));
    size_t rank = 0;
    check(api_, api_.rank(info, &rank));
    description.shape.resize(rank);
    check(api_, api_.shape(info, description.shape.data(), rank));
    return description;
  }

  void* data_of(ort::Value* value) const {
    void* data = nullptr;
    check(api_, api_.data(value, &data));
    return data;
  }

  static size_t elements(const std::vector<int64_t>& shape) {
    size_t count = 1;
    for (const int64_t size : shape) count *= static_cast<size_t>(size);
    return count;
  }

  const float* input(ort::KernelContext* context, size_t index, std::vector<float>& room) const {
    const PlanValue& expected = plan_.content().inputs[index];
    const ort::Value* value = nullptr;
    check(api_, api_.input(context, inputs_[index], &value));
    const auto [type, shape] = describe(value);
    if (shape != expected.shape)
      throw Error("input '" + expected.name +
                  "' has another shape than its plan was compiled for; compile it for that one");
    const void* data = data_of(const_cast<ort::Value*>(value));
    return as_floats(type, data, elements(shape), expected.name, room);
  }

  struct Release {
    const ort::Api& api;
    void operator()(ort::TensorInfo* info) const { api.release(info); }
  };

  const ort::Api& api_;
  LoadedPlan plan_;
  std::vector<size_t> inputs_, outputs_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace activsparse

// The delegate LiteRT loads: claims what this engine runs and hands every claimed part to a kernel.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>

#include "common/machine.h"
#include "common/whole_number.h"
#include "integrations/litert/partition.h"

namespace activsparse::litert {
namespace {

constexpr int kMostThreads = 256;

struct Options {
  int threads = 0;  // 0: as many as the interpreter's user asked for
  bool tune = true;
};

Options parse(const char* const* keys, const char* const* values, size_t count) {
  Options options;
  for (size_t i = 0; i < count; ++i) {
    const std::string key = keys[i], value = values[i];
    if (key == "threads") {
      const std::optional<int> number = whole_number(value, 1, kMostThreads);
      if (!number) throw Error("option threads='" + value + "': give a whole number from 1 to 256");
      options.threads = *number;
    } else if (key == "tune") {
      const std::optional<int> number = whole_number(value, 0, 1);
      if (!number) throw Error("option tune='" + value + "': give 1, to measure algorithms, or 0");
      options.tune = *number == 1;
    } else {
      throw Error("option '" + key + "': there is none; the options are threads and tune");
    }
  }
  return options;
}

// What all interpreters that were given this delegate share.
struct State {
  abi::Delegate delegate{};
  Options options;
  Isa isa;
  std::mutex mutex;
  std::shared_ptr<ThreadPool> pool;
  // Of each interpreter whose operators are being claimed: kernels are made meanwhile.
  std::map<const abi::Context*, Constants> constants;

  Constants constants_of(const abi::Context& context) {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = constants.find(&context);
    return found == constants.end() ? Constants() : found->second;
  }

  const std::shared_ptr<ThreadPool>& threads(const abi::Context& context) {
    std::lock_guard<std::mutex> lock(mutex);
    const int wanted = options.threads > 0 ? options.threads : context.recommended_num_threads;
    if (!pool) pool = std::make_shared<ThreadPool>(std::clamp(wanted, 1, kMostThreads));
    return pool;
  }
};

// The constants of an interpreter are known while this lives.
class Claiming {
 public:
  Claiming(State& state, const abi::Context& context, const Constants& constants)
      : state_(state), context_(context) {
    std::lock_guard<std::mutex> lock(state_.mutex);
    state_.constants[&context_] = constants;
  }
  ~Claiming() {
    std::lock_guard<std::mutex> lock(state_.mutex);
    state_.constants.erase(&context_);
  }
  Claiming(const Claiming&) = delete;
  Claiming& operator=(const Claiming&) = delete;

 private:
  State& state_;
  const abi::Context& context_;
};

template <class Body>
abi::Status guarded(abi::Context* context, const Body& body) noexcept {
  try {
    body();
    return abi::kOk;
  } catch (const std::exception& error) {
    context->report_error(context, "activsparse: %s\n", error.what());
  } catch (...) {
    context->report_error(context, "activsparse: unknown error\n");
  }
  return abi::kError;
}

std::vector<int> copy(const abi::IntArray& array) { return {array.data, array.data + array.size}; }

// One claimed part of a model.
class Kernel {
 public:
  Kernel(abi::Context& context, const abi::DelegateParams& params)
      : state_(*static_cast<State*>(params.delegate->data)) {
    graph_ = std::make_unique<Graph>();
    const Constants constants = state_.constants_of(context);
    for (int id : copy(*params.nodes)) {
      abi::Node* node = nullptr;
      abi::Registration* registration = nullptr;
      context.get_node_and_registration(&context, id, &node, &registration);
      if (constants.widens(*node, registration->builtin_code)) continue;
      if (!read_node(context, constants, *node, registration->builtin_code, graph_.get()))
        throw Error("node " + std::to_string(id) + " changed since it was claimed");
    }
    // Constants are listed too, even what the runtime believes to be widened for a later part;
    // those of the graph were read.
    for (int id : copy(*params.inputs))
      if (graph_->shapes.count(id)) graph_->inputs.push_back(id);
    for (int id : copy(*params.outputs))
      if (graph_->shapes.count(id)) graph_->outputs.push_back(id);
    for (const auto* ids : {&graph_->inputs, &graph_->outputs})
      for (int id : *ids) sizes_.push_back(copy(*context.tensors[id].dims));
    inputs_ = graph_->inputs;
    outputs_ = graph_->outputs;
  }

  void prepare(abi::Context& context) {
    size_t i = 0;
    for (const auto* ids : {&inputs_, &outputs_})
      for (int id : *ids)
        if (copy(*context.tensors[id].dims) != sizes_[i++])
          throw Error(std::string("tensor '") + context.tensors[id].name +
                      "' has been resized; convert the model for that size, or run it without "
                      "this delegate");
    if (partition_) return;
    move_borders(*graph_);
    fuse(*graph_);
    frame_images(*graph_);
    find_zeros(*graph_);
    leave_unwritten(*graph_);
    join(*graph_);
    partition_ = std::make_unique<Partition>(*graph_, state_.isa, state_.options.tune,
                                             state_.threads(context));
    graph_.reset();
  }

  void invoke(const abi::Context& context) {
    std::vector<const void*> in;
    std::vector<void*> out;
    for (int id : inputs_) in.push_back(context.tensors[id].data);
    for (int id : outputs_) out.push_back(context.tensors[id].data);
    partition_->run(in.data(), out.data());
  }

 private:
  State& state_;
  std::unique_ptr<Graph> graph_;  // until it is compiled
  std::vector<int> inputs_, outputs_;
  std::vector<std::vector<int>> sizes_;
  std::unique_ptr<Partition> partition_;
};

abi::Registration registration() {
  abi::Registration r{};
  r.custom_name = "ActivsparseDelegate";
  r.builtin_code = 51;  // "delegate"
  r.version = 1;
  r.init = [](abi::Context* context, const char* buffer, size_t) -> void* {
    Kernel* kernel = nullptr;
    guarded(context, [&] {
      kernel = new Kernel(*context, *reinterpret_cast<const abi::DelegateParams*>(buffer));
    });
    return kernel;
  };
  r.free = [](abi::Context*, void* kernel) { delete static_cast<Kernel*>(kernel); };
  r.prepare = [](abi::Context* context, abi::Node* node) {
    if (node->user_data == nullptr) return abi::kError;  // init has said why
    return guarded(context, [&] { static_cast<Kernel*>(node->user_data)->prepare(*context); });
  };
  r.invoke = [](abi::Context* context, abi::Node* node) {
    return guarded(context, [&] { static_cast<Kernel*>(node->user_data)->invoke(*context); });
  };
  return r;
}

// Whether all readers of what a node gives are among the claimed ones, and there are some.
bool is_read_by_claimed_alone(abi::Context& context, const std::vector<int>& plan,
                              const std::set<int>& claimed, int value) {
  bool read = false;
  for (int id : plan) {
    abi::Node* node = nullptr;
    abi::Registration* found = nullptr;
    if (context.get_node_and_registration(&context, id, &node, &found) != abi::kOk) continue;
    const std::vector<int> inputs = copy(*node->inputs);
    if (std::find(inputs.begin(), inputs.end(), value) == inputs.end()) continue;
    if (claimed.count(id) == 0) return false;
    read = true;
  }
  return read;
}

// Claims all the engine runs, if there is a convolution among it. What only widens constants for
// claimed operators is claimed with them, and then done once.
abi::Status claim(abi::Context* context, abi::Delegate* delegate) {
  return guarded(context, [&] {
    abi::IntArray* listed = nullptr;
    if (context->get_execution_plan(context, &listed) != abi::kOk) throw Error("no execution plan");
    const std::vector<int> plan = copy(*listed);
    const Constants constants(*context, plan);
    std::set<int> claimed;
    std::vector<std::pair<int, int>> widening;  // node, what it gives
    bool convolves = false;
    for (int id : plan) {
      abi::Node* node = nullptr;
      abi::Registration* found = nullptr;
      if (context->get_node_and_registration(context, id, &node, &found) != abi::kOk) continue;
      if (node->delegate != nullptr) continue;
      if (constants.widens(*node, found->builtin_code))
        widening.push_back({id, node->outputs->data[0]});
      if (!read_node(*context, constants, *node, found->builtin_code, nullptr)) continue;
      claimed.insert(id);
      convolves |=
          found->builtin_code == abi::kConv2d || found->builtin_code == abi::kDepthwiseConv2d;
    }
    if (!convolves) return;
    for (const auto& [id, value] : widening)
      if (is_read_by_claimed_alone(*context, plan, claimed, value)) claimed.insert(id);
    std::vector<int> nodes{static_cast<int>(claimed.size())};  // as an IntArray
    for (int id : plan)
      if (claimed.count(id) > 0) nodes.push_back(id);
    const Claiming claiming(*static_cast<State*>(delegate->data), *context, constants);
    if (context->replace_node_subsets(context, registration(),
                                      reinterpret_cast<const abi::IntArray*>(nodes.data()),
                                      delegate) != abi::kOk)
      throw Error("the runtime did not take the claimed operators");
  });
}

}  // namespace
}  // namespace activsparse::litert

using namespace activsparse;
using namespace activsparse::litert;

extern "C" __attribute__((visibility("default"))) abi::Delegate* tflite_plugin_create_delegate(
    const char* const* keys, const char* const* values, size_t count,
    void (*report_error)(const char*)) {
  try {
    auto state = std::make_unique<State>();
    state->options = parse(keys, values, count);
    state->isa = best_isa();
    if (state->isa == Isa::kScalar) throw Error("this CPU has neither AVX2 nor NEON");
    state->delegate.data = state.get();
    state->delegate.prepare = claim;
    state->delegate.flags = abi::kAllowDynamicTensors;  // and leaves them to others
    return &state.release()->delegate;
  } catch (const std::exception& error) {
    if (report_error) report_error((std::string("activsparse: ") + error.what()).c_str());
  } catch (...) {
    if (report_error) report_error("activsparse: unknown error");
  }
  return nullptr;
}

extern "C" __attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(
    abi::Delegate* delegate) {
  if (delegate) delete static_cast<State*>(delegate->data);
}

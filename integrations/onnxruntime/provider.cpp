// An execution provider for unmodified models: where a compiled plan stands for a part of the
// model, which its inputs and outputs name, that part becomes one node that runs the plan. Option
// `plan` is the plan's file, `threads` how many of the session's threads it may use.
#include <algorithm>

#include "integrations/onnxruntime/ep_api.h"
#include "integrations/onnxruntime/weights.h"

using namespace activsparse;

namespace {

constexpr const char* kName = "activsparse";
// The provider's options, as a session's configuration has them.
constexpr std::string_view kPrefix = "ep.activsparse.";
constexpr const char *kPlanKey = "ep.activsparse.plan",
                     *kProviderThreadsKey = "ep.activsparse.threads";

void refuse_unknown_options(const ort::Api& api, const ort::SessionOptions* options) {
  ort::KeyValues* entries = nullptr;
  check(api, api.config_entries(options, &entries));
  const char *const *keys = nullptr, *const *values = nullptr;
  size_t count = 0;
  api.pairs(entries, &keys, &values, &count);
  std::string unknown;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view key = keys[i];
    if (key.substr(0, kPrefix.size()) == kPrefix && key != kPlanKey && key != kProviderThreadsKey)
      unknown = key.substr(kPrefix.size());
  }
  api.release(entries);
  if (!unknown.empty())
    throw Error("there is no option '" + unknown + "'; the options are: plan, threads");
}

// Where the plan's values stand among those of the node in their place.
std::vector<size_t> places(const ort::Api& api, const std::vector<PlanValue>& values,
                           const Values& of_node) {
  std::vector<std::string> names;
  for (const ort::ValueInfo* value : of_node) names.push_back(name_of(api, value));
  std::vector<size_t> order;
  for (const PlanValue& value : values) {
    const auto found = std::find(names.begin(), names.end(), value.name);
    if (found == names.end())
      throw Error("the model's part has no value '" + value.name +
                  "', which the plan has; compile the plan from this model");
    order.push_back(static_cast<size_t>(found - names.begin()));
  }
  return order;
}

struct Compiled : ort::ComputeInfo {
  PlanKernel kernel;

  Compiled(const ort::Api& api, std::shared_ptr<const PlanFile> file, int threads,
           const ort::Node* node)
      : ort::ComputeInfo{},
        kernel(api, file, threads, places(api, file->content().inputs, inputs_of(api, node)),
               places(api, file->content().outputs, outputs_of(api, node))) {
    version = ort::kProviderVersion;
    create_state = [](ort::ComputeInfo* self, ort::ComputeContext*, void** state) -> ort::Status* {
      *state = self;
      return nullptr;
    };
    compute = [](ort::ComputeInfo*, void* state, ort::KernelContext* context) {
      PlanKernel& kernel = static_cast<Compiled*>(static_cast<ort::ComputeInfo*>(state))->kernel;
      return guarded(kernel.api(), [&] { kernel.compute(context); });
    };
    release_state = [](ort::ComputeInfo*, void*) {};
  }
};

struct Provider : ort::Ep {
  const ort::Api& api;
  const ort::Logger* logger;
  std::string path;
  std::shared_ptr<const PlanFile> file;
  Weights weights;
  int threads;

  Provider(const ort::Api& table, const ort::SessionOptions* options, const ort::Logger* log)
      : ort::Ep{}, api(table), logger(log) {
    refuse_unknown_options(api, options);
    path = config_entry(api, options, kPlanKey, "");
    if (path.empty()) throw Error("option 'plan' is missing: the file of a compiled plan");
    file = PlanFile::open(path);
    require_available(file->content().isa);
    weights = weights_noted(file->content().metadata);
    threads = thread_count(api, options, kProviderThreadsKey);
    version = ort::kProviderVersion;
    name = [](const ort::Ep*) { return kName; };
    capability = [](ort::Ep* ep, const ort::Graph* graph, ort::Support* support) {
      return of(ep).claim(graph, support);
    };
    compile = [](ort::Ep* ep, const ort::Graph**, const ort::Node** fused, size_t count,
                 ort::ComputeInfo** infos, ort::Node**) {
      const Provider& self = of(ep);
      return guarded(self.api, [&] {
        for (size_t i = 0; i < count; ++i)
          infos[i] = new Compiled(self.api, self.file, self.threads, fused[i]);
      });
    };
    release_infos = [](ort::Ep*, ort::ComputeInfo** infos, size_t count) {
      for (size_t i = 0; i < count; ++i) delete static_cast<Compiled*>(infos[i]);
    };
  }

 private:
  static Provider& of(ort::Ep* ep) { return *static_cast<Provider*>(ep); }

  void warn(const std::string& text) const {
    check(api, api.log(logger, ort::kWarning, text.c_str(), __FILE__, __LINE__, __func__));
  }

  // What does not fit stays with the runtime, which computes the same: it may have moved a
  // transposition through a constant, and the plan cannot tell that from another model.
  void take(const std::vector<const ort::Node*>& nodes, ort::Support* support) {
    const std::string reason = why_unknown(api, nodes, weights);
    if (!reason.empty()) return warn(path + ": left unused: " + reason);
    const ort::FusionOptions options{ort::kProviderVersion, true};
    check(api, api.ep_api()->fuse(support, nodes.data(), nodes.size(), &options));
  }

  ort::Status* claim(const ort::Graph* graph, ort::Support* support) {
    return guarded(api, [&] {
      const auto [nodes, inner] = part_between(api, graph, file->content());
      if (!nodes.empty()) take(nodes, support);
      if (!inner.empty())
        warn(path + ": left unused, as something outside of its part of the model reads '" + inner +
             "', which it does not give; compile a part that has it as an output");
    });
  }
};

struct Factory : ort::EpFactory {
  const ort::Api& api;

  explicit Factory(const ort::Api& table) : ort::EpFactory{}, api(table) {
    version = ort::kProviderVersion;
    name = [](const ort::EpFactory*) { return kName; };
    vendor = [](const ort::EpFactory*) { return kName; };
    vendor_id = [](const ort::EpFactory*) -> uint32_t { return 0; };
    provider_version = [](const ort::EpFactory*) { return engine_version(); };
    devices = [](ort::EpFactory* factory, const ort::HardwareDevice* const* hardware, size_t count,
                 ort::Device** out, size_t most, size_t* found) {
      const ort::Api& api = static_cast<Factory*>(factory)->api;
      return guarded(api, [&] {
        *found = 0;
        for (size_t i = 0; i < count && *found < most; ++i)
          if (api.type(hardware[i]) == ort::kCpu)
            check(api, api.ep_api()->create_device(factory, hardware[i], &out[(*found)++]));
      });
    };
    create = [](ort::EpFactory* factory, const ort::HardwareDevice* const*,
                const ort::KeyValues* const*, size_t, const ort::SessionOptions* options,
                const ort::Logger* logger, ort::Ep** out) {
      const ort::Api& api = static_cast<Factory*>(factory)->api;
      return guarded(api, [&] { *out = new Provider(api, options, logger); });
    };
    release = [](ort::EpFactory*, ort::Ep* ep) { delete static_cast<Provider*>(ep); };
    create_allocator = [](ort::EpFactory*, const void*, const ort::KeyValues*,
                          void** out) -> ort::Status* {
      *out = nullptr;  // the runtime's own
      return nullptr;
    };
    release_allocator = [](ort::EpFactory*, void*) {};
    create_transfer = [](ort::EpFactory*, void** out) -> ort::Status* {
      *out = nullptr;
      return nullptr;
    };
    is_stream_aware = [](const ort::EpFactory*) { return false; };
  }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) ort::Status* CreateEpFactories(
    const char*, const ort::ApiBase* base, const ort::Logger*, ort::EpFactory** factories,
    size_t most, size_t* count) {
  const ort::Api* api = base->get_api(ort::kProviderVersion);
  *count = 0;
  if (api == nullptr || most == 0) return nullptr;  // older than 1.23
  return guarded(*api, [&] { factories[(*count)++] = new Factory(*api); });
}

extern "C" __attribute__((visibility("default"))) ort::Status* ReleaseEpFactory(
    ort::EpFactory* factory) {
  delete static_cast<Factory*>(factory);
  return nullptr;
}

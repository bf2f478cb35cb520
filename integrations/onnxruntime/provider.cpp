// An execution provider for unmodified models: where a compiled plan stands for a part of the
// model, which its inputs and outputs name, that part becomes one node that runs the plan. Option
// `plan` is the plan's file, `threads` how many of the session's threads it may use.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "integrations/onnxruntime/ep_api.h"
#include "integrations/onnxruntime/plan_kernel.h"

using namespace activsparse;

namespace {

constexpr const char* kName = "activsparse";

// The names of a node's inputs or outputs; an absent optional one is empty.
std::vector<std::string> names_of(const ort::Api& api, const ort::Node* node, bool inputs) {
  size_t count = 0;
  check(api, inputs ? api.input_count(node, &count) : api.output_count(node, &count));
  std::vector<const ort::ValueInfo*> values(count);
  check(api,
        inputs ? api.inputs(node, values.data(), count) : api.outputs(node, values.data(), count));
  std::vector<std::string> names;
  for (const ort::ValueInfo* value : values) {
    const char* name = "";
    if (value != nullptr) check(api, api.name(value, &name));
    names.push_back(name);
  }
  return names;
}

std::vector<const ort::Node*> nodes_of(const ort::Api& api, const ort::Graph* graph) {
  size_t count = 0;
  check(api, api.node_count(graph, &count));
  std::vector<const ort::Node*> nodes(count);
  check(api, api.nodes(graph, nodes.data(), count));
  return nodes;
}

// What computes the plan's outputs from its inputs, in the graph's order; none where the graph
// lacks one of them (a subgraph, another model). A value in between that something else reads
// becomes one more output of the fused node, which `places` refuses.
std::vector<const ort::Node*> nodes_between(const ort::Api& api, const ort::Graph* graph,
                                            const PlanContent& plan) {
  const std::vector<const ort::Node*> nodes = nodes_of(api, graph);
  std::map<std::string, const ort::Node*> producer;
  for (const ort::Node* node : nodes)
    for (const std::string& name : names_of(api, node, false)) producer[name] = node;
  std::set<std::string> inputs, open;
  for (const PlanValue& value : plan.inputs) inputs.insert(value.name);
  for (const PlanValue& value : plan.outputs) {
    if (producer.count(value.name) == 0) return {};
    open.insert(value.name);
  }
  std::set<std::string> reached;
  std::set<const ort::Node*> wanted;
  while (!open.empty()) {
    const std::string name = *open.begin();
    open.erase(open.begin());
    if (inputs.count(name) != 0) reached.insert(name);
    const auto found = producer.find(name);
    if (inputs.count(name) != 0 || found == producer.end()) continue;
    if (!wanted.insert(found->second).second) continue;
    for (const std::string& read : names_of(api, found->second, true)) open.insert(read);
  }
  if (reached != inputs) return {};
  std::vector<const ort::Node*> between;
  for (const ort::Node* node : nodes)
    if (wanted.count(node) != 0) between.push_back(node);
  return between;
}

// Where the plan's values stand among a node's.
std::vector<size_t> places(const std::vector<PlanValue>& values,
                           const std::vector<std::string>& names) {
  if (names.size() != values.size())
    throw Error("the plan has " + std::to_string(values.size()) +
                " inputs or outputs where the model needs " + std::to_string(names.size()) +
                "; compile the plan from this model");
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
        kernel(api, file, threads, places(file->content().inputs, names_of(api, node, true)),
               places(file->content().outputs, names_of(api, node, false))) {
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
  std::shared_ptr<const PlanFile> file;
  int threads;

  Provider(const ort::Api& table, const ort::SessionOptions* options) : ort::Ep{}, api(table) {
    const std::string path = option(options, "plan");
    if (path.empty()) throw Error("option 'plan' is missing: the file of a compiled plan");
    file = PlanFile::open(path);
    require_available(file->content().isa);
    threads = std::max(1, std::atoi(option(options, "threads").c_str()));
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

  std::string option(const ort::SessionOptions* options, const char* key) const {
    return config_entry(api, options, (std::string("ep.") + kName + "." + key).c_str());
  }

  ort::Status* claim(const ort::Graph* graph, ort::Support* support) const {
    return guarded(api, [&] {
      const auto nodes = nodes_between(api, graph, file->content());
      const ort::FusionOptions options{ort::kProviderVersion, true};
      if (!nodes.empty())
        check(api, api.ep_api()->fuse(support, nodes.data(), nodes.size(), &options));
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
                const ort::Logger*, ort::Ep** out) {
      const ort::Api& api = static_cast<Factory*>(factory)->api;
      return guarded(api, [&] { *out = new Provider(api, options); });
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

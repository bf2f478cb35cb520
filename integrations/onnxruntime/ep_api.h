// What ONNX Runtime calls of an execution provider in a library, and what such a provider calls, as
// of version 1.23. Entries left NULL are optional.
#pragma once
#include "integrations/onnxruntime/ort_api.h"

namespace ort {

struct Device;  // an execution provider on a hardware device
struct Support;
struct ComputeContext;

inline constexpr int kCpu = 0;  // a type of hardware device

struct FusionOptions {
  uint32_t version;
  bool drop_constants;  // the fused node gets no weights
};

struct EpFactory;

class EpApi {
 public:
  Status* create_device(EpFactory* factory, const HardwareDevice* hardware, Device** out) const {
    return call<0, Status*>(factory, hardware, static_cast<const KeyValues*>(nullptr),
                            static_cast<const KeyValues*>(nullptr), out);
  }
  Status* fuse(Support* support, const Node* const* nodes, size_t count,
               const FusionOptions* options) const {
    return call<2, Status*>(support, nodes, count, options);
  }

 private:
  template <int slot, class Result, class... Args>
  Result call(Args... args) const {
    return reinterpret_cast<Result (*)(Args...)>(table_[slot])(args...);
  }
  void* table_[16];
};

struct ComputeInfo {
  uint32_t version;
  Status* (*create_state)(ComputeInfo*, ComputeContext*, void** state);
  Status* (*compute)(ComputeInfo*, void* state, KernelContext*);
  void (*release_state)(ComputeInfo*, void* state);
};

struct Ep {
  uint32_t version;
  const char* (*name)(const Ep*);
  Status* (*capability)(Ep*, const Graph*, Support*);
  Status* (*compile)(Ep*, const Graph** graphs, const Node** fused, size_t count,
                     ComputeInfo** infos, Node** contexts);
  void (*release_infos)(Ep*, ComputeInfo** infos, size_t count);
  void* optional[8];  // layout, dynamic options, begin and end of runs, memory, compatibility
  void* later[8];
};

struct EpFactory {
  uint32_t version;
  const char* (*name)(const EpFactory*);
  const char* (*vendor)(const EpFactory*);
  Status* (*devices)(EpFactory*, const HardwareDevice* const* hardware, size_t count, Device** out,
                     size_t most, size_t* found);
  Status* (*create)(EpFactory*, const HardwareDevice* const* hardware,
                    const KeyValues* const* metadata, size_t count, const SessionOptions* options,
                    const Logger* logger, Ep** out);
  void (*release)(EpFactory*, Ep*);
  uint32_t (*vendor_id)(const EpFactory*);
  const char* (*provider_version)(const EpFactory*);
  void* compatibility;
  Status* (*create_allocator)(EpFactory*, const void* memory, const KeyValues* options, void** out);
  void (*release_allocator)(EpFactory*, void*);
  Status* (*create_transfer)(EpFactory*, void** out);
  bool (*is_stream_aware)(const EpFactory*);
  Status* (*create_stream)(EpFactory*, const void* device, const KeyValues* options, void** out);
  void* later[8];
};

}  // namespace ort

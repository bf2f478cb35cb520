// As much of ONNX Runtime's stable C interface as a library of custom operators and of an execution
// provider needs, so that no header of it has to be installed. The interface is a table of function
// pointers that only ever grows at its end, and structures whose first field says up to which
// version they are filled (checked up to version 1.32). The operator asks for version 17, the
// provider for 23.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ort {

inline constexpr uint32_t kVersion = 17, kProviderVersion = 23;

struct Status;
struct Value;
struct KernelInfo;
struct KernelContext;
struct TensorInfo;
struct SessionOptions;
struct Domain;
struct Graph;
struct Node;
struct ValueInfo;
struct HardwareDevice;
struct Logger;
struct KeyValues;
class EpApi;

// Element types, and what an operator says of an input or output.
inline constexpr int kFloat = 1, kUint8 = 2, kInt8 = 3, kUint16 = 4, kInt16 = 5, kInt32 = 6,
                     kInt64 = 7, kBool = 9, kHalf = 10, kDouble = 11;
inline constexpr int kVariadic = 2;

inline constexpr int kWarning = 2;  // how severe what is logged is

// The table: slots by their number.
class Api {
 public:
  template <int slot, class Result, class... Args>
  Result call(Args... args) const {
    return reinterpret_cast<Result (*)(Args...)>(table_[slot])(args...);
  }

  Status* create_status(int code, const char* text) const { return call<0, Status*>(code, text); }
  Status* create_domain(const char* name, Domain** out) const {
    return call<26, Status*>(name, out);
  }
  Status* add_to_domain(Domain* domain, const struct CustomOp* op) const {
    return call<27, Status*>(domain, op);
  }
  Status* add_domain(SessionOptions* options, Domain* domain) const {
    return call<28, Status*>(options, domain);
  }
  Status* data(Value* value, void** out) const { return call<51, Status*>(value, out); }
  Status* element_type(const TensorInfo* info, int* out) const {
    return call<60, Status*>(info, out);
  }
  Status* rank(const TensorInfo* info, size_t* out) const { return call<61, Status*>(info, out); }
  Status* shape(const TensorInfo* info, int64_t* out, size_t rank) const {
    return call<62, Status*>(info, out, rank);
  }
  Status* tensor_info(const Value* value, TensorInfo** out) const {
    return call<65, Status*>(value, out);
  }
  Status* string_attribute(const KernelInfo* info, const char* name, char* out,
                           size_t* size) const {
    return call<87, Status*>(info, name, out, size);
  }
  Status* input_count(const KernelContext* context, size_t* out) const {
    return call<88, Status*>(context, out);
  }
  Status* output_count(const KernelContext* context, size_t* out) const {
    return call<89, Status*>(context, out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return call<90, Status*>(context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank,
                 Value** out) const {
    return call<91, Status*>(context, index, shape, rank, out);
  }
  void release(TensorInfo* info) const { call<99, void>(info); }
  Status* config_entry(const SessionOptions* options, const char* key, char* out,
                       size_t* size) const {
    return call<238, Status*>(options, key, out, size);
  }
  Status* has_config_entry(const SessionOptions* options, const char* key, int* out) const {
    return call<237, Status*>(options, key, out);
  }
  Status* log(const Logger* logger, int severity, const char* text, const char* file, int line,
              const char* function) const {
    return call<247, Status*>(logger, severity, text, file, line, function);
  }
  const char* message(const Status* status) const { return call<2, const char*>(status); }
  void release(Status* status) const { call<93, void>(status); }
  Status* parallel_for(const KernelContext* context, void (*body)(void*, size_t), size_t count,
                       size_t batches, void* data) const {
    return call<274, Status*>(context, body, count, batches, data);
  }

  // Since version 23, for the provider.
  Status* name(const ValueInfo* value, const char** out) const {
    return call<289, Status*>(value, out);
  }
  void pairs(const KeyValues* entries, const char* const** keys, const char* const** values,
             size_t* count) const {
    call<298, void>(entries, keys, values, count);
  }
  void release(KeyValues* entries) const { call<300, void>(entries); }
  int type(const HardwareDevice* device) const { return call<307, int>(device); }
  const EpApi* ep_api() const { return call<317, const EpApi*>(); }
  Status* bytes(const Value* value, size_t* out) const { return call<318, Status*>(value, out); }
  Status* consumer_count(const ValueInfo* value, size_t* out) const {
    return call<324, Status*>(value, out);
  }
  // Input -1: a graph inside the node reads it.
  Status* consumers(const ValueInfo* value, const Node** out, int64_t* inputs, size_t count) const {
    return call<325, Status*>(value, out, inputs, count);
  }
  Status* initializer(const ValueInfo* value, const Value** out) const {
    return call<326, Status*>(value, out);
  }
  Status* is_graph_output(const ValueInfo* value, bool* out) const {
    return call<330, Status*>(value, out);
  }
  Status* is_constant(const ValueInfo* value, bool* out) const {
    return call<331, Status*>(value, out);
  }
  Status* node_count(const Graph* graph, size_t* out) const {
    return call<344, Status*>(graph, out);
  }
  Status* nodes(const Graph* graph, const Node** out, size_t count) const {
    return call<345, Status*>(graph, out, count);
  }
  Status* input_count(const Node* node, size_t* out) const { return call<353, Status*>(node, out); }
  Status* inputs(const Node* node, const ValueInfo** out, size_t count) const {
    return call<354, Status*>(node, out, count);
  }
  Status* output_count(const Node* node, size_t* out) const {
    return call<355, Status*>(node, out);
  }
  Status* outputs(const Node* node, const ValueInfo** out, size_t count) const {
    return call<356, Status*>(node, out, count);
  }
  Status* config_entries(const SessionOptions* options, KeyValues** out) const {
    return call<379, Status*>(options, out);
  }

 private:
  void* table_[380];  // as far as it is used
};

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*version)();
};

// An operator, as ONNX Runtime calls it. Entries left NULL are not called at this version.
struct CustomOp {
  uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  int (*input_type)(const CustomOp*, size_t);
  size_t (*input_type_count)(const CustomOp*);
  int (*output_type)(const CustomOp*, size_t);
  size_t (*output_type_count)(const CustomOp*);
  void (*compute)(void*, KernelContext*);
  void (*destroy)(void*);
  int (*input_characteristic)(const CustomOp*, size_t);
  int (*output_characteristic)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic_input_minimum)(const CustomOp*);
  int (*variadic_input_homogeneous)(const CustomOp*);
  int (*variadic_output_minimum)(const CustomOp*);
  int (*variadic_output_homogeneous)(const CustomOp*);
  Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*compute_v2)(void*, KernelContext*);
  Status* (*infer_shapes)(const CustomOp*, void*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
  void* later[8];
};

}  // namespace ort

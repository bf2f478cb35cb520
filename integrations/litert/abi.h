// As much of LiteRT's (TensorFlow Lite's) stable C interface for delegates as this one needs, so
// that no header of it has to be installed. Structures are passed by pointer and only ever grow at
// their end; layouts are those of 64-bit machines (checked with ai-edge-litert 2.3 and
// tflite-runtime 2.14).
#pragma once
#include <cstddef>
#include <cstdint>

namespace activsparse::litert::abi {

enum Status : int { kOk = 0, kError = 1 };
enum Type : int { kFloat32 = 1, kInt32 = 2, kUInt8 = 3, kInt64 = 4, kInt8 = 9, kFloat16 = 10 };
enum Quantisation : int { kAffine = 1 };
enum AllocationType : int { kReadOnly = 1, kArena = 2, kArenaPersistent = 3 };
enum Padding : int { kSame = 1, kValid = 2 };
enum MirrorPadMode : int { kReflect = 1, kSymmetric = 2 };
enum FusedActivation : int { kNoActivation = 0, kRelu = 1, kReluN1To1 = 2, kRelu6 = 3 };
constexpr int64_t kAllowDynamicTensors = 1;

// Operators by their number in the file format.
enum Code : int {
  kAdd = 0,
  kAveragePool2d = 1,
  kConcatenation = 2,
  kConv2d = 3,
  kDepthwiseConv2d = 4,
  kDequantize = 6,
  kFullyConnected = 9,
  kLogistic = 14,
  kMaxPool2d = 17,
  kMul = 18,
  kReluCode = 19,
  kRelu6Code = 21,
  kReshape = 22,
  kResizeBilinear = 23,
  kTanh = 28,
  kPad = 34,
  kGather = 36,
  kMean = 40,
  kStridedSlice = 45,
  kPrelu = 54,
  kPadV2 = 60,
  kSlice = 65,
  kResizeNearest = 97,
  kLeakyRelu = 98,
  kMirrorPad = 100,
  kQuantize = 114,
  kHardSwish = 117,
};

struct IntArray {
  int size;
  int data[];
};

struct FloatArray {
  int size;
  float data[];
};

// One scale and zero point, or those of each channel along a dimension.
struct AffineQuantization {
  FloatArray* scale;
  IntArray* zero_point;
  int32_t quantized_dimension;
};

struct Delegate;

struct Tensor {
  int type;
  void* data;
  IntArray* dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct {
    int type;
    void* params;
  } quantization;
  void* sparsity;
  const IntArray* dims_signature;  // -1 where a size is open; may be nullptr
};

struct Node {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

struct Context;

struct Registration {
  void* (*init)(Context*, const char* buffer, size_t length);
  void (*free)(Context*, void* user_data);
  Status (*prepare)(Context*, Node*);
  Status (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

struct Context {
  size_t tensors_size;
  Status (*get_execution_plan)(Context*, IntArray** plan);
  Tensor* tensors;
  void* impl;
  Status (*resize_tensor)(Context*, Tensor*, IntArray*);
  void (*report_error)(Context*, const char* format, ...);
  Status (*add_tensors)(Context*, int, int*);
  Status (*get_node_and_registration)(Context*, int index, Node**, Registration**);
  Status (*replace_node_subsets)(Context*, Registration, const IntArray* nodes, Delegate*);
  int recommended_num_threads;
};

struct Delegate {
  void* data;
  Status (*prepare)(Context*, Delegate*);
  Status (*copy_from_buffer)(Context*, Delegate*, int, Tensor*);
  Status (*copy_to_buffer)(Context*, Delegate*, int, Tensor*);
  void (*free_buffer)(Context*, Delegate*, int*);
  int64_t flags;
  void* opaque_delegate_builder;
};

// What a delegate's kernel is initialised with.
struct DelegateParams {
  Delegate* delegate;
  IntArray *nodes, *inputs, *outputs;
};

// Attributes of operators.
struct ConvParams {
  int padding, stride_width, stride_height, activation;
  int dilation_width, dilation_height, bias_type;
};
struct DepthwiseConvParams {
  int padding, stride_width, stride_height, depth_multiplier, activation;
  int dilation_width, dilation_height;
};
struct PoolParams {
  int padding, stride_width, stride_height, filter_width, filter_height, activation;
};
struct FullyConnectedParams {
  int activation, weights_format;
  bool keep_num_dims;
};
struct ActivationParams {  // of ADD and MUL
  int activation;
};
struct ConcatenationParams {
  int axis, activation;
};
struct LeakyReluParams {
  float alpha;
};
struct ResizeParams {  // of both kinds
  bool align_corners, half_pixel_centers;
};
struct GatherParams {
  int axis, batch_dims;
};
struct StridedSliceParams {
  int begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask;
  bool offset;
};
struct MirrorPadParams {
  int mode;
};
struct ReducerParams {
  bool keep_dims;
};

}  // namespace activsparse::litert::abi

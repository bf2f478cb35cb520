// The operator interface: everything a plan runs implements it, and every integration into another
// runtime uses it.
//
//   spec  --pack-->  blob  --create-->  Operator  --run-->  output tensors
//
// pack() does all work that depends on weights and mask only (packing weights for the instruction
// set, building row lists and tables) and is called at compile time. The blob it returns is all
// create() needs, so a stored plan never packs again. Plan files hold a digest of the sources that
// decide what a blob looks like (CMakeLists.txt), and are refused by other builds. create() only
// reads the blob; it keeps pointers into it, hence the blob must outlive the operator. pack() works
// for any instruction set on any machine: it may use the sizes in the kernel table, but no kernel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/blob.h"
#include "common/half.h"
#include "common/isa.h"

namespace activsparse {

enum class DType : int32_t { kFloat32 = 0, kU8 = 1, kFloat16 = 2 };

constexpr int64_t size_of(DType type) {
  return type == DType::kU8 ? 1 : type == DType::kFloat16 ? 2 : 4;
}

// Several of them.
using DTypes = unsigned;
constexpr DTypes bit(DType type) { return 1u << static_cast<int>(type); }
inline constexpr DTypes kFloatsAndBytes = bit(DType::kFloat32) | bit(DType::kU8);
inline constexpr DTypes kFloatsAndHalves = bit(DType::kFloat32) | bit(DType::kFloat16);

// Of an element in memory.
template <class T>
inline constexpr DType kTypeOf = DType::kFloat32;
template <>
inline constexpr DType kTypeOf<uint8_t> = DType::kU8;
template <>
inline constexpr DType kTypeOf<Half> = DType::kFloat16;

// Activations are NHWC. `stride` is the distance in elements between neighbouring pixels (>= c):
// tensors the planner allocates round it up to 16 so that every pixel starts on a cache line; a
// view into a concatenated tensor has the stride of the whole. Rows and images are contiguous:
// pixel (n, y, x) is element ((n*h + y)*w + x) * stride. The lanes c..stride of a pixel that no
// view owns hold unspecified finite or non-finite values: an operator may write them (whole-vector
// stores) in tensors whose `padded` is true, and no operator's result may depend on them. Vectors
// (N, F) are tensors with h = w = 1. `nchw` marks a graph input or output in its user's plain
// contiguous NCHW layout; only the operators `to_nhwc`, `to_nchw` and `conv/stem` see one.
struct TensorDesc {
  int32_t n = 1, h = 1, w = 1, c = 1;
  int32_t stride = 1;
  int32_t nchw = 0;
  int32_t padded =
      0;  // 1: lanes up to round_up(c, 16) belong to this tensor and may be overwritten
  DType dtype = DType::kFloat32;
  int64_t pixels() const { return int64_t{n} * h * w; }
};

// From a tensor's first element to the end of its last pixel: elements, and bytes.
int64_t tensor_extent(const TensorDesc& desc);
inline int64_t tensor_bytes(const TensorDesc& desc) {
  return tensor_extent(desc) * size_of(desc.dtype);
}

// Whether an operator packed for `packed` may be given `tensor`.
bool fits(const TensorDesc& packed, const TensorDesc& tensor);

// A constant array of a spec, dense and C-contiguous. dtype: 'f' float32, 'i' int32, 'b' uint8
// (masks).
struct ArrayView {
  const void* data = nullptr;
  char dtype = 'f';
  std::vector<int64_t> shape;
  // The greatest number there is where the product of the sizes is larger.
  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape)
      if (__builtin_mul_overflow(n, d, &n)) return INT64_MAX;
    return n;
  }
};

inline constexpr int kMostThreads = 1024;  // that work is cut for

// What an operator shall compute. Attribute and array names per kind are listed in
// docs/operators.md.
struct OpSpec {
  std::string kind;  // "conv", "depthwise", "gemm", "max_pool", ...
  std::map<std::string, int64_t> ints;
  std::map<std::string, double> floats;
  std::map<std::string, std::string> strings;
  std::map<std::string, ArrayView> arrays;
  std::vector<TensorDesc> inputs, outputs;
  // How many threads it will run on: work is cut so that all of them get equal shares. It runs on
  // any other number as well, and its results do not depend on it.
  int threads = 1;

  int64_t int_or(const char* name, int64_t fallback) const;
  double float_or(const char* name, double fallback) const;
  std::string string_or(const char* name, const char* fallback) const;
  const ArrayView* array(const char* name) const;  // nullptr when absent
  const float* float_array(
      const char* name) const;  // the data of a float32 array, nullptr when absent
};

// Constants of an operator in the order it reads them.
struct Constants {
  const float* data;
  int64_t floats;
};

struct RunArgs {
  const void* const* inputs;     // one per spec input, of its type
  void* const* outputs;          // one per spec output
  std::uint8_t* scratch;         // this thread's scratch_bytes(), 64-byte aligned
  std::uint8_t* shared_scratch;  // shared_scratch_bytes(), one for all threads
  // What later operators read first, for an operator that has time to fetch it; `fetched` floats of
  // this one's own constants were such a part of an earlier operator's list.
  const Constants* ahead = nullptr;
  int ahead_count = 0;
  int64_t fetched = 0;

  template <class T = float>
  const T* in(std::size_t i) const {
    return static_cast<const T*>(inputs[i]);
  }
  template <class T = float>
  T* out(std::size_t i) const {
    return static_cast<T*>(outputs[i]);
  }
};

// Immutable after create(); run() may be called from several threads at once for disjoint task
// ranges. It neither allocates nor throws: a thread that it runs on has nobody to tell.
class Operator {
 public:
  virtual ~Operator() = default;
  // The tensors it was packed for: run() trusts their sizes.
  virtual std::vector<TensorDesc> inputs() const = 0;
  virtual std::vector<TensorDesc> outputs() const = 0;
  virtual std::size_t scratch_bytes() const { return 0; }
  virtual std::size_t shared_scratch_bytes() const { return 0; }
  // Work is cut into phases with a barrier between them; inside a phase, tasks are independent and
  // of similar cost.
  virtual int phases() const { return 1; }
  virtual int tasks(int phase) const = 0;
  // How long tasks [begin, end) of a phase take on one thread by estimate, in multiply-adds: equal
  // shares of macs(), or of what is written in later phases, unless they know better.
  virtual double cost(int phase, int begin, int end) const;
  virtual void run(const RunArgs& args, int phase, int begin, int end) const = 0;
  // What a run reads first of the blob; nothing where it is not worth fetching ahead.
  virtual Constants constants() const { return {nullptr, 0}; }
  // How much of RunArgs::ahead run() has time and, next to what it uses itself, room in the
  // second-level cache to fetch, in floats.
  virtual int64_t fetches() const { return 0; }
  // And how much it has time to bring from memory into the third-level cache, where others' data
  // may have taken the place of a network's weights since its last run.
  virtual int64_t fetches_far() const { return 0; }
  // Whether it keeps weights in float16, which takes them to float32 while it runs.
  virtual bool half_weights() const { return false; }
  // For explain: the inner loop in use, for example "avx512 6x64"; multiply-adds really done per
  // run.
  virtual std::string kernel() const { return ""; }
  virtual double macs() const { return 0; }
  virtual std::size_t index_bytes() const {
    return 0;
  }  // row lists and tables inside the blob, without weights
};

// One row of the operator table (operators/registry.cpp; libraries that need less have their own):
// how one algorithm of one kind is made.
struct OperatorType {
  const char* kind;
  const char* algorithm;  // "direct", "winograd4", "reference", ...; unique within a kind
  // What this algorithm adds to the functions below, which check every spec (operators/checks.h)
  // before it sees one.
  std::string (*reason)(const OpSpec& spec, Isa isa);
  Blob (*packer)(const OpSpec& spec, Isa isa);
  // Refuses data that would make run() leave its tensors: they may come from anybody's file.
  std::unique_ptr<Operator> (*creator)(const BlobView& blob, Isa isa);
  DTypes types = bit(DType::kFloat32);  // that its tensors may be of

  bool is(std::string_view name) const { return name == algorithm; }
  bool is_winograd() const { return std::string_view(algorithm).substr(0, 8) == "winograd"; }
  // Empty when this algorithm can run the spec on `isa`; else the reason, one short clause, for
  // explain. Throws Error when nothing can run it.
  std::string unsupported(const OpSpec& spec, Isa isa) const;
  // Throws Error when the spec is impossible.
  Blob pack(const OpSpec& spec, Isa isa) const;
  // Throws Error when the data are damaged.
  std::unique_ptr<Operator> create(const BlobView& blob, Isa isa) const {
    return creator(blob, isa);
  }
};

// Whether an instruction set has kernels on float16, which not every processor of it can run, and
// whether this one can.
bool packs_halves(Isa isa);
bool computes_halves(Isa isa);
// Throws Error where operators of the set run, but not those on float16.
void require_halves(Isa isa);

const std::vector<OperatorType>& operator_types();

// Throws Error naming the kind and algorithm when there is no such row.
const OperatorType& find_operator_type(const std::string& kind, const std::string& algorithm);

}  // namespace activsparse

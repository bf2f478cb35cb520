// Plans of small networks that use every operator there is, for what alters plans.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "operators/checks.h"
#include "plan/plan_file.h"

namespace activsparse {

// Steps are added one by one; every tensor has its own place.
class SmallPlan {
 public:
  explicit SmallPlan(Isa isa) { content_.isa = isa; }

  static TensorDesc nhwc(int n, int h, int w, int c) {
    return {n, h, w, c, (c + 15) / 16 * 16, 0, 1};
  }
  static TensorDesc nchw(int n, int h, int w, int c) { return {n, h, w, c, c, 1, 0}; }

  int input(const TensorDesc& desc) { return value(desc, content_.inputs); }
  int output(const TensorDesc& desc) { return value(desc, content_.outputs); }
  int inner(const TensorDesc& desc) {
    content_.tensors.push_back({desc, content_.arena_bytes});
    content_.arena_bytes += (tensor_bytes(desc) + 63) / 64 * 64;
    return static_cast<int>(content_.tensors.size()) - 1;
  }

  // Arrays are kept until the plan is written.
  void weights(OpSpec& spec, const char* name, std::vector<int64_t> shape) {
    ArrayView view{nullptr, 'f', std::move(shape)};
    floats_.emplace_back(static_cast<std::size_t>(view.size()));
    for (float& value : floats_.back()) value = uniform_(random_);
    view.data = floats_.back().data();
    spec.arrays[name] = view;
  }
  void bytes(OpSpec& spec, const char* name, std::vector<int64_t> shape,
             const std::function<bool(int64_t)>& set) {
    ArrayView view{nullptr, 'b', std::move(shape)};
    bytes_.emplace_back(static_cast<std::size_t>(view.size()));
    for (std::size_t i = 0; i < bytes_.back().size(); ++i)
      bytes_.back()[i] = set(static_cast<int64_t>(i));
    view.data = bytes_.back().data();
    spec.arrays[name] = view;
  }
  void ints(OpSpec& spec, const char* name, std::vector<int32_t> values) {
    ints_.push_back(std::move(values));
    spec.arrays[name] = {ints_.back().data(), 'i', {static_cast<int64_t>(ints_.back().size())}};
  }

  void step(OpSpec spec, const char* algorithm, std::vector<int> in, int out) {
    for (int id : in) spec.inputs.push_back(content_.tensors[id].desc);
    spec.outputs = {content_.tensors[out].desc};
    const OperatorType& type = find_operator_type(spec.kind, algorithm);
    const std::string reason = type.unsupported(spec, content_.isa);
    if (!reason.empty()) throw Error(spec.kind + "/" + algorithm + ": " + reason);
    blobs_.push_back(type.pack(spec, content_.isa));
    specs_.push_back(spec);
    content_.steps.push_back({spec.kind, algorithm, std::move(in), {out}, BlobView{nullptr, 0}});
  }

  // Of the steps; their arrays live as long as this object.
  const std::vector<OpSpec>& specs() const { return specs_; }

  std::vector<uint8_t> write() {
    for (std::size_t i = 0; i < blobs_.size(); ++i)
      content_.steps[i].data = BlobView(blobs_[i].data(), blobs_[i].size());
    content_.metadata = "{}";
    std::FILE* file = std::tmpfile();
    if (file == nullptr || write_plan(content_, fileno(file)) != 0) throw Error("cannot write");
    std::vector<uint8_t> plan(static_cast<std::size_t>(lseek(fileno(file), 0, SEEK_END)));
    if (pread(fileno(file), plan.data(), plan.size(), 0) != static_cast<ssize_t>(plan.size()))
      throw Error("cannot read back");
    std::fclose(file);
    return plan;
  }

 private:
  int value(const TensorDesc& d, std::vector<PlanValue>& list) {
    content_.tensors.push_back({d, -1});
    const int id = static_cast<int>(content_.tensors.size()) - 1;
    const bool vector = d.h == 1 && d.w == 1;
    list.push_back({"value" + std::to_string(id),
                    vector   ? std::vector<int64_t>{d.n, d.c}
                    : d.nchw ? std::vector<int64_t>{d.n, d.c, d.h, d.w}
                             : std::vector<int64_t>{d.n, d.h, d.w, d.c},
                    id});
    return id;
  }

  PlanContent content_;
  std::vector<Blob> blobs_;
  std::vector<OpSpec> specs_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<uint8_t>> bytes_;
  std::deque<std::vector<int32_t>> ints_;
  std::mt19937 random_{1};
  std::uniform_real_distribution<float> uniform_{-0.1f, 0.1f};
};

namespace small_plans {

inline OpSpec spec_of(const char* kind) {
  OpSpec spec;
  spec.kind = kind;
  return spec;
}

inline void pad(OpSpec& spec, int pad, const std::string& prefix = "") {
  for (const char* name : {"pad_top", "pad_left", "pad_bottom", "pad_right"})
    spec.ints[prefix + name] = pad;
}

inline void set(OpSpec& spec, std::initializer_list<const char*> names, int value) {
  for (const char* name : names) spec.ints[name] = value;
}

// A 3x3 convolution from and to `channels`, padded by one.
inline OpSpec conv(SmallPlan& plan, int channels) {
  OpSpec spec = spec_of("conv");
  plan.weights(spec, "weight", {channels, channels, 3, 3});
  plan.weights(spec, "bias", {channels});
  pad(spec, 1);
  return spec;
}

// Layouts, all kinds of 3x3 convolutions with masks and residuals, pooling, a classifier.
inline void residual(SmallPlan& plan) {
  const TensorDesc map = SmallPlan::nhwc(2, 9, 10, 20);
  const auto mask = [&](OpSpec& spec, const char* name, int step) {
    plan.bytes(spec, name, {9, 10}, [=](int64_t i) { return i % step != 0; });
  };
  const int image = plan.input(SmallPlan::nchw(2, 9, 10, 20));
  int at = plan.inner(map);
  plan.step(spec_of("to_nhwc"), "vector", {image}, at);
  const auto next = [&](OpSpec spec, const char* algorithm, bool joined) {
    const int to = plan.inner(map);
    plan.step(std::move(spec), algorithm, joined ? std::vector<int>{at, at} : std::vector<int>{at},
              to);
    at = to;
  };
  next(conv(plan, 20), "direct", true);
  OpSpec masked = conv(plan, 20);
  mask(masked, "mask", 3);
  masked.strings["activation"] = "relu";
  next(masked, "direct", false);
  mask(masked, "input_mask", 2);
  next(masked, "active_taps", true);
  next(masked, "winograd4", true);
  next(masked, "winograd6", false);
  next(masked, "winograd2", false);
  next(masked, "reference", true);
  OpSpec chequered = conv(plan, 20);
  for (const char* name : {"mask", "input_mask"})
    plan.bytes(chequered, name, {9, 10}, [](int64_t i) { return (i / 10 + i) % 2 == 0; });
  next(chequered, "winograd4_chequered", false);
  next(chequered, "winograd6_chequered", false);
  OpSpec filled = conv(plan, 20);
  plan.bytes(filled, "mask", {9, 10}, [](int64_t i) { return i % 10 != 4; });
  std::vector<int32_t> source(90);
  for (int i = 0; i < 90; ++i) source[i] = i % 10 == 4 ? i - 1 : i;
  plan.ints(filled, "source", source);
  next(filled, "direct", false);
  source[4] = -1;
  plan.ints(filled, "source", source);
  next(filled, "winograd4", false);
  next(filled, "reference", false);
  OpSpec pointwise = spec_of("conv");
  plan.weights(pointwise, "weight", {20, 20, 1, 1});
  next(pointwise, "pointwise", true);
  mask(pointwise, "mask", 2);
  pointwise.strings["activation"] = "silu";
  next(pointwise, "pointwise", false);
  OpSpec strided = conv(plan, 20);
  set(strided, {"stride_h", "stride_w"}, 2);
  const TensorDesc half = SmallPlan::nhwc(2, 5, 5, 20);
  const int small = plan.inner(half), smaller = plan.inner(SmallPlan::nhwc(2, 3, 3, 20));
  plan.step(strided, "winograd4_s2", {at}, small);
  plan.step(strided, "winograd2_s2", {small}, smaller);
  OpSpec pool = spec_of("max_pool");
  set(pool, {"kernel_h", "kernel_w", "stride_h", "stride_w"}, 2);
  const int pooled = plan.inner(SmallPlan::nhwc(2, 1, 1, 20));
  plan.step(pool, "vector", {smaller}, pooled);
  const int mean = plan.inner(SmallPlan::nhwc(2, 1, 1, 20));
  plan.step(spec_of("global_average_pool"), "vector", {at}, mean);
  const int sum = plan.inner(SmallPlan::nhwc(2, 1, 1, 20));
  plan.step(spec_of("add"), "vector", {pooled, mean}, sum);
  OpSpec gemm = spec_of("gemm");
  plan.weights(gemm, "weight", {10, 20});
  const int scores = plan.inner(SmallPlan::nhwc(2, 1, 1, 10));
  plan.step(gemm, "direct", {sum}, scores);
  plan.step(spec_of("softmax"), "vector", {scores}, plan.output({2, 1, 1, 10, 10, 0, 0}));
}

// First convolutions of a network, with and without what follows them.
inline void stems(SmallPlan& plan) {
  const int image = plan.input(SmallPlan::nchw(1, 30, 34, 3));
  OpSpec stem = spec_of("conv");
  plan.weights(stem, "weight", {20, 3, 7, 7});
  set(stem, {"stride_h", "stride_w"}, 2);
  pad(stem, 3);
  const TensorDesc half = SmallPlan::nhwc(1, 15, 17, 20), quarter = SmallPlan::nhwc(1, 8, 9, 20);
  OpSpec pooled = stem;
  pooled.kind = "conv_max_pool";
  set(pooled, {"pool.kernel_h", "pool.kernel_w"}, 3);
  set(pooled, {"pool.stride_h", "pool.stride_w"}, 2);
  pad(pooled, 1, "pool.");
  const int first = plan.inner(quarter);
  plan.step(pooled, "winograd_stem", {image}, first);
  OpSpec masked = stem;
  plan.bytes(masked, "mask", {15, 17}, [](int64_t i) { return i % 4 != 1; });
  const int second = plan.inner(half), third = plan.inner(half), fourth = plan.inner(half);
  plan.step(masked, "winograd_stem", {image}, second);
  plan.step(masked, "stem", {image, second}, third);
  plan.step(stem, "reference", {image, third}, fourth);
  OpSpec pool = spec_of("average_pool");
  set(pool, {"kernel_h", "kernel_w"}, 3);
  set(pool, {"stride_h", "stride_w"}, 2);
  pad(pool, 1);
  const int last = plan.inner(quarter), both = plan.inner(SmallPlan::nhwc(1, 8, 9, 40));
  plan.step(pool, "vector", {fourth}, last);
  plan.step(spec_of("concat"), "vector", {first, last}, both);
  plan.step(spec_of("to_nchw"), "vector", {both}, plan.output(SmallPlan::nchw(1, 8, 9, 40)));
}

// Depthwise convolutions and inverted residuals.
inline void mobile(SmallPlan& plan) {
  const TensorDesc map = SmallPlan::nhwc(2, 9, 11, 20);
  const auto keep = [](int step) { return [=](int64_t i) { return i % step != 0; }; };
  const int image = plan.input(SmallPlan::nchw(2, 9, 11, 20));
  int at = plan.inner(map);
  plan.step(spec_of("to_nhwc"), "vector", {image}, at);
  const auto next = [&](const OpSpec& spec, const char* algorithm, bool joined) {
    const int to = plan.inner(map);
    plan.step(spec, algorithm, joined ? std::vector<int>{at, at} : std::vector<int>{at}, to);
    at = to;
  };
  OpSpec depthwise = spec_of("conv");
  plan.weights(depthwise, "weight", {20, 1, 3, 3});
  pad(depthwise, 1);
  depthwise.ints["group"] = 20;
  next(depthwise, "depthwise", false);
  next(depthwise, "depthwise_block", true);
  plan.bytes(depthwise, "mask", {9, 11}, keep(3));
  next(depthwise, "depthwise", true);
  next(depthwise, "depthwise_block", false);
  OpSpec block = spec_of("inverted_residual");
  plan.weights(block, "expand.weight", {40, 20, 1, 1});
  plan.weights(block, "depthwise.weight", {40, 1, 3, 3});
  plan.weights(block, "project.weight", {20, 40, 1, 1});
  block.ints["depthwise.group"] = 40;
  block.strings["expand.activation"] = "relu";
  pad(block, 1, "depthwise.");
  next(block, "strips", true);
  next(block, "reference", true);
  plan.bytes(block, "expand.mask", {9, 11}, keep(2));
  plan.bytes(block, "depthwise.mask", {9, 11}, keep(3));
  plan.bytes(block, "project.mask", {9, 11}, keep(5));
  next(block, "strips", true);
  OpSpec filled = block;
  const auto fill = [&](const char* name, int step) {
    std::vector<int32_t> source(99);
    for (int i = 0; i < 99; ++i) source[i] = i % step ? i : i < 98 ? i + 1 : i - 1;
    plan.ints(filled, name, source);
  };
  fill("expand.source", 2);
  fill("depthwise.source", 3);
  next(filled, "strips", true);
  next(filled, "reference", true);
  fill("project.source", 5);
  next(filled, "strips", false);
  OpSpec tail = block;
  tail.arrays.erase("expand.weight");
  tail.arrays.erase("expand.mask");
  tail.strings.clear();
  plan.weights(tail, "depthwise.weight", {20, 1, 3, 3});
  plan.weights(tail, "project.weight", {20, 20, 1, 1});
  tail.ints["depthwise.group"] = 20;
  next(tail, "strips", false);
  const int photo = plan.input(SmallPlan::nchw(2, 18, 22, 3));
  OpSpec stem = spec_of("inverted_residual");
  plan.weights(stem, "expand.weight", {20, 3, 3, 3});
  plan.weights(stem, "depthwise.weight", {20, 1, 3, 3});
  set(stem, {"expand.stride_h", "expand.stride_w"}, 2);
  pad(stem, 1, "expand.");
  pad(stem, 1, "depthwise.");
  stem.ints["depthwise.group"] = 20;
  const int other = plan.inner(map), product = plan.inner(map);
  plan.step(stem, "strips", {photo}, other);
  plan.step(spec_of("mul"), "vector", {at, other}, product);
  plan.step(spec_of("to_nchw"), "vector", {product}, plan.output(SmallPlan::nchw(2, 9, 11, 20)));
}

// Whole pixels that move, element-wise work, and views of any rank.
inline void views(SmallPlan& plan) {
  const TensorDesc map = SmallPlan::nhwc(1, 6, 8, 16);
  const int image = plan.input(SmallPlan::nchw(1, 6, 8, 16));
  int at = plan.inner(map);
  plan.step(spec_of("to_nhwc"), "vector", {image}, at);
  const auto next = [&](const OpSpec& spec, const char* algorithm, std::vector<int> more = {}) {
    const int to = plan.inner(map);
    more.insert(more.begin(), at);
    plan.step(spec, algorithm, more, to);
    at = to;
  };
  OpSpec scale = spec_of("scale_shift");
  plan.weights(scale, "scale", {16});
  plan.weights(scale, "shift", {16});
  next(scale, "vector");
  OpSpec mask = spec_of("mask_multiply");
  plan.bytes(mask, "mask", {6, 8}, [](int64_t i) { return i % 3 != 0; });
  next(mask, "vector");
  OpSpec activate = spec_of("activate");
  activate.strings["activation"] = "hardswish";
  next(activate, "reference");
  const int mean = plan.inner(SmallPlan::nhwc(1, 1, 1, 16));
  plan.step(spec_of("global_average_pool"), "vector", {at}, mean);
  next(spec_of("mul"), "vector", {mean});
  next(spec_of("copy"), "vector");
  OpSpec norm = spec_of("normalize");
  plan.weights(norm, "scale", {16});
  plan.weights(norm, "shift", {16});
  norm.floats["epsilon"] = 1e-3;
  next(norm, "vector");
  norm.ints["groups"] = 4;
  norm.strings["activation"] = "gelu";
  next(norm, "vector");
  OpSpec reduce = spec_of("reduce");
  reduce.strings["function"] = "l2";
  plan.ints(reduce, "shape", {48, 16});
  plan.ints(reduce, "x_strides", {16, 1});
  plan.ints(reduce, "y_strides", {0, 1});
  const int lengths = plan.inner(SmallPlan::nhwc(1, 1, 1, 16));
  plan.step(reduce, "vector", {at}, lengths);
  next(spec_of("add"), "vector", {lengths});
  OpSpec best = spec_of("top_k");
  set(best, {"size"}, 48);
  set(best, {"count"}, 1);
  set(best, {"x_step"}, 16);
  plan.ints(best, "shape", {16});
  plan.ints(best, "x_strides", {1});
  plan.ints(best, "y_strides", {1});
  const int largest = plan.inner(SmallPlan::nhwc(1, 1, 1, 16));
  plan.step(best, "vector", {at}, largest);
  next(spec_of("mul"), "vector", {largest});
  OpSpec gather = spec_of("gather_positions");
  std::vector<int32_t> source(48);
  for (int i = 0; i < 48; ++i) source[i] = 47 - i;
  plan.ints(gather, "source", source);
  next(gather, "vector");
  OpSpec resize = spec_of("resize_nearest");
  set(resize, {"scale_h", "scale_w"}, 2);
  const int large = plan.inner(SmallPlan::nhwc(1, 12, 16, 16));
  plan.step(resize, "vector", {at}, large);
  OpSpec pool = spec_of("max_pool");
  set(pool, {"kernel_h", "kernel_w", "stride_h", "stride_w"}, 2);
  const int pooled = plan.inner(map);
  plan.step(pool, "vector", {large}, pooled);
  at = pooled;
  OpSpec linear = spec_of("resize_linear");
  std::vector<int32_t> rows(12), columns(16);
  for (int i = 0; i < 12; ++i) rows[i] = i % 6;
  for (int i = 0; i < 16; ++i) columns[i] = 7 - i % 8;
  plan.ints(linear, "rows", rows);
  plan.ints(linear, "columns", columns);
  plan.weights(linear, "rows_weights", {2, 6});
  plan.weights(linear, "columns_weights", {2, 8});
  next(linear, "vector");
  // (48, 16) seen as matrices: its transpose, its square, its rows' softmax.
  OpSpec map_spec = spec_of("map");
  plan.ints(map_spec, "shape", {16, 48});
  plan.ints(map_spec, "y_strides", {48, 1});
  plan.ints(map_spec, "x_strides", {1, 16});
  const TensorDesc turned = SmallPlan::nhwc(1, 1, 16, 48);
  const int transposed = plan.inner(turned);
  plan.step(map_spec, "vector", {at}, transposed);
  plan.weights(map_spec, "scale", {16, 1});
  plan.weights(map_spec, "shift", {1, 48});
  const int scaled = plan.inner(turned);
  plan.step(map_spec, "vector", {at}, scaled);
  OpSpec combine = spec_of("combine");
  combine.strings["function"] = "subtract";
  plan.ints(combine, "shape", {16, 48});
  for (const char* name : {"y_strides", "a_strides", "b_strides"})
    plan.ints(combine, name, {48, 1});
  const int difference = plan.inner(turned);
  plan.step(combine, "vector", {transposed, scaled}, difference);
  OpSpec softmax = spec_of("softmax_axis");
  softmax.ints["axis"] = 0;
  plan.ints(softmax, "shape", {16, 48});
  for (const char* name : {"y_strides", "x_strides"}) plan.ints(softmax, name, {48, 1});
  const int shares = plan.inner(turned);
  plan.step(softmax, "vector", {difference}, shares);
  OpSpec matmul = spec_of("matmul");
  plan.ints(matmul, "shape", {16, 16, 48});
  plan.ints(matmul, "y_strides", {16, 1, 0});
  plan.ints(matmul, "a_strides", {48, 0, 1});
  plan.ints(matmul, "b_strides", {0, 1, 16});
  const int square = plan.inner(SmallPlan::nhwc(1, 1, 16, 16));
  plan.step(matmul, "vector", {shares, at}, square);
  plan.step(spec_of("to_nchw"), "vector", {square}, plan.output(SmallPlan::nchw(1, 1, 16, 16)));
}

// Products whose weights are in float16.
inline void halves(SmallPlan& plan) {
  const TensorDesc map = SmallPlan::nhwc(2, 9, 10, 20);
  const int image = plan.input(SmallPlan::nchw(2, 9, 10, 20));
  int at = plan.inner(map);
  plan.step(spec_of("to_nhwc"), "vector", {image}, at);
  const auto next = [&](OpSpec spec, const char* algorithm, const TensorDesc& result) {
    const int to = plan.inner(result);
    spec.strings["weights"] = "float16";
    plan.step(std::move(spec), algorithm, {at}, to);
    at = to;
  };
  OpSpec masked = conv(plan, 20);
  for (const char* name : {"mask", "input_mask"})
    plan.bytes(masked, name, {9, 10}, [](int64_t i) { return (i / 10 + i) % 2 == 0; });
  for (const char* algorithm :
       {"direct", "active_taps", "winograd4", "winograd2", "winograd4_chequered"})
    next(masked, algorithm, map);
  OpSpec pointwise = spec_of("conv");
  plan.weights(pointwise, "weight", {20, 20, 1, 1});
  next(pointwise, "pointwise", map);
  OpSpec block = spec_of("inverted_residual");
  plan.weights(block, "expand.weight", {40, 20, 1, 1});
  plan.weights(block, "depthwise.weight", {40, 1, 3, 3});
  pad(block, 1, "depthwise.");
  block.ints["depthwise.group"] = 40;
  plan.weights(block, "project.weight", {20, 40, 1, 1});
  next(block, "strips", map);
  OpSpec strided = conv(plan, 20);
  set(strided, {"stride_h", "stride_w"}, 2);
  next(strided, "winograd4_s2", SmallPlan::nhwc(2, 5, 5, 20));
  next(strided, "winograd2_s2", SmallPlan::nhwc(2, 3, 3, 20));
  next(spec_of("global_average_pool"), "vector", SmallPlan::nhwc(2, 1, 1, 20));
  OpSpec gemm = spec_of("gemm");
  plan.weights(gemm, "weight", {10, 20});
  next(gemm, "direct", SmallPlan::nhwc(2, 1, 1, 10));
  plan.step(spec_of("softmax"), "vector", {at}, plan.output({2, 1, 1, 10, 10, 0, 0}));
}

struct Network {
  const char* name;
  void (*build)(SmallPlan&);
};
inline constexpr Network kAll[] = {{"residual", residual},
                                   {"stems", stems},
                                   {"mobile", mobile},
                                   {"views", views},
                                   {"halves", halves}};

}  // namespace small_plans
}  // namespace activsparse

// Skipped positions take activation(skipped_value + residual): for algorithms whose loops leave
// them out. Any phase may do it, since nothing else writes there.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "operators/conv_params.h"

namespace activsparse {

struct SkippedFillHeader {
  uint64_t positions, value;
  int32_t count;
};

class SkippedFill {
 public:
  // Nothing to do without a `mask`, or with a `source`. Positions where `others` is set are left to
  // other code.
  static SkippedFillHeader pack(BlobWriter& writer, const OpSpec& spec, const ConvParams& p,
                                const uint8_t* others = nullptr) {
    std::vector<int32_t> positions;
    const ArrayView* mask = spec.array("mask");
    if (mask != nullptr && spec.array("source") == nullptr)
      for (int32_t i = 0; i < mask->size(); ++i)
        if (!static_cast<const uint8_t*>(mask->data)[i] && !(others && others[i]))
          positions.push_back(i);
    std::vector<float> value(p.output.c, 0.0f);
    if (const float* given = spec.float_array("skipped_value"))
      value.assign(given, given + p.output.c);
    if (!p.has_residual)
      for (float& v : value) v = activate(v, p.epilogue);
    SkippedFillHeader h{};
    h.count = static_cast<int32_t>(positions.size());
    h.positions = writer.append(positions.data(), positions.size());
    h.value = writer.append(value.data(), value.size());
    return h;
  }

  SkippedFill(const BlobView& blob, const SkippedFillHeader& h, const ConvParams& params,
              const Kernels& kernels)
      : count_(h.count), params_(params), kernels_(kernels) {
    const int positions = params.output.h * params.output.w;
    require_packed(count_ >= 0 && count_ <= positions);
    positions_ = blob.array<int32_t>(h.positions, count_);
    value_ = blob.array<float>(h.value, params.output.c);
    for (int i = 0; i < count_; ++i)
      require_packed(positions_[i] >= 0 && positions_[i] < positions);
  }

  // (channels): what a skipped position holds, before the activation if there is a residual.
  const float* value() const { return value_; }
  std::size_t bytes() const { return sizeof(int32_t) * count_; }

  // The share [begin, end) of the positions of all images, cut into `shares`.
  void run(const RunArgs& args, int begin, int end, int shares) const {
    const int64_t all = int64_t{params_.output.n} * count_;
    int64_t i = all * begin / shares;
    const int64_t stop = all * end / shares;
    while (i < stop) {
      const int64_t image = i / count_, first = image * count_;
      const int64_t last = std::min(first + count_, stop);
      run_image(args, image, static_cast<int>(i - first), static_cast<int>(last - first));
      i = last;
    }
  }

 private:
  // Positions in a row make a run.
  void run_image(const RunArgs& args, int64_t image, int begin, int end) const {
    const TensorDesc &out = params_.output, &in = params_.residual;
    const int64_t pixels = image * out.h * out.w;
    float* y = args.out(0) + pixels * out.stride;
    if (!params_.has_residual) {
      for (int i = begin; i < end; ++i)
        std::memcpy(y + int64_t{positions_[i]} * out.stride, value_, out.c * sizeof(float));
      return;
    }
    RowsArgs add{};
    add.a = value_;
    add.count = out.c;
    add.b_stride = in.stride;
    add.out_stride = out.stride;
    add.epilogue = &params_.epilogue;
    for (int i = begin; i < end; i += static_cast<int>(add.rows)) {
      add.b = args.in(1) + (pixels + positions_[i]) * in.stride;
      add.out = y + int64_t{positions_[i]} * out.stride;
      for (add.rows = 1;
           i + add.rows < end && positions_[i + add.rows] == positions_[i] + add.rows;)
        ++add.rows;
      kernels_.elementwise_f32.add(add);
    }
  }

  int32_t count_;
  const ConvParams& params_;
  const Kernels& kernels_;
  const int32_t* positions_;
  const float* value_;
};

}  // namespace activsparse

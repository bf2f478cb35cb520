// Skipped positions take activation(skipped_value + residual): for algorithms whose loops leave
// them out. Any phase may do it, since nothing else writes there.
#pragma once
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
    if (count_ < 0 || count_ > positions)
      throw Error("the packed convolution is damaged; compile the model again");
    positions_ = blob.array<int32_t>(h.positions, count_);
    value_ = blob.array<float>(h.value, params.output.c);
    for (int i = 0; i < count_; ++i)
      if (positions_[i] < 0 || positions_[i] >= positions)
        throw Error("the packed convolution is damaged; compile the model again");
  }

  // (channels): what a skipped position holds, before the activation if there is a residual.
  const float* value() const { return value_; }
  std::size_t bytes() const { return sizeof(int32_t) * count_; }

  // The share [begin, end) of the positions of all images, cut into `shares`.
  void run(const RunArgs& args, int begin, int end, int shares) const {
    const TensorDesc &out = params_.output, &in = params_.residual;
    const int64_t all = int64_t{out.n} * count_, image_pixels = int64_t{out.h} * out.w;
    for (int64_t i = all * begin / shares; i < all * end / shares; ++i) {
      const int64_t pixel = i / count_ * image_pixels + positions_[i % count_];
      float* y = args.outputs[0] + pixel * out.stride;
      if (!params_.has_residual) {
        std::memcpy(y, value_, out.c * sizeof(float));
        continue;
      }
      RowsArgs add{};
      add.a = value_;
      add.b = args.inputs[1] + pixel * in.stride;
      add.out = y;
      add.rows = 1;
      add.count = out.c;
      add.epilogue = &params_.epilogue;
      kernels_.elementwise_f32.add(add);
    }
  }

 private:
  int32_t count_;
  const ConvParams& params_;
  const Kernels& kernels_;
  const int32_t* positions_;
  const float* value_;
};

}  // namespace activsparse

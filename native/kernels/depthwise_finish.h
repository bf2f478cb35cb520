// What becomes of the sums of a depthwise block; see DepthwiseBlockArgs in kernels.h.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"

namespace activsparse {

// Of a vector of channels. It is held by value: a store of a vector may alias anything, so that
// what a kernel reads through `args` it reads again after each.
template <class V, bool kPartial>
class DepthwiseFinish {
 public:
  DepthwiseFinish(const DepthwiseBlockArgs& args, int64_t c, int lane_count)
      : out_((args.places != nullptr ? args.placed : args.out) + c),
        out_row_(args.out_row),
        out_column_(args.out_column),
        places_(args.places),
        residual_(args.residual != nullptr ? args.residual + c : nullptr),
        residual_row_(args.residual_row),
        residual_column_(args.residual_column),
        keep_(args.keep),
        mask_row_(args.mask_row),
        skipped_(args.skipped != nullptr ? args.skipped + c : nullptr),
        lanes_(lane_count),
        replaces_(args.keep != nullptr && args.skipped != nullptr),
        plain_(!replaces_ && args.residual == nullptr),
        clip_(args.epilogue->activation == Activation::kClip),
        lo_(V::set1(args.epilogue->lo)),
        hi_(V::set1(args.epilogue->hi)) {}

  void store(V sum, int y, int x) const {
    if (!plain_) {
      if (replaces_ && !keep_[y * mask_row_ + x]) sum = V::load(skipped_);
      if (residual_ != nullptr) {
        const float* from = residual_ + y * residual_row_ + x * residual_column_;
        sum = sum + (kPartial ? V::load_partial(from, lanes_) : V::load(from));
      }
    }
    if (clip_) sum = clip(sum, lo_, hi_);
    float* const to =
        out_ + (places_ != nullptr ? places_[y * mask_row_ + x] : y * out_row_ + x * out_column_);
    if (kPartial)
      sum.store_partial(to, lanes_);
    else
      sum.store(to);
  }

 private:
  float* out_;
  int64_t out_row_, out_column_;
  const int32_t* places_;
  const float* residual_;
  int64_t residual_row_, residual_column_;
  const uint8_t* keep_;
  int64_t mask_row_;
  const float* skipped_;
  int lanes_;
  bool replaces_, plain_, clip_;
  V lo_, hi_;
};

}  // namespace activsparse

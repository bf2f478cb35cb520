// What becomes of the sums of a depthwise block; see DepthwiseBlockArgs in kernels.h.
#pragma once
#include "kernels/activate.h"
#include "kernels/kernels.h"

namespace activsparse {

// Whether sums are results but for a clip.
static inline bool is_plain(const DepthwiseBlockArgs& args) {
  return args.keep == nullptr && args.residual == nullptr && args.places == nullptr;
}

// Of a vector of channels. It is held by value: a store of a vector may alias anything, so that
// what a kernel reads through `args` it reads again after each. kPlain: is_plain(args), which saves
// asking at every output.
template <class V, bool kPartial, bool kPlain = false>
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
        plain_(!replaces_ && args.residual == nullptr) {
    // No clip is one to all numbers.
    const bool clips = args.epilogue->activation == Activation::kClip;
    lo_ = V::set1(clips ? args.epilogue->lo : -__builtin_inff());
    hi_ = V::set1(clips ? args.epilogue->hi : __builtin_inff());
  }

  // Of an output of a kernel that skips nothing.
  void store(V sum, int y, int x) const {
    if (!kPlain && !plain_) {
      if (replaces_ && !keep_[y * mask_row_ + x]) sum = V::load(skipped_);
      sum = add_residual(sum, y, x);
    }
    float* const to = !kPlain && places_ != nullptr ? out_ + places_[y * mask_row_ + x] : at(y, x);
    write(sum, to);
  }
  // Of kernels that do.
  void store_kept(V sum, int y, int x) const { write(add_residual(sum, y, x), at(y, x)); }
  void store_skipped(int y, int x) const {
    if (skipped_ != nullptr) write(add_residual(V::load(skipped_), y, x), at(y, x));
  }

 private:
  float* at(int y, int x) const { return out_ + y * out_row_ + x * out_column_; }
  V add_residual(V sum, int y, int x) const {
    if (residual_ == nullptr) return sum;
    const float* from = residual_ + y * residual_row_ + x * residual_column_;
    if constexpr (kPartial)
      return sum + V::load_partial(from, lanes_);
    else
      return sum + V::load(from);
  }
  void write(V sum, float* to) const {
    sum = clip(sum, lo_, hi_);
    if constexpr (kPartial)
      sum.store_partial(to, lanes_);
    else
      sum.store(to);
  }

  float* out_;
  int64_t out_row_, out_column_;
  const int32_t* places_;
  const float* residual_;
  int64_t residual_row_, residual_column_;
  const uint8_t* keep_;
  int64_t mask_row_;
  const float* skipped_;
  int lanes_;
  bool replaces_, plain_;
  V lo_, hi_;
};

}  // namespace activsparse

// Fill `nearest`: skipped positions copy the finished output of a kept one. Nobody else writes
// there, so that whoever computes a source may copy it at once, while it is in the cache; where
// an algorithm stores anything to skipped positions, all are copied in a phase of their own.
#pragma once
#include <algorithm>
#include <vector>

#include "operators/operator.h"

namespace activsparse {

struct SourceFillHeader {
  uint64_t source;
  int32_t count;
};

// A convolution's output positions by what is done at them; those with a `source` are filled later.
struct MaskedPositions {
  std::vector<int32_t> kept, skipped;
};

// Of `count` positions all are kept where the spec has no mask.
MaskedPositions masked_positions(const OpSpec& spec, int64_t count);

class SourceFill {
 public:
  static constexpr int kTasks = 32;

  // Nothing to do when the spec has no `source`.
  static SourceFillHeader pack(BlobWriter& writer, const OpSpec& spec);
  SourceFill(const BlobView& blob, const SourceFillHeader& header, const TensorDesc& output);

  bool empty() const { return skipped_.empty(); }
  std::size_t bytes() const { return sizeof(int32_t) * (first_.size() + skipped_.size()); }

  // Calls copy(source, skipped) for the skipped positions whose sources are among [begin, end).
  template <class Copy>
  void each(int64_t begin, int64_t end, Copy copy) const {
    if (empty()) return;
    for (int32_t i = first_[begin]; i < first_[end]; ++i) copy(source_[skipped_[i]], skipped_[i]);
  }

  // Copies `channels` channels from the first one on, to where positions [begin, end) of an image
  // are the sources.
  template <class T>
  void copy_from(T* image, int64_t begin, int64_t end, int first, int channels) const {
    each(begin, end, [&](int32_t source, int32_t skipped) {
      std::copy_n(image + int64_t{source} * output_.stride + first, channels,
                  image + int64_t{skipped} * output_.stride + first);
    });
  }
  void copy(float* image, int32_t source, int32_t skipped) const;  // all channels

  // The share [begin, end) of all skipped positions, cut into kTasks.
  void run(float* output, int begin, int end) const;

 private:
  TensorDesc output_;
  const int32_t* source_ = nullptr;  // of every position
  // Positions that are filled, by their sources; where those of each position begin.
  std::vector<int32_t> skipped_, first_;
};

}  // namespace activsparse

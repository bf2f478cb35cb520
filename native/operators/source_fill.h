// Fill `nearest`: skipped positions copy the finished output of a kept one, in a phase after the
// convolution.
#pragma once
#include <algorithm>
#include <vector>

#include "operators/checks.h"
#include "operators/operator.h"

namespace activsparse {

struct SourceFillHeader {
  uint64_t skipped, source;
  int32_t count;
};

class SourceFill {
 public:
  static constexpr int kTasks = 32;

  // Nothing to do when the spec has no `source`.
  static SourceFillHeader pack(BlobWriter& writer, const OpSpec& spec) {
    std::vector<int32_t> skipped, sources;
    if (const ArrayView* array = spec.array("source")) {
      const auto* source = static_cast<const int32_t*>(array->data);
      for (int32_t i = 0; i < array->size(); ++i)
        if (source[i] != i) skipped.push_back(i), sources.push_back(source[i]);
    }
    SourceFillHeader h{};
    h.count = static_cast<int32_t>(skipped.size());
    h.skipped = writer.append(skipped.data(), skipped.size());
    h.source = writer.append(sources.data(), sources.size());
    return h;
  }

  SourceFill(const BlobView& blob, const SourceFillHeader& h, const TensorDesc& output)
      : count_(h.count), output_(output) {
    const int positions = output.h * output.w;
    require_packed(count_ >= 0 && count_ <= positions);
    skipped_ = blob.array<int32_t>(h.skipped, count_);
    source_ = blob.array<int32_t>(h.source, count_);
    for (int i = 0; i < count_; ++i)
      require_packed(skipped_[i] >= 0 && skipped_[i] < positions && source_[i] >= 0 &&
                     source_[i] < positions);
  }

  bool empty() const { return count_ == 0; }
  std::size_t bytes() const { return 2 * sizeof(int32_t) * count_; }

  void run(float* output, int begin, int end) const {
    const int64_t image_floats = int64_t{output_.h} * output_.w * output_.stride;
    const int64_t rows = int64_t{output_.n} * count_;
    for (int64_t i = rows * begin / kTasks; i < rows * end / kTasks; ++i) {
      float* image = output + i / count_ * image_floats;
      std::copy_n(image + int64_t{source_[i % count_]} * output_.stride, output_.c,
                  image + int64_t{skipped_[i % count_]} * output_.stride);
    }
  }

 private:
  int32_t count_;
  TensorDesc output_;
  const int32_t *skipped_, *source_;
};

}  // namespace activsparse

#include "operators/source_fill.h"

#include <algorithm>

#include "operators/checks.h"

namespace activsparse {

MaskedPositions masked_positions(const OpSpec& spec, int64_t count) {
  MaskedPositions found;
  const ArrayView* mask = spec.array("mask");
  for (int32_t i = 0; i < count; ++i) {
    if (mask == nullptr || static_cast<const uint8_t*>(mask->data)[i])
      found.kept.push_back(i);
    else if (spec.array("source") == nullptr)
      found.skipped.push_back(i);
  }
  return found;
}

SourceFillHeader SourceFill::pack(BlobWriter& writer, const OpSpec& spec) {
  SourceFillHeader h{};
  const ArrayView* array = spec.array("source");
  if (array == nullptr) return h;
  const auto* source = static_cast<const int32_t*>(array->data);
  for (int32_t i = 0; i < array->size(); ++i) h.count += source[i] >= 0 && source[i] != i;
  h.source = writer.append(source, array->size());
  return h;
}

SourceFill::SourceFill(const BlobView& blob, const SourceFillHeader& h, const TensorDesc& output)
    : output_(output) {
  if (h.count == 0) return;
  const int32_t positions = output.h * output.w;
  source_ = blob.array<int32_t>(h.source, positions);
  const auto filled = [&](int32_t i) { return source_[i] >= 0 && source_[i] != i; };
  first_.assign(positions + std::size_t{2}, 0);
  std::size_t count = 0;
  for (int32_t i = 0; i < positions; ++i) {
    require_packed(source_[i] < positions);
    if (filled(i)) ++first_[source_[i] + std::size_t{2}], ++count;
  }
  for (int32_t i = 0; i < positions; ++i) first_[i + 1] += first_[i];
  // first_[i + 1] becomes where the list of position i ends, and so where the next one's begins.
  skipped_.resize(count);
  for (int32_t i = 0; i < positions; ++i)
    if (filled(i)) skipped_[first_[source_[i] + 1]++] = i;
}

void SourceFill::copy(float* image, int32_t source, int32_t skipped) const {
  std::copy_n(image + int64_t{source} * output_.stride, output_.c,
              image + int64_t{skipped} * output_.stride);
}

void SourceFill::run(float* output, int begin, int end) const {
  const int64_t image_floats = int64_t{output_.h} * output_.w * output_.stride;
  const auto count = static_cast<int64_t>(skipped_.size()), rows = output_.n * count;
  for (int64_t i = rows * begin / kTasks; i < rows * end / kTasks; ++i) {
    const int32_t skipped = skipped_[i % count];
    copy(output + i / count * image_floats, source_[skipped], skipped);
  }
}

}  // namespace activsparse

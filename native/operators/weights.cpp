#include "operators/weights.h"

#include <algorithm>
#include <cmath>

#include "common/half.h"
#include "operators/checks.h"

namespace activsparse {
namespace {

// The power of two that brings the largest finite weight just below 2^16, and so that its
// reciprocal is a normal number.
constexpr int kMostExponent = 126;

int exponent_of(const float* weights, uint64_t count) {
  float largest = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(weights[i]);
    if (magnitude > largest && std::isfinite(magnitude)) largest = magnitude;
  }
  if (largest == 0) return 0;
  // Above this one, rounding would carry to 2^16.
  const int exponent = kHalfLargest - std::ilogb(largest);
  const bool carries = std::ldexp(largest, exponent) >= 65520.0f;
  return std::clamp(exponent - carries, -kMostExponent, kMostExponent);
}

}  // namespace

bool wants_half(const OpSpec& spec) {
  const std::string type = spec.string_or(kWeightsAttribute, "float32");
  if (type != "float32" && type != "float16")
    throw Error(spec.kind + ": weights in '" + type + "' are not known, only float32 and float16");
  return type == "float16";
}

WeightsHeader pack_weights(BlobWriter& writer, const std::vector<uint64_t>& ends, bool half,
                           const std::function<void(float*)>& fill) {
  const uint64_t floats = ends.empty() ? 0 : ends.back();
  WeightsHeader header{};
  header.half = half;
  if (!half) {
    header.data = writer.append<float>(floats);
    fill(writer.at<float>(header.data));
    return header;
  }
  std::vector<float, AlignedAllocator<float>> wide(floats);
  fill(wide.data());
  header.data = writer.append<uint16_t>(floats);
  header.scales = writer.append<float>(ends.size());
  auto* narrow = writer.at<uint16_t>(header.data);
  auto* scales = writer.at<float>(header.scales);
  uint64_t begin = 0;
  for (std::size_t part = 0; part < ends.size(); begin = ends[part++]) {
    const int exponent = exponent_of(wide.data() + begin, ends[part] - begin);
    const float factor = std::ldexp(1.0f, exponent);
    for (uint64_t i = begin; i < ends[part]; ++i) narrow[i] = half_of(wide[i] * factor);
    scales[part] = std::ldexp(1.0f, -exponent);
  }
  return header;
}

Weights::Weights(const BlobView& blob, const WeightsHeader& header, uint64_t floats,
                 uint64_t parts) {
  require_packed(header.half == 0 || header.half == 1);
  if (header.half == 0) {
    floats_ = blob.array<float>(header.data, floats);
    return;
  }
  half_ = blob.array<uint16_t>(header.data, floats);
  scales_ = blob.array<float>(header.scales, parts);
}

}  // namespace activsparse

// Weights of products in a blob, in float32 or in float16.
//
// They are cut into *parts*, as panels of output channels are. Those in float16 are stored times a
// power of two for each part, which widening takes back: as large as they can be without an
// overflow. So a weight w of a part whose largest is m is stored with an error of at most
//   2^-11 |w| + 2^-39 m,
// whatever range the network's weights have, and numbers that were float16 before lose nothing.
#pragma once
#include <functional>
#include <vector>

#include "common/blob.h"
#include "kernels/kernels.h"
#include "operators/operator.h"

namespace activsparse {

// The attribute of a spec that asks for float16, and its other value.
inline constexpr const char* kWeightsAttribute = "weights";
bool wants_half(const OpSpec& spec);

struct WeightsHeader {
  uint64_t data, scales;
  int32_t half;
};

// `ends`: the floats before the end of each part. `fill` writes all of them, into zeros.
WeightsHeader pack_weights(BlobWriter& writer, const std::vector<uint64_t>& ends, bool half,
                           const std::function<void(float*)>& fill);

class Weights {
 public:
  Weights() = default;
  Weights(const BlobView& blob, const WeightsHeader& header, uint64_t floats, uint64_t parts);

  bool half() const { return half_ != nullptr; }
  // Weights [begin, begin + count), all of one part, as float32: where they lie, or widened to
  // `room`, 64-byte aligned.
  const float* wide(const Kernels& kernels, uint64_t part, uint64_t begin, int64_t count,
                    float* room) const {
    if (!half()) return floats_ + begin;
    kernels.widen_f32.run(half_ + begin, room, count, scales_[part]);
    return room;
  }
  // As they are stored, for who fetches them: `begin` and `end` in weights, the result in floats.
  Constants stored(uint64_t begin, uint64_t end) const {
    if (!half()) return {floats_ + begin, static_cast<int64_t>(end - begin)};
    return {reinterpret_cast<const float*>(half_ + begin), static_cast<int64_t>(end - begin) / 2};
  }
  const float* floats() const { return floats_; }
  const uint16_t* halves() const { return half_; }
  const float* scales() const { return scales_; }

 private:
  const float *floats_ = nullptr, *scales_ = nullptr;
  const uint16_t* half_ = nullptr;
};

}  // namespace activsparse

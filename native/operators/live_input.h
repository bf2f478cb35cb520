// Inputs of which a convolution before this one has left positions unwritten: they hold anything,
// and stand for the zero point. (`input_mask` alone is no more than a promise of zero points.)
#pragma once
#include "operators/checks.h"
#include "operators/conv_params.h"

namespace activsparse {

struct LiveInputHeader {
  uint64_t live;
  int32_t present;
};

inline LiveInputHeader pack_live_input(BlobWriter& writer, const OpSpec& spec,
                                       const ConvParams& p) {
  LiveInputHeader h{};
  if (spec.int_or("input_unwritten", 0) == 0) return h;
  const ArrayView* mask = spec.array("input_mask");
  require(spec, mask != nullptr, "an input that is not written everywhere has an input_mask");
  h.present = 1;
  h.live = writer.append(static_cast<const uint8_t*>(mask->data), int64_t{p.input.h} * p.input.w);
  return h;
}

// (IH, IW), 0 where nothing may be read; nullptr where everything may.
inline const uint8_t* live_input(const BlobView& blob, const LiveInputHeader& h,
                                 const ConvParams& p) {
  return h.present ? blob.array<uint8_t>(h.live, int64_t{p.input.h} * p.input.w) : nullptr;
}

}  // namespace activsparse

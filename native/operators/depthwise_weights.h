// Weights of depthwise convolutions and values of channels, packed for kernels whose lanes are
// channels.
#pragma once
#include <algorithm>

#include "operators/conv_params.h"

namespace activsparse {

// (channels, taps) becomes (taps, padded_channels), zero beyond the channels.
inline uint64_t pack_depthwise_weights(BlobWriter& writer, const OpSpec& spec, const ConvParams& p,
                                       int64_t padded_channels) {
  const uint64_t offset = writer.append<float>(p.taps() * padded_channels);
  const float* weight = spec.float_array("weight");
  for (int t = 0; t < p.taps(); ++t)
    for (int c = 0; c < p.output.c; ++c)
      writer.at<float>(offset)[t * padded_channels + c] = weight[int64_t{c} * p.taps() + t];
  return offset;
}

// (channels, taps) becomes (vectors of `width` channels, taps, width), zero beyond the channels.
inline uint64_t pack_depthwise_vectors(BlobWriter& writer, const OpSpec& spec, const ConvParams& p,
                                       int64_t padded_channels, int width) {
  const uint64_t offset = writer.append<float>(p.taps() * padded_channels);
  const float* weight = spec.float_array("weight");
  for (int64_t c = 0; c < p.output.c; ++c)
    for (int t = 0; t < p.taps(); ++t)
      writer.at<float>(offset)[(c / width * p.taps() + t) * width + c % width] =
          weight[c * p.taps() + t];
  return offset;
}

// `values` (channels) may be null: zeros.
inline uint64_t pack_channels(BlobWriter& writer, const float* values, const ConvParams& p,
                              int64_t padded_channels) {
  const uint64_t offset = writer.append<float>(padded_channels);
  if (values != nullptr) std::copy_n(values, p.output.c, writer.at<float>(offset));
  return offset;
}

}  // namespace activsparse

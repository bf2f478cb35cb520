// A convolution's copy with few channels. Positions are skipped in all channels at once: what share
// of the work an algorithm skips shows on the copy, which is packed in no time.
#pragma once
#include <string>
#include <vector>

#include "operators/operator.h"

namespace activsparse {

struct SlimSpec {
  OpSpec spec;                // its weight is the one below, its other arrays are the original's
  std::vector<float> weight;  // (channels, channels of a group, kernel height, kernel width)
  double share;               // the original's weights for each of these
};

// Of a float32 convolution: at most 64 channels, no residual, and of the arrays beside the weight
// those that `keep` names.
SlimSpec slim(const OpSpec& spec, const std::vector<std::string>& keep);

}  // namespace activsparse

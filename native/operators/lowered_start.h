// What depthwise sums of bytes start from, for kernels that lower activations before they multiply
// them (`lowered` in kernels/bytes.h).
#pragma once
#include <cstdint>
#include <vector>

namespace activsparse {

// (lanes), plus `lowered` times the sum of a lane's weights: weights are (lanes / block, steps,
// block, 4), of which every `outputs` times as many steps hold the same. Returns `start` itself
// where nothing is lowered, else what `kept` holds.
inline const int32_t* lowered_start(const int32_t* start, const int8_t* weights, int64_t lanes,
                                    int block, int steps, int copies, int32_t lowered,
                                    std::vector<int32_t>& kept) {
  if (lowered == 0) return start;
  kept.assign(start, start + lanes);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int8_t* w = weights + (lane / block * steps * copies * block + lane % block) * 4;
    uint32_t sum = 0;
    for (int step = 0; step < steps; ++step, w += 4 * block)
      for (int i = 0; i < 4; ++i) sum += static_cast<uint32_t>(w[i]);
    kept[lane] = static_cast<int32_t>(static_cast<uint32_t>(kept[lane]) +
                                      static_cast<uint32_t>(lowered) * sum);
  }
  return kept.data();
}

}  // namespace activsparse

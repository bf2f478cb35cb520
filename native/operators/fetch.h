// Weights on their way into the second-level cache while a matrix product computes.
//
// Weights of a network are read once per run, from behind that cache. A product has time to spare
// for the memory: its tiles fetch what comes next, one cache line per channel and tile, evenly, so
// that neither waits for the other. What comes next are the product's own later panels, and then
// what the operators after it read first.
#pragma once
#include <algorithm>

#include "kernels/kernels.h"
#include "operators/operator.h"

namespace activsparse {

class Fetch {
 public:
  // A quarter of the second-level cache, which what is fetched shares with what is in use.
  static int64_t most_ahead(const Kernels& kernels) {
    return kernels.caches.of_l2(256) / int64_t{sizeof(float)};
  }

  // A float per so many multiply-adds keeps memory half as busy as it could be; none without a
  // third-level cache to bring it to.
  static int64_t most_far(const Kernels& kernels, double macs) {
    constexpr double kMacsPerFloat = 24;
    return kernels.caches.l3 > 0 ? static_cast<int64_t>(macs / kMacsPerFloat) : 0;
  }

  // A place in the order of what is needed; empty places are left out.
  void add(const float* data, int64_t floats) {
    if (floats > 0 && count_ < kMost) regions_[count_++] = {data, floats};
  }
  void add(const RunArgs& run) {
    for (int i = 0; i < run.ahead_count; ++i) add(run.ahead[i].data, run.ahead[i].floats);
  }

  // Spreads what is left over the next `tiles` tiles of `channels` channels.
  void spread(int64_t tiles, int channels) {
    channels_ = channels;
    int64_t lines = 0;
    for (const Constants* region = regions_ + current_; region != regions_ + count_; ++region)
      lines += (region->floats + kLine - 1) / kLine;
    tiles_ = std::max<int64_t>(tiles, 1);
    passes_ = (lines + channels - 1) / channels;
    tile_ = done_ = 0;
  }

  // How many of the next tiles have nothing to fetch, and need not ask for their share.
  int64_t skip(int64_t most) {
    if (current_ < count_ && passes_ > 0)
      most = std::min(most, std::max<int64_t>(done_ * tiles_ / passes_ - tile_, 0));
    tile_ += most;
    return most;
  }

  // Gives the next tile its share. A pass over its channels reaches one line of each, as far apart
  // as its own `lanes` weights per channel are.
  void share(GemmArgs& args, const float* weights, int lanes) {
    args.fetch[0] = args.fetch[1] = 0;
    ++tile_;
    for (int i = 0; i < 2; ++i, ++done_) {
      if (current_ == count_ || done_ * tiles_ >= tile_ * passes_) return;
      Constants& region = regions_[current_];
      args.fetch[i] = distance(weights, region.data) + line_;
      line_ += kLine;
      if (line_ < lanes) continue;
      line_ = 0;
      const int64_t reached = int64_t{channels_} * lanes;
      region.data += reached;
      region.floats -= reached;
      if (region.floats <= 0) ++current_;
    }
  }

 private:
  // In floats, between arrays that need not be parts of one.
  static int64_t distance(const float* from, const float* to) {
    return (reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from)) /
           int64_t{sizeof(float)};
  }

  static constexpr int64_t kLine = 64 / sizeof(float);
  static constexpr int kMost = 8;
  Constants regions_[kMost];
  int count_ = 0, current_ = 0, channels_ = 1;
  int64_t line_ = 0;  // of the pass, in floats
  int64_t passes_ = 0, tiles_ = 1, tile_ = 0, done_ = 0;
};

}  // namespace activsparse

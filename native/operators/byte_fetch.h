// Weights of bytes on their way into the second-level cache while a product computes: what fetch.h
// says, by cache lines that are spread over the tiles of a run.
#pragma once
#include "operators/fetch.h"
#include "operators/operator.h"

namespace activsparse {

class ByteFetch {
 public:
  // A place in the order of what is needed.
  void add(const void* data, int64_t bytes) {
    if (bytes <= 0 || count_ == kMost) return;
    const int64_t lines = (bytes + kLine - 1) / kLine;
    regions_[count_++] = {static_cast<const uint8_t*>(data), lines};
    lines_ += lines;
  }
  void add(const RunArgs& run) {
    for (int i = 0; i < run.ahead_count; ++i)
      add(run.ahead[i].data, run.ahead[i].floats * int64_t{sizeof(float)});
  }

  void spread(int64_t tiles) { tiles_ = std::max<int64_t>(tiles, 1); }

  // The share of part `part` of the next tile, of `parts`.
  void tile(int part, int parts) {
    if (lines_ == 0) return;
    const int64_t due = lines_ * (tile_ * parts + part + 1) / (tiles_ * parts);
    if (part + 1 == parts) ++tile_;
    for (; done_ < due; ++done_) {
      while (line_ == regions_[current_].lines) ++current_, line_ = 0;
      __builtin_prefetch(regions_[current_].data + kLine * line_++, 0, 2);
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr int kMost = 8;
  struct Region {
    const uint8_t* data;
    int64_t lines;
  };
  Region regions_[kMost];
  int count_ = 0, current_ = 0;
  int64_t line_ = 0, lines_ = 0, done_ = 0, tile_ = 0, tiles_ = 1;
};

}  // namespace activsparse

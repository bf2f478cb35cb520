// Into how many parts units of work are cut so that threads get equal shares.
#pragma once
#include <cstdint>

namespace activsparse {

// The longest of the threads' shares of equal tasks, over the mean.
inline double unevenness(int64_t tasks, int threads) {
  const int64_t longest = (tasks + threads - 1) / threads;
  return static_cast<double>(longest * threads) / static_cast<double>(tasks);
}

// Of `count` ways to cut work, each into tasks(i) > 0 equal ones, the first with which the longest
// share is at most `enough` times the mean; else the most even.
template <class Tasks>
int first_even(int count, int threads, double enough, const Tasks& tasks) {
  int best = 0;
  double least = 0;
  for (int i = 0; i < count; ++i) {
    const double over = unevenness(tasks(i), threads);
    if (i == 0 || over < least) best = i, least = over;
    if (least <= enough) break;
  }
  return best;
}

// The fewest parts of each of `units` equal pieces of work, up to `most`, for even shares.
inline int even_parts(int64_t units, int most, int threads) {
  return 1 + first_even(most, threads, 1.1, [&](int i) { return units * (i + 1); });
}

}  // namespace activsparse

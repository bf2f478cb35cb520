// What a check of a kernel is made of: random sizes, and memory that ends at pages without access.
#pragma once
#include <deque>
#include <random>
#include <vector>

#include "guarded.h"
#include "kernels/kernels.h"

namespace activsparse {

// Random sizes and arrays of one case. Weights are at cache lines, everything else anywhere.
class Case {
 public:
  explicit Case(uint64_t seed) : random_(seed) {}

  int number(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random_);
  }
  bool chance() { return number(0, 1) != 0; }
  float value() { return std::uniform_real_distribution<float>(-1, 1)(random_); }

  float* array(int64_t floats, bool aligned = false) {
    memory_.emplace_back(static_cast<std::size_t>(floats) * sizeof(float),
                         aligned ? 64 : sizeof(float));
    float* data = memory_.back().floats();
    for (int64_t i = 0; i < floats; ++i) data[i] = value();
    return data;
  }
  // Random elements of bytes or words, within [least, most].
  template <class T>
  T* whole(int64_t count, int least, int most, std::size_t alignment = sizeof(T)) {
    memory_.emplace_back(static_cast<std::size_t>(count) * sizeof(T), alignment);
    T* data = reinterpret_cast<T*>(memory_.back().data());
    for (int64_t i = 0; i < count; ++i) data[i] = static_cast<T>(number(least, most));
    return data;
  }
  std::vector<float*> arrays(int count, int64_t floats) {
    std::vector<float*> all(count);
    for (float*& one : all) one = array(floats);
    return all;
  }
  // Clips, or nothing: what other activations are is tested by themselves.
  Epilogue epilogue() {
    if (chance()) return {};
    return {Activation::kClip, -value() * value(), chance() ? 0.5f : __builtin_inff()};
  }

 private:
  std::mt19937_64 random_;
  std::deque<Guarded> memory_;
};

}  // namespace activsparse

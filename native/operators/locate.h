// Where listed pixels lie.
#pragma once
#include <cstdint>

namespace activsparse {

// to[i] = base + pixels[i] * stride, stride in floats; no pixel is negative. `base` may lie outside
// of the array, as that of a strip's first pixel does that counts from the image's. Unsigned
// factors of 32 bits, so that the compiler has vector instructions for their products.
template <class T>
inline void locate(T** to, std::uintptr_t base, const int32_t* pixels, int count, int64_t stride) {
  const auto bytes = static_cast<uint32_t>(stride * static_cast<int64_t>(sizeof(T)));
  for (int i = 0; i < count; ++i)
    to[i] = reinterpret_cast<T*>(base + uint64_t{static_cast<uint32_t>(pixels[i])} * bytes);
}

// The same for pixels 0, 1, ...
template <class T>
inline void locate_all(T** to, T* first, int count, int64_t stride) {
  for (int i = 0; i < count; ++i, first += stride) to[i] = first;
}

}  // namespace activsparse

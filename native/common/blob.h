// A blob is the packed, relocatable form of one operator: plain bytes without pointers, so that it
// can be kept in memory, written to a plan file, and memory-mapped back. Blobs start at 64-byte
// boundaries, and so does every array inside one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/error.h"

namespace activsparse {

inline constexpr std::size_t kAlignment = 64;

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kAlignment)));
  }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(kAlignment)); }
  template <class U>
  bool operator==(const AlignedAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const AlignedAllocator<U>&) const {
    return false;
  }
};

using Blob = std::vector<std::uint8_t, AlignedAllocator<std::uint8_t>>;

// Appends a header struct and arrays; offsets are bytes from the blob's start, each a multiple
// of 64. Usage: reserve a trivially copyable header first (offset 0), append arrays, then write the
// header back.
class BlobWriter {
 public:
  // Room for `count` zero-initialised elements; returns the offset. Pointers from at() die with the
  // next append.
  template <class T>
  std::uint64_t append(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t offset = (blob_.size() + kAlignment - 1) / kAlignment * kAlignment;
    blob_.resize(offset + count * sizeof(T));
    return offset;
  }
  template <class T>
  std::uint64_t append(const T* values, std::size_t count) {
    const std::uint64_t offset = append<T>(count);
    if (count > 0) std::memcpy(blob_.data() + offset, values, count * sizeof(T));
    return offset;
  }
  template <class T>
  T* at(std::uint64_t offset) {
    return reinterpret_cast<T*>(blob_.data() + offset);
  }
  Blob take() { return std::move(blob_); }

 private:
  Blob blob_;
};

// A view of a blob. Every access is bounds-checked once, at create() time: a damaged plan must not
// be executed.
class BlobView {
 public:
  BlobView(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  template <class T>
  const T* array(std::uint64_t offset, std::uint64_t count) const {
    if (offset % alignof(T) != 0 || offset > size_ || count > (size_ - offset) / sizeof(T))
      throw Error(
          "the packed operator is damaged: an array lies outside of it; compile the model again");
    return reinterpret_cast<const T*>(data_ + offset);
  }
  template <class T>
  const T& header() const {
    return *array<T>(0, 1);
  }
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace activsparse

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
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Large arrays come from the system page by page and go back to it at once: those of a compilation
// follow each other in every size, and a heap would keep the gaps they leave.
inline constexpr std::size_t kOwnPages = std::size_t{256} << 10;
void* allocate_pages(std::size_t bytes);  // throws std::bad_alloc
void free_pages(void* pages, std::size_t bytes);

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    return static_cast<T*>(bytes >= kOwnPages
                               ? allocate_pages(bytes)
                               : ::operator new(bytes, std::align_val_t(kAlignment)));
  }
  void deallocate(T* p, std::size_t n) {
    if (n * sizeof(T) >= kOwnPages)
      free_pages(p, n * sizeof(T));
    else
      ::operator delete(p, std::align_val_t(kAlignment));
  }
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
    const std::size_t size = offset + count * sizeof(T);
    // Room for the small arrays that follow large ones, so that these are not moved; little of it,
    // since it may lie on a huge page that is in use.
    if (size > blob_.capacity()) blob_.reserve(size + size / 32 + (std::size_t{16} << 10));
    blob_.resize(size);
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

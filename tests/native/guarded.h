// Memory that ends where a page without access begins: what is read or written beyond it faults,
// in code without sanitizers as well.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace activsparse {

class Guarded {
 public:
  // The end is as near to the page as `alignment` of the beginning lets it be.
  explicit Guarded(std::size_t bytes, std::size_t alignment = sizeof(float)) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t room = (bytes + alignment - 1) / alignment * alignment;
    const std::size_t whole = (room + page - 1) / page * page;
    mapped_ = whole + 2 * page;
    mapping_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED) throw std::bad_alloc();
    auto* start = static_cast<std::uint8_t*>(mapping_) + page;
    if (whole > 0 && mprotect(start, whole, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    data_ = start + whole - room;
  }
  ~Guarded() { munmap(mapping_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  std::size_t size() const { return bytes_; }

 private:
  std::size_t bytes_, mapped_;
  void* mapping_;
  std::uint8_t* data_;
};

}  // namespace activsparse

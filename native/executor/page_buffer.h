// A large zeroed block of memory, aligned to 64 bytes or better, on huge pages where the system
// grants them: a network walks over many megabytes per run, and each 4 KiB page would cost a TLB
// entry.
#pragma once
#include <cstddef>

namespace activsparse {

class PageBuffer {
 public:
  explicit PageBuffer(std::size_t bytes);  // throws Error when out of memory; 0 bytes is fine
  ~PageBuffer();
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;

  unsigned char* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  unsigned char* data_ = nullptr;
  std::size_t size_ = 0;
  void* mapping_ = nullptr;
  std::size_t mapping_size_ = 0;
};

}  // namespace activsparse

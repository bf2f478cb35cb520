#include "executor/page_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <string>

#include "common/blob.h"
#include "common/error.h"

namespace activsparse {
namespace {

constexpr std::size_t kSmallPage = 64;

}  // namespace

PageBuffer::PageBuffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  // Small buffers stay on small pages: a huge page of its own would waste most of itself. The last
  // huge page of a large one is a whole one too: its small pages were where networks waited most.
  const std::size_t page = bytes >= kHugePage ? kHugePage : kSmallPage;
  const std::size_t whole = (bytes + page - 1) / page * page;
  mapping_size_ = whole + page;
  mapping_ =
      mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED)
    throw Error("out of memory: cannot allocate " + std::to_string(bytes >> 20) +
                " MiB for activations; use a smaller input or batch");
  const auto address = (reinterpret_cast<std::uintptr_t>(mapping_) + page - 1) / page * page;
  data_ = reinterpret_cast<unsigned char*>(address);
#if defined(MADV_HUGEPAGE)
  // Advice only: a kernel without huge pages refuses it, and nothing but speed is lost.
  if (page == kHugePage) madvise(data_, whole, MADV_HUGEPAGE);
#endif
}

PageBuffer::~PageBuffer() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_size_);
}

}  // namespace activsparse

// CRC-32 as in zlib, gzip and PNG (reflected polynomial 0xEDB88320).
#pragma once
#include <cstddef>
#include <cstdint>

namespace activsparse {

// Continues from `crc`; 0 starts anew.
std::uint32_t crc32(const void* data, std::size_t bytes, std::uint32_t crc = 0);

}  // namespace activsparse

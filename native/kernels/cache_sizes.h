// The data caches that operators cut their work for: the one place that says how large they are.
#pragma once
#include <cstdint>

namespace activsparse {

// Bytes. A plan is compiled on any machine for any other, so these belong to the instruction set,
// never to the machine at hand.
struct CacheSizes {
  int64_t l1;        // first level, a core's own
  int64_t l2;        // second level, what a core has of it while all are busy
  int64_t l2_alone;  // what a core has of it, with the rest idle
  int64_t l3;        // third level, all cores'; 0: none to count on

  // Shares of them, in 1024ths.
  constexpr int64_t of_l1(int64_t share) const { return l1 * share / 1024; }
  constexpr int64_t of_l2(int64_t share) const { return l2 * share / 1024; }
  constexpr int64_t of_l2_alone(int64_t share) const { return l2_alone * share / 1024; }
};

// A Zen 4 server core, on which the shares were found. (Sapphire Rapids: 48 KiB and 2 MiB.)
inline constexpr CacheSizes kX86Caches = {32 << 10, 1 << 20, 1 << 20, 32 << 20};

// What a Cortex-A72 (Raspberry Pi 4: 32 KiB, and 1 MiB for four cores) and a Cortex-A76 (Raspberry
// Pi 5: 64 KiB, 512 KiB of its own, and 2 MiB behind it for four) both have. Not measured there;
// docs/neon.md says which operator counts on which, and why.
inline constexpr CacheSizes kArmCaches = {32 << 10, 256 << 10, 1 << 20, 0};

}  // namespace activsparse

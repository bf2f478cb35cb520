// Fills a kernel table from the templates; included by target_*.cpp only.
#pragma once
#include "kernels/activate.h"
#include "kernels/convert_f16.h"
#include "kernels/depthwise.h"
#include "kernels/depthwise_block.h"
#include "kernels/depthwise_f16.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/grouped.h"
#include "kernels/half_gemm.h"
#include "kernels/kernels.h"
#include "kernels/maps_u8.h"
#include "kernels/normalize.h"
#include "kernels/peak.h"
#include "kernels/pool.h"
#include "kernels/product_f16.h"
#include "kernels/product_u8.h"
#include "kernels/softmax.h"
#include "kernels/tap_product.h"
#include "kernels/transpose.h"
#include "kernels/widen.h"
#include "kernels/winograd_kernels.h"
#include "kernels/words_u8.h"

namespace activsparse {

// The type of a set without kernels of a data type, of which the table then holds the sizes alone.
struct NoKernels {};

template <class Interface>
constexpr Interface only_sizes(Family family, Isa isa) {
  Interface kernels{};
  set_sizes(kernels, family, isa);
  return kernels;
}

template <class T>
inline constexpr bool kHasKernels = true;
template <>
inline constexpr bool kHasKernels<NoKernels> = false;

// `Types` names what kernels of each data type are templates over.
template <class Types>
constexpr Kernels make_kernels(const char* isa, const CacheSizes& caches) {
  return {
      isa,
      Types::f32::kWidth,
      caches,
#define FAMILY(type, family, Interface)                                        \
  [] {                                                                         \
    if constexpr (kHasKernels<typename Types::type>)                           \
      return family##_kernels<typename Types::type>();                         \
    else                                                                       \
      return only_sizes<Interface>(Family::family##_##type, Types::f32::kIsa); \
  }(),
#include "kernels/table.inc"
  };
}

}  // namespace activsparse

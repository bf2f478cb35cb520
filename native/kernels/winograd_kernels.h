// The Winograd family's entries of the kernel table.
#pragma once
#include "kernels/winograd_chequered.h"
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_transform.h"

namespace activsparse {

template <class V, class W, template <class, class> class Tile = WinogradTile,
          class Elements = WinogradElements<W>>
constexpr WinogradKernels winograd_kernels() {
  using F = typename W::Full;
  using H = typename W::Short;
  return {tile_sizes(Family::winograd_product_f32, V::kIsa).max_vectors,
          {winograd_transform_input<V, Tile<F, H>>, winograd_transform_input<V, Tile<F, F>>,
           winograd_transform_input<V, Tile<H, F>>, winograd_transform_input<V, Tile<H, H>>},
          winograd_multiply<V, Elements>,
          {winograd_transform_output<V, Tile<F, H>>, winograd_transform_output<V, Tile<F, F>>,
           winograd_transform_output<V, Tile<H, F>>, winograd_transform_output<V, Tile<H, H>>}};
}
template <class V, class W>
constexpr WinogradKernels chequered_kernels() {
  if constexpr (kCompact)
    return {};
  else
    return winograd_kernels<V, W, ChequeredTile, ChequeredElements<W>>();
}
template <class V>
constexpr WinogradKernels winograd6_kernels() {
  return winograd_kernels<V, Winograd6>();
}
template <class V>
constexpr WinogradKernels winograd5_kernels() {
  return winograd_kernels<V, Winograd5>();
}
template <class V>
constexpr WinogradKernels winograd4_kernels() {
  return winograd_kernels<V, Winograd4>();
}
template <class V>
constexpr WinogradKernels winograd2_kernels() {
  return winograd_kernels<V, Winograd2>();
}
template <class V>
constexpr WinogradKernels winograd6_chequered_kernels() {
  return chequered_kernels<V, Winograd6>();
}
template <class V>
constexpr WinogradKernels winograd4_chequered_kernels() {
  return chequered_kernels<V, Winograd4>();
}
template <class V>
constexpr WinogradKernels winograd4_s2_kernels() {
  return winograd_kernels<V, WinogradStrided4>();
}
template <class V>
constexpr WinogradKernels winograd2_s2_kernels() {
  return winograd_kernels<V, WinogradStrided2>();
}

}  // namespace activsparse

// The Winograd family's entries of the kernel table.
#pragma once
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_transform.h"

namespace activsparse {

template <class V, class W>
constexpr WinogradKernels winograd_kernels() {
  using F = typename W::Full;
  using H = typename W::Short;
  return {WinogradRowsTable<V>::kMaxVecs,
          {winograd_transform_input<V, F, H>, winograd_transform_input<V, F, F>,
           winograd_transform_input<V, H, F>, winograd_transform_input<V, H, H>},
          winograd_multiply<V, W>,
          {winograd_transform_output<V, F, H>, winograd_transform_output<V, F, F>,
           winograd_transform_output<V, H, F>, winograd_transform_output<V, H, H>}};
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
constexpr WinogradKernels winograd4_s2_kernels() {
  return winograd_kernels<V, WinogradStrided4>();
}
template <class V>
constexpr WinogradKernels winograd2_s2_kernels() {
  return winograd_kernels<V, WinogradStrided2>();
}

}  // namespace activsparse

// The Winograd family's entries of the kernel table.
#pragma once
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_transform.h"

namespace activsparse {

template <class V, class W>
constexpr WinogradKernels winograd_kernels() {
  return {WinogradRowsTable<V>::kMaxVecs,
          W::kOut,
          W::kIn,
          winograd_transform_input<V, W>,
          winograd_multiply<V, W>,
          winograd_transform_output<V, W>};
}
template <class V>
constexpr WinogradKernels winograd4_kernels() {
  return winograd_kernels<V, Winograd4>();
}
template <class V>
constexpr WinogradKernels winograd2_kernels() {
  return winograd_kernels<V, Winograd2>();
}

}  // namespace activsparse

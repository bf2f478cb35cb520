#include "integrations/litert/quantised.h"

#include <cmath>

#include "integrations/litert/constants.h"

namespace activsparse::litert {
namespace {

constexpr int kLowered = 128;

bool is_scale(float scale) { return std::isnormal(scale) && scale > 0; }

// The parameters of a tensor that has some, with as many zero points as scales or one; or nullptr.
const abi::AffineQuantization* parameters_of(const abi::Tensor& tensor) {
  if (tensor.sparsity != nullptr || tensor.dims == nullptr ||
      tensor.quantization.type != abi::kAffine)
    return nullptr;
  const auto* found = static_cast<const abi::AffineQuantization*>(tensor.quantization.params);
  if (found == nullptr || found->scale == nullptr || found->zero_point == nullptr ||
      found->scale->size < 1)
    return nullptr;
  const int zeros = found->zero_point->size;
  return zeros == 1 || zeros == found->scale->size ? found : nullptr;
}

}  // namespace

std::optional<Bytes> bytes_of(const abi::Tensor& tensor) {
  const bool lowered = tensor.type == abi::kInt8;
  if (!lowered && tensor.type != abi::kUInt8) return {};
  const abi::AffineQuantization* found = parameters_of(tensor);
  if (found == nullptr || found->scale->size != 1 || !is_scale(found->scale->data[0])) return {};
  const int64_t zero = int64_t{found->zero_point->data[0]} + (lowered ? kLowered : 0);
  if (zero < 0 || zero > 255) return {};
  return Bytes{found->scale->data[0], static_cast<int32_t>(zero), lowered};
}

std::vector<float> channel_scales(const abi::Tensor& tensor, int axis, int64_t channels) {
  const abi::AffineQuantization* found =
      tensor.type == abi::kInt8 ? parameters_of(tensor) : nullptr;
  if (found == nullptr) return {};
  const int count = found->scale->size;
  if (count != 1 && (count != channels || found->quantized_dimension != axis)) return {};
  for (int i = 0; i < found->zero_point->size; ++i)
    if (found->zero_point->data[i] != 0) return {};
  std::vector<float> scales(channels);
  for (int64_t i = 0; i < channels; ++i) {
    scales[i] = found->scale->data[count == 1 ? 0 : i];
    if (!is_scale(scales[i])) return {};
  }
  return scales;
}

std::vector<uint8_t> stored_bytes(const abi::Tensor& tensor) {
  const auto* from = static_cast<const uint8_t*>(tensor.data);
  std::vector<uint8_t> bytes(from, from + elements(tensor));
  if (tensor.type == abi::kInt8)
    for (uint8_t& byte : bytes) byte ^= kLowered;
  return bytes;
}

}  // namespace activsparse::litert

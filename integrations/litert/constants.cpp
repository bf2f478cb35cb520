#include "integrations/litert/constants.h"

#include <algorithm>

#include "common/half.h"

namespace activsparse::litert {

bool is_stored(const abi::Tensor& tensor) {
  return tensor.allocation_type == abi::kReadOnly && tensor.data != nullptr;
}

int64_t elements(const abi::Tensor& tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor.dims->size; ++i) count *= tensor.dims->data[i];
  return count;
}

namespace {

bool same_sizes(const abi::Tensor& a, const abi::Tensor& b) {
  return a.dims != nullptr && b.dims != nullptr && a.dims->size == b.dims->size &&
         std::equal(a.dims->data, a.dims->data + a.dims->size, b.dims->data);
}

}  // namespace

Constants::Constants(abi::Context& context, const std::vector<int>& nodes) {
  for (const int id : nodes) {
    abi::Node* node = nullptr;
    abi::Registration* registration = nullptr;
    if (context.get_node_and_registration(&context, id, &node, &registration) != abi::kOk ||
        registration->builtin_code != abi::kDequantize || node->inputs->size != 1 ||
        node->outputs->size != 1 || node->inputs->data[0] < 0)
      continue;
    const int from = node->inputs->data[0], to = node->outputs->data[0];
    const abi::Tensor &half = context.tensors[from], &wide = context.tensors[to];
    if (half.type == abi::kFloat16 && wide.type == abi::kFloat32 && half.sparsity == nullptr &&
        is_stored(half) && same_sizes(half, wide))
      halves_[to] = from;
  }
}

bool Constants::has(const abi::Context& context, int tensor) const {
  return halves_.count(tensor) > 0 || is_stored(context.tensors[tensor]);
}

std::vector<float> Constants::values(const abi::Context& context, int tensor) const {
  const auto found = halves_.find(tensor);
  if (found == halves_.end()) {
    const abi::Tensor& stored = context.tensors[tensor];
    const auto* values = static_cast<const float*>(stored.data);
    return {values, values + elements(stored)};
  }
  const abi::Tensor& half = context.tensors[found->second];
  std::vector<float> values(elements(half));
  std::transform(static_cast<const uint16_t*>(half.data),
                 static_cast<const uint16_t*>(half.data) + values.size(), values.begin(), float_of);
  return values;
}

bool Constants::widens(const abi::Node& node, int code) const {
  return code == abi::kDequantize && node.outputs->size == 1 &&
         halves_.count(node.outputs->data[0]) > 0;
}

}  // namespace activsparse::litert

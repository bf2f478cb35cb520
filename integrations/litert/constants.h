// The float32 constants of a model: as they lie in the file, or as float16 that a DEQUANTIZE
// widens, which is how files for phones keep their weights.
#pragma once
#include <map>
#include <vector>

#include "integrations/litert/abi.h"

namespace activsparse::litert {

class Constants {
 public:
  Constants() = default;
  // `nodes`: of the whole model, by their numbers in the runtime.
  Constants(abi::Context& context, const std::vector<int>& nodes);

  bool has(const abi::Context& context, int tensor) const;
  // Its elements; it must be a constant.
  std::vector<float> values(const abi::Context& context, int tensor) const;
  // Whether a node only widens a constant.
  bool widens(const abi::Node& node, int code) const;

 private:
  std::map<int, int> halves_;  // the float16 tensor of each float32 one
};

// Whether the tensor's data are in the file.
bool is_stored(const abi::Tensor& tensor);
int64_t elements(const abi::Tensor& tensor);

}  // namespace activsparse::litert

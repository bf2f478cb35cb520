// The operator table. Each operator file defines one function that returns its rows; a new
// algorithm is one line here.
#include "operators/operator.h"

namespace activsparse {

std::vector<OperatorType> conv_reference_types();
std::vector<OperatorType> conv_direct_types();
std::vector<OperatorType> conv_active_taps_types();
std::vector<OperatorType> conv_pointwise_types();
std::vector<OperatorType> conv_depthwise_types();
std::vector<OperatorType> conv_depthwise_block_types();
std::vector<OperatorType> conv_stem_types();
std::vector<OperatorType> conv_winograd_stem_types();
std::vector<OperatorType> gemm_direct_types();
std::vector<OperatorType> conv_winograd_types();
std::vector<OperatorType> elementwise_types();
std::vector<OperatorType> layout_types();
std::vector<OperatorType> move_types();
std::vector<OperatorType> pool_types();
std::vector<OperatorType> softmax_types();
std::vector<OperatorType> strided_types();
std::vector<OperatorType> inverted_residual_types();
std::vector<OperatorType> inverted_residual_reference_types();

const std::vector<OperatorType>& operator_types() {
  static const std::vector<OperatorType> types = [] {
    std::vector<OperatorType> all;
    for (auto rows : {
             conv_reference_types,
             elementwise_types,
             layout_types,
             move_types,
             pool_types,
             softmax_types,
             strided_types,
             conv_direct_types,
             conv_active_taps_types,
             conv_pointwise_types,
             conv_depthwise_types,
             conv_depthwise_block_types,
             conv_stem_types,
             conv_winograd_types,
             conv_winograd_stem_types,
             gemm_direct_types,
             inverted_residual_types,
             inverted_residual_reference_types,
         }) {
      for (const OperatorType& row : rows()) all.push_back(row);
    }
    return all;
  }();
  return types;
}

const OperatorType& find_operator_type(const std::string& kind, const std::string& algorithm) {
  for (const OperatorType& type : operator_types())
    if (kind == type.kind && algorithm == type.algorithm) return type;
  throw Error("no operator '" + kind + "' with algorithm '" + algorithm + "' in this build");
}

int64_t OpSpec::int_or(const char* name, int64_t fallback) const {
  auto found = ints.find(name);
  return found == ints.end() ? fallback : found->second;
}

double OpSpec::float_or(const char* name, double fallback) const {
  auto found = floats.find(name);
  return found == floats.end() ? fallback : found->second;
}

std::string OpSpec::string_or(const char* name, const char* fallback) const {
  auto found = strings.find(name);
  return found == strings.end() ? fallback : found->second;
}

const ArrayView* OpSpec::array(const char* name) const {
  auto found = arrays.find(name);
  return found == arrays.end() ? nullptr : &found->second;
}

const float* OpSpec::float_array(const char* name) const {
  const ArrayView* found = array(name);
  return found == nullptr ? nullptr : static_cast<const float*>(found->data);
}

}  // namespace activsparse

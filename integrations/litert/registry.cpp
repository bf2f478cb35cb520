// The operator table of the delegate: what .tflite files need, to keep the library small.
#include "operators/operator.h"

namespace activsparse {

std::vector<OperatorType> conv_direct_types();
std::vector<OperatorType> conv_active_taps_types();
std::vector<OperatorType> conv_pointwise_types();
std::vector<OperatorType> conv_depthwise_types();
std::vector<OperatorType> conv_depthwise_block_types();
std::vector<OperatorType> conv_stem_types();
std::vector<OperatorType> conv_winograd_types();
std::vector<OperatorType> conv_winograd_stem_types();
std::vector<OperatorType> gemm_direct_types();
std::vector<OperatorType> inverted_residual_types();
std::vector<OperatorType> elementwise_types();
std::vector<OperatorType> layout_types();
std::vector<OperatorType> move_types();
std::vector<OperatorType> pool_types();

const std::vector<OperatorType>& operator_types() {
  static const std::vector<OperatorType> types = [] {
    std::vector<OperatorType> all;
    for (auto rows :
         {conv_direct_types, conv_active_taps_types, conv_pointwise_types, conv_depthwise_types,
          conv_depthwise_block_types, conv_stem_types, conv_winograd_types,
          conv_winograd_stem_types, gemm_direct_types, inverted_residual_types, elementwise_types,
          layout_types, move_types, pool_types})
      for (const OperatorType& row : rows()) all.push_back(row);
    return all;
  }();
  return types;
}

}  // namespace activsparse

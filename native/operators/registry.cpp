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
std::vector<OperatorType> conv_max_pool_types();
std::vector<OperatorType> conv_u8_types();
std::vector<OperatorType> depthwise_u8_types();
std::vector<OperatorType> depthwise_columns_u8_types();
std::vector<OperatorType> maps_u8_types();
std::vector<OperatorType> pool_u8_types();
std::vector<OperatorType> gemm_direct_types();
std::vector<OperatorType> conv_winograd_types();
std::vector<OperatorType> constant_types();
std::vector<OperatorType> elementwise_types();
std::vector<OperatorType> layout_types();
std::vector<OperatorType> matmul_types();
std::vector<OperatorType> move_types();
std::vector<OperatorType> normalize_types();
std::vector<OperatorType> pool_types();
std::vector<OperatorType> reduce_types();
std::vector<OperatorType> resize_linear_types();
std::vector<OperatorType> softmax_types();
std::vector<OperatorType> strided_types();
std::vector<OperatorType> top_k_types();
std::vector<OperatorType> inverted_residual_types();
std::vector<OperatorType> inverted_residual_reference_types();

const std::vector<OperatorType>& operator_types() {
  static const std::vector<OperatorType> types = [] {
    std::vector<OperatorType> all;
    for (auto rows : {
             conv_reference_types,
             constant_types,
             elementwise_types,
             layout_types,
             matmul_types,
             move_types,
             normalize_types,
             pool_types,
             reduce_types,
             resize_linear_types,
             softmax_types,
             strided_types,
             top_k_types,
             conv_direct_types,
             conv_active_taps_types,
             conv_pointwise_types,
             conv_depthwise_types,
             conv_depthwise_block_types,
             conv_stem_types,
             conv_winograd_types,
             conv_winograd_stem_types,
             conv_max_pool_types,
             conv_u8_types,
             depthwise_u8_types,
             depthwise_columns_u8_types,
             maps_u8_types,
             pool_u8_types,
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

}  // namespace activsparse

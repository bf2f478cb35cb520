// The operator table. A new file of operators is one line here.
#define OPERATORS(LINE)      \
  LINE(conv_reference)       \
  LINE(constant)             \
  LINE(elementwise)          \
  LINE(layout)               \
  LINE(matmul)               \
  LINE(moves)                \
  LINE(normalize)            \
  LINE(pool)                 \
  LINE(reduce)               \
  LINE(resize_linear)        \
  LINE(softmax)              \
  LINE(strided)              \
  LINE(top_k)                \
  LINE(conv_direct)          \
  LINE(conv_active_taps)     \
  LINE(pointwise)            \
  LINE(conv_depthwise)       \
  LINE(conv_depthwise_block) \
  LINE(conv_grouped)         \
  LINE(conv_stem)            \
  LINE(conv_winograd)        \
  LINE(conv_winograd_stem)   \
  LINE(conv_max_pool)        \
  LINE(conv_f16)             \
  LINE(depthwise_f16)        \
  LINE(convert_f16)          \
  LINE(conv_u8)              \
  LINE(depthwise_u8)         \
  LINE(depthwise_columns_u8) \
  LINE(maps_u8)              \
  LINE(pool_u8)              \
  LINE(inverted_residual)    \
  LINE(inverted_residual_reference)
#include "operators/registry.h"

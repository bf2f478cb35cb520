// The operator table of the delegate: what .tflite files need, to keep the library small.
#define OPERATORS(LINE)      \
  LINE(conv_direct)          \
  LINE(conv_active_taps)     \
  LINE(pointwise)            \
  LINE(conv_depthwise)       \
  LINE(conv_depthwise_block) \
  LINE(conv_stem)            \
  LINE(conv_winograd)        \
  LINE(conv_winograd_stem)   \
  LINE(inverted_residual)    \
  LINE(elementwise)          \
  LINE(layout)               \
  LINE(moves)                \
  LINE(pool)                 \
  LINE(resize_linear)        \
  LINE(conv_u8)              \
  LINE(depthwise_u8)         \
  LINE(depthwise_columns_u8) \
  LINE(maps_u8)              \
  LINE(pool_u8)
#include "operators/registry.h"

// A pooling, for what is built around it.
#pragma once
#include "operators/operator.h"

namespace activsparse {

struct InputRows {
  int begin, end;
};

class PoolOperator : public Operator {
 public:
  // The input rows that an output row's windows see.
  virtual InputRows rows_of(int output_row) const = 0;
};

}  // namespace activsparse

// Defines the operator table of a library. Its one includer says OPERATORS(LINE) before: LINE(name)
// for each file of operators, which is a namespace, as several of them are compiled as one.
#pragma once
#include "operators/operator.h"

namespace activsparse {

#define DECLARE(name)                \
  namespace name {                   \
  std::vector<OperatorType> types(); \
  }
OPERATORS(DECLARE)
#undef DECLARE

const std::vector<OperatorType>& operator_types() {
  static const std::vector<OperatorType> all = [] {
    std::vector<OperatorType> rows;
#define APPEND(name) \
  for (const OperatorType& row : name::types()) rows.push_back(row);
    OPERATORS(APPEND)
#undef APPEND
    return rows;
  }();
  return all;
}

}  // namespace activsparse

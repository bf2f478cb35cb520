#pragma once
#include <string>

#include "activsparse.h"
#include "operators/operator.h"

struct as_spec {
  activsparse::OpSpec spec;
  std::string failure;  // of the first builder call that failed
};

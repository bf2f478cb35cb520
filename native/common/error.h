// The one exception type of the engine. Its text names the layer or operator, the cause and the
// remedy. Bindings turn it into activsparse.ActivsparseError; the C ABI turns it into a status
// code.
#pragma once
#include <stdexcept>
#include <string>

namespace activsparse {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace activsparse

// The one exception type of the engine. Its text names the layer or operator, the cause and the
// remedy. Bindings turn it into activsparse.ActivsparseError; the C ABI turns it into a status
// code.
#pragma once
#include <stdexcept>
#include <string>

namespace activsparse {

enum class Cause {
  kInvalid,       // a wrong argument, or something no operator can do
  kFile,          // a file that cannot be read
  kDamaged,       // a plan that is cut, altered, or none at all
  kIncompatible,  // a sound plan of another format, build, version or instruction set
};

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& text, Cause cause = Cause::kInvalid)
      : std::runtime_error(text), cause_(cause) {}
  Cause cause() const { return cause_; }

 private:
  Cause cause_;
};

}  // namespace activsparse

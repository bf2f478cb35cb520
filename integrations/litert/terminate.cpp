// What happens to an exception nobody catches, in place of libstdc++'s own: that one prints the
// name of its type, for which a demangler of 40 KB comes into a library that is linked without
// libstdc++. Here every exception is caught at the runtime's border (delegate.cpp).
#include <cstdlib>

namespace __gnu_cxx {

[[noreturn]] void __verbose_terminate_handler() { std::abort(); }

}  // namespace __gnu_cxx

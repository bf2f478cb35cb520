// Every kernel template, compiled for one instruction set.
#include "kernels/simd_scalar.h"

namespace activsparse {
}

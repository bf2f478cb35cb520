// Every kernel template, compiled for one instruction set.
#include "kernels/simd_neon.h"

namespace activsparse {
}

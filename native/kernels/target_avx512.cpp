// Every kernel template, compiled for one instruction set.
#include "kernels/simd_avx512.h"

namespace activsparse {
}

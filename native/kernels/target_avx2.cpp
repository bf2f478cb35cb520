// Every kernel template, compiled for one instruction set.
#include "kernels/simd_avx2.h"

namespace activsparse {
}

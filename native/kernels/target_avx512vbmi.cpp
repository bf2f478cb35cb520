// Tables of 256 bytes for AVX-512 with VBMI: two lookups of 128 entries, of which the top bit of a
// byte says which counts.
#include "kernels/bytes_avx512.h"
#include "kernels/maps_u8.h"

namespace activsparse {
namespace {

struct BytesAvx512Vbmi : BytesAvx512Base {
  static constexpr bool kLooksUp = true;
  struct Table {
    __m512i of[4];
  };
  static Table load_table(const uint8_t* p) {
    return {{_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64), _mm512_loadu_si512(p + 128),
             _mm512_loadu_si512(p + 192)}};
  }
  static __m512i look_up(const Table& table, __m512i x) {
    const __m512i low = _mm512_permutex2var_epi8(table.of[0], x, table.of[1]);
    const __m512i high = _mm512_permutex2var_epi8(table.of[2], x, table.of[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
  }
};

}  // namespace

const LookupU8 kAvx512VbmiLookup = lookup_run<BytesAvx512Vbmi>;

}  // namespace activsparse

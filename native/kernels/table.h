// The lines of table.inc as data: the sizes of every kernel family for every instruction set. They
// decide how weights are packed, on any machine for any other.
//
// This header is compiled with the flags of every instruction set; see kernels.h.
#pragma once
#include "common/isa_enum.h"
#include "kernels/kernels.h"
#include "kernels/vector_sizes.h"

namespace activsparse {

enum class Family : int {
#define FAMILY(type, family, Interface) family##_##type,
#include "kernels/table.inc"
};

struct TilesLine {
  Isa isa;
  Family family;
  int vectors, rows, best;
};

inline constexpr TilesLine kTilesLines[] = {
#define TILES(type, set, family, vectors, rows, best, small)            \
  {Isa::set, Family::family##_##type, vectors, kCompact ? small : rows, \
   kCompact && small < best ? small : best},
#include "kernels/table.inc"
};

struct BlocksLine {
  Isa isa;
  int kernel, stride, rows, columns;
  DepthwiseForm form;
};

inline constexpr BlocksLine kBlocksLines[] = {
#define BLOCKS(type, set, kernel, stride, rows, columns, form, small) \
  {Isa::set, kernel, stride, kCompact ? small : rows, columns, DepthwiseForm::form},
#include "kernels/table.inc"
};

// Lanes of a vector of sums: the float32 ones of the instruction set, but for what computes bytes
// without vectors.
static constexpr int lanes_of(Family family, Isa isa) {
  if (isa == Isa::kScalar) return family == Family::product_u8 ? 4 : 1;
  if (family == Family::halves_f16 || family == Family::channels_f16) return kHalvesWidth;
  return isa == Isa::kAvx512 ? kAvx512Width : isa == Isa::kAvx2 ? kAvx2Width : kNeonWidth;
}

// What an instruction set has of a family; nothing where it has none.
static constexpr TileSizes tile_sizes(Family family, Isa isa) {
  TileSizes sizes{};
  sizes.width = lanes_of(family, isa);
  for (const TilesLine& line : kTilesLines) {
    if (line.isa != isa || line.family != family || line.rows == 0) continue;
    if (line.vectors > sizes.max_vectors) sizes.max_vectors = line.vectors;
    sizes.max_rows[line.vectors - 1] = line.rows;
    sizes.best_rows[line.vectors - 1] = line.best;
  }
  return sizes;
}

static constexpr DepthwiseBlocks block_sizes(Isa isa, int kernel, int stride) {
  DepthwiseBlocks blocks{};
  for (const BlocksLine& line : kBlocksLines)
    if (line.isa == isa && line.kernel == kernel && line.stride == stride && line.rows > 0) {
      blocks.rows = line.rows;
      blocks.columns = line.columns;
      blocks.form = line.form;
    }
  return blocks;
}

// Sizes without code, by the interface of a family; those without sizes are the same everywhere.
template <class Interface>
static constexpr void set_sizes(Interface&, Family, Isa) {}

static constexpr void set_sizes(GemmKernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(ProductU8Kernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(ProductF16Kernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(DepthwiseF16Kernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(WordsU8Kernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(TapProductKernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(DepthwiseKernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(GroupedKernels& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(WinogradProducts& kernels, Family family, Isa isa) {
  kernels.sizes = tile_sizes(family, isa);
}
static constexpr void set_sizes(WinogradKernels& kernels, Family, Isa isa) {
  kernels.max_vecs = tile_sizes(Family::winograd_product_f32, isa).max_vectors;
}
// Packing does not depend on it, but operators that are described where they cannot run divide by
// it: it is what no processor lacks.
static constexpr void set_sizes(BytesKernels& kernels, Family, Isa isa) {
  kernels.taps_bytes = 16 * lanes_of(Family::product_u8, isa);
}
static constexpr void set_sizes(DepthwiseBlockKernels& kernels, Family, Isa isa) {
  for (int five = 0; five < 2; ++five)
    for (int stride = 1; stride <= 2; ++stride)
      kernels.of[five][stride - 1] = block_sizes(isa, five ? 5 : 3, stride);
  kernels.any = block_sizes(isa, 0, 0);
}

}  // namespace activsparse

// The register tiles of a product that an instruction set has.
#pragma once

namespace activsparse {

inline constexpr int kMaxTileRows = 16, kMaxTileVectors = 4;

// Tiles of v vectors, v <= max_vectors, have 1 to max_rows[v - 1] rows. best_rows are fastest where
// the weights lie in the first-level cache. max_vectors is 0 where there are none.
struct TileSizes {
  int width = 0;  // lanes of a vector of its sums
  int max_vectors = 0;
  int max_rows[kMaxTileVectors] = {}, best_rows[kMaxTileVectors] = {};

  // The widest whose tiles read a weight no oftener than every six rows. Wider ones are for what
  // would be left over.
  constexpr int usual_vectors() const {
    constexpr int kEnoughRows = 6;
    int vectors = max_vectors;
    while (vectors > 1 && max_rows[vectors - 1] < kEnoughRows) --vectors;
    return vectors;
  }
};

}  // namespace activsparse

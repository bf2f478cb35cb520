#include "operators/safe_steps.h"

#include <algorithm>

#include "operators/safe_pairs.h"

namespace activsparse {
namespace {

// How many quads further on a partner is looked for, which bounds the time of packing.
constexpr int kReach = 16;

// A quad of input channels and its weights, some lanes of four.
struct PlacedQuad {
  int index;
  const int8_t* weights;
};

bool fit_together(const PlacedQuad& a, const PlacedQuad& b, int lanes) {
  for (int o = 0; o < lanes; ++o)
    if (!are_safe_together(a.weights + 4 * o, b.weights + 4 * o)) return false;
  return true;
}

// Takes pairs that are safe together out of `quads`, in the order of their first.
std::vector<PlacedQuad> take_twos(std::vector<PlacedQuad>& quads, int lanes) {
  std::vector<PlacedQuad> twos, left;
  std::vector<bool> taken(quads.size());
  for (std::size_t i = 0; i < quads.size(); ++i) {
    if (taken[i]) continue;
    const std::size_t end = std::min(quads.size(), i + 1 + kReach);
    std::size_t partner = i + 1;
    while (partner < end && (taken[partner] || !fit_together(quads[i], quads[partner], lanes)))
      ++partner;
    if (partner >= end) {
      left.push_back(quads[i]);
      continue;
    }
    taken[partner] = true;
    twos.push_back(quads[i]), twos.push_back(quads[partner]);
  }
  quads = std::move(left);
  return twos;
}

}  // namespace

SafeSteps safe_steps(int8_t* weights, int quads, int vectors, int width) {
  SafeSteps steps;
  const int lanes = vectors * width, vector_bytes = 4 * width;
  std::vector<Blob> apart(vectors);  // (quads, width, 4)
  std::vector<std::vector<int>> moved(vectors);
  for (int v = 0; v < vectors; ++v) {
    apart[v].resize(std::size_t{1} * quads * vector_bytes);
    for (int q = 0; q < quads; ++q) {
      bool any = false;
      for (int lane = 0; lane < width; ++lane)
        any |= make_safe(weights + (int64_t{q} * lanes + v * width + lane) * 4,
                         reinterpret_cast<int8_t*>(apart[v].data()) + q * vector_bytes + 4 * lane);
      if (any) moved[v].push_back(q);
    }
  }
  const auto add = [&](const std::vector<PlacedQuad>& list, int bytes) {
    for (const PlacedQuad& quad : list) {
      const auto* from = reinterpret_cast<const uint8_t*>(quad.weights);
      steps.offsets.push_back(4 * quad.index);
      steps.weights.insert(steps.weights.end(), from, from + bytes);
    }
  };
  std::vector<PlacedQuad> all;
  for (int q = 0; q < quads; ++q) all.push_back({q, weights + int64_t{q} * lanes * 4});
  const std::vector<PlacedQuad> twos = take_twos(all, lanes);
  steps.counts.twos = static_cast<int32_t>(twos.size() / 2);
  steps.counts.ones = static_cast<int32_t>(all.size());
  add(twos, 4 * lanes), add(all, 4 * lanes);
  const std::vector<int8_t> nothing(vector_bytes);
  for (int v = 0; v < vectors; ++v) {
    std::vector<PlacedQuad> rest;
    for (int q : moved[v])
      rest.push_back({q, reinterpret_cast<const int8_t*>(apart[v].data()) + q * vector_bytes});
    std::vector<PlacedQuad> pairs = take_twos(rest, width);
    for (const PlacedQuad& alone : rest)
      pairs.push_back(alone), pairs.push_back({0, nothing.data()});
    steps.counts.apart[v] = static_cast<int32_t>(pairs.size() / 2);
    add(pairs, vector_bytes);
  }
  return steps;
}

}  // namespace activsparse

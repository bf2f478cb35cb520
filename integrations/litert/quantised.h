// How the bytes of a tensor stand for numbers, as the file says it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "integrations/litert/abi.h"

namespace activsparse::litert {

// A byte q of the engine stands for (q - zero) * scale. The engine's bytes are uint8; int8 ones of
// the runtime are 128 less, and so are their zero points.
struct Bytes {
  float scale;
  int32_t zero;
  bool lowered;  // whether the runtime's are int8

  bool operator==(const Bytes& o) const { return scale == o.scale && zero == o.zero; }
};

// Of a tensor of int8 or uint8 with one scale for all of it. Nothing where the file says nothing or
// what cannot be: no scale or several, one that is not positive, a zero point outside of the type.
std::optional<Bytes> bytes_of(const abi::Tensor& tensor);

// Of int8 weights the scale of each of `channels` channels, which lie along `axis`; also where one
// serves all. Empty where the file says anything else, a zero point other than 0 for one.
std::vector<float> channel_scales(const abi::Tensor& tensor, int axis, int64_t channels);

// The stored elements of an int8 or uint8 tensor as bytes of the engine.
std::vector<uint8_t> stored_bytes(const abi::Tensor& tensor);

}  // namespace activsparse::litert

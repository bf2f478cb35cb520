#include "integrations/onnxruntime/types.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/error.h"
#include "common/half.h"
#include "integrations/onnxruntime/ort_api.h"

namespace activsparse {
namespace {

// Up to here float32 has every whole number.
constexpr double kWhole = 1 << 24;

struct Half {
  uint16_t bits;
  explicit operator double() const { return static_cast<double>(float_of(bits)); }
};

template <class Element>
Element as(float value) {
  if constexpr (std::is_same_v<Element, Half>) {
    return Half{half_of(value)};
  } else if constexpr (std::is_same_v<Element, bool>) {
    return value != 0;
  } else if constexpr (std::is_integral_v<Element>) {
    // What numbers outside, NaN among them, become is undefined, here and in ONNX.
    using Limits = std::numeric_limits<Element>;
    const bool inside = value >= static_cast<float>(Limits::min()) &&
                        value < static_cast<float>(Limits::max() / 2 + 1) * 2;
    return inside ? static_cast<Element>(value) : Limits::min();
  } else {
    return static_cast<Element>(value);
  }
}

// Calls `with` with a null pointer to the type that ONNX numbers so; false where there is none.
template <class With>
bool dispatch(int type, const With& with) {
  switch (type) {
    case ort::kFloat:
      return with(static_cast<float*>(nullptr)), true;
    case ort::kUint8:
      return with(static_cast<uint8_t*>(nullptr)), true;
    case ort::kInt8:
      return with(static_cast<int8_t*>(nullptr)), true;
    case ort::kUint16:
      return with(static_cast<uint16_t*>(nullptr)), true;
    case ort::kInt16:
      return with(static_cast<int16_t*>(nullptr)), true;
    case ort::kInt32:
      return with(static_cast<int32_t*>(nullptr)), true;
    case ort::kInt64:
      return with(static_cast<int64_t*>(nullptr)), true;
    case ort::kBool:
      return with(static_cast<bool*>(nullptr)), true;
    case ort::kHalf:
      return with(static_cast<Half*>(nullptr)), true;
    case ort::kDouble:
      return with(static_cast<double*>(nullptr)), true;
    default:
      return false;
  }
}

Error unknown(const std::string& name) {
  return Error("'" + name +
               "' is of a type the engine has not; cast it, or leave it to another provider");
}

}  // namespace

const float* as_floats(int type, const void* data, size_t count, const std::string& name,
                       std::vector<float>& room) {
  if (type == ort::kFloat) return static_cast<const float*>(data);
  room.resize(count);
  const bool known = dispatch(type, [&](auto* null) {
    using Element = std::remove_pointer_t<decltype(null)>;
    const auto* elements = static_cast<const Element*>(data);
    const double most = std::is_integral_v<Element> ? kWhole : std::numeric_limits<float>::max();
    for (size_t i = 0; i < count; ++i) {
      const auto value = static_cast<double>(elements[i]);
      if (std::isfinite(value) && std::fabs(value) > most)
        throw Error("input '" + name +
                    "' holds numbers that float32, in which the engine computes, does not; use "
                    "smaller ones");
      room[i] = static_cast<float>(value);
    }
  });
  if (!known) throw unknown(name);
  return room.data();
}

void from_floats(const std::vector<float>& values, int type, void* data, const std::string& name) {
  const bool known = dispatch(type, [&](auto* null) {
    using Element = std::remove_pointer_t<decltype(null)>;
    auto* elements = static_cast<Element*>(data);
    for (size_t i = 0; i < values.size(); ++i) elements[i] = as<Element>(values[i]);
  });
  if (!known) throw unknown(name);
}

}  // namespace activsparse
